"""Who searched for whom: no row can be edited, taken out, moved or cut off unseen, and an erasure takes names only."""

import json
import sqlite3
import sys
import threading
import time
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from pipeline import audit as module
from pipeline.audit import Actor, Audit
from pipeline.cases import Cases
from pipeline.crop_files import write_whole
from pipeline.errors import UsageError
from pipeline.event_files import exclusive
from pipeline.store import DATABASE, Store
from pipeline.witnesses import AUDIT_COPY
from tests.pipeline.factories import open_store, sighting_of, tracklet_of

EVE = Actor("eve", purpose="a lost child")


def audited(root: Path, rows: int = 5) -> None:
    with open_store(root) as store:
        store.add_all([sighting_of(tracklet_of(f"gate-{n}", at=10 * n), person=n + 1) for n in range(rows)])
        for n in range(rows):
            Audit(store).record(EVE, "search", {"query": f"gate-{n}", "answers": []}, subjects=[f"gate-{n}"])


def spoil(root: Path, *statements: str) -> None:
    with closing(sqlite3.connect(root / DATABASE)) as database, database:
        for statement in statements:
            database.execute(statement)


def findings(root: Path, head: tuple[int, str] | None = None) -> tuple[str, ...]:
    with Store.read(root) as store:
        return Audit(store).verify(head=head).findings


def test_rows_come_back_with_names_and_verify(tmp_path: Path) -> None:
    audited(tmp_path)
    with Store.read(tmp_path) as store:
        rows = Audit(store).rows()
        assert [(row.number, row.actor, row.action, row.purpose) for row in rows] == [
            (n, "eve", "search", "a lost child") for n in range(1, 6)
        ]
        assert rows[2].details == {"query": "gate-2", "answers": []}
        verdict = Audit(store).verify()
        assert (verdict.rows, verdict.findings, verdict.notes) == (5, (), ())
        assert verdict.head == (5, rows[4].hash)
        assert [row.number for row in Audit(store).rows(limit=2)] == [4, 5]


@pytest.mark.parametrize(
    ("edits", "message"),
    [
        (["UPDATE audit SET actor = 'bob' WHERE number = 3"], "row 3 was edited"),
        (["UPDATE audit SET details = '{}' WHERE number = 5"], "row 5 was edited"),
        (["UPDATE audit SET at_us = at_us + 1 WHERE number = 1"], "row 1 was edited"),
        (["UPDATE audit SET case_id = 'C1' WHERE number = 2"], "row 2 was edited"),
        (["DELETE FROM audit WHERE number = 3"], "row 3 is missing"),
        (["DELETE FROM audit WHERE number = 1"], "row 1 is missing"),
        (["DELETE FROM audit WHERE number = 5"], "row 5 is missing from the database"),
        (["DELETE FROM audit"], "row 1 is missing from the database"),
        (
            [
                "UPDATE audit SET number = 99 WHERE number = 2",
                "UPDATE audit SET number = 2 WHERE number = 3",
                "UPDATE audit SET number = 3 WHERE number = 99",
            ],
            "row 2 does not follow",
        ),
        (["INSERT INTO audit SELECT 6, at_us, actor, action, case_id, purpose, details, hash, hash FROM audit"
          " WHERE number = 5"], "row 6 was edited"),
        (["UPDATE audit_subjects SET subject = 'gate-9' WHERE subject = 'gate-2'"], "was edited"),
    ],
)  # fmt: skip
def test_whatever_is_done_to_the_rows_is_found(tmp_path: Path, edits: list[str], message: str) -> None:
    audited(tmp_path)
    spoil(tmp_path, *edits)
    assert any(message in finding for finding in findings(tmp_path)), findings(tmp_path)


@pytest.mark.parametrize("column", ["number", "at_us", "actor", "action", "case_id", "purpose", "details", "previous"])
def test_every_column_is_under_the_hash(tmp_path: Path, column: str) -> None:
    audited(tmp_path)
    spoil(tmp_path, f"UPDATE audit SET {column} = '77' WHERE number = 5")  # noqa: S608
    assert findings(tmp_path) != ()


def test_a_chain_that_was_forged_anew_differs_from_its_copy_and_from_a_head_kept_elsewhere(tmp_path: Path) -> None:
    audited(tmp_path)
    with Store.read(tmp_path) as store:
        head = Audit(store).verify().head
    spoil(tmp_path, "DELETE FROM audit", "DELETE FROM audit_subjects")
    with Store.edit(tmp_path) as store, store.writing() as db:
        for _ in range(5):
            Audit(store).append(db, EVE, "search", {"query": "nobody"})
    assert any("differs from audit.jsonl" in finding for finding in findings(tmp_path))
    (tmp_path / AUDIT_COPY).unlink()
    with Store.edit(tmp_path) as store:
        Audit(store).copy()
    assert findings(tmp_path) == ()  # database and copy forged alike: only what lies elsewhere shows it
    assert findings(tmp_path, head) == ("row 5 has another hash than the head that was kept",)
    spoil(tmp_path, "DELETE FROM audit WHERE number > 2")
    (tmp_path / AUDIT_COPY).unlink()
    assert any("cut off" in finding for finding in findings(tmp_path, head))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda lines: [*lines[:2], lines[2].replace(b"eve", b"bob"), *lines[3:]], "row 3 differs from"),
        (lambda lines: [*lines[:2], *lines[3:]], "row 3 is missing from audit.jsonl"),
        (lambda lines: [*lines, b"nonsense\n"], "not a row of the audit"),
        (lambda lines: [*lines, lines[0]], "not a row of the audit"),
    ],
)
def test_an_edited_copy_is_found(tmp_path: Path, change: Callable[[list[bytes]], list[bytes]], message: str) -> None:
    audited(tmp_path)
    lines = (tmp_path / AUDIT_COPY).read_bytes().splitlines(keepends=True)
    (tmp_path / AUDIT_COPY).write_bytes(b"".join(change(lines)))
    assert any(message in finding for finding in findings(tmp_path)), findings(tmp_path)


def test_a_copy_that_a_crash_left_behind_or_torn_is_completed_with_the_next_row(tmp_path: Path) -> None:
    audited(tmp_path)
    path = tmp_path / AUDIT_COPY
    path.write_bytes(path.read_bytes()[:-20])
    with Store.edit(tmp_path) as store:
        verdict = Audit(store).verify()
        assert verdict.findings == ()
        assert "1 rows are not in audit.jsonl yet" in verdict.notes[0]
        Audit(store).record(EVE, "search", {})
        verdict = Audit(store).verify()
    assert (verdict.rows, verdict.findings, verdict.notes) == (6, (), ())
    assert [json.loads(line)[0] for line in path.read_bytes().splitlines()] == [1, 2, 3, 4, 5, 6]


def test_a_purpose_can_be_made_mandatory_and_a_case_must_exist(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        strict = Audit(store, purpose_required=True)
        with pytest.raises(UsageError, match="this site asks why"):
            strict.record(Actor("eve"), "search", {})
        with pytest.raises(UsageError, match="no case 'C-7': no case was opened yet"):
            strict.record(Actor("eve", case_id="C-7"), "search", {})
        Cases(store).open("C-7", "lost child", EVE)
        strict.record(Actor("eve", case_id="C-7"), "search", {})
        strict.record(EVE, "search", {})
        Audit(store).record(Actor("eve"), "search", {})
        assert [row.case_id for row in strict.rows()] == ["C-7", "C-7", None, None]


def test_names_within_texts_are_replaced_and_each_row_has_tokens_of_its_own(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        store.add(sighting_of(tracklet_of("gate-SECRET")))
        for _ in range(2):
            details = {"query": "near gate-SECRET (box)", "gate-SECRET": ["gate-SECRET", 1]}
            Audit(store).record(EVE, "search", details, subjects=["gate-SECRET"])
        assert Audit(store).rows()[0].details == details
        with store.reading() as db:
            texts = [text for (text,) in db.execute("SELECT details FROM audit")]
        assert "SECRET" not in "".join(texts)
        assert texts[0] != texts[1]
    assert b"SECRET" not in (tmp_path / AUDIT_COPY).read_bytes()


def test_what_is_about_an_open_case_stays_until_it_is_closed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with open_store(tmp_path) as store:
        for name in ("A", "B"):
            store.add(sighting_of(tracklet_of(f"gate-{name}")))
        audit, cases = Audit(store), Cases(store)
        audit.record(EVE, "search", {"query": "gate-A"}, subjects=["gate-A"])
        audit.record(EVE, "search", {"query": "gate-B"}, subjects=["gate-B"])  # which led to the case
        audit.record(EVE, "search", {})
        cases.open("C-1", "theft", EVE)
        cases.hold("C-1", ["gate-B"], EVE)
        tomorrow = datetime.now(UTC) + timedelta(days=1)
        assert audit.age(before=tomorrow) == 1
        assert audit.age(most_bytes=100) == 0
        assert audit.age(most_bytes=100) == 0
        assert (
            caplog.text.count("more than the 100 that it may have: an open case holds its rows") == 1
        )  # not each minute anew
        kept = [(row.action, row.case_id) for row in audit.rows()]
        assert kept == [
            ("search", None), ("search", None), ("case_open", "C-1"), ("hold", "C-1"), ("audit_aged", None)
        ]  # fmt: skip
        cases.release("C-1", ["gate-B"], EVE)
        assert audit.age(before=tomorrow) == 2  # what it does not hold is not of it; its own rows are
        assert audit.rows()[0].action == "case_open"
        cases.close("C-1", EVE)
        assert audit.age(before=tomorrow) == 6
        assert audit.verify().findings == ()


def test_old_rows_age_away_and_the_chain_goes_on(tmp_path: Path) -> None:
    audited(tmp_path)
    with Store.edit(tmp_path) as store:
        audit = Audit(store)
        assert audit.age(before=datetime.now(UTC) - timedelta(days=1)) == 0
        assert audit.age(before=datetime.now(UTC) + timedelta(days=1)) == 5
        audit.record(EVE, "search", {})
        assert [(row.number, row.action) for row in audit.rows()] == [(6, "audit_aged"), (7, "search")]
        assert audit.verify().findings == ()
        with store.reading() as db:
            assert db.execute("SELECT COUNT(*) FROM audit_subjects").fetchone() == (0,)
        assert audit.age(most_bytes=400) == 1
        assert audit.verify().findings == ()
    spoil(tmp_path, "DELETE FROM audit WHERE number = 7")
    assert findings(tmp_path) != ()


def test_a_row_of_megabytes_is_copied_like_any_other(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        for size in (3_000_000, 10, 70_000, 10):
            Audit(store).record(EVE, "export", {"tracklets": "x" * size})
        assert Audit(store).verify() == Audit(store).verify(head=Audit(store).verify().head)
        assert (Audit(store).verify().findings, Audit(store).verify().notes) == ((), ())


def test_rows_of_several_processes_make_one_chain(tmp_path: Path) -> None:
    audited(tmp_path, rows=1)
    with Store.edit(tmp_path) as one, Store.edit(tmp_path) as other, open_store(tmp_path) as filler:
        for store in (one, other, filler) * 5:
            Audit(store).record(EVE, "search", {})
        assert Audit(one).verify().findings == ()
        assert Audit(one).verify().rows == 16


def cut_off_the_beginning(root: Path, *, until: int) -> tuple[int, str]:
    """As one who can write the database would; returns the last row that went."""
    with Store.read(root) as store:
        head = next((row.number, row.hash) for row in Audit(store).rows() if row.number == until)
    spoil(
        root,
        f"DELETE FROM audit WHERE number <= {until}",  # noqa: S608
        "DELETE FROM audit_subjects",
        f"INSERT OR REPLACE INTO meta VALUES ('audit_start', '{until + 1}:{head[1]}')",  # noqa: S608
    )
    return head


def test_the_oldest_rows_deleted_are_found_with_and_without_a_copy(tmp_path: Path) -> None:
    audited(tmp_path, rows=8)
    head = cut_off_the_beginning(tmp_path, until=5)
    found = findings(tmp_path, head)
    assert "the audit begins with row 6, but no row says that those before it aged away" in found
    assert [f"row {n} is missing from the database, but in {AUDIT_COPY}" in found for n in range(1, 6)] == [True] * 5
    with Store.edit(tmp_path) as store:
        Audit(store).record(EVE, "search", {})
    assert set(found) <= set(findings(tmp_path))  # the next row takes nothing out of the copy
    (tmp_path / AUDIT_COPY).unlink()
    with Store.edit(tmp_path) as store:
        Audit(store).copy()
    assert any("no row says" in finding for finding in findings(tmp_path))


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"until_row": 4, "hash": "of 5"}, "no row says"),
        ({"until_row": 5, "hash": "0" * 64}, "no row says"),
        ({"until_row": 99, "hash": "of 5"}, "no row says"),
        ({"until_row": "5", "hash": 7}, "no row says"),
    ],
)
def test_an_ageing_of_other_rows_says_nothing(tmp_path: Path, said: dict[str, object], message: str) -> None:
    audited(tmp_path, rows=8)
    head = cut_off_the_beginning(tmp_path, until=5)
    with Store.edit(tmp_path) as store:
        Audit(store).record(
            EVE, "audit_aged", {key: head[1] if value == "of 5" else value for key, value in said.items()}
        )
    assert any(message in finding for finding in findings(tmp_path)), findings(tmp_path)


def test_all_rows_gone_under_a_forged_ageing_differ_from_the_copy(tmp_path: Path) -> None:
    audited(tmp_path)
    cut_off_the_beginning(tmp_path, until=5)
    spoil(tmp_path, f"UPDATE meta SET value = '6:{'a' * 64}' WHERE key = 'audit_start'")  # noqa: S608
    with Store.edit(tmp_path) as store, store.writing() as db:
        Audit(store).append(db, EVE, "audit_aged", {"until_row": 5, "hash": "a" * 64})
    assert findings(tmp_path) == (f"row 5, which aged away, has another hash in {AUDIT_COPY}",)


@pytest.mark.parametrize("value", ["", "x:y", "-1:0", "²:0", "1:ab", "7:0"])
def test_a_start_that_was_edited_is_found(tmp_path: Path, value: str) -> None:
    audited(tmp_path)
    with Store.edit(tmp_path) as store:
        assert Audit(store).age(most_bytes=1000) == 3
        assert Audit(store).verify().findings == ()
    spoil(tmp_path, f"UPDATE meta SET value = '{value}' WHERE key = 'audit_start'")  # noqa: S608
    assert findings(tmp_path) != ()


def test_what_ages_leaves_the_copy_with_the_row_that_says_so_also_after_a_crash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    audited(tmp_path)
    lines = (tmp_path / AUDIT_COPY).read_bytes().splitlines(keepends=True)
    with Store.edit(tmp_path) as store:
        with monkeypatch.context() as crash:
            crash.setattr(Audit, "copy", lambda self: None)
            assert Audit(store).age(most_bytes=1000) == 3
        verdict = Audit(store).verify()
        assert verdict.findings == ()
        assert f"3 rows that aged away are in {AUDIT_COPY} still: the next row takes them out" in verdict.notes
        Audit(store).record(EVE, "search", {})
        verdict = Audit(store).verify()
    numbers = [json.loads(line)[0] for line in (tmp_path / AUDIT_COPY).read_bytes().splitlines()]
    assert (verdict.findings, numbers) == ((), [4, 5, 6, 7])
    assert [note[:34] for note in verdict.notes] == ["rows up to 3 aged away: row 6 of 2"]
    (tmp_path / AUDIT_COPY).write_bytes(b"".join(lines[:3]) + (tmp_path / AUDIT_COPY).read_bytes())
    assert findings(tmp_path)[0] == f"row 1 is missing from the database, but in {AUDIT_COPY}"


def test_a_head_that_aged_away_is_compared_where_an_ageing_ended_with_it_and_else_told(tmp_path: Path) -> None:
    audited(tmp_path)
    with Store.edit(tmp_path) as store:
        audit = Audit(store)
        hashes = {row.number: row.hash for row in audit.rows()}
        audit.age(most_bytes=1000)
        for _ in range(4):
            audit.record(EVE, "search", {})
        audit.age(most_bytes=2000)
        assert [row.number for row in audit.rows() if row.action == "audit_aged"] == [6, 11]
        plain = audit.verify()
        assert audit.verify(head=(3, hashes[3])) == plain  # where the first ageing ended
        assert findings(tmp_path, (3, "0" * 64)) == ("row 3 has another hash than the head that was kept",)
        told = audit.verify(head=(2, hashes[2]))
    assert told.findings == ()
    assert "row 2, which was kept as the head, is not there to compare: the audit begins behind it" in told.notes


def test_rows_that_come_while_it_is_verified_are_no_findings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    audited(tmp_path)
    reading = module._read_copy

    with Store.edit(tmp_path) as other:

        def busy(path: Path) -> tuple[dict[int, list[object]], list[str]]:
            Audit(other).record(EVE, "search", {})
            found = reading(path)
            Audit(other).record(EVE, "search", {})
            assert Audit(other).age(most_bytes=1200) > 0
            return found

        monkeypatch.setattr(module, "_read_copy", busy)
        assert findings(tmp_path) == ()


def test_a_line_of_one_who_waited_goes_into_the_file_that_has_the_name(tmp_path: Path) -> None:
    path = tmp_path / "lines"

    def append() -> None:
        with exclusive(path) as file:
            file.write(b"late\n")

    with exclusive(path):
        waiting = threading.Thread(target=append)
        waiting.start()
        time.sleep(0.2)
        write_whole(path, b"early\n")
    waiting.join()
    assert path.read_bytes() == b"early\nlate\n"


def test_a_name_that_is_part_of_a_token_or_of_another_name_is_hidden_and_comes_back(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        details = {"query": "gate-ann near gate-annabel (sub)", "sub": ["b", "gate-ann", "object"]}
        Audit(store).record(EVE, "search", details, subjects=["gate-ann", "b", "sub", "gate-annabel"])
        assert Audit(store).rows()[0].details == details
        with store.reading() as db:
            (text,) = db.execute("SELECT details FROM audit").fetchone()
        assert "gate" not in text
        assert Audit(store).verify().findings == ()


def searched(root: Path, searches: int) -> None:
    """Searches for no case, each with 20 answers."""
    with open_store(root) as store, store.writing() as db:
        for number in range(searches):
            names = [f"gate-{number * 20 + answer:026d}" for answer in range(20)]
            answers = [{"tracklet_id": name, "person": "P0001", "probability": 0.5} for name in names]
            Audit(store).append(db, EVE, "search", {"query": names[0], "answers": answers}, subjects=names)


def calls_of(job: Callable[[], object]) -> int:
    """How many functions it calls, those of C too."""
    count = 0

    def called(frame: object, event: str, arg: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(called)
    try:
        job()
    finally:
        sys.setprofile(before)
    return count


def test_a_page_is_no_more_work_before_many_searches_than_before_few_and_all_rows_are_as_much_as_they_are(
    tmp_path: Path,
) -> None:
    calls = []
    for number in (20, 80):
        searched(tmp_path / str(number), number)
        with Store.read(tmp_path / str(number)) as store:
            audit = Audit(store)
            page = calls_of(lambda audit=audit: audit.rows(limit=10))  # type: ignore[misc]
            calls.append((page, calls_of(audit.rows), calls_of(audit.head)))
    (page, every, head), (page_of_four, every_of_four, head_of_four) = calls
    assert page_of_four <= page + 5
    assert every_of_four < 5 * every
    assert head_of_four == head


def test_of_all_rows_few_are_near_a_case(tmp_path: Path) -> None:
    searched(tmp_path, 30)  # 1 to 30
    with Store.edit(tmp_path) as store:
        audit, mine = Audit(store), f"gate-{61:026d}"  # of the fourth search
        for name in ("c1", "c2"):
            Cases(store).open(name, "", EVE)  # 31 and 32
            audit.record(Actor("eve", name), "search", {"query": mine}, subjects=[mine])  # 32 and 34
        audit.record(EVE, "merge", {"decision": 1})
        audit.record(EVE, "erase", {"tracklets": 1})
        assert audit.numbers_near("c1", [mine, "gate-x"], decisions=["merge"]) == [4, 31, 32, 35]
        assert [row.number for row in audit.rows(only=[31, 4, 99])] == [4, 31]
        assert audit.rows(only=[]) == []
        text = json.dumps(audit.rows(only=[4], naming=[mine])[0].details)
        assert (text.count("gate-"), text.count("subject:")) == (1, 20)


def seconds_of(job: Callable[[], object], *, times: int) -> float:
    spent = []
    for _ in range(times):
        began = time.thread_time()
        job()
        spent.append(time.thread_time() - began)
    return min(spent)


@pytest.mark.alone
def test_four_times_the_searches_take_about_four_times_as_long_to_verify_and_to_age(tmp_path: Path) -> None:
    verifying, ageing = [], []
    for number in (100, 400):
        searched(tmp_path / str(number), number)
        with Store.edit(tmp_path / str(number)) as store:
            audit = Audit(store)
            audit.copy()
            verifying.append(seconds_of(audit.verify, times=3))
            ageing.append(seconds_of(lambda audit=audit: audit.age(most_bytes=0), times=1))  # type: ignore[misc]
            assert audit.verify().findings == ()
    assert verifying[1] < 8 * verifying[0]
    assert ageing[1] < 8 * ageing[0]
