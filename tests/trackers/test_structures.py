"""What goes in and what comes out is checked at the door."""

import numpy as np
import pytest

from trackers.structures import Detections, Dropped, Tracks

BOX = np.array([[0, 0, 10, 20]], np.float64)


def test_rows_are_float32_whatever_came_in() -> None:
    detections = Detections(BOX, np.array([0.5]))
    assert detections.xyxy.dtype == detections.confidence.dtype == np.float32
    tracks = Tracks(BOX, np.array([0.5]), np.array([7], np.int32))
    assert (tracks.track_id.dtype, len(tracks)) == (np.int64, 1)


def test_nothing_keeps_its_shape() -> None:
    assert Detections.empty().xyxy.shape == Tracks.empty().xyxy.shape == (0, 4)


@pytest.mark.parametrize(
    ("xyxy", "confidence", "message"),
    [
        (np.zeros(4), np.zeros(1), r"xyxy must be \(n, 4\), got \(4,\)"),
        (BOX, np.zeros(2), r"confidence must be \(1,\), one a box, got \(2,\)"),
        (BOX * np.nan, np.zeros(1), "finite"),
        (BOX, np.array([np.inf]), "finite"),
        (-BOX, np.zeros(1), "right > left and bottom > top"),
    ],
)
def test_boxes_that_are_none_are_refused(xyxy: np.ndarray, confidence: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Detections(xyxy, confidence)
    with pytest.raises(ValueError, match=message):
        Tracks(xyxy, confidence, np.array([1]))


def test_one_id_is_for_one_box() -> None:
    with pytest.raises(ValueError, match="unique within a frame"):
        Tracks(np.repeat(BOX, 2, 0), np.zeros(2), np.array([1, 1]))
    with pytest.raises(ValueError, match=r"track_id must be \(1,\), one a box, got \(2,\)"):
        Tracks(BOX, np.zeros(1), np.array([1, 2]))


def test_a_tracker_that_knows_no_pure_pieces_says_the_track_id() -> None:
    tracks = Tracks(BOX, np.array([0.5]), np.array([7]))
    assert tracks.tracklet_id.tolist() == [7]
    assert tracks.risk.tolist() == [0.0]


def test_pure_pieces_and_their_risk_are_checked_like_tracks() -> None:
    two, ids = np.repeat(BOX, 2, 0), np.array([1, 2])
    with pytest.raises(ValueError, match="tracklet_id must be unique within a frame"):
        Tracks(two, np.zeros(2), ids, np.array([5, 5]))
    with pytest.raises(ValueError, match=r"risk must be \(2,\), one a box, got \(1,\)"):
        Tracks(two, np.zeros(2), ids, np.array([5, 6]), np.zeros(1))
    for risk in (-0.1, 1.1, np.nan):
        with pytest.raises(ValueError, match=r"risk must be in \[0, 1\]"):
            Tracks(two, np.zeros(2), ids, np.array([5, 6]), np.array([0, risk]))


def test_what_is_no_box_is_left_out_and_counted_once_by_its_reason() -> None:
    nan, inf = float("nan"), float("inf")
    good, negative, beyond = [10, 10, 50, 90], [-20, -5, 30, 60], [600, 400, 700, 520]
    bad = [[nan, 0, 1, 1], [0, 0, inf, 1], [50, 10, 10, 90], [10, 90, 50, 10], [10, 10, 10, 90], [640, 10, 700, 90]]
    bad += [[-60, 10, 0, 90], good, good, good]
    confidence = [0.9, 0.8, 0.7, *[0.9] * 7, 1.5, -0.1, nan]
    found, dropped = Detections.usable([good, negative, beyond, *bad], confidence, resolution_wh=(640, 480))
    np.testing.assert_array_equal(found.xyxy, np.array([good, negative, beyond], np.float32))
    np.testing.assert_array_equal(found.confidence, np.array([0.9, 0.8, 0.7], np.float32))
    assert dropped == Dropped(not_finite=3, no_area=3, off_screen=2, no_confidence=2)


def test_without_a_resolution_nothing_is_off_screen_and_nothing_is_dropped_of_nothing() -> None:
    found, dropped = Detections.usable([[-60, -60, -10, -5]], [0.5])
    assert len(found) == 1
    assert sum(dropped) == 0
    none, dropped = Detections.usable(np.empty((0, 4)), np.empty(0), resolution_wh=(640, 480))
    assert none.xyxy.shape == (0, 4)
    assert sum(dropped) == 0


def test_arrays_of_other_shapes_are_refused_though_their_boxes_might_be_dropped() -> None:
    with pytest.raises(ValueError, match=r"xyxy must be \(n, 4\), got \(1, 3\)"):
        Detections.usable([[1, 2, 3]], [0.5])
    with pytest.raises(ValueError, match=r"confidence must be \(1,\), one a box, got \(2,\)"):
        Detections.usable([[1, 2, 3, 4]], [0.5, 0.5])
