"""The floor under a fixed camera: where people stand, in metres, and how tall they are.

Boxes are compared on the floor, where a step is a step near and far (Yi et al., "UCMCTrack: Multi-Object Tracking with
Uniform Camera Motion Compensation", AAAI 2024), and by stature, which nobody changes: two who cross are told apart by
it when they part. The floor is a homography, from a survey of the site, from the camera's height and tilt, or from the
boxes themselves: people are about equally tall, so the height of a box tells how far away its foot is.
"""

import math
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from trackers.kalman import MotionNoise, WalkFilter
from trackers.pairs import Pairs

Array = NDArray[np.float64]
Rows = NDArray[np.int64]

_STATURE = 1.7  # metres, of people on average
_TALLEST = 20.0  # metres: nearer to the horizon than where a box would be taller nobody can be measured
_SMALLEST = 0.01  # share of a height: less is the rounding of nothing
_FOCAL_SHARE = 0.8  # focal length in widths of the picture: a horizontal field of view of 64 degrees


@dataclass(frozen=True, slots=True, eq=False)
class GroundPlane:
    """A map from pixels to the floor.

    Attributes:
        homography: (3, 3), maps (x, y, 1) in pixels to (X W, Y W, W) with X and Y in metres; W is then the number of
            pixels that a metre across the line of sight has there, above 0 below the horizon.
    """

    homography: Array

    def __post_init__(self) -> None:
        matrix = np.array(self.homography, dtype=np.float64)
        if matrix.shape != (3, 3):
            raise ValueError(f"homography must be (3, 3), got {matrix.shape}")
        if not np.isfinite(matrix).all() or np.linalg.matrix_rank(matrix) < 3:
            raise ValueError(f"homography must be finite and invertible, got {matrix.tolist()}")
        slope = matrix[2, :2]
        along = np.array([slope[1], -slope[0]]) if slope.any() else np.array([1.0, 0.0])
        scale = np.linalg.norm(matrix[:2, :2] @ along) / np.linalg.norm(along)
        below = slope[1] if slope[1] else matrix[2, 2]
        object.__setattr__(self, "homography", matrix / math.copysign(scale, below))

    @classmethod
    def of_camera(
        cls, *, height_metres: float, tilt_degrees: float, focal_pixels: float, centre_xy: tuple[float, float]
    ) -> Self:
        """The floor under a camera without roll.

        Args:
            height_metres: Of the lens above the floor, above 0.
            tilt_degrees: How far it looks down, from 0 (the horizon in the middle) to below 90.
            focal_pixels: Focal length in pixels: the width divided by twice the tangent of half the field of view.
            centre_xy: Where the optical axis meets the picture, pixels; usually its middle.

        Raises:
            ValueError: When one of them cannot be meant.
        """
        for name, value in (("height_metres", height_metres), ("focal_pixels", focal_pixels)):
            if not (math.isfinite(value) and value > 0):
                raise ValueError(f"{name} must be a positive number, got {value}")
        if not 0 <= tilt_degrees < 90:
            raise ValueError(f"tilt_degrees must be in [0, 90), got {tilt_degrees}")
        sine, cosine = math.sin(math.radians(tilt_degrees)), math.cos(math.radians(tilt_degrees))
        across = [height_metres, 0.0, -height_metres * centre_xy[0]]
        ahead = [0.0, -height_metres * sine, height_metres * (focal_pixels * cosine + centre_xy[1] * sine)]
        down = [0.0, cosine, focal_pixels * sine - centre_xy[1] * cosine]
        return cls(np.array([across, ahead, down]))

    def pixels_a_metre(self, cxcywh: Array) -> Array:
        """At the foot of each box (n, 4), (n,)."""
        row = self.homography[2]
        scale: Array = row[0] * cxcywh[:, 0] + row[1] * (cxcywh[:, 1] + cxcywh[:, 3] / 2) + row[2]
        return np.maximum(scale, cxcywh[:, 3] / _TALLEST)

    def stature(self, cxcywh: Array) -> Array:
        """Metres, of each box (n, 4), (n,)."""
        tall: Array = cxcywh[:, 3] / self.pixels_a_metre(cxcywh)
        return tall

    def locate(self, cxcywh: Array) -> tuple[Array, Array]:
        """Where each box (n, 4) stands, metres, (n, 2), and how that changes with its foot's pixel, (n, 2, 2)."""
        foot = np.stack([cxcywh[:, 0], cxcywh[:, 1] + cxcywh[:, 3] / 2, np.ones(len(cxcywh))])
        scale = self.pixels_a_metre(cxcywh)
        place = (self.homography[:2] @ foot / scale).T
        change = self.homography[:2, :2] - place[:, :, None] * self.homography[2, :2]
        return place, change / scale[:, None, None]


class GroundEstimator:
    """Learns the floor of a fixed camera from people's boxes, in bounded memory.

    The height of a box is a linear function of where its foot is, ``h = a + b x + c y``, zero on the horizon, if people
    are equally tall and the camera is not steep (Hoiem et al., "Putting Objects in Perspective", 2008). It is fitted to
    relative errors, boxes that fit badly counting less, for the first time when `_FIRST` boxes are there, and anew
    whenever they are twice as many. There is no floor while heights do not differ enough, or fit worse than
    `_WORST_FIT`: stairs, or a camera that moves. What distance means in depth rests on a usual field of view.
    """

    _FIRST = 200
    _LEAST_RATIO, _WORST_FIT = 1.4, 0.1

    def __init__(self) -> None:
        self._boxes = np.empty((0, 4))
        self._every, self._met, self._next = 1, 0, self._FIRST

    def learn(self, cxcywh: Array) -> GroundPlane | None:
        """Take a frame's sure boxes (n, 4), and return a floor where there is a new one."""
        kept = cxcywh[(self._met + np.arange(len(cxcywh))) % self._every == 0]
        self._met += len(cxcywh)
        self._boxes = np.concatenate([self._boxes, kept])
        if self._met < self._next:
            return None
        self._next *= 2
        plane = self._fit()
        while len(self._boxes) > 2 * self._FIRST:
            self._boxes, self._every = self._boxes[::2], 2 * self._every
        return plane

    def _fit(self) -> GroundPlane | None:
        unit = float(np.median(self._boxes[:, 3]))  # so that the size of the picture changes no digit
        x, tall = self._boxes[:, 0] / unit, self._boxes[:, 3] / unit
        low, high = np.quantile(tall, [0.1, 0.9])
        if high < self._LEAST_RATIO * low:
            return None
        terms = np.stack([np.ones(len(x)), x, self._boxes[:, 1] / unit + tall / 2], axis=1)
        weight: NDArray[np.floating] = 1 / tall
        error: NDArray[np.floating] = tall
        slope: NDArray[np.floating] = np.zeros(3)
        for _ in range(10):
            slope = np.linalg.lstsq(terms * weight[:, None], tall * weight, rcond=None)[0]
            expected = np.maximum(terms @ slope, _SMALLEST)
            error = np.abs(tall / expected - 1.0)
            weight = 1 / expected / (1 + (error / (3 * np.median(error) + 1e-6)) ** 2)
        if slope[2] <= 0 or 1.4826 * np.median(error) > self._WORST_FIT:
            return None
        a, b, c = slope / _STATURE
        length = math.hypot(b, c)
        across = np.array([c, -b]) / length
        half = self._boxes[:, 2] / unit / 2
        width = unit * float((x + half).max() - (x - half).min())
        middle = unit * float(across @ terms[:, 1:].mean(axis=0))
        return GroundPlane(np.array([[*across, -middle], [0.0, 0.0, _FOCAL_SHARE * width], [b, c, unit * a]]))


class FloorFilter:
    """Where every track stands on a floor and how fast it walks, metres, and how tall the person is.

    Covariances are full: a pixel of the foot is centimetres across and metres in depth. The noise of a foot is a share
    of the box height, that of a walk is in metres, and stature is the mean of the last `_MEMORY` boxes.
    """

    _FOOT = (0.024, 0.04)  # standard deviation, x and y, box heights
    _PUSH, _WALK, _FIRST_SPEED = 1.0, 0.1, 1.5  # m / s^1.5, m / s^0.5, m / s
    _MEMORY, _JUMP = 30.0, 0.1

    def __init__(self, plane: GroundPlane) -> None:
        self.plane = plane
        self._walk = np.empty((0, 4))  # X, Y and their velocities
        self._spread = np.empty((0, 4, 4))
        self._tall = np.empty((0, 2))  # stature, and from how many boxes

    def append(self, cxcywh: Array) -> None:
        """Start a track at each of the boxes (n, 4)."""
        place, spread = self._measure(cxcywh, 1.0)
        first = np.zeros((len(cxcywh), 4, 4))
        first[:, :2, :2] = spread
        first[:, 2, 2] = first[:, 3, 3] = self._FIRST_SPEED**2
        stature = np.stack([self.plane.stature(cxcywh), np.ones(len(cxcywh))], axis=1)
        self._walk = np.concatenate([self._walk, np.concatenate([place, np.zeros_like(place)], axis=1)])
        self._spread = np.concatenate([self._spread, first])
        self._tall = np.concatenate([self._tall, stature])

    def _measure(self, cxcywh: Array, noise: Array | float) -> tuple[Array, Array]:
        """Places (n, 2) and their covariances (n, 2, 2)."""
        place, change = self.plane.locate(cxcywh)
        foot = np.array(self._FOOT) * cxcywh[:, 3:] * np.reshape(noise, (-1, 1))
        change = change * foot[:, None, :]
        return place, change @ change.transpose(0, 2, 1)

    def keep(self, tracks: NDArray[np.bool_] | Rows) -> None:
        """Forget all other tracks."""
        self._walk, self._spread, self._tall = self._walk[tracks], self._spread[tracks], self._tall[tracks]

    def predict(self, dt: float) -> None:
        """Move every track dt seconds on."""
        step = np.eye(4)
        step[0, 2] = step[1, 3] = dt
        push = self._PUSH**2 * np.array([[dt**3 / 3, dt**2 / 2], [dt**2 / 2, dt]])
        push[0, 0] += self._WALK**2 * dt
        self._walk = self._walk @ step.T
        self._spread = step @ self._spread @ step.T + np.kron(push, np.eye(2))

    def update(self, tracks: Rows, cxcywh: Array, noise: Array | float) -> None:
        """Correct the tracks (m,) by boxes (m, 4) of `noise` times the usual noise."""
        place, wrong = self._measure(cxcywh, noise)
        spread = self._spread[tracks]
        gain = spread[:, :, :2] @ np.linalg.inv(spread[:, :2, :2] + wrong)
        self._walk[tracks] += (gain @ (place - self._walk[tracks, :2])[:, :, None])[:, :, 0]
        self._spread[tracks] = spread - gain @ spread[:, :2]
        tall, count = self._tall[tracks].T
        change = np.clip(self.plane.stature(cxcywh) - tall, -self._JUMP * tall, self._JUMP * tall)
        self._tall[tracks, 0] += change / (np.minimum(count + 1, self._MEMORY) * noise)
        self._tall[tracks, 1] += 1

    def remember(self, before: "FloorFilter", cxcywh: Array) -> None:
        """Take over the statures of the same tracks, now at these boxes, from another floor."""
        pixels = before._tall[:, 0] * before.plane.pixels_a_metre(cxcywh)
        self._tall = np.stack([pixels / self.plane.pixels_a_metre(cxcywh), before._tall[:, 1]], axis=1)

    def fit(self, pairs: Pairs, cxcywh: Array) -> tuple[Array, Array]:
        """Of each pair, of a track and one of the boxes (m, 4): squared distance on the floor, and ratio of statures.

        The distance is Mahalanobis', of 2 coordinates; the ratio is at most 1.
        """
        place, wrong = self._measure(cxcywh, 1.0)
        xx, xy, yy = (self._spread[pairs.track, i, j] + wrong[pairs.box, i, j] for i, j in ((0, 0), (0, 1), (1, 1)))
        dx, dy = (place[pairs.box] - self._walk[pairs.track, :2]).T
        distance = (yy * dx * dx - 2 * xy * dx * dy + xx * dy * dy) / (xx * yy - xy * xy)
        known, seen = self._tall[pairs.track, 0], self.plane.stature(cxcywh)[pairs.box]
        return distance, np.minimum(known, seen) / np.maximum(known, seen)


class GroundedFilter(WalkFilter):
    """A `WalkFilter` that follows people on the floor as well, as soon as there is one.

    Attributes:
        floor: None while it is not known.
    """

    _SURE = 2.2  # boxes of less than so many times the usual noise teach the floor

    def __init__(self, noise: MotionNoise, plane: GroundPlane | None) -> None:
        super().__init__(noise)
        self.floor = None if plane is None else FloorFilter(plane)
        self._estimator = GroundEstimator() if plane is None else None

    def append(self, cxcywh: Array) -> None:
        super().append(cxcywh)
        if self.floor is not None:
            self.floor.append(cxcywh)

    def keep(self, tracks: NDArray[np.bool_] | Rows) -> None:
        super().keep(tracks)
        if self.floor is not None:
            self.floor.keep(tracks)

    def predict(self, dt: float) -> None:
        super().predict(dt)
        if self.floor is not None:
            self.floor.predict(dt)

    def update(self, tracks: Rows, cxcywh: Array, noise: Array | float = 1.0) -> None:
        super().update(tracks, cxcywh, noise)
        if self.floor is not None and len(tracks):
            self.floor.update(tracks, cxcywh, noise)
        if self._estimator is not None:
            plane = self._estimator.learn(cxcywh[np.broadcast_to(noise, len(cxcywh)) < self._SURE])
            if plane is not None:
                self._settle(plane)

    def _settle(self, plane: GroundPlane) -> None:
        """Everybody stands on this floor from now on."""
        boxes = self.mean.copy()
        boxes[:, 2:] = np.maximum(boxes[:, 2:], _SMALLEST * np.sqrt(self.state[11])[:, None])
        floor = FloorFilter(plane)
        floor.append(boxes)
        if self.floor is not None:
            floor.remember(self.floor, boxes)
        self.floor = floor
