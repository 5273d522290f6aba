"""Errors that end a command, each with its exit code; and what is wrong with a source, by code."""

from enum import StrEnum


class ErrorCode(StrEnum):
    """What is wrong with a source, for machines to tell apart; people read the message."""

    STREAM_REFUSED = "STREAM_REFUSED"  # nobody listens there
    STREAM_UNREACHABLE = "STREAM_UNREACHABLE"  # no route, or a name that does not resolve
    STREAM_TIMEOUT = "STREAM_TIMEOUT"  # no answer, or no first frame, in time
    STREAM_STALLED = "STREAM_STALLED"  # frames came, and then none for too long
    STREAM_HUNG = "STREAM_HUNG"  # connecting or reading blocks in the system, far beyond all timeouts
    STREAM_CLOSED = "STREAM_CLOSED"  # the other side ended it
    STREAM_AUTH_FAILED = "STREAM_AUTH_FAILED"
    STREAM_NOT_FOUND = "STREAM_NOT_FOUND"  # the server knows no such stream
    STREAM_TLS_FAILED = "STREAM_TLS_FAILED"
    STREAM_INVALID = "STREAM_INVALID"  # what comes is no stream, or breaks its protocol
    STREAM_CODEC_UNSUPPORTED = "STREAM_CODEC_UNSUPPORTED"
    STREAM_WITHOUT_VIDEO = "STREAM_WITHOUT_VIDEO"
    DEVICE_NOT_FOUND = "DEVICE_NOT_FOUND"
    DEVICE_BUSY = "DEVICE_BUSY"
    DEVICE_DENIED = "DEVICE_DENIED"
    RECORDING_NOT_FOUND = "RECORDING_NOT_FOUND"
    RECORDING_UNREADABLE = "RECORDING_UNREADABLE"
    RECORDING_TRUNCATED = "RECORDING_TRUNCATED"
    RECORDING_STALLED = "RECORDING_STALLED"  # its disk gave nothing for too long; read on once it does
    IMAGE_TOO_SMALL = "IMAGE_TOO_SMALL"
    FALSE_COLOUR = "FALSE_COLOUR"  # a thermal camera that sends a palette instead of counts
    SOURCE_FAULT = "SOURCE_FAULT"  # anything that has no code of its own


class PipelineError(Exception):
    """A failure with a message for the user; the command line prints it without a traceback."""

    exit_code = 1


class UsageError(PipelineError):
    """Wrong arguments, a wrong config file, or weights that are missing or do not fit."""

    exit_code = 2


class StoppedError(PipelineError):
    """Told to stop before anything was done."""


class DamagedGalleryError(UsageError):
    """A gallery's database that cannot be read as one; see ``pipeline.recovery``."""


class BehindGalleryError(DamagedGalleryError):
    """A gallery's database that is whole, but older than what lies beside it; see ``pipeline.witnesses``."""


class SourceError(PipelineError):
    """A camera, video or image sequence that cannot be opened or read."""

    exit_code = 3

    def __init__(self, message: str, code: ErrorCode = ErrorCode.SOURCE_FAULT) -> None:
        """The message is for people and holds no secret."""
        super().__init__(message)
        self.code = code


class GalleryMismatchError(PipelineError):
    """A gallery that was filled by another model."""

    exit_code = 4


class ResourceError(PipelineError):
    """Disk, memory or device exhausted or absent."""

    exit_code = 5


class UndeletedError(ResourceError):
    """Files that must go could not be deleted; the gallery remembers which."""
