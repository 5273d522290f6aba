"""What the metrics say of cases small enough to count by hand."""

import numpy as np
import pytest

from trackers.metrics import clear, hota, identity, purity
from trackers.metrics import scores as all_scores
from trackers.metrics.sequence import ScoredSequence, prepare
from trackers.mot import MotRows


def rows(*boxes: tuple[int, int, float], marked: float | list[float] = 1.0, class_id: int | list[int] = 1) -> MotRows:
    """Boxes 10 by 20 as frame, id, left."""
    table = np.array(sorted(boxes, key=lambda box: box[0]), dtype=np.float64).reshape(-1, 3)
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


def counts(found: clear.Clear) -> tuple[int, int, int, int]:
    """True positives, false positives, false negatives, switches."""
    return found.true_positives, found.false_positives, found.false_negatives, found.id_switches


def scores(sequence: ScoredSequence) -> tuple[clear.Clear, identity.Identity]:
    return clear.evaluate(sequence), identity.evaluate(sequence)


def test_a_perfect_tracker_scores_one() -> None:
    truth = rows((1, 5, 0), (1, 9, 50), (2, 5, 1), (2, 9, 51))
    found, kept = scores(prepare(truth, truth, frames=2))
    assert counts(found) == (4, 0, 0, 0)
    assert (found.precision, found.recall, found.mota, kept.f1) == (1, 1, 1, 1)


def test_a_changed_id_is_one_switch_and_costs_identity_its_shorter_part() -> None:
    truth = rows(*[(t, 1, 0) for t in range(1, 6)])
    found, kept = scores(prepare(truth, rows((1, 1, 0), (2, 1, 0), (4, 2, 0), (5, 2, 0)), frames=5))
    assert counts(found) == (4, 0, 1, 1)
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
    assert counts(found) == (1, 0, 0, 0)


def test_a_box_on_a_car_is_wrong() -> None:
    truth = rows((1, 1, 0), (1, 2, 50), marked=[1, 0], class_id=[1, 3])
    assert clear.evaluate(prepare(truth, rows((1, 1, 0), (1, 2, 50)), frames=1)).false_positives == 1


def test_a_person_not_to_be_scored_is_ignored_here_and_a_false_alarm_to_trackeval() -> None:
    truth = rows((1, 1, 0), (1, 2, 50), marked=[1, 0])
    results = rows((1, 1, 0), (1, 2, 50))
    assert counts(clear.evaluate(prepare(truth, results, frames=1))) == (1, 0, 0, 0)
    as_trackeval = prepare(truth, results, frames=1, ignore_zero_marked=False)
    assert counts(clear.evaluate(as_trackeval)) == (1, 1, 0, 0)


def test_an_ignored_person_takes_no_box_away_from_a_person_beside() -> None:
    truth = rows((1, 1, 0), (1, 2, 2), marked=[1, 0])
    assert counts(clear.evaluate(prepare(truth, rows((1, 1, 0)), frames=1))) == (1, 0, 0, 0)


def test_sequences_are_combined_by_adding_their_counts() -> None:
    first = prepare(rows((1, 1, 0)), rows((1, 1, 0)), frames=1)
    second = prepare(rows((1, 1, 0), (2, 1, 0)), rows((1, 1, 90)), frames=2)
    total = clear.evaluate(first) + clear.evaluate(second)
    assert counts(total) == (1, 1, 2, 0)
    assert (total.precision, total.recall) == (pytest.approx(1 / 2), pytest.approx(1 / 3))
    assert identity.evaluate(first) + identity.evaluate(second) == identity.Identity(1, 1, 2)


def test_nothing_to_find_and_nothing_found_is_no_division_by_zero() -> None:
    nothing, something = rows(), rows((1, 1, 0))
    assert scores(prepare(nothing, nothing, frames=3)) == (
        clear.Clear(0, 0, 0, 0, 0, 0, 0, 0, 0.0),
        identity.Identity(0, 0, 0),
    )
    found, kept = scores(prepare(something, nothing, frames=1))
    assert (counts(found), found.precision, found.recall, kept.f1) == ((0, 0, 1, 0), 0, 0, 0)
    found, kept = scores(prepare(nothing, something, frames=1))
    assert (counts(found), found.precision, kept.precision) == ((0, 1, 0, 0), 0, 0)


def test_rows_behind_the_end_and_ids_twice_in_a_frame_are_refused() -> None:
    with pytest.raises(ValueError, match="results has a row in frame 3, but the sequence ends with 2"):
        prepare(rows((1, 1, 0)), rows((3, 1, 0)), frames=2)
    with pytest.raises(ValueError, match="results: an id appears twice in frame 1"):
        prepare(rows((1, 1, 0)), rows((1, 4, 0), (1, 4, 90)), frames=1)


def test_a_person_found_lost_and_found_again_is_one_fragmentation_and_partly_tracked() -> None:
    truth = rows(*[(t, 1, 0) for t in range(1, 11)], *[(t, 2, 90) for t in range(1, 11)])
    elsewhere = [(t, 9, 500) for t in range(1, 11)]  # a frame without any box would not count as a gap
    results = rows(*[(t, 7, 0) for t in (1, 2, 3, 6, 7)], (1, 8, 90), *elsewhere)
    found = clear.evaluate(prepare(truth, results, frames=10))
    assert (found.fragmentations, found.id_switches) == (1, 0)
    assert (found.mostly_tracked, found.partly_tracked, found.mostly_lost) == (0, 1, 1)
    assert found.motp == 1


def test_hota_of_a_life_cut_in_half_is_the_root_of_half_its_association() -> None:
    truth = rows(*[(t, 1, 0) for t in range(1, 5)])
    score = hota.evaluate(prepare(truth, rows((1, 1, 0), (2, 1, 0), (3, 2, 0), (4, 2, 0)), frames=4))
    np.testing.assert_allclose(score.det_a, 1)
    np.testing.assert_allclose(score.ass_a, 0.5)  # each box: 2 boxes of its track on its person, of 4 in all
    np.testing.assert_allclose(score.ass_re, 0.5)
    np.testing.assert_allclose(score.ass_pr, 1)
    np.testing.assert_allclose(score.hota, 0.5**0.5)
    np.testing.assert_allclose(score.loc_a, 1)


def test_hota_counts_a_box_up_to_the_overlap_that_it_has() -> None:
    score = hota.evaluate(prepare(rows((1, 1, 0)), rows((1, 1, 2.5)), frames=1))  # IoU 7.5 / 12.5
    np.testing.assert_array_equal(score.true_positives, hota.ALPHAS <= 0.6 + 1e-12)
    np.testing.assert_array_equal(score.false_positives + score.true_positives, 1)
    np.testing.assert_allclose(score.loc_a[:12], 0.6)


def test_hota_of_nothing_is_zero_and_no_division() -> None:
    nothing, something = rows(), rows((1, 1, 0))
    for truth, results in ((nothing, nothing), (nothing, something), (something, nothing)):
        assert (hota.evaluate(prepare(truth, results, frames=1)).hota == 0).all()


def test_purity_counts_the_main_person_of_each_tracklet() -> None:
    truth = rows(*[(t, 1, 0) for t in range(1, 13)], *[(t, 2, 90) for t in range(1, 13)])
    mixed = [(t, 5, 0 if t <= 8 else 90) for t in range(1, 13)]  # 8 of person 1, then 4 of person 2
    pure = [(t, 6, 90) for t in range(1, 7)]
    wrong = [(1, 7, 500)]
    score = purity.evaluate(prepare(truth, rows(*mixed, *pure, *wrong), frames=12))
    assert score == purity.Purity(
        matched=18,
        of_main_person=14,
        long_tracklets=1,
        mixed_tracklets=1,
        in_tracklet_switches=1,
        segments=2,
        people=2,
        unmatched=1,
    )
    assert score.purity == pytest.approx(14 / 18)
    assert (score.mixed_share, score.tracklets_a_person) == (1, 1)
    assert score.unmatched_share == pytest.approx(1 / 19)
    assert (score + score).of_main_person == 28


def test_a_tracklet_with_a_twentieth_of_another_person_is_not_yet_mixed() -> None:
    truth = rows(*[(t, 1, 0) for t in range(1, 21)], *[(t, 2, 90) for t in range(1, 21)])

    def mixed(foreign: int) -> float:
        track = [(t, 5, 90 if t <= foreign else 0) for t in range(1, 21)]
        return purity.evaluate(prepare(truth, rows(*track), frames=20)).mixed_share

    assert (mixed(1), mixed(2)) == (0, 1)


def test_purity_of_nothing_is_zero_and_no_division() -> None:
    nothing, something = rows(), rows((1, 1, 0))
    for truth, results in ((nothing, nothing), (nothing, something), (something, nothing)):
        score = purity.evaluate(prepare(truth, results, frames=1))
        assert (score.purity, score.mixed_share, score.tracklets_a_person) == (0, 0, 0)
    assert purity.evaluate(prepare(nothing, something, frames=1)).unmatched_share == 1


def test_the_row_of_a_table_has_every_column_and_adds_up_over_sequences() -> None:
    truth = rows((1, 1, 0), (2, 1, 0))
    one = all_scores.evaluate(prepare(truth, truth, frames=2))
    assert tuple(one.row()) == all_scores.COLUMNS
    assert one.row()["HOTA"] == pytest.approx(100)
    none = all_scores.evaluate(prepare(truth, rows(), frames=2))
    both = (one + none).row()
    assert (both["FN"], both["MOTA"]) == (2, pytest.approx(50))
    assert both["DetA"] == pytest.approx(50)
