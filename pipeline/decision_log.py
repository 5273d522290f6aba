"""A copy of all decisions about people beside the database: damage to that must not lose what operators said.

A line a decision, appended when it is made. Tracklets stand there by name, for a rebuilt database may number its rows
anew; so an erasure writes the file again without them.
"""

import json
import re
import sqlite3
from collections.abc import Iterator, Mapping, Set
from contextlib import suppress
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from pipeline.crop_files import write_whole
from pipeline.event_files import exclusive, last_number
from pipeline.store import Store
from pipeline.witnesses import DECISIONS_COPY

_QUOTED = re.compile(rb'"([A-Za-z0-9_.-]+)"')


@dataclass(frozen=True, slots=True)
class NamedDecision:
    """A decision that is worth the same in another database.

    Attributes:
        decision_id: From 1, in order.
        made_us: Microseconds since 1970, UTC.
        actor: Who.
        kind: merge, split, confirm, reject, revise or undo.
        purpose: Why, if it was said.
        undoes: The decision that this one took back.
        tracklets: Name, person before and after.
        persons: Number, state and whom it was merged into, before and after.
        links: Name, name of the other, value before and after.
    """

    decision_id: int
    made_us: int
    actor: str
    kind: str
    purpose: str | None
    undoes: int | None
    tracklets: tuple[tuple[str, int, int], ...]
    persons: tuple[tuple[int, Any, Any], ...]
    links: tuple[tuple[str, str, Any, Any], ...]

    def renamed(self, persons: Mapping[int, int]) -> "NamedDecision":
        """With other numbers for the persons."""

        def state(value: Any) -> Any:
            return value if value is None else [value[0], None if value[1] is None else persons[value[1]]]

        return replace(
            self,
            tracklets=tuple((name, persons[before], persons[after]) for name, before, after in self.tracklets),
            persons=tuple((persons[each], state(before), state(after)) for each, before, after in self.persons),
        )

    @property
    def people(self) -> set[int]:
        """All who are mentioned."""
        found = {person for _, *both in self.tracklets for person in both}
        found |= {person for person, _, _ in self.persons}
        return found | {value[1] for _, *both in self.persons for value in both if value and value[1] is not None}


_FIELDS = tuple(each.name for each in fields(NamedDecision) if each.name != "decision_id")


def named_decisions(store: Store, *, after: int = 0) -> Iterator[NamedDecision]:
    """All behind a number, by number; what they said of tracklets that are gone is left out."""
    with store.reading() as db:
        rows = db.execute(
            "SELECT d.decision_id, d.made_us, d.actor, d.kind, d.purpose, u.decision_id, d.effects FROM decisions d"
            " LEFT JOIN decisions u ON u.undone_by = d.decision_id WHERE d.decision_id > ? ORDER BY d.decision_id",
            [after],
        ).fetchall()
        names = _Names(db)
        for number, made_us, actor, kind, purpose, undoes, text in rows:
            effects = json.loads(text)
            moved = tuple((names[row], *both) for row, *both in effects["tracklets"] if row in names)
            links = tuple(
                (names[row], names[other], *both)
                for row, other, *both in effects["links"]
                if row in names and other in names
            )
            persons = tuple((person, before, later) for person, before, later in effects["persons"])
            yield NamedDecision(number, made_us, actor, kind, purpose, undoes, moved, persons, links)


class _Names:
    """Of rows, looked up once each."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self._known: dict[int, str | None] = {}

    def __contains__(self, row: int) -> bool:
        if row not in self._known:
            found = self._db.execute("SELECT tracklet_id FROM tracklets WHERE row = ?", [row]).fetchone()
            self._known[row] = None if found is None else found[0]
        return self._known[row] is not None

    def __getitem__(self, row: int) -> str:
        name = self._known[row]
        if name is None:
            raise KeyError(row)
        return name


def copy_decisions(store: Store) -> None:
    """Append those that are not in the copy; what a crash left out comes with the next."""
    path = store.root / DECISIONS_COPY
    with store.reading() as db:
        (last,) = db.execute("SELECT COALESCE(MAX(decision_id), 0) FROM decisions").fetchone()
    if not last and not path.is_file():
        return
    with exclusive(path) as file:
        for each in named_decisions(store, after=last_number(file)):
            file.write(_line(each))


def rewrite_decisions(store: Store) -> None:
    """Write the copy anew, without what is gone."""
    path = store.root / DECISIONS_COPY
    lines = b"".join(map(_line, named_decisions(store)))
    if lines or path.is_file():
        with exclusive(path):
            write_whole(path, lines)


def scrub_decisions(store: Store, tracklet_ids: Set[str]) -> None:
    """Take tracklets that are gone from the database out of the copy too, where it names one of them."""
    path = store.root / DECISIONS_COPY
    if path.is_file():
        with exclusive(path) as file:  # before it is read: who adds a decision may have looked before they were gone
            file.seek(0)
            data, names = file.read(), {name.encode() for name in tracklet_ids}
            if not data.endswith(b"\n") or not names.isdisjoint(_QUOTED.findall(data)):
                write_whole(path, b"".join(map(_line, named_decisions(store))))


def copy_differs(store: Store) -> bool:
    """Whether the copy says something else than the database; only where nobody decides meanwhile."""
    path = store.root / DECISIONS_COPY
    return (path.read_bytes() if path.is_file() else b"") != b"".join(map(_line, named_decisions(store)))


def read_decisions(root: Path) -> list[NamedDecision]:
    """All whole lines of the copy, by number."""
    found: dict[int, NamedDecision] = {}
    with suppress(OSError):
        for line in (root / DECISIONS_COPY).read_bytes().splitlines():
            with suppress(ValueError, TypeError, KeyError):
                number, values = json.loads(line)
                found[number] = NamedDecision(number, **{name: values[name] for name in _FIELDS})
    return [found[number] for number in sorted(found)]


def insert_decision(db: sqlite3.Connection, decision: NamedDecision, rows: Mapping[str, int], *, number: int) -> None:
    """Put one into another database, as it is numbered there; what it says of unknown tracklets is left out."""
    effects = {
        "tracklets": [[rows[name], *both] for name, *both in decision.tracklets if name in rows],
        "persons": decision.persons,
        "links": [[rows[a], rows[b], *both] for a, b, *both in decision.links if a in rows and b in rows],
    }
    db.execute(
        "INSERT INTO decisions VALUES (?, ?, ?, ?, ?, ?, NULL)",
        [number, decision.made_us, decision.actor, decision.kind, decision.purpose, json.dumps(effects)],
    )


def _line(decision: NamedDecision) -> bytes:
    values = asdict(decision)
    return json.dumps([values.pop("decision_id"), values], ensure_ascii=False).encode() + b"\n"
