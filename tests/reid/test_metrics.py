"""Retrieval metrics against a slow evaluator written from the definitions."""

import math

import numpy as np
import pytest

from reid.metrics import CameraRule, RetrievalMetrics, evaluate

Case = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def slow(case: Case, rule: str) -> RetrievalMetrics:
    """Definitions in plain Python: one query at a time, one gallery item at a time."""
    similarity, q_pids, g_pids, q_camids, g_camids = (each.tolist() for each in case)
    first_ranks, precisions, penalties, chances = [], [], [], []
    for row, pid, cam in zip(similarity, q_pids, q_camids, strict=True):
        left = []
        for item, value in enumerate(row):
            same_id, same_cam = g_pids[item] == pid, g_camids[item] == cam
            out = {"none": False, "same_id_same_cam": same_id and same_cam, "same_cam": same_cam}[rule]
            if not out:
                left.append((-value, item, same_id))
        left.sort()
        ranks = [rank for rank, (_, _, same_id) in enumerate(left, start=1) if same_id]
        if not ranks:
            continue
        total = 0.0
        for found, rank in enumerate(ranks, start=1):
            total += found / rank
        first_ranks.append(ranks[0])
        precisions.append(total / len(ranks))
        penalties.append(len(ranks) / ranks[-1])
        chances.append(len(ranks) / len(left))

    def mean(values: list[float]) -> float:
        total = 0.0
        for value in values:
            total += value
        return total / len(values) if values else math.nan

    return RetrievalMetrics(
        rank1=mean([rank <= 1 for rank in first_ranks]),
        rank5=mean([rank <= 5 for rank in first_ranks]),
        rank10=mean([rank <= 10 for rank in first_ranks]),
        rank20=mean([rank <= 20 for rank in first_ranks]),
        mAP=mean(precisions),
        mINP=mean(penalties),
        chance_rank1=mean(chances),
        valid_queries=len(first_ranks),
        skipped_queries=len(q_pids) - len(first_ranks),
    )


def random_case(seed: int) -> Case:
    rng = np.random.default_rng(seed)
    queries, gallery = int(rng.integers(0, 12)), int(rng.integers(0, 50))
    people, cameras = int(rng.integers(1, 9)), int(rng.integers(1, 4))
    levels = int(rng.choice([2, 5, 1000]))  # few levels: many ties
    return (
        rng.integers(0, levels, (queries, gallery)) / levels,
        rng.integers(0, people, queries),
        rng.integers(0, people, gallery),
        rng.integers(0, cameras, queries),
        rng.integers(0, cameras, gallery),
    )


def same(a: RetrievalMetrics, b: RetrievalMetrics) -> bool:
    """Equal to the last bit, NaN equal to NaN."""
    return repr(a) == repr(b)


@pytest.mark.parametrize("rule", list(CameraRule))
def test_every_figure_is_exactly_that_of_the_definitions(rule: CameraRule) -> None:
    seen = 0
    for seed in range(200):
        case = random_case(seed)
        ours = evaluate(*case, camera_rule=rule)
        assert same(ours, slow(case, rule.value)), seed
        seen += ours.valid_queries
    assert seen > 400


def test_more_queries_than_are_sorted_at_once_change_nothing() -> None:
    rng = np.random.default_rng(0)
    case = (
        rng.integers(0, 50, (1100, 40)) / 50,
        rng.integers(0, 9, 1100),
        rng.integers(0, 9, 40),
        rng.integers(0, 3, 1100),
        rng.integers(0, 3, 40),
    )
    assert same(evaluate(*case, camera_rule="same_id_same_cam"), slow(case, "same_id_same_cam"))


def test_the_other_direction_is_the_transpose_with_roles_exchanged() -> None:
    for seed in range(50):
        similarity, q_pids, g_pids, q_camids, g_camids = random_case(seed)
        v2i = evaluate(similarity.T, g_pids, q_pids, g_camids, q_camids, camera_rule="same_id_same_cam")
        assert same(v2i, slow((similarity.T, g_pids, q_pids, g_camids, q_camids), "same_id_same_cam"))


def test_a_case_counted_by_hand() -> None:
    # Order of the gallery for the query: items 0 (other), 1 (match), 2 (other), 3 (match).
    result = evaluate([[0.9, 0.8, 0.7, 0.6]], [1], [2, 1, 3, 1], [0], [1, 1, 1, 1], camera_rule="none")
    assert (result.rank1, result.rank5) == (0.0, 1.0)
    assert result.mAP == (1 / 2 + 2 / 4) / 2
    assert result.mINP == 2 / 4
    assert result.chance_rank1 == 2 / 4


def test_camera_rules_take_out_what_they_say() -> None:
    similarity = [[0.9, 0.8, 0.7]]
    labels = ([1], [1, 2, 1], [0], [0, 0, 1])  # the same person in the same camera, another there, the person elsewhere
    ranks = {rule: evaluate(similarity, *labels, camera_rule=rule) for rule in CameraRule}
    assert ranks[CameraRule.NONE].mAP == (1 + 2 / 3) / 2
    assert ranks[CameraRule.SAME_ID_SAME_CAM].mAP == 1 / 2
    assert ranks[CameraRule.SAME_CAM].mAP == 1.0


def test_equal_similarities_are_ranked_in_the_gallerys_order() -> None:
    labels = ([1], [2, 1], [0], [1, 1])
    assert evaluate([[0.5, 0.5]], *labels, camera_rule="none").rank1 == 0.0
    assert evaluate([[0.5, 0.5]], [1], [1, 2], [0], [1, 1], camera_rule="none").rank1 == 1.0


def test_queries_without_a_match_count_in_no_mean_but_are_counted() -> None:
    result = evaluate([[0.5], [0.5]], [1, 2], [1], [0, 0], [1], camera_rule="none")
    assert (result.valid_queries, result.skipped_queries, result.rank1) == (1, 1, 1.0)


def test_chance_is_what_random_orders_reach() -> None:
    rng = np.random.default_rng(3)
    q_pids, g_pids = rng.integers(0, 5, 200), rng.integers(0, 5, 40)
    q_cams, g_cams = rng.integers(0, 2, 200), rng.integers(0, 2, 40)
    results = [
        evaluate(rng.random((200, 40)), q_pids, g_pids, q_cams, g_cams, camera_rule="same_cam") for _ in range(60)
    ]
    # 12,000 draws of about 0.2: three standard errors are 0.011.
    assert np.mean([each.rank1 for each in results]) == pytest.approx(results[0].chance_rank1, abs=0.011)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([0.5], [1], [1], [0], [0]), r"similarity must be \(queries, gallery\), got \(1,\)"),
        (([[np.nan]], [1], [1], [0], [0]), "similarity must be finite"),
        (([[0.5]], [1, 2], [1], [0], [0]), r"q_pids must be \(1,\) to fit the similarity matrix, got \(2,\)"),
        (([[0.5]], [1], [1], [0], [0, 1]), r"g_camids must be \(1,\) to fit the similarity matrix, got \(2,\)"),
        (([[0.5]], ["a"], [1], [0], [0]), "q_pids must be integers"),
    ],
)
def test_what_does_not_fit_is_named(arguments, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        evaluate(*arguments, camera_rule="none")


def test_an_unknown_rule_is_refused() -> None:
    with pytest.raises(ValueError, match="'same_camera' is not a valid CameraRule"):
        evaluate([[0.5]], [1], [1], [0], [0], camera_rule="same_camera")
