"""Which rows of a block could be among the nearest, against all of them in float64."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reid.blocks import Block, candidates, rows_of_a_block

ROWS = 4096


def unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float16)


def rows_like(kind: str, rng: np.random.Generator, count: int, dimension: int) -> np.ndarray:
    """As models make them, and as eight bits cannot bear them."""
    rows = rng.normal(size=(count, dimension))
    if kind == "people":  # a common direction, and a few hundred people around it
        rows = 3 + rng.normal(size=(300, dimension))[rng.integers(0, 300, count)] + rows / 5
    if kind == "one large dimension":
        rows[:, 0] *= 50
    if kind == "dimensions of all sizes":
        rows *= np.logspace(-6, 0, dimension)
    if kind == "copies":
        rows = rows[rng.integers(0, 7, count)]
    if kind == "one hot":
        rows = np.eye(dimension)[rng.integers(0, dimension, count)]
    return unit(rows)


KINDS = ["random", "people", "one large dimension", "dimensions of all sizes", "copies", "one hot"]


@settings(max_examples=25, deadline=None)
@given(
    st.sampled_from(KINDS), st.integers(0, 1000), st.sampled_from([3, 16, 61]), st.integers(1, 90), st.integers(0, 700),
    st.lists(st.sampled_from([0.0, 0.001, 0.1, 0.3, 0.7, 1.0]), min_size=1, max_size=3),
)  # fmt: skip
def test_nobody_who_is_among_the_first_is_missing_and_none_is_there_who_may_not_be(
    kind: str, seed: int, dimension: int, k: int, late: int, shares: list[float]
) -> None:
    rng = np.random.default_rng(seed)
    rows = rows_like(kind, rng, 2 * ROWS + late, dimension)
    blocks = [Block(rows[begin : begin + ROWS]) for begin in (0, ROWS)]
    for block in blocks[seed % 3 :]:  # both, one, none
        block.round()
    query = unit(rng.normal(size=(1, dimension))).astype(np.float32) if seed % 2 else rows[:1].astype(np.float32)
    masks = [rng.random(len(rows)) < share for share in shares]
    true = rows.astype(np.float64) @ query[0].astype(np.float64)
    for mask, found in zip(
        masks, candidates(blocks, rows[2 * ROWS :].astype(np.float32), query, k, masks), strict=True
    ):
        assert len(set(found.tolist())) == len(found)
        assert mask[found].all()
        allowed = np.flatnonzero(mask)
        kth = np.sort(true[allowed])[-min(k, len(allowed))] if len(allowed) else np.inf
        assert set(allowed[true[allowed] >= kth].tolist()) <= set(found.tolist())


@pytest.mark.parametrize("kind", KINDS)
def test_eight_bits_are_never_further_off_than_they_say(kind: str) -> None:
    rng = np.random.default_rng(3)
    rows = rows_like(kind, rng, ROWS, 48)
    block = Block(rows)
    block.round()
    for query in (rows[:1].astype(np.float32), unit(rng.normal(size=(1, 48))).astype(np.float32)):
        true = rows.astype(np.float64) @ query[0].astype(np.float64)
        cosines, numbers, rest = block.nearly_nearest(query, 40, None)
        assert len(set(numbers.tolist())) == 40
        np.testing.assert_allclose(cosines, true[numbers], atol=1e-6)  # in half precision, summed in float32
        assert np.delete(true, numbers).max() <= rest


def test_random_rows_are_known_by_eight_bits_nearly_as_they_are() -> None:
    rng = np.random.default_rng(4)
    rows = rows_like("random", rng, ROWS, 512)
    query = rows[:1].astype(np.float32)
    true = np.sort(rows.astype(np.float32) @ query[0])[::-1]
    block = Block(rows)
    assert not block.is_rounded
    block.round()
    assert block.is_rounded
    _, numbers, rest = block.nearly_nearest(query, 100, None)
    assert 0 in numbers
    assert rest - true[100] < 0.03  # else it is of no use, however right


def test_rows_come_back_as_they_were_put_in() -> None:
    rows = rows_like("random", np.random.default_rng(5), ROWS, 9)
    assert (Block(rows).rows(np.array([ROWS - 1, 0, 7])) == rows[[ROWS - 1, 0, 7]].astype(np.float32)).all()


def test_blocks_of_all_dimensions_are_of_about_one_size() -> None:
    assert [rows_of_a_block(d) for d in (2, 384, 512, 1024, 1280, 2048, 5000)] == [16384] * 3 + [8192] + [4096] * 3
