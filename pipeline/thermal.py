"""Thermal counts to 8 bits, for detectors and eyes, without flicker. The raw frame stays what it is."""

from collections.abc import Mapping
from typing import cast

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.frame import Frame, Image
from reid.modality import Modality

Gray8 = NDArray[np.uint8]

_SAMPLE_STEP = 4  # limits are found on every fourth pixel of every fourth row
_LEAST_SPAN = 64.0  # counts; below it, the noise of the sensor would be shown as a scene
_HEADROOM = (0.25, 1.0)  # of the span of the first frame, below and above: hot people enter an empty scene
_FOLLOW_SECONDS = 10.0  # time constant with which limits follow the drift of the scene
_REBUILD_LEVELS = 0.25  # of the 256: smaller moves of the limits do not rebuild the table


class ThermalWindow:
    """The 8-bit window of one camera.

    With limits, it is fixed. Without them: 8-bit input is passed through, for the camera has made its choice; of
    16-bit input, the first frame's 0.5 and 99.5 percentiles with some headroom are the limits, which from then on
    only shift with the drift of most pixels, slowly filtered: a hot object moves no background pixel.
    """

    def __init__(self, *, low: float | None = None, high: float | None = None, white_hot: bool = True) -> None:
        """Choose the limits.

        Args:
            low: Counts shown as 0 in a white-hot image; None for automatic limits.
            high: Counts shown as 255.
            white_hot: Whether hot things have high counts; otherwise the result is turned, so that it is white-hot.

        Raises:
            ValueError: When only one limit is given, or low is not below high.
        """
        if (low is None) != (high is None):
            raise ValueError(f"low and high must be given together, got {low} and {high}")
        if low is not None and high is not None and low >= high:
            raise ValueError(f"low must be below high, got {low} and {high}")
        self._automatic = low is None
        self._limits = None if low is None or high is None else (low, high)
        self._white_hot = white_hot
        self._table: Gray8 | None = None
        self._table_limits: tuple[float, float] | None = None
        self._reference: NDArray[np.int32] | None = None
        self._drift = 0.0
        self._seen_at = 0.0

    @property
    def limits(self) -> tuple[float, float] | None:
        """Counts shown as 0 and 255 (before turning a black-hot image); None before the first frame."""
        return self._limits

    def eight_bit(self, image: Image, *, pts_seconds: float) -> Gray8:
        """Show counts as white-hot 8-bit grey.

        Args:
            image: Mono uint8 or uint16 (h, w).
            pts_seconds: Its time, not decreasing.

        Returns:
            uint8 (h, w).
        """
        if image.dtype == np.uint8 and self._automatic:
            return cast("Gray8", image if self._white_hot else 255 - image)
        if self._automatic:
            self._follow(image, pts_seconds)
        return cast("Gray8", np.take(self._current_table(), image))

    def _follow(self, image: Image, pts_seconds: float) -> None:
        sample = image[::_SAMPLE_STEP, ::_SAMPLE_STEP].astype(np.int32)
        if self._limits is None or self._reference is None or self._reference.shape != sample.shape:
            low, high = (float(value) for value in np.percentile(sample, (0.5, 99.5)))
            span = max(high - low, _LEAST_SPAN)
            self._limits = (low - _HEADROOM[0] * span, high + _HEADROOM[1] * span)
            self._reference, self._drift, self._seen_at = sample, 0.0, pts_seconds
            return
        share = 1 - float(np.exp(-(pts_seconds - self._seen_at) / _FOLLOW_SECONDS))
        shift = share * (float(np.median(sample - self._reference)) - self._drift)
        self._seen_at = pts_seconds
        self._drift += shift
        self._limits = (self._limits[0] + shift, self._limits[1] + shift)

    def _current_table(self) -> Gray8:
        """The table of all 65536 counts, made anew when the limits have visibly moved."""
        low, high = self._limits or (0.0, 65535.0)
        level = (high - low) / 255
        if (
            self._table is None
            or self._table_limits is None
            or abs(low - self._table_limits[0]) > _REBUILD_LEVELS * level
        ):
            counts = np.arange(65536, dtype=np.float32)
            table = np.clip((counts - low) / level + 0.5, 0, 255).astype(np.uint8)
            self._table, self._table_limits = table if self._white_hot else 255 - table, (low, high)
        return self._table


class Windows:
    """The windows of all cameras; a camera without one gets an automatic one."""

    def __init__(self, by_camera: Mapping[str, ThermalWindow] | None = None) -> None:
        self._by_camera = dict(by_camera or {})

    def gray8(self, frame: Frame) -> Gray8:
        """A mono frame in 8 bits, (h, w).

        Raises:
            ValueError: When the frame is RGB.
        """
        if frame.image.ndim != 2:
            raise ValueError(f"camera {frame.camera_id}: a mono frame is needed, got {frame.image.shape}")
        if frame.image.dtype == np.uint8 and frame.modality is not Modality.THERMAL:
            return cast("Gray8", frame.image)
        return self[frame.camera_id].eight_bit(frame.image, pts_seconds=frame.pts_seconds)

    def rgb8(self, frame: Frame, *, invert_thermal: bool = False) -> NDArray[np.uint8]:
        """Any frame as RGB uint8 (h, w, 3), for detectors and drawing.

        Args:
            frame: RGB frames are passed through, not copied.
            invert_thermal: Whether thermal comes out black-hot, as detectors trained on colour photographs need it.
        """
        if frame.image.ndim == 3:
            return cast("NDArray[np.uint8]", frame.image)
        gray = self.gray8(frame)
        if invert_thermal and frame.modality is Modality.THERMAL:
            gray = np.bitwise_not(gray)
        return cast("NDArray[np.uint8]", cv2.cvtColor(gray, cv2.COLOR_GRAY2RGB))

    def __getitem__(self, camera_id: str) -> ThermalWindow:
        """The window of a camera."""
        return self._by_camera.setdefault(camera_id, ThermalWindow())

    def replace(self, camera_id: str, window: ThermalWindow) -> None:
        """Give a camera another window: its settings have changed."""
        self._by_camera[camera_id] = window
