"""The server of one camera of four is killed and started again, twenty times, under the whole program.

    python benchmarks/restarts.py [--kills 20] [--json benchmarks/results/restarts.json]

The four cameras of the synthetic site of benchmarks/soak.py, filmed in a loop, are served by GStreamer over real RTSP
on loopback, and `run_pipeline.py run` watches them as an operator's would. Each kill lasts one to five seconds, so that
the waits between attempts grow to their cap. A camera is back when its next frame is processed. Of the other three,
what went through their proxies is compared with what was decoded: when the program is told to stop, one frame may be on
the wire. Memory, files and threads while all four run are compared between the first five kills and the last five;
memory is the least of the eleven seconds after each, for freed pages go back every ten. What it grew by in as much time
before the first kill is told beside it. Exit code 1 when a limit is not kept.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import machine
import psutil
from program import Program, rendered

from simulation.streaming import Streams, clips_of

ROOT = Path(__file__).resolve().parent.parent
MODALITIES = {"gate": "rgb", "plaza": "rgb", "yard": "nir", "dock": "thermal"}
KILLED = "gate"
CLIP_SECONDS = 30
BACKOFF_CAP_SECONDS = 3.0
MOST_LATE_SECONDS = 2.0  # beyond the cap
RUNS_SECONDS = 11.0  # between two kills: freed pages go back to the system every ten
WARM_UP_SECONDS = 150.0  # before memory is looked at
CONTROLS = 10  # looks before the first kill
COMPARED = 5  # kills, the first and the last
MOST_GROWTH_MB = 10.0
MOST_FILES = 2
AT_THE_END = "connection_ended"  # what had come and was not decoded when the program was told to stop


class Watched(Program):
    """The program on the four cameras, seen from outside."""

    def __init__(self, folder: Path, urls: dict[str, str]) -> None:
        cameras = {
            name: {"source": url, "modality": MODALITIES[name],
                   "stream": {"backoff_cap_seconds": BACKOFF_CAP_SECONDS}}
            for name, url in urls.items()
        }  # fmt: skip
        super().__init__(folder, {"cameras": cameras})
        self.process = psutil.Process(self.child.pid)

    def processed(self) -> dict[str, float]:
        """Frames so far, by camera; empty while it cannot be asked."""
        return self.counts("xreid_frames_processed_total")

    def holds(self) -> dict[str, float]:
        """Memory, files and threads now."""
        with self.process.oneshot():
            return {"rss_mb": round(self.process.memory_info().rss / 1e6, 2), "files": self.process.num_fds(),
                    "threads": self.process.num_threads()}  # fmt: skip

    def holds_for(self, seconds: float) -> dict[str, float]:
        """What it holds in the end; memory is the least of that time."""
        until = time.monotonic() + seconds
        least = self.holds()["rss_mb"]
        while time.monotonic() < until:
            time.sleep(0.25)
            least = min(least, self.holds()["rss_mb"])
        return self.holds() | {"rss_mb": least}

    def stop_timed(self) -> tuple[int, float]:
        """Exit code, and seconds that it took."""
        told = time.monotonic()
        return self.stop(), round(time.monotonic() - told, 2)


def kill_once(program: Watched, streams: Streams, number: int) -> dict[str, float]:
    """Kill, wait, start again; how long the camera then took, and what the program holds once it runs again."""
    streams.kill(KILLED)
    down = 1.0 + number % 5
    time.sleep(down)
    before = program.processed()[KILLED]
    streams.restart(KILLED)
    late = program.until(lambda: program.processed().get(KILLED, 0.0) > before)
    return {"down_seconds": down, "back_after_seconds": round(late, 2), **program.holds_for(RUNS_SECONDS)}


def watch(site: Path, folder: Path, kills: int) -> dict[str, Any]:
    """Everything seen of one run."""
    with Streams(clips_of(site, seconds=CLIP_SECONDS)) as streams:
        program = Watched(folder, streams.urls)
        try:
            program.until(lambda: len([each for each in program.processed().values() if each]) == len(streams.urls))
            time.sleep(WARM_UP_SECONDS)
            controls = [program.holds_for(RUNS_SECONDS) for _ in range(CONTROLS)]
            seen = [kill_once(program, streams, number) for number in range(kills)]
            sent = {name: streams.counts(name)["frames"] for name in streams.urls}
            exit_code, stop_seconds = program.stop_timed()
        finally:
            if program.child.poll() is None:
                program.child.kill()
    report = json.loads((program.output / "report.json").read_text())
    keys = ("modality", "frames_decoded", "frames_processed", "frames_dropped", "frames_skipped", "reconnects", "clock",
            "age_seconds")  # fmt: skip
    cameras = {
        name: {"sent": sent[name]} | {key: each[key] for key in keys} for name, each in report["cameras"].items()
    }
    return {
        "controls": controls,
        "kills": seen,
        "cameras": cameras,
        "exit_code": exit_code,
        "stop_seconds": stop_seconds,
        "tracebacks": program.log.read_text().count("Traceback"),
    }


def grown(kills: list[dict[str, float]], name: str) -> float:
    """Median after the last kills less that after the first ones: queues that are full for a moment are no growth."""
    first, last = ([each[name] for each in part] for part in (kills[:COMPARED], kills[-COMPARED:]))
    return round(statistics.median(last) - statistics.median(first), 2)


def judge(seen: dict[str, Any]) -> dict[str, bool]:
    """Whether each limit is kept."""
    cameras, kills = seen["cameras"], seen["kills"]
    growth = {name: grown(kills, name) for name in ("rss_mb", "files", "threads")}
    others = [each for name, each in cameras.items() if name != KILLED]
    limit = BACKOFF_CAP_SECONDS + MOST_LATE_SECONDS
    return {
        f"the killed camera is back within {limit:g} s each time": all(
            each["back_after_seconds"] <= limit for each in seen["kills"]
        ),
        "it came back as often as it was killed": cameras[KILLED]["reconnects"] == len(seen["kills"]),
        "the others lose no frame": all(
            each["frames_decoded"] + each["frames_skipped"].get(AT_THE_END, 0) >= each["sent"] - 1
            and set(each["frames_skipped"]) <= {AT_THE_END}
            and set(each["frames_dropped"]) <= {"shutdown"}
            and each["reconnects"] == 0
            for each in others
        ),
        "every frame is accounted for": all(
            each["frames_decoded"] == each["frames_processed"] + sum(each["frames_dropped"].values())
            for each in cameras.values()
        ),
        f"memory grows by less than {MOST_GROWTH_MB:g} MB": growth["rss_mb"] < MOST_GROWTH_MB,
        "files and threads do not grow": max(growth["files"], growth["threads"]) <= MOST_FILES,
        "exit code 0": seen["exit_code"] == 0 and not seen["tracebacks"],
    }


def main() -> int:
    """Render the site when it is not there, run, judge, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--site", type=Path, default=ROOT / "runs" / "soak" / "site", help="rendered when not there")
    parser.add_argument("--json", type=Path, default=ROOT / "benchmarks" / "results" / "restarts.json")
    options = parser.parse_args()
    site = rendered(options.site)
    with tempfile.TemporaryDirectory() as folder:
        seen = watch(site, Path(folder), options.kills)
    kept, late = judge(seen), [each["back_after_seconds"] for each in seen["kills"]]
    result = {
        "benchmark": "restarts",
        "warm_up_seconds": WARM_UP_SECONDS,
        "synthetic": True,
        "command": f"python benchmarks/restarts.py --kills {options.kills}",
        "killed": KILLED,
        "backoff_cap_seconds": BACKOFF_CAP_SECONDS,
        "back_after_seconds": {"median": sorted(late)[len(late) // 2], "most": max(late)},
        "growth": {name: grown(seen["kills"], name) for name in ("rss_mb", "files", "threads")},
        "growth_without_kills": {"rss_mb": grown(seen["controls"], "rss_mb")},
        "kept": kept,
        **seen,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine.describe(),
    }
    options.json.write_text(json.dumps(result, indent=2) + "\n")
    for claim, holds in kept.items():
        print(f"{'kept  ' if holds else 'BROKEN'}  {claim}")
    return 0 if all(kept.values()) else 1


if __name__ == "__main__":
    raise SystemExit(main())
