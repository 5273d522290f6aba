"""How much speaks for each person, and looking back: who changes, who stays, who is new."""

from itertools import combinations

import numpy as np
import pytest

from pipeline.grouping import Pairs, regroup, scores_of


def pairs(n: int, known: dict[tuple[int, int], float], *, otherwise: float = -5.0) -> np.ndarray:
    matrix = np.full((n, n), otherwise)
    for (a, b), value in known.items():
        matrix[a, b] = matrix[b, a] = value
    return matrix


def regrouped(
    persons: list[int],
    likeness: np.ndarray,
    *,
    fixed: tuple[int, ...] = (),
    circumstances: np.ndarray | None = None,
    threshold: float = 0.0,
    barred: np.ndarray | None = None,
) -> list[int]:
    n = len(persons)
    where = np.zeros((n, n)) if circumstances is None else circumstances
    mask = np.isin(np.arange(n), fixed)
    known = Pairs(likeness, where, np.zeros((n, n)))
    return regroup(np.array(persons, np.int64), known, threshold=threshold, fixed=mask, barred=barred).tolist()


def test_a_score_is_the_mean_of_the_best_and_what_the_nearest_in_time_says() -> None:
    likeness = np.array([[4.0, 2.0, -3.0, 1.0, 5.0]])
    circumstances = np.array([[0.5, 0.25, 0.0, 0.0, -np.inf]])
    gap = np.array([[10.0, 5.0, 90.0, 7.0, 1.0]])
    people, scores = scores_of(Pairs(likeness, circumstances, gap), np.array([7, 7, 7, 8, 9]), evidence=2)
    assert people.tolist() == [7, 8, 9]
    assert scores.tolist() == [[3.25, 1.0, -np.inf]]


def test_nobody_is_known_yet() -> None:
    nothing = np.empty((2, 0))
    people, scores = scores_of(Pairs(nothing, nothing, nothing), np.empty(0, np.int64), evidence=3)
    assert (people.shape, scores.shape) == ((0,), (2, 0))


def test_scores_are_those_of_a_slow_loop() -> None:
    rng = np.random.default_rng(0)
    likeness, gap = rng.normal(size=(3, 40)), rng.random((3, 40))
    circumstances = np.where(rng.random((3, 40)) < 0.02, -np.inf, rng.normal(size=(3, 40)))
    persons = rng.integers(1, 9, 40)
    people, scores = scores_of(Pairs(likeness, circumstances, gap), persons, evidence=3)
    for row in range(3):
        for column, person in enumerate(people):
            own = np.flatnonzero(persons == person)
            expected = np.sort(likeness[row, own])[::-1][:3].mean() + circumstances[row, own[gap[row, own].argmin()]]
            if not np.isfinite(circumstances[row, own]).all():
                expected = -np.inf
            assert scores[row, column] == pytest.approx(expected)


def test_late_evidence_moves_a_tracklet_to_the_person_whom_it_fits_better() -> None:
    # 0 came first and 1 joined it; then came 2, 3 and 4, to whom 1 belongs.
    likeness = pairs(5, {(0, 1): 1.0, (1, 2): 4.0, (1, 3): 4.0, (1, 4): 4.0, (2, 3): 5.0, (2, 4): 5.0, (3, 4): 5.0})
    assert regrouped([1, 1, 2, 2, 2], likeness) == [1, 2, 2, 2, 2]


def test_a_whole_group_moves_and_two_persons_who_were_one_all_along_become_one() -> None:
    # By day 0 and 1, by night 2 and 3; each alone is not alike enough to go over, and together they are.
    likeness = pairs(4, {(0, 1): 6.0, (2, 3): 6.0, (0, 2): 1.5, (0, 3): -0.5, (1, 2): -0.5, (1, 3): 1.5})
    assert regrouped([1, 1, 2, 2], likeness) == [1, 1, 1, 1]
    likeness = pairs(4, {(0, 1): 6.0, (2, 3): 6.0, (0, 2): 3.0}, otherwise=-2.0)  # one chance likeness among four
    assert regrouped([1, 1, 2, 2], likeness) == [1, 1, 2, 2]


def test_one_hand_over_in_time_counts_once_however_many_pairs_there_are() -> None:
    likeness = pairs(4, {(0, 1): 6.0, (2, 3): 6.0}, otherwise=-1.0)
    passed = np.zeros((4, 4))
    passed[1, 2] = passed[2, 1] = np.log(9.0)
    odds = np.log((9 + 3) / 4)  # the mean over the four pairs
    assert regrouped([1, 1, 2, 2], likeness, circumstances=passed, threshold=-1 + odds + 0.01) == [1, 1, 2, 2]
    assert regrouped([1, 1, 2, 2], likeness, circumstances=passed, threshold=-1 + odds - 0.01) == [1, 1, 1, 1]


def test_whoever_fits_nobody_is_somebody_new_and_whoever_is_alone_stays() -> None:
    likeness = pairs(4, {(0, 1): 5.0})
    assert regrouped([1, 1, 1, 2], likeness) == [1, 1, -3, 2]


def test_who_is_fixed_stays_and_draws_others() -> None:
    likeness = pairs(4, {(0, 1): -8.0, (2, 0): 4.0, (2, 1): 4.0})
    assert regrouped([7, 7, 3, 4], likeness, fixed=(0, 1)) == [7, 7, 7, 4]


def test_two_persons_who_are_fixed_never_become_one_and_their_numbers_go_to_nobody_else() -> None:
    likeness = pairs(4, {(0, 1): 9.0, (2, 3): 9.0})
    assert regrouped([7, 8, 7, 7], likeness, fixed=(0, 1)) == [7, 8, -3, -3]


def test_what_cannot_be_one_person_is_not_whatever_else_speaks_for_it() -> None:
    likeness = pairs(3, {(0, 1): 9.0, (1, 2): 8.0, (0, 2): 8.0})
    apart = np.zeros((3, 3))
    apart[0, 2] = apart[2, 0] = -np.inf
    assert regrouped([1, 1, 2], likeness, circumstances=apart) == [1, 1, 2]
    assert regrouped([1, 1, 1], likeness, circumstances=apart) == [1, 1, -3]


def test_groups_are_those_of_a_slow_loop() -> None:
    rng = np.random.default_rng(3)
    for _ in range(20):
        n = 14
        likeness, where = rng.normal(-1, 3, (n, n)), rng.normal(0, 1, (n, n))
        likeness, where = likeness + likeness.T, where + where.T
        where[rng.random((n, n)) < 0.05] = -np.inf
        where = np.minimum(where, where.T)
        found = regrouped(list(range(1, n + 1)), likeness, circumstances=where, threshold=0.5)
        groups = slow_groups(likeness, where, 0.5)
        assert {frozenset(np.flatnonzero(np.array(found) == each).tolist()) for each in found} == groups


def slow_groups(likeness: np.ndarray, where: np.ndarray, threshold: float) -> set[frozenset[int]]:
    groups = [frozenset([item]) for item in range(len(likeness))]
    while True:
        scored = []
        for a, b in combinations(groups, 2):
            cells = [(i, j) for i in a for j in b]
            if all(np.isfinite(where[cell]) for cell in cells):
                odds = np.mean([np.exp(where[cell]) for cell in cells])
                scored.append((np.mean([likeness[cell] for cell in cells]) + np.log(odds), a, b))
        best = max(scored, default=(-np.inf,), key=lambda each: each[0])
        if best[0] <= threshold:
            return set(groups)
        groups = [each for each in groups if each not in best[1:]] + [best[1] | best[2]]


@pytest.mark.parametrize("persons", [[], [5]])
def test_nothing_and_one_stay_what_they_are(persons: list[int]) -> None:
    assert regrouped(persons, np.zeros((len(persons), len(persons)))) == persons


def test_who_cannot_be_a_person_for_what_is_not_among_the_rows_is_not_that_person() -> None:
    likeness = pairs(4, {(0, 1): 9.0, (2, 3): 9.0, (0, 2): 5.0, (0, 3): 5.0})
    nobody, second = np.zeros((4, 2), bool), np.array([[0, 0], [0, 0], [1, 0], [0, 0]], bool)
    for barred, expected in ((nobody, [7, 7, 7, 7]), (second, [7, 7, 8, 8])):
        assert regrouped([7, 7, 8, 7], likeness, fixed=(0,), threshold=-2.0, barred=barred) == expected
    alone = np.array([[0, 0], [0, 0], [0, 1], [0, 1]], bool)  # and the number that they had is not theirs any more
    assert regrouped([7, 7, 8, 8], likeness, barred=alone) == [7, 7, -3, -3]
    assert regrouped([7, 7, 8, 8], likeness, fixed=(2, 3), barred=alone) == [7, 7, 8, 8]  # who is fixed is not asked
