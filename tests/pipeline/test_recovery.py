"""A damaged page is found, the file set aside, and the gallery rebuilt from what lies beside it, loudly."""

import json
import logging
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from pipeline.audit import Actor, Audit
from pipeline.cases import Cases
from pipeline.cli import main
from pipeline.erasure import erase
from pipeline.errors import BehindGalleryError, DamagedGalleryError, GalleryMismatchError, UsageError
from pipeline.identify import Link
from pipeline.persons import Persons
from pipeline.reconcile import reconcile
from pipeline.recovery import Rebuilt, maintain, open_store
from pipeline.schema import connect, migrate
from pipeline.sinks import EventLog
from pipeline.store import DATABASE, LinkState, Store, TrackletFilter
from reid.modality import Modality
from tests.pipeline.factories import CALIBRATION, DIMENSION, MODEL, rejected_of, sighting_of, tracklet_of, unit

EVE = Actor("eve", purpose="review")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Thirty tracklets, links, a decision, a case, an audit; closed."""
    root = tmp_path_factory.mktemp("whole")
    with (
        Store.open(root, model_id=MODEL, dimension=DIMENSION, calibration=CALIBRATION) as store,
        EventLog(root, model_id=MODEL, dimension=DIMENSION) as events,
    ):
        for n in range(30):
            links = (Link(f"gate-{n - 1:02d}", "gate", Modality.RGB, 0.75, 0.5, cross_modality=False),) if n else ()
            tracklet = tracklet_of(f"gate-{n:02d}", at=10 * n)
            item = sighting_of(tracklet, person=1 + n // 3, vector=unit(1, n, 2, 3), links=links)
            store.add(item)
            events.write(item)
        store.add(rejected_of(tracklet_of("gate-99", at=900)))
        Persons(store).merge(1, 2, EVE)
        Persons(store).confirm("gate-01", "gate-00", EVE)
        Cases(store).open("C-1", "theft", EVE)
        Cases(store).hold("C-1", ["gate-04", "gate-05"], EVE)
    return root


def copy_of(whole: Path, root: Path) -> Path:
    shutil.copytree(whole, root)
    return root


def pages_of(path: Path) -> tuple[int, int]:
    with closing(sqlite3.connect(path)) as database:
        (size,) = database.execute("PRAGMA page_size").fetchone()
    return size, path.stat().st_size // size


def make_noise(path: Path, page: int, size: int) -> None:
    with path.open("r+b") as file:
        file.seek(page * size)
        file.write(np.random.default_rng(page).bytes(size))


def contents(root: Path) -> dict[str, tuple[object, ...]]:
    with Store.read(root) as store:
        return {
            each.tracklet_id: (
                each.row, each.person_id, each.start, each.end, each.rejected, each.quality, each.frames,
                None if each.rejected else store.embeddings([each.row]).tobytes(),
            )
            for each in store.tracklets(TrackletFilter(rejected=None))
        }  # fmt: skip


def test_whichever_page_is_overwritten_nothing_that_was_committed_is_lost(
    whole: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    before = contents(whole)
    size, count = pages_of(whole / DATABASE)
    pages = sorted({0, 1, 2, count - 1, *np.random.default_rng(0).choice(count, 12, replace=False).tolist()})
    for page in pages:
        root = copy_of(whole, tmp_path / str(page))
        make_noise(root / DATABASE, page, size)
        damaged = (root / DATABASE).read_bytes()
        rebuilt: list[Rebuilt] = []
        caplog.clear()
        with maintain(root, on_rebuilt=rebuilt.append) as store:
            assert reconcile(store).differences == (), page
            assert Cases(store).items("C-1") == ["gate-04", "gate-05"], page
            assert set(Cases(store).held()) == {store.tracklet(name).row for name in ("gate-04", "gate-05")}, page
            assert Audit(store).rows()[0].action == "merge"
            assert store.calibration.to_dict() == CALIBRATION.to_dict()
            assert len(store.links()) == 29
            confirmed = [each for each in store.links() if each.state is LinkState.CONFIRMED]
            assert [(each.tracklet_id, each.to_tracklet_id) for each in confirmed] == [("gate-01", "gate-00")], page
            people = Persons(store)
            assert [each.kind for each in people.decisions()] == ["merge", "confirm"], page
            assert [each.state for each in people.all()[:3]] == ["confirmed", "merged", "probable"], page
        if not rebuilt:
            continue  # a page without content: of the list of free ones
        assert (rebuilt[0].set_aside / DATABASE).read_bytes()[:size] == damaged[:size]
        assert [
            record.levelno for record in caplog.records if "set aside" in record.message or "lies in" in record.message
        ]
        after = contents(root)
        assert after.keys() == before.keys()
        for name, values in before.items():
            assert after[name][1:] == values[1:], (page, name)


def test_what_operators_decided_can_be_taken_back_after_the_first_page_is_lost(whole: Path, tmp_path: Path) -> None:
    root = copy_of(whole, tmp_path / "gallery")
    size, count = pages_of(root / DATABASE)
    with Store.edit(root) as store:
        Persons(store).undo(2, EVE)  # the confirmation
    for page in range(count):
        make_noise(root / DATABASE, page, size)  # nothing of the database can be read
    with maintain(root) as store:
        people = Persons(store)
        found = [(each.kind, each.undone_by) for each in people.decisions()]
        assert found == [("merge", None), ("confirm", 3), ("undo", None)]
        assert {each.state for each in store.links()} == {LinkState.PROBABLE}
        assert store.tracklet("gate-03").person_id == 1
        people.undo(1, EVE)
        assert store.tracklet("gate-03").person_id == 2
        assert [each.state for each in people.all()[:2]] == ["probable", "probable"]
        assert reconcile(store).differences == ()


@pytest.mark.parametrize("crash", [False, True])
def test_an_audit_that_aged_begins_where_it_did_whatever_is_lost(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, crash: bool
) -> None:
    aged = copy_of(whole, tmp_path / "aged")
    with Store.edit(aged) as store, monkeypatch.context() as patched:
        if crash:
            patched.setattr(Audit, "copy", lambda self: None)
        assert Audit(store).age(most_bytes=800) == 2
    size, count = pages_of(aged / DATABASE)
    for page in (0, count - 1, None):
        root = copy_of(aged, tmp_path / str(page))
        for each in range(count) if page is None else [page]:
            make_noise(root / DATABASE, each, size)
        rebuilt: list[Rebuilt] = []
        with maintain(root, on_rebuilt=rebuilt.append) as store:
            assert rebuilt
            assert Audit(store).verify().findings == (), page
            first = 1 if crash and page != count - 1 else 3
            assert [row.number for row in Audit(store).rows()][:2] == [first, first + 1], page
            Audit(store).record(EVE, "search", {})
            assert Audit(store).verify().findings == (), page


def test_every_page_with_content_is_noticed(whole: Path, tmp_path: Path) -> None:
    size, count = pages_of(whole / DATABASE)
    root = copy_of(whole, tmp_path / "copy")
    content = (whole / DATABASE).read_bytes()
    free = 0
    for page in range(count):
        (root / DATABASE).write_bytes(content)
        make_noise(root / DATABASE, page, size)
        try:
            Store.maintain(root).close()
            free += 1
        except DamagedGalleryError:
            pass
        for suffix in ("-wal", "-shm"):
            (root / f"{DATABASE}{suffix}").unlink(missing_ok=True)
    with closing(sqlite3.connect(whole / DATABASE)) as database:
        (unused,) = database.execute("PRAGMA freelist_count").fetchone()
    assert free <= unused


def test_a_run_opens_a_damaged_gallery_and_says_so_in_an_event(whole: Path, tmp_path: Path) -> None:
    root = copy_of(whole, tmp_path / "copy")
    make_noise(root / DATABASE, 0, 4096)
    events = EventLog(root, model_id=MODEL, dimension=DIMENSION)
    with open_store(root, model_id=MODEL, dimension=DIMENSION, on_rebuilt=events.tell_rebuilt) as store:
        assert store.counts().accepted == 30
        store.add(sighting_of(tracklet_of("gate-NEW", at=2000)))
    told = [
        json.loads(line)
        for path in (root / "events").glob("*.jsonl")
        for line in path.read_text().splitlines()
        if "gallery_rebuilt" in line
    ]
    assert [(each["type"], each["tracklets"]) for each in told] == [("gallery_rebuilt", 31)]
    assert (root / told[0]["set_aside"] / DATABASE).is_file()


def test_the_command_rebuilds_and_prints_it(whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = copy_of(whole, tmp_path / "copy")
    make_noise(root / DATABASE, 0, 4096)
    assert main(["gallery", "stats", "-g", str(root)]) == 2
    assert "damaged one" in capsys.readouterr().err
    assert main(["gallery", "verify", "-g", str(root), "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["rebuilt"][0]["tracklets"] == 31
    assert answer["differences"] == []
    assert main(["gallery", "stats", "-g", str(root)]) == 0


def test_a_damaged_record_is_lost_alone_and_said(whole: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = copy_of(whole, tmp_path / "copy")
    make_noise(root / DATABASE, 0, 4096)
    record = root / "crops/gate/gate-07/record.json"
    record.write_bytes(record.read_bytes().replace(b'"track_id": 1', b'"track_id": 7'))
    rebuilt: list[Rebuilt] = []
    with caplog.at_level(logging.ERROR), maintain(root, on_rebuilt=rebuilt.append) as store:
        assert store.counts().accepted == 29
    assert rebuilt[0].lost["damaged records"] == 1
    assert "gate-07" in caplog.text


def lose_database(root: Path, how: str) -> None:
    """Missing, empty, opened since by SQLite, or filled with tables that say no model."""
    for suffix in ("", "-wal", "-shm"):
        (root / f"{DATABASE}{suffix}").unlink(missing_ok=True)
    if how != "missing":
        (root / DATABASE).touch()
    if how in ("opened", "tables"):
        with closing(connect(root / DATABASE, read_only=False)) as connection:
            if how == "tables":
                migrate(connection, root / DATABASE, {})


@pytest.mark.parametrize("how", ["missing", "empty", "opened", "tables"])
def test_the_next_run_rebuilds_a_database_that_is_gone_and_removes_nothing(
    whole: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, how: str
) -> None:
    root = copy_of(whole, tmp_path / "copy")
    cases = (root / "cases.json").read_bytes()
    files = {path for path in (root / "crops").rglob("*") if path.is_file()}
    lose_database(root, how)
    rebuilt: list[Rebuilt] = []
    with (
        caplog.at_level(logging.ERROR),
        open_store(
            root, model_id=MODEL, dimension=DIMENSION, calibration=CALIBRATION, on_rebuilt=rebuilt.append
        ) as store,
    ):
        assert store.counts().accepted == 30
        assert set(Cases(store).held()) == {store.tracklet(name).row for name in ("gate-04", "gate-05")}
        assert len(Persons(store).decisions()) == 2
        assert reconcile(store).differences == ()
    assert {path for path in (root / "crops").rglob("*") if path.is_file()} == files
    assert (root / "cases.json").read_bytes() == cases
    assert [each.tracklets for each in rebuilt] == [31]
    assert "rebuilt 31 tracklets" in caplog.text


@pytest.mark.parametrize("how", ["missing", "empty"])
def test_verify_rebuilds_a_database_that_is_gone_and_other_commands_say_so(
    whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], how: str
) -> None:
    root = copy_of(whole, tmp_path / "copy")
    lose_database(root, how)
    for words in (["gallery", "stats"], ["case", "open", "C-2"]):
        assert main([*words, "-g", str(root)]) == 2
    assert main(["gallery", "verify", "-g", str(root), "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert ([each["tracklets"] for each in answer["rebuilt"]], answer["differences"]) == ([31], [])
    assert contents(root).keys() == contents(whole).keys()


def test_another_model_does_not_take_over_a_gallery_whose_database_is_gone(whole: Path, tmp_path: Path) -> None:
    root = copy_of(whole, tmp_path / "copy")
    lose_database(root, "missing")
    with pytest.raises(GalleryMismatchError):
        open_store(root, model_id="other@sha256:fedcba9876543210", dimension=DIMENSION)
    assert len(contents(root)) == 31


@pytest.mark.parametrize("how", ["missing", "empty", "opened"])
def test_a_run_that_was_killed_before_its_first_tracklet_begins_anew(tmp_path: Path, how: str) -> None:
    (tmp_path / "crops/gate/.gate-A.part").mkdir(parents=True)
    lose_database(tmp_path, how)
    with pytest.raises(UsageError, match="no gallery there"):
        maintain(tmp_path)
    with open_store(tmp_path, model_id=MODEL, dimension=DIMENSION) as store:
        store.add(sighting_of(tracklet_of("gate-A")))
        assert reconcile(store).differences == ()


def test_what_was_never_a_gallery_is_not_set_aside(tmp_path: Path) -> None:
    (tmp_path / DATABASE).write_text("frame,id,left,top\n" * 400)
    with pytest.raises(UsageError, match="not a gallery"):
        maintain(tmp_path)
    assert [path.name for path in tmp_path.glob("damaged/*")] == []
    assert (tmp_path / DATABASE).read_text().startswith("frame")


def fill_beside(store: Store, events: EventLog | None, first: int, last: int) -> None:
    for n in range(first, last):
        item = sighting_of(tracklet_of(f"gate-{n:02d}", at=10 * n), person=1 + n, vector=unit(1, n, 2, 3))
        store.add(item)
        if events is not None:
            events.write(item)


def snatched_with_its_log(tmp_path: Path, *, told: bool) -> tuple[Path, dict[str, tuple[object, ...]]]:
    """A gallery as `kill -9` leaves it, all of whose content is in the log; and what it holds."""
    root, killed = tmp_path / "filling", tmp_path / "killed"
    with (
        Store.open(root, model_id=MODEL, dimension=DIMENSION, calibration=CALIBRATION) as store,
        EventLog(root, model_id=MODEL, dimension=DIMENSION) as events,
    ):
        fill_beside(store, events if told else None, 0, 10)
        if told:
            Persons(store).merge(1, 2, EVE)
            Cases(store).open("C-1", "theft", EVE)
            Cases(store).hold("C-1", ["gate-03", "gate-08"], EVE)
            Persons(store).confirm("gate-00", "gate-01", EVE)
        before = contents(root)
        shutil.copytree(root, killed)
    return killed, before


def frames_of(log: Path, page: int = 4096) -> int:
    return (log.stat().st_size - 32) // (page + 24)


def make_noise_in_log(log: Path, frame: int, page: int = 4096) -> None:
    with log.open("r+b") as file:
        file.seek(32 + frame * (page + 24) + 24)
        file.write(np.random.default_rng(frame).bytes(page))


@pytest.mark.parametrize("told", [True, False], ids=["with events", "without events"])
def test_noise_anywhere_in_the_log_loses_no_tracklet_no_decision_and_no_hold(tmp_path: Path, told: bool) -> None:
    killed, before = snatched_with_its_log(tmp_path, told=told)
    frames = frames_of(killed / f"{DATABASE}-wal")
    for frame in sorted({1, frames // 4, frames // 2, frames - 20, frames - 9, frames - 2}):
        root = copy_of(killed, tmp_path / str(frame))
        make_noise_in_log(root / f"{DATABASE}-wal", frame)
        log = (root / f"{DATABASE}-wal").read_bytes()
        rebuilt: list[Rebuilt] = []
        with maintain(root, on_rebuilt=rebuilt.append) as store:
            assert reconcile(store).differences == (), frame
            assert [each.case_id for each in Cases(store).all()] == ["C-1"] * told, frame
            assert {store.tracklet(each).row for each in ("gate-03", "gate-08") if told} == set(Cases(store).held())
            assert [each.kind for each in Persons(store).decisions()] == ["merge", "confirm"] * told, frame
            confirmed = [each.tracklet_id for each in store.links() if each.state is LinkState.CONFIRMED]
            assert confirmed == ["gate-01"] * told, frame
        assert {name: values[1:] for name, values in contents(root).items()} == {
            name: values[1:] for name, values in before.items()
        }, frame
        assert all((each.set_aside / f"{DATABASE}-wal").read_bytes() == log for each in rebuilt), frame
        with maintain(root, on_rebuilt=rebuilt.append):
            assert len(rebuilt) <= 1, "rebuilt once more, with nothing new"


def test_an_older_database_put_back_loses_nothing_new_and_brings_no_one_back(tmp_path: Path) -> None:
    root, older = tmp_path / "gallery", tmp_path / "older.sqlite"
    opened = {"model_id": MODEL, "dimension": DIMENSION, "calibration": CALIBRATION}
    with EventLog(root, model_id=MODEL, dimension=DIMENSION) as events:
        with open_store(root, **opened) as store:  # type: ignore[arg-type]
            fill_beside(store, events, 0, 5)
            Audit(store).record(EVE, "search", {"query": "gate-02"}, subjects=["gate-02"])
        shutil.copyfile(root / DATABASE, older)
        with open_store(root, **opened) as store:  # type: ignore[arg-type]
            fill_beside(store, events, 5, 12)
            Persons(store).merge(6, 7, EVE)
            Cases(store).open("C-1", "theft", EVE)
            Cases(store).hold("C-1", ["gate-01", "gate-11"], EVE)
            erase(store, [store.tracklet("gate-02")], EVE)
    before, kept = contents(root), (root / "cases.json").read_bytes()
    shutil.copyfile(older, root / DATABASE)
    with pytest.raises(BehindGalleryError, match="older"):
        Store.edit(root)
    rebuilt: list[Rebuilt] = []
    with maintain(root, on_rebuilt=rebuilt.append) as store:
        assert reconcile(store).differences == ()
        assert set(Cases(store).held()) == {store.tracklet(name).row for name in ("gate-01", "gate-11")}
        assert [each.kind for each in Persons(store).decisions()] == ["merge"]
        assert [row.action for row in Audit(store).rows()] == [
            "search",
            "merge",
            "case_open",
            "hold",
            "erase",
            "gallery_rebuilt",
        ]
        assert 3 not in {each.person_id for each in Persons(store).all()}
    assert len(rebuilt) == 1
    assert {name: values[1:] for name, values in contents(root).items()} == {
        name: values[1:] for name, values in before.items()
    }
    assert b"gate-02" not in (root / DATABASE).read_bytes()
    assert (root / "cases.json").read_bytes() == kept


def test_an_erasure_is_not_undone_by_an_older_database_even_when_nothing_else_came(tmp_path: Path) -> None:
    with open_store(tmp_path, model_id=MODEL, dimension=DIMENSION, calibration=CALIBRATION) as store:
        fill_beside(store, None, 0, 3)
    older = (tmp_path / DATABASE).read_bytes()
    with maintain(tmp_path) as store:
        erase(store, store.tracklets()[1:], EVE)
    (tmp_path / DATABASE).write_bytes(older)
    with maintain(tmp_path) as store:
        assert [each.tracklet_id for each in store.tracklets()] == ["gate-00"]
        assert reconcile(store).differences == ()


def test_an_erasure_that_was_committed_is_finished_and_no_loss(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (
        open_store(tmp_path, model_id=MODEL, dimension=DIMENSION, calibration=CALIBRATION) as store,
        EventLog(tmp_path, model_id=MODEL, dimension=DIMENSION) as events,
        monkeypatch.context() as patched,
    ):
        fill_beside(store, events, 0, 3)
        patched.setattr("pipeline.erasure.finish", lambda store: 0)  # as when killed here
        erase(store, [store.tracklet("gate-01")], EVE)
        assert (tmp_path / "crops/gate/gate-01/record.json").is_file()
    rebuilt: list[Rebuilt] = []
    with maintain(tmp_path, on_rebuilt=rebuilt.append) as store:
        assert [each.tracklet_id for each in store.tracklets()] == ["gate-00", "gate-02"]
        assert reconcile(store).differences == ()
    assert (rebuilt, list((tmp_path / "damaged").glob("*"))) == ([], [])
    assert not (tmp_path / "crops/gate/gate-01").exists()


def test_a_copy_of_the_audit_alone_makes_no_other_database(tmp_path: Path) -> None:
    """Rows that somebody took out of the database are found, and not put back as if they had been lost."""
    with open_store(tmp_path, model_id=MODEL, dimension=DIMENSION, calibration=CALIBRATION) as store:
        fill_beside(store, None, 0, 2)
        Audit(store).record(EVE, "search", {"query": "gate-00"}, subjects=["gate-00"])
        with store.writing() as db:
            db.execute("DELETE FROM audit")
    rebuilt: list[Rebuilt] = []
    with maintain(tmp_path, on_rebuilt=rebuilt.append) as store:
        assert any("missing from the database" in each for each in Audit(store).verify().findings)
    assert rebuilt == []


def test_a_rebuilt_gallery_that_never_had_an_audit_verifies_clean_at_once(tmp_path: Path) -> None:
    with open_store(tmp_path, model_id=MODEL, dimension=DIMENSION, calibration=CALIBRATION) as store:
        fill_beside(store, None, 0, 3)
    make_noise(tmp_path / DATABASE, 0, 4096)
    with maintain(tmp_path) as store:
        assert reconcile(store).differences == ()
        assert [row.action for row in Audit(store).rows()] == ["gallery_rebuilt"]


def test_searches_that_an_older_database_took_down_are_counted_as_lost(tmp_path: Path) -> None:
    with (
        open_store(tmp_path, model_id=MODEL, dimension=DIMENSION, calibration=CALIBRATION) as store,
        EventLog(tmp_path, model_id=MODEL, dimension=DIMENSION) as events,
    ):
        fill_beside(store, events, 0, 2)
        Audit(store).record(EVE, "search", {"query": "gate-00"}, subjects=["gate-00"])
    older = (tmp_path / DATABASE).read_bytes()
    with open_store(tmp_path, model_id=MODEL, dimension=DIMENSION) as store:
        fill_beside(store, None, 2, 4)
        Audit(store).record(EVE, "export", {"tracklets": ["gate-02"]}, subjects=["gate-02"])
    (tmp_path / DATABASE).write_bytes(older)
    with Store.edit(tmp_path) as store:
        Audit(store).record(EVE, "search", {"query": "gate-01"}, subjects=["gate-01"])
        with EventLog(tmp_path, model_id=MODEL, dimension=DIMENSION) as events:
            events.write(sighting_of(tracklet_of("gate-03", at=30), person=4))  # told of after all
    rebuilt: list[Rebuilt] = []
    with maintain(tmp_path, on_rebuilt=rebuilt.append) as store:
        assert store.counts().accepted == 4
        assert [row.action for row in Audit(store).rows()] == ["search", "export", "gallery_rebuilt"]
        assert Audit(store).verify().findings == ()
    assert rebuilt[0].lost == {"rows of the audit that its copy has otherwise": 1}
