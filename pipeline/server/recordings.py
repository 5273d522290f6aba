"""Single frames of what a camera recorded, as the page shows them to draw a box on."""

from datetime import datetime, timedelta
from glob import iglob
from pathlib import Path
from typing import Any

from pipeline.build import build_windows
from pipeline.clips import frame_shown
from pipeline.config import Config
from pipeline.errors import SourceError
from pipeline.frame import Frame
from pipeline.server.media import jpeg
from pipeline.server.problems import not_found
from pipeline.sinks import rfc3339
from pipeline.sources.base import Source, SourceInfo
from pipeline.sources.open import open_source
from pipeline.sources.seek import frames_from
from pipeline.sources.stills import SUFFIXES, is_glob, is_numbered


def recording_of(config: Config | None, camera_id: str) -> dict[str, Any]:
    """What a camera recorded.

    Raises:
        ProblemError: 404, when it records nothing, or the files are gone.
    """
    source, info = _opened(config, camera_id)
    seconds = None if info.frames is None else info.frames / info.fps
    end = None if seconds is None else info.start + timedelta(seconds=seconds)
    return {
        "camera_id": camera_id,
        "modality": source.modality.value,
        "start": rfc3339(info.start),
        "end": None if end is None else rfc3339(end),
        "seconds": seconds,
        "fps": info.fps,
        "frames": info.frames,
        "width": info.resolution_wh[0],
        "height": info.resolution_wh[1],
    }


def frame_at(config: Config | None, camera_id: str, moment: datetime | float) -> tuple[Frame, bytes]:
    """The frame that is shown at a moment, and its JPEG.

    Raises:
        ProblemError: 404, when the recording does not reach it.
    """
    source, _ = _opened(config, camera_id)
    shown = frame_shown(frames_from(source, moment), moment)
    if shown is None or config is None:
        raise not_found(f"frame of camera {camera_id} at that moment")
    return shown, jpeg(build_windows(config).rgb8(shown))


def has_recording(config: Config | None, camera_id: str) -> bool:
    """Whether a camera's source is a recording; it may have been removed since."""
    return config is not None and camera_id in config.cameras and not config.cameras[camera_id].live


def recording_mark(config: Config | None, camera_id: str) -> tuple[int, ...] | None:
    """Another when the files of a recording are others; None where they are gone, or there never were any.

    They are looked at, not opened.
    """
    if config is None or not has_recording(config, camera_id):
        return None
    source = config.cameras[camera_id].source.removeprefix("file://")
    path = Path(source)
    try:
        folder = path.parent if is_numbered(source) and not path.exists() else path
        if folder.is_dir():
            images = any(each.suffix.lower() in SUFFIXES for each in folder.iterdir())
            return (folder.stat().st_mtime_ns,) if images else None
        if is_glob(source) and not path.exists():
            path = Path(next(iglob(source, recursive=True), source))  # noqa: PTH207 (absolute patterns)
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size


def _opened(config: Config | None, camera_id: str) -> tuple[Source, SourceInfo]:
    if config is None or not has_recording(config, camera_id):
        raise not_found(f"recording of camera {camera_id}")
    try:
        source = open_source(camera_id, config.cameras[camera_id])
        return source, source.probe()
    except SourceError:
        raise not_found(f"recording of camera {camera_id} any more: its files cannot be read") from None
