"""A search from the outside: whatever names the person in question becomes a query over a run's gallery."""

import json
import logging
import re
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pipeline.address import without_secrets
from pipeline.build import (
    build_approximation,
    build_builders,
    build_detector,
    build_extractor,
    build_trackers,
    build_ways,
    build_windows,
)
from pipeline.clips import Query, Spot, clip_from_image, clip_from_spot, clip_from_video, span_of
from pipeline.config import CameraConfig, Config, load, suggestion
from pipeline.errors import SourceError, UsageError
from pipeline.filters import SearchFilter
from pipeline.frame import IMAGE_SUFFIXES, Frame, Image
from pipeline.identify import person_name, person_of_name
from pipeline.search import Example, Searcher, SearchResult, SearchRules
from pipeline.sinks import write_whole
from pipeline.sources.open import open_source
from pipeline.sources.seek import frames_from
from pipeline.store import Store, TrackletFilter
from pipeline.surveil import gather, tracked
from pipeline.thermal import Windows
from pipeline.tracklets import Tracklet
from reid.modality import Modality
from trackers.structures import Detections

if TYPE_CHECKING:  # torch takes seconds to import
    from reid.extractor import Extractor

logger = logging.getLogger(__name__)

CONFIG = "config.json"
QUERY_CAMERA = "query"

_PERSON = re.compile(r"P\d{4,}")
_NAMES_TOLD = 3
_FRAMES_LOOKED_AT = 300  # for colour, every tenth
_COLOURFUL = 24  # levels between the channels of one pixel; compression alone makes a few


def write_config(root: Path, config: Config) -> None:
    """Keep a run's config beside its results: a search embeds and detects as the run did."""
    write_whole(root / CONFIG, (config.model_dump_json(indent=2, exclude_unset=True) + "\n").encode())


def read_config(root: Path) -> Config:
    """The config of the run in a folder.

    Raises:
        UsageError: When it is missing or unfit.
    """
    return load(root / CONFIG)


@dataclass(frozen=True, slots=True)
class QueryFile:
    """What is known of a file to search by.

    Attributes:
        modality: What it shows; None where it is obvious (colour), or the camera says it.
        camera: Which camera of the run recorded it, for modality and thermal settings. Without it, a file that is a
            source of the run, or lies in one, is that camera's; any other has the limits that thermal has by default.
        whole: The image shows one person: no detection.
    """

    modality: Modality | None = None
    camera: str | None = None
    whole: bool = False


@dataclass(frozen=True, slots=True)
class Asked:
    """Who is searched for, as the outside names them.

    Attributes:
        examples: At least one: a tracklet id of the gallery, an image, a video file that shows the person, or, with
            a spot, a camera of the run.
        negatives: The same, of people who are not that person.
        file: What is known of those that are files.
        spot: The person stands there in the first example, a video file or what a camera of the run recorded.
    """

    examples: tuple[str, ...]
    negatives: tuple[str, ...] = ()
    file: QueryFile = QueryFile()
    spot: Spot | None = None


@dataclass(frozen=True, slots=True)
class SearchOptions:
    """How a search is made.

    Attributes:
        rerank: Whether common neighbours order the answers within each modality; None: as the site's config says.
        false_match_rate: Leave out what more strangers are alike to; None: as the site's config says.
        device: For embedding a file's person.
    """

    rerank: bool | None = None
    false_match_rate: float | None = None
    device: str = "auto"


def search(root: Path, asked: Asked, wanted: SearchFilter, options: SearchOptions | None = None) -> SearchResult:
    """Find a person in the gallery of a run. Whoever calls this records it (``gallery_commands.recorded``).

    Args:
        root: The run's folder.
        asked: Examples of the person, and of others.
        wanted: Which tracklets may be answers.
        options: How.

    Raises:
        UsageError: When a query is of no kind, shows nobody, or a camera, modality, zone or person is named that the
            gallery or the run does not have.
    """
    options = options or SearchOptions()
    _check_said_of_files(asked)
    config = read_config(root) if (root / CONFIG).is_file() else None
    with Store.read(root) as store:
        check_filter(store, config, wanted, said=("--camera", "--zone"))
        _check_modalities(store, wanted)
        rate_said = "--fmr" if options.false_match_rate else "search.false_match_rate"
        rules = replace(search_rules(config, options), rate_said=rate_said)
        searcher = Searcher(store, store.calibration, extractor=_extractor(root, options.device), rules=rules)
        examples = [
            _example(searcher, store, text, asked.file, asked.spot if place == 0 else None, options.device)
            for place, text in enumerate(asked.examples)
        ]
        negatives = [_example(searcher, store, text, asked.file, None, options.device) for text in asked.negatives]
        return searcher.by_examples(examples, wanted, negatives=negatives)


def _check_said_of_files(asked: Asked) -> None:
    """What is said of a query file is for nothing where there is none."""

    def is_file(text: str) -> bool:
        try:
            return Path(text).is_file()
        except OSError:
            return False

    if asked.file != QueryFile() and asked.spot is None and not any(map(is_file, (*asked.examples, *asked.negatives))):
        raise UsageError(
            "--query-modality, --query-camera and --whole say what a query file shows, and no query is a file: "
            "of a tracklet all of that is known"
        )


def check_filter(
    store: Store,
    config: Config | None,
    wanted: SearchFilter,
    *,
    said: tuple[str, str],
    visible: Collection[str] | None = None,
) -> None:
    """Refuse a filter by what is not there, which nothing would ever match.

    Args:
        store: Of the gallery.
        config: Of the run, if it left one.
        wanted: The filter.
        said: What cameras and zones are called where they were given.
        visible: All else than what these cameras have is as if it were not there; None is all.

    Raises:
        UsageError: When it names a camera, zone or person that is not there, or who was merged into somebody.
    """
    cameras = [each for each in store.cameras() if visible is None or each in visible]
    for camera in sorted(wanted.cameras or ()):
        check_name(said[0], camera, cameras, "this gallery has no cameras")
    check_persons(store, sorted(wanted.persons or ()), visible=visible)
    _check_zones(store, config, sorted(wanted.zones or ()), said=said[1], visible=visible)


def _check_modalities(store: Store, wanted: SearchFilter) -> None:
    """Refuse modalities of which the gallery has no camera; an empty one says that it is empty."""
    cameras = store.cameras()
    if cameras and wanted.modalities and wanted.modalities.isdisjoint(cameras.values()):
        there = ", ".join(f"{camera} ({modality.value})" for camera, modality in cameras.items())
        asked = " or ".join(sorted(each.value for each in wanted.modalities))
        raise UsageError(f"--modality: no camera of this gallery is {asked}; there are {there}")


def check_persons(store: Store, persons: Iterable[int], *, visible: Collection[str] | None = None) -> None:
    """Refuse who has no tracklets to name, or none of the visible cameras.

    Raises:
        UsageError: When there is nobody of a number, or who was merged into somebody.
    """
    with store.reading() as db:
        into = dict(db.execute("SELECT person_id, merged_into FROM persons"))
        if visible is not None:
            seen = db.execute(
                "SELECT DISTINCT person_id FROM tracklets WHERE camera_id IN (SELECT value FROM json_each(?))",
                [json.dumps(sorted(visible))],
            )
            into = {person: into[person] for (person,) in seen if person is not None}
    for person in persons:
        if person not in into:
            raise UsageError(f"no person {person_name(person)} in this gallery")
        now: int | None = person
        while now is not None and into[now] is not None:
            now = into[now]
        if now is not None and now != person:
            raise UsageError(
                f"{person_name(person)} is part of {person_name(now)}, who has the tracklets now; name them"
            )


def _check_zones(
    store: Store, config: Config | None, zones: Sequence[str], *, said: str, visible: Collection[str] | None
) -> None:
    """A zone is of the run's config, or of tracklets that came from another."""
    cameras = config.cameras if config else {}
    known = {zone for name in cameras if visible is None or name in visible for zone in cameras[name].zones}
    if known.issuperset(zones):
        return
    with store.reading() as db:
        for camera, stored in db.execute("SELECT DISTINCT camera_id, zones FROM tracklets"):
            if visible is None or camera in visible:
                known.update(json.loads(stored))
    for zone in zones:
        check_name(said, zone, sorted(known), "this gallery has no zones")


def search_rules(config: Config | None, options: SearchOptions) -> SearchRules:
    """What the site's config says of a search, and what this one asks for instead."""
    if config is None:
        return SearchRules(rerank=bool(options.rerank), false_match_rate=options.false_match_rate)
    chosen = config.search
    return SearchRules(
        zone=config.site.zone,
        ways=build_ways(config),
        rerank=chosen.rerank if options.rerank is None else options.rerank,
        false_match_rate=options.false_match_rate or chosen.false_match_rate,
        approximation=build_approximation(config),
    )


def _extractor(root: Path, device: str) -> "Callable[[], Extractor]":
    return lambda: build_extractor(read_config(root).reid.weights, device)


def _example(searcher: Searcher, store: Store, text: str, file: QueryFile, spot: Spot | None, device: str) -> Example:
    """Whatever names a person, as an example to search by."""
    path = Path(text)
    try:
        is_folder, is_file = path.is_dir(), path.is_file()
    except OSError as error:  # such as a name that is too long for one
        raise UsageError(f"{without_secrets(text)}: {error.strerror}; no tracklet id either") from error
    if spot is not None and not is_file:
        config = _config_for_files(store.root, device)
        return searcher.example_from(*_clip_of_spot(text, spot, file, config))
    if is_folder:
        raise UsageError(f"{text}: is a folder; a query is a tracklet id, an image or a video file")
    if is_file:
        config = _config_for_files(store.root, device)
        try:
            clip, query = _clip(path, file, config) if spot is None else _clip_of_spot(text, spot, file, config)
        except SourceError as error:
            raise UsageError(
                f"{text}: is not a picture or video that shows somebody: {_reason(error, text)}"
            ) from error
        return searcher.example_from(clip, query)
    if path.suffix or len(path.parts) > 1:
        raise UsageError(f"{without_secrets(text)}: no such file, and no tracklet id either")
    if not store.has(text):
        _check_no_other_name(store, text)
    return searcher.example_of(text)


def _check_no_other_name(store: Store, text: str) -> None:
    """Say of a person or a camera, which are no queries, what is one."""
    if text in store.cameras():
        raise UsageError(f"{text}: is a camera; search for who stands there with --at TIME and --box X1,Y1,X2,Y2")
    if _PERSON.fullmatch(text):
        number = person_of_name(text)
        check_persons(store, [number])
        theirs = sorted(store.tracklets(TrackletFilter(person_id=number)), key=lambda each: -each.quality)
        names = ", ".join(each.tracklet_id for each in theirs[:_NAMES_TOLD])
        best = f" tracklets of theirs, of which the best seen are {names}" if names else "; no tracklet is theirs now"
        raise UsageError(f"{text}: is a person, and a query is a tracklet or a file: name{best}")


def _reason(error: SourceError, text: str) -> str:
    """What was wrong with the file, which is no camera, and was named before."""
    return str(error).removeprefix(f"camera {QUERY_CAMERA}: ").removeprefix(f"{text} ").removeprefix(f"{text}: ")


def _config_for_files(root: Path, device: str) -> Config:
    config = read_config(root)
    return config.model_copy(update={"detector": config.detector.model_copy(update={"device": device})})


def _clip_of_spot(text: str, spot: Spot, file: QueryFile, config: Config) -> tuple[list[Image], Query]:
    """The crop at a spot of a video file, or of what a camera of the run recorded."""
    path = Path(text)
    known = text if text in config.cameras and not path.exists() else file.camera
    if known is None and not path.is_file():
        raise UsageError(
            f"{without_secrets(text)}: neither a file nor one of the run's cameras: {', '.join(config.cameras)}"
        )
    camera = config.cameras[known] if known in config.cameras else _camera_of(path, file, config)
    if camera is None:
        camera = CameraConfig(source=text, modality=file.modality or _modality_of_video(path))
    elif path.is_file():
        camera = camera.model_copy(update={"source": text})
    name = known or next((name for name, each in config.cameras.items() if each.source == camera.source), QUERY_CAMERA)
    source = open_source(name, camera)
    span = span_of(source.probe())
    clip, query = clip_from_spot(frames_from(source, spot.at), spot, name=text, span=span)
    clip = _white_hot(clip, _windows(config, camera))
    return clip, query if name in config.cameras else replace(query, camera_id=None, start=None, end=None)


def clip_of_file(path: Path, file: QueryFile, config: Config | None) -> tuple[list[Image], Query]:
    """The crops of the person in an image file, found as the run would have found them, and what they are.

    Args:
        path: Of the image.
        file: What is known of it.
        config: Of the run; without it, the image must show one person.

    Raises:
        UsageError: When it cannot be read, its modality is not obvious, or nobody is found in it.
    """
    if config is None:
        return clip_from_image(path, file.modality, whole=file.whole)
    return _clip(path, file, config)


def clip_of_spot(camera_id: str, spot: Spot, config: Config) -> tuple[list[Image], Query, bool]:
    """The crop of a box on a frame that a camera of the run recorded, what it is, and whether a border cuts the box.

    Raises:
        UsageError: When the recording does not reach the moment, or too little of the box lies within the frame.
        SourceError: When the recording cannot be read.
    """
    camera = config.cameras[camera_id]
    source = open_source(camera_id, camera)
    info = source.probe()
    width, height = info.resolution_wh
    clip, query = clip_from_spot(frames_from(source, spot.at), spot, name=camera_id, span=span_of(info))
    left, top, right, bottom = spot.xyxy
    cut = left <= 1 or top <= 1 or right >= width - 1 or bottom >= height - 1
    return _white_hot(clip, _windows(config, camera)), query, cut


def check_name(flag: str, name: str, known: Collection[str], none: str) -> None:
    """Refuse a name that is not known, with what was probably meant, or with what `none` says where none is known.

    Raises:
        UsageError: Then.
    """
    if not known:
        raise UsageError(f"{flag} {name!r}: {none}")
    if name not in known:
        raise UsageError(f"{flag} {name!r} is not one of {', '.join(known)}{suggestion(name, known)}")


def _clip(path: Path, file: QueryFile, config: Config) -> tuple[list[Image], Query]:
    """The crops of the person in a file, found as the run would have found them."""
    camera = _camera_of(path, file, config)
    modality = camera.modality if camera else file.modality
    if path.suffix.lower() in IMAGE_SUFFIXES:
        clip, query = clip_from_image(path, modality, whole=file.whole, detect=_still_detector(config, camera))
        return _white_hot(clip, _windows(config, camera)), query
    camera = camera or CameraConfig(source=str(path), modality=modality or _modality_of_video(path))
    return clip_from_video(path, camera.modality, _tracklets_of(config, camera))


def _camera_of(path: Path, file: QueryFile, config: Config) -> CameraConfig | None:
    """The camera of the run that recorded a file; None when it is not known."""
    if file.camera is not None:
        check_name("--query-camera", file.camera, config.cameras, "the run has no cameras")
        return config.cameras[file.camera]
    places = (path.resolve(), path.resolve().parent)
    own = (camera for camera in config.cameras.values() if Path(camera.source).resolve() in places)
    return next((camera for camera in own if file.modality in (None, camera.modality)), None)


def _windows(config: Config, camera: CameraConfig | None) -> Windows:
    return build_windows(config.model_copy(update={"cameras": {QUERY_CAMERA: camera} if camera else {}}))


def _white_hot(clip: Sequence[Image], windows: Windows) -> list[Image]:
    """Turned where the camera is known to be black-hot, as a run turns its crops."""
    return [windows.white_hot(QUERY_CAMERA, image) for image in clip]


def _still_detector(config: Config, camera: CameraConfig | None) -> Callable[[Frame], Detections] | None:
    """The run's detector for one image; None when it needs a background, which a still image does not give."""
    if config.detector.backend == "motion":
        return None
    return lambda frame: build_detector(config.detector, _windows(config, camera)).detect([frame])[0]


def _modality_of_video(path: Path) -> Modality:
    source = open_source(QUERY_CAMERA, CameraConfig(source=str(path), modality=Modality.RGB))
    source.probe()
    for frame in islice(source, 0, _FRAMES_LOOKED_AT, 10):
        if np.ptp(frame.image.astype(np.int16), axis=2).max() > _COLOURFUL:
            return Modality.RGB
    raise UsageError(f"{path}: a grey video may be nir, thermal or rgb; say which with --query-modality")


def _tracklets_of(config: Config, camera: CameraConfig) -> Callable[[Path], Sequence[Tracklet]]:
    """Detect, track and gather a video as the run did with its camera."""

    def find(path: Path) -> list[Tracklet]:
        source = open_source(QUERY_CAMERA, camera.model_copy(update={"source": str(path)}))
        source.probe()
        windows = _windows(config, camera)
        detector = build_detector(config.detector, windows)
        trackers = build_trackers(config, [QUERY_CAMERA])
        frames = tracked(source, detector, trackers, frames_a_batch=config.detector.batch)
        found = gather(frames, build_builders(config, [QUERY_CAMERA]))
        return [each.with_images(windows.white_hot) for each in found if isinstance(each, Tracklet)]

    return find
