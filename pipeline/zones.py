"""Named parts of a camera's view, and who stood in them."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

Zones = Mapping[str, Sequence[Sequence[float]]]
"""Corners of each zone, x and y as shares of the frame's width and height."""


def zones_of(xyxy: NDArray[np.float32], resolution_wh: tuple[int, int], zones: Zones) -> tuple[str, ...]:
    """The zones in which at least one box has its foot, the middle of its lower edge; sorted.

    Args:
        xyxy: (n, 4), pixels.
        resolution_wh: Of the frames.
        zones: Of the camera.
    """
    feet = np.stack([(xyxy[:, 0] + xyxy[:, 2]) / 2, xyxy[:, 3]], axis=1) / np.array(resolution_wh, np.float64)
    return tuple(sorted(name for name, corners in zones.items() if _inside(feet, np.asarray(corners, float)).any()))


def _inside(points: NDArray[np.float64], corners: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Whether a ray from each point crosses the border an odd number of times (the even-odd rule)."""
    x, y = points.T[:, :, None]
    (x1, y1), (x2, y2) = corners.T, np.roll(corners, -1, axis=0).T
    spans = (y1 > y) != (y2 > y)
    with np.errstate(divide="ignore", invalid="ignore"):
        crossing = x1 + (y - y1) / (y2 - y1) * (x2 - x1)
    return np.asarray((spans & (x < crossing)).sum(axis=1) % 2 == 1)
