"""What every detector is, and what those with a network share."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from numpy.typing import ArrayLike

from pipeline.errors import UsageError
from pipeline.frame import Frame
from trackers.structures import Detections

logger = logging.getLogger(__name__)

WANTED = {  # as detector.weights, by backend
    "onnx": "an ONNX export of YOLOX (such as yolox_nano.onnx)",
    "ultralytics": "a YOLO or RT-DETR checkpoint or export with a class called person (such as yolov8n.pt)",
}


class Detector(Protocol):
    """Finds people.

    Attributes:
        together: Whether frames gain from going through at once.
    """

    @property
    def together(self) -> bool: ...

    def detect(self, frames: Sequence[Frame]) -> list[Detections]:
        """Find the people of each frame.

        Args:
            frames: Of any cameras; those of one camera in order of time.

        Returns:
            One for each frame, in the same order; boxes in pixels of the frame, clipped to it.
        """
        ...

    def forget(self, camera_id: str) -> None:
        """Begin anew with a camera: its view may be another one now."""
        ...


@dataclass(frozen=True, slots=True)
class NetworkSettings:
    """How a network is run.

    Attributes:
        confidence: Least confidence of a box.
        iou: Boxes that overlap more are one person.
        input_size: Longer side of the input in pixels; None for what the weights were made for.
        device: auto, cpu, cuda or cuda:N.
        invert_thermal: Whether thermal frames are shown black-hot, as networks trained on colour photographs need it.
    """

    confidence: float = 0.25
    iou: float = 0.6
    input_size: int | None = None
    device: str = "auto"
    invert_thermal: bool = True


class Sieve:
    """Keeps what a network puts out that is a box.

    One that puts out NaN or boxes turned inside out, because its weights are damaged or half precision overflows, would
    look like an empty scene: the log says so at the first such box, the tenth, the hundredth, and so on.
    """

    def __init__(self, weights: Path) -> None:
        self._weights = weights
        self._dropped, self._tell_at = 0, 1

    def keep(self, xyxy: ArrayLike, confidence: ArrayLike, frame: Frame) -> Detections:
        """The boxes of a frame, (n, 4) and (n,), that are boxes and of which some lies within the frame."""
        found, dropped = Detections.usable(xyxy, confidence, resolution_wh=frame.resolution_wh)
        self._dropped += sum(dropped)
        if self._dropped >= self._tell_at:
            self._tell_at = 10 ** len(str(self._dropped))
            reasons = ", ".join(f"{name} {count}" for name, count in dropped._asdict().items() if count)
            logger.warning(
                "detector.weights: %s puts out what is no box on camera %s (%s); %d left out so far",
                self._weights, frame.camera_id, reasons, self._dropped,
            )  # fmt: skip
        return found


def check_weights(weights: Path, *, backend: str) -> None:
    """Make sure that there is a file before a library looks for one, or downloads one.

    Args:
        weights: The configured path.
        backend: Name of the detector, which says what belongs there.

    Raises:
        UsageError: When there is nothing, or a text.
    """
    wanted = WANTED[backend]
    if not weights.exists():
        raise UsageError(
            f"detector.weights: no file at {weights} (relative to {Path.cwd()}); put {wanted} there. "
            f"Nothing is downloaded. The motion backend needs no weights"
        )
    if weights.is_file():
        with weights.open("rb") as stream:
            head = stream.read(512)
        if not head or (head.isascii() and b"\0" not in head):
            raise UsageError(
                f"detector.weights: {weights} is {'empty' if not head else 'a text'}, not {wanted} ({backend})"
            )
