"""What a gallery's database says: tracklets, links, vectors, and what changed since somebody last asked."""

import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import DamagedGalleryError, UsageError
from pipeline.identify import KnownTracklet
from pipeline.record import Record, from_us
from pipeline.schema import DATABASE, gallery_errors, remove_empty_log, snapshot
from pipeline.stored import (
    Changes,
    Columns,
    Counts,
    Cursor,
    LinkState,
    StoredCounterpart,
    StoredLink,
    StoredTracklet,
    TrackletBoxes,
    TrackletFilter,
)
from pipeline.tracklets import Rejection
from reid.calibration import Calibration
from reid.embedding import checksum, from_bytes, halves
from reid.gallery import Gallery
from reid.modality import Modality

MOST_AT_ONCE = 16_384  # new tracklets that one answer to `changes_since` has
RUN = "run:"  # and the greatest row before it: a key of the table meta, whose value is when the run began
_ROWS_AT_ONCE = 4096

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
_COLUMNS = """
    SELECT t.row, t.camera_id, t.start_us, t.end_us, t.person_id, t.quality, t.zones, e.vector, e.crc
    FROM tracklets t LEFT JOIN embeddings e ON e.tracklet_row = t.row WHERE t.rejected IS NULL
"""
_AMONG_ROWS = "t.row IN (SELECT value FROM json_each(?))"


class GalleryReader:
    """A gallery's database, to be asked; belongs to the thread that opened it."""

    def __init__(self, root: Path, connection: sqlite3.Connection) -> None:
        self.root = root
        self._db = connection
        self.model_id = self._meta("model_id")
        self.dimension = int(self._meta("dimension"))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; a second call does nothing. Whoever is last leaves nothing beside it."""
        self._db.close()
        remove_empty_log(self.root / DATABASE)

    def runs_of(self, camera_id: str) -> int:
        """How many of the runs that filled this store have tracklets of a camera."""
        with self._reading():
            keys = self._db.execute("SELECT key FROM meta WHERE key LIKE ?", [f"{RUN}%"]).fetchall()
            begins = np.array(sorted(int(key.removeprefix(RUN)) for (key,) in keys), np.int64)
            rows = self._db.execute("SELECT row FROM tracklets WHERE camera_id = ?", [camera_id]).fetchall()
        return len({int(np.searchsorted(begins, row)) for (row,) in rows})

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

    def by_rows(self, rows: Iterable[int] | NDArray[np.int64]) -> list[StoredTracklet]:
        """Tracklets of these rows, accepted or rejected, in this order; rows that are gone are left out."""
        wanted = [int(row) for row in rows]
        with self._reading():
            answer = self._db.execute(f"{_SELECT} WHERE {_AMONG_ROWS}", [json.dumps(wanted)])
            found = {row[0]: row for row in answer}
            return [self._stored(found[row]) for row in wanted if row in found]

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
        row = self._first("SELECT row FROM tracklets WHERE tracklet_id = ?", tracklet_id)
        return [] if row is None else self.counterparts_of(row).get(row[0], [])

    def counterparts_of(self, rows: Iterable[int]) -> dict[int, list[StoredCounterpart]]:
        """The same of several tracklets, by row; of those that have any."""
        found: dict[int, list[StoredCounterpart]] = {}
        with self._reading():
            for row, camera, modality, when, path in self._db.execute(
                "SELECT tracklet_row, camera_id, modality, captured_us, path FROM counterparts"
                " WHERE tracklet_row IN (SELECT value FROM json_each(?)) ORDER BY camera_id",
                [json.dumps([int(row) for row in rows])],
            ):
                beside = StoredCounterpart(camera, Modality(modality), from_us(when), self.root / path)
                found.setdefault(row, []).append(beside)
        return found

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

    def gallery(self) -> Gallery:
        """Build the index of all accepted tracklets; ids are rows."""
        gallery = Gallery(self.dimension)
        for rows, vectors in self._all_vectors():
            gallery.add(rows, vectors)
        return gallery

    def changes_since(self, cursor: Cursor, *, most: int = MOST_AT_ONCE) -> Changes:
        """What was added, removed and revised since; with an empty cursor, from the beginning.

        Cheap when nothing changed: an index that asks every 50 ms follows another process's inserts. Each answer is of
        one moment and has at most so many new tracklets; where it is not the last one, ask again with its cursor.

        Raises:
            UsageError: When the file turns out to be damaged.
        """
        with self._reading(), snapshot(self._db):
            generation = int(self._meta("generation"))
            rebuilt = generation != cursor.generation
            since = Cursor() if rebuilt else cursor
            now = Cursor(self.last_row, self.last_change, generation)
            self.follow_model()
            if now == cursor:
                return Changes(False, Columns.empty(), self._no_vectors(), (), (), now, last=True)
            befell = self._db.execute(
                "SELECT tracklet_row, kind FROM changes WHERE change > ? ORDER BY change", [since.change]
            ).fetchall()
            removed = sorted({row for row, kind in befell if kind == "removed" and row <= since.row})
            revised = sorted({row for row, kind in befell if kind == "revised" and row <= since.row})
            new = self._db.execute(f"{_COLUMNS} AND t.row > ? ORDER BY t.row LIMIT ?", [since.row, most]).fetchall()
            last = len(new) < most
            found = [each for row in revised for each in self._db.execute(f"{_COLUMNS} AND t.row = ?", [row])] + new
            return Changes(
                rebuilt=rebuilt,
                added=self._columns(found),
                vectors=self._halves([each[-2] for each in found], [each[-1] for each in found]),
                removed=() if rebuilt else tuple(removed),
                revised=() if rebuilt else tuple(revised),
                cursor=now if last else replace(now, row=int(new[-1][0])),
                last=last,
            )

    def _columns(self, found: Sequence[tuple[Any, ...]]) -> Columns:
        """Without building an object a tracklet: a gallery of a million must be read in seconds."""
        modalities = dict(self._db.execute("SELECT camera_id, modality FROM cameras"))
        rows, cameras, start, end, persons, quality, zones, *_ = zip(*found, strict=True) if found else ((),) * 9
        return Columns(
            rows=np.array(rows, np.int64),
            cameras=cameras,
            modalities={camera: Modality(modality) for camera, modality in modalities.items()},
            start_us=np.array(start, np.int64),
            end_us=np.array(end, np.int64),
            persons=np.array(persons, np.int64),
            quality=np.array(quality, np.float64),
            zones=zones,
        )

    def _halves(self, vectors: Sequence[bytes | None], checksums: Sequence[int]) -> NDArray[np.float16]:
        """Vectors as they are stored, (n, dimension), whose checksums fit."""
        whole = [vector for vector in vectors if vector is not None]
        if len(whole) < len(vectors):
            raise ValueError("an accepted tracklet has no vector")
        if set(map(len, whole)) - {2 * self.dimension} or list(map(checksum, whole)) != list(checksums):
            raise ValueError("a vector's checksum or length does not fit")
        return halves(b"".join(whole), self.dimension)

    def _no_vectors(self) -> NDArray[np.float16]:
        return np.empty((0, self.dimension), np.float16)

    def _all_vectors(self) -> Iterator[tuple[list[int], NDArray[np.float16]]]:
        """All rows with a vector, ascending, and the vectors, some at a time."""
        with self._reading():
            found = self._db.execute("SELECT vector, crc, tracklet_row FROM embeddings ORDER BY tracklet_row")
            while some := found.fetchmany(_ROWS_AT_ONCE):
                yield [each[2] for each in some], self._halves([each[0] for each in some], [each[1] for each in some])

    def follow_model(self) -> None:
        """A reindexing of another process may have changed model and dimension."""
        self.model_id, self.dimension = self._meta("model_id"), int(self._meta("dimension"))

    @property
    def last_change(self) -> int:
        """The greatest number of a removal or revision, 0 before the first."""
        row = self._first("SELECT seq FROM sqlite_sequence WHERE name = 'changes'")
        return 0 if row is None else int(row[0])

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

    def counts(self) -> Counts:
        """How much there is; persons whose tracklets all went to others are not."""
        with self._reading():
            accepted, rejected = self._db.execute("SELECT COUNT(person_id), COUNT(rejected) FROM tracklets").fetchone()
            (persons,) = self._db.execute("SELECT COUNT(DISTINCT person_id) FROM tracklets").fetchone()  # by its index
            (crops,) = self._db.execute("SELECT COUNT(*) FROM crops").fetchone()
            return Counts(accepted=accepted, rejected=rejected, persons=persons, crops=crops)

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """The database for what this class has no method for; damage and failure are told as what they are."""
        with self._reading():
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
            raise DamagedGalleryError(f"{self.root / DATABASE}: not a complete gallery: it does not say its {key}")
        return str(row[0])

    def has(self, tracklet_id: str) -> bool:
        """Whether there is such a tracklet, accepted or rejected."""
        return self._first("SELECT 1 FROM tracklets WHERE tracklet_id = ?", tracklet_id) is not None

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
            digests = self._db.execute(
                "SELECT path, bytes, sha256 FROM images WHERE tracklet_row = ? ORDER BY path", [row]
            ).fetchall()
            vector = self._first("SELECT vector FROM embeddings WHERE tracklet_row = ?", row)
            values = dict(zip(_RECORD_COLUMNS, found[1:], strict=True))
            values["zones"] = tuple(json.loads(values["zones"]))
            values |= {"crops": tuple(crops), "counterparts": tuple(beside), "model_id": self.model_id}
            values["digests"] = tuple((Path(path).name, size, digest) for path, size, digest in digests)
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


def _mapping(value: Any) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise ValueError(f"expected a mapping, got {type(value).__name__}")
    return value
