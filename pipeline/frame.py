"""One image of one camera, with the time it was taken."""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from reid.modality import Modality

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff"})  # of files that hold one frame

Image: TypeAlias = NDArray[np.uint8] | NDArray[np.uint16]


class TimeSource(StrEnum):
    """Where a frame's capture time came from, most trustworthy first."""

    SENDER_REPORT = "rtcp_sender_report"  # the camera's own clock, by its RTCP sender reports
    CONFIGURED_START = "configured_start"  # the configured start of a recording plus the presentation timestamp
    FILE_NAME = "file_name"
    CONTAINER = "container"  # creation_time in the container plus the presentation timestamp
    STREAM_PTS = "stream_pts"  # arrival of the stream's earliest frames plus the presentation timestamp
    ARRIVAL = "arrival"  # when this machine had the frame
    FILE_MODIFIED = "file_modified"
    FRAME_RATE = "frame_rate"  # of a recording without times (raw H.264): frames are counted, at the stream's rate


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """A decoded image as the camera made it.

    Attributes:
        image: RGB uint8 (h, w, 3), or native mono uint8 or uint16 (h, w). BGR never leaves a source.
        camera_id: Which camera.
        modality: What it measures.
        index: 0-based position in the source's own count; skipped images leave a gap.
        pts_seconds: Presentation time since the source's start, strictly increasing within a source.
        captured_at: Capture time, timezone-aware UTC.
        time_source: Where ``captured_at`` came from.
        arrived_at: When this machine had the decoded frame, timezone-aware UTC; of a recording, when it was read.
    """

    image: Image
    camera_id: str
    modality: Modality
    index: int
    pts_seconds: float
    captured_at: datetime
    time_source: TimeSource
    arrived_at: datetime = field(default_factory=lambda: datetime.now(UTC))

    def __post_init__(self) -> None:
        shape, dtype = self.image.shape, self.image.dtype
        is_rgb = len(shape) == 3 and shape[2] == 3 and dtype == np.uint8
        is_mono = len(shape) == 2 and dtype in (np.uint8, np.uint16)
        if not (is_rgb or is_mono):
            raise ValueError(f"image must be uint8 (h, w, 3) or uint8/uint16 (h, w), got {dtype} {shape}")
        if self.captured_at.tzinfo is None:
            raise ValueError("captured_at must be timezone-aware (UTC), got a naive datetime")
        if self.arrived_at.tzinfo is None:
            raise ValueError("arrived_at must be timezone-aware (UTC), got a naive datetime")

    @property
    def arrival_lag_seconds(self) -> float:
        """From capture to arrival; of a recording, its age. Negative when the camera's clock is ahead of this one's."""
        return (self.arrived_at - self.captured_at).total_seconds()

    @property
    def resolution_wh(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return self.image.shape[1], self.image.shape[0]
