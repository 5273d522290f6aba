"""Errors that end a command, each with its exit code."""


class PipelineError(Exception):
    """A failure with a message for the user; the command line prints it without a traceback."""

    exit_code = 1


class UsageError(PipelineError):
    """Wrong arguments, a wrong config file, or weights that are missing or do not fit."""

    exit_code = 2


class DamagedGalleryError(UsageError):
    """A gallery's database that cannot be read as one; see ``pipeline.recovery``."""


class SourceError(PipelineError):
    """A camera, video or image sequence that cannot be opened or read."""

    exit_code = 3


class GalleryMismatchError(PipelineError):
    """A gallery that was filled by another model."""

    exit_code = 4


class ResourceError(PipelineError):
    """Disk, memory or device exhausted or absent."""

    exit_code = 5
