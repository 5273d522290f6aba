// The query: what it is, what it shows and how well, before anything is searched for.
import { api, Problem } from "../api.js";
import { h } from "../dom.js";
import { icon } from "../icons.js";
import { attempt, badge, crop, mark, modalities, modalityText } from "../parts.js";
import { href } from "../route.js";
import { moment } from "../times.js";
import { textOf } from "./asked.js";

const GONE = new Problem({
  title: "No longer kept",
  detail: "Uploads are kept for some minutes only. Drop the picture again.",
  status: 404,
});
const seen = new Map(); // example as text -> preview, or the error instead of it
const files = new Map(); // query id -> the file it was made of

/** What a search with this example would be made with; asked for once. */
export async function previewOf(example) {
  const key = textOf(example);
  if (!seen.has(key)) {
    seen.set(
      key,
      api.preview(example).catch((error) => {
        seen.delete(key);
        return { error: example.query_id && error.status === 404 ? GONE : error };
      }),
    );
  }
  return seen.get(key);
}

/** Upload a picture; gives the example. Modality and `whole` are asked for where the picture does not tell. */
export async function upload(file, given = {}) {
  const preview = await api.upload(file, given);
  const example = { query_id: preview.query_id };
  seen.set(textOf(example), Promise.resolve(preview));
  files.set(preview.query_id, { file, given: { modality: preview.modality, whole: preview.people === null } });
  return example;
}

/** One example as the panel shows it. */
export function shownExample(example, preview, { against = false, remove, change }) {
  const removal = h(
    "button",
    {
      type: "button",
      class: "plain icon-only",
      "aria-label": `Remove ${preview.description ?? "example"}`,
      title: "Remove",
      on: { click: remove },
    },
    icon("reject"),
  );
  if (preview.error) {
    return h(
      "li",
      { class: "example" },
      h("span", { class: "crop" }),
      h(
        "div",
        { class: "about" },
        h("strong", {}, preview.error.title),
        h("span", { class: "small" }, preview.error.detail),
      ),
      removal,
    );
  }
  const place = example.tracklet_id
    ? h("a", { href: href("tracklet", example.tracklet_id, { from: "search" }) }, preview.camera_id)
    : h("strong", {}, preview.camera_id ?? "Uploaded picture");
  return h(
    "li",
    { class: "example", dataset: { example: textOf(example) } },
    crop(preview.crop, `Example: ${preview.description}`, { lazy: false, class: against ? "against" : "" }),
    h(
      "div",
      { class: "about" },
      place,
      h(
        "span",
        { class: "row wrap" },
        badge(preview.modality),
        verdict(preview.quality),
        against ? mark("not this person", "bad") : null,
      ),
      preview.start ? h("span", { class: "small muted" }, moment(preview.start, { withDay: true })) : null,
      h(
        "span",
        { class: "small muted" },
        `${preview.quality.width_px} × ${preview.quality.height_px} px${preview.quality.night ? ", night" : ""}`,
      ),
      preview.quality.warnings.map((text) => h("span", { class: "small warning" }, text)),
      files.has(example.query_id) ? corrections(example, preview, change) : null,
    ),
    removal,
  );
}

/** How good a picture is, in a word. */
export function verdict(quality) {
  const kinds = { good: "good", fair: "warn", poor: "bad" };
  const details = [
    `blur ${Math.round(quality.blur * 100)} %`,
    quality.truncated ? "cut by the border" : null,
    quality.night ? "night" : null,
  ]
    .filter(Boolean)
    .join(", ");
  return mark(`${quality.verdict} quality`, kinds[quality.verdict], details);
}

/** An upload may show something else than was guessed. */
function corrections(example, preview, change) {
  const { file, given } = files.get(example.query_id);
  const again = async (more) => {
    const made = await attempt(() => upload(file, { ...given, ...more }));
    if (made) change(made);
  };
  const shows = h(
    "select",
    { "aria-label": "The picture shows", on: { change: () => again({ modality: shows.value }) } },
    modalities.map((name) => h("option", { value: name }, modalityText(name))),
  );
  shows.value = preview.modality;
  const whole = h("input", {
    type: "checkbox",
    checked: given.whole,
    on: { change: () => again({ whole: whole.checked }) },
  });
  return h(
    "details",
    { class: "small corrections" },
    h("summary", {}, "Not right?"),
    h(
      "div",
      { class: "stack" },
      shows,
      h("label", { class: "tick" }, whole, "one person, whole picture"),
      preview.people > 1 ? h("p", {}, `${preview.people} people were found; the largest was taken.`) : null,
    ),
  );
}
