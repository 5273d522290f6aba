"""Freed memory goes back to the operating system."""

import gc
import sys

import numpy as np
import psutil
import pytest

from pipeline.allocator import give_back_freed_memory

pytestmark = pytest.mark.alone


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
