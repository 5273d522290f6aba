"""What all people do together is the camera's doing."""

import numpy as np
import pytest

from benchmarks.camera_turns import simulate
from trackers.camera_motion import Turns, _beyond, chance_of

SETTLED = np.ones(1)  # of a filter that has corrected everything


def common_shift(predicted: np.ndarray, detected: np.ndarray) -> np.ndarray | None:
    """Of a camera of which nothing is known."""
    return Turns().shift(predicted, detected, dt=0.1, gains=SETTLED)


def boxes(count: int, seed: int = 0) -> np.ndarray:
    """People of 40 x 100 in a row, far from each other: cx, cy, w, h."""
    rng = np.random.default_rng(seed)
    place = np.stack([np.arange(count) * 150.0, 300 + rng.uniform(-20, 20, count)], axis=1)
    return np.concatenate([place, np.broadcast_to([40.0, 100.0], (count, 2))], axis=1)


def test_the_shift_of_most_is_found_though_some_walk_their_own_way() -> None:
    predicted = boxes(9)
    detected = predicted + np.array([12.0, -5.0, 0.0, 0.0])
    detected[:2, :2] += [30.0, 8.0]
    shift = common_shift(predicted, detected[::-1])
    assert shift is not None
    np.testing.assert_allclose(shift, [12.0, -5.0])


def test_people_who_walk_each_their_own_way_are_no_turn() -> None:
    rng = np.random.default_rng(1)
    predicted = boxes(12)
    detected = predicted.copy()
    detected[:, 0] += rng.permutation([-10.0, 10.0] * 6)
    detected[:, 1] += rng.permutation([-4.0, 4.0] * 6)
    assert common_shift(predicted, detected) is None


def test_half_a_group_that_sets_off_is_no_turn() -> None:
    predicted = boxes(10)
    detected = predicted.copy()
    detected[:4, 0] += 15.0
    assert common_shift(predicted, detected) is None


def test_fewer_than_four_people_tell_nothing() -> None:
    predicted = boxes(3)
    assert common_shift(predicted, predicted + np.array([5.0, 0, 0, 0])) is None
    assert common_shift(np.empty((0, 4)), predicted) is None


def turned(people: int) -> tuple[np.ndarray, np.ndarray]:
    return boxes(people), boxes(people) + np.array([5.0, 0, 0, 0])


def watch(
    turns: Turns, rng: np.random.Generator, *, people: int, seconds: float, shake: float = 0.0, walk: float = 0.0
) -> list[bool]:
    """Of each frame, 20 a second, whether there was a shift.

    Boxes are a pixel off, the camera shakes by so many pixels a frame, and all people walk so many to the right.
    """
    seen = []
    for _ in range(round(20 * seconds)):
        detected = boxes(people) + rng.normal(0, 1, (people, 4))
        detected[:, 0] += walk + rng.normal(0, 1) * shake
        seen.append(turns.shift(boxes(people), detected, dt=0.05, gains=SETTLED) is not None)
    return seen


def test_four_people_who_go_one_way_are_no_turn_of_a_camera_that_was_never_seen_to_turn() -> None:
    turns, rng = Turns(), np.random.default_rng(0)
    assert turns.shift(*turned(4), dt=0.1, gains=SETTLED) is None
    watch(turns, rng, people=12, seconds=10)  # twelve say that it does not
    assert turns.shift(*turned(4), dt=0.1, gains=SETTLED) is None
    assert turns.shift(*turned(6), dt=0.1, gains=SETTLED) is not None  # six are enough by themselves


def test_few_people_are_believed_of_a_camera_that_many_saw_shake_and_not_for_ever() -> None:
    turns, rng = Turns(), np.random.default_rng(1)
    watch(turns, rng, people=7, seconds=10, shake=8)
    for each in (5, 4):
        shift = turns.shift(*turned(each), dt=0.1, gains=SETTLED)
        assert shift is not None
        np.testing.assert_allclose(shift, [5.0, 0.0])
    watch(turns, rng, people=8, seconds=180)
    assert turns.shift(*turned(5), dt=0.1, gains=SETTLED) is None  # it has come to rest


@pytest.mark.parametrize("people", [6, 9, 14])
@pytest.mark.parametrize(("walk", "shake", "least", "most"), [(0, 0, 0.0, 0.2), (4, 0, 0.0, 0.2), (0, 4, 0.6, 1.0)])
def test_people_who_all_walk_one_way_are_no_turn_and_a_camera_that_shakes_is_one(
    people: int, walk: float, shake: float, least: float, most: float
) -> None:
    rng = np.random.default_rng(2)
    seen = watch(Turns(), rng, people=people, seconds=90, walk=walk, shake=shake)
    assert least <= np.mean(seen[600:]) <= most  # of six, 14 % exceed 3 standard errors by chance


@pytest.mark.parametrize("fps", [5, 10, 20, 30])
@pytest.mark.parametrize("people", [6, 8])
def test_a_camera_at_rest_is_known_through_the_tracker_whatever_was_compensated(people: int, fps: int) -> None:
    assert simulate(people, fps, 0.0, people, seconds=90)[0] < 0.25
    assert simulate(people, fps, 3.0, people, seconds=40)[0] > 0.9


@pytest.mark.parametrize(("share", "turns"), [(0.56, True), (0.5, False)])
def test_a_camera_turns_where_six_jerk_as_one_a_tenth_more_often_than_by_chance(share: float, turns: bool) -> None:
    watched, at_rest, sign = Turns(), boxes(6), 1
    at_rest[:, 0] += [2, -2] * 3
    jerks = 0
    for frame in range(1, 1201):
        seen = at_rest
        if jerks < share * frame:
            jerks, sign = jerks + 1, -sign
            seen = boxes(6) + np.array([5.0 * sign, 0, 0, 0])
        watched.shift(boxes(6), seen, dt=0.1, gains=SETTLED)
    assert watched.turns == turns


def test_what_is_not_clear_yet_counts_as_a_camera_that_turns() -> None:
    turns, at_rest = Turns(), boxes(6)
    at_rest[:, 0] += [2, -2] * 3
    for seen in (at_rest, at_rest, turned(6)[1]):
        turns.shift(boxes(6), seen, dt=0.1, gains=SETTLED)
    assert turns.shift(*turned(5), dt=0.1, gains=SETTLED) is not None


@pytest.mark.parametrize("people", [6, 8, 12, 16, 22])
def test_so_often_people_on_ways_of_their_own_seem_to_move_as_one(people: int) -> None:
    rng = np.random.default_rng(3)
    frames = rng.normal(size=(4000, people, 2))
    middle = np.median(frames, axis=1)
    deviation = np.median(np.abs(frames - middle[:, None]), axis=1)
    times = max(1.4826 * 1.2533 / np.sqrt(people), 1.0)
    as_one = [any(_beyond(times, *each)) for each in zip(deviation.tolist(), middle.tolist(), strict=True)]
    assert np.mean(as_one) == pytest.approx(chance_of(people), abs=0.05)


def test_how_often_frames_come_makes_no_difference_to_who_is_believed() -> None:
    seldom, often = Turns(), Turns()
    for turn, rest in ((2, 3), (6, 3), (2, 9)):
        for _ in range(10):
            seldom.shift(*turned(7), dt=0.1 * turn, gains=SETTLED)
            seldom.shift(boxes(7), boxes(7), dt=0.1 * rest, gains=SETTLED)
            for _ in range(turn):
                often.shift(*turned(7), dt=0.1, gains=SETTLED)
            for _ in range(rest):
                often.shift(boxes(7), boxes(7), dt=0.1, gains=SETTLED)
        assert (seldom.shift(*turned(5), dt=0.1, gains=SETTLED) is None) == (
            often.shift(*turned(5), dt=0.1, gains=SETTLED) is None
        )


def test_a_turn_is_the_same_far_from_the_origin() -> None:
    predicted = boxes(9)
    detected = predicted + np.array([12.0, -5.0, 0.0, 0.0])
    detected[:2, :2] += [30.0, 8.0]
    far = np.array([1e6, 1e6, 0, 0])
    shift = common_shift(predicted + far, detected[::-1] + far)
    assert shift is not None
    np.testing.assert_allclose(shift, [12.0, -5.0], atol=1e-6)
