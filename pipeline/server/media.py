"""Pictures and clips over HTTP: for the eye or as kept, with a tag to ask whether they changed, and in parts."""

import hashlib
import re
from collections.abc import Mapping
from http import HTTPStatus
from pathlib import Path

import cv2
from starlette.requests import Request
from starlette.responses import FileResponse, Response

from pipeline.drawing import to_rgb8
from pipeline.frame import Image
from pipeline.server.guard import is_head
from pipeline.server.problems import ProblemError, not_found
from pipeline.store import read_crop
from reid.modality import Modality

_QUALITY = 90
_RANGE = re.compile(r"bytes=(\d*)-(\d*)")
_KINDS = {".jpg": "image/jpeg", ".png": "image/png"}
# The right to see it, or the picture itself, may be gone the next time: the browser asks each time, and is told 304.
_CACHE = "private, no-cache"


def picture(request: Request, data: bytes, kind: str, *, headers: Mapping[str, str] | None = None) -> Response:
    """An answer with an ETag: nothing when the reader has it already, a part when it asks for a part."""
    tag = f'"{hashlib.sha256(data).hexdigest()[:32]}"'
    told = {"ETag": tag, "Cache-Control": _CACHE, "Accept-Ranges": "bytes", **(headers or {})}
    if tag in (request.headers.get("if-none-match") or ""):
        return Response(status_code=304, headers=told)
    asked = request.headers.get("range")
    if asked is None or request.headers.get("if-range", tag) != tag:
        return Response(data, media_type=kind, headers=told)
    part = _part(asked, len(data), told)
    if part is None:
        return Response(data, media_type=kind, headers=told)
    first, last = part
    told["Content-Range"] = f"bytes {first}-{last}/{len(data)}"
    return Response(data[first : last + 1], 206, media_type=kind, headers=told)


def file(request: Request, path: Path, kind: str, *, name: str) -> Response:
    """As `picture`, of a file that is large and is not written again once it is there."""
    found = path.stat()
    tag = f'"{found.st_mtime_ns:x}-{found.st_size:x}"'
    told = {"ETag": tag, "Cache-Control": _CACHE, "Accept-Ranges": "bytes"}
    if tag in (request.headers.get("if-none-match") or ""):
        return Response(status_code=304, headers=told)
    asked = request.headers.get("range")
    if asked is not None and (request.headers.get("if-range", tag) != tag or _part(asked, found.st_size, told) is None):
        request.scope["headers"] = [each for each in request.scope["headers"] if each[0] != b"range"]
    if is_head(request):
        told["Content-Length"] = str(found.st_size)
        return Response(media_type=kind, headers=told)
    return FileResponse(path, media_type=kind, filename=name, headers=told)


def _part(asked: str, length: int, told: Mapping[str, str]) -> tuple[int, int] | None:
    """First and last byte of one range; None when it is none that is understood, or several: that is then ignored.

    Raises:
        ProblemError: 416, when there is nothing in it.
    """
    found = _RANGE.fullmatch(asked.strip())
    if found is None or found[0] == "bytes=-" or max(map(len, found.groups())) > 18:
        return None
    if not found[1]:
        wanted = int(found[2])
        first, last = (max(0, length - wanted), length - 1) if wanted else (length, length - 1)
    else:
        first, last = int(found[1]), min(int(found[2]) if found[2] else length - 1, length - 1)
    if first >= length or first > last:
        headers = {**told, "Content-Range": f"bytes */{length}"}
        raise ProblemError(
            HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, f"the range holds none of the {length} bytes", headers=headers
        )
    return first, last


def crop_picture(path: Path, modality: Modality, *, native: bool) -> tuple[bytes, str]:
    """A kept image and its type: the file as it is, or for the eye.

    Raises:
        ProblemError: 404, when it is gone.
    """
    if not path.is_file():
        raise not_found("such picture any more")
    if native or (modality is Modality.RGB and path.suffix == ".jpg"):
        return path.read_bytes(), _KINDS[path.suffix]
    return jpeg(read_crop(path)), "image/jpeg"


def jpeg(image: Image) -> bytes:
    """Any image as a JPEG for the eye: infrared stretched to what people can tell apart."""
    rgb = to_rgb8(image)
    _, data = cv2.imencode(".jpg", rgb[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    return data.tobytes()
