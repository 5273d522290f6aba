"""How well and how fast we track: ``python benchmarks/trackers.py`` writes benchmarks/results/trackers.json.

Accuracy: every tracker of `trackers.algorithms`, default settings, on the MOTChallenge sequences in ../shared/data/mot
(or SURVEILLANCE_DATA/mot), beside the peers' figures of its peers.json from the same detections. The metrics are those
of `trackers.metrics`, which equal TrackEval's (tests/trackers/metrics). A tracker that gives pure tracklets has a
second row, with the tracklets as its tracks, and the default a third: those of its tracklets' boxes that
`trackers.crop_gate` lets pass. The default's weights were learnt on these very sequences; "weights of other scenes"
are those that `benchmarks/association.py` learnt without the scene that they track. Apart from the sets stands the
fixed camera, with a floor that the default learns from the boxes, beside the peer that is given one.

Speed: processor time inside the tracker on one core, each tracker in a process of its own, all of them in turns over
the same detections; a peer's ratio is the median over the turns of its time and the default's. Ultralytics is skipped
where it is not installed. Roboflow's `trackers` would overwrite ours if it were installed beside it, so it goes to a
folder of its own: --roboflow names one, made by ``pip install --no-deps --target FOLDER`` of `ROBOFLOW`; without it,
pip is tried.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager
from functools import reduce
from operator import add
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
# Run as a file, this folder comes first, and then `trackers` would be this very file.
sys.path[:] = [str(ROOT), *(each for each in sys.path if Path(each or ".").resolve() != ROOT / "benchmarks")]

from benchmarks import association  # noqa: E402
from benchmarks.machine import describe  # noqa: E402
from benchmarks.tracker_tables import GROUND_PEER  # noqa: E402
from trackers.algorithms import DEFAULT, TRACKERS  # noqa: E402
from trackers.base import Tracker  # noqa: E402
from trackers.cautious import CautiousSettings, CautiousTracker  # noqa: E402
from trackers.crop_gate import CropGate  # noqa: E402
from trackers.evaluate import TrueSequence, load_truth  # noqa: E402
from trackers.metrics.scores import COLUMNS, COUNTS, Scores  # noqa: E402
from trackers.mot import rows_of  # noqa: E402
from trackers.run import DetectedSequence, load, track  # noqa: E402
from trackers.structures import Detections, Tracks  # noqa: E402

ROBOFLOW = ("trackers==2.6.1", "supervision==0.31.2", "pydeprecate==0.14.0", "defusedxml==0.7.1")
NAMESAKES = {
    "sort": "sort-ref-age30",
    "ocsort": "ocsort-ref",
    "bytetrack": "ultra-bytetrack-mot",
    "botsort": "robo-botsort",
}
FIXED_CAMERA = "MOT17-02"  # peers.json has it under STATIC
UNSEEN = "weights of other scenes"  # see benchmarks/association.py
Row = dict[str, float]


def accuracy(data: Path, names: Collection[str], before: dict[str, Any]) -> dict[str, Any]:
    """Rows of every tracker and peer, by set; those of trackers not named are as before."""
    peers = json.loads((data / "peers.json").read_text())
    truth = load_truth(data)
    detected = {each.name: load(data / each.name) for each in truth}
    report: dict[str, Any] = {}
    for set_name in dict.fromkeys(each.set_name for each in truth):
        sequences = [each for each in truth if each.set_name == set_name]
        ours: dict[str, dict[str, Row]] = {}
        for name in TRACKERS:
            if name not in names:
                known = before[set_name]["ours"]
                ours |= {
                    row: known[row] for row in known if row.removesuffix(" tracklets") in (name, f"{name}, {UNSEEN}")
                }
                continue
            ours |= score_tracker(name, sequences, detected, lambda _, name=name: TRACKERS[name].build())
            if name == DEFAULT:
                ours |= score_tracker(f"{name}, {UNSEEN}", sequences, detected, of_other_scenes)
            print(f"{set_name}: {name} HOTA {ours[name]['ALL']['HOTA']}", flush=True)
        report[set_name] = {
            "ours": ours,
            "gate": gated(sequences, detected, lambda _: TRACKERS[DEFAULT].build()),
            f"gate, {UNSEEN}": gated(sequences, detected, of_other_scenes),
            "peers": peers.get(set_name, {}),
            "minus_namesake": {
                name: {c: round(ours[name]["ALL"][c] - peers[set_name][peer]["ALL"][c], 2) for c in ("HOTA", "IDF1")}
                for name, peer in NAMESAKES.items()
                if peer in peers.get(set_name, {})
            },
        }
    return report


def of_other_scenes(sequence: str, **settings: Any) -> Tracker:
    """The default with weights that saw nothing of the sequence's scene."""
    return CautiousTracker(CautiousSettings(**settings), probability=association.of_other_scenes(sequence))


def score_tracker(
    name: str,
    sequences: list[TrueSequence],
    detected: dict[str, DetectedSequence],
    build: Callable[[str], Tracker],
) -> dict[str, dict[str, Row]]:
    """The tracker's rows: of its tracks, and of its tracklets if they differ."""
    totals: dict[str, dict[str, Scores]] = {"": {}, " tracklets": {}}
    differ = False
    for sequence in sequences:
        tracks, _ = track(detected[sequence.name], build(sequence.name))
        differ |= any((each.track_id != each.tracklet_id).any() for each in tracks.values())
        for suffix, ids in (("", "track"), (" tracklets", "tracklet")):
            scores = sequence.score(rows_of(tracks, ids=ids))
            known = totals[suffix]
            known["ALL"] = known["ALL"] + scores if "ALL" in known else scores
            if sequence.name.startswith(FIXED_CAMERA):
                known["STATIC"] = scores
    return {
        name + suffix: {key: rounded(scores.row()) for key, scores in totals[suffix].items()}
        for suffix in (("", " tracklets") if differ else ("",))
    }


def gated(sequences: list[TrueSequence], detected: dict[str, DetectedSequence], build: Callable[[str], Tracker]) -> Row:
    """What the default's tracklets are when only boxes that pass the crop gate are looked at."""
    gate, total, kept, boxes = CropGate(), [], 0, 0
    for sequence in sequences:
        each = detected[sequence.name]
        tracks, _ = track(each, build(sequence.name))
        passing = {frame: only(of, gate.passes(of, each.info.resolution_wh)) for frame, of in tracks.items()}
        boxes += sum(map(len, tracks.values()))
        kept += sum(map(len, passing.values()))
        total.append(sequence.score(rows_of(passing, ids="tracklet")))
    row = rounded(reduce(add, total).row())
    return {"kept_percent": round(100 * kept / boxes, 1)} | {c: row[c] for c in ("Pur", "MixTrk", "Trk/Id", "FPbox")}


def only(tracks: Tracks, rows: np.ndarray) -> Tracks:
    """These rows."""
    return Tracks(
        tracks.xyxy[rows],
        tracks.confidence[rows],
        tracks.track_id[rows],
        tracks.tracklet_id[rows],
        tracks.risk[rows],
        tracks.lift,
    )


def on_the_floor(data: Path) -> dict[str, dict[str, Row]]:
    """The fixed camera of every set that has it: the default, the default with a floor, and the peer that has one."""
    peers = json.loads((data / "peers.json").read_text())
    report: dict[str, dict[str, Row]] = {}
    for sequence in load_truth(data):
        if sequence.name.startswith(FIXED_CAMERA):
            detected, rows = load(data / sequence.name), {}
            for label, settings in ((DEFAULT, {}), (f"{DEFAULT}, estimate_ground", {"estimate_ground": True})):
                tracks, _ = track(detected, TRACKERS[DEFAULT].build(**settings))
                rows[label] = rounded(sequence.score(rows_of(tracks)).row())
                tracks, _ = track(detected, of_other_scenes(sequence.name, **settings))
                rows[f"{label}, {UNSEEN}"] = rounded(sequence.score(rows_of(tracks)).row())
            report[sequence.name] = rows | {GROUND_PEER: peers[sequence.set_name][GROUND_PEER]["STATIC"]}
    return report


def rounded(row: Row) -> Row:
    """Two decimals, as peers.json has them."""
    return {column: value if column in COUNTS else round(value, 2) for column, value in row.items()}


def save_scene(path: Path, sequences: list[tuple[float, list[Detections]]]) -> Path:
    """What `tracker_worker` reads: boxes of all frames of all sequences, and frames a second of each."""
    frames = [each for _, detections in sequences for each in detections]
    np.savez(
        path,
        xyxy=np.concatenate([each.xyxy for each in frames]),
        confidence=np.concatenate([each.confidence for each in frames]),
        boxes=np.array([len(each) for each in frames]),
        frames=np.array([len(detections) for _, detections in sequences]),
        fps=np.array([fps for fps, _ in sequences]),
    )
    return path


def crowd(people: int, *, frames: int = 100) -> list[Detections]:
    """So many people walking, synthetic, one in ten of them hidden at a time, as dense whatever their number."""
    rng = np.random.default_rng(0)
    place, step = rng.uniform(0, 150 * people**0.5, (people, 2)), rng.normal(0, 2, (people, 2))
    scene = []
    for index in range(frames):
        corner = (place + index * step)[rng.random(people) < 0.9]
        xyxy = np.concatenate([corner, corner + np.array([40, 100])], axis=1) + rng.normal(0, 1, (len(corner), 4))
        scene.append(Detections(xyxy, rng.uniform(0.3, 1, len(corner))))
    return scene


class Worker:
    """A process that times one tracker; see `tracker_worker`."""

    def __init__(self, package: str, name: str, folder: Path) -> None:
        script = ROOT / "benchmarks" / "tracker_worker.py"
        environment = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
        self._process = subprocess.Popen(
            [sys.executable, "-P", str(script), package, name, str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=folder,
            env=environment,
        )
        if self._answer() != "ready":
            raise RuntimeError(self.close().strip().splitlines()[-1])

    def _answer(self) -> str:
        return self._process.stdout.readline().strip() if self._process.stdout else ""

    def seconds(self, scene: Path) -> float:
        """Processor time for a scene, by a new tracker."""
        if self._process.stdin:
            self._process.stdin.write(f"{scene}\n")
            self._process.stdin.flush()
        answer = self._answer()
        if not answer:
            raise RuntimeError(self.close())
        return float(answer)

    def close(self) -> str:
        """End the process; what it wrote as errors."""
        return self._process.communicate()[1]


@contextmanager
def roboflow_folder(given: Path | None) -> Iterator[Path | str]:
    """Where Roboflow's package is, or why it is not."""
    if given is not None:
        yield given if (given / "trackers").is_dir() else f"no package trackers in {given}"
        return
    with tempfile.TemporaryDirectory() as folder:
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", folder, *ROBOFLOW]
        made = subprocess.run(pip, capture_output=True, text=True, check=False)
        yield Path(folder) if made.returncode == 0 else f"pip could not install {' '.join(ROBOFLOW)}"


def speed(data: Path, roboflow: Path | None, *, repeats: int) -> dict[str, Any]:
    """Time of every tracker a frame, and of its peers, in turns."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        scenes = {"MOT17val": save_scene(folder / "real.npz", real_scene(data))}
        for people in (25, 50, 100, 200):
            scenes[f"{people} people"] = save_scene(folder / f"{people}.npz", [(10.0, crowd(people))])
        wanted: list[tuple[str, str, Path | str]] = [("ours", name, ROOT) for name in TRACKERS]
        wanted += [("ultralytics", name, folder) for name in ("BYTETracker", "BOTSORT")]
        wanted += [("roboflow", "ByteTrackTracker", stack.enter_context(roboflow_folder(roboflow)))]
        workers, skipped = start(wanted)
        times = {label: {scene: [] for scene in scenes} for label in workers}
        for turn in range(repeats + 1):  # the first is to warm up
            for scene, path in scenes.items():
                for label, worker in workers.items():
                    seconds = worker.seconds(path)
                    if turn:
                        times[label][scene].append(seconds)
            print(f"turn {turn}", flush=True)
        for worker in workers.values():
            worker.close()
        frames = {scene: int(np.load(path)["frames"].sum()) for scene, path in scenes.items()}
        boxes = {scene: round(float(np.load(path)["boxes"].mean()), 1) for scene, path in scenes.items()}
    return {
        "frames": frames,
        "boxes_per_frame": boxes,
        "milliseconds_per_frame": {
            label: {scene: round(1e3 * statistics.median(each) / frames[scene], 4) for scene, each in of_scene.items()}
            for label, of_scene in times.items()
        },
        "times_as_long_as_default": {
            label: {scene: ratio(times[label][scene], times[f"ours {DEFAULT}"][scene]) for scene in scenes}
            for label in times
        },
        "default": DEFAULT,
        "growth_100_to_200_people": {
            label: ratio(each["200 people"], each["100 people"]) for label, each in times.items()
        },
        "skipped": skipped,
        "note": "processor time, one core; crowds of 25 to 200 people are synthetic",
    }


def ratio(times: list[float], base: list[float]) -> float:
    """Median over the turns."""
    return round(statistics.median(a / b for a, b in zip(times, base, strict=True)), 2)


def start(wanted: list[tuple[str, str, Path | str]]) -> tuple[dict[str, Worker], dict[str, str]]:
    """Workers that could start, and why the others could not."""
    workers, skipped = {}, {}
    for package, name, folder in wanted:
        label = f"{package} {name}"
        try:
            if isinstance(folder, str):
                raise RuntimeError(folder)
            workers[label] = Worker(package, name, folder)
        except RuntimeError as error:
            if package == "ours":
                raise
            skipped[label] = str(error)
    return workers, skipped


def real_scene(data: Path) -> list[tuple[float, list[Detections]]]:
    """The sequences of MOT17val."""
    loaded = [load(data / each.name) for each in load_truth(data, ["MOT17val"])]
    return [(each.info.fps, list(each.frames)) for each in loaded]


def show(report: dict[str, Any]) -> None:
    """Tables for the terminal."""
    for name, rows in report.get("sets", {}).items():
        print(f"\n{name:<28}" + "".join(f"{column:>8}" for column in COLUMNS))
        for tracker, row in (*rows["ours"].items(), *((f"({peer})", each) for peer, each in rows["peers"].items())):
            print(f"{tracker:<28}" + "".join(f"{row['ALL'][column]:>8}" for column in COLUMNS))
    timing = report.get("speed", {})
    for label, of_scene in timing.get("milliseconds_per_frame", {}).items():
        cells = "".join(f"{scene}: {value} ms  " for scene, value in of_scene.items())
        print(f"{label:<28}{cells}x{timing['times_as_long_as_default'][label]['MOT17val']} of the default's")
    for label, reason in timing.get("skipped", {}).items():
        print(f"{label}: skipped: {reason}")


def main() -> None:
    """Measure, write the JSON, and print tables."""
    shared = Path(os.environ.get("SURVEILLANCE_DATA") or ROOT.parent / "shared" / "data")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--data", type=Path, default=shared / "mot", help="folder of sequences, manifest and peers.json"
    )
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks" / "results" / "trackers.json")
    parser.add_argument("--only", choices=("accuracy", "speed"), help="keep the other part of the JSON as it is")
    parser.add_argument(
        "--repeats", type=int, default=5, help="turns of the speed measurement, after a first to warm up"
    )
    parser.add_argument("--roboflow", type=Path, help="folder that holds Roboflow's trackers")
    parser.add_argument(
        "--tracker", action="append", choices=TRACKERS, help="with --only accuracy: keep the rows of all others"
    )
    options = parser.parse_args()
    if options.tracker and options.only != "accuracy":
        parser.error("--tracker goes with --only accuracy")
    report = json.loads(options.output.read_text()) if options.only and options.output.is_file() else {}
    if options.only != "speed":
        report["sets"] = accuracy(options.data, options.tracker or TRACKERS, report.get("sets", {}))
        report["fixed_camera"] = on_the_floor(options.data)
        report["accuracy_machine"] = describe()
    if options.only != "accuracy":
        report["speed"] = speed(options.data, options.roboflow, repeats=options.repeats)
        report["speed_machine"] = describe()
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(report, indent=2) + "\n")
    show(report)


if __name__ == "__main__":
    main()
