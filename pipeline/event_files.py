"""The files of the event log: one a UTC day, whole lines only, written to by one process and scrubbed by another.

Each line goes in under a lock and into the file that has the name at that moment, so that a scrub, which puts another
file under the name, loses no line.
"""

import fcntl
import json
import logging
import os
import re
from collections.abc import Iterator, Mapping, Set
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from pipeline.crop_files import write_whole

logger = logging.getLogger(__name__)

EVENTS = "events"
EXAMPLES = "pairs.jsonl"  # pairs of tracklets that paired cameras confirmed
_LOCK = ".lock"
_NAME = re.compile(rb'"tracklet_id"\s*:\s*"([^"]*)"')
# Who is named in each day's file, as hashes, with what tells whether it changed; None for one that ends in a torn line.
_named: dict[Path, tuple[tuple[int, int, int], NDArray[np.int64] | None]] = {}


def append_line(root: Path, day: str, line: bytes) -> None:
    """Put a line at the end of a day's file; all of it or, on error, nothing. A torn last line is cut off first."""
    with _locked(root):
        append_whole(root / EVENTS / f"{day}.jsonl", line)


def append_whole(path: Path, lines: bytes) -> None:
    """Put lines at the end of a file that nobody else writes to now, as `append_line` does."""
    with path.open("a+b", buffering=0) as file:
        whole = whole_lines(file)
        if whole < file.seek(0, os.SEEK_END):
            logger.warning("%s: cutting off a last line that a crash left unfinished", file.name)
            file.truncate(whole)
        try:
            while lines:
                lines = lines[file.write(lines) :]
        except OSError:
            file.truncate(whole)
            raise


def read_lines(root: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Every whole event that can be read, with its file, by day."""
    for path in sorted((root / EVENTS).glob("*.jsonl")):
        for line in path.read_bytes().splitlines():
            with suppress(ValueError):
                event = json.loads(line)
                if isinstance(event, dict):
                    yield path, event


def scrub(root: Path, tracklet_ids: Set[str]) -> int:
    """Take out the events of these tracklets, and the links to them from the events of others; returns lines taken.

    A run does so every minute: files and lines that name none of them are not parsed, nor is a file read again that
    has not changed since.
    """
    removed = 0
    if not tracklet_ids or not (root / EVENTS).is_dir():
        return removed
    names = {name.encode() for name in tracklet_ids}
    with _locked(root):
        for path in sorted((root / EVENTS).glob("*.jsonl")):
            if not _may_name(path, names):
                continue
            before = path.read_bytes().splitlines(keepends=True)
            after = [kept for line in before if (kept := _without(line, names)) is not None]
            removed += len(before) - len(after)
            if not after:
                path.unlink()
            elif after != before:
                write_whole(path, b"".join(after))
    for path in [each for each in _named if not each.exists()]:
        del _named[path]
    return removed


def _may_name(path: Path, names: Set[bytes]) -> bool:
    """Whether a day's file names one of these, or ends in a torn line."""
    status = path.stat()
    stamp = (status.st_ino, status.st_size, status.st_mtime_ns)
    if path not in _named or _named[path][0] != stamp:
        data = path.read_bytes()
        found = np.unique(np.fromiter(map(hash, _NAME.findall(data)), np.int64))
        _named[path] = (stamp, found if data.endswith(b"\n") else None)
    known = _named[path][1]
    return known is None or bool(np.isin(list(map(hash, names)), known).any())


def read_examples(root: Path) -> Iterator[list[str]]:
    """The tracklets of every confirmed pair that can be read."""
    path = root / EXAMPLES
    for line in path.read_bytes().splitlines() if path.is_file() else ():
        with suppress(ValueError, KeyError, TypeError):
            yield [str(name) for name in json.loads(line)["tracklets"]]


def scrub_examples(root: Path, tracklet_ids: Set[str]) -> int:
    """Take out the confirmed pairs that name one of these tracklets, and a torn last line; returns lines taken."""
    path = root / EXAMPLES
    if not tracklet_ids or not path.is_file():
        return 0
    lines = path.read_bytes().splitlines(keepends=True)
    names = [name.encode() for name in tracklet_ids]
    kept = [line for line in lines if line.endswith(b"\n") and not any(b'"%s"' % name in line for name in names)]
    if not kept:
        path.unlink()
    elif kept != lines:
        write_whole(path, b"".join(kept))
    return len(lines) - len(kept)


def _without(line: bytes, names: Set[bytes]) -> bytes | None:
    """The line without these tracklets; None when it is about one of them, or torn, or noise that names one."""
    if line.endswith(b"\n") and names.isdisjoint(_NAME.findall(line)):
        return line
    try:
        event = json.loads(line)
    except ValueError:
        return None
    if _is_among(event, names):
        return None
    links = event.get("links") or []
    kept = [link for link in links if not _is_among(link, names)]
    if len(kept) == len(links):
        return line
    return json.dumps(event | {"links": kept}, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


def _is_among(entry: Mapping[str, Any], names: Set[bytes]) -> bool:
    return str(entry.get("tracklet_id")).encode() in names


@contextmanager
def _locked(root: Path) -> Iterator[None]:
    folder = root / EVENTS
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / _LOCK).open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def whole_lines(file: IO[bytes]) -> int:
    """Bytes up to and with the last line end; read from the back, for a day's file can be long."""
    position = file.seek(0, os.SEEK_END)
    while position:
        start = max(0, position - 65536)
        file.seek(start)
        found = file.read(position - start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        position = start
    return 0


@contextmanager
def exclusive(path: Path) -> Iterator[IO[bytes]]:
    """A file of numbered lines, to read and to append to, alone among all processes."""
    while True:
        with path.open("a+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            if not _has_name(file, path):
                continue  # who had the lock put another file under the name
            yield file
            file.flush()
            return


def _has_name(file: IO[bytes], path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def last_number(file: IO[bytes]) -> int:
    """That with which the last whole line, a JSON list, begins; a torn one that a crash left is cut off.

    The file stands at its end after it.
    """
    position = whole_lines(file)
    file.truncate(position)
    length, line = 0, b""
    while length < position and line.count(b"\n") < 2:
        length = min(position, 2 * length + 65536)
        file.seek(position - length)
        line = file.read(length)
    file.seek(0, os.SEEK_END)
    last = line.removesuffix(b"\n").rpartition(b"\n")[2]
    return int(last[1 : last.index(b",")]) if last else 0
