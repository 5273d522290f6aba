// Search: who is looked for on the left, who may be an answer above, who was found below.
import { api } from "../api.js";
import { h, replace, say } from "../dom.js";
import * as keys from "../keys.js";
import { hear } from "../live.js";
import { attempt, button, count, forgetErrors, problem, toast, waiting } from "../parts.js";
import { go } from "../route.js";
import { chosenIn, keyOf, marking, question, read, refining, write } from "./asked.js";
import { chips } from "./filters.js";
import { panelOf } from "./panel.js";
import { found, seenLast } from "./results.js";

const LATEST = 15; // a screen of them
const SOON = 500;
let last = { key: null, result: null }; // so that coming back does not search, and is not recorded, again

/** What the view needs of the server before it can be shown. */
export function begin({ params }) {
  const state = read(params);
  const asked = { cameras: api.cameras(), latest: state.asked ? null : latest(state.filters) };
  for (const each of Object.values(asked)) each?.catch(() => {}); // told where it is shown
  return asked;
}

export async function show({ root, may, params, current, begun = begin({ params }) }) {
  let state = read(params);
  let searching = null;
  let { latest: early } = begun;
  const cameras = await begun.cameras;
  if (!current()) return undefined;

  const search = {
    get state() {
      return state;
    },
    cameras,
    may,
    current,
    change,
  };
  const panel = panelOf(search);
  const bar = h("div", { class: "stack" });
  const list = h("div", { class: "found" });
  const acts = h("div", { class: "actions" });
  replace(
    root,
    h("h1", { class: "unseen" }, "Search"),
    h("div", { class: "search" }, panel.element, h("div", {}, bar, list, acts)),
  );

  /** Take a change: it stands in the address, and a search that was made is made again. */
  function change(some, { search: again = state.asked, instead = false } = {}) {
    forgetErrors(); // of an earlier step: this one went well
    state = { ...state, ...some };
    if (!state.examples.length) state.asked = false;
    go(write(state), { quietly: true, instead });
    if (again && state.examples.length) run(); // what was found before stays until the new answers are here
    return draw();
  }
  const changeFilters = (some) => change({ filters: { ...state.filters, ...some } });

  function draw() {
    drawBar();
    drawList();
    drawActs();
    return panel.draw();
  }

  function drawBar() {
    const name = bar.contains(document.activeElement) ? document.activeElement.dataset.name : null;
    replace(bar, h("div", { class: "spread" }, chips(state, { cameras }, change)));
    if (name) bar.querySelector(`[data-name="${CSS.escape(name)}"]`)?.focus();
  }

  function drawList() {
    if (!state.asked) return drawLatest();
    if (searching) return undefined;
    if (last.key !== keyOf(state)) return replace(list, waiting("Not searched yet with these settings."));
    const place = focusOf(list);
    replace(list, found(last.result, state, { change, changeFilters, toggle }));
    return place && list.querySelector(place)?.focus();
  }

  let drawn = 0; // how often it was asked who was seen last: only the last answer counts
  async function drawLatest() {
    const mine = ++drawn;
    const { filters } = state;
    const begun = early;
    early = null;
    const fetched = await attempt(() => begun ?? latest(filters));
    if (!fetched || mine !== drawn || state.asked || !current()) return;
    replace(list, seenLast(fetched, (cursor) => latest(filters, cursor), state, panel.add));
  }

  function drawActs() {
    const names = chosenIn(state);
    const { stars, rejects } = state;
    if (!state.asked || (!names.length && !rejects.size)) return replace(acts);
    const marked = stars.size + rejects.size > 0;
    const told = [stars.size ? `${stars.size} starred` : null, rejects.size ? `${rejects.size} rejected` : null];
    return replace(
      acts,
      h(
        "div",
        {},
        h("span", {}, marked ? told.filter(Boolean).join(", ") : count(names.length, "example")),
        marked
          ? button("search", "Refine", refine, { class: "main", title: "Search again with these (r)" })
          : null,
        canConfirm() ? button("check", "Confirm", confirm, { title: "All chosen are one person (c)" }) : null,
        canHold() ? button("cases", "Add to case", intoCase, { title: "Put into a case (e)" }) : null,
        marked ? button(null, "Clear", clear, { class: "plain" }) : null,
      ),
    );
  }

  function toggle(into, name) {
    change(marking(state, into, name), { search: false, instead: true });
    say(state[into].has(name) ? { stars: "Starred", rejects: "Rejected" }[into] : "Mark removed");
  }

  function refine() {
    if (!state.stars.size && !state.rejects.size) return;
    change(refining(state), { search: true });
    say("Searching again with what was starred and rejected");
  }

  function clear() {
    change({ stars: new Set(), rejects: new Set() }, { search: false });
  }

  const canConfirm = () => may("decide") && chosenIn(state).length > 1;
  const canHold = () => may("evidence") && chosenIn(state).length > 0;

  async function confirm() {
    const verdicts = await attempt(() => import("./verdicts.js"));
    if (await verdicts?.confirmTogether(chosenIn(state), panel.why(), searchAnew)) searchAnew();
  }

  /** Who is who has changed. */
  function searchAnew() {
    last = { key: null, result: null };
    if (current() && state.asked) run();
  }

  async function intoCase() {
    const verdicts = await attempt(() => import("./verdicts.js"));
    verdicts?.addToCase(chosenIn(state));
  }

  async function run() {
    searching?.abort();
    const mine = new AbortController();
    const key = keyOf(state); // what is asked: the examples may be others before the answer is here
    searching = mine;
    forgetOffer();
    list.classList.add("loading");
    list.setAttribute("aria-busy", "true");
    if (!list.childElementCount || !last.result) replace(list, waiting("Searching …"));
    try {
      const result = await api.search(question(state, panel.why()), mine.signal);
      last = { key, result };
      searching = null;
      if (current()) told(result);
    } catch (error) {
      if (error.name !== "AbortError" && current()) {
        searching = null;
        last = { key: null, result: null };
        replace(list, problem(error));
      }
    } finally {
      if (searching === mine) searching = null;
      if (!searching) {
        list.classList.remove("loading");
        list.removeAttribute("aria-busy");
      }
    }
  }

  function told({ answers, explanation }) {
    drawList();
    if (last.key !== keyOf(state)) return;
    say(`${answers.length ? count(answers.length, "answer") : "No answer"}. ${explanation}`);
    if (document.activeElement.matches("body, main, .ask"))
      list.querySelector(".open")?.focus({ preventScroll: true }); // nobody is taken away from something else
  }

  const markFocused = (into) => () => {
    const name = document.activeElement?.closest(".answer")?.dataset.tracklet;
    if (name) toggle(into, name);
  };
  keys.here([
    { keys: ["/"], text: "Type a tracklet or person", run: panel.type },
    { keys: ["i"], text: "Choose a picture", run: panel.choose },
    { keys: ["f"], text: "Draw on a frame", run: () => void panel.drawOnFrame() },
    {
      keys: ["m"],
      text: "Filters",
      run: () => [...bar.querySelectorAll(".chip")].find((each) => each.offsetParent).focus(),
    },
    ...keys.through(() => [...list.querySelectorAll(".open, button.pick")], { rows: list }),
    { keys: ["s"], text: "Star", run: markFocused("stars") },
    { keys: ["x"], text: "Reject", run: markFocused("rejects") },
    { keys: ["r"], text: "Refine", run: refine },
    { keys: ["c"], text: "Confirm as one person", run: () => void (canConfirm() && confirm()) },
    { keys: ["e"], text: "Add to case", run: () => void (canHold() && intoCase()) },
  ]);

  let timer = null;
  let offer = null; // to search again, for new people were seen
  const untake = panel.take(root);
  const silence = hear("tracklet", ({ rejected }) => {
    if (rejected) return;
    if (!state.asked) drawLatestSoon();
    else if (!offer) offerAgain();
  });

  function drawLatestSoon() {
    clearTimeout(timer);
    timer = setTimeout(() => {
      if (!state.asked && current() && !list.contains(document.activeElement)) drawLatest();
    }, SOON);
  }

  function offerAgain() {
    offer = toast("New people were seen since this search.", { act: { text: "Search again", run } });
  }

  function forgetOffer() {
    offer?.remove();
    offer = null;
  }

  draw();
  if (state.asked && state.examples.length && last.key !== keyOf(state)) run();
  return {
    dispose: () => {
      silence();
      untake();
      forgetOffer();
      clearTimeout(timer);
      searching?.abort();
    },
  };
}

/** Where in the answers the focus is, as a selector that finds it once they are drawn anew; null when it is elsewhere. */
function focusOf(list) {
  const on = list.contains(document.activeElement) ? document.activeElement : null;
  if (on?.matches(".grouping")) return ".grouping";
  const name = on?.closest("[data-tracklet]")?.dataset.tracklet;
  const part = [...(on?.classList ?? [])].find((each) => ["open", "starring", "rejecting"].includes(each)) ?? "open";
  return name ? `[data-tracklet="${CSS.escape(name)}"] .${part}` : null;
}

/** Whom the cameras saw last, as far as the filters let them pass. */
function latest({ modalities, cameras, start, end, zones, min_quality: least, persons }, cursor = null) {
  return api.tracklets({
    modality: modalities,
    camera: cameras,
    from: start,
    to: end,
    zone: zones,
    min_quality: least,
    person: persons[0],
    order: "newest",
    limit: LATEST,
    cursor,
  });
}
