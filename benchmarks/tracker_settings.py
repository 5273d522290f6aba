"""What each part of the default tracker is worth: ``python benchmarks/tracker_settings.py`` writes the JSON beside it.

Every variant runs over every sequence of ../shared/data/mot (or SURVEILLANCE_DATA/mot), with weights of
`trackers.probability` that saw nothing of its scene (`benchmarks.association`), and is scored by set. With
``--leave-one-out`` the neighbours of the default in two settings stand for election with it: for each scene, the one
that is best on all sequences of all other scenes is run on its sequences, and the sets are scored from these runs;
constants that are no settings are put to such a vote always. A scene is what one camera filmed at one time: MOT17-02,
MOT17-02_fps10 and MOT17-02_weak are one. No other setting, no cut rule and nothing of the floor is voted on.

With ``--moved N`` ten settings are moved by up to 3 % at random, N times, and it is counted how often each wanted
figure holds: one that holds at the default and seldom beside it sits on a spike.
"""

import argparse
import json
import os
import sys
from contextlib import ExitStack
from dataclasses import replace
from functools import reduce
from operator import add
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
# Run as a file, this folder comes first, and then `trackers` would be the benchmark of that name.
sys.path[:] = [str(ROOT), *(each for each in sys.path if Path(each or ".").resolve() != ROOT / "benchmarks")]

from benchmarks import tracker_tables  # noqa: E402
from benchmarks.association import of_other_scenes  # noqa: E402
from benchmarks.machine import describe  # noqa: E402
from trackers import cautious  # noqa: E402
from trackers.cautious import DEFAULT_SETTINGS, CautiousSettings, CautiousTracker  # noqa: E402
from trackers.evaluate import TrueSequence, load_truth  # noqa: E402
from trackers.kalman import WalkFilter  # noqa: E402
from trackers.metrics.scores import Scores  # noqa: E402
from trackers.mot import rows_of  # noqa: E402
from trackers.run import DetectedSequence, load, track, track_rows  # noqa: E402

PARTS: dict[str, dict[str, Any]] = {
    "default": {},
    "no camera motion": {"static_camera": True},
    "no calibration": {"calibration_strength": 0.0},
    "any revival": {"revival_margin": 0.0, "revival_probability": 0.0},
    "births anywhere": {"new_overlap": 1.0},
}
CROSS: dict[str, dict[str, Any]] = {
    "margin 0.1": {"revival_margin": 0.1},
    "margin 0.5": {"revival_margin": 0.5},
    "births 0.4": {"new_overlap": 0.4},
    "births 0.6": {"new_overlap": 0.6},
    "waiting 1 s": {"lost_seconds": 1.0},
    "waiting 2 s": {"lost_seconds": 2.0},
}
CONSTANTS: dict[str, list[tuple[Any, str, float]]] = {
    "sizes as unsteady as places": [(WalkFilter, "_FIRST_SHARE", 1.0), (WalkFilter, "_LEAST_SHARE", 1.0)],
    "weak streams asked no more": [(cautious, "_LIFTED", 0.0)],
    "weak streams asked 0.1 more a lift": [(cautious, "_LIFTED", 0.1)],
}
COLUMNS = ("HOTA", "IDF1", "Pur", "MixTrk", "Trk/Id")
MOVED = (
    "match_probability",
    "new_probability",
    "weak_probability",
    "revival_probability",
    "revival_margin",
    "lost_seconds",
    "new_overlap",
    "high_confidence",
    "new_confidence",
    "calibration_strength",
)
WANTED: dict[str, dict[str, dict[str, tuple[str, float]]]] = {
    name: {"tracks": {column: (">=" if least else "<=", limit) for column, (least, limit) in limits.items()}}
    for name, limits in tracker_tables.wanted(tracker_tables.read("trackers")).items()
}
WANTED["MOT17val"]["tracklets"] = {"Pur": (">=", 98.8), "MixTrk": ("<=", 7.0), "Trk/Id": ("<=", 2.0)}
Runs = dict[str, Scores]  # by sequence


def run(sequences: list[tuple[TrueSequence, DetectedSequence]], settings: CautiousSettings) -> Runs:
    """Track and score every sequence."""
    return {truth.name: truth.score(track_rows(detected, build(truth.name, settings))) for truth, detected in sequences}


def build(sequence: str, settings: CautiousSettings) -> CautiousTracker:
    """With weights that saw nothing of the sequence's scene."""
    return CautiousTracker(settings, probability=of_other_scenes(sequence))


def by_set(sequences: list[TrueSequence], runs: Runs) -> dict[str, dict[str, float]]:
    """Combine the sequences of each set."""
    result = {}
    for name in dict.fromkeys(each.set_name for each in sequences):
        row = reduce(add, [runs[each.name] for each in sequences if each.set_name == name]).row()
        result[name] = {column: round(row[column], 2) for column in COLUMNS}
    return result


def merit(sequences: list[TrueSequence], runs: Runs) -> float:
    """What is elected by: HOTA, IDF1 and purity, alike for every set."""
    rows = by_set(sequences, runs).values()
    return sum(row["HOTA"] + row["IDF1"] + row["Pur"] for row in rows)


def scene(sequence: TrueSequence) -> str:
    """What was filmed, whatever was done to it since."""
    return sequence.name.split("_")[0]


def leave_one_out(sequences: list[TrueSequence], runs: dict[str, Runs]) -> dict[str, Any]:
    """Score the sequences of each scene by the variant that is best on all other scenes."""
    elected = {
        left: max(runs, key=lambda name: merit([each for each in sequences if scene(each) != left], runs[name]))
        for left in dict.fromkeys(map(scene, sequences))
    }
    chosen = {each.name: runs[elected[scene(each)]][each.name] for each in sequences}
    return {"elected": elected, "sets": by_set(sequences, chosen)}


def moved(sequences: list[tuple[TrueSequence, DetectedSequence]], times: int) -> dict[str, Any]:
    """How the figures of `WANTED` fare when ten settings are moved, so many times."""
    rng = np.random.default_rng(1)
    near = [
        replace(
            DEFAULT_SETTINGS,
            **{name: getattr(DEFAULT_SETTINGS, name) * (1 + rng.uniform(-0.03, 0.03)) for name in MOVED},
        )
        for _ in range(times)
    ]
    report: dict[str, Any] = {"times": times, "settings": MOVED, "by": 0.03}
    for set_name, wanted in WANTED.items():
        rows: dict[str, list[dict[str, float]]] = {ids: [] for ids in wanted}
        for settings in near:
            scores: dict[str, list[Scores]] = {ids: [] for ids in wanted}
            for truth, detected in sequences:
                if truth.set_name == set_name:
                    tracks, _ = track(detected, build(truth.name, settings))
                    for ids in wanted:
                        scores[ids].append(truth.score(rows_of(tracks, ids="track" if ids == "tracks" else "tracklet")))
            for ids in wanted:
                rows[ids].append(reduce(add, scores[ids]).row())
        report[set_name] = {ids: spread(rows[ids], limits) for ids, limits in wanted.items()}
        print(set_name, report[set_name], flush=True)
    return report


def spread(rows: list[dict[str, float]], limits: dict[str, tuple[str, float]]) -> dict[str, Any]:
    """Least, middle and greatest of each column, and how often what is wanted of it held."""
    held = np.ones(len(rows), bool)
    report: dict[str, Any] = {}
    for column in COLUMNS:
        values = np.array([row[column] for row in rows])
        report[column] = [round(float(each), 2) for each in (values.min(), np.median(values), values.max())]
        if column in limits:
            side, limit = limits[column]
            holds = values >= limit if side == ">=" else values <= limit
            report[f"{column} {side} {limit}"] = int(holds.sum())
            held &= holds
    report["all held"] = int(held.sum())
    return report


def main() -> None:
    """Measure, write the JSON, and print it."""
    shared = Path(os.environ.get("SURVEILLANCE_DATA") or ROOT.parent / "shared" / "data")
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=shared / "mot", help="folder of sequences with manifest.json")
    parser.add_argument(
        "--leave-one-out", action="store_true", help="the election of settings, too: half as long again"
    )
    parser.add_argument("--moved", type=int, default=0, metavar="N", help="move ten settings at random, so many times")
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks" / "results" / "tracker_settings.json")
    options = parser.parse_args()
    truth = load_truth(options.data)
    sequences = [(each, load(options.data / each.name)) for each in truth]
    report: dict[str, Any] = {"machine": describe(), "sets": {}}
    constants: dict[str, Runs] = {}
    for name, changed in PARTS.items():
        runs_of_part = run(sequences, replace(DEFAULT_SETTINGS, **changed))
        report["sets"][name] = by_set(truth, runs_of_part)
        if not changed:
            constants[name] = runs_of_part
        print(name, report["sets"][name], flush=True)
    for name, changes in CONSTANTS.items():
        with ExitStack() as for_now:
            for owner, constant, value in changes:
                for_now.enter_context(patch.object(owner, constant, value))
            constants[name] = run(sequences, DEFAULT_SETTINGS)
        report["sets"][name] = by_set(truth, constants[name])
        print(name, report["sets"][name], flush=True)
    report["leave_one_out_constants"] = leave_one_out(truth, constants)
    if options.leave_one_out:
        runs = {name: run(sequences, replace(DEFAULT_SETTINGS, **changed)) for name, changed in CROSS.items()}
        runs |= {"default": constants["default"]}
        report["cross"] = {name: by_set(truth, each) for name, each in runs.items()}
        report["leave_one_out"] = leave_one_out(truth, runs)
    if options.moved:
        report["moved"] = moved(sequences, options.moved)
    options.output.write_text(json.dumps(report, indent=2) + "\n")
    print(json.dumps({key: report[key] for key in report if key != "machine"}, indent=1))


if __name__ == "__main__":
    main()
