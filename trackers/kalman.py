"""Constant-velocity Kalman filter over boxes: all tracks in one set of arrays, time in seconds."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class MotionNoise:
    """How much people move and detectors err, in box heights, so that distance from the camera does not matter.

    The defaults are those of DeepSORT and ByteTrack (h/20 a frame in position, h/160 a frame in velocity, at
    30 frames a second), rewritten as densities over time.

    Attributes:
        measurement: Standard deviation of a detected coordinate, heights.
        position: Random walk of a coordinate, heights per square root of a second.
        acceleration: White noise acceleration, heights per second to the power 3/2.
        initial_position: Standard deviation of a coordinate at birth, heights.
        initial_velocity: Standard deviation of a velocity at birth, heights per second.
    """

    measurement: float = 1 / 20
    position: float = 30**0.5 / 20
    acceleration: float = 30**1.5 / 160
    initial_position: float = 2 / 20
    initial_velocity: float = 10 * 30 / 160

    def __post_init__(self) -> None:
        for name in self.__slots__:
            value = getattr(self, name)
            if not (np.isfinite(value) and value > 0):
                raise ValueError(f"{name} must be a positive number, got {value}")


DEFAULT_NOISE = MotionNoise()


class BoxFilter:
    """Filters cx, cy, w, h of every track, each coordinate with its velocity and independently of the others.

    With transition and noise all diagonal over coordinates, the textbook 8-state filter falls apart into four
    2-state ones, exactly, and these have closed forms without a matrix product. For one coordinate x with velocity
    v, covariance [[P, C], [C, V]], box height h (at the last measurement) and a step of dt seconds, predict:

        x <- x + v dt
        P <- P + 2 C dt + V dt^2 + h^2 (s_p^2 dt + s_a^2 dt^3 / 3)
        C <- C + V dt            + h^2 s_a^2 dt^2 / 2
        V <- V                   + h^2 s_a^2 dt

    (Bar-Shalom et al. 2001, eq. 6.2.2-12, with a random walk of the position added). Two steps of dt/2 are therefore
    exactly one of dt: frame rate and dropped frames change nothing but what was seen. Update with measurement z:

        S = P + (s_m h_z)^2,   K_x = P / S,   K_v = C / S,   r = z - x
        x <- x + K_x r,   v <- v + K_v r
        P <- (1 - K_x) P,   V <- V - K_v C,   C <- (1 - K_x) C

    Attributes:
        mean: cx, cy, w, h in pixels, (n, 4).
        velocity: Their change, pixels per second, (n, 4).
        scale: Of the noise of each coordinate, pixels: the height at the last measurement, (n, 1).
    """

    def __init__(self, noise: MotionNoise = DEFAULT_NOISE) -> None:
        self._noise = noise
        self.mean: Array = np.empty((0, 4))
        self.velocity: Array = np.empty((0, 4))
        self.scale: Array = self.scale_of(self.mean)
        self._covariance: Array = np.empty((3, 0, 4))  # P, C, V

    def __len__(self) -> int:
        return len(self.mean)

    @property
    def height(self) -> Array:
        """At the last measurement, pixels, (n,)."""
        return self.scale[:, -1]

    @staticmethod
    def scale_of(cxcywh: Array) -> Array:
        """What the noise is measured in, of boxes (n, 4): (n, 1), or (n, 4) where coordinates differ."""
        return cxcywh[:, 3:]

    @property
    def covariance(self) -> Array:
        """(n, 4, 2, 2): position and velocity of each coordinate."""
        p, c, v = self._covariance
        return np.stack([np.stack([p, c], -1), np.stack([c, v], -1)], -2)

    @property
    def xyxy(self) -> Array:
        """Boxes as predicted or updated last, (n, 4); a size below 0 counts as 0."""
        half = np.maximum(self.mean[:, 2:], 0.0) / 2
        centre = self.mean[:, :2]
        return np.concatenate([centre - half, centre + half], axis=1)

    def append(self, cxcywh: Array) -> None:
        """Start a track at each of the boxes (n, 4), at rest and of uncertain velocity."""
        scale = self.scale_of(cxcywh)
        variance = np.zeros((3, len(cxcywh), 4))
        variance[0] = (self._noise.initial_position * scale) ** 2
        variance[2] = (self._noise.initial_velocity * scale) ** 2
        self.mean = np.concatenate([self.mean, cxcywh])
        self.velocity = np.concatenate([self.velocity, np.zeros_like(cxcywh)])
        self.scale = np.concatenate([self.scale, scale])
        self._covariance = np.concatenate([self._covariance, variance], axis=1)

    def keep(self, rows: NDArray[np.bool_]) -> None:
        """Forget the tracks whose row is False, (n,)."""
        self.mean, self.velocity, self.scale = self.mean[rows], self.velocity[rows], self.scale[rows]
        self._covariance = self._covariance[:, rows]

    def predict(self, dt: float) -> None:
        """Move every track dt seconds on.

        Raises:
            ValueError: When dt is negative or not finite.
        """
        if not (np.isfinite(dt) and dt >= 0):
            raise ValueError(f"dt must be a number of seconds not below 0, got {dt}")
        p, c, v = self._covariance
        square = self.scale**2
        acceleration = self._noise.acceleration**2 * square
        self.mean += dt * self.velocity
        p += dt * (2 * c + dt * v + self._noise.position**2 * square + dt**2 / 3 * acceleration)
        c += dt * (v + dt / 2 * acceleration)
        v += dt * acceleration

    def update(self, rows: NDArray[np.int64], cxcywh: Array) -> None:
        """Correct the tracks of `rows` (m,), each at most once, by their measured boxes (m, 4)."""
        p, c, v = self._covariance[:, rows]
        scale = self.scale_of(cxcywh)
        innovation = p + (self._noise.measurement * scale) ** 2
        gain_position, gain_velocity = p / innovation, c / innovation
        residual = cxcywh - self.mean[rows]
        self.mean[rows] += gain_position * residual
        self.velocity[rows] += gain_velocity * residual
        self.scale[rows] = scale
        rest = 1 - gain_position
        self._covariance[:, rows] = np.stack([rest * p, rest * c, v - gain_velocity * c])

    def stop_growth(self, rows: NDArray[np.int64] | NDArray[np.bool_]) -> None:
        """Hold the size of these tracks: without a measurement a drifting size soon is a wrong one."""
        self.velocity[rows, 2:] = 0.0


class WalkFilter:
    """The filter of `BoxFilter` where all four coordinates share their variances: a column a track, in one array.

    As every coordinate's noise is a share of the height, the covariances of the four coordinates stay equal for ever,
    and one set of P, C, V (see `BoxFilter`) serves all; the equations are the same. A measurement's noise can be
    scaled: a box that the detector is less sure of corrects less.

    Sizes are steadier than places, how much so each stream teaches: of the gains above, w and h get a share. The share
    of an optimal filter leaves innovations that do not resemble those before (Mehra 1970); detectors, though, err alike
    in successive frames, so a correlation of `_WANTED` is left to them. Where people change their height (they dance)
    innovations go on resembling each other and the share stays near 1, where boxes jitter it falls to `_LEAST_SHARE`.

    Attributes:
        state: (13, n): cx, cy, w, h in pixels; their velocities in pixels per second; P, C, V; the square of the
            height at the last measurement; and how far that was from what was expected, in standard deviations.
        size_share: Of the gain, that corrects a size.
        gains: What share of the residuals of places the last update corrected, (m,) in [0, 1].
    """

    _WANTED, _LEAST_SHARE, _FIRST_SHARE = 0.55, 0.15, 0.5
    _RATE, _STEP = 0.02, 0.3

    def __init__(self, noise: MotionNoise) -> None:
        self._noise = noise
        self.state: Array = np.empty((13, 0))
        self.size_share = self._FIRST_SHARE
        self.gains: Array = np.empty(0)

    def __len__(self) -> int:
        return len(self.state[0])

    @property
    def mean(self) -> Array:
        """Cx, cy, w, h, (n, 4), a view."""
        return self.state[:4].T

    @property
    def velocity(self) -> Array:
        """Of cx, cy, w, h in pixels per second, (n, 4), a view."""
        return self.state[4:8].T

    @property
    def innovation(self) -> Array:
        """Variance of the next measurement about the mean, square pixels, one for all four coordinates, (n,)."""
        measured: Array = self.state[8] + self._noise.measurement**2 * self.state[11]
        return measured

    def append(self, cxcywh: Array) -> None:
        """Start a track at each of the boxes (n, 4), at rest and of uncertain velocity."""
        born = np.zeros((13, len(cxcywh)))
        born[:4] = cxcywh.T
        born[11] = born[3] ** 2
        born[8] = self._noise.initial_position**2 * born[11]
        born[10] = self._noise.initial_velocity**2 * born[11]
        self.state = np.concatenate([self.state, born], axis=1)

    def keep(self, tracks: NDArray[np.bool_] | NDArray[np.int64]) -> None:
        """Forget all other tracks."""
        self.state = self.state[:, tracks]

    def predict(self, dt: float) -> None:
        """Move every track dt seconds on, dt not below 0."""
        noise, state = self._noise, self.state
        a = noise.acceleration**2
        of_p = 1.0, 2 * dt, dt * dt, dt * noise.position**2 + dt**3 / 3 * a
        rows = np.array([*of_p, 0.0, 1.0, dt, dt * dt / 2 * a, 0.0, 0.0, 1.0, dt * a])
        state[:4] += dt * state[4:8]
        state[8:11] = rows.reshape(3, 4) @ state[8:12]

    def update(self, tracks: NDArray[np.int64], cxcywh: Array, noise: Array | float = 1.0) -> None:
        """Correct the tracks (m,), each at most once, by boxes (m, 4) of `noise` times the usual noise."""
        old, boxes = self.state.take(tracks, axis=1), cxcywh.T
        square = boxes[3] * boxes[3]
        wrong = noise * self._noise.measurement
        innovation = old[8] + wrong * wrong * square
        gain = old[8:10] / innovation
        self.gains = gain[0]
        residual = boxes - old[:4]
        deviation = np.minimum(np.maximum(residual[3] / np.sqrt(innovation), -2.0), 2.0)
        self._learn_share(old[12], deviation)
        residual[2:] *= self.size_share
        old[:4] += gain[0] * residual
        old[4:8] += gain[1] * residual
        old[10] -= gain[1] * old[9]
        old[8:10] *= 1 - gain[0]
        old[11], old[12] = square, deviation
        self.state[:, tracks] = old

    def _learn_share(self, before: Array, now: Array) -> None:
        """Raise the share where deviations of heights (m,) resemble those before more than is wanted."""
        known = before != 0
        again = now * known
        spread = float(again @ again) * float(before @ before)
        if spread > 0:
            excess = float(again @ before) / math.sqrt(spread) - self._WANTED
            share = self.size_share * math.exp(min(self._RATE * np.count_nonzero(known), self._STEP) * excess)
            self.size_share = min(max(share, self._LEAST_SHARE), 1.0)

    def shift(self, xy: Array) -> None:
        """Move every track by (2,) pixels: the camera turned."""
        self.state[:2] += xy[:, None]

    def stop_growth(self, tracks: NDArray[np.int64] | NDArray[np.bool_]) -> None:
        """Hold the size of these tracks: without a measurement a drifting size soon is a wrong one."""
        self.state[6:8, tracks] = 0.0
