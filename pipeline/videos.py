"""The annotated videos of a run: every recording is read a second time, the cameras side by side."""

import errno
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import count, islice

from pipeline.annotate import VideoStyle, annotate, companions_of
from pipeline.build import build_windows
from pipeline.config import Config
from pipeline.frame import Frame
from pipeline.prefetch import side_by_side
from pipeline.sources.open import open_source
from pipeline.store import Store

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Drawing:
    """What is drawn.

    Attributes:
        frames: How many frames of each camera the run processed; cameras that are not named get no video.
        after_row: Only tracklets after this row of the store: those of an earlier run have other frame numbers.
        truth: True person by tracklet id; with it, the videos say of each companion whether it is right.
        should_stop: Asked before every frame; when it says yes, no video is finished any more.
        on_progress: Told the frames drawn so far, and of how many: 0 at first, then from several threads.
    """

    frames: Mapping[str, int]
    after_row: int = 0
    truth: Mapping[str, int] | None = None
    should_stop: Callable[[], bool] = lambda: False
    on_progress: Callable[[int, int], None] = lambda done, total: None


def write_videos(config: Config, store: Store, drawing: Drawing) -> dict[str, str]:
    """Write ``video/<camera>.mp4`` for each camera; one that stands there is replaced once the new one is whole.

    Returns:
        Why a camera has no new video, by camera. One that cannot be drawn takes nothing from the others.

    Raises:
        OSError: When the disk is full.
    """
    windows = build_windows(config)
    several = len(config.cameras.keys() | store.cameras().keys()) > 1  # or no other camera saw anybody
    drawn, total = count(1), sum(drawing.frames.values())

    def watched(frames: Iterable[Frame]) -> Iterator[Frame]:
        for frame in frames:
            if drawing.should_stop():
                raise _StoppedError
            yield frame
            drawing.on_progress(next(drawn), total)

    def job(camera_id: str) -> Callable[[], tuple[str, str | None]]:
        boxes = store.boxes(camera_id, after_row=drawing.after_row)
        companions = companions_of(store, camera_id, timezone=config.site.zone, truth=drawing.truth)
        path = config.output.root / "video" / f"{camera_id}.mp4"

        def draw() -> tuple[str, str | None]:
            try:
                source = open_source(camera_id, config.cameras[camera_id])
                style = VideoStyle(fps=source.probe().fps, timezone=config.site.zone, strip=several)
                frames = watched(islice(source, drawing.frames[camera_id]))
                annotate(frames, boxes, path, style, rgb8=windows.rgb8, companions=companions)
            except _StoppedError:
                return camera_id, "the run was stopped"
            except Exception as error:  # as in the first pass, one camera's fault is its own
                if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
                    raise  # a full disk is everybody's
                return camera_id, str(error) or type(error).__name__
            return camera_id, None

        return draw

    drawing.on_progress(0, total)
    results = side_by_side([job(camera_id) for camera_id in config.cameras if camera_id in drawing.frames])
    return {camera_id: reason for camera_id, reason in results if reason is not None}


class _StoppedError(Exception):
    """The user wants no more; nothing is wrong."""
