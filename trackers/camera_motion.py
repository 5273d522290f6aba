"""How far the camera turned between two frames, from nothing but the boxes."""

import math

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

Array = NDArray[np.float64]

_LEAST_PAIRS = 6  # four people on a path, which has two directions, go the same way one time in eight, six one in 32
_ROBUST_ERROR = 1.4826 * 1.2533  # from a median absolute deviation to the standard error of a median, times sqrt(n)


def common_shift(predicted: Array, detected: Array) -> Array | None:
    """The displacement that people, who walk each their own way, have in common: that of the camera.

    Pairs are mutual nearest neighbours over cx, cy, w, h whose distance is below half a height, and the shift is the
    median of their residuals. An axis counts only where the shift exceeds both its own standard error and the
    residuals' median deviation from it: most of the people must agree, so that neither a camera at rest nor a group
    that sets off together is taken for a turn.

    Args:
        predicted: Where tracks are expected, cx, cy, w, h in pixels, (t, 4).
        detected: What was found, likewise, (d, 4).

    Returns:
        (2,) pixels, or None when there is none, or fewer than 6 pairs to tell it from.
    """
    if min(len(predicted), len(detected)) < _LEAST_PAIRS:
        return None
    distance = cdist(predicted, detected, "sqeuclidean")
    nearest = distance.argmin(axis=1)
    mutual = distance.argmin(axis=0)[nearest] == np.arange(len(predicted))
    mutual &= 4 * distance.min(axis=1) < predicted[:, 3] ** 2
    residual = (detected[nearest] - predicted)[mutual, :2]
    if len(residual) < _LEAST_PAIRS:
        return None
    shift = _median(residual)
    deviation = _median(np.abs(residual - shift))
    shift[np.abs(shift) <= max(_ROBUST_ERROR / math.sqrt(len(residual)), 1.0) * deviation] = 0.0
    return shift if shift[0] or shift[1] else None


def _median(values: Array) -> Array:
    """Of each column; what NumPy's own gives, at a third of its time for few rows."""
    ordered = values.copy()
    ordered.sort(axis=0)
    half = len(values) // 2
    middle: Array = ordered[half] if len(values) % 2 else (ordered[half - 1] + ordered[half]) / 2
    return middle
