"""Counts by camera are those of the whole table, whatever came, went or was decided in between."""

from pathlib import Path

import pytest

from pipeline.audit import Actor
from pipeline.erasure import erase
from pipeline.persons import Persons
from pipeline.recovery import maintain
from pipeline.server.counting import Counting
from pipeline.store import Store
from reid.modality import Modality
from tests.pipeline.factories import open_store, rejected_of, sighting_of, tracklet_of


def whole(store: Store) -> dict[str, tuple[int, int, int | None, int | None]]:
    with store.reading() as db:
        rows = db.execute(
            "SELECT camera_id, COUNT(person_id), COUNT(rejected), MIN(start_us), MAX(end_us)"
            " FROM cameras LEFT JOIN tracklets USING (camera_id) GROUP BY camera_id"
        )
        return {row[0]: row[1:] for row in rows}


def counted(counting: Counting, store: Store) -> dict[str, tuple[int, int, int | None, int | None]]:
    return {
        name: (each.accepted, each.rejected, each.first_us, each.last_us)
        for name, each in counting.cameras(store).items()
    }


def test_counts_follow_additions_decisions_and_erasures(gallery: Path) -> None:
    counting = Counting()

    def agree() -> None:
        with Store.read(gallery) as store:
            assert counted(counting, store) == whole(store) == counted(Counting(), store)

    agree()
    with open_store(gallery) as store:
        store.add(sighting_of(tracklet_of("roof-new", modality=Modality.NIR, at=-50.0), person=9))
        store.add(rejected_of(tracklet_of("gate-cat", at=900.0)))
    agree()
    with Store.edit(gallery) as store:
        Persons(store).merge(1, 3, Actor("test"))
    agree()
    with maintain(gallery) as store:
        erase(store, [store.tracklet("gate-cat"), store.tracklet("roof-new")], Actor("test"))
    agree()
    with Store.read(gallery) as store:
        assert counting.cameras(store)["roof"].accepted == 0


def test_what_was_counted_is_not_read_again(gallery: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counting = Counting()
    with Store.read(gallery) as store:
        counting.cameras(store)
        asked: list[str] = []
        with store.reading() as db:
            db.set_trace_callback(asked.append)
        counting.cameras(store)
    assert not any("COUNT" in each for each in asked)
