"""What stands still in front of a camera: ground, walls, sky and street furniture, drawn once by casting rays.

Signals are those of ``simulation.renderer``: linear light for RGB and NIR, warmth between ambient (0) and skin (1) for
thermal. The look of a scene comes from its own seed and from nothing else.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from simulation.body import Piece, Pose, turned
from simulation.camera import Camera
from simulation.materials import CHANNELS, smooth_noise
from simulation.people import linear
from simulation.renderer import Figure, Light, Sprite, draw, lay

Signal = NDArray[np.float32]

_CELL = 10  # texels of a noise tile to each of its 24 grid cells
_CELLS = 24
_SKY_LIFT = 1.6  # the sky is brighter than what it lights

# sRGB, reflectance in near-infrared, warmth by day and by night
_GROUNDS = {
    "asphalt": ((86, 86, 90), 0.22, 0.34, 0.16),
    "paving": ((150, 142, 132), 0.40, 0.26, 0.10),
    "gravel": ((164, 156, 140), 0.36, 0.24, 0.07),
    "grass": ((82, 104, 58), 0.62, 0.06, -0.06),
}
_WALLS = {
    "brick": ((142, 88, 70), 0.42, 0.24, 0.14),
    "plaster": ((196, 190, 176), 0.58, 0.20, 0.09),
    "concrete": ((140, 140, 138), 0.38, 0.22, 0.11),
    "timber": ((124, 96, 70), 0.56, 0.18, 0.04),
}
_APART_M = 1.6  # furniture from furniture
_TRIES = 8


@dataclass(frozen=True)
class Scene:
    """A camera's still surroundings.

    Attributes:
        camera: That looks.
        light: That falls on people and things.
        background: (h, w, c) signal without furniture.
        furniture: Sprites to be laid between people by depth.
    """

    camera: Camera
    light: Light
    background: Signal
    furniture: tuple[Sprite, ...]

    def still(self) -> Signal:
        """The scene without people."""
        image = self.background.copy()
        for sprite in sorted(self.furniture, key=lambda each: -each.depth):
            lay(image, sprite)
        return image


def make_light(modality: str, *, night: bool, rng: Generator) -> Light:
    """Day: sky and sun. Night: street lamps for RGB, a lamp at the camera for NIR. Thermal needs none."""
    if modality == "thermal":
        return Light("thermal", (0.0,), cold=0.0, span=1.0)
    if modality == "nir":
        return Light("nir", (float(rng.uniform(0.02, 0.10)),), lamp=float(rng.uniform(5.0, 8.0)))
    tint = rng.uniform(0.94, 1.06, 3)
    if night:
        warm = np.array([1.15, 0.98, 0.72])
        return Light("rgb", tuple(0.16 * tint * warm), tuple(0.12 * warm), (0.2, 0.3, 0.93))
    direction = np.array([*rng.uniform(-0.8, 0.8, 2), rng.uniform(0.45, 0.9)])
    direction /= np.linalg.norm(direction)
    sun = float(rng.uniform(0.25, 0.6))
    ambient = float(rng.uniform(0.42, 0.6))
    toward = (float(direction[0]), float(direction[1]), float(direction[2]))
    return Light("rgb", tuple(ambient * tint), tuple(sun * np.array([1.06, 1.0, 0.92])), toward)


def make_scene(camera: Camera, light: Light, *, night: bool, rng: Generator, pieces: int = 4) -> Scene:
    """Build a scene; ``pieces`` of furniture stand among the walkers."""
    albedo, lit = _surfaces(camera, light, night=night, rng=rng)
    background = np.asarray(albedo * lit, dtype=np.float32)
    return Scene(camera, light, background, _furnish(camera, light, rng, pieces))


def _surfaces(camera: Camera, light: Light, *, night: bool, rng: Generator) -> tuple[Signal, Signal]:
    """Texture and the light on it, each (h, w, c)."""
    columns, rows = np.meshgrid(np.arange(camera.width) + 0.5, np.arange(camera.height) + 0.5)
    rays = camera.rays(np.stack([columns, rows], axis=-1))
    ahead = np.array([np.cos(camera.yaw), np.sin(camera.yaw)])
    distance = float(rng.uniform(16, 26))
    forward = np.maximum(rays[..., :2] @ ahead, 1e-6)
    ground_range = np.where(rays[..., 2] < -1e-6, -camera.position[2] / np.minimum(rays[..., 2], -1e-6), np.inf)
    wall_range = distance / forward
    on_ground = ground_range < wall_range
    reach = np.where(on_ground, ground_range, wall_range)
    point = rays * reach[..., None]
    side = point[..., :2] @ np.array([-ahead[1], ahead[0]])
    height = camera.position[2] + point[..., 2]
    ground = _ground(point[..., 0], point[..., 1], light.modality, night=night, rng=rng)
    wall = _wall(side, height, light.modality, night=night, rng=rng)
    sky = ~on_ground & (height > float(rng.uniform(4.5, 9.0)))
    texture = np.where(on_ground[..., None], ground, wall)
    texture[sky] = -0.25 if light.modality == "thermal" else (0.02 if night else 0.85)
    return texture.astype(np.float32), _lighting(light, rays, reach, on_ground, sky)


def _lighting(
    light: Light,
    rays: NDArray[np.float64],
    reach: NDArray[np.float64],
    on_ground: NDArray[np.bool_],
    sky: NDArray[np.bool_],
) -> Signal:
    if light.modality == "thermal":
        return np.ones((*reach.shape, 1), np.float32)
    sun_on_ground = max(light.toward_sun[2], 0.0)
    factor = np.asarray(light.ambient) + np.where(on_ground, sun_on_ground, 0.45)[..., None] * np.asarray(light.sun)
    if light.lamp:
        length = np.linalg.norm(rays, axis=-1)
        slant = np.where(on_ground, -rays[..., 2] / length, 0.9)
        factor = factor + (light.lamp / (reach * length) ** 1.3 * (0.25 + 0.75 * slant))[..., None]
    factor[sky] *= _SKY_LIFT
    return np.asarray(factor.astype(np.float32), dtype=np.float32)


def _value(modality: str, colour: tuple[int, int, int], nir: float, warmth: float) -> Signal:
    if modality == "rgb":
        return np.asarray(linear(np.array(colour, dtype=np.float64)), dtype=np.float32)
    return np.array([nir if modality == "nir" else warmth], dtype=np.float32)


def _noise(rng: Generator, x: NDArray[np.float64], y: NDArray[np.float64], metres: float) -> Signal:
    """Band-limited noise over the plane, with details of about ``metres``; repeats without a seam after 24 of them."""
    coarse = np.pad(rng.standard_normal((_CELLS, _CELLS)).astype(np.float32), 2, mode="wrap")
    side = (_CELLS + 4) * _CELL
    tile = cv2.resize(coarse, (side, side), interpolation=cv2.INTER_CUBIC)[
        2 * _CELL : -2 * _CELL, 2 * _CELL : -2 * _CELL
    ]
    period = _CELLS * _CELL
    u, v = (np.mod(axis * _CELL / metres, period).astype(np.float32) for axis in (x, y))
    return np.asarray(cv2.remap(tile, u, v, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP), dtype=np.float32)


def _textured(base: Signal, relief: Signal, modality: str) -> Signal:
    if modality == "thermal":
        return base + 0.05 * relief[..., None]
    return np.asarray(np.clip(base * (1 + relief[..., None]), 0.005, 1), dtype=np.float32)


def _ground(x: NDArray[np.float64], y: NDArray[np.float64], modality: str, *, night: bool, rng: Generator) -> Signal:
    names = list(_GROUNDS)
    chosen = [names[int(number)] for number in rng.permutation(len(names))[:2]]
    border = rng.uniform(0, 2 * np.pi), rng.uniform(5, 12)
    grain = 0.10 * _noise(rng, x, y, 0.05) + 0.12 * _noise(rng, x, y, 0.6) + 0.12 * _noise(rng, x, y, 3.0)
    layers = []
    for name in chosen:
        colour, nir, day, dark = _GROUNDS[name]
        layer = _textured(_value(modality, colour, nir, dark if night else day), grain, modality)
        layers.append(_joints(layer, x, y, 0.6, modality) if name == "paving" else layer)
    far = x * np.cos(border[0]) + y * np.sin(border[0]) > border[1]
    return np.where(far[..., None], layers[1], layers[0])


def _joints(layer: Signal, x: NDArray[np.float64], y: NDArray[np.float64], pitch: float, modality: str) -> Signal:
    gap = 0.02
    joint = (np.mod(x, pitch) < gap) | (np.mod(y, pitch) < gap)
    return np.where(joint[..., None], layer - 0.04 if modality == "thermal" else 0.6 * layer, layer)


def _wall(
    side: NDArray[np.float64], height: NDArray[np.float64], modality: str, *, night: bool, rng: Generator
) -> Signal:
    names = list(_WALLS)
    colour, nir, day, dark = _WALLS[names[int(rng.integers(len(names)))]]
    grain = 0.08 * _noise(rng, side, height, 0.15) + 0.10 * _noise(rng, side, height, 2.0)
    wall = _textured(_value(modality, colour, nir, dark if night else day), grain, modality)
    pitch, width = rng.uniform(2.6, 4.0), rng.uniform(0.9, 1.6)
    across = np.mod(side, pitch)
    floor = np.mod(height, 3.0)
    pane = (across < width) & (floor > 1.0) & (floor < 2.4)
    frame = (across < width + 0.08) & (np.mod(side + 0.08, pitch) < width + 0.16) & (floor > 0.92) & (floor < 2.48)
    cross = (np.abs(across - 0.5 * width) < 0.03) | (np.abs(floor - 1.8) < 0.03)
    bay = np.floor(rng.uniform(-6, 6) / pitch) * pitch  # the door takes the place of a window
    entrance = (side >= bay - 0.1) & (side < bay + width + 0.1) & (height < 2.6)
    glass = _value(modality, (46, 58, 70), 0.10, 0.30 if night else 0.05)
    wood = _value(modality, (206, 204, 198), 0.60, 0.12)
    wall = np.where((frame & ~entrance)[..., None], wood, wall)
    wall = np.where((pane & ~cross & ~entrance)[..., None], glass, wall)
    door = (np.abs(side - bay - 0.5 * width) < 0.55) & (height < 2.2)
    return np.where(door[..., None], _value(modality, (92, 60, 44), 0.40, 0.20), wall)


def _furnish(camera: Camera, light: Light, rng: Generator, pieces: int) -> tuple[Sprite, ...]:
    """Stand furniture apart from each other; wide pieces behind most walkers, slim ones anywhere."""
    names = list(_FURNITURE)
    sprites: list[Sprite] = []
    feet: list[tuple[float, float]] = []
    for _ in range(pieces):
        name = names[int(rng.integers(len(names)))]
        tried = rng.uniform(size=(_TRIES, 2))
        turn = float(rng.uniform(-0.5, 0.5))
        bark = int(rng.integers(2**31))
        foot = next((foot for foot in (_foot(camera, name, *row) for row in tried) if _stands_free(foot, feet)), None)
        if foot is None:
            continue
        feet.append(foot)
        sprite = _FURNITURE[name].draw(camera, light, _Spot(*foot, turn, bark))
        if sprite is not None:
            sprites.append(sprite)
    return tuple(sprites)


def _foot(camera: Camera, name: str, ahead: float, aside: float) -> tuple[float, float]:
    """Metres forward and left of a piece, from two shares."""
    least = 8.5 if _FURNITURE[name].wide else 4.5
    forward = least + ahead * (15.0 - least)
    return forward, (aside - 0.5) * 0.96 * camera.width / camera.focal * forward


def _stands_free(foot: tuple[float, float], others: list[tuple[float, float]]) -> bool:
    return all(np.hypot(foot[0] - other[0], foot[1] - other[1]) > _APART_M for other in others)


@dataclass(frozen=True)
class _Spot:
    """Where a piece stands: metres forward and left of the camera, turned by radians; seed of its texture."""

    forward: float
    left: float
    turn: float
    seed: int

    def axes(self, camera: Camera) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Origin (3,) on the ground, and the piece's own axes as rows: forward, left, up."""
        look, turned_by = camera.yaw, camera.yaw + self.turn
        ahead, left = np.array([np.cos(look), np.sin(look)]), np.array([-np.sin(look), np.cos(look)])
        foot = np.asarray(camera.position[:2]) + self.forward * ahead + self.left * left
        cos, sin = np.cos(turned_by), np.sin(turned_by)
        return np.array([*foot, 0.0]), np.array([[cos, sin, 0.0], [-sin, cos, 0.0], [0.0, 0.0, 1.0]])


@dataclass(frozen=True)
class _Finish:
    """sRGB, reflectance in near-infrared, warmth, and how uneven the surface is."""

    colour: tuple[int, int, int]
    nir: float
    warmth: float
    rough: float = 0.08

    def texture(self, modality: str, seed: int) -> Signal:
        """(64, 96, c) to be wrapped around a turned piece."""
        rng = np.random.default_rng(seed)
        grain = 0.6 * smooth_noise(rng, (12, 18)) + 0.6 * smooth_noise(rng, (32, 48))
        flat = np.broadcast_to(_value(modality, self.colour, self.nir, self.warmth), (64, 96, CHANNELS[modality]))
        relief = (self.rough * grain).astype(np.float32)
        return np.ascontiguousarray(_textured(flat, relief, modality), dtype=np.float32)


_STEEL = _Finish((84, 88, 92), 0.32, 0.02, 0.04)
_WOOD = _Finish((126, 90, 58), 0.52, 0.05)
_CLAY = _Finish((150, 108, 84), 0.46, 0.06)
_LEAF = _Finish((58, 92, 44), 0.60, -0.05, 0.30)
_PAINT = _Finish((48, 82, 66), 0.30, 0.03, 0.05)
_DARK = _Finish((38, 42, 44), 0.18, 0.02, 0.03)


@dataclass(frozen=True)
class _Turned:
    """Furniture of upright turned parts: (bottom, top, radius at the bottom, radius at the top, rounded, finish)."""

    parts: tuple[tuple[float, float, float, float, bool, _Finish], ...]
    wide: bool = False

    def draw(self, camera: Camera, light: Light, spot: _Spot) -> Sprite | None:
        """As people are drawn."""
        origin, _ = spot.axes(camera)
        pieces = [
            Piece(
                f"part {index}",
                "furniture",
                turned((0, upper, upper), (1, lower, lower)),
                (rounded, rounded),
                0.01 * index,
            )
            for index, (_, _, lower, upper, rounded, _) in enumerate(self.parts)
        ]
        textures = [finish.texture(light.modality, spot.seed + index) for index, (*_, finish) in enumerate(self.parts)]
        start = np.array([(*origin[:2], top) for _, top, *_ in self.parts])
        end = np.array([(*origin[:2], bottom) for bottom, *_ in self.parts])
        return draw(camera, Figure(pieces, textures), Pose(start, end, np.zeros(len(pieces))), light)


@dataclass(frozen=True)
class _Boxed:
    """Furniture of boxes: (centre, size) in metres along forward, left, up, with a finish for all."""

    boxes: tuple[tuple[tuple[float, float, float], tuple[float, float, float]], ...]
    finish: _Finish
    wide: bool = True

    def draw(self, camera: Camera, light: Light, spot: _Spot) -> Sprite | None:
        """Faces from far to near, lit by how they stand."""
        origin, axes = spot.axes(camera)
        eye = np.asarray(camera.position)
        faces = []
        for centre, size in self.boxes:
            middle, half = origin + np.array(centre) @ axes, 0.5 * np.array(size)
            faces += [face for face in _faces(middle, half, axes) if (eye - face[0].mean(axis=0)) @ face[1] > 0]
        faces.sort(key=lambda face: -float(np.linalg.norm(eye - face[0].mean(axis=0))))
        return _painted(camera, light, faces, (self.finish, spot))


_Face = tuple[NDArray[np.float64], NDArray[np.float64]]  # corners (4, 3), outward normal (3,)


def _faces(centre: NDArray[np.float64], half: NDArray[np.float64], axes: NDArray[np.float64]) -> list[_Face]:
    faces = []
    for axis in range(3):
        one, two = (half[k] * axes[k] for k in range(3) if k != axis)
        for sign in (1.0, -1.0):
            middle = centre + sign * half[axis] * axes[axis]
            faces.append((np.array([middle + one + two, middle + one - two, middle - one - two, middle - one + two]),
                          sign * axes[axis]))  # fmt: skip
    return faces


def _painted(camera: Camera, light: Light, faces: list[_Face], look: tuple[_Finish, _Spot]) -> Sprite | None:
    finish, spot = look
    value = _value(light.modality, finish.colour, finish.nir, finish.warmth)
    grain = (
        0.5 * finish.rough * smooth_noise(np.random.default_rng(spot.seed), (90, 160), (camera.height, camera.width))
    )
    alpha = np.zeros((camera.height, camera.width), np.float32)
    signal = np.zeros((camera.height, camera.width, CHANNELS[light.modality]), np.float32)
    texture = _textured(np.broadcast_to(value, signal.shape), grain.astype(np.float32), light.modality)
    for corners, normal in faces:
        pixels = camera.project(corners)
        if not np.isfinite(pixels).all():
            return None
        mask = np.zeros(alpha.shape, np.uint8)
        cv2.fillConvexPoly(mask, np.round(pixels[:, :2] * 16).astype(np.int32), 255, cv2.LINE_AA, 4)
        cover = mask.astype(np.float32)[..., None] / 255
        signal += cover * (texture * _face_light(light, normal, spot.forward) - signal)
        alpha = np.maximum(alpha, cover[..., 0])
    return _cut(signal, alpha, spot.forward)


def _face_light(light: Light, normal: NDArray[np.float64], forward: float) -> Signal:
    if light.modality == "thermal":
        return np.ones(1, np.float32)
    sky = 0.72 + 0.28 * max(float(normal[2]), 0.0)
    factor = sky * np.asarray(light.ambient) + max(float(normal @ np.asarray(light.toward_sun)), 0.0) * np.asarray(
        light.sun
    )
    return np.asarray(factor + light.lamp / forward**1.3, dtype=np.float32)


def _cut(signal: Signal, alpha: Signal, depth: float) -> Sprite | None:
    """The part of a full-frame sprite that covers anything; premultiplied."""
    rows, columns = np.flatnonzero(alpha.max(axis=1)), np.flatnonzero(alpha.max(axis=0))
    if not len(rows):
        return None
    window = (slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1))
    return Sprite(signal[window].copy(), alpha[window].copy(), int(columns[0]), int(rows[0]), depth)


_FURNITURE: dict[str, _Turned | _Boxed] = {
    "lamp post": _Turned(((0.0, 0.5, 0.09, 0.08, False, _STEEL), (0.5, 4.4, 0.055, 0.045, False, _STEEL))),
    "bollard": _Turned(((0.0, 0.85, 0.09, 0.09, True, _DARK),)),
    "bin": _Turned(((0.05, 0.80, 0.24, 0.27, False, _PAINT), (0.80, 0.88, 0.29, 0.29, False, _DARK))),
    "shrub": _Turned(((0.0, 0.42, 0.24, 0.32, False, _CLAY), (0.52, 0.80, 0.40, 0.34, True, _LEAF))),
    "planter": _Turned(((0.0, 0.55, 0.52, 0.60, False, _CLAY), (0.62, 0.78, 0.50, 0.40, True, _LEAF)), wide=True),
    "bench": _Boxed(
        (
            ((0.0, -0.62, 0.21), (0.38, 0.07, 0.42)),
            ((0.0, 0.62, 0.21), (0.38, 0.07, 0.42)),
            ((-0.12, 0.0, 0.45), (0.19, 1.6, 0.05)),
            ((0.12, 0.0, 0.45), (0.19, 1.6, 0.05)),
            ((0.22, 0.0, 0.64), (0.04, 1.6, 0.10)),
            ((0.24, 0.0, 0.80), (0.04, 1.6, 0.10)),
        ),
        _WOOD,
    ),
    "hedge": _Boxed((((0.0, 0.0, 0.40), (0.6, 2.2, 0.80)),), _LEAF),
}
