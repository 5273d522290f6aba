"""The rows that a tracker keeps of its tracks, and what every tracker does with them."""

import numpy as np
from numpy.typing import NDArray

from trackers.association import assign
from trackers.kalman import BoxFilter
from trackers.structures import Detections, Tracks

Rows = NDArray[np.int64]
Mask = NDArray[np.bool_]
Matrix = NDArray[np.float64]

TENTATIVE, CONFIRMED, LOST = 0, 1, 2

_TIME_SLACK = 1e-6  # seconds: the rounding of float64 time stamps in the order of a Unix time
_PATIENT_STEPS = 1.5  # a stream whose frames come more seldom than `lost_seconds` waits for its next, not for two


def patience(lost_seconds: float, step: float, before: float) -> float:
    """How long an unseen track waits, in seconds, after the last two times between frames."""
    return max(lost_seconds, _PATIENT_STEPS * min(step, before))


class TrackTable:
    """Tracks of one camera as a handful of arrays with a row a track: it can be pickled and does not grow with time.

    Ids count from 1 in the order of confirmation and are never given twice, not even after `clear`.

    Attributes:
        filter: State of every track.
        state: TENTATIVE, CONFIRMED or LOST, (n,).
        track_id: 0 until confirmed, (n,).
        first_seen: Seconds, (n,).
        last_seen: Seconds, (n,).
        seen_as: Row of this frame's detections, -1 for none, (n,).
        streak: In how many frames running a track was found again, (n,).
        now: Time of the last frame, None before the first.
        step: Seconds between the last two frames, 0 before there are two.
    """

    def __init__(self, box_filter: BoxFilter) -> None:
        self._ids_given = 0
        self.clear(box_filter)

    def clear(self, box_filter: BoxFilter) -> None:
        """Forget all tracks and the time, and go on with this empty filter."""
        self.filter = box_filter
        self.state = np.empty(0, np.int8)
        self.track_id = np.empty(0, np.int64)
        self.first_seen = np.empty(0)
        self.last_seen = np.empty(0)
        self.seen_as = np.empty(0, np.int64)
        self.streak = np.empty(0, np.int64)
        self.now: float | None = None
        self.step = 0.0

    def __len__(self) -> int:
        """Tracks held, the tentative and the lost included."""
        return len(self.state)

    def advance(self, pts_seconds: float, *, lost_seconds: float) -> bool:
        """Move all tracks to this time, without those unseen for longer than `lost_seconds`.

        Where frames always come more seldom than that, tracks are kept until the next one.

        Returns:
            Whether this is the first frame.

        Raises:
            ValueError: When time does not increase or is not finite; nothing is changed then.
        """
        if not np.isfinite(pts_seconds):
            raise ValueError(f"pts_seconds must be finite, got {pts_seconds}")
        first_frame = self.now is None
        if self.now is not None:
            if pts_seconds <= self.now:
                raise ValueError(f"pts_seconds must be greater than at the last call, {self.now}, got {pts_seconds}")
            step, before = pts_seconds - self.now, self.step
            self.keep(pts_seconds - self.last_seen <= patience(lost_seconds, step, before) + _TIME_SLACK)
            self.filter.predict(step)
            self.step = step
        self.now = pts_seconds
        self.seen_as = np.full(len(self), -1, np.int64)
        return first_frame

    def match(self, similarity: Matrix, tracks: Rows, detections: Rows, floor: float) -> tuple[Rows, Rows]:
        """Pair these rows with these columns of greatest similarity above the floor, and return those left over."""
        result = assign(-similarity[np.ix_(tracks, detections)], gate=-floor)
        pairs = result.matches
        self.seen_as[tracks[pairs[:, 0]]] = detections[pairs[:, 1]]
        return tracks[result.unmatched_tracks], detections[result.unmatched_detections]

    def see(self, boxes: Matrix) -> Rows:
        """Correct every track that was matched by its box, of all detections' cxcywh, and note when; their rows."""
        seen = np.flatnonzero(self.seen_as >= 0)
        self.filter.update(seen, boxes[self.seen_as[seen]])
        self.last_seen[seen] = self.now
        self.streak[self.seen_as < 0] = 0
        self.streak[seen] += 1
        return seen

    def start(self, boxes: Matrix, seen_as: Rows) -> Rows:
        """Begin a tentative track at each of these boxes, cxcywh; its rows."""
        count = len(boxes)
        now = np.full(count, self.now)
        self.filter.append(boxes)
        self.state = np.concatenate([self.state, np.full(count, TENTATIVE, np.int8)])
        self.track_id = np.concatenate([self.track_id, np.zeros(count, np.int64)])
        self.first_seen = np.concatenate([self.first_seen, now])
        self.last_seen = np.concatenate([self.last_seen, now])
        self.seen_as = np.concatenate([self.seen_as, seen_as])
        self.streak = np.concatenate([self.streak, np.zeros(count, np.int64)])
        return np.arange(len(self) - count, len(self))

    def confirm(self, rows: Rows) -> None:
        """Give an id to those of these rows that have none, and mark all as seen and real."""
        self.state[rows] = CONFIRMED
        nameless = rows[self.track_id[rows] == 0]
        self.track_id[nameless] = self._ids_given + 1 + np.arange(len(nameless))
        self._ids_given += len(nameless)

    def confirm_streaks(self, hits: int, *, at_once: bool) -> None:
        """SORT's probation: only tracks of so many hits running are real, or all that are seen `at_once`."""
        self.state[:] = TENTATIVE
        self.confirm(np.flatnonzero((self.seen_as >= 0) & (at_once | (self.streak >= hits))))

    def keep(self, rows: Mask) -> None:
        """Forget the tracks whose row is False."""
        if rows.all():
            return
        self.filter.keep(rows)
        self.state, self.track_id, self.seen_as = self.state[rows], self.track_id[rows], self.seen_as[rows]
        self.first_seen, self.last_seen = self.first_seen[rows], self.last_seen[rows]
        self.streak = self.streak[rows]

    def tracks(self, detections: Detections) -> Tracks:
        """The detections that a confirmed track was seen as, in their order."""
        rows = np.flatnonzero((self.seen_as >= 0) & (self.state == CONFIRMED))
        rows = rows[np.argsort(self.seen_as[rows])]
        seen_as = self.seen_as[rows]
        return Tracks(detections.xyxy[seen_as], detections.confidence[seen_as], self.track_id[rows])


def check_thresholds(settings: object, *names: str) -> None:
    """Settings named ``*_confidence`` or ``*_overlap`` are in [0, 1], those named ``*_seconds`` are above 0.

    Raises:
        ValueError: For the first that is not.
    """
    for name in names:
        value = getattr(settings, name)
        if name.endswith(("_confidence", "_overlap")) and not 0 <= value <= 1:
            raise ValueError(f"{name} must be in [0, 1], got {value}")
        if name.endswith("_seconds") and not (np.isfinite(value) and value > 0):
            raise ValueError(f"{name} must be a positive number, got {value}")
