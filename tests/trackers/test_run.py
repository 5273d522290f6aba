"""The command that tracks precomputed detections."""

from pathlib import Path

import pytest

from trackers.mot import read_results
from trackers.run import main

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
