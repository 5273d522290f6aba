"""Whether a database that opens as if nothing were wrong has lost something: what lies beside it tells.

For SQLite a write-ahead log ends before its first damaged page, and an older copy put back is a whole database. But
events and the copies of audit, cases and decisions are written after each commit: what they know and the database does
not, it has lost. A tracklet's record is written before the commit, and alone tells only that one was about to come.
"""

import json
import mmap
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from pipeline.errors import BehindGalleryError
from pipeline.event_files import read_lines
from pipeline.record import CROPS, RECORD, Record
from pipeline.schema import DATABASE

AUDIT_COPY = "audit.jsonl"
CASES_COPY = "cases.json"
DECISIONS_COPY = "decisions.jsonl"

_CopiedRow = tuple[int, str, str]  # number, action and hash


def check_current(root: Path, db: sqlite3.Connection) -> None:
    """Raise `BehindGalleryError` when files beside the database know what it does not, tracklets among them.

    They are read before it, so that who fills the gallery meanwhile is no difference.
    """
    check_copies(root, db)
    lost = _lost_tracklets(root, db)
    if lost:
        more = f", and {len(lost) - 1} more," if len(lost) > 1 else ""
        raise _behind(root, f"tracklet {lost[0]}{more} of which files tell that it was kept")


def check_copies(root: Path, db: sqlite3.Connection) -> None:
    """As `check_current`, but of decisions, cases and erasures alone: quick, for what operators do beside a run."""
    decided = next(_numbers_from_end(root / DECISIONS_COPY), 0)
    cases = _read_cases(root)
    rows = _lost_rows(root, db)
    (last,) = db.execute("SELECT COALESCE(MAX(decision_id), 0) FROM decisions").fetchone()
    if decided > last:
        raise _behind(root, f"decision {decided}, which is in {DECISIONS_COPY}")
    known = {case for (case,) in db.execute("SELECT case_id FROM cases")}
    missing = sorted({str(case[0]) for case in cases["cases"]} - known)
    if missing:
        raise _behind(root, f"case {missing[0]}, which is in {CASES_COPY}")
    if rows and (root / CASES_COPY).is_file() and cases != json.loads(cases_text(db)):
        raise _behind(root, f"row {rows[0][0]} of the audit, and what {CASES_COPY} says")
    if any(action == "erase" for _, action, _ in rows) and (back := _without_folder(root, db)):
        raise _behind(root, f"an erasure, of which {AUDIT_COPY} tells: it has {back[0]} still, whose files are gone")


def cases_text(db: sqlite3.Connection) -> bytes:
    """What `CASES_COPY` holds: every case, and its tracklets by name."""
    cases = db.execute("SELECT case_id, title, opened_us, closed_us FROM cases ORDER BY case_id").fetchall()
    items = db.execute(
        "SELECT case_id, tracklet_id, added_us, added_by, note FROM case_items"
        " JOIN tracklets ON row = tracklet_row ORDER BY case_id, tracklet_id"
    ).fetchall()
    return json.dumps({"cases": cases, "items": items}, indent=1).encode() + b"\n"


def unnamed_folders(root: Path, db: sqlite3.Connection) -> list[Path]:
    """Folders of tracklets that the database does not have, but those that it is yet to delete."""
    folders = sorted((root / CROPS).glob("*/*"))
    known = {name for (name,) in db.execute("SELECT tracklet_id FROM tracklets")}
    going = {value for (value,) in db.execute("SELECT value FROM pending WHERE kind = 'folder'")}
    return [each for each in folders if each.name not in known and each.relative_to(root).as_posix() not in going]


def whole_record(root: Path, folder: Path) -> Record | None:
    """The record in a tracklet's folder, when nothing is wrong with it and all its images are there."""
    try:
        record = Record.read(folder / RECORD)
    except (OSError, ValueError, TypeError):
        return None
    in_place = root / record.folder == folder and all((root / path).is_file() for path in record.image_paths)
    return record if in_place else None


def _behind(root: Path, what: str) -> BehindGalleryError:
    return BehindGalleryError(
        f"{root / DATABASE}: a damaged gallery: it has lost {what}. It is an older one, or a page of its log was"
        " damaged; gallery verify rebuilds it"
    )


def _lost_tracklets(root: Path, db: sqlite3.Connection) -> list[str]:
    if not (unnamed := {each.name for each in unnamed_folders(root, db) if not each.name.startswith(".")}):
        return []
    said = {event.get("tracklet_id") for _, event in read_lines(root)}
    said |= {item[1] for item in _read_cases(root)["items"]} | _decided_about(root)
    return [each.name for each in unnamed_folders(root, db)
            if each.name in unnamed & said and whole_record(root, each) is not None]  # fmt: skip


def _decided_about(root: Path) -> set[str]:
    found: set[str] = set()
    for line in _lines_from_end(root / DECISIONS_COPY):
        with suppress(ValueError, TypeError, KeyError, LookupError):
            found |= {each[0] for each in json.loads(line)[1]["tracklets"]}
    return found


def _read_cases(root: Path) -> dict[str, list[Any]]:
    """Empty where there is none, or a damaged one."""
    with suppress(OSError, ValueError, TypeError, KeyError):
        kept = json.loads((root / CASES_COPY).read_bytes())
        return {"cases": list(kept["cases"]), "items": list(kept["items"])}
    return {"cases": [], "items": []}


def _lost_rows(root: Path, db: sqlite3.Connection) -> Sequence[_CopiedRow]:
    """Rows at the end of the copy of the audit that the database lacks, or has otherwise; oldest first.

    Alone they tell of no loss: who takes rows out of the database is to be found, and not made good.
    """
    found: list[_CopiedRow] = []
    for line in _lines_from_end(root / AUDIT_COPY):
        with suppress(ValueError, TypeError, LookupError):
            row = json.loads(line)
            number, action, digest = int(row[0]), str(row[3]), str(row[8])
            here = db.execute("SELECT hash FROM audit WHERE number = ?", [number]).fetchone()
            (last,) = db.execute("SELECT COALESCE(MAX(number), 0) FROM audit").fetchone()
            if here == (digest,) or (here is None and number <= last):
                break
            found.append((number, action, digest))
    return found[::-1]


def _without_folder(root: Path, db: sqlite3.Connection) -> list[str]:
    there = {each.name for each in (root / CROPS).glob("*/*")}
    return sorted({name for (name,) in db.execute("SELECT tracklet_id FROM tracklets")} - there)


def _numbers_from_end(path: Path) -> Iterator[int]:
    for line in _lines_from_end(path):
        with suppress(ValueError, TypeError, LookupError):
            yield int(json.loads(line)[0])


def _lines_from_end(path: Path) -> Iterator[bytes]:
    """Whole lines, the last first; a torn one is none."""
    with (
        suppress(OSError, ValueError),  # an empty file cannot be mapped
        path.open("rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data,
    ):
        end = data.rfind(b"\n")
        while end >= 0:
            start = data.rfind(b"\n", 0, end) + 1
            yield data[start:end]
            end = start - 1
