"""An identifier and its store stay of one mind, with operators beside."""

from pathlib import Path

from pipeline.audit import Actor
from pipeline.identify import Identifier, IdentifyRules
from pipeline.persons import Persons
from pipeline.revision import Reviser
from pipeline.store import Store
from tests.pipeline.factories import CALIBRATION, DIMENSION, axis, open_store, tracklet_of, unit

OPERATOR = Actor("ann", purpose="test")
STORY = (("gate-A", 0, axis(0)), ("gate-C", 20, unit(0.6, 0.8, 0, 0)), ("gate-D", 40, unit(0.05, 1, 0, 0)),
         ("gate-E", 60, unit(0.1, 1, 0, 0)))  # fmt: skip


def filled(store: Store) -> Reviser:
    """C went to A, before D and E came, to whom it belongs."""
    who = Identifier(
        CALIBRATION, dimension=DIMENSION, rules=IdentifyRules(threshold=0.5), known=store.known(),
        next_person_id=lambda: store.reserve_persons(1),
    )  # fmt: skip
    reviser = Reviser(store, who)
    for name, at, vector in STORY:
        for sighting in who.identify([tracklet_of(name, at=at)], vector[None]):
            store.add(sighting)
    return reviser


def person_of(store: Store, name: str) -> int | None:
    return store.tracklet(name).person_id


def test_late_evidence_is_kept_as_a_decision_that_can_be_undone(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        reviser = filled(store)
        assert person_of(store, "gate-C") == 1
        assert reviser.look_back(finally_=True) == reviser.revised == 1
        assert person_of(store, "gate-C") == 2
        assert {each.to_tracklet_id for each in store.links("gate-C")} >= {"gate-D", "gate-E"}
        (decision,) = Persons(store).decisions()
        assert (decision.kind, decision.moved) == ("revise", ((2, 1, 2),))
        assert reviser.look_back(finally_=True) == 0
        Persons(store).undo(decision.decision_id, OPERATOR)
        assert person_of(store, "gate-C") == 1
        assert reviser.look_back(finally_=True) == 0  # an operator has said so


def test_a_link_that_an_operator_confirmed_meanwhile_is_not_revised(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        reviser = filled(store)
        with Store.edit(tmp_path) as beside:
            Persons(beside).confirm("gate-C", "gate-A", OPERATOR)
        assert reviser.look_back(finally_=True) == 0
        assert person_of(store, "gate-C") == 1


def test_a_link_whose_confirmation_was_taken_back_is_revised_without_a_restart(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        reviser = filled(store)
        with Store.edit(tmp_path) as beside:
            done = Persons(beside).confirm("gate-C", "gate-A", OPERATOR)
            assert reviser.look_back(finally_=True) == 0
            Persons(beside).undo(done.decision_id, OPERATOR)
        assert reviser.look_back(finally_=True) == 1
        assert person_of(store, "gate-C") == 2


def test_a_rejected_pair_and_a_merged_person_stay_as_they_were_decided_after_a_restart_too(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        filled(store)
        with Store.edit(tmp_path) as beside:
            Persons(beside).merge(1, 2, OPERATOR)
    with open_store(tmp_path) as store:
        who = Identifier(CALIBRATION, dimension=DIMENSION, known=store.known(), rules=IdentifyRules(threshold=0.9))
        assert Reviser(store, who).look_back(finally_=True) == 0
        assert {person_of(store, name) for name, _, _ in STORY} == {1}
        with Store.edit(tmp_path) as beside:
            Persons(beside).reject("gate-C", "gate-A", OPERATOR)
        new = person_of(store, "gate-C")
        reviser = Reviser(store, who)
        assert who.members(new or 0) == ["gate-C"]
        assert reviser.look_back(finally_=True) == 0
