// What several views show: a modality, a crop, a probability, a card, a message, a question.
import { h, replace, say } from "./dom.js";
import { icon } from "./icons.js";
import { duration, moment } from "./times.js";
import { media, needsPurpose } from "./api.js";
import { href } from "./route.js";

const MODALITIES = {
  rgb: { icon: "sun", text: "RGB", long: "colour (RGB)" },
  nir: { icon: "moon", text: "NIR", long: "near infrared" },
  thermal: { icon: "flame", text: "Thermal", long: "thermal" },
};
export const modalities = Object.keys(MODALITIES);
export const shortModality = (name) => MODALITIES[name]?.text ?? name;
export const modalityText = (name) => MODALITIES[name]?.long ?? name;

/** A modality as colour, sign and word. */
export function badge(modality) {
  const known = MODALITIES[modality];
  return h(
    "span",
    { class: `badge ${modality}`, title: modalityText(modality) },
    known ? icon(known.icon) : null,
    known?.text ?? modality,
  );
}

/** A word about a state, in the colour of good, warn or bad. */
export const mark = (text, kind = "", title = null) => h("span", { class: `badge ${kind}`, title }, text);

/** A picture that may have aged away. */
export function crop(url, text, { tag = "span", class: name = "", lazy = true, ...given } = {}) {
  const holder = h(tag, { class: `crop ${name}`, ...given });
  if (!url) return replace(holder, h("span", { class: "gone" }, "picture aged away"));
  const image = h("img", {
    src: url,
    alt: text,
    loading: lazy ? "lazy" : null,
    decoding: "async",
    on: {
      error: () => replace(holder, h("span", { class: "gone" }, "no picture")),
    },
  });
  holder.append(image);
  return holder;
}

export const bestOf = (tracklet) => (tracklet.best_crop ? media.best(tracklet.tracklet_id) : null);
export const nameOf = (tracklet) => `${tracklet.camera_id}, ${modalityText(tracklet.modality)}`;

/** A probability as a number and a bar. */
export function chance(probability) {
  const text = probability > 0.995 ? "> 99 %" : probability < 0.005 ? "< 1 %" : `${Math.round(100 * probability)} %`;
  return h(
    "span",
    { class: "chance", title: `calibrated probability ${probability.toFixed(4)}` },
    h("span", {}, text),
    h("span", { class: "track", vars: { share: probability.toFixed(3) } }),
  );
}

/** A small card of a tracklet that leads to it, or does something else when `onPick` is given. */
export function tracklet(each, { onPick = null, picked = false, from = null, lazy = true } = {}) {
  const text = `${nameOf(each)}`;
  const inside = [
    h(
      "span",
      { class: "pictures" },
      crop(bestOf(each), "", { class: "badged", lazy }),
      h("span", { class: "on-picture" }, badge(each.modality)),
    ),
    h(
      "span",
      { class: "words" },
      h(
        "span",
        { class: "where" },
        h("strong", {}, each.camera_id),
        h("span", { class: "small muted nowrap" }, duration(each.seconds)),
      ),
      h("span", { class: "small muted" }, moment(each.start, { withDay: true, short: true })),
    ),
  ];
  const given = { class: `card small-card pick${picked ? " picked" : ""}`, "data-tracklet": each.tracklet_id };
  if (onPick) {
    return h(
      "button",
      {
        ...given,
        type: "button",
        "aria-label": `Choose ${text}`,
        "aria-pressed": String(picked),
        on: { click: () => onPick(each) },
      },
      inside,
    );
  }
  return h("a", { ...given, href: href("tracklet", each.tracklet_id, from ? { from } : {}) }, inside);
}

/** An error as the API tells it. */
export function problem(error) {
  return h(
    "div",
    { class: "problem", role: "alert" },
    h("strong", {}, error.title ?? "Something went wrong"),
    h("span", {}, error.detail ?? error.message ?? String(error)),
    (error.errors ?? []).map((each) => h("span", { class: "small" }, `${each.where.join(".")}: ${each.what}`)),
  );
}

/** What a check of a record or an export found to be otherwise than it was written. */
export function tampered(title, findings) {
  return h(
    "div",
    { class: "problem" },
    h("strong", {}, title),
    findings.map((text) => h("span", {}, text)),
  );
}

/** Close the errors that stand there. */
export function forgetErrors() {
  for (const each of document.querySelectorAll("#toasts .bad")) each.remove();
}

/** A message in the corner, with what can be done then; errors stay until they are closed, or another view is shown. */
export function toast(text, { kind = "", act = null } = {}) {
  const acts = [act].flat().filter(Boolean);
  const close = () => element.remove();
  const body =
    text instanceof Error ? [h("strong", {}, text.title ?? "Error"), h("div", {}, text.detail ?? text.message)] : text;
  const element = h(
    "div",
    { class: `toast ${text instanceof Error ? "bad" : kind}`, role: text instanceof Error ? "alert" : "status" },
    h("div", {}, body),
    acts.map((each) =>
      button(
        null,
        each.text,
        () => {
          close();
          each.run();
        },
        { class: "plain" },
      ),
    ),
    button("reject", null, close, { class: "plain", title: "Close message" }),
  );
  document.getElementById("toasts").append(element);
  if (!(text instanceof Error)) setTimeout(close, acts.length ? 9000 : 4500);
  return element;
}

/** Do it; when it fails, say why. Gives undefined then. */
export async function attempt(run) {
  try {
    return await run();
  } catch (error) {
    if (error.name !== "AbortError") toast(error);
    return undefined;
  }
}

/** A dialog; resolves to what `finish` was called with, null when it was left. */
export function ask(title, build, { labelled = null } = {}) {
  return new Promise((resolve) => {
    let answer = null;
    const before = document.activeElement;
    const finish = (value) => {
      answer = value;
      dialog.close();
    };
    const dialog = h("dialog", {
      "aria-label": labelled ?? title,
      on: {
        close: () => {
          dialog.remove();
          before?.focus?.();
          resolve(answer);
        },
      },
    });
    dialog.append(
      h(
        "div",
        { class: "head" },
        h("h2", {}, title),
        h("span", { class: "grow" }),
        button("reject", null, () => finish(null), { class: "plain", title: "Close" }),
      ),
      build(finish),
    );
    document.body.append(dialog);
    dialog.showModal();
    (dialog.querySelector("[autofocus]") ?? dialog.querySelector("input, select, textarea, .main") ?? dialog).focus();
  });
}

/** A button with an icon and words; without words, `title` is what it is called. */
export function button(sign, words, run, { class: name = null, title = null, ...given } = {}) {
  return h(
    "button",
    {
      type: "button",
      class: `${name ?? ""}${words ? "" : " icon-only"}`.trim() || null,
      title,
      "aria-label": words ? null : title,
      ...given,
      on: { click: run },
    },
    sign ? icon(sign) : null,
    words,
  );
}

/** The case that this tab works on, as the API takes it: searches and decisions then belong to it. */
export function standingCase() {
  const name = sessionStorage.getItem("case");
  return name ? { case_id: name } : {};
}

/** Says in a dialog which case that is. */
export function forCase() {
  const { case_id: name } = standingCase();
  return name ? h("p", { class: "small muted" }, `It belongs to case ${name}, and stands in its evidence.`) : null;
}

/** A field for what something is done for: it stands in the audit. */
export const purposeField = (value = sessionStorage.getItem("purpose") ?? "", given = {}) =>
  h("input", {
    type: "text",
    maxlength: 2000,
    placeholder: needsPurpose() ? "required here" : "stands in the audit",
    required: needsPurpose(),
    value,
    ...given,
  });

/** What such a field holds, as the API takes it. */
export const purposeOf = (field) => (field.value.trim() ? { purpose: field.value.trim() } : {});

export const field = (name, input) => h("label", { class: "field" }, h("span", {}, name), input);

/**
 * What is asked in a dialog: fields, then Cancel and the button that does it.
 * @param {Function} finish - Of the dialog; called with null, or with what `run` gives. When that fails it is said why.
 * @param {{yes: string, run: Function, danger: boolean, at: boolean}} how - `at`: whether the button has the focus.
 */
export function questions(finish, { yes, run, danger = false, at = false }, ...fields) {
  const place = h("div", {});
  const submit = async (event) => {
    event.preventDefault();
    try {
      finish(await run());
    } catch (error) {
      replace(place, problem(error));
    }
  };
  return h(
    "form",
    { class: "stack loose", on: { submit } },
    fields,
    place,
    h(
      "div",
      { class: "foot" },
      button(null, "Cancel", () => finish(null)),
      h("button", { type: "submit", class: danger ? "main danger-main" : "main", autofocus: at }, yes),
    ),
  );
}

/** Ask yes or no, with a purpose that goes into the audit; gives `{}`, or purpose and case, or null for no. */
export function confirmed(title, text, { yes = "Do it", danger = false, purpose = false } = {}) {
  return ask(title, (finish) => {
    const why = purpose ? purposeField() : null;
    const run = () => (why ? { ...purposeOf(why), ...standingCase() } : {});
    const asked = why ? [field("Purpose", why), forCase()] : null;
    return questions(finish, { yes, run, danger }, h("p", {}, text), asked);
  });
}

/**
 * The rest of a list, page by page, behind a button.
 * @param {object} first - Page of the API.
 * @param {Function} fetchPage - Gives the page that a cursor begins.
 * @param {Function} append - Takes items in; called with those of the first page at once.
 */
export function pages(first, fetchPage, append, text = "Show more") {
  const place = h("p", { class: "more-answers" });
  const more = async (cursor) => {
    const next = await attempt(() => fetchPage(cursor));
    if (next) show(next);
    place.querySelector("button")?.focus({ preventScroll: true });
  };
  const show = ({ items, next }) => {
    append(items);
    replace(place, next ? button(null, text, () => more(next)) : null);
  };
  show(first);
  return place;
}

/** While something is fetched. */
export const waiting = (text = "Loading …") => h("p", { class: "empty" }, text);

/** Something that can be opened below a button; it closes on Escape and on a click elsewhere. */
export function menu(button, build) {
  const anchor = h("span", { class: "menu-anchor" }, button);
  let open = null;
  const close = (back = true) => {
    if (!open) return;
    open.remove();
    open = null;
    button.setAttribute("aria-expanded", "false");
    removeEventListener("pointerdown", outside, true);
    if (back) button.focus();
  };
  const outside = (event) => {
    if (!anchor.contains(event.target)) close(false);
  };
  button.setAttribute("aria-expanded", "false");
  button.setAttribute("aria-haspopup", "dialog");
  button.addEventListener("click", () => {
    if (open) return close();
    open = h(
      "div",
      { class: "popover", role: "dialog", "aria-label": button.dataset.name ?? button.textContent },
      build(close),
    );
    open.addEventListener("keydown", (event) => {
      if (event.key === "Escape") {
        event.stopPropagation();
        close();
      }
    });
    anchor.append(open);
    button.setAttribute("aria-expanded", "true");
    const over = open.getBoundingClientRect().right - (document.documentElement.clientWidth - 12);
    if (over > 0) open.style.setProperty("left", `${-over}px`);
    open.querySelector("input, select, button")?.focus();
    addEventListener("pointerdown", outside, true);
  });
  return anchor;
}

/** Bytes as people say them. */
export function size(bytes) {
  const steps = ["B", "kB", "MB", "GB", "TB"];
  let at = 0;
  let value = bytes;
  while (value >= 1000 && at < steps.length - 1) {
    value /= 1000;
    at += 1;
  }
  return `${value >= 100 || at === 0 ? Math.round(value) : value.toFixed(1)} ${steps[at]}`;
}

export const count = (number, one, many = `${one}s`) =>
  `${number.toLocaleString("en-GB")} ${number === 1 ? one : many}`;

export { say };
