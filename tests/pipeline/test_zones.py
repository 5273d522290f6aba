"""Who stood in which named part of a view."""

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.errors import UsageError
from pipeline.tracklets import Tracklet, TrackletBuilder, TrackletRules
from pipeline.zones import zones_of
from tests.pipeline.factories import frame_of
from trackers.structures import Tracks

SQUARE = [[0.25, 0.25], [0.75, 0.25], [0.75, 0.75], [0.25, 0.75]]
HORSESHOE = [[0, 0], [1, 0], [1, 1], [0.7, 1], [0.7, 0.3], [0.3, 0.3], [0.3, 1], [0, 1]]


def standing_at(x: float, y: float) -> NDArray[np.float32]:
    """A box in a view of 100 x 200 pixels whose foot is at these shares."""
    return np.array([[100 * x - 5, 200 * y - 30, 100 * x + 5, 200 * y]], np.float32)


@pytest.mark.parametrize(
    ("x", "y", "zones"),
    [
        (0.5, 0.5, ("square",)),
        (0.1, 0.5, ("horseshoe",)),
        (0.9, 0.9, ("horseshoe",)),
        (0.5, 0.28, ("horseshoe", "square")),
        (0.5, 0.9, ()),
        (0.26, 0.26, ("horseshoe", "square")),
        (1.5, 0.5, ()),
    ],
)
def test_the_foot_of_the_box_decides(x: float, y: float, zones: tuple[str, ...]) -> None:
    assert zones_of(standing_at(x, y), (100, 200), {"square": SQUARE, "horseshoe": HORSESHOE}) == zones


def test_one_box_in_a_zone_is_enough_and_the_head_does_not_count() -> None:
    boxes = np.concatenate([standing_at(0.5, 0.9), standing_at(0.5, 0.7)])
    assert zones_of(boxes, (100, 200), {"square": SQUARE}) == ("square",)
    tall = np.array([[45, 60, 55, 190]], np.float32)
    assert zones_of(tall, (100, 200), {"square": SQUARE}) == ()


def test_a_tracklet_knows_the_zones_of_its_camera() -> None:
    builder = TrackletBuilder(
        TrackletRules(min_frames=2), {"all": [[0, 0], [1, 0], [1, 1.01], [0, 1.01]], "none": SQUARE}
    )
    for index in range(5):
        boxes = np.array([[5, 20, 35, 100]], np.float32)
        assert list(builder.update(frame_of(index), Tracks(boxes, np.ones(1, np.float32), np.array([1])))) == []
    (tracklet,) = builder.flush()
    assert isinstance(tracklet, Tracklet)
    assert tracklet.zones == ("all",)


def test_a_zone_of_two_corners_or_outside_the_view_is_refused() -> None:
    from pipeline.config import from_sources

    for corners in ("[[0, 0], [1, 1]]", "[[0, 0], [1, 1], [1, 2]]", "[[0, 0], [1, 1], [1]]"):
        with pytest.raises(UsageError, match=r"cameras\.gate\.zones\.door"):
            from_sources(["gate=a.mp4"], overrides=[f"cameras.gate.zones.door={corners}"])
