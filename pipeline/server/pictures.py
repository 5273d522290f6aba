"""The latest picture of each camera that the run in this process reads: encoded when somebody looks, once for all."""

import threading
import time
from dataclasses import dataclass
from datetime import UTC, datetime

from pipeline.frame import Frame
from pipeline.run import Beside
from pipeline.server.media import jpeg
from pipeline.server.problems import not_found

_AGAIN_SECONDS = 2.0  # a newer one of the same camera is made so often at most, however many look
_WIDTH = 480


@dataclass(frozen=True, slots=True)
class LatestPicture:
    """What a camera showed last.

    Attributes:
        frame: The frame, shrunk.
        data: Its JPEG.
        made: When, on the clock of ``time.monotonic``.
    """

    frame: Frame
    data: bytes
    made: float

    @property
    def age_seconds(self) -> float:
        """Since the frame came to this machine."""
        return max((datetime.now(UTC) - self.frame.arrived_at).total_seconds(), 0.0)


class LatestPictures:
    """Safe to use from several threads; one picture is made at a time."""

    def __init__(self, pipeline: Beside | None) -> None:
        """Of a run, or of none."""
        self._pipeline = pipeline
        self._made: dict[str, LatestPicture] = {}
        self._lock = threading.Lock()

    def of(self, camera_id: str) -> LatestPicture:
        """The newest there is, or one that was made a moment ago.

        Raises:
            ProblemError: 404, when no run in this process has read a frame of it.
        """
        if self._pipeline is None:
            raise not_found(f"picture of camera {camera_id}: no pipeline runs in this process")
        with self._lock:
            known = self._made.get(camera_id)
            if known is not None and time.monotonic() - known.made < _AGAIN_SECONDS:
                return known
            frame = self._pipeline.latest.small(camera_id, width=_WIDTH)
            if frame is None:
                self._made.pop(camera_id, None)
                raise not_found(f"picture of camera {camera_id} yet")
            self._made[camera_id] = LatestPicture(frame, jpeg(frame.image), time.monotonic())
            return self._made[camera_id]
