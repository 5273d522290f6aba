"""Whether database, records, crops, events, index and audit say the same: every difference is named."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pipeline.audit import Audit
from pipeline.errors import DamagedGalleryError
from pipeline.event_files import read_lines, scrub
from pipeline.record import CROPS, RECORD, Record
from pipeline.retention import remove_unnamed_images
from pipeline.schema import check_pages
from pipeline.store import DATABASE, Store

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


def reconcile(store: Store, *, repair: bool = False) -> Reconciled:
    """Compare everything with everything.

    Args:
        store: Opened by ``recovery.maintain`` where nobody fills the gallery (what a crash left is gone then), or for
            reading beside a run.
        repair: Bring records, images and events up to the database, which is the truth; needs a store that can write.
    """
    try:
        with store.reading() as db:
            check_pages(db, store.root / DATABASE, thorough=True)
            broken = db.execute("PRAGMA foreign_key_check").fetchall()
    except DamagedGalleryError as error:
        return Reconciled(0, 0, 0, 0, (str(error),), (), ())
    repaired = list(_repair(store)) if repair else []
    differences = [f"a row of {table} points at nothing in {parent}" for table, _, parent, _ in broken]
    differences += [*_row_differences(store), *_folder_differences(store), *_event_differences(store)]
    verdict = Audit(store).verify()
    differences += [f"audit: {finding}" for finding in verdict.findings]
    counts = store.counts()
    vectors = len(store.gallery())
    if vectors != counts.accepted:
        differences.append(f"{counts.accepted} accepted tracklets, but {vectors} vectors in the index")
    notes = [*verdict.notes, *_notes(store)]
    total = counts.accepted + counts.rejected
    return Reconciled(
        total, vectors, counts.crops, verdict.rows, tuple(differences), tuple(notes), tuple(repaired)
    )  # fmt: skip


def _repair(store: Store) -> Iterator[str]:
    for name in _names(store):
        if _differs(store, name) or _images_differ(store, name):
            remove_unnamed_images(store, name)
            yield f"record and images of {name}"
    known = set(_names(store))
    stray = {str(event["tracklet_id"]) for _, event in read_lines(store.root) if "tracklet_id" in event} - known
    if stray:
        yield f"{scrub(store.root, stray)} events of tracklets that are gone"


def _names(store: Store) -> list[str]:
    with store.reading() as db:
        return [name for (name,) in db.execute("SELECT tracklet_id FROM tracklets ORDER BY row")]


def _differs(store: Store, name: str) -> str | None:
    record = store.record(name)
    path = store.root / record.folder / RECORD
    try:
        return None if Record.read(path) == record else f"{path}: says something else than the database"
    except FileNotFoundError:
        return f"{path}: missing"
    except (ValueError, TypeError):
        return f"{path}: damaged"


def _images_differ(store: Store, name: str) -> str | None:
    """Of images that no row names; None when there is none."""
    record = store.record(name)
    named = {crop[1] for crop in record.crops} | {each[2] for each in record.counterparts}
    folder = store.root / record.folder
    stray = [path for path in sorted(folder.glob("*")) if path.name != RECORD and _relative(store, path) not in named]
    return f"{stray[0]}: no row names it" if stray else None


def _row_differences(store: Store) -> Iterator[str]:
    for name in _names(store):
        differs = _differs(store, name) or _images_differ(store, name)
        if differs:
            yield differs
        record = store.record(name)
        if (record.vector is None) != (record.rejected is not None):
            yield f"{name}: {'accepted without' if record.vector is None else 'rejected with'} a vector"
        for path in [crop[1] for crop in record.crops] + [each[2] for each in record.counterparts]:
            yield from _image_differences(store.root / path)


def _image_differences(path: Path) -> Iterator[str]:
    try:
        with path.open("rb") as file:
            head = file.read(4)
    except OSError:
        yield f"{path}: the database names it, but it is not there"
        return
    if not head.startswith((_JPEG, _PNG)):
        yield f"{path}: not an image any more"


def _folder_differences(store: Store) -> Iterator[str]:
    known = set(_names(store))
    for folder in sorted((store.root / CROPS).glob("*/*")):
        if folder.name not in known and not folder.name.endswith(".part"):
            yield f"{folder}: a tracklet that the database does not have"


def _event_differences(store: Store) -> Iterator[str]:
    known = set(_names(store))
    for path, event in read_lines(store.root):
        name = event.get("tracklet_id")
        if name is not None and name not in known:
            yield f"{path}: an event of tracklet {name}, which the database does not have"


def _notes(store: Store) -> Iterator[str]:
    said = {event.get("tracklet_id") for _, event in read_lines(store.root)}
    silent = set(_names(store)) - said
    if said and silent:
        yield f"{len(silent)} tracklets have no event: a crash came between database and event log"


def _relative(store: Store, path: Path) -> str:
    return path.relative_to(store.root).as_posix()
