"""Which frame of a video file is which, told by its packets: nothing is decoded for it."""

from collections import OrderedDict
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from dataclasses import dataclass
from fractions import Fraction
from heapq import heappop, heappush
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from av.packet import Packet
from numpy.typing import NDArray

from pipeline.sources.base import SourceAccount
from pipeline.sources.timeline import PresentationClock


@dataclass(frozen=True, slots=True, eq=False)
class FrameTable:
    """Where each frame of a file is.

    Attributes:
        ticks: Of each frame, int64, ascending; its place is the frame's index.
        seconds: Of each frame, float64, since the first.
        keys: Ticks of frames that can be decoded without others, int64, ascending.
        decoding: When those are decoded, int64: what containers without an index are searched by.
    """

    ticks: NDArray[np.int64]
    seconds: NDArray[np.float64]
    keys: NDArray[np.int64]
    decoding: NDArray[np.int64]

    def key_before(self, seconds: float) -> tuple[int, int]:
        """The last such frame that is not after a moment: its ticks, and when it is decoded."""
        place = max(int(np.searchsorted(self.seconds, seconds, "right")) - 1, 0)
        key = max(int(np.searchsorted(self.keys, self.ticks[place], "right")) - 1, 0)
        return int(self.keys[key]), int(self.decoding[key])

    def index_of(self, ticks: int) -> int | None:
        """The index of a frame; None where there is none."""
        place = int(np.searchsorted(self.ticks, ticks))
        return place if place < len(self.ticks) and self.ticks[place] == ticks else None


def read_table(packets: "Iterable[Packet[Any]]", time_base: Fraction) -> FrameTable | None:
    """The table of all packets of a file; None where frames cannot be told by them."""
    ticks: list[int] = []
    keys: list[tuple[int, int]] = []
    last: int | None = None
    for packet in packets:
        if not packet.size:
            continue
        if packet.pts is None or packet.is_discard or packet.is_corrupt or not _follows(packet, last):
            return None
        last = packet.dts if packet.dts is not None else last
        ticks.append(packet.pts)
        if packet.is_keyframe:
            keys.append((packet.pts, packet.pts if packet.dts is None else packet.dts))
    if not keys or len(set(ticks)) < len(ticks):
        return None
    ordered = np.sort(np.array(ticks, np.int64))
    clock = PresentationClock(SourceAccount())
    seconds = [clock.advance(float(each * time_base)) for each in ordered.tolist()]
    if None in seconds:
        return None
    shown, decoding = np.array(sorted(keys), np.int64).T
    return FrameTable(ordered, np.array(seconds, np.float64), shown, decoding)


class FrameTables:
    """The tables of the files that were last asked for: to make one, all of a file is read, but not decoded.

    A file that changed since, by its size or date, gets a new one. May be used from any thread; those who ask for the
    same file at a time wait for one table.
    """

    def __init__(self, most: int = 8) -> None:
        self._most = most
        self._kept: OrderedDict[tuple[Path, int, int], Future[FrameTable | None]] = OrderedDict()
        self._lock = Lock()

    def of(self, path: Path, make: Callable[[], FrameTable | None]) -> FrameTable | None:
        """The table of a file; ``make`` reads it where it is not known, and what that raises is not remembered."""
        found = path.stat()
        key = path.absolute(), found.st_mtime_ns, found.st_size
        with self._lock:
            kept = self._kept.get(key)
            mine = self._kept.setdefault(key, Future())
            self._kept.move_to_end(key)
            while len(self._kept) > self._most:
                self._kept.popitem(last=False)
        if kept is not None:
            return kept.result()
        try:
            mine.set_result(make())
        except BaseException as error:
            mine.set_exception(error)
            with self._lock:
                self._kept.pop(key, None)
            raise
        return mine.result()


def _follows(packet: "Packet[Any]", last: int | None) -> bool:
    """Whether a packet is not to be decoded before the one that came before it: the times of a file may turn back."""
    return packet.dts is None or last is None or packet.dts >= last


class FrameNumbers:
    """Numbers pictures as the table of their file does, while it is read: one that cannot be decoded leaves a gap.

    Where packets have no times, or the times turn back, pictures are counted as they come.
    """

    def __init__(self) -> None:
        self._waiting: list[int] = []  # a heap: ticks of packets whose picture has not come
        self._next = 0
        self._by_time = True
        self._last: int | None = None

    def saw(self, packet: "Packet[Any]") -> None:
        """A packet is about to be decoded."""
        if not packet.size or packet.is_discard:
            return
        if packet.pts is None or not _follows(packet, self._last):
            self._by_time = False
            self._waiting.clear()
        elif self._by_time:
            self._last = packet.dts if packet.dts is not None else self._last
            heappush(self._waiting, packet.pts)

    def lose(self) -> int:
        """The number of a packet that gives no picture; where pictures have times, near it."""
        number = self._next
        self._next += not self._by_time
        return number

    def take(self, ticks: int | None) -> tuple[int, list[int]]:
        """The number of a picture, and the ticks of those that should have come before it and did not."""
        lost: list[int] = []
        while ticks is not None and self._waiting and self._waiting[0] < ticks:
            lost.append(heappop(self._waiting))
        if self._waiting and self._waiting[0] == ticks:
            heappop(self._waiting)
        number = self._next + len(lost)
        self._next = number + 1
        return number, lost
