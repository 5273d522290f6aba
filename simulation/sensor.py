"""From the scene's signal to what a camera stores: optics, exposure, noise, bits."""

from copy import copy
from typing import Self

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

Window = tuple[int, int, int, int]  # left, top, right, bottom in pixels of the frame

_TILES = 6
_LEVELS = 4096

# shot and read noise at unit gain; gain by day and by night
_NOISE = {"rgb": (0.010, 0.002), "nir": (0.009, 0.002)}
_GAIN = {("rgb", False): 1.0, ("rgb", True): 2.2, ("nir", False): 1.0, ("nir", True): 1.0}

THERMAL_AMBIENT = 7300.0  # counts
THERMAL_SPAN = 1150.0  # counts from ambient to skin
_THERMAL_NOISE = 5.0
_THERMAL_PATTERN = 7.0
_DRIFT_COUNTS = 40.0
_DRIFT_SECONDS = 90.0


class Sensor:
    """One camera's sensor. Its noise depends on its seed and the order of frames, not on what is seen."""

    def __init__(self, modality: str, *, night: bool, size: tuple[int, int], rng: Generator) -> None:
        """``size`` is (height, width)."""
        self._modality = modality
        self._rng = rng
        channels = 3 if modality == "rgb" else 1
        height, width = size
        # A few noise images, rolled by a random offset each frame: as good to the eye and the detector, and quick.
        self._tiles = rng.standard_normal((_TILES, height, width, channels), dtype=np.float32)
        if modality == "thermal":
            self._pattern = _THERMAL_PATTERN * rng.standard_normal((height, width), dtype=np.float32)
            self._drift = rng.uniform(0, 2 * np.pi, 2)
            return
        self._gain = _GAIN[modality, night] * float(rng.uniform(0.92, 1.08))
        y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
        self._vignette = (1 - 0.16 * (x * x + y * y) / 2).astype(np.float32)[..., None]
        linear = np.arange(_LEVELS, dtype=np.float32) / (_LEVELS - 1)
        self._tone = np.round(255 * linear ** (1 / 2.2)).astype(np.uint8)

    def with_noise_of(self, rng: Generator) -> Self:
        """The same sensor, whose noise from now on follows ``rng``: frames no longer depend on those before."""
        same = copy(self)
        same._rng = rng
        return same

    def expose(
        self, signal: NDArray[np.float32], seconds: float, window: Window | None = None
    ) -> NDArray[np.uint8] | NDArray[np.uint16]:
        """One frame, or the window of it that ``signal`` is.

        Returns:
            RGB uint8 (h, w, 3), grey uint8 (h, w), or counts uint16 (h, w).
        """
        height, width = self._tiles.shape[1:3]
        left, top, right, bottom = window or (0, 0, width, height)
        tile, down, across = (int(number) for number in self._rng.integers((_TILES, height, width)))
        rows, columns = np.arange(top + down, bottom + down) % height, np.arange(left + across, right + across) % width
        noise = self._tiles[tile][rows][:, columns]
        here = (slice(top, bottom), slice(left, right))
        if self._modality == "thermal":
            return self._counts(signal[..., 0], noise[..., 0] * _THERMAL_NOISE + self._pattern[here], seconds)
        return self._picture(signal, noise, self._vignette[here])

    def _picture(
        self, signal: NDArray[np.float32], noise: NDArray[np.float32], vignette: NDArray[np.float32]
    ) -> NDArray[np.uint8]:
        exposed = cv2.GaussianBlur(signal, (0, 0), 0.55).reshape(signal.shape) * vignette * self._gain
        shot, read = _NOISE[self._modality]
        strength = self._gain**0.5
        exposed += noise * (strength * shot * np.sqrt(np.maximum(exposed, 0)) + strength * read)
        levels = np.clip(exposed * (_LEVELS - 1), 0, _LEVELS - 1).astype(np.uint16)
        picture: NDArray[np.uint8] = self._tone[levels]
        return picture if picture.shape[2] == 3 else np.ascontiguousarray(picture[..., 0])

    def _counts(self, warmth: NDArray[np.float32], noise: NDArray[np.float32], seconds: float) -> NDArray[np.uint16]:
        blurred = cv2.GaussianBlur(warmth, (0, 0), 0.9)
        drift = _DRIFT_COUNTS * float(np.sin(2 * np.pi * seconds / _DRIFT_SECONDS + self._drift[0]))
        counts = THERMAL_AMBIENT + drift + THERMAL_SPAN * blurred + noise
        return np.clip(np.round(counts), 0, 16383).astype(np.uint16)
