// What an operator decides about tracklets, from whatever view: these are one person; these belong into a case.
import { all, api, needsPurpose, seesAllCameras } from "../api.js";
import { h, replace } from "../dom.js";
import {
  ask,
  attempt,
  bestOf,
  confirmed,
  count,
  crop,
  field,
  forCase,
  purposeField,
  purposeOf,
  questions,
  standingCase,
  toast,
  waiting,
} from "../parts.js";
import { go, href } from "../route.js";

const MOST_CASES = 10_000;

/** What this tab's searches are for, as it was said there; asked for where the site requires it; null when it is not told. */
async function standingWhy() {
  const known = sessionStorage.getItem("purpose")?.trim();
  const why = { ...(known ? { purpose: known } : {}), ...standingCase() };
  if (!needsPurpose() || why.purpose || why.case_id) return why;
  const told = await confirmed(
    "What is it for?",
    "This site wants to know the purpose of every decision. It stands in the audit.",
    { yes: "Go on", purpose: true },
  );
  if (!told?.purpose) return null;
  sessionStorage.setItem("purpose", told.purpose);
  return told;
}

/** Decide something, and say so; `run` is given the purpose. */
async function decided(run, text) {
  const why = await standingWhy();
  const decision = why && (await attempt(() => run(why)));
  if (decision) toast(text, { kind: "good", act: decision.kind === "undo" ? null : undoable(decision) });
  return decision;
}

/** Take decisions back, the last one first. */
export const takeBack = (...numbers) =>
  decided(async (why) => {
    let last = null;
    for (const number of numbers.toReversed()) last = await api.undo(number, why);
    return last;
  }, "Taken back.");

/** A way to take back a decision, or several that were made at once. */
export const undoable = (decisions, then = () => {}) => ({
  text: "Undo",
  run: async () => {
    const taken = await takeBack(...[decisions].flat().map((each) => each.decision_id));
    if (taken !== null) then(); // where one could not be, those after it are taken back all the same
  },
});

/**
 * Merge others into a person, one by one; gives the decisions that were made. Where one fails, it is said why, and those
 * before it stand.
 */
export async function mergeInto(into, others, why) {
  const made = [];
  await attempt(async () => {
    for (const other of others) made.push(await api.merge({ into, other, ...why }));
  });
  return made;
}

/**
 * Say that tracklets show one person: persons are merged where they differ, then each link is confirmed.
 * @param {string[]} names - Of the tracklets.
 * @param {object} why - As the API takes it.
 * @param {Function} then - Called when it was taken back.
 */
export async function confirmTogether(names, why = {}, then = () => {}) {
  const found = await attempt(() => Promise.all(names.map((name) => api.tracklet(name))));
  if (!found) return null;
  const persons = [...new Set(found.map((each) => each.person))];
  if (persons.length > 1 && !seesAllCameras()) {
    toast(`They were given to ${persons.join(" and ")}, and to merge persons needs the right to all cameras.`);
    return null;
  }
  const left = stepsOf(found, persons);
  const made = [];
  const done = await ask("These show one person", (finish) => {
    const purpose = purposeField(why.purpose);
    const run = async () => {
      const given = { ...purposeOf(purpose), ...standingCase() };
      for (; left.length; left.shift()) made.push(await left[0](given)); // once more: only what failed and came after
      return true;
    };
    return questions(
      finish,
      { yes: "Confirm", run, at: true },
      h(
        "div",
        { class: "strip", tabindex: 0, role: "group", "aria-label": "Tracklets to be confirmed" },
        found.map((each) => crop(bestOf(each), `${each.camera_id}, ${each.person}`)),
      ),
      h(
        "p",
        {},
        persons.length > 1
          ? `They were given to ${persons.join(" and ")}. Confirming merges these into ${persons[0]}, with all their tracklets. It can be undone.`
          : `All were given to ${persons[0]}. Confirming says that a human looked: the program will not move them any more.`,
      ),
      field("Purpose", purpose),
      forCase(),
    );
  });
  if (made.length) {
    const text = done
      ? `${count(found.length, "tracklet")} confirmed as ${persons[0]}.`
      : `Not all were confirmed: ${count(made.length, "decision")} of ${made.length + left.length} made.`;
    const see = { text: "See person", run: () => go(href("persons", persons[0])) };
    toast(text, { kind: done ? "good" : "", act: [see, undoable(made, then)] });
  }
  return made.length > 0;
}

/** The decisions that say so. */
const stepsOf = (found, [into, ...others]) => [
  ...others.map((other) => (why) => api.merge({ into, other, ...why })),
  ...found
    .slice(1)
    .map(
      (each) => (why) =>
        api.confirm({ tracklet_id: each.tracklet_id, to_tracklet_id: found[0].tracklet_id, ...why }),
    ),
];

/** Two tracklets show two people. */
export const rejectLink = (name, other) =>
  decided((why) => api.reject({ tracklet_id: name, to_tracklet_id: other, ...why }), "Noted: two people.");

/** Two tracklets of one person do show that person. */
export const confirmLink = (name, other) =>
  decided((why) => api.confirm({ tracklet_id: name, to_tracklet_id: other, ...why }), "Link confirmed.");

/** Every case that is open. */
export async function openCases() {
  const { items } = await all(api.cases, { limit: 500 }, MOST_CASES);
  return items.filter((each) => !each.closed);
}

/** Ask for a new case, and open it; gives its number, or null. */
export function newCase() {
  return ask("New case", (finish) => {
    const name = caseNumber({ required: true, autofocus: true });
    const title = h("input", { type: "text", maxlength: 2000, placeholder: "what it is about" });
    const run = async () => (await api.openCase({ case_id: name.value, title: title.value })).case;
    return questions(finish, { yes: "Open case", run }, field("Number", name), field("Title", title));
  });
}

/** What a case is called in a list to choose from. */
export const caseText = (each) => (each.title ? `${each.case}: ${each.title}` : each.case);

/** Put tracklets into a case that is open, or into a new one. */
export function addToCase(names) {
  return ask(`Add ${count(names.length, "tracklet")} to a case`, (finish) => {
    const body = h("div", {}, waiting());
    (async () => {
      const cases = (await attempt(openCases)) ?? [];
      replace(body, caseForm(names, cases, finish));
      body.querySelector("select, input").focus();
    })();
    return body;
  });
}

function caseForm(names, cases, finish) {
  const choice = h(
    "select",
    {},
    cases.map((each) => h("option", { value: each.case }, caseText(each))),
    h("option", { value: "" }, "A new case"),
  );
  const name = caseNumber();
  const title = h("input", { type: "text", maxlength: 2000, placeholder: "what it is about" });
  const note = h("input", { type: "text", maxlength: 2000, placeholder: "beside these tracklets", value: "" });
  const fresh = h(
    "div",
    { class: "stack", hidden: true },
    field("Number of the new case", name),
    field("Title", title),
  );
  const switched = () => {
    fresh.hidden = choice.value !== "";
    name.required = choice.value === "";
  };
  choice.addEventListener("change", switched);
  const { case_id: standing } = standingCase();
  if (cases.some((each) => each.case === standing)) choice.value = standing;
  if (!cases.length) choice.value = "";
  switched();
  const run = async () => {
    const into = choice.value || name.value;
    if (!choice.value) await api.openCase({ case_id: into, title: title.value });
    await api.hold(into, { tracklets: names, ...(note.value ? { note: note.value } : {}) });
    toast(`${count(names.length, "tracklet")} in case ${into}.`, {
      kind: "good",
      act: { text: "Open case", run: () => go(href("cases", into)) },
    });
    return into;
  };
  return questions(finish, { yes: "Add", run }, field("Case", choice), fresh, field("Note", note));
}

/** A field for the number of a case, as the API takes it. */
const caseNumber = (given = {}) =>
  h("input", {
    type: "text",
    pattern: "[A-Za-z0-9][A-Za-z0-9_.\\-]{0,63}",
    title: "letters, digits, _, - and .",
    placeholder: "2026-0417",
    ...given,
  });
