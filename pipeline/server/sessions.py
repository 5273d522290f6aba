"""Who has logged in: sessions with an end, and limits to how often something may be done."""

import secrets
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from http import HTTPStatus

from pipeline.config import ServerConfig
from pipeline.server.access import Caller
from pipeline.server.problems import ProblemError
from pipeline.server.users import Users

COOKIE = "session"
_MOST_SESSIONS = 10_000
_MOST_WATCHED = 10_000  # keys of a limit


@dataclass(slots=True)
class _Session:
    user: str
    password_hash: str
    csrf: str
    expires: datetime
    seen: float


class Sessions:
    """Sessions of this process; only hashes of their tokens are kept. Safe to use from several threads."""

    def __init__(self, settings: ServerConfig) -> None:
        self._hours = settings.session_hours
        self._idle_seconds = 60 * settings.idle_minutes
        self._sessions: OrderedDict[str, _Session] = OrderedDict()
        self._lock = threading.Lock()

    def begin(self, user: str, users: Users) -> str:
        """A new session of somebody who gave the right password; returns its token."""
        token = secrets.token_urlsafe(32)
        expires = datetime.now(UTC) + timedelta(hours=self._hours)
        made = _Session(user, users.hash_of(user), secrets.token_urlsafe(32), expires, time.monotonic())
        with self._lock:
            while len(self._sessions) >= _MOST_SESSIONS:
                self._sessions.popitem(last=False)
            self._sessions[_key(token)] = made
        return token

    def caller_of(self, token: str, users: Users, *, asks: bool = True) -> Caller | None:
        """Whose session it is; None when it is unknown or over, or the user is gone or has another password.

        Args:
            token: Of the cookie.
            users: As they are now.
            asks: Whether this is a request, from which the time without one counts anew.
        """
        key = _key(token)
        with self._lock:
            found = self._sessions.get(key)
            if found is None:
                return None
            user = users.get(found.user)
            idle = time.monotonic() - found.seen
            if (
                user is None
                or user.hash != found.password_hash
                or datetime.now(UTC) >= found.expires
                or idle > self._idle_seconds
            ):
                del self._sessions[key]
                return None
            if asks:
                found.seen = time.monotonic()
            return Caller(found.user, user.role, user.camera_set, found.csrf, key, found.expires)

    def end(self, key: str) -> None:
        """Log out."""
        with self._lock:
            self._sessions.pop(key, None)


def _key(token: str) -> str:
    return sha256(token.encode()).hexdigest()


class Origins:
    """From where each user has logged in since the start: there they are known. Safe to use from several threads."""

    def __init__(self) -> None:
        self._known: OrderedDict[tuple[str, str], None] = OrderedDict()
        self._lock = threading.Lock()

    def add(self, user: str, origin: str) -> None:
        """They logged in from there."""
        with self._lock:
            self._known[user, origin] = None
            self._known.move_to_end((user, origin))
            while len(self._known) > _MOST_WATCHED:
                self._known.popitem(last=False)

    def knows(self, user: str, origin: str) -> bool:
        """Whether they did."""
        with self._lock:
            return (user, origin) in self._known


class RateLimit:
    """So many a minute under each key. Safe to use from several threads."""

    def __init__(self, most: int, what: str) -> None:
        """Nothing was counted yet.

        Args:
            most: A minute.
            what: Is limited, in words.
        """
        self._most = most
        self._what = what
        self._counted: OrderedDict[str, list[float]] = OrderedDict()
        self._lock = threading.Lock()

    def check(self, *keys: str) -> None:
        """Count one more under each of them.

        Raises:
            ProblemError: 429, when there were too many under one.
        """
        now = time.monotonic()
        with self._lock:
            for key in keys:
                recent = [at for at in self._counted.pop(key, []) if now - at < 60]
                if len(recent) >= self._most:
                    self._counted[key] = recent
                    wait = str(int(61 - (now - recent[0])))
                    detail = f"too many {self._what}: at most {self._most} a minute; wait {wait} s"
                    raise ProblemError(HTTPStatus.TOO_MANY_REQUESTS, detail, headers={"Retry-After": wait})
                self._counted[key] = [*recent, now]
            while len(self._counted) > _MOST_WATCHED:
                self._counted.popitem(last=False)

    def withdraw(self, key: str) -> None:
        """The last one that was counted under it does not count."""
        with self._lock:
            if counted := self._counted.get(key):
                counted.pop()

    def forget(self, key: str) -> None:
        """What was counted under it does not count any more."""
        with self._lock:
            self._counted.pop(key, None)

    def count(self, key: str) -> int:
        """How many there were under it within the last minute."""
        now = time.monotonic()
        with self._lock:
            return sum(now - at < 60 for at in self._counted.get(key, []))
