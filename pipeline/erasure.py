"""Taking tracklets out of a gallery: out of database, index, crops, events, pictures and free pages.

The database comes first, in one transaction, and with it a note of what is still to be taken from the files; the note
goes when the files are done. A crash in between leaves the note, and the next writer finishes.

Annotated videos and the contact sheet show people of all tracklets, in strips beside the cameras that saw them, and
cannot be cut without drawing them anew: an erasure removes all of them, and the exported evidence that shows one of the
tracklets. Ageing does not: they have ages of their own. So evidence may show a tracklet whose rows have aged away; an
erasure takes that too when it is told its name.
"""

import json
import logging
import shutil
import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.audit import ERASED, NAMES_TAKEN, Actor, Audit, mark_of
from pipeline.cases import Cases
from pipeline.crop_files import bytes_of, write_record, write_whole
from pipeline.decision_log import scrub_decisions
from pipeline.errors import ResourceError, UndeletedError, UsageError
from pipeline.event_files import scrub, scrub_examples
from pipeline.export_files import exports_with
from pipeline.record import folder_of
from pipeline.store import DATABASE, Store, StoredTracklet

logger = logging.getLogger(__name__)

PICTURES = ("video", "matches.png")
SET_ASIDE = "damaged"


@dataclass(frozen=True, slots=True)
class Erased:
    """What was taken out, or would be.

    Attributes:
        tracklets: Their names, in order of time.
        exported: Names of those that had aged away, and only exported evidence showed.
        persons: Numbers of those of whom nothing is left.
        crops: Images.
        events: Lines of the event log; 0 for a dry run.
        pictures: Annotated videos, contact sheets and exported evidence that show them, relative to the gallery.
        set_aside: Folders of damaged databases, relative to the gallery.
    """

    tracklets: tuple[str, ...]
    exported: tuple[str, ...]
    persons: tuple[int, ...]
    crops: int
    events: int
    pictures: tuple[str, ...]
    set_aside: tuple[str, ...]


def erase(
    store: Store,
    tracklets: Sequence[StoredTracklet],
    actor: Actor,
    *,
    exported: Sequence[str] = (),
    dry_run: bool = False,
) -> Erased:
    """Take tracklets out for good; nothing of them is left in any file of the gallery.

    Args:
        store: Opened by ``Store.maintain``.
        tracklets: Which, accepted or rejected.
        actor: Who, and why, for the audit.
        exported: Names of tracklets that have aged away and that exported evidence shows.
        dry_run: Only say what would go.

    Raises:
        UsageError: When a case holds one of them.
        ResourceError: When a reader kept the database's log from being emptied: the erasure is done but for that, and
            the next one, or ``gallery verify``, finishes it.
    """
    _refuse_held(store, tracklets)
    rows = [each.row for each in tracklets]
    names = [each.tracklet_id for each in tracklets]
    everybody = [*names, *exported]
    pictures = [each for each in PICTURES if (store.root / each).exists()] if everybody else []
    pictures += exports_with(store.root, everybody)
    aside = sorted(f"{SET_ASIDE}/{each.name}" for each in (store.root / SET_ASIDE).glob("*")) if everybody else []
    crops = sum(len(store.crops(name)) for name in names)
    there = tuple(each for each in pictures if (store.root / each).exists())
    planned = Erased(tuple(names), tuple(exported), _left_without(store, rows), crops, 0, there, tuple(aside))
    if dry_run or not everybody:
        return planned
    audit = Audit(store)
    audit.require(actor)
    with store.writing() as db:
        _refuse_held(store, tracklets)  # again: now nobody can hold one
        taken = remove_rows(db, tracklets, redact=True, pictures=[*pictures, *aside])
        owe(db, "tracklet", exported)
        taken += _take_names(db, exported)
        said = {"tracklets": len(everybody), "crops": crops, "persons": list(planned.persons), NAMES_TAKEN: taken}
        audit.append(db, actor, "erase", said | {ERASED: [mark_of(name) for name in everybody]})
    audit.copy()
    events = finish(store)
    _take_late_exports(store, everybody)
    leave_no_free_page(store)
    return replace(planned, events=events)


def remove_rows(
    db: sqlite3.Connection, tracklets: Sequence[StoredTracklet], *, redact: bool, pictures: Sequence[str] = ()
) -> int:
    """Take tracklets out of the database, in the caller's transaction, who calls `finish` when it is committed.

    Args:
        db: In a transaction.
        tracklets: Which.
        redact: Also take their names out of the audit.
        pictures: What else is to go, relative to the gallery.

    Returns:
        How many names went out of the audit.
    """
    names = [each.tracklet_id for each in tracklets]
    rows = [(each.row,) for each in tracklets]
    owe(db, "folder", [folder_of(each.camera_id, each.tracklet_id) for each in tracklets])
    owe(db, "tracklet", names)
    owe(db, "picture", pictures)
    if redact:
        owe(db, "track", _tracks(db, tracklets))
    db.executemany("DELETE FROM links WHERE to_tracklet_id = ?", [(name,) for name in names])
    taken = 0
    if redact:
        taken = _take_names(db, names)
    db.executemany("DELETE FROM tracklets WHERE row = ?", rows)
    db.executemany("INSERT INTO changes (tracklet_row, kind) VALUES (?, 'removed')", rows)
    db.execute("DELETE FROM persons WHERE state != 'merged' AND person_id NOT IN (SELECT person_id FROM tracklets"
               " WHERE person_id IS NOT NULL) AND person_id NOT IN (SELECT merged_into FROM persons WHERE merged_into"
               " IS NOT NULL)")  # fmt: skip
    return taken


def _take_names(db: sqlite3.Connection, names: Sequence[str]) -> int:
    """Out of the audit, also where a search was by a file whose path has one in it; returns how many went."""
    if not names:
        return 0
    taken = db.executemany("DELETE FROM audit_subjects WHERE subject = ?", [(name,) for name in names]).rowcount
    told = db.execute("SELECT token, subject FROM audit_subjects WHERE subject GLOB '*[ /]*'").fetchall()
    named = [(token,) for token, subject in told if any(name in subject for name in names)]
    return taken + db.executemany("DELETE FROM audit_subjects WHERE token = ?", named).rowcount


def owe(db: sqlite3.Connection, kind: str, values: Iterable[str]) -> None:
    """Note, in the transaction that changes the database, what `finish` will do to the files."""
    db.executemany("INSERT OR IGNORE INTO pending VALUES (?, ?)", [(kind, value) for value in values])


def finish(store: Store) -> int:
    """Do to the files what the database says is still to be done; returns how many lines of the event log went.

    Raises:
        UndeletedError: When some cannot be deleted: all else is done, and the next writer tries those again.
    """
    with store.reading() as db:
        rows = db.execute("SELECT kind, value FROM pending").fetchall()
    if not rows:
        return 0
    pending = {kind: [value for other, value in rows if other == kind] for kind, _ in rows}
    errors = {
        (kind, name): error
        for kind in ("folder", "picture")
        for name in pending.get(kind, ())
        if (error := _remove(store.root / name)) is not None
    }
    lines = scrub(store.root, set(pending.get("tracklet", ())))
    scrub_examples(store.root, set(pending.get("tracklet", ())))
    _cut_tracks(store.root, [json.loads(track) for track in pending.get("track", ())])
    sizes = [(size, name) for name in pending.get("images", ()) if (size := remove_unnamed_images(store, name))]
    store.rewrite_records(pending.get("record", ()))
    if "tracklet" in pending:
        Cases(store).write_copy()
        scrub_decisions(store, set(pending["tracklet"]))
    with store.writing() as db:
        db.executemany("UPDATE tracklets SET disk_bytes = ? WHERE tracklet_id = ?", sizes)
        done = [row for row in rows if row not in errors]
        db.executemany("DELETE FROM pending WHERE kind = ? AND value = ?", done)
    if errors:
        (_, name), error = next(iter(errors.items()))
        more = f", and {len(errors) - 1} more" if len(errors) > 1 else ""
        raise UndeletedError(
            f"{store.root / name}: cannot be deleted{more}: {error.strerror or error}; the gallery remembers it, and"
            " gallery verify tries again"
        ) from error
    return lines


def remove_unnamed_images(store: Store, tracklet_id: str) -> int:
    """Remove images that no row names, bring the record up to the rows; returns the bytes left, 0 when all is gone."""
    if not store.has(tracklet_id):
        return 0
    record = store.record(tracklet_id)
    folder = store.root / record.folder
    for path in folder.glob("*"):
        if path.suffix in (".jpg", ".png") and path.name not in record.images:
            path.unlink()
    write_record(store.root, record)
    return bytes_of(folder)


def leave_no_free_page(store: Store) -> None:
    """Write the database anew and empty its log, so that no old page is left in either.

    Raises:
        ResourceError: When a reader, in this process or another, holds an old page.
    """
    with store.reading() as db:
        db.execute("VACUUM")
        (busy, _, _) = db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    if busy:
        raise ResourceError(
            f"{store.root / DATABASE}-wal: somebody reads the gallery, and old pages stay in its log until they stop; "
            "then run gallery verify, which empties it"
        )


def _take_late_exports(store: Store, tracklet_ids: Sequence[str]) -> None:
    """Remove what was begun to be exported since it was looked for: now the rows are gone, no other can come."""
    if late := exports_with(store.root, tracklet_ids):
        with store.writing() as db:
            owe(db, "picture", late)
        finish(store)


def _refuse_held(store: Store, tracklets: Iterable[StoredTracklet]) -> None:
    held = Cases(store).held()
    found = [(each.tracklet_id, held[each.row]) for each in tracklets if each.row in held]
    if found:
        name, case = found[0]
        more = f", and {len(found) - 1} more are held" if len(found) > 1 else ""
        raise UsageError(f"tracklet {name} is held by case {case}{more}: release it or close the case first")


def _left_without(store: Store, rows: Sequence[int]) -> tuple[int, ...]:
    """Persons all of whose tracklets are among these."""
    gone = set(rows)
    with store.reading() as db:
        found = db.execute("SELECT person_id, row FROM tracklets WHERE person_id IS NOT NULL").fetchall()
    touched = {person for person, row in found if row in gone}
    return tuple(sorted(touched - {person for person, row in found if row not in gone}))


def _tracks(db: sqlite3.Connection, tracklets: Sequence[StoredTracklet]) -> list[str]:
    """Camera, track id and frames of those of the last run, whose MOT text numbers the frames as they do."""
    runs = db.execute("SELECT MAX(CAST(substr(key, 5) AS INTEGER)) FROM meta WHERE key LIKE 'run:%'").fetchone()[0]
    found: list[str] = []
    for each in tracklets:
        if each.row > (runs or 0):
            track, frames = db.execute(
                "SELECT track_id, frame_index FROM tracklets WHERE row = ?", [each.row]
            ).fetchone()
            found.append(json.dumps([each.camera_id, track, np.frombuffer(frames, "<i8").tolist()]))
    return found


def _cut_tracks(root: Path, tracks: Sequence[Any]) -> None:
    """Take the boxes of these tracks at these frames out of the MOT text."""
    for camera in sorted({track[0] for track in tracks}):
        gone = {b"%d,%d" % (frame + 1, number) for name, number, frames in tracks if name == camera for frame in frames}
        whole, part = root / "mot" / f"{camera}.txt", root / "mot" / f"{camera}.txt.part"  # part: of a killed run
        lines_of = {path: path.read_bytes().splitlines(keepends=True) for path in (whole, part) if path.is_file()}
        for path, lines in lines_of.items():  # whole first: it is written by way of part, which is written anew
            kept = [line for line in lines if line.endswith(b"\n") and b",".join(line.split(b",")[:2]) not in gone]
            if kept != lines or path == part:
                write_whole(path, b"".join(kept))


def _remove(path: Path) -> OSError | None:
    """Remove a file or a folder, if it is there; returns why it could not be."""
    try:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    except FileNotFoundError:
        return None  # somebody else was faster
    except OSError as error:
        return error
    return None
