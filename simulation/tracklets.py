"""Training tracklets: crops of people in every modality, as a detector on a site's camera would cut them.

Every tracklet is a few moments of a walk before a camera that was drawn at random: its height, lens, light, furniture
and who else walks by.
"""

import csv
from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial
from pathlib import Path

import numpy as np
from numpy.random import Generator, SeedSequence

from simulation.camera import Camera
from simulation.config import Modality, TrackletsConfig
from simulation.filming import HEIGHT, WIDTH, Dressed, Pixels, Station, Take, dressed, film
from simulation.people import Person
from simulation.scene import make_light, make_scene
from simulation.sensor import Sensor
from simulation.workers import spread
from simulation.writers import whole_folder, write_image

COLUMNS = ("split", "pid", "camid", "modality", "tracklet", "frames")
MARKER = "tracklets.csv"
ATTRIBUTES = "attributes.csv"
VAL_OFFSET = 1_000_000  # so that a number names one person, whatever the split

_SPLITS = {"train": 0, "val": 1}
_SCENES, _CROPS, _NOISE = 20, 21, 22  # branches of the seed
_TRIES = 12


def render_tracklets(config: TrackletsConfig, output: Path, *, workers: int, tell: Callable[[str], None]) -> None:
    """Write ``tracklets.csv``, the crops it lists, and ``attributes.csv``: what each person looks like, in words.

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
        write_attributes(config, part)


def write_attributes(config: TrackletsConfig, folder: Path) -> None:
    """Write ``attributes.csv``: split, pid, and a column for each of ``Person.attributes``."""
    with (folder / ATTRIBUTES).open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        for split, count in config.people.items():
            for number in range(1, count + 1):
                attributes = Person.sample(split, number, seed=config.seed).attributes()
                if file.tell() == 0:
                    table.writerow(("split", "pid", *attributes))
                table.writerow((split, _pid(split, number), *attributes.values()))


def _pid(split: str, number: int) -> int:
    return number + (VAL_OFFSET if split == "val" else 0)


def _render_person(config: TrackletsConfig, folder: Path, split: str, number: int) -> list[tuple[str | int, ...]]:
    person = Person.sample(split, number, seed=config.seed)
    rows: list[tuple[str | int, ...]] = []
    for modality, count in config.tracklets.items():
        walker = dressed(person, modality)
        for tracklet in range(count):
            branch = _SPLITS[split], number, list(config.tracklets).index(modality), tracklet
            rng = _rng(config, _CROPS, *branch)
            station, crops = _film(config, modality, walker, (rng, _rng(config, _NOISE, *branch)))
            pid = _pid(split, number)
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
    camera = Camera((0.0, 0.0, height), 0.0, pitch, float(rng.uniform(420, 760)), WIDTH, HEIGHT)
    light = make_light(modality, night=night, rng=rng)
    scene = make_scene(camera, light, night=night, rng=rng, pieces=int(rng.integers(2, 6)))
    sensor = Sensor(modality, night=night, size=(HEIGHT, WIDTH), rng=rng)
    return Station(scene, sensor, f"{modality}{number:03d}")


def _film(
    config: TrackletsConfig, modality: Modality, walker: Dressed, rngs: tuple[Generator, Generator]
) -> tuple[Station, list[Pixels]]:
    """Film a person until enough of the walk is in view; the second generator is the sensor's."""
    rng, noise = rngs
    best: tuple[Station, list[Pixels]] | None = None
    for _ in range(_TRIES):
        at = station(config.seed, modality, int(rng.integers(config.scenes)))
        at = replace(at, sensor=at.sensor.with_noise_of(noise))
        crops = [crop for _, crop in film(Take(config.seed, config.frames), at, walker, rng)]
        if best is None or len(crops) > len(best[1]):
            best = at, crops
        if len(crops) == config.frames:
            break
    if best is None or not best[1]:
        raise RuntimeError(f"nobody came into view in {_TRIES} tries")
    return best


def _write(folder: Path, modality: Modality, crops: list[Pixels], rng: Generator) -> None:
    folder.mkdir(parents=True)
    quality = int(rng.integers(70, 96))
    suffix = "png" if modality == "thermal" else "jpg"
    for index, crop in enumerate(crops):
        write_image(folder / f"{index:03d}.{suffix}", crop, quality=quality)
