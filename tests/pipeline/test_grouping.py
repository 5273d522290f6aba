"""How much speaks for each person, and looking back: who changes, who stays, who is new."""

import numpy as np
import pytest

from pipeline.grouping import Pairs, resettle, scores_of


def pairs(n: int, known: dict[tuple[int, int], float], *, otherwise: float = -5.0) -> np.ndarray:
    matrix = np.full((n, n), otherwise)
    for (a, b), value in known.items():
        matrix[a, b] = matrix[b, a] = value
    return matrix


def settled(
    persons: list[int], likeness: np.ndarray, *, evidence: int = 3, fixed: tuple[int, ...] = (), **more
) -> list:
    n = len(persons)
    zeros = np.zeros((n, n))
    mask = np.isin(np.arange(n), fixed)
    known = Pairs(likeness, more.get("circumstances", zeros), more.get("gap", zeros))
    now = resettle(np.array(persons), known, evidence=evidence, threshold=more.get("threshold", 0.0), fixed=mask)
    return now.tolist()


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
    assert settled([1, 1, 2, 2, 2], likeness) == [1, 2, 2, 2, 2]


def test_whoever_fits_nobody_is_somebody_new_and_whoever_is_alone_stays() -> None:
    likeness = pairs(4, {(0, 1): 5.0})
    assert settled([1, 1, 1, 2], likeness) == [1, 1, -3, 2]


def test_who_is_fixed_stays_and_draws_others() -> None:
    likeness = pairs(4, {(0, 1): -8.0, (2, 0): 4.0, (2, 1): 4.0})
    assert settled([7, 7, 3, 4], likeness, fixed=(0, 1)) == [7, 7, 7, 4]


def test_what_cannot_be_one_person_is_not_whatever_else_speaks_for_it() -> None:
    likeness = pairs(3, {(0, 1): 9.0, (1, 2): 8.0, (0, 2): 8.0})
    apart = np.zeros((3, 3))
    apart[0, 2] = apart[2, 0] = -np.inf
    now = settled([1, 1, 2], likeness, circumstances=apart)
    assert now[0] != now[2]


def test_ties_stay_at_home_and_nothing_goes_round_in_circles() -> None:
    likeness = pairs(4, {(0, 1): 3.0, (2, 3): 3.0, (0, 2): 3.0, (0, 3): 3.0})
    assert settled([1, 1, 2, 2], likeness, evidence=1) == [1, 1, 2, 2]


@pytest.mark.parametrize("persons", [[], [5]])
def test_nothing_and_one_stay_what_they_are(persons: list[int]) -> None:
    assert settled(persons, np.zeros((len(persons), len(persons)))) == persons
