"""How many may be connected, and for how long without saying anything: nobody shuts out others by being slow."""

import asyncio
from collections import Counter
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import h11
from uvicorn.config import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from pipeline.server.guard import App, Guard
from pipeline.server.origins import origin_of
from pipeline.server.problems import ProblemError, of_http


@dataclass(frozen=True, slots=True)
class Limits:
    """Of connections.

    Attributes:
        most: At a time. For one more, the one that waits longest without a question is closed.
        most_of_one: From one address, or one /64 of IPv6; the machine itself and the proxy may have them all.
        most_refused: Beyond these that are told so; others are cut without a word.
        head_seconds: In which a question's headers must be there.
        body_seconds: In which the rest of it must be there.
    """

    most: int = 500
    most_of_one: int = 200
    most_refused: int = 100
    head_seconds: float = 20.0
    body_seconds: float = 120.0


class Connections:
    """All those of one server; used by the one thread of its loop."""

    def __init__(self, limits: Limits, *, proxy: str | None, secure: bool) -> None:
        """Nobody is connected yet.

        Args:
            limits: How many, for how long.
            proxy: Address through which all come.
            secure: Whether browsers reach the server by TLS only.
        """
        self.limits = limits
        self.busy = _busy(proxy=proxy, secure=secure)
        self._proxy = proxy
        self._taken: dict[Connection, str | None] = {}
        self._count: Counter[str] = Counter()
        self._refused: set[Connection] = set()

    def begin(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> "Connection":
        """One of uvicorn's protocols, which asks for it by these names."""
        return Connection(self, config, server_state, app_state, _loop)

    def take(self, made: "Connection", address: str | None) -> bool:
        """Whether somebody who has connected is answered; who is not is told that, or cut off."""
        if len(self._taken) >= self.limits.most:
            self._make_room()
        origin = None if address is None or self._is_of_many(address) else origin_of(address)
        if len(self._taken) < self.limits.most and self._count[origin or ""] < self.limits.most_of_one:
            self._taken[made] = origin
            if origin is not None:
                self._count[origin] += 1
            return True
        self._refused.add(made)
        if len(self._refused) > self.limits.most_refused:
            made.transport.abort()
        return False

    def leave(self, gone: "Connection") -> None:
        """It counts no more."""
        self._refused.discard(gone)
        origin = self._taken.pop(gone, None)
        if origin is not None:
            self._count[origin] -= 1
            if not self._count[origin]:
                del self._count[origin]

    def _make_room(self) -> None:
        idle = [each for each in self._taken if each.idle_since is not None]
        if idle:
            longest = min(idle, key=lambda each: each.idle_since or 0.0)
            self.leave(longest)
            longest.transport.abort()

    def _is_of_many(self, address: str) -> bool:
        return address == self._proxy or address.startswith(("127.", "::ffff:127.")) or address == "::1"


class Connection(H11Protocol):
    """One, which waits for a question only so long."""

    def __init__(
        self,
        others: Connections,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        loop: asyncio.AbstractEventLoop | None,
    ) -> None:
        super().__init__(config, server_state, app_state, loop)
        self.idle_since: float | None = None  # while no question has begun
        self._others = others
        self._awaited: object = None
        self._deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Somebody has connected."""
        super().connection_made(transport)
        if not self._others.take(self, self.client[0] if self.client else None):
            self.app = self._others.busy
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """They are gone."""
        self._await(None, 0.0)
        self._others.leave(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """More has come of what they say."""
        super().data_received(data)
        self._watch()

    def on_response_complete(self) -> None:
        """They may ask anew, when what they asked is here as a whole."""
        super().on_response_complete()
        self._watch()

    def _watch(self) -> None:
        """Begin to wait for what is due from them now; what comes of it bit by bit gives them no more time."""
        state = self.conn.their_state
        self.idle_since = (self.idle_since or self.loop.time()) if state is h11.IDLE else None
        limits = self._others.limits
        seconds = {h11.IDLE: limits.head_seconds, h11.SEND_BODY: limits.body_seconds}.get(state)
        self._await(None if seconds is None else state, seconds or 0.0)

    def _await(self, awaited: object, seconds: float) -> None:
        if awaited is self._awaited:
            return
        self._awaited = awaited
        if self._deadline is not None:
            self._deadline.cancel()
        self._deadline = None if awaited is None else self.loop.call_later(seconds, self.transport.close)


def _busy(*, proxy: str | None, secure: bool) -> App:
    headers = {"Retry-After": "5", "Connection": "close"}
    told = of_http(ProblemError(HTTPStatus.SERVICE_UNAVAILABLE, "too many are connected", headers=headers))
    return Guard(told, hosts=None, upload=("", 0), secure=secure, proxy=proxy)
