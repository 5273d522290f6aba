"""Blocks of a gallery, and which of their rows could be among the nearest of a query.

A block keeps its rows twice: in half precision, which is what the gallery holds, and, once there was time for it, in
eight bits, with a scale for each dimension. Eight bits tell a cosine in less time, off by at most what rounding took
from the row and from the query (Cauchy and Schwarz). So only the best by eight bits are looked up in half precision,
and more of them for as long as one that was not looked up could come before those that were. Where there is a GPU, a
block's rows are put there in place of the eight bits (``reid.resident``), as far as its memory goes.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import faiss
import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor

Ids = NDArray[np.int64]
Floats = NDArray[np.float32]
Halves = NDArray[np.float16]
Mask = NDArray[np.bool_]

_FAISS: Any = faiss  # it changes its constructors at run time, which its types do not say

_BLOCK_BYTES = 1 << 24  # of a block's rows in half precision: each costs some calls, however few it has
_LEAST_ROWS, _MOST_ROWS = 4096, 16384  # of a block
# float32 dot products of unit vectors are off by far less than this at any dimension in use.
FLOAT32_MARGIN = 1e-4
_LARGEST = 127  # of eight bits
_AT_A_TIME = 512  # rows that are rounded while they are in the cache
_FEW = 512  # rows: of so few it is quicker to read the halves at once
_DEEP = 4  # times as many at the next look; and who wants more than one row of so many is not helped by eight bits
_MOST_ALLOWED = 0.5  # share of a block's rows: it is quicker then to fetch some of all and drop those not allowed
_SPARE = 8  # rows fetched beyond the first k
_MORE = 0.8  # times as many, where chance says how many of those fetched are allowed: few blocks have any of the first


class DeviceError(Exception):
    """A device is not there, or fails; the rows on it have to be looked at elsewhere."""


class NoRoomError(Exception):
    """A device takes no more rows; those that it has are fine."""


@contextmanager
def one_thread() -> Iterator[None]:
    """FAISS has nothing to do for a second thread where it gets one query; it would spin, and cost as much."""
    before = _FAISS.omp_get_max_threads()  # of the thread that calls, and of no other
    _FAISS.omp_set_num_threads(1)
    try:
        yield
    finally:
        _FAISS.omp_set_num_threads(before)


def floats(rows: Halves) -> Floats:
    """As `astype` gives them, in two thirds of the time."""
    found: Floats = _index(rows.shape[1], _FAISS.ScalarQuantizer.QT_fp16).sa_decode(
        np.ascontiguousarray(rows).view(np.uint8)
    )
    return found


@dataclass(frozen=True, slots=True, eq=False)
class _Rounded:
    """The rows of a block in eight bits.

    Attributes:
        index: Of them.
        codes: Of the index, (n, d), the index's own.
        scale: What one step is, (d,).
        lost: Length of the longest difference to a row.
        longest: Length of the longest row, in steps.
    """

    index: Any
    codes: NDArray[np.uint8]
    scale: Floats
    lost: float
    longest: float


def rows_of_a_block(dimension: int) -> int:
    """How many rows a gallery's blocks have: a power of two."""
    fit = max(_LEAST_ROWS, min(_MOST_ROWS, _BLOCK_BYTES // (2 * dimension)))
    return 1 << (fit.bit_length() - 1)


class Block:
    """Rows of unit length, numbered from 0, that do not change until they are forgotten."""

    def __init__(self, rows: Halves) -> None:
        """Keep them, (n, d), n a multiple of 512."""
        self._count, self._dimension = int(rows.shape[0]), int(rows.shape[1])
        self._halves = _index(self._dimension, _FAISS.ScalarQuantizer.QT_fp16)
        self._halves.add_sa_codes(np.ascontiguousarray(rows).view(np.uint8))
        kept = faiss.rev_swig_ptr(self._halves.codes.data(), 2 * len(self) * self._dimension)  # FAISS's own copy
        self._view: Halves = kept.view(np.float16).reshape(rows.shape)
        self._rounded: _Rounded | None = None
        self.resident: Tensor | None = None

    def __len__(self) -> int:
        return self._count

    @property
    def is_rounded(self) -> bool:
        """Whether it has its rows in eight bits; until then each search looks at all of them in half precision."""
        return self._rounded is not None

    def round(self) -> None:
        """Make the rows in eight bits; searches under way go on without them."""
        parts = [self._read(begin) for begin in range(0, len(self), _AT_A_TIME)]
        most = np.max([np.abs(part).max(axis=0) for part in parts], axis=0)
        scale: Floats = np.maximum(most, 1e-6) / np.float32(_LARGEST)
        codes = np.empty((len(self), self._dimension), np.uint8)
        lost = longest = 0.0
        whole = np.empty((_AT_A_TIME, self._dimension), np.float32)
        for number, rows in enumerate(parts):
            begin = number * _AT_A_TIME
            np.rint(np.multiply(rows, 1 / scale, out=whole), out=whole)
            np.add(whole, _LARGEST + 1, out=codes[begin : begin + _AT_A_TIME], casting="unsafe")
            longest = max(longest, _longest(whole))
            np.subtract(np.multiply(whole, scale, out=whole), rows, out=whole)
            lost = max(lost, _longest(whole))
        index = _index(self._dimension, _FAISS.ScalarQuantizer.QT_8bit_direct_signed)
        with one_thread():
            index.add_sa_codes(codes)
        kept = faiss.rev_swig_ptr(index.codes.data(), codes.size).reshape(codes.shape)  # FAISS's own copy
        self._rounded = _Rounded(index, kept, scale, lost, longest)

    def place(self, device: str) -> None:
        """Put the rows on a device; searches under way go on without them.

        Raises:
            DeviceError: When it is not there, or fails.
            NoRoomError: When it takes no more.
        """
        from reid.resident import place  # PyTorch takes seconds to import, for nothing where there is no GPU

        self.resident = place(self._view, device)

    def forget(self, numbers: Ids) -> None:
        """Overwrite rows that are never asked for again: nothing is left of them."""
        self._view[numbers] = 0
        if self._rounded is not None:
            self._rounded.codes[numbers] = _LARGEST + 1
        if self.resident is not None:
            from reid.resident import forget

            forget(self.resident, numbers)

    def _read(self, begin: int) -> Floats:
        rows = np.empty((_AT_A_TIME, self._dimension), np.float32)
        self._halves.reconstruct_n(begin, _AT_A_TIME, rows)
        return rows

    def rows(self, numbers: Ids) -> Floats:
        """As they are kept, (n, d)."""
        found: Floats = self._halves.reconstruct_batch(numbers)
        return found

    def row(self, number: int) -> Halves:
        """One of them, (d,), to be read only: for few it is quicker to take each than to ask FAISS for all."""
        found: Halves = self._view[number]
        return found

    def nearest(self, query: Floats, depth: int, allowed: Mask) -> tuple[Floats, Ids]:
        """Cosines and numbers of the best `depth` of those allowed, which must be so many."""
        cosines, numbers = self._halves.search(query, depth, params=_only(allowed))
        return cosines[0], numbers[0]

    def nearly_nearest(self, query: Floats, depth: int, allowed: Mask | None) -> tuple[Floats, Ids, float]:
        """The best `depth` by eight bits, as `nearest` gives them, and what no other row's cosine is above."""
        if self._rounded is None:
            raise RuntimeError("the block was not rounded")
        eight = self._rounded
        scaled = query * eight.scale
        step = np.float32(max(float(np.abs(scaled).max()) / _LARGEST, 1e-30))
        whole = np.rint(scaled / step)
        how = None if allowed is None else _only(allowed)
        nearly, numbers = eight.index.search(whole, depth, params=how)
        best = np.zeros(len(self), bool)
        best[numbers[0]] = True
        off = eight.lost * _longest(query) + eight.longest * _longest(scaled - step * whole)
        return *self.nearest(query, depth, best), float(nearly[0, -1] * step) + off + FLOAT32_MARGIN

    def best_of(self, query: Floats, depth: int, allowed: Mask, available: int) -> tuple[Floats, Ids, float]:
        """About the best `depth` rows, maybe with some that are not allowed, and what no other row's cosine is above.

        `available` says how many are allowed: at least one.
        """
        if self.is_rounded and available > _FEW and _DEEP * depth <= available:
            if available < _MOST_ALLOWED * len(self):
                return self.nearly_nearest(query, depth, allowed)
            spread = 1 if available == len(self) else _MORE * len(self) / available
            return self.nearly_nearest(query, round(spread * depth), None)
        cosines, numbers = self.nearest(query, available if available <= _FEW else min(depth, available), allowed)
        return cosines, numbers, float(cosines[-1])


class _Looked(Protocol):
    """Rows, numbered from 0, that tell which of them are the nearest: a block, or all that a device holds."""

    def best_of(self, query: Floats, depth: int, allowed: Mask, available: int) -> tuple[Floats, Ids, float]: ...


class _Part:
    """What one query has been told of the allowed ones of some rows so far."""

    def __init__(self, rows: _Looked, begin: int, allowed: Mask, depth: int) -> None:
        self._rows, self._begin, self.allowed = rows, begin, allowed
        self.available = int(np.count_nonzero(allowed))
        self.cosines: Floats = np.empty(0, np.float32)
        self.places: Ids = np.empty(0, np.int64)
        self._depth = depth
        self._rest = np.inf  # no row that was not fetched has more

    def take(self, cosines: Floats, numbers: Ids, rest: float) -> None:
        """Know those of these rows that are allowed, and that no other has more than `rest`."""
        own = self.allowed[numbers]
        self.cosines, self.places = cosines[own], numbers[own] + self._begin
        self._rest = rest

    def look(self, query: Floats) -> None:
        """Fetch several times as many rows as before."""
        self._depth *= _DEEP
        self.take(*self._rows.best_of(query, self._depth, self.allowed, self.available))

    def hides(self, floor: float) -> bool:
        """Whether a row not fetched yet may reach `floor`."""
        return len(self.places) < self.available and self._rest >= floor


def candidates(blocks: Sequence[Block], tail: Floats, query: Floats, k: int, masks: Sequence[Mask]) -> list[Ids]:
    """For each mask all places that could be among the first k: those not below the k-th by more than rounding.

    Args:
        blocks: Of the first places.
        tail: Rows of the places after them, (t, d).
        query: (1, d).
        k: At least 1.
        masks: Which places are allowed, (rows of all blocks + t,) each; those of one call are looked for in one pass.

    Raises:
        DeviceError: When a device that holds rows of blocks fails.
    """
    parts: list[list[_Part]] = [[] for _ in masks]
    sealed = 0
    for rows, count in _to_look_at(blocks, query):
        for known, part in zip(parts, _first_look(rows, sealed, count, query, k + _SPARE, masks), strict=True):
            if part.available:
                known.append(part)
        sealed += count
    # BLAS would start threads for this, which go on spinning on processors that others need.
    cosines = np.einsum("d,nd->n", query[0], tail)
    found = []
    for own, mask in zip(parts, masks, strict=True):
        late = np.flatnonzero(mask[sealed:])
        found.append(_near(query, k, own, cosines[late], late + sealed))
    return found


def _to_look_at(blocks: Sequence[Block], query: Floats) -> Iterator[tuple[_Looked, int]]:
    """All rows of the first blocks that are on a device together, and each other block; and how many rows those are."""
    resident: list[Tensor] = []
    for block in blocks:
        if block.resident is None:
            break
        resident.append(block.resident)
    if resident:
        from reid.resident import Resident

        yield Resident(resident, query), sum(len(block) for block in blocks[: len(resident)])
    for block in blocks[len(resident) :]:
        yield block, len(block)


def _first_look(rows: _Looked, begin: int, count: int, query: Floats, depth: int, masks: Sequence[Mask]) -> list[_Part]:
    """About the best `depth` rows for each mask, fetched together."""
    parts = [_Part(rows, begin, mask[begin : begin + count], depth) for mask in masks]
    either = parts[0].allowed if len(parts) == 1 else np.logical_or.reduce([part.allowed for part in parts])
    available = int(np.count_nonzero(either))
    if not available:
        return parts
    wanted = depth if len(parts) == 1 else round(_MORE * depth * len(parts))
    cosines, numbers, rest = rows.best_of(query, wanted, either, available)
    for part in parts:
        part.take(cosines, numbers, rest)
    return parts


def _near(query: Floats, k: int, parts: Sequence[_Part], cosines: Floats, places: Ids) -> Ids:
    """Those of the parts and of some other places that could be among the first k."""
    while True:
        known = np.concatenate([cosines, *(part.cosines for part in parts)])
        floor = _kth(known, k) - FLOAT32_MARGIN
        shallow = [part for part in parts if part.hides(floor)]
        if not shallow:
            found: Ids = np.concatenate([places, *(part.places for part in parts)])[known >= floor]
            return found
        for part in shallow:
            part.look(query)


def _kth(cosines: Floats, k: int) -> float:
    """The k-th greatest; -inf where there are fewer."""
    return float(np.partition(cosines, len(cosines) - k)[len(cosines) - k]) if len(cosines) > k else -np.inf


def _index(dimension: int, kind: Any) -> Any:
    return _FAISS.IndexScalarQuantizer(dimension, kind, _FAISS.METRIC_INNER_PRODUCT)


def _only(allowed: Mask) -> Any:
    return _FAISS.SearchParameters(sel=_FAISS.IDSelectorBitmap(np.packbits(allowed, bitorder="little")))


def _longest(rows: Floats) -> float:
    """Length of the longest row."""
    return float(np.sqrt(np.einsum("nd,nd->n", rows, rows).max()))
