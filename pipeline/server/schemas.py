"""What the API takes and gives. Answers that the command line gives too have the same keys and values there.

Times are RFC 3339 in UTC with milliseconds, but for those called local; people are P0007; boxes are in pixels.
"""

from datetime import datetime
from typing import Annotated, Any, Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from pipeline.server.roles import Role
from pipeline.tracklets import Rejection
from reid.modality import Modality

T = TypeVar("T")

_NAME = r"^[A-Za-z0-9_][A-Za-z0-9_.-]*$"
TrackletId = Annotated[str, StringConstraints(pattern=_NAME, max_length=128)]
CameraId = Annotated[str, StringConstraints(pattern=_NAME, max_length=64)]
CaseId = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")]
PersonName = Annotated[str, StringConstraints(pattern=r"^P[0-9]{4,12}$")]
QueryId = Annotated[str, StringConstraints(pattern=r"^q-[A-Za-z0-9_-]{16,64}$")]
ExportId = Annotated[str, StringConstraints(pattern=r"^[0-9A-HJKMNP-TV-Z]{26}$")]
Text = Annotated[str, StringConstraints(max_length=2000)]
Share = Annotated[float, Field(ge=0, le=1)]
Pixel = Annotated[float, Field(ge=-100_000, le=100_000, allow_inf_nan=False)]
Box = Annotated[list[Pixel], Field(min_length=4, max_length=4, description="left, top, right, bottom in pixels")]
Moment = Annotated[str, Field(json_schema_extra={"format": "date-time"})]


class Reply(BaseModel):
    """What all answers share: every key is always there."""

    model_config = ConfigDict(json_schema_serialization_defaults_required=True)


class Request(BaseModel):
    """What all questions share: a key that nobody knows is refused."""

    model_config = ConfigDict(extra="forbid")


class Problem(Reply):
    """An error as RFC 9457 has it, ``application/problem+json``."""

    type: Annotated[str, Field(description="about:blank, or a name that a program can tell apart")] = "about:blank"
    title: str
    status: int
    detail: str
    errors: Annotated[list[dict[str, Any]] | None, Field(description="of a question that is malformed: where")] = None


class Page(Reply, Generic[T]):
    """Part of a list. ``next`` goes into the parameter ``cursor`` to get what follows; null at the end."""

    items: list[T]
    next: str | None


# --- who asks ---


class Login(Request):
    """A name and a password."""

    user: Annotated[str, StringConstraints(min_length=1, max_length=64)]
    password: Annotated[str, StringConstraints(min_length=1, max_length=1024)]


class Session(Reply):
    """Who asks, and what they may do."""

    user: str
    role: Role
    cameras: Annotated[list[str] | None, Field(description="those that may be seen; null for all")]
    local: Annotated[bool, Field(description="whether nobody has to log in: loopback without users")]
    csrf: Annotated[str, Field(description="goes into the header X-CSRF-Token of everything but GET")]
    expires: Moment | None
    permissions: list[str]
    timezone: str
    site: str | None
    purpose_required: bool


# --- cameras ---


class FrameAccount(Reply):
    """Where the frames of a camera went: decoded = processed + all dropped + those on the way."""

    decoded: int
    processed: int
    dropped: dict[str, int]
    skipped: dict[str, int]
    reconnects: int
    queued: int


class Camera(Reply):
    """One camera, as the gallery and, if it runs here, the pipeline know it."""

    camera_id: str
    modality: Modality
    live: Annotated[bool | None, Field(description="a stream; false for a recording; null when nobody says")]
    pair_id: str | None
    zones: list[str]
    tracklets: int
    rejected: int
    first: Moment | None
    last: Moment | None
    state: Annotated[str | None, Field(description="of the run, now or at its end; null when nobody knows")]
    error: str | None
    error_code: str | None
    frames: FrameAccount | None
    recording: Annotated[bool, Field(description="whether frames of it can be looked at")]


class Recording(Reply):
    """What can be looked at of a camera that recorded files."""

    camera_id: str
    modality: Modality
    start: Moment
    end: Moment | None
    seconds: float | None
    fps: float
    frames: int | None
    width: int
    height: int


# --- tracklets ---


class Counterpart(Reply):
    """The same moment through a camera of another modality."""

    camera_id: str
    modality: Modality
    captured_at: Moment
    url: str


class Crop(Reply):
    """One view of the person."""

    position: int
    quality: float
    captured_at: Moment
    frame_index: int
    xyxy: list[float]
    url: str


class Link(Reply):
    """Evidence that two tracklets show one person, or an operator's word on it."""

    tracklet_id: str
    to_tracklet_id: str
    cosine: float
    probability: float
    state: Literal["probable", "confirmed", "rejected"]


class Tracklet(Reply):
    """One stay of one person in one camera."""

    tracklet_id: str
    camera_id: str
    modality: Modality
    start: Moment
    end: Moment
    start_local: str
    end_local: str
    seconds: float
    person: str | None
    rejected: Rejection | None
    frames: int
    quality: float
    zones: list[str]
    best_crop: Annotated[str | None, Field(description="image file, relative to the gallery's folder")]


class TrackletDetails(Tracklet):
    """One tracklet with all that is known of it."""

    time_source: str
    width: int
    height: int
    crops: list[Crop]
    counterparts: list[Counterpart]
    links: list[Link]
    cases: list[str]
    clip: Annotated[
        Literal["recording", "crops"] | None,
        Field(description="of what the clip is made: the recording, or the kept views where there is none"),
    ]


class TrackletBoxes(Reply):
    """Where the person was, frame by frame."""

    tracklet_id: str
    width: int
    height: int
    frame_index: list[int]
    xyxy: list[list[float]]
    confidence: list[float]


# --- queries and search ---


class Spot(Request):
    """A box on one frame of a camera's recording; the moment as a time or in seconds since it began."""

    camera_id: CameraId
    at: datetime | None = None
    seconds: Annotated[float | None, Field(ge=0, le=10_000_000, allow_inf_nan=False)] = None
    xyxy: Box

    @model_validator(mode="after")
    def _check(self) -> "Spot":
        if (self.at is None) == (self.seconds is None):
            raise ValueError("give either at or seconds")
        if self.at is not None and self.at.tzinfo is None:
            raise ValueError("at must say its offset from UTC")
        if not (self.xyxy[0] < self.xyxy[2] and self.xyxy[1] < self.xyxy[3]):
            raise ValueError("xyxy must be left, top, right, bottom with left < right and top < bottom")
        return self


class Example(Request):
    """One picture of a person: a stored tracklet, what a preview gave, or a box on a frame; exactly one of them."""

    tracklet_id: TrackletId | None = None
    query_id: QueryId | None = None
    spot: Spot | None = None

    @model_validator(mode="after")
    def _check(self) -> "Example":
        if sum(each is not None for each in (self.tracklet_id, self.query_id, self.spot)) != 1:
            raise ValueError("give exactly one of tracklet_id, query_id and spot")
        return self


class QueryQuality(Reply):
    """How well a picture shows the person; what would make the search poor stands in ``warnings``."""

    width_px: int
    height_px: int
    blur: Annotated[Share, Field(description="0 is sharp")]
    truncated: Annotated[bool | None, Field(description="whether a border cuts the person; null when nobody knows")]
    night: Annotated[bool, Field(description="dark, or without colour")]
    score: Annotated[Share | None, Field(description="of a stored view, as the pipeline judged it")]
    verdict: Literal["good", "fair", "poor"]
    warnings: list[str]


class Preview(Reply):
    """What a search would be made with, before it is made. Kept for some minutes, for this user only."""

    query_id: str
    description: str
    modality: Modality
    camera_id: str | None
    start: Moment | None
    end: Moment | None
    people: Annotated[int | None, Field(description="found in an upload, the largest was taken; null if taken whole")]
    quality: QueryQuality
    crop: Annotated[str, Field(description="where its picture is")]
    expires: Moment


class Filters(Request):
    """Which tracklets may be answers; null means any."""

    modalities: Annotated[list[Modality], Field(min_length=1, max_length=3)] | None = None
    cameras: Annotated[list[CameraId], Field(min_length=1, max_length=1000)] | None = None
    start: datetime | None = None
    end: datetime | None = None
    time_of_day: Annotated[
        str | None, Field(max_length=16, description="HH:MM-HH:MM by the site's clock, over midnight if need be")
    ] = None
    zones: Annotated[list[CameraId], Field(min_length=1, max_length=1000)] | None = None
    min_quality: Share | None = None
    persons: Annotated[list[PersonName], Field(min_length=1, max_length=1000)] | None = None
    include_own: bool = False


class Why(Request):
    """What something is done for; it stands in the audit."""

    purpose: Text | None = None
    case_id: CaseId | None = None


class SearchRequest(Why):
    """Who is looked for, and where."""

    examples: Annotated[list[Example], Field(min_length=1, max_length=20)]
    negatives: Annotated[list[Example], Field(max_length=20)] = []
    filters: Filters = Filters()
    top_k: Annotated[int, Field(ge=1, le=500)] = 10
    rerank: bool | None = None
    false_match_rate: Annotated[float | None, Field(gt=0, lt=1)] = None


class SearchQuery(Reply):
    """What was searched for."""

    description: str
    modality: Modality
    camera_id: str | None
    start: Moment | None
    end: Moment | None


class AnswerCounterpart(Reply):
    """The same moment through a camera of another modality."""

    camera_id: str
    modality: Modality
    crop: str


class Answer(Reply):
    """One tracklet that may show the person."""

    rank: int
    tracklet_id: str
    camera_id: str
    modality: Modality
    start: Moment
    end: Moment
    start_local: str
    end_local: str
    zones: list[str]
    quality: float
    cosine: float
    probability: float
    best_crop: str | None
    counterparts: list[AnswerCounterpart]
    why: str
    person: str


class SearchResult(Reply):
    """Answers, best first, and what became of the rest; ``run_pipeline.py search --json`` prints the same."""

    schema_: Annotated[Literal["xreid.search/1"], Field(alias="schema")]
    query: SearchQuery
    answers: list[Answer]
    searched: int
    excluded_by: dict[str, int]
    examples: list[SearchQuery]
    negatives: list[SearchQuery]
    below_threshold: int
    too_soon: int
    exact: bool
    explanation: str


# --- people ---


class Person(Reply):
    """Somebody; ``run_pipeline.py person list --json`` prints the same."""

    person_id: int
    person: str
    state: Literal["probable", "confirmed", "merged"]
    merged_into: str | None
    tracklets: int
    cameras: list[str]
    modalities: list[Modality]
    first: Moment | None
    last: Moment | None
    best_tracklet: str | None


class PersonDetails(Person):
    """Somebody, with the path over time: every stay, in order."""

    path: list[Tracklet]
    path_complete: Annotated[bool, Field(description="false when only the first 1000 stays are given")]
    links: list[Link]


class Merge(Why):
    """Two persons are one."""

    into: PersonName
    other: PersonName


class Split(Why):
    """These tracklets of one person show somebody else."""

    tracklets: Annotated[list[TrackletId], Field(min_length=1, max_length=1000)]


class TwoTracklets(Why):
    """Two tracklets that do, or do not, show one person."""

    tracklet_id: TrackletId
    to_tracklet_id: TrackletId

    @model_validator(mode="after")
    def _are_two(self) -> "TwoTracklets":
        if self.tracklet_id == self.to_tracklet_id:
            raise ValueError("tracklet_id and to_tracklet_id are one tracklet: name two")
        return self


class Decision(Reply):
    """A change of who is who, with the way back."""

    decision_id: int
    made: Moment
    actor: str
    kind: Literal["merge", "split", "confirm", "reject", "revise", "undo"]
    purpose: str | None
    moved: Annotated[list[list[int]], Field(description="tracklet row, person before, person after")]
    undone_by: int | None


# --- cases and evidence ---


class NewCase(Request):
    """A case to be opened."""

    case_id: CaseId
    title: Text = ""


class Case(Reply):
    """A matter that somebody looks into; ``run_pipeline.py case list --json`` prints the same."""

    case: str
    title: str
    opened: Moment
    closed: Moment | None
    items: list[str]


class CaseItem(Reply):
    """A tracklet in a case."""

    tracklet: Tracklet
    added: Moment
    added_by: str
    note: str | None


class CaseDetails(Case):
    """A case with its tracklets and what was exported of it."""

    details: list[CaseItem]
    exports: list["Export"]


class Hold(Request):
    """Tracklets that go into a case."""

    tracklets: Annotated[list[TrackletId], Field(min_length=1, max_length=1000)]
    note: Text | None = None


class NewExport(Request):
    """How evidence is written."""

    purpose: Text | None = None
    blur_others: Annotated[bool, Field(description="whether everybody else in the clips is blurred")] = False
    clips: bool = True


class Export(Reply):
    """A zip of evidence that is being written, or is there."""

    export_id: str
    case: str
    state: Literal["running", "done", "failed"]
    created: Moment
    by: str
    blur_others: bool
    items: int
    progress: Annotated[float, Field(ge=0, le=1)]
    error: str | None
    bytes: int | None
    sha256: str | None
    url: Annotated[str | None, Field(description="where the zip is, once it is done")]


class ExportVerdict(Reply):
    """What a verification of a zip found."""

    files: int
    sha256: str
    findings: list[str]
    notes: list[str]


# --- audit, site ---


class AuditRow(Reply):
    """What was done by whom and why; ``run_pipeline.py audit show --json`` prints the same."""

    number: int
    at: Moment
    actor: str
    action: str
    case_id: str | None
    purpose: str | None
    details: dict[str, Any]
    hash: str


class AuditVerdict(Reply):
    """Whether the chain of hashes holds; ``run_pipeline.py audit verify --json`` prints the same."""

    rows: int
    head: list[int | str]
    findings: list[str]
    notes: list[str]


class Disk(Reply):
    """Of the gallery's disk."""

    free_bytes: int
    total_bytes: int


class Pipeline(Reply):
    """The run in this process, or what the last one reported."""

    running: Annotated[bool, Field(description="whether a run fills the gallery at this moment, here or elsewhere")]
    here: Annotated[bool, Field(description="whether it runs in this process, which then shows what cameras show")]
    healthy: Annotated[bool | None, Field(description="whether it moves, or has reported of late")]
    seconds_since_last_step: float | None
    started: Moment | None
    reported: Annotated[Moment | None, Field(description="when the report that this is from was written")]


class Site(Reply):
    """The state of the site at one moment."""

    site: str | None
    timezone: str
    version: str
    model: str
    dimension: int
    tracklets: int
    rejected: int
    persons: int
    crops: int
    audit_rows: int | None
    open_cases: int
    disk: Disk
    pipeline: Pipeline
    cameras: list[Camera]


class Health(Reply):
    """Whether the server answers and the gallery can be read."""

    status: Literal["ok", "failing"]
    version: str


class Configuration(Reply):
    """The config of the run, without secrets."""

    config: dict[str, Any] | None
