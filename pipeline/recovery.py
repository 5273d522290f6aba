"""A damaged or lost database: found, set aside, never deleted, and rebuilt from what lies beside it, loudly.

The records beside the crops give every tracklet with its vector and its person; the event log gives the links; the
copies of audit, cases and decisions give those; ``gallery.json`` gives the model. What the damaged file still says is
taken where it can be read: row numbers, the states of links. The file has no checksums of its own, so nothing of it is
believed that the records contradict. So it is with one that is whole but has lost what the files know
(``pipeline.witnesses``): an older one that was put back, or one whose log was damaged.
"""

import json
import logging
import shutil
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pipeline.audit import PROGRAM, Audit, begin_after_ageing, forget_untold_names
from pipeline.cases import Cases
from pipeline.crop_files import sync
from pipeline.decision_log import NamedDecision, copy_decisions, insert_decision, read_decisions, rewrite_decisions
from pipeline.erasure import SET_ASIDE, finish
from pipeline.errors import BehindGalleryError, DamagedGalleryError, PipelineError, UndeletedError, UsageError
from pipeline.event_files import read_lines
from pipeline.record import CROPS, RECORD, Record
from pipeline.reserve import Reserve
from pipeline.schema import (
    DATABASE,
    MIGRATIONS,
    check_pages,
    check_version,
    connect,
    gallery_errors,
    migrate,
    transaction,
)
from pipeline.store import IDENTITY, LOCK, Store, has_records, set_aside, take_lock
from pipeline.witnesses import AUDIT_COPY, CASES_COPY, DECISIONS_COPY, check_current
from reid.calibration import Calibration

logger = logging.getLogger(__name__)

_REBUILDING = f"{DATABASE}.rebuilding"


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """What became of a damaged database.

    Attributes:
        set_aside: Folder of the damaged files; empty when there were none.
        tracklets: How many were rebuilt.
        links: How many links.
        audit: How many rows of the audit.
        lost: What could not be read any more, by kind.
    """

    set_aside: Path
    tracklets: int
    links: int
    audit: int
    lost: dict[str, int]


def open_store(
    root: Path,
    *,
    model_id: str,
    dimension: int,
    calibration: Calibration | None = None,
    on_rebuilt: Callable[[Rebuilt], None] = lambda rebuilt: None,
) -> Store:
    """As ``Store.open``, but a damaged or lost database is rebuilt, and an erasure that a crash cut short ends.

    Args:
        root: See ``Store.open``.
        model_id: See ``Store.open``.
        dimension: See ``Store.open``.
        calibration: See ``Store.open``; its curves take the place of those that the gallery has had so far.
        on_rebuilt: Told when the database had to be rebuilt.
    """

    def opening() -> Store:
        return Store.open(root, model_id=model_id, dimension=dimension, calibration=calibration)

    store = _opened(root, opening, on_rebuilt)
    try:
        if calibration is not None:
            _calibrate(store, calibration)
    except BaseException:
        store.close()
        raise
    return store


def _calibrate(store: Store, calibration: Calibration) -> None:
    """Give the gallery, whose curves every search takes, those of the run that fills it; the audit says so."""
    before, after = store.calibration.to_dict()["pairs"], store.calibration.replaced(calibration).to_dict()
    changed = sorted(name for name, curve in after["pairs"].items() if before.get(name) != curve)
    if not changed:
        return
    audit = Audit(store)
    with store.writing() as db:
        db.execute("INSERT OR REPLACE INTO meta VALUES ('calibration', ?)", [json.dumps(after)])
        audit.append(db, PROGRAM, "calibrate", {"changed": changed})
    audit.copy()
    store.write_identity()
    logger.warning("%s: probabilities have other curves from now on: %s", store.root, ", ".join(changed))


def maintain(root: Path, *, on_rebuilt: Callable[[Rebuilt], None] = lambda rebuilt: None) -> Store:
    """As ``Store.maintain``, with the same care as `open_store`."""
    return _opened(root, lambda: Store.maintain(root), on_rebuilt)


def _opened(root: Path, opening: Callable[[], Store], on_rebuilt: Callable[[Rebuilt], None]) -> Store:
    if root.is_dir():
        Reserve(root).release_if_full()
    _finish_replacing(root)
    try:
        _check_current(root)
        store = opening()
    except DamagedGalleryError as error:
        if not has_records(root) and not isinstance(error, BehindGalleryError):
            raise  # it never was a gallery, or there is nothing to rebuild it from
        logger.error("%s", error)  # the message is for the operator
        rebuilt = rebuild(root, behind=isinstance(error, BehindGalleryError))
        on_rebuilt(rebuilt)
        store = opening()
    try:
        try:
            finish(store)
        except UndeletedError as error:
            logger.error("%s", error)  # no reason not to open; gallery verify names it
        Cases(store).write_copy()  # a crash may have come between it and the database
        copy_decisions(store)
    except BaseException:
        store.close()
        raise
    return store


def _check_current(root: Path) -> None:
    """Look before a writer opens the database: closing it, that one would remove a log whose rest is to be kept."""
    path = root / DATABASE
    if not path.is_file() or not path.stat().st_size:
        return
    try:
        with closing(connect(path, read_only=True)) as connection, gallery_errors(path):
            version = check_version(connection, path, least=0)
            if version == 0 and has_records(root):
                raise BehindGalleryError(
                    f"{path}: a damaged gallery: it is empty, but the tracklets' records are there"
                )
            if version == len(MIGRATIONS):
                check_current(root, connection)
    except BehindGalleryError:
        raise
    except PipelineError:
        pass  # the opening says it better


def rebuild(root: Path, *, behind: bool = False) -> Rebuilt:
    """Set the database aside and make a new one from what lies beside it.

    Args:
        root: Of the gallery.
        behind: The database is whole, but older than the files: what it says is believed of no tracklet that is gone
            from them, for that was erased, or aged, since.

    Raises:
        ResourceError: When another process fills the gallery.
        UsageError: When nothing says which model filled it.
    """
    with take_lock(root / LOCK):
        aside = _copy_aside(root)
        salvage = _Salvage(aside / DATABASE)
        (root / _REBUILDING).unlink(missing_ok=True)
        builder = _Builder(root, salvage, behind=behind)
        with closing(builder.connection):
            builder.build()
            builder.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        for suffix in ("-wal", "-shm"):
            (root / f"{_REBUILDING}{suffix}").unlink(missing_ok=True)
        sync(root / _REBUILDING)
        _replace(root)
        for folder in builder.unfit:
            if folder.is_dir():
                set_aside(folder, aside)
        _bring_up_copies(root)
    lost = {kind: count for kind, count in builder.lost.items() if count}
    logger.error(
        "%s: what is left of the database lies in %s; rebuilt %d tracklets, %d links, %d rows of the audit; lost: %s",
        root, aside, builder.tracklets, builder.links, builder.audit, lost or "nothing that is known",
    )  # fmt: skip
    return Rebuilt(aside, builder.tracklets, builder.links, builder.audit, lost)


def _copy_aside(root: Path) -> Path:
    """Copy, not move: until the new file is whole, the old one keeps its place, so that a crash changes nothing.

    The copies of cases and decisions are written anew when all is done, so they are kept too.
    """
    folder = root / SET_ASIDE / datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
    folder.mkdir(parents=True)
    for name in (DATABASE, f"{DATABASE}-wal", CASES_COPY, DECISIONS_COPY):
        source = root / name
        if source.is_file():
            shutil.copyfile(source, folder / source.name)
            sync(folder / source.name)
    return folder


def _bring_up_copies(root: Path) -> None:
    """Of what could be rebuilt: nothing in them is to tell of a loss again."""
    with closing(connect(root / DATABASE, read_only=False)) as connection:
        store = Store.over(root, connection)
        Audit(store).copy()
        Cases(store).write_copy()
        rewrite_decisions(store)


def _replace(root: Path) -> None:
    """Put the rebuilt file in place. A log beside it would be that of the damaged one: it goes first."""
    marker = root / f"{_REBUILDING}.whole"
    (root / _REBUILDING).rename(marker)
    sync(root)
    _finish_replacing(root)


def _finish_replacing(root: Path) -> None:
    """What `_replace` does once the new file is whole; a crash in between is made good by the next opening."""
    marker = root / f"{_REBUILDING}.whole"
    if marker.is_file():
        for suffix in ("-wal", "-shm"):
            (root / f"{DATABASE}{suffix}").unlink(missing_ok=True)
        marker.replace(root / DATABASE)
        sync(root)


class _Salvage:
    """Whatever can still be read of a damaged file."""

    def __init__(self, path: Path) -> None:
        self._db: sqlite3.Connection | None = None
        self._path = path
        with suppress(sqlite3.Error):
            connection = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)  # its log stays as it is
            connection.text_factory = str
            self._db = connection

    def rows(self, table: str, columns: Sequence[str], key: str) -> list[tuple[Any, ...]]:
        """Rows from the front up to the damage, and from the back up to it."""
        found: dict[Any, tuple[Any, ...]] = {}
        for order in ("ASC", "DESC"):
            statement = f"SELECT {', '.join(columns)} FROM {table} ORDER BY {key} {order}"  # noqa: S608  # our own names
            for row in self._until_damage(statement):
                found.setdefault(row, row)
        return list(found)

    def _until_damage(self, statement: str) -> Iterator[tuple[Any, ...]]:
        with suppress(sqlite3.Error, UnicodeError, OverflowError):
            if self._db is not None:
                yield from self._db.execute(statement)

    def close(self) -> None:
        if self._db is not None:
            self._db.close()
        self._path.with_name(f"{self._path.name}-shm").unlink(missing_ok=True)


class _Builder:
    """Fills a new database."""

    def __init__(self, root: Path, salvage: _Salvage, *, behind: bool = False) -> None:
        self._root = root
        self._salvage = salvage
        self._behind = behind
        self.unfit: list[Path] = []
        self.lost: Counter[str] = Counter()
        self.tracklets = self.links = self.audit = 0
        self._pending = salvage.rows("pending", ("kind", "value"), "kind")
        self._records, damaged = _read_records(root)
        erased = {value for kind, value in self._pending if kind == "tracklet"}
        self._records = [record for record in self._records if record.tracklet_id not in erased]
        self.lost["damaged records"] = damaged
        meta = self._identity()
        self._model_id, self._dimension = meta["model_id"], int(meta["dimension"])
        self.connection = connect(root / _REBUILDING, read_only=False)
        with gallery_errors(root / _REBUILDING):
            migrate(self.connection, root / _REBUILDING, meta)

    def build(self) -> None:
        """Everything in one transaction."""
        with gallery_errors(self._root / _REBUILDING), transaction(self.connection):
            self._meta()
            self._tracklets()
            self._persons()
            self._links()
            self._cases()
            self._decisions()
            self._audit()
            if self._behind:
                self._forget_the_erased()
        check_pages(self.connection, self._root / _REBUILDING, thorough=True)
        self._salvage.close()

    def _identity(self) -> dict[str, str]:
        known = {str(key): str(value) for key, value in self._salvage.rows("meta", ("key", "value"), "key")}
        with suppress(OSError, ValueError):
            known |= json.loads((self._root / IDENTITY).read_text(encoding="utf-8"))
        with_vector = [each for each in self._records if each.vector is not None]
        if with_vector and not {"model_id", "dimension"} <= known.keys():
            models = Counter((each.model_id, len(each.vector or b"") // 2) for each in with_vector)
            (model_id, dimension), _ = models.most_common(1)[0]
            known |= {"model_id": model_id, "dimension": str(dimension)}
        if not {"model_id", "dimension"} <= known.keys():
            raise UsageError(f"{self._root}: neither database nor {IDENTITY} nor any record says which model filled it")
        return {key: known[key] for key in ("model_id", "dimension", "calibration") if key in known}

    def _meta(self) -> None:
        for row in self._pending:
            self._try("INSERT OR IGNORE INTO pending VALUES (?, ?)", row)
        known = dict(self._salvage.rows("meta", ("key", "value"), "key"))
        keep = {key: value for key, value in known.items() if str(key).startswith("run:")} | {"records": "1"}
        self.connection.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", keep.items())
        stamp = int(datetime.now(UTC).timestamp() * 1e6)  # unlike any generation that an index may have followed
        self.connection.execute("UPDATE meta SET value = ? WHERE key = 'generation'", [str(stamp)])

    def _tracklets(self) -> None:
        found = self._salvage.rows("tracklets", ("row", "tracklet_id"), "row")
        rows = {name: row for row, name in dict(found).items() if isinstance(row, int) and 0 < row < 2**53}
        of_model = (self._model_id, 2 * self._dimension)
        store = Store.over(self._root, self.connection)
        arrival = {event.get("tracklet_id"): n for n, (_, event) in enumerate(read_lines(self._root))}
        late = len(arrival)
        self._records.sort(key=lambda each: (arrival.get(each.tracklet_id, late), each.end_us, each.tracklet_id))
        free = max(rows.values(), default=0) + 1
        for record in self._records:
            if record.vector is not None and (record.model_id, len(record.vector)) != of_model:
                self.lost["vectors of another model"] += 1
                self.unfit.append(self._root / record.folder)
                continue
            row = rows.pop(record.tracklet_id, None)
            if row is None:
                row, free = free, free + 1
            try:
                store.insert(record, row=row)
                self.tracklets += 1
            except (sqlite3.IntegrityError, ValueError):  # such as a name that leads out of the gallery
                self.lost["tracklets"] += 1
                self.unfit.append(self._root / record.folder)
        known = {each.tracklet_id for each in self._records}
        self.lost["events without a record"] = len({name for name in arrival if name and name not in known})

    def _persons(self) -> None:
        for person, state, into in self._salvage.rows("persons", ("person_id", "state", "merged_into"), "person_id"):
            self._try("INSERT OR IGNORE INTO persons (person_id) VALUES (?)", [person])
            self._try("UPDATE persons SET state = ?, merged_into = ? WHERE person_id = ?", [state, into, person])
        sequence = [
            seq for name, seq in self._salvage.rows("sqlite_sequence", ("name", "seq"), "rowid") if name == "persons"
        ]
        for highest in sequence:
            self._try("UPDATE sqlite_sequence SET seq = MAX(seq, ?) WHERE name = 'persons'", [highest])

    def _forget_the_erased(self) -> None:
        """An older database names whom it has not heard to be gone."""
        tracklets = "(SELECT tracklet_id FROM tracklets)"
        self.connection.execute(f"DELETE FROM links WHERE to_tracklet_id NOT IN {tracklets}")  # noqa: S608
        self.connection.execute(f"DELETE FROM audit_subjects WHERE subject NOT IN {tracklets}")  # noqa: S608
        forget_untold_names(self.connection)
        self.connection.execute(
            "DELETE FROM persons WHERE state != 'merged' AND person_id NOT IN (SELECT person_id FROM tracklets"
            " WHERE person_id IS NOT NULL UNION SELECT merged_into FROM persons WHERE merged_into IS NOT NULL)"
        )

    def _links(self) -> None:
        rows = dict(self.connection.execute("SELECT tracklet_id, row FROM tracklets"))
        columns = ("tracklet_row", "to_tracklet_id", "cosine", "probability", "state")
        for link in self._salvage.rows("links", columns, "tracklet_row"):
            self._try("INSERT OR IGNORE INTO links VALUES (?, ?, ?, ?, ?)", link)
        for _, event in read_lines(self._root):
            row = rows.get(str(event.get("tracklet_id")))
            for link in (event.get("links") or []) if row is not None else []:
                values = [row, link["tracklet_id"], link["cosine"], link["p_same"]]
                self._try("INSERT OR IGNORE INTO links VALUES (?, ?, ?, ?, 'probable')", values)
        (self.links,) = self.connection.execute("SELECT COUNT(*) FROM links").fetchone()

    def _cases(self) -> None:
        rows = dict(self.connection.execute("SELECT tracklet_id, row FROM tracklets"))
        with suppress(OSError, ValueError, KeyError):
            kept = json.loads((self._root / CASES_COPY).read_text(encoding="utf-8"))
            for case in kept["cases"]:
                self._try("INSERT OR IGNORE INTO cases VALUES (?, ?, ?, ?)", case)
            for case_id, name, *rest in kept["items"]:
                if not self._try(
                    "INSERT OR IGNORE INTO case_items VALUES (?, ?, ?, ?, ?)", [case_id, rows.get(name), *rest]
                ):
                    self.lost["items of cases"] += 1

    def _decisions(self) -> None:
        self._copied_decisions()
        columns = ("decision_id", "made_us", "actor", "kind", "purpose", "effects", "undone_by")
        for decision in sorted(self._salvage.rows("decisions", columns, "decision_id"), key=str):
            self._try("INSERT OR IGNORE INTO decisions VALUES (?, ?, ?, ?, ?, ?, NULL)", decision[:6])
        for decision in self._salvage.rows("decisions", columns, "decision_id"):
            if decision[6] is not None:
                self._try("UPDATE decisions SET undone_by = ? WHERE decision_id = ?", [decision[6], decision[0]])

    def _copied_decisions(self) -> None:
        """From the copy, by name; and what they did to links and persons that nothing else told of."""
        rows = dict(self.connection.execute("SELECT tracklet_id, row FROM tracklets"))
        known = {number for (number,) in self._salvage.rows("decisions", ("decision_id",), "decision_id")}
        for each in read_decisions(self._root):
            with suppress(sqlite3.Error, KeyError, ValueError, TypeError):
                self._decided(each, rows)
                if self._behind and each.decision_id not in known:
                    self._move(each)

    def _decided(self, decision: NamedDecision, rows: Mapping[str, int]) -> None:
        insert_decision(self.connection, decision, rows, number=decision.decision_id)
        self._try("UPDATE decisions SET undone_by = ? WHERE decision_id = ?", [decision.decision_id, decision.undoes])
        for name, other, _, after in decision.links:
            self._relink(rows.get(name), other, after)
        for person, _, (state, into) in decision.persons:
            self._try("INSERT OR IGNORE INTO persons (person_id) VALUES (?)", [person])
            self._try("UPDATE persons SET state = ?, merged_into = ? WHERE person_id = ?", [state, into, person])

    def _move(self, decision: NamedDecision) -> None:
        """A crash may have come between a decision and the records of those whom it moved."""
        for name, before, after in decision.tracklets:
            self._try("INSERT OR IGNORE INTO persons (person_id) VALUES (?)", [after])
            values = [after, name, before]
            self._try("UPDATE tracklets SET person_id = ? WHERE tracklet_id = ? AND person_id = ?", values)
            self._try("INSERT OR IGNORE INTO pending VALUES ('record', ?)", [name])

    def _relink(self, row: int | None, other: str, value: Sequence[Any] | None) -> None:
        if row is None:
            return
        self._try("DELETE FROM links WHERE tracklet_row = ? AND to_tracklet_id = ?", [row, other])
        if value is not None:
            self._try("INSERT INTO links VALUES (?, ?, ?, ?, ?)", [row, other, *value])

    def _audit(self) -> None:
        """From the copy, which nobody erases; a row that only the database had comes from there."""
        lines = (self._root / AUDIT_COPY).read_bytes().splitlines() if (self._root / AUDIT_COPY).is_file() else []
        for line in lines:
            with suppress(ValueError):
                self._try("INSERT OR IGNORE INTO audit VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", json.loads(line))
        columns = ("number", "at_us", "actor", "action", "case_id", "purpose", "details", "previous", "hash")
        copied = dict(self.connection.execute("SELECT number, hash FROM audit"))
        for row in self._salvage.rows("audit", columns, "number"):
            self.lost["rows of the audit that its copy has otherwise"] += copied.get(row[0], row[-1]) != row[-1]
            self._try("INSERT OR IGNORE INTO audit VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", row)
        for row in self._salvage.rows("audit_subjects", ("token", "salt", "subject"), "token"):
            self._try("INSERT OR IGNORE INTO audit_subjects VALUES (?, ?, ?)", row)
        begin_after_ageing(self.connection)
        (self.audit,) = self.connection.execute("SELECT COUNT(*) FROM audit").fetchone()
        said = {"tracklets": self.tracklets, "lost": {kind: count for kind, count in self.lost.items() if count}}
        Audit(Store.over(self._root, self.connection)).append(self.connection, PROGRAM, "gallery_rebuilt", said)

    def _try(self, statement: str, values: Iterable[Any]) -> bool:
        """Whether a salvaged row was fit to be kept: what breaks a rule of the tables is noise."""
        try:
            self.connection.execute(statement, list(values))
        except (sqlite3.Error, OverflowError, UnicodeError):
            return False
        return True


def _read_records(root: Path) -> tuple[list[Record], int]:
    """All that can be read, and how many cannot."""
    records, damaged = [], 0
    for path in sorted((root / CROPS).glob(f"*/*/{RECORD}")):
        try:
            records.append(Record.read(path))
        except (ValueError, TypeError, OSError):
            logger.exception("%s: a damaged record; its tracklet is lost, its folder is left", path)
            damaged += 1
    return records, damaged
