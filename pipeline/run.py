"""One run: cameras in, a folder of results out. Order and clean-up; the work is done by the stages."""

import logging
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Self

import numpy as np

from pipeline.allocator import avoid_huge_pages, give_back_freed_memory, share_arenas
from pipeline.build import (
    build_builders,
    build_detector,
    build_extractor,
    build_line,
    build_retention,
    build_reviser,
    build_sources,
    build_trackers,
    build_window,
    build_windows,
    check_weights_and_device,
    pair_settings,
    policy_of,
)
from pipeline.cases import Cases, held_in_copy
from pipeline.changes import Changes, changes
from pipeline.config import Config
from pipeline.contact_sheet import write_matches
from pipeline.erasure import SET_ASIDE
from pipeline.errors import ErrorCode, PipelineError, ResourceError, StoppedError, UsageError
from pipeline.event_files import EXAMPLES
from pipeline.frame import Frame
from pipeline.identify import Sighting
from pipeline.losses import Losses, is_full
from pipeline.monitoring import CameraStatus, LatestFrames, Metrics, check_free, served
from pipeline.pairs import Pairs
from pipeline.prefetch import SHUTDOWN, Intake, Worker, aside
from pipeline.query import CONFIG, write_config
from pipeline.recovery import open_store
from pipeline.reserve import RESERVE
from pipeline.retention import Retention
from pipeline.revision import Reviser
from pipeline.sinks import EventLog, MotWriters, write_report
from pipeline.sources.base import Source
from pipeline.store import DATABASE, IDENTITY, LOCK, Store, take_lock
from pipeline.surveil import Line, TrackedFrame, surveil
from pipeline.tally import HELD_UP, UNPROCESSED, GreyWatch, Tally, account_of
from pipeline.thermal import ThermalWindow, Windows
from pipeline.tracklets import TrackletBuilder
from pipeline.videos import Drawing, write_videos
from pipeline.witnesses import AUDIT_COPY, CASES_COPY, DECISIONS_COPY, check_copies
from reid.calibration import Calibration
from reid.modality import Modality
from trackers.base import Tracker

logger = logging.getLogger(__name__)

# What a run and what is done with its gallery leave in its folder; --overwrite removes these, finished or not, and
# nothing else. The lock is no result: it stays, for a writer that holds a removed one keeps nobody out. Nor are
# evidence that somebody exported and the accounts of the server.
RESULTS = (
    DATABASE, f"{DATABASE}-wal", f"{DATABASE}-shm", f"{DATABASE}-journal", f"{DATABASE}.rebuilding*",
    "crops", "events", "mot", "detections", "video", "matches.png", "report.json", EXAMPLES, CONFIG, IDENTITY,
    CASES_COPY, DECISIONS_COPY, AUDIT_COPY, "audit-of-*.jsonl", RESERVE, SET_ASIDE,
)  # fmt: skip
_REPORT_SECONDS = 60.0  # between two reports of a run that goes on
_LAST_LOOK_SECONDS = 2.0  # after a signal: what took longer leaves the last look back to the next run
_TRIM_SECONDS = 10.0  # between two returns of freed memory
_FAULTS_IN_A_ROW = 3  # and a recording is given up; a live camera is held up
_HELD_UP_SECONDS = 1.0  # until one of its frames is tried, at first; twice as long after each try that fails
_HELD_UP_CAP_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class RunOptions:
    """How a run behaves, apart from what the config says.

    Attributes:
        existing: What to do with results that are there already: refuse, overwrite or append.
        max_frames: Stop after so many frames of all cameras; None for all.
        should_stop: Asked before every batch of frames; when it says yes, open tracklets are finished, no more pictures
            are drawn, and the run ends well.
        on_open: Told just before anything is written; an exception that a signal raises before that changes nothing.
        new_config: Asked as often; gives the config to go on with when there is a new one, None otherwise. Any
            error of it is told, and the run goes on with what it has.
        beside: Entered once the gallery is open, and left before it closes: a server in this process; it is given what
            it tells of.
        on_progress: Told the stage (tracking, drawing), its frames done so far, and how many are expected in all (None
            when a source does not say); while drawing, from several threads.
    """

    existing: str = "refuse"
    max_frames: int | None = None
    should_stop: Callable[[], bool] = lambda: False
    on_open: Callable[[], None] = lambda: None
    new_config: Callable[[], Config | None] = lambda: None
    beside: "Callable[[Beside], AbstractContextManager[None]]" = lambda told: nullcontext()
    on_progress: Callable[[str, int, int | None], None] = lambda stage, done, total: None


@dataclass(frozen=True, slots=True)
class Beside:
    """What a run tells a server in its process; all may be called from any thread.

    Attributes:
        root: The gallery's folder.
        cameras: Every camera as it is now.
        health: Whether the line moves, and what there is to say.
        started: UTC.
        latest: The last frame of every camera.
    """

    root: Path
    cameras: Callable[[], Sequence[CameraStatus]]
    health: Callable[[], tuple[bool, dict[str, Any]]]
    started: datetime
    latest: LatestFrames


def run(config: Config, options: RunOptions) -> dict[str, Any]:
    """Process the configured cameras from end to end: recordings until they end, live streams until told to stop.

    Everything that can be refused is refused before the first file is written.

    Returns:
        The report, as written to ``report.json``.

    Raises:
        SourceError: When a recording cannot be opened.
        UsageError: When weights are unfit, or the folder holds an earlier run and ``existing`` is refuse.
        GalleryMismatchError: When appending to a gallery of another model.
        ResourceError: When the disk is full, another process writes there, or the monitoring port is taken.
        StoppedError: When it was told to stop before anything was written.
    """
    root, started = config.output.root, time.perf_counter()
    share_arenas()
    avoid_huge_pages()
    _check_folder(root)
    if options.existing == "refuse":
        _refuse_earlier_run(root)
    check_weights_and_device(config)  # before recordings are read
    sources = build_sources(config)
    _go_on(options)
    extractor = build_extractor(config.reid.weights, config.reid.device, calibration=config.reid.calibration)
    if extractor.calibration is None:
        raise UsageError(
            f"reid.weights: {config.reid.weights} carries no calibration, so its similarities cannot be told as "
            "probabilities; finish its training with python -m reid.train, which fits one"
        )
    _check_calibrated(config, extractor.calibration)
    windows = build_windows(config)
    detector = build_detector(config.detector, windows)
    if config.monitoring.port is not None:
        check_free(config.monitoring.host, config.monitoring.port)
    options.on_open()
    _go_on(options)
    if options.existing == "overwrite":
        _remove_results(root)
    with ExitStack() as stack:
        keeper = stack.enter_context(
            EventLog(root, model_id=extractor.model_id, dimension=extractor.dimension, site=config.site.name)
        )
        store = stack.enter_context(
            open_store(
                root,
                model_id=extractor.model_id,
                dimension=extractor.dimension,
                calibration=extractor.calibration,
                on_rebuilt=keeper.tell_rebuilt,
            )
        )
        retention = build_retention(config, store, keeper.tell_shortage)
        retention.make_room()
        _check_same_cameras(config, store)
        _check_calibrated(config, store.calibration, store.cameras().values())
        embedder = stack.enter_context(Worker("embed"))
        intake = stack.enter_context(Intake())
        tally = Tally(intake, started=started)
        metrics = Metrics(tally.statuses, root)
        if config.monitoring.port is not None:
            stack.enter_context(served(metrics, config.monitoring.host, config.monitoring.port))
        latest = LatestFrames(windows)
        write_config(root, config)
        stack.enter_context(options.beside(Beside(root, tally.statuses, metrics.health, datetime.now(UTC), latest)))
        rows_before = store.begin_run()
        live = {source.camera_id for source in sources if source.live}
        if live:  # the first call takes its time, which the frames of a stream do not have
            embedder(lambda: extractor.extract([[np.zeros((128, 64, 3), np.uint8)]], [Modality.RGB])).result()
        line = build_line(config, detector, extractor, store, live=live, retention=retention)
        losses = Losses()
        with ExitStack() as reading:
            mot = reading.enter_context(MotWriters(root, losses)) if config.output.mot else None
            pairs = Pairs(pair_settings(config), root, losses, aside=aside, live=live)
            line = replace(
                line,
                fresh=intake.fresh,
                aside=embedder,
                hold=intake.hold_recordings,
                finish=lambda item: pairs.finish(item).with_images(windows.white_hot),
            )
            going = _Run(
                config, options, store, retention, keeper, intake, tally, metrics, line, windows, latest, mot, live,
                build_reviser(line, store), pairs, losses,
            )  # fmt: skip
            with _told(going):
                going.process(sources)
        tally.stop()
        going.tell_accounts()
        going.write_report()
        if options.should_stop() and live:
            return going.write_report("stopped")  # it was running until now: pictures of all that time are not wanted
        config = going.config
        with _told(going):
            if config.output.video:
                tally.without_video = write_videos(
                    config, store, _drawing(tally, options, metrics, after_row=rows_before)
                )
            if config.output.contact_sheet:
                write_matches(root / "matches.png", store, store.calibration, timezone=config.site.zone)
        return going.write_report("stopped" if options.should_stop() else "done")


def _go_on(options: RunOptions) -> None:
    """Only where nobody has said otherwise meanwhile: models take seconds to load."""
    if options.should_stop():
        raise StoppedError("told to stop before it began; nothing was changed")


@contextmanager
def _told(going: "_Run") -> Iterator[None]:
    """What ends the run within is also said by a last report, if that can be written."""
    try:
        yield
    except BaseException:
        with suppress(Exception):
            going.write_report("error")
        raise


def _check_folder(root: Path) -> None:
    """Results can be written there; tried, for what a disk allows is not all in a folder's rights."""
    there = next(each for each in (root, *root.absolute().parents) if os.path.lexists(each))
    if there.exists() and not there.is_dir():
        raise UsageError(f"output.root: {root} cannot be a folder, for {there} is a file; give another --output")
    try:
        with TemporaryDirectory(dir=there, prefix=".xreid-"):
            pass
    except OSError as error:
        if is_full(error):
            return  # what is too old there may still go
        why = f"{there} cannot be written to: {error.strerror or error}"
        raise ResourceError(f"output.root: {root} cannot hold results: {why}; give another --output") from error


def _results(root: Path) -> list[Path]:
    return [path for name in RESULTS for each in (name, f"{name}.part") for path in sorted(root.glob(each))]


def _refuse_earlier_run(root: Path) -> None:
    there = [path.name for path in _results(root)]
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


def _check_calibrated(config: Config, calibration: Calibration, stored: Iterable[Modality] = ()) -> None:
    """Every tracklet may be compared with every other, of this run or of those before."""
    missing = calibration.missing({*stored, *(camera.modality for camera in config.cameras.values())})
    if missing:
        known = ", ".join(f"{a.value}-{b.value}" for a, b in calibration) or "none"
        raise UsageError(
            f"reid.weights: {config.reid.weights} cannot tell how likely two tracklets show one person for"
            f" {', '.join(missing)}, which the cameras of this config, or of its gallery, need; it has curves for"
            f" {known}. Use weights that were trained with such cameras, name a file with these curves as"
            " reid.calibration, or leave those cameras out"
        )


def _refuse_held(root: Path) -> None:
    """What a case holds is not overwritten; where the database is damaged, or lost some, its copy tells."""
    held: Mapping[Any, str]
    try:
        with Store.read(root) as store, store.reading() as db:
            check_copies(root, db)
            held = Cases(store).held()
    except UsageError:
        held = held_in_copy(root)
    if held:
        raise UsageError(
            f"{root}: case {min(held.values())} holds {len(held)} tracklets of this gallery; close it first, or use"
            " --append or another --output"
        )


def _remove_results(root: Path) -> None:
    """Remove an earlier run, but not one in progress: its writer holds the lock."""
    if not root.is_dir():
        return
    with take_lock(root / LOCK):
        _refuse_held(root)
        for path in _results(root):
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)


def _drawing(tally: Tally, options: RunOptions, metrics: Metrics, *, after_row: int) -> Drawing:
    def on_progress(done: int, total: int) -> None:
        metrics.beat()
        options.on_progress("drawing", done, total)

    return Drawing(
        frames=tally.recorded_frames(),
        after_row=after_row,
        should_stop=options.should_stop,
        on_progress=on_progress,
    )


@dataclass(frozen=True, slots=True)
class _Prepared:
    """All that a new config needs, before anything of the old one ends."""

    config: Config
    what: Changes
    sources: Sequence[Source]
    trackers: Mapping[str, Tracker]
    builders: Mapping[str, TrackletBuilder]
    windows: Mapping[str, ThermalWindow]

    @classmethod
    def of(cls, old: Config, new: Config, what: Changes) -> Self:
        """Build it; recordings are looked at, which a slow disk makes last.

        Raises:
            PipelineError: When something is unfit.
        """
        floors = [each for each in what.changed if new.cameras[each].ground != old.cameras[each].ground]
        thermal = [each for each in what.opened if new.cameras[each].modality is Modality.THERMAL]
        return cls(
            config=new,
            what=what,
            sources=build_sources(new, what.opened),
            trackers=build_trackers(new, [*what.added, *floors]),
            builders=build_builders(new, what.added),
            windows={each: build_window(new.cameras[each].thermal) for each in thermal},
        )


@dataclass(slots=True)
class _Faults:
    """Of one camera, since a frame of it was processed.

    Attributes:
        in_a_row: Frames that could not be processed.
        tries: Of a live camera that is held up, 0 until it is.
        until: Its frames are dropped until then, on the clock of ``time.monotonic``.
        since: When that began.
    """

    in_a_row: int = 0
    tries: int = 0
    until: float = float("-inf")
    since: float = 0.0

    def hold_up(self, now: float) -> bool:
        """Wait, longer each time; False while it waits already, as for other frames of the same batch."""
        if now < self.until:
            return False
        self.since = self.since if self.tries else now
        self.until = now + min(_HELD_UP_SECONDS * 2.0 ** min(self.tries, 30), _HELD_UP_CAP_SECONDS)
        self.tries += 1
        return True


@dataclass(slots=True)
class _Run:
    """A run in progress; it watches the line, keeps what comes out, and changes the cameras when told to."""

    config: Config
    options: RunOptions
    store: Store
    retention: Retention
    events: EventLog
    intake: Intake
    tally: Tally
    metrics: Metrics
    line: Line
    windows: Windows
    latest: LatestFrames
    mot: MotWriters | None
    live: set[str]  # the line's own
    reviser: Reviser
    pairs: Pairs
    losses: Losses
    preparing: Future[_Prepared] | None = None  # a new config, until all that it needs is built
    finished: frozenset[str] = frozenset()  # recordings whose open tracklets are finished
    faults: dict[str, _Faults] = field(default_factory=dict)  # by camera
    grey: GreyWatch = field(default_factory=GreyWatch)
    processed: int = 0
    expected: int | None = None
    stopped_at: float | None = None  # by a signal
    reported_at: float = field(default_factory=time.monotonic)
    trimmed_at: float = field(default_factory=time.monotonic)

    def process(self, sources: Sequence[Source]) -> None:
        """Run the line until the frames end, or somebody wants it to."""
        for source in sources:
            self._read(source)
        self.expected = self.tally.expected_frames(self.options.max_frames)
        self._count_gallery()
        self.write_report()  # from now on it is this run's
        for found in surveil(self._batches(), self.line, self):
            self.metrics.beat()
            for item in self.retention.keep(found):
                with self.losses.counting("events"):
                    self.retention.with_room(partial(self.events.write, item))
                self.tally.finished(item, self.metrics)
            self.pairs.write(self.store.has)
            self._look_back()
            self.metrics.gallery_tracklets.inc(sum(isinstance(item, Sighting) for item in found))
        if self.stopped_at is None or time.monotonic() - self.stopped_at < _LAST_LOOK_SECONDS:
            self._look_back(finally_=True)
        else:
            logger.info("ending took long: the last look back is left to the next run")
        self._count_gallery()
        self.intake.close()
        self.pairs.flush()

    def _look_back(self, *, finally_: bool = False) -> None:
        with self.losses.counting("revisions"):
            self.reviser.look_back(finally_=finally_)

    def tracked(self, item: TrackedFrame) -> None:
        """Write, count, and give the frame back."""
        frame = item.frame
        self.latest.leave(frame)
        self.grey.look(frame)
        self._well_again(frame.camera_id)
        if frame.camera_id not in self.live and self.mot is not None:
            self.mot.write(frame.camera_id, frame.index, item.tracks, item.detections)
        age = self.intake.done(frame)
        if frame.camera_id in self.live:
            self.tally.aged(frame.camera_id, age)
            self.metrics.frame_age_seconds.labels(frame.camera_id, frame.modality.value).observe(age)
        self.pairs.see(frame, self.line.builders[frame.camera_id].views_of(frame.index))
        self.processed += 1
        self.options.on_progress("tracking", self.processed, self.expected)

    def failed(self, frame: Frame, error: Exception) -> None:
        """Count the frame; when that was not the first time, a live camera is held up, a recording given up."""
        camera_id = frame.camera_id
        self.intake.drop(frame, UNPROCESSED)
        faults = self.faults.setdefault(camera_id, _Faults())
        faults.in_a_row += 1
        level = logging.ERROR if faults.in_a_row <= _FAULTS_IN_A_ROW else logging.DEBUG
        logger.log(level, "camera %s: frame %d cannot be processed", camera_id, frame.index, exc_info=error)
        source = self.intake.sources().get(camera_id)
        if faults.in_a_row < _FAULTS_IN_A_ROW or source is None:
            return
        why = f"{_FAULTS_IN_A_ROW} frames in a row that could not be processed: {type(error).__name__}: {error}"
        if source.live:
            self._hold_up(source, faults, why)
        elif faults.in_a_row == _FAULTS_IN_A_ROW:
            self.intake.fail(camera_id, f"camera {camera_id}: given up after {why}")

    def _hold_up(self, source: Source, faults: _Faults, why: str) -> None:
        """What fails, most likely the detector that all cameras share, may work again, and this camera with it."""
        if not faults.hold_up(time.monotonic()):
            return
        said = f"camera {source.camera_id}: held up after {why}"
        source.account.trouble(said, ErrorCode.SOURCE_FAULT)
        if faults.tries == 1:
            self.tally.held_up.add(source.camera_id)
            logger.error(
                "%s; its frames are dropped, but for a try after %g s, later every %g s, until one succeeds",
                said, _HELD_UP_SECONDS, _HELD_UP_CAP_SECONDS,
            )  # fmt: skip

    def _well_again(self, camera_id: str) -> None:
        """A frame was processed."""
        faults = self._forget_faults(camera_id)
        if faults is not None and faults.tries:
            seconds = time.monotonic() - faults.since
            logger.info("camera %s: its frames are processed again, after %.1f s", camera_id, seconds)

    def _forget_faults(self, camera_id: str) -> _Faults | None:
        self.tally.held_up.discard(camera_id)
        return self.faults.pop(camera_id, None)

    def took(self, stage: str, seconds: float) -> None:
        """Count the time of a stage."""
        self.metrics.stage_seconds.labels(stage).observe(seconds)

    def tell_accounts(self) -> None:
        """Log where all frames went."""
        for camera_id, ledger in self.intake.ledgers().items():
            logger.log(logging.ERROR if ledger.on_the_way else logging.INFO, account_of(camera_id, ledger))

    def write_report(self, ended: str = "running") -> dict[str, Any]:
        """Write ``report.json`` as of now; it is running, done, stopped, or ended by an error."""
        persons = self.store.counts().persons
        self.tally.pairs = self.pairs.report()
        report = self.tally.report(self.config, model_id=self.store.model_id, persons=persons)
        report["tracklets"]["lost"] = dict(self.retention.lost)
        report["ended"] = ended
        report["lost"] = dict(self.losses.counts)
        with self.losses.counting("reports"):
            self.retention.with_room(partial(write_report, self.config.output.root / "report.json", report))
        return report

    def _read(self, source: Source) -> None:
        if source.live:
            self.live.add(source.camera_id)
        self.tally.watch(source)
        self.intake.add(source, policy_of(self.config.cameras[source.camera_id]))

    def _batches(self) -> Iterator[list[Frame]]:
        """The batches of the intake, and what is to be done between them."""
        left = self.options.max_frames
        detector = self.config.detector
        most = detector.batch if self.line.detector.together else 1  # each frame's age is looked at just before
        for batch in self.intake.batches(most=most, max_wait_seconds=detector.max_wait_ms / 1000):
            self.metrics.beat()
            stopped = self.options.should_stop()
            if stopped or left == 0:
                self.stopped_at = time.monotonic() if stopped else None
                self.intake.close()  # the open tracklets need the processor now
                return
            ready = self._new_config()
            if ready is not None:
                self._close(ready.what)
            self._finish_recordings()
            self._keep_house()
            batch = self._without_held_up(batch)
            wanted = batch[:left]
            for frame in batch[len(wanted) :]:
                self.intake.drop(frame, SHUTDOWN)
            left = None if left is None else left - len(wanted)
            yield wanted
            if ready is not None:
                self._take_over(ready)

    def _without_held_up(self, batch: Sequence[Frame]) -> list[Frame]:
        """Those of cameras that are not held up; one of each that is due for a try."""
        now, tried, kept = time.monotonic(), set[str](), []
        for frame in batch:
            faults = self.faults.get(frame.camera_id)
            if faults is None or not faults.tries:
                kept.append(frame)
            elif faults.until <= now and frame.camera_id not in tried:
                tried.add(frame.camera_id)
                kept.append(frame)
            else:
                self.intake.drop(frame, HELD_UP)
        return kept

    def _keep_house(self) -> None:
        """What is due now and then, also where nobody comes."""
        self.retention.tick()
        if time.monotonic() - self.trimmed_at > _TRIM_SECONDS:
            self.trimmed_at = time.monotonic()
            give_back_freed_memory()
            self._count_gallery()
        if time.monotonic() - self.reported_at > _REPORT_SECONDS:
            self.reported_at = time.monotonic()
            if self.live:
                self.write_report()

    def _finish_recordings(self) -> None:
        """Beside live cameras, what a recording leaves open does not wait for the end of the run."""
        if self.live:
            exhausted = self.intake.exhausted()
            self.line.ended.update(exhausted - self.finished)
            self.finished = exhausted

    def _new_config(self) -> _Prepared | None:
        """One to take over now: all that it needs is built, in a thread of its own, which an earlier call began."""
        try:
            if self.preparing is None:
                new = self.options.new_config()
                if new is None:
                    return None
                what = changes(self.config, new)
                _check_same_cameras(new, self.store)
                _check_calibrated(new, self.store.calibration, self.store.cameras().values())
                self.preparing = aside(partial(_Prepared.of, self.config, new, what))
            if not self.preparing.done():
                return None
            preparing, self.preparing = self.preparing, None
            return preparing.result()
        except Exception as error:
            foreseen = isinstance(error, (PipelineError, OSError))
            logger.error(
                "the new config is refused, and the old one stays:\n%s", error, exc_info=None if foreseen else error
            )
            self.metrics.reloads.labels("refused").inc()
            return None

    def _close(self, what: Changes) -> None:
        """Read no more; what is open is finished with the batch in hand, under the config that it was seen under."""
        for camera_id in what.closed:
            if camera_id in self.intake.sources():
                self.intake.remove(camera_id)
        self.line.ended.update(what.changed)
        self.line.gone.update(what.removed)

    def _take_over(self, ready: _Prepared) -> None:
        """Go on with a new config, once the line has finished what was closed for it."""
        for camera_id in ready.what.closed:
            self.live.discard(camera_id)
            self.latest.forget(camera_id)
            self._forget_faults(camera_id)
        for camera_id in ready.what.removed:
            self.windows.forget(camera_id)
        self._open(ready)
        with self.losses.counting("config"):
            self.retention.with_room(partial(write_config, ready.config.output.root, ready.config))
        logger.warning("new config: %s", ready.what)
        self.metrics.reloads.labels("taken").inc()

    def _open(self, ready: _Prepared) -> None:
        """Take over what was built before anything was closed."""
        self.config = ready.config
        self.line.trackers.update(ready.trackers)
        for camera_id, builder in ready.builders.items():
            self.line.builders.setdefault(camera_id, builder)  # a known one finishes what is open, and goes on
        for camera_id, window in ready.windows.items():
            self.windows.replace(camera_id, window)
        for source in ready.sources:
            self.line.builders[source.camera_id].zones = ready.config.cameras[source.camera_id].zones
            self._read(source)
        self.pairs.change(pair_settings(ready.config))
        self.metrics.tell_pairs(self.pairs.report())

    def _count_gallery(self) -> None:
        counts = self.store.counts()
        self.metrics.gallery_tracklets.set(counts.accepted)
        self.metrics.gallery_persons.set(counts.persons)
        self.metrics.tell_pairs(self.pairs.report())
