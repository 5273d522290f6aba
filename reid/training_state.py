"""What a training leaves on the disk to go on from: its state, and a log that never has a line twice or half of one."""

import json
import os
import pickle
import signal
import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path
from types import FrameType
from typing import Any, Self

import torch

FORMAT = "xreid-training/1"


class StateError(ValueError):
    """A training state that is not there, cannot be read, or is of another training."""


class Interrupted(Exception):  # noqa: N818 - no error: somebody asked for it
    """The training was told to stop, and has left its state."""


def save_state(path: Path, state: Mapping[str, Any]) -> None:
    """Write a state; a file of that name is replaced once the new one is complete and on the disk.

    Args:
        path: Where to.
        state: Tensors and plain values.
    """
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            torch.save({"format": FORMAT, **state}, file)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    finally:
        Path(temporary).unlink(missing_ok=True)


def load_state(path: Path) -> dict[str, Any]:
    """Read what ``save_state`` wrote, onto the CPU; nothing in the file is executed.

    Raises:
        StateError: When it is no complete state.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise StateError(f"{path}: not a training state that can be read: {str(error).splitlines()[0]}") from error
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        found = state.get("format") if isinstance(state, dict) else type(state).__name__
        raise StateError(f"{path}: must be a training state of format {FORMAT!r}, got {found!r}")
    return state


class MetricsLog:
    """A file of one JSON object a line.

    Args:
        path: Of the file.
        size: Bytes to keep of what is there; what a process wrote behind them before it was killed, and the state does
            not know of, goes.

    Raises:
        StateError: When the file has fewer bytes than that.
    """

    def __init__(self, path: Path, *, size: int = 0) -> None:
        self.path = path
        found = path.stat().st_size if path.exists() else 0
        if found < size:
            raise StateError(f"{path}: the state knows {size} bytes of it, but it has {found}: it was cut or replaced")
        with path.open("ab") as file:
            file.truncate(size)

    @property
    def size(self) -> int:
        """Bytes written."""
        return self.path.stat().st_size

    def append(self, record: Mapping[str, Any]) -> None:
        """Write a line, through to the disk."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def read(self) -> list[dict[str, Any]]:
        """All lines."""
        return [json.loads(line) for line in self.path.read_text(encoding="utf-8").splitlines()]


class StopSignal:
    """While open, SIGINT and SIGTERM only ask; a second one has its usual effect."""

    def __init__(self) -> None:
        self.asked = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._ask) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *_: object) -> None:
        self._restore()

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self.asked = True
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}
