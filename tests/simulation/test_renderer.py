"""What is drawn is where geometry says, covers what is behind it, and is lit from where the light is."""

import numpy as np
import pytest
from numpy.typing import NDArray

from simulation.body import Piece, Pose, turned
from simulation.camera import Camera
from simulation.renderer import Figure, Light, Sprite, draw, lay, smear

CAMERA = Camera((0.0, 0.0, 1.0), 0.0, 0.0, 200.0, 200, 200)
FLAT = Light("thermal", (0.0,), cold=0.0, span=1.0)


def column(
    *, forward: float, radius: float = 0.2, value: float = 1.0, channels: int = 1, left: float = 0.0
) -> tuple[Figure, Pose]:
    """An upright cylinder with flat ends, from half a metre to one and a half."""
    piece = Piece("column", "stone", turned((0, 0.2, 0.2), (1, 0.2, 0.2)), (False, False))
    texture = np.ones((64, 96, 1), np.float32)
    ends = np.array([[forward, left, 1.5]]), np.array([[forward, left, 0.5]])
    return Figure([piece], [texture]), Pose(*ends, np.zeros(1))


def drawn(figure: Figure, pose: Pose, light: Light = FLAT) -> Sprite:
    sprite = draw(CAMERA, figure, pose, light)
    assert sprite is not None
    return sprite


def test_a_cylinder_lies_where_the_pinhole_puts_it() -> None:
    """At 4 m and 200 px focal length a metre is 50 px: 20 px wide, 50 px tall, in the middle."""
    box = drawn(*column(forward=4.0)).box
    assert box is not None
    assert box == pytest.approx((90, 75, 110, 125), abs=1.01)


def test_a_silhouette_s_alpha_adds_up_to_its_area() -> None:
    alpha = drawn(*column(forward=4.0)).alpha
    assert float(alpha.sum()) == pytest.approx(20 * 50, rel=0.04)
    assert alpha.min() >= 0.0
    assert alpha.max() <= 1.0


def test_the_side_towards_the_sun_is_brighter() -> None:
    light = Light("rgb", (0.1,), (0.8,), (0.0, 1.0, 0.0))  # from the left
    signal = drawn(*column(forward=4.0), light).signal[..., 0]
    middle = signal[signal.shape[0] // 2]
    inside = np.flatnonzero(middle > 0.02)
    assert middle[inside[4]] > 3 * middle[inside[-4]]


def test_a_lamp_at_the_camera_fades_with_distance() -> None:
    light = Light("nir", (0.0,), lamp=6.0)
    near, far = (float(drawn(*column(forward=f), light).signal.max()) for f in (4.0, 8.0))
    assert near / far == pytest.approx(2**1.3, rel=0.05)


def test_the_texture_s_front_faces_where_the_piece_faces() -> None:
    figure, pose = column(forward=4.0)
    figure.textures[0] = np.zeros((64, 96, 1), np.float32)
    figure.textures[0][:, 40:56] = 1.0  # a stripe down the front
    towards, away = (drawn(figure, Pose(pose.start, pose.end, np.array([front]))) for front in (np.pi, 0.0))
    row = towards.alpha.shape[0] // 2
    assert towards.signal[row, towards.alpha.shape[1] // 2, 0] > 0.9
    assert float(away.signal[row].max()) < 0.05


@pytest.mark.parametrize("forward", [-3.0, 0.2])
def test_nothing_behind_the_camera_is_drawn(forward: float) -> None:
    assert draw(CAMERA, *column(forward=forward), FLAT) is None


def test_nothing_out_of_view_is_drawn() -> None:
    assert draw(CAMERA, *column(forward=4.0, left=9.0), FLAT) is None


def test_laying_a_sprite_mixes_by_alpha_and_stays_within_the_image() -> None:
    image = np.full((4, 4, 1), 0.2, np.float32)
    half = Sprite(np.full((3, 3, 1), 0.5, np.float32), np.full((3, 3), 0.5, np.float32), 2, -1, 1.0)
    lay(image, half)
    expected = np.full((4, 4), 0.2)
    expected[:2, 2:] = 0.5 + 0.5 * 0.2
    assert np.allclose(image[..., 0], expected)


def test_laying_into_a_window_equals_cutting_the_window_out_of_the_whole() -> None:
    sprite = drawn(*column(forward=4.0))
    whole, window = np.zeros((200, 200, 1), np.float32), np.zeros((40, 30, 1), np.float32)
    lay(whole, sprite)
    lay(window, sprite, (85, 80))
    assert np.array_equal(whole[80:120, 85:115], window)


def total(sprite: Sprite) -> NDArray[np.float32]:
    return np.array([sprite.signal.sum(), sprite.alpha.sum()], np.float32)


def test_motion_blur_spreads_a_sprite_without_adding_or_taking_light() -> None:
    figure, pose = column(forward=4.0)
    sprite = drawn(figure, pose)
    padded = Sprite(np.pad(sprite.signal, ((6, 6), (6, 6), (0, 0))), np.pad(sprite.alpha, 6), 0, 0, 1.0)
    blurred = smear(padded, (5.0, 0.0))
    assert total(blurred) == pytest.approx(total(padded), rel=1e-4)
    assert (blurred.alpha > 0.05).any(axis=0).sum() > (padded.alpha > 0.05).any(axis=0).sum() + 2
    assert smear(padded, (0.3, 0.0)) is padded
