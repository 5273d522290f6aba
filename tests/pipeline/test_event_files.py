"""An event log of several days: what names a tracklet leaves it, and only what names one is touched."""

import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.audit import Actor
from pipeline.event_files import EVENTS, append_line, read_lines, scrub
from pipeline.identify import Link
from pipeline.persons import Persons
from pipeline.recovery import maintain
from pipeline.retention import Retention, RetentionRules
from pipeline.sinks import EventLog
from reid.modality import Modality
from tests.pipeline.factories import DIMENSION, MODEL, NOON, open_store, sighting_of, tracklet_of

DAYS, A_DAY = 5, 8
EVE = Actor("eve")


def name_of(number: int) -> str:
    return f"gate-{number:04d}"


def fill(root: Path) -> None:
    """Each tracklet is linked to the one before, to one of the day before, and to the first that was ever seen."""
    events = EventLog(root, model_id=MODEL, dimension=DIMENSION)
    for n in range(DAYS * A_DAY):
        earlier = sorted({each for each in (n - 1, n - A_DAY, 0) if 0 <= each < n})
        links = tuple(Link(name_of(each), "gate", Modality.RGB, 0.8, 0.9, cross_modality=False) for each in earlier)
        events.write(sighting_of(tracklet_of(name_of(n), at=n * 86400 / A_DAY), links=links))


def expected(root: Path, gone: set[str]) -> list[dict[str, Any]]:
    """By parsing every line."""
    left = [event for _, event in read_lines(root) if event["tracklet_id"] not in gone]
    return [event | {"links": [link for link in event["links"] if link["tracklet_id"] not in gone]} for event in left]


def parsed(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    real, seen = json.loads, []

    def loads(text: bytes, **named: Any) -> Any:
        seen.append(text)
        return real(text, **named)

    monkeypatch.setattr("pipeline.event_files.json.loads", loads)
    return seen


@pytest.mark.parametrize("numbers", [[3, 4], [0], [4 * A_DAY + 1], list(range(A_DAY)), list(range(40)), [999]])
def test_what_is_left_is_what_names_none_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, numbers: list[int]
) -> None:
    fill(tmp_path)
    gone = {name_of(number) for number in numbers}
    before = [line for path in (tmp_path / EVENTS).glob("*.jsonl") for line in path.read_bytes().splitlines(True)]
    naming = [line for line in before if any(b'"%s"' % name.encode() in line for name in gone)]
    left, own = expected(tmp_path, gone), gone & {event["tracklet_id"] for _, event in read_lines(tmp_path)}
    with monkeypatch.context() as patched:
        seen = parsed(patched)
        assert scrub(tmp_path, gone) == len(own)
        assert sorted(seen) == sorted(naming)
    assert [event for _, event in read_lines(tmp_path)] == left
    after = [line for path in (tmp_path / EVENTS).glob("*.jsonl") for line in path.read_bytes().splitlines(True)]
    assert set(before) - set(naming) <= set(after)  # to the byte
    assert not any(name.encode() in line for name in gone for line in after)


def test_days_that_did_not_change_are_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmp_path)
    scrub(tmp_path, {"gate-none"})
    days = sorted((tmp_path / EVENTS).glob("*.jsonl"))
    read: list[Path] = []
    real = Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda self: read.append(self) or real(self))
    assert scrub(tmp_path, {"gate-another"}) == 0
    assert read == []
    append_line(tmp_path, days[2].stem, b'{"tracklet_id": "gate-new", "links": [{"tracklet_id": "gate-0001"}]}\n')
    assert scrub(tmp_path, {"gate-another"}) == 0
    assert set(read) == {days[2]}
    assert scrub(tmp_path, {"gate-new"}) == 1
    assert b"gate-new" not in days[2].read_bytes()


def test_torn_and_damaged_lines_that_may_name_one_go(tmp_path: Path) -> None:
    fill(tmp_path)
    first, second, *_ = sorted((tmp_path / EVENTS).glob("*.jsonl"))
    noise, other = b'{"tracklet_id":"gate-0003", noise\n', b"other noise\n"
    first.write_bytes(noise + other + first.read_bytes())
    second.write_bytes(second.read_bytes() + b'{"tracklet_id":"gate-00')
    assert scrub(tmp_path, {"gate-none"}) == 1
    assert second.read_bytes().endswith(b"}\n")
    assert scrub(tmp_path, {"gate-0003"}) == 2
    assert first.read_bytes().startswith(other)
    assert b"gate-0003" not in first.read_bytes()


def test_decisions_are_written_anew_only_where_they_name_what_went(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_store(tmp_path) as store:
        for n in range(4):
            store.add(sighting_of(tracklet_of(f"gate-{n}", at=86400.0 * n), person=1 + (n + 1) // 2))
        Persons(store).merge(2, 3, EVE)
        Persons(store).confirm("gate-2", "gate-1", EVE)
    copy = tmp_path / "decisions.jsonl"
    before = copy.read_bytes()
    with maintain(tmp_path) as store:
        retention = Retention(store, RetentionRules(tracklets_days=1))
        inode = copy.stat().st_ino
        retention.age(NOON.replace(day=2, hour=13))
        assert not store.has("gate-0")
        assert (copy.stat().st_ino, copy.read_bytes()) == (inode, before)
        retention.age(NOON.replace(day=3, hour=13))
        assert not store.has("gate-1")
        assert b"gate-1" not in copy.read_bytes()
        assert len(copy.read_bytes().splitlines()) == 2
