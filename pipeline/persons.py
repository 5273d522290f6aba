"""People as events made them: what the program guessed, what an operator decided, and the way back.

Every change is a decision that keeps each value before and after it, so that it can be undone. Late evidence is a
decision too, of the program, and never moves what an operator confirmed.
"""

import json
import sqlite3
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from pipeline.audit import PROGRAM, Actor, Audit
from pipeline.decision_log import copy_decisions
from pipeline.errors import UsageError
from pipeline.identify import Link, person_name
from pipeline.record import from_us, to_us
from pipeline.store import LinkState, PersonState, Store
from reid.modality import Modality

_LinkValue = tuple[float, float, str]  # cosine, probability, state


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody.

    Attributes:
        person_id: Never given twice.
        state: The program's guess, confirmed by an operator, or merged into another person.
        merged_into: That other person.
        tracklets: How many show them.
    """

    person_id: int
    state: PersonState
    merged_into: int | None
    tracklets: int


@dataclass(frozen=True, slots=True)
class PersonSummary(Person):
    """Somebody, and where and when they were seen, as far as the one who asks may see it.

    Attributes:
        cameras: That saw them, by name.
        modalities: Of those cameras.
        first: First seen, UTC; None of somebody without a tracklet.
        last: Last seen, UTC.
        best_tracklet: With the best view: in colour if there is one, for people know people by it.
    """

    cameras: tuple[str, ...]
    modalities: tuple[Modality, ...]
    first: datetime | None
    last: datetime | None
    best_tracklet: str | None


@dataclass(frozen=True, slots=True)
class Decision:
    """One change, with the way back.

    Attributes:
        decision_id: From 1, in order.
        made: UTC.
        actor: The operator, or the program.
        kind: merge, split, confirm, reject, revise or undo.
        purpose: Why, if it was said.
        moved: tracklet row, person before and after.
        undone_by: The decision that took it back.
    """

    decision_id: int
    made: datetime
    actor: str
    kind: str
    purpose: str | None
    moved: tuple[tuple[int, int, int], ...]
    undone_by: int | None


@dataclass(frozen=True, slots=True)
class Scope:
    """Whose and about whom a decision is.

    Attributes:
        actor: Who made it.
        kind: Of it, or of what it took back.
        rows: Of all tracklets that it moved, or between which it changed a link.
    """

    actor: str
    kind: str
    rows: frozenset[int]


class _ConfirmedError(Exception):
    """An operator confirmed a link of the tracklet."""


class _Effects:
    """Changes values, and notes each before and after, by row: names are left out so that erasing is easy.

    A state of a person or link that was so already is noted too: the decision stands for it, whatever comes of others.
    """

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self.tracklets: list[tuple[int, int, int]] = []
        self.persons: list[tuple[int, tuple[str, int | None], tuple[str, int | None]]] = []
        self.links: list[tuple[int, int, _LinkValue | None, _LinkValue | None]] = []

    def move(self, row: int, person: int) -> None:
        (before,) = self._db.execute("SELECT person_id FROM tracklets WHERE row = ?", [row]).fetchone()
        if before != person:
            self._db.execute("UPDATE tracklets SET person_id = ? WHERE row = ?", [person, row])
            self._db.execute("INSERT INTO changes (tracklet_row, kind) VALUES (?, 'revised')", [row])
            self.tracklets.append((row, before, person))

    def mark(self, person: int, state: PersonState, merged_into: int | None = None) -> None:
        row = self._db.execute("SELECT state, merged_into FROM persons WHERE person_id = ?", [person])
        before, after = row.fetchone(), (state.value, merged_into)
        values = [*after, person]
        self._db.execute("UPDATE persons SET state = ?, merged_into = ? WHERE person_id = ?", values)
        self.persons.append((person, before, after))

    def link(self, row: int, to_row: int, value: _LinkValue | None) -> None:
        name, before = _link_now(self._db, row, to_row)
        if value is None:
            self._db.execute("DELETE FROM links WHERE tracklet_row = ? AND to_tracklet_id = ?", [row, name])
        else:
            self._db.execute("INSERT OR REPLACE INTO links VALUES (?, ?, ?, ?, ?)", [row, name, *value])
        self.links.append((row, to_row, before, value))

    def to_json(self) -> str:
        return json.dumps({"tracklets": self.tracklets, "persons": self.persons, "links": self.links})


class Persons:
    """The people of a gallery; changes need a store that can write (``Store.open`` or ``Store.edit``)."""

    def __init__(self, store: Store, audit: Audit | None = None) -> None:
        self._store = store
        self._audit = audit or Audit(store)

    def all(self) -> list[Person]:
        """Every person, those who were merged into others too, by number."""
        with self._store.reading() as db:
            rows = db.execute(
                "SELECT person_id, state, merged_into, COUNT(row) FROM persons LEFT JOIN tracklets USING (person_id)"
                " GROUP BY person_id ORDER BY person_id"
            )
            return [Person(number, PersonState(state), into, count) for number, state, into, count in rows]

    def summaries(
        self,
        *,
        cameras: Collection[str] | None = None,
        states: Collection[PersonState] = tuple(PersonState),
        after: int = 0,
        limit: int | None = None,
    ) -> list[PersonSummary]:
        """Persons by number, each as these cameras saw them.

        Args:
            cameras: Only tracklets of these count, and who has none of them is left out; None is all.
            states: Only persons of one of these.
            after: Only greater numbers.
            limit: At most so many.
        """
        among = "" if cameras is None else " AND t.camera_id IN (SELECT value FROM json_each(:cameras))"
        join = "LEFT JOIN" if cameras is None else "JOIN"
        values: dict[str, Any] = {"after": after, "limit": -1 if limit is None else limit}
        values |= {"states": json.dumps(sorted(states)), "cameras": json.dumps(sorted(cameras or ()))}
        with self._store.reading() as db:
            rows = db.execute(
                "SELECT p.person_id, p.state, p.merged_into, COUNT(t.row), MIN(t.start_us), MAX(t.end_us)"  # noqa: S608
                f" FROM persons p {join} tracklets t ON t.person_id = p.person_id{among}"
                " WHERE p.person_id > :after AND p.state IN (SELECT value FROM json_each(:states))"
                " GROUP BY p.person_id ORDER BY p.person_id LIMIT :limit",
                values,
            ).fetchall()
            return [self._summary(db, row, among, values) for row in rows]

    def summary(self, person_id: int, *, cameras: Collection[str] | None = None) -> PersonSummary:
        """One person, as these cameras saw them.

        Raises:
            UsageError: When there is nobody of this number, or none of these cameras saw them.
        """
        found = self.summaries(cameras=cameras, after=person_id - 1, limit=1)
        if not found or found[0].person_id != person_id:
            raise UsageError(f"no person {person_name(person_id)} in this gallery")
        return found[0]

    def _summary(
        self, db: sqlite3.Connection, row: tuple[Any, ...], among: str, values: dict[str, Any]
    ) -> PersonSummary:
        number, state, into, count, first, last = row
        seen = db.execute(
            "SELECT t.camera_id, c.modality, t.tracklet_id, MAX(t.quality)"  # noqa: S608
            " FROM tracklets t JOIN cameras c USING (camera_id)"
            f" WHERE t.person_id = :person{among} GROUP BY t.camera_id ORDER BY t.camera_id",
            values | {"person": number},
        ).fetchall()
        kinds = {each[1] for each in seen}
        return PersonSummary(
            person_id=number,
            state=PersonState(state),
            merged_into=into,
            tracklets=count,
            cameras=tuple(each[0] for each in seen),
            modalities=tuple(each for each in Modality if each.value in kinds),
            first=None if first is None else from_us(first),
            last=None if last is None else from_us(last),
            best_tracklet=max(seen, key=_seen_best)[2] if seen else None,
        )

    def constraints(self) -> tuple[frozenset[tuple[int, int]], frozenset[tuple[int, int]]]:
        """Pairs of rows that an operator said are one person, and pairs that are not; lower row first."""
        pairs: dict[str, set[tuple[int, int]]] = {"confirmed": set(), "rejected": set()}
        with self._store.reading() as db:
            rows = db.execute(
                "SELECT l.state, l.tracklet_row, t.row FROM links l JOIN tracklets t"
                " ON t.tracklet_id = l.to_tracklet_id WHERE l.state != 'probable'"
            )
            for state, a, b in rows:
                pairs[state].add((min(a, b), max(a, b)))
        return frozenset(pairs["confirmed"]), frozenset(pairs["rejected"])

    def revise(self, tracklet_id: str, person_id: int, links: Sequence[Link], *, why: str = "late evidence") -> bool:
        """Late evidence: the program gives a tracklet to another person, with the links that speak for it.

        Probable links of the tracklet are replaced; what an operator confirmed or rejected stays.

        Returns:
            Whether it was done: a tracklet with a link that an operator confirmed is not moved.
        """

        def change(db: sqlite3.Connection, effects: _Effects) -> None:
            own = self._accepted(tracklet_id)
            if any(each.state is LinkState.CONFIRMED for each in self._store.links(tracklet_id)):
                raise _ConfirmedError
            db.execute("INSERT OR IGNORE INTO persons (person_id) VALUES (?)", [person_id])
            for to_row, value in self._links_from(db, own).items():
                if value[2] == LinkState.PROBABLE:
                    effects.link(own, to_row, None)
            kept = self._links_from(db, own)
            for link in links:
                to_row = self._accepted(link.tracklet_id)
                if to_row not in kept:
                    effects.link(own, to_row, (link.cosine, link.probability, LinkState.PROBABLE.value))
            effects.move(own, person_id)

        try:
            self._decide("revise", PROGRAM if not why else Actor(PROGRAM.name, purpose=why), change, subjects=())
        except _ConfirmedError:
            return False
        return True

    def merge(self, into: int, other: int, actor: Actor) -> Decision:
        """Two persons are one: all tracklets of ``other`` go to ``into``.

        Raises:
            UsageError: When there is no such person, or one of them is part of another already.
        """

        def change(db: sqlite3.Connection, effects: _Effects) -> None:
            for person in (into, other):
                self._require_whole(person)
            if into == other:
                raise UsageError(f"{person_name(into)} cannot be merged into itself")
            rows = db.execute("SELECT row FROM tracklets WHERE person_id = ? ORDER BY row", [other]).fetchall()
            for (row,) in rows:
                effects.move(row, into)
            effects.mark(other, PersonState.MERGED, into)
            effects.mark(into, PersonState.CONFIRMED)

        return self._decide("merge", actor, change, details={"into": person_name(into), "other": person_name(other)})

    def split(self, tracklet_ids: Sequence[str], actor: Actor) -> Decision:
        """These tracklets of one person are somebody else: a new person, whom the rest is never linked to again.

        Raises:
            UsageError: When they are not of one person, or are all that the person has.
        """

        def change(db: sqlite3.Connection, effects: _Effects) -> None:
            rows = [self._accepted(each) for each in dict.fromkeys(tracklet_ids)]
            people = {self._store.tracklet(each).person_id for each in tracklet_ids}
            if len(people) != 1:
                raise UsageError(f"tracklets to split off must be of one person, got {len(people)}")
            (person,) = people
            rest = [row for (row,) in db.execute("SELECT row FROM tracklets WHERE person_id = ?", [person])]
            rest = [row for row in rest if row not in rows]
            if not rest:
                raise UsageError(
                    f"these are all tracklets of {person_name(person or 0)}: nothing is left to split from"
                )
            new = self._new_person(db)
            effects.mark(new, PersonState.CONFIRMED)
            for row in rows:
                effects.move(row, new)
            self._reject_between(db, effects, rows, rest)

        return self._decide("split", actor, change, subjects=tracklet_ids, details={"tracklets": list(tracklet_ids)})

    def confirm(self, tracklet_id: str, to_tracklet_id: str, actor: Actor) -> Decision:
        """An operator says that two tracklets of one person show that person.

        Raises:
            UsageError: When they are of two persons: those are to be merged, or one tracklet is to be split off first;
                or when they are one tracklet.
        """
        both = (tracklet_id, to_tracklet_id)

        def change(db: sqlite3.Connection, effects: _Effects) -> None:
            later, earlier = sorted(map(self._accepted, both), reverse=True)
            if later == earlier:
                raise UsageError(f"{tracklet_id} cannot be compared with itself: name two tracklets")
            people = [self._store.tracklet(each).person_id or 0 for each in both]
            if people[0] != people[1]:
                names = " and ".join(map(person_name, people))
                raise UsageError(
                    f"{tracklet_id} and {to_tracklet_id} are {names}: merge these persons to say they are one"
                )
            effects.link(later, earlier, self._value(db, later, earlier, LinkState.CONFIRMED))
            effects.mark(people[0], PersonState.CONFIRMED)

        return self._decide("confirm", actor, change, subjects=both, details={"tracklets": list(both)})

    def reject(self, tracklet_id: str, to_tracklet_id: str, actor: Actor) -> Decision:
        """An operator says that two tracklets show two people: where they were one, the first becomes a new person."""

        def change(db: sqlite3.Connection, effects: _Effects) -> None:
            own, other = self._accepted(tracklet_id), self._accepted(to_tracklet_id)
            together = self._store.tracklet(tracklet_id).person_id == self._store.tracklet(to_tracklet_id).person_id
            if own == other:
                raise UsageError(f"{tracklet_id} cannot be another person than itself")
            later, earlier = max(own, other), min(own, other)
            effects.link(later, earlier, self._value(db, later, earlier, LinkState.REJECTED))
            if together:
                effects.move(own, self._new_person(db))

        both = (tracklet_id, to_tracklet_id)
        return self._decide("reject", actor, change, subjects=both, details={"tracklets": list(both)})

    def undo(self, decision_id: int, actor: Actor) -> Decision:
        """Take a decision back: every value is again as the other decisions that stand have it, or as before all.

        An undo can be undone as well. What was erased since stays erased.

        Raises:
            UsageError: When there is no such decision, it is undone already, or a later one changed the same values or
                relies on them: that one is named.
        """

        def change(db: sqlite3.Connection, effects: _Effects) -> None:
            _Undoing(db, decision_id).apply(effects)

        return self._decide("undo", actor, change, details={"decision": decision_id}, undoes=decision_id)

    def scope(self, decision_id: int) -> Scope | None:
        """Whose and about whom a decision is; None when there is no such decision."""
        with self._store.reading() as db:
            found = db.execute(
                "WITH RECURSIVE chain (number, actor, kind, effects) AS ("
                " SELECT decision_id, actor, kind, effects FROM decisions WHERE decision_id = ?"
                " UNION ALL SELECT d.decision_id, d.actor, d.kind, d.effects FROM decisions d, chain"
                " WHERE d.undone_by = chain.number AND chain.kind = 'undo')"
                " SELECT actor, kind, effects FROM chain ORDER BY number DESC",
                [decision_id],
            ).fetchall()
        if not found:
            return None
        done = json.loads(found[0][2])
        rows = {row for row, *_ in done["tracklets"]} | {row for entry in done["links"] for row in entry[:2]}
        return Scope(found[0][0], found[-1][1], frozenset(rows))

    def decisions(self, *, after: int = 0) -> list[Decision]:
        """All, oldest first, or those behind one."""
        return self.last_decisions(after=after)[::-1]

    def last_decisions(self, *, before: int | None = None, after: int = 0, limit: int | None = None) -> list[Decision]:
        """Newest first.

        Args:
            before: Only those before this one.
            after: Only those behind this one.
            limit: At most so many.
        """
        with self._store.reading() as db:
            rows = db.execute(
                "SELECT decision_id, made_us, actor, kind, purpose, effects, undone_by FROM decisions"
                " WHERE (?1 IS NULL OR decision_id < ?1) AND decision_id > ?2 ORDER BY 1 DESC LIMIT ?3",
                [before, after, -1 if limit is None else limit],
            )
            return [
                Decision(number, from_us(made), actor, kind, purpose, _moved(effects), undone)
                for number, made, actor, kind, purpose, effects, undone in rows
            ]

    def _decide(
        self,
        kind: str,
        actor: Actor,
        change: Callable[[sqlite3.Connection, _Effects], None],
        *,
        subjects: Sequence[str] = (),
        details: dict[str, Any] | None = None,
        undoes: int | None = None,
    ) -> Decision:
        """Do it, keep the way back, and record it, all or nothing."""
        made = datetime.now(UTC)
        if actor.name != PROGRAM.name:
            self._audit.require(actor)
        with self._store.writing() as db:
            effects = _Effects(db)
            change(db, effects)
            number = db.execute(
                "INSERT INTO decisions (made_us, actor, kind, purpose, effects) VALUES (?, ?, ?, ?, ?)",
                [to_us(made), actor.name, kind, actor.purpose, effects.to_json()],
            ).lastrowid
            if undoes is not None:
                db.execute("UPDATE decisions SET undone_by = ? WHERE decision_id = ?", [number, undoes])
            names = [(name,) for name in self._names(effects)]
            db.executemany("INSERT OR IGNORE INTO pending VALUES ('record', ?)", names)
            if actor.name != PROGRAM.name:
                said = {"decision": number, **(details or {})}
                self._audit.append(db, actor, kind, said, subjects=subjects)
        self._audit.copy()
        copy_decisions(self._store)
        self._store.rewrite_records(name for (name,) in names)
        with self._store.writing() as db:
            db.executemany("DELETE FROM pending WHERE kind = 'record' AND value = ?", names)
        moved = tuple(effects.tracklets)
        return Decision(int(number or 0), from_us(to_us(made)), actor.name, kind, actor.purpose, moved, None)

    def _names(self, effects: _Effects) -> list[str]:
        """Of those whose person changed: their records are brought up to it."""
        with self._store.reading() as db:
            found = (
                db.execute("SELECT tracklet_id FROM tracklets WHERE row = ?", [row]).fetchone()
                for row, _, _ in effects.tracklets
            )
            return [each[0] for each in found if each is not None]

    def _accepted(self, tracklet_id: str) -> int:
        found = self._store.tracklet(tracklet_id)
        if found.rejected is not None:
            raise UsageError(f"tracklet {tracklet_id} was rejected ({found.rejected.value}) and shows nobody")
        return found.row

    def _require_whole(self, person: int) -> None:
        found = {each.person_id: each for each in self.all()}.get(person)
        if found is None:
            raise UsageError(f"no person {person_name(person)} in this gallery")
        if found.merged_into is not None:
            raise UsageError(f"{person_name(person)} is part of {person_name(found.merged_into)} already")

    def _new_person(self, db: sqlite3.Connection) -> int:
        return int(db.execute("INSERT INTO persons DEFAULT VALUES").lastrowid or 0)

    def _links_from(self, db: sqlite3.Connection, row: int) -> dict[int, _LinkValue]:
        """Links of a tracklet to those that still exist, by row."""
        found = db.execute(
            "SELECT t.row, l.cosine, l.probability, l.state FROM links l JOIN tracklets t"
            " ON t.tracklet_id = l.to_tracklet_id WHERE l.tracklet_row = ?",
            [row],
        )
        return {to_row: (cosine, probability, state) for to_row, cosine, probability, state in found}

    def _value(self, db: sqlite3.Connection, row: int, to_row: int, state: LinkState) -> _LinkValue:
        """The link as it is but for its state; where there was none, with the cosine of the two vectors."""
        found = self._links_from(db, row).get(to_row)
        if found is not None:
            return (found[0], found[1], state.value)
        a, b = self._store.embeddings([row, to_row])
        cosine = float(a.astype("f8") @ b.astype("f8"))
        kinds = [
            db.execute("SELECT modality FROM tracklets JOIN cameras USING (camera_id) WHERE row = ?", [each]).fetchone()
            for each in (row, to_row)
        ]
        probability = self._store.calibration.probability([cosine], *_modalities(kinds))
        return (cosine, float(probability[0]), state.value)

    def _reject_between(
        self, db: sqlite3.Connection, effects: _Effects, rows: Iterable[int], rest: Iterable[int]
    ) -> None:
        """Existing links between two groups are rejected; without any, one is made, so that they stay apart."""
        rows, rest = list(rows), list(rest)
        done = False
        for a in [*rows, *rest]:
            for b, value in self._links_from(db, a).items():
                if (a in rows) != (b in rows) and (a in rows or a in rest) and (b in rows or b in rest):
                    effects.link(a, b, (value[0], value[1], LinkState.REJECTED.value))
                    done = True
        if not done:
            later, earlier = max(rows[0], rest[0]), min(rows[0], rest[0])
            effects.link(later, earlier, self._value(db, later, earlier, LinkState.REJECTED))


def _modalities(rows: Sequence[tuple[str]]) -> tuple[Any, Any]:
    return Modality(rows[0][0]), Modality(rows[1][0])


def _moved(effects: str) -> tuple[tuple[int, int, int], ...]:
    return tuple((row, before, after) for row, before, after in json.loads(effects)["tracklets"])


def _link_now(db: sqlite3.Connection, row: int, to_row: int) -> tuple[str, _LinkValue | None]:
    """Name of the tracklet that a link points to, and its value; None where there is no link."""
    (name,) = db.execute("SELECT tracklet_id FROM tracklets WHERE row = ?", [to_row]).fetchone()
    value = db.execute(
        "SELECT cosine, probability, state FROM links WHERE tracklet_row = ? AND to_tracklet_id = ?", [row, name]
    ).fetchone()
    return name, value


class _Undoing:
    """What is to be so once a decision no longer stands."""

    def __init__(self, db: sqlite3.Connection, decision_id: int) -> None:
        self._db = db
        self._id = decision_id
        rows = db.execute("SELECT decision_id, kind, effects, undone_by FROM decisions ORDER BY decision_id").fetchall()
        self._undone_by = {number: by for number, _, _, by in rows}
        self._kinds = {number: kind for number, kind, _, _ in rows}
        self._effects = {number: json.loads(text) for number, _, text, _ in rows}
        self._require_standing()

    def _require_standing(self) -> None:
        if self._id not in self._kinds:
            raise UsageError(f"no decision {self._id}")
        last, undos = self._id, 0
        while (by := self._undone_by[last]) is not None:
            last, undos = by, undos + 1
        if undos % 2:
            raise UsageError(f"decision {self._id} is undone already, by decision {last}")
        if undos:
            raise UsageError(f"decision {self._id} stands by decision {last}, which took its undoing back: undo {last}")

    def apply(self, effects: _Effects) -> None:
        """Take it back, or raise `UsageError` and name the later decision that is in the way."""
        done = self._effects[self._id]
        moved = [entry for entry in done["tracklets"] if self._exists(entry[0])]
        for row, before, after in moved:
            (now,) = self._db.execute("SELECT person_id FROM tracklets WHERE row = ?", [row]).fetchone()
            self._require(now == after, "tracklets", [row])
            self._db.execute("INSERT OR IGNORE INTO persons (person_id) VALUES (?)", [before])
            effects.move(row, before)
        for (row, to_row), after in {tuple(entry[:2]): entry[3] for entry in done["links"]}.items():
            if self._exists(row) and self._exists(to_row):
                now = _link_now(self._db, row, to_row)[1]
                self._require(now == (after and tuple(after)), "links", [row, to_row])
                value = self._without("links", [row, to_row])
                effects.link(row, to_row, value and (value[0], value[1], value[2]))
        for person, _, after in done["persons"]:
            now = self._db.execute("SELECT state, merged_into FROM persons WHERE person_id = ?", [person]).fetchone()
            if now is not None:
                same = now == tuple(after) or PersonState.MERGED not in (now[0], after[0])
                self._require(same, "persons", [person])
                state, into = self._without("persons", [person])
                effects.mark(person, PersonState(state), into)
        for row, _, _ in moved:
            self._require_links_kept(row)

    def _exists(self, row: int) -> bool:
        return self._db.execute("SELECT 1 FROM tracklets WHERE row = ?", [row]).fetchone() is not None

    def _require(self, unchanged: bool, what: str, key: list[int]) -> None:
        if unchanged:
            return
        later = self._last(what, key)
        if later is None:
            raise UsageError(f"what decision {self._id} did was changed since, by no decision")
        raise UsageError(
            f"a later decision changed what decision {self._id} did: undo decision {later} ({self._kinds[later]}) first"
        )

    def _last(self, what: str, key: list[int]) -> int | None:
        """The last decision behind this one that is about the same."""
        return next((number for number in reversed(self._effects) if number > self._id
                     and any(entry[:-2] == key for entry in self._effects[number][what])), None)  # fmt: skip

    def _stands(self, number: int) -> bool:
        by = self._undone_by[number]
        return number != self._id and (by is None or not self._stands(by))

    def _without(self, what: str, key: list[int]) -> Any:
        """State of a person, or value of a link, by the decisions that stand but this one; undos only tell which do."""
        entries = [
            (number, entry)
            for number, done in self._effects.items()
            for entry in done[what]
            if self._kinds[number] != "undo" and entry[:-2] == key
        ]
        value = entries[0][1][-2] if entries else None
        for number, entry in entries:
            if self._stands(number):
                value = entry[-1]
        return value

    def _require_links_kept(self, row: int) -> None:
        """No tracklet leaves one with whom it was confirmed since, or comes to one from whom it was told apart."""
        found = self._db.execute(
            "SELECT l.tracklet_row, t.row, l.state, own.person_id = t.person_id FROM links l"
            " JOIN tracklets own ON own.row = l.tracklet_row JOIN tracklets t ON t.tracklet_id = l.to_tracklet_id"
            " WHERE l.state != 'probable' AND ?1 IN (l.tracklet_row, t.row)",
            [row],
        ).fetchall()
        for a, b, state, together in found:
            later = self._last("links", [a, b])
            if later is not None and self._kinds[later] != "undo" and bool(together) != (state == LinkState.CONFIRMED):
                raise UsageError(
                    f"decision {later} ({self._kinds[later]}) relies on what decision {self._id} did: undo that first"
                )


def _seen_best(camera: tuple[str, str, str, float]) -> tuple[bool, float]:
    """Order of a person's cameras (name, modality, tracklet, quality, 0 without a view) by what tells the eye most."""
    _, modality, _, quality = camera
    return quality > 0 and modality == Modality.RGB, quality
