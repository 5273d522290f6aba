"""People whose paths are known, for tests of trackers."""

import numpy as np

from trackers.base import Tracker
from trackers.structures import Detections


def people(*lefts: float, confidence: float | list[float] = 0.9) -> Detections:
    """A person 40 wide and 100 high at each of these places."""
    xyxy = np.array([[left, 50, left + 40, 150] for left in lefts], np.float32).reshape(-1, 4)
    return Detections(xyxy, np.broadcast_to(np.asarray(confidence, np.float32), len(xyxy)))


def run(tracker: Tracker, frames: list[Detections], *, fps: float = 10.0, start: float = 0.0) -> list[list[int]]:
    """Ids of each frame."""
    return [
        tracker.update(each, pts_seconds=start + index / fps).track_id.tolist() for index, each in enumerate(frames)
    ]


def crowd(seed: int, frames: int = 30, count: int = 6) -> list[Detections]:
    """People walking on random paths, with misses, jitter and false boxes."""
    rng = np.random.default_rng(seed)
    place, speed = rng.uniform(0, 800, (count, 2)), rng.uniform(-8, 8, (count, 2))
    result = []
    for _ in range(frames):
        place = place + speed
        seen = place[rng.random(count) < 0.85]
        corner = np.concatenate([seen + rng.normal(0, 1, seen.shape), rng.uniform(0, 800, (rng.integers(0, 2), 2))])
        xyxy = np.concatenate([corner, corner + np.array([40, 100])], axis=1)
        result.append(Detections(xyxy, rng.uniform(0.05, 1, len(xyxy))))
    return result
