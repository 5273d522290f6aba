"""Memory that was freed, and that the C library keeps."""

import ctypes
from collections.abc import Callable
from typing import Any


def _find_trim() -> Callable[[int], int] | None:
    trim: Any = getattr(ctypes.CDLL(None), "malloc_trim", None)
    return trim if callable(trim) else None


def give_back_freed_memory() -> bool:
    """Let the operating system have the pages of freed memory again.

    Pictures of some hundred kilobytes are allocated in one thread and freed in another. glibc keeps such pages, arenas
    of each thread, and a program whose objects stay as many still grows for hours. On musl and macOS nothing is done.

    Returns:
        Whether anything was given back.
    """
    trim = _find_trim()
    return bool(trim(0)) if trim is not None else False
