"""Which cameras are taken for ones that turn: ``python benchmarks/camera_turns.py`` writes the JSON beside it.

Real: over every sequence of ../shared/data/mot (or SURVEILLANCE_DATA/mot), and over vtest, whose camera never moves, as
filmed and thinned out (boxes in runs/vtest, of benchmarks/vtest_tracks.py), how often six people and more jerk as one
beyond chance, and in how many frames a turn is compensated (`trackers.camera_motion`). Of MOT17 the camera of 02
stands, those of 05, 10 and 11 are carried.

Synthetic: people of 100 pixels who walk each their own way, whose boxes are a pixel off, before a camera at rest, and
before one that shakes by so many pixels, through the tracker, so that what it compensates counts; the share of time,
after the first 30 s, in which the camera is taken for one that turns, and that of frames that are compensated.
"""

import argparse
import json
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
# Run as a file, this folder comes first, and then `trackers` would be the benchmark of that name.
sys.path[:] = [str(ROOT), *(each for each in sys.path if Path(each or ".").resolve() != ROOT / "benchmarks")]

from benchmarks.machine import describe  # noqa: E402
from benchmarks.vtest_tracks import detect, ways  # noqa: E402
from trackers.camera_motion import Turns, chance_of  # noqa: E402
from trackers.cautious import CautiousTracker  # noqa: E402
from trackers.run import load  # noqa: E402
from trackers.structures import Detections  # noqa: E402

HALF = np.array([20.0, 50.0])  # pixels, of a person
SHAKES = (0.0, 1.0, 3.0)  # pixels
SETTLED_SECONDS, SECONDS = 30, 120
SEEDS = 3


class Watched(Turns):
    """`Turns` that counts."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = self.compensated = self.told = self.jerked = 0
        self.by_chance = 0.0

    def shift(self, *args: Any, **kwargs: Any) -> Any:
        """As it is."""
        self.calls += 1
        shift = super().shift(*args, **kwargs)
        self.compensated += shift is not None
        return shift

    def _learn(self, people: int, *, jerked: bool, dt: float) -> None:
        self.told, self.jerked = self.told + 1, self.jerked + jerked
        self.by_chance += chance_of(people)
        super()._learn(people, jerked=jerked, dt=dt)


def watch(frames: Iterable[tuple[Detections, float]]) -> dict[str, Any]:
    """What the default tracker thinks of a camera."""
    tracker = CautiousTracker()
    turns = tracker._turns = Watched()
    for detections, seconds in frames:
        tracker.update(detections, pts_seconds=seconds)
    told = turns.told - turns.by_chance
    return {
        "frames": turns.calls,
        "frames_of_six_and_more": turns.told,
        "jerked_beyond_chance": round((turns.jerked - turns.by_chance) / told, 3) if told > 0 else None,
        "compensated": round(turns.compensated / max(1, turns.calls), 3),
    }


def simulate(people: int, fps: int, shake: float, seed: int, *, seconds: int = SECONDS) -> tuple[float, float]:
    """Shares of the time in which the camera is taken for one that turns, and of the frames that are compensated."""
    rng, tracker, said = np.random.default_rng(seed), CautiousTracker(), []
    turns = tracker._turns = Watched()
    place, way = rng.uniform([0, 0], [1900, 900], (people, 2)), rng.uniform(0, 2 * np.pi, people)
    for frame in range(seconds * fps):
        turned = rng.random(people) < 1 / (6 * fps)
        way[turned] = rng.uniform(0, 2 * np.pi, turned.sum())
        place += 35 / fps * np.stack([np.cos(way), np.sin(way)], axis=1)
        out = ((place < 0) | (place > [1900, 900])).any(axis=1)
        way[out] = np.arctan2(450 - place[out, 1], 950 - place[out, 0])
        middle = place + rng.normal(0, 1, (people, 2)) + rng.normal(0, 1, 2) * shake
        xyxy = np.concatenate([middle - HALF, middle + HALF], axis=1).astype(np.float32)
        tracker.update(Detections(xyxy, np.full(people, 0.9, np.float32)), pts_seconds=frame / fps)
        if frame > fps * SETTLED_SECONDS:
            said.append(turns.turns)
    return float(np.mean(said)), turns.compensated / turns.calls


def main() -> None:
    """Watch, simulate, and write the JSON."""
    shared = Path(os.environ.get("SURVEILLANCE_DATA") or ROOT.parent / "shared" / "data")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=shared / "mot", help="folder of sequences")
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks" / "results" / "camera_turns.json")
    options = parser.parse_args()
    video, weights = shared / "video" / "vtest_480x360.mp4", shared / "weights" / "yolov8n.pt"
    seconds, frames = detect(video, weights, ROOT / "runs" / "vtest" / "boxes.npz")
    step = float(np.median(np.diff(seconds)))
    real = {}
    for way, chosen in ways(len(frames)).items():
        apart = step * abs(chosen[1] - chosen[0])
        real[f"vtest, {way}"] = watch((frames[each], apart * number) for number, each in enumerate(chosen))
    for folder in sorted(each.parent.parent for each in options.data.glob("*/det/det.txt")):
        sequence = load(folder)
        times = (number / sequence.info.fps for number in range(len(sequence.frames)))
        real[folder.name] = watch(zip(sequence.frames, times, strict=True))
    synthetic: dict[str, dict[str, list[float]]] = {}
    for people in (6, 8, 14):
        for fps in (5, 10, 20, 30):
            by_shake = synthetic[f"{people} people, {fps} frames a second"] = {}
            for shake in SHAKES:
                shares = np.mean([simulate(people, fps, shake, seed) for seed in range(SEEDS)], axis=0)
                by_shake[f"shakes by {shake:g}"] = [round(each, 3) for each in shares.tolist()]
    report = {"machine": describe(), "real": real, "synthetic": synthetic}
    options.output.write_text(json.dumps(report, indent=2) + "\n")
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
