"""CLEAR metrics: are people found, and does each keep one track?

Bernardin and Stiefelhagen, "Evaluating Multiple Object Tracking Performance: The CLEAR MOT Metrics", 2008.
"""

from dataclasses import dataclass, fields
from typing import Self

import numpy as np
from scipy.optimize import linear_sum_assignment

from trackers.metrics.sequence import EPSILON, ScoredSequence


@dataclass(frozen=True, slots=True)
class Clear:
    """Counts over one or more sequences; add them to combine sequences. The rates of nothing are 0.

    Attributes:
        true_positives: Boxes that show a person, IoU 0.5 or more.
        false_positives: Boxes that do not.
        false_negatives: People without a box.
        id_switches: How often a person's track changes to another one, however long the gap.
    """

    true_positives: int
    false_positives: int
    false_negatives: int
    id_switches: int

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


def evaluate(sequence: ScoredSequence, *, threshold: float = 0.5) -> Clear:
    """Score one sequence; a frame's matching keeps the last frame's pairs where it can, then maximises IoU."""
    true_positives = id_switches = 0
    last_track = np.full(sequence.truth_count, -1)  # ever
    previous_track = np.full(sequence.truth_count, -1)  # in the frame before
    for people, tracks, similarity in zip(sequence.truth_ids, sequence.result_ids, sequence.similarity, strict=True):
        if not (len(people) and len(tracks)):
            continue  # like TrackEval: an empty frame does not break the continuity of matching
        kept = tracks[None, :] == previous_track[people][:, None]
        score = np.where(similarity < threshold - EPSILON, 0.0, 1000 * kept + similarity)
        rows, columns = linear_sum_assignment(score, maximize=True)
        matched = score[rows, columns] > EPSILON
        found, by = people[rows[matched]], tracks[columns[matched]]
        id_switches += int(((last_track[found] >= 0) & (last_track[found] != by)).sum())
        last_track[found] = by
        previous_track[:] = -1
        previous_track[found] = by
        true_positives += len(found)
    return Clear(
        true_positives=true_positives,
        false_positives=sequence.result_boxes - true_positives,
        false_negatives=sequence.truth_boxes - true_positives,
        id_switches=id_switches,
    )
