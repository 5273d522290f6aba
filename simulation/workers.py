"""Work spread over processes, results in the order of the work."""

import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import TypeVar

import cv2

Result = TypeVar("Result")


def tell(sentence: str) -> None:
    """Say it on stderr; here, for a worker knows nothing of what ``python -m`` runs."""
    sys.stderr.write(f"{sentence}\n")


def spread(
    job: Callable[..., Result], work: Sequence[tuple[object, ...]], *, workers: int, chunk: int = 1
) -> Iterator[Result]:
    """``job(*each)`` for each of ``work``; in this very process when there is one worker.

    Processes are spawned, not forked, and each keeps OpenCV to one thread: they are as many as the cores already.
    """
    if workers == 1 or len(work) < 2:
        for each in work:
            yield job(*each)
        return
    pool = ProcessPoolExecutor(
        max_workers=min(workers, len(work)),
        mp_context=get_context("spawn"),
        initializer=cv2.setNumThreads,
        initargs=(1,),
    )
    with pool:
        yield from pool.map(job, *zip(*work, strict=True), chunksize=chunk)
