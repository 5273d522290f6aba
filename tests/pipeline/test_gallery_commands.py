"""The commands about a gallery, as people type them."""

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.audit import Actor, Audit
from pipeline.cases import Cases
from pipeline.cli import _parser, main
from pipeline.errors import UsageError
from pipeline.reconcile import reconcile
from pipeline.recovery import maintain
from pipeline.run import _remove_results
from pipeline.store import Store, TrackletFilter
from reid.calibration import Calibration, Curve
from reid.modality import Modality
from tests.pipeline.factories import sighting_of
from tests.pipeline.full_disk import fill_to_the_brim, large, mounted
from tests.pipeline.recordings import write_thermal, write_video, write_weights


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    write_video(folder / "gate.mp4")
    write_thermal(folder / "dock")
    write_weights(folder / "mini.safetensors")
    return folder


@pytest.fixture(scope="module")
def done(site: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("run") / "out"
    assert main([
        "run", "--source", f"gate={site}/gate.mp4,start=2026-06-01T14:00:00Z",
        "--source", f"dock={site}/dock/*.png,modality=thermal,start=2026-06-01T22:00:00Z",
        "--set", f"reid.weights={site}/mini.safetensors", "--set", "retention.tracklets_days=36500",
        "--output", str(output), "--no-progress", "--quiet",
    ]) == 0  # fmt: skip
    return output


@pytest.fixture
def gallery(done: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(done, tmp_path / "run"))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    with mounted(tmp_path / "small") as folder:
        yield folder


class Commands:
    """Types commands and reads their JSON."""

    def __init__(self, gallery: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self._gallery = gallery
        self._capsys = capsys
        self.err = ""

    def __call__(self, *words: str, code: int = 0, group: int = 2) -> Any:
        where = ["--gallery", str(self._gallery)]
        self._capsys.readouterr()
        assert main([*words[:group], *where, "--json", *words[group:]]) == code
        captured = self._capsys.readouterr()
        self.err = captured.err
        return json.loads(captured.out) if captured.out else None

    def tracklets(self, camera: str) -> list[str]:
        lines = "".join(path.read_text() for path in sorted((self._gallery / "events").glob("*.jsonl"))).splitlines()
        events = [json.loads(line) for line in lines]
        return [each["tracklet_id"] for each in events if each["camera"] == camera and each["person"]]


@pytest.fixture
def typed(gallery: Path, capsys: pytest.CaptureFixture[str]) -> Commands:
    return Commands(gallery, capsys)


def test_stats_and_verify_after_a_run(typed: Commands) -> None:
    stats = typed("gallery", "stats")
    assert stats["tracklets"]["accepted"] > 0
    assert {each["camera"] for each in stats["cameras"]} == {"gate", "dock"}
    assert stats["bytes"]["crops"] > 0
    seen = [each for each in typed("person", "list")["persons"] if each["tracklets"]]
    assert stats["persons"]["probable"] + stats["persons"]["confirmed"] == len(seen)
    verified = typed("gallery", "verify")
    assert verified["differences"] == []
    assert verified["vectors"] == stats["tracklets"]["accepted"]


def test_list_gives_what_can_be_searched_by_and_the_best_seen_first(
    typed: Commands, gallery: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = typed("gallery", "list", "--camera", "gate")["tracklets"]
    assert {each["tracklet"] for each in found} == set(typed.tracklets("gate"))
    qualities = [each["quality"] for each in found]
    assert qualities == sorted(qualities, reverse=True)
    one = ["gallery", "list", "--gallery", str(gallery), "--camera", "gate", "--best", "1", "--only"]
    for what, said in (("id", found[0]["tracklet"]), ("crop", found[0]["crop"])):
        assert main([*one, what]) == 0
        assert capsys.readouterr().out == f"{said}\n"
    assert main(["search", found[0]["tracklet"], "--gallery", str(gallery)]) == 0
    assert Path(found[0]["crop"]).is_file()
    typed("gallery", "list", "--camera", "roof", code=2)
    assert "--camera 'roof' is not one of" in typed.err
    typed("gallery", "list", "--best", "0", code=2)
    assert "--best: expected a number of 1 or more, got 0" in typed.err


def test_times_of_list_and_stats_are_utc_in_milliseconds(typed: Commands) -> None:
    times = [each["start"] for each in typed("gallery", "list")["tracklets"]]
    times += [each[end] for each in typed("gallery", "stats")["cameras"] for end in ("from", "to")]
    assert len(times) > 4
    assert [each for each in times if not re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", each)] == []


def test_the_list_says_what_its_columns_are(typed: Commands, gallery: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = typed("gallery", "list")["tracklets"][0]
    assert main(["gallery", "list", "--gallery", str(gallery)]) == 0
    head, row, *_ = capsys.readouterr().out.splitlines()
    assert head.split() == list(first) == ["tracklet", "modality", "start", "person", "quality", "crop"]
    assert [row.index(str(first[name])) for name in first] == [head.index(name) for name in first]


def test_the_audit_shows_a_few_digits_of_a_number(typed: Commands, gallery: Path) -> None:
    with Store.edit(gallery) as store:
        details = {"p": 0.12345678901234567, "rate": 0.0000123456, "seconds": 1780322400.123456, "rows": 123456789}
        Audit(store).record(Actor("eve"), "search", details)
    typed._capsys.readouterr()
    assert main(["audit", "show", "--gallery", str(gallery)]) == 0
    said = typed._capsys.readouterr().out
    assert "p: 0.1235, rate: 1.235e-05, rows: 123456789, seconds: 1780322400.1235" in said
    assert typed("audit", "show")[0]["details"]["p"] == 0.12345678901234567  # as it is, for machines


def test_verify_names_each_difference_and_repairs_what_the_database_can_tell(typed: Commands, gallery: Path) -> None:
    first, *_ = typed.tracklets("gate")
    folder = gallery / "crops/gate" / first
    (folder / "record.json").write_text("{}")
    (folder / "777.jpg").write_bytes(b"stray")
    day = next((gallery / "events").glob("*.jsonl"))
    with day.open("a") as file:
        file.write('{"tracklet_id":"gate-GONE"}\n')
    found = typed("gallery", "verify", code=1)["differences"]
    assert [each.split(": ", 1)[1] for each in found] == [
        "damaged", "no row names it", "an event of tracklet gate-GONE, which the database does not have"
    ]  # fmt: skip
    assert "record and images of" in typed("gallery", "verify", "--repair")["repaired"][0]
    assert not (folder / "777.jpg").exists()
    crop = next(folder.glob("*.jpg"))
    crop.unlink()
    assert [str(crop) in each for each in typed("gallery", "verify", code=1)["differences"]] == [True]


def test_every_search_and_export_is_recorded_with_its_purpose(typed: Commands, gallery: Path, tmp_path: Path) -> None:
    query = typed.tracklets("gate")[0]
    answer = typed("search", query, "--purpose", "lost child", "--operator", "eve", "--modality", "thermal", group=1)
    typed("export", "--draft", str(tmp_path / "draft.csv"), group=1)
    typed("gallery", "export", "--output", str(tmp_path / "part"), "--camera", "gate", "--operator", "eve")
    rows = typed("audit", "show")
    assert [row["action"] for row in rows] == ["search", "export", "export"]
    assert (rows[0]["actor"], rows[0]["purpose"], rows[0]["details"]["query"]) == ("eve", "lost child", query)
    assert rows[0]["details"]["filters"]["modalities"] == ["thermal"]
    answered = [each["tracklet_id"] for each in rows[0]["details"]["answers"]]
    assert answered == [each["tracklet_id"] for each in answer["answers"]]
    head = typed("audit", "head")
    assert typed("audit", "verify", "--head", f"{head['number']}:{head['hash']}")["findings"] == []
    typed("audit", "verify", "--head", f"{head['number']}:{'0' * 64}", code=1)
    typed("audit", "verify", "--head", "last", code=2)
    assert Commands(tmp_path / "part", typed._capsys)("gallery", "verify")["differences"] == []


def test_the_audit_shows_control_characters_as_text(typed: Commands, gallery: Path) -> None:
    nasty = "x]\n2  2026-06-01 00:00:00Z  bob  search\x1b[2J\x9b1A\u202e\r"
    query = typed.tracklets("gate")[0]
    typed("search", query, "--purpose", nasty, "--operator", nasty, group=1)
    with Store.edit(gallery) as store:
        Audit(store).record(Actor(nasty), nasty, {nasty: [nasty, {nasty: nasty}]})
    assert main(["audit", "show", "--gallery", str(gallery)]) == 0
    shown = typed._capsys.readouterr().out
    assert len(shown.splitlines()) == 2
    assert shown.replace("\n", "").isprintable()
    assert "\\x1b[2J" in shown
    assert typed("audit", "show")[0]["purpose"] == nasty  # as it is, for machines


def test_what_is_no_number_no_name_and_no_video_is_a_usage_error(typed: Commands, tmp_path: Path) -> None:
    query = typed.tracklets("gate")[0]
    for person in ("P²", "P٣", "P" + "9" * 30):
        typed("search", query, "--person", person, group=1, code=2)
        typed("gallery", "erase", "--person", person, code=2)
    for head in ("²:ab", "٣:ab"):
        typed("audit", "verify", "--head", head, code=2)
        assert "expected N:HASH" in typed.err
    typed("search", "x" * 300, group=1, code=2)
    assert "no tracklet id either" in typed.err
    (tmp_path / "notes.txt").write_text("no video")
    spot = ["--at", "1", "--box", "0,0,20,40", "--query-modality", "rgb"]
    typed("search", str(tmp_path / "notes.txt"), *spot, group=1, code=2)
    assert "is not a picture or video" in typed.err
    assert "camera query" not in typed.err


def test_a_site_may_ask_why(typed: Commands, gallery: Path) -> None:
    config = json.loads((gallery / "config.json").read_text())
    (gallery / "config.json").write_text(json.dumps(config | {"storage": {"purpose_required": True}}))
    query = typed.tracklets("gate")[0]
    for words, group in [
        (["search", query], 1), (["gallery", "erase", "--tracklet", query], 2),
        (["gallery", "export", "--output", str(gallery / "x")], 2),
    ]:  # fmt: skip
        typed(*words, code=2, group=group)
        assert "this site asks why" in typed.err
    typed("gallery", "reindex", "--weights", "xreid-tiny", "--device", "cpu", code=2)
    assert "this site asks why" in typed.err
    for title in ([], ["--title", " "]):
        typed("case", "open", "C-1", *title, code=2)
        assert "a title (--title) to a case that is opened" in typed.err
    for blank in ("", "  \t "):
        typed("search", query, "--purpose", blank, group=1, code=2)
        assert "give a purpose (--purpose) or a case (--case)" in typed.err
    assert typed("case", "list") == []
    assert typed("audit", "show") == []
    typed("case", "open", "C-1", "--title", "lost child")
    typed("search", query, "--case", "C-1", group=1)
    typed("search", query, "--case", "C-2", group=1, code=2)
    typed("case", "hold", "C-1", "--tracklet", query)
    typed("case", "release", "C-1", "--tracklet", query)
    typed("case", "close", "C-1")
    assert [row["case_id"] for row in typed("audit", "show")] == ["C-1"] * 5
    typed("case", "open", "C-1")  # for it has a title


def test_a_case_keeps_its_title_until_another_is_given_and_says_what_it_was(
    typed: Commands, gallery: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def opened(*title: str) -> str:
        assert main(["case", "open", "C-1", "--gallery", str(gallery), *title]) == 0
        return capsys.readouterr().out

    assert "case C-1 is new and open: " in opened("--title", "theft at the gate")
    typed("case", "close", "C-1")
    told = opened()
    assert "case C-1 is open again: " in told
    assert "title" not in told
    assert typed("case", "list")[0]["title"] == "theft at the gate"
    assert typed("audit", "show")[-1]["details"]["title"] == "theft at the gate"
    assert "case C-1 was open already: " in opened("--title", "  ")
    assert "its title is 'two thefts' now, in place of 'theft at the gate'" in opened("--title", "two thefts")
    assert typed("case", "open", "C-1", "--title", "three") == {
        "case": "C-1", "before": "open", "title": "three", "replaced": "two thefts"
    }  # fmt: skip
    assert json.loads((gallery / "cases.json").read_text())["cases"][0][1] == "three"


def test_erase_says_what_would_go_then_takes_it_but_not_from_a_case(typed: Commands, gallery: Path) -> None:
    one, two = typed.tracklets("gate")[0], typed.tracklets("dock")[0]
    typed("case", "open", "C-1")
    typed("case", "hold", "C-1", "--tracklet", one, "--note", "at the door")
    assert typed("case", "list")[0]["items"] == [one]
    typed("gallery", "erase", "--tracklet", one, code=2)
    assert "held by case C-1" in typed.err
    typed("gallery", "erase", code=2)
    typed("gallery", "erase", "--from", "2027-01-01T01:00:00+01:00", "--to", "2026-01-01T00:00:00Z", code=2)
    backwards = "--from must be before --to, got 2027-01-01T00:00:00.000Z and 2026-01-01T00:00:00.000Z\n"
    assert typed.err.endswith(backwards)
    planned = typed("gallery", "erase", "--tracklet", two, "--dry-run")
    assert (gallery / "video").is_dir()
    assert typed("gallery", "erase", "--tracklet", two)["tracklets"] == planned["tracklets"] == [two]
    assert not (gallery / "video").exists()
    typed("case", "close", "C-1")
    whole = typed("gallery", "stats")["tracklets"]
    gone = typed("gallery", "erase", "--from", "2026-06-01T00:00:00Z", "--to", "2026-06-02T00:00:00Z")
    assert len(gone["tracklets"]) == whole["accepted"] + whole["rejected"]
    assert typed("gallery", "verify")["tracklets"] == 0
    held = b"".join(path.read_bytes() for path in gallery.rglob("*") if path.is_file())
    assert one.encode() not in held
    assert two.encode() not in held


@pytest.mark.parametrize("others", [["--person", "P0001"], ["--camera", "gate"], ["--from", "2026-06-01T00:00:00Z"]])
def test_tracklets_are_named_alone(typed: Commands, tmp_path: Path, others: list[str]) -> None:
    one = ["--tracklet", typed.tracklets("gate")[0], *others]
    typed("case", "open", "C-1")
    before = typed("gallery", "stats")["tracklets"]
    for words, group in [
        (["gallery", "erase", *one], 2), (["gallery", "export", "--output", str(tmp_path / "part"), *one], 2),
        (["case", "hold", "C-1", *one], 2), (["case", "release", "C-1", *one], 2),
    ]:  # fmt: skip
        typed(*words, code=2, group=group)
        assert f"give it without {others[0]}" in typed.err
    assert typed("gallery", "stats")["tracklets"] == before
    assert typed("case", "list")[0]["items"] == []
    assert not (tmp_path / "part").exists()


def test_who_was_merged_is_named_by_whom_they_are_part_of(typed: Commands) -> None:
    query = typed.tracklets("gate")[0]
    people = [each["person"] for each in typed("person", "list")["persons"] if each["tracklets"]]
    if len(people) < 2:
        typed("person", "split", typed.tracklets("dock")[0])
        people = [each["person"] for each in typed("person", "list")["persons"] if each["tracklets"]]
    first, second = people[:2]
    typed("person", "merge", first, second)
    before = typed("gallery", "stats")["tracklets"]
    for words, group in [(["gallery", "erase"], 2), (["search", query], 1)]:
        typed(*words, "--person", second, code=2, group=group)
        assert f"{second} is part of {first}" in typed.err
        typed(*words, "--person", first, "--person", "P0999", code=2, group=group)
        assert "no person P0999" in typed.err
    assert typed("gallery", "stats")["tracklets"] == before
    typed("search", query, "--person", first, group=1)


def test_a_zone_that_nobody_drew_is_refused(typed: Commands, gallery: Path) -> None:
    query = typed.tracklets("gate")[0]
    typed("search", query, "--zone", "dor", code=2, group=1)
    assert "--zone 'dor': this gallery has no zones" in typed.err
    config = json.loads((gallery / "config.json").read_text())
    config["cameras"]["gate"]["zones"] = {"door": [[0, 0], [1, 0], [1, 1]]}
    (gallery / "config.json").write_text(json.dumps(config))
    typed("search", query, "--zone", "dor", code=2, group=1)
    assert "--zone 'dor' is not one of door; did you mean door?" in typed.err
    typed("search", query, "--zone", "door", group=1)
    (gallery / "config.json").unlink()
    with Store.edit(gallery) as store, store.writing() as db:
        db.execute("UPDATE tracklets SET zones = '[\"yard\"]' WHERE tracklet_id = ?", [query])
    typed("search", query, "--zone", "yard", group=1)  # drawn at another site, or once
    typed("search", query, "--zone", "door", code=2, group=1)


def test_people_are_decided_upon_and_decisions_taken_back(typed: Commands) -> None:
    people = [each for each in typed("person", "list")["persons"] if each["tracklets"]]
    if len(people) < 2:
        typed("person", "split", typed.tracklets("dock")[0])
        people = [each for each in typed("person", "list")["persons"] if each["tracklets"]]
    before = {each["person"]: each["tracklets"] for each in people}
    into, other = list(before)[:2]
    done = typed("person", "merge", into, other)
    after = {each["person"]: each["tracklets"] for each in typed("person", "list")["persons"]}
    assert (after[into], after[other]) == (before[into] + before[other], 0)
    typed("person", "undo", str(done["decision_id"]))
    again = {each["person"]: each["tracklets"] for each in typed("person", "list")["persons"] if each["tracklets"]}
    assert again == before
    typed("person", "merge", into, "P9999", code=2)
    assert "no person P9999" in typed.err
    assert typed("gallery", "verify")["differences"] == []


def test_another_model_is_refused_and_reindexing_takes_it(typed: Commands, gallery: Path, site: Path) -> None:
    before = typed("gallery", "stats")["model"]
    answer = typed("gallery", "reindex", "--weights", "xreid-tiny", "--device", "cpu")
    assert (answer["before"], answer["model_id"]) == (before, typed("gallery", "stats")["model"])
    assert answer["model_id"] != before
    assert typed("gallery", "verify")["differences"] == []
    own = gallery / "own.json"
    own.write_text(json.dumps(Calibration({(Modality.RGB, Modality.RGB): Curve(2.0, -7.0)}).to_dict()))
    for more in (["--calibration", str(own)], []):  # the same model again keeps the curves of this site
        typed("gallery", "reindex", "--weights", "xreid-tiny", "--device", "cpu", *more)
        with Store.read(gallery) as store:
            assert store.calibration.curve(Modality.RGB, Modality.RGB) == Curve(2.0, -7.0)
            assert len(list(store.calibration)) == 6
    code = main([
        "run", "--source", f"gate={site}/gate.mp4", "--set", f"reid.weights={site}/mini.safetensors",
        "--output", str(gallery), "--append", "--no-progress",
    ])  # fmt: skip
    assert code == 4
    message = typed._capsys.readouterr().err
    assert before in message
    assert answer["model_id"] in message


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--weights", "nosuch.pt"], "error: --weights: nosuch.pt: no such file"),
        (
            ["--weights", "xreid-tiny", "--calibration", "nosuch.json"],
            "error: --calibration: nosuch.json: no such file\n",
        ),
        (
            ["--weights", "xreid-tiny", "--calibration", "."],
            "error: --calibration: .: cannot be read: Is a directory\n",
        ),
    ],
)
def test_what_reindex_cannot_read_is_told_by_its_option(typed: Commands, more: list[str], said: str) -> None:
    typed("gallery", "reindex", "--device", "cpu", *more, code=2)
    assert said in typed.err


def test_a_head_that_was_cut_off_is_refused_and_finds_nothing(typed: Commands, gallery: Path) -> None:
    typed("case", "open", "C-1")
    head = typed("audit", "head")
    typed("audit", "verify", "--head", f"{head['number']}:{'0' * 64}", code=1)
    for digest in (head["hash"][:3], head["hash"][:-1], f"{head['hash']}0", "g" * 64, ""):
        typed("audit", "verify", "--head", f"{head['number']}:{digest}", code=2)
        assert "as audit head prints it, a hash of 64 hexadecimal digits" in typed.err
    typed("audit", "verify", "--head", "", code=2)


def test_merge_and_age(typed: Commands, gallery: Path, done: Path, tmp_path: Path) -> None:
    typed("gallery", "merge", str(done), code=2)
    assert "both galleries have a camera" in typed.err
    typed("gallery", "merge", str(done), "--rename-camera", "gate", code=2)
    merged = typed("gallery", "import", str(done), "--same-cameras")
    assert (merged["tracklets"], merged["already"] > 0) == (0, True)
    assert typed("gallery", "age") == {}
    config = json.loads((gallery / "config.json").read_text())
    (gallery / "config.json").write_text(json.dumps(config | {"retention": {"tracklets_days": 0.001}}))
    assert typed("gallery", "age")["tracklets"] > 0
    assert typed("gallery", "verify")["tracklets"] == 0


def test_the_persons_of_a_transfer_are_those_whose_tracklets_came(
    typed: Commands, gallery: Path, done: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def told(*words: str) -> str:
        assert main([*words, "--gallery", str(gallery)]) == 0
        return capsys.readouterr().out

    one = typed.tracklets("gate")[0]
    typed("person", "split", one)
    typed("person", "undo", "1")  # now a decision about the tracklet tells of a second person
    out = tmp_path / "part"
    assert "tracklets: 1, persons: 1\n" in told("gallery", "export", "--tracklet", one, "--output", str(out))
    assert "took in tracklets: 0, persons: 0; " in told("gallery", "merge", str(done), "--same-cameras")
    assert " of them rejected, 2026-06-01T" in told("gallery", "stats")


def test_a_choice_of_nothing_is_refused_and_does_nothing(typed: Commands, tmp_path: Path) -> None:
    typed("case", "open", "C-1")
    rows = typed("audit", "show")
    for words in (
        ["gallery", "export", "--output", str(tmp_path / "part")], ["case", "hold", "C-1"], ["case", "release", "C-1"]
    ):  # fmt: skip
        typed(*words, "--camera", "gate", "--from", "2027-01-01T00:00:00Z", code=2)
        assert (
            "--camera gate, --from 2027-01-01T00:00:00Z: no tracklet is meant (they are from 2026-06-01T" in typed.err
        )
    assert not (tmp_path / "part").exists()
    assert typed("audit", "show") == rows


@pytest.mark.parametrize(
    ("retention", "said"),
    [({}, "sets no retention, so that all is kept for ever"), ({"audit_days": 9}, "aged away: nothing was old enough")],
)
def test_age_tells_whether_anything_may_age(
    gallery: Path, capsys: pytest.CaptureFixture[str], retention: dict[str, int], said: str
) -> None:
    config = json.loads((gallery / "config.json").read_text())
    (gallery / "config.json").write_text(json.dumps(config | {"retention": retention}))
    assert main(["gallery", "age", "--gallery", str(gallery)]) == 0
    assert said in capsys.readouterr().out


def test_verify_beside_a_run_looks_and_touches_nothing(typed: Commands, gallery: Path) -> None:
    with maintain(gallery):
        assert typed("gallery", "verify")["differences"] == []
        typed("gallery", "erase", "--tracklet", typed.tracklets("gate")[0], code=5)
        assert "another process is writing" in typed.err
        typed("search", typed.tracklets("gate")[0], group=1)  # a search is recorded beside a run all the same
    assert [row["action"] for row in typed("audit", "show")] == ["search"]


def test_a_run_does_not_overwrite_what_a_case_holds(typed: Commands, gallery: Path, site: Path) -> None:
    one = typed.tracklets("gate")[0]
    typed("case", "open", "C-1")
    typed("case", "hold", "C-1", "--tracklet", one)
    again = [
        "run", "--source", f"gate={site}/gate.mp4", "--set", f"reid.weights={site}/mini.safetensors",
        "--output", str(gallery), "--overwrite", "--no-progress",
    ]  # fmt: skip
    assert main(again) == 2
    assert "case C-1 holds 1 tracklets" in typed._capsys.readouterr().err
    assert one in typed.tracklets("gate")
    typed("case", "close", "C-1")
    assert main(again) == 0
    assert one not in typed.tracklets("gate")


@pytest.mark.parametrize("how", ["noise", "empty", "missing", "older", "also the copy"])
def test_a_run_does_not_overwrite_what_a_case_of_a_damaged_gallery_holds(
    typed: Commands, gallery: Path, how: str
) -> None:
    content = {"noise": b"noise" * 2000, "older": (gallery / "gallery.sqlite").read_bytes()}
    typed("case", "open", "C-1")
    typed("case", "hold", "C-1", "--tracklet", typed.tracklets("gate")[0])
    for suffix in ("", "-wal", "-shm"):
        (gallery / f"gallery.sqlite{suffix}").unlink(missing_ok=True)
    if how != "missing":
        (gallery / "gallery.sqlite").write_bytes(content.get(how, b""))
    if how == "also the copy":
        (gallery / "cases.json").write_bytes((gallery / "cases.json").read_bytes()[:40])
    before = {path for path in gallery.rglob("*") if path.is_file()}
    with pytest.raises(UsageError, match="nobody knows what is held" if how == "also the copy" else "case C-1 holds 1"):
        _remove_results(gallery)
    assert {path for path in gallery.rglob("*") if path.is_file()} >= before  # a reader may have left its own


def test_overwriting_leaves_nothing_of_the_gallery_for_the_next(typed: Commands, gallery: Path) -> None:
    one = typed.tracklets("gate")[0]
    typed("person", "split", one)
    typed("case", "open", "C-1")
    typed("case", "close", "C-1")
    (gallery / "audit-of-south-01234567.jsonl").write_text("[]\n")
    (gallery / "decisions.jsonl.part").write_text("[1")
    shutil.copy(gallery / "gallery.sqlite", gallery / "gallery.sqlite.rebuilding.whole")
    others = ("notes.txt", "users.json", "exports/E.zip")
    for name in others:
        (gallery / name).parent.mkdir(exist_ok=True)
        (gallery / name).write_text("mine")
    assert (gallery / "decisions.jsonl").is_file()
    _remove_results(gallery)
    left = {path.relative_to(gallery).as_posix() for path in gallery.rglob("*") if path.is_file()}
    assert left == {"gallery.lock", *others}


def test_the_table_of_confirmed_pairs_is_recorded_and_asked_why(typed: Commands, gallery: Path, tmp_path: Path) -> None:
    (gallery / "pairs.jsonl").write_text('{"pair": "p", "tracklets": ["gate-A", "dock-A"]}\n')
    config = json.loads((gallery / "config.json").read_text())
    (gallery / "config.json").write_text(json.dumps(config | {"storage": {"purpose_required": True}}))
    table = tmp_path / "table.csv"
    typed("export", "--paired", str(table), code=2, group=1)
    assert "give a purpose (--purpose) or a case (--case)" in typed.err
    assert not table.exists()
    assert typed("export", "--paired", str(table), "--purpose", "to train", group=1)["tracklets"] == 2
    row = typed("audit", "show")[-1]
    assert (row["action"], row["purpose"], row["details"]["tracklets"]) == ("export", "to train", 2)


def test_an_export_looks_where_every_other_command_does() -> None:
    assert _parser().parse_args(["export", "--draft", "table.csv"]).gallery == Path("runs/latest")


def test_there_must_be_a_gallery(typed: Commands, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["gallery", "stats"], ["gallery", "verify"], ["audit", "show"], ["case", "list"], ["person", "list"]):
        assert main([*words, "--gallery", str(tmp_path / "none")]) == 2
        assert "no gallery there" in capsys.readouterr().err


def test_reading_on_a_full_disk_is_refused_by_its_cause_unless_a_reader_left_it_room(
    done: Path, small_disk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = Path(shutil.copytree(done, small_disk / "run"))
    with Store.read(root) as store:
        assert store.tracklets()
        fill_to_the_brim(small_disk / "other")
    assert (root / "gallery.sqlite-shm").is_file(), "on a full disk nobody could make it again"
    assert main(["gallery", "stats", "--gallery", str(root)]) == 0
    (root / "gallery.sqlite-wal").unlink()
    (root / "gallery.sqlite-shm").unlink()
    fill_to_the_brim(small_disk / "more")
    capsys.readouterr()
    assert main(["gallery", "stats", "--gallery", str(root)]) == 5
    assert f"gallery.sqlite: disk I/O error: the disk of {root} is full (0.0 MB are free); " in capsys.readouterr().err
    (small_disk / "other").unlink()
    assert main(["gallery", "stats", "--gallery", str(root)]) == 0
    assert not list(root.glob("gallery.sqlite-*"))


def test_a_run_into_a_disk_of_64_mb_that_is_full_goes_on(done: Path, site: Path, small_disk: Path) -> None:
    """The oldest that no case holds makes room for the new, and all that is left agrees."""
    root = Path(shutil.copytree(done, small_disk / "run"))
    known = json.loads((root / "gallery.json").read_text())
    with Store.maintain(root) as store:
        before = {each.tracklet_id for each in store.tracklets(TrackletFilter(rejected=None))}
        vector = store.embeddings([store.tracklets()[0].row])[0]
        for n in range(60):
            tracklet = large(f"old-{n}", 10.0 * n)
            store.add(sighting_of(tracklet, person=900 + n, vector=vector))
        Cases(store).open("C-1", "theft", Actor("eve"))
        Cases(store).hold("C-1", ["old-3"], Actor("eve"))
    assert known["model_id"]
    fill_to_the_brim(small_disk / "other")
    code = main([
        "run", "--source", f"gate={site}/gate.mp4,start=2026-07-01T14:00:00Z",
        "--set", f"reid.weights={site}/mini.safetensors", "--output", str(root), "--append", "--no-progress",
    ])  # fmt: skip
    assert code == 0
    report = json.loads((root / "report.json").read_text())
    assert report["tracklets"]["accepted"] > 0
    assert report["tracklets"]["lost"] == {}
    with maintain(root) as store:
        left = {each.tracklet_id for each in store.tracklets(TrackletFilter(rejected=None))}
        assert "old-3" in left
        assert len(left - before) < 60
        new = [each for each in store.tracklets() if each.start.month == 7]
        assert len(new) == report["tracklets"]["accepted"]
        assert reconcile(store).differences == ()
    events = "".join(path.read_text() for path in (root / "events").glob("*.jsonl"))
    assert '"type":"disk_low"' in events
