"""A person in question in, tracklets that probably show the same person out."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.errors import GalleryMismatchError, UsageError
from pipeline.frame import Frame, Image, TimeSource
from pipeline.identify import person_name
from pipeline.sinks import rfc3339
from pipeline.sources.stills import as_mono
from pipeline.store import Store, StoredTracklet
from pipeline.tracklets import Tracklet, cut_out
from reid.calibration import Calibration
from reid.modality import Modality
from trackers.structures import Detections

if TYPE_CHECKING:  # a search by tracklet needs no model, and should not wait for torch
    from reid.extractor import Extractor

MIN_CROP_WH = (8, 16)
_CROP_PADDING = 0.03
_UPRIGHT = 1.2


@dataclass(frozen=True, slots=True)
class SearchFilter:
    """Which tracklets may be answers; None means any.

    Attributes:
        modalities: Only these.
        cameras: Only these.
        start: Only tracklets that end at or after this time, UTC.
        end: Only tracklets that start before this time, UTC.
        top_k: Most answers to give.
    """

    modalities: frozenset[Modality] | None = None
    cameras: frozenset[str] | None = None
    start: datetime | None = None
    end: datetime | None = None
    top_k: int = 10

    def __post_init__(self) -> None:
        if self.top_k < 1:
            raise UsageError(f"top-k must be at least 1, got {self.top_k}")
        for name in ("start", "end"):
            moment = getattr(self, name)
            if moment is not None and moment.tzinfo is None:
                raise UsageError(
                    f"{name} must say its offset from UTC, such as ...T14:00:00Z, got {moment.isoformat()}"
                )
        if self.start and self.end and self.start >= self.end:
            raise UsageError(f"from must be before to, got {rfc3339(self.start)} and {rfc3339(self.end)}")


@dataclass(frozen=True, slots=True)
class Query:
    """What was searched for.

    Attributes:
        description: A tracklet id, or the file and what was taken from it.
        modality: Of the query.
        camera_id: None for a file.
        start: None for a file.
        end: None for a file.
    """

    description: str
    modality: Modality
    camera_id: str | None = None
    start: datetime | None = None
    end: datetime | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """One tracklet that may show the person.

    Attributes:
        rank: From 1.
        tracklet_id: Its name.
        camera_id: Its camera.
        modality: What that camera measures.
        start: First box, UTC.
        end: Last box, UTC.
        person_id: To whom the run gave it.
        cosine: In [-1, 1]; to be compared only within one pair of modalities.
        probability: Calibrated, comparable across pairs; answers are ranked by it.
        best_crop: Image file, below the folder of the gallery as that was named.
    """

    rank: int
    tracklet_id: str
    camera_id: str
    modality: Modality
    start: datetime
    end: datetime
    person_id: int
    cosine: float
    probability: float
    best_crop: Path | None


@dataclass(frozen=True, slots=True)
class SearchResult:
    """Answers, best first, and what became of the rest of the gallery.

    Attributes:
        query: What was searched for.
        answers: At most top-k.
        searched: How many tracklets were compared.
        excluded_by: How many each filter removed; one that several would remove counts for the first of them.
    """

    query: Query
    answers: tuple[Answer, ...]
    searched: int
    excluded_by: dict[str, int]

    @property
    def explanation(self) -> str:
        """One sentence: how many were compared, and which filter removed how many."""
        total = self.searched + sum(self.excluded_by.values())
        if not total:
            return "The gallery is empty: no tracklet was accepted yet."
        removed = ", ".join(f"{count} by {name}" for name, count in self.excluded_by.items() if count)
        return f"{self.searched} of {total} tracklets compared" + (f"; removed: {removed}." if removed else ".")

    def to_json(self) -> dict[str, Any]:
        """Strings and numbers; times RFC 3339 UTC, people as P0007."""
        plain: dict[str, Any] = _plain(asdict(self))
        for answer in plain["answers"]:
            answer["person"] = person_name(answer.pop("person_id"))
        return {"schema": "xreid.search/1", **plain, "explanation": self.explanation}


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if isinstance(value, datetime):
        return rfc3339(value)
    return str(value) if isinstance(value, Path | Modality) else value


class Searcher:
    """Answers queries over a store as it was when the searcher was made."""

    def __init__(self, store: Store, calibration: Calibration, *, extractor: "Callable[[], Extractor] | None" = None):
        """Read the store and build the index.

        Args:
            store: To be searched; must stay open.
            calibration: Of the model that filled it.
            extractor: Loads that model; called at the first query that is not a stored tracklet.
        """
        self._store = store
        self._calibration = calibration
        self._make_extractor = extractor
        self._extractor: Extractor | None = None
        self._gallery = store.gallery()
        self._tracklets = {each.row: each for each in store.tracklets()}

    def by_tracklet(self, tracklet_id: str, wanted: SearchFilter | None = None) -> SearchResult:
        """Search for the person of a stored tracklet, by its stored vector; the tracklet itself is never an answer.

        Raises:
            UsageError: When the store has no such tracklet, or it was rejected and has no vector.
        """
        own = self._store.tracklet(tracklet_id)
        if own.rejected is not None:
            raise UsageError(
                f"tracklet {tracklet_id} was rejected ({own.rejected.value}) and has no vector to search by"
            )
        query = Query(tracklet_id, own.modality, own.camera_id, own.start, own.end)
        return self._search(query, self._store.embeddings([own.row]), wanted or SearchFilter(), own=own)

    def by_clip(self, clip: Sequence[Image], query: Query, wanted: SearchFilter | None = None) -> SearchResult:
        """Search for the person of these crops (one person, in order of time).

        Raises:
            UsageError: When there is no model to embed them.
            GalleryMismatchError: When the model is not the one that filled the store.
        """
        if self._extractor is None:
            self._extractor = self._load()
        vector = self._extractor.extract([clip], [query.modality])
        return self._search(query, vector, wanted or SearchFilter(), own=None)

    def _load(self) -> "Extractor":
        if self._make_extractor is None:
            raise UsageError("searching by image or video needs the model that filled the gallery")
        extractor = self._make_extractor()
        if extractor.model_id != self._store.model_id:
            raise GalleryMismatchError(
                f"{self._store.root}: filled by model {self._store.model_id}, but the query would be embedded by model"
                f" {extractor.model_id}; use the same weights"
            )
        return extractor

    def _search(
        self, query: Query, vector: NDArray[np.float32], wanted: SearchFilter, *, own: StoredTracklet | None
    ) -> SearchResult:
        allowed, excluded_by = apply_filters(self._tracklets.values(), query, wanted, own=own)
        found: list[tuple[float, float, StoredTracklet]] = []
        for modality in Modality:
            rows = np.array([each.row for each in allowed if each.modality is modality], np.int64)
            if len(rows):
                found += self._nearest(query, vector, rows, modality, wanted.top_k)
        found.sort(key=lambda each: (-each[0], -each[1], each[2].tracklet_id))
        answers = tuple(_answer(rank, *each) for rank, each in enumerate(found[: wanted.top_k], start=1))
        return SearchResult(query, answers, len(allowed), excluded_by)

    def _nearest(
        self, query: Query, vector: NDArray[np.float32], rows: NDArray[np.int64], modality: Modality, top_k: int
    ) -> list[tuple[float, float, StoredTracklet]]:
        """Probability, cosine and tracklet of the best within one modality."""
        ids, cosines = self._gallery.search(vector, min(top_k, len(rows)), rows)
        probabilities = self._calibration.probability(cosines[0], query.modality, modality)
        return [
            (float(probability), float(cosine), self._tracklets[row])
            for row, cosine, probability in zip(ids[0].tolist(), cosines[0], probabilities, strict=True)
        ]


def _answer(rank: int, probability: float, cosine: float, found: StoredTracklet) -> Answer:
    if found.person_id is None:
        raise ValueError(f"tracklet {found.tracklet_id} was rejected and cannot be an answer")
    return Answer(
        rank=rank,
        tracklet_id=found.tracklet_id,
        camera_id=found.camera_id,
        modality=found.modality,
        start=found.start,
        end=found.end,
        person_id=found.person_id,
        cosine=cosine,
        probability=probability,
        best_crop=found.best_crop,
    )


def apply_filters(
    tracklets: Iterable[StoredTracklet], query: Query, wanted: SearchFilter, *, own: StoredTracklet | None
) -> tuple[list[StoredTracklet], dict[str, int]]:
    """Those that pass, and how many each filter removed, in the order in which the filters are applied."""

    def same_moment(each: StoredTracklet) -> bool:
        if query.start is None or query.end is None:
            return False
        return each.camera_id == query.camera_id and each.start <= query.end and query.start <= each.end

    filters: dict[str, Callable[[StoredTracklet], bool]] = {
        "query itself": lambda each: own is not None and each.row == own.row,
        "same camera at the same time": same_moment,
        "modality": lambda each: wanted.modalities is not None and each.modality not in wanted.modalities,
        "camera": lambda each: wanted.cameras is not None and each.camera_id not in wanted.cameras,
        "from": lambda each: wanted.start is not None and each.end < wanted.start,
        "to": lambda each: wanted.end is not None and each.start >= wanted.end,
    }
    allowed, excluded_by = [], dict.fromkeys(filters, 0)
    for each in tracklets:
        removed_by = next((name for name, removes in filters.items() if removes(each)), None)
        if removed_by is None:
            allowed.append(each)
        else:
            excluded_by[removed_by] += 1
    return allowed, excluded_by


def clip_from_image(
    path: Path,
    modality: Modality | None,
    *,
    whole: bool = False,
    detect: Callable[[Frame], Detections] | None = None,
) -> tuple[list[Image], Query]:
    """One crop from an image file.

    The rule: with ``whole``, or when the image is upright (at least 1.2 times as high as wide), the whole image is
    taken for one person. Otherwise ``detect`` finds people and the largest box is taken.

    Args:
        path: Any format that OpenCV reads.
        modality: None to infer it: 16-bit grey is thermal, colour is RGB; 8-bit grey could be either and is refused.
        whole: The image shows one person and little else.
        detect: Boxes of one frame; None when the configured detector cannot work on a still image.

    Raises:
        UsageError: When the file is no image, is too small, its modality is not obvious, or nobody is found in it.
    """
    image, modality = _read_image(path, modality)
    height, width = image.shape[:2]
    if whole or height >= _UPRIGHT * width:
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
    return [crop], Query(
        f"{path} (largest of {len(boxes)} people, box {largest.round().astype(int).tolist()})", modality
    )


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


def _read_image(path: Path, modality: Modality | None) -> tuple[Image, Modality]:
    if not path.is_file():
        raise UsageError(f"{path}: no such file")
    data = np.fromfile(path, np.uint8)
    image = cv2.imdecode(data, cv2.IMREAD_UNCHANGED) if len(data) else None
    if image is None or image.dtype not in (np.uint8, np.uint16):
        raise UsageError(f"{path}: not an image that can be read (8 or 16 bits, such as JPEG, PNG or TIFF)")
    if image.shape[1] < MIN_CROP_WH[0] or image.shape[0] < MIN_CROP_WH[1]:
        raise UsageError(
            f"{path}: {image.shape[1]}x{image.shape[0]} pixels are too few for a person;"
            f" at least {MIN_CROP_WH[0]}x{MIN_CROP_WH[1]} are needed"
        )
    rgb = image[..., :3][..., ::-1] if image.ndim == 3 else None
    is_colour = rgb is not None and not (np.ptp(rgb.astype(np.int32), axis=2) <= 2).all()
    modality = modality or _obvious_modality(path, image.dtype == np.uint16, is_colour)
    if modality is Modality.RGB:
        if image.dtype != np.uint8:
            raise UsageError(f"{path}: an rgb image must have 8 bits, got 16")
        whole = rgb if rgb is not None else np.repeat(image[..., None], 3, axis=2)
        return np.ascontiguousarray(whole, dtype=np.uint8), modality
    return as_mono(cast("Image", image)), modality


def _obvious_modality(path: Path, is_16_bit: bool, is_colour: bool) -> Modality:
    if is_colour:
        return Modality.RGB
    if is_16_bit:
        return Modality.THERMAL
    raise UsageError(f"{path}: a grey image may be nir, thermal or rgb; say which with --query-modality")
