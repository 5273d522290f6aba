"""What holds for every tracker that has a name."""

import json
import pickle
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.trackers.scenes import crowd, people, run
from trackers.algorithms import DEFAULT, TRACKERS
from trackers.base import Tracker
from trackers.cautious import CautiousSettings, CautiousTracker
from trackers.evaluate import ALL, load_truth, score_folder
from trackers.mot import write_results
from trackers.run import load, track_rows
from trackers.structures import Detections

NAMES = sorted(TRACKERS)
every_tracker = pytest.mark.parametrize("name", NAMES)
few = settings(max_examples=10, deadline=None, derandomize=True)
Paths = dict[tuple[int, int], list[tuple[float, ...]]]


def build(name: str) -> Tracker:
    return TRACKERS[name].build()


def paths(name: str, frames: list[Detections], *, start: float = 0.0) -> Paths:
    """Boxes of each pair of track and tracklet, with the number of their frame."""
    tracker = build(name)
    result: Paths = {}
    for index, each in enumerate(frames):
        tracks = tracker.update(each, pts_seconds=start + index / 10)
        for box, *ids in zip(tracks.xyxy, tracks.track_id, tracks.tracklet_id, strict=True):
            result.setdefault((int(ids[0]), int(ids[1])), []).append((index, *box.tolist()))
    return result


def on_grid(frames: list[Detections]) -> list[Detections]:
    """Corners in whole sixteenths of a pixel, so that float32 moves and scales them exactly."""
    return [Detections(np.round(each.xyxy * 16) / 16, each.confidence) for each in frames]


def test_the_default_is_one_of_them_and_every_setting_has_a_default() -> None:
    assert DEFAULT in TRACKERS
    for algorithm in TRACKERS.values():
        assert algorithm.settings() == algorithm.settings(
            **{field.name: getattr(algorithm.settings(), field.name) for field in fields(algorithm.settings)}
        )


@every_tracker
@few
@given(seed=st.integers(0, 10_000))
def test_no_id_is_given_to_two_boxes_of_a_frame_and_every_box_is_a_detection(name: str, seed: int) -> None:
    tracker = build(name)
    found = 0
    for index, each in enumerate(crowd(seed, count=10)):
        tracks = tracker.update(each, pts_seconds=index / 10)
        for ids in (tracks.track_id, tracks.tracklet_id):
            assert len(set(ids.tolist())) == len(ids)
            assert (ids > 0).all()
        boxes = {(*box.tolist(), float(score)) for box, score in zip(each.xyxy, each.confidence, strict=True)}
        assert {(*box.tolist(), float(s)) for box, s in zip(tracks.xyxy, tracks.confidence, strict=True)} <= boxes
        found += len(tracks)
    assert found  # so that the test is of something


@every_tracker
@few
@given(seed=st.integers(0, 10_000))
def test_a_tracklet_belongs_to_one_track_only(name: str, seed: int) -> None:
    pairs = paths(name, crowd(seed, frames=60))
    assert len({tracklet for _, tracklet in pairs}) == len(pairs)


@every_tracker
@few
@given(seed=st.integers(0, 10_000), random=st.randoms(use_true_random=False))
def test_the_order_of_detections_changes_no_track(name: str, seed: int, random) -> None:
    frames, shuffled = crowd(seed), []
    for each in frames:
        order = list(range(len(each)))
        random.shuffle(order)
        shuffled.append(Detections(each.xyxy[order], each.confidence[order]))
    # Ids of people who appear together are given in the detections' order, so only the paths are compared.
    assert sorted(paths(name, frames).values()) == sorted(paths(name, shuffled).values())


@every_tracker
@few
@given(
    seed=st.integers(0, 10_000),
    scale=st.sampled_from([0.5, 2.0, 4.0]),
    shift=st.sampled_from([0.0, 64.0, -512.0]),
)
def test_moving_and_scaling_the_scene_changes_no_id(name: str, seed: int, scale: float, shift: float) -> None:
    frames = on_grid(crowd(seed))
    moved = [Detections(each.xyxy * scale + shift, each.confidence) for each in frames]
    assert run(build(name), frames) == run(build(name), moved)


@every_tracker
@few
@given(seed=st.integers(0, 10_000), start=st.sampled_from([5.0, 1_000.0, 1_700_000_000.0]))
def test_when_the_clock_started_changes_no_id(name: str, seed: int, start: float) -> None:
    assert paths(name, crowd(seed)) == paths(name, crowd(seed), start=start)


def lanes(times: np.ndarray, seed: int) -> list[Detections]:
    """People on lanes of their own, walking up to a height a second, as they are at these times."""
    rng = np.random.default_rng(seed)
    start, speed = rng.uniform(0, 300, 4), rng.uniform(-100, 100, 4)
    top = np.arange(4) * 150.0
    frames = []
    for time in times:
        left = start + speed * time
        frames.append(Detections(np.stack([left, top, left + 40, top + 100], axis=1), np.full(4, 0.9)))
    return frames


@every_tracker
@few
@given(seed=st.integers(0, 10_000), stretch=st.sampled_from([0.5, 1.0, 2.0]), start=st.sampled_from([0.0, 3600.0]))
def test_how_often_how_regularly_and_how_fast_time_goes_changes_no_id(
    name: str, seed: int, stretch: float, start: float
) -> None:
    """Rates are per second: time stretched is people who walk slower or faster, and those are followed as well."""
    times = np.cumsum(np.random.default_rng(seed).uniform(1 / 30, 1 / 6, 30))
    tracker = build(name)
    seen = [
        tracker.update(frame, pts_seconds=start + stretch * float(time)).track_id.tolist()
        for frame, time in zip(lanes(times, seed), times, strict=True)
    ]
    assert sorted(seen[0]) == [1, 2, 3, 4]
    assert seen == seen[:1] * 30


def file_of_people(times: np.ndarray) -> list[Detections]:
    """Three people one behind the other, a width and a half apart, who walk a height a second."""
    return [people(*(100 * time + 60 * np.arange(3))) for time in times]


@every_tracker
@pytest.mark.parametrize("stretch", [0.5, 1.0, 2.0])
def test_where_people_walk_into_each_others_places_between_frames_it_is_the_clock_that_tells_them_apart(
    name: str, stretch: float
) -> None:
    gaps = np.random.default_rng(0).uniform(0.35, 0.48, 8)
    times = np.cumsum(
        np.concatenate([np.full(30, 1 / 30), np.stack([gaps, *[np.full(8, 1 / 30)] * 3], axis=1).ravel()])
    )

    def ids(clock: np.ndarray) -> list[list[int]]:
        tracker = build(name)
        return [
            tracker.update(frame, pts_seconds=float(now)).track_id.tolist()
            for frame, now in zip(file_of_people(times), clock, strict=True)
        ]

    right = ids(stretch * times)
    assert all(each == [1, 2, 3] for each in right[5:]), right
    assert not all(each == [1, 2, 3] for each in ids(np.arange(len(times)) / 30)[5:])


@every_tracker
@few
@given(seed=st.integers(0, 10_000), fps=st.sampled_from([6, 12, 30]))
def test_a_gap_of_so_many_seconds_is_bridged_or_not_at_any_frame_rate(name: str, seed: int, fps: int) -> None:
    def after(gap: float) -> list[int]:
        tracker, ids = TRACKERS[name].build(lost_seconds=1.0), []
        times = np.concatenate([np.arange(fps), np.arange(fps) + (gap - 1 / fps) * fps + fps]) / fps
        still = lanes(np.zeros(len(times)), seed)
        for frame, time in zip(still, times, strict=True):
            ids = tracker.update(frame, pts_seconds=float(time)).track_id.tolist()
        return sorted(ids)

    assert after(0.9) == [1, 2, 3, 4]
    assert after(1.1 + 1 / fps) == [5, 6, 7, 8]


@every_tracker
def test_no_boxes_at_any_time_are_frames_like_any_other(name: str) -> None:
    tracker = build(name)
    for index, each in enumerate([Detections.empty()] * 3 + [people(10)] * 8 + [Detections.empty()] * 3):
        tracks = tracker.update(each, pts_seconds=index / 10)
        assert tracks.xyxy.shape == (len(tracks), 4)
        assert len(tracks) <= len(each)


@every_tracker
def test_one_person_has_one_id(name: str) -> None:
    ids = {each for frame in run(build(name), [people(10 + 3 * t) for t in range(30)]) for each in frame}
    assert ids == {1}


@every_tracker
def test_a_thousand_people_have_a_thousand_ids_that_they_keep(name: str) -> None:
    places = np.random.default_rng(0).permutation(1000) * 60.0
    ids = run(build(name), [people(*(places + 2 * t)) for t in range(6)])
    assert sorted(ids[-1]) == list(range(1, 1001))
    assert ids[-1] == ids[-2]


@every_tracker
def test_a_hundred_boxes_in_one_place_are_no_trouble(name: str) -> None:
    tracker = build(name)
    for index in range(5):
        tracks = tracker.update(people(*[10.0] * 100), pts_seconds=index / 10)
        assert len(set(tracks.track_id.tolist())) == len(tracks)


@every_tracker
def test_ids_go_on_after_reset_where_they_stopped_and_time_may_start_again(name: str) -> None:
    tracker = build(name)
    before = {each for frame in run(tracker, crowd(1)) for each in frame}
    tracker.reset()
    after = {each for frame in run(tracker, crowd(1)) for each in frame}
    assert before
    assert len(after) == len(before)
    assert min(after) > max(before)


@every_tracker
def test_instances_share_nothing_and_the_same_scene_gives_the_same_tracks(name: str) -> None:
    first, second = build(name), build(name)
    interleaved = [
        (first.update(each, pts_seconds=k / 10).track_id.tolist(), second.update(each, pts_seconds=k / 10))
        for k, each in enumerate(crowd(2))
    ]
    assert [ids for ids, _ in interleaved] == [tracks.track_id.tolist() for _, tracks in interleaved]


@every_tracker
def test_a_restored_tracker_goes_on_as_the_one_it_was_saved_from(name: str) -> None:
    frames = crowd(3, frames=60)
    saved = build(name)
    expected = run(build(name), frames)
    begun = run(saved, frames[:30])
    restored = pickle.loads(pickle.dumps(saved))  # noqa: S301 - our own bytes
    assert begun + run(restored, frames[30:], start=3.0) == expected


@every_tracker
def test_an_error_changes_nothing(name: str) -> None:
    tracker = build(name)
    run(tracker, [people(10, 300)] * 3)
    before = pickle.dumps(tracker)
    for wrong in (0.2, 0.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="pts_seconds must be"):
            tracker.update(people(10), pts_seconds=wrong)
    assert pickle.dumps(tracker) == before


@every_tracker
def test_a_detection_is_never_written_into(name: str) -> None:
    tracker, frames = build(name), crowd(4)
    copies = [(each.xyxy.copy(), each.confidence.copy()) for each in frames]
    run(tracker, frames)
    for each, (xyxy, confidence) in zip(frames, copies, strict=True):
        np.testing.assert_array_equal(each.xyxy, xyxy)
        np.testing.assert_array_equal(each.confidence, confidence)


@every_tracker
def test_a_day_of_passers_by_leaves_no_more_behind_than_its_first_hour(name: str) -> None:
    """A minute of every hour: people walk through, and nobody is there for the rest of it."""
    tracker, size, highest = build(name), [], 0
    for hour in range(24):
        for t in range(120):
            places = [(60 * k + 7 * t) % 1900 for k in range(5)]
            now = hour * 3600.0 + t / 2
            tracks = tracker.update(people(*(p for p in places if p > 60)), pts_seconds=now)
            highest = max([highest, *tracks.track_id.tolist()])
        size.append(len(pickle.dumps(tracker)))
    assert highest >= 24 * 5  # an hour later everybody is somebody new
    assert max(size[1:]) <= 1.1 * size[0]


@pytest.mark.parametrize("estimate_ground", [False, True])
def test_a_day_with_embeddings_and_a_floor_leaves_no_more_behind_than_its_morning(estimate_ground: bool) -> None:
    tracker, size, rng = (
        CautiousTracker(CautiousSettings(estimate_ground=estimate_ground)),
        [],
        np.random.default_rng(0),
    )
    tall = np.array([60.0, 80.0, 100.0, 120.0])
    for hour in range(24):
        for t in range(60):
            left, top = 100 + 8 * t + 200 * np.arange(4), 3 * tall
            boxes = np.stack([left, top, left + 0.4 * tall, top + tall], axis=1)
            looks = rng.normal(size=(4, 32))
            tracker.update(Detections(boxes, np.full(4, 0.9)), pts_seconds=hour * 3600 + t / 5, embeddings=looks)
        size.append(len(pickle.dumps(tracker)))
    assert (tracker._floor is not None) is estimate_ground
    assert max(size[12:]) <= 1.1 * max(size[:12])
    assert max(size) < 64_000


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("name", "peer"), [("sort", "sort-ref-age30"), ("ocsort", "ocsort-ref"), ("botsort", "ultra-botsort-mot")]
)
def test_a_published_tracker_scores_where_its_peers_of_that_name_do(
    shared_data: Path, tmp_path: Path, name: str, peer: str
) -> None:
    data = shared_data / "mot"
    peers = json.loads((data / "peers.json").read_text())
    truth = load_truth(data, ["MOT17val"])
    for each in truth:
        write_results(tmp_path / f"{each.name}.txt", track_rows(load(data / each.name), build(name)))
    row = score_folder(truth, tmp_path)["MOT17val"][ALL]
    for column in ("HOTA", "IDF1", "MOTA"):
        assert row[column] == pytest.approx(peers["MOT17val"][peer]["ALL"][column], abs=1.0), column
