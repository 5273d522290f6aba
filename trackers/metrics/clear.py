"""CLEAR metrics: are people found, and does each keep one track?

Bernardin and Stiefelhagen, "Evaluating Multiple Object Tracking Performance: The CLEAR MOT Metrics", 2008.
"""

from dataclasses import dataclass, fields
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from trackers.metrics.sequence import EPSILON, ScoredSequence, count_ids


@dataclass(frozen=True, slots=True)
class Clear:
    """Counts over one or more sequences; add them to combine sequences. The rates of nothing are 0.

    Attributes:
        true_positives: Boxes that show a person, IoU 0.5 or more.
        false_positives: Boxes that do not.
        false_negatives: People without a box.
        id_switches: How often a person's track changes to another one, however long the gap.
        fragmentations: How often a person is found again after having been lost (Frag).
        mostly_tracked: People found in more than 80 % of their boxes (MT).
        partly_tracked: People found in 20 to 80 % of their boxes (PT).
        mostly_lost: People found in less than 20 % of their boxes (ML).
        overlap: Sum of the IoU of the true positives.
    """

    true_positives: int
    false_positives: int
    false_negatives: int
    id_switches: int
    fragmentations: int
    mostly_tracked: int
    partly_tracked: int
    mostly_lost: int
    overlap: float

    def __add__(self, other: Self) -> Self:
        return type(self)(*(getattr(self, field.name) + getattr(other, field.name) for field in fields(self)))

    @property
    def precision(self) -> float:
        """Share of the boxes that show a person."""
        return self.true_positives / max(1, self.true_positives + self.false_positives)

    @property
    def recall(self) -> float:
        """Share of the people that have a box."""
        return self.true_positives / max(1, self.true_positives + self.false_negatives)

    @property
    def mota(self) -> float:
        """1 - (false positives + false negatives + switches) / people; can be below 0."""
        good = self.true_positives - self.false_positives - self.id_switches
        return good / max(1, self.true_positives + self.false_negatives)

    @property
    def motp(self) -> float:
        """Mean IoU of the true positives."""
        return self.overlap / max(1, self.true_positives)


def evaluate(sequence: ScoredSequence, *, threshold: float = 0.5) -> Clear:
    """Score one sequence; a frame's matching keeps the last frame's pairs where it can, then maximises IoU."""
    id_switches, overlap = 0, 0.0
    last_track = np.full(sequence.truth_count, -1)  # ever
    previous_track = np.full(sequence.truth_count, -1)  # in the frame before
    times_found = np.zeros(sequence.truth_count, np.int64)
    times_regained = np.zeros(sequence.truth_count, np.int64)  # the first time included
    for people, tracks, similarity in zip(sequence.truth_ids, sequence.result_ids, sequence.similarity, strict=True):
        if not (len(people) and len(tracks)):
            continue  # like TrackEval: an empty frame does not break the continuity of matching
        kept = tracks[None, :] == previous_track[people][:, None]
        score = np.where(similarity < threshold - EPSILON, 0.0, 1000 * kept + similarity)
        rows, columns = linear_sum_assignment(score, maximize=True)
        matched = score[rows, columns] > EPSILON
        rows, columns = rows[matched], columns[matched]
        found, by = people[rows], tracks[columns]
        id_switches += int(((last_track[found] >= 0) & (last_track[found] != by)).sum())
        overlap += float(similarity[rows, columns].sum())
        times_found[found] += 1
        times_regained[found] += previous_track[found] < 0
        last_track[found] = by
        previous_track[:] = -1
        previous_track[found] = by
    true_positives = int(times_found.sum())
    mostly, partly, lost = _coverage(times_found, count_ids(sequence.truth_ids, sequence.truth_count))
    return Clear(
        true_positives=true_positives,
        false_positives=sequence.result_boxes - true_positives,
        false_negatives=sequence.truth_boxes - true_positives,
        id_switches=id_switches,
        fragmentations=int(np.maximum(times_regained - 1, 0).sum()),
        mostly_tracked=mostly,
        partly_tracked=partly,
        mostly_lost=lost,
        overlap=overlap,
    )


def _coverage(times_found: NDArray[np.int64], boxes: NDArray[np.float64]) -> tuple[int, int, int]:
    """How many people are mostly tracked, partly tracked, mostly lost."""
    share = times_found / boxes
    mostly, at_least_partly = int((share > 0.8).sum()), int((share >= 0.2).sum())
    return mostly, at_least_partly - mostly, len(share) - at_least_partly
