"""Where a tracklet should end because it may go on with another person, and how doubtful each box is."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Evidence:
    """What was seen when boxes were given to tracks; a row a pair, (k,) each.

    Attributes:
        missed_seconds: Time since the track's last box if frames without one lie between, else 0.
        overlap: The box's greatest IoU with the place of any other track.
        rival: Likeness of the best other track or box for this pair, divided by the pair's own; 1 is a coin toss.
        surprise: Squared distance of the box from where it was expected, of 4 coordinates, in the stream's variances.
    """

    missed_seconds: Array
    overlap: Array
    rival: Array
    surprise: Array


@dataclass(frozen=True, slots=True)
class CutRules:
    """When a new `tracklet_id` begins, though the track goes on.

    Attributes:
        missed_seconds: After a longer absence.
        overlap: On the first box that overlaps another track from here on, and on the first that no longer does.
        rival: When another pairing was this nearly as good.
        surprise: When the box was further from its expected place.
    """

    missed_seconds: float = 0.1
    overlap: float = 0.8
    rival: float = 0.35
    surprise: float = 30.0

    def cut(self, evidence: Evidence, *, was_overlapped: Mask) -> tuple[Mask, Mask]:
        """Which pairs begin a new tracklet, and which are overlapped now, (k,) each."""
        overlapped = evidence.overlap >= self.overlap
        doubtful = (evidence.rival > self.rival) | (evidence.surprise > self.surprise)
        return doubtful | (evidence.missed_seconds > self.missed_seconds) | (overlapped != was_overlapped), overlapped


def risk(evidence: Evidence, *, lost_seconds: float) -> Array:
    """How doubtful each box is, (k,) in [0, 1]: one minus the product of what each sign leaves of certainty."""
    gap = np.minimum(evidence.missed_seconds / lost_seconds, 1.0)
    rival = np.minimum(evidence.rival, 1.0) ** 2
    surprise = evidence.surprise / (evidence.surprise + 30.0)
    overlap = np.clip(evidence.overlap, 0.0, 1.0) ** 2
    certainty: Array = (1 - gap) * (1 - rival / 2) * (1 - surprise) * (1 - overlap)
    return 1 - certainty
