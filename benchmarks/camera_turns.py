"""Which cameras are taken for ones that turn: ``python benchmarks/camera_turns.py`` writes the JSON beside it.

Real: over every sequence of ../shared/data/mot (or SURVEILLANCE_DATA/mot), and over vtest, whose camera never moves, as
filmed and thinned out (boxes in runs/vtest, of benchmarks/vtest_tracks.py), how often six people and more jerk as one
beyond chance, and in how many frames a turn is compensated (`trackers.camera_motion`). Of MOT17 the camera of 02
stands, those of 05, 10 and 11 are carried.

Synthetic: people whose boxes are a pixel off, before a camera at rest, while all set off one way every 8 seconds, and
before one that shakes by so many pixels; the share of time, after the first 30 s, in which the camera is taken for one
that turns.
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

SCENES = {"at rest": (0.0, 0.0), "all walk one way": (2.0, 0.0), "shakes by 0.5": (0.0, 0.5), "shakes by 1": (0.0, 1.0)}
SETTLED_SECONDS, SECONDS, STRIDE_SECONDS = 30, 240, 8
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


def simulate(people: int, fps: int, walk: float, shake: float, seed: int) -> float:
    """Share of the time in which the camera is taken for one that turns."""
    rng, turns, said = np.random.default_rng(seed), Turns(), []
    still = np.concatenate([np.arange(people)[:, None] * [150.0, 0.0] + [0, 300], np.full((people, 2), [40, 100])], 1)
    common = 0.0
    for frame in range(SECONDS * fps):
        if frame % (fps * STRIDE_SECONDS) == 0:
            common = walk * rng.normal()
        seen = still + rng.normal(0, 1, (people, 4))
        seen[:, 0] += common + shake * rng.normal()
        turns.shift(still, seen, dt=1 / fps)
        if frame > fps * SETTLED_SECONDS:
            said.append(turns.turns)
    return float(np.mean(said))


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
    synthetic = {
        f"{people} people, {fps} frames a second": {
            scene: round(float(np.mean([simulate(people, fps, *kind, seed) for seed in range(SEEDS)])), 3)
            for scene, kind in SCENES.items()
        }
        for people in (6, 9, 14)
        for fps in (5, 20)
    }
    report = {"machine": describe(), "real": real, "synthetic": synthetic}
    options.output.write_text(json.dumps(report, indent=2) + "\n")
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
