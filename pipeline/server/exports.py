"""Evidence that is exported: written one zip at a time, beside a note of what it is; both survive a restart.

An export that was accepted is written: when its server ends, or is killed, before it is, then by the next one that
starts on this gallery, or by another that runs there and is asked about it. What is erased meanwhile is not exported.
"""

import asyncio
import logging
import threading
from collections.abc import Coroutine, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from http import HTTPStatus
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from ulid import ULID

from pipeline.audit import Actor
from pipeline.bundle import BundleOptions, NoEvidenceError, verify_bundle, write_bundle
from pipeline.cases import Cases
from pipeline.errors import PipelineError, UsageError
from pipeline.export_files import (
    DONE,
    FAILED,
    NOTE_VERSION,
    RUNNING,
    ZIP_SUFFIX,
    Note,
    Shown,
    keep_note,
    note_path,
    note_paths,
    own_note,
    read_note,
    remove_export,
    remove_leftovers,
    shown_in_zip,
    take_over,
    zip_path,
)
from pipeline.losses import is_full
from pipeline.server.access import Caller
from pipeline.server.problems import ProblemError, not_found
from pipeline.server.schemas import NewExport
from pipeline.server.workers import Workers
from pipeline.sinks import rfc3339
from pipeline.store import Store, StoredTracklet

if TYPE_CHECKING:
    from pipeline.server.desk import Desk

logger = logging.getLogger(__name__)

_MOST_WAITING = 20
_MOST_ATTEMPTS = 5  # of one export: it may be what ends the server
_ENDED = "the server ended while it was written; export it again"
_FAILED = "it could not be written; the server's log says why"
_FULL = "there was no room on the disk for it; make some, and export it again"


class Exports:
    """The exports of a gallery."""

    def __init__(self, desk: "Desk", root: Path) -> None:
        """Those that an ended server left unfinished go on when this one has started: see `go_on`.

        Args:
            desk: Whose.
            root: The gallery's folder.
        """
        remove_leftovers(root)
        self._desk = desk
        self._root = root
        self._workers = Workers(root, threads=1, name="evidence", most_waiting=2 * _MOST_WAITING)
        self._progress: dict[str, float] = {}
        self._owned: dict[str, IO[bytes]] = {}  # of those that this server is to write
        self._owning = threading.Lock()
        self._stopping = threading.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._looking: dict[str, asyncio.Task[None]] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._left: list[Note] = []
        for note in [each for each in self._notes() if each.state != DONE]:
            if note.state == FAILED:
                self._is_to_be_written(note)  # its zip may be whole all the same
            elif (left := self._left_by_another(note_path(root, note.export_id))) is not None:
                self._left.append(left)

    def go_on(self) -> None:
        """Write, one after the other, what an ended server left; once the loop runs."""
        self._loop = asyncio.get_running_loop()
        self._begin_task(self._write_all(self._left))

    def close(self) -> None:
        """End what is under way: it goes on when a server starts again."""
        self._stopping.set()
        self._workers.close()
        for name in list(self._owned):
            self._let_go(name)

    async def begin(self, caller: Caller, case_id: str, asked: NewExport) -> dict[str, Any]:
        """Begin to write one; it goes on when the one who asked leaves.

        Raises:
            ProblemError: 409 when there is nothing to write, 503 when too many wait.
        """
        if len(self._tasks) >= _MOST_WAITING:
            detail = "too many exports wait already"
            raise ProblemError(HTTPStatus.SERVICE_UNAVAILABLE, detail, headers={"Retry-After": "60"})
        actor = self._desk.actor(caller, case_id=case_id, purpose=asked.purpose)
        note = await self._desk.workers.use(lambda store: self._planned(store, caller, actor, case_id, asked))
        await self._desk.workers.run(lambda: self._own(note))  # not where a long one may be written
        self._begin_task(self._write(note))
        return self._told(note)

    async def remove(self, caller: Caller, export_id: str, *, purpose: str | None = None) -> None:
        """Remove one; the audit says who did.

        Raises:
            ProblemError: 404 when there is none that the caller may see, 409 while it is being written, 422 when it
                does not say why where that is needed.
        """
        note = self._note(caller, export_id)
        if note.state == RUNNING:
            raise ProblemError(HTTPStatus.CONFLICT, f"export {export_id} is being written; remove it when it is done")
        actor = self._desk.actor(caller, case_id=note.case, purpose=purpose)
        await self._desk.workers.use(lambda store: self._require(store, actor))
        await self._desk.recorder.record(actor, "export_removed", {"export": export_id, "sha256": note.sha256}, ())
        await self._desk.workers.run(lambda: remove_export(self._root, export_id))

    def all(self, caller: Caller, *, case_id: str | None = None, before: str | None = None) -> list[dict[str, Any]]:
        """Newest first (before one), of those who might see no more cameras than the caller."""
        found = [each for each in self._notes() if _may_have(caller, each) and case_id in (None, each.case)]
        found = [each for each in found if before is None or each.export_id < before]
        return [self._told(each) for each in sorted(found, key=lambda each: each.export_id, reverse=True)]

    def get(self, caller: Caller, export_id: str) -> dict[str, Any]:
        """One.

        Raises:
            ProblemError: 404, when there is none that the caller may see.
        """
        return self._told(self._note(caller, export_id))

    def file(self, caller: Caller, export_id: str) -> Path:
        """The zip.

        Raises:
            ProblemError: 404 when there is none that the caller may see, 409 while it is being written.
        """
        note = self._note(caller, export_id)
        if note.state != DONE:
            raise ProblemError(HTTPStatus.CONFLICT, f"export {export_id} is {note.state}")
        path = zip_path(self._root, note.export_id)
        if not path.is_file():
            raise not_found(f"zip of export {export_id} any more")
        return path

    def file_name(self, caller: Caller, export_id: str) -> str:
        """What the zip is called where it is saved."""
        note = self._note(caller, export_id)
        return f"{note.case}-{note.export_id}{ZIP_SUFFIX}"

    async def verify(self, caller: Caller, export_id: str) -> dict[str, Any]:
        """Compare the zip with its manifest, and its hash with the one that was noted when it was written."""
        path, note = self.file(caller, export_id), self._note(caller, export_id)
        if caller.session:
            self._desk.actions.check(caller.user)  # it reads all of the zip
        found = await self._desk.decoders.run(lambda: verify_bundle(path))
        findings = list(found.findings)
        if found.sha256 != note.sha256:
            findings.append("the zip is not the one that was written: its SHA-256 is another")
        return {"files": found.files, "sha256": found.sha256, "findings": findings, "notes": list(found.notes)}

    def _require(self, store: Store, actor: Actor) -> None:
        try:
            self._desk.audit(store).require(actor)
        except UsageError as error:
            raise ProblemError(HTTPStatus.UNPROCESSABLE_ENTITY, str(error), kind="purpose-required") from None

    def _planned(self, store: Store, caller: Caller, actor: Actor, case_id: str, asked: NewExport) -> Note:
        self._require(store, actor)
        items = [store.tracklet(each) for each in Cases(store).items(case_id)]
        items = [each for each in items if caller.sees(each.camera_id)]
        if not items:
            raise ProblemError(HTTPStatus.CONFLICT, f"case {case_id} holds no tracklet: there is no evidence to write")
        return Note(
            export_id=str(ULID()),
            case=case_id,
            state=RUNNING,
            created=rfc3339(datetime.now(UTC)),
            by=actor.name,
            blur_others=asked.blur_others,
            tracklets=_shown(items),
            cameras=None if caller.cameras is None else tuple(sorted(caller.cameras)),
            clips=asked.clips,
            purpose=actor.purpose,
        )

    def _begin_task(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _write_all(self, notes: Sequence[Note]) -> None:
        for each in notes:
            await self._write(each)

    async def _write(self, note: Note) -> None:
        self._progress.setdefault(note.export_id, 0.0)
        try:
            await self._workers.run(lambda: self._written(note))
        except Exception as error:
            if self._stopping.is_set():
                return  # it is still noted as running
            logger.exception("export %s failed", note.export_id)
            ended = replace(note, state=FAILED, error=_said(error))
            await self._desk.decoders.run(lambda: self._end_badly(ended))
        finally:
            self._progress.pop(note.export_id, None)
            self._let_go(note.export_id)

    def _written(self, note: Note) -> None:
        if not note_path(self._root, note.export_id).exists():
            return  # erased while it waited

        def on_progress(done: int, total: int) -> None:
            self._progress[note.export_id] = done / max(total, 1)

        options = BundleOptions(
            blur_others=note.blur_others,
            clips=note.clips,
            cameras=None if note.cameras is None else frozenset(note.cameras),
            export_id=note.export_id,
            on_progress=on_progress,
            should_stop=self._stopping.is_set,
        )
        note = replace(note, attempts=note.attempts + 1)
        self._own(note)
        actor, path = Actor(note.by, note.case, note.purpose), zip_path(self._root, note.export_id)
        with Store.edit(self._root) as store:
            done = write_bundle(store, self._desk.config, note.case, path, actor, options)
            shown = _shown([store.tracklet(each) for each in done.tracklets])
        self._end(replace(note, state=DONE, bytes=done.bytes, sha256=done.sha256, tracklets=shown))

    def _end(self, note: Note) -> None:
        """Note how an export ended; of one that an erasure took meanwhile, or is to take, nothing is left.

        An erasure takes the rows first and then looks for notes, and here it is the other way round: either it finds
        this note, or its rows are found to be gone.
        """
        if note_path(self._root, note.export_id).exists():
            keep_note(self._root, replace(note, version=NOTE_VERSION))
            with Store.read(self._root) as store:
                if all(store.has(each) for each in note.names):
                    return
        remove_export(self._root, note.export_id)

    def _end_badly(self, note: Note) -> None:
        try:
            self._end(self._whole(note) or note)
        except (OSError, PipelineError):
            logger.exception("export %s: how it ended could not be noted", note.export_id)

    def _is_to_be_written(self, note: Note) -> bool:
        """Whether what no server writes any more is to be written now, by this one; else how it ended is noted."""
        whole = self._whole(note)
        if whole is None and note.state == FAILED:
            return False
        again = whole is None and note.version == NOTE_VERSION and note.attempts < _MOST_ATTEMPTS
        if again and not zip_path(self._root, note.export_id).exists():
            return True
        with suppress(OSError, PipelineError):  # a full disk: it is tried again at the next start
            self._end(whole or replace(note, state=FAILED, error=_ENDED))
        return False

    def _left_by_another(self, path: Path) -> Note | None:
        """What is to be written, and is this server's from now on; None where a server writes it, or none has to."""
        name = path.stem
        with self._owning:
            if name in self._owned or (owned := take_over(self._root, name)) is None:
                return None
            self._owned[name] = owned
        note = self._read(path)  # as it is now that nobody else changes it
        if note is not None and note.state == RUNNING and self._is_to_be_written(note):
            return note
        self._let_go(name)
        return None

    def _look_after(self, export_id: str) -> None:
        """Look whether another server still writes an export; on the loop."""
        if export_id not in self._looking and not self._stopping.is_set():
            task = asyncio.create_task(self._go_on_with(export_id))
            self._looking[export_id] = task
            task.add_done_callback(lambda done: self._looking.pop(export_id, None))

    async def _go_on_with(self, export_id: str) -> None:
        with suppress(ProblemError):  # too much to do: it is looked at again when somebody asks
            note = await self._workers.run(lambda: self._left_by_another(note_path(self._root, export_id)))
            if note is not None:
                await self._write(note)

    def _whole(self, note: Note) -> Note | None:
        """An export whose zip was written, but not noted as done; None where there is no such zip."""
        path = zip_path(self._root, note.export_id)
        if not path.is_file() or (found := verify_bundle(path)).findings:
            return None
        size, shown = path.stat().st_size, shown_in_zip(path)
        return replace(note, state=DONE, error=None, bytes=size, sha256=found.sha256, tracklets=shown)

    def _own(self, note: Note) -> None:
        """Keep a note of what this server is to write; before that it must be this server's already, or new."""
        with self._owning:
            file, before = own_note(self._root, note), self._owned.get(note.export_id)
            self._owned[note.export_id] = file
        if before is not None:
            before.close()

    def _let_go(self, export_id: str) -> None:
        if (file := self._owned.pop(export_id, None)) is not None:
            file.close()

    def _notes(self) -> Iterator[Note]:
        for path in note_paths(self._root):
            if (note := self._read(path)) is not None:
                yield note

    def _read(self, path: Path) -> Note | None:
        try:
            note = read_note(path)
        except FileNotFoundError:
            return None
        except (OSError, ValueError):
            logger.warning("%s: not the note of an export", path)
            return None
        if note.state == RUNNING and note.export_id not in self._owned and self._loop is not None:
            self._loop.call_soon_threadsafe(self._look_after, note.export_id)
        return note

    def _note(self, caller: Caller, export_id: str) -> Note:
        note = self._read(note_path(self._root, export_id))
        if note is None or not _may_have(caller, note):
            raise not_found(f"export {export_id}")
        return note

    def _told(self, note: Note) -> dict[str, Any]:
        done = note.state == DONE
        return {
            "export_id": note.export_id,
            "case": note.case,
            "state": note.state,
            "created": note.created,
            "by": note.by,
            "blur_others": note.blur_others,
            "items": len(note.tracklets),
            "progress": 1.0 if done else self._progress.get(note.export_id, 0.0),
            "error": note.error if note.version == NOTE_VERSION or note.error is None else _FAILED,
            "bytes": note.bytes,
            "sha256": note.sha256,
            "url": f"/api/v1/exports/{note.export_id}/file" if done else None,
        }


def _shown(tracklets: Sequence[StoredTracklet]) -> tuple[Shown, ...]:
    return tuple(Shown(each.tracklet_id, each.camera_id, each.start, each.end, each.person_id) for each in tracklets)


def _said(error: Exception) -> str:
    """What went wrong, for who reads the note: no name of somebody who may be erased, and no path of this machine."""
    if isinstance(error, NoEvidenceError):
        return str(error)
    return _FULL if is_full(error) else _FAILED


def _may_have(caller: Caller, note: Note) -> bool:
    return caller.cameras is None if note.cameras is None else caller.sees_all(note.cameras)
