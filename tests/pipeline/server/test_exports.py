"""What becomes of exported evidence: it ages, it is removed, and an erasure reaches it when the rows have aged away."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from pipeline.audit import Actor, Audit
from pipeline.cases import Cases
from pipeline.cli import main
from pipeline.reconcile import reconcile
from pipeline.recovery import maintain
from pipeline.retention import Aged, Retention, RetentionRules
from pipeline.server.roles import Role
from pipeline.store import Store
from tests.pipeline.server.client import Client
from tests.pipeline.server.conftest import Serve, add_users
from tests.pipeline.server.test_cases import export, serve_once, stopped


def age(gallery: Path, *, days_later: float = 0.0, **rules: float) -> Aged:
    with maintain(gallery) as store:
        return Retention(store, RetentionRules(**rules)).age(datetime.now(UTC) + timedelta(days=days_later))


def close(gallery: Path) -> None:
    with Store.edit(gallery) as store:
        Cases(store).close("c1", Actor("test"))


def names_in(folder: Path) -> list[str]:
    return sorted(each.name for each in (folder / "exports").iterdir())


def aged_but_exported(gallery: Path) -> dict[str, Any]:
    """Evidence of gate-ann and dock-ann (P0001), of whom the gallery itself has nothing any more."""
    with serve_once(gallery) as client:
        told = export(client, clips=False)
    close(gallery)
    assert age(gallery, tracklets_days=1).counts["tracklets"] == 7
    return told


def test_evidence_of_a_closed_case_ages(gallery: Path, serve: Serve) -> None:
    client = serve(gallery)
    first, second = (export(client, clips=False) for _ in range(2))
    left = [f"{each['export_id']}{suffix}" for each in (first, second) for suffix in (".json", ".zip")]
    assert age(gallery, days_later=3, exports_days=2, exports_mb=0.001).counts == {}
    assert names_in(gallery) == left
    close(gallery)
    assert age(gallery, days_later=1, exports_days=2).counts == {}
    most = 1.5e-6 * second["bytes"]
    assert age(gallery, exports_mb=most).counts == {"exports": 1}
    assert names_in(gallery) == left[2:]  # the newer one
    assert client.get(f"/exports/{first['export_id']}").status_code == 404
    assert age(gallery, days_later=3, exports_days=2).counts == {"exports": 1}
    assert names_in(gallery) == []
    with Store.read(gallery) as store:
        rows = [each for each in Audit(store).rows() if each.action == "exports_aged"]
        assert Audit(store).verify().findings == ()
    assert [each.details["exports"] for each in rows] == [[first["export_id"]], [second["export_id"]]]


@pytest.mark.parametrize(
    "choice",
    [
        ["--tracklet", "gate-ann"],
        ["--from", "2026-06-01T12:00:00Z", "--to", "2026-06-01T12:00:01Z"],
        ["--camera", "dock", "--from", "2026-06-01T00:00:00Z"],
        ["--person", "P0001"],
    ],
    ids=" ".join,
)
@pytest.mark.parametrize("older", [False, True], ids=["", "noted by an older version"])
def test_an_erasure_takes_evidence_of_those_who_have_aged_away(
    gallery: Path, choice: list[str], older: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    note = gallery / "exports" / f"{aged_but_exported(gallery)['export_id']}.json"
    if older:
        kept = json.loads(note.read_text())
        kept |= {"version": 2, "tracklets": [each["tracklet_id"] for each in kept["tracklets"]]}
        note.write_text(json.dumps({k: v for k, v in kept.items() if k not in ("clips", "purpose", "attempts")}))
    assert main(["gallery", "erase", *choice, "--dry-run", "-g", str(gallery)]) == 0
    assert note.exists()
    capsys.readouterr()
    assert main(["gallery", "erase", *choice, "-g", str(gallery), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["tracklets"], sorted(told["pictures"])) == (
        [], sorted(f"exports/{note.stem}{suffix}" for suffix in (".json", ".zip"))
    )  # fmt: skip
    assert names_in(gallery) == []
    for name in told["exported"]:
        left = [each for each in gallery.rglob("*") if each.is_file() and name.encode() in each.read_bytes()]
        assert left == []
    assert main(["audit", "verify", "-g", str(gallery)]) == 0
    assert main(["gallery", "verify", "-g", str(gallery)]) == 0


def test_an_erasure_of_others_leaves_evidence_of_those_who_have_aged_away(
    gallery: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = aged_but_exported(gallery)
    left = [f"{told['export_id']}.json", f"{told['export_id']}.zip"]
    for choice in (["--to", "2026-06-01T11:00:00Z"], ["--camera", "gate", "--from", "2026-06-01T13:00:00Z"]):
        assert main(["gallery", "erase", *choice, "-g", str(gallery)]) == 0
        assert names_in(gallery) == left
    for choice in (["--tracklet", "gate-eve"], ["--person", "P0003"]):
        assert main(["gallery", "erase", *choice, "-g", str(gallery)]) == 2
        assert names_in(gallery) == left


def test_evidence_is_removed_over_http_and_the_audit_says_by_whom(gallery: Path, serve: Serve) -> None:
    add_users(gallery, ("ann", Role.OPERATOR, None))
    client = serve(gallery, users=True)
    client.login("ann")
    told = export(client, clips=False)
    assert client.delete(f"/exports/{told['export_id']}?purpose=asked%20for").status_code == 204
    assert client.delete(f"/exports/{told['export_id']}").status_code == 404
    assert names_in(gallery) == []
    with Store.read(gallery) as store:
        last = Audit(store).rows()[-1]
    assert (last.actor, last.action, last.case_id, last.purpose) == ("ann", "export_removed", "c1", "asked for")
    assert last.details == {"export": told["export_id"], "sha256": told["sha256"]}


def test_evidence_that_is_being_written_is_not_removed(
    gallery: Path, serve: Serve, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("pipeline.server.exports.write_bundle", stopped)
    client: Client = serve(gallery)
    name = client.post("/cases/c1/exports", {"clips": False}).json()["export_id"]
    assert client.delete(f"/exports/{name}").status_code == 409
    assert main(["case", "remove-export", name, "-g", str(gallery)]) == 2
    assert "is being written" in capsys.readouterr().err
    assert names_in(gallery)[-1] == f"{name}.json"


def test_the_commands_list_and_remove_evidence(gallery: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with serve_once(gallery) as client:
        told = export(client, clips=False)
    capsys.readouterr()
    assert main(["case", "exports", "-g", str(gallery), "--json"]) == 0
    (listed,) = json.loads(capsys.readouterr().out)["exports"]
    assert (listed["export_id"], listed["case"]) == (told["export_id"], "c1")
    assert main(["case", "remove-export", "../c1", "-g", str(gallery)]) == 2
    assert "no export '../c1'" in capsys.readouterr().err
    assert main(["case", "remove-export", told["export_id"], "--purpose", "old", "-g", str(gallery)]) == 0
    assert names_in(gallery) == []
    with Store.read(gallery) as store:
        last = Audit(store).rows()[-1]
    assert (last.action, last.purpose, last.details) == ("export_removed", "old", {"export": told["export_id"]})


def test_verify_finds_evidence_of_the_erased_and_what_has_no_note_or_zip(
    gallery: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = aged_but_exported(gallery)["export_id"]
    note = gallery / "exports" / f"{name}.json"
    with maintain(gallery) as store:
        found = reconcile(store)
    assert (found.differences, [each for each in found.notes if "exports alone" in each]) == (
        (), ["2 tracklets are shown by exports alone; gallery erase reaches them by name, camera or time"],
    )  # fmt: skip
    kept = {each: each.read_bytes() for each in (note, note.with_suffix(".zip"))}
    assert main(["gallery", "erase", "--tracklet", "gate-ann", "-g", str(gallery)]) == 0
    for path, data in kept.items():  # as a server of before wrote the note once more
        path.write_bytes(data)
    other = gallery / "exports" / "01M8DWSHR9MV58CH8J0Z3FKZ7E.zip"
    other.write_bytes(b"PK")
    assert main(["gallery", "verify", "-g", str(gallery)]) == 1
    said = capsys.readouterr().out
    assert f"{note}: an export of a tracklet that was erased" in said
    assert f"{other}: nobody knows whom it shows" in said
    assert main(["gallery", "verify", "--repair", "-g", str(gallery)]) == 1
    assert names_in(gallery) == [other.name]
    assert main(["case", "remove-export", other.stem, "-g", str(gallery)]) == 0
    assert main(["gallery", "verify", "-g", str(gallery)]) == 0
