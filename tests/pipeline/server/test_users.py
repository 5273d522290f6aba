"""The file of users and the commands that write it."""

import io
import json
import os
import stat
import time
from pathlib import Path

import pytest

from pipeline.cli import main
from pipeline.errors import UsageError
from pipeline.server.roles import Role
from pipeline.server.users import USERS, Users
from tests.pipeline.server.client import PASSWORD


def users(monkeypatch: pytest.MonkeyPatch, root: Path, *arguments: str, password: str = PASSWORD) -> int:
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{password}\n"))
    return main(["users", *arguments, "-g", str(root)])


def test_the_commands_add_list_change_and_remove(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert users(monkeypatch, tmp_path, "add", "ann", "--role", "viewer", "--camera", "gate", "--camera", "dock") == 0
    assert users(monkeypatch, tmp_path, "add", "bob", "--role", "admin") == 0
    capsys.readouterr()
    assert main(["users", "list", "-g", str(tmp_path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == [
        {"user": "ann", "role": "viewer", "cameras": ["dock", "gate"]},
        {"user": "bob", "role": "admin", "cameras": None},
    ]
    assert users(monkeypatch, tmp_path, "passwd", "bob", password=PASSWORD[::-1]) == 0
    known = Users(tmp_path / USERS)
    assert known.verify("bob", PASSWORD[::-1])
    assert known.verify("bob", PASSWORD) is None
    assert users(monkeypatch, tmp_path, "remove", "ann") == 0
    assert [each.name for each in known.all()] == ["bob"]


def test_the_last_user_goes_only_when_that_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert users(monkeypatch, tmp_path, "add", "ann", "--role", "admin") == 0
    assert users(monkeypatch, tmp_path, "remove", "ann") == 2
    assert "ann is the last user" in capsys.readouterr().err
    assert [each.name for each in Users(tmp_path / USERS).all()] == ["ann"]
    assert users(monkeypatch, tmp_path, "remove", "ann", "--last") == 0
    assert "nobody may log in until users add" in capsys.readouterr().out
    assert Users(tmp_path / USERS).all() == []
    assert users(monkeypatch, tmp_path, "list") == 0
    assert "nobody may log in until users add" in capsys.readouterr().out


def test_the_file_is_for_its_owner_and_holds_no_password(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert users(monkeypatch, tmp_path, "add", "ann", "--role", "viewer") == 0
    path = tmp_path / USERS
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert PASSWORD not in path.read_text()
    assert "$argon2id$" in path.read_text()
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("arguments", "password", "said"),
    [
        (["add", "ann", "--role", "viewer"], "short", "10 to 1024 characters"),
        (["add", "a/b", "--role", "viewer"], PASSWORD, "letters, digits"),
        (["passwd", "bob"], PASSWORD, "no user 'bob'"),
        (["remove", "bob"], PASSWORD, "nobody yet"),
    ],
)
def test_what_will_not_do_is_said(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    password: str,
    said: str,
) -> None:
    assert users(monkeypatch, tmp_path, *arguments, password=password) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / USERS).exists()


def test_a_name_is_given_once(tmp_path: Path) -> None:
    known = Users(tmp_path / USERS)
    known.add("ann", Role.VIEWER, None, PASSWORD)
    with pytest.raises(UsageError, match="exists already"):
        known.add("ann", Role.ADMIN, None, PASSWORD)


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"version": 2, "users": {}}', '{"version": 1, "users": {"a": 1}}'])
def test_a_damaged_file_lets_nobody_in(tmp_path: Path, text: str) -> None:
    (tmp_path / USERS).write_text(text)
    with pytest.raises(UsageError, match=r"users\.json"):
        Users(tmp_path / USERS)


def test_a_file_at_half_of_its_writing_changes_nothing_for_a_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / USERS
    Users(path).add("ann", Role.VIEWER, None, PASSWORD)
    known = Users(path)
    assert [each.name for each in known.all()] == ["ann"]
    whole = path.read_text()
    path.write_text(whole[:40])
    assert [each.name for each in known.all()] == ["ann"]
    path.rename(tmp_path / "aside")
    assert [each.name for each in known.all()] == ["ann"]
    path.unlink(missing_ok=True)  # an editor that puts a new file in the place of the old one
    assert [each.name for each in known.all()] == ["ann"]
    path.write_text(whole[:40])
    assert [each.name for each in known.all()] == ["ann"]
    long_ago = path.stat().st_mtime - 60
    os.utime(path, (long_ago, long_ago))
    with pytest.raises(UsageError, match="not a file of users"):
        known.all()
    path.write_text(whole)
    assert [each.name for each in known.all()] == ["ann"]
    monkeypatch.setattr("pipeline.server.users._WRITING_SECONDS", 0.3)
    until = time.monotonic() + 0.4
    with pytest.raises(UsageError, match="not a file of users"):  # noqa: PT012 # however often it is written anew
        while time.monotonic() < until:
            path.write_text(whole[:40])
            known.all()
    path.write_text(whole.replace("ann", "eva"))
    assert [each.name for each in known.all()] == ["eva"]
    path.unlink()
    assert [each.name for each in known.all()] == ["eva"]
    time.sleep(0.35)
    assert known.all() == []


def test_a_file_that_came_back_as_it_was_may_be_half_written_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.server.users._WRITING_SECONDS", 0.3)
    path, aside = tmp_path / USERS, tmp_path / "aside"
    Users(path).add("ann", Role.VIEWER, None, PASSWORD)
    known = Users(path)
    path.rename(aside)
    assert [each.name for each in known.all()] == ["ann"]
    aside.rename(path)
    assert [each.name for each in known.all()] == ["ann"]
    time.sleep(0.35)
    path.write_text("{")
    assert [each.name for each in known.all()] == ["ann"]
