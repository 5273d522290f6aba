"""A camera that is watched as it films: connected, lost, and connected again, until it is closed."""

import logging
import random
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from threading import Event, Thread

import av
from av.video.frame import PictureType, VideoFrame
from av.video.stream import VideoStream

from pipeline.errors import ErrorCode, SourceError
from pipeline.frame import Frame
from pipeline.sources.base import SourceAccount, SourceInfo, SourceState, check_size
from pipeline.sources.connection import Connection, Received, StreamSettings, shown
from pipeline.sources.losses import Losses
from pipeline.sources.pictures import FALSE_COLOUR_ADVICE, bits_of, image_of, is_false_colour, is_semi_planar
from pipeline.sources.timeline import Arrival, CaptureClock, PresentationClock
from reid.modality import Modality

logger = logging.getLogger(__name__)

_HUNG_SECONDS = 60.0  # beyond all timeouts, after which a connection that has not ended is left to hang
_MOST_HUNG = 3  # connections of a camera; then one must end first
_KEY_SECONDS = 60.0  # that packets may come before the first key frame: relays begin between two, far apart or not
_GRACE_SECONDS = 1.0  # that FFmpeg has, on top of a timeout, to give up by itself
_STALLED_SHARE = 0.3  # of stall_seconds without a frame, after which the source is called stalled
_LOOK_SECONDS = 0.25  # between two looks at the clock while nothing comes
_COLOURED_PICTURES = 3  # in a row: one alone may be damaged in a way that nobody noticed
_SELDOM_SECONDS = 60.0  # between two lines of the log that say the same
_DEFAULT_FPS = 25.0


class LiveSource:
    """RTSP, HTTP or a device; see ``pipeline.sources.base.Source``.

    Iterating connects, decodes, and connects again with growing waits, whatever happens to the network or the camera,
    until ``close`` is called. Times go on over connections; ``index`` counts all frames.
    """

    live = True

    def __init__(
        self, camera_id: str, source: str, modality: Modality, *, settings: StreamSettings | None = None
    ) -> None:
        """Nothing is connected yet. ``source`` is a URL with its secrets, or a device."""
        self.camera_id = camera_id
        self.modality = modality
        self.account = SourceAccount()
        self.info: SourceInfo | None = None
        self._source = source
        self._settings = settings or StreamSettings()
        self._closed = Event()
        self._connection: Connection | None = None
        self._hung: list[Thread] = []
        self._random = random.Random(camera_id)  # noqa: S311 (only spreads the cameras' attempts)

    def __repr__(self) -> str:
        return f"LiveSource({self.camera_id!r}, {shown(self._source)!r})"

    def probe(self) -> SourceInfo:
        """Connect once, decode one frame, and let go."""
        try:
            with self._connect() as connection:
                next(self._reader(SourceAccount()).frames(connection), None)
        except SourceError as error:
            raise SourceError(f"{self._where}: {error}", error.code) from None
        if self.info is None:
            raise SourceError(f"{self._where}: closed", ErrorCode.STREAM_CLOSED)
        return self.info

    def close(self) -> None:
        """End the iteration for good. A connection that still blocks is left to end by itself."""
        self._closed.set()
        if (connection := self._connection) is not None:
            connection.wake()

    def __iter__(self) -> Iterator[Frame]:
        """Decode until closed; whatever a network does ends in another connection, never in an error."""
        account = self.account = SourceAccount()
        reader = self._reader(account)
        failures = 0
        while not self._closed.is_set():
            given = account.decoded
            try:
                with self._connect() as connection:
                    yield from reader.frames(connection)
            except Exception as error:  # noqa: BLE001 (whatever a camera breaks, it is connected again)
                came = account.decoded > given
                failures = 1 if came else failures + 1
                self._tell(_as_source_error(error), account, came=came)
                self._closed.wait(self._wait_seconds(failures))
            self._wait_for_the_abandoned(account)
        account.enter(SourceState.ENDED)

    @property
    def _where(self) -> str:
        return f"camera {self.camera_id}: {shown(self._source)}"

    def _reader(self, account: SourceAccount) -> "_Reader":
        return _Reader(_Camera(self.camera_id, self.modality, shown(self._source)), self._settings, account,
                       closed=self._closed, on_info=self._know)  # fmt: skip

    def _know(self, info: SourceInfo) -> None:
        self.info = info

    def _connect(self) -> Connection:
        raw = self.modality is Modality.THERMAL
        self._connection = Connection(self._source, self._settings, raw=raw, name=self.camera_id)
        return self._connection

    def _wait_for_the_abandoned(self, account: SourceAccount) -> None:
        """Only one connection of a camera is open, so one that hangs in the system is waited for; but not for ever.

        A driver may never come back. Then another is made beside it, as long as only a few hang.
        """
        if self._connection is None:
            return
        thread, is_news = self._connection.thread, True
        end = time.monotonic() + max(self._settings.timeout_seconds, self._settings.stall_seconds) + _HUNG_SECONDS
        while thread.is_alive() and not self._closed.wait(0.02):
            if time.monotonic() < end:
                continue
            hung = [each for each in self._hung if each.is_alive()]
            if is_news:
                is_news = False
                self._tell_hung(len(hung) + 1, account)
            if len(hung) + 1 < _MOST_HUNG:
                self._hung = [*hung, thread]
                return

    def _tell_hung(self, count: int, account: SourceAccount) -> None:
        what = "one more is made" if count < _MOST_HUNG else "none is made until one of them ends"
        message = (
            f"{self._where}: {count} of at most {_MOST_HUNG} connections do not end, for a driver, a name server or a "
            f"disk does not answer; {what}"
        )
        account.trouble(message, ErrorCode.STREAM_HUNG)
        logger.error("%s [%s]", message, ErrorCode.STREAM_HUNG)

    def _wait_seconds(self, failures: int) -> float:
        """Doubles with every failure up to the cap; up to a half less, so that cameras do not come back in step."""
        settings = self._settings
        longest = min(settings.backoff_cap_seconds, settings.backoff_seconds * 2.0 ** min(failures - 1, 30))
        return longest * self._random.uniform(0.5, 1.0)

    def _tell(self, error: SourceError, account: SourceAccount, *, came: bool) -> None:
        """Log what is new; the same failure again and again is a line once."""
        message = f"{self._where}: {error}"
        is_news = came or error.code is not account.error_code
        account.trouble(message, error.code, connecting=not came)
        account.enter(SourceState.RECONNECTING)
        logger.log(
            logging.WARNING if is_news else logging.DEBUG, "%s [%s]; connecting again until it is back", message,
            error.code,
        )  # fmt: skip


def _as_source_error(error: Exception) -> SourceError:
    if isinstance(error, SourceError):
        return error
    logger.error("a camera's stream met a fault of this program, or of a library", exc_info=error)
    return SourceError(f"{type(error).__name__}: {error}")


@dataclass(frozen=True, slots=True)
class _Camera:
    camera_id: str
    modality: Modality
    shown: str


class _Seldom:
    """Whether it is time to say something again: once a minute at most."""

    def __init__(self) -> None:
        self._said: float | None = None

    def is_due(self, seconds: float) -> bool:
        """Asked only by who then says it; ``seconds`` are of a clock that nobody sets."""
        if self._said is not None and seconds - self._said < _SELDOM_SECONDS:
            return False
        self._said = seconds
        return True


class _Reader:
    """Frames of one connection after the other, with clocks that go on from one to the next."""

    def __init__(
        self,
        camera: _Camera,
        settings: StreamSettings,
        account: SourceAccount,
        *,
        closed: Event,
        on_info: Callable[[SourceInfo], None],
    ) -> None:
        self._camera = camera
        self._settings = settings
        self._account = account
        self._closed = closed
        self._on_info = on_info
        self._presentation = PresentationClock(account)
        self._capture = CaptureClock(account, max_error_seconds=settings.max_clock_error_seconds)
        self._index = -1
        self._last_arrival: Arrival | None = None
        self._resolution_wh: tuple[int, int] | None = None  # of this connection; None before its first frame
        self._coloured = 0
        self._pictures: deque[VideoFrame] = deque()  # decoded, and not given out yet
        self._last: Received | None = None  # that was given to the decoder, as long as that may hold pictures
        self._waiting_since = 0.0
        self._losses = Losses()
        self._losses_told = _Seldom()
        self._doubted = False
        self._doubt_told = _Seldom()

    def frames(self, connection: Connection) -> Iterator[Frame]:
        """Decode until the source is closed.

        Raises:
            SourceError: When the connection cannot be made or is lost, or no frame comes in time.
        """
        self._presentation.restart()
        self._capture.restart()
        self._losses.restart()
        self._resolution_wh, self._coloured = None, 0
        self._waiting_since = time.monotonic()
        self._last = None
        try:
            for received in self._packets(connection):
                yield from self._frames(received)
        finally:
            self._count_rest(connection)

    def _packets(self, connection: Connection) -> Iterator[Received]:
        """Those that are decoded until the source is closed; the last once more, for what the decoder still holds."""
        try:
            while not self._closed.is_set():
                self._check_patience(time.monotonic() - self._waiting_since)
                received = connection.take(seconds=_LOOK_SECONDS, unless=self._closed)
                if received is not None:
                    self._count_lost("decoder_behind", connection.lost())
                    self._last = received
                    self._pictures.extend(self._decoded(received))
                    yield received
        except SourceError:
            if (last := self._last) is not None:
                self._drain()
                yield last
            raise

    def _drain(self) -> None:
        """Take from the decoder what it still holds: of a stream with B-frames, some of the last pictures."""
        last, self._last = self._last, None
        if last is not None:
            with suppress(av.error.FFmpegError):  # one that could decode nothing holds nothing
                self._pictures.extend(last.stream.decode(None))

    def _frames(self, received: Received) -> Iterator[Frame]:
        """Of the pictures that are decoded."""
        while self._pictures and not self._closed.is_set():
            self._waiting_since = time.monotonic()
            try:
                frame = self._frame(self._pictures.popleft(), received)
            except SourceError:
                raise
            except Exception:
                self._skip("unreadable")
                raise
            if frame:
                self._account.enter(SourceState.RUNNING)
                self._account.give()
                yield frame
                self._waiting_since = time.monotonic()

    def _count_rest(self, connection: Connection) -> None:
        """What came and is not given out, for its connection did not end by itself."""
        self._drain()
        self._count_lost("decoder_behind", connection.lost())
        self._count_lost("connection_ended", len(self._pictures) + connection.release())
        self._pictures.clear()

    def _check_patience(self, idle: float) -> None:
        settings = self._settings
        if self._resolution_wh is None:
            last = self._last.arrival.monotonic if self._last else float("-inf")
            comes = time.monotonic() - last <= settings.timeout_seconds
            patience = max(settings.timeout_seconds, _KEY_SECONDS) if comes else settings.timeout_seconds
            if idle > patience + _GRACE_SECONDS:
                but = ", though packets come: no key frame" if comes else ""
                raise SourceError(f"no frame within {patience:g} s{but}", ErrorCode.STREAM_TIMEOUT)
        elif idle > settings.stall_seconds + _GRACE_SECONDS:
            raise SourceError(f"no frame for {settings.stall_seconds:g} s", ErrorCode.STREAM_STALLED)
        elif idle > _STALLED_SHARE * settings.stall_seconds:
            self._account.enter(SourceState.STALLED)

    def _count_lost(self, cause: str, count: int) -> None:
        for _ in range(count):
            self._index += 1
            self._skip(cause)

    def _skip(self, cause: str) -> None:
        self._account.skip(cause, f"frame {self._index}")

    def _decoded(self, received: Received) -> list[VideoFrame]:
        received.packet.opaque = received.number, received.arrival, _sender_seconds(received)
        if received.lost_at is not None:
            self._losses.note(received.lost_at)
        try:
            return received.packet.decode()
        except av.error.DecoderNotFoundError:
            raise SourceError("no decoder for its codec", ErrorCode.STREAM_CODEC_UNSUPPORTED) from None
        except av.error.FFmpegError:
            self._count_lost("damaged", 1)
            self._losses.note(received.number)
            return []

    def _is_damaged(self, picture: VideoFrame, number: int, arrival: Arrival) -> bool:
        """Whether something of it may be missing, or of a frame that it is made from: up to the next key frame."""
        is_key = picture.key_frame and picture.pict_type == PictureType.I  # others only begin a refresh
        given_up = self._losses.given_up
        is_held = self._losses.holds(number, seconds=arrival.monotonic, is_key=is_key, is_corrupt=picture.is_corrupt)
        if self._losses.given_up > given_up and self._losses_told.is_due(arrival.monotonic):
            logger.warning(
                "camera %s: no whole key frame came for 10 s; its frames are given out though some may be damaged",
                self._camera.camera_id,
            )
        return is_held

    def _frame(self, picture: VideoFrame, received: Received) -> Frame | None:
        """Give the picture its times and its form, or count why not."""
        self._index += 1
        number, arrival, sender = (
            picture.opaque if isinstance(picture.opaque, tuple) else (received.number, received.arrival, None)
        )
        if self._is_damaged(picture, number, arrival):
            self._skip("damaged")
            return None
        if not self._is_usable(picture):
            return None
        ticks = _ticks(picture, has_times=received.has_times)
        if ticks is None and received.begins_at_zero and self._resolution_wh is None:
            ticks = 0.0
        elapsed = arrival.monotonic - self._last_arrival.monotonic if self._last_arrival else None
        pts_seconds = self._presentation.advance(ticks, elapsed=elapsed)
        if pts_seconds is None:
            self._skip("time_not_increasing")
            return None
        self._last_arrival = arrival
        captured_at, time_source = self._capture.stamp(
            self._presentation.ticks, arrival, pts_seconds=pts_seconds, sender=sender
        )
        frame = Frame(
            image=image_of(picture, self._camera.modality),
            camera_id=self._camera.camera_id,
            modality=self._camera.modality,
            index=self._index,
            pts_seconds=pts_seconds,
            captured_at=captured_at,
            time_source=time_source,
            arrived_at=datetime.fromtimestamp(arrival.utc, UTC),
        )
        if self._resolution_wh is None:
            self._begin(frame, picture, received.stream)
        self._tell_clock(arrival)
        return frame

    def _is_usable(self, picture: VideoFrame) -> bool:
        """Whether a picture is of the size of the others and has no palette; else it is counted.

        Another size ends the connection, and so does the last of some in a row that have a palette.
        """
        self._check_resolution((picture.width, picture.height))
        is_coloured = self._camera.modality is Modality.THERMAL and is_false_colour(picture)
        self._coloured = self._coloured + 1 if is_coloured else 0
        if is_coloured:
            self._skip("false_colour")
        if self._coloured >= _COLOURED_PICTURES:
            raise SourceError(FALSE_COLOUR_ADVICE, ErrorCode.FALSE_COLOUR)
        return not is_coloured

    def _check_resolution(self, resolution_wh: tuple[int, int]) -> None:
        if self._resolution_wh is None:
            try:
                check_size(self._camera.camera_id, self._camera.shown, resolution_wh)
            except SourceError:
                self._skip("too_small")
                raise
        elif resolution_wh != self._resolution_wh:
            self._skip("resolution_changed")
            width, height = resolution_wh
            raise SourceError(f"its resolution changed to {width}x{height}", ErrorCode.STREAM_CLOSED)

    def _begin(self, frame: Frame, picture: VideoFrame, stream: VideoStream) -> None:
        """The first frame of a connection says what the stream is."""
        self._resolution_wh = frame.resolution_wh
        self._account.connected()
        rate = stream.average_rate or stream.guessed_rate
        fps = float(rate) if rate and 0 < rate < 1000 else _DEFAULT_FPS
        context = stream.codec_context
        by_gpu = context.is_hwaccel and is_semi_planar(picture)  # FFmpeg may have fallen back, and keeps is_hwaccel
        where = "by the GPU" if by_gpu else "on the CPU"
        info = SourceInfo(
            resolution_wh=frame.resolution_wh,
            fps=fps,
            frames=None,
            bit_depth=8 * frame.image.dtype.itemsize,
            start=frame.captured_at,
            time_source=frame.time_source,
            decoder=f"{context.codec.name} {where}",
        )
        self._on_info(info)
        logger.info(
            "camera %s: connected to %s: %s, %dx%d, %d bits, decoded %s",
            self._camera.camera_id, self._camera.shown, context.codec.name, *frame.resolution_wh, bits_of(picture),
            where,
        )  # fmt: skip

    def _tell_clock(self, arrival: Arrival) -> None:
        """Say once that the camera's clock is wrong, and once that it is right again; and that this machine's was.

        Of a clock that is wrong by turns, that is a line a minute.
        """
        if by := self._capture.machine_set_by:
            logger.warning(
                "camera %s: this machine's own clock was set by %+.1f s; capture times before were wrong by as much",
                self._camera.camera_id, by,
            )  # fmt: skip
        error = self._capture.rejected_error
        if (error is not None) == self._doubted or not self._doubt_told.is_due(arrival.monotonic):
            return
        self._doubted = error is not None
        if error is not None:
            logger.warning(
                "camera %s: its clock is off by %+.1f s and not used; times are told without it",
                self._camera.camera_id, error,
            )  # fmt: skip
        else:
            logger.info("camera %s: its clock is right again and used", self._camera.camera_id)


def _ticks(picture: VideoFrame, *, has_times: bool) -> float | None:
    if not has_times or picture.pts is None or picture.time_base is None:
        return None
    return float(picture.pts * picture.time_base)


def _sender_seconds(received: Received) -> float | None:
    """The sender's clock, which FFmpeg makes of RTCP sender reports for every packet once there was one."""
    packet = received.packet
    if not packet.has_sidedata("prft"):
        return None
    return int.from_bytes(bytes(packet.get_sidedata("prft"))[:8], "little", signed=True) / 1e6
