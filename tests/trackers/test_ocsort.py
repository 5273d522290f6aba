"""What OC-SORT adds to SORT: direction, recovery, and the gap filtered anew."""

from dataclasses import replace

import numpy as np
import pytest

from tests.trackers.scenes import people, run
from trackers.boxes import xyxy_to_cxcywh
from trackers.kalman import BoxFilter
from trackers.ocsort import OCSort, OCSortSettings
from trackers.structures import Detections


def box(x: float, y: float) -> list[float]:
    return [x - 20, y - 50, x + 20, y + 50]


def frame(*centres: tuple[float, float]) -> Detections:
    return Detections(np.array([box(*each) for each in centres]).reshape(-1, 4), np.full(len(centres), 0.9))


def test_it_tracks_as_sort_does_where_nothing_is_doubtful() -> None:
    frames = [people(10)] * 4 + [people(10, 300)] * 5
    assert run(OCSort(), frames) == [[1]] * 4 + [[1]] * 3 + [[1, 2]] * 2


def test_of_two_boxes_alike_in_overlap_the_one_ahead_is_taken() -> None:
    def chosen(weight: float) -> float:
        tracker = OCSort(OCSortSettings(direction_weight=weight))
        walk = [(100 + 8 * t, 200) for t in range(8)]
        for t, centre in enumerate(walk):
            tracker.update(frame(centre), pts_seconds=t / 10)
        # Foreseen at x = 164. Behind it and a little nearer, and ahead of it and a little farther.
        tracks = tracker.update(frame((164 - 9, 200), (164 + 10, 200)), pts_seconds=0.8)
        return float(tracks.xyxy[tracks.track_id == 1][0, 0]) + 20

    assert chosen(0.0) == 164 - 9
    assert chosen(0.0) != chosen(0.5) == 164 + 10


def test_a_person_who_stops_where_they_were_seen_last_is_recovered_there() -> None:
    walking = [frame((100 + 12 * t, 200)) for t in range(8)]  # last seen at x = 184
    standing = [frame((184, 200))] * 4
    # Five frames later the prediction is 72 pixels further on, with no overlap.
    ids = run(OCSort(), [*walking, *[Detections.empty()] * 5, *standing])
    assert ids[-1] == [1]


def test_a_found_track_goes_on_as_if_it_had_been_seen_on_the_line_between() -> None:
    walking = [(100 + 6 * t, 200) for t in range(8)]
    tracker = OCSort()
    for t, centre in enumerate(walking):
        tracker.update(frame(centre), pts_seconds=t / 10)
    for t in range(8, 12):
        tracker.update(Detections.empty(), pts_seconds=t / 10)
    tracker.update(frame((142 + 10, 200)), pts_seconds=1.2)  # found near where it was lost: it had all but stopped

    plain = BoxFilter()
    seen = [*walking, *((142 + 10 * k / 5, 200) for k in range(1, 6))]
    for t, centre in enumerate(seen):
        measured = xyxy_to_cxcywh(np.array([box(*centre)], np.float32))
        if t == 0:
            plain.append(measured)
        else:
            plain.predict(t / 10 - (t - 1) / 10)
            plain.update(np.array([0]), measured)
    state = tracker._table.filter
    np.testing.assert_allclose(state.mean, plain.mean, atol=1e-4)  # detections are float32
    np.testing.assert_allclose(state.velocity, plain.velocity, atol=1e-3)
    np.testing.assert_allclose(state.covariance, plain.covariance, atol=1e-6)


def test_tracks_lost_at_different_times_are_each_filtered_over_their_own_gap() -> None:
    """The same as with either of them alone."""
    upper = [(100 + 4 * t, 100) if not 5 <= t < 9 else None for t in range(12)]
    lower = [(600 - 4 * t, 400) if not 7 <= t < 9 else None for t in range(12)]

    def states(*walks: list) -> np.ndarray:
        tracker = OCSort()
        for t in range(12):
            tracker.update(frame(*(walk[t] for walk in walks if walk[t])), pts_seconds=t / 10)
        return np.concatenate([tracker._table.filter.mean, tracker._table.filter.velocity], axis=1)

    np.testing.assert_allclose(states(upper, lower), np.concatenate([states(upper), states(lower)]))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"direction_seconds": 0.0}, "direction_seconds must be a positive number, got 0.0"),
        ({"direction_weight": -1.0}, "direction_weight must be a number not below 0, got -1.0"),
        ({"confirm_hits": 0}, "confirm_hits must be 1 or more, got 0"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(changes: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(OCSortSettings(), **changes)
