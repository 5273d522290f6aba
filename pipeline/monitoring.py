"""What a run tells about itself while it runs: Prometheus metrics and health, over HTTP on the loopback interface.

One of the files with threads: a request is answered beside the line, from what the line has counted, and costs it
nothing.
"""

import json
import logging
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socket import AF_INET6
from threading import Thread
from typing import Any, cast

import cv2
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, PlatformCollector, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector

from pipeline.errors import ResourceError
from pipeline.frame import Frame, Image
from pipeline.prefetch import Ledger
from pipeline.sources.base import SourceAccount, SourceState
from pipeline.thermal import Windows

logger = logging.getLogger(__name__)

_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
_CAMERA = ("camera", "modality")
_DEAD_SECONDS = 30.0  # without a step of the line
_START_SECONDS = 300.0  # until the first one: a large gallery and a cold GPU take long


@dataclass(frozen=True, slots=True)
class CameraStatus:
    """One camera at one moment.

    Attributes:
        camera_id: Which.
        modality: What it measures.
        live: Whether it is a stream.
        account: Of its source; None of a camera that is not read any more.
        ledger: Of all its frames.
        queued: Frames that wait.
        held_up: Whether none of its frames can be processed, though they come.
    """

    camera_id: str
    modality: str
    live: bool
    account: SourceAccount | None
    ledger: Ledger
    queued: int
    held_up: bool = False

    @property
    def state(self) -> SourceState:
        """Where it is in its life."""
        if self.account is None:
            return SourceState.DISABLED
        held_up = self.held_up and self.account.state is SourceState.RUNNING
        return SourceState.STALLED if held_up else self.account.state


class LatestFrames:
    """The last processed frame of each camera: the line leaves a reference, and no more is done until one looks."""

    def __init__(self, windows: Windows) -> None:
        """Nothing was seen yet.

        Args:
            windows: As the line shows its cameras.
        """
        self._windows = windows
        self._frames: dict[str, Frame] = {}

    def leave(self, frame: Frame) -> None:
        """It is the last one of its camera now."""
        self._frames[frame.camera_id] = frame

    def forget(self, camera_id: str) -> None:
        """The camera is not read any more."""
        self._frames.pop(camera_id, None)

    def small(self, camera_id: str, *, width: int) -> Frame | None:
        """The last one in RGB, at most so wide; made in the thread that asks, which may be any."""
        frame = self._frames.get(camera_id)
        if frame is None:
            return None
        frame = replace(frame, image=_shrunk(frame.image, width))
        return replace(frame, image=self._windows.glance(frame))


def _shrunk(image: Image, width: int) -> Image:
    if image.shape[1] <= width:
        return image
    height = max(1, round(image.shape[0] * width / image.shape[1]))
    return cast("Image", cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA))


class Metrics:
    """The figures of one run. The line counts into them; whoever asks reads them, from any thread."""

    def __init__(self, cameras: Callable[[], Sequence[CameraStatus]], root: Path) -> None:
        """Begin at zero.

        Args:
            cameras: Tells all cameras, from any thread.
            root: Folder of the run, whose disk is watched.
        """
        self._cameras = cameras
        self._root = root
        self._beat: float | None = None
        self._began = time.monotonic()
        self._pairs: frozenset[str] = frozenset()  # those that are told
        self.registry = CollectorRegistry()
        new: dict[str, Any] = {"registry": self.registry}
        self.stage_seconds = Histogram(
            "xreid_stage_seconds", "Duration of a stage for one batch.", ["stage"], buckets=_SECONDS, **new
        )
        self.frame_age_seconds = Histogram(
            "xreid_frame_age_seconds", "Age of live frames since arrival, once processed.", _CAMERA,
            buckets=_SECONDS, **new,
        )  # fmt: skip
        self.tracklets = Counter("xreid_tracklets", "Finished tracklets.", [*_CAMERA, "outcome"], **new)
        self.reloads = Counter("xreid_config_reloads", "Reloads of the config.", ["outcome"], **new)
        self.gallery_tracklets = Gauge("xreid_gallery_tracklets", "Accepted tracklets in the gallery.", **new)
        self.gallery_persons = Gauge("xreid_gallery_persons", "Persons in the gallery.", **new)
        self.pair_skew_seconds = Gauge(
            "xreid_pair_skew_seconds", "How far the second camera's clock is ahead of the first's.", ["pair"], **new
        )
        self.pair_drift_ratio = Gauge("xreid_pair_drift_ratio", "How much faster it runs.", ["pair"], **new)
        self.registry.register(_Pulled(cameras, root))
        PlatformCollector(registry=self.registry)
        ProcessCollector(registry=self.registry)

    def tell_pairs(self, report: Mapping[str, Mapping[str, Any]]) -> None:
        """What pairs have measured; of one that is gone, or begins anew, nothing is told any more."""
        measured = {name: each for name, each in report.items() if each["skew_ms"] is not None}
        for name in self._pairs - set(measured):
            self.pair_skew_seconds.remove(name)
            self.pair_drift_ratio.remove(name)
        for name, each in measured.items():
            self.pair_skew_seconds.labels(name).set(each["skew_ms"] / 1000)
            self.pair_drift_ratio.labels(name).set(each["drift_percent"] / 100)
        self._pairs = frozenset(measured)

    def beat(self) -> None:
        """The line has made a step."""
        self._beat = time.monotonic()

    def health(self) -> tuple[bool, dict[str, Any]]:
        """Whether the line moves."""
        if self._beat is None:
            return time.monotonic() - self._began < _START_SECONDS, {"status": "starting"}
        silent = time.monotonic() - self._beat
        return silent < _DEAD_SECONDS, {"status": "running", "seconds_since_last_step": round(silent, 3)}

    def readiness(self) -> tuple[bool, dict[str, Any]]:
        """Whether at least one camera gives frames, or has given all it has."""
        states = {each.camera_id: each.state.value for each in self._cameras()}
        good = {SourceState.RUNNING.value, SourceState.ENDED.value}
        return self._beat is not None and bool(good & set(states.values())), {"cameras": states}


class _Pulled(Collector):
    """What is looked up when somebody asks."""

    def __init__(self, cameras: Callable[[], Sequence[CameraStatus]], root: Path) -> None:
        self._cameras = cameras
        self._root = root

    def collect(self) -> Iterator[Metric]:
        cameras = self._cameras()
        yield _counter("xreid_frames_decoded", "Frames that sources gave out.", cameras, lambda it: it.ledger.decoded)
        yield _counter("xreid_frames_processed", "Frames processed.", cameras, lambda it: it.ledger.processed)
        yield _counter("xreid_reconnects", "Times that a camera came back.", cameras, lambda it: it.ledger.reconnects)
        for name, causes in (("dropped", "dropped"), ("skipped", "skipped")):
            family = CounterMetricFamily(
                f"xreid_frames_{name}", f"Frames {name}, by cause.", labels=[*_CAMERA, "cause"]
            )
            for each in cameras:
                for cause, count in getattr(each.ledger, causes).items():
                    family.add_metric([each.camera_id, each.modality, cause], count)
            yield family
        queue = GaugeMetricFamily("xreid_queue_frames", "Decoded frames that wait.", labels=_CAMERA)
        state = GaugeMetricFamily("xreid_camera_state", "1 for the state it is in.", labels=[*_CAMERA, "state"])
        for each in cameras:
            queue.add_metric([each.camera_id, each.modality], each.queued)
            for possible in SourceState:
                state.add_metric([each.camera_id, each.modality, possible.value], float(each.state is possible))
        yield queue
        yield state
        yield from _clocks(cameras)
        disk = shutil.disk_usage(self._root)
        yield GaugeMetricFamily("xreid_disk_free_bytes", "Free on the disk of the results.", value=disk.free)
        yield GaugeMetricFamily("xreid_disk_size_bytes", "Size of that disk.", value=disk.total)


def _counter(
    name: str, text: str, cameras: Sequence[CameraStatus], value: Callable[[CameraStatus], int]
) -> CounterMetricFamily:
    family = CounterMetricFamily(name, text, labels=_CAMERA)
    for each in cameras:
        family.add_metric([each.camera_id, each.modality], value(each))
    return family


def _clocks(cameras: Sequence[CameraStatus]) -> Iterator[Metric]:
    family = CounterMetricFamily(
        "xreid_clock_events", "Jumps, gaps, duplicates, steps back of a camera's clock.", labels=[*_CAMERA, "kind"]
    )
    for each in cameras:
        if each.account is not None:
            for kind in ("jumps", "gaps", "duplicates", "backwards", "machine_set"):
                family.add_metric([each.camera_id, each.modality, kind], getattr(each.account.clock, kind))
    yield family


@contextmanager
def served(metrics: Metrics, host: str, port: int) -> Iterator[int]:
    """Answer ``/metrics``, ``/healthz`` and ``/readyz`` until left.

    Yields:
        The port, also where ``port`` is 0.

    Raises:
        ResourceError: When the port is taken.
    """
    server = _listen(partial(_Handler, metrics), host, port)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.2}, name="monitoring", daemon=True)
    thread.start()
    logger.info("metrics and health at http://%s:%d/metrics, /healthz and /readyz", host, server.server_port)
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def check_free(host: str, port: int) -> None:
    """Make sure that nobody listens there, before anything is written.

    Raises:
        ResourceError: When somebody does.
    """
    _listen(BaseHTTPRequestHandler, host, port).server_close()


def _listen(handler: Callable[..., BaseHTTPRequestHandler], host: str, port: int) -> ThreadingHTTPServer:
    try:
        return _server_class(host)((host, port), handler)
    except OSError as error:
        raise ResourceError(f"monitoring.port: {host}:{port} cannot be listened on: {error.strerror}") from error


def _server_class(host: str) -> type[ThreadingHTTPServer]:
    class Server(ThreadingHTTPServer):
        daemon_threads = True
        address_family = AF_INET6 if ":" in host else ThreadingHTTPServer.address_family

        def handle_error(self, request: Any, client_address: Any) -> None:
            """To the log, which the base class passes by; that a client is gone is no fault."""
            error = sys.exc_info()[1]
            if isinstance(error, OSError):
                logger.debug("monitoring: a client is gone: %s", error)
            else:
                logger.error("monitoring: a question could not be answered", exc_info=error)

    return Server


class _Handler(BaseHTTPRequestHandler):
    timeout = 10.0  # of a client that says nothing

    def __init__(self, metrics: Metrics, *arguments: Any) -> None:
        self._metrics = metrics
        super().__init__(*arguments)

    def do_GET(self) -> None:
        """Answer one of the three pages."""
        path = self.path.partition("?")[0]
        if path == "/metrics":
            self._answer(HTTPStatus.OK, CONTENT_TYPE_LATEST, generate_latest(self._metrics.registry))
        elif path in ("/healthz", "/readyz"):
            good, said = self._metrics.health() if path == "/healthz" else self._metrics.readiness()
            status = HTTPStatus.OK if good else HTTPStatus.SERVICE_UNAVAILABLE
            self._answer(status, "application/json", json.dumps(said).encode() + b"\n")
        else:
            self._answer(HTTPStatus.NOT_FOUND, "text/plain", b"/metrics, /healthz or /readyz\n")

    def do_HEAD(self) -> None:
        """As for GET, without the page: some load balancers ask so."""
        self.do_GET()

    def _answer(self, status: HTTPStatus, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002 (the base class's name)
        """To the debug log."""
        logger.debug("monitoring: " + format, *arguments)
