"""Retrieval metrics of person re-identification: CMC rank-k, mAP and mINP, from a matrix of similarities."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

_BLOCK = 512  # queries sorted at once, which bounds memory


class CameraRule(StrEnum):
    """Which gallery items are taken out for a query before ranking.

    ``SAME_ID_SAME_CAM`` is what HITSZ-VCM evaluations do, ``NONE`` what BUPTCampus's own script does; ``SAME_CAM``
    leaves nothing that the query's own camera saw.
    """

    NONE = "none"
    SAME_ID_SAME_CAM = "same_id_same_cam"
    SAME_CAM = "same_cam"


@dataclass(frozen=True, slots=True)
class RetrievalMetrics:
    """Means over the valid queries, each in [0, 1]; NaN where no query is valid.

    Attributes:
        rank1: Share of the queries with a match in first place.
        rank5: With a match among the first 5.
        rank10: Among the first 10.
        rank20: Among the first 20.
        mAP: Mean over the queries of the mean, over their matches, of the precision at each match.
        mINP: Mean over the queries of matches / rank of the last match (Ye et al., TPAMI 2021, eq. 12).
        chance_rank1: `rank1` to expect of a random order: mean over the queries of matches / gallery, after the rule.
        valid_queries: How many have a match left after the camera rule.
        skipped_queries: How many have not; they count in no mean.
    """

    rank1: float
    rank5: float
    rank10: float
    rank20: float
    mAP: float  # noqa: N815 - the literature's name
    mINP: float  # noqa: N815
    chance_rank1: float
    valid_queries: int
    skipped_queries: int


@dataclass(frozen=True, slots=True, eq=False)
class _PerQuery:
    """Of each valid query, (v,) each."""

    first_rank: NDArray[np.int64]
    average_precision: NDArray[np.float64]
    inverse_negative_penalty: NDArray[np.float64]
    chance: NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class _Labels:
    pids: NDArray[np.int64]
    camids: NDArray[np.int64]


def evaluate(
    similarity: ArrayLike,
    q_pids: ArrayLike,
    g_pids: ArrayLike,
    q_camids: ArrayLike,
    g_camids: ArrayLike,
    *,
    camera_rule: CameraRule | str,
) -> RetrievalMetrics:
    """Rank the gallery for each query, by descending similarity, equal ones in the gallery's order.

    The other direction is the same call with the matrix transposed and the roles of q and g exchanged.

    Args:
        similarity: (queries, gallery), finite; greater is more alike. For distances pass them negated.
        q_pids: Person of each query, (queries,) integers.
        g_pids: Person of each gallery item, (gallery,) integers.
        q_camids: Camera of each query.
        g_camids: Camera of each gallery item.
        camera_rule: What is taken out of the gallery, per query.

    Raises:
        ValueError: When shapes do not fit, a similarity is not finite, or the rule is unknown.
    """
    matrix = np.asarray(similarity)
    if matrix.ndim != 2:
        raise ValueError(f"similarity must be (queries, gallery), got {matrix.shape}")
    if not np.isfinite(matrix).all():
        raise ValueError("similarity must be finite, got NaN or infinity")
    rule = CameraRule(camera_rule)
    queries = _labels("q_", q_pids, q_camids, matrix.shape[0])
    gallery = _labels("g_", g_pids, g_camids, matrix.shape[1])
    blocks = [
        _rank(
            matrix[start : start + _BLOCK],
            _Labels(queries.pids[start : start + _BLOCK], queries.camids[start : start + _BLOCK]),
            gallery,
            rule,
        )
        for start in range(0, max(1, len(matrix)), _BLOCK)
    ]
    first_rank = np.concatenate([block.first_rank for block in blocks])
    return RetrievalMetrics(
        rank1=_mean(first_rank <= 1),
        rank5=_mean(first_rank <= 5),
        rank10=_mean(first_rank <= 10),
        rank20=_mean(first_rank <= 20),
        mAP=_mean(np.concatenate([block.average_precision for block in blocks])),
        mINP=_mean(np.concatenate([block.inverse_negative_penalty for block in blocks])),
        chance_rank1=_mean(np.concatenate([block.chance for block in blocks])),
        valid_queries=len(first_rank),
        skipped_queries=len(matrix) - len(first_rank),
    )


def stable_descending(similarity: NDArray[Any]) -> NDArray[np.int64]:
    """Columns of each row from the greatest to the smallest, equal ones in their own order: (n, m)."""
    # Reversed, ascending and stable, then reversed back: descending and stable, for integers of any range too.
    order = similarity.shape[1] - 1 - np.argsort(similarity[:, ::-1], axis=1, kind="stable")[:, ::-1]
    return np.asarray(order, np.int64)


def kept_in_gallery(
    q_pids: ArrayLike, g_pids: ArrayLike, q_camids: ArrayLike, g_camids: ArrayLike, camera_rule: CameraRule | str
) -> NDArray[np.bool_]:
    """Which gallery items the camera rule leaves to each query: (queries, gallery)."""
    same_id = np.asarray(q_pids)[:, None] == np.asarray(g_pids)[None, :]
    same_cam = np.asarray(q_camids)[:, None] == np.asarray(g_camids)[None, :]
    return ~_removed(same_id, same_cam, CameraRule(camera_rule))


def _labels(prefix: str, pids: ArrayLike, camids: ArrayLike, count: int) -> _Labels:
    arrays = []
    for name, values in ((f"{prefix}pids", pids), (f"{prefix}camids", camids)):
        array = np.asarray(values)
        if array.shape != (count,):
            raise ValueError(f"{name} must be ({count},) to fit the similarity matrix, got {array.shape}")
        if count and not np.issubdtype(array.dtype, np.integer):
            raise ValueError(f"{name} must be integers, got {array.dtype}")
        arrays.append(array.astype(np.int64))
    return _Labels(*arrays)


def _rank(similarity: NDArray[Any], queries: _Labels, gallery: _Labels, rule: CameraRule) -> _PerQuery:
    same_id = queries.pids[:, None] == gallery.pids[None, :]
    kept = ~_removed(same_id, queries.camids[:, None] == gallery.camids[None, :], rule)
    valid = (same_id & kept).any(axis=1)
    same_id, kept = same_id[valid], kept[valid]
    order = stable_descending(similarity[valid])
    kept = np.take_along_axis(kept, order, axis=1)
    match = np.take_along_axis(same_id, order, axis=1) & kept
    matches = match.sum(axis=1)
    query, place = np.nonzero(match)
    rank = np.cumsum(kept, axis=1)[query, place]
    so_far = np.cumsum(match, axis=1)[query, place]
    last = np.cumsum(matches) - 1
    # bincount adds in order, so the sum is that of a plain loop to the last bit.
    precision = np.bincount(query, weights=so_far / rank, minlength=len(matches))
    return _PerQuery(
        first_rank=rank[last - matches + 1],
        average_precision=precision / matches,
        inverse_negative_penalty=matches / rank[last],
        chance=matches / kept.sum(axis=1),
    )


def _removed(same_id: NDArray[np.bool_], same_cam: NDArray[np.bool_], rule: CameraRule) -> NDArray[np.bool_]:
    if rule is CameraRule.NONE:
        return np.zeros_like(same_cam)
    return same_cam if rule is CameraRule.SAME_CAM else same_id & same_cam


def _mean(values: NDArray[np.float64] | NDArray[np.bool_]) -> float:
    """NaN of nothing, without NumPy's warning; summed in order."""
    return float(np.cumsum(values, dtype=np.float64)[-1] / len(values)) if len(values) else float("nan")
