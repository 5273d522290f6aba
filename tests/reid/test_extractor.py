import numpy as np
import pytest
import torch

from reid.extractor import Extractor, XReIDExtractor
from reid.modality import Modality
from reid.models.xreid import XReID
from reid.transforms import Image, to_input
from tests.reid.factories import model_config, person_image, preprocessing

RGB, NIR, THERMAL = Modality.RGB, Modality.NIR, Modality.THERMAL


def extractor(**changes: object) -> XReIDExtractor:
    torch.manual_seed(0)
    model = XReID(model_config(neck="batch_norm"))
    return XReIDExtractor(model, preprocessing(), model_id="mini@test", calibration=None, **changes)


def clip(pid: int, modality: Modality, count: int) -> list[Image]:
    generator = np.random.default_rng(pid)
    return [person_image(pid, modality, generator) for _ in range(count)]


CLIPS = [clip(1, RGB, 6), clip(2, NIR, 1), clip(3, THERMAL, 9), clip(4, NIR, 3)]
MODALITIES = [RGB, NIR, THERMAL, NIR]


def test_embeddings_are_rows_of_unit_length_and_repeatable() -> None:
    model = extractor()
    assert isinstance(model, Extractor)
    first = model.extract(CLIPS, MODALITIES)
    assert first.shape == (4, model.dimension)
    assert first.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(first, axis=1), 1, atol=1e-6)
    assert np.array_equal(first, model.extract(CLIPS, MODALITIES))


def test_no_clips_give_no_rows_of_the_right_width() -> None:
    assert extractor().extract([], []).shape == (0, 44)


def test_a_clip_s_embedding_does_not_depend_on_its_company_or_the_batch_size() -> None:
    together = extractor().extract(CLIPS, MODALITIES)
    small = extractor()
    small.batch_frames = 3
    in_threes = small.extract(CLIPS, MODALITIES)
    alone = [extractor().extract([one], [modality])[0] for one, modality in zip(CLIPS, MODALITIES, strict=True)]
    np.testing.assert_allclose(together, alone, atol=1e-5)
    np.testing.assert_allclose(together, in_threes, atol=1e-5)


def test_a_processor_meets_a_few_numbers_of_crops_only_and_nobody_reads_what_fills_them_up() -> None:
    mini, met = extractor(), set()
    mini.model.encoder.register_forward_pre_hook(lambda _, given: met.add(len(given[0])))
    clips = [clip(pid, Modality.RGB, 1 + pid % 4) for pid in range(33)]
    alone = np.concatenate([mini.extract([each], [Modality.RGB]) for each in clips])
    for count in range(1, len(clips) + 1):
        together = mini.extract(clips[:count], [Modality.RGB] * count)
        np.testing.assert_allclose(together, alone[:count], atol=1e-5)
    assert len(met) <= 15
    mini.batch_frames = 100  # more than any of these is not filled up
    assert mini.extract(clips, [Modality.RGB] * 33).shape == alone.shape
    assert max(met) == sum(1 + pid % 4 for pid in range(33))


def test_a_long_clip_is_represented_by_evenly_spaced_crops() -> None:
    long = clip(3, THERMAL, 12)
    model = extractor()
    expected = model.extract([[long[0], long[3], long[6], long[9]]], [THERMAL])
    np.testing.assert_array_equal(model.extract([long], [THERMAL]), expected)


@pytest.mark.parametrize(("sampling", "rule"), [("uniform", "not filled up"), ("chunk_first", "last crop repeated")])
def test_a_short_tracklet_is_treated_by_the_rule_of_the_weights_and_the_log_says_so(
    sampling: str, rule: str, caplog: pytest.LogCaptureFixture
) -> None:
    torch.manual_seed(0)
    model = XReIDExtractor(
        XReID(model_config()), preprocessing(sampling=sampling), model_id="mini@test", calibration=None
    )
    short = clip(1, RGB, 2)
    with caplog.at_level("DEBUG", logger="reid.extractor"):
        got = model.extract([short, clip(2, RGB, 4)], [RGB, RGB])
    assert f"1 of 2 tracklets have fewer than 4 crops: {rule}" in caplog.text
    filled = [*short, short[-1], short[-1]] if sampling == "chunk_first" else short
    np.testing.assert_allclose(got[:1], model.extract([filled], [RGB]), atol=1e-6)
    other = short if sampling == "chunk_first" else [*short, short[-1], short[-1]]
    uniform = XReIDExtractor(model.model, preprocessing(frames=len(other)), model_id="mini@test", calibration=None)
    assert not np.allclose(got[:1], uniform.extract([other], [RGB]), atol=1e-5)


def test_one_crop_of_eight_or_sixteen_bits_is_enough() -> None:
    images: list[Image] = [np.full((30, 12), 40, np.uint8), np.full((30, 12), 4000, np.uint16)]
    assert np.isfinite(extractor().extract([[image] for image in images], [NIR, THERMAL])).all()


def test_what_cannot_be_embedded_names_its_clip() -> None:
    tiny = np.zeros((1, 1), np.uint8)
    with pytest.raises(ValueError, match=r"clip 1: crop 0: must be at least 4 x 4 pixels, got 1 x 1"):
        extractor().extract([CLIPS[1], [tiny]], [NIR, NIR])
    with pytest.raises(ValueError, match="clip 0: a clip must have at least one crop"):
        extractor().extract([[]], [NIR])
    with pytest.raises(ValueError, match="equally many, got 1 and 2"):
        extractor().extract([CLIPS[0]], [RGB, RGB])


def test_a_trained_camera_keeps_its_vector_and_a_stranger_gets_the_policy_s() -> None:
    torch.manual_seed(0)
    model = XReID(model_config(camera_embedding="modality_mean", cameras=2))
    with torch.no_grad():
        model.camera_embedding.vectors.normal_()
    model.camera_embedding.learn_modalities(torch.tensor([0, 1]), torch.tensor([0, 0]))
    known = XReIDExtractor(model, preprocessing(), model_id="mini@test", calibration=None, cameras=("gate", "yard"))
    height, width = preprocessing().size_hw
    clips = [np.full((2, height, width, 3), 90, np.uint8)] * 3
    named = known.embed_prepared(clips, [RGB] * 3, cameras=["gate", "yard", "roof"])
    strangers = known.embed_prepared(clips, [RGB] * 3)
    assert np.abs(named[0] - named[1]).max() > 1e-3
    np.testing.assert_allclose(named[2], strangers[2], atol=1e-6)
    assert np.abs(named[0] - strangers[0]).max() > 1e-3
    images = to_input(torch.from_numpy(clips[1]), preprocessing())
    by_index = model.embed(images, torch.tensor([2]), torch.tensor([0]), torch.tensor([1]))
    np.testing.assert_allclose(named[1], by_index[0].detach(), atol=1e-5)


def test_a_clip_without_frames_is_refused_by_its_number() -> None:
    height, width = preprocessing().size_hw
    clips = [np.zeros((1, height, width, 3), np.uint8), np.zeros((0, height, width, 3), np.uint8)]
    with pytest.raises(ValueError, match="clip 1: a clip must have at least one crop, got none"):
        extractor().embed_prepared(clips, [RGB, RGB])
