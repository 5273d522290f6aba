"""HITSZ-VCM (Lin et al., "Learning Modal-Invariant and Temporal-Memory for Video-based Visible-Infrared Person
Re-Identification", CVPR 2022): visible and near-infrared tracklets listed by name files and line numbers.

``info/{train,test}_name.txt`` lists frames as ``0001M2D3T1F1.jpg``: person 0001, modality (1 infrared, 2 visible),
camera 3, tracklet 1, file ``1.jpg``, which lies in ``0001/rgb/D3/1.jpg``. ``info/track_{train,test}_info.txt`` has a
tracklet a line: ``modality start end person camera``, start and end being numbers of lines of the name file, counted
from 1, both included. ``info/query_IDX.txt`` names the queries as lines of ``track_test_info.txt``, from 1.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from reid.datasets.split import DatasetError, Direction, TrackletSplit, every_direction, hold_out
from reid.datasets.text import NUMBER, is_number, read_text
from reid.metrics import CameraRule
from reid.modality import Modality

INFO = "info"
MODALITY_OF = {1: Modality.NIR, 2: Modality.RGB}
FOLDER_OF = {Modality.NIR: "ir", Modality.RGB: "rgb"}
_NAME = re.compile(
    rf"(?P<pid>{NUMBER})M(?P<modality>[12])D(?P<camera>{NUMBER})T(?P<tracklet>{NUMBER})F(?P<file>[^/\\\s]+)"
)
_LEGACY_MIN_FRAMES = 12


class HitszVcmOptions(BaseModel):
    """How the lists are read.

    Attributes:
        min_frames: Shorter tracklets are left out; 12 in all published loaders, which leaves 9,751 of the 11,061
            tracklets to train on.
        legacy_last_query_line: Of a ``query_IDX.txt`` of several lines use the last one only, as the old loaders do;
            the infrared tracklets of the other lines are then in the gallery.
        val_identities: Persons of the training split that are held out as the split ``val``.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    min_frames: int = Field(default=_LEGACY_MIN_FRAMES, ge=1)
    legacy_last_query_line: bool = False
    val_identities: int = Field(default=0, ge=0)


@dataclass(frozen=True, slots=True)
class FrameName:
    """One line of a name file."""

    pid: str
    modality: Modality
    camera: int
    tracklet: int
    file: str

    @property
    def path(self) -> str:
        """Where the frame lies below the folder of its split."""
        return f"{self.pid}/{FOLDER_OF[self.modality]}/D{self.camera}/{self.file}"


@dataclass(frozen=True, slots=True)
class Track:
    """One line of a track file: frames ``start`` to ``end`` of the name file, from 1, both included."""

    modality: Modality
    start: int
    end: int
    pid: int
    camera: int

    @property
    def length(self) -> int:
        """Frames."""
        return self.end - self.start + 1


class Lists:
    """The five text files of one root, parsed and checked for form; no image is looked at."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def names(self, split: str) -> list[FrameName]:
        """The frames of a name file."""
        path = self.root / INFO / f"{split}_name.txt"
        return [_frame_name(path, number, line) for number, line in enumerate(_lines(path), start=1)]

    def tracks(self, split: str, frames: int) -> list[Track]:
        """The tracklets of a track file, whose name file has this many frames."""
        path = self.root / INFO / f"track_{split}_info.txt"
        return [_track(f"{path}:{number}", line, frames) for number, line in enumerate(_lines(path), start=1)]

    def queries(self, tracks: int, *, last_line: bool = False) -> NDArray[np.int64]:
        """Rows of the test tracklets, from 0, of which there are this many."""
        path = self.root / INFO / "query_IDX.txt"
        lines = _lines(path)
        fields = " ".join(lines[-1:] if last_line else lines).replace(",", " ").split()
        wrong = [field for field in fields if not (is_number(field) and 1 <= int(field) <= tracks)]
        if wrong:
            raise DatasetError(f"{path}: must be line numbers of track_test_info.txt, 1 to {tracks}; got {wrong[0]!r}")
        return np.array([int(field) - 1 for field in fields], np.int64)

    def folder(self, split: str, names: Sequence[FrameName]) -> Path:
        """The folder that holds the persons of a split, whichever layout it is.

        Raises:
            DatasetError: When no candidate holds any of them.
        """
        persons = list(dict.fromkeys(name.pid for name in names))
        capital = split.capitalize()
        candidates = [self.root / capital / capital, self.root / capital, self.root]
        for folder in candidates:
            if any((folder / person).is_dir() for person in persons):
                return folder
        raise DatasetError(
            f"{self.root}: no folder of any of the {len(persons)} persons of {split}_name.txt (such as"
            f" {persons[0] if persons else 'none'!r}) in {', '.join(str(folder) for folder in candidates)}"
        )


class HitszVcm:
    """HITSZ-VCM, or anything laid out like it, as a ``Dataset``: splits ``train``, ``val`` on request, and ``test``."""

    name = "hitsz_vcm"
    camera_rule = CameraRule.SAME_ID_SAME_CAM

    def __init__(self, root: Path, options: HitszVcmOptions) -> None:
        self.root, self.options = root, options
        self.lists = Lists(root)
        self._parts: dict[str, _Part] = {}

    @property
    def splits(self) -> tuple[str, ...]:
        """Names of the splits."""
        return ("train", "val", "test") if self.options.val_identities else ("train", "test")

    def split(self, name: str) -> TrackletSplit:
        """The tracklets of one split.

        Raises:
            DatasetError: When there is no such split, or its lists cannot be used.
        """
        if name not in self.splits:
            raise DatasetError(f"{self.root}: no split {name!r}; splits: {', '.join(self.splits)}")
        if name == "test":
            return self._part("test").split
        return self._training[name]

    def directions(self, name: str) -> dict[str, Direction]:
        """For ``test``, ``nir->rgb`` (I2V): the listed queries against the rest; ``rgb->nir`` (V2I): the reverse."""
        if name != "test":
            return every_direction(self.split(name))
        part = self._part("test")
        listed = self.lists.queries(part.raw, last_line=self.options.legacy_last_query_line)
        if not len(listed):
            raise DatasetError(f"{self.root / INFO / 'query_IDX.txt'}: lists no query")
        is_query = np.zeros(part.raw, np.bool_)
        is_query[listed] = True
        is_query = is_query[part.kept]
        self._check_roles(part.split, is_query)
        infrared, visible = np.flatnonzero(is_query), np.flatnonzero(~is_query)
        return {"nir->rgb": Direction(infrared, visible), "rgb->nir": Direction(visible, infrared)}

    def _check_roles(self, split: TrackletSplit, is_query: NDArray[np.bool_]) -> None:
        infrared = np.array([modality is Modality.NIR for modality in split.modalities], np.bool_)
        last_line = self.options.legacy_last_query_line  # leaves infrared tracklets unlisted
        odd = np.flatnonzero(is_query & ~infrared if last_line else infrared != is_query)
        if len(odd):
            raise DatasetError(
                f"{self.root / INFO / 'query_IDX.txt'}: must list the infrared tracklets and no other, but"
                f" {len(odd)} are not so, such as {split.paths[odd[0]][0]}"
            )

    @cached_property
    def _training(self) -> dict[str, TrackletSplit]:
        everyone = self._part("train").split
        if not self.options.val_identities:
            return {"train": everyone}
        train, val = hold_out(everyone, self.options.val_identities)
        return {"train": train, "val": val}

    @cached_property
    def _cameras(self) -> list[int]:
        """Of both track files, so that a camera has one number in training and test."""
        found: set[int] = set()
        for split in ("train", "test"):
            path = self.root / INFO / f"track_{split}_info.txt"
            fields = [line.split() for line in _lines(path)] if path.is_file() else []
            found |= {int(each[4]) for each in fields if len(each) == 5 and is_number(each[4])}
        return sorted(found)

    def _part(self, split: str) -> "_Part":
        if split not in self._parts:
            self._parts[split] = self._read(split)
        return self._parts[split]

    def _read(self, split: str) -> "_Part":
        names = self.lists.names(split)
        tracks = self.lists.tracks(split, len(names))
        least = self.options.min_frames
        kept = [row for row, track in enumerate(tracks) if track.length >= least]
        if not kept:
            raise DatasetError(
                f"{self.root / INFO / f'track_{split}_info.txt'}: lists no tracklet of {least} frames or more"
                f" (min_frames), but {len(tracks)} shorter ones"
            )
        folder = self.lists.folder(split, names)
        chosen = [tracks[row] for row in kept]
        read = TrackletSplit(
            paths=tuple(tuple(folder / name.path for name in names[track.start - 1 : track.end]) for track in chosen),
            pids=np.array([track.pid for track in chosen], np.int64),
            camids=np.array([self._cameras.index(track.camera) for track in chosen], np.int64),
            modalities=tuple(track.modality for track in chosen),
            camera_names=tuple(f"D{camera}" for camera in self._cameras),
        )
        return _Part(read, np.array(kept, np.int64), len(tracks))


@dataclass(frozen=True, slots=True, eq=False)
class _Part:
    """A split, the rows of the track file that it has, and how many rows that file has."""

    split: TrackletSplit
    kept: NDArray[np.int64]
    raw: int


def _lines(path: Path) -> list[str]:
    """Without line ends of either kind, and without empty lines at the end."""
    if not path.is_file():
        raise DatasetError(f"{path}: no such file; expected one of the lists of HITSZ-VCM")
    lines = [line.strip() for line in read_text(path).split("\n")]
    while lines and not lines[-1]:
        lines.pop()
    return lines


def _frame_name(path: Path, number: int, line: str) -> FrameName:
    found = _NAME.fullmatch(line)
    if found is None:
        raise DatasetError(f"{path}:{number}: must be like 0001M2D3T1F1.jpg, got {line!r}")
    return FrameName(
        found["pid"], MODALITY_OF[int(found["modality"])], int(found["camera"]), int(found["tracklet"]), found["file"]
    )


def _track(where: str, line: str, frames: int) -> Track:
    fields = line.split()
    if len(fields) != 5 or not all(map(is_number, fields)):
        raise DatasetError(f"{where}: must be five whole numbers: modality start end person camera; got {line!r}")
    modality, start, end, pid, camera = map(int, fields)
    if modality not in MODALITY_OF:
        raise DatasetError(f"{where}: modality must be 1 (infrared) or 2 (visible), got {modality}")
    if not 1 <= start <= end <= frames:
        raise DatasetError(f"{where}: frames must be within 1 to {frames} of the name file, got {start} to {end}")
    return Track(MODALITY_OF[modality], start, end, pid, camera)
