"""Who is who: gated one-to-one assignment of tracks to detections."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment


class Assignment(NamedTuple):
    """Rows of the cost matrix are tracks, columns are detections; every row and column is in exactly one field.

    Attributes:
        matches: Track and detection of each pair, (k, 2) int64, by track.
        unmatched_tracks: (t,) int64, ascending.
        unmatched_detections: (d,) int64, ascending.
    """

    matches: NDArray[np.int64]
    unmatched_tracks: NDArray[np.int64]
    unmatched_detections: NDArray[np.int64]


def assign(cost: NDArray[np.float64], *, gate: float) -> Assignment:
    """Pair tracks with detections so that the sum of ``gate - cost`` over the pairs is greatest.

    Only pairs of cost strictly below the gate can be made; leaving a track or a detection alone costs nothing. So a
    pair beyond the gate can neither be returned nor push another pair aside (the costs are clipped at the gate, which
    has the same optimum and needs no extended matrix).

    Args:
        cost: (tracks, detections); infinity forbids a pair.
        gate: Finite.

    Raises:
        ValueError: When cost is not a matrix or holds NaN, or the gate is not finite.
    """
    if cost.ndim != 2:
        raise ValueError(f"cost must be (tracks, detections), got {cost.shape}")
    if not np.isfinite(gate):
        raise ValueError(f"gate must be finite, got {gate}")
    clipped = np.minimum(cost, gate)
    least = clipped.min(initial=gate)  # NaN where there is one
    if np.isnan(least):
        raise ValueError("cost must not hold NaN")
    n, m = cost.shape
    if least >= gate:
        return Assignment(np.empty((0, 2), np.int64), np.arange(n), np.arange(m))
    rows, columns = linear_sum_assignment(clipped)
    real = cost[rows, columns] < gate
    rows, columns = rows[real], columns[real]
    return Assignment(np.stack([rows, columns], axis=1), _others(n, rows), _others(m, columns))


def assign_pairs(
    tracks: NDArray[np.int64], detections: NDArray[np.int64], gain: NDArray[np.float64], *, shape: tuple[int, int]
) -> NDArray[np.int64]:
    """Choose among a few possible pairs, no track and no detection twice, so that the sum of their gains is greatest.

    Args:
        tracks: Of each pair, (k,).
        detections: Of each pair, (k,); no pair twice.
        gain: Of each pair, (k,); those not above 0 are never chosen.
        shape: How many tracks and detections there are.

    Returns:
        Indices of the chosen pairs, (c,), ascending.
    """
    possible = (gain > 0).nonzero()[0]
    rows, columns = tracks[possible], detections[possible]
    if len(rows) <= 1 or (np.bincount(columns).max() == 1 and np.bincount(rows).max() == 1):
        return possible  # nobody is in anybody's way
    cost = np.zeros(shape)
    cost[rows, columns] = -gain[possible]
    taken = np.full(shape[0], -1)
    row, column = linear_sum_assignment(cost)
    taken[row] = column
    chosen: NDArray[np.int64] = possible[taken[rows] == columns]
    return chosen


def _others(count: int, taken: NDArray[np.int64]) -> NDArray[np.int64]:
    free = np.ones(count, dtype=bool)
    free[taken] = False
    return np.flatnonzero(free)
