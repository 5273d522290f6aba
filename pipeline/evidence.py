"""What speaks for and against two tracklets being one person: how alike they are, where and when they were seen."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.ways import MOST_DOUBT, Ways
from reid.calibration import Calibration
from reid.modality import Modality

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Mask = NDArray[np.bool_]

_MODALITIES = list(Modality)
# Log odds of a likeness are clipped here: a calibration fitted on some thousands of pairs can claim no more.
MOST_LOG_ODDS = 12.0
_SPREAD = 0.4  # of the logarithm of travel times around the typical one
_BROKEN_SECONDS = 1.5  # after which a track that was lost is found again, as another track of the same camera
_MOST_PASSAGE = 5.0  # log odds; more cannot be said, for companions pass at the same times
_BACKGROUND_SECONDS = 3600.0  # over which somebody else might as well have come
_HARD_SHARE = 0.5  # of the least time; whoever needed less cannot have come
_AT_ONCE = 1024  # tracklets that are asked at a time whom they exclude, so that memory stays small


@dataclass(frozen=True, slots=True, eq=False)
class Whereabouts:
    """Where and when tracklets were, row by row.

    Attributes:
        cameras: (n,) places in `names`.
        names: Of cameras.
        start: (n,) seconds, on any one clock.
        end: (n,) seconds, on the same clock.
    """

    cameras: Ints
    names: Sequence[str]
    start: Floats
    end: Floats

    def __len__(self) -> int:
        return len(self.cameras)

    def of_cameras(self) -> Iterator[tuple[str, Ints]]:
        """Each camera, with its rows."""
        for code in np.unique(self.cameras).tolist():
            yield self.names[code], np.flatnonzero(self.cameras == code)


@dataclass(frozen=True, slots=True, eq=False)
class Seen(Whereabouts):
    """Tracklets as evidence looks at them, row by row.

    Attributes:
        modalities: (n,) places in ``list(Modality)``.
        vectors: (n, d) float32, unit rows.
    """

    modalities: Ints
    vectors: NDArray[np.float32]

    def of_modalities(self) -> Iterator[tuple[Modality, Ints]]:
        """Each modality, with its rows."""
        for code in np.unique(self.modalities).tolist():
            yield _MODALITIES[code], np.flatnonzero(self.modalities == code)


def gaps(a: Whereabouts, b: Whereabouts) -> Floats:
    """Seconds between the end of the earlier and the start of the later, (a, b); below 0 where they overlap."""
    return _gaps(a.start, a.end, b.start, b.end)


def _gaps(start: Floats, end: Floats, other_start: Floats, other_end: Floats) -> Floats:
    return np.asarray(np.maximum(other_start[None] - end[:, None], start[:, None] - other_end[None]))


class Evidence:
    """Log odds that two tracklets show one person."""

    def __init__(self, calibration: Calibration, ways: Ways | None = None, *, travel_share: float = 0.0) -> None:
        """Keep what is known.

        Args:
            calibration: For every pair of modalities that will occur.
            ways: Between cameras; None knows of none.
            travel_share: Of the pairs of one person's tracklets that follow each other: how much a travel time near the
                typical one, or a new track in one camera right after another ended, speaks for one person. 0 makes
                times speak against only.
        """
        self._calibration = calibration
        self._ways = ways or Ways()
        self._travel_share = travel_share

    def likeness(self, a: Seen, b: Seen) -> tuple[Floats, Floats]:
        """Cosines and calibrated log odds of all pairs, (a, b) each.

        Raises:
            reid.calibration.MissingPairError: When a pair of modalities is not calibrated.
        """
        cosines = (a.vectors @ b.vectors.T).astype(np.float64)
        odds = np.empty_like(cosines)
        for first, rows in a.of_modalities():
            for second, columns in b.of_modalities():
                place = np.ix_(rows, columns)
                odds[place] = self._calibration.log_odds(cosines[place], first, second)
        return cosines, np.clip(odds, -MOST_LOG_ODDS, MOST_LOG_ODDS)

    def circumstances(self, a: Whereabouts, b: Whereabouts) -> Floats:
        """What place and time add to the log odds of all pairs, (a, b); -inf where they cannot be one person."""
        gap = gaps(a, b)
        found = np.zeros_like(gap)
        for first, rows in a.of_cameras():
            for second, columns in b.of_cameras():
                place = np.ix_(rows, columns)
                found[place] = self._between(first, second, gap[place])
        return found

    def excluded(self, a: Whereabouts, b: Whereabouts, owners: Ints, *, people: int) -> Mask:
        """Whom each row of a cannot be for any of the person's rows of b, (a, people): `circumstances` is -inf there.

        Args:
            a: Who is asked of.
            b: Many more; memory does not grow with them.
            owners: (b,) whose each is, in [0, people).
            people: How many.
        """
        found = np.zeros((len(a), people), np.bool_)
        for first, rows in a.of_cameras():
            begin, end = a.start[rows].min(), a.end[rows].max()
            for second, columns in b.of_cameras():
                reach = self._reach_seconds(first, second)
                if reach is None:
                    continue
                near = columns[(b.start[columns] - end <= reach) & (begin - b.end[columns] <= reach)]
                for at in range(0, len(near), _AT_ONCE):
                    some = near[at : at + _AT_ONCE]
                    gap = _gaps(a.start[rows], a.end[rows], b.start[some], b.end[some])
                    own, others = np.nonzero(self._is_impossible(first, second, gap))
                    found[rows[own], owners[some[others]]] = True
        return found

    def _reach_seconds(self, first: str, second: str) -> float | None:
        """How near in time two tracklets must be to exclude each other; None where they never do."""
        if first == second:
            return 0.0
        least = self._ways.least_seconds(first, second)
        return _HARD_SHARE * least if least else None

    def _is_impossible(self, first: str, second: str, gap: Floats) -> Mask:
        reach = self._reach_seconds(first, second)
        if reach is None:
            return np.zeros_like(gap, np.bool_)
        return gap <= reach if first == second else gap < reach

    def _between(self, first: str, second: str, gap: Floats) -> Floats:
        after = np.maximum(gap, 1e-3)
        if first == second:
            passed = self._passage(np.exp(-after / _BROKEN_SECONDS) / _BROKEN_SECONDS)
            return np.where(self._is_impossible(first, second, gap), -np.inf, passed)
        least, typical = self._ways.least_seconds(first, second), self._ways.typical_seconds(first, second)
        if not least or not typical:
            return np.zeros_like(gap)
        doubt = np.where(gap < least, -MOST_DOUBT * (1 - np.maximum(gap, 0) / least), 0.0)
        doubt[self._is_impossible(first, second, gap)] = -np.inf
        usual = np.exp(-0.5 * (np.log(after / typical) / _SPREAD) ** 2) / (after * _SPREAD * np.sqrt(2 * np.pi))
        return np.asarray(doubt + self._passage(usual))

    def _passage(self, density: Floats) -> Floats:
        """Log odds of a time between, whose density is this for one person, and even over an hour for two.

        Most pairs of one person's tracklets do not follow each other: another time speaks neither for nor against.
        """
        share = self._travel_share
        odds = share * density * _BACKGROUND_SECONDS + 1 - share
        return np.asarray(np.clip(np.log(odds), 0, _MOST_PASSAGE))
