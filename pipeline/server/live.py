"""What happens as it happens: one look at gallery and pipeline a second, told to everybody who listens."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import StreamingResponse

from pipeline.errors import PipelineError, UsageError
from pipeline.replies import tracklet_reply
from pipeline.server.access import Caller
from pipeline.server.problems import ProblemError
from pipeline.server.roles import Permission
from pipeline.store import Store

if TYPE_CHECKING:
    from pipeline.server.desk import Desk

logger = logging.getLogger(__name__)

_LOOK_SECONDS = 1.0
_ALIVE_SECONDS = 15.0  # a comment so often, so that proxies keep the connection and the dead are noticed
_MOST_MISSED = 200  # tracklets that somebody who was cut off is told of
_MOST_WAITING = 1000  # events for one who does not read: then they are cut off, and come again by themselves
_MOST_LISTENERS = 200
_MOST_OF_ONE = 8  # streams of one user: the oldest is told to go, for its page may be gone and nobody noticed


@dataclass(frozen=True, slots=True)
class _Event:
    kind: str
    cameras: frozenset[str] | None  # whom it concerns is who sees one of them; None is everybody
    data: dict[str, Any]

    def text(self, caller: Caller) -> str:
        if self.kind == "gallery" and caller.cameras is not None:  # numbers that count what they may not see
            return "event: gallery\ndata: {}\n\n"
        last = self.data.get("tracklet_id") if self.kind in ("begin", "tracklet") else None
        name = f"id: {last}\n" if last else ""
        return f"{name}event: {self.kind}\ndata: {json.dumps(self.data, ensure_ascii=False)}\n\n"


@dataclass(slots=True, eq=False)
class _Listener:
    caller: Caller
    events: asyncio.Queue[_Event | None] = field(default_factory=lambda: asyncio.Queue(_MOST_WAITING))

    def wants(self, event: _Event) -> bool:
        if event.kind == "tracklet" and not self.caller.may(Permission.LOOK):
            return False
        return event.cameras is None or any(self.caller.sees(each) for each in event.cameras)


class Hub:
    """Everybody who listens."""

    def __init__(self, desk: "Desk") -> None:
        self.loop: asyncio.AbstractEventLoop | None = None  # once it runs
        self._desk = desk
        self._listeners: dict[_Listener, None] = {}  # the oldest first
        self._watching: asyncio.Task[None] | None = None
        self._row = 0
        self._change = -1
        self._cameras: dict[str, dict[str, Any]] = {}

    def stream(self, request: Request, caller: Caller, after: str | None = None) -> StreamingResponse:
        """Tell somebody what happens, until they leave or lose the right to know.

        Args:
            request: Its ``Last-Event-ID`` counts before ``after``.
            caller: Who listens.
            after: The tracklet that they were told last.

        Raises:
            ProblemError: 503, when too many listen.
        """
        if len(self._listeners) >= _MOST_LISTENERS and len(self._of(caller)) < _MOST_OF_ONE:
            raise ProblemError(HTTPStatus.SERVICE_UNAVAILABLE, "too many listen already", headers={"Retry-After": "30"})
        seen = request.headers.get("last-event-id", after or "")[:200]
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        return StreamingResponse(self._told(request, caller, seen), media_type="text/event-stream", headers=headers)

    def end(self) -> None:
        """Everybody is told that it is over; from any thread."""
        if self.loop is not None and not self.loop.is_closed():
            self.loop.call_soon_threadsafe(self._end)

    def _end(self) -> None:
        if self._watching is not None:
            self._watching.cancel()
        for each in list(self._listeners):
            _tell(each, None)

    async def _told(self, request: Request, caller: Caller, seen: str) -> AsyncIterator[str]:
        listener = _Listener(caller)
        self._listeners[listener] = None
        if self._watching is None or self._watching.done():
            self._row = -1
            self._watching = asyncio.create_task(self._watch())
        for oldest in self._of(caller)[:-_MOST_OF_ONE]:
            self._listeners.pop(oldest)
            _cut_off(oldest)
        try:
            yield "retry: 3000\n\n"
            for missed in await self._missed(seen):
                if self._renew(listener, request) and listener.wants(missed):
                    yield missed.text(listener.caller)
            if self._renew(listener, request):
                beginning = await self._desk.workers.use(partial(_beginning, listener.caller))
                yield beginning.text(listener.caller)
            while not await request.is_disconnected() and self._renew(listener, request):
                try:
                    async with asyncio.timeout(_ALIVE_SECONDS):
                        event = await listener.events.get()
                except TimeoutError:
                    yield ": alive\n\n"
                    continue
                if event is None or not self._renew(listener, request):
                    return
                if listener.wants(event):
                    yield event.text(listener.caller)
        finally:
            self._listeners.pop(listener, None)

    def _of(self, caller: Caller) -> list[_Listener]:
        """The streams of one user who has logged in, the oldest first."""
        return [each for each in self._listeners if caller.session and each.caller.user == caller.user]

    def _renew(self, listener: _Listener, request: Request) -> bool:
        """Whether the session goes on, with the rights of now: who only listens does not keep it from ending."""
        try:
            caller = self._desk.caller_of(request, asks=False)
        except PipelineError as error:
            logger.error("%s; who listens is cut off", error)
            return False
        if caller is None or not caller.may(Permission.SITE):
            return False
        listener.caller = caller
        return True

    async def _missed(self, seen: str) -> list[_Event]:
        """What came after a tracklet, when somebody was cut off."""

        def found(store: Store) -> list[_Event]:
            try:
                row = store.tracklet(seen).row
            except UsageError:
                return []  # erased meanwhile
            return self._tracklets_after(store, max(row, store.last_row - _MOST_MISSED))

        return await self._desk.workers.use(found) if seen else []

    async def _watch(self) -> None:
        """Look once a second for as long as somebody listens."""
        while self._listeners:
            try:
                events = await self._desk.workers.use(self._look)
            except Exception:
                logger.exception("the gallery could not be looked at; trying again")
                events = []
            for event in events:
                for listener in [each for each in self._listeners if each.wants(event)]:
                    _tell(listener, event)
            await asyncio.sleep(_LOOK_SECONDS)

    def _look(self, store: Store) -> list[_Event]:
        from pipeline.server.state import cameras_of  # looks at the desk, as this does

        last = store.last_row
        if self._row < 0:
            self._row = last
        events = self._tracklets_after(store, self._row)
        self._row = max(self._row, last)
        change = store.last_change
        if events or change != self._change:  # of what was removed nobody knows any more whom it concerned
            new = frozenset().union(*(each.cameras or () for each in events))
            concerned = new if change == self._change else None
            events.append(_Event("gallery", concerned, {"last_row": last, "last_change": change}))
            self._change = change
        cameras = {each["camera_id"]: each for each in cameras_of(self._desk, store, None)}
        for name, each in cameras.items():
            if self._cameras.get(name) != each:
                events.append(_Event("camera", frozenset({name}), each))
        self._cameras = cameras
        return events

    def _tracklets_after(self, store: Store, row: int) -> list[_Event]:
        zone = self._desk.zone
        return [
            _Event("tracklet", frozenset({each.camera_id}), tracklet_reply(each, zone))
            for each in store.by_rows(range(row + 1, store.last_row + 1))
            if each.rejected is None
        ]


def _beginning(caller: Caller, store: Store) -> _Event:
    """From here on all is told. Carries the newest tracklet that they may see, from which they can go on later."""
    among = "" if caller.cameras is None else " WHERE camera_id IN (SELECT value FROM json_each(?))"
    values = [] if caller.cameras is None else [json.dumps(sorted(caller.cameras))]
    newest = f"SELECT tracklet_id FROM tracklets WHERE row = (SELECT MAX(row) FROM tracklets{among})"  # noqa: S608
    with store.reading() as db:
        found = db.execute(newest, values).fetchone() if caller.may(Permission.LOOK) else None
    return _Event("begin", None, {"tracklet_id": found[0] if found else None})


def _tell(listener: _Listener, event: _Event | None) -> None:
    """Put an event into somebody's queue; who does not read is cut off, and comes again with the last id."""
    try:
        listener.events.put_nowait(event)
    except asyncio.QueueFull:
        _cut_off(listener)


def _cut_off(listener: _Listener) -> None:
    """End somebody's stream, whatever waits for them."""
    while not listener.events.empty():
        listener.events.get_nowait()
    listener.events.put_nowait(None)
