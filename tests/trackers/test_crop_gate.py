"""Which boxes give a crop."""

import numpy as np
import pytest

from trackers.crop_gate import CropGate, covered
from trackers.structures import Tracks

WH = (640, 480)


def tracks(*boxes: list[float], confidence: list[float] | None = None, lift: float = 1.0) -> Tracks:
    scores = [0.9] * len(boxes) if confidence is None else confidence
    xyxy = np.array(boxes, np.float32).reshape(-1, 4)
    return Tracks(xyxy, np.array(scores), np.arange(1, len(boxes) + 1), lift=lift)


def test_a_whole_sure_person_gives_a_crop_and_one_behind_another_none() -> None:
    front, behind, aside = [100, 100, 200, 400], [130, 90, 210, 380], [400, 100, 480, 400]
    assert CropGate().passes(tracks(front, behind, aside), WH).tolist() == [True, False, True]
    assert CropGate(max_covered=1.0).passes(tracks(front, behind, aside), WH).all()


def test_cover_is_the_greatest_share_that_one_box_in_front_takes() -> None:
    shares = covered(np.array([[0, 0, 100, 100], [50, 0, 150, 101], [0, 75, 40, 102]], np.float32))
    np.testing.assert_allclose(shares, [0.5, 0.0, 0.0])
    assert covered(np.array([[0, 0, 10, 10], [0, 0, 10, 10]], np.float32)).tolist() == [0.0, 0.0]  # neither is in front
    assert covered(np.empty((0, 4), np.float32)).shape == (0,)


@pytest.mark.parametrize("box", [[0, 100, 80, 400], [560, 100, 640, 400], [100, -20, 180, 300]])
def test_a_person_whom_a_side_or_the_top_cuts_off_gives_none(box: list[float]) -> None:
    assert not CropGate().passes(tracks(box), WH).any()


def test_the_lower_edge_cuts_nobody_off() -> None:
    assert CropGate().passes(tracks([100, 100, 200, 480]), WH).all()


def test_a_box_is_weak_beside_the_frame_s_best_on_any_scale() -> None:
    boxes = [[100, 100, 180, 400], [300, 100, 380, 400]]
    for scale in (1.0, 0.3):
        passing = CropGate().passes(tracks(*boxes, confidence=[0.9 * scale, 0.2 * scale], lift=1 / scale), WH)
        assert passing.tolist() == [True, False]


def test_a_box_that_is_the_frame_s_best_for_want_of_others_must_be_a_person_s_on_the_common_scale() -> None:
    alone = [100, 100, 180, 400]
    for confidence, lift, passes in ((0.1, 1.0, False), (0.25, 1.0, False), (0.3, 1.0, True), (0.25, 2.0, True)):
        assert CropGate().passes(tracks(alone, confidence=[confidence], lift=lift), WH).tolist() == [passes]


def test_of_nobody_nothing_passes() -> None:
    assert CropGate().passes(tracks(), WH).shape == (0,)


@pytest.mark.parametrize("wrong", [{"max_covered": 1.1}, {"min_share": -0.1}, {"border": float("nan")}])
def test_a_gate_that_cannot_be_meant_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(wrong))} must be"):
        CropGate(**wrong)
