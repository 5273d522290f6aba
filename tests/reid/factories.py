"""Small models, images and tracklet folders that the tests of ``reid`` share."""

import csv
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from reid.checkpoint import Card
from reid.modality import Modality
from reid.models.encoder import EncoderConfig
from reid.models.xreid import XReIDConfig
from reid.transforms import Preprocessing

SIZE_HW = (32, 16)
CAMERAS = {Modality.RGB: ("gate", "lobby"), Modality.NIR: ("yard",), Modality.THERMAL: ("dock",)}


def encoder_config(**changes: object) -> EncoderConfig:
    settings = {"image_size_hw": SIZE_HW, "patch_size": 8, "width": 16, "layers": 2, "head_width": 8, "output_dim": 12}
    return EncoderConfig.model_validate({**settings, **changes})


def model_config(**changes: object) -> XReIDConfig:
    return XReIDConfig.model_validate({"encoder": encoder_config().model_dump(), **changes})


def preprocessing(**changes: object) -> Preprocessing:
    return Preprocessing.model_validate({"size_hw": SIZE_HW, "frames": 4, **changes})


def card(model: XReIDConfig, **changes: object) -> Card:
    settings = {"name": "mini", "training_data": "none", "licence": "Apache-2.0"}
    return Card.model_validate(
        {**settings, "model": model.model_dump(), "preprocessing": preprocessing().model_dump(), **changes}
    )


def person_image(pid: int, modality: Modality, generator: np.random.Generator) -> NDArray[np.generic]:
    """A person as three bands whose brightness all cameras see, and whose hue only RGB does."""
    code = np.random.default_rng(pid).uniform(40, 215, (3, 3))
    code += np.random.default_rng(pid).uniform(-40, 40, 3)[:, None]
    bands = cv2.resize(code.astype(np.float32)[:, None], (18, 40), interpolation=cv2.INTER_NEAREST)
    noisy = bands + generator.normal(0, 6, bands.shape)
    if modality is Modality.THERMAL:
        return (20000 + 25 * noisy.mean(axis=2)).astype(np.uint16)
    eight = noisy.clip(0, 255).astype(np.uint8)
    return eight if modality is Modality.RGB else eight.mean(axis=2).astype(np.uint8)


def write_folder(root: Path, *, train: int = 8, val: int = 5, frames: int = 5) -> Path:
    """Write a tracklet folder as the simulator lays it out."""
    generator = np.random.default_rng(7)
    rows: list[tuple[object, ...]] = []
    for split, pids in (("train", range(train)), ("val", range(100, 100 + val))):
        for pid in pids:
            for modality, cameras in CAMERAS.items():
                for camera in cameras:
                    folder = root / split / f"{pid:05d}" / modality.value / f"{camera}_1"
                    folder.mkdir(parents=True)
                    for k in range(frames):
                        image = person_image(pid, modality, generator)
                        suffix = "png" if modality is Modality.THERMAL else "jpg"
                        stored = image[..., ::-1] if image.ndim == 3 else image
                        assert cv2.imwrite(str(folder / f"{k:03d}.{suffix}"), stored)
                    rows.append((split, pid, camera, modality.value, 1, frames))
    with (root / "tracklets.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("split", "pid", "camid", "modality", "tracklet", "frames"))
        writer.writerows(rows)
    return root
