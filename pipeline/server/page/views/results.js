// Answers of a search as cards, grouped; and, where there are none, which filter removed how many.
import { media } from "../api.js";
import { h } from "../dom.js";
import { icon } from "../icons.js";
import { badge, bestOf, chance, count, crop, modalityText, nameOf } from "../parts.js";
import { href } from "../route.js";
import { duration, hourOf, moment } from "../times.js";
import { REMOVALS } from "./asked.js";

/**
 * All answers.
 * @param {object} result - Of the search.
 * @param {object} state - Grouping and marks.
 * @param {{star: Function, cross: Function}} marks - Called with an answer.
 */
export function answers(result, state, marks) {
  return groups(result.answers, state.group).map(({ title, beside, members }) =>
    h(
      "section",
      { class: "group" },
      title ? h("h2", {}, title, beside, h("span", { class: "muted small" }, count(members.length, "answer"))) : null,
      h(
        "ul",
        { class: "grid", "aria-label": title || "Answers, best first" },
        members.map((each) => h("li", {}, card(each, state, marks))),
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

function card(each, state, marks) {
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
        lazy: each.rank > 12,
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
        { class: "small" },
        moment(each.start, { withDay: true }),
        h("span", { class: "muted" }, ` · ${duration(seconds)}`),
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
      toggle("star", "starring", starred, `Star ${each.tracklet_id}`, "Same person (s)", () => marks.star(each)),
      toggle("reject", "rejecting", crossed, `Reject ${each.tracklet_id}`, "Somebody else (x)", () =>
        marks.cross(each),
      ),
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

function toggle(sign, name, pressed, label, title, run) {
  return h(
    "button",
    {
      type: "button",
      class: `plain icon-only ${name}`,
      "aria-pressed": String(pressed),
      "aria-label": label,
      title,
      on: { click: run },
    },
    icon(sign),
  );
}

/** Nothing passed: which filter removed how many, and a way out of each. */
export function nothing(result, change) {
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
                ? h(
                    "button",
                    { type: "button", class: "small", on: { click: () => change(known.without) } },
                    "Without it",
                  )
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
  );
}
