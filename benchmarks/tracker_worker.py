"""Times one tracker in a process of its own, so that packages of one name do not meet; started by trackers.py.

``python -P benchmarks/tracker_worker.py PACKAGE NAME FOLDER`` puts FOLDER first on the path, prints "ready", and then
for each line of input, the path of a scene (see `trackers.save_scene`), runs a new tracker over each of its sequences
and prints the seconds of processor time spent inside the tracker. Inputs are made ready in the tracker's own types
before.

One array of the size of a frame is made and dropped first: from then on glibc keeps what is freed, as it does in every
process that has decoded an image; before, it hands each matrix of 128 kB or more back to the system and fetches it
anew.
"""

import os
import sys
import time
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np

Update = Callable[[Any, float], Any]


def ours(name: str) -> tuple[Callable[[float], Update], Callable[..., Any]]:
    """A maker of trackers of this repository, and of their input."""
    from trackers.algorithms import TRACKERS
    from trackers.structures import Detections

    def make(_: float) -> Update:
        tracker = TRACKERS[name].build()
        return lambda detections, seconds: tracker.update(detections, pts_seconds=seconds)

    return make, Detections


def roboflow(name: str) -> tuple[Callable[[float], Update], Callable[..., Any]]:
    """The same for Roboflow's package `trackers`."""
    import supervision

    import trackers

    def make(fps: float) -> Update:
        tracker = getattr(trackers, name)(frame_rate=fps)
        return lambda detections, _: tracker.update(detections)

    def detections(xyxy: Any, confidence: Any) -> Any:
        return supervision.Detections(xyxy, confidence=confidence, class_id=np.zeros(len(xyxy), int))

    return make, detections


def ultralytics(name: str) -> tuple[Callable[[float], Update], Callable[..., Any]]:
    """The same for ultralytics, with its own configuration and without camera motion."""
    from ultralytics import trackers
    from ultralytics.engine.results import Boxes
    from ultralytics.utils import YAML, IterableSimpleNamespace
    from ultralytics.utils.checks import check_yaml

    settings = IterableSimpleNamespace(
        **YAML.load(check_yaml({"BOTSORT": "botsort", "BYTETracker": "bytetrack"}[name] + ".yaml"))
    )
    settings.gmc_method = "none"

    def make(_: float) -> Update:
        tracker = getattr(trackers, name)(settings)
        return lambda detections, _: tracker.update(detections, None)

    def detections(xyxy: Any, confidence: Any) -> Any:
        columns = np.concatenate([xyxy, confidence[:, None], np.zeros((len(xyxy), 1), np.float32)], axis=1)
        return Boxes(columns, (1080, 1920))

    return make, detections


PACKAGES = {"ours": ours, "roboflow": roboflow, "ultralytics": ultralytics}


def main() -> None:
    """Time until the input ends."""
    package, name, folder = sys.argv[1:]
    sys.path.insert(0, folder)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    np.ones((1080, 1920, 3), np.uint8)
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what the packages print is not an answer
    make, detections_of = PACKAGES[package](name)
    scenes: dict[str, list[tuple[float, list[Any]]]] = {}
    answers.write("ready\n")
    for line in sys.stdin:
        path = line.strip()
        if path not in scenes:
            scenes[path] = read_scene(path, detections_of)
        answers.write(f"{time_scene(scenes[path], make)}\n")


def read_scene(path: str, detections_of: Callable[..., Any]) -> list[tuple[float, list[Any]]]:
    """Frames a second and inputs of each sequence."""
    with np.load(path) as scene:
        starts = np.concatenate([[0], np.cumsum(scene["boxes"])])
        frames = [detections_of(scene["xyxy"][a:b], scene["confidence"][a:b]) for a, b in pairwise(starts)]
        ends = np.cumsum(scene["frames"])
        return [
            (float(fps), frames[end - count : end])
            for fps, count, end in zip(scene["fps"], scene["frames"], ends, strict=True)
        ]


def time_scene(scene: list[tuple[float, list[Any]]], make: Callable[[float], Update]) -> float:
    """Seconds of processor time for all sequences."""
    total = 0.0
    for fps, frames in scene:
        update = make(fps)
        start = time.process_time()
        for index, each in enumerate(frames):
            update(each, index / fps)
        total += time.process_time() - start
    return total


if __name__ == "__main__":
    main()
