// Search: who is looked for on the left, who may be an answer above, who was found below.
import { api } from "../api.js";
import { h, replace, say } from "../dom.js";
import { icon } from "../icons.js";
import * as keys from "../keys.js";
import { hear } from "../live.js";
import { attempt, count, problem, toast, tracklet, waiting } from "../parts.js";
import { go } from "../route.js";
import { keyOf, MOST, NO_FILTERS, question, read, textOf, write } from "./asked.js";
import { drawBox } from "./frame.js";
import { chips } from "./filters.js";
import { previewOf, shownExample, upload } from "./query.js";
import { answers, nothing } from "./results.js";
import { addToCase, confirmTogether } from "./verdicts.js";

const PICTURES = "image/jpeg,image/png,image/tiff,image/bmp,image/webp";
const LATEST = 24;
let last = { key: null, result: null }; // so that coming back does not search, and is not recorded, again

export async function show({ root, session, may, params, current }) {
  let state = read(params);
  let searching = null;
  let early = state.asked ? null : latest(state.filters); // beside the cameras, not after them
  early?.catch(() => {}); // told where it is shown
  const cameras = await api.cameras();
  if (!current()) return undefined;

  const panel = h("aside", { class: "query", "aria-label": "Query" });
  const bar = h("div", { class: "stack" });
  const list = h("div", { class: "found" });
  const acts = h("div", { class: "actions" });
  replace(
    root,
    h("h1", { class: "unseen" }, "Search"),
    h("div", { class: "search" }, panel, h("div", {}, bar, list, acts)),
  );

  const purpose = h("input", {
    type: "text",
    maxlength: 2000,
    value: sessionStorage.getItem("purpose") ?? "",
    placeholder: session.purpose_required ? "required here" : "stands in the audit",
    on: { change: () => sessionStorage.setItem("purpose", purpose.value) },
  });
  const why = () => (purpose.value.trim() ? { purpose: purpose.value.trim() } : {});

  /** Take a change: it stands in the address, and a search that was made is made again. */
  function change(some, { search = state.asked, instead = false } = {}) {
    state = { ...state, ...some };
    if (!state.examples.length) state.asked = false;
    go(write(state), { quietly: true, instead });
    if (search && state.examples.length) run(); // what was found before stays until the new answers are here
    return draw();
  }
  const changeFilters = (some) => change({ filters: { ...state.filters, ...some } });
  const add = async (example) => {
    if (state.examples.some((each) => textOf(each) === textOf(example))) return;
    await change({ examples: [...state.examples, example] }, { search: false });
    panel.querySelector(".ask")?.focus();
  };
  const addFile = async (file, given) => {
    if (!file) return;
    panel.classList.add("loading");
    try {
      await add(await upload(file, given));
    } catch (error) {
      refused = { file, error };
      drawPanel();
    } finally {
      panel.classList.remove("loading");
    }
  };
  let refused = null; // a picture that does not tell what it shows

  const typed = h("input", {
    type: "text",
    placeholder: "Tracklet or P0007",
    "aria-label": "Tracklet or person",
    autocomplete: "off",
    spellcheck: "false",
  });
  const pickFile = h("input", {
    type: "file",
    accept: PICTURES,
    hidden: true,
    on: {
      change: () => {
        addFile(pickFile.files[0]);
        pickFile.value = "";
      },
    },
  });
  const byName = async (event) => {
    event.preventDefault();
    const text = typed.value.trim();
    if (!text) return;
    const name = /^P\d{4,}$/.test(text) ? (await attempt(() => api.person(text)))?.best_tracklet : text;
    if (name && (await attempt(() => api.tracklet(name)))) {
      typed.value = "";
      add({ tracklet_id: name });
    }
  };

  async function drawPanel() {
    const all = [
      ...state.examples.map((example) => ({ example, against: false })),
      ...state.negatives.map((example) => ({ example, against: true })),
    ];
    const shown = await Promise.all(all.map(({ example }) => previewOf(example)));
    if (!current()) return;
    const remove =
      ({ example, against }) =>
      () =>
        change(
          against
            ? { negatives: state.negatives.filter((each) => each !== example) }
            : { examples: state.examples.filter((each) => each !== example) },
        );
    const exchange =
      ({ example }) =>
      (made) =>
        change({ examples: state.examples.map((each) => (each === example ? made : each)) });
    const hadFocus = panel.contains(document.activeElement) ? document.activeElement.className : null;
    replace(
      panel,
      all.length
        ? h("h2", {}, all.length > 1 ? "Who is looked for" : "Query")
        : h("h2", {}, "Who are you looking for?"),
      all.length
        ? h(
            "ul",
            { class: "examples" },
            all.map((each, at) =>
              shownExample(each.example, shown[at], {
                against: each.against,
                remove: remove(each),
                change: exchange(each),
              }),
            ),
          )
        : null,
      refused ? undecided() : null,
      all.length
        ? h(
            "div",
            { class: "stack" },
            h("label", { class: "field" }, h("span", {}, "Purpose"), purpose),
            h(
              "button",
              {
                type: "button",
                class: "main ask",
                disabled: !state.examples.length,
                on: { click: () => change({ asked: true }, { search: true }) },
              },
              icon("search"),
              state.asked ? "Search again" : "Search",
            ),
          )
        : null,
      dropPlace(all.length > 0),
    );
    if (hadFocus?.includes("ask")) panel.querySelector(".ask")?.focus();
  }

  function undecided() {
    const { file, error } = refused;
    const take = (given) => () => {
      refused = null;
      addFile(file, given);
    };
    return h(
      "div",
      { class: "stack" },
      problem(error),
      h(
        "div",
        { class: "row wrap" },
        h("span", { class: "small" }, "It shows"),
        ["rgb", "nir", "thermal"].map((modality) =>
          h(
            "button",
            { type: "button", on: { click: take({ modality, whole: true }) } },
            modality.toUpperCase().replace("THERMAL", "Thermal"),
          ),
        ),
      ),
      h(
        "button",
        {
          type: "button",
          class: "plain",
          on: {
            click: () => {
              refused = null;
              drawPanel();
            },
          },
        },
        "Forget this picture",
      ),
    );
  }

  function dropPlace(more) {
    const buttons = [
      h(
        "button",
        { type: "button", class: "choose", title: "Choose a picture (i)", on: { click: () => pickFile.click() } },
        icon("image"),
        more ? "Picture" : "Choose a picture",
      ),
      h(
        "button",
        { type: "button", title: "Draw a box on a frame (f)", on: { click: onFrame } },
        icon("box"),
        more ? "Frame" : "Draw on a frame",
      ),
    ];
    const ways = [
      h("div", { class: "row wrap" }, buttons),
      pickFile,
      h(
        "form",
        { class: "row by-name", on: { submit: byName } },
        typed,
        h("button", { type: "submit", class: "icon-only", "aria-label": "Add" }, icon("plus")),
      ),
    ];
    return more
      ? h(
          "details",
          { class: "drop more", open: matchMedia("(min-width: 821px)").matches },
          h("summary", {}, "Add another example"),
          h("div", {}, ways),
        )
      : h(
          "div",
          { class: "drop" },
          icon("image"),
          h("span", {}, "Drop or paste a picture of the person, or pick somebody who was seen"),
          ways,
        );
  }

  async function onFrame() {
    const first = await Promise.all(state.examples.map(previewOf)).then((found) =>
      found.find((each) => each.camera_id),
    );
    const example = await drawBox(cameras, { camera_id: first?.camera_id });
    if (example) add(example);
  }

  function drawBar() {
    const name = bar.contains(document.activeElement) ? document.activeElement.dataset.name : null;
    replace(bar, h("div", { class: "spread" }, chips(state, { cameras }, change)));
    if (name) bar.querySelector(`[data-name="${CSS.escape(name)}"]`)?.focus();
  }

  function grouping() {
    const group = h(
      "select",
      {
        class: "grouping",
        "aria-label": "Group by",
        on: { change: () => change({ group: group.value }, { search: false, instead: true }) },
      },
      [
        ["rank", "Best first"],
        ["hour", "By camera and hour"],
        ["modality", "By modality"],
      ].map(([value, text]) => h("option", { value }, text)),
    );
    group.value = state.group;
    return group;
  }

  function draw() {
    drawBar();
    drawList();
    drawActs();
    return drawPanel();
  }

  function drawList() {
    if (!state.asked) return drawLatest();
    if (searching) return undefined;
    if (last.key !== keyOf(state)) return replace(list, waiting("Not searched yet with these settings."));
    const { result } = last;
    const on = list.contains(document.activeElement) ? document.activeElement : null;
    const keep = on && {
      tracklet: on.closest("[data-tracklet]")?.dataset.tracklet,
      name: [...on.classList].find((each) => ["open", "starring", "rejecting"].includes(each)),
      grouping: on.matches(".grouping"),
    };
    replace(
      list,
      h(
        "div",
        { class: "row summary" },
        h(
          "p",
          { class: "muted small grow told" },
          result.answers.length ? `${count(result.answers.length, "answer")}. ` : "",
          result.explanation,
        ),
        result.answers.length ? grouping() : null,
      ),
      result.answers.length
        ? answers(result, state, {
            star: (each) => toggle("stars", "rejects", each),
            cross: (each) => toggle("rejects", "stars", each),
          })
        : nothing(result, changeFilters),
      result.answers.length === state.top && state.top < MOST
        ? h(
            "p",
            { class: "more-answers" },
            h(
              "button",
              { type: "button", on: { click: () => change({ top: Math.min(state.top * 2, MOST) }) } },
              "Show more",
            ),
          )
        : null,
    );
    if (keep?.tracklet)
      list.querySelector(`[data-tracklet="${CSS.escape(keep.tracklet)}"] .${keep.name ?? "open"}`)?.focus();
    if (keep?.grouping) list.querySelector(".grouping").focus();
    return undefined;
  }

  async function drawLatest() {
    const found = await attempt(() => early ?? latest(state.filters));
    early = null;
    if (!found || state.asked || !current()) return;
    replace(
      list,
      h("h2", { class: "latest" }, found.items.length ? "Seen last" : "Nobody was seen yet"),
      found.items.length
        ? h(
            "ul",
            { class: "grid small-grid" },
            found.items.map((each) =>
              h(
                "li",
                {},
                tracklet(each, {
                  onPick: () => add({ tracklet_id: each.tracklet_id }),
                  picked: state.examples.some((example) => example.tracklet_id === each.tracklet_id),
                }),
              ),
            ),
          )
        : h("p", { class: "empty" }, "People appear here as soon as the cameras see them."),
    );
  }

  function toggle(into, other, each) {
    const set = new Set(state[into]);
    const rest = new Set(state[other]);
    if (set.has(each.tracklet_id)) set.delete(each.tracklet_id);
    else set.add(each.tracklet_id);
    rest.delete(each.tracklet_id);
    change(
      {
        [into]: set,
        [other]: rest,
      },
      { search: false, instead: true },
    );
    say(set.has(each.tracklet_id) ? (into === "stars" ? "Starred" : "Rejected") : "Mark removed");
  }

  /** Stored tracklets that are taken for the person: examples and starred answers. */
  const chosen = () => [
    ...new Set([...state.examples.map((each) => each.tracklet_id).filter(Boolean), ...state.stars]),
  ];

  function drawActs() {
    const names = chosen();
    if (!state.asked || (!names.length && !state.rejects.size)) return replace(acts);
    const refinable = state.stars.size + state.rejects.size > 0;
    return replace(
      acts,
      h(
        "div",
        {},
        h(
          "span",
          {},
          [
            state.stars.size ? `${state.stars.size} starred` : null,
            state.rejects.size ? `${state.rejects.size} rejected` : null,
            !refinable ? count(names.length, "example") : null,
          ]
            .filter(Boolean)
            .join(", "),
        ),
        refinable
          ? h(
              "button",
              { type: "button", class: "main refine", title: "Search again with these (r)", on: { click: refine } },
              icon("search"),
              "Refine",
            )
          : null,
        may("decide") && names.length > 1
          ? h(
              "button",
              { type: "button", title: "All chosen are one person (c)", on: { click: confirm } },
              icon("check"),
              "Confirm",
            )
          : null,
        may("evidence") && names.length
          ? h(
              "button",
              { type: "button", title: "Put into a case (e)", on: { click: intoCase } },
              icon("cases"),
              "Add to case",
            )
          : null,
        refinable
          ? h(
              "button",
              {
                type: "button",
                class: "plain",
                on: { click: () => change({ stars: new Set(), rejects: new Set() }, { search: false }) },
              },
              "Clear",
            )
          : null,
      ),
    );
  }

  function refine() {
    if (!state.stars.size && !state.rejects.size) return;
    const fresh = (names, others) =>
      [...names]
        .map((name) => ({ tracklet_id: name }))
        .filter((example) => !others.some((each) => each.tracklet_id === example.tracklet_id));
    change(
      {
        examples: [...state.examples, ...fresh(state.stars, state.examples)].slice(0, 20),
        negatives: [...state.negatives, ...fresh(state.rejects, state.negatives)].slice(0, 20),
        stars: new Set(),
        rejects: new Set(),
        asked: true,
      },
      { search: true },
    );
    say("Searching again with what was starred and rejected");
  }

  async function confirm() {
    const done = await confirmTogether(chosen(), why());
    if (done) {
      last = { key: null, result: null };
      run();
    }
  }
  const intoCase = () => addToCase(chosen());

  async function run() {
    searching?.abort();
    const mine = new AbortController();
    searching = mine;
    list.classList.add("loading");
    list.setAttribute("aria-busy", "true");
    if (!list.childElementCount || !last.result) replace(list, waiting("Searching …"));
    try {
      const result = await api.search(question(state, why()), mine.signal);
      last = { key: keyOf(state), result };
      searching = null;
      if (current()) {
        drawList();
        say(
          result.answers.length
            ? `${count(result.answers.length, "answer")}. ${result.explanation}`
            : `No answer. ${result.explanation}`,
        );
        if (document.activeElement.matches("body, main, .ask")) {
          list.querySelector(".open")?.focus({ preventScroll: true }); // nobody is taken away from something else
        }
      }
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

  const cards = () => [...list.querySelectorAll(".open, button.pick")];
  const focused = () => {
    const name = document.activeElement?.closest(".answer")?.dataset.tracklet;
    return last.result?.answers.find((each) => each.tracklet_id === name);
  };
  const marked = (into, other) => () => {
    const each = focused();
    if (each) toggle(into, other, each);
  };
  keys.here([
    {
      keys: ["/"],
      text: "Type a tracklet or person",
      run: () => {
        typed.closest("details")?.setAttribute("open", "");
        typed.focus();
      },
    },
    { keys: ["i"], text: "Choose a picture", run: () => pickFile.click() },
    {
      keys: ["f"],
      text: "Draw on a frame",
      run: () => {
        onFrame();
      },
    },
    {
      keys: ["m"],
      text: "Filters",
      run: () => [...bar.querySelectorAll(".chip")].find((each) => each.offsetParent).focus(),
    },
    { keys: ["j", "ArrowRight"], text: "Next", run: () => keys.move(cards(), "next") },
    { keys: ["k", "ArrowLeft"], text: "Previous", run: () => keys.move(cards(), "previous") },
    {
      keys: ["ArrowDown"],
      text: "Row below",
      run: () => list.contains(document.activeElement) && keys.move(cards(), "down"),
    },
    {
      keys: ["ArrowUp"],
      text: "Row above",
      run: () => list.contains(document.activeElement) && keys.move(cards(), "up"),
    },
    { keys: ["s"], text: "Star", run: marked("stars", "rejects") },
    { keys: ["x"], text: "Reject", run: marked("rejects", "stars") },
    { keys: ["r"], text: "Refine", run: refine },
    {
      keys: ["c"],
      text: "Confirm as one person",
      run: () => {
        if (may("decide") && chosen().length > 1) confirm();
      },
    },
    {
      keys: ["e"],
      text: "Add to case",
      run: () => {
        if (may("evidence") && chosen().length) intoCase();
      },
    },
  ]);

  const over = (event) => {
    event.preventDefault();
    panel.querySelector(".drop")?.classList.toggle("over", event.type !== "dragleave" && event.type !== "drop");
  };
  const dropped = (event) => {
    over(event);
    addFile(event.dataTransfer.files[0]);
  };
  const pasted = (event) => {
    const file = [...event.clipboardData.files][0];
    if (file) {
      event.preventDefault();
      addFile(file);
    }
  };
  root.addEventListener("dragover", over);
  root.addEventListener("dragleave", over);
  root.addEventListener("drop", dropped);
  addEventListener("paste", pasted);

  let fresh = 0;
  const silence = hear("tracklet", (each) => {
    if (each.rejected) return;
    if (!state.asked) drawLatestSoon();
    else if (!fresh++)
      toast("New people were seen since this search.", {
        act: {
          text: "Search again",
          run: () => {
            fresh = 0;
            run();
          },
        },
      });
  });
  let timer = null;

  function drawLatestSoon() {
    clearTimeout(timer);
    timer = setTimeout(() => {
      if (!state.asked && current() && !list.contains(document.activeElement)) drawLatest();
    }, 500);
  }

  draw();
  if (state.asked && state.examples.length && last.key !== keyOf(state)) run();
  return {
    dispose: () => {
      silence();
      clearTimeout(timer);
      searching?.abort();
      root.removeEventListener("dragover", over);
      root.removeEventListener("dragleave", over);
      root.removeEventListener("drop", dropped);
      removeEventListener("paste", pasted);
    },
  };
}

/** Whom the cameras saw last, as far as the filters let them pass. */
function latest({ modalities, cameras, start, end, zones, min_quality: least, persons }) {
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
  });
}

/** The address of a search for one tracklet. */
export const searchFor = (name) =>
  write({
    examples: [{ tracklet_id: name }],
    negatives: [],
    filters: NO_FILTERS,
    rerank: null,
    false_match_rate: null,
    top: 24,
    group: "rank",
    asked: false,
    stars: new Set(),
    rejects: new Set(),
  });
