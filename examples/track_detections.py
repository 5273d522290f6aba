"""Track people from precomputed detections alone: no video, no model.

python examples/track_detections.py detections.txt tracks.txt --fps 10
"""

import argparse
from pathlib import Path

import numpy as np

from trackers.bytetrack import ByteTrack, ByteTrackSettings
from trackers.mot import MotFormatError, detections_of, read_detections, rows_of, write_results
from trackers.structures import Tracks


def track(detections: Path, output: Path, *, fps: float) -> int:
    """Read MOTChallenge detections, write MOTChallenge results; returns the number of tracks."""
    rows = read_detections(detections)
    tracker = ByteTrack(ByteTrackSettings(high_confidence=0.5, new_confidence=0.6))
    tracks: dict[int, Tracks] = {}
    for frame in range(1, int(rows.frame.max(initial=0)) + 1):
        tracks[frame] = tracker.update(detections_of(rows, frame), pts_seconds=frame / fps)
    write_results(output, rows_of(tracks))
    return len(np.unique(np.concatenate([each.track_id for each in tracks.values()]))) if tracks else 0


def main() -> None:
    """Parse and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("detections", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--fps", type=float, default=10.0)
    options = parser.parse_args()
    if not options.fps > 0:
        parser.error(f"--fps must be above 0, got {options.fps:g}")
    if not options.detections.is_file():
        parser.error(f"detections must be a file, got {options.detections}")
    try:
        print(f"{track(options.detections, options.output, fps=options.fps)} tracks -> {options.output}")
    except MotFormatError as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
