import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.build import build_window
from pipeline.clips import Spot
from pipeline.config import ThermalConfig, from_sources
from pipeline.query import QueryFile, clip_of_file, clip_of_spot
from pipeline.run import RunOptions, run
from pipeline.sources.images import ImageSource, SequenceTiming
from pipeline.sources.open import open_source
from pipeline.store import Store, read_crop
from pipeline.thermal import Polarity, ThermalWindow, Windows
from reid.modality import Modality
from tests.pipeline.footage import frame_of, write_images
from tests.pipeline.recordings import scene, write_weights

RNG = np.random.default_rng(0)
SCENE = np.clip(8000 + 120 * RNG.standard_normal((120, 160)), 0, 65535).astype(np.uint16)


def with_somebody_hot(scene: NDArray[np.uint16], share: float = 0.25) -> NDArray[np.uint16]:
    image = scene.copy()
    image[:, : int(share * scene.shape[1])] = 9500
    return image


def test_a_hot_object_moves_no_background_pixel() -> None:
    window = ThermalWindow()
    before = window.eight_bit(SCENE, pts_seconds=0).astype(int)
    for number in range(1, 101):
        noisy = (with_somebody_hot(SCENE) + RNG.integers(-3, 4, SCENE.shape)).astype(np.uint16)
        after = window.eight_bit(noisy, pts_seconds=number / 10).astype(int)
        assert np.abs(after - before)[:, 40:].max() < 2
    assert after[:, :40].min() > before.max()


@pytest.mark.parametrize("bits", [10, 12, 14, 16])
def test_a_person_who_enters_moves_no_background_pixel_at_any_depth(bits: int) -> None:
    rng = np.random.default_rng(bits)
    top = 2**bits - 1
    scene = 0.4 * top + 0.02 * top * rng.standard_normal((120, 160))
    window = ThermalWindow()
    first, moved = None, 0.0
    for number in range(200):
        image = scene + 0.0005 * top * rng.standard_normal(scene.shape)
        if number >= 50:
            image[40:110, number // 2 : number // 2 + 25] = 0.8 * top
        shown = window.eight_bit(np.clip(image, 0, top).astype(np.uint16), pts_seconds=number / 10).astype(int)
        background = float(shown[:, 130:].mean())
        first = background if first is None else first
        moved = max(moved, abs(background - first))
    assert moved < 2
    assert window.refits == 0
    assert np.ptp(shown[:, 130:]) > 20  # the scene is not squeezed into a few levels


@pytest.mark.parametrize("share", [0.25, 0.45, 0.55, 0.75])
@pytest.mark.parametrize("heat", [8300, 9500, 14000])
def test_a_hot_object_before_most_of_the_scene_moves_no_background_pixel_for_a_minute(share: float, heat: int) -> None:
    rng, window, columns = np.random.default_rng(0), ThermalWindow(), round(160 * share)
    scene = (8000 + 120 * rng.standard_normal((120, 160))).astype(np.uint16)
    before = window.eight_bit(scene, pts_seconds=0).astype(int)
    worst = 0.0
    for number in range(1, 300):
        image = scene + rng.integers(-3, 4, scene.shape).astype(np.uint16)
        if number < 280:
            image[:, :columns] = heat
        after = window.eight_bit(image, pts_seconds=number / 5).astype(int)
        moved = (after - before)[:, columns:]
        worst = max(worst, abs(float(moved.mean())))
        assert np.abs(moved).max() <= 2  # of one pixel, its noise of half a level and rounding included
    assert worst < 1
    assert window.refits == 0


@pytest.mark.parametrize("share", [0.2, 0.3, 0.45, 0.48, 0.6])
@pytest.mark.parametrize("spread", [20, 40, 120])
@pytest.mark.parametrize("noise", [3, 6, 10])
def test_a_hot_object_moves_no_background_through_noise_of_some_levels(noise: int, spread: int, share: float) -> None:
    """The median of all pixels is above the background's where some are hot, by more the more they waver."""
    rng, window, columns = np.random.default_rng(1), ThermalWindow(), round(160 * share)
    scene = 8000 + spread * rng.standard_normal((120, 160))
    means = []
    for number in range(300):
        image = scene + noise * rng.standard_normal(scene.shape)
        if number >= 20:
            image[:, :columns] = 9300
        shown = window.eight_bit(image.round().astype(np.uint16), pts_seconds=number / 10)
        means.append(float(shown[:, 100:].mean()))
    assert np.ptp(means) < 2
    assert window.refits == 0


def test_what_stays_before_the_scene_is_seen_after_a_minute() -> None:
    window = ThermalWindow()
    window.eight_bit(SCENE, pts_seconds=0)
    image = SCENE.copy()
    image[:, : round(0.7 * SCENE.shape[1])] += 20000
    for number in range(1, 400):
        shown = window.eight_bit(image, pts_seconds=number / 5)
    assert window.refits == 1
    assert np.mean(shown == 255) < 0.05


def test_a_first_frame_that_is_no_picture_is_forgotten_after_some_seconds() -> None:
    window = ThermalWindow()
    window.eight_bit(np.full(SCENE.shape, 3000, np.uint16), pts_seconds=0)
    for number in range(1, 60):
        shown = window.eight_bit(SCENE, pts_seconds=number / 10)
    assert window.refits == 1
    assert 5 < np.median(shown) < 250
    assert np.mean((shown == 0) | (shown == 255)) < 0.05


def test_a_shutter_that_closes_for_a_moment_changes_nothing() -> None:
    window = ThermalWindow()
    before = window.eight_bit(SCENE, pts_seconds=0).astype(int)
    for number in range(1, 100):
        closed = 30 <= number < 45
        image = np.full(SCENE.shape, 9900, np.uint16) if closed else SCENE
        after = window.eight_bit(image, pts_seconds=number / 10).astype(int)
        if not closed:
            assert np.abs(after - before).max() <= 1
    assert window.refits == 0


def test_a_gain_that_is_switched_gets_new_limits_once() -> None:
    window = ThermalWindow()
    for number in range(200):
        image = SCENE if number < 50 else (SCENE // 4).astype(np.uint16)
        shown = window.eight_bit(image, pts_seconds=number / 10)
    assert window.refits == 1
    assert np.ptp(shown.astype(int)) > 60


@pytest.mark.parametrize("modality", [Modality.THERMAL, Modality.NIR])
def test_a_camera_that_begins_again_is_seen_and_followed_as_before(modality: Modality) -> None:
    """As by a new config: its window stays (or has seen one frame of the batch in hand), and its times start at 0."""
    windows = Windows({"roof": ThermalWindow()})
    for second in (7999, 8000, *range(0, 1600, 4)):
        image = (SCENE + np.uint16(3000) if second >= 7999 else SCENE) + np.uint16(second % 7999)
        frame = frame_of(image, 0, camera_id="roof", modality=modality)
        shown = windows.gray8(replace(frame, pts_seconds=float(second)))
        assert np.mean((shown == 0) | (shown == 255)) < 0.05
        assert np.ptp(shown.astype(int)) > 60
    assert np.all(np.isfinite(windows["roof"].limits or np.nan))
    assert windows["roof"].refits == 0


@pytest.mark.parametrize("turned", [False, True])
def test_the_polarity_of_a_camera_that_begins_again_is_found_by_what_it_shows_then(turned: bool) -> None:
    window = ThermalWindow(polarity=Polarity.AUTO)
    other_way = [walker(number) if turned else ~walker(number) for number in range(60, 75)]
    frames = [(8000 + number / 10, image) for number, image in enumerate(other_way)]  # too few for a verdict
    frames += [(number / 10, ~walker(number) if turned else walker(number)) for number in range(150)]
    for at, (seconds, image) in enumerate(frames):
        shown = window.eight_bit(image, pts_seconds=seconds)
        if at <= len(other_way) + 3:
            assert window.polarity is Polarity.AUTO
    assert window.polarity is (Polarity.BLACK_HOT if turned else Polarity.WHITE_HOT)
    assert np.all(np.isfinite(window.limits or np.nan))
    assert shown[70, 2 * (149 % 90) - 13] > np.median(shown) + 30


def walker(number: int, *, size: tuple[int, int] = (120, 160)) -> NDArray[np.uint16]:
    """Somebody warm passes through a scene of warm and cold things."""
    rng = np.random.default_rng(number)
    image = 8000 + 4 * rng.standard_normal(size)
    image[:30] -= 300
    image[90:, 60:] += 250
    left = 2 * (number % 90) - 20
    if left + 15 > 0:
        image[50:95, max(left, 0) : left + 15] = 8700
    return image.astype(np.uint16)


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("deep", [False, True])
def test_polarity_is_found_by_what_moves(turned: bool, deep: bool) -> None:
    window = ThermalWindow(polarity=Polarity.AUTO)
    for number in range(150):
        image = walker(number)
        image = image if deep else np.clip((image - 7500) / 6, 0, 255).astype(np.uint8)
        if turned:
            image = (65535 - image) if deep else 255 - image
        shown = window.eight_bit(image, pts_seconds=number / 10)
        if number == 3:
            assert window.polarity is Polarity.AUTO
    assert window.polarity is (Polarity.BLACK_HOT if turned else Polarity.WHITE_HOT)
    left = 2 * (149 % 90) - 20
    assert shown[70, left + 7] > np.median(shown) + 30


def test_a_scene_in_which_nothing_moves_says_nothing_of_polarity() -> None:
    window = ThermalWindow(polarity=Polarity.AUTO)
    for number in range(300):
        noisy = SCENE + np.random.default_rng(number).integers(0, 9, SCENE.shape).astype(np.uint16)
        window.eight_bit(noisy, pts_seconds=number / 10)
    assert window.polarity is Polarity.AUTO


def test_slow_drift_of_the_whole_scene_is_followed() -> None:
    window = ThermalWindow()
    before = window.eight_bit(SCENE, pts_seconds=0).astype(int)
    for second in range(1, 301):
        after = window.eight_bit(SCENE + np.uint16(2 * second), pts_seconds=float(second)).astype(int)
    fixed = ThermalWindow(low=7000, high=9000)
    drifted = fixed.eight_bit(SCENE + np.uint16(600), pts_seconds=0).astype(int) - fixed.eight_bit(SCENE, pts_seconds=0)
    assert abs(np.median(after - before)) < 0.2 * np.median(drifted)


def test_limits_of_the_config_are_fixed() -> None:
    window = ThermalWindow(low=1000, high=1255)
    image = np.array([[0, 1000, 1100, 1255, 60000]], np.uint16)
    assert window.eight_bit(image, pts_seconds=0).tolist() == [[0, 0, 100, 255, 255]]
    assert window.eight_bit(image + np.uint16(1), pts_seconds=9).tolist() == [[0, 1, 101, 255, 255]]
    assert window.limits == (1000, 1255)


def test_limits_in_degrees_become_counts_of_a_radiometric_camera() -> None:
    window = build_window(ThermalConfig(low=0.0, high=40.0, kelvin_per_count=0.01))
    assert window.limits == pytest.approx((27315, 31315))


def test_limits_of_the_config_hold_for_8_bits_too() -> None:
    image = np.array([[100, 150, 200]], np.uint8)
    assert ThermalWindow(low=100, high=200).eight_bit(image, pts_seconds=0).tolist() == [[0, 128, 255]]


def test_eight_bits_pass_through() -> None:
    image = np.array([[0, 7, 255]], np.uint8)
    assert ThermalWindow().eight_bit(image, pts_seconds=0).tolist() == [[0, 7, 255]]
    assert ThermalWindow(polarity=Polarity.BLACK_HOT).eight_bit(image, pts_seconds=0).tolist() == [[255, 248, 0]]


def test_black_hot_cameras_become_white_hot() -> None:
    cold_is_bright = (65535 - with_somebody_hot(SCENE).astype(int)).astype(np.uint16)
    shown = ThermalWindow(polarity=Polarity.BLACK_HOT).eight_bit(cold_is_bright, pts_seconds=0)
    assert shown[:, :40].min() > np.median(shown[:, 40:])


def test_who_is_hot_is_shown_alike_by_cameras_of_both_polarities() -> None:
    """Somebody hot enters an empty scene of 16 bits: the room for that is at the hot end, wherever that is."""
    white, black = ThermalWindow(), ThermalWindow(polarity=Polarity.BLACK_HOT)
    somebody = SCENE.copy()
    somebody[30:90, :40] = 8700
    for second, image in enumerate((SCENE, somebody)):
        shown = [window.eight_bit(each, pts_seconds=second) for window, each in ((white, image), (black, ~image))]
        assert np.abs(shown[0].astype(int) - shown[1]).max() <= 1
    assert shown[1].max() < 255


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_images_of_black_hot_cameras_are_turned_with_all_their_bits(dtype: type) -> None:
    windows = Windows({"roof": ThermalWindow(), "yard": ThermalWindow(polarity=Polarity.BLACK_HOT)})
    most = int(np.iinfo(dtype).max)
    image = np.array([[0, 1, 100], [most, most - 1, 7]], dtype)
    assert windows.white_hot("yard", image).tolist() == (most - image.astype(int)).tolist()
    assert windows.white_hot("yard", image).dtype == dtype
    assert windows.white_hot("roof", image) is image
    assert windows.white_hot("gate", image) is image  # no thermal camera


def test_images_are_turned_once_the_polarity_is_found() -> None:
    windows = Windows({"yard": ThermalWindow(polarity=Polarity.AUTO)})
    image = ~walker(0)
    assert windows.white_hot("yard", image) is image
    for number in range(150):
        windows.gray8(frame_of(~walker(number), number, camera_id="yard", modality=Modality.THERMAL))
    np.testing.assert_array_equal(windows.white_hot("yard", image), walker(0))


def test_a_run_embeds_the_people_of_a_black_hot_camera_as_those_of_a_white_hot_one(tmp_path: Path) -> None:
    """One film and its negative: the same crops and vectors, in the gallery and in a search by a box or an image."""
    grey = [np.where(np.ptp(image, axis=2) > 20, 150 + image[..., 1] // 3, image[..., 0] // 4) for image in
            (scene(index) for index in range(45))]  # fmt: skip
    write_images(tmp_path / "white", [image.astype(np.uint8) for image in grey])
    write_images(tmp_path / "black", [(255 - image).astype(np.uint8) for image in grey])
    start = "start=2026-07-01T22:00:00Z"
    config = from_sources(
        [
            f"white={tmp_path}/white,modality=thermal,{start}",
            f"black={tmp_path}/black,modality=thermal,{start},thermal.polarity=black_hot",
        ],
        overrides=[
            f"reid.weights={write_weights(tmp_path / 'mini.safetensors')}", f"output.root={tmp_path / 'run'}",
            "output.video=false", "output.contact_sheet=false", "tracklets.min_height_px=30",
        ],
    )  # fmt: skip
    run(config, RunOptions())
    with Store.read(tmp_path / "run") as store:
        white, black = sorted(store.tracklets(), key=lambda each: each.camera_id, reverse=True)
        np.testing.assert_array_equal(*store.embeddings([white.row, black.row]))
        for one, other in zip(store.crops(white.tracklet_id), store.crops(black.tracklet_id), strict=True):
            np.testing.assert_array_equal(read_crop(one), read_crop(other))
    spot = Spot(3.0, (90.0, 80.0, 140.0, 195.0))
    (one,), (other,) = (clip_of_spot(name, spot, config)[0] for name in ("white", "black"))
    np.testing.assert_array_equal(one, other)
    image = tmp_path / "black" / "30.png"
    asked, plain = (QueryFile(camera="black", whole=True), QueryFile(modality=Modality.THERMAL, whole=True))
    (turned,), (raw,) = (clip_of_file(image, file, config if file is asked else None)[0] for file in (asked, plain))
    np.testing.assert_array_equal(turned, 255 - raw)


def test_a_flat_scene_does_not_blow_up_its_noise() -> None:
    flat = np.full((60, 80), 8000, np.uint16)
    flat[::2] += 1
    assert np.ptp(ThermalWindow().eight_bit(flat, pts_seconds=0).astype(int)) <= 4


@pytest.mark.parametrize(("low", "high"), [(1.0, None), (None, 1.0), (5.0, 5.0), (6.0, 5.0)])
def test_impossible_limits_are_refused(low: float | None, high: float | None) -> None:
    with pytest.raises(ValueError, match="low"):
        ThermalWindow(low=low, high=high)


def test_any_frame_becomes_rgb_for_the_eye_and_its_pixels_stay_untouched() -> None:
    windows = Windows({"roof": ThermalWindow(low=7000, high=10000)})
    thermal = frame_of(with_somebody_hot(SCENE), 0, camera_id="roof", modality=Modality.THERMAL)
    raw = thermal.image.copy()
    shown, inverted = windows.rgb8(thermal), windows.rgb8(thermal, invert_thermal=True)
    assert shown.shape == (120, 160, 3)
    np.testing.assert_array_equal(inverted, 255 - shown)
    np.testing.assert_array_equal(thermal.image, raw)
    nir = frame_of(np.full((40, 40), 9, np.uint8), 0, modality=Modality.NIR)
    assert windows.rgb8(nir, invert_thermal=True)[0, 0].tolist() == [9, 9, 9]
    rgb = frame_of(np.zeros((40, 40, 3), np.uint8), 0)
    assert windows.rgb8(rgb, invert_thermal=True) is rgb.image
    with pytest.raises(ValueError, match="a mono frame is needed"):
        windows.gray8(rgb)


def test_each_camera_has_a_window_of_its_own() -> None:
    windows = Windows()
    a = windows.gray8(frame_of(SCENE, 0, camera_id="a", modality=Modality.THERMAL))
    b = windows.gray8(frame_of(SCENE + np.uint16(9000), 0, camera_id="b", modality=Modality.THERMAL))
    assert abs(int(np.median(a)) - int(np.median(b))) <= 1


@pytest.mark.real_data
@pytest.mark.parametrize("name", ["tno_nato_camp", "tno_duine"])
def test_real_thermal_sequences_work_with_no_option_set(shared_data: Path, name: str) -> None:
    folder = shared_data / "thermal" / name
    camera = from_sources([f"roof={folder / 'thermal'},modality=thermal"]).cameras["roof"]
    boxes = json.loads((folder / "boxes_xyxy.json").read_text())
    windows, source = Windows({"roof": build_window(camera.thermal)}), open_source("roof", camera)
    names = sorted(path.name for path in (folder / "thermal").glob("*.png"))
    warmer = []
    for frame in source:
        shown = windows.gray8(frame)
        if box := boxes[names[frame.index]]:
            left, top, right, bottom = box
            warmer.append(np.percentile(shown[top:bottom, left:right], 90) > np.percentile(shown, 75))
    assert source.account.decoded == len(names)
    assert np.mean(warmer) > 0.9


@pytest.mark.real_data
@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("name", ["tno_nato_camp", "tno_duine"])
def test_the_polarity_of_real_sequences_is_found(shared_data: Path, name: str, turned: bool) -> None:
    window = ThermalWindow(polarity=Polarity.AUTO)
    for frame in ImageSource("roof", str(shared_data / "thermal" / name / "thermal"), Modality.THERMAL,
                             timing=SequenceTiming(fps=2.0)):  # fmt: skip
        window.eight_bit((255 - frame.image) if turned else frame.image, pts_seconds=frame.pts_seconds)
    assert window.polarity is (Polarity.BLACK_HOT if turned else Polarity.WHITE_HOT)
