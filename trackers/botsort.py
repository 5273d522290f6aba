"""BoT-SORT without appearance: ByteTrack with noise that knows a box's width, and with a moving camera undone.

Aharon, Orfaig, Bobrovsky, "BoT-SORT: Robust Associations Multi-Pedestrian Tracking", 2022. Three additions to
ByteTrack, two of them here: the filter's noise is proportional to the width in x and w, and to the height in y and h
(section 3.1, eq. 3 to 6), and predictions are warped by the camera's motion (section 3.2, eq. 7 to 9). The third, the
fusion of appearance with overlap (section 3.3), is left out: this package looks at no image.

Nor does it estimate the camera's motion: who has the images passes the 2 x 3 matrix that maps the last frame's pixels
to this frame's, as `cv2.estimateAffinePartial2D` gives it; for a fixed camera there is nothing to pass. What differs
from the paper: time is in seconds; the filter keeps coordinates independent, so that of a warped covariance only the
variances are kept; a size is scaled by the root of the warp's determinant and not sheared; and the box given out is
the detection.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from trackers.boxes import Boxes
from trackers.bytetrack import ByteTrackSettings, associate_by_confidence
from trackers.kalman import BoxFilter
from trackers.structures import Detections, Tracks
from trackers.table import TrackTable


@dataclass(frozen=True, slots=True)
class BoTSortSettings(ByteTrackSettings):
    """Thresholds of BoT-SORT: those of ByteTrack, with the paper's defaults, which are the same."""


DEFAULT_SETTINGS = BoTSortSettings()


class _WarpedFilter(BoxFilter):
    """A box filter whose noise scales with width and height apart, and whose state can follow the camera."""

    @staticmethod
    def scale_of(cxcywh: Boxes) -> Boxes:
        return cxcywh[:, [2, 3, 2, 3]]

    def warp(self, affine: NDArray[np.float64]) -> None:
        """Map every state by the 2 x 3 matrix, as if the camera had stood where it stands now all the time."""
        turn, shift = affine[:, :2], affine[:, 2]
        size = float(np.sqrt(abs(np.linalg.det(turn))))
        self.mean[:, :2] = self.mean[:, :2] @ turn.T + shift
        self.velocity[:, :2] = self.velocity[:, :2] @ turn.T
        self.mean[:, 2:] *= size
        self.velocity[:, 2:] *= size
        self.scale = self.scale * size
        self._covariance[:, :, :2] = self._covariance[:, :, :2] @ (turn**2).T
        self._covariance[:, :, 2:] *= size**2


class BoTSort:
    """Tracks of one camera; see `trackers.base.Tracker`, and `trackers.bytetrack.ByteTrack` for the life of a track."""

    def __init__(self, settings: BoTSortSettings = DEFAULT_SETTINGS) -> None:
        self.settings = settings
        self._filter = _WarpedFilter()
        self._table = TrackTable(self._filter)

    def __len__(self) -> int:
        """Tracks held, the tentative and the lost included."""
        return len(self._table)

    def reset(self) -> None:
        """Forget all tracks and the time. Ids already given are not given again."""
        self._filter = _WarpedFilter()
        self._table.clear(self._filter)

    def update(self, detections: Detections, *, pts_seconds: float, camera_motion: ArrayLike | None = None) -> Tracks:
        """Take the next frame's boxes and return those that belong to a confirmed track, in their order.

        Args:
            detections: Boxes of this frame; below `low_confidence` they are not looked at.
            pts_seconds: Presentation time, strictly greater than at the last call; steps may differ.
            camera_motion: (2, 3), maps pixels (x, y, 1) of the frame before to this frame's; None for a fixed camera.

        Raises:
            ValueError: When time does not increase or is not finite, or the matrix is no invertible, finite (2, 3).
        """
        affine = None if camera_motion is None else _affine(camera_motion)
        first_frame = self._table.advance(pts_seconds, lost_seconds=self.settings.lost_seconds)
        if affine is not None:
            self._filter.warp(affine)
        return associate_by_confidence(self._table, detections, self.settings, first_frame=first_frame)


def _affine(camera_motion: ArrayLike) -> NDArray[np.float64]:
    affine = np.asarray(camera_motion, dtype=np.float64)
    if affine.shape != (2, 3):
        raise ValueError(f"camera_motion must be (2, 3), got {affine.shape}")
    if not np.isfinite(affine).all() or np.linalg.det(affine[:, :2]) == 0:
        raise ValueError(f"camera_motion must be finite and invertible, got {affine.tolist()}")
    return affine
