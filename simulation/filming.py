"""One tracklet: a person walks before a camera, and a detector's boxes cut crops out of the frames.

Boxes are shifted, loose, sometimes too short or too wide, as detectors' are; another person may walk by, and furniture
stands in the way.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from simulation.body import Body
from simulation.camera import Camera
from simulation.materials import dress
from simulation.people import Person
from simulation.renderer import Figure, Sprite
from simulation.scene import Scene
from simulation.sensor import Sensor
from simulation.site import Walker, compose, drawn_at, uncovered
from simulation.walk import Path as WalkPath
from simulation.walk import Walk, places

WIDTH, HEIGHT = 640, 360
_WALK_M = 7.0
_LEAST_INSIDE, _LEAST_FREE = 0.55, 0.45
_HEIGHT_PX = (72.0, 220.0)
_EDGE = 4  # pixels drawn around a crop, for the optics' blur

Box = tuple[int, int, int, int]
Pixels = NDArray[np.uint8] | NDArray[np.uint16]
Dressed = tuple[Body, Figure]


@dataclass(frozen=True)
class Station:
    """A camera with its surroundings and sensor."""

    scene: Scene
    sensor: Sensor
    name: str


@dataclass(frozen=True)
class Take:
    """How a tracklet is filmed.

    Attributes:
        seed: Of the people who walk by.
        moments: Looked at; those in which too little of the person is seen give no crop.
        step_seconds: Least and greatest time between two moments.
        company: Probability that somebody else walks by.
        box_error: Size and frequency of the boxes' errors; 1 is those of a fair detector.
        box_bias: Standard deviation of what all boxes of a tracklet are shifted by, as a share of their size.
    """

    seed: int
    moments: int
    step_seconds: tuple[float, float] = (0.12, 0.45)
    company: float = 0.35
    box_error: float = 1.0
    box_bias: float = 0.0


def dressed(person: Person, modality: str) -> Dressed:
    """A person ready to be drawn in one modality."""
    body, wardrobe = dress(person, modality)
    return body, Figure(body.pieces, wardrobe.textures)


def film(take: Take, at: Station, walker: Dressed, rng: Generator) -> Iterator[tuple[int, Pixels]]:
    """Yield the moments in which enough is seen, from 0, with the crop of each."""
    camera, modality = at.scene.camera, at.scene.light.modality
    step = float(rng.uniform(*take.step_seconds))
    own = _walker(walker, camera, rng)
    others = []
    if rng.random() < take.company:
        passer = Person.sample("passers-by", int(rng.integers(100_000)), seed=take.seed)
        others = [_walker(dressed(passer, modality), camera, rng, near=own)]
    times = _times(own, take.moments, step)
    moments = [places(each.walk, each.body, times) for each in (own, *others)]
    bias = rng.normal(0, take.box_bias, 2) if take.box_bias else np.zeros(2)
    for index, time in enumerate(times):
        main = drawn_at(at.scene, own, moments[0][index])
        if main is None:
            continue
        sprite, inside = main
        passing = [drawn_at(at.scene, each, moment[index]) for each, moment in zip(others, moments[1:], strict=True)]
        sprites = [found[0] for found in passing if found is not None]
        nearer = [each for each in (*sprites, *at.scene.furniture) if each.depth < sprite.depth]
        box = _detected(sprite, rng, take.box_error, bias)
        if inside < _LEAST_INSIDE or uncovered(sprite, nearer) < _LEAST_FREE or box is None:
            continue
        left, top, right, bottom = box
        window = max(left - _EDGE, 0), max(top - _EDGE, 0), min(right + _EDGE, WIDTH), min(bottom + _EDGE, HEIGHT)
        picture = at.sensor.expose(compose(at.scene, [sprite, *sprites], window), float(time), window)
        yield index, picture[top - window[1] : bottom - window[1], left - window[0] : right - window[0]]


def _walker(walker: Dressed, camera: Camera, rng: Generator, *, near: Walker | None = None) -> Walker:
    """Send somebody on a straight walk through the view, in any direction."""
    body, figure = walker
    stature = body.person.physique.stature
    forward = camera.focal * stature / float(rng.uniform(*_HEIGHT_PX))
    forward = max(forward, 2.6)
    side = float(rng.uniform(-0.42, 0.42)) * camera.width / camera.focal * forward
    if near is not None:
        middle = [0.5 * (a + b) for a, b in zip(near.walk.path.start, near.walk.path.end, strict=True)]
        forward, side = middle[0] + float(rng.uniform(-1.5, 1.5)), middle[1] + float(rng.uniform(-1.2, 1.2))
        forward = max(forward, 2.6)
    heading = float(rng.uniform(0, 2 * np.pi))
    if rng.random() < 0.5:  # half of all walks cross the view, as on most paths
        heading = float(rng.choice([0.5, 1.5]) * np.pi + rng.normal(0, 0.35))
    half = 0.5 * _WALK_M * np.array([np.cos(heading), np.sin(heading)])
    middle_point = np.array([forward, side])
    start, end = middle_point - half, middle_point + half
    path = WalkPath(
        start=(float(start[0]), float(start[1])),
        end=(float(end[0]), float(end[1])),
        pace=float(rng.uniform(0.85, 1.15)),
        rest_at=0.5 if rng.random() < 0.05 else 2.0,
        rest_seconds=2.0,
        phase=float(rng.uniform(0, 2 * np.pi)),
    )
    return Walker(Walk(0, 0.0, path), body, figure)


def _times(walker: Walker, frames: int, step: float) -> NDArray[np.float64]:
    """Moments around the middle of the walk, in seconds since its begin."""
    middle = 0.5 * walker.walk.path.seconds(walker.body.person.gait.speed)
    times = middle + (np.arange(frames) - 0.5 * (frames - 1)) * step
    return np.clip(times, 0, None)


def _detected(sprite: Sprite, rng: Generator, error: float, bias: NDArray[np.float64]) -> Box | None:
    """A box as a detector might give: shaken, loose, now and then cut short or drawn wide."""
    if sprite.box is None:
        return None
    left, top, right, bottom = sprite.box
    width, height = right - left, bottom - top
    loose = error * rng.uniform(0, (0.07, 0.05, 0.07, 0.05))
    shake = error * rng.normal(0, (0.03, 0.02, 0.03, 0.02))
    left, right = left - (loose[0] + shake[0]) * width, right + (loose[2] + shake[2]) * width
    top, bottom = top - (loose[1] + shake[1]) * height, bottom + (loose[3] + shake[3]) * height
    fault = rng.random() / error
    if fault < 0.05:
        bottom -= rng.uniform(0.08, 0.30) * height
    elif fault < 0.08:
        top += rng.uniform(0.04, 0.15) * height
    elif fault < 0.14:
        left -= rng.uniform(0.1, 0.5) * width
    elif fault < 0.20:
        right += rng.uniform(0.1, 0.5) * width
    left, right = left + bias[0] * width, right + bias[0] * width
    top, bottom = top + bias[1] * height, bottom + bias[1] * height
    x0, y0 = max(int(left), 0), max(int(top), 0)
    x1, y1 = min(int(right) + 1, WIDTH), min(int(bottom) + 1, HEIGHT)
    return (x0, y0, x1, y1) if x1 - x0 >= 10 and y1 - y0 >= 28 else None
