"""Recordings and weights that the tests of the whole line share: a striped figure walks through an empty scene."""

from fractions import Fraction
from itertools import combinations_with_replacement
from pathlib import Path

import av
import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from reid import checkpoint
from reid.calibration import Calibration, Curve
from reid.checkpoint import Card
from reid.modality import Modality
from reid.models.encoder import EncoderConfig
from reid.models.xreid import XReID, XReIDConfig
from reid.transforms import Preprocessing

WIDTH, HEIGHT, FPS = 320, 240, 10


def scene(index: int, *, seed: int = 0) -> NDArray[np.uint8]:
    """Frame ``index``: empty for the first second, then a figure of 30 x 100 pixels crosses at 5 pixels a frame."""
    noise = np.random.default_rng(seed * 1000 + index).integers(0, 5, (HEIGHT, WIDTH, 1))
    image = np.broadcast_to(90 + noise, (HEIGHT, WIDTH, 3)).astype(np.uint8).copy()
    left = 5 * (index - 10)
    if 0 <= left <= WIDTH - 40:
        image[90:115, left + 8 : left + 22] = (210, 160, 130)
        image[115:150, left : left + 30] = (200, 40, 40)
        image[150:190, left + 4 : left + 26] = (30, 40, 150)
    return image


def write_video(path: Path, frames: int = 75, *, crowded: bool = False) -> Path:
    """H.264 in an MP4 whose index stands at the front; crowded: after a second, somebody walks in every frame."""
    with av.open(path, "w", format="mp4", options={"movflags": "+faststart"}) as container:
        stream = container.add_stream("libx264", rate=Fraction(FPS))
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.options = {"preset": "ultrafast", "g": "10"}
        for index in range(frames):
            shown = 11 + (index - 11) % 50 if crowded and index > 11 else index
            container.mux(stream.encode(av.VideoFrame.from_ndarray(scene(shown), format="rgb24")))
        container.mux(stream.encode(None))
    return path


def write_thermal(folder: Path, frames: int = 75) -> Path:
    """16-bit PNG files in which the figure is warm."""
    folder.mkdir(parents=True)
    for index in range(frames):
        image = scene(index, seed=1)
        figure = image.max(axis=2).astype(int) - image.min(axis=2) > 20
        grey = image.astype(int)
        counts = 7300 + grey[..., 0] // 8 + np.where(figure, 500 + grey[..., 1], 0)
        cv2.imwrite(str(folder / f"{index:04d}.png"), counts.astype(np.uint16))
    return folder


def write_weights(path: Path, *, calibrated: bool = True, seed: int = 0) -> Path:
    """A small X-ReID with random weights: enough to test everything but who is found."""
    torch.manual_seed(seed)
    encoder = EncoderConfig(image_size_hw=(32, 16), patch_size=8, width=16, layers=2, head_width=8, output_dim=12)
    model = XReIDConfig(encoder=encoder)
    pairs = combinations_with_replacement(Modality, 2)
    curves = Calibration({pair: Curve(20.0, -15.0) for pair in pairs}).to_dict()
    card = Card(
        name="mini", model=model, preprocessing=Preprocessing(size_hw=(32, 16), frames=4), training_data="none",
        licence="Apache-2.0", calibration=curves if calibrated else None,
    )  # fmt: skip
    checkpoint.save(path, XReID(model), card)
    return path
