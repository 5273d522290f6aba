"""The page's own files, read once: sent from memory, compressed, and only when the browser has not got them already."""

import gzip
import hashlib
from dataclasses import dataclass
from pathlib import Path

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

_START = "index.html"
_KINDS = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
# Another version of the program may stand behind the same address: the browser asks each time, and is told 304.
_CACHE = "no-cache"


@dataclass(frozen=True, slots=True)
class _File:
    data: bytes
    packed: bytes
    kind: str
    tag: str

    @classmethod
    def read(cls, path: Path) -> "_File":
        data = path.read_bytes()
        tag = f'W/"{hashlib.sha256(data).hexdigest()[:32]}"'  # weak: it is of the content, packed or not
        return cls(data, gzip.compress(data, mtime=0), _KINDS[path.suffix], tag)


class PageFiles:
    """All files of a folder, as they were at the start; its ``index.html`` is the folder itself."""

    def __init__(self, folder: Path) -> None:
        """Read them."""
        found = (path for path in folder.rglob("*") if path.suffix in _KINDS)
        self._files = {path.relative_to(folder).as_posix(): _File.read(path) for path in found}

    async def send(self, request: Request) -> Response:
        """The one that is asked for as ``path``.

        Raises:
            HTTPException: 404, when there is no such file.
        """
        file = self._files.get(request.path_params["path"] or _START)
        if file is None:
            raise HTTPException(404)
        headers = {"ETag": file.tag, "Cache-Control": _CACHE, "Vary": "Accept-Encoding"}
        if file.tag in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers=headers)
        if "gzip" not in request.headers.get("accept-encoding", ""):
            return Response(file.data, media_type=file.kind, headers=headers)
        return Response(file.packed, media_type=file.kind, headers=headers | {"Content-Encoding": "gzip"})
