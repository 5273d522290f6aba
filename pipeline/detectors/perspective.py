"""How tall people are in one fixed camera, by where their heads are: learned from people seen alone.

On level ground seen by an upright camera, the height of a person in the image is a linear function of the row of the
head. People differ in height by less than a tenth, so a line through many of them tells how far below a head feet are.
"""

from collections import deque

import numpy as np
from numpy.typing import NDArray

_LEAST_BOXES = 40
_MOST_BOXES = 3000
_REFIT_AFTER = 40
_OUTLIER = 0.2  # of the height: fragments and mergers are further off
_LEAST_ROWS = 6.0  # between two heads that tell something about the slope
# Prior of the slope, as if so many boxes spread over so many rows had said 0: the first boxes are of a few people only.
_PRIOR_BOXES, _PRIOR_ROWS = 150, 15.0


class Perspective:
    """The line of one camera, in working pixels."""

    def __init__(self) -> None:
        self._tops: deque[float] = deque(maxlen=_MOST_BOXES)
        self._heights: deque[float] = deque(maxlen=_MOST_BOXES)
        self._since_fit = 0
        self._line: tuple[float, float] | None = None

    def add(self, top: float, height: float) -> None:
        """Take in a box that is likely to be one whole person."""
        self._tops.append(top)
        self._heights.append(height)
        self._since_fit += 1
        if self._since_fit >= _REFIT_AFTER and len(self._tops) >= _LEAST_BOXES:
            self._since_fit = 0
            self._fit()

    def height_at(self, top: float) -> float | None:
        """Usual height of a person whose head is at this row; None until enough people were seen."""
        if self._line is None:
            return None
        slope, offset = self._line
        return max(1.0, slope * top + offset)

    def height_above(self, bottom: float) -> float | None:
        """Usual height of a person whose feet are at this row."""
        if self._line is None:
            return None
        slope, offset = self._line
        return max(1.0, (slope * bottom + offset) / (1 + slope)) if slope > -0.5 else None

    def _fit(self) -> None:
        """Regularised least squares without what lies far from a first, robust line."""
        tops, heights = np.array(self._tops), np.array(self._heights)
        trust = 1 / (1 + _PRIOR_BOXES * _PRIOR_ROWS**2 / (len(tops) * tops.var() + 1e-9))
        slope = trust * _robust_slope(tops, heights)
        for _ in range(2):
            level = float(np.median(heights - slope * tops))
            near = np.abs(heights - slope * tops - level) < _OUTLIER * heights.clip(level + slope * tops)
            if near.sum() < _LEAST_BOXES // 2:
                return
            x, y = tops[near] - tops[near].mean(), heights[near] - heights[near].mean()
            slope = float(x @ y / (x @ x + _PRIOR_BOXES * _PRIOR_ROWS**2))
        self._line = (slope, float(heights[near].mean() - slope * tops[near].mean()))


def _robust_slope(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    """Median of the slopes between all pairs (Theil, 1950; Sen, 1968) of every few points; 0 if they are in one row."""
    step = -(-len(x) // 120)
    x, y = x[::step], y[::step]
    run, rise = x[:, None] - x[None], y[:, None] - y[None]
    far = np.abs(run) >= _LEAST_ROWS
    return float(np.median(rise[far] / run[far])) if far.any() else 0.0
