"""Where evidence lies within a gallery: a zip an export, and beside it a note of what is in it."""

import fcntl
import json
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

EXPORTS = "exports"
ZIP_SUFFIX = ".zip"
NOTE_SUFFIX = ".json"


def remove_leftovers(root: Path) -> None:
    """Remove what a killed process left half written; what somebody writes at this moment stays."""
    for part in (root / EXPORTS).glob("*.part"):
        with suppress(OSError), part.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            part.unlink()


def exports_with(root: Path, tracklet_ids: Collection[str]) -> list[str]:
    """Files of exports that show one of these tracklets, or nobody knows whom; relative to the root."""
    found = [each.relative_to(root).as_posix() for each in sorted((root / EXPORTS).glob("*.part")) if tracklet_ids]
    for note in sorted((root / EXPORTS).glob(f"*{NOTE_SUFFIX}")):
        try:
            shown = set(json.loads(note.read_text(encoding="utf-8"))["tracklets"])
        except (OSError, ValueError, KeyError, TypeError):
            shown = set(tracklet_ids)
        if shown.intersection(tracklet_ids):
            files = (note.with_suffix(ZIP_SUFFIX), note)
            found += [each.relative_to(root).as_posix() for each in files if each.exists()]
    return found
