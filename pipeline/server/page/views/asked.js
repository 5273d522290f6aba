// What is searched for, as it stands in the address: examples, others, filters, marks. No element, no request.
import { href, search } from "../route.js";

export const MOST = 500;
const MOST_EXAMPLES = 20;
const FIRST = 24;

/** Read it from the parameters of the address. */
export function read(params) {
  return {
    examples: params.getAll("like").map(exampleOf).filter(Boolean),
    negatives: params.getAll("not").map(exampleOf).filter(Boolean),
    filters: {
      modalities: params.getAll("modality"),
      cameras: params.getAll("camera"),
      start: params.get("from"),
      end: params.get("to"),
      time_of_day: params.get("hours"),
      zones: params.getAll("zone"),
      min_quality: params.has("quality") ? Number(params.get("quality")) : null,
      persons: params.getAll("person"),
      include_own: params.has("own"),
    },
    rerank: params.has("rerank") ? params.get("rerank") === "1" : null,
    false_match_rate: params.has("fmr") ? Number(params.get("fmr")) : null,
    top: Math.min(Number(params.get("top")) || FIRST, MOST),
    group: params.get("group") ?? "rank",
    asked: params.has("asked"),
    stars: new Set(params.getAll("star")),
    rejects: new Set(params.getAll("cross")),
  };
}

/** The address that `read` makes the same of. */
export function write(state) {
  return href("search", "", paramsOf(state));
}

function paramsOf({ examples, negatives, filters, rerank, false_match_rate: fmr, top, group, asked, stars, rejects }) {
  return search({
    like: examples.map(textOf),
    not: negatives.map(textOf),
    modality: filters.modalities,
    camera: filters.cameras,
    from: filters.start,
    to: filters.end,
    hours: filters.time_of_day,
    zone: filters.zones,
    quality: filters.min_quality,
    person: filters.persons,
    own: filters.include_own,
    rerank: rerank === null ? null : rerank ? "1" : "0",
    fmr,
    top: top === FIRST ? null : top,
    group: group === "rank" ? null : group,
    asked,
    star: [...stars],
    cross: [...rejects],
  });
}

/** The address of a search for one tracklet. */
export const searchFor = (name) => href("search", "", { like: textOf({ tracklet_id: name }) });

/** Stored tracklets that are taken for the person: examples and starred answers. */
export const chosenIn = (state) => [
  ...new Set([...state.examples.map((each) => each.tracklet_id).filter(Boolean), ...state.stars]),
];

/** What changes when an answer is starred or rejected, or that is taken back: `into` is stars or rejects. */
export function marking(state, into, name) {
  const other = into === "stars" ? "rejects" : "stars";
  const marks = new Set(state[into]);
  if (!marks.delete(name)) marks.add(name);
  return { [into]: marks, [other]: new Set([...state[other]].filter((each) => each !== name)) };
}

/** What changes when starred answers become examples, and rejected ones examples of others. */
export function refining(state) {
  const joined = (before, names) => {
    const fresh = [...names].filter((name) => !before.some((each) => each.tracklet_id === name));
    return [...before, ...fresh.map((name) => ({ tracklet_id: name }))].slice(0, MOST_EXAMPLES);
  };
  return {
    examples: joined(state.examples, state.stars),
    negatives: joined(state.negatives, state.rejects),
    stars: new Set(),
    rejects: new Set(),
    asked: true,
  };
}

/** The question for the server; `purpose` and `case_id` come from whoever asks. */
export function question(state, why = {}) {
  const filters = Object.fromEntries(
    Object.entries(state.filters).filter(([, value]) =>
      Array.isArray(value) ? value.length : value !== null && value !== false,
    ),
  );
  return {
    examples: state.examples,
    negatives: state.negatives,
    filters,
    top_k: state.top,
    ...why,
    ...(state.rerank === null ? {} : { rerank: state.rerank }),
    ...(state.false_match_rate === null ? {} : { false_match_rate: state.false_match_rate }),
  };
}

/** What makes two searches the same: all but marks and grouping. */
export const keyOf = (state) => JSON.stringify(question(state));

/** An example as one text: `tracklet.ID`, `query.ID`, `spot.CAMERA~SECONDS~x1,y1,x2,y2`. */
export function textOf(example) {
  if (example.tracklet_id) return `tracklet.${example.tracklet_id}`;
  if (example.query_id) return `query.${example.query_id}`;
  return `spot.${example.spot.camera_id}~${example.spot.seconds}~${example.spot.xyxy.join(",")}`;
}

function exampleOf(text) {
  const kind = text.slice(0, text.indexOf("."));
  const rest = text.slice(kind.length + 1);
  if (kind === "tracklet") return { tracklet_id: rest };
  if (kind === "query") return { query_id: rest };
  const [camera, seconds, box = ""] = rest.split("~");
  const xyxy = box.split(",").map(Number);
  return kind === "spot" && xyxy.length === 4 && xyxy.every(Number.isFinite)
    ? { spot: { camera_id: camera, seconds: Number(seconds), xyxy } }
    : null;
}

/** Which filter of ours a filter of the server's explanation is, and how to be without it. */
export const REMOVALS = {
  "query itself": { text: "the query itself", without: { include_own: true } },
  "same camera at the same time": { text: "its own camera at the same time", without: { include_own: true } },
  modality: { text: "modality", without: { modalities: [] } },
  camera: { text: "camera", without: { cameras: [] } },
  from: { text: "from", without: { start: null } },
  to: { text: "to", without: { end: null } },
  "time of day": { text: "time of day", without: { time_of_day: null } },
  zone: { text: "zone", without: { zones: [] } },
  quality: { text: "quality", without: { min_quality: null } },
  person: { text: "person", without: { persons: [] } },
};
