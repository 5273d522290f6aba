"""Gated assignment against trying every pairing."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from trackers.association import assign, assign_pairs

COSTS = arrays(
    np.float64,
    st.tuples(st.integers(0, 4), st.integers(0, 4)),
    elements=st.one_of(st.integers(0, 10).map(lambda value: value / 10), st.just(np.inf)),
)


def best_gain(cost: np.ndarray, gate: float) -> float:
    """The greatest sum of gate - cost over every set of pairs below the gate."""
    n, m = cost.shape
    pairs = [pair for pair in itertools.product(range(n), range(m)) if cost[pair] < gate]
    best = 0.0
    for count in range(1, min(n, m) + 1):
        for chosen in itertools.combinations(pairs, count):
            if len({r for r, _ in chosen}) == len({c for _, c in chosen}) == count:
                best = max(best, sum(gate - cost[pair] for pair in chosen))
    return best


@settings(max_examples=80, deadline=None)
@given(COSTS, st.sampled_from([0.05, 0.3, 0.5, 0.8, 2.0]))
def test_pairs_are_the_best_below_the_gate_and_nobody_is_lost_or_doubled(cost: np.ndarray, gate: float) -> None:
    result = assign(cost, gate=gate)
    rows, columns = result.matches.T
    assert (cost[rows, columns] < gate).all()
    assert sum(gate - cost[rows, columns]) == pytest.approx(best_gain(cost, gate), abs=1e-12)
    assert sorted([*rows, *result.unmatched_tracks]) == list(range(cost.shape[0]))
    assert sorted([*columns, *result.unmatched_detections]) == list(range(cost.shape[1]))
    assert (np.diff(rows) > 0).all()


def test_a_pair_at_the_gate_is_refused_and_one_just_below_is_made() -> None:
    assert len(assign(np.array([[0.5]]), gate=0.5).matches) == 0
    assert assign(np.array([[np.nextafter(0.5, 0)]]), gate=0.5).matches.tolist() == [[0, 0]]


def test_a_pair_beyond_the_gate_does_not_push_a_good_one_aside() -> None:
    cost = np.array([[0.1, 0.2], [0.15, 0.9]])  # ungated, 0-1 and 1-0 sum to less than 0-0 and 1-1
    assert assign(cost, gate=0.18).matches.tolist() == [[0, 0]]


def test_rows_that_can_have_nobody_are_left_alone() -> None:
    result = assign(np.array([[np.inf, np.inf], [0.1, np.inf]]), gate=1.0)
    assert result.matches.tolist() == [[1, 0]]
    assert result.unmatched_tracks.tolist() == [0]
    assert result.unmatched_detections.tolist() == [1]


@pytest.mark.parametrize("shape", [(0, 0), (0, 3), (3, 0)])
def test_nobody_on_one_side_leaves_everybody_on_the_other(shape: tuple[int, int]) -> None:
    result = assign(np.empty(shape), gate=1.0)
    assert result.matches.shape == (0, 2)
    assert len(result.unmatched_tracks) == shape[0]
    assert len(result.unmatched_detections) == shape[1]


def test_a_thousand_tracks_find_their_thousand_detections() -> None:
    place = np.random.default_rng(0).permutation(1000)
    cost = np.ones((1000, 1000))
    cost[np.arange(1000), place] = 0.1
    np.testing.assert_array_equal(assign(cost, gate=0.5).matches[:, 1], place)


def test_what_is_no_cost_matrix_is_refused() -> None:
    with pytest.raises(ValueError, match=r"cost must be \(tracks, detections\), got \(3,\)"):
        assign(np.zeros(3), gate=1.0)
    with pytest.raises(ValueError, match="NaN"):
        assign(np.array([[np.nan]]), gate=1.0)
    with pytest.raises(ValueError, match="gate must be finite"):
        assign(np.zeros((1, 1)), gate=np.inf)


def test_pairs_are_chosen_as_the_whole_matrix_would_be() -> None:
    rng = np.random.default_rng(5)
    for _ in range(50):
        gain = np.where(rng.random((7, 9)) < 0.3, rng.uniform(-0.5, 1.0, (7, 9)), 0.0)
        track, box = np.nonzero(gain)
        chosen = assign_pairs(track, box, gain[track, box], shape=gain.shape)
        whole = assign(-gain, gate=0.0).matches
        np.testing.assert_array_equal(np.stack([track[chosen], box[chosen]], axis=1), whole)


def test_of_no_pairs_none_is_chosen() -> None:
    none = np.empty(0, np.int64)
    assert len(assign_pairs(none, none, np.empty(0), shape=(3, 0))) == 0
    assert len(assign_pairs(np.array([0]), np.array([0]), np.array([0.0]), shape=(1, 1))) == 0
