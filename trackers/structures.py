"""What goes into a tracker and what comes out: frozen, row-aligned arrays."""

from dataclasses import dataclass, field
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray


def _check_shapes(xyxy: NDArray[np.float32], confidence: NDArray[np.float32]) -> None:
    if xyxy.ndim != 2 or xyxy.shape[1] != 4:
        raise ValueError(f"xyxy must be (n, 4), got {xyxy.shape}")
    if confidence.shape != (len(xyxy),):
        raise ValueError(f"confidence must be ({len(xyxy)},), one a box, got {confidence.shape}")


def _check_boxes(xyxy: NDArray[np.float32], confidence: NDArray[np.float32]) -> None:
    _check_shapes(xyxy, confidence)
    if not (np.isfinite(xyxy).all() and np.isfinite(confidence).all()):
        raise ValueError("xyxy and confidence must be finite, got NaN or infinity")
    if len(confidence) and not (confidence.min() >= 0 and confidence.max() <= 1):
        raise ValueError(f"confidence must be in [0, 1], got {confidence.min():g} to {confidence.max():g}")
    if (xyxy[:, 2:] <= xyxy[:, :2]).any():
        raise ValueError("xyxy must have right > left and bottom > top in every row")


class Dropped(NamedTuple):
    """How many boxes were left out, each counted once, by the first reason that holds.

    Attributes:
        not_finite: A coordinate or the confidence is NaN or infinite.
        no_area: The right edge is not right of the left one, or the lower not below the upper.
        off_screen: No pixel of it is in the picture.
        no_confidence: The confidence is not in [0, 1].
    """

    not_finite: int
    no_area: int
    off_screen: int
    no_confidence: int


@dataclass(frozen=True, slots=True, eq=False)
class Detections:
    """Person boxes of one frame.

    What is no box is an error here, for it is one of the program; `usable` takes what a detector may give. Boxes that
    reach beyond the picture, with negative coordinates too, are boxes like any other.

    Attributes:
        xyxy: Left, top, right, bottom in pixels, (n, 4) float32.
        confidence: In [0, 1], (n,) float32.
    """

    xyxy: NDArray[np.float32]
    confidence: NDArray[np.float32]

    def __post_init__(self) -> None:
        object.__setattr__(self, "xyxy", np.asarray(self.xyxy, dtype=np.float32))
        object.__setattr__(self, "confidence", np.asarray(self.confidence, dtype=np.float32))
        _check_boxes(self.xyxy, self.confidence)

    def __len__(self) -> int:
        return len(self.xyxy)

    @classmethod
    def usable(
        cls, xyxy: ArrayLike, confidence: ArrayLike, *, resolution_wh: tuple[int, int] | None = None
    ) -> tuple[Self, Dropped]:
        """The boxes that are boxes, in their order, and how many were none.

        Args:
            xyxy: (n, 4).
            confidence: (n,).
            resolution_wh: Of the frame; without it no box is off screen.

        Raises:
            ValueError: When the arrays are not of these shapes.
        """
        with np.errstate(over="ignore"):  # beyond float32 is infinite
            boxes, scores = np.asarray(xyxy, dtype=np.float32), np.asarray(confidence, dtype=np.float32)
        _check_shapes(boxes, scores)
        finite = np.isfinite(boxes).all(axis=1) & np.isfinite(scores)
        upright = (boxes[:, 2:] > boxes[:, :2]).all(axis=1)
        seen = np.ones(len(boxes), bool)
        if resolution_wh is not None:
            seen &= (boxes[:, 2:] > 0).all(axis=1) & (boxes[:, :2] < np.array(resolution_wh)).all(axis=1)
        likely = (scores >= 0) & (scores <= 1)
        left, dropped = np.ones(len(boxes), bool), []
        for good in (finite, upright, seen, likely):
            dropped.append(int(np.count_nonzero(left & ~good)))
            left &= good
        return cls(boxes[left], scores[left]), Dropped(*dropped)

    @classmethod
    def empty(cls) -> Self:
        """No boxes."""
        return cls(np.empty((0, 4), np.float32), np.empty(0, np.float32))


_AS_TRACK_ID: NDArray[np.int64] = np.empty(0, np.int64)
_NO_RISK: NDArray[np.float32] = np.empty(0, np.float32)


@dataclass(frozen=True, slots=True, eq=False)
class Tracks:
    """Boxes of one frame with the ids of the people in them.

    Two ids, because a wrong merger can be undone later and a mixed tracklet cannot: `track_id` lives long and may
    bridge gaps; `tracklet_id` names a pure piece of it, and a tracker that knows when it was in doubt begins a new
    one there. A tracker without such knowledge leaves `tracklet_id` out, and it is `track_id`.

    Attributes:
        xyxy: (n, 4) float32, pixels: the matched detections, not the filter's state.
        confidence: (n,) float32, of the matched detections.
        track_id: (n,) int64, positive, unique within one tracker's life.
        tracklet_id: (n,) int64, positive, unique within one tracker's life; belongs to one `track_id` only.
        risk: (n,) float32 in [0, 1]: how doubtful it is that this box shows the same person as the one before it in
            its tracklet; 0 where the tracker does not say.
        lift: What the stream's confidences are to be multiplied by, at least 1, to mean what a good detector's mean by
            day (see `trackers.calibration`); 1 where the tracker does not say.
    """

    xyxy: NDArray[np.float32]
    confidence: NDArray[np.float32]
    track_id: NDArray[np.int64]
    tracklet_id: NDArray[np.int64] = field(default_factory=lambda: _AS_TRACK_ID)
    risk: NDArray[np.float32] = field(default_factory=lambda: _NO_RISK)
    lift: float = 1.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "xyxy", np.asarray(self.xyxy, dtype=np.float32))
        object.__setattr__(self, "confidence", np.asarray(self.confidence, dtype=np.float32))
        object.__setattr__(self, "track_id", np.asarray(self.track_id, dtype=np.int64))
        if self.tracklet_id is _AS_TRACK_ID:
            object.__setattr__(self, "tracklet_id", self.track_id)
        if self.risk is _NO_RISK:
            object.__setattr__(self, "risk", np.zeros(len(self.xyxy), np.float32))
        object.__setattr__(self, "tracklet_id", np.asarray(self.tracklet_id, dtype=np.int64))
        object.__setattr__(self, "risk", np.asarray(self.risk, dtype=np.float32))
        _check_boxes(self.xyxy, self.confidence)
        _check_ids("track_id", self.track_id, len(self.xyxy))
        if self.tracklet_id is not self.track_id:
            _check_ids("tracklet_id", self.tracklet_id, len(self.xyxy))
        if self.risk.shape != (len(self.xyxy),):
            raise ValueError(f"risk must be ({len(self.xyxy)},), one a box, got {self.risk.shape}")
        if not ((self.risk >= 0) & (self.risk <= 1)).all():
            raise ValueError("risk must be in [0, 1]")
        if not 1 <= self.lift < np.inf:
            raise ValueError(f"lift must be a number not below 1, got {self.lift}")

    def __len__(self) -> int:
        return len(self.xyxy)

    @classmethod
    def of(
        cls,
        detections: Detections,
        rows: NDArray[np.int64],
        track_id: NDArray[np.int64],
        tracklet_id: NDArray[np.int64],
        risk: NDArray[np.float32],
        *,
        lift: float,
    ) -> Self:
        """These rows of the detections, which were checked when they were made, with ids that a tracker gave once."""
        tracks = object.__new__(cls)
        object.__setattr__(tracks, "xyxy", detections.xyxy.take(rows, axis=0))
        object.__setattr__(tracks, "confidence", detections.confidence[rows])
        object.__setattr__(tracks, "track_id", track_id)
        object.__setattr__(tracks, "tracklet_id", tracklet_id)
        object.__setattr__(tracks, "risk", risk)
        object.__setattr__(tracks, "lift", lift)
        return tracks

    @classmethod
    def empty(cls) -> Self:
        """No tracks."""
        return cls(np.empty((0, 4), np.float32), np.empty(0, np.float32), np.empty(0, np.int64))


def _check_ids(name: str, ids: NDArray[np.int64], count: int) -> None:
    if ids.shape != (count,):
        raise ValueError(f"{name} must be ({count},), one a box, got {ids.shape}")
    if len(set(ids.tolist())) != count:
        raise ValueError(f"{name} must be unique within a frame")
