"""The pair of benchmarks/pairs.py as live cameras: over real RTSP, with a clock that is off and runs too fast.

    python benchmarks/pairs_live.py [--skew 0.3] [--drift 0.005] [--seconds 900] [--seed 3141] [--json FILE]

The film of two simulated cameras (synthetic) is sent by two RTSP servers in real time. A proxy tampers with the thermal
camera's sender reports and timestamps: its clock is ahead by the skew at first and runs faster by the drift. The
program runs on both until the film ends, and is told nothing; each of its decisions about a frame is noted as it is
made. What is true comes from the servers' logs, which say when each frame of the film was sent: a frame is paired
rightly when its partner is the other camera's nearest in the time of the film (its shutters are 37 ms apart). A frame
that was decided on before the clocks were compared counts as wrong. Exit code 1 when the reported skew is more than
20 ms off, or fewer than 99 % of the frames are paired rightly.
"""

import argparse
import json
import sys
import tempfile
import time
from bisect import bisect_left
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import machine
import numpy as np
import yaml
from numpy.typing import NDArray
from pairs import CAMERAS, FPS, LEAST_RIGHT, MOST_ERROR_MS, PHASE, film, site, walks_of

from pipeline import pairs
from pipeline.config import load
from pipeline.run import RunOptions, run
from simulation.clips import encode
from simulation.faults import Fault, FaultPlan
from simulation.streaming import Serving, Streams

ROOT = Path(__file__).resolve().parent.parent
SEED = 3141
MOST_MISFIT = 0.04  # seconds by which a capture time may differ from when its frame was sent
AFTER_SECONDS = 2.0  # which the program is given once the film has ended

Floats = NDArray[np.float64]


class Sent:
    """When a camera's frames were sent, and what its clock showed then."""

    def __init__(self, log: Path, *, began: float, skew: float, drift: float, phase: float) -> None:
        rows = [line.split() for line in log.read_text().splitlines()]
        again = [i for i in range(1, len(rows)) if int(rows[i][0]) < int(rows[i - 1][0])]  # it reconnected at the end
        rows = rows[: again[0]] if again else rows
        at = np.array([float(row[1]) for row in rows])
        self.scene = np.array([int(row[0]) for row in rows]) / FPS + phase
        self.clock: Floats = at + skew + drift * (at - began)

    def scene_of(self, seconds: float) -> float | None:
        """The time of the film at which the frame of a capture time was taken; None for no frame of the film."""
        place = bisect_left(self.clock, seconds)
        near = [i for i in (place - 1, place) if 0 <= i < len(self.clock)]
        best = min(near, key=lambda i: abs(self.clock[i] - seconds))
        return float(self.scene[best]) if abs(self.clock[best] - seconds) <= MOST_MISFIT else None

    def clock_at(self, scene: float) -> float:
        """What the clock showed at a time of the film; a line through all frames, for one may be sent late."""
        slope, start = np.polyfit(self.scene - self.scene[0], self.clock - self.clock[0], 1)
        return float(self.clock[0] + start + slope * (scene - self.scene[0]))


class Watched(pairs.Pair):
    """Notes each decision and whether the clocks had been compared."""

    decisions: ClassVar[list[tuple[float, float | None, bool]]] = []

    def see(self, *args: Any) -> list[tuple[float, float | None]]:
        made = super().see(*args)
        self.decisions.extend((*each, self.fit is not None) for each in made)
        return made

    def flush(self) -> list[tuple[float, float | None]]:
        made = super().flush()
        self.decisions.extend((*each, self.fit is not None) for each in made)
        return made


def measure(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Film, serve, run; returns the figures."""
    config = site(people=max(4, round(options.seconds / 5)), seed=options.seed)
    walks = walks_of(config, options.seconds)
    count = int(options.seconds * FPS)
    clips = {}
    for name in CAMERAS:
        times = np.arange(count) / FPS + (PHASE if name == "night" else 0.0)
        clips[name] = encode((image for image, _ in film(config, name, walks, times)), fps=FPS)
    plan = FaultPlan(
        faults=(
            Fault(camera="night", kind="skew", by=options.skew),
            Fault(camera="night", kind="drift", by=options.drift),
        )
    )
    pairs.Pair = Watched  # type: ignore[misc]
    with Streams(clips, Serving(plan=plan, from_start=True, log=folder)) as streams:
        began = time.time()
        cameras = {
            name: {"source": url, "modality": modality, "pair_id": "gate"}
            for (name, url), modality in zip(streams.urls.items(), ("rgb", "thermal"), strict=True)
        }
        path = folder / "site.yaml"
        path.write_text(yaml.safe_dump({"version": 1, "cameras": cameras, "reid": {"weights": "xreid-tiny"},
                                        "output": {"root": str(folder / "run"), "video": False,
                                                   "contact_sheet": False}}))  # fmt: skip
        looked, ended = time.monotonic(), float("inf")

        def should_stop() -> bool:
            nonlocal looked, ended
            now = time.monotonic()
            if now - looked > 1.0:
                looked = now
                if all(_sent_to_the_end(folder / f"{name}.txt", count) for name in CAMERAS):
                    ended = min(ended, now)
            return now - ended > AFTER_SECONDS

        report = run(load(path), RunOptions(should_stop=should_stop))
    return figures(options, folder, began, report)


def _sent_to_the_end(log: Path, count: int) -> bool:
    """Whether the last frame of a film was sent."""
    return log.is_file() and f"\n{count - 1} " in log.read_text()


def figures(options: argparse.Namespace, folder: Path, began: float, report: dict[str, Any]) -> dict[str, Any]:
    """What the program said against what the servers' logs say."""
    day = Sent(folder / "day.txt", began=began, skew=0.0, drift=0.0, phase=0.0)
    night = Sent(folder / "night.txt", began=began, skew=options.skew, drift=options.drift, phase=PHASE)
    measured = report["pairs"]["gate"]
    error = None
    if measured["at"] is not None:
        # The report is of the latest frame, when the film was over: what it says is taken back to the film's last one.
        at, scene = datetime.fromisoformat(measured["at"]).timestamp(), float(day.scene[-1])
        said = measured["skew_ms"] - 10 * measured["drift_percent"] * (at - day.clock_at(scene))
        true = 1000 * (night.clock_at(scene) - day.clock_at(scene))
        error = round(said - true, 1)
        measured = measured | {"skew_ms_at_the_films_end": round(said, 1), "true_skew_ms_then": round(true, 1)}
    wrong: Counter[str] = Counter()
    shown = [each for each in Watched.decisions if each[0] <= day.clock[-1] + MOST_MISFIT]
    for first, partner, known in shown:
        scene, other = day.scene_of(first), None if partner is None else night.scene_of(partner)
        if scene is None or (partner is not None and other is None):
            wrong["its capture time is that of no frame that was sent"] += 1
        elif other is None:
            wrong["without a partner" if known else "before the clocks were compared"] += 1
        elif abs(scene - other) > 0.5 / FPS + 1e-6:
            wrong["by the error of the clocks" if known else "before the clocks were compared"] += 1
    decided = len(shown)
    return {
        "measured": measured,
        "error_ms": error,
        "frames": decided,
        "paired_rightly": round(1 - sum(wrong.values()) / max(1, decided), 4),
        "wrong": dict(wrong),
        "tracklets": report["tracklets"],
        "cameras": {
            name: {key: each[key] for key in ("frames_decoded", "frames_processed", "frames_dropped", "reconnects",
                                              "clock", "age_seconds")}
            for name, each in report["cameras"].items()
        },
    }  # fmt: skip


def main() -> int:
    """Measure, judge, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--skew", type=float, default=0.3, help="seconds")
    parser.add_argument("--drift", type=float, default=0.005, help="share")
    parser.add_argument("--seconds", type=float, default=900.0)
    parser.add_argument("--seed", type=int, default=SEED, help="of the people and their ways")
    parser.add_argument("--json", type=Path, default=ROOT / "benchmarks" / "results" / "pairs_live.json")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        found = measure(options, Path(name))
    kept = {
        f"skew right within {MOST_ERROR_MS:g} ms": found["error_ms"] is not None
        and abs(found["error_ms"]) <= MOST_ERROR_MS,
        f"{LEAST_RIGHT:.0%} of the frames paired rightly": found["paired_rightly"] >= LEAST_RIGHT,
    }
    result = {
        "benchmark": "pairs_live",
        "synthetic": True,
        "command": f"python benchmarks/pairs_live.py --skew {options.skew:g} --drift {options.drift:g} "
        f"--seconds {options.seconds:g} --seed {options.seed}",
        "true": {"skew_ms_at_first": 1000 * options.skew, "drift_percent": 100 * options.drift},
        **found,
        "kept": kept,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine.describe(),
    }
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps({key: each for key, each in result.items() if key not in ("date", "machine")}, indent=2))
    return 0 if all(kept.values()) else 1


if __name__ == "__main__":
    raise SystemExit(main())
