"""Frames are handed over by the rules: recordings wait, live streams do not, and every frame is accounted for."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest

from pipeline import prefetch
from pipeline.errors import ErrorCode
from pipeline.frame import Frame
from pipeline.prefetch import (
    OVERFLOW,
    REMOVED,
    SHUTDOWN,
    STALE,
    TARGET_FPS,
    Intake,
    Ledger,
    Policy,
    Worker,
    side_by_side,
)
from pipeline.sources.base import Source, SourceAccount, SourceInfo, SourceState
from reid.modality import Modality
from tests.pipeline.footage import frame_of
from tests.pipeline.live import LiveCamera, grey

pytestmark = pytest.mark.alone


@dataclass
class Recording:
    """A source that gives ``count`` frames, then ends or breaks."""

    camera_id: str
    count: int
    fps: float = 10.0
    breaks: bool = False
    seconds_a_frame: float = 0.0
    modality: Modality = Modality.RGB
    account: SourceAccount = field(default_factory=SourceAccount)
    live: bool = False
    info: SourceInfo | None = None
    closed: bool = False

    def probe(self) -> SourceInfo:
        raise NotImplementedError

    def close(self) -> None:
        self.closed = True

    def __iter__(self) -> Iterator[Frame]:
        for index in range(self.count):
            if self.closed:
                return
            time.sleep(self.seconds_a_frame)
            self.account.give()
            yield frame_of(np.zeros((32, 32, 3), np.uint8), index, camera_id=self.camera_id, fps=self.fps)
        if self.breaks:
            raise OSError("the cable is cut")
        self.account.state = SourceState.ENDED


def decoders() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("decode-")]


def read(sources: Sequence[Source], *, most: int = 4) -> list[Frame]:
    """All frames of recordings, each answered for."""
    seen = []
    with Intake(depth=2) as intake:
        for source in sources:
            intake.add(source)
        for batch in intake.batches(most=most, max_wait_seconds=0.01):
            for frame in batch:
                intake.done(frame)
            seen += batch
        assert all(ledger.on_the_way == 0 for ledger in intake.ledgers().values())
        assert all(not ledger.dropped for ledger in intake.ledgers().values())
    return seen


def watch(intake: Intake, seconds: float, *, work: float = 0.0, most: int = 4, wait: float = 0.01) -> list[float]:
    """Process live frames for a while, each in ``work`` seconds; returns their ages once processed."""
    ages = []
    until = time.monotonic() + seconds
    for batch in intake.batches(most=most, max_wait_seconds=wait):
        time.sleep(work * len(batch))
        ages += [intake.done(frame) for frame in batch]
        if time.monotonic() > until:
            break
    return ages


def check_exact(ledgers: dict[str, Ledger]) -> None:
    for camera_id, ledger in ledgers.items():
        assert ledger.decoded == ledger.processed + ledger.dropped.total(), camera_id


def test_recordings_are_merged_in_order_of_time_and_nothing_is_lost() -> None:
    seen = read([Recording("a", 30, fps=10), Recording("b", 15, fps=5), Recording("c", 3, fps=1)])
    assert [frame.pts_seconds for frame in seen] == sorted(frame.pts_seconds for frame in seen)
    assert sorted((frame.camera_id, frame.index) for frame in seen) == sorted(
        [("a", n) for n in range(30)] + [("b", n) for n in range(15)] + [("c", n) for n in range(3)]
    )
    assert not decoders()


def test_a_recording_however_slowly_processed_loses_nothing_and_waits_for_full_batches() -> None:
    sizes, source = [], Recording("a", 20, seconds_a_frame=0.005)
    with Intake(depth=2) as intake:
        intake.add(source, Policy(max_staleness_seconds=0.001, target_fps=1.0))  # which say nothing of recordings
        for batch in intake.batches(most=8, max_wait_seconds=0.001):
            time.sleep(0.02)
            sizes.append(len(batch))
            for frame in batch:
                intake.done(frame)
        assert intake.ledgers()["a"] == Ledger(20, 20, Counter(), Counter(), 0)
    assert sizes == [8, 8, 4]


def test_a_source_that_breaks_ends_alone() -> None:
    broken, whole = Recording("broken", 3, breaks=True), Recording("whole", 40)
    seen = [frame.camera_id for frame in read([broken, whole])]
    assert (seen.count("broken"), seen.count("whole")) == (3, 40)
    assert broken.account.state is SourceState.FAILED
    assert broken.account.error == "the cable is cut"
    assert whole.account.state is SourceState.ENDED


def test_a_consumer_that_raises_while_everything_is_full_leaves_no_thread_and_an_exact_account() -> None:
    started = time.monotonic()
    intake = Intake(depth=3)

    def consume() -> None:
        with intake:
            for number in range(4):
                intake.add(Recording(f"c{number}", 10_000))
            next(intake.batches(most=4, max_wait_seconds=0.01))
            time.sleep(0.1)  # now every channel is full and every thread waits
            raise RuntimeError("the consumer is tired")

    with pytest.raises(RuntimeError, match="tired"):
        consume()
    assert not decoders()
    assert time.monotonic() - started < 2
    check_exact(intake.ledgers())
    assert {cause for ledger in intake.ledgers().values() for cause in ledger.dropped} == {SHUTDOWN}


class Hung(Recording):
    """A recording whose disk stops answering after some frames, for so many seconds; closing it changes nothing."""

    hangs_at: int = 3
    lets_go: threading.Event

    def __iter__(self) -> Iterator[Frame]:
        for frame in super().__iter__():
            if frame.index == self.hangs_at:
                self.lets_go.wait(20)
            yield frame


def hung(camera_id: str, count: int = 40) -> Hung:
    source = Hung(camera_id, count)
    source.lets_go = threading.Event()
    return source


def test_a_source_that_does_not_let_go_is_waited_for_once_however_often_the_intake_is_closed(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(prefetch, "_JOIN_SECONDS", 0.4)
    sources = [hung("yard"), hung("hall")]
    with Intake() as intake:
        for source in sources:
            intake.add(source)
        while set(intake.queued().values()) != {3}:  # then both hang
            time.sleep(0.01)
        started = time.monotonic()
        intake.close()
        intake.close()
    assert 0.35 < time.monotonic() - started < 0.7
    assert sorted(caplog.messages) == [
        f"camera {each}: its source does not let go; left behind" for each in ("hall", "yard")
    ]
    for source in sources:
        source.lets_go.set()
    while decoders():
        time.sleep(0.01)
    check_exact(intake.ledgers())


def test_a_recording_whose_read_hangs_within_a_batch_lets_its_consumer_look_whether_to_stop(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(prefetch, "_JOIN_SECONDS", 0.2)
    source = hung("yard")
    threading.Timer(5.0, source.lets_go.set).start()
    started = time.monotonic()
    with Intake() as intake:
        intake.add(source)
        batch = next(intake.batches(most=8, max_wait_seconds=0.01))
        assert [frame.index for frame in batch] == [0, 1, 2]
    assert time.monotonic() - started < 3
    source.lets_go.set()
    while decoders():
        time.sleep(0.01)


def consume(intake: Intake, *, until: Callable[[list[Frame]], bool]) -> tuple[list[Frame], float]:
    """Frames of recordings until one wants no more, and the longest time without any."""
    seen: list[Frame] = []
    last, longest = time.monotonic(), 0.0
    for batch in intake.batches(most=1, max_wait_seconds=0.01):
        for frame in batch:
            intake.done(frame)
            longest, last = max(longest, time.monotonic() - last), time.monotonic()
        seen += batch
        if until(seen):
            break
    return seen, longest


def indices(frames: Sequence[Frame], camera_id: str) -> list[int]:
    return [frame.index for frame in frames if frame.camera_id == camera_id]


def test_the_others_go_on_without_a_recording_whose_disk_hangs_and_with_it_once_it_is_back() -> None:
    source, policy = hung("nfs"), Policy(stall_seconds=0.3)
    with Intake(depth=2) as intake:
        intake.add(Recording("good", 40), policy)
        intake.add(source, policy)
        first, longest = consume(intake, until=lambda seen: len(indices(seen, "good")) == 25)
        assert 0.25 < longest < 2
        assert indices(first, "nfs") == [0, 1, 2]  # and in order of time until then
        assert [frame.pts_seconds for frame in first] == sorted(frame.pts_seconds for frame in first)
        stalled = intake.sources()["nfs"].account.snapshot()
        assert (stalled.state, stalled.error_code) == (SourceState.STALLED, ErrorCode.RECORDING_STALLED)
        source.lets_go.set()
        while stalled.state is SourceState.STALLED:
            stalled = source.account.snapshot()
        assert stalled.state is SourceState.RUNNING
        rest, _ = consume(intake, until=lambda seen: False)
        assert source.account.state is SourceState.ENDED
    assert indices(first + rest, "good") == indices(first + rest, "nfs") == list(range(40))
    caught_up = [frame for frame in rest if frame.index >= 27]
    assert [frame.pts_seconds for frame in caught_up] == sorted(frame.pts_seconds for frame in caught_up)
    assert not any(ledger.dropped for ledger in intake.ledgers().values())


def test_nobody_waits_for_a_recording_that_trickles_behind_the_others_and_its_partner_does() -> None:
    slow = Recording("nfs", 40, seconds_a_frame=0.4)
    with Intake(depth=2) as intake:
        intake.add(Recording("good", 200), Policy(stall_seconds=0.2))
        for source in (slow, Recording("partner", 40)):
            intake.add(source, Policy(stall_seconds=0.2, together="gate"))
        seen, longest = consume(intake, until=lambda seen: len(indices(seen, "good")) == 200)
        last = {each: max(indices(seen, each), default=-1) for each in ("nfs", "partner")}
        assert longest < 0.35  # once; then never again
        assert last["partner"] <= last["nfs"] + 1
        more, _ = consume(intake, until=lambda seen: len(indices(seen, "nfs")) == 3)
        assert max(indices(more, "partner")) <= max(indices(more, "nfs")) + 1
    check_exact(intake.ledgers())


def test_memory_is_bounded_by_the_depth() -> None:
    source = Recording("a", 10_000)
    with Intake(depth=5) as intake:
        intake.add(source)
        next(intake.batches(most=1, max_wait_seconds=0.01))
        time.sleep(0.1)
        assert source.account.decoded <= 5 + 2  # in the channel, in the hand of the thread, with the consumer
    assert source.account.decoded <= 5 + 3


def test_no_sources_give_no_frames_and_a_depth_of_zero_is_refused() -> None:
    assert read([]) == []
    with pytest.raises(ValueError, match="depth must be at least 1"):
        Intake(depth=0)


def test_a_live_stream_does_not_wait_for_the_slowest_camera() -> None:
    with Intake() as intake:
        intake.add(LiveCamera("quick", fps=100))
        intake.add(LiveCamera("slow", fps=2))
        intake.add(LiveCamera("dead", count=0))
        ages = watch(intake, 0.6)
        assert max(ages) < 0.15
        ledgers = intake.ledgers()
        assert ledgers["quick"].processed > 40
        assert ledgers["slow"].processed == 2


@pytest.mark.parametrize("limit", [0.2, 0.5])
def test_under_five_times_overload_no_processed_frame_is_too_old_and_every_frame_is_accounted_for(limit: float) -> None:
    """Four cameras of 25 frames a second before a detector that takes 50 ms a frame: five times what it can do."""
    with Intake() as intake:
        for number in range(4):
            intake.add(LiveCamera(f"c{number}", fps=25), Policy(max_staleness_seconds=limit))
        ages = watch(intake, 2.0, work=0.05, most=8)
    ledgers = intake.ledgers()
    check_exact(ledgers)
    assert max(ages) < limit
    assert all(ledger.processed >= 5 for ledger in ledgers.values())  # none starves
    assert all(ledger.dropped[STALE] + ledger.dropped[OVERFLOW] > 20 for ledger in ledgers.values())


def test_where_one_frame_takes_longer_than_it_may_be_old_some_are_processed_all_the_same() -> None:
    with Intake() as intake:
        intake.add(LiveCamera("a", fps=50), Policy(max_staleness_seconds=0.1))
        assert len(watch(intake, 1.0, work=0.2)) >= 3


def test_a_frame_that_grew_too_old_after_it_was_given_out_is_dropped_before_it_is_processed() -> None:
    now = [0.0]
    with Intake(clock=lambda: now[0]) as intake:
        intake.add(LiveCamera("live", fps=100), Policy(max_staleness_seconds=5.0))
        intake.add(Recording("film", 10_000))
        batch: list[Frame] = []
        batches = intake.batches(most=1, max_wait_seconds=0.0)
        while len({frame.camera_id for frame in batch}) < 2:
            batch += next(batches)
        aged = sum(frame.camera_id == "live" for frame in batch)
        assert intake.fresh(batch) == batch
        now[0] += 6.0
        assert {frame.camera_id for frame in intake.fresh(batch)} == {"film"}
        assert intake.ledgers()["live"].dropped[STALE] == aged
    check_exact(intake.ledgers())


def test_memory_of_a_live_stream_is_bounded_and_the_newest_frames_stay() -> None:
    with Intake(live_bytes=5 * grey(0).nbytes) as intake:
        intake.add(LiveCamera("a", fps=200), Policy(max_staleness_seconds=60))
        time.sleep(0.3)
        assert intake.queued() == {"a": 5}
        first = next(iter(intake.batches(most=1, max_wait_seconds=0.01)))[0]
        assert first.index > 20
        assert intake.ledgers()["a"].dropped[OVERFLOW] == first.index
    check_exact(intake.ledgers())


def test_a_target_rate_thins_a_stream_evenly() -> None:
    with Intake() as intake:
        intake.add(LiveCamera("a", fps=100, count=60), Policy(target_fps=40))
        indices = []
        for batch in intake.batches(most=4, max_wait_seconds=0.01):
            indices += [frame.index for frame in batch]
            for frame in batch:
                intake.done(frame)
            if not batch:
                break
        ledger = intake.ledgers()["a"]
    assert (ledger.processed, ledger.dropped) == (24, Counter({TARGET_FPS: 36}))
    assert set(np.diff(indices).tolist()) == {2, 3}


def test_recordings_and_live_streams_share_the_line_and_neither_starves() -> None:
    with Intake() as intake:
        intake.add(LiveCamera("live", fps=100), Policy(max_staleness_seconds=0.3))
        intake.add(Recording("film", 10_000))
        watch(intake, 1.0, work=0.01)
        ledgers = intake.ledgers()
    assert ledgers["film"].processed > 20
    assert ledgers["live"].processed > 20
    assert not ledgers["film"].dropped
    check_exact(intake.ledgers())


def test_recordings_that_are_held_wait_beside_a_live_camera_that_does_not_and_lose_nothing() -> None:
    seen: list[Frame] = []

    def take(intake: Intake, seconds: float) -> None:
        until = time.monotonic() + seconds
        for batch in intake.batches(most=4, max_wait_seconds=0.01):
            seen.extend(batch)
            for frame in batch:
                intake.done(frame)
            if time.monotonic() > until:
                return

    with Intake(depth=2) as intake:
        intake.add(LiveCamera("yard", fps=50))
        intake.add(Recording("gate", 20))
        intake.hold_recordings(True)
        take(intake, 0.3)
        assert not indices(seen, "gate")
        assert len(indices(seen, "yard")) >= 10
        assert not intake.exhausted()
        intake.hold_recordings(False)
        take(intake, 1.0)
        assert intake.exhausted() == {"gate"}
    assert indices(seen, "gate") == list(range(20))


def test_a_recording_is_exhausted_once_its_last_frame_is_answered_for() -> None:
    with Intake(depth=2) as intake:
        intake.add(Recording("gate", 5))
        intake.add(LiveCamera("yard", fps=50))
        seen = 0
        for batch in intake.batches(most=4, max_wait_seconds=0.01):
            seen += sum(frame.camera_id == "gate" for frame in batch)
            if any(frame.camera_id == "gate" for frame in batch):
                assert not intake.exhausted()  # these are still on their way
            for frame in batch:
                intake.done(frame)
            if intake.exhausted():
                break
        assert seen == 5
        assert intake.exhausted() == {"gate"}


def test_a_batch_waits_for_frames_of_other_cameras_but_no_longer_than_it_may() -> None:
    with Intake() as intake:
        for number in range(3):
            intake.add(LiveCamera(f"c{number}", fps=10))
        watch(intake, 0.15)  # how long a frame takes is known now
        batches = intake.batches(most=8, max_wait_seconds=0.05)
        sizes, waits = [], []
        for _ in range(6):
            started = time.monotonic()
            batch = next(batches)
            sizes.append(len(batch))
            waits.append(time.monotonic() - started)
            ages = [intake.done(frame) for frame in batch]
            assert max(ages, default=0) < 0.1
    assert max(sizes) == 3  # all cameras' frames go together, and do not wait for 8
    assert max(waits) < 0.3


def test_cameras_come_and_go_while_others_lose_no_frame() -> None:
    steady = LiveCamera("steady", fps=50)
    with Intake() as intake:
        intake.add(steady)
        for number in range(5):
            intake.add(LiveCamera("guest", fps=50))
            watch(intake, 0.1)
            intake.remove("guest")
            assert set(intake.sources()) == {"steady"}, number
        watch(intake, 0.1)
    ledgers = intake.ledgers()
    check_exact(ledgers)
    assert ledgers["guest"].decoded >= 20
    assert ledgers["guest"].dropped.total() <= 5
    assert set(ledgers["guest"].dropped) <= {REMOVED}
    assert ledgers["steady"].dropped.total() <= 1  # what was in hand at the end
    assert not decoders()


def test_a_camera_that_cannot_be_processed_is_closed_and_the_others_go_on() -> None:
    with Intake() as intake:
        bad, good = LiveCamera("bad"), LiveCamera("good")
        intake.add(bad)
        intake.add(good)
        watch(intake, 0.1)
        intake.fail("bad", "its frames are of no use")
        before = intake.ledgers()["good"].processed
        watch(intake, 0.2)
        assert bad.account.state is SourceState.FAILED
        assert bad.account.error == "its frames are of no use"
        assert intake.ledgers()["good"].processed > before + 5
    check_exact(intake.ledgers())


def test_a_camera_cannot_be_read_twice() -> None:
    with Intake() as intake:
        intake.add(LiveCamera("a"))
        with pytest.raises(ValueError, match="camera a is being read already"):
            intake.add(LiveCamera("a"))


def test_an_idle_intake_lets_its_consumer_look_at_the_clock() -> None:
    with Intake() as intake:
        intake.add(LiveCamera("dead", count=0))
        started = time.monotonic()
        assert next(intake.batches(most=4, max_wait_seconds=0.01)) == []
        assert time.monotonic() - started < 1


def test_jobs_run_at_once_and_answer_in_order() -> None:
    assert side_by_side([lambda: 1, lambda: 2, lambda: 3]) == [1, 2, 3]
    assert side_by_side([]) == []

    def fail() -> int:
        raise OSError("no space")

    with pytest.raises(OSError, match="no space"):
        side_by_side([lambda: 1, fail])


def test_a_worker_does_one_job_after_another_in_order_and_leaving_it_ends_its_thread() -> None:
    order: list[int] = []

    def job(number: int) -> int:
        time.sleep(0.02)
        order.append(number)
        return number

    with Worker("embed") as worker:
        answers = [worker(lambda number=number: job(number)) for number in range(5)]
        failing = worker(lambda: 1 // 0)
        assert [answer.result() for answer in answers] == list(range(5))
        with pytest.raises(ZeroDivisionError):
            failing.result()
        last = worker(lambda: job(5))
    assert last.done()
    assert order == list(range(6))
    assert "embed" not in [thread.name for thread in threading.enumerate()]


def test_a_job_that_does_not_end_keeps_nobody_from_leaving_its_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prefetch, "_JOIN_SECONDS", 0.2)
    lets_go, started = threading.Event(), time.monotonic()
    with Worker("embed") as worker:
        worker(lambda: lets_go.wait(20))
    assert 0.15 < time.monotonic() - started < 2
    lets_go.set()
