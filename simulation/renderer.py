"""Draws turned pieces: analytic anti-aliased silhouettes, textures by azimuth, light of the scene.

A piece's axis is projected; at every pixel of its bounding box the distance along and across the axis gives the
silhouette (distance to the profile, divided by the gradient's length), the surface's azimuth (texture) and its normal
(light). Pieces are laid over one another from far to near into a sprite, with its own alpha, so that silhouettes,
occlusion and ground truth come from the same numbers.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from simulation.body import SAMPLES, Piece, Pose
from simulation.camera import Camera

_LUT = 96  # profile samples from tip to tip, with a sentinel at each end
_ARC = np.arcsin(np.linspace(-1, 1, 513)).astype(np.float32)


@dataclass(frozen=True)
class Light:
    """How surfaces turn their texture into signal: ``ambient`` and ``sun`` per channel, ``toward_sun`` in the world.

    ``lamp`` is a light at the camera (active NIR), scaled by inverse distance. In thermal, texture is warmth and signal
    is temperature: ``cold`` + warmth * ``span``.
    """

    modality: str
    ambient: tuple[float, ...]
    sun: tuple[float, ...] = (0.0,)
    toward_sun: tuple[float, float, float] = (0.0, 0.0, 1.0)
    lamp: float = 0.0
    cold: float = 0.0
    span: float = 0.0


@dataclass(frozen=True)
class Sprite:
    """Something drawn: premultiplied signal (h, w, c), alpha (h, w), where it lies in the image, and its depth."""

    signal: NDArray[np.float32]
    alpha: NDArray[np.float32]
    left: int
    top: int
    depth: float

    @property
    def box(self) -> tuple[float, float, float, float] | None:
        """Left, top, right, bottom of the silhouette in pixels, or None where nothing was drawn."""
        rows = np.flatnonzero(self.alpha.max(axis=1) > 0.5) if self.alpha.size else np.empty(0)
        if not len(rows):
            return None
        columns = np.flatnonzero(self.alpha.max(axis=0) > 0.5)
        return (
            float(self.left + columns[0]),
            float(self.top + rows[0]),
            float(self.left + columns[-1] + 1),
            float(self.top + rows[-1] + 1),
        )


class Figure:
    """Pieces and textures made ready to draw again and again."""

    def __init__(self, pieces: Sequence[Piece], textures: Sequence[NDArray[np.float32]]) -> None:
        """Row-aligned pieces and textures."""
        self.profiles = np.stack([piece.profile for piece in pieces])
        self.rounded = np.array([piece.rounded for piece in pieces])
        self.bias = np.array([piece.bias for piece in pieces])
        self.textures = list(textures)


@dataclass(frozen=True)
class _Projected:
    """Pieces in the image: origin (n, 2), axis (n, 2), length, caps (n, 2), radius table (n, _LUT + 2) and the rest."""

    origin: NDArray[np.float64]
    axis: NDArray[np.float64]
    length: NDArray[np.float64]
    caps: NDArray[np.float64]
    radius: NDArray[np.float32]
    steep: NDArray[np.float32]
    azimuth: NDArray[np.float64]
    tilt: NDArray[np.float64]
    depth: NDArray[np.float64]
    across_world: NDArray[np.float64]
    facing_world: NDArray[np.float64]


def _project(camera: Camera, figure: Figure, pose: Pose) -> _Projected | None:
    a, b = camera.project(pose.start), camera.project(pose.end)
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        return None
    if min(a[:, 2].min(), b[:, 2].min()) < 0.3:
        return None
    middle = 0.5 * (pose.start + pose.end)
    to_camera = np.asarray(camera.position) - middle
    distance = np.linalg.norm(to_camera, axis=1, keepdims=True)
    facing = to_camera / distance
    azimuth = np.arctan2(to_camera[:, 1], to_camera[:, 0]) - pose.front
    wide = np.hypot(
        figure.profiles[:, :, 0] * np.cos(azimuth)[:, None], figure.profiles[:, :, 1] * np.sin(azimuth)[:, None]
    )
    t = np.linspace(0, 1, SAMPLES)
    pixels = wide * camera.focal / (a[:, 2:3] + (b[:, 2:3] - a[:, 2:3]) * t)
    step = b[:, :2] - a[:, :2]
    length = np.maximum(np.linalg.norm(step, axis=1), 1e-3)
    axis = step / length[:, None]
    spine = pose.end - pose.start
    spine = spine / np.maximum(np.linalg.norm(spine, axis=1, keepdims=True), 1e-9)
    tilt = -np.sum(spine * facing, axis=1)  # how much the axis points away from the camera
    ends = pixels[:, [0, -1]]
    caps = np.where(figure.rounded, ends, np.maximum(np.abs(tilt)[:, None] * ends, 0.3))
    radius, steep = _radius_table(pixels, length, caps)
    across = np.stack([axis[:, 1], -axis[:, 0]], axis=1)
    across_world = across[:, :1] * camera.rotation[0] + across[:, 1:] * camera.rotation[1]
    depth = 0.5 * (a[:, 2] + b[:, 2])
    return _Projected(a[:, :2], axis, length, caps, radius, steep, azimuth, tilt, depth, across_world, facing)


def _radius_table(
    pixels: NDArray[np.float64], length: NDArray[np.float64], caps: NDArray[np.float64]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Apparent radius and 1 / sqrt(1 + slope²) at _LUT places from tip to tip, for every piece."""
    n = len(length)
    x = -caps[:, :1] + (length + caps.sum(axis=1))[:, None] * (np.arange(_LUT) + 0.5) / _LUT
    position = np.clip(x / length[:, None], 0, 1) * (SAMPLES - 1)
    low = np.minimum(position.astype(np.intp), SAMPLES - 2)
    rows = np.arange(n)[:, None]
    radius = pixels[rows, low] + (position - low) * (pixels[rows, low + 1] - pixels[rows, low])
    beyond = np.maximum(-x / caps[:, :1], (x - length[:, None]) / caps[:, 1:])
    radius = radius * np.sqrt(np.clip(1 - np.maximum(beyond, 0) ** 2, 0, 1))
    slope = np.gradient(radius, axis=1) / ((length + caps.sum(axis=1)) / _LUT)[:, None]
    table = np.full((n, _LUT + 2), -2.0, dtype=np.float32)
    table[:, 1:-1] = radius
    steep = np.ones((n, _LUT + 2), dtype=np.float32)
    steep[:, 1:-1] = 1 / np.sqrt(1 + slope**2)
    return table, steep


def draw(camera: Camera, figure: Figure, pose: Pose, light: Light) -> Sprite | None:
    """Draw a figure; None where no part of it lies in the image or some of it is behind the camera."""
    seen = _project(camera, figure, pose)
    if seen is None:
        return None
    tips = np.concatenate([seen.origin, seen.origin + seen.axis * seen.length[:, None]])
    reach = np.tile(np.maximum(seen.radius.max(axis=1), seen.caps.max(axis=1)), 2)[:, None] + 2
    left, top = np.floor((tips - reach).min(axis=0)).astype(int)
    right, bottom = np.ceil((tips + reach).max(axis=0)).astype(int)
    left, top = max(left, 0), max(top, 0)
    right, bottom = min(right, camera.width), min(bottom, camera.height)
    if right - left < 2 or bottom - top < 2:
        return None
    channels = figure.textures[0].shape[2]
    signal = np.zeros((bottom - top, right - left, channels), dtype=np.float32)
    alpha = np.zeros((bottom - top, right - left), dtype=np.float32)
    order = np.argsort(-(seen.depth - figure.bias), kind="stable")
    centre = float(np.median(seen.depth))
    for index in order:
        _draw_piece((signal, alpha), (left, top), seen, (int(index), figure, light), centre)
    return Sprite(signal, alpha, int(left), int(top), centre)


def _draw_piece(
    canvas: tuple[NDArray[np.float32], NDArray[np.float32]],
    corner: tuple[int, int],
    seen: _Projected,
    what: tuple[int, Figure, Light],
    centre: float,
) -> None:
    i, figure, light = what
    signal, alpha = canvas
    tip = seen.origin[i] + seen.axis[i] * seen.length[i]
    r = max(float(seen.radius[i].max()), float(seen.caps[i].max())) + 1.5
    x0 = max(int(min(seen.origin[i, 0], tip[0]) - r) - corner[0], 0)
    y0 = max(int(min(seen.origin[i, 1], tip[1]) - r) - corner[1], 0)
    x1 = min(int(max(seen.origin[i, 0], tip[0]) + r) + 2 - corner[0], alpha.shape[1])
    y1 = min(int(max(seen.origin[i, 1], tip[1]) + r) + 2 - corner[1], alpha.shape[0])
    if x1 <= x0 or y1 <= y0:
        return
    ux, uy = (float(v) for v in seen.axis[i])
    px = (np.arange(x0, x1) + (0.5 + corner[0] - seen.origin[i, 0])).astype(np.float32)[None, :]
    py = (np.arange(y0, y1) + (0.5 + corner[1] - seen.origin[i, 1])).astype(np.float32)[:, None]
    along = px * ux + py * uy
    across = px * uy - py * ux
    span = float(seen.length[i] + seen.caps[i].sum())
    place = np.clip((along + float(seen.caps[i, 0])) * (_LUT / span) + 1, 0, _LUT + 1).astype(np.intp)
    radius = seen.radius[i][place]
    cover = np.clip(0.5 - (np.abs(across) - radius) * seen.steep[i][place], 0, 1)
    s = np.clip(across / np.maximum(radius, 0.75), -1, 1)
    facing = np.sqrt(1 - s * s)
    bow = float(seen.tilt[i]) * radius
    v = np.clip((along - bow * facing) / float(seen.length[i]), 0, 1)
    texture = figure.textures[i]
    rows, columns = texture.shape[:2]
    u = _ARC[((s + 1) * 256).astype(np.intp)] * np.float32(columns / (2 * np.pi)) + np.float32(
        (seen.azimuth[i] / (2 * np.pi) % 1.0 + 0.5) * columns - 0.5
    )
    looked = cv2.remap(
        texture,
        np.mod(u, columns).astype(np.float32),
        v.astype(np.float32) * (rows - 1),
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_WRAP,
    )
    shaded = _shade(np.asarray(looked, np.float32).reshape(*looked.shape[:2], -1), (s, facing), seen, i, light)
    behind = float(np.clip((seen.depth[i] - figure.bias[i] - centre) / 0.25, 0, 1))
    if light.modality != "thermal":
        shaded = shaded * np.float32(1 - 0.22 * behind)
    window = (slice(y0, y1), slice(x0, x1))
    signal[window] += cover[..., None] * (shaded - signal[window])
    alpha[window] += cover * (1 - alpha[window])


def _shade(
    looked: NDArray[np.float32],
    normal: tuple[NDArray[np.float32], NDArray[np.float32]],
    seen: _Projected,
    i: int,
    light: Light,
) -> NDArray[np.float32]:
    s, facing = normal
    if light.modality == "thermal":  # emissivity falls at grazing angles
        return np.asarray(light.cold + light.span * looked * (0.88 + 0.12 * facing)[..., None], dtype=np.float32)
    toward = np.asarray(light.toward_sun)
    side, face = float(seen.across_world[i] @ toward), float(seen.facing_world[i] @ toward)
    lit = np.maximum(s * side + facing * face, 0) + 0.25 * max(float(toward[2]), 0.0)
    rim = 0.72 + 0.28 * facing
    factor = rim[..., None] * np.asarray(light.ambient, dtype=np.float32) + lit[..., None] * np.asarray(
        light.sun, dtype=np.float32
    )
    if light.lamp:
        factor = factor + (light.lamp / float(seen.depth[i]) ** 1.3) * (0.25 + 0.75 * facing)[..., None]
    return looked * factor.astype(np.float32)


def smear(sprite: Sprite, pixels: tuple[float, float]) -> Sprite:
    """Motion blur: average the sprite over a displacement in pixels during the exposure."""
    dx, dy = pixels
    size = int(np.ceil(max(abs(dx), abs(dy)))) | 1
    if max(abs(dx), abs(dy)) < 0.6:
        return sprite
    size = max(size, 3)
    kernel = np.zeros((size, size), dtype=np.float32)
    half = size // 2
    for t in np.linspace(-0.5, 0.5, 9):
        kernel[half + round(float(t * dy)), half + round(float(t * dx))] += 1 / 9
    blurred = cv2.filter2D(sprite.signal, -1, kernel, borderType=cv2.BORDER_CONSTANT)
    alpha = cv2.filter2D(sprite.alpha, -1, kernel, borderType=cv2.BORDER_CONSTANT)
    signal = np.asarray(blurred, np.float32).reshape(sprite.signal.shape)
    return Sprite(signal, np.asarray(alpha, np.float32), sprite.left, sprite.top, sprite.depth)


def lay(image: NDArray[np.float32], sprite: Sprite, origin: tuple[int, int] = (0, 0)) -> None:
    """Lay a sprite over an image (h, w, c) in place; ``origin`` is the image's own corner in the frame (left, top)."""
    h, w = image.shape[:2]
    x0, y0 = max(sprite.left - origin[0], 0), max(sprite.top - origin[1], 0)
    x1 = min(sprite.left - origin[0] + sprite.alpha.shape[1], w)
    y1 = min(sprite.top - origin[1] + sprite.alpha.shape[0], h)
    if x1 <= x0 or y1 <= y0:
        return
    sx, sy = x0 - (sprite.left - origin[0]), y0 - (sprite.top - origin[1])
    part = (slice(sy, sy + y1 - y0), slice(sx, sx + x1 - x0))
    target = image[y0:y1, x0:x1]
    target *= 1 - sprite.alpha[part][..., None]
    target += sprite.signal[part]
