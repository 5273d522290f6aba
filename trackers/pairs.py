"""Tracks and boxes that overlap, as a list of pairs: of all that could be compared, the few that must be."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Rows = NDArray[np.int64]


class Pairs(NamedTuple):
    """Pairs of a track and a box, by track and then by box; a row a pair, (k,) each.

    Attributes:
        track: Which track.
        box: Which box.
        overlap: Intersection over union; 0 only where a track has no size.
        height_overlap: Intersection over union of the vertical extents.
        apart: Track less box: cx, cy, w, h in pixels, (4, k).
        distance: Square of its length, square pixels.
    """

    track: Rows
    box: Rows
    overlap: Array
    height_overlap: Array
    apart: Array
    distance: Array


def corners(cxcywh: Array) -> Array:
    """Left, top, right, bottom, cx, cy, w, h and area of boxes (4, n) by their cx, cy, w, h: (9, n)."""
    table = np.empty((9, cxcywh.shape[1]))
    table[4:8] = cxcywh
    half = np.maximum(cxcywh[2:], 0.0) / 2
    np.subtract(cxcywh[:2], half, out=table[:2])
    np.add(cxcywh[:2], half, out=table[2:4])
    np.multiply(cxcywh[2], cxcywh[3], out=table[8])
    return table


def overlapping(tracks: Array, boxes: Array) -> Pairs:
    """All pairs that overlap.

    Args:
        tracks: (9, n), as `corners` gives them.
        boxes: (9, m), likewise.
    """
    meet = tracks[:2, :, None] < boxes[2:4, None]
    meet &= tracks[2:4, :, None] > boxes[:2, None]
    track, box = (meet[0] & meet[1]).nonzero()
    a, b = tracks.take(track, axis=1), boxes.take(box, axis=1)
    common = np.minimum(a[2:4], b[2:4])
    common -= np.maximum(a[:2], b[:2])
    both = a[7:] + b[7:]  # heights, areas
    np.multiply(common[0], common[1], out=common[0])
    both -= common[::-1]
    common /= both[::-1]
    apart = a[4:8]
    apart -= b[4:8]
    return Pairs(track, box, common[0], common[1], apart, np.einsum("ij,ij->j", apart, apart))


def overlap_by(share: float, first: Array, second: Array) -> NDArray[np.bool_]:
    """Which boxes (9, n) and (9, m), see `corners`, overlap with so great an intersection over union, (n, m)."""
    common = np.minimum(first[2:4, :, None], second[2:4, None])
    common -= np.maximum(first[:2, :, None], second[:2, None])
    np.maximum(common, 0.0, out=common)
    both = common[0] * common[1]
    near: NDArray[np.bool_] = both >= share * (first[8][:, None] + second[8] - both)
    near &= both > 0
    return near


def greatest(values: Array, at: Rows, count: int) -> Array:
    """The greatest of the values (k,) at each of so many places, 0 where there is none, (count,)."""
    result = np.zeros(count)
    np.maximum.at(result, at, values)
    return result
