"""What BoT-SORT adds to ByteTrack: noise by width and height, and the camera's motion undone."""

import numpy as np
import pytest

from tests.trackers.scenes import crowd, people, run
from trackers.botsort import BoTSort
from trackers.structures import Detections

STILL = np.array([[1.0, 0, 0], [0, 1, 0]])


def warped(detections: Detections, affine: np.ndarray) -> Detections:
    """The boxes as a camera sees them that turned so; for matrices that keep boxes upright."""
    corners = (detections.xyxy.reshape(-1, 2) @ affine[:, :2].T + affine[:, 2]).reshape(-1, 2, 2)
    return Detections(np.concatenate([corners.min(axis=1), corners.max(axis=1)], axis=1), detections.confidence)


def test_it_tracks_as_bytetrack_does_where_nothing_is_doubtful() -> None:
    assert run(BoTSort(), [people(10), people(10, 300), people(10, 300, confidence=0.3)]) == [[1], [1], [1]]
    assert run(BoTSort(), [people(10), people(10, 300), people(10, 300)]) == [[1], [1], [1, 2]]


def test_a_camera_that_did_not_move_changes_nothing() -> None:
    plain, told = BoTSort(), BoTSort()
    for k, each in enumerate(crowd(5)):
        ids = told.update(each, pts_seconds=k / 10, camera_motion=STILL).track_id
        np.testing.assert_array_equal(ids, plain.update(each, pts_seconds=k / 10).track_id)


@pytest.mark.parametrize("scale", [1.0, 1.05])
def test_a_camera_that_pans_and_zooms_keeps_every_id_if_its_motion_is_told(scale: float) -> None:
    step = np.array([[scale, 0, 60.0], [0, scale, -25.0]])
    world = [people(100 + 2 * t, 400 - 2 * t) for t in range(8)]
    view, frames = np.eye(3), []
    for each in world:
        frames.append(warped(each, view[:2]))
        view = np.vstack([step, [0, 0, 1]]) @ view
    told, deaf = BoTSort(), BoTSort()
    with_motion = [
        told.update(each, pts_seconds=k / 10, camera_motion=step if k else None).track_id.tolist()
        for k, each in enumerate(frames)
    ]
    assert with_motion == [[1, 2]] * 8
    assert run(deaf, frames)[-1] != [1, 2]


def test_the_state_of_a_warped_scene_is_the_warped_state() -> None:
    """Quarter turns and scaling: seen first and warped then is warped first and seen then."""
    turn = np.array([[0.0, -2, 900], [2, 0, 30]])
    first, then = BoTSort(), BoTSort()
    for k in range(4):
        first.update(people(10 + 5 * k), pts_seconds=k / 10)
        then.update(warped(people(10 + 5 * k), turn), pts_seconds=k / 10)
    moving, turned = first._filter, then._filter
    moving.warp(turn)
    np.testing.assert_allclose(moving.mean[:, :2], turned.mean[:, :2])
    np.testing.assert_allclose(moving.velocity[:, :2], turned.velocity[:, :2], atol=1e-9)
    np.testing.assert_allclose(moving.mean[:, 2:], turned.mean[:, [3, 2]])  # sizes are scaled, not turned
    np.testing.assert_allclose(moving.covariance[:, :2], turned.covariance[:, :2])


def test_the_noise_of_a_coordinate_is_that_of_its_own_side() -> None:
    tracker = BoTSort()
    tracker.update(people(10), pts_seconds=0.0)  # 40 wide, 100 high
    deviation = np.sqrt(tracker._filter.covariance[0, :, 0, 0])
    np.testing.assert_allclose(deviation, [4, 10, 4, 10])


@pytest.mark.parametrize(
    ("motion", "message"),
    [
        (np.eye(3), r"camera_motion must be \(2, 3\), got \(3, 3\)"),
        (np.full((2, 3), np.nan), "camera_motion must be finite and invertible"),
        (np.zeros((2, 3)), "camera_motion must be finite and invertible"),
    ],
)
def test_a_motion_that_is_none_is_refused_before_anything_changes(motion: np.ndarray, message: str) -> None:
    tracker = BoTSort()
    with pytest.raises(ValueError, match=message):
        tracker.update(people(10), pts_seconds=0.0, camera_motion=motion)
    assert tracker.update(people(10), pts_seconds=0.0).track_id.tolist() == [1]
