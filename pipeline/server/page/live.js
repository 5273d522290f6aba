// What happens at the site, as the server tells it: one stream for the whole page, whatever it shows.
import { media } from "./api.js";

const listeners = new Map();
let source = null;
let state = "closed";
let onState = () => {};

const KINDS = ["tracklet", "camera", "gallery"];

/** Begin; `told` hears open and lost. The browser connects again by itself, and asks for what it missed. */
export function begin(told) {
  onState = told;
  end();
  source = new EventSource(media.live());
  source.addEventListener("open", () => tell("open"));
  source.addEventListener("error", () => tell("lost"));
  for (const kind of KINDS) {
    source.addEventListener(kind, (event) => {
      const data = JSON.parse(event.data);
      for (const listener of listeners.get(kind) ?? []) listener(data);
    });
  }
}

export function end() {
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
