"""Decoding ahead: the only file with threads, and it looks like an iterator.

Each source is decoded in a thread of its own into a bounded channel. A source that breaks ends alone; leaving the
``with`` always ends and joins all threads, also when the consumer raised while the channels were full.
"""

import logging
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Condition, Thread
from typing import TypeVar

from pipeline.frame import Frame
from pipeline.sources.base import Source, SourceState

logger = logging.getLogger(__name__)

T = TypeVar("T")


@contextmanager
def interleave(sources: Sequence[Source], *, depth: int = 8) -> Iterator[Iterator[Frame]]:
    """Read all sources at once.

    Args:
        sources: One a camera.
        depth: Frames decoded ahead of the consumer for each source; at least 1.

    Yields:
        An iterator over the frames of all cameras in order of ``pts_seconds``; in order of ``sources`` where equal.
    """
    if depth < 1:
        raise ValueError(f"depth must be at least 1, got {depth}")
    channels = [_Channel(depth) for _ in sources]
    threads = [
        Thread(target=_decode, args=(source, channel), name=f"decode-{source.camera_id}", daemon=True)
        for source, channel in zip(sources, channels, strict=True)
    ]
    try:
        for thread in threads:
            thread.start()
        yield _merge(channels)
    finally:
        for channel in channels:
            channel.close()
        for thread in threads:
            if thread.ident is not None:
                thread.join()


def _merge(channels: Sequence["_Channel"]) -> Iterator[Frame]:
    heads = [channel.get() for channel in channels]
    while True:
        waiting = [(head.pts_seconds, position) for position, head in enumerate(heads) if head is not None]
        if not waiting:
            return
        _, position = min(waiting)
        head = heads[position]
        if head is not None:
            yield head
        heads[position] = channels[position].get()


def _decode(source: Source, channel: "_Channel") -> None:
    try:
        for frame in source:
            if not channel.put(frame):
                return
    except Exception as error:  # noqa: BLE001 (whatever breaks one camera must not end the others)
        source.account.fail(str(error) or type(error).__name__)
    finally:
        if source.account.state is SourceState.FAILED:
            logger.info("camera %s failed after %d frames", source.camera_id, source.account.decoded)
        channel.end()


class _Channel:
    """A bounded queue that can be closed from both ends; a closed one wakes whoever waits."""

    def __init__(self, depth: int) -> None:
        self._depth = depth
        self._frames: deque[Frame] = deque()
        self._ended = False
        self._closed = False
        self._changed = Condition()

    def put(self, frame: Frame) -> bool:
        """Add a frame, waiting for room; False when nobody will take it."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or len(self._frames) < self._depth)
            if self._closed:
                return False
            self._frames.append(frame)
            self._changed.notify_all()
            return True

    def get(self) -> Frame | None:
        """Take the oldest frame, waiting for one; None at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._ended or self._frames)
            if self._closed or not self._frames:
                return None
            self._changed.notify_all()
            return self._frames.popleft()

    def end(self) -> None:
        """No more will come; what is there can still be taken."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def close(self) -> None:
        """Nobody will take more."""
        with self._changed:
            self._closed = True
            self._frames.clear()
            self._changed.notify_all()


def side_by_side(jobs: Sequence[Callable[[], T]]) -> list[T]:
    """Run jobs that mostly wait for codecs (which let go of the interpreter) at once, at most one a core.

    Returns:
        Their results, in the order of ``jobs``. The first error is raised once all have ended.
    """
    with ThreadPoolExecutor(max_workers=os.cpu_count() or 1, thread_name_prefix="job") as pool:
        return [future.result() for future in [pool.submit(job) for job in jobs]]
