"""The commands about a gallery that is there: looked after, searched for traces, decided upon. None of them prints."""

import argparse
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pipeline.audit import Actor, Audit, AuditRow
from pipeline.build import build_extractor
from pipeline.bundle import BundleOptions, write_bundle
from pipeline.cases import Before, Cases
from pipeline.columns import columns
from pipeline.config import Config
from pipeline.erasure import Erased, erase, leave_no_free_page
from pipeline.errors import ResourceError, UsageError
from pipeline.export_files import (
    Shown,
    all_exports,
    all_shown,
    is_being_written,
    remove_export,
    require_export,
)
from pipeline.filters import parse_span
from pipeline.identify import person_name, person_of_name
from pipeline.persons import Decision, Persons
from pipeline.query import CONFIG, check_name, check_persons, read_config
from pipeline.reconcile import Reconciled, reconcile
from pipeline.record import from_us
from pipeline.recovery import Rebuilt, maintain
from pipeline.reindex import reindex
from pipeline.replies import audit_row_reply, audit_verdict_reply, case_reply, decision_reply, person_reply
from pipeline.retention import Retention, RetentionRules, crops_bytes, database_bytes
from pipeline.sinks import rfc3339
from pipeline.store import Store, StoredTracklet, TrackletFilter
from pipeline.transfer import Transferred, export_gallery, merge_galleries

DEFAULT = Path("runs/latest")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a command has to say.

    Attributes:
        plain: As JSON.
        text: For people.
        code: Exit code.
    """

    plain: Any
    text: str
    code: int = 0


_LONGEST = 300  # letters of one value of a line
_LISTED = ("tracklet", "modality", "start", "person", "quality", "crop")
_HEAD = re.compile(r"([0-9]+):([0-9a-f]{64})")

Command = Callable[[argparse.Namespace], Outcome]


def actor_of(options: argparse.Namespace) -> Actor:
    """Who asks, and why."""
    here = Actor.here(case_id=options.case, purpose=options.purpose)
    return Actor(options.operator, here.case_id, here.purpose) if options.operator else here


@contextmanager
def recorded(root: Path, actor: Actor) -> Iterator[Callable[[str, dict[str, Any], Sequence[str]], int]]:
    """Within, what is done is recorded by a call with action, details and tracklet ids; else nothing is done.

    Raises:
        UsageError: When a purpose is mandatory and none is given.
        ResourceError: When the gallery's folder cannot be written: what cannot be recorded is not done.
    """
    with Store.edit(root) as store:
        audit = _audit(store)
        audit.require(actor)
        with store.writing():
            pass
        yield lambda action, details, subjects: audit.record(actor, action, details, subjects=subjects)


def _config(root: Path) -> Config | None:
    """Of the run; None for a gallery that no run filled, such as an export."""
    return read_config(root) if (root / CONFIG).is_file() else None


def _audit(store: Store) -> Audit:
    config = _config(store.root)
    return Audit(store, purpose_required=config is not None and config.storage.purpose_required)


# Which tracklets -----------------------------------------------------------------------------------------------------


def _chosen(store: Store, options: argparse.Namespace, *, elsewhere: Sequence[Shown] = ()) -> list[StoredTracklet]:
    """The tracklets that the options name, rejected ones among them; they may name some that are elsewhere alone."""
    others = {"--person": options.person, "--camera": options.camera, "--from": options.start, "--to": options.end}
    beside = [flag for flag, given in others.items() if given]
    if options.tracklet and beside:
        raise UsageError(f"--tracklet names all that is meant: give it without {' and '.join(beside)}")
    start, end = parse_span(options.start, options.end)
    beyond = {each.camera_id for each in elsewhere}
    _check_cameras(store, [each for each in options.camera if each not in beyond])
    cameras = frozenset(options.camera) or None
    if options.tracklet:
        names = {each.tracklet_id for each in elsewhere}
        return [store.tracklet(each) for each in dict.fromkeys(options.tracklet) if each not in names]
    numbers = dict.fromkeys(person_of_name(each) for each in options.person)
    people = {each.person_id for each in elsewhere}
    check_persons(store, [each for each in numbers if each not in people])
    return [
        each
        for number in numbers or [None]
        for each in store.tracklets(TrackletFilter(cameras, None, start, end, number, rejected=None))
    ]


def _required(store: Store, options: argparse.Namespace) -> list[StoredTracklet]:
    """The tracklets that the options name, where doing nothing would look like success.

    Raises:
        UsageError: When they name none.
    """
    found = _chosen(store, options)
    if not found:
        with store.reading() as db:
            first, last = db.execute("SELECT MIN(start_us), MAX(end_us) FROM tracklets").fetchone()
        there = (
            "it has none" if first is None else f"they are from {rfc3339(from_us(first))} to {rfc3339(from_us(last))}"
        )
        named = ", ".join(_named(options)) or "all"
        raise UsageError(f"{store.root}: {named}: no tracklet is meant ({there}); nothing was done")
    return found


def _named(options: argparse.Namespace) -> Iterator[str]:
    """The options that choose, as they were given."""
    for flag, given in (("--person", options.person), ("--camera", options.camera)):
        yield from (f"{flag} {each}" for each in given)
    yield from (f"{flag} {each}" for flag, each in (("--from", options.start), ("--to", options.end)) if each)


def _exported(store: Store, options: argparse.Namespace) -> list[Shown]:
    """What the options name among the tracklets that are gone, but that exported evidence shows."""
    start, end = parse_span(options.start, options.end)
    numbers = {person_of_name(each) for each in options.person}

    def is_meant(each: Shown) -> bool:
        if options.tracklet:
            return each.tracklet_id in options.tracklet
        known = each.person_id is None or each.person_id in numbers
        return (not numbers or known) and each.may_be(options.camera, start, end)

    return [each for each in all_shown(store.root) if is_meant(each) and not store.has(each.tracklet_id)]


def _check_cameras(store: Store, cameras: Sequence[str]) -> None:
    known = store.cameras()
    for camera in cameras:
        check_name("--camera", camera, known, "this gallery has no cameras")


# gallery -------------------------------------------------------------------------------------------------------------


def _list(options: argparse.Namespace) -> Outcome:
    if options.best is not None and options.best < 1:
        raise UsageError(f"--best: expected a number of 1 or more, got {options.best}")
    with Store.read(options.gallery) as store:
        _check_cameras(store, options.camera)
        found = store.tracklets(TrackletFilter(cameras=frozenset(options.camera) or None))
    found = sorted(found, key=lambda each: -each.quality)[: options.best]
    rows = [
        {
            "tracklet": each.tracklet_id,
            "modality": each.modality.value,
            "start": rfc3339(each.start),
            "person": person_name(each.person_id or 0),
            "quality": round(each.quality, 3),
            "crop": None if each.best_crop is None else str(each.best_crop),
        }
        for each in found
    ]
    plain = {"schema": "xreid.gallery_list/1", "tracklets": rows}
    if options.only:
        shown = [row["tracklet" if options.only == "id" else "crop"] for row in rows]
        return Outcome(plain, "\n".join(str(each) for each in shown if each))
    return Outcome(plain, columns(_LISTED, [[str(row[name] or "-") for name in _LISTED] for row in rows]))


def _stats(options: argparse.Namespace) -> Outcome:
    with Store.read(options.gallery) as store:
        counts, people = store.counts(), Persons(store).all()
        with store.reading() as db:
            occupied = {each for (each,) in db.execute("SELECT DISTINCT person_id FROM tracklets")}
            cameras = db.execute(
                "SELECT camera_id, modality, COUNT(row), COALESCE(SUM(rejected IS NOT NULL), 0), MIN(start_us),"
                " MAX(end_us) FROM cameras LEFT JOIN tracklets USING (camera_id) GROUP BY camera_id ORDER BY camera_id"
            ).fetchall()
            links = dict(db.execute("SELECT state, COUNT(*) FROM links GROUP BY state"))
            (rows,) = db.execute("SELECT COUNT(*) FROM audit").fetchone()
        plain = {
            "schema": "xreid.gallery_stats/1",
            "gallery": str(store.root),
            "model": store.model_id,
            "dimension": store.dimension,
            "tracklets": {"accepted": counts.accepted, "rejected": counts.rejected},
            "persons": {
                **{
                    state: sum(each.state == state and each.person_id in occupied for each in people)
                    for state in ("probable", "confirmed")
                },
                "without_tracklets": sum(
                    each.state in ("probable", "confirmed") and each.person_id not in occupied for each in people
                ),
            },
            "links": {state: links.get(state, 0) for state in ("probable", "confirmed", "rejected")},
            "crops": counts.crops,
            "held": len(Cases(store).held()),
            "audit_rows": rows,
            "bytes": {"database": database_bytes(store), "crops": crops_bytes(store)},
            "cameras": [
                {
                    "camera": camera, "modality": modality, "tracklets": count, "rejected": rejected,
                    "from": rfc3339(from_us(first)) if count else None,
                    "to": rfc3339(from_us(last)) if count else None,
                }
                for camera, modality, count, rejected, first, last in cameras
            ],
        }  # fmt: skip
    lines = [f"{key}: {_told(value)}" for key, value in plain.items() if key not in ("schema", "cameras")]
    lines += [
        f"camera {each['camera']} ({each['modality']}): {each['tracklets']} tracklets, {each['rejected']} of them"
        f" rejected, {each['from'] or '-'} to {each['to'] or '-'}"
        for each in plain["cameras"]
    ]
    return Outcome(plain, "\n".join(lines))


def _verify(options: argparse.Namespace) -> Outcome:
    rebuilt: list[Rebuilt] = []
    try:
        with maintain(options.gallery, on_rebuilt=rebuilt.append) as store:
            found = reconcile(store, repair=options.repair)
            leave_no_free_page(store)
    except ResourceError as error:
        if "another process" not in str(error) or options.repair:
            raise
        with Store.read(options.gallery) as store:  # beside a run: looked at, and nothing is touched
            found = reconcile(store, alone=False)
    plain = {"schema": "xreid.gallery_verify/1", **asdict(found), "rebuilt": [_rebuilt(each) for each in rebuilt]}
    return Outcome(plain, _verified(found, rebuilt), 1 if found.differences else 0)


def _rebuilt(each: Rebuilt) -> dict[str, Any]:
    return {**asdict(each), "set_aside": str(each.set_aside)}


def _verified(found: Reconciled, rebuilt: Sequence[Rebuilt]) -> str:
    lines = [
        f"the database was damaged: it lies in {each.set_aside}; {each.tracklets} tracklets were rebuilt, lost:"
        f" {each.lost or 'nothing that is known'}"
        for each in rebuilt
    ]
    lines += [f"repaired: {each}" for each in found.repaired]
    lines += [f"difference: {each}" for each in found.differences]
    lines += [f"note: {each}" for each in found.notes]
    lines.append(
        f"{len(found.differences)} differences: {found.tracklets} tracklets, {found.vectors} vectors,"
        f" {found.crops} crops, {found.audit} rows of the audit"
    )
    return "\n".join(lines)


def _reindex(options: argparse.Namespace) -> Outcome:
    if options.batch < 1:
        raise UsageError(f"--batch must be 1 or more, got {options.batch}")
    said = ("--weights", "--calibration")
    extractor = build_extractor(options.weights, options.device, calibration=options.calibration, said=said)
    if extractor.calibration is None:
        raise UsageError(f"--weights: {options.weights} carries no calibration; its likenesses would mean nothing")
    with maintain(options.gallery) as store:
        actor, before = actor_of(options), store.model_id
        _audit(store).require(actor)
        own = before == extractor.model_id and options.calibration is None  # the gallery's own, of this very model
        calibration = store.calibration if own else extractor.calibration
        done = reindex(store, extractor, calibration, actor, batch=options.batch)
    text = f"{done.embedded} tracklets embedded ({done.resumed} were by an earlier call): {before} -> {done.model_id}"
    return Outcome(asdict(done) | {"before": before}, text)


def _erase(options: argparse.Namespace) -> Outcome:
    if not (options.tracklet or options.person or options.start or options.end or options.without_crops):
        raise UsageError("say what is to go: --tracklet, --person, --from, --to or --without-crops")
    with maintain(options.gallery) as store:
        actor = actor_of(options)
        _audit(store).require(actor)
        exported = [] if options.without_crops else _exported(store, options)
        chosen = _chosen(store, options, elsewhere=exported)
        if options.without_crops:
            chosen = [each for each in chosen if each.rejected is None and each.best_crop is None]
        names = sorted({each.tracklet_id for each in exported})
        done = erase(store, chosen, actor, exported=names, dry_run=options.dry_run)
    return Outcome(asdict(done) | {"dry_run": options.dry_run}, _erased(done, dry_run=options.dry_run))


def _erased(done: Erased, *, dry_run: bool) -> str:
    lines = [
        f"{'would erase' if dry_run else 'erased'}: {len(done.tracklets)} tracklets, {done.crops} crops"
        + ("" if dry_run else f", {done.events} events")
    ]
    if done.exported:
        lines.append(f"had aged away, and only evidence showed them: {', '.join(done.exported)}")
    if done.persons:
        lines.append(f"of whom nothing is left: {', '.join(map(person_name, done.persons))}")
    if done.pictures or done.set_aside:
        whole = ", ".join((*done.pictures, *done.set_aside))
        lines.append(f"{'would be removed' if dry_run else 'removed'} whole, for they may show them: {whole}")
    return "\n".join([*lines, *(f"  {each}" for each in done.tracklets)] if dry_run else lines)


def _age(options: argparse.Namespace) -> Outcome:
    config = _config(options.gallery)
    if config is None:
        raise UsageError(f"{options.gallery}: has no {CONFIG}, so nothing says how long to keep what")
    rules = RetentionRules(**config.retention.model_dump(), low_water_mb=config.storage.low_water_mb)
    with maintain(options.gallery) as store:
        retention = Retention(store, rules)
        aged = retention.age()
        retention.make_room()
    if all(value is None for value in config.retention.model_dump().values()):
        return Outcome({}, f"nothing ages: {options.gallery / CONFIG} sets no retention, so that all is kept for ever")
    went = ", ".join(f"{count} {name}" for name, count in aged.counts.items()) or "nothing was old enough"
    return Outcome(dict(aged.counts), f"aged away: {went}")


def _export(options: argparse.Namespace) -> Outcome:
    with Store.edit(options.gallery) as store:
        actor = actor_of(options)
        _audit(store).require(actor)
        done = export_gallery(store, _required(store, options), options.output, actor)
    return _transferred(done, f"{options.output}: a gallery of")


def _merge(options: argparse.Namespace) -> Outcome:
    renamed: dict[str, str] = {}
    for text in options.rename_camera:
        old, equals, new = text.partition("=")
        if not equals or not old or not new:
            raise UsageError(f"--rename-camera {text!r}: expected OLD=NEW")
        if renamed.get(old, new) != new:
            raise UsageError(f"--rename-camera {text!r}: {old} is to be {renamed[old]} already")
        renamed[old] = new
    with maintain(options.gallery) as store, Store.read(options.other) as other:
        actor = actor_of(options)
        _audit(store).require(actor)
        done = merge_galleries(
            store,
            other,
            actor,
            cameras=renamed,
            same_cameras=options.same_cameras,
            restore_erased=options.restore_erased,
        )
    return _transferred(done, f"{options.gallery}: took in")


def _transferred(done: Transferred, head: str) -> Outcome:
    plain = asdict(done) | {"persons": {person_name(a): person_name(b) for a, b in done.persons.items()}}
    text = f"{head} tracklets: {done.tracklets}, persons: {done.people}"
    text += f"; {done.already} were there already" if done.already else ""
    text += f"; {done.erased} were erased here and stay out (--restore-erased takes them in)" if done.erased else ""
    return Outcome(plain, text)


# case ----------------------------------------------------------------------------------------------------------------


_OPENED = {Before.ABSENT: "is new and open", Before.CLOSED: "is open again", Before.OPEN: "was open already"}


def _case_open(options: argparse.Namespace) -> Outcome:
    with Store.edit(options.gallery) as store:
        done = Cases(store, _audit(store)).open(options.id, options.title, actor_of(options))
    state = _OPENED[done.before]
    text = f"case {options.id} {state}: what it holds is neither aged nor erased"
    if done.replaced is not None:
        text += f"; its title is {done.title!r} now, in place of {done.replaced!r}"
    return Outcome({"case": options.id, **asdict(done)}, text)


def _case_close(options: argparse.Namespace) -> Outcome:
    with Store.edit(options.gallery) as store:
        Cases(store, _audit(store)).close(options.id, actor_of(options))
    return Outcome({"case": options.id}, f"case {options.id} is closed: it holds nothing any more")


def _case_items(options: argparse.Namespace, *, hold: bool) -> Outcome:
    if not (options.tracklet or options.person or options.start or options.end or options.camera):
        raise UsageError("say which tracklets: --tracklet, --person, --camera, --from or --to")
    with Store.edit(options.gallery) as store:
        cases, actor = Cases(store, _audit(store)), actor_of(options)
        names = [each.tracklet_id for each in _required(store, options)]
        if hold:
            cases.hold(options.id, names, actor, note=options.note)
        else:
            cases.release(options.id, names, actor)
        items = len(cases.items(options.id))
    done = "held" if hold else "released"
    text = f"case {options.id}: {done} {len(names)}, {items} in all"
    return Outcome({"case": options.id, done: names}, text)


def _case_list(options: argparse.Namespace) -> Outcome:
    with Store.read(options.gallery) as store:
        cases = Cases(store).all()
        plain = [case_reply(each, Cases(store).items(each.case_id)) for each in cases]
    lines = [
        f"{each.case_id}: {each.title or '-'}, {each.items} tracklets, {'closed' if each.closed else 'open'}"
        for each in cases
    ]
    return Outcome(plain, "\n".join(lines) or "no cases")


def _case_export(options: argparse.Namespace) -> Outcome:
    with Store.edit(options.gallery) as store:
        actor = actor_of(options)
        how = BundleOptions(blur_others=options.blur_others, clips=not options.no_clips)
        done = write_bundle(
            store, _config(options.gallery), options.id, options.output, replace(actor, case_id=options.id), how
        )
    plain = asdict(done) | {"output": str(options.output)}
    text = f"{options.output}: {len(done.tracklets)} tracklets, {done.files} files, {done.bytes} bytes, SHA-256"
    return Outcome(plain, f"{text} {done.sha256}")


def _case_exports(options: argparse.Namespace) -> Outcome:
    with Store.read(options.gallery) as store:
        found = all_exports(store.root)
    plain = [
        {
            "export_id": each.export_id,
            "case": each.case,
            "written": rfc3339(datetime.fromtimestamp(each.modified, UTC)),
            "bytes": each.bytes,
        }
        for each in found
    ]
    lines = ["  ".join(str("-" if value is None else value) for value in each.values()) for each in plain]
    return Outcome(
        {"schema": "xreid.case_exports/1", "exports": plain}, "\n".join(lines) or "the page has exported nothing"
    )


def _case_remove_export(options: argparse.Namespace) -> Outcome:
    require_export(options.gallery, options.id)
    if is_being_written(options.gallery, options.id):
        raise UsageError(f"export {options.id} is being written; remove it when it is done")
    with recorded(options.gallery, actor_of(options)) as record:
        record("export_removed", {"export": options.id}, ())
        remove_export(options.gallery, options.id)
    return Outcome({"export_id": options.id}, f"export {options.id} is removed")


# person --------------------------------------------------------------------------------------------------------------


def _deciding(options: argparse.Namespace, decide: Callable[[Persons, Actor], Decision]) -> Outcome:
    with Store.edit(options.gallery) as store:
        done = decide(Persons(store, _audit(store)), actor_of(options))
    moved = len(done.moved)
    text = f"decision {done.decision_id} ({done.kind}): {moved} tracklets changed their person"
    return Outcome(decision_reply(done), f"{text}; take it back with: person undo {done.decision_id}")


def _person_list(options: argparse.Namespace) -> Outcome:
    with Store.read(options.gallery) as store:
        people, decisions = Persons(store).summaries(), Persons(store).decisions()
    plain = {
        "persons": [person_reply(each) for each in people],
        "decisions": [decision_reply(each) for each in decisions],
    }
    lines = [
        f"{person_name(each.person_id)}: {each.tracklets} tracklets, {each.state}"
        + (f" into {person_name(each.merged_into)}" if each.merged_into is not None else "")
        for each in people
    ]
    lines += [
        f"decision {each.decision_id}: {each.kind} by {each.actor}"
        + (f", undone by {each.undone_by}" if each.undone_by is not None else "")
        for each in decisions
    ]
    return Outcome(plain, "\n".join(lines) or "nobody")


# audit ---------------------------------------------------------------------------------------------------------------


def _audit_show(options: argparse.Namespace) -> Outcome:
    with Store.read(options.gallery) as store:
        rows = Audit(store).rows(limit=options.last)
    return Outcome(
        [audit_row_reply(row) for row in rows], "\n".join(map(_row_text, rows)) or "nothing was recorded yet"
    )


def _told(value: Any) -> str:
    """Of JSON, for a line of text; what is long is cut, for --json has it whole."""
    if isinstance(value, dict):
        text = ", ".join(f"{_told(key.replace('_', ' '))} {_told(each)}" for key, each in value.items())
    elif isinstance(value, list):
        text = f"[{'; '.join(map(_told, value))}]"
    elif isinstance(value, float):
        text = f"{value:.4g}" if abs(value) < 1 else str(round(value, 4))
    else:
        text = "-" if value is None else "".join(each if each.isprintable() else _escaped(each) for each in str(value))
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 4]} ..."


def _escaped(letter: str) -> str:
    """What would begin a row of its own, or tell a terminal what to do."""
    return letter.encode("unicode_escape").decode()


def _row_text(row: AuditRow) -> str:
    why = " ".join(filter(None, (f"case {_told(row.case_id)}" if row.case_id else "", _told(row.purpose or ""))))
    details = ", ".join(f"{_told(key)}: {_told(value)}" for key, value in row.details.items())
    return (
        f"{row.number}  {row.at:%Y-%m-%d %H:%M:%SZ}  {_told(row.actor)}  {_told(row.action)}  [{why or '-'}]  {details}"
    )


def _audit_verify(options: argparse.Namespace) -> Outcome:
    head = None if options.head is None else _head_of(options.head)
    with Store.read(options.gallery) as store:
        found = Audit(store).verify(head=head)
    lines = [*(f"finding: {each}" for each in found.findings), *(f"note: {each}" for each in found.notes)]
    lines.append(f"rows: {found.rows}, findings: {len(found.findings)}; head {found.head[0]}:{found.head[1]}")
    return Outcome(audit_verdict_reply(found), "\n".join(lines), 1 if found.findings else 0)


def _head_of(text: str) -> tuple[int, str]:
    found = _HEAD.fullmatch(text)
    if found is None:
        raise UsageError(f"--head {text!r}: expected N:HASH as audit head prints it, a hash of 64 hexadecimal digits")
    return int(found[1]), found[2]


def _audit_head(options: argparse.Namespace) -> Outcome:
    with Store.read(options.gallery) as store:
        number, digest = Audit(store).head()
    return Outcome({"number": number, "hash": digest}, f"{number}:{digest}")


COMMANDS: dict[str, Command] = {
    "gallery list": _list,
    "gallery stats": _stats,
    "gallery verify": _verify,
    "gallery reindex": _reindex,
    "gallery erase": _erase,
    "gallery age": _age,
    "gallery export": _export,
    "gallery import": _merge,
    "gallery merge": _merge,
    "case open": _case_open,
    "case close": _case_close,
    "case hold": lambda options: _case_items(options, hold=True),
    "case release": lambda options: _case_items(options, hold=False),
    "case list": _case_list,
    "case export": _case_export,
    "case exports": _case_exports,
    "case remove-export": _case_remove_export,
    "person list": _person_list,
    "person merge": lambda options: _deciding(
        options, lambda people, by: people.merge(person_of_name(options.into), person_of_name(options.other), by)
    ),
    "person split": lambda options: _deciding(options, lambda people, by: people.split(options.tracklets, by)),
    "person confirm": lambda options: _deciding(
        options, lambda people, by: people.confirm(options.tracklet, options.to, by)
    ),
    "person reject": lambda options: _deciding(
        options, lambda people, by: people.reject(options.tracklet, options.to, by)
    ),
    "person undo": lambda options: _deciding(options, lambda people, by: people.undo(options.decision, by)),
    "audit show": _audit_show,
    "audit verify": _audit_verify,
    "audit head": _audit_head,
}
