"""Tracks and boxes that overlap, as a list of pairs: of all that could be compared, the few that must be."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Rows = NDArray[np.int64]

DOUBLE = 0.9
"""Intersection over union from which on two boxes of a frame are one person, whom the detector found twice.

Hardly ever are they two, on MOT17 and DanceTrack, and twenty times as often from 0.8 on: `benchmarks/doubles.py`.
"""

ORDER = np.array([1.0, 2.0, 3.0, 5.0]) ** 0.5
"""Corners times these are a number by which boxes have an order of their own, whatever order they came in."""

_ROUNDING = 1e-9
_NONE: Rows = np.empty(0, np.int64)


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


def overlap_of_each(first: Array, second: Array) -> Array:
    """Intersection over union of each of the boxes (9, n), see `corners`, with its like, (n,)."""
    common = np.minimum(first[2:4], second[2:4])
    common -= np.maximum(first[:2], second[:2])
    np.maximum(common, 0.0, out=common)
    both = common[0] * common[1]
    share: Array = both / (first[8] + second[8] - both)
    return share


def doubles(share: float, boxes: Array) -> Rows:
    """Which boxes overlap one before them, that is no double itself, by so much, ascending.

    Only neighbours from left to right are compared: who overlaps by s has its middle within (1 / s - 1) / 2 of a width.

    Args:
        share: Intersection over union, above 0.
        boxes: (9, m), as `corners` gives them, with an area.
    """
    order = boxes[4].argsort()
    middle, width = boxes[4:7:2].take(order, axis=1)
    width *= (1 / share - 1) / 2 + _ROUNDING
    near: list[tuple[int, int]] = []
    lag = 1
    while len(close := (middle[lag:] - middle[:-lag] <= width[:-lag]).nonzero()[0]):
        first, second = order[close], order[close + lag]
        same = overlap_of_each(boxes.take(first, axis=1), boxes.take(second, axis=1)) >= share
        if np.count_nonzero(same):
            near += zip(first[same].tolist(), second[same].tolist(), strict=True)
        lag += 1
    return _later(near) if near else _NONE


def _later(near: list[tuple[int, int]]) -> Rows:
    """Of each of these pairs the later one, unless the earlier one is left out itself."""
    out: set[int] = set()
    for first, second in sorted((min(pair), max(pair)) for pair in near):
        if first not in out:
            out.add(second)
    return np.array(sorted(out), np.int64)


def greatest(values: Array, at: Rows, count: int) -> Array:
    """The greatest of the values (k,) at each of so many places, 0 where there is none, (count,)."""
    result = np.zeros(count)
    np.maximum.at(result, at, values)
    return result
