"""A search from the outside: whatever names the person in question becomes a query over a run's gallery."""

import difflib
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from pipeline.build import build_builders, build_detector, build_extractor, build_trackers, build_windows
from pipeline.config import CameraConfig, Config, load
from pipeline.errors import UsageError
from pipeline.frame import IMAGE_SUFFIXES, Frame, Image
from pipeline.search import Query, Searcher, SearchFilter, SearchResult, clip_from_image, clip_from_video
from pipeline.sinks import write_whole
from pipeline.sources.open import open_source
from pipeline.store import Store
from pipeline.surveil import gather, tracked
from pipeline.thermal import Windows
from pipeline.tracklets import Tracklet
from reid.modality import Modality
from trackers.structures import Detections

CONFIG = "config.json"
QUERY_CAMERA = "query"

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


def search(
    root: Path, query: str, wanted: SearchFilter, *, file: QueryFile | None = None, device: str = "auto"
) -> SearchResult:
    """Find a person in the gallery of a run.

    Args:
        root: The run's folder.
        query: A tracklet id of that gallery; or an image, or a video file, that shows the person.
        wanted: Which tracklets may be answers.
        file: What is known of the query where it is a file.
        device: For embedding a file's person.

    Raises:
        UsageError: When the query is neither, shows nobody, or a camera is named that the gallery or the run does not
            have.
    """
    with Store.read(root) as store:
        for camera in sorted(wanted.cameras or ()):
            _check_camera("--camera", camera, store.cameras())
        path = Path(query)
        if path.is_dir():
            raise UsageError(f"{query}: is a folder; a query is a tracklet id, an image or a video file")
        if not path.is_file():
            if path.suffix or len(path.parts) > 1:
                raise UsageError(f"{query}: no such file, and no tracklet id either")
            return Searcher(store, store.calibration).by_tracklet(query, wanted)
        config = read_config(root)
        config = config.model_copy(update={"detector": config.detector.model_copy(update={"device": device})})
        searcher = Searcher(store, store.calibration, extractor=lambda: build_extractor(config.reid.weights, device))
        return searcher.by_clip(*_clip(path, file or QueryFile(), config), wanted)


def _check_camera(flag: str, camera: str, known: Collection[str]) -> None:
    if camera not in known:
        nearest = difflib.get_close_matches(camera, known, n=1)
        hint = f"; did you mean {nearest[0]}?" if nearest else ""
        raise UsageError(f"{flag} {camera!r} is not one of {', '.join(known) or 'an empty gallery'}{hint}")


def _clip(path: Path, file: QueryFile, config: Config) -> tuple[list[Image], Query]:
    """The crops of the person in a file, found as the run would have found them."""
    camera = _camera_of(path, file, config)
    modality = camera.modality if camera else file.modality
    if path.suffix.lower() in IMAGE_SUFFIXES:
        return clip_from_image(path, modality, whole=file.whole, detect=_still_detector(config, camera))
    camera = camera or CameraConfig(source=str(path), modality=modality or _modality_of_video(path))
    return clip_from_video(path, camera.modality, _tracklets_of(config, camera))


def _camera_of(path: Path, file: QueryFile, config: Config) -> CameraConfig | None:
    """The camera of the run that recorded a file; None when it is not known."""
    if file.camera is not None:
        _check_camera("--query-camera", file.camera, config.cameras)
        return config.cameras[file.camera]
    places = (path.resolve(), path.resolve().parent)
    own = (camera for camera in config.cameras.values() if Path(camera.source).resolve() in places)
    return next((camera for camera in own if file.modality in (None, camera.modality)), None)


def _windows(config: Config, camera: CameraConfig | None) -> Windows:
    return build_windows(config.model_copy(update={"cameras": {QUERY_CAMERA: camera} if camera else {}}))


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
        detector = build_detector(config.detector, _windows(config, camera))
        trackers = build_trackers(config, [QUERY_CAMERA])
        frames = tracked(source, detector, trackers, frames_a_batch=config.detector.batch)
        found = gather(frames, build_builders(config, [QUERY_CAMERA]))
        return [each for each in found if isinstance(each, Tracklet)]

    return find
