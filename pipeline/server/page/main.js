// The frame around the views: bar, rail, keys, who is logged in, and which view is shown.
import { api, Problem, useSession, whenLoggedOut } from "./api.js";
import { h, replace, say } from "./dom.js";
import { icon } from "./icons.js";
import * as keys from "./keys.js";
import * as live from "./live.js";
import { ask, attempt, forgetErrors, problem, waiting } from "./parts.js";
import { go, href, listen, where } from "./route.js";
import { siteZone, switchZone, useZone, zoneName } from "./times.js";

const VIEWS = {
  search: { text: "Search", icon: "search", key: "s", needs: "search", load: () => import("./views/search.js") },
  timeline: { text: "Timeline", icon: "timeline", key: "t", needs: "look", load: () => import("./views/timeline.js") },
  persons: { text: "Persons", icon: "persons", key: "p", needs: "look", load: () => import("./views/persons.js") },
  cases: { text: "Cases", icon: "cases", key: "c", needs: "cases", load: () => import("./views/cases.js") },
  site: { text: "Site", icon: "site", key: "l", needs: "site", load: () => import("./views/site.js") },
  audit: { text: "Audit", icon: "audit", key: "a", needs: "audit", load: () => import("./views/audit.js") },
  tracklet: { text: "Tracklet", needs: "look", within: "search", load: () => import("./views/tracklet.js") },
  login: { text: "Log in", load: () => import("./views/login.js") },
};

const content = document.getElementById("content");
let session = null;
let shown = { dispose: () => {} };
let turn = 0;
let visit = 0; // of a place; to show it again is the same visit
let early = null; // what the first view asked the server for before it was known who this is

const OF_ALL_CAMERAS = new Set(["audit", "config"]); // cannot be told in part

/** Whether the role allows it; `ofAll`: it is done or told for all cameras, or not at all. */
const may = (permission, { ofAll = OF_ALL_CAMERAS.has(permission) } = {}) =>
  !permission || (Boolean(session?.permissions.includes(permission)) && !(ofAll && session.cameras));

async function start() {
  whenLoggedOut(() => {
    if (session) loggedOut();
  });
  keys.everywhere([
    { keys: ["?"], text: "These keys", run: help },
    ...Object.entries(VIEWS)
      .filter(([, view]) => view.key)
      .map(([name, view]) => ({
        keys: [`g ${view.key}`],
        text: view.text,
        run: () => {
          if (may(view.needs)) go(href(name));
        },
      })),
    { keys: ["u"], text: "Back", run: () => history.back() },
    { keys: ["d"], text: "Light or dark", run: switchTheme },
  ]);
  listen(() => show());
  early = { address: location.hash, begun: beginEarly(where()) };
  try {
    session = await api.session();
  } catch (error) {
    if (error.status !== 401) return replace(content, problem(error));
  }
  await entered();
}

/** Let the view that will be shown load, and ask for what it needs, while the server says who this is. */
async function beginEarly(place) {
  const module = await VIEWS[place.view]?.load().catch(() => null); // told when it is shown
  return module?.begin?.(place);
}

/** What that view has asked for, once. */
function takeEarly() {
  const begun = early?.address === location.hash ? early.begun : undefined;
  early = null;
  return begun;
}

/** Somebody is logged in now, or nobody is. */
async function entered(fresh = null) {
  if (fresh) session = fresh;
  useSession(session);
  useZone(session?.timezone);
  drawBar();
  drawRail();
  if (session) {
    live.begin(drawLive);
    if (where().view === "login") return go(href(firstView()), { instead: true });
  }
  return show();
}

const firstView = () => Object.keys(VIEWS).find((name) => VIEWS[name].key && may(VIEWS[name].needs)) ?? "site";

/** Nothing of what somebody saw stays for the next: the page begins anew, at the same place. */
function loggedOut() {
  session = null;
  live.end();
  sessionStorage.clear();
  location.reload();
}

/** The view that was shown last. */
let before = null;

/** Show where one is; `again`: what is shown there already, as it is now. */
async function show({ again = false } = {}) {
  const mine = ++turn;
  if (!again) visit += 1;
  const since = visit;
  const place = where();
  const view = session ? (VIEWS[place.view] ? place.view : "search") : "login";
  shown.dispose?.();
  shown = {};
  if (view !== before) forgetErrors(); // what went wrong there is no matter here
  before = view;
  keys.here([]);
  markRail(VIEWS[view].within ?? view);
  document.title = `${VIEWS[view].text}${session?.site ? ` · ${session.site}` : ""}`;
  if (!may(VIEWS[view].needs)) {
    if (!location.hash) return go(href(firstView()), { instead: true });
    return replace(
      content,
      problem({
        title: "Not for this role",
        detail: `${VIEWS[view].text} needs the right "${VIEWS[view].needs}", which ${session.user} (${session.role}) does not have.`,
      }),
    );
  }
  if (!again) replace(content, waiting());
  try {
    const module = await VIEWS[view].load();
    if (mine !== turn) return undefined;
    const begun = await takeEarly();
    const current = () => mine === turn;
    const anew = () => (since === visit ? show({ again: true }) : undefined);
    const made = await module.show({ root: content, session, may, ...place, entered, current, begun, again: anew });
    if (mine !== turn) return made?.dispose?.();
    shown = made ?? {};
    if (again) return undefined;
    scrollTo(0, 0);
    if (document.activeElement === document.body) content.focus({ preventScroll: true });
    say(`${VIEWS[view].text} view`);
  } catch (error) {
    if (mine === turn && error.name !== "AbortError") {
      if (!(error instanceof Problem)) console.error(error);
      replace(content, problem(error));
    }
  }
  return undefined;
}

function drawBar() {
  const bar = document.getElementById("bar");
  const theme = h(
    "button",
    {
      type: "button",
      class: "plain icon-only",
      "aria-label": "Light or dark",
      title: "Light or dark (d)",
      on: { click: switchTheme },
    },
    icon("theme"),
  );
  const keysButton = h(
    "button",
    { type: "button", class: "plain icon-only", "aria-label": "Keys", title: "Keys (?)", on: { click: help } },
    icon("help"),
  );
  replace(
    bar,
    h("span", { class: "brand" }, h("img", { src: "icon.svg", alt: "" }), h("span", {}, session?.site ?? "Site")),
    h("span", { class: "grow" }),
    session ? h("span", { class: "live", id: "live", dataset: { state: live.liveState() } }) : null,
    session ? zoneSwitch() : null,
    session && !session.local
      ? h("span", { class: "small wide-only" }, session.user, h("span", { class: "muted" }, ` · ${session.role}`))
      : null,
    theme,
    keysButton,
    session && !session.local
      ? h(
          "button",
          {
            type: "button",
            class: "plain icon-only",
            "aria-label": "Log out",
            title: "Log out",
            on: { click: logOut },
          },
          icon("out"),
        )
      : null,
  );
  drawLive(live.liveState());
}

/** Whose clock times are shown by; where that is not UTC it can be. */
function zoneSwitch() {
  const local = zoneName() === siteZone();
  if (siteZone() === "UTC") return h("span", { class: "muted small" }, "UTC");
  const change = () => {
    switchZone();
    drawBar();
    document.querySelector(".zone-switch").focus();
    say(`Times in ${zoneName()}`);
    show({ again: true });
  };
  return h(
    "button",
    {
      type: "button",
      class: "plain small zone-switch",
      title: local ? "Show times in UTC" : `Show times by the site's clock, ${siteZone()}`,
      "aria-pressed": String(!local),
      on: { click: change },
    },
    local ? [h("span", { class: "wide-only" }, zoneName()), h("span", { class: "phone-only" }, "local")] : "UTC",
  );
}

function drawLive(state) {
  const place = document.getElementById("live");
  if (!place) return;
  place.dataset.state = state;
  place.textContent = { open: "connected", lost: "connection lost", closed: "not connected" }[state];
  place.title = state === "open" ? "To the server: what is new comes by itself. Site says whether cameras run." : "";
}

function drawRail() {
  replace(
    document.getElementById("rail"),
    session
      ? Object.entries(VIEWS)
          .filter(([, view]) => view.key && may(view.needs))
          .map(([name, view]) =>
            h("a", { href: href(name), dataset: { view: name }, title: `g ${view.key}` }, icon(view.icon), view.text),
          )
      : null,
  );
  document.getElementById("rail").hidden = !session;
}

function markRail(view) {
  for (const link of document.querySelectorAll("#rail a")) {
    if (link.dataset.view === view) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
}

function switchTheme() {
  const root = document.documentElement;
  const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
  try {
    localStorage.setItem("theme", root.dataset.theme);
  } catch {
    /* storage is blocked: until the page is left */
  }
  say(`${root.dataset.theme} theme`);
}

async function logOut() {
  if (
    await attempt(async () => {
      await api.logout();
      return true;
    })
  )
    loggedOut();
}

function help() {
  const open = document.querySelector("dialog[data-help]");
  if (open) return open.close();
  const { general, ofView } = keys.known();
  const table = (title, list) =>
    list.length
      ? [
          h("h3", {}, title),
          list.map((each) =>
            h(
              "div",
              {},
              h("span", {}, each.text),
              h(
                "span",
                { class: "keys" },
                each.keys.slice(0, 2).flatMap((key, at) => [
                  at ? h("span", { class: "muted small" }, "or") : null,
                  key
                    .split(" ")
                    .filter(Boolean)
                    .map((part) => h("kbd", {}, NAMES[part] ?? part)),
                  key === " " ? h("kbd", {}, "Space") : null,
                ]),
              ),
            ),
          ),
        ]
      : [];
  ask("Keys", () => h("div", { class: "shortcuts" }, table("In this view", ofView), table("Everywhere", general)));
  document.querySelector("dialog:last-of-type").dataset.help = "1";
  return undefined;
}

const NAMES = { ArrowDown: "↓", ArrowUp: "↑", ArrowLeft: "←", ArrowRight: "→", Enter: "Enter" };

start();
