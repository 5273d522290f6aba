"""Tracklets as folders of crops beside a ``tracklets.csv``: the layout that the simulator writes.

``tracklets.csv`` has the columns ``split,pid,camid,modality,tracklet,frames``; the crops of a row lie in
``<split>/<pid:05d>/<modality>/<camid>_<tracklet>/<k:03d>.{jpg,png}``. One ``camid`` in two modalities is two cameras.
"""

import csv
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict

from reid.datasets.split import DatasetError, Direction, TrackletSplit, every_direction
from reid.datasets.text import is_number, read_table
from reid.datasets.vcm_writer import place, whole_folder
from reid.metrics import CameraRule
from reid.modality import Modality

__all__ = ["COLUMNS", "DatasetError", "Folder", "FolderOptions", "FolderTracklet", "read_folder", "write_folder"]

COLUMNS = ("split", "pid", "camid", "modality", "tracklet", "frames")


class FolderOptions(BaseModel):
    """None: the table says everything."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Folder:
    """A tracklet folder as a ``Dataset``."""

    name = "folder"
    camera_rule = CameraRule.SAME_CAM

    def __init__(self, root: Path, options: FolderOptions) -> None:
        self.root, self.options = root, options
        self._read: dict[str, TrackletSplit] = {}

    @property
    def splits(self) -> tuple[str, ...]:
        """Those that the table names."""
        return tuple(sorted({row["split"] for _, row in _read_table(self.root / "tracklets.csv")}))

    def split(self, name: str) -> TrackletSplit:
        """See ``read_folder``."""
        if name not in self._read:
            self._read[name] = read_folder(self.root, name)
        return self._read[name]

    def directions(self, name: str) -> dict[str, Direction]:
        """Every modality against every other."""
        return every_direction(self.split(name))


@dataclass(frozen=True, slots=True)
class FolderTracklet:
    """One tracklet to be written: split, person, camera, modality, and its image files in time order."""

    split: str
    pid: int
    camera: str
    modality: Modality
    frames: tuple[Path, ...]


def write_folder(output: Path, tracklets: Sequence[FolderTracklet], *, copy: bool, notes: Mapping[str, str]) -> None:
    """Write a tracklet folder, whole or not at all.

    Args:
        output: Must not exist.
        tracklets: In any order.
        copy: Copy images rather than hard-link them.
        notes: Further text files by name.

    Raises:
        DatasetError: When the output exists, or an image is missing.
    """
    counts: Counter[tuple[str, int, str, Modality]] = Counter()
    with whole_folder(output) as part, (part / "tracklets.csv").open("w", newline="", encoding="utf-8") as file:
        for name, text in notes.items():
            (part / name).write_text(text, encoding="utf-8")
        table = csv.writer(file)
        table.writerow(COLUMNS)
        for each in tracklets:
            key = each.split, each.pid, each.camera, each.modality
            folder = part / each.split / f"{each.pid:05d}" / each.modality / f"{each.camera}_{counts[key]}"
            folder.mkdir(parents=True)
            for number, frame in enumerate(each.frames):
                place(frame, folder / f"{number:03d}{frame.suffix}", copy)
            table.writerow((each.split, each.pid, each.camera, each.modality, counts[key], len(each.frames)))
            counts[key] += 1


def read_folder(root: str | Path, split: str) -> TrackletSplit:
    """List the tracklets of one split.

    Args:
        root: The folder that holds ``tracklets.csv``.
        split: A name of the ``split`` column, such as ``train``.

    Raises:
        DatasetError: When the table is missing or malformed, names a tracklet twice, the split is not in it, or the
            frames of a tracklet on disk are not those it counts.
    """
    root = Path(root)
    rows = _read_table(root / "tracklets.csv")
    chosen = [(line, row) for line, row in rows if row["split"] == split]
    if not chosen:
        known = ", ".join(sorted({row["split"] for _, row in rows})) or "none"
        raise DatasetError(f"{root / 'tracklets.csv'}: no tracklet of split {split!r}; splits: {known}")
    cameras = [f"{row['modality']}/{row['camid']}" for _, row in chosen]
    names = sorted(set(cameras))
    frames = tuple(_frames(root, line, row) for line, row in chosen)
    _refuse_repeated(root / "tracklets.csv", [line for line, _ in chosen], frames)
    try:
        return TrackletSplit(
            paths=frames,
            pids=np.array([int(row["pid"]) for _, row in chosen], np.int64),
            camids=np.searchsorted(names, cameras).astype(np.int64),
            modalities=tuple(Modality(row["modality"]) for _, row in chosen),
            camera_names=tuple(names),
        )
    except DatasetError:
        raise
    except ValueError as error:
        raise DatasetError(f"{root / 'tracklets.csv'}: {error}") from error


def _read_table(path: Path) -> list[tuple[int, dict[str, str]]]:
    """The rows with their line numbers."""
    if not path.is_file():
        raise DatasetError(f"{path}: no such file; expected the table of a tracklet folder")
    columns, rows = read_table(path)
    if tuple(columns) != COLUMNS:
        raise DatasetError(f"{path}:1: columns must be {','.join(COLUMNS)}, got {','.join(columns) or 'none'}")
    short = [line for line, row in rows if None in row or None in row.values()]
    if short:
        raise DatasetError(f"{path}:{short[0]}: must have {len(COLUMNS)} fields")
    return rows


def _refuse_repeated(table: Path, lines: Sequence[int], frames: Sequence[tuple[Path, ...]]) -> None:
    line_of: dict[tuple[Path, ...], int] = {}
    for line, own in zip(lines, frames, strict=True):
        if own and line_of.setdefault(own, line) != line:
            raise DatasetError(f"{table}:{line}: the tracklet of line {line_of[own]} once more")


def _frames(root: Path, line: int, row: dict[str, str]) -> tuple[Path, ...]:
    where = f"{root / 'tracklets.csv'}:{line}"
    if not (is_number(row["pid"]) and is_number(row["frames"])):
        raise DatasetError(f"{where}: pid and frames must be whole numbers, got {row['pid']!r} and {row['frames']!r}")
    if row["modality"] not in list(Modality):
        raise DatasetError(f"{where}: modality must be one of {', '.join(Modality)}, got {row['modality']!r}")
    folder = root / row["split"] / f"{int(row['pid']):05d}" / row["modality"] / f"{row['camid']}_{row['tracklet']}"
    found = sorted((path for path in folder.glob("*") if path.suffix in (".jpg", ".png")), key=_in_time)
    if len(found) != int(row["frames"]):
        raise DatasetError(f"{where}: {row['frames']} frames expected in {folder}, found {len(found)}")
    return tuple(found)


def _in_time(path: Path) -> tuple[bool, int, str]:
    """By number, of which ``{k:03d}`` is no text order from 1000 on; other names behind, as text."""
    numbered = is_number(path.stem)
    return not numbered, int(path.stem) if numbered else 0, path.name
