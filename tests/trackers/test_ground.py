"""The floor: surveyed, from the camera's place, and from the boxes alone."""

import math
import pickle

import numpy as np
import pytest

from trackers.cautious import CautiousSettings, CautiousTracker
from trackers.ground import GroundEstimator, GroundPlane
from trackers.structures import Detections, Tracks

FOCAL, CENTRE, HEIGHT, TILT = 1000.0, (960.0, 540.0), 3.0, 12.0


def camera(tilt: float = TILT) -> GroundPlane:
    return GroundPlane.of_camera(height_metres=HEIGHT, tilt_degrees=tilt, focal_pixels=FOCAL, centre_xy=CENTRE)


def pixel(across: float, ahead: float, up: float, tilt: float = TILT) -> tuple[float, float]:
    """Where a point of the world is seen, by the plain pinhole camera."""
    down = HEIGHT - up
    sine, cosine = math.sin(math.radians(tilt)), math.cos(math.radians(tilt))
    depth = ahead * cosine + down * sine
    return CENTRE[0] + FOCAL * across / depth, CENTRE[1] + FOCAL * (down * cosine - ahead * sine) / depth


def person(across: float, ahead: float, tall: float = 1.7) -> list[float]:
    """Box of somebody who stands there: left, top, right, bottom."""
    x, foot = pixel(across, ahead, 0.0)
    _, head = pixel(across, ahead, tall)
    half = (foot - head) * 0.2
    return [x - half, head, x + half, foot]


def cxcywh(*boxes: list[float]) -> np.ndarray:
    left, top, right, bottom = np.array(boxes).T
    return np.stack([(left + right) / 2, (top + bottom) / 2, right - left, bottom - top], axis=1)


def test_a_foot_is_found_where_it_stands() -> None:
    places = np.array([[0.0, 6.0], [2.5, 10.0], [-4.0, 25.0]])
    found, _ = camera().locate(cxcywh(*(person(*place) for place in places)))
    np.testing.assert_allclose(found, places, atol=1e-9)


def test_the_change_of_a_place_with_its_pixel_is_the_derivative() -> None:
    boxes = cxcywh(person(2.0, 9.0))
    place, change = camera().locate(boxes)
    for axis in (0, 1):
        moved = boxes.copy()
        moved[:, axis] += 1e-4
        np.testing.assert_allclose((camera().locate(moved)[0] - place) / 1e-4, change[:, :, axis], rtol=1e-3)


def test_people_of_one_stature_have_it_near_and_far() -> None:
    tall = camera().stature(cxcywh(*(person(1.0, ahead) for ahead in (8.0, 15.0, 30.0))))
    np.testing.assert_allclose(tall, 1.7, rtol=0.08)  # a box is upright in the picture, and the camera looks down


@pytest.mark.parametrize("factor", [1.0, -3.0, 1e-4])
def test_a_homography_may_have_any_scale_and_sign(factor: float) -> None:
    plane = GroundPlane(factor * camera().homography)
    np.testing.assert_allclose(plane.homography, camera().homography, rtol=1e-12)


@pytest.mark.parametrize(
    ("matrix", "message"),
    [
        (np.eye(2), r"homography must be \(3, 3\), got \(2, 2\)"),
        (np.zeros((3, 3)), "homography must be finite and invertible"),
        (np.full((3, 3), np.nan), "homography must be finite and invertible"),
    ],
)
def test_what_maps_no_plane_is_refused(matrix: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        GroundPlane(matrix)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"height_metres": 0.0}, "height_metres must be a positive number"),
        ({"focal_pixels": math.inf}, "focal_pixels must be a positive number"),
        ({"tilt_degrees": 90.0}, r"tilt_degrees must be in \[0, 90\)"),
    ],
)
def test_a_camera_that_cannot_be_is_refused(wrong: dict[str, float], message: str) -> None:
    usual = {"height_metres": 3.0, "tilt_degrees": 10.0, "focal_pixels": 1000.0}
    with pytest.raises(ValueError, match=message):
        GroundPlane.of_camera(**(usual | wrong), centre_xy=CENTRE)


def test_a_floor_is_learnt_from_people_alone() -> None:
    rng = np.random.default_rng(0)
    estimator, planes = GroundEstimator(), []
    for _ in range(100):
        boxes = [person(rng.uniform(-3, 3), rng.uniform(7, 30), rng.normal(1.7, 0.08)) for _ in range(6)]
        boxes.append([400, 300, 900, 420])  # and something that is nobody
        planes.append(estimator.learn(cxcywh(*boxes)))
    found = [plane for plane in planes if plane is not None]
    assert 2 <= len(found) <= 3  # at 200 boxes and whenever they doubled
    boxes = cxcywh(*(person(0.0, ahead) for ahead in (8.0, 15.0, 25.0)))
    np.testing.assert_allclose(found[-1].pixels_a_metre(boxes), camera().pixels_a_metre(boxes), rtol=0.1)


def test_where_heights_say_nothing_no_floor_is_learnt_and_memory_is_bounded() -> None:
    rng = np.random.default_rng(1)
    alike, mixed = GroundEstimator(), GroundEstimator()
    for _ in range(500):
        place = rng.uniform(0, 1000, (20, 2))
        size = np.array([40.0, 100.0])
        assert alike.learn(np.concatenate([place, np.broadcast_to(size, (20, 2))], axis=1)) is None
        assert mixed.learn(np.concatenate([place, rng.uniform(0.2, 3, (20, 1)) * size], axis=1)) is None
        assert max(len(pickle.dumps(each)) for each in (alike, mixed)) < 50_000


def crossing(tracker: CautiousTracker) -> list[Tracks]:
    """A tall and a short person meet; for half a second both boxes are found halfway between, then they walk back."""
    tracks = []
    for t in range(60):
        apart = max(abs(30 - t) - 5, 0) * 0.08
        boxes = [person(-apart, 10.0, 1.85), person(apart, 10.0, 1.55)]
        if apart == 0:
            boxes = [person(0.0, 10.0, 1.7)]
        tracks.append(tracker.update(Detections(boxes, np.full(len(boxes), 0.9)), pts_seconds=t / 10))
    return tracks


def statures(tracks: Tracks) -> dict[int, float]:
    return dict(zip(tracks.track_id.tolist(), camera().stature(cxcywh(*tracks.xyxy.tolist())), strict=True))


def test_two_who_met_are_never_confused_for_they_differ_in_stature() -> None:
    tracks = crossing(CautiousTracker(CautiousSettings(ground=camera())))
    before, after = statures(tracks[10]), statures(tracks[-1])
    assert len(before) == len(after) == 2
    for identity in before.keys() & after.keys():
        assert after[identity] == pytest.approx(before[identity], rel=0.02)


def test_a_tracker_that_learns_its_floor_can_be_saved_before_and_after() -> None:
    rng = np.random.default_rng(2)
    frames = [
        Detections([person(k - 3 + 0.02 * t + rng.normal(0, 0.01), 8 + 3 * k) for k in range(6)], np.full(6, 0.9))
        for t in range(80)
    ]
    whole, part = (CautiousTracker(CautiousSettings(estimate_ground=True)) for _ in range(2))
    for t, frame in enumerate(frames):
        expected = whole.update(frame, pts_seconds=t / 10)
        part = pickle.loads(pickle.dumps(part))  # noqa: S301 - our own bytes
        assert part.update(frame, pts_seconds=t / 10).track_id.tolist() == expected.track_id.tolist()
    assert sorted(expected.track_id.tolist()) == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("factor", [0.0625, 0.25, 4.0])
def test_with_a_learnt_floor_the_size_of_the_picture_changes_no_id(factor: float) -> None:
    rng, learnt = np.random.default_rng(0), []
    start, speed = rng.uniform([-4, 6], [4, 20], (12, 2)), rng.uniform(-0.6, 0.6, (12, 2))
    frames = [
        np.array([person(*(start[k] + speed[k] * t / 10)) for k in range(12)]) + rng.normal(0, 0.5, (12, 4))
        for t in range(60)
    ]

    def ids(size: float) -> list[list[int]]:
        tracker = CautiousTracker(CautiousSettings(estimate_ground=True))
        found = [
            tracker.update(
                Detections(np.round(each * 16) / 16 * size, np.full(12, 0.9, np.float32)), pts_seconds=t / 10
            )
            for t, each in enumerate(frames)
        ]
        assert tracker._floor is not None
        learnt.append(tracker._floor.plane.stature(np.array([[300, 300, 40, 100], [500, 200, 20, 60]]) * size))
        return [[*each.track_id.tolist(), *each.tracklet_id.tolist()] for each in found]

    assert ids(1.0) == ids(factor)
    np.testing.assert_allclose(learnt[0], learnt[1])


def test_a_floor_is_either_given_or_learnt() -> None:
    with pytest.raises(ValueError, match="estimate_ground must be false where ground is given"):
        CautiousSettings(ground=camera(), estimate_ground=True)
