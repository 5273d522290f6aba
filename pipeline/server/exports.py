"""Evidence that is exported: written one zip at a time, beside a note of what it is; both survive a restart."""

import asyncio
import json
import logging
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ulid import ULID

from pipeline.audit import Actor
from pipeline.bundle import BundleOptions, tracklets_in, verify_bundle, write_bundle
from pipeline.cases import Cases
from pipeline.crop_files import write_whole
from pipeline.errors import PipelineError, UsageError
from pipeline.export_files import EXPORTS, NOTE_SUFFIX, ZIP_SUFFIX, remove_leftovers
from pipeline.server.access import Caller
from pipeline.server.problems import ProblemError, not_found
from pipeline.server.schemas import NewExport
from pipeline.server.workers import Workers
from pipeline.sinks import rfc3339
from pipeline.store import Store

if TYPE_CHECKING:
    from pipeline.server.desk import Desk

logger = logging.getLogger(__name__)

_MOST_WAITING = 20
_VERSION = 2


@dataclass(frozen=True, slots=True)
class _Note:
    """What is known of an export; kept beside the zip.

    Attributes:
        cameras: Those that the one who exported might see; who sees fewer may not have it. None is all: in the zip are
            counterparts, rows of the audit and whatever came into the case meanwhile, of any camera.
        version: Of what is noted here.
    """

    export_id: str
    case: str
    state: str
    created: str
    by: str
    blur_others: bool
    tracklets: tuple[str, ...]
    cameras: tuple[str, ...] | None
    error: str | None = None
    bytes: int | None = None
    sha256: str | None = None
    version: int = 1


class Exports:
    """The exports of a gallery."""

    def __init__(self, desk: "Desk", root: Path) -> None:
        """Those that a killed server left unfinished have failed, but for one whose zip was whole already.

        Args:
            desk: Whose.
            root: The gallery's folder.
        """
        remove_leftovers(root)
        self._desk = desk
        self._folder = root / EXPORTS
        self._workers = Workers(root, threads=1, name="evidence", most_waiting=_MOST_WAITING)
        self._progress: dict[str, float] = {}
        self._stopping = threading.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        for note in list(self._notes()):
            if note.state == "failed" and (whole := self._whole(note)) is not None:
                with suppress(OSError):  # a full disk: it is tried again at the next start
                    self._keep(whole)

    def close(self) -> None:
        """End what is under way: it has failed then."""
        self._stopping.set()
        self._workers.close()

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
        await self._workers.run(lambda: self._keep(note))
        self._progress[note.export_id] = 0.0
        task = asyncio.create_task(self._write(note, caller, actor, asked))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return self._told(note)

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
        if note.state != "done":
            raise ProblemError(HTTPStatus.CONFLICT, f"export {export_id} is {note.state}")
        path = self._zip(note.export_id)
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

    def _planned(self, store: Store, caller: Caller, actor: Actor, case_id: str, asked: NewExport) -> _Note:
        try:
            self._desk.audit(store).require(actor)
        except UsageError as error:
            raise ProblemError(HTTPStatus.UNPROCESSABLE_ENTITY, str(error), kind="purpose-required") from None
        items = [store.tracklet(each) for each in Cases(store).items(case_id)]
        items = [each for each in items if caller.sees(each.camera_id)]
        if not items:
            raise ProblemError(HTTPStatus.CONFLICT, f"case {case_id} holds no tracklet: there is no evidence to write")
        return _Note(
            export_id=str(ULID()),
            case=case_id,
            state="running",
            created=rfc3339(datetime.now(UTC)),
            by=actor.name,
            blur_others=asked.blur_others,
            tracklets=tuple(each.tracklet_id for each in items),
            cameras=None if caller.cameras is None else tuple(sorted(caller.cameras)),
            version=_VERSION,
        )

    async def _write(self, note: _Note, caller: Caller, actor: Actor, asked: NewExport) -> None:
        try:
            await self._workers.run(lambda: self._written(note, caller, actor, asked))
        except Exception as error:
            logger.exception("export %s failed", note.export_id)
            said = str(error) if isinstance(error, PipelineError) else f"{type(error).__name__}"
            self._keep(self._whole(note) or replace(note, state="failed", error=said))
        finally:
            self._progress.pop(note.export_id, None)

    def _written(self, note: _Note, caller: Caller, actor: Actor, asked: NewExport) -> None:
        def on_progress(done: int, total: int) -> None:
            self._progress[note.export_id] = done / max(total, 1)

        options = BundleOptions(
            blur_others=asked.blur_others,
            clips=asked.clips,
            cameras=caller.cameras,
            export_id=note.export_id,
            on_progress=on_progress,
            should_stop=self._stopping.is_set,
        )
        with Store.edit(self._desk.root) as store:
            done = write_bundle(store, self._desk.config, note.case, self._zip(note.export_id), actor, options)
        self._keep(replace(note, state="done", bytes=done.bytes, sha256=done.sha256, tracklets=done.tracklets))

    def _whole(self, note: _Note) -> _Note | None:
        """An export whose zip was written, but not noted as done; None where there is no such zip."""
        path = self._zip(note.export_id)
        if not path.is_file() or (found := verify_bundle(path)).findings:
            return None
        size, shown = path.stat().st_size, tracklets_in(path)
        return replace(note, state="done", error=None, bytes=size, sha256=found.sha256, tracklets=shown)

    def _keep(self, note: _Note) -> None:
        self._folder.mkdir(exist_ok=True)
        text = json.dumps(asdict(note), indent=1) + "\n"
        write_whole(self._folder / f"{note.export_id}{NOTE_SUFFIX}", text.encode())

    def _notes(self) -> Iterator[_Note]:
        for path in self._folder.glob(f"*{NOTE_SUFFIX}"):
            if (note := self._read(path)) is not None:
                yield note

    def _read(self, path: Path) -> _Note | None:
        try:
            note = _note_of(json.loads(path.read_text(encoding="utf-8")))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError):
            logger.warning("%s: not the note of an export", path)
            return None
        if note.state == "running" and note.export_id not in self._progress:
            note = replace(note, state="failed", error="the server ended while it was written; export it again")
        return note

    def _note(self, caller: Caller, export_id: str) -> _Note:
        note = self._read(self._folder / f"{export_id}{NOTE_SUFFIX}")
        if note is None or not _may_have(caller, note):
            raise not_found(f"export {export_id}")
        return note

    def _zip(self, export_id: str) -> Path:
        return self._folder / f"{export_id}{ZIP_SUFFIX}"

    def _told(self, note: _Note) -> dict[str, Any]:
        done = note.state == "done"
        return {
            "export_id": note.export_id,
            "case": note.case,
            "state": note.state,
            "created": note.created,
            "by": note.by,
            "blur_others": note.blur_others,
            "items": len(note.tracklets),
            "progress": 1.0 if done else self._progress.get(note.export_id, 0.0),
            "error": note.error,
            "bytes": note.bytes,
            "sha256": note.sha256,
            "url": f"/api/v1/exports/{note.export_id}/file" if done else None,
        }


def _note_of(plain: dict[str, Any]) -> _Note:
    """As it was kept; version 1 had the cameras of the tracklets alone: what else is in the zip nobody knows."""
    cameras = plain["cameras"] if plain.get("version") == _VERSION else None
    plain |= {"tracklets": tuple(plain["tracklets"]), "cameras": None if cameras is None else tuple(cameras)}
    return _Note(**plain)


def _may_have(caller: Caller, note: _Note) -> bool:
    return caller.cameras is None if note.cameras is None else caller.sees_all(note.cameras)
