"""Annotated H.264 video of one camera: a second pass over its recording, once everybody in it is known.

Below the picture, where there are several cameras, a strip shows for each person in view how another one saw them, by
preference one of another modality; whoever has just left stays there for a moment, in grey. Tracklets without a person
have thin grey boxes.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, tzinfo
from fractions import Fraction
from pathlib import Path
from typing import cast

import av
import cv2
import numpy as np
from av.container import OutputContainer
from av.video.stream import VideoStream
from numpy.typing import NDArray

from pipeline.drawing import (
    CORRECT,
    GREY,
    MODALITY_COLOUR,
    WHITE,
    WRONG,
    Colour,
    Rgb8,
    fit,
    person_colour,
    put_label,
    put_text,
    shortened,
    text_wh,
    to_rgb8,
)
from pipeline.frame import Frame
from pipeline.identify import person_name
from pipeline.store import Store, StoredTracklet, TrackletBoxes, read_crop
from reid.modality import Modality

_STRIP_BACKGROUND: Colour = (18, 20, 24)
_DARK: Colour = (20, 22, 26)
_LINGER_SECONDS = 0.8
_CLOCK = Fraction(1, 90000)  # of presentation times: the usual one of video, fine enough for any frame rate


@dataclass(frozen=True, slots=True, eq=False)
class Companion:
    """How another camera saw the same person.

    Attributes:
        image: RGB uint8 (h, w, 3).
        caption: Short lines: where, when, how probable.
        modality: Of that camera.
        verdicts: By tracklet of this camera, whether both are one true person; empty without ground truth.
    """

    image: Rgb8
    caption: tuple[str, ...]
    modality: Modality
    verdicts: Mapping[str, bool] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class VideoStyle:
    """What surrounds the picture.

    Attributes:
        fps: Nominal frames a second, written in the file; frames keep their own times.
        timezone: Of the clock shown; other than UTC, both are shown.
        strip: Whether the strip of companions is drawn below the picture.
    """

    fps: float
    timezone: tzinfo = UTC
    strip: bool = True


@dataclass(frozen=True, slots=True, eq=False)
class _Mark:
    """One box on one frame."""

    xyxy: NDArray[np.float32]
    person_id: int | None
    tracklet_id: str


def annotate(
    frames: Iterable[Frame],
    boxes: Sequence[TrackletBoxes],
    path: Path,
    style: VideoStyle,
    *,
    rgb8: Callable[[Frame], Rgb8],
    companions: Mapping[int, Companion] | None = None,
) -> int:
    """Write the video: ``<path>.part`` while it grows, ``<path>`` when it is whole; on an error neither.

    Args:
        frames: Of one camera, in order of time; those of another size than the first are fitted into it.
        boxes: Of that camera's tracklets (``Store.boxes``).
        path: Ends in .mp4.
        style: What surrounds the picture.
        rgb8: A frame as RGB for the eye; called once a frame.
        companions: By person id (see ``companions_of``); None or empty for a video without a strip's content.

    Returns:
        Frames written; 0 leaves no file.
    """
    painter = _Painter(boxes, style, companions or {})
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    try:
        written = _encode(frames, painter, part, style.fps, rgb8)
        if written:
            part.replace(path)
        return written
    finally:
        with suppress(FileNotFoundError):
            part.unlink()


def _encode(frames: Iterable[Frame], painter: "_Painter", part: Path, fps: float, rgb8: Callable[[Frame], Rgb8]) -> int:
    written, first_pts = 0, 0.0
    with av.open(part, "w", format="mp4", options={"movflags": "+faststart"}) as container:
        stream: VideoStream | None = None
        for frame in frames:
            canvas = painter.paint(frame, rgb8(frame))
            if stream is None:
                first_pts = frame.pts_seconds
                stream = _add_stream(container, canvas, fps)
            elif canvas.shape[:2] != (stream.height, stream.width):
                canvas = fit(canvas, (stream.width, stream.height))
            # OpenCV turns RGB into 4:2:0 several times faster than FFmpeg's scaler, by the same matrix (ITU-R BT.601).
            planes = cast("NDArray[np.uint8]", cv2.cvtColor(canvas, cv2.COLOR_RGB2YUV_I420))
            picture = av.VideoFrame.from_ndarray(planes, format="yuv420p")
            picture.pts = round((frame.pts_seconds - first_pts) / _CLOCK)
            picture.time_base = _CLOCK
            container.mux(stream.encode(picture))
            written += 1
        if stream is not None:
            container.mux(stream.encode(None))
    return written


def _add_stream(container: OutputContainer, canvas: Rgb8, fps: float) -> VideoStream:
    stream = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1001))
    stream.height, stream.width = canvas.shape[:2]
    stream.pix_fmt = "yuv420p"
    stream.codec_context.time_base = _CLOCK
    stream.options = {"preset": "veryfast", "crf": "23"}
    return stream


class _Painter:
    """Draws on one camera's frames; remembers who stands in which slot of the strip."""

    def __init__(self, boxes: Sequence[TrackletBoxes], style: VideoStyle, companions: Mapping[int, Companion]) -> None:
        self._style = style
        self._companions = companions
        self._marks: dict[int, list[_Mark]] = defaultdict(list)
        for tracklet in boxes:
            for index, xyxy in zip(tracklet.frame_index.tolist(), tracklet.xyxy, strict=True):
                self._marks[index].append(_Mark(xyxy, tracklet.person_id, tracklet.tracklet_id))
        self._slots: list[tuple[_Mark, float] | None] = []
        self._strip: Rgb8 | None = None
        self._drawn: list[tuple[int | None, str, bool] | None] = []  # what the strip shows

    def paint(self, frame: Frame, picture: Rgb8) -> Rgb8:
        """The picture with marks, header and strip; even width and height, as H.264 wants."""
        height, width = picture.shape[:2]
        unit = max(11, round(height / 30))
        strip = 7 * unit if self._style.strip else 0
        canvas = np.empty((height + strip + (height + strip) % 2, width + width % 2, 3), np.uint8)
        canvas[height:], canvas[:, width:] = _STRIP_BACKGROUND, 0
        canvas[:height, :width] = picture
        marks = self._marks.get(frame.index, [])
        for mark in sorted(marks, key=lambda each: float(each.xyxy[3])):
            _draw_mark(canvas[:height, :width], mark, unit)
        self._draw_header(canvas[:height, :width], frame, unit)
        if strip:
            present = {mark.person_id: mark for mark in marks if mark.person_id in self._companions}
            canvas[height : height + strip] = self._strip_of(present, frame.pts_seconds, (strip, canvas.shape[1]), unit)
        return canvas

    def _draw_header(self, canvas: Rgb8, frame: Frame, unit: int) -> None:
        margin = unit // 2
        colour = MODALITY_COLOUR[frame.modality]
        width, _ = put_label(canvas, frame.modality.value.upper(), (margin, margin), size=unit, background=colour)
        put_label(canvas, frame.camera_id, (margin + width, margin), size=unit, background=_DARK)
        local = frame.captured_at.astimezone(self._style.timezone)
        clock = f"{local:%Y-%m-%d %H:%M:%S %Z}"
        if local.utcoffset():
            clock += f"  ({frame.captured_at.astimezone(UTC):%H:%M:%S} UTC)"
        right = canvas.shape[1] - text_wh(clock, unit)[0] - 2 * max(2, unit // 4) - margin
        put_label(canvas, clock, (right, margin), size=unit, background=_DARK)

    def _strip_of(self, present: Mapping[int | None, _Mark], now: float, shape_hw: tuple[int, int], unit: int) -> Rgb8:
        """The strip for this moment; drawn only when somebody has come or gone."""
        left, slot_width = 13 * unit // 2, 21 * unit // 2
        self._update_slots(present, now, max(1, (shape_hw[1] - left) // slot_width))
        shown = [each and (each[0].person_id, each[0].tracklet_id, each[1] == now) for each in self._slots]
        if self._strip is None or self._strip.shape[:2] != shape_hw or shown != self._drawn:
            self._strip = np.full((*shape_hw, 3), _STRIP_BACKGROUND, np.uint8)
            self._draw_strip(self._strip, unit, now, left=left, slot_width=slot_width)
            self._drawn = shown
        return self._strip

    def _draw_strip(self, canvas: Rgb8, unit: int, now: float, *, left: int, slot_width: int) -> None:
        heading = ("In view, and", "as another", "camera", "saw them")
        for line, text in enumerate(heading):
            put_text(
                canvas, text, (unit // 2, unit * (line + 1) * 13 // 10 - unit // 4), size=unit * 9 // 10, colour=GREY
            )
        for slot, content in enumerate(self._slots):
            if content is not None:
                x = left + slot * slot_width
                self._draw_companion(canvas[:, x : x + slot_width], content[0], unit, here=content[1] == now)

    def _update_slots(self, present: Mapping[int | None, _Mark], now: float, count: int) -> None:
        """People keep their slot while in view and shortly after, so that the strip can be read."""
        self._slots = (self._slots + [None] * count)[:count]
        for slot, content in enumerate(self._slots):
            if content is not None and content[0].person_id in present:
                self._slots[slot] = (present[content[0].person_id], now)
            elif content is not None and now - content[1] > _LINGER_SECONDS:
                self._slots[slot] = None
        shown = {content[0].person_id for content in self._slots if content is not None}
        for person, mark in present.items():
            if person not in shown and None in self._slots:
                self._slots[self._slots.index(None)] = (mark, now)

    def _draw_companion(self, canvas: Rgb8, mark: _Mark, unit: int, *, here: bool) -> None:
        person = mark.person_id or 0
        companion = self._companions[person]
        height = canvas.shape[0] - unit
        width = height // 2
        y, x = unit // 2, 2
        colour = person_colour(person) if here else GREY
        canvas[y : y + height, x : x + width] = fit(companion.image, (width, height), background=_DARK)
        cv2.rectangle(canvas, (x, y), (x + width - 1, y + height - 1), colour, 1)
        x += width + 4
        taken, _ = put_label(canvas, person_name(person), (x, y), size=unit, background=colour)
        correct = companion.verdicts.get(mark.tracklet_id)
        if correct is not None:
            text, background = ("right", CORRECT) if correct else ("wrong", WRONG)
            put_label(canvas, text, (x + taken + 2, y), size=unit, background=background)
        y += unit * 15 // 10
        put_label(
            canvas,
            companion.modality.value.upper(),
            (x, y),
            size=unit * 8 // 10,
            background=MODALITY_COLOUR[companion.modality],
        )
        for line in companion.caption:
            y += unit * 12 // 10
            text = shortened(line, unit * 9 // 10, canvas.shape[1] - x)
            put_text(canvas, text, (x, y), size=unit * 9 // 10, colour=WHITE)


def _draw_mark(canvas: Rgb8, mark: _Mark, unit: int) -> None:
    left, top, right, bottom = mark.xyxy.round().astype(int).tolist()
    if mark.person_id is None:
        cv2.rectangle(canvas, (left, top), (right, bottom), GREY, 1)
        return
    colour = person_colour(mark.person_id)
    cv2.rectangle(canvas, (left, top), (right, bottom), _DARK, max(4, unit // 7 + 2))
    cv2.rectangle(canvas, (left, top), (right, bottom), colour, max(2, unit // 7))
    text = person_name(mark.person_id)
    label_height = text_wh(text, unit)[1] + 2
    above = top - label_height if top >= label_height else top
    put_label(canvas, text, (left, above), size=unit, background=colour)


def companions_of(
    store: Store, camera_id: str, *, timezone: tzinfo = UTC, truth: Mapping[str, int] | None = None
) -> dict[int, Companion]:
    """For each person whom this camera saw and another camera too: the best view of another camera.

    Another modality is preferred, RGB before all (people know people by it); among those the view of the best quality.
    The probability beside it is that of the likest pair: this view's tracklet, and one of this camera.

    Args:
        store: Of the run.
        camera_id: Of the video.
        timezone: Of the times shown.
        truth: True person by tracklet id; what is missing is nobody's and never right. None where it is not known.
    """
    own = store.cameras().get(camera_id)
    by_person: dict[int, list[StoredTracklet]] = defaultdict(list)
    for tracklet in store.tracklets():
        if tracklet.person_id is not None and tracklet.best_crop is not None:
            by_person[tracklet.person_id].append(tracklet)
    companions = {}
    for person, tracklets in by_person.items():
        elsewhere = [each for each in tracklets if each.camera_id != camera_id]
        if elsewhere and len(elsewhere) < len(tracklets):
            best = max(
                elsewhere,
                key=lambda each: (
                    each.modality is not own,
                    each.modality is Modality.RGB,
                    each.quality,
                    each.tracklet_id,
                ),
            )
            here = [each for each in tracklets if each.camera_id == camera_id]
            caption = (best.camera_id, f"{best.start.astimezone(timezone):%H:%M:%S}", _likeness(store, best, here))
            verdicts = {} if truth is None else _verdicts(truth, best, here)
            companions[person] = Companion(_view(best), caption, best.modality, verdicts)
    return companions


def _likeness(store: Store, best: StoredTracklet, here: Sequence[StoredTracklet]) -> str:
    cosines = store.embeddings([each.row for each in here]) @ store.embeddings([best.row])[0]
    return f"p(same) {store.calibration.probability(cosines, best.modality, here[0].modality).max():.2f}"


def _verdicts(truth: Mapping[str, int], best: StoredTracklet, here: Sequence[StoredTracklet]) -> dict[str, bool]:
    person = truth.get(best.tracklet_id)
    return {each.tracklet_id: person is not None and truth.get(each.tracklet_id) == person for each in here}


def _view(tracklet: StoredTracklet) -> Rgb8:
    if tracklet.best_crop is None:
        raise ValueError(f"tracklet {tracklet.tracklet_id} has no crop")
    return to_rgb8(read_crop(tracklet.best_crop))
