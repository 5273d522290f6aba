// Persons: who the program thinks is who, and what operators say to that; every decision can be taken back.
import { all, api, media } from "../api.js";
import { h, replace, say } from "../dom.js";
import { icon } from "../icons.js";
import * as keys from "../keys.js";
import {
  attempt,
  badge,
  bestOf,
  button,
  chance,
  confirmed,
  count,
  crop,
  mark,
  pages,
  toast,
  tracklet,
} from "../parts.js";
import { go, href } from "../route.js";
import { duration, moment } from "../times.js";
import { searchFor } from "./asked.js";
import { addToCase, confirmLink, confirmTogether, mergeInto, rejectLink, takeBack, undoable } from "./verdicts.js";

const PAGE = 60;
const KINDS = {
  merge: "merged",
  split: "split off",
  confirm: "confirmed",
  reject: "kept apart",
  revise: "revised by the program",
  undo: "taken back",
};

export async function show(given) {
  return given.id ? showOne(given) : showAll(given);
}

async function showAll({ root, params, may, current, again }) {
  const state = params.get("state") ?? "";
  const chosen = new Set();
  const mayMerge = may("decide", { ofAll: true });
  const [first, decisions] = await Promise.all([
    api.persons({ state: state || null, limit: PAGE }),
    may("decide") ? api.decisions({ limit: 12 }).catch(() => null) : null,
  ]);
  if (!current()) return undefined;
  const list = h("ul", { class: "grid", "aria-label": "Persons" });
  const acts = h("div", { class: "actions" });
  const append = (items) =>
    list.append(...items.map((each) => h("li", {}, personCard(each, chosen, mayMerge ? mark_ : null))));
  const next = (cursor) => api.persons({ state: state || null, limit: PAGE, cursor });
  function mark_(name) {
    if (chosen.has(name)) chosen.delete(name);
    else chosen.add(name);
    for (const card of list.querySelectorAll(".person")) {
      const on = chosen.has(card.dataset.person);
      card.classList.toggle("picked", on);
      card.querySelector(".choosing")?.setAttribute("aria-pressed", String(on));
    }
    say(`${count(chosen.size, "person", "persons")} chosen`);
    replace(
      acts,
      chosen.size
        ? h(
            "div",
            {},
            h("span", {}, `${[...chosen].join(", ")}`),
            button("merge", "Merge", merge, {
              class: "main",
              title: "These are one person (m)",
              disabled: chosen.size < 2,
            }),
            button(null, "Clear", () => [...chosen].forEach(mark_), { class: "plain" }),
          )
        : null,
    );
  }
  async function merge() {
    if (chosen.size < 2) return;
    const [into, ...others] = [...chosen].sort();
    const why = await confirmed(
      `Merge into ${into}`,
      `All tracklets of ${others.join(", ")} go to ${into}. It can be undone.`,
      { yes: "Merge", purpose: true },
    );
    if (!why) return;
    const made = await mergeInto(into, others, why);
    if (made.length) {
      const merged = others.slice(0, made.length);
      toast(`${merged.join(", ")} merged into ${into}.`, { kind: "good", act: undoable(made) });
      go(href("persons", into));
    }
  }

  const filter = h(
    "select",
    { "aria-label": "Which persons", on: { change: () => go(href("persons", "", { state: filter.value })) } },
    [
      ["", "Everybody"],
      ["probable", "Probable: the program's guess"],
      ["confirmed", "Confirmed by an operator"],
    ].map(([value, text]) => h("option", { value }, text)),
  );
  filter.value = state;
  replace(
    root,
    h(
      "div",
      { class: "head" },
      h("h1", {}, "Persons"),
      h("span", { class: "grow" }),
      h("div", { class: "narrow" }, filter),
    ),
    h(
      "div",
      { class: "two-columns" },
      h(
        "div",
        {},
        first.items.length ? list : h("p", { class: "empty" }, "Nobody yet."),
        pages(first, next, append),
        acts,
      ),
      decisions
        ? h(
            "aside",
            { class: "panel", "aria-label": "Decisions" },
            h("h2", {}, "Decisions"),
            decisionList(decisions.items, again),
          )
        : null,
    ),
  );

  const cards = () => [...list.querySelectorAll(".open")];
  const focused = () => document.activeElement?.closest(".person")?.dataset.person;
  keys.here([
    ...keys.through(cards, { rows: list }),
    {
      keys: ["v"],
      text: "Choose",
      run: () => {
        if (focused() && mayMerge) mark_(focused());
      },
    },
    { keys: ["m"], text: "Merge the chosen", run: merge },
  ]);
  return {};
}

function personCard(each, chosen, choose) {
  return h(
    "article",
    { class: `card person small-card${chosen.has(each.person) ? " picked" : ""}`, dataset: { person: each.person } },
    h(
      "div",
      { class: "pictures" },
      crop(each.best_tracklet ? media.best(each.best_tracklet) : null, "", {
        tag: "a",
        href: href("persons", each.person),
        class: "open",
        "aria-label": `${each.person}, ${each.state}, ${count(each.tracklets, "tracklet")}`,
      }),
    ),
    h(
      "div",
      { class: "words" },
      h(
        "div",
        { class: "where" },
        h("strong", {}, each.person),
        each.state === "confirmed" ? mark("confirmed", "good") : mark(each.state),
      ),
      h("div", { class: "row wrap tight" }, each.modalities.map(badge)),
      h(
        "div",
        { class: "small muted" },
        `${count(each.tracklets, "tracklet")}, ${count(each.cameras.length, "camera")}`,
      ),
      each.last ? h("div", { class: "small muted" }, "last ", moment(each.last, { withDay: true })) : null,
    ),
    choose
      ? h(
          "div",
          { class: "acts" },
          button("check", "Choose", () => choose(each.person), {
            class: "plain small choosing",
            title: "Choose (v)",
            "aria-pressed": String(chosen.has(each.person)),
            "aria-label": `Choose ${each.person}`,
          }),
        )
      : null,
  );
}

async function showOne({ root, id, may, current, again }) {
  const details = await api.person(id);
  if (details.merged_into) return go(href("persons", details.merged_into), { instead: true });
  const ofThis = may("decide") ? await about(details).catch(() => []) : [];
  if (!current()) return undefined;
  const chosen = new Set();
  const acts = h("div", { class: "actions" });
  const list = h("ul", { class: "grid", "aria-label": `Stays of ${id}, in order of time` });
  const byName = new Map(details.path.map((each) => [each.tracklet_id, each]));

  function draw() {
    const on = document.activeElement?.dataset?.tracklet;
    replace(
      list,
      details.path.map((each) =>
        h(
          "li",
          {},
          may("decide") || may("evidence")
            ? tracklet(each, { onPick: pick, picked: chosen.has(each.tracklet_id) })
            : tracklet(each, { from: "persons" }),
        ),
      ),
    );
    if (on) list.querySelector(`[data-tracklet="${CSS.escape(on)}"]`)?.focus();
    const names = [...chosen];
    replace(
      acts,
      names.length
        ? h(
            "div",
            {},
            h("span", {}, `${names.length} chosen`),
            names.length === 1
              ? h("a", { class: "button", href: href("tracklet", names[0], { from: "persons" }) }, icon("play"), "Open")
              : null,
            may("decide") && names.length > 1
              ? button("check", "Confirm", confirm, { title: "They show this person (c)" })
              : null,
            may("decide", { ofAll: true })
              ? button("split", "Split off", split, {
                  class: "danger",
                  title: "They show somebody else (x)",
                  disabled: names.length === details.path.length,
                })
              : null,
            may("evidence")
              ? button("cases", "Add to case", () => addToCase(names), { title: "Put into a case (e)" })
              : null,
          )
        : null,
    );
  }
  function pick(each) {
    if (chosen.has(each.tracklet_id)) chosen.delete(each.tracklet_id);
    else chosen.add(each.tracklet_id);
    draw();
  }
  async function confirm() {
    if (chosen.size > 1 && (await confirmTogether([...chosen], {}, again))) again();
  }
  async function split() {
    if (!chosen.size || chosen.size === details.path.length) return;
    const why = await confirmed(
      "Split off",
      `${count(chosen.size, "tracklet")} of ${id} show somebody else. A new person is made of them; the two are never linked again unless you undo it.`,
      { yes: "Split off", danger: true, purpose: true },
    );
    if (!why) return;
    const done = await attempt(() => api.split({ tracklets: [...chosen], ...why }));
    if (done) {
      toast("Split off.", { kind: "good", act: undoable(done, again) });
      again();
    }
  }
  async function decide(link, yes) {
    if (await (yes ? confirmLink : rejectLink)(link.tracklet_id, link.to_tracklet_id)) again();
  }

  replace(
    root,
    h(
      "div",
      { class: "head" },
      h("a", { class: "button icon-only plain", href: href("persons"), "aria-label": "All persons" }, icon("back")),
      h("h1", {}, id),
      details.state === "confirmed" ? mark("confirmed", "good") : mark("probable"),
      details.modalities.map(badge),
      h("span", { class: "grow" }),
      h("a", { class: "button", href: href("timeline", "", { person: id }) }, icon("timeline"), "Path"),
      details.best_tracklet
        ? h("a", { class: "button", href: searchFor(details.best_tracklet) }, icon("search"), "Find this person")
        : null,
      h(
        "p",
        { class: "under small" },
        `${count(details.tracklets, "tracklet")} on ${details.cameras.join(", ")}`,
        details.first
          ? [" · ", moment(details.first, { withDay: true }), " – ", moment(details.last, { withDay: true })]
          : null,
        details.path_complete ? null : " · only the first 1,000 are shown",
      ),
    ),
    h(
      "div",
      { class: "two-columns" },
      h("div", {}, list, acts),
      h(
        "div",
        { class: "stack loose" },
        h(
          "section",
          { class: "panel" },
          h("h2", {}, "Links, and why"),
          personLinks(details, byName, may("decide") ? decide : null),
        ),
        ofThis.length ? h("section", { class: "panel" }, h("h2", {}, "Decisions"), decisionList(ofThis, again)) : null,
      ),
    ),
  );
  draw();
  const cards = () => [...list.querySelectorAll("[data-tracklet]")];
  keys.here([
    ...keys.through(cards, { rows: list }),
    {
      keys: ["v"],
      text: "Choose",
      run: () =>
        document.activeElement?.dataset?.tracklet &&
        byName.has(document.activeElement.dataset.tracklet) &&
        pick(byName.get(document.activeElement.dataset.tracklet)),
    },
    {
      keys: ["o"],
      text: "Open",
      run: () => {
        const name = document.activeElement?.dataset?.tracklet;
        if (name) go(href("tracklet", name, { from: "persons" }));
      },
    },
    { keys: ["t"], text: "Path on the timeline", run: () => go(href("timeline", "", { person: id })) },
    {
      keys: ["c"],
      text: "Confirm the chosen",
      run: () => {
        if (may("decide")) confirm();
      },
    },
    {
      keys: ["x"],
      text: "Split the chosen off",
      run: () => {
        if (may("decide", { ofAll: true })) split();
      },
    },
    {
      keys: ["e"],
      text: "Add the chosen to a case",
      run: () => {
        if (may("evidence") && chosen.size) addToCase([...chosen]);
      },
    },
  ]);
  return {};
}

function personLinks(details, byName, decide) {
  const shown = details.links
    .filter((link) => byName.has(link.tracklet_id) && byName.has(link.to_tracklet_id))
    .sort((a, b) => a.probability - b.probability);
  if (!shown.length) return h("p", { class: "muted" }, "Seen once so far: nothing to link.");
  return [
    h("p", { class: "small muted" }, "Weakest first: those are worth a look."),
    h(
      "ul",
      { class: "links pairs" },
      shown.slice(0, 40).map((link) => {
        const [a, b] = [byName.get(link.to_tracklet_id), byName.get(link.tracklet_id)];
        const picture = (each) =>
          h(
            "a",
            {
              href: href("tracklet", each.tracklet_id, { from: "persons" }),
              "aria-label": `Open ${each.camera_id}, ${moment(each.start).textContent}`,
            },
            crop(bestOf(each), ""),
          );
        return h(
          "li",
          { dataset: { link: `${link.tracklet_id} ${link.to_tracklet_id}` } },
          h("span", { class: "row tight" }, picture(a), picture(b)),
          h(
            "div",
            { class: "stack tight" },
            chance(link.probability),
            h(
              "span",
              { class: "small muted" },
              `cosine ${link.cosine.toFixed(3)}, ${duration(Math.max((new Date(b.start) - new Date(a.end)) / 1000, 0))} apart`,
            ),
            h("span", {}, mark(link.state, { confirmed: "good", rejected: "bad" }[link.state] ?? "")),
          ),
          decide
            ? h(
                "div",
                { class: "stack tight" },
                link.state !== "confirmed"
                  ? button("check", null, () => decide(link, true), {
                      title: "Same person",
                      "aria-label": "Confirm this link",
                    })
                  : null,
                link.state !== "rejected"
                  ? button("reject", null, () => decide(link, false), {
                      class: "danger",
                      title: "Two people",
                      "aria-label": "Reject this link",
                    })
                  : null,
              )
            : null,
        );
      }),
    ),
  ];
}

/** Decisions that moved a tracklet from or to this person. */
async function about(details) {
  const number = details.person_id;
  const { items } = await all(api.decisions, { limit: 200 }, 400);
  return items
    .filter((each) => each.moved.some(([, before, after]) => before === number || after === number))
    .slice(0, 12);
}

function decisionList(items, again) {
  if (!items.length) return h("p", { class: "muted" }, "None yet.");
  return h(
    "ul",
    { class: "list" },
    items.map((each) =>
      h(
        "li",
        {},
        h(
          "div",
          { class: "item" },
          h(
            "div",
            { class: "grow" },
            h(
              "div",
              {},
              h("strong", {}, KINDS[each.kind] ?? each.kind),
              each.moved.length ? h("span", { class: "muted" }, `, ${count(each.moved.length, "tracklet")}`) : null,
            ),
            h(
              "div",
              { class: "small muted" },
              `${each.actor}, `,
              moment(each.made, { withDay: true }),
              each.purpose ? `, ${each.purpose}` : "",
            ),
          ),
          each.undone_by
            ? mark("undone")
            : each.kind === "revise"
              ? null
              : button("undo", "Undo", async () => (await takeBack(each.decision_id)) && again(), {
                  class: "small",
                  "aria-label": `Undo decision ${each.decision_id}`,
                }),
        ),
      ),
    ),
  );
}
