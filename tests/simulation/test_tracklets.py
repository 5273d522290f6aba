"""Training tracklets are whole, in the stated layout, repeatable, and of people of their split only."""

import csv
from pathlib import Path

import cv2
import numpy as np
import pytest

from simulation.__main__ import main
from simulation.config import TrackletsConfig
from simulation.people import Person
from simulation.tracklets import COLUMNS, VAL_OFFSET, render_tracklets

CONFIG = TrackletsConfig(
    seed=2, people={"train": 2, "val": 1}, tracklets={"rgb": 2, "nir": 1, "thermal": 1}, frames=4, scenes=2
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("tracklets") / "out"
    render_tracklets(CONFIG, output, workers=2, tell=lambda sentence: None)
    return output


def rows_of(folder: Path) -> list[dict[str, str]]:
    with (folder / "tracklets.csv").open(newline="") as file:
        reader = csv.DictReader(file)
        assert tuple(reader.fieldnames or ()) == COLUMNS
        return list(reader)


def test_the_table_lists_every_crop_on_disk(folder: Path) -> None:
    rows = rows_of(folder)
    assert len(rows) == 3 * 4
    listed = sum(int(row["frames"]) for row in rows)
    assert listed == len([path for path in folder.rglob("*") if path.suffix in (".jpg", ".png")])
    for row in rows:
        crops = folder / row["split"] / f"{int(row['pid']):05d}" / row["modality"] / f"{row['camid']}_{row['tracklet']}"
        assert len(list(crops.iterdir())) == int(row["frames"])


def test_numbers_of_the_splits_never_meet(folder: Path) -> None:
    rows = rows_of(folder)
    assert {row["pid"] for row in rows if row["split"] == "train"} == {"1", "2"}
    assert {row["pid"] for row in rows if row["split"] == "val"} == {str(VAL_OFFSET + 1)}


def test_colour_grey_and_16_bits_are_what_the_modality_says(folder: Path) -> None:
    for modality, dimensions, kind in (("rgb", 3, np.uint8), ("nir", 2, np.uint8), ("thermal", 2, np.uint16)):
        path = next(folder.rglob(f"{modality}/*/000.*"))
        image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        assert image is not None
        assert (image.ndim, image.dtype) == (dimensions, kind)
        assert min(image.shape[:2]) >= 10


def test_a_bad_config_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "train.yaml"
    config.write_text("seed: 1\npeople: {test: 3}\ntracklets: {rgb: 1}\n")
    assert main(["tracklets", "--config", str(config), "--output", str(tmp_path / "out")]) == 2
    assert "people" in capsys.readouterr().err


def test_the_same_config_gives_the_same_bytes_however_many_workers(folder: Path, tmp_path: Path) -> None:
    render_tracklets(CONFIG, tmp_path / "alone", workers=1, tell=lambda sentence: None)
    written = sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    assert written == sorted(
        path.relative_to(tmp_path / "alone") for path in (tmp_path / "alone").rglob("*") if path.is_file()
    )
    assert all((folder / path).read_bytes() == (tmp_path / "alone" / path).read_bytes() for path in written)


def test_progress_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "train.yaml"
    config.write_text("seed: 1\npeople: {val: 1}\ntracklets: {thermal: 1}\nframes: 2\nscenes: 1\n")
    assert main(["tracklets", "--config", str(config), "--output", str(tmp_path / "out"), "--workers", "1"]) == 0
    assert "1 of 1 people" in capsys.readouterr().err
    assert len(rows_of(tmp_path / "out")) == 1


@pytest.mark.parametrize("workers", ["0", "-1", "two"])
def test_a_number_of_workers_below_one_is_refused(workers: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["tracklets", "--config", "c", "--output", "o", "--workers", workers])
    assert stopped.value.code == 2
    assert "expected a whole number of 1 or more" in capsys.readouterr().err


def test_every_person_has_a_row_of_attributes_that_are_those_of_the_person(folder: Path) -> None:
    with (folder / "attributes.csv").open(newline="", encoding="utf-8") as file:
        rows = {(row["split"], int(row["pid"])): row for row in csv.DictReader(file)}
    with (folder / "tracklets.csv").open(newline="", encoding="utf-8") as file:
        listed = {(row["split"], int(row["pid"])) for row in csv.DictReader(file)}
    assert set(rows) == listed
    for (split, pid), row in rows.items():
        person = Person.sample(split, pid % VAL_OFFSET, seed=CONFIG.seed)
        assert {"split": split, "pid": str(pid), **person.attributes()} == row
