"""YOLO and RT-DETR through Ultralytics, which is AGPL-3.0: see the README for what that means, and for alternatives."""

import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.detectors.base import WANTED, NetworkSettings, Sieve, check_weights
from pipeline.errors import ResourceError, UsageError
from pipeline.frame import Frame
from pipeline.thermal import Windows
from trackers.structures import Detections

_WANTED = WANTED["ultralytics"]


class UltralyticsDetector:
    """Any detection model that Ultralytics loads; see ``pipeline.detectors.base.Detector``."""

    together = True

    def __init__(self, weights: Path, *, settings: NetworkSettings, windows: Windows) -> None:
        """Load the weights.

        Args:
            weights: A checkpoint (.pt) or an export (.onnx, .engine, an OpenVINO folder, ...).
            settings: How to run it.
            windows: 16-bit frames to 8 bits.

        Raises:
            UsageError: When there is no such file, it is not a model, or it knows no people.
            ResourceError: When the device is not there.
        """
        check_weights(weights, backend="ultralytics")
        self._settings, self._sieve = settings, Sieve(weights)
        self._windows = windows
        self._device = _choose_device(settings.device)
        self._model = _load(weights)
        self._people = [
            number for number, name in self._model.names.items() if name.lower() in ("person", "pedestrian")
        ]
        if not self._people:
            names = ", ".join(list(self._model.names.values())[:5])
            raise UsageError(f"detector.weights: {weights} has no class person; it has {names}, ...")

    def detect(self, frames: Sequence[Frame]) -> list[Detections]:
        """One forward pass for all frames of one size; half precision on CUDA.

        Frames of several sizes in one pass would be padded to a square, and get other boxes than alone.
        """
        places: dict[tuple[int, ...], list[int]] = {}
        for place, frame in enumerate(frames):
            places.setdefault(frame.image.shape[:2], []).append(place)
        found: dict[int, Detections] = {}
        for group in places.values():
            found.update(zip(group, self._detect([frames[place] for place in group]), strict=True))
        return [found[place] for place in range(len(frames))]

    def forget(self, camera_id: str) -> None:
        """Nothing is remembered of any camera."""

    def _detect(self, frames: Sequence[Frame]) -> list[Detections]:
        invert = self._settings.invert_thermal
        pictures = [  # Ultralytics wants BGR
            np.ascontiguousarray(self._windows.rgb8(frame, invert_thermal=invert)[:, :, ::-1]) for frame in frames
        ]
        results = self._model.predict(
            pictures,
            conf=self._settings.confidence,
            iou=self._settings.iou,
            classes=self._people,
            device=self._device,
            half=self._device.startswith("cuda"),
            verbose=False,
            **({"imgsz": self._settings.input_size} if self._settings.input_size else {}),
        )
        return [
            self._sieve.keep(result.boxes.xyxy.float().cpu().numpy(), result.boxes.conf.float().cpu().numpy(), frame)
            for result, frame in zip(results, frames, strict=True)
        ]


def _choose_device(device: str) -> str:
    import torch  # imported late: it takes a second, and the motion detector does without

    if device == "auto":
        return "cuda:0" if torch.cuda.is_available() else "cpu"
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise ResourceError(f"detector.device: {device} is not there: PyTorch sees no CUDA device; use auto or cpu")
    return "cuda:0" if device == "cuda" else device


def import_yolo() -> Any:
    """Ultralytics' class of models, imported so that the rest of the process stays as it was.

    On import Ultralytics replaces `PIL.Image.open`, by one that fails over what is no picture for want of a package
    (or installs it), and `torch.save`; both are put back.
    """
    import torch
    from PIL import Image

    # Ultralytics reads these when it is imported: never go to the network, never install packages.
    os.environ.setdefault("YOLO_OFFLINE", "true")
    os.environ.setdefault("YOLO_AUTOINSTALL", "false")
    logging.getLogger("ultralytics").setLevel(logging.ERROR)
    opens, saves = Image.open, torch.save
    try:
        from ultralytics.models import YOLO
    finally:
        Image.open, torch.save = opens, saves
    logging.getLogger("ultralytics").setLevel(logging.ERROR)
    return YOLO


def _load(weights: Path) -> Any:
    yolo = import_yolo()
    try:
        model = yolo(str(weights), task="detect")
        _ = model.names
    except Exception as error:  # noqa: BLE001 (the library raises whatever the format's reader raises)
        raise UsageError(f"detector.weights: {weights} cannot be loaded as {_WANTED}: {error}") from None
    return model
