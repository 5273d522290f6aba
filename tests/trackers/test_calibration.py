"""Scores on one scale for every stream."""

import numpy as np
import pytest
from numpy.typing import NDArray

from trackers.calibration import ScoreCalibration, WalkingBoxes

TAIL = np.random.default_rng(1).uniform(0, 1000, (20, 1, 1)) + np.array([[[0, 0], [40, 100]]])


def people(step: float, *, time: float, count: int = 5) -> NDArray[np.float64]:
    """So many people side by side, who walked so many pixels a second."""
    left = np.arange(count) * 150.0 + step * time
    return np.stack([left, np.full(count, 500.0), left + 40, np.full(count, 600.0)], axis=1)


def calibration() -> ScoreCalibration:
    return ScoreCalibration(reference=0.8, strength=3.0, memory_seconds=20.0)


def watch(into: ScoreCalibration, level: float, *, seconds: float = 6.0, step: float = 60.0, tail: int = 20) -> None:
    """Five people about this level, who walk, and a tail of boxes that are hardly any."""
    rng = np.random.default_rng(0)
    for index in range(round(10 * seconds)):
        confidence = np.concatenate([rng.normal(level, 0.02, 5), rng.uniform(0.01, 0.08, tail)])
        boxes = np.concatenate([people(step, time=index / 10), TAIL[:tail].reshape(-1, 4)])
        into.calibrate(confidence, boxes, dt=0.1)


def stream(level: float, *, tail: int = 20) -> ScoreCalibration:
    result = calibration()
    watch(result, level, tail=tail)
    return result


def lifted(by: ScoreCalibration, confidence: list[float]) -> NDArray[np.float64]:
    """What comes of these confidences, of boxes far from all others."""
    return by.calibrate(np.array(confidence), people(0.0, time=0.0, count=len(confidence)) + 5000.0, dt=0.1)


def test_the_tail_of_a_detector_hardly_moves_the_scale() -> None:
    assert stream(0.6).scale == pytest.approx(0.6, abs=0.02)
    assert stream(0.6, tail=0).scale == pytest.approx(stream(0.6).scale, abs=0.02)


def test_a_weak_stream_is_lifted_by_the_power_of_what_it_lacks_and_a_strong_one_is_left_alone() -> None:
    weak = stream(0.65)
    assert weak.factor == pytest.approx((0.8 / weak.scale) ** 3)
    assert stream(0.9).factor == 1.0
    assert (lifted(stream(0.9), [0.3, 0.9]) == [0.3, 0.9]).all()


def test_the_weakest_stream_is_lifted_by_so_much_that_no_box_below_a_quarter_starts_a_track() -> None:
    weakest = stream(0.3)
    assert weakest.factor == 2.4
    assert lifted(weakest, [0.25])[0] < 0.65


def test_who_walks_and_is_found_twice_walks() -> None:
    rng, walking = np.random.default_rng(0), WalkingBoxes()
    for jitter in (0.0, 0.5):
        for index in range(20):
            once = people(60.0, time=index / 5, count=1)
            walks = walking.look(np.concatenate([once, once]) + rng.normal(0, jitter, (2, 4)), dt=0.2)
        assert walks.any()
        assert len(walking) <= 2


def test_lifted_scores_keep_their_order_and_end_at_one() -> None:
    result = lifted(stream(0.5), [0.05, 0.2, 0.4, 0.9])
    assert (np.diff(result[:3]) > 0).all()
    assert result.max() == 1.0


def test_what_was_learnt_by_day_is_forgotten_by_night_and_nothing_is_learnt_of_nothing() -> None:
    changing = stream(0.9)
    watch(changing, 0.5, seconds=60)
    assert changing.scale == pytest.approx(0.5, abs=0.05)
    changing.calibrate(np.empty(0), np.empty((0, 4)), dt=86_400.0)
    assert changing.factor == 1.0


def test_what_never_left_its_place_teaches_nothing_whatever_it_scores() -> None:
    night = calibration()
    watch(night, 0.3, seconds=60, step=0.0)
    assert night.factor == 1.0
    watch(night, 0.5, seconds=6)
    learnt = night.factor
    assert learnt > 1.5
    watch(night, 0.3, seconds=120, step=0.0)
    assert night.factor == pytest.approx(1.0, abs=0.05)


def test_boxes_walk_when_they_have_left_their_place_and_stand_again_after_a_while() -> None:
    looks = WalkingBoxes()
    walking = [bool(looks.look(people(60.0, time=t / 5, count=1), dt=0.2)[0]) for t in range(20)]
    assert walking[0] is False
    assert all(walking[5:])
    standing = [bool(looks.look(people(60.0, time=3.8, count=1), dt=0.2)[0]) for _ in range(60)]
    assert standing[0] is True
    assert not any(standing[40:])


def test_a_box_that_trembles_and_flickers_in_its_place_does_not_walk() -> None:
    looks, rng = WalkingBoxes(), np.random.default_rng(0)
    for _ in range(500):
        seen = people(0.0, time=0.0, count=1)[: int(rng.random() < 0.8)]
        assert not looks.look(seen + rng.normal(0, 4, seen.shape), dt=0.2).any()


def test_boxes_in_one_place_are_told_apart_once_and_none_is_remembered_for_long() -> None:
    looks = WalkingBoxes()
    twins = np.repeat(people(0.0, time=0.0, count=1), 3, axis=0)
    for _ in range(5):
        assert looks.look(twins, dt=0.2).shape == (3,)
    looks.look(np.empty((0, 4)), dt=2.0)
    assert len(looks) == 0


def test_the_greatest_strength_lifts_no_more_than_any() -> None:
    strongest = ScoreCalibration(reference=0.8, strength=1e6, memory_seconds=20.0)
    watch(strongest, 0.4)
    assert strongest.factor == pytest.approx(stream(0.4).factor) == pytest.approx(2.4)


def test_of_boxes_in_one_place_the_surest_teaches_in_whatever_order_they_come() -> None:
    factors = []
    for step in (1, -1):
        calibration = ScoreCalibration(reference=0.8, strength=3.0, memory_seconds=20.0)
        for frame in range(200):
            walkers = np.array([[50 + k * 200 + 6 * frame, 100 + k * 120] for k in range(3)], np.float32).repeat(2, 0)
            xyxy = np.concatenate([walkers, walkers + np.array([40, 100], np.float32)], axis=1)
            calibration.calibrate(np.array([0.75, 0.3] * 3)[::step], xyxy[::step], dt=0.1)
        factors.append(calibration.factor)
    assert factors[0] == pytest.approx(factors[1])
    assert factors[0] == pytest.approx((0.8 / 0.75) ** 3, rel=0.03)
