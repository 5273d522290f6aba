import pickle
from pathlib import Path

import numpy as np
import pytest

from reid.datasets.crops import Crops, read_crop
from reid.datasets.folder import DatasetError, FolderTracklet, read_folder
from reid.datasets.folder import write_folder as write_tracklets
from reid.datasets.split import TrackletSplit
from reid.modality import Modality
from reid.transforms import prepare_clip
from tests.reid.factories import preprocessing, write_folder


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("folder"))


def edit_table(root: Path, target: Path, old: str, new: str) -> Path:
    """A copy of the folder's table with a change, beside links to its images."""
    target.mkdir(exist_ok=True)
    for split in ("train", "val"):
        (target / split).symlink_to(root / split)
    text = (root / "tracklets.csv").read_text().replace(old, new, 1)
    (target / "tracklets.csv").write_bytes(text.encode("utf-8", "surrogateescape"))
    return target


def test_a_folder_is_read_as_it_is_listed(root: Path) -> None:
    split = read_folder(root, "train")
    assert len(split) == 8 * 4
    assert split.lengths.tolist() == [5] * 32
    assert split.camera_names == ("nir/yard", "rgb/gate", "rgb/lobby", "thermal/dock")
    assert split.modality_set == (Modality.RGB, Modality.NIR, Modality.THERMAL)
    assert str(split) == "8 persons, 32 tracklets (16 rgb, 8 nir, 8 thermal)"
    row = 4 * 3 + 2
    assert split.pids[row] == 3
    assert split.camera_names[split.camids[row]] == "nir/yard"
    assert [path.name for path in split.paths[row]] == [f"{k:03d}.jpg" for k in range(5)]
    assert split.paths[row][0].parent == root / "train" / "00003" / "nir" / "yard_1"
    chosen = split.select([row, 0])
    assert chosen.pids.tolist() == [3, 0]
    assert chosen.paths == (split.paths[row], split.paths[0])


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("train,0,gate,rgb,1,5", "train,0,gate,rgb,1,6", r"csv:2: 6 frames expected in .*gate_1, found 5"),
        ("train,0,gate,rgb,1,5", "train,x,gate,rgb,1,5", "csv:2: pid and frames must be whole numbers, got 'x'"),
        ("train,0,gate,rgb,1,5", "train,0,gate,rgb,1", "csv:2: must have 6 fields"),
        ("train,0,gate,rgb,1,5", f"train,{10**19},gate,rgb,1,5", "csv:2: pid and frames must be whole numbers"),
        (
            "train,0,gate,rgb,1,5",
            "train,\udce9,gate,rgb,1,5",
            "csv:2: not UTF-8 text: byte 0xe9",
        ),
        ("train,0,gate,rgb,1,5", f"train,0,{'g' * 200_000},rgb,1,5", "csv:2: not a table: field larger than"),
        ("train,0,lobby,rgb,1,5", "train,00,gate,rgb,1,5", "csv:3: the tracklet of line 2 once more"),
        ("split,pid", "pid,split", "csv:1: columns must be split,pid,camid,modality,tracklet,frames"),
    ],
)
def test_a_wrong_table_is_refused_with_its_line(root: Path, tmp_path: Path, old: str, new: str, message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        read_folder(edit_table(root, tmp_path / "edited", old, new), "train")


def test_a_thousand_frames_and_more_are_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    image = tmp_path / "image.jpg"
    image.write_bytes(b"any")
    frames = tuple([image] * 1002)
    write_tracklets(tmp_path / "out", [FolderTracklet("train", 1, "gate", Modality.RGB, frames)], copy=False, notes={})
    (found,) = read_folder(tmp_path / "out", "train").paths
    assert [path.name for path in found] == [f"{number:03d}.jpg" for number in range(1002)]


def test_frames_that_are_not_numbered_come_in_the_order_of_their_names(tmp_path: Path) -> None:
    whole = write_folder(tmp_path / "data", train=1, val=1, frames=2)
    folder = whole / "train" / "00000" / "rgb" / "gate_1"
    (folder / "000.jpg").rename(folder / "b.jpg")
    (folder / "001.jpg").rename(folder / "a.jpg")
    assert [path.name for path in read_folder(whole, "train").paths[0]] == ["a.jpg", "b.jpg"]


def test_an_unknown_modality_a_missing_split_and_a_missing_table_are_refused(root: Path, tmp_path: Path) -> None:
    edited = edit_table(root, tmp_path / "edited", "train,0,gate,rgb,1,5", "train,0,gate,radar,1,0")
    with pytest.raises(DatasetError, match=r"csv:\d+: modality must be one of rgb, nir, thermal, got 'radar'"):
        read_folder(edited, "train")
    with pytest.raises(DatasetError, match="no tracklet of split 'test'; splits: train, val"):
        read_folder(root, "test")
    with pytest.raises(DatasetError, match=r"tracklets\.csv: no such file"):
        read_folder(tmp_path, "train")


def split_of(**changes: object) -> TrackletSplit:
    settings: dict[str, object] = {
        "paths": ((Path("a"),), (Path("b"), Path("c"))),
        "pids": np.array([1, 2]),
        "camids": np.array([0, 1]),
        "modalities": (Modality.RGB, Modality.NIR),
        "camera_names": ("gate", "yard"),
    }
    return TrackletSplit(**{**settings, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pids": np.array([1])}, r"pids must be int64 \(2,\)"),
        ({"camids": np.array([0.0, 1.0])}, "camids must be int64"),
        ({"modalities": (Modality.RGB,)}, "modalities must be 2"),
        ({"paths": ((Path("a"),), ())}, "tracklet 1 .* has no frame"),
        ({"camids": np.array([0, 2])}, "within the 2 camera_names"),
    ],
)
def test_rows_that_do_not_fit_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        split_of(**changes)


def test_crops_are_those_that_inference_would_prepare_and_are_kept(root: Path, tmp_path: Path) -> None:
    split, settings = read_folder(root, "val"), preprocessing()
    crops = Crops.load(split, settings, cache=tmp_path)
    assert len(crops) == len(split)
    for row in (0, 2, 3):
        images = [read_crop(path, split.modalities[row]) for path in split.paths[row]]
        assert np.array_equal(crops.clip(row), prepare_clip(images, split.modalities[row], settings))
    assert np.array_equal(crops.clip(3, np.array([4, 0])), crops.clip(3)[[4, 0]])
    assert crops.length(3) == 5
    again = Crops.load(split, settings, cache=tmp_path)
    assert isinstance(again.pixels, np.memmap)
    assert np.array_equal(again.pixels, crops.pixels)
    (packed,) = tmp_path.glob("*.npy")
    assert sorted(tmp_path.iterdir()) == [packed.with_suffix(".json"), packed]  # and nothing half-written
    Crops.load(split, preprocessing(size_hw=(16, 8)), cache=tmp_path)
    assert len(list(tmp_path.glob("*.npy"))) == 2


def test_packed_crops_go_to_another_process_as_the_name_of_their_file(root: Path, tmp_path: Path) -> None:
    split = read_folder(root, "train")
    packed = Crops.load(split, preprocessing(), cache=tmp_path)
    sent = pickle.dumps(packed)
    assert len(sent) < packed.pixels.nbytes / 10
    other = pickle.loads(sent)  # noqa: S301 - our own
    assert isinstance(other.pixels, np.memmap)
    np.testing.assert_array_equal(other.pixels, packed.pixels)
    np.testing.assert_array_equal(other.starts, packed.starts)
    memory = pickle.loads(pickle.dumps(Crops.load(split, preprocessing())))  # noqa: S301
    np.testing.assert_array_equal(memory.pixels, packed.pixels)


def test_images_are_read_in_their_native_form(root: Path, tmp_path: Path) -> None:
    split = read_folder(root, "val")
    forms = [(read_crop(split.paths[row][0], split.modalities[row])) for row in (0, 2, 3)]
    assert [(form.ndim, form.dtype) for form in forms] == [(3, np.uint8), (2, np.uint8), (2, np.uint16)]
    for content in (b"", b"no image"):
        (tmp_path / "x.jpg").write_bytes(content)
        with pytest.raises(ValueError, match=r"x\.jpg: not an image that can be read"):
            read_crop(tmp_path / "x.jpg", Modality.RGB)
    with pytest.raises(ValueError, match=r"y\.jpg: no such file"):
        read_crop(tmp_path / "y.jpg", Modality.RGB)


def test_crops_that_cannot_be_read_leave_no_half_of_a_packed_file(root: Path, tmp_path: Path) -> None:
    split = read_folder(root, "val")
    (tmp_path / "bad.jpg").write_bytes(b"no image")
    broken = split_of(
        paths=(split.paths[0], (tmp_path / "bad.jpg",)),
        modalities=(Modality.RGB, Modality.RGB),
        camids=np.array([0, 0]),
    )
    with pytest.raises(DatasetError, match=r"bad\.jpg: not an image that can be read"):
        Crops.load(broken, preprocessing(), cache=tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


def test_an_empty_split_has_no_crops(root: Path, tmp_path: Path) -> None:
    nobody = read_folder(root, "val").select([])
    assert len(Crops.load(nobody, preprocessing(), cache=tmp_path)) == 0
