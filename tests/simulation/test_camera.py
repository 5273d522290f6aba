"""The pinhole agrees with hand-computed projections."""

import numpy as np
import pytest

from simulation.camera import Camera


def test_a_point_on_the_axis_is_the_middle_of_the_image() -> None:
    camera = Camera((0.0, 0.0, 2.0), 0.0, 0.0, 500.0, 640, 360)
    assert camera.project(np.array([10.0, 0.0, 2.0])).tolist() == [320.0, 180.0, 10.0]


def test_left_and_down_in_the_world_are_left_and_down_in_the_image() -> None:
    camera = Camera((0.0, 0.0, 2.0), 0.0, 0.0, 500.0, 640, 360)
    column, row, depth = camera.project(np.array([10.0, 1.0, 0.0]))
    assert (column, row, depth) == pytest.approx((320 - 500 * 0.1, 180 + 500 * 0.2, 10.0))


def test_a_camera_that_looks_down_sees_the_ground_where_trigonometry_says() -> None:
    camera = Camera((1.0, 2.0, 3.0), 0.0, np.pi / 4, 500.0, 640, 360)
    assert camera.to_ground(np.array([320.0, 180.0])) == pytest.approx([4.0, 2.0])


def test_ground_and_image_are_inverse() -> None:
    camera = Camera((1.0, -2.0, 3.4), 0.7, 0.3, 520.0, 640, 360)
    pixels = np.array([[100.0, 250.0], [500.0, 340.0]])
    ground = camera.to_ground(pixels)
    seen = camera.project(np.column_stack([ground, np.zeros(2)]))
    assert seen[:, :2] == pytest.approx(pixels)


def test_above_the_horizon_there_is_no_ground_and_behind_the_camera_nothing_is_seen() -> None:
    camera = Camera((0.0, 0.0, 2.0), 0.0, 0.0, 500.0, 640, 360)
    assert np.isnan(camera.to_ground(np.array([320.0, 100.0]))).all()
    assert np.isnan(camera.project(np.array([-5.0, 0.0, 1.0]))).any()


def test_a_camera_below_the_ground_is_refused() -> None:
    with pytest.raises(ValueError, match="height above ground"):
        Camera((0.0, 0.0, 0.0), 0.0, 0.0, 500.0, 640, 360)
