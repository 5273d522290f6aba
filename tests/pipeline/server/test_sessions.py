"""Logging in, and everything that ends a session."""

import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from types import SimpleNamespace

import pytest

from pipeline.audit import Audit
from pipeline.config import ServerConfig
from pipeline.server.origins import origin_of
from pipeline.server.roles import Role
from pipeline.server.sessions import Sessions
from pipeline.server.users import USERS, Users
from pipeline.store import Store
from tests.pipeline.server.client import API, PASSWORD, Client
from tests.pipeline.server.conftest import Serve, add_users


@pytest.fixture
def ann(gallery: Path) -> Path:
    add_users(gallery, ("ann", Role.OPERATOR, ["gate"]))
    return gallery


def test_a_session_begins_with_the_right_password_only(ann: Path, serve: Serve) -> None:
    client = serve(ann, users=True)
    assert client.get("/session").status_code == 401
    wrong, unknown = client.login("ann", "wrong password"), client.login("nobody", "wrong password")
    assert (wrong.status_code, unknown.status_code) == (401, 401)
    assert wrong.json()["detail"] == unknown.json()["detail"]
    answer = client.login("ann")
    assert answer.status_code == 201
    cookie = answer.headers["set-cookie"]
    assert all(each in cookie for each in ("HttpOnly", "SameSite=strict", "Path=/"))
    told = client.get("/session").json()
    assert (told["user"], told["role"], told["cameras"], told["local"]) == ("ann", "operator", ["gate"], False)
    assert "decide" in told["permissions"]
    assert "audit" not in told["permissions"]


def test_logging_out_ends_it(ann: Path, serve: Serve) -> None:
    client = serve(ann, users=True)
    client.login("ann")
    token = client.raw.cookies["session"]
    assert client.delete("/session").status_code == 204
    client.raw.cookies.set("session", token)
    assert client.get("/session").status_code == 401


def test_a_removed_user_and_a_changed_password_end_it_at_once(ann: Path, serve: Serve) -> None:
    client = serve(ann, users=True)
    client.login("ann")
    Users(ann / USERS).set_password("ann", "another password")
    assert client.get("/session").status_code == 401
    assert client.login("ann").status_code == 401
    assert client.login("ann", "another password").status_code == 201
    Users(ann / USERS).add("bob", Role.VIEWER, None, PASSWORD)
    assert client.get("/session").status_code == 200
    Users(ann / USERS).remove("ann")
    assert client.get("/session").status_code == 401


def test_idle_and_old_sessions_end(ann: Path, serve: Serve) -> None:
    idle, old = serve(ann, users=True, idle_minutes=0.2 / 60), serve(ann, users=True, session_hours=0.2 / 3600)
    for client in (idle, old):
        client.login("ann")
        client.raw.cookies.jar.clear_expired_cookies()
        token = client.raw.cookies.get("session")
        time.sleep(0.3)
        client.raw.cookies.clear()
        client.raw.cookies.set("session", token or "gone")
        assert client.get("/session").status_code == 401


def test_who_only_listens_does_not_keep_a_session(ann: Path) -> None:
    """An open stream of events looks whether the session goes on; a request makes the time count anew."""
    users = Users(ann / USERS)
    sessions = Sessions(ServerConfig(idle_minutes=0.3 / 60))
    token = sessions.begin("ann", users)
    for asks in (True, False):
        time.sleep(0.2)
        assert sessions.caller_of(token, users, asks=asks) is not None
    time.sleep(0.2)
    assert sessions.caller_of(token, users, asks=False) is None


@pytest.mark.parametrize(
    ("headers", "status"),
    [({}, 200), ({"X-Background": "1"}, 401), ({"Sec-Fetch-Dest": "image"}, 401), ({"Sec-Fetch-Dest": "empty"}, 200)],
)
def test_what_a_page_asks_for_by_itself_does_not_keep_a_session(
    ann: Path, serve: Serve, monkeypatch: pytest.MonkeyPatch, headers: dict[str, str], status: int
) -> None:
    client = serve(ann, users=True, idle_minutes=10)
    client.login("ann")
    now = time.monotonic()
    for minutes in (6, 12):
        clock = SimpleNamespace(monotonic=lambda later=now + 60 * minutes: later)
        monkeypatch.setattr("pipeline.server.sessions.time", clock)
        last = client.get("/site", headers=headers).status_code
    assert last == status


def test_passwords_cannot_be_tried_for_long(ann: Path, serve: Serve) -> None:
    client = serve(ann, users=True, logins_per_minute=3)
    for _ in range(3):
        assert client.login("ann", "wrong password").status_code == 401
    refused = client.login("ann")
    assert refused.status_code == 429
    assert 1 <= int(refused.headers["retry-after"]) <= 61
    assert client.login("somebody else").status_code == 429  # from the same address


def test_who_has_an_account_cannot_try_those_of_others_for_longer(ann: Path, serve: Serve) -> None:
    add_users(ann, ("bob", Role.VIEWER, None))
    client = serve(ann, users=True, logins_per_minute=3)
    told = []
    for name in ("eve", "kim", "zoe", "ann"):
        told.append(client.login("bob").status_code)
        told.append(client.login(name, "wrong password").status_code)
    assert told == [201, 401, 201, 401, 201, 401, 429, 429]


def login_from(client: Client, address: str, password: str) -> int:
    headers = {"X-Forwarded-For": address}
    asked = {"user": "ann", "password": password}
    return client.raw.post(f"{API}/session", json=asked, headers=headers).status_code


def test_nobody_is_locked_out_by_what_comes_from_elsewhere(ann: Path, serve: Serve) -> None:
    """But a name cannot be tried from everywhere without an end either, except where its user has logged in."""
    client = serve(ann, users=True, logins_per_minute=3, trusted_proxy="testclient")
    assert [login_from(client, "10.0.0.1", "wrong password") for _ in range(4)] == [401, 401, 401, 429]
    assert login_from(client, "10.0.0.2", PASSWORD) == 201
    tried = [login_from(client, f"10.0.1.{at}", "wrong password") for at in range(31)]
    assert tried == [401] * 30 + [429]
    assert login_from(client, "10.0.0.3", PASSWORD) == 429
    assert [login_from(client, "10.0.0.2", PASSWORD) for _ in range(5)] == [201] * 5
    assert login_from(client, "10.0.1.99", "wrong password") == 429  # what others tried counts still
    assert [login_from(client, "10.0.0.2", "wrong password") for _ in range(4)] == [401, 401, 401, 429]


def test_addresses_of_one_network_are_one(ann: Path, serve: Serve) -> None:
    """Whoever has an IPv6 address has 2**64: they cannot use up the attempts at a name."""
    client = serve(ann, users=True, logins_per_minute=3, trusted_proxy="testclient")
    tried = [login_from(client, f"2001:db8:0:1::{at:x}", "wrong password") for at in range(1, 40)]
    assert tried == [401] * 3 + [429] * 36
    assert login_from(client, "2001:db8:0:2::1", PASSWORD) == 201


@pytest.mark.parametrize(
    ("address", "origin"),
    [
        ("192.0.2.7", "192.0.2.7"), ("::ffff:192.0.2.7", "192.0.2.7"), ("2001:DB8::1", "2001:db8::/64"),
        ("2001:db8::ffff:1", "2001:db8::/64"), ("fe80::1%eth0", "fe80::/64"), ("somebody", "somebody"),
    ],
)  # fmt: skip
def test_limits_count_by_host(address: str, origin: str) -> None:
    assert origin_of(address) == origin


def test_who_tries_passwords_keeps_nobody_from_reading(
    ann: Path, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = serve(ann, users=True)
    client.login("ann")
    go_on = threading.Event()
    monkeypatch.setattr(Users, "verify", lambda *asked: go_on.wait(30) and None)
    asked = {"user": "ann", "password": "wrong password"}
    with ThreadPoolExecutor(6) as pool:
        tried = [pool.submit(client.raw.post, f"{API}/session", json=asked) for _ in range(5)]
        time.sleep(0.3)
        looks = pool.submit(client.get, "/tracklets")
        wait([looks], 5)
        was_answered = looks.done()
        go_on.set()
    assert was_answered
    assert looks.result().status_code == 200
    assert [each.result().status_code for each in tried] == [401] * 5


def test_the_right_password_does_not_count(ann: Path, serve: Serve) -> None:
    client = serve(ann, users=True, logins_per_minute=3)
    for _ in range(2):
        assert client.login("ann", "wrong password").status_code == 401
        assert [client.login("ann").status_code for _ in range(4)] == [201] * 4


def test_who_logs_in_or_fails_to_is_logged_and_in_the_audit(
    ann: Path, serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    client = serve(ann, users=True)
    client.login("ann", "wrong password")
    client.login("hunter2hunter2", "ann")  # the password in the wrong field
    client.login("ann")
    client.delete("/session")
    with Store.read(ann) as store:
        rows = [(each.actor, each.action, each.details) for each in Audit(store).rows()][-4:]
        assert Audit(store).verify().findings == ()
    address = {"address": "testclient"}
    assert rows == [
        ("ann", "login_failed", address),
        ("unknown", "login_failed", address),
        ("ann", "login", address),
        ("ann", "logout", address),
    ]
    assert "login failed: user ann, from testclient, which makes 1 within a minute" in caplog.text
    assert "login failed: user unknown, from testclient, which makes 2 within a minute" in caplog.text
    assert "ann logged in from testclient" in caplog.text
    assert "ann logged out from testclient" in caplog.text
    assert "hunter2" not in caplog.text + json.dumps(rows)


def test_a_user_does_so_much_a_minute_and_may_still_look_and_leave(ann: Path, serve: Serve) -> None:
    client = serve(ann, users=True, actions_per_minute=3)
    client.login("ann")
    for _ in range(3):
        assert client.post("/search", {"examples": [{"tracklet_id": "nosuch"}]}).status_code == 404
    refused = client.post("/search", {"examples": [{"tracklet_id": "nosuch"}]})
    assert refused.status_code == 429
    assert "at most 3 a minute" in refused.json()["detail"]
    assert 1 <= int(refused.headers["retry-after"]) <= 61
    assert client.get("/tracklets").status_code == 200
    assert client.delete("/session").status_code == 204


def test_where_nobody_need_log_in_nobody_can(gallery: Path, serve: Serve) -> None:
    client = serve(gallery)
    told = client.get("/session").json()
    assert (told["local"], told["role"], told["cameras"]) == (True, "admin", None)
    assert client.raw.post(f"{API}/session", json={"user": "ann", "password": PASSWORD}).status_code == 409


def test_nothing_secret_is_logged(ann: Path, serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("DEBUG"):
        client = serve(ann, users=True)
        client.login("ann", "hunter2hunter2")
        client.login("ann")
        client.get("/tracklets")
    secrets = ("hunter2hunter2", PASSWORD, client.raw.cookies["session"], client.csrf or "?")
    assert not any(each in caplog.text for each in secrets)
