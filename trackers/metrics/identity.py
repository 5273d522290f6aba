"""Identity metrics: for how long is a person followed by the one track that is theirs?

Ristani, Solera, Zou, Cucchiara, Tomasi, "Performance Measures and a Data Set for Multi-Target, Multi-Camera Tracking",
2016: people and tracks are paired once for the whole sequence so that the most boxes agree.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
from scipy.optimize import linear_sum_assignment

from trackers.metrics.sequence import ScoredSequence


@dataclass(frozen=True, slots=True)
class Identity:
    """Counts over one or more sequences; add them to combine sequences. The rates of nothing are 0.

    Attributes:
        true_positives: Boxes of a track on its person (IDTP).
        false_positives: Boxes of a track elsewhere (IDFP).
        false_negatives: Boxes of a person without their track (IDFN).
    """

    true_positives: int
    false_positives: int
    false_negatives: int

    def __add__(self, other: Self) -> Self:
        return type(self)(
            self.true_positives + other.true_positives,
            self.false_positives + other.false_positives,
            self.false_negatives + other.false_negatives,
        )

    @property
    def precision(self) -> float:
        """IDP."""
        return self.true_positives / max(1, self.true_positives + self.false_positives)

    @property
    def recall(self) -> float:
        """IDR."""
        return self.true_positives / max(1, self.true_positives + self.false_negatives)

    @property
    def f1(self) -> float:
        """IDF1."""
        total = 2 * self.true_positives + self.false_positives + self.false_negatives
        return 2 * self.true_positives / max(1, total)


def evaluate(sequence: ScoredSequence, *, threshold: float = 0.5) -> Identity:
    """Score one sequence."""
    together = np.zeros((sequence.truth_count, sequence.result_count), np.int64)
    for people, tracks, similarity in zip(sequence.truth_ids, sequence.result_ids, sequence.similarity, strict=True):
        rows, columns = np.nonzero(similarity >= threshold)
        together[people[rows], tracks[columns]] += 1
    # Fewest false positives plus false negatives is most true positives: both totals are fixed.
    true_positives = int(together[linear_sum_assignment(together, maximize=True)].sum())
    return Identity(
        true_positives=true_positives,
        false_positives=sequence.result_boxes - true_positives,
        false_negatives=sequence.truth_boxes - true_positives,
    )
