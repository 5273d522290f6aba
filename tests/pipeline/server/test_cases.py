"""Cases over HTTP, and the evidence that is exported of them."""

import hashlib
import io
import json
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from pipeline.audit import Actor
from pipeline.bundle import Bundle, verify_bundle, write_bundle
from pipeline.cases import Cases
from pipeline.cli import main
from pipeline.config import ServerConfig
from pipeline.erasure import erase
from pipeline.errors import UsageError
from pipeline.export_files import Note, keep_note
from pipeline.recovery import maintain
from pipeline.server.app import create_app
from pipeline.server.desk import Desk
from pipeline.server.lists import cursor_of
from pipeline.server.roles import Role
from tests.pipeline.server.client import Client
from tests.pipeline.server.conftest import Serve, add_users


def export(client: Client, **how: Any) -> dict[str, Any]:
    begun = client.post("/cases/c1/exports", how)
    assert begun.status_code == 202
    for _ in range(600):
        told: dict[str, Any] = client.get(f"/exports/{begun.json()['export_id']}").json()
        if told["state"] != "running":
            return told
        time.sleep(0.05)
    raise AssertionError(told)


def test_a_case_is_opened_filled_emptied_and_closed(
    gallery: Path, serve: Serve, capsys: pytest.CaptureFixture[str]
) -> None:
    client = serve(gallery)
    assert client.post("/cases", {"case_id": "c2", "title": "a coat"}).status_code == 201
    held = client.post("/cases/c2/items", {"tracklets": ["gate-eve", "yard-bob"], "note": "look"}).json()
    assert held["items"] == ["yard-bob", "gate-eve"]
    assert [each["note"] for each in held["details"]] == ["look", "look"]
    assert client.delete("/cases/c2/items/yard-bob").status_code == 204
    assert client.delete("/cases/c2/items/yard-bob").status_code == 404
    assert client.post("/cases/c2/close").json()["closed"] is not None
    for path, asked in (("/cases/c2/items", {"tracklets": ["gate-ann"]}), ("/cases/c2/close", None)):
        assert client.post(path, asked).status_code == 409
    assert client.delete("/cases/c2/items/gate-eve").status_code == 409
    assert client.get("/cases/c2").json()["items"] == ["gate-eve"]  # nothing leaves a closed case
    assert main(["case", "release", "c2", "--tracklet", "gate-eve", "-g", str(gallery)]) == 2
    assert "no open case 'c2'" in capsys.readouterr().err
    assert client.get("/audit").json()["items"][0]["action"] == "case_close"
    assert client.post("/cases", {"case_id": "c2"}).json()["title"] == "a coat"
    assert client.post("/cases/none/close").status_code == 404
    assert main(["case", "list", "-g", str(gallery), "--json"]) == 0
    assert client.get("/cases").json()["items"] == json.loads(capsys.readouterr().out)


def test_a_case_exports_as_a_zip_that_verifies(run: Path, serve: Serve, tmp_path: Path) -> None:
    client = serve(run)
    names = [each["tracklet_id"] for each in client.get("/tracklets?order=oldest").json()["items"]]
    client.post("/cases", {"case_id": "c1"})
    client.post("/cases/c1/items", {"tracklets": names})
    told = export(client, purpose="for the court")
    assert (told["state"], told["items"], told["progress"]) == ("done", 2, 1.0)
    assert [each["export_id"] for each in client.get("/cases/c1").json()["exports"]] == [told["export_id"]]
    data = client.raw.get(told["url"])
    assert data.headers["content-type"] == "application/zip"
    assert "c1-" in data.headers["content-disposition"]
    path = tmp_path / "evidence.zip"
    path.write_bytes(data.content)
    assert verify_bundle(path).findings == ()
    assert verify_bundle(path).sha256 == told["sha256"]
    verdict = client.get(f"/exports/{told['export_id']}/verify").json()
    assert (verdict["findings"], verdict["sha256"]) == ([], told["sha256"])
    part = client.raw.get(told["url"], headers={"Range": "bytes=0-3"})
    assert (part.status_code, part.content) == (206, b"PK\x03\x04")
    with zipfile.ZipFile(path) as zipped:
        manifest = json.loads(zipped.read("manifest.json"))
    assert manifest["purpose"] == "for the court"
    *downloads, last = client.get("/audit?limit=3").json()["items"]
    for each, asked in zip(downloads, ("bytes=0-3", None), strict=True):
        assert (each["action"], each["details"]["range"]) == ("download", asked)
        assert (each["details"]["export"], each["details"]["address"]) == (told["export_id"], "testclient")
    assert (last["action"], last["details"]["sha256"]) == ("evidence", told["sha256"])


def test_a_zip_is_sent_in_parts_and_only_to_who_has_it_not(gallery: Path, serve: Serve) -> None:
    client = serve(gallery)
    told = export(client, clips=False)
    url, size = told["url"], told["bytes"]
    whole = client.raw.get(url)
    count = client.get("/site").json()["audit_rows"]
    for asked in ("lines=1-2", "bytes=abc", "abc", "bytes=0-1,5-6"):  # not understood: ignored, as by clips
        answer = client.raw.get(url, headers={"Range": asked})
        assert (answer.status_code, answer.content) == (200, whole.content)
    changed = client.raw.get(url, headers={"Range": "bytes=0-9", "If-Range": '"other"'})
    assert (changed.status_code, len(changed.content)) == (200, size)
    assert client.get("/site").json()["audit_rows"] == count + 5
    for asked in ("bytes=9-5", f"bytes={size}-", "bytes=-0"):
        answer = client.raw.get(url, headers={"Range": asked})
        assert (answer.status_code, answer.headers["content-range"]) == (416, f"bytes */{size}")
        assert answer.headers["content-type"] == "application/problem+json"
    tail = client.raw.get(url, headers={"Range": "bytes=-5", "If-Range": whole.headers["etag"]})
    assert (tail.status_code, tail.content) == (206, whole.content[-5:])
    count = client.get("/site").json()["audit_rows"]
    again = client.raw.get(url, headers={"If-None-Match": whole.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    head = client.raw.head(url)
    assert (head.status_code, head.content, head.headers["content-length"]) == (200, b"", str(size))
    assert client.get("/site").json()["audit_rows"] == count  # nothing was handed out


def test_a_zip_that_was_changed_on_disk_is_found(gallery: Path, serve: Serve) -> None:
    client = serve(gallery)
    told = export(client, clips=False)
    path = gallery / "exports" / f"{told['export_id']}.zip"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))
    assert client.get(f"/exports/{told['export_id']}/verify").json()["findings"]


def test_who_may_see_one_camera_exports_that_camera_alone(gallery: Path, serve: Serve, tmp_path: Path) -> None:
    add_users(gallery, ("ann", Role.OPERATOR, ["gate"]), ("bob", Role.OPERATOR, None))
    client = serve(gallery, users=True)
    client.login("bob")
    whole = export(client, clips=False)
    client.login("ann")
    part = export(client, clips=False)
    assert (whole["items"], part["items"]) == (2, 1)
    assert [each["export_id"] for each in client.get("/exports").json()["items"]] == [part["export_id"]]
    assert client.get(f"/exports/{whole['export_id']}/file").status_code == 404
    path = tmp_path / "part.zip"
    path.write_bytes(client.get(f"/exports/{part['export_id']}/file").content)
    with zipfile.ZipFile(path) as zipped:
        text = b"".join(zipped.read(name) for name in zipped.namelist() if name.endswith(("json", "jsonl")))
        names = zipped.namelist()
    assert b"dock" not in text
    assert not any("dock" in name for name in names)
    assert verify_bundle(path).findings == ()


def test_asking_for_one_export_reads_no_other_and_verifying_counts_as_an_action(
    gallery: Path, serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    add_users(gallery, ("bob", Role.OPERATOR, None))
    client = serve(gallery, users=True, actions_per_minute=3)
    client.login("bob")
    told = export(client, clips=False)
    (gallery / "exports" / "01M8DWSHR9MV58CH8J0Z3FKZ7E.json").write_text("{}")
    caplog.clear()
    asked = [client.get(f"/exports/{told['export_id']}/verify").status_code for _ in range(3)]
    assert asked == [200, 200, 429]
    assert "not the note of an export" not in caplog.text
    assert len(client.get("/exports").json()["items"]) == 1
    assert "not the note of an export" in caplog.text


def audit_in(client: Client, told: dict[str, Any]) -> list[dict[str, Any]]:
    with zipfile.ZipFile(io.BytesIO(client.get(f"/exports/{told['export_id']}/file").content)) as zipped:
        return [json.loads(line) for line in zipped.read("audit.jsonl").splitlines()]


def test_searches_and_decisions_about_its_tracklets_are_in_the_audit_of_a_case(gallery: Path, serve: Serve) -> None:
    add_users(gallery, ("ann", Role.OPERATOR, ["gate"]), ("bob", Role.OPERATOR, None))
    client = serve(gallery, users=True)
    client.login("bob")
    for cameras in (["gate"], ["dock"]):
        asked = {"examples": [{"tracklet_id": "gate-ann"}], "filters": {"cameras": cameras, "min_quality": 1}}
        assert client.post("/search", asked).status_code == 200
    assert client.post("/search", {"examples": [{"tracklet_id": "gate-bob"}], "top_k": 50}).status_code == 200
    unlike = {"examples": [{"tracklet_id": "gate-bob"}], "filters": {"cameras": ["yard"]}}
    assert client.post("/search", unlike).status_code == 200  # of nobody of the case
    both = {"tracklet_id": "gate-ann", "to_tracklet_id": "gate-eve"}
    assert client.post("/persons/reject", both).status_code == 201
    assert client.post("/persons/merge", {"into": "P0001", "other": "P0002"}).status_code == 201
    assert client.post("/persons/merge", {"into": "P0003", "other": "P0004"}).status_code == 201
    rows = audit_in(client, export(client, clips=False))
    assert [each["action"] for each in rows] == ["case_open", "hold", "search", "search", "search", "reject", "merge"]
    assert "gate-bob" not in json.dumps(rows)  # it may be erased: a token stands for it
    assert rows[5]["details"]["tracklets"][0] == "gate-ann"
    assert rows[5]["details"]["tracklets"][1].startswith("subject:")
    assert rows[6]["details"]["into"] == "P0001"
    client.login("ann")
    rows = audit_in(client, export(client, clips=False))
    assert [each["action"] for each in rows] == ["case_open", "search", "reject"]
    assert "dock" not in json.dumps(rows)


@contextmanager
def serve_once(gallery: Path) -> Iterator[Client]:
    """A server that ends before the test does."""
    with Client(create_app(Desk(gallery, ServerConfig()), hosts={"localhost"})) as client:
        yield client


def stopped(*arguments: Any) -> Bundle:
    """Writes evidence for as long as the server goes on."""
    options = arguments[-1]
    while not options.should_stop():
        time.sleep(0.01)
    raise InterruptedError("the export was stopped")


def left_running(gallery: Path, name: str, **changes: Any) -> None:
    """As a killed server leaves an export."""
    note = gallery / "exports" / f"{name}.json"
    note.write_text(json.dumps(json.loads(note.read_text()) | {"state": "running", **changes}))
    note.with_suffix(".zip").unlink()


def ended(client: Client, name: str) -> dict[str, Any]:
    ends = time.monotonic() + 20
    while (told := client.get(f"/exports/{name}").json())["state"] == "running":
        assert time.monotonic() < ends, told
        time.sleep(0.02)
    return dict(told)


def test_an_export_that_a_killed_server_left_is_written_by_the_next(gallery: Path, serve: Serve) -> None:
    before = export(serve(gallery), clips=False, blur_others=True, purpose="theft")
    left_running(gallery, before["export_id"], bytes=None, sha256=None, attempts=1)
    client = serve(gallery)
    told = ended(client, before["export_id"])
    assert (told["state"], told["items"], told["by"], told["blur_others"]) == ("done", 2, before["by"], True)
    assert client.get(f"/exports/{told['export_id']}/verify").json()["findings"] == []
    with zipfile.ZipFile(io.BytesIO(client.raw.get(told["url"]).content)) as zipped:
        manifest = json.loads(zipped.read("manifest.json"))
    assert (manifest["purpose"], manifest["export"]) == ("theft", told["export_id"])
    assert not [name for name in manifest["files"] if name.endswith(".mp4")]


def test_a_server_that_is_told_to_end_leaves_its_exports_to_the_next(
    gallery: Path, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serve_once(gallery) as client, monkeypatch.context() as patch:
        patch.setattr("pipeline.server.exports.write_bundle", stopped)
        names = [client.post("/cases/c1/exports", {"clips": False}).json()["export_id"] for _ in range(3)]
    client = serve(gallery)
    assert [ended(client, name)["state"] for name in names] == ["done"] * 3


def test_of_two_servers_each_writes_its_exports_and_what_the_other_left_when_it_ended(
    gallery: Path, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = serve(gallery)
    with serve_once(gallery) as other, monkeypatch.context() as patch:
        patch.setattr("pipeline.server.exports.write_bundle", stopped)
        name = other.post("/cases/c1/exports", {"clips": False}).json()["export_id"]
        third = serve(gallery)
        for _ in range(5):
            assert {each.get(f"/exports/{name}").json()["state"] for each in (client, third)} == {"running"}
            time.sleep(0.02)
        assert json.loads((gallery / "exports" / f"{name}.json").read_text())["attempts"] == 1
    assert ended(client, name)["state"] == "done"
    assert json.loads((gallery / "exports" / f"{name}.json").read_text())["attempts"] == 2


@pytest.mark.parametrize("changes", [{"attempts": 5}, {"version": 2}])
def test_an_export_that_ends_each_server_or_is_of_an_older_version_has_failed(
    gallery: Path, serve: Serve, changes: dict[str, int]
) -> None:
    client = serve(gallery)
    told = export(client, clips=False)
    left_running(gallery, told["export_id"], **changes)
    left = serve(gallery).get(f"/exports/{told['export_id']}").json()
    assert (left["state"], "export it again" in left["error"]) == ("failed", True)
    assert serve(gallery).get(f"/exports/{told['export_id']}/file").status_code == 409


def test_a_whole_zip_whose_server_was_killed_before_it_said_so_is_offered_and_goes_with_whom_it_shows(
    gallery: Path, serve: Serve
) -> None:
    name = export(serve(gallery), clips=False)["export_id"]
    note, path = (gallery / "exports" / f"{name}{suffix}" for suffix in (".json", ".zip"))
    planned = {"state": "running", "bytes": None, "sha256": None, "tracklets": ["dock-ann"]}  # gate-ann came later
    note.write_text(json.dumps(json.loads(note.read_text()) | planned))
    data = path.read_bytes()
    path.write_bytes(data[:-1])
    assert serve(gallery).get(f"/exports/{name}").json()["state"] == "failed"
    path.write_bytes(data)
    client = serve(gallery)
    told = client.get(f"/exports/{name}").json()
    assert (told["state"], told["error"], told["bytes"], told["items"]) == ("done", None, len(data), 2)
    assert told["sha256"] == hashlib.sha256(data).hexdigest()
    assert client.get(f"/exports/{name}/file").content == data
    assert client.get(f"/exports/{name}/verify").json()["findings"] == []
    assert client.post("/cases/c1/close").status_code == 200
    assert main(["gallery", "erase", "--tracklet", "gate-ann", "-g", str(gallery)]) == 0
    assert list((gallery / "exports").iterdir()) == []


def test_an_export_that_cannot_be_noted_as_done_at_first_is_offered_all_the_same(
    gallery: Path, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused: list[Any] = []

    def full_once(root: Path, note: Any) -> None:
        if note.state == "done" and not refused:
            refused.append(note)
            raise OSError("no space left on device")
        keep_note(root, note)

    monkeypatch.setattr("pipeline.server.exports.keep_note", full_once)
    told = export(serve(gallery), clips=False)
    assert (len(refused), told["state"], told["items"]) == (1, "done", 2)


def erase_ann(gallery: Path) -> None:
    with maintain(gallery) as store:
        Cases(store).close("c1", Actor("test"))
        erase(store, [store.tracklet("gate-ann")], Actor("test"))


@pytest.mark.parametrize("moment", ["before", "after", "noted"])
def test_nothing_is_left_of_who_is_erased_while_the_evidence_is_written(
    gallery: Path, serve: Serve, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    def write(*arguments: Any) -> Bundle:
        if moment == "before":
            erase_ann(gallery)
        done = write_bundle(*arguments)
        if moment == "after":
            erase_ann(gallery)
        return done

    def keep(root: Path, note: Note) -> None:
        if moment == "noted" and note.state == "done":
            monkeypatch.setattr("pipeline.server.exports.keep_note", keep_note)
            with monkeypatch.context() as patch:  # it had looked for the exports before there was a note
                patch.setattr("pipeline.erasure.exports_with", lambda *_: [])
                erase_ann(gallery)
        keep_note(root, note)

    monkeypatch.setattr("pipeline.server.exports.write_bundle", write)
    monkeypatch.setattr("pipeline.server.exports.keep_note", keep)
    client = serve(gallery)
    name = client.post("/cases/c1/exports", {"clips": False}).json()["export_id"]
    ends = time.monotonic() + 20
    while client.app.state.desk.exports._progress and time.monotonic() < ends:
        time.sleep(0.02)
    assert client.get(f"/exports/{name}").status_code == 404
    assert list((gallery / "exports").iterdir()) == []
    assert [path for path in gallery.rglob("*") if path.is_file() and b"gate-ann" in path.read_bytes()] == []


def test_why_an_export_failed_names_no_path_and_nobody(
    gallery: Path, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> Bundle:
        raise UsageError(f"{gallery}: no tracklet 'gate-ann' in this gallery of 5")

    monkeypatch.setattr("pipeline.server.exports.write_bundle", fail)
    client = serve(gallery)
    told = export(client, clips=False)
    assert (told["state"], told["error"]) == ("failed", "it could not be written; the server's log says why")
    note = gallery / "exports" / f"{told['export_id']}.json"
    kept = json.loads(note.read_text())
    assert kept["error"] == told["error"]
    note.write_text(json.dumps(kept | {"version": 2, "error": f"{gallery}: no tracklet 'gate-ann'"}))  # of before
    assert client.get(f"/exports/{told['export_id']}").json()["error"] == told["error"]


def pages(client: Client, path: str, key: str, *, between: Callable[[], object]) -> list[str]:
    """What is listed two at a time, when something happens after the first two."""
    page, found = client.get(f"{path}?limit=2").json(), []
    between()
    while True:
        found += [each[key] for each in page["items"]]
        if page["next"] is None:
            return found
        page = client.get(f"{path}?limit=2&cursor={page['next']}").json()


def test_what_comes_between_two_pages_repeats_and_hides_nothing(gallery: Path, serve: Serve) -> None:
    client = serve(gallery)
    for name in ("c3", "c5", "c7"):
        client.post("/cases", {"case_id": name})
    opened = pages(client, "/cases", "case", between=lambda: client.post("/cases", {"case_id": "a1"}))
    assert opened == ["c1", "c3", "c5", "c7"]
    names = [export(client, clips=False)["export_id"] for _ in range(3)]
    listed = pages(client, "/exports", "export_id", between=lambda: export(client, clips=False))
    assert listed == sorted(names, reverse=True)
    for path in ("/cases", "/exports"):
        assert client.get(f"{path}?cursor={cursor_of(-1)}").status_code == 400


def test_an_empty_case_has_no_evidence(gallery: Path, serve: Serve) -> None:
    client = serve(gallery)
    client.post("/cases", {"case_id": "c2"})
    assert client.post("/cases/c2/exports", {}).status_code == 409
    assert client.post("/cases/none/exports", {}).status_code == 404
    assert client.get("/exports").json() == {"items": [], "next": None}


def test_erasing_a_tracklet_takes_the_exports_that_show_it(gallery: Path, serve: Serve) -> None:
    client = serve(gallery)
    told = export(client, clips=False)
    client.post("/cases/c1/close")
    assert main(["gallery", "erase", "--tracklet", "gate-eve", "-g", str(gallery)]) == 0
    assert client.get(f"/exports/{told['export_id']}/file").status_code == 200
    assert main(["gallery", "erase", "--tracklet", "gate-ann", "-g", str(gallery)]) == 0
    assert client.get(f"/exports/{told['export_id']}").status_code == 404
    assert list((gallery / "exports").iterdir()) == []
    assert client.get("/tracklets/gate-ann/clip").status_code == 404
