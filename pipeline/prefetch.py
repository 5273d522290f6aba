"""Hand-over: frames of all cameras, decoded ahead in one thread a source; it looks like an iterator of batches.

Recordings wait to be read: none of their frames is dropped, and they are merged in order of ``pts_seconds``, but for
one whose disk gives nothing for too long, until it has caught up. Live streams do not wait for one another: what has
come goes, each camera in its turn, and a frame that would be too old once it is processed is dropped. Each frame that a
source gave out is processed, dropped for a cause, or on the way; after `Intake.close` none is on the way. A source that
breaks ends alone, and leaving the ``with`` ends all threads, also when the consumer raised. What would make frames wait
is done beside: one job after another in a thread of its own (`Worker`), or each in its own (`aside`).
"""

import logging
import os
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from queue import SimpleQueue
from threading import Condition, Thread
from types import TracebackType
from typing import Any, Self, TypeVar

from pipeline.errors import ErrorCode
from pipeline.frame import Frame
from pipeline.sources.base import Source, SourceState

logger = logging.getLogger(__name__)

T = TypeVar("T")

STALE = "stale"  # would be older than the camera's max_staleness_ms once processed
OVERFLOW = "overflow"  # more came than are kept
TARGET_FPS = "target_fps"
REMOVED = "removed"  # its camera left the config
SHUTDOWN = "shutdown"

_TICK_SECONDS = 0.25  # an idle intake gives an empty batch so often
_FULL_SECONDS = 1.0  # that recordings have for the next frame of a batch: a read that hangs keeps nobody from stopping
_RECENT_BATCHES = 16  # whose slowest says how long a frame takes
_RESERVE = 0.2  # of the staleness, for what takes longer than anything did before
_BATCH_SHARE = 0.25  # of the staleness that one batch may take
_LIVE_FRAMES = 256  # kept of a stream at most, however small they are
_JOIN_SECONDS = 2.0  # that all sources together have to let go, once; each promises to need one
_MOST_LAG_SECONDS = 60.0  # between arrival and decoding; more is a step of this machine's clock


@dataclass(frozen=True, slots=True)
class Policy:
    """How the frames of one camera are handed over.

    Attributes:
        max_staleness_seconds: The age, since its arrival, that no processed frame of a live stream shall exceed.
        target_fps: Frames a second of a live stream that are wanted; None for all.
        together: Recordings with the same name here are merged by their capture times, and not each from its start;
            None for one that goes alone.
        stall_seconds: That other recordings wait for the next frame of a recording; then they go on without it, but
            those that go together with it.
    """

    max_staleness_seconds: float = 1.0
    target_fps: float | None = None
    together: str | None = None
    stall_seconds: float = 10.0

    def most_age(self, takes: float) -> float:
        """How old a frame may be, seconds, when what is begun with it now takes so long."""
        limit = self.max_staleness_seconds
        return max((1 - _RESERVE) * limit - takes, limit / 2)  # better late than never, where it takes long


@dataclass(frozen=True, slots=True)
class Ledger:
    """What became of the frames of one camera, over all its sources since the start.

    Attributes:
        decoded: Frames that were given out; ``processed`` + all of ``dropped`` + those on the way.
        processed: Frames that went through the line.
        dropped: Frames that did not, by cause.
        skipped: Frames that a source could not give out, by cause.
        reconnects: How often a source came back.
    """

    decoded: int
    processed: int
    dropped: Counter[str]
    skipped: Counter[str]
    reconnects: int

    @property
    def on_the_way(self) -> int:
        """Frames that are neither processed nor dropped yet; 0 after the end."""
        return self.decoded - self.processed - self.dropped.total()

    def __add__(self, other: "Ledger") -> "Ledger":
        return Ledger(
            decoded=self.decoded + other.decoded,
            processed=self.processed + other.processed,
            dropped=self.dropped + other.dropped,
            skipped=self.skipped + other.skipped,
            reconnects=self.reconnects + other.reconnects,
        )


@dataclass(slots=True, eq=False)
class _Channel:
    """One source on its way in; guarded by the intake's condition."""

    source: Source
    policy: Policy
    frames: deque[tuple[float, Frame]] = field(default_factory=deque)  # each with its arrival, seconds
    processed: int = 0
    turn: int = 0  # when it was served last, in turns of the intake
    offset: float | None = None  # of a recording: seconds from the first start of those that go together
    missed_at: float | None = None  # of a recording: since when its next frame is waited for; None while there is one
    behind: bool = False  # a recording that stalled, until it has caught up: the others hardly wait for it
    ended: bool = False
    closed_for: str | None = None  # the cause for which whatever still comes is dropped
    interrupted: bool = False  # closed before its source had ended
    left_behind: bool = False  # its source did not let go in time; nobody waits for it any more
    thread: Thread | None = None

    @property
    def live(self) -> bool:
        return self.source.live

    @property
    def next_seconds(self) -> float:
        """When its next frame was taken, on the time by which recordings are merged."""
        return self.frames[0][1].pts_seconds + (self.offset or 0.0)

    @property
    def missing(self) -> bool:
        """Whether it has more, but not now."""
        return not self.frames and not self.ended

    def drop_oldest(self, cause: str) -> None:
        self.frames.popleft()
        self.source.account.drop(cause)

    def ledger(self) -> Ledger:
        account = self.source.account.snapshot()
        return Ledger(account.decoded, self.processed, account.dropped, account.skipped, account.reconnects)


class Intake:
    """Frames of any number of cameras, which may come and go; used by one consumer, in a ``with``.

    Whoever takes a frame says `done` or `drop` before asking for the next batch; what nobody answered for is dropped
    when the intake closes.
    """

    def __init__(
        self, *, depth: int = 8, live_bytes: int = 100_000_000, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Nothing is read yet.

        Args:
            depth: Frames decoded ahead of the consumer for each recording; at least 1.
            live_bytes: Of frames kept of each live stream, though one is always kept; bounds memory.
            clock: Seconds.
        """
        if depth < 1:
            raise ValueError(f"depth must be at least 1, got {depth}")
        self._depth, self._live_bytes, self._clock = depth, live_bytes, clock
        self._channels: dict[str, _Channel] = {}
        self._leaving: list[_Channel] = []
        self._past: dict[str, Ledger] = {}
        self._out: dict[int, tuple[_Channel, float, Frame]] = {}  # by id(frame): given out, not answered for
        self._turn = 0
        self._begins: dict[str, datetime] = {}  # of recordings that go together
        self._reached = 0.0  # by recordings: the latest next_seconds of what was given out
        self._held = False
        self._costs: deque[float] = deque(maxlen=_RECENT_BATCHES)
        self._answered_at = 0.0
        self._done = 0  # of this batch
        self._ends_at: float | None = None  # once it closes: when nobody waits for a source any more
        self._changed = Condition()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def add(self, source: Source, policy: Policy | None = None) -> None:
        """Begin to read a source.

        Raises:
            ValueError: When its camera is being read already.
        """
        if source.camera_id in self._channels:
            raise ValueError(f"camera {source.camera_id} is being read already")
        channel = _Channel(source, policy or Policy())
        channel.thread = Thread(target=self._decode, args=(channel,), name=f"decode-{source.camera_id}", daemon=True)
        with self._changed:
            self._channels[source.camera_id] = channel
        channel.thread.start()

    def remove(self, camera_id: str, *, cause: str = REMOVED) -> None:
        """Stop reading a camera; what of it was not taken is dropped. The others do not wait for it."""
        with self._changed:
            channel = self._channels.pop(camera_id)
            self._shut(channel, cause)
            self._leaving.append(channel)
        channel.source.close()

    def fail(self, camera_id: str, error: str) -> None:
        """Stop reading a camera that cannot be processed; its account says why. It stays in the ledgers."""
        with self._changed:
            channel = self._channels[camera_id]
            channel.source.account.fail(error)
            self._shut(channel, "failed")
            channel.ended = True
        channel.source.close()

    def close(self) -> None:
        """End all threads; whatever is on the way is dropped. A second call waits for nobody once more."""
        with self._changed:
            channels = [*self._channels.values(), *self._leaving]
            for channel in channels:
                self._shut(channel, SHUTDOWN)
            for channel, _, _ in self._out.values():
                channel.source.account.drop(SHUTDOWN)
            self._out.clear()
        for channel in channels:
            channel.source.close()
        if self._ends_at is None:
            self._ends_at = time.monotonic() + _JOIN_SECONDS
        for channel in channels:
            if channel.thread is not None and not channel.left_behind:
                channel.thread.join(max(0.0, self._ends_at - time.monotonic()))
                channel.left_behind = channel.thread.is_alive()
                if channel.left_behind:
                    logger.error("camera %s: its source does not let go; left behind", channel.source.camera_id)

    def batches(self, *, most: int, max_wait_seconds: float) -> Iterator[list[Frame]]:
        """Give out frames until all sources have ended; an empty list where nothing came for a while.

        Args:
            most: Frames of a batch at most; of live streams fewer, where so many would take too long.
            max_wait_seconds: A batch with a frame in it waits no longer for more while there is a live stream; without
                one, it waits until it is full, unless nothing at all comes for a second.
        """
        while True:
            batch = self._next_batch(most, max_wait_seconds)
            if batch is None:
                return
            started = self._answered_at = self._clock()
            self._done = 0
            yield batch
            if self._done:  # what the consumer does after its last answer makes frames wait, but no processed one older
                self._costs.append((self._answered_at - started) / self._done)

    def fresh(self, frames: Sequence[Frame]) -> list[Frame]:
        """Those of some frames that were given out which are young enough to be processed now, together.

        A batch waits for what is done between its frames, such as embedding: what has become too old by that is
        dropped, here, at the last moment.
        """
        takes, now, kept = len(frames) * max(self._costs, default=0.0), self._clock(), []
        for frame in frames:
            channel, arrived, _ = self._out[id(frame)]
            if channel.live and now - arrived > channel.policy.most_age(takes):
                self.drop(frame, STALE)
            else:
                kept.append(frame)
        return kept

    def done(self, frame: Frame) -> float:
        """Say that a frame went through the line; returns its age since it arrived, seconds."""
        with self._changed:
            channel, arrived, _ = self._out.pop(id(frame))
            channel.processed += 1
        self._done += 1
        self._answered_at = self._clock()
        return self._answered_at - arrived

    def drop(self, frame: Frame, cause: str) -> None:
        """Say that a frame that was given out will not be processed."""
        with self._changed:
            channel, _, _ = self._out.pop(id(frame))
        channel.source.account.drop(cause)

    def hold_recordings(self, held: bool) -> None:
        """Give out no frames of recordings until told otherwise: they can wait, and live streams cannot."""
        self._held = held

    def sources(self) -> dict[str, Source]:
        """What is being read, by camera."""
        with self._changed:
            return {camera_id: channel.source for camera_id, channel in self._channels.items()}

    def exhausted(self) -> frozenset[str]:
        """Recordings all of whose frames were given out and answered for."""
        with self._changed:
            out = {id(channel) for channel, _, _ in self._out.values()}
            return frozenset(
                camera_id
                for camera_id, channel in self._channels.items()
                if channel.ended and not channel.live and not channel.frames and id(channel) not in out
            )

    def interrupted(self) -> frozenset[str]:
        """Cameras whose source was closed before its end."""
        with self._changed:
            return frozenset(camera_id for camera_id, channel in self._channels.items() if channel.interrupted)

    def queued(self) -> dict[str, int]:
        """Frames that wait, by camera."""
        with self._changed:
            return {camera_id: len(channel.frames) for camera_id, channel in self._channels.items()}

    def ledgers(self) -> dict[str, Ledger]:
        """The account of every camera that was ever read."""
        with self._changed:
            self._settle()
            sums = dict(self._past)
            for channel in (*self._channels.values(), *self._leaving):
                ledger, camera_id = channel.ledger(), channel.source.camera_id
                sums[camera_id] = sums[camera_id] + ledger if camera_id in sums else ledger
        return sums

    def _settle(self) -> None:
        """Fold the accounts of sources that have gone, so that memory does not grow with their number."""
        gone = [each for each in self._leaving if each.thread is None or not each.thread.is_alive()]
        out = {id(channel) for channel, _, _ in self._out.values()}
        for channel in gone:
            if id(channel) not in out:
                camera_id, ledger = channel.source.camera_id, channel.ledger()
                self._past[camera_id] = self._past[camera_id] + ledger if camera_id in self._past else ledger
                self._leaving.remove(channel)

    def _shut(self, channel: _Channel, cause: str) -> None:
        channel.closed_for = channel.closed_for or cause
        channel.interrupted = channel.interrupted or not channel.ended
        while channel.frames:
            channel.drop_oldest(cause)
        self._changed.notify_all()

    def _decode(self, channel: _Channel) -> None:
        """The thread of one source."""
        source, slot = channel.source, -1
        try:
            for frame in source:
                if source.live and channel.policy.target_fps is not None:
                    # One frame for each period of the wanted rate: even, and exact on average.
                    slot, before = int(frame.pts_seconds * channel.policy.target_fps + 1e-6), slot
                    if slot == before:
                        source.account.drop(TARGET_FPS)
                        continue
                if not self._put(channel, frame):
                    break
        except Exception as error:  # noqa: BLE001 (whatever breaks one camera must not end the others)
            source.account.fail(str(error) or type(error).__name__)
        finally:
            account = source.account
            if account.state is SourceState.FAILED:
                logger.info("camera %s failed after %d frames", source.camera_id, account.decoded)
            with self._changed:
                channel.ended = True
                self._changed.notify_all()

    def _put(self, channel: _Channel, frame: Frame) -> bool:
        """Hand a frame over; a recording waits for room. False when nobody will take it any more."""
        arrived = self._clock()
        if channel.live:  # decoding took some of its time already
            arrived -= min(max((datetime.now(UTC) - frame.arrived_at).total_seconds(), 0.0), _MOST_LAG_SECONDS)
        with self._changed:
            if channel.live:
                most = min(_LIVE_FRAMES, max(1, self._live_bytes // frame.image.nbytes))
                while len(channel.frames) >= most:
                    channel.drop_oldest(OVERFLOW)
            else:
                self._changed.wait_for(lambda: channel.closed_for or len(channel.frames) < self._depth)
            if channel.closed_for:
                channel.source.account.drop(channel.closed_for)
                return False
            channel.frames.append((arrived, frame))
            channel.missed_at = None
            if not channel.live and channel.source.account.state is SourceState.STALLED:
                channel.source.account.enter(SourceState.RUNNING)
                logger.warning("camera %s: it can be read again", channel.source.camera_id)
            self._changed.notify_all()
            return True

    def _next_batch(self, most: int, max_wait_seconds: float) -> list[Frame] | None:
        begun = self._clock()
        first = last = None
        batch: list[Frame] = []
        with self._changed:
            while True:
                channels = list(self._channels.values())
                live = any(channel.live and not channel.ended for channel in channels)
                size = self._batch_size(most) if live else most
                while len(batch) < size and (frame := self._take(size, max_wait_seconds)) is not None:
                    last = self._clock()
                    first = last if first is None else first
                    batch.append(frame)
                if len(batch) >= size:
                    return batch
                if all(channel.ended and not channel.frames for channel in channels):
                    return batch or None
                if first is None or last is None:
                    until = begun + _TICK_SECONDS
                else:
                    until = first + max_wait_seconds if live else last + _FULL_SECONDS
                left = until - self._clock()
                if left <= 0:
                    return batch
                self._changed.wait(min(left, _TICK_SECONDS))

    def _batch_size(self, most: int) -> int:
        """So many frames that one batch takes no large share of the staleness that any live camera allows."""
        cost = max(self._costs, default=None)
        if cost is None:
            return 1  # how long one takes is not known yet
        least = min(each.policy.max_staleness_seconds for each in self._channels.values() if each.live)
        return max(1, min(most, int(_BATCH_SHARE * least / max(cost, 1e-9))))

    def _take(self, size: int, max_wait_seconds: float) -> Frame | None:
        """The frame whose turn it is; None when there is none yet.

        Recordings together are one more camera beside the live ones, and each camera has its turn: under overload the
        longest unserved goes first, so that none starves.
        """
        chosen = min(
            [*self._ready_live(size, max_wait_seconds), *self._ready_recorded()],
            key=lambda channel: (channel.turn, channel.frames[0][0]),
            default=None,
        )
        if chosen is None:
            return None
        self._turn += 1
        for channel in [chosen] if chosen.live else self._channels.values():
            if channel.live == chosen.live:
                channel.turn = self._turn
        if not chosen.live:
            chosen.behind &= chosen.next_seconds < self._reached
            self._reached = max(self._reached, chosen.next_seconds)
        arrived, frame = chosen.frames.popleft()
        self._out[id(frame)] = (chosen, arrived, frame)
        self._changed.notify_all()
        return frame

    def _ready_live(self, size: int, max_wait_seconds: float) -> list[_Channel]:
        """Live cameras with a frame that will not be too old once a batch of ``size`` is processed."""
        now, takes = self._clock(), size * max(self._costs, default=0.0) + max_wait_seconds
        waiting = []
        for channel in self._channels.values():
            if channel.live:
                oldest = now - channel.policy.most_age(takes)
                while channel.frames and channel.frames[0][0] < oldest:
                    channel.drop_oldest(STALE)
                if channel.frames:
                    waiting.append(channel)
        return waiting

    def _ready_recorded(self) -> list[_Channel]:
        """The recording whose next frame is the earliest; none unless the next frame of each is known, or while held.

        Only those that go together with it wait for one that stalled; the others hardly do, until it has caught up.
        """
        if self._held:
            return []
        recorded = [channel for channel in self._channels.values() if not channel.live]
        missing = [channel for channel in recorded if channel.missing]
        waited = [self._go_on_without(channel) for channel in missing]  # for all of them at once
        if not all(waited):
            return []
        apart = {channel.policy.together for channel in missing} - {None}
        waiting = [each for each in recorded if each.frames and each.policy.together not in apart]
        self._align([channel for channel in waiting if channel.offset is None])
        first = min(waiting, key=lambda channel: channel.next_seconds, default=None)
        return [] if first is None else [first]

    def _go_on_without(self, channel: _Channel) -> bool:
        """Whether the next frame of a recording was waited for long enough; one that is behind has little time."""
        now, limit = self._clock(), channel.policy.stall_seconds
        channel.missed_at = now if channel.missed_at is None else channel.missed_at
        waited, account = now - channel.missed_at, channel.source.account
        if waited >= limit:
            channel.behind = True
        if waited >= limit and account.enter(SourceState.STALLED):
            message = f"camera {channel.source.camera_id}: nothing could be read for {limit:g} s"
            account.trouble(message, ErrorCode.RECORDING_STALLED)
            logger.warning("%s [%s]; other recordings go on without it", message, ErrorCode.RECORDING_STALLED)
        return channel.behind and waited >= min(limit, _TICK_SECONDS)

    def _align(self, new: Sequence[_Channel]) -> None:
        for channel in new:
            channel.offset = 0.0
            if (name := channel.policy.together) is not None:
                firsts = [each.frames[0][1].captured_at for each in new if each.policy.together == name]
                begin = self._begins.setdefault(name, min(firsts))
                channel.offset = (channel.frames[0][1].captured_at - begin).total_seconds()


def side_by_side(jobs: Sequence[Callable[[], T]]) -> list[T]:
    """Run jobs that mostly wait for codecs (which let go of the interpreter) at once, at most one a core.

    Returns:
        Their results, in the order of ``jobs``. The first error is raised once all have ended.
    """
    with ThreadPoolExecutor(max_workers=os.cpu_count() or 1, thread_name_prefix="job") as pool:
        return [future.result() for future in [pool.submit(job) for job in jobs]]


def aside(job: Callable[[], T]) -> Future[T]:
    """Run a job that may wait for a disk or a network in a thread of its own; nobody waits for it at the end."""
    future: Future[T] = Future()
    Thread(target=_answer, args=(job, future), name="aside", daemon=True).start()
    return future


class Worker:
    """One thread that does one job after another, in a ``with``; its end waits for the job in hand, though not long."""

    def __init__(self, name: str) -> None:
        self._jobs: SimpleQueue[tuple[Callable[[], Any], Future[Any]] | None] = SimpleQueue()
        self._thread = Thread(target=self._work, name=name, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._jobs.put(None)
        self._thread.join(_JOIN_SECONDS)

    def __call__(self, job: Callable[[], T]) -> Future[T]:
        """Do a job as soon as those before it are done."""
        future: Future[T] = Future()
        self._jobs.put((job, future))
        return future

    def _work(self) -> None:
        while (work := self._jobs.get()) is not None:
            _answer(*work)
            del work  # what it holds need not wait for the next one


def _answer(job: Callable[[], T], future: Future[T]) -> None:
    try:
        future.set_result(job())
    except BaseException as error:  # noqa: BLE001 (whoever asks for the result gets it)
        future.set_exception(error)
