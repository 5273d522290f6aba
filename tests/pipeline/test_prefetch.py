import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import pytest

from pipeline.frame import Frame
from pipeline.prefetch import interleave, side_by_side
from pipeline.sources.base import SourceAccount, SourceInfo, SourceState
from reid.modality import Modality
from tests.pipeline.footage import frame_of


@dataclass
class Fake:
    """A source that gives ``count`` frames, then ends or breaks."""

    camera_id: str
    count: int
    fps: float = 10.0
    breaks: bool = False
    modality: Modality = Modality.RGB
    account: SourceAccount = field(default_factory=SourceAccount)
    given: int = 0

    def probe(self) -> SourceInfo:
        raise NotImplementedError

    def __iter__(self) -> Iterator[Frame]:
        for index in range(self.count):
            self.given += 1
            yield frame_of(np.zeros((32, 32, 3), np.uint8), index, camera_id=self.camera_id, fps=self.fps)
        if self.breaks:
            raise OSError("the cable is cut")
        self.account.state = SourceState.ENDED


def decoders() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("decode-")]


def test_cameras_are_merged_in_order_of_time_and_nothing_is_lost() -> None:
    with interleave([Fake("a", 30, fps=10), Fake("b", 15, fps=5), Fake("c", 3, fps=1)], depth=2) as frames:
        seen = [(frame.camera_id, frame.index, frame.pts_seconds) for frame in frames]
    assert [time for *_, time in seen] == sorted(time for *_, time in seen)
    assert sorted(seen) == sorted(
        [("a", n, n / 10) for n in range(30)]
        + [("b", n, n / 5) for n in range(15)]
        + [("c", n, n / 1) for n in range(3)]
    )
    assert not decoders()


def test_a_source_that_breaks_ends_alone() -> None:
    broken, whole = Fake("broken", 3, breaks=True), Fake("whole", 40)
    with interleave([broken, whole]) as frames:
        seen = [frame.camera_id for frame in frames]
    assert (seen.count("broken"), seen.count("whole")) == (3, 40)
    assert broken.account.state is SourceState.FAILED
    assert broken.account.error == "the cable is cut"
    assert whole.account.state is SourceState.ENDED


def test_a_consumer_that_raises_while_the_channels_are_full_leaves_no_thread() -> None:
    started = time.monotonic()
    sources = [Fake(f"c{number}", 10_000) for number in range(4)]

    def consume() -> None:
        with interleave(sources, depth=3) as frames:
            next(frames)
            time.sleep(0.1)  # now every channel is full and every thread waits
            raise RuntimeError("the consumer is tired")

    with pytest.raises(RuntimeError, match="tired"):
        consume()
    assert not decoders()
    assert time.monotonic() - started < 2


def test_leaving_early_ends_all_threads() -> None:
    with interleave([Fake("a", 10_000), Fake("b", 10_000)]) as frames:
        assert next(frames).index == 0
    assert not decoders()


def test_memory_is_bounded_by_the_depth() -> None:
    source = Fake("a", 10_000)
    with interleave([source], depth=5) as frames:
        next(frames)
        time.sleep(0.1)
        assert source.given <= 5 + 3  # in the channel, at the merge, in the hand of the thread, with the consumer
    assert source.given <= 5 + 4


def test_no_sources_give_no_frames() -> None:
    with interleave([]) as frames:
        assert list(frames) == []


def test_a_depth_of_zero_is_refused() -> None:
    with pytest.raises(ValueError, match="depth must be at least 1"), interleave([], depth=0):
        pass


def test_jobs_run_at_once_and_answer_in_order() -> None:
    assert side_by_side([lambda: 1, lambda: 2, lambda: 3]) == [1, 2, 3]
    assert side_by_side([]) == []

    def fail() -> int:
        raise OSError("no space")

    with pytest.raises(OSError, match="no space"):
        side_by_side([lambda: 1, fail])
