"""Who is who across cameras: each new tracklet joins a known person, or is a new one; late evidence may revise that.

Evidence is the calibrated log odds of a pair of tracklets, so that cosines of different pairs of modalities can be
compared, and what place and time say (``pipeline.evidence``). The odds hold at the prior of a match that the
calibration was fitted with (see ``reid.calibration``): where matches are rarer than that, raise the threshold. A link
is always "probable": nothing here is proof, and what an operator decided is never undone.
"""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from datetime import datetime, timedelta

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit

from pipeline.errors import UsageError
from pipeline.evidence import Evidence, Seen, Whereabouts, gaps
from pipeline.grouping import Pairs, regroup, scores_of
from pipeline.tracklets import Tracklet
from reid.calibration import Calibration
from reid.modality import Modality
from trackers.association import assign

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Link:
    """An earlier tracklet that probably shows the same person.

    Attributes:
        tracklet_id: Of the earlier one.
        camera_id: Its camera.
        modality: What that camera measures.
        cosine: In [-1, 1].
        probability: Calibrated, in [0, 1].
        cross_modality: Whether the two cameras measure different things.
    """

    tracklet_id: str
    camera_id: str
    modality: Modality
    cosine: float
    probability: float
    cross_modality: bool


@dataclass(frozen=True, slots=True, eq=False)
class Sighting:
    """A tracklet with its person and the evidence.

    Attributes:
        tracklet: Accepted.
        embedding: Unit length, float32 (d,).
        person_id: From 1; unique within a store, for ever.
        links: To earlier tracklets of that person, most probable first; empty for a new person.
    """

    tracklet: Tracklet
    embedding: NDArray[np.float32]
    person_id: int
    links: tuple[Link, ...]


@dataclass(frozen=True, slots=True)
class Remembered:
    """What an `Identifier` remembers of a tracklet, beside its embedding.

    Attributes:
        tracklet_id: Its name.
        camera_id: Its camera.
        modality: What that camera measures.
        start: First box, UTC.
        end: Last box, UTC.
        person_id: Whose it is.
    """

    tracklet_id: str
    camera_id: str
    modality: Modality
    start: datetime
    end: datetime
    person_id: int


_FORGET_ABOVE = 1.1  # times as many as are to be remembered
_REMEMBERED = [field.name for field in fields(Remembered)]


@dataclass(frozen=True, slots=True, eq=False)
class KnownTracklet(Remembered):
    """A tracklet that has its person.

    Attributes:
        embedding: Unit length, float32 (d,).
    """

    embedding: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Revision:
    """Late evidence: a tracklet is given to another person.

    Attributes:
        tracklet_id: Which.
        before: The person so far.
        person_id: The person from now on.
        links: To other tracklets of that person, most probable first.
    """

    tracklet_id: str
    before: int
    person_id: int
    links: tuple[Link, ...]


@dataclass(frozen=True, slots=True)
class IdentifyRules:
    """When two tracklets are taken for one person.

    Attributes:
        threshold: Least probability, in (0, 1), for joining a known person.
        evidence: When a tracklet comes, a person's score is the mean log odds of their best ``evidence`` tracklets: one
            chance likeness among many does not make a match, and a person seen once is not at a disadvantage.
        max_links: Links kept of each tracklet.
        revise_seconds: Time between two looks back, on the clock of the tracklets; 0 never looks back.
        window_seconds: How far a look back reaches.
        window_tracklets: How many tracklets it reaches at most; time and memory that it takes grow with their square.
        memory: Tracklets remembered; the oldest are forgotten first, and with the last of them their person.
    """

    threshold: float = 0.1
    evidence: int = 5
    max_links: int = 5
    revise_seconds: float = 300.0
    window_seconds: float = 14_400.0
    window_tracklets: int = 1_000
    memory: int = 20_000

    def __post_init__(self) -> None:
        if not 0 < self.threshold < 1:
            raise ValueError(f"threshold must be in (0, 1), got {self.threshold}")
        for name in ("evidence", "max_links", "window_tracklets", "memory"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.revise_seconds < 0 or self.window_seconds <= 0:
            raise ValueError(
                f"revise_seconds must be at least 0 and window_seconds above 0, got {self.revise_seconds:g} and"
                f" {self.window_seconds:g}"
            )


def person_name(person_id: int) -> str:
    """How people are shown: P0007."""
    return f"P{person_id:04d}"


def person_of_name(name: str) -> int:
    """The person of a shown name; the P may be left out.

    Raises:
        UsageError: When it is none.
    """
    digits = name.removeprefix("P")
    if not (digits.isascii() and digits.isdecimal() and len(digits) <= 18):
        raise UsageError(f"a person is written as P0007, got {name!r}")
    return int(digits)


def overlap_in_camera(a: Tracklet | Remembered, b: Tracklet | Remembered) -> bool:
    """Whether one camera saw both at the same moment: then they are two people."""
    return a.camera_id == b.camera_id and a.start <= b.end and b.start <= a.end


class Identifier:
    """Links tracklets across cameras: at once when they come, and again when more is known.

    Tracklets that one camera saw at the same time are assigned to people together, one to one, so that the total
    evidence is greatest; they are never one person, and nobody joins a person who was elsewhere at that moment.
    """

    def __init__(
        self,
        evidence: Evidence | Calibration,
        *,
        dimension: int,
        rules: IdentifyRules | None = None,
        known: Iterable[KnownTracklet] = (),
        next_person_id: int | Callable[[], int] = 1,
    ) -> None:
        """Start anew, or resume.

        Args:
            evidence: Or a calibration alone, for every pair of modalities that will occur.
            dimension: Of the embeddings.
            rules: Thresholds.
            known: What was identified before (``Store.known``).
            next_person_id: Least number for a new person, or what gives one (``Store.reserve_persons``).
        """
        self._evidence = Evidence(evidence) if isinstance(evidence, Calibration) else evidence
        self._dimension = dimension
        self._rules = rules or IdentifyRules()
        # Room for all from the beginning: pages that nothing was written to take no memory, and nothing is copied.
        self._memory = _Memory(dimension, room=round(_FORGET_ABOVE * self._rules.memory) + 1)
        self._pinned: set[str] = set()
        self._confirmed: set[str] = set()
        self._apart: dict[str, set[str]] = defaultdict(set)
        self._looked_back: datetime | None = None
        self._next = next_person_id
        for each in known:
            self._memory.add(each)
            self._note_number(each.person_id)
        self._forget()

    def __len__(self) -> int:
        """Tracklets remembered."""
        return len(self._memory)

    def identify(self, tracklets: Sequence[Tracklet], embeddings: NDArray[np.float32]) -> list[Sighting]:
        """Give each tracklet its person.

        Args:
            tracklets: Of any cameras, in any order.
            embeddings: (n, d), unit rows.

        Returns:
            One sighting a tracklet, in the order of the arguments.

        Raises:
            ValueError: When the shapes do not fit.
            reid.calibration.MissingPairError: When a pair of modalities is not calibrated.
        """
        if embeddings.shape != (len(tracklets), self._dimension):
            raise ValueError(f"embeddings must be ({len(tracklets)}, {self._dimension}), got {embeddings.shape}")
        sightings: dict[int, Sighting] = {}
        for positions in simultaneous(tracklets):
            found = self._identify_group([tracklets[i] for i in positions], embeddings[positions])
            sightings.update(zip(positions, found, strict=True))
        self._forget()
        return [sightings[position] for position in range(len(tracklets))]

    def move(self, tracklet_id: str, person_id: int) -> None:
        """Follow a decision that was made elsewhere; a tracklet that is not remembered has no effect."""
        self._memory.move(tracklet_id, person_id)
        self._note_number(person_id)

    def pin(self, tracklet_ids: Iterable[str]) -> None:
        """An operator has looked at these: they stay with the person that they have."""
        self._pinned.update(tracklet_ids)

    def keep_confirmed(self, tracklet_ids: Iterable[str]) -> None:
        """All that have a link which an operator confirmed: pinned as long; they take the place of those before."""
        self._confirmed = set(tracklet_ids)

    def forget(self, tracklet_ids: Collection[str]) -> None:
        """Of what was erased, or is too old, nothing is remembered."""
        gone = set(tracklet_ids)
        self._memory.forget(lambda each: each.tracklet_id in gone)
        self._pinned -= gone
        self._confirmed -= gone

    def keep_apart(self, pairs: Iterable[tuple[str, str]]) -> None:
        """All pairs that an operator said are two people; they take the place of those before."""
        self._apart = defaultdict(set)
        for a, b in pairs:
            self._apart[a].add(b)
            self._apart[b].add(a)

    def members(self, person_id: int) -> list[str]:
        """Remembered tracklets of a person."""
        return [each.tracklet_id for each in self._memory.of(person_id)]

    def look_back(self, *, at_once: bool = False) -> list[Revision]:
        """Ask of the tracklets of the window anew whose they are, when it is time to, or at once (if ever).

        Returns:
            Tracklets whose person changed; those that an operator decided on are never among them.
        """
        latest = self._memory.latest
        if latest is None or not self._is_due(latest, at_once=at_once):
            return []
        self._looked_back = latest
        since = latest - timedelta(seconds=self._rules.window_seconds)
        recent = [each for each in self._memory.all if each.end >= since][-self._rules.window_tracklets :]
        anchors = self._anchors({each.tracklet_id for each in recent})
        return self._regrouped([*anchors, *recent], len(anchors))

    def _is_due(self, latest: datetime, *, at_once: bool) -> bool:
        if not self._rules.revise_seconds or at_once:
            return bool(self._rules.revise_seconds)
        if self._looked_back is None:
            self._looked_back = latest
        return abs((latest - self._looked_back).total_seconds()) >= self._rules.revise_seconds  # a clock may go back

    def _forget(self) -> None:
        """The oldest, a tenth at a time."""
        if len(self._memory) <= _FORGET_ABOVE * self._rules.memory:
            return
        old = {each.tracklet_id for each in self._memory.all[: -self._rules.memory]}
        self.forget(old)

    # --- when they come ---

    def _identify_group(self, tracklets: list[Tracklet], embeddings: NDArray[np.float32]) -> list[Sighting]:
        """Assign tracklets that exclude each other."""
        known, persons, there = self._memory.all, self._memory.persons, self._memory.seen
        new = [_known(tracklet, vector, 0) for tracklet, vector in zip(tracklets, embeddings, strict=True)]
        here = _seen(new, self._dimension)
        cosines, likeness = self._evidence.likeness(here, there)
        circumstances = self._evidence.circumstances(here, there)
        pairs = Pairs(likeness, circumstances, gaps(here, there))
        people, scores = scores_of(pairs, persons, evidence=self._rules.evidence)
        matches = assign(-scores, gate=-float(logit(self._rules.threshold))).matches
        person_of = {int(row): int(people[column]) for row, column in matches}
        sightings = []
        for row, (tracklet, embedding) in enumerate(zip(tracklets, embeddings, strict=True)):
            person = person_of.get(row) or self._new_person()
            own = np.flatnonzero(persons == person)
            links = self._links(new[row], [known[i] for i in own], cosines[row, own], likeness[row, own])
            sightings.append(Sighting(tracklet, embedding, person, links))
        for sighting in sightings:
            self._memory.add(_known(sighting.tracklet, sighting.embedding, sighting.person_id))
        return sightings

    def _links(
        self, own: Remembered, others: Sequence[Remembered], cosines: Floats, likeness: Floats
    ) -> tuple[Link, ...]:
        order = sorted(range(len(others)), key=lambda i: (-likeness[i], -cosines[i], others[i].tracklet_id))
        return tuple(
            Link(
                tracklet_id=others[i].tracklet_id,
                camera_id=others[i].camera_id,
                modality=others[i].modality,
                cosine=float(np.clip(cosines[i], -1, 1)),
                probability=float(expit(likeness[i])),
                cross_modality=others[i].modality is not own.modality,
            )
            for i in order[: self._rules.max_links]
        )

    def _new_person(self) -> int:
        if callable(self._next):
            return self._next()
        self._next += 1
        return self._next - 1

    def _note_number(self, person_id: int) -> None:
        if not callable(self._next):
            self._next = max(self._next, person_id + 1)

    # --- when more is known ---

    def _anchors(self, recent: set[str]) -> list[Remembered]:
        """The last few tracklets, from before the window, of each person; whoever was seen last comes first."""
        found: dict[int, list[Remembered]] = defaultdict(list)
        for each in reversed(self._memory.all):
            if each.tracklet_id not in recent and len(found[each.person_id]) < self._rules.evidence:
                found[each.person_id].append(each)
        anchors: list[Remembered] = []
        for own in found.values():
            if len(anchors) + len(own) > self._rules.window_tracklets:
                break
            anchors += own
        return anchors

    def _regrouped(self, members: list[Remembered], anchors: int) -> list[Revision]:
        """Ask of each member whose it is; the first so many are anchors, which stay with their persons."""
        seen = self._memory.seen_of(members)
        cosines, likeness = self._evidence.likeness(seen, seen)
        circumstances = self._evidence.circumstances(seen, seen)
        self._set_apart(circumstances, [each.tracklet_id for each in members])
        before = np.array([each.person_id for each in members])
        pinned = self._pinned | self._confirmed
        fixed = np.array([i < anchors or each.tracklet_id in pinned for i, each in enumerate(members)])
        pairs = Pairs(likeness, circumstances, gaps(seen, seen))
        barred = self._barred(members, seen, np.unique(before))
        after = regroup(before, pairs, threshold=float(logit(self._rules.threshold)), fixed=fixed, barred=barred)
        for new in np.unique(after[after < 0])[::-1]:
            after[after == new] = self._new_person()
        revisions = []
        for i in np.flatnonzero(after != before).tolist():
            own = [j for j in np.flatnonzero(after == after[i]).tolist() if j != i]
            links = self._links(members[i], [members[j] for j in own], cosines[i, own], likeness[i, own])
            revisions.append(Revision(members[i].tracklet_id, int(before[i]), int(after[i]), links))
        for each in revisions:
            self._memory.move(each.tracklet_id, each.person_id)
        return revisions

    def _barred(self, members: Sequence[Remembered], seen: Seen, people: Ints) -> NDArray[np.bool_]:
        """Whom each member cannot be for what is remembered of the person beside the members, (members, people)."""
        there, owners = self._memory.rest(members, of=people)
        barred = self._evidence.excluded(seen, there, owners, people=len(people))
        place = {each.tracklet_id: i for i, each in enumerate(members)}
        for name in self._apart.keys() & place.keys():
            others = [self._memory.person_of(each) for each in self._apart[name] - place.keys()]
            barred[place[name]] |= np.isin(people, [each for each in others if each is not None])
        return barred

    def _set_apart(self, circumstances: Floats, names: Sequence[str]) -> None:
        place = {name: i for i, name in enumerate(names)}
        for a in self._apart.keys() & place.keys():
            for b in self._apart[a] & place.keys():
                circumstances[place[a], place[b]] = -np.inf  # and the other way round, for both know of each other


class _Memory:
    """Tracklets in order of arrival, and the same as rows of arrays; embeddings are kept as rows alone."""

    def __init__(self, dimension: int, *, room: int) -> None:
        self.all: list[Remembered] = []
        self._cameras: dict[str, int] = {}
        self._rows = np.empty((room, 5))  # camera, modality, start, end, person
        self._vectors = np.empty((room, dimension), np.float32)
        self._place: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self.all)

    @property
    def persons(self) -> NDArray[np.int64]:
        """(n,) whose each is."""
        return self._rows[: len(self), 4].astype(np.int64)

    @property
    def seen(self) -> Seen:
        """All, row by row."""
        return self._seen(slice(len(self)))

    def seen_of(self, some: Sequence[Remembered]) -> Seen:
        """Some of all, in their order."""
        return self._seen([self._place[each.tracklet_id] for each in some])

    def _seen(self, places: slice | list[int]) -> Seen:
        rows = self._rows[places]
        return Seen(rows[:, 0].astype(np.int64), list(self._cameras), rows[:, 2], rows[:, 3],
                    rows[:, 1].astype(np.int64), self._vectors[places])  # fmt: skip

    def rest(self, some: Sequence[Remembered], *, of: Ints) -> tuple[Whereabouts, Ints]:
        """Where and when all but some were, and whose they are: a place in `of`, ascending numbers; of others none."""
        left = np.isin(self.persons, of)
        left[[self._place[each.tracklet_id] for each in some]] = False
        rows = self._rows[: len(self)][left]
        there = Whereabouts(rows[:, 0].astype(np.int64), list(self._cameras), rows[:, 2], rows[:, 3])
        return there, np.searchsorted(of, rows[:, 4].astype(np.int64))

    def person_of(self, tracklet_id: str) -> int | None:
        """Whose one is; None where it is not remembered."""
        place = self._place.get(tracklet_id)
        return None if place is None else self.all[place].person_id

    @property
    def latest(self) -> datetime | None:
        """End of the one that was seen last; an eighth of the last ones may have a wrong time, far ahead."""
        ends = sorted(each.end for each in self.all[-64:])
        return ends[-1 - len(ends) // 8] if ends else None

    def add(self, known: KnownTracklet) -> None:
        """Remember one more."""
        count = len(self)
        if count == len(self._rows):
            self._rows = np.concatenate([self._rows, np.empty_like(self._rows)])
            self._vectors = np.concatenate([self._vectors, np.empty_like(self._vectors)])
        camera = self._cameras.setdefault(known.camera_id, len(self._cameras))
        times = known.start.timestamp(), known.end.timestamp()
        self._rows[count] = camera, list(Modality).index(known.modality), *times, known.person_id
        self._vectors[count] = known.embedding
        self._place[known.tracklet_id] = count
        self.all.append(Remembered(**{name: getattr(known, name) for name in _REMEMBERED}))

    def of(self, person_id: int) -> list[Remembered]:
        """Those of one person."""
        return [self.all[i] for i in np.flatnonzero(self.persons == person_id)]

    def move(self, tracklet_id: str, person_id: int) -> None:
        """Give one to another person; without effect where it is not remembered."""
        place = self._place.get(tracklet_id)
        if place is not None:
            self.all[place] = replace(self.all[place], person_id=person_id)
            self._rows[place, 4] = person_id

    def forget(self, names: Callable[[Remembered], bool]) -> None:
        """Forget those for which the answer is yes."""
        left = [i for i, each in enumerate(self.all) if not names(each)]
        self._rows[: len(left)], self._vectors[: len(left)] = self._rows[left], self._vectors[left]
        self.all = [self.all[i] for i in left]
        self._place = {each.tracklet_id: i for i, each in enumerate(self.all)}


def _seen(known: Sequence[KnownTracklet], dimension: int) -> Seen:
    memory = _Memory(dimension, room=len(known))
    for each in known:
        memory.add(each)
    return memory.seen


def simultaneous(tracklets: Sequence[Tracklet]) -> Iterator[list[int]]:
    """Split into groups, in order of time, in each of which all overlap in one camera; positions, each exactly once."""
    order = sorted(range(len(tracklets)), key=lambda i: (tracklets[i].start, tracklets[i].tracklet_id))
    groups: list[list[int]] = []
    open_group: dict[str, list[int]] = {}
    for position in order:
        group = open_group.get(tracklets[position].camera_id)
        if group is None or not all(overlap_in_camera(tracklets[position], tracklets[other]) for other in group):
            group = open_group[tracklets[position].camera_id] = []
            groups.append(group)
        group.append(position)
    yield from groups


def _known(tracklet: Tracklet, embedding: NDArray[np.float32], person_id: int) -> KnownTracklet:
    return KnownTracklet(
        tracklet_id=tracklet.tracklet_id,
        camera_id=tracklet.camera_id,
        modality=tracklet.modality,
        start=tracklet.start,
        end=tracklet.end,
        person_id=person_id,
        embedding=embedding,
    )
