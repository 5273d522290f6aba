// A paused frame of a recording, and a box on it: the person who stands there is searched for.
import { api, media } from "../api.js";
import { h, replace, svg } from "../dom.js";
import { icon } from "../icons.js";
import { ask, badge, problem, waiting } from "../parts.js";
import { clock, day, zoneAt } from "../times.js";

const LEAST = { width: 8, height: 16 }; // pixels of the frame; smaller is refused by the server
const INTO_VIEW = 1; // seconds after somebody was seen first: the frame to begin with shows them

/** Resolves to an example `{spot}`, or null. */
export function drawBox(cameras, given = {}) {
  return ask("Draw a box around a person", (finish) => {
    const body = h("div", { class: "stack loose" }, waiting());
    const usable = cameras.filter((camera) => camera.recording);
    if (!usable.length) {
      replace(body, h("p", { class: "empty" }, "No camera has a recording here whose frames could be looked at."));
    } else {
      begin(body, usable, finish, given);
    }
    return body;
  });
}

function begin(body, cameras, finish, given) {
  const choice = h(
    "select",
    { "aria-label": "Camera" },
    cameras.map((camera) => h("option", { value: camera.camera_id }, camera.camera_id)),
  );
  choice.value = cameras.some((camera) => camera.camera_id === given.camera_id)
    ? given.camera_id
    : cameras[0].camera_id;
  const place = h("div", { class: "stack loose" });
  const open = async () => {
    const wanted = choice.value;
    const chosen = () => choice.value === wanted; // else an answer that came late would show another camera
    replace(place, waiting());
    try {
      const recording = await api.recording(wanted);
      if (!chosen()) return;
      const { first } = cameras.find((camera) => camera.camera_id === wanted);
      const seconds = first ? (Date.parse(first) - Date.parse(recording.start)) / 1000 + INTO_VIEW : 0;
      replace(place, player(recording, finish, seconds));
    } catch (error) {
      if (chosen()) replace(place, problem(error));
    }
  };
  choice.addEventListener("change", () => open());
  replace(body, h("label", { class: "field" }, h("span", {}, "Recording of"), choice), place);
  open();
}

function player(recording, finish, first) {
  const last = Math.max((recording.seconds ?? 0) - 1 / recording.fps, 0);
  const image = h("img", { alt: `Frame of ${recording.camera_id}` });
  const drawing = svg("svg", { viewBox: `0 0 ${recording.width} ${recording.height}`, preserveAspectRatio: "none" });
  const frame = h(
    "div",
    { class: "frame", vars: { ratio: `${recording.width} / ${recording.height}` } },
    image,
    drawing,
  );
  const said = h(
    "p",
    { class: "small muted drawing-said", "aria-live": "polite" },
    "Draw with the pointer, or place a box and move it with the arrow keys; with Shift they size it.",
  );
  const done = h("button", { type: "button", class: "main", disabled: true }, "Search for this person");
  const at = h("input", {
    type: "range",
    min: 0,
    max: last,
    step: 1 / recording.fps,
    value: first,
    "aria-label": "Moment of the recording",
  });
  const time = h("output", { class: "nowrap" });
  const placing = h("button", { type: "button", on: { click: () => box.place() } }, icon("box"), "Place a box");
  let shown = false; // whether the picture is that of the moment
  const tell = (now) => {
    const fits = now && now[2] - now[0] >= LEAST.width && now[3] - now[1] >= LEAST.height;
    done.disabled = !fits || !shown;
    if (now)
      said.textContent = fits
        ? `Box of ${Math.round(now[2] - now[0])} × ${Math.round(now[3] - now[1])} pixels.`
        : `At least ${LEAST.width} × ${LEAST.height} pixels are needed.`;
  };
  const box = boxOn(drawing, recording, { tell, ready: () => shown });
  const ready = (is) => {
    shown = is;
    placing.disabled = !is;
    frame.classList.toggle("loading", !is);
    frame.setAttribute("aria-busy", String(!is));
    tell(box());
  };
  image.addEventListener("load", () => ready(image.complete)); // not of the moment before, which may still be told
  image.addEventListener("error", () => {
    frame.classList.remove("loading");
    frame.removeAttribute("aria-busy");
    said.textContent = "This moment cannot be shown: the recording may be gone. Choose another one.";
  });
  const seek = (seconds) => {
    at.value = Math.min(Math.max(seconds, 0), last);
    const when = new Date(new Date(recording.start).getTime() + 1000 * at.value);
    time.textContent = `${day(when)}, ${clock(when)} ${zoneAt(when)}`;
    at.setAttribute("aria-valuetext", clock(when));
    ready(false);
    image.src = media.frame(recording.camera_id, { seconds: Number(at.value).toFixed(3) });
  };
  let timer = null;
  at.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(() => seek(Number(at.value)), 60);
  });
  done.addEventListener("click", () =>
    finish({
      spot: {
        camera_id: recording.camera_id,
        seconds: Number(Number(at.value).toFixed(3)),
        xyxy: box().map((each) => Math.round(each * 10) / 10),
      },
    }),
  );
  const step = (by, text) => h("button", { type: "button", on: { click: () => seek(Number(at.value) + by) } }, text);
  seek(first);
  return [
    h("div", { class: "row" }, badge(recording.modality), h("span", { class: "grow" }), time),
    frame,
    at,
    h(
      "div",
      { class: "row wrap" },
      step(-5, "− 5 s"),
      step(-1 / recording.fps, "− 1 frame"),
      step(1 / recording.fps, "+ 1 frame"),
      step(5, "+ 5 s"),
      h("span", { class: "grow" }),
      placing,
    ),
    said,
    h("div", { class: "foot" }, done),
  ];
}

/** A box that is drawn, moved and sized while `ready`; calling what is given back tells where it is. */
function boxOn(drawing, { width, height }, { tell, ready }) {
  let now = null;
  const rect = svg("rect", {
    class: "drawn",
    tabindex: 0,
    role: "img",
    "aria-label": "The box; arrow keys move it, with Shift they size it",
  });
  const put = (xyxy) => {
    const [left, right] = [xyxy[0], xyxy[2]].map((x) => Math.min(Math.max(x, 0), width)).sort((a, b) => a - b);
    const [top, bottom] = [xyxy[1], xyxy[3]].map((y) => Math.min(Math.max(y, 0), height)).sort((a, b) => a - b);
    now = [left, top, right, bottom];
    for (const [name, value] of Object.entries({ x: left, y: top, width: right - left, height: bottom - top }))
      rect.setAttribute(name, value);
    if (!rect.isConnected) drawing.append(rect);
    tell(now);
  };
  const point = (event) => {
    const area = drawing.getBoundingClientRect();
    return [((event.clientX - area.left) / area.width) * width, ((event.clientY - area.top) / area.height) * height];
  };
  let from = null;
  drawing.addEventListener("pointerdown", (event) => {
    if (!ready()) return;
    from = point(event);
    drawing.setPointerCapture(event.pointerId);
    event.preventDefault();
  });
  drawing.addEventListener("pointermove", (event) => {
    if (from) put([...from, ...point(event)]);
  });
  drawing.addEventListener("pointerup", () => {
    from = null;
  });
  drawing.addEventListener("pointercancel", () => {
    from = null;
  });
  rect.addEventListener("keydown", (event) => {
    const by = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (!by) return undefined;
    event.preventDefault();
    if (!ready()) return undefined;
    const [dx, dy] = by.map((each) => each * Math.max(2, Math.round(width / 160)));
    if (event.shiftKey)
      return put([now[0], now[1], Math.max(now[2] + dx, now[0] + 4), Math.max(now[3] + dy, now[1] + 4)]);
    const [x, y] = [Math.min(Math.max(dx, -now[0]), width - now[2]), Math.min(Math.max(dy, -now[1]), height - now[3])];
    return put([now[0] + x, now[1] + y, now[2] + x, now[3] + y]);
  });
  const where = () => now;
  where.place = () => {
    put([width * 0.44, height * 0.3, width * 0.56, height * 0.8]);
    rect.focus();
  };
  return where;
}
