"""Who searched for whom, and why: rows that a chain of hashes holds together, and a copy of them outside the database.

Each row's hash is over its content and the hash of the row before, so that no row can be edited, taken out, put in or
moved without breaking the chain. What a chain cannot show is its end cut off: for that ``audit.jsonl`` holds a copy of
every row, and ``audit head`` prints the last number and hash to be kept somewhere else. Nor its beginning: where that
has aged away, a row behind it says so.

A tracklet is never named in a row, but by a token: the hash of its name and a salt. Names and salts are in a table of
their own, from which an erasure takes them. Then the row still says what was done, the chain still holds, and
nobody can tell any more whom it was done to.
"""

import getpass
import hashlib
import json
import logging
import os
import re
import secrets
import sqlite3
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence, Set
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

from pipeline.crop_files import write_whole
from pipeline.errors import UsageError
from pipeline.event_files import exclusive, last_number
from pipeline.record import from_us, to_us
from pipeline.schema import snapshot
from pipeline.store import Store
from pipeline.witnesses import AUDIT_COPY

logger = logging.getLogger(__name__)

BEGINNING = "0" * 64
MERGED = "merge_gallery"
_AGED = "audit_aged"
_OF_OTHERS = "audit-of-"
NAMES_TAKEN = "names"  # in the details of an erasure: how many it took out of the audit
ERASED = "erased"  # there too: marks of what was erased, by which it is known when it comes back
RESTORED = "restored_marks"  # in the details of a merge: marks of what came back because somebody wanted it to
_LARGEST = 2**63 - 1  # number that a row can have
_told_of: set[Path] = set()  # galleries of which was said, until it is over, that a case holds more than there may be
_TOKEN = re.compile("subject:[0-9a-f]{32}")
_COLUMNS = ("number", "at_us", "actor", "action", "case_id", "purpose", "details", "previous", "hash")


@dataclass(frozen=True, slots=True)
class Actor:
    """Who does something, and why.

    Attributes:
        name: Of the operator, or of the program for what it does by itself.
        case_id: The case that it is for.
        purpose: In words; blanks alone are none.
    """

    name: str
    case_id: str | None = None
    purpose: str | None = None

    def __post_init__(self) -> None:
        """Take blanks for no purpose."""
        if self.purpose is not None and not self.purpose.strip():
            object.__setattr__(self, "purpose", None)

    @classmethod
    def here(cls, *, case_id: str | None = None, purpose: str | None = None) -> "Actor":
        """The user of this process."""
        try:
            name = getpass.getuser()
        except (KeyError, OSError):  # a container may run under a number without a name
            name = f"uid {os.getuid()}"
        return cls(name, case_id, purpose)


PROGRAM = Actor("program")


@dataclass(frozen=True, slots=True)
class AuditRow:
    """One row, its tokens resolved as far as nobody was erased.

    Attributes:
        number: From 1.
        at: UTC.
        actor: Who.
        action: search, export, merge, erase, ...
        case_id: For which case.
        purpose: Why, in words.
        details: Query, filters, answers, counts.
        hash: Of the row.
    """

    number: int
    at: datetime
    actor: str
    action: str
    case_id: str | None
    purpose: str | None
    details: Mapping[str, Any]
    hash: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a verification found.

    Attributes:
        rows: How many rows were looked at.
        head: Number and hash of the last one; 0 and zeros for an empty audit.
        findings: What is wrong, in words; empty when nothing is.
        notes: What is worth knowing and not wrong.
    """

    rows: int
    head: tuple[int, str]
    findings: tuple[str, ...]
    notes: tuple[str, ...] = field(default=())


@dataclass(frozen=True, slots=True)
class _Ageing:
    """What a row says about the rows that aged away.

    Attributes:
        number: Of the row that says so.
        at_us: When.
        until: Number of the last one that went.
        hash: Of that one.
    """

    number: int
    at_us: int
    until: int
    hash: str


class Audit:
    """The audit of one gallery; needs a store opened by ``open``, ``maintain`` or ``edit`` to add rows."""

    def __init__(self, store: Store, *, purpose_required: bool = False) -> None:
        """Take the audit of a store.

        Args:
            store: Whose.
            purpose_required: Refuse to record, and so to do, what comes without a case or a purpose.
        """
        self._store = store
        self._purpose_required = purpose_required

    def require(self, actor: Actor) -> None:
        """Call before anything is done that will be recorded.

        Raises:
            UsageError: When a purpose is mandatory and none is given, or the case is not known.
        """
        if self._purpose_required and not (actor.purpose or actor.case_id):
            raise UsageError(
                "this site asks why: give a purpose (--purpose) or a case (--case), and a title (--title) to a case"
                " that is opened (storage.purpose_required is true)"
            )
        if actor.case_id is not None:
            with self._store.reading() as db:
                known = [name for (name,) in db.execute("SELECT case_id FROM cases ORDER BY case_id")]
            if actor.case_id not in known:
                there = f"there are {', '.join(known)}" if known else "no case was opened yet"
                raise UsageError(f"no case {actor.case_id!r}: {there}")

    def record(self, actor: Actor, action: str, details: Mapping[str, Any], *, subjects: Sequence[str] = ()) -> int:
        """Add a row; it is durable when this returns.

        Args:
            actor: Who, and why.
            action: What was done, one word.
            details: Plain values.
            subjects: Tracklet ids; wherever one occurs in a text of the details, a token takes its place.

        Returns:
            The row's number.
        """
        self.require(actor)
        with self._store.writing() as db:
            number = self.append(db, actor, action, details, subjects=subjects)
        self.copy()
        return number

    def append(
        self,
        db: sqlite3.Connection,
        actor: Actor,
        action: str,
        details: Mapping[str, Any],
        *,
        subjects: Sequence[str] = (),
    ) -> int:
        """As `record`, within the caller's transaction, who calls `copy` when it is committed."""
        tokens = {subject: _token(db, subject) for subject in sorted(set(subjects), key=len, reverse=True)}
        last = db.execute("SELECT number, hash FROM audit ORDER BY number DESC LIMIT 1").fetchone()
        number, previous = (last[0] + 1, last[1]) if last else _start(db)
        text = json.dumps(_with_texts(dict(details), _hiding(tokens)), sort_keys=True, ensure_ascii=False)
        values = [number, to_us(datetime.now(UTC)), actor.name, action, actor.case_id, actor.purpose, text, previous]
        db.execute("INSERT INTO audit VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", [*values, _hash(values)])
        return int(number)

    def copy(self) -> None:
        """Bring the copy beside the database up to date; what a crash left out, or in, is made good by the next row.

        What aged away leaves the copy in the moment in which the row that says so comes.
        """
        path = self._store.root / AUDIT_COPY
        with exclusive(path) as file:
            number = last_number(file)
            with self._store.reading() as db, snapshot(db):
                rows = db.execute("SELECT * FROM audit WHERE number > ? ORDER BY number", [number]).fetchall()
                gone = _gone_before(file, db)
            lines = b"".join(map(_line, rows))
            if gone:
                write_whole(path, b"".join(_without_aged(path, gone)) + lines)
            else:
                file.seek(0, os.SEEK_END)
                file.write(lines)

    def age(self, *, before: datetime | None = None, most_bytes: int | None = None) -> int:
        """Remove the oldest rows: older than a moment, or until the rest is no larger; returns how many went.

        Rows of an open case stay, rows that name what it holds too, and with them all that came after. The chain goes
        on: the hash of the last row that went is kept, in the database and in a row of the audit, and with it the marks
        of whom erasures among them took.
        """
        with self._store.reading() as db:  # each minute, and mostly there is nothing to do
            oldest, total = db.execute(
                "SELECT MIN(at_us), COALESCE(SUM(LENGTH(details) + 300), 0) FROM audit"
            ).fetchone()
        fits = most_bytes is None or total <= most_bytes
        if oldest is None or (fits and (before is None or oldest >= to_us(before))):
            _told_of.discard(self._store.root)
            return 0
        with self._store.writing() as db:
            rows = db.execute(
                "SELECT number, at_us, hash, LENGTH(details) + 300 FROM audit WHERE number < ? ORDER BY number",
                [_first_held(db)],
            ).fetchall()
            (total,) = db.execute("SELECT COALESCE(SUM(LENGTH(details) + 300), 0) FROM audit").fetchone()
            gone = []
            for row in rows:
                too_old = before is not None and row[1] < to_us(before)
                if not too_old and (most_bytes is None or total <= most_bytes):
                    break
                total -= row[3]
                gone.append(row)
            if most_bytes is not None and total > most_bytes and self._store.root not in _told_of:
                _told_of.add(self._store.root)
                logger.warning(
                    "%s: the audit has %d bytes, more than the %d that it may have: an open case holds its rows",
                    self._store.root, total, most_bytes,
                )  # fmt: skip
            if not gone:
                return 0
            last, digest = gone[-1][0], gone[-1][2]
            marks = _marks(db.execute("SELECT * FROM audit WHERE number <= ? ORDER BY number", [last]).fetchall())
            tokens = _tokens_in(text for (text,) in db.execute("SELECT details FROM audit WHERE number <= ?", [last]))
            db.executemany("DELETE FROM audit_subjects WHERE token = ?", [(token,) for token in tokens])
            db.execute("DELETE FROM audit WHERE number <= ?", [last])
            db.execute("INSERT OR REPLACE INTO meta VALUES ('audit_start', ?)", [f"{last + 1}:{digest}"])
            said = {"until_row": last, "hash": digest}
            self.append(db, PROGRAM, _AGED, said | ({ERASED: sorted(marks)} if marks else {}))
        self.copy()
        return len(gone)

    def head(self) -> tuple[int, str]:
        """Number and hash of the last row, as `verify` has them, without looking at any other."""
        with self._store.reading() as db, snapshot(db):
            last = db.execute("SELECT number, hash FROM audit ORDER BY number DESC LIMIT 1").fetchone()
            first, previous = _start(db)
        return (int(last[0]), str(last[1])) if last else (first - 1, previous)

    def rows(
        self,
        *,
        limit: int | None = None,
        before: int | None = None,
        only: Collection[int] | None = None,
        naming: Collection[str] | None = None,
    ) -> list[AuditRow]:
        """The last rows (before a number), oldest first.

        Args:
            limit: At most so many.
            before: Only those before this one.
            only: Only those of these numbers; None is all.
            naming: Only these tracklets are named: of others the token stands there. None is all.
        """
        with self._store.reading() as db:
            found = db.execute(
                "SELECT * FROM audit WHERE number < ?1"
                " AND (?2 IS NULL OR number IN (SELECT value FROM json_each(?2))) ORDER BY number DESC LIMIT ?3",
                [
                    _LARGEST if before is None else before,
                    None if only is None else json.dumps(sorted(only)),
                    -1 if limit is None else limit,
                ],
            )
            rows = found.fetchall()
            names = _names_behind(db, _tokens_in(row[6] for row in rows))
        if naming is not None:
            names = {token: name for token, name in names.items() if name in naming}
        resolved = _resolving(names)
        return [
            AuditRow(number, from_us(at), actor, action, case, purpose, _with_texts(json.loads(text), resolved), digest)
            for number, at, actor, action, case, purpose, text, _, digest in reversed(rows)
        ]

    def erased(self, names: Collection[str]) -> set[str]:
        """Those of these tracklets that were erased, here or at a site that came in, and not taken in again."""
        marks = self.marks()
        return {name for name in names if mark_of(name) in marks} if marks else set()

    def marks(self) -> set[str]:
        """Of all that were erased, as `mark_of` gives them."""
        with self._store.reading() as db:
            return _marks(db.execute("SELECT * FROM audit ORDER BY number").fetchall())

    def numbers_near(self, case_id: str, subjects: Collection[str], *, decisions: Collection[str]) -> list[int]:
        """Numbers of all rows that may be about a case, and of few others.

        Args:
            case_id: Rows for it, or that have it in their details.
            subjects: Searches for no case that name one of these tracklets.
            decisions: All rows of these actions.
        """
        with self._store.reading() as db:
            tokens = {
                token
                for (token,) in db.execute(
                    "SELECT token FROM audit_subjects WHERE subject IN (SELECT value FROM json_each(?))",
                    [json.dumps(sorted(subjects))],
                )
            }
            rows = db.execute(
                "SELECT number, action = 'search' AND case_id IS NULL AND NOT INSTR(details, ?2), details FROM audit"
                " WHERE case_id = ?1 OR INSTR(details, ?2) OR action IN (SELECT value FROM json_each(?3))"
                " OR (action = 'search' AND case_id IS NULL) ORDER BY number",
                [case_id, json.dumps(case_id), json.dumps(sorted(decisions))],
            )
            return [number for number, if_named, text in rows if not if_named or tokens & _tokens_in([text])]

    def verify(self, *, head: tuple[int, str] | None = None) -> Verdict:
        """Look for any edit, deletion, insertion, reorder or truncation.

        Args:
            head: Number and hash of a row as ``audit head`` once printed them and somebody kept them elsewhere.
        """
        copied, findings = _read_copy(self._store.root / AUDIT_COPY)  # first: what is in it then is in the database
        with self._store.reading() as db, snapshot(db):
            rows = db.execute("SELECT * FROM audit ORDER BY number").fetchall()
            subjects = db.execute("SELECT token, salt, subject FROM audit_subjects").fetchall()
            first, previous = _start(db)
        ageings = _ageings(rows)
        said = next((each for each in ageings if (each.until + 1, each.hash) == (first, previous)), None)
        told = _tokens_in(row[6] for row in rows)
        findings += [*_broken_links(rows, first, previous), *_bad_subjects(subjects, told)]
        notes = []
        if said is not None:
            notes.append(f"rows up to {said.until} aged away: row {said.number} of {from_us(said.at_us)} says so")
        elif first != 1:
            findings.append(f"the audit begins with row {first}, but no row says that those before it aged away")
        pairs = (
            self._compare_copy(rows, copied, (first, previous), said),
            _missing_names(subjects, rows, told),
            _compare_head(rows, head, (first, previous), ageings),
            _compare_others(self._store.root, rows),
        )
        findings += [each for found, _ in pairs for each in found]
        notes += [each for _, found in pairs for each in found]
        last = (int(rows[-1][0]), str(rows[-1][-1])) if rows else (first - 1, previous)
        return Verdict(len(rows), last, tuple(findings), tuple(notes))

    def _compare_copy(
        self,
        rows: Sequence[tuple[Any, ...]],
        copied: Mapping[int, list[Any]],
        start: tuple[int, str],
        said: _Ageing | None,
    ) -> tuple[list[str], list[str]]:
        if not (self._store.root / AUDIT_COPY).is_file():
            return ([f"{AUDIT_COPY} is missing: it was written with the first row"] if rows else []), []
        table = {row[0]: list(row) for row in rows}
        findings, notes = [], []
        aged = {number for number in copied if number < start[0]} if said and said.number not in copied else set()
        if aged:  # as when a crash comes between the ageing and the copy
            notes.append(f"{len(aged)} rows that aged away are in {AUDIT_COPY} still: the next row takes them out")
            if said and said.until in aged and copied[said.until][-1] != said.hash:
                findings.append(f"row {said.until}, which aged away, has another hash in {AUDIT_COPY}")
        for number, row in copied.items():
            if number not in aged and table.get(number) != row:
                kind = "differs from" if number in table else "is missing from the database, but in"
                findings.append(f"row {number} {kind} {AUDIT_COPY}")
        behind = sorted(set(table) - set(copied))
        if behind:
            notes.append(
                f"{len(behind)} rows are not in {AUDIT_COPY} yet: a crash came between; the next row adds them"
            )
        if behind and copied and behind[0] < max(copied):
            findings.append(f"row {behind[0]} is missing from {AUDIT_COPY}, which goes on behind it")
        return findings, notes


def mark_of(tracklet_id: str) -> str:
    """Tells whether a tracklet is the one of that name, and not what its name is: a name has 80 random bits."""
    return hashlib.sha256(tracklet_id.encode()).hexdigest()[:24]


def _marks(rows: Sequence[tuple[Any, ...]]) -> set[str]:
    """Of what was erased and did not come back, by what rows in their order say."""
    marks: set[str] = set()
    for row in rows:
        if ERASED in row[6] or RESTORED in row[6]:
            said = _details(row)
            marks |= set(said.get(ERASED, ()))
            marks -= set(said.get(RESTORED, ()))
    return marks


def _first_held(db: sqlite3.Connection) -> int:
    """The first row that is of an open case, or names what one holds."""
    (first,) = db.execute(
        "SELECT MIN(number) FROM audit WHERE case_id IN (SELECT case_id FROM cases WHERE closed_us IS NULL)"
    ).fetchone()
    held = {
        token
        for (token,) in db.execute(
            "SELECT token FROM audit_subjects JOIN tracklets ON tracklet_id = subject"
            " WHERE row IN (SELECT tracklet_row FROM held)"
        )
    }
    first = _LARGEST if first is None else int(first)
    if held:
        for number, text in db.execute("SELECT number, details FROM audit WHERE number < ? ORDER BY number", [first]):
            if held & _tokens_in([text]):
                return int(number)
    return first


def keep_audit_of(other: Store, root: Path) -> dict[str, Any] | None:
    """Keep the audit of another gallery, a chain of its own, beside the one in a folder.

    Returns:
        What the row `MERGED` is to say of it under the name ``audit``, for `Audit.verify` to compare; None when that
        gallery has no audit.
    """
    with other.reading() as db:
        rows = db.execute("SELECT * FROM audit ORDER BY number").fetchall()
    if not rows:
        return None
    number, digest = rows[-1][0], str(rows[-1][-1])
    name = f"{_OF_OTHERS}{other.root.resolve().name}-{digest[:8]}.jsonl"
    write_whole(root / name, b"".join(map(_line, rows)))
    return {"file": name, "rows": len(rows), "number": number, "hash": digest}


def begin_after_ageing(db: sqlite3.Connection) -> None:
    """Let the audit of a rebuilt database begin where its last row about an ageing says, and nowhere else.

    A start that no row tells of would be a finding for ever, and rows before it came from a copy that was not yet
    brought up to date.
    """
    ageings = _ageings(db.execute("SELECT * FROM audit WHERE action = ? ORDER BY number", [_AGED]).fetchall())
    db.execute("DELETE FROM meta WHERE key = 'audit_start'")
    if ageings:
        last = ageings[-1]
        db.execute("DELETE FROM audit WHERE number <= ?", [last.until])
        db.execute("INSERT INTO meta VALUES ('audit_start', ?)", [f"{last.until + 1}:{last.hash}"])


def forget_untold_names(db: sqlite3.Connection) -> None:
    """Take out names behind tokens that no row has: of a rebuilt database, rows of whose older one are not in it."""
    told = _tokens_in(text for (text,) in db.execute("SELECT details FROM audit"))
    known = [token for (token,) in db.execute("SELECT token FROM audit_subjects")]
    db.executemany("DELETE FROM audit_subjects WHERE token = ?", [(token,) for token in known if token not in told])


def _start(db: sqlite3.Connection) -> tuple[int, str]:
    """Number of the first row that has not aged away, and the hash of the one before."""
    row = db.execute("SELECT value FROM meta WHERE key = 'audit_start'").fetchone()
    if row is None:
        return 1, BEGINNING
    number, _, digest = str(row[0]).partition(":")
    if not (number.isascii() and number.isdecimal()):
        return 1, BEGINNING  # edited: what is missing then is found
    return int(number), digest


def _ageings(rows: Sequence[tuple[Any, ...]]) -> list[_Ageing]:
    """What unedited rows say, in their order."""
    found = []
    for row in rows:
        if row[3] == _AGED and _hash(row[:-1]) == row[-1]:
            said = _details(row)
            until, digest = said.get("until_row"), said.get("hash")
            if isinstance(until, int) and isinstance(digest, str) and until < row[0]:
                found.append(_Ageing(row[0], row[1], until, digest))
    return found


def _details(row: tuple[Any, ...]) -> dict[str, Any]:
    """Empty for a row that was edited into something else."""
    with suppress(ValueError, TypeError):
        said = json.loads(row[6])
        if isinstance(said, dict):
            return said
    return {}


def _gone_before(file: IO[bytes], db: sqlite3.Connection) -> int:
    """The row with which the audit begins, where the copy has some before it and a row says that they aged away."""
    first, previous = _start(db)
    file.seek(0)
    number = _number(file.readline()) if first > 1 else None
    if first == 1 or (number is not None and number >= first):
        return 0
    ageings = _ageings(db.execute("SELECT * FROM audit WHERE action = ?", [_AGED]).fetchall())
    return first if any((each.until + 1, each.hash) == (first, previous) for each in ageings) else 0


def _without_aged(path: Path, first: int) -> Iterator[bytes]:
    for line in path.read_bytes().splitlines(keepends=True):
        number = _number(line)
        if number is None or number >= first:
            yield line


def _number(line: bytes) -> int | None:
    """Of the row in a line of the copy; None where that is not a row."""
    digits = line[1:].partition(b",")[0]
    return int(digits) if line.startswith(b"[") and digits.isdigit() else None


def _line(row: Sequence[Any]) -> bytes:
    return (json.dumps(list(row), ensure_ascii=False) + "\n").encode()


def _hash(values: Sequence[Any]) -> str:
    """Of all columns but the hash, the previous hash among them."""
    return hashlib.sha256(json.dumps(list(values), ensure_ascii=False, default=repr).encode()).hexdigest()


def _token(db: sqlite3.Connection, subject: str) -> str:
    """A new token for each row: rows about one tracklet cannot be told to be about one once it is erased."""
    salt = secrets.token_hex(16)
    token = f"subject:{hashlib.sha256(f'{salt}{subject}'.encode()).hexdigest()[:32]}"
    db.execute("INSERT INTO audit_subjects VALUES (?, ?, ?)", [token, salt, subject])
    return token


def _with_texts(value: Any, change: Callable[[str], str]) -> Any:
    """The same with every text within it changed, keys too."""
    if isinstance(value, Mapping):
        return {change(key): _with_texts(each, change) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_with_texts(each, change) for each in value]
    return change(value) if isinstance(value, str) else value


def _hiding(tokens: Mapping[str, str]) -> Callable[[str], str]:
    """Puts tokens in the place of names (longest first), wherever they stand in a text."""
    shortest = min(map(len, tokens), default=0)
    names = "|".join(map(re.escape, tokens))

    def hidden(text: str) -> str:
        if text in tokens:
            return tokens[text]
        if not tokens or len(text) < shortest:
            return text
        return re.sub(names, lambda found: tokens[found[0]], text)

    return hidden


def _resolving(names: Mapping[str, str]) -> Callable[[str], str]:
    """Puts names in the place of their tokens."""
    return lambda text: _TOKEN.sub(lambda found: names.get(found[0], found[0]), text)


def _tokens_in(texts: Iterable[Any]) -> set[str]:
    return {token for text in texts for token in _TOKEN.findall(str(text))}


def _names_behind(db: sqlite3.Connection, tokens: Set[str]) -> dict[str, str]:
    """Of tokens, as far as nobody was erased."""
    return dict(
        db.execute(
            "SELECT token, subject FROM audit_subjects WHERE token IN (SELECT value FROM json_each(?))",
            [json.dumps(sorted(tokens))],
        ).fetchall()
    )


def _broken_links(rows: Sequence[tuple[Any, ...]], first: int, previous: str) -> Iterator[str]:
    for expected, row in enumerate(rows, start=first):
        number, *_, before, digest = row
        if number != expected:
            yield f"row {expected} is missing"
            return
        if before != previous:
            yield f"row {number} does not follow the row before it"
        if _hash(row[:-1]) != digest:
            yield f"row {number} was edited: its hash does not fit its content"
        previous = digest


def _bad_subjects(subjects: Sequence[tuple[str, str, str]], told: Set[str]) -> Iterator[str]:
    for token, salt, subject in subjects:
        if token != f"subject:{hashlib.sha256(f'{salt}{subject}'.encode()).hexdigest()[:32]}" or token not in told:
            yield f"the name behind {token} was edited"


def _missing_names(
    subjects: Sequence[tuple[str, str, str]], rows: Sequence[tuple[Any, ...]], told: Set[str]
) -> tuple[list[str], list[str]]:
    """Findings and notes on tokens without a name: no more than the erasures say that they took."""
    nameless = told - {token for token, _, _ in subjects}
    taken = [_details(row).get(NAMES_TAKEN) for row in rows if row[3] == "erase"]
    if not nameless:
        return [], []
    if None in taken or any(row[3] == "gallery_rebuilt" for row in rows):
        return [], [
            "an erasure of an older version, or a rebuilt database: whether names were taken otherwise cannot be told"
        ]
    count = sum(each for each in taken if isinstance(each, int))
    if len(nameless) <= count:
        return [], []
    return [f"{len(nameless)} names were taken out of the audit, but erasures took {count}"], []


def _compare_head(
    rows: Sequence[tuple[Any, ...]],
    head: tuple[int, str] | None,
    start: tuple[int, str],
    ageings: Sequence[_Ageing],
) -> tuple[list[str], list[str]]:
    """Findings and notes; the hashes of rows that aged away are known where an ageing ended with them."""
    if head is None:
        return [], []
    number, digest = head
    hashes = {each.until: each.hash for each in ageings} | {start[0] - 1: start[1]} | {row[0]: row[-1] for row in rows}
    if number not in hashes and number >= start[0]:
        return [f"row {number}, which was kept as the head, is gone: the audit was cut off"], []
    if number not in hashes:
        return [], [f"row {number}, which was kept as the head, is not there to compare: the audit begins behind it"]
    if hashes[number] != digest:
        return [f"row {number} has another hash than the head that was kept"], []
    return [], []


def _compare_others(root: Path, rows: Sequence[tuple[Any, ...]]) -> tuple[list[str], list[str]]:
    """Findings and notes on the audits of galleries that were merged into this one."""
    findings, told = [], set()
    for row in rows:
        said = _details(row).get("audit") if row[3] == MERGED and _hash(row[:-1]) == row[-1] else None
        if isinstance(said, dict) and said.get("file") not in told:
            name = Path(str(said.get("file"))).name
            told.add(name)
            findings += [f"{name}: {each}" for each in _other_differs(root / name, row[0], said)]
    silent = sorted(path.name for path in root.glob(f"{_OF_OTHERS}*.jsonl") if path.name not in told)
    return findings, [f"{name}: no row tells of it (any more), so that nothing covers it" for name in silent]


def _other_differs(path: Path, number: int, said: Mapping[str, Any]) -> Iterator[str]:
    if not path.is_file():
        yield f"missing, though row {number} says that it was kept"
        return
    copied, unreadable = _read_copy(path)
    yield from unreadable
    rows = [tuple(each) for each in copied.values()]
    if rows:
        yield from _broken_links(rows, rows[0][0], rows[0][-2])
    ends = (len(rows), rows[-1][0], rows[-1][-1]) if rows else (0, 0, BEGINNING)
    if ends != (said.get("rows"), said.get("number"), said.get("hash")):
        yield f"has other rows, or another end, than row {number} says: it was cut off, or edited"


def _read_copy(path: Path) -> tuple[dict[int, list[Any]], list[str]]:
    """Rows by number, and what is wrong with the lines; nothing where there is no file."""
    rows: dict[int, list[Any]] = {}
    findings = []
    content = path.read_bytes() if path.is_file() else b""
    for position, line in enumerate(content.splitlines(keepends=True), start=1):
        if not line.endswith(b"\n"):
            continue  # torn by a crash: the next row completes it
        try:
            row = json.loads(line)
            if len(row) != len(_COLUMNS) or row[0] in rows:
                raise ValueError("not a row")
            rows[int(row[0])] = row
        except (ValueError, TypeError, KeyError, IndexError):
            findings.append(f"{path.name}:{position}: not a row of the audit")
    return rows, findings
