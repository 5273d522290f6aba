"""When a recording began: from the config, the file's name, the container, or the file's date, in that order."""

import re
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from pipeline.frame import TimeSource
from pipeline.start_pattern import StartPattern

# 20260920T221403Z, 20260920-221403, 2026-09-20_22-14-03, 2026-09-20T22:14:03; without a zone it is taken for UTC.
_IN_NAME = re.compile(r"(?<!\d)(\d{4})-?(\d{2})-?(\d{2})[T_ -](\d{2})[:-]?(\d{2})[:-]?(\d{2})Z?(?!\d)")


def start_of(
    path: Path,
    *,
    configured: datetime | None = None,
    pattern: StartPattern | None = None,
    creation_time: str | None = None,
) -> tuple[datetime, TimeSource]:
    """Find the capture time of the first frame.

    Args:
        path: The video, or the first image.
        configured: From the config, timezone-aware; it wins.
        pattern: From the config; of the file's name.
        creation_time: The container's metadata field of that name.

    Returns:
        The time in UTC, and where it came from.

    Raises:
        ValueError: When there is a pattern and the name does not fit it.
    """
    if configured is not None:
        return configured.astimezone(UTC), TimeSource.CONFIGURED_START
    if pattern is not None:
        if (found := pattern.time_in(path.name)) is None:
            raise ValueError(f"the name of {path} does not fit start_pattern {pattern}")
        return found, TimeSource.FILE_NAME
    if named := time_in_name(path.name):
        return named, TimeSource.FILE_NAME
    if creation_time:
        with suppress(ValueError):
            created = datetime.fromisoformat(creation_time)
            return (created if created.tzinfo else created.replace(tzinfo=UTC)).astimezone(UTC), TimeSource.CONTAINER
    return datetime.fromtimestamp(path.stat().st_mtime, UTC), TimeSource.FILE_MODIFIED


def time_in_name(name: str) -> datetime | None:
    """Find a date with a time in a file's name; UTC. None where there is none, or an impossible one."""
    if match := _IN_NAME.search(name):
        with suppress(ValueError):
            year, month, day, hour, minute, second = map(int, match.groups())
            return datetime(year, month, day, hour, minute, second, tzinfo=UTC)
    return None
