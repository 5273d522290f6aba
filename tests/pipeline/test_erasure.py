"""An erasure leaves nothing: no row, no vector, no image, no event, no name, in no file of the folder."""

import errno
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.audit import Actor, Audit
from pipeline.cases import Cases
from pipeline.cli import main
from pipeline.erasure import erase, finish
from pipeline.errors import ResourceError, UsageError
from pipeline.event_files import EXAMPLES, read_examples
from pipeline.identify import Link
from pipeline.persons import Persons
from pipeline.reconcile import reconcile
from pipeline.recovery import maintain
from pipeline.retention import Retention, RetentionRules
from pipeline.sinks import EventLog
from pipeline.store import Cursor, Store
from reid.embedding import rounded, to_bytes
from reid.modality import Modality
from tests.pipeline.factories import CALIBRATION, rejected_of, sighting_of, tracklet_of

REPOSITORY = Path(__file__).parents[2]
EVE = Actor("eve", purpose="asked to be forgotten")
DIMENSION = 256
MODEL = "tiny@sha256:0123456789abcdef"


def vector(seed: int) -> np.ndarray:
    numbers = np.random.default_rng(seed).normal(size=DIMENSION)
    return np.asarray(rounded(numbers / np.linalg.norm(numbers)))


def fill(root: Path, names: str = "ABCDEFGH") -> None:
    """A gallery with events, pictures, audit, decisions and MOT text; gate-B is linked to gate-A, and so on."""
    with (
        Store.open(root, model_id=MODEL, dimension=DIMENSION, calibration=CALIBRATION) as store,
        EventLog(root, model_id=MODEL, dimension=DIMENSION) as events,
    ):
        store.begin_run()
        for n, name in enumerate(names):
            before = (Link(f"gate-{names[n - 1]}", "gate", Modality.RGB, 0.8, 0.9, cross_modality=False),) if n else ()
            tracklet = tracklet_of(f"gate-{name}", at=10 * n)
            item = sighting_of(tracklet, person=1 + n // 2, vector=vector(n), links=before)
            store.add(item)
            events.write(item)
            Audit(store).record(EVE, "search", {"query": f"gate-{name}"}, subjects=[f"gate-{name}"])
        rejected = rejected_of(tracklet_of("gate-Z", at=500))
        store.add(rejected)
        events.write(rejected)
        Persons(store).merge(1, 2, EVE)
        Persons(store).reject("gate-C", "gate-B", EVE)
    (root / "video").mkdir()
    (root / "video/gate.mp4").write_bytes(b"a film of gate-B")
    (root / "matches.png").write_bytes(b"a picture of gate-B")
    (root / "mot").mkdir()
    frames = [frame for n in range(8) for frame in range(100 * n, 100 * n + 11)]
    boxes = [f"{frame + 1},1,10.00,20.00,20.00,50.00,0.9,-1,-1,-1\n" for frame in frames]
    (root / "mot/gate.txt").write_text("".join(boxes))
    (root / "mot/gate.txt.part").write_text("".join(boxes) + "101,1,10.0")  # of a run that was killed
    pairs = [("A", "Z"), ("B", "Z"), ("C", "D")]
    lines = [json.dumps({"pair": "p", "tracklets": [f"gate-{a}", f"gate-{b}"], "frames": 9}) + "\n" for a, b in pairs]
    (root / EXAMPLES).write_text("".join(lines))


def traces(root: Path, needles: dict[str, bytes]) -> list[str]:
    """Where any of these bytes stands in any file, or name of a file, of the folder."""
    found = []
    for path in sorted(root.rglob("*")):
        content = path.read_bytes() if path.is_file() else b""
        for what, needle in needles.items():
            if needle in content or needle in str(path.relative_to(root)).encode():
                found.append(f"{what} in {path.relative_to(root)}")
    return found


def needles_of(root: Path, name: str, seed: int) -> dict[str, bytes]:
    with Store.read(root) as store:
        crops = {f"crop {n}": path.read_bytes()[200:260] for n, path in enumerate(store.crops(f"gate-{name}"))}
    half = to_bytes(vector(seed))
    return {
        "id": f"gate-{name}".encode(),
        "vector": half[:64],
        "end of vector": half[-64:],
        "vector in float32": vector(seed).tobytes()[:64],
        **crops,
    }


def test_nothing_is_left_of_a_person_in_any_byte_of_any_file(tmp_path: Path) -> None:
    fill(tmp_path)
    # Crops of the factories are alike: only those of this one are to be searched for, so they are made its own.
    for n in range(2):
        path = tmp_path / f"crops/gate/gate-B/{n:03d}.jpg"
        path.write_bytes(path.read_bytes()[:150] + os.urandom(200) + path.read_bytes()[350:])
    needles = needles_of(tmp_path, "B", 1)
    before = traces(tmp_path, needles)
    assert {each.split(" in ")[0] for each in before} == {"id", "vector", "end of vector", "crop 0", "crop 1"}
    with maintain(tmp_path) as store:
        done = erase(store, [store.tracklet("gate-B")], EVE)
    assert (done.tracklets, done.crops, done.events) == (("gate-B",), 2, 1)
    assert done.pictures == ("video", "matches.png")
    assert traces(tmp_path, needles) == []
    with Store.read(tmp_path) as store:
        assert [each.tracklet_id[-1] for each in store.tracklets()] == list("ACDEFGH")
        assert len(store.gallery()) == 7
        assert Audit(store).verify().findings == ()
        rows = Audit(store).rows()
        assert rows[1].details["query"].startswith("subject:")  # what was done stays, to whom is gone
        assert rows[2].details["query"] == "gate-C"
        assert (rows[-1].action, rows[-1].details["tracklets"]) == ("erase", 1)
        assert reconcile(store).differences == ()
    assert traces(tmp_path, {"another": b"gate-C"}) != []


def test_a_search_by_a_picture_of_the_gallery_leaves_no_name_behind_either(tmp_path: Path) -> None:
    fill(tmp_path)
    asked = [f"{tmp_path}/crops/gate/gate-{name}/000.jpg (whole image)" for name in "BC"]
    with Store.edit(tmp_path) as store:
        for each in asked:
            Audit(store).record(EVE, "search", {"query": each}, subjects=[each])
    with maintain(tmp_path) as store:
        erase(store, [store.tracklet("gate-B")], EVE)
        queries = [row.details["query"] for row in Audit(store).rows()[-3:-1]]
        assert Audit(store).verify().findings == ()
    assert queries[0].startswith("subject:")
    assert queries[1] == asked[1]
    assert traces(tmp_path, {"id": b"gate-B"}) == []


def test_the_boxes_of_the_erased_leave_the_mot_text_of_the_last_run(tmp_path: Path) -> None:
    fill(tmp_path)
    with maintain(tmp_path) as store:
        erase(store, [store.tracklet("gate-B")], EVE)
    for name in ("gate.txt", "gate.txt.part"):
        frames = [int(line.split(",")[0]) for line in (tmp_path / "mot" / name).read_text().splitlines()]
        assert frames == [frame + 1 for n in range(8) if n != 1 for frame in range(100 * n, 100 * n + 11)]


def test_confirmed_pairs_go_with_their_tracklets_and_verify_compares_them(tmp_path: Path) -> None:
    fill(tmp_path)
    stale = (tmp_path / EXAMPLES).read_text()
    with maintain(tmp_path) as store:
        erase(store, [store.tracklet("gate-B")], EVE)
        assert list(read_examples(tmp_path)) == [["gate-A", "gate-Z"], ["gate-C", "gate-D"]]
        (tmp_path / EXAMPLES).write_text(stale)
        assert reconcile(store).differences == (
            "pairs.jsonl: a pair with tracklet gate-B, which the database does not have",
        )
        assert reconcile(store, repair=True).differences == ()
        Retention(store, RetentionRules(tracklets_days=1)).age()
        assert not (tmp_path / EXAMPLES).exists()


def test_what_cannot_be_deleted_is_told_remembered_and_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fill(tmp_path)
    folder = tmp_path / "crops/gate/gate-B"
    real = shutil.rmtree

    def refuse(path: Path, *more: Any, **named: Any) -> None:
        if Path(path) == folder:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        real(path, *more, **named)

    monkeypatch.setattr(shutil, "rmtree", refuse)
    with maintain(tmp_path) as store, pytest.raises(ResourceError, match="gate-B: cannot be deleted: Permission"):
        erase(store, [store.tracklet("gate-B")], EVE)
    assert not (tmp_path / "video").exists()  # all else is done
    assert b"gate-B" not in (tmp_path / EXAMPLES).read_bytes()
    assert main(["gallery", "verify", "-g", str(tmp_path), "--quiet"]) == 1
    assert "gate-B: was to be deleted, and could not be" in "".join(capsys.readouterr())
    monkeypatch.undo()
    assert main(["gallery", "verify", "-g", str(tmp_path), "--quiet"]) == 0
    assert not folder.exists()


def test_names_that_no_erasure_took_are_missed(tmp_path: Path) -> None:
    fill(tmp_path)
    with maintain(tmp_path) as store:
        Audit(store).record(EVE, "search", {"query": "gate-B", "answers": ["gate-C"]}, subjects=["gate-B", "gate-C"])
        erase(store, [store.tracklet("gate-B")], EVE)
        assert Audit(store).rows()[-1].details["names"] == 3  # two searches, and a decision
        assert Audit(store).verify().findings == ()
        with store.writing() as db:
            db.execute("DELETE FROM audit_subjects WHERE subject = 'gate-D'")
        (finding,) = Audit(store).verify().findings
        assert "names were taken out of the audit, but erasures took" in finding
        assert any("names were taken" in each for each in reconcile(store).differences)


def test_a_dry_run_says_the_same_and_does_nothing(tmp_path: Path) -> None:
    fill(tmp_path)
    files = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with maintain(tmp_path) as store:
        both = [store.tracklet("gate-E"), store.tracklet("gate-F")]
        planned = erase(store, both, EVE, dry_run=True)
        assert (planned.tracklets, planned.persons, planned.crops) == (("gate-E", "gate-F"), (3,), 4)
        assert planned.pictures == ("video", "matches.png")
    unchanged = {path for path, content in files.items() if path.is_file() and path.read_bytes() == content}
    assert {path.name for path in set(files) - unchanged} <= {"gallery.sqlite-shm", "gallery.sqlite-wal"}
    with maintain(tmp_path) as store:
        done = erase(store, both, EVE)
        assert done == replace(planned, events=2)
        assert 3 not in {each.person_id for each in Persons(store).all()}


def test_an_index_beside_hears_of_it(tmp_path: Path) -> None:
    fill(tmp_path)
    with Store.read(tmp_path) as reader:
        changes = reader.changes_since(Cursor())
        assert len(changes.added) == 8
        with maintain(tmp_path) as store:
            erase(store, [store.tracklet("gate-B")], EVE)
        after = reader.changes_since(changes.cursor)
        assert (after.rebuilt, after.removed, len(after.added)) == (False, (2,), 0)
        assert reader.changes_since(after.cursor).removed == ()


def test_a_reader_in_the_middle_of_something_is_told_of(tmp_path: Path) -> None:
    fill(tmp_path)
    with Store.read(tmp_path) as reader, reader.reading() as db:
        db.execute("BEGIN")
        db.execute("SELECT COUNT(*) FROM tracklets").fetchone()
        with maintain(tmp_path) as store:
            with store.reading() as own:
                own.execute("PRAGMA busy_timeout = 100")
            with pytest.raises(ResourceError, match="old pages stay in its log"):
                erase(store, [store.tracklet("gate-B")], EVE)
            assert len(store.tracklets()) == 7
        db.execute("ROLLBACK")


def test_what_a_case_holds_is_not_erased(tmp_path: Path) -> None:
    fill(tmp_path)
    with maintain(tmp_path) as store:
        cases = Cases(store)
        cases.open("C-1", "theft", EVE)
        cases.hold("C-1", ["gate-B"], EVE, note="seen near the safe")
        with pytest.raises(UsageError, match="gate-B is held by case C-1"):
            erase(store, store.tracklets(), EVE)
        assert len(store.tracklets()) == 8
        cases.close("C-1", EVE)
        needles = needles_of(tmp_path, "B", 1)
        erase(store, [store.tracklet("gate-B")], EVE)
    del needles["crop 0"], needles["crop 1"]  # those of the factories are alike
    assert traces(tmp_path, needles) == []


def test_what_a_case_comes_to_hold_meanwhile_is_not_erased(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmp_path)

    def hold(*_: object) -> list[str]:
        with Store.edit(tmp_path) as beside:
            Cases(beside).open("C-1", "theft", EVE)
            Cases(beside).hold("C-1", ["gate-B"], EVE)
        return []

    monkeypatch.setattr("pipeline.erasure.exports_with", hold)  # between the first look and the transaction
    with maintain(tmp_path) as store:
        with pytest.raises(UsageError, match="gate-B is held by case C-1"):
            erase(store, [store.tracklet("gate-A"), store.tracklet("gate-B")], EVE)
        assert len(store.tracklets()) == 8
        assert Cases(store).items("C-1") == ["gate-B"]
        assert reconcile(store).differences == ()


@pytest.mark.parametrize("act", ["hold", "release"])
def test_what_is_erased_meanwhile_is_neither_held_nor_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, act: str
) -> None:
    fill(tmp_path)
    needles = {"id": b"gate-B"}
    with Store.edit(tmp_path) as store:
        Cases(store).open("C-1", "theft", EVE)
        real = store.writing

        def erased_first() -> AbstractContextManager[sqlite3.Connection]:
            with maintain(tmp_path) as other:
                erase(other, [other.tracklet("gate-B")], EVE)
            return real()

        monkeypatch.setattr(store, "writing", erased_first)
        with pytest.raises(UsageError, match="no tracklet 'gate-B'"):
            getattr(Cases(store), act)("C-1", ["gate-A", "gate-B"], EVE)
        assert Cases(store).items("C-1") == []
    with maintain(tmp_path) as store:
        assert reconcile(store).differences == ()
    assert traces(tmp_path, needles) == []


DIE = """
import os, signal, sys
from pathlib import Path
from pipeline import erasure
from pipeline.audit import Actor
from pipeline.recovery import maintain
setattr(erasure, sys.argv[2], lambda *arguments: os.kill(os.getpid(), signal.SIGKILL))
with maintain(Path(sys.argv[1])) as store:
    erasure.erase(store, [store.tracklet("gate-B")], Actor("eve"))
"""


@pytest.mark.parametrize("where", ["scrub", "_cut_tracks", "leave_no_free_page"])
def test_an_erasure_that_a_crash_cut_short_is_finished_by_the_next_writer(tmp_path: Path, where: str) -> None:
    fill(tmp_path)
    needles = {key: value for key, value in needles_of(tmp_path, "B", 1).items() if "crop" not in key}
    died = subprocess.run([sys.executable, "-c", DIE, str(tmp_path), where], cwd=REPOSITORY, check=False)
    assert died.returncode == -signal.SIGKILL
    assert main(["gallery", "verify", "-g", str(tmp_path), "--quiet"]) == 0
    assert traces(tmp_path, needles) == []
    with maintain(tmp_path) as store:
        assert finish(store) == 0
        assert len(store.tracklets()) == 7
