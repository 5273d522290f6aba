"""From FFmpeg's picture to the image of a frame: RGB, or the native counts of one channel."""

from typing import Any, cast

import numpy as np
from av.codec import CodecContext
from av.video.frame import VideoFrame
from av.video.plane import VideoPlane
from av.video.stream import VideoStream
from numpy.typing import NDArray

from pipeline.frame import Image
from reid.modality import Modality

_SAMPLE_STEP = 8  # every eighth pixel of every eighth row tells whether a picture is coloured
_COLOURED = 24  # levels between two channels, or of chroma from its middle, that no grey has
_FALSE_COLOUR_SHARE = 0.2  # of the pixels: a logo, a scale or a cross-hair is less
FALSE_COLOUR_ADVICE = (
    "shows a false-colour palette, which cannot be turned back into temperatures: set the camera to white hot or "
    "black hot (grey), or to raw counts (Y16); if it is a colour camera, its modality is rgb"
)


def image_of(picture: VideoFrame, modality: Modality) -> Image:
    """RGB uint8 (h, w, 3) of a visible-light camera; else the luma (h, w), uint8, or uint16 of deeper formats.

    Deep counts are native: 10 bits give 0 to 1023.
    """
    if modality.is_visible:
        return cast("Image", picture.to_ndarray(format="rgb24"))
    if bits_of(picture) <= 8:
        return cast("Image", picture.to_ndarray(format="gray"))
    return _deep_luma(picture)


def has_decoder(stream: VideoStream) -> bool:
    """Whether FFmpeg can decode it; PyAV gives a stream that it cannot decode no context, and few attributes."""
    return cast("CodecContext | None", stream.codec_context) is not None


def bits_of(picture: VideoFrame) -> int:
    """Bits of one channel."""
    return picture.format.components[0].bits


def _deep_luma(picture: VideoFrame) -> Image:
    name = picture.format.name
    if not name.startswith(("gray", "yuv")) or name.startswith("grayf"):
        return cast("Image", picture.to_ndarray(format="gray16le"))
    rows = _rows(picture.planes[0], np.dtype(">u2" if name.endswith("be") else "<u2"))
    return rows[: picture.height, : picture.width].astype(np.uint16)  # a copy: the buffer belongs to FFmpeg


def _rows(plane: VideoPlane, kind: np.dtype[Any]) -> NDArray[Any]:
    return np.frombuffer(memoryview(plane), kind).reshape(-1, plane.line_size // kind.itemsize)


def is_false_colour(picture: VideoFrame) -> bool:
    """Whether a thermal camera's picture is a palette instead of grey."""
    components = picture.format.components
    if len(components) < 3:
        return False
    if picture.format.is_rgb or not picture.format.is_planar or components[0].bits > 8:
        return has_false_colour(cast("Image", picture.to_ndarray(format="rgb24")))
    chroma = []
    for plane in picture.planes[1:3]:
        values = _rows(plane, np.dtype(np.uint8))[: plane.height, : plane.width]
        chroma.append(np.abs(values[::_SAMPLE_STEP, ::_SAMPLE_STEP].astype(np.int16) - 128))
    return _is_share_large(np.maximum(*chroma))


def has_false_colour(image: Image) -> bool:
    """Whether an image of three or four channels, in any order of colours, is a palette instead of grey."""
    if image.ndim != 3 or image.shape[2] < 3:
        return False
    sample = image[::_SAMPLE_STEP, ::_SAMPLE_STEP, :3].astype(np.int32)
    if image.dtype == np.uint16:
        sample >>= 8
    return _is_share_large(np.ptp(sample, axis=2))


def _is_share_large(distance: NDArray[Any]) -> bool:
    return bool(np.mean(distance > _COLOURED) > _FALSE_COLOUR_SHARE)
