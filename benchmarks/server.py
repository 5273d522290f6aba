"""Fifty people search a gallery over HTTP, while a writer fills it as eight cameras do (synthetic vectors).

    python benchmarks/server.py [--tracklets 100000] [--dimension 2048] [--seconds 60]

The server is a process of its own, as `run_pipeline.py serve` starts it; so is the writer, and so are the readers, all
on this machine. A reader searches by a random stored tracklet, half of the time with a filter, looks at the answer for
some seconds (exponential, `--think`), and searches again; every search is audited. The writer keeps a tracklet with two
views at a fixed pace, first alone, then beside the readers; benchmarks/indexing.py has real cameras there. Vectors are
random: nothing is said of who is found.
"""

import argparse
import asyncio
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import httpx
import machine
import numpy as np
from search import fill_store, unit_rows

from pipeline.frame import TimeSource
from pipeline.identify import Sighting
from pipeline.store import Store
from pipeline.tracklets import Crop, Tracklet
from reid.modality import Modality

ROOT = Path(__file__).resolve().parent.parent
RESULT = Path(__file__).parent / "results" / "server.json"
READERS = 50
CAMERAS = 8
SECONDS_A_TRACKLET = 4.0  # of one camera: three people in view, who stay for twelve seconds
FILTERS: list[dict[str, Any]] = [
    {}, {"modalities": ["nir", "thermal"]}, {}, {"time_of_day": "20:00-07:00"}, {}, {"cameras": ["cam1", "cam2"]},
]  # fmt: skip


def sighting(number: int, dimension: int, rng: np.random.Generator) -> Sighting:
    """A tracklet of one of the eight cameras, with two views."""
    camera, start = f"cam{number % CAMERAS}", datetime(2026, 6, 2, tzinfo=UTC) + timedelta(seconds=number)
    modality = list(Modality)[number % CAMERAS % 3]
    shape, kind = ((128, 64, 3), np.uint8) if modality is Modality.RGB else ((128, 64), np.uint16)
    box = np.array([10, 20, 74, 148], np.float32)
    views = tuple(
        Crop(rng.integers(0, 255, shape).astype(kind), k, start + timedelta(seconds=k / 10), box, 0.5) for k in range(2)
    ) if modality is not Modality.NIR else ()  # fmt: skip
    tracklet = Tracklet(
        f"{camera}-new{number}-{os.getpid()}", camera, modality, 1, start, start + timedelta(seconds=1),
        TimeSource.CONFIGURED_START, np.arange(11), np.tile(box, (11, 1)), np.full(11, 0.9, np.float32), (640, 360),
        views,
    )  # fmt: skip
    return Sighting(tracklet, unit_rows(1, dimension, rng)[0], 1 + number % 1000, ())


def write(root: Path, dimension: int, seconds: float, out: Any) -> None:
    """Keep tracklets at the pace of eight cameras; tell how long each took, and how many were late."""
    rng, pace = np.random.default_rng(os.getpid()), SECONDS_A_TRACKLET / CAMERAS
    took, cpu, late = [], [], 0
    with Store.open(root, model_id="random@0", dimension=dimension) as store:
        begun = time.monotonic()
        for number in range(int(seconds / pace)):
            made = sighting(number, dimension, rng)
            time.sleep(max(0.0, begun + number * pace - time.monotonic()))
            late += time.monotonic() > begun + (number + 1) * pace
            started, processor = time.perf_counter(), time.thread_time()
            store.add(made)
            took.append(time.perf_counter() - started)
            cpu.append(time.thread_time() - processor)
        elapsed = time.monotonic() - begun
    out.put({
        "kept": len(took), "a_second": round(len(took) / elapsed, 2), "late": late,
        "p50_ms": ms(took, 0.5), "p95_ms": ms(took, 0.95), "cpu_p50_ms": ms(cpu, 0.5),
    })  # fmt: skip


def ms(values: list[float], share: float) -> float:
    """A quantile in milliseconds."""
    return round(1e3 * float(np.quantile(values, share)), 2)


def read(address: str, count: int, options: argparse.Namespace, out: Any) -> None:
    """All readers, in one process."""
    out.put(asyncio.run(_read(address, count, options)))


async def _read(address: str, count: int, options: argparse.Namespace) -> dict[str, Any]:
    took: list[float] = []
    errors: list[str] = []
    limits = httpx.Limits(max_connections=count, max_keepalive_connections=count)
    async with httpx.AsyncClient(base_url=f"{address}/api/v1", timeout=60, limits=limits) as client:
        client.headers["X-CSRF-Token"] = (await client.get("/session")).json()["csrf"]
        until = time.monotonic() + options.seconds

        async def reader(seed: int) -> None:
            rng = np.random.default_rng(seed)
            await asyncio.sleep(float(rng.uniform(0, options.think)))
            while time.monotonic() < until:
                row = int(rng.integers(1, options.tracklets + 1))
                asked = {"examples": [{"tracklet_id": f"cam{row % CAMERAS}-{row}"}], "top_k": 20,
                         "filters": FILTERS[int(rng.integers(len(FILTERS)))]}  # fmt: skip
                started = time.perf_counter()
                try:
                    answer = await client.post("/search", json=asked)
                    if answer.status_code != 200 or len(answer.json()["answers"]) != 20:
                        errors.append(answer.text[:200])
                except httpx.HTTPError as error:
                    errors.append(repr(error))
                took.append(time.perf_counter() - started)
                left = max(0.0, until - time.monotonic())  # nobody waits for somebody's last thoughts
                await asyncio.sleep(min(left, float(rng.exponential(options.think))))

        await asyncio.gather(*(reader(seed) for seed in range(count)))
    return {
        "readers": count, "think_seconds": options.think, "searches": len(took),
        "a_second": round(len(took) / options.seconds, 2), "p50_ms": ms(took, 0.5), "p95_ms": ms(took, 0.95),
        "p99_ms": ms(took, 0.99), "errors": errors[:5], "error_count": len(errors),
    }  # fmt: skip


def _begin(start: Any, job: Any, arguments: tuple[Any, ...], out: Any) -> None:
    start.wait()
    job(*arguments, out)


@contextmanager
def ready(*jobs: tuple[Any, ...]) -> Iterator[Callable[[], list[dict[str, Any]]]]:
    """Each in a process of its own, which has imported all that it needs; the call begins all, and waits for them."""
    context = multiprocessing.get_context("spawn")
    start = context.Barrier(len(jobs) + 1)
    queues = [context.Queue() for _ in jobs]
    processes = [
        context.Process(target=_begin, args=(start, job, tuple(rest), queue), daemon=True)
        for (job, *rest), queue in zip(jobs, queues, strict=True)
    ]
    for process in processes:
        process.start()
    while start.n_waiting < len(jobs):
        time.sleep(0.05)

    def go() -> list[dict[str, Any]]:
        start.wait()
        return [queue.get(timeout=900) for queue in queues]

    yield go
    for process in processes:
        process.join()


def together(*jobs: tuple[Any, ...]) -> list[dict[str, Any]]:
    """Each in a process of its own, at once."""
    with ready(*jobs) as go:
        return go()


@contextmanager
def serving(root: Path) -> Iterator[str]:
    """`run_pipeline.py serve` of a gallery, as a process of its own; gives its address."""
    command = [sys.executable, "run_pipeline.py", "serve", "-g", str(root), "--address", "127.0.0.1:0", "-q"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True, cwd=ROOT) as server:
        try:
            yield (server.stdout.readline() if server.stdout else "").strip().rstrip("/")
        finally:
            server.terminate()


def measure(root: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Alone, then together."""
    (alone,) = together((write, root, options.dimension, options.seconds / 2))
    with serving(root) as address:
        warm = argparse.Namespace(**{**vars(options), "seconds": 1.0, "think": 0.1})
        started = time.perf_counter()
        asyncio.run(_read(address, 1, warm))
        first = round(time.perf_counter() - started, 1)
        readers, beside = together((read, address, READERS, options), (write, root, options.dimension, options.seconds))
        eager = argparse.Namespace(**{**vars(options), "seconds": options.seconds / 4, "think": 1e-3})
        (saturated,) = together((read, address, READERS, eager))
    return {
        "index_seconds": first,
        "readers": readers,
        "without_a_pause": saturated,
        "writer": {"alone": alone, "beside_readers": beside},
    }


def main() -> None:
    """Measure, print, and keep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tracklets", type=int, default=100_000)
    parser.add_argument("--dimension", type=int, default=2048)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--think", type=float, default=5.0, help="mean seconds between an answer and the next search")
    parser.add_argument("--json", type=Path, default=RESULT)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="server-") as folder:
        root = Path(folder) / "gallery"
        fill_store(root, options.tracklets, options.dimension, np.random.default_rng(0))
        result = {
            "benchmark": "server", "vectors": "random", "tracklets": options.tracklets, "dimension": options.dimension,
            **measure(root, options),
            "date": datetime.now(UTC).isoformat(timespec="seconds"), "machine": machine.describe(),
        }  # fmt: skip
    options.json.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
