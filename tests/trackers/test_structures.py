"""What goes in and what comes out is checked at the door."""

import numpy as np
import pytest

from trackers.structures import Detections, Tracks

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
