"""What every tracker is."""

from typing import Protocol

from trackers.structures import Detections, Tracks


class Tracker(Protocol):
    """Joins the detections of successive frames of one camera to tracks. One instance a camera."""

    def update(self, detections: Detections, *, pts_seconds: float) -> Tracks:
        """Take the next frame's boxes and return those that belong to a track.

        Args:
            detections: Boxes of this frame.
            pts_seconds: Presentation time, strictly greater than at the last call.

        Raises:
            ValueError: When time does not increase.
        """
        ...

    def reset(self) -> None:
        """Forget all tracks. Ids already given are not given again."""
        ...
