"""Track precomputed detections: ``python -m trackers.run --data D --output R`` reads every D/SEQ/det/det.txt.

Each sequence needs its D/SEQ/seqinfo.ini, from which time is taken: frame n is at (n - 1) / frameRate seconds. All
sequences are read and checked before the first is tracked; each R/SEQ.txt appears when it is whole.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

from trackers.algorithms import DEFAULT, TRACKERS, Algorithm
from trackers.base import Tracker
from trackers.boxes import xywh_to_xyxy
from trackers.mot import (
    MotFormatError,
    MotRows,
    SequenceInfo,
    read_detections,
    read_sequence_info,
    rows_of,
    write_results,
)
from trackers.places import check_folder, describe, make_folder
from trackers.structures import Detections, Dropped, Tracks


@dataclass(frozen=True, slots=True, eq=False)
class DetectedSequence:
    """What a detector found in a sequence, frame by frame.

    Attributes:
        info: Of the sequence.
        frames: The boxes of each.
        dropped: How many of the file's boxes are in none of them.
    """

    info: SequenceInfo
    frames: tuple[Detections, ...]
    dropped: Dropped


def load(folder: Path) -> DetectedSequence:
    """Read det/det.txt and seqinfo.ini of one sequence, without boxes of no area, off the screen or beyond float32.

    Raises:
        MotFormatError: When a file is malformed, or a detection lies behind the last frame.
        OSError: When a file cannot be read.
    """
    info = read_sequence_info(folder / "seqinfo.ini")
    rows = read_detections(folder / "det" / "det.txt")
    if len(rows) and rows.frame[-1] > info.frames:
        raise MotFormatError(
            f"{folder / 'det' / 'det.txt'}: a detection in frame {rows.frame[-1]}, but seqLength is {info.frames}"
        )
    frames, dropped = [], []
    for frame in range(1, info.frames + 1):
        here = rows.of_frame(frame)
        usable = Detections.usable(
            xywh_to_xyxy(rows.xywh[here]), rows.confidence[here], resolution_wh=info.resolution_wh
        )
        frames.append(usable[0])
        dropped.append(usable[1])
    return DetectedSequence(info, tuple(frames), Dropped(*map(sum, zip(*dropped, strict=True))))


def track(sequence: DetectedSequence, tracker: Tracker) -> tuple[dict[int, Tracks], float]:
    """Run a new tracker over a sequence: its tracks by frame, counted from 1, and the seconds spent in the tracker."""
    fps = sequence.info.fps
    start = time.perf_counter()
    tracks = [tracker.update(each, pts_seconds=index / fps) for index, each in enumerate(sequence.frames)]
    return dict(enumerate(tracks, start=1)), time.perf_counter() - start


def track_rows(sequence: DetectedSequence, tracker: Tracker, *, ids: Literal["track", "tracklet"] = "track") -> MotRows:
    """Run a new tracker over a sequence, as rows to write or to score."""
    return rows_of(track(sequence, tracker)[0], ids=ids)


def main(arguments: list[str] | None = None) -> int:
    """Track every sequence of a folder; 0 when all went well, 2 when there is nothing to track or a file is bad."""
    options = _parser().parse_args(arguments)
    algorithm = TRACKERS[options.tracker]
    try:
        settings = _settings(options.set, algorithm)
        algorithm.build(**settings)
        check_folder(options.data, of="SEQ/det/det.txt and SEQ/seqinfo.ini")
        sequences = _load_all(options.data)
        make_folder(options.output)
    except ValueError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    try:
        for name, sequence in sequences.items():
            tracks, seconds = track(sequence, algorithm.build(**settings))
            write_results(options.output / f"{name}.txt", rows_of(tracks, ids=options.ids))
            frames = sequence.info.frames
            left_out = "".join(f", {each}" for each in told(sequence.dropped))
            sys.stdout.write(f"{name}: {frames} frames, {frames / seconds:.0f} frames/s{left_out}\n")
    except OSError as error:
        sys.stderr.write(f"{describe(error)}\n")
        return 2
    return 0


def told(dropped: Dropped) -> list[str]:
    """How many boxes were left out, a sentence for each reason that held."""
    return [
        f"{count} {'box' if count == 1 else 'boxes'} dropped: {why.replace('_', ' ')}"
        for why, count in dropped._asdict().items()
        if count
    ]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m trackers.run", description=__doc__.split("\n\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of SEQ/det/det.txt and SEQ/seqinfo.ini")
    parser.add_argument("--output", type=Path, required=True, help="folder for SEQ.txt")
    parser.add_argument("--tracker", choices=TRACKERS, default=DEFAULT, help=f"default: {DEFAULT}")
    parser.add_argument(
        "--ids", choices=("track", "tracklet"), default="track", help="the id written: of long tracks or pure tracklets"
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a setting of the tracker; may be repeated",
    )
    return parser


def _settings(assignments: Sequence[str], algorithm: Algorithm) -> dict[str, Any]:
    """What the command line gives, checked by the tracker itself later."""
    defaults = {field.name: getattr(algorithm.settings(), field.name) for field in fields(algorithm.settings)}
    kinds = {name: type(default) for name, default in defaults.items() if type(default) in _KINDS}
    settings = {}
    for each in assignments:
        name, equals, text = each.partition("=")
        if name not in kinds or not equals:
            problem = f"{name} can be set in code only; " if name in defaults and name not in kinds else ""
            raise ValueError(f"--set {each}: {problem}expected NAME=VALUE with a name of {', '.join(kinds)}")
        settings[name] = _value(each, text, kinds[name])
    return settings


_KINDS: dict[type, str] = {bool: "true or false", int: "a whole number", float: "a number"}


def _value(assignment: str, text: str, kind: type) -> bool | int | float:
    """A setting of the type that its default has."""
    if kind is bool and text.lower() in ("true", "false"):
        return text.lower() == "true"
    try:
        if kind is not bool:
            return int(text) if kind is int else float(text)
    except ValueError:
        pass
    raise ValueError(f"--set {assignment}: expected {_KINDS[kind]}, got {repr(text) if text else 'nothing'}")


def _load_all(data: Path) -> dict[str, DetectedSequence]:
    """Every sequence by its folder's name; the errors of all in one."""
    files = sorted(data.glob("*/det/det.txt"))
    if not files:
        raise MotFormatError(f"{data}: no SEQ/det/det.txt in it")
    sequences, errors = {}, []
    for file in files:
        folder = file.parent.parent
        try:
            sequences[folder.name] = load(folder)
        except MotFormatError as error:
            errors.append(str(error))
        except OSError as error:
            errors.append(describe(error))
    if errors:
        raise MotFormatError("\n".join(errors))
    return sequences


if __name__ == "__main__":
    raise SystemExit(main())
