"""How far the camera turned between two frames, from nothing but the boxes."""

import math

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

Array = NDArray[np.float64]

_LEAST_PAIRS = 4
_SURE_PAIRS = 6  # so many people on a path, which has two directions, go the same way one time in 32; four one in eight
_TURNS = 0.3  # share of the time with so many people in which they were seen to move, of a camera that turns
_MEMORY_SECONDS = 20.0
_ROBUST_ERROR = 1.4826 * 1.2533  # from a median absolute deviation to the standard error of a median, times sqrt(n)


class Turns:
    """How far one camera turned from frame to frame, and whether it is one that turns.

    A turn is the displacement that people, who walk each their own way, have in common. Pairs are mutual nearest
    neighbours over cx, cy, w, h whose distance is below half a height, and the shift is the median of their residuals.
    An axis counts only where the shift exceeds both its own standard error and the residuals' median deviation from it:
    most of the people must agree, so that neither a camera at rest nor a group that sets off together is taken for a
    turn.

    A few people who walk in one direction look like a camera that turns, and the filter would never learn that they
    walk. Whether a camera turns is its own doing, not theirs: fewer than 6 are believed only while it was seen to turn
    in a third of the time in which 6 or more could tell.
    """

    def __init__(self) -> None:
        self._told = self._turned = 0.0  # seconds, of which the older count less

    def shift(self, predicted: Array, detected: Array, *, dt: float) -> Array | None:
        """Since the last frame, dt seconds ago.

        Args:
            predicted: Where tracks are expected, cx, cy, w, h in pixels, (t, 4).
            detected: What was found, likewise, (d, 4).
            dt: Seconds.

        Returns:
            (2,) pixels, or None when there is none, fewer than 4 pairs to tell it from, or fewer than are believed.
        """
        least = _LEAST_PAIRS if self._turned > _TURNS * self._told else _SURE_PAIRS
        if min(len(predicted), len(detected)) < least:
            return None
        residual = _residuals(predicted, detected)
        if len(residual) < least:
            return None
        shift = _common(residual)
        if len(residual) < _SURE_PAIRS:
            return shift
        decay = math.exp(-dt / _MEMORY_SECONDS)
        self._told = self._told * decay + dt
        self._turned = self._turned * decay + (0.0 if shift is None else dt)
        return shift


def _residuals(predicted: Array, detected: Array) -> Array:
    """Of each pair, (k, 2)."""
    distance = cdist(predicted, detected, "sqeuclidean")
    nearest, rows = distance.argmin(axis=1), np.arange(len(predicted))
    mutual = distance.argmin(axis=0)[nearest] == rows
    height = predicted[:, 3]
    mutual &= 4 * distance[rows, nearest] < height * height
    residual: Array = detected[:, :2].take(nearest[mutual], axis=0) - predicted[:, :2].compress(mutual, axis=0)
    return residual


def _common(residual: Array) -> Array | None:
    """What residuals (k, 2), at least one, have in common; see `Turns`."""
    shift = _median(residual)
    deviation = _median(np.abs(residual - shift))
    least = max(_ROBUST_ERROR / math.sqrt(len(residual)), 1.0)
    axes = zip(shift.tolist(), deviation.tolist(), strict=True)
    shared = [way if abs(way) > least * spread else 0.0 for way, spread in axes]
    return np.array(shared) if any(shared) else None


def _median(values: Array) -> Array:
    """Of each column; what NumPy's own gives, at a third of its time for few rows."""
    ordered = values.copy()
    ordered.sort(axis=0)
    half = len(values) // 2
    middle: Array = ordered[half] if len(values) % 2 else (ordered[half - 1] + ordered[half]) / 2
    return middle
