"""Vectors in, nearest vectors out: exact inner-product search over unit-length embeddings, with FAISS."""

import threading

import faiss
import numpy as np
from numpy.typing import ArrayLike, NDArray

Ids = NDArray[np.int64]

UNIT_TOLERANCE = 1e-3
# float32 dot products of unit vectors are off by far less than this at any dimension in use.
_FLOAT32_MARGIN = 1e-4


class Gallery:
    """Unit-length embeddings under int64 ids; safe to use from several threads, one call at a time.

    The answer to a search is that of a brute-force float64 computation: FAISS (``IndexFlatIP``) proposes every
    candidate that rounding in float32 could have hidden, and those are scored again in float64. Equal cosines are
    ordered by id, so the answer does not depend on the order of insertion.
    """

    def __init__(self, dimension: int) -> None:
        if dimension < 1:
            raise ValueError(f"dimension must be at least 1, got {dimension}")
        self.dimension = dimension
        self._index = faiss.IndexIDMap2(faiss.IndexFlatIP(dimension))
        self._known: set[int] = set()
        self._lock = threading.RLock()

    def __len__(self) -> int:
        with self._lock:
            return len(self._known)

    def __contains__(self, identity: int) -> bool:
        with self._lock:
            return int(identity) in self._known

    @property
    def ids(self) -> Ids:
        """All ids, ascending, (n,) int64."""
        with self._lock:
            return np.array(sorted(self._known), dtype=np.int64)

    def add(self, ids: ArrayLike, vectors: ArrayLike) -> None:
        """Put embeddings in; all of them or, on error, none.

        Args:
            ids: (n,) integers from 0, new to the gallery.
            vectors: (n, dimension), each row of length 1 within 1e-3.

        Raises:
            ValueError: When a shape is wrong, a row is not of unit length, or an id is negative, repeated or known.
        """
        new, rows = _ids("ids", ids), self._vectors("vectors", vectors)
        if len(new) != len(rows):
            raise ValueError(f"ids and vectors must have as many rows, got {len(new)} and {len(rows)}")
        if (new < 0).any():
            raise ValueError(f"ids must not be negative, got {new[new < 0][0]} in row {np.argmax(new < 0)}")
        _refuse_repeated(new)
        with self._lock:
            known = [int(each) for each in new if int(each) in self._known]
            if known:
                raise ValueError(f"ids are in the gallery already: {_some(known)}")
            if len(new):
                self._index.add_with_ids(rows, new)
                self._known.update(new.tolist())

    def remove(self, ids: ArrayLike) -> None:
        """Take embeddings out; all of them or, on error, none.

        Raises:
            ValueError: When an id is repeated or not in the gallery.
        """
        old = _ids("ids", ids)
        _refuse_repeated(old)
        with self._lock:
            unknown = [int(each) for each in old if int(each) not in self._known]
            if unknown:
                raise ValueError(f"ids are not in the gallery: {_some(unknown)}")
            if len(old):
                self._index.remove_ids(faiss.IDSelectorBatch(old))
                self._known.difference_update(old.tolist())

    def vectors(self, ids: ArrayLike) -> NDArray[np.float32]:
        """The embeddings of these ids, (n, dimension) float32, in their order.

        Raises:
            ValueError: When an id is not in the gallery.
        """
        wanted = _ids("ids", ids)
        with self._lock:
            unknown = [int(each) for each in wanted if int(each) not in self._known]
            if unknown:
                raise ValueError(f"ids are not in the gallery: {_some(unknown)}")
            return self._reconstruct(wanted)

    def search(self, queries: ArrayLike, k: int, allowed: ArrayLike | None = None) -> tuple[Ids, NDArray[np.float32]]:
        """The k nearest embeddings of each query, by descending cosine, equal ones by ascending id.

        Args:
            queries: (q, dimension), each row of length 1 within 1e-3.
            k: At least 1.
            allowed: Ids to choose from, applied before the top k is taken, so that k are found whenever k are allowed;
                those not in the gallery have no effect. None allows all.

        Returns:
            Ids (q, k) int64 and cosines (q, k) float32; -1 and -inf where there are fewer than k.

        Raises:
            ValueError: When a shape is wrong, a query is not of unit length, or k is below 1.
        """
        rows = self._vectors("queries", queries)
        if k < 1:
            raise ValueError(f"k must be at least 1, got {k}")
        chosen = None if allowed is None else np.unique(_ids("allowed", allowed))
        best_ids = np.full((len(rows), k), -1, dtype=np.int64)
        best_cosines = np.full((len(rows), k), -np.inf, dtype=np.float32)
        with self._lock:
            available = len(self._known) if chosen is None else sum(each in self._known for each in chosen.tolist())
            if not (available and len(rows)):
                return best_ids, best_cosines
            for row, candidates in enumerate(self._candidates(rows, min(k, available), available, chosen)):
                cosines = self._cosines(candidates, rows[row])
                order = np.lexsort((candidates, -cosines))[:k]
                best_ids[row, : len(order)] = candidates[order]
                best_cosines[row, : len(order)] = cosines[order]
        return best_ids, best_cosines

    def _candidates(self, rows: NDArray[np.float32], k: int, available: int, chosen: Ids | None) -> list[Ids]:
        """For each query all ids that could be among the first k: those not below the k-th by more than rounding."""
        parameters = None if chosen is None else _only(chosen)
        found: list[Ids] = [np.empty(0, np.int64)] * len(rows)
        open_rows, depth = np.arange(len(rows)), min(k + 8, available)
        while len(open_rows):
            cosines, ids = self._index.search(rows[open_rows], depth, params=parameters)
            floor = cosines[:, k - 1] - _FLOAT32_MARGIN
            done = (cosines[:, -1] < floor) | (depth == available)
            for each in np.flatnonzero(done):
                found[open_rows[each]] = ids[each][cosines[each] >= floor[each]]
            open_rows, depth = open_rows[~done], min(4 * depth, available)
        return found

    def _cosines(self, ids: Ids, query: NDArray[np.float32]) -> NDArray[np.float64]:
        """Float64, each row summed in the same order: equal vectors get equal cosines, bit by bit."""
        vectors = self._reconstruct(ids).astype(np.float64)
        cosines: NDArray[np.float64] = np.add.reduce(vectors * query.astype(np.float64), axis=1)
        return np.clip(cosines, -1.0, 1.0)

    def _reconstruct(self, ids: Ids) -> NDArray[np.float32]:
        if not len(ids):
            return np.empty((0, self.dimension), np.float32)
        return np.asarray(self._index.reconstruct_batch(ids), dtype=np.float32)

    def _vectors(self, name: str, vectors: ArrayLike) -> NDArray[np.float32]:
        rows = np.ascontiguousarray(vectors, dtype=np.float32)
        if rows.ndim != 2 or rows.shape[1] != self.dimension:
            raise ValueError(f"{name} must be (n, {self.dimension}), got {rows.shape}")
        length = np.linalg.norm(rows.astype(np.float64), axis=1)
        wrong = ~(np.abs(length - 1) <= UNIT_TOLERANCE)
        if wrong.any():
            row = int(np.argmax(wrong))
            raise ValueError(f"{name} must have rows of length 1, got {length[row]:.6g} in row {row}")
        return rows


def _only(ids: Ids) -> faiss.SearchParameters:
    return faiss.SearchParameters(sel=faiss.IDSelectorBatch(ids))  # type: ignore[call-arg] # FAISS adds it at run time


def _ids(name: str, ids: ArrayLike) -> Ids:
    array = np.asarray(ids)
    if array.ndim != 1:
        raise ValueError(f"{name} must be (n,), got {array.shape}")
    if array.size and not np.issubdtype(array.dtype, np.integer):
        raise ValueError(f"{name} must be integers, got {array.dtype}")
    return np.ascontiguousarray(array, dtype=np.int64)


def _refuse_repeated(ids: Ids) -> None:
    known, counts = np.unique(ids, return_counts=True)
    if (counts > 1).any():
        raise ValueError(f"ids must not repeat, got more than once: {_some(known[counts > 1].tolist())}")


def _some(ids: list[int]) -> str:
    """The first few, and how many there are."""
    text = ", ".join(map(str, ids[:5]))
    return text if len(ids) <= 5 else f"{text}, ... ({len(ids)} in all)"
