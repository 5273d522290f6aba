// What an operator decides about tracklets, from whatever view: these are one person; these belong into a case.
import { api, needsPurpose } from "../api.js";
import { h, replace } from "../dom.js";
import {
  ask,
  attempt,
  bestOf,
  confirmed,
  count,
  crop,
  field,
  purposeField,
  purposeOf,
  questions,
  toast,
  waiting,
} from "../parts.js";
import { go, href } from "../route.js";

/** What this tab's searches are for, as it was typed there; asked for where the site requires it; null when it is not told. */
async function standingPurpose() {
  const known = sessionStorage.getItem("purpose")?.trim();
  if (known) return { purpose: known };
  if (!needsPurpose()) return {};
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
  const why = await standingPurpose();
  const decision = why && (await attempt(() => run(why)));
  if (decision) toast(text, { kind: "good", act: decision.kind === "undo" ? null : undoable(decision) });
  return decision;
}

/** Take a decision back. */
export const takeBack = (number) => decided((why) => api.undo(number, why), "Taken back.");

export const undoable = (decision, then = () => {}) => ({
  text: "Undo",
  run: async () => {
    if (await takeBack(decision.decision_id)) then();
  },
});

/** Say that tracklets show one person: persons are merged where they differ, then each link is confirmed. */
export async function confirmTogether(names, why = {}) {
  const found = await attempt(() => Promise.all(names.map((name) => api.tracklet(name))));
  if (!found) return null;
  const persons = [...new Set(found.map((each) => each.person))];
  return ask("These show one person", (finish) => {
    const purpose = purposeField(why.purpose);
    return questions(
      finish,
      { yes: "Confirm", run: () => decide(found, persons, purposeOf(purpose)), at: true },
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
    );
  });
}

async function decide(found, persons, why) {
  let decision = null;
  for (const other of persons.slice(1)) decision = await api.merge({ into: persons[0], other, ...why });
  for (const each of found.slice(1))
    decision = await api.confirm({ tracklet_id: each.tracklet_id, to_tracklet_id: found[0].tracklet_id, ...why });
  toast(`${count(found.length, "tracklet")} confirmed as ${persons[0]}.`, {
    kind: "good",
    act: { text: "See person", run: () => go(href("persons", persons[0])) },
  });
  return decision;
}

/** Two tracklets show two people. */
export const rejectLink = (name, other) =>
  decided((why) => api.reject({ tracklet_id: name, to_tracklet_id: other, ...why }), "Noted: two people.");

/** Two tracklets of one person do show that person. */
export const confirmLink = (name, other) =>
  decided((why) => api.confirm({ tracklet_id: name, to_tracklet_id: other, ...why }), "Link confirmed.");

/** Put tracklets into a case that is open, or into a new one. */
export function addToCase(names) {
  return ask(`Add ${count(names.length, "tracklet")} to a case`, (finish) => {
    const body = h("div", {}, waiting());
    (async () => {
      const cases = (await attempt(() => api.cases()))?.items.filter((each) => !each.closed) ?? [];
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
    cases.map((each) => h("option", { value: each.case }, each.title ? `${each.case}: ${each.title}` : each.case)),
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
export const caseNumber = (given = {}) =>
  h("input", {
    type: "text",
    pattern: "[A-Za-z0-9][A-Za-z0-9_.\\-]{0,63}",
    title: "letters, digits, _, - and .",
    placeholder: "2026-0417",
    ...given,
  });
