"""The gallery against brute force in float64."""

import ctypes
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from reid import resident
from reid.blocks import Block, DeviceError, NoRoomError
from reid.gallery import Approximation, Gallery, index_device

ROWS = 4096  # of a block: small, so that there are several of them
Answer = tuple[list[list[int]], list[list[float]]]


def unit(rng: np.random.Generator, n: int, d: int) -> np.ndarray:
    rows = rng.normal(size=(n, d))
    return halved(rows / np.linalg.norm(rows, axis=1, keepdims=True))


def halved(rows: np.ndarray) -> np.ndarray:
    """As the gallery keeps them."""
    return rows.astype(np.float16).astype(np.float32)


def brute_force(ids: list[int], vectors: np.ndarray, queries: np.ndarray, k: int, allowed: set[int] | None) -> Answer:
    """One query after the other, with Python's sort."""
    all_ids, all_cosines = [], []
    for query in queries.astype(np.float64):
        scored = sorted(
            (-float(np.sum(vector.astype(np.float64) * query)), identity)
            for identity, vector in zip(ids, vectors, strict=True)
            if allowed is None or identity in allowed
        )[:k]
        gap = k - len(scored)
        all_ids.append([identity for _, identity in scored] + [-1] * gap)
        all_cosines.append([-cosine for cosine, _ in scored] + [-np.inf] * gap)
    return all_ids, all_cosines


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_answers_are_those_of_brute_force_with_equal_cosines_ordered_by_id(data: st.DataObject) -> None:
    rng = np.random.default_rng(data.draw(st.integers(0, 10_000)))
    dimension, n = data.draw(st.integers(1, 40)), data.draw(st.integers(0, 60))
    distinct = unit(rng, max(1, data.draw(st.sampled_from([1, 3, n]))), dimension)
    vectors = distinct[rng.integers(0, len(distinct), n)]  # copies, so that many cosines are equal
    ids = rng.permutation(10 * n + 1)[:n].tolist()
    queries = np.concatenate([unit(rng, 2, dimension), distinct[:1]])
    k = data.draw(st.integers(1, 70))
    allowed = data.draw(st.none() | st.just(rng.permutation(10 * n + 1)[: 5 * n]))
    gallery = Gallery(dimension)
    for part in np.array_split(np.arange(n), 3):
        gallery.add(np.array(ids, np.int64)[part], vectors[part])
    found, cosines = gallery.search(queries, k, allowed)
    expected = brute_force(ids, vectors, queries, k, None if allowed is None else set(allowed.tolist()))
    assert found.tolist() == expected[0]
    limited = np.where(np.isinf(expected[1]), -np.inf, np.clip(expected[1], -1, 1))  # halves may be longer than 1
    np.testing.assert_allclose(cosines, limited, rtol=0, atol=1e-7)  # rounded to float32 when given out
    assert (found.dtype, cosines.dtype) == (np.int64, np.float32)


def test_a_thousand_copies_of_one_vector_are_found_by_id() -> None:
    rng = np.random.default_rng(0)
    vector = unit(rng, 1, 64)
    gallery = Gallery(64)
    ids = rng.permutation(1000)
    gallery.add(ids, np.repeat(vector, 1000, 0))
    found, cosines = gallery.search(vector, 5)
    assert found.tolist() == [[0, 1, 2, 3, 4]]
    np.testing.assert_allclose(cosines, 1.0, atol=1e-6)


def test_cosines_closer_than_float32_sums_can_tell_are_told_apart() -> None:
    rng = np.random.default_rng(4)
    base = unit(rng, 1, 512)
    vectors = base + rng.normal(size=(300, 512)) * 1e-5  # cosines differ by about the rounding of a float32 sum
    vectors = halved(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))
    gallery = Gallery(512)
    gallery.add(np.arange(300), vectors)
    queries = base + unit(rng, 30, 512) / 2
    queries = (queries / np.linalg.norm(queries, axis=1, keepdims=True)).astype(np.float32)
    expected, _ = brute_force(list(range(300)), vectors, queries, 10, None)
    assert gallery.search(queries, 10)[0].tolist() == expected


def test_the_filter_comes_before_the_cut() -> None:
    rng = np.random.default_rng(1)
    vectors = unit(rng, 500, 16)
    gallery = Gallery(16)
    gallery.add(np.arange(500), vectors)
    worst = np.argsort(vectors @ vectors[0])[:3]
    found, _ = gallery.search(vectors[:1], 3, allowed=worst)
    assert sorted(found[0].tolist()) == sorted(worst.tolist())


def test_ids_that_are_allowed_but_unknown_have_no_effect() -> None:
    gallery = Gallery(2)
    gallery.add([5], [[1, 0]])
    found, cosines = gallery.search([[1, 0]], 3, allowed=[99, 5, 5])
    assert found.tolist() == [[5, -1, -1]]
    assert cosines.tolist() == [[1.0, -np.inf, -np.inf]]
    assert gallery.search([[1, 0]], 1, allowed=[])[0].tolist() == [[-1]]


def test_an_empty_gallery_answers_minus_one_and_minus_infinity() -> None:
    found, cosines = Gallery(3).search(np.eye(3)[:2], 4)
    assert (found == -1).all()
    assert (cosines == -np.inf).all()
    assert found.shape == cosines.shape == (2, 4)


def test_no_queries_get_no_answers() -> None:
    gallery = Gallery(3)
    gallery.add([1], [[0, 0, 1]])
    assert gallery.search(np.empty((0, 3)), 4)[0].shape == (0, 4)


def test_what_is_removed_is_found_no_more_and_may_come_back_changed() -> None:
    gallery = Gallery(2)
    gallery.add([7, 8], [[1, 0], [0, 1]])
    gallery.remove([7])
    assert gallery.search([[1, 0]], 2)[0].tolist() == [[8, -1]]
    assert (len(gallery), 7 in gallery, gallery.ids.tolist()) == (1, False, [8])
    gallery.add([7], [[0, -1]])
    np.testing.assert_array_equal(gallery.vectors([8, 7, 8]), [[0, 1], [0, -1], [0, 1]])


def test_large_ids_keep_all_their_bits() -> None:
    gallery = Gallery(2)
    gallery.add([2**62 + 1], [[1, 0]])
    assert gallery.search([[1, 0]], 1)[0].tolist() == [[2**62 + 1]]


@pytest.mark.parametrize(
    ("ids", "vectors", "message"),
    [
        ([1], [[1, 0]], r"vectors must be \(n, 3\), got \(1, 2\)"),
        ([1], [1, 0, 0], r"vectors must be \(n, 3\), got \(3,\)"),
        ([1, 2], [[1, 0, 0], [0, 2, 0]], "vectors must have rows of length 1, got 2 in row 1"),
        ([1], [[np.nan, 0, 0]], "vectors must have rows of length 1, got nan in row 0"),
        ([1, 2], [[1, 0, 0]], "as many rows, got 2 and 1"),
        ([3, -4], np.eye(3)[:2], "ids must not be negative, got -4 in row 1"),
        ([3, 3], np.eye(3)[:2], "ids must not repeat, got more than once: 3"),
        ([3, 11], np.eye(3)[:2], "ids are in the gallery already: 11"),
        ([[3]], np.eye(3)[:1], r"ids must be \(n,\), got \(1, 1\)"),
        ([0.5], np.eye(3)[:1], "ids must be integers, got float64"),
    ],
)
def test_what_cannot_be_added_is_named_and_nothing_of_it_is_added(ids, vectors, message: str) -> None:
    gallery = Gallery(3)
    gallery.add([11], [[0, 0, 1]])
    with pytest.raises(ValueError, match=message):
        gallery.add(ids, vectors)
    assert gallery.ids.tolist() == [11]
    assert gallery.search(np.eye(3), 5)[0].tolist() == [[11, -1, -1, -1, -1]] * 3


def test_ids_that_are_not_there_cannot_be_removed_or_read() -> None:
    gallery = Gallery(2)
    gallery.add([1], [[1, 0]])
    with pytest.raises(ValueError, match=r"not in the gallery: 2, 3, 4, 5, 6, \.\.\. \(6 in all\)"):
        gallery.remove([1, 2, 3, 4, 5, 6, 7])
    with pytest.raises(ValueError, match="not in the gallery: 9"):
        gallery.vectors([9])
    with pytest.raises(ValueError, match="must not repeat"):
        gallery.remove([1, 1])
    assert len(gallery) == 1


def test_a_bad_question_is_refused() -> None:
    gallery = Gallery(2)
    with pytest.raises(ValueError, match="k must be at least 1, got 0"):
        gallery.search([[1, 0]], 0)
    with pytest.raises(ValueError, match="queries must have rows of length 1, got 0 in row 0"):
        gallery.search([[0, 0]], 1)
    with pytest.raises(ValueError, match="dimension must be at least 1"):
        Gallery(0)


def test_adding_nothing_is_nothing() -> None:
    gallery = Gallery(4)
    gallery.add([], np.empty((0, 4)))
    gallery.remove([])
    assert len(gallery) == 0
    assert gallery.vectors([]).shape == (0, 4)


def test_of_dense_and_of_scattered_ids_those_are_found_that_are_allowed() -> None:
    rng = np.random.default_rng(8)
    vectors = unit(rng, 600, 8)
    some = 9_000 + np.sort(rng.permutation(1_500)[:600])
    left = np.setdiff1d(np.arange(600), np.arange(0, 600, 50))
    for ids in (some, 1_000 * some):  # every second or third number, and hardly any
        gallery = Gallery(8)
        gallery.add(ids, vectors)
        gallery.remove(ids[::50])
        allowed = np.concatenate([ids[::2], ids[::3] + 1, [0, 1, ids[-1] + 5, 10**12, -(10**12)]])
        wanted, _ = brute_force(ids[left].tolist(), vectors[left], vectors[:4], 600, set(allowed.tolist()))
        found, _ = gallery.search(vectors[:4], 600, allowed)
        assert found.tolist() == wanted


def test_full_blocks_a_tail_and_holes_answer_as_brute_force_does() -> None:
    rng = np.random.default_rng(5)
    ids = rng.permutation(40_000)[:9_500]
    vectors = unit(rng, 9_500, 12)
    vectors[rng.integers(0, 9_500, 4_000)] = vectors[0]  # ties over all blocks
    gallery = Gallery(12, block_rows=ROWS)
    gallery.add(ids[:5_000], vectors[:5_000])
    gallery.add(ids[5_000:], vectors[5_000:])
    gone = rng.permutation(9_500)[:1_000]
    gallery.remove(ids[gone])
    left = np.setdiff1d(np.arange(9_500), gone)
    queries = np.concatenate([unit(rng, 2, 12), vectors[:1]])
    for allowed in (None, ids[rng.permutation(9_500)[:3_000]]):
        expected = brute_force(
            ids[left].tolist(), vectors[left], queries, 50, None if allowed is None else set(allowed.tolist())
        )
        assert gallery.search(queries, 50, allowed)[0].tolist() == expected[0]
    assert (gallery.vectors(ids[left[:50]]) == vectors[left[:50]]).all()


def test_answers_are_the_same_before_and_after_its_blocks_are_quick() -> None:
    rng = np.random.default_rng(11)
    vectors = unit(rng, 9_000, 24)
    vectors[rng.integers(0, 9_000, 2_000)] = vectors[0]
    gallery, whole = Gallery(24, block_rows=ROWS), unit(rng, 3, 24)
    gallery.add(np.arange(9_000), vectors)
    assert not any(block.is_rounded for block in gallery._blocks)  # nobody has searched
    before = gallery.search(whole, 60)
    gallery.settle()
    assert [block.is_rounded for block in gallery._blocks] == [True, True]
    for one, other in zip(before, gallery.search(whole, 60), strict=True):
        assert (one == other).all()


def test_a_program_that_ends_after_its_first_search_does_not_wait_for_the_blocks() -> None:
    program = """if True:
        import time, numpy as np
        from reid.blocks import Block
        from reid.gallery import Gallery
        rows = np.eye(8, dtype=np.float16)[np.arange(20 * 4096) % 8]
        Block.round = lambda self: time.sleep(1.0)
        gallery = Gallery(8, block_rows=4096)
        gallery.add(np.arange(len(rows)), rows)
        gallery.search(rows[:1], 1)
        print(time.time())
    """
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert time.time() - float(done.stdout) < 5  # of the 20 that all would take


@pytest.mark.parametrize("device", [None, "cpu"])
@pytest.mark.parametrize("when", ["before it is quick", "while it is made quick", "after"])
def test_nothing_is_left_of_what_was_removed(monkeypatch: pytest.MonkeyPatch, device: str | None, when: str) -> None:
    rng = np.random.default_rng(23)
    vectors = unit(rng, ROWS + 100, 16)
    gallery, gone = Gallery(16, block_rows=ROWS, device=device), [7, ROWS - 1, ROWS + 50]
    gallery.add(np.arange(len(vectors)), vectors)
    if when == "before it is quick":
        gallery.remove(gone)
    for name in ("round", "place"):
        plain = getattr(Block, name)

        def make_quick(*given: Any, plain: Any = plain) -> None:
            plain(*given)
            if when == "while it is made quick" and 7 in gallery:
                made, given[0]._rounded, given[0].resident = (given[0]._rounded, given[0].resident), None, None
                gallery.remove(gone)
                given[0]._rounded, given[0].resident = made

        monkeypatch.setattr(Block, name, make_quick)
    gallery.settle()
    if when == "after":
        gallery.remove(gone)
    (block,) = gallery._blocks
    assert not gallery._tail[50].any()
    assert not block.rows(np.array(gone[:2])).any()
    if device is None:
        assert block._rounded is not None
        assert (block._rounded.codes[gone[:2]] == 128).all()
        assert not (block._rounded.codes[8] == 128).all()
    else:
        assert block.resident is not None
        assert not block.resident[gone[:2]].any()
    left = np.setdiff1d(np.arange(len(vectors)), gone)
    wanted, _ = brute_force(left.tolist(), vectors[left], vectors[:3], 20, None)
    assert gallery.search(vectors[:3], 20)[0].tolist() == wanted


def test_many_removals_give_their_memory_back_and_lose_nothing_else() -> None:
    rng = np.random.default_rng(6)
    vectors = unit(rng, 12_000, 8)
    gallery = Gallery(8, block_rows=ROWS)
    gallery.add(np.arange(12_000), vectors)
    gallery.remove(np.arange(0, 12_000, 2))
    assert (len(gallery), len(gallery.ids)) == (6_000, 6_000)
    assert gallery.search(vectors[:20], 1)[0][1::2, 0].tolist() == list(range(1, 20, 2))
    gallery.add([4], vectors[4:5])
    assert gallery.search(vectors[4:5], 1)[0].tolist() == [[4]]


def test_beyond_the_stated_size_an_inverted_file_answers_and_says_so() -> None:
    rng = np.random.default_rng(7)
    people = unit(rng, 300, 16)
    vectors = people[np.arange(9_000) % 300] + rng.normal(size=(9_000, 16)) * 0.02
    vectors = halved(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))
    gallery = Gallery(16, approximation=Approximation(beyond=8_000, probes=0.2), block_rows=ROWS)
    gallery.add(np.arange(8_000), vectors[:8_000])
    assert gallery.is_exact
    gallery.add(np.arange(8_000, 9_000), vectors[8_000:])
    assert not gallery.is_exact
    queries = vectors[rng.integers(0, 9_000, 40)]
    allowed = np.arange(0, 9_000, 3)
    exact = Gallery(16, block_rows=ROWS)
    exact.add(np.arange(9_000), vectors)
    for wanted in (None, allowed):
        found, true = gallery.search(queries, 10, wanted)[0], exact.search(queries, 10, wanted)[0]
        hit = np.mean([len(set(a) & set(b)) / 10 for a, b in zip(found.tolist(), true.tolist(), strict=True)])
        assert hit > 0.95
        assert wanted is None or np.isin(found, wanted).all()
    gallery.remove([5])
    assert 5 not in gallery.search(vectors[5:6], 10)[0]
    gallery.add(np.arange(20_000, 25_000), vectors[:5_000])  # blocks go on being sealed
    assert set(gallery.search(vectors[7:8], 2)[0][0].tolist()) == {7, 20_007}
    assert (gallery.vectors([7, 20_007]) == vectors[7]).all()


def test_an_inverted_file_finds_k_whenever_k_are_allowed() -> None:
    rng = np.random.default_rng(9)
    people = unit(rng, 300, 16)
    vectors = people[np.arange(9_000) % 300] + rng.normal(size=(9_000, 16)) * 0.02
    vectors = halved(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))
    gallery, exact = (
        Gallery(16, approximation=Approximation(beyond=8_000, probes=0.02), block_rows=ROWS),
        Gallery(16, block_rows=ROWS),
    )
    for each in (gallery, exact):
        each.add(np.arange(9_000), vectors)
    assert not gallery.is_exact
    queries = vectors[:20]
    few = rng.choice(9_000, 12, replace=False)  # of other people: in lists that are far from the queries
    assert gallery.search(queries, 10, few)[0].tolist() == exact.search(queries, 10, few)[0].tolist()
    assert (gallery.search(queries, 15, few)[0][:, 12:] == -1).all()
    many = np.arange(0, 9_000, 2)  # the nearest lists have some hundreds of them
    assert (gallery.search(queries, 4_000, many)[0] >= 0).all()


@pytest.mark.parametrize(("beyond", "probes"), [(0, 0.1), (5, 0.0), (5, 1.5)])
def test_an_approximation_that_makes_no_sense_is_refused(beyond: int, probes: float) -> None:
    with pytest.raises(ValueError, match="must be"):
        Approximation(beyond=beyond, probes=probes)


def test_searches_go_on_while_blocks_fill_and_rows_go() -> None:
    rng = np.random.default_rng(8)
    vectors = unit(rng, 10_000, 8)
    gallery = Gallery(8, block_rows=ROWS)
    gallery.add(np.arange(100), vectors[:100])
    errors: list[BaseException] = []
    done = threading.Event()

    def look() -> None:
        try:
            while not done.is_set():
                found, cosines = gallery.search(vectors[:3], 1)
                assert found[:, 0].tolist() == [0, 1, 2]
                assert (cosines > 0.999).all()
        except BaseException as error:  # noqa: BLE001 - handed to the test's own thread
            errors.append(error)

    readers = [threading.Thread(target=look) for _ in range(3)]
    for reader in readers:
        reader.start()
    for begin in range(100, 10_000, 300):
        part = np.arange(begin, begin + 300)
        gallery.add(part, vectors[part])
        gallery.remove(part[::2])
    done.set()
    for reader in readers:
        reader.join()
    assert not errors
    assert len(gallery) == 100 + 33 * 150


def test_threads_add_remove_and_search_at_once_without_a_wrong_answer() -> None:
    rng = np.random.default_rng(2)
    vectors = unit(rng, 400, 8)
    gallery = Gallery(8, block_rows=ROWS)
    errors: list[BaseException] = []

    def work(part: int) -> None:
        try:
            for identity in range(part * 100, part * 100 + 100):
                gallery.add([identity], vectors[identity : identity + 1])
                found, _ = gallery.search(vectors[identity : identity + 1], 1)
                assert found[0, 0] == identity
                if identity % 2:
                    gallery.remove([identity])
        except BaseException as error:  # noqa: BLE001 - handed to the test's own thread
            errors.append(error)

    threads = [threading.Thread(target=work, args=(part,)) for part in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert gallery.ids.tolist() == list(range(0, 400, 2))


def test_many_who_search_at_once_get_what_each_gets_alone() -> None:
    rng = np.random.default_rng(5)
    gallery = Gallery(16, block_rows=ROWS)
    vectors = unit(rng, 9000, 16)
    gallery.add(np.arange(9000), vectors)
    gallery.remove(np.arange(0, 9000, 7))
    queries = vectors[:40]
    allowed = [None if n % 3 == 0 else np.flatnonzero(rng.random(9000) < 0.4) for n in range(40)]
    alone = [gallery.search(query[None], 1 + n, allowed[n]) for n, query in enumerate(queries)]
    begin = threading.Barrier(40)

    def ask(n: int) -> tuple[np.ndarray, np.ndarray]:
        begin.wait()
        return gallery.search(queries[n][None], 1 + n, allowed[n])

    with ThreadPoolExecutor(40) as pool:
        together = list(pool.map(ask, range(40)))
    for one, other in zip(alone, together, strict=True):
        assert np.array_equal(one[0], other[0])
        assert np.array_equal(one[1], other[1])
    ids = gallery.search(queries, 5)[0]
    for n in range(40):
        assert np.array_equal(ids[n], gallery.search(queries[n][None], 5)[0][0])


def test_half_precision_is_taken_as_it_is() -> None:
    rng = np.random.default_rng(6)
    vectors = unit(rng, 9001, 8).astype(np.float16)
    straight, converted = Gallery(8, block_rows=ROWS), Gallery(8, block_rows=ROWS)
    straight.add(np.arange(9001), vectors)
    for part in np.array_split(np.arange(9001), 11):
        converted.add(part, vectors[part].astype(np.float32))
    assert np.array_equal(straight.vectors(np.arange(9001)), vectors.astype(np.float32))
    for ours, theirs in zip(straight.search(vectors[::900], 30), converted.search(vectors[::900], 30), strict=True):
        assert np.array_equal(ours, theirs)
    with pytest.raises(ValueError, match="in row 5000"):
        Gallery(8).add(np.arange(9001), np.where(np.arange(9001)[:, None] == 5000, 2, 1).astype(np.float16) * vectors)


def test_several_sets_in_one_pass_get_what_each_gets_alone() -> None:
    rng = np.random.default_rng(11)
    vectors = unit(rng, 9_000, 24)
    vectors[rng.integers(0, 9_000, 3_000)] = vectors[0]  # ties
    for gallery in (
        Gallery(24, block_rows=ROWS),
        Gallery(24, approximation=Approximation(beyond=8_000, probes=1.0), block_rows=ROWS),
    ):
        gallery.add(np.arange(9_000), vectors)
        sets = [np.arange(0, 9_000, 2), np.arange(1, 9_000, 2), np.arange(5), [], [12_345]]
        for k in (1, 20, 200):
            for own, (ids, cosines) in zip(sets, gallery.search_each(vectors[3], k, sets), strict=True):
                expected, its_cosines = gallery.search(vectors[3:4], k, own)
                assert ids.tolist() == expected[0][expected[0] >= 0].tolist()
                assert cosines.tolist() == its_cosines[0][expected[0] >= 0].tolist()
    with pytest.raises(ValueError, match="k must be at least 1"):
        gallery.search_each(vectors[0], 0, sets)
    with pytest.raises(ValueError, match=r"query must be \(n, 24\)"):
        gallery.search_each(vectors[0, :5], 1, sets)


def test_an_inverted_file_is_read_only_while_nobody_adds_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """FAISS moves its lists when it grows: a search that reads them meanwhile may read what is no longer there."""
    gallery = Gallery(8, approximation=Approximation(beyond=4096), block_rows=ROWS)
    rows = np.random.default_rng(0).normal(size=(5000, 8)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    gallery.add(np.arange(5000), rows)
    assert not gallery.is_exact
    free = []
    read = Gallery._reconstruct

    def others_may_add() -> bool:
        taken = gallery._lock.acquire(blocking=False)
        if taken:
            gallery._lock.release()
        return taken

    def watched(self: Gallery, *asked: Any) -> Any:
        with ThreadPoolExecutor(1) as other:
            free.append(other.submit(others_may_add).result())
        return read(self, *asked)

    monkeypatch.setattr(Gallery, "_reconstruct", watched)
    gallery.search(rows[:2], 3)
    gallery.search_each(rows[0], 3, [np.arange(100), np.arange(4000)])
    assert free
    assert not any(free)


@pytest.fixture
def blocked() -> tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.float32]]:
    """Ids, vectors of two blocks and a tail with many that are the same, and queries."""
    rng = np.random.default_rng(17)
    vectors = unit(rng, 9_000, 24)
    vectors[rng.integers(0, 9_000, 2_000)] = vectors[0]
    return rng.permutation(9_000), vectors, np.concatenate([unit(rng, 3, 24), vectors[:1]])


def answers(gallery: Gallery, ids: NDArray[np.int64], queries: NDArray[np.float32]) -> list[Any]:
    """Of a search of all, of some, of hardly any, and of several sets in one pass."""
    sets: list[Any] = [ids[::3], ids[:20], np.array([-1, 10**9])]
    found = [gallery.search(queries, 60, allowed)[0].tolist() for allowed in [None, *sets]]
    return [*found, [each[0].tolist() for each in gallery.search_each(queries[0], 60, sets)]]


@pytest.mark.parametrize(
    "device", ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU"))]
)
def test_answers_of_blocks_on_a_device_are_those_of_brute_force(blocked: Any, device: str) -> None:
    ids, vectors, queries = blocked
    gallery = Gallery(24, block_rows=ROWS, device=device)
    gallery.add(ids, vectors)
    gallery.remove(ids[5:900:7])
    gallery.settle()
    assert gallery.on_device == 2 * ROWS
    left = np.setdiff1d(np.arange(9_000), np.arange(5, 900, 7))
    wanted = [
        brute_force(ids[left].tolist(), vectors[left], queries, 60, None if some is None else set(some.tolist()))[0]
        for some in (None, ids[::3], ids[:20])
    ]
    found = answers(gallery, ids, queries)
    assert found[:3] == wanted
    assert found[4] == [wanted[1][0], [each for each in wanted[2][0] if each >= 0], []]


def test_what_has_no_room_on_a_device_is_looked_at_here(blocked: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    ids, vectors, queries = blocked
    placed = resident.place

    def place_first(rows: NDArray[np.float16], device: str) -> torch.Tensor:
        if gallery.on_device:
            raise NoRoomError("full")
        return placed(rows, device)

    monkeypatch.setattr(resident, "place", place_first)
    plain, gallery = Gallery(24, block_rows=ROWS), Gallery(24, block_rows=ROWS, device="cpu")
    for each in (plain, gallery):
        each.add(ids, vectors)
        each.settle()
    assert (gallery.on_device, [block.is_rounded for block in gallery._blocks]) == (ROWS, [False, True])
    assert answers(gallery, ids, queries) == answers(plain, ids, queries)
    gallery.remove(ids[:4_200])  # written anew: there may be room now
    monkeypatch.setattr(resident, "place", placed)
    gallery.settle()
    assert gallery.on_device == ROWS == gallery._sealed


def test_a_device_that_fails_is_left_once_and_answers_stay(
    blocked: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    ids, vectors, queries = blocked
    plain, gallery = Gallery(24, block_rows=ROWS), Gallery(24, block_rows=ROWS, device="cpu")
    for each in (plain, gallery):
        each.add(ids, vectors)
        each.settle()

    def fail(*_: Any) -> Any:
        raise RuntimeError("CUDA error: unspecified launch failure")

    monkeypatch.setattr(torch, "mv", fail)
    assert answers(gallery, ids, queries) == answers(plain, ids, queries)
    gallery.settle()
    assert (gallery.on_device, [block.is_rounded for block in gallery._blocks]) == (0, [True, True])
    assert answers(gallery, ids, queries) == answers(plain, ids, queries)
    gallery.add(10_000 + ids, vectors)  # new blocks stay here
    gallery.settle()
    assert gallery.on_device == 0
    told = [each for each in caplog.messages if "on the CPU from now on" in each]
    assert len(told) == 1
    assert "unspecified launch failure" in told[0]


def test_a_device_that_is_not_there_is_told_and_the_gallery_is_searched_here(
    blocked: Any, caplog: pytest.LogCaptureFixture
) -> None:
    ids, vectors, queries = blocked
    plain, gallery = Gallery(24, block_rows=ROWS), Gallery(24, block_rows=ROWS, device="cuda:99")
    for each in (plain, gallery):
        each.add(ids, vectors)
        each.settle()
    assert (gallery.on_device, [block.is_rounded for block in gallery._blocks]) == (0, [True, True])
    assert answers(gallery, ids, queries) == answers(plain, ids, queries)
    assert [each for each in caplog.messages if "cuda:99" in each]


def test_a_gpu_is_where_the_index_is_when_there_is_a_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [index_device(each) for each in ("cpu", "cuda", "cuda:1")] == [None, "cuda", "cuda:1"]
    monkeypatch.setattr(ctypes, "CDLL", lambda _: object())
    assert index_device("auto") == "cuda"

    def missing(name: str) -> None:
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr(ctypes, "CDLL", missing)
    assert index_device("auto") is None


def test_a_quarter_of_a_gpu_is_left_to_models(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = np.zeros((512, 1024), np.float16)  # 1 MiB
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (300 << 20, 1200 << 20))
    with pytest.raises(NoRoomError, match="300 of 1200 MiB"):
        resident.place(rows, "cuda:0")
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (302 << 20, 1200 << 20))
    if not torch.cuda.is_available():
        with pytest.raises(DeviceError, match="cuda:0"):  # there is room, and no GPU
            resident.place(rows, "cuda:0")
