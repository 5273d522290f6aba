"""Cases and what they hold: a tracklet in an open case is neither aged nor erased."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path

from pipeline.audit import Actor, Audit
from pipeline.crop_files import write_whole
from pipeline.errors import UsageError
from pipeline.record import from_us, to_us
from pipeline.store import Store
from pipeline.witnesses import CASES_COPY, cases_text

_CASE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


@dataclass(frozen=True, slots=True)
class Case:
    """A matter that somebody looks into.

    Attributes:
        case_id: Its name.
        title: In words.
        opened: UTC.
        closed: None while it is open, and holds its items.
        items: How many tracklets it has.
    """

    case_id: str
    title: str
    opened: datetime
    closed: datetime | None
    items: int


class Before(StrEnum):
    """What a case was before it was opened."""

    ABSENT = "absent"
    CLOSED = "closed"
    OPEN = "open"


@dataclass(frozen=True, slots=True)
class Opened:
    """What came of opening a case.

    Attributes:
        before: What it was.
        title: That it has now.
        replaced: The title that this one took the place of; None where none did.
    """

    before: Before
    title: str
    replaced: str | None


class Cases:
    """The cases of a gallery; changes need a store that can write."""

    def __init__(self, store: Store, audit: Audit | None = None) -> None:
        self._store = store
        self._audit = audit or Audit(store)

    def all(self) -> list[Case]:
        """Every case, by name."""
        with self._store.reading() as db:
            rows = db.execute(
                "SELECT case_id, title, opened_us, closed_us, (SELECT COUNT(*) FROM case_items i WHERE i.case_id ="
                " c.case_id) FROM cases c ORDER BY case_id"
            )
            return [
                Case(case_id, title, from_us(opened), from_us(closed) if closed is not None else None, items)
                for case_id, title, opened, closed, items in rows
            ]

    def open(self, case_id: str, title: str, actor: Actor) -> Opened:
        """Begin a case, or open a closed one again; its title says what it is for.

        Args:
            case_id: Its name.
            title: Takes the place of the one that it has; blank keeps that.
            actor: Who opens it.

        Raises:
            UsageError: When the name is not letters, digits, '_', '-' and '.', or a purpose is mandatory and neither a
                title nor any other is given.
        """
        if not _CASE_ID.fullmatch(case_id):
            raise UsageError(f"a case's id must be of letters, digits, '_', '-' and '.', got {case_id!r}")
        with self._store.writing() as db:
            row = db.execute("SELECT title, closed_us IS NULL FROM cases WHERE case_id = ?", [case_id]).fetchone()
            had, is_open = row or ("", None)
            now = title if title.strip() else had
            self._audit.require(replace(actor, purpose=actor.purpose or now))
            db.execute(
                "INSERT INTO cases VALUES (?, ?, ?, NULL)"
                " ON CONFLICT (case_id) DO UPDATE SET closed_us = NULL, title = excluded.title",
                [case_id, now, to_us(datetime.now(UTC))],
            )
            self._audit.append(db, _for_case(actor, case_id), "case_open", {"case": case_id, "title": now})
        self._audit.copy()
        self.write_copy()
        before = Before.ABSENT if row is None else Before.OPEN if is_open else Before.CLOSED
        return Opened(before, now, had if had and had != now else None)

    def close(self, case_id: str, actor: Actor) -> None:
        """End a case: its items are held no longer.

        Raises:
            UsageError: When there is no open case of this name.
        """
        with self._store.writing() as db:
            done = db.execute(
                "UPDATE cases SET closed_us = ? WHERE case_id = ? AND closed_us IS NULL",
                [to_us(datetime.now(UTC)), case_id],
            ).rowcount
            if not done:
                raise UsageError(f"no open case {case_id!r}")
            self._audit.append(db, _for_case(actor, case_id), "case_close", {"case": case_id})
        self._audit.copy()
        self.write_copy()

    def hold(self, case_id: str, tracklet_ids: Sequence[str], actor: Actor, *, note: str | None = None) -> None:
        """Put tracklets into an open case; one that is in it already stays as it is.

        Raises:
            UsageError: When there is no open case of this name, or no such tracklet.
        """
        with self._store.writing() as db:
            rows = [self._store.tracklet(each).row for each in tracklet_ids]  # none goes until it is held
            self._require_open(case_id)
            when = to_us(datetime.now(UTC))
            db.executemany(
                "INSERT OR IGNORE INTO case_items VALUES (?, ?, ?, ?, ?)",
                [(case_id, row, when, actor.name, note) for row in rows],
            )
            details = {"case": case_id, "tracklets": list(tracklet_ids)}
            self._audit.append(db, _for_case(actor, case_id), "hold", details, subjects=tracklet_ids)
        self._audit.copy()
        self.write_copy()

    def release(self, case_id: str, tracklet_ids: Sequence[str], actor: Actor) -> None:
        """Take tracklets out of an open case; what a closed one held is its record.

        Raises:
            UsageError: When there is no open case of this name, or no such tracklet.
        """
        with self._store.writing() as db:
            rows = [self._store.tracklet(each).row for each in tracklet_ids]
            self._require_open(case_id)
            db.executemany(
                "DELETE FROM case_items WHERE case_id = ? AND tracklet_row = ?", [(case_id, row) for row in rows]
            )
            details = {"case": case_id, "tracklets": list(tracklet_ids)}
            self._audit.append(db, _for_case(actor, case_id), "release", details, subjects=tracklet_ids)
        self._audit.copy()
        self.write_copy()

    def items(self, case_id: str) -> list[str]:
        """Tracklet ids of a case, in order of time."""
        with self._store.reading() as db:
            rows = db.execute(
                "SELECT tracklet_id FROM case_items JOIN tracklets ON row = tracklet_row WHERE case_id = ?"
                " ORDER BY start_us, tracklet_id",
                [case_id],
            )
            return [name for (name,) in rows]

    def entry(self, case_id: str, tracklet_id: str) -> tuple[int, str, str | None]:
        """When (microseconds) and by whom a tracklet was put into a case, and the note.

        Raises:
            UsageError: When it is not in it.
        """
        with self._store.reading() as db:
            found = db.execute(
                "SELECT added_us, added_by, note FROM case_items JOIN tracklets ON row = tracklet_row"
                " WHERE case_id = ? AND tracklet_id = ?",
                [case_id, tracklet_id],
            ).fetchone()
        if found is None:
            raise UsageError(f"tracklet {tracklet_id} is not in case {case_id}")
        return int(found[0]), str(found[1]), found[2]

    def held(self) -> dict[int, str]:
        """Rows that may not go, each with a case that holds it."""
        with self._store.reading() as db:
            return dict(
                db.execute(
                    "SELECT tracklet_row, MIN(case_id) FROM case_items JOIN cases USING (case_id)"
                    " WHERE closed_us IS NULL GROUP BY tracklet_row"
                ).fetchall()
            )

    def write_copy(self) -> None:
        """Keep a copy beside the database: damage to that must not end a hold."""
        path = self._store.root / CASES_COPY
        with self._store.reading() as db:
            text = cases_text(db)
            (cases,) = db.execute("SELECT COUNT(*) FROM cases").fetchone()
        if (cases or path.is_file()) and not (path.is_file() and path.read_bytes() == text):
            write_whole(path, text)

    def _require_open(self, case_id: str) -> None:
        if case_id not in {each.case_id for each in self.all() if each.closed is None}:
            raise UsageError(f"no open case {case_id!r}; open it first")


def held_in_copy(root: Path) -> dict[str, str]:
    """Tracklets that may not go, each with a case that holds it, as the copy says: where the database cannot be read.

    Raises:
        UsageError: When the copy cannot be read either.
    """
    path = root / CASES_COPY
    if not path.is_file():
        return {}
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        held_by = {case_id for case_id, _, _, closed in kept["cases"] if closed is None}
        return {name: case_id for case_id, name, *_ in kept["items"] if case_id in held_by}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{path}: neither it nor the database can be read, so nobody knows what is held") from error


def _for_case(actor: Actor, case_id: str) -> Actor:
    """What is done to a case is done for it."""
    return replace(actor, case_id=actor.case_id or case_id)
