"""Tracklets end when they should, keep the views worth embedding, and lose nothing without a reason."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.frame import Frame, Image, TimeSource
from pipeline.tracklets import (
    Counterpart,
    Crop,
    RejectedTracklet,
    Rejection,
    Tracklet,
    TrackletBuilder,
    TrackletRules,
    cut_out,
    thin_out,
    view_quality,
)
from reid.modality import Modality
from trackers.structures import Tracks

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)
PERSON = (100.0, 80.0, 150.0, 220.0)


def frame_at(index: int, *, fps: float = 10.0, image: NDArray[np.uint8] | None = None) -> Frame:
    if image is None:
        image = np.full((240, 320, 3), index % 256, np.uint8)
    pts = index / fps
    return Frame(image, "gate", Modality.RGB, index, pts, NOON + timedelta(seconds=pts), TimeSource.CONFIGURED_START)


def tracks_of(*rows: tuple[int, tuple[float, float, float, float]]) -> Tracks:
    if not rows:
        return Tracks.empty()
    return Tracks(
        np.array([box for _, box in rows], np.float32), np.full(len(rows), 0.9), np.array([i for i, _ in rows])
    )


def run(builder: TrackletBuilder, indices: list[int], tracks: Tracks) -> list[Tracklet | RejectedTracklet]:
    return [made for index in indices for made in builder.update(frame_at(index), tracks)]


def test_a_track_becomes_one_tracklet_at_the_end_of_the_stream() -> None:
    builder = TrackletBuilder(TrackletRules())
    assert run(builder, list(range(10)), tracks_of((7, PERSON))) == []
    (tracklet,) = builder.flush()
    assert isinstance(tracklet, Tracklet)
    assert tracklet.track_id == 7
    assert tracklet.frame_index.tolist() == list(range(10))
    assert (tracklet.start, tracklet.end) == (NOON, NOON + timedelta(seconds=0.9))
    assert tracklet.duration_seconds == pytest.approx(0.9)
    assert tracklet.tracklet_id.startswith("gate-")
    assert list(builder.flush()) == []


def test_a_track_not_seen_for_the_gap_is_closed_and_one_seen_before_it_is_not() -> None:
    builder = TrackletBuilder(TrackletRules(max_gap_seconds=1.0))
    run(builder, list(range(10)), tracks_of((1, PERSON)))
    assert run(builder, [19], tracks_of()) == []
    (closed,) = run(builder, [20], tracks_of())
    assert isinstance(closed, Tracklet)


def test_a_camera_that_changes_its_resolution_ends_what_was_gathered_in_the_old_one() -> None:
    builder = TrackletBuilder(TrackletRules())
    run(builder, list(range(10)), tracks_of((1, PERSON)))
    small = [frame_at(index, image=np.zeros((120, 160, 3), np.uint8)) for index in range(10, 20)]
    box = (50.0, 40.0, 75.0, 110.0)
    pieces = [made for frame in small for made in builder.update(frame, tracks_of((1, box)))] + list(builder.flush())
    assert all(isinstance(piece, Tracklet) for piece in pieces)
    assert [(each.resolution_wh, each.frame_index[0]) for each in pieces if isinstance(each, Tracklet)] == [
        ((320, 240), 0),
        ((160, 120), 10),
    ]


def test_someone_who_stays_is_cut_into_pieces_of_the_longest_duration_without_losing_a_box() -> None:
    builder = TrackletBuilder(TrackletRules(max_seconds=3.0))
    pieces = run(builder, list(range(100)), tracks_of((1, PERSON))) + list(builder.flush())
    assert all(isinstance(piece, Tracklet) and piece.duration_seconds <= 3.0 for piece in pieces)
    indices = np.concatenate([piece.frame_index for piece in pieces if isinstance(piece, Tracklet)])
    assert indices.tolist() == list(range(100))
    assert len({piece.tracklet_id for piece in pieces if isinstance(piece, Tracklet)}) == len(pieces)


@pytest.mark.parametrize(
    ("frames", "box", "reason"),
    [
        (3, PERSON, Rejection.TOO_FEW_FRAMES),
        (20, (100.0, 80.0, 110.0, 110.0), Rejection.TOO_SMALL),
        (20, (20.0, 80.0, 300.0, 220.0), Rejection.NO_USABLE_CROP),
    ],
)
def test_an_unusable_tracklet_is_kept_with_its_reason(
    frames: int, box: tuple[float, float, float, float], reason: Rejection
) -> None:
    builder = TrackletBuilder(TrackletRules())
    run(builder, list(range(frames)), tracks_of((1, box)))
    (rejected,) = builder.flush()
    assert isinstance(rejected, RejectedTracklet)
    assert rejected.reason is reason
    assert len(rejected.tracklet.frame_index) == frames


def test_views_are_few_in_order_and_spread_over_the_whole_life() -> None:
    builder = TrackletBuilder(TrackletRules(max_crops=8, max_seconds=60))
    run(builder, list(range(300)), tracks_of((1, PERSON)))
    (tracklet,) = builder.flush()
    assert isinstance(tracklet, Tracklet)
    at = [crop.frame_index for crop in tracklet.crops]
    assert at == sorted(at)
    assert len(at) <= 8
    assert min(at) < 75
    assert max(at) > 225
    assert max(np.diff(at)) < 150


def test_an_open_tracklet_holds_at_most_twice_the_views_it_keeps() -> None:
    builder = TrackletBuilder(TrackletRules(max_crops=4, max_seconds=1e6))
    for index in range(1000):
        list(builder.update(frame_at(index), tracks_of((1, PERSON))))
        assert len(builder._open[1].views) <= 8


def test_a_crop_holds_the_native_pixels_of_its_box_and_is_a_copy() -> None:
    image = np.random.default_rng(0).integers(0, 65535, (60, 40), np.uint16)
    frame = Frame(image, "dock", Modality.THERMAL, 0, 0.0, NOON, TimeSource.FILE_NAME)
    crop = cut_out(frame, np.array([10, 20, 30, 50], np.float32), padding=0)
    assert crop is not None
    assert crop.dtype == np.uint16
    assert np.array_equal(crop, image[20:50, 10:30])
    assert not np.shares_memory(crop, image)


def test_a_box_outside_the_frame_has_no_crop() -> None:
    assert cut_out(frame_at(0), np.array([400, 20, 450, 90], np.float32), padding=0.05) is None


def test_a_free_standing_person_is_better_than_a_covered_a_cut_a_merged_and_a_flat_one() -> None:
    tracks = tracks_of(
        (1, (20, 40, 60, 160)),  # free
        (2, (100, 40, 140, 160)),  # covered by the next
        (3, (110, 50, 150, 180)),
        (4, (-5, 40, 30, 160)),  # cut by the left border, behind nobody
        (5, (200, 100, 320, 200)),  # two people in one box
    )
    free, covered, front, cut, merged = view_quality(tracks, (640, 360))
    assert free > 0.9
    assert covered < 0.5 < front
    assert cut <= 0.5
    assert merged == 0


def test_the_nearer_of_two_overlapping_people_keeps_the_better_view() -> None:
    far, near = view_quality(tracks_of((1, (100, 40, 140, 150)), (2, (120, 50, 165, 180))), (640, 360))
    assert near > far


def test_who_is_mostly_covered_or_cut_off_has_boxes_but_no_view_even_where_any_quality_will_do() -> None:
    builder = TrackletBuilder(TrackletRules(min_quality=0.0))
    covered, front, cut = (100, 60, 140, 160), (105, 70, 145, 180), (-5, 60, 35, 160)
    run(builder, list(range(10)), tracks_of((1, covered), (2, front), (3, cut)))
    hidden, seen, off = builder.flush()
    assert isinstance(seen, Tracklet)
    for made in (hidden, off):
        assert isinstance(made, RejectedTracklet)
        assert made.reason is Rejection.NO_USABLE_CROP
        assert len(made.tracklet.frame_index) == 10


def test_which_boxes_give_a_view_is_a_rule_like_others() -> None:
    covered, front, edge = (100, 60, 140, 160), (105, 70, 145, 180), (5, 60, 45, 160)

    def with_views(**rules: float) -> list[int]:
        builder = TrackletBuilder(TrackletRules(min_quality=0.0, **rules))  # type: ignore[arg-type]
        run(builder, list(range(10)), tracks_of((1, covered), (2, front), (3, edge)))
        return [made.track_id for made in builder.flush() if isinstance(made, Tracklet)]

    assert with_views() == [2, 3]
    assert with_views(max_covered=1.0) == [1, 2, 3]
    assert with_views(border_px=10) == [2]


def test_who_is_much_less_sure_than_the_surest_of_the_frame_gives_no_view_unless_told_so() -> None:
    def rejected(**rules: float) -> list[int]:
        builder = TrackletBuilder(TrackletRules(**rules))  # type: ignore[arg-type]
        boxes = np.array([PERSON, (200, 60, 240, 160)], np.float32)
        tracks = Tracks(boxes, np.array([0.9, 0.2], np.float32), np.array([1, 2]))
        run(builder, list(range(10)), tracks)
        return [made.tracklet.track_id for made in builder.flush() if isinstance(made, RejectedTracklet)]

    assert rejected() == [2]
    assert rejected(min_confidence_share=0.2) == []


def test_other_images_take_the_place_of_crops_and_nothing_else() -> None:
    builder = TrackletBuilder(TrackletRules())
    run(builder, list(range(10)), tracks_of((1, PERSON)))
    (made,) = builder.flush()
    assert isinstance(made, Tracklet)
    seen: list[str] = []

    def turn(camera_id: str, image: Image) -> Image:
        seen.append(camera_id)
        return np.asarray(255 - image, np.uint8)

    beside = Counterpart("night", Modality.THERMAL, made.best.image[..., 0].copy(), made.start, made.best.xyxy)
    whole = replace(made, counterparts=(beside,))
    turned = whole.with_images(turn)
    assert seen == ["gate"] * len(made.crops) + ["night"]
    np.testing.assert_array_equal(turned.crops[0].image, 255 - made.crops[0].image)
    np.testing.assert_array_equal(turned.counterparts[0].image, 255 - beside.image)
    assert replace(turned, crops=whole.crops, counterparts=whole.counterparts).tracklet_id == made.tracklet_id
    rejected = RejectedTracklet(whole, Rejection.TOO_SMALL).with_images(turn)
    np.testing.assert_array_equal(rejected.tracklet.crops[0].image, turned.crops[0].image)


def test_no_tracks_have_no_quality() -> None:
    assert view_quality(Tracks.empty(), (640, 360)).shape == (0,)


def test_a_sudden_change_of_height_lowers_the_quality_of_the_view() -> None:
    builder = TrackletBuilder(TrackletRules(max_crops=100))
    run(builder, list(range(9)), tracks_of((1, PERSON)))
    run(builder, [9], tracks_of((1, (100.0, 150.0, 150.0, 220.0))))
    (tracklet,) = builder.flush()
    assert isinstance(tracklet, Tracklet)
    assert 9 not in [crop.frame_index for crop in tracklet.crops]


def test_thinning_keeps_the_best_of_each_stretch() -> None:
    views = [Crop(np.zeros((1, 1), np.uint8), i, NOON, np.zeros(4, np.float32), q) for i, q in enumerate([1, 9, 2, 3])]
    assert [view.frame_index for view in thin_out(views, 2)] == [1, 3]


def test_the_best_view_is_the_one_of_highest_quality() -> None:
    builder = TrackletBuilder(TrackletRules())
    run(builder, list(range(10)), tracks_of((1, PERSON)))
    (tracklet,) = builder.flush()
    assert isinstance(tracklet, Tracklet)
    assert tracklet.best.quality == max(crop.quality for crop in tracklet.crops)


def test_a_frame_refuses_what_is_no_image_and_a_time_without_a_zone() -> None:
    with pytest.raises(ValueError, match=r"image must be .* got float64 \(4, 4\)"):
        Frame(np.zeros((4, 4)), "gate", Modality.RGB, 0, 0.0, NOON, TimeSource.FILE_NAME)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="timezone-aware"):
        Frame(np.zeros((4, 4), np.uint8), "gate", Modality.NIR, 0, 0.0, datetime(2026, 1, 1), TimeSource.FILE_NAME)


def test_a_track_in_doubt_becomes_two_tracklets_that_keep_its_id() -> None:
    builder, certain = TrackletBuilder(TrackletRules(max_risk=0.5)), tracks_of((7, PERSON))

    def piece(tracklet_id: int, risk: float) -> Tracks:
        ids = np.array([tracklet_id])
        return Tracks(certain.xyxy, certain.confidence, certain.track_id, ids, np.array([risk]))

    made = run(builder, list(range(8)), piece(1, 0.1))
    made += run(builder, [8], piece(1, 0.6)) + run(builder, list(range(9, 16)), piece(1, 0.1))
    made += run(builder, list(range(16, 24)), piece(2, 0.1)) + list(builder.flush())
    pieces = [each for each in made if isinstance(each, Tracklet)]
    assert [each.frame_index.tolist() for each in pieces] == [
        list(range(8)),
        list(range(8, 16)),
        list(range(16, 24)),
    ]
    assert {each.track_id for each in pieces} == {7}
    assert len({each.tracklet_id for each in pieces}) == 3
    assert [each.max_risk for each in pieces] == pytest.approx([0.1] * 3)
    assert [each.mean_risk for each in pieces] == pytest.approx([0.1] * 3)


def test_a_tracklet_says_how_doubtful_its_worst_step_and_its_steps_were_the_first_box_s_apart() -> None:
    builder, certain = TrackletBuilder(TrackletRules()), tracks_of((7, PERSON))
    for index, risk in enumerate([0.9, 0.0, 0.6, 0.0, 0.0, 0.0, 0.0]):
        doubted = Tracks(certain.xyxy, certain.confidence, certain.track_id, risk=np.array([risk]))
        assert list(builder.update(frame_at(index), doubted)) == []
    (tracklet,) = builder.flush()
    assert isinstance(tracklet, Tracklet)
    assert (tracklet.max_risk, tracklet.mean_risk) == pytest.approx((0.6, 0.1))
