"""How tall people are in one fixed camera, by where their heads are: learned from people seen alone.

On level ground seen by an upright camera, the height of a person in the image is a linear function of the row of the
head. People differ in height by less than a tenth, so a line through many of them tells how far below a head feet are.
"""

from collections import deque

import numpy as np

_LEAST_PEOPLE = 40
_MOST_PEOPLE = 600
_REFIT_AFTER = 20
_OUTLIER = 0.2  # of the height: fragments and mergers are further off
_SPREAD_ROWS = 6.0  # below it the rows tell nothing about a slope


class Perspective:
    """The line of one camera, in working pixels."""

    def __init__(self) -> None:
        self._tops: deque[float] = deque(maxlen=_MOST_PEOPLE)
        self._heights: deque[float] = deque(maxlen=_MOST_PEOPLE)
        self._since_fit = 0
        self._line: tuple[float, float] | None = None

    def add(self, top: float, height: float) -> None:
        """Take in a box that is likely to be one whole person."""
        self._tops.append(top)
        self._heights.append(height)
        self._since_fit += 1
        if self._since_fit >= _REFIT_AFTER and len(self._tops) >= _LEAST_PEOPLE:
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
        """Least squares, three times, each time without what lies far from the last line."""
        tops, heights = np.array(self._tops), np.array(self._heights)
        slope, offset = 0.0, float(np.median(heights))
        for _ in range(3):
            near = np.abs(heights - (slope * tops + offset)) < _OUTLIER * np.abs(slope * tops + offset) + 1
            if near.sum() < _LEAST_PEOPLE // 2:
                return
            if tops[near].std() < _SPREAD_ROWS:
                slope, offset = 0.0, float(np.median(heights[near]))
            else:
                slope, offset = (float(value) for value in np.polyfit(tops[near], heights[near], 1))
        self._line = (slope, offset)
