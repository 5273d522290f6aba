"""What a score means on this camera: the confidences of a weak stream are lifted onto the common scale."""

import math

import numpy as np
from numpy.typing import NDArray

from trackers.boxes import xyxy_to_cxcywh
from trackers.pairs import DOUBLE, ORDER, corners, greatest, overlap_by, overlap_of_each, overlapping

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]
Rows = NDArray[np.int64]

_PRIOR_BOXES = 3.0  # boxes at the reference that always count
_MOST = 2.4  # what confidences are multiplied by at most
_LESSON_SECONDS = 0.2
_LEAST = 0.1  # boxes below teach nothing
_TIME_SLACK = 1e-6  # seconds: the rounding of float64 time stamps in the order of a Unix time

# Rows of what is known of a box: where it stood and where it was last, cx, cy, w, h each; seconds since it took that
# place, since it was seen, and since it was new or left a place; and whether it walks.
_PLACE, _LAST, _STOOD, _UNSEEN, _AGE, _WALKS = slice(0, 4), slice(4, 8), 8, 9, 10, 11


class ScoreCalibration:
    """Learns the scale of one stream's confidences, and lifts them when it is below the reference.

    The scale is the mean confidence weighted by the confidence's square, ``sum c^3 / sum c^2``, over the recent past:
    0.78 to 0.95 for strong detectors by day, 0.60 to 0.66 for the same scenes with degraded detections. A detector's
    long tail of boxes that are hardly anything has no weight in it. Confidences are multiplied by

        min(2.4, max(1, (reference / scale) ** strength))

    and end at 1. Strong streams are left as they are.

    A box teaches only while it walks (see `WalkingBoxes`), unless its frame as a whole is not below the reference: what
    stands where it always stood may be a bush, and a camera that sees nothing else must not take the bush for its
    people. Where nobody walks the scale returns to the reference. It needs neither tracks nor thresholds, so it cannot
    feed back on itself; a handful of lessons a second settle it within one. What is remembered does not grow with the
    stream.

    Args:
        reference: Scale from which on nothing is lifted, in (0, 1].
        strength: 0 lifts nothing, 1 restores the scale; above 1 because where a detector is weak its scores are also
            spread, and a person's worst box falls further than the average.
        memory_seconds: How long a box counts (exponential decay).

    Attributes:
        factor: What confidences are multiplied by, in [1, 2.4].
    """

    def __init__(self, *, reference: float, strength: float, memory_seconds: float) -> None:
        self._reference, self._strength, self._memory = reference, strength, memory_seconds
        self.reset()

    def reset(self) -> None:
        """Begin anew, at the reference."""
        self._squares = self._cubes = 0.0
        self._waited, self._unlooked = _LESSON_SECONDS, 0.0
        self._walking = WalkingBoxes()
        self.factor = 1.0

    @property
    def scale(self) -> float:
        """The stream's present scale, in (0, 1]."""
        prior = _PRIOR_BOXES * self._reference**2
        return (prior * self._reference + self._cubes) / (prior + self._squares)

    def calibrate(self, confidence: Array, xyxy: NDArray[np.floating], *, dt: float) -> Array:
        """Learn from a frame's confidences (n,) and boxes (n, 4), dt seconds after the last frame's.

        Returns:
            The confidences on the common scale, (n,).
        """
        self._waited += dt
        self._unlooked += dt
        if self._waited > _LESSON_SECONDS - _TIME_SLACK:
            self._learn(confidence, xyxy)
            self._waited = 0.0
        return confidence if self.factor == 1.0 else np.minimum(confidence * self.factor, 1.0)

    def stood(self, xyxy: NDArray[np.floating]) -> Mask:
        """Which of these boxes (n, 4) are where something stands that was never seen to walk, (n,)."""
        return self._walking.stood(xyxy.astype(np.float64))

    def _learn(self, confidence: Array, xyxy: NDArray[np.floating]) -> None:
        squares = confidence * confidence
        taught, cubes = float(squares.sum()), float(squares @ confidence)
        if cubes < self._reference * taught:
            likely = (confidence >= _LEAST).nonzero()[0]
            # In an order that is their own: of boxes in one place the last, the surest, is the one that is followed.
            likely = likely[np.lexsort((confidence[likely], xyxy[likely] @ ORDER))]
            walks = likely[self._walking.look(xyxy[likely].astype(np.float64), dt=self._unlooked)]
            taught, cubes, self._unlooked = float(squares[walks].sum()), float(squares[walks] @ confidence[walks]), 0.0
        decay = math.exp(-self._waited / self._memory)
        self._squares = self._squares * decay + taught
        self._cubes = self._cubes * decay + cubes
        power = self._strength * math.log(self._reference / self.scale)  # of e; a great one has no exponential
        self.factor = (
            _MOST if power >= math.log(_MOST) else max(1.0, math.pow(self._reference / self.scale, self._strength))
        )


class WalkingBoxes:
    """Tells boxes that walk from boxes that stand, without tracks.

    A box goes on as the one that it overlaps most, if that is mutual; a double of it is nobody new. It walks once it
    has left its place: when hardly a third of the two, the way smoothed over a few looks, is common. Whatever did not
    leave its place for `_STILL_SECONDS` stands, and so does all that is new. Boxes that were not seen for
    `_UNSEEN_SECONDS` are forgotten.
    """

    _SAME, _LEFT = 0.1, 1 / 3  # IoU
    _STILL_SECONDS, _UNSEEN_SECONDS = 5.0, 1.0

    def __init__(self) -> None:
        self._known = np.empty((12, 0))

    def __len__(self) -> int:
        """Boxes remembered."""
        return self._known.shape[1]

    def look(self, xyxy: Array, *, dt: float) -> Mask:
        """Which of these boxes (n, 4), dt seconds after the last, walk, (n,)."""
        known, table = self._known, corners(xyxy_to_cxcywh(xyxy).T)
        boxes = table[4:8]
        known[_STOOD : _AGE + 1] += dt
        found, box = self._same(table)
        known[_LAST, found] = (known[_LAST, found] + boxes[:, box]) / 2
        known[_UNSEEN, found] = 0.0
        left = overlap_of_each(corners(known[_PLACE]), corners(known[_LAST])) < self._LEFT
        settled = np.flatnonzero(left | (known[_STOOD] > self._STILL_SECONDS))
        if len(settled):
            known[_WALKS, settled] = left[settled]
            known[_PLACE, settled] = known[_LAST, settled]
            known[_STOOD, settled] = 0.0
            known[_AGE, left] = 0.0
        walking, new = np.zeros(len(xyxy), bool), np.ones(len(xyxy), bool)
        walking[box], new[box] = known[_WALKS, found] > 0, False
        forgotten = known[_UNSEEN] > self._UNSEEN_SECONDS + _TIME_SLACK
        if np.count_nonzero(forgotten) or np.count_nonzero(new):
            born = self._born(table, new, box)
            self._known = np.concatenate([known[:, ~forgotten], born], axis=1)
        return walking

    @staticmethod
    def _born(table: Array, new: Mask, found: Rows) -> Array:
        """What is known of the boxes that are new, (12, k), but for doubles of those that were found."""
        boxes = table.compress(new, axis=1)
        if boxes.shape[1] and len(found):
            boxes = boxes[:, ~overlap_by(DOUBLE, boxes, table.take(found, axis=1)).any(axis=1)]
        born = np.zeros((12, boxes.shape[1]))
        born[_PLACE] = born[_LAST] = boxes[4:8]
        return born

    def stood(self, xyxy: Array) -> Mask:
        """Which of these boxes (n, 4) are where something stands, and stood for `_STILL_SECONDS`, (n,)."""
        old = self._known[:, self._known[_AGE] > self._STILL_SECONDS]
        pairs = overlapping(corners(old[_LAST]), corners(xyxy_to_cxcywh(xyxy).T))
        there: Mask = greatest(pairs.overlap, pairs.box, len(xyxy)) > self._LEFT
        return there

    def _same(self, table: Array) -> tuple[Rows, Rows]:
        """Pairs of what is known and a box that are each other's best; of boxes equal to the last bit, one."""
        track, box, overlap, *_ = overlapping(corners(self._known[_LAST]), table)
        best = np.maximum(greatest(overlap, track, len(self))[track], greatest(overlap, box, table.shape[1])[box])
        mutual = np.flatnonzero((overlap >= best) & (overlap > self._SAME))
        for side in (track, box):
            last = np.zeros(int(side.max(initial=0)) + 1, np.int64)
            last[side[mutual]] = mutual
            mutual = mutual[last[side[mutual]] == mutual]
        return track[mutual], box[mutual]
