"""SORT: predict, overlap, assign, and nothing else.

Bewley, Ge, Ott, Ramos, Upcroft, "Simple Online and Realtime Tracking", ICIP 2016. What differs from the paper: time is
in seconds, so that frames may come at any rate and may be missing; the filter runs on cx, cy, w, h and not on centre,
area and aspect; and the box given out is the detection that was matched, not the filter's state.
"""

from dataclasses import dataclass, fields

import numpy as np

from trackers.boxes import iou_matrix, xyxy_to_cxcywh
from trackers.kalman import BoxFilter
from trackers.structures import Detections, Tracks
from trackers.table import Rows, TrackTable, check_thresholds


@dataclass(frozen=True, slots=True)
class SortSettings:
    """Thresholds of SORT. Overlaps and confidences are in [0, 1].

    Attributes:
        min_confidence: Detections below are not looked at.
        min_overlap: Overlap that a match must exceed; the paper's IoU_min.
        lost_seconds: How long an unseen track waits to be found again; more than the time between frames. The paper
            waits one frame (T_lost = 1), which gives the purest and shortest tracks: set it just above the time
            between frames for that.
        confirm_hits: In how many frames running a track must be seen, the first time or again after it was missed,
            before its boxes are given out; in the first frames of a stream all are.
    """

    min_confidence: float = 0.6
    min_overlap: float = 0.3
    lost_seconds: float = 1.0
    confirm_hits: int = 3

    def __post_init__(self) -> None:
        check_thresholds(self, *(field.name for field in fields(self)))
        if self.confirm_hits < 1:
            raise ValueError(f"confirm_hits must be 1 or more, got {self.confirm_hits}")


DEFAULT_SETTINGS = SortSettings()


class Sort:
    """Tracks of one camera; see `trackers.base.Tracker`.

    Ids count from 1 in the order of confirmation. The state is a handful of arrays with a row a track: it can be
    pickled, and it does not grow with time.
    """

    def __init__(self, settings: SortSettings = DEFAULT_SETTINGS) -> None:
        self.settings = settings
        self._table = TrackTable(BoxFilter())
        self._frames = 0  # counted to confirm_hits + 1

    def __len__(self) -> int:
        """Tracks held, the tentative and the lost included."""
        return len(self._table)

    def reset(self) -> None:
        """Forget all tracks and the time. Ids already given are not given again."""
        self._table.clear(type(self._table.filter)())
        self._frames = 0

    def update(self, detections: Detections, *, pts_seconds: float) -> Tracks:
        """Take the next frame's boxes and return those that belong to a confirmed track, in their order.

        Args:
            detections: Boxes of this frame; below `min_confidence` they are not looked at.
            pts_seconds: Presentation time, strictly greater than at the last call; steps may differ.

        Raises:
            ValueError: When time does not increase or is not finite.
        """
        table, settings = self._table, self.settings
        table.advance(pts_seconds, lost_seconds=settings.lost_seconds)
        self._frames = min(self._frames + 1, settings.confirm_hits + 1)
        boxes = xyxy_to_cxcywh(detections.xyxy)
        good = np.flatnonzero(detections.confidence.astype(np.float64) >= settings.min_confidence)
        born = self._associate(detections, good) if len(table) and len(good) else good
        table.see(boxes)
        table.start(boxes[born], born)
        table.confirm_streaks(settings.confirm_hits, at_once=self._frames <= settings.confirm_hits)
        return table.tracks(detections)

    def _associate(self, detections: Detections, good: Rows) -> Rows:
        """See tracks as some of these detections, and return those that no track claims."""
        overlap = iou_matrix(self._table.filter.xyxy, detections.xyxy)
        return self._table.match(overlap, np.arange(len(self._table)), good, self.settings.min_overlap)[1]
