"""Whether database, records, crops, events, index and audit say the same: every difference is named."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pipeline.audit import Audit
from pipeline.crop_files import digest_of
from pipeline.decision_log import copy_differs, rewrite_decisions
from pipeline.erasure import remove_unnamed_images
from pipeline.errors import DamagedGalleryError, UsageError
from pipeline.event_files import EXAMPLES, read_examples, read_lines, scrub, scrub_examples
from pipeline.export_files import DONE, all_exports, all_shown, exports_with, note_path, read_note, zip_path
from pipeline.record import CROPS, RECORD, Digest, Record
from pipeline.schema import check_pages, snapshot
from pipeline.store import DATABASE, Counts, Store
from pipeline.witnesses import DECISIONS_COPY

_JPEG, _PNG = b"\xff\xd8\xff", b"\x89PNG"


@dataclass(frozen=True, slots=True)
class Reconciled:
    """What a comparison found.

    Attributes:
        tracklets: Accepted and rejected.
        vectors: In the index, built from the database.
        crops: Images that rows name.
        audit: Rows.
        differences: In words; empty when all agree.
        notes: What is worth knowing and no difference.
        repaired: What was put right, in words.
    """

    tracklets: int
    vectors: int
    crops: int
    audit: int
    differences: tuple[str, ...]
    notes: tuple[str, ...]
    repaired: tuple[str, ...]


def reconcile(store: Store, *, repair: bool = False, alone: bool = True) -> Reconciled:
    """Compare everything with everything.

    Args:
        store: Opened by ``recovery.maintain`` where nobody fills the gallery: what a crash left is gone then.
        repair: Bring records, images and events up to the database, which is the truth; needs a store that can write.
        alone: Whether nobody fills the gallery. Beside a run, only what the database had when this began is compared
            with its files, and what went meanwhile is left out.
    """
    try:
        with store.reading() as db:
            check_pages(db, store.root / DATABASE, thorough=True)
            broken = db.execute("PRAGMA foreign_key_check").fetchall()
    except DamagedGalleryError as error:
        return Reconciled(0, 0, 0, 0, (str(error),), (), ())
    repaired = list(_repair(store)) if repair else []
    differences = [f"a row of {table} points at nothing in {parent}" for table, _, parent, _ in broken]
    counts, vectors = _counts(store)
    differences += [text for name in _names(store) for text in _of_one(store, name)]
    if alone:
        differences += [*_folder_differences(store), *_event_differences(store), *_undone(store)]
        differences += _export_differences(store)
        if copy_differs(store):
            differences.append(f"{DECISIONS_COPY}: says something else than the database")
    verdict = Audit(store).verify()
    differences += [f"audit: {finding}" for finding in verdict.findings]
    if vectors != counts.accepted:
        differences.append(f"{counts.accepted} accepted tracklets, but {vectors} vectors in the index")
    notes = (*verdict.notes, *_without_digest(store), *(_notes(store) if alone else ()))
    total = counts.accepted + counts.rejected
    return Reconciled(total, vectors, counts.crops, verdict.rows, tuple(differences), notes, tuple(repaired))


def _counts(store: Store) -> tuple[Counts, int]:
    """Of one moment."""
    with store.reading() as db, snapshot(db):
        return store.counts(), len(store.gallery())


def _repair(store: Store) -> Iterator[str]:
    for name in _names(store):
        record = store.record(name)
        if _record_differs(store, record) or _stray_images(store, record):
            remove_unnamed_images(store, name)
            yield f"record and images of {name}"
    if copy_differs(store):
        rewrite_decisions(store)
        yield DECISIONS_COPY
    known = set(_names(store))
    stray = {str(event["tracklet_id"]) for _, event in read_lines(store.root) if "tracklet_id" in event} - known
    if stray:
        yield f"{scrub(store.root, stray)} events of tracklets that are gone"
    for path in exports_with(store.root, erased) if (erased := _erased_in_exports(store)) else ():
        (store.root / path).unlink(missing_ok=True)
        yield f"{path}, of a tracklet that was erased"
    stray = {name for names in read_examples(store.root) for name in names} - known
    if stray:
        yield f"{scrub_examples(store.root, stray)} pairs of tracklets that are gone"


def _erased_in_exports(store: Store) -> set[str]:
    """Names that exports show and neither gallery nor audit knows; the audit keeps those that have aged away."""
    names = {each.tracklet_id for each in all_shown(store.root)}
    with store.reading() as db:
        forgetful = db.execute("SELECT 1 FROM audit WHERE action IN ('audit_aged', 'gallery_rebuilt') LIMIT 1")
        if forgetful.fetchone() is not None:
            return set()
        known = {name for (name,) in db.execute("SELECT subject FROM audit_subjects")}
    return {each for each in names - known if not store.has(each)}


def _export_differences(store: Store) -> Iterator[str]:
    erased = _erased_in_exports(store)
    for each in all_exports(store.root):
        path = note_path(store.root, each.export_id)
        try:
            note = read_note(path)
        except (OSError, ValueError):
            yield f"{store.root / each.files[0]}: nobody knows whom it shows: there is no note of it that can be read"
            continue
        if erased.intersection(note.names):
            yield f"{path}: an export of a tracklet that was erased"
        if note.state == DONE and not zip_path(store.root, each.export_id).exists() and path.exists():
            yield f"{path}: its zip is gone"


def _names(store: Store) -> list[str]:
    with store.reading() as db:
        return [name for (name,) in db.execute("SELECT tracklet_id FROM tracklets ORDER BY row")]


def _of_one(store: Store, name: str) -> list[str]:
    """Differences of one tracklet; none when it went meanwhile."""
    try:
        record = store.record(name)
    except UsageError as error:
        if isinstance(error, DamagedGalleryError):
            raise
        return []
    found = [text for text in (_record_differs(store, record), _stray_images(store, record)) if text]
    if (record.vector is None) != (record.rejected is not None):
        found.append(f"{name}: {'accepted without' if record.vector is None else 'rejected with'} a vector")
    digests = {digest[0]: digest for digest in record.digests}
    found += [
        text
        for path in record.image_paths
        if (text := _image_differs(store.root / path, digests.get(Path(path).name))) is not None
    ]
    return found if found and store.has(name) and store.record(name) == record else []


def _record_differs(store: Store, record: Record) -> str | None:
    path = store.root / record.folder / RECORD
    try:
        return None if Record.read(path) == record else f"{path}: says something else than the database"
    except FileNotFoundError:
        return f"{path}: missing"
    except (ValueError, TypeError):
        return f"{path}: damaged"


def _stray_images(store: Store, record: Record) -> str | None:
    folder = store.root / record.folder
    stray = sorted(path for path in folder.glob("*") if path.name not in record.images | {RECORD})
    return f"{stray[0]}: no row names it" if stray else None


def _image_differs(path: Path, stored: Digest | None) -> str | None:
    try:
        with path.open("rb") as file:
            head = file.read(4)
        now = None if stored is None else digest_of(path)
    except OSError:
        return f"{path}: the database names it, but it is not there"
    if not head.startswith((_JPEG, _PNG)):
        return f"{path}: not an image any more"
    if stored is None or now == stored:
        return None
    return f"{path}: not the image that was stored: {now and now[1]} bytes, then {stored[1]}"


def _folder_differences(store: Store) -> Iterator[str]:
    known = set(_names(store))
    for folder in sorted((store.root / CROPS).glob("*/*")):
        if folder.name not in known:
            yield f"{folder}: a tracklet that the database does not have"


def _event_differences(store: Store) -> Iterator[str]:
    known = set(_names(store))
    for path, event in read_lines(store.root):
        name = event.get("tracklet_id")
        if name is not None and name not in known:
            yield f"{path}: an event of tracklet {name}, which the database does not have"
    for name in sorted({name for names in read_examples(store.root) for name in names} - known):
        yield f"{EXAMPLES}: a pair with tracklet {name}, which the database does not have"


def _undone(store: Store) -> Iterator[str]:
    """What an erasure, or ageing, could not do to the files."""
    with store.reading() as db:
        rows = db.execute("SELECT kind, value FROM pending WHERE kind IN ('folder', 'picture') ORDER BY value")
        for _, value in rows.fetchall():
            yield f"{store.root / value}: was to be deleted, and could not be"


def _without_digest(store: Store) -> Iterator[str]:
    with store.reading() as db:
        (count,) = db.execute(
            "SELECT COUNT(*) FROM (SELECT tracklet_row, path FROM crops UNION ALL SELECT tracklet_row, path FROM"
            " counterparts) LEFT JOIN images USING (tracklet_row, path) WHERE sha256 IS NULL"
        ).fetchone()
    if count:
        yield f"{count} images have no digest, as an older version stored them: only their beginnings were looked at"


def _notes(store: Store) -> Iterator[str]:
    aged = {each.tracklet_id for each in all_shown(store.root) if not store.has(each.tracklet_id)}
    if aged:
        yield f"{len(aged)} tracklets are shown by exports alone; gallery erase reaches them by name, camera or time"
    said = {event.get("tracklet_id") for _, event in read_lines(store.root)}
    silent = set(_names(store)) - said
    if said and silent:
        yield f"{len(silent)} tracklets have no event: a crash or a full disk came between database and event log"
