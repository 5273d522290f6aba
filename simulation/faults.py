"""What goes wrong with a camera, on a plan: a proxy between server and client that understands RTSP's packets.

Over TCP, RTSP sends RTP and RTCP packets between its own messages, each with a length; so a fault is exact to the
packet, and the sender reports, by which a camera tells the time, can be made to tell a wrong one.
"""

import asyncio
import struct
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from random import Random
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from simulation.config import Positive, Section, Share

_SENDER_REPORT = 200
_NTP_UNITS = 2**32
_CLOCK_RATE = 90_000  # of video in RTP

Kind = Literal[
    "kill", "freeze", "drop", "duplicate", "reorder", "corrupt", "clock_jump", "timestamp_jump", "skew", "drift"
]
_PACKET_FAULTS: tuple[Kind, ...] = ("drop", "duplicate", "reorder", "corrupt")


class Fault(Section):
    """One thing that goes wrong.

    Attributes:
        camera: With which camera; None for all.
        kind: kill: the server is killed, and nobody listens until it is started again; freeze: nothing comes through;
            drop, duplicate, reorder (with the next), corrupt: RTP packets; clock_jump: the camera's clock leaps by so
            many seconds, once; timestamp_jump: the stream's timestamps leap; skew: the camera's clock is off by so many
            seconds; drift: its clock and its timestamps run faster by this share.
        at_seconds: When it begins, after the start.
        for_seconds: How long it lasts; of a kill, until the server is there again.
        every_seconds: It comes again so long after it began; None for once.
        share: Of the packets.
        by: Seconds, or a share for drift.
    """

    camera: str | None = None
    kind: Kind
    at_seconds: Annotated[float, Field(ge=0)] = 0.0
    for_seconds: Positive = 1.0
    every_seconds: Positive | None = None
    share: Share = 1.0
    by: float = 0.0

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.every_seconds is not None and self.every_seconds <= self.for_seconds:
            raise ValueError(f"every_seconds ({self.every_seconds:g}) must exceed for_seconds ({self.for_seconds:g})")
        if self.kind in ("clock_jump", "timestamp_jump", "skew", "drift") and not self.by:
            raise ValueError(f"{self.kind} needs by: how much")
        if self.kind == "drift" and not abs(self.by) < 0.5:
            raise ValueError(f"by of a drift is a share, such as 0.005, got {self.by:g}")
        return self

    def active(self, seconds: float) -> bool:
        """Whether it is going on."""
        since = seconds - self.at_seconds
        if since < 0:
            return False
        if self.kind in ("skew", "drift"):
            return True
        return (since % self.every_seconds if self.every_seconds else since) < self.for_seconds

    def times(self, seconds: float) -> int:
        """How often it has begun."""
        since = seconds - self.at_seconds
        if since < 0:
            return 0
        return 1 + int(since // self.every_seconds) if self.every_seconds else 1


class FaultPlan(Section):
    """All that goes wrong.

    Attributes:
        seed: Of which packets.
        faults: In any order.
    """

    seed: int = 0
    faults: tuple[Fault, ...] = ()

    def cameras(self) -> set[str]:
        """Whom it names."""
        return {each.camera for each in self.faults if each.camera is not None}

    def of(self, camera: str) -> "CameraFaults":
        """Those of one camera."""
        mine = [each for each in self.faults if each.camera in (None, camera)]
        return CameraFaults(mine, Random(f"{self.seed} {camera}"))  # noqa: S311 (not a secret)


@dataclass
class CameraFaults:
    """What is wrong with one camera, and how often it was.

    Attributes:
        counts: Packets and frames that came through, and packets by fault.
    """

    faults: Sequence[Fault]
    random: Random
    counts: Counter[str] = field(default_factory=Counter)

    def active(self, kind: Kind, seconds: float) -> Fault | None:
        """The first fault of a kind that is going on."""
        return next((each for each in self.faults if each.kind == kind and each.active(seconds)), None)

    def packet_fault(self, seconds: float) -> Kind | None:
        """What happens to the next packet."""
        for kind in _PACKET_FAULTS:
            fault = self.active(kind, seconds)
            if fault is not None and self.random.random() < fault.share:
                return fault.kind
        return None

    def clock_error(self, seconds: float) -> float:
        """Seconds that the camera's clock is ahead."""
        error = 0.0
        for each in self.faults:
            if each.kind == "clock_jump":
                error += each.by * each.times(seconds)
            elif each.kind == "skew" and each.active(seconds):
                error += each.by
            elif each.kind == "drift" and each.active(seconds):
                error += each.by * (seconds - each.at_seconds)
        return error

    def timestamp_error(self, seconds: float) -> float:
        """Seconds that the stream's timestamps are ahead."""
        error = 0.0
        for each in self.faults:
            if each.kind == "timestamp_jump":
                error += each.by * each.times(seconds)
            elif each.kind == "drift" and each.active(seconds):
                error += each.by * (seconds - each.at_seconds)
        return error


class Tampering:
    """Changes the packets of one connection."""

    def __init__(self, faults: CameraFaults, clock: Callable[[], float]) -> None:
        """``clock`` gives seconds since the start of the plan."""
        self._faults = faults
        self._clock = clock
        self._held: bytes | None = None

    def of(self, channel: int, packet: bytes) -> list[bytes]:
        """What to send instead of a packet: itself, nothing, or more."""
        seconds = self._clock()
        if channel % 2:
            return [_report_shifted(packet, self._faults.clock_error(seconds), self._faults.timestamp_error(seconds))]
        return self._of_rtp(_timestamp_shifted(packet, self._faults.timestamp_error(seconds)), seconds)

    def _of_rtp(self, packet: bytes, seconds: float) -> list[bytes]:
        counts, fault = self._faults.counts, self._faults.packet_fault(seconds)
        if fault:
            counts[fault] += 1
        out = [packet]
        if fault == "drop":
            out = []
        elif fault == "duplicate":
            out = [packet, packet]
        elif fault == "corrupt":
            out = [self._corrupted(packet)]
        elif fault == "reorder" and self._held is None:
            self._held = packet
            return []
        if self._held is not None:
            out, self._held = [*out, self._held], None
        counts["packets"] += len(out)
        counts["frames"] += sum(bool(each[1] & 0x80) for each in out)
        return out

    def _corrupted(self, packet: bytes) -> bytes:
        """A tenth of the payload is noise; the header stays."""
        data = bytearray(packet)
        for _ in range(max(1, (len(data) - 12) // 10)):
            data[self._faults.random.randrange(12, len(data))] = self._faults.random.randrange(256)
        return bytes(data)


def _timestamp_shifted(packet: bytes, seconds: float) -> bytes:
    if not seconds or len(packet) < 12:
        return packet
    (stamp,) = struct.unpack_from(">I", packet, 4)
    return packet[:4] + struct.pack(">I", (stamp + round(seconds * _CLOCK_RATE)) % 2**32) + packet[8:]


def _report_shifted(packet: bytes, clock: float, timestamp: float) -> bytes:
    """An RTCP sender report whose clock and timestamp are ahead by so many seconds."""
    if len(packet) < 28 or packet[1] != _SENDER_REPORT or not (clock or timestamp):
        return packet
    ntp, stamp = struct.unpack_from(">QI", packet, 8)
    ntp = (ntp + round(clock * _NTP_UNITS)) % 2**64
    stamp = (stamp + round(timestamp * _CLOCK_RATE)) % 2**32
    return packet[:8] + struct.pack(">QI", ntp, stamp) + packet[20:]


class Proxy:
    """Listens for clients and passes their connections on to a server, with faults."""

    def __init__(
        self, faults: CameraFaults, *, port: int, server_port: Callable[[], int | None], encrypted: bool = False
    ) -> None:
        """Nothing is opened yet.

        Args:
            faults: What goes wrong.
            port: To listen on; 0 for any.
            server_port: Gives the server's port, or None while it is dead.
            encrypted: Whether nothing can be read of what passes; packets then have no faults.
        """
        self.port = port
        self._encrypted = encrypted
        self._faults = faults
        self._server_port = server_port
        self._listener: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._began = 0.0

    @property
    def seconds(self) -> float:
        """Since the plan began."""
        return asyncio.get_running_loop().time() - self._began

    async def open(self, *, began: float) -> None:
        """Listen; ``began`` is the loop's time at which the plan began."""
        self._began = began
        self._listener = await asyncio.start_server(self._serve, "127.0.0.1", self.port, limit=2**20)
        self.port = self._listener.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """Cut all connections off, and listen no more."""
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        for writer in list(self._writers):
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        port = self._server_port()
        self._writers.add(writer)
        try:
            if port is None:
                return
            from_server, to_server = await asyncio.open_connection("127.0.0.1", port, limit=2**20)
            self._writers.add(to_server)
            try:
                back = self._pass_on if self._encrypted else self._tamper
                await _first_ended(self._pass_on(reader, to_server), back(from_server, writer))
            finally:
                self._writers.discard(to_server)
                to_server.transport.abort()
        except (OSError, asyncio.CancelledError):
            pass  # the server died, the client went away, or all is over: the connections' end tells the others
        finally:
            self._writers.discard(writer)
            writer.close()

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()

    async def _tamper(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tampering = Tampering(self._faults, lambda: self.seconds)
        with suppress(asyncio.IncompleteReadError):
            while True:
                while self._faults.active("freeze", self.seconds):
                    await asyncio.sleep(0.02)
                first = await reader.readexactly(1)
                if first == b"$":
                    header = await reader.readexactly(3)
                    packet = await reader.readexactly(int.from_bytes(header[1:], "big"))
                    for each in tampering.of(header[0], packet):
                        writer.write(b"$" + header[:1] + len(each).to_bytes(2, "big") + each)
                else:
                    writer.write(first + await _message(reader))
                await writer.drain()


async def _message(reader: asyncio.StreamReader) -> bytes:
    """The rest of an RTSP message: its head, and as much of a body as the head says."""
    head = await reader.readuntil(b"\r\n\r\n")
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return head + await reader.readexactly(int(line.split(b":")[1]))
    return head


async def _first_ended(*jobs: Awaitable[None]) -> None:
    """Wait for the first to end, and end the others."""
    tasks = [asyncio.ensure_future(job) for job in jobs]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
