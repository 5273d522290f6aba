"""What a store gives: tracklets, boxes, links, people and changes as the database has them, without images."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from pipeline.record import to_us
from pipeline.tracklets import Rejection
from reid.modality import Modality


@dataclass(frozen=True, slots=True)
class TrackletFilter:
    """Which tracklets are meant; None means any.

    Attributes:
        cameras: Only these.
        modalities: Only these.
        start: Only tracklets that end at or after this time, UTC.
        end: Only tracklets that start before this time, UTC.
        person_id: Only this person's.
        zones: Only tracklets that stood in one of these.
        min_quality: Only tracklets whose best view is at least this good.
        rejected: True for rejected ones only, False for accepted ones only.
    """

    cameras: frozenset[str] | None = None
    modalities: frozenset[Modality] | None = None
    start: datetime | None = None
    end: datetime | None = None
    person_id: int | None = None
    zones: frozenset[str] | None = None
    min_quality: float | None = None
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
            ("t.end_us >= ?", self.start and to_us(self.start)),
            ("t.start_us < ?", self.end and to_us(self.end)),
            ("t.person_id = ?", self.person_id),
            ("t.quality >= ?", self.min_quality),
        )
        for term, value in bounds:
            if value is not None:
                terms.append(term)
                values.append(value)
        if self.zones is not None:
            terms.append("EXISTS (SELECT 1 FROM json_each(t.zones) WHERE value IN (SELECT value FROM json_each(?)))")
            values.append(json.dumps(sorted(self.zones)))
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
        best_crop: Image of the best view, absolute; None when no view was usable, or the images have aged away.
        quality: Of the best view, in [0, 1]; 0 when none was usable.
        zones: Names of the camera's zones that it stood in, sorted.
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
    zones: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Columns:
    """What an index and its filters look at of many accepted tracklets: an array a property, a place a tracklet.

    Attributes:
        rows: (n,) int64, ascending.
        cameras: (n,) which.
        modalities: Of every camera.
        start_us: (n,) first box, microseconds since 1970, UTC.
        end_us: (n,) last box.
        persons: (n,) whose each is.
        quality: (n,) of the best view, in [0, 1].
        zones: (n,) JSON lists of names, sorted.
    """

    rows: NDArray[np.int64]
    cameras: Sequence[str]
    modalities: Mapping[str, Modality]
    start_us: NDArray[np.int64]
    end_us: NDArray[np.int64]
    persons: NDArray[np.int64]
    quality: NDArray[np.float64]
    zones: Sequence[str]

    def __post_init__(self) -> None:
        counts = {len(getattr(self, name)) for name in self.__slots__ if name != "modalities"}
        if len(counts) != 1:
            raise ValueError(f"columns must be of one length, got {sorted(counts)}")

    def __len__(self) -> int:
        return len(self.rows)

    @classmethod
    def of(cls, tracklets: Iterable[StoredTracklet]) -> Self:
        """Of accepted tracklets, in any order."""
        found = sorted(tracklets, key=lambda each: each.row)
        return cls(
            rows=np.array([each.row for each in found], np.int64),
            cameras=[each.camera_id for each in found],
            modalities={each.camera_id: each.modality for each in found},
            start_us=np.array([to_us(each.start) for each in found], np.int64),
            end_us=np.array([to_us(each.end) for each in found], np.int64),
            persons=np.array([each.person_id for each in found], np.int64),
            quality=np.array([each.quality for each in found], np.float64),
            zones=[json.dumps(each.zones) for each in found],
        )

    @classmethod
    def empty(cls) -> Self:
        """Of none."""
        return cls.of(())


class PersonState(StrEnum):
    """How sure a person is: the program's guess, an operator's word, or part of another person by now."""

    PROBABLE = "probable"
    CONFIRMED = "confirmed"
    MERGED = "merged"


class LinkState(StrEnum):
    """How sure a link is: the program's guess, or an operator's word for or against it."""

    PROBABLE = "probable"
    CONFIRMED = "confirmed"
    REJECTED = "rejected"


@dataclass(frozen=True, slots=True)
class StoredLink:
    """Evidence that two tracklets show one person.

    Attributes:
        row: The later tracklet.
        tracklet_id: Its name.
        to_tracklet_id: The earlier one; it may have been aged away.
        cosine: In [-1, 1].
        probability: Calibrated, in [0, 1].
        state: Probable until an operator says more.
    """

    row: int
    tracklet_id: str
    to_tracklet_id: str
    cosine: float
    probability: float
    state: LinkState


@dataclass(frozen=True, slots=True)
class StoredCounterpart:
    """A tracklet's best view through the camera of another modality.

    Attributes:
        camera_id: That camera.
        modality: What it measures.
        captured_at: UTC.
        crop: Image, absolute.
    """

    camera_id: str
    modality: Modality
    captured_at: datetime
    crop: Path


@dataclass(frozen=True, slots=True)
class Cursor:
    """How far a reader has followed a store.

    Attributes:
        row: Greatest row seen.
        change: Greatest change seen.
        generation: Of the vectors: another number means that all changed, and what was read before is void.
    """

    row: int = 0
    change: int = 0
    generation: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class Changes:
    """What became of a store since a cursor, all of one moment.

    Attributes:
        rebuilt: Everything changed: forget all that was read before; this and what follows has the whole store.
        added: Accepted tracklets, by row; also those of ``revised``, as they are now.
        vectors: (n, dimension), as they are stored, of ``added``.
        removed: Rows that are gone; some may never have been seen.
        revised: Rows whose person changed; those that still exist are in ``added``.
        cursor: Where to go on.
        last: Whether that is all; else there is more to ask for at once.
    """

    rebuilt: bool
    added: Columns
    vectors: NDArray[np.float16]
    removed: tuple[int, ...]
    revised: tuple[int, ...]
    cursor: Cursor
    last: bool


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
