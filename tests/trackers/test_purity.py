"""Where a tracklet ends, and how doubtful a box is."""

import numpy as np

from trackers.purity import CutRules, Evidence, risk


def evidence(**signs: float) -> Evidence:
    """One pair, certain but for these signs."""
    names = ("missed_seconds", "overlap", "hidden", "rival_track", "rival_box", "surprise")
    return Evidence(**{name: np.array([signs.get(name, 0.0)]) for name in names})


def cuts(*, was_overlapped: bool = False, weak: bool = False, **signs: float) -> bool:
    return bool(CutRules().cut(evidence(**signs), was_overlapped=np.array([was_overlapped]), weak=weak)[0][0])


def test_a_certain_box_is_no_risk_and_no_reason_to_cut() -> None:
    assert not cuts()
    assert risk(evidence(), lost_seconds=1.0).tolist() == [0.0]


def test_each_sign_of_doubt_cuts_alone_and_raises_the_risk() -> None:
    for sign, value in {
        "missed_seconds": 0.8,
        "overlap": 0.9,
        "hidden": 0.6,
        "rival_track": 0.5,
        "rival_box": 0.95,
        "surprise": 40,
    }.items():
        assert cuts(**{sign: value}), sign
        low, high = (risk(evidence(**{sign: value * share}), lost_seconds=1.0)[0] for share in (0.5, 1.0))
        assert 0 < low < high <= 1, sign


def test_a_tracklet_is_cut_when_an_overlap_begins_and_when_it_ends_but_not_within() -> None:
    assert cuts(overlap=0.9)
    assert not cuts(overlap=0.9, was_overlapped=True)
    assert cuts(overlap=0.2, was_overlapped=True)


def test_a_short_gap_cuts_where_somebody_else_is_about_or_the_detector_is_weak() -> None:
    assert not cuts(missed_seconds=0.3)
    assert cuts(missed_seconds=0.3, weak=True)
    assert cuts(missed_seconds=0.3, rival_track=0.25)
    assert cuts(missed_seconds=0.3, rival_box=0.25)
    assert not cuts(missed_seconds=0.05, rival_track=0.25, weak=True)


def test_a_second_box_may_come_nearer_than_a_second_track() -> None:
    assert cuts(rival_track=0.6)
    assert not cuts(rival_box=0.6)


def test_a_box_over_the_place_of_a_track_that_found_none_is_a_piece_of_its_own_while_that_lasts() -> None:
    assert cuts(hidden=0.6)
    assert cuts(hidden=0.6, overlap=0.9, was_overlapped=True)
    assert not cuts(hidden=0.4)
