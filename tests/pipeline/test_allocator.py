"""Freed memory goes back to the operating system."""

import gc
import subprocess
import sys
from pathlib import Path

import numpy as np
import psutil
import pytest

from pipeline.allocator import give_back_freed_memory

pytestmark = pytest.mark.alone


def _numpy_gets_huge_pages() -> bool:
    said = Path("/sys/kernel/mm/transparent_hugepage/enabled")
    return said.is_file() and "[never]" not in said.read_text()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="resident memory after free is glibc's matter")
def test_pages_between_living_blocks_are_given_back() -> None:
    blocks = [np.ones(100_000, np.uint8) for _ in range(1500)]  # below what is mapped singly
    kept = blocks[::50]
    full = psutil.Process().memory_info().rss
    blocks.clear()
    gc.collect()
    give_back_freed_memory()
    assert full - psutil.Process().memory_info().rss > 100e6
    assert all(int(block[0]) == 1 for block in kept)


def test_a_c_library_without_it_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.allocator._find_trim", lambda: None)
    assert give_back_freed_memory() is False


_COUNT_HEAPS = """
import ctypes, sys, threading
from pipeline.allocator import share_arenas
assert sys.argv[1] == "all" or share_arenas()
libc = ctypes.CDLL(None)
libc.malloc.restype = libc.fopen.restype = ctypes.c_void_p
libc.malloc_info.argtypes = ctypes.c_int, ctypes.c_void_p
libc.fclose.argtypes = [ctypes.c_void_p]
together = threading.Barrier(8)
def take():
    together.wait()
    libc.malloc(1000)
    together.wait()
threads = [threading.Thread(target=take) for _ in range(8)]
[each.start() for each in threads]
[each.join() for each in threads]
file = libc.fopen(b"/dev/stdout", b"w")
libc.malloc_info(0, file)
libc.fclose(file)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="arenas are glibc's matter")
def test_threads_share_a_few_arenas() -> None:
    heaps = {}
    for how in ("all", "shared"):
        told = subprocess.run([sys.executable, "-c", _COUNT_HEAPS, how], capture_output=True, text=True, check=True)
        heaps[how] = told.stdout.count("<heap nr=")
    assert heaps["all"] > 2
    assert heaps["shared"] <= 2


_HUGE_PAGES = """
import ctypes, sys
import numpy as np
from pipeline.allocator import avoid_huge_pages
if sys.argv[1] == "huge":  # as the system gives them, whatever a run within the tests' process has set
    assert ctypes.CDLL(None).prctl(41, *map(ctypes.c_ulong, (0, 0, 0, 0))) == 0
else:
    assert avoid_huge_pages()
array = np.ones(1 << 25, np.uint8)
lines = open("/proc/self/smaps").read().splitlines()
print(sum(int(line.split()[1]) for line in lines if line.startswith("AnonHugePages")))
"""


@pytest.mark.skipif(not _numpy_gets_huge_pages(), reason="this system gives NumPy no huge pages")
def test_large_arrays_get_no_huge_pages() -> None:
    huge = {}
    for how in ("huge", "small"):
        told = subprocess.run([sys.executable, "-c", _HUGE_PAGES, how], capture_output=True, text=True, check=True)
        huge[how] = int(told.stdout)
    assert huge["huge"] > 0
    assert huge["small"] == 0
