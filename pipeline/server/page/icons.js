// Icons as drawings of 20 by 20, one stroke wide; they mean nothing to a screen reader, a text beside them does.
import { svg } from "./dom.js";

const PATHS = {
  search: ["M9 3a6 6 0 1 1 0 12A6 6 0 0 1 9 3z", "M13.5 13.5 17.5 17.5"],
  timeline: ["M3 5h6", "M7 10h8", "M11 15h6"],
  persons: [
    "M7.5 9.5a3 3 0 1 0 0-6 3 3 0 0 0 0 6z",
    "M2 17a5.5 5.5 0 0 1 11 0",
    "M13.2 3.8a3 3 0 0 1 0 5.4",
    "M15 12.4A5.5 5.5 0 0 1 18 17",
  ],
  cases: ["M3 6.5h14V16H3z", "M7.5 6.5V4h5v2.5", "M3 10.5h14"],
  site: ["M3 6h9v8H3z", "M12 9l5-2.5v7L12 11z"],
  audit: ["M5 3h7l3 3v11H5z", "M7.5 8.5h5", "M7.5 11.5h5", "M7.5 14h3"],
  sun: [
    "M10 6.5a3.5 3.5 0 1 1 0 7 3.5 3.5 0 0 1 0-7z",
    "M10 2v1.5M10 16.5V18M2 10h1.5M16.5 10H18M4.3 4.3l1.1 1.1M14.6 14.6l1.1 1.1M15.7 4.3l-1.1 1.1M5.4 14.6l-1.1 1.1",
  ],
  moon: ["M16 12.2A6.8 6.8 0 0 1 7.8 4a6.8 6.8 0 1 0 8.2 8.2z"],
  flame: ["M10 2.5c.5 3 4.5 4.6 4.5 9a4.5 4.5 0 0 1-9 0c0-2 1-3 1.7-4 .5 1 1 1.4 1.6 1.6C8.6 6.500 9 4.500 10 2.500z"],
  star: ["M10 2.8l2.2 4.600 5 .7-3.600 3.500.9 5L10 14.200 5.500 16.600l.9-5L2.800 8.100l5-.7z"],
  reject: ["M5 5l10 10", "M15 5L5 15"],
  plus: ["M10 4v12", "M4 10h12"],
  back: ["M12 4l-6 6 6 6"],
  next: ["M8 4l6 6-6 6"],
  down: ["M5 8l5 5 5-5"],
  play: ["M6 4l10 6-10 6z"],
  image: ["M3 4h14v12H3z", "M3 13.5l4-4 3.500 3.500 2.500-2.500 4 4", "M12.500 7.500h.01"],
  box: ["M4 7V4h3M13 4h3v3M16 13v3h-3M7 16H4v-3", "M8 8h4v4H8z"],
  download: ["M10 3v9", "M6 8.500l4 4 4-4", "M4 16.500h12"],
  shield: [
    "M10 2.500l6 2.200v4.800c0 3.800-2.500 6.500-6 8-3.500-1.500-6-4.200-6-8V4.700z",
    "M7.300 10l2 2 3.500-3.800",
  ],
  undo: ["M7 5L3.500 8.500 7 12", "M3.500 8.500H12a4.500 4.500 0 0 1 0 9H9"],
  merge: ["M4 4c0 5 6 4 6 9", "M16 4c0 5-6 4-6 9", "M10 13v4"],
  split: ["M10 3v4", "M10 7c0 5-6 4-6 9", "M10 7c0 5 6 4 6 9"],
  check: ["M4 10.500l4 4 8-9"],
  help: [
    "M10 2.500a7.500 7.500 0 1 1 0 15 7.500 7.500 0 0 1 0-15z",
    "M7.700 7.800a2.300 2.300 0 1 1 3.400 2c-.8.5-1.100.9-1.100 1.800",
    "M10 14.200h.01",
  ],
  theme: ["M10 2.500a7.500 7.500 0 1 1 0 15z", "M10 2.500a7.500 7.500 0 1 0 0 15"],
  filter: ["M3 5h14", "M6 10h8", "M8.500 15h3"],
  out: ["M8 4H4v12h4", "M9 10h8", "M13.500 6.500L17 10l-3.500 3.500"],
  note: ["M4 4h12v9l-3 3H4z", "M7 8h6M7 11h4"],
  link: [
    "M8 12l4-4",
    "M9 6l1.500-1.500a3.200 3.200 0 0 1 4.500 4.500L13.500 10.500",
    "M11 14l-1.500 1.500A3.200 3.200 0 0 1 5 11l1.500-1.500",
  ],
};

const FILLED = new Set(["play"]);

/** One of the icons above, by name. */
export function icon(name, given = {}) {
  const paths = PATHS[name].map((d) => svg("path", { d, fill: FILLED.has(name) ? "currentColor" : "none" }));
  return svg(
    "svg",
    { viewBox: "0 0 20 20", class: `icon icon-${name}`, "aria-hidden": "true", focusable: "false", ...given },
    paths,
  );
}
