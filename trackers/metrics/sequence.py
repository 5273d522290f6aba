"""One sequence made ready to be scored: distractors out, ids counted from 0, overlaps computed once.

The steps are those of MOTChallenge as TrackEval 1.3.0 does them (Luiten et al., "HOTA", IJCV 2021), with one
difference that can be switched off. In both, the boxes of a frame's results are matched with *all* boxes of the
truth, by the greatest sum of IoU from 0.5 on; a result that matches a distractor (a person on a vehicle, a statue, a
reflection) is then removed, right or wrong being undecidable; and only pedestrians of confidence other than 0 remain
as truth.

The difference: a *pedestrian* of confidence 0. TrackEval only removes the box from the truth, and the result that
found this person then counts as false. Here it is an ignore region like a distractor: the result goes too. Where no
pedestrian has confidence 0, as in MOT17 and DanceTrack, the two are the same; with ``ignore_zero_marked=False`` they
are the same everywhere.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from trackers.boxes import iou_matrix, xywh_to_xyxy
from trackers.mot import MotRows

PEDESTRIAN = 1
MOT17_DISTRACTORS = frozenset({2, 7, 8, 12})
MOT20_DISTRACTORS = frozenset({2, 6, 7, 8, 12})
EPSILON = float(np.finfo(np.float64).eps)

Ids = NDArray[np.int64]
Matrix = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class ScoredSequence:
    """Truth and results of one sequence, frame by frame.

    Attributes:
        truth_ids: People in each frame, counted from 0 over the sequence.
        result_ids: Tracks in each frame, counted from 0 over the sequence.
        similarity: IoU of each frame, (people, tracks) float64.
    """

    truth_ids: tuple[Ids, ...]
    result_ids: tuple[Ids, ...]
    similarity: tuple[Matrix, ...]

    @property
    def truth_boxes(self) -> int:
        """How many boxes there are to be found."""
        return sum(map(len, self.truth_ids))

    @property
    def result_boxes(self) -> int:
        """How many boxes the tracker gave, without those removed."""
        return sum(map(len, self.result_ids))

    @property
    def truth_count(self) -> int:
        """How many people there are."""
        return _count(self.truth_ids)

    @property
    def result_count(self) -> int:
        """How many tracks there are."""
        return _count(self.result_ids)


def _count(ids: tuple[Ids, ...]) -> int:
    return max((int(each.max()) for each in ids if len(each)), default=-1) + 1


def count_ids(ids: tuple[Ids, ...], count: int) -> NDArray[np.float64]:
    """How many boxes each of `count` people or tracks has, (count,)."""
    return np.bincount(np.concatenate([np.empty(0, np.int64), *ids]), minlength=count).astype(np.float64)


def prepare(
    truth: MotRows,
    results: MotRows,
    *,
    frames: int,
    distractors: frozenset[int] = MOT17_DISTRACTORS,
    ignore_zero_marked: bool = True,
) -> ScoredSequence:
    """Match, remove and renumber, as the head of this module says.

    Args:
        truth: Of `trackers.mot.read_ground_truth`.
        results: Of `trackers.mot.read_results`.
        frames: Length of the sequence; frames without rows count as empty.
        distractors: Classes that absorb results; `MOT20_DISTRACTORS` for MOT20.
        ignore_zero_marked: Whether pedestrians of confidence 0 absorb results too; TrackEval's do not.

    Raises:
        ValueError: When a row lies behind the last frame, or an id appears twice in a frame of the results.
    """
    for name, rows in (("truth", truth), ("results", results)):
        if len(rows) and rows.frame[-1] > frames:
            raise ValueError(f"{name} has a row in frame {rows.frame[-1]}, but the sequence ends with {frames}")
    absorbing = np.isin(truth.class_id, list(distractors))
    if ignore_zero_marked:
        absorbing |= (truth.class_id == PEDESTRIAN) & (truth.confidence == 0)
    wanted = (truth.class_id == PEDESTRIAN) & (truth.confidence != 0)
    truth_xyxy, result_xyxy = xywh_to_xyxy(truth.xywh), xywh_to_xyxy(results.xywh)
    truth_ids, result_ids, similarity = [], [], []
    for frame in range(1, frames + 1):
        of_truth, of_results = truth.of_frame(frame), results.of_frame(frame)
        overlap = iou_matrix(truth_xyxy[of_truth], result_xyxy[of_results])
        stay = ~_absorbed(overlap, absorbing[of_truth])
        truth_ids.append(truth.identity[of_truth][wanted[of_truth]])
        result_ids.append(results.identity[of_results][stay])
        similarity.append(overlap[wanted[of_truth]][:, stay])
    return ScoredSequence(_renumber("truth", truth_ids), _renumber("results", result_ids), tuple(similarity))


def _absorbed(overlap: Matrix, absorbing: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Which results are matched with a box that absorbs them."""
    absorbed = np.zeros(overlap.shape[1], bool)
    score = np.where(overlap < 0.5 - EPSILON, 0.0, overlap)
    rows, columns = linear_sum_assignment(score, maximize=True)
    absorbed[columns[(score[rows, columns] > EPSILON) & absorbing[rows]]] = True
    return absorbed


def _renumber(name: str, ids: list[Ids]) -> tuple[Ids, ...]:
    for frame, each in enumerate(ids, start=1):
        if len(np.unique(each)) < len(each):
            raise ValueError(f"{name}: an id appears twice in frame {frame}")
    known = np.unique(np.concatenate([*ids, np.empty(0, np.int64)]))
    return tuple(np.searchsorted(known, each).astype(np.int64) for each in ids)
