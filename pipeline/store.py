"""The truth on disk: tracklets, crops, embeddings and people in one SQLite file beside a folder of images.

A tracklet's crops and its record (``pipeline.record``) are written to a hidden folder, synced and renamed before the
transaction that names them commits. So a row never points at a missing image. A whole record that no row names was
about to come when a crash came between, or was lost: the next writer takes it in. Other folders that no row names are
set aside, and removed where a name shows that they were being written.

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
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Self

import numpy as np

from pipeline.crop_files import (
    bytes_of,
    digest_of,
    part_of,
    read_crop,
    sync,
    sync_all,
    write_images,
    write_record,
    write_whole,
)
from pipeline.errors import DamagedGalleryError, GalleryMismatchError, ResourceError, UsageError
from pipeline.identify import Sighting
from pipeline.reading import RUN, GalleryReader
from pipeline.record import CROPS, RECORD, Record, crop_path
from pipeline.schema import (
    DATABASE,
    MIGRATIONS,
    cause_of,
    check_pages,
    check_version,
    connect,
    database_errors,
    gallery_errors,
    migrate,
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
from pipeline.tracklets import RejectedTracklet, Tracklet
from pipeline.witnesses import check_copies, check_current, unnamed_folders, whole_record
from reid.calibration import Calibration
from reid.embedding import checksum

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
    "check_names",
    "crop_path",
    "has_records",
    "is_being_filled",
    "read_crop",
    "take_lock",
]

logger = logging.getLogger(__name__)

LOCK = "gallery.lock"
_LOCK_ATTEMPTS, _LOCK_SECONDS = 4, 0.05
IDENTITY = "gallery.json"
_ASIDE = "damaged"  # `pipeline.erasure.SET_ASIDE`, which this cannot import
_SAFE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")


class Store(GalleryReader):
    """A gallery on disk. One writer at a time; any number of readers beside it.

    A ``Store`` belongs to the thread that opened it; another thread opens its own with ``Store.read``.
    """

    def __init__(self, root: Path, connection: sqlite3.Connection, lock: IO[bytes] | None) -> None:
        super().__init__(root, connection)
        self._lock = lock

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
                    _check_begun(root, connection, may_begin=bool(meta))
                    brought_up = migrate(connection, root / DATABASE, meta)
                    if brought_up or connection.execute("PRAGMA auto_vacuum").fetchone() == (0,):
                        connection.execute("VACUUM")  # what the older version deleted may lie in free pages
                    store = cls(root, connection, lock)
                check_current(root, connection)
                store._clear_up()
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
                if not read_only:
                    check_copies(root, connection)  # or a change would be numbered, and copied, as one that was lost
                return cls(root, connection, None)
        except BaseException:
            connection.close()
            raise

    def close(self) -> None:
        """Close the file and let the next writer in; a second call does nothing."""
        super().close()
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
                "INSERT OR REPLACE INTO meta VALUES (?, ?)", [f"{RUN}{before}", datetime.now(UTC).isoformat()]
            )
        return before

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
            records = self._write_files([item.tracklet for item in items], records)
            with transaction(self._db):
                for item, record in zip(items, records, strict=True):
                    row = self.insert(record)
                    self._insert_links(row, item)
        except BaseException as error:
            for record in records:
                shutil.rmtree(self.root / record.folder, ignore_errors=True)
                shutil.rmtree(part_of(self.root / record.folder), ignore_errors=True)
            if isinstance(error, OSError | sqlite3.OperationalError):
                why = cause_of(error, self.root / DATABASE) if isinstance(error, sqlite3.OperationalError) else error
                raise ResourceError(f"{self.root}: the gallery cannot be written: {why}") from error
            if type(error) is sqlite3.DatabaseError:  # no subclass: the file itself is malformed
                raise UsageError(f"{self.root / DATABASE}: a damaged gallery: {error}") from error
            raise

    def reserve_persons(self, count: int) -> int:
        """Set so many person numbers apart, and return the first: nobody else gives them, whichever process asks."""
        with self.writing() as db:
            first = self.next_person_id
            db.execute("INSERT INTO persons (person_id) VALUES (?)", [first + count - 1])
            db.execute("DELETE FROM persons WHERE person_id = ?", [first + count - 1])
        return first

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """One transaction, all or nothing, alone among all processes that write.

        Raises:
            ResourceError: When the disk is full or fails, or the store was opened for reading only.
            UsageError: When the file turns out to be damaged.
        """
        with database_errors(self.root / DATABASE), transaction(self._db):
            yield self._db

    def _check_model(self, model_id: str, dimension: int) -> None:
        if (self.model_id, self.dimension) != (model_id, dimension):
            raise GalleryMismatchError(
                f"{self.root}: filled by model {self.model_id} ({self.dimension} numbers a vector), but this is model"
                f" {model_id} ({dimension}); their vectors cannot be compared. Use the same weights or another folder"
            )

    def _check(self, item: Sighting | RejectedTracklet) -> None:
        tracklet = item.tracklet
        check_names(tracklet.tracklet_id, tracklet.camera_id)
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

    def _write_files(self, tracklets: Sequence[Tracklet], unsealed: Sequence[Record]) -> list[Record]:
        """Write all, then sync all, then rename; returns the records with the digests of the images."""
        written: list[Path] = []
        records: list[Record] = []
        for tracklet, record in zip(tracklets, unsealed, strict=True):
            part = part_of(self.root / record.folder)
            part.mkdir(parents=True)
            images = write_images(part, tracklet)
            written += [*images, part / RECORD, part]
            records.append(replace(record, digests=tuple(sorted(map(digest_of, images)))))
            (part / RECORD).write_bytes(records[-1].to_json())
        sync_all(written)
        folders = [self.root / record.folder for record in records]
        for folder in folders:
            part_of(folder).rename(folder)
        for parent in {folder.parent for folder in folders}:
            sync(parent)
        return records

    def insert(self, record: Record, *, row: int | None = None) -> int:
        """Put the rows of one tracklet in, whose files are in place, within the caller's transaction.

        Args:
            record: What to put in.
            row: Its number; by default the next.

        Returns:
            Its number.

        Raises:
            ValueError: When a name is unfit for a path.
        """
        check_names(record.tracklet_id, record.camera_id)
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
        digests = [(number, f"{record.folder}/{name}", size, digest) for name, size, digest in record.digests]
        self._db.executemany("INSERT INTO images VALUES (?, ?, ?, ?)", digests)
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

    def rewrite_records(self, tracklet_ids: Iterable[str]) -> None:
        """Bring the files beside the crops up to what the database says, after it changed."""
        for name in tracklet_ids:
            if self.has(name):
                write_record(self.root, self.record(name))

    def write_identity(self) -> None:
        """Keep model, dimension and calibration in a file too: a damaged database cannot say them."""
        with self._reading():
            keys = ("model_id", "dimension", "calibration")
            known = dict(self._db.execute("SELECT key, value FROM meta WHERE key IN (?, ?, ?)", keys))
        text = json.dumps(known, indent=2, sort_keys=True).encode() + b"\n"
        path = self.root / IDENTITY
        if not path.is_file() or path.read_bytes() != text:
            write_whole(path, text)

    def _clear_up(self) -> None:
        """Leave no folder of a tracklet that no row names; none that may be worth something is removed."""
        with self._reading():
            folders = unnamed_folders(self.root, self._db)
        aside = self.root / _ASIDE / datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
        for folder in folders:
            try:
                if folder.name.startswith("."):
                    logger.warning("removing crops that were being written when a crash came: %s", folder)
                    shutil.rmtree(folder)
                elif self._take_in(folder):
                    logger.warning("%s: taken in: it was written, and then a crash or damage came", folder)
                else:
                    set_aside(folder, aside)
            except OSError as error:  # no reason not to open; gallery verify names it
                logger.error("%s: cannot be removed: %s", folder, error.strerror or error)

    def _take_in(self, folder: Path) -> bool:
        """Insert a tracklet whose folder is whole; whether it was."""
        record = whole_record(self.root, folder)
        vector = None if record is None else record.vector
        of_model = vector is None or (record and record.model_id, len(vector)) == (self.model_id, 2 * self.dimension)
        if record is None or not of_model:
            return False
        try:
            with self.writing() as db:
                self.insert(record)
                db.execute("UPDATE meta SET value = CAST(value AS INTEGER) + 1 WHERE key = 'generation'")  # its row may
        except (sqlite3.IntegrityError, ValueError):  # have been another's, in an index that goes on
            return False
        return True

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


def has_records(root: Path) -> bool:
    """Whether a tracklet was ever kept in this folder: then its database is not a new one."""
    return next((root / CROPS).glob(f"*/*/{RECORD}"), None) is not None


def set_aside(folder: Path, aside: Path) -> None:
    """Move a tracklet's folder to where damaged databases lie."""
    logger.warning("%s: no tracklet of the gallery; set aside in %s", folder, aside)
    kept = aside / CROPS / folder.parent.name
    kept.mkdir(parents=True, exist_ok=True)
    folder.rename(kept / folder.name)


def _require(root: Path) -> None:
    path = root / DATABASE
    if not path.is_file() or not path.stat().st_size:
        raise _no_gallery(root)


def _check_begun(root: Path, connection: sqlite3.Connection, *, may_begin: bool) -> None:
    """Where records of tracklets are, a database without tables is one that was lost: they are no orphans."""
    if check_version(connection, root / DATABASE, least=0) == 0 and (has_records(root) or not may_begin):
        raise _no_gallery(root)


def _no_gallery(root: Path) -> UsageError:
    if has_records(root):
        return DamagedGalleryError(
            f"{root / DATABASE}: a damaged gallery: the file is missing or empty, but the tracklets' records are there;"
            " gallery verify rebuilds it"
        )
    return UsageError(f"{root}: no gallery there ({DATABASE} is missing or empty); fill one with the run command")


def check_names(*names: str) -> None:
    """Of tracklets and cameras, which become folders.

    Raises:
        ValueError: When one is unfit for a path.
    """
    for name in names:
        if not _SAFE_NAME.fullmatch(name):
            raise ValueError(f"a name that becomes a folder must be letters, digits, '_', '-', '.', got {name!r}")


def take_lock(path: Path) -> IO[bytes]:
    """Hold the writer's lock until the file is closed; the system lets go of it when the process dies."""
    file = path.open("ab")
    for attempt in range(_LOCK_ATTEMPTS):
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            if attempt == _LOCK_ATTEMPTS - 1:
                file.close()
                raise ResourceError(f"{path.parent}: another process is writing to this gallery") from error
            time.sleep(_LOCK_SECONDS)  # somebody may only have looked (`is_being_filled`)
        else:
            break
    return file


def is_being_filled(root: Path) -> bool:
    """Whether a process holds a gallery's writer's lock; where it is free, to look takes it for a moment, shared."""
    try:
        with (root / LOCK).open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False
