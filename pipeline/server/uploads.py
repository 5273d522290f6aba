"""Uploaded pictures: what they are is read from their first bytes, and how large they are before they are decoded."""

import io
import struct
import warnings
from http import HTTPStatus

from PIL import Image as PilImage

from pipeline.server.problems import ProblemError

_KINDS = ("JPEG", "PNG", "TIFF", "BMP", "WEBP")
# A JPEG with more pictures behind its own, as telephones and stereo cameras write them, is an MPO to Pillow.
_SUFFIXES = {"JPEG": ".jpg", "MPO": ".jpg", "PNG": ".png", "TIFF": ".tif", "BMP": ".bmp", "WEBP": ".webp"}
# What Pillow raises over a picture that is not what it says.
_DAMAGE = (OSError, ValueError, SyntaxError, EOFError, TypeError, LookupError, struct.error)
_LONGEST_SIDE = 20_000


def check_image(data: bytes, *, most_pixels: int) -> str:
    """The suffix of a picture's kind. Of several in one file the first counts; the others are never looked at.

    Args:
        data: Of the file.
        most_pixels: Larger ones are refused before anything is decoded.

    Raises:
        ProblemError: 413 when it would be too large, 415 when it is none.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's own limit is lower than some cameras
            with PilImage.open(io.BytesIO(data), formats=_KINDS) as image:
                suffix, (width, height) = _SUFFIXES[image.format or ""], image.size
    except PilImage.DecompressionBombError:
        raise ProblemError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "the picture has far too many pixels") from None
    except _DAMAGE:
        known = ", ".join(_KINDS)
        raise ProblemError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, f"not a picture that is known here: {known}") from None
    if width * height > most_pixels or max(width, height) > _LONGEST_SIDE:
        said = f"the picture has {width}x{height} pixels; at most {most_pixels / 1e6:g} million are taken"
        raise ProblemError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, said)
    return suffix
