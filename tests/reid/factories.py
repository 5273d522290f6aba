"""Small models, images and tracklet folders that the tests of ``reid`` share."""

import csv
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from reid import presets
from reid.checkpoint import Card
from reid.datasets.crops import Crops
from reid.datasets.folder import read_folder
from reid.loading import TrainingData
from reid.modality import Modality
from reid.models.encoder import EncoderConfig
from reid.models.xreid import XReIDConfig
from reid.trainer import Trainer
from reid.training_config import TrainConfig, config_of
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


def training_settings(**changes: object) -> dict[str, Any]:
    """A training that takes seconds, as YAML would hold it."""
    encoder = encoder_config(stem="convolutional").model_dump(mode="json")
    return {
        "name": "mini",
        "model": {"encoder": encoder, "neck": "batch_norm", "centre_modalities": True},
        "preprocessing": preprocessing().model_dump(mode="json"),
        "augmentation": {"erase": 0.0, "occlude": 0.0},
        "augmentation_ramp_epochs": 2,
        "loss": {"behind_necks": True, "alignment": 1.0, "cmcl": 0.01, "cpcl": 0.1},
        "batch": {"identities": 3, "clips": 1, "frames": 2, "still_epochs": 1},
        "optimiser": {"name": "adamw", "lr": 0.002, "warmup_epochs": 0.5, "schedule": "cosine", "clip_norm": 5.0},
        "epochs": 3,
        "iterations": 60,
        "half_on_disk": True,
        "tensorboard": False,
        "training_data": "coloured bands",
        "licence": "Apache-2.0",
        **changes,
    }


def training_config(**changes: object) -> TrainConfig:
    return TrainConfig.model_validate_json(json.dumps(training_settings(**changes)))


def paper_config(**changes: object) -> TrainConfig:
    """The paper's training on a small encoder without batch normalisation, in float32."""
    changes = {
        "model.encoder": encoder_config(quick_gelu=True).model_dump(mode="json"),
        "preprocessing.size_hw": list(SIZE_HW),
        "pretrained": None,
        "architecture": None,
        "precision": "float32",
        "batch": {"identities": 4, "clips": 2, "frames": 2},
        "epochs": 2,
        "iterations": 3,
        "optimiser.lr": 0.001,
        "tensorboard": False,
        **changes,
    }
    return config_of(presets.as_data("paper"), [f"{k}={json.dumps(v)}" for k, v in changes.items()], where="test")


def trainer_on(root: Path, config: TrainConfig) -> Trainer:
    """On the training split of a tracklet folder, its crops in memory."""
    split = read_folder(root, "train")
    return Trainer(config, TrainingData(split, Crops.load(split, config.preprocessing), config))
