"""k-reciprocal re-ranking against the paper's sets, written out in plain Python."""

import numpy as np
import pytest

from reid.metrics import evaluate
from reid.reranking import Reranking, rerank


def unit_rows(rng: np.random.Generator, count: int, width: int = 6) -> np.ndarray:
    """As fine as ``reid.embedding.cosines`` takes them, so that the plain product below is the same."""
    rows = rng.normal(size=(count, width))
    return np.round(rows / np.linalg.norm(rows, axis=1, keepdims=True) * 2**26) / 2**26


def slow(queries: np.ndarray, gallery: np.ndarray, k1: int, k2: int, original: float) -> np.ndarray:
    """Eq. 3-12 with Python's sets, one pair at a time; an item counts among its own neighbours."""
    rows = [*queries, *gallery]
    n = len(rows)
    plain = [[max(0.0, 2 - 2 * float(a @ b)) if a is not b else 0.0 for b in rows] for a in rows]
    distance = [[value / max(row) for value in row] for row in plain]
    ranked = [sorted(range(n), key=lambda other, row=row: (distance[row][other], other)) for row in range(n)]

    def reciprocal(item: int, k: int) -> set[int]:
        return {other for other in ranked[item][: k + 1] if item in ranked[other][: k + 1]}

    encoded = []
    for item in range(n):
        core = reciprocal(item, k1)
        members = set(core)
        for candidate in core:
            own = reciprocal(candidate, round(k1 / 2))
            if len(core & own) >= 2 / 3 * len(own):
                members |= own
        weights = [np.exp(-distance[item][other]) if other in members else 0.0 for other in range(n)]
        encoded.append(np.array(weights) / sum(weights))
    if k2 > 1:
        encoded = [np.mean([encoded[other] for other in ranked[item][:k2]], axis=0) for item in range(n)]
    result = np.zeros((len(queries), len(gallery)))
    for q in range(len(queries)):
        for g in range(len(gallery)):
            a, b = encoded[q], encoded[len(queries) + g]
            jaccard = 1 - np.minimum(a, b).sum() / np.maximum(a, b).sum()
            mixed = (1 - original) * jaccard + original * distance[q][len(queries) + g]
            result[q, g] = 1 - mixed
    return result


@pytest.mark.parametrize(("k1", "k2", "original"), [(20, 6, 0.3), (5, 3, 0.0), (3, 1, 0.7), (1, 1, 0.5), (4, 40, 0.2)])
def test_similarities_are_those_of_the_papers_sets(k1: int, k2: int, original: float) -> None:
    for seed in range(4):
        rng = np.random.default_rng(seed)
        q, g = unit_rows(rng, 7), unit_rows(rng, 19)
        np.testing.assert_allclose(rerank(q, g, Reranking(k1, k2, original)), slow(q, g, k1, k2, original), atol=1e-12)


def test_the_plain_distance_alone_changes_no_ranking() -> None:
    rng = np.random.default_rng(1)
    q, g = unit_rows(rng, 9), unit_rows(rng, 30)
    order = np.argsort(-rerank(q, g, Reranking(original=1.0)), axis=1)
    np.testing.assert_array_equal(order, np.argsort(-(q @ g.T), axis=1))


def test_neighbours_that_vouch_for_each_other_bring_a_match_forward() -> None:
    """Persons are tight groups, queries lie farther off: re-ranking finds more of them."""
    rng = np.random.default_rng(5)
    centres = unit_rows(rng, 30, 16)
    g_pids = np.repeat(np.arange(30), 6)
    gallery = centres[g_pids] + 0.13 * rng.normal(size=(180, 16))
    q_pids = np.repeat(np.arange(30), 3)
    queries = centres[q_pids] + 0.28 * rng.normal(size=(90, 16))
    q, g = (each / np.linalg.norm(each, axis=1, keepdims=True) for each in (queries, gallery))
    labels = (q_pids, g_pids, np.zeros(90, int), np.ones(180, int))
    plain = evaluate(q @ g.T, *labels, camera_rule="none")
    better = evaluate(rerank(q, g), *labels, camera_rule="none")
    assert better.mAP > plain.mAP + 0.03


def test_nothing_to_rank_keeps_its_shape() -> None:
    assert rerank(np.zeros((0, 4)), np.zeros((3, 4))).shape == (0, 3)
    assert rerank(np.zeros((2, 4)), np.zeros((0, 4))).shape == (2, 0)


@pytest.mark.parametrize(
    ("settings", "message"),
    [((0, 6, 0.3), "k1 and k2 must be at least 1, got 0 and 6"), ((20, 6, 1.5), r"original \(λ\) must be in \[0, 1\]")],
)
def test_settings_that_mean_nothing_are_refused(settings: tuple, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Reranking(*settings)


def test_features_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match=r"must be \(q, d\) and \(g, d\), got \(2, 3\) and \(2, 4\)"):
        rerank(np.zeros((2, 3)), np.zeros((2, 4)))
    with pytest.raises(ValueError, match="finite"):
        rerank(np.full((2, 3), np.nan), np.zeros((2, 3)))
