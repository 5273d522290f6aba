"""What a run leaves on disk beside the store: events, MOT text, a report. Each is whole, or clearly unfinished."""

import json
import logging
import os
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import IO, Annotated, Any, Literal, Self

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, PlainSerializer
from ulid import ULID

from pipeline.frame import Image, TimeSource
from pipeline.identify import Link, Sighting, person_name
from pipeline.store import crop_path
from pipeline.tracklets import Crop, RejectedTracklet, Rejection, Tracklet
from reid.modality import Modality
from trackers.boxes import xyxy_to_xywh
from trackers.structures import Detections, Tracks

logger = logging.getLogger(__name__)

_OPEN_DAYS = 8  # files that are kept open: recordings of several days may end in turns
EVENT_SCHEMA: Literal["xreid.event/1"] = "xreid.event/1"


def rfc3339(moment: datetime) -> str:
    """UTC with milliseconds: 2026-09-20T22:14:03.120Z."""
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


Moment = Annotated[datetime, PlainSerializer(rfc3339, return_type=str)]
Share = Annotated[float, Field(ge=0, le=1)]
Box = Annotated[list[float], Field(min_length=4, max_length=4)]


class _Model(BaseModel):
    model_config = ConfigDict(json_schema_serialization_defaults_required=True)


class Clock(_Model):
    """Where the times came from."""

    source: TimeSource


class BestView(_Model):
    """The clearest view of the person."""

    frame_time: Moment
    box_px: Annotated[Box, Field(description="left, top, width, height in pixels")]
    box: Annotated[Box, Field(description="the same as shares of the frame's width and height")]
    score: Annotated[Share, Field(description="how much of the view is one whole, unobstructed person")]
    crop: Annotated[str, Field(description="image file, relative to the run's folder")]


class ViewQuality(_Model):
    """How well that view shows the person."""

    height_px: Annotated[float, Field(gt=0, description="of the person's box")]
    blur: Annotated[Share, Field(description="0 is sharp (Crete et al., 2007, The blur effect)")]
    truncated: Annotated[bool, Field(description="whether the border of the frame cuts the box")]


class EmbeddingRef(_Model):
    """Which vector in the store belongs to this tracklet."""

    model: str
    dim: Annotated[int, Field(ge=1)]
    ref: Annotated[str, Field(description="the tracklet id under which the store keeps the vector")]


class EventLink(_Model):
    """An earlier tracklet of probably the same person."""

    tracklet_id: str
    camera: str
    modality: Modality
    p_same: Share
    cosine: Annotated[float, Field(ge=-1, le=1)]
    relation: Literal["probable_same_person"] = "probable_same_person"
    cross_modality: bool


class Event(_Model):
    """One finished tracklet, one line. Readers must ignore fields they do not know."""

    schema_: Annotated[Literal["xreid.event/1"], Field(alias="schema")] = EVENT_SCHEMA
    type: Literal["end"] = "end"
    event_id: Annotated[str, Field(pattern="^[0-9A-HJKMNP-TV-Z]{26}$", description="ULID, never given twice")]
    tracklet_id: str
    track_id: Annotated[
        int, Field(ge=1, description="the tracker's, within its camera and run; may hold several tracklets")
    ]
    camera: str
    site: str | None
    modality: Modality
    start: Moment
    end: Moment
    clock: Clock
    frames: Annotated[int, Field(ge=1)]
    person: Annotated[str | None, Field(description="across cameras, P0007; null when rejected")]
    rejected: Annotated[Rejection | None, Field(description="why the tracklet was not embedded; null when it was")]
    best: BestView | None
    quality: Annotated[ViewQuality | None, Field(description="of the best view")]
    embedding: EmbeddingRef | None
    links: list[EventLink]


def event_json_schema() -> dict[str, Any]:
    """JSON Schema (draft 2020-12) of a line of the event log; ``docs/event.schema.json`` holds it."""
    schema = Event.model_json_schema(mode="serialization", by_alias=True)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": EVENT_SCHEMA, **schema}


class EventLog:
    """Appends events as JSON Lines, one file a UTC day of the tracklet's end: ``events/2026-09-20.jsonl``.

    Every line is handed to the system as soon as it is written. A line torn by a crash is cut off when the day's file
    is next opened; the store still has its tracklet.
    """

    def __init__(self, root: Path, *, model_id: str, dimension: int, site: str | None = None) -> None:
        self._folder = root / "events"
        self._model_id = model_id
        self._dimension = dimension
        self._site = site
        self._files: dict[str, IO[bytes]] = {}
        self._folder.mkdir(parents=True, exist_ok=True)  # also where nobody comes: whoever waits for events finds it

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def write(self, item: Sighting | RejectedTracklet) -> None:
        """Append one event."""
        event = self.event_of(item)
        line = event.model_dump_json(by_alias=True) + "\n"
        file = self._file(event.end.strftime("%Y-%m-%d"))
        file.write(line.encode())
        file.flush()

    def close(self) -> None:
        """Close the files."""
        for file in self._files.values():
            file.close()
        self._files.clear()

    def event_of(self, item: Sighting | RejectedTracklet) -> Event:
        """The event of a finished tracklet, under a new id."""
        tracklet = item.tracklet
        accepted = isinstance(item, Sighting)
        return Event(
            event_id=str(ULID()),
            tracklet_id=tracklet.tracklet_id,
            track_id=tracklet.track_id,
            camera=tracklet.camera_id,
            site=self._site,
            modality=tracklet.modality,
            start=tracklet.start,
            end=tracklet.end,
            clock=Clock(source=tracklet.time_source),
            frames=len(tracklet.frame_index),
            person=person_name(item.person_id) if isinstance(item, Sighting) else None,
            rejected=item.reason if isinstance(item, RejectedTracklet) else None,
            best=_best_view(tracklet) if tracklet.crops else None,
            quality=_quality(tracklet) if tracklet.crops else None,
            embedding=EmbeddingRef(model=self._model_id, dim=self._dimension, ref=tracklet.tracklet_id)
            if accepted
            else None,
            links=[_event_link(link) for link in item.links] if isinstance(item, Sighting) else [],
        )

    def _file(self, day: str) -> IO[bytes]:
        if day not in self._files:
            path = self._folder / f"{day}.jsonl"
            file = path.open("r+b" if path.exists() else "w+b")
            whole = _length_of_whole_lines(file)
            if whole < file.seek(0, os.SEEK_END):
                logger.warning("%s: cutting off a last line that a crash left unfinished", path)
                file.truncate(whole)
            file.seek(whole)
            self._files[day] = file
            if len(self._files) > _OPEN_DAYS:
                self._files.pop(next(iter(self._files))).close()
        return self._files[day]


def _best_view(tracklet: Tracklet) -> BestView:
    best: Crop = tracklet.best
    xywh = xyxy_to_xywh(best.xyxy[None])[0]
    width, height = tracklet.resolution_wh
    return BestView(
        frame_time=best.captured_at,
        box_px=xywh.round(2).tolist(),
        box=(xywh / (width, height, width, height)).round(5).tolist(),
        score=round(float(np.clip(best.quality, 0, 1)), 4),
        crop=crop_path(tracklet, next(i for i, crop in enumerate(tracklet.crops) if crop is best)),
    )


def _quality(tracklet: Tracklet) -> ViewQuality:
    best, (width, height) = tracklet.best, tracklet.resolution_wh
    left, top, right, bottom = best.xyxy.tolist()
    return ViewQuality(
        height_px=round(bottom - top, 2),
        blur=round(blur_effect(best.image), 4),
        truncated=left <= 1 or top <= 1 or right >= width - 1 or bottom >= height - 1,
    )


def blur_effect(image: Image) -> float:
    """How blurred an image is, from 0, sharp, to 1: how little a strong blur takes from the steps between its pixels.

    Crete, Dolmiere, Ladret, Nicolas: "The blur effect", SPIE 2007, eq. 1 to 7; the worse of the two directions.

    Args:
        image: RGB (h, w, 3) or mono (h, w), 8 or 16 bits; one without any step is 1.
    """
    grey = image.astype(np.float32) if image.ndim == 2 else image.mean(axis=2, dtype=np.float32)
    worst = 0.0
    for axis, size in ((0, (1, 9)), (1, (9, 1))):
        steps = np.abs(np.diff(grey, axis=axis))
        after = np.abs(np.diff(cv2.blur(grey, size), axis=axis))
        total = float(steps.sum())
        lost = float(np.maximum(steps - after, 0).sum())
        worst = max(worst, 1 - lost / total if total else 1.0)
    return worst


def _event_link(link: Link) -> EventLink:
    return EventLink(
        tracklet_id=link.tracklet_id,
        camera=link.camera_id,
        modality=link.modality,
        p_same=round(link.probability, 6),
        cosine=round(link.cosine, 6),
        cross_modality=link.cross_modality,
    )


def _length_of_whole_lines(file: IO[bytes]) -> int:
    """Bytes up to and with the last line end; read from the back, for a day's file can be long."""
    position = file.seek(0, os.SEEK_END)
    while position:
        start = max(0, position - 65536)
        file.seek(start)
        found = file.read(position - start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        position = start
    return 0


class MotWriter:
    """Streams one MOTChallenge file: ``<path>.part`` while it grows, ``<path>`` once left without an error.

    After an error what was written stays ``<path>.part``. A run that is told to stop ends without one.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        self._part = path.with_name(path.name + ".part")
        self._file = self._part.open("w", encoding="ascii", newline="\n")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self._finish()
        else:
            with suppress(OSError):  # such as the full disk that was the error
                self._file.close()

    def write(self, frame: int, xyxy: NDArray[np.float32], confidence: NDArray[np.float32], ids: list[int]) -> None:
        """Append the boxes of a frame, counted from 1, in order."""
        for identity, (left, top, width, height), score in zip(ids, xyxy_to_xywh(xyxy), confidence, strict=True):
            self._file.write(f"{frame},{identity},{left:.2f},{top:.2f},{width:.2f},{height:.2f},{score:.4f},-1,-1,-1\n")

    def _finish(self) -> None:
        with self._file:
            self._file.flush()
            os.fsync(self._file.fileno())
        self._part.replace(self._path)


class MotWriters:
    """Tracks and detections of every camera: ``mot/<camera>.txt`` and ``detections/<camera>.txt`` under a folder.

    Frames are counted from 1: a frame's number is its ``Frame.index`` + 1.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._writers: dict[tuple[str, str], MotWriter] = {}
        self._open = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.__exit__(kind, error, trace)

    def write(self, camera_id: str, frame_index: int, tracks: Tracks, detections: Detections) -> None:
        """Append one frame of a camera; ``frame_index`` is 0-based, as in `Frame`."""
        frame = frame_index + 1
        self._writer("mot", camera_id).write(frame, tracks.xyxy, tracks.confidence, tracks.track_id.tolist())
        unnamed = [-1] * len(detections)
        self._writer("detections", camera_id).write(frame, detections.xyxy, detections.confidence, unnamed)

    def _writer(self, kind: str, camera_id: str) -> MotWriter:
        if (kind, camera_id) not in self._writers:
            writer = MotWriter(self._root / kind / f"{camera_id}.txt")
            self._writers[kind, camera_id] = self._open.enter_context(writer)
        return self._writers[kind, camera_id]


def write_whole(path: Path, data: bytes) -> None:
    """Write a file so that at any moment its name stands for the old or the new content, never for a part."""
    part = path.with_name(path.name + ".part")
    try:
        with part.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except BaseException:
        with suppress(OSError):
            part.unlink()
        raise


def write_report(path: Path, report: Mapping[str, Any]) -> None:
    """Write a report as JSON, whole or not at all; a NaN becomes null, for JSON has none."""
    text = json.dumps(without_nan(report), indent=2, ensure_ascii=False, allow_nan=False)
    write_whole(path, (text + "\n").encode())


def without_nan(value: Any) -> Any:
    """The same with None in place of NaN and infinity, which JSON does not have."""
    if isinstance(value, Mapping):
        return {key: without_nan(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(each) for each in value]
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value
