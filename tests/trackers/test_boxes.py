"""Box formats and overlap."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from trackers.boxes import cxcywh_to_xyxy, iou_matrix, xywh_to_xyxy, xyxy_to_cxcywh, xyxy_to_xywh

BOXES = arrays(np.float64, st.tuples(st.integers(0, 6), st.just(4)), elements=st.integers(0, 40).map(float))


def slow_iou(a: np.ndarray, b: np.ndarray) -> float:
    """Counts unit pixels, for boxes with whole-numbered corners."""
    first = {(x, y) for x in range(int(a[0]), int(a[2])) for y in range(int(a[1]), int(a[3]))}
    second = {(x, y) for x in range(int(b[0]), int(b[2])) for y in range(int(b[1]), int(b[3]))}
    return len(first & second) / max(1, len(first | second)) if first and second else 0.0


@settings(max_examples=40, deadline=None)
@given(BOXES, BOXES)
def test_overlap_is_that_of_the_pixels_also_for_boxes_without_area(a: np.ndarray, b: np.ndarray) -> None:
    expected = [[slow_iou(x, y) for y in b] for x in a]
    np.testing.assert_allclose(iou_matrix(a, b), np.array(expected).reshape(len(a), len(b)), rtol=0, atol=1e-15)


def test_overlap_of_no_boxes_keeps_its_shape() -> None:
    assert iou_matrix(np.empty((0, 4)), np.ones((3, 4))).shape == (0, 3)
    assert iou_matrix(np.ones((3, 4)), np.empty((0, 4))).shape == (3, 0)


@pytest.mark.parametrize(
    ("there", "back"), [(xyxy_to_xywh, xywh_to_xyxy), (xyxy_to_cxcywh, cxcywh_to_xyxy)], ids=["xywh", "cxcywh"]
)
@settings(max_examples=20, deadline=None)
@given(BOXES)
def test_formats_convert_there_and_back_and_leave_their_input_alone(there, back, boxes: np.ndarray) -> None:
    before = boxes.copy()
    converted = there(boxes)
    kept = converted.copy()
    np.testing.assert_array_equal(back(converted), before)  # exact: halves of small whole numbers
    np.testing.assert_array_equal(boxes, before)
    np.testing.assert_array_equal(converted, kept)


def test_formats_mean_what_they_say() -> None:
    box = [[10.0, 20.0, 30.0, 60.0]]
    assert xyxy_to_xywh(box).tolist() == [[10.0, 20.0, 20.0, 40.0]]
    assert xyxy_to_cxcywh(box).tolist() == [[20.0, 40.0, 20.0, 40.0]]


@pytest.mark.parametrize("function", [xyxy_to_xywh, xywh_to_xyxy, xyxy_to_cxcywh, cxcywh_to_xyxy])
def test_a_wrong_shape_is_named(function) -> None:
    with pytest.raises(ValueError, match=r"must be \(n, 4\), got \(3,\)"):
        function(np.zeros(3))
    with pytest.raises(ValueError, match=r"second must be \(n, 4\), got \(2, 5\)"):
        iou_matrix(np.zeros((1, 4)), np.zeros((2, 5)))
