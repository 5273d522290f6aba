"""ByteTrack: associate every detection box, the weak ones too.

Zhang et al., "ByteTrack: Multi-Object Tracking by Associating Every Detection Box", ECCV 2022, algorithm 1. What
differs from the paper: time is in seconds, so frames may come at any rate and may be missing; the filter runs on
cx, cy, w, h; and the box given out is the detection that was matched, not the filter's state, whose error would be
added to the detector's.
"""

from dataclasses import dataclass, fields

import numpy as np

from trackers.boxes import iou_matrix, xyxy_to_cxcywh
from trackers.kalman import BoxFilter
from trackers.structures import Detections, Tracks
from trackers.table import CONFIRMED, LOST, TENTATIVE, Mask, Matrix, Rows, TrackTable, check_thresholds


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
        check_thresholds(self, *(field.name for field in fields(self)))
        if not self.low_confidence <= self.high_confidence <= self.new_confidence:
            raise ValueError(
                "low_confidence <= high_confidence <= new_confidence must hold, got "
                f"{self.low_confidence}, {self.high_confidence}, {self.new_confidence}"
            )


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
        self._table = TrackTable(BoxFilter())

    def __len__(self) -> int:
        """Tracks held, the tentative and the lost included."""
        return len(self._table)

    def reset(self) -> None:
        """Forget all tracks and the time. Ids already given are not given again."""
        self._table.clear(BoxFilter())

    def update(self, detections: Detections, *, pts_seconds: float) -> Tracks:
        """Take the next frame's boxes and return those that belong to a confirmed track, in their order.

        Args:
            detections: Boxes of this frame; below `low_confidence` they are not looked at.
            pts_seconds: Presentation time, strictly greater than at the last call; steps may differ.

        Raises:
            ValueError: When time does not increase or is not finite.
        """
        first_frame = self._table.advance(pts_seconds, lost_seconds=self.settings.lost_seconds)
        return associate_by_confidence(self._table, detections, self.settings, first_frame=first_frame)


def associate_by_confidence(
    table: TrackTable, detections: Detections, settings: ByteTrackSettings, *, first_frame: bool
) -> Tracks:
    """ByteTrack's frame, once all tracks were moved on to its time: match, continue, lose, start, give out."""
    boxes = xyxy_to_cxcywh(detections.xyxy)
    unclaimed = _associate(table, detections, settings)
    _continue(table, boxes)
    table.keep(~(((table.state == TENTATIVE) & (table.seen_as < 0)) | _duplicates(table)))
    born = unclaimed[detections.confidence[unclaimed] >= settings.new_confidence]
    started = table.start(boxes[born], born)
    if first_frame:
        table.confirm(started)
    return table.tracks(detections)


def _associate(table: TrackTable, detections: Detections, settings: ByteTrackSettings) -> Rows:
    """See tracks as detections, and return the high-confidence detections that no track claims."""
    confidence = detections.confidence.astype(np.float64)
    high = np.flatnonzero(confidence >= settings.high_confidence)
    low = np.flatnonzero((confidence >= settings.low_confidence) & (confidence < settings.high_confidence))
    if not len(table):
        return high
    overlap = iou_matrix(table.filter.xyxy, detections.xyxy)
    fused = overlap * confidence if settings.fuse_confidence else overlap
    established = np.flatnonzero(table.state != TENTATIVE)
    missed, unclaimed = table.match(fused, established, high, settings.first_overlap)
    living = missed[table.state[missed] == CONFIRMED]
    table.match(overlap, living, low, settings.second_overlap)
    _, unclaimed = table.match(fused, np.flatnonzero(table.state == TENTATIVE), unclaimed, settings.new_overlap)
    return unclaimed


def _continue(table: TrackTable, boxes: Matrix) -> None:
    """Update what was seen, confirm the tentative of them, and lose the confirmed that were not."""
    table.confirm(table.see(boxes))
    missed = (table.seen_as < 0) & (table.state == CONFIRMED)
    table.state[missed] = LOST
    table.filter.stop_growth(missed)


def _duplicates(table: TrackTable) -> Mask:
    """Of each living and lost track in one place, the one with the shorter life."""
    duplicate = np.zeros(len(table), bool)
    living, lost = np.flatnonzero(table.state == CONFIRMED), np.flatnonzero(table.state == LOST)
    if len(living) and len(lost):
        xyxy = table.filter.xyxy
        a, b = np.nonzero(iou_matrix(xyxy[living], xyxy[lost]) > _DUPLICATE_IOU)
        life = table.last_seen - table.first_seen
        a, b = living[a], lost[b]
        duplicate[np.where(life[a] > life[b], b, a)] = True
    return duplicate
