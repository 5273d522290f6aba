"""Names in a config meet classes."""

from typing import get_args

import pytest

from pipeline.build import TRACKERS, build_trackers
from pipeline.config import TrackerConfig, from_sources
from trackers.cautious import CautiousSettings, CautiousTracker


class Other(CautiousTracker):
    """A tracker by another name."""


def test_the_tracker_is_the_one_that_the_config_names(monkeypatch: pytest.MonkeyPatch) -> None:
    config = from_sources(["gate=a.mp4", "yard=b.mp4"])
    assert [type(each) for each in build_trackers(config, ["gate", "yard"]).values()] == [
        CautiousTracker,
        CautiousTracker,
    ]
    monkeypatch.setitem(TRACKERS, "other", (Other, CautiousSettings))
    other = config.model_copy(update={"tracker": config.tracker.model_copy(update={"name": "other"})})
    assert type(build_trackers(other, ["gate"])["gate"]) is Other


def test_every_tracker_that_a_config_may_name_is_there() -> None:
    assert set(get_args(TrackerConfig.model_fields["name"].annotation)) == TRACKERS.keys()
