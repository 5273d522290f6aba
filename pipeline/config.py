"""The whole configuration: one YAML file, strictly checked; every error names the line, the key and what would do.

Relative paths in it (sources, weights, output) are relative to the current working directory, not to the file.
"""

import difflib
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from copy import deepcopy
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeAlias, cast, get_args
from zoneinfo import ZoneInfo, available_timezones

import numpy as np
import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    field_serializer,
    model_validator,
)
from pydantic_core import ErrorDetails

from pipeline.address import (
    LEAST_EXPANDED,
    hide_urls,
    is_live,
    remember_expanded,
    value_without_secrets,
    without_secrets,
)
from pipeline.errors import UsageError
from pipeline.frame import IMAGE_SUFFIXES
from pipeline.start_pattern import StartPattern
from reid.modality import Modality
from trackers.ground import GroundPlane

Key: TypeAlias = tuple[str | int, ...]
Origins: TypeAlias = dict[Key, str]
Expanded: TypeAlias = dict[str, str]  # what the environment gave, and the ${NAME} that stands for it

CAMERA_ID_PATTERN = "^[a-z0-9_]+$"
PAIR_ID_PATTERN = "^[a-z0-9_-]+$"


def parse_time(value: Any) -> datetime:
    """Read a moment: RFC 3339 with an offset, or a datetime with a timezone; the result is UTC.

    Raises:
        ValueError: When it is something else, or has no offset.
    """
    if isinstance(value, str):
        with suppress(ValueError):
            value = datetime.fromisoformat(value)
    if not isinstance(value, datetime) or value.tzinfo is None:
        raise ValueError(f"must be a time with its offset, such as 2026-06-01T08:00:00Z, got {str(value)!r}")
    try:
        return value.astimezone(UTC)
    except OverflowError:
        raise ValueError(f"must be a time that UTC has too, got {str(value)!r}") from None


def _parse_timezone(value: Any) -> Any:
    if isinstance(value, str) and value not in available_timezones():
        raise ValueError(f"{value!r} is not an IANA timezone{suggestion(value, available_timezones())}")
    return value


def _device_by_number(value: Any) -> Any:
    return str(value) if type(value) is int and value >= 0 else value


Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Rate = Annotated[float, Field(gt=0, lt=1)]
Count = Annotated[int, Field(ge=1)]
FilePath = Annotated[Path, Field(strict=False)]
Moment = Annotated[datetime, BeforeValidator(parse_time)]
ZoneName = Annotated[str, StringConstraints(pattern=CAMERA_ID_PATTERN)]
Corner = Annotated[list[Share], Field(min_length=2, max_length=2)]
CameraId = Annotated[str, StringConstraints(pattern=CAMERA_ID_PATTERN)]
PairId = Annotated[str, StringConstraints(pattern=PAIR_ID_PATTERN)]
Device = Annotated[str, StringConstraints(pattern=r"^(auto|cpu|cuda(:\d+)?)$")]


class Section(BaseModel):
    """What all sections share: frozen, no unknown keys, no conversion of types."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class SiteConfig(Section):
    """The place.

    Attributes:
        name: Stands in every event.
        timezone: IANA name, of clocks shown to people; stored times are always UTC.
    """

    name: Annotated[str, StringConstraints(min_length=1)] = "site"
    timezone: Annotated[str, BeforeValidator(_parse_timezone)] = "UTC"

    @property
    def zone(self) -> ZoneInfo:
        """The timezone as an object."""
        return ZoneInfo(self.timezone)


class ThermalConfig(Section):
    """How thermal counts become the 8 bits that detectors and people look at. The raw frame is kept.

    Attributes:
        low: Shown black, in white-hot images: counts, or degrees Celsius with kelvin_per_count; without low and high,
            limits are found from the first frames.
        high: Shown white.
        kelvin_per_count: Of a radiometric camera whose counts are absolute temperatures (0.01 and 0.04 are usual).
        polarity: Whether hot things have high counts (white_hot) or low ones, or that is found by what moves (auto).
    """

    low: float | None = None
    high: float | None = None
    kelvin_per_count: Positive | None = None
    polarity: Literal["white_hot", "black_hot", "auto"] = "white_hot"

    @model_validator(mode="after")
    def _check_limits(self) -> Self:
        if (self.low is None) != (self.high is None):
            given, absent = ("high", "low") if self.low is None else ("low", "high")
            raise ValueError(f"{given}: is given without {absent}; give both, or neither for automatic limits")
        if self.low is not None and self.high is not None and self.low >= self.high:
            raise ValueError(f"low: must be below high, got {self.low:g} and {self.high:g}")
        if self.kelvin_per_count is not None and self.low is None:
            raise ValueError("kelvin_per_count: is for low and high in degrees Celsius, and neither is given")
        return self


class GroundConfig(Section):
    """The floor under a fixed camera, on which people are followed in metres; at most one way to know it.

    Attributes:
        estimate: Learn it from people's boxes.
        homography: Maps pixels to metres on the floor, 3 rows of 3.
        height_metres: Of the camera above the floor; with it tilt_degrees, focal_px and centre_px.
        tilt_degrees: How far it looks down.
        focal_px: Focal length in pixels.
        centre_px: Where the optical axis meets the picture, x and y; usually its middle.
    """

    estimate: bool = False
    homography: list[list[float]] | None = None
    height_metres: Positive | None = None
    tilt_degrees: Annotated[float, Field(ge=0, lt=90)] | None = None
    focal_px: Positive | None = None
    centre_px: list[float] | None = None

    @model_validator(mode="after")
    def _check_one_way(self) -> Self:
        place = ("height_metres", "tilt_degrees", "focal_px", "centre_px")
        given = [name for name in place if getattr(self, name) is not None]
        if given and len(given) < len(place):
            raise ValueError(f"{given[0]}: height_metres, tilt_degrees, focal_px and centre_px must be given together")
        ways = ["estimate"] * self.estimate + ["homography"] * (self.homography is not None) + given[:1]
        if len(ways) > 1:
            raise ValueError(
                f"{ways[1]}: {ways[0]} is given too; give estimate, homography, or the camera's height_metres and "
                "tilt_degrees; only one"
            )
        return self

    @model_validator(mode="after")
    def _check_shapes(self) -> Self:
        rows = self.homography
        if rows is not None and (len(rows) != 3 or any(len(row) != 3 for row in rows)):
            raise ValueError(f"homography: must be 3 rows of 3 numbers, got {rows}")
        if rows is not None:
            try:
                GroundPlane(np.array(rows))
            except ValueError as error:
                raise ValueError(f"homography: {str(error).removeprefix('homography ')}") from None
        if self.centre_px is not None and len(self.centre_px) != 2:
            raise ValueError(f"centre_px: must be x and y, got {self.centre_px}")
        return self

    @property
    def given(self) -> bool:
        """Whether there is to be a floor at all."""
        return self.estimate or self.homography is not None or self.height_metres is not None


class StreamConfig(Section):
    """How a live source is connected, and how long anything may take.

    Attributes:
        transport: Of RTSP.
        timeout_seconds: From connecting to the first frame; while packets come and no key frame, up to a minute.
        stall_seconds: Without a frame for so long, the connection is given up and made anew. The only key here that is
            for recordings too: the others wait so long for the next frame of one.
        backoff_seconds: First wait before connecting again; doubles with every failure.
        backoff_cap_seconds: It never waits longer.
        max_clock_error_seconds: A camera's own clock that is further from this machine's is not believed.
        ca_file: Certificates, PEM, that those of rtsps and https must be signed by; without it, whom the camera is
            stays unchecked.
        hardware: Whether to decode on a GPU where there is one (auto), or never (none).
    """

    transport: Literal["tcp", "udp"] = "tcp"
    timeout_seconds: Positive = 10.0
    stall_seconds: Positive = 10.0
    backoff_seconds: Positive = 1.0
    backoff_cap_seconds: Positive = 30.0
    max_clock_error_seconds: Positive = 5.0
    ca_file: FilePath | None = None
    hardware: Literal["auto", "none"] = "auto"

    @model_validator(mode="after")
    def _check_backoff(self) -> Self:
        if self.backoff_seconds > self.backoff_cap_seconds:
            first, cap = f"{self.backoff_seconds:g}", f"{self.backoff_cap_seconds:g}"
            if "backoff_seconds" in self.model_fields_set:
                raise ValueError(f"backoff_seconds: must not exceed backoff_cap_seconds ({cap}), got {first}")
            raise ValueError(f"backoff_cap_seconds: must be at least backoff_seconds ({first}), got {cap}")
        return self


_LIVE_KEYS = ("stream", "target_fps", "max_staleness_ms")


class CameraConfig(Section):
    """One camera.

    Attributes:
        source: A video file, a folder of images, a glob of images, or a live stream's address.
        modality: What it measures.
        start: Capture time of the first frame; without it: the file's name, the container, the file's date.
        start_pattern: Of the file's name (of the first, in an image sequence), where it holds the start; see
            ``pipeline.start_pattern``.
        start_timezone: IANA name, of times in file names (and of a start_pattern) that do not say their offset; without
            it, that of the site.
        fps: Frames a second of image sequences; refused for videos and streams, which have times of their own.
        pair_id: Shared by two cameras of different modality that stand at one place and look the same way.
        target_fps: Of a live stream, frames a second that are processed; None for all.
        max_staleness_ms: Of a live stream, frames older than this are dropped rather than processed.
        stream: Only for live streams, but for ``stall_seconds``.
        zones: Named parts of the view, each of at least three corners, x and y as shares of width and height.
        thermal: Only for thermal cameras.
        ground: The floor, of a camera that never moves.
    """

    source: Annotated[
        str, StringConstraints(strip_whitespace=True, min_length=1), BeforeValidator(_device_by_number)
    ] = Field(repr=False)
    modality: Annotated[Modality, Field(strict=False)]
    start: Moment | None = None
    start_pattern: str | None = None
    start_timezone: Annotated[str | None, BeforeValidator(_parse_timezone)] = None
    fps: Annotated[float, Field(ge=1e-5, allow_inf_nan=False)] = 10.0
    pair_id: PairId | None = None
    target_fps: Positive | None = None
    max_staleness_ms: Positive = 1000.0
    stream: StreamConfig = StreamConfig()
    zones: dict[ZoneName, Annotated[list[Corner], Field(min_length=3)]] = {}
    thermal: ThermalConfig = ThermalConfig()
    ground: GroundConfig = GroundConfig()

    @property
    def live(self) -> bool:
        """Whether the source is a live stream."""
        return is_live(self.source)

    @field_serializer("source")
    def _hide(self, source: str) -> str:
        return without_secrets(source)

    @model_validator(mode="after")
    def _check_live(self) -> Self:
        meant = {"stream": StreamConfig(stall_seconds=self.stream.stall_seconds)}
        for name in _LIVE_KEYS:
            if not self.live and getattr(self, name) != meant.get(name, type(self).model_fields[name].default):
                raise ValueError(f"{name}: is for live streams only; of a recording, every frame is processed")
        if (self.start is not None or self.start_pattern is not None) and self.live:
            raise ValueError("start: is for recordings only; a live stream's frames are stamped as they come")
        return self

    @model_validator(mode="after")
    def _check_start(self) -> Self:
        if self.start is not None and not 1900 <= self.start.year < 2200:
            raise ValueError(f"start: must be between 1900 and 2200, got {self.start.isoformat()}")
        if self.start_pattern is None:
            return self
        if self.start is not None:
            raise ValueError("start_pattern: start is given too, and says the same; leave one of them out")
        try:
            StartPattern(self.start_pattern)
        except ValueError as error:
            raise ValueError(f"start_pattern: {error}, got {self.start_pattern!r}") from None
        return self

    @model_validator(mode="after")
    def _check_thermal(self) -> Self:
        if "thermal" in self.model_fields_set and self.modality is not Modality.THERMAL:
            raise ValueError(f"thermal: is for cameras whose modality is thermal, this one is {self.modality.value}")
        return self

    @model_validator(mode="after")
    def _check_fps(self) -> Self:
        if "fps" in self.model_fields_set and self.live:
            raise ValueError("fps: is for image sequences only; to process fewer frames of a stream, set target_fps")
        path = Path(self.source.removeprefix("file://"))
        if "fps" not in self.model_fields_set or path.suffix.lower() in IMAGE_SUFFIXES | {".npy"}:
            return self
        try:
            is_file = path.is_file()
        except OSError as error:  # such as a name that is too long for one
            raise ValueError(f"source: {without_secrets(self.source)}: {error.strerror}") from None
        if is_file:
            raise ValueError(
                f"fps: is for image sequences only; {path} is a video file, whose frames carry their own times"
            )
        return self


class MotionConfig(Section):
    """Background subtraction; used when the backend is motion.

    Attributes:
        working_height_px: Frames are shrunk to about this height before the background is modelled.
        sensitivity: How many times the noise of its pixel a difference must be.
        absorb_seconds: How long something must stand still until it is background.
        min_height_px: Smaller boxes are dropped; pixels of the full frame.
        max_height_share: Larger boxes, as a share of the frame's height, are dropped: changes of light.
        aspect: Usual height of a walking person divided by the width.
        shadows: Whether cast shadows in colour images are removed.
    """

    working_height_px: Annotated[int, Field(ge=60, le=1080)] = 240
    sensitivity: Positive = 4.0
    absorb_seconds: Positive = 60.0
    min_height_px: Positive = 24.0
    max_height_share: Annotated[float, Field(gt=0, le=1)] = 0.95
    aspect: Annotated[float, Field(ge=1, le=6)] = 2.6
    shadows: bool = True


class DetectorConfig(Section):
    """Who finds people in frames.

    Attributes:
        backend: motion needs no weights but fixed cameras; onnx takes YOLOX; ultralytics takes YOLO and RT-DETR.
        weights: A file; required by onnx and ultralytics, refused with motion.
        confidence: Least confidence of a box.
        iou: Boxes that overlap more than this are one person.
        input_size: Longer side of the network's input in pixels; without it, what the weights were exported for.
            Refused with motion.
        batch: Frames, of any cameras, that go through the detector together.
        max_wait_ms: A live frame waits no longer for others to go with.
        device: auto, cpu, cuda or cuda:N.
        invert_thermal: Whether networks trained on colour photographs are shown thermal images black-hot.
        motion: Settings of the motion backend.
    """

    backend: Literal["motion", "ultralytics", "onnx"] = "motion"
    weights: FilePath | None = None
    confidence: Share = 0.25
    iou: Share = 0.6
    input_size: Annotated[int, Field(ge=32, le=4096, multiple_of=32)] | None = None
    batch: Count = 8
    max_wait_ms: Positive = 50.0
    device: Device = "auto"
    invert_thermal: bool = True
    motion: MotionConfig = MotionConfig()

    @model_validator(mode="after")
    def _check_weights(self) -> Self:
        if self.backend != "motion" and self.weights is None:
            raise ValueError(f"weights: no file given, and the {self.backend} backend needs one; motion needs none")
        for name in ("weights", "input_size"):
            given = getattr(self, name)
            if self.backend == "motion" and given is not None:
                raise ValueError(
                    f"{name}: {given} is given, but the motion backend has no network; leave it out, or set backend to "
                    "onnx or ultralytics"
                )
        return self


def _check_confidences(section: "ByteTrackConfig | TrackerConfig") -> None:
    low, high, new = section.low_confidence, section.high_confidence, section.new_confidence
    if not low <= high <= new:
        apart = ("low_confidence", "high_confidence") if low > high else ("high_confidence", "new_confidence")
        given = next(name for name in apart if name in section.model_fields_set)
        raise ValueError(
            f"{given}: low_confidence <= high_confidence <= new_confidence must hold, got {low:g}, {high:g}, {new:g}"
        )


class ByteTrackConfig(Section):
    """Settings of bytetrack, and of botsort (see ``trackers.bytetrack.ByteTrackSettings``).

    Attributes:
        high_confidence: Boxes from here on are matched first, and to lost tracks too.
        low_confidence: Boxes below are not looked at.
        new_confidence: A box that no track claims starts one from here on.
        first_overlap: Overlap, times the confidence, that the first association must exceed.
        second_overlap: Overlap that the association of weak boxes must exceed.
        new_overlap: Like first_overlap, for tracks seen only once.
        lost_seconds: How long an unseen track waits to be found again.
        fuse_confidence: Whether confident boxes are preferred where overlaps are alike.
    """

    high_confidence: Share = 0.6
    low_confidence: Share = 0.1
    new_confidence: Share = 0.7
    first_overlap: Share = 0.2
    second_overlap: Share = 0.5
    new_overlap: Share = 0.3
    lost_seconds: Positive = 1.0
    fuse_confidence: bool = True

    @model_validator(mode="after")
    def _check_order(self) -> Self:
        _check_confidences(self)
        return self


class SortConfig(Section):
    """Settings of sort (see ``trackers.sort.SortSettings``).

    Attributes:
        min_confidence: Boxes below are not looked at.
        min_overlap: Overlap that a match must exceed.
        lost_seconds: How long an unseen track waits to be found again.
        confirm_hits: In how many frames running a track must be seen before it is given out.
    """

    min_confidence: Share = 0.6
    min_overlap: Share = 0.3
    lost_seconds: Positive = 1.0
    confirm_hits: Count = 3


class OCSortConfig(SortConfig):
    """Settings of ocsort: those of sort, and two more (see ``trackers.ocsort.OCSortSettings``).

    Attributes:
        direction_seconds: Over how long a track's direction is measured.
        direction_weight: What consistency of direction counts beside overlap.
    """

    direction_seconds: Positive = 0.1
    direction_weight: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.2


class TrackerConfig(Section):
    """Who joins boxes to tracks; the settings are those of cautious (see ``trackers.cautious.CautiousSettings``).

    Attributes:
        name: The algorithm.
        low_confidence: Boxes below are not looked at; all confidences are on the scale of a good detector by day.
        high_confidence: Boxes below can only continue a track seen in the last frame; divided by the root of the lift
            where confidences are lifted.
        new_confidence: A box that no track claims starts one from here on.
        reference_confidence: The confidences of a camera whose scale is below are lifted towards it.
        calibration_strength: How much they are lifted; 0 takes them as they come.
        match_probability: How likely a track and a box must be one person for a match.
        new_probability: The same for tracks seen only once.
        weak_probability: The same for boxes below high_confidence.
        revival_probability: The same for lost tracks.
        revival_margin: How much more that is when a track was lost for a second.
        lost_seconds: How long an unseen track waits to be found again; where it is not given, at most
            ``tracklets.max_gap_seconds``.
        new_overlap: A box that overlaps a living track this much starts none.
        static_camera: Whether no camera ever turns.
        bytetrack: Settings of that algorithm.
        botsort: Settings of that algorithm.
        sort: Settings of that algorithm.
        ocsort: Settings of that algorithm.
    """

    name: Literal["cautious", "bytetrack", "botsort", "sort", "ocsort"] = "cautious"
    low_confidence: Share = 0.1
    high_confidence: Share = 0.6
    new_confidence: Share = 0.65
    reference_confidence: Share = 0.8
    calibration_strength: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 3.0
    match_probability: Share = 0.3
    new_probability: Share = 0.3
    weak_probability: Share = 0.5
    revival_probability: Share = 0.5
    revival_margin: Share = 0.3
    lost_seconds: Positive = 1.5
    new_overlap: Share = 0.5
    static_camera: bool = False
    bytetrack: ByteTrackConfig = ByteTrackConfig()
    botsort: ByteTrackConfig = ByteTrackConfig()
    sort: SortConfig = SortConfig()
    ocsort: OCSortConfig = OCSortConfig()

    @model_validator(mode="after")
    def _check_order(self) -> Self:
        _check_confidences(self)
        return self

    @model_validator(mode="after")
    def _check_nothing_is_given_in_vain(self) -> Self:
        for name in self.model_fields_set - {"name", self.name}:
            of_another = name in _TRACKER_SECTIONS
            if of_another and getattr(self, name) != type(getattr(self, name))():
                raise ValueError(f"{name}: its settings are given, but tracker.name is {self.name}")
            if (
                not of_another
                and self.name != "cautious"
                and getattr(self, name) != type(self).model_fields[name].default
            ):
                known = _settings_of(self.name)
                meant = f"; did you mean tracker.{self.name}.{name}?" if name in known else ""
                raise ValueError(
                    f"{name}: is a setting of cautious; those of {self.name} are below tracker.{self.name}: "
                    f"{', '.join(known)}{meant}"
                )
        return self

    def settings(self) -> dict[str, Any]:
        """Of the algorithm that is named."""
        if self.name == "cautious":
            return self.model_dump(exclude={"name", *_TRACKER_SECTIONS})
        chosen: Section = getattr(self, self.name)
        return chosen.model_dump()


_TRACKERS: tuple[str, ...] = get_args(TrackerConfig.model_fields["name"].annotation)
_TRACKER_SECTIONS = frozenset(_TRACKERS) - {"cautious"}


class TrackletsConfig(Section):
    """When a tracklet ends and which views are worth embedding (see ``pipeline.tracklets.TrackletRules``).

    Attributes:
        min_frames: Fewer boxes than this are rejected.
        min_height_px: A median box height below this is rejected.
        max_gap_seconds: A track not seen for longer is finished.
        max_seconds: A longer tracklet is closed and continued as a new one.
        max_crops: Views kept and embedded, spread evenly over the tracklet's life.
        min_quality: Views below this are not used.
        crop_padding: Margin around the box, as a share of its width and height.
        max_risk: A box that the tracker doubts more than this begins a new tracklet.
        max_covered: A box of which another one in front covers a greater share gives no view.
        border_px: Nor does one within so many pixels of the left, right or upper edge of the picture: it is cut off.
        min_confidence_share: Nor does one whose confidence is below this share of the frame's highest, or of a good
            box's.
    """

    min_frames: Count = 6
    min_height_px: Positive = 48.0
    max_gap_seconds: Positive = 2.0
    max_seconds: Positive = 20.0
    max_crops: Annotated[int, Field(ge=1, le=64)] = 8
    min_quality: Share = 0.15
    crop_padding: Annotated[float, Field(ge=0, le=0.5)] = 0.03
    max_risk: Share = 0.7
    max_covered: Share = 0.5
    border_px: NotNegative = 1.0
    min_confidence_share: Share = 0.35


class ReidConfig(Section):
    """Who turns tracklets into vectors.

    Attributes:
        weights: A checkpoint file, or xreid-tiny for the one that comes with the program; there is no default.
        calibration: A file that ``calibrate`` wrote, whose curves take the place of those of the weights.
        device: auto, cpu, cuda or cuda:N.
        batch: Tracklets embedded together.
        max_wait_ms: With live cameras, a finished tracklet waits no longer for others to go with.
    """

    weights: Annotated[str, StringConstraints(min_length=1)]
    calibration: FilePath | None = None
    device: Device = "auto"
    batch: Count = 8
    max_wait_ms: Positive = 500.0


class WayConfig(Section):
    """How long people need between two cameras, in either direction (see ``pipeline.ways``).

    Attributes:
        between: The two cameras.
        min_seconds: Nobody is quicker; 0 where their views overlap.
        typical_seconds: Most people need about as long.
    """

    between: Annotated[list[CameraId], Field(min_length=2, max_length=2)]
    min_seconds: NotNegative
    typical_seconds: NotNegative

    @model_validator(mode="after")
    def _check_order(self) -> Self:
        if self.between[0] == self.between[1]:
            raise ValueError(f"between: names {self.between[0]} twice; a way is between two cameras")
        if self.min_seconds > self.typical_seconds:
            raise ValueError(
                f"min_seconds: {self.min_seconds:g} is more than typical_seconds, {self.typical_seconds:g}"
            )
        return self


class SearchConfig(Section):
    """How answers to a search are made (see ``pipeline.search.SearchRules``).

    Attributes:
        false_match_rate: Leave out answers that more than this share of strangers is alike to; without it, none.
        rerank: Whether common neighbours (k-reciprocal) order the answers within each modality.
        approximate_beyond: From so many tracklets on, an inverted file looks at a share of them only; without it, the
            search is exact at any size.
        approximate_probes: That share.
    """

    false_match_rate: Rate | None = None
    rerank: bool = False
    approximate_beyond: Count | None = None
    approximate_probes: Annotated[float, Field(gt=0, le=1)] = 0.1


class IdentityConfig(Section):
    """When two tracklets are taken for one person (see ``pipeline.identify.IdentifyRules``).

    Attributes:
        threshold: Least probability for joining a known person.
        evidence: When a tracklet comes, a person's score is the mean over their best so many tracklets.
        max_links: Links kept of each tracklet.
        travel_share: How much a travel time near the typical one of ``ways``, or a track that begins in a camera right
            after another ended there, speaks for one person: of the pairs of one person's tracklets, the share that
            follow each other. 0: time speaks against only.
        revise_seconds: Time between two looks back that may give earlier tracklets to other persons; 0: never.
        window_seconds: How far a look back reaches.
        window_tracklets: How many tracklets it reaches at most.
        memory: Tracklets that new ones are compared with; the oldest are forgotten first.
    """

    threshold: Annotated[float, Field(gt=0, lt=1)] = 0.1
    evidence: Count = 5
    max_links: Count = 5
    travel_share: Annotated[float, Field(ge=0, lt=1)] = 0.4
    revise_seconds: NotNegative = 300.0
    window_seconds: Positive = 14_400.0
    window_tracklets: Count = 1_000
    memory: Count = 20_000


Limit: TypeAlias = Annotated[float, Field(gt=0, allow_inf_nan=False)] | None


class StorageConfig(Section):
    """How the gallery is kept.

    Attributes:
        low_water_mb: What should be free on the disk, but never more than a tenth of it; below, the oldest goes.
        purpose_required: Whether a search, an export, a merge or an erasure must say what it is for.
    """

    low_water_mb: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 200.0
    purpose_required: bool = False


class RetentionConfig(Section):
    """How long, and how much of each class is kept (see ``pipeline.retention``); null keeps it for ever.

    Attributes:
        tracklets_days: Days after its last box until a tracklet goes, with all that belongs to it.
        tracklets_mb: Most megabytes of the database.
        crops_days: Days until the images of a tracklet go; it stays searchable.
        crops_mb: Most megabytes of all images.
        clips_days: Days until an annotated video goes, or ``matches.png``.
        clips_mb: Most megabytes of all of them.
        exports_days: Days until a zip of evidence goes whose case is closed.
        exports_mb: Most megabytes of all of them.
        audit_days: Days until a row of the audit goes.
        audit_mb: Most megabytes of the audit.
    """

    tracklets_days: Limit = None
    tracklets_mb: Limit = None
    crops_days: Limit = None
    crops_mb: Limit = None
    clips_days: Limit = None
    clips_mb: Limit = None
    exports_days: Limit = None
    exports_mb: Limit = None
    audit_days: Limit = None
    audit_mb: Limit = None


class OutputConfig(Section):
    """What is written. Events, store and report are always written.

    Attributes:
        root: Folder of the run.
        video: Whether to write an annotated MP4 a camera.
        mot: Whether to write MOTChallenge text a camera.
        contact_sheet: Whether to write matches.png.
    """

    root: FilePath = Path("runs/latest")
    video: bool = True
    mot: bool = True
    contact_sheet: bool = True


class PairConfig(Section):
    """Two cameras of one ``pair_id``: an RGB and a thermal (or near-infrared) one at one place.

    Attributes:
        max_skew_ms: Frames further apart than this, after the measured skew is taken out, are no pair.
    """

    max_skew_ms: Positive = 100.0


class MonitoringConfig(Section):
    """Metrics and health over HTTP, for this machine only.

    Attributes:
        host: An address of the loopback interface.
        port: Where ``/metrics``, ``/healthz`` and ``/readyz`` are served; None for nowhere, 0 for any free port.
    """

    host: Literal["127.0.0.1", "::1", "localhost"] = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] | None = None


class TlsConfig(Section):
    """Certificate and key of the server, PEM.

    Attributes:
        cert: With the chain.
        key: Readable to this program only.
    """

    cert: FilePath
    key: FilePath


class ServerConfig(Section):
    """The page and its API (``serve``, ``run --serve``). On a loopback address nobody need log in; see docs/access.md.

    Attributes:
        host: Address to listen on; any but a loopback address needs users, and TLS or a trusted proxy.
        port: 0 is any free port.
        users: File that ``users add`` writes; without it, ``users.json`` in the gallery's folder, where that exists.
        tls: Certificate and key; without them, plain HTTP.
        trusted_proxy: Address of a reverse proxy on whose word TLS and the caller's address are believed; nobody else
            may connect.
        hosts: Names under which the page is reached, besides the address itself: others are refused (DNS rebinding).
        session_hours: After which one must log in again.
        idle_minutes: In which nobody touches the page, the same.
        logins_per_minute: Failed attempts from one address, or one /64 of IPv6; for one name from everywhere where its
            user has not logged in since the start, ten times as many.
        actions_per_minute: Searches, uploads, decisions, exports and other changes by one user who has logged in.
        upload_mb: Most megabytes of an uploaded image.
        upload_megapixels: Most pixels of one, counted before it is decoded: for a while a million takes up to 12 MB.
        searches: That are computed at a time.
    """

    host: Annotated[str, StringConstraints(min_length=1)] = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 8080
    users: FilePath | None = None
    tls: TlsConfig | None = None
    trusted_proxy: Annotated[str, StringConstraints(min_length=1)] | None = None
    hosts: list[Annotated[str, StringConstraints(min_length=1)]] = []
    session_hours: Positive = 12.0
    idle_minutes: Positive = 60.0
    logins_per_minute: Count = 10
    actions_per_minute: Count = 240
    upload_mb: Positive = 20.0
    upload_megapixels: Positive = 25.0
    searches: Count = 2


class Config(Section):
    """The whole file. See ``configs/default.yaml`` for every key with its meaning."""

    version: Literal[1]
    site: SiteConfig = SiteConfig()
    cameras: Annotated[dict[CameraId, CameraConfig], Field(min_length=1)]
    pairs: dict[PairId, PairConfig] = {}
    detector: DetectorConfig = DetectorConfig()
    tracker: TrackerConfig = TrackerConfig()
    tracklets: TrackletsConfig = TrackletsConfig()
    reid: ReidConfig
    identity: IdentityConfig = IdentityConfig()
    search: SearchConfig = SearchConfig()
    ways: list[WayConfig] = []
    storage: StorageConfig = StorageConfig()
    retention: RetentionConfig = RetentionConfig()
    output: OutputConfig = OutputConfig()
    monitoring: MonitoringConfig = MonitoringConfig()
    server: ServerConfig = ServerConfig()

    @model_validator(mode="after")
    def _give_zones(self) -> Self:
        for camera_id, camera in self.cameras.items():
            if camera.start_timezone is None:
                self.cameras[camera_id] = camera.model_copy(update={"start_timezone": self.site.timezone})
        return self

    def pair_members(self) -> dict[str, tuple[str, str]]:
        """The two cameras of each pair, in the order of the file."""
        members: dict[str, list[str]] = {}
        for camera_id, camera in self.cameras.items():
            if camera.pair_id is not None:
                members.setdefault(camera.pair_id, []).append(camera_id)
        return {pair_id: (names[0], names[1]) for pair_id, names in members.items()}

    @model_validator(mode="after")
    def _check_pairs(self) -> Self:
        members: dict[str, list[str]] = {pair_id: [] for pair_id in self.pairs}
        for camera_id, camera in self.cameras.items():
            if camera.pair_id is not None:
                members.setdefault(camera.pair_id, []).append(camera_id)
        for pair_id, names in members.items():
            if not names:
                raise ValueError(f"pairs.{pair_id}: must be the pair_id of two cameras, got 0")
            if len(names) != 2:
                raise ValueError(
                    f"cameras.{names[-1]}.pair_id: {pair_id} must be the pair_id of two cameras, got {len(names)}: "
                    f"{', '.join(names)}"
                )
            modalities = {self.cameras[name].modality for name in names}
            if len(modalities) < 2:
                raise ValueError(
                    f"cameras.{names[-1]}.pair_id: {pair_id}: its two cameras must differ in modality, got "
                    f"{' and '.join(names)}, both {modalities.pop().value}"
                )
        return self

    @model_validator(mode="after")
    def _check_ways(self) -> Self:
        known: set[frozenset[str]] = set()
        for number, way in enumerate(self.ways):
            for camera in way.between:
                if camera not in self.cameras:
                    meant = suggestion(camera, self.cameras)
                    raise ValueError(f"ways.{number}.between: {camera!r} is not one of the cameras{meant}")
            pair = frozenset(way.between)
            if pair in known:
                two = " and ".join(way.between)
                raise ValueError(f"ways.{number}.between: {two} have two ways; one serves both directions")
            known.add(pair)
        return self

    @model_validator(mode="after")
    def _check_memory(self) -> Self:
        lost = self.tracker.settings()["lost_seconds"]
        name = "" if self.tracker.name == "cautious" else f"{self.tracker.name}."
        if self.tracklets.max_gap_seconds < lost:
            if not name and "lost_seconds" not in self.tracker.model_fields_set:
                shorter = self.tracker.model_copy(update={"lost_seconds": self.tracklets.max_gap_seconds})
                object.__setattr__(self, "tracker", shorter)
                return self
            gap, gap_key, lost_key = (
                self.tracklets.max_gap_seconds, "tracklets.max_gap_seconds", f"tracker.{name}lost_seconds"
            )  # fmt: skip
            why = "a track found again continues its tracklet"
            if "max_gap_seconds" in self.tracklets.model_fields_set:
                raise ValueError(f"{gap_key}: must be at least {lost_key} ({lost:g}), got {gap:g}: {why}")
            raise ValueError(f"{lost_key}: must not exceed {gap_key} ({gap:g}), got {lost:g}: {why}")
        return self

    @model_validator(mode="after")
    def _check_floors(self) -> Self:
        for camera_id, camera in self.cameras.items():
            if camera.ground.given and self.tracker.name != "cautious":
                raise ValueError(
                    f"cameras.{camera_id}.ground: only the tracker cautious looks at the floor, and tracker.name is "
                    f"{self.tracker.name}"
                )
        return self


def load(path: Path, *, overrides: Sequence[str] = ()) -> Config:
    """Read a config file.

    Args:
        path: YAML, version 1; ``${NAME}`` in values is replaced by the environment variable.
        overrides: ``key.path=value`` each, values as in YAML.

    Raises:
        UsageError: With one line for each error: file, line, key, what is wrong, and what would do.
    """
    data, origins, expanded = _read(path)
    remember_expanded(expanded)
    return _validate(*_override(data, origins, overrides), default_origin=str(path), expanded=expanded)


def from_sources(sources: Sequence[str], *, overrides: Sequence[str] = ()) -> Config:
    """Make a config from ``name=uri[,modality=rgb][,start=TIME][,fps=10]`` strings, one a camera.

    Everything else has its default value; the embedded ``xreid-tiny`` weights are used. The modality is rgb unless
    given. Any key of a camera can be given, such as ``thermal.polarity=black_hot``.

    Raises:
        UsageError: With one line for each error.
    """
    if not sources:
        raise UsageError("--source: no camera given; expected NAME=URI[,modality=rgb|nir|thermal]")
    cameras: dict[str, Any] = {}
    for text in sources:
        camera_id, camera = _parse_source(text)
        if camera_id in cameras:
            raise UsageError(f"--source: camera {camera_id!r} is given twice; each needs a name of its own")
        cameras[camera_id] = camera
    data = {"version": 1, "cameras": cameras, "reid": {"weights": "xreid-tiny"}}
    return _validate(*_override(data, {}, overrides), default_origin="--source")


def apply_overrides(data: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """Set keys in a copy of a config's plain data.

    Args:
        data: As read from YAML.
        overrides: ``key.path=value`` each, values as in YAML: ``reid.batch=4``, ``output.video=false``.

    Raises:
        UsageError: When one has no ``=``, no key, a value that is not YAML, or a path through something not a section.
    """
    return _override(data, {}, overrides)[0]


def schema() -> dict[str, Any]:
    """JSON Schema of the file, for editors."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **Config.model_json_schema()}


def _read(path: Path) -> tuple[dict[str, Any], Origins, Expanded]:
    loader = _loader_of(path)
    try:
        node = loader.get_single_node()
        if not isinstance(node, yaml.MappingNode):
            kinds = {"SequenceNode": "a list", "ScalarNode": "one value"}
            got = "nothing" if node is None else kinds[type(node).__name__]
            raise UsageError(f"{path}: expected keys such as version and cameras, got {got}")
        survey = _Survey(path, loader)
        survey.visit(node, ())
        if survey.errors:
            raise UsageError("\n".join(survey.errors))
        data = loader.construct_document(node)
        return cast("dict[str, Any]", data), survey.origins, survey.expanded
    except yaml.YAMLError as error:
        raise UsageError(_describe_yaml_error(path, error)) from None
    except RecursionError:
        raise UsageError(f"{path}: lists or keys within each other deeper than can be read") from None
    except ValueError as error:  # PyYAML makes dates itself, and a month of 13 is none
        raise UsageError(f"{path}: a value cannot be read: {error}") from None
    finally:
        loader.dispose()


def _loader_of(path: Path) -> yaml.SafeLoader:
    """The file's text, not parsed yet."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise UsageError(
            f"{without_secrets(str(path))}: no such config file; configs/default.yaml shows every key"
        ) from None
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}") from None
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise UsageError(
            f"{path}:{line}: not UTF-8 text: byte 0x{data[error.start]:02x}; save the file as UTF-8"
        ) from None
    try:
        return yaml.SafeLoader(text)
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise UsageError(f"{path}:{line}: not valid YAML: the character U+{error.character:04X} is not text") from None


def _describe_yaml_error(path: Path, error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    where = f"{path}:{mark.line + 1}" if mark else str(path)
    problem = getattr(error, "problem", None) or " ".join(str(error).split())
    return f"{where}: not valid YAML: {problem}"


_ENVIRONMENT = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")


class _Survey:
    """Walks the composed nodes: notes the line of every key, refuses duplicates, expands the environment."""

    def __init__(self, path: Path, loader: yaml.SafeLoader) -> None:
        self.origins: Origins = {}
        self.errors: list[str] = []
        self.expanded: Expanded = {}
        self._path = path
        self._loader = loader
        self._expanded: set[int] = set()
        self._within: list[yaml.Node] = []

    def visit(self, node: yaml.Node, key: Key) -> None:
        self.origins.setdefault(key, self._where(node))
        if node in self._within:
            self.errors.append(f"{self._where(node)}: {_dotted(key)}: refers to itself")
            return
        self._within.append(node)
        self._visit_content(node, key)
        self._within.pop()

    def _visit_content(self, node: yaml.Node, key: Key) -> None:
        if isinstance(node, yaml.MappingNode):
            self._visit_mapping(node, key)
        elif isinstance(node, yaml.SequenceNode):
            for position, item in enumerate(node.value):
                self.visit(item, (*key, position))
        elif isinstance(node, yaml.ScalarNode) and id(node) not in self._expanded:
            self._expanded.add(id(node))
            self._expand(node, key)

    def _visit_mapping(self, node: yaml.MappingNode, key: Key) -> None:
        seen: dict[str, str] = {}
        for name_node, value in node.value:
            name = str(name_node.value)
            where = self._where(name_node)
            if name in seen:
                self.errors.append(f"{where}: {_dotted((*key, name))}: given twice; the first is at {seen[name]}")
            seen[name] = where
            self.origins[(*key, name)] = where
            self.visit(value, (*key, name))

    def _expand(self, node: yaml.ScalarNode, key: Key) -> None:
        names = _ENVIRONMENT.findall(node.value)
        if not names:
            return
        missing = [name for name in names if name not in os.environ]
        if missing:
            self.errors.append(
                f"{self._where(node)}: {_dotted(key)}: environment variable {' and '.join(missing)} is not set"
            )
            return
        self.expanded |= {os.environ[name]: f"${{{name}}}" for name in names if os.environ[name]}
        node.value = _ENVIRONMENT.sub(lambda match: os.environ[match[1]], node.value)
        if node.style is None:
            node.tag = self._loader.resolve(yaml.ScalarNode, node.value, (True, False))  # type: ignore[no-untyped-call]

    def _where(self, node: yaml.Node) -> str:
        return f"{self._path}:{node.start_mark.line + 1}"


_OPTION = re.compile(r"^[a-z_]+(\.[a-z_]+)*=")


def _parse_source(text: str) -> tuple[str, dict[str, Any]]:
    first, *rest = text.split(",")
    camera_id, equals, uri = first.partition("=")
    if not equals or not re.match(CAMERA_ID_PATTERN, camera_id):
        raise UsageError(
            f"--source {without_secrets(text)!r}: expected NAME=URI[,modality=rgb|nir|thermal][,start=TIME][,fps=N], "
            f"where NAME is of a-z, 0-9 and _"
        )
    options = []
    for part in rest:
        if _OPTION.match(part):
            options.append(part)
        else:
            uri += "," + part
    camera = apply_overrides({"source": uri, "modality": "rgb"}, options)
    return camera_id, camera


def _override(data: Mapping[str, Any], origins: Origins, overrides: Iterable[str]) -> tuple[dict[str, Any], Origins]:
    result, origins = deepcopy(dict(data)), dict(origins)
    for text in overrides:
        key, value = _parse_override(text)
        section: Any = result
        for name in key[:-1]:
            if section.get(name) is None:
                section[name] = {}
            section = section[name]
            if not isinstance(section, dict):
                raise UsageError(f"--set {without_secrets(text)}: {name} holds one value and has no keys below it")
        section[key[-1]] = value
        origins[key] = "--set"
    return result, origins


def _parse_override(text: str) -> tuple[tuple[str, ...], Any]:
    name, equals, value = text.partition("=")
    key = tuple(name.strip().split("."))
    if not equals or not all(key):
        raise UsageError(f"--set {without_secrets(text)}: expected KEY=VALUE, such as reid.batch=4")
    try:
        return key, yaml.safe_load(value)
    except (yaml.YAMLError, ValueError):
        raise UsageError(f"--set {without_secrets(text)}: the value is not valid YAML") from None


def _validate(
    data: dict[str, Any], origins: Origins, *, default_origin: str, expanded: Expanded | None = None
) -> Config:
    try:
        return Config.model_validate(data)
    except ValidationError as error:
        errors = [_named_again(details, expanded or {}) for details in error.errors(include_url=False)]
        tracker = _tracker_of(data)
        raise UsageError("\n".join(_describe(each, origins, default_origin, tracker) for each in errors)) from None


def _tracker_of(data: Mapping[str, Any]) -> Any:
    """Whatever the file says is the tracker's name."""
    section = data.get("tracker")
    return section.get("name", TrackerConfig().name) if isinstance(section, Mapping) else None


def _named_again(details: ErrorDetails, expanded: Expanded) -> ErrorDetails:
    """With ``${NAME}`` in place of what the environment gave: in a wrong place, it may be a password all the same."""
    names = expanded | {repr(value)[1:-1]: name for value, name in expanded.items()}
    long = sorted((value for value in names if len(value) >= LEAST_EXPANDED), key=len, reverse=True)
    pattern = re.compile("|".join(map(re.escape, long)) or r"(?!)")

    def again(given: Any) -> Any:
        if isinstance(given, Mapping):
            return {again(key): again(value) for key, value in given.items()}
        if isinstance(given, list | tuple | set):
            return type(given)(map(again, given))
        whole = names.get(str(given), given)
        return pattern.sub(lambda found: names[found[0]], whole) if isinstance(given, str) and whole is given else whole

    message = details["msg"] if details["type"] != "value_error" else again(details["msg"])
    return {**details, "input": again(details["input"]), "msg": message}


def _describe(details: ErrorDetails, origins: Origins, default_origin: str, tracker: Any) -> str:
    key = details["loc"]
    if key and key[-1] == "[key]":
        key = key[:-1]
    describe = _DESCRIPTIONS.get(details["type"])
    message = describe(details, key) if describe else _plain(details)
    if details["type"] == "extra_forbidden" and key[0] == "tracker":
        message = _unknown_setting(key, tracker)
    if details["type"] == "value_error":
        key, message = _with_field(key, message)
    message = hide_urls(message)
    where = _where(key, origins, default_origin)
    return f"{where}: {_dotted(key)}: {message}" if key else f"{where}: {message}"


def _with_field(key: Key, message: str) -> tuple[Key, str]:
    """A section's own check may begin its message with the field that it is about, or the path to one below it."""
    path, colon, rest = message.partition(": ")
    name, *below = path.split(".")
    if not colon or name not in _section_at(key).model_fields:
        return key, message
    return (*key, name, *(int(part) if name == "ways" and part.isdecimal() else part for part in below)), rest


def _where(key: Key, origins: Origins, default_origin: str) -> str:
    below = [place for place in origins if key and place[: len(key)] == key]
    for place in (key, *below, *(key[:length] for length in range(len(key) - 1, -1, -1))):
        if place in origins:
            return origins[place]
    beside = [origin for place, origin in origins.items() if place[:1] == key[:1]]
    return beside[0] if beside else default_origin


def _dotted(key: Key) -> str:
    return ".".join(without_secrets(part) if isinstance(part, str) else str(part) for part in key)


def suggestion(given: str, choices: Iterable[str]) -> str:
    """What was probably meant, as the end of a message; empty where nothing is near."""
    nearest = difflib.get_close_matches(given, list(choices), n=1, cutoff=0.6)
    return f"; did you mean {nearest[0]}?" if nearest else ""


_FREE_KEYS: dict[Key, type[BaseModel]] = {("cameras",): CameraConfig, ("pairs",): PairConfig}


def _section_at(key: Key) -> type[BaseModel]:
    """The model of the section at ``key``, or of the last section above it."""
    section: type[BaseModel] = Config
    for position, part in enumerate(key):
        if key[:position] in _FREE_KEYS:
            section = _FREE_KEYS[key[:position]]
            continue
        field = section.model_fields.get(str(part))
        for kind in (field.annotation, *get_args(field.annotation)) if field else ():
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                section = kind  # of the key, or of each entry of its list
    return section


def _unknown(details: ErrorDetails, key: Key) -> str:
    known = _section_at(key[:-1]).model_fields
    meant = suggestion(str(key[-1]), known)
    if not meant and len(key) == 1 and (places := list(_places_of(str(key[0])))):
        meant = f"; did you mean {' or '.join(places)}?"
    return f"unknown key{meant or '; known here: ' + ', '.join(known)}"


def _places_of(name: str, key: Key = ()) -> Iterator[str]:
    """Where a key of this name may stand, below the sections of the file."""
    section = _section_at(key)
    for field in section.model_fields:
        inner: Key = (*key, field, "NAME") if (*key, field) in _FREE_KEYS else (*key, field)
        if field == name and key:
            yield _dotted((*key, field))
        if _section_at(inner) is not section:
            yield from _places_of(name, inner)


def _settings_of(tracker: str) -> list[str]:
    """The keys that are one algorithm's."""
    if tracker == "cautious":
        return [name for name in TrackerConfig.model_fields if name != "name" and name not in _TRACKER_SECTIONS]
    return list(_section_at(("tracker", tracker)).model_fields)


def _unknown_setting(key: Key, chosen: Any) -> str:
    """What to say of an unknown key of a tracker.

    Args:
        key: Right below ``tracker``, or below the section of an algorithm.
        chosen: The file's ``tracker.name``, right or wrong.
    """
    given, below = str(key[-1]), len(key) > 2
    whole = "" if below else suggestion(given, ("name", *sorted(_TRACKER_SECTIONS)))
    tracker = key[1] if below else chosen
    if whole or tracker not in _TRACKERS:
        return f"unknown key{whole or '; which ones there are depends on tracker.name'}"
    place = "" if below or tracker == "cautious" else f"tracker.{tracker}"
    says = f"the settings of {tracker} are" if below else f"tracker.name is {tracker}, whose settings are"
    known = ", ".join(_settings_of(str(tracker)))
    meant = _meant_setting(given, str(tracker), place)
    then = " " if meant.endswith("?") else "; "
    return f"unknown key{meant}{then}{says}{place and ' below '}{place}: {known}"


def _meant_setting(given: str, tracker: str, place: str) -> str:
    """The trackers that have a setting of this very name; otherwise the likest of this one, and where it stands."""
    known = _settings_of(tracker)
    owners = [each for each in _TRACKERS if given in _settings_of(each)]
    if owners and given not in known:
        return f": a setting of {' and '.join(owners)}"
    nearest = difflib.get_close_matches(given, known, n=1, cutoff=0.6)
    return f"; did you mean {place}{place and '.'}{nearest[0]}?" if nearest else ""


def _not_one_of(details: ErrorDetails, key: Key) -> str:
    given = value_without_secrets(details["input"])
    annotation = _section_at(key[:-1]).model_fields[str(key[-1])].annotation
    choices = [str(choice) for choice in (get_args(annotation) or Modality)]
    if given is None:
        return f"expected one of {', '.join(choices)}, got nothing"
    return f"{given!r} is not one of {', '.join(choices)}{suggestion(str(given), choices)}"


def _bad_pattern(details: ErrorDetails, key: Key) -> str:
    given = value_without_secrets(details["input"])
    if key[-1:] == ("pair_id",) or key[:1] == ("pairs",):
        return f"pair id {given!r} must be of a-z, 0-9, _ and -"
    if key[:1] in (("cameras",), ("ways",)):
        return f"camera id {given!r} must be of a-z, 0-9 and _"
    return f"{given!r} is not one of auto, cpu, cuda, cuda:0"


def _expected(what: str) -> "Callable[[ErrorDetails, Key], str]":
    def describe(details: ErrorDetails, key: Key) -> str:
        given = value_without_secrets(details["input"])
        if given is None:
            return _missing(details, key) if str(key[-1]) in _REQUIRED else f"expected {what}, got nothing"
        return f"expected {what}, got {given!r}"

    return describe


def _no_section(details: ErrorDetails, key: Key) -> str:
    known = ", ".join(_section_at(key).model_fields)
    return f"{_expected('a section with keys below it')(details, key)}; known there: {known}"


_REQUIRED = {
    "source": "a video file, a folder of images, a glob of images, or a live stream's address",
    "weights": "a checkpoint file, or xreid-tiny for the embedded one",
    "modality": "rgb, nir or thermal",
    "version": "version: 1",
    "reid": "reid.weights is a checkpoint file, or xreid-tiny for the embedded one",
}


def _missing(details: ErrorDetails, key: Key) -> str:
    hint = _REQUIRED.get(str(key[-1]))
    return f"is required: {hint}" if hint else "is required"


def _plain(details: ErrorDetails) -> str:
    message = details["msg"].removeprefix("Value error, ")
    if details["type"] == "value_error":
        return message
    return f"{message[0].lower()}{message[1:]}, got {value_without_secrets(details['input'])!r}"


def _count(words: str, limit: str) -> "Callable[[ErrorDetails, Key], str]":
    def describe(details: ErrorDetails, key: Key) -> str:
        if key == ("cameras",):
            return "must name at least one camera"
        counts = details.get("ctx", {})
        return f"expected {words} {counts[limit]} entries, got {counts['actual_length']}"

    return describe


_DESCRIPTIONS: dict[str, Callable[[ErrorDetails, Key], str]] = {
    "extra_forbidden": _unknown,
    "literal_error": _not_one_of,
    "enum": _not_one_of,
    "string_pattern_mismatch": _bad_pattern,
    "missing": _missing,
    "int_type": _expected("a whole number"),
    "float_type": _expected("a number"),
    "bool_type": _expected("true or false"),
    "string_type": _expected("text"),
    "path_type": _expected("a path"),
    "model_type": _no_section,
    "dict_type": _expected("a section with keys below it"),
    "too_short": _count("at least", "min_length"),
    "too_long": _count("at most", "max_length"),
}
