"""The checker finds every missing, cut or unreadable file, every wrong count, and lists that contradict each other."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from reid.datasets import published
from reid.datasets.__main__ import main
from reid.datasets.check import Report, check
from reid.datasets.crops import Crops
from reid.datasets.known import open_dataset
from reid.datasets.split import DatasetError
from reid.datasets.vcm_writer import VcmTracklet
from reid.modality import Modality
from tests.reid.factories import preprocessing, write_folder
from tests.reid.layouts import Bupt, VcmRoot, picture, vcm_persons, write_bupt


@pytest.fixture
def vcm(tmp_path: Path) -> Path:
    return VcmRoot(train=vcm_persons(1, 2), test=vcm_persons(7)).write(tmp_path / "vcm")


@pytest.fixture
def bupt(tmp_path: Path) -> Path:
    tracklets = [
        Bupt(pid, modality, camera)
        for pid in ("1", "2", "30")
        for modality in ("RGB", "IR")
        for camera in ("W4", "G25", "LS3")
    ]
    lists = {
        "train": ["1 RGB/IR W4 1", "1 RGB/IR G25 1", "1 RGB/IR LS3 1"],
        "train_auxiliary": ["2 RGB/IR W4 1"],
        "query": ["30 RGB W4 1", "30 IR W4 1"],
        "gallery": ["30 RGB G25 1", "30 IR G25 1"],
    }
    return write_bupt(tmp_path / "bupt", tracklets, lists)


def only(root: Path, name: str = "hitsz_vcm", **options: bool) -> Report:
    (report,) = check(name, root, like=True, **options)
    return report


def test_each_published_count_is_set_beside_what_was_found(vcm: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "--dataset", "hitsz_vcm", "--root", str(vcm)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert next(line.split() for line in lines if "train tracklets" in line) == [
        "train",
        "tracklets",
        "8",
        "11,061",
        "differs",
    ]
    assert next(line.split() for line in lines if "queries" in line) == [
        "queries",
        "tracklets",
        "2",
        "5,159",
        "differs",
    ]
    assert lines[-1] == "  156 files looked at; 24 counts differ, 0 problems"
    report = only(vcm)
    assert set(published.HITSZ_VCM) <= set(report.counts)
    assert report.is_good
    assert report.counts["train nir frames of these"] == 2 * 2 * 13
    assert report.counts["nir cameras"] == report.counts["rgb cameras"] == 2


def test_published_totals_are_the_sums_of_their_parts() -> None:
    counts = published.HITSZ_VCM
    assert counts["train tracklets"] + counts["test tracklets"] == counts["tracklets"]
    assert counts["train names"] + counts["test names"] == counts["frames"]
    assert counts["train identities"] + counts["test identities"] == counts["identities"]
    assert counts["rgb tracklets"] + counts["nir tracklets"] == counts["tracklets"]
    assert counts["rgb frames"] + counts["nir frames"] == counts["frames"]
    campus = published.BUPT_CAMPUS
    parts = ("train", "auxiliary", "query")
    assert sum(campus[f"{part} identities"] for part in parts) == campus["identities"]


def test_every_published_count_of_bupt_campus_is_counted(bupt: Path) -> None:
    report = only(bupt, "bupt_campus")
    assert set(published.BUPT_CAMPUS) <= set(report.counts)
    assert report.is_good
    assert (report.counts["train rgb tracklets"], report.counts["train frames"]) == (3, 18)
    assert report.notes == ["0 queries have their own camera among their matches in the gallery"]


def test_missing_empty_cut_and_false_images_are_each_named(vcm: Path) -> None:
    folder = vcm / "Test/0007/rgb/D1"
    (folder / "2.jpg").unlink()
    (folder / "3.jpg").write_bytes(b"")
    (folder / "4.jpg").write_bytes(picture(grey=False)[:-40])
    (folder / "5.jpg").write_bytes(b"no image at all")
    quick, full = only(vcm, quick=True), only(vcm)
    assert quick.problems == [f"{folder / '2.jpg'}: missing", f"{folder / '3.jpg'}: empty"]
    assert full.problems[:2] == quick.problems
    assert [problem.split(": ")[:2] for problem in full.problems[2:]] == [
        [str(folder / "4.jpg"), "unreadable"],
        [str(folder / "5.jpg"), "unreadable"],
    ]
    assert full.files == 156


def test_lists_that_contradict_each_other_are_told(vcm: Path) -> None:
    path = vcm / "info/track_test_info.txt"
    assert path.read_text() == "1 1 13 7 1\n1 14 26 7 2\n2 27 39 7 1\n2 40 52 7 2\n"
    path.write_text("1 1 13 1 1\n1 13 26 7 2\n2 27 39 7 1\n2 40 51 7 2\n")
    (vcm / "info/query_IDX.txt").write_text("1 1 3\n")
    problems = "\n".join(only(vcm).problems)
    assert f"{path}:1: person, modality, camera are 1 nir D1, but the frames' names say 7 nir D1" in problems
    assert "1 frames are in more than one tracklet" in problems
    assert "1 frames of the name file are in no tracklet" in problems
    assert "1 queries are listed twice" in problems
    assert "must list the infrared tracklets and no other; 2 are not so, such as 2" in problems
    assert "1 persons are in training and test, such as 1" in problems


def test_lists_that_are_not_utf_8_are_problems_of_each_layout(vcm: Path, bupt: Path, tmp_path: Path) -> None:
    (vcm / "info/query_IDX.txt").write_text("1 2\n", encoding="utf-16")
    (bupt / "query.txt").write_bytes(b"30 RGB W\xe9 1\n")
    folder = write_folder(tmp_path / "folder", train=2, val=1, frames=1)
    table = folder / "tracklets.csv"
    table.write_bytes(table.read_bytes().replace(b"gate", b"g\xe4te", 1))
    for root, name, where in (
        (vcm, "hitsz_vcm", "query_IDX.txt:1"),
        (bupt, "bupt_campus", "query.txt:1"),
        (folder, "folder", "tracklets.csv:2"),
    ):
        (problem,) = only(root, name).problems
        assert f"{where}: not UTF-8 text: byte 0x" in problem


def test_an_image_of_too_many_pixels_is_a_problem_and_the_others_are_still_looked_at(
    vcm: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 4)
    report = only(vcm)
    assert report.files == len(report.problems) == 156
    assert "1.jpg: unreadable: Image size (288 pixels) exceeds limit" in report.problems[0]


def test_a_manifest_that_is_none_ends_the_command_with_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for text in ("[]", '{"counts": []}', '{"counts": {"hitsz_vcm": {"train": {"names": null}}}}'):
        (tmp_path / "synthetic_vvi.json").write_text(text)
        assert main(["check", "--dataset", "synthetic_vvi", "--root", str(tmp_path)]) == 2
        assert "synthetic_vvi.json: not the manifest of synthetic-vvi" in capsys.readouterr().err


def test_lists_that_cannot_be_read_are_problems_and_the_others_are_still_looked_at(vcm: Path, bupt: Path) -> None:
    (vcm / "info/train_name.txt").unlink()
    report = only(vcm)
    assert len(report.problems) == 1
    assert "train_name.txt: no such file" in report.problems[0]
    assert report.files == 52
    (bupt / "train.txt").unlink()
    (bupt / "query.txt").write_text("30 RGB W4 9\n30 IR G25 1\n")
    report = only(bupt, "bupt_campus")
    assert ["train.txt: no such file" in problem for problem in report.problems] == [True, False]
    assert "query.txt:1: data_paths.json lists no frame of 30 / RGB / W4 / 9" in report.problems[1]
    assert report.notes == ["1 queries have their own camera among their matches in the gallery"]


def test_a_tracklet_that_a_list_of_bupt_campus_names_more_than_once_is_told(bupt: Path) -> None:
    (bupt / "query.txt").write_text("30 RGB W4 1\n30 IR W4 1\n30 RGB W4 1\n30 RGB W4 1\n")
    assert only(bupt, "bupt_campus").problems == [
        f"{bupt / 'query.txt'}: 2 tracklets are listed again, such as that of line 3: 30 RGB W4 1"
    ]


def test_persons_of_bupt_campus_whose_names_are_one_number_are_told(bupt: Path) -> None:
    path = bupt / "data_paths.json"
    path.write_text(path.read_text().replace('"2":', '"01":'))
    (bupt / "train_auxiliary.txt").write_text("")
    assert only(bupt, "bupt_campus", quick=True).problems == [f"{path}: persons '1' and '01' are one number, 1"]


def test_persons_in_several_splits_of_a_tracklet_folder_are_told(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "folder", train=3, val=1, frames=1)
    assert only(root, "folder").is_good
    (root / "val" / "00100").rename(root / "val" / "00002")
    table = root / "tracklets.csv"
    table.write_text(table.read_text().replace("val,100", "val,2"))
    assert only(root, "folder").problems == [f"{table}: 1 persons are in train and in val, such as 2"]


def test_persons_in_training_and_test_of_bupt_campus_are_told(bupt: Path) -> None:
    (bupt / "train_auxiliary.txt").write_text("30 RGB/IR W4 1\n")
    assert [problem.split(": ", 1)[1] for problem in only(bupt, "bupt_campus").problems] == [
        f"1 persons are in train_auxiliary.txt and in {name}.txt, such as 30" for name in ("query", "gallery")
    ]


def test_several_lines_of_queries_are_a_note(tmp_path: Path) -> None:
    root = VcmRoot(vcm_persons(1), vcm_persons(7, 8), queries=["1 2", "5 6"]).write(tmp_path)
    report = only(root)
    assert report.is_good
    assert "loaders that keep the last one see 2 queries" in report.notes[0]


def test_a_tracklet_folder_is_checked_too(tmp_path: Path) -> None:
    root = write_folder(tmp_path, train=2, val=1, frames=2)
    report = only(root, "folder")
    assert report.is_good
    assert report.counts["train thermal frames"] == 4
    (root / "train/00000/rgb/gate_1/000.jpg").unlink()
    assert "2 frames expected" in only(root, "folder").problems[0]


def test_usage_errors_end_with_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "--dataset", "market", "--root", str(tmp_path)]) == 2
    assert "data set must be one of hitsz_vcm, bupt_campus" in capsys.readouterr().err
    assert main(["check", "--dataset", "hitsz_vcm", "--root", str(tmp_path / "x")]) == 2
    assert main(["check", "--dataset", "synthetic-vvi", "--root", str(tmp_path)]) == 2
    assert "not the manifest of synthetic-vvi" in capsys.readouterr().err
    with pytest.raises(SystemExit) as stopped:
        main(["check", "--root", str(tmp_path)])
    assert stopped.value.code == 2


def test_packed_crops_that_were_damaged_are_found(tmp_path: Path) -> None:
    root = write_folder(tmp_path, train=2, val=1, frames=2)
    split = open_dataset("folder", root).split("train")
    Crops.load(split, preprocessing(), cache=root / "cache")
    assert only(root, "folder").is_good
    (packed,) = (root / "cache").glob("*.npy")
    whole = packed.read_bytes()
    packed.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    assert "damaged: its checksum is not the one that was written" in only(root, "folder").problems[0]
    packed.write_bytes(whole[:-100])
    assert "unreadable" in only(root, "folder").problems[0]
    with pytest.raises(DatasetError, match="damaged packed crops"):
        Crops.load(split, preprocessing(), cache=root / "cache")
    packed.write_bytes(whole)
    packed.with_suffix(".json").unlink()
    assert "no checksum beside it" in only(root, "folder").problems[0]


@pytest.mark.parametrize(("way", "query", "gallery"), [("i2v", "IR", "RGB"), ("v2i", "RGB", "IR")])
def test_a_converted_root_is_one_official_direction_of_bupt_campus(
    tmp_path: Path, bupt: Path, way: str, query: str, gallery: str
) -> None:
    output = tmp_path / "converted"
    assert main(["convert", "--root", str(bupt), "--output", str(output), "--way", way]) == 0
    assert only(output).is_good
    converted = open_dataset("hitsz_vcm", output, {"min_frames": 1})
    campus = open_dataset("bupt_campus", bupt)
    name = "nir->rgb" if way == "i2v" else "rgb->nir"
    ours, theirs = converted.directions("test")[name], campus.directions("test")[name]
    for mine, own in ((ours.query, theirs.query), (ours.gallery, theirs.gallery)):
        for one, other in zip(mine, own, strict=True):
            after, before = converted.split("test"), campus.split("test")
            assert after.pids[one] == before.pids[other]
            assert [a.samefile(b) for a, b in zip(after.paths[one], before.paths[other], strict=True)] == [True] * 3
    assert str(converted.split("train")) == str(campus.split("train"))
    assert "not be redistributed" in (output / "README.txt").read_text()


def test_conversion_can_copy_take_the_auxiliary_persons_and_number_from_one(tmp_path: Path, bupt: Path) -> None:
    output = tmp_path / "converted"
    arguments = ["convert", "--root", str(bupt), "--output", str(output), "--copy", "--auxiliary"]
    assert main(arguments) == 0
    dataset = open_dataset("hitsz_vcm", output, {"min_frames": 1})
    assert sorted(set(dataset.split("train").pids.tolist())) == [1, 2]
    assert all(path.stat().st_nlink == 1 for frames in dataset.split("train").paths for path in frames)
    zero = write_bupt(tmp_path / "zero", [Bupt("0", m, "W4") for m in ("RGB", "IR")],
                      {"train": ["0 RGB/IR W4 1"], "query": ["0 IR W4 1"], "gallery": ["0 RGB W4 1"]})  # fmt: skip
    assert main(["convert", "--root", str(zero), "--output", str(tmp_path / "one")]) == 0
    assert (tmp_path / "one/Train/0001/rgb").is_dir()


def test_a_conversion_that_fails_leaves_nothing(tmp_path: Path, bupt: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.rmtree(bupt / "DATA/30/RGB/G25")
    before = sorted(tmp_path.iterdir())
    arguments = ["convert", "--root", str(bupt), "--output", str(tmp_path / "converted")]
    assert main(arguments) == 2
    assert "G25_1_0.jpg: missing" in capsys.readouterr().err
    assert sorted(tmp_path.iterdir()) == before
    (tmp_path / "converted").mkdir()
    assert main(arguments) == 2
    assert "exists already" in capsys.readouterr().err


def test_both_loaders_take_one_tracklet_for_the_same_clip(tmp_path: Path, bupt: Path) -> None:
    main(["convert", "--root", str(bupt), "--output", str(tmp_path / "vcm")])
    splits = [
        open_dataset("hitsz_vcm", tmp_path / "vcm", {"min_frames": 1}).split("train"),
        open_dataset("bupt_campus", bupt).split("train"),
    ]
    crops = [Crops.load(split, preprocessing()) for split in splits]
    assert np.array_equal(crops[0].pixels, crops[1].pixels)
    assert splits[0].modalities == splits[1].modalities == (Modality.RGB, Modality.NIR) * 3


def test_a_tracklet_that_the_layout_cannot_hold_is_refused() -> None:
    frames = (Path("a.jpg"),)
    for pid, modality, camera, files, message in (
        (0, Modality.RGB, 1, frames, "person must be 1 to 9999"),
        (10_000, Modality.RGB, 1, frames, "got 10000"),
        (1, Modality.THERMAL, 1, frames, "has rgb and nir, got thermal"),
        (1, Modality.NIR, 0, frames, "camera 0, 1 frames"),
        (1, Modality.NIR, 1, (), "camera 1, 0 frames"),
    ):
        with pytest.raises(DatasetError, match=message):
            VcmTracklet(pid, modality, camera, files)
