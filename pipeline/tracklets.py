"""From tracks, frame by frame, to finished tracklets with the crops worth embedding."""

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from itertools import pairwise
from typing import Self

import numpy as np
from numpy.typing import NDArray
from ulid import ULID

from pipeline.frame import Frame, Image, TimeSource
from pipeline.zones import Zones, zones_of
from reid.modality import Modality
from trackers.crop_gate import CropGate
from trackers.structures import Tracks


@dataclass(frozen=True, slots=True, eq=False)
class Crop:
    """One view of a person, cut out of one frame.

    Attributes:
        image: Native pixels of the (padded, clipped) box, as in ``Frame.image``; a copy, never a view of the frame.
            Once the tracklet is finished, those of a black-hot camera are turned (``Windows.white_hot``).
        frame_index: Of the frame it was cut from.
        captured_at: Of that frame.
        xyxy: The box, pixels, float32 (4,).
        quality: In [0, 1]; see ``crop_quality``.
    """

    image: Image
    frame_index: int
    captured_at: datetime
    xyxy: NDArray[np.float32]
    quality: float


@dataclass(frozen=True, slots=True, eq=False)
class Counterpart:
    """The same place at the same moment through the camera of another modality that looks at the same scene.

    Attributes:
        camera_id: That camera.
        modality: What it measures.
        image: Native pixels, as in ``Frame.image``; a copy.
        captured_at: Of its frame.
        xyxy: The box in its frame, pixels, float32 (4,).
    """

    camera_id: str
    modality: Modality
    image: Image
    captured_at: datetime
    xyxy: NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Tracklet:
    """The finished life of one track: the unit of video re-identification.

    Attributes:
        tracklet_id: ``<camera>-<ULID>``, unique across restarts and machines.
        camera_id: Which camera.
        modality: What it measures.
        track_id: The tracker's long id within that camera; a track that was in doubt in between has several tracklets.
        start: Capture time of the first box, UTC.
        end: Capture time of the last box, UTC.
        time_source: Where those times came from.
        frame_index: (n,) int64, of the frames with a box.
        xyxy: (n, 4) float32 pixels.
        confidence: (n,) float32.
        resolution_wh: Of the camera's frames.
        crops: The best views, in order of time; empty when none was usable.
        zones: Names of the camera's zones that it stood in; empty where the camera has none.
        counterparts: Of the best view, one a camera at most; empty where no other camera looks at the same scene.
        max_risk: How doubtful the tracker was of the worst step from one of its boxes to the next (``Tracks.risk``).
        mean_risk: And of a step on average.
    """

    tracklet_id: str
    camera_id: str
    modality: Modality
    track_id: int
    start: datetime
    end: datetime
    time_source: TimeSource
    frame_index: NDArray[np.int64]
    xyxy: NDArray[np.float32]
    confidence: NDArray[np.float32]
    resolution_wh: tuple[int, int]
    crops: tuple[Crop, ...]
    zones: tuple[str, ...] = ()
    counterparts: tuple[Counterpart, ...] = ()
    max_risk: float = 0.0
    mean_risk: float = 0.0

    @property
    def duration_seconds(self) -> float:
        """From the first to the last box."""
        return (self.end - self.start).total_seconds()

    @property
    def best(self) -> Crop:
        """The view of the highest quality.

        Raises:
            ValueError: When there is no crop.
        """
        return max(self.crops, key=lambda crop: crop.quality)

    def with_images(self, change: Callable[[str, Image], Image]) -> Self:
        """The same, with other images: ``change`` is given a camera and its image, crop or counterpart."""
        crops = tuple(replace(each, image=change(self.camera_id, each.image)) for each in self.crops)
        beside = tuple(replace(each, image=change(each.camera_id, each.image)) for each in self.counterparts)
        return replace(self, crops=crops, counterparts=beside)


class Rejection(StrEnum):
    """Why a tracklet is not embedded."""

    TOO_FEW_FRAMES = "too_few_frames"
    TOO_SMALL = "too_small"
    NO_USABLE_CROP = "no_usable_crop"
    NOT_EMBEDDED = "not_embedded"  # the model failed on it; the log has the error


@dataclass(frozen=True, slots=True)
class RejectedTracklet:
    """A tracklet that is kept and counted, but neither embedded nor searched."""

    tracklet: Tracklet
    reason: Rejection

    def with_images(self, change: Callable[[str, Image], Image]) -> Self:
        """As `Tracklet.with_images`."""
        return replace(self, tracklet=self.tracklet.with_images(change))


@dataclass(frozen=True, slots=True)
class TrackletRules:
    """When a tracklet ends, and which of its views are worth embedding.

    Attributes:
        min_frames: Fewer boxes than this are rejected.
        min_height_px: A median box height below this is rejected.
        max_gap_seconds: A track not seen for longer is finished; at least the tracker's own memory.
        max_seconds: A longer tracklet is closed and continued as a new one, so that waiting people are searchable.
        max_crops: Views kept, spread evenly over the tracklet's life.
        min_quality: Views below this (see ``view_quality``) are not used.
        crop_padding: Margin around the box, as a share of its width and height.
        max_risk: A box that the tracker doubts more than this (``Tracks.risk``) begins a new tracklet.
        max_covered, border_px, min_confidence_share: Which boxes give a view at all, see `trackers.crop_gate.CropGate`.
    """

    min_frames: int = 6
    min_height_px: float = 48.0
    max_gap_seconds: float = 2.0
    max_seconds: float = 20.0
    max_crops: int = 8
    min_quality: float = 0.15
    crop_padding: float = 0.03
    max_risk: float = 0.7
    max_covered: float = 0.5
    border_px: float = 1.0
    min_confidence_share: float = 0.35


def view_quality(tracks: Tracks, resolution_wh: tuple[int, int]) -> NDArray[np.float32]:
    """Say how much of each box is one whole, unobstructed person.

    The product of: the share not covered by boxes that stand in front (a lower bottom edge is nearer to the camera;
    boxes behind count a quarter, for their pixels are in the crop too); 0.5 for every side on which the frame cuts the
    box; and how far the width is from that of one walking person (two merged people are wide, a fragment is flat).

    Args:
        tracks: The boxes of one frame.
        resolution_wh: Of that frame.

    Returns:
        (n,) float32 in [0, 1].
    """
    boxes = tracks.xyxy
    left, top, right, bottom = boxes.T
    width, height = right - left, bottom - top
    overlap_w = np.minimum(right[:, None], right) - np.maximum(left[:, None], left)
    overlap_h = np.minimum(bottom[:, None], bottom) - np.maximum(top[:, None], top)
    covered = np.clip(overlap_w, 0, None) * np.clip(overlap_h, 0, None) / (width * height)[:, None]
    np.fill_diagonal(covered, 0)
    in_front = bottom[None, :] > bottom[:, None]
    free = np.clip(1 - (covered * np.where(in_front, 1.0, 0.25)).sum(axis=1), 0, 1)
    frame_w, frame_h = resolution_wh
    sides_cut = (left <= 1).astype(int) + (top <= 1) + (right >= frame_w - 1) + (bottom >= frame_h - 1)
    aspect = width / height
    one_person = np.clip(np.minimum((1.0 - aspect) / 0.35, (aspect - 0.1) / 0.1), 0, 1)
    return np.asarray(free * 0.5**sides_cut * one_person, dtype=np.float32)


def cut_out(frame: Frame, xyxy: NDArray[np.float32], *, padding: float) -> Image | None:
    """Copy a padded box out of a frame, clipped to its borders.

    Returns:
        Native pixels, or None where the box has no pixel within the frame.
    """
    width, height = frame.resolution_wh
    margin = padding * (xyxy[2:] - xyxy[:2])
    left, top = np.floor(np.maximum(xyxy[:2] - margin, 0)).astype(int)
    right, bottom = np.ceil(np.minimum(xyxy[2:] + margin, (width, height))).astype(int)
    if right <= left or bottom <= top:
        return None
    return frame.image[top:bottom, left:right].copy()


@dataclass(slots=True)
class _OpenTracklet:
    """A tracklet in the making: all its boxes, and at most twice as many views as will be kept."""

    tracklet_id: str
    track_id: int
    camera_id: str
    modality: Modality
    time_source: TimeSource
    resolution_wh: tuple[int, int]
    first_pts: float
    last_pts: float
    captured_at: list[datetime] = field(default_factory=list)
    frame_index: list[int] = field(default_factory=list)
    xyxy: list[NDArray[np.float32]] = field(default_factory=list)
    confidence: list[float] = field(default_factory=list)
    risk: list[float] = field(default_factory=list)  # of each box but the first
    views: list[Crop] = field(default_factory=list)
    frames_a_view: int = 1
    last_span: int = -1
    recent_heights: deque[float] = field(default_factory=lambda: deque(maxlen=9))

    @classmethod
    def begin(cls, frame: Frame, track_id: int) -> Self:
        """Open a tracklet of this track whose first box is on ``frame``."""
        return cls(
            tracklet_id=f"{frame.camera_id}-{ULID()}",
            track_id=track_id,
            camera_id=frame.camera_id,
            modality=frame.modality,
            time_source=frame.time_source,
            resolution_wh=frame.resolution_wh,
            first_pts=frame.pts_seconds,
            last_pts=frame.pts_seconds,
        )

    def steadiness(self, height: float) -> float:
        """1 while the box keeps its height, falling when it suddenly shrinks or grows (a fragment, a merger)."""
        if len(self.recent_heights) < 3:
            return 1.0
        ratio = height / float(np.median(self.recent_heights))
        return float(np.clip(1.6 - 3 * abs(np.log(ratio)), 0.1, 1.0))

    def add_view(self, view: Crop, *, capacity: int) -> None:
        """Keep the better of the views of one span of frames; double the spans when there are too many."""
        span = (len(self.frame_index) - 1) // self.frames_a_view
        if span == self.last_span:
            if view.quality > self.views[-1].quality:
                self.views[-1] = view
            return
        self.last_span = span
        self.views.append(view)
        if len(self.views) >= capacity:
            self.views = thin_out(self.views, capacity // 2)
            self.frames_a_view *= 2
            self.last_span //= 2


def thin_out(views: list[Crop], count: int) -> list[Crop]:
    """Choose at most ``count`` views: the best of each of ``count`` equal stretches of the list."""
    if len(views) <= count:
        return views
    edges = np.linspace(0, len(views), count + 1).round().astype(int)
    return [max(views[a:b], key=lambda view: view.quality) for a, b in pairwise(edges)]


class TrackletBuilder:
    """Gathers the tracks of one camera into tracklets: by the tracker's `tracklet_id`, cut also where its risk is high.

    Memory is bounded by the number of people in view: each open tracklet holds at most ``2 * max_crops`` views and
    ``max_seconds`` of boxes.
    """

    def __init__(self, rules: TrackletRules, zones: Zones | None = None) -> None:
        self._rules = rules
        self._gate = CropGate(rules.max_covered, rules.border_px, rules.min_confidence_share)
        self.zones = zones or {}  # may be changed at any time
        self._open: dict[int, _OpenTracklet] = {}  # by the tracker's tracklet_id

    def update(self, frame: Frame, tracks: Tracks) -> Iterator[Tracklet | RejectedTracklet]:
        """Take one frame's tracks; yield the tracklets that this frame's time has finished.

        Args:
            frame: The image, newer than at the last call.
            tracks: Its tracks.
        """
        yield from self._close_finished(frame)
        qualities = view_quality(tracks, frame.resolution_wh)
        qualities[~self._gate.passes(tracks, frame.resolution_wh)] = -1.0  # no view, whatever the least quality is
        for row, piece in enumerate(tracks.tracklet_id.tolist()):
            if piece in self._open and tracks.risk[row] > self._rules.max_risk:
                yield self._close(piece)
            if piece not in self._open:
                self._open[piece] = _OpenTracklet.begin(frame, int(tracks.track_id[row]))
            else:
                self._open[piece].risk.append(float(tracks.risk[row]))
            self._extend(
                self._open[piece], frame, tracks.xyxy[row], float(tracks.confidence[row]), float(qualities[row])
            )

    def flush(self) -> Iterator[Tracklet | RejectedTracklet]:
        """Finish everything that is open, oldest first; call at the end of the stream."""
        for piece in list(self._open):
            yield self._close(piece)

    def views_of(self, frame_index: int) -> Iterator[tuple[str, Crop]]:
        """The views that the frame of this index gave, each with the id of its (open) tracklet."""
        for tracklet in self._open.values():
            if tracklet.views and tracklet.views[-1].frame_index == frame_index:
                yield tracklet.tracklet_id, tracklet.views[-1]

    def _extend(
        self, tracklet: _OpenTracklet, frame: Frame, xyxy: NDArray[np.float32], confidence: float, quality: float
    ) -> None:
        tracklet.last_pts = frame.pts_seconds
        tracklet.captured_at.append(frame.captured_at)
        tracklet.frame_index.append(frame.index)
        tracklet.xyxy.append(xyxy)
        tracklet.confidence.append(confidence)
        height = float(xyxy[3] - xyxy[1])
        quality *= tracklet.steadiness(height)
        tracklet.recent_heights.append(height)
        if quality < self._rules.min_quality:
            return
        image = cut_out(frame, xyxy, padding=self._rules.crop_padding)
        if image is not None:
            view = Crop(image, frame.index, frame.captured_at, xyxy, quality)
            tracklet.add_view(view, capacity=2 * self._rules.max_crops)

    def _close_finished(self, frame: Frame) -> Iterator[Tracklet | RejectedTracklet]:
        for piece, tracklet in list(self._open.items()):
            gap = frame.pts_seconds - tracklet.last_pts
            age = frame.pts_seconds - tracklet.first_pts
            is_resized = tracklet.resolution_wh != frame.resolution_wh  # its boxes are in other pixels
            if gap > self._rules.max_gap_seconds or age > self._rules.max_seconds or is_resized:
                yield self._close(piece)

    def _close(self, piece: int) -> Tracklet | RejectedTracklet:
        made = self._open.pop(piece)
        tracklet = Tracklet(
            tracklet_id=made.tracklet_id,
            camera_id=made.camera_id,
            modality=made.modality,
            track_id=made.track_id,
            start=min(made.captured_at),  # a clock that was set back far goes back at once
            end=max(made.captured_at),
            time_source=made.time_source,
            frame_index=np.array(made.frame_index, np.int64),
            xyxy=np.array(made.xyxy, np.float32),
            confidence=np.array(made.confidence, np.float32),
            resolution_wh=made.resolution_wh,
            crops=tuple(thin_out(made.views, self._rules.max_crops)),
            max_risk=max(made.risk, default=0.0),
            mean_risk=sum(made.risk) / max(1, len(made.risk)),
            zones=zones_of(np.array(made.xyxy, np.float32), made.resolution_wh, self.zones),
        )
        reason = self._reason_to_reject(tracklet)
        return RejectedTracklet(tracklet, reason) if reason else tracklet

    def _reason_to_reject(self, tracklet: Tracklet) -> Rejection | None:
        if len(tracklet.frame_index) < self._rules.min_frames:
            return Rejection.TOO_FEW_FRAMES
        if np.median(tracklet.xyxy[:, 3] - tracklet.xyxy[:, 1]) < self._rules.min_height_px:
            return Rejection.TOO_SMALL
        if not tracklet.crops:
            return Rejection.NO_USABLE_CROP
        return None
