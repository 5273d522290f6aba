"""Uploaded pictures: what they are is read from their first bytes, and how large they are before they are decoded."""

import io
import warnings
from http import HTTPStatus

from PIL import Image as PilImage
from PIL import UnidentifiedImageError

from pipeline.server.problems import ProblemError

_SUFFIXES = {"JPEG": ".jpg", "PNG": ".png", "TIFF": ".tif", "BMP": ".bmp", "WEBP": ".webp"}
_LONGEST_SIDE = 20_000


def check_image(data: bytes, *, most_pixels: int) -> str:
    """The suffix of a picture's kind.

    Args:
        data: Of the file.
        most_pixels: Larger ones are refused before anything is decoded.

    Raises:
        ProblemError: 413 when it would be too large, 415 when it is none.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's own limit is lower than some cameras
            with PilImage.open(io.BytesIO(data), formats=list(_SUFFIXES)) as image:
                kind, (width, height), count = image.format or "", image.size, getattr(image, "n_frames", 1)
    except PilImage.DecompressionBombError:
        raise ProblemError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "the picture has far too many pixels") from None
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, EOFError):
        known = ", ".join(_SUFFIXES)
        raise ProblemError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, f"not a picture that is known here: {known}") from None
    if width * height > most_pixels or max(width, height) > _LONGEST_SIDE or count > 1000:
        said = f"the picture has {width}x{height} pixels; at most {most_pixels / 1e6:g} million are taken"
        raise ProblemError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, said)
    return _SUFFIXES[kind]
