"""Our tracks beside ultralytics' ByteTrack, from the same boxes: ``python benchmarks/vtest_tracks.py``.

Detects people with yolov8n.pt in ../shared/data/video/vtest_480x360.mp4 (or under SURVEILLANCE_DATA), once: the boxes
are kept in runs/vtest/. Both trackers take these boxes, each with its default settings. Writes what they made of them
to benchmarks/results/vtest_tracks.json, and runs/vtest/tracks.mp4, where both can be seen side by side.

Besides how many tracks there are and how long they last, they are scored by our own labels of the clip
(benchmarks/vtest_people.py). It is one clip of 20 people, in which one mistake more or less turns a figure over; so the
same boxes are also given backwards, and as a camera of 5 and of 3.3 frames a second gives them, both ways; and, to the
default and to ultralytics' alone, as filmed but shaken at random, by up to a pixel: how often each line holds then.
"""

import argparse
import json
import os
import statistics
import sys
from collections import defaultdict, deque
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

ROOT = Path(__file__).resolve().parents[1]
# Run as a file, this folder comes first, and then `trackers` would be benchmarks/trackers.py.
sys.path[:] = [str(ROOT), *(each for each in sys.path if Path(each or ".").resolve() != ROOT / "benchmarks")]

from benchmarks.machine import describe  # noqa: E402
from benchmarks.vtest_people import truth_of  # noqa: E402
from pipeline.drawing import BLACK, WHITE, Rgb8, person_colour, put_label, put_text, text_wh  # noqa: E402
from trackers.algorithms import DEFAULT, TRACKERS  # noqa: E402
from trackers.evaluate import TrueSequence  # noqa: E402
from trackers.mot import rows_of  # noqa: E402
from trackers.structures import Detections, Tracks  # noqa: E402

CONFIDENCE = 0.1  # of the boxes that the trackers see, as ultralytics' own tracking asks of its detector
PEER = "ultralytics ByteTrack"
SCALE = 2
HEADER = 40
LABEL = 14
TRAIL_SECONDS = 2.0
LONG_SECONDS = 5.0
COLUMNS = ("HOTA", "IDF1", "Pur", "MixTrk", "Trk/Id", "FPbox")
AS_FILMED = "as filmed"
SHAKEN_PIXELS, DRAWS = (0.25, 0.5, 1.0), 8  # standard deviation of each side of a box


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """One frame of the clip."""

    seconds: float
    rgb: Rgb8


def pictures(path: Path) -> Iterator[Picture]:
    """Decode the clip."""
    with av.open(path) as container:
        for frame in container.decode(video=0):
            yield Picture(float(frame.time or 0.0), frame.to_ndarray(format="rgb24"))


def detect(video: Path, weights: Path, cache: Path) -> tuple[list[float], list[Detections]]:
    """Times and people of every frame; from the cache if it is there."""
    if not cache.is_file():
        from ultralytics import YOLO

        model = YOLO(weights)
        seconds, boxes, counts = [], [], []
        for picture in pictures(video):
            found = model.predict(picture.rgb[:, :, ::-1], conf=CONFIDENCE, classes=[0], verbose=False)[0].boxes
            seconds.append(picture.seconds)
            boxes.append(np.concatenate([found.xyxy.numpy(), found.conf.numpy()[:, None]], axis=1))
            counts.append(len(found))
        cache.parent.mkdir(parents=True, exist_ok=True)
        np.savez(cache, seconds=seconds, boxes=np.concatenate(boxes), counts=counts)
    with np.load(cache) as kept:
        ends = np.cumsum(kept["counts"])
        frames = np.split(kept["boxes"], ends[:-1])
        return kept["seconds"].tolist(), [Detections(each[:, :4], each[:, 4]) for each in frames]


def track_ours(name: str, seconds: list[float], frames: list[Detections]) -> list[Tracks]:
    """With the tracker's default settings."""
    tracker = TRACKERS[name].build()
    return [tracker.update(each, pts_seconds=time) for time, each in zip(seconds, frames, strict=True)]


def track_peer(frames: list[Detections], wh: tuple[int, int]) -> list[Tracks]:
    """With ultralytics' ByteTrack and its own configuration."""
    from ultralytics.engine.results import Boxes
    from ultralytics.trackers import BYTETracker
    from ultralytics.utils import YAML, IterableSimpleNamespace
    from ultralytics.utils.checks import check_yaml

    tracker = BYTETracker(IterableSimpleNamespace(**YAML.load(check_yaml("bytetrack.yaml"))))
    result = []
    for each in frames:
        table = np.concatenate([each.xyxy, each.confidence[:, None], np.zeros((len(each), 1), np.float32)], axis=1)
        rows = np.asarray(tracker.update(Boxes(table, wh[::-1]), None)).reshape(-1, 8)
        result.append(Tracks(rows[:, :4], rows[:, 5], rows[:, 4].astype(np.int64)))
    return result


def ways(count: int) -> dict[str, list[int]]:
    """Which frames, in which order."""
    frames = list(range(count))
    result = {AS_FILMED: frames, "backwards": frames[::-1]}
    for every in (2, 3):
        for first in range(every):
            result[f"1 of {every} from {first}"] = frames[first::every]
            result[f"1 of {every} from {first}, backwards"] = frames[first::every][::-1]
    return result


def summary(step: float, tracks: list[Tracks], truth: TrueSequence, *, tracklets: bool = False) -> dict[str, Any]:
    """How many tracks, how long, and how pure.

    Args:
        step: Seconds between two frames.
        tracks: Of each frame.
        truth: Of the same frames.
        tracklets: Of these instead.
    """
    rows = rows_of(dict(enumerate(tracks, 1)), ids="tracklet" if tracklets else "track")
    boxes = np.unique(rows.identity, return_counts=True)[1]
    scores = truth.score(rows).row()
    return {
        "ids": len(boxes),
        "boxes": int(boxes.sum()),
        "median_seconds": round(step * float(np.median(boxes)), 1),
        "mean_seconds": round(step * float(boxes.mean()), 1),
        f"share_of_boxes_in_tracks_of_{LONG_SECONDS:g}_seconds": round(
            float(boxes[step * boxes >= LONG_SECONDS].sum() / boxes.sum()), 3
        ),
    } | {column: round(scores[column], 2) for column in COLUMNS}


def shaken(seconds: list[float], frames: list[Detections], wh: tuple[int, int], pixels: float) -> dict[str, Any]:
    """How often the default's tracks are fewer, longer and purer than the peer's, of boxes shaken by so many pixels."""
    truth, step = truth_of(range(len(frames))), float(np.median(np.diff(seconds)))
    pairs = []
    for draw in range(DRAWS):
        rng = np.random.default_rng(draw)
        moved = [
            Detections(each.xyxy + rng.normal(0, pixels, each.xyxy.shape).astype(np.float32), each.confidence)
            for each in frames
        ]
        both = track_ours(DEFAULT, seconds, moved), track_peer(moved, wh)
        pairs.append([summary(step, each, truth) for each in both])
    return {
        "draws": DRAWS,
        "fewer": sum(ours["ids"] < peer["ids"] for ours, peer in pairs),
        "longer by the median": sum(ours["median_seconds"] > peer["median_seconds"] for ours, peer in pairs),
        "longer on the mean": sum(ours["mean_seconds"] > peer["mean_seconds"] for ours, peer in pairs),
        "purer": sum(ours["Pur"] > peer["Pur"] for ours, peer in pairs),
        "less often mixed": sum(ours["MixTrk"] < peer["MixTrk"] for ours, peer in pairs),
        "purity": [round(statistics.mean(each["Pur"] for each in column), 2) for column in zip(*pairs, strict=True)],
        "mixed": [round(statistics.mean(each["MixTrk"] for each in column), 2) for column in zip(*pairs, strict=True)],
    }


def mean_of(by_way: dict[str, dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Of each tracker, over the ways."""
    first = next(iter(by_way.values()))
    return {
        name: {key: round(statistics.mean(each[name][key] for each in by_way.values()), 2) for key in row}
        for name, row in first.items()
    }


class Side:
    """One half of the video: boxes, trails, and how many ids there were so far."""

    def __init__(self, title: str, fps: float) -> None:
        self._title = title
        self._seen: set[int] = set()
        self._trails: dict[int, deque[tuple[float, tuple[int, int]]]] = defaultdict(
            lambda: deque(maxlen=round(TRAIL_SECONDS * fps))
        )

    def paint(self, picture: Picture, tracks: Tracks) -> Rgb8:
        """The picture enlarged below a header; labels lie above the boxes, and above all boxes' lines."""
        import cv2

        big = cv2.resize(picture.rgb, None, fx=SCALE, fy=SCALE, interpolation=cv2.INTER_CUBIC)
        canvas = np.concatenate([np.full((HEADER, big.shape[1], 3), 24, np.uint8), big])
        corners = np.round(tracks.xyxy * SCALE).astype(int) + np.array([0, HEADER, 0, HEADER])
        marks = list(zip(tracks.track_id.tolist(), corners.tolist(), strict=True))
        for identity, (left, _, right, bottom) in marks:
            self._seen.add(identity)
            self._trails[identity].append((picture.seconds, ((left + right) // 2, bottom)))
        for identity, trail in self._trails.items():
            points = [point for time, point in trail if time > picture.seconds - TRAIL_SECONDS]
            cv2.polylines(canvas, [np.array(points, np.int32).reshape(-1, 2)], False, person_colour(identity), 2)
        for identity, (left, top, right, bottom) in marks:
            cv2.rectangle(canvas, (left, top), (right, bottom), person_colour(identity), 2)
        for identity, (left, top, _, _) in marks:
            above = (left - 1, max(HEADER, top - text_wh(str(identity), LABEL)[1] - 3))
            put_label(canvas, str(identity), above, size=LABEL, background=person_colour(identity))
        put_text(canvas, f"{self._title}: {len(self._seen)} ids so far", (12, 10), size=18, colour=WHITE)
        return canvas


def film(video: Path, output: Path, halves: dict[str, list[Tracks]], fps: float) -> None:
    """Write the halves side by side; the file appears when it is whole."""
    sides = [(Side(title, fps), tracks) for title, tracks in halves.items()]
    part = output.with_name(f"{output.name}.part")
    try:
        with av.open(part, "w", format="mp4") as container:
            stream = None
            for index, picture in enumerate(pictures(video)):
                painted = [side.paint(picture, tracks[index]) for side, tracks in sides]
                gap = np.full((len(painted[0]), 4, 3), BLACK, np.uint8)
                canvas = np.concatenate([painted[0], gap, *painted[1:]], axis=1)
                if stream is None:
                    stream = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1001))
                    stream.height, stream.width = canvas.shape[:2]
                    stream.pix_fmt = "yuv420p"
                container.mux(stream.encode(av.VideoFrame.from_ndarray(canvas, format="rgb24")))
            if stream is not None:
                container.mux(stream.encode(None))
        part.replace(output)
    finally:
        part.unlink(missing_ok=True)


def main() -> None:
    """Detect, track, draw, and write the JSON."""
    shared = Path(os.environ.get("SURVEILLANCE_DATA") or ROOT.parent / "shared" / "data")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--video", type=Path, default=shared / "video" / "vtest_480x360.mp4")
    parser.add_argument("--weights", type=Path, default=shared / "weights" / "yolov8n.pt")
    parser.add_argument("--tracker", choices=TRACKERS, default=DEFAULT, help="ours in the video")
    parser.add_argument("--folder", type=Path, default=ROOT / "runs" / "vtest", help="for the boxes and the video")
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks" / "results" / "vtest_tracks.json")
    options = parser.parse_args()
    seconds, frames = detect(options.video, options.weights, options.folder / "boxes.npz")
    step = float(np.median(np.diff(seconds)))
    first = next(pictures(options.video)).rgb
    wh = (first.shape[1], first.shape[0])
    by_way: dict[str, dict[str, Any]] = {}
    for way, chosen in ways(len(frames)).items():
        taken, truth = [frames[each] for each in chosen], truth_of(chosen)
        apart = step * abs(chosen[1] - chosen[0])
        times = [apart * number for number in range(len(chosen))]
        tracks = {PEER: track_peer(taken, wh)} | {name: track_ours(name, times, taken) for name in TRACKERS}
        by_way[way] = {name: summary(apart, each, truth) for name, each in tracks.items()}
        by_way[way][f"{DEFAULT} tracklets"] = summary(apart, tracks[DEFAULT], truth, tracklets=True)
        if way == AS_FILMED:
            halves = {PEER: tracks[PEER], f"ours, {options.tracker}": tracks[options.tracker]}
    report = {
        "machine": describe(),
        "video": options.video.name,
        "frames": len(frames),
        "boxes": sum(map(len, frames)),
        "default": DEFAULT,
        "ways": by_way,
        "mean_of_ways": mean_of(by_way),
        "shaken": {f"{pixels:g} pixels": shaken(seconds, frames, wh, pixels) for pixels in SHAKEN_PIXELS},
    }
    options.output.write_text(json.dumps(report, indent=2) + "\n")
    for way, by_tracker in by_way.items():
        for name, row in by_tracker.items():
            print(f"{way:<34}{name:<24}{row}")
    film(options.video, options.folder / "tracks.mp4", halves, 1 / step)
    print(options.folder / "tracks.mp4")


if __name__ == "__main__":
    main()
