"""How a training tells how far it is: a bar on a terminal, lines elsewhere, and TensorBoard."""

import logging
import sys
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

_LOG = logging.getLogger(__name__)


class Progress:
    """A bar with the time that is left on a terminal; elsewhere a line of the log now and then.

    Args:
        done: Steps that were done before.
        total: Steps.
        quiet: Say nothing.
        line_every: Seconds between two lines.
    """

    def __init__(self, done: int, total: int, *, quiet: bool = False, line_every: float = 60.0) -> None:
        self._done, self._total, self._quiet, self._line_every = done, total, quiet, line_every
        self._first = done
        self._stack = ExitStack()
        self._bar: Any = None

    def __enter__(self) -> Self:
        self._began = self._last = time.monotonic()
        if not self._quiet and sys.stderr.isatty():
            self._stack.enter_context(logging_redirect_tqdm())
            bar = tqdm(total=self._total, initial=self._done, unit="step", dynamic_ncols=True, smoothing=0.05)
            self._bar = self._stack.enter_context(bar)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def step(self, loss: float) -> None:
        """A step is done."""
        self._done += 1
        if self._bar is not None:
            self._bar.set_postfix(loss=f"{loss:.3f}", refresh=False)
            self._bar.update()
        elif not self._quiet and time.monotonic() - self._last >= self._line_every:
            self._last = time.monotonic()
            _LOG.info("step %d/%d, loss %.3f, %s left", self._done, self._total, loss, duration(self.seconds_left))

    @property
    def seconds_left(self) -> float:
        """At the pace so far, validation and all."""
        pace = (time.monotonic() - self._began) / max(self._done - self._first, 1)
        return pace * (self._total - self._done)


def duration(seconds: float) -> str:
    """Such as ``3 h 05 min``, ``12 min`` or ``40 s``."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02d} min" if minutes >= 60 else f"{minutes} min"


class Board:
    """Scalars for TensorBoard, or nothing where its package is not installed.

    Args:
        folder: Of the event files; None writes nothing.
        after: The step after which this process goes on; what an earlier one wrote behind it is hidden.
    """

    def __init__(self, folder: Path | None, *, after: int = 0) -> None:
        self._writer: Any = None
        if folder is None:
            return
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            _LOG.info("no tensorboard: pip install 'crossmodal-surveillance[train]'; metrics.jsonl has the course")
            return
        self._writer = SummaryWriter(str(folder), purge_step=after + 1 if after else None)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._writer is not None:
            self._writer.close()

    def write(self, scalars: Mapping[str, float], step: int) -> None:
        """Points at a step."""
        if self._writer is not None:
            for name, value in scalars.items():
                self._writer.add_scalar(name, value, step)
