// What happens at the site, as the server tells it: one stream for the whole page, whatever it shows.
import { media } from "./api.js";

const listeners = new Map();
let source = null;
let state = "closed";
let onState = () => {};

const KINDS = ["tracklet", "camera", "gallery"];
const SOON = 2_000; // ms
const LATEST = 60_000;
let patience = SOON;
let timer = null;

/** Begin; `told` hears open and lost. The browser connects again by itself, and asks for what it missed. */
export function begin(told) {
  onState = told;
  end();
  connect();
}

function connect() {
  source = new EventSource(media.live());
  source.addEventListener("open", () => {
    patience = SOON;
    tell("open");
  });
  source.addEventListener("error", () => {
    tell("lost");
    if (source?.readyState === EventSource.CLOSED) connectLater(); // refused: the browser does not try again
  });
  for (const kind of KINDS) {
    source.addEventListener(kind, (event) => {
      const data = JSON.parse(event.data);
      for (const listener of listeners.get(kind) ?? []) listener(data);
    });
  }
}

function connectLater() {
  clearTimeout(timer);
  timer = setTimeout(connect, patience);
  patience = Math.min(2 * patience, LATEST);
}

export function end() {
  clearTimeout(timer);
  source?.close();
  source = null;
  tell("closed");
}

/** Hear of one kind of event until the function that is given back is called. */
export function hear(kind, listener) {
  if (!listeners.has(kind)) listeners.set(kind, new Set());
  listeners.get(kind).add(listener);
  return () => listeners.get(kind).delete(listener);
}

export const liveState = () => state;

function tell(now) {
  state = now;
  onState(now);
}
