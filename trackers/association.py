"""Who is who: gated one-to-one assignment of tracks to detections."""

from typing import NamedTuple

import lap
import numpy as np
from numpy.typing import NDArray


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
    pair beyond the gate can neither be returned nor push another pair aside (Jonker and Volgenant 1987, on the costs
    clipped at the gate, which has the same optimum and needs no extended matrix).

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
    clipped -= gate
    column_of = _solve(clipped)
    rows = np.flatnonzero(column_of >= 0)
    columns = column_of[rows]
    real = cost[rows, columns] < gate
    rows, columns = rows[real], columns[real]
    return Assignment(np.stack([rows, columns], axis=1), _others(n, rows), _others(m, columns))


def _solve(cost: NDArray[np.float64]) -> NDArray[np.int64]:
    """Column of each row, -1 for none."""
    _, column_of, _ = lap.lapjv(cost, extend_cost=True)
    return np.asarray(column_of, dtype=np.int64)


def _others(count: int, taken: NDArray[np.int64]) -> NDArray[np.int64]:
    free = np.ones(count, dtype=bool)
    free[taken] = False
    return np.flatnonzero(free)
