"""What every source of frames is, and the account it keeps."""

import logging
from collections import Counter
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from threading import Lock
from typing import Protocol

from pipeline.errors import ErrorCode, SourceError
from pipeline.frame import Frame, TimeSource
from reid.modality import Modality

logger = logging.getLogger(__name__)

LEAST_SIDE_PX = 32
_MOST_EXAMPLES = 3  # of each cause, for the message


class SourceState(StrEnum):
    """Where a source is in its life. A recording starts, runs, may stall, and ends or fails."""

    STARTING = "starting"  # nothing came yet
    RUNNING = "running"
    STALLED = "stalled"  # connected or open, but no frame for longer than it should take, or none that can be processed
    RECONNECTING = "reconnecting"
    FAILED = "failed"  # it will give no more, though it should
    ENDED = "ended"
    DISABLED = "disabled"  # nobody reads it, by choice


@dataclass(frozen=True, slots=True)
class SourceInfo:
    """What a source is, known without reading all of it.

    Attributes:
        resolution_wh: Width and height in pixels.
        fps: Nominal frames a second.
        frames: Expected number of frames; None where the container does not say, and of live sources.
        bit_depth: Of one channel, 8 or 16.
        start: Capture time of the first frame, UTC.
        time_source: Where that came from.
        decoder: What decodes it, and where: ``h264 on the CPU``; None for images.
    """

    resolution_wh: tuple[int, int]
    fps: float
    frames: int | None
    bit_depth: int
    start: datetime
    time_source: TimeSource
    decoder: str | None = None


@dataclass(slots=True)
class ClockAccount:
    """How often a camera's clock was not what a clock should be.

    Attributes:
        jumps: Its capture time leapt against this machine's clock.
        gaps: Times that several frames should have had, and none came.
        duplicates: Frames with the time of the frame before; not given out.
        backwards: Frames with a time before that of the frame before.
        machine_set: This machine's own clock was set by more than a second.
    """

    jumps: int = 0
    gaps: int = 0
    duplicates: int = 0
    backwards: int = 0
    machine_set: int = 0


@dataclass(slots=True)
class SourceAccount:
    """What became of a source's frames: nothing is lost without a cause. Grows while the source is read.

    All methods may be called from any thread. ``decoded`` = processed + ``dropped`` + those on the way to be processed;
    ``skipped`` come on top.

    Attributes:
        decoded: Frames given out.
        skipped: Frames never given out, by cause (damaged, of another size): the source counts them.
        dropped: Frames given out but not processed, by cause (too old, above the target rate): who takes them counts.
        examples: The first few skipped ones, by cause, as people would name them.
        expected: Frames the container or folder promises; None where it does not say.
        state: Where the source is in its life.
        error: The trouble, in words: why it failed; of a live source that came back, the last there was. None if never.
        error_code: The same for machines.
        error_at: When that was.
        connects: How often a live source was connected; 1 without any trouble.
        failed_connects: How often a live source could not be.
        clock: What its clock did.
    """

    decoded: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    dropped: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[str]] = field(default_factory=dict)
    expected: int | None = None
    state: SourceState = SourceState.STARTING
    error: str | None = None
    error_code: ErrorCode | None = None
    error_at: datetime | None = None
    connects: int = 0
    failed_connects: int = 0
    clock: ClockAccount = field(default_factory=ClockAccount)
    _lock: Lock = field(default_factory=Lock, repr=False, compare=False)

    @property
    def reconnects(self) -> int:
        """How often the source came back."""
        return max(self.connects - 1, 0)

    def give(self) -> None:
        """Count a frame that is given out."""
        with self._lock:
            self.decoded += 1

    def skip(self, cause: str, what: str) -> None:
        """Count a frame that is not given out; ``what`` names it (a file, the number of a frame)."""
        with self._lock:
            self.skipped[cause] += 1
            known = self.examples.setdefault(cause, [])
            if len(known) < _MOST_EXAMPLES:
                known.append(what)
        logger.debug("skipped: %s: %s", what, cause)

    def drop(self, cause: str, count: int = 1) -> None:
        """Count frames that were given out and will not be processed."""
        with self._lock:
            self.dropped[cause] += count

    def enter(self, state: SourceState) -> bool:
        """Note a change of state; False when it is no change, or the source has ended or failed for good."""
        with self._lock:
            if self.state in (state, SourceState.ENDED, SourceState.FAILED):
                return False
            self.state = state
            return True

    def connected(self) -> None:
        """Count a connection."""
        with self._lock:
            self.connects += 1

    def trouble(self, error: str, code: ErrorCode, *, connecting: bool = False) -> None:
        """Note what is wrong with a source that goes on trying."""
        with self._lock:
            self.error, self.error_code, self.error_at = error, code, datetime.now(UTC)
            self.failed_connects += connecting

    def fail(self, error: str, code: ErrorCode = ErrorCode.SOURCE_FAULT) -> None:
        """Note the first error; what was decoded stays counted."""
        with self._lock:
            if self.state is not SourceState.FAILED:
                self.error, self.error_code, self.error_at = error, code, datetime.now(UTC)
            self.state = SourceState.FAILED

    def clock_event(self, kind: str) -> None:
        """Count one of ``ClockAccount``'s kinds."""
        with self._lock:
            setattr(self.clock, kind, getattr(self.clock, kind) + 1)

    def snapshot(self) -> "SourceAccount":
        """A copy of one moment."""
        with self._lock:
            return SourceAccount(
                **{each.name: deepcopy(getattr(self, each.name)) for each in fields(self) if each.name != "_lock"}
            )


class Source(Protocol):
    """Frames of one camera, in order of time. Iterating starts from the beginning, with the account at zero.

    A live source connects when it is iterated, and again whenever the connection is lost, until it is closed. Nothing
    that a network does is raised from the iteration; ``account`` tells the state.
    """

    @property
    def camera_id(self) -> str:
        """Which camera."""
        ...

    @property
    def modality(self) -> Modality:
        """What it measures."""
        ...

    @property
    def live(self) -> bool:
        """Whether frames come as they are taken; recordings wait to be read."""
        ...

    @property
    def account(self) -> SourceAccount:
        """Of the current or last iteration."""
        ...

    @property
    def info(self) -> SourceInfo | None:
        """As last probed or connected; None until then."""
        ...

    def probe(self) -> SourceInfo:
        """Open it and decode one frame. Of a live source, no run depends on it: a camera may be down at the start.

        Raises:
            SourceError: When that is not possible; the message names the camera, the file or address, and the cause.
        """
        ...

    def close(self) -> None:
        """End the iteration for good, within a second also when it waits for a network. From any thread."""
        ...

    def __iter__(self) -> Iterator[Frame]:
        """Decode. A recording that breaks off ends, with ``account.state`` failed.

        Raises:
            SourceError: When a recording cannot be opened at all.
        """
        ...


def check_size(camera_id: str, path: Path | str, resolution_wh: tuple[int, int]) -> None:
    """Refuse images in which no person can be seen.

    Raises:
        SourceError: When a side is shorter than 32 pixels.
    """
    if min(resolution_wh) < LEAST_SIDE_PX:
        width, height = resolution_wh
        raise SourceError(
            f"camera {camera_id}: {path} is {width}x{height} pixels; at least {LEAST_SIDE_PX} a side are needed",
            ErrorCode.IMAGE_TOO_SMALL,
        )
