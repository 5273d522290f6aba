"""All that is kept of a tracklet, as the rows of the database have it and as a file beside its crops has it.

The file is the journal of the database: written, synced and renamed into place together with the crops, before the
transaction that names them, and gone with them. A damaged database is rebuilt from these files. No other tracklet is
named in them, so that an erasure need not look into the folders of others.
"""

import base64
import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Self

import numpy as np

from pipeline.frame import TimeSource
from pipeline.identify import Sighting
from pipeline.tracklets import Counterpart, RejectedTracklet, Tracklet
from reid.embedding import to_bytes

CROPS = "crops"
RECORD = "record.json"
SCHEMA = "xreid.tracklet/1"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_BLOBS = ("frame_index", "xyxy", "confidence", "vector")

CropRow = tuple[int, str, float, int, int, float, float, float, float]
CounterpartRow = tuple[str, str, str, int, float, float, float, float]
Digest = tuple[str, int, str]


def to_us(moment: datetime) -> int:
    """Microseconds since 1970, UTC."""
    return (moment - _EPOCH) // _MICROSECOND


def from_us(microseconds: int) -> datetime:
    """The moment, UTC."""
    return _EPOCH + microseconds * _MICROSECOND


@dataclass(frozen=True, slots=True)
class Record:
    """One tracklet as it is stored.

    Attributes:
        tracklet_id: ``<camera>-<ULID>``.
        camera_id: Its camera.
        modality: What that measures.
        width: Of the camera's frames.
        height: Of the camera's frames.
        track_id: The tracker's.
        start_us: First box.
        end_us: Last box.
        time_source: Where the times came from.
        frames: Number of boxes.
        frame_index: int64, little-endian.
        xyxy: float32 (frames, 4).
        confidence: float32.
        rejected: Why; None when accepted.
        person_id: When it was stored; None when rejected.
        zones: Sorted names.
        quality: Of the best view; 0 where there is none.
        crops: position, path, quality, capture time, frame index, box.
        counterparts: camera, modality, path, capture time, box.
        vector: Half precision, little-endian; None when rejected.
        model_id: Of the vector.
        digests: Name, bytes and SHA-256 of each image as it was stored, by name; none for those of before version 3.
    """

    tracklet_id: str
    camera_id: str
    modality: str
    width: int
    height: int
    track_id: int
    start_us: int
    end_us: int
    time_source: str
    frames: int
    frame_index: bytes
    xyxy: bytes
    confidence: bytes
    rejected: str | None
    person_id: int | None
    zones: tuple[str, ...]
    quality: float
    crops: tuple[CropRow, ...]
    counterparts: tuple[CounterpartRow, ...]
    vector: bytes | None
    model_id: str
    digests: tuple[Digest, ...] = ()

    @classmethod
    def of(cls, item: Sighting | RejectedTracklet, model_id: str) -> Self:
        """What will be stored of a finished tracklet, but for the digests of its images: they are yet to be written."""
        tracklet = item.tracklet
        return cls(
            tracklet_id=tracklet.tracklet_id,
            camera_id=tracklet.camera_id,
            modality=tracklet.modality.value,
            width=tracklet.resolution_wh[0],
            height=tracklet.resolution_wh[1],
            track_id=tracklet.track_id,
            start_us=to_us(tracklet.start),
            end_us=to_us(tracklet.end),
            time_source=TimeSource(tracklet.time_source).value,
            frames=len(tracklet.frame_index),
            frame_index=tracklet.frame_index.astype("<i8").tobytes(),
            xyxy=tracklet.xyxy.astype("<f4").tobytes(),
            confidence=tracklet.confidence.astype("<f4").tobytes(),
            rejected=item.reason.value if isinstance(item, RejectedTracklet) else None,
            person_id=item.person_id if isinstance(item, Sighting) else None,
            zones=tuple(sorted(set(tracklet.zones))),
            quality=float(tracklet.best.quality) if tracklet.crops else 0.0,
            crops=tuple(_crop_row(tracklet, position) for position in range(len(tracklet.crops))),
            counterparts=tuple(sorted(_counterpart_row(tracklet, each) for each in tracklet.counterparts)),
            vector=to_bytes(item.embedding) if isinstance(item, Sighting) else None,
            model_id=model_id,
        )

    @property
    def folder(self) -> str:
        """Where its files are, relative to the store's folder."""
        return folder_of(self.camera_id, self.tracklet_id)

    @property
    def images(self) -> frozenset[str]:
        """Names of its image files, within its folder."""
        return frozenset(Path(path).name for path in self.image_paths)

    @property
    def image_paths(self) -> tuple[str, ...]:
        """Its images, relative to the store's folder: crops in order of time, then counterparts."""
        return tuple(crop[1] for crop in self.crops) + tuple(each[2] for each in self.counterparts)

    def to_json(self) -> bytes:
        """One JSON object with a digest of all the rest."""
        plain: dict[str, Any] = {"schema": SCHEMA, **asdict(self)}
        for name in _BLOBS:
            blob = plain[name]
            plain[name] = None if blob is None else base64.b64encode(blob).decode()
        return json.dumps({**plain, "digest": _digest(plain)}).encode() + b"\n"

    @classmethod
    def from_json(cls, data: bytes) -> Self:
        """Read one back.

        Raises:
            ValueError: When it is damaged, or of another schema.
        """
        plain = json.loads(data)
        if not isinstance(plain, Mapping) or plain.get("schema") != SCHEMA:
            raise ValueError(f"not a record of {SCHEMA}")
        values = dict(plain)
        if values.pop("digest", None) != _digest(values):
            raise ValueError("the record's digest does not fit: it is damaged")
        del values["schema"]
        for name in _BLOBS:
            values[name] = None if values[name] is None else base64.b64decode(values[name])
        for name in ("zones", "crops", "counterparts", "digests"):
            values[name] = tuple(tuple(each) if isinstance(each, list) else each for each in values.get(name, ()))
        return cls(**values)

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read the file of one.

        Raises:
            ValueError: When it is damaged, or of another schema.
            OSError: When it cannot be read.
        """
        return cls.from_json(path.read_bytes())


def folder_of(camera_id: str, tracklet_id: str) -> str:
    """A tracklet's folder, relative to the store's."""
    return f"{CROPS}/{camera_id}/{tracklet_id}"


def within_gallery(path: Path) -> str:
    """An image's path relative to the store's folder, whatever that folder is called."""
    return "/".join(path.parts[-4:])  # as `folder_of` makes it, and the file's name


def crop_path(tracklet: Tracklet, position: int) -> str:
    """Where a crop is kept, relative to the store's folder; JPEG for 8 bits, PNG (lossless) for 16."""
    suffix = "png" if tracklet.crops[position].image.dtype == np.uint16 else "jpg"
    return f"{folder_of(tracklet.camera_id, tracklet.tracklet_id)}/{position:03d}.{suffix}"


def counterpart_path(tracklet: Tracklet, other: Counterpart) -> str:
    """Where a counterpart's crop is kept, relative to the store's folder."""
    suffix = "png" if other.image.dtype == np.uint16 else "jpg"
    return f"{folder_of(tracklet.camera_id, tracklet.tracklet_id)}/beside-{other.camera_id}.{suffix}"


def _crop_row(tracklet: Tracklet, position: int) -> CropRow:
    crop = tracklet.crops[position]
    left, top, right, bottom = map(float, crop.xyxy)
    when = to_us(crop.captured_at)
    where = crop_path(tracklet, position)
    return (position, where, float(crop.quality), when, int(crop.frame_index), left, top, right, bottom)


def _counterpart_row(tracklet: Tracklet, other: Counterpart) -> CounterpartRow:
    left, top, right, bottom = map(float, other.xyxy)
    where = counterpart_path(tracklet, other)
    return (other.camera_id, other.modality.value, where, to_us(other.captured_at), left, top, right, bottom)


def _digest(plain: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()
