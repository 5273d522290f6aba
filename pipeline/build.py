"""From config to objects: the only place where names in a config meet classes."""

import logging
import re
from collections.abc import Callable, Collection, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from pipeline.address import without_secrets
from pipeline.config import CameraConfig, Config, DetectorConfig, GroundConfig, PairConfig, ThermalConfig
from pipeline.detectors.base import Detector, NetworkSettings, check_weights
from pipeline.errors import PipelineError, ResourceError, SourceError, UsageError
from pipeline.evidence import Evidence
from pipeline.identify import Identifier, IdentifyRules
from pipeline.losses import is_full
from pipeline.pairs import PairSettings
from pipeline.prefetch import Policy
from pipeline.retention import Retention, RetentionRules, Shortage
from pipeline.revision import Reviser
from pipeline.sources.base import Source
from pipeline.sources.open import open_source
from pipeline.store import Store
from pipeline.surveil import Line
from pipeline.thermal import Polarity, ThermalWindow, Windows
from pipeline.tracklets import Tracklet, TrackletBuilder, TrackletRules
from pipeline.ways import Way, Ways
from reid.gallery import Approximation
from reid.modality import Modality
from trackers.algorithms import TRACKERS
from trackers.base import Tracker
from trackers.ground import GroundPlane

if TYPE_CHECKING:  # torch takes seconds to import: only commands that embed should wait for it
    from reid.extractor import XReIDExtractor

logger = logging.getLogger(__name__)

EMBEDDED = "xreid-tiny"  # weights that come with the program

_ZERO_CELSIUS = 273.15  # kelvin


def build_sources(config: Config, cameras: Collection[str] | None = None) -> list[Source]:
    """Open cameras (all unless told), and probe the recordings among them, before anything is written.

    A live camera may be down: it is left to connect by itself.

    Raises:
        SourceError: With a line for each source that cannot be read.
    """
    sources, errors = [], []
    for camera_id in config.cameras if cameras is None else cameras:
        try:
            source = open_source(camera_id, config.cameras[camera_id])
            if not source.live:
                source.probe()
            sources.append(source)
        except SourceError as error:
            errors.append(str(error))
        except Exception as error:
            shown = without_secrets(config.cameras[camera_id].source)
            logger.debug("camera %s", camera_id, exc_info=error)
            errors.append(f"camera {camera_id}: {shown} cannot be read: {type(error).__name__}: {error}")
    if errors:
        raise SourceError("\n".join(errors))
    return sources


def policy_of(camera: CameraConfig) -> Policy:
    """How a camera's frames are handed over."""
    return Policy(
        max_staleness_seconds=camera.max_staleness_ms / 1000,
        target_fps=camera.target_fps,
        together=camera.pair_id,
        stall_seconds=camera.stream.stall_seconds,
    )


def pair_settings(config: Config) -> dict[str, PairSettings]:
    """The pairs of cameras."""
    known = {name: config.pairs.get(name, PairConfig()) for name in config.pair_members()}
    return {name: PairSettings(config.pair_members()[name], each.max_skew_ms / 1000) for name, each in known.items()}


def build_windows(config: Config) -> Windows:
    """The 8-bit windows of the thermal cameras."""
    return Windows(
        {
            camera_id: build_window(camera.thermal)
            for camera_id, camera in config.cameras.items()
            if camera.modality is Modality.THERMAL
        }
    )


def build_window(thermal: ThermalConfig) -> ThermalWindow:
    """The 8-bit window of one thermal camera; limits in degrees become counts."""
    low, high, scale = thermal.low, thermal.high, thermal.kelvin_per_count
    if scale is not None and low is not None and high is not None:
        low, high = (_ZERO_CELSIUS + low) / scale, (_ZERO_CELSIUS + high) / scale
    return ThermalWindow(low=low, high=high, polarity=Polarity(thermal.polarity))


def check_weights_and_device(config: Config) -> None:
    """What a look at the config can refuse, before anything is opened or loaded.

    Raises:
        UsageError: When weights are not there.
        ResourceError: When a GPU is named that this machine does not have.
    """
    if config.detector.weights is not None:
        check_weights(config.detector.weights, backend=config.detector.backend)
    if config.reid.weights != EMBEDDED and not Path(config.reid.weights).is_file():
        from reid import checkpoint

        try:
            checkpoint.find(config.reid.weights)
        except checkpoint.CheckpointError as error:
            raise UsageError(f"reid.weights: {error}") from error
    if config.reid.device.startswith("cuda"):
        resolve_device(config.reid.device)


def build_extractor(
    weights: str,
    device: str,
    *,
    calibration: Path | None = None,
    said: tuple[str, str] = ("reid.weights", "reid.calibration"),
) -> "XReIDExtractor":
    """Load a checkpoint.

    Args:
        weights: A file, or the name of embedded weights.
        device: Where to compute.
        calibration: A file whose curves take the place of those that the weights carry.
        said: What weights and calibration are called where they were given.

    Raises:
        UsageError: When it is missing, damaged, or does not fit the model.
    """
    from reid import checkpoint

    device, name = resolve_device(device), said[0]
    try:
        made = checkpoint.load(weights, device=device)
        if calibration is not None:
            name = said[1]
            own = checkpoint.read_calibration(calibration, made.model_id)
            made.calibration = made.calibration.replaced(own) if made.calibration else own
        return made
    except checkpoint.CheckpointError as error:
        raise UsageError(f"{name}: {error}") from error


def resolve_device(name: str) -> str:
    """``auto`` is the first GPU, or the CPU where there is none.

    Raises:
        ResourceError: When a GPU is named that this machine does not have.
    """
    import torch

    if name == "auto":
        return "cuda:0" if torch.cuda.is_available() else "cpu"
    if name != "cpu" and not re.fullmatch(r"cuda(:\d+)?", name):
        raise UsageError(f"device {name!r} is not one of auto, cpu, cuda, cuda:0")
    if name != "cpu" and int(name.partition(":")[2] or 0) >= torch.cuda.device_count():
        raise ResourceError(f"device {name}: PyTorch sees no such GPU here; use auto or cpu")
    return name


def build_detector(config: DetectorConfig, windows: Windows) -> Detector:
    """The configured detector.

    Raises:
        UsageError: When its weights are missing or unfit.
    """
    network = NetworkSettings(
        confidence=config.confidence,
        iou=config.iou,
        input_size=config.input_size,
        device=config.device,
        invert_thermal=config.invert_thermal,
    )
    if config.backend == "motion":
        from pipeline.detectors.motion import MotionDetector, MotionSettings

        return MotionDetector(
            MotionSettings(**config.motion.model_dump()), windows=windows, confidence=config.confidence
        )
    if config.weights is None:
        raise UsageError(f"detector.weights: the {config.backend} backend needs a file")
    if config.backend == "onnx":
        from pipeline.detectors.onnx import OnnxDetector

        return OnnxDetector(config.weights, settings=network, windows=windows)
    from pipeline.detectors.ultralytics import UltralyticsDetector

    return UltralyticsDetector(config.weights, settings=network, windows=windows)


def build_identifier(config: Config, store: Store, *, next_person_id: Callable[[], int] | None = None) -> Identifier:
    """An identifier that goes on where the store's last run stopped; numbers are the store's unless told."""
    return Identifier(
        Evidence(store.calibration, build_ways(config), travel_share=config.identity.travel_share),
        dimension=store.dimension,
        rules=IdentifyRules(**config.identity.model_dump(exclude={"travel_share"})),
        known=store.known(),
        next_person_id=next_person_id or partial(store.reserve_persons, 1),
    )


def build_reviser(line: Line, store: Store) -> Reviser:
    """What keeps the line's identifier and the store of one mind."""
    return Reviser(store, cast("Identifier", line.identifier))


def build_ways(config: Config) -> Ways:
    """What the config knows of the ways between cameras."""
    return Ways(Way((way.between[0], way.between[1]), way.min_seconds, way.typical_seconds) for way in config.ways)


def build_approximation(config: Config) -> Approximation | None:
    """When a search stops looking at everything; None is never."""
    chosen = config.search
    if chosen.approximate_beyond is None:
        return None
    return Approximation(chosen.approximate_beyond, chosen.approximate_probes)


def build_retention(config: Config, store: Store, on_shortage: Callable[[Shortage], None]) -> Retention:
    """What ages the store, and keeps what comes in when the disk is full."""
    rules = RetentionRules(**config.retention.model_dump(), low_water_mb=config.storage.low_water_mb)
    return Retention(store, rules, on_shortage=on_shortage)


def build_builders(config: Config, cameras: Sequence[str]) -> dict[str, TrackletBuilder]:
    """A tracklet builder a camera."""
    rules = TrackletRules(**config.tracklets.model_dump())
    zones = {camera_id: camera.zones for camera_id, camera in config.cameras.items()}
    return {camera_id: TrackletBuilder(rules, zones.get(camera_id)) for camera_id in cameras}


def build_trackers(config: Config, cameras: Sequence[str]) -> dict[str, Tracker]:
    """A tracker a camera; one that the config does not know has no floor.

    Raises:
        UsageError: When a camera's homography maps no plane.
    """
    trackers: dict[str, Tracker] = {}
    for camera_id in cameras:
        camera = config.cameras.get(camera_id)
        floor = {} if camera is None else build_floor(camera_id, camera.ground)
        trackers[camera_id] = TRACKERS[config.tracker.name].build(**config.tracker.settings(), **floor)
    return trackers


def build_floor(camera_id: str, ground: GroundConfig) -> dict[str, Any]:
    """What the tracker is told of a camera's floor: nothing where the config says nothing.

    Raises:
        UsageError: When the homography maps no plane.
    """
    if ground.estimate:
        return {"estimate_ground": True}
    try:
        if ground.homography is not None:
            return {"ground": GroundPlane(np.array(ground.homography))}
        height, tilt, focal, centre = ground.height_metres, ground.tilt_degrees, ground.focal_px, ground.centre_px
        if height is None or tilt is None or focal is None or centre is None:
            return {}
        x, y = centre
        plane = GroundPlane.of_camera(height_metres=height, tilt_degrees=tilt, focal_pixels=focal, centre_xy=(x, y))
        return {"ground": plane}
    except ValueError as error:
        raise UsageError(f"cameras.{camera_id}.ground: {error}") from error


def build_line(
    config: Config,
    detector: Detector,
    extractor: "XReIDExtractor",
    store: Store,
    *,
    live: Collection[str] = (),
    retention: Retention | None = None,
) -> Line:
    """All stages, for all configured cameras, of which those in ``live`` are streams.

    With a retention, which makes room for a new person's number, what there is no room for is counted as lost.
    """
    cameras = list(config.cameras)
    return Line(
        detector=detector,
        trackers=build_trackers(config, cameras),
        builders=build_builders(config, cameras),
        extractor=extractor,
        identifier=build_identifier(config, store, next_person_id=_numbers(store, retention)),
        tracklets_a_batch=config.reid.batch,
        live=live,
        max_wait_seconds=config.reid.max_wait_ms / 1000,
        silence_seconds=config.tracklets.max_gap_seconds,
        spare=(lambda tracklets, error: False) if retention is None else partial(_lose, retention),
    )


def _numbers(store: Store, retention: Retention | None) -> Callable[[], int]:
    reserve = partial(store.reserve_persons, 1)
    return reserve if retention is None else partial(retention.with_room, reserve)


def _lose(retention: Retention, tracklets: Sequence[Tracklet], error: PipelineError) -> bool:
    """Count them, if a full disk is why."""
    if is_full(error):
        retention.lose(tracklets)
        return True
    return False
