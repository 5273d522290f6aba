import numpy as np
import pytest
import torch

from reid.modality import Modality
from reid.transforms import Augmentation, augment, prepare_clip, sample_frames, to_input
from tests.reid.factories import SIZE_HW, preprocessing

RGB, NIR, THERMAL = Modality.RGB, Modality.NIR, Modality.THERMAL


def grey(value: int, dtype: type = np.uint8, hw: tuple[int, int] = (40, 20)) -> np.ndarray:
    return np.full(hw, value, dtype)


def test_frames_are_taken_evenly_and_none_is_repeated() -> None:
    assert sample_frames(24, 6).tolist() == [0, 4, 8, 12, 16, 20]
    assert sample_frames(7, 3).tolist() == [0, 2, 4]
    assert sample_frames(2, 6).tolist() == [0, 1]


def test_crops_of_any_size_become_one_size_with_three_channels() -> None:
    clip = prepare_clip([grey(7), grey(9, hw=(90, 33)), grey(11, hw=(5, 4))], NIR, preprocessing())
    assert clip.shape == (3, *SIZE_HW, 3)
    assert clip.dtype == np.uint8
    assert [np.unique(frame).tolist() for frame in clip] == [[7], [9], [11]]


def test_rgb_keeps_its_channels_in_order() -> None:
    crop = np.zeros((40, 20, 3), np.uint8)
    crop[..., 0], crop[..., 2] = 200, 10
    assert prepare_clip([crop], RGB, preprocessing())[0, 5, 5].tolist() == [200, 0, 10]


def test_a_shrunk_image_is_averaged_and_not_sampled() -> None:
    stripes = np.zeros((SIZE_HW[0] * 2, SIZE_HW[1] * 2), np.uint8)
    stripes[::2] = 200
    assert np.unique(prepare_clip([stripes], NIR, preprocessing())).tolist() == [100]


def test_thermal_is_stretched_over_the_whole_clip_whatever_its_offset_and_gain() -> None:
    scene = np.random.default_rng(0).integers(0, 1000, (2, *SIZE_HW))
    plain = prepare_clip(list((scene + 7000).astype(np.uint16)), THERMAL, preprocessing())
    drifted = prepare_clip(list((3 * scene + 21000).astype(np.uint16)), THERMAL, preprocessing())
    assert np.abs(plain.astype(int) - drifted).max() <= 1
    low, high = np.percentile(scene, (1, 99))
    expected = np.clip((scene - low) / (high - low) * 255, 0, 255)
    assert np.abs(plain[..., 0] - expected).max() <= 1
    # One scale for the clip: the difference between its frames survives.
    pair = prepare_clip([grey(100, np.uint16), grey(300, np.uint16)], THERMAL, preprocessing())
    assert pair[0].max() == 0
    assert pair[1].min() == 255


def test_a_thermal_clip_of_one_temperature_is_dark_and_finite() -> None:
    assert prepare_clip([grey(5, np.uint16)], THERMAL, preprocessing()).max() == 0


def test_near_infrared_is_stretched_only_where_that_is_asked_for_or_it_has_16_bits() -> None:
    scene = np.random.default_rng(0).integers(10, 60, SIZE_HW).astype(np.uint8)
    plain = prepare_clip([scene], NIR, preprocessing())
    assert np.array_equal(plain[0, ..., 0], scene)
    stretched = prepare_clip([scene], NIR, preprocessing(nir_percentiles=(1, 99)))
    assert (stretched.min(), stretched.max()) == (0, 255)
    deep = prepare_clip([scene.astype(np.uint16) * 256], NIR, preprocessing())
    assert (deep.min(), deep.max()) == (0, 255)


@pytest.mark.parametrize(
    ("crop", "modality", "message"),
    [
        (grey(1, hw=(1, 1)), NIR, "crop 0: must be at least 4 x 4 pixels, got 1 x 1"),
        (grey(1), RGB, r"an rgb crop must be uint8 \(h, w, 3\), got uint8 \(40, 20\)"),
        (np.zeros((40, 20, 4), np.uint8), THERMAL, "a thermal crop must be"),
        (np.zeros((40, 20), np.float32), NIR, "a nir crop must be .* got float32"),
    ],
)
def test_what_is_no_crop_is_refused(crop: np.ndarray, modality: Modality, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        prepare_clip([crop], modality, preprocessing())


def test_a_clip_has_at_least_one_crop() -> None:
    with pytest.raises(ValueError, match="at least one crop"):
        prepare_clip([], NIR, preprocessing())


def test_the_input_is_normalised_from_bytes_and_from_floats_alike() -> None:
    pixels = torch.randint(0, 256, (2, 8, 4, 3), dtype=torch.uint8)
    settings = preprocessing(mean=(0.1, 0.2, 0.3), std=(0.5, 0.25, 1.0))
    out = to_input(pixels, settings)
    assert out.shape == (2, 3, 8, 4)
    assert out[1, 1, 3, 2].item() == pytest.approx((pixels[1, 3, 2, 1].item() / 255 - 0.2) / 0.25, abs=1e-6)
    torch.testing.assert_close(to_input(pixels.permute(0, 3, 1, 2).float() / 255, settings), out)


def test_rgb_may_be_seen_as_grey_and_mono_stays_what_it_is() -> None:
    pixels = torch.randint(0, 256, (2, 8, 4, 3), dtype=torch.uint8)
    pixels[1] = pixels[1, ..., :1]
    plain = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}
    colour, grey = (to_input(pixels, preprocessing(grey=flag, **plain)) for flag in (False, True))
    expected = 0.299 * colour[0, 0] + 0.587 * colour[0, 1] + 0.114 * colour[0, 2]
    torch.testing.assert_close(grey[0], expected.expand(3, -1, -1))
    torch.testing.assert_close(grey[1], colour[1])


def frames(count: int) -> torch.Tensor:
    """Of an RGB clip of three frames, and grey ones."""
    images = torch.rand(count, 3, *SIZE_HW, generator=torch.Generator().manual_seed(0))
    images[3:] = images[3:, :1]
    return images


LENGTHS = torch.tensor([3, 2, 1])
KINDS = (RGB, NIR, NIR)
NOTHING = Augmentation().weakened(0).model_copy(update={"flip": 0.0})


def test_no_augmentation_changes_nothing_and_weakening_scales_all_but_the_mirror() -> None:
    images = frames(6)
    torch.testing.assert_close(augment(images, LENGTHS, KINDS, NOTHING, 1), images, atol=1e-4, rtol=0)
    half = Augmentation().weakened(0.5)
    assert half.flip == 0.5
    assert half.zoom == pytest.approx(Augmentation().zoom / 2)
    assert Augmentation().weakened(1) == Augmentation()


def test_augmentation_is_repeatable_stays_in_range_and_leaves_its_input_alone() -> None:
    images = frames(6)
    before = images.clone()
    first = augment(images, LENGTHS, KINDS, Augmentation(), 5)
    assert torch.equal(images, before)
    assert torch.equal(first, augment(images, LENGTHS, KINDS, Augmentation(), 5))
    assert not torch.equal(first, augment(images, LENGTHS, KINDS, Augmentation(), 6))
    assert first.shape == images.shape
    assert 0 <= first.min() <= first.max() <= 1


def test_the_frames_of_a_clip_change_alike() -> None:
    still = frames(1).expand(3, -1, -1, -1)
    same = Augmentation(frame_jitter=0, noise=0, erase=1, occlude=1, blur=1, coarse=1)
    for seed in range(5):
        # Erasing fills with noise of its own each frame; everywhere else the frames must agree.
        out = augment(still, torch.tensor([3]), (RGB,), same.model_copy(update={"erase": 0.0}), seed)
        torch.testing.assert_close(out[0], out[1])
        torch.testing.assert_close(out[0], out[2])


def test_mono_clips_stay_grey_and_rgb_may_become_so() -> None:
    mono = frames(6)[:, :1].expand(-1, 3, -1, -1)
    out = augment(mono, LENGTHS, (NIR, THERMAL, NIR), Augmentation(colour=0.5, grey=1.0), 2)
    torch.testing.assert_close(out[:, 0], out[:, 1])
    out = augment(frames(6), LENGTHS, KINDS, NOTHING.model_copy(update={"grey": 1.0}), 2)
    torch.testing.assert_close(out[:3, 0], out[:3, 1])
    assert not torch.allclose(out[:3], frames(6)[:3])


def test_a_mirror_image_is_one() -> None:
    images = frames(6)
    out = augment(images, LENGTHS, KINDS, NOTHING.model_copy(update={"flip": 1.0}), 2)
    torch.testing.assert_close(out, images.flip(3), atol=1e-4, rtol=0)


def test_an_occlusion_shows_another_clip_of_the_same_modality() -> None:
    images = torch.arange(4.0)[:, None, None, None].expand(4, 3, *SIZE_HW) / 10
    kinds, lengths = (RGB, RGB, NIR, NIR), torch.ones(4, dtype=torch.int64)
    out = augment(images, lengths, kinds, NOTHING.model_copy(update={"occlude": 1.0}), 3)
    seen = [set((10 * frame).round().int().unique().tolist()) for frame in out]
    assert seen == [{0, 1}, {0, 1}, {2, 3}, {2, 3}]


def test_a_clip_is_varied_alike_whoever_shares_its_batch() -> None:
    images = frames(6)
    strong = Augmentation(erase=1.0, occlude=0.0)
    whole = augment(images, LENGTHS, KINDS, strong, 4)
    part = augment(images[3:], LENGTHS[1:], KINDS[1:], strong, 4, numbers=[1, 2])
    assert torch.equal(part, whole[3:])
    assert not torch.allclose(augment(images[3:], LENGTHS[1:], KINDS[1:], strong, 4), whole[3:])


AMOUNTS = {name: 0.0 for name in Augmentation.model_fields if name not in ("synchronised", "erase_area")}


def test_random_erasing_covers_the_share_asked_for_in_an_aspect_of_a_third_to_three_with_one_colour() -> None:
    augmentation = Augmentation.model_validate(
        {**AMOUNTS, "erase": 1.0, "erase_area": (0.02, 0.2), "synchronised": False}
    )
    frames = torch.full((300, 3, 96, 48), 0.5)
    found = augment(frames, torch.tensor([300]), [RGB], augmentation, seed=5)
    inside = ((found - frames).abs() > 1e-6).any(dim=1)
    shares, aspects = [], []
    for frame, mask in zip(found, inside, strict=True):
        rows, columns = mask.any(dim=1).nonzero()[:, 0], mask.any(dim=0).nonzero()[:, 0]
        height, width = len(rows), len(columns)
        assert int(mask.sum()) == height * width  # a whole rectangle
        assert frame[:, mask].std(dim=1).max() < 1e-6  # of one colour
        shares.append(height * width / (96 * 48))
        aspects.append(height / width)
    assert 0.01 < min(shares) < 0.04
    assert 0.17 < max(shares) < 0.23
    assert 0.2 < min(aspects) < 0.6
    assert 2.5 < max(aspects) < 4.5


def test_erasing_is_drawn_once_a_clip_or_once_a_frame() -> None:
    only_erasing = {**AMOUNTS, "erase": 1.0}
    frames, lengths = torch.full((6, 3, 32, 16), 0.5), torch.tensor([6])
    for synchronised in (True, False):
        augmentation = Augmentation.model_validate({**only_erasing, "synchronised": synchronised})
        changed = ((augment(frames, lengths, [RGB], augmentation, seed=3) - frames).abs() > 1e-4).any(dim=1)
        rectangles = {
            (*frame.nonzero().amin(dim=0).tolist(), *frame.nonzero().amax(dim=0).tolist()) for frame in changed
        }
        assert (len(rectangles) == 1) is synchronised
