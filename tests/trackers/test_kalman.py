"""The box filter against the textbook's matrices."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trackers.kalman import BoxFilter, MotionNoise, WalkFilter

NOISE = MotionNoise()


class MatrixFilter:
    """The plain 8-state Kalman filter of one track, with full matrices: slow, and as in the textbook."""

    def __init__(self, z: np.ndarray) -> None:
        self.x = np.concatenate([z, np.zeros(4)])
        self.h = z[3]
        self.p = np.diag(np.repeat([(NOISE.initial_position * self.h) ** 2, (NOISE.initial_velocity * self.h) ** 2], 4))

    def predict(self, dt: float) -> None:
        eye = np.eye(4)
        f = np.block([[eye, dt * eye], [np.zeros((4, 4)), eye]])
        white = (NOISE.acceleration * self.h) ** 2 * np.array([[dt**3 / 3, dt**2 / 2], [dt**2 / 2, dt]])
        white[0, 0] += (NOISE.position * self.h) ** 2 * dt
        self.x = f @ self.x
        self.p = f @ self.p @ f.T + np.kron(white, eye)

    def update(self, z: np.ndarray) -> None:
        self.h = z[3]
        m = np.eye(4, 8)
        gain = self.p @ m.T @ np.linalg.inv(m @ self.p @ m.T + np.eye(4) * (NOISE.measurement * self.h) ** 2)
        self.x = self.x + gain @ (z - m @ self.x)
        self.p = (np.eye(8) - gain @ m) @ self.p


def boxes(rng: np.random.Generator, n: int) -> np.ndarray:
    return np.concatenate([rng.uniform(0, 500, (n, 2)), rng.uniform(20, 200, (n, 2))], axis=1)


def test_every_track_is_filtered_as_the_textbook_filters_one() -> None:
    rng = np.random.default_rng(1)
    start = boxes(rng, 5)
    fast, slow = BoxFilter(), [MatrixFilter(z) for z in start]
    fast.append(start)
    for dt in (0.033, 0.2, 0.1, 0.5):
        seen = np.flatnonzero(rng.random(5) < 0.7)
        z = start[seen] + rng.normal(0, 3, (len(seen), 4))
        fast.predict(dt)
        for each in slow:
            each.predict(dt)
        fast.update(seen, z)
        for row, measured in zip(seen, z, strict=True):
            slow[row].update(measured)
    np.testing.assert_allclose(fast.mean, [each.x[:4] for each in slow], rtol=1e-10)
    np.testing.assert_allclose(fast.velocity, [each.x[4:] for each in slow], rtol=1e-8, atol=1e-9)
    for row, each in enumerate(slow):
        for axis in range(4):
            block = each.p[np.ix_([axis, axis + 4], [axis, axis + 4])]
            np.testing.assert_allclose(fast.covariance[row, axis], block, rtol=1e-8)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.floats(0.001, 0.5), min_size=1, max_size=6))
def test_many_short_steps_are_one_long_step(steps: list[float]) -> None:
    def moving() -> BoxFilter:
        result = BoxFilter()
        result.append(boxes(np.random.default_rng(2), 3))
        result.predict(0.1)
        result.update(np.arange(3), result.mean + 5)
        return result

    short, long = moving(), moving()
    for dt in steps:
        short.predict(dt)
    long.predict(sum(steps))
    np.testing.assert_allclose(short.mean, long.mean, rtol=1e-10)
    np.testing.assert_allclose(short.covariance, long.covariance, rtol=1e-9)


def test_a_person_walking_at_even_speed_is_foreseen_at_any_frame_rate() -> None:
    for fps in (5, 10, 30):
        tracks = BoxFilter()
        tracks.append(np.array([[0.0, 100.0, 40.0, 100.0]]))
        for k in range(1, 2 * fps):
            tracks.predict(1 / fps)
            tracks.update(np.array([0]), np.array([[80.0 * k / fps, 100.0, 40.0, 100.0]]))
        tracks.predict(0.5)
        assert tracks.mean[0, 0] == pytest.approx(80.0 * ((2 * fps - 1) / fps + 0.5), abs=2.0)
        assert tracks.velocity[0, 0] == pytest.approx(80.0, abs=2.0)


def test_twice_the_size_is_twice_the_numbers() -> None:
    small, large = BoxFilter(), BoxFilter()
    z = boxes(np.random.default_rng(3), 4)
    small.append(z)
    large.append(2 * z)
    for tracks, factor in ((small, 1), (large, 2)):
        tracks.predict(0.1)
        tracks.update(np.arange(4), factor * (z + 4))
    np.testing.assert_allclose(2 * small.mean, large.mean)
    np.testing.assert_allclose(4 * small.covariance, large.covariance)


def test_forgetting_and_holding_the_size_touch_only_the_rows_meant() -> None:
    tracks = BoxFilter()
    tracks.append(boxes(np.random.default_rng(4), 3))
    tracks.predict(0.1)
    tracks.update(np.arange(3), tracks.mean + 6)
    before = tracks.velocity.copy()
    tracks.stop_growth(np.array([1]))
    assert (tracks.velocity[1, 2:] == 0).all()
    np.testing.assert_array_equal(tracks.velocity[[0, 2]], before[[0, 2]])
    mean = tracks.mean.copy()
    tracks.keep(np.array([True, False, True]))
    assert len(tracks) == 2
    np.testing.assert_array_equal(tracks.mean, mean[[0, 2]])
    assert tracks.covariance.shape == (2, 4, 2, 2)


def test_a_box_that_shrank_below_nothing_has_no_area() -> None:
    tracks = BoxFilter()
    tracks.append(np.array([[50.0, 50.0, 10.0, 20.0]]))
    tracks.predict(0.1)
    tracks.update(np.array([0]), np.array([[50.0, 50.0, 1.0, 2.0]]))
    tracks.predict(10.0)
    assert tracks.xyxy.tolist() == [pytest.approx([50, 50, 50, 50])]


@pytest.mark.parametrize("dt", [-0.1, np.nan, np.inf])
def test_time_that_is_no_step_forward_is_refused(dt: float) -> None:
    with pytest.raises(ValueError, match="dt must be a number of seconds not below 0"):
        BoxFilter().predict(dt)


def test_noise_must_be_positive() -> None:
    with pytest.raises(ValueError, match="acceleration must be a positive number, got 0"):
        MotionNoise(acceleration=0)


def test_the_filter_of_shared_variances_is_the_other_one_exactly_where_sizes_are_corrected_as_places_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(WalkFilter, "_FIRST_SHARE", 1.0)
    monkeypatch.setattr(WalkFilter, "_LEAST_SHARE", 1.0)
    rng = np.random.default_rng(6)
    start = boxes(rng, 5)
    walk, reference = WalkFilter(NOISE), BoxFilter(NOISE)
    for each in (walk, reference):
        each.append(start)
    for dt in (0.033, 0.2, 0.5):
        rows = np.flatnonzero(rng.random(5) < 0.7)
        z = start[rows] + rng.normal(0, 3, (len(rows), 4))
        for each in (walk, reference):
            each.predict(dt)
            each.update(rows, z)
    np.testing.assert_allclose(walk.mean, reference.mean, rtol=1e-12)
    np.testing.assert_allclose(walk.velocity, reference.velocity, rtol=1e-9, atol=1e-12)
    spread = reference.covariance[:, 0, 0, 0] + (NOISE.measurement * reference.scale[:, 0]) ** 2
    np.testing.assert_allclose(walk.innovation, spread, rtol=1e-12)


def test_a_box_of_more_noise_corrects_less() -> None:
    start = boxes(np.random.default_rng(7), 1)
    moved = []
    for noise in (1.0, 3.0):
        walk = WalkFilter(NOISE)
        walk.append(start)
        walk.predict(0.1)
        walk.update(np.array([0]), start + 10, np.array([noise]))
        moved.append(walk.mean[0, 0] - start[0, 0])
    assert moved[0] > moved[1] > 0


def share_after(heights: list[float]) -> float:
    """What a stream of ten people of these heights, frame by frame, teaches."""
    walk = WalkFilter(NOISE)
    places = np.stack([np.arange(10) * 100.0, np.zeros(10), np.full(10, 40.0)], axis=1)
    for index, height in enumerate(heights):
        boxes = np.concatenate([places, np.full((10, 1), height)], axis=1)
        if index == 0:
            walk.append(boxes)
            continue
        walk.predict(0.1)
        walk.update(np.arange(10), boxes)
    return walk.size_share


def test_boxes_that_jitter_teach_that_sizes_are_steady_and_dancers_that_they_are_not() -> None:
    jitter = [100 + 8 * (-1.0) ** t for t in range(100)]
    crouching = [100 + 40 * np.sin(t / 4) for t in range(100)]
    assert share_after(jitter) == WalkFilter._LEAST_SHARE
    assert share_after(crouching) > 0.9
    assert share_after([100.0] * 100) == WalkFilter._FIRST_SHARE  # of no deviation nothing is learnt


def test_a_size_follows_its_measurement_by_the_share_of_what_a_place_does() -> None:
    start = np.array([[0.0, 0.0, 40.0, 100.0]])
    walk = WalkFilter(NOISE)
    walk.append(start)
    walk.update(np.array([0]), start + 10)
    moved = walk.mean[0] - start[0]
    np.testing.assert_allclose(moved[2:], WalkFilter._FIRST_SHARE * moved[:2])
