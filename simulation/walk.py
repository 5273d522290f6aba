"""How people move through a camera's view: when they enter, where they go, when they rest.

Paths, times and rests come from the site's seed and a walker's place in the queue, never from who walks: put other
people into the same places and nothing but the people changes.
"""

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from simulation.body import Body

_MARGIN_M = 0.9  # beyond the borders of the view, where walkers start and end
_BLEND_SECONDS = 0.4  # to slow down to a rest


@dataclass(frozen=True)
class Ground:
    """The strip of ground in front of a camera where people walk.

    Attributes:
        nearest: Metres from the camera.
        farthest: Metres from the camera.
        slope: Half of the view's width, in metres a metre of distance.
    """

    nearest: float
    farthest: float
    slope: float

    def half_width(self, forward: float) -> float:
        """Metres from the optical axis at which a walker is out of view."""
        return self.slope * forward + _MARGIN_M


@dataclass(frozen=True)
class Path:
    """A straight walk with at most one rest, in the camera's ground axes (forward, left).

    Attributes:
        start: Metres.
        end: Metres.
        pace: Times the walker's own speed.
        rest_at: Share of the way; above 1 for none.
        rest_seconds: How long.
        phase: Of the gait at the start.
    """

    start: tuple[float, float]
    end: tuple[float, float]
    pace: float
    rest_at: float
    rest_seconds: float
    phase: float

    @classmethod
    def sample(cls, ground: Ground, rng: Generator) -> "Path":
        """From one side of the view to the other, at any distances."""
        sign = 1.0 if rng.random() < 0.5 else -1.0
        first, last = (float(value) for value in rng.uniform(ground.nearest, ground.farthest, 2))
        rests = rng.random() < 0.07
        return cls(
            start=(first, sign * ground.half_width(first)),
            end=(last, -sign * ground.half_width(last)),
            pace=float(rng.uniform(0.88, 1.12)),
            rest_at=float(rng.uniform(0.3, 0.7)) if rests else 2.0,
            rest_seconds=float(rng.uniform(1.0, 2.5)),
            phase=float(rng.uniform(0, 2 * np.pi)),
        )

    @property
    def length(self) -> float:
        """Metres."""
        return float(np.hypot(self.end[0] - self.start[0], self.end[1] - self.start[1]))

    @property
    def heading(self) -> float:
        """Radians from forward towards left."""
        return float(np.arctan2(self.end[1] - self.start[1], self.end[0] - self.start[0]))

    def seconds(self, speed: float) -> float:
        """How long the walk takes at a preferred speed in m/s."""
        return self.length / (speed * self.pace) + (self.rest_seconds + _BLEND_SECONDS if self.rest_at <= 1 else 0.0)


@dataclass(frozen=True)
class Walk:
    """One person's passage of one camera.

    Attributes:
        person: Number on the site, from 1.
        begin: Seconds of the recording.
        path: Where.
    """

    person: int
    begin: float
    path: Path

    def end(self, speed: float) -> float:
        """Seconds of the recording."""
        return self.begin + self.path.seconds(speed)


def places(walk: Walk, body: Body, times: NDArray[np.float64]) -> list[tuple[tuple[float, float], float, float]]:
    """Where a walker is: ((forward, left) in metres, phase of the gait, speed in m/s) at each of ``times``.

    Args:
        walk: The passage.
        body: Whose speed and cadence are used.
        times: Seconds since ``walk.begin``, increasing by equal steps.
    """
    path, speed = walk.path, body.person.gait.speed * walk.path.pace
    before = path.rest_at * path.length / speed
    found, done, phase = [], 0.0, path.phase
    previous = 0.0
    for time in times:
        resting = before <= time < before + path.rest_seconds + _BLEND_SECONDS
        slowing = np.clip((time - before) / _BLEND_SECONDS, 0, 1) if resting else 0.0
        now = speed * (1 - float(slowing)) if resting else speed
        step = time - previous
        done += now * step
        phase += 2 * np.pi * body.cadence(now) * step if now > 0.05 else 0.0
        previous = time
        share = min(done / path.length, 1.0)
        at = tuple(a + share * (b - a) for a, b in zip(path.start, path.end, strict=True))
        found.append(((at[0], at[1]), phase, now if now > 0.05 else 0.0))
    return found
