"""A pinhole camera over a ground plane: world metres (x, y, z up) to pixels and back."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Camera:
    """Where a camera stands and what it sees.

    ``yaw`` is the azimuth of the optical axis, counter-clockwise from +x; ``pitch`` is positive downwards; both in
    radians. ``focal`` is in pixels, square; the principal point is the image centre.
    """

    position: tuple[float, float, float]
    yaw: float
    pitch: float
    focal: float
    width: int
    height: int

    def __post_init__(self) -> None:
        """Refuse a camera that cannot see."""
        if self.position[2] <= 0 or self.focal <= 0 or self.width < 1 or self.height < 1:
            raise ValueError(
                f"a camera needs height above ground, focal length and image size > 0, got {self.position[2]}, "
                f"{self.focal}, {self.width}x{self.height}"
            )

    @cached_property
    def rotation(self) -> NDArray[np.float64]:
        """World to camera axes (3, 3): rows are image right, image down, forward."""
        cy, sy = np.cos(self.yaw), np.sin(self.yaw)
        cp, sp = np.cos(self.pitch), np.sin(self.pitch)
        forward = np.array([cy * cp, sy * cp, -sp])
        right = np.array([sy, -cy, 0.0])
        return np.stack([right, np.cross(forward, right), forward])

    def to_camera(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """World points (..., 3) in camera axes: right, down, depth, in metres."""
        return np.asarray((points - np.asarray(self.position)) @ self.rotation.T, dtype=np.float64)

    def project(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """World points (..., 3) to (..., 3): column, row in pixels, depth in metres; behind the camera is NaN."""
        seen = self.to_camera(points)
        depth = np.where(seen[..., 2] > 1e-6, seen[..., 2], np.nan)
        column = self.focal * seen[..., 0] / depth + self.width / 2
        row = self.focal * seen[..., 1] / depth + self.height / 2
        return np.stack([column, row, depth], axis=-1)

    def rays(self, pixels: NDArray[np.float64]) -> NDArray[np.float64]:
        """Directions (..., 3) in world axes through pixels (..., 2), of unit depth along the optical axis."""
        right = (pixels[..., 0] - self.width / 2) / self.focal
        down = (pixels[..., 1] - self.height / 2) / self.focal
        return np.stack([right, down, np.ones_like(right)], axis=-1) @ self.rotation

    def to_ground(self, pixels: NDArray[np.float64]) -> NDArray[np.float64]:
        """Pixels (..., 2) to the ground (..., 2) in metres; NaN at and above the horizon."""
        direction = self.rays(pixels)
        falling = direction[..., 2] < -1e-9
        scale = np.where(falling, -self.position[2] / np.where(falling, direction[..., 2], -1.0), np.nan)
        return np.asarray(self.position[:2]) + direction[..., :2] * scale[..., None]
