"""HITSZ-VCM is read as its files say, in both layouts, with everything odd that such files have."""

from pathlib import Path

import numpy as np
import pytest

from reid.datasets.crops import Crops
from reid.datasets.hitsz_vcm import HitszVcm
from reid.datasets.known import open_dataset
from reid.datasets.split import DatasetError
from reid.metrics import evaluate
from reid.modality import Modality
from reid.samplers import IdentityModalitySampler
from tests.reid.factories import preprocessing
from tests.reid.layouts import Vcm, VcmRoot, vcm_persons


def opened(root: Path, **options: object) -> HitszVcm:
    dataset = open_dataset("hitsz_vcm", root, options)
    assert isinstance(dataset, HitszVcm)
    return dataset


@pytest.fixture
def plain() -> VcmRoot:
    return VcmRoot(train=vcm_persons(1, 2), test=vcm_persons(7))


@pytest.mark.parametrize(
    "folders",
    [{"train": "Train", "test": "Test"}, {"train": "Train/Train", "test": "Test/Test"}, {"train": "", "test": ""}],
    ids=["in Train and Test", "in nested zips", "beside info"],
)
@pytest.mark.parametrize("newline", ["\n", "\r\n"], ids=["unix", "windows"])
def test_every_layout_and_both_line_ends_give_the_same_tracklets(
    tmp_path: Path, folders: dict[str, str], newline: str
) -> None:
    root = VcmRoot(vcm_persons(1, 2), vcm_persons(7), folders=folders, newline=newline).write(tmp_path)
    dataset = opened(root)
    train, test = dataset.split("train"), dataset.split("test")
    assert str(train) == "2 persons, 8 tracklets (4 rgb, 4 nir)"
    assert train.camera_names == test.camera_names == ("D1", "D2")
    assert train.pids.tolist() == [1, 1, 1, 1, 2, 2, 2, 2]
    assert train.camids.tolist() == [0, 1] * 4
    assert train.modalities[:3] == (Modality.NIR, Modality.NIR, Modality.RGB)
    assert train.paths[2][:2] == tuple(root / folders["train"] / "0001/rgb/D1" / f"{n}.jpg" for n in (1, 2))
    assert all(path.is_file() for frames in (*train.paths, *test.paths) for path in frames)
    i2v, v2i = dataset.directions("test")["nir->rgb"], dataset.directions("test")["rgb->nir"]
    assert (i2v.query.tolist(), i2v.gallery.tolist()) == ([0, 1], [2, 3])
    assert (v2i.query.tolist(), v2i.gallery.tolist()) == ([2, 3], [0, 1])


def test_names_are_parsed_by_their_letters_and_numbers_of_lines_count_from_1(tmp_path: Path) -> None:
    tracklets = [Vcm(12, 2, 11, (1, 6, 30), tracklet=14), Vcm(12, 1, 3, (100, 2))]
    root = VcmRoot(train=tracklets, test=vcm_persons(7)).write(tmp_path)
    train = opened(root, min_frames=1).split("train")
    assert [path.name for path in train.paths[0]] == ["1.jpg", "6.jpg", "30.jpg"]  # not contiguous
    assert [path.name for path in train.paths[1]] == ["100.jpg", "2.jpg"]  # the list's order, not the number's
    assert train.paths[0][0].parent == root / "Train/0012/rgb/D11"
    assert [train.camera_names[camera] for camera in train.camids] == ["D11", "D3"]


def test_a_camera_has_one_number_in_training_and_test(tmp_path: Path) -> None:
    train = [Vcm(1, 1, 9, range(12)), Vcm(1, 2, 4, range(12))]
    test = [Vcm(2, 1, 4, range(12)), Vcm(2, 2, 2, range(12))]
    dataset = opened(VcmRoot(train, test).write(tmp_path))
    assert dataset.split("train").camera_names == ("D2", "D4", "D9")
    assert dataset.split("train").camids.tolist() == [2, 1]
    assert dataset.split("test").camids.tolist() == [1, 0]


def test_tracklets_below_twelve_frames_are_left_out_unless_asked_for(tmp_path: Path) -> None:
    test = [Vcm(7, 1, 1, range(11)), Vcm(7, 1, 2, range(12)), Vcm(7, 2, 1, [5]), Vcm(7, 2, 2, range(24))]
    root = VcmRoot(vcm_persons(1), test).write(tmp_path)
    assert opened(root).split("test").lengths.tolist() == [12, 24]
    i2v = opened(root).directions("test")["nir->rgb"]
    assert (i2v.query.tolist(), i2v.gallery.tolist()) == ([0], [1])  # rows after the filter, lists before it
    every = opened(root, min_frames=1)
    assert every.split("test").lengths.tolist() == [11, 12, 1, 24]
    assert every.directions("test")["nir->rgb"].query.tolist() == [0, 1]


def test_a_tracklet_of_one_frame_becomes_a_clip(tmp_path: Path) -> None:
    root = VcmRoot([Vcm(1, 1, 1, [9]), Vcm(1, 2, 2, [4])], vcm_persons(7)).write(tmp_path)
    split = opened(root, min_frames=1).split("train")
    crops = Crops.load(split, preprocessing(), cache=tmp_path / "cache")
    assert [crops.length(row) for row in range(2)] == [1, 1]
    assert crops.clip(0).shape == (1, 32, 16, 3)


def test_queries_of_several_lines_are_all_read_or_the_last_line_as_old_loaders_do(tmp_path: Path) -> None:
    root = VcmRoot(vcm_persons(1), vcm_persons(7, 8), queries=["1 2", "5 6"]).write(tmp_path)
    assert opened(root).directions("test")["nir->rgb"].query.tolist() == [0, 1, 4, 5]
    legacy = opened(root, legacy_last_query_line=True).directions("test")
    i2v, v2i = legacy["nir->rgb"], legacy["rgb->nir"]
    assert (i2v.query.tolist(), i2v.gallery.tolist()) == ([4, 5], [0, 1, 2, 3, 6, 7])  # what is not listed is gallery
    assert (v2i.query.tolist(), v2i.gallery.tolist()) == (i2v.gallery.tolist(), i2v.query.tolist())
    fewer = VcmRoot(vcm_persons(1), vcm_persons(7, 8), queries=["1 2"]).write(tmp_path / "fewer")
    with pytest.raises(DatasetError, match="must list the infrared tracklets and no other, but 2 are not so"):
        opened(fewer).directions("test")
    wrong = VcmRoot(vcm_persons(1), vcm_persons(7), queries=["1 2", "2 3"]).write(tmp_path / "wrong")
    with pytest.raises(DatasetError, match="but 1 are not so"):
        opened(wrong, legacy_last_query_line=True).directions("test")
    longer = VcmRoot(vcm_persons(1), vcm_persons(7), queries=["1", "1 2"]).write(tmp_path / "other")
    assert opened(longer, legacy_last_query_line=True).directions("test")["nir->rgb"].query.tolist() == [0, 1]


def test_an_identity_without_one_modality_is_read_not_trained_on_and_no_valid_query(tmp_path: Path) -> None:
    blind = Vcm(3, 1, 1, range(12))
    root = VcmRoot([*vcm_persons(1, 2), blind], [*vcm_persons(7), blind]).write(tmp_path)
    dataset = opened(root)
    train, test = dataset.split("train"), dataset.split("test")
    assert 3 in train.pids
    sampler = IdentityModalitySampler(train, identities=2, clips=1, seed=0)
    assert sampler.complete.tolist() == [1, 2]
    i2v = dataset.directions("test")["nir->rgb"]
    figures = metrics(dataset, np.zeros((len(test), len(test))))
    assert (len(i2v.query), figures.valid_queries, figures.skipped_queries) == (3, 2, 1)


def metrics(dataset: HitszVcm, similarity: np.ndarray, name: str = "nir->rgb"):  # type: ignore[no-untyped-def]
    split, roles = dataset.split("test"), dataset.directions("test")[name]
    q, g = roles.query, roles.gallery
    return evaluate(
        similarity[q][:, g], split.pids[q], split.pids[g], split.camids[q], split.camids[g],
        camera_rule=dataset.camera_rule,
    )  # fmt: skip


def test_a_query_whose_only_matches_share_its_camera_is_skipped(tmp_path: Path) -> None:
    lonely = [Vcm(9, 1, 1, range(12)), Vcm(9, 2, 1, range(12))]
    dataset = opened(VcmRoot(vcm_persons(1), [*vcm_persons(7), *lonely]).write(tmp_path))
    figures = metrics(dataset, np.zeros((6, 6)))
    assert (figures.valid_queries, figures.skipped_queries) == (2, 1)


def test_persons_held_out_are_in_val_and_no_longer_in_train(tmp_path: Path) -> None:
    root = VcmRoot(vcm_persons(*range(1, 7)), vcm_persons(9)).write(tmp_path)
    dataset = opened(root, val_identities=2)
    assert dataset.splits == ("train", "val", "test")
    assert sorted(set(dataset.split("val").pids.tolist())) == [1, 4]
    assert sorted(set(dataset.split("train").pids.tolist())) == [2, 3, 5, 6]
    assert set(dataset.directions("val")) == {"nir->rgb", "rgb->nir"}
    with pytest.raises(DatasetError, match="6 persons cannot be held out of 6"):
        opened(root, val_identities=6).split("train")


def test_a_listed_file_that_is_missing_is_named_before_training(tmp_path: Path, plain: VcmRoot) -> None:
    root = plain.write(tmp_path)
    gone = root / "Train/0002/rgb/D2/7.jpg"
    gone.unlink()
    split = opened(root).split("train")
    for cache in (None, tmp_path / "cache"):
        with pytest.raises(DatasetError, match=r"0002/rgb/D2"):
            Crops.load(split, preprocessing(), cache=cache)
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("train_name.txt", "", "lists no tracklet|within 1 to 0"),
        ("track_train_info.txt", "", "lists no tracklet of 12 frames or more"),
        ("track_train_info.txt", "\n1 1 13 1 1\n", r"info\.txt:1: must be five whole numbers"),
        (
            "track_train_info.txt",
            "3 1 13 1 1\n",
            r"info\.txt:1: modality must be 1 \(infrared\) or 2 \(visible\), got 3",
        ),
        ("track_train_info.txt", "1 1 105 1 1\n", r"within 1 to 104 of the name file, got 1 to 105"),
        ("track_train_info.txt", "1 0 13 1 1\n", r"within 1 to 104 of the name file, got 0 to 13"),
        ("train_name.txt", "0001M3D1T1F1.jpg\n", r"name\.txt:1: must be like 0001M2D3T1F1\.jpg"),
        ("train_name.txt", "0001M2D3T1F../../etc/passwd\n", r"name\.txt:1: must be like"),
        ("track_train_info.txt", f"1 1 13 {10**19} 1\n", r"info\.txt:1: must be five whole numbers"),
        ("track_train_info.txt", f"1 1 13 {'9' * 5000} 1\n", r"info\.txt:1: must be five whole numbers"),
        ("train_name.txt", f"{'1' * 5000}M2D3T1F1.jpg\n", r"name\.txt:1: must be like"),
    ],
)
def test_lists_that_make_no_sense_are_refused_with_their_line(
    tmp_path: Path, plain: VcmRoot, file: str, text: str, message: str
) -> None:
    root = plain.write(tmp_path)
    (root / "info" / file).write_text(text)
    with pytest.raises(DatasetError, match=message):
        opened(root).split("train")


@pytest.mark.parametrize(("text", "message"), [("", "lists no query"), ("5\n", "1 to 4; got '5'"), ("x", "got 'x'")])
def test_queries_that_make_no_sense_are_refused(tmp_path: Path, plain: VcmRoot, text: str, message: str) -> None:
    root = plain.write(tmp_path)
    (root / "info" / "query_IDX.txt").write_text(text)
    with pytest.raises(DatasetError, match=message):
        opened(root).directions("test")


def test_a_list_that_is_not_utf_8_is_named_with_its_line(tmp_path: Path, plain: VcmRoot) -> None:
    root = plain.write(tmp_path)
    path = root / "info" / "train_name.txt"
    path.write_bytes(path.read_bytes().replace(b"F3.jpg", b"F\xe9.jpg", 1))
    with pytest.raises(DatasetError, match=r"train_name\.txt:3: not UTF-8 text: byte 0xe9; save the file as UTF-8"):
        opened(root).split("train")
    (root / "info" / "query_IDX.txt").write_text("1 2\n", encoding="utf-16")
    with pytest.raises(DatasetError, match=r"query_IDX\.txt:1: not UTF-8 text: byte 0xff"):
        opened(root).directions("test")


def test_missing_lists_folders_splits_and_options_are_named(tmp_path: Path, plain: VcmRoot) -> None:
    root = plain.write(tmp_path)
    with pytest.raises(DatasetError, match="no split 'val'; splits: train, test"):
        opened(root).split("val")
    with pytest.raises(DatasetError, match=r"options of hitsz_vcm: min_frame: .*; known: min_frames, "):
        open_dataset("hitsz-vcm", root, {"min_frame": 3})
    with pytest.raises(DatasetError, match=r"data set must be one of folder, hitsz_vcm, .*, got 'market'"):
        open_dataset("market", root)
    with pytest.raises(DatasetError, match=r"train_name\.txt: no such file"):
        opened(tmp_path / "nowhere").split("train")
    (root / "Train").rename(root / "Elsewhere")
    with pytest.raises(DatasetError, match=r"no folder of any of the 2 persons of train_name\.txt \(such as '0001'\)"):
        opened(root).split("train")
