"""One stream of events for everybody who looks: what is new arrives without asking, as far as it may be seen."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from pipeline.audit import Actor
from pipeline.config import ServerConfig
from pipeline.persons import Persons
from pipeline.server.roles import Role
from pipeline.server.serving import open_door, served
from pipeline.server.users import USERS, Users
from pipeline.store import Store
from reid.modality import Modality
from tests.pipeline.factories import open_store, rejected_of, sighting_of, tracklet_of
from tests.pipeline.server.client import API, PASSWORD
from tests.pipeline.server.conftest import add_users

SECONDS = 40
pytestmark = pytest.mark.alone


@contextmanager
def listening(
    address: str, headers: dict[str, str] | None = None, params: dict[str, str] | None = None, **login: str
) -> Iterator[Iterator[dict[str, Any]]]:
    """Events of the stream, as they come."""
    with httpx.Client(base_url=f"{address}{API.removeprefix('/')}", timeout=SECONDS) as client:
        if login:
            assert client.post("/session", json=login).status_code == 201
        with client.stream("GET", "/events", headers=headers or {}, params=params or {}) as answer:
            assert answer.headers["content-type"].startswith("text/event-stream")
            lines = answer.iter_lines()
            next(lines)  # the server has taken us in
            yield _events(lines)


def _events(lines: Iterator[str]) -> Iterator[dict[str, Any]]:
    event: dict[str, Any] = {}
    until = time.monotonic() + SECONDS
    for line in lines:
        if time.monotonic() > until:
            raise AssertionError(f"nothing more came within {SECONDS} s")
        name, _, value = line.partition(": ")
        if name in ("id", "event"):
            event[name] = value
        elif name == "data":
            yield event | {"data": json.loads(value)}
            event = {}


def add_later(root: Path, *names: str, after: float = 1.5) -> threading.Timer:
    def add() -> None:
        with open_store(root) as store:
            for place, name in enumerate(names):
                kind = Modality.THERMAL if name.startswith("dock") else Modality.RGB
                store.add(sighting_of(tracklet_of(name, modality=kind, at=500.0 + 10 * place), person=3))
            store.add(rejected_of(tracklet_of("gate-mouse2", at=700.0)))

    timer = threading.Timer(after, add)
    timer.start()
    return timer


def first(events: Iterator[dict[str, Any]], kind: str) -> dict[str, Any]:
    return next(each for each in events if each["event"] == kind)


def until_four(events: Iterator[dict[str, Any]]) -> list[dict[str, Any]]:
    """What is told until a camera has four tracklets."""
    told = []
    for each in events:
        told.append(each)
        if each["event"] == "camera" and each["data"]["tracklets"] == 4:
            break
    return told


def test_new_tracklets_and_cameras_arrive(gallery: Path) -> None:
    door = open_door(gallery, ServerConfig(port=0))
    with served(gallery, door, device="cpu"), listening(door.address) as events:
        timer = add_later(gallery, "gate-new")
        new = first(events, "tracklet")
        assert new["id"] == new["data"]["tracklet_id"] == "gate-new"
        assert new["data"] == httpx.get(f"{door.address}api/v1/tracklets?limit=1").json()["items"][0]
        camera = next(each for each in events if each["event"] == "camera" and each["data"]["camera_id"] == "gate")
        assert camera["data"]["tracklets"] == 4
        timer.join()


def test_who_was_cut_off_goes_on_where_they_were(gallery: Path) -> None:
    door = open_door(gallery, ServerConfig(port=0))
    add_later(gallery, "gate-new", "gate-newer", after=0).join()
    with served(gallery, door, device="cpu"):
        with listening(door.address, {"Last-Event-ID": "gate-eve"}) as events:
            assert [first(events, "tracklet")["id"] for _ in range(3)] == ["dock-kim", "gate-new", "gate-newer"]
        with listening(door.address, {"Last-Event-ID": "gate-new"}) as events:
            assert first(events, "tracklet")["id"] == "gate-newer"
        with listening(door.address, params={"after": "gate-new"}) as events:
            assert first(events, "tracklet")["id"] == "gate-newer"


def test_what_one_goes_on_from_is_told_at_the_beginning(gallery: Path) -> None:
    add_users(gallery, ("ann", Role.VIEWER, ["gate"]), ("eva", Role.AUDITOR, None), ("bob", Role.VIEWER, ["lobby"]))
    door = open_door(gallery, ServerConfig(port=0))
    told = {}
    with served(gallery, door, device="cpu"):
        for name in ("ann", "eva", "bob"):
            with listening(door.address, user=name, password=PASSWORD) as events:
                told[name] = first(events, "begin")
        add_later(gallery, "gate-new", after=0).join()
        seen = {"Last-Event-ID": told["ann"]["id"]}
        with listening(door.address, seen, user="ann", password=PASSWORD) as events:
            assert [next(events).get("id") for _ in range(2)] == ["gate-new", "gate-mouse2"]
    assert [told[name].get("id") for name in ("ann", "eva", "bob")] == ["gate-mouse", None, None]


def test_what_may_not_be_seen_is_not_told(gallery: Path) -> None:
    add_users(gallery, ("ann", Role.VIEWER, ["gate"]), ("eva", Role.AUDITOR, None))
    door = open_door(gallery, ServerConfig(port=0))
    assert door.users is not None
    with served(gallery, door, device="cpu"):
        assert httpx.get(f"{door.address}api/v1/events").status_code == 401
        with (
            listening(door.address, user="ann", password=PASSWORD) as events,
            listening(door.address, user="eva", password=PASSWORD) as audited,
        ):
            timer = add_later(gallery, "dock-new", "gate-new")
            told = until_four(events)
            assert [each["id"] for each in told if each["event"] == "tracklet"] == ["gate-new"]
            assert {each["event"] for each in told} == {"begin", "tracklet", "camera", "gallery"}
            assert "dock" not in json.dumps(told)
            kinds = []
            for each in audited:
                kinds.append(each["event"])
                if each["event"] == "camera" and each["data"].get("tracklets") == 4:
                    break
            assert "tracklet" not in kinds
            timer.join()


def test_who_sees_some_cameras_hears_that_something_was_decided_and_no_count(gallery: Path) -> None:
    """Nor that anything came from another camera."""
    add_users(gallery, ("ann", Role.VIEWER, ["gate"]), ("eva", Role.VIEWER, None))
    door = open_door(gallery, ServerConfig(port=0))

    def add(name: str, modality: Modality) -> None:
        with open_store(gallery) as store:
            store.add(sighting_of(tracklet_of(name, modality=modality, at=500.0), person=3))

    with (
        served(gallery, door, device="cpu"),
        listening(door.address, user="ann", password=PASSWORD) as events,
        listening(door.address, user="eva", password=PASSWORD) as all_events,
    ):
        first(events, "camera")  # what there is was told
        first(all_events, "begin")
        add("dock-new", Modality.THERMAL)
        first(all_events, "tracklet")
        assert first(all_events, "gallery")["data"]["last_row"] > 0
        with Store.edit(gallery) as store:
            Persons(store).merge(2, 3, Actor("test"))
        assert first(all_events, "gallery")["data"]["last_change"] > 0
        add("gate-new", Modality.RGB)
        told = [first(events, "gallery")]
        while "tracklet" not in [each["event"] for each in told[:-1]]:
            told.append(next(events))
    told = [each for each in told if each["event"] != "camera"]
    assert [each["event"] for each in told] == ["gallery", "tracklet", "gallery"]  # none of dock-new
    assert [each["data"] for each in told if each["event"] == "gallery"][-1] == {}
    assert "last_row" not in json.dumps(told)


def test_the_stream_ends_with_the_session(gallery: Path) -> None:
    add_users(gallery, ("ann", Role.VIEWER, None))
    door = open_door(gallery, ServerConfig(port=0))
    with served(gallery, door, device="cpu"), listening(door.address, user="ann", password=PASSWORD) as events:
        while first(events, "camera")["data"]["camera_id"] != "yard":
            pass  # what there is was told: from here on the stream waits for what is new
        Users(gallery / USERS).remove("ann", last=True)
        add_later(gallery, "gate-new", "gate-newer", after=1.0)
        told = list(events)  # it ends
        assert [each["data"] for each in told if each["event"] == "tracklet"] == []


def test_rights_that_are_changed_count_for_open_streams(gallery: Path) -> None:
    add_users(gallery, ("ann", Role.VIEWER, ["gate", "dock"]))
    door = open_door(gallery, ServerConfig(port=0))
    with served(gallery, door, device="cpu"), listening(door.address, user="ann", password=PASSWORD) as events:
        users = json.loads((gallery / USERS).read_text())
        users["users"]["ann"]["cameras"] = ["gate"]
        (gallery / USERS).write_text(json.dumps(users))
        timer = add_later(gallery, "dock-new", "gate-new")
        told = until_four(events)
        assert [each["id"] for each in told if each["event"] == "tracklet"] == ["gate-new"]
        assert "dock-new" not in json.dumps(told)
        timer.join()


def test_a_damaged_file_of_users_cuts_off_who_listens_and_the_log_says_why(
    gallery: Path, caplog: pytest.LogCaptureFixture
) -> None:
    add_users(gallery, ("ann", Role.VIEWER, None))
    door = open_door(gallery, ServerConfig(port=0))
    with served(gallery, door, device="cpu"), listening(door.address, user="ann", password=PASSWORD) as events:
        assert first(events, "begin")
        (gallery / USERS).write_text("{")
        add_later(gallery, "gate-new", after=2.5).join()
        assert [each["data"] for each in events if each["event"] == "tracklet"] == []
        answer = httpx.get(f"{door.address}api/v1/cameras", cookies={"session": "none"})
    assert answer.status_code in (401, 503)
    assert USERS not in answer.text
    assert "not a file of users" in caplog.text
    assert "Traceback" not in caplog.text


def test_one_user_cannot_shut_out_the_others(gallery: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.server.live._MOST_LISTENERS", 3)
    monkeypatch.setattr("pipeline.server.live._MOST_OF_ONE", 2)
    add_users(gallery, ("ann", Role.VIEWER, None), ("bob", Role.VIEWER, None))
    door = open_door(gallery, ServerConfig(port=0))
    with served(gallery, door, device="cpu"), ExitStack() as open_ones:
        own = [open_ones.enter_context(listening(door.address, user="ann", password=PASSWORD)) for _ in range(3)]
        other = open_ones.enter_context(listening(door.address, user="bob", password=PASSWORD))
        assert "tracklet" not in [each["event"] for each in own[0]]  # it has ended
        add_later(gallery, "gate-new", after=0.0).join()
        for each in (*own[1:], other):
            assert first(each, "tracklet")["id"] == "gate-new"
