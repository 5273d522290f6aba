"""Where a tracklet ends, and how doubtful a box is."""

import numpy as np

from trackers.purity import CutRules, Evidence, risk


def evidence(**signs: float) -> Evidence:
    """One pair, certain but for these signs."""
    usual = {"missed_seconds": 0.0, "overlap": 0.0, "hidden": 0.0, "probability": 1.0, "surprise": 0.0}
    return Evidence(**{name: np.array([signs.get(name, value)]) for name, value in usual.items()})


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
        "probability": 0.5,
        "surprise": 40,
    }.items():
        assert cuts(**{sign: value}), sign
        less = 0.8 if sign == "probability" else value / 2
        low, high = (risk(evidence(**{sign: each}), lost_seconds=1.0)[0] for each in (less, value))
        assert 0 < low < high <= 1, sign


def test_a_tracklet_is_cut_when_an_overlap_begins_and_when_it_ends_but_not_within() -> None:
    assert cuts(overlap=0.9)
    assert not cuts(overlap=0.9, was_overlapped=True)
    assert cuts(overlap=0.2, was_overlapped=True)


def test_a_short_gap_cuts_where_somebody_else_is_about_or_the_detector_is_weak() -> None:
    assert not cuts(missed_seconds=0.3)
    assert cuts(missed_seconds=0.3, weak=True)
    assert cuts(missed_seconds=0.3, probability=0.8)
    assert not cuts(missed_seconds=0.05, probability=0.8, weak=True)


def test_a_box_over_the_place_of_a_track_that_found_none_is_a_piece_of_its_own_while_that_lasts() -> None:
    assert cuts(hidden=0.6)
    assert cuts(hidden=0.6, overlap=0.9, was_overlapped=True)
    assert not cuts(hidden=0.4)
