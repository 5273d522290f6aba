"""A site over hours: people go from camera to camera, by day and after dusk, and each camera records on motion.

What a recorder with motion detection leaves behind: one file a camera, with a clip around each passage and nothing in
between; presentation times are those of the site's clock, which all cameras share.
"""

import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.random import Generator, SeedSequence

from simulation.config import RoundsConfig, fingerprint, fingerprint_of
from simulation.materials import dress
from simulation.renderer import Figure
from simulation.sensor import Sensor
from simulation.site import (
    MARKER,
    Walker,
    compose,
    distance_m,
    drawn_at,
    ground_of,
    person,
    placed,
    scene_of,
    truth_rows,
)
from simulation.walk import Path as WalkPath
from simulation.walk import Walk
from simulation.workers import spread
from simulation.writers import DeepVideoFile, TruthRow, VideoFile, whole_folder, write_truth

_FASTEST_M_S = 2.5  # nobody runs
_TRUTH = "truth.txt"
_JOIN_SECONDS = 2.0  # clips closer than this are one
_ROUNDS, _PATHS, _SENSOR = 30, 31, 32  # branches of the site's seed


@dataclass(frozen=True)
class Visit:
    """Somebody comes to a camera.

    Attributes:
        camera: Which.
        walk: Who, when (seconds of the site's clock) and along which path.
    """

    camera: str
    walk: Walk


def visits(config: RoundsConfig) -> list[Visit]:
    """Who passes which camera when, in order of time.

    Everybody makes one round by day and one after dusk, over as many of the cameras that record then as are asked for.
    Near cameras are likelier to be next; some people dawdle for minutes; companions make the same round a step behind.
    """
    found: list[Visit] = []
    for night in (False, True):
        begin, end = (config.dusk_seconds, config.seconds) if night else (0.0, config.dusk_seconds)
        number = 1
        while number <= config.people:
            rng = _rng(config, _ROUNDS, int(night), number)
            together = number < config.people and rng.random() < config.companions
            stations = _stations(config, night=night, rng=rng)
            first = _round(config, number, stations, rng)
            shift = (
                begin
                + 2 * config.quiet_seconds
                + rng.uniform(0, max(end - begin - first[-1].walk.begin - 40.0 - 2 * config.quiet_seconds, 1.0))
            )
            found += [_moved(visit, shift, visit.walk.person) for visit in first]
            if together:
                late = float(rng.uniform(0.7, 2.5))
                found += [_moved(visit, shift + late, number + 1) for visit in first]
            number += 2 if together else 1
    return sorted(found, key=lambda visit: (visit.walk.begin, visit.walk.person))


def _stations(config: RoundsConfig, *, night: bool, rng: Generator) -> list[str]:
    names = [name for name, camera in config.cameras.items() if camera.modality == "thermal" or camera.night is night]
    way = [str(rng.choice(names))]
    while len(way) < config.visits:
        others = [name for name in names if name != way[-1]]
        weights = np.exp([-distance_m(config, way[-1], name) / config.reach_m for name in others])
        way.append(str(rng.choice(others, p=weights / weights.sum())))
    return way


def _round(config: RoundsConfig, number: int, stations: Sequence[str], rng: Generator) -> list[Visit]:
    """One person's visits, the first at second 0."""
    speed = person(config, number).gait.speed
    found: list[Visit] = []
    now = 0.0
    for place, name in enumerate(stations):
        if place:
            dawdles = rng.random() < 0.2
            now += (
                distance_m(config, stations[place - 1], name)
                / config.walking_speed_m_s
                * float(rng.uniform(0.85, 1.25))
            )
            now += float(rng.uniform(60, 400)) if dawdles else float(rng.exponential(8))
        path = WalkPath.sample(ground_of(config, config.cameras[name]), rng)
        found.append(Visit(name, Walk(number, now, path)))
        now = found[-1].walk.end(speed)
    return found


def _moved(visit: Visit, seconds: float, number: int) -> Visit:
    return Visit(visit.camera, Walk(number, visit.walk.begin + seconds, visit.walk.path))


def render_rounds(
    config: RoundsConfig,
    output: Path,
    *,
    workers: int,
    tell: Callable[[str], None],
    cameras: Sequence[str] | None = None,
) -> bool:
    """Write the recordings and the truth; see ``simulation.site.render_site`` for what is raised.

    Hours of a site take hours to draw: each camera is kept beside ``output`` once it is done, so that a rendering that
    was cut short goes on with the next.

    Args:
        config: Of the site.
        output: Folder; it appears when all cameras are there.
        workers: Processes, one camera each.
        tell: Told of each camera.
        cameras: Draw only these now; the rest when called again.

    Returns:
        Whether the folder was written by this call.
    """
    made_from = fingerprint(config)
    if fingerprint_of(output / MARKER) == made_from:
        tell(f"{output}: already rendered from this config by this version")
        return False
    by_camera: dict[str, list[Walk]] = {name: [] for name in config.cameras if cameras is None or name in cameras}
    for visit in visits(config):
        by_camera.get(visit.camera, []).append(visit.walk)
    kept_in = output.with_name(f".{output.name}.cameras")
    job = partial(_record_whole, config, made_from=made_from, kept_in=kept_in)
    for name, count in zip(by_camera, spread(job, list(by_camera.items()), workers=workers), strict=True):
        tell(f"{name}: {count} frames, {len(by_camera[name])} passages")
    done = {name: kept_in / name for name in config.cameras if fingerprint_of(kept_in / name / MARKER) == made_from}
    if len(done) < len(config.cameras):
        tell(f"{output}: {len(done)} of {len(config.cameras)} cameras are drawn; call again for the rest")
        return False
    _gather(config, output, done, made_from)
    shutil.rmtree(kept_in)
    return True


def _gather(config: RoundsConfig, output: Path, done: Mapping[str, Path], made_from: str) -> None:
    with whole_folder(output, marker=MARKER) as part:
        (part / "ground_truth").mkdir()
        frames: dict[str, int] = {}
        for name, folder in done.items():
            recording = recording_of(name, config.cameras[name].modality)
            shutil.copy2(folder / recording, part / recording)
            shutil.copy2(folder / _TRUTH, part / "ground_truth" / f"{name}.txt")
            frames[name] = json.loads((folder / MARKER).read_text(encoding="utf-8"))["frames"]
        marker = layout(config, frames) | {"made_from_sha256": made_from}
        (part / MARKER).write_text(json.dumps(marker, indent=1) + "\n", encoding="utf-8")


def layout(config: RoundsConfig, frames: dict[str, int]) -> dict[str, Any]:
    """The site as plain values: its cameras, and what an installer would know of the ways between them."""
    cameras = {
        name: {
            "modality": camera.modality,
            "night": camera.night,
            "width": config.width,
            "height": config.height,
            "frames": frames[name],
            "start": camera.start.isoformat(),
            "position_m": list(camera.position_m),
            "recording": recording_of(name, camera.modality),
        }
        for name, camera in config.cameras.items()
    }
    ways = [
        {
            "between": [a, b],
            "min_seconds": round(distance_m(config, a, b) / _FASTEST_M_S, 1),
            "typical_seconds": round(distance_m(config, a, b) / config.walking_speed_m_s, 1),
        }
        for place, a in enumerate(config.cameras)
        for b in list(config.cameras)[place + 1 :]
    ]
    return {
        "synthetic": True,
        "name": config.name,
        "seed": config.seed,
        "people": config.people,
        "seconds": config.seconds,
        "dusk_seconds": config.dusk_seconds,
        "cameras": cameras,
        "ways": ways,
    }


def recording_of(name: str, modality: str) -> str:
    """A camera's file."""
    return f"{name}.mkv" if modality == "thermal" else f"{name}.mp4"


def _record_whole(config: RoundsConfig, name: str, walks: Sequence[Walk], *, made_from: str, kept_in: Path) -> int:
    """One camera in a folder of its own, whole or not there; returns the number of frames."""
    marker = kept_in / name / MARKER
    if fingerprint_of(marker) != made_from:
        with whole_folder(kept_in / name, marker=MARKER) as part:
            frames = _record(config, name, walks, part)
            made = {"made_from_sha256": made_from, "frames": frames}
            (part / MARKER).write_text(json.dumps(made) + "\n", encoding="utf-8")
    return int(json.loads(marker.read_text(encoding="utf-8"))["frames"])


def _record(config: RoundsConfig, name: str, walks: Sequence[Walk], folder: Path) -> int:
    """Render one camera's clips and their truth; returns the number of frames."""
    camera, number = config.cameras[name], list(config.cameras).index(name)
    scene = scene_of(config, name)
    sensor = Sensor(camera.modality, night=camera.night, size=(config.height, config.width),
                    rng=_rng(config, _SENSOR, number))  # fmt: skip
    dressed = {each: dress(person(config, each), camera.modality) for each in {walk.person for walk in walks}}
    walkers = [
        Walker(walk, body, Figure(body.pieces, wardrobe.textures))
        for walk in walks
        for body, wardrobe in (dressed[walk.person],)
    ]
    where = [placed(walker, config.fps) for walker in walkers]
    truth: list[TruthRow] = []
    # Of hours of noise, encoding is half of the work.
    kind = DeepVideoFile if camera.modality == "thermal" else partial(VideoFile, preset="ultrafast")
    count = 0
    with kind(folder / recording_of(name, camera.modality), fps=config.fps, width=config.width,
              height=config.height) as file:  # fmt: skip
        for index in kept(config, walkers):
            present = [
                (walker.walk.person, drawn_at(scene, walker, places[index]))
                for walker, places in zip(walkers, where, strict=True)
                if index in places
            ]
            seen = [(each, *found) for each, found in present if found is not None]
            picture = sensor.expose(compose(scene, [sprite for _, sprite, _ in seen]), index / config.fps)
            file.write(picture, seconds=index / config.fps)
            truth += truth_rows(count, seen, scene)
            count += 1
    write_truth(folder / _TRUTH, truth)
    return count


def kept(config: RoundsConfig, walkers: Sequence[Walker]) -> Iterator[int]:
    """Frames of the site's clock that a camera's recorder keeps, ascending: some at the start, and the clips."""
    clips = [(0.0, config.quiet_seconds)]
    for walker in sorted(walkers, key=lambda each: each.walk.begin):
        begin = walker.walk.begin - config.pre_roll_seconds
        end = walker.walk.end(walker.body.person.gait.speed) + config.post_roll_seconds
        if begin <= clips[-1][1] + _JOIN_SECONDS:
            clips[-1] = (clips[-1][0], max(clips[-1][1], end))
        else:
            clips.append((begin, end))
    for (begin, end), following in pairwise([*clips, (np.inf, np.inf)]):
        last = min(int(end * config.fps), int(following[0] * config.fps) - 1 if np.isfinite(following[0]) else 1 << 60)
        yield from range(int(np.ceil(begin * config.fps)), last + 1)


def _rng(config: RoundsConfig, *branch: int) -> Generator:
    return np.random.default_rng(SeedSequence(config.seed, spawn_key=(9, *branch)))
