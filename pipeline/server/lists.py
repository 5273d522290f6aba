"""Lists that come page by page: where the next one begins goes out as a text that means nothing to the one who asks."""

import base64
import binascii
import json
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

from pipeline.server.problems import ProblemError


def cursor_of(*place: int | str) -> str:
    """Where the next page begins, as text."""
    return base64.urlsafe_b64encode(json.dumps(place).encode()).decode().rstrip("=")


def place_of(cursor: str | None, *kinds: type) -> Sequence[Any] | None:
    """What `cursor_of` made a text of; None for the first page.

    Args:
        cursor: As it came.
        kinds: Of its parts, int or str.

    Raises:
        ProblemError: 400, when `cursor_of` did not make it.
    """
    if cursor is None:
        return None
    try:
        place = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    except (binascii.Error, ValueError, RecursionError):
        place = None
    if not isinstance(place, list) or [type(each) for each in place] != list(kinds):
        raise ProblemError(HTTPStatus.BAD_REQUEST, "cursor must be what the page before gave as next")
    if any(isinstance(each, int) and abs(each) >= 2**63 for each in place):
        raise ProblemError(HTTPStatus.BAD_REQUEST, "cursor must be what the page before gave as next")
    return place
