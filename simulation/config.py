"""What can be asked of the simulator: strict YAML, one file for a site, one for training tracklets."""

import json
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Literal, Self, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

Modality = Literal["rgb", "nir", "thermal"]
Split = Literal["train", "test", "auxiliary"]
Count = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class ConfigError(ValueError):
    """A config that cannot be used; the message has a line for each error."""


class Section(BaseModel):
    """What all sections share: frozen, no unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class SiteCamera(Section):
    """One camera of a site.

    Attributes:
        modality: What it measures.
        night: Whether it records by night.
        start: Capture time of its first frame, with an offset from UTC.
        position_m: On the site's map; only tells how far cameras are from each other.
        height_m: Above the ground.
        pitch_deg: Downwards.
        focal_px: In pixels.
        nearest_m: Least distance of a walker.
        farthest_m: Greatest distance of a walker.
        furniture: Pieces that stand among the walkers.
    """

    modality: Modality
    night: bool = False
    start: datetime
    position_m: tuple[float, float] = (0.0, 0.0)
    height_m: Annotated[float, Field(gt=0.5, le=20)] = 3.0
    pitch_deg: Annotated[float, Field(ge=0, le=80)] = 14.0
    focal_px: Positive = 520.0
    nearest_m: Positive = 5.0
    farthest_m: Positive = 9.0
    furniture: Annotated[int, Field(ge=0, le=20)] = 3


class SiteConfig(Section):
    """A site that is recorded.

    Attributes:
        name: Of the site.
        seed: Of everything.
        people: Identities; each passes every camera at least once.
        revisits: Share of people who pass a camera a second time.
        mean_gap_seconds: Between one walker entering a camera's view and the next.
        quiet_seconds: Empty scene at the beginning.
        width: Of all cameras, pixels, even.
        height: Of all cameras, pixels, even.
        fps: Of all cameras.
        walking_speed_m_s: Between cameras, for the travel times.
        cameras: By id.
    """

    name: str
    seed: int
    people: Count
    revisits: Annotated[float, Field(ge=0, le=1)] = 0.1
    mean_gap_seconds: Positive = 3.0
    quiet_seconds: Annotated[float, Field(ge=0)] = 1.5
    width: Annotated[int, Field(ge=64, le=4096, multiple_of=2)] = 640
    height: Annotated[int, Field(ge=64, le=4096, multiple_of=2)] = 360
    fps: Positive = 10.0
    walking_speed_m_s: Positive = 1.3
    cameras: Annotated[dict[Annotated[str, StringConstraints(pattern="^[a-z0-9_]+$")], SiteCamera], Field(min_length=1)]


class RoundsConfig(SiteConfig):
    """A site over hours, whose cameras record on motion.

    Cameras with ``night`` record after dusk, the others before it, thermal ones always. Their ``start`` is the second 0
    of the site's clock, one for all.

    Attributes:
        seconds: How long it goes on.
        dusk_seconds: When day ends.
        visits: Cameras that everybody passes by day, and again after dusk.
        companions: Share of people who walk with somebody.
        reach_m: The larger, the farther away is the next camera of a round.
        pre_roll_seconds: Kept of the empty scene before a passage.
        post_roll_seconds: Kept of it afterwards.
    """

    seconds: Positive = 7200.0
    dusk_seconds: Positive = 3600.0
    visits: Count = 3
    companions: Annotated[float, Field(ge=0, le=1)] = 0.3
    reach_m: Positive = 60.0
    pre_roll_seconds: Annotated[float, Field(ge=0)] = 0.8
    post_roll_seconds: Annotated[float, Field(ge=0)] = 0.5

    @model_validator(mode="after")
    def _check_clock(self) -> Self:
        if self.dusk_seconds >= self.seconds:
            raise ValueError(f"dusk_seconds is {self.dusk_seconds:g}, not before the end at {self.seconds:g}")
        if len({camera.start for camera in self.cameras.values()}) > 1:
            raise ValueError("all cameras must have one start: they share the site's clock")
        return self


class TrackletsConfig(Section):
    """Training tracklets: people and how often each is seen.

    Attributes:
        seed: Of everything.
        people: Identities by split.
        tracklets: A person, by modality.
        frames: Crops a tracklet.
        scenes: Different surroundings in each modality.
    """

    seed: int
    people: dict[Literal["train", "val"], Count]
    tracklets: dict[Modality, Count]
    frames: Count = 8
    scenes: Count = 48


Share = Annotated[float, Field(ge=0, le=1)]


class LookAlikes(Section):
    """People who are dressed alike on purpose.

    Attributes:
        share: Of the people of each split.
        group: People who wear the same.
    """

    share: Share = 0.6
    group: Annotated[int, Field(ge=2)] = 3


class VviConfig(Section):
    """``synthetic-vvi``: a benchmark of visible and near-infrared tracklets in the layouts of the real data sets.

    Attributes:
        seed: Of everything.
        people: Identities by split; those of ``auxiliary`` pass a single camera, and only the layout of BUPTCampus
            lists them.
        cameras: Places; each is one camera that sees visible light and, by night, near-infrared.
        cameras_each: How many of them a person passes, once in each modality.
        frames: Crops a tracklet.
        moments: Looked at to find them; those in which too little of the person is seen give none.
        step_seconds: Least and greatest time between two moments.
        lights: Kinds of weather, or of lamp, a place has in each modality.
        night_rgb: Share of visible tracklets that are filmed at night, under street lamps.
        look_alikes: Who wears the same.
        company: Probability that somebody else walks by.
        box_error: Size and frequency of the boxes' errors; 1 is those of a fair detector.
        box_bias: Standard deviation of a shift of all boxes of a tracklet, as a share of their size.
    """

    seed: int
    people: dict[Split, Count]
    cameras: Annotated[int, Field(ge=2, le=99)] = 8
    cameras_each: Annotated[int, Field(ge=2)] = 2
    frames: Count = 24
    moments: Count = 36
    step_seconds: tuple[Positive, Positive] = (0.08, 0.16)
    lights: Count = 2
    night_rgb: Share = 0.25
    look_alikes: LookAlikes = LookAlikes()
    company: Share = 0.6
    box_error: Positive = 1.5
    box_bias: Annotated[float, Field(ge=0)] = 0.05

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if set(self.people) < {"train", "test"}:
            raise ValueError("people must give at least train and test")
        if self.cameras_each > self.cameras:
            raise ValueError(f"cameras_each is {self.cameras_each}, but there are {self.cameras} cameras")
        if self.moments < self.frames:
            raise ValueError(f"moments is {self.moments}, fewer than the {self.frames} frames to be found in them")
        return self


Config = TypeVar("Config", bound=Section)


def fingerprint(config: Section) -> str:
    """Of all that decides what is drawn: the config and the simulator's own source."""
    found = sha256(config.model_dump_json().encode())
    for path in sorted(Path(__file__).parent.glob("*.py")):
        found.update(path.read_bytes())
    return found.hexdigest()


def fingerprint_of(marker: Path) -> str | None:
    """That of an earlier result, from the JSON file that marks it; None where there is none."""
    if not marker.is_file():
        return None
    try:
        found = json.loads(marker.read_text(encoding="utf-8")).get("made_from_sha256")
    except json.JSONDecodeError:
        return None
    return str(found)


def load(path: Path, kind: type[Config]) -> Config:
    """Read a YAML file.

    Raises:
        ConfigError: When it is missing, no YAML, or not of this kind; unknown keys are refused.
    """
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: cannot be read as YAML: {error}") from None
    try:
        made = kind.model_validate(data)
    except ValidationError as error:
        lines = (f"{path}: {'.'.join(map(str, each['loc'])) or 'file'}: {each['msg']}" for each in error.errors())
        raise ConfigError("\n".join(lines)) from None
    _check_times(path, made)
    return made


def _check_times(path: Path, config: Section) -> None:
    if isinstance(config, SiteConfig):
        for camera_id, camera in config.cameras.items():
            if camera.start.tzinfo is None:
                raise ConfigError(
                    f"{path}: cameras.{camera_id}.start: must say its offset from UTC, such as ...T14:00:00Z"
                )
            if camera.nearest_m >= camera.farthest_m:
                raise ConfigError(f"{path}: cameras.{camera_id}: nearest_m must be below farthest_m")
