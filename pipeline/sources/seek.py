"""Frames of a recording from a moment on, for those who want a few of many."""

from collections.abc import Iterator
from datetime import datetime

from pipeline.frame import Frame
from pipeline.sources.base import Source
from pipeline.sources.images import ImageSource
from pipeline.sources.video import VideoSource


def frames_from(source: Source, moment: datetime | float) -> Iterator[Frame]:
    """Frames from a moment on, or a little earlier, each as iterating over the source gives it.

    Args:
        source: A recording.
        moment: Capture time, or seconds since the recording began.

    Raises:
        SourceError: When it cannot be opened at all.
    """
    info = source.info or source.probe()
    seconds = (moment - info.start).total_seconds() if isinstance(moment, datetime) else moment
    if isinstance(source, VideoSource | ImageSource):
        return source.frames_from(seconds)
    return iter(source)
