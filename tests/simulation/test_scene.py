"""Scenes stand still, look alike to no other, and have furniture that stands apart."""

import numpy as np
import pytest

from simulation.camera import Camera
from simulation.scene import Scene, make_light, make_scene
from simulation.sensor import Sensor

CAMERA = Camera((0.0, 0.0, 3.0), 0.0, 0.25, 300.0, 320, 180)


def scene(modality: str, *, seed: int = 1, pieces: int = 6) -> Scene:
    rng = np.random.default_rng(seed)
    night = modality != "rgb"
    return make_scene(CAMERA, make_light(modality, night=night, rng=rng), night=night, rng=rng, pieces=pieces)


@pytest.mark.parametrize("modality", ["rgb", "nir", "thermal"])
def test_a_seed_is_a_scene(modality: str) -> None:
    assert np.array_equal(scene(modality).still(), scene(modality).still())
    assert not np.array_equal(scene(modality).still(), scene(modality, seed=2).still())


@pytest.mark.parametrize("modality", ["rgb", "nir", "thermal"])
def test_all_kinds_of_furniture_are_drawn_over_the_background(modality: str) -> None:
    seen = 0
    for seed in range(8):
        found = scene(modality, seed=seed)
        seen += len(found.furniture)
        for sprite in found.furniture:
            assert np.isfinite(sprite.signal).all()
            assert 0 <= sprite.left <= 320 - sprite.alpha.shape[1]
            assert 0 <= sprite.top <= 180 - sprite.alpha.shape[0]
            assert sprite.alpha.max() == pytest.approx(1.0, abs=0.02)
    assert seen > 20


def test_the_ground_has_no_seam_under_the_optical_axis() -> None:
    """Noise repeats; where it does, neighbouring columns differ no more than elsewhere."""
    ground = scene("thermal", pieces=0).background[140:, :, 0]
    steps = np.abs(np.diff(ground, axis=1)).mean(axis=0)
    assert steps[159] < 3 * np.median(steps)


def test_near_infrared_light_falls_off_with_distance() -> None:
    found = scene("nir", pieces=0)
    assert found.background[-10:].mean() > 1.2 * found.background[95:105].mean()


def test_by_night_an_rgb_camera_sees_less() -> None:
    images = [
        make_scene(CAMERA, make_light("rgb", night=night, rng=np.random.default_rng(4)), night=night,
                   rng=np.random.default_rng(5)).still().mean()
        for night in (False, True)
    ]  # fmt: skip
    assert images[1] < 0.6 * images[0]


def sensor(modality: str, *, night: bool = False) -> Sensor:
    return Sensor(modality, night=night, size=(60, 80), rng=np.random.default_rng(7))


def test_a_sensor_s_noise_does_not_depend_on_what_it_sees() -> None:
    flat = np.full((60, 80, 1), 0.4, np.float32)
    other = flat.copy()
    other[:, 60:] = 0.9
    one, two = sensor("thermal"), sensor("thermal")
    for second in range(3):
        assert np.array_equal(one.expose(flat, second)[:, :50], two.expose(other, second)[:, :50])


def test_a_window_of_a_frame_is_that_of_the_whole_frame() -> None:
    signal = np.full((60, 80, 1), 0.4, np.float32)
    whole = sensor("nir").expose(signal, 0.0)
    part = sensor("nir").expose(signal[10:40, 20:70], 0.0, (20, 10, 70, 40))
    assert np.array_equal(part, whole[10:40, 20:70])


def test_a_picture_as_bright_is_noisier_by_night() -> None:
    """The gain makes up for the light, not for its noise."""
    by_day, by_night = (
        sensor("rgb", night=night).expose(np.full((60, 80, 3), light, np.float32), 0.0).astype(float)
        for night, light in ((False, 0.11), (True, 0.05))
    )
    assert by_night.mean() == pytest.approx(by_day.mean(), rel=0.02)
    assert by_night.std() > 1.2 * by_day.std()


def test_thermal_counts_drift_slowly_and_stay_within_14_bits() -> None:
    flat = np.full((60, 80, 1), 0.1, np.float32)
    at = sensor("thermal", night=True)
    means = [float(at.expose(flat, seconds).mean()) for seconds in (0.0, 0.1, 22.5, 45.0)]
    assert abs(means[1] - means[0]) < 2
    assert np.ptp(means) > 20
    assert at.expose(flat * 1e4, 0.0).max() <= 16383
