"""A person in question in, tracklets that probably show the same person out.

The score of a tracklet is made of calibrated log odds, so that cosines of different modalities can be compared and
added:

    L = mean over the examples of L(example, tracklet)
        - max(0, the greatest L(negative, tracklet))
        - the doubt of the ways between the cameras (``pipeline.ways``)

and its probability is 1 / (1 + exp(-L)). L is linear in the cosine, so the mean over the examples is the inner product
with one vector a modality, as in Rocchio's feedback (1971), and exact search finds its greatest. What follows only
lowers it; so the search goes on until nothing that was not looked at could come before what was found.
"""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field, fields, is_dataclass, replace
from datetime import datetime
from functools import cache
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from pipeline.clips import Query
from pipeline.errors import GalleryMismatchError, UsageError
from pipeline.filters import Catalogue, SearchFilter
from pipeline.frame import Image
from pipeline.identify import person_name
from pipeline.record import within_gallery
from pipeline.sinks import rfc3339
from pipeline.store import Cursor, Store, StoredTracklet
from pipeline.stored import Changes, StoredCounterpart
from pipeline.ways import Stay, Ways, gap_seconds
from reid.calibration import Calibration, Curve, FalseMatchRateError
from reid.embedding import rounded
from reid.gallery import Approximation, Gallery
from reid.modality import Modality
from reid.reranking import Reranking, rerank

if TYPE_CHECKING:  # a search by tracklet needs no model, and should not wait for torch
    from reid.extractor import Extractor

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
_Near = tuple[Ints, NDArray[np.float32]]  # rows and cosines, best first

_ROUNDED = 1 + 1e-9  # a rate comes through a logarithm
_NO_CURVE = "a calibration without this pair of modalities"
_MOST_RERANKED = 100  # of the best in each modality
_RERANKING = Reranking(k1=10, k2=3, original=0.3)


@dataclass(frozen=True, slots=True)
class SearchRules:
    """What a site knows, and how its answers are made.

    Attributes:
        zone: Of the clock on the wall.
        ways: Between cameras.
        rerank: Whether k-reciprocal neighbours order the answers within each modality.
        false_match_rate: Answers whose likeness more than this share of strangers has are left out; None keeps all.
        approximation: Of the index; None is exact at any size.
        device: Of the index, as of ``reid.gallery.Gallery``; None is the CPU, which is quickest for a single search.
        rate_said: What the false match rate is called where it was given.
    """

    zone: ZoneInfo = field(default_factory=lambda: ZoneInfo("UTC"))
    ways: Ways = field(default_factory=Ways)
    rerank: bool = False
    false_match_rate: float | None = None
    approximation: Approximation | None = None
    device: str | None = None
    rate_said: str = "false match rate"


@dataclass(frozen=True, slots=True, eq=False)
class Example:
    """One picture of the person in question, or of somebody who is not that person.

    Attributes:
        query: What it is.
        vector: Unit length, float32 (d,).
        row: Of a stored tracklet; None for a file.
    """

    query: Query
    vector: NDArray[np.float32]
    row: int | None = None

    @property
    def stay(self) -> Stay | None:
        """Where and when, as far as that is known."""
        query = self.query
        if query.camera_id is None or query.start is None or query.end is None:
            return None
        return Stay(query.camera_id, query.start, query.end)


@dataclass(frozen=True, slots=True)
class Counterpart:
    """The same moment through a camera of another modality that looks at the same scene."""

    camera_id: str
    modality: Modality
    crop: Path


@dataclass(frozen=True, slots=True)
class Answer:
    """One tracklet that may show the person.

    Attributes:
        rank: From 1.
        tracklet_id: Its name.
        camera_id: Its camera.
        modality: What that camera measures.
        start: First box, UTC.
        end: Last box, UTC.
        start_local: The same by the site's clock.
        end_local: The same by the site's clock.
        person_id: To whom it was given.
        zones: It stood in these.
        quality: Of its best view.
        cosine: To the example that is most alike, in [-1, 1]; to be compared only within one pair of modalities.
        probability: Calibrated, comparable across pairs; answers are ranked by it, but for re-ranking.
        best_crop: Image file, below the folder of the gallery as that was named; None when it has aged away.
        counterparts: The same moment in other modalities.
        why: Why it stands where it does, in one or more sentences.
    """

    rank: int
    tracklet_id: str
    camera_id: str
    modality: Modality
    start: datetime
    end: datetime
    start_local: datetime
    end_local: datetime
    person_id: int
    zones: tuple[str, ...]
    quality: float
    cosine: float
    probability: float
    best_crop: Path | None
    counterparts: tuple[Counterpart, ...]
    why: str

    def to_json(self) -> dict[str, Any]:
        """Strings and numbers, as `SearchResult.to_json` says."""
        return {
            "rank": self.rank,
            "tracklet_id": self.tracklet_id,
            "camera_id": self.camera_id,
            "modality": self.modality.value,
            "start": rfc3339(self.start),
            "end": rfc3339(self.end),
            "start_local": rfc3339(self.start_local),
            "end_local": rfc3339(self.end_local),
            "zones": list(self.zones),
            "quality": self.quality,
            "cosine": self.cosine,
            "probability": self.probability,
            "best_crop": self.best_crop and within_gallery(self.best_crop),
            "counterparts": [
                {"camera_id": each.camera_id, "modality": each.modality.value, "crop": within_gallery(each.crop)}
                for each in self.counterparts
            ],
            "why": self.why,
            "person": person_name(self.person_id),
        }


@dataclass(frozen=True, slots=True)
class SearchResult:
    """Answers, best first, and what became of the rest of the gallery.

    Attributes:
        query: What was searched for; the first of several examples.
        answers: At most top-k.
        searched: How many tracklets were compared.
        excluded_by: How many each filter removed; one that several would remove counts for the first of them.
        examples: The further examples.
        negatives: Examples of other people.
        below_threshold: How many of the nearest top-k were left out for the false-match rate.
        too_soon: How many of the likeliest top-k fell out of the answers for the ways between the cameras.
        exact: Whether every tracklet that passed was compared; an approximate index may miss one.
    """

    query: Query
    answers: tuple[Answer, ...]
    searched: int
    excluded_by: dict[str, int]
    examples: tuple[Query, ...] = ()
    negatives: tuple[Query, ...] = ()
    below_threshold: int = 0
    too_soon: int = 0
    exact: bool = True

    @property
    def explanation(self) -> str:
        """How many were compared, which filter removed how many, and what else shortened the list."""
        total = self.searched + sum(self.excluded_by.values())
        if not total:
            return "The gallery is empty: no tracklet was accepted yet."
        removed = ", ".join(f"{count} by {name}" for name, count in self.excluded_by.items() if count)
        text = f"{self.searched} of {total} tracklets compared" + (f"; removed: {removed}." if removed else ".")
        if self.below_threshold:
            text += f" {self.below_threshold} of the nearest are less alike than the false-match rate asks for."
        if self.too_soon:
            text += f" {self.too_soon} of the likeliest came too soon for the ways, and fell behind these answers."
        if not self.exact:
            text += " The index is approximate: it may have missed some."
        return text

    def to_json(self) -> dict[str, Any]:
        """Strings and numbers; times RFC 3339, UTC but for those called local; people as P0007; images relative to the
        gallery's folder.
        """
        content = {name: plain(getattr(self, name)) for name in _names_of(SearchResult) if name != "answers"}
        return {
            "schema": "xreid.search/1",
            "query": content.pop("query"),
            "answers": [each.to_json() for each in self.answers],
            **content,
            "explanation": self.explanation,
        }


def compared(probability: float) -> str:
    """With two digits and never as certain: ``= 0.86``, ``< 0.01`` or ``> 0.99``."""
    if probability < 0.005:
        return "< 0.01"
    return "> 0.99" if probability > 0.995 else f"= {probability:.2f}"


def plain(value: Any) -> Any:
    """As JSON can hold it; of a dataclass, its fields."""
    if is_dataclass(value) and not isinstance(value, type):
        return {name: plain(getattr(value, name)) for name in _names_of(type(value))}
    if isinstance(value, dict):
        return {key: plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple | frozenset):
        return [plain(each) for each in (sorted(value) if isinstance(value, frozenset) else value)]
    if isinstance(value, datetime):
        return rfc3339(value)
    return str(value) if isinstance(value, Path | Modality) else value


@cache
def _names_of(kind: type[Any]) -> tuple[str, ...]:
    return tuple(each.name for each in fields(kind))


@dataclass(frozen=True, slots=True, eq=False)
class _Scored:
    """Tracklets of one modality, best first: row, the log odds of their likeness, and what lowered them.

    Attributes:
        rows: (n,).
        cosines: To the example that is most alike, (n,).
        nearest: Which example that is, (n,).
        likeness: Mean log odds over the examples, (n,).
        negative: Taken off for the negatives, (n,).
        doubt: Taken off for the ways, (n,).
        below: Whether the likeness is less than the false-match rate asks for, (n,).
        turn: Place among common neighbours, (n,); all 0 where those are not asked.
        turned: The likeness in place of `likeness` that stands at that place, (n,).
    """

    rows: Ints
    cosines: Floats
    nearest: Ints
    likeness: Floats
    negative: Floats
    doubt: Floats
    below: NDArray[np.bool_]
    turn: Ints
    turned: Floats

    @property
    def score(self) -> Floats:
        """L of the head of this module."""
        return self.likeness - self.negative - self.doubt

    @property
    def standing(self) -> Floats:
        """What they are ordered by within their modality: the score, but for re-ranking."""
        return self.turned - self.negative - self.doubt

    def taken(self, order: Ints) -> "_Scored":
        """These, in this order."""
        return _Scored(*(getattr(self, name)[order] for name in self.__slots__))

    def best(self, count: int) -> "_Scored":
        """The first so many by standing, equal ones by cosine, then row."""
        return self.taken(np.lexsort((self.rows, -self.cosines, self.turn, -self.standing))[:count])

    def alike(self) -> "_Scored":
        """Those that the false-match rate leaves."""
        return self.taken(np.flatnonzero(~self.below))

    def without_doubt(self) -> "_Scored":
        """As if no ways were known."""
        return replace(self, doubt=np.zeros(len(self.rows)))

    def nearest_of_all(self, count: int) -> "_Scored":
        """The best so many: of all, of those that the rate leaves, and of those as if no ways were known."""
        kept = [self.best(count), self.alike().best(count), self.alike().without_doubt().best(count)]
        return self.taken(np.flatnonzero(np.isin(self.rows, np.concatenate([each.rows for each in kept]))))

    def re_ranked(self, similarity: Floats) -> "_Scored":
        """The greatest likeness goes to whom common neighbours put first, and so on; what lowered it stays."""
        by_likeness = np.lexsort((self.rows, -self.cosines, -self.likeness))
        turn = np.empty(len(self.rows), np.int64)
        turn[by_likeness[np.argsort(-similarity[by_likeness], kind="stable")]] = np.arange(len(turn))
        return replace(self, turn=turn, turned=self.likeness[by_likeness][turn])


class Searcher:
    """Answers queries over a store, and follows what another process adds to it, takes out and revises."""

    def __init__(
        self,
        store: Store,
        calibration: Calibration,
        *,
        extractor: "Callable[[], Extractor] | None" = None,
        rules: SearchRules | None = None,
    ) -> None:
        """Read the store and build the index.

        Args:
            store: To be searched; must stay open.
            calibration: Of the model that filled it.
            extractor: Loads that model; called at the first query that is not a stored tracklet.
            rules: Of the site.
        """
        self._store = store
        self._calibration = calibration
        self._make_extractor = extractor
        self._extractor: Extractor | None = None
        self._rules = rules or SearchRules()
        self._cursor = Cursor()
        self._follows = True
        self._lock = threading.Lock()
        self._begin()
        self.refresh()

    def _begin(self) -> None:
        self._gallery = Gallery(
            self._store.dimension, approximation=self._rules.approximation, device=self._rules.device
        )
        self._catalogue = Catalogue()

    def __len__(self) -> int:
        return len(self._gallery)

    @property
    def gallery(self) -> Gallery:
        """The index; ids are rows of the store."""
        return self._gallery

    @property
    def catalogue(self) -> Catalogue:
        """What filters look at."""
        return self._catalogue

    def refresh(self) -> None:
        """Catch up with the store; every search does so first, and it costs next to nothing when nothing changed."""
        if not self._follows:
            return
        whole = False
        while not whole:
            changes = self._store.changes_since(self._cursor)
            if changes.rebuilt:
                self._begin()
            self._take(changes)
            self._cursor, whole = changes.cursor, changes.last

    def _take(self, changes: Changes) -> None:
        """Bring index and catalogue up; a vector that is there and right stays, for others search meanwhile."""
        rows, vectors = changes.added.rows, changes.vectors
        known = np.array([row for row in changes.revised if row in self._gallery], np.int64)
        again = np.isin(rows, known)
        same = (self._gallery.vectors(rows[again]) == vectors[again].astype(np.float32)).all(axis=1)
        untouched = rows[again][same]
        removed = [row for row in changes.removed if row in self._gallery]
        gone = np.union1d(removed, np.setdiff1d(known, untouched)).astype(np.int64)
        self._gallery.remove(gone)
        self._catalogue.drop(gone)
        fresh = ~np.isin(rows, untouched)
        self._gallery.add(rows[fresh], vectors[fresh])
        self._catalogue.put(changes.added)

    def at_this_moment(self, store: Store, *, rules: SearchRules | None = None) -> "Searcher":
        """A searcher over the gallery as it is now, for one search of the calling thread: several may search at once.

        Args:
            store: The same gallery, opened by this thread.
            rules: Of that search; by default the same. The index stays what it is, approximate or not.
        """
        with self._lock:
            self._store = store
            self.refresh()
            found = copy(self)
            found._catalogue, found._follows = self._catalogue.snapshot(), False
        found._rules = rules or self._rules
        return found

    def by_tracklet(self, tracklet_id: str, wanted: SearchFilter | None = None) -> SearchResult:
        """Search for the person of a stored tracklet, by its stored vector.

        Raises:
            UsageError: When the store has no such tracklet, or it was rejected and has no vector.
        """
        return self.by_examples([self.example_of(tracklet_id)], wanted)

    def by_clip(self, clip: Sequence[Image], query: Query, wanted: SearchFilter | None = None) -> SearchResult:
        """Search for the person of these crops (one person, in order of time).

        Raises:
            UsageError: When there is no model to embed them.
            GalleryMismatchError: When the model is not the one that filled the store.
        """
        return self.by_examples([self.example_from(clip, query)], wanted)

    def example_of(self, tracklet_id: str) -> Example:
        """A stored tracklet as an example.

        Raises:
            UsageError: When the store has no such tracklet, or it was rejected and has no vector.
        """
        own = self._store.tracklet(tracklet_id)
        if own.rejected is not None:
            raise UsageError(
                f"tracklet {tracklet_id} was rejected ({own.rejected.value}) and has no vector to search by"
            )
        query = Query(tracklet_id, own.modality, own.camera_id, own.start, own.end)
        return Example(query, self._store.embeddings([own.row])[0], own.row)

    def example_from(self, clip: Sequence[Image], query: Query) -> Example:
        """Crops as an example; see `by_clip`."""
        if self._extractor is None:
            self._extractor = self._load()
        return Example(query, rounded(self._extractor.extract([clip], [query.modality]))[0])

    def by_examples(
        self,
        examples: Sequence[Example],
        wanted: SearchFilter | None = None,
        *,
        negatives: Sequence[Example] = (),
        visible: frozenset[str] | None = None,
    ) -> SearchResult:
        """Search by several pictures of one person, and pictures of people who are not that person.

        Args:
            examples: At least one.
            wanted: Which tracklets may be answers.
            negatives: Of other people.
            visible: Cameras that the one who asks may see: the answer is that of a gallery of these alone. None is all.

        Raises:
            UsageError: When there is no example, or a false-match rate is asked for that the calibration cannot tell.
        """
        if not examples:
            raise UsageError("a search needs at least one example of the person")
        self.refresh()
        wanted = wanted or SearchFilter()
        allowed, excluded_by = self._catalogue.select(
            wanted,
            zone=self._rules.zone,
            own_rows=frozenset(each.row for each in (*examples, *negatives) if each.row is not None),
            stays=[each.stay for each in examples if each.stay is not None],
            visible=visible,
        )
        rows_of = {modality: self._catalogue.rows_of(modality, allowed) for modality in Modality}
        if incomparable := self._leave_incomparable([*examples, *negatives], rows_of):
            excluded_by[_NO_CURVE] = incomparable
        rows_of = {modality: rows for modality, rows in rows_of.items() if len(rows)}
        count = max(wanted.top_k, _MOST_RERANKED) if self._rules.rerank else wanted.top_k
        looked = [
            (modality, self._best(examples, negatives, rows_of[modality], modality, count, near))
            for modality, near in self._nearest(examples, rows_of, count).items()
        ]
        found = [(modality, self._in_turn(examples, modality, seen.nearest_of_all(count))) for modality, seen in looked]
        answers, below = self._answers(found, examples, wanted.top_k)
        if visible is not None:
            answers = tuple(_without_others(each, visible) for each in answers)
        return SearchResult(
            query=examples[0].query,
            answers=answers,
            searched=sum(map(len, rows_of.values())),
            excluded_by=excluded_by,
            examples=tuple(each.query for each in examples[1:]),
            negatives=tuple(each.query for each in negatives),
            below_threshold=below,
            too_soon=_fallen_behind(found, wanted.top_k),
            exact=self._gallery.is_exact,
        )

    def _load(self) -> "Extractor":
        if self._make_extractor is None:
            raise UsageError("searching by image or video needs the model that filled the gallery")
        extractor = self._make_extractor()
        if extractor.model_id != self._store.model_id:
            raise GalleryMismatchError(
                f"{self._store.root}: filled by model {self._store.model_id}, but the query would be embedded by model"
                f" {extractor.model_id}; use the same weights"
            )
        return extractor

    def _leave_incomparable(self, examples: Sequence[Example], rows_of: dict[Modality, Ints]) -> int:
        """Take out the modalities that have no curve beside an example's; how many rows those are."""
        kinds = {each.query.modality for each in examples}
        known = set(self._calibration)
        gone = [of for of in rows_of if any(tuple(sorted((of, kind))) not in known for kind in kinds)]
        return sum(len(rows_of.pop(modality)) for modality in gone)

    def _nearest(
        self, examples: Sequence[Example], rows_of: Mapping[Modality, Ints], count: int
    ) -> dict[Modality, _Near]:
        """The nearest rows of each modality; in one pass over the index where one vector serves all modalities."""
        if len(examples) == 1:
            near = self._gallery.search_each(examples[0].vector, count, list(rows_of.values()))
            return dict(zip(rows_of, near, strict=True))
        return {
            modality: self._gallery.search_each(self._direction(examples, modality)[0], count, [rows])[0]
            for modality, rows in rows_of.items()
        }

    # --- one modality ---

    def _best(
        self,
        examples: Sequence[Example],
        negatives: Sequence[Example],
        rows: Ints,
        modality: Modality,
        count: int,
        near: _Near,
    ) -> _Scored:
        """Rows that hold the best `count` by score, with and without doubt, of which the nearest `count` are known.

        The best of all, and of those that the false-match rate leaves.
        """
        direction, length, constant = self._direction(examples, modality)
        try:
            least = self._least_likeness(examples, modality)
        except UsageError:  # told once one of these is to be an answer
            least = -np.inf
        depth, (ids, cosines) = min(count, len(rows)), near
        while len(ids):  # none, where all that were allowed were erased meanwhile
            scored = self._scored(examples, negatives, ids, modality, least)
            if depth == len(rows) or len(ids) < depth or (not negatives and not self._doubts(examples)):
                return scored
            bound = length * float(cosines[-1]) + constant
            alike = scored.alike().best(count).score
            enough = bound < least or (len(alike) == count and alike[-1] > bound)
            if enough and scored.best(count).score[-1] > bound:
                return scored
            depth = min(4 * depth, len(rows))
            ids, cosines = self._gallery.search_each(direction, depth, [rows])[0]
        return self._scored(examples, negatives, ids, modality, least)

    def _in_turn(self, examples: Sequence[Example], modality: Modality, scored: _Scored) -> _Scored:
        """In the order in which they are told."""
        if self._rules.rerank and len(scored.rows):
            direction, vectors = self._direction(examples, modality)[0], self._gallery.vectors(scored.rows)
            scored = scored.re_ranked(rerank(direction[None], vectors, _RERANKING)[0])
        return scored.best(len(scored.rows))

    def _doubts(self, examples: Sequence[Example]) -> bool:
        return bool(self._rules.ways) and any(each.stay is not None for each in examples)

    def _direction(self, examples: Sequence[Example], modality: Modality) -> tuple[NDArray[np.float32], float, float]:
        """The vector, of length 1, that the mean log odds are linear in; its factor, and the constant."""
        curves = [self._calibration.curve(each.query.modality, modality) for each in examples]
        if len(examples) == 1:
            return examples[0].vector, curves[0].slope, curves[0].intercept
        total = np.mean([c.slope * e.vector.astype(np.float64) for c, e in zip(curves, examples, strict=True)], axis=0)
        length = float(np.linalg.norm(total))
        if length < 1e-9:
            raise UsageError("the examples contradict each other: their vectors add up to nothing")
        return (total / length).astype(np.float32), length, float(np.mean([curve.intercept for curve in curves]))

    def _least_likeness(self, examples: Sequence[Example], modality: Modality) -> float:
        """The mean log odds that answers must reach for the false-match rate; -inf where none is asked for.

        Raises:
            UsageError: When the calibration cannot tell.
        """
        rate = self._rules.false_match_rate
        if rate is None:
            return -np.inf
        vectors = np.stack([each.vector for each in examples]).astype(np.float64)
        kinds = [each.query.modality for each in examples]
        try:
            return self._calibration.mean_threshold(rate, vectors @ vectors.T, kinds, modality)
        except FalseMatchRateError as error:
            raise UsageError(f"{self._rules.rate_said}: {error}") from None

    def _scored(
        self,
        examples: Sequence[Example],
        negatives: Sequence[Example],
        rows: Ints,
        modality: Modality,
        least: float,
    ) -> _Scored:
        vectors = self._gallery.vectors(rows).astype(np.float64)

        def log_odds(of: Sequence[Example]) -> tuple[Floats, Floats]:
            cosines = np.stack([np.add.reduce(vectors * each.vector.astype(np.float64), axis=1) for each in of])
            kinds = [each.query.modality for each in of]
            odds = [self._calibration.log_odds(*pair, modality) for pair in zip(cosines, kinds, strict=True)]
            return np.clip(cosines, -1, 1), np.stack(odds)

        cosines, odds = log_odds(examples)
        nearest, likeness = np.argmax(odds, axis=0), odds.mean(axis=0)
        negative = np.zeros(len(rows))
        if negatives:
            negative = np.maximum(log_odds(negatives)[1].max(axis=0), 0)
        return _Scored(
            rows=rows,
            cosines=cosines[nearest, np.arange(len(rows))],
            nearest=nearest,
            likeness=likeness,
            negative=negative,
            doubt=np.array([self._doubt(examples, int(row)) for row in rows]),
            below=likeness < least,
            turn=np.zeros(len(rows), np.int64),
            turned=likeness,
        )

    def _doubt(self, examples: Sequence[Example], row: int) -> float:
        if not self._rules.ways:
            return 0.0
        there = self._catalogue.stay_of(row)
        stays = [each.stay for each in examples if each.stay is not None]
        return max((self._rules.ways.doubt(stay, there) for stay in stays), default=0.0)

    # --- all modalities ---

    def _answers(
        self,
        found: Sequence[tuple[Modality, _Scored]],
        examples: Sequence[Example],
        top_k: int,
    ) -> tuple[tuple[Answer, ...], int]:
        """The best of all modalities by score; within each, the order it came in."""
        answers: list[Answer] = []
        below, reached = 0, set[Modality]()

        def alike() -> Iterator[tuple[Modality, _Scored, int]]:
            nonlocal below
            for modality, scored, at in _in_order(found):
                if modality not in reached:
                    reached.add(modality)
                    self._least_likeness(examples, modality)  # or it cannot tell
                if scored.below[at]:
                    below += 1
                else:
                    yield modality, scored, at

        left = alike()
        while len(answers) < top_k and (some := list(islice(left, top_k - len(answers)))):
            rows = [int(scored.rows[at]) for _, scored, at in some]
            stored = {each.row: each for each in self._store.by_rows(rows)}
            beside = self._store.counterparts_of(stored)
            for row, (modality, scored, at) in zip(rows, some, strict=True):
                if row in stored:  # else it was erased a moment ago
                    why = self._why(examples, modality, scored, at)
                    answers.append(self._answer(len(answers) + 1, stored[row], beside.get(row, ()), scored, at, why))
        return tuple(answers), below

    def _answer(
        self,
        rank: int,
        found: StoredTracklet,
        beside: Sequence[StoredCounterpart],
        scored: _Scored,
        at: int,
        why: str,
    ) -> Answer:
        if found.person_id is None:
            raise ValueError(f"tracklet {found.tracklet_id} was rejected and cannot be an answer")
        return Answer(
            rank=rank,
            tracklet_id=found.tracklet_id,
            camera_id=found.camera_id,
            modality=found.modality,
            start=found.start,
            end=found.end,
            start_local=found.start.astimezone(self._rules.zone),
            end_local=found.end.astimezone(self._rules.zone),
            person_id=found.person_id,
            zones=found.zones,
            quality=found.quality,
            cosine=float(scored.cosines[at]),
            probability=float(expit(scored.score[at])),
            best_crop=found.best_crop,
            counterparts=tuple(Counterpart(each.camera_id, each.modality, each.crop) for each in beside),
            why=why,
        )

    def _why(self, examples: Sequence[Example], modality: Modality, scored: _Scored, at: int) -> str:
        example = examples[int(scored.nearest[at])]
        curve = self._calibration.curve(example.query.modality, modality)
        cosine = float(scored.cosines[at])
        now = float(scored.likeness[at])
        worth, between = (
            f"worth p {compared(expit(now))}",
            f"between {example.query.modality.value} and {modality.value}",
        )
        text = f"Cosine {cosine:.3f} {between} is {worth}"
        if len(examples) > 1:
            text = (
                f"The mean over {len(examples)} examples is {worth}; the nearest of them, {example.query.description},"
                f" has cosine {cosine:.3f} {between}"
            )
        rate = curve.false_match_rate(cosine)
        text += "." if rate is None else f"; {_one_in(rate, curve)} strangers are so alike."
        if scored.negative[at] > 0:
            lowered = now - float(scored.negative[at])
            text += f" Alike to a negative example: lowered from {expit(now):.2f} to {expit(lowered):.2f}."
            now = lowered
        if scored.doubt[at] > 0:
            text += f" {self._too_soon(examples, int(scored.rows[at]))}: lowered from {expit(now):.2f} to" \
                    f" {expit(now - scored.doubt[at]):.2f}."  # fmt: skip
        before = int(np.count_nonzero(scored.score > scored.score[at])) if self._rules.rerank else at
        if before != at:
            text += f" Common neighbours put it at place {at + 1} of its modality, likeness at {before + 1}."
        return text

    def _too_soon(self, examples: Sequence[Example], row: int) -> str:
        there = self._catalogue.stay_of(row)
        stays = [each.stay for each in examples if each.stay is not None]
        worst = max(stays, key=lambda stay: self._rules.ways.doubt(stay, there))
        gap, least = gap_seconds(worst, there), self._rules.ways.least_seconds(worst.camera_id, there.camera_id) or 0.0
        when = "at the same time as" if gap <= 0 else f"{gap:.0f} s apart from"
        return f"Seen {when} {worst.camera_id}, from where the way takes at least {least:.0f} s"


def _without_others(answer: Answer, visible: frozenset[str]) -> Answer:
    """An answer without the counterparts of cameras that may not be seen."""
    beside = tuple(each for each in answer.counterparts if each.camera_id in visible)
    return replace(answer, counterparts=beside)


def _fallen_behind(found: Sequence[tuple[Modality, _Scored]], top_k: int) -> int:
    """How many of the first came too soon, and are not among as many once that is thought of."""

    def first(parts: Sequence[tuple[Modality, _Scored]]) -> set[int]:
        alike = (int(scored.rows[at]) for _, scored, at in _in_order(parts) if not scored.below[at])
        return set(islice(alike, top_k))

    doubted = {int(row) for _, scored in found for row in scored.rows[scored.doubt > 0]}
    if not doubted:
        return 0
    undoubted = [(modality, scored.without_doubt().best(len(scored.rows))) for modality, scored in found]
    return len(doubted & first(undoubted) - first(found))


def _in_order(found: Sequence[tuple[Modality, _Scored]]) -> Iterator[tuple[Modality, _Scored, int]]:
    """Places of all modalities by score; within each modality, those that it has are given in its own order."""
    places = [(-score, -cosine, row, of) for of, (_, scored) in enumerate(found)
              for score, cosine, row in zip(*_by_score(scored), strict=True)]  # fmt: skip
    following = [0] * len(found)
    for *_, of in sorted(places):
        yield *found[of], following[of]
        following[of] += 1


def _by_score(scored: _Scored) -> tuple[list[float], list[float], list[int]]:
    """Score, cosine and row, best first, whatever the order within."""
    best = scored.taken(np.lexsort((scored.rows, -scored.cosines, -scored.score)))
    return best.score.tolist(), best.cosines.tolist(), best.rows.tolist()


def _one_in(rate: float, curve: Curve) -> str:
    """A rate, which ends where the curve's counts of strangers end."""
    most, least = curve.strangers[0][0], curve.strangers[-1][0]
    beyond = "fewer than " if rate <= least * _ROUNDED else "more than " if rate * _ROUNDED >= most else ""
    return f"{beyond}1 in {round(1 / rate):,}"
