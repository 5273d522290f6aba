"""From files and recordings to the crops of one person, by simple rules."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import cast

import cv2
import numpy as np

from pipeline.errors import UsageError
from pipeline.frame import Frame, Image, TimeSource
from pipeline.sources.base import SourceInfo
from pipeline.sources.pictures import FALSE_COLOUR_ADVICE, has_false_colour
from pipeline.sources.stills import READ_UPRIGHT, as_mono
from pipeline.tracklets import Tracklet, cut_out
from reid.modality import Modality
from trackers.structures import Detections

MIN_CROP_WH = (8, 16)
_CROP_PADDING = 0.03
_UPRIGHT = 1.2
_MOST_OF_PERSON = 512  # pixels of a side: models see less than that
_MOST_OF_SCENE = 1920  # in which people are looked for
_LAST_SECONDS = 1.0  # for which the last frame of a recording counts as shown


@dataclass(frozen=True, slots=True)
class Query:
    """What is searched for.

    Attributes:
        description: A tracklet id, or the file and what was taken from it.
        modality: Of the query.
        camera_id: None where no camera of the site is known to have seen it.
        start: None where that is not known.
        end: None where that is not known.
        people: How many were found in the image, of whom the largest was taken; None where nobody looked.
    """

    description: str
    modality: Modality
    camera_id: str | None = None
    start: datetime | None = None
    end: datetime | None = None
    people: int | None = None


@dataclass(frozen=True, slots=True)
class Spot:
    """A box on one frame of a recording.

    Attributes:
        at: Capture time, or seconds since the recording began.
        xyxy: Pixels of the frame.
    """

    at: datetime | float
    xyxy: tuple[float, float, float, float]

    @classmethod
    def parse(cls, at: datetime | float, box: str) -> "Spot":
        """Read a box of ``x1,y1,x2,y2``.

        Raises:
            UsageError: When it is not four numbers, or empty.
        """
        try:
            left, top, right, bottom = map(float, box.split(","))
        except ValueError:
            raise UsageError(f"--box {box!r}: expected four numbers, x1,y1,x2,y2, in pixels of the frame") from None
        if not (left < right and top < bottom):
            raise UsageError(f"--box {box!r}: x1 < x2 and y1 < y2 must hold")
        return cls(at, (left, top, right, bottom))


def clip_from_image(
    path: Path,
    modality: Modality | None,
    *,
    whole: bool = False,
    detect: Callable[[Frame], Detections] | None = None,
) -> tuple[list[Image], Query]:
    """One crop from an image file.

    The rule: with ``whole``, or when the image is upright (at least 1.2 times as high as wide), the whole image is
    taken for one person. Otherwise ``detect`` finds people and the largest box is taken. What is larger than a model
    makes use of is made smaller first: a crop to 512 pixels a side, an image with people to find to 1920.

    Args:
        path: Any format that OpenCV reads.
        modality: None to infer it: 16-bit grey is thermal, colour is RGB; 8-bit grey could be either and is refused.
        whole: The image shows one person and little else.
        detect: Boxes of one frame; None when the configured detector cannot work on a still image.

    Raises:
        UsageError: When the file is no image, is too small, its modality is not obvious, or nobody is found in it.
    """
    stored = _decoded(path)
    height, width = stored.shape[:2]
    whole = whole or height >= _UPRIGHT * width
    image, modality = _as_frame(path, _shrunk(stored, _MOST_OF_PERSON if whole else _MOST_OF_SCENE), modality)
    if whole:
        return [image], Query(f"{path} (whole image)", modality)
    if detect is None:
        raise UsageError(
            f"{path}: the image is wide and may show several people, and this detector cannot work on a still image;"
            " crop the person, or pass --whole to take the image as it is"
        )
    frame = Frame(image, "query", modality, 0, 0.0, datetime.now(UTC), TimeSource.FILE_MODIFIED)
    boxes = detect(frame).xyxy
    if not len(boxes):
        raise UsageError(f"{path}: nobody found in the image; crop the person, or pass --whole to take it as it is")
    largest = boxes[np.argmax((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]))]
    crop = cut_out(frame, largest, padding=_CROP_PADDING)
    if crop is None:
        raise UsageError(f"{path}: the person found lies outside the image")
    box = (largest * (width / image.shape[1])).round().astype(int).tolist()
    description = f"{path} (largest of {len(boxes)} people, box {box})"
    return [_shrunk(crop, _MOST_OF_PERSON)], Query(description, modality, people=len(boxes))


def clip_from_video(
    path: Path, modality: Modality, tracklets_of: Callable[[Path], Sequence[Tracklet]]
) -> tuple[list[Image], Query]:
    """The crops of the person who is longest in view in a video file.

    Args:
        path: Whatever ``tracklets_of`` reads.
        modality: Of the video.
        tracklets_of: Detects, tracks and gathers; gives accepted tracklets.

    Raises:
        UsageError: When no tracklet is found.
    """
    found = list(tracklets_of(path))
    if not found:
        raise UsageError(f"{path}: nobody was tracked in the video for long enough to be searched for")
    longest = max(found, key=lambda each: (len(each.frame_index), each.tracklet_id))
    text = f"{path} (longest of {len(found)} tracklets, {longest.duration_seconds:.1f} s)"
    return [crop.image for crop in longest.crops], Query(text, modality)


def clip_from_spot(frames: Iterable[Frame], spot: Spot, *, name: str, span: str = "") -> tuple[list[Image], Query]:
    """The crop of one box on the frame that was shown at a moment: the last one not after it.

    Args:
        frames: Of a recording, in order of time.
        spot: Which moment and which box.
        name: Of the recording, for messages.
        span: From when to when it goes, for messages, as `span_of` says it.

    Raises:
        UsageError: When the recording does not reach the moment, or the box lies outside the frame or is too small.
    """
    shown = frame_shown(frames, spot.at)
    if shown is None:
        at = _written(spot.at) if isinstance(spot.at, datetime) else f"{spot.at:g} s"
        raise UsageError(f"{name}: has no frame at {at}{span and f'; it goes {span}'}")
    crop = cut_out(shown, np.array(spot.xyxy, np.float32), padding=_CROP_PADDING)
    if crop is None or crop.shape[1] < MIN_CROP_WH[0] or crop.shape[0] < MIN_CROP_WH[1]:
        width, height = shown.resolution_wh
        raise UsageError(
            f"--box {','.join(f'{each:g}' for each in spot.xyxy)}: too little of it lies within the frame of"
            f" {width}x{height} pixels"
        )
    where = f"{name} (frame {shown.index}, box {','.join(f'{each:g}' for each in spot.xyxy)})"
    return [crop], Query(where, shown.modality, shown.camera_id, shown.captured_at, shown.captured_at)


def span_of(info: SourceInfo) -> str:
    """From when to when a recording goes, for people; without the end where the container does not say it."""
    start = f"from {_written(info.start)}"
    if info.frames is None:
        return start
    seconds = info.frames / info.fps
    return f"{start} to {_written(info.start + timedelta(seconds=seconds))}, 0 to {seconds:.1f} s"


def _written(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds")


def frame_shown(frames: Iterable[Frame], at: datetime | float) -> Frame | None:
    """The frame that is shown at a moment: the last one not after it; None where the recording does not reach it.

    Args:
        frames: Of a recording, in order of time.
        at: Capture time, or seconds since the recording began.
    """

    def moment_of(frame: Frame) -> datetime | float:
        return frame.captured_at if isinstance(at, datetime) else frame.pts_seconds

    shown: Frame | None = None
    for frame in frames:
        if moment_of(frame) > at:  # type: ignore[operator]
            return shown
        shown = frame
    if shown is None:
        return None
    behind = (at - shown.captured_at).total_seconds() if isinstance(at, datetime) else at - shown.pts_seconds
    return shown if behind <= _LAST_SECONDS else None


def _decoded(path: Path) -> Image:
    """An image file as OpenCV reads it."""
    if not path.is_file():
        raise UsageError(f"{path}: no such file")
    data = np.fromfile(path, np.uint8)
    image = cv2.imdecode(data, READ_UPRIGHT) if len(data) else None
    if image is None or image.dtype not in (np.uint8, np.uint16):
        raise UsageError(f"{path}: not an image that can be read (8 or 16 bits, such as JPEG, PNG or TIFF)")
    if image.shape[1] < MIN_CROP_WH[0] or image.shape[0] < MIN_CROP_WH[1]:
        raise UsageError(
            f"{path}: {image.shape[1]}x{image.shape[0]} pixels are too few for a person;"
            f" at least {MIN_CROP_WH[0]}x{MIN_CROP_WH[1]} are needed"
        )
    return cast("Image", image)


def _shrunk(image: Image, most: int) -> Image:
    """With sides of at most so many pixels, but never fewer than a person has."""
    height, width = image.shape[:2]
    scale = most / max(height, width)
    if scale >= 1:
        return image
    size = max(MIN_CROP_WH[0], round(scale * width)), max(MIN_CROP_WH[1], round(scale * height))
    return cast("Image", cv2.resize(image, size, interpolation=cv2.INTER_AREA))


def _as_frame(path: Path, image: Image, modality: Modality | None) -> tuple[Image, Modality]:
    """RGB, or one channel of what is infrared; the modality is what it obviously is where nobody says it."""
    rgb = image[..., :3][..., ::-1] if image.ndim == 3 else None
    is_colour = rgb is not None and not (np.ptp(rgb.astype(np.int32), axis=2) <= 2).all()
    modality = modality or _obvious_modality(path, image.dtype == np.uint16, is_colour)
    if modality is Modality.THERMAL and has_false_colour(image):
        raise UsageError(f"{path}: said to be thermal, but {FALSE_COLOUR_ADVICE}")
    if modality is Modality.RGB:
        if image.dtype != np.uint8:
            raise UsageError(f"{path}: an rgb image must have 8 bits, got 16")
        whole = rgb if rgb is not None else np.repeat(image[..., None], 3, axis=2)
        return np.ascontiguousarray(whole, dtype=np.uint8), modality
    return as_mono(image), modality


def _obvious_modality(path: Path, is_16_bit: bool, is_colour: bool) -> Modality:
    if is_colour:
        return Modality.RGB
    if is_16_bit:
        return Modality.THERMAL
    raise UsageError(f"{path}: a grey image may be nir, thermal or rgb; say which with --query-modality")
