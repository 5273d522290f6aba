from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from pipeline.start_pattern import StartPattern


@pytest.mark.parametrize(
    ("pattern", "name"),
    [
        ("gate_%d.%m.%Y-%H%M%S", "gate_20.09.2026-221403.mp4"),
        ("gate_%d.%m.%Y-%H%M%S.mp4", "gate_20.09.2026-221403.mp4"),
        ("*%Y%m%d%H%M%S*", "cam (3) 20260920221403 part2.avi"),
        ("%j-%y %I.%M.%S%p", "263-26 10.14.03PM.mkv"),
        ("%b %d %Y %H_%M_%S", "Sep 20 2026 22_14_03.mkv"),
        ("%s", "1789942443.ts"),
        ("cam_%s*", "cam_1789942443000-sub.ts"),
        ("%Y-%m-%dT%H:%M:%S%z", "2026-09-21T00:14:03+02:00.mp4"),
        ("100%%_%Y%m%dT%H%M%S", "100%_20260920T221403"),
    ],
)
def test_a_time_is_found_where_the_pattern_says(pattern: str, name: str) -> None:
    assert StartPattern(pattern).time_in(name) == datetime(2026, 9, 20, 22, 14, 3, tzinfo=UTC)


def test_fractions_of_a_second_are_kept() -> None:
    moment = StartPattern("%Y%m%d_%H%M%S.%f").time_in("20260920_221403.25.png")
    assert moment == datetime(2026, 9, 20, 22, 14, 3, 250_000, tzinfo=UTC)


def test_local_times_are_of_their_zone_in_summer_and_in_winter() -> None:
    pattern = StartPattern("%Y%m%d-%H%M", ZoneInfo("Europe/Berlin"))
    assert pattern.time_in("20260701-1200.mp4") == datetime(2026, 7, 1, 10, tzinfo=UTC)
    assert pattern.time_in("20260101-1200.mp4") == datetime(2026, 1, 1, 11, tzinfo=UTC)
    twice = pattern.time_in("20261025-0230.mp4")  # comes twice that night: the first is taken
    assert twice == datetime(2026, 10, 25, 0, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    "name", ["gate.mp4", "gate_20261399-2214.mp4", "xgate_20260920-2214.mp4", "gate_00010101-0000.mp4"]
)
def test_another_name_has_no_time(name: str) -> None:
    assert StartPattern("gate_%Y%m%d-%H%M", ZoneInfo("Europe/Berlin")).time_in(name) is None


@pytest.mark.parametrize("digits", ["12345678", "17899424430", "17899424430001"])
def test_seconds_since_1970_have_a_length_or_are_none(digits: str) -> None:
    assert StartPattern("*cam_%s*").time_in(f"cam_{digits}.mp4") is None


@pytest.mark.parametrize(
    ("pattern", "problem"),
    [
        ("%Y%m%d", "are needed"),
        ("%H%M%S", "are needed"),
        ("gate", "are needed"),
        ("%Y%m%d%H%M%Q", "%Q is not one of"),
        ("%Y%m%d%H%M%H", "%H is given twice"),
        ("%Y%m%d%H%M%", "% is not one of"),
    ],
)
def test_a_pattern_of_which_no_moment_can_come_is_refused(pattern: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        StartPattern(pattern)
