"""Where the server listens and for whom; beside a run, and killed at any moment."""

import asyncio
import io
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from PIL import Image
from uvicorn.server import ServerState

from pipeline.cli import main
from pipeline.config import ServerConfig, TlsConfig
from pipeline.errors import ResourceError, UsageError
from pipeline.server.connections import Connections, Limits
from pipeline.server.roles import Role
from pipeline.server.serving import Door, open_door, served, with_address
from pipeline.server.users import USERS, Users
from tests.pipeline.factories import open_store, sighting_of, tracklet_of
from tests.pipeline.server.client import API, PASSWORD
from tests.pipeline.server.conftest import add_users

ROOT = Path(__file__).resolve().parents[3]
pytestmark = pytest.mark.alone


@contextmanager
def up(root: Path, **settings: Any) -> Iterator[tuple[Door, httpx.Client]]:
    door = open_door(root, ServerConfig(**{"port": 0, **settings}))
    verify = ssl.create_default_context(cafile=settings["tls"].cert) if "tls" in settings else True
    with served(root, door, device="cpu"), httpx.Client(base_url=door.address, verify=verify, timeout=30) as client:
        yield door, client


def certificate(folder: Path) -> TlsConfig:
    cert, key = folder / "cert.pem", folder / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", cert, "-days", "2",
         "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"],
        check=True, capture_output=True,
    )  # fmt: skip
    return TlsConfig(cert=cert, key=key)


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("127.0.0.1:9000", "127.0.0.1", 9000), (":9000", "127.0.0.1", 9000), ("localhost", "localhost", 8080),
        ("[::1]:9000", "::1", 9000), ("[::1]", "::1", 8080),
    ],
)  # fmt: skip
def test_an_address_is_read(text: str, host: str, port: int) -> None:
    read = with_address(ServerConfig(), text)
    assert (read.host, read.port) == (host, port)


@pytest.mark.parametrize("text", ["127.0.0.1:http", "127.0.0.1:70000", "a:b:c", "nosuchhost.invalid"])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="expected HOST:PORT"):
        with_address(ServerConfig(), text)


def test_other_addresses_need_users_and_tls(gallery: Path, tmp_path: Path) -> None:
    everywhere = ServerConfig(host="0.0.0.0", port=0)  # noqa: S104
    with pytest.raises(UsageError, match="run users add NAME first"):
        open_door(gallery, everywhere)
    add_users(gallery, ("ann", Role.ADMIN, None))
    with pytest.raises(UsageError, match="passwords would cross the network in the clear"):
        open_door(gallery, everywhere)
    tls = certificate(tmp_path)
    door = open_door(gallery, everywhere.model_copy(update={"tls": tls}))
    assert door.secure
    door.listening.close()
    (gallery / USERS).chmod(0o644)
    with pytest.raises(UsageError, match="chmod 600"):
        open_door(gallery, everywhere.model_copy(update={"tls": tls}))


@pytest.mark.parametrize("named", [True, False])
def test_without_its_last_user_a_site_is_closed_and_not_open(
    gallery: Path, caplog: pytest.LogCaptureFixture, named: bool
) -> None:
    """Whoever reached the page was admin after the next start; so they were beside a file whose name was mistyped."""
    caplog.set_level("INFO")
    if not named:
        add_users(gallery, ("ann", Role.ADMIN, None))
        Users(gallery / USERS).remove("ann", last=True)
    path = gallery / ("typo.json" if named else USERS)
    with up(gallery, **({"users": path} if named else {})) as (_, client):
        assert client.get(f"{API}/session").status_code == 401
        assert "nobody may log in" in caplog.text
        Users(path).add("bob", Role.VIEWER, None, PASSWORD)
        assert client.post(f"{API}/session", json={"user": "bob", "password": PASSWORD}).status_code == 201


def test_a_proxy_on_this_machine_needs_users_too(gallery: Path) -> None:
    behind = ServerConfig(port=0, trusted_proxy="127.0.0.1")
    with pytest.raises(UsageError, match=r"server\.trusted_proxy: others can reach it"):
        open_door(gallery, behind)


def test_only_the_stated_proxy_may_connect_and_is_believed(gallery: Path) -> None:
    add_users(gallery, ("ann", Role.ADMIN, None))
    with up(gallery, trusted_proxy="127.0.0.1", hosts=["cameras.example"], logins_per_minute=2) as (_, client):

        def login(address: str) -> httpx.Response:
            headers = {"Host": "cameras.example", "X-Forwarded-For": f"6.6.6.6, {address}"}
            return client.post(f"{API}/session", json={"user": address, "password": PASSWORD}, headers=headers)

        assert [login("10.0.0.1").status_code for _ in range(3)] == [401, 401, 429]
        assert login("10.0.0.2").status_code == 401
        answer = client.post(
            f"{API}/session", json={"user": "ann", "password": PASSWORD}, headers={"Host": "cameras.example"}
        )
        assert "Secure" in answer.headers["set-cookie"]
        assert "strict-transport-security" in answer.headers
    with up(gallery, trusted_proxy="192.0.2.1") as (_, client):
        assert client.get(f"{API}/health").status_code == 403


def test_tls_is_spoken_and_the_cookie_is_secure(gallery: Path, tmp_path: Path) -> None:
    add_users(gallery, ("ann", Role.ADMIN, None))
    tls = certificate(tmp_path)
    with up(gallery, tls=tls) as (door, client):
        assert door.address.startswith("https://127.0.0.1:")
        answer = client.post(f"{API}/session", json={"user": "ann", "password": PASSWORD})
        assert answer.status_code == 201
        assert "Secure" in answer.headers["set-cookie"]
        assert client.get(f"{API}/tracklets").status_code == 200
        with pytest.raises(httpx.HTTPError):
            httpx.get(door.address.replace("https", "http"), timeout=5)


def test_files_that_are_no_certificate_are_said(gallery: Path, tmp_path: Path) -> None:
    tls = certificate(tmp_path)
    with pytest.raises(UsageError, match="no such file"):
        open_door(gallery, ServerConfig(port=0, tls=TlsConfig(cert=tmp_path / "none", key=tls.key)))
    tls.key.write_text("nothing")
    with pytest.raises(UsageError, match="do not fit"):
        open_door(gallery, ServerConfig(port=0, tls=tls))


def test_a_port_that_is_taken_is_said(gallery: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(ResourceError, match="cannot be listened on"):
        open_door(gallery, ServerConfig(port=taken.getsockname()[1]))


def connect(door: Door, *, said: bytes = b"") -> socket.socket:
    made = socket.create_connection(("127.0.0.1", door.settings.port), timeout=10)
    made.sendall(said)
    return made


def is_closed_within(connection: socket.socket, seconds: float) -> bool:
    connection.settimeout(seconds)
    try:
        return connection.recv(65_536) == b""
    except TimeoutError:
        return False


_PART = b"Host: localhost\r\nContent-Length: 1000\r\nContent-Type: "


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"G",
        b"GET / HTTP/1.1\r\nHost: localhost\r\n",
        b"POST /api/v1/session HTTP/1.1\r\n" + _PART + b"application/json\r\n\r\n",
        b"POST /api/v1/queries HTTP/1.1\r\n" + _PART + b"multipart/form-data; boundary=x\r\n\r\n",  # refused at once
    ],
)
def test_who_does_not_finish_a_question_is_waited_for_so_long(
    gallery: Path, monkeypatch: pytest.MonkeyPatch, said: bytes
) -> None:
    monkeypatch.setattr("pipeline.server.serving._LIMITS", Limits(head_seconds=0.6, body_seconds=0.6))
    add_users(gallery, ("ann", Role.ADMIN, None))
    with up(gallery) as (door, client), connect(door, said=said) as slow:
        assert not is_closed_within(slow, 0.3)
        started = time.monotonic()
        with suppress(OSError):  # of what is sent when it is closed
            while not is_closed_within(slow, 0.1):  # bit by bit it has no longer
                assert time.monotonic() - started < 5
                slow.sendall(said[:1])
        assert client.get(f"{API}/health").status_code == 200


def test_who_listens_says_nothing_and_is_kept(gallery: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.server.serving._LIMITS", Limits(head_seconds=0.3, body_seconds=0.3))
    with up(gallery) as (_, client), client.stream("GET", f"{API}/events") as events:
        lines = events.iter_lines()
        time.sleep(0.8)
        assert any(each.startswith("event: camera") for each in lines)


def test_silent_connections_shut_nobody_out(gallery: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.server.serving._LIMITS", Limits(most=20))
    with up(gallery) as (door, client), ExitStack() as stack:
        silent = [stack.enter_context(connect(door)) for _ in range(30)]
        assert client.get(f"{API}/health").status_code == 200
        assert is_closed_within(silent[0], 5)
        assert not is_closed_within(silent[-1], 0.2)


def test_beyond_what_can_be_answered_one_is_told_so(gallery: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those who are being answered keep their places; it is a problem as every other, with the same headers."""
    monkeypatch.setattr("pipeline.server.serving._LIMITS", Limits(most=2, most_refused=1))
    with up(gallery) as (door, client), ExitStack() as stack:
        for _ in range(2):
            stack.enter_context(client.stream("GET", f"{API}/events"))
        refused = httpx.get(f"{door.address}api/v1/health")
        assert (refused.status_code, refused.headers["content-type"]) == (503, "application/problem+json")
        assert refused.headers["retry-after"] == "5"
        assert "default-src 'self'" in refused.headers["content-security-policy"]
        told, cut = stack.enter_context(connect(door)), stack.enter_context(connect(door))
        with suppress(ConnectionResetError):
            assert is_closed_within(cut, 5)
        assert not is_closed_within(told, 0.2)


def test_one_address_has_so_many_connections_and_the_machine_itself_all() -> None:
    def taken(address: Callable[[int], str], proxy: str | None = None) -> int:
        known = Connections(Limits(most=30, most_of_one=10), proxy=proxy, secure=False)
        loop = asyncio.new_event_loop()
        config = uvicorn.Config(known.busy)
        made = [known.begin(config, ServerState(), {}, loop) for _ in range(40)]
        count = sum(known.take(each, address(number)) for number, each in enumerate(made))
        for each in made:
            known.leave(each)
        again = sum(known.take(each, address(number)) for number, each in enumerate(made))
        assert again == count
        loop.close()
        return count

    assert taken(lambda number: "192.0.2.1") == 10
    assert taken(lambda number: f"2001:db8::{number:x}") == 10
    assert taken(lambda number: f"2001:db8:0:{number % 2}::1") == 20
    assert taken(lambda number: f"192.0.2.{number}") == 30
    assert taken(lambda number: "127.0.0.1") == taken(lambda number: "::1") == 30
    assert taken(lambda number: "192.0.2.1", proxy="192.0.2.1") == 30


def test_serve_refuses_what_is_no_gallery(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", "-g", str(tmp_path), "--address", "127.0.0.1:0"]) == 2
    assert "no gallery there" in capsys.readouterr().err


@contextmanager
def started(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The command in a process of its own, and the address of its page."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        [sys.executable, "run_pipeline.py", *arguments],
        cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    ) as process:  # fmt: skip
        try:
            said = ""
            for line in process.stdout or ():
                said += line
                if "http://" in line:
                    break
            else:
                raise AssertionError(f"no address: {said}")
            yield process, "http://" + line.partition("http://")[2].split("/")[0]
        finally:
            process.kill()


def test_killed_while_it_writes_it_loses_the_request_and_nothing_else(gallery: Path) -> None:
    done: list[str] = []
    asked: list[str] = []
    for attempt in range(3):
        with (
            started("serve", "-g", str(gallery), "--address", "127.0.0.1:0", "-q") as (process, address),
            httpx.Client(base_url=f"{address}{API}", timeout=10) as client,
        ):
            client.headers["X-CSRF-Token"] = client.get("/session").json()["csrf"]
            killer = threading.Timer(2.0 + 0.13 * attempt, process.kill)
            killer.start()
            with suppress(httpx.HTTPError):
                for number in range(10_000):
                    name = f"case{attempt}-{number}"
                    assert client.post("/cases", json={"case_id": name}).status_code == 201
                    done.append(name)
                    assert client.post(f"/cases/{name}/items", json={"tracklets": ["gate-ann"]}).status_code == 201
                    begun = client.post(f"/cases/{name}/exports", json={"clips": False})
                    assert begun.status_code in (202, 503)  # too many wait
                    if begun.status_code == 202:
                        asked.append(begun.json()["export_id"])
            killer.join()
            assert process.wait(10) == -signal.SIGKILL
    assert min(len(done), len(asked)) > 3
    with (  # killed when it has just accepted some, with clips, which take a while
        started("serve", "-g", str(gallery), "--address", "127.0.0.1:0", "-q") as (process, address),
        httpx.Client(base_url=f"{address}{API}", timeout=10) as client,
    ):
        client.headers["X-CSRF-Token"] = client.get("/session").json()["csrf"]
        asked += [client.post("/cases/c1/exports", json={}).json()["export_id"] for _ in range(4)]
        process.kill()
        process.wait(10)
    assert main(["gallery", "verify", "-g", str(gallery)]) == 0
    assert main(["audit", "verify", "-g", str(gallery)]) == 0
    with up(gallery) as (_, client):
        items: list[Any] = []
        cursor = ""
        while cursor is not None:
            page = client.get(f"{API}/cases?limit=500{cursor and f'&cursor={cursor}'}").json()
            items, cursor = items + page["items"], page["next"]
        assert set(done) <= {each["case"] for each in items}
        ends = time.monotonic() + 60
        while (
            "running"
            in (states := {name: client.get(f"{API}/exports/{name}").json()["state"] for name in asked}).values()
        ):
            assert time.monotonic() < ends, states
            time.sleep(0.2)
        assert set(states.values()) == {"done"}  # what was accepted is written, by one server or the next
        for name in asked[-5:]:
            assert client.get(f"{API}/exports/{name}/verify").json()["findings"] == []
    assert not list((gallery / "exports").glob("*.part"))


def test_it_ends_well_when_told_to_while_somebody_listens(gallery: Path) -> None:
    with (
        started("serve", "-g", str(gallery), "--address", "127.0.0.1:0", "-q") as (process, address),
        httpx.stream("GET", f"{address}{API}/events", timeout=10) as events,
    ):
        assert events.status_code == 200
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0


def test_a_run_serves_its_page(recorded: Path, tmp_path: Path) -> None:
    config = json.loads((recorded / "config.json").read_text())
    config["output"] = {"root": str(tmp_path / "run"), "video": False}
    path = tmp_path / "site.yaml"
    path.write_text(json.dumps(config))
    seen: list[Any] = []
    pictures: list[bytes] = []
    with (
        started("run", "-c", str(path), "--serve", "127.0.0.1:0", "--no-progress") as (process, address),
        httpx.Client(base_url=f"{address}{API}", timeout=10) as client,
    ):
        with suppress(httpx.HTTPError):
            while process.poll() is None:
                seen.append(client.get("/site").json())
                picture = client.get("/cameras/gate/picture")
                pictures += [picture.content] if picture.status_code == 200 else []
        assert process.wait(60) == 0
    assert all(each.startswith(b"\xff\xd8") for each in pictures)
    assert pictures
    assert any(each["pipeline"]["running"] for each in seen)
    assert {camera["camera_id"] for each in seen for camera in each["cameras"]} == {"gate", "dock"}
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert report["cameras"]["gate"]["frames_processed"] == 75


def test_a_run_goes_on_while_its_page_is_attacked(recorded: Path, tmp_path: Path) -> None:
    config = json.loads((recorded / "config.json").read_text())
    config["output"] = {"root": str(tmp_path / "run"), "video": False}
    path = tmp_path / "site.yaml"
    path.write_text(json.dumps(config))
    bomb = io.BytesIO()
    Image.new("1", (19_000, 19_000)).save(bomb, "PNG")
    answers: Counter[tuple[str, int]] = Counter()
    with (
        started("run", "-c", str(path), "--serve", "127.0.0.1:0", "--no-progress") as (process, address),
        httpx.Client(base_url=f"{address}{API}", timeout=30) as client,
    ):
        ours = {"X-CSRF-Token": client.get("/session").json()["csrf"]}
        json_type, elsewhere = {**ours, "Content-Type": "application/json"}, {**ours, "Sec-Fetch-Site": "cross-site"}
        attacks = {
            "path": ("GET", "/tracklets/..%2f..%2f..%2fetc%2fpasswd/crops/best", {}),
            "nested": ("POST", "/cases", {"content": b"[" * 1_000_000, "headers": json_type}),
            "bomb": ("POST", "/queries", {"files": {"file": ("a.png", bomb.getvalue())}, "headers": ours}),
            "mistyped": ("POST", "/queries", {"files": {"file": ("a.png", b"MZ" * 5000)}, "headers": ours}),
            "forged": ("POST", "/cases", {"json": {"case_id": "evil"}, "headers": {"X-CSRF-Token": "0" * 64}}),
            "cross": ("POST", "/cases", {"json": {"case_id": "evil"}, "headers": elsewhere}),
        }
        with suppress(httpx.HTTPError):
            while process.poll() is None:
                for name, (method, where, said) in attacks.items():
                    answers[name, client.request(method, where, **said).status_code] += 1
        assert process.wait(60) == 0
    refused = {"path": {404}, "nested": {413}, "bomb": {413}, "mistyped": {415, 422}, "forged": {403}, "cross": {403}}
    assert {name for name, _ in answers} == refused.keys()
    assert all(status in refused[name] for name, status in answers), answers
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert [report["cameras"][name]["frames_processed"] for name in ("gate", "dock")] == [75, 75]
    assert report["tracklets"] == json.loads((recorded / "report.json").read_text())["tracklets"]


def test_a_fault_of_the_server_does_not_end_the_pipeline(
    gallery: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    door = open_door(gallery, ServerConfig(port=0))
    with served(gallery, door, device="cpu"):
        monkeypatch.setattr("uvicorn.Server.on_tick", _broken)
        time.sleep(0.5)
        with open_store(gallery) as store:  # as the run does beside it
            store.add(sighting_of(tracklet_of("gate-later", at=400.0), person=3))
    assert "the server ended" in caplog.text


async def _broken(*arguments: object) -> bool:
    raise RuntimeError("broken")
