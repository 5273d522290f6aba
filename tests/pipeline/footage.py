"""Small real recordings for the tests of sources and detectors, and frames of people who walk."""

from collections.abc import Iterable, Sequence
from datetime import timedelta
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.frame import Frame, Image, TimeSource
from reid.modality import Modality
from tests.pipeline.factories import NOON

FPS = 10


def picture(number: int, *, width: int = 96, height: int = 64) -> NDArray[np.uint8]:
    """RGB: red on the left, blue on the right, the number as brightness of the middle."""
    image = np.zeros((height, width, 3), np.uint8)
    image[:, : width // 3, 0] = 220
    image[:, width // 3 : 2 * width // 3] = (10 * number) % 200
    image[:, 2 * width // 3 :, 2] = 220
    return image


def write_video(
    path: Path,
    pictures: Sequence[NDArray[np.uint8]],
    *,
    pts: Sequence[int] | None = None,
    options: dict[str, str] | None = None,
) -> Path:
    """H.264 with the index in front, so that a cut-off file still opens; ``pts`` in hundredths of a second."""
    settings = {"movflags": "+faststart"} | (options or {})
    with av.open(path, "w", options=settings) as container:
        stream = container.add_stream("libx264", rate=FPS, options={"preset": "ultrafast", "bf": "0", "g": "5"})
        stream.height, stream.width = pictures[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = Fraction(1, 100)
        for number, image in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts = pts[number] if pts else number * 100 // FPS
            frame.time_base = Fraction(1, 100)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def write_images(folder: Path, images: Iterable[Image], *, suffix: str = "png") -> Path:
    """1.png, 2.png, ... ; RGB is written as OpenCV wants it."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, image in enumerate(images, start=1):
        stored = image[:, :, ::-1] if image.ndim == 3 else image
        assert cv2.imwrite(str(folder / f"{number}.{suffix}"), stored)
    return folder


def frame_of(
    image: Image, index: int, *, camera_id: str = "gate", modality: Modality = Modality.RGB, fps: float = FPS
) -> Frame:
    seconds = index / fps
    return Frame(
        image=image,
        camera_id=camera_id,
        modality=modality,
        index=index,
        pts_seconds=seconds,
        captured_at=NOON + timedelta(seconds=seconds),
        time_source=TimeSource.CONFIGURED_START,
    )
