"""What a run leaves on disk beside the store: events, MOT text, a report. Each is whole, or clearly unfinished."""

import json
import logging
import os
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Annotated, Any, Literal, Self

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, PlainSerializer, TypeAdapter
from ulid import ULID

from pipeline.crop_files import write_whole as write_whole  # others know it by this name
from pipeline.event_files import EVENTS, append_line
from pipeline.frame import Image, TimeSource
from pipeline.identify import Link, Sighting, person_name
from pipeline.losses import Losses, is_full
from pipeline.record import crop_path
from pipeline.recovery import Rebuilt
from pipeline.retention import Shortage
from pipeline.tracklets import Crop, RejectedTracklet, Rejection, Tracklet
from reid.modality import Modality
from trackers.boxes import xyxy_to_xywh
from trackers.structures import Detections, Tracks

logger = logging.getLogger(__name__)

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


class PurityRisk(_Model):
    """How doubtful the tracker was, from one box to the next, that it was the same person."""

    max: Annotated[float, Field(ge=0, le=1)]
    mean: Annotated[float, Field(ge=0, le=1)]


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
    risk: PurityRisk
    embedding: EmbeddingRef | None
    links: list[EventLink]


class DiskLow(_Model):
    """The disk was nearly full, and the oldest tracklets that no case holds went to make room."""

    schema_: Annotated[Literal["xreid.event/1"], Field(alias="schema")] = EVENT_SCHEMA
    type: Literal["disk_low"] = "disk_low"
    event_id: Annotated[str, Field(pattern="^[0-9A-HJKMNP-TV-Z]{26}$", description="ULID, never given twice")]
    site: str | None
    end: Annotated[Moment, Field(description="when it was noticed")]
    free_bytes: Annotated[int, Field(ge=0, description="after room was made")]
    wanted_bytes: Annotated[int, Field(ge=0, description="what should be free")]
    removed: Annotated[dict[str, int], Field(description="by class: tracklets, crops, clips")]
    removed_until: Annotated[Moment | None, Field(description="end of the newest tracklet that went")]


class GalleryRebuilt(_Model):
    """The database was damaged: it was set aside and rebuilt from the records beside the crops."""

    schema_: Annotated[Literal["xreid.event/1"], Field(alias="schema")] = EVENT_SCHEMA
    type: Literal["gallery_rebuilt"] = "gallery_rebuilt"
    event_id: Annotated[str, Field(pattern="^[0-9A-HJKMNP-TV-Z]{26}$", description="ULID, never given twice")]
    site: str | None
    end: Annotated[Moment, Field(description="when it was done")]
    set_aside: Annotated[str, Field(description="folder of the damaged files, relative to the run's")]
    tracklets: Annotated[int, Field(ge=0, description="rebuilt")]
    lost: Annotated[dict[str, int], Field(description="what could not be read any more, by kind")]


def event_json_schema() -> dict[str, Any]:
    """JSON Schema (draft 2020-12) of a line of the event log; ``docs/event.schema.json`` holds it."""
    adapter: TypeAdapter[Any] = TypeAdapter(Annotated[Event | DiskLow | GalleryRebuilt, Field(discriminator="type")])
    schema = adapter.json_schema(mode="serialization", by_alias=True)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": EVENT_SCHEMA, **schema}


class EventLog:
    """Appends events as JSON Lines, one file a UTC day of the tracklet's end: ``events/2026-09-20.jsonl``.

    Every line is handed to the system as soon as it is written. A line torn by a crash is cut off when the day's file
    is next written to; the store still has its tracklet.
    """

    def __init__(self, root: Path, *, model_id: str, dimension: int, site: str | None = None) -> None:
        self._root = root
        self._model_id = model_id
        self._dimension = dimension
        self._site = site
        (root / EVENTS).mkdir(parents=True, exist_ok=True)  # also where nobody comes: whoever waits for events finds it

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def write(self, item: Sighting | RejectedTracklet) -> None:
        """Append one event."""
        self.append(self.event_of(item))

    def append(self, event: "Event | DiskLow | GalleryRebuilt") -> None:
        """Append any event, to the file of the day of its end."""
        line = event.model_dump_json(by_alias=True) + "\n"
        append_line(self._root, event.end.strftime("%Y-%m-%d"), line.encode())

    def tell_shortage(self, shortage: Shortage) -> None:
        """The disk was nearly full. On one that is quite full, the log says it: an event must not end the run."""
        event = DiskLow(
            event_id=str(ULID()),
            site=self._site,
            end=datetime.now(UTC),
            free_bytes=shortage.free_bytes,
            wanted_bytes=shortage.wanted_bytes,
            removed=dict(shortage.aged.counts),
            removed_until=shortage.aged.until,
        )
        try:
            self.append(event)
        except OSError as error:
            logger.error("the event disk_low could not be written: %s", error)

    def tell_rebuilt(self, rebuilt: Rebuilt) -> None:
        """The database was damaged, and is a new one."""
        event = GalleryRebuilt(
            event_id=str(ULID()),
            site=self._site,
            end=datetime.now(UTC),
            set_aside=rebuilt.set_aside.relative_to(self._root).as_posix(),
            tracklets=rebuilt.tracklets,
            lost=rebuilt.lost,
        )
        self.append(event)

    def close(self) -> None:
        """Nothing stays open between two events."""

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
            risk=PurityRisk(max=round(tracklet.max_risk, 4), mean=round(tracklet.mean_risk, 4)),
            embedding=EmbeddingRef(model=self._model_id, dim=self._dimension, ref=tracklet.tracklet_id)
            if accepted
            else None,
            links=[_event_link(link) for link in item.links] if isinstance(item, Sighting) else [],
        )


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

    Frames are counted from 1: a frame's number is its ``Frame.index`` + 1. A file that the disk has no room for is
    given up: it stays as it is, ``.part``, and its frames from then on are counted as lost.
    """

    def __init__(self, root: Path, losses: Losses | None = None) -> None:
        self._root = root
        self._losses = losses or Losses()
        self._given_up: set[tuple[str, str]] = set()
        self._writers: dict[tuple[str, str], MotWriter] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with ExitStack() as ends:
            for name in self._writers:
                ends.callback(self._close, name, kind, error, trace)

    def write(self, camera_id: str, frame_index: int, tracks: Tracks, detections: Detections) -> None:
        """Append one frame of a camera; ``frame_index`` is 0-based, as in `Frame`."""
        self._write(("mot", camera_id), frame_index + 1, tracks.xyxy, tracks.confidence, tracks.track_id.tolist())
        unnamed = [-1] * len(detections)
        self._write(("detections", camera_id), frame_index + 1, detections.xyxy, detections.confidence, unnamed)

    def _write(
        self,
        name: tuple[str, str],
        frame: int,
        xyxy: NDArray[np.float32],
        confidence: NDArray[np.float32],
        ids: list[int],
    ) -> None:
        if name in self._given_up:
            self._losses.counts[name[0]] += 1
            return
        try:
            self._writer(name).write(frame, xyxy, confidence, ids)
        except OSError as error:
            if not is_full(error):
                raise
            self._losses.count(name[0], error)
            self._given_up.add(name)
            if name in self._writers:
                self._writers.pop(name).__exit__(OSError, error, None)

    def _close(
        self,
        name: tuple[str, str],
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._losses.counting(name[0]):
            self._writers[name].__exit__(kind, error, trace)

    def _writer(self, name: tuple[str, str]) -> MotWriter:
        if name not in self._writers:
            kind, camera_id = name
            self._writers[name] = MotWriter(self._root / kind / f"{camera_id}.txt")
        return self._writers[name]


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
