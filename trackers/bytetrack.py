"""ByteTrack: associate every detection box, the weak ones too.

Zhang et al., "ByteTrack: Multi-Object Tracking by Associating Every Detection Box", ECCV 2022, algorithm 1. What
differs from the paper: time is in seconds, so frames may come at any rate and may be missing; the filter runs on
cx, cy, w, h; and the box given out is the detection that was matched, not the filter's state, whose error would be
added to the detector's.
"""

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from trackers.association import assign
from trackers.boxes import iou_matrix, xyxy_to_cxcywh
from trackers.kalman import BoxFilter
from trackers.structures import Detections, Tracks

Rows = NDArray[np.int64]
Mask = NDArray[np.bool_]
Matrix = NDArray[np.float64]

TENTATIVE, CONFIRMED, LOST = 0, 1, 2

_TIME_SLACK = 1e-6  # seconds: the rounding of float64 time stamps in the order of a Unix time


@dataclass(frozen=True, slots=True)
class ByteTrackSettings:
    """Thresholds of ByteTrack; the defaults are the paper's. Overlaps and confidences are in [0, 1].

    Attributes:
        high_confidence: Detections from here on are matched first, and to lost tracks too.
        low_confidence: Detections from here up to `high_confidence` can only continue a track seen in the last frame.
        new_confidence: A detection that no track claims starts one from here on.
        first_overlap: Overlap, times the confidence if `fuse_confidence`, that the first association must exceed.
        second_overlap: Overlap that the association of low-confidence boxes must exceed.
        new_overlap: Like `first_overlap`, for the tracks that were seen only once.
        lost_seconds: How long an unseen track waits to be found again; more than the time between frames.
        fuse_confidence: Whether confident detections are preferred where overlaps are alike.
    """

    high_confidence: float = 0.6
    low_confidence: float = 0.1
    new_confidence: float = 0.7
    first_overlap: float = 0.2
    second_overlap: float = 0.5
    new_overlap: float = 0.3
    lost_seconds: float = 1.0
    fuse_confidence: bool = True

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name.endswith(("_confidence", "_overlap")) and not 0 <= value <= 1:
                raise ValueError(f"{field.name} must be in [0, 1], got {value}")
        if not self.low_confidence <= self.high_confidence <= self.new_confidence:
            raise ValueError(
                "low_confidence <= high_confidence <= new_confidence must hold, got "
                f"{self.low_confidence}, {self.high_confidence}, {self.new_confidence}"
            )
        if not (np.isfinite(self.lost_seconds) and self.lost_seconds > 0):
            raise ValueError(f"lost_seconds must be a positive number, got {self.lost_seconds}")


DEFAULT_SETTINGS = ByteTrackSettings()
_DUPLICATE_IOU = 0.85  # a lost and a living track this close are one person


class ByteTrack:
    """Tracks of one camera; see `trackers.base.Tracker`.

    A track is tentative until the frame after its first, where it is confirmed or dropped; tracks of the very first
    frame are confirmed at once. A confirmed track that no detection continues is lost. Any track is dropped that was
    not seen for longer than `lost_seconds`, which therefore must exceed the time between frames. Ids count from 1 in
    the order of confirmation. The state is a handful of arrays with a row a track: it can be pickled, and it does not
    grow with time.
    """

    def __init__(self, settings: ByteTrackSettings = DEFAULT_SETTINGS) -> None:
        self.settings = settings
        self._ids_given = 0
        self._clear()

    def _clear(self) -> None:
        self._filter = BoxFilter()
        self._state = np.empty(0, np.int8)
        self._track_id = np.empty(0, np.int64)
        self._first_seen = np.empty(0)
        self._last_seen = np.empty(0)
        self._seen_as = np.empty(0, np.int64)  # row of this frame's detections, -1 for none
        self._now: float | None = None

    def __len__(self) -> int:
        """Tracks held, the tentative and the lost included."""
        return len(self._state)

    def reset(self) -> None:
        """Forget all tracks and the time. Ids already given are not given again."""
        self._clear()

    def update(self, detections: Detections, *, pts_seconds: float) -> Tracks:
        """Take the next frame's boxes and return those that belong to a confirmed track, in their order.

        Args:
            detections: Boxes of this frame; below `low_confidence` they are not looked at.
            pts_seconds: Presentation time, strictly greater than at the last call; steps may differ.

        Raises:
            ValueError: When time does not increase or is not finite.
        """
        first_frame = self._advance(pts_seconds)
        boxes = xyxy_to_cxcywh(detections.xyxy)
        unclaimed = self._associate(detections)
        self._continue(boxes)
        self._keep(~(((self._state == TENTATIVE) & (self._seen_as < 0)) | self._duplicates()))
        born = unclaimed[detections.confidence[unclaimed] >= self.settings.new_confidence]
        self._start(boxes[born], born, confirmed=first_frame)
        return self._tracks(detections)

    def _advance(self, pts_seconds: float) -> bool:
        """Move all tracks to this time, without those unseen for too long; whether this is the first frame."""
        if not np.isfinite(pts_seconds):
            raise ValueError(f"pts_seconds must be finite, got {pts_seconds}")
        first_frame = self._now is None
        if self._now is not None:
            if pts_seconds <= self._now:
                raise ValueError(f"pts_seconds must be greater than at the last call, {self._now}, got {pts_seconds}")
            unseen = pts_seconds - self._last_seen
            self._keep(unseen <= self.settings.lost_seconds + _TIME_SLACK)
            self._filter.predict(pts_seconds - self._now)
        self._now = pts_seconds
        return first_frame

    def _associate(self, detections: Detections) -> Rows:
        """Set `_seen_as`, and return the high-confidence detections that no track claims."""
        settings, confidence = self.settings, detections.confidence.astype(np.float64)
        high = np.flatnonzero(confidence >= settings.high_confidence)
        low = np.flatnonzero((confidence >= settings.low_confidence) & (confidence < settings.high_confidence))
        self._seen_as = np.full(len(self), -1, np.int64)
        if not len(self):
            return high
        overlap = iou_matrix(self._filter.xyxy, detections.xyxy)
        fused = overlap * confidence if settings.fuse_confidence else overlap
        established = np.flatnonzero(self._state != TENTATIVE)
        missed, unclaimed = self._match(fused, established, high, settings.first_overlap)
        living = missed[self._state[missed] == CONFIRMED]
        self._match(overlap, living, low, settings.second_overlap)
        _, unclaimed = self._match(fused, np.flatnonzero(self._state == TENTATIVE), unclaimed, settings.new_overlap)
        return unclaimed

    def _match(self, similarity: Matrix, tracks: Rows, detections: Rows, floor: float) -> tuple[Rows, Rows]:
        """Pair these rows with these columns, and return those left over."""
        result = assign(-similarity[np.ix_(tracks, detections)], gate=-floor)
        pairs = result.matches
        self._seen_as[tracks[pairs[:, 0]]] = detections[pairs[:, 1]]
        return tracks[result.unmatched_tracks], detections[result.unmatched_detections]

    def _continue(self, boxes: Matrix) -> None:
        """Update what was seen, confirm the tentative of them, and lose the confirmed that were not."""
        seen = np.flatnonzero(self._seen_as >= 0)
        self._filter.update(seen, boxes[self._seen_as[seen]])
        self._last_seen[seen] = self._now
        self._confirm(seen[self._state[seen] == TENTATIVE])
        self._state[seen] = CONFIRMED
        missed = (self._seen_as < 0) & (self._state == CONFIRMED)
        self._state[missed] = LOST
        self._filter.stop_growth(missed)

    def _confirm(self, rows: Rows) -> None:
        self._state[rows] = CONFIRMED
        self._track_id[rows] = self._ids_given + 1 + np.arange(len(rows))
        self._ids_given += len(rows)

    def _duplicates(self) -> Mask:
        """Of each living and lost track in one place, the one with the shorter life."""
        duplicate = np.zeros(len(self), bool)
        living, lost = np.flatnonzero(self._state == CONFIRMED), np.flatnonzero(self._state == LOST)
        if len(living) and len(lost):
            xyxy = self._filter.xyxy
            a, b = np.nonzero(iou_matrix(xyxy[living], xyxy[lost]) > _DUPLICATE_IOU)
            life = self._last_seen - self._first_seen
            a, b = living[a], lost[b]
            duplicate[np.where(life[a] > life[b], b, a)] = True
        return duplicate

    def _start(self, boxes: Matrix, seen_as: Rows, *, confirmed: bool) -> None:
        count = len(boxes)
        if not count:
            return
        now = np.full(count, self._now)
        self._filter.append(boxes)
        self._state = np.concatenate([self._state, np.full(count, TENTATIVE, np.int8)])
        self._track_id = np.concatenate([self._track_id, np.zeros(count, np.int64)])
        self._first_seen = np.concatenate([self._first_seen, now])
        self._last_seen = np.concatenate([self._last_seen, now])
        self._seen_as = np.concatenate([self._seen_as, seen_as])
        if confirmed:
            self._confirm(np.arange(len(self) - count, len(self)))

    def _keep(self, rows: Mask) -> None:
        if rows.all():
            return
        self._filter.keep(rows)
        self._state, self._track_id, self._seen_as = self._state[rows], self._track_id[rows], self._seen_as[rows]
        self._first_seen, self._last_seen = self._first_seen[rows], self._last_seen[rows]

    def _tracks(self, detections: Detections) -> Tracks:
        rows = np.flatnonzero((self._seen_as >= 0) & (self._state == CONFIRMED))
        rows = rows[np.argsort(self._seen_as[rows])]
        seen_as = self._seen_as[rows]
        return Tracks(detections.xyxy[seen_as], detections.confidence[seen_as], self._track_id[rows])
