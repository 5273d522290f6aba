"""Is this machine fit to run? Looks at everything a run needs, changes nothing, and never raises."""

import hashlib
import os
import platform
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import av
import psutil

from pipeline.build import EMBEDDED, build_detector, build_extractor, build_windows
from pipeline.config import Config
from pipeline.errors import PipelineError, SourceError
from pipeline.sources.connection import accelerator
from pipeline.sources.open import open_source

_PACKAGES = ("torch", "ultralytics", "onnxruntime", "opencv-python", "av", "faiss-cpu", "pydantic")
_CODECS = {"h264": "r", "hevc": "r", "mjpeg": "r", "libx264": "w"}  # read or written
_FORMATS = ("rtsp", "mpjpeg", "video4linux2,v4l2")  # of live sources
_LEAST_DISK_GB = 2.0
_LEAST_MEMORY_GB = 3.0
_EARLIEST_CLOCK = datetime(2024, 1, 1, tzinfo=UTC)


class Status(StrEnum):
    """How a check came out: a warning lets a run go on, a failure would end it."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the page.

    Attributes:
        name: What was looked at.
        status: How it came out.
        detail: What was found, and what to do about it.
    """

    name: str
    status: Status
    detail: str


def examine(config: Config | None) -> list[Check]:
    """Look at the machine, and at the weights, sources and output of a config if there is one."""
    looks: list[tuple[str, Callable[[], Check]]] = [
        ("python", _python),
        ("packages", _packages),
        ("decoder", _decoder),
        ("gpu", partial(_gpu, config)),
        ("cores and memory", _cores_and_memory),
        ("disk", partial(_disk, config.output.root if config else Path("runs"))),
        ("clock", partial(_clock, config)),
        *_weights(config),
        *_sources(config),
    ]
    return [_guarded(name, look) for name, look in looks]


def _guarded(name: str, look: Callable[[], Check]) -> Check:
    try:
        return look()
    except PipelineError as error:
        return Check(name, Status.FAIL, str(error))
    except Exception as error:  # noqa: BLE001 (what breaks a check is its finding)
        return Check(name, Status.FAIL, f"{type(error).__name__}: {error}")


def _python() -> Check:
    detail = f"{platform.python_version()} at {sys.executable}, {platform.system()} {platform.machine()}"
    return Check("python", Status.OK, detail)


def _packages() -> Check:
    found, missing = [], []
    for name in _PACKAGES:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            missing.append(name)
    if missing:
        return Check("packages", Status.FAIL, f"missing: {', '.join(missing)}; run make setup")
    return Check("packages", Status.OK, ", ".join(found))


def _decoder() -> Check:
    missing = [name for name, mode in _CODECS.items() if not _has_codec(name, mode)]
    ffmpeg = ".".join(str(part) for part in av.library_versions["libavcodec"])
    if missing:
        return Check("decoder", Status.FAIL, f"PyAV {av.__version__} lacks {', '.join(missing)}")
    hardware = f"{accelerator()} is tried first, for live streams" if accelerator() else "no hardware decoder is found"
    detail = f"PyAV {av.__version__}, libavcodec {ffmpeg}: reads H.264, HEVC and MJPEG, writes H.264; {hardware}"
    if lacking := [name for name in _FORMATS if name not in av.formats_available]:
        return Check("decoder", Status.WARN, f"{detail}; without {', '.join(lacking)}: such cameras cannot be read")
    return Check("decoder", Status.OK, detail)


def _has_codec(name: str, mode: str) -> bool:
    try:
        av.Codec(name, "w" if mode == "w" else "r")
    except ValueError:
        return False
    return True


def _gpu(config: Config | None) -> Check:
    import torch  # imported late: it takes a second

    if torch.cuda.is_available():
        names = ", ".join(torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count()))
        return Check("gpu", Status.OK, f"CUDA {torch.version.cuda}: {names}")
    wanted = config is not None and any(d.startswith("cuda") for d in (config.detector.device, config.reid.device))
    if wanted:
        return Check("gpu", Status.FAIL, "the config asks for cuda, and PyTorch sees no CUDA device; use device: auto")
    return Check("gpu", Status.OK, "no CUDA device; everything runs on the CPU")


def _cores_and_memory() -> Check:
    gigabytes = psutil.virtual_memory().available / 1e9
    detail = f"{os.cpu_count()} cores, {gigabytes:.1f} GB of memory free"
    if gigabytes < _LEAST_MEMORY_GB:
        return Check("cores and memory", Status.WARN, f"{detail}; a run may need {_LEAST_MEMORY_GB:g} GB")
    return Check("cores and memory", Status.OK, detail)


def _disk(root: Path) -> Check:
    there = next(folder for folder in (root, *root.absolute().parents) if folder.exists())
    if not (there.is_dir() and os.access(there, os.W_OK)):
        return Check("disk", Status.FAIL, f"{root} cannot be written: {there} is not a folder that may be written to")
    gigabytes = shutil.disk_usage(there).free / 1e9
    detail = f"{gigabytes:.1f} GB free at {root}"
    if gigabytes < _LEAST_DISK_GB:
        return Check("disk", Status.WARN, f"{detail}; {_LEAST_DISK_GB:g} GB are advised")
    return Check("disk", Status.OK, detail)


def _clock(config: Config | None) -> Check:
    now, before = datetime.now(UTC), time.monotonic()
    time.sleep(0.001)
    zone = config.site.timezone if config else "UTC"
    local = now.astimezone(config.site.zone if config else UTC)
    detail = f"{now:%Y-%m-%dT%H:%M:%SZ}, at the site {local:%Y-%m-%d %H:%M:%S} ({zone})"
    if time.monotonic() <= before:
        return Check("clock", Status.FAIL, f"{detail}; the monotonic clock stands still")
    if now < _EARLIEST_CLOCK:
        return Check("clock", Status.WARN, f"{detail}; the clock is not set: times of new files will be wrong")
    return Check("clock", Status.OK, detail)


def _weights(config: Config | None) -> Iterator[tuple[str, Callable[[], Check]]]:
    configured = config.reid.weights if config else EMBEDDED
    for name in dict.fromkeys((EMBEDDED, configured)):
        yield f"re-ID weights {name}", partial(_reid_weights, name)
    if config:
        yield "detector", partial(_detector, config)


def _reid_weights(name: str) -> Check:
    from reid import checkpoint

    extractor = build_extractor(name, "cpu")
    path = checkpoint.find(name)
    detail = f"{path} ({_fingerprint(path)}), {extractor.dimension} numbers a tracklet"
    if extractor.calibration is None:
        return Check(f"re-ID weights {name}", Status.WARN, f"{detail}; they carry no calibration, and run refuses them")
    return Check(f"re-ID weights {name}", Status.OK, detail)


def _detector(config: Config) -> Check:
    build_detector(config.detector, build_windows(config))
    weights = config.detector.weights
    if config.detector.backend == "motion" or weights is None:
        return Check("detector", Status.OK, "motion; needs no weights, and cameras that do not move")
    fingerprint = f" ({_fingerprint(weights)})" if weights.is_file() else ""
    return Check("detector", Status.OK, f"{config.detector.backend}: {weights}{fingerprint}")


def _fingerprint(path: Path) -> str:
    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    return f"{path.stat().st_size / 1e6:.1f} MB, sha256 {digest[:16]}"


def _sources(config: Config | None) -> Iterator[tuple[str, Callable[[], Check]]]:
    if config:
        for camera_id in config.cameras:
            yield f"camera {camera_id}", partial(_source, config, camera_id)


def _source(config: Config, camera_id: str) -> Check:
    """A camera that is down is a warning: a run waits for it. A recording that cannot be read would end the run."""
    camera = config.cameras[camera_id]
    try:
        info = open_source(camera_id, camera).probe()
    except SourceError as error:
        status = Status.WARN if camera.live else Status.FAIL
        return Check(f"camera {camera_id}", status, f"{error} [{error.code}]" if camera.live else str(error))
    width, height = info.resolution_wh
    detail = f"{camera.modality.value}, {width}x{height}, {info.bit_depth} bits, {info.fps:g} frames a second, "
    if camera.live:
        return Check(f"camera {camera_id}", Status.OK, f"{detail}live, {info.decoder}")
    frames = f"{info.frames} frames" if info.frames else "frames not counted"
    start = f"from {info.start:%Y-%m-%dT%H:%M:%SZ} (by {info.time_source.value})"
    return Check(f"camera {camera_id}", Status.OK, f"{detail}{frames}, {start}")
