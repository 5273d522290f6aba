"""One run: recordings in, a folder of results out. Order and clean-up; the work is done by the stages."""

import logging
import resource
import shutil
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from pipeline.build import build_detector, build_extractor, build_line, build_sources, build_windows
from pipeline.config import Config
from pipeline.contact_sheet import write_matches
from pipeline.errors import UsageError
from pipeline.frame import Frame
from pipeline.identify import Sighting
from pipeline.prefetch import interleave
from pipeline.query import CONFIG, write_config
from pipeline.sinks import EventLog, MotWriters, rfc3339, write_report
from pipeline.sources.base import Source, SourceInfo, SourceState
from pipeline.store import DATABASE, LOCK, Store, take_lock
from pipeline.surveil import TrackedFrame, batched, surveil
from pipeline.tracklets import RejectedTracklet
from pipeline.videos import Drawing, write_videos

logger = logging.getLogger(__name__)

# What a run leaves in its folder; --overwrite removes these and nothing else. The lock is no result: it stays, for a
# writer that holds a removed one keeps nobody out.
RESULTS = (
    DATABASE, f"{DATABASE}-wal", f"{DATABASE}-shm", "crops", "events", "mot", "detections", "video",
    "matches.png", "report.json", CONFIG,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class RunOptions:
    """How a run behaves, apart from what the config says.

    Attributes:
        existing: What to do with results that are there already: refuse, overwrite or append.
        max_frames: Stop after so many frames of all cameras; None for all.
        should_stop: Asked before every frame; when it says yes, open tracklets are finished, no more videos are drawn,
            and the run ends well.
        on_progress: Told the stage (tracking, drawing), its frames done so far, and how many are expected in all (None
            when a source does not say); while drawing, from several threads.
    """

    existing: str = "refuse"
    max_frames: int | None = None
    should_stop: Callable[[], bool] = lambda: False
    on_progress: Callable[[str, int, int | None], None] = lambda stage, done, total: None


def run(config: Config, options: RunOptions) -> dict[str, Any]:
    """Process the configured cameras from end to end.

    Everything that can be refused is refused before the first file is written.

    Returns:
        The report, as written to ``report.json``.

    Raises:
        SourceError: When a source cannot be opened.
        UsageError: When weights are unfit, or the folder holds an earlier run and ``existing`` is refuse.
        GalleryMismatchError: When appending to a gallery of another model.
        ResourceError: When the disk is full or another process writes there.
    """
    root, started = config.output.root, time.perf_counter()
    _check_folder(root)
    if options.existing == "refuse":
        _refuse_earlier_run(root)
    sources, infos = build_sources(config)
    extractor = build_extractor(config.reid.weights, config.reid.device, calibration=config.reid.calibration)
    if extractor.calibration is None:
        raise UsageError(
            f"reid.weights: {config.reid.weights} carries no calibration, so its similarities cannot be told as "
            "probabilities; finish its training with python -m reid.train, which fits one"
        )
    detector = build_detector(config.detector, build_windows(config))
    if options.existing == "overwrite":
        _remove_results(root)
    with ExitStack() as stack:
        store = stack.enter_context(
            Store.open(
                root, model_id=extractor.model_id, dimension=extractor.dimension, calibration=extractor.calibration
            )
        )
        _check_same_cameras(config, store)
        write_config(root, config)
        rows_before = store.begin_run()
        line = build_line(config, detector, extractor, store)
        keeper = stack.enter_context(
            EventLog(root, model_id=extractor.model_id, dimension=extractor.dimension, site=config.site.name)
        )
        tally = _Tally(infos, options, started=started)
        with ExitStack() as reading:
            mot = reading.enter_context(MotWriters(root)) if config.output.mot else None
            frames = reading.enter_context(interleave(sources))
            wanted = tally.counted(_until(options.should_stop, islice(frames, options.max_frames)))
            found = surveil(wanted, line, on_tracked=_mot_writer(mot))
            for batch in batched(found, line.tracklets_a_batch):
                store.add_all(batch)
                for item in batch:
                    keeper.write(item)
                    tally.finished(item)
        tally.stop()
        persons = store.counts().persons
        write_report(root / "report.json", tally.report(config, sources, model_id=extractor.model_id, persons=persons))
        if config.output.video:
            tally.without_video = write_videos(config, store, _drawing(tally, options, after_row=rows_before))
        if config.output.contact_sheet:
            write_matches(root / "matches.png", store, store.calibration, timezone=config.site.zone)
        report = tally.report(config, sources, model_id=extractor.model_id, persons=persons)
        write_report(root / "report.json", report)
    return report


def _check_folder(root: Path) -> None:
    there = next(each for each in (root, *root.absolute().parents) if each.exists())
    if not there.is_dir():
        raise UsageError(f"output.root: {root} cannot be a folder, for {there} is a file; give another --output")


def _refuse_earlier_run(root: Path) -> None:
    there = [name for name in RESULTS if (root / name).exists()]
    if there:
        raise UsageError(
            f"{root}: holds an earlier run ({', '.join(there)}); pass --overwrite to replace it, --append to add to "
            "its gallery, or another --output"
        )


def _check_same_cameras(config: Config, store: Store) -> None:
    for camera_id, modality in store.cameras().items():
        configured = config.cameras.get(camera_id)
        if configured is not None and configured.modality is not modality:
            raise UsageError(
                f"cameras.{camera_id}.modality: {configured.modality.value}, but the gallery knows this camera as "
                f"{modality.value}; give the camera another name, or use another --output"
            )


def _remove_results(root: Path) -> None:
    """Remove an earlier run, but not one in progress: its writer holds the lock."""
    if not root.is_dir():
        return
    with take_lock(root / LOCK):
        for name in RESULTS:
            path = root / name
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)


def _until(should_stop: Callable[[], bool], frames: Iterable[Frame]) -> Iterator[Frame]:
    for frame in frames:
        if should_stop():
            return
        yield frame


def _mot_writer(mot: MotWriters | None) -> Callable[[TrackedFrame], None]:
    def write(item: TrackedFrame) -> None:
        if mot is not None:
            mot.write(item.frame.camera_id, item.frame.index, item.tracks, item.detections)

    return write


def _drawing(tally: "_Tally", options: RunOptions, *, after_row: int) -> Drawing:
    return Drawing(
        frames=tally.frames,
        after_row=after_row,
        should_stop=options.should_stop,
        on_progress=partial(options.on_progress, "drawing"),
    )


class _Tally:
    """Counts what a run did, for the report."""

    def __init__(self, infos: dict[str, SourceInfo], options: RunOptions, *, started: float) -> None:
        self.frames: Counter[str] = Counter()
        self.without_video: dict[str, str] = {}
        self._accepted: Counter[str] = Counter()
        self._rejected: Counter[str] = Counter()
        self._infos = infos
        self._options = options
        self._started_at = datetime.now(UTC)
        self._started = started
        self._seconds = 0.0
        self._expected = _expected_frames(infos, options.max_frames)

    def counted(self, frames: Iterable[Frame]) -> Iterator[Frame]:
        """Count frames as they pass, and tell the progress."""
        for done, frame in enumerate(frames, start=1):
            yield frame
            self.frames[frame.camera_id] += 1
            self._options.on_progress("tracking", done, self._expected)

    def finished(self, item: Sighting | RejectedTracklet) -> None:
        """Count a tracklet."""
        if isinstance(item, RejectedTracklet):
            self._rejected[item.reason.value] += 1
        else:
            self._accepted[item.tracklet.camera_id] += 1

    def stop(self) -> None:
        """All tracklets are identified and kept; what follows is pictures."""
        self._seconds = time.perf_counter() - self._started

    def report(self, config: Config, sources: Sequence[Source], *, model_id: str, persons: int) -> dict[str, Any]:
        """Everything counted, as plain values."""
        frames, seconds = sum(self.frames.values()), time.perf_counter() - self._started
        return {
            "schema": "xreid.report/1",
            "started": rfc3339(self._started_at),
            "site": config.site.name,
            "detector": config.detector.backend,
            "model": model_id,
            "frames": frames,
            "seconds": round(seconds, 3),
            "frames_per_second": round(frames / seconds, 2),
            "seconds_until_all_identified": round(self._seconds, 3),
            "peak_rss_mb": peak_rss_mb(),
            "cameras": {source.camera_id: self._camera(source) for source in sources},
            "tracklets": {"accepted": sum(self._accepted.values()), "rejected": dict(self._rejected)},
            "persons": persons,
        }

    def _camera(self, source: Source) -> dict[str, Any]:
        info, account = self._infos[source.camera_id], source.account
        return {
            "modality": source.modality.value,
            "resolution_wh": list(info.resolution_wh),
            "state": "stopped" if account.state is SourceState.RUNNING else account.state.value,
            "frames_expected": info.frames,
            "frames_decoded": account.decoded,
            "frames_processed": self.frames[source.camera_id],
            "frames_skipped": dict(account.skipped),
            "frames_skipped_examples": account.examples,
            "error": account.error,
            "video_error": self.without_video.get(source.camera_id),
            "tracklets": self._accepted[source.camera_id],
        }


def _expected_frames(infos: dict[str, SourceInfo], most: int | None) -> int | None:
    counts = [info.frames for info in infos.values() if info.frames is not None]
    if len(counts) < len(infos):
        return most
    return min(sum(counts), most) if most else sum(counts)


def incomplete_sources(report: dict[str, Any]) -> list[str]:
    """A sentence for each camera of which not every frame could be read, or drawn."""
    lines = []
    for camera_id, camera in report["cameras"].items():
        if camera.get("state") == SourceState.FAILED:
            lines.append(f"{camera['error']} ({camera['frames_processed']} frames were processed and kept)")
        if camera.get("frames_skipped"):
            lines.append(_skipped_frames(camera_id, camera))
        if camera.get("video_error"):
            lines.append(f"camera {camera_id}: no annotated video: {camera['video_error']}; all else was kept")
    return lines


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
