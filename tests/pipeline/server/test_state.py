"""What the site says of a run in another process: only what is so at this moment."""

import fcntl
import json
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from pipeline.config import ServerConfig
from pipeline.server.app import create_app
from pipeline.server.desk import Desk
from pipeline.sinks import rfc3339
from pipeline.store import DATABASE, LOCK, take_lock
from tests.pipeline.server.client import Client
from tests.pipeline.server.conftest import Serve, beside


def report(root: Path, *, ended: str = "running", age: float = 0.0, state: str = "running") -> None:
    written = rfc3339(datetime.now(UTC) - timedelta(seconds=age))
    cameras = {"gate": {"state": state, "frames_decoded": 5}}
    (root / "report.json").write_text(json.dumps({"written": written, "ended": ended, "cameras": cameras}))


def told(client: Any) -> tuple[bool, bool | None, str | None]:
    site = client.get("/site").json()
    gate = next(each for each in site["cameras"] if each["camera_id"] == "gate")
    assert gate["frames"]["decoded"] == 5
    assert gate == client.get("/cameras/gate").json()
    assert (site["pipeline"]["here"], site["pipeline"]["reported"] is None) == (False, False)
    return site["pipeline"]["running"], site["pipeline"]["healthy"], gate["state"]


def test_a_run_beside_the_server_is_told_as_it_reports(gallery: Path, serve: Serve) -> None:
    client = serve(gallery)
    with take_lock(gallery / LOCK):
        report(gallery)
        assert told(client) == (True, True, "running")
        report(gallery, age=200)  # it should have reported since
        assert told(client) == (True, False, None)


@pytest.mark.parametrize("age", [0, 7 * 86_400])
def test_a_killed_run_is_not_told_as_running(gallery: Path, serve: Serve, age: float) -> None:
    report(gallery, age=age)
    assert told(serve(gallery)) == (False, None, None)


def test_of_a_run_that_has_ended_its_end_is_told(gallery: Path, serve: Serve) -> None:
    report(gallery, ended="stopped", age=7 * 86_400, state="stopped")
    with take_lock(gallery / LOCK):  # such as by an erasure
        assert told(serve(gallery)) == (False, None, "stopped")


@pytest.mark.parametrize(
    "text",
    ["", "[]", '{"written": 5, "ended": "running", "cameras": []}', '{"cameras": {"gate": 1}}', '{"ended": "running"}'],
)
def test_a_report_that_cannot_be_read_tells_nothing(gallery: Path, serve: Serve, text: str) -> None:
    (gallery / "report.json").write_text(text)
    site = serve(gallery).get("/site").json()
    assert {each["state"] for each in site["cameras"]} == {None}


def test_to_look_keeps_no_run_from_beginning(gallery: Path, serve: Serve) -> None:
    client = serve(gallery)
    report(gallery)
    assert client.get("/site").status_code == 200
    with take_lock(gallery / LOCK):
        assert told(client)[0]


def test_a_run_in_this_process_needs_no_report(gallery: Path, serve: Serve) -> None:
    pipeline = serve(gallery, pipeline=beside(gallery)).get("/site").json()["pipeline"]
    assert (pipeline["running"], pipeline["here"], pipeline["healthy"], pipeline["reported"]) == (
        True,
        True,
        True,
        None,
    )


def test_a_run_that_begins_while_somebody_looks_is_not_refused(gallery: Path) -> None:
    look = (gallery / LOCK).open("ab")
    fcntl.flock(look, fcntl.LOCK_SH)
    ends = threading.Timer(0.02, look.close)
    ends.start()
    take_lock(gallery / LOCK).close()
    ends.join()


@pytest.mark.parametrize("searches", [0, 1])
def test_a_server_that_has_ended_leaves_nothing_beside_the_database(gallery: Path, searches: int) -> None:
    """Whether it only read, or wrote too: each search is a row of the audit."""
    desk = Desk(gallery, ServerConfig(), None, "cpu", None)
    with Client(create_app(desk, hosts={"localhost"})) as client:
        assert client.get("/tracklets").json()["items"]
        for _ in range(searches):
            assert client.post("/search", {"examples": [{"tracklet_id": "gate-ann"}]}).json()["answers"]
        assert (gallery / f"{DATABASE}-wal").is_file()
    assert not list(gallery.glob(f"{DATABASE}-*"))
