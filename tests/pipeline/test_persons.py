"""What operators decide about people can be undone, is recorded, and stands against late evidence."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.audit import Actor, Audit
from pipeline.decision_log import read_decisions
from pipeline.errors import UsageError
from pipeline.identify import Link
from pipeline.persons import Decision, Persons
from pipeline.reconcile import reconcile
from pipeline.record import RECORD, Record
from pipeline.recovery import maintain
from pipeline.store import Cursor, LinkState, PersonState, Store
from pipeline.witnesses import DECISIONS_COPY
from reid.modality import Modality
from tests.pipeline.factories import axis, open_store, rejected_of, sighting_of, tracklet_of

EVE = Actor("eve", purpose="review")


def link(to: str, probability: float = 0.9) -> Link:
    return Link(to, "gate", Modality.RGB, 0.8, probability, cross_modality=False)


def fill(root: Path) -> Store:
    """Person 1: gate-A, gate-B, gate-C; person 2: gate-D, gate-E."""
    store = open_store(root)
    store.add(sighting_of(tracklet_of("gate-A", at=0), person=1))
    store.add(sighting_of(tracklet_of("gate-B", at=10), person=1, links=(link("gate-A"),)))
    store.add(sighting_of(tracklet_of("gate-C", at=20), person=1, links=(link("gate-A"), link("gate-B"))))
    store.add(sighting_of(tracklet_of("gate-D", at=30), person=2, vector=axis(1)))
    store.add(sighting_of(tracklet_of("gate-E", at=40), person=2, vector=axis(1), links=(link("gate-D"),)))
    store.add(rejected_of(tracklet_of("gate-F", at=50)))
    return store


def people(store: Store) -> dict[str, int | None]:
    return {each.tracklet_id.removeprefix("gate-"): each.person_id for each in store.tracklets()}


def states(store: Store) -> dict[int, PersonState]:
    return {each.person_id: each.state for each in Persons(store).all()}


def link_states(store: Store) -> dict[tuple[str, str], LinkState]:
    return {
        (each.tracklet_id.removeprefix("gate-"), each.to_tracklet_id.removeprefix("gate-")): each.state
        for each in store.links()
    }


START = {"A": 1, "B": 1, "C": 1, "D": 2, "E": 2}


def test_two_persons_become_one_and_two_again(tmp_path: Path) -> None:
    with fill(tmp_path) as store:
        persons = Persons(store)
        done = persons.merge(1, 2, EVE)
        assert people(store) == dict.fromkeys("ABCDE", 1)
        assert states(store) == {1: PersonState.CONFIRMED, 2: PersonState.MERGED}
        assert Record.read(tmp_path / "crops/gate/gate-D" / RECORD).person_id == 1
        with pytest.raises(UsageError, match="P0002 is part of P0001 already"):
            persons.merge(1, 2, EVE)
        undone = persons.undo(done.decision_id, EVE)
        assert people(store) == START
        assert states(store) == {1: PersonState.PROBABLE, 2: PersonState.PROBABLE}
        assert Record.read(tmp_path / "crops/gate/gate-D" / RECORD).person_id == 2
        with pytest.raises(UsageError, match="undone already, by decision 2"):
            persons.undo(done.decision_id, EVE)
        persons.undo(undone.decision_id, EVE)
        assert people(store) == dict.fromkeys("ABCDE", 1)
        rows = Audit(store).rows()
        assert [(row.action, row.actor, row.purpose) for row in rows] == [
            ("merge", "eve", "review"), ("undo", "eve", "review"), ("undo", "eve", "review")
        ]  # fmt: skip


def test_a_split_makes_a_new_person_and_rejects_the_links_between(tmp_path: Path) -> None:
    with fill(tmp_path) as store:
        persons = Persons(store)
        done = persons.split(["gate-C"], EVE)
        assert people(store) == {**START, "C": 3}
        assert link_states(store)["C", "A"] is LinkState.REJECTED
        assert link_states(store)["C", "B"] is LinkState.REJECTED
        assert link_states(store)["B", "A"] is LinkState.PROBABLE
        assert persons.constraints() == (frozenset(), frozenset({(1, 3), (2, 3)}))
        with pytest.raises(UsageError, match="all tracklets of P0003"):
            persons.split(["gate-C"], EVE)
        with pytest.raises(UsageError, match="must be of one person, got 2"):
            persons.split(["gate-A", "gate-D"], EVE)
        persons.undo(done.decision_id, EVE)
        assert people(store) == START
        assert set(link_states(store).values()) == {LinkState.PROBABLE}
        assert Audit(store).rows()[0].details["tracklets"] == ["gate-C"]


def test_a_split_without_a_link_keeps_the_two_apart_all_the_same(tmp_path: Path) -> None:
    with fill(tmp_path) as store:
        store.add(sighting_of(tracklet_of("gate-G", at=60), person=1))
        Persons(store).split(["gate-G"], EVE)
        assert Persons(store).constraints()[1] == frozenset({(1, 7)})


def test_only_persons_who_have_a_tracklet_count_as_in_the_gallery(tmp_path: Path) -> None:
    with fill(tmp_path) as store:
        assert store.counts().persons == 2
        done = Persons(store).merge(1, 2, EVE)
        assert store.counts().persons == 1
        Persons(store).undo(done.decision_id, EVE)
        assert store.counts().persons == 2


def test_a_person_is_shown_in_colour_where_there_is_a_view_in_colour(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        for name, modality, crops in (("dock-A", Modality.THERMAL, 3), ("gate-B", Modality.RGB, 1)):  # more are better
            store.add(sighting_of(tracklet_of(name, modality=modality, crops=crops), person=1))
        store.add(sighting_of(tracklet_of("dock-C", modality=Modality.THERMAL, at=60), person=2))
        assert [each.best_tracklet for each in Persons(store).summaries()] == ["gate-B", "dock-C"]


def test_a_link_is_confirmed_or_rejected(tmp_path: Path) -> None:
    with fill(tmp_path) as store:
        persons = Persons(store)
        persons.confirm("gate-A", "gate-B", EVE)
        assert link_states(store)["B", "A"] is LinkState.CONFIRMED
        assert states(store)[1] is PersonState.CONFIRMED
        with pytest.raises(UsageError, match="merge these persons"):
            persons.confirm("gate-A", "gate-D", EVE)
        done = persons.reject("gate-E", "gate-D", EVE)
        assert people(store)["E"] == 3
        assert persons.constraints() == (frozenset({(1, 2)}), frozenset({(4, 5)}))
        persons.undo(done.decision_id, EVE)
        assert people(store) == START
        persons.reject("gate-D", "gate-A", EVE)  # of two persons already, and without a link
        assert people(store) == START
        assert (1, 4) in persons.constraints()[1]
        with pytest.raises(UsageError, match="was rejected"):
            persons.reject("gate-F", "gate-A", EVE)


def test_late_evidence_revises_a_link_but_not_what_an_operator_confirmed(tmp_path: Path) -> None:
    with fill(tmp_path) as store:
        persons = Persons(store)
        before = store.changes_since(Cursor()).cursor
        assert persons.revise("gate-C", 2, [link("gate-D", 0.97)])
        assert people(store)["C"] == 2
        assert [(each.to_tracklet_id, each.probability) for each in store.links("gate-C")] == [("gate-D", 0.97)]
        changes = store.changes_since(before)
        assert (changes.revised, changes.added.persons.tolist()) == ((3,), [2])
        assert Audit(store).rows() == []  # the program's own doing is a decision, and nobody's search
        assert [each.kind for each in persons.decisions()] == ["revise"]
        persons.confirm("gate-C", "gate-D", EVE)
        assert not persons.revise("gate-C", 1, [link("gate-A")])
        assert people(store)["C"] == 2
        persons.undo(2, EVE)
        persons.undo(1, EVE)
        assert people(store) == START
        assert len(store.links("gate-C")) == 2


def test_a_decision_is_not_undone_below_a_later_one(tmp_path: Path) -> None:
    with fill(tmp_path) as store:
        persons = Persons(store)
        merged = persons.merge(1, 2, EVE)
        persons.split(["gate-D"], EVE)
        with pytest.raises(UsageError, match=r"a later decision changed .* undo decision 2 \(split\) first"):
            persons.undo(merged.decision_id, EVE)
        assert people(store)["D"] == 3  # and nothing was half undone
        assert people(store)["E"] == 1
        with pytest.raises(UsageError, match="no decision 99"):
            persons.undo(99, EVE)


def test_a_decision_about_a_link_is_not_undone_below_a_later_one(tmp_path: Path) -> None:
    with fill(tmp_path) as store:
        persons = Persons(store)
        confirmed = persons.confirm("gate-A", "gate-B", EVE)
        rejected = persons.reject("gate-A", "gate-B", EVE)
        with pytest.raises(UsageError, match="a later decision changed what decision 1 did: undo decision 2"):
            persons.undo(confirmed.decision_id, EVE)
        assert link_states(store)["B", "A"] is LinkState.REJECTED  # stands
        persons.undo(rejected.decision_id, EVE)
        assert link_states(store)["B", "A"] is LinkState.CONFIRMED
        persons.undo(confirmed.decision_id, EVE)
        assert link_states(store)["B", "A"] is LinkState.PROBABLE
        assert (people(store), states(store)[1]) == (START, PersonState.PROBABLE)


def test_late_evidence_that_found_the_same_link_anew_is_undone_to_the_link_as_it_was(tmp_path: Path) -> None:
    with fill(tmp_path) as store:
        before = store.links("gate-C")
        Persons(store).revise("gate-C", 2, [link("gate-B", 0.97), link("gate-D", 0.6)])
        assert {each.to_tracklet_id for each in store.links("gate-C")} == {"gate-B", "gate-D"}
        Persons(store).undo(1, EVE)
        assert store.links("gate-C") == before
        Persons(store).undo(2, EVE)
        assert [each.probability for each in store.links("gate-C")] == [0.97, 0.6]


def test_a_tracklet_is_neither_confirmed_nor_rejected_by_itself(tmp_path: Path) -> None:
    with fill(tmp_path) as store:
        for decide, said in ((Persons(store).confirm, "name two"), (Persons(store).reject, "than itself")):
            with pytest.raises(UsageError, match=said):
                decide("gate-A", "gate-A", EVE)
        assert ("A", "A") not in link_states(store)
        assert (Persons(store).decisions(), Audit(store).rows()) == ([], [])
        assert states(store)[1] is PersonState.PROBABLE


def test_a_decision_beside_a_run_goes_through_and_never_gives_a_number_twice(tmp_path: Path) -> None:
    with fill(tmp_path) as running:
        first = running.reserve_persons(10)
        assert first == 3
        with Store.edit(tmp_path) as beside:
            Persons(beside).split(["gate-C"], EVE)
            assert people(beside)["C"] == 13
        running.add(sighting_of(tracklet_of("gate-G", at=60), person=first))
        assert people(running)["G"] == 3
        assert running.next_person_id == 14


def test_a_crash_between_a_decision_and_the_records_is_made_good_by_the_next_writer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(*_: object) -> None:
        raise KeyboardInterrupt

    with fill(tmp_path) as store:
        monkeypatch.setattr(Store, "rewrite_records", crash)
        with pytest.raises(KeyboardInterrupt):
            Persons(store).merge(1, 2, EVE)
        assert people(store) == dict.fromkeys("ABCDE", 1)
        assert len(reconcile(store).differences) == 2
    monkeypatch.undo()
    with maintain(tmp_path) as store:
        assert reconcile(store).differences == ()
        assert Record.read(tmp_path / "crops/gate/gate-D" / RECORD).person_id == 1


def test_a_copy_of_the_decisions_that_says_something_else_is_named_and_written_anew(tmp_path: Path) -> None:
    with fill(tmp_path) as store:
        Persons(store).merge(1, 2, EVE)
        Persons(store).undo(1, EVE)
        before = (tmp_path / DECISIONS_COPY).read_bytes()
        assert len(before.splitlines()) == 2
        (tmp_path / DECISIONS_COPY).write_bytes(before.replace(b'"eve"', b'"bob"'))
        assert reconcile(store).differences == ("decisions.jsonl: says something else than the database",)
        assert reconcile(store, repair=True).repaired == ("decisions.jsonl",)
        assert (tmp_path / DECISIONS_COPY).read_bytes() == before


def test_a_decision_whose_copy_a_crash_left_out_is_copied_by_the_next_writer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(*_: object) -> None:
        raise KeyboardInterrupt

    with fill(tmp_path) as store:
        monkeypatch.setattr("pipeline.persons.copy_decisions", crash)
        with pytest.raises(KeyboardInterrupt):
            Persons(store).merge(1, 2, EVE)
        assert read_decisions(tmp_path) == []
    monkeypatch.undo()
    with (tmp_path / DECISIONS_COPY).open("ab") as file:
        file.write(b'[1, {"torn')
    with maintain(tmp_path) as store:
        assert [each.kind for each in read_decisions(tmp_path)] == ["merge"]
        assert reconcile(store).differences == ()


def test_what_a_later_decision_says_too_outlives_an_undo(tmp_path: Path) -> None:
    with fill(tmp_path) as store:
        store.add(sighting_of(tracklet_of("gate-H", at=90), person=3))
        persons = Persons(store)
        persons.merge(1, 2, EVE)
        persons.merge(1, 3, EVE)
        persons.undo(1, EVE)
        assert states(store) == {1: PersonState.CONFIRMED, 2: PersonState.PROBABLE, 3: PersonState.MERGED}
        persons.undo(2, EVE)
        assert set(states(store).values()) == {PersonState.PROBABLE}
        persons.undo(3, EVE)  # the first merge again
        assert states(store) == {1: PersonState.CONFIRMED, 2: PersonState.MERGED, 3: PersonState.PROBABLE}


def test_a_link_that_was_confirmed_twice_stays_so_until_both_are_undone(tmp_path: Path) -> None:
    with fill(tmp_path) as store:
        persons = Persons(store)
        persons.confirm("gate-A", "gate-B", EVE)
        persons.confirm("gate-B", "gate-A", EVE)
        persons.undo(1, EVE)
        assert (link_states(store)["B", "A"], states(store)[1]) == (LinkState.CONFIRMED, PersonState.CONFIRMED)
        persons.undo(2, EVE)
        assert (link_states(store)["B", "A"], states(store)[1]) == (LinkState.PROBABLE, PersonState.PROBABLE)


def test_a_merge_is_not_undone_below_a_confirmation_that_relies_on_it(tmp_path: Path) -> None:
    with fill(tmp_path) as store:
        persons = Persons(store)
        persons.merge(1, 2, EVE)
        persons.confirm("gate-A", "gate-D", EVE)
        with pytest.raises(UsageError, match=r"decision 2 \(confirm\) relies on what decision 1 did: undo that first"):
            persons.undo(1, EVE)
        persons.undo(2, EVE)
        persons.undo(1, EVE)
        assert people(store) == START


def test_a_rejection_that_moved_is_not_undone_below_another_of_the_same_two(tmp_path: Path) -> None:
    with fill(tmp_path) as store:
        persons = Persons(store)
        persons.reject("gate-A", "gate-B", EVE)
        persons.reject("gate-A", "gate-B", EVE)
        with pytest.raises(UsageError, match=r"decision 2 \(reject\) relies"):
            persons.undo(1, EVE)
        assert people(store)["A"] == 3


def test_a_decision_that_was_redone_says_which_one_to_undo(tmp_path: Path) -> None:
    with fill(tmp_path) as store:
        persons = Persons(store)
        persons.merge(1, 2, EVE)
        persons.undo(1, EVE)
        persons.undo(2, EVE)
        with pytest.raises(UsageError, match=r"decision 1 stands by decision 3, .* undo 3"):
            persons.undo(1, EVE)
        persons.undo(3, EVE)
        assert people(store) == START
        with pytest.raises(UsageError, match="undone already, by decision 4"):
            persons.undo(1, EVE)


def beside(tmp_path: Path, decide: Callable[[Persons], object]) -> type[Persons]:
    """An operator between whose wish and transaction another one decides."""

    class Late(Persons):
        def _decide(self, *given: Any, **named: Any) -> Decision:
            with Store.edit(tmp_path) as other:
                decide(Persons(other))
            return super()._decide(*given, **named)

    return Late


Deciding = Callable[[Persons], object]


@pytest.mark.parametrize(
    ("first", "then", "said"),
    [
        (lambda p: p.merge(1, 2, EVE), lambda p: p.merge(2, 3, EVE), "P0002 is part of P0001 already"),
        (
            lambda p: p.reject("gate-A", "gate-B", EVE),
            lambda p: p.confirm("gate-A", "gate-B", EVE),
            "are P0004 and P0001",
        ),
        (lambda p: p.split(["gate-B"], EVE), lambda p: p.split(["gate-A", "gate-B"], EVE), "of one person, got 2"),
        (lambda p: p.undo(1, EVE), lambda p: p.undo(1, EVE), "undone already, by decision 2"),
    ],
    ids=["merge", "confirm", "split", "undo"],
)
def test_a_decision_is_checked_against_those_that_came_just_before_it(
    tmp_path: Path, first: Deciding, then: Deciding, said: str
) -> None:
    with fill(tmp_path) as store:
        store.add(sighting_of(tracklet_of("gate-H", at=90), person=3))
        if "undone" in said:
            Persons(store).confirm("gate-A", "gate-B", EVE)
        with pytest.raises(UsageError, match=said):
            then(beside(tmp_path, first)(store))


def test_two_who_reject_the_same_at_one_time_make_one_new_person(tmp_path: Path) -> None:
    with fill(tmp_path) as store:
        beside(tmp_path, lambda p: p.reject("gate-A", "gate-B", EVE))(store).reject("gate-A", "gate-B", EVE)
        assert people(store)["A"] == 3


def test_late_evidence_does_not_move_what_was_confirmed_just_before_it(tmp_path: Path) -> None:
    with fill(tmp_path) as store:
        late = beside(tmp_path, lambda p: p.confirm("gate-C", "gate-B", EVE))(store)
        assert not late.revise("gate-C", 2, [link("gate-D", 0.97)])
        assert people(store)["C"] == 1
        assert [each.kind for each in Persons(store).decisions()] == ["confirm"]
