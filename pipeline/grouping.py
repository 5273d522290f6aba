"""Which person a tracklet is: how much speaks for each who is known and, looking back, who belongs together."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class Pairs:
    """What is known of rows beside columns.

    Attributes:
        likeness: (rows, n) log odds.
        circumstances: (rows, n) log odds that place and time add; -inf for impossible.
        gap: (rows, n) seconds between.
    """

    likeness: Floats
    circumstances: Floats
    gap: Floats


def scores_of(pairs: Pairs, persons: Ints, *, evidence: int) -> tuple[Ints, Floats]:
    """People, ascending, and how much speaks for each row being each of them, (rows, people).

    The mean of the best likenesses, so that one chance likeness among many does not make a match, and what the tracklet
    that is nearest in time says of the way; -inf where any of the person's tracklets makes it impossible.

    Args:
        pairs: Rows beside known tracklets.
        persons: (n,) whose each of the known ones is.
        evidence: How many of the best likenesses count.
    """
    people, where = np.unique(persons, return_inverse=True)
    scores = np.full((len(pairs.likeness), len(people)), -np.inf)
    everybody = np.arange(len(people))
    for row in range(len(scores) if len(people) else 0):
        likeness, circumstances = pairs.likeness[row], pairs.circumstances[row]
        order = np.lexsort((-likeness, where))
        place = np.arange(len(order)) - np.searchsorted(where[order], where[order])
        best = order[place < evidence]
        counts = np.bincount(where[best], minlength=len(people))
        sums = np.bincount(where[best], weights=likeness[best], minlength=len(people))
        nearest = np.lexsort((pairs.gap[row], where))
        nearest = nearest[np.searchsorted(where[nearest], everybody)]
        barred = np.bincount(where, weights=~np.isfinite(circumstances), minlength=len(people)) > 0
        scores[row] = np.where(barred, -np.inf, sums / counts + circumstances[nearest])
    return people, scores


def regroup(persons: Ints, pairs: Pairs, *, threshold: float, fixed: Mask, barred: Mask | None = None) -> Ints:
    """Who is one person, asked anew of all at once, and not one tracklet after the other as they came.

    Groups are merged, the two of which most says that they are one first, as long as that exceeds the threshold. Whole
    groups are compared: a chance likeness of two among twenty counts for little, and so does one hand-over in time.

    Args:
        persons: (n,) numbers of 1 and more, whose each is so far.
        pairs: All beside all, (n, n).
        threshold: Log odds that must be exceeded to be one person.
        fixed: (n,) who stays where they are; they may draw others, and two persons with a fixed one never become one.
        barred: (n, people) who cannot be which of the persons, ascending, for what is not among the rows; None is
            nobody. Who is fixed is not asked.

    Returns:
        (n,) whose each is now: every group keeps the number that most of it had; numbers below 0 are new persons.
    """
    owners = np.unique(persons[fixed])
    first = [np.flatnonzero(fixed & (persons == owner)) for owner in owners]
    first += [np.array([item]) for item in np.flatnonzero(~fixed)]
    if barred is None:
        barred = np.zeros((len(persons), len(np.unique(persons))), np.bool_)
    barred = barred & ~fixed[:, None]
    groups = _Groups(pairs, first, barred[:, np.isin(np.unique(persons), owners)])
    groups.merge_all(threshold)
    return _numbered(persons, groups.members, owners, barred)


class _Groups:
    """Groups and, of every two, the sums that their score is made of.

    The score is the mean of the likenesses (average linkage) and the logarithm of the mean odds that place and time
    give: one of the pairs was the hand-over from one group to the other, and any might be.
    """

    def __init__(self, pairs: Pairs, first: Sequence[Ints], barred: Mask) -> None:
        """Begin with these.

        Args:
            pairs: All beside all.
            first: Members of each group.
            barred: (n, owned) who cannot join which of the first groups; those belong to persons who are to stay apart.
        """
        owned = barred.shape[1]
        self.members: list[Ints | None] = list(first)
        self._count = np.array([len(items) for items in first], np.float64)
        order = np.concatenate([*first, np.empty(0, np.int64)])
        starts = np.cumsum([0, *map(len, first)])[: len(first)]

        def summed(values: NDArray[Any], how: np.ufunc) -> NDArray[Any]:
            by_row = how.reduceat(values[np.ix_(order, order)], starts, axis=0)
            found: NDArray[Any] = how.reduceat(by_row, starts, axis=1)
            return found

        self._likeness = summed(pairs.likeness, np.add)
        self._odds = summed(np.exp(pairs.circumstances), np.add)
        self._barred = summed(~np.isfinite(pairs.circumstances), np.logical_or)
        if len(first):
            kept_out = np.logical_or.reduceat(barred[order], starts, axis=0)
            self._barred[:, :owned] |= kept_out
            self._barred[:owned] |= kept_out.T
        self._barred[:owned, :owned] = True
        np.fill_diagonal(self._barred, True)

    def merge_all(self, threshold: float) -> None:
        """Merge until no two are left that should be."""
        partner, score = self._best(np.arange(len(self.members)))
        while len(score) and score.max() > threshold:
            best = int(score.argmax())
            kept, gone = sorted((best, int(partner[best])))
            self._merge(kept, gone)
            score[gone] = -np.inf
            new = self._scores(np.array([kept]))[0]
            better = new > score
            partner[better], score[better] = kept, new[better]
            stale = np.flatnonzero(np.isin(partner, (kept, gone)) & ~better & np.isfinite(score))
            again = np.union1d(stale, [kept])
            partner[again], score[again] = self._best(again)

    def _best(self, rows: Ints) -> tuple[Ints, Floats]:
        scores = self._scores(rows)
        if not scores.size:
            return np.empty(0, np.int64), np.empty(0)
        partner = scores.argmax(axis=1)
        return partner, scores[np.arange(len(rows)), partner]

    def _scores(self, rows: Ints) -> Floats:
        count = self._count[rows, None] * self._count[None]
        with np.errstate(divide="ignore"):
            scores = self._likeness[rows] / count + np.log(self._odds[rows] / count)
        return np.where(self._barred[rows], -np.inf, scores)

    def _merge(self, kept: int, gone: int) -> None:
        for sums in (self._likeness, self._odds):
            sums[kept] += sums[gone]
            sums[:, kept] = sums[kept]
        self._barred[kept] |= self._barred[gone]
        self._barred[gone] = True
        self._barred[:, kept] = self._barred[kept]
        self._barred[:, gone] = True
        self._count[kept] += self._count[gone]
        self.members[kept] = np.concatenate([self.members[kept], self.members[gone]])
        self.members[gone] = None


def _numbered(persons: Ints, groups: Sequence[Ints | None], owners: Ints, barred: Mask) -> Ints:
    """Groups of fixed ones keep their numbers; of the other numbers each goes to the group that has most of it.

    To none of which one cannot be that person.
    """
    after = np.empty_like(persons)
    for owner, members in zip(owners, groups, strict=False):
        after[members] = owner
    free = [members for members in groups[len(owners) :] if members is not None]
    numbers = np.setdiff1d(persons, owners)
    barred = barred[:, np.isin(np.unique(persons), numbers)]
    shared = np.zeros((len(free), len(numbers)), np.int64)
    for group, members in enumerate(free):
        after[members] = -1 - members.min()
        known, counts = np.unique(persons[members], return_counts=True)
        mine = np.isin(known, numbers)
        shared[group, np.searchsorted(numbers, known[mine])] = counts[mine]
        shared[group, barred[members].any(axis=0)] = 0
    for place, which in zip(*linear_sum_assignment(shared, maximize=True), strict=True):
        if shared[place, which]:
            after[free[place]] = numbers[which]
    return after
