"""Search against brute force and plain FAISS, in one run: is it exact, what do filters cost, how soon is one found?

    python benchmarks/search.py [--tracklets 100000] [--dimension 2048] [--json benchmarks/results/search_100000.json]

Random unit vectors in half precision, in three modalities and eight cameras, one in fifty the same for a
hundred tracklets of one minute; no image and no person is involved. Every
round times one query each way, one after the other, so that other work on the machine strikes all alike; ratios are of
the same round. Seconds of the processor stand beside those of the clock where one process does the work alone.
``--again`` measures whether answers are exact and how soon a stored tracklet is found, and puts both into the results
of an earlier run of the same size, with a date and machine of their own.
"""

import argparse
import json
import resource
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import combinations, combinations_with_replacement
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import faiss
import machine
import made_up
import numpy as np
import psutil
from numpy.typing import NDArray

from pipeline.clips import Query
from pipeline.filters import SearchFilter, TimeOfDay
from pipeline.identify import Sighting
from pipeline.record import to_us
from pipeline.search import Example, Searcher, SearchRules
from pipeline.store import Store
from reid.calibration import Calibration, Curve
from reid.embedding import checksum, to_bytes
from reid.gallery import Gallery
from reid.modality import Modality

START = datetime(2026, 6, 1, tzinfo=UTC)
CAMERAS = tuple(f"cam{n}" for n in range(8))
TOP = 50
SAME_EACH = 50  # of 5000 inserted together, each fiftieth has one and the same vector,
SAME_WITHIN_US = 60_000_000  # and is of one minute, in which cameras see several of them at once
MOST_IN_FLOAT32 = 200_000
FILTERS: dict[str, Any] = {
    "modalities": frozenset({Modality.NIR, Modality.THERMAL}),
    "cameras": frozenset(CAMERAS[:5]),
    "start": START + timedelta(hours=6),
    "end": START + timedelta(hours=21),
    "time_of_day": TimeOfDay.parse("20:00-07:00"),
    "zones": frozenset({"door"}),
    "min_quality": 0.3,
    "persons": frozenset(range(1, 6000)),
}
OWN = "own appearance"  # the query itself, and whoever its camera saw at the same moment
CALIBRATION = Calibration({pair: Curve(20.0, -10.0) for pair in combinations_with_replacement(Modality, 2)})


def unit_rows(count: int, dimension: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """(count, dimension) with the precision of half."""
    rows = rng.standard_normal((count, dimension), dtype=np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return rows.astype(np.float16).astype(np.float32)


def fill_store(root: Path, count: int, dimension: int, rng: np.random.Generator, model_id: str = "random@0") -> None:
    """A gallery of so many tracklets without images, in one transaction: only its size and its columns matter here."""
    with (
        Store.open(root, model_id=model_id, dimension=dimension, calibration=CALIBRATION) as store,
        store.writing() as db,
    ):
        for number, camera in enumerate(CAMERAS):
            db.execute("INSERT INTO cameras VALUES (?, ?, 640, 360)", [camera, list(Modality)[number % 3].value])
        db.executemany("INSERT INTO persons (person_id) VALUES (?)", [(n,) for n in range(1, 10_001)])
        for begin in range(0, count, 5000):
            insert(db, range(begin + 1, min(begin + 5000, count) + 1), dimension, rng)


def insert(db: Any, numbers: range, dimension: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Rows of tracklets and embeddings, within the caller's transaction."""
    vectors = unit_rows(len(numbers), dimension, rng)
    vectors[::SAME_EACH] = vectors[0]
    for row, vector in zip(numbers, vectors, strict=True):
        same = (row - numbers.start) % SAME_EACH == 0
        start = to_us(START) + int(rng.integers(0, SAME_WITHIN_US if same else 86_400_000_000))
        camera = CAMERAS[row % len(CAMERAS)]
        zones = '["door"]' if row % 3 == 0 else "[]"
        values = [row, f"{camera}-{row}", camera, 1, start, start + 5_000_000, "container", 0, b"", b"", b""]
        db.execute(
            "INSERT INTO tracklets (row, tracklet_id, camera_id, track_id, start_us, end_us, time_source, frames,"
            " frame_index, xyxy, confidence, person_id, zones, quality) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
            [*values, 1 + row % 10_000, zones, float(rng.random())],
        )
        data = to_bytes(vector)
        db.execute("INSERT INTO embeddings VALUES (?, ?, ?)", [row, data, checksum(data)])
    return vectors


def plain_faiss(gallery: Gallery, dimension: int) -> tuple[Any, NDArray[np.float16]]:
    """Plain FAISS over the same vectors, and what it holds, without a copy."""
    flat = faiss.IndexScalarQuantizer(dimension, faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT)
    ids = gallery.ids
    for begin in range(0, len(ids), 8192):
        flat.add(gallery.vectors(ids[begin : begin + 8192]))
    codes = faiss.rev_swig_ptr(flat.codes.data(), len(ids) * 2 * dimension)
    return flat, codes.view(np.float16).reshape(len(ids), dimension)


class Row(NamedTuple):
    """A tracklet as the database has it, its zones read."""

    row: int
    camera: str
    start: datetime
    end: datetime
    zones: list[str]
    quality: float
    person: int

    def passes(self, name: str) -> bool:
        """Whether one of `FILTERS` lets it pass, in plain Python and without the code that is measured."""
        answers = {
            "modalities": list(Modality)[CAMERAS.index(self.camera) % 3] in (Modality.NIR, Modality.THERMAL),
            "cameras": self.camera in CAMERAS[:5],
            "start": self.end >= START + timedelta(hours=6),
            "end": self.start < START + timedelta(hours=21),
            "time_of_day": any(not 7 <= at.hour < 20 for at in (self.start, self.end)),  # of 5 s, in UTC
            "zones": "door" in self.zones,
            "min_quality": self.quality >= 0.3,
            "persons": self.person < 6000,
        }
        return answers[name]

    def beside(self, other: "Row") -> bool:
        """Whether one camera saw both at one moment."""
        return self.camera == other.camera and self.start <= other.end and other.start <= self.end


def rows_of(store: Store) -> list[Row]:
    """All tracklets, by plain SQL; their numbers are 1, 2, ..."""
    with store.reading() as db:
        found = db.execute(
            "SELECT row, camera_id, start_us, end_us, zones, quality, person_id FROM tracklets ORDER BY row"
        ).fetchall()
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    return [
        Row(row, camera, *(epoch + timedelta(microseconds=at) for at in times), json.loads(zones), quality, person)
        for row, camera, *times, zones, quality, person in found
    ]


def exactness(searcher: Searcher, store: Store, vectors: NDArray[np.float16]) -> dict[str, Any]:
    """The first 50 under every combination of filters, beside brute force in float64.

    Queries are a vector of the gallery, one that a hundred tracklets have, one near to another, and one like none. Of
    the first two, which are tracklets, the own appearance is left out besides, and is not: one filter more.
    """
    rng = np.random.default_rng(4)
    near = vectors[11].astype(np.float32) + 0.005 * rng.standard_normal(vectors.shape[1], dtype=np.float32)
    queries = {
        "of a tracklet": searcher.example_of(f"{CAMERAS[8 % len(CAMERAS)]}-8"),
        "of many at once": searcher.example_of(f"{CAMERAS[1]}-1"),
        "near to one": Example(Query("near", Modality.RGB), near / np.linalg.norm(near)),
        "like none": Example(Query("none", Modality.RGB), unit_rows(1, vectors.shape[1], rng)[0]),
    }
    rows = rows_of(store)
    masks = {name: np.array([row.passes(name) for row in rows]) for name in FILTERS}
    asked = 0
    wrong: list[list[str]] = []
    for name, example in queries.items():
        of_query = dict(masks)
        if example.row is not None:
            of_query[OWN] = np.array([not row.beside(rows[example.row - 1]) for row in rows])
        asked += 2 ** len(of_query)
        wrong += [[name, *each] for each in _differing(searcher, vectors, example, of_query)]
    return {
        "filters": [*FILTERS, OWN],
        "combinations": 2 ** len(masks),
        "combinations_of_a_tracklet": 2 ** (len(masks) + 1),
        "searches_compared": asked,
        "queries": list(queries),
        "equal_vectors": int((vectors == vectors[0]).all(axis=1).sum()),
        "top": TOP,
        "differing": wrong,
    }


def _differing(
    searcher: Searcher, vectors: NDArray[np.float16], example: Example, masks: dict[str, NDArray[np.bool_]]
) -> Iterator[tuple[str, ...]]:
    """Combinations of filters whose answers are not those of brute force, of the index alone or of a whole search."""
    parts = np.array_split(vectors, max(1, len(vectors) // 2000))
    wide = example.vector.astype(np.float64)
    cosines = np.concatenate([np.add.reduce(part.astype(np.float64) * wide, axis=1) for part in parts])
    every = np.arange(1, len(vectors) + 1)
    for size in range(len(masks) + 1):
        for names in combinations(masks, size):
            rows = every[np.logical_and.reduce([np.ones(len(every), bool), *(masks[name] for name in names)])]
            expected = rows[np.lexsort((rows, -cosines[rows - 1]))[:TOP]].tolist()
            alone, _ = searcher.gallery.search_each(example.vector, TOP, [rows, np.setdiff1d(every, rows)])[0]
            if alone.tolist() != expected:
                yield (*names, "index")
            chosen = {name: FILTERS[name] for name in names if name in FILTERS}
            wanted = SearchFilter(**chosen, top_k=TOP, include_own=OWN not in names)
            found = searcher.by_examples([example], wanted)
            if [int(each.tracklet_id.split("-")[1]) for each in found.answers] != expected:
                yield (*names, "search")


def timed(ways: dict[str, Callable[[], Any]], rounds: int, against: str) -> dict[str, Any]:
    """Milliseconds of each way, interleaved, and its ratio to one of them in the same round.

    By the clock, and of the thread's processor, which other work on the machine strikes less; every way has one thread.
    """
    clock: dict[str, list[float]] = {name: [] for name in ways}
    processor: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            began, cpu = time.perf_counter(), time.thread_time()
            way()
            processor[name].append(time.thread_time() - cpu)
            clock[name].append(time.perf_counter() - began)
    base = np.array(processor[against])
    return {
        name: {
            "p50_ms": round(1e3 * float(np.median(clock[name])), 2),
            "p99_ms": round(1e3 * float(np.quantile(clock[name], 0.99)), 2),
            "cpu_p50_ms": round(1e3 * float(np.median(each)), 2),
            "cpu_p99_ms": round(1e3 * float(np.quantile(each, 0.99)), 2),
            f"cpu_times_{against}": round(float(np.median(np.array(each) / base)), 3),
        }
        for name, each in processor.items()
    }


def latencies(gallery: Gallery, flat: Any, vectors: NDArray[np.float16], rounds: int) -> dict[str, Any]:
    """One query with and without filters, beside plain FAISS and NumPy without any."""
    rng = np.random.default_rng(1)
    query, ids, draw = vectors[3:4].astype(np.float32), gallery.ids, rng.random(len(gallery))
    name, brute = brute_force(vectors, query)
    ways: dict[str, Callable[[], Any]] = {
        "plain_faiss": lambda: flat.search(query, TOP),
        "search": lambda: gallery.search(query, TOP),
        **{
            f"search_{name}": (lambda allowed=ids[draw < share]: gallery.search(query, TOP, allowed))
            for name, share in (("95_per_cent", 0.95), ("half", 0.5), ("tenth", 0.1), ("hundredth", 0.01))
        },
        name: brute,
    }
    return timed(ways, rounds, "plain_faiss")


def whole_path(searcher: Searcher, flat: Any, vectors: NDArray[np.float16], rounds: int) -> dict[str, Any]:
    """A search as a program asks it: filters over all columns, the index, rows of the database, JSON."""
    query, name = vectors[3:4].astype(np.float32), f"{CAMERAS[4 % len(CAMERAS)]}-4"  # of row 4
    wanted = {
        "no_filter": [],
        **{each: [each] for each in ("modalities", "time_of_day", "persons")},
        "modality_camera_time_of_day": ["modalities", "cameras", "time_of_day"],
        "all_filters": list(FILTERS),
    }
    filters = {
        name: SearchFilter(**{each: FILTERS[each] for each in names}, top_k=20) for name, names in wanted.items()
    }
    ways: dict[str, Callable[[], Any]] = {
        "plain_faiss": lambda: flat.search(query, TOP),
        **{
            f"filter_{key}": (lambda each=each: searcher.catalogue.select(each, zone=SearchRules().zone))
            for key, each in filters.items()
        },
        **{
            f"search_{key}": (lambda each=each: searcher.by_tracklet(name, each).to_json())
            for key, each in filters.items()
        },
    }
    return timed(ways, rounds, "plain_faiss")


def brute_force(vectors: NDArray[np.float16], query: NDArray[np.float32]) -> tuple[str, Callable[[], Any]]:
    """NumPy over float32 where that fits into the memory of the machine beside all else, else part by part."""
    if len(vectors) <= MOST_IN_FLOAT32:
        whole = vectors.astype(np.float32)
        return "numpy_float32", lambda: np.argpartition(-(whole @ query[0]), TOP)[:TOP]

    def search() -> Any:
        parts = np.array_split(vectors, len(vectors) // 4096)
        cosines = np.concatenate([part.astype(np.float32) @ query[0] for part in parts])
        return np.argpartition(-cosines, TOP)[:TOP]

    return "numpy_float16_by_parts", search


def until_quick(gallery: Gallery, dimension: int) -> dict[str, Any]:
    """Searches one after the other from the start on, until the index is as quick as it can be."""
    query, took = unit_rows(1, dimension, np.random.default_rng(5)), []
    began = time.perf_counter()
    while not took or not gallery.is_quick:
        each = time.perf_counter()
        gallery.search(query, TOP)
        took.append(time.perf_counter() - each)
    return {
        "until_quick_seconds": round(time.perf_counter() - began, 2),
        "searches_until_then": len(took),
        "first_ms": round(1e3 * took[0], 1),
        "p50_ms_until_then": round(1e3 * float(np.median(took)), 1),
        "worst_ms_until_then": round(1e3 * max(took), 1),
    }


def at_once(gallery: Gallery, vectors: NDArray[np.float16], readers: int, seconds: float) -> dict[str, Any]:
    """So many threads that search without a pause."""
    took: list[float] = []
    end = time.perf_counter() + seconds

    def read(number: int) -> None:
        query = vectors[number][None].astype(np.float32)
        while (began := time.perf_counter()) < end:
            gallery.search(query, TOP)
            took.append(time.perf_counter() - began)

    cpu, began = time.process_time(), time.perf_counter()
    threads = [threading.Thread(target=read, args=[n]) for n in range(readers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    cpu, lasted = time.process_time() - cpu, time.perf_counter() - began
    p50, p95 = np.quantile(took, [0.5, 0.95])
    return {
        "readers": readers,
        "searches_a_second": round(len(took) / lasted, 1),
        "p50_ms": round(1e3 * float(p50), 1),
        "p95_ms": round(1e3 * float(p95), 1),
        "cpu_ms_a_search": round(1e3 * cpu / len(took), 1),
    }


def while_searching(gallery: Gallery, dimension: int, seconds: float) -> dict[str, Any]:
    """Inserts a second, one by one, while another thread searches without a pause."""
    rng = np.random.default_rng(2)
    new, done, searches = unit_rows(512, dimension, rng), threading.Event(), [0]

    def search() -> None:
        while not done.is_set():
            gallery.search(new[:1], TOP)
            searches[0] += 1

    reader = threading.Thread(target=search)
    reader.start()
    began, count, worst, first = time.perf_counter(), 0, 0.0, int(gallery.ids[-1]) + 1
    while time.perf_counter() - began < seconds:
        each = time.perf_counter()
        gallery.add([first + count], new[count % 512][None])
        worst = max(worst, time.perf_counter() - each)
        count += 1
    took = time.perf_counter() - began
    done.set()
    reader.join()
    return {"inserts_a_second": round(count / took), "worst_insert_ms": round(1e3 * worst, 1), "searches": searches[0]}


def until_found(root: Path, searcher: Searcher, dimension: int, count: int) -> dict[str, Any]:
    """From the commit of a tracklet in another connection until the running search has it."""
    rng, seconds, processor = np.random.default_rng(3), [], []
    with Store.edit(root) as writer:
        for n in range(20):
            with writer.writing() as db:
                insert(db, range(count + n + 1, count + n + 2), dimension, rng)
            began, cpu = time.perf_counter(), time.thread_time()
            searcher.refresh()
            if count + n + 1 not in searcher.gallery:
                raise RuntimeError(f"row {count + n + 1} was committed and is not found")
            processor.append(time.thread_time() - cpu)
            seconds.append(time.perf_counter() - began)
    return {
        "p50_ms": round(1e3 * float(np.median(seconds)), 2),
        "worst_ms": round(1e3 * max(seconds), 2),
        "cpu_worst_ms": round(1e3 * max(processor), 2),
    }


def stored(root: Path, searcher: Searcher, dimension: int, seconds: float) -> dict[str, Any]:
    """`Store.add_all` of one tracklet with two crops, from its beginning until the running search has it.

    First 20 alone, then as many as the time allows, while another thread searches the index without a pause.
    """
    rng = np.random.default_rng(6)
    new, done, searches = unit_rows(512, dimension, rng), threading.Event(), [0]
    images = [rng.integers(0, 256, (128, 64, 3), dtype=np.uint8) for _ in range(2)]
    with Store.open(root, model_id="random@0", dimension=dimension, calibration=CALIBRATION) as writer:

        def keep_one(number: int) -> tuple[float, float]:
            """Seconds of the insertion, and until it was found."""
            start = START + timedelta(days=2, seconds=number)
            made = made_up.tracklet_of(CAMERAS[0], next(iter(Modality)), number=number, start=start, images=images)
            began, count = time.perf_counter(), len(searcher)
            writer.add_all([Sighting(made, new[number % 512], 1, ())])
            kept = time.perf_counter() - began
            searcher.refresh()
            if len(searcher) != count + 1:
                raise RuntimeError(f"{made.tracklet_id} was stored and is not found")
            return kept, time.perf_counter() - began

        def search() -> None:
            while not done.is_set():
                searcher.gallery.search(new[:1], TOP)
                searches[0] += 1

        alone = [keep_one(number) for number in range(20)]
        reader = threading.Thread(target=search)
        reader.start()
        began, beside = time.perf_counter(), list[tuple[float, float]]()
        while (took := time.perf_counter() - began) < seconds:
            beside.append(keep_one(20 + len(beside)))
        done.set()
        reader.join()
    return {
        "alone": _told(alone),
        "while_searching": {
            **_told(beside), "inserts_a_second": round(len(beside) / took, 1), "searches": searches[0],
        },
    }  # fmt: skip


def _told(seconds: list[tuple[float, float]]) -> dict[str, float]:
    """Of insertions and of until they were found."""
    kept, found = 1e3 * np.array(seconds).T
    return {
        "insert_p50_ms": round(float(np.median(kept)), 2),
        "found_p50_ms": round(float(np.median(found)), 2),
        "found_worst_ms": round(float(found.max()), 2),
    }


def measured_again(root: Path, dimension: int) -> dict[str, Any]:
    """What needs no quiet machine, or stands beside what a quiet one gave."""
    with Store.read(root) as store:
        searcher = Searcher(store, CALIBRATION)
        _, vectors = plain_faiss(searcher.gallery, dimension)
        found = {"exact": exactness(searcher, store, vectors), "stored": stored(root, searcher, dimension, 10.0)}
    now = {"date": datetime.now(UTC).isoformat(timespec="seconds"), "machine": machine.describe()}
    return found | {"again": {"measured": list(found), **now}}


def main() -> int:
    """Fill, measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tracklets", type=int, default=100_000)
    parser.add_argument("--dimension", type=int, default=2048)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--again", action="store_true", help="measure exactness and storing anew, and keep the rest")
    parser.add_argument("--device", help="such as cuda:0: where the index is, with PyTorch; by default the CPU")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    count, dimension = options.tracklets, options.dimension
    faiss.omp_set_num_threads(1)
    process = psutil.Process()
    suffix = "" if options.device is None else f"_{options.device.partition(':')[0]}"
    where = options.json or Path(__file__).parent / "results" / f"search_{count}{suffix}.json"
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        fill_store(root, count, dimension, np.random.default_rng(0))
        if options.again:
            where.write_text(
                json.dumps(json.loads(where.read_text()) | measured_again(root, dimension), indent=1) + "\n"
            )
            return 0
        with Store.read(root) as store:
            before, began, cpu = process.memory_info().rss, time.perf_counter(), time.process_time()
            searcher = Searcher(store, CALIBRATION, rules=SearchRules(device=options.device))
            start = {"seconds": time.perf_counter() - began, "cpu_seconds": time.process_time() - cpu}
            result: dict[str, Any] = {
                "benchmark": "search",
                "vectors": "random",
                "tracklets": count,
                "dimension": dimension,
                "start": {name: round(value, 2) for name, value in start.items()},
                "commit_to_searchable": until_found(root, searcher, dimension, count),
            }
            result["start"] |= until_quick(searcher.gallery, dimension)
            if options.device is not None:
                result |= {"device": options.device, "on_device": searcher.gallery.on_device}
            result["memory_gb"] = round((process.memory_info().rss - before) / 1e9, 3)
            flat, vectors = plain_faiss(searcher.gallery, dimension)
            result["exact"] = exactness(searcher, store, vectors)
            result["latency"] = latencies(searcher.gallery, flat, vectors, options.rounds)
            result["whole_path"] = whole_path(searcher, flat, vectors, options.rounds)
            result["at_once"] = [at_once(searcher.gallery, vectors, readers, 10.0) for readers in (1, 8, 50)]
            result["memory_peak_gb"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2)
            result["stored"] = stored(root, searcher, dimension, 10.0)
            result["while_searching"] = while_searching(searcher.gallery, dimension, 10.0)
    result |= {"date": datetime.now(UTC).isoformat(timespec="seconds"), "machine": machine.describe()}
    print(json.dumps(result, indent=1))
    where.write_text(json.dumps(result, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
