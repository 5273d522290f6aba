"""Milliseconds a stage: where the time of a run goes, measured on one thread, stage by stage.

    python benchmarks/stages.py [--config configs/demo.yaml] [--max-frames N] [--json benchmarks/results/stages.json]

Each stage is fed with what the stage before it made, so that its time is its own; decoding runs in the same thread
here, while `run` decodes ahead in others. With the demo's config, run `make demo` first: it renders the (synthetic)
videos.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import machine
import numpy as np

from pipeline.annotate import VideoStyle, annotate, companions_of
from pipeline.build import build_detector, build_extractor, build_line, build_sources, build_windows
from pipeline.config import load
from pipeline.errors import PipelineError
from pipeline.frame import Frame
from pipeline.store import Store
from pipeline.surveil import Line, TrackedFrame, batched
from pipeline.tally import peak_rss_mb
from pipeline.tracklets import RejectedTracklet, Tracklet

T = TypeVar("T")


class Clock:
    """Adds up the seconds of each stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    def timed(self, stage: str, items: Iterable[T]) -> Iterator[T]:
        """Iterate, and count the time that the items took to come."""
        iterator = iter(items)
        while True:
            started = time.perf_counter()
            try:
                item = next(iterator)
            except StopIteration:
                return
            finally:
                self.add(stage, time.perf_counter() - started)
            yield item

    def add(self, stage: str, seconds: float) -> None:
        """Count time."""
        self.seconds[stage] = self.seconds.get(stage, 0.0) + seconds

    def call(self, stage: str, function: Any, *arguments: Any, **options: Any) -> Any:
        """Call, and count the time."""
        started = time.perf_counter()
        result = function(*arguments, **options)
        self.add(stage, time.perf_counter() - started)
        return result


def process(frames: Iterable[Frame], line: Line, store: Store, clock: Clock, frames_a_batch: int) -> int:
    """The line of `pipeline.surveil`, with a clock at every stage; returns the frames done."""
    count = 0
    finished: list[Tracklet | RejectedTracklet] = []
    for batch in batched(frames, frames_a_batch):
        count += len(batch)
        detections = clock.call("detect", line.detector.detect, batch)
        for frame, found in zip(batch, detections, strict=True):
            tracks = clock.call("track", line.trackers[frame.camera_id].update, found, pts_seconds=frame.pts_seconds)
            item = TrackedFrame(frame, found, tracks)
            builder = line.builders[frame.camera_id]
            finished += clock.call("gather", lambda b=builder, i=item: list(b.update(i.frame, i.tracks)))
    for builder in line.builders.values():
        finished += clock.call("gather", lambda b=builder: list(b.flush()))
    for group in batched(finished, line.tracklets_a_batch):
        keep(group, line, store, clock)
    return count


def keep(group: Sequence[Tracklet | RejectedTracklet], line: Line, store: Store, clock: Clock) -> None:
    """Embed, identify and store."""
    tracklets = [item for item in group if isinstance(item, Tracklet)]
    done: list[Any] = [item for item in group if isinstance(item, RejectedTracklet)]
    if tracklets:
        clips = [[crop.image for crop in tracklet.crops] for tracklet in tracklets]
        vectors = clock.call("embed", line.extractor.extract, clips, [each.modality for each in tracklets])
        done += clock.call("identify", line.identifier.identify, tracklets, vectors)
    clock.call("store", store.add_all, done)


def is_synthetic(recording: Path) -> bool:
    """Whether the simulator made a recording: its site.json says so, beside it or one folder up."""
    notes = [folder / "site.json" for folder in list(recording.parents)[:2]]
    return any(note.is_file() and json.loads(note.read_text()).get("synthetic") for note in notes)


def measure(config_path: Path, max_frames: int) -> dict[str, Any]:
    """Run all stages once over the configured cameras."""
    config = load(config_path)
    sources = build_sources(config)
    extractor = build_extractor(config.reid.weights, config.reid.device)
    windows = build_windows(config)
    clock = Clock()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        store = Store.open(
            root, model_id=extractor.model_id, dimension=extractor.dimension, calibration=extractor.calibration
        )
        with store:
            line = build_line(config, build_detector(config.detector, windows), extractor, store)
            frames = 0
            for source in sources:
                decoded = clock.timed("decode", islice(source, max_frames))
                cameras = {source.camera_id: line.builders[source.camera_id]}
                frames += process(decoded, replace(line, builders=cameras), store, clock, config.detector.batch)
            for source in build_sources(config):
                boxes, known = store.boxes(source.camera_id), companions_of(store, source.camera_id)
                style = VideoStyle(fps=source.info.fps if source.info else 25.0)
                path = root / f"{source.camera_id}.mp4"
                clock.call(
                    "video", annotate, islice(source, max_frames), boxes, path, style,
                    rgb8=build_windows(config).rgb8, companions=known,
                )  # fmt: skip
    total = sum(clock.seconds.values())
    milliseconds = {stage: round(1000 * seconds / frames, 3) for stage, seconds in clock.seconds.items()}
    return {
        "benchmark": "stages",
        "config": str(config_path),
        "detector": config.detector.backend,
        "synthetic": all(is_synthetic(Path(camera.source)) for camera in config.cameras.values()),
        "frames": frames,
        "milliseconds_a_frame": milliseconds,
        "bottleneck": max(milliseconds, key=lambda stage: milliseconds[stage]),
        "frames_per_second_one_thread": round(frames / total, 1),
        "peak_rss_mb": peak_rss_mb(),
        "note": "'video' includes decoding the recording a second time",
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine.describe(),
    }


def main() -> int:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, default=Path("configs/demo.yaml"))
    parser.add_argument("--max-frames", type=int, default=10**9, metavar="N", help="of each camera")
    parser.add_argument("--json", type=Path, default=Path("benchmarks/results/stages.json"))
    options = parser.parse_args()
    try:
        result = measure(options.config, options.max_frames)
    except PipelineError as error:
        print(f"error: {error}\nthe demo's videos are rendered by: make demo", file=sys.stderr)
        return error.exit_code
    total = float(np.sum(list(result["milliseconds_a_frame"].values())))
    for stage, value in result["milliseconds_a_frame"].items():
        print(f"{stage:10} {value:8.2f} ms a frame  {value / total:6.1%}")
    print(f"{'all':10} {total:8.2f} ms a frame; the bottleneck is: {result['bottleneck']}")
    print(f"{result['frames_per_second_one_thread']} frames a second on one thread, {result['frames']} frames")
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps(result, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
