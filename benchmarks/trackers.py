"""How well and how fast we track: ``python benchmarks/trackers.py`` writes benchmarks/results/trackers.json.

Metrics are TrackEval 1.3.0's, with its own preprocessing, on the MOTChallenge sequences in ../shared/data/mot (or
SURVEILLANCE_DATA/mot); beside them stand the peers' figures of its peers.json, from the same detections. Speed is the
tracker alone, one core, the median of several runs.
"""

import argparse
import contextlib
import io
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
# Run as a file, this folder comes first, and then `trackers` would be this very file.
sys.path[:] = [str(ROOT), *(each for each in sys.path if Path(each or ".").resolve() != ROOT / "benchmarks")]

from benchmarks.machine import describe  # noqa: E402
from trackers.bytetrack import ByteTrack  # noqa: E402
from trackers.mot import read_detections, read_sequence_info, write_results  # noqa: E402
from trackers.run import track  # noqa: E402
from trackers.structures import Detections  # noqa: E402

PEER = "ultra-bytetrack-mot"  # ByteTrack with the paper's thresholds
COLUMNS = ("HOTA", "MOTA", "IDF1", "IDSW")
REPEATS = 5


def trackeval_scores(data: Path, results: Path, frames: dict[str, int]) -> dict[str, float]:
    """Metrics over these sequences together, percent and counts."""
    for name, builtin in (("float", float), ("int", int)):
        vars(np).setdefault(name, builtin)  # aliases that NumPy dropped and TrackEval 1.3.0 uses
    import trackeval

    config = {
        "GT_FOLDER": str(data),
        "TRACKERS_FOLDER": str(results.parent),
        "TRACKERS_TO_EVAL": [results.name],
        "TRACKER_SUB_FOLDER": "",
        "BENCHMARK": "MOT17",
        "SKIP_SPLIT_FOL": True,
        "SEQ_INFO": frames,
        "PRINT_CONFIG": False,
    }
    quiet = {"THRESHOLD": 0.5, "PRINT_CONFIG": False}
    with contextlib.redirect_stdout(io.StringIO()):
        dataset = trackeval.datasets.MotChallenge2DBox(config)
        sequences = {
            name: dataset.get_preprocessed_seq_data(dataset.get_raw_seq_data(results.name, name), "pedestrian")
            for name in frames
        }
        totals: dict[str, Any] = {}
        for metric in (trackeval.metrics.HOTA(), trackeval.metrics.CLEAR(quiet), trackeval.metrics.Identity(quiet)):
            each = {name: metric.eval_sequence(sequence) for name, sequence in sequences.items()}
            totals.update(metric.combine_sequences(each))
    return {
        "HOTA": round(100 * float(np.mean(totals["HOTA"])), 2),
        "MOTA": round(100 * float(totals["MOTA"]), 2),
        "IDF1": round(100 * float(totals["IDF1"]), 2),
        "IDSW": int(totals["IDSW"]),
    }


def sequences_by_set(data: Path) -> dict[str, list[str]]:
    """What manifest.json says belongs together."""
    result: dict[str, list[str]] = {}
    for entry in json.loads((data / "manifest.json").read_text()):
        if (data / entry["seq"]).is_dir():
            result.setdefault(entry["set"], []).append(entry["seq"])
    return result


def measure_set(data: Path, names: list[str], peers: dict[str, Any]) -> dict[str, Any]:
    """Track, score and time the sequences of one set."""
    frames: dict[str, int] = {}
    boxes = 0
    seconds = [0.0] * REPEATS
    with tempfile.TemporaryDirectory() as folder:
        results = Path(folder) / "ours"
        results.mkdir()
        for name in names:
            info = read_sequence_info(data / name / "seqinfo.ini")
            rows = read_detections(data / name / "det" / "det.txt")
            frames[name], boxes = info.frames, boxes + len(rows)
            for repeat in range(REPEATS):
                tracks, spent = track(rows, info)
                seconds[repeat] += spent
            write_results(results / f"{name}.txt", tracks)
        ours = trackeval_scores(data, results, frames)
    total = sum(frames.values())
    best = {column: max(peer["ALL"][column] for peer in peers.values()) for column in ("HOTA", "MOTA", "IDF1")}
    return {
        "ours": ours,
        "peer_bytetrack": {column: peers[PEER]["ALL"][column] for column in COLUMNS} if peers else {},
        "best_peer": best if peers else {},
        "frames": total,
        "boxes_per_frame": round(boxes / total, 1),
        "frames_per_second": round(total / statistics.median(seconds)),
    }


def speed(people: int, *, frames: int = 300) -> int:
    """Frames a second with so many people walking, one in ten of them hidden at a time."""
    rng = np.random.default_rng(0)
    place, step = rng.uniform(0, 150 * people**0.5, (people, 2)), rng.normal(0, 2, (people, 2))
    scene = []
    for index in range(frames):
        corner = (place + index * step)[rng.random(people) < 0.9]
        xyxy = np.concatenate([corner, corner + np.array([40, 100])], axis=1) + rng.normal(0, 1, (len(corner), 4))
        scene.append(Detections(xyxy, rng.uniform(0.3, 1, len(corner))))
    runs = []
    for _ in range(REPEATS):
        tracker, start = ByteTrack(), time.perf_counter()
        for index, detections in enumerate(scene):
            tracker.update(detections, pts_seconds=index / 10)
        runs.append(time.perf_counter() - start)
    return round(frames / statistics.median(runs))


def main() -> None:
    """Measure, write the JSON, and print a table."""
    shared = Path(os.environ.get("SURVEILLANCE_DATA") or ROOT.parent / "shared" / "data")
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=shared / "mot", help="folder of sequences with manifest.json")
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks" / "results" / "trackers.json")
    options = parser.parse_args()
    peers = json.loads((options.data / "peers.json").read_text())
    report: dict[str, Any] = {
        "machine": describe(),
        "tracker": "trackers.bytetrack.ByteTrack, default settings",
        "sets": {
            name: measure_set(options.data, sequences, peers.get(name, {}))
            for name, sequences in sequences_by_set(options.data).items()
        },
        "frames_per_second_by_people": {str(people): speed(people) for people in (10, 39, 100, 200)},
    }
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(report, indent=2) + "\n")
    print(f"{'set':<16}{'HOTA':>8}{'peer':>8}{'best':>8}{'IDF1':>8}{'peer':>8}{'best':>8}{'boxes':>8}{'fps':>8}")
    for name, row in report["sets"].items():
        figures = [row[who].get(column, float("nan")) for column in ("HOTA", "IDF1") for who in list(row)[:3]]
        print(f"{name:<16}" + "".join(f"{x:>8.2f}" for x in figures), end="")
        print(f"{row['boxes_per_frame']:>8}{row['frames_per_second']:>8}")
    for people, fps in report["frames_per_second_by_people"].items():
        print(f"{people:>4} people: {fps} frames/s")


if __name__ == "__main__":
    main()
