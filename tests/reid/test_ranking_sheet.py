"""What a ranking sheet shows, read from its pixels."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from reid.datasets.folder import read_folder
from reid.datasets.split import DatasetError, Direction, TrackletSplit
from reid.modality import Modality
from reid.ranking_sheet import Sheet, write_sheet
from tests.reid.factories import write_folder

RIGHT, WRONG, QUERY = (46, 204, 113), (231, 76, 60), (82, 155, 255)


@pytest.fixture(scope="module")
def split(tmp_path_factory: pytest.TempPathFactory) -> TrackletSplit:
    return read_folder(write_folder(tmp_path_factory.mktemp("folder"), train=1, val=6, frames=2), "val")


def drawn(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def frames_of(picture: np.ndarray, colour: tuple[int, int, int]) -> int:
    """How many cells have this border: runs as wide as a cell, with nothing of its colour above."""
    hits = (picture == colour).all(axis=2)
    count = 0
    for line, above in zip(hits, np.vstack([np.zeros_like(hits[:1]), hits[:-1]]), strict=True):
        starts = np.flatnonzero(np.diff(np.concatenate([[0], line.astype(int), [0]])) == 1)
        ends = np.flatnonzero(np.diff(np.concatenate([[0], line.astype(int), [0]])) == -1)
        count += sum(end - start > 80 and not above[start:end].any() for start, end in zip(starts, ends, strict=True))
    return count


def test_answers_are_framed_by_right_and_wrong_beside_their_query(split: TrackletSplit, tmp_path: Path) -> None:
    nir, rgb = split.rows_of(Modality.NIR), split.rows_of(Modality.RGB)
    perfect = (split.pids[nir][:, None] == split.pids[rgb][None, :]).astype(float)
    write_sheet(
        Sheet(tmp_path / "s.png", queries=3), split, {"nir->rgb": Direction(nir, rgb)}, {"nir->rgb": perfect},
        camera_rule="none",
    )  # fmt: skip
    picture = drawn(tmp_path / "s.png")
    assert frames_of(picture, QUERY) == 3
    assert frames_of(picture, RIGHT) == 3 * 2  # two of the ten answers are the person
    assert frames_of(picture, WRONG) == 3 * 8
    first_answer = picture[:, 20 + 92 + 34 : 20 + 92 + 34 + 92]
    assert frames_of(first_answer, RIGHT) == 3
    assert frames_of(first_answer, WRONG) == 0


def test_only_wrong_shows_queries_whose_first_answer_is_another_person(split: TrackletSplit, tmp_path: Path) -> None:
    nir, rgb = split.rows_of(Modality.NIR), split.rows_of(Modality.RGB)
    similarity = (split.pids[nir][:, None] == split.pids[rgb][None, :]).astype(float)
    similarity[2] *= -1
    write_sheet(
        Sheet(tmp_path / "s.png", queries=3, only_wrong=True), split, {"nir->rgb": Direction(nir, rgb)},
        {"nir->rgb": similarity}, camera_rule="none",
    )  # fmt: skip
    assert frames_of(drawn(tmp_path / "s.png"), QUERY) == 1


def test_what_the_camera_rule_takes_out_is_not_shown(split: TrackletSplit, tmp_path: Path) -> None:
    rgb = split.rows_of(Modality.RGB)
    similarity = (split.pids[rgb][:, None] == split.pids[rgb][None, :]).astype(float)
    write_sheet(
        Sheet(tmp_path / "s.png", queries=2), split, {"rgb->rgb": Direction(rgb, rgb)}, {"rgb->rgb": similarity},
        camera_rule="same_cam",
    )  # fmt: skip
    picture = drawn(tmp_path / "s.png")
    assert frames_of(picture, RIGHT) == 2 * 1
    assert frames_of(picture, WRONG) == 2 * 5  # six persons in the other camera


def test_a_sheet_that_fails_leaves_nothing(split: TrackletSplit, tmp_path: Path) -> None:
    gone = split.select(np.arange(len(split)))
    broken = TrackletSplit(
        ((Path("gone.jpg"),), *gone.paths[1:]), gone.pids, gone.camids, gone.modalities, gone.camera_names
    )
    every = Direction(np.arange(1, dtype=np.int64), gone.rows_of(Modality.RGB))
    with pytest.raises(DatasetError, match=r"gone\.jpg"):
        write_sheet(
            Sheet(tmp_path / "s.png"), broken, {"rgb->rgb": every}, {"rgb->rgb": np.ones((1, len(every.gallery)))},
            camera_rule="none",
        )  # fmt: skip
    with pytest.raises(DatasetError, match=r"must be a \.png in a folder that exists"):
        write_sheet(Sheet(tmp_path / "gone" / "s.png"), split, {}, {}, camera_rule="none")
    assert list(tmp_path.iterdir()) == []
