"""Write tracklets in the layout of HITSZ-VCM, whole or not at all."""

import os
import shutil
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from reid.datasets.hitsz_vcm import FOLDER_OF, INFO, MODALITY_OF
from reid.datasets.split import DatasetError
from reid.modality import Modality

_NUMBER_OF = {modality: number for number, modality in MODALITY_OF.items()}
_GREATEST_PID = 9999  # other people's loaders take the person from the first four letters of a name


@dataclass(frozen=True, slots=True)
class VcmTracklet:
    """One tracklet to be written.

    Attributes:
        pid: Person, 1 to 9999.
        modality: Visible or near-infrared: the layout knows no other.
        camera: From 1.
        frames: Image files in time order, at least one.
    """

    pid: int
    modality: Modality
    camera: int
    frames: tuple[Path, ...]

    def __post_init__(self) -> None:
        if not 1 <= self.pid <= _GREATEST_PID:
            raise DatasetError(f"person must be 1 to {_GREATEST_PID} in the layout of HITSZ-VCM, got {self.pid}")
        if self.modality not in _NUMBER_OF:
            raise DatasetError(f"the layout of HITSZ-VCM has rgb and nir, got {self.modality.value}")
        if self.camera < 1 or not self.frames:
            raise DatasetError(f"person {self.pid}: camera {self.camera}, {len(self.frames)} frames: must be 1 or more")


def write_vcm(
    output: Path,
    *,
    train: Sequence[VcmTracklet],
    test: Sequence[VcmTracklet],
    copy: bool,
    notes: Mapping[str, str],
) -> None:
    """Write images and lists; the queries are the near-infrared test tracklets.

    Args:
        output: Must not exist; appears when everything is in it.
        train: May be empty: then its lists are not written.
        test: Likewise.
        copy: Copy images; otherwise hard links are made where the disk allows it, which must then not be edited.
        notes: Further text files by name: where the data come from, what may be done with them.

    Raises:
        DatasetError: When the output exists, or an image is missing.
    """
    with whole_folder(output) as part:
        (part / INFO).mkdir()
        for name, text in notes.items():
            (part / name).write_text(text, encoding="utf-8")
        for split, tracklets in (("train", train), ("test", test)):
            if tracklets:
                _write_split(part, split, tracklets, copy)


@contextmanager
def whole_folder(output: Path) -> Iterator[Path]:
    """Write into a sibling that takes the name ``output`` only when the block has ended well.

    Raises:
        DatasetError: When the output exists.
    """
    if output.exists():
        raise DatasetError(f"{output}: exists already; choose another folder")
    part = output.with_name(f".{output.name}.{os.getpid()}.part")
    try:
        part.mkdir(parents=True)
        yield part
        part.rename(output)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _write_split(root: Path, split: str, tracklets: Sequence[VcmTracklet], copy: bool) -> None:
    names: list[str] = []
    tracks: list[str] = []
    queries: list[str] = []
    frames_of: defaultdict[tuple[int, Modality, int], int] = defaultdict(int)
    tracklets_of: defaultdict[tuple[int, Modality, int], int] = defaultdict(int)
    for row, each in enumerate(tracklets, start=1):
        key = each.pid, each.modality, each.camera
        tracklets_of[key] += 1
        folder = root / split.capitalize() / f"{each.pid:04d}" / FOLDER_OF[each.modality] / f"D{each.camera}"
        folder.mkdir(parents=True, exist_ok=True)
        start = len(names) + 1
        for source in each.frames:
            frames_of[key] += 1
            file = f"{frames_of[key]}{source.suffix}"
            place(source, folder / file, copy)
            names.append(f"{each.pid:04d}M{_NUMBER_OF[each.modality]}D{each.camera}T{tracklets_of[key]}F{file}")
        tracks.append(f"{_NUMBER_OF[each.modality]} {start} {len(names)} {each.pid} {each.camera}")
        queries += [str(row)] if each.modality is Modality.NIR else []
    _write_lines(root / INFO / f"{split}_name.txt", names)
    _write_lines(root / INFO / f"track_{split}_info.txt", tracks)
    if split == "test":
        _write_lines(root / INFO / "query_IDX.txt", [" ".join(queries)])


def place(source: Path, target: Path, copy: bool) -> None:
    """Link or copy one file.

    Raises:
        DatasetError: When it is missing.
    """
    if not source.is_file():
        raise DatasetError(f"{source}: missing")
    if not copy:
        try:
            os.link(source.resolve(), target)
        except OSError:  # another disk, or one without hard links
            pass
        else:
            return
    shutil.copyfile(source, target)


def _write_lines(path: Path, lines: Sequence[str]) -> None:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="ascii")
