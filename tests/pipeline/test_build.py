"""Names in a config meet classes."""

from dataclasses import asdict
from typing import Any, get_args

import numpy as np
import pytest

from pipeline.build import build_sources, build_trackers, policy_of
from pipeline.config import CameraConfig, Config, TrackerConfig, from_sources
from pipeline.errors import SourceError, UsageError
from pipeline.sources.base import Source
from trackers.algorithms import TRACKERS
from trackers.cautious import CautiousTracker
from trackers.ground import GroundPlane

NAMES = get_args(TrackerConfig.model_fields["name"].annotation)
PLACE = ("height_metres=3", "tilt_degrees=12", "focal_px=1000", "centre_px=[960, 540]")


def config(*overrides: str) -> Config:
    return from_sources(["gate=a.mp4", "yard=b.mp4"], overrides=list(overrides))


def settings_of(tracker: Any) -> Any:
    return tracker.settings


def test_every_tracker_that_there_is_may_be_named() -> None:
    assert set(NAMES) == TRACKERS.keys()


@pytest.mark.parametrize("name", NAMES)
def test_the_tracker_is_the_one_that_the_config_names_with_the_defaults_that_it_has(name: str) -> None:
    built = build_trackers(config(f"tracker.name={name}"), ["gate", "yard"])
    assert built["gate"] is not built["yard"]
    for tracker in built.values():
        expected = TRACKERS[name].build()
        assert type(tracker) is type(expected)
        assert settings_of(tracker) == settings_of(expected)


@pytest.mark.parametrize("name", NAMES)
def test_each_tracker_takes_its_own_settings(name: str) -> None:
    prefix = "tracker" if name == "cautious" else f"tracker.{name}"
    built = build_trackers(config(f"tracker.name={name}", f"{prefix}.lost_seconds=1.5"), ["gate"])["gate"]
    assert settings_of(built).lost_seconds == 1.5
    assert config(f"tracker.name={name}").tracker.settings() == {
        key: value
        for key, value in asdict(TRACKERS[name].settings()).items()
        if key not in ("appearance_weight", "ground", "estimate_ground")  # given to a tracker by code, or a camera each
    }


def test_each_camera_has_the_floor_that_stands_below_it() -> None:
    place = [f"cameras.gate.ground.{each}" for each in PLACE]
    built = build_trackers(config(*place, "cameras.yard.ground.estimate=true"), ["gate", "yard", "elsewhere"])
    plane = GroundPlane.of_camera(height_metres=3, tilt_degrees=12, focal_pixels=1000, centre_xy=(960, 540))
    np.testing.assert_allclose(settings_of(built["gate"]).ground.homography, plane.homography)
    assert settings_of(built["yard"]).estimate_ground
    assert settings_of(built["elsewhere"]) == settings_of(CautiousTracker())
    surveyed = config(f"cameras.gate.ground.homography={plane.homography.tolist()}")
    np.testing.assert_allclose(
        settings_of(build_trackers(surveyed, ["gate"])["gate"]).ground.homography, plane.homography
    )


def test_a_homography_that_maps_no_plane_is_laid_to_its_camera() -> None:
    """By the config already, so that ``validate`` and a reload say it too."""
    with pytest.raises(UsageError, match=r"cameras\.yard\.ground\.homography: must be finite and invertible"):
        config("cameras.yard.ground.homography=[[1, 0, 0], [2, 0, 0], [0, 0, 1]]")


def test_how_long_others_wait_for_a_camera_is_a_matter_of_the_config_of_recordings_too() -> None:
    cameras = from_sources(["yard=a.mp4,stream.stall_seconds=45", "gate=b.mp4", "hall=rtsp://a/b"]).cameras
    assert {name: policy_of(camera).stall_seconds for name, camera in cameras.items()} == {
        "yard": 45.0, "gate": 10.0, "hall": 10.0,
    }  # fmt: skip


def test_whatever_a_recording_breaks_is_told_as_its_own_beside_those_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(camera_id: str, camera: CameraConfig) -> Source:
        raise MemoryError("40 GB") if camera_id == "gate" else SourceError("camera yard: no such file")

    monkeypatch.setattr("pipeline.build.open_source", broken)
    with pytest.raises(
        SourceError, match=r"gate: a\.mp4 cannot be read: MemoryError: 40 GB\ncamera yard: no such file"
    ):
        build_sources(config())
