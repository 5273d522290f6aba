"""When a recording began: from the config, the file's name, the container, or the file's date, in that order."""

import re
from contextlib import suppress
from datetime import UTC, datetime, timedelta, tzinfo
from pathlib import Path

from pipeline.frame import TimeSource
from pipeline.start_pattern import StartPattern

_EARLIEST = datetime(1990, 1, 1, tzinfo=UTC)  # of a recording whose time nobody has configured
_AHEAD = timedelta(days=1)  # of this machine's clock, for a camera's may be wrong, and its zone too
# 20260920T221403Z, 20260920-221403, 20260920221403, 2026-09-20_22-14-03, 2026-09-20T22:14:03
_IN_NAME = re.compile(r"(?<!\d)(\d{4})-?(\d{2})-?(\d{2})[T_ -]?(\d{2})[:-]?(\d{2})[:-]?(\d{2})(Z?)(?!\d)")


def start_of(
    path: Path,
    *,
    configured: datetime | None = None,
    pattern: StartPattern | None = None,
    creation_time: str | None = None,
    zone: tzinfo = UTC,
    duration_seconds: float = 0.0,
) -> tuple[datetime, TimeSource]:
    """Find the capture time of the first frame.

    Args:
        path: The video, or the first image.
        configured: From the config, timezone-aware; it wins.
        pattern: From the config; of the file's name.
        creation_time: The container's metadata field of that name.
        zone: Of times in names, and of the container, that do not say theirs.
        duration_seconds: Of the recording: a file's date is that of its end.

    Returns:
        The time in UTC, and where it came from.

    Raises:
        ValueError: When there is a pattern, and the name does not fit it or tells a time that cannot be; or when a
            file's date is none.
    """
    if configured is not None:
        return configured.astimezone(UTC), TimeSource.CONFIGURED_START
    if pattern is not None:
        if (found := pattern.time_in(path.name)) is None:
            raise ValueError(f"the name of {path} does not fit start_pattern {pattern}")
        if not _can_be(found):
            raise ValueError(
                f"by start_pattern {pattern}, the name of {path} tells {found.isoformat()}; expected a time from "
                f"{_EARLIEST.year} to now"
            )
        return found, TimeSource.FILE_NAME
    if named := time_in_name(path.name, zone):
        return named, TimeSource.FILE_NAME
    if created := _created(creation_time, zone):
        return created, TimeSource.CONTAINER
    try:
        ended = datetime.fromtimestamp(path.stat().st_mtime, UTC)
        return ended - timedelta(seconds=duration_seconds), TimeSource.FILE_MODIFIED
    except OverflowError:
        raise ValueError(f"{path} has a date that cannot be: {path.stat().st_mtime:g} s since 1970") from None


def _created(text: str | None, zone: tzinfo) -> datetime | None:
    """As the container says; None where it does not, or says what cannot be (1904, 1970: a clock that was not set)."""
    with suppress(ValueError, OverflowError):
        created = datetime.fromisoformat(text or "")
        created = (created if created.tzinfo else created.replace(tzinfo=zone)).astimezone(UTC)
        return created if _can_be(created) else None
    return None


def _can_be(moment: datetime) -> bool:
    return _EARLIEST <= moment <= datetime.now(UTC) + _AHEAD


def time_in_name(name: str, zone: tzinfo = UTC) -> datetime | None:
    """Find the first date with a time in a file's name; None where there is none that can be.

    Args:
        name: Of the file.
        zone: Of a time that has no ``Z`` behind it.

    Returns:
        The time in UTC.
    """
    for match in _IN_NAME.finditer(name):
        with suppress(ValueError, OverflowError):
            year, month, day, hour, minute, second = map(int, match.groups()[:6])
            found = datetime(year, month, day, hour, minute, second, tzinfo=UTC if match[7] else zone)
            if _can_be(found.astimezone(UTC)):
                return found.astimezone(UTC)
    return None
