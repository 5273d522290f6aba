"""Where evidence lies within a gallery: a zip an export, and beside it a note of what is in it.

The note of an export that is being written is locked by the process that writes it: the lock goes with the process, so
that another tells an export that goes on from one whose server was killed.
"""

import fcntl
import json
import os
import zipfile
from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import IO, Any

from pipeline.crop_files import held, write_whole
from pipeline.errors import UsageError

EXPORTS = "exports"
ZIP_SUFFIX = ".zip"
NOTE_SUFFIX = ".json"
NOTE_VERSION = 3
RUNNING, DONE, FAILED = "running", "done", "failed"
_BAD_NOTE = (ValueError, KeyError, TypeError, AttributeError)


@dataclass(frozen=True, slots=True)
class Shown:
    """A tracklet in an export, as it was then. What stands in the notes of older versions may be its name alone.

    Attributes:
        tracklet_id: Its name.
        camera_id: That saw it.
        start: Of its first box.
        end: Of its last.
        person_id: Whom it was taken for.
    """

    tracklet_id: str
    camera_id: str | None = None
    start: datetime | None = None
    end: datetime | None = None
    person_id: int | None = None

    def may_be(self, cameras: Collection[str], start: datetime | None, end: datetime | None) -> bool:
        """Whether it is of one of these cameras (none: of any) and this time; of what is not known it may be."""
        return (
            (not cameras or self.camera_id is None or self.camera_id in cameras)
            and (start is None or self.end is None or self.end >= start)
            and (end is None or self.start is None or self.start < end)
        )


@dataclass(frozen=True, slots=True)
class Note:
    """What is known of an export; kept beside the zip.

    Attributes:
        export_id: Its name, a ULID.
        case: Of which.
        state: ``running``, ``done`` or ``failed``.
        created: When it was asked for.
        by: Who asked.
        blur_others: As it was asked for.
        tracklets: What it shows.
        cameras: Those that the one who exported might see; who sees fewer may not have it. None is all: in the zip are
            counterparts, rows of the audit and whatever came into the case meanwhile, of any camera.
        clips: As it was asked for.
        purpose: The same.
        attempts: How often it was begun to be written.
        error: What went wrong, in words that name nobody and no path.
        bytes: Of the zip.
        sha256: Of the zip.
        version: Of what is noted here: before 3 it was not enough to write it anew, and errors named paths.
    """

    export_id: str
    case: str
    state: str
    created: str
    by: str
    blur_others: bool
    tracklets: tuple[Shown, ...]
    cameras: tuple[str, ...] | None
    clips: bool = True
    purpose: str | None = None
    attempts: int = 0
    error: str | None = None
    bytes: int | None = None
    sha256: str | None = None
    version: int = NOTE_VERSION

    @property
    def names(self) -> list[str]:
        """Of the tracklets that it shows."""
        return [each.tracklet_id for each in self.tracklets]


@dataclass(frozen=True, slots=True)
class ExportFiles:
    """The files of one export.

    Attributes:
        export_id: Its name.
        case: Of which; None where no note says so.
        files: Zip and note, as far as they are there, relative to the gallery.
        modified: Of the zip, or of the note where there is no zip, seconds since 1970.
        bytes: Of both.
    """

    export_id: str
    case: str | None
    files: tuple[str, ...]
    modified: float
    bytes: int


def note_path(root: Path, export_id: str) -> Path:
    """Of a note."""
    return root / EXPORTS / f"{export_id}{NOTE_SUFFIX}"


def zip_path(root: Path, export_id: str) -> Path:
    """Of a zip."""
    return root / EXPORTS / f"{export_id}{ZIP_SUFFIX}"


def note_paths(root: Path) -> list[Path]:
    """Of all exports, the oldest first."""
    return sorted((root / EXPORTS).glob(f"*{NOTE_SUFFIX}"))


def read_note(path: Path) -> Note:
    """A note; what an older version left out is taken from the zip, where that is there.

    Raises:
        OSError: When it cannot be read, or is gone.
        ValueError: When it is not the note of an export.
    """
    try:
        plain = json.loads(path.read_text(encoding="utf-8"))
        version = plain.get("version", 1)
        if version == 1:  # its cameras were those of the tracklets alone: what else is in the zip nobody knows
            plain["cameras"] = None
        cameras = plain["cameras"]
        return Note(**plain | {
            "cameras": None if cameras is None else tuple(cameras),
            "tracklets": tuple(_shown_of(each) for each in plain["tracklets"]),
            "version": version,
        })  # fmt: skip
    except _BAD_NOTE as error:
        raise ValueError(f"{path}: not the note of an export") from error


def keep_note(root: Path, note: Note) -> None:
    """Write a note, or its next state."""
    (root / EXPORTS).mkdir(exist_ok=True)
    write_whole(note_path(root, note.export_id), _text(note))


def own_note(root: Path, note: Note) -> IO[bytes]:
    """As `keep_note`; the export is this process's to write, for as long as it holds the file open that it gets."""
    path = note_path(root, note.export_id)
    path.parent.mkdir(exist_ok=True)
    part = path.with_name(path.name + ".part")
    file = held(part)
    try:
        file.write(_text(note))
        file.flush()
        os.fsync(file.fileno())
        part.replace(path)
    except BaseException:
        file.close()
        with suppress(OSError):
            part.unlink()
        raise
    return file


def take_over(root: Path, export_id: str) -> IO[bytes] | None:
    """Own what another process began to write; None when that lives, or the export is gone or another's meanwhile."""
    path = note_path(root, export_id)
    try:
        file = path.open("rb")
    except OSError:
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(file.fileno()), path.stat()):
            return file
    except BlockingIOError:
        pass
    except FileNotFoundError:
        pass
    except OSError:
        return file  # a disk without locks, where nobody can tell
    file.close()
    return None


def is_being_written(root: Path, export_id: str) -> bool:
    """Whether a process that lives writes an export."""
    with suppress(OSError, ValueError):
        if read_note(note_path(root, export_id)).state == RUNNING:
            owned = take_over(root, export_id)
            if owned is None:
                return True
            owned.close()
    return False


def shown_in_zip(path: Path) -> tuple[Shown, ...]:
    """What a zip shows.

    Raises:
        OSError: When it cannot be read.
        ValueError: When it is no evidence.
    """
    try:
        with zipfile.ZipFile(path) as zipped:
            told = json.loads(zipped.read("tracklets.json"))
        return tuple(
            Shown(
                each["tracklet_id"],
                each["camera_id"],
                datetime.fromisoformat(each["start"]),
                datetime.fromisoformat(each["end"]),
                None if each["person"] is None else int(each["person"][1:]),
            )
            for each in told
        )
    except (*_BAD_NOTE, zipfile.BadZipFile) as error:
        raise ValueError(f"{path}: not the evidence of a case") from error


def remove_leftovers(root: Path) -> None:
    """Remove what a killed process left half written; what somebody writes at this moment stays."""
    for part in (root / EXPORTS).glob("*.part"):
        with suppress(OSError), part.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            part.unlink()


def remove_export(root: Path, export_id: str) -> None:
    """Remove an export's files, the note last; what is not there is passed over.

    Raises:
        OSError: When one cannot be deleted.
    """
    for path in (zip_path(root, export_id), note_path(root, export_id)):
        path.unlink(missing_ok=True)


def exports_with(root: Path, tracklet_ids: Collection[str]) -> list[str]:
    """Files of exports that show one of these tracklets, or nobody knows whom; relative to the root.

    A zip that is not there yet is named too where there is a note: it may come at any moment.
    """
    found = [each.relative_to(root).as_posix() for each in sorted((root / EXPORTS).glob("*.part")) if tracklet_ids]
    for path in note_paths(root):
        try:
            shown = set(read_note(path).names)
        except (OSError, ValueError):
            shown = set(tracklet_ids)
        if shown.intersection(tracklet_ids):
            found += [each.relative_to(root).as_posix() for each in (path.with_suffix(ZIP_SUFFIX), path)]
    return found


def all_shown(root: Path) -> Iterator[Shown]:
    """Every tracklet that an export shows, once an export."""
    for path in note_paths(root):
        with suppress(OSError, ValueError):
            note = read_note(path)
            yield from note.tracklets if note.version == NOTE_VERSION else _shown_by_older(path, note)


def all_exports(root: Path) -> list[ExportFiles]:
    """Every export that has a file, the oldest first."""
    names = {path.stem for suffix in (NOTE_SUFFIX, ZIP_SUFFIX) for path in (root / EXPORTS).glob(f"*{suffix}")}
    found = [each for name in names if (each := _files_of(root, name)) is not None]
    return sorted(found, key=lambda each: (each.modified, each.export_id))


def require_export(root: Path, export_id: str) -> None:
    """Make sure that an export has a file.

    Raises:
        UsageError: When there is none of this name.
    """
    if export_id not in {each.export_id for each in all_exports(root)}:
        raise UsageError(f"{root}: no export {export_id!r}; case exports lists them")


def _files_of(root: Path, name: str) -> ExportFiles | None:
    case: str | None = None
    with suppress(OSError, ValueError):
        case = read_note(note_path(root, name)).case
    files, sizes, modified = [], 0, 0.0
    for path in (note_path(root, name), zip_path(root, name)):  # the date is the last one's
        with suppress(FileNotFoundError):
            stat = path.stat()
            files.append(path.relative_to(root).as_posix())
            sizes, modified = sizes + stat.st_size, stat.st_mtime
    return ExportFiles(name, case, tuple(files), modified, sizes) if files else None


def _shown_by_older(path: Path, note: Note) -> tuple[Shown, ...]:
    with suppress(OSError, ValueError):
        return shown_in_zip(path.with_suffix(ZIP_SUFFIX))
    return note.tracklets


def _shown_of(plain: Any) -> Shown:
    if isinstance(plain, str):
        return Shown(plain)
    times = {name: None if plain[name] is None else datetime.fromisoformat(plain[name]) for name in ("start", "end")}
    return Shown(**plain | times)


def _text(note: Note) -> bytes:
    return (json.dumps(asdict(note), indent=1, default=lambda each: each.isoformat()) + "\n").encode()
