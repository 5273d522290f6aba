"""The spine: frames in, sightings out. No thread, no file; one camera's fault is its own."""

import logging
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, MutableMapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from pipeline.detectors.base import Detector
from pipeline.errors import PipelineError
from pipeline.frame import Frame
from pipeline.identify import Sighting
from pipeline.tracklets import RejectedTracklet, Rejection, Tracklet, TrackletBuilder
from reid.embedding import rounded
from trackers.base import Tracker
from trackers.structures import Detections, Tracks

if TYPE_CHECKING:  # torch takes seconds to import
    from reid.extractor import Extractor

logger = logging.getLogger(__name__)

T = TypeVar("T")
Finished = Tracklet | RejectedTracklet
Found = Sighting | RejectedTracklet

_MOST_WAITING = 64  # tracklets that wait while others are embedded; with more, frames wait too


@dataclass(frozen=True, slots=True, eq=False)
class TrackedFrame:
    """A frame with what was detected and tracked on it."""

    frame: Frame
    detections: Detections
    tracks: Tracks


class Identifies(Protocol):
    """Gives tracklets their person."""

    def identify(self, tracklets: Sequence[Tracklet], embeddings: NDArray[np.float32]) -> list[Sighting]:
        """Link each tracklet, with its unit-length embedding (n, d), to a person."""
        ...


class Observer(Protocol):
    """Told what happens on the line."""

    def tracked(self, item: TrackedFrame) -> None:
        """A frame is tracked, before its tracklets end."""
        ...

    def failed(self, frame: Frame, error: Exception) -> None:
        """A frame could not be processed; its camera begins anew with the next one."""
        ...

    def took(self, stage: str, seconds: float) -> None:
        """A stage (detect, track, embed, identify) took so long, for one batch."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Embedded:
    """What the extractor made of some tracklets.

    Attributes:
        vectors: One row for each tracklet that has one, in order.
        failed: Ids of those that have none.
        seconds: That it took.
    """

    vectors: NDArray[np.float32]
    failed: frozenset[str]
    seconds: float = 0.0


def at_once(job: Callable[[], T]) -> Future[T]:
    """Do a job now; its result, or its error, is there when this returns."""
    future: Future[T] = Future()
    try:
        future.set_result(job())
    except Exception as error:  # noqa: BLE001 (whoever asks for the result gets it)
        future.set_exception(error)
    return future


@dataclass(frozen=True, slots=True)
class Line:
    """The stages, ready to run.

    Attributes:
        detector: Shared by all cameras.
        trackers: One a camera; cameras may be added while the line runs, and leave by ``gone``.
        builders: One a camera, the same ones.
        extractor: Crops to embeddings.
        identifier: Embeddings to people.
        tracklets_a_batch: Tracklets that go through the extractor together.
        live: Cameras whose frames come as they are taken; may change while the line runs. Where there are none, time is
            that of the frames alone, and batches of tracklets are full.
        max_wait_seconds: Where there are, finished tracklets wait no longer than this for others.
        silence_seconds: A live camera without a frame for so long has its open tracklets finished.
        ended: Cameras that have no more frames, or whose tracker is new: what is open of them is finished before the
            next frame is processed, and once more after frames that were taken together; then they are taken out.
        gone: Cameras that have left: they end likewise, and then nothing is remembered of them.
        fresh: Asked just before some frames are processed together; gives those that still are wanted, and answers for
            the others.
        finish: Completes a finished tracklet before anything is made of it.
        spare: Told of tracklets that could not be identified, and why; says whether the line goes on without them.
        aside: Embeds tracklets of a line with live cameras, whose frames do not wait for that; one job at a time is
            given to it. Without live cameras they are embedded where they are found.
        hold: Told, after each batch of frames, whether recordings shall wait, because more tracklets do than go through
            the extractor next.
        clock: Seconds.
    """

    detector: Detector
    trackers: MutableMapping[str, Tracker]
    builders: MutableMapping[str, TrackletBuilder]
    extractor: "Extractor"
    identifier: Identifies
    tracklets_a_batch: int
    live: Collection[str] = frozenset()
    max_wait_seconds: float = 0.5
    silence_seconds: float = 2.0
    ended: set[str] = field(default_factory=set)
    gone: set[str] = field(default_factory=set)
    fresh: Callable[[Sequence[Frame]], Sequence[Frame]] = lambda frames: frames
    finish: Callable[[Finished], Finished] = lambda item: item
    spare: Callable[[Sequence[Tracklet], PipelineError], bool] = lambda tracklets, error: False
    aside: Callable[[Callable[[], Embedded]], Future[Embedded]] = at_once
    hold: Callable[[bool], None] = lambda held: None
    clock: Callable[[], float] = time.monotonic


def surveil(batches: Iterable[Sequence[Frame]], line: Line, observer: Observer) -> Iterator[list[Found]]:
    """Run the whole line over frames of any number of cameras.

    An error on one camera's frame costs that frame, and finishes the open tracklets of that camera, which begins anew
    with its next frame. So does a camera whose ``pts_seconds`` begin anew.

    Args:
        batches: Frames that go through the detector together, in order of time within each camera; an empty batch lets
            the line look at the clock.
        line: The stages.
        observer: Told of every frame that was fresh, once: tracked or failed.

    Yields:
        Each finished tracklet exactly once, in batches: with its person, or with the reason why it has none; but for
        those that ``Line.spare`` was told of.

    Raises:
        PipelineError: What is not one camera's fault; what was finished or open by then is handed on before, as far as
            the stages it needs still work.
    """
    spine = _Spine(line, observer)
    try:
        for batch in batches:
            for finished in spine.track(batch):
                yield from spine.collect(finished)
            yield from spine.look_at_the_clock()
    except Exception:
        yield from spine.end()
        raise
    yield from spine.end()


def tracked(
    frames: Iterable[Frame], detector: Detector, trackers: Mapping[str, Tracker], *, frames_a_batch: int
) -> Iterator[TrackedFrame]:
    """Detect in batches, then track each camera on its own; the first error is raised."""
    for batch in batched(frames, frames_a_batch):
        for frame, detections in zip(batch, detector.detect(batch), strict=True):
            tracks = trackers[frame.camera_id].update(detections, pts_seconds=frame.pts_seconds)
            yield TrackedFrame(frame, detections, tracks)


def gather(items: Iterable[TrackedFrame], builders: Mapping[str, TrackletBuilder]) -> Iterator[Finished]:
    """Build tracklets; when the frames end, finish those still open."""
    for item in items:
        yield from builders[item.frame.camera_id].update(item.frame, item.tracks)
    for builder in builders.values():
        yield from builder.flush()


def batched(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Cut an iterable into lists of ``size``, the last one shorter."""
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch


@dataclass(frozen=True, slots=True, eq=False)
class _InHand:
    """A batch of which the tracklets are being embedded."""

    rejected: Sequence[RejectedTracklet]
    tracklets: Sequence[Tracklet]
    embedded: Future[Embedded]


@dataclass(slots=True)
class _Spine:
    """What the line remembers between batches."""

    line: Line
    observer: Observer
    waiting: list[Finished] = field(default_factory=list)
    waiting_since: float = 0.0
    in_hand: _InHand | None = None  # what waits comes after it, so that all come out in the order in which they ended
    last_pts: dict[str, float] = field(default_factory=dict)
    heard_at: dict[str, float] = field(default_factory=dict)  # live cameras with frames since their last silence

    def track(self, frames: Sequence[Frame]) -> Iterator[Sequence[Finished]]:
        """Detect, track, gather; gives what each frame, and each silence, has finished."""
        gone = sorted(self.line.gone)
        ended = sorted(self.line.ended.union(gone))
        self.line.gone.clear()
        self.line.ended.clear()
        yield from self._flush(ended)
        together: list[Frame] = []
        for frame in frames:
            if frame.pts_seconds <= self.last_pts.get(frame.camera_id, -np.inf):
                yield from self._process(together)
                together = []
                yield self._begin_anew(frame.camera_id)
            self.last_pts[frame.camera_id] = frame.pts_seconds
            together.append(frame)
        yield from self._process(together)
        yield from self._flush(ended)  # of which these frames may have been the last ones
        for camera_id in gone:
            self._forget(camera_id)
        yield from self._silences()

    def collect(self, finished: Iterable[Finished]) -> Iterator[list[Found]]:
        """Let tracklets wait for a full batch, then embed and identify it."""
        for item in finished:
            if not self.waiting:
                self.waiting_since = self.line.clock()
            self.waiting.append(self.line.finish(item))
            if self._full():
                yield from self._go_on()

    def look_at_the_clock(self) -> Iterator[list[Found]]:
        """Identify what is embedded by now, and embed a batch that has waited for others long enough."""
        yield from self._identify_in_hand(wait=False)
        overdue = self.line.live and self.line.clock() - self.waiting_since >= self.line.max_wait_seconds
        if self._full() or (self.waiting and overdue):
            yield from self._go_on()
        self.line.hold(self._full())

    def _full(self) -> bool:
        return len(self.waiting) >= self.line.tracklets_a_batch

    def _go_on(self) -> Iterator[list[Found]]:
        """Embed the next batch, unless one is in hand: for that, only so many wait that memory is bounded."""
        yield from self._identify_in_hand(wait=len(self.waiting) >= max(_MOST_WAITING, self.line.tracklets_a_batch))
        if self.in_hand is None:
            self._take_in_hand()
            yield from self._identify_in_hand(wait=False)

    def _take_in_hand(self) -> None:
        size = self.line.tracklets_a_batch
        batch, self.waiting = self.waiting[:size], self.waiting[size:]
        rejected = [item for item in batch if isinstance(item, RejectedTracklet)]
        tracklets = [item for item in batch if isinstance(item, Tracklet)]
        embed = self.line.aside if self.line.live and tracklets else at_once
        self.in_hand = _InHand(rejected, tracklets, embed(partial(_embed, self.line.extractor, tracklets)))

    def _identify_in_hand(self, *, wait: bool) -> Iterator[list[Found]]:
        """Identify the batch in hand once it is embedded."""
        if self.in_hand is not None and (wait or self.in_hand.embedded.done()):
            batch, self.in_hand = self.in_hand, None
            yield [*batch.rejected, *self._identify(batch.tracklets, batch.embedded.result())]

    def _flush(self, cameras: Iterable[str]) -> Iterator[Sequence[Finished]]:
        for camera_id in cameras:
            yield list(self.line.builders[camera_id].flush())

    def _forget(self, camera_id: str) -> None:
        del self.line.trackers[camera_id], self.line.builders[camera_id]
        self.line.detector.forget(camera_id)
        self.last_pts.pop(camera_id, None)
        self.heard_at.pop(camera_id, None)

    def end(self) -> Iterator[list[Found]]:
        """Finish what is open, and identify whatever waits."""
        for builder in self.line.builders.values():
            yield from self.collect(builder.flush())
        while self.in_hand is not None or self.waiting:
            yield from self._identify_in_hand(wait=True)
            if self.waiting:
                self._take_in_hand()

    def _process(self, frames: Sequence[Frame]) -> Iterator[Sequence[Finished]]:
        groups = [frames] if self.line.detector.together else [[frame] for frame in frames]
        for group in groups:
            # All of them are tracked before the first of their tracklets is embedded: none grows old by that.
            finished: list[list[Finished]] = []
            try:
                for frame, detections in self._detect(self.line.fresh(group)):
                    finished.append(self._track(frame, detections))  # kept, when a later one ends the run
            finally:
                yield from finished

    def _detect(self, frames: Sequence[Frame]) -> Iterator[tuple[Frame, Detections | Exception]]:
        """Together; when that fails one by one, so that the error stays with its frame."""
        if not frames:
            return
        try:
            with self._timed("detect"):
                found = self.line.detector.detect(frames)
        except PipelineError:
            raise
        except Exception as error:  # noqa: BLE001 (whatever it is, it is this frame's)
            if len(frames) == 1:
                yield frames[0], error
            else:
                for frame in frames:
                    yield from self._detect([frame])
        else:
            yield from zip(frames, found, strict=True)

    def _track(self, frame: Frame, detections: Detections | Exception) -> list[Finished]:
        finished: list[Finished] = []
        try:
            if isinstance(detections, Exception):
                raise detections
            with self._timed("track"):
                tracks = self.line.trackers[frame.camera_id].update(detections, pts_seconds=frame.pts_seconds)
                for item in self.line.builders[frame.camera_id].update(frame, tracks):
                    finished.append(item)  # noqa: PERF402 (what came before an error is kept)
        except PipelineError:
            raise
        except Exception as error:  # noqa: BLE001 (as above)
            finished += self._begin_anew(frame.camera_id)
            self.observer.failed(frame, error)
            return finished
        self.observer.tracked(TrackedFrame(frame, detections, tracks))
        if frame.camera_id in self.line.live:
            self.heard_at[frame.camera_id] = self.line.clock()
        return finished

    def _begin_anew(self, camera_id: str) -> list[Finished]:
        """Finish what is open of a camera, and forget what was learned of its view."""
        finished = list(self.line.builders[camera_id].flush())
        self.line.trackers[camera_id].reset()
        self.line.detector.forget(camera_id)
        return finished

    def _silences(self) -> Iterator[Sequence[Finished]]:
        now = self.line.clock()
        for camera_id, heard_at in list(self.heard_at.items()):
            if now - heard_at > self.line.silence_seconds:
                del self.heard_at[camera_id]
                yield list(self.line.builders[camera_id].flush())

    def _identify(self, tracklets: Sequence[Tracklet], found: Embedded) -> list[Found]:
        if not tracklets:
            return []
        self.observer.took("embed", found.seconds)
        embedded = [tracklet for tracklet in tracklets if tracklet.tracklet_id not in found.failed]
        try:
            with self._timed("identify"):
                sightings = self.line.identifier.identify(embedded, found.vectors) if embedded else []
        except PipelineError as error:
            if not self.line.spare(embedded, error):
                raise
            sightings = []
        rejected = [
            RejectedTracklet(tracklet, Rejection.NOT_EMBEDDED)
            for tracklet in tracklets
            if tracklet.tracklet_id in found.failed
        ]
        return [*rejected, *sightings]

    @contextmanager
    def _timed(self, stage: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self.observer.took(stage, time.perf_counter() - started)


def _embed(extractor: "Extractor", tracklets: Sequence[Tracklet]) -> Embedded:
    started = time.perf_counter()
    vectors, failed = _vectors(extractor, tracklets)
    return Embedded(vectors, failed, time.perf_counter() - started)


def _vectors(extractor: "Extractor", tracklets: Sequence[Tracklet]) -> tuple[NDArray[np.float32], frozenset[str]]:
    """Together; when that fails one by one. Vectors, and the ids of those that have none."""
    empty = np.zeros((0, extractor.dimension), np.float32)
    if not tracklets:
        return empty, frozenset()
    try:
        clips = [[crop.image for crop in tracklet.crops] for tracklet in tracklets]
        return rounded(extractor.extract(clips, [tracklet.modality for tracklet in tracklets])), frozenset()
    except PipelineError:
        raise
    except Exception as error:
        if len(tracklets) == 1:
            logger.exception("tracklet %s cannot be embedded", tracklets[0].tracklet_id, exc_info=error)
            return empty, frozenset([tracklets[0].tracklet_id])
    parts = [_vectors(extractor, [tracklet]) for tracklet in tracklets]
    return np.concatenate([vectors for vectors, _ in parts]), frozenset().union(*(failed for _, failed in parts))
