"""Folders and files that a command was given: whether they are what it needs, and how one that is not is told of."""

import errno
import os
from pathlib import Path

_EXPECTED = {
    "seqinfo.ini": "an INI file with name, frameRate, seqLength, imWidth and imHeight",
    "det.txt": "a text file of detections",
    "gt.txt": "a text file of ground truth",
    "manifest.json": "a JSON list of objects with seq and set",
}
_WRONG = {
    errno.ENOENT: "is not there",
    errno.EISDIR: "is a folder",
    errno.ENOTDIR: "is no folder, or lies in none",
    errno.EEXIST: "is a file",
    errno.EACCES: "this user has no right to it",
    errno.EPERM: "this user has no right to it",
    errno.EROFS: "lies on a disk that cannot be written",
    errno.ENOSPC: "the disk is full",
}


class PlaceError(ValueError):
    """A folder or file that a command cannot use; says which, what was expected and what came."""


def check_folder(path: Path, *, of: str) -> None:
    """Before anything in it is looked for.

    Args:
        path: As it was given.
        of: What it should hold.

    Raises:
        PlaceError: When it is no folder, or its files cannot be listed.
    """
    try:
        os.scandir(path).close()
    except OSError as error:
        raise PlaceError(f"{path}: {_wrong(error)}; expected a folder of {of}") from error


def make_folder(path: Path) -> None:
    """For what is to be written; one that is there is used.

    Raises:
        PlaceError: When nothing can be written there.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        if not os.access(path, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
    except OSError as error:
        raise PlaceError(f"{path}: {_wrong(error)}; expected a folder to write to, or a name for a new one") from error


def check_new_file(path: Path) -> None:
    """Before what is to stand in it is worked out.

    Raises:
        PlaceError: When no file of this name can be written.
    """
    wrong = None
    if path.is_dir():
        wrong = "is a folder"
    elif not path.parent.is_dir():
        wrong = f"there is no folder {path.parent}"
    elif not os.access(path.parent, os.W_OK | os.X_OK):
        wrong = f"{path.parent} cannot be written to"
    if wrong:
        raise PlaceError(f"{path}: {wrong}; expected the name of a file to write")


def describe(error: OSError) -> str:
    """A failure of reading or writing as path, what is wrong, and what was expected there."""
    path = Path(error.filename2 or error.filename or "disk")
    expected = _EXPECTED.get(path.name)
    return f"{path}: {_wrong(error)}" + (f"; expected {expected}" if expected else "")


def _wrong(error: OSError) -> str:
    return _WRONG.get(error.errno or 0) or str(error.strerror or error)
