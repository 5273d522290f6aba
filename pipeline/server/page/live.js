// What happens at the site, as the server tells it: one stream for the whole page, whatever it shows. A page that nobody
// sees has none, for a browser opens six connections to a server at most, whatever the number of its tabs.
import { isLoggedIn, media } from "./api.js";

const listeners = new Map();
let source = null;
let state = "closed";
let onState = () => {};

const KINDS = ["begin", "tracklet", "camera", "gallery"];
const SOON = 2_000; // ms
const LATEST = 60_000;
let wanted = false;
let last = null; // tracklet that was told, from which the next stream goes on
let patience = SOON;
let timer = null;

document.addEventListener("visibilitychange", () => {
  if (!wanted) return;
  if (document.hidden) stop();
  else if (!source) connect();
});

/** Begin; `told` hears open and lost. The browser connects again by itself, and asks for what it missed. */
export function begin(told) {
  onState = told;
  end();
  wanted = true;
  if (!document.hidden) connect();
}

function connect() {
  clearTimeout(timer);
  const mine = new EventSource(media.live(last));
  source = mine;
  mine.addEventListener("open", () => {
    patience = SOON;
    tell("open");
  });
  mine.addEventListener("error", () => {
    if (source !== mine) return;
    tell("lost");
    if (mine.readyState === EventSource.CLOSED) refused(mine); // the browser does not try again
  });
  for (const kind of KINDS) {
    mine.addEventListener(kind, (event) => {
      last = event.lastEventId || last;
      const data = JSON.parse(event.data);
      for (const listener of listeners.get(kind) ?? []) listener(data);
    });
  }
}

/** It may be that the session is over: then the page is left. */
async function refused(mine) {
  await isLoggedIn();
  if (source !== mine) return;
  clearTimeout(timer);
  timer = setTimeout(connect, patience);
  patience = Math.min(2 * patience, LATEST);
}

function stop() {
  clearTimeout(timer);
  source?.close();
  source = null;
  tell("closed");
}

export function end() {
  wanted = false;
  last = null;
  stop();
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
