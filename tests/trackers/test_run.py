"""The command that tracks precomputed detections."""

from pathlib import Path

import numpy as np
import pytest

from trackers.algorithms import TRACKERS
from trackers.mot import read_results, rows_of
from trackers.run import main
from trackers.structures import Tracks

INI = "[Sequence]\nname=a\nframeRate=10\nseqLength=5\nimWidth=640\nimHeight=360\n"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data" / "a"
    (folder / "det").mkdir(parents=True)
    (folder / "seqinfo.ini").write_text(INI)
    (folder / "det" / "det.txt").write_text("".join(f"{t},-1,{10 + 2 * t},20,40,100,0.9\n" for t in range(1, 6)))
    return tmp_path / "data"


def test_every_sequence_is_tracked_and_its_boxes_come_back_exactly(data: Path, tmp_path: Path, capsys) -> None:
    assert main(["--data", str(data), "--output", str(tmp_path / "out")]) == 0
    rows = read_results(tmp_path / "out" / "a.txt")
    assert rows.frame.tolist() == [1, 2, 3, 4, 5]
    assert rows.identity.tolist() == [1] * 5
    assert rows.xywh[:, 0].tolist() == [12, 14, 16, 18, 20]
    assert capsys.readouterr().out.startswith("a: 5 frames")


def test_a_bad_file_ends_it_with_its_place(data: Path, tmp_path: Path, capsys) -> None:
    (data / "a" / "det" / "det.txt").write_text("1,2,3\n")
    assert main(["--data", str(data), "--output", str(tmp_path / "out")]) == 2
    assert "det.txt:1: expected at least 7" in capsys.readouterr().err


def test_a_folder_without_sequences_is_an_error(tmp_path: Path, capsys) -> None:
    assert main(["--data", str(tmp_path), "--output", str(tmp_path / "out")]) == 2
    assert "no SEQ/det/det.txt" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", sorted(TRACKERS))
def test_every_tracker_can_be_named(data: Path, tmp_path: Path, name: str, capsys) -> None:
    assert main(["--data", str(data), "--output", str(tmp_path / "out"), "--tracker", name]) == 0
    assert set(read_results(tmp_path / "out" / "a.txt").identity.tolist()) == {1}
    capsys.readouterr()


def test_settings_of_the_tracker_can_be_set_and_wrong_ones_are_named(data: Path, tmp_path: Path, capsys) -> None:
    def run(*arguments: str) -> int:
        return main(["--data", str(data), "--output", str(tmp_path / "out"), "--tracker", "sort", *arguments])

    assert run("--set", "min_confidence=0.95") == 0
    assert len(read_results(tmp_path / "out" / "a.txt")) == 0
    capsys.readouterr()
    for wrong, message in {
        "minimum=3": "--set minimum=3: expected NAME=VALUE with a name of min_confidence, min_overlap",
        "min_overlap": "--set min_overlap: expected NAME=VALUE",
        "min_overlap=high": "--set min_overlap=high: expected a number, got 'high'",
        "min_overlap=7": "min_overlap must be in [0, 1], got 7.0",
        "confirm_hits=2.5": "--set confirm_hits=2.5: expected a whole number",
        "min_overlap=": "--set min_overlap=: expected a number, got nothing",
    }.items():
        assert run("--set", wrong) == 2
        assert message in capsys.readouterr().err


def test_an_unknown_tracker_is_an_error_that_lists_the_known(data: Path, tmp_path: Path, capsys) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["--data", str(data), "--output", str(tmp_path / "out"), "--tracker", "deepsort"])
    assert "bytetrack" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_nothing_is_written_if_any_sequence_is_bad_and_all_that_are_bad_are_named(
    data: Path, tmp_path: Path, capsys
) -> None:
    for name, row in (("b", "6,-1,1,1,5,5,1\n"), ("c", "1,-1,1,1,5\n"), ("d", "1,-1,1,1,5,5,87\n")):
        (data / name / "det").mkdir(parents=True)
        (data / name / "seqinfo.ini").write_text(INI)
        (data / name / "det" / "det.txt").write_text(row)
    (data / "e" / "det").mkdir(parents=True)
    (data / "e" / "det" / "det.txt").write_text("")
    assert main(["--data", str(data), "--output", str(tmp_path / "out")]) == 2
    errors = capsys.readouterr().err.splitlines()
    assert "a detection in frame 6, but seqLength is 5" in errors[0]
    assert "det.txt:1: expected at least 7 comma-separated columns, got 5" in errors[1]
    assert "det.txt:1: confidence must be in [0, 1], got 87" in errors[2]
    assert "seqinfo.ini" in errors[3]
    assert len(errors) == 4
    assert not (tmp_path / "out").exists()


def test_boxes_that_are_none_are_dropped_and_counted_by_reason(data: Path, tmp_path: Path, capsys) -> None:
    file = data / "a" / "det" / "det.txt"
    good = file.read_text()
    none = "3,-1,5,5,0,9,0.9\n3,-1,1000000000,0,1,1,1\n4,-1,-5000,5,10,9,0.9\n5,-1,640,5,10,9,0.9\n5,-1,1e39,0,9,9,1\n"
    file.write_text("\ufeff" + none + good.replace("0.9\n", "0.9,nan,person,-1\n"), encoding="utf-8")
    (data / "a" / "seqinfo.ini").write_text("\ufeff" + INI, encoding="utf-8")
    assert main(["--data", str(data), "--output", str(tmp_path / "out")]) == 0
    assert read_results(tmp_path / "out" / "a.txt").frame.tolist() == [1, 2, 3, 4, 5]
    assert (
        ", 1 box dropped: not finite, 2 boxes dropped: no area, 2 boxes dropped: off screen" in capsys.readouterr().out
    )


@pytest.mark.parametrize("confidence", ["87", "-1", "-0.5", "nan"])
def test_scores_that_are_no_confidences_are_an_error(data: Path, tmp_path: Path, confidence: str, capsys) -> None:
    file = data / "a" / "det" / "det.txt"
    file.write_text(file.read_text() + f"5,-1,1,1,5,5,{confidence}\n")
    assert main(["--data", str(data), "--output", str(tmp_path / "out")]) == 2
    assert "det.txt:6: " in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("below", ["", "x"])
def test_a_place_that_cannot_be_written_is_told_before_anything_is_tracked(
    data: Path, tmp_path: Path, below: str, capsys
) -> None:
    (tmp_path / "out").write_text("a file")
    out = tmp_path / "out" / below
    assert main(["--data", str(data), "--output", str(out)]) == 2
    told = capsys.readouterr()
    wrong = "is no folder, or lies in none" if below else "is a file"
    assert told.err == f"{out}: {wrong}; expected a folder to write to, or a name for a new one\n"
    assert not told.out


def test_a_result_that_cannot_take_its_name_is_told_by_that_name(data: Path, tmp_path: Path, capsys) -> None:
    (tmp_path / "out" / "a.txt").mkdir(parents=True)
    assert main(["--data", str(data), "--output", str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err == f"{tmp_path}/out/a.txt: is a folder\n"


def test_data_that_are_not_there_are_told_with_what_was_expected(data: Path, tmp_path: Path, capsys) -> None:
    def error(folder: Path) -> str:
        assert main(["--data", str(folder), "--output", str(tmp_path / "out")]) == 2
        return str(capsys.readouterr().err).removeprefix(f"{tmp_path}/")

    expected = "; expected a folder of SEQ/det/det.txt and SEQ/seqinfo.ini\n"
    assert error(tmp_path / "nowhere") == f"nowhere: is not there{expected}"
    assert error(data / "a" / "seqinfo.ini") == f"data/a/seqinfo.ini: is no folder, or lies in none{expected}"
    (data / "a" / "seqinfo.ini").unlink()
    expected = "; expected an INI file with name, frameRate, seqLength, imWidth and imHeight\n"
    assert error(data) == f"data/a/seqinfo.ini: is not there{expected}"
    (data / "a" / "seqinfo.ini").mkdir()
    assert error(data) == f"data/a/seqinfo.ini: is a folder{expected}"


def test_a_setting_for_code_alone_is_said_to_be_one_and_is_not_offered(data: Path, tmp_path: Path, capsys) -> None:
    assert main(["--data", str(data), "--output", str(tmp_path / "out"), "--set", "ground=3"]) == 2
    told = capsys.readouterr().err
    assert told.startswith("--set ground=3: ground can be set in code only; expected NAME=VALUE with a name of low_")
    assert ", ground," not in told


def test_either_id_can_be_written(tmp_path: Path) -> None:
    box = np.array([[0, 0, 10, 20]])
    rows = {1: Tracks(box, np.ones(1), np.array([1]), np.array([1])), 2: Tracks(box, np.ones(1), [1], np.array([7]))}
    assert rows_of(rows).identity.tolist() == [1, 1]
    assert rows_of(rows, ids="tracklet").identity.tolist() == [1, 7]
