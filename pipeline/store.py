"""The truth on disk: tracklets, crops, embeddings and people in one SQLite file beside a folder of images.

A tracklet's crops are written to a hidden folder, synced and renamed before the transaction that names them commits.
So a row never points at a missing image; images that no row names are what a crash left, and the next writer removes
them.

``synchronous=FULL``: a committed tracklet survives a power cut, and not only ``kill -9``. It costs one more sync a
batch of tracklets, which is little beside those of the crops. Embeddings are kept as float32, bit by bit: half
precision would save little beside the crops and could change who is nearest after a restart.
"""

import fcntl
import json
import logging
import os
import re
import shutil
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.errors import GalleryMismatchError, ResourceError, UsageError
from pipeline.frame import Image, TimeSource
from pipeline.identify import KnownTracklet, Sighting
from pipeline.tracklets import RejectedTracklet, Rejection, Tracklet
from reid.calibration import Calibration
from reid.gallery import Gallery
from reid.modality import Modality

logger = logging.getLogger(__name__)

DATABASE = "gallery.sqlite"
CROPS = "crops"
JPEG_QUALITY = 95
LOCK = "gallery.lock"
_RUN = "run:"  # and the greatest row before it: a key of the table meta, whose value is when the run began
_APPLICATION_ID = 0x58524944  # "XRID", in the header of the file
_SAFE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)

# The n-th entry takes a database from user_version n to n + 1. Entries are only ever appended.
_MIGRATIONS = (
    """
    CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
    CREATE TABLE cameras (
        camera_id TEXT PRIMARY KEY,
        modality TEXT NOT NULL CHECK (modality IN ('rgb', 'nir', 'thermal')),
        width INTEGER NOT NULL,
        height INTEGER NOT NULL
    ) WITHOUT ROWID;
    CREATE TABLE persons (
        person_id INTEGER PRIMARY KEY AUTOINCREMENT  -- a number is never given twice, even after its person is erased
    );
    CREATE TABLE tracklets (
        row INTEGER PRIMARY KEY AUTOINCREMENT,  -- the vector's id in the index
        tracklet_id TEXT NOT NULL UNIQUE,
        camera_id TEXT NOT NULL REFERENCES cameras,
        track_id INTEGER NOT NULL,
        start_us INTEGER NOT NULL,  -- microseconds since 1970, UTC
        end_us INTEGER NOT NULL CHECK (end_us >= start_us),
        time_source TEXT NOT NULL,
        frames INTEGER NOT NULL,
        frame_index BLOB NOT NULL,  -- int64, little-endian
        xyxy BLOB NOT NULL,  -- float32 (frames, 4), pixels
        confidence BLOB NOT NULL,  -- float32
        rejected TEXT,  -- the reason; NULL means accepted
        person_id INTEGER REFERENCES persons,
        CHECK ((rejected IS NULL) = (person_id IS NOT NULL))
    );
    CREATE INDEX tracklets_by_time ON tracklets (start_us);
    CREATE INDEX tracklets_by_person ON tracklets (person_id);
    CREATE TABLE crops (
        tracklet_row INTEGER NOT NULL REFERENCES tracklets ON DELETE CASCADE,
        position INTEGER NOT NULL,
        path TEXT NOT NULL,  -- relative to the folder of this file
        quality REAL NOT NULL,
        captured_us INTEGER NOT NULL,
        frame_index INTEGER NOT NULL,
        x1 REAL NOT NULL, y1 REAL NOT NULL, x2 REAL NOT NULL, y2 REAL NOT NULL,
        PRIMARY KEY (tracklet_row, position)
    ) WITHOUT ROWID;
    CREATE TABLE embeddings (
        tracklet_row INTEGER PRIMARY KEY REFERENCES tracklets ON DELETE CASCADE,
        vector BLOB NOT NULL  -- float32 (dimension,), little-endian, unit length
    );
    CREATE TABLE links (
        tracklet_row INTEGER NOT NULL REFERENCES tracklets ON DELETE CASCADE,
        to_tracklet_id TEXT NOT NULL,
        cosine REAL NOT NULL,
        probability REAL NOT NULL,
        PRIMARY KEY (tracklet_row, to_tracklet_id)
    ) WITHOUT ROWID;
    """,
)

_SELECT = """
    SELECT t.row, t.tracklet_id, t.camera_id, c.modality, t.start_us, t.end_us, t.person_id, t.rejected, t.frames,
           b.path, b.quality
    FROM tracklets t JOIN cameras c USING (camera_id)
    LEFT JOIN crops b ON b.tracklet_row = t.row AND b.position =
        (SELECT position FROM crops WHERE tracklet_row = t.row ORDER BY quality DESC, position LIMIT 1)
"""


@dataclass(frozen=True, slots=True)
class TrackletFilter:
    """Which tracklets are meant; None means any.

    Attributes:
        cameras: Only these.
        modalities: Only these.
        start: Only tracklets that end at or after this time, UTC.
        end: Only tracklets that start before this time, UTC.
        person_id: Only this person's.
        rejected: True for rejected ones only, False for accepted ones only.
    """

    cameras: frozenset[str] | None = None
    modalities: frozenset[Modality] | None = None
    start: datetime | None = None
    end: datetime | None = None
    person_id: int | None = None
    rejected: bool | None = False

    def __post_init__(self) -> None:
        for name in ("start", "end"):
            moment = getattr(self, name)
            if moment is not None and moment.tzinfo is None:
                raise ValueError(f"{name} must be timezone-aware (UTC), got a naive datetime")

    def to_sql(self) -> tuple[str, list[Any]]:
        """A condition over ``_SELECT`` and its parameters."""
        terms: list[str] = ["1"]
        values: list[Any] = []
        for column, allowed in (("t.camera_id", self.cameras), ("c.modality", self.modalities)):
            if allowed is not None:
                terms.append(f"{column} IN ({','.join('?' * len(allowed))})")
                values += sorted(allowed)
        bounds = (
            ("t.end_us >= ?", self.start and _to_us(self.start)),
            ("t.start_us < ?", self.end and _to_us(self.end)),
            ("t.person_id = ?", self.person_id),
        )
        for term, value in bounds:
            if value is not None:
                terms.append(term)
                values.append(value)
        if self.rejected is not None:
            terms.append(f"t.rejected IS {'NOT NULL' if self.rejected else 'NULL'}")
        return " AND ".join(terms), values


@dataclass(frozen=True, slots=True)
class StoredTracklet:
    """A tracklet as the store knows it, without its boxes and images.

    Attributes:
        row: Its number in the store and in the index.
        tracklet_id: ``<camera>-<ULID>``.
        camera_id: Which camera.
        modality: What it measures.
        start: Capture time of the first box, UTC.
        end: Capture time of the last box, UTC.
        person_id: None when it was rejected.
        rejected: Why, or None when it was accepted.
        frames: Number of boxes.
        best_crop: Image of the best view, absolute; None when no view was usable.
        quality: Of that view, in [0, 1]; 0 when there is none.
    """

    row: int
    tracklet_id: str
    camera_id: str
    modality: Modality
    start: datetime
    end: datetime
    person_id: int | None
    rejected: Rejection | None
    frames: int
    best_crop: Path | None
    quality: float


@dataclass(frozen=True, slots=True, eq=False)
class TrackletBoxes:
    """Where a tracklet was in its camera's frames.

    Attributes:
        tracklet_id: Whose.
        person_id: None when it was rejected.
        frame_index: (n,) int64.
        xyxy: (n, 4) float32, pixels.
        confidence: (n,) float32.
    """

    tracklet_id: str
    person_id: int | None
    frame_index: NDArray[np.int64]
    xyxy: NDArray[np.float32]
    confidence: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Counts:
    """How much is in a store."""

    accepted: int
    rejected: int
    persons: int
    crops: int


def crop_path(tracklet: Tracklet, position: int) -> str:
    """Where a crop is kept, relative to the store's folder; JPEG for 8 bits, PNG (lossless) for 16."""
    suffix = "png" if tracklet.crops[position].image.dtype == np.uint16 else "jpg"
    return f"{CROPS}/{tracklet.camera_id}/{tracklet.tracklet_id}/{position:03d}.{suffix}"


def read_crop(path: Path) -> Image:
    """Read a crop as it was stored: RGB (h, w, 3) or mono (h, w), 8 or 16 bits.

    Raises:
        ResourceError: When it is gone or damaged.
    """
    data = np.frombuffer(path.read_bytes(), np.uint8) if path.is_file() else np.empty(0, np.uint8)
    image = cv2.imdecode(data, cv2.IMREAD_UNCHANGED) if len(data) else None
    if image is None:
        raise ResourceError(f"{path}: the crop is missing or damaged")
    result: Image = np.ascontiguousarray(image[..., ::-1] if image.ndim == 3 else image)  # type: ignore[assignment]
    return result


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
        """Open to write; make the store when there is none, and clear up after a crash.

        Args:
            root: Folder of the database and the crops; made when absent.
            model_id: Of the extractor whose vectors come in, ``<name>@sha256:<16 hex>``.
            dimension: Of those vectors.
            calibration: Of that model; kept in a new store, so that stored vectors can be searched without the model.

        Raises:
            GalleryMismatchError: When another model filled it.
            ResourceError: When another process writes to it, or the folder cannot be written.
            UsageError: When the file is not a gallery, or is one of a newer version.
        """
        try:
            (root / CROPS).mkdir(parents=True, exist_ok=True)
            lock = take_lock(root / LOCK)
        except OSError as error:
            raise ResourceError(f"{root}: the gallery cannot be written: {error.strerror or error}") from error
        try:
            connection = _connect(root / DATABASE, read_only=False)
            try:
                with _gallery_errors(root / DATABASE):
                    meta = {"model_id": model_id, "dimension": str(dimension)}
                    if calibration is not None:
                        meta["calibration"] = json.dumps(calibration.to_dict())
                    _migrate(connection, root / DATABASE, meta)
                    store = cls(root, connection, lock)
                store._check_model(model_id, dimension)
                store._remove_orphans()
            except BaseException:
                connection.close()
                raise
        except BaseException:
            lock.close()
            raise
        return store

    @classmethod
    def read(cls, root: Path) -> Self:
        """Open an existing store for reading only.

        Raises:
            UsageError: When there is none, the file is not a gallery, or is one of another version.
        """
        path = root / DATABASE
        if not path.is_file():
            raise UsageError(f"{root}: no gallery there ({DATABASE} is missing); fill one with the run command")
        connection = _connect(path, read_only=True)
        try:
            with _gallery_errors(path):
                _check_version(connection, path, least=len(_MIGRATIONS))
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
        with self._reading(), self._db:
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
        try:
            self._write_crops([item.tracklet for item in items])
            with self._db:
                for item in items:
                    self._insert(item)
        except BaseException as error:
            for item in items:
                shutil.rmtree(self._folder(item.tracklet), ignore_errors=True)
                shutil.rmtree(_part(self._folder(item.tracklet)), ignore_errors=True)
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
        return self._stored(row)

    def tracklets(self, wanted: TrackletFilter | None = None) -> list[StoredTracklet]:
        """All that pass the filter (by default: accepted ones), by start time, then name."""
        condition, values = (wanted or TrackletFilter()).to_sql()
        with self._reading():
            rows = self._db.execute(f"{_SELECT} WHERE {condition} ORDER BY t.start_us, t.tracklet_id", values)
            return [self._stored(row) for row in rows]

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

    def embeddings(self, rows: Sequence[int] | NDArray[np.int64]) -> NDArray[np.float32]:
        """Vectors of these rows, in their order, (n, dimension) float32.

        Raises:
            KeyError: When a row has none.
        """
        vectors = np.empty((len(rows), self.dimension), np.float32)
        for position, row in enumerate(rows):
            found = self._first("SELECT vector FROM embeddings WHERE tracklet_row = ?", int(row))
            if found is None:
                raise KeyError(f"row {row} has no embedding")
            with self._reading():
                vectors[position] = np.frombuffer(found[0], "<f4").reshape(self.dimension)
        return vectors

    def gallery(self) -> Gallery:
        """Build the index of all accepted tracklets; ids are rows."""
        with self._reading():
            pairs = self._db.execute("SELECT tracklet_row, vector FROM embeddings ORDER BY tracklet_row").fetchall()
            gallery = Gallery(self.dimension)
            if pairs:
                gallery.add([row for row, _ in pairs], np.stack([np.frombuffer(vector, "<f4") for _, vector in pairs]))
            return gallery

    def known(self) -> Iterator[KnownTracklet]:
        """Every accepted tracklet with person and vector, in order of arrival: what an `Identifier` resumes from."""
        with self._reading():
            rows = self._db.execute(
                "SELECT t.tracklet_id, t.camera_id, c.modality, t.start_us, t.end_us, t.person_id, e.vector"
                " FROM tracklets t JOIN cameras c USING (camera_id) JOIN embeddings e ON e.tracklet_row = t.row"
                " ORDER BY t.row"
            )
            for tracklet_id, camera_id, modality, start, end, person_id, vector in rows:
                yield KnownTracklet(
                    tracklet_id=tracklet_id,
                    camera_id=camera_id,
                    modality=Modality(modality),
                    start=_from_us(start),
                    end=_from_us(end),
                    person_id=person_id,
                    embedding=np.frombuffer(vector, "<f4").reshape(self.dimension).astype(np.float32),
                )

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

    def counts(self) -> Counts:
        """How much there is."""
        with self._reading():
            accepted, rejected = self._db.execute("SELECT COUNT(person_id), COUNT(rejected) FROM tracklets").fetchone()
            (persons,) = self._db.execute("SELECT COUNT(*) FROM persons").fetchone()
            (crops,) = self._db.execute("SELECT COUNT(*) FROM crops").fetchone()
            return Counts(accepted=accepted, rejected=rejected, persons=persons, crops=crops)

    def _reading(self) -> AbstractContextManager[None]:
        return _gallery_errors(self.root / DATABASE)

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

    def _folder(self, tracklet: Tracklet) -> Path:
        return self.root / CROPS / tracklet.camera_id / tracklet.tracklet_id

    def _write_crops(self, tracklets: Sequence[Tracklet]) -> None:
        """Write all, then sync all, then rename: the first sync does most of the disk's work for the others."""
        written: list[Path] = []
        for tracklet in tracklets:
            part = _part(self._folder(tracklet))
            part.mkdir(parents=True)
            for position, crop in enumerate(tracklet.crops):
                written.append(part / Path(crop_path(tracklet, position)).name)
                _write_image(written[-1], crop.image)
            written.append(part)
        for path in written:
            _sync(path)
        for tracklet in tracklets:
            _part(self._folder(tracklet)).rename(self._folder(tracklet))
        for parent in {self._folder(tracklet).parent for tracklet in tracklets}:
            _sync(parent)

    def _insert(self, item: Sighting | RejectedTracklet) -> None:
        tracklet = item.tracklet
        person = item.person_id if isinstance(item, Sighting) else None
        reason = item.reason.value if isinstance(item, RejectedTracklet) else None
        self._db.execute(
            "INSERT OR IGNORE INTO cameras VALUES (?, ?, ?, ?)",
            [tracklet.camera_id, tracklet.modality.value, *tracklet.resolution_wh],
        )
        if person is not None:
            self._db.execute("INSERT OR IGNORE INTO persons VALUES (?)", [person])
        row = self._db.execute(
            "INSERT INTO tracklets (tracklet_id, camera_id, track_id, start_us, end_us, time_source, frames,"
            " frame_index, xyxy, confidence, rejected, person_id) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            [
                tracklet.tracklet_id,
                tracklet.camera_id,
                tracklet.track_id,
                _to_us(tracklet.start),
                _to_us(tracklet.end),
                TimeSource(tracklet.time_source).value,
                len(tracklet.frame_index),
                tracklet.frame_index.astype("<i8").tobytes(),
                tracklet.xyxy.astype("<f4").tobytes(),
                tracklet.confidence.astype("<f4").tobytes(),
                reason,
                person,
            ],
        ).lastrowid
        self._insert_crops(row, tracklet)
        if isinstance(item, Sighting):
            vector = item.embedding.astype("<f4").tobytes()
            self._db.execute("INSERT INTO embeddings VALUES (?, ?)", [row, vector])
            links = [(row, link.tracklet_id, link.cosine, link.probability) for link in item.links]
            self._db.executemany("INSERT INTO links VALUES (?, ?, ?, ?)", links)

    def _insert_crops(self, row: int | None, tracklet: Tracklet) -> None:
        rows = []
        for position, crop in enumerate(tracklet.crops):
            where = crop_path(tracklet, position)
            when = _to_us(crop.captured_at)
            rows.append((row, position, where, crop.quality, when, crop.frame_index, *map(float, crop.xyxy)))
        self._db.executemany("INSERT INTO crops VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", rows)

    def _stored(self, row: tuple[Any, ...]) -> StoredTracklet:
        number, tracklet_id, camera_id, modality, start, end, person_id, rejected, frames, path, quality = row
        with self._reading():
            return StoredTracklet(
                row=number,
                tracklet_id=tracklet_id,
                camera_id=camera_id,
                modality=Modality(modality),
                start=_from_us(start),
                end=_from_us(end),
                person_id=person_id,
                rejected=Rejection(rejected) if rejected else None,
                frames=frames,
                best_crop=self.root / path if path else None,
                quality=quality or 0.0,
            )

    def _remove_orphans(self) -> None:
        with self._reading():
            known = {row[0] for row in self._db.execute("SELECT tracklet_id FROM tracklets")}
        for folder in (self.root / CROPS).glob("*/*"):
            if folder.name not in known:
                logger.warning("removing crops that no tracklet names, left by a crash: %s", folder)
                shutil.rmtree(folder)


def _mapping(value: Any) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise ValueError(f"expected a mapping, got {type(value).__name__}")
    return value


def _to_us(moment: datetime) -> int:
    return (moment - _EPOCH) // _MICROSECOND


def _from_us(microseconds: int) -> datetime:
    return _EPOCH + microseconds * _MICROSECOND


def take_lock(path: Path) -> IO[bytes]:
    """Hold the writer's lock until the file is closed; the system lets go of it when the process dies."""
    file = path.open("ab")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        file.close()
        raise ResourceError(f"{path.parent}: another process is writing to this gallery") from error
    return file


@contextmanager
def _gallery_errors(path: Path) -> Iterator[None]:
    """Tell a failing disk and a damaged file as what they are, around whatever reads.

    SQLite finds most damage itself, but its pages have no checksum: a value that no writer wrote is damage too.
    """
    try:
        yield
    except sqlite3.OperationalError as error:
        raise ResourceError(f"{path}: {error}") from error
    except (sqlite3.IntegrityError, sqlite3.ProgrammingError):
        raise  # these are ours, not the file's
    except (sqlite3.DatabaseError, ValueError, TypeError, OverflowError) as error:
        raise UsageError(f"{path}: not a gallery, or a damaged one: {error}") from error


def _connect(path: Path, *, read_only: bool) -> sqlite3.Connection:
    with _gallery_errors(path):
        how = _reading_mode(path) if read_only else "mode=rwc"
        connection = sqlite3.connect(f"{path.resolve().as_uri()}?{how}", uri=True, timeout=10.0)
        try:
            connection.execute("PRAGMA foreign_keys = ON")
            if not read_only:
                connection.execute("PRAGMA journal_mode = WAL")
                connection.execute("PRAGMA synchronous = FULL")
        except BaseException:
            connection.close()
            raise
        return connection


def _reading_mode(path: Path) -> str:
    """How to open a gallery for reading only.

    A reader of a WAL database makes a file beside it. Where it may not, as on a read-only copy, and nobody is writing
    (a writer's log would be there), the file is taken for one that does not change.
    """
    changes = os.access(path.parent, os.W_OK) or path.with_name(f"{path.name}-wal").exists()
    return "mode=ro" if changes else "mode=ro&immutable=1"


def _check_version(connection: sqlite3.Connection, path: Path, *, least: int) -> int:
    """The schema version of a gallery.

    Raises:
        UsageError: When the file belongs to another program, or to another version of this one.
    """
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    (tables,) = connection.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()
    if (application != _APPLICATION_ID) and (tables or least):
        raise UsageError(f"{path}: an SQLite file of another program, not a gallery")
    if not least <= version <= len(_MIGRATIONS):
        raise UsageError(f"{path}: a gallery of version {version}; this program reads version {len(_MIGRATIONS)}")
    return int(version)


def _migrate(connection: sqlite3.Connection, path: Path, meta: dict[str, str]) -> None:
    """Bring the file up to the newest version; a new file also gets its meta rows, all in one transaction."""
    version = _check_version(connection, path, least=0)
    for number, script in enumerate(_MIGRATIONS[version:], start=version + 1):
        connection.executescript(f"BEGIN IMMEDIATE; {script}")
        if number == 1:
            connection.executemany("INSERT INTO meta VALUES (?, ?)", meta.items())
        connection.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {number}")
        connection.commit()


def _write_image(path: Path, image: Image) -> None:
    bgr = image[..., ::-1] if image.ndim == 3 else image
    options = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY] if path.suffix == ".jpg" else []
    done, data = cv2.imencode(path.suffix, np.ascontiguousarray(bgr), options)
    if not done:
        raise ValueError(f"{path.name}: an image of {image.dtype} {image.shape} cannot be encoded")
    path.write_bytes(data.tobytes())


def _part(folder: Path) -> Path:
    """What a tracklet's folder is called while it is being written."""
    return folder.with_name(f".{folder.name}.part")


def _sync(path: Path) -> None:
    """Make a file's content, or the names in a folder, durable."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
