"""Bodies walk: on the ground, one leg after the other, with the same gait again every cycle."""

from dataclasses import replace

import numpy as np
import pytest

from simulation.body import Body, Pose, turned
from simulation.people import Bag
from tests.simulation.factories import portrait, somebody


def piece(body: Body, pose: Pose, name: str) -> tuple[np.ndarray, np.ndarray]:
    index = [each.name for each in body.pieces].index(name)
    return pose.start[index], pose.end[index]


@pytest.mark.parametrize("phase", np.linspace(0, 2 * np.pi, 9))
def test_the_lower_foot_is_on_the_ground_all_through_the_gait(phase: float) -> None:
    body = Body(somebody())
    pose = body.pose((0.0, 0.0), 0.0, phase, 1.3)
    lowest = min(
        float(min(start[2], end[2])) for start, end in (piece(body, pose, f"{s} foot") for s in ("left", "right"))
    )
    assert 0.0 <= lowest < 0.07


def test_legs_alternate_and_arms_swing_against_them() -> None:
    body = Body(somebody())
    ahead = {}
    for name in ("left foot", "right foot", "left hand", "right hand"):
        ahead[name] = piece(body, body.pose((0.0, 0.0), 0.0, 0.0, 1.3), name)[1][0]
    assert ahead["left foot"] > ahead["right foot"] + 0.3
    assert ahead["right hand"] > ahead["left hand"] + 0.05


def test_a_cycle_later_the_pose_is_the_same() -> None:
    body = Body(somebody())
    one, two = (body.pose((1.0, 2.0), 0.7, phase, 1.2) for phase in (0.4, 0.4 + 2 * np.pi))
    assert np.allclose(one.start, two.start)
    assert np.allclose(one.end, two.end)


def test_standing_still_both_feet_are_together() -> None:
    body = Body(somebody())
    pose = body.pose((0.0, 0.0), 0.0, 0.0, 0.0)
    assert piece(body, pose, "left foot")[1][0] == pytest.approx(piece(body, pose, "right foot")[1][0], abs=1e-9)


def test_heading_turns_and_position_moves_the_whole_body() -> None:
    body = Body(somebody(bag=Bag.TROLLEY))
    straight, turned_left = body.pose((0.0, 0.0), 0.0, 1.0, 1.3), body.pose((3.0, 1.0), np.pi / 2, 1.0, 1.3)
    x, y, z = straight.start.T
    assert np.allclose(turned_left.start, np.stack([3.0 - y, 1.0 + x, z], axis=1))
    assert np.allclose(turned_left.front - straight.front, np.pi / 2)


def test_a_person_s_height_in_pixels_is_that_of_the_pinhole() -> None:
    """Six metres away at 500 px focal length, a metre is 83.3 px."""
    for stature in (1.55, 1.90):
        person = somebody(physique=replace(somebody().physique, stature=stature, head=1.0, leg_ratio=0.5))
        box = portrait(person, "rgb").box
        assert box is not None
        assert (box[3] - box[1]) / (500 / 6) == pytest.approx(stature, rel=0.06)


def test_a_profile_passes_through_its_knots() -> None:
    profile = turned((0, 1.0, 2.0), (1, 3.0, 4.0))
    assert profile[0].tolist() == [1.0, 2.0]
    assert profile[-1].tolist() == [3.0, 4.0]
