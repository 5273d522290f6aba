// Tracklet: the clip with its box, both modalities side by side, and who it is linked to and why.
import { api, media } from "../api.js";
import { h, replace, say } from "../dom.js";
import { icon } from "../icons.js";
import * as keys from "../keys.js";
import { badge, bestOf, button, chance, count, crop, mark, modalityText, nameOf, toast } from "../parts.js";
import { go, href } from "../route.js";
import { clock, day, duration, moment, utc, zoneAt } from "../times.js";
import { searchFor } from "./asked.js";
import { addToCase, confirmLink, rejectLink } from "./verdicts.js";

const MOST_LINKS = 12;

export async function show({ root, id, params, may, current, session, again }) {
  const details = await api.tracklet(id);
  const links = details.links
    .map((link) => ({ ...link, other: link.tracklet_id === id ? link.to_tracklet_id : link.tracklet_id }))
    .sort((a, b) => rankOf(b) - rankOf(a) || b.probability - a.probability);
  const beside = neighbours(details);
  const others = await othersOf(links.slice(0, MOST_LINKS));
  const { previous, next } = await beside;
  if (!current()) return undefined;
  const from = params.get("from");
  const here = (name) => href("tracklet", name, from ? { from } : {});
  document.title = `${details.camera_id} ${clock(details.start)} · ${session.site ?? "Tracklet"}`;

  const player = clip(details);
  const step = (name, text, sign) =>
    name
      ? h("a", { class: "button icon-only", href: here(name), "aria-label": text, title: text }, icon(sign))
      : h("button", { type: "button", class: "icon-only", disabled: true, "aria-label": text }, icon(sign));

  async function decide(link, confirming) {
    if (await (confirming ? confirmLink : rejectLink)(id, link.other)) again();
  }
  const confirmFirst = () => {
    const link = links.find((each) => each.state === "probable");
    if (link && may("decide")) decide(link, true);
  };

  replace(
    root,
    h(
      "div",
      { class: "head" },
      from
        ? h(
            "a",
            {
              class: "button icon-only plain",
              href: "#",
              "aria-label": "Back",
              title: "Back (u)",
              on: {
                click: (event) => {
                  event.preventDefault();
                  history.back();
                },
              },
            },
            icon("back"),
          )
        : null,
      h("h1", {}, `${details.camera_id}, ${clock(details.start)} `, h("span", { class: "zone" }, zoneAt(details.start))),
      badge(details.modality),
      details.person
        ? h(
            "a",
            { class: "badge", href: href("persons", details.person), title: `All of ${details.person}` },
            details.person,
          )
        : mark(`rejected: ${details.rejected.replaceAll("_", " ")}`, "bad"),
      h("span", { class: "grow" }),
      h(
        "span",
        { class: "row" },
        step(previous, "Previous of this camera (k)", "back"),
        step(next, "Next of this camera (j)", "next"),
      ),
      details.person ? h("a", { class: "button", href: searchFor(id) }, icon("search"), "Find this person") : null,
      may("evidence")
        ? h(
            "button",
            { type: "button", title: "Put into a case (e)", on: { click: () => addToCase([id]) } },
            icon("cases"),
            "Add to case",
          )
        : null,
      h(
        "p",
        { class: "under small" },
        h("span", { title: utc(details.start) }, day(details.start)),
        ` · ${duration(details.seconds)} · ${details.frames} boxes`,
      ),
    ),
    h(
      "div",
      { class: "tracklet" },
      h("div", { class: "stack loose" }, player.element, views(details)),
      h(
        "div",
        { class: "stack loose" },
        sideBySide(details, links, others),
        linkList(links, others, { may, decide, here }),
        facts(details),
      ),
    ),
  );

  keys.here([
    {
      keys: [" "],
      text: "Play or pause",
      run: (event) => (event.target.matches("button, a, summary, video") ? false : player.toggle()),
    },
    { keys: ["b"], text: "Box on or off", run: player.box },
    { keys: [","], text: "One frame back", run: () => player.step(-1) },
    { keys: ["."], text: "One frame on", run: () => player.step(1) },
    {
      keys: ["k", "ArrowLeft"],
      text: "Previous of this camera",
      run: () => {
        if (previous) go(here(previous));
      },
    },
    {
      keys: ["j", "ArrowRight"],
      text: "Next of this camera",
      run: () => {
        if (next) go(here(next));
      },
    },
    {
      keys: ["f"],
      text: "Find this person",
      run: () => {
        if (details.person) go(searchFor(id));
      },
    },
    { keys: ["c"], text: "Confirm the best link", run: confirmFirst },
    {
      keys: ["e"],
      text: "Add to case",
      run: () => {
        if (may("evidence")) addToCase([id]);
      },
    },
  ]);
  return { dispose: player.dispose };
}

/** The tracklets at the other end of links, by name; null for one that is gone. */
async function othersOf(links) {
  const told = links.map(async (link) => [link.other, await api.tracklet(link.other).catch(() => null)]);
  return new Map(await Promise.all(told));
}

/** Who was seen by the same camera before and after. */
async function neighbours({ camera_id: camera, start }) {
  const [before, after] = await Promise.all([
    api.tracklets({ camera, to: start, order: "newest", limit: 1 }),
    api.tracklets({ camera, from: start, order: "oldest", limit: 50 }),
  ]);
  return { previous: before.items[0]?.tracklet_id, next: after.items.find((each) => each.start > start)?.tracklet_id };
}

const rankOf = (link) => ({ confirmed: 2, probable: 1, rejected: 0 })[link.state];

/** The clip, with the box or without. */
function clip(details) {
  if (!details.clip)
    return {
      element: h(
        "div",
        { class: "panel" },
        h("p", { class: "empty" }, "Neither the recording nor the views are kept any more."),
      ),
      toggle: () => {},
      box: () => {},
      step: () => {},
      dispose: () => {},
    };
  let boxed = true;
  const video = h("video", {
    src: media.clip(details.tracklet_id, { box: true }),
    controls: true,
    muted: true,
    playsinline: true,
    preload: "auto",
    loop: true,
    autoplay: !matchMedia("(prefers-reduced-motion: reduce)").matches,
    "aria-label": `Clip of ${nameOf(details)}`,
    on: {
      error: () => {
        if (video.hasAttribute("src"))
          toast(
            Object.assign(new Error("clip"), {
              title: "The clip cannot be played",
              detail: "The recording may be gone, or this browser has no H.264.",
            }),
          );
      },
    },
  });
  const perFrame = details.frames > 1 ? details.seconds / (details.frames - 1) : 0.1;
  const control = {
    toggle: () => {
      if (video.paused) video.play();
      else video.pause();
    },
    box: () => {
      boxed = !boxed;
      const { currentTime, paused } = video;
      video.src = media.clip(details.tracklet_id, { box: boxed });
      video.addEventListener(
        "loadedmetadata",
        () => {
          video.currentTime = currentTime;
          if (!paused) video.play();
        },
        { once: true },
      );
      boxButton.setAttribute("aria-pressed", String(boxed));
      say(boxed ? "Box on" : "Box off");
    },
    step: (by) => {
      video.pause();
      video.currentTime = Math.max(0, video.currentTime + by * perFrame);
    },
    dispose: () => {
      video.removeAttribute("src");
      video.load();
    },
  };
  const boxButton = h(
    "button",
    { type: "button", class: "plain", "aria-pressed": "true", title: "Box on or off (b)", on: { click: control.box } },
    icon("box"),
    "Box",
  );
  const element = h(
    "figure",
    { class: "player" },
    h("div", { class: "clip" }, video),
    h(
      "figcaption",
      { class: "row small muted" },
      boxButton,
      details.clip === "crops" ? "Made of the kept views: the recording is not here." : "",
      h("span", { class: "grow" }),
      details.zones.length ? h("span", {}, `stood in ${details.zones.join(", ")}`) : null,
    ),
  );
  return { element, ...control };
}

function views(details) {
  if (!details.crops.length) return null;
  return h(
    "section",
    { class: "panel" },
    h("h2", {}, "Views that were kept"),
    h(
      "ul",
      { class: "strip", tabindex: 0, "aria-label": "Views, in order of time" },
      details.crops.map((each) =>
        h(
          "li",
          { title: `${clock(each.captured_at)}, quality ${Math.round(each.quality * 100)} %` },
          crop(each.url, `View at ${clock(each.captured_at)}, quality ${Math.round(each.quality * 100)} %`),
        ),
      ),
    ),
  );
}

/** This tracklet, and the same moment or the same person in the other modality. */
function sideBySide(details, links, others) {
  const figures = [figure(bestOf(details), details.modality, details.camera_id, "best view", null)];
  for (const each of details.counterparts)
    figures.push(figure(each.url, each.modality, each.camera_id, "the same moment", null));
  const seen = new Set([details.modality, ...details.counterparts.map((each) => each.modality)]);
  for (const link of links) {
    const other = others.get(link.other);
    if (!other || link.state === "rejected" || seen.has(other.modality)) continue;
    seen.add(other.modality);
    figures.push(
      figure(
        bestOf(other),
        other.modality,
        other.camera_id,
        `${link.state}, ${Math.round(link.probability * 100)} %`,
        href("tracklet", other.tracklet_id),
      ),
    );
  }
  return h(
    "section",
    { class: "panel" },
    h("h2", {}, "Modalities side by side"),
    h("div", { class: "side" }, figures),
    figures.length === 1 ? h("p", { class: "muted small" }, "Nothing is linked to it in another modality yet.") : null,
  );
}

function figure(url, modality, camera, words, to) {
  const picture = crop(
    url,
    `${camera}, ${modalityText(modality)}, ${words}`,
    to ? { tag: "a", href: to, lazy: false } : { lazy: false },
  );
  return h("figure", {}, picture, h("figcaption", {}, badge(modality), h("strong", {}, camera), words));
}

function linkList(links, others, { may, decide, here }) {
  const list = h("ul", { class: "links" });
  const place = h("p", { class: "more-answers" });
  const gone = h("p", { class: "muted small", hidden: true });
  let lost = 0;
  const append = (some, found) => {
    const shown = some.filter((link) => found.get(link.other));
    list.append(...shown.map((link) => linkItem(link, found.get(link.other), { may, decide, here })));
    lost += some.length - shown.length;
    gone.hidden = !lost;
    gone.textContent = `${count(lost, "link")} to what is gone, or could not be fetched.`;
    const rest = links.slice(list.childElementCount + lost);
    const more = async () => {
      const next = rest.slice(0, MOST_LINKS);
      append(next, await othersOf(next));
    };
    replace(place, rest.length ? button(null, `Show more of ${count(rest.length, "other link")}`, more) : null);
  };
  append(links.slice(0, MOST_LINKS), others);
  return h(
    "section",
    { class: "panel" },
    h("h2", {}, "Links, and why"),
    links.length ? list : h("p", { class: "muted" }, "No link: this person was new when they were seen here."),
    gone,
    place,
  );
}

function linkItem(link, other, { may, decide, here }) {
  return h(
    "li",
    { dataset: { link: link.other } },
    h("a", { href: here(link.other), "aria-label": `Open ${nameOf(other)}` }, crop(bestOf(other), "")),
    h(
      "div",
      { class: "stack tight" },
      h(
        "div",
        { class: "row wrap" },
        h("strong", {}, other.camera_id),
        badge(other.modality),
        mark(link.state, { confirmed: "good", rejected: "bad", probable: "" }[link.state]),
      ),
      h("span", { class: "small muted" }, moment(other.start, { withDay: true })),
      chance(link.probability),
      h("span", { class: "small muted" }, reason(link, other)),
    ),
    may("decide")
      ? h(
          "div",
          { class: "stack tight" },
          link.state !== "confirmed"
            ? button("check", "Confirm", () => decide(link, true), { class: "small" })
            : null,
          link.state !== "rejected"
            ? button("reject", "Reject", () => decide(link, false), { class: "small danger" })
            : null,
        )
      : null,
  );
}

function reason(link, other) {
  const alike = `cosine ${link.cosine.toFixed(3)} to ${modalityText(other.modality)}`;
  return {
    probable: `The program's guess: ${alike}.`,
    confirmed: `An operator confirmed it: ${alike}.`,
    rejected: `An operator rejected it: ${alike}.`,
  }[link.state];
}

function facts(details) {
  const fact = (name, value) => [h("dt", {}, name), h("dd", {}, value)];
  return h(
    "section",
    { class: "panel" },
    h("h2", {}, "Facts"),
    h(
      "dl",
      { class: "facts" },
      fact("Tracklet", h("code", {}, details.tracklet_id)),
      fact("Seen", [
        `${clock(details.start)} – ${clock(details.end)} ${zoneAt(details.end)}, `,
        h("span", { class: "muted" }, `${utc(details.start)}`),
      ]),
      fact("Time from", details.time_source.replaceAll("_", " ")),
      fact("Quality", `${Math.round(details.quality * 100)} % in the best view`),
      fact("Frame", `${details.width} × ${details.height} px`),
      details.zones.length ? fact("Zones", details.zones.join(", ")) : null,
      details.cases.length
        ? fact(
            "Cases",
            details.cases.map((each, at) => [at ? ", " : "", h("a", { href: href("cases", each) }, each)]),
          )
        : null,
    ),
  );
}
