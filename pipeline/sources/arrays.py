"""The arrays of NumPy files, read page by page.

Nothing is mapped into memory: a file that shrinks while it is mapped ends the whole program (SIGBUS), and one that is
written anew changes frames that were read already.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

_MOST_ITEMS = 2**30  # of one page, as OpenCV allows of an image
_MOST_BYTES = 2**32
_BLOCK_BYTES = 2**24  # that are read at a time where the items of a page lie apart
_HEADERS: dict[tuple[int, int], Callable[[BufferedReader], tuple[tuple[int, ...], bool, np.dtype[Any]]]] = {
    (1, 0): npy.read_array_header_1_0,
    (2, 0): npy.read_array_header_2_0,
}  # 3.0 is that of records with names that are not Latin-1


@dataclass(frozen=True, slots=True)
class ArrayFile:
    """What the header of a file of an array says; the rest of the file may be missing.

    Attributes:
        path: The file.
        dtype: Of its items.
        shape: Of the array.
        in_columns: Whether the first index changes fastest (Fortran's order).
        begins: The array's first byte.
    """

    path: Path
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    in_columns: bool
    begins: int

    def page(self, number: int | None) -> NDArray[Any] | None:
        """A copy of one index of the first dimension, or of the whole array (None).

        None where it is not there, empty, no whole numbers, or far too large for an image.
        """
        shape = self.shape if number is None else self.shape[1:]
        count = math.prod(shape)
        is_there = number is None or number < self.shape[0]
        is_small = 0 < count <= _MOST_ITEMS and count * self.dtype.itemsize <= _MOST_BYTES
        if not (is_there and is_small and self.dtype.kind in "ui"):
            return None
        try:
            with self.path.open("rb") as file:
                if number is None or not self.in_columns:
                    items = self._read(file, (number or 0) * count, count)
                else:
                    items = self._every(file, number, count)
        except (OSError, MemoryError):
            return None
        return None if items is None else items.reshape(shape, order="F" if self.in_columns else "C")

    def _read(self, file: BufferedReader, first: int, count: int) -> NDArray[Any] | None:
        """Items in a row; None where the file ends before."""
        begin = self.begins + first * self.dtype.itemsize
        if file.seek(0, 2) < begin + count * self.dtype.itemsize:  # before memory is taken for what may not be there
            return None
        items = np.empty(count, self.dtype)
        file.seek(begin)
        return items if file.readinto(items.data.cast("B")) == items.nbytes else None

    def _every(self, file: BufferedReader, first: int, count: int) -> NDArray[Any] | None:
        """One item of each column: all of the array is read, a block at a time."""
        rows, items = self.shape[0], np.empty(count, self.dtype)
        step = max(_BLOCK_BYTES // (rows * self.dtype.itemsize), 1)
        for at in range(0, count, step):
            columns = min(step, count - at)
            block = self._read(file, at * rows, columns * rows)
            if block is None:
                return None
            items[at : at + columns] = block[first::rows]
        return items


def array_file(path: Path) -> ArrayFile | None:
    """What a file holds by its header; None when it is no array, or one that would run code."""
    try:
        with path.open("rb") as file:
            shape, in_columns, dtype = _HEADERS[npy.read_magic(file)](file)
            begins = file.tell()
    except Exception:  # noqa: BLE001 (of a damaged header, NumPy raises whatever Python's own parser does)
        return None
    if dtype.hasobject or min(shape, default=1) < 0:
        return None
    return ArrayFile(path, dtype, shape, in_columns, begins)
