"""The clip of a tracklet, made when somebody asks and kept in memory only: nothing of it is left after an erasure."""

import asyncio
from collections import OrderedDict
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.footage import Look, clip_of
from pipeline.server.workers import Workers
from pipeline.store import Store

if TYPE_CHECKING:
    from pipeline.server.desk import Desk

_MOST_BYTES = 64_000_000


class Clips:
    """The clips that were asked for last."""

    def __init__(self, desk: "Desk", root: Path) -> None:
        self._desk = desk
        self._workers = Workers(root, threads=1, name="clips", most_waiting=32)
        self._kept: OrderedDict[tuple[str, bool], bytes] = OrderedDict()
        self._making: dict[tuple[str, bool], asyncio.Future[bytes]] = {}

    def close(self) -> None:
        """End what is under way."""
        self._workers.close()

    async def get(self, tracklet_id: str, *, box: bool) -> bytes:
        """The MP4 of a tracklet that exists.

        Args:
            tracklet_id: Whose.
            box: Whether the box is drawn.

        Raises:
            UsageError: When neither recording nor views are there any more.
        """
        key = (tracklet_id, box)
        if (known := self._kept.get(key)) is not None:
            self._kept.move_to_end(key)
            return known
        if key not in self._making:  # who asks for one that is being made waits for the same
            self._making[key] = asyncio.ensure_future(self._workers.use(lambda store: self._make(store, key)))
            self._making[key].add_done_callback(lambda done: self._making.pop(key, None))
        data = await asyncio.shield(self._making[key])
        self._kept[key] = data
        while sum(map(len, self._kept.values())) > _MOST_BYTES and len(self._kept) > 1:
            self._kept.popitem(last=False)
        return data

    def _make(self, store: Store, key: tuple[str, bool]) -> bytes:
        return clip_of(store, self._desk.config, key[0], Look(box=key[1])).data
