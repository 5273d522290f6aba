"""How far apart two cameras' clocks are, from what both see.

Two cameras that look at one place see the same people move, whatever they measure. How much moves in each view is a
signal of time; the shift and the stretch under which the two signals agree best are the skew and the drift between the
clocks. Nothing has to be calibrated, detected or matched, and no clock is trusted. Where nobody moves, nothing is
learnt.

What moves in all of the view finds the shift; what moves in each row of it finds it finely. A place in the view would
be the wrong thing to compare: a warm face walks ahead of cool hair, a bag that is as cool as the wall behind; so a
thermal camera sees the same person arrive some milliseconds sooner than an RGB camera does. A row holds the whole way
of whoever walks across the view, and what changes in it is the gait, which is when it is in any modality.
"""

from collections import deque
from dataclasses import dataclass
from typing import Any, cast

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from pipeline.frame import Image

Floats = NDArray[np.float64]
Floats32 = NDArray[np.float32]

_SMALL_WH = (48, 36)
_SPAN_SECONDS = 300.0  # of the signals that a fit looks at: the longer, the better the drift is known
_SEARCH_SECONDS = 60.0  # of those that the first fit searches in
_LEAST_SECONDS = 30.0
_MOST_SKEW = 3.0  # seconds
_MOST_DRIFT = 0.01
_LEAST_AGREEMENT = 0.5  # correlation of the two signals
_LEAST_OF_ROWS = 0.2  # of those of rows, which are many, each with noise of its own
_LEAST_MARGIN = 0.1  # over the best one elsewhere
_ELSEWHERE_SECONDS = 0.7
_STEP_SECONDS = 0.05
_SLOW_SECONDS = 1.5
_EVEN_FLOOR = 0.5  # of the median power: what is weaker is taken for noise
_LEAST_POWER = 1e-9
_DRIFT_SCALE = 100.0  # so that a step of it does about as much as one of the skew
_DRIFT_STEPS = 11
_MOST_REFINED = 0.1  # seconds by which the rows of the view may correct the whole of it
_NOISE_RISE = 2.6  # by which what counts as noise grows in a second above it,
_NOISE_FALL = 0.82  # and falls in one below it: where it is above for a sixth of the time, it stays
_NOISE_BEFORE_MOTION = 3.0
_BACKGROUND_PACE = 0.5  # of the noise, in a second, by which the background follows
_LEAST_NOISE = 1e-3
_MOST_SECONDS = 0.5  # a picture does not say what came before it for longer


@dataclass(frozen=True, slots=True)
class ClockFit:
    """The second camera's clock against the first's: it shows t + skew + drift * (t - at) when the first shows t.

    Attributes:
        at: Time of the first clock, seconds since 1970.
        skew_seconds: By how much the second is ahead then.
        drift: By which share it runs faster.
        agreement: Correlation of the motion that both saw, once corrected.
    """

    at: float
    skew_seconds: float
    drift: float
    agreement: float

    def skew(self, first: float) -> float:
        """By how much the second clock is ahead when the first shows this."""
        return self.skew_seconds + self.drift * (first - self.at)

    def to_second(self, first: float) -> float:
        """What the second clock shows when the first shows this."""
        return first + self.skew(first)

    def to_first(self, second: float) -> float:
        """What the first clock shows when the second shows this."""
        return self.at + (second - self.at - self.skew_seconds) / (1 + self.drift)


class _Background:
    """What each place of a view looks like when nobody is there, and by how much that wavers.

    Of a compressed stream it wavers a good deal: at each key frame, every half second of some cameras, all that the
    frames before have left out comes back at once. That is as strong as a person far away, but never far from the
    background.
    """

    def __init__(self, picture: Floats32) -> None:
        self._before = self._mean = picture
        self._noise: Floats32 | None = None
        self._there = np.zeros(picture.shape, bool)

    def moved(self, picture: Floats32, seconds: float) -> Floats32:
        """By how much each place has changed in so many seconds, as far as somebody is or was there."""
        self._mean = self._mean + np.median(picture - self._before)  # a lamp lights what is behind people too
        away = np.abs(picture - self._mean)
        noise = self._noise
        if noise is None:
            noise = np.full_like(picture, max(3 * float(np.median(away)), _LEAST_NOISE))
        there = away > _NOISE_BEFORE_MOTION * noise
        change = np.where(there | self._there, np.abs(picture - self._before), 0)
        self._before, self._there = picture, there
        self._mean = self._mean + np.sign(picture - self._mean) * np.minimum(away, _BACKGROUND_PACE * seconds * noise)
        pace = np.where(away > noise, _NOISE_RISE**seconds, _NOISE_FALL**seconds)
        self._noise = np.maximum(noise * pace, _LEAST_NOISE).astype(np.float32)
        moved: Floats32 = np.maximum(change - 3 * np.median(change), 0)  # a lamp changes all: most of it is still
        return moved


class Motion:
    """How much moves before one camera, over time. Memory is bounded by five minutes of numbers."""

    def __init__(self) -> None:
        self._latest = 0.0
        self._background: _Background | None = None
        self._points: deque[tuple[float, Floats32]] = deque()

    def add(self, image: Image, seconds: float) -> None:
        """Take the next frame.

        Args:
            image: As in ``Frame.image``.
            seconds: Its capture time; a frame that is not later than the one before begins the signal anew.
        """
        grey = image if image.ndim == 2 else image[..., 1]
        small = cv2.resize(grey, _SMALL_WH, interpolation=cv2.INTER_AREA).astype(np.float32)
        then, self._latest = self._latest, seconds
        if self._background is None:
            self._background = _Background(cast("Floats32", small))
        else:
            moved = self._background.moved(cast("Floats32", small), min(max(seconds - then, 0.0), _MOST_SECONDS))
            if seconds <= then or seconds - then > 1.0:
                self._points.clear()
            else:
                rows = moved.mean(axis=1) / (seconds - then)
                self._points.append(((seconds + then) / 2, rows.astype(np.float32)))
        while self._points and self._points[-1][0] - self._points[0][0] > _SPAN_SECONDS:
            self._points.popleft()

    def copy(self) -> "Motion":
        """The signal as it is now, for somebody who adds nothing to it."""
        found = Motion()
        found._points = self._points.copy()
        return found

    def liveliness(self) -> float:
        """How much moved in the last minute, as the deviation of the signal; 0 before there is one."""
        times, strength = self.signal()
        late = strength[times >= times[-1] - _SEARCH_SECONDS] if len(times) else strength
        return float(late.std()) if len(late) else 0.0

    @property
    def span_seconds(self) -> float:
        """How long the signal is."""
        return self._points[-1][0] - self._points[0][0] if self._points else 0.0

    def signal(self, *, rows: bool = False) -> tuple[Floats, Floats]:
        """Times (n,) and strengths (n, parts): the quick changes of the square root.

        The root, so that who is near does not outweigh all others; the quick changes, for how many are in view says
        little of when. Of rows moreover as strong at one time as at another, nearly, so that each who passes has a say.

        Args:
            rows: Of each row of the view; else of the whole of it, one part.
        """
        if len(self._points) < 2:
            return np.empty(0), np.empty((0, 1))
        times = np.array([time for time, _ in self._points])
        strength = np.array([moved for _, moved in self._points], np.float64)
        if not rows:
            strength = strength.mean(axis=1, keepdims=True)
        # A shutter or a lamp moves everything.
        strength = np.sqrt(np.minimum(strength, np.percentile(strength, 99.5 if rows else 99)))
        quick = strength - _smooth(times, strength)
        return times, _even(times, quick) if rows else quick


def _even(times: Floats, values: Floats) -> Floats:
    """As strong at each time as at others, over all columns; what is weak at any time stays weak."""
    power = _smooth(times, np.square(values).mean(axis=1, keepdims=True))
    evened: Floats = values / np.sqrt(np.maximum(power, 0) + _EVEN_FLOOR * np.median(power) + _LEAST_POWER)
    return evened


def _smooth(times: Floats, values: Floats) -> Floats:
    """Mean over the time around each point, by columns."""
    steps = (values[1:] + values[:-1]) / 2 * np.diff(times)[:, None]
    sums = np.concatenate([np.zeros((1, values.shape[1])), np.cumsum(steps, axis=0)])
    low, high = np.maximum(times - _SLOW_SECONDS / 2, times[0]), np.minimum(times + _SLOW_SECONDS / 2, times[-1])
    within: Floats = (_read(times, sums, high) - _read(times, sums, low)) / np.maximum(high - low, 1e-9)[:, None]
    return within


def _read(times: Floats, values: Floats, where: Floats) -> Floats:
    """Linear interpolation of each column at times within the first and the last."""
    left = np.clip(np.searchsorted(times, where, side="right") - 1, 0, len(times) - 2)
    share = ((where - times[left]) / (times[left + 1] - times[left]))[:, None]
    read: Floats = values[left] * (1 - share) + values[left + 1] * share
    return read


def fit(first: Motion, second: Motion, *, known: ClockFit | None = None) -> ClockFit | None:
    """Compare the motion before two cameras.

    Args:
        first: Of the clock that counts.
        second: Of the other one.
        known: An earlier fit, from which the search begins; without one, all of three seconds and 1 % is searched.

    Returns:
        None when too little moved, or more than one shift would do.
    """
    pair = _Signals.of(first, second, seconds=_SPAN_SECONDS)
    if pair is None:
        return None
    begin = None if known is None else (known.skew(pair.at), known.drift)
    if begin is None or pair.agreement(*begin) < _LEAST_AGREEMENT:
        recent = _Signals.of(first, second, seconds=_SEARCH_SECONDS)
        begin = recent.search(pair.at) if recent else None
        if begin is None:
            return None
    found = pair.climb(*begin)
    skew, drift, agreement = found
    if agreement < _LEAST_AGREEMENT or abs(drift) > 1.5 * _MOST_DRIFT:
        return None
    rows = _Signals.of(first, second, seconds=_SPAN_SECONDS, rows=True)
    if rows is not None:
        finer = rows.climb(skew, drift)
        near = abs(finer[0] - skew) <= _MOST_REFINED and abs(finer[1]) <= 1.5 * _MOST_DRIFT
        if near and finer[2] >= _LEAST_OF_ROWS:
            skew, drift = finer[:2]
    return ClockFit(pair.at, skew, drift, agreement)


@dataclass(frozen=True, slots=True)
class _Signals:
    """Two signals; times (n,) are relative to ``at``, the middle of the first's; strengths (n, parts)."""

    at: float
    times: Floats
    strength: Floats
    other_times: Floats
    other_strength: Floats

    @classmethod
    def of(cls, first: Motion, second: Motion, *, seconds: float, rows: bool = False) -> "_Signals | None":
        """Of so many seconds at most, the latest; None when there is too little."""
        times, strength = first.signal(rows=rows)
        latest = times >= (times[-1] - seconds if len(times) else 0.0)
        times, strength = times[latest], strength[latest]
        other_times, other_strength = second.signal(rows=rows)
        if min(len(times), len(other_times)) < 20 or times[-1] - times[0] < _LEAST_SECONDS:
            return None
        at = float(times[0] + times[-1]) / 2
        return cls(at, times - at, strength, other_times - at, other_strength)

    def agreement(self, skew: float, drift: float) -> float:
        """Correlation of the first signal with the second, as it would be read on the first's clock."""
        where = self.times * (1 + drift) + skew
        inside = (where >= self.other_times[0]) & (where <= self.other_times[-1])
        if inside.sum() < 0.6 * len(where):
            return -1.0
        a, b = self.strength[inside], _read(self.other_times, self.other_strength, where[inside])
        a, b = (a - a.mean(axis=0)).ravel(), (b - b.mean(axis=0)).ravel()
        scale = float(np.sqrt((a @ a) * (b @ b)))
        return float(a @ b) / scale if scale > 0 else -1.0

    def climb(self, skew: float, drift: float) -> tuple[float, float, float]:
        """The skew and drift near these at which the agreement is highest, and that."""
        corners = np.array([(skew, drift), (skew + 0.03, drift), (skew, drift + 0.0005)]) * (1, _DRIFT_SCALE)
        options: dict[str, Any] = {"initial_simplex": corners, "xatol": 1e-3, "fatol": 1e-5}
        best = minimize(  # type: ignore[call-overload] # the stubs do not know the options of each method
            lambda values: -self.agreement(values[0], values[1] / _DRIFT_SCALE),
            corners[0],
            method="Nelder-Mead",
            options=options,
        )
        return float(best.x[0]), float(best.x[1]) / _DRIFT_SCALE, -float(best.fun)

    def search(self, at: float) -> tuple[float, float] | None:
        """The best skew (as it is at a time of the first clock) and drift of a grid; None when another is as good."""
        skews = np.arange(-_MOST_SKEW, _MOST_SKEW + _STEP_SECONDS / 2, _STEP_SECONDS)
        drifts = np.linspace(-_MOST_DRIFT, _MOST_DRIFT, _DRIFT_STEPS)
        table = np.array([[self.agreement(skew, drift) for drift in drifts] for skew in skews])
        row, column = np.unravel_index(int(table.argmax()), table.shape)
        elsewhere = table[np.abs(skews - skews[row]) > _ELSEWHERE_SECONDS]
        if table[row, column] < elsewhere.max() + _LEAST_MARGIN:
            return None
        drift = float(drifts[column])
        return float(skews[row]) + drift * (at - self.at), drift
