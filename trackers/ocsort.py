"""OC-SORT: SORT that trusts its observations more than its estimates.

Cao, Pang, Weng, Khirodkar, Kitani, "Observation-Centric SORT: Rethinking SORT for Robust Multi-Object Tracking", CVPR
2023. Three additions to SORT: the direction in which a track moved counts when it is assigned (OCM, section 4.2);
tracks that nobody continued are tried once more where they were *seen* last (OCR, section 4.3); and a track that is
found again is filtered anew over the gap, along the straight line between the two observations, so that the error of
the blind prediction is undone (ORU, section 4.1).

What differs from the paper: time is in seconds; the filter runs on cx, cy, w, h; and pairs of too little overlap are
forbidden before the assignment instead of being dropped after it, where they could have pushed a good pair aside.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trackers.boxes import cxcywh_to_xyxy, iou_matrix, xyxy_to_cxcywh
from trackers.kalman import BoxFilter
from trackers.sort import Sort, SortSettings
from trackers.structures import Detections
from trackers.table import Mask, Matrix, Rows, TrackTable

_HISTORY = 8  # observations that a direction can reach back over
_TIME_SLACK = 1e-6  # seconds


@dataclass(frozen=True, slots=True)
class OCSortSettings(SortSettings):
    """Thresholds of OC-SORT: those of SORT, `min_overlap` in both rounds, and two more.

    Attributes:
        direction_seconds: Over how long a track's direction is measured: the paper's three frames, at 30 a second.
            Where frames are rarer it is the step between the last two observations.
        direction_weight: What consistency of direction counts beside overlap, 0 or more; the paper's lambda.
    """

    direction_seconds: float = 0.1
    direction_weight: float = 0.2

    def __post_init__(self) -> None:
        SortSettings.__post_init__(self)  # super() finds the class that slots replaced
        if not (np.isfinite(self.direction_weight) and self.direction_weight >= 0):
            raise ValueError(f"direction_weight must be a number not below 0, got {self.direction_weight}")


DEFAULT_SETTINGS = OCSortSettings()


class _ObservedFilter(BoxFilter):
    """A box filter that can go back to the state right after each track's last observation."""

    def __init__(self) -> None:
        super().__init__()
        self._then = np.empty((5, 0, 4))  # mean, velocity, P, C, V

    def append(self, cxcywh: Matrix) -> None:
        super().append(cxcywh)
        self._then = np.concatenate([self._then, self._now()[:, len(self) - len(cxcywh) :]], axis=1)

    def keep(self, rows: NDArray[np.bool_]) -> None:
        super().keep(rows)
        self._then = self._then[:, rows]

    def update(self, rows: Rows, cxcywh: Matrix) -> None:
        super().update(rows, cxcywh)
        self._then[:, rows] = self._now()[:, rows]

    def _now(self) -> NDArray[np.float64]:
        return np.concatenate([[self.mean, self.velocity], self._covariance])

    def go_back(self, rows: Rows) -> "_ObservedFilter":
        """These tracks alone, as they were after their last observation."""
        past = _ObservedFilter()
        past.mean, past.velocity = self._then[0, rows], self._then[1, rows]
        past._covariance, past.scale = self._then[2:, rows], self.scale[rows]
        past._then = self._then[:, rows]
        return past

    def put(self, rows: Rows, other: "_ObservedFilter") -> None:
        """Replace the state of these tracks."""
        self.mean[rows], self.velocity[rows], self.scale[rows] = other.mean, other.velocity, other.scale
        self._covariance[:, rows] = other._covariance


class _ObservedTable(TrackTable):
    """A track table that remembers where each track was seen: centre and time of the last observations, and the box."""

    filter: _ObservedFilter

    def clear(self, box_filter: BoxFilter) -> None:
        super().clear(box_filter)
        self.last_box: Matrix = np.empty((0, 4))
        self.history: NDArray[np.float64] = np.empty((0, _HISTORY, 3))
        self.times: list[float] = []  # of the frames not older than the oldest track's last observation

    def start(self, boxes: Matrix, seen_as: Rows) -> Rows:
        rows = super().start(boxes, seen_as)
        unseen = np.full((len(boxes), _HISTORY, 3), np.nan)
        self.history = np.concatenate([self.history, unseen])
        self.last_box = np.concatenate([self.last_box, boxes])
        self._remember(rows, boxes)
        self.times = [each for each in self.times if each >= self.last_seen.min()] if len(self) else []
        if self.now is not None:
            self.times.append(self.now)
        return rows

    def keep(self, rows: Mask) -> None:
        super().keep(rows)
        self.last_box, self.history = self.last_box[rows], self.history[rows]

    def see(self, boxes: Matrix) -> Rows:
        found = np.flatnonzero(self.seen_as >= 0)
        self._refilter(found[self.streak[found] == 0], boxes)
        seen = super().see(boxes)
        self._remember(seen, boxes[self.seen_as[seen]])
        return seen

    def _remember(self, rows: Rows, boxes: Matrix) -> None:
        time = np.full((len(rows), 1), self.now)
        newest = np.concatenate([boxes[:, :2], time], axis=1)[:, None]
        self.history[rows] = np.concatenate([self.history[rows, 1:], newest], axis=1)
        self.last_box[rows] = boxes

    def _refilter(self, rows: Rows, boxes: Matrix) -> None:
        """ORU: filter tracks found after a gap as if they had been seen on the straight line across it."""
        for since in np.unique(self.last_seen[rows]):
            group = rows[self.last_seen[rows] == since]
            missed = [each for each in self.times if each > since]
            if not missed or self.now is None:
                continue
            first, last = self.last_box[group], boxes[self.seen_as[group]]
            past, before, everyone = self.filter.go_back(group), float(since), np.arange(len(group))
            for time in missed:
                past.predict(time - before)
                past.update(everyone, first + (time - since) / (self.now - since) * (last - first))
                before = time
            past.predict(self.now - before)
            self.filter.put(group, past)


class OCSort(Sort):
    """Tracks of one camera; see `trackers.base.Tracker`, and `trackers.sort.Sort` for the life of a track.

    Beside a row a track, the state holds the times of the frames that a track may have missed, in `lost_seconds`.
    """

    settings: OCSortSettings
    _table: _ObservedTable

    def __init__(self, settings: OCSortSettings = DEFAULT_SETTINGS) -> None:
        super().__init__(settings)
        self._table = _ObservedTable(_ObservedFilter())

    def _associate(self, detections: Detections, good: Rows) -> Rows:
        table, floor = self._table, self.settings.min_overlap
        boxes, confidence = xyxy_to_cxcywh(detections.xyxy), detections.confidence.astype(np.float64)
        overlap = iou_matrix(table.filter.xyxy, detections.xyxy)
        bonus = self.settings.direction_weight * confidence * self._consistency(boxes)
        similarity = np.where(overlap > floor, overlap + bonus, -np.inf)
        # Below any similarity that can occur: only the overlap decides what is possible.
        missed, unclaimed = table.match(similarity, np.arange(len(table)), good, -self.settings.direction_weight)
        seen_last = iou_matrix(cxcywh_to_xyxy(table.last_box), detections.xyxy)
        return table.match(seen_last, missed, unclaimed, floor)[1]

    def _consistency(self, boxes: Matrix) -> Matrix:
        """OCM: (pi / 2 - angle) / pi of each track's direction and that to each detection; 0 without a direction."""
        history, reach = self._table.history, self.settings.direction_seconds
        row = np.arange(len(history))
        last = history[:, -1]
        origin = history[row, _oldest_since(history, last[:, 2] - reach, newest=_HISTORY - 2)]
        anchor = history[row, _oldest_since(history, np.full(len(history), self._table.now) - reach, _HISTORY - 1)]
        track = last[:, :2] - origin[:, :2]
        intention = boxes[None, :, :2] - anchor[:, None, :2]
        length = np.linalg.norm(track, axis=1)[:, None] * np.linalg.norm(intention, axis=2)
        dot = (intention * track[:, None]).sum(axis=2)
        known = length > 0  # False for the NaN of what was never seen, too
        cosine = np.divide(dot, length, out=np.zeros_like(dot), where=known)
        return np.where(known, 0.5 - np.arccos(np.clip(cosine, -1, 1)) / np.pi, 0.0)


def _oldest_since(history: NDArray[np.float64], since: NDArray[np.float64], newest: int) -> Rows:
    """Column of each track's oldest observation at `since` or later, `newest` where there is none, (n,)."""
    recent = history[:, :newest, 2] >= since[:, None] - _TIME_SLACK
    return np.where(recent.any(axis=1), recent.argmax(axis=1), newest)
