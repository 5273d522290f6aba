"""Training tracklets: crops of people in every modality, as a detector on a site's camera would cut them.

Every tracklet is a few moments of a walk before a camera that was drawn at random: its height, lens, light, furniture
and who else walks by. Boxes are shifted, loose, sometimes too short or too wide, as detectors' are.
"""

import csv
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path

import numpy as np
from numpy.random import Generator, SeedSequence
from numpy.typing import NDArray

from simulation.body import Body
from simulation.camera import Camera
from simulation.config import Modality, TrackletsConfig
from simulation.materials import dress
from simulation.people import Person
from simulation.renderer import Figure, Sprite
from simulation.scene import Scene, make_light, make_scene
from simulation.sensor import Sensor
from simulation.site import Walker, compose, drawn_at, uncovered
from simulation.walk import Path as WalkPath
from simulation.walk import Walk, places
from simulation.workers import spread
from simulation.writers import whole_folder, write_image

COLUMNS = ("split", "pid", "camid", "modality", "tracklet", "frames")
MARKER = "tracklets.csv"
VAL_OFFSET = 1_000_000  # so that a number names one person, whatever the split

_WIDTH, _HEIGHT = 640, 360
_WALK_M = 7.0
_LEAST_INSIDE, _LEAST_FREE = 0.55, 0.45
_HEIGHT_PX = (72.0, 220.0)
_SPLITS = {"train": 0, "val": 1}
_SCENES, _CROPS, _NOISE = 20, 21, 22  # branches of the seed
_TRIES = 12
_EDGE = 4  # pixels drawn around a crop, for the optics' blur

Box = tuple[int, int, int, int]
Pixels = NDArray[np.uint8] | NDArray[np.uint16]


@dataclass(frozen=True)
class Station:
    """A camera with its surroundings and sensor."""

    scene: Scene
    sensor: Sensor
    name: str


def render_tracklets(config: TrackletsConfig, output: Path, *, workers: int, tell: Callable[[str], None]) -> None:
    """Write ``tracklets.csv`` and the crops it lists.

    The layout is ``<split>/<pid>/<modality>/<camid>_<tracklet>/<k>.jpg`` (16-bit ``.png`` for thermal). The people are
    of the namespaces "train" and "val"; no site has them.

    Raises:
        OutputError: When the folder holds something else.
    """
    jobs = [(split, number) for split, count in config.people.items() for number in range(1, count + 1)]
    with whole_folder(output, marker=MARKER) as part, (part / MARKER).open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(COLUMNS)
        done = spread(partial(_render_person, config, part), jobs, workers=workers, chunk=4)
        for count, rows in enumerate(done, start=1):
            table.writerows(rows)
            if count % 100 == 0 or count == len(jobs):
                tell(f"{count} of {len(jobs)} people")


def _render_person(config: TrackletsConfig, folder: Path, split: str, number: int) -> list[tuple[str | int, ...]]:
    person = Person.sample(split, number, seed=config.seed)
    rows: list[tuple[str | int, ...]] = []
    for modality, count in config.tracklets.items():
        body, wardrobe = dress(person, modality)
        walker = body, Figure(body.pieces, wardrobe.textures)
        for tracklet in range(count):
            branch = _SPLITS[split], number, list(config.tracklets).index(modality), tracklet
            rng = _rng(config, _CROPS, *branch)
            station, crops = _film(config, modality, walker, (rng, _rng(config, _NOISE, *branch)))
            pid = number + (VAL_OFFSET if split == "val" else 0)
            target = folder / split / f"{pid:05d}" / modality / f"{station.name}_{tracklet}"
            _write(target, modality, crops, rng)
            rows.append((split, pid, station.name, modality, tracklet, len(crops)))
    return rows


def _rng(config: TrackletsConfig, *branch: int) -> Generator:
    return np.random.default_rng(SeedSequence(config.seed, spawn_key=(8, *branch)))


@cache
def station(config_seed: int, modality: Modality, number: int) -> Station:
    """The ``number``-th camera of a modality; kept, for building one takes longer than using it."""
    kinds = ("rgb", "nir", "thermal")
    rng = np.random.default_rng(SeedSequence(config_seed, spawn_key=(8, _SCENES, kinds.index(modality), number)))
    night = modality != "rgb" or number % 7 == 6
    height, distance = float(rng.uniform(2.3, 4.6)), float(rng.uniform(4.5, 9.0))
    pitch = float(np.arctan2(height - 1.0, distance) + rng.uniform(-0.06, 0.06))
    camera = Camera((0.0, 0.0, height), 0.0, pitch, float(rng.uniform(420, 760)), _WIDTH, _HEIGHT)
    light = make_light(modality, night=night, rng=rng)
    scene = make_scene(camera, light, night=night, rng=rng, pieces=int(rng.integers(2, 6)))
    sensor = Sensor(modality, night=night, size=(_HEIGHT, _WIDTH), rng=rng)
    return Station(scene, sensor, f"{modality}{number:03d}")


def _film(
    config: TrackletsConfig, modality: Modality, walker: tuple[Body, Figure], rngs: tuple[Generator, Generator]
) -> tuple[Station, list[Pixels]]:
    """Film a person until enough of the walk is in view; the second generator is the sensor's."""
    rng, noise = rngs
    best: tuple[Station, list[Pixels]] | None = None
    for _ in range(_TRIES):
        at = station(config.seed, modality, int(rng.integers(config.scenes)))
        at = replace(at, sensor=at.sensor.with_noise_of(noise))
        crops = list(_crops(config, at, modality, walker, rng))
        if best is None or len(crops) > len(best[1]):
            best = at, crops
        if len(crops) == config.frames:
            break
    if best is None or not best[1]:
        raise RuntimeError(f"nobody came into view in {_TRIES} tries")
    return best


def _crops(
    config: TrackletsConfig, at: Station, modality: Modality, walker: tuple[Body, Figure], rng: Generator
) -> Iterator[Pixels]:
    camera = at.scene.camera
    step = float(rng.uniform(0.12, 0.45))
    own = _walker(walker, camera, rng)
    others = []
    if rng.random() < 0.35:
        passer = Person.sample("passers-by", int(rng.integers(100_000)), seed=config.seed)
        body, wardrobe = dress(passer, modality)
        others = [_walker((body, Figure(body.pieces, wardrobe.textures)), camera, rng, near=own)]
    times = _times(own, config.frames, step)
    moments = [places(each.walk, each.body, times) for each in (own, *others)]
    for index, time in enumerate(times):
        main = drawn_at(at.scene, own, moments[0][index])
        if main is None:
            continue
        sprite, inside = main
        passing = [drawn_at(at.scene, each, moment[index]) for each, moment in zip(others, moments[1:], strict=True)]
        sprites = [found[0] for found in passing if found is not None]
        nearer = [each for each in (*sprites, *at.scene.furniture) if each.depth < sprite.depth]
        box = _detected(sprite, rng)
        if inside < _LEAST_INSIDE or uncovered(sprite, nearer) < _LEAST_FREE or box is None:
            continue
        left, top, right, bottom = box
        window = max(left - _EDGE, 0), max(top - _EDGE, 0), min(right + _EDGE, _WIDTH), min(bottom + _EDGE, _HEIGHT)
        picture = at.sensor.expose(compose(at.scene, [sprite, *sprites], window), float(time), window)
        yield picture[top - window[1] : bottom - window[1], left - window[0] : right - window[0]]


def _walker(walker: tuple[Body, Figure], camera: Camera, rng: Generator, *, near: Walker | None = None) -> Walker:
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


def _detected(sprite: Sprite, rng: Generator) -> Box | None:
    """A box as a detector might give: shaken, loose, now and then cut short or drawn wide."""
    if sprite.box is None:
        return None
    left, top, right, bottom = sprite.box
    width, height = right - left, bottom - top
    loose, shake = rng.uniform(0, (0.07, 0.05, 0.07, 0.05)), rng.normal(0, (0.03, 0.02, 0.03, 0.02))
    left, right = left - (loose[0] + shake[0]) * width, right + (loose[2] + shake[2]) * width
    top, bottom = top - (loose[1] + shake[1]) * height, bottom + (loose[3] + shake[3]) * height
    fault = rng.random()
    if fault < 0.05:
        bottom -= rng.uniform(0.08, 0.30) * height
    elif fault < 0.08:
        top += rng.uniform(0.04, 0.15) * height
    elif fault < 0.14:
        left -= rng.uniform(0.1, 0.5) * width
    elif fault < 0.20:
        right += rng.uniform(0.1, 0.5) * width
    x0, y0 = max(int(left), 0), max(int(top), 0)
    x1, y1 = min(int(right) + 1, _WIDTH), min(int(bottom) + 1, _HEIGHT)
    return (x0, y0, x1, y1) if x1 - x0 >= 10 and y1 - y0 >= 28 else None


def _write(folder: Path, modality: Modality, crops: list[Pixels], rng: Generator) -> None:
    folder.mkdir(parents=True)
    quality = int(rng.integers(70, 96))
    suffix = "png" if modality == "thermal" else "jpg"
    for index, crop in enumerate(crops):
        write_image(folder / f"{index:03d}.{suffix}", crop, quality=quality)
