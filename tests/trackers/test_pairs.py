"""Pairs of a track and a box that overlap."""

import numpy as np

from trackers.boxes import cxcywh_to_xyxy, iou_matrix
from trackers.pairs import corners, doubles, greatest, overlap_by, overlapping


def boxes(seed: int, count: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.concatenate([rng.uniform(0, 200, (2, count)), rng.uniform(5, 90, (2, count))])


def test_all_that_overlap_are_there_with_the_figures_of_the_plain_formulas() -> None:
    tracks, found = boxes(0, 20), boxes(1, 30)
    pairs = overlapping(corners(tracks), corners(found))
    overlap = iou_matrix(cxcywh_to_xyxy(tracks.T), cxcywh_to_xyxy(found.T))
    np.testing.assert_array_equal(np.stack([pairs.track, pairs.box]), overlap.nonzero())
    np.testing.assert_allclose(pairs.overlap, overlap[pairs.track, pairs.box])
    apart = tracks[:, pairs.track] - found[:, pairs.box]
    np.testing.assert_allclose(pairs.apart, apart)
    np.testing.assert_allclose(pairs.distance, (apart**2).sum(axis=0))
    tall = iou_matrix(*(cxcywh_to_xyxy([[0, cy, 1, h] for _, cy, _, h in each.T]) for each in (tracks, found)))
    np.testing.assert_allclose(pairs.height_overlap, tall[pairs.track, pairs.box])


def test_who_overlaps_by_so_much_is_told_as_by_the_plain_formula() -> None:
    first, second = boxes(2, 40), boxes(3, 50)
    overlap = iou_matrix(cxcywh_to_xyxy(first.T), cxcywh_to_xyxy(second.T))
    for share in (0.0, 0.1, 0.5):
        wanted = (overlap >= share) & (overlap > 0)
        assert 0 < np.count_nonzero(wanted) < wanted.size
        np.testing.assert_array_equal(overlap_by(share, corners(first), corners(second)), wanted)
    whole, half = corners(np.array([[2.0], [1.0], [4.0], [2.0]])), corners(np.array([[1.0], [1.0], [2.0], [2.0]]))
    assert overlap_by(0.5, whole, half).all()  # by just so much is by so much
    nothing = corners(np.zeros((4, 2)))
    assert not overlap_by(0.0, nothing, nothing).any()


def test_a_double_is_what_overlaps_one_before_it_that_is_none() -> None:
    rng = np.random.default_rng(0)
    for share in (0.5, 0.8, 0.9):
        found = np.repeat(boxes(4, 20), 4, axis=1)
        found[:2] += rng.normal(0, 2, (2, 80))
        found = found[:, rng.permutation(80)]
        overlap, out = iou_matrix(cxcywh_to_xyxy(found.T), cxcywh_to_xyxy(found.T)), []
        for row in range(80):
            if any(overlap[row, before] >= share for before in range(row) if before not in out):
                out.append(row)
        assert 0 < len(out) < 60
        assert doubles(share, corners(found)).tolist() == out


def test_there_are_no_doubles_of_none_or_one_and_equal_boxes_are_doubles_of_the_first() -> None:
    assert [doubles(0.9, corners(boxes(0, count))).tolist() for count in (0, 1)] == [[], []]
    assert doubles(0.99, corners(np.repeat(boxes(0, 1), 4, axis=1))).tolist() == [1, 2, 3]


def test_touching_is_no_overlap_and_a_box_of_no_size_has_none() -> None:
    tracks = np.array([[10.0, 10.0, 10.0, 10.0], [30.0, 10.0, -4.0, 10.0]]).T
    found = np.array([[20.0, 10.0, 10.0, 10.0], [30.0, 10.0, 8.0, 10.0]]).T
    pairs = overlapping(corners(tracks), corners(found))
    assert pairs.overlap.tolist() == [0.0]
    assert (pairs.track[0], pairs.box[0]) == (1, 1)


def test_the_greatest_value_of_each_place_is_found() -> None:
    values = greatest(np.array([0.2, 0.7, 0.3]), np.array([2, 0, 2]), 4)
    assert values.tolist() == [0.7, 0.0, 0.3, 0.0]
