"""docs/trackers.md says what the code and the benchmarks say."""

from dataclasses import fields
from pathlib import Path

import pytest

from benchmarks.tracker_tables import tables
from trackers.algorithms import TRACKERS

GUIDE = (Path(__file__).resolve().parents[2] / "docs" / "trackers.md").read_text(encoding="utf-8")


def test_every_figure_is_the_benchmarks() -> None:
    for table in tables():
        assert table in GUIDE


@pytest.mark.parametrize("name", sorted(TRACKERS))
def test_every_tracker_and_each_of_its_settings_is_explained(name: str) -> None:
    assert f"`{name}`" in GUIDE
    for field in fields(TRACKERS[name].settings):
        assert f"`{field.name}`" in GUIDE, field.name


def test_the_guide_can_be_read_in_one_sitting() -> None:
    assert len(GUIDE.splitlines()) <= 200
