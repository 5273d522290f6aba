"""From one gallery into another: an export is a gallery of its own, and two sites' galleries become one.

All rows arrive in one transaction, after all files are in place. Folders that are to come are noted as to be deleted
until then, so that the next writer removes what a transfer that was cut short left. A tracklet that is there already is
left as it is, so that a transfer can be done again when more has come; another one of its name is refused.
"""

import json
import logging
import shutil
import sqlite3
from collections.abc import Iterator, Mapping, Sequence, Set
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.audit import ERASED, MERGED, RESTORED, Actor, Audit, keep_audit_of, mark_of
from pipeline.cases import Cases
from pipeline.crop_files import bytes_of, digest_of, part_of, sync
from pipeline.decision_log import NamedDecision, copy_decisions, insert_decision, named_decisions
from pipeline.erasure import owe
from pipeline.errors import GalleryMismatchError, PipelineError, ResourceError, UsageError
from pipeline.event_files import append_line, read_lines
from pipeline.identify import person_name
from pipeline.record import RECORD, Record, folder_of, from_us
from pipeline.store import Store, StoredTracklet, TrackletFilter, check_names

logger = logging.getLogger(__name__)

_ALIKE = 0.98  # cosine


@dataclass(frozen=True, slots=True)
class Transferred:
    """What came over.

    Attributes:
        tracklets: How many.
        already: How many were there already.
        people: How many persons the tracklets that came show.
        erased: How many stay out, because they were erased here.
        persons: Number in the other gallery, and here: also of who was there already, or is only told of by a decision.
        cameras: Name in the other gallery, and here.
        cases: Names of those with something new.
    """

    tracklets: int
    already: int
    people: int
    persons: Mapping[int, int]
    cameras: Mapping[str, str]
    cases: tuple[str, ...]
    erased: int = 0


def export_gallery(store: Store, tracklets: Sequence[StoredTracklet], folder: Path, actor: Actor) -> Transferred:
    """Write some tracklets as a gallery of its own, with the persons' numbers as they are.

    Raises:
        UsageError: When the folder exists and is not empty, or a name is unfit for a path.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"{folder}: exists and is not an empty folder; choose another")
    names = [each.tracklet_id for each in tracklets]
    Audit(store).record(actor, "export", {"tracklets": names, "folder": str(folder)}, subjects=names)
    try:
        calibration = store.calibration
        with Store.open(folder, model_id=store.model_id, dimension=store.dimension, calibration=calibration) as target:
            return _copy(store, target, tracklets, keep_persons=True, cameras={})
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def merge_galleries(
    store: Store,
    other: Store,
    actor: Actor,
    *,
    cameras: Mapping[str, str] | None = None,
    same_cameras: bool = False,
    restore_erased: bool = False,
) -> Transferred:
    """Take another site's gallery in; its persons get new numbers, so that nobody of the two sites is mixed up.

    Args:
        store: Opened by ``recovery.maintain``.
        other: Only read.
        actor: Who, for the audit.
        cameras: New names for cameras of the other gallery.
        same_cameras: A camera that both know by one name is one camera.
        restore_erased: Take in again what was erased here.

    Raises:
        GalleryMismatchError: When another model filled it.
        UsageError: When two cameras would have one name and nothing says what that means, both galleries have a case of
            one name, or a name is unfit for a path.
    """
    if store.root.resolve() == other.root.resolve():
        raise UsageError(f"{store.root}: a gallery cannot be merged into itself")
    if (store.model_id, store.dimension) != (other.model_id, other.dimension):
        raise GalleryMismatchError(
            f"{store.root}: filled by model {store.model_id}, but {other.root} by model {other.model_id}; reindex one"
            " of them by the other's model first (gallery reindex)"
        )
    renamed = dict(cameras or {})
    _check_cameras(store, other, renamed, same_cameras=same_cameras)
    _check_cases(store, other)
    tracklets = other.tracklets(TrackletFilter(rejected=None))
    audit, here = Audit(store), _names(store)
    erased = audit.erased([each.tracklet_id for each in tracklets]) - here
    taken = tracklets if restore_erased else [each for each in tracklets if each.tracklet_id not in erased]
    done = _copy(other, store, taken, keep_persons=False, cameras=renamed)
    said: dict[str, Any] = {
        "from": str(other.root), "tracklets": done.tracklets, "already": done.already, "cases": list(done.cases),
        "audit": keep_audit_of(other, store.root),
    }  # fmt: skip
    if restore_erased:
        restored = sorted(erased)
        said |= {"restored": restored, RESTORED: [mark_of(name) for name in restored]} if restored else {}
    else:
        done = replace(done, erased=len(erased))
        said |= {"erased_here": len(erased)} if erased else {}
    theirs = Audit(other).marks() - {mark_of(name) for name in _names(store)}
    if theirs:
        said[ERASED] = sorted(theirs)
    audit.record(actor, MERGED, said, subjects=said.get("restored", ()))
    return done


def _check_cameras(store: Store, other: Store, renamed: Mapping[str, str], *, same_cameras: bool) -> None:
    known, coming = store.cameras(), other.cameras()
    unknown = sorted(set(renamed) - set(coming))
    if unknown:
        raise UsageError(f"{other.root}: has no camera {unknown[0]!r}; it has {', '.join(coming) or 'none'}")
    for old, new in renamed.items():
        _check_names(f"--rename-camera {f'{old}={new}'!r}", new)
    taken: dict[str, str] = {}
    for camera, modality in coming.items():
        name = renamed.get(camera, camera)
        if name in known and known[name] is not modality:
            raise UsageError(
                f"camera {name} is {known[name].value} in {store.root}, but {modality.value} in {other.root}"
            )
        if name in known and not same_cameras:
            raise UsageError(
                f"both galleries have a camera {name}: give it another name (--rename-camera {camera}=NEW), or say that"
                " it is one camera (--same-cameras)"
            )
        first = taken.setdefault(name, camera)
        if coming[first] is not modality:
            raise UsageError(f"cameras {first} and {camera} would both be {name}, but are of two modalities")
        if first != camera and not same_cameras:
            raise UsageError(
                f"cameras {first} and {camera} of {other.root} would both be {name}: give one another name"
                f" (--rename-camera {camera}=NEW), or say that they are one camera (--same-cameras)"
            )


def _check_names(where: str | Path, *names: str) -> None:
    try:
        check_names(*names)
    except ValueError as error:
        raise UsageError(f"{where}: {error}") from error


def _check_cases(store: Store, other: Store) -> None:
    """A case that came before has its name and the moment in which it was opened, however it grew since."""
    opened = {each.case_id: each.opened for each in Cases(store).all()}
    for each in Cases(other).all():
        same = opened.get(each.case_id, each.opened) == each.opened
        if not same and Cases(other).items(each.case_id) != Cases(store).items(each.case_id):
            raise UsageError(f"both galleries have a case {each.case_id}: they cannot be told apart once they are one")


def _copy(
    source: Store, target: Store, tracklets: Sequence[StoredTracklet], *, keep_persons: bool, cameras: Mapping[str, str]
) -> Transferred:
    there = _names(target)
    _check_same(source, target, [each.tracklet_id for each in tracklets if each.tracklet_id in there])
    coming = [each for each in tracklets if each.tracklet_id not in there]
    folders = [source.root / folder_of(each.camera_id, each.tracklet_id) for each in coming]
    _check_room(folders, target.root)
    decisions = _decisions(source, target, {each.tracklet_id for each in tracklets})
    mentioned = {person for each in decisions for person in each.people}
    persons = _numbers(target, tracklets, there, mentioned, keep=keep_persons)
    records = [_renamed(source.record(each.tracklet_id), persons, cameras) for each in coming]
    for record in records:
        _check_names(source.root, record.tracklet_id, record.camera_id)
    names = {record.tracklet_id for record in records}
    with _copied(target, dict(zip(folders, records, strict=True))), target.writing() as db:
        db.executemany("DELETE FROM pending WHERE kind = 'folder' AND value = ?", [(r.folder,) for r in records])
        rows = {record.tracklet_id: target.insert(record) for record in records}
        db.executemany("INSERT INTO links VALUES (?, ?, ?, ?, ?)", _links(source, rows, names | there))
        _copy_states(source, db, persons)
        _copy_decisions(db, [each.renamed(persons) for each in decisions])
        cases = _copy_cases(source, db)
    by_name = {record.tracklet_id: record for record in records}
    _copy_events(source.root, target.root, by_name, _Names(persons, cameras, frozenset(names | there)))
    Cases(target).write_copy()
    copy_decisions(target)
    all_cameras = {camera: cameras.get(camera, camera) for camera in {each.camera_id for each in tracklets}}
    people = {record.person_id for record in records if record.person_id is not None}
    return Transferred(len(records), len(tracklets) - len(coming), len(people), persons, all_cameras, tuple(cases))


def _check_same(source: Store, target: Store, names: Sequence[str]) -> None:
    """A tracklet that came before is the same one: its boxes are, whatever it is called and whose it is since."""
    for name in names:
        theirs, ours = source.record(name), target.record(name)
        if _seen(theirs) != _seen(ours) or not _are_alike(theirs.vector, ours.vector):
            raise UsageError(
                f"tracklet {name} of {source.root} ({_told(theirs)}) is another one than tracklet {name} of"
                f" {target.root} ({_told(ours)}): nothing came over. Erase one of them first"
            )


def _seen(record: Record) -> tuple[Any, ...]:
    return (record.modality, record.start_us, record.end_us, record.frame_index, record.xyxy, record.rejected)


def _are_alike(a: bytes | None, b: bytes | None) -> bool:
    """Whether two vectors may be of the same crops: bits differ where two machines embedded them."""
    if a is None or b is None:
        return a is b
    return float(np.frombuffer(a, "<f2").astype("f8") @ np.frombuffer(b, "<f2").astype("f8")) > _ALIKE


def _told(record: Record) -> str:
    return f"camera {record.camera_id}, {from_us(record.start_us).isoformat()}, {record.frames} boxes"


def _check_room(folders: Sequence[Path], root: Path) -> None:
    """Before anything is copied."""
    wanted, free = sum(bytes_of(each) for each in folders if each.is_dir()), shutil.disk_usage(root).free
    if wanted > free:
        raise ResourceError(f"{root}: {wanted / 1e6:.0f} MB are to come, but {free / 1e6:.0f} MB are free; none came")


@contextmanager
def _copied(target: Store, records: Mapping[Path, Record]) -> Iterator[None]:
    """Folders of tracklets in place, around the transaction that names them; on error none is left."""
    folders = [record.folder for record in records.values()]
    with target.writing() as db:
        owe(db, "folder", folders)
    try:
        for source, record in records.items():
            _copy_folder(source, target.root, record)
        yield
    except BaseException as error:
        for folder in folders:
            shutil.rmtree(target.root / folder, ignore_errors=True)
            shutil.rmtree(part_of(target.root / folder), ignore_errors=True)
        with suppress(PipelineError), target.writing() as db:  # else the next writer finds nothing to delete
            db.executemany("DELETE FROM pending WHERE kind = 'folder' AND value = ?", [(each,) for each in folders])
        if isinstance(error, OSError):
            raise ResourceError(f"{target.root}: none came over: {error}") from error
        raise


def _names(store: Store) -> set[str]:
    with store.reading() as db:
        return {name for (name,) in db.execute("SELECT tracklet_id FROM tracklets")}


def _numbers(
    target: Store, tracklets: Sequence[StoredTracklet], there: set[str], mentioned: Set[int], *, keep: bool
) -> dict[int, int]:
    """Persons' numbers here, by their numbers there; who came earlier keeps the number that they got then."""
    people = sorted({each.person_id for each in tracklets if each.person_id is not None} | mentioned)
    if keep or not people:
        return {person: person for person in people}
    numbers: dict[int, int] = {}
    for each in tracklets:
        here = target.tracklet(each.tracklet_id).person_id if each.tracklet_id in there else None
        if here is not None and each.person_id is not None:
            numbers.setdefault(each.person_id, here)
    new = [person for person in people if person not in numbers]
    first = target.reserve_persons(len(new)) if new else 0
    return numbers | dict(zip(new, range(first, first + len(new)), strict=True))


def _renamed(record: Record, persons: Mapping[int, int], cameras: Mapping[str, str]) -> Record:
    camera = cameras.get(record.camera_id, record.camera_id)
    folder = folder_of(camera, record.tracklet_id)

    def moved(path: str) -> str:
        return f"{folder}/{Path(path).name}"

    others = [cameras.get(each[0], each[0]) for each in record.counterparts]
    if len(set(others)) < len(others):  # two that become one: each keeps its picture, under the old name
        others = [each[0] for each in record.counterparts]
    return replace(
        record,
        camera_id=camera,
        person_id=None if record.person_id is None else persons[record.person_id],
        crops=tuple((crop[0], moved(crop[1]), *crop[2:]) for crop in record.crops),
        counterparts=tuple(
            sorted(
                (name, each[1], moved(each[2]), *each[3:])
                for name, each in zip(others, record.counterparts, strict=True)
            )
        ),
    )


def _copy_folder(source: Path, root: Path, record: Record) -> None:
    """Copy images and write the record, whole or not at all; what was not stored so is refused."""
    digests = {digest[0]: digest for digest in record.digests}
    folder = root / record.folder
    part = part_of(folder)
    part.mkdir(parents=True)
    for path in [crop[1] for crop in record.crops] + [each[2] for each in record.counterparts]:
        name = Path(path).name
        shutil.copyfile(source / name, part / name)
        if name in digests and digest_of(part / name) != digests[name]:
            raise UsageError(
                f"{source / name}: not the image that was stored; none came over. gallery verify tells more"
            )
        sync(part / name)
    (part / RECORD).write_bytes(record.to_json())
    sync(part / RECORD)
    sync(part)
    part.rename(folder)
    sync(folder.parent)


def _links(source: Store, rows: Mapping[str, int], known: set[str]) -> Iterator[tuple[Any, ...]]:
    """Links between tracklets that both come, or are there."""
    for link in source.links():
        if link.tracklet_id in rows and link.to_tracklet_id in known:
            yield (rows[link.tracklet_id], link.to_tracklet_id, link.cosine, link.probability, link.state.value)


def _copy_states(source: Store, db: sqlite3.Connection, persons: Mapping[int, int]) -> None:
    """How sure each person is, and who was merged into whom."""
    with source.reading() as there:
        found = there.execute("SELECT person_id, state, merged_into FROM persons WHERE state != 'probable'").fetchall()
    for person, state, into in found:
        if person in persons and (into is None or into in persons):
            both = [persons[each] for each in (person, into) if each is not None]
            db.executemany("INSERT OR IGNORE INTO persons (person_id) VALUES (?)", [(each,) for each in both])
            values = [state, None if into is None else persons[into], persons[person]]
            db.execute("UPDATE persons SET state = ?, merged_into = ? WHERE person_id = ?", values)


def _decisions(source: Store, target: Store, coming: Set[str]) -> list[NamedDecision]:
    """Decisions about what comes, but those that came before."""
    known = {(each.made_us, each.actor, each.kind) for each in named_decisions(target)}
    found = []
    for each in named_decisions(source):
        moved = tuple(entry for entry in each.tracklets if entry[0] in coming)
        links = tuple(entry for entry in each.links if entry[0] in coming and entry[1] in coming)
        if (moved or links) and (each.made_us, each.actor, each.kind) not in known:
            found.append(replace(each, tracklets=moved, links=links))
    return found


def _copy_decisions(db: sqlite3.Connection, decisions: Sequence[NamedDecision]) -> None:
    """As they were made, so that they can be taken back here too; what they did comes with tracklets and links."""
    rows = dict(db.execute("SELECT tracklet_id, row FROM tracklets"))
    (last,) = db.execute("SELECT COALESCE(MAX(decision_id), 0) FROM decisions").fetchone()
    numbers: dict[int, int] = {}
    for number, each in enumerate(decisions, start=last + 1):
        insert_decision(db, each, rows, number=number)
        numbers[each.decision_id] = number
        if each.undoes in numbers:
            db.execute("UPDATE decisions SET undone_by = ? WHERE decision_id = ?", [number, numbers[each.undoes]])


def _copy_cases(source: Store, db: sqlite3.Connection) -> list[str]:
    """Cases with an item that is new here, so that what is held there is held here; returns their names.

    One that came before and was closed here is open again when it is open there and has a new item.
    """
    with source.reading() as there:
        cases = there.execute("SELECT case_id, title, opened_us, closed_us FROM cases").fetchall()
        items = there.execute(
            "SELECT case_id, tracklet_id, added_us, added_by, note FROM case_items JOIN tracklets ON row = tracklet_row"
        ).fetchall()
    rows = dict(db.execute("SELECT tracklet_id, row FROM tracklets"))
    known = set(db.execute("SELECT case_id, tracklet_row FROM case_items"))
    coming = [(case, rows[name], *rest) for case, name, *rest in items if name in rows]
    coming = [item for item in coming if item[:2] not in known]
    wanted = sorted({item[0] for item in coming})
    for case, title, opened, closed in cases:
        if case in wanted:
            db.execute(
                "INSERT INTO cases VALUES (?, ?, ?, ?) ON CONFLICT (case_id) DO UPDATE SET closed_us = NULL"
                " WHERE excluded.closed_us IS NULL",
                [case, title, opened, closed],
            )
    db.executemany("INSERT INTO case_items VALUES (?, ?, ?, ?, ?)", coming)
    return wanted


@dataclass(frozen=True, slots=True)
class _Names:
    """How persons and cameras are called here, and which tracklets are known."""

    persons: Mapping[int, int]
    cameras: Mapping[str, str]
    tracklets: frozenset[str]


def _copy_events(source: Path, target: Path, records: Mapping[str, Record], names: _Names) -> None:
    """Their events, with persons and cameras as they are called here."""
    people = {person_name(there): person_name(here) for there, here in names.persons.items()}
    for path, event in read_lines(source):
        record = records.get(str(event.get("tracklet_id")))
        if record is None:
            continue
        links = [link for link in event.get("links") or [] if link["tracklet_id"] in names.tracklets]
        for link in links:
            link["camera"] = names.cameras.get(link["camera"], link["camera"])
        event |= {"camera": record.camera_id, "person": people.get(str(event.get("person"))), "links": links}
        if event.get("best"):
            event["best"]["crop"] = f"{record.folder}/{Path(event['best']['crop']).name}"
        append_line(target, path.stem, json.dumps(event, ensure_ascii=False, separators=(",", ":")).encode() + b"\n")
