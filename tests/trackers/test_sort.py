"""SORT's life cycle, on people whose paths are known."""

import numpy as np
import pytest

from tests.trackers.scenes import people, run
from trackers.sort import Sort, SortSettings


def test_people_of_the_first_frames_have_an_id_at_once() -> None:
    assert run(Sort(), [people(10 + 3 * t, 300 - 3 * t) for t in range(6)]) == [[1, 2]] * 6


def test_a_later_person_is_on_probation_until_found_again_three_times_running() -> None:
    frames = [people(10)] * 4 + [people(10, 300)] * 5
    assert run(Sort(), frames) == [[1]] * 4 + [[1]] * 3 + [[1, 2]] * 2


def test_a_person_found_again_is_on_probation_again_and_keeps_their_id() -> None:
    frames = [people(10)] * 6 + [people()] * 2 + [people(10)] * 4
    assert run(Sort(), frames) == [[1]] * 6 + [[]] * 4 + [[1]] * 2


def test_weak_boxes_are_not_looked_at() -> None:
    assert run(Sort(), [people(10), people(10, confidence=0.59)]) == [[1], []]
    assert run(Sort(SortSettings(min_confidence=0.5)), [people(10), people(10, confidence=0.59)]) == [[1], [1]]


def test_a_box_of_too_little_overlap_is_somebody_else() -> None:
    near, far = people(10 + 20), people(10 + 22)  # IoU 1/3 and 0.29
    assert run(Sort(), [people(10), near]) == [[1], [1]]
    assert run(Sort(), [people(10), far]) == [[1], [2]]


@pytest.mark.parametrize("fps", [5, 10, 30])
def test_the_lost_buffer_is_in_seconds_at_any_frame_rate(fps: int) -> None:
    def after(missed: int) -> list[int]:
        frames = [people(10)] * 5 + [people()] * missed + [people(10)] * 5
        return run(Sort(), frames, fps=fps)[-1]

    assert after(fps - 1) == [1]
    assert after(fps) == [2]


def test_the_papers_loss_after_one_frame_is_a_buffer_just_above_the_time_between_frames() -> None:
    frames = [people(10)] * 5 + [people()] + [people(10)] * 5
    assert run(Sort(SortSettings(lost_seconds=0.15)), frames)[-1] == [2]


def test_assignment_is_of_the_greatest_total_overlap() -> None:
    frames = [people(100, 125), people(112, 90)]  # greedily, 112 would be given to 125 and nothing be left for 100
    assert run(Sort(), frames) == [[1, 2], [2, 1]]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"min_confidence": 1.5}, r"min_confidence must be in \[0, 1\], got 1.5"),
        ({"min_overlap": -0.1}, r"min_overlap must be in \[0, 1\], got -0.1"),
        ({"lost_seconds": np.inf}, "lost_seconds must be a positive number, got inf"),
        ({"confirm_hits": 0}, "confirm_hits must be 1 or more, got 0"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(changes: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SortSettings(**changes)
