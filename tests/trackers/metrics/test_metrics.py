"""What the metrics say of cases small enough to count by hand."""

import numpy as np
import pytest

from trackers.metrics import clear, identity
from trackers.metrics.sequence import ScoredSequence, prepare
from trackers.mot import MotRows


def rows(*boxes: tuple[int, int, float], marked: float | list[float] = 1.0, class_id: int | list[int] = 1) -> MotRows:
    """Boxes 10 by 20 as frame, id, left."""
    table = np.array(boxes, dtype=np.float64).reshape(-1, 3)
    n = len(table)
    xywh = np.concatenate([table[:, 2:], np.tile([0.0, 10, 20], (n, 1))], axis=1)
    return MotRows(
        table[:, 0].astype(np.int64),
        table[:, 1].astype(np.int64),
        xywh,
        np.broadcast_to(np.asarray(marked, np.float64), n),
        np.broadcast_to(np.asarray(class_id, np.int64), n),
        np.ones(n),
    )


def scores(sequence: ScoredSequence) -> tuple[clear.Clear, identity.Identity]:
    return clear.evaluate(sequence), identity.evaluate(sequence)


def test_a_perfect_tracker_scores_one() -> None:
    truth = rows((1, 5, 0), (1, 9, 50), (2, 5, 1), (2, 9, 51))
    found, kept = scores(prepare(truth, truth, frames=2))
    assert found == clear.Clear(true_positives=4, false_positives=0, false_negatives=0, id_switches=0)
    assert (found.precision, found.recall, found.mota, kept.f1) == (1, 1, 1, 1)


def test_a_changed_id_is_one_switch_and_costs_identity_its_shorter_part() -> None:
    truth = rows(*[(t, 1, 0) for t in range(1, 6)])
    found, kept = scores(prepare(truth, rows((1, 1, 0), (2, 1, 0), (4, 2, 0), (5, 2, 0)), frames=5))
    assert found == clear.Clear(true_positives=4, false_positives=0, false_negatives=1, id_switches=1)
    assert found.mota == pytest.approx(1 - 2 / 5)
    assert kept == identity.Identity(true_positives=2, false_positives=2, false_negatives=3)
    assert kept.f1 == pytest.approx(4 / 9)
    assert (kept.precision, kept.recall) == (pytest.approx(2 / 4), pytest.approx(2 / 5))


def test_a_box_half_off_is_no_match_and_counts_twice() -> None:
    found, kept = scores(prepare(rows((1, 1, 0)), rows((1, 1, 5)), frames=1))
    assert (found.false_positives, found.false_negatives, found.mota) == (1, 1, -1)
    assert kept.f1 == 0


@pytest.mark.parametrize("class_id", [2, 7, 8, 12])
def test_a_box_on_a_distractor_is_neither_right_nor_wrong(class_id: int) -> None:
    truth = rows((1, 1, 0), (1, 2, 50), marked=[1, 0], class_id=[1, class_id])
    found, _ = scores(prepare(truth, rows((1, 1, 0), (1, 2, 50)), frames=1))
    assert found == clear.Clear(1, 0, 0, 0)


def test_a_box_on_a_car_is_wrong() -> None:
    truth = rows((1, 1, 0), (1, 2, 50), marked=[1, 0], class_id=[1, 3])
    assert clear.evaluate(prepare(truth, rows((1, 1, 0), (1, 2, 50)), frames=1)).false_positives == 1


def test_a_person_not_to_be_scored_is_ignored_here_and_a_false_alarm_to_trackeval() -> None:
    truth = rows((1, 1, 0), (1, 2, 50), marked=[1, 0])
    results = rows((1, 1, 0), (1, 2, 50))
    assert clear.evaluate(prepare(truth, results, frames=1)) == clear.Clear(1, 0, 0, 0)
    as_trackeval = prepare(truth, results, frames=1, ignore_zero_marked=False)
    assert clear.evaluate(as_trackeval) == clear.Clear(1, 1, 0, 0)


def test_an_ignored_person_takes_no_box_away_from_a_person_beside() -> None:
    truth = rows((1, 1, 0), (1, 2, 2), marked=[1, 0])
    assert clear.evaluate(prepare(truth, rows((1, 1, 0)), frames=1)) == clear.Clear(1, 0, 0, 0)


def test_sequences_are_combined_by_adding_their_counts() -> None:
    first = prepare(rows((1, 1, 0)), rows((1, 1, 0)), frames=1)
    second = prepare(rows((1, 1, 0), (2, 1, 0)), rows((1, 1, 90)), frames=2)
    total = clear.evaluate(first) + clear.evaluate(second)
    assert total == clear.Clear(1, 1, 2, 0)
    assert (total.precision, total.recall) == (pytest.approx(1 / 2), pytest.approx(1 / 3))
    assert identity.evaluate(first) + identity.evaluate(second) == identity.Identity(1, 1, 2)


def test_nothing_to_find_and_nothing_found_is_no_division_by_zero() -> None:
    nothing, something = rows(), rows((1, 1, 0))
    assert scores(prepare(nothing, nothing, frames=3)) == (clear.Clear(0, 0, 0, 0), identity.Identity(0, 0, 0))
    found, kept = scores(prepare(something, nothing, frames=1))
    assert (found, found.precision, found.recall, kept.f1) == (clear.Clear(0, 0, 1, 0), 0, 0, 0)
    found, kept = scores(prepare(nothing, something, frames=1))
    assert (found, found.precision, kept.precision) == (clear.Clear(0, 1, 0, 0), 0, 0)


def test_rows_behind_the_end_and_ids_twice_in_a_frame_are_refused() -> None:
    with pytest.raises(ValueError, match="results has a row in frame 3, but the sequence ends with 2"):
        prepare(rows((1, 1, 0)), rows((3, 1, 0)), frames=2)
    with pytest.raises(ValueError, match="results: an id appears twice in frame 1"):
        prepare(rows((1, 1, 0)), rows((1, 4, 0), (1, 4, 90)), frames=1)
