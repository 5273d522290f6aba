"""From a URI in the config to the source that reads it."""

from pathlib import Path
from zoneinfo import ZoneInfo

from pipeline.address import NETWORK_SCHEMES, scheme_of, without_secrets
from pipeline.config import CameraConfig
from pipeline.errors import ErrorCode, SourceError
from pipeline.sources.base import Source
from pipeline.sources.connection import StreamSettings
from pipeline.sources.images import ImageSource, SequenceTiming
from pipeline.sources.live import LiveSource
from pipeline.sources.stills import SUFFIXES, is_glob
from pipeline.sources.video import VideoSource
from pipeline.start_pattern import StartPattern


def open_source(camera_id: str, camera: CameraConfig) -> Source:
    """Choose the source by what the URI names: a stream, a device, a folder, a glob, an image, or else a video file.

    Nothing is read yet: call ``probe`` for errors of the content.

    Raises:
        SourceError: When no such file is there, none can be there, or the URL is of an unknown kind.
    """
    uri = camera.source.removeprefix("file://")
    if camera.live:
        return LiveSource(camera_id, uri, camera.modality, settings=_stream_settings(camera))
    if "://" in uri:
        raise SourceError(
            f"camera {camera_id}: {without_secrets(uri)}: {scheme_of(uri)} is not one of "
            f"{', '.join(sorted(NETWORK_SCHEMES))}",
            ErrorCode.STREAM_INVALID,
        )
    path, shown = Path(uri), without_secrets(uri)
    if shown != uri:  # then nothing lies there
        raise SourceError(
            f"camera {camera_id}: {shown}: no such file or folder; what stands before an @ is hidden, and an address "
            f"begins with {', '.join(f'{scheme}://' for scheme in sorted(NETWORK_SCHEMES))}",
            ErrorCode.RECORDING_NOT_FOUND,
        )
    zone = ZoneInfo(camera.start_timezone or "UTC")
    pattern = StartPattern(camera.start_pattern, zone) if camera.start_pattern else None
    try:
        is_folder, is_there = path.is_dir(), path.exists()
    except OSError as error:  # such as a name that is too long for one
        raise SourceError(f"camera {camera_id}: {uri}: {error.strerror}", ErrorCode.RECORDING_UNREADABLE) from error
    if is_folder or path.suffix.lower() in SUFFIXES or (is_glob(uri) and not is_there):
        return ImageSource(
            camera_id, uri, camera.modality, timing=SequenceTiming(camera.fps, camera.start, pattern, zone)
        )
    if not is_there:
        raise SourceError(
            f"camera {camera_id}: {uri}: no such file or folder (relative to {Path.cwd()})",
            ErrorCode.RECORDING_NOT_FOUND,
        )
    return VideoSource(camera_id, path, camera.modality, start=camera.start, pattern=pattern, zone=zone)


def _stream_settings(camera: CameraConfig) -> StreamSettings:
    stream = camera.stream
    return StreamSettings(
        **stream.model_dump(exclude={"hardware"}),
        hardware=stream.hardware == "auto",
        max_behind_seconds=camera.max_staleness_ms / 2000,  # so old a frame may be however long the line takes
    )
