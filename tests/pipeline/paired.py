"""Two cameras at one place, in two modalities, whose clocks differ: people of a few pixels walk by."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
from numpy.typing import NDArray

from pipeline.frame import Frame, TimeSource
from reid.modality import Modality

WIDTH, HEIGHT, FPS = 160, 96, 10.0
BEGIN = datetime(2026, 6, 1, 12, tzinfo=UTC)


@dataclass(frozen=True)
class Walker:
    """Somebody who enters at a time, at a speed in pixels a second (negative: from the right), with a step a second."""

    enters: float
    speed: float
    steps: float
    row: int

    def box(self, seconds: float) -> tuple[float, float, float, float] | None:
        """Left, top, right, bottom; None when out of view."""
        gone = (seconds - self.enters) * abs(self.speed)
        if not 0 <= gone <= WIDTH + 16:
            return None
        left = gone - 16 if self.speed > 0 else WIDTH - gone
        return left, self.row, left + 16, self.row + 44


def walkers(seconds: float, *, seed: int = 1, gap: float = 4.0) -> list[Walker]:
    """People for so long."""
    rng = np.random.default_rng(seed)
    found, now = [], 1.0
    while now < seconds:
        found.append(
            Walker(now, rng.uniform(25, 45) * rng.choice([-1, 1]), rng.uniform(1.6, 2.2), rng.integers(20, 46))
        )
        now += rng.exponential(gap)
    return found


def shape(people: list[Walker], seconds: float, *, ahead: float = 0.0) -> NDArray[np.float32]:
    """How much of each pixel is somebody, 0 to 1: a trunk, and legs that open and close.

    What is seen of them lies ``ahead`` pixels before their middle.
    """
    columns = np.arange(WIDTH, dtype=np.float32)
    covered = np.zeros((HEIGHT, WIDTH), np.float32)
    for person in people:
        if (box := person.box(seconds)) is None:
            continue
        left, top, right, _ = box
        middle = (left + right) / 2 + float(np.copysign(ahead, person.speed))
        spread = 7 * abs(np.sin(np.pi * person.steps * (seconds - person.enters)))
        for rows, half in ((slice(int(top), int(top) + 22), 5.0), (slice(int(top) + 22, int(top) + 44), 2.0 + spread)):
            covered[rows] = np.maximum(covered[rows], np.clip(half + 0.5 - np.abs(columns - middle), 0, 1))
    return covered


def film(
    camera_id: str,
    modality: Modality,
    people: list[Walker],
    *,
    seconds: float,
    phase: float = 0.0,
    skew: float = 0.0,
    drift: float = 0.0,
    ahead: float = 0.0,
) -> Iterator[tuple[float, Frame]]:
    """Frames, each with its true time; its own clock says ``true * (1 + drift) + skew``."""
    rng = np.random.default_rng(7 if modality is Modality.RGB else 8)
    noise = rng.normal(0, 1, (16, HEIGHT, WIDTH)).astype(np.float32)  # made once: it is most of the work
    texture = rng.integers(60, 150, (HEIGHT, WIDTH, 3)).astype(np.float32)
    for index in range(int(seconds * FPS)):
        true = index / FPS + phase
        covered = shape(people, true, ahead=ahead)
        if modality is Modality.RGB:
            picture = texture * (1 - covered[..., None]) + np.array([30, 60, 120], np.float32) * covered[..., None]
            image = np.clip(picture + 3 * noise[rng.integers(16)][..., None], 0, 255).astype(np.uint8)
        else:
            warm = 600 * covered + 20 * np.sin(true / 30)
            counts = 7000 + texture[..., 0] / 4 + warm + 6 * noise[rng.integers(16)]
            image = counts.astype(np.uint16)
        own = true * (1 + drift) + skew
        moment = BEGIN + timedelta(seconds=own)
        yield true, Frame(image, camera_id, modality, index, index / FPS, moment, TimeSource.SENDER_REPORT)
