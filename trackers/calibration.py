"""What a score means on this camera: the confidences of a weak stream are lifted onto the common scale."""

import math

import numpy as np
from numpy.typing import NDArray

_PRIOR_BOXES = 10.0  # boxes at the reference that a new stream begins with


class ScoreCalibration:
    """Learns the scale of one stream's confidences, and lifts them when it is below the reference.

    The scale is the mean confidence weighted by the confidence's square, ``sum c^3 / sum c^2``, over the recent past.
    A detector's long tail of boxes that are hardly anything has no weight in it, a handful of frames settles it, and
    it needs neither tracks nor thresholds, so it cannot feed back on itself: 0.78 to 0.95 for strong detectors by
    day, 0.60 to 0.66 for the same scenes with degraded detections. Confidences are multiplied by

        max(1, (reference / scale) ** strength)

    and end at 1. Strong streams are left as they are. Two numbers are remembered, however long the stream.

    Args:
        reference: Scale from which on nothing is lifted, in (0, 1].
        strength: 0 lifts nothing, 1 restores the scale; above 1 because where a detector is weak its scores are also
            spread, and a person's worst box falls further than the average.
        memory_seconds: How long a box counts (exponential decay).
    """

    def __init__(self, *, reference: float, strength: float, memory_seconds: float) -> None:
        self._reference, self._strength, self._memory = reference, strength, memory_seconds
        self.reset()

    def reset(self) -> None:
        """Begin anew, at the reference."""
        self._squares = _PRIOR_BOXES * self._reference**2
        self._cubes = _PRIOR_BOXES * self._reference**3

    @property
    def scale(self) -> float:
        """The stream's present scale, in (0, 1]."""
        return self._cubes / self._squares

    @property
    def factor(self) -> float:
        """What confidences are multiplied by, at least 1."""
        return max(1.0, math.pow(self._reference / self.scale, self._strength))

    def calibrate(self, confidence: NDArray[np.float64], *, dt: float) -> NDArray[np.float64]:
        """Learn from a frame's confidences (n,), dt seconds after the last, and return them on the common scale."""
        decay = math.exp(-dt / self._memory)
        squares = confidence * confidence
        self._squares = self._squares * decay + float(confidence @ confidence)
        self._cubes = self._cubes * decay + float(squares @ confidence)
        if self._squares < 1e-9:  # an hour without a box
            self.reset()
        lifted: NDArray[np.float64] = np.minimum(confidence * self.factor, 1.0)
        return lifted
