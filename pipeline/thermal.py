"""Thermal counts to 8 bits, for detectors and eyes, without flicker. The raw frame stays what it is."""

import logging
from collections.abc import Mapping
from copy import copy
from enum import StrEnum
from typing import cast

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.frame import Frame, Image
from reid.modality import Modality

logger = logging.getLogger(__name__)

Gray8 = NDArray[np.uint8]

_SAMPLE_STEP = 4  # limits are found on every fourth pixel of every fourth row
_LEAST_SPAN = 64.0  # counts; below it, the noise of the sensor would be shown as a scene
_HEADROOM = (0.25, 1.0)  # of the span of the first frame, at the cold end and the hot: hot people enter an empty scene
_FOLLOW_SECONDS = 10.0  # time constant with which limits follow the drift of the scene
_REBUILD_LEVELS = 0.25  # of the 256: smaller moves of the limits do not rebuild the table
_SUDDEN_SHARE = 0.15  # of the limits' span: no scene drifts so far at once; a shutter closes, or the gain is switched
_CLIPPED_SHARE = 0.5  # of the pixels outside the limits: they do not fit the scene, whatever stands in it
_FLAT_SHARE = 1 / 16  # of the limits' span: a scene that covers less is hardly seen
_PATIENCE_SECONDS = 3.0  # before limits that do not fit are found anew; a shutter closes for less
_FLAT_PATIENCE_SECONDS = 30.0
_STILL_LEVELS = 0.03  # of the limits' span: a pixel that differs from the reference by less shows what it showed then
_STILL_NOISES = 2.5  # or by less than so many times the noise between two frames
_LEAST_NOISE, _NOISE_PACE = 1.0, 1.1  # counts; and by what share it may change from frame to frame
_MEDIAN_OF_NORMAL = 0.6745  # of the absolute value, in standard deviations
_STILL_SHARE = 0.2  # of the pixels: where so many do, something stands before the others
_COVERED_PATIENCE_SECONDS = 60.0  # for that to go away
_LOOK_SECONDS = 1.0  # between two looks at whether they fit


class Polarity(StrEnum):
    """What a thermal camera shows bright."""

    WHITE_HOT = "white_hot"
    BLACK_HOT = "black_hot"
    AUTO = "auto"  # found by what moves


_JUDGE_STEP = 8  # every eighth pixel of every eighth row
_BACKGROUND_SECONDS = 20.0  # time constant of the background against which things move
_NOISES = 6.0  # a pixel that is so many times the usual difference away from the background is something
_LEAST_SOMETHING = 0.02  # of the scene's range
_MOVING_SHARE = (0.0005, 0.15)  # of the pixels: less is noise, more is a change of the whole scene
_VERDICT_SECONDS = 3.0  # of things on one side, less those on the other


class PolarityJudge:
    """Finds a camera's polarity: people are warmer than most that stands around them, so what moves is hot.

    On a day that is hotter than skin it is not so; then the polarity must be configured.
    """

    def __init__(self) -> None:
        self.verdict: Polarity | None = None
        self._background: NDArray[np.float32] | None = None
        self._score = 0.0
        self._seen_at = 0.0

    def look(self, image: Image, *, pts_seconds: float) -> None:
        """Take a frame into account; the verdict, once found, stays."""
        sample = image[::_JUDGE_STEP, ::_JUDGE_STEP].astype(np.float32)
        anew = pts_seconds < self._seen_at  # the camera began again, and may show something else
        if self._background is None or self._background.shape != sample.shape or anew:
            self._background, self._seen_at, self._score = sample, pts_seconds, 0.0
            return
        passed = min(pts_seconds - self._seen_at, 1.0)
        self._seen_at = pts_seconds
        difference = sample - self._background
        difference -= np.median(difference)
        self._score += passed * _lean(difference, float(np.ptp(np.percentile(sample, (1, 99)))))
        self._background += (1 - float(np.exp(-passed / _BACKGROUND_SECONDS))) * (sample - self._background)
        if abs(self._score) > _VERDICT_SECONDS:
            self.verdict = Polarity.WHITE_HOT if self._score > 0 else Polarity.BLACK_HOT


def _lean(difference: NDArray[np.float32], span: float) -> float:
    """From -1, all that moves is dark, to 1, all is bright; 0 when nothing moves, or everything."""
    usual = float(np.median(np.abs(difference)))
    least = max(_NOISES * usual, _LEAST_SOMETHING * span, 1.0)
    bright, dark = float(np.mean(difference > least)), float(np.mean(difference < -least))
    if not _MOVING_SHARE[0] <= bright + dark <= _MOVING_SHARE[1]:
        return 0.0
    return (bright - dark) / (bright + dark)


def _since(before: float | None, now: float, is_so: bool) -> float | None:
    """Since when something has been so without a break."""
    if not is_so:
        return None
    return now if before is None else before


class ThermalWindow:
    """The 8-bit window of one camera.

    With limits, it is fixed. Without them: 8-bit input is passed through, for the camera has made its choice; of deeper
    input, the first frame's 0.5 and 99.5 percentiles with some headroom are the limits, which from then on only shift
    with the drift of most pixels, slowly filtered: a hot object moves no background pixel, and one that covers most of
    them does not for a minute. Limits that have not fitted the scene for some seconds, because the first frame was no
    picture or the camera switched its gain, are found anew.
    """

    def __init__(
        self, *, low: float | None = None, high: float | None = None, polarity: Polarity = Polarity.WHITE_HOT
    ) -> None:
        """Choose the limits.

        Args:
            low: Counts shown as 0 in a white-hot image; None for automatic limits.
            high: Counts shown as 255.
            polarity: Whether hot things have high counts; black-hot images are turned, so that the result is white-hot.

        Raises:
            ValueError: When only one limit is given, or low is not below high.
        """
        if (low is None) != (high is None):
            raise ValueError(f"low and high must be given together, got {low} and {high}")
        if low is not None and high is not None and low >= high:
            raise ValueError(f"low must be below high, got {low} and {high}")
        self.refits = 0
        self._automatic = low is None
        self._limits = None if low is None or high is None else (low, high)
        self._judge = PolarityJudge() if polarity is Polarity.AUTO else None
        self._white_hot = polarity is not Polarity.BLACK_HOT
        self._table: Gray8 | None = None
        self._table_limits: tuple[float, float] | None = None
        self._reference: NDArray[np.int32] | None = None
        self._before = np.empty((0, 0), np.int32)
        self._usual_noise = _LEAST_NOISE
        self._drift = 0.0
        self._seen_at = self._looked_at = 0.0
        self._unfit_since: float | None = None
        self._flat_since: float | None = None

    @property
    def limits(self) -> tuple[float, float] | None:
        """Counts shown as 0 and 255 (before turning a black-hot image); None before the first frame."""
        return self._limits

    @property
    def polarity(self) -> Polarity:
        """As configured; of auto: what was found, or auto as long as nothing was."""
        if self._judge is not None and self._judge.verdict is None:
            return Polarity.AUTO
        return Polarity.WHITE_HOT if self._white_hot else Polarity.BLACK_HOT

    def eight_bit(self, image: Image, *, pts_seconds: float) -> Gray8:
        """Show counts as white-hot 8-bit grey.

        Args:
            image: Mono uint8 or uint16 (h, w).
            pts_seconds: Its time; a camera whose time runs back began again, and its limits are found anew.

        Returns:
            uint8 (h, w).
        """
        if self._judge is not None:
            self._ask_judge(image, pts_seconds)
        if image.dtype == np.uint8 and self._automatic:
            return cast("Gray8", image if self._white_hot else 255 - image)
        if self._automatic:
            self._follow(image, pts_seconds)
        return cast("Gray8", np.take(self._current_table(), image))

    def glance(self, image: Image) -> Gray8:
        """Show counts as the last frame was shown, and learn nothing from them; from any thread.

        Before the first frame, automatic limits are those of this image.

        Args:
            image: Mono uint8 or uint16 (h, w), of any size.

        Returns:
            uint8 (h, w).
        """
        own = copy(self)  # whatever is made for this image stays its own
        if image.dtype == np.uint8 and own._automatic:
            return cast("Gray8", image if own._white_hot else 255 - image)
        if own._limits is None:
            own._fit(image.astype(np.int32), 0.0)
        return cast("Gray8", np.take(own._current_table(), image))

    def _ask_judge(self, image: Image, pts_seconds: float) -> None:
        if self._judge is None or self._judge.verdict is not None:
            return
        self._judge.look(image, pts_seconds=pts_seconds)
        if self._judge.verdict is Polarity.BLACK_HOT:
            self._white_hot, self._table = False, None
            self._reference = None  # the headroom is to be where the heat is

    def _follow(self, image: Image, pts_seconds: float) -> None:
        sample = image[::_SAMPLE_STEP, ::_SAMPLE_STEP].astype(np.int32)
        anew = pts_seconds < self._seen_at  # by a new config, say
        if self._limits is None or self._reference is None or self._reference.shape != sample.shape or anew:
            self._fit(sample, pts_seconds)
            return
        low, high = self._limits
        difference = sample - self._reference - self._drift
        gap = float(np.median(difference))
        sudden = abs(gap) > _SUDDEN_SHARE * (high - low)
        noisy = min(_STILL_NOISES * self._noise(sample), _SUDDEN_SHARE * (high - low))
        still = difference[np.abs(difference) <= max(_STILL_LEVELS * (high - low), noisy)]
        known = still.size >= _STILL_SHARE * difference.size
        patience = _COVERED_PATIENCE_SECONDS if known else _PATIENCE_SECONDS
        if self._is_unfit(sample, pts_seconds, sudden=sudden, patience=patience):
            self.refits += 1
            self._fit(sample, pts_seconds)
            return
        gap = float(np.median(still)) if known else gap  # whatever else stands there is no drift
        share = 0.0 if sudden and not known else 1 - float(np.exp(-(pts_seconds - self._seen_at) / _FOLLOW_SECONDS))
        shift = share * gap
        self._seen_at = pts_seconds
        self._drift += shift
        self._limits = (low + shift, high + shift)

    def _noise(self, sample: NDArray[np.int32]) -> float:
        """By how much most pixels that waver at all differ from the frame before, as a standard deviation.

        It changes slowly: what comes before most of the scene at once is no noise.
        """
        change = np.abs(sample - self._before)
        wavering = change[change > 0]
        noise = float(np.median(wavering)) / _MEDIAN_OF_NORMAL if wavering.size else 0.0
        self._before = sample
        least = max(self._usual_noise / _NOISE_PACE, _LEAST_NOISE)
        self._usual_noise = min(max(noise, least), self._usual_noise * _NOISE_PACE)
        return self._usual_noise

    def _fit(self, sample: NDArray[np.int32], pts_seconds: float) -> None:
        low, high = (float(value) for value in np.percentile(sample, (0.5, 99.5)))
        span = max(high - low, _LEAST_SPAN)
        below, above = _HEADROOM if self._white_hot else _HEADROOM[::-1]
        self._limits = (low - below * span, high + above * span)
        self._reference, self._drift, self._seen_at, self._looked_at = sample, 0.0, pts_seconds, pts_seconds
        self._before, self._usual_noise = sample, _LEAST_NOISE
        self._unfit_since = self._flat_since = None

    def _is_unfit(self, sample: NDArray[np.int32], pts_seconds: float, *, sudden: bool, patience: float) -> bool:
        """Whether the limits have been wrong for so long that they must be found anew."""
        if not sudden and pts_seconds - self._looked_at < _LOOK_SECONDS:
            return False
        self._looked_at = pts_seconds
        low, high = self._limits or (0.0, 65535.0)
        clipped = float(np.mean((sample < low) | (sample > high)))
        coldest, hottest = np.percentile(sample, (0.5, 99.5))
        flat = max(float(hottest - coldest), _LEAST_SPAN) < _FLAT_SHARE * (high - low)
        self._unfit_since = _since(self._unfit_since, pts_seconds, sudden or clipped > _CLIPPED_SHARE)
        self._flat_since = _since(self._flat_since, pts_seconds, flat)
        return (self._unfit_since is not None and pts_seconds - self._unfit_since > patience) or (
            self._flat_since is not None and pts_seconds - self._flat_since > _FLAT_PATIENCE_SECONDS
        )

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
        window = self[frame.camera_id]
        before = window.polarity, window.refits
        gray = window.eight_bit(frame.image, pts_seconds=frame.pts_seconds)
        if window.polarity is not before[0]:
            logger.info("camera %s: found to be %s, by what moves", frame.camera_id, window.polarity.value)
        if window.refits != before[1]:
            logger.info("camera %s: the limits of its 8-bit view did not fit the scene any more: now %s",
                        frame.camera_id, _limits_text(window))  # fmt: skip
        return gray

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

    def glance(self, frame: Frame) -> NDArray[np.uint8]:
        """Any frame as RGB uint8 (h, w, 3), its camera's window as the last frame left it; from any thread."""
        if frame.image.ndim == 3:
            return cast("NDArray[np.uint8]", frame.image)
        gray = frame.image
        if gray.dtype != np.uint8 or frame.modality is Modality.THERMAL:
            gray = self._by_camera.get(frame.camera_id, ThermalWindow()).glance(gray)
        return cast("NDArray[np.uint8]", cv2.cvtColor(gray, cv2.COLOR_GRAY2RGB))

    def white_hot(self, camera_id: str, image: Image) -> Image:
        """An image of a camera with what is hot bright, all its bits kept: embeddings are made for such images.

        Counts of a black-hot camera are turned, 65535 - count or 255 - level. Those of a camera whose polarity is not
        known (yet), and of one that is not thermal, come back as they are.
        """
        window = self._by_camera.get(camera_id)
        black_hot = window is not None and window.polarity is Polarity.BLACK_HOT
        return cast("Image", np.bitwise_not(image)) if black_hot else image

    def __getitem__(self, camera_id: str) -> ThermalWindow:
        """The window of a camera."""
        return self._by_camera.setdefault(camera_id, ThermalWindow())

    def replace(self, camera_id: str, window: ThermalWindow) -> None:
        """Give a camera another window: its settings have changed."""
        self._by_camera[camera_id] = window

    def forget(self, camera_id: str) -> None:
        """The camera has left."""
        self._by_camera.pop(camera_id, None)


def _limits_text(window: ThermalWindow) -> str:
    low, high = window.limits or (0.0, 0.0)
    return f"{low:.0f} to {high:.0f} counts"
