// Filters as chips: each says what it is set to, opens below itself, and is taken off with its cross.
import { h } from "../dom.js";
import { icon } from "../icons.js";
import { badge, menu, modalities, shortModality } from "../parts.js";
import { clockName, shortClock, shortDay, timeField, zoneAt } from "../times.js";

const NIGHT = "20:00-06:00";
const DAY = "06:00-20:00";
let folded = true; // on a phone: only what is set is shown

/**
 * A row of chips.
 * @param {object} state - As `asked.read` gives it.
 * @param {{cameras: object[]}} site - Whose cameras and zones can be chosen.
 * @param {function(object): void} change - Called with what changes of the state.
 */
export function chips(state, site, change) {
  const { filters } = state;
  const set = (some) => change({ filters: { ...filters, ...some } });
  const zones = [...new Set(site.cameras.flatMap((camera) => camera.zones))].sort();
  const row = h(
    "div",
    { class: `chips${folded ? " folded" : ""}`, role: "group", "aria-label": "Filters" },
    h(
      "button",
      {
        type: "button",
        class: "chip folding",
        "aria-expanded": String(!folded),
        on: {
          click: (event) => {
            folded = !folded;
            row.classList.toggle("folded", folded);
            event.currentTarget.setAttribute("aria-expanded", String(!folded));
          },
        },
      },
      icon("filter"),
      "Filters",
    ),
    chip(
      "Time",
      spanText(filters),
      (close) => timeForm(filters, set, close),
      () => set({ start: null, end: null }),
    ),
    chip(
      "Time of day",
      filters.time_of_day,
      (close) => hoursForm(filters, set, close),
      () => set({ time_of_day: null }),
    ),
    chip(
      "Modality",
      filters.modalities.map(shortModality).join(", "),
      (close) => modalityForm(filters, set, close),
      () => set({ modalities: [] }),
    ),
    chip(
      "Camera",
      filters.cameras.join(", "),
      (close) =>
        choices(
          site.cameras.map((camera) => camera.camera_id),
          filters.cameras,
          (cameras) => set({ cameras }),
          close,
          (name) => badge(site.cameras.find((camera) => camera.camera_id === name).modality),
        ),
      () => set({ cameras: [] }),
    ),
    zones.length
      ? chip(
          "Zone",
          filters.zones.join(", "),
          (close) => choices(zones, filters.zones, (some) => set({ zones: some }), close),
          () => set({ zones: [] }),
        )
      : null,
    chip(
      "Quality",
      filters.min_quality === null ? "" : `at least ${Math.round(filters.min_quality * 100)} %`,
      (close) => qualityForm(filters, set, close),
      () => set({ min_quality: null }),
    ),
    chip(
      "Person",
      filters.persons.join(", "),
      (close) => personForm(filters, set, close),
      () => set({ persons: [] }),
    ),
    h(
      "button",
      {
        type: "button",
        class: `chip${filters.include_own ? " set" : ""}`,
        "aria-pressed": String(filters.include_own),
        dataset: { name: "Own appearance" },
        title: "Also the query itself, and whom its camera saw at the same moment",
        on: { click: () => set({ include_own: !filters.include_own }) },
      },
      filters.include_own ? "With own appearance" : "Without own appearance",
    ),
    chip(
      "More",
      moreText(state),
      (close) => moreForm(state, change, close),
      () => change({ rerank: null, false_match_rate: null }),
    ),
  );
  return row;
}

function chip(name, value, build, clear) {
  const button = h(
    "button",
    { type: "button", class: `chip${value ? " set" : ""}`, dataset: { name } },
    value ? [h("span", { class: "unseen" }, "Filter "), `${name}: ${value}`] : name,
    value ? null : icon("down"),
  );
  const anchor = menu(button, build);
  if (!value) return anchor;
  return h(
    "span",
    { class: "chip-pair" },
    anchor,
    h(
      "button",
      { type: "button", class: "chip set", "aria-label": `Remove filter ${name}`, on: { click: clear } },
      icon("reject"),
    ),
  );
}

function spanText({ start, end }) {
  const text = (when) => `${shortDay(when)} ${shortClock(when)} ${zoneAt(when)}`;
  if (start && end) return `${text(start)} – ${text(end)}`;
  return start ? `from ${text(start)}` : end ? `to ${text(end)}` : "";
}

function moreText({ rerank, false_match_rate: fmr }) {
  return [
    rerank === true ? "re-ranked" : rerank === false ? "not re-ranked" : "",
    fmr ? `1 in ${Math.round(1 / fmr)} strangers` : "",
  ]
    .filter(Boolean)
    .join(", ");
}

function form(apply, ...children) {
  return h(
    "form",
    {
      class: "stack",
      on: {
        submit: (event) => {
          event.preventDefault();
          apply();
        },
      },
    },
    children,
    h("button", { type: "submit", class: "main" }, "Apply"),
  );
}

function timeForm(filters, set, close) {
  const from = timeField(filters.start);
  const to = timeField(filters.end, { later: true });
  return form(
    () => {
      close();
      set({ start: from.read(), end: to.read() });
    },
    h("label", { class: "field" }, h("span", {}, `From, ${clockName()}`), from.input),
    h("label", { class: "field" }, h("span", {}, "To"), to.input),
  );
}

function hoursForm(filters, set, close) {
  const [first = "", last = ""] = (filters.time_of_day ?? "").split("-");
  const from = h("input", { type: "time", value: first, required: true });
  const to = h("input", { type: "time", value: last, required: true });
  const pick = (hours) => () => {
    close();
    set({ time_of_day: hours });
  };
  return [
    h(
      "div",
      { class: "row" },
      h("button", { type: "button", on: { click: pick(NIGHT) } }, icon("moon"), `Night ${NIGHT}`),
      h("button", { type: "button", on: { click: pick(DAY) } }, icon("sun"), "Day"),
    ),
    form(
      () => {
        close();
        set({ time_of_day: `${from.value}-${to.value}` });
      },
      h(
        "div",
        { class: "row" },
        h("label", { class: "field" }, h("span", {}, "From"), from),
        h("label", { class: "field" }, h("span", {}, "To"), to),
      ),
      h("p", { class: "muted small" }, "By the clock on the site's wall, every day; over midnight if need be."),
    ),
  ];
}

function modalityForm(filters, set, close) {
  const boxes = modalities.map((name) =>
    h("input", { type: "checkbox", value: name, checked: filters.modalities.includes(name) }),
  );
  return [
    h(
      "div",
      { class: "row" },
      h(
        "button",
        {
          type: "button",
          on: {
            click: () => {
              close();
              set({ modalities: ["nir", "thermal"] });
            },
          },
        },
        icon("moon"),
        "Infrared",
      ),
      h(
        "button",
        {
          type: "button",
          on: {
            click: () => {
              close();
              set({ modalities: ["rgb"] });
            },
          },
        },
        icon("sun"),
        "Colour",
      ),
    ),
    form(
      () => {
        close();
        set({ modalities: boxes.filter((box) => box.checked).map((box) => box.value) });
      },
      boxes.map((box) => h("label", { class: "tick" }, box, badge(box.value))),
    ),
  ];
}

function choices(names, chosen, apply, close, beside = () => null) {
  const boxes = names.map((name) => h("input", { type: "checkbox", value: name, checked: chosen.includes(name) }));
  return form(
    () => {
      close();
      apply(boxes.filter((box) => box.checked).map((box) => box.value));
    },
    h(
      "div",
      { class: "stack tight" },
      boxes.map((box) => h("label", { class: "tick" }, box, box.value, beside(box.value))),
    ),
  );
}

function qualityForm(filters, set, close) {
  const least = h("input", {
    type: "range",
    min: 0,
    max: 0.9,
    step: 0.1,
    value: filters.min_quality ?? 0,
    "aria-label": "Least quality",
  });
  const text = h("output", {}, `${Math.round(least.value * 100)} %`);
  least.addEventListener("input", () => {
    text.textContent = `${Math.round(least.value * 100)} %`;
  });
  return form(
    () => {
      close();
      set({ min_quality: Number(least.value) || null });
    },
    h("label", { class: "field" }, h("span", {}, "Best view at least as good as"), least),
    text,
  );
}

function personForm(filters, set, close) {
  const names = h("input", {
    type: "text",
    value: filters.persons.join(" "),
    placeholder: "P0007 P0012",
    pattern: "\\s*(P\\d{4,12}[\\s,]*)*",
    title: "people as P0007",
  });
  return form(
    () => {
      close();
      set({ persons: names.value.split(/[\s,]+/).filter(Boolean) });
    },
    h("label", { class: "field" }, h("span", {}, "Only given to"), names),
  );
}

function moreForm(state, change, close) {
  const order = h(
    "select",
    {},
    [
      ["", "as the site says"],
      ["1", "by common neighbours"],
      ["0", "by likeness alone"],
    ].map(([value, text]) => h("option", { value }, text)),
  );
  order.value = state.rerank === null ? "" : state.rerank ? "1" : "0";
  const strict = h(
    "select",
    {},
    [
      ["", "as the site says"],
      ["0.1", "1 in 10 strangers"],
      ["0.01", "1 in 100 strangers"],
      ["0.001", "1 in 1,000 strangers"],
    ].map(([value, text]) => h("option", { value }, text)),
  );
  strict.value = state.false_match_rate ?? "";
  return form(
    () => {
      close();
      change({
        rerank: order.value === "" ? null : order.value === "1",
        false_match_rate: strict.value ? Number(strict.value) : null,
      });
    },
    h("label", { class: "field" }, h("span", {}, "Order within a modality"), order),
    h("label", { class: "field" }, h("span", {}, "Leave out what as many strangers are alike to"), strict),
  );
}
