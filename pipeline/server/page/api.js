// The server, as functions. An answer that is an error becomes a Problem, which the views show with title and detail.

const BASE = new URL("api/v1/", document.baseURI);
let csrf = "";
let user = null;
let purposeRequired = false;
let limited = false; // to some cameras
let onLoggedOut = () => {};

/** An error as RFC 9457 tells it. */
export class Problem extends Error {
  constructor({ title, detail, status, type, errors }) {
    super(`${title}: ${detail}`);
    this.name = "Problem";
    Object.assign(this, { title, detail, status, type, errors });
  }
}

export function useSession(session) {
  csrf = session?.csrf ?? "";
  user = session?.user ?? null;
  purposeRequired = session?.purpose_required ?? false;
  limited = Boolean(session?.cameras);
}

/** Whether nothing is decided at this site without saying what for. */
export const needsPurpose = () => purposeRequired;
/** Whether persons may be merged and split: who sees some cameras only does not know all that they are. */
export const seesAllCameras = () => !limited;

export function whenLoggedOut(listener) {
  onLoggedOut = listener;
}

/** The address of a path of the API with parameters; lists repeat, what is null is left out. */
export function address(path, params = {}) {
  const url = new URL(path, BASE);
  for (const [name, value] of Object.entries(params)) {
    for (const each of Array.isArray(value) ? value : [value])
      if (each !== null && each !== undefined && each !== "") url.searchParams.append(name, each);
  }
  return url.pathname + url.search;
}

async function call(method, path, given) {
  const answer = await send(method, path, given);
  return answer.status === 204 ? null : answer.json();
}

/** Send it; once more with a fresh token where the server was started anew since the last one. */
async function send(method, path, given) {
  const answer = await sent(method, path, given);
  if (answer.ok) return answer;
  const problem = await problemOf(answer, path);
  if (problem.type !== "csrf" || !(await renewed())) throw problem;
  const second = await sent(method, path, given);
  if (second.ok) return second;
  throw await problemOf(second, path);
}

/** Ask for the token of now; only where the same person is still logged in: nothing is done in another's name. */
async function renewed() {
  const session = await get("session").catch(() => null);
  if (session && session.user === user) {
    useSession(session);
    return true;
  }
  if (session) onLoggedOut();
  return false;
}

// What the page asks for by itself keeps no session from ending: only somebody who touches it uses it.
const UNTOUCHED = 60_000; // ms
let touched = Date.now();
let asked = 0; // when something was asked for that counts as use

for (const kind of ["pointerdown", "keydown", "wheel", "touchmove"]) {
  addEventListener(
    kind,
    () => {
      touched = Date.now();
      if (csrf && touched - asked > UNTOUCHED) isLoggedIn(); // pictures alone do not count: say that one is here
    },
    { capture: true, passive: true },
  );
}

/** Whether the session goes on; when it does not, the page is left. */
export async function isLoggedIn() {
  const error = await get("session").then(
    () => null,
    (problem) => problem,
  );
  if (error?.status === 401) onLoggedOut();
  return !error;
}

async function sent(method, path, { params, json, form, signal } = {}) {
  const headers = { Accept: "application/json" };
  if (Date.now() - touched > UNTOUCHED) headers["X-Background"] = "1";
  else asked = Date.now();
  if (method !== "GET") headers["X-CSRF-Token"] = csrf;
  if (json !== undefined) headers["Content-Type"] = "application/json";
  try {
    return await fetch(address(path, params), {
      method,
      headers,
      signal,
      credentials: "same-origin",
      body: json !== undefined ? JSON.stringify(json) : form,
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem({
      title: "The server does not answer",
      detail: "It may be stopped, or the network between is down. Nothing was lost; try again.",
      status: 0,
    });
  }
}

async function problemOf(answer, path) {
  let told = {};
  try {
    told = await answer.json();
  } catch {
    /* no JSON: the status has to do */
  }
  if (answer.status === 401 && path !== "session") onLoggedOut();
  return new Problem({
    title: told.title ?? `Error ${answer.status}`,
    detail: told.detail ?? answer.statusText,
    status: answer.status,
    type: told.type,
    errors: told.errors ?? undefined,
  });
}

const get = (path, params, signal) => call("GET", path, { params, signal });
const post = (path, json, signal) => call("POST", path, { json, signal });
const id = encodeURIComponent;

export const api = {
  session: () => get("session"),
  login: (user, password) => post("session", { user, password }),
  logout: () => call("DELETE", "session"),
  site: () => get("site"),
  cameras: () => get("cameras"),
  /** What a camera showed last; of a run in the server's process. */
  picture: async (camera) => {
    const answer = await send("GET", `cameras/${id(camera)}/picture`);
    const captured = answer.headers.get("X-Captured-At");
    return { picture: await answer.blob(), captured, age: Number(answer.headers.get("X-Age-Seconds")) };
  },
  recording: (camera) => get(`cameras/${id(camera)}/recording`),
  tracklets: (params, signal) => get("tracklets", params, signal),
  tracklet: (name) => get(`tracklets/${id(name)}`),
  upload: (file, { modality = null, whole = false } = {}) => {
    const form = new FormData();
    form.append("file", file, file.name || "query");
    if (modality) form.append("modality", modality);
    form.append("whole", String(whole));
    return call("POST", "queries", { form });
  },
  preview: (example) => post("queries/preview", example),
  search: (question, signal) => post("search", question, signal),
  persons: (params) => get("persons", params),
  person: (name) => get(`persons/${id(name)}`),
  merge: (body) => post("persons/merge", body),
  split: (body) => post("persons/split", body),
  confirm: (body) => post("persons/confirm", body),
  reject: (body) => post("persons/reject", body),
  decisions: (params) => get("decisions", params),
  undo: (number, why = {}) => post(`decisions/${id(number)}/undo`, why),
  cases: (params) => get("cases", params),
  case: (name) => get(`cases/${id(name)}`),
  openCase: (body) => post("cases", body),
  closeCase: (name) => post(`cases/${id(name)}/close`),
  hold: (name, body) => post(`cases/${id(name)}/items`, body),
  release: (name, tracklet) => call("DELETE", `cases/${id(name)}/items/${id(tracklet)}`),
  export: (name, body) => post(`cases/${id(name)}/exports`, body),
  exported: (number) => get(`exports/${id(number)}`),
  verifyExport: (number) => get(`exports/${id(number)}/verify`),
  audit: (params) => get("audit", params),
  verifyAudit: (head = null) => get("audit/verify", { head }),
};

/** Addresses of pictures and clips. */
export const media = {
  best: (tracklet) => address(`tracklets/${id(tracklet)}/crops/best`),
  counterpart: (tracklet, camera) => address(`tracklets/${id(tracklet)}/counterparts/${id(camera)}`),
  clip: (tracklet, { box }) => address(`tracklets/${id(tracklet)}/clip`, { box }),
  frame: (camera, params) => address(`cameras/${id(camera)}/frame`, params),
  live: (after) => address("events", { after }),
};

/** All pages of a list, up to so many; `more` says whether some were left out. */
export async function all(fetchPage, params = {}, most = 2000) {
  const items = [];
  let cursor = null;
  do {
    const page = await fetchPage({ ...params, cursor });
    items.push(...page.items);
    cursor = page.next;
  } while (cursor && items.length < most);
  return { items, more: cursor !== null };
}
