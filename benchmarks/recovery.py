"""Kill -9 a process that fills, prunes and reindexes a gallery, at random moments; after each, look for any loss.

A child process, forked so that each costs milliseconds and not an import, inserts tracklets (synthetic), ages and
erases some, and embeds all of them anew with one of two stand-in models; it tells what it begins and what is done. The
parent waits until it inserts, deletes or reindexes, each in its turn, kills it at a random moment of the time that this
takes, counts what it was doing, opens the gallery as the next run would, and compares: database, records, crops,
events, index and audit must agree, every insertion that was told must be there, nothing that was told erased. Then
pages of the database are overwritten with noise, one at a time, and the gallery must come back whole; and so it must
when a worker was killed while all that it had inserted was in the write-ahead log, and a page of that is noise then.

    python benchmarks/recovery.py 200
"""

import argparse
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import machine
from made_up import CURVES, tracklet_of

from pipeline.audit import Actor
from pipeline.crop_files import read_crop
from pipeline.erasure import erase
from pipeline.frame import Image
from pipeline.identify import Link, Sighting
from pipeline.reconcile import reconcile
from pipeline.record import CROPS
from pipeline.recovery import maintain, open_store
from pipeline.reindex import reindex
from pipeline.retention import Retention, RetentionRules
from pipeline.sinks import EventLog
from pipeline.store import DATABASE, Store, TrackletFilter
from pipeline.tracklets import RejectedTracklet, Rejection
from reid.calibration import Calibration
from reid.embedding import rounded, to_bytes
from reid.modality import Modality

RESULT = Path(__file__).parent / "results" / "recovery.json"
MOST_TRACKLETS = 60
NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)
BENCH = Actor("benchmark", purpose="kill -9")
PHASES = {"add": "insert", "erase": "delete", "age": "delete", "reindex": "reindex"}
MODALITIES = {"gate": Modality.RGB, "yard": Modality.NIR, "dock": Modality.THERMAL}


class StandIn:
    """A model whose vector is a fixed projection of the crops: quick, and different for another seed."""

    def __init__(self, seed: int) -> None:
        self.dimension = 128
        self.model_id = f"stand-in-{seed}@sha256:{seed:016x}"
        self._matrix = np.random.default_rng(seed).normal(size=(self.dimension, 16)).astype(np.float32)

    def extract(self, clips: Sequence[Sequence[Image]], modalities: Sequence[Modality]) -> NDArray[np.float32]:
        """Unit rows (n, dimension), each of its clip alone."""
        rows = []
        for clip in clips:
            means = np.mean([np.resize(crop.reshape(crop.shape[0], -1).mean(axis=1), 16) for crop in clip], axis=0)
            row = self._matrix @ (means - means.mean() + 1).astype(np.float32)
            rows.append(row / np.linalg.norm(row))
        return np.stack(rows).astype(np.float32)


MODELS = (StandIn(1), StandIn(2))


def new_item(rng: random.Random, number: int, earlier: Sequence[str]) -> Sighting | RejectedTracklet:
    """A tracklet of a random camera; every tenth is a rejected one."""
    camera = rng.choice(list(MODALITIES))
    modality = MODALITIES[camera]
    noise = np.random.default_rng(rng.getrandbits(32))
    shape = (48, 20, 3) if modality is Modality.RGB else (48, 20)
    dtype = np.uint16 if modality is Modality.THERMAL else np.uint8
    start = NOON + timedelta(seconds=number)
    images = [noise.integers(0, 250, shape).astype(dtype) for _ in range(rng.randint(1, 4))]
    tracklet = tracklet_of(camera, modality, number=number, start=start, images=images)
    if number % 10 == 9:
        return RejectedTracklet(tracklet, Rejection.TOO_SMALL)
    vector = rounded(noise.normal(size=MODELS[0].dimension))
    links = tuple(Link(name, name.split("-")[0], MODALITIES[name.split("-")[0]], 0.7, 0.6, cross_modality=False)
                  for name in earlier[-2:])  # fmt: skip
    return Sighting(tracklet, rounded(vector / np.linalg.norm(vector)), 1 + number // 3, links)


def work(root: Path, seed: int, tell: int, often: str) -> None:
    """Change the gallery until killed, most often in one way, telling through a pipe what is begun and done."""
    rng = random.Random(seed)  # noqa: S311

    def say(kind: str, names: Sequence[str] = ()) -> None:
        os.write(tell, (json.dumps([kind, list(names), time.monotonic()]) + "\n").encode())

    store = maintain(root)
    events = EventLog(root, model_id=store.model_id, dimension=store.dimension)
    ways = list(PHASES)
    usual = {"add": 0.4, "erase": 0.1, "age": 0.1, "reindex": 0.1}
    shares = [usual[way] + (0.5 if PHASES[way] == often else 0.0) for way in ways]
    while True:
        found = store.tracklets()
        doing = rng.choices(ways, shares)[0]
        if doing == "add" and len(found) < MOST_TRACKLETS:
            say("begin", [PHASES[doing]])
            start, earlier = store.last_row, [each.tracklet_id for each in found]
            items = [new_item(rng, start + n, earlier) for n in range(rng.randint(1, 4))]
            store.add_all(items)
            say("add", [item.tracklet.tracklet_id for item in items])
            for item in items:
                events.write(item)
        elif doing == "erase" and found:
            say("begin", [PHASES[doing]])
            gone = rng.sample(found, min(len(found), 2))
            say("erasing", [each.tracklet_id for each in gone])
            erase(store, gone, BENCH)
            say("erased", [each.tracklet_id for each in gone])
        elif doing == "age" and len(found) > MOST_TRACKLETS // 2:
            say("begin", [PHASES[doing]])
            oldest = sorted(found, key=lambda each: each.end)[: len(found) // 4]
            both = store.tracklets(TrackletFilter(rejected=None))
            say("erasing", [each.tracklet_id for each in both if each.end <= oldest[-1].end])
            days = (datetime.now(UTC) - oldest[-1].end).total_seconds() / 86400
            Retention(store, RetentionRules(tracklets_days=days, low_water_mb=0)).age()
            say("aged")
        elif doing == "reindex" and found:
            say("begin", [PHASES[doing]])
            model = MODELS[store.model_id == MODELS[0].model_id]
            reindex(store, model, Calibration(CURVES), BENCH, batch=4)
            events = EventLog(root, model_id=store.model_id, dimension=store.dimension)
            say("reindexed")
        else:
            continue
        say("end", [PHASES[doing]])


class Told:
    """What workers told: how long each phase takes, and what the last one was doing."""

    def __init__(self) -> None:
        self.seconds: dict[str, list[float]] = {phase: [0.02] for phase in PHASES.values()}

    def typical(self, phase: str) -> float:
        """Median seconds."""
        return float(np.median(self.seconds[phase]))

    def enter(self, lines: Sequence[tuple[str, list[str], float]]) -> str:
        """Take in all that one worker told; which phase it was killed in, if in any."""
        doing, since = "nothing", 0.0
        for kind, names, at in lines:
            if kind == "begin":
                doing, since = names[0], at
            elif kind == "end":
                self.seconds[doing].append(at - since)
                doing = "nothing"
        return doing


def killed_once(root: Path, rng: random.Random, aim: str, told: Told) -> list[tuple[str, list[str], float]]:
    """Fork a worker and kill it at a random moment of a phase; what it told."""
    read, write = os.pipe()
    seed = rng.getrandbits(32)
    child = os.fork()
    if not child:
        try:
            os.close(read)
            work(root, seed, write, aim)
        finally:
            os._exit(1)  # only reached when it failed by itself, which the parent reports
    os.close(write)
    lines, times = [], rng.randint(1, 4)
    with os.fdopen(read, "rb") as pipe:
        for line in pipe:
            lines.append(line)
            times -= json.loads(line)[:2] == ["begin", [aim]]
            if not times:
                break
        time.sleep(rng.uniform(0, told.typical(aim)))
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        lines += [line for line in pipe if line.endswith(b"]\n")]
    if not os.WIFSIGNALED(status):
        raise SystemExit(f"the worker of seed {seed} failed by itself")
    return [tuple(json.loads(line)) for line in lines]


class Books:
    """What must be there, what must not, and what may."""

    def __init__(self) -> None:
        self.committed: set[str] = set()
        self.gone: set[str] = set()

    def enter(self, told: Sequence[tuple[str, list[str], float]]) -> None:
        """Take in what a worker told; what it began to erase may be there or not."""
        for kind, names, _ in told:
            self.committed |= set(names) if kind == "add" else set()
            self.committed -= set(names) if kind in ("erasing", "erased") else set()
            self.gone |= set(names) if kind == "erased" else set()

    def faults(self, root: Path) -> tuple[dict[str, int], int]:
        """Counts of what is wrong after opening as the next run would, and how many orphans that removed."""
        folders = {path.name for path in (root / CROPS).glob("*/*")}
        with maintain(root) as store:
            stored = {each.tracklet_id for each in store.tracklets(TrackletFilter(rejected=None))}
            found = reconcile(store)
            for difference in found.differences:
                print("difference:", difference, file=sys.stderr)
        left = {path.name for path in (root / CROPS).glob("*/*")}
        counts = {
            "differences": len(found.differences),
            "committed_tracklets_lost": len(self.committed - stored),
            "erased_tracklets_back": len(self.gone & stored),
            "orphans_left": len(left - stored),
        }
        self.committed |= stored
        return counts, len(folders - left)


def kill_many(root: Path, kills: int, seed: int) -> dict[str, object]:
    """The first part of the benchmark."""
    rng = random.Random(seed)  # noqa: S311
    open_store(
        root, model_id=MODELS[0].model_id, dimension=MODELS[0].dimension, calibration=Calibration(CURVES)
    ).close()
    books, told, total, did, during, orphans = Books(), Told(), Counter[str](), Counter[str](), Counter[str](), 0
    for number in range(kills):
        lines = killed_once(root, rng, sorted(set(PHASES.values()))[number % 3], told)
        did.update(names[0] for kind, names, _ in lines if kind == "end")
        during[told.enter(lines)] += 1
        books.enter(lines)
        faults, removed = books.faults(root)
        total.update(faults)
        orphans += removed
        if sys.stderr.isatty():
            print(f"\r{number + 1} of {kills}", end="", file=sys.stderr)
    return {
        "kills": kills,
        "killed_during": dict(during),
        "done_between": dict(did),
        "orphans_removed": orphans,
        "tracklets_at_the_end": len(books.committed),
        **total,
    }


def end_like_fresh(root: Path) -> bool:
    """Whether a reindexing after all that gives the vectors of embedding every stored tracklet anew."""
    with maintain(root) as store:
        model = MODELS[store.model_id == MODELS[0].model_id]
        reindex(store, model, Calibration(CURVES), BENCH, batch=4)
        tracklets = store.tracklets()
        clips = [[read_crop(path) for path in store.crops(each.tracklet_id)] for each in tracklets]
        fresh = model.extract(clips, [each.modality for each in tracklets])
        kept = store.embeddings([each.row for each in tracklets])
    return all(to_bytes(a) == to_bytes(b) for a, b in zip(fresh, kept, strict=True))


def spoil_pages(root: Path, pages: int, seed: int) -> dict[str, int]:
    """Overwrite one page at a time with noise, and bring the gallery back."""
    rng = np.random.default_rng(seed)
    counts = Counter[str]()
    for _ in range(pages):
        with Store.read(root) as store, store.reading() as db:
            (size,) = db.execute("PRAGMA page_size").fetchone()
            before = {each.tracklet_id: store.embeddings([each.row]).tobytes() for each in store.tracklets()}
        path = root / DATABASE
        page = int(rng.integers(path.stat().st_size // size))
        with path.open("r+b") as file:
            file.seek(page * size)
            file.write(rng.bytes(size))
        rebuilt: list[object] = []
        with maintain(root, on_rebuilt=rebuilt.append) as store:
            after = {each.tracklet_id: store.embeddings([each.row]).tobytes() for each in store.tracklets()}
            counts["differences"] += len(reconcile(store).differences)
        counts["rebuilt"] += len(rebuilt)
        counts["tracklets_lost_or_changed"] += sum(after.get(name) != vector for name, vector in before.items())
    return {"pages": pages, **counts}


def fill_and_die(root: Path, seed: int, tell: int) -> None:
    """Insert, tell what was, and be killed: a kill leaves the log as it is, which closing would empty."""
    rng = random.Random(seed)  # noqa: S311
    store = maintain(root)
    with EventLog(root, model_id=store.model_id, dimension=store.dimension) as events:
        for _ in range(rng.randint(4, 12)):
            items = [new_item(rng, store.last_row + n, ()) for n in range(2)]
            store.add_all(items)
            os.write(tell, (json.dumps([item.tracklet.tracklet_id for item in items]) + "\n").encode())
            if rng.random() < 0.7:  # a kill may come between database and event log too
                for item in items:
                    events.write(item)
    os.kill(os.getpid(), signal.SIGKILL)


def killed_filling(root: Path, seed: int) -> list[str]:
    """What a forked worker inserted before it was killed."""
    read, write = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.close(read)
            fill_and_die(root, seed, write)
        finally:
            os._exit(1)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        names = [name for line in pipe for name in json.loads(line)]
    _, status = os.waitpid(child, 0)
    if not os.WIFSIGNALED(status):
        raise SystemExit(f"the worker of seed {seed} failed by itself")
    return names


def spoil_log(root: Path, pages: int, seed: int) -> dict[str, int]:
    """Overwrite one page of the write-ahead log with noise, each time behind another kill."""
    rng = np.random.default_rng(seed)
    counts = Counter[str]()
    for _ in range(pages):
        with maintain(root) as store:
            wanted = {each.tracklet_id for each in store.tracklets(TrackletFilter(rejected=None))}
            with store.reading() as db:
                (size,) = db.execute("PRAGMA page_size").fetchone()
        wanted |= set(killed_filling(root, int(rng.integers(2**32))))
        log = root / f"{DATABASE}-wal"
        frames = (log.stat().st_size - 32) // (size + 24)
        with log.open("r+b") as file:
            file.seek(32 + int(rng.integers(frames)) * (size + 24) + 24)
            file.write(rng.bytes(size))
        rebuilt: list[object] = []
        with maintain(root, on_rebuilt=rebuilt.append) as store:
            there = {each.tracklet_id for each in store.tracklets(TrackletFilter(rejected=None))}
            counts["differences"] += len(reconcile(store).differences)
        counts["rebuilt"] += len(rebuilt)
        counts["tracklets_lost"] += len(wanted - there)
    return {"pages": pages, **counts}


def main() -> int:
    """Run, print, and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kills", type=int, nargs="?", default=200)
    parser.add_argument("--pages", type=int, default=25)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=RESULT)
    options = parser.parse_args()
    started = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="recovery-", ignore_cleanup_errors=True) as folder:
        root = Path(folder)
        result: dict[str, Any] = {
            "what": "kill -9 at random moments of inserting, ageing, erasing and reindexing; synthetic tracklets",
            "machine": machine.describe(),
            "seed": options.seed,
            "kill": kill_many(root, options.kills, options.seed),
            "reindexed_like_fresh": end_like_fresh(root),
            "noise": spoil_pages(root, options.pages, options.seed),
            "noise_in_the_log": spoil_log(root, options.pages, options.seed),
        }
    machine.keep(result | {"seconds": round(time.perf_counter() - started, 1)}, options.output)
    faults = ("differences", "committed_tracklets_lost", "erased_tracklets_back", "orphans_left")
    bad = [result["kill"][name] for name in faults]
    bad += [result["noise"][name] for name in ("differences", "tracklets_lost_or_changed")]
    bad += [result["noise_in_the_log"][name] for name in ("differences", "tracklets_lost")]
    return 1 if any(bad) or not result["reindexed_like_fresh"] else 0


if __name__ == "__main__":
    raise SystemExit(main())
