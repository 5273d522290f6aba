"""MOTChallenge text: detections, ground truth, results, and seqinfo.ini.

A row is ``frame,id,left,top,width,height,confidence,class,visibility``, frames counted from 1. Rows of detections and
results may end after the confidence; their further columns (x, y, z, always -1) are not read. A file may begin with a
byte order mark.
"""

import configparser
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from trackers.boxes import xywh_to_xyxy
from trackers.structures import Detections, Tracks


class MotFormatError(ValueError):
    """A file that is not the MOTChallenge text it should be; says file:line, what was expected and what came."""


@dataclass(frozen=True, slots=True, eq=False)
class MotRows:
    """The rows of one file, ordered by frame and otherwise as in the file.

    Attributes:
        frame: Counted from 1, (n,) int64.
        identity: Person or track, (n,) int64; what a detector writes here has no meaning.
        xywh: Left, top, width, height in pixels, (n, 4) float64.
        confidence: (n,) float64; in ground truth, 0 marks a box that is not to be scored.
        class_id: (n,) int64, 1 is a pedestrian; 1 where the file has no such column.
        visibility: Share that is not covered, (n,) float64; 1 where the file has no such column.
    """

    frame: NDArray[np.int64]
    identity: NDArray[np.int64]
    xywh: NDArray[np.float64]
    confidence: NDArray[np.float64]
    class_id: NDArray[np.int64]
    visibility: NDArray[np.float64]

    def __post_init__(self) -> None:
        n = len(self.frame)
        if self.xywh.shape != (n, 4):
            raise ValueError(f"xywh must be ({n}, 4), got {self.xywh.shape}")
        for name in ("frame", "identity", "confidence", "class_id", "visibility"):
            if getattr(self, name).shape != (n,):
                raise ValueError(f"{name} must be ({n},), got {getattr(self, name).shape}")
        if (np.diff(self.frame) < 0).any() or (self.frame < 1).any():
            raise ValueError("frame must not decrease and must count from 1")

    def __len__(self) -> int:
        return len(self.frame)

    def of_frame(self, frame: int) -> slice:
        """Where the rows of a frame stand."""
        start, stop = np.searchsorted(self.frame, [frame, frame + 1])
        return slice(int(start), int(stop))


@dataclass(frozen=True, slots=True)
class SequenceInfo:
    """What seqinfo.ini says of a sequence.

    Attributes:
        name: Of the sequence.
        fps: Frames a second.
        frames: How many there are.
        resolution_wh: Width and height, pixels.
    """

    name: str
    fps: float
    frames: int
    resolution_wh: tuple[int, int]


def read_detections(path: Path) -> MotRows:
    """Read det.txt: what a detector found, boxes without area included: `Detections.usable` counts and drops them.

    Raises:
        MotFormatError: When a row is malformed, a frame is below 1, or a confidence is not in [0, 1]: scores of another
            scale mean nothing to a tracker's thresholds, whichever box they belong to.
    """
    return _read(path, columns=7, detections=True)


def read_results(path: Path) -> MotRows:
    """Read a tracker's output.

    Raises:
        MotFormatError: When a row is malformed, a frame is below 1, a box has no area, or an id is twice in a frame.
    """
    return _read(path, columns=7)


def read_ground_truth(path: Path) -> MotRows:
    """Read gt.txt, the boxes that are not to be scored included.

    Raises:
        MotFormatError: Like `read_results`, or when the class column is absent.
    """
    return _read(path, columns=8)


def _read(path: Path, *, columns: int, detections: bool = False) -> MotRows:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise MotFormatError(f"{path}: not MOTChallenge text, but binary data") from error
    numbers = np.array([number for number, line in enumerate(lines, start=1) if line.strip()], dtype=np.int64)
    table = _parse_quickly(lines, columns, detections=detections)
    if table is None:
        rows = [_row(f"{path}:{number}", lines[number - 1], columns, detections=detections) for number in numbers]
        table = np.array(rows, dtype=np.float64).reshape(-1, 9)
    order = np.argsort(table[:, 0], kind="stable")
    table = table[order]
    if not detections:
        _check_unique(path, table, numbers[order])
    return MotRows(
        frame=table[:, 0].astype(np.int64),
        identity=table[:, 1].astype(np.int64),
        xywh=table[:, 2:6],
        confidence=table[:, 6],
        class_id=table[:, 7].astype(np.int64),
        visibility=table[:, 8],
    )


def _parse_quickly(lines: list[str], columns: int, *, detections: bool) -> NDArray[np.float64] | None:
    """All rows at once, as `_row` reads each; None where one of them may be malformed, so that `_row` says which."""
    if not any(line.strip() for line in lines):
        return np.empty((0, 9))
    kept = 9 if columns > 7 else columns
    try:
        cells = np.loadtxt(lines, delimiter=",", comments=None, ndmin=2)[:, :kept]
    except ValueError:
        return None
    if cells.shape[1] < columns:
        return None
    table = np.ones((len(cells), 9))
    table[:, : cells.shape[1]] = cells
    whole = table[:, [0, 1, 7]]
    good = np.isfinite(cells).all() and (whole == np.floor(whole)).all() and (table[:, 0] > 0).all()
    if detections:
        good = good and (table[:, 6] >= 0).all() and (table[:, 6] <= 1).all()
    else:
        good = good and (table[:, [4, 5]] > 0).all()
    return table if good else None


def _row(where: str, line: str, columns: int, *, detections: bool) -> list[float]:
    cells = line.strip().rstrip(",").split(",")
    if len(cells) < columns:
        raise MotFormatError(f"{where}: expected at least {columns} comma-separated columns, got {len(cells)}")
    try:
        row = [float(cell) for cell in cells[: 9 if columns > 7 else columns]]
    except ValueError as error:
        raise MotFormatError(f"{where}: {error}") from error
    if not np.isfinite(row).all():
        raise MotFormatError(f"{where}: every column must be finite, got {line.strip()!r}")
    row = [*row, 1.0, 1.0][:9]
    _check_row(where, row, detections=detections)
    return row


def _check_row(where: str, row: list[float], *, detections: bool) -> None:
    frame, identity, _, _, width, height, confidence, class_id, _ = row
    if frame < 1 or not frame.is_integer():
        raise MotFormatError(f"{where}: frame must be a whole number from 1, got {frame:g}")
    if not (identity.is_integer() and class_id.is_integer()):
        raise MotFormatError(f"{where}: id and class must be whole numbers, got {identity:g} and {class_id:g}")
    if detections and not 0 <= confidence <= 1:
        raise MotFormatError(f"{where}: confidence must be in [0, 1], got {confidence:g}")
    if not detections and (width <= 0 or height <= 0):
        raise MotFormatError(f"{where}: width and height must be above 0, got {width:g} and {height:g}")


def _check_unique(path: Path, table: NDArray[np.float64], lines: NDArray[np.int64]) -> None:
    _, first, counts = np.unique(table[:, :2], axis=0, return_index=True, return_counts=True)
    if (counts > 1).any():
        frame, identity = table[first[counts > 1][0], :2]
        twice = lines[(table[:, 0] == frame) & (table[:, 1] == identity)]
        raise MotFormatError(
            f"{path}:{twice[1]}: id {identity:g} appears twice in frame {frame:g}, first in line {twice[0]}"
        )


def write_results(path: Path, rows: MotRows) -> None:
    """Write a tracker's output: ten columns, the last three -1."""
    _write(path, rows, lambda _: "-1,-1,-1")


def write_detections(path: Path, rows: MotRows) -> None:
    """Write det.txt: like results, with -1 for the id."""
    unnamed = MotRows(rows.frame, np.full(len(rows), -1), rows.xywh, rows.confidence, rows.class_id, rows.visibility)
    _write(path, unnamed, lambda _: "-1,-1,-1")


def write_ground_truth(path: Path, rows: MotRows) -> None:
    """Write gt.txt: nine columns."""
    _write(path, rows, lambda row: f"{rows.class_id[row]},{_number(rows.visibility[row])}")


def _write(path: Path, rows: MotRows, tail: Callable[[int], str]) -> None:
    """Write beside the file and move it there when it is whole."""
    part = path.with_name(f"{path.name}.part")
    try:
        with part.open("w", encoding="utf-8", newline="\n") as file:
            for row in range(len(rows)):
                numbers = ",".join(_number(value) for value in (*rows.xywh[row], rows.confidence[row]))
                file.write(f"{rows.frame[row]},{rows.identity[row]},{numbers},{tail(row)}\n")
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _number(value: np.float64) -> str:
    """At most six decimals: a millionth of a pixel."""
    return f"{value:.6f}".rstrip("0").rstrip(".")


def detections_of(rows: MotRows, frame: int) -> Detections:
    """The boxes of a frame, as a tracker takes them."""
    here = rows.of_frame(frame)
    return Detections(xywh_to_xyxy(rows.xywh[here]).astype(np.float32), rows.confidence[here].astype(np.float32))


def rows_of(tracks_by_frame: dict[int, Tracks], *, ids: Literal["track", "tracklet"] = "track") -> MotRows:
    """What a tracker gave, keyed by the frame counted from 1, as rows to write or to score.

    Args:
        tracks_by_frame: Frames without tracks may be left out.
        ids: Which of a box's two ids is its identity: of the long track, or of the pure tracklet.
    """
    frames = sorted(tracks_by_frame)
    tracks = [tracks_by_frame[frame] for frame in frames] or [Tracks.empty()]
    counts = [len(tracks_by_frame[frame]) for frame in frames]
    xywh = np.concatenate([each.xyxy for each in tracks]).astype(np.float64)
    xywh[:, 2:] -= xywh[:, :2]
    total = len(xywh)
    return MotRows(
        frame=np.repeat(np.array(frames, dtype=np.int64), counts),
        identity=np.concatenate([each.track_id if ids == "track" else each.tracklet_id for each in tracks]),
        xywh=xywh,
        confidence=np.concatenate([each.confidence for each in tracks]).astype(np.float64),
        class_id=np.ones(total, dtype=np.int64),
        visibility=np.ones(total),
    )


def read_sequence_info(path: Path) -> SequenceInfo:
    """Read seqinfo.ini.

    Raises:
        MotFormatError: When it is no ini file, or lacks a key, or a value is no positive number.
    """
    parser = configparser.ConfigParser()
    try:
        parser.read_string(path.read_text(encoding="utf-8-sig"))
        section = parser["Sequence"]
        info = SequenceInfo(
            name=section["name"],
            fps=float(section["frameRate"]),
            frames=int(section["seqLength"]),
            resolution_wh=(int(section["imWidth"]), int(section["imHeight"])),
        )
    except configparser.Error as error:
        raise MotFormatError(f"{path}: {error}") from error
    except KeyError as error:
        raise MotFormatError(f"{path}: {error.args[0]!r} is missing") from error
    except ValueError as error:
        raise MotFormatError(f"{path}: {error}") from error
    if not (np.isfinite(info.fps) and min(info.fps, info.frames, *info.resolution_wh) > 0):
        raise MotFormatError(f"{path}: frameRate, seqLength, imWidth and imHeight must be positive, got {info}")
    return info
