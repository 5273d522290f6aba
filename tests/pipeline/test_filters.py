"""Filters over columns against the same filters one tracklet at a time."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import product
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from pipeline.errors import UsageError
from pipeline.filters import Catalogue, SearchFilter, TimeOfDay, parse_span
from pipeline.stored import Columns, StoredTracklet
from pipeline.ways import Stay
from reid.modality import Modality
from tests.pipeline.factories import NOON

BERLIN, UTC_ZONE = ZoneInfo("Europe/Berlin"), ZoneInfo("UTC")


def stored(row: int, start: datetime, *, seconds: float = 5.0, camera: str = "gate", **more: object) -> StoredTracklet:
    values = {"modality": Modality.RGB, "person_id": 1, "quality": 0.5, "zones": ()} | more
    return StoredTracklet(
        row=row, tracklet_id=f"{camera}-{row}", camera_id=camera, start=start, end=start + timedelta(seconds=seconds),
        rejected=None, frames=9, best_crop=None, **values,  # type: ignore[arg-type]
    )  # fmt: skip


def rows(catalogue: Catalogue, wanted: SearchFilter, zone: ZoneInfo = UTC_ZONE, **more: object) -> list[int]:
    mask, removed = catalogue.select(wanted, zone=zone, **more)  # type: ignore[arg-type]
    assert sum(removed.values()) + int(mask.sum()) == len(catalogue)
    return catalogue.rows[mask].tolist()


CHOICES: dict[str, Any] = {
    "modalities": frozenset({Modality.NIR, Modality.THERMAL}),
    "cameras": frozenset({"cam0", "cam2", "cam4"}),
    "start": NOON + timedelta(hours=3),
    "end": NOON + timedelta(hours=20),
    "time_of_day": TimeOfDay.parse("18:00-06:00"),
    "zones": frozenset({"ramp"}),
    "min_quality": 0.3,
    "persons": frozenset({1, 3}),
}
# What each of the choices lets pass, of one tracklet, and without what is under test.
PASSES: dict[str, Callable[[StoredTracklet], bool]] = {
    "modalities": lambda each: each.modality in (Modality.NIR, Modality.THERMAL),
    "cameras": lambda each: each.camera_id in ("cam0", "cam2", "cam4"),
    "start": lambda each: each.end >= NOON + timedelta(hours=3),
    "end": lambda each: each.start < NOON + timedelta(hours=20),
    # Nobody stays longer than four hours; in UTC.
    "time_of_day": lambda each: any(not 6 <= at.hour < 18 for at in (each.start, each.end)),
    "zones": lambda each: "ramp" in each.zones,
    "min_quality": lambda each: each.quality >= 0.3,
    "persons": lambda each: each.person_id in (1, 3),
}


def test_every_combination_of_filters_lets_pass_what_plain_python_lets_pass() -> None:
    rng = np.random.default_rng(0)
    site = [
        stored(
            row,
            NOON + timedelta(seconds=float(rng.uniform(0, 86_400))),
            seconds=14_400.0 if row == 1 else float(rng.choice([0.5, 5, 7200])),
            camera=f"cam{row % 6}",
            modality=list(Modality)[row % 3],
            person_id=int(rng.integers(1, 5)),
            quality=float(rng.random()),
            zones=(("door",), ("door", "ramp"), ())[rng.integers(3)],
        )
        for row in range(1, 400)
    ]
    catalogue, query = Catalogue(Columns.of(site)), site[0]
    own = {"own_rows": frozenset({query.row}), "stays": [Stay(query.camera_id, query.start, query.end)]}
    alone = {name: {each.row for each in site if passes(each)} for name, passes in PASSES.items()}
    alone["own appearance"] = {
        each.row for each in site
        if each.camera_id != query.camera_id or each.start > query.end or each.end < query.start
    }  # fmt: skip
    assert all(0 < len(each) < len(site) - 1 for each in alone.values())
    for used in product((False, True), repeat=len(alone)):
        names = [name for name, is_used in zip(alone, used, strict=True) if is_used]
        chosen = {name: CHOICES[name] for name in names if name in CHOICES}
        wanted = SearchFilter(**chosen, include_own="own appearance" not in names)
        expected = set.intersection(set(range(1, 400)), *(alone[name] for name in names))
        assert set(rows(catalogue, wanted, **own)) == expected


@pytest.mark.parametrize(
    ("moment", "seconds", "passes"),
    [
        ("2026-06-01T20:00:00Z", 5, True),  # 22:00 in Berlin in summer
        ("2026-06-01T19:59:50Z", 5, False),
        ("2026-06-01T19:59:50Z", 10, True),  # still there at 22:00
        ("2026-01-01T20:30:00Z", 5, False),  # 21:30 in Berlin in winter
        ("2026-01-01T21:00:00Z", 5, True),
        ("2026-06-02T03:59:59Z", 5, True),
        ("2026-06-02T04:00:00Z", 5, False),  # 06:00
        ("2026-10-25T00:30:00Z", 5, True),  # 02:30, and an hour later 02:30 once more
        ("2026-10-25T01:30:00Z", 5, True),
        ("2026-10-25T04:59:00Z", 5, True),  # 05:59 after the clock went back
        ("2026-10-25T05:01:00Z", 5, False),
        ("2026-03-29T03:59:00Z", 5, True),  # 05:59 after the clock went forward
        ("2026-03-29T04:01:00Z", 5, False),
    ],
)
def test_the_time_of_day_is_that_of_the_clock_on_the_wall_also_when_it_changes(
    moment: str, seconds: float, passes: bool
) -> None:
    catalogue = Catalogue(Columns.of([stored(1, datetime.fromisoformat(moment), seconds=seconds)]))
    night = SearchFilter(time_of_day=TimeOfDay.parse("22:00-06:00"))
    assert rows(catalogue, night, BERLIN) == ([1] if passes else [])


@pytest.mark.parametrize("changes", ["2026-03-29T01:00:00+00:00", "2026-10-25T01:00:00+00:00"])
@pytest.mark.parametrize("span", ["02:10-02:50", "03:00-05:00", "01:50-02:00", "22:00-01:58"])
def test_who_is_in_view_while_the_clock_is_changed_is_found_by_the_clock_of_each_second(
    changes: str, span: str
) -> None:
    rng, moment, wanted = np.random.default_rng(31), datetime.fromisoformat(changes), TimeOfDay.parse(span)
    stays = [
        (moment + timedelta(seconds=int(rng.integers(-5400, 3600))), int(rng.integers(0, 5400))) for _ in range(150)
    ]
    catalogue = Catalogue(Columns.of([stored(n, start, seconds=each) for n, (start, each) in enumerate(stays, 1)]))

    def is_within(at: datetime) -> bool:
        wall = at.astimezone(BERLIN)
        since = (wall.hour * 3600 + wall.minute * 60 + wall.second - wanted.start_seconds) % 86_400
        return since < (wanted.end_seconds - wanted.start_seconds) % 86_400

    expected = [
        n
        for n, (start, each) in enumerate(stays, 1)
        if any(is_within(start + timedelta(seconds=s)) for s in range(each + 1))
    ]
    there_is_none = (changes[:7], span) == ("2026-03", "02:10-02:50")
    assert len(expected) == 0 if there_is_none else len(expected) > 10
    assert rows(catalogue, SearchFilter(time_of_day=wanted), BERLIN) == expected


def test_a_span_within_a_day_and_a_whole_day() -> None:
    catalogue = Catalogue(Columns.of([stored(1, NOON), stored(2, NOON + timedelta(hours=5))]))
    assert rows(catalogue, SearchFilter(time_of_day=TimeOfDay.parse("9:30-12:30"))) == [1]
    assert rows(catalogue, SearchFilter(time_of_day=TimeOfDay.parse("00:00-24:00"))) == [1, 2]
    assert str(TimeOfDay.parse("9:30-24:00")) == "09:30-24:00"


@pytest.mark.parametrize("text", ["22-06", "25:00-06:00", "22:00", "08:00-08:00", "08:00-24:30", "22:00-06:60"])
def test_a_time_of_day_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="time of day"):
        TimeOfDay.parse(text)


def test_the_query_itself_and_whoever_its_camera_saw_beside_it_are_left_out_unless_wanted() -> None:
    beside = stored(2, NOON + timedelta(seconds=3))
    elsewhere = stored(3, NOON, camera="yard")
    later = stored(4, NOON + timedelta(seconds=30))
    catalogue = Catalogue(Columns.of([stored(1, NOON), beside, elsewhere, later]))
    own = {"own_rows": frozenset({1}), "stays": [Stay("gate", NOON, NOON + timedelta(seconds=5))]}
    assert rows(catalogue, SearchFilter(), **own) == [3, 4]
    assert rows(catalogue, SearchFilter(include_own=True), **own) == [1, 2, 3, 4]


def test_rows_come_change_and_go() -> None:
    catalogue = Catalogue(Columns.of([stored(n, NOON) for n in (2, 4, 6)]))
    catalogue.put(Columns.of([stored(5, NOON, person_id=7), stored(4, NOON, person_id=9)]))
    assert catalogue.rows.tolist() == [2, 4, 5, 6]
    assert rows(catalogue, SearchFilter(persons=frozenset({9, 7}))) == [4, 5]
    catalogue.drop([4, 99])
    assert catalogue.rows.tolist() == [2, 5, 6]
    assert catalogue.stay_of(5) == Stay("gate", NOON, NOON + timedelta(seconds=5))


def test_what_is_wanted_can_be_told_as_plain_values() -> None:
    wanted = SearchFilter(
        start=datetime(2026, 6, 1, tzinfo=UTC), cameras=frozenset({"b", "a"}), time_of_day=TimeOfDay.parse("1:00-2:00")
    )
    assert wanted.to_json() == {
        "cameras": ["a", "b"],
        "start": "2026-06-01T00:00:00.000Z",
        "top_k": 10,
        "time_of_day": "01:00-02:00",
    }


def test_a_quality_that_is_no_share_is_refused() -> None:
    with pytest.raises(UsageError, match="least quality"):
        SearchFilter(min_quality=1.5)


def test_a_span_that_ends_before_it_begins_is_refused_in_the_same_words_wherever_it_is_given() -> None:
    with pytest.raises(UsageError) as of_options:
        parse_span("2026-06-02T01:00:00+01:00", "2026-06-02T00:00:00Z")
    moment = datetime(2026, 6, 2, tzinfo=UTC)
    with pytest.raises(UsageError) as of_filter:
        SearchFilter(start=moment, end=moment)
    assert str(of_options.value) == (
        "--from must be before --to, got 2026-06-02T00:00:00.000Z and 2026-06-02T00:00:00.000Z"
    )
    assert str(of_filter.value) == str(of_options.value).replace("--", "")
    with pytest.raises(UsageError, match=r"^--to must be a time with its offset"):
        parse_span(None, "2026-06-02")
    assert parse_span("2026-06-02T00:00:00Z", None) == (moment, None)
