"""One connection to a live stream, read in a thread of its own so that nothing can block whoever wants the frames.

FFmpeg is asked to give up after the timeouts; where it does not (a name server or a device that hangs), the connection
is abandoned, and ends by itself once FFmpeg comes back; see ``LiveSource`` for one that never does.
"""

import logging
import os
import socket
import ssl
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from threading import Condition, Event, Lock, Thread
from typing import Any
from urllib.parse import urlsplit

import av
import av.logging
from av.codec import CodecContext
from av.codec.hwaccel import HWAccel
from av.container import InputContainer
from av.packet import Packet
from av.video.stream import VideoStream

from pipeline.address import hide_secrets, is_device, scheme_of, without_secrets
from pipeline.errors import ErrorCode, SourceError
from pipeline.sources.losses import missed_packets
from pipeline.sources.pictures import has_decoder
from pipeline.sources.timeline import Arrival

logger = logging.getLogger(__name__)

# FFmpeg's log is heard for what it says of lost packets; nobody else is told any of it.
av.logging.set_level(av.logging.WARNING)
av.logging.set_skip_repeated(False)
logging.getLogger("libav").setLevel(logging.CRITICAL + 1)

_NONBLOCKING = "+4"  # AVFMT_FLAG_NONBLOCK, which has no name: a device that gives nothing blocks nobody
_NOT_READY_SECONDS = 0.005  # between two looks at a device that has no frame yet
_WITHOUT_TIMES = frozenset({"mpjpeg", "mjpeg", "image2pipe", "jpeg_pipe"})  # formats, for which FFmpeg invents some
_ENCRYPTED = {"rtsps": 322, "https": 443}  # with their usual ports
_ASK_SECONDS = 2.0
_ENCODE = "percent-encode special characters in its user and password, such as # as %23"
_ACCELERATORS = {"cuda": "/dev/nvidia0", "vaapi": "/dev/dri/renderD128", "videotoolbox": "/System/Library"}
_OF_THE_NETWORK = (ConnectionError, TimeoutError, av.error.ExitError, av.error.HTTPError, av.error.HTTPClientError)
_TRYING = Lock()  # accelerators: many connections begin at once, and one line in the log is enough
_MOST_PACKETS = 256
_MOST_BEHIND_SECONDS = 2.0  # of undecoded packets without a key frame; then all are dropped up to the next one
_CODES: tuple[tuple[type[Exception], ErrorCode, str], ...] = (
    (av.error.BlockingIOError, ErrorCode.DEVICE_BUSY, "another program uses it"),
    (
        av.error.HTTPUnauthorizedError,
        ErrorCode.STREAM_AUTH_FAILED,
        "wrong or missing user name or password, or a digest other than MD5, which FFmpeg has not",
    ),
    (av.error.HTTPForbiddenError, ErrorCode.STREAM_AUTH_FAILED, "access is forbidden to this user"),
    (av.error.HTTPNotFoundError, ErrorCode.STREAM_NOT_FOUND, "the server has no such stream"),
    (av.error.HTTPTooManyRequestsError, ErrorCode.STREAM_INVALID, "the server refuses: too many requests"),
    (av.error.HTTPClientError, ErrorCode.STREAM_INVALID, "the server refuses"),
    (av.error.HTTPServerError, ErrorCode.STREAM_INVALID, "the server fails"),
    (av.error.ConnectionRefusedError, ErrorCode.STREAM_REFUSED, "nobody listens there"),
    (av.error.ConnectionResetError, ErrorCode.STREAM_CLOSED, "the connection was reset"),
    (av.error.BrokenPipeError, ErrorCode.STREAM_CLOSED, "the connection was closed"),
    (av.error.TimeoutError, ErrorCode.STREAM_TIMEOUT, "no answer in time"),
    (av.error.ExitError, ErrorCode.STREAM_TIMEOUT, "no answer in time"),
    (av.error.EOFError, ErrorCode.STREAM_CLOSED, "the other side ended the stream"),
    (av.error.DecoderNotFoundError, ErrorCode.STREAM_CODEC_UNSUPPORTED, "no decoder for its codec"),
    (av.error.ProtocolNotFoundError, ErrorCode.STREAM_INVALID, "FFmpeg does not know this protocol"),
    (av.error.InvalidDataError, ErrorCode.STREAM_INVALID, "what comes is no stream that FFmpeg can read"),
    (av.error.ArgumentError, ErrorCode.STREAM_INVALID, "what comes is no stream that FFmpeg can read"),
)
_ERRNO_CODES = {5: (ErrorCode.STREAM_CLOSED, "the connection broke"),
                16: (ErrorCode.DEVICE_BUSY, "another program uses it"),
                19: (ErrorCode.DEVICE_NOT_FOUND, "the device is gone"),
                101: (ErrorCode.STREAM_UNREACHABLE, "the network cannot be reached"),
                113: (ErrorCode.STREAM_UNREACHABLE, "the host cannot be reached")}  # fmt: skip


@dataclass(frozen=True, slots=True)
class StreamSettings:
    """How a live source is connected; see ``pipeline.config.StreamConfig`` for the meaning.

    Attributes:
        transport: Of RTSP, tcp or udp.
        timeout_seconds: From connecting to the first frame.
        stall_seconds: Without a frame.
        backoff_seconds: First wait.
        backoff_cap_seconds: Longest wait.
        max_clock_error_seconds: Of the camera's clock; one that is further off is not believed.
        hardware: Whether a GPU may decode.
        max_behind_seconds: Once packets wait so long to be decoded, those before the newest key frame are left out:
            their pictures would come too late.
        ca_file: Certificates that an encrypted stream's is checked against; None encrypts without knowing whom to.
    """

    transport: str = "tcp"
    timeout_seconds: float = 10.0
    stall_seconds: float = 10.0
    backoff_seconds: float = 1.0
    backoff_cap_seconds: float = 30.0
    max_clock_error_seconds: float = 5.0
    hardware: bool = True
    max_behind_seconds: float = 0.5
    ca_file: Path | None = None


@dataclass(frozen=True, slots=True)
class Received:
    """A packet with its arrival, and the stream that decodes it.

    Attributes:
        has_times: Whether the stream has times; FFmpeg invents some where it has none.
        begins_at_zero: Whether the first frame of the connection, to which FFmpeg gives no time, has the time 0.
        number: Of the packet, in this connection.
        lost_at: Number of the first packet that may be incomplete, when something was lost since the packet before.
    """

    packet: "Packet[VideoStream]"
    arrival: Arrival
    stream: VideoStream
    has_times: bool
    begins_at_zero: bool
    number: int
    lost_at: int | None = None


class Connection:
    """Packets of one connection. Use as a context: leaving it lets go of the stream, without waiting."""

    def __init__(self, source: str, settings: StreamSettings, *, raw: bool, name: str) -> None:
        """Connect, in the background.

        Args:
            source: Address or device.
            settings: How.
            raw: Whether a device is first asked for 16-bit counts.
            name: Of the camera, for the thread.
        """
        self._source = source
        self._settings = settings
        self._raw = raw
        self._received: deque[Received] = deque()
        self._changed = Condition()
        self._error: tuple[str, ErrorCode] | None = None  # the error itself would hold on to all that it went through
        self._done = False
        self._behind = self._came = False
        self._heard = time.monotonic()
        self._lost = 0
        self._released = Event()
        self.thread = Thread(target=self._run, name=f"read-{name}", daemon=True)
        self.thread.start()

    def __enter__(self) -> "Connection":
        return self

    def __exit__(self, *exception: object) -> None:
        self.release()

    def release(self) -> int:
        """Nobody wants more, and nobody decodes any more.

        Returns:
            Packets that had come, and that nobody took.
        """
        self._released.set()
        with self._changed:
            left = len(self._received)
            self._received.clear()
            self._changed.notify_all()
        return left

    def wake(self) -> None:
        """Let ``take`` return at once."""
        with self._changed:
            self._changed.notify_all()

    def take(self, *, seconds: float, unless: Event) -> Received | None:
        """The next packet.

        Args:
            seconds: To wait for it.
            unless: When set, nothing is waited for.

        Returns:
            None when nothing came in time.

        Raises:
            SourceError: When the stream broke, with its code.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._received or self._done or unless.is_set(), timeout=max(seconds, 0.0))
            if self._received and not unless.is_set():
                return self._received.popleft()
            if self._done and self._error is not None and not unless.is_set():
                raise SourceError(*self._error)
            return None

    def lost(self) -> int:
        """Packets dropped since the last question, because decoding does not keep up."""
        with self._changed:
            lost, self._lost = self._lost, 0
            return lost

    def _run(self) -> None:
        try:
            self._resolve()
            with self._open() as container:
                try:
                    self._read(container)
                finally:
                    self._end(None)
                    self._released.wait()  # the stream is freed with the container, and may be decoding still
        except SourceError as error:
            self._end(error)
        except Exception as error:  # noqa: BLE001 (a thread has nobody to raise to: what broke is told to who reads)
            self._end(self._trouble(error))

    def _read(self, container: InputContainer) -> None:
        try:
            if not container.streams.video:
                raise SourceError("it has no video", ErrorCode.STREAM_WITHOUT_VIDEO)
            stream = container.streams.video[0]
            if not has_decoder(stream):
                raise SourceError("no decoder for its codec", ErrorCode.STREAM_CODEC_UNSUPPORTED)
            stream.codec_context.copy_opaque = True
            stream.codec_context.thread_count = 1  # cameras are many, and decode beside one another
            has_times = _WITHOUT_TIMES.isdisjoint(container.format.name.split(","))
            is_rtp = container.format.name == "rtsp"
            number, is_incomplete = 0, False
            for packet, missed in self._packets(container):
                is_incomplete |= missed > 0 or packet.is_corrupt
                if packet.stream_index == stream.index and packet.size:
                    arrival = Arrival(time.monotonic(), time.time())
                    lost_at = number if is_incomplete else None
                    self._keep(Received(packet, arrival, stream, has_times, is_rtp, number, lost_at))
                    number, is_incomplete = number + 1, False
            raise SourceError("the other side ended the stream", ErrorCode.STREAM_CLOSED)
        except SourceError as error:
            self._end(error)
        except Exception as error:  # noqa: BLE001
            self._end(self._trouble(error))

    def _packets(self, container: InputContainer) -> Iterator[tuple["Packet[Any]", int]]:
        """All streams' packets: who asks FFmpeg for one stream only is not given back control by the others.

        With each, how many RTP packets were missed before its end. FFmpeg hands a packet over when the next one begins,
        and looks at the sequence numbers before that; so what was handed over earlier is whole.
        """
        while not self._released.is_set():
            try:
                with av.logging.Capture() as log:
                    for packet in container.demux():
                        missed = missed_packets(log)
                        log.clear()
                        yield packet, missed
                        if self._released.is_set():
                            return
                return
            except av.error.BlockingIOError:  # a device without a new frame
                time.sleep(_NOT_READY_SECONDS)

    def _keep(self, item: Received) -> None:
        """Hand a packet over; where decoding does not keep up, some are dropped."""
        self._came, self._heard = True, item.arrival.monotonic
        with self._changed:
            if self._received:
                self._make_up(item)
            if self._behind and not item.packet.is_keyframe:
                self._lost += 1
                return
            self._received.append(_after_a_gap(item) if self._behind else item)
            self._behind = False
            self._changed.notify_all()

    def _make_up(self, item: Received) -> None:
        """Drop what waits too long before a packet that came: up to the newest key frame, which costs nothing else.

        Where there is none, decoding may still catch up; once it is far behind, all are dropped up to the next.
        """
        late, limit = item.arrival.monotonic - self._received[0].arrival.monotonic, self._settings.max_behind_seconds
        is_full = len(self._received) >= _MOST_PACKETS
        if late <= limit and not is_full:
            return
        keys = [place for place, each in enumerate(self._received) if each.packet.is_keyframe]
        is_far = is_full or late > max(limit, _MOST_BEHIND_SECONDS)
        if item.packet.is_keyframe or (is_far and not any(keys)):
            self._lost += len(self._received)
            self._received.clear()
            self._behind = True
        elif any(keys):
            for _ in range(keys[-1]):
                self._received.popleft()
            self._lost += keys[-1]
            self._received[0] = _after_a_gap(self._received[0])

    def _end(self, error: SourceError | None) -> None:
        with self._changed:
            self._done = True
            if error is not None:
                self._error = self._error or (str(error), error.code)
            self._changed.notify_all()

    def _resolve(self) -> None:
        """Look the name up first: FFmpeg has one error for all that may be wrong with it."""
        if is_device(self._source):
            _check_device(Path(shown(self._source)))
            return
        try:
            address = urlsplit(self._source)
            host, port = address.hostname, address.port
        except ValueError:  # its text repeats what may be a password
            raise SourceError(f"its address cannot be read; {_ENCODE}", ErrorCode.STREAM_INVALID) from None
        if not host:
            raise SourceError("its address names no host", ErrorCode.STREAM_INVALID)
        try:
            socket.getaddrinfo(host, port)
        except (OSError, UnicodeError) as error:
            if host not in shown(self._source).lower():  # of user info that was taken for the host
                raise SourceError(f"its host cannot be resolved; {_ENCODE}", ErrorCode.STREAM_UNREACHABLE) from None
            why = getattr(error, "strerror", None) or "it is no name of a host"
            raise SourceError(f"the name {host} cannot be resolved: {why}", ErrorCode.STREAM_UNREACHABLE) from None

    def _open(self) -> InputContainer:
        timeouts = (self._settings.timeout_seconds, self._settings.stall_seconds)
        attempts = self._attempts()
        for number, (address, form, options) in enumerate(attempts):
            try:
                return self._opened(
                    partial(
                        av.open, address, "r", format=form, options=options, timeout=timeouts, metadata_errors="replace"
                    )
                )
            except av.error.FFmpegError:
                if number + 1 == len(attempts) or self._released.is_set():
                    raise
        raise AssertionError("unreachable")

    def _opened(self, open_stream: Callable[..., InputContainer]) -> InputContainer:
        """Decoded by the accelerator where there is one; where it fails, and not the stream, without it."""
        kind = accelerator() if self._settings.hardware else None
        if kind is None:
            return open_stream()
        try:
            return open_stream(hwaccel=HWAccel(device_type=kind, allow_software_fallback=True))
        except _OF_THE_NETWORK:
            raise
        except Exception:
            if self._released.is_set() or is_usable(kind, again=True):
                raise
            return open_stream()

    def _attempts(self) -> list[tuple[str, str | None, dict[str, str]]]:
        if is_device(self._source):
            return device_attempts(self._source, raw=self._raw)
        options = {"analyzeduration": "0", "probesize": "32", "fpsprobesize": "0"}
        scheme = scheme_of(self._source)
        if scheme in ("rtsp", "rtsps"):
            options |= {"rtsp_transport": self._settings.transport, "allowed_media_types": "video"}
            if self._settings.transport == "tcp":
                options["reorder_queue_size"] = "2"  # the least with which FFmpeg looks at the sequence numbers
        else:
            options = {"analyzeduration": "1000000", "probesize": "1000000", "multiple_requests": "0"}
        if scheme in _ENCRYPTED and self._settings.ca_file:
            options |= {"tls_verify": "1", "ca_file": str(self._settings.ca_file)}
        return [(self._source, None, options)]

    def _trouble(self, error: Exception) -> SourceError:
        """FFmpeg's error with its code. Some of its parts call it invalid data when they were made to give up."""
        code, meaning = _meaning(error)
        idle = time.monotonic() - self._heard
        if self._came and (code is ErrorCode.STREAM_TIMEOUT or idle >= self._settings.stall_seconds):
            return SourceError(f"nothing for {self._settings.stall_seconds:g} s", ErrorCode.STREAM_STALLED)
        if not self._came and (code is ErrorCode.STREAM_TIMEOUT or idle >= self._settings.timeout_seconds):
            return SourceError(f"no answer within {self._settings.timeout_seconds:g} s", ErrorCode.STREAM_TIMEOUT)
        if not self._came and code is ErrorCode.STREAM_CLOSED and isinstance(error, OSError):
            code, meaning = ErrorCode.STREAM_INVALID, "what comes is no stream that FFmpeg can read"
        if not self._came and (problem := self._certificate_problem()):
            return SourceError(f"its certificate is not trusted: {problem}", ErrorCode.STREAM_TLS_FAILED)
        detail = hide_secrets(str(getattr(error, "strerror", None) or error), self._source)
        return SourceError(f"{meaning} ({detail})" if detail else meaning, code)

    def _certificate_problem(self) -> str | None:
        """Why an encrypted stream's certificate is refused, which FFmpeg does not say; None when it is not."""
        if self._settings.ca_file is None or scheme_of(self._source) not in _ENCRYPTED:
            return None
        address = urlsplit(self._source)
        place = address.hostname or "", address.port or _ENCRYPTED[scheme_of(self._source) or ""]
        try:
            context = ssl.create_default_context(cafile=self._settings.ca_file)
            with socket.create_connection(place, timeout=_ASK_SECONDS) as plain:
                context.wrap_socket(plain, server_hostname=place[0]).close()
        except ssl.SSLCertVerificationError as error:
            return error.verify_message
        except FileNotFoundError:
            return f"{self._settings.ca_file}: no such file"
        except OSError:
            pass
        return None


def _after_a_gap(key: Received) -> Received:
    """A key frame before which packets were dropped: pictures that are shown before it may be made from those."""
    return key if key.lost_at is not None else replace(key, lost_at=key.number - 1)


def _meaning(error: Exception) -> tuple[ErrorCode, str]:
    for kind, code, meaning in _CODES:
        if isinstance(error, kind):
            return code, meaning
    number = getattr(error, "errno", None)
    return _ERRNO_CODES.get(number or 0, (ErrorCode.SOURCE_FAULT, "it cannot be read"))


def _check_device(path: Path) -> None:
    if not path.exists():
        raise SourceError("no such device", ErrorCode.DEVICE_NOT_FOUND)
    if not path.is_char_device():
        raise SourceError("it is no camera, nor a link to one", ErrorCode.DEVICE_NOT_FOUND)
    if not os.access(path, os.R_OK | os.W_OK):
        raise SourceError("it may not be opened by this user (group video?)", ErrorCode.DEVICE_DENIED)


def device_attempts(source: str, *, raw: bool) -> list[tuple[str, str | None, dict[str, str]]]:
    """Address, format and options to open a V4L2 device with, in order; ``raw`` asks for 16-bit counts first."""
    path = f"/dev/video{source}" if source.isdigit() else source
    options = {"fflags": _NONBLOCKING, "timestamps": "abs"}
    attempts = [(path, "v4l2", options)]
    return [(path, "v4l2", options | {"input_format": "gray16le"}), *attempts] if raw else list(attempts)


def accelerator() -> str | None:
    """The kind of hardware decoder of this machine that FFmpeg can use; None where there is none."""
    from av.codec.hwaccel import hwdevices_available

    built = set(hwdevices_available())
    for kind, node in _ACCELERATORS.items():
        if kind in built:
            with suppress(OSError):
                if Path(node).exists() and is_usable(kind):
                    return kind
    return None


def is_usable(kind: str, *, again: bool = False) -> bool:
    """Whether FFmpeg can open an accelerator; what it cannot open once, this process tries no more.

    Args:
        kind: Of FFmpeg's names.
        again: Whether it is tried anew though it could be opened.
    """
    with _TRYING:
        if again and _can_be_opened(kind):
            _can_be_opened.cache_clear()
        return _can_be_opened(kind)


@cache
def _can_be_opened(kind: str) -> bool:
    try:
        return bool(CodecContext.create("h264", "r", hwaccel=HWAccel(device_type=kind)).is_hwaccel)
    except Exception as error:  # noqa: BLE001 (driver, card, memory, rights: live streams are decoded without it)
        logger.warning("the accelerator %s cannot be used (%s): live streams are decoded on the CPU", kind, error)
        return False


def shown(source: str) -> str:
    """The address as messages show it."""
    return f"/dev/video{source}" if source.isdigit() else without_secrets(source)
