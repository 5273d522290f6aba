"""What only an AVI's own chunks tell: whether it is whole."""

import struct
from io import BufferedReader
from pathlib import Path

_CHUNK_BYTES = 8  # what it is, and its length
_KIND_BYTES = 4  # of RIFF, which is a chunk of chunks


def is_whole(path: Path) -> bool:
    """Whether nothing is cut off an AVI, and its index, which recorders write last, is there.

    Large ones are several RIFF chunks, of which the first has an index.
    """
    at, indexed = 0, False
    with path.open("rb") as file:
        size = file.seek(0, 2)
        while (chunk := _chunk(file, at, size)) is not None and chunk[0] == b"RIFF":
            end = at + _CHUNK_BYTES + chunk[1]
            if end > size:
                return False
            indexed = indexed or _has_index(file, at + _CHUNK_BYTES + _KIND_BYTES, end)
            at = end + end % 2
    return indexed


def _has_index(file: BufferedReader, at: int, end: int) -> bool:
    while (chunk := _chunk(file, at, end)) is not None:
        name, length = chunk
        at += _CHUNK_BYTES + length + length % 2
        if name == b"idx1":
            return at <= end + 1
    return False


def _chunk(file: BufferedReader, at: int, end: int) -> tuple[bytes, int] | None:
    """Its name and length; None behind the last, and where none begins."""
    file.seek(at)
    begin = file.read(_CHUNK_BYTES) if at + _CHUNK_BYTES <= end else b""
    name, length = struct.unpack("<4sI", begin) if len(begin) == _CHUNK_BYTES else (b"", 0)
    return (name, length) if name.strip().isalnum() else None
