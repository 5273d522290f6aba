"""The clip of one tracklet: H.264 of the recording while the person was in view, with or without the box.

Where there is no recording any more, or never was (a live camera), the views that were kept stand for it, and the clip
says so. With ``blur_others`` nobody else can be recognised: all around the person is blurred, found by the detector or
not, and whoever else was found is blurred where they overlap the person too.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from fractions import Fraction
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal, TypeAlias, cast

import av
import cv2
import numpy as np
from av.video.stream import VideoStream
from numpy.typing import NDArray

from pipeline.build import build_windows
from pipeline.config import Config
from pipeline.drawing import Rgb8, fit, person_colour, put_label, to_rgb8
from pipeline.errors import SourceError, UsageError
from pipeline.identify import person_name
from pipeline.record import to_us
from pipeline.sources.open import open_source
from pipeline.sources.seek import frames_from
from pipeline.store import Store, StoredTracklet, read_crop

_LEAD = timedelta(seconds=1.0)  # shown before and after
_HELD_FRAMES = 5  # for which a box is taken to last, where the tracker had none
_MARGIN = 0.08  # of a box, around others
_SECONDS_A_VIEW = 0.5
_VIEW_WH = (256, 512)
_CLOCK = Fraction(1, 90000)

Floats: TypeAlias = NDArray[np.float64]
Area: TypeAlias = tuple[int, int, int, int]  # left, top, right, bottom


@dataclass(frozen=True, slots=True)
class Clip:
    """A clip.

    Attributes:
        data: MP4.
        made_of: The recording, or the kept views.
        frames: How many.
    """

    data: bytes
    made_of: Literal["recording", "crops"]
    frames: int


@dataclass(frozen=True, slots=True)
class Look:
    """How a clip looks.

    Attributes:
        box: Whether the box is drawn.
        blur_others: Whether nobody else may be recognised.
    """

    box: bool = True
    blur_others: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class _Picture:
    image: Rgb8
    seconds: float


def clip_of(store: Store, config: Config | None, tracklet_id: str, look: Look) -> Clip:
    """The clip of a tracklet.

    Args:
        store: Of the run.
        config: Of the run; None where no run says where its recordings are.
        tracklet_id: Whose.
        look: How it looks.

    Raises:
        UsageError: When there is no such tracklet, or neither recording nor views are there any more.
    """
    own = store.tracklet(tracklet_id)
    people = _People(store, own)
    data, frames = _encoded(_from_recording(config, own, people, look))
    if frames:
        return Clip(data, "recording", frames)
    data, frames = _encoded(_from_views(store, own, people, look))
    if not frames:
        raise UsageError(f"clip of tracklet {tracklet_id}: neither its recording nor its views are there any more")
    return Clip(data, "crops", frames)


def blurred_view(store: Store, tracklet_id: str, position: int) -> Rgb8:
    """A kept view, for the eye, in which whoever else was found is blurred.

    Raises:
        UsageError: When there is no such tracklet.
    """
    return _People(store, store.tracklet(tracklet_id)).view(store, tracklet_id, position)


class _People:
    """Where the person is, and where others are, by frame."""

    def __init__(self, store: Store, own: StoredTracklet) -> None:
        boxes = store.boxes_of(own.tracklet_id)
        self._own = _filled(boxes.frame_index, boxes.xyxy)
        with store.reading() as db:
            rows = db.execute(
                "SELECT frame_index, xyxy FROM tracklets"
                " WHERE camera_id = ? AND row != ? AND end_us >= ? AND start_us <= ?",
                [own.camera_id, own.row, to_us(own.start - _LEAD), to_us(own.end + _LEAD)],
            ).fetchall()
        self._others = [
            _filled(np.frombuffer(index, "<i8"), np.frombuffer(xyxy, "<f4").reshape(-1, 4)) for index, xyxy in rows
        ]

    def box(self, index: int) -> Floats | None:
        """The person's, on a frame."""
        return self._own.get(index)

    def hide_others(self, picture: Rgb8, index: int) -> Rgb8:
        """The picture with nobody but the person to be recognised."""
        height, width = picture.shape[:2]
        hidden = np.asarray(cv2.GaussianBlur(picture, (0, 0), max(3.0, height / 40)), np.uint8)
        own = self._own.get(index)
        if own is not None:
            left, top, right, bottom = _area(own, width, height)
            hidden[top:bottom, left:right] = picture[top:bottom, left:right]
        self._pixelate_others(hidden, index, np.zeros(4), np.ones(4))
        return hidden

    def view(self, store: Store, tracklet_id: str, position: int) -> Rgb8:
        """A kept view with the parts of others pixelated."""
        record = store.record(tracklet_id)
        _, path, _, _, index, left, top, right, bottom = record.crops[position]
        picture = to_rgb8(read_crop(store.root / path)).copy()
        height, width = picture.shape[:2]
        scale = np.array([width / max(right - left, 1.0), height / max(bottom - top, 1.0)] * 2)
        self._pixelate_others(picture, index, np.array([left, top, left, top]), scale)
        return picture

    def _pixelate_others(self, picture: Rgb8, index: int, origin: Floats, scale: Floats) -> None:
        height, width = picture.shape[:2]
        for other in self._others:
            if index in other:
                left, top, right, bottom = _area((other[index] - origin) * scale, width, height)
                part = picture[top:bottom, left:right]
                if part.size:
                    coarse = cv2.resize(part, (2, 4), interpolation=cv2.INTER_AREA)
                    part[...] = cv2.resize(coarse, (right - left, bottom - top), interpolation=cv2.INTER_LINEAR)


def _filled(frame_index: NDArray[np.int64], xyxy: NDArray[np.float32]) -> dict[int, Floats]:
    """A box for every frame between the first and the last, and for a few around: trackers miss people for moments."""
    wanted = np.arange(frame_index[0] - _HELD_FRAMES, frame_index[-1] + _HELD_FRAMES + 1)
    columns = [np.interp(wanted, frame_index, xyxy[:, side].astype(np.float64)) for side in range(4)]
    return dict(zip(wanted.tolist(), np.stack(columns, axis=1), strict=True))


def _area(xyxy: Floats, width: int, height: int) -> Area:
    """A box with a margin, in whole pixels of the picture; empty where it lies outside."""
    margin = _MARGIN * (xyxy[2:] - xyxy[:2])
    left, top = np.clip(np.floor(xyxy[:2] - margin), 0, (width, height)).astype(int).tolist()
    right, bottom = np.clip(np.ceil(xyxy[2:] + margin), 0, (width, height)).astype(int).tolist()
    return left, top, right, bottom


def _from_recording(config: Config | None, own: StoredTracklet, people: _People, look: Look) -> Iterator[_Picture]:
    """Frames while the person was in view; none where they cannot be read."""
    camera = config.cameras.get(own.camera_id) if config is not None else None
    if config is None or camera is None or camera.live:
        return
    windows = build_windows(config)
    try:
        source = open_source(own.camera_id, camera)
        for frame in frames_from(source, own.start - _LEAD):
            if frame.captured_at > own.end + _LEAD:
                break
            if frame.captured_at < own.start - _LEAD:
                continue
            picture = windows.rgb8(frame)
            picture = people.hide_others(picture, frame.index) if look.blur_others else picture.copy()
            box = people.box(frame.index) if own.start <= frame.captured_at <= own.end else None
            if look.box and box is not None:
                _draw_box(picture, box, own)
            yield _Picture(picture, frame.pts_seconds)
    except SourceError:
        return


def _from_views(store: Store, own: StoredTracklet, people: _People, look: Look) -> Iterator[_Picture]:
    """The kept views, each for half a second."""
    for position, path in enumerate(store.crops(own.tracklet_id)):
        if path.is_file():
            view = people.view(store, own.tracklet_id, position) if look.blur_others else to_rgb8(read_crop(path))
            yield _Picture(fit(view, _VIEW_WH), position * _SECONDS_A_VIEW)


def _draw_box(picture: Rgb8, xyxy: Floats, own: StoredTracklet) -> None:
    left, top, right, bottom = xyxy.round().astype(int).tolist()
    colour = person_colour(own.person_id or 0)
    thickness = max(2, picture.shape[0] // 360)
    cv2.rectangle(picture, (left, top), (right, bottom), colour, thickness)
    if own.person_id is not None:
        size = max(11, picture.shape[0] // 36)
        put_label(picture, person_name(own.person_id), (left, top - size - 4), size=size, background=colour)


def _encoded(pictures: Iterable[_Picture]) -> tuple[bytes, int]:
    """H.264 in an MP4 whose index stands at the front, and how many pictures; they keep their times."""
    with TemporaryDirectory(prefix="clip-") as folder:  # FFmpeg moves the index in a file only
        path = Path(folder) / "clip.mp4"
        count = _write(pictures, path)
        return (path.read_bytes(), count) if count else (b"", 0)


def _write(pictures: Iterable[_Picture], path: Path) -> int:
    count, first = 0, 0.0
    with av.open(path, "w", format="mp4", options={"movflags": "+faststart"}) as container:
        stream: VideoStream | None = None
        for picture in pictures:
            image = picture.image[: picture.image.shape[0] // 2 * 2, : picture.image.shape[1] // 2 * 2]
            if stream is None:
                first = picture.seconds
                stream = container.add_stream("libx264", rate=25)
                stream.height, stream.width = image.shape[:2]
                stream.pix_fmt = "yuv420p"
                stream.codec_context.time_base = _CLOCK
                stream.options = {"preset": "veryfast", "crf": "23"}
            planes = cast("NDArray[np.uint8]", cv2.cvtColor(image, cv2.COLOR_RGB2YUV_I420))
            frame = av.VideoFrame.from_ndarray(planes, format="yuv420p")
            frame.pts, frame.time_base = round((picture.seconds - first) / _CLOCK), _CLOCK
            container.mux(stream.encode(frame))
            count += 1
        if stream is not None:
            container.mux(stream.encode(None))
    return count
