"""ByteTrack's life cycle, on people whose paths are known."""

import pickle

import numpy as np
import pytest

from tests.trackers.scenes import people, run
from trackers.bytetrack import ByteTrack, ByteTrackSettings
from trackers.structures import Detections


def test_people_of_the_first_frame_have_an_id_at_once_and_keep_it() -> None:
    assert run(ByteTrack(), [people(10 + 3 * t, 300 - 3 * t) for t in range(20)]) == [[1, 2]] * 20


def test_the_box_given_out_is_the_detection_bit_by_bit_in_the_detections_order() -> None:
    tracker = ByteTrack()
    for t in range(10):
        places = (300 - 3.3 * t, 10 + 3.7 * t)
        detections = people(*(places if t % 2 else reversed(places)))
        tracks = tracker.update(detections, pts_seconds=t / 10)
        np.testing.assert_array_equal(tracks.xyxy, detections.xyxy)
        np.testing.assert_array_equal(tracks.confidence, detections.confidence)


def test_a_later_person_is_tentative_for_one_frame() -> None:
    assert run(ByteTrack(), [people(10), people(10, 300), people(10, 300)]) == [[1], [1], [1, 2]]


def test_a_false_alarm_of_one_frame_never_gets_an_id_and_uses_none_up() -> None:
    frames = [people(10), people(10, 300), people(10), people(10, 500), people(10, 500)]
    assert run(ByteTrack(), frames) == [[1], [1], [1], [1], [1, 2]]


def test_a_tentative_track_needs_more_overlap_than_an_old_one() -> None:
    frames = [people(10), people(10, 300), people(10, 323), people(10, 323)]  # fused overlap 0.24
    assert run(ByteTrack(), frames) == [[1], [1], [1], [1, 2]]
    assert run(ByteTrack(ByteTrackSettings(new_overlap=0.2)), frames) == [[1], [1], [1, 2], [1, 2]]


def test_a_weak_box_continues_a_track_but_starts_none() -> None:
    frames = [people(10), people(12, 300, confidence=0.3), people(14, 300, confidence=0.3)]
    assert run(ByteTrack(), frames) == [[1], [1], [1]]


def test_a_weak_box_does_not_revive_a_lost_track_and_a_strong_one_does() -> None:
    frames = [people(10), people(), people(10, confidence=0.3), people(10)]
    assert run(ByteTrack(), frames) == [[1], [], [], [1]]


def test_boxes_below_the_low_threshold_are_not_looked_at() -> None:
    assert run(ByteTrack(), [people(10), people(10, confidence=0.05)]) == [[1], []]


def test_strong_boxes_below_the_new_track_threshold_continue_and_start_nothing() -> None:
    frames = [people(10), people(10, 300, confidence=0.65), people(10, 300, confidence=0.65)]
    assert run(ByteTrack(), frames) == [[1], [1], [1]]


@pytest.mark.parametrize("start", [0.0, 0.1, 1_700_000_000.3])
@pytest.mark.parametrize("fps", [5, 10, 30])
def test_the_lost_buffer_is_in_seconds_at_any_frame_rate(fps: int, start: float) -> None:
    def gap(frames_missed: int) -> list[int]:
        frames = [people(10), people(10), *[people()] * frames_missed, people(10), people(10)]
        return run(ByteTrack(ByteTrackSettings(lost_seconds=1.0)), frames, fps=fps, start=start)[-1]

    assert gap(fps - 1) == [1]  # seen again exactly one second later
    assert gap(fps) == [2]


@pytest.mark.parametrize("fps", [5, 10, 30])
def test_a_person_walking_behind_a_pillar_comes_out_with_the_same_id(fps: int) -> None:
    times = np.arange(0, 3, 1 / fps)
    frames = [people() if 1.5 < t < 2.1 else people(20 + 90 * t) for t in times]
    ids = {each for frame in run(ByteTrack(), frames, fps=fps) for each in frame}
    assert ids == {1}


def test_a_lost_person_is_not_imagined_to_grow_on() -> None:
    def near(size: float) -> Detections:
        return Detections(np.array([[300 - size, 300 - size, 300 + size, 300 + size]]), np.array([0.9]))

    approaching = [near(50 + 8 * t) for t in range(7)]
    frames = [*approaching, *[people()] * 18, near(100)]
    assert run(ByteTrack(ByteTrackSettings(lost_seconds=2.0)), frames)[-1] == [1]


def test_irregular_time_moves_a_track_as_far_as_the_clock_went() -> None:
    rng = np.random.default_rng(5)
    times = np.cumsum(rng.uniform(0.03, 0.4, 40))
    tracker = ByteTrack()
    tracks = [tracker.update(people(60 * t), pts_seconds=t) for t in times]
    assert {int(each) for frame in tracks[1:] for each in frame.track_id} == {1}


def test_a_stall_longer_than_the_buffer_ends_every_track() -> None:
    tracker = ByteTrack()
    run(tracker, [people(10)] * 5)
    assert tracker.update(people(10), pts_seconds=60.0).track_id.tolist() == []
    assert tracker.update(people(10), pts_seconds=60.1).track_id.tolist() == [2]


def test_ids_count_from_one_in_each_instance_and_are_not_given_again_after_reset() -> None:
    first, second = ByteTrack(), ByteTrack()
    assert run(first, [people(10, 300)]) == [[1, 2]]
    assert run(second, [people(10)]) == [[1]]
    first.reset()
    assert len(first) == 0
    assert run(first, [people(10, 300)]) == [[3, 4]]  # time may start again, too


def test_confidence_outweighs_a_little_more_overlap_only_if_fused() -> None:
    frames = [people(100), people(93, 108, confidence=[0.62, 0.95])]

    def chosen(fuse: bool) -> float:
        tracker = ByteTrack(ByteTrackSettings(fuse_confidence=fuse))
        tracker.update(frames[0], pts_seconds=0.0)
        return float(tracker.update(frames[1], pts_seconds=0.1).confidence[0])

    assert chosen(True) == pytest.approx(0.95)
    assert chosen(False) == pytest.approx(0.62)


def test_of_a_lost_and_a_living_track_in_one_place_the_older_stays() -> None:
    # A second detection on one person becomes a young track; then only the young one's detection is left.
    tracker = ByteTrack()
    ids = run(tracker, [people(10)] * 10 + [people(10, 13)] * 2 + [people(13)] * 3)
    assert ids[11] == [1, 2]
    assert ids[-2:] == [[1], [1]]
    assert len(tracker) == 1


def test_time_must_go_forward_and_an_error_changes_nothing() -> None:
    tracker = ByteTrack()
    tracker.update(people(10), pts_seconds=1.0)
    before = pickle.dumps(tracker)
    for wrong in (1.0, 0.5):
        with pytest.raises(ValueError, match=f"pts_seconds must be greater than at the last call, 1.0, got {wrong}"):
            tracker.update(people(10), pts_seconds=wrong)
    with pytest.raises(ValueError, match="pts_seconds must be finite, got nan"):
        tracker.update(people(10), pts_seconds=float("nan"))
    assert pickle.dumps(tracker) == before


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"high_confidence": 1.5}, r"high_confidence must be in \[0, 1\], got 1.5"),
        ({"second_overlap": -0.1}, r"second_overlap must be in \[0, 1\], got -0.1"),
        ({"new_confidence": 0.5}, "low_confidence <= high_confidence <= new_confidence must hold, got 0.1, 0.6, 0.5"),
        ({"lost_seconds": 0.0}, "lost_seconds must be a positive number, got 0.0"),
        ({"lost_seconds": float("nan")}, "lost_seconds must be a positive number, got nan"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(changes: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ByteTrackSettings(**changes)  # type: ignore[arg-type]
