"""What a score means on this camera: the confidences of a weak stream are lifted onto the common scale."""

import math

import numpy as np
from numpy.typing import NDArray

from trackers.boxes import xyxy_to_cxcywh
from trackers.pairs import corners, greatest, overlapping

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]

_PRIOR_BOXES = 3.0  # boxes at the reference that always count
_MOST = 2.4  # what confidences are multiplied by at most
_LESSON_SECONDS = 0.2
_LEAST = 0.1  # boxes below teach nothing
_TIME_SLACK = 1e-6  # seconds: the rounding of float64 time stamps in the order of a Unix time


class ScoreCalibration:
    """Learns the scale of one stream's confidences, and lifts them when it is below the reference.

    The scale is the mean confidence weighted by the confidence's square, ``sum c^3 / sum c^2``, over the recent past:
    0.78 to 0.95 for strong detectors by day, 0.60 to 0.66 for the same scenes with degraded detections. A detector's
    long tail of boxes that are hardly anything has no weight in it. Confidences are multiplied by

        min(2.4, max(1, (reference / scale) ** strength))

    and end at 1. Strong streams are left as they are.

    A box teaches only while it walks (see `WalkingBoxes`): what stands where it always stood may
    be a bush, and a camera that sees nothing else must not take the bush for its people. Where nobody walks the scale
    returns to the reference. It needs neither tracks nor thresholds, so it cannot feed back on itself; a handful of
    lessons a second settle it within one. What is remembered does not grow with the stream.

    Args:
        reference: Scale from which on nothing is lifted, in (0, 1].
        strength: 0 lifts nothing, 1 restores the scale; above 1 because where a detector is weak its scores are also
            spread, and a person's worst box falls further than the average.
        memory_seconds: How long a box counts (exponential decay).
    """

    def __init__(self, *, reference: float, strength: float, memory_seconds: float) -> None:
        self._reference, self._strength, self._memory = reference, strength, memory_seconds
        self.reset()

    def reset(self) -> None:
        """Begin anew, at the reference."""
        self._squares = self._cubes = 0.0
        self._waited = _LESSON_SECONDS
        self._walking = WalkingBoxes()

    @property
    def scale(self) -> float:
        """The stream's present scale, in (0, 1]."""
        prior = _PRIOR_BOXES * self._reference**2
        return (prior * self._reference + self._cubes) / (prior + self._squares)

    @property
    def factor(self) -> float:
        """What confidences are multiplied by, in [1, 2.4]."""
        return min(_MOST, max(1.0, math.pow(self._reference / self.scale, self._strength)))

    def calibrate(self, confidence: Array, xyxy: NDArray[np.floating], *, dt: float) -> Array:
        """Learn from a frame's confidences (n,) and boxes (n, 4), dt seconds after the last frame's.

        Returns:
            The confidences on the common scale, (n,).
        """
        self._waited += dt
        if self._waited > _LESSON_SECONDS - _TIME_SLACK:
            self._learn(confidence, xyxy)
            self._waited = 0.0
        lifted: Array = np.minimum(confidence * self.factor, 1.0)
        return lifted

    def stood(self, xyxy: NDArray[np.floating]) -> Mask:
        """Which of these boxes (n, 4) are where something stands that was never seen to walk, (n,)."""
        return self._walking.stood(xyxy.astype(np.float64))

    def _learn(self, confidence: Array, xyxy: NDArray[np.floating]) -> None:
        likely = confidence >= _LEAST
        walks = self._walking.look(xyxy[likely].astype(np.float64), dt=self._waited)
        taught = confidence[likely][walks]
        decay = math.exp(-self._waited / self._memory)
        squares = taught * taught
        self._squares = self._squares * decay + float(squares.sum())
        self._cubes = self._cubes * decay + float(squares @ taught)


class WalkingBoxes:
    """Tells boxes that walk from boxes that stand, without tracks.

    A box goes on as the one that it overlaps most, if that is mutual. It walks once it has left its place: when hardly
    a third of the two, the way smoothed over a few looks, is common. Whatever did not leave its place for
    `_STILL_SECONDS` stands, and so does all that is new. Boxes that were not seen for `_UNSEEN_SECONDS` are forgotten.
    """

    _SAME, _LEFT = 0.1, 1 / 3  # IoU
    _STILL_SECONDS, _UNSEEN_SECONDS = 5.0, 1.0

    def __init__(self) -> None:
        self._place = np.empty((4, 0))  # cx, cy, w, h, of where it stood
        self._last = np.empty((4, 0))
        self._stood, self._unseen = np.empty(0), np.empty(0)  # seconds
        self._age = np.empty(0)  # seconds since it was new or walked last
        self._walks = np.empty(0, bool)

    def __len__(self) -> int:
        """Boxes remembered."""
        return len(self._walks)

    def look(self, xyxy: Array, *, dt: float) -> Mask:
        """Which of these boxes (n, 4), dt seconds after the last, walk, (n,)."""
        self._stood, self._unseen, self._age = self._stood + dt, self._unseen + dt, self._age + dt
        boxes = xyxy_to_cxcywh(xyxy).T
        known, box = self._same(boxes)
        self._last[:, known] = (self._last[:, known] + boxes[:, box]) / 2
        self._unseen[known] = 0.0
        left = _common(self._place, self._last) < self._LEFT
        settled = left | (self._stood > self._STILL_SECONDS)
        self._walks[settled] = left[settled]
        self._age[left] = 0.0
        self._place[:, settled] = self._last[:, settled]
        self._stood[settled] = 0.0
        walking = np.zeros(len(xyxy), bool)
        walking[box] = self._walks[known]
        self._renew(boxes[:, ~np.isin(np.arange(len(xyxy)), box)])
        return walking

    def stood(self, xyxy: Array) -> Mask:
        """Which of these boxes (n, 4) are where something stands, and stood for `_STILL_SECONDS`, (n,)."""
        old = self._age > self._STILL_SECONDS
        pairs = overlapping(corners(self._last[:, old]), corners(xyxy_to_cxcywh(xyxy).T))
        there: Mask = greatest(pairs.overlap, pairs.box, len(xyxy)) > self._LEFT
        return there

    def _same(self, boxes: Array) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Pairs of what is known and a box that are each other's best."""
        pairs = overlapping(corners(self._last), corners(boxes))
        best = np.maximum(
            greatest(pairs.overlap, pairs.track, self._last.shape[1])[pairs.track],
            greatest(pairs.overlap, pairs.box, boxes.shape[1])[pairs.box],
        )
        mutual = np.flatnonzero((pairs.overlap >= best) & (pairs.overlap > self._SAME))
        # Of boxes that are equal to the last bit, one.
        mutual = mutual[np.unique(pairs.track[mutual], return_index=True)[1]]
        mutual = mutual[np.unique(pairs.box[mutual], return_index=True)[1]]
        return pairs.track[mutual], pairs.box[mutual]

    def _renew(self, new: Array) -> None:
        """Forget what was not seen for long, and take in what is new."""
        kept, count = self._unseen <= self._UNSEEN_SECONDS + _TIME_SLACK, new.shape[1]
        self._place = np.concatenate([self._place[:, kept], new], axis=1)
        self._last = np.concatenate([self._last[:, kept], new], axis=1)
        self._stood = np.concatenate([self._stood[kept], np.zeros(count)])
        self._unseen = np.concatenate([self._unseen[kept], np.zeros(count)])
        self._age = np.concatenate([self._age[kept], np.zeros(count)])
        self._walks = np.concatenate([self._walks[kept], np.zeros(count, bool)])


def _common(first: Array, second: Array) -> Array:
    """Intersection over union of each of (4, n) cx, cy, w, h with its like, (n,)."""
    a, b = corners(first), corners(second)
    wide = np.minimum(a[2], b[2]) - np.maximum(a[0], b[0])
    tall = np.minimum(a[3], b[3]) - np.maximum(a[1], b[1])
    both = np.clip(wide, 0.0, None) * np.clip(tall, 0.0, None)
    share: Array = both / (a[8] + b[8] - both)
    return share
