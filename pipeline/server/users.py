"""The file of those who may log in: names, roles, cameras and hashes of passwords (Argon2id)."""

import json
import os
import secrets
import threading
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

from argon2 import PasswordHasher
from argon2.exceptions import Argon2Error, InvalidHashError

from pipeline.errors import UsageError
from pipeline.server.roles import Role

USERS = "users.json"
LEAST_PASSWORD = 10
_VERSION = 1
_WRITING_SECONDS = 2.0  # somebody's editor may be at half of it: so long those of before count
_HASHER = PasswordHasher()


class UsersFileError(UsageError):
    """The file of users cannot be read as one."""


@dataclass(frozen=True, slots=True)
class User:
    """Somebody who may log in.

    Attributes:
        name: Letters, digits, '_', '-', '.' and '@'.
        role: What they are.
        cameras: Those that they may see; None is all.
        hash: Of the password.
    """

    name: str
    role: Role
    cameras: tuple[str, ...] | None
    hash: str

    @property
    def camera_set(self) -> frozenset[str] | None:
        """Those that they may see; None is all."""
        return None if self.cameras is None else frozenset(self.cameras)


class Users:
    """The users of a file; a change of the file counts at once. Safe to use from several threads.

    For two seconds in which it cannot be read or is gone, those of before count: it may be half written.
    """

    def __init__(self, path: Path) -> None:
        """Read the file; one that is not there has nobody in it.

        Raises:
            UsageError: When it cannot be read as one.
        """
        self.path = path
        self._lock = threading.Lock()
        self._stamp: tuple[int, int] | None = None
        self._failing: float | None = None  # since when the file cannot be read
        self._users: dict[str, User] = {}
        self._refresh()

    def __len__(self) -> int:
        return len(self.all())

    def all(self) -> list[User]:
        """Everybody, by name."""
        with self._lock:
            self._refresh()
            return [self._users[name] for name in sorted(self._users)]

    def get(self, name: str) -> User | None:
        """Somebody; None when nobody is called so."""
        with self._lock:
            self._refresh()
            return self._users.get(name)

    def hash_of(self, name: str) -> str:
        """Of somebody's password; empty for nobody's."""
        found = self.get(name)
        return "" if found is None else found.hash

    def verify(self, name: str, password: str) -> User | None:
        """Who gave the right password; takes as long for a wrong name as for a wrong password."""
        found = self.get(name)
        try:
            _HASHER.verify(found.hash if found else _nobodys_hash(), password)
        except (Argon2Error, InvalidHashError):
            return None
        return found

    def add(self, name: str, role: Role, cameras: Iterable[str] | None, password: str) -> None:
        """Let somebody in.

        Raises:
            UsageError: When there is somebody of this name, or name or password will not do.
        """
        if self.get(name) is not None:
            raise UsageError(f"user {name!r} exists already; users passwd gives a new password")
        _check_name(name)
        _check_password(password)
        chosen = None if cameras is None else tuple(sorted(set(cameras)))
        self._put({**self._users, name: User(name, role, chosen, _HASHER.hash(password))})

    def remove(self, name: str, *, last: bool = False) -> None:
        """Let somebody in no more; their sessions end at once.

        Args:
            name: Of the user.
            last: Whether they may be the last one.

        Raises:
            UsageError: When there is nobody of this name, or nobody else.
        """
        self._require(name)
        if len(self) == 1 and not last:
            raise UsageError(f"{name} is the last user, after whom nobody may log in: add another first, or say --last")
        self._put({each: user for each, user in self._users.items() if each != name})

    def set_password(self, name: str, password: str) -> None:
        """Give somebody another password; their sessions end at once.

        Raises:
            UsageError: When there is nobody of this name, or the password will not do.
        """
        user = self._require(name)
        _check_password(password)
        self._put({**self._users, name: User(name, user.role, user.cameras, _HASHER.hash(password))})

    def _require(self, name: str) -> User:
        found = self.get(name)
        if found is None:
            names = ", ".join(each.name for each in self.all()) or "nobody yet"
            raise UsageError(f"no user {name!r} in {self.path}: {names}")
        return found

    def _put(self, users: dict[str, User]) -> None:
        """Write the file, whole or not at all, for its owner only."""
        plain = {name: {key: value for key, value in asdict(user).items() if key != "name"}
                 for name, user in sorted(users.items())}  # fmt: skip
        text = json.dumps({"version": _VERSION, "users": plain}, indent=1) + "\n"
        part = self.path.with_name(f"{self.path.name}.part")
        with self._lock:
            part.unlink(missing_ok=True)
            handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            part.replace(self.path)
            self._users, self._stamp = users, None

    def _refresh(self) -> None:
        """Read the file when it has changed; for a moment it may be half written, or gone while another comes."""
        stamp = self._stamp_now()
        if stamp == self._stamp:
            self._failing = None
            return
        try:
            users = _read(self.path) if stamp else {}
        except UsersFileError:
            if self._is_being_written(stamp):
                return
            raise
        if stamp is None and self._is_being_written(stamp):
            return
        self._users, self._stamp, self._failing = users, stamp, None

    def _is_being_written(self, stamp: tuple[int, int] | None) -> bool:
        """Whether the file was whole before, was written just now, and has not failed for long."""
        self._failing = self._failing or time.monotonic()
        is_new = stamp is None or abs(time.time() - stamp[0] / 1e9) < _WRITING_SECONDS
        return self._stamp is not None and is_new and time.monotonic() - self._failing < _WRITING_SECONDS

    def _stamp_now(self) -> tuple[int, int] | None:
        try:
            found = self.path.stat()
        except FileNotFoundError:
            return None
        return found.st_mtime_ns, found.st_ino


@cache
def _nobodys_hash() -> str:
    """Of a password that nobody has: trying an unknown name takes as long as trying a wrong password."""
    return _HASHER.hash(secrets.token_urlsafe(32))


def _read(path: Path) -> dict[str, User]:
    try:
        plain = json.loads(path.read_text(encoding="utf-8"))
        if plain["version"] != _VERSION:
            raise UsersFileError(f"{path}: is of version {plain['version']}, this program knows {_VERSION}")
        return {name: _user(name, each) for name, each in plain["users"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsersFileError(f"{path}: not a file of users: {type(error).__name__}: {error}") from None


def _user(name: str, plain: dict[str, Any]) -> User:
    cameras = plain["cameras"]
    return User(name, Role(plain["role"]), None if cameras is None else tuple(map(str, cameras)), str(plain["hash"]))


def _check_name(name: str) -> None:
    if not name or len(name) > 64 or not all(each.isalnum() or each in "_-.@" for each in name):
        raise UsageError(f"a user's name must be of letters, digits, '_', '-', '.' and '@', got {name!r}")


def _check_password(password: str) -> None:
    if not LEAST_PASSWORD <= len(password) <= 1024:
        raise UsageError(f"a password must have {LEAST_PASSWORD} to 1024 characters, this one has {len(password)}")
