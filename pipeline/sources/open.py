"""From a URI in the config to the source that reads it."""

from pathlib import Path

from pipeline.config import CameraConfig
from pipeline.errors import SourceError
from pipeline.frame import IMAGE_SUFFIXES
from pipeline.sources.base import Source
from pipeline.sources.images import ImageSource, SequenceTiming, is_glob
from pipeline.sources.video import VideoSource


def open_source(camera_id: str, camera: CameraConfig) -> Source:
    """Choose the source by what the URI names: a folder, a glob, an image, or else a video file.

    Nothing is read yet: call ``probe`` for errors of the content.

    Raises:
        SourceError: When nothing is there, or it is a live stream, which this version does not read.
    """
    uri = camera.source.removeprefix("file://")
    if "://" in uri or uri.isdigit() or uri.startswith("/dev/"):
        raise SourceError(
            f"camera {camera_id}: {_without_password(uri)} is a live stream; this version reads recordings: "
            f"a video file, a folder of images, or a glob"
        )
    path = Path(uri)
    if path.is_dir() or (is_glob(uri) and not path.exists()) or path.suffix.lower() in IMAGE_SUFFIXES:
        return ImageSource(camera_id, uri, camera.modality, timing=SequenceTiming(camera.fps, camera.start))
    if not path.exists():
        raise SourceError(f"camera {camera_id}: {uri}: no such file or folder (relative to {Path.cwd()})")
    return VideoSource(camera_id, path, camera.modality, start=camera.start)


def _without_password(uri: str) -> str:
    scheme, separator, rest = uri.partition("://")
    return f"{scheme}{separator}{rest.rpartition('@')[2]}"
