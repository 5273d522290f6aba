"""What every source of frames is, and the account it keeps."""

import logging
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Protocol

from pipeline.errors import SourceError
from pipeline.frame import Frame, TimeSource
from reid.modality import Modality

logger = logging.getLogger(__name__)

LEAST_SIDE_PX = 32
_MOST_EXAMPLES = 3  # of each cause, for the message


class SourceState(StrEnum):
    """Where a source is in its life."""

    STARTING = "starting"
    RUNNING = "running"
    ENDED = "ended"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class SourceInfo:
    """What a source is, known without reading all of it.

    Attributes:
        resolution_wh: Width and height in pixels.
        fps: Nominal frames a second.
        frames: Expected number of frames; None where the container does not say.
        bit_depth: Of one channel, 8 or 16.
        start: Capture time of the first frame, UTC.
        time_source: Where that came from.
    """

    resolution_wh: tuple[int, int]
    fps: float
    frames: int | None
    bit_depth: int
    start: datetime
    time_source: TimeSource


@dataclass(slots=True)
class SourceAccount:
    """What became of a source's frames: nothing is lost without a cause. Grows while the source is read.

    Attributes:
        decoded: Frames given out.
        skipped: Frames not given out, by cause.
        examples: The first few of them, by cause, as people would name them.
        expected: Frames the container or folder promises; None where it does not say.
        state: Where the source is in its life.
        error: Why it failed; None otherwise.
    """

    decoded: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[str]] = field(default_factory=dict)
    expected: int | None = None
    state: SourceState = SourceState.STARTING
    error: str | None = None

    def skip(self, cause: str, what: str) -> None:
        """Count a frame that is not given out; ``what`` names it (a file, the number of a frame)."""
        self.skipped[cause] += 1
        known = self.examples.setdefault(cause, [])
        if len(known) < _MOST_EXAMPLES:
            known.append(what)
        logger.debug("skipped: %s: %s", what, cause)

    def fail(self, error: str) -> None:
        """Note the first error; what was decoded stays counted."""
        self.state = SourceState.FAILED
        self.error = self.error or error


class Source(Protocol):
    """Frames of one camera, in order of time. Iterating starts from the beginning, with the account at zero."""

    @property
    def camera_id(self) -> str:
        """Which camera."""
        ...

    @property
    def modality(self) -> Modality:
        """What it measures."""
        ...

    @property
    def account(self) -> SourceAccount:
        """Of the current or last iteration."""
        ...

    def probe(self) -> SourceInfo:
        """Open it and decode one frame.

        Raises:
            SourceError: When that is not possible; the message names the camera, the file and the cause.
        """
        ...

    def __iter__(self) -> Iterator[Frame]:
        """Decode. A source that breaks off ends, with ``account.state`` failed.

        Raises:
            SourceError: When it cannot be opened at all.
        """
        ...


def check_size(camera_id: str, path: Path, resolution_wh: tuple[int, int]) -> None:
    """Refuse images in which no person can be seen.

    Raises:
        SourceError: When a side is shorter than 32 pixels.
    """
    if min(resolution_wh) < LEAST_SIDE_PX:
        width, height = resolution_wh
        raise SourceError(
            f"camera {camera_id}: {path} is {width}x{height} pixels; at least {LEAST_SIDE_PX} a side are needed"
        )
