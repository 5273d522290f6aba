"""Batches by number, from packed files, memory or the files themselves, in this process or in others."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from reid.datasets.crops import Crops
from reid.datasets.folder import read_folder
from reid.datasets.split import DatasetError, TrackletSplit
from reid.loading import Batch, TrainingData, ahead, open_clips
from reid.models.xreid import MODALITIES
from reid.training_config import ConfigError, LoaderConfig, TrainConfig
from tests.reid.factories import paper_config, training_config, write_folder


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("folder"))


@pytest.fixture(scope="module")
def split(root: Path) -> TrackletSplit:
    return read_folder(root, "train")


def data_of(split: TrackletSplit, config: TrainConfig, **processes: int) -> TrainingData:
    return TrainingData(split, Crops.load(split, config.preprocessing), config, **processes)


def assert_equal(one: Batch, other: Batch) -> None:
    for name in Batch.__dataclass_fields__:
        assert torch.equal(getattr(one, name), getattr(other, name)), name


def test_still_epochs_have_single_frames_of_more_persons(split: TrackletSplit) -> None:
    config = training_config()
    data = data_of(split, config)
    (still,) = data.parts(config.iterations - 1)
    assert still.lengths.tolist() == [1] * 18
    (after,) = data.parts(config.iterations)
    assert after.lengths.tolist() == [2] * 9
    assert len(after.pixels) == 18


def test_partners_stand_at_equal_index_with_their_own_labels_and_pixels(split: TrackletSplit) -> None:
    data = data_of(split, paper_config())
    (batch,) = data.parts(4)
    of_modality = batch.identities.view(3, -1)
    assert (of_modality == of_modality[0]).all()
    assert batch.modalities.tolist() == [0] * 8 + [1] * 8 + [2] * 8
    assert [MODALITIES[kind] for kind in batch.kinds.tolist()] == [m for m in split.modality_set for _ in range(8)]
    frames = batch.pixels.view(len(batch.lengths), 2, *batch.pixels.shape[1:])
    for clip, identity in enumerate(batch.identities.tolist()):
        own = np.flatnonzero((split.pids == data.pids[identity]) & (split.camids == batch.cameras[clip].item()))
        assert any(np.array_equal(data.clips.clip(own[0])[k], frames[clip, 0].numpy()) for k in range(5))


@pytest.mark.parametrize(("world", "accumulate"), [(1, 4), (2, 1), (2, 2)])
def test_processes_and_parts_share_a_batch_without_changing_it(
    split: TrackletSplit, world: int, accumulate: int
) -> None:
    (whole,) = data_of(split, paper_config()).parts(7)
    config = paper_config(**{"batch.accumulate": accumulate})
    parts = [part for rank in range(world) for part in data_of(split, config, rank=rank, world=world).parts(7)]
    assert len(parts) == world * accumulate
    numbers = torch.cat([part.numbers for part in parts])
    assert sorted(numbers.tolist()) == list(range(24))
    for part in parts:
        assert torch.equal(part.identities, whole.identities[part.numbers])
        assert torch.equal(part.modalities, whole.modalities[part.numbers])
        of_clip = whole.pixels.view(24, 2, *whole.pixels.shape[1:])
        assert torch.equal(part.pixels, of_clip[part.numbers].flatten(0, 1))
        assert (part.identities.view(3, -1) == part.identities.view(3, -1)[0]).all()


def test_identities_that_do_not_divide_among_the_processes_are_refused(split: TrackletSplit) -> None:
    with pytest.raises(ConfigError, match=r"batch\.identities, 4, must be a multiple of the 3 processes"):
        data_of(split, paper_config(), rank=0, world=3)
    with pytest.raises(DatasetError, match="9 identities a batch, but only 8 have tracklets"):
        data_of(split, paper_config(**{"batch.identities": 9}))


def test_workers_give_the_batches_of_one_process_from_any_step_on(split: TrackletSplit) -> None:
    config = training_config(augmentation={})
    data = data_of(split, config)
    expected = [data.parts(step)[0] for step in range(57, 63)]
    for loader, first in (
        (LoaderConfig(workers=2), 57),
        (LoaderConfig(workers=1, prefetch=1), 60),
        (LoaderConfig(), 62),
    ):
        found = [parts[0] for parts in ahead(data.parts, range(first, 63), loader)]
        assert len(found) == 63 - first
        for one, other in zip(found, expected[first - 57 :], strict=True):
            assert_equal(one, other)


def test_clips_are_the_same_packed_in_memory_and_as_files(split: TrackletSplit, tmp_path: Path) -> None:
    settings = paper_config().preprocessing.model_copy(update={"thermal_percentiles": (0.0, 100.0)})
    packed, memory, files = (
        open_clips(split, settings, LoaderConfig(source=source), cache=tmp_path)
        for source in ("packed", "memory", "files")
    )
    assert isinstance(packed.pixels, np.memmap)
    assert not isinstance(memory.pixels, np.memmap)
    assert len(list(tmp_path.glob("*.npy"))) == 1
    for row, modality in enumerate(split.modalities):
        assert packed.length(row) == memory.length(row) == files.length(row) == 5
        assert np.array_equal(packed.clip(row), memory.clip(row))
        assert np.array_equal(packed.clip(row), files.clip(row)), modality
        positions = np.array([3, 0])
        assert np.array_equal(packed.clip(row, positions), packed.clip(row)[[3, 0]])


def test_the_packed_file_may_lie_elsewhere_and_is_whole_or_absent(root: Path, tmp_path: Path) -> None:
    broken = write_folder(tmp_path / "data", train=3, val=1)
    (broken / "train" / "00002" / "rgb" / "gate_1" / "003.jpg").write_bytes(b"no image")
    split = read_folder(broken, "train")
    loader = LoaderConfig(cache=str(tmp_path / "elsewhere"))
    with pytest.raises(ValueError, match=r"003\.jpg: not an image"):
        open_clips(split, paper_config().preprocessing, loader, cache=broken / "cache")
    assert list((tmp_path / "elsewhere").iterdir()) == []
    image = np.full((40, 18, 3), 90, np.uint8)
    assert cv2.imwrite(str(broken / "train" / "00002" / "rgb" / "gate_1" / "003.jpg"), image)
    open_clips(split, paper_config().preprocessing, loader, cache=broken / "cache")
    assert len(list((tmp_path / "elsewhere").glob("*.npy"))) == 1
    assert not (broken / "cache").exists()
