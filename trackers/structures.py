"""What goes into a tracker and what comes out: frozen, row-aligned arrays."""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray


def _check_boxes(xyxy: NDArray[np.float32], confidence: NDArray[np.float32]) -> None:
    if xyxy.ndim != 2 or xyxy.shape[1] != 4:
        raise ValueError(f"xyxy must be (n, 4), got {xyxy.shape}")
    if confidence.shape != (len(xyxy),):
        raise ValueError(f"confidence must be ({len(xyxy)},), one a box, got {confidence.shape}")
    if not (np.isfinite(xyxy).all() and np.isfinite(confidence).all()):
        raise ValueError("xyxy and confidence must be finite, got NaN or infinity")
    if (xyxy[:, 2:] <= xyxy[:, :2]).any():
        raise ValueError("xyxy must have right > left and bottom > top in every row")


@dataclass(frozen=True, slots=True, eq=False)
class Detections:
    """Person boxes of one frame.

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
    def empty(cls) -> Self:
        """No boxes."""
        return cls(np.empty((0, 4), np.float32), np.empty(0, np.float32))


@dataclass(frozen=True, slots=True, eq=False)
class Tracks:
    """Boxes of one frame with the ids of the people in them.

    Attributes:
        xyxy: (n, 4) float32, pixels: the matched detections, not the filter's state.
        confidence: (n,) float32, of the matched detections.
        track_id: (n,) int64, positive, unique within one tracker's life.
    """

    xyxy: NDArray[np.float32]
    confidence: NDArray[np.float32]
    track_id: NDArray[np.int64]

    def __post_init__(self) -> None:
        object.__setattr__(self, "xyxy", np.asarray(self.xyxy, dtype=np.float32))
        object.__setattr__(self, "confidence", np.asarray(self.confidence, dtype=np.float32))
        object.__setattr__(self, "track_id", np.asarray(self.track_id, dtype=np.int64))
        _check_boxes(self.xyxy, self.confidence)
        if self.track_id.shape != (len(self.xyxy),):
            raise ValueError(f"track_id must be ({len(self.xyxy)},), one a box, got {self.track_id.shape}")
        if len(np.unique(self.track_id)) != len(self.track_id):
            raise ValueError("track_id must be unique within a frame")

    def __len__(self) -> int:
        return len(self.xyxy)

    @classmethod
    def empty(cls) -> Self:
        """No tracks."""
        return cls(np.empty((0, 4), np.float32), np.empty(0, np.float32), np.empty(0, np.int64))
