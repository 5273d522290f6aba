"""Memory that was freed, and that the C library keeps."""

import ctypes
from collections.abc import Callable
from typing import Any

_M_ARENA_MAX = -8  # of malloc.h
_ARENAS = 2
_PR_SET_THP_DISABLE = 41  # of linux/prctl.h


def _find_trim() -> Callable[[int], int] | None:
    trim: Any = getattr(ctypes.CDLL(None), "malloc_trim", None)
    return trim if callable(trim) else None


def share_arenas() -> bool:
    """Let all threads, those that begin later too, take memory from a few arenas; call it before there are many.

    glibc gives each thread an arena of its own, up to eight a processor. Threads of cameras that come back again and
    again leave free pages in ever more of them, where no other thread looks for memory.

    Returns:
        Whether the C library has arenas that can be limited.
    """
    limit: Any = getattr(ctypes.CDLL(None), "mallopt", None)
    return callable(limit) and bool(limit(_M_ARENA_MAX, _ARENAS))


def avoid_huge_pages() -> bool:
    """Keep this process, and those that it starts, to small pages; call it before there is much.

    NumPy asks for huge ones for arrays of 4 MB and more. Their place in the heap keeps that mark when they are gone,
    and the kernel fills it up again to 2 MB around whatever small thing came to lie there: what was given back to the
    system comes back.

    Returns:
        Whether the system has huge pages that can be avoided.
    """
    control: Any = getattr(ctypes.CDLL(None), "prctl", None)
    return callable(control) and control(_PR_SET_THP_DISABLE, *map(ctypes.c_ulong, (1, 0, 0, 0))) == 0


def give_back_freed_memory() -> bool:
    """Let the operating system have the pages of freed memory again.

    Pictures of some hundred kilobytes are allocated in one thread and freed in another. glibc keeps such pages, arenas
    of each thread, and a program whose objects stay as many still grows for hours. On musl and macOS nothing is done.

    Returns:
        Whether anything was given back.
    """
    trim = _find_trim()
    return bool(trim(0)) if trim is not None else False
