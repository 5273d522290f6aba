"""Persons and decisions over HTTP: as on the command line, with the way back."""

import json
from pathlib import Path

import pytest

from pipeline.audit import Actor
from pipeline.cli import main
from pipeline.persons import Persons
from pipeline.server.roles import Role
from pipeline.store import Store
from tests.pipeline.server.conftest import Serve, add_users


def test_a_person_has_a_path_over_time(gallery: Path, serve: Serve) -> None:
    told = serve(gallery).get("/persons/P0001").json()
    assert [each["tracklet_id"] for each in told["path"]] == ["gate-ann", "dock-ann"]
    assert (told["cameras"], told["modalities"], told["tracklets"]) == (["dock", "gate"], ["rgb", "thermal"], 2)
    assert [each["state"] for each in told["links"]] == ["probable"]
    assert told["path_complete"]


def test_the_command_line_lists_the_same_persons(
    gallery: Path, serve: Serve, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["person", "list", "-g", str(gallery), "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    client = serve(gallery)
    assert client.get("/persons").json()["items"] == printed["persons"]
    assert client.get("/decisions").json()["items"] == printed["decisions"] == []


def test_decisions_are_made_told_and_taken_back(gallery: Path, serve: Serve) -> None:
    client = serve(gallery)
    made = client.post("/persons/merge", {"into": "P0001", "other": "P0003", "purpose": "same coat"})
    assert made.status_code == 201
    assert (made.json()["kind"], len(made.json()["moved"])) == ("merge", 1)
    assert client.get("/persons/P0001").json()["state"] == "confirmed"
    assert [each["person"] for each in client.get("/persons?state=merged").json()["items"]] == ["P0003"]
    assert client.get("/persons/P0003").json()["merged_into"] == "P0001"
    undone = client.post(f"/decisions/{made.json()['decision_id']}/undo", {})
    assert undone.status_code == 201
    assert [each["person"] for each in client.get("/persons").json()["items"]] == ["P0001", "P0002", "P0003", "P0004"]
    again = client.post(f"/decisions/{made.json()['decision_id']}/undo", {})
    assert (again.status_code, "undone already" in again.json()["detail"]) == (409, True)
    assert [each["kind"] for each in client.get("/decisions").json()["items"]] == ["undo", "merge"]
    assert [each["action"] for each in client.get("/audit").json()["items"]][:2] == ["undo", "merge"]


def test_links_are_confirmed_and_rejected(gallery: Path, serve: Serve) -> None:
    client = serve(gallery)
    both = {"tracklet_id": "dock-ann", "to_tracklet_id": "gate-ann"}
    assert client.post("/persons/confirm", both).status_code == 201
    assert client.get("/tracklets/gate-ann/links").json()[0]["state"] == "confirmed"
    rejected = client.post("/persons/reject", {"tracklet_id": "yard-bob", "to_tracklet_id": "gate-bob"})
    assert rejected.status_code == 201
    assert client.get("/tracklets/yard-bob").json()["person"] == "P0005"
    assert [each["state"] for each in client.get("/links?state=rejected").json()["items"]] == ["rejected"]
    assert client.post("/persons/reject", both).status_code == 201
    below = client.post("/decisions/1/undo", {})
    assert (below.status_code, "a later decision" in below.json()["detail"]) == (409, True)
    assert client.post("/decisions/3/undo", {}).status_code == 201
    split = client.post("/persons/split", {"tracklets": ["dock-ann"]})
    assert split.status_code == 201
    assert client.get("/persons/P0001").json()["tracklets"] == 1


def test_what_cannot_be_decided_is_a_conflict_and_changes_nothing(gallery: Path, serve: Serve) -> None:
    client = serve(gallery)
    for path, asked, status in (
        ("/persons/merge", {"into": "P0001", "other": "P0001"}, 409),
        ("/persons/merge", {"into": "P0001", "other": "P0099"}, 404),
        ("/persons/split", {"tracklets": ["gate-eve"]}, 409),
        ("/persons/split", {"tracklets": ["gate-eve", "gate-bob"]}, 409),
        ("/persons/split", {"tracklets": ["none"]}, 404),
        ("/persons/split", {"tracklets": []}, 422),
        ("/persons/confirm", {"tracklet_id": "gate-eve", "to_tracklet_id": "gate-ann"}, 409),
        ("/persons/reject", {"tracklet_id": "gate-mouse", "to_tracklet_id": "gate-ann"}, 409),
        ("/persons/confirm", {"tracklet_id": "gate-ann", "to_tracklet_id": "gate-ann"}, 422),
        ("/persons/reject", {"tracklet_id": "gate-ann", "to_tracklet_id": "gate-ann"}, 422),
        ("/persons/merge", {"into": "P0001", "other": "P0002", "case_id": "none"}, 409),
        ("/decisions/99/undo", {}, 404),
    ):
        answer = client.post(path, asked)
        assert answer.status_code == status, (path, asked, answer.text)
    assert client.get("/decisions").json()["items"] == []


def test_who_sees_some_cameras_takes_back_what_they_decided_about_these_and_nothing_else(
    gallery: Path, serve: Serve
) -> None:
    add_users(gallery, ("ann", Role.OPERATOR, ["gate"]), ("bob", Role.OPERATOR, None))
    client = serve(gallery, users=True)
    with Store.edit(gallery) as store:
        people, ann = Persons(store), Actor("ann")
        split = people.split(["gate-ann"], ann).decision_id  # when she saw all cameras
        of_split = people.undo(split, ann).decision_id
        others = people.reject("gate-eve", "gate-ann", Actor("bob")).decision_id
        unseen = people.reject("dock-kim", "gate-ann", ann).decision_id
        moving = people.reject("dock-ann", "gate-ann", ann).decision_id
    client.login("ann")
    for number in (split, of_split, others, unseen, moving, 999_999):
        answer = client.post(f"/decisions/{number}/undo", {})
        assert (answer.status_code, answer.json()["detail"]) == (404, f"no decision {number}")
    made = client.post("/persons/reject", {"tracklet_id": "gate-eve", "to_tracklet_id": "gate-bob"}).json()
    undone = client.post(f"/decisions/{made['decision_id']}/undo", {})
    assert undone.status_code == 201
    assert client.post(f"/decisions/{made['decision_id']}/undo", {}).status_code == 409
    again = client.post(f"/decisions/{undone.json()['decision_id']}/undo", {})
    assert (again.status_code, again.json()["kind"]) == (201, "undo")
    assert [each["state"] for each in client.get("/tracklets/gate-bob/links").json()] == ["rejected"]
    client.login("bob")
    for number in (again.json()["decision_id"], moving, unseen, others):
        assert client.post(f"/decisions/{number}/undo", {}).status_code == 201
