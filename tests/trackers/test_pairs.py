"""Pairs of a track and a box that overlap."""

import numpy as np

from trackers.boxes import cxcywh_to_xyxy, iou_matrix
from trackers.pairs import corners, greatest, overlap_by, overlapping


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
    nothing = corners(np.zeros((4, 2)))
    assert not overlap_by(0.0, nothing, nothing).any()


def test_touching_is_no_overlap_and_a_box_of_no_size_has_none() -> None:
    tracks = np.array([[10.0, 10.0, 10.0, 10.0], [30.0, 10.0, -4.0, 10.0]]).T
    found = np.array([[20.0, 10.0, 10.0, 10.0], [30.0, 10.0, 8.0, 10.0]]).T
    pairs = overlapping(corners(tracks), corners(found))
    assert pairs.overlap.tolist() == [0.0]
    assert (pairs.track[0], pairs.box[0]) == (1, 1)


def test_the_greatest_value_of_each_place_is_found() -> None:
    values = greatest(np.array([0.2, 0.7, 0.3]), np.array([2, 0, 2]), 4)
    assert values.tolist() == [0.7, 0.0, 0.3, 0.0]
