import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from pipeline.frame import TimeSource
from pipeline.sources.clock import start_of, time_in_name
from pipeline.start_pattern import StartPattern


@pytest.mark.parametrize(
    "name",
    [
        "20260920T221403Z.mp4",
        "gate_20260920-221403.mkv",
        "2026-09-20_22-14-03.mp4",
        "cam3 2026-09-20T22:14:03Z part 2.avi",
        "20260920_221403_001.png",
        "NVR_ch1_main_20260920221403_20260920231403.mp4",
        "99999999999999_20260920221403.mp4",
    ],
)
def test_times_in_names_are_found(name: str) -> None:
    assert time_in_name(name) == datetime(2026, 9, 20, 22, 14, 3, tzinfo=UTC)


@pytest.mark.parametrize(
    "name",
    [
        "000001.png", "20261399T221403Z.mp4", "1234567890123456.mp4", "2026-09-20.mp4", "cam_35891208123456.mp4",
        "19700101_000000.mp4", "00010101_000000.mp4",
    ],
)  # fmt: skip
def test_other_digits_are_no_times(name: str) -> None:
    assert time_in_name(name) is None
    assert time_in_name(name, ZoneInfo("Europe/Berlin")) is None


def test_a_time_in_a_name_is_of_the_cameras_zone_unless_it_says_utc(tmp_path: Path) -> None:
    berlin = ZoneInfo("Europe/Berlin")
    assert time_in_name("2026-09-20_22-14-03.mp4", berlin) == datetime(2026, 9, 20, 20, 14, 3, tzinfo=UTC)
    assert time_in_name("20260920T221403Z.mp4", berlin) == datetime(2026, 9, 20, 22, 14, 3, tzinfo=UTC)
    path = tmp_path / "a.mp4"
    path.touch()
    local = start_of(path, creation_time="2020-08-11T18:24:12", zone=berlin)
    assert local == (datetime(2020, 8, 11, 16, 24, 12, tzinfo=UTC), TimeSource.CONTAINER)


def test_a_files_date_is_that_of_its_end(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    path.touch()
    os.utime(path, (1_800_000_000, 1_800_000_000))
    begin, source = start_of(path, duration_seconds=3600)
    assert (begin.timestamp(), source) == (1_800_000_000 - 3600, TimeSource.FILE_MODIFIED)


def test_the_container_comes_before_the_files_date(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    path.touch()
    assert start_of(path, creation_time="2020-08-11T18:24:12.000000Z") == (
        datetime(2020, 8, 11, 18, 24, 12, tzinfo=UTC),
        TimeSource.CONTAINER,
    )


@pytest.mark.parametrize(
    "created",
    [
        "long ago", "0001-01-01T00:00:00", "0001-01-01T00:00:00+01:00", "9999-12-31T23:59:59-01:00",
        "1970-01-01T00:00:01Z", "1904-01-01T00:00:00Z", "2537-01-01T00:00:00Z",
    ],
)  # fmt: skip
def test_what_a_container_says_and_cannot_be_is_not_believed(tmp_path: Path, created: str) -> None:
    (path := tmp_path / "a.mp4").touch()
    assert start_of(path, creation_time=created, zone=ZoneInfo("Europe/Berlin"))[1] is TimeSource.FILE_MODIFIED


@pytest.mark.parametrize(
    ("pattern", "name", "problem"),
    [
        ("cam_%Y%m%d%H%M%S", "cam_35891208123456.mp4", "tells 3589-12-08T11:34:56"),
        ("%Y%m%d_%H%M%S", "19040101_000000.mp4", "expected a time from 1990 to now"),
        ("%Y%m%d_%H%M%S", "00010101_000000.mp4", "does not fit"),
    ],
)
def test_what_a_pattern_finds_and_cannot_be_is_an_error(tmp_path: Path, pattern: str, name: str, problem: str) -> None:
    (path := tmp_path / name).touch()
    with pytest.raises(ValueError, match=problem):
        start_of(path, pattern=StartPattern(pattern, ZoneInfo("Europe/Berlin")))


def test_a_clock_that_is_a_little_ahead_and_a_film_of_the_nineties_are_believed(tmp_path: Path) -> None:
    ahead = datetime.now(UTC) + timedelta(hours=20)
    assert time_in_name(f"{ahead:%Y%m%d_%H%M%S}.mp4") == ahead.replace(microsecond=0)
    assert time_in_name(f"{ahead + timedelta(days=2):%Y%m%d_%H%M%S}.mp4") is None
    assert time_in_name("19930917_120000.mp4") == datetime(1993, 9, 17, 12, tzinfo=UTC)


def test_a_files_date_that_is_none_is_an_error(tmp_path: Path) -> None:
    (path := tmp_path / "a.mp4").touch()
    with pytest.raises(ValueError, match="has a date that cannot be"):
        start_of(path, duration_seconds=1e12)
