"""Video files through FFmpeg (PyAV). Times are the container's; where it has none, frames are counted at its rate."""

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta, tzinfo
from fractions import Fraction
from itertools import islice
from pathlib import Path
from threading import Event
from typing import cast

import av
import numpy as np
from av.container import InputContainer
from av.sidedata.sidedata import SideData
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from pipeline.errors import ErrorCode, SourceError
from pipeline.frame import Frame, Image, TimeSource
from pipeline.sources.avi import is_whole
from pipeline.sources.base import LEAST_SIDE_PX, SourceAccount, SourceInfo, SourceState, check_size
from pipeline.sources.clock import start_of
from pipeline.sources.frame_table import FrameNumbers, FrameTable, FrameTables, read_table
from pipeline.sources.pictures import FALSE_COLOUR_ADVICE, bits_of, has_decoder, image_of, is_false_colour
from pipeline.sources.timeline import PresentationClock
from pipeline.start_pattern import StartPattern
from reid.modality import Modality

logger = logging.getLogger(__name__)

_DURATION_TAG = re.compile(r"(\d{1,9}):(\d{1,9}):(\d{1,9}(?:\.\d+)?)")
_ONLY_THIS_FILE = {"protocol_whitelist": "file"}  # a playlist in a video's clothes reaches no network
_TABLES = FrameTables()  # of this process: sources live for one question, recordings for many
_WORTH_SEEKING_SECONDS = 2.0
_MOST_SECONDS = 366 * 86400.0  # that a recording lasts: a container that says more, or less than nothing, is damaged
_MOST_PROBED = 5000  # packets, until one gives a picture: a file that was cut may begin long before a key frame
_UNKNOWN_WH = 0, 0  # of a stream of which FFmpeg has seen no key frame when it opens it
_AVI = "avi"  # as FFmpeg calls it
_USUAL_FPS = 25.0  # FFmpeg's own assumption
_TAIL_SECONDS = 0.5  # of what a container promises: rounding, and a last frame that is shown for longer


@dataclass(slots=True)
class _Progress:
    """Where the reading of one file stands; seconds are the container's own."""

    start: datetime
    time_source: TimeSource
    resolution_wh: tuple[int, int]
    clock: PresentationClock
    numbers: FrameNumbers = field(default_factory=FrameNumbers)
    packets: int = 0
    has_begun: bool = False
    fps: float | None = None  # where no frame has a time
    promised_seconds: float | None = None
    end_seconds: float = 0.0
    is_resized: bool = False  # and that was said


class VideoSource:
    """One video file; see ``pipeline.sources.base.Source``.

    RGB cameras give RGB uint8 (h, w, 3); near-infrared and thermal cameras give the luma, uint8 (h, w), or uint16
    where the codec holds more than 8 bits.
    """

    live = False

    def __init__(
        self,
        camera_id: str,
        path: Path,
        modality: Modality,
        *,
        start: datetime | None = None,
        pattern: StartPattern | None = None,
        zone: tzinfo = UTC,
    ) -> None:
        self.camera_id = camera_id
        self.modality = modality
        self.account = SourceAccount()
        self.info: SourceInfo | None = None
        self._path = path
        self._start = start
        self._pattern = pattern
        self._zone = zone
        self._guessed = self._told = False
        self._closed = Event()

    def probe(self) -> SourceInfo:
        """Open the file and decode its first frame."""
        with self._open() as (container, stream):
            info = self._info(container, stream)
            self.account.expected = info.frames
            first = self._first(container, stream)
            check_size(self.camera_id, self._path, (first.width, first.height))
            if self._is_false_colour(first):
                raise SourceError(f"{self._where} {FALSE_COLOUR_ADVICE}", ErrorCode.FALSE_COLOUR)
            self.info = self._shown(info, first)
            return self.info

    def _first(self, container: InputContainer, stream: VideoStream) -> VideoFrame:
        """The first picture that can be decoded."""
        why = "has no frame"
        try:
            for packet in islice(container.demux(stream), _MOST_PROBED):
                try:
                    for picture in packet.decode():
                        return picture
                except av.error.EOFError:
                    break
                except av.error.FFmpegError as error:
                    why = f"cannot be decoded: {error.strerror}"
        except av.error.FFmpegError as error:
            why = f"cannot be read: {error.strerror}"
        raise SourceError(f"{self._where} {why}", ErrorCode.RECORDING_UNREADABLE)

    def __iter__(self) -> Iterator[Frame]:
        """Decode; a file that ends before its container says gives what there is, and has failed."""
        account = self.account = SourceAccount()
        with self._open() as (container, stream):
            info = self.info = self._info(container, stream)
            account.expected, account.state = info.frames, SourceState.RUNNING
            progress = _Progress(info.start, info.time_source, _UNKNOWN_WH, PresentationClock(account))
            progress.promised_seconds = _promised_seconds(container, stream)
            progress.fps = None if _has_times(stream) else info.fps
            for picture in self._pictures(container, stream, progress):
                frame = self._frame(picture, progress)
                if self._closed.is_set():
                    account.enter(SourceState.ENDED)
                    return
                if frame is not None:
                    account.give()
                    yield frame
        self._conclude(progress)

    def frames_from(self, seconds: float) -> Iterator[Frame]:
        """Frames from a moment on, or a little earlier, each as iterating gives it, but without decoding all before.

        A file whose frames cannot be told by their packets alone (times that are missing or repeat) is read from its
        beginning. The account stays what it is.

        Raises:
            SourceError: When it cannot be opened at all.
        """
        self._check_file()
        table = _TABLES.of(self._path, self._table) if seconds > _WORTH_SEEKING_SECONDS else None
        if table is None:
            yield from self
            return
        with self._open() as (container, stream):
            info = self._info(container, stream)
            key, decoding = table.key_before(seconds)
            container.seek(decoding, stream=stream, backward=True)
            progress = _Progress(info.start, info.time_source, _UNKNOWN_WH, PresentationClock(SourceAccount()))
            for picture in self._pictures(container, stream, progress):
                index = table.index_of(picture.pts) if picture.pts is not None and picture.pts >= key else None
                if index is not None and _is_large_enough(picture):
                    yield self._as_frame(picture, info, index=index, pts_seconds=float(table.seconds[index]))

    def _table(self) -> FrameTable | None:
        """Where each frame is; None where that cannot be told without decoding."""
        with self._open() as (container, stream):
            try:
                return read_table(container.demux(stream), stream.time_base) if stream.time_base else None
            except av.error.FFmpegError:
                return None

    def close(self) -> None:
        """End the iteration before its next frame."""
        self._closed.set()

    @property
    def _where(self) -> str:
        return f"camera {self.camera_id}: {self._path}"

    def _check_file(self) -> None:
        if not self._path.is_file():
            raise SourceError(f"{self._where}: no such file", ErrorCode.RECORDING_NOT_FOUND)
        if not self._path.stat().st_size:
            raise SourceError(f"{self._where} is empty (0 bytes)", ErrorCode.RECORDING_UNREADABLE)

    @contextmanager
    def _open(self) -> Iterator[tuple[InputContainer, VideoStream]]:
        self._check_file()
        try:
            container = av.open(self._path, mode="r", options=_ONLY_THIS_FILE, metadata_errors="replace")
        except av.error.FFmpegError as error:
            raise SourceError(
                f"{self._where} is not a video that FFmpeg can read, or lacks its end: {error.strerror}",
                ErrorCode.RECORDING_UNREADABLE,
            ) from None
        with container:
            if not container.streams.video:
                raise SourceError(f"{self._where} has no video stream", ErrorCode.RECORDING_UNREADABLE)
            if not has_decoder(container.streams.video[0]):
                raise SourceError(f"{self._where}: no decoder for its video", ErrorCode.RECORDING_UNREADABLE)
            yield container, container.streams.video[0]

    def _info(self, container: InputContainer, stream: VideoStream) -> SourceInfo:
        resolution_wh = (stream.width, stream.height)
        if resolution_wh != _UNKNOWN_WH:
            check_size(self.camera_id, self._path, resolution_wh)
        duration = container.duration / av.time_base if container.duration else 0.0
        duration = duration if 0 < duration < _MOST_SECONDS else 0.0
        start, time_source = self._starting(container.metadata.get("creation_time"), duration)
        rate = stream.average_rate or stream.guessed_rate
        if not _has_times(stream):
            rate, time_source = self._counted(stream), TimeSource.FRAME_RATE
        frames = _promised_frames(container, stream)
        if rate and frames and (pictures := _pictures_of_avi(container, stream, self._path)):
            frames, rate = pictures, rate * Fraction(pictures, frames)
        depth = stream.format.components[0].bits if stream.format else 8
        return SourceInfo(
            resolution_wh=resolution_wh,
            fps=float(rate or _USUAL_FPS),
            frames=frames,
            bit_depth=self._depth(depth),
            start=start,
            time_source=time_source,
            decoder=f"{stream.codec_context.codec.name} on the CPU",
        )

    def _shown(self, info: SourceInfo, picture: VideoFrame) -> SourceInfo:
        """What a picture says beside its container."""
        return replace(info, resolution_wh=_shown_wh(picture), bit_depth=self._depth(bits_of(picture)))

    def _depth(self, bits: int) -> int:
        return 16 if bits > 8 and not self.modality.is_visible else 8

    def _starting(self, creation_time: str | None, duration_seconds: float) -> tuple[datetime, TimeSource]:
        try:
            start, source = start_of(
                self._path, configured=self._start, pattern=self._pattern, creation_time=creation_time,
                zone=self._zone, duration_seconds=duration_seconds,
            )  # fmt: skip
        except ValueError as error:
            raise SourceError(f"camera {self.camera_id}: {error}", ErrorCode.RECORDING_UNREADABLE) from None
        if source is TimeSource.FILE_MODIFIED and not self._guessed:
            self._guessed = True
            logger.warning(
                "camera %s: %s: only the file's date tells when it was recorded: its %s is taken to be then; "
                "start or start_pattern would tell", self.camera_id, self._path,
                "end" if duration_seconds else "beginning",
            )  # fmt: skip
        return start, source

    def _counted(self, stream: VideoStream) -> Fraction | None:
        """The rate at which frames without times are counted."""
        stated: Fraction | None = stream.codec_context.framerate
        rate = stated or stream.guessed_rate
        if not self._told:
            self._told = True
            logger.warning(
                "camera %s: %s: its frames have no times: they are counted, at %g a second, which %s; in a container "
                "(MP4, Matroska) they would have them", self.camera_id, self._path, rate or _USUAL_FPS,
                "the stream states" if stated else "is assumed",
            )  # fmt: skip
        return rate

    def _pictures(self, container: InputContainer, stream: VideoStream, progress: _Progress) -> Iterator[VideoFrame]:
        """Decode packet by packet: one damaged packet costs its own frames only."""
        packets = container.demux(stream)
        while True:
            try:
                packet = next(packets, None)
            except av.error.FFmpegError as error:
                self.account.fail(f"{self._where} breaks off: {error.strerror}", ErrorCode.RECORDING_TRUNCATED)
                return
            if packet is None:
                return
            progress.packets += bool(packet.size)
            progress.numbers.saw(packet)
            if packet.pts is not None:
                end = float((packet.pts + (packet.duration or 0)) * packet.time_base)
                progress.end_seconds = max(progress.end_seconds, end)
            try:
                yield from packet.decode()
            except av.error.EOFError:
                return
            except av.error.FFmpegError:
                self.account.skip("damaged", f"frame {progress.numbers.lose()}")

    def _frame(self, picture: VideoFrame, progress: _Progress) -> Frame | None:
        """Give the picture its time and its form, or count why not."""
        ticks = picture.pts if picture.pts is not None else picture.dts
        index, lost = progress.numbers.take(ticks)
        if ticks is not None and picture.time_base is not None:
            seconds = float(ticks * picture.time_base)
        elif progress.fps is not None:
            seconds = index / progress.fps
        else:
            self.account.skip("without_time", f"frame {index}")
            return None
        if not progress.has_begun:
            self._begin(progress, [float(each * (picture.time_base or 0)) for each in lost])
        if not _is_large_enough(picture):
            self.account.skip("too_small", f"frame {index}")
            return None
        self._note_size(picture, progress, index)
        if self._is_false_colour(picture):
            self.account.skip("false_colour", f"frame {index}")
            return None
        pts_seconds = progress.clock.advance(seconds)
        if pts_seconds is None:
            self.account.skip("time_not_increasing", f"frame {index}")
            return None
        return self._as_frame(picture, progress, index=index, pts_seconds=pts_seconds)

    def _note_size(self, picture: VideoFrame, progress: _Progress, index: int) -> None:
        """Recorders that join segments, or follow their camera's settings, change it in the midst of a file."""
        resolution_wh = picture.width, picture.height
        if resolution_wh == progress.resolution_wh:
            return
        if progress.resolution_wh != _UNKNOWN_WH and not progress.is_resized:
            progress.is_resized = True
            logger.warning(
                "camera %s: %s: its resolution changes, from frame %d on to %dx%d; it is read on in the sizes that it "
                "has", self.camera_id, self._path, index, *resolution_wh,
            )  # fmt: skip
        progress.resolution_wh = resolution_wh
        self.info = None if self.info is None else self._shown(self.info, picture)

    def _begin(self, progress: _Progress, lost: list[float]) -> None:
        """A recording begins with its first packet, also where it was cut before a frame that can be decoded alone."""
        progress.has_begun = True
        for number, seconds in enumerate(lost):
            progress.clock.advance(seconds)
            if number >= self.account.skipped["damaged"]:
                self.account.skip("damaged", f"frame {number}")

    def _as_frame(
        self, picture: VideoFrame, began: "_Progress | SourceInfo", *, index: int, pts_seconds: float
    ) -> Frame:
        return Frame(
            image=_upright(image_of(picture, self.modality), picture),
            camera_id=self.camera_id,
            modality=self.modality,
            index=index,
            pts_seconds=pts_seconds,
            captured_at=began.start + timedelta(seconds=pts_seconds),
            time_source=began.time_source,
        )

    def _is_false_colour(self, picture: VideoFrame) -> bool:
        return self.modality is Modality.THERMAL and is_false_colour(picture)

    def _conclude(self, progress: _Progress) -> None:
        account = self.account
        promised, end = progress.promised_seconds, progress.end_seconds
        if promised and end < promised - _TAIL_SECONDS:
            account.fail(
                f"{self._where} is truncated: it ends after {end:.1f} s of {promised:.1f} s that it promises, "
                f"{account.decoded} frames decoded",
                ErrorCode.RECORDING_TRUNCATED,
            )
        if not promised and account.expected and progress.packets < account.expected:
            account.fail(
                f"{self._where} is truncated: {account.decoded} frames decoded of {account.expected} that it promises",
                ErrorCode.RECORDING_TRUNCATED,
            )
        if account.decoded == 0:
            skipped = ", ".join(f"{count} {cause}" for cause, count in account.skipped.items())
            account.fail(
                f"{self._where}: no frame could be used ({skipped or 'none could be decoded'})",
                ErrorCode.RECORDING_UNREADABLE,
            )
        if account.state is not SourceState.FAILED:
            account.state = SourceState.ENDED


def _has_times(stream: VideoStream) -> bool:
    """Whether frames have times: a file that is nothing but a stream of H.264 or H.265 holds none."""
    return stream.start_time is not None


def _is_large_enough(picture: VideoFrame) -> bool:
    return min(picture.width, picture.height) >= LEAST_SIDE_PX


def _pictures_of_avi(container: InputContainer, stream: VideoStream, path: Path) -> int | None:
    """Pictures of an AVI that is whole and has fewer than its header counts; None of all others.

    The header counts ticks, and where a recorder had no picture for one, it left it empty.
    """
    try:
        if container.format.name != _AVI or not is_whole(path):
            return None
    except OSError:
        return None
    pictures = len(stream.index_entries)
    return pictures if 0 < pictures < stream.frames else None


def _promised_seconds(container: InputContainer, stream: VideoStream) -> float | None:
    """The end of the stream, where it does not count its frames but its tags say it (Matroska), or counts too many.

    The container's own duration is no promise: where a header lacks it, FFmpeg makes it up from the bit rate.
    """
    if (shown := _edited_seconds(container, stream)) is not None:
        return shown + float((stream.start_time or 0) * (stream.time_base or 0))
    found = _DURATION_TAG.fullmatch(stream.metadata.get("DURATION", "")) if not stream.frames else None
    return 3600 * int(found[1]) + 60 * int(found[2]) + float(found[3]) if found else None


def _promised_frames(container: InputContainer, stream: VideoStream) -> int | None:
    shown = _edited_seconds(container, stream)
    return round(shown * float(stream.average_rate or 0)) if shown is not None else stream.frames or None


def _edited_seconds(container: InputContainer, stream: VideoStream) -> float | None:
    """How long the stream is shown, where its edit list leaves out some of the frames that it holds (trimmed MP4).

    Of an AVI that was cut, FFmpeg makes the duration up from the size of what is left: it has no edit list.
    """
    if container.format.name == _AVI or not (
        stream.frames and stream.duration and stream.time_base and stream.average_rate
    ):
        return None
    seconds = float(stream.duration * stream.time_base)
    return seconds if seconds < (stream.frames - 0.5) / float(stream.average_rate) else None


def _upright(image: Image, picture: VideoFrame) -> Image:
    """The image as it is to be shown: phones and bodycams store the sensor's rows, and how they are to be turned."""
    a, b, c, d = _display_matrix(picture)
    if abs(b) > abs(a):  # columns are shown as rows
        image = image.swapaxes(0, 1)
        a, d = c, b
    return cast("Image", np.ascontiguousarray(image[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1]))


def _shown_wh(picture: VideoFrame) -> tuple[int, int]:
    a, b, _, _ = _display_matrix(picture)
    return (picture.height, picture.width) if abs(b) > abs(a) else (picture.width, picture.height)


def _display_matrix(picture: VideoFrame) -> tuple[int, int, int, int]:
    """What x and y are multiplied by: x is shown at a x + c y, y at b x + d y; (a, b, c, d) as FFmpeg has them."""
    matrix = cast("SideData | None", picture.side_data.get("DISPLAYMATRIX"))
    if matrix is None:
        return 1, 0, 0, 1
    a, b, _, c, d = np.frombuffer(memoryview(matrix), np.int32)[:5].tolist()
    return a, b, c, d
