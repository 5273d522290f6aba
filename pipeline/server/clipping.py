"""The clip of a tracklet, made when somebody asks and kept in memory for a few minutes, for who asks again.

It is given again only while it would be made again: of the same tracklet with the same number, of a recording, or kept
views, that are there still. What an erasure or ageing took is forgotten when anybody next asks for a clip, and with
everything else after those minutes.
"""

import asyncio
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from pipeline.errors import UsageError
from pipeline.footage import Look, clip_of
from pipeline.server.recordings import recording_mark
from pipeline.server.workers import Workers
from pipeline.store import Store

if TYPE_CHECKING:
    from pipeline.server.desk import Desk

_MOST_BYTES = 64_000_000
_SECONDS = 600.0

_Mark: TypeAlias = tuple[Any, ...]
_Key: TypeAlias = tuple[str, bool]  # tracklet, and whether its box is drawn


@dataclass(frozen=True, slots=True, eq=False)
class _Kept:
    """A clip.

    Attributes:
        data: MP4.
        mark: Of what it was made.
        expiry: Forgets it.
    """

    data: bytes
    mark: _Mark
    expiry: asyncio.TimerHandle


class Clips:
    """The clips that were asked for last."""

    def __init__(self, desk: "Desk", root: Path) -> None:
        self._desk = desk
        self._workers = Workers(root, threads=1, name="clips", most_waiting=32)
        self._kept: OrderedDict[_Key, _Kept] = OrderedDict()
        self._making: dict[tuple[_Key, _Mark], asyncio.Future[bytes]] = {}
        self._change = -1

    def close(self) -> None:
        """End what is under way, and forget all."""
        self._workers.close()
        for key in list(self._kept):
            self._forget(key)

    async def get(self, tracklet_id: str, *, box: bool) -> bytes:
        """The MP4 of a tracklet that exists.

        Args:
            tracklet_id: Whose.
            box: Whether the box is drawn.

        Raises:
            UsageError: When there is no such tracklet, or neither recording nor views are there any more.
        """
        key, marks = (tracklet_id, box), {key: each.mark for key, each in self._kept.items()}
        mark, gone = await self._desk.workers.use(lambda store: self._look(store, tracklet_id, marks))
        for each in gone:
            self._forget(each)
        known = self._kept.get(key)
        if known is not None and known.mark == mark:
            self._kept.move_to_end(key)
            return known.data
        making = (key, mark)
        if making not in self._making:  # who asks for one that is being made waits for the same
            self._making[making] = asyncio.ensure_future(self._workers.use(lambda store: self._make(store, key)))
            self._making[making].add_done_callback(lambda done: self._making.pop(making, None))
        data = await asyncio.shield(self._making[making])
        self._keep(key, data, mark)
        return data

    def _keep(self, key: _Key, data: bytes, mark: _Mark) -> None:
        self._forget(key)
        expiry = asyncio.get_running_loop().call_later(_SECONDS, self._forget, key)
        self._kept[key] = _Kept(data, mark, expiry)
        while sum(len(each.data) for each in self._kept.values()) > _MOST_BYTES and len(self._kept) > 1:
            self._forget(next(iter(self._kept)))

    def _forget(self, key: _Key) -> None:
        if (found := self._kept.pop(key, None)) is not None:
            found.expiry.cancel()

    def _look(self, store: Store, tracklet_id: str, marks: dict[_Key, _Mark]) -> tuple[_Mark, list[_Key]]:
        """Of what a clip would be made, and which of the kept ones would not be made as they were."""
        change, gone = store.last_change, list[_Key]()
        if change != self._change:
            gone = [key for key, mark in marks.items() if not self._is_still(store, key[0], mark)]
            self._change = change
        return self._mark(store, tracklet_id), gone

    def _is_still(self, store: Store, name: str, mark: _Mark) -> bool:
        try:
            return self._mark(store, name) == mark
        except UsageError:
            return False

    def _mark(self, store: Store, tracklet_id: str) -> _Mark:
        own = store.tracklet(tracklet_id)
        views = tuple(path.name for path in store.crops(tracklet_id) if path.is_file())
        return own.row, own.person_id, recording_mark(self._desk.config, own.camera_id), views

    def _make(self, store: Store, key: _Key) -> bytes:
        data = clip_of(store, self._desk.config, key[0], Look(box=key[1])).data
        store.tracklet(key[0])  # or it was erased meanwhile
        return data
