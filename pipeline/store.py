"""The truth on disk: tracklets, crops, embeddings and people in one SQLite file beside a folder of images.

A tracklet's crops and its record (``pipeline.record``) are written to a hidden folder, synced and renamed before the
transaction that names them commits. So a row never points at a missing image; images that no row names are what a crash
left, and the next writer removes them.

``synchronous=FULL``: a committed tracklet survives a power cut, and not only ``kill -9``. It costs one more sync a
batch of tracklets, which is little beside those of the crops. Embeddings have half precision, to which they were
rounded before anybody compared them (``reid.embedding``): who is nearest does not change after a restart.
"""

import fcntl
import json
import logging
import re
import shutil
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import numpy as np
from numpy.typing import NDArray

from pipeline.crop_files import bytes_of, part_of, read_crop, sync, sync_all, write_images, write_record, write_whole
from pipeline.errors import GalleryMismatchError, ResourceError, UsageError
from pipeline.identify import KnownTracklet, Sighting
from pipeline.record import CROPS, RECORD, Record, crop_path, from_us
from pipeline.schema import (
    DATABASE,
    MIGRATIONS,
    check_pages,
    check_version,
    connect,
    database_errors,
    gallery_errors,
    migrate,
    snapshot,
    transaction,
)
from pipeline.stored import (
    Changes,
    Counts,
    Cursor,
    LinkState,
    PersonState,
    StoredCounterpart,
    StoredLink,
    StoredTracklet,
    TrackletBoxes,
    TrackletFilter,
)
from pipeline.tracklets import RejectedTracklet, Rejection, Tracklet
from reid.calibration import Calibration
from reid.embedding import checksum, from_bytes
from reid.gallery import Gallery
from reid.modality import Modality

__all__ = [
    "DATABASE",
    "IDENTITY",
    "LOCK",
    "Changes",
    "Counts",
    "Cursor",
    "LinkState",
    "PersonState",
    "Store",
    "StoredCounterpart",
    "StoredLink",
    "StoredTracklet",
    "TrackletBoxes",
    "TrackletFilter",
    "crop_path",
    "read_crop",
    "take_lock",
]

logger = logging.getLogger(__name__)

LOCK = "gallery.lock"
IDENTITY = "gallery.json"
_ROWS_AT_ONCE = 1024
_RUN = "run:"  # and the greatest row before it: a key of the table meta, whose value is when the run began
_SAFE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")

_RECORD_COLUMNS = (
    "tracklet_id", "camera_id", "modality", "width", "height", "track_id", "start_us", "end_us", "time_source",
    "frames", "frame_index", "xyxy", "confidence", "rejected", "person_id", "zones", "quality",
)  # fmt: skip
_SELECT = """
    SELECT t.row, t.tracklet_id, t.camera_id, c.modality, t.start_us, t.end_us, t.person_id, t.rejected, t.frames,
           b.path, t.quality, t.zones
    FROM tracklets t JOIN cameras c USING (camera_id)
    LEFT JOIN crops b ON b.tracklet_row = t.row AND b.position =
        (SELECT position FROM crops WHERE tracklet_row = t.row ORDER BY quality DESC, position LIMIT 1)
"""


class Store:
    """A gallery on disk. One writer at a time; any number of readers beside it.

    A ``Store`` belongs to the thread that opened it; another thread opens its own with ``Store.read``.
    """

    def __init__(self, root: Path, connection: sqlite3.Connection, lock: IO[bytes] | None) -> None:
        self.root = root
        self._db = connection
        self._lock = lock
        self.model_id = self._meta("model_id")
        self.dimension = int(self._meta("dimension"))

    @classmethod
    def open(cls, root: Path, *, model_id: str, dimension: int, calibration: Calibration | None = None) -> Self:
        """Open to fill; make the store when there is none, and clear up after a crash.

        Args:
            root: Folder of the database and the crops; made when absent.
            model_id: Of the extractor whose vectors come in, ``<name>@sha256:<16 hex>``.
            dimension: Of those vectors.
            calibration: Of that model; kept in a new store, so that stored vectors can be searched without the model.

        Raises:
            GalleryMismatchError: When another model filled it.
            ResourceError: When another process fills it, or the folder cannot be written.
            UsageError: When the file is not a gallery, is a damaged one, or is one of a newer version.
        """
        meta = {"model_id": model_id, "dimension": str(dimension)}
        if calibration is not None:
            meta["calibration"] = json.dumps(calibration.to_dict())
        store = cls._locked(root, meta)
        try:
            store._check_model(model_id, dimension)
        except BaseException:
            store.close()
            raise
        return store

    @classmethod
    def maintain(cls, root: Path) -> Self:
        """Open an existing store alone, as `open` does, but whatever model filled it: to erase, age or merge.

        Raises:
            ResourceError: When another process fills it, or the folder cannot be written.
            UsageError: When there is none, or the file is not a gallery, a damaged one, or one of a newer version.
        """
        _require(root)
        return cls._locked(root, {})

    @classmethod
    def edit(cls, root: Path) -> Self:
        """Open an existing store for what an operator decides and for the audit, beside a process that fills it.

        Raises:
            UsageError: When there is none, the file is not a gallery, or is one of another version.
        """
        return cls._beside(root, read_only=False)

    @classmethod
    def read(cls, root: Path) -> Self:
        """Open an existing store for reading only.

        Raises:
            UsageError: When there is none, the file is not a gallery, or is one of another version.
        """
        return cls._beside(root, read_only=True)

    @classmethod
    def over(cls, root: Path, connection: sqlite3.Connection) -> Self:
        """Over a connection that the caller keeps: for a database that is being rebuilt."""
        return cls(root, connection, None)

    @classmethod
    def _locked(cls, root: Path, meta: dict[str, str]) -> Self:
        try:
            (root / CROPS).mkdir(parents=True, exist_ok=True)
            lock = take_lock(root / LOCK)
        except OSError as error:
            raise ResourceError(f"{root}: the gallery cannot be written: {error.strerror or error}") from error
        try:
            connection = connect(root / DATABASE, read_only=False)
            try:
                check_pages(connection, root / DATABASE)
                with gallery_errors(root / DATABASE):
                    if migrate(connection, root / DATABASE, meta):
                        connection.execute("VACUUM")  # what the older version deleted may lie in free pages
                    store = cls(root, connection, lock)
                store._remove_orphans()
                store.write_missing_records()
                store.write_identity()
            except BaseException:
                connection.close()
                raise
        except BaseException:
            lock.close()
            raise
        return store

    @classmethod
    def _beside(cls, root: Path, *, read_only: bool) -> Self:
        _require(root)
        path = root / DATABASE
        connection = connect(path, read_only=read_only)
        try:
            with gallery_errors(path):
                check_version(connection, path, least=len(MIGRATIONS))
                return cls(root, connection, None)
        except BaseException:
            connection.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file and let the next writer in; a second call does nothing."""
        self._db.close()
        if self._lock is not None:
            self._lock.close()

    def begin_run(self) -> int:
        """Note that a run begins, so that its tracklets can be told from those before.

        Returns:
            The greatest row before it.

        Raises:
            ResourceError: When the disk is full or fails.
        """
        before = self.last_row
        with self._reading(), transaction(self._db):
            self._db.execute(
                "INSERT OR REPLACE INTO meta VALUES (?, ?)", [f"{_RUN}{before}", datetime.now(UTC).isoformat()]
            )
        return before

    def runs_of(self, camera_id: str) -> int:
        """How many of the runs that filled this store have tracklets of a camera."""
        with self._reading():
            keys = self._db.execute("SELECT key FROM meta WHERE key LIKE ?", [f"{_RUN}%"]).fetchall()
            begins = np.array(sorted(int(key.removeprefix(_RUN)) for (key,) in keys), np.int64)
            rows = self._db.execute("SELECT row FROM tracklets WHERE camera_id = ?", [camera_id]).fetchall()
        return len({int(np.searchsorted(begins, row)) for (row,) in rows})

    def add(self, item: Sighting | RejectedTracklet) -> None:
        """Keep one sighting, or one rejected tracklet with its reason; see `add_all`."""
        self.add_all([item])

    def add_all(self, items: Sequence[Sighting | RejectedTracklet]) -> None:
        """Keep all of these or, on error, none.

        Raises:
            ValueError: When a tracklet is stored already, its name is unfit for a path, its camera changed modality, or
                an embedding is not a unit vector of the store's dimension.
            ResourceError: When the disk is full or fails.
            UsageError: When the file turns out to be damaged.
        """
        names = [item.tracklet.tracklet_id for item in items]
        if len(set(names)) < len(names):
            raise ValueError("a tracklet appears twice among those to be stored")
        for item in items:
            self._check(item)
        records = [Record.of(item, self.model_id) for item in items]
        try:
            self._write_files([item.tracklet for item in items], records)
            with transaction(self._db):
                for item, record in zip(items, records, strict=True):
                    row = self.insert(record)
                    self._insert_links(row, item)
        except BaseException as error:
            for record in records:
                shutil.rmtree(self.root / record.folder, ignore_errors=True)
                shutil.rmtree(part_of(self.root / record.folder), ignore_errors=True)
            if isinstance(error, OSError | sqlite3.OperationalError):
                raise ResourceError(f"{self.root}: the gallery cannot be written: {error}") from error
            if type(error) is sqlite3.DatabaseError:  # no subclass: the file itself is malformed
                raise UsageError(f"{self.root / DATABASE}: a damaged gallery: {error}") from error
            raise

    def tracklet(self, tracklet_id: str) -> StoredTracklet:
        """One tracklet.

        Raises:
            UsageError: When the store has none of this name.
        """
        row = self._first(f"{_SELECT} WHERE t.tracklet_id = ?", tracklet_id)
        if row is None:
            raise UsageError(f"{self.root}: no tracklet {tracklet_id!r} in this gallery of {self.counts().accepted}")
        with self._reading():
            return self._stored(row)

    def tracklets(self, wanted: TrackletFilter | None = None) -> list[StoredTracklet]:
        """All that pass the filter (by default: accepted ones), by start time, then name."""
        condition, values = (wanted or TrackletFilter()).to_sql()
        with self._reading():
            rows = self._db.execute(f"{_SELECT} WHERE {condition} ORDER BY t.start_us, t.tracklet_id", values)
            return [self._stored(row) for row in rows]

    def page(
        self, wanted: TrackletFilter, *, limit: int, after: tuple[int, str] | None = None, newest_first: bool = True
    ) -> list[StoredTracklet]:
        """Some of those that pass the filter, in order of start time, then name.

        Args:
            wanted: The filter.
            limit: At most so many.
            after: Start (microseconds) and name of the last one of the page before; None begins.
            newest_first: Or the oldest.
        """
        condition, values = wanted.to_sql()
        sign, order = ("<", "DESC") if newest_first else (">", "ASC")
        if after is not None:
            condition += f" AND (t.start_us, t.tracklet_id) {sign} (?, ?)"
            values += after
        with self._reading():
            rows = self._db.execute(
                f"{_SELECT} WHERE {condition} ORDER BY t.start_us {order}, t.tracklet_id {order} LIMIT ?",
                [*values, limit],
            )
            return [self._stored(row) for row in rows]

    def by_rows(self, rows: Iterable[int]) -> list[StoredTracklet]:
        """Tracklets of these rows, accepted or rejected, in this order; rows that are gone are left out."""
        found = (self._first(f"{_SELECT} WHERE t.row = ?", row) for row in rows)
        with self._reading():
            return [self._stored(each) for each in found if each is not None]

    def boxes(self, camera_id: str, *, after_row: int = 0) -> list[TrackletBoxes]:
        """Boxes of all tracklets of a camera, rejected ones included, by start time.

        Frames are numbered anew in each run: where several runs share a store, pass the ``last_row`` from before the
        run that is meant.
        """
        with self._reading():
            rows = self._db.execute(
                "SELECT tracklet_id, person_id, frame_index, xyxy, confidence FROM tracklets"
                " WHERE camera_id = ? AND row > ? ORDER BY start_us, tracklet_id",
                [camera_id, after_row],
            )
            return [
                TrackletBoxes(
                    tracklet_id,
                    person_id,
                    np.frombuffer(frame_index, "<i8").astype(np.int64),
                    np.frombuffer(xyxy, "<f4").astype(np.float32).reshape(-1, 4),
                    np.frombuffer(confidence, "<f4").astype(np.float32),
                )
                for tracklet_id, person_id, frame_index, xyxy, confidence in rows
            ]

    def boxes_of(self, tracklet_id: str) -> TrackletBoxes:
        """Boxes of one tracklet.

        Raises:
            UsageError: When the store has none of this name.
        """
        record = self.record(tracklet_id)
        return TrackletBoxes(
            tracklet_id,
            record.person_id,
            np.frombuffer(record.frame_index, "<i8").astype(np.int64),
            np.frombuffer(record.xyxy, "<f4").astype(np.float32).reshape(-1, 4),
            np.frombuffer(record.confidence, "<f4").astype(np.float32),
        )

    def cameras(self) -> dict[str, Modality]:
        """Every camera that has a tracklet, by name."""
        with self._reading():
            rows = self._db.execute("SELECT camera_id, modality FROM cameras ORDER BY camera_id")
            return {camera_id: Modality(modality) for camera_id, modality in rows}

    def crops(self, tracklet_id: str) -> list[Path]:
        """Images of a tracklet in order of time, absolute."""
        with self._reading():
            rows = self._db.execute(
                "SELECT path FROM crops JOIN tracklets ON row = tracklet_row WHERE tracklet_id = ? ORDER BY position",
                [tracklet_id],
            )
            return [self.root / path for (path,) in rows]

    def counterparts(self, tracklet_id: str) -> list[StoredCounterpart]:
        """The tracklet's best view through cameras of other modalities, by camera."""
        with self._reading():
            rows = self._db.execute(
                "SELECT p.camera_id, p.modality, captured_us, path FROM counterparts p"
                " JOIN tracklets ON row = tracklet_row WHERE tracklet_id = ? ORDER BY p.camera_id",
                [tracklet_id],
            )
            return [
                StoredCounterpart(camera, Modality(modality), from_us(when), self.root / path)
                for camera, modality, when, path in rows
            ]

    def links(self, tracklet_id: str | None = None) -> list[StoredLink]:
        """Links of a tracklet, in both directions, or all; by row, then by the other's name."""
        with self._reading():
            rows = self._db.execute(
                "SELECT l.tracklet_row, t.tracklet_id, l.to_tracklet_id, l.cosine, l.probability, l.state"
                " FROM links l JOIN tracklets t ON t.row = l.tracklet_row"
                " WHERE ?1 IS NULL OR t.tracklet_id = ?1 OR l.to_tracklet_id = ?1"
                " ORDER BY l.tracklet_row, l.to_tracklet_id",
                [tracklet_id],
            )
            return [
                StoredLink(row, name, to, cosine, probability, LinkState(state))
                for row, name, to, cosine, probability, state in rows
            ]

    def embeddings(self, rows: Sequence[int] | NDArray[np.int64]) -> NDArray[np.float32]:
        """Vectors of these rows, in their order, (n, dimension) float32.

        Raises:
            KeyError: When a row has none.
        """
        vectors = np.empty((len(rows), self.dimension), np.float32)
        for position, row in enumerate(rows):
            found = self._first("SELECT vector, crc FROM embeddings WHERE tracklet_row = ?", int(row))
            if found is None:
                raise KeyError(f"row {row} has no embedding")
            with self._reading():
                vectors[position] = self._vector(*found)
        return vectors

    def gallery(self) -> Gallery:
        """Build the index of all accepted tracklets; ids are rows."""
        with self._reading():
            rows, vectors = self._all_vectors()
            gallery = Gallery(self.dimension)
            if rows:
                gallery.add(rows, vectors)
            return gallery

    def known(self) -> Iterator[KnownTracklet]:
        """Every accepted tracklet with person and vector, in order of arrival: what an `Identifier` resumes from."""
        with self._reading():
            rows = self._db.execute(
                "SELECT t.tracklet_id, t.camera_id, c.modality, t.start_us, t.end_us, t.person_id, e.vector, e.crc"
                " FROM tracklets t JOIN cameras c USING (camera_id) JOIN embeddings e ON e.tracklet_row = t.row"
                " ORDER BY t.row"
            )
            for tracklet_id, camera_id, modality, start, end, person_id, vector, crc in rows:
                yield KnownTracklet(
                    tracklet_id=tracklet_id,
                    camera_id=camera_id,
                    modality=Modality(modality),
                    start=from_us(start),
                    end=from_us(end),
                    person_id=person_id,
                    embedding=self._vector(vector, crc),
                )

    def changes_since(self, cursor: Cursor) -> Changes:
        """What was added, removed and revised since; with an empty cursor, the whole store.

        One snapshot, cheap when nothing changed: an index that asks every 50 ms follows another process's inserts.

        Raises:
            UsageError: When the file turns out to be damaged.
        """
        with self._reading(), snapshot(self._db):
            generation = int(self._meta("generation"))
            rebuilt = generation != cursor.generation
            since = Cursor() if rebuilt else cursor
            now = Cursor(self.last_row, self.last_change, generation)
            if now == cursor:
                return Changes(False, (), np.empty((0, self.dimension), np.float32), (), (), now)
            self.follow_model()
            befell = self._db.execute(
                "SELECT tracklet_row, kind FROM changes WHERE change > ? ORDER BY change", [since.change]
            ).fetchall()
            removed = sorted({row for row, kind in befell if kind == "removed" and row <= since.row})
            revised = sorted({row for row, kind in befell if kind == "revised" and row <= since.row})
            added = self._accepted_after(since.row) + self._accepted_among(revised)
            added.sort(key=lambda each: each.row)
            return Changes(
                rebuilt=rebuilt,
                added=tuple(added),
                vectors=self._vectors_of(added, whole=since.row == 0),
                removed=() if rebuilt else tuple(removed),
                revised=() if rebuilt else tuple(revised),
                cursor=now,
            )

    def follow_model(self) -> None:
        """A reindexing of another process may have changed model and dimension."""
        self.model_id, self.dimension = self._meta("model_id"), int(self._meta("dimension"))

    @property
    def last_change(self) -> int:
        """The greatest number of a removal or revision, 0 before the first."""
        row = self._first("SELECT seq FROM sqlite_sequence WHERE name = 'changes'")
        return 0 if row is None else int(row[0])

    def _accepted_after(self, row: int) -> list[StoredTracklet]:
        found = self._db.execute(f"{_SELECT} WHERE t.row > ? AND t.rejected IS NULL", [row])
        return [self._stored(each) for each in found]

    def _accepted_among(self, rows: Sequence[int]) -> list[StoredTracklet]:
        return [each for each in self.by_rows(rows) if each.rejected is None]

    def _vectors_of(self, tracklets: Sequence[StoredTracklet], *, whole: bool) -> NDArray[np.float32]:
        if not whole:
            return self.embeddings([each.row for each in tracklets])
        rows, vectors = self._all_vectors()
        if rows != [each.row for each in tracklets]:
            raise ValueError("an accepted tracklet has no vector, or a vector no tracklet")
        return vectors

    def _all_vectors(self) -> tuple[list[int], NDArray[np.float32]]:
        """All rows with a vector, ascending, and the vectors (n, dimension)."""
        (count,) = self._db.execute("SELECT COUNT(*) FROM embeddings").fetchone()
        rows: list[int] = []
        vectors = np.empty((count, self.dimension), np.float32)
        found = self._db.execute(
            "SELECT tracklet_row, vector, crc FROM embeddings ORDER BY tracklet_row LIMIT ?", [count]
        )
        while some := found.fetchmany(_ROWS_AT_ONCE):
            if any(checksum(vector) != crc or len(vector) != 2 * self.dimension for _, vector, crc in some):
                raise ValueError("a vector's checksum or length does not fit")
            joined = from_bytes(b"".join(vector for _, vector, _ in some), len(some) * self.dimension)
            vectors[len(rows) : len(rows) + len(some)] = joined.reshape(len(some), self.dimension)
            rows += [row for row, _, _ in some]
        return rows, vectors[: len(rows)]

    def _vector(self, data: bytes, crc: int) -> NDArray[np.float32]:
        if checksum(data) != crc:
            raise ValueError("a vector's checksum does not fit")
        return from_bytes(data, self.dimension)

    @property
    def last_row(self) -> int:
        """The greatest row ever given to a tracklet, 0 before the first."""
        row = self._first("SELECT seq FROM sqlite_sequence WHERE name = 'tracklets'")
        return 0 if row is None else int(row[0])

    @property
    def calibration(self) -> Calibration:
        """Of the model that filled the store.

        Raises:
            UsageError: When it was made without one, or it is damaged.
        """
        text = self._meta("calibration")
        with self._reading():
            return Calibration.from_dict(_mapping(json.loads(text)))

    @property
    def next_person_id(self) -> int:
        """The first number that no person ever had."""
        row = self._first("SELECT seq FROM sqlite_sequence WHERE name = 'persons'")
        return 1 if row is None else int(row[0]) + 1

    def reserve_persons(self, count: int) -> int:
        """Set so many person numbers apart, and return the first: nobody else gives them, whichever process asks."""
        with self.writing() as db:
            first = self.next_person_id
            db.execute("INSERT INTO persons (person_id) VALUES (?)", [first + count - 1])
            db.execute("DELETE FROM persons WHERE person_id = ?", [first + count - 1])
        return first

    def counts(self) -> Counts:
        """How much there is."""
        with self._reading():
            accepted, rejected = self._db.execute("SELECT COUNT(person_id), COUNT(rejected) FROM tracklets").fetchone()
            (persons,) = self._db.execute("SELECT COUNT(*) FROM persons").fetchone()
            (crops,) = self._db.execute("SELECT COUNT(*) FROM crops").fetchone()
            return Counts(accepted=accepted, rejected=rejected, persons=persons, crops=crops)

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """The database for what this class has no method for; damage and failure are told as what they are."""
        with self._reading():
            yield self._db

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """One transaction, all or nothing, alone among all processes that write.

        Raises:
            ResourceError: When the disk is full or fails, or the store was opened for reading only.
            UsageError: When the file turns out to be damaged.
        """
        with database_errors(self.root / DATABASE), transaction(self._db):
            yield self._db

    def _reading(self) -> AbstractContextManager[None]:
        return gallery_errors(self.root / DATABASE)

    def _first(self, statement: str, *values: str | int) -> tuple[Any, ...] | None:
        """The first row of an answer; None when it has none."""
        with self._reading():
            row: tuple[Any, ...] | None = self._db.execute(statement, values).fetchone()
            return row

    def _meta(self, key: str) -> str:
        row = self._first("SELECT value FROM meta WHERE key = ?", key)
        if row is None:
            raise UsageError(f"{self.root / DATABASE}: not a complete gallery: it does not say its {key}")
        return str(row[0])

    def _check_model(self, model_id: str, dimension: int) -> None:
        if (self.model_id, self.dimension) != (model_id, dimension):
            raise GalleryMismatchError(
                f"{self.root}: filled by model {self.model_id} ({self.dimension} numbers a vector), but this is model"
                f" {model_id} ({dimension}); their vectors cannot be compared. Use the same weights or another folder"
            )

    def _check(self, item: Sighting | RejectedTracklet) -> None:
        tracklet = item.tracklet
        for name in (tracklet.tracklet_id, tracklet.camera_id):
            if not _SAFE_NAME.fullmatch(name):
                raise ValueError(f"a name that becomes a folder must be letters, digits, '_', '-', '.', got {name!r}")
        if self._first("SELECT 1 FROM tracklets WHERE tracklet_id = ?", tracklet.tracklet_id):
            raise ValueError(f"tracklet {tracklet.tracklet_id} is stored already")
        known = self._first("SELECT modality FROM cameras WHERE camera_id = ?", tracklet.camera_id)
        if known and known[0] != tracklet.modality:
            raise ValueError(
                f"camera {tracklet.camera_id} is {known[0]} in this gallery, got {tracklet.modality.value}"
            )
        if isinstance(item, Sighting):
            vector = item.embedding
            if vector.shape != (self.dimension,) or not abs(float(np.linalg.norm(vector)) - 1) < 1e-3:
                raise ValueError(f"embedding must be a unit vector ({self.dimension},), got shape {vector.shape}")

    def _write_files(self, tracklets: Sequence[Tracklet], records: Sequence[Record]) -> None:
        """Write all, then sync all, then rename."""
        written: list[Path] = []
        for tracklet, record in zip(tracklets, records, strict=True):
            part = part_of(self.root / record.folder)
            part.mkdir(parents=True)
            written += [*write_images(part, tracklet), part / RECORD, part]
            (part / RECORD).write_bytes(record.to_json())
        sync_all(written)
        folders = [self.root / record.folder for record in records]
        for folder in folders:
            part_of(folder).rename(folder)
        for parent in {folder.parent for folder in folders}:
            sync(parent)

    def insert(self, record: Record, *, row: int | None = None) -> int:
        """Put the rows of one tracklet in, whose files are in place, within the caller's transaction.

        Args:
            record: What to put in.
            row: Its number; by default the next.

        Returns:
            Its number.
        """
        self._db.execute(
            "INSERT OR IGNORE INTO cameras VALUES (?, ?, ?, ?)",
            [record.camera_id, record.modality, record.width, record.height],
        )
        if record.person_id is not None:
            self._db.execute("INSERT OR IGNORE INTO persons (person_id) VALUES (?)", [record.person_id])
        inserted = self._db.execute(
            "INSERT INTO tracklets (row, tracklet_id, camera_id, track_id, start_us, end_us, time_source, frames,"
            " frame_index, xyxy, confidence, rejected, person_id, zones, quality, disk_bytes)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            [
                row,
                record.tracklet_id, record.camera_id, record.track_id, record.start_us, record.end_us,
                record.time_source, record.frames, record.frame_index, record.xyxy, record.confidence,
                record.rejected, record.person_id, json.dumps(record.zones), record.quality,
                bytes_of(self.root / record.folder),
            ],
        ).lastrowid  # fmt: skip
        number = int(inserted or 0)
        crops = [(number, *crop) for crop in record.crops]
        self._db.executemany("INSERT INTO crops VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", crops)
        beside = [(number, *each) for each in record.counterparts]
        self._db.executemany("INSERT INTO counterparts VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", beside)
        if record.vector is not None:
            values = [number, record.vector, checksum(record.vector)]
            self._db.execute("INSERT INTO embeddings VALUES (?, ?, ?)", values)
        return number

    def _insert_links(self, row: int, item: Sighting | RejectedTracklet) -> None:
        if isinstance(item, Sighting):
            links = [(row, link.tracklet_id, link.cosine, link.probability) for link in item.links]
            self._db.executemany(
                "INSERT INTO links (tracklet_row, to_tracklet_id, cosine, probability) VALUES (?, ?, ?, ?)", links
            )

    def has(self, tracklet_id: str) -> bool:
        """Whether there is such a tracklet, accepted or rejected."""
        return self._first("SELECT 1 FROM tracklets WHERE tracklet_id = ?", tracklet_id) is not None

    def rewrite_records(self, tracklet_ids: Iterable[str]) -> None:
        """Bring the files beside the crops up to what the database says, after it changed."""
        for name in tracklet_ids:
            if self.has(name):
                write_record(self.root, self.record(name))

    def record(self, tracklet_id: str) -> Record:
        """All that the database has of a tracklet, as its file beside the crops should have it.

        Raises:
            UsageError: When the store has none of this name.
        """
        with self._reading():
            found = self._db.execute(
                f"SELECT row, {', '.join(_RECORD_COLUMNS)} FROM tracklets JOIN cameras USING (camera_id)"  # noqa: S608
                " WHERE tracklet_id = ?",
                [tracklet_id],
            ).fetchone()
            if found is None:
                raise UsageError(f"{self.root}: no tracklet {tracklet_id!r} in this gallery")
            row = found[0]
            crops = self._db.execute(
                "SELECT position, path, quality, captured_us, frame_index, x1, y1, x2, y2 FROM crops"
                " WHERE tracklet_row = ? ORDER BY position",
                [row],
            ).fetchall()
            beside = self._db.execute(
                "SELECT camera_id, modality, path, captured_us, x1, y1, x2, y2 FROM counterparts"
                " WHERE tracklet_row = ? ORDER BY camera_id",
                [row],
            ).fetchall()
            vector = self._first("SELECT vector FROM embeddings WHERE tracklet_row = ?", row)
            values = dict(zip(_RECORD_COLUMNS, found[1:], strict=True))
            values["zones"] = tuple(json.loads(values["zones"]))
            values |= {"crops": tuple(crops), "counterparts": tuple(beside), "model_id": self.model_id}
            return Record(**values, vector=vector[0] if vector else None)

    def _stored(self, row: tuple[Any, ...]) -> StoredTracklet:
        """Within `_reading`: a value that nobody wrote is told as damage there."""
        number, tracklet_id, camera_id, modality, start, end, person_id, rejected, frames, path, quality, zones = row
        return StoredTracklet(
            row=number,
            tracklet_id=tracklet_id,
            camera_id=camera_id,
            modality=Modality(modality),
            start=from_us(start),
            end=from_us(end),
            person_id=person_id,
            rejected=Rejection(rejected) if rejected else None,
            frames=frames,
            best_crop=self.root / path if path else None,
            quality=quality,
            zones=() if zones == "[]" else tuple(json.loads(zones)),
        )

    def write_identity(self) -> None:
        """Keep model, dimension and calibration in a file too: a damaged database cannot say them."""
        with self._reading():
            keys = ("model_id", "dimension", "calibration")
            known = dict(self._db.execute("SELECT key, value FROM meta WHERE key IN (?, ?, ?)", keys))
        text = json.dumps(known, indent=2, sort_keys=True).encode() + b"\n"
        path = self.root / IDENTITY
        if not path.is_file() or path.read_bytes() != text:
            write_whole(path, text)

    def _remove_orphans(self) -> None:
        with self._reading():
            known = {row[0] for row in self._db.execute("SELECT tracklet_id FROM tracklets")}
        for folder in (self.root / CROPS).glob("*/*"):
            if folder.name not in known:
                logger.warning("removing crops that no tracklet names, left by a crash: %s", folder)
                shutil.rmtree(folder)

    def write_missing_records(self) -> None:
        """A gallery of version 1 had no records beside its crops."""
        if self._first("SELECT 1 FROM meta WHERE key = 'records'"):
            return
        with self._reading():
            names = [name for (name,) in self._db.execute("SELECT tracklet_id FROM tracklets ORDER BY row")]
        self.rewrite_records(names)
        sizes = [(bytes_of(self.root / self.record(name).folder), name) for name in names]
        with self.writing() as db:
            db.executemany("UPDATE tracklets SET disk_bytes = ? WHERE tracklet_id = ?", sizes)
            db.execute("INSERT OR REPLACE INTO meta VALUES ('records', '1')")


def _require(root: Path) -> None:
    if not (root / DATABASE).is_file():
        raise UsageError(f"{root}: no gallery there ({DATABASE} is missing); fill one with the run command")


def _mapping(value: Any) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise ValueError(f"expected a mapping, got {type(value).__name__}")
    return value


def take_lock(path: Path) -> IO[bytes]:
    """Hold the writer's lock until the file is closed; the system lets go of it when the process dies."""
    file = path.open("ab")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        file.close()
        raise ResourceError(f"{path.parent}: another process is writing to this gallery") from error
    return file
