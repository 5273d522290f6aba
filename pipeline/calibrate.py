"""A site's own curves from cosine to probability, from what operators confirmed and from what cannot be one person.

Pairs of one person: links that an operator confirmed, and tracklets that paired cameras saw in one place at one moment
(``pairs.jsonl``). Pairs of two people: tracklets that one camera saw at the same moment, and so does the other camera's
tracklet of either; links that an operator rejected; and tracklets with confirmed links to two different persons.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import UsageError
from pipeline.event_files import read_examples
from pipeline.store import LinkState, Store, StoredTracklet
from reid.calibration import Calibration, Curve, expected_calibration_error, fit_curve
from reid.modality import Modality

LEAST_PAIRS = 20  # of one person, and of two, in a pair of modalities
_LIKELY = 0.02  # prior of a match in use, as the share of same-person pairs that the embedded curves were fitted with

Pair = tuple[Modality, Modality]


@dataclass(frozen=True, slots=True)
class Fitted:
    """What came of one pair of modalities.

    Attributes:
        same: Pairs of one person.
        different: Pairs of two people.
        before: Calibration error of the curve so far on these pairs, weighed to the share of one person that the
            curves are fitted for; None where there is no curve, or one kind of pair is missing.
        after: The same of the new curve, on the pairs that it was fitted to; None where there were too few.
    """

    same: int
    different: int
    before: float | None
    after: float | None

    @property
    def is_worse(self) -> bool:
        """Whether the new curve errs more than the one so far."""
        return self.before is not None and self.after is not None and self.after > self.before


def calibrate(store: Store) -> tuple[Calibration, dict[Pair, Fitted]]:
    """Fit a curve for every pair of modalities of which enough is known; the others keep the one that they have.

    Raises:
        UsageError: When there are too few pairs for any.
    """
    cosines: dict[Pair, list[float]] = defaultdict(list)
    same: dict[Pair, list[bool]] = defaultdict(list)
    tracklets = store.tracklets()
    vectors = dict(
        zip((each.row for each in tracklets), store.embeddings([each.row for each in tracklets]), strict=True)
    )
    for a, b, one in _known_pairs(store, tracklets):
        first, second = sorted((a.modality, b.modality))
        cosines[first, second].append(float(vectors[a.row].astype("f8") @ vectors[b.row].astype("f8")))
        same[first, second].append(one)
    curves: dict[Pair, Curve] = {}
    report: dict[Pair, Fitted] = {}
    for pair, found in cosines.items():
        x, y = np.array(found), np.array(same[pair])
        counts = int(y.sum()), int((~y).sum())
        before = after = None
        if min(counts) and pair in set(store.calibration):
            before = error_in_use(store.calibration.probability(x, *pair), y)
        if min(counts) >= LEAST_PAIRS:
            curves[pair] = fit_curve(x, y, prior=_LIKELY)
            after = error_in_use(curves[pair].probability(x), y)
        report[pair] = Fitted(*counts, before, after)
    if not curves:
        most = max((min(each.same, each.different) for each in report.values()), default=0)
        raise UsageError(
            f"{store.root}: no pair of modalities has {LEAST_PAIRS} pairs of one person and of two that are known for"
            f" sure (the best has {most}); confirm more links (run_pipeline.py person confirm), or let paired cameras"
            " confirm them (pair_id in the config)"
        )
    return store.calibration.replaced(Calibration(curves)), report


def error_in_use(claimed: NDArray[np.float64], same: NDArray[np.bool_]) -> float:
    """Calibration error where one person is as seldom as in use: a sample of known pairs has more of them."""
    return expected_calibration_error(claimed, same, prior=_LIKELY)


def _known_pairs(
    store: Store, tracklets: list[StoredTracklet]
) -> Iterator[tuple[StoredTracklet, StoredTracklet, bool]]:
    by_name = {each.tracklet_id: each for each in tracklets}
    known: dict[frozenset[str], bool] = {}
    sure: set[str] = set()
    for link in store.links():
        names = frozenset((link.tracklet_id, link.to_tracklet_id))
        if link.state is not LinkState.PROBABLE and names <= by_name.keys():
            known[names] = link.state is LinkState.CONFIRMED
            sure |= names if known[names] else set()
    for one_name, other_name in combinations(sorted(sure), 2):
        if by_name[one_name].person_id != by_name[other_name].person_id:
            known.setdefault(frozenset((one_name, other_name)), False)
    beside = _beside(store, by_name)
    for one_name, others in beside.items():
        for other_name in others:
            known.setdefault(frozenset((one_name, other_name)), True)
    for a, b in _at_once(tracklets):
        for two in ((a.tracklet_id, b.tracklet_id), *_across(a, b, beside), *_across(b, a, beside)):
            known.setdefault(frozenset(two), False)
    for names, one in known.items():
        first, second = sorted(names)
        yield by_name[first], by_name[second], one


def _beside(store: Store, by_name: Mapping[str, StoredTracklet]) -> dict[str, set[str]]:
    """Tracklets by name, with those of the paired camera that show the same person at the same moment."""
    beside: dict[str, set[str]] = defaultdict(set)
    for names in read_examples(store.root):
        if len(set(names)) == 2 and by_name.keys() >= set(names):
            first, second = names
            beside[first].add(second)
            beside[second].add(first)
    return beside


def _across(a: StoredTracklet, b: StoredTracklet, beside: Mapping[str, set[str]]) -> Iterator[tuple[str, str]]:
    """The other camera's tracklets of one of two people, with the other one."""
    others = beside.get(a.tracklet_id, set()) - {b.tracklet_id}
    yield from ((other, b.tracklet_id) for other in others)


def _at_once(tracklets: list[StoredTracklet]) -> Iterator[tuple[StoredTracklet, StoredTracklet]]:
    """Pairs that one camera saw at the same moment; by start time, as they come from the store."""
    open_: dict[str, list[StoredTracklet]] = defaultdict(list)
    for each in tracklets:
        still = [other for other in open_[each.camera_id] if other.end >= each.start]
        yield from ((other, each) for other in still)
        open_[each.camera_id] = [*still, each]
