"""Scores on one scale for every stream."""

import numpy as np
import pytest

from trackers.calibration import ScoreCalibration


def stream(level: float, *, frames: int = 60, tail: int = 20) -> ScoreCalibration:
    """A calibration after so many frames of five people about this level and a tail of boxes that are hardly any."""
    rng = np.random.default_rng(0)
    calibration = ScoreCalibration(reference=0.8, strength=3.0, memory_seconds=20.0)
    for _ in range(frames):
        confidence = np.concatenate([rng.normal(level, 0.02, 5), rng.uniform(0.01, 0.08, tail)])
        calibration.calibrate(confidence, dt=0.1)
    return calibration


def test_the_tail_of_a_detector_hardly_moves_the_scale() -> None:
    assert stream(0.6).scale == pytest.approx(0.6, abs=0.02)
    assert stream(0.6, tail=0).scale == pytest.approx(stream(0.6).scale, abs=0.02)


def test_a_weak_stream_is_lifted_by_the_power_of_what_it_lacks_and_a_strong_one_is_left_alone() -> None:
    weak = stream(0.6)
    assert weak.factor == pytest.approx((0.8 / weak.scale) ** 3)
    assert stream(0.9).factor == 1.0
    assert (stream(0.9).calibrate(np.array([0.3, 0.9]), dt=0.1) == [0.3, 0.9]).all()


def test_lifted_scores_keep_their_order_and_end_at_one() -> None:
    lifted = stream(0.5).calibrate(np.array([0.05, 0.2, 0.5, 0.9]), dt=0.1)
    assert (np.diff(lifted[:3]) > 0).all()
    assert lifted.max() == 1.0


def test_what_was_learnt_by_day_is_forgotten_by_night_and_nothing_is_learnt_of_nothing() -> None:
    calibration = stream(0.9)
    for _ in range(600):
        calibration.calibrate(np.full(5, 0.5), dt=0.1)
    assert calibration.scale == pytest.approx(0.5, abs=0.05)
    calibration.calibrate(np.empty(0), dt=86_400.0)
    assert calibration.factor == 1.0
