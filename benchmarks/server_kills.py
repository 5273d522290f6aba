"""The server killed (`kill -9`) at random moments while it changes things: what it had answered is there afterwards.

    python benchmarks/server_kills.py [--kills 60] [--seed 5]

A client opens cases, puts tracklets in them and takes them out, searches, confirms, rejects, merges, splits and undoes,
and exports, one request after the other. After each kill the gallery and its audit must verify; whatever the server had
answered with success must be there as it was told, and the last request, which had no answer, wholly or not at all;
what was to be exported is exported, by that server or a later one.
Synthetic tracklets with random vectors.
"""

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import httpx
import machine
import numpy as np
from made_up import CURVES, tracklet_of

from pipeline.audit import Audit
from pipeline.cases import Cases
from pipeline.identify import Sighting
from pipeline.persons import Persons
from pipeline.reconcile import reconcile
from pipeline.recovery import maintain, open_store
from pipeline.retention import Retention, RetentionRules
from pipeline.sinks import EventLog
from pipeline.store import Store
from reid.calibration import Calibration
from reid.embedding import rounded
from reid.modality import Modality

ROOT = Path(__file__).resolve().parent.parent
RESULT = Path(__file__).parent / "results" / "server_kills.json"
MODEL, DIMENSION, TRACKLETS = "stand-in@sha256:0000000000000001", 64, 60
MOST_SECONDS = 2.5  # after the first answer, until it is killed
MOST_SECONDS_TO_GO_ON = 120.0  # of the last server with what the others left


def fill(root: Path, rng: np.random.Generator) -> list[str]:
    """Sixty tracklets of twenty people; returns their ids."""
    open_store(root, model_id=MODEL, dimension=DIMENSION, calibration=Calibration(CURVES)).close()
    made = []
    with (
        open_store(root, model_id=MODEL, dimension=DIMENSION) as store,
        EventLog(root, model_id=MODEL, dimension=DIMENSION) as events,
    ):
        retention = Retention(store, RetentionRules(low_water_mb=0))
        for number in range(TRACKLETS):
            start = datetime(2026, 6, 1, tzinfo=UTC) + timedelta(seconds=20 * number)
            image = np.full((128, 64, 3), number, np.uint8)
            tracklet = tracklet_of(f"cam{number % 3}", Modality.RGB, number=number, start=start, images=[image] * 2)
            vector = rng.standard_normal(DIMENSION)
            sighting = Sighting(tracklet, rounded(vector / np.linalg.norm(vector)), 1 + number % 20, ())
            for item in retention.keep([sighting]):
                events.write(item)
            made.append(tracklet.tracklet_id)
    return made


class Investigator:
    """Asks for one thing after the other, and remembers what was answered."""

    def __init__(self, client: httpx.Client, tracklets: list[str], rng: np.random.Generator, prefix: str) -> None:
        self._client, self._tracklets, self._rng, self._prefix = client, tracklets, rng, prefix
        self._number = 0
        self.in_flight = False
        self.answered: Counter[str] = Counter()
        self.items: dict[str, set[str]] = {}  # of each case
        self.unsure: tuple[str, str] | None = None  # the case and tracklet of a request without an answer
        self.decisions: dict[int, str] = {}
        self.undone: set[int] = set()
        self.exports: list[str] = []

    def work(self) -> None:
        """Until the server does not answer any more."""
        steps = [self._case, self._item, self._item, self._search, self._link, self._merge, self._undo, self._export]
        while True:
            steps[int(self._rng.integers(len(steps)))]()

    def _post(self, kind: str, path: str, **json: Any) -> dict[str, Any] | None:
        self.in_flight = True
        answer = self._client.post(path, json=json)
        self.in_flight = False
        if answer.status_code >= 500:
            raise RuntimeError(f"{path}: {answer.status_code} {answer.text}")
        if answer.status_code >= 400:
            return None  # two tracklets of one person, an undo of what hangs on another: refused, nothing done
        self.answered[kind] += 1
        return answer.json() if answer.content else {}

    def _some(self, count: int) -> list[str]:
        return [str(each) for each in self._rng.choice(self._tracklets, count, replace=False)]

    def _case(self) -> None:
        self._number += 1
        name = f"{self._prefix}-{self._number}"
        self.unsure = (name, "")
        if self._post("case", "/cases", case_id=name) is not None:
            self.items[name] = set()
        self.unsure = None

    def _item(self) -> None:
        if not self.items:
            return
        name = str(self._rng.choice(list(self.items)))
        tracklet = self._some(1)[0]
        self.unsure = (name, tracklet)
        if tracklet in self.items[name]:
            self.in_flight = True
            answer = self._client.delete(f"/cases/{name}/items/{tracklet}")
            if answer.status_code >= 400:
                raise RuntimeError(f"taking {tracklet} out of {name}: {answer.status_code} {answer.text}")
            self.in_flight = False
            self.answered["item taken out"] += 1
            self.items[name].discard(tracklet)
        elif self._post("item", f"/cases/{name}/items", tracklets=[tracklet]) is not None:
            self.items[name].add(tracklet)
        self.unsure = None

    def _search(self) -> None:
        self._post("search", "/search", examples=[{"tracklet_id": self._some(1)[0]}], purpose="benchmark")

    def _link(self) -> None:
        kind = "confirm" if self._rng.random() < 0.5 else "reject"
        one, other = self._some(2)
        self._decided(kind, self._post(kind, f"/persons/{kind}", tracklet_id=one, to_tracklet_id=other))

    def _merge(self) -> None:
        if self._rng.random() < 0.5:
            self._decided("split", self._post("split", "/persons/split", tracklets=self._some(1)))
            return
        into, other = (f"P{1 + int(each):04d}" for each in self._rng.choice(20, 2, replace=False))
        self._decided("merge", self._post("merge", "/persons/merge", into=into, other=other))

    def _decided(self, kind: str, answer: dict[str, Any] | None) -> None:
        if answer is not None:
            self.decisions[int(answer["decision_id"])] = kind

    def _undo(self) -> None:
        left = [each for each in self.decisions if each not in self.undone]
        if left and self._post("undo", f"/decisions/{left[-1]}/undo") is not None:
            self.undone.add(left[-1])

    def _export(self) -> None:
        if not self.items:
            return
        name = str(self._rng.choice(list(self.items)))
        if self.items[name]:
            answer = self._post("export", f"/cases/{name}/exports", clips=False)
            if answer is not None:
                self.exports.append(answer["export_id"])


def lost(root: Path, asked: Investigator, before: Counter[str]) -> list[str]:
    """What was answered and is not there, or is there and was never asked."""
    found: list[str] = []
    with Store.read(root) as store:
        cases = Cases(store)
        for name, items in asked.items.items():
            there = set(cases.items(name))
            unsure = {asked.unsure[1]} if asked.unsure and asked.unsure[0] == name else set()
            if there - unsure != items - unsure:
                found.append(f"case {name}: {sorted(there)}, and the server had said {sorted(items)}")
        decisions = {each.decision_id: each for each in Persons(store).decisions()}
        found += [f"decision {each} ({kind})" for each, kind in asked.decisions.items() if each not in decisions]
        found += [f"undo of {each}" for each in asked.undone if each in decisions and decisions[each].undone_by is None]
        after = Counter(row.action for row in Audit(store).rows())
        searches = after["search"] - before["search"]
        if not 0 <= searches - asked.answered["search"] <= 1:
            found.append(f"{searches} searches in the audit, {asked.answered['search']} were answered")
    return found


@contextmanager
def serving(root: Path) -> Iterator[tuple[subprocess.Popen[str], httpx.Client]]:
    """The server as a process, and a client of it; killed in the end."""
    command = [sys.executable, "run_pipeline.py", "serve", "-g", str(root), "--address", "127.0.0.1:0", "-q"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as server:
        try:
            said = ""
            for line in server.stdout or ():
                said += line
                if "http://" in line:
                    break
            else:
                raise RuntimeError(f"the server did not start: {said}")
            address = "http://" + said.rpartition("http://")[2].split("/")[0]
            with httpx.Client(base_url=f"{address}/api/v1", timeout=20) as client:
                client.headers["X-CSRF-Token"] = client.get("/session").json()["csrf"]
                yield server, client
        finally:
            server.kill()


def kill_once(root: Path, tracklets: list[str], rng: np.random.Generator, prefix: str) -> tuple[Investigator, float]:
    """Start the server, work, kill it at a random moment."""
    moment = float(rng.uniform(0, MOST_SECONDS))
    with serving(root) as (server, client):
        asked = Investigator(client, tracklets, rng, prefix)
        killer = threading.Timer(moment, server.kill)
        killer.start()
        with suppress(httpx.HTTPError):
            asked.work()
        killer.join()
        if server.wait(20) != -signal.SIGKILL:
            raise RuntimeError(f"it ended with {server.returncode} before it was killed")
    return asked, moment


def ended(client: httpx.Client, name: str) -> tuple[str, str | None]:
    """State and error of an export, once it is not being written any more."""
    ends = time.monotonic() + MOST_SECONDS_TO_GO_ON
    while True:
        answer = client.get(f"/exports/{name}")
        told = answer.json()
        state = told.get("state", str(answer.status_code))
        if state != "running" or time.monotonic() > ends:
            return state, told.get("error")
        time.sleep(0.1)


def bad_exports(root: Path, begun: list[str]) -> tuple[list[str], Counter[str]]:
    """What is wrong with the exports that were begun, once a server has gone on with them; and their states.

    One fails rightly whose case was emptied before it could be written.
    """
    found: list[str] = []
    states: Counter[str] = Counter()
    with serving(root) as (_, client):
        for name in begun:
            state, error = ended(client, name)
            emptied = state == "failed" and "holds no tracklet" in (error or "")
            states["failed, for its case was emptied" if emptied else state] += 1
            if state != "done" and not emptied:
                found.append(f"export {name} is {state}: {error}")
            elif state == "done":
                found += [f"export {name}: {each}" for each in client.get(f"/exports/{name}/verify").json()["findings"]]
    return found + [f"{path.name} is left" for path in (root / "exports").glob("*.part")], states


def measure(root: Path, kills: int, seed: int) -> dict[str, Any]:
    """Kill so often; sum up."""
    rng = np.random.default_rng(seed)
    tracklets = fill(root, rng)
    answered: Counter[str] = Counter()
    findings: list[str] = []
    exports: list[str] = []
    unanswered = 0
    for number in range(kills):
        with Store.read(root) as store:
            before = Counter(row.action for row in Audit(store).rows())
        asked, moment = kill_once(root, tracklets, rng, f"c{number}")
        found = lost(root, asked, before)
        with maintain(root) as store:
            found += reconcile(store).differences
        findings += [f"kill {number} after {moment:.3f} s: {each}" for each in found]
        exports += asked.exports
        answered += asked.answered
        unanswered += asked.in_flight
    found, states = bad_exports(root, exports)
    return {
        "kills": kills,
        "answered": dict(sorted(answered.items())),
        "answered_in_all": answered.total(),
        "killed_with_a_change_or_search_under_way": unanswered,
        "exports": dict(states),
        "findings": findings + found,
    }


def main() -> int:
    """Run, print, and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=60)
    parser.add_argument("--seed", type=int, default=5)
    parser.add_argument("--output", type=Path, default=RESULT)
    options = parser.parse_args()
    began = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="server-kills-", ignore_cleanup_errors=True) as folder:
        found = measure(Path(folder) / "run", options.kills, options.seed)
    seconds = round(time.perf_counter() - began, 1)
    result = {"what": "the server killed while it changes things; synthetic tracklets", "seed": options.seed,
              "machine": machine.describe(), "seconds": seconds, **found}  # fmt: skip
    machine.keep(result, options.output)
    return 1 if result["findings"] else 0


if __name__ == "__main__":
    raise SystemExit(main())
