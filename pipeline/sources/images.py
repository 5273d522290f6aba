"""Image sequences: a folder, a glob, a numbered sequence, or one file with one image or many."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from pathlib import Path
from threading import Event

import numpy as np

from pipeline.errors import ErrorCode, SourceError
from pipeline.frame import Frame, Image, TimeSource
from pipeline.sources.base import SourceAccount, SourceInfo, SourceState, check_size
from pipeline.sources.clock import start_of
from pipeline.sources.pictures import FALSE_COLOUR_ADVICE, has_false_colour
from pipeline.sources.stills import Still, as_mono, as_rgb, bits_in_use, find, kind_of, read, read_in_order
from pipeline.start_pattern import StartPattern
from reid.modality import Modality

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class SequenceTiming:
    """Time of images, which have none of their own.

    Attributes:
        fps: Images a second.
        start: Capture time of the first; without it: its file's name or date.
        pattern: Of the first file's name, which then must hold the start.
        zone: Of a time in the name that does not say its own.
    """

    fps: float = 10.0
    start: datetime | None = None
    pattern: StartPattern | None = None
    zone: tzinfo = UTC


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
            pattern: A folder, a glob, a name with a number (``img_%04d.png``), or one file.
            modality: What it measures.
            timing: Frames a second and start.
        """
        self.camera_id = camera_id
        self.modality = modality
        self.account = SourceAccount()
        self.info: SourceInfo | None = None
        self._closed = Event()
        self._bits = 0  # of the levels of deep images in colour, as far as they were seen
        self._pattern = pattern
        self._timing = timing or SequenceTiming()

    def probe(self) -> SourceInfo:
        """List the images and read the first that can be read."""
        return self._probe(self._stills())

    def __iter__(self) -> Iterator[Frame]:
        """Read; an image that cannot be used is skipped and counted, and leaves a gap in index and time."""
        return self.frames_from(0.0)

    def frames_from(self, seconds: float) -> Iterator[Frame]:
        """As iterating, from the image of a moment on."""
        stills = self._stills()
        info = self._probe(stills)
        account = self.account = SourceAccount(expected=info.frames, state=SourceState.RUNNING)
        wanted = [each for each in stills if each.position / self._timing.fps >= seconds - 1 / self._timing.fps]
        told = False
        for still, native in read_in_order(wanted):
            if self._closed.is_set():
                break
            image, cause = self._image(still, native, info)
            if image is None:
                account.skip(cause, str(still))
                if not told and account.skipped["resolution_changed"] > account.decoded:
                    told = True
                    self._tell_sizes(stills[0], info)
                continue
            account.give()
            pts_seconds = still.position / self._timing.fps
            yield Frame(
                image=image,
                camera_id=self.camera_id,
                modality=self.modality,
                index=still.position,
                pts_seconds=pts_seconds,
                captured_at=info.start + timedelta(seconds=pts_seconds),
                time_source=info.time_source,
            )
        account.enter(SourceState.ENDED)

    def close(self) -> None:
        """End the iteration before its next frame."""
        self._closed.set()

    def _probe(self, stills: list[Still]) -> SourceInfo:
        self._bits = 0
        found = next(((still, image) for still in stills if (image := read(still)) is not None), None)
        if found is None:
            raise SourceError(
                f"camera {self.camera_id}: none of the {len(stills)} images of {self._pattern} can be read; images "
                "of 8 or 16 bits are, in grey or colour, and arrays of whole numbers from 0 to 65535"
                + (f"; {stills[0].path.name} holds {kind}" if (kind := kind_of(stills[0])) else ""),
                ErrorCode.RECORDING_UNREADABLE,
            )
        first, native = found
        if self.modality is Modality.THERMAL and has_false_colour(native):
            raise SourceError(f"camera {self.camera_id}: {first} {FALSE_COLOUR_ADVICE}", ErrorCode.FALSE_COLOUR)
        image = self._converted(native)
        resolution_wh = image.shape[1], image.shape[0]
        check_size(self.camera_id, first.path, resolution_wh)
        start, time_source = self._start(stills[0].path)
        self.account.expected = len(stills)
        self.info = SourceInfo(
            resolution_wh=resolution_wh,
            fps=self._timing.fps,
            frames=len(stills),
            bit_depth=8 * image.dtype.itemsize,
            start=start,
            time_source=time_source,
        )
        return self.info

    def _start(self, first: Path) -> tuple[datetime, TimeSource]:
        try:
            return start_of(first, configured=self._timing.start, pattern=self._timing.pattern, zone=self._timing.zone)
        except ValueError as error:
            raise SourceError(f"camera {self.camera_id}: {error}", ErrorCode.RECORDING_UNREADABLE) from None

    def _stills(self) -> list[Still]:
        try:
            found, problem = find(self._pattern)
        except OSError as error:
            raise SourceError(
                f"camera {self.camera_id}: {self._pattern} cannot be read: {error.strerror}",
                ErrorCode.RECORDING_UNREADABLE,
            ) from error
        if not found:
            raise SourceError(f"camera {self.camera_id}: {problem}", ErrorCode.RECORDING_NOT_FOUND)
        return found

    def _image(self, still: Still, native: Image | None, info: SourceInfo) -> tuple[Image | None, str]:
        """The image of a frame, or why there is none."""
        if native is None:
            return None, "unreadable" if still.path.exists() else "missing"
        if self.modality is Modality.THERMAL and has_false_colour(native):
            return None, "false_colour"
        image = self._converted(native)
        if (image.shape[1], image.shape[0]) != info.resolution_wh:
            return None, "resolution_changed"
        if 8 * image.dtype.itemsize != info.bit_depth:
            return None, "bit_depth_changed"
        return image, ""

    def _tell_sizes(self, first: Still, info: SourceInfo) -> None:
        width, height = info.resolution_wh
        logger.warning(
            "camera %s: more of its pictures than not are of another size than %s, %dx%d, and are skipped; leave that "
            "one out, or make pictures of each size a camera", self.camera_id, first, width, height,
        )  # fmt: skip

    def _converted(self, native: Image) -> Image:
        if not self.modality.is_visible:
            return as_mono(native)
        if native.dtype == np.uint16 and (bits := bits_in_use(native)) > self._bits:
            if self._bits or bits < 16:
                logger.warning(
                    "camera %s: its pictures of 16 bits have levels of %d bits, and are made 8 bits by these now",
                    self.camera_id, bits,
                )  # fmt: skip
            self._bits = bits
        return as_rgb(native, bits=self._bits or 16)
