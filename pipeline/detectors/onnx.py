"""YOLOX through ONNX Runtime: the permissively licensed network (Ge et al., "YOLOX", 2021)."""

from collections.abc import Sequence
from pathlib import Path
from typing import cast

import cv2
import numpy as np
import onnxruntime
from numpy.typing import NDArray

from pipeline.detectors.base import WANTED, NetworkSettings, Sieve, check_weights
from pipeline.errors import ResourceError, UsageError
from pipeline.frame import Frame
from pipeline.thermal import Windows
from trackers.structures import Detections

Floats = NDArray[np.float32]

_WANTED = WANTED["onnx"]
_STRIDES = (8, 16, 32)
_PADDING = 114
_PERSON = 0  # in COCO's order of classes


class OnnxDetector:
    """A YOLOX export; see ``pipeline.detectors.base.Detector``."""

    together = True

    def __init__(self, weights: Path, *, settings: NetworkSettings, windows: Windows) -> None:
        """Load the weights, and run them once on an empty image: another network is told here, not at the first frame.

        Args:
            weights: Input (n, 3, h, w) raw BGR 0 to 255; output (n, cells, 5 + classes), not decoded.
            settings: How to run it.
            windows: 16-bit frames to 8 bits.

        Raises:
            UsageError: When there is no such file, or it is not such a model.
            ResourceError: When the device is not there.
        """
        check_weights(weights, backend="onnx")
        self._weights, self._sieve = weights, Sieve(weights)
        self._settings = settings
        self._windows = windows
        self._session = _open_session(weights, settings.device)
        self._input_name, (batch, _, height, width) = _checked_input(self._session, weights)
        self._fixed_batch = batch if isinstance(batch, int) else None
        size = settings.input_size or 416
        self._input_hw = (height if isinstance(height, int) else size, width if isinstance(width, int) else size)
        if settings.input_size and max(self._input_hw) != settings.input_size:
            raise UsageError(f"detector.input_size: {weights} is fixed at {self._input_hw}, not {settings.input_size}")
        self._grid, self._stride = _make_grid(self._input_hw)
        self._run(np.zeros((1, 3, *self._input_hw), np.float32))

    def detect(self, frames: Sequence[Frame]) -> list[Detections]:
        """As many forward passes as the export's batch size asks for."""
        if not frames:
            return []
        invert = self._settings.invert_thermal
        pictures = [self._windows.rgb8(frame, invert_thermal=invert) for frame in frames]
        letters = [_letterbox(picture, self._input_hw) for picture in pictures]
        output = self._run(np.stack([image for image, _ in letters]))
        return [
            self._decode(rows, scale, frame) for rows, (_, scale), frame in zip(output, letters, frames, strict=True)
        ]

    def forget(self, camera_id: str) -> None:
        """Nothing is remembered of any camera."""

    def _run(self, images: Floats) -> Floats:
        size = self._fixed_batch or len(images)
        parts = []
        for first in range(0, len(images), size):
            part = images[first : first + size]
            filled = np.concatenate([part, np.zeros((size - len(part), *part.shape[1:]), np.float32)])
            parts.append(self._pass(filled)[: len(part)])
        return np.concatenate(parts)

    def _pass(self, images: Floats) -> Floats:
        """One forward pass, its answer checked."""
        try:
            output = self._session.run(None, {self._input_name: images})[0]
        except Exception as error:  # noqa: BLE001 (its exceptions have no common base)
            raise UsageError(
                f"detector.weights: {self._weights} cannot be run on {images.shape} float32: {error}; {_WANTED} can"
            ) from None
        count, cells = len(images), len(self._grid)
        if output.ndim != 3 or output.shape[:2] != (count, cells) or output.shape[2] < 6:
            raise UsageError(
                f"detector.weights: {self._weights} puts out {output.shape}, expected ({count}, {cells}, "
                f"5 + classes): {_WANTED}"
            )
        return cast("Floats", output)

    def _decode(self, rows: Floats, scale: float, frame: Frame) -> Detections:
        """Grid offsets to pixels of the frame, then non-maximum suppression."""
        confidence = rows[:, 4] * rows[:, 5 + _PERSON]
        likely = ~(confidence < self._settings.confidence)  # NaN is to be counted, and not overlooked
        rows, confidence, stride = rows[likely], confidence[likely], self._stride[likely]
        centre = (rows[:, :2] + self._grid[likely]) * stride / scale
        with np.errstate(over="ignore"):  # a box without end is none
            half = np.exp(rows[:, 2:4]) * stride / scale / 2
        found = self._sieve.keep(np.hstack([centre - half, centre + half]), confidence, frame)
        xyxy, confidence = found.xyxy.copy(), found.confidence
        xyxy[:, 0::2] = xyxy[:, 0::2].clip(0, frame.resolution_wh[0])
        xyxy[:, 1::2] = xyxy[:, 1::2].clip(0, frame.resolution_wh[1])
        real = (xyxy[:, 2:] - xyxy[:, :2] > 1).all(axis=1)
        xyxy, confidence = xyxy[real], confidence[real]
        if not len(xyxy):
            return Detections.empty()
        xywh = np.hstack([xyxy[:, :2], xyxy[:, 2:] - xyxy[:, :2]])
        kept = cv2.dnn.NMSBoxes(xywh.tolist(), confidence.tolist(), self._settings.confidence, self._settings.iou)
        rows_kept = np.asarray(kept, np.int64).reshape(-1)
        return Detections(xyxy[rows_kept], confidence[rows_kept])


def _open_session(weights: Path, device: str) -> onnxruntime.InferenceSession:
    available = onnxruntime.get_available_providers()
    has_cuda = "CUDAExecutionProvider" in available
    if device.startswith("cuda") and not has_cuda:
        raise ResourceError(f"detector.device: {device} is not there: this ONNX Runtime has no CUDA; use auto or cpu")
    provider = "CUDAExecutionProvider" if has_cuda and device != "cpu" else "CPUExecutionProvider"
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(str(weights), options, providers=[provider])
    except Exception as error:  # noqa: BLE001 (its exceptions have no common base)
        raise UsageError(f"detector.weights: {weights} cannot be loaded as {_WANTED}: {error}") from None


def _checked_input(
    session: onnxruntime.InferenceSession, weights: Path
) -> tuple[str, tuple[int | str, int | str, int | str, int | str]]:
    """Name and shape of the one input; a free size has a name instead of a number."""
    inputs, outputs = session.get_inputs(), session.get_outputs()
    if (len(inputs), len(outputs)) != (1, 1):
        raise UsageError(
            f"detector.weights: {weights} has {len(inputs)} inputs and {len(outputs)} outputs, expected one of each: "
            f"{_WANTED}"
        )
    for end in (inputs[0], outputs[0]):
        if end.type != "tensor(float)":
            raise UsageError(
                f"detector.weights: {weights}: {end.name} is {end.type}, expected tensor(float): {_WANTED}"
            )
    shape = inputs[0].shape
    if len(shape) != 4 or (isinstance(shape[1], int) and shape[1] != 3):
        raise UsageError(f"detector.weights: {weights} takes {shape}, expected (n, 3, h, w): {_WANTED}")
    return inputs[0].name, tuple(shape)


def _make_grid(input_hw: tuple[int, int]) -> tuple[Floats, Floats]:
    """Column and row (cells, 2), and stride (cells, 1), of every output cell."""
    grids, strides = [], []
    for stride in _STRIDES:
        rows, columns = input_hw[0] // stride, input_hw[1] // stride
        x, y = np.meshgrid(np.arange(columns), np.arange(rows))
        grids.append(np.stack([x.ravel(), y.ravel()], axis=1))
        strides.append(np.full((rows * columns, 1), stride))
    return np.concatenate(grids).astype(np.float32), np.concatenate(strides).astype(np.float32)


def _letterbox(picture: NDArray[np.uint8], input_hw: tuple[int, int]) -> tuple[Floats, float]:
    """Shrink to fit, put top left, pad with grey; (3, h, w) float32 BGR, and the scale."""
    height, width = picture.shape[:2]
    scale = min(input_hw[0] / height, input_hw[1] / width)
    small = cv2.resize(
        picture, (max(1, int(width * scale)), max(1, int(height * scale))), interpolation=cv2.INTER_LINEAR
    )
    canvas = np.full((*input_hw, 3), _PADDING, np.float32)
    canvas[: small.shape[0], : small.shape[1]] = small[:, :, ::-1]  # YOLOX wants BGR
    return np.ascontiguousarray(canvas.transpose(2, 0, 1)), scale
