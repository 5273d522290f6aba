"""Which boxes of a frame show one whole person well enough to be cut out; the others stay in their tracklet."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trackers.structures import Tracks

_GOOD = 0.8  # confidence of a plain person on the common scale


@dataclass(frozen=True, slots=True)
class CropGate:
    """What a box must be to give a crop.

    Attributes:
        max_covered: Share of its area that boxes standing in front (a lower bottom edge is nearer) may cover, each
            for itself.
        border: Pixels from the left, right or upper edge of the picture within which a box counts as cut off. The lower
            edge does not count: it takes the feet of whoever is near, and nothing else.
        min_share: Least confidence, as a share of the frame's highest, or of a good box's (0.8 on the common scale, see
            `Tracks.lift`) where that is more: the best of nothing but false alarms is no measure.
    """

    max_covered: float = 0.5
    border: float = 1.0
    min_share: float = 0.35

    def __post_init__(self) -> None:
        for name in ("max_covered", "min_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must be in [0, 1], got {getattr(self, name)}")
        if not (np.isfinite(self.border) and self.border >= 0):
            raise ValueError(f"border must be a number of pixels not below 0, got {self.border}")

    def passes(self, tracks: Tracks, resolution_wh: tuple[int, int]) -> NDArray[np.bool_]:
        """Which boxes of a frame of this width and height give a crop, (n,)."""
        if not len(tracks):
            return np.empty(0, bool)
        left, top, right, _ = tracks.xyxy.T
        whole = (left > self.border) & (top > self.border) & (right < resolution_wh[0] - self.border)
        good = max(float(tracks.confidence.max()), _GOOD / tracks.lift)
        sure = tracks.confidence >= self.min_share * good
        passing: NDArray[np.bool_] = whole & sure & (covered(tracks.xyxy) <= self.max_covered)
        return passing


def covered(xyxy: NDArray[np.float32]) -> NDArray[np.float64]:
    """Greatest share of each box's area (n, 4) that one box in front of it covers, (n,)."""
    left, top, right, bottom = xyxy.astype(np.float64).T
    wide = np.minimum(right[:, None], right) - np.maximum(left[:, None], left)
    tall = np.minimum(bottom[:, None], bottom) - np.maximum(top[:, None], top)
    share = np.clip(wide, 0, None) * np.clip(tall, 0, None) / ((right - left) * (bottom - top))[:, None]
    share[bottom <= bottom[:, None]] = 0.0
    greatest: NDArray[np.float64] = share.max(axis=1, initial=0.0)
    return greatest
