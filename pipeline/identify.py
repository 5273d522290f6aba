"""Who is who across cameras: each new tracklet joins a known person, or is a new one.

Evidence is the calibrated log odds of a pair of tracklets, so that cosines of different pairs of modalities can be
compared. The odds hold at the prior of a match that the calibration was fitted with (see ``reid.calibration``): where
matches are rarer than that, raise the threshold. A link is always "probable": nothing here is proof.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
from numpy.typing import NDArray
from scipy.special import logit

from pipeline.tracklets import Tracklet
from reid.calibration import Calibration
from reid.gallery import Gallery
from reid.modality import Modality
from trackers.association import assign

# Log odds are clipped here: a calibration fitted on some thousands of pairs can claim no more.
_MOST_LOG_ODDS = 12.0


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


@dataclass(frozen=True, slots=True, eq=False)
class KnownTracklet:
    """What an `Identifier` remembers of a tracklet.

    Attributes:
        tracklet_id: Its name.
        camera_id: Its camera.
        modality: What that camera measures.
        start: First box, UTC.
        end: Last box, UTC.
        person_id: Whose it is.
        embedding: Unit length, float32 (d,).
    """

    tracklet_id: str
    camera_id: str
    modality: Modality
    start: datetime
    end: datetime
    person_id: int
    embedding: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class IdentifyRules:
    """When two tracklets are taken for one person.

    Attributes:
        threshold: Least probability, in (0, 1), for joining a known person.
        evidence: A person's score is the mean log odds of their best ``evidence`` tracklets: one chance likeness among
            many does not make a match, and a person seen once is not at a disadvantage.
        candidates: Nearest tracklets looked at in each modality.
        max_links: Links kept of each tracklet.
    """

    threshold: float = 0.5
    evidence: int = 3
    candidates: int = 64
    max_links: int = 5

    def __post_init__(self) -> None:
        if not 0 < self.threshold < 1:
            raise ValueError(f"threshold must be in (0, 1), got {self.threshold}")
        for name in ("evidence", "candidates", "max_links"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")


@dataclass(frozen=True, slots=True)
class _Likeness:
    """A tracklet in question beside a known one."""

    known: KnownTracklet
    cosine: float
    log_odds: float


def person_name(person_id: int) -> str:
    """How people are shown: P0007."""
    return f"P{person_id:04d}"


def overlap_in_camera(a: Tracklet | KnownTracklet, b: Tracklet | KnownTracklet) -> bool:
    """Whether one camera saw both at the same moment: then they are two people."""
    return a.camera_id == b.camera_id and a.start <= b.end and b.start <= a.end


class Identifier:
    """Links tracklets across cameras, online: what was said of a tracklet is not taken back.

    Tracklets that one camera saw at the same time are assigned to people together, one to one, so that the total
    evidence is greatest; they are never one person, and nobody joins a person whom the same camera saw elsewhere in its
    view at that moment.
    """

    def __init__(
        self,
        calibration: Calibration,
        *,
        dimension: int,
        rules: IdentifyRules | None = None,
        known: Iterable[KnownTracklet] = (),
        next_person_id: int = 1,
    ) -> None:
        """Start anew, or resume.

        Args:
            calibration: For every pair of modalities that will occur.
            dimension: Of the embeddings.
            rules: Thresholds.
            known: What was identified before (``Store.known``).
            next_person_id: Least number for a new person (``Store.next_person_id``).
        """
        self._calibration = calibration
        self._dimension = dimension
        self._rules = rules or IdentifyRules()
        self._galleries: dict[Modality, Gallery] = {}
        self._known: list[KnownTracklet] = []
        self._times: dict[tuple[int, str], list[KnownTracklet]] = defaultdict(list)
        self._next_person_id = next_person_id
        for each in known:
            self._remember(each)

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
        for group in simultaneous(tracklets):
            found = self._identify_group([tracklets[i] for i in group], embeddings[group])
            sightings.update(zip(group, found, strict=True))
        return [sightings[position] for position in range(len(tracklets))]

    def _identify_group(self, tracklets: list[Tracklet], embeddings: NDArray[np.float32]) -> list[Sighting]:
        """Assign tracklets that exclude each other."""
        likenesses = [self._likenesses(*pair) for pair in zip(tracklets, embeddings, strict=True)]
        scores = [self._score_people(tracklet, found) for tracklet, found in zip(tracklets, likenesses, strict=True)]
        people = sorted({person for score in scores for person in score})
        cost = np.full((len(tracklets), len(people)), np.inf)
        for row, score in enumerate(scores):
            for person, log_odds in score.items():
                cost[row, people.index(person)] = -log_odds
        matches = assign(cost, gate=-float(logit(self._rules.threshold))).matches
        person_of = {int(row): people[column] for row, column in matches}
        sightings = []
        for row, (tracklet, embedding) in enumerate(zip(tracklets, embeddings, strict=True)):
            person = person_of.get(row) or self._next_person_id
            links = self._links(tracklet, [each for each in likenesses[row] if each.known.person_id == person])
            sightings.append(Sighting(tracklet, embedding, person, links))
            self._remember(_known(sightings[-1]))
        return sightings

    def _likenesses(self, tracklet: Tracklet, embedding: NDArray[np.float32]) -> list[_Likeness]:
        """The nearest known tracklets of every modality."""
        found = []
        for modality, gallery in self._galleries.items():
            ids, cosines = gallery.search(embedding[None], min(self._rules.candidates, len(gallery)))
            probability = self._calibration.probability(cosines[0], tracklet.modality, modality)
            with np.errstate(divide="ignore"):
                log_odds = np.clip(logit(probability), -_MOST_LOG_ODDS, _MOST_LOG_ODDS)
            found += [
                _Likeness(self._known[number], float(cosine), float(odds))
                for number, cosine, odds in zip(ids[0], cosines[0], log_odds, strict=True)
            ]
        return found

    def _score_people(self, tracklet: Tracklet, found: list[_Likeness]) -> dict[int, float]:
        by_person: dict[int, list[float]] = defaultdict(list)
        for each in found:
            by_person[each.known.person_id].append(each.log_odds)
        return {
            person: float(np.mean(sorted(odds, reverse=True)[: self._rules.evidence]))
            for person, odds in by_person.items()
            if not any(overlap_in_camera(tracklet, other) for other in self._times[person, tracklet.camera_id])
        }

    def _links(self, tracklet: Tracklet, found: list[_Likeness]) -> tuple[Link, ...]:
        best = sorted(found, key=lambda each: (-each.log_odds, -each.cosine, each.known.tracklet_id))
        return tuple(
            Link(
                tracklet_id=each.known.tracklet_id,
                camera_id=each.known.camera_id,
                modality=each.known.modality,
                cosine=each.cosine,
                probability=float(1 / (1 + np.exp(-each.log_odds))),
                cross_modality=each.known.modality is not tracklet.modality,
            )
            for each in best[: self._rules.max_links]
        )

    def _remember(self, known: KnownTracklet) -> None:
        gallery = self._galleries.setdefault(known.modality, Gallery(self._dimension))
        gallery.add([len(self._known)], known.embedding[None])
        self._known.append(known)
        self._times[known.person_id, known.camera_id].append(known)
        self._next_person_id = max(self._next_person_id, known.person_id + 1)


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


def _known(sighting: Sighting) -> KnownTracklet:
    tracklet = sighting.tracklet
    return KnownTracklet(
        tracklet_id=tracklet.tracklet_id,
        camera_id=tracklet.camera_id,
        modality=tracklet.modality,
        start=tracklet.start,
        end=tracklet.end,
        person_id=sighting.person_id,
        embedding=sighting.embedding,
    )
