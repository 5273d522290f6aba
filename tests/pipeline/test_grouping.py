"""Grouping all at once: what stays apart, what stays together, and late evidence."""

import numpy as np
import pytest

from pipeline.grouping import group


def pairs(n: int, known: dict[tuple[int, int], float], *, otherwise: float = -5.0) -> np.ndarray:
    matrix = np.full((n, n), otherwise)
    for (a, b), value in known.items():
        matrix[a, b] = matrix[b, a] = value
    return matrix


def test_blocks_are_found_whatever_the_order() -> None:
    rng = np.random.default_rng(0)
    true = rng.integers(0, 7, 60)
    log_odds = np.where(true[:, None] == true, 3.0, -4.0) + rng.normal(0, 2.0, (60, 60))
    log_odds = (log_odds + log_odds.T) / 2
    labels = group(log_odds, threshold=0.0)
    assert (np.equal.outer(labels, labels) == np.equal.outer(true, true)).all()
    assert labels[0] == 0


def test_what_cannot_be_one_is_never_one_not_even_through_a_third() -> None:
    log_odds = pairs(3, {(0, 1): 9.0, (1, 2): 8.0, (0, 2): -np.inf})
    labels = group(log_odds, threshold=0.0)
    assert labels[0] == labels[1] != labels[2]


def test_one_chance_likeness_does_not_join_two_groups() -> None:
    log_odds = pairs(4, {(0, 1): 5.0, (2, 3): 5.0, (1, 2): 6.0})
    assert group(log_odds, threshold=0.0).tolist() in ([0, 0, 1, 1], [0, 1, 1, 2])
    log_odds = pairs(4, {(0, 1): 9.0, (2, 3): 9.0, (1, 2): 6.0})
    assert group(log_odds, threshold=0.0).tolist() == [0, 0, 1, 1]


def test_fixed_members_stay_and_draw_others_to_them() -> None:
    log_odds = pairs(5, {(0, 1): -8.0, (2, 0): 4.0, (2, 1): 4.0, (3, 4): 5.0})
    together = np.array([7, 7, -1, -1, -1])
    assert group(log_odds, threshold=0.0, together=together).tolist() == [0, 0, 0, 1, 1]
    apart = pairs(3, {(0, 1): 9.0, (0, 2): 1.0, (1, 2): 2.0})
    labels = group(apart, threshold=0.0, together=np.array([3, 8, -1]))
    assert labels[0] != labels[1] == labels[2]


def test_a_member_that_was_taken_too_early_changes_to_where_it_fits_better() -> None:
    # 0 and 1 are likest and join first; but 1 belongs with 2, 3 and 4.
    log_odds = pairs(5, {(0, 1): 5.0, (1, 2): 4.0, (1, 3): 4.0, (1, 4): 4.0, (2, 3): 4.9, (2, 4): 4.9, (3, 4): 4.9})
    log_odds[0, 2:] = log_odds[2:, 0] = -3.0
    labels = group(log_odds, threshold=0.0)
    assert labels[2] == labels[3] == labels[4]
    assert labels[0] not in labels[2:]


@pytest.mark.parametrize("n", [0, 1])
def test_nothing_and_one_are_groups_of_their_own(n: int) -> None:
    assert group(np.zeros((n, n)), threshold=0.0).tolist() == [0] * n


def test_a_higher_threshold_makes_more_groups() -> None:
    log_odds = pairs(2, {(0, 1): 1.0})
    assert group(log_odds, threshold=0.0).tolist() == [0, 0]
    assert group(log_odds, threshold=2.0).tolist() == [0, 1]
