"""Track precomputed detections: ``python -m trackers.run --data D --output R`` reads every D/SEQ/det/det.txt."""

import argparse
import sys
import time
from pathlib import Path

from trackers.bytetrack import ByteTrack
from trackers.mot import (
    MotFormatError,
    MotRows,
    SequenceInfo,
    detections_of,
    read_detections,
    read_sequence_info,
    rows_of,
    write_results,
)


def track(rows: MotRows, info: SequenceInfo) -> tuple[MotRows, float]:
    """Run ByteTrack over the detections of one sequence; its rows, and the seconds spent in the tracker."""
    detections = [detections_of(rows, frame) for frame in range(1, info.frames + 1)]
    tracker = ByteTrack()
    start = time.perf_counter()
    tracks = [tracker.update(each, pts_seconds=index / info.fps) for index, each in enumerate(detections)]
    seconds = time.perf_counter() - start
    return rows_of(dict(enumerate(tracks, start=1))), seconds


def main(arguments: list[str] | None = None) -> int:
    """Track every sequence of a folder; 0 when all went well, 2 when there is nothing to track or a file is bad."""
    parser = argparse.ArgumentParser(prog="python -m trackers.run", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of SEQ/det/det.txt and SEQ/seqinfo.ini")
    parser.add_argument("--output", type=Path, required=True, help="folder for SEQ.txt")
    options = parser.parse_args(arguments)
    files = sorted(options.data.glob("*/det/det.txt"))
    if not files:
        sys.stderr.write(f"{options.data}: no SEQ/det/det.txt in it\n")
        return 2
    options.output.mkdir(parents=True, exist_ok=True)
    for file in files:
        folder = file.parent.parent
        try:
            info = read_sequence_info(folder / "seqinfo.ini")
            result, seconds = track(read_detections(file), info)
        except (MotFormatError, OSError) as error:
            sys.stderr.write(f"{error}\n")
            return 2
        write_results(options.output / f"{folder.name}.txt", result)
        sys.stdout.write(f"{folder.name}: {info.frames} frames, {info.frames / seconds:.0f} frames/s\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
