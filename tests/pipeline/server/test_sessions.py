"""Logging in, and everything that ends a session."""

import time
from pathlib import Path

import pytest

from pipeline.config import ServerConfig
from pipeline.server.roles import Role
from pipeline.server.sessions import Sessions
from pipeline.server.users import USERS, Users
from tests.pipeline.server.client import API, PASSWORD
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


def test_passwords_cannot_be_tried_for_long(ann: Path, serve: Serve) -> None:
    client = serve(ann, users=True, logins_per_minute=3)
    for _ in range(3):
        assert client.login("ann", "wrong password").status_code == 401
    refused = client.login("ann")
    assert refused.status_code == 429
    assert 1 <= int(refused.headers["retry-after"]) <= 61
    assert client.login("somebody else").status_code == 429  # from the same address


def test_the_right_password_forgets_what_was_mistyped(ann: Path, serve: Serve) -> None:
    client = serve(ann, users=True, logins_per_minute=3)
    for _ in range(3):
        assert client.login("ann", "wrong password").status_code == 401
        assert client.login("ann").status_code == 201


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
