"""Days in the life of the program, shortened: eight simulated cameras over real RTSP, with faults on a plan.

    python benchmarks/soak.py [--hours 0.5] [--json benchmarks/results/soak.json]

The cameras film a synthetic site in a loop, and are served by GStreamer through a proxy that kills, freezes, drops,
duplicates, reorders, corrupts, and lets clocks leap (configs/simulation/soak_faults.yaml). The whole program runs on
them as an operator runs it (`run --overwrite`, with metrics). Its memory, threads and files are looked at from outside,
and in the end it is told to stop, and every frame must be accounted for. Exit code 1 when a limit is not kept.
"""

import argparse
import json
import signal
import subprocess
import sys
import time
import urllib.request
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import machine
import numpy as np
import psutil
import yaml
from program import rendered

from simulation.config import load
from simulation.faults import FaultPlan
from simulation.streaming import Serving, Streams, clips_of

ROOT = Path(__file__).resolve().parent.parent
FAULTS = ROOT / "configs" / "simulation" / "soak_faults.yaml"
CLIP_SECONDS = 30
COPIES = 2
SAMPLE_SECONDS = 12.0  # longer than the ten after which freed memory goes back
LOOK_SECONDS = 0.5
MOST_SLOPE = 1.0  # MB a minute
MOST_STOP_SECONDS = 5.0
MOST_AGE = 1.0  # seconds: max_staleness_ms as it comes
LAST_SAMPLES = 5  # of a minute: no fault of the plan is longer
WARM_UP_SHARE, MOST_WARM_UP = 0.2, 600.0  # of the time, seconds
MODALITIES = {"gate": "rgb", "plaza": "rgb", "yard": "nir", "dock": "thermal"}


def write_config(folder: Path, urls: dict[str, str]) -> Path:
    """The config of the run."""
    cameras: dict[str, dict[str, Any]] = {
        name: {
            "source": url,
            "modality": MODALITIES[name.partition("_")[0]],
            "stream": {"stall_seconds": 8.0, "timeout_seconds": 8.0, "backoff_cap_seconds": 5.0},
        }
        for name, url in urls.items()
    }
    for name in ("gate_2", "dock_2"):  # not at one place, so nothing is found; but all that pairs remember is kept
        cameras[name]["pair_id"] = "strangers"
    path = folder / "site.yaml"
    config = {"version": 1, "cameras": cameras, "reid": {"weights": "xreid-tiny"}, "monitoring": {"port": 0}}
    path.write_text(yaml.safe_dump(config))
    return path


def counts_of(log: Path) -> dict[str, float]:
    """Sums over the cameras, as /metrics tells them; empty when it cannot be asked."""
    ports = [part.split("/")[0] for part in log.read_text().split("http://127.0.0.1:")[1:]]
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{ports[0]}/metrics", timeout=5) as answer:
            lines = answer.read().decode().splitlines()
    except (IndexError, OSError):
        return {}
    sums: dict[str, float] = {}
    for line in lines:
        name = line.split("{")[0].split(" ")[0]
        if name.startswith(("xreid_frames", "xreid_reconnects_total", "xreid_gallery", "xreid_tracklets_total")):
            sums[name] = sums.get(name, 0.0) + float(line.rsplit(" ", 1)[1])
        if name == "xreid_stage_seconds_sum":
            stage = "stage_seconds_" + line.split('stage="')[1].split('"')[0]
            sums[stage] = float(line.rsplit(" ", 1)[1])
        if name == "xreid_camera_state" and 'state="running"' in line:
            sums["running"] = sums.get("running", 0.0) + float(line.rsplit(" ", 1)[1])
    return sums


def sample(process: psutil.Process, log: Path, started: float) -> dict[str, float]:
    """What the program holds; memory is the least of so many seconds, for what is freed goes back every ten."""
    until = time.monotonic() + SAMPLE_SECONDS
    looks = [process.memory_info().rss]
    while time.monotonic() < until:
        time.sleep(LOOK_SECONDS)
        looks.append(process.memory_info().rss)
    with process.oneshot():
        held = {
            "seconds": round(time.monotonic() - started, 1),
            "rss_mb": round(min(looks) / 1e6, 2),
            "most_rss_mb": round(max(looks) / 1e6, 2),
            "threads": process.num_threads(),
            "files": process.num_fds(),
            "processor_seconds": round(sum(process.cpu_times()[:2]), 1),
            "idle_seconds": round(psutil.cpu_times().idle, 1),  # of all processors
        }
    counts = counts_of(log)
    return held | {name: counts[name] for name in sorted(counts) if not name.startswith("xreid_frame_age")}


def slope_of(minutes: Any, values: Any) -> tuple[float, float]:
    """By how much it grows a minute, and the standard error of that; neighbours in time are not independent."""
    slope, start = np.polyfit(minutes, values, 1)
    rest = values - (slope * minutes + start)
    alike = max(0.0, float(np.corrcoef(rest[1:], rest[:-1])[0, 1]))
    free = max(1.0, len(rest) * (1 - alike) / (1 + alike) - 2)
    error = np.sqrt((rest @ rest) / free / (((minutes - minutes.mean()) ** 2).sum()))
    return float(slope), float(error)


def soak(hours: float, folder: Path) -> dict[str, Any]:
    """Run, look, stop; returns everything seen."""
    clips = clips_of(folder / "site", seconds=CLIP_SECONDS, number=COPIES)
    output, log_path = folder / "run", folder / "log.txt"
    samples: list[dict[str, float]] = []
    with Streams(clips, Serving(plan=load(FAULTS, FaultPlan))) as streams, log_path.open("wb") as log:
        config = write_config(folder, streams.urls)
        command = [sys.executable, "run_pipeline.py", "run", "--config", str(config), "--output", str(output)]
        child = subprocess.Popen([*command, "--overwrite", "--no-progress"], cwd=ROOT, stdout=log, stderr=log)
        started = time.monotonic()
        try:
            process = psutil.Process(child.pid)
            while child.poll() is None and time.monotonic() - started < hours * 3600:
                with suppress(psutil.NoSuchProcess):
                    samples.append(sample(process, log_path, started))
            told = time.monotonic()
            child.send_signal(signal.SIGTERM)
            exit_code = child.wait(timeout=60)
            stop_seconds = time.monotonic() - told
        finally:
            if child.poll() is None:
                child.kill()
        faults = {name: dict(sorted(streams.counts(name).items())) for name in streams.urls}
    report = json.loads((output / "report.json").read_text())
    return {"samples": samples, "exit_code": exit_code, "stop_seconds": round(stop_seconds, 2),
            "faults": faults, "report": report, "tracebacks": log_path.read_text().count("Traceback")}  # fmt: skip


def costs_of(samples: list[dict[str, float]]) -> dict[str, dict[str, float]]:
    """Where the time went, in milliseconds a processed frame, in the first and in the last third of the samples."""
    third = max(2, len(samples) // 3)
    costs = {}
    for name, part in (("first_third", samples[:third]), ("last_third", samples[-third:])):
        part = [each for each in part if "xreid_frames_processed_total" in each]
        grown = {key: part[-1][key] - part[0].get(key, 0.0) for key in part[-1]} if len(part) > 1 else {}
        frames = grown.get("xreid_frames_processed_total", 0.0)
        costs[name] = {
            key.removesuffix("_seconds").removeprefix("stage_seconds_"): round(1000 * grown[key] / frames, 3)
            for key in grown
            if frames and key.startswith(("stage_seconds_", "processor_seconds", "idle_seconds"))
        }
    return costs


def judge(seen: dict[str, Any], hours: float) -> dict[str, Any]:
    """The figures, and whether each limit is kept."""
    seconds = np.array([each["seconds"] for each in seen["samples"]])
    warm = seconds > min(WARM_UP_SHARE * hours * 3600, MOST_WARM_UP)

    def series(name: str) -> Any:
        return np.array([each[name] for each in seen["samples"]])[warm]

    minutes = seconds[warm] / 60
    slope, error = slope_of(minutes, series("rss_mb"))
    halves = [part.mean() for part in np.array_split(series("rss_mb"), 2)]
    cameras = seen["report"]["cameras"]
    unaccounted = {
        name: each["frames_decoded"] - each["frames_processed"] - sum(each["frames_dropped"].values())
        for name, each in cameras.items()
    }
    running = [each.get("running", 0.0) for each in seen["samples"]]
    grown = {name: float(np.polyfit(minutes, series(name), 1)[0] * 60) for name in ("threads", "files")}
    kept = {
        f"memory grows by less than {MOST_SLOPE:g} MB a minute": slope < MOST_SLOPE,
        "threads and files do not grow": all(
            abs(np.median(first) - np.median(last)) <= 4
            for name in ("threads", "files")
            for first, last in [np.array_split(series(name), 2)]
        ),
        "no frame is unaccounted for": not any(unaccounted.values()),
        "every camera was running at the end, but for planned faults": max(running[-LAST_SAMPLES:]) == len(cameras)
        and all(each["state"] == "stopped" for each in cameras.values()),
        f"it ended within {MOST_STOP_SECONDS:g} s, exit code 0": seen["exit_code"] == 0
        and seen["stop_seconds"] < MOST_STOP_SECONDS,
        f"no processed frame was older than {MOST_AGE:g} s": all(
            each["age_seconds"]["most"] <= MOST_AGE for each in cameras.values()
        ),
        "no error without a name": seen["tracebacks"] == 0,
    }
    return {
        "rss_slope_mb_a_minute": round(slope, 3),
        "standard_error_of_the_slope": round(error, 3),
        "rss_mb": {"first_half": round(float(halves[0]), 1), "second_half": round(float(halves[1]), 1)},
        "growth_an_hour": {name: round(value, 2) for name, value in grown.items()},
        "threads": [int(series("threads").min()), int(series("threads").max())],
        "running_at_the_end": int(max(running[-LAST_SAMPLES:])),
        "files": [int(series("files").min()), int(series("files").max())],
        "unaccounted_frames": unaccounted,
        "kept": kept,
    }


def main() -> int:
    """Render the site when it is not there, soak, judge, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hours", type=float, default=0.5, help="how long (default 0.5)")
    parser.add_argument("--folder", type=Path, default=ROOT / "runs" / "soak", help="where site and results go")
    parser.add_argument("--json", type=Path, default=ROOT / "benchmarks" / "results" / "soak.json")
    options = parser.parse_args()
    rendered(options.folder / "site")
    seen = soak(options.hours, options.folder)
    judged = judge(seen, options.hours)
    cameras = {
        name: {key: each[key] for key in ("modality", "state", "frames_decoded", "frames_processed", "frames_dropped",
                                          "frames_skipped", "reconnects", "clock", "age_seconds", "tracklets")}
        for name, each in seen["report"]["cameras"].items()
    }  # fmt: skip
    result = {
        "benchmark": "soak",
        "synthetic": True,
        "command": f"python benchmarks/soak.py --hours {options.hours:g}",
        "hours": options.hours,
        "cameras": len(cameras),
        **judged,
        "exit_code": seen["exit_code"],
        "stop_seconds": seen["stop_seconds"],
        "tracklets": seen["report"]["tracklets"],
        "persons": seen["report"]["persons"],
        "by_camera": cameras,
        "faults": seen["faults"],
        "ms_a_processed_frame": costs_of(seen["samples"]),
        "samples": seen["samples"][:: max(1, len(seen["samples"]) // 120)],
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine.describe(),
    }
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps(result, indent=2) + "\n")
    for claim, holds in judged["kept"].items():
        print(f"{'kept  ' if holds else 'BROKEN'}  {claim}")
    slope, error = judged["rss_slope_mb_a_minute"], judged["standard_error_of_the_slope"]
    print(f"memory {slope:+.2f} MB a minute, standard error {error:.2f}; threads {judged['threads']}, files "
          f"{judged['files']}; stopped in {seen['stop_seconds']:.1f} s")  # fmt: skip
    return 0 if all(judged["kept"].values()) else 1


if __name__ == "__main__":
    raise SystemExit(main())
