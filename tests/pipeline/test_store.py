"""The store keeps what was committed, nothing else, and refuses what is not its own."""

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import cv2
import numpy as np
import pytest

from pipeline.crop_files import write_record
from pipeline.errors import GalleryMismatchError, ResourceError, UsageError
from pipeline.identify import Link
from pipeline.reconcile import reconcile
from pipeline.record import RECORD, Record
from pipeline.schema import MIGRATIONS, connect, migrate
from pipeline.store import DATABASE, Cursor, LinkState, Store, TrackletFilter, read_crop
from pipeline.tracklets import Counterpart, Rejection
from reid.embedding import rounded
from reid.gallery import Gallery
from reid.modality import Modality
from tests.pipeline.factories import (
    CALIBRATION,
    DIMENSION,
    MODEL,
    NOON,
    axis,
    open_store,
    rejected_of,
    sighting_of,
    tracklet_of,
    unit,
)

REPOSITORY = Path(__file__).parents[2]


def test_what_goes_in_comes_out_after_the_store_was_closed(tmp_path: Path) -> None:
    first = sighting_of(tracklet_of("gate-A"), person=1, vector=unit(1, 2, 3, 4))
    link = Link("gate-A", "gate", Modality.RGB, 0.8, 0.9, cross_modality=True)
    second = sighting_of(tracklet_of("yard-B", modality=Modality.NIR, at=60), person=1, links=(link,))
    with open_store(tmp_path) as store:
        store.add(first)
        store.add(second)
        store.add(rejected_of(tracklet_of("gate-C", at=5)))
    with Store.read(tmp_path) as store:
        found = store.tracklet("gate-A")
        assert (found.camera_id, found.modality, found.person_id, found.frames) == ("gate", Modality.RGB, 1, 11)
        assert (found.start, found.end) == (NOON, NOON + timedelta(seconds=1))
        assert found.best_crop == tmp_path / "crops/gate/gate-A/001.jpg"
        assert found.quality == pytest.approx(0.6)
        assert store.tracklet("gate-C").rejected is Rejection.TOO_SMALL
        assert np.array_equal(store.embeddings([found.row])[0], first.embedding)
        assert store.cameras() == {"gate": Modality.RGB, "yard": Modality.NIR}
        assert store.calibration.to_dict() == CALIBRATION.to_dict()
        counts = store.counts()
        assert (counts.accepted, counts.rejected, counts.persons, counts.crops) == (2, 1, 1, 6)
        (boxes, _) = store.boxes("gate")
        assert np.array_equal(boxes.xyxy, first.tracklet.xyxy)
        assert np.array_equal(boxes.frame_index, first.tracklet.frame_index)
    with closing(sqlite3.connect(tmp_path / DATABASE)) as database:
        kept = database.execute("SELECT to_tracklet_id, cosine, probability FROM links").fetchall()
    assert kept == [("gate-A", 0.8, 0.9)]


@pytest.mark.parametrize("modality", list(Modality))
def test_crops_are_kept_in_native_pixels_and_16_bits_without_loss(tmp_path: Path, modality: Modality) -> None:
    tracklet = tracklet_of("gate-A", modality=modality)
    smooth = cv2.GaussianBlur(tracklet.crops[0].image, (0, 0), 5)
    with open_store(tmp_path) as store:
        store.add(sighting_of(tracklet))
        image = read_crop(store.crops("gate-A")[0])
    original = tracklet.crops[0].image
    assert (image.shape, image.dtype) == (original.shape, original.dtype)
    if modality is Modality.THERMAL:
        assert np.array_equal(image, original)
    else:
        blurred = cv2.GaussianBlur(image, (0, 0), 5)
        assert np.abs(blurred.astype(int) - smooth.astype(int)).max() < 12  # JPEG, and red is still red


def test_the_index_is_built_from_the_rows(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        assert len(store.gallery()) == 0
        for n, name in enumerate(["gate-A", "gate-B", "gate-C"]):
            store.add(sighting_of(tracklet_of(name, at=10 * n), person=n + 1, vector=axis(n)))
        store.add(rejected_of(tracklet_of("gate-D")))
        ids, cosines = store.gallery().search(axis(1)[None], 3)
        assert ids[0, 0] == store.tracklet("gate-B").row
        assert cosines[0, 0] == pytest.approx(1.0)
        with pytest.raises(KeyError, match="no embedding"):
            store.embeddings([store.tracklet("gate-D").row])


def test_filters_choose_by_camera_modality_time_person_and_rejection(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        store.add(sighting_of(tracklet_of("gate-A", at=0), person=1))
        store.add(sighting_of(tracklet_of("gate-B", at=10), person=2))
        store.add(sighting_of(tracklet_of("yard-C", modality=Modality.THERMAL, at=20), person=1))
        store.add(rejected_of(tracklet_of("gate-D", at=10)))

        def names(wanted: TrackletFilter) -> list[str]:
            return [each.tracklet_id for each in store.tracklets(wanted)]

        assert names(TrackletFilter()) == ["gate-A", "gate-B", "yard-C"]
        assert names(TrackletFilter(cameras=frozenset({"gate"}))) == ["gate-A", "gate-B"]
        assert names(TrackletFilter(cameras=frozenset())) == []
        assert names(TrackletFilter(modalities=frozenset({Modality.THERMAL, Modality.NIR}))) == ["yard-C"]
        assert names(TrackletFilter(start=NOON + timedelta(seconds=11))) == ["gate-B", "yard-C"]
        assert names(TrackletFilter(end=NOON + timedelta(seconds=10))) == ["gate-A"]
        assert names(TrackletFilter(person_id=1)) == ["gate-A", "yard-C"]
        assert names(TrackletFilter(rejected=True)) == ["gate-D"]
        assert names(TrackletFilter(rejected=None, cameras=frozenset({"gate"}))) == ["gate-A", "gate-B", "gate-D"]
        with pytest.raises(ValueError, match="timezone-aware"):
            TrackletFilter(start=NOON.replace(tzinfo=None))


def test_another_model_is_refused_and_both_are_named(tmp_path: Path) -> None:
    open_store(tmp_path).close()
    other = "tiny@sha256:fedcba9876543210"
    with pytest.raises(GalleryMismatchError) as caught:
        Store.open(tmp_path, model_id=other, dimension=DIMENSION)
    assert MODEL in str(caught.value)
    assert other in str(caught.value)
    open_store(tmp_path).close()  # and the lock was let go


def test_the_boxes_of_one_run_can_be_told_from_those_before(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        assert store.last_row == 0
        store.add(sighting_of(tracklet_of("gate-A")))
        before = store.last_row
        store.add(rejected_of(tracklet_of("gate-B")))
        assert [each.tracklet_id for each in store.boxes("gate")] == ["gate-A", "gate-B"]
        assert [each.tracklet_id for each in store.boxes("gate", after_row=before)] == ["gate-B"]


def test_the_runs_that_saw_a_camera_are_counted(tmp_path: Path) -> None:
    names = iter("ABCDEFG")
    for cameras in (["gate", "gate"], [], ["yard"], ["gate"]):  # the second run saw nobody
        with open_store(tmp_path) as store:
            assert store.begin_run() == store.last_row
            for camera in cameras:
                store.add(sighting_of(tracklet_of(f"{camera}-{next(names)}", modality=Modality.RGB)))
    with Store.read(tmp_path) as store:
        assert {camera: store.runs_of(camera) for camera in ("gate", "yard", "hall")} == {
            "gate": 2,
            "yard": 1,
            "hall": 0,
        }


def test_person_numbers_are_never_given_twice(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        assert store.next_person_id == 1
        store.add(sighting_of(tracklet_of("gate-A"), person=7))
    with open_store(tmp_path) as store:
        assert store.next_person_id == 8


def test_what_is_wrong_with_an_item_is_said_and_nothing_of_its_batch_is_kept(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        store.add(sighting_of(tracklet_of("gate-A")))
        good = sighting_of(tracklet_of("gate-B", at=10))
        for bad, reason in [
            (sighting_of(tracklet_of("gate-A")), "stored already"),
            (good, "appears twice"),
            (sighting_of(tracklet_of("gate-../x")), "becomes a folder"),
            (sighting_of(tracklet_of("gate-C", modality=Modality.NIR)), "camera gate is rgb"),
            (sighting_of(tracklet_of("gate-C"), vector=np.ones(DIMENSION, np.float32)), "unit vector"),
            (sighting_of(tracklet_of("gate-C"), vector=np.ones(1, np.float32)), "unit vector"),
        ]:
            with pytest.raises(ValueError, match=reason):
                store.add_all([good, bad])
        assert [each.tracklet_id for each in store.tracklets()] == ["gate-A"]
    assert [path.name for path in (tmp_path / "crops/gate").iterdir()] == ["gate-A"]


def test_a_failed_insert_takes_its_crops_with_it(tmp_path: Path) -> None:
    link = Link("gate-Z", "gate", Modality.RGB, 0.8, 0.9, cross_modality=False)
    with open_store(tmp_path) as store:
        with pytest.raises(sqlite3.IntegrityError):
            store.add(sighting_of(tracklet_of("gate-A"), links=(link, link)))
        assert store.counts().accepted == 0
    assert list((tmp_path / "crops").rglob("*.jpg")) == []


CRASH = """
import os, signal, sys
from pathlib import Path
from tests.pipeline.factories import open_store, sighting_of, tracklet_of
store = open_store(Path(sys.argv[1]))
store.add(sighting_of(tracklet_of("gate-A")))
def die(statement):
    if statement.startswith(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)
store._db.set_trace_callback(die)
store.add(sighting_of(tracklet_of("gate-B", at=10)))
"""


@pytest.mark.parametrize("statement", ["BEGIN", "INSERT INTO crops", "INSERT INTO embeddings", "COMMIT"])
def test_what_was_written_when_a_crash_came_before_its_commit_is_taken_in(tmp_path: Path, statement: str) -> None:
    died = subprocess.run([sys.executable, "-c", CRASH, str(tmp_path), statement], cwd=REPOSITORY, check=False)
    assert died.returncode == -signal.SIGKILL
    assert (tmp_path / "crops/gate/gate-B/000.jpg").is_file()
    part = tmp_path / "crops/gate/.gate-X.part"
    part.mkdir()
    with open_store(tmp_path) as store:
        assert [each.tracklet_id for each in store.tracklets()] == ["gate-A", "gate-B"]
        assert {path.name for path in (tmp_path / "crops/gate").iterdir()} == {"gate-A", "gate-B"}
        assert all(path.is_file() for path in store.crops("gate-A") + store.crops("gate-B"))
        assert len(store.gallery()) == 2


@pytest.mark.parametrize("fault", ["noise in the record", "no record", "no image", "another model"])
def test_a_folder_that_no_row_names_and_that_is_not_whole_is_set_aside(tmp_path: Path, fault: str) -> None:
    with open_store(tmp_path) as store:
        store.add(sighting_of(tracklet_of("gate-A")))
        item = sighting_of(tracklet_of("gate-B", at=10))
        store.add(item)
        with store.writing() as db:
            db.execute("DELETE FROM tracklets WHERE tracklet_id = 'gate-B'")
    folder = tmp_path / "crops/gate/gate-B"
    if fault == "noise in the record":
        (folder / RECORD).write_bytes(b"\x93")
    elif fault == "no image":
        (folder / "001.jpg").unlink()
    else:
        (folder / RECORD).unlink()
    if fault == "another model":
        write_record(tmp_path, Record.of(item, "other@sha256:fedcba9876543210"))
    files = {path.name for path in folder.iterdir()}
    with open_store(tmp_path) as store:
        assert [each.tracklet_id for each in store.tracklets()] == ["gate-A"]
        assert reconcile(store).differences == ()
    assert {path.name for path in tmp_path.glob("damaged/*/crops/gate/gate-B/*")} == files


INSERT = """
import sys
from pathlib import Path
from tests.pipeline.factories import open_store, sighting_of, tracklet_of
store = open_store(Path(sys.argv[1]))
for n in range(100000):
    store.add(sighting_of(tracklet_of(f"gate-{n}", at=10 * n)))
    sys.stdout.write(f"gate-{n}\\n")
    sys.stdout.flush()
"""


def test_kill_9_in_the_middle_of_inserting_loses_nothing_committed(tmp_path: Path) -> None:
    writer = subprocess.Popen([sys.executable, "-c", INSERT, str(tmp_path)], cwd=REPOSITORY, stdout=subprocess.PIPE)
    assert writer.stdout is not None
    with writer.stdout as lines:
        committed = [lines.readline().decode().strip() for _ in range(25)]
        os.kill(writer.pid, signal.SIGKILL)
        committed += lines.read().decode().split("\n")[:-1]
    writer.wait()
    with open_store(tmp_path) as store:
        stored = {each.tracklet_id for each in store.tracklets()}
        assert set(committed) <= stored
        assert len(stored) <= len(committed) + 1  # the last may have committed before it was reported
        assert len(store.gallery()) == len(stored)
        assert {path.name for path in (tmp_path / "crops/gate").iterdir()} == stored


def test_one_writer_and_readers_beside_it(tmp_path: Path) -> None:
    with open_store(tmp_path) as writer:
        with pytest.raises(ResourceError, match="another process is writing"):
            open_store(tmp_path)
        with Store.read(tmp_path) as reader:
            assert reader.tracklets() == []
            writer.add(sighting_of(tracklet_of("gate-A")))
            assert [each.tracklet_id for each in reader.tracklets()] == ["gate-A"]
            with pytest.raises(ResourceError, match="readonly"):
                reader.add(sighting_of(tracklet_of("gate-B")))
            assert not (tmp_path / "crops/gate/gate-B").exists()


def test_a_gallery_in_a_folder_that_may_not_be_written_is_read_without_a_file_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_store(tmp_path) as store:
        store.add(sighting_of(tracklet_of("gate-A")))
    before = sorted(path.name for path in tmp_path.iterdir())
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root, who runs tests in containers, may write
    with Store.read(tmp_path) as reader:
        assert [each.tracklet_id for each in reader.tracklets()] == ["gate-A"]
        assert sorted(path.name for path in tmp_path.iterdir()) == before
    with open_store(tmp_path) as store:  # while somebody writes, the reader must follow
        store.add(sighting_of(tracklet_of("gate-B", at=5)))
        with Store.read(tmp_path) as reader:
            store.add(sighting_of(tracklet_of("gate-C", at=9)))
            assert len(reader.tracklets()) == 3


def beside_the_database(root: Path) -> set[str]:
    return {path.name.removeprefix(DATABASE) for path in root.glob(f"{DATABASE}?*")}


def test_readers_leave_nothing_beside_a_gallery_once_the_last_has_gone(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        store.add(sighting_of(tracklet_of("gate-A")))
    before = (tmp_path / DATABASE).read_bytes()
    with Store.read(tmp_path) as reader:
        Store.read(tmp_path).close()
        assert beside_the_database(tmp_path) == {"-wal", "-shm"}
        assert len(reader.tracklets()) == 1
    assert beside_the_database(tmp_path) == set()
    assert (tmp_path / DATABASE).read_bytes() == before
    with open_store(tmp_path) as writer:
        Store.read(tmp_path).close()
        writer.add(sighting_of(tracklet_of("gate-B", at=5)))
        Store.read(tmp_path).close()
        assert beside_the_database(tmp_path) == {"-wal", "-shm"}
        assert len(writer.tracklets()) == 2
    assert beside_the_database(tmp_path) == set()


def test_readers_leave_a_log_that_a_crash_left_as_it_is(tmp_path: Path) -> None:
    crashed = tmp_path / "crashed"
    with open_store(tmp_path / "alive") as store:
        store.add(sighting_of(tracklet_of("gate-A")))
        shutil.copytree(store.root, crashed, ignore=shutil.ignore_patterns("*-shm"))
    database, log = (crashed / DATABASE).read_bytes(), (crashed / f"{DATABASE}-wal").read_bytes()
    assert log
    with Store.read(crashed) as reader:
        assert len(reader.tracklets()) == 1
    assert (crashed / DATABASE).read_bytes() == database
    assert (crashed / f"{DATABASE}-wal").read_bytes() == log


WITHOUT_ROOM = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
from pipeline.cli import main
commands = ["search", "gate-A"], ["gallery", "list"], ["gallery", "stats"]
print([main([*command, "--gallery", sys.argv[1]]) for command in commands])
"""


def test_a_disk_that_gives_no_room_to_a_reader_is_told_with_what_would_do(tmp_path: Path) -> None:
    """A process that may write no byte stands for the disk: it can be had without being root."""
    with open_store(tmp_path) as store:
        store.add(sighting_of(tracklet_of("gate-A")))
    command = [sys.executable, "-c", WITHOUT_ROOM, str(tmp_path)]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert done.stdout == f"{[ResourceError.exit_code] * 3}\n"
    told = (
        f"error: {tmp_path / DATABASE}: disk I/O error: the disk of {tmp_path} fails, or gives this user no more room"
    )
    lines = done.stderr.splitlines()
    assert [line.partition(" (")[0] for line in lines] == [told] * 3
    for line in lines:
        assert " MB are free); a database needs a little room beside it for reading too: free some, " in line


def test_a_database_that_cannot_grow_is_told_as_the_disk_and_keeps_what_it_had(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        store.add(sighting_of(tracklet_of("gate-A")))
        with store.writing() as db:
            (pages,) = db.execute("PRAGMA page_count").fetchone()
        store._db.execute(f"PRAGMA max_page_count = {pages}")
        told = rf"{tmp_path}: the gallery cannot be written: database or disk is full: the disk of {tmp_path} "
        with pytest.raises(ResourceError, match=told):
            store.add_all([sighting_of(tracklet_of(f"gate-{n}", seconds=60, at=100 * n)) for n in range(1, 9)])
        assert [each.tracklet_id for each in store.tracklets()] == ["gate-A"]


def test_files_that_are_no_gallery_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no gallery there"):
        Store.read(tmp_path)
    (tmp_path / DATABASE).write_text("frame,id,left,top\n" * 400)
    for opening in (open_store, Store.read):
        with pytest.raises(UsageError, match="not a gallery, or a damaged one"):
            opening(tmp_path)
    (tmp_path / DATABASE).unlink()
    with sqlite3.connect(tmp_path / DATABASE) as other:
        other.execute("CREATE TABLE holidays (day TEXT)")
    other.close()
    for opening in (open_store, Store.read):
        with pytest.raises(UsageError, match="another program"):
            opening(tmp_path)


def test_a_gallery_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    open_store(tmp_path).close()
    with sqlite3.connect(tmp_path / DATABASE) as database:
        database.execute("PRAGMA user_version = 99")
    database.close()
    for opening in (open_store, Store.read):
        with pytest.raises(UsageError, match="version 99"):
            opening(tmp_path)


READS: dict[str, Callable[[Store], object]] = {
    "tracklet": lambda store: store.tracklet("gate-A"),
    "tracklets": lambda store: store.tracklets(),
    "boxes": lambda store: store.boxes("gate"),
    "cameras": lambda store: store.cameras(),
    "crops": lambda store: store.crops("gate-A"),
    "embeddings": lambda store: store.embeddings([1]),
    "gallery": lambda store: store.gallery(),
    "known": lambda store: list(store.known()),
    "counts": lambda store: store.counts(),
    "last_row": lambda store: store.last_row,
    "next_person_id": lambda store: store.next_person_id,
}


def zero_all_pages_but_the_first(path: Path) -> None:
    with closing(sqlite3.connect(path)) as database:
        (size,) = database.execute("PRAGMA page_size").fetchone()
    with path.open("r+b") as file:
        file.seek(size)
        file.write(bytes(path.stat().st_size - size))


@pytest.mark.parametrize("read", READS)
def test_damage_met_after_opening_is_told_by_every_read(tmp_path: Path, read: str) -> None:
    with open_store(tmp_path) as store:
        store.add(sighting_of(tracklet_of("gate-A")))
    with Store.read(tmp_path) as store:
        zero_all_pages_but_the_first(tmp_path / DATABASE)
        with pytest.raises(UsageError, match=r"gallery\.sqlite: not a gallery, or a damaged one: .*malformed"):
            READS[read](store)


def test_damage_met_while_writing_is_told_and_leaves_no_crops(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        store.add(sighting_of(tracklet_of("gate-A")))
    with open_store(tmp_path) as store:
        zero_all_pages_but_the_first(tmp_path / DATABASE)
        with store.reading() as db:
            db.execute("PRAGMA shrink_memory")  # opening has looked at every page, and few pages are all remembered
        with pytest.raises(UsageError, match="damaged"):
            store.add(sighting_of(tracklet_of("gate-B")))
    assert not (tmp_path / "crops/gate/gate-B").exists()


@pytest.mark.parametrize(
    ("damage", "read"),
    [
        ("UPDATE cameras SET modality = 'termal'", "tracklets"),
        ("UPDATE cameras SET modality = 'termal'", "cameras"),
        ("UPDATE cameras SET modality = 'termal'", "known"),
        ("UPDATE tracklets SET start_us = -9e18, end_us = 9e18", "tracklet"),
        ("UPDATE tracklets SET start_us = 'noon'", "known"),
        ("UPDATE tracklets SET xyxy = x'000102'", "boxes"),
        ("UPDATE crops SET path = x'00'", "crops"),
        ("UPDATE embeddings SET vector = x'00000000'", "embeddings"),
        ("UPDATE embeddings SET vector = x'00000000'", "gallery"),
        ("UPDATE embeddings SET vector = x'00000000'", "known"),
        ("UPDATE embeddings SET vector = x'0000c07f0000c07f0000c07f0000c07f'", "gallery"),
    ],
)
def test_values_that_nobody_wrote_are_told_as_damage(tmp_path: Path, damage: str, read: str) -> None:
    with open_store(tmp_path) as store:
        store.add(sighting_of(tracklet_of("gate-A")))
    with closing(sqlite3.connect(tmp_path / DATABASE)) as database, database:
        database.execute("PRAGMA ignore_check_constraints = ON")
        database.execute(damage)
    with Store.read(tmp_path) as store, pytest.raises(UsageError, match="not a gallery, or a damaged one"):
        READS[read](store)


@pytest.mark.parametrize(
    "text", ["", '{"format": 1, "pairs"', "[1]", '{"format": 1}', '{"format": 1, "pairs": {"a": 0}}']
)
def test_a_damaged_calibration_is_told(tmp_path: Path, text: str) -> None:
    open_store(tmp_path).close()
    with closing(sqlite3.connect(tmp_path / DATABASE)) as database, database:
        database.execute("UPDATE meta SET value = ? WHERE key = 'calibration'", [text])
    with Store.read(tmp_path) as store, pytest.raises(UsageError, match=r"gallery\.sqlite: .*a damaged one"):
        _ = store.calibration


def test_a_damaged_dimension_is_told(tmp_path: Path) -> None:
    open_store(tmp_path).close()
    with closing(sqlite3.connect(tmp_path / DATABASE)) as database, database:
        database.execute("UPDATE meta SET value = 'four' WHERE key = 'dimension'")
    for opening in (open_store, Store.read):
        with pytest.raises(UsageError, match="a damaged one"):
            opening(tmp_path)


def test_a_missing_crop_or_tracklet_is_named(tmp_path: Path) -> None:
    with pytest.raises(ResourceError, match=r"gone\.jpg"):
        read_crop(tmp_path / "gone.jpg")
    with open_store(tmp_path) as store, pytest.raises(UsageError, match="no tracklet 'gate-Q'"):
        store.tracklet("gate-Q")


def test_a_folder_that_cannot_be_made_is_a_resource_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ResourceError, match="cannot be written"):
        open_store(tmp_path / "file")


def version_1(root: Path) -> dict[str, bytes]:
    """A gallery as the version before wrote it, by the statements of then; the vectors in float32 by name."""
    vectors = {f"gate-{n}": unit(1, n, 2, 3) for n in range(4)}
    with closing(connect(root / DATABASE, read_only=False)) as database:
        database.executescript(MIGRATIONS[0])
        meta = {"model_id": MODEL, "dimension": str(DIMENSION), "calibration": json.dumps(CALIBRATION.to_dict())}
        database.executemany("INSERT INTO meta VALUES (?, ?)", [*meta.items(), ("run:0", "2026-06-01T00:00:00+00:00")])
        database.execute("INSERT INTO cameras VALUES ('gate', 'rgb', 320, 240)")
        database.execute("INSERT INTO persons VALUES (1)")
        for row, (name, vector) in enumerate(vectors.items(), start=1):
            frames = np.arange(3).astype("<i8").tobytes(), np.ones((3, 4), "<f4").tobytes(), np.ones(3, "<f4").tobytes()
            values = [row, name, "gate", 1, row * 10**6, row * 10**6 + 5, "container", 3, *frames, None, 1]
            database.execute("INSERT INTO tracklets VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", values)
            database.execute("INSERT INTO embeddings VALUES (?, ?)", [row, vector.astype("<f4").tobytes()])
            (root / "crops/gate" / name).mkdir(parents=True)
            (root / f"crops/gate/{name}/000.jpg").write_bytes(b"\xff\xd8\xff image")
            crop = [row, 0, f"crops/gate/{name}/000.jpg", 0.25 * row, row * 10**6, 0, 1.0, 2.0, 3.0, 4.0]
            database.execute("INSERT INTO crops VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", crop)
        database.execute("INSERT INTO links VALUES (2, 'gate-0', 0.5, 0.75)")
        database.execute("PRAGMA application_id = 0x58524944")
        database.execute("PRAGMA user_version = 1")
    return {name: vector.tobytes() for name, vector in vectors.items()}


def test_a_gallery_of_version_1_is_brought_up_with_all_that_it_has(tmp_path: Path) -> None:
    vectors = version_1(tmp_path)
    with pytest.raises(UsageError, match="a gallery of version 1, which this program brings up"):
        Store.read(tmp_path)
    open_store(tmp_path).close()
    with Store.read(tmp_path) as store:
        assert [(each.tracklet_id, each.quality) for each in store.tracklets()] == [
            (f"gate-{n}", 0.25 * (n + 1)) for n in range(4)
        ]
        for each in store.tracklets():
            before = np.frombuffer(vectors[each.tracklet_id], "<f4")
            assert np.array_equal(store.embeddings([each.row])[0], rounded(before))
        assert [(each.to_tracklet_id, each.state) for each in store.links()] == [("gate-0", LinkState.PROBABLE)]
        assert store.runs_of("gate") == 1
        found = reconcile(store)
        assert found.differences == ()
        assert [note for note in found.notes if note.startswith("4 images have no digest")]
        assert Record.read(tmp_path / "crops/gate/gate-0/record.json") == store.record("gate-0")
    held = (tmp_path / DATABASE).read_bytes()
    assert not any(vector in held for vector in vectors.values())  # in no free page either


def test_a_gallery_that_was_killed_before_it_was_written_anew_is_so_by_the_next_writer(tmp_path: Path) -> None:
    vectors = version_1(tmp_path)
    with closing(sqlite3.connect(tmp_path / DATABASE, isolation_level=None)) as connection:
        connection.execute("PRAGMA auto_vacuum = NONE")  # as the version of then left it
        connection.execute("VACUUM")
    with closing(connect(tmp_path / DATABASE, read_only=False)) as connection:
        migrate(connection, tmp_path / DATABASE, {})  # and then it was killed
        assert connection.execute("PRAGMA auto_vacuum").fetchone() == (0,)
    open_store(tmp_path).close()
    with closing(connect(tmp_path / DATABASE, read_only=True)) as connection:
        assert connection.execute("PRAGMA auto_vacuum").fetchone() == (2,)
    held = (tmp_path / DATABASE).read_bytes()
    assert not any(vector in held for vector in vectors.values())


def spoil(store: Store, how: str) -> Path:
    """An image of gate-A is made another one, or none, whose beginning is one's."""
    path = store.crops("gate-A")[0]
    content = path.read_bytes()
    if how == "cut off":
        path.write_bytes(content[:8])
    elif how == "another's":
        path.write_bytes(store.crops("gate-B")[1].read_bytes())
    else:
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    return path


@pytest.mark.parametrize("how", ["cut off", "another's", "one bit"])
def test_an_image_that_is_not_the_one_that_was_stored_is_a_difference(tmp_path: Path, how: str) -> None:
    with open_store(tmp_path) as store:
        store.add(sighting_of(tracklet_of("gate-A")))
        store.add(sighting_of(tracklet_of("gate-B", at=10)))
        assert (reconcile(store).differences, reconcile(store).notes) == ((), ())
        path = spoil(store, how)
        (difference,) = reconcile(store).differences
        assert difference.startswith(f"{path}: not the image that was stored")


def test_digests_go_with_the_images_that_age(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        store.add(sighting_of(tracklet_of("gate-A")))
        assert [name for name, _, _ in store.record("gate-A").digests] == ["000.jpg", "001.jpg"]
        with store.writing() as db:
            db.execute("DELETE FROM crops WHERE position = 0")
        assert [name for name, _, _ in store.record("gate-A").digests] == ["001.jpg"]
        with store.writing() as db:
            db.execute("DELETE FROM tracklets")
            assert db.execute("SELECT COUNT(*) FROM images").fetchone() == (0,)


def test_a_migration_that_a_crash_cut_short_begins_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    version_1(tmp_path)
    monkeypatch.setattr("pipeline.schema.MIGRATIONS", (MIGRATIONS[0], MIGRATIONS[1] + "; SELECT no_such_function();"))
    with pytest.raises(ResourceError):
        open_store(tmp_path)
    monkeypatch.undo()
    with open_store(tmp_path) as store:
        assert store.counts().accepted == 4


def test_the_nearest_are_the_same_before_and_after_a_restart(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    raw = rng.normal(size=(300, DIMENSION)).astype(np.float32)
    vectors = rounded(raw / np.linalg.norm(raw, axis=1, keepdims=True))
    live = Gallery(DIMENSION)
    with open_store(tmp_path) as store:
        for first in range(0, 300, 100):
            items = [
                sighting_of(tracklet_of(f"gate-{n}", at=10 * n, crops=0), person=n + 1, vector=vectors[n])
                for n in range(first, first + 100)
            ]
            store.add_all(items)
        live.add(np.arange(1, 301), vectors)
    with Store.read(tmp_path) as store:
        again = store.gallery()
        for kept, fresh in zip(again.search(vectors, 20), live.search(vectors, 20), strict=True):
            assert np.array_equal(kept, fresh)


def test_a_reader_follows_what_is_added(tmp_path: Path) -> None:
    with open_store(tmp_path) as writer, Store.read(tmp_path) as reader:
        nothing = reader.changes_since(Cursor())
        assert (nothing.rebuilt, len(nothing.added), nothing.vectors.shape) == (True, 0, (0, DIMENSION))
        writer.add(sighting_of(tracklet_of("gate-A"), vector=axis(2)))
        writer.add(rejected_of(tracklet_of("gate-B", at=5)))
        first = reader.changes_since(nothing.cursor)
        assert [each.tracklet_id for each in reader.by_rows(first.added.rows)] == ["gate-A"]
        assert np.array_equal(first.vectors, axis(2)[None])
        assert (first.rebuilt, first.removed, first.revised) == (False, (), ())
        writer.add(sighting_of(tracklet_of("gate-C", at=9)))
        assert reader.changes_since(first.cursor).added.rows.tolist() == [3]
        assert reader.changes_since(Cursor()).added.rows.tolist() == [1, 3]
        same = reader.changes_since(reader.changes_since(first.cursor).cursor)
        assert (len(same.added), same.rebuilt) == (0, False)


def test_zones_quality_and_counterparts_are_kept_and_filtered(tmp_path: Path) -> None:
    beside = tracklet_of("dock-X", modality=Modality.THERMAL).crops[0]
    counterpart = Counterpart("dock", Modality.THERMAL, beside.image, beside.captured_at, beside.xyxy)
    tracklet = replace(tracklet_of("gate-A"), zones=("yard", "door", "door"), counterparts=(counterpart,))
    with open_store(tmp_path) as store:
        store.add(sighting_of(tracklet))
        store.add(sighting_of(tracklet_of("gate-B", at=10, crops=1)))

        def names(wanted: TrackletFilter) -> list[str]:
            return [each.tracklet_id for each in store.tracklets(wanted)]

        assert store.tracklet("gate-A").zones == ("door", "yard")
        assert names(TrackletFilter(zones=frozenset({"door", "hall"}))) == ["gate-A"]
        assert names(TrackletFilter(zones=frozenset())) == []
        assert names(TrackletFilter(min_quality=0.55)) == ["gate-A"]
        (found,) = store.counterparts("gate-A")
        assert (found.camera_id, found.modality, found.captured_at) == ("dock", Modality.THERMAL, beside.captured_at)
        assert np.array_equal(read_crop(found.crop), beside.image)
        assert store.counterparts("gate-B") == []
        assert reconcile(store).differences == ()
