"""What handing frames over costs, how many cameras this machine holds, and what becomes of frames when it cannot.

    python benchmarks/streams.py [--parts cost live_cost streams overload] [--json benchmarks/results/streams.json]

cost: decoding and hand-over of a 1080p recording against bare PyAV with one conversion, in turns, in one run.
live_cost: the same of a stream over RTSP, by the time of the processor.
streams: by bisection, how many 1080p streams of 10 frames a second, over real RTSP, the whole program holds with a 95th
percentile of age below one second and no frame dropped, and what stops it. The servers run on the same machine.
overload: five times as many frames as the line can take, in real time: how old processed frames are, and the account.
Those are pictures in memory: nothing is decoded.

The pictures are those of the synthetic site of benchmarks/soak.py, enlarged to 1080p.
"""

import argparse
import json
import multiprocessing
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from fractions import Fraction
from itertools import cycle, islice
from pathlib import Path
from threading import Event
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import av
import cv2
import machine
import numpy as np
import psutil
import yaml

from pipeline.build import build_detector, build_extractor, build_line, build_sources, build_windows
from pipeline.config import from_sources
from pipeline.frame import Frame, TimeSource
from pipeline.prefetch import Intake, Policy
from pipeline.sources.base import SourceAccount, SourceInfo, SourceState
from pipeline.sources.video import VideoSource
from pipeline.store import Store
from pipeline.surveil import Line, TrackedFrame, surveil
from pipeline.tally import Ages
from reid.modality import Modality
from simulation.clips import encode
from simulation.streaming import Streams

ROOT = Path(__file__).resolve().parent.parent
SITE = ROOT / "runs" / "soak" / "site"
WH = 1920, 1080
FPS = 10
ROUNDS = 7
LIVE_ROUNDS, LIVE_FRAMES = 7, 80
WARM_UP_SECONDS, MEASURED_SECONDS = 10.0, 20.0
MOST_AGE_SECONDS = 1.0
MOST_STREAMS = 32
MOST_COST = 1.3  # times bare decoding with one conversion

Rgb = np.ndarray[Any, np.dtype[np.uint8]]


def pictures(count: int, wh: tuple[int, int]) -> list[Rgb]:
    """Frames of the synthetic gate."""
    with av.open(SITE / "gate.mp4") as container:
        frames = (frame.to_ndarray(format="rgb24") for frame in container.decode(video=0))
        found = [cv2.resize(frame, wh, interpolation=cv2.INTER_LINEAR) for frame in islice(frames, 20, 20 + count)]
    return [np.asarray(frame, np.uint8) for frame in found]


# --- cost --------------------------------------------------------------------


def write_video(path: Path, images: Sequence[Rgb]) -> None:
    """H.264 as cameras send it."""
    with av.open(path, "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(FPS))
        stream.width, stream.height, stream.pix_fmt = *WH, "yuv420p"
        stream.options = {"preset": "veryfast", "crf": "23", "bf": "0", "g": str(FPS)}
        for image in images:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))


def bare(path: Path) -> int:
    """Nothing but PyAV."""
    with av.open(path) as container:
        return sum(1 for frame in container.decode(video=0) if frame.to_ndarray(format="rgb24").shape)


def handed_over(path: Path) -> int:
    """The same through source and hand-over."""
    count = 0
    with Intake() as intake:
        intake.add(VideoSource("a", path, Modality.RGB))
        for batch in intake.batches(most=8, max_wait_seconds=0.05):
            for frame in batch:
                intake.done(frame)
            count += len(batch)
    return count


def timed(function: Any, path: Path) -> tuple[int, float, float]:
    """Frames, seconds of the wall, seconds of the processor."""
    wall, cpu = time.perf_counter(), time.process_time()
    count = function(path)
    return count, time.perf_counter() - wall, time.process_time() - cpu


def cost(folder: Path) -> dict[str, Any]:
    """In turns; the ratio of each round is of two measurements side by side."""
    path = folder / "clip.mp4"
    write_video(path, pictures(150, WH))
    rounds = []
    for number in range(ROUNDS):
        pair = [("bare", bare), ("ours", handed_over)]
        measured = {name: timed(function, path) for name, function in (pair if number % 2 else pair[::-1])}
        if measured["bare"][0] != measured["ours"][0]:
            raise RuntimeError(f"not the same frames: {measured}")
        rounds.append(measured)
    ratios = {
        kind: sorted(each["ours"][place] / each["bare"][place] for each in rounds)
        for kind, place in (("wall", 1), ("processor", 2))
    }
    return {
        "frames": rounds[0]["bare"][0],
        "rounds": ROUNDS,
        "bare_ms_a_frame": round(1000 * float(np.median([each["bare"][2] / each["bare"][0] for each in rounds])), 3),
        "ratio": {kind: round(float(np.median(values)), 3) for kind, values in ratios.items()},
        "ratios": {kind: [round(value, 3) for value in values] for kind, values in ratios.items()},
    }


def live_bare(url: str, count: int) -> Iterator[int]:
    """Nothing but PyAV."""
    with av.open(url, options={"rtsp_transport": "tcp"}, timeout=10.0) as container:
        for frame in islice(container.decode(video=0), count):
            yield frame.to_ndarray(format="rgb24").shape[0]


def live_ours(url: str, count: int) -> Iterator[int]:
    """The same through source and hand-over."""
    with Intake() as intake:
        for source in build_sources(from_sources([f"a={url}"])):
            intake.add(source, Policy(max_staleness_seconds=10.0))
        for batch in intake.batches(most=8, max_wait_seconds=0.05):
            for frame in batch:
                intake.done(frame)
                yield frame.image.shape[0]
                count -= 1
            if count <= 0:
                intake.close()
                return


def processor_of(read: Any, url: str, count: int, out: Any) -> None:
    """Seconds of the processor for each frame after the first: what connecting takes does not count."""
    begun, frames = 0.0, 0
    for _ in read(url, count):
        begun = begun or time.process_time()
        frames += 1
    out.put((time.process_time() - begun) / (frames - 1))


def live_cost(folder: Path) -> dict[str, Any]:
    """The same of a stream over RTSP, each reader in a process of its own, in turns; its pace is that of the camera."""
    clip = encode(pictures(100, WH), fps=float(FPS))
    context = multiprocessing.get_context("spawn")
    rounds: list[dict[str, float]] = []
    with Streams({"a": clip}) as streams:
        for number in range(LIVE_ROUNDS):
            readers = [("bare", live_bare), ("ours", live_ours)]
            measured = {}
            for name, reader in readers if number % 2 else readers[::-1]:
                out = context.Queue()
                process = context.Process(target=processor_of, args=(reader, streams.urls["a"], LIVE_FRAMES, out))
                process.start()
                measured[name] = out.get(timeout=120)
                process.join()
            rounds.append(measured)
    ratios = sorted(each["ours"] / each["bare"] for each in rounds)
    return {
        "frames": LIVE_FRAMES,
        "rounds": LIVE_ROUNDS,
        "bare_ms_a_frame": round(1000 * float(np.median([each["bare"] for each in rounds])), 3),
        "ratio": {"processor": round(float(np.median(ratios)), 3)},
        "ratios": {"processor": [round(value, 3) for value in ratios]},
    }


# --- streams -----------------------------------------------------------------


def run_streams(number: int, clip: Any, folder: Path) -> dict[str, Any]:
    """Run the whole program on so many streams for a while."""
    output, log_path = folder / f"run{number}", folder / f"log{number}.txt"
    with Streams({f"c{index}": clip for index in range(number)}) as streams, log_path.open("wb") as log:
        cameras = {
            name: {"source": url, "modality": "rgb", "max_staleness_ms": 10_000.0} for name, url in streams.urls.items()
        }
        config = folder / "site.yaml"
        config.write_text(yaml.safe_dump({"version": 1, "cameras": cameras, "reid": {"weights": "xreid-tiny"},
                                          "monitoring": {"port": 0}}))  # fmt: skip
        command = [sys.executable, "run_pipeline.py", "run", "-c", str(config), "-o", str(output), "--no-progress"]
        child = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log)
        try:
            process = psutil.Process(child.pid)
            wait_for_all(log_path, number)
            time.sleep(WARM_UP_SECONDS)
            before, cpu, whole = scrape(log_path), sum(process.cpu_times()[:2]), psutil.cpu_times()
            time.sleep(MEASURED_SECONDS)
            after, cpu = scrape(log_path), sum(process.cpu_times()[:2]) - cpu
            whole_after = psutil.cpu_times()
            child.send_signal(signal.SIGTERM)
            child.wait(timeout=60)
        finally:
            if child.poll() is None:
                child.kill()
    return judge(number, before, after, cpu / MEASURED_SECONDS, idle_share(whole, whole_after))


def wait_for_all(log: Path, number: int) -> None:
    """Until every camera has been connected."""
    until = time.monotonic() + 120
    while log.read_text().count(": connected to ") < number:
        if time.monotonic() > until:
            raise RuntimeError(f"not all cameras came: {log.read_text()}")
        time.sleep(0.2)


def scrape(log: Path) -> dict[str, float]:
    """The samples of /metrics, by name with labels; sums over cameras under the bare name."""
    import urllib.request

    port = log.read_text().split("http://127.0.0.1:")[1].split("/")[0]
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=20) as answer:
        lines = [line for line in answer.read().decode().splitlines() if not line.startswith("#")]
    found: dict[str, float] = {}
    for line in lines:
        name, value = line.rsplit(" ", 1)
        found[name] = float(value)
        bare_name = name.split("{")[0]
        found[bare_name] = found.get(bare_name, 0.0) + float(value)
        if 'le="' in name:
            bucket = f"{bare_name} {name.split('le=')[1].split(chr(34))[1]}"
            found[bucket] = found.get(bucket, 0.0) + float(value)
    return found


def idle_share(before: Any, after: Any) -> float:
    """Of the whole machine."""
    spent = {name: getattr(after, name) - getattr(before, name) for name in before._fields}
    return float(spent["idle"] / max(sum(spent.values()), 1e-9))


def judge(number: int, before: dict[str, float], after: dict[str, float], cores: float, idle: float) -> dict[str, Any]:
    """Whether the machine held them, and what was busy."""

    def more(name: str) -> float:
        return after.get(name, 0.0) - before.get(name, 0.0)

    frames = more("xreid_frames_processed_total")
    lost = more("xreid_frames_dropped_total") + more("xreid_frames_skipped_total")
    aged = more("xreid_frame_age_seconds_count")
    in_time = more("xreid_frame_age_seconds_bucket 1.0") / aged if aged else 0.0
    stages = {
        stage: round(more(f'xreid_stage_seconds_sum{{stage="{stage}"}}') / MEASURED_SECONDS, 3)
        for stage in ("detect", "track", "embed", "identify")
    }
    return {
        "streams": number,
        "held": in_time >= 0.95 and lost == 0 and frames >= 0.95 * number * FPS * MEASURED_SECONDS,
        "frames_a_second": round(frames / MEASURED_SECONDS, 1),
        "lost": lost,
        "share_below_one_second": round(in_time, 4),
        "program_cores": round(cores, 2),
        "machine_idle": round(idle, 3),
        "line_busy": stages,
    }


def bottleneck(failed: dict[str, Any] | None) -> str:
    """What was used up in the first trial that did not hold."""
    if failed is None:
        return f"nothing up to {MOST_STREAMS}"
    busy = sum(failed["line_busy"].values())
    stage = max(failed["line_busy"], key=lambda each: failed["line_busy"][each])
    if failed["machine_idle"] < 0.1:  # asked first: a line that waits for a processor is busy by the clock, too
        others = psutil.cpu_count() * (1 - failed["machine_idle"]) - failed["program_cores"]
        return (
            f"the processor: the program had {failed['program_cores']:.1f} of {psutil.cpu_count()} hyperthreads, of "
            f"which its line took {busy:.1f} at most, as its waits for a processor are counted, and decoding most of "
            f"the rest; servers and other programs {others:.1f}"
        )
    if busy > 0.85:
        return f"the line, which is one thread: {stage} took {failed['line_busy'][stage]:.0%} of the time"
    return "neither processor nor line: frames came late"


def hold(folder: Path) -> dict[str, Any]:
    """Double until it breaks, then bisect."""
    clip = encode(pictures(100, WH), fps=float(FPS))
    trials: dict[int, dict[str, Any]] = {}

    def holds(number: int) -> bool:
        if number not in trials:
            trials[number] = run_streams(number, clip, folder)
            print(json.dumps(trials[number]), flush=True)
        return bool(trials[number]["held"])

    good, bad = 0, 1
    while bad <= MOST_STREAMS and holds(bad):
        good, bad = bad, 2 * bad
    while bad - good > 1:
        middle = (good + bad) // 2
        good, bad = (middle, bad) if holds(middle) else (good, middle)
    return {
        "streams_held": good,
        "stopped_by": bottleneck(trials.get(bad)),
        "bits_a_second": round(8 * sum(map(len, clip.units)) / len(clip.units) * FPS),
        "trials": [trials[number] for number in sorted(trials)],
    }


# --- overload ----------------------------------------------------------------


@dataclass
class Paced:
    """A live camera of pictures in memory, which costs nothing to decode."""

    camera_id: str
    fps: float
    images: Sequence[Rgb]
    modality: Modality = Modality.RGB
    live: bool = True
    info: SourceInfo | None = None
    account: SourceAccount = field(default_factory=SourceAccount)
    closed: Event = field(default_factory=Event)

    def probe(self) -> SourceInfo:
        """Not asked."""
        raise NotImplementedError

    def close(self) -> None:
        """End."""
        self.closed.set()

    def __iter__(self) -> Iterator[Frame]:
        """In real time."""
        started = time.monotonic()
        self.account.enter(SourceState.RUNNING)
        for index, image in enumerate(cycle(self.images)):
            if self.closed.wait(max(0.0, started + index / self.fps - time.monotonic())):
                break
            self.account.give()
            yield Frame(image, self.camera_id, self.modality, index, index / self.fps, datetime.now(UTC),
                        TimeSource.ARRIVAL)  # fmt: skip
        self.account.enter(SourceState.ENDED)


@dataclass
class Watch:
    """The observer of the line: answers for frames, and notes their age."""

    intake: Intake
    limit: float
    ages: Ages = field(default_factory=Ages)
    late: int = 0

    def tracked(self, item: TrackedFrame) -> None:
        """Note."""
        age = self.intake.done(item.frame)
        self.ages.add(age)
        self.late += age >= self.limit

    def failed(self, frame: Frame, error: Exception) -> None:
        """Not expected."""
        raise error

    def took(self, stage: str, seconds: float) -> None:
        """Not noted."""


def a_line(root: Path, cameras: Sequence[str], *, live: bool) -> tuple[Line, Store]:
    """The real one: motion detector, tracker, tracklets, X-ReID, identities, store."""
    config = from_sources([f"{camera}=somewhere.mp4" for camera in cameras])
    extractor = build_extractor(config.reid.weights, config.reid.device)
    store = Store.open(
        root, model_id=extractor.model_id, dimension=extractor.dimension, calibration=extractor.calibration
    )
    detector = build_detector(config.detector, build_windows(config))
    return build_line(config, detector, extractor, store, live=set(cameras) if live else ()), store


def overload(folder: Path, *, seconds: float = 30.0, limit: float = 1.0) -> dict[str, Any]:
    """How fast the line is, and then five times that."""
    images = pictures(60, (640, 360))
    cameras = [f"c{number}" for number in range(4)]
    line, store = a_line(folder / "speed", cameras[:1], live=False)
    with store:
        started, count = time.perf_counter(), 0
        frames = (
            [Frame(image, "c0", Modality.RGB, index, index / FPS, datetime.now(UTC), TimeSource.ARRIVAL)]
            for index, image in enumerate(islice(cycle(images), 400))
        )
        free = Intake()
        watch = Watch(free, limit)
        watch.tracked = lambda item: None  # type: ignore[method-assign] # nobody handed these over
        for found in surveil(frames, line, watch):
            store.add_all(found)
        count = 400
        rate = count / (time.perf_counter() - started)
    line, store = a_line(folder / "overload", cameras, live=True)
    with store, Intake() as intake:
        for camera in cameras:
            intake.add(Paced(camera, 5 * rate / len(cameras), images), Policy(max_staleness_seconds=limit))
        watch, until = Watch(intake, limit), time.monotonic() + seconds

        def batches() -> Iterator[list[Frame]]:
            for batch in intake.batches(most=1, max_wait_seconds=0.05):
                if time.monotonic() > until:
                    intake.close()
                    return
                yield batch

        for found in surveil(batches(), replace(line, fresh=intake.fresh), watch):
            store.add_all(found)
    ledgers = intake.ledgers()
    return {
        "line_frames_a_second": round(rate, 1),
        "offered_frames_a_second": round(sum(each.decoded for each in ledgers.values()) / seconds, 1),
        "max_staleness_seconds": limit,
        "age_seconds": {"p50": round(watch.ages.quantile(0.5), 3), "p95": round(watch.ages.quantile(0.95), 3),
                        "most": round(watch.ages.most, 3)},
        "processed_too_old": watch.late,
        "decoded": sum(each.decoded for each in ledgers.values()),
        "processed": {name: each.processed for name, each in ledgers.items()},
        "dropped": {name: dict(each.dropped) for name, each in ledgers.items()},
        "unaccounted": sum(each.on_the_way for each in ledgers.values()),
        "kept": watch.ages.most < limit and not any(each.on_the_way for each in ledgers.values()),
    }  # fmt: skip


def main() -> int:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", default=list(PARTS), choices=PARTS)
    parser.add_argument("--json", type=Path, default=ROOT / "benchmarks" / "results" / "streams.json")
    options = parser.parse_args()
    if not (SITE / "site.json").is_file():
        config = ROOT / "configs" / "simulation" / "soak.yaml"
        render = [sys.executable, "-m", "simulation", "site", "--config", str(config), "--output", str(SITE)]
        subprocess.run(render, cwd=ROOT, check=True)
    kept = json.loads(options.json.read_text()) if options.json.is_file() else {}
    result = {"benchmark": "streams", "synthetic": True, **{part: kept[part] for part in kept if part in PARTS}}
    with tempfile.TemporaryDirectory() as folder:
        for part in options.parts:
            load = psutil.getloadavg()[0]
            result[part] = PARTS[part](Path(folder)) | {"load_before": round(load, 1)}
            print(json.dumps({part: result[part]}, indent=2), flush=True)
    result |= {"date": datetime.now(UTC).isoformat(timespec="seconds"), "machine": machine.describe()}
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps(result, indent=2) + "\n")
    dear = any(
        ratio > MOST_COST for part in ("cost", "live_cost") for ratio in result.get(part, {}).get("ratio", {}).values()
    )
    return 1 if dear or not result.get("overload", {"kept": True})["kept"] else 0


PARTS: dict[str, Any] = {"cost": cost, "live_cost": live_cost, "streams": hold, "overload": overload}

if __name__ == "__main__":
    raise SystemExit(main())
