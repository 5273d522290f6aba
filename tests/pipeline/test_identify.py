"""Who is who: evidence across modalities, one person in one place at a time, and the same answer after a restart."""

import tracemalloc
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.evidence import Evidence
from pipeline.identify import (
    Identifier,
    IdentifyRules,
    Revision,
    Sighting,
    overlap_in_camera,
    person_name,
    simultaneous,
)
from pipeline.tracklets import Tracklet
from pipeline.ways import Way, Ways
from reid.calibration import Calibration, Curve, MissingPairError
from reid.modality import Modality
from tests.pipeline.factories import CALIBRATION, DIMENSION, axis, open_store, tracklet_of, unit


def identifier(rules: IdentifyRules | None = None) -> Identifier:
    return Identifier(CALIBRATION, dimension=DIMENSION, rules=rules)


def people(who: Identifier, *items: tuple[Tracklet, NDArray[np.float32]]) -> list[int]:
    found = who.identify([tracklet for tracklet, _ in items], np.stack([vector for _, vector in items]))
    return [each.person_id for each in found]


def test_a_person_is_found_again_in_another_modality_and_a_stranger_is_new() -> None:
    who = identifier()
    assert people(who, (tracklet_of("gate-A"), axis(0))) == [1]
    night = tracklet_of("yard-B", modality=Modality.THERMAL, at=100)
    (sighting,) = who.identify([night], unit(0.7, 0.7, 0, 0)[None])
    assert sighting.person_id == 1
    (link,) = sighting.links
    assert (link.tracklet_id, link.camera_id, link.modality, link.cross_modality) == (
        "gate-A",
        "gate",
        Modality.RGB,
        True,
    )
    assert link.cosine == pytest.approx(0.5**0.5, abs=1e-6)
    assert link.probability == pytest.approx(
        float(CALIBRATION.probability(0.5**0.5, Modality.RGB, Modality.THERMAL)), abs=1e-6
    )
    (stranger,) = who.identify([tracklet_of("gate-C", at=200)], axis(3)[None])
    assert (stranger.person_id, stranger.links) == (2, ())


def test_the_same_cosine_counts_for_more_across_modalities_when_the_calibration_says_so() -> None:
    vector = unit(0.4, (1 - 0.16) ** 0.5, 0, 0)
    rules = IdentifyRules(threshold=0.2)
    who = identifier(rules)
    assert people(who, (tracklet_of("gate-A"), axis(0))) == [1]
    assert people(who, (tracklet_of("yard-B", modality=Modality.NIR, at=50), vector)) == [1]
    who = identifier(rules)
    assert people(who, (tracklet_of("gate-A"), axis(0))) == [1]
    assert people(who, (tracklet_of("door-B", at=50), vector)) == [2]


def test_nobody_is_twice_in_one_camera_at_one_time_but_may_be_in_two_cameras() -> None:
    who = identifier()
    twins = people(who, (tracklet_of("gate-A"), axis(0)), (tracklet_of("gate-B", at=0.5), axis(0)))
    assert len(set(twins)) == 2
    third = people(who, (tracklet_of("gate-C", at=1.0), axis(0)))  # overlaps both by a frame
    assert third[0] not in twins
    assert people(who, (tracklet_of("yard-D", at=0.5), axis(0)))[0] in twins + third
    assert people(who, (tracklet_of("gate-E", at=60), axis(0)))[0] in twins + third


def test_people_seen_together_are_assigned_together_and_not_first_come_first_served() -> None:
    who = identifier()
    assert people(who, (tracklet_of("gate-A"), axis(0)), (tracklet_of("gate-B"), unit(0.8, 0.6, 0, 0))) == [1, 2]
    # The first alone would take person 1, of whom the second is even surer; together the first is person 2.
    first, second = unit(0.95, 0.3, 0, 0), unit(1, -0.02, 0, 0)
    assert people(who, (tracklet_of("yard-C", at=60), first), (tracklet_of("yard-D", at=60), second)) == [2, 1]


def test_one_chance_likeness_does_not_outweigh_the_rest_of_a_person() -> None:
    vectors = [axis(0), unit(1, 0.05, 0, 0), unit(0.72, 0, 0.7, 0)]
    who = identifier(IdentifyRules(evidence=3))
    for n, vector in enumerate(vectors):
        assert people(who, (tracklet_of(f"gate-{n}", at=20 * n), vector)) == [1]
    like_the_last_only = unit(0.15, 0, 1, 0)
    assert people(who, (tracklet_of("gate-9", at=500), like_the_last_only)) == [2]
    single_link = identifier(IdentifyRules(evidence=1))
    for n, vector in enumerate([*vectors, like_the_last_only]):
        assert people(single_link, (tracklet_of(f"gate-{n}", at=20 * n), vector)) == [1]


def test_a_higher_threshold_makes_more_people() -> None:
    items = (tracklet_of("gate-A"), axis(0)), (tracklet_of("gate-B", at=60), unit(0.6, 0.8, 0, 0))
    assert people(identifier(IdentifyRules(threshold=0.5)), *items) == [1, 1]
    assert people(identifier(IdentifyRules(threshold=0.95)), *items) == [1, 2]


def test_a_restart_from_the_store_gives_the_same_people_as_no_restart(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    items = []
    for n in range(40):
        vector = np.eye(DIMENSION)[n % 4] + rng.normal(0, 0.15, DIMENSION)
        modality = list(Modality)[n % 3]
        items.append((tracklet_of(f"cam{n % 3}-{n}", modality=modality, at=7.0 * n), unit(*vector)))
    whole = identifier()
    through = [person for item in items for person in people(whole, item)]
    with open_store(tmp_path) as store:
        for sighting in sightings(identifier(), items[:20]):
            store.add(sighting)
    with open_store(tmp_path) as store:
        resumed = Identifier(
            store.calibration, dimension=DIMENSION, known=store.known(), next_person_id=store.next_person_id
        )
        assert [person for item in items[20:] for person in people(resumed, item)] == through[20:]
    assert 4 <= len(set(through)) < 12


def sightings(who: Identifier, items: list[tuple[Tracklet, NDArray[np.float32]]]) -> list[Sighting]:
    return [each for tracklet, vector in items for each in who.identify([tracklet], vector[None])]


def test_numbers_of_erased_people_are_not_given_again() -> None:
    who = Identifier(CALIBRATION, dimension=DIMENSION, next_person_id=9)
    assert people(who, (tracklet_of("gate-A"), axis(0))) == [9]


def test_groups_hold_only_tracklets_that_overlap_each_other_in_one_camera() -> None:
    chain = [tracklet_of("gate-A", at=0), tracklet_of("gate-B", at=0.8), tracklet_of("gate-C", at=1.6)]
    other = tracklet_of("yard-D", at=0.1)
    assert list(simultaneous([*chain, other])) == [[0, 1], [3], [2]]
    assert list(simultaneous([])) == []


def test_an_empty_batch_gives_nothing_and_a_wrong_shape_is_an_error() -> None:
    who = identifier()
    assert who.identify([], np.empty((0, DIMENSION), np.float32)) == []
    with pytest.raises(ValueError, match=r"must be \(1, 4\), got \(1, 3\)"):
        who.identify([tracklet_of("gate-A")], np.ones((1, 3), np.float32))


def test_a_pair_without_calibration_is_an_error_that_names_it() -> None:
    only_rgb = Calibration({(Modality.RGB, Modality.RGB): Curve(20.0, -10.0)})
    who = Identifier(only_rgb, dimension=DIMENSION)
    who.identify([tracklet_of("gate-A")], axis(0)[None])
    with pytest.raises(MissingPairError, match="nir-rgb"):
        who.identify([tracklet_of("yard-B", modality=Modality.NIR)], axis(0)[None])


@pytest.mark.parametrize("wrong", [{"threshold": 0.0}, {"threshold": 1.0}, {"evidence": 0}, {"max_links": 0}])
def test_rules_out_of_range_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        IdentifyRules(**wrong)  # type: ignore[arg-type]


def test_people_have_names() -> None:
    assert person_name(7) == "P0007"


def looked_back(who: Identifier) -> dict[str, int]:
    return {each.tracklet_id: each.person_id for each in who.look_back(at_once=True)}


def taken_too_early(**rules: float) -> Identifier:
    """C joins A, whom alone it knew; then come D and E, to whom it belongs."""
    who = identifier(IdentifyRules(threshold=0.5, **rules))  # type: ignore[arg-type]
    assert people(who, (tracklet_of("gate-A"), axis(0))) == [1]
    assert people(who, (tracklet_of("gate-C", at=20), unit(0.6, 0.8, 0, 0))) == [1]
    assert people(who, (tracklet_of("gate-D", at=40), unit(0.05, 1, 0, 0))) == [2]
    assert people(who, (tracklet_of("gate-E", at=60), unit(0.1, 1, 0, 0))) == [2]
    return who


def test_late_evidence_revises_a_link_and_says_to_whom_it_leads_now() -> None:
    who = taken_too_early()
    (revision,) = who.look_back(at_once=True)
    assert (revision.tracklet_id, revision.before, revision.person_id) == ("gate-C", 1, 2)
    assert {link.tracklet_id for link in revision.links} == {"gate-D", "gate-E"}
    assert who.look_back(at_once=True) == []
    assert sorted(who.members(2)) == ["gate-C", "gate-D", "gate-E"]


def test_a_look_back_waits_for_its_time_and_never_comes_where_it_is_not_wanted() -> None:
    who = taken_too_early(revise_seconds=30.0)
    assert who.look_back() == []  # the first asks when the clock begins
    people(who, (tracklet_of("gate-F", at=100), axis(3)))
    assert [each.tracklet_id for each in who.look_back()] == ["gate-C"]
    never = taken_too_early(revise_seconds=0.0)
    assert never.look_back(at_once=True) == []


def test_a_clock_that_was_a_day_ahead_for_one_tracklet_holds_no_look_back_up(monkeypatch: pytest.MonkeyPatch) -> None:
    who, looks, reach = identifier(IdentifyRules()), list[float](), list[int]()

    def note(members: list[Any], anchors: int) -> list[Revision]:
        looks.append(at)
        reach.append(len(members))
        return []

    monkeypatch.setattr(who, "_regrouped", note)
    for number in range(200):  # an hour and 40 minutes, of which 300 s are due between two looks
        at = 30.0 * number
        people(who, (tracklet_of(f"gate-{number}", at=at + 86400 * (number == 20)), axis(number % DIMENSION)))
        who.look_back()
    assert len(looks) >= 18
    assert max(late - early for early, late in pairwise([0.0, *looks, at])) <= 450
    assert min(reach[2:]) > 20  # they look at what there is, not only at what is dated a day ahead


def test_a_clock_that_was_a_day_ahead_for_long_holds_no_look_back_up_once_it_is_right(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    who, due = identifier(IdentifyRules()), list[int]()
    monkeypatch.setattr(who, "_regrouped", lambda members, anchors: [])
    for number in range(200):
        at = 30.0 * number + 86400 * (number < 100)
        people(who, (tracklet_of(f"gate-{number}", at=at), axis(number % DIMENSION)))
        before = who._looked_back
        who.look_back()
        due += [number] * (who._looked_back != before)
    assert sum(number > 160 for number in due) >= 3


def test_what_an_operator_decided_is_never_undone() -> None:
    who = taken_too_early()
    who.pin(["gate-C", "gate-A"])
    assert looked_back(who) == {}  # C stays, and draws nobody: together with A it is not alike enough to D and E
    who = taken_too_early()
    who.keep_confirmed(["gate-C", "gate-A"])
    assert looked_back(who) == {}
    who.keep_confirmed([])  # taken back
    assert looked_back(who) == {"gate-C": 2}
    who = taken_too_early()
    who.pin(["gate-C"])
    assert looked_back(who) == {"gate-D": 1, "gate-E": 1, "gate-A": 3}  # they are one person, and C is of person 1
    who = taken_too_early()
    who.keep_apart([("gate-C", "gate-D")])
    assert looked_back(who).get("gate-C") != 2
    who.move("gate-C", 9)
    assert who.members(9) == ["gate-C"]
    assert people(who, (tracklet_of("gate-G", at=200), axis(2)))[0] > 9


def test_what_lies_before_the_window_stays_and_still_draws() -> None:
    who = taken_too_early(window_seconds=25.0)  # D and E only; A and C are what is known of person 1
    assert looked_back(who) == {}


@pytest.mark.parametrize(
    "ways",
    [Ways(), Ways([Way(("a", "b"), 4, 10), Way(("b", "c"), 6, 10), Way(("c", "d"), 0, 5)])],
    ids=["none", "some"],
)
@pytest.mark.parametrize("rules", [{"window_tracklets": 20, "evidence": 2}, {"window_seconds": 20.0, "evidence": 1}])
def test_a_look_back_puts_nobody_where_what_lies_before_its_window_says_that_they_cannot_be(
    rules: dict[str, Any], ways: Ways
) -> None:
    evidence, rng = Evidence(CALIBRATION, ways), np.random.default_rng(0)
    who = Identifier(evidence, dimension=DIMENSION, rules=IdentifyRules(revise_seconds=30, **rules))
    seen, person, at = dict[str, Tracklet](), dict[str, int](), 0.0
    for number in range(250):
        at += rng.exponential(2)
        name, seconds = f"{'abcd'[rng.integers(4)]}-{number}", float(rng.choice([1, 3, 60]))
        seen[name] = tracklet_of(name, at=at - seconds, seconds=seconds, crops=1)
        vector = unit(*(np.eye(DIMENSION)[rng.integers(DIMENSION)] + rng.normal(0, 0.2, DIMENSION)))
        person[name] = people(who, (seen[name], vector))[0]
        person |= {each.tracklet_id: each.person_id for each in who.look_back()}
    assert sum(person.values()) > 250  # several people, and so several who cannot be one
    as_one = [(a, b) for a, b in combinations(seen, 2) if person[a] == person[b]]
    assert [(a, b) for a, b in as_one if cannot_be_one(seen[a], seen[b], ways)] == []


def cannot_be_one(a: Tracklet, b: Tracklet, ways: Ways) -> bool:
    if a.camera_id == b.camera_id:
        return overlap_in_camera(a, b)
    gap = max((b.start - a.end).total_seconds(), (a.start - b.end).total_seconds())
    return gap < (ways.least_seconds(a.camera_id, b.camera_id) or -np.inf) / 2


def test_what_was_rejected_stays_apart_also_from_whom_lies_before_the_window() -> None:
    who = identifier(IdentifyRules(evidence=1, window_tracklets=1))
    assert [people(who, (tracklet_of(f"gate-{n}", at=20.0 * n), axis(0))) for n in range(3)] == [[1]] * 3
    assert looked_back(who) == {}
    who.keep_apart([("gate-0", "gate-2"), ("gate-2", "gate-erased")])
    assert looked_back(who) == {"gate-2": 2}  # of person 1 only gate-1 is compared


def test_the_oldest_are_forgotten_and_memory_stays_bounded() -> None:
    who = identifier(IdentifyRules(memory=10))
    for n in range(60):
        people(who, (tracklet_of(f"gate-{n}", at=10 * n), axis(n % 4)))
        assert len(who) <= 11
    assert "gate-0" not in who.members(1)


def test_nobody_joins_a_person_who_cannot_have_come_so_soon() -> None:
    ways = Ways([Way(("gate", "yard"), 60, 90)])
    who = Identifier(Evidence(CALIBRATION, ways), dimension=DIMENSION)
    assert people(who, (tracklet_of("gate-A"), axis(0))) == [1]
    assert people(who, (tracklet_of("yard-B", at=10), axis(0))) == [2]
    assert people(who, (tracklet_of("yard-C", at=100), axis(0)))[0] in (1, 2)
    overlap = Identifier(Evidence(CALIBRATION, Ways([Way(("gate", "yard"), 0, 5)])), dimension=DIMENSION)
    assert people(overlap, (tracklet_of("gate-A"), axis(0))) == [1]
    assert people(overlap, (tracklet_of("yard-B", at=0.5), axis(0))) == [1]


def test_a_usual_travel_time_speaks_for_one_person() -> None:
    ways = Ways([Way(("gate", "yard"), 20, 60)])
    unsure = unit(0.45, (1 - 0.45**2) ** 0.5, 0, 0)  # p = 0.27 within a modality

    def second(at: float, share: float) -> int:
        who = Identifier(
            Evidence(CALIBRATION, ways, travel_share=share), dimension=DIMENSION, rules=IdentifyRules(threshold=0.5)
        )
        assert people(who, (tracklet_of("gate-A"), axis(0))) == [1]
        return people(who, (tracklet_of("yard-B", at=at), unsure))[0]

    assert second(61.0, 0.2) == 1
    assert second(61.0, 0.0) == 2
    assert second(1500.0, 0.2) == 2


def test_of_an_embedding_one_copy_is_remembered() -> None:
    size, count = 2048, 128
    rules = IdentifyRules(revise_seconds=1, memory=count)
    vectors = np.random.default_rng(7).normal(size=(count, size)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    before = Identifier(CALIBRATION, dimension=size, rules=rules)
    people(before, (tracklet_of("gate-0"), vectors[0].copy()))  # whatever is made once
    tracemalloc.start()
    try:
        who = Identifier(CALIBRATION, dimension=size, rules=rules)
        for i in range(count):
            people(who, (tracklet_of(f"gate-{i}", at=10.0 * i), vectors[i].copy()))
        who.look_back(at_once=True)
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert vectors.nbytes < kept < 1.5 * vectors.nbytes
