"""From FFmpeg's picture to the image of a frame: RGB, or the native counts of one channel."""

import re
from typing import Any, cast

import numpy as np
from av.codec import CodecContext
from av.error import FFmpegError
from av.video.frame import VideoFrame
from av.video.plane import VideoPlane
from av.video.stream import VideoStream
from numpy.typing import NDArray

from pipeline.frame import Image
from reid.modality import Modality

_IN_HIGH_BITS = re.compile(r"^p[024]1\d")  # P010 and its like, the other formats of more than 8 bits fill the low ones
_NO_MATRIX = 2  # AVCOL_SPC_UNSPECIFIED
_SAMPLE_STEP = 8  # every eighth pixel of every eighth row tells whether a picture is coloured
_COLOURED = 24  # levels between two channels, that no grey has
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
        return _converted(picture, "rgb24")
    if bits_of(picture) <= 8:
        return _converted(picture, "gray")
    return _deep_luma(picture)


def has_decoder(stream: VideoStream) -> bool:
    """Whether FFmpeg can decode it; PyAV gives a stream that it cannot decode no context, and few attributes."""
    return cast("CodecContext | None", stream.codec_context) is not None


def bits_of(picture: VideoFrame) -> int:
    """Bits of one channel."""
    return picture.format.components[0].bits


def is_semi_planar(picture: VideoFrame) -> bool:
    """Whether both chroma components share a plane beside the luma's: GPUs decode to that, FFmpeg's decoders do not."""
    planes = [component.plane for component in picture.format.components[:3]]
    return len(planes) == 3 and planes[0] != planes[1] == planes[2]


def _converted(picture: VideoFrame, form: str) -> Image:
    """In another format; where the picture names colours that FFmpeg does not convert, as if it named none.

    Some cameras name such a matrix, and a damaged packet can: BT.2020 of constant luminance, or a reserved number.
    """
    try:
        return cast("Image", picture.to_ndarray(format=form))
    except FFmpegError:
        if picture.colorspace == _NO_MATRIX:
            raise
        picture.colorspace = _NO_MATRIX
        return cast("Image", picture.to_ndarray(format=form))


def _deep_luma(picture: VideoFrame) -> Image:
    name = picture.format.name
    in_high_bits = bool(_IN_HIGH_BITS.match(name))
    if not (in_high_bits or name.startswith(("gray", "yuv"))) or name.startswith("grayf"):
        return _converted(picture, "gray16le")
    rows = _rows(picture.planes[0], np.dtype(">u2" if name.endswith("be") else "<u2"))
    counts = rows[: picture.height, : picture.width].astype(np.uint16)  # a copy: the buffer belongs to FFmpeg
    return np.right_shift(counts, 16 - bits_of(picture) if in_high_bits else 0, dtype=np.uint16)


def _rows(plane: VideoPlane, kind: np.dtype[Any]) -> NDArray[Any]:
    return np.frombuffer(memoryview(plane), kind).reshape(-1, plane.line_size // kind.itemsize)


def is_false_colour(picture: VideoFrame) -> bool:
    """Whether a thermal camera's picture is a palette instead of grey, as `has_false_colour` would say of it in RGB."""
    components = picture.format.components
    if len(components) < 3:
        return False
    if picture.format.is_rgb or not picture.format.is_planar or components[0].bits > 8:
        return has_false_colour(_converted(picture, "rgb24"))
    blue, red = (values.astype(np.float32) - 128 for values in _chroma(picture))
    channels = np.stack([1.402 * red, -0.344 * blue - 0.714 * red, 1.772 * blue])  # BT.601, less the luma
    return _is_share_large(np.ptp(channels, axis=0))


def _chroma(picture: VideoFrame) -> list[NDArray[np.uint8]]:
    """A sample of both, of 8 bits: each has a plane of its own, or they alternate in one."""
    planes = [_rows(plane, np.dtype(np.uint8))[: plane.height] for plane in picture.planes[1:3]]
    width = picture.planes[1].width
    both = [planes[0][:, 0 : 2 * width : 2], planes[0][:, 1 : 2 * width : 2]] if is_semi_planar(picture) else planes
    return [values[::_SAMPLE_STEP, :width:_SAMPLE_STEP] for values in both]


def has_false_colour(image: Image) -> bool:
    """Whether an image of three or four channels, in any order of colours, is a palette instead of grey."""
    return image.ndim == 3 and image.shape[2] >= 3 and _is_share_large(channel_spread(image))


def channel_spread(image: Image) -> NDArray[np.int32]:
    """Levels, of 8 bits, between the channels of some of the pixels of a colour image: 0 where it is grey."""
    sample = image[::_SAMPLE_STEP, ::_SAMPLE_STEP, :3].astype(np.int32)
    spread: NDArray[np.int32] = np.ptp(sample >> 8 if image.dtype == np.uint16 else sample, axis=2)
    return spread


def _is_share_large(distance: NDArray[Any]) -> bool:
    return bool(np.mean(distance > _COLOURED) > _FALSE_COLOUR_SHARE)
