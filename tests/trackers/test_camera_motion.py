"""What all people do together is the camera's doing."""

import numpy as np

from trackers.camera_motion import common_shift


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


def test_fewer_than_six_people_tell_nothing() -> None:
    turned = np.array([5.0, 0, 0, 0])
    assert common_shift(boxes(5), boxes(5) + turned) is None
    assert common_shift(boxes(6), boxes(6) + turned) is not None
    assert common_shift(np.empty((0, 4)), boxes(6)) is None


def test_a_turn_is_the_same_far_from_the_origin() -> None:
    predicted = boxes(9)
    detected = predicted + np.array([12.0, -5.0, 0.0, 0.0])
    detected[:2, :2] += [30.0, 8.0]
    far = np.array([1e6, 1e6, 0, 0])
    shift = common_shift(predicted + far, detected[::-1] + far)
    assert shift is not None
    np.testing.assert_allclose(shift, [12.0, -5.0], atol=1e-6)
