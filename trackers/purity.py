"""Where a tracklet should end because it may go on with another person, and how doubtful each box is."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]

_TIME_SLACK = 1e-6  # seconds: the rounding of float64 time stamps in the order of a Unix time


@dataclass(frozen=True, slots=True)
class Evidence:
    """What was seen when boxes were given to tracks; a row a pair, (k,) each.

    Attributes:
        missed_seconds: Time since the track's last box if frames without one lie between, else 0.
        overlap: The box's greatest IoU with the place of any other track.
        hidden: The box's greatest IoU with the place of a track that found no box: it may show either of the two.
        rival_track: Likeness times confidence of the best other track for this box, divided by the pair's own; 1 is a
            coin toss.
        rival_box: Likeness of the best other box for this track, likewise.
        surprise: Squared distance of the box from where it was expected, of 4 coordinates, in the stream's variances.
    """

    missed_seconds: Array
    overlap: Array
    hidden: Array
    rival_track: Array
    rival_box: Array
    surprise: Array


@dataclass(frozen=True, slots=True)
class CutRules:
    """When a new `tracklet_id` begins, though the track goes on.

    A second track that wants the box is another person; a second box for the track often is the same person twice, and
    may come nearer. A box where a track just went missing shows one of two, or both as one. A gap is harmless where
    nobody else is about, unless the detector is weak: then anybody may be.

    Attributes:
        missed_seconds: After a longer absence.
        guarded_seconds: After a longer absence, where a rival was `guarded_rival` as good, or the detector is weak.
        guarded_rival: See `guarded_seconds`.
        overlap: On the first box that overlaps another track from here on, and on the first that no longer does.
        hidden: On every box that overlaps the place of a track that found none by more.
        rival_track: When another track was this nearly as good.
        rival_box: When another box was.
        surprise: When the box was further from its expected place.
    """

    missed_seconds: float = 0.7
    guarded_seconds: float = 0.1
    guarded_rival: float = 0.2
    overlap: float = 0.8
    hidden: float = 0.5
    rival_track: float = 0.4
    rival_box: float = 0.9
    surprise: float = 30.0

    def cut(self, evidence: Evidence, *, was_overlapped: Mask, weak: bool) -> tuple[Mask, Mask]:
        """Which pairs begin a new tracklet, and which are overlapped now, (k,) each.

        Args:
            evidence: Of the pairs.
            was_overlapped: Whether each track was overlapped at its last box.
            weak: Whether the stream's confidences are those of a weak detector.
        """
        overlapped = evidence.overlap >= self.overlap
        missed = evidence.missed_seconds - _TIME_SLACK
        cut = (evidence.rival_track > self.rival_track) | (evidence.rival_box > self.rival_box)
        cut |= (evidence.hidden > self.hidden) | (evidence.surprise > self.surprise)
        cut |= (overlapped != was_overlapped) | (missed > self.missed_seconds)
        guarded = missed > self.guarded_seconds
        if np.count_nonzero(guarded):
            cut |= guarded & (weak | (np.maximum(evidence.rival_track, evidence.rival_box) > self.guarded_rival))
        return cut, overlapped


def risk(evidence: Evidence, *, lost_seconds: float) -> Array:
    """How doubtful each box is, (k,) in [0, 1]: one minus the product of what each sign leaves of certainty."""
    gap = np.minimum(evidence.missed_seconds / lost_seconds, 1.0)
    rival = np.minimum(np.maximum(evidence.rival_track, evidence.rival_box), 1.0)
    surprise = evidence.surprise / (evidence.surprise + 30.0)
    apart, bare = 1 - evidence.overlap * evidence.overlap, 1 - evidence.hidden
    certainty: Array = (1 - gap) * (1 - rival * rival / 2) * (1 - surprise) * apart * bare
    return np.minimum(np.maximum(1 - certainty, 0.0), 1.0)
