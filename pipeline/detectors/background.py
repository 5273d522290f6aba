"""A background model of one fixed camera: what the scene looks like without people.

Each pixel holds a mean and a mean deviation. Pixels under people are not learned from, so that somebody who stands
still neither fades nor leaves a ghost; what stays longer than ``absorb_seconds`` is taken over whole. A ghost (a hole
left by somebody who was there from the start) is known by its outline: the background has edges there, the image none.
"""

from functools import reduce
from typing import cast

import cv2
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Mask = NDArray[np.uint8]

_LEAST_DEVIATION = 2.0  # grey levels: below it, quantisation would pass for change
_LEARN_SECONDS = 4.0
_MOST_FOREGROUND = 0.7  # share of the image; more is a change of light or a moved camera
_GHOST_SECONDS = 1.0  # for which an area must not change before it is tested
_GHOST_EDGES = 0.6  # of the background's edges, at most, in the image along the outline
_SHADOW_GAIN = (0.45, 0.97)  # a darker pixel is dark clothing
_SHADOW_COLOUR = 5.0  # grey levels of colour change that a shadow may make


class Background:
    """The model of one camera; images are float32 (h, w, c), 0 to 255."""

    def __init__(self, first: Floats, *, sensitivity: float, absorb_seconds: float, shadows: bool) -> None:
        self._mean = first.copy()
        self._deviation = np.full(first.shape[:2], 1.5 * _LEAST_DEVIATION, np.float32)
        self._age = np.zeros(first.shape[:2], np.float32)  # seconds for which a pixel has been foreground
        self._seconds = 0.0
        self._compared: tuple[Floats, Floats] | None = None  # the latest image, and its difference to the mean as it is
        self._sensitivity = sensitivity
        self._absorb_seconds = absorb_seconds
        self._shadows = shadows and first.shape[2] == 3

    def contrast(self, image: Floats) -> Floats:
        """Difference to the background in multiples of the threshold, (h, w); 1 and more is foreground.

        A uniform change of brightness (drift of a thermal camera, exposure) is taken out; cast shadows are set to 0.
        """
        largest = self._difference(image)
        threshold = np.float32(self._sensitivity) * np.maximum(self._deviation, np.float32(_LEAST_DEVIATION))
        contrast = cast("Floats", largest / threshold)
        if self._shadows:
            self._remove_shadows(image, contrast)
        return contrast

    def learn(self, image: Floats, foreground: Mask, *, step_seconds: float) -> None:
        """Take the next image in, except where there is foreground; absorb what has stayed long enough."""
        self._seconds += step_seconds
        covered = foreground > 0
        if covered.mean() > _MOST_FOREGROUND:
            self._mean[:] = image
            self._age[:] = 0
            self._compared = None
            return
        share = max(1 - float(np.exp(-step_seconds / _LEARN_SECONDS)), step_seconds / (self._seconds + step_seconds))
        size = self._difference(image)
        self._compared = None
        free = (~covered).astype(np.uint8)
        cv2.accumulateWeighted(image, self._mean, share, mask=free)
        cv2.accumulateWeighted(size, self._deviation, share, mask=free)
        self._age = np.where(covered, self._age + step_seconds, np.maximum(self._age - 2 * step_seconds, 0))
        absorbed = self._age > self._absorb_seconds
        if absorbed.any():
            self._take_over(image, absorbed)

    def is_ghost(self, image: Floats, region: tuple[slice, slice], area: Mask) -> bool:
        """Whether a foreground area, standing still, is a hole in the model; if so it is filled from the image.

        Args:
            image: The current one.
            region: Rows and columns of the box around the area.
            area: 1 on the area, 0 elsewhere, of the region's size.
        """
        inside = area > 0
        if self._age[region][inside].mean() < _GHOST_SECONDS:
            return False
        kernel = np.ones((3, 3), np.uint8)
        outline = cv2.dilate(area, kernel, borderValue=0) - cv2.erode(area, kernel, borderValue=0) > 0
        in_image = _edges(image[region])[outline].mean()
        in_background = _edges(self._mean[region])[outline].mean()
        if in_image > _GHOST_EDGES * in_background:
            return False
        whole = np.zeros(image.shape[:2], bool)
        whole[region] = cv2.dilate(area, np.ones((5, 5), np.uint8)) > 0
        self._take_over(image, whole)
        return True

    def _difference(self, image: Floats) -> Floats:
        """Of an image that is asked about twice, as long as the mean stays, it is computed once."""
        if self._compared is None or self._compared[0] is not image:
            self._compared = image, _largest_difference(image, self._mean)
        return self._compared[1]

    def _take_over(self, image: Floats, where: NDArray[np.bool_]) -> None:
        self._compared = None
        self._mean[where] = image[where]
        self._deviation[where] = 1.5 * _LEAST_DEVIATION
        self._age[where] = 0

    def _remove_shadows(self, image: Floats, contrast: Floats) -> None:
        """Set to 0 what is darker by one factor in all channels (Horprasert et al., 1999: brightness and colour)."""
        rows, columns = np.nonzero(contrast >= 1)
        now, mean = image[rows, columns], self._mean[rows, columns]
        gain = np.einsum("nc,nc->n", now, mean) / (np.einsum("nc,nc->n", mean, mean) + 1)
        colour = np.abs(now - gain[:, None] * mean).max(axis=1)
        shadow = (gain > _SHADOW_GAIN[0]) & (gain < _SHADOW_GAIN[1]) & (colour < _SHADOW_COLOUR)
        contrast[rows[shadow], columns[shadow]] = 0


def _largest_difference(image: Floats, mean: Floats) -> Floats:
    """Over the channels, after a uniform change of brightness is taken out; (h, w)."""
    channels = []
    for plane in cv2.split(cv2.subtract(image, mean)):
        offset = np.float32(np.median(plane[::8, ::8]))
        channels.append(np.abs(np.subtract(plane, offset, out=plane), out=plane))
    return cast("Floats", reduce(lambda one, other: np.maximum(one, other, out=one), channels))


def _edges(image: Floats) -> Floats:
    gray = image.mean(axis=2)
    return cast("Floats", np.hypot(cv2.Sobel(gray, cv2.CV_32F, 1, 0), cv2.Sobel(gray, cv2.CV_32F, 0, 1)))
