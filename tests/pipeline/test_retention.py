"""What is old goes, what a case holds stays, and a full disk neither ends a run nor loses count."""

import os
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime, timedelta, tzinfo
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pipeline.audit import Actor, Audit
from pipeline.cases import Cases
from pipeline.errors import ResourceError
from pipeline.reconcile import reconcile
from pipeline.recovery import maintain
from pipeline.retention import MEGABYTE, Retention, RetentionRules, Shortage, crops_bytes, database_bytes
from pipeline.sinks import EventLog
from pipeline.store import Cursor, Store
from tests.pipeline.factories import (
    CALIBRATION,
    DIMENSION,
    MODEL,
    NOON,
    open_store,
    rejected_of,
    sighting_of,
    tracklet_of,
)
from tests.pipeline.full_disk import fill_to_the_brim, large, mounted

EVE = Actor("eve")
DAY = 86400.0


def fill(root: Path, days: int = 10) -> None:
    """One tracklet a day, gate-0 the oldest, and a rejected one."""
    with open_store(root) as store, EventLog(root, model_id=MODEL, dimension=DIMENSION) as events:
        for n in range(days):
            item = sighting_of(tracklet_of(f"gate-{n}", at=n * DAY), person=1 + n)
            store.add(item)
            events.write(item)
        store.add(rejected_of(tracklet_of("gate-R", at=0)))


def names(store: Store) -> str:
    return "".join(each.tracklet_id[-1] for each in store.tracklets())


def hold(root: Path, *tracklets: str) -> None:
    with Store.edit(root) as store:
        Cases(store).open("C-1", "theft", EVE)
        Cases(store).hold("C-1", tracklets, EVE)


def test_tracklets_go_with_age_and_all_that_is_theirs(tmp_path: Path) -> None:
    fill(tmp_path)
    hold(tmp_path, "gate-1")
    with Store.read(tmp_path) as reader, maintain(tmp_path) as store:
        before = reader.changes_since(Cursor()).cursor
        retention = Retention(store, RetentionRules(tracklets_days=4))
        aged = retention.age(NOON + timedelta(days=9, seconds=1))
        assert names(store) == "156789"
        assert (aged.counts["tracklets"], aged.until) == (5, NOON + timedelta(days=4, seconds=1))
        assert reader.changes_since(before).removed == (1, 3, 4, 5, 11)  # the last was rejected, and in no index
        assert not (tmp_path / "crops/gate/gate-0").exists()
        assert not (tmp_path / "crops/gate/gate-R").exists()
        assert not (tmp_path / "events/2026-06-01.jsonl").exists()
        assert (tmp_path / "events/2026-06-02.jsonl").exists()
        assert reconcile(store).differences == ()
        Cases(store).close("C-1", EVE)
        retention.age(NOON + timedelta(days=9, seconds=1))
        assert names(store) == "56789"


def test_crops_go_first_and_the_tracklet_stays_searchable(tmp_path: Path) -> None:
    fill(tmp_path)
    hold(tmp_path, "gate-1")
    with maintain(tmp_path) as store:
        before = crops_bytes(store)
        aged = Retention(store, RetentionRules(crops_days=4)).age(NOON + timedelta(days=9, seconds=1))
        assert aged.counts["crops"] == 5
        assert names(store) == "0123456789"
        assert [bool(each.best_crop) for each in store.tracklets()] == [n == 1 or n > 4 for n in range(10)]
        assert store.tracklet("gate-0").quality == pytest.approx(0.6)
        assert len(store.gallery()) == 10
        assert {path.name for path in (tmp_path / "crops/gate/gate-0").iterdir()} == {"record.json"}
        assert len(store.crops("gate-1")) == 2
        assert crops_bytes(store) < before
        assert reconcile(store).differences == ()


@pytest.mark.parametrize(
    ("rules", "choice"),
    [
        (RetentionRules(tracklets_days=4), "_oldest"),
        (RetentionRules(tracklets_mb=1e-6), "_oldest"),
        (RetentionRules(crops_days=4), "_oldest_with_crops"),
    ],
)
def test_what_a_case_comes_to_hold_when_it_was_about_to_go_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rules: RetentionRules, choice: str
) -> None:
    fill(tmp_path)
    real = getattr(Retention, choice)

    def then_held(self: Retention, *arguments: Any, **named: Any) -> Any:
        chosen = real(self, *arguments, **named)
        monkeypatch.setattr(Retention, choice, real)
        hold(tmp_path, "gate-1")
        return chosen

    monkeypatch.setattr(Retention, choice, then_held)
    with maintain(tmp_path) as store:
        aged = Retention(store, rules).age(NOON + timedelta(days=9, seconds=1))
        assert len(store.crops("gate-1")) == 2
        assert Cases(store).items("C-1") == ["gate-1"]
        assert set(aged.counts.values()) == ({10} if rules.tracklets_mb else {5})
        assert reconcile(store).differences == ()


def test_images_that_a_crash_left_when_their_rows_went_are_removed_by_the_next_writer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(tmp_path)
    with maintain(tmp_path) as store:
        monkeypatch.setattr("pipeline.erasure.remove_unnamed_images", _crash)
        with pytest.raises(KeyboardInterrupt):
            Retention(store, RetentionRules(crops_days=4)).age(NOON + timedelta(days=9, seconds=1))
        assert len(reconcile(store).differences) == 12  # six records, and in each folder images without a row
    monkeypatch.undo()
    with maintain(tmp_path) as store:
        assert reconcile(store).differences == ()
        assert {path.name for path in (tmp_path / "crops/gate/gate-0").iterdir()} == {"record.json"}


def _crash(*_: object) -> int:
    raise KeyboardInterrupt


def test_the_oldest_go_until_a_class_is_no_larger_than_it_may_be(tmp_path: Path) -> None:
    fill(tmp_path)
    hold(tmp_path, "gate-0")
    with maintain(tmp_path) as store:
        each = crops_bytes(store) / 11
        Retention(store, RetentionRules(crops_mb=4.5 * each / MEGABYTE)).age(NOON)
        assert crops_bytes(store) <= 4.5 * each
        kept = [tracklet.tracklet_id for tracklet in store.tracklets() if tracklet.best_crop]
        assert kept[0] == "gate-0"
        smallest = database_bytes(store)
        Retention(store, RetentionRules(tracklets_mb=smallest / MEGABYTE)).age(NOON)
        assert names(store) == "0123456789"
        Retention(store, RetentionRules(tracklets_mb=1e-6)).age(NOON)
        assert names(store) == "0"  # held
        assert reconcile(store).differences == ()


def test_clips_age_and_those_of_held_cameras_stay(tmp_path: Path) -> None:
    fill(tmp_path)
    (tmp_path / "video").mkdir()
    for n, name in enumerate(["gate", "yard", "dock"]):
        (tmp_path / f"video/{name}.mp4").write_bytes(bytes(1000))
        when = (NOON + timedelta(days=n)).timestamp()
        os.utime(tmp_path / f"video/{name}.mp4", (when, when))
    with maintain(tmp_path) as store:
        rules = RetentionRules(clips_days=2, clips_mb=0.0015)
        assert Retention(store, RetentionRules()).age(NOON + timedelta(days=900)).counts == {}
        hold(tmp_path, "gate-1")
        aged = Retention(store, RetentionRules(clips_days=2)).age(NOON + timedelta(days=3, seconds=1))
        assert (aged.counts["clips"], _videos(tmp_path)) == (1, {"gate", "dock"})
        Retention(store, rules).age(NOON)
        assert _videos(tmp_path) == {"gate"}


def test_the_sheet_of_matches_ages_as_a_clip_unless_anything_is_held(tmp_path: Path) -> None:
    fill(tmp_path)
    sheet = tmp_path / "matches.png"
    with maintain(tmp_path) as store:
        hold(tmp_path, "gate-1")
        for days, rules, held, there in [
            (3, RetentionRules(clips_days=2), True, True),
            (1, RetentionRules(clips_days=2), False, True),
            (3, RetentionRules(clips_days=2), False, False),
            (0, RetentionRules(clips_mb=0.002), False, True),
            (0, RetentionRules(clips_mb=0.0005), False, False),
        ]:
            sheet.write_bytes(bytes(1000))
            os.utime(sheet, (NOON.timestamp(), NOON.timestamp()))
            if not held:
                Cases(store).open("C-1", "", EVE)
                Cases(store).close("C-1", EVE)
            aged = Retention(store, rules).age(NOON + timedelta(days=days, seconds=1))
            assert (sheet.exists(), aged.counts["clips"]) == (there, int(not there))


def _videos(root: Path) -> set[str]:
    return {path.stem for path in (root / "video").iterdir()}


def test_rows_of_the_audit_age(tmp_path: Path) -> None:
    fill(tmp_path)
    with maintain(tmp_path) as store:
        for _ in range(20):
            Audit(store).record(EVE, "search", {"query": "x" * 100})
        aged = Retention(store, RetentionRules(audit_mb=0.002)).age()
        assert 10 < aged.counts["audit"] < 20
        assert Audit(store).verify().findings == ()


def test_a_nearly_full_disk_takes_the_oldest_and_says_so(tmp_path: Path) -> None:
    fill(tmp_path)
    hold(tmp_path, "gate-0")
    (tmp_path / "video").mkdir()
    (tmp_path / "video/yard.mp4").write_bytes(bytes(1000))
    os.utime(tmp_path / "video/yard.mp4", (0, 0))
    told: list[Shortage] = []
    free = iter([500 * MEGABYTE, 1, 1, 1, 1, *[900 * MEGABYTE] * 9])
    with maintain(tmp_path) as store:
        retention = Retention(store, RetentionRules(), on_shortage=told.append, free_bytes=lambda path: next(free))
        assert retention.make_room()
        assert (told, retention.is_low) == ([], False)
        assert retention.make_room()
        assert names(store) == "0"
        assert told[0].aged.counts == {"clips": 1, "tracklets": 10}
        assert told[0].aged.until == NOON + timedelta(days=9, seconds=1)
        assert Audit(store).rows()[-1].action == "disk_low"
        assert retention.is_low
        assert retention.make_room()
        assert not retention.is_low


def test_other_failures_than_a_full_disk_are_not_swallowed(tmp_path: Path) -> None:
    fill(tmp_path, days=1)
    with Store.read(tmp_path) as store, pytest.raises(ResourceError, match="readonly"):
        Retention(store, RetentionRules()).keep([sighting_of(tracklet_of("gate-N"))])


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    with mounted(tmp_path / "small") as folder:
        yield folder


def test_a_disk_of_64_mb_filled_more_than_twice(small_disk: Path) -> None:
    root = small_disk / "run"
    events = EventLog(root, model_id=MODEL, dimension=DIMENSION)
    with Store.open(root, model_id=MODEL, dimension=DIMENSION, calibration=CALIBRATION) as store:
        retention = Retention(store, RetentionRules(), on_shortage=events.tell_shortage)
        count = 0
        while count < 240:
            items = [
                sighting_of(large(f"gate-{count + n}", 10.0 * (count + n)), person=count + n + 1) for n in range(4)
            ]
            for item in retention.keep(items):
                events.write(item)
            count += 4
            if count == 40:
                hold(root, "gate-3", "gate-20")
            if count == 180:  # somebody else fills the disk to the last byte
                fill_to_the_brim(small_disk / "other")
            if count == 200:
                (small_disk / "other").unlink()
        assert retention.lost == {}
        stored = [each.tracklet_id for each in store.tracklets()]
        assert {"gate-3", "gate-20", "gate-239"} <= set(stored)
        assert 30 < len(stored) < 150
        newest = [f"gate-{n}" for n in range(240 - len(stored) + 2, 240)]
        assert set(stored) == {"gate-3", "gate-20", *newest}  # the oldest went, and only they
        found = reconcile(store)
        assert found.differences == ()
        assert (found.tracklets, found.vectors, found.crops) == (len(stored), len(stored), 2 * len(stored))
        assert Audit(store).verify().findings == ()
    log = "".join(path.read_text() for path in sorted((root / "events").glob("*.jsonl")))
    assert log.count('"type":"disk_low"') > 3
    with maintain(root) as store:
        assert reconcile(store).differences == ()


def test_when_a_case_holds_everything_the_loss_is_counted_and_nothing_else_is_touched(small_disk: Path) -> None:
    root = small_disk / "run"
    with Store.open(root, model_id=MODEL, dimension=DIMENSION, calibration=CALIBRATION) as store:
        retention = Retention(store, RetentionRules())
        for n in range(20):
            retention.keep([sighting_of(large(f"gate-{n}", 10.0 * n), person=n + 1)])
        hold(root, *(f"gate-{n}" for n in range(20)))
        fill_to_the_brim(small_disk / "other")
        for n in range(20, 60):
            kept = retention.keep([sighting_of(large(f"gate-{n}", 10.0 * n), person=n + 1)])
            with suppress(ResourceError, OSError):  # there may be no room to note what a case holds either
                hold(root, *(item.tracklet.tracklet_id for item in kept))
        stored = {each.tracklet_id for each in store.tracklets()}
        assert {f"gate-{n}" for n in range(20)} <= stored
        assert retention.lost["disk_full"] == 60 - len(stored)
        assert retention.lost["disk_full"] > 20
        assert retention.is_low
        (small_disk / "other").unlink()
        assert retention.keep([sighting_of(large("gate-99", 999.0))])
        assert reconcile(store).differences == ()


def test_on_the_path_of_every_frame_the_disk_is_looked_at_once_a_second(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(tmp_path, days=1)
    now, looks = [100.0], []
    with maintain(tmp_path) as store:
        retention = Retention(store, RetentionRules())
        monkeypatch.setattr(Retention, "look", lambda self: looks.append(now[0]))
        monkeypatch.setattr("pipeline.retention.time", SimpleNamespace(monotonic=lambda: now[0]))
        for _ in range(50):  # 25 frames a second
            retention.tick()
            now[0] += 0.04
    assert len(looks) == 2


def test_what_is_old_goes_also_after_this_machines_clock_was_a_year_ahead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Clock(datetime):
        at = NOON

        @classmethod
        def now(cls, tz: tzinfo | None = None) -> "Clock":
            return cls.fromtimestamp(cls.at.timestamp(), tz)

    now, aged = [100.0], list[float]()
    monkeypatch.setattr("pipeline.retention.datetime", Clock)
    monkeypatch.setattr("pipeline.retention.time", SimpleNamespace(monotonic=lambda: now[0]))
    fill(tmp_path, days=1)
    with maintain(tmp_path) as store:
        retention = Retention(store, RetentionRules())
        monkeypatch.setattr(Retention, "age", lambda self, moment=None: aged.append(now[0]))
        for minute in range(10):
            Clock.at = NOON + timedelta(days=400 * (minute == 1), minutes=minute)
            now[0] += 61.0
            retention.look()
            retention.look()
    assert len(aged) == 10
