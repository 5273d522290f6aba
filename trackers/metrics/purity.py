"""Purity metrics: does a tracklet hold one person only?

A tracklet that mixes two people has an embedding that is nobody's, so for re-identification purity comes before
length. Each frame's boxes are matched with its people by the greatest sum of IoU from 0.5 on; n(t, g) counts the
matches of tracklet t with person g. Purity is that of clustering (Manning, Raghavan and Schuetze, "Introduction to
Information Retrieval", 2008, eq. 16.1), with boxes that match nobody left out and counted on their own.
"""

from dataclasses import dataclass, fields
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from trackers.metrics.sequence import ScoredSequence

MIN_IOU = 0.5
_SLACK = 1e-9  # an IoU of exactly 0.5 counts, whatever its last bit
LONG_BOXES = 10  # matched boxes from which on a tracklet may count as mixed
SEGMENT_BOXES = 5  # matched boxes from which on a tracklet counts for the tracklets a person
PURE_SHARE = 0.95

Ids = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Purity:
    """Counts over one or more sequences; add them to combine sequences. The rates of nothing are 0.

    Attributes:
        matched: Boxes that match a person.
        of_main_person: Of these, the boxes of the person that is most frequent in their tracklet.
        long_tracklets: Tracklets of at least 10 matched boxes.
        mixed_tracklets: Of these, those with less than 95 % of their main person.
        in_tracklet_switches: How often the person inside one tracklet changes (IDt).
        segments: Tracklets of at least 5 matched boxes.
        people: People who were matched at least once.
        unmatched: Boxes that match nobody.
    """

    matched: int
    of_main_person: int
    long_tracklets: int
    mixed_tracklets: int
    in_tracklet_switches: int
    segments: int
    people: int
    unmatched: int

    def __add__(self, other: Self) -> Self:
        return type(self)(*(getattr(self, field.name) + getattr(other, field.name) for field in fields(self)))

    @property
    def purity(self) -> float:
        """Pur: share of a tracklet's matched boxes that show its main person."""
        return self.of_main_person / max(1, self.matched)

    @property
    def mixed_share(self) -> float:
        """MixTrk: share of the long tracklets that are mixed."""
        return self.mixed_tracklets / max(1, self.long_tracklets)

    @property
    def tracklets_a_person(self) -> float:
        """Trk/Id: segments for each person who was found."""
        return self.segments / max(1, self.people)

    @property
    def unmatched_share(self) -> float:
        """FPbox: share of all boxes that match nobody."""
        return self.unmatched / max(1, self.matched + self.unmatched)


def evaluate(sequence: ScoredSequence) -> Purity:
    """Score one sequence."""
    person, track = _matches(sequence)
    pairs, boxes = np.unique(np.stack([track, person]), axis=1, return_counts=True)
    start = np.unique(pairs[0], return_index=True)[1]
    most = np.maximum.reduceat(boxes, start) if len(start) else boxes
    total = np.add.reduceat(boxes, start) if len(start) else boxes
    long = total >= LONG_BOXES
    order = np.argsort(track, kind="stable")  # by tracklet, and by time within it
    changes = (np.diff(person[order]) != 0) & (np.diff(track[order]) == 0)
    return Purity(
        matched=len(track),
        of_main_person=int(most.sum()),
        long_tracklets=int(long.sum()),
        mixed_tracklets=int((most[long] / total[long] < PURE_SHARE).sum()),
        in_tracklet_switches=int(changes.sum()),
        segments=int((total >= SEGMENT_BOXES).sum()),
        people=len(np.unique(person)),
        unmatched=sequence.result_boxes - len(track),
    )


def _matches(sequence: ScoredSequence) -> tuple[Ids, Ids]:
    """Person and track of every matched box, by time."""
    people, tracks = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    for who, which, similarity in zip(sequence.truth_ids, sequence.result_ids, sequence.similarity, strict=True):
        if not (len(who) and len(which)):
            continue
        score = np.where(similarity >= MIN_IOU - _SLACK, similarity, 0.0)
        rows, columns = linear_sum_assignment(score, maximize=True)
        matched = score[rows, columns] > 0
        people.append(who[rows[matched]])
        tracks.append(which[columns[matched]])
    return np.concatenate(people), np.concatenate(tracks)
