"""When a recording began: from the config, the file's name, the container, or the file's date, in that order."""

import re
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from pipeline.frame import TimeSource

# 20260920T221403Z, 20260920-221403, 2026-09-20_22-14-03, 2026-09-20T22:14:03; without a zone it is taken for UTC.
_IN_NAME = re.compile(r"(?<!\d)(\d{4})-?(\d{2})-?(\d{2})[T_ -](\d{2})[:-]?(\d{2})[:-]?(\d{2})Z?(?!\d)")


def start_of(
    path: Path, *, configured: datetime | None = None, creation_time: str | None = None
) -> tuple[datetime, TimeSource]:
    """Find the capture time of the first frame.

    Args:
        path: The video, or the first image.
        configured: From the config, timezone-aware; it wins.
        creation_time: The container's metadata field of that name.

    Returns:
        The time in UTC, and where it came from.
    """
    if configured is not None:
        return configured.astimezone(UTC), TimeSource.CONFIGURED_START
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
