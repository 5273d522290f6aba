"""A whole site: who passes which camera when, what each camera records, and the truth about it."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.random import Generator, SeedSequence
from numpy.typing import NDArray

from simulation.body import Body, Pose
from simulation.camera import Camera
from simulation.config import SiteCamera, SiteConfig, fingerprint, fingerprint_of
from simulation.materials import dress
from simulation.people import Person
from simulation.renderer import Figure, Light, Sprite, draw, lay, smear
from simulation.scene import Scene, make_light, make_scene
from simulation.sensor import Sensor, Window
from simulation.walk import Ground, Walk, places
from simulation.walk import Path as WalkPath
from simulation.workers import spread
from simulation.writers import ImageFolder, TruthRow, VideoFile, whole_folder, write_truth

MARKER = "site.json"
NAMESPACE = "site"
LEAST_VISIBILITY = 0.1
LEAST_HEIGHT_PX = 24
_EXPOSURE_SECONDS = 0.018
_FRAMES_A_SENTENCE = 300  # told while a recording is drawn, which takes minutes
_BACK_SECONDS = 40.0  # before anybody comes again: nobody is twice in view

# branches of the site's seed
_QUEUE, _SCENE, _SENSOR, _PATHS = range(4)


@dataclass(frozen=True)
class Walker:
    """Somebody who passes a camera, ready to be drawn."""

    walk: Walk
    body: Body
    figure: Figure


def person(config: SiteConfig, number: int) -> Person:
    """The site's ``number``-th person, from 1; no other namespace gives the same."""
    return Person.sample(NAMESPACE, number, seed=config.seed)


def camera_of(config: SiteConfig, camera: SiteCamera) -> Camera:
    """The pinhole of a site's camera, at the origin of its own ground, looking along +x."""
    return Camera(
        (0.0, 0.0, camera.height_m),
        0.0,
        float(np.deg2rad(camera.pitch_deg)),
        camera.focal_px,
        config.width,
        config.height,
    )


def schedule(config: SiteConfig) -> dict[str, list[Walk]]:
    """Who passes each camera and when.

    People come to the first camera of a period (day, night) in random order, a random time apart, and walk on to the
    next cameras of that period; so travel times are those of the distance, a walker's pace and some dawdling.
    """
    walks: dict[str, list[Walk]] = {}
    for night in (False, True):
        names = [name for name, camera in config.cameras.items() if camera.night is night]
        arrivals: list[tuple[float, int]] = []
        for place, name in enumerate(names):
            rng = _rng(config, _QUEUE, list(config.cameras).index(name))
            arrivals = (
                _queue(config, rng) if place == 0 else _travel(config, rng, names[place - 1 : place + 1], arrivals)
            )
            first = min(time for time, _ in arrivals)
            walks[name] = _walks(config, name, [(time - first, number) for time, number in arrivals])
    return walks


def _queue(config: SiteConfig, rng: Generator) -> list[tuple[float, int]]:
    order = list(rng.permutation(config.people) + 1)
    again = [number for number in order if rng.random() < config.revisits]
    gaps = 0.6 + rng.exponential(max(config.mean_gap_seconds - 0.6, 0.05), len(order) + len(again))
    times = np.cumsum(gaps).tolist()
    first = dict(zip(order, times, strict=False))
    back = [max(time, first[number] + _BACK_SECONDS) for time, number in zip(times[len(order) :], again, strict=True)]
    people = [int(number) for number in (*order, *again)]
    return list(zip(times[: len(order)] + back, people, strict=True))


def _travel(
    config: SiteConfig, rng: Generator, names: Sequence[str], before: Sequence[tuple[float, int]]
) -> list[tuple[float, int]]:
    metres = distance_m(config, *names)
    dawdle = rng.uniform(0, 0.8 * config.mean_gap_seconds * 6, len(before))
    return [
        (time + metres / config.walking_speed_m_s + float(late), number)
        for (time, number), late in zip(before, dawdle, strict=True)
    ]


def _walks(config: SiteConfig, name: str, arrivals: Sequence[tuple[float, int]]) -> list[Walk]:
    rng = _rng(config, _PATHS, list(config.cameras).index(name))
    ground = ground_of(config, config.cameras[name])
    return [
        Walk(number, config.quiet_seconds + time, WalkPath.sample(ground, rng)) for time, number in sorted(arrivals)
    ]


def ground_of(config: SiteConfig, camera: SiteCamera) -> Ground:
    """Where people walk before a camera."""
    return Ground(camera.nearest_m, camera.farthest_m, 0.5 * config.width / camera.focal_px)


def distance_m(config: SiteConfig, a: str, b: str) -> float:
    """Between two cameras on the map."""
    (ax, ay), (bx, by) = config.cameras[a].position_m, config.cameras[b].position_m
    return float(np.hypot(ax - bx, ay - by))


def _rng(config: SiteConfig, *branch: int) -> Generator:
    return np.random.default_rng(SeedSequence(config.seed, spawn_key=(9, *branch)))


def render_site(config: SiteConfig, output: Path, *, workers: int, tell: Callable[[str], None]) -> bool:
    """Write a site's recordings and truth.

    Args:
        config: What to render.
        output: A folder; replaced when it holds an earlier site, kept when it holds this very one.
        workers: Processes.
        tell: Told what happens, in sentences; by the workers too: a function of a module, where there are several.

    Returns:
        Whether anything was rendered.

    Raises:
        OutputError: When the folder holds something else.
    """
    made_from = fingerprint(config)
    if fingerprint_of(output / MARKER) == made_from:
        tell(f"{output}: already rendered from this config by this version")
        return False
    tell(f"rendering {len(config.cameras)} cameras that {config.people} people pass, {workers} at a time")
    walks = schedule(config)
    with whole_folder(output, marker=MARKER) as part:
        (part / "ground_truth").mkdir()
        done = spread(
            partial(record, config, folder=part, tell=tell),
            [(name, walks[name]) for name in config.cameras],
            workers=workers,
        )
        passages: list[dict[str, Any]] = []
        frames: dict[str, int] = {}
        for name, (count, seen) in zip(config.cameras, done, strict=True):
            frames[name] = count
            passages += seen
            tell(f"{name}: {count} frames, {len(seen)} passages")
        _write_json(part / "ground_truth" / "passages.json", passages)
        _write_json(part / MARKER, layout(config, frames) | {"made_from_sha256": made_from})
    return True


def layout(config: SiteConfig, frames: dict[str, int]) -> dict[str, Any]:
    """The site as plain values: its cameras, and how long it takes to walk from one to another."""
    cameras = {
        name: {
            "modality": camera.modality,
            "night": camera.night,
            "width": config.width,
            "height": config.height,
            "fps": config.fps,
            "frames": frames[name],
            "start": camera.start.isoformat(),
            "position_m": list(camera.position_m),
            "recording": _recording(name, camera),
        }
        for name, camera in config.cameras.items()
    }
    travel = {
        a: {b: round(distance_m(config, a, b) / config.walking_speed_m_s, 1) for b in config.cameras if b != a}
        for a in config.cameras
    }
    return {"synthetic": True, "name": config.name, "seed": config.seed, "people": config.people, "cameras": cameras,
            "travel_seconds": travel}  # fmt: skip


def _recording(name: str, camera: SiteCamera) -> str:
    return name if camera.modality == "thermal" else f"{name}.mp4"


def scene_of(config: SiteConfig, name: str) -> Scene:
    """The still surroundings of a camera."""
    camera = config.cameras[name]
    rng = _rng(config, _SCENE, list(config.cameras).index(name))
    light = make_light(camera.modality, night=camera.night, rng=rng)
    return make_scene(camera_of(config, camera), light, night=camera.night, rng=rng, pieces=camera.furniture)


def record(
    config: SiteConfig, name: str, walks: Sequence[Walk], folder: Path, tell: Callable[[str], None]
) -> tuple[int, list[dict[str, Any]]]:
    """Render one camera's recording and its truth; returns its length in frames and its passages."""
    camera = config.cameras[name]
    scene = scene_of(config, name)
    sensor = Sensor(camera.modality, night=camera.night, size=(config.height, config.width),
                    rng=_rng(config, _SENSOR, list(config.cameras).index(name)))  # fmt: skip
    people = {number: dress(person(config, number), camera.modality) for number in {walk.person for walk in walks}}
    walkers = [
        Walker(walk, body, Figure(body.pieces, wardrobe.textures))
        for walk in walks
        for body, wardrobe in (people[walk.person],)
    ]
    length = max(walker.walk.end(walker.body.person.gait.speed) for walker in walkers) + 1.0
    count = round(length * config.fps)
    drawn = [placed(walker, config.fps) for walker in walkers]
    truth: list[TruthRow] = []
    with _open(config, camera, folder / _recording(name, camera)) as file:
        for index in range(count):
            present = [
                (walker.walk.person, drawn_at(scene, walker, frames[index]))
                for walker, frames in zip(walkers, drawn, strict=True)
                if index in frames
            ]
            seen = [(number, *found) for number, found in present if found is not None]
            signal = compose(scene, [sprite for _, sprite, _ in seen])
            file.write(sensor.expose(signal, index / config.fps))
            truth += truth_rows(index, seen, scene)
            if (index + 1) % _FRAMES_A_SENTENCE == 0 and index + 1 < count:
                tell(f"{name}: {index + 1} of {count} frames")
    write_truth(folder / "ground_truth" / f"{name}.txt", truth)
    return count, _passages(config, name, truth)


def _open(config: SiteConfig, camera: SiteCamera, path: Path) -> VideoFile | ImageFolder:
    if camera.modality == "thermal":
        return ImageFolder(path)
    return VideoFile(path, fps=config.fps, width=config.width, height=config.height)


Place = tuple[tuple[float, float], float, float]


def placed(walker: Walker, fps: float) -> dict[int, Place]:
    """By frame: where a walker is."""
    first = int(np.ceil(walker.walk.begin * fps))
    last = int(walker.walk.end(walker.body.person.gait.speed) * fps)
    indices = np.arange(first, last + 1)
    return dict(zip(indices.tolist(), places(walker.walk, walker.body, indices / fps - walker.walk.begin), strict=True))


def drawn_at(scene: Scene, walker: Walker, place: Place) -> tuple[Sprite, float] | None:
    """A walker as drawn, and the share of the body that lies within the image."""
    at, phase, speed = place
    pose = walker.body.pose(at, walker.walk.path.heading, phase, speed)
    sprite = draw(scene.camera, walker.figure, pose, scene.light)
    if sprite is None or sprite.box is None:
        return None
    across = scene.camera.focal / at[0] * speed * np.sin(walker.walk.path.heading) * _EXPOSURE_SECONDS
    return smear(sprite, (-float(across), 0.0)), _share_inside(scene.camera, pose)


def _share_inside(camera: Camera, pose: Pose) -> float:
    pixels = camera.project(np.concatenate([pose.start, pose.end]))[:, :2]
    low, high = pixels.min(axis=0), pixels.max(axis=0)
    clipped = np.clip(np.stack([low, high]), 0, (camera.width, camera.height))
    return float(np.prod(clipped[1] - clipped[0]) / max(float(np.prod(high - low)), 1e-9))


def compose(scene: Scene, people: Sequence[Sprite], window: Window | None = None) -> NDArray[np.float32]:
    """The scene with people in it, near things over far ones; only a window of it, where one is given."""
    left, top, right, bottom = window or (0, 0, scene.camera.width, scene.camera.height)
    image = scene.background[top:bottom, left:right].copy()
    for sprite in people:
        _cast_shadow(image, (left, top), sprite, scene.light)
    for sprite in sorted([*people, *scene.furniture], key=lambda each: -each.depth):
        lay(image, sprite, (left, top))
    return image


def _cast_shadow(image: NDArray[np.float32], origin: tuple[int, int], sprite: Sprite, light: Light) -> None:
    """A soft patch where the feet meet the ground, by day."""
    box = sprite.box
    if light.modality != "rgb" or box is None:
        return
    left, right, bottom = box[0] - origin[0], box[2] - origin[0], box[3] - origin[1]
    width = right - left
    x0, x1 = max(int(left - 0.5 * width), 0), min(int(right + 0.5 * width) + 1, image.shape[1])
    y0, y1 = max(int(bottom - 0.10 * width) - 2, 0), min(int(bottom + 0.16 * width) + 2, image.shape[0])
    if x1 <= x0 or y1 <= y0:
        return
    x = (np.arange(x0, x1, dtype=np.float32) - 0.5 * (left + right)) / (0.75 * width)
    y = (np.arange(y0, y1, dtype=np.float32) - bottom) / (0.13 * width)
    depth = 0.18 + 0.25 * min(float(np.mean(light.sun)), 0.6)
    image[y0:y1, x0:x1] *= (1 - depth * np.exp(-(x[None, :] ** 2 + y[:, None] ** 2)))[..., None]


def truth_rows(index: int, seen: Sequence[tuple[int, Sprite, float]], scene: Scene) -> list[TruthRow]:
    """Boxes of all people of a frame with how much of each can be seen."""
    rows: list[TruthRow] = []
    sprites = [sprite for _, sprite, _ in seen]
    for number, sprite, inside in seen:
        box = sprite.box
        if box is None:
            continue
        others = [other for other in (*sprites, *scene.furniture) if other is not sprite and other.depth < sprite.depth]
        visibility = inside * uncovered(sprite, others)
        left, top, right, bottom = box
        counts = visibility >= LEAST_VISIBILITY and bottom - top >= LEAST_HEIGHT_PX
        rows.append((index + 1, number, left, top, right - left, bottom - top, int(counts), round(visibility, 3)))
    return rows


def uncovered(sprite: Sprite, others: Sequence[Sprite]) -> float:
    """Share of a sprite that nothing nearer covers."""
    free = sprite.alpha[..., None].copy()
    for other in others:
        lay(free, Sprite(np.zeros((*other.alpha.shape, 1), np.float32), other.alpha, other.left, other.top, 0.0),
            (sprite.left, sprite.top))  # fmt: skip
    return float(free.sum() / max(float(sprite.alpha.sum()), 1e-9))


def _passages(config: SiteConfig, name: str, truth: Sequence[TruthRow]) -> list[dict[str, Any]]:
    """Unbroken stays of people in a camera's view."""
    open_: dict[int, list[int]] = {}
    stays: list[tuple[int, int, int]] = []
    for frame, number, *_ in truth:
        if number in open_ and frame - open_[number][1] > 1:
            stays.append((number, *open_.pop(number)))  # type: ignore[arg-type]
        open_.setdefault(number, [frame, frame])[1] = frame
    stays += [(number, first, last) for number, (first, last) in open_.items()]
    start = config.cameras[name].start
    return [
        {
            "camera": name,
            "person": number,
            "first_frame": first,
            "last_frame": last,
            "start": (start + timedelta(seconds=(first - 1) / config.fps)).isoformat(),
            "end": (start + timedelta(seconds=(last - 1) / config.fps)).isoformat(),
        }
        for number, first, last in sorted(stays, key=lambda stay: (stay[1], stay[0]))
    ]


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
