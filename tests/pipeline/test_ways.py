"""Ways between cameras: shortest times, and the doubt about whoever came too soon."""

from datetime import timedelta

import pytest

from pipeline.ways import MOST_DOUBT, Stay, Way, Ways, gap_seconds
from tests.pipeline.factories import NOON


def stay(camera: str, start: float, end: float) -> Stay:
    return Stay(camera, NOON + timedelta(seconds=start), NOON + timedelta(seconds=end))


SITE = Ways([Way(("gate", "yard"), 20, 40), Way(("yard", "dock"), 10, 15), Way(("gate", "dock"), 60, 90)])


def test_times_are_those_of_the_shortest_way_in_both_directions() -> None:
    assert (SITE.least_seconds("gate", "dock"), SITE.typical_seconds("dock", "gate")) == (30, 55)
    assert SITE.least_seconds("gate", "gate") == 0
    assert SITE.least_seconds("gate", "roof") is None
    assert SITE.cameras == {"gate", "yard", "dock"}
    assert not Ways()


def test_doubt_grows_with_what_is_missing_of_the_least_time_and_never_exceeds_its_limit() -> None:
    before = stay("gate", 0, 5)
    assert SITE.doubt(before, stay("yard", 25, 30)) == 0
    assert SITE.doubt(before, stay("yard", 15, 30)) == pytest.approx(MOST_DOUBT / 2)
    assert SITE.doubt(stay("yard", 15, 30), before) == pytest.approx(MOST_DOUBT / 2)
    assert SITE.doubt(before, stay("yard", 3, 30)) == MOST_DOUBT
    assert SITE.doubt(before, stay("roof", 3, 30)) == 0
    assert gap_seconds(before, stay("yard", 3, 30)) == -2


def test_overlapping_views_cast_no_doubt() -> None:
    overlap = Ways([Way(("gate", "plaza"), 0, 5)])
    assert overlap.doubt(stay("gate", 0, 5), stay("plaza", 2, 6)) == 0


@pytest.mark.parametrize(
    ("ways", "message"),
    [
        ([(("gate", "gate"), 1, 2)], "gate twice"),
        ([(("gate", "yard"), 5, 2)], "min_seconds <= typical_seconds"),
        ([(("gate", "yard"), -1, 2)], "0 <= min_seconds"),
        ([(("gate", "yard"), 1, 2), (("yard", "gate"), 1, 2)], "two ways between yard and gate"),
    ],
)
def test_ways_that_make_no_sense_are_refused(ways: list[tuple[tuple[str, str], float, float]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Ways(Way(*each) for each in ways)
