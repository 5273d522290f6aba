"""How far the camera turned between two frames, from nothing but the boxes."""

import math

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

Array = NDArray[np.float64]

_LEAST_PAIRS = 4
_SURE_PAIRS = 6  # so many can tell whether a camera is one that turns
_CHANCE = 8.3  # people, see `chance_of`
_TURNS = 0.1  # of a camera that turns: in what share of the other frames they jerk as one
_DOUBT = 1.0  # standard errors, of that share: what is not clear is taken for one that turns
_SURE_ERRORS = 3.0  # standard errors, of the shift of a camera that does not
_MEMORY_SECONDS = 60.0  # of whether it is one
_STRIDE_SECONDS = 0.5  # over which people go on as they went
_FORGOTTEN_FRAMES = 10  # after which the filter has corrected any shift
_NOWHERE = (0.0, 0.0)
_ROBUST_ERROR = 1.4826 * 1.2533  # from a median absolute deviation to the standard error of a median, times sqrt(n)


class Turns:
    """How far one camera turned from frame to frame, and whether it is one that turns.

    A turn is the displacement that people, who walk each their own way, have in common. Pairs are mutual nearest
    neighbours over cx, cy, w, h whose distance is below half a height, and the shift is the median of their residuals.
    An axis counts only where the shift exceeds both its own standard error and the residuals' median deviation from it:
    most of the people must agree, so that neither a camera at rest nor a group that sets off together is taken for a
    turn.

    That is not enough for few people: of six on ways of their own most agree by chance in half of the frames, and who
    walks together does so in all of them, so that the filter would never learn that they walk. But people go on as they
    went half a second ago, and a camera in a hand or on a car jerks. So one is at rest where 6 people and more are seen
    to jerk as one hardly more often than by chance. There fewer than 6 are not believed, and more only where both the
    jerk and the shift exceed 3 standard errors. Once 6 could tell, what is not clear counts as a camera that turns.
    """

    def __init__(self) -> None:
        self._told = self._jerked = self._by_chance = 0.0  # seconds, of which the older count less
        self._variance = 0.0  # of the seconds by chance
        self._drift = [0.0, 0.0]  # pixels a second: what people lately had in common
        self._since = 0  # frames without a shift
        self._carried = _NOWHERE  # pixels by which tracks are still off, if earlier shifts were none of the camera

    def shift(self, predicted: Array, detected: Array, *, dt: float, gains: Array) -> Array | None:
        """Since the last frame, dt seconds ago.

        Args:
            predicted: Where tracks are expected, cx, cy, w, h in pixels, (t, 4).
            detected: What was found, likewise, (d, 4).
            dt: Seconds.
            gains: What share of their residuals the filter corrected at its last update, (k,) in [0, 1].

        Returns:
            (2,) pixels, or None when there is none, fewer than 4 pairs to tell it from, or fewer than are believed.
        """
        shift = self._shift(predicted, detected, dt)
        if shift is not None or self._carried != _NOWHERE:
            self._carry(shift, float(gains.sum()) / max(1, len(gains)))
        return shift

    def _carry(self, shift: Array | None, gain: float) -> None:
        across, down = self._carried
        if shift is not None:
            x, y = shift.tolist()
            across, down = across + x, down + y
        self._since = 0 if shift is not None else self._since + 1
        left = 1 - gain if self._since < _FORGOTTEN_FRAMES else 0.0
        self._carried = (left * across, left * down)

    def _shift(self, predicted: Array, detected: Array, dt: float) -> Array | None:
        turns = self.turns
        least = _LEAST_PAIRS if turns else _SURE_PAIRS
        if min(len(predicted), len(detected)) < least:
            return None
        residual = _residuals(predicted, detected)
        if len(residual) < least:
            return None
        median = _median(residual)
        common, deviation = median.tolist(), _median(np.abs(residual - median)).tolist()
        error = _ROBUST_ERROR / math.sqrt(len(residual))
        usual = max(error, 1.0)
        jerk = self._jerk(common, [usual * each for each in deviation], dt)
        if len(residual) >= _SURE_PAIRS:
            self._learn(len(residual), jerked=any(_beyond(usual, deviation, jerk)), dt=dt)
        if turns:
            shared = _beyond(usual, deviation, common)
        else:
            sure = max(_SURE_ERRORS * error, 1.0)
            shared = _beyond(sure, deviation, common) if any(_beyond(sure, deviation, jerk)) else [0.0, 0.0]
        return np.array(shared) if any(shared) else None

    def _jerk(self, common: list[float], usual: list[float], dt: float) -> list[float]:
        """How far people left the way that they lately went, in pixels.

        A shift that no camera made is found again in the next residuals, with the other sign, as far as the filter has
        not corrected it. Taken for a jerk it would confirm itself.
        """
        free = [common[0] + self._carried[0], common[1] + self._carried[1]]
        part, (across, down) = 1 - math.exp(-dt / _STRIDE_SECONDS), self._drift
        exact = math.sqrt(1 - part / 2)  # the drift errs as well
        jerk = [exact * (free[0] - across * dt), exact * (free[1] - down * dt)]
        shared = _beyond(1.0, usual, free)
        self._drift = [across + part * (shared[0] / dt - across), down + part * (shared[1] / dt - down)]
        return jerk

    @property
    def turns(self) -> bool:
        """Whether the camera is taken for one that turns."""
        least = self._by_chance + _TURNS * (self._told - self._by_chance)
        return self._jerked > least - _DOUBT * math.sqrt(self._variance)

    def _learn(self, people: int, *, jerked: bool, dt: float) -> None:
        decay, chance = math.exp(-dt / _MEMORY_SECONDS), chance_of(people)
        self._told = self._told * decay + dt
        self._jerked = self._jerked * decay + dt * jerked
        self._by_chance = self._by_chance * decay + dt * chance
        self._variance = self._variance * decay * decay + dt * dt * chance * (1 - chance)


def chance_of(people: int) -> float:
    """In what share of frames so many people, each on a way of their own, seem to move as one (by simulation)."""
    return math.exp(-people / _CHANCE)


def _residuals(predicted: Array, detected: Array) -> Array:
    """Of each pair, (k, 2)."""
    distance = cdist(predicted, detected, "sqeuclidean")
    nearest, rows = distance.argmin(axis=1), np.arange(len(predicted))
    mutual = distance.argmin(axis=0)[nearest] == rows
    height = predicted[:, 3]
    mutual &= 4 * distance[rows, nearest] < height * height
    residual: Array = detected[:, :2].take(nearest[mutual], axis=0) - predicted[:, :2].compress(mutual, axis=0)
    return residual


def _beyond(times: float, deviation: list[float], ways: list[float]) -> list[float]:
    """Ways along both axes, 0 where one is no more than so many deviations."""
    (x, y), (across, down) = ways, deviation
    return [x if abs(x) > times * across else 0.0, y if abs(y) > times * down else 0.0]


def _median(values: Array) -> Array:
    """Of each column; what NumPy's own gives, at a third of its time for few rows."""
    ordered = values.copy()
    ordered.sort(axis=0)
    half = len(values) // 2
    middle: Array = ordered[half] if len(values) % 2 else (ordered[half - 1] + ordered[half]) / 2
    return middle
