"""``synthetic-vvi``: simulated people before visible and near-infrared cameras, by day and by night.

A benchmark in exactly the formats of HITSZ-VCM and BUPTCampus, hard on purpose: groups of people are dressed alike,
others walk by, furniture stands in the way, boxes are shaken, shifted and cut, a part of the visible tracklets is
filmed under street lamps. Every place has one camera, with one number in both modalities. No image shows a real person.
"""

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.random import Generator, SeedSequence

from simulation.camera import Camera
from simulation.config import Split, VviConfig, fingerprint, fingerprint_of
from simulation.filming import HEIGHT, WIDTH, Dressed, Pixels, Station, Take, dressed, film
from simulation.layouts import BUPT, VCM, Filmed, Light, counts, write_bupt_lists, write_vcm_lists
from simulation.people import Person
from simulation.scene import make_light, make_scene
from simulation.sensor import Sensor
from simulation.workers import spread
from simulation.writers import whole_folder, write_image

MARKER = "synthetic_vvi.json"
NAMESPACE = "vvi"
MODALITIES: tuple[Light, Light] = ("rgb", "nir")
_SPLITS: tuple[Split, ...] = ("train", "test", "auxiliary")
_CAMERAS, _LIGHTS, _SENSORS, _PEOPLE, _CROPS, _NOISE = range(6)  # branches of the seed
_TRIES = 12
_WORN = ("top", "top_length", "collar", "sleeve", "band", "zipped", "bottom", "bottom_width", "hem", "belt", "boots")
_WORN_CLOTHS = ("top_cloth", "inner", "bottom_cloth", "shoes", "socks")


def render_vvi(config: VviConfig, output: Path, *, workers: int, tell: Callable[[str], None]) -> bool:
    """Write the benchmark in both layouts, which share their images where the disk has hard links.

    Args:
        config: What to render.
        output: A folder; replaced when it holds an earlier benchmark, kept when it holds this very one.
        workers: Processes.
        tell: Told what happens, in sentences.

    Returns:
        Whether anything was rendered.

    Raises:
        OutputError: When the folder holds something else.
    """
    made_from = fingerprint(config)
    if fingerprint_of(output / MARKER) == made_from:
        tell(f"{output}: already rendered from this config by this version")
        return False
    jobs = [(split, number) for split in _SPLITS for number in range(1, config.people.get(split, 0) + 1)]
    filmed: list[Filmed] = []
    with whole_folder(output, marker=MARKER) as part:
        done = spread(partial(_render_person, config, part), jobs, workers=workers, chunk=4)
        for count, rows in enumerate(done, start=1):
            filmed += rows
            if count % 20 == 0 or count == len(jobs):
                tell(f"{count} of {len(jobs)} people")
        write_vcm_lists(part / VCM, filmed)
        write_bupt_lists(part / BUPT, filmed)
        manifest = {
            "synthetic": True,
            "name": "synthetic-vvi",
            "made_from_sha256": made_from,
            "config": config.model_dump(mode="json"),
            "counts": counts(filmed),
        }
        (part / MARKER).write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
    return True


def person(config: VviConfig, split: Split, number: int) -> Person:
    """The ``number``-th person of a split, from 1, dressed like the first of the group of look-alikes."""
    own = _stranger(config, split, number)
    group = config.look_alikes.group
    first = number - (number - 1) % group
    alike = int(config.look_alikes.share * config.people[split])
    if first == number or first + group - 1 > alike:
        return own
    model = _stranger(config, split, first)
    changes = {name: getattr(model, name) for name in _WORN}
    for name in _WORN_CLOTHS:  # the same make, creased by another wearer
        changes[name] = replace(getattr(model, name), wrinkle_seed=getattr(own, name).wrinkle_seed)
    return replace(own, **changes)


def pid_of(config: VviConfig, split: Split, number: int) -> int:
    """One count over all splits."""
    before = _SPLITS[: _SPLITS.index(split)]
    return number + sum(config.people.get(each, 0) for each in before)


def _stranger(config: VviConfig, split: Split, number: int) -> Person:
    return Person.sample(NAMESPACE, 100_000 * _SPLITS.index(split) + number, seed=config.seed)


def _rng(seed: int, *branch: int) -> Generator:
    return np.random.default_rng(SeedSequence(seed, spawn_key=(10, *branch)))


def _render_person(config: VviConfig, folder: Path, split: Split, number: int) -> list[Filmed]:
    pid = pid_of(config, split, number)
    seen = 1 if split == "auxiliary" else config.cameras_each
    passed = _rng(config.seed, _PEOPLE, pid).permutation(config.cameras)[:seen] + 1
    rows = []
    for modality in MODALITIES:
        walker = dressed(person(config, split, number), modality)
        for place, camera in enumerate(passed.tolist()):
            branch = pid, MODALITIES.index(modality), camera
            rngs = _rng(config.seed, _CROPS, *branch), _rng(config.seed, _NOISE, *branch)
            taken = _tracklet(config, (modality, camera), walker, rngs)
            each = Filmed(
                split=split,
                pid=pid,
                modality=modality,
                camera=camera,
                tracklet=1,
                moments=tuple(index for index, _ in taken),
                is_query=split == "test" and place == 0,
            )
            _write(folder, each, [crop for _, crop in taken], quality=int(rngs[0].integers(70, 96)))
            rows.append(each)
    return rows


def _tracklet(
    config: VviConfig, where: tuple[Light, int], walker: Dressed, rngs: tuple[Generator, Generator]
) -> list[tuple[int, Pixels]]:
    """Film a person until enough of the walk is in view; the second generator is the sensor's."""
    modality, camera = where
    rng, noise = rngs
    take = Take(
        config.seed,
        config.moments,
        step_seconds=config.step_seconds,
        company=config.company,
        box_error=config.box_error,
        box_bias=config.box_bias,
    )
    best: list[tuple[int, Pixels]] = []
    for _ in range(_TRIES):
        night = modality == "nir" or rng.random() < config.night_rgb
        at = station(config.seed, camera, modality, night, int(rng.integers(config.lights)))
        at = replace(at, sensor=at.sensor.with_noise_of(noise))
        taken = list(islice(film(take, at, walker, rng), config.frames))
        best = max(best, taken, key=len)
        if len(best) == config.frames:
            break
    if not best:
        raise RuntimeError(f"nobody came into view in {_TRIES} tries")
    return best


@cache
def station(seed: int, number: int, modality: Light, night: bool, light: int) -> Station:
    """Camera ``number`` in one modality, in one of its lights; kept, for building one takes longer than using it."""
    rng = _rng(seed, _CAMERAS, number)
    height, distance = float(rng.uniform(2.3, 4.6)), float(rng.uniform(4.5, 9.0))
    pitch = float(np.arctan2(height - 1.0, distance) + rng.uniform(-0.06, 0.06))
    camera = Camera((0.0, 0.0, height), 0.0, pitch, float(rng.uniform(420, 760)), WIDTH, HEIGHT)
    branch = number, MODALITIES.index(modality), int(night), light
    shining = make_light(modality, night=night, rng=_rng(seed, _LIGHTS, *branch))
    # The rest of the place's own randomness: ground, wall and furniture are the same in every light.
    scene = make_scene(camera, shining, night=night, rng=rng, pieces=int(rng.integers(3, 7)))
    sensor = Sensor(modality, night=night, size=(HEIGHT, WIDTH), rng=_rng(seed, _SENSORS, *branch))
    return Station(scene, sensor, f"D{number}")


def _write(folder: Path, each: Filmed, crops: list[Pixels], *, quality: int) -> None:
    """Write the frames in one layout and link them into the other; people of one camera are in the second only."""
    for vcm, bupt, crop in zip(each.vcm_paths(), each.bupt_paths(), crops, strict=True):
        first = folder / BUPT / "DATA" / bupt
        first.parent.mkdir(parents=True, exist_ok=True)
        write_image(first, crop, quality=quality)
        if each.split != "auxiliary":
            second = folder / VCM / vcm
            second.parent.mkdir(parents=True, exist_ok=True)
            _link(first, second)


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # a disk without hard links
        shutil.copyfile(source, target)
