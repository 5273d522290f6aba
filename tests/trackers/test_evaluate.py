"""The command that scores folders of results."""

import json
from pathlib import Path

import pytest

from trackers.evaluate import main
from trackers.metrics.scores import COLUMNS

INI = "[Sequence]\nname=a\nframeRate=10\nseqLength=12\nimWidth=640\nimHeight=360\n"
WALK = [(t, 1, 10 + 2 * t) for t in range(1, 13)]


def text(rows: list[tuple[int, int, float]], tail: str) -> str:
    return "".join(f"{frame},{identity},{left},20,40,100,{tail}\n" for frame, identity, left in rows)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    for name in ("a", "b"):
        folder = tmp_path / "data" / name / "gt"
        folder.mkdir(parents=True)
        (folder.parent / "seqinfo.ini").write_text(INI)
        (folder / "gt.txt").write_text(text(WALK, "1,1,1"))
    return tmp_path / "data"


def results(folder: Path, **rows: list[tuple[int, int, float]]) -> str:
    folder.mkdir()
    for name, each in rows.items():
        (folder / f"{name}.txt").write_text(text(each, "0.9,-1,-1,-1"))
    return str(folder)


def manifest(data: Path, **set_of: str) -> None:
    (data / "manifest.json").write_text(json.dumps([{"seq": seq, "set": name} for seq, name in set_of.items()]))


SWITCHED = [(t, 1 if t <= 6 else 2, left) for t, _, left in WALK]


def test_trackers_stand_below_each_other_and_the_json_holds_every_sequence(data: Path, tmp_path: Path, capsys) -> None:
    good, bad = results(tmp_path / "good", a=WALK, b=WALK), results(tmp_path / "bad", a=WALK, b=SWITCHED)
    out = tmp_path / "scores.json"
    assert main(["--data", str(data), good, bad, "--json", str(out)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "## all"
    assert lines[1].split() == list(COLUMNS)
    assert lines[2].split()[:2] == ["good", "100.00"]
    assert lines[3].split()[0] == "bad"
    scores = json.loads(out.read_text())["all"]
    assert scores["bad"]["a"]["IDF1"] == 100
    assert scores["bad"]["b"]["IDF1"] == 50
    assert scores["bad"]["ALL"]["IDF1"] == 75
    assert scores["bad"]["ALL"]["IDSW"] == 1


def test_sequences_are_combined_by_the_sets_of_the_manifest(data: Path, tmp_path: Path, capsys) -> None:
    manifest(data, a="day", b="night")
    folder = results(tmp_path / "r", a=WALK, b=SWITCHED)
    assert main(["--data", str(data), folder, "--per-sequence"]) == 0
    blocks = capsys.readouterr().out.split("\n\n")
    assert [block.split()[1] for block in blocks] == ["day", "night"]
    assert [line.split()[0] for line in blocks[1].splitlines()[2:]] == ["r", "b"]
    assert main(["--data", str(data), folder, "--sets", "night"]) == 0
    assert "day" not in capsys.readouterr().out


def test_a_set_without_results_is_left_out_and_one_that_lacks_some_is_an_error(
    data: Path, tmp_path: Path, capsys
) -> None:
    folder = results(tmp_path / "r", a=WALK)
    assert main(["--data", str(data), folder]) == 2
    assert "r: b missing; --partial scores the others alone" in capsys.readouterr().err
    assert main(["--data", str(data), folder, "--partial"]) == 0
    capsys.readouterr()
    manifest(data, a="day", b="night")
    assert main(["--data", str(data), folder]) == 0
    assert "night" not in capsys.readouterr().out


def test_distractors_are_those_of_the_benchmark_that_the_set_is_named_for(data: Path, tmp_path: Path, capsys) -> None:
    (data / "a" / "gt" / "gt.txt").write_text(text(WALK, "1,1,1") + text([(t, 9, 400) for t in range(1, 13)], "0,6,1"))
    folder = results(tmp_path / "r", a=WALK + [(t, 5, 400) for t in range(1, 13)], b=WALK)
    out = tmp_path / "scores.json"
    for name, false_boxes in (("MOT17val", 12), ("MOT20val", 0)):
        manifest(data, a=name, b=name)
        assert main(["--data", str(data), folder, "--json", str(out)]) == 0
        assert json.loads(out.read_text())[name]["r"]["ALL"]["FP"] == false_boxes
    capsys.readouterr()


def test_people_not_to_be_scored_absorb_results_only_if_asked(data: Path, tmp_path: Path, capsys) -> None:
    (data / "a" / "gt" / "gt.txt").write_text(text(WALK, "1,1,1") + text([(t, 9, 400) for t in range(1, 13)], "0,1,1"))
    folder = results(tmp_path / "r", a=WALK + [(t, 5, 400) for t in range(1, 13)], b=WALK)
    out = tmp_path / "scores.json"
    for extra, false_boxes in ([], 12), (["--ignore-zero-marked"], 0):
        assert main(["--data", str(data), folder, "--json", str(out), *extra]) == 0
        assert json.loads(out.read_text())["all"]["r"]["ALL"]["FP"] == false_boxes
    capsys.readouterr()


def test_two_folders_of_one_name_are_told_apart_by_their_paths(data: Path, tmp_path: Path, capsys) -> None:
    (tmp_path / "x").mkdir()
    (tmp_path / "y").mkdir()
    folders = [results(tmp_path / each / "r", a=WALK, b=WALK) for each in ("x", "y")]
    assert main(["--data", str(data), *folders]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()[2:]] == folders


def test_bad_input_ends_with_what_and_where_and_writes_no_json(data: Path, tmp_path: Path, capsys) -> None:
    folder = results(tmp_path / "r", a=WALK, b=[(13, 1, 10)])
    out = tmp_path / "scores.json"

    def error(*arguments: str) -> str:
        assert main([*arguments, "--json", str(out)]) == 2
        assert not out.exists()
        return capsys.readouterr().err

    assert "b.txt: results has a row in frame 13, but the sequence ends with 12" in error("--data", str(data), folder)
    (tmp_path / "r" / "b.txt").write_text("1,2,3\n")
    assert "b.txt:1: expected at least 7 comma-separated columns, got 3" in error("--data", str(data), folder)
    assert "data: no SEQ.txt of a, b in it" in error("--data", str(data), str(data))
    assert "no SEQ/gt/gt.txt in it" in error("--data", str(tmp_path), folder)
    assert "no set dusk; there are all" in error("--data", str(data), folder, "--sets", "dusk")
    (data / "manifest.json").write_text("{}x")
    assert "manifest.json: expected a JSON list of objects with seq and set" in error("--data", str(data), folder)


def test_folders_and_files_that_are_not_there_are_told_with_what_was_expected(
    data: Path, tmp_path: Path, capsys
) -> None:
    folder = results(tmp_path / "r", a=WALK, b=WALK)

    def error(*arguments: str) -> str:
        assert main([*arguments]) == 2
        return str(capsys.readouterr().err).removeprefix(f"{tmp_path}/")

    given = "--data", str(data)
    nowhere = str(tmp_path / "nowhere")
    assert error("--data", nowhere, folder) == (
        "nowhere: is not there; expected a folder of SEQ/gt/gt.txt and SEQ/seqinfo.ini\n"
    )
    assert error(*given, nowhere) == "nowhere: is not there; expected a folder of SEQ.txt, as trackers.run writes it\n"
    named = "; expected the name of a file to write\n"
    assert error(*given, folder, "--json", folder) == f"r: is a folder{named}"
    assert error(*given, folder, "--json", f"{nowhere}/x") == f"nowhere/x: there is no folder {nowhere}{named}"
    (data / "manifest.json").mkdir()
    assert (
        error(*given, folder) == "data/manifest.json: is a folder; expected a JSON list of objects with seq and set\n"
    )
    (data / "manifest.json").rmdir()
    (data / "b" / "seqinfo.ini").unlink()
    assert error(*given, folder).startswith("data/b/seqinfo.ini: is not there; expected an INI file with name, ")


def test_one_folder_of_results_given_twice_is_refused_by_whatever_name(data: Path, tmp_path: Path, capsys) -> None:
    folder = results(tmp_path / "r", a=WALK, b=WALK)
    for again, first in ((folder, ""), (f"{data}/../r", f", first as {folder}")):
        assert main(["--data", str(data), folder, again]) == 2
        told = capsys.readouterr()
        assert told.err == f"{again}: is given twice{first}; expected each folder of results once\n"
        assert not told.out


@pytest.mark.parametrize("sets", ["day,", ",", "", "day,,night"])
def test_an_empty_name_among_the_sets_is_refused(data: Path, tmp_path: Path, sets: str, capsys) -> None:
    manifest(data, a="day", b="night")
    folder = results(tmp_path / "r", a=WALK, b=WALK)
    with pytest.raises(SystemExit, match="2"):
        main(["--data", str(data), folder, "--sets", sets])
    assert f"argument --sets: expected names of sets with a comma between two, got {sets!r}" in capsys.readouterr().err


def test_sets_may_have_blanks_between_them(data: Path, tmp_path: Path, capsys) -> None:
    manifest(data, a="day", b="night")
    folder = results(tmp_path / "r", a=WALK, b=WALK)
    assert main(["--data", str(data), folder, "--sets", "day, night"]) == 0
    assert "## night" in capsys.readouterr().out
