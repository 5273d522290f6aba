"""The labels of vtest, and what is said not to be reached."""

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import numpy as np
import pytest

from benchmarks.tracker_tables import not_reached, read
from benchmarks.vtest_people import boxes_of, truth_of
from benchmarks.vtest_tracks import ways

WIDTH, HEIGHT, FRAMES = 480, 360, 795


def test_twenty_people_have_a_box_within_the_picture_from_entry_to_exit() -> None:
    people = boxes_of()
    assert sorted(people) == list(range(1, 21))
    for boxes in people.values():
        frames = np.array(sorted(boxes))
        assert (np.diff(frames) == 1).all()
        assert frames[0] >= 0
        assert frames[-1] < FRAMES
        left, top, right, bottom = np.stack([boxes[each] for each in frames]).T
        assert (
            (left >= 0) & (left < right) & (right <= WIDTH) & (top >= 0) & (top < bottom) & (bottom <= HEIGHT)
        ).all()


@pytest.mark.parametrize("way", list(ways(FRAMES)))
def test_every_way_has_the_boxes_of_its_frames_in_their_order(way: str) -> None:
    chosen, people = ways(FRAMES)[way], boxes_of()
    truth = truth_of(chosen)
    assert truth.frames == len(chosen) in (795, 398, 397, 265)
    for number in (1, len(chosen) // 2, len(chosen)):
        here = truth.truth.of_frame(number)
        expected = {
            person: boxes[chosen[number - 1]] for person, boxes in people.items() if chosen[number - 1] in boxes
        }
        assert truth.truth.identity[here].tolist() == list(expected)
        xywh = truth.truth.xywh[here]
        np.testing.assert_allclose(np.concatenate([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], 1), [*expected.values()])


def test_the_truth_itself_is_without_fault_and_one_who_goes_on_as_another_is_one() -> None:
    truth = truth_of(range(FRAMES))
    row = truth.score(truth.truth).row()
    assert (row["HOTA"], row["IDF1"], row["Pur"], row["MixTrk"]) == pytest.approx((100, 100, 100, 0))
    mixed = deepcopy(truth.truth)
    late = (mixed.identity == 2) & (mixed.frame > 300)
    mixed.identity[late] = 3
    assert truth.score(mixed).row()["MixTrk"] > 0


WORSE: dict[str, Callable[[dict[str, Any], dict[str, Any]], Any]] = {
    "MOT17val_weak HOTA": lambda trackers, _: _ours(trackers, "MOT17val_weak").update(HOTA=30.0),
    "MOT17val Trk/Id": lambda trackers, _: _ours(trackers, "MOT17val").update({"Trk/Id": 1.36}),
    "tracklets of MOT17val Pur": lambda trackers, _: _ours(trackers, "MOT17val", " tracklets").update(Pur=98.7),
    "crops of MOT17val kept_percent": lambda t, _: t["sets"]["MOT17val"]["gate"].update(kept_percent=59.0),
    "MOT17-02 with a floor IDF1": lambda t, _: t["fixed_camera"]["MOT17-02"]["cautious, estimate_ground"].update(
        IDF1=62.0
    ),
    "vtest ids 45.00": lambda _, vtest: vtest["ways"]["as filmed"]["cautious"].update(ids=45),
    "vtest median_seconds": lambda _, vtest: vtest["ways"]["as filmed"]["cautious"].update(median_seconds=9.4),
    "vtest Pur": lambda _, vtest: vtest["ways"]["as filmed"]["cautious"].update(Pur=96.0),
    "1.90 times as fast as roboflow": lambda t, _: t["speed"]["times_as_long_as_default"][
        "roboflow ByteTrackTracker"
    ].update(MOT17val=1.9),
    "2.90 times as fast as ultralytics BOTSORT": lambda t, _: t["speed"]["times_as_long_as_default"][
        "ultralytics BOTSORT"
    ].update(MOT17val=2.9),
}


def _ours(trackers: dict[str, Any], name: str, kind: str = "") -> dict[str, float]:
    row: dict[str, float] = trackers["sets"][name]["ours"][f"cautious{kind}"]["ALL"]
    return row


@pytest.mark.parametrize("line", WORSE)
def test_whatever_is_not_reached_is_said(line: str) -> None:
    trackers, vtest = read("trackers"), read("vtest_tracks")
    assert line not in not_reached(trackers, vtest)
    WORSE[line](trackers, vtest)
    assert line in not_reached(trackers, vtest)
