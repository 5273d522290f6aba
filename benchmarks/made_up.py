"""Tracklets of nobody, for benchmarks of how a gallery keeps them."""

from collections.abc import Sequence
from datetime import datetime, timedelta

import numpy as np
from ulid import ULID

from pipeline.frame import Image, TimeSource
from pipeline.tracklets import Crop, Tracklet
from reid.calibration import Curve
from reid.modality import Modality

CURVES = {(a, b): Curve(9.0, -4.0) for n, a in enumerate(Modality) for b in list(Modality)[n:]}
_BOX = np.array([10, 20, 74, 148], np.float32)


def tracklet_of(camera: str, modality: Modality, *, number: int, start: datetime, images: Sequence[Image]) -> Tracklet:
    """One second of somebody who stands still, with these crops; its name says when it was made."""
    crops = tuple(
        Crop(image, k, start + timedelta(seconds=k / 10), _BOX, 0.5 + k / 10) for k, image in enumerate(images)
    )
    return Tracklet(
        f"{camera}-{ULID()}", camera, modality, 1 + number, start, start + timedelta(seconds=1),
        TimeSource.CONFIGURED_START, np.arange(11), np.tile(_BOX, (11, 1)), np.full(11, 0.9, np.float32), (640, 480),
        crops,
    )  # fmt: skip
