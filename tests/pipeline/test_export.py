"""What an operator confirmed becomes a data set, and nothing else does."""

import csv
import json
from pathlib import Path

import pytest

from pipeline.cli import main
from pipeline.errors import UsageError
from pipeline.export import COLUMNS, Exported, draft, export, read_confirmed
from reid.datasets.check import check
from reid.datasets.known import open_dataset
from reid.modality import Modality
from tests.pipeline.factories import open_store, rejected_of, sighting_of, tracklet_of

PEOPLE = ("ann", "bob", "cem", "dan", "eve")


@pytest.fixture(scope="module")
def gallery(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five people before an RGB, a near-infrared and a thermal camera, all taken for one person by the pipeline."""
    root = tmp_path_factory.mktemp("gallery")
    with open_store(root) as store:
        for number, name in enumerate(PEOPLE):
            for camera, modality in (("gate", Modality.RGB), ("yard", Modality.NIR), ("dock", Modality.THERMAL)):
                store.add(sighting_of(tracklet_of(f"{camera}-{name}", modality=modality, at=10.0 * number, crops=3)))
        store.add(rejected_of(tracklet_of("gate-shadow", at=90.0)))
        store.add(sighting_of(tracklet_of("gate-blurred", at=95.0, crops=0)))
    return root


def table_of(path: Path, rows: dict[str, str], *, newline: str = "\n") -> Path:
    lines = ["tracklet_id,person,remark", *(f"{tracklet},{person},?" for tracklet, person in rows.items())]
    path.write_bytes("".join(line + newline for line in lines).encode())
    return path


def everyone(*cameras: str) -> dict[str, str]:
    return {f"{camera}-{name}": name for camera in cameras for name in PEOPLE}


def test_the_draft_has_a_row_for_each_accepted_tracklet_and_confirms_nothing(gallery: Path, tmp_path: Path) -> None:
    assert draft(gallery, tmp_path / "table.csv") == 16
    with (tmp_path / "table.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == COLUMNS
    assert {row["person"] for row in rows} == {""}
    assert {row["guess"] for row in rows} == {"P0001"}
    assert Path(next(row for row in rows if row["tracklet_id"] == "gate-ann")["best_crop"]).is_file()
    assert read_confirmed(tmp_path / "table.csv") == {}
    with pytest.raises(UsageError, match=r"table\.csv: exists already"):
        draft(gallery, tmp_path / "table.csv")
    with pytest.raises(UsageError, match=r"none/table\.csv: there is no folder .*none; make it"):
        draft(gallery, tmp_path / "none" / "table.csv")


def test_confirmed_tracklets_are_a_data_set_that_the_loader_and_the_checker_accept(
    gallery: Path, tmp_path: Path
) -> None:
    output = tmp_path / "site"
    done = export(gallery, everyone("gate", "yard"), output, held_out=0.4)
    assert done == Exported(5, 2, {Modality.RGB: 5, Modality.NIR: 5}, 5, 0)
    (report,) = check("hitsz_vcm", output, like=True)
    assert report.is_good
    dataset = open_dataset("hitsz_vcm", output, {"min_frames": 1})
    train, test = dataset.split("train"), dataset.split("test")
    assert (str(train), str(test)) == (
        "3 persons, 6 tracklets (3 rgb, 3 nir)",
        "2 persons, 4 tracklets (2 rgb, 2 nir)",
    )
    assert len(dataset.directions("test")["nir->rgb"].query) == 2
    with (output / "identities.csv").open(newline="") as file:
        names = {int(row["pid"]): row["person"] for row in csv.DictReader(file)}
    assert names == dict(enumerate(PEOPLE, start=1))
    row = next(r for r in range(6) if train.modalities[r] is Modality.NIR)
    source = gallery / "crops/yard" / f"yard-{names[int(train.pids[row])]}"
    assert [path.read_bytes() for path in train.paths[row]] == [
        (source / f"{k:03d}.jpg").read_bytes() for k in range(3)
    ]
    assert "D1 is gate, D2 is yard" in (output / "README.txt").read_text()


def test_thermal_is_left_out_of_one_layout_and_kept_in_the_other(gallery: Path, tmp_path: Path) -> None:
    confirmed = everyone("gate", "yard", "dock")
    done = export(gallery, confirmed, tmp_path / "vcm")
    assert (done.left_out, Modality.THERMAL in done.tracklets) == (5, False)
    done = export(gallery, confirmed, tmp_path / "folder", layout="folder", held_out=0.2)
    assert done == Exported(5, 1, {Modality.RGB: 5, Modality.NIR: 5, Modality.THERMAL: 5}, 5, 0)
    dataset = open_dataset("folder", tmp_path / "folder")
    assert str(dataset.split("train")) == "4 persons, 12 tracklets (4 rgb, 4 nir, 4 thermal)"
    assert str(dataset.split("val")) == "1 persons, 3 tracklets (1 rgb, 1 nir, 1 thermal)"


def test_only_people_of_both_sides_are_held_out_and_the_others_are_trained_on(gallery: Path, tmp_path: Path) -> None:
    confirmed = everyone("gate") | {"yard-ann": "ann", "yard-bob": "bob", "gate-blurred": "fay"}
    done = export(gallery, confirmed, tmp_path / "site", held_out=0.5)
    assert (done.persons, done.both_modalities, done.held_out, done.left_out) == (5, 2, 1, 1)
    assert len(set(open_dataset("hitsz_vcm", tmp_path / "site", {"min_frames": 1}).split("train").pids.tolist())) == 4


def test_two_tracklets_of_a_person_and_a_camera_do_not_overwrite_each_other(gallery: Path, tmp_path: Path) -> None:
    confirmed = {"gate-ann": "ann", "gate-bob": "ann", "yard-ann": "ann"}
    for layout, split in (("hitsz_vcm", "train"), ("folder", "train")):
        options = {"min_frames": 1} if layout == "hitsz_vcm" else {}
        export(gallery, confirmed, tmp_path / layout, layout=layout, held_out=0.0)  # type: ignore[arg-type]
        read = open_dataset(layout, tmp_path / layout, options).split(split)
        assert len({path for frames in read.paths for path in frames}) == 9


@pytest.mark.parametrize("newline", ["\n", "\r\n"], ids=["unix", "windows"])
def test_a_table_is_read_with_either_line_end(tmp_path: Path, newline: str) -> None:
    table = table_of(tmp_path / "t.csv", {"gate-ann": " ann ", "gate-bob": ""}, newline=newline)
    assert read_confirmed(table) == {"gate-ann": "ann"}


def test_tables_that_cannot_be_meant_are_refused(gallery: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no such file; `export --draft` writes a table"):
        read_confirmed(tmp_path / "none.csv")
    (tmp_path / "a.csv").write_text("tracklet,person\n")
    with pytest.raises(UsageError, match=r"a\.csv:1: must have the columns tracklet_id and person"):
        read_confirmed(tmp_path / "a.csv")
    (tmp_path / "b.csv").write_text("tracklet_id,person\ngate-ann,ann\ngate-ann,bob\n")
    with pytest.raises(UsageError, match=r"b\.csv:3: tracklet gate-ann is 'ann' and 'bob'"):
        read_confirmed(tmp_path / "b.csv")
    (tmp_path / "c.csv").write_bytes("tracklet_id,person\ngate-ann,Müller\n".encode("cp1252"))
    with pytest.raises(UsageError, match=r"c\.csv:2: not UTF-8 text: byte 0xfc; save the file as UTF-8"):
        read_confirmed(tmp_path / "c.csv")
    for confirmed, message in (
        ({}, "no tracklet has a confirmed person"),
        ({"gate-zoe": "zoe"}, "no tracklet 'gate-zoe' in this gallery"),
        ({"dock-ann": "ann"}, "none of the 1 confirmed tracklets can be written in the layout hitsz_vcm"),
    ):
        with pytest.raises(UsageError, match=message):
            export(gallery, confirmed, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_export_that_fails_leaves_nothing(gallery: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with pytest.raises(UsageError, match="exists already"):
        export(gallery, everyone("gate"), tmp_path / "out")
    assert list(tmp_path.iterdir()) == [tmp_path / "out"]


def test_the_command_drafts_and_exports(gallery: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table, output = tmp_path / "table.csv", tmp_path / "site"
    assert main(["export", "-g", str(gallery), "--draft", str(table)]) == 0
    assert "16 tracklets to look at" in capsys.readouterr().out
    text = table.read_text()
    for tracklet, person in everyone("gate", "yard").items():
        text = text.replace(f"{tracklet},,", f"{tracklet},{person},")
    table.write_text(text)
    arguments = ["export", "-g", str(gallery), "--confirmed", str(table)]
    assert main(arguments) == 2
    assert "--output DIR is missing" in capsys.readouterr().err
    assert main([*arguments, "-o", str(output), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "persons": 5, "held_out": 1, "both_modalities": 5, "tracklets": {"rgb": 5, "nir": 5}, "left_out": 0,
    }  # fmt: skip
    assert main([*arguments, "-o", str(output)]) == 2
    for share in ("1", "-0.1", "half"):
        with pytest.raises(SystemExit):
            main([*arguments, "-o", str(tmp_path / "x"), "--held-out", share])
