"""The threads that do what takes time, so that others are answered meanwhile: a bounded few, and no more wait.

One of the files with threads. Each thread has a store of its own, opened again when another database lies in its place.
Linux gives each thread a niceness of its own: these step back behind a pipeline in the same process.
"""

import asyncio
import logging
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from http import HTTPStatus
from pathlib import Path
from typing import TypeVar
from weakref import finalize

from pipeline.server.problems import ProblemError
from pipeline.store import DATABASE, Store

T = TypeVar("T")

logger = logging.getLogger(__name__)

_NICENESS = 5
_MOST_WAITING = 256


class Workers:
    """A few threads with the gallery open."""

    def __init__(
        self,
        root: Path,
        *,
        threads: int,
        name: str = "server",
        most_waiting: int = _MOST_WAITING,
        open_store: Callable[[Path], Store] = Store.read,
    ) -> None:
        """Nothing starts until there is work.

        Args:
            root: The gallery's folder.
            threads: At most so many at a time.
            name: Of the threads.
            most_waiting: Who comes when so many wait is sent away with 503.
            open_store: How the gallery is opened: to read, or to edit.
        """
        self._root = root
        self._open_store = open_store
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix=name, initializer=_step_back)
        self._own = threading.local()
        self._waiting = 0
        self._most_waiting = most_waiting

    async def use(self, job: Callable[[Store], T]) -> T:
        """Do something with the gallery."""
        return await self.run(lambda: job(self._store()))

    async def run(self, job: Callable[[], T]) -> T:
        """Do something else that takes time.

        Raises:
            ProblemError: 503, when too many wait already.
        """
        if self._waiting >= self._most_waiting:
            detail = "too many questions wait to be answered; ask again in a few seconds"
            raise ProblemError(HTTPStatus.SERVICE_UNAVAILABLE, detail, headers={"Retry-After": "5"})
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, job)
        finally:
            self._waiting -= 1

    def submit(self, job: Callable[[], object]) -> None:
        """Do something that nobody waits for; what goes wrong is told to the next one who needs it."""
        self._pool.submit(job)

    def close(self) -> None:
        """Finish what is under way; what waits is not begun. Each thread closes its store as it ends."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _store(self) -> Store:
        """This thread's."""
        path = self._root / DATABASE
        now = path.stat() if path.is_file() else None
        identity = None if now is None else (now.st_dev, now.st_ino)
        own: _Own | None = getattr(self._own, "opened", None)
        if own is not None and own.identity == identity:
            return own.store
        if own is not None:
            own.close()
            self._own.opened = None
        self._own.opened = own = _Own(self._open_store(self._root), identity)
        return own.store


class _Own:
    """A thread's store; closed at the latest when the thread ends, and with it what is local to it."""

    def __init__(self, store: Store, identity: tuple[int, int] | None) -> None:
        self.store, self.identity = store, identity
        self.close = finalize(self, store.close)
        self.close.atexit = False  # by then the threads, who alone may close theirs, are gone


def _step_back() -> None:
    """Make this thread yield to those of a pipeline; where the system knows no niceness of threads, nothing is done."""
    with suppress(AttributeError, OSError):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)
