"""Counts what a run did, and says it: the report, the log, and the sentences for what is missing."""

import logging
import resource
import sys
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

from pipeline.config import Config
from pipeline.frame import Frame
from pipeline.identify import Sighting
from pipeline.monitoring import CameraStatus, Metrics
from pipeline.prefetch import SHUTDOWN, Intake, Ledger
from pipeline.sinks import rfc3339
from pipeline.sources.base import Source, SourceState
from pipeline.sources.pictures import channel_spread
from pipeline.tracklets import RejectedTracklet
from reid.modality import Modality

logger = logging.getLogger(__name__)

_BIN_SECONDS = 0.005
_LOOK_EVERY, _GREY_LOOKS = 10, 5  # frames, and so many looks in a row
_NO_COLOUR, _COLOURED_SHARE = 6, 0.01  # levels between two channels that compression makes; of the pixels
_NOTHING = Ledger(0, 0, Counter(), Counter(), 0)


class GreyWatch:
    """Tells once of a camera said to be rgb whose pictures have no colour: most likely it is infrared."""

    def __init__(self) -> None:
        self._seen: Counter[str] = Counter()
        self._grey: Counter[str] = Counter()  # looks in a row

    def look(self, frame: Frame) -> None:
        """Take a processed frame; of some of them the colours are looked at."""
        if frame.modality is not Modality.RGB or self._grey[frame.camera_id] >= _GREY_LOOKS:
            return
        self._seen[frame.camera_id] += 1
        if self._seen[frame.camera_id] % _LOOK_EVERY:
            return
        is_grey = np.mean(channel_spread(frame.image) > _NO_COLOUR) < _COLOURED_SHARE
        self._grey[frame.camera_id] = self._grey[frame.camera_id] + 1 if is_grey else 0
        if self._grey[frame.camera_id] == _GREY_LOOKS:
            logger.warning(
                "camera %s: is said to be rgb, and its pictures are grey: if it is near-infrared or thermal, give it "
                "that modality (nir, thermal), or its people are compared as if in colour", frame.camera_id,
            )  # fmt: skip


class Ages:
    """How old frames were when they had been processed: a histogram of fixed size, and the exact maximum."""

    def __init__(self) -> None:
        self._bins = np.zeros(2001, np.int64)  # the last one holds all from 10 s on
        self.most = 0.0

    def add(self, seconds: float) -> None:
        """Count one frame."""
        self._bins[min(max(int(seconds / _BIN_SECONDS), 0), len(self._bins) - 1)] += 1
        self.most = max(self.most, seconds)

    def quantile(self, share: float) -> float:
        """Upper bound, within 5 ms, of the age that this share of the frames stayed below; NaN without any frame."""
        total = int(self._bins.sum())
        if not total:
            return float("nan")
        place = int(np.searchsorted(np.cumsum(self._bins), share * total))
        return min((place + 1) * _BIN_SECONDS, self.most)


class Tally:
    """The counts of one run, of all cameras that it ever had."""

    def __init__(self, intake: Intake, *, started: float) -> None:
        """Begin at zero.

        Args:
            intake: Keeps the accounts of frames.
            started: When the run began, on the clock of ``time.perf_counter``.
        """
        self.without_video: dict[str, str] = {}
        self.pairs: Mapping[str, Any] = {}
        self.held_up: set[str] = set()  # cameras of which no frame can be processed
        self._intake = intake
        self._sources: dict[str, Source] = {}
        self._ages: dict[str, Ages] = {}
        self._accepted: Counter[str] = Counter()
        self._rejected: Counter[str] = Counter()
        self._started_at = datetime.now(UTC) - timedelta(seconds=time.perf_counter() - started)
        self._started = started
        self._seconds: float | None = None
        self._ended_states: dict[str, str] = {}

    def watch(self, source: Source) -> None:
        """Keep the account of a camera's source, in the place of an earlier one."""
        self._sources[source.camera_id] = source

    def aged(self, camera_id: str, seconds: float) -> None:
        """A live frame was so old once processed."""
        self._ages.setdefault(camera_id, Ages()).add(seconds)

    def finished(self, item: Sighting | RejectedTracklet, metrics: Metrics) -> None:
        """Count a tracklet."""
        camera = item.tracklet.camera_id, item.tracklet.modality.value
        if isinstance(item, RejectedTracklet):
            self._rejected[item.reason.value] += 1
            metrics.tracklets.labels(*camera, item.reason.value).inc()
        else:
            self._accepted[item.tracklet.camera_id] += 1
            metrics.tracklets.labels(*camera, "accepted").inc()

    def stop(self) -> None:
        """All tracklets are identified and kept; what follows is pictures."""
        self._seconds = time.perf_counter() - self._started

    def recorded_frames(self) -> dict[str, int]:
        """How many frames of each recording were processed."""
        ledgers = self._intake.ledgers()
        return {
            camera_id: ledgers[camera_id].processed
            for camera_id, source in self._sources.items()
            if not source.live and camera_id in ledgers and ledgers[camera_id].processed
        }

    def expected_frames(self, most: int | None) -> int | None:
        """How many frames all recordings promise; None where one does not, or a camera is live."""
        counts = [source.info.frames if source.info else None for source in self._sources.values()]
        if any(count is None for count in counts):
            return most
        total = sum(count for count in counts if count is not None)
        return min(total, most) if most else total

    def statuses(self) -> list[CameraStatus]:
        """Every camera as it is now; from any thread."""
        ledgers, queued, reading = self._intake.ledgers(), self._intake.queued(), self._intake.sources()
        return [
            CameraStatus(
                camera_id=camera_id,
                modality=source.modality.value,
                live=source.live,
                account=source.account.snapshot() if camera_id in reading else None,
                ledger=ledgers.get(camera_id, _NOTHING),
                queued=queued.get(camera_id, 0),
                held_up=camera_id in self.held_up,
            )
            for camera_id, source in list(self._sources.items())
        ]

    def report(self, config: Config, *, model_id: str, persons: int) -> dict[str, Any]:
        """Everything counted, as plain values."""
        statuses, seconds = self.statuses(), time.perf_counter() - self._started
        frames = sum(each.ledger.processed for each in statuses)
        report = {
            "schema": "xreid.report/1",
            "started": rfc3339(self._started_at),
            "written": rfc3339(datetime.now(UTC)),
            "site": config.site.name,
            "detector": config.detector.backend,
            "model": model_id,
            "frames": frames,
            "seconds": round(seconds, 3),
            "frames_per_second": round(frames / seconds, 2),
            "seconds_until_all_identified": round(seconds if self._seconds is None else self._seconds, 3),
            "peak_rss_mb": peak_rss_mb(),
            "cameras": {each.camera_id: self._camera(each) for each in statuses},
            "tracklets": {"accepted": sum(self._accepted.values()), "rejected": dict(self._rejected)},
            "persons": persons,
        }
        return report | ({"pairs": dict(self.pairs)} if self.pairs else {})

    def _camera(self, status: CameraStatus) -> dict[str, Any]:
        source = self._sources[status.camera_id]
        info, account, ledger = source.info, source.account.snapshot(), status.ledger
        camera = {
            "modality": status.modality,
            "resolution_wh": list(info.resolution_wh) if info else None,
            "state": self._state(status),
            "frames_expected": None if info is None else info.frames,
            "frames_decoded": ledger.decoded,
            "frames_processed": ledger.processed,
            "frames_dropped": dict(sorted(ledger.dropped.items())),
            "frames_skipped": dict(ledger.skipped),
            "frames_skipped_examples": account.examples,
            "error": account.error,
            "error_code": account.error_code.value if account.error_code else None,
            "error_at": rfc3339(account.error_at) if account.error_at else None,
            "video_error": self.without_video.get(status.camera_id),
            "tracklets": self._accepted[status.camera_id],
        }
        return camera | (self._live_camera(status, account.clock) if status.live else {})

    def _live_camera(self, status: CameraStatus, clock: Any) -> dict[str, Any]:
        ages = self._ages.get(status.camera_id, Ages())
        return {
            "reconnects": status.ledger.reconnects,
            "clock": asdict(clock),
            "age_seconds": {
                "p50": round(ages.quantile(0.5), 3),
                "p95": round(ages.quantile(0.95), 3),
                "most": round(ages.most, 3),
            },
        }

    def _state(self, status: CameraStatus) -> str:
        if status.state is SourceState.FAILED:
            return status.state.value
        if status.camera_id in self._intake.interrupted():
            return "stopped"
        return "stopped" if status.state is SourceState.RUNNING and self._seconds is not None else status.state.value


def account_of(camera_id: str, ledger: Ledger) -> str:
    """Where the frames of a camera went, as a sentence."""
    told = {SHUTDOWN: "left when the run ended"}
    causes = ", ".join(f"{count} {told.get(cause, cause)}" for cause, count in sorted(ledger.dropped.items()))
    left = f" + {ledger.on_the_way} on the way" if ledger.on_the_way else ""
    return (
        f"camera {camera_id}: {ledger.decoded} frames decoded = {ledger.processed} processed + "
        f"{ledger.dropped.total()} dropped{f' ({causes})' if causes else ''}{left}"
    )


def incomplete_sources(report: dict[str, Any]) -> list[str]:
    """A sentence for each camera of which not every frame could be read, or drawn."""
    lines = []
    for camera_id, camera in report["cameras"].items():
        if camera.get("state") == SourceState.FAILED:
            lines.append(f"{camera['error']} ({camera['frames_processed']} frames were processed and kept)")
        if camera.get("frames_skipped") and "reconnects" not in camera:
            lines.append(_skipped_frames(camera_id, camera))
        dropped = camera.get("frames_dropped", {})
        if unprocessed := dropped.get(UNPROCESSED, 0) + dropped.get(HELD_UP, 0):
            lines.append(f"camera {camera_id}: {unprocessed} frames could not be processed; the log says why")
        if camera.get("video_error"):
            lines.append(f"camera {camera_id}: no annotated video: {camera['video_error']}; all else was kept")
    return lines


UNPROCESSED = "unprocessed"  # the cause of frames on which a stage failed
HELD_UP = "held_up"  # and of those of a live camera that came soon after several such


def _skipped_frames(camera_id: str, camera: dict[str, Any]) -> str:
    """How many, why, and the first few by name."""
    skipped = camera["frames_skipped"]
    causes = []
    for cause, count in skipped.items():
        examples = camera["frames_skipped_examples"][cause]
        more = ", ..." if count > len(examples) else ""
        causes.append(f"{count} {cause}: {', '.join(examples)}{more}")
    total = sum(skipped.values())
    return (
        f"camera {camera_id}: {total} frame{'s' if total > 1 else ''} skipped ({'; '.join(causes)}); "
        "the others were processed"
    )


def peak_rss_mb() -> float:
    """Most memory this process ever held, in megabytes (10^6 bytes)."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak * (1 if sys.platform == "darwin" else 1024) / 1e6, 1)
