"""Our default tracker, on people whose paths are known."""

import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from trackers.boxes import xyxy_to_cxcywh
from trackers.cautious import CautiousSettings, CautiousTracker
from trackers.ground import GroundPlane
from trackers.pairs import DOUBLE, corners, doubles
from trackers.probability import Candidates, Probability
from trackers.structures import Detections, Tracks


def people(*lefts: float, confidence: float | list[float] = 0.9, top: float = 50.0) -> Detections:
    """A person 40 wide and 100 high at each of these places."""
    xyxy = np.array([[left, top, left + 40, top + 100] for left in lefts], np.float32).reshape(-1, 4)
    return Detections(xyxy, np.broadcast_to(np.asarray(confidence, np.float32), len(xyxy)))


def follow(
    tracker: CautiousTracker, frames: list[Detections], *, fps: float = 10.0, start: float = 0.0
) -> list[Tracks]:
    return [tracker.update(each, pts_seconds=start + index / fps) for index, each in enumerate(frames)]


def always(probability: float) -> Probability:
    """Says so of every pair."""

    def judge(candidates: Candidates) -> NDArray[np.float64]:
        return np.full(len(candidates.track), probability)

    return judge


def ids(tracks: list[Tracks]) -> list[list[int]]:
    return [each.track_id.tolist() for each in tracks]


def crowd(seed: int, frames: int = 30, count: int = 8) -> list[Detections]:
    """People walking on random paths, with misses, jitter and false boxes; coordinates are whole quarters."""
    rng = np.random.default_rng(seed)
    place, speed = rng.uniform(0, 600, (count, 2)), rng.uniform(-8, 8, (count, 2))
    result = []
    for _ in range(frames):
        place = place + speed
        seen = place[rng.random(count) < 0.85]
        corner = np.concatenate([seen + rng.normal(0, 1, seen.shape), rng.uniform(0, 600, (rng.integers(0, 2), 2))])
        corner = np.round(corner * 4) / 4
        xyxy = np.concatenate([corner, corner + np.array([40, 100])], axis=1)
        result.append(Detections(xyxy, rng.uniform(0.05, 1, len(xyxy))))
    return result


def same(first: list[Tracks], second: list[Tracks]) -> bool:
    """Whether two runs name the same boxes alike."""
    return all(
        np.array_equal(a.track_id, b.track_id) and np.array_equal(a.tracklet_id, b.tracklet_id)
        for a, b in zip(first, second, strict=True)
    )


def test_people_of_the_first_frame_have_an_id_at_once_and_keep_it() -> None:
    tracks = follow(CautiousTracker(), [people(10 + 3 * t, 300 - 3 * t) for t in range(20)])
    assert ids(tracks) == [[1, 2]] * 20
    assert [each.tracklet_id.tolist() for each in tracks] == [[1, 2]] * 20


def test_the_box_given_out_is_the_detection_bit_by_bit_in_the_detections_order() -> None:
    tracker = CautiousTracker()
    for t in range(10):
        places = (300 - 3.3 * t, 10 + 3.7 * t)
        detections = people(*(places if t % 2 else reversed(places)))
        tracks = tracker.update(detections, pts_seconds=t / 10)
        np.testing.assert_array_equal(tracks.xyxy, detections.xyxy)
        np.testing.assert_array_equal(tracks.confidence, detections.confidence)


def test_a_false_alarm_of_one_frame_never_gets_an_id_and_uses_none_up() -> None:
    frames = [people(10), people(10, 300), people(10), people(10, 500), people(10, 500)]
    assert ids(follow(CautiousTracker(), frames)) == [[1], [1], [1], [1], [1, 2]]


def test_a_weak_box_continues_a_track_but_starts_none_and_revives_none() -> None:
    strong, weak = [0.9, 0.9], [0.9, 0.3]
    frames = [people(10, 300), people(10, 302, confidence=weak), people(10), people(10, 304, confidence=weak)]
    frames += [people(10, 304, confidence=strong)]
    assert ids(follow(CautiousTracker(), frames)) == [[1, 2], [1, 2], [1], [1], [1, 2]]


def test_on_a_weak_camera_the_same_people_are_found_with_half_the_scores() -> None:
    def found(confidence: float, settings: CautiousSettings) -> int:
        frames = [people(10 + 2 * t, 300, 500 - 2 * t, confidence=confidence) for t in range(40)]
        return len(follow(CautiousTracker(settings), frames, fps=10)[-1])

    assert found(0.8, CautiousSettings()) == found(0.4, CautiousSettings()) == 3
    assert found(0.4, CautiousSettings(calibration_strength=0.0)) == 0


@pytest.mark.parametrize("start", [0.0, 0.1, 1_700_000_000.3])
@pytest.mark.parametrize("fps", [5, 10, 30])
def test_the_lost_buffer_is_in_seconds_at_any_frame_rate(fps: int, start: float) -> None:
    def gap(frames_missed: int) -> list[int]:
        frames = [*[people(10)] * max(2, fps // 3), *[people()] * frames_missed, people(10), people(10)]
        tracker = CautiousTracker(CautiousSettings(lost_seconds=1.0))
        return follow(tracker, frames, fps=fps, start=start)[-1].track_id.tolist()

    assert gap(fps - 1) == [1]  # seen again exactly one second later
    assert gap(fps) == [2]


@pytest.mark.parametrize(("lost_seconds", "gap"), [(0.5, 0.4), (1.5, 1.3), (2.0, 1.6), (5.0, 2.3)])
def test_who_waits_longer_finds_again_who_was_away_longer(lost_seconds: float, gap: float) -> None:
    def after(missed: float, waited: float) -> list[int]:
        frames = [people(10)] * 20 + [people()] * round(missed * 10 - 1) + [people(10)] * 2
        return follow(CautiousTracker(CautiousSettings(lost_seconds=waited)), frames)[-1].track_id.tolist()

    assert after(gap, lost_seconds) == [1]
    assert after(gap, lost_seconds / 2) == [2]


def test_a_track_goes_on_after_a_gap_and_its_tracklet_does_not() -> None:
    frames = [people(10)] * 5 + [people()] * 7 + [people(10)] * 3
    tracks = [each for each in follow(CautiousTracker(), frames) if len(each)]
    assert {int(each.track_id[0]) for each in tracks} == {1}
    assert [int(each.tracklet_id[0]) for each in tracks] == [1] * 5 + [2] * 3
    assert tracks[5].risk[0] > 0.3 > tracks[-1].risk[0]


def test_after_a_short_gap_the_tracklet_goes_on_by_day_and_ends_where_the_detector_is_weak() -> None:
    for confidence, pieces in ((0.9, 1), (0.4, 2)):
        frames = [people(10 + 6 * t, confidence=confidence) for t in range(65)]
        frames[60:62] = [people()] * 2
        tracks = [each for each in follow(CautiousTracker(), frames) if len(each)]
        assert len(tracks) > 30
        assert {int(each.track_id[0]) for each in tracks} == {1}
        assert len({int(each.tracklet_id[0]) for each in tracks}) == pieces


def test_where_the_detector_is_weak_an_unsure_box_brings_a_lost_track_back_and_by_day_none() -> None:
    # On the common scale what comes back is 0.48, 0.48 and 0.31; strong are there 0.39, 0.6 and 0.39.
    for usual, back, revived in ((0.4, 0.2, True), (0.9, 0.48, False), (0.4, 0.13, False)):
        frames = [people(10 + 2 * t, confidence=usual) for t in range(64)]
        frames[60:62] = [people()] * 2
        frames[62] = people(10 + 2 * 62, confidence=back)
        assert ids(follow(CautiousTracker(), frames))[59:] == [[1], [], [], [1] if revived else [], [1]]


@pytest.mark.parametrize(("confidence", "probability", "found"), [(0.9, 0.35, 3), (0.4, 0.35, 0), (0.4, 0.42, 3)])
def test_where_confidences_are_lifted_a_match_must_be_likelier(
    confidence: float, probability: float, found: int
) -> None:
    frames = [people(10 + 3 * t, 160 + 3 * t, 310 + 3 * t, confidence=confidence) for t in range(60)]
    assert len(follow(CautiousTracker(probability=always(probability)), frames)[-1]) == found


def test_a_minute_after_dusk_the_camera_is_known_to_be_weak() -> None:
    frames = [people(*((150 * k + 6 * t) % 900 for k in range(3)), confidence=0.9) for t in range(600)]
    frames += [Detections(each.xyxy, each.confidence / 2) for each in frames]
    tracks = follow(CautiousTracker(), frames)
    assert tracks[599].lift == 1.0
    assert np.mean([len(each) for each in tracks[-100:]]) > 2.5


@pytest.mark.parametrize(("shaking", "goes_on"), [(0.0, False), (25.0, True)])
def test_a_leap_is_a_doubt_where_all_stand_still_and_none_where_the_camera_shakes(
    shaking: float, goes_on: bool
) -> None:
    tops = 50 + np.random.default_rng(0).normal(0, shaking, 60)
    tops[-10:], places = 50, range(0, 900, 150)
    tracker = CautiousTracker(CautiousSettings(static_camera=True), probability=always(1.0))
    before = follow(tracker, [people(*places, top=top) for top in tops])[-1]
    leapt = tracker.update(people(*places, top=110), pts_seconds=6.0)
    assert leapt.track_id.tolist() == before.track_id.tolist()
    assert (leapt.tracklet_id.tolist() == before.tracklet_id.tolist()) == goes_on


def test_an_unsure_box_moves_a_track_less_than_a_sure_one() -> None:
    def surprised(confidence: float) -> float:
        aside = people(116, 400, confidence=[confidence, 0.9])
        frames = [*[people(100, 400)] * 30, aside, aside, people(100, 400)]
        return float(follow(CautiousTracker(probability=always(1.0)), frames)[-1].risk[0])

    assert surprised(0.9) > 3 * surprised(0.3) > 0


def test_who_sinks_behind_a_wall_is_expected_as_tall_as_last_seen() -> None:
    def upright(height: float) -> Detections:
        return Detections(np.array([[100, 50, 140, 50 + height]]), np.array([0.9]))

    frames = [*[upright(100)] * 10, *[upright(100 - 8 * t) for t in range(1, 6)], *[people()] * 5, *[upright(60)] * 2]
    assert ids(follow(CautiousTracker(), frames))[-1] == [1]


def test_with_a_floor_a_lost_track_asks_no_more_than_a_living_one() -> None:
    floor = GroundPlane.of_camera(height_metres=4.0, tilt_degrees=20.0, focal_pixels=800.0, centre_xy=(320.0, 240.0))
    frames = [*[people(300, top=250)] * 20, *[people()] * 4, *[people(300, top=250)] * 2]
    for ground, expected in ((floor, [1]), (None, [2])):
        tracker = CautiousTracker(CautiousSettings(ground=ground), probability=always(0.4))
        assert ids(follow(tracker, frames))[-1] == expected


def test_a_lost_track_is_not_given_to_one_of_two_who_both_might_be_it() -> None:
    frames = [people(200)] * 5 + [people()] * 6
    alone, both = frames + [people(204)] * 3, frames + [people(190, 212)] * 3
    assert follow(CautiousTracker(), alone)[-1].track_id.tolist() == [1]
    assert 1 not in follow(CautiousTracker(), both)[-1].track_id


def test_two_who_cross_begin_new_tracklets_when_they_part() -> None:
    frames = [people(100 + 8 * t, 260 - 8 * t, confidence=[0.9, 0.85]) for t in range(21)]
    tracks = follow(CautiousTracker(), frames)
    before, after = set(tracks[3].tracklet_id.tolist()), set(tracks[-1].tracklet_id.tolist())
    assert not before & after
    assert max(float(each.risk.max()) for each in tracks[8:13]) > 0.5 > float(tracks[3].risk.max())


def test_when_the_camera_turns_all_ids_stay_and_a_fixed_one_need_not_look() -> None:
    rng = np.random.default_rng(0)
    places = np.arange(6) * 160.0
    turn = np.where(np.arange(30) >= 12, 45.0, 0.0)  # more than a width at once
    frames = [people(*(places + shift + rng.normal(0, 0.5, 6)), top=50 + shift / 10) for shift in turn]
    assert follow(CautiousTracker(), frames)[-1].track_id.tolist() == [1, 2, 3, 4, 5, 6]
    fixed = follow(CautiousTracker(CautiousSettings(static_camera=True)), frames)[-1].track_id.tolist()
    assert fixed != [1, 2, 3, 4, 5, 6]


def test_weak_ghosts_of_the_last_picture_do_not_hide_that_the_camera_turned() -> None:
    rng, places = np.random.default_rng(0), np.arange(6) * 160.0
    frames = [people(*(places + (45 if t >= 12 else 0) + rng.normal(0, 0.5, 6))) for t in range(20)]
    ghosts = people(*places, confidence=0.3)
    frames[12] = Detections(
        np.concatenate([frames[12].xyxy, ghosts.xyxy]), np.concatenate([frames[12].confidence, ghosts.confidence])
    )
    tracks = follow(CautiousTracker(), frames)
    assert tracks[12].confidence.tolist() == frames[0].confidence.tolist()  # the people's
    assert ids(tracks) == [[1, 2, 3, 4, 5, 6]] * 20


def test_who_overlaps_a_living_track_by_just_new_overlap_starts_none() -> None:
    half = Detections(np.array([[100, 50, 140, 150], [100, 50, 120, 150]]), np.array([0.9, 0.8]))
    for limit, count in ((0.5, 1), (0.51, 2)):
        tracker = CautiousTracker(CautiousSettings(new_overlap=limit), probability=always(1.0))
        assert len(follow(tracker, [people(100), half, half, half])[-1]) == count


def test_no_track_is_born_on_top_of_a_living_one() -> None:
    frames = [people(100), *[people(100, 108)] * 5]
    assert all(len(each) == 1 for each in follow(CautiousTracker(), frames))
    assert len(follow(CautiousTracker(CautiousSettings(new_overlap=1.0)), frames)[-1]) == 2


@pytest.mark.parametrize("first_frame", [True, False])
def test_of_two_boxes_of_one_person_only_the_surer_starts_a_track(first_frame: bool) -> None:
    frames = [*([] if first_frame else [people()]), *[people(104, 100, confidence=[0.85, 0.9])] * 5]
    tracks = follow(CautiousTracker(), frames)[-1]
    assert tracks.track_id.tolist() == [1]
    assert tracks.xyxy[0, 0] == 100
    both = follow(CautiousTracker(CautiousSettings(new_overlap=1.0)), frames)[-1]
    assert sorted(both.track_id.tolist()) == [1, 2]


@pytest.mark.parametrize("clutter", [0.12, 0.26, 0.3, 0.5])
@pytest.mark.parametrize("passer_by", [0.9, 0.5, None])
def test_an_empty_night_after_somebody_passed_gives_nothing(clutter: float, passer_by: float | None) -> None:
    tracker, rng, given, seen = CautiousTracker(), np.random.default_rng(0), 0, 0
    for t in range(1800):
        someone = passer_by is not None and 100 <= t < 200
        bush = people(*[500.0][: int(rng.random() < 0.8)], confidence=clutter, top=250)
        boxes = [bush.xyxy + rng.normal(0, 1, (len(bush), 4)), people(*[20.0 + 4 * (t - 100)][: int(someone)]).xyxy]
        scores = np.concatenate([bush.confidence, np.full(int(someone), passer_by or 0)])
        tracks = tracker.update(Detections(np.concatenate(boxes), scores), pts_seconds=t / 10)
        given += len(tracks) if t >= 200 else 0
        seen += int(any(tracks.xyxy[:, 1] < 100))
    assert given == 0
    assert seen > 50 or passer_by is None


@pytest.mark.parametrize("fps", [0.2, 0.5, 1.0, 2.0, 4.0])
def test_who_stands_or_strolls_is_followed_at_any_frame_rate(fps: float) -> None:
    for pace in (0.0, 10.0):  # pixels a second, of a person of 100
        frames = [people(*np.array([10.0, 300.0]) + min(pace / fps, 12.0) * t) for t in range(12)]
        followed = ids(follow(CautiousTracker(), frames, fps=fps))[2:]
        assert followed == [followed[0]] * 10
        assert len(followed[0]) == 2


def test_where_frames_come_more_seldom_than_lost_seconds_a_track_waits_for_the_next() -> None:
    frames = [people(10 + t) for t in range(20)]
    assert ids(follow(CautiousTracker(), frames, fps=0.6)[3:]) == [[2]] * 17
    gone = [*frames[:10], people(), *frames[11:]]
    assert follow(CautiousTracker(), gone, fps=0.6)[-1].track_id.tolist() != [2]


def test_a_coin_toss_is_given_to_nobody_or_begins_a_doubtful_tracklet() -> None:
    for confidence in (0.9, 0.4, 0.3):
        tracker = CautiousTracker()
        before = follow(tracker, [people(100, 118, confidence=[0.9, 0.89])] * 10)[-1]
        tossed = tracker.update(people(109, confidence=confidence), pts_seconds=1.0)
        assert len(before) == 2
        assert len(tossed) == (confidence == 0.9)  # weak boxes must be the likelier
        assert not set(tossed.tracklet_id.tolist()) & set(before.tracklet_id.tolist()), confidence
        assert (tossed.risk > 0.5).all(), confidence


def test_embeddings_decide_between_two_who_stand_alike() -> None:
    red, blue = np.array([1.0, 0.0]), np.array([0.0, 1.0])
    for looks in ([red, blue], [blue, red]):
        tracker = CautiousTracker(CautiousSettings(appearance_weight=1.0))
        for t in range(6):
            tracker.update(people(100, 116), pts_seconds=t / 10, embeddings=np.stack([red, blue]))
        crossed = tracker.update(people(107, 109), pts_seconds=0.6, embeddings=np.stack(looks))
        assert crossed.track_id.tolist() == ([1, 2] if looks[0] is red else [2, 1])


def test_who_looks_the_opposite_is_somebody_else_even_without_a_rival() -> None:
    for weight, expected in ((1.0, []), (0.0, [1])):
        tracker = CautiousTracker(CautiousSettings(appearance_weight=weight))
        for t in range(6):
            tracker.update(people(100), pts_seconds=t / 10, embeddings=np.array([[1.0, 0.0]]))
        stranger = tracker.update(people(100), pts_seconds=0.6, embeddings=np.array([[-1.0, 0.0]]))
        assert stranger.track_id.tolist() == expected


def test_embeddings_that_do_not_fit_are_refused_and_unknown_ones_say_nothing() -> None:
    tracker = CautiousTracker()
    with pytest.raises(ValueError, match=r"embeddings must be \(1, d\), one a box, got \(2, 3\)"):
        tracker.update(people(10), pts_seconds=0.0, embeddings=np.ones((2, 3)))
    plain, unknown = CautiousTracker(), CautiousTracker()
    for t, frame in enumerate(crowd(3)):
        a = plain.update(frame, pts_seconds=t / 10)
        b = unknown.update(frame, pts_seconds=t / 10, embeddings=np.full((len(frame), 4), np.nan))
        np.testing.assert_array_equal(a.track_id, b.track_id)
    with pytest.raises(ValueError, match=r"embeddings must be \(n, 4\) as before"):
        unknown.update(people(10), pts_seconds=99.0, embeddings=np.ones((1, 5)))


@pytest.mark.parametrize("row", [[np.inf, 1.0], [np.nan, -np.inf]])
def test_an_infinite_embedding_is_refused_and_the_tracker_is_as_it_was(row: list[float]) -> None:
    tracker = CautiousTracker()
    for t in range(3):
        tracker.update(people(10, 300), pts_seconds=t / 10, embeddings=np.eye(2))
    before = pickle.dumps(tracker)
    with pytest.raises(ValueError, match="embeddings must be finite, or NaN where unknown, got infinity in row 1"):
        tracker.update(people(12, 302), pts_seconds=0.3, embeddings=np.array([[1.0, 0.0], row]))
    assert pickle.dumps(tracker) == before


def doubled_walk(
    fps: int, *, copies: int = 2, confidence: float = 0.9, jitter: float = 0.75, unseen: tuple[float, float] = (0, 0)
) -> list[Detections]:
    """10 s of somebody who walks and is found so many times, but not between these seconds."""
    rng, frames = np.random.default_rng(0), []
    for t in range(10 * fps):
        left = 100 + 60 * t / fps
        xyxy = np.array([left, 100, left + 60, 260]) + rng.normal(0, jitter, (2, 4))
        seen = 0 if unseen[0] <= t / fps < unseen[1] else copies
        frames.append(Detections(xyxy[:seen], np.full(seen, confidence)))
    return frames


@pytest.mark.parametrize("fps", [10, 25])
@pytest.mark.parametrize("jitter", [0.0, 0.75])
def test_who_is_found_twice_in_every_frame_is_one_person_whom_nothing_puts_in_doubt(fps: int, jitter: float) -> None:
    tracks = follow(CautiousTracker(), doubled_walk(fps, jitter=jitter), fps=fps)
    assert [(each.track_id.tolist(), each.tracklet_id.tolist()) for each in tracks] == [([1], [1])] * 10 * fps
    assert max(float(each.risk.max()) for each in tracks) < 0.1
    found_again = follow(CautiousTracker(), doubled_walk(fps, jitter=jitter, unseen=(5.0, 5.3)), fps=fps)
    assert {int(i) for each in found_again for i in each.track_id} == {1}


@pytest.mark.parametrize("fps", [10, 25])
def test_a_weak_detector_that_finds_a_walker_twice_has_learnt_as_soon_that_somebody_walks(fps: int) -> None:
    once, twice = (
        follow(CautiousTracker(), doubled_walk(fps, copies=copies, confidence=0.5), fps=fps) for copies in (1, 2)
    )
    assert [len(each) for each in twice] == [len(each) for each in once]
    assert {int(i) for each in twice for i in each.tracklet_id} == {1}


def test_who_stands_beside_a_double_keeps_her_own_embedding() -> None:
    tracker = CautiousTracker(CautiousSettings(appearance_weight=1.0))
    red, blue = [1.0, 0.0], [-1.0, 0.0]
    for t in range(5):
        tracker.update(people(100, 300), pts_seconds=t / 10, embeddings=np.array([red, blue]))
    doubled = people(100, 101, 300, confidence=[0.9, 0.9, 0.8])
    assert tracker.update(doubled, pts_seconds=0.5, embeddings=np.array([red, red, blue])).track_id.tolist() == [1, 2]


@settings(max_examples=6, deadline=None)
@given(st.integers(0, 1000))
def test_the_order_of_equally_sure_doubles_does_not_matter(seed: int) -> None:
    rng, (first, second) = np.random.default_rng(seed), (CautiousTracker(), CautiousTracker())
    for t, frame in enumerate(crowd(seed)):
        shifts = np.round(rng.uniform(-1, 1, (3, 1, 4)) * 4) / 4 * (rng.random((3, 1, 1)) < 0.7)
        xyxy = (frame.xyxy + shifts).reshape(-1, 4)
        mixed = rng.permutation(len(xyxy))
        a, b = (
            tracker.update(Detections(boxes, np.full(len(boxes), 0.9)), pts_seconds=t / 10)
            for tracker, boxes in ((first, xyxy), (second, xyxy[mixed]))
        )
        assert len(doubles(DOUBLE, corners(xyxy_to_cxcywh(xyxy.astype(np.float64)).T)))
        named = [
            sorted(zip(each.xyxy.tolist(), each.track_id.tolist(), each.tracklet_id.tolist(), strict=True))
            for each in (a, b)
        ]
        assert named[0] == named[1]


def test_time_that_does_not_increase_is_refused() -> None:
    tracker = CautiousTracker()
    tracker.update(people(10), pts_seconds=1.0)
    with pytest.raises(ValueError, match=r"greater than at the last call, 1.0, got 1.0"):
        tracker.update(people(10), pts_seconds=1.0)
    with pytest.raises(ValueError, match="finite"):
        tracker.update(people(10), pts_seconds=float("nan"))


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"match_probability": -0.1}, r"match_probability must be in \[0, 1\]"),
        ({"high_confidence": 0.05}, "low_confidence <= high_confidence"),
        ({"lost_seconds": 0.0}, "lost_seconds must be a positive number"),
        ({"calibration_strength": float("inf")}, "calibration_strength must be a number"),
        ({"reference_confidence": 0.0}, "reference_confidence must be above 0"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(setting: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CautiousSettings(**setting)


@settings(max_examples=6, deadline=None)
@given(st.integers(0, 1000))
def test_no_id_is_given_twice_in_a_frame_and_a_tracklet_belongs_to_one_track(seed: int) -> None:
    owner: dict[int, int] = {}
    for tracks in follow(CautiousTracker(), crowd(seed)):
        assert len(set(tracks.track_id.tolist())) == len(set(tracks.tracklet_id.tolist())) == len(tracks)
        for track, tracklet in zip(tracks.track_id.tolist(), tracks.tracklet_id.tolist(), strict=True):
            assert owner.setdefault(tracklet, track) == track


@settings(max_examples=6, deadline=None)
@given(st.integers(0, 1000))
def test_the_order_of_the_boxes_does_not_matter(seed: int) -> None:
    frames, rng = crowd(seed), np.random.default_rng(seed)
    first, second = CautiousTracker(), CautiousTracker()
    for t, frame in enumerate(frames):
        order = rng.permutation(len(frame))
        mixed = Detections(frame.xyxy[order], frame.confidence[order])
        a, b = first.update(frame, pts_seconds=t / 10), second.update(mixed, pts_seconds=t / 10)
        named = {tuple(box): (i, j) for box, i, j in zip(b.xyxy.tolist(), b.track_id, b.tracklet_id, strict=True)}
        assert named == {
            tuple(box): (i, j) for box, i, j in zip(a.xyxy.tolist(), a.track_id, a.tracklet_id, strict=True)
        }


@settings(max_examples=5, deadline=None)
@given(st.integers(0, 1000), st.sampled_from([0.25, 0.5, 2.0, 4.0]), st.sampled_from([-512.0, 0.0, 1024.0]))
def test_translating_and_scaling_the_scene_changes_nothing(seed: int, factor: float, offset: float) -> None:
    frames = crowd(seed)
    moved = [Detections(each.xyxy * factor + offset, each.confidence) for each in frames]
    assert same(follow(CautiousTracker(), frames), follow(CautiousTracker(), moved))


@settings(max_examples=5, deadline=None)
@given(st.integers(0, 1000), st.sampled_from([-1000.0, 3600.0, 2.0**30]))
def test_when_the_clock_starts_changes_nothing(seed: int, start: float) -> None:
    frames = crowd(seed)
    assert same(follow(CautiousTracker(), frames, fps=8), follow(CautiousTracker(), frames, fps=8, start=start))


@settings(max_examples=5, deadline=None)
@given(st.integers(0, 1000), st.integers(1, 29))
def test_a_pickled_tracker_goes_on_as_if_nothing_had_been(seed: int, at: int) -> None:
    frames = crowd(seed)
    whole, part = CautiousTracker(), CautiousTracker()
    expected = follow(whole, frames)
    follow(part, frames[:at])
    resumed = pickle.loads(pickle.dumps(part))  # noqa: S301
    rest = [resumed.update(each, pts_seconds=(at + k) / 10) for k, each in enumerate(frames[at:])]
    assert same(expected[at:], rest)


def test_who_was_not_born_keeps_nobody_from_being_born() -> None:
    three = people(300, 10, 22, 34, confidence=[0.9, 0.95, 0.9, 0.85])  # the second overlaps both of its neighbours
    assert ids(follow(CautiousTracker(), [people(300), three, three])) == [[1], [1], [1, 2, 3]]
    assert len(follow(CautiousTracker(), [three])[0]) == 3


def test_after_a_reset_nothing_is_known_of_the_stream_any_more() -> None:
    turning = [people(*(x + 8 * t for x in range(100, 900, 90))) for t in range(40)]
    walking = [people(*(x + 8 * t for x in range(100, 460, 90)), confidence=0.7) for t in range(20)]
    fresh, used = CautiousTracker(), CautiousTracker()
    follow(used, turning)
    used.reset()
    first, again = follow(fresh, walking), follow(used, walking)
    assert [each.risk.tolist() for each in again] == [each.risk.tolist() for each in first]
    assert [len(each) for each in again] == [4] * 20


def test_after_a_reset_no_id_comes_again_and_time_may_begin_anew() -> None:
    tracker = CautiousTracker()
    follow(tracker, [people(10, 300)] * 3)
    tracker.reset()
    tracks = follow(tracker, [people(10, 300)] * 3)
    assert ids(tracks) == [[3, 4]] * 3
    assert tracks[0].tracklet_id.tolist() == [3, 4]


@pytest.mark.parametrize("count", [0, 1, 1000])
def test_none_one_and_a_thousand_boxes(count: int) -> None:
    rng = np.random.default_rng(0)
    corner = np.stack([np.arange(count) % 40 * 100.0, np.arange(count) // 40 * 200.0], axis=1).reshape(-1, 2)
    tracker, expected = CautiousTracker(), np.empty(0, np.int64)
    for t in range(3):
        place = corner + rng.normal(0, 1, corner.shape)
        xyxy = np.concatenate([place, place + np.array([40, 100])], axis=1)
        tracks = tracker.update(Detections(xyxy, np.full(count, 0.9)), pts_seconds=t / 10)
        expected = expected if t else tracks.track_id
        np.testing.assert_array_equal(tracks.track_id, expected)
    assert sorted(tracks.track_id.tolist()) == list(range(1, count + 1))


def test_a_day_of_passers_by_leaves_as_little_as_a_minute() -> None:
    tracker, size = CautiousTracker(), {}
    for step in range(2000):
        t = step * 86_400 / 2000
        tracker.update(people(step % 50 * 9, 700 - step % 50 * 9), pts_seconds=t)
        tracker.update(people(step % 50 * 9 + 1, 701 - step % 50 * 9), pts_seconds=t + 0.1)
        size[step] = len(pickle.dumps(tracker))
    assert size[1999] <= size[49] + 64
    assert len(tracker) <= 4
