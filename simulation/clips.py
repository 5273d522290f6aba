"""Recordings of a site as encoded frames that a server can send one by one: H.264, or HEVC of 12 bits for thermal."""

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain, islice
from pathlib import Path
from typing import Any, cast

import av
import cv2
import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8] | NDArray[np.uint16]

_COUNTS = 4096  # of the 12 bits that HEVC holds; a thermal clip keeps its counts, less the coldest's hundreds
_OFFSET_STEP = 100


@dataclass(frozen=True)
class Clip:
    """Encoded frames.

    Attributes:
        codec: h264 or h265, as GStreamer names them.
        fps: Frames a second.
        gop: Every so many frames, one can be decoded alone.
        units: One a frame.
        offset: Counts that were taken off a thermal camera's, so that they fit into 12 bits.
    """

    codec: str
    fps: float
    gop: int
    units: list[bytes]
    offset: int = 0

    def write(self, path: Path) -> None:
        """As ``simulation.rtsp_server.read_units`` reads it."""
        path.write_bytes(b"".join(struct.pack(">I", len(unit)) + unit for unit in self.units))


def encode(images: Iterable[Pixels], *, fps: float, lossless: bool = False) -> Clip:
    """Encode RGB or grey uint8, or counts uint16, frames of one size.

    Args:
        images: At least one.
        fps: Frames a second.
        lossless: Whether decoding gives exactly the encoded YUV 4:2:0 (or counts).
    """
    images = iter(images)
    first = next(images)
    gop = max(1, round(fps / 2))
    common = f"keyint={gop}:min-keyint={gop}:scenecut=0:bframes=0:repeat-headers=1"
    offset = 0
    if first.dtype == np.uint16:
        offset = int(first.min()) // _OFFSET_STEP * _OFFSET_STEP - _OFFSET_STEP
        quality = "lossless=1" if lossless else "crf=8"
        context = _context("libx265", "gray12le", first, fps)
        context.options = {"preset": "ultrafast", "tune": "zerolatency",
                           "x265-params": f"{common}:{quality}:log-level=none:annexb=1"}  # fmt: skip
    else:
        quality = "qp=0" if lossless else "crf=19"
        context = _context("libx264", "yuv420p", first, fps)
        context.options = {"preset": "veryfast", "tune": "zerolatency", "x264-params": f"{common}:{quality}:annexb=1"}
    units = [
        bytes(packet)
        for number, image in enumerate(chain([first], images))
        for packet in context.encode(_picture(image, number, context, offset))
    ]
    units += [bytes(packet) for packet in context.encode(None)]
    return Clip("h265" if offset or first.dtype == np.uint16 else "h264", fps, gop, units, offset)


def _context(codec: str, pixels: str, first: Pixels, fps: float) -> Any:
    context = cast("Any", av.CodecContext.create(codec, "w"))
    context.height, context.width = first.shape[:2]
    context.pix_fmt = pixels
    context.time_base = 1 / Fraction(fps).limit_denominator(1001)
    context.framerate = Fraction(fps).limit_denominator(1001)
    context.thread_count = 1
    return context


def _picture(image: Pixels, number: int, context: Any, offset: int) -> av.VideoFrame:
    if image.dtype == np.uint16:
        counts = np.clip(image.astype(np.int32) - offset, 0, _COUNTS - 1).astype(np.uint16)
        picture = av.VideoFrame.from_ndarray(counts, format="gray12le")
    else:
        picture = av.VideoFrame.from_ndarray(image, format="rgb24" if image.ndim == 3 else "gray")
        picture = picture.reformat(format="yuv420p")
    picture.pts, picture.time_base = number, context.time_base
    return picture


def images_of(recording: Path, *, most: int) -> Iterator[Pixels]:
    """The first frames of what the simulator wrote: an MP4 file, or a folder of PNG files."""
    if recording.is_dir():
        for path in islice(sorted(recording.glob("*.png")), most):
            yield cast("Pixels", cv2.imread(str(path), cv2.IMREAD_UNCHANGED))
        return
    with av.open(recording) as container:
        for picture in islice(container.decode(video=0), most):
            yield cast("Pixels", picture.to_ndarray(format="rgb24"))
