"""People of fixed cameras as what differs from the background: no weights, no download, any modality."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import cast

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.detectors.background import Background, Floats, Mask
from pipeline.detectors.perspective import Perspective
from pipeline.frame import Frame
from pipeline.thermal import Windows
from trackers.structures import Detections

_TOO_TALL = 1.2  # times the usual height at that place: perhaps more than one person
_TWO_TALL = 1.4  # certainly two, one in front of the other


@dataclass(frozen=True, slots=True)
class MotionSettings:
    """See ``pipeline.config.MotionConfig``, whose defaults these are.

    Attributes:
        working_height_px: Frames are shrunk to about this height before the background is modelled.
        sensitivity: How many times the noise of its pixel a difference must be.
        absorb_seconds: How long something must stand still until it is background.
        min_height_px: Smaller boxes are dropped; pixels of the full frame.
        max_height_share: Larger boxes, as a share of the frame's height, are dropped.
        aspect: Usual height of a walking person divided by the width.
        shadows: Whether cast shadows in colour images are removed.
    """

    working_height_px: int = 240
    sensitivity: float = 4.0
    absorb_seconds: float = 60.0
    min_height_px: float = 24.0
    max_height_share: float = 0.95
    aspect: float = 2.6
    shadows: bool = True


@dataclass(frozen=True, slots=True)
class _Blob:
    """A box in working pixels.

    Attributes:
        left: First column.
        top: First row.
        right: Behind the last column.
        bottom: Behind the last row.
        fill: Share of the box that is foreground.
        contrast: Mean of that foreground, in multiples of the threshold.
        completeness: Height as a share of the usual one at that place, at most 1; 1 where that is not known.
    """

    left: int
    top: int
    right: int
    bottom: int
    fill: float
    contrast: float
    completeness: float

    @property
    def width(self) -> int:
        return self.right - self.left

    @property
    def height(self) -> int:
        return self.bottom - self.top


@dataclass(slots=True)
class _Camera:
    """The state of one camera."""

    background: Background
    perspective: Perspective
    pts_seconds: float
    resolution_wh: tuple[int, int]


class MotionDetector:
    """Background subtraction; see ``pipeline.detectors.base.Detector``. Cameras must not move."""

    together = False

    def __init__(self, settings: MotionSettings, *, windows: Windows, confidence: float = 0.25) -> None:
        """Nothing is learned yet.

        Args:
            settings: Of all cameras.
            windows: 16-bit frames to 8 bits.
            confidence: Least confidence of a box.
        """
        self._settings = settings
        self._windows = windows
        self._confidence = confidence
        self._cameras: dict[str, _Camera] = {}

    def detect(self, frames: Sequence[Frame]) -> list[Detections]:
        """One frame after the other, each by the model of its camera; its first frame, of each size, gives nothing."""
        return [self._detect(frame) for frame in frames]

    def forget(self, camera_id: str) -> None:
        """Its next frame is a first one."""
        self._cameras.pop(camera_id, None)

    def _detect(self, frame: Frame) -> Detections:
        image, scale = self._shrink(frame)
        camera = self._cameras.get(frame.camera_id)
        if camera is None or camera.resolution_wh != frame.resolution_wh:
            self._cameras[frame.camera_id] = _Camera(
                self._new_background(image), Perspective(), frame.pts_seconds, frame.resolution_wh
            )
            return Detections.empty()
        contrast = camera.background.contrast(image)
        mask = _clean(contrast)
        blobs = self._blobs(mask, contrast, image, camera, scale)
        grown = cv2.dilate(mask, np.ones((3, 3), np.uint8))
        camera.background.learn(image, cast("Mask", grown), step_seconds=frame.pts_seconds - camera.pts_seconds)
        camera.pts_seconds = frame.pts_seconds
        return self._detections(blobs, scale, frame.resolution_wh)

    def _shrink(self, frame: Frame) -> tuple[Floats, float]:
        """The frame as float32 (h, w, c), and working pixels a pixel of the frame."""
        picture = frame.image if frame.image.ndim == 3 else self._windows.gray8(frame)
        width, height = frame.resolution_wh
        scale = min(1.0, self._settings.working_height_px / height)
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        small = cv2.blur(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), (3, 3)).astype(np.float32)
        return small.reshape(size[1], size[0], -1), scale

    def _new_background(self, image: Floats) -> Background:
        settings = self._settings
        return Background(
            image,
            sensitivity=settings.sensitivity,
            absorb_seconds=settings.absorb_seconds,
            shadows=settings.shadows,
        )

    def _blobs(self, mask: Mask, contrast: Floats, image: Floats, camera: _Camera, scale: float) -> list[_Blob]:
        count, labels, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
        least_area = 0.15 * (self._settings.min_height_px * scale) ** 2 / self._settings.aspect
        pieces = []
        for label in range(1, count):
            left, top, width, height, area = (int(value) for value in stats[label])
            if area < least_area:
                continue
            region = slice(top, top + height), slice(left, left + width)
            inside = (labels[region] == label).astype(np.uint8)
            if not camera.background.is_ghost(image, region, inside):
                pieces.append((left, top, left + width, top + height))
        aspect = self._settings.aspect
        whole = [(piece, _split(piece, mask, aspect, camera.perspective)) for piece in _merge(pieces, aspect)]
        for piece, parts in whole:
            if len(parts) == 1 and _is_typical(piece, mask, aspect):
                camera.perspective.add(piece[1], piece[3] - piece[1])
        return [_measure(box, mask, contrast, camera.perspective) for _, parts in whole for box in parts]

    def _detections(self, blobs: Sequence[_Blob], scale: float, resolution_wh: tuple[int, int]) -> Detections:
        least = self._settings.min_height_px * scale
        most = self._settings.max_height_share * resolution_wh[1] * scale
        scored = [
            (blob, confidence)
            for blob in blobs
            if least <= blob.height <= most
            and (confidence := _confidence(blob, self._settings.aspect)) >= self._confidence
        ]
        if not scored:
            return Detections.empty()
        xyxy = np.array([(b.left, b.top, b.right, b.bottom) for b, _ in scored], np.float32) / np.float32(scale)
        xyxy[:, 0::2] = xyxy[:, 0::2].clip(0, resolution_wh[0])
        xyxy[:, 1::2] = xyxy[:, 1::2].clip(0, resolution_wh[1])
        return Detections(xyxy, np.array([confidence for _, confidence in scored], np.float32))


def _clean(contrast: Floats) -> Mask:
    """Foreground without specks, gaps between head, torso and legs closed; 0 or 1."""
    mask = (contrast >= 1).astype(np.uint8)
    mask = cv2.medianBlur(mask, 3).astype(np.uint8)
    tall = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (3, 7))
    return cast("Mask", cv2.morphologyEx(mask, cv2.MORPH_CLOSE, tall))


Box = tuple[int, int, int, int]


def _merge(pieces: Sequence[Box], aspect: float) -> list[Box]:
    """Join pieces that lie above one another, as long as the whole is no taller than a person of its width."""
    boxes = sorted(pieces, key=lambda box: box[1] - box[3])
    merged = True
    while merged:
        merged = False
        for i in range(len(boxes)):
            for j in range(i + 1, len(boxes)):
                if _is_one_person(boxes[i], boxes[j], aspect):
                    boxes[i] = _around(boxes[i], boxes.pop(j))
                    merged = True
                    break
            if merged:
                break
    return boxes


def _is_one_person(a: Box, b: Box, aspect: float) -> bool:
    return _is_stacked(a, b, aspect) or _is_beside(a, b)


def _is_stacked(a: Box, b: Box, aspect: float) -> bool:
    """Head above torso above legs."""
    whole = _around(a, b)
    width, height = whole[2] - whole[0], whole[3] - whole[1]
    widths = a[2] - a[0], b[2] - b[0]
    shared = min(a[2], b[2]) - max(a[0], b[0])
    gap = max(a[1], b[1]) - min(a[3], b[3])
    if shared < 0.5 * min(widths) or width > 1.35 * max(widths):
        return False
    return gap <= 0.15 * height and height <= 1.6 * aspect * width


def _is_beside(a: Box, b: Box) -> bool:
    """A bag, a hand or a foot next to a person."""
    whole = _around(a, b)
    width, height = whole[2] - whole[0], whole[3] - whole[1]
    small, tall = sorted((a[3] - a[1], b[3] - b[1]))
    gap = max(a[0], b[0]) - min(a[2], b[2])
    return small < 0.5 * tall and height <= 1.1 * tall and gap <= 0.08 * tall and width <= 0.9 * tall


def _around(a: Box, b: Box) -> Box:
    return min(a[0], b[0]), min(a[1], b[1]), max(a[2], b[2]), max(a[3], b[3])


def _is_typical(box: Box, mask: Mask, aspect: float) -> bool:
    """Whether a blob is likely to be one whole person: upright, and clear of the borders of the image."""
    left, top, right, bottom = box
    clear = left > 1 and top > 1 and right < mask.shape[1] - 1 and bottom < mask.shape[0] - 1
    return clear and 0.6 * aspect < (bottom - top) / (right - left) < 1.5 * aspect


def _split(box: Box, mask: Mask, aspect: float, perspective: Perspective) -> list[Box]:
    """Cut a blob that is too large for one person between its heads: maxima of the upper outline.

    Where the perspective is known, each part reaches down from its head by the height of a person there.
    """
    left, top, right, bottom = box
    width, height = right - left, bottom - top
    expected = perspective.height_at(top) or float(height)
    person = min(expected, height) / aspect
    if height < 8 or (width < 1.5 * person and height < _TOO_TALL * expected):
        return [box]
    parts = _split_by_heads(box, mask, person, min(expected, height))
    return [each for part in parts for each in _split_by_height(part, mask, perspective)]


def _split_by_heads(box: Box, mask: Mask, person_width: float, person_height: float) -> list[Box]:
    left, top, right, bottom = box
    width, height = right - left, bottom - top
    inside = mask[top:bottom, left:right] > 0
    tops = np.where(inside.any(axis=0), height - inside.argmax(axis=0), 0).astype(np.float32)
    profile = np.asarray(
        cv2.GaussianBlur(tops.reshape(1, -1), (0, 0), max(1.0, 0.12 * person_width)), np.float32
    ).ravel()
    heads = _peaks(profile, distance=0.5 * person_width, least=0.45 * height, dip=0.07 * person_height)
    if len(heads) < 2:
        return [box]
    cuts = [0, *(a + int(profile[a:b].argmin()) for a, b in pairwise(heads)), width]
    parts = (_tighten((left + a, top, left + b, bottom), mask) for a, b in pairwise(cuts))
    return [part for part in parts if part]


def _split_by_height(box: Box, mask: Mask, perspective: Perspective) -> list[Box]:
    """One person at the upper end of a blob far too tall, and one at the lower end, nearer to the camera."""
    left, top, right, bottom = box
    upper, lower = perspective.height_at(top), perspective.height_above(bottom)
    if upper is None or lower is None or bottom - top < _TWO_TALL * upper:
        return [box]
    behind = _tighten((left, top, right, top + round(upper)), mask)
    front = _tighten((left, max(top, bottom - round(lower)), right, bottom), mask)
    return [part for part in (behind, front) if part]


def _peaks(profile: NDArray[np.float32], *, distance: float, least: float, dip: float) -> list[int]:
    """Highest positions first, none nearer than ``distance`` to a higher one, with a dip between; in order."""
    chosen: list[int] = []
    for position in np.argsort(-profile, kind="stable").tolist():
        if profile[position] < least:
            break
        if all(
            abs(position - other) >= distance
            and profile[min(position, other) : max(position, other) + 1].min() < profile[position] - dip
            for other in chosen
        ):
            chosen.append(position)
    return sorted(chosen)


def _tighten(box: Box, mask: Mask) -> Box | None:
    left, top, right, bottom = box
    inside = mask[top:bottom, left:right]
    rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
    if not len(rows):
        return None
    return left + int(columns[0]), top + int(rows[0]), left + int(columns[-1]) + 1, top + int(rows[-1]) + 1


def _measure(box: Box, mask: Mask, contrast: Floats, perspective: Perspective) -> _Blob:
    left, top, right, bottom = box
    inside = mask[top:bottom, left:right] > 0
    values = contrast[top:bottom, left:right][inside]
    expected = perspective.height_at(top)
    return _Blob(
        *box,
        fill=float(inside.mean()),
        contrast=float(values.mean()) if len(values) else 0.0,
        completeness=min(1.0, (bottom - top) / expected) if expected else 1.0,
    )


def _confidence(blob: _Blob, aspect: float) -> float:
    """How much a blob is like one whole person: 0.95 at best."""
    shape = math.exp(-((math.log(blob.height / blob.width / aspect) / 0.7) ** 2))
    fill = min(1.0, blob.fill / 0.4)
    contrast = min(1.0, blob.contrast / 2)
    whole = min(1.0, blob.completeness / 0.6)
    return 0.95 * whole * math.sqrt(shape * fill * contrast)
