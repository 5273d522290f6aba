"""HOTA: how well are people found, and how well is each boxes' whole track their whole life?

Luiten, Osep, Dendorfer, Torr, Geiger, Leal-Taixe, Leibe, "HOTA: A Higher Order Metric for Evaluating Multi-Object
Tracking", IJCV 2021. At each localisation threshold alpha the true positives are the matched boxes of IoU alpha or
more; HOTA_alpha is the geometric mean of the detection accuracy (eq. 13) and of the association accuracy (eq. 14),
and HOTA their mean over alpha (eq. 17).
"""

from dataclasses import dataclass, fields
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from trackers.metrics.sequence import EPSILON, ScoredSequence, count_ids

Curve = NDArray[np.float64]
Matrix = NDArray[np.float64]

ALPHAS: Curve = np.arange(0.05, 0.99, 0.05)
_NOTHING = 1e-10  # TrackEval's guard: the localisation of no match at all is 1


@dataclass(frozen=True, slots=True, eq=False)
class Hota:
    """Sums over one or more sequences, each (19,) with a value an alpha of `ALPHAS`; add them to combine sequences.

    Attributes:
        true_positives: Matched boxes.
        false_positives: Boxes that match no person.
        false_negatives: People without a box.
        association: Sum over the matched boxes of TPA / (TPA + FNA + FPA), of the box's person and track.
        association_recall: Sum of TPA / (TPA + FNA).
        association_precision: Sum of TPA / (TPA + FPA).
        overlap: Sum of the IoU of the matched boxes.
    """

    true_positives: Curve
    false_positives: Curve
    false_negatives: Curve
    association: Curve
    association_recall: Curve
    association_precision: Curve
    overlap: Curve

    def __add__(self, other: Self) -> Self:
        return type(self)(*(getattr(self, field.name) + getattr(other, field.name) for field in fields(self)))

    @property
    def det_a(self) -> Curve:
        """DetA, detection accuracy: TP / (TP + FN + FP), (19,)."""
        return self.true_positives / _at_least_one(self.true_positives + self.false_negatives + self.false_positives)

    @property
    def det_re(self) -> Curve:
        """DetRe, detection recall, (19,)."""
        return self.true_positives / _at_least_one(self.true_positives + self.false_negatives)

    @property
    def det_pr(self) -> Curve:
        """DetPr, detection precision, (19,)."""
        return self.true_positives / _at_least_one(self.true_positives + self.false_positives)

    @property
    def ass_a(self) -> Curve:
        """AssA, association accuracy: the mean over the matched boxes, (19,)."""
        return self.association / _at_least_one(self.true_positives)

    @property
    def ass_re(self) -> Curve:
        """AssRe, association recall, (19,)."""
        return self.association_recall / _at_least_one(self.true_positives)

    @property
    def ass_pr(self) -> Curve:
        """AssPr, association precision, (19,)."""
        return self.association_precision / _at_least_one(self.true_positives)

    @property
    def loc_a(self) -> Curve:
        """LocA, mean IoU of the matched boxes, (19,); 1 where nothing matches, as in TrackEval."""
        return np.maximum(_NOTHING, self.overlap) / np.maximum(_NOTHING, self.true_positives)

    @property
    def hota(self) -> Curve:
        """HOTA at each alpha, (19,); its mean is the figure that papers report."""
        return np.sqrt(self.det_a * self.ass_a)


def _at_least_one(counts: Curve) -> Curve:
    return np.maximum(1.0, counts)


def evaluate(sequence: ScoredSequence) -> Hota:
    """Score one sequence.

    People and tracks are first compared over the whole sequence (how much they overlap at all); each frame's matching
    then maximises this global score times the IoU, so that tracks are matched with the person that they mostly follow.
    """
    people = count_ids(sequence.truth_ids, sequence.truth_count)[:, None]
    tracks = count_ids(sequence.result_ids, sequence.result_count)[None, :]
    person, track, overlap = _matches(sequence, _global_alignment(sequence, people, tracks))
    pair, pair_of = np.unique(person * max(1, sequence.result_count) + track, return_inverse=True)
    life, length = people[pair // max(1, sequence.result_count), 0], tracks[0, pair % max(1, sequence.result_count)]
    sums = np.zeros((5, len(ALPHAS)))
    for index, alpha in enumerate(ALPHAS):
        good = overlap >= alpha - EPSILON
        together = np.bincount(pair_of[good], minlength=len(pair)).astype(np.float64)
        sums[:, index] = (
            good.sum(),
            (together * together / _at_least_one(life + length - together)).sum(),
            (together * together / _at_least_one(life)).sum(),
            (together * together / _at_least_one(length)).sum(),
            overlap[good].sum(),
        )
    found, association, recall, precision, overlap_sum = sums
    return Hota(
        true_positives=found,
        false_positives=sequence.result_boxes - found,
        false_negatives=sequence.truth_boxes - found,
        association=association,
        association_recall=recall,
        association_precision=precision,
        overlap=overlap_sum,
    )


def _global_alignment(sequence: ScoredSequence, people: Matrix, tracks: Matrix) -> Matrix:
    """Jaccard score of each person and track over the sequence, (people, tracks)."""
    potential = np.zeros((sequence.truth_count, sequence.result_count))
    for who, which, similarity in zip(sequence.truth_ids, sequence.result_ids, sequence.similarity, strict=True):
        rows, columns = np.nonzero(similarity)
        if len(rows):
            shared = similarity.sum(0)[columns] + similarity.sum(1)[rows] - similarity[rows, columns]
            potential[who[rows], which[columns]] += similarity[rows, columns] / shared
    # Every person and track has at least one box, so that the union is above 0.
    alignment: Matrix = potential / (people + tracks - potential)
    return alignment


def _matches(
    sequence: ScoredSequence, alignment: Matrix
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Person, track and IoU of every pair that is matched in some frame."""
    people, tracks, overlaps = [np.empty(0, np.int64)], [np.empty(0, np.int64)], [np.empty(0)]
    for who, which, similarity in zip(sequence.truth_ids, sequence.result_ids, sequence.similarity, strict=True):
        if len(who) and len(which):
            rows, columns = linear_sum_assignment(alignment[who[:, None], which] * similarity, maximize=True)
            people.append(who[rows])
            tracks.append(which[columns])
            overlaps.append(similarity[rows, columns])
    return np.concatenate(people), np.concatenate(tracks), np.concatenate(overlaps)
