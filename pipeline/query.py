"""A search from the outside: whatever names the person in question becomes a query over a run's gallery."""

import difflib
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path

import numpy as np

from pipeline.build import build_builders, build_detector, build_extractor, build_trackers, build_windows
from pipeline.config import CameraConfig, Config, load
from pipeline.errors import UsageError
from pipeline.frame import Frame
from pipeline.search import Searcher, SearchFilter, SearchResult, clip_from_image, clip_from_video
from pipeline.sinks import write_whole
from pipeline.sources.images import IMAGE_SUFFIXES
from pipeline.sources.open import open_source
from pipeline.store import Store
from pipeline.surveil import gather, tracked
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


def search(
    root: Path,
    query: str,
    wanted: SearchFilter,
    *,
    query_modality: Modality | None = None,
    whole: bool = False,
    device: str = "auto",
) -> SearchResult:
    """Find a person in the gallery of a run.

    Args:
        root: The run's folder.
        query: A tracklet id of that gallery; or an image, or a video file, that shows the person.
        wanted: Which tracklets may be answers.
        query_modality: What the file shows; None where it is obvious (colour).
        whole: The image shows one person: no detection.
        device: For embedding a file's person.

    Raises:
        UsageError: When the query is neither, shows nobody, or a filter names a camera that the gallery does not have.
    """
    with Store.read(root) as store:
        _check_cameras(store, wanted)
        path = Path(query)
        if not path.is_file():
            if path.suffix or len(path.parts) > 1:
                raise UsageError(f"{query}: no such file, and no tracklet id either")
            return Searcher(store, store.calibration).by_tracklet(query, wanted)
        config = read_config(root)
        config = config.model_copy(update={"detector": config.detector.model_copy(update={"device": device})})
        searcher = Searcher(store, store.calibration, extractor=lambda: build_extractor(config.reid.weights, device))
        if path.suffix.lower() in IMAGE_SUFFIXES:
            clip, described = clip_from_image(path, query_modality, whole=whole, detect=_still_detector(config))
        else:
            modality = query_modality or _modality_of_video(path)
            clip, described = clip_from_video(path, modality, _tracklets_of(config, modality))
        return searcher.by_clip(clip, described, wanted)


def _check_cameras(store: Store, wanted: SearchFilter) -> None:
    known = store.cameras()
    for camera in sorted((wanted.cameras or frozenset()) - known.keys()):
        nearest = difflib.get_close_matches(camera, known, n=1)
        hint = f"; did you mean {nearest[0]}?" if nearest else ""
        raise UsageError(f"--camera {camera!r} is not one of {', '.join(known) or 'an empty gallery'}{hint}")


def _still_detector(config: Config) -> Callable[[Frame], Detections] | None:
    """The run's detector for one image; None when it needs a background, which a still image does not give."""
    if config.detector.backend == "motion":
        return None
    return lambda frame: build_detector(config.detector, build_windows(config)).detect([frame])[0]


def _modality_of_video(path: Path) -> Modality:
    source = open_source(QUERY_CAMERA, CameraConfig(source=str(path), modality=Modality.RGB))
    source.probe()
    for frame in islice(source, 0, _FRAMES_LOOKED_AT, 10):
        if np.ptp(frame.image.astype(np.int16), axis=2).max() > _COLOURFUL:
            return Modality.RGB
    raise UsageError(f"{path}: a grey video may be nir, thermal or rgb; say which with --query-modality")


def _tracklets_of(config: Config, modality: Modality) -> Callable[[Path], Sequence[Tracklet]]:
    """Detect, track and gather a video as the run did, as one camera."""

    def find(path: Path) -> list[Tracklet]:
        camera = CameraConfig(source=str(path), modality=modality)
        source = open_source(QUERY_CAMERA, camera)
        source.probe()
        windows = build_windows(config.model_copy(update={"cameras": {QUERY_CAMERA: camera}}))
        detector = build_detector(config.detector, windows)
        trackers = build_trackers(config, [QUERY_CAMERA])
        frames = tracked(source, detector, trackers, frames_a_batch=config.detector.batch)
        found = gather(frames, build_builders(config, [QUERY_CAMERA]))
        return [each for each in found if isinstance(each, Tracklet)]

    return find
