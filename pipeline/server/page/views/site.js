// Site: what the cameras do at this moment, where their frames went, and how much room is left.
import { api, media } from "../api.js";
import { h, replace } from "../dom.js";
import { hear } from "../live.js";
import { badge, count, mark, size } from "../parts.js";
import { href } from "../route.js";
import { duration, moment } from "../times.js";

const STATES = {
  running: "good",
  ended: "",
  starting: "warn",
  stalled: "warn",
  reconnecting: "warn",
  failed: "bad",
  disabled: "",
};
const AGAIN = 15_000; // the disk; what cameras do, and that the gallery grew, is told as it happens
const SOON = 800;
const PICTURES = 3_000; // between two rounds of the cameras' latest pictures
const OLD = 10; // seconds after which a picture does not show what is now

export async function show({ root, may, current }) {
  let site = await api.site();
  if (!current()) return undefined;
  const tiles = h("div", { class: "tiles" });
  const cameras = h("div", { class: "cameras" });
  const below = h("section", { class: "panel" });
  replace(
    root,
    h(
      "div",
      { class: "head" },
      h("h1", {}, "Site"),
      h("span", { class: "grow" }),
      h("span", { class: "muted small" }, `version ${site.version}`),
    ),
    tiles,
    cameras,
    below,
  );

  const drawTiles = () =>
    replace(
      tiles,
      pipelineTile(site.pipeline),
      tile(
        ...(site.pipeline.running
          ? [site.cameras.filter((each) => each.state === "running").length, `of ${site.cameras.length} cameras running`]
          : [site.cameras.length, "cameras"]),
      ),
      tile(
        site.tracklets.toLocaleString("en-GB"),
        site.rejected ? `tracklets, ${site.rejected.toLocaleString("en-GB")} rejected` : "tracklets",
      ),
      tile(site.persons.toLocaleString("en-GB"), "persons"),
      tile(site.open_cases, "open cases"),
      diskTile(site.disk),
    );
  const drawCamera = (camera) => {
    const fresh = card(camera, may("look") ? pictureOf(camera, site.pipeline.here) : null, site.pipeline.reported);
    const old = cameras.querySelector(`[data-camera="${CSS.escape(camera.camera_id)}"]`);
    if (!old) return cameras.append(fresh);
    const picture = old.querySelector(".picture");
    if (picture && fresh.querySelector(".picture")) fresh.querySelector(".picture").replaceWith(picture);
    return old.replaceWith(fresh);
  };
  const drawAccounts = () => replace(below, h("h2", {}, "Where frames went"), accounts(site.cameras));
  const draw = () => {
    drawTiles();
    site.cameras.forEach(drawCamera);
    drawAccounts();
  };
  draw();

  let soon = null;
  function againSoon() {
    clearTimeout(soon);
    soon = setTimeout(again, SOON);
  }
  const silence = [
    hear("camera", (camera) => {
      site.cameras = site.cameras.map((each) => (each.camera_id === camera.camera_id ? camera : each));
      draw();
    }),
    hear("gallery", againSoon),
    hear("begin", againSoon), // what happened before is not told
  ];
  async function again() {
    const fresh = await api.site().catch(() => null); // the bar says that the connection is lost
    if (fresh && current()) {
      site = fresh;
      draw();
    }
  }
  const timer = setInterval(() => document.hidden || again(), AGAIN);
  if (site.pipeline.here) look(cameras, current);
  return {
    dispose: () => {
      for (const end of silence) end();
      clearInterval(timer);
      clearTimeout(soon);
    },
  };
}

const tile = (value, name, extra = null) =>
  h("div", { class: "tile" }, h("div", { class: "value" }, value), h("div", { class: "name" }, name), extra);

function pipelineTile({ running, here, healthy, seconds_since_last_step: step, started, reported }) {
  const at = (when) => moment(when, { withDay: true });
  if (!running) return tile("Not running", reported ? ["last report ", at(reported)] : "no run has reported yet");
  const bad = healthy === false;
  const since = started ? ["since ", at(started)] : "";
  if (here) return tile(bad ? mark("Stuck", "bad") : "Running", bad && step !== null ? `no step for ${duration(step)}` : since);
  return tile(
    bad ? mark("Silent", "bad") : "Running",
    bad ? ["no report since ", at(reported)] : since,
    bad ? null : h("div", { class: "name" }, "as of ", at(reported)),
  );
}

function diskTile(disk) {
  const free = disk.total_bytes ? disk.free_bytes / disk.total_bytes : 0;
  return tile(
    size(disk.free_bytes),
    `free of ${size(disk.total_bytes)}`,
    h("div", {
      class: `meter${free < 0.1 ? " low" : ""}`,
      role: "img",
      "aria-label": `${Math.round(100 * free)} % of the disk is free`,
      vars: { share: free.toFixed(3) },
    }),
  );
}

/** The last error; of a camera that runs again it is over. */
function trouble(camera) {
  if (!camera.error) return null;
  const over = camera.state === "running";
  const code = camera.error_code ? h("strong", {}, camera.error_code) : null;
  return h("p", { class: over ? "small muted" : "problem" }, over ? "Last trouble, over: " : null, code, over ? " " : null, camera.error);
}

function card(camera, picture, reported) {
  const fact = (name, value) => (value === null ? null : [h("dt", {}, name), h("dd", {}, value)]);
  const { frames } = camera;
  return h(
    "article",
    { class: "panel camera", dataset: { camera: camera.camera_id }, "aria-label": `Camera ${camera.camera_id}` },
    picture,
    h(
      "div",
      { class: "row wrap" },
      h("h2", {}, camera.camera_id),
      badge(camera.modality),
      h("span", { class: "grow" }),
      camera.state ? mark(camera.state, STATES[camera.state] ?? "") : mark("state unknown"),
    ),
    !camera.state && reported ? h("p", { class: "small muted" }, "as of ", moment(reported, { withDay: true })) : null,
    trouble(camera),
    h(
      "dl",
      { class: "facts" },
      fact(
        "Tracklets",
        h(
          "a",
          { href: href("search", "", { camera: camera.camera_id }) },
          `${count(camera.tracklets, "accepted", "accepted")}, ${camera.rejected} rejected`,
        ),
      ),
      fact("Last seen", camera.last ? moment(camera.last, { withDay: true }) : "nobody yet"),
      fact(
        "Kind",
        [
          camera.live === null ? null : camera.live ? "live stream" : "recording",
          camera.pair_id ? `paired as ${camera.pair_id}` : null,
          camera.zones.length ? `zones ${camera.zones.join(", ")}` : null,
        ]
          .filter(Boolean)
          .join(", ") || null,
      ),
      frames?.reconnects ? fact("Reconnects", frames.reconnects) : null,
      frames?.queued ? fact("Waiting", count(frames.queued, "frame")) : null,
    ),
  );
}

/** What a camera shows: its latest picture while a pipeline runs, or else the beginning of its recording. */
function pictureOf(camera, running) {
  if (running)
    return h("div", { class: "picture", dataset: { latest: camera.camera_id } }, gone("no picture yet"));
  if (!camera.recording) return null;
  const holder = h("div", { class: "picture" });
  const image = h("img", {
    src: media.frame(camera.camera_id, {}),
    alt: `First frame of ${camera.camera_id}`,
    loading: "lazy",
    decoding: "async",
    on: { error: () => replace(holder, gone("the recording is not here")) },
  });
  holder.append(image, h("span", { class: "taken" }, "first frame"));
  return holder;
}

const gone = (text) => h("span", { class: "gone" }, text);

/** Fetch the latest pictures, one after the other and those in view only, for as long as the view is there. */
async function look(cameras, current) {
  while (current()) {
    const until = Date.now() + PICTURES;
    for (const place of cameras.querySelectorAll("[data-latest]")) {
      if (current() && isInView(place)) await renew(place.dataset.latest, cameras);
    }
    await new Promise((resolve) => setTimeout(resolve, Math.max(until - Date.now(), PICTURES / 6)));
  }
}

function isInView(place) {
  const { top, bottom } = place.getBoundingClientRect();
  return !document.hidden && bottom > 0 && top < innerHeight;
}

const shown = new WeakMap(); // place -> its picture, when it was taken, how old it was when it came, and when that was

async function renew(name, cameras) {
  const fresh = await api.picture(name).catch(() => null); // the state of the camera, and the bar, say what is wrong
  const place = cameras.querySelector(`[data-latest="${CSS.escape(name)}"]`);
  if (!place) return;
  if (fresh) shown.set(place, { ...fresh, came: Date.now() });
  if (shown.has(place)) drawPicture(place, name, shown.get(place), Boolean(fresh));
}

/** The picture with its time; one that does not show what is now says so. */
function drawPicture(place, name, { picture, captured, age, came }, isFresh) {
  const seconds = age + (Date.now() - came) / 1000;
  place.classList.toggle("old", seconds > OLD);
  if (!place.querySelector("img")) {
    const image = h("img", {
      alt: `Latest picture of ${name}`,
      on: { load: () => URL.revokeObjectURL(image.src) },
    });
    replace(place, image, h("span", { class: "taken" }));
  }
  if (isFresh) place.querySelector("img").src = URL.createObjectURL(picture);
  replace(
    place.querySelector(".taken"),
    moment(captured, { withDay: seconds > OLD, short: true }),
    seconds > OLD ? h("strong", {}, `${duration(seconds)} old`) : null,
  );
}

function accounts(cameras) {
  const known = cameras.filter((camera) => camera.frames);
  if (!known.length) return h("p", { class: "muted" }, "No pipeline has reported yet.");
  const causes = (some) =>
    Object.entries(some)
      .filter(([, number]) => number > 0)
      .map(([cause, number]) => `${number.toLocaleString("en-GB")} ${cause.replaceAll("_", " ")}`)
      .join(", ");
  const sum = (some) => Object.values(some).reduce((total, each) => total + each, 0);
  return h(
    "div",
    { class: "scroll", tabindex: 0, role: "region", "aria-label": "Frames by camera" },
    h(
      "table",
      {},
      h(
        "thead",
        {},
        h(
          "tr",
          {},
          ["Camera", "Decoded", "Processed", "Dropped", "Skipped", "Causes"].map((name, at) =>
            h("th", { scope: "col", class: at && at < 5 ? "number" : null }, name),
          ),
        ),
      ),
      h(
        "tbody",
        {},
        known.map(({ camera_id: name, frames }) =>
          h(
            "tr",
            {},
            h("th", { scope: "row" }, name),
            [frames.decoded, frames.processed, sum(frames.dropped), sum(frames.skipped)].map((number) =>
              h("td", { class: "number" }, number.toLocaleString("en-GB")),
            ),
            h(
              "td",
              { class: "muted" },
              [causes(frames.dropped), causes(frames.skipped)].filter(Boolean).join(", ") || "nothing was lost",
            ),
          ),
        ),
      ),
    ),
  );
}
