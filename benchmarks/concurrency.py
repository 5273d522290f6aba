"""Eight readers search a gallery, and record each search, while one fills it at 50 tracklets a second (synthetic).

They are four processes of two threads, whose two share one searcher, as those of the server do. Each search has a
filter on the camera, and all that it tells is checked: its ten answers are the ten nearest by brute force among what
the searcher then knew, vectors are those that their tracklets were given, crops are there and whole, what filters know
the index has, nothing that was seen is gone again. Anything else counts as a torn read. At the end the gallery must
verify.

    python benchmarks/concurrency.py 300
"""

import argparse
import multiprocessing
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from multiprocessing.queues import Queue
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
from numpy.typing import NDArray
from ulid import ULID

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import machine
from made_up import CURVES, tracklet_of

from pipeline.audit import Actor, Audit
from pipeline.crop_files import read_crop
from pipeline.filters import SearchFilter
from pipeline.identify import Sighting
from pipeline.query import SearchOptions
from pipeline.reconcile import reconcile
from pipeline.recovery import maintain, open_store
from pipeline.replies import search_record, search_reply
from pipeline.retention import Retention, RetentionRules
from pipeline.search import Searcher, SearchResult
from pipeline.sinks import EventLog
from pipeline.store import Store
from reid.calibration import Calibration
from reid.embedding import rounded
from reid.modality import Modality

RESULT = Path(__file__).parent / "results" / "concurrency.json"
DIMENSION = 512
MODEL = "stand-in@sha256:0000000000000001"
CAMERAS = ("gate", "yard", "dock", "hall")
THREADS = 2  # of a process
TOP = 10
BENCH = Actor("benchmark", purpose="concurrency")


def vector_of(name: str) -> NDArray[np.float32]:
    """The vector that a tracklet of this name has, and no other."""
    numbers = np.random.default_rng(list(name.encode())).normal(size=DIMENSION)
    return rounded(numbers / np.linalg.norm(numbers))


def sighting(number: int) -> Sighting:
    """A new tracklet with two crops; its name says when it was made."""
    start = datetime(2026, 6, 1, tzinfo=UTC) + timedelta(seconds=number / 50)
    images = [np.full((128, 64, 3), number % 251, np.uint8)] * 2
    made = tracklet_of(CAMERAS[number % len(CAMERAS)], Modality.RGB, number=number, start=start, images=images)
    return Sighting(made, vector_of(made.tracklet_id), 1 + number // 5, ())


@dataclass(slots=True)
class Seen:
    """What a reader found."""

    searches: list[float] = field(default_factory=list)
    lags: list[float] = field(default_factory=list)
    torn: list[str] = field(default_factory=list)
    error: str | None = None


class Reader:
    """Searches as a thread of the server does, and checks what it is told."""

    def __init__(self, root: Path, shared: Searcher, seed: int, *, pause: float) -> None:
        self._root = root
        self._rng = np.random.default_rng(seed)
        self._shared = shared
        self._names: list[str] = []  # of row 1, 2, ...
        self._vectors = {camera: np.zeros((0, DIMENSION), np.float32) for camera in CAMERAS}
        self._pause = pause
        self.seen = Seen()

    def run(self, until: float) -> None:
        """Search until a moment of the monotonic clock."""
        begun = time.time()
        try:
            with Store.edit(self._root) as self._store:  # of this thread
                self._audit = Audit(self._store)
                while time.monotonic() < until:
                    searcher = self._shared.at_this_moment(self._store)
                    self._follow(searcher, begun)
                    if self._names:
                        self._search(searcher)
                    time.sleep(self._pause)
        except BaseException:  # noqa: BLE001  # whatever it is, it is what the benchmark looks for
            self.seen.error = traceback.format_exc()

    def _follow(self, searcher: Searcher, begun: float) -> None:
        """What is new to the searcher: since when, under what name, and with which vector."""
        now = time.time()
        rows = searcher.catalogue.rows.tolist()
        if len(rows) < len(self._names):
            self.seen.torn.append("something is gone that nobody removed")
        if rows != list(range(1, len(rows) + 1)) or rows != searcher.gallery.ids.tolist()[: len(rows)]:
            self.seen.torn.append(f"{len(rows)} rows to filters, {len(searcher.gallery)} to the index")
        new = rows[len(self._names) :]
        found = self._store.by_rows(new)
        for each, vector in zip(found, searcher.gallery.vectors(new), strict=True):
            made, own = ULID.from_str(each.tracklet_id.split("-")[1]).timestamp, vector_of(each.tracklet_id)
            self._names.append(each.tracklet_id)
            self._vectors[each.camera_id] = np.vstack([self._vectors[each.camera_id], own])
            if made > begun:
                self.seen.lags.append(now - made)
            if not np.array_equal(vector, own):
                self.seen.torn.append(f"{each.tracklet_id}: a vector that is not its own")

    def _search(self, searcher: Searcher) -> None:
        asked = self._names[int(self._rng.integers(len(self._names)))]
        camera = asked.split("-")[0]
        wanted = SearchFilter(cameras=frozenset({camera}), include_own=True, top_k=TOP)
        started = time.perf_counter()
        found = searcher.by_tracklet(asked, wanted)
        plain = search_reply(found)
        details, subjects = search_record(wanted, SearchOptions(), plain)
        self._audit.record(BENCH, "search", details, subjects=subjects)
        self.seen.searches.append(time.perf_counter() - started)
        self.seen.torn += self._wrong(asked, camera, found)
        self._look_up(found.answers[0].tracklet_id)

    def _wrong(self, asked: str, camera: str, found: SearchResult) -> list[str]:
        """What brute force says against the answers."""
        names = [answer.tracklet_id for answer in found.answers]
        query = vector_of(asked)
        cosines = np.array([query @ vector_of(name) for name in names])
        nearest = np.sort(self._vectors[camera] @ query)[::-1][:TOP]
        wrong = []
        if any(answer.camera_id != camera for answer in found.answers) or names[0] != asked:
            wrong.append(f"{asked}: an answer that the filter forbids, or not the nearest to itself")
        if len(set(names)) != len(nearest) or not np.allclose(cosines, nearest, rtol=0, atol=1e-6):
            wrong.append(f"{asked}: not the {len(nearest)} nearest")
        if not np.allclose([answer.cosine for answer in found.answers], cosines, rtol=0, atol=1e-3):
            wrong.append(f"{asked}: a cosine that is not that of its vectors")
        return wrong

    def _look_up(self, name: str) -> None:
        found = self._store.tracklet(name)
        crops = [read_crop(path) for path in self._store.crops(name)]
        if len(crops) != 2 or any(crop.shape != (128, 64, 3) for crop in crops):
            self.seen.torn.append(f"{name}: crops that are not its own")
        if not np.array_equal(self._store.embeddings([found.row])[0], vector_of(name)):
            self.seen.torn.append(f"{name}: a vector that is not its own")


def read(root: Path, seed: int, until: float, pause: float, answers: "Queue[list[Seen]]") -> None:
    """The body of a reading process."""
    with Store.edit(root) as store:
        shared = Searcher(store, Calibration(CURVES))
        readers = [Reader(root, shared, THREADS * seed + number, pause=pause) for number in range(THREADS)]
        threads = [Thread(target=reader.run, args=(until,)) for reader in readers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    answers.put([reader.seen for reader in readers])


def fill(root: Path, rate: float, until: float) -> tuple[int, float]:
    """Insert at a steady rate; how many, and how far behind the last one was."""
    number, behind = 0, 0.0
    with (
        open_store(root, model_id=MODEL, dimension=DIMENSION) as store,
        EventLog(root, model_id=MODEL, dimension=DIMENSION) as events,
    ):
        retention = Retention(store, RetentionRules(low_water_mb=0))
        started = time.monotonic()
        while (now := time.monotonic()) < until:
            due = int((now - started) * rate) - number
            if due <= 0:
                time.sleep(0.01)
                continue
            for item in retention.keep([sighting(number + n) for n in range(min(due, 16))]):
                events.write(item)
                number += 1
            behind = (time.monotonic() - started) - number / rate
    return number, behind


def spread(seconds: Sequence[float]) -> dict[str, float]:
    """Milliseconds."""
    p50, p99, most = np.percentile(np.array(seconds) * 1000, [50, 99, 100]).round(1).tolist()
    return {"p50_ms": p50, "p99_ms": p99, "most_ms": most}


def measure(root: Path, seconds: float, *, readers: int, rate: float, pause: float) -> dict[str, Any]:
    """Run all, and sum up."""
    open_store(root, model_id=MODEL, dimension=DIMENSION, calibration=Calibration(CURVES)).close()
    context = multiprocessing.get_context("fork")
    answers: Queue[list[Seen]] = context.Queue()
    until = time.monotonic() + seconds
    processes = [context.Process(target=read, args=(root, n, until, pause, answers)) for n in range(readers // THREADS)]
    for process in processes:
        process.start()
    inserted, behind = fill(root, rate, until)
    found = [seen for _ in processes for seen in answers.get(timeout=120)]
    for process in processes:
        process.join(timeout=30)
    with maintain(root) as store:
        verified = reconcile(store)
    return {
        "seconds": seconds,
        "readers": readers,
        "processes": len(processes),
        "inserted": inserted,
        "inserted_a_second": round(inserted / seconds, 1),
        "behind_at_the_end_s": round(behind, 2),
        "searches": sum(len(each.searches) for each in found),
        "search_with_its_audit_row": spread([value for each in found for value in each.searches]),
        "insert_to_searchable": spread([value for each in found for value in each.lags]),
        "errors": [each.error for each in found if each.error],
        "torn_reads": [text for each in found for text in each.torn],
        "locked_up": sum(process.is_alive() for process in processes),
        "differences": list(verified.differences),
        "audit_rows": verified.audit,
    }


def main() -> int:
    """Run, print, and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("seconds", type=float, nargs="?", default=300.0)
    parser.add_argument("--readers", type=int, default=8)
    parser.add_argument("--rate", type=float, default=50.0)
    parser.add_argument("--pause", type=float, default=0.25, metavar="SECONDS", help="of a reader between two searches")
    parser.add_argument("--output", type=Path, default=RESULT)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="concurrency-", ignore_cleanup_errors=True) as folder:
        found = measure(Path(folder), options.seconds, readers=options.readers, rate=options.rate, pause=options.pause)
    result = {"what": "readers beside one writer; synthetic tracklets", "machine": machine.describe(), **found}
    machine.keep(result, options.output)
    return 1 if any(result[name] for name in ("errors", "torn_reads", "locked_up", "differences")) else 0


if __name__ == "__main__":
    raise SystemExit(main())
