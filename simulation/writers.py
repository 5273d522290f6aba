"""Recordings and truth on disk: H.264, 16-bit PNG, MOTChallenge text. A folder is whole or not there."""

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Self

import av
import cv2
import numpy as np
from av.container import OutputContainer
from av.video.stream import VideoStream
from numpy.typing import NDArray

_CLOCK = Fraction(1, 90000)
_MILLISECOND = Fraction(1, 1000)


class OutputError(ValueError):
    """A folder that must not be written to."""


class _Video:
    """What both kinds of video end with: nothing is flushed when an error ended it."""

    _container: OutputContainer
    _stream: VideoStream

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self._container.mux(self._stream.encode(None))
        self._container.close()


class VideoFile(_Video):
    """H.264 with a presentation time a frame; one thread, so that equal frames give equal files."""

    def __init__(self, path: Path, *, fps: float, width: int, height: int, preset: str = "veryfast") -> None:
        self._container = av.open(path, "w", format="mp4", options={"movflags": "+faststart"})
        stream = self._container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1001))
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.codec_context.time_base = _CLOCK
        stream.codec_context.thread_count = 1
        # Looking ahead makes x264 use memory it has not written: no two files of the same frames would be equal.
        stream.options = {"preset": preset, "crf": "19", "tune": "zerolatency"}
        self._stream = stream
        self._fps = fps
        self._count = 0

    def write(self, image: NDArray[np.uint8] | NDArray[np.uint16], *, seconds: float | None = None) -> None:
        """Append RGB (h, w, 3) or grey (h, w), uint8; without ``seconds``, one frame after the last."""
        frame = av.VideoFrame.from_ndarray(image, format="rgb24" if image.ndim == 3 else "gray")
        frame.pts = round((self._count / self._fps if seconds is None else seconds) / _CLOCK)
        frame.time_base = _CLOCK
        self._container.mux(self._stream.encode(frame))
        self._count += 1


class DeepVideoFile(_Video):
    """16-bit counts without loss (FFV1 in Matroska), with a presentation time a frame."""

    def __init__(self, path: Path, *, fps: float, width: int, height: int) -> None:
        self._container = av.open(path, "w", format="matroska")
        stream = self._container.add_stream("ffv1", rate=Fraction(fps).limit_denominator(1001))
        stream.width, stream.height, stream.pix_fmt = width, height, "gray16le"
        stream.codec_context.time_base = _MILLISECOND
        stream.codec_context.thread_count = 1
        self._stream = stream

    def write(self, image: NDArray[np.uint8] | NDArray[np.uint16], *, seconds: float) -> None:
        """Append counts (h, w), uint16."""
        frame = av.VideoFrame.from_ndarray(image, format="gray16le")
        frame.pts = round(seconds / _MILLISECOND)
        frame.time_base = _MILLISECOND
        self._container.mux(self._stream.encode(frame))


class ImageFolder:
    """16-bit PNG files, numbered from 000001."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        self._folder = folder
        self._count = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        return None

    def write(self, image: NDArray[np.uint8] | NDArray[np.uint16]) -> None:
        """Append counts (h, w), uint16."""
        self._count += 1
        write_image(self._folder / f"{self._count:06d}.png", image, quality=0)


def write_image(path: Path, image: NDArray[np.uint8] | NDArray[np.uint16], *, quality: int) -> None:
    """Write RGB or grey; ``quality`` is that of a .jpg."""
    bgr = image[..., ::-1] if image.ndim == 3 else image
    options = [cv2.IMWRITE_JPEG_QUALITY, quality] if path.suffix == ".jpg" else [cv2.IMWRITE_PNG_COMPRESSION, 1]
    done, data = cv2.imencode(path.suffix, np.ascontiguousarray(bgr), options)
    if not done:
        raise OutputError(f"{path}: an image of {image.dtype} {image.shape} cannot be encoded")
    path.write_bytes(data.tobytes())


TruthRow = tuple[int, int, float, float, float, float, int, float]


def write_truth(path: Path, rows: Sequence[TruthRow]) -> None:
    """MOTChallenge truth: frame (from 1), id, left, top, width, height, conf (0: ignore), class 1, visibility."""
    lines = [
        f"{frame},{person},{left:.2f},{top:.2f},{width:.2f},{height:.2f},{conf},1,{visibility:.3f}\n"
        for frame, person, left, top, width, height, conf, visibility in rows
    ]
    path.write_text("".join(lines), encoding="ascii")


@contextmanager
def whole_folder(output: Path, *, marker: str) -> Iterator[Path]:
    """Write into a sibling that takes the name ``output`` only when the block has ended well.

    Args:
        output: May exist when it is empty or holds ``marker``: an earlier result of ours, which is then replaced.
        marker: Name of a file that every result holds.

    Raises:
        OutputError: When something else is there.
    """
    if output.exists() and not (output / marker).is_file() and (not output.is_dir() or any(output.iterdir())):
        raise OutputError(f"{output}: exists and was not written by the simulator; choose another --output")
    part = output.with_name(f".{output.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        yield part
        if output.exists():
            shutil.rmtree(output)
        part.rename(output)
    finally:
        shutil.rmtree(part, ignore_errors=True)
