"""Late evidence: tracklets put together into persons all at once, instead of one after the other."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_SWEEPS = 4


def group(log_odds: Floats, *, threshold: float, together: Sequence[int] | Ints | None = None) -> Ints:
    """Group by mean log odds between groups (average linkage), then let each member change to where it fits better.

    Args:
        log_odds: (n, n), symmetric; -inf keeps two apart, whatever else speaks for them.
        threshold: Groups join while their mean log odds is above.
        together: (n,) a number of 0 or more for members that stay together, -1 for those that are free. Groups of two
            different numbers never join.

    Returns:
        (n,) the group of each, numbered from 0 in order of their first members.
    """
    count = len(log_odds)
    fixed = np.full(count, -1, np.int64) if together is None else np.asarray(together, np.int64)
    if not count:
        return np.empty(0, np.int64)
    apart = ~np.isfinite(log_odds) | ((fixed[:, None] != fixed) & (fixed[:, None] >= 0) & (fixed >= 0))
    finite = np.where(apart, 0.0, log_odds)
    np.fill_diagonal(finite, 0.0)
    np.fill_diagonal(apart, False)
    labels = _linked(finite, apart, fixed, threshold)
    labels = _settled(finite, apart, labels, fixed, threshold)
    _, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
    order = np.empty(len(first), np.int64)
    order[np.argsort(first)] = np.arange(len(first))
    return np.asarray(order[inverse])


def _linked(finite: Floats, apart: NDArray[np.bool_], fixed: Ints, threshold: float) -> Ints:
    labels = np.where(fixed >= 0, fixed + len(fixed), np.arange(len(fixed)))
    names, labels = np.unique(labels, return_inverse=True)
    member = np.zeros((len(names), len(fixed)))
    member[labels, np.arange(len(fixed))] = 1.0
    size = member.sum(axis=1)
    total = member @ finite @ member.T
    barred = (member @ apart.astype(np.float64) @ member.T) > 0
    mean = np.where(barred, -np.inf, total / np.outer(size, size))
    np.fill_diagonal(mean, -np.inf)
    best = mean.argmax(axis=1)
    value = mean[np.arange(len(names)), best]
    into = np.arange(len(names))
    while True:
        a = int(value.argmax())
        if value[a] <= threshold:
            break
        b = int(best[a])
        a, b = min(a, b), max(a, b)
        into[into == b] = a
        total[a] += total[b]
        total[:, a] = total[a]
        size[a] += size[b]
        barred[a] |= barred[b]
        barred[:, a] = barred[a]
        mean[a] = np.where(barred[a], -np.inf, total[a] / (size[a] * size))
        mean[a, a] = -np.inf
        mean[:, a] = mean[a]
        mean[b] = mean[:, b] = -np.inf
        mean[a, into != np.arange(len(into))] = -np.inf
        mean[into != np.arange(len(into)), a] = -np.inf
        stale = np.flatnonzero((best == a) | (best == b) | (mean[:, a] > value))
        for row in {*stale.tolist(), a}:
            best[row] = int(mean[row].argmax())
            value[row] = mean[row, best[row]]
        value[b] = -np.inf
    return np.asarray(into[labels])


def _settled(finite: Floats, apart: NDArray[np.bool_], labels: Ints, fixed: Ints, threshold: float) -> Ints:
    """Each free member moves to the group of the greatest mean log odds, or to one of its own."""
    labels = labels.copy()
    for _ in range(_SWEEPS):
        moved = False
        for item in np.flatnonzero(fixed < 0):
            names, where = np.unique(labels, return_inverse=True)
            others = np.ones(len(labels), bool)
            others[item] = False
            counts = np.bincount(where[others], minlength=len(names))
            sums = np.bincount(where[others], weights=finite[item, others], minlength=len(names))
            barred = np.bincount(where[others], weights=apart[item, others], minlength=len(names)) > 0
            means = np.where(barred | (counts == 0), -np.inf, sums / np.maximum(counts, 1))
            target = int(means.argmax())
            chosen = int(names[target]) if means[target] > threshold else -1
            alone = counts[where[item]] == 0
            if chosen == -1 and not alone:
                chosen = int(labels.max()) + 1
            if chosen not in (-1, int(labels[item])):
                labels[item] = chosen
                moved = True
        if not moved:
            break
    return labels
