"""Rows of the audit, of several searches in one transaction: what waits while the disk writes goes with the next."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.audit import Actor, Audit
from pipeline.server.workers import Workers
from pipeline.store import Store


@dataclass(frozen=True, slots=True, eq=False)
class _Row:
    actor: Actor
    action: str
    details: Mapping[str, Any]
    subjects: Sequence[str]
    done: "asyncio.Future[None]"


class Recorder:
    """Adds rows to the audit; each is durable when its `record` returns."""

    def __init__(self, writer: Workers, audit_of: Callable[[Store], Audit]) -> None:
        """Nothing waits yet.

        Args:
            writer: The thread that writes to the gallery.
            audit_of: Gives the audit of a store.
        """
        self._writer = writer
        self._audit_of = audit_of
        self._waiting: list[_Row] = []
        self._writing: asyncio.Task[None] | None = None

    async def record(self, actor: Actor, action: str, details: Mapping[str, Any], subjects: Sequence[str]) -> None:
        """Add a row; see `Audit.record`.

        Raises:
            ResourceError: When it cannot be kept; then no row that waited with it was.
        """
        row = _Row(actor, action, details, subjects, asyncio.get_running_loop().create_future())
        self._waiting.append(row)
        if self._writing is None or self._writing.done():
            self._writing = asyncio.create_task(self._write())
        await row.done

    async def _write(self) -> None:
        while self._waiting:
            rows, self._waiting = self._waiting, []
            try:
                await self._writer.use(lambda store, rows=rows: self._append(store, rows))  # type: ignore[misc]
            except Exception as error:  # noqa: BLE001 (it is raised where each row was asked for)
                for row in rows:
                    if not row.done.done():
                        row.done.set_exception(error)
            else:
                for row in rows:
                    if not row.done.done():
                        row.done.set_result(None)

    def _append(self, store: Store, rows: Sequence[_Row]) -> None:
        audit = self._audit_of(store)
        with store.writing() as db:
            for row in rows:
                audit.append(db, row.actor, row.action, row.details, subjects=row.subjects)
        audit.copy()
