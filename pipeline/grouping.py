"""Which person a tracklet is: how much speaks for each who is known and, looking back, whether another fits better."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_SWEEPS = 4


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

    def without(self, item: int) -> "Pairs":
        """One row, beside all columns but its own."""
        return Pairs(*(np.delete(each[item : item + 1], item, axis=1) for each in
                       (self.likeness, self.circumstances, self.gap)))  # fmt: skip


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


def resettle(persons: Ints, pairs: Pairs, *, evidence: int, threshold: float, fixed: NDArray[np.bool_]) -> Ints:
    """Ask of each tracklet, knowing all others, whose it is; again, until nobody changes.

    Whoever fits worst is asked first, so that an intruder goes before those whom it drags along.

    Args:
        persons: (n,) numbers of 1 and more, whose each is so far.
        pairs: All beside all, (n, n).
        evidence: How many of the best likenesses count.
        threshold: Log odds that must be exceeded to be of a person.
        fixed: (n,) who stays where they are.

    Returns:
        (n,) whose each is now; numbers below 0 are new persons.
    """
    persons = persons.copy()
    free = np.flatnonzero(~fixed)

    def scores(item: int) -> tuple[Ints, Floats]:
        people, found = scores_of(pairs.without(item), np.delete(persons, item), evidence=evidence)
        return people, found[0]

    def at_home(item: int) -> float:
        people, found = scores(item)
        home = found[people == persons[item]]
        return float(home[0]) if len(home) else np.inf

    for _ in range(_SWEEPS):
        changed = False
        for item in sorted(free.tolist(), key=at_home):
            now = _choose(*scores(item), threshold, int(persons[item]), -1 - item)
            changed |= now != persons[item]
            persons[item] = now
        if not changed:
            break
    return persons


def _choose(people: Ints, scores: Floats, threshold: float, now: int, new: int) -> int:
    """The person of the greatest score; where none is great enough, whoever is alone stays, the others become new."""
    if len(scores) and scores.max() > threshold:
        best = scores.max()
        at_home = scores[people == now]
        return now if len(at_home) and at_home[0] == best else int(people[scores.argmax()])
    return new if now in people else now
