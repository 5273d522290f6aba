"""BUPTCampus is read as its files say, with the quirks of its loaders as options that have names."""

from pathlib import Path

import pytest

from reid.datasets.bupt_campus import CAMERAS, BuptCampus
from reid.datasets.known import open_dataset
from reid.datasets.split import DatasetError
from reid.modality import Modality
from tests.reid.layouts import Bupt, write_bupt


def pair(pid: str, camera: str, frames: int = 3) -> list[Bupt]:
    return [Bupt(pid, modality, camera, frames) for modality in ("RGB", "IR")]


TRACKLETS = [
    *pair("10", "G25"),
    *pair("9", "W4"),
    *pair("9", "LS3"),
    *(Bupt(pid, "FakeIR", camera) for pid, camera in (("9", "W4"), ("9", "LS3"), ("10", "G25"))),
    *pair("3", "CQ1"),
    *pair("20", "G25", frames=1),
    *pair("20", "TSG1"),
    *pair("20", "W4"),
]
LISTS = {
    "train": ["10 RGB/IR G25 1", "9 RGB/IR W4 1", "9 RGB/IR LS3 1"],
    "train_auxiliary": ["3 RGB/IR CQ1 1"],
    "query": ["20 RGB G25 1", "20 IR TSG1 1"],
    "gallery": ["20 IR W4 1", "20 RGB W4 1", "20 RGB TSG1 1"],
}


def opened(root: Path, **options: object) -> BuptCampus:
    dataset = open_dataset("bupt_campus", root, options)
    assert isinstance(dataset, BuptCampus)
    return dataset


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_bupt(tmp_path, TRACKLETS, LISTS)


@pytest.mark.parametrize("newline", ["\n", "\r\n"], ids=["unix", "windows"])
def test_a_line_of_the_training_list_is_a_pair_and_the_test_lists_are_mixed(tmp_path: Path, newline: str) -> None:
    dataset = opened(write_bupt(tmp_path, TRACKLETS, LISTS, newline=newline))
    train, test = dataset.split("train"), dataset.split("test")
    assert str(train) == "2 persons, 6 tracklets (3 rgb, 3 nir)"
    assert train.pids.tolist() == [10, 10, 9, 9, 9, 9]  # their own numbers: the same in every process
    assert train.modalities == (Modality.RGB, Modality.NIR) * 3
    assert train.camera_names == CAMERAS
    assert [CAMERAS[camera] for camera in train.camids] == ["G25", "G25", "W4", "W4", "LS3", "LS3"]
    assert train.paths[1][2] == tmp_path / "DATA/10/IR/G25/10_IR_G25_1_10.jpg"
    assert all(path.is_file() for frames in train.paths for path in frames)
    i2v, v2i = (dataset.directions("test")[name] for name in ("nir->rgb", "rgb->nir"))
    assert (i2v.query.tolist(), i2v.gallery.tolist()) == ([1], [3, 4])
    assert (v2i.query.tolist(), v2i.gallery.tolist()) == ([0], [2])
    assert test.lengths.tolist() == [1, 3, 3, 3, 3]


def test_persons_without_numbers_are_numbered_in_sorted_order(tmp_path: Path) -> None:
    tracklets = [*pair("b", "W4"), *pair("a", "W4"), *pair("c", "W4")]
    lists = {"train": ["b RGB/IR W4 1", "a RGB/IR W4 1"], "query": ["c IR W4 1"], "gallery": ["c RGB W4 1"]}
    dataset = opened(write_bupt(tmp_path, tracklets, lists))
    assert dataset.split("train").pids.tolist() == [1, 1, 0, 0]
    assert dataset.split("test").pids.tolist() == [2, 2]


def test_one_frame_tracklets_are_kept_unless_asked_otherwise(root: Path) -> None:
    assert len(opened(root).split("test")) == 5
    dropped = opened(root, min_frames=2)
    assert dropped.split("test").lengths.tolist() == [3, 3, 3, 3]
    assert dropped.directions("test")["rgb->nir"].query.tolist() == []
    assert dropped.directions("test")["nir->rgb"].query.tolist() == [0]


def test_auxiliary_persons_and_made_up_infrared_are_trained_on_when_asked_for(root: Path) -> None:
    assert sorted(set(opened(root, auxiliary=True).split("train").pids.tolist())) == [3, 9, 10]
    fake = opened(root, fake_ir=True).split("train")
    assert str(fake) == "2 persons, 9 tracklets (3 rgb, 6 nir)"
    assert fake.paths[-1][0].parent.parent.name == "FakeIR"
    assert str(opened(root).split("auxiliary")) == "1 persons, 2 tracklets (1 rgb, 1 nir)"


def test_persons_held_out_are_looked_at_in_real_infrared_only(root: Path) -> None:
    dataset = opened(root, fake_ir=True, val_identities=1)
    held, train = dataset.split("val"), dataset.split("train")
    assert len(held)
    assert {frames[0].parent.parent.name for frames in held.paths} == {"RGB", "IR"}
    fakes = [row for row, frames in enumerate(train.paths) if frames[0].parent.parent.name == "FakeIR"]
    assert fakes
    assert set(train.pids[fakes].tolist()) == set(train.pids.tolist())
    assert not set(train.pids.tolist()) & set(held.pids.tolist())


def test_the_lossy_loader_drops_visible_tracklets_beyond_a_multiple_of_64(tmp_path: Path) -> None:
    pids = [str(pid) for pid in range(1, 71)]
    tracklets = [each for pid in pids for camera in ("W4", "G25") for each in pair(pid, camera, frames=1)]
    lists = {
        "query": [f"{pid} {modality} W4 1" for pid in pids for modality in ("RGB", "IR")],
        "gallery": [f"{pid} {modality} G25 1" for pid in pids for modality in ("RGB", "IR")],
    }
    root = write_bupt(tmp_path, tracklets, lists)
    full = {name: (len(d.query), len(d.gallery)) for name, d in opened(root).directions("test").items()}
    assert full == {"nir->rgb": (70, 70), "rgb->nir": (70, 70)}
    lossy = opened(root, legacy_drop_last=True, all_directions=True)
    found = {name: (len(d.query), len(d.gallery)) for name, d in lossy.directions("test").items()}
    assert found == {
        "nir->rgb": (70, 64), "rgb->nir": (64, 70), "rgb->rgb": (64, 64), "nir->nir": (70, 70), "all->all": (134, 134),
    }  # fmt: skip
    kept = lossy.split("test").pids[lossy.directions("test")["rgb->nir"].query]
    assert kept.tolist() == list(range(1, 65))  # the last of the list are lost


def test_an_empty_auxiliary_list_is_nobody_and_any_other_empty_list_an_error(tmp_path: Path) -> None:
    dataset = opened(write_bupt(tmp_path, TRACKLETS, {**LISTS, "train_auxiliary": []}))
    assert len(dataset.split("auxiliary")) == 0
    for name, split in (("train", "train"), ("query", "test"), ("gallery", "test")):
        empty = opened(write_bupt(tmp_path / name, TRACKLETS, {**LISTS, name: []}))
        with pytest.raises(DatasetError, match=rf"{name}\.txt: lists no tracklet"):
            empty.split(split)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("10 RGB/IR G25", r"train\.txt:1: must be four words: person modality camera tracklet; got '10 RGB/IR G25'"),
        ("10 RGB+IR G25 1", r"train\.txt:1: modality must be RGB, IR, FakeIR or RGB/IR, got 'RGB\+IR'"),
        ("10 RGB/IR W4 1", r"train\.txt:1: data_paths\.json lists no frame of 10 / RGB / W4 / 1"),
        ("11 RGB/IR W4 1", r"train\.txt:1: data_paths\.json lists no frame of 11 / RGB / W4 / 1"),
    ],
)
def test_a_line_that_names_nothing_is_refused(tmp_path: Path, line: str, message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        opened(write_bupt(tmp_path, TRACKLETS, {**LISTS, "train": [line]})).split("train")


def test_a_list_that_is_not_utf_8_is_named_with_its_line(root: Path) -> None:
    (root / "query.txt").write_bytes(b"20 RGB W4 1\n20 RGB W\xe9 1\n")
    with pytest.raises(DatasetError, match=r"query\.txt:2: not UTF-8 text: byte 0xe9"):
        opened(root).split("test")
    (root / "data_paths.json").write_bytes(b'{\n"\xe9": {}}')
    with pytest.raises(DatasetError, match=r"data_paths\.json:2: not UTF-8 text: byte 0xe9"):
        opened(root).split("train")


def test_persons_beyond_64_bits_are_numbered_like_those_without_numbers(tmp_path: Path) -> None:
    persons = [Bupt(pid, modality, "W4") for pid in ("7", str(10**30)) for modality in ("RGB", "IR")]
    root = write_bupt(tmp_path, persons, {"train": [f"{10**30} RGB/IR W4 1", "7 RGB/IR W4 1"]})
    assert opened(root).split("train").pids.tolist() == [0, 0, 1, 1]


def test_persons_whose_names_are_one_number_are_refused(tmp_path: Path) -> None:
    persons = [Bupt(pid, modality, "W4") for pid in ("1", "01") for modality in ("RGB", "IR")]
    root = write_bupt(tmp_path, persons, {"train": ["1 RGB/IR W4 1", "01 RGB/IR W4 1"]})
    with pytest.raises(DatasetError, match=r"data_paths\.json: persons '1' and '01' are one number, 1"):
        opened(root).split("train")


def test_missing_and_damaged_files_are_named(root: Path) -> None:
    (root / "gallery.txt").unlink()
    with pytest.raises(DatasetError, match=r"gallery\.txt: no such file"):
        opened(root).split("test")
    for text, message in (
        ("{", "not JSON"),
        ("[]", "must map persons"),
        ('{"1": []}', "1 must be a mapping, got list"),
    ):
        (root / "data_paths.json").write_text(text)
        with pytest.raises(DatasetError, match=message):
            opened(root).split("train")
    (root / "data_paths.json").unlink()
    with pytest.raises(DatasetError, match=r"data_paths\.json: no such file"):
        opened(root).split("train")
    with pytest.raises(DatasetError, match="no split 'val'; splits: train, auxiliary, test"):
        opened(root).split("val")
