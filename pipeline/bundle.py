"""The evidence of a case as one zip, and whether such a zip is still what it was.

Clips with and without boxes, every kept view, events, links and the rows of the audit about the case and its
tracklets; and a manifest with the SHA-256 of each file, the model, the software's version and where the times came
from. Nothing is compressed and nothing in the zip's own headers varies, so that every byte of it can be checked: the
verification writes the zip anew from its content and compares. The hash of the whole zip goes into the audit, from
where it can be compared later.
"""

import hashlib
import json
import platform
import re
import struct
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path, PurePosixPath
from typing import IO, Any
from zoneinfo import ZoneInfo

import cv2
from ulid import ULID

from pipeline.audit import Actor, Audit, AuditRow
from pipeline.cases import Case, Cases
from pipeline.config import Config
from pipeline.crop_files import held, sync
from pipeline.errors import UsageError
from pipeline.event_files import read_lines
from pipeline.footage import Look, blurred_view, clip_of
from pipeline.identify import person_name
from pipeline.persons import Persons
from pipeline.record import from_us
from pipeline.replies import audit_row_reply, case_reply, link_reply, tracklet_reply
from pipeline.sinks import rfc3339
from pipeline.store import Store, StoredTracklet

SCHEMA = "xreid.evidence/1"
MANIFEST = "manifest.json"
_DISTRIBUTION = "crossmodal-surveillance"
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the zip's own dates say nothing; the manifest does
_CHUNK = 1 << 20
# What the standard library raises over a zip that is not what it says.
_DAMAGE = (zipfile.BadZipFile, OSError, ValueError, RuntimeError, EOFError, KeyError, struct.error)
_DECISIONS = frozenset({"merge", "split", "confirm", "reject", "undo"})
_LARGEST = 1 << 32  # of one file within a zip that is verified


class NoEvidenceError(UsageError):
    """A case that is not there, or holds nothing (any more)."""


@dataclass(frozen=True, slots=True)
class BundleOptions:
    """How evidence is written.

    Attributes:
        blur_others: Whether nobody but the person of each tracklet may be recognised.
        clips: Whether clips are made.
        cameras: Only tracklets of these: those that the one who asks may see; None is all.
        export_id: A ULID; by default a new one.
        on_progress: Told how many tracklets are done, and of how many.
        should_stop: Asked before each tracklet.
    """

    blur_others: bool = False
    clips: bool = True
    cameras: frozenset[str] | None = None
    export_id: str | None = None
    on_progress: Callable[[int, int], None] = lambda done, total: None
    should_stop: Callable[[], bool] = lambda: False


@dataclass(frozen=True, slots=True)
class Bundle:
    """A zip that was written.

    Attributes:
        export_id: Its name in audit and manifest.
        tracklets: What is in it.
        files: How many.
        bytes: Of the zip.
        sha256: Of the zip.
    """

    export_id: str
    tracklets: tuple[str, ...]
    files: int
    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class BundleVerdict:
    """What a verification found.

    Attributes:
        files: How many were compared.
        sha256: Of the zip as it is now.
        findings: What is wrong, in words; empty when nothing is.
        notes: What is worth knowing and not wrong.
    """

    files: int
    sha256: str
    findings: tuple[str, ...]
    notes: tuple[str, ...]


def software_version() -> str:
    """Of this program."""
    try:
        return version(_DISTRIBUTION)
    except PackageNotFoundError:
        return "unknown"


def write_bundle(
    store: Store, config: Config | None, case_id: str, path: Path, actor: Actor, options: BundleOptions | None = None
) -> Bundle:
    """Write the evidence of a case; ``path`` appears when it is whole, and the audit has its hash.

    Args:
        store: Opened by ``Store.edit``.
        config: Of the run; None where no run says where its recordings are.
        case_id: Which case, open or closed.
        path: Of the zip; must not exist.
        actor: Who, and why.
        options: How.

    Raises:
        NoEvidenceError: When there is no such case, or it holds nothing.
        UsageError: When the file exists.
        InterruptedError: When told to stop.
    """
    options = options or BundleOptions()
    audit = Audit(store, purpose_required=config is not None and config.storage.purpose_required)
    audit.require(actor)
    case = next((each for each in Cases(store).all() if each.case_id == case_id), None)
    if case is None:
        raise NoEvidenceError(f"no case {case_id!r}")
    if path.exists():
        raise UsageError(f"{path}: exists already; evidence is not overwritten")
    tracklets = [store.tracklet(name) for name in Cases(store).items(case_id)]
    tracklets = [each for each in tracklets if options.cameras is None or each.camera_id in options.cameras]
    if not tracklets:
        raise NoEvidenceError(f"case {case_id} holds no tracklet: there is no evidence to write")
    export_id = options.export_id or str(ULID())
    part = path.with_name(f".{path.name}.part")
    try:
        writing = _Writing(store, config, options, audit)
        with held(part) as file:
            count = writing.write(file, case, tracklets, actor, export_id)
            file.flush()
            sync(part)
            size, digest = part.stat().st_size, _digest_of(part)
            names = [each.tracklet_id for each in tracklets]
            details = {"export": export_id, "case": case_id, "tracklets": names, "sha256": digest, "bytes": size,
                       "blur_others": options.blur_others}  # fmt: skip
            audit.record(actor, "evidence", details, subjects=names)
            part.replace(path)
        sync(path.parent)
    finally:
        part.unlink(missing_ok=True)
    return Bundle(export_id, tuple(names), count, size, digest)


@dataclass(frozen=True, slots=True)
class _Writing:
    """One zip in the making."""

    store: Store
    config: Config | None
    options: BundleOptions
    audit: Audit

    def write(
        self, file: IO[bytes], case: Case, tracklets: Sequence[StoredTracklet], actor: Actor, export_id: str
    ) -> int:
        listed: dict[str, dict[str, Any]] = {}
        with _opened_to_write(file) as zipped:
            for name, data, about in self._files(case, tracklets):
                _put(zipped, name, data)
                listed[name] = {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data), **about}
            manifest = self._manifest(case, tracklets, actor, export_id) | {"files": listed}
            _put(zipped, MANIFEST, _json(manifest))
        return len(listed) + 1

    def _files(self, case: Case, tracklets: Sequence[StoredTracklet]) -> Iterator[tuple[str, bytes, dict[str, Any]]]:
        names = {each.tracklet_id for each in tracklets}
        for done, each in enumerate(tracklets):
            if self.options.should_stop():
                raise InterruptedError("the export was stopped")
            self.options.on_progress(done, len(tracklets))
            yield from self._clips(each)
            yield from self._views(each)
        zone = self.config.site.zone if self.config else ZoneInfo("UTC")
        told = [tracklet_reply(each, zone) for each in tracklets]
        yield "tracklets.json", _json(told), {"what": "tracklets of the case"}
        links = [
            link_reply(each)
            for each in self.store.links()
            if each.tracklet_id in names and each.to_tracklet_id in names
        ]
        yield "links.json", _json(links), {"what": "links between them"}
        events = [_only(event, names) for _, event in read_lines(self.store.root) if event.get("tracklet_id") in names]
        yield "events.jsonl", _lines(events), {"what": "events of the tracklets, as they were written"}
        yield "audit.jsonl", _lines(self._audit_rows(case.case_id, names)), {"what": "rows of the audit about the case"}
        self.options.on_progress(len(tracklets), len(tracklets))

    def _clips(self, own: StoredTracklet) -> Iterator[tuple[str, bytes, dict[str, Any]]]:
        if not self.options.clips:
            return
        for box, suffix in ((False, ""), (True, "-box")):
            try:
                look = Look(box=box, blur_others=self.options.blur_others)
                clip = clip_of(self.store, self.config, own.tracklet_id, look)
            except UsageError:  # neither recording nor views are left: the manifest lists no clip of it
                return
            about = {"what": "clip with box" if box else "clip", "tracklet": own.tracklet_id, "made_of": clip.made_of,
                     "frames": clip.frames}  # fmt: skip
            yield f"clips/{own.tracklet_id}{suffix}.mp4", clip.data, about

    def _views(self, own: StoredTracklet) -> Iterator[tuple[str, bytes, dict[str, Any]]]:
        record = self.store.record(own.tracklet_id)
        for place, (position, path, quality, captured, index, *xyxy) in enumerate(record.crops):
            file = self.store.root / path
            if not file.is_file():
                continue
            about = {"what": "view", "tracklet": own.tracklet_id, "captured_at": rfc3339(from_us(captured)),
                     "frame_index": index, "xyxy": xyxy, "quality": quality}  # fmt: skip
            data, suffix = file.read_bytes(), file.suffix
            if self.options.blur_others:
                image = blurred_view(self.store, own.tracklet_id, place)
                data, suffix = cv2.imencode(".jpg", image[..., ::-1])[1].tobytes(), ".jpg"
            yield f"crops/{own.tracklet_id}/{position:03d}{suffix}", data, about
        if self.options.blur_others:
            return  # nobody knows where others stand in a counterpart
        for camera, modality, path, captured, *xyxy in record.counterparts:
            if self.options.cameras is not None and camera not in self.options.cameras:
                continue
            file = self.store.root / path
            if file.is_file():
                about = {"what": "counterpart", "tracklet": own.tracklet_id, "camera": camera, "modality": modality,
                         "captured_at": rfc3339(from_us(captured)), "xyxy": xyxy}  # fmt: skip
                yield f"crops/{own.tracklet_id}/{file.name}", file.read_bytes(), about

    def _audit_rows(self, case_id: str, names: Set[str]) -> list[dict[str, Any]]:
        """Rows about the case, decisions about its tracklets, and searches that found them or asked by them.

        Tracklets that are not of the case stay tokens, so that an erasure need not look for them here; and what was
        searched for another case is no evidence of this one. Where not every camera may be seen, only rows that tell
        of no other.
        """
        decided = _Decided.of(self.store, names)
        near = self.audit.numbers_near(case_id, names, decisions=_DECISIONS)
        numbers = [
            row.number
            for row in self.audit.rows(only=near)
            if (
                case_id in (row.case_id, row.details.get("case"))
                or decided.touches(row, names)
                or (row.action == "search" and row.case_id is None and names & _texts(row.details))
            )
            and (self.options.cameras is None or self._may_be_told(row, decided, self.options.cameras))
        ]
        return [audit_row_reply(each) for each in self.audit.rows(only=numbers, naming=names)]

    def _may_be_told(self, row: AuditRow, decided: "_Decided", cameras: Set[str]) -> bool:
        """Whether a row names no camera but these, nor anybody or anything seen by others; titles are told to all."""
        filters = row.details.get("filters") or {}
        known = self.config.cameras if self.config else {}
        zones = {zone for name, each in known.items() if name in cameras for zone in each.zones}
        if not (cameras >= set(filters.get("cameras") or ()) and zones >= set(filters.get("zones") or ())):
            return False
        if filters.get("persons") or not cameras >= decided.cameras_of(row):
            return False
        hidden = {*self.store.cameras(), *known} - cameras
        texts = _texts({name: each for name, each in row.details.items() if name not in ("case", "title")})
        return all(self._camera_seen(text, cameras, hidden) for text in texts)

    def _camera_seen(self, text: str, cameras: Set[str], hidden: Set[str]) -> bool:
        try:
            return self.store.tracklet(text).camera_id in cameras
        except UsageError:
            return not any(re.search(rf"(?<!\w){re.escape(name)}(?!\w)", text) for name in hidden)

    def _manifest(
        self, case: Case, tracklets: Sequence[StoredTracklet], actor: Actor, export_id: str
    ) -> dict[str, Any]:
        names = [each.tracklet_id for each in tracklets]
        return {
            "schema": SCHEMA,
            "export": export_id,
            "created": rfc3339(datetime.now(UTC)),
            "by": actor.name,
            "purpose": actor.purpose,
            "case": case_reply(case, names),
            "site": self.config.site.name if self.config else None,
            "model": self.store.model_id,
            "software": {"name": _DISTRIBUTION, "version": software_version(), "python": platform.python_version()},
            "times": {
                "note": "UTC; rtcp_sender_report is the camera's own clock, configured_start, file_name and container"
                " that of a recording, stream_pts and arrival this machine's, file_modified that of a file,"
                " frame_rate that of frames counted",
                "sources": {name: self.store.record(name).time_source for name in names},
            },
            "blurred": self.options.blur_others,
            "cameras": None if self.options.cameras is None else sorted(self.options.cameras),
            "audit_head": list(self.audit.head()),
        }


@dataclass(frozen=True, slots=True)
class _Decided:
    """Decisions about who is who that concern some tracklets.

    Attributes:
        numbers: Of the decisions that moved one of them, and of those that took such a one back.
        persons: Whom they show, or showed.
        moved: The cameras of the tracklets that each decision moved, theirs or not.
    """

    numbers: frozenset[int]
    persons: frozenset[str]
    moved: dict[int, frozenset[str]]

    @classmethod
    def of(cls, store: Store, names: Set[str]) -> "_Decided":
        own = [store.tracklet(each) for each in names]
        rows = {each.row for each in own}
        persons = {each.person_id for each in own if each.person_id is not None}
        decisions = Persons(store).decisions()
        for each in decisions:
            persons |= {person for row, *people in each.moved if row in rows for person in people}
        numbers = {each.decision_id for each in decisions if rows & {row for row, *_ in each.moved}}
        moved = {
            each.decision_id: frozenset(found.camera_id for found in store.by_rows(row for row, *_ in each.moved))
            for each in decisions
        }
        return cls(frozenset(numbers), frozenset(map(person_name, persons)), moved)

    def touches(self, row: AuditRow, names: Set[str]) -> bool:
        """Whether a row is a decision about one of the tracklets, or about somebody whom they show."""
        if row.action not in _DECISIONS:
            return False
        said = row.details
        named = names | self.persons if row.action == "merge" else names
        return said.get("decision") in self.numbers or bool(named & _texts(said))

    def cameras_of(self, row: AuditRow) -> frozenset[str]:
        """Of all tracklets that a decision moved."""
        return self.moved.get(row.details.get("decision", 0), frozenset()) if row.action in _DECISIONS else frozenset()


def verify_bundle(path: Path) -> BundleVerdict:
    """Compare a zip with its manifest, and each of its bytes with what it should be.

    Raises:
        UsageError: When there is no such file.
    """
    if not path.is_file():
        raise UsageError(f"{path}: no such file")
    digest = _digest_of(path)
    try:
        with zipfile.ZipFile(path) as zipped:
            findings, files = _compare(zipped)
            if not findings:
                findings += _rewritten(path, zipped)
    except _DAMAGE as error:
        return BundleVerdict(0, digest, (f"not a whole zip: {error or type(error).__name__}",), ())
    notes = ("the hash of the whole zip stands in the audit of the gallery that it came from (action evidence)",)
    return BundleVerdict(files, digest, tuple(findings), notes)


def _compare(zipped: zipfile.ZipFile) -> tuple[list[str], int]:
    """What differs from the manifest, and how many files were compared."""
    names = [each.filename for each in zipped.infolist()]
    findings = [f"{name} is there twice" for name in sorted({name for name in names if names.count(name) > 1})]
    if MANIFEST not in names:
        return [*findings, f"{MANIFEST} is missing"], 0
    listed = _listed(zipped)
    if listed is None:
        return [*findings, f"{MANIFEST} is damaged, or none of {SCHEMA}"], 0
    added = sorted(set(names) - set(listed) - {MANIFEST})
    findings += [f"{name} was added: the manifest does not list it" for name in added]
    for name, about in sorted(listed.items()):
        if name not in names:
            findings.append(f"{name} is missing")
        elif _digest_within(zipped, name) != about.get("sha256"):
            findings.append(f"{name} was changed: its SHA-256 is not that of the manifest")
    return findings, len(listed)


def _listed(zipped: zipfile.ZipFile) -> dict[str, Any] | None:
    try:
        manifest = json.loads(_read(zipped, MANIFEST) or b"null")
    except ValueError:
        return None
    if not isinstance(manifest, dict) or manifest.get("schema") != SCHEMA:
        return None
    files = manifest.get("files")
    return files if isinstance(files, dict) and all(isinstance(each, dict) for each in files.values()) else None


def _read(zipped: zipfile.ZipFile, name: str) -> bytes | None:
    """A file's content; None when it is damaged."""
    info = zipped.getinfo(name)
    if info.file_size > _LARGEST or info.compress_type != zipfile.ZIP_STORED:
        return None
    try:
        return zipped.read(name)
    except _DAMAGE:
        return None


def _digest_within(zipped: zipfile.ZipFile, name: str) -> str | None:
    data = _read(zipped, name)
    return None if data is None else hashlib.sha256(data).hexdigest()


def _rewritten(path: Path, zipped: zipfile.ZipFile) -> list[str]:
    """Whether the zip, written anew from its content, is the same byte by byte."""
    with tempfile.TemporaryFile() as again:
        with _opened_to_write(again) as copy:
            for info in zipped.infolist():
                _put(copy, info.filename, _read(zipped, info.filename) or b"")
        size = again.tell()
        again.seek(0)
        with path.open("rb") as file:
            same = size == path.stat().st_size and all(
                file.read(_CHUNK) == again.read(_CHUNK) for _ in range(size // _CHUNK + 1)
            )
    return [] if same else ["the zip's own headers were changed, or bytes stand between its files"]


def _opened_to_write(file: IO[bytes]) -> zipfile.ZipFile:
    return zipfile.ZipFile(file, "w", zipfile.ZIP_STORED, strict_timestamps=True)


def _put(zipped: zipfile.ZipFile, name: str, data: bytes) -> None:
    info = zipfile.ZipInfo(PurePosixPath(name).as_posix(), _EPOCH)
    info.external_attr, info.create_system = 0o644 << 16, 3
    zipped.writestr(info, data)


def _digest_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _json(value: Any) -> bytes:
    return json.dumps(value, indent=1, ensure_ascii=False).encode() + b"\n"


def _lines(values: Iterable[Any]) -> bytes:
    return b"".join(json.dumps(each, ensure_ascii=False).encode() + b"\n" for each in values)


def _texts(value: Any) -> set[str]:
    """All texts within a plain value, its keys left out."""
    if isinstance(value, str):
        return {value}
    inner = value.values() if isinstance(value, Mapping) else value if isinstance(value, list | tuple) else ()
    return {text for each in inner for text in _texts(each)}


def _only(event: dict[str, Any], names: set[str]) -> dict[str, Any]:
    """An event without links to tracklets that are not of the case: they may show anybody."""
    links = [each for each in event.get("links") or [] if each.get("tracklet_id") in names]
    return event | {"links": links}
