// Who was found, as cards, grouped; where nobody was, which filter removed how many; and who was seen last.
import { media } from "../api.js";
import { h } from "../dom.js";
import { badge, bestOf, button, chance, count, crop, modalityText, nameOf, pages, tracklet } from "../parts.js";
import { href } from "../route.js";
import { duration, hourOf, moment } from "../times.js";
import { MOST, REMOVALS } from "./asked.js";

const IN_VIEW = 12; // cards whose pictures do not wait until they are scrolled to
const GROUPINGS = { rank: "Best first", hour: "By camera and hour", modality: "By modality" };

/**
 * Whom one may begin with: those who were seen last.
 * @param {object} first - Page of the API.
 * @param {Function} fetchPage - Gives the page that a cursor begins.
 * @param {{examples: object[], filters: object}} state - What is chosen already, and the filters that are set.
 * @param {Function} pick - Called with an example.
 */
export function seenLast(first, fetchPage, { examples, filters }, pick) {
  const apart = uncounted(filters);
  if (!first.items.length && isFiltered(filters))
    return [
      h("h2", { class: "latest" }, "Nobody was seen who passes the filters"),
      apart,
      h("p", { class: "empty" }, "Take a filter off to see whom the cameras saw last."),
    ];
  if (!first.items.length)
    return [
      h("h2", { class: "latest" }, "Nobody was seen yet"),
      h("p", { class: "empty" }, "People appear here as soon as the cameras see them."),
    ];
  const list = h("ul", { class: "grid small-grid" });
  const card = (each) =>
    tracklet(each, {
      onPick: () => pick({ tracklet_id: each.tracklet_id }),
      picked: examples.some((example) => example.tracklet_id === each.tracklet_id),
      lazy: list.childElementCount >= IN_VIEW,
    });
  const append = (items) => {
    for (const each of items) list.append(h("li", {}, card(each)));
  };
  return [h("h2", { class: "latest" }, "Seen last"), apart, list, pages(first, fetchPage, append)];
}

const isFiltered = ({ modalities, cameras, start, end, zones, min_quality: least, persons }) =>
  [modalities, cameras, zones, persons].some((each) => each.length) || start || end || least !== null;

/** Which filters are set, but count only once one searches. */
function uncounted({ time_of_day: hours, persons }) {
  const told = [hours ? "time of day" : null, persons.length > 1 ? `person other than ${persons[0]}` : null];
  const names = told.filter(Boolean).join(" and ");
  return names ? h("p", { class: "small muted" }, `Not counted here, only in a search: ${names}.`) : null;
}

/**
 * The answers of a search, and what is told of them.
 * @param {object} result - Of the search.
 * @param {object} state - Grouping and marks.
 * @param {{change: Function, changeFilters: Function, toggle: Function}} acts - What can be done with them.
 */
export function found(result, state, { change, changeFilters, toggle }) {
  const number = result.answers.length;
  const more = number === state.top && state.top < MOST;
  return [
    h(
      "div",
      { class: "row summary" },
      h("p", { class: "muted small grow told" }, number ? `${count(number, "answer")}. ` : "", result.explanation),
      number ? grouping(state, change) : null,
    ),
    number ? answers(result, state, toggle) : nothing(result, changeFilters),
    more
      ? h(
          "p",
          { class: "more-answers" },
          button(null, "Show more", () => change({ top: Math.min(state.top * 2, MOST) })),
        )
      : null,
  ];
}

function grouping(state, change) {
  const group = h(
    "select",
    {
      class: "grouping",
      "aria-label": "Group by",
      on: { change: () => change({ group: group.value }, { search: false, instead: true }) },
    },
    Object.entries(GROUPINGS).map(([value, text]) => h("option", { value }, text)),
  );
  group.value = state.group;
  return group;
}

function answers(result, state, toggle) {
  return groups(result.answers, state.group).map(({ title, beside, members }) =>
    h(
      "section",
      { class: "group" },
      title ? h("h2", {}, title, beside, h("span", { class: "muted small" }, count(members.length, "answer"))) : null,
      h(
        "ul",
        { class: "grid", "aria-label": title || "Answers, best first" },
        members.map((each) => h("li", {}, card(each, state, toggle))),
      ),
    ),
  );
}

function groups(found, group) {
  if (group === "rank") return [{ title: "", members: found }];
  const by = new Map();
  for (const each of found) {
    const hour = hourOf(each.start);
    const [key, title] =
      group === "modality"
        ? [each.modality, modalityText(each.modality)]
        : [`${each.camera_id} ${hour.key}`, `${each.camera_id} · ${hour.text}`];
    if (!by.has(key)) by.set(key, { key, title, beside: badge(each.modality), members: [] });
    by.get(key).members.push(each);
  }
  return [...by.values()].sort((a, b) => (group === "modality" ? 0 : a.key.localeCompare(b.key)));
}

function card(each, state, toggle) {
  const starred = state.stars.has(each.tracklet_id);
  const crossed = state.rejects.has(each.tracklet_id);
  const seconds = (new Date(each.end) - new Date(each.start)) / 1000;
  const beside = each.counterparts[0];
  const text = `Rank ${each.rank}, ${nameOf(each)}, ${Math.round(100 * each.probability)} %${starred ? ", starred" : ""}${crossed ? ", rejected" : ""}`;
  return h(
    "article",
    {
      class: `card answer${starred ? " starred" : ""}${crossed ? " rejected" : ""}`,
      dataset: { tracklet: each.tracklet_id },
    },
    h("span", { class: "rank", "aria-hidden": "true" }, each.rank),
    h(
      "div",
      { class: `pictures${beside ? " two" : ""}` },
      crop(bestOf(each), "", {
        tag: "a",
        href: href("tracklet", each.tracklet_id, { from: "search" }),
        "aria-label": text,
        class: "open",
        lazy: each.rank > IN_VIEW,
      }),
      beside
        ? h(
            "div",
            { class: "crop" },
            crop(media.counterpart(each.tracklet_id, beside.camera_id), `The same moment on ${nameOf(beside)}`),
            h("span", { class: "second" }, badge(beside.modality)),
          )
        : null,
    ),
    h(
      "div",
      { class: "words" },
      h("div", { class: "where" }, h("strong", {}, each.camera_id), badge(each.modality)),
      h(
        "div",
        { class: "row wrap tight small" },
        moment(each.start, { withDay: true, short: true }),
        h("span", { class: "grow" }),
        h("span", { class: "muted nowrap" }, duration(seconds)),
      ),
      chance(each.probability),
      h(
        "div",
        { class: "row small muted" },
        h(
          "span",
          { title: "cosine of the two vectors; to be compared within one pair of modalities only" },
          `cos ${each.cosine.toFixed(3).replace("-", "−")}`,
        ),
        h("span", { class: "grow" }),
        h("a", { href: href("persons", each.person), class: "small", title: `All of ${each.person}` }, each.person),
      ),
    ),
    h("details", { class: "small why" }, h("summary", {}, "Why"), h("p", {}, each.why)),
    h(
      "div",
      { class: "acts" },
      button("star", null, () => toggle("stars", each.tracklet_id), {
        class: "plain starring",
        title: "Same person (s)",
        "aria-label": `Star ${each.tracklet_id}`,
        "aria-pressed": String(starred),
      }),
      button("reject", null, () => toggle("rejects", each.tracklet_id), {
        class: "plain rejecting",
        title: "Somebody else (x)",
        "aria-label": `Reject ${each.tracklet_id}`,
        "aria-pressed": String(crossed),
      }),
      h("span", { class: "grow" }),
      h(
        "a",
        {
          class: "button plain small",
          href: href("tracklet", each.tracklet_id, { from: "search" }),
          tabindex: -1,
          "aria-hidden": "true",
        },
        "Open",
      ),
    ),
  );
}

/** Nothing passed: which filter removed how many, and a way out of each. */
function nothing(result, change) {
  const total = result.searched + Object.values(result.excluded_by).reduce((sum, each) => sum + each, 0);
  const removed = Object.entries(result.excluded_by).filter(([, number]) => number > 0);
  return h(
    "section",
    { class: "explain", "aria-label": "Why there is no answer" },
    h("h2", {}, total ? "Nobody passed the filters" : "The gallery is empty"),
    h(
      "p",
      { class: "muted" },
      total
        ? `${count(total, "tracklet")} in the gallery, ${result.searched} compared. One that several filters would remove counts for the first.`
        : "No tracklet was accepted yet. They come here as the cameras see people.",
    ),
    removed.length
      ? h(
          "div",
          { class: "removed" },
          removed.map(([name, number]) => {
            const known = REMOVALS[name] ?? { text: name };
            return [
              h("span", {}, `${number} by ${known.text}`),
              h("span", { class: "track", vars: { share: (number / total).toFixed(3) } }),
              known.without
                ? button(null, "Without it", () => change(known.without), { class: "small" })
                : h("span", {}),
            ];
          }),
        )
      : null,
    result.below_threshold
      ? h(
          "p",
          {},
          `${result.below_threshold} of the nearest are less alike than the chosen share of strangers asks for.`,
        )
      : null,
    result.too_soon
      ? h("p", {}, `${result.too_soon} of the likeliest came too soon for the ways between the cameras.`)
      : null,
  );
}
