"""Where a tracklet should end because it may go on with another person, and how doubtful each box is."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]

_TIME_SLACK = 1e-6  # seconds: the rounding of float64 time stamps in the order of a Unix time


class Evidence(NamedTuple):
    """What was seen when boxes were given to tracks; a row a pair, (k,) each.

    Attributes:
        missed_seconds: Time since the track's last box if frames without one lie between, else 0.
        overlap: The box's greatest IoU with the place of any other track.
        hidden: The box's greatest IoU with the place of a track that found no box: it may show either of the two.
        probability: That the two are one person (`trackers.probability`).
        surprise: Squared distance of the box from where it was expected, of 4 coordinates, in the stream's variances.
    """

    missed_seconds: Array
    overlap: Array
    hidden: Array
    probability: Array
    surprise: Array


@dataclass(frozen=True, slots=True)
class CutRules:
    """When a new `tracklet_id` begins, though the track goes on.

    A box where a track just went missing shows one of two, or both as one. A gap is harmless where nobody else is
    about, unless the detector is weak: then anybody may be.

    Attributes:
        missed_seconds: After a longer absence.
        guarded_seconds: After a longer absence, where the pair is less likely than `guarded_probability`, or the
            detector is weak.
        guarded_probability: See `guarded_seconds`.
        overlap: On the first box that overlaps another track from here on, and on the first that no longer does.
        hidden: On every box that overlaps the place of a track that found none by more.
        probability: When the pair is less likely one person.
        surprise: When the box was further from its expected place.
    """

    missed_seconds: float = 0.7
    guarded_seconds: float = 0.1
    guarded_probability: float = 0.9
    overlap: float = 0.8
    hidden: float = 0.5
    probability: float = 0.6
    surprise: float = 30.0

    def cut(self, evidence: Evidence, *, was_overlapped: Mask, weak: bool) -> tuple[Mask, Mask]:
        """Which pairs begin a new tracklet, and which are overlapped now, (k,) each.

        Args:
            evidence: Of the pairs.
            was_overlapped: Whether each track was overlapped at its last box.
            weak: Whether the stream's confidences are those of a weak detector.
        """
        overlapped = evidence.overlap >= self.overlap
        cut = evidence.probability < self.probability
        cut |= evidence.hidden > self.hidden
        cut |= evidence.surprise > self.surprise
        cut |= overlapped != was_overlapped
        if np.count_nonzero(evidence.missed_seconds):
            missed = evidence.missed_seconds - _TIME_SLACK
            guarded = (missed > self.guarded_seconds) & (weak | (evidence.probability < self.guarded_probability))
            cut |= guarded | (missed > self.missed_seconds)
        return cut, overlapped


def risk(evidence: Evidence, *, lost_seconds: float) -> Array:
    """How doubtful each box is, (k,) in [0, 1]: one minus the product of what each sign leaves of certainty."""
    certainty = 30.0 / (evidence.surprise + 30.0)
    certainty *= evidence.probability
    certainty *= 1 - evidence.hidden
    certainty *= 1 - evidence.overlap * evidence.overlap
    if np.count_nonzero(evidence.missed_seconds):
        certainty *= 1 - np.minimum(evidence.missed_seconds / lost_seconds, 1.0)
    doubt: Array = 1 - certainty
    return doubt
