"""k-reciprocal re-ranking (Zhong et al., "Re-ranking Person Re-identification with k-reciprocal Encoding", CVPR 2017).

Two tracklets that are among each other's nearest are alike beyond their own distance. Off by default: it looks at the
other queries, which a deployed search does not have, and no figure of the X-ReID paper uses it. Of the methods in
``published.yaml`` only AuxNet does (k1 = 3, k2 = 1, λ = 0.7 in its options, in a temporal form that is not here).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import csr_matrix

from reid.embedding import cosines
from reid.metrics import stable_descending


@dataclass(frozen=True, slots=True)
class Reranking:
    """The three settings of the paper, with its values for Market-1501.

    Attributes:
        k1: Neighbours that are looked at for reciprocity; at least 1.
        k2: Neighbours whose encodings are averaged (local query expansion); 1 is none of it.
        original: λ, the share of the plain distance in the result, in [0, 1]; 1 changes no ranking.
    """

    k1: int = 20
    k2: int = 6
    original: float = 0.3

    def __post_init__(self) -> None:
        if self.k1 < 1 or self.k2 < 1:
            raise ValueError(f"k1 and k2 must be at least 1, got {self.k1} and {self.k2}")
        if not 0 <= self.original <= 1:
            raise ValueError(f"original (λ) must be in [0, 1], got {self.original}")


def rerank(queries: ArrayLike, gallery: ArrayLike, settings: Reranking | None = None) -> NDArray[np.float64]:
    """Re-ranked similarities of queries and gallery: λ (1 - d / max d) + (1 - λ) (1 - Jaccard distance), Eq. 12.

    d is the squared Euclidean distance of unit vectors, divided by its largest in the row, as in the authors' setting.
    Equal distances are ordered by row, gallery rows behind query rows.

    Args:
        queries: (q, d), rows of unit length.
        gallery: (g, d), rows of unit length.
        settings: The paper's when None.

    Returns:
        (q, g) in [0, 1]; greater is more alike.

    Raises:
        ValueError: When the two do not fit together or are not finite.
    """
    settings = settings or Reranking()
    q, g = np.asarray(queries, np.float64), np.asarray(gallery, np.float64)
    if q.ndim != 2 or g.ndim != 2 or q.shape[1] != g.shape[1]:
        raise ValueError(f"queries and gallery must be (q, d) and (g, d), got {q.shape} and {g.shape}")
    if not (np.isfinite(q).all() and np.isfinite(g).all()):
        raise ValueError("queries and gallery must be finite, got NaN or infinity")
    if not (len(q) and len(g)):
        return np.zeros((len(q), len(g)))
    everything = np.concatenate([q, g])
    distance = np.maximum(2 - 2 * cosines(everything, everything), 0)
    np.fill_diagonal(distance, 0)
    distance /= np.maximum(distance.max(axis=1, keepdims=True), np.finfo(np.float64).tiny)
    ranking = stable_descending(-distance)
    encoded = _expand(_encode(distance, ranking, settings.k1), ranking, settings.k2)
    overlap = _jaccard_similarity(encoded, len(q))
    plain = 1 - distance[: len(q), len(q) :]
    return np.asarray(settings.original * plain + (1 - settings.original) * overlap)


def _encode(distance: NDArray[np.float64], ranking: NDArray[np.int64], k1: int) -> csr_matrix:
    """The rows V of Eq. 7, exp(-d) over the expanded reciprocal sets R* of Eq. 5, scaled to sum 1: (n, n)."""
    nearest, half = _Reciprocal(ranking, k1), _Reciprocal(ranking, round(k1 / 2))
    rows, columns, weights = [], [], []
    for item in range(len(ranking)):
        core = nearest.of(item)
        members = set(core.tolist())
        for candidate in core.tolist():
            own = half.of(candidate)
            if 3 * np.isin(own, core).sum() >= 2 * len(own):
                members.update(own.tolist())
        chosen = np.array(sorted(members), np.int64)
        weight = np.exp(-distance[item, chosen])
        rows.append(np.full(len(chosen), item))
        columns.append(chosen)
        weights.append(weight / weight.sum())
    shape = (len(ranking), len(ranking))
    return csr_matrix((np.concatenate(weights), (np.concatenate(rows), np.concatenate(columns))), shape=shape)


class _Reciprocal:
    """R(p, k) of Eq. 3: those of the k nearest (and itself) that have p among their own."""

    def __init__(self, ranking: NDArray[np.int64], k: int) -> None:
        self._near = ranking[:, : k + 1]

    def of(self, item: int) -> NDArray[np.int64]:
        near = self._near[item]
        return np.asarray(near[(self._near[near] == item).any(axis=1)])


def _expand(encoded: csr_matrix, ranking: NDArray[np.int64], k2: int) -> csr_matrix:
    """Local query expansion, Eq. 11: the mean encoding of the k2 nearest, itself among them."""
    if k2 == 1:
        return encoded
    near = ranking[:, :k2]
    count = near.shape[1]
    rows = np.repeat(np.arange(len(near)), count)
    mean = csr_matrix((np.full(near.size, 1 / count), (rows, near.ravel())), shape=encoded.shape)
    return csr_matrix(mean @ encoded)


def _jaccard_similarity(encoded: csr_matrix, queries: int) -> NDArray[np.float64]:
    """Σ min / Σ max of Eq. 10, queries against the others; rows sum to 1, so Σ max = 2 - Σ min."""
    by_column = encoded[queries:].tocsc()
    result = np.zeros((queries, encoded.shape[0] - queries))
    for query in range(queries):
        row = encoded[query]
        for column, weight in zip(row.indices, row.data, strict=True):
            first, end = by_column.indptr[column : column + 2]
            result[query, by_column.indices[first:end]] += np.minimum(weight, by_column.data[first:end])
    return result / (2 - result)
