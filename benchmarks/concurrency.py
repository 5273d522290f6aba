"""Eight processes search a gallery, and record each search, while one fills it at 50 tracklets a second (synthetic).

Every reader is a searcher of its own, as the command line and the page have it, asks with a filter on the camera, and
checks what it is told: vectors are those that their tracklets were given, the cosines of the first and the last answer
are right, crops are there and whole, filters and index have the same rows, nothing that was seen is gone again.
Anything else counts as a torn read. At the end the gallery must verify.

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
from pipeline.search import Searcher
from pipeline.sinks import EventLog
from pipeline.store import Store
from reid.calibration import Calibration
from reid.embedding import rounded
from reid.modality import Modality

RESULT = Path(__file__).parent / "results" / "concurrency.json"
DIMENSION = 512
MODEL = "stand-in@sha256:0000000000000001"
CAMERAS = ("gate", "yard", "dock", "hall")
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
    tracklets: int = 0


class Reader:
    """Searches as a program does, and checks what it is told."""

    def __init__(self, root: Path, seed: int, *, pause: float) -> None:
        self._store = Store.edit(root)
        self._audit = Audit(self._store)
        self._rng = np.random.default_rng(seed)
        self._searcher = Searcher(self._store, Calibration(CURVES))
        self._names: dict[int, str] = {}
        self._pause = pause
        self.seen = Seen()

    def run(self, until: float) -> None:
        """Search until a moment of the monotonic clock."""
        begun = time.time()
        while time.monotonic() < until:
            self._follow(begun)
            if self._names:
                self._search()
            time.sleep(self._pause)
        self.seen.tracklets = len(self._names)
        self._store.close()

    def _follow(self, begun: float) -> None:
        """What is new to the searcher: since when, under what name, and with which vector."""
        self._searcher.refresh()
        now = time.time()
        rows = self._searcher.catalogue.rows.tolist()
        if not set(self._names) <= set(rows):
            self.seen.torn.append("something is gone that nobody removed")
        if rows != list(range(1, len(rows) + 1)) or rows != self._searcher.gallery.ids.tolist():
            self.seen.torn.append(f"{len(rows)} rows to filters, {len(self._searcher.gallery)} to the index")
        new = rows[len(self._names) :]
        found = self._store.by_rows(new)
        for each, vector in zip(found, self._searcher.gallery.vectors(new), strict=True):
            self._names[each.row] = each.tracklet_id
            made = ULID.from_str(each.tracklet_id.split("-")[1]).timestamp
            if made > begun:
                self.seen.lags.append(now - made)
            if not np.array_equal(vector, vector_of(each.tracklet_id)):
                self.seen.torn.append(f"{each.tracklet_id}: a vector that is not its own")

    def _search(self) -> None:
        asked = self._names[int(self._rng.integers(len(self._names))) + 1]
        camera = asked.split("-")[0]
        wanted = SearchFilter(cameras=frozenset({camera}), include_own=True, top_k=10)
        started = time.perf_counter()
        found = self._searcher.by_tracklet(asked, wanted)
        plain = search_reply(found)
        details, subjects = search_record(wanted, SearchOptions(), plain)
        self._audit.record(BENCH, "search", details, subjects=subjects)
        self.seen.searches.append(time.perf_counter() - started)
        if any(answer.camera_id != camera for answer in found.answers):
            self.seen.torn.append(f"{asked}: an answer that the filter forbids")
        best, last = found.answers[0], found.answers[-1]
        if best.tracklet_id != asked or not best.cosine > 0.99:
            self.seen.torn.append(f"{asked} is not the nearest to itself")
        if abs(last.cosine - float(vector_of(asked) @ vector_of(last.tracklet_id))) > 1e-3:
            self.seen.torn.append(f"{asked}: the cosine to {last.tracklet_id} is not {last.cosine}")
        self._look_up(best.tracklet_id)

    def _look_up(self, name: str) -> None:
        found = self._store.tracklet(name)
        crops = [read_crop(path) for path in self._store.crops(name)]
        if len(crops) != 2 or any(crop.shape != (128, 64, 3) for crop in crops):
            self.seen.torn.append(f"{name}: crops that are not its own")
        if not np.array_equal(self._store.embeddings([found.row])[0], vector_of(name)):
            self.seen.torn.append(f"{name}: a vector that is not its own")


def read(root: Path, seed: int, until: float, pause: float, answers: "Queue[Seen]") -> None:
    """The body of a reading process."""
    reader = None
    try:
        reader = Reader(root, seed, pause=pause)
        reader.run(until)
        answers.put(reader.seen)
    except BaseException:  # noqa: BLE001  # whatever it is, it is what the benchmark looks for
        seen = reader.seen if reader else Seen()
        seen.error = traceback.format_exc()
        answers.put(seen)


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
    answers: Queue[Seen] = context.Queue()
    until = time.monotonic() + seconds
    processes = [context.Process(target=read, args=(root, n, until, pause, answers)) for n in range(readers)]
    for process in processes:
        process.start()
    inserted, behind = fill(root, rate, until)
    found = [answers.get(timeout=120) for _ in processes]
    for process in processes:
        process.join(timeout=30)
    with maintain(root) as store:
        verified = reconcile(store)
    return {
        "seconds": seconds,
        "readers": readers,
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
