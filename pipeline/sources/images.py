"""Image sequences: a folder, a glob, or one image; PNG, JPEG, BMP and TIFF of 8 or 16 bits."""

import glob
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from threading import Event
from typing import cast

import cv2
import numpy as np

from pipeline.errors import SourceError
from pipeline.frame import IMAGE_SUFFIXES, Frame, Image
from pipeline.sources.base import SourceAccount, SourceInfo, SourceState, check_size
from pipeline.sources.clock import start_of
from reid.modality import Modality

_GLOB_CHARACTERS = frozenset("*?[")


@dataclass(frozen=True, slots=True)
class SequenceTiming:
    """Time of images, which have none of their own.

    Attributes:
        fps: Images a second.
        start: Capture time of the first; without it: its file's name or date.
    """

    fps: float = 10.0
    start: datetime | None = None


class ImageSource:
    """Images in natural order of their names (frame2 before frame10); see ``pipeline.sources.base.Source``.

    RGB cameras give RGB uint8 (h, w, 3); near-infrared and thermal cameras give mono (h, w), uint8 or uint16 as stored.
    """

    live = False

    def __init__(
        self, camera_id: str, pattern: str, modality: Modality, *, timing: SequenceTiming | None = None
    ) -> None:
        """Nothing is read yet.

        Args:
            camera_id: Which camera.
            pattern: A folder, a glob, or one image.
            modality: What it measures.
            timing: Frames a second and start.
        """
        self.camera_id = camera_id
        self.modality = modality
        self.account = SourceAccount()
        self.info: SourceInfo | None = None
        self._closed = Event()
        self._pattern = pattern
        self._timing = timing or SequenceTiming()

    def probe(self) -> SourceInfo:
        """List the images and read the first that can be read."""
        paths = self._paths()
        path, image = next(((path, image) for path in paths if (image := self._read(path)) is not None), (None, None))
        if path is None or image is None:
            raise SourceError(
                f"camera {self.camera_id}: none of the {len(paths)} images of {self._pattern} can be read"
            )
        resolution_wh = image.shape[1], image.shape[0]
        check_size(self.camera_id, path, resolution_wh)
        start, time_source = start_of(paths[0], configured=self._timing.start)
        self.account.expected = len(paths)
        self.info = SourceInfo(
            resolution_wh=resolution_wh,
            fps=self._timing.fps,
            frames=len(paths),
            bit_depth=8 * image.dtype.itemsize,
            start=start,
            time_source=time_source,
        )
        return self.info

    def __iter__(self) -> Iterator[Frame]:
        """Read; an image that cannot be used is skipped and counted, and leaves a gap in index and time."""
        info = self.probe()
        account = self.account = SourceAccount(expected=info.frames, state=SourceState.RUNNING)
        for index, path in enumerate(self._paths()):
            if self._closed.is_set():
                break
            image = self._read(path)
            cause = self._unusable(image, info)
            if image is None or cause:
                account.skip(cause or "unreadable", str(path))
                continue
            account.give()
            pts_seconds = index / self._timing.fps
            yield Frame(
                image=image,
                camera_id=self.camera_id,
                modality=self.modality,
                index=index,
                pts_seconds=pts_seconds,
                captured_at=info.start + timedelta(seconds=pts_seconds),
                time_source=info.time_source,
            )
        account.enter(SourceState.ENDED)

    def close(self) -> None:
        """End the iteration before its next frame."""
        self._closed.set()

    def _unusable(self, image: Image | None, info: SourceInfo) -> str | None:
        if image is None:
            return "unreadable"
        if (image.shape[1], image.shape[0]) != info.resolution_wh:
            return "resolution_changed"
        return "bit_depth_changed" if 8 * image.dtype.itemsize != info.bit_depth else None

    def _paths(self) -> list[Path]:
        try:
            found, problem = self._found()
        except OSError as error:
            raise SourceError(f"camera {self.camera_id}: {self._pattern} cannot be read: {error.strerror}") from error
        if not found:
            raise SourceError(f"camera {self.camera_id}: {problem}")
        return sorted(found, key=_natural_order)

    def _found(self) -> tuple[list[Path], str]:
        """The images, and what is wrong if there is none."""
        pattern = Path(self._pattern)
        if pattern.is_dir():
            found = [path for path in pattern.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES]
            return found, f"{pattern} is a folder without images ({', '.join(sorted(IMAGE_SUFFIXES))})"
        if pattern.is_file():
            return [pattern], ""
        if is_glob(self._pattern):
            found = [Path(name) for name in glob.glob(self._pattern, recursive=True) if Path(name).is_file()]  # noqa: PTH207 (absolute patterns)
            return found, f"no file matches {self._pattern}"
        return [], f"{pattern}: no such file or folder"

    def _read(self, path: Path) -> Image | None:
        try:
            image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        except cv2.error:  # more pixels than OpenCV is willing to read
            return None
        if image is None or image.dtype not in (np.uint8, np.uint16) or image.ndim not in (2, 3):
            return None
        native = cast("Image", image)
        return _as_rgb(native) if self.modality.is_visible else as_mono(native)


def is_glob(text: str) -> bool:
    """Whether the text has wildcards."""
    return not _GLOB_CHARACTERS.isdisjoint(text)


def _as_rgb(image: Image) -> Image:
    """The door at which BGR dies."""
    if image.dtype == np.uint16:
        image = (image >> 8).astype(np.uint8)
    channels = 1 if image.ndim == 2 else image.shape[2]
    code = {1: cv2.COLOR_GRAY2RGB, 3: cv2.COLOR_BGR2RGB, 4: cv2.COLOR_BGRA2RGB}[channels]
    return cast("Image", cv2.cvtColor(image, code))


def as_mono(image: Image) -> Image:
    """The luma of an image as OpenCV reads it, (h, w); where the channels are equal, that is each of them.

    Args:
        image: Mono, BGR or BGRA, 8 or 16 bits.
    """
    if image.ndim == 2:
        return image
    return cast("Image", cv2.cvtColor(image, cv2.COLOR_BGRA2GRAY if image.shape[2] == 4 else cv2.COLOR_BGR2GRAY))


def _natural_order(path: Path) -> tuple[str, list[tuple[bool, int, str]]]:
    parts = re.split(r"(\d+)", path.name)
    return str(path.parent), [(part.isdigit(), int(part) if part.isdigit() else 0, part) for part in parts]
