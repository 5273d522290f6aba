"""What stands still in front of a camera: ground, walls, sky and street furniture, drawn once by casting rays.

Signals are those of ``simulation.renderer``: linear light for RGB and NIR, warmth between ambient (0) and skin (1) for
thermal. The look of a scene comes from its own seed and from nothing else.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from simulation.camera import Camera
from simulation.materials import CHANNELS, smooth_noise
from simulation.people import linear
from simulation.renderer import Light, Sprite, lay

Signal = NDArray[np.float32]

_TEXELS = 256  # a side of a noise tile
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
_FURNITURE = {  # width, depth, height in metres; colour, reflectance, warmth
    "pole": ((0.14, 0.14, 4.2), (70, 74, 78), 0.30, 0.02),
    "bin": ((0.50, 0.45, 0.95), (54, 78, 60), 0.28, 0.03),
    "planter": ((1.30, 0.50, 0.55), (128, 110, 92), 0.45, 0.06),
    "bench": ((1.50, 0.45, 0.48), (110, 82, 54), 0.50, 0.04),
    "hedge": ((1.80, 0.60, 0.80), (48, 82, 40), 0.70, -0.04),
}


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
    """Band-limited noise over the plane, with details of about ``metres``; repeats after 24 of them."""
    tile = smooth_noise(rng, (24, 24), (_TEXELS, _TEXELS))
    texel = _TEXELS / (24 * metres)
    u, v = (np.mod(axis * texel, _TEXELS).astype(np.float32) for axis in (x, y))
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
    window = (across < width) & (np.mod(height, 3.0) > 1.0) & (np.mod(height, 3.0) < 2.4)
    glass = _value(modality, (46, 58, 70), 0.10, 0.30 if night else 0.05)
    wall = np.where(window[..., None], glass, wall)
    door_at = rng.uniform(-6, 6)
    door = (np.abs(side - door_at) < 0.6) & (height < 2.2)
    return np.where(door[..., None], _value(modality, (92, 60, 44), 0.40, 0.20), wall)


def _furnish(camera: Camera, light: Light, rng: Generator, pieces: int) -> tuple[Sprite, ...]:
    names = list(_FURNITURE)
    sprites = []
    for _ in range(pieces):
        name = names[int(rng.integers(len(names)))]
        forward = float(rng.uniform(4.5, 14.0))
        half = 0.48 * camera.width / camera.focal * forward
        sprite = _block(camera, light, name, forward, float(rng.uniform(-half, half)), float(rng.uniform(-0.5, 0.5)))
        if sprite is not None:
            sprites.append(sprite)
    return tuple(sprites)


def _block(camera: Camera, light: Light, name: str, forward: float, side: float, turn: float) -> Sprite | None:
    """A box on the ground as a sprite: its faces, lit by how they stand."""
    (width, depth, height), colour, nir, warmth = _FURNITURE[name]
    cos, sin = np.cos(camera.yaw + turn), np.sin(camera.yaw + turn)
    ahead, left = (
        np.array([np.cos(camera.yaw), np.sin(camera.yaw)]),
        np.array([-np.sin(camera.yaw), np.cos(camera.yaw)]),
    )
    foot = np.asarray(camera.position[:2]) + forward * ahead + side * left
    axes = np.array([[cos, sin, 0.0], [-sin, cos, 0.0], [0.0, 0.0, 1.0]])
    half = 0.5 * np.array([depth, width, height])
    centre = np.array([foot[0], foot[1], 0.5 * height])
    value = _value(light.modality, colour, nir, warmth)
    alpha = np.zeros((camera.height, camera.width), np.float32)
    signal = np.zeros((camera.height, camera.width, CHANNELS[light.modality]), np.float32)
    for axis in range(3):
        for sign in (1.0, -1.0):
            face = centre + sign * half[axis] * axes[axis]
            if (np.asarray(camera.position) - face) @ (sign * axes[axis]) <= 0:
                continue
            others = [half[k] * axes[k] for k in range(3) if k != axis]
            corners = face + np.array(
                [others[0] + others[1], others[0] - others[1], -others[0] - others[1], others[1] - others[0]]
            )
            pixels = camera.project(corners)
            if not np.isfinite(pixels).all():
                return None
            shade = _face_light(light, sign * axes[axis], forward)
            mask = np.zeros(alpha.shape, np.uint8)
            cv2.fillConvexPoly(mask, np.round(pixels[:, :2] * 16).astype(np.int32), 255, cv2.LINE_AA, 4)
            cover = mask.astype(np.float32)[..., None] / 255
            signal += cover * (value * shade - signal)
            alpha = np.maximum(alpha, cover[..., 0])
    return _cut(signal, alpha, forward)


def _face_light(light: Light, normal: NDArray[np.float64], forward: float) -> Signal:
    if light.modality == "thermal":
        return np.ones(1, np.float32)
    factor = np.asarray(light.ambient) + max(float(normal @ np.asarray(light.toward_sun)), 0.0) * np.asarray(light.sun)
    return np.asarray(factor + light.lamp / forward**1.3, dtype=np.float32)


def _cut(signal: Signal, alpha: Signal, depth: float) -> Sprite | None:
    """The part of a full-frame sprite that covers anything; premultiplied."""
    rows, columns = np.flatnonzero(alpha.max(axis=1)), np.flatnonzero(alpha.max(axis=0))
    if not len(rows):
        return None
    window = (slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1))
    return Sprite(signal[window].copy(), alpha[window].copy(), int(columns[0]), int(rows[0]), depth)
