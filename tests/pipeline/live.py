"""A live camera for tests: frames on a plan of seconds, given out at those seconds of real time, until closed."""

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import numpy as np

from pipeline.errors import ErrorCode
from pipeline.frame import Frame, Image, TimeSource
from pipeline.sources.base import SourceAccount, SourceInfo, SourceState
from reid.modality import Modality


def grey(index: int) -> Image:
    """An image of nobody."""
    return np.full((48, 64, 3), 90, np.uint8)


@dataclass
class LiveCamera:
    """``fps`` frames a second from ``starts_at`` on; ``outages`` are (first, last) seconds without any.

    With ``count``, it waits in silence after so many frames, as a camera does that stands still, until closed.
    """

    camera_id: str
    fps: float = 50.0
    count: int | None = None
    outages: tuple[tuple[float, float], ...] = ()
    modality: Modality = Modality.RGB
    picture: Callable[[int], Image] = grey
    live: bool = True
    account: SourceAccount = field(default_factory=SourceAccount)
    info: SourceInfo | None = None
    closed: threading.Event = field(default_factory=threading.Event)

    def probe(self) -> SourceInfo:
        raise NotImplementedError

    def close(self) -> None:
        self.closed.set()

    def __iter__(self) -> Iterator[Frame]:
        started, began_at = time.monotonic(), datetime.now(UTC)
        self.account.connected()
        index = 0
        while self.count is None or index < self.count:
            seconds = index / self.fps
            if self.closed.wait(max(0.0, started + seconds - time.monotonic())):
                break
            outage = any(first <= seconds < last for first, last in self.outages)
            self._tell(outage)
            if not outage:
                self.account.give()
                moment = began_at + timedelta(seconds=seconds)
                yield Frame(
                    self.picture(index), self.camera_id, self.modality, index, seconds, moment, TimeSource.ARRIVAL
                )
            index += 1
        self.closed.wait()
        self.account.enter(SourceState.ENDED)

    def _tell(self, outage: bool) -> None:
        if outage and self.account.enter(SourceState.RECONNECTING):
            self.account.trouble("the cable is out", ErrorCode.STREAM_CLOSED)
        elif not outage and self.account.enter(SourceState.RUNNING) and self.account.error:
            self.account.connected()
