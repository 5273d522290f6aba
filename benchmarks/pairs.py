"""Two cameras at one place whose clocks differ: what the program finds out about clocks, frames and people.

    python benchmarks/pairs.py [--skew 0.3] [--drift 0.005] [--seconds 120] [--json benchmarks/results/pairs.json]

Simulated people (synthetic; of the simulator's namespace "site") walk before an RGB and a thermal camera of the same
view, each filmed at its own true moments. The thermal camera's clock is ahead by the skew and runs faster by the drift:
its recording says so by its start and its rate. The program is told nothing of either. A frame is paired rightly when
its partner is the other camera's nearest in true time (at most half a frame interval away). Exit code 1 when the skew
is more than 20 ms off, or fewer than 99 % of the frames are paired rightly.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import cv2
import machine
import numpy as np
import yaml

from pipeline.pairs import EXAMPLES, Pair, PairSettings
from pipeline.sources.images import ImageSource, SequenceTiming
from pipeline.store import Store
from reid.modality import Modality
from simulation.config import SiteCamera, SiteConfig
from simulation.materials import dress
from simulation.renderer import Figure
from simulation.sensor import Sensor
from simulation.site import Walker, compose, drawn_at, ground_of, person, scene_of
from simulation.walk import Path as WalkPath
from simulation.walk import Walk, places
from trackers.boxes import iou_matrix

ROOT = Path(__file__).resolve().parent.parent
BEGIN = datetime(2026, 6, 1, 21, 30, tzinfo=UTC)
FPS = 10.0
PHASE = 0.037  # seconds by which the thermal camera's shutter is later
SEED = 2718
MOST_ERROR_MS = 20.0
LEAST_RIGHT = 0.99
CAMERAS = ("day", "night")

Box = tuple[float, float, float, float]


def site(people: int) -> SiteConfig:
    """Two cameras of one view."""
    view: dict[str, Any] = {"start": BEGIN, "height_m": 3.2, "pitch_deg": 15, "focal_px": 280, "nearest_m": 5.2,
                            "farthest_m": 8.8, "furniture": 2}  # fmt: skip
    return SiteConfig(
        name="pair", seed=SEED, people=people, width=320, height=180, fps=FPS,
        cameras={"day": SiteCamera(modality="rgb", **view), "night": SiteCamera(modality="thermal", **view)},
    )  # fmt: skip


def walks_of(config: SiteConfig, seconds: float) -> list[Walk]:
    """Who passes when: the same for both cameras."""
    rng = np.random.default_rng(SEED)
    ground = ground_of(config, config.cameras["day"])
    now, walks = 1.0, []
    for number in range(1, config.people + 1):
        walks.append(Walk(number, now, WalkPath.sample(ground, rng)))
        now += 0.8 + rng.exponential(seconds / config.people - 0.8)
    return walks


def film(config: SiteConfig, name: str, walks: list[Walk], times: Any) -> Iterator[tuple[Any, dict[int, Box]]]:
    """The picture at each true time, and the boxes of the people in it."""
    camera = config.cameras[name]
    scene = scene_of(config, name)
    rng = np.random.default_rng([SEED, CAMERAS.index(name)])
    sensor = Sensor(camera.modality, night=camera.night, size=(config.height, config.width), rng=rng)
    walkers = []
    for walk in walks:
        body, wardrobe = dress(person(config, walk.person), camera.modality)
        walkers.append(Walker(walk, body, Figure(body.pieces, wardrobe.textures)))
    for time in times:
        sprites, boxes = [], {}
        for walker in walkers:
            if walker.walk.begin <= time <= walker.walk.end(walker.body.person.gait.speed):
                place = next(iter(places(walker.walk, walker.body, np.array([time - walker.walk.begin]))))
                found = drawn_at(scene, walker, place)
                if found is not None and found[0].box is not None:
                    sprites.append(found[0])
                    boxes[walker.walk.person] = found[0].box
        yield sensor.expose(compose(scene, sprites), float(time)), boxes


def record(
    folder: Path, skew: float, drift: float, seconds: float
) -> tuple[dict[str, Any], dict[str, list[dict[int, Box]]]]:
    """Write both recordings; returns the cameras' settings, and who is where in each frame."""
    config = site(people=max(4, round(seconds / 5)))
    walks = walks_of(config, seconds)
    count = int(seconds * FPS)
    times = {"day": np.arange(count) / FPS, "night": np.arange(count) / FPS + PHASE}
    truth: dict[str, list[dict[int, Box]]] = {}
    for name in CAMERAS:
        (folder / name).mkdir(parents=True)
        truth[name] = []
        for index, (image, boxes) in enumerate(film(config, name, walks, times[name])):
            bgr = image[..., ::-1] if image.ndim == 3 else image
            cv2.imwrite(str(folder / name / f"{index:05d}.png"), np.ascontiguousarray(bgr))
            truth[name].append(boxes)
    late = timedelta(seconds=PHASE * (1 + drift) + skew)
    cameras = {
        "day": {"source": str(folder / "day"), "modality": "rgb", "fps": FPS, "start": BEGIN.isoformat()},
        "night": {"source": str(folder / "night"), "modality": "thermal", "fps": FPS / (1 + drift),
                  "start": (BEGIN + late).isoformat()},
    }  # fmt: skip
    return {name: each | {"pair_id": "gate"} for name, each in cameras.items()}, truth


def run(folder: Path, cameras: dict[str, Any]) -> dict[str, Any]:
    """The whole program on them; returns its report."""
    config = folder / "site.yaml"
    config.write_text(yaml.safe_dump({"version": 1, "cameras": cameras, "reid": {"weights": "xreid-tiny"},
                                      "output": {"video": False, "contact_sheet": False}}))  # fmt: skip
    command = [sys.executable, "run_pipeline.py", "run", "-c", str(config), "-o", str(folder / "run"), "--no-progress"]
    subprocess.run([*command, "--quiet"], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    report: dict[str, Any] = json.loads((folder / "run" / "report.json").read_text())
    return report


def share_paired_rightly(cameras: dict[str, Any]) -> float:
    """The same frames once more through the pairing, whose decisions are looked at one by one."""
    sources = {}
    for name, modality in zip(CAMERAS, (Modality.RGB, Modality.THERMAL), strict=True):
        timing = SequenceTiming(cameras[name]["fps"], datetime.fromisoformat(cameras[name]["start"]))
        sources[name] = ImageSource(name, cameras[name]["source"], modality, timing=timing)
    pair = Pair("gate", PairSettings(CAMERAS))
    true_of: dict[tuple[str, float], float] = {}
    decided: list[tuple[float, float | None]] = []
    for frames in zip(*sources.values(), strict=True):
        for frame in frames:
            true = frame.index / FPS + (PHASE if frame.camera_id == "night" else 0.0)
            true_of[frame.camera_id, frame.captured_at.timestamp()] = true
            decided += pair.see(frame, [])
    decided += pair.flush()
    right = [
        partner is not None and abs(true_of["day", first] - true_of["night", partner]) <= 0.5 / FPS + 1e-6
        for first, partner in decided
    ]
    return float(np.mean(right))


def share_of_right_examples(folder: Path, truth: dict[str, list[dict[int, Box]]]) -> tuple[int, int, int]:
    """Examples, right ones, and tracklets that have a counterpart's partner at all."""
    path = folder / "run" / EXAMPLES
    examples = [json.loads(line)["tracklets"] for line in path.read_text().splitlines()] if path.is_file() else []
    with Store.read(folder / "run") as store:
        people = {
            each.tracklet_id: person_of(each.frame_index, each.xyxy, truth[name])
            for name in CAMERAS
            for each in store.boxes(name)
        }
    right = sum(people[first] == people[second] is not None for first, second in examples)
    return len(examples), right, len(people)


def person_of(frames: Any, xyxy: Any, truth: list[dict[int, Box]]) -> int | None:
    """Whom most boxes of a tracklet lie on."""
    votes: Counter[int] = Counter()
    for index, box in zip(frames.tolist(), xyxy, strict=True):
        there = truth[index]
        if there:
            overlaps = iou_matrix(box[None], np.array(list(there.values()), np.float32))[0]
            if overlaps.max() >= 0.3:
                votes[list(there)[int(overlaps.argmax())]] += 1
    return votes.most_common(1)[0][0] if votes else None


def main() -> int:
    """Film, run, compare, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--skew", type=float, default=0.3, help="seconds")
    parser.add_argument("--drift", type=float, default=0.005, help="share")
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--json", type=Path, default=ROOT / "benchmarks" / "results" / "pairs.json")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        cameras, truth = record(folder, options.skew, options.drift, options.seconds)
        measured = run(folder, cameras)["pairs"]["gate"]
        right = share_paired_rightly(cameras)
        examples, right_examples, tracklets = share_of_right_examples(folder, truth)
    now = (datetime.fromisoformat(measured["at"]) - BEGIN).total_seconds() if measured["at"] else float("nan")
    true_skew = 1000 * (options.skew + options.drift * now)
    found = measured["skew_ms"] if measured["skew_ms"] is not None else float("nan")
    kept = {
        f"skew right within {MOST_ERROR_MS:g} ms": abs(found - true_skew) <= MOST_ERROR_MS,
        f"{LEAST_RIGHT:.0%} of the frames paired rightly": right >= LEAST_RIGHT,
    }
    result = {
        "benchmark": "pairs",
        "synthetic": True,
        "command": f"python benchmarks/pairs.py --skew {options.skew:g} --drift {options.drift:g} "
        f"--seconds {options.seconds:g}",
        "true": {"skew_ms": round(true_skew, 1), "drift_percent": 100 * options.drift},
        "measured": measured,
        "error_ms": round(found - true_skew, 1),
        "paired_rightly": round(right, 4),
        "examples": examples,
        "examples_right": right_examples,
        "tracklets": tracklets,
        "kept": kept,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine.describe(),
    }
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps({key: result[key] for key in ("true", "measured", "error_ms", "paired_rightly", "examples",
                                                   "examples_right", "tracklets", "kept")}, indent=2))  # fmt: skip
    return 0 if all(kept.values()) else 1


if __name__ == "__main__":
    raise SystemExit(main())
