// Timeline: one lane a camera, everybody who was seen as a bar, one person's path across them.
import { all, api } from "../api.js";
import { h, replace, say, svg } from "../dom.js";
import { icon } from "../icons.js";
import * as keys from "../keys.js";
import { hear } from "../live.js";
import { attempt, badge, bestOf, count, crop, menu, modalityText } from "../parts.js";
import { go, href } from "../route.js";
import {
  clock,
  clockName,
  day,
  duration,
  moment,
  shortClock,
  shortDay,
  timeField,
  toField,
  wallHour,
  zoneAt,
} from "../times.js";
import { searchFor } from "./asked.js";

const LANE = 46;
const HEAD = 30;
const ROWS = 3;
const MOST = 3000;
const LEAST_SPAN = 10_000; // ms
const FOLD = 0.06; // of the span: where nobody was seen for longer, the time is folded
const FOLDED = 40; // pixels of a fold
const LEAST_SHARE = 0.14; // of the width, for whatever lies between two folds
const STEPS = [
  1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400, 172800, 604800, 2592000,
].map((each) => each * 1000);

export async function show({ root, params, current }) {
  const cameras = await api.cameras();
  const person = params.get("person");
  const details = person ? await api.person(person) : null;
  if (!current()) return undefined;
  const extent = extentOf(
    details
      ? details.path
      : cameras.filter((camera) => camera.first).map((camera) => ({ start: camera.first, end: camera.last })),
  );
  let span = spanOf(params, extent);
  let folding = !params.has("from") || params.has("folded");
  let found = { items: withPath([]), more: false, known: null }; // `known`: the span of which everybody is there
  let failed = false;
  let chosen = params.get("tracklet");
  let asked = 0;

  const drawing = svg("svg", { role: "group", "aria-label": "Lanes of the cameras" });
  const lanes = h("div", { class: "lanes" }, drawing);
  const told = h("p", { class: "small muted told" });
  const peek = h("section", { class: "panel peeking", "aria-label": "Chosen tracklet" });
  const title = h("span", { class: "span" });
  const fold = h(
    "button",
    { type: "button", title: "Leave out times when nobody was seen (z)", on: { click: () => jump(span, !folding) } },
    "Fold empty time",
  );
  const button = (name, text, run, sign = null) =>
    h(
      "button",
      {
        type: "button",
        class: sign ? "icon-only" : "",
        title: text,
        "aria-label": sign ? text : null,
        on: { click: run },
      },
      sign ? icon(sign) : name,
    );
  const when = h("button", { type: "button", class: "chip", dataset: { name: "Span" } }, title, icon("down"));
  replace(
    root,
    h(
      "div",
      { class: "head" },
      h("h1", {}, "Timeline"),
      details
        ? [
            h("a", { class: "badge", href: href("persons", person) }, person),
            h(
              "button",
              {
                type: "button",
                class: "plain icon-only",
                "aria-label": `Show everybody, not only ${person}`,
                on: { click: () => go(href("timeline")) },
              },
              icon("reject"),
            ),
          ]
        : null,
      h("span", { class: "grow" }),
      menu(when, (close) =>
        spanForm(span, (next) => {
          close();
          jump(next);
        }),
      ),
      h(
        "span",
        { class: "row wrap" },
        button("", "Earlier (h)", () => pan(-0.5), "back"),
        button("", "Later (l)", () => pan(0.5), "next"),
        button("−", "Zoom out (-)", () => zoom(2)),
        button("+", "Zoom in (+)", () => zoom(0.5)),
        button("All", "Everything (0)", () => jump(extent, true)),
        fold,
      ),
    ),
    h("div", { class: "stack loose" }, lanes, told, peek),
  );

  function jump(next, folded = false) {
    folding = folded;
    const middle = (next[0] + next[1]) / 2;
    const half = Math.max(next[1] - next[0], LEAST_SPAN) / 2;
    span = [Math.round(middle - half), Math.round(middle + half)];
    keep();
    draw();
    fetchSoon();
  }
  const pan = (share) => jump(span.map((each) => each + share * (span[1] - span[0])));
  function zoom(factor, around = null) {
    const bar = found.items.find((each) => each.tracklet_id === chosen);
    const at =
      around ??
      (bar && Date.parse(bar.start) >= span[0] && Date.parse(bar.start) <= span[1]
        ? Date.parse(bar.start)
        : (span[0] + span[1]) / 2);
    jump([at - (at - span[0]) * factor, at + (span[1] - at) * factor]);
  }
  const keep = () =>
    go(
      href("timeline", "", {
        person,
        from: new Date(span[0]).toISOString(),
        to: new Date(span[1]).toISOString(),
        tracklet: chosen,
        folded: folding,
      }),
      { quietly: true, instead: true },
    );

  let timer = null;
  function fetchSoon() {
    clearTimeout(timer);
    timer = setTimeout(load, 120);
  }
  async function load() {
    const mine = ++asked;
    const margin = (span[1] - span[0]) * 0.5;
    const wanted = [span[0] - margin, span[1] + margin];
    const [from, to] = wanted.map((each) => new Date(each).toISOString());
    const fresh = await attempt(() => all(api.tracklets, { from, to, limit: 500 }, MOST));
    if (mine !== asked || !current()) return;
    failed = !fresh;
    if (fresh) found = { items: withPath(fresh.items), more: fresh.more, known: fresh.more ? null : wanted };
    draw();
  }

  /** Everybody, and the person whose path is shown, however many others were seen since. */
  function withPath(items) {
    const known = new Set(items.map((each) => each.tracklet_id));
    return [...items, ...(details?.path ?? []).filter((each) => !known.has(each.tracklet_id))];
  }

  /** Whether everybody who was seen in the span is there. */
  const isWhole = () => found.known !== null && found.known[0] <= span[0] && span[1] <= found.known[1];

  function draw() {
    const width = Math.max(lanes.clientWidth, 280);
    const label = width < 560 ? 0 : 132;
    const laneHeight = label ? LANE : LANE + 16;
    const height = HEAD + cameras.length * laneHeight + 6;
    const had = drawing.contains(document.activeElement);
    drawing.setAttribute("viewBox", `0 0 ${width} ${height}`);
    drawing.setAttribute("height", height);
    const inSpan = found.items.filter((each) => Date.parse(each.end) >= span[0] && Date.parse(each.start) <= span[1]);
    const rowOf = rows(inSpan);
    const folds = folding && isWhole(); // what was not fetched is not empty
    const scale = scaleOf(span, folds ? inSpan : [], label, width);
    const { x } = scale;
    fold.setAttribute("aria-pressed", String(folds));
    const top = (camera) => HEAD + cameras.findIndex((each) => each.camera_id === camera) * laneHeight;
    const barTop = (each) => top(each.camera_id) + (label ? 8 : 24) + rowOf.get(each.tracklet_id) * 11;
    replace(
      drawing,
      scale.parts.map((part) => [nights(part, x, height), ticks(part, x, height)]),
      scale.folds.map((each) => folded(each, height)),
      cameras.map((camera) => lane(camera, top(camera.camera_id), { label, width })),
      inSpan.map((each) => bar(each, { x, top: barTop(each), label, width })),
      details
        ? path(details, {
            x,
            middle: (each) => top(each.camera_id) + (label ? 8 : 24) + 5,
            label,
            drawn: inSpan,
            barTop,
          })
        : null,
    );
    title.textContent = spanText(span);
    told.textContent = toldOf(inSpan.length);
    if (had || chosen) focusChosen(had);
    drawPeek();
  }

  function toldOf(number) {
    const capped = details && !details.path_complete ? ` The path is that of the first 1,000 stays of ${person}.` : "";
    const seen = `${count(number, "tracklet")} in view`;
    if (isWhole()) return `${number ? `${seen}.` : "Nobody was seen in this span."}${capped}`;
    if (failed) return `${seen}; whoever else was seen could not be fetched.${capped}`;
    if (found.more) return `${seen}, and more: zoom in to see all, and to fold what is empty.${capped}`;
    return "Loading …";
  }

  function bar(each, { x, top, label, width }) {
    const left = Math.max(x(each.start), label);
    const right = Math.min(x(each.end), width);
    const other = person && each.person !== person;
    return svg(
      "a",
      {
        href: href("tracklet", each.tracklet_id, { from: "timeline" }),
        class: `bar-of${other ? " other" : ""}`,
        tabindex: each.tracklet_id === chosen ? 0 : -1,
        "data-tracklet": each.tracklet_id,
        "aria-label": `${each.camera_id}, ${clock(each.start)}, ${each.person ?? "nobody"}`,
        on: {
          click: (event) => {
            if (event.detail > 0 && !event.ctrlKey && !event.metaKey) {
              event.preventDefault();
              choose(each.tracklet_id);
            }
          },
          dblclick: () => go(href("tracklet", each.tracklet_id, { from: "timeline" })),
          focus: () => choose(each.tracklet_id, false),
        },
      },
      svg("rect", {
        class: `seen bar-${each.modality}`,
        x: left,
        y: top,
        width: Math.max(right - left, 4),
        height: 9,
        rx: 2.5,
      }),
      svg("title", {}, `${each.camera_id}, ${clock(each.start)}, ${each.person ?? ""}`),
    );
  }

  function choose(name, focus = true) {
    if (chosen === name && !focus) return;
    chosen = name;
    keep();
    for (const link of drawing.querySelectorAll("a"))
      link.setAttribute("tabindex", link.dataset.tracklet === name ? 0 : -1);
    if (focus) focusChosen(true);
    drawPeek();
  }
  function focusChosen(really) {
    const link = drawing.querySelector(`a[data-tracklet="${CSS.escape(chosen ?? "")}"]`) ?? drawing.querySelector("a");
    if (!link) return;
    link.setAttribute("tabindex", 0);
    if (really && document.activeElement !== link) link.focus({ preventScroll: true });
  }

  function drawPeek() {
    const each = found.items.find((item) => item.tracklet_id === chosen);
    if (!each) return replace(peek, h("p", { class: "muted" }, "Choose a bar: j and k go through them, Enter opens."));
    return replace(
      peek,
      h(
        "div",
        { class: "peek" },
        crop(bestOf(each), `${each.camera_id}, ${modalityText(each.modality)}`, { lazy: false }),
        h(
          "div",
          { class: "stack" },
          h(
            "div",
            { class: "row wrap" },
            h("strong", {}, each.camera_id),
            badge(each.modality),
            each.person ? h("a", { href: href("persons", each.person) }, each.person) : null,
          ),
          h("div", { class: "muted" }, moment(each.start, { withDay: true }), ` · ${duration(each.seconds)}`),
          h(
            "div",
            { class: "row wrap" },
            h(
              "a",
              { class: "button", href: href("tracklet", each.tracklet_id, { from: "timeline" }) },
              icon("play"),
              "Open",
            ),
            h("a", { class: "button", href: searchFor(each.tracklet_id) }, icon("search"), "Find this person"),
            each.person && each.person !== person
              ? h(
                  "a",
                  { class: "button", href: href("timeline", "", { person: each.person, tracklet: each.tracklet_id }) },
                  icon("timeline"),
                  `Path of ${each.person}`,
                )
              : null,
          ),
        ),
      ),
    );
  }

  function through(by) {
    const shown = found.items
      .filter(
        (each) =>
          (!person || each.person === person) && Date.parse(each.end) >= span[0] && Date.parse(each.start) <= span[1],
      )
      .sort((a, b) => Date.parse(a.start) - Date.parse(b.start));
    if (!shown.length) return;
    const at = shown.findIndex((each) => each.tracklet_id === chosen);
    const next = shown[at < 0 ? 0 : Math.min(Math.max(at + by, 0), shown.length - 1)];
    choose(next.tracklet_id);
    say(`${next.camera_id}, ${clock(next.start)}, ${next.person ?? ""}`);
  }

  keys.here([
    { keys: ["j", "ArrowRight"], text: "Next tracklet", run: () => through(1) },
    { keys: ["k", "ArrowLeft"], text: "Previous tracklet", run: () => through(-1) },
    {
      keys: ["Enter"],
      text: "Open it",
      run: () => {
        if (document.activeElement.matches("a, button, summary")) return false;
        if (chosen) go(href("tracklet", chosen, { from: "timeline" }));
        return undefined;
      },
    },
    { keys: ["+", "="], text: "Zoom in", run: () => zoom(0.5) },
    { keys: ["-"], text: "Zoom out", run: () => zoom(2) },
    { keys: ["h"], text: "Earlier", run: () => pan(-0.5) },
    { keys: ["l"], text: "Later", run: () => pan(0.5) },
    { keys: ["0"], text: "Everything", run: () => jump(extent, true) },
    { keys: ["z"], text: "Fold empty time", run: () => jump(span, !folding) },
    {
      keys: ["t"],
      text: "Path of this person",
      run: () => {
        const each = found.items.find((item) => item.tracklet_id === chosen);
        if (each?.person) go(href("timeline", "", { person: each.person, tracklet: chosen }));
      },
    },
  ]);

  drag(
    drawing,
    () => span,
    (next) => {
      folding = false;
      span = next;
      draw();
    },
    () => {
      keep();
      load();
    },
  );
  drawing.addEventListener(
    "wheel",
    (event) => {
      if (!event.ctrlKey && !event.shiftKey) return;
      event.preventDefault();
      const box = drawing.getBoundingClientRect();
      zoom(
        (event.deltaY || event.deltaX) > 0 ? 1.3 : 0.77,
        span[0] + ((event.clientX - box.left) / box.width) * (span[1] - span[0]),
      );
    },
    { passive: false },
  );
  const resized = new ResizeObserver(() => draw());
  resized.observe(lanes);
  const silence = hear("tracklet", (each) => {
    if (Date.parse(each.end) >= span[0] && Date.parse(each.start) <= span[1]) fetchSoon();
  });
  await load();
  return {
    dispose: () => {
      silence();
      resized.disconnect();
      clearTimeout(timer);
    },
  };
}

function extentOf(stays) {
  if (!stays.length) return [Date.now() - 3600_000, Date.now()];
  const first = Math.min(...stays.map((each) => Date.parse(each.start)));
  const last = Math.max(...stays.map((each) => Date.parse(each.end)));
  const margin = Math.max((last - first) * 0.03, 5000);
  return [first - margin, last + margin];
}

function spanOf(params, extent) {
  const [from, to] = [Date.parse(params.get("from")), Date.parse(params.get("to"))];
  return from < to ? [from, to] : extent;
}

function spanText([from, to]) {
  const inDays = to - from > 172_800_000;
  if (inDays) return `${shortDay(from)} – ${day(to)}`;
  const [begin, end] = [from, to].map((at) => `${shortClock(at)}${zoneAt(from) === zoneAt(to) ? "" : ` ${zoneAt(at)}`}`);
  const zone = zoneAt(from) === zoneAt(to) ? ` ${zoneAt(to)}` : "";
  return shortDay(from) === shortDay(to)
    ? `${day(from)}, ${begin} – ${end}${zone}`
    : `${shortDay(from)} ${begin} – ${shortDay(to)} ${end}${zone}`;
}

function spanForm(span, apply) {
  const from = timeField(span[0], { required: true });
  const to = timeField(span[1], { later: true, required: true });
  const run = (event) => {
    event.preventDefault();
    const next = [from, to].map((each) => new Date(each.read()).getTime());
    if (next[0] < next[1]) apply(next);
    else {
      to.input.setCustomValidity("must be after the start");
      to.input.reportValidity();
    }
  };
  to.input.addEventListener("input", () => to.input.setCustomValidity(""));
  return h(
    "form",
    { class: "stack", on: { submit: run } },
    h("label", { class: "field" }, h("span", {}, `From, ${clockName()}`), from.input),
    h("label", { class: "field" }, h("span", {}, "To"), to.input),
    h("button", { type: "submit", class: "main" }, "Show"),
  );
}

/** Rows within a lane, so that those who were seen at once do not cover each other. */
function rows(items) {
  const ends = new Map();
  const found = new Map();
  for (const each of [...items].sort((a, b) => Date.parse(a.start) - Date.parse(b.start))) {
    const own = ends.get(each.camera_id) ?? new Array(ROWS).fill(-Infinity);
    let row = own.findIndex((end) => end <= Date.parse(each.start));
    if (row < 0) row = own.indexOf(Math.min(...own));
    own[row] = Date.parse(each.end);
    ends.set(each.camera_id, own);
    found.set(each.tracklet_id, row);
  }
  return found;
}

/**
 * Where moments lie: parts of the span beside each other, and folds between them where nobody was seen for long.
 * @returns {{x: function(string): number, parts: object[], folds: object[]}}
 */
function scaleOf(span, items, label, width) {
  const parts = seenParts(span, items).map(([from, to]) => ({ from, to }));
  const room = width - label - FOLDED * (parts.length - 1);
  const least = Math.min(LEAST_SHARE, 1 / parts.length);
  const total = parts.reduce((sum, part) => sum + part.to - part.from, 0);
  const shares = parts.map((part) => Math.max((part.to - part.from) / total, least));
  const sum = shares.reduce((all_, share) => all_ + share, 0);
  let left = label;
  parts.forEach((part, at) => {
    part.left = left;
    part.right = left + (room * shares[at]) / sum;
    left = part.right + FOLDED;
  });
  const folds = parts
    .slice(1)
    .map((part, at) => ({ left: parts[at].right, right: part.left, seconds: (part.from - parts[at].to) / 1000 }));
  const x = (when) => {
    const at = Date.parse(when);
    const next = parts.findIndex((part) => at <= part.to);
    const part = parts[next < 0 ? parts.length - 1 : next];
    if (at < part.from && next > 0) {
      const before = parts[next - 1];
      return before.right + ((at - before.to) / (part.from - before.to)) * FOLDED;
    }
    return part.left + ((at - part.from) / (part.to - part.from)) * (part.right - part.left);
  };
  return { x, parts, folds };
}

/** The spans in which somebody was seen, those with a short pause between them as one. */
function seenParts(span, items) {
  const pause = (span[1] - span[0]) * FOLD;
  const parts = [];
  for (const each of [...items].sort((a, b) => Date.parse(a.start) - Date.parse(b.start))) {
    const [from, to] = [Math.max(Date.parse(each.start), span[0]), Math.min(Date.parse(each.end), span[1])];
    const last = parts.at(-1);
    if (last && from - last[1] < pause) last[1] = Math.max(last[1], to);
    else parts.push([from, to]);
  }
  if (parts.length < 2) return [span];
  return parts.map(([from, to]) => {
    const margin = Math.max((to - from) * 0.06, 1000);
    return [from - margin, to + margin];
  });
}

function folded({ left, right, seconds }, height) {
  const middle = (left + right) / 2;
  return svg(
    "g",
    { class: "fold" },
    svg("title", {}, `${duration(seconds)} in which nobody was seen`),
    svg("rect", { x: left, y: HEAD, width: right - left, height: height - HEAD }),
    svg("text", { x: middle, y: HEAD - 12, "text-anchor": "middle" }, `${duration(seconds).split(" ")[0]}`),
    svg("path", {
      d: `M${left} ${HEAD - 6}L${middle - 4} ${HEAD - 6}L${middle} ${HEAD - 10}L${middle + 4} ${HEAD - 2}L${middle + 8} ${HEAD - 6}L${right} ${HEAD - 6}`,
    }),
  );
}

function ticks({ from, to, left, right }, x, height) {
  const most = Math.max(Math.floor((right - left) / 92), 1);
  const step = STEPS.find((each) => (to - from) / each <= most) ?? STEPS.at(-1);
  const offset = Date.parse(`${toField(from)}Z`) - Math.floor(from / 60000) * 60000; // local less UTC
  const zoned = (at, text) => (zoneAt(from) === zoneAt(to) ? text : `${text} ${zoneAt(at)}`);
  const found = [];
  for (let at = Math.ceil((from + offset) / step) * step - offset; at <= to; at += step) {
    const place = x(new Date(at).toISOString());
    if (place > right - 20) continue;
    const text =
      step >= 86_400_000
        ? shortDay(at)
        : step < 60_000
          ? zoned(at, clock(at))
          : shortClock(at) === "00:00"
            ? shortDay(at)
            : zoned(at, shortClock(at));
    found.push(
      svg("line", { class: "tick", x1: place, x2: place, y1: HEAD - 6, y2: height }),
      svg("text", { x: place + 4, y: HEAD - 12 }, text),
    );
  }
  return found.length ? found : svg("text", { x: left + 4, y: HEAD - 12 }, shortClock(from));
}

function nights({ from, to, left, right }, x, height) {
  if (to - from > 15 * 86_400_000) return null;
  const found = [];
  const step = 3_600_000;
  const isNight = (at) => {
    const hour = wallHour(at);
    return hour >= 20 || hour < 6;
  };
  for (let at = Math.floor(from / step) * step; at < to; at += step) {
    if (!isNight(at)) continue;
    const begin = Math.max(x(new Date(Math.max(at, from)).toISOString()), left);
    const end = Math.min(x(new Date(Math.min(at + step, to)).toISOString()), right);
    if (end > begin)
      found.push(svg("rect", { class: "night", x: begin, y: HEAD, width: end - begin + 0.5, height: height - HEAD }));
  }
  return found;
}

function lane(camera, top, { label, width }) {
  return svg(
    "g",
    {},
    svg("line", { class: "lane-line", x1: 0, x2: width, y1: top, y2: top }),
    svg(
      "text",
      { class: "lane-name", x: 12, y: top + (label ? 20 : 16) },
      camera.camera_id.length > 16 ? `${camera.camera_id.slice(0, 15)}…` : camera.camera_id,
    ),
    label
      ? svg(
          "text",
          { x: 12, y: top + 35 },
          `${camera.modality === "thermal" ? "Thermal" : camera.modality.toUpperCase()} · ${camera.tracklets}`,
        )
      : null,
  );
}

/** From stay to stay; dashed where nobody confirmed that both are one person. */
function path(details, { x, label, drawn, barTop, middle }) {
  const shown = new Set(drawn.map((each) => each.tracklet_id));
  const at = (each, when) => [
    Math.max(x(when), label),
    shown.has(each.tracklet_id) ? barTop(each) + 4.5 : middle(each),
  ];
  const sure = new Set(
    details.links
      .filter((link) => link.state === "confirmed")
      .flatMap((link) => [`${link.tracklet_id} ${link.to_tracklet_id}`, `${link.to_tracklet_id} ${link.tracklet_id}`]),
  );
  return details.path.slice(1).map((each, before) => {
    const previous = details.path[before];
    const [x1, y1] = at(previous, previous.end);
    const [x2, y2] = at(each, each.start);
    const bend = Math.max((x2 - x1) / 2, 6);
    const d = `M${x1} ${y1}C${x1 + bend} ${y1} ${x2 - bend} ${y2} ${x2} ${y2}`;
    return svg("path", {
      class: `path${sure.has(`${each.tracklet_id} ${previous.tracklet_id}`) ? "" : " probable"}`,
      d,
    });
  });
}

function drag(drawing, spanNow, moved, done) {
  let from = null;
  drawing.addEventListener("pointerdown", (event) => {
    if (event.button === 0 && !event.target.closest("a")) from = { x: event.clientX, span: spanNow() };
  });
  drawing.addEventListener("pointermove", (event) => {
    if (!from) return;
    if (!drawing.hasPointerCapture(event.pointerId)) drawing.setPointerCapture(event.pointerId);
    drawing.classList.add("dragging");
    const by = ((from.x - event.clientX) / drawing.getBoundingClientRect().width) * (from.span[1] - from.span[0]);
    moved(from.span.map((each) => Math.round(each + by)));
  });
  const end = () => {
    if (from) {
      from = null;
      drawing.classList.remove("dragging");
      done();
    }
  };
  drawing.addEventListener("pointerup", end);
  drawing.addEventListener("pointercancel", end);
}
