"""Tracklets, sightings and stores for the tests of the application's back end."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.frame import Frame, Image, TimeSource
from pipeline.identify import Link, Sighting
from pipeline.store import Store
from pipeline.tracklets import Crop, RejectedTracklet, Rejection, Tracklet
from reid.calibration import Calibration, Curve
from reid.embedding import rounded
from reid.modality import Modality

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)
DIMENSION = 4
MODEL = "tiny@sha256:0123456789abcdef"
RESOLUTION_WH = (320, 240)

# Steeper within a modality than across: a cosine of 0.5 means "even" between RGB and RGB, 0.3 across.
CALIBRATION = Calibration(
    {
        (a, b): Curve(slope=20.0, intercept=-10.0 if a is b else -6.0)
        for n, a in enumerate(Modality)
        for b in list(Modality)[n:]
    }
)


def unit(*numbers: float) -> NDArray[np.float32]:
    vector = np.array(numbers, np.float32)
    return np.asarray(vector / np.linalg.norm(vector), np.float32)


def axis(number: int) -> NDArray[np.float32]:
    return np.asarray(np.eye(DIMENSION, dtype=np.float32)[number])


def crop_image(modality: Modality, *, seed: int = 0) -> Image:
    rng = np.random.default_rng(seed)
    if modality is Modality.RGB:
        return rng.integers(0, 256, (48, 20, 3), dtype=np.uint8)
    if modality is Modality.NIR:
        return rng.integers(0, 256, (48, 20), dtype=np.uint8)
    return rng.integers(7000, 9000, (48, 20), dtype=np.uint16)


def tracklet_of(
    name: str,
    *,
    modality: Modality = Modality.RGB,
    at: float = 0.0,
    seconds: float = 1.0,
    box: Sequence[float] = (10.0, 20.0, 30.0, 70.0),
    crops: int = 2,
) -> Tracklet:
    """A tracklet called ``<camera>-<anything>`` with ten boxes a second, standing still."""
    camera = name.split("-")[0]
    count = round(seconds * 10) + 1
    start = NOON + timedelta(seconds=at)
    xyxy = np.tile(np.array(box, np.float32), (count, 1))
    views = tuple(
        Crop(crop_image(modality, seed=k), k, start + timedelta(seconds=k / 10), xyxy[0], 0.5 + 0.1 * k)
        for k in range(crops)
    )
    return Tracklet(
        tracklet_id=name,
        camera_id=camera,
        modality=modality,
        track_id=1,
        start=start,
        end=start + timedelta(seconds=(count - 1) / 10),
        time_source=TimeSource.CONFIGURED_START,
        frame_index=np.arange(count) + round(at * 10),
        xyxy=xyxy,
        confidence=np.full(count, 0.9, np.float32),
        resolution_wh=RESOLUTION_WH,
        crops=views,
    )


def sighting_of(
    tracklet: Tracklet, *, person: int = 1, vector: NDArray[np.float32] | None = None, links: tuple[Link, ...] = ()
) -> Sighting:
    return Sighting(tracklet, axis(0) if vector is None else rounded(vector), person, links)


def rejected_of(tracklet: Tracklet) -> RejectedTracklet:
    return RejectedTracklet(tracklet, Rejection.TOO_SMALL)


def open_store(root: Path) -> Store:
    return Store.open(root, model_id=MODEL, dimension=DIMENSION, calibration=CALIBRATION)


def frame_of(index: int, *, modality: Modality = Modality.RGB, wh: tuple[int, int] = RESOLUTION_WH) -> Frame:
    shape = (wh[1], wh[0], 3) if modality is Modality.RGB else (wh[1], wh[0])
    dtype = np.uint16 if modality is Modality.THERMAL else np.uint8
    image = np.full(shape, 90, dtype)
    moment = NOON + timedelta(seconds=index / 10)
    return Frame(image, "gate", modality, index, index / 10, moment, TimeSource.CONFIGURED_START)
