"""Galleries go out and come together: ids stay unique, people of two sites apart, and what is there is not doubled."""

import json
import os
import shutil
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipeline.audit import Actor, Audit
from pipeline.cases import Cases
from pipeline.cli import main
from pipeline.erasure import erase
from pipeline.errors import GalleryMismatchError, ResourceError, UsageError
from pipeline.identify import Link
from pipeline.persons import Persons
from pipeline.reconcile import reconcile
from pipeline.recovery import maintain
from pipeline.sinks import EventLog
from pipeline.store import Store, read_crop
from pipeline.tracklets import Counterpart
from pipeline.transfer import export_gallery, merge_galleries
from reid.modality import Modality
from tests.pipeline.factories import DIMENSION, MODEL, axis, open_store, rejected_of, sighting_of, tracklet_of
from tests.pipeline.full_disk import fill_to_the_brim, large, mounted

EVE = Actor("eve", purpose="handed over")


def fill(root: Path, camera: str, *, names: str = "ABC", modality: Modality = Modality.RGB) -> None:
    with open_store(root) as store, EventLog(root, model_id=MODEL, dimension=DIMENSION) as events:
        for n, name in enumerate(names):
            links = (Link(f"{camera}-{names[n - 1]}", camera, modality, 0.8, 0.9, cross_modality=False),) if n else ()
            tracklet = tracklet_of(f"{camera}-{name}", at=10 * n, modality=modality)
            item = sighting_of(tracklet, person=1 + n // 2, vector=axis(n % 4), links=links)
            store.add(item)
            events.write(item)
        store.add(rejected_of(tracklet_of(f"{camera}-Z", at=99, modality=modality)))


def test_two_sites_become_one_and_their_people_stay_apart(tmp_path: Path) -> None:
    fill(tmp_path / "north", "gate")
    fill(tmp_path / "south", "dock", modality=Modality.THERMAL)
    with Store.edit(tmp_path / "south") as south:
        Cases(south).open("C-1", "theft", EVE)
        Cases(south).hold("C-1", ["dock-B"], EVE)
        Persons(south).confirm("dock-A", "dock-B", EVE)
        Persons(south).merge(1, 2, EVE)
        Persons(south).undo(2, EVE)
    with Store.edit(tmp_path / "north") as north:
        Persons(north).confirm("gate-A", "gate-B", EVE)
    with maintain(tmp_path / "north") as north, Store.read(tmp_path / "south") as south:
        done = merge_galleries(north, south, EVE)
        assert (done.tracklets, done.already, done.persons, done.cases) == (4, 0, {1: 3, 2: 4}, ("C-1",))
        assert done.people == 2
        people = {each.tracklet_id: each.person_id for each in north.tracklets()}
        assert people == {"gate-A": 1, "gate-B": 1, "gate-C": 2, "dock-A": 3, "dock-B": 3, "dock-C": 4}
        theirs, ours = south.tracklet("dock-B"), north.tracklet("dock-B")
        assert np.array_equal(south.embeddings([theirs.row]), north.embeddings([ours.row]))
        assert ours.best_crop is not None
        assert ours.best_crop.is_relative_to(tmp_path / "north")
        assert read_crop(ours.best_crop).dtype == np.uint16
        assert [(each.to_tracklet_id, each.state) for each in north.links("dock-A")] == [("dock-A", "confirmed")]
        assert Cases(north).held() == {ours.row: "C-1"}
        assert reconcile(north).differences == ()
        assert Audit(north).verify().findings == ()
        kept = f"audit-of-south-{Audit(south).verify().head[1][:8]}.jsonl"
        assert [path.name for path in (tmp_path / "north").glob("audit-of-*")] == [kept]
        events = "".join(path.read_text() for path in (tmp_path / "north/events").glob("*.jsonl"))
        assert '"person":"P0003"' in events
        again = merge_galleries(north, south, EVE, same_cameras=True)
        assert (again.tracklets, again.already, again.people) == (0, 4, 0)
        decided = [(each.decision_id, each.kind, each.undone_by) for each in Persons(north).decisions()]
        assert decided == [(1, "confirm", None), (2, "confirm", None), (3, "merge", 4), (4, "undo", None)]
        Persons(north).undo(4, EVE)  # what was taken back there is done here
        assert north.tracklet("dock-C").person_id == 3
        Persons(north).undo(5, EVE)
        assert north.tracklet("dock-C").person_id == 4
        assert reconcile(north).differences == ()
    with open_store(tmp_path / "south") as south:
        south.add(sighting_of(tracklet_of("dock-D", at=200, modality=Modality.THERMAL), person=1))
    with maintain(tmp_path / "north") as north, Store.read(tmp_path / "south") as south:
        merge_galleries(north, south, EVE, same_cameras=True)
        assert north.tracklet("dock-D").person_id == 3  # who came earlier keeps the number


def test_who_was_erased_here_does_not_come_back_with_a_merge_unless_that_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fill(tmp_path / "north", "gate")
    fill(tmp_path / "south", "dock")
    with maintain(tmp_path / "north") as north, Store.read(tmp_path / "south") as south:
        merge_galleries(north, south, EVE)
        erase(north, [north.tracklet("dock-B")], EVE)
        assert "dock-B" not in json.dumps([row.details for row in Audit(north).rows()])
        again = merge_galleries(north, south, EVE, same_cameras=True)
        assert (again.tracklets, again.already, again.erased) == (0, 3, 1)  # with the rejected one
        assert not north.has("dock-B")
    arguments = ["gallery", "merge", str(tmp_path / "south"), "-g", str(tmp_path / "north"), "--same-cameras"]
    capsys.readouterr()
    assert main(arguments) == 0
    assert "1 were erased here and stay out (--restore-erased takes them in)" in capsys.readouterr().out
    assert main([*arguments, "--restore-erased"]) == 0
    with maintain(tmp_path / "north") as north:
        assert north.has("dock-B")
        said = [row.details for row in Audit(north).rows() if row.action == "merge_gallery"]
        assert [each.get("erased_here", 0) for each in said] == [0, 1, 1, 0]
        assert said[-1]["restored"] == ["dock-B"]  # who came back, and by whom, is told
        assert reconcile(north).differences == ()
        assert Audit(north).verify().findings == ()


def test_who_was_taken_in_again_is_there_as_anybody_is(tmp_path: Path) -> None:
    fill(tmp_path / "north", "gate")
    fill(tmp_path / "south", "dock", names="AB")
    with maintain(tmp_path / "north") as north, Store.read(tmp_path / "south") as south:
        merge_galleries(north, south, EVE)
        erase(north, [north.tracklet("dock-A")], EVE)
        merge_galleries(north, south, EVE, same_cameras=True, restore_erased=True)
        assert Audit(north).erased(["dock-A", "dock-B"]) == set()
        again = merge_galleries(north, south, EVE, same_cameras=True)
        assert (again.tracklets, again.already, again.erased) == (0, 3, 0)
        person = north.tracklet("dock-A").person_id
    with open_store(tmp_path / "south") as south:
        south.add(sighting_of(tracklet_of("dock-D", at=200), person=1))
    with maintain(tmp_path / "north") as north, Store.read(tmp_path / "south") as south:
        merge_galleries(north, south, EVE, same_cameras=True)
        assert north.tracklet("dock-D").person_id == person  # one person stays one
        erase(north, [north.tracklet("dock-A")], EVE)
        assert merge_galleries(north, south, EVE, same_cameras=True).erased == 1


def test_marks_of_the_erased_outlive_the_rows_that_made_them_and_come_over_with_a_site(tmp_path: Path) -> None:
    fill(tmp_path / "north", "gate")
    fill(tmp_path / "south", "dock")
    with maintain(tmp_path / "north") as north, Store.read(tmp_path / "south") as south:
        merge_galleries(north, south, EVE)
        erase(north, [north.tracklet("dock-B")], EVE)
        assert Audit(north).age(most_bytes=0) > 0
        assert Audit(north).age(most_bytes=0) > 0  # and those of the row that said so
        assert merge_galleries(north, south, EVE, same_cameras=True).erased == 1
    fill(tmp_path / "east", "lane")
    with maintain(tmp_path / "east") as east:
        with Store.read(tmp_path / "north") as north:
            merge_galleries(east, north, EVE)
        with Store.read(tmp_path / "south") as south:
            assert merge_galleries(east, south, EVE, same_cameras=True).erased == 1
        assert not east.has("dock-B")
        assert Audit(east).verify().findings == ()


EDITS: list[tuple[Callable[[list[bytes]], list[bytes]], str]] = [
    (lambda lines: [*lines[:1], lines[1].replace(b'"eve"', b'"bob"'), *lines[2:]], "row 2 was edited"),
    (lambda lines: [*lines[:1], b"noise\n", *lines[2:]], ":2: not a row of the audit"),
    (lambda lines: lines[:-1], "cut off"),
    (lambda lines: lines[1:], "cut off"),
    (lambda lines: [lines[0], *lines[2:]], "row 2 is missing"),
    (lambda lines: [lines[1], lines[0], *lines[2:]], "row 3 is missing"),
    (lambda lines: [], "cut off"),
]


def test_the_audit_of_a_merged_site_is_covered_by_ours(tmp_path: Path) -> None:
    fill(tmp_path / "north", "gate", names="A")
    fill(tmp_path / "south", "dock", names="A")
    with maintain(tmp_path / "north") as north, maintain(tmp_path / "south") as south:
        Audit(north).record(EVE, "search", {"query": "gate-A"})
        for _ in range(3):
            Audit(south).record(EVE, "search", {"query": "dock-A"}, subjects=["dock-A"])
        merge_galleries(north, south, EVE)
        kept = next((tmp_path / "north").glob("audit-of-*"))
        whole = (tmp_path / "south/audit.jsonl").read_bytes()
        assert kept.read_bytes() == whole
        Audit(south).record(EVE, "search", {"query": "dock-A"})
        merge_galleries(north, south, EVE, same_cameras=True)
        assert len(list((tmp_path / "north").glob("audit-of-*"))) == 2
        verdict = Audit(north).verify()
        assert (verdict.findings, verdict.notes) == ((), ())
        for edit, found in EDITS:
            kept.write_bytes(b"".join(edit(whole.splitlines(keepends=True))))
            findings = Audit(north).verify().findings
            assert any(found in each for each in findings), found
            assert all(each.startswith(kept.name) for each in findings)
        kept.unlink()
        missing = f"{kept.name}: missing, though row 2 says that it was kept"
        assert Audit(north).verify().findings == (missing,)
        assert reconcile(north).differences == (f"audit: {missing}",)


def test_an_audit_of_which_no_row_tells_is_noted(tmp_path: Path) -> None:
    fill(tmp_path / "north", "gate", names="A")
    (tmp_path / "north/audit-of-south-01234567.jsonl").write_text("[]\n")
    with maintain(tmp_path / "north") as north:
        (note,) = Audit(north).verify().notes
        assert note.startswith("audit-of-south-01234567.jsonl: no row tells of it")


def held(store: Store) -> dict[str, str]:
    return {each.tracklet_id: case for row, case in Cases(store).held().items() for each in store.by_rows([row])}


def test_a_case_that_grew_comes_with_its_new_holds(tmp_path: Path) -> None:
    fill(tmp_path / "north", "gate", names="A")
    fill(tmp_path / "south", "dock")
    with maintain(tmp_path / "north") as north, maintain(tmp_path / "south") as south:
        Cases(south).open("C-1", "theft", EVE)
        Cases(south).hold("C-1", ["dock-A"], EVE, note="at the safe")
        assert merge_galleries(north, south, EVE).cases == ("C-1",)
        south.add(sighting_of(tracklet_of("dock-D", at=200), person=2))
        Cases(south).hold("C-1", ["dock-B"], EVE)
        Cases(south).open("C-2", "fire", EVE)
        Cases(south).hold("C-2", ["dock-C", "dock-D"], EVE)
        again = merge_galleries(north, south, EVE, same_cameras=True)
        assert (again.tracklets, again.already, again.cases) == (1, 4, ("C-1", "C-2"))
        assert held(north) == {"dock-A": "C-1", "dock-B": "C-1", "dock-C": "C-2", "dock-D": "C-2"}
        assert Cases(north).entry("C-1", "dock-A")[1:] == ("eve", "at the safe")
        assert merge_galleries(north, south, EVE, same_cameras=True).cases == ()
        assert Audit(north).rows()[-2].details["cases"] == ["C-1", "C-2"]
        Cases(north).close("C-1", EVE)
        merge_galleries(north, south, EVE, same_cameras=True)
        assert set(held(north).values()) == {"C-2"}  # nothing new in C-1
        Cases(south).hold("C-1", ["dock-C"], EVE)
        merge_galleries(north, south, EVE, same_cameras=True)
        assert held(north) == {"dock-A": "C-1", "dock-B": "C-1", "dock-C": "C-1", "dock-D": "C-2"}
        assert reconcile(north).differences == ()


def test_another_case_of_the_same_name_is_refused(tmp_path: Path) -> None:
    fill(tmp_path / "north", "gate", names="A")
    fill(tmp_path / "south", "dock", names="A")
    with maintain(tmp_path / "north") as north, maintain(tmp_path / "south") as south:
        for store, name in ((north, "gate-A"), (south, "dock-A")):
            Cases(store).open("C-1", "theft", EVE)
            Cases(store).hold("C-1", [name], EVE)
        with pytest.raises(UsageError, match="both galleries have a case C-1"):
            merge_galleries(north, south, EVE)
        assert north.counts().accepted == 1


def test_cameras_of_one_name_must_be_told_apart(tmp_path: Path) -> None:
    fill(tmp_path / "north", "gate", names="AB")
    fill(tmp_path / "south", "gate", names="CD")
    with maintain(tmp_path / "north") as north, Store.read(tmp_path / "south") as south:
        with pytest.raises(UsageError, match="both galleries have a camera gate"):
            merge_galleries(north, south, EVE)
        with pytest.raises(UsageError, match="has no camera 'yard'"):
            merge_galleries(north, south, EVE, cameras={"yard": "other"})
        assert north.counts().accepted == 2
        merge_galleries(north, south, EVE, cameras={"gate": "south_gate"})
        assert north.cameras() == {"gate": Modality.RGB, "south_gate": Modality.RGB}
        assert north.tracklet("gate-C").camera_id == "south_gate"
        assert north.crops("gate-C")[0].is_file()
        assert reconcile(north).differences == ()


def test_the_camera_of_a_counterpart_has_its_new_name_too(tmp_path: Path) -> None:
    images = {name: tracklet_of(f"{name}-X", modality=Modality.THERMAL).crops[0] for name in ("dock", "pier")}
    beside = tuple(
        Counterpart(name, Modality.THERMAL, each.image, each.captured_at, each.xyxy) for name, each in images.items()
    )
    fill(tmp_path / "north", "yard", names="A")
    with open_store(tmp_path / "south") as south:
        for name in ("dock", "pier"):
            south.add(sighting_of(tracklet_of(f"{name}-B", modality=Modality.THERMAL)))
        south.add(sighting_of(replace(tracklet_of("gate-A"), counterparts=beside)))
    with maintain(tmp_path / "north") as north, Store.read(tmp_path / "south") as south:
        merge_galleries(north, south, EVE, cameras={"dock": "south_dock"})
        assert [each.camera_id for each in north.counterparts("gate-A")] == ["pier", "south_dock"]
        assert all(each.crop.is_file() for each in north.counterparts("gate-A"))
        assert reconcile(north).differences == ()
    fill(tmp_path / "east", "yard", names="A")
    with maintain(tmp_path / "east") as east, Store.read(tmp_path / "south") as south:
        merge_galleries(east, south, EVE, cameras={"dock": "one", "pier": "one"}, same_cameras=True)
        assert len({each.crop for each in east.counterparts("gate-A")}) == 2
        assert reconcile(east).differences == ()


def test_another_model_another_kind_of_camera_and_itself_are_refused(tmp_path: Path) -> None:
    fill(tmp_path / "north", "gate")
    fill(tmp_path / "south", "gate", modality=Modality.NIR, names="DE")
    Store.open(tmp_path / "other", model_id="other@sha256:fedcba9876543210", dimension=DIMENSION).close()
    with maintain(tmp_path / "north") as north:
        with Store.read(tmp_path / "other") as other, pytest.raises(GalleryMismatchError) as caught:
            merge_galleries(north, other, EVE)
        assert MODEL in str(caught.value)
        assert "other@sha256:fedcba9876543210" in str(caught.value)
        with Store.read(tmp_path / "south") as south, pytest.raises(UsageError, match="camera gate is rgb in"):
            merge_galleries(north, south, EVE, same_cameras=True)
        with Store.read(tmp_path / "north") as itself, pytest.raises(UsageError, match="into itself"):
            merge_galleries(north, itself, EVE)


def test_an_export_is_a_gallery_and_comes_back(tmp_path: Path) -> None:
    fill(tmp_path / "north", "gate", names="ABCDE")
    with Store.edit(tmp_path / "north") as north:
        chosen = [north.tracklet("gate-C"), north.tracklet("gate-D")]
        done = export_gallery(north, chosen, tmp_path / "out", EVE)
        assert (done.tracklets, done.persons) == (2, {2: 2})
        assert Audit(north).rows()[-1].details["tracklets"] == ["gate-C", "gate-D"]
        with pytest.raises(UsageError, match="not an empty folder"):
            export_gallery(north, chosen, tmp_path / "out", EVE)
    with maintain(tmp_path / "out") as out:
        assert [each.tracklet_id for each in out.tracklets()] == ["gate-C", "gate-D"]
        assert [each.to_tracklet_id for each in out.links()] == ["gate-C"]  # not the one to a tracklet that stayed
        assert reconcile(out).differences == ()
    assert b"gate-B" not in b"".join(path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file())
    fill(tmp_path / "third", "hall")
    with maintain(tmp_path / "third") as third, Store.read(tmp_path / "out") as out:
        merge_galleries(third, out, EVE)
        assert third.tracklet("gate-D").person_id == 3


def files_of(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.suffix != ".lock"}


@pytest.mark.parametrize("name", ["a/b", "../../out", "..", "", ".hidden", "a b", "gate\n"])
def test_a_new_name_of_a_camera_must_be_fit_for_a_folder(tmp_path: Path, name: str) -> None:
    fill(tmp_path / "north", "gate", names="A")
    fill(tmp_path / "south", "dock", names="B")
    with maintain(tmp_path / "north") as north, Store.read(tmp_path / "south") as south:
        before = files_of(tmp_path)
        with pytest.raises(UsageError, match=r"--rename-camera 'dock=.* becomes a folder"):
            merge_galleries(north, south, EVE, cameras={"dock": name})
        assert files_of(tmp_path) == before
        assert reconcile(north).differences == ()


@pytest.mark.parametrize("column", ["tracklet_id", "camera_id"])
def test_names_that_lead_out_of_a_gallery_do_not_come_in(tmp_path: Path, column: str) -> None:
    fill(tmp_path / "north", "gate", names="A")
    fill(tmp_path / "south", "dock", names="BC")
    with Store.edit(tmp_path / "south") as south, south.writing() as db:
        db.execute("PRAGMA defer_foreign_keys = ON")
        if column == "camera_id":
            db.execute("UPDATE cameras SET camera_id = '../../out'")
            db.execute("UPDATE tracklets SET camera_id = '../../out'")
        else:
            db.execute("UPDATE tracklets SET tracklet_id = '../../out' WHERE row = 2")
    with maintain(tmp_path / "north") as north, Store.read(tmp_path / "south") as south:
        before = files_of(tmp_path)
        with pytest.raises(UsageError, match=r"becomes a folder .* got '\.\./\.\./out'"):
            merge_galleries(north, south, EVE)
        assert files_of(tmp_path) == before
        assert north.counts().accepted == 1


def test_two_cameras_become_one_only_when_told(tmp_path: Path) -> None:
    fill(tmp_path / "north", "gate", names="A")
    fill(tmp_path / "south", "dock", names="B")
    fill(tmp_path / "south", "yard", names="C")
    with maintain(tmp_path / "north") as north, Store.read(tmp_path / "south") as south:
        for renamed in ({"dock": "one", "yard": "one"}, {"dock": "yard"}):
            with pytest.raises(UsageError, match=r"cameras dock and yard of .* would both be"):
                merge_galleries(north, south, EVE, cameras=renamed)
        merge_galleries(north, south, EVE, cameras={"dock": "yard", "yard": "dock"})  # that keeps them apart
        assert north.tracklet("dock-B").camera_id == "yard"
    fill(tmp_path / "east", "hall", names="D")
    with maintain(tmp_path / "east") as east, Store.read(tmp_path / "south") as south:
        merge_galleries(east, south, EVE, cameras={"dock": "one", "yard": "one"}, same_cameras=True)
        assert {each.camera_id for each in east.tracklets()} == {"hall", "one"}
        assert reconcile(east).differences == ()


def test_cameras_of_two_modalities_never_become_one(tmp_path: Path) -> None:
    fill(tmp_path / "north", "gate", names="A")
    fill(tmp_path / "south", "dock", names="B")
    fill(tmp_path / "south", "yard", names="C", modality=Modality.THERMAL)
    with (
        maintain(tmp_path / "north") as north,
        Store.read(tmp_path / "south") as south,
        pytest.raises(UsageError, match="of two modalities"),
    ):
        merge_galleries(north, south, EVE, cameras={"dock": "yard"}, same_cameras=True)


def left(root: Path, camera: str) -> list[str]:
    return sorted(path.name for path in (root / "crops" / camera).glob("*"))


@pytest.mark.parametrize("lost", ["image", "folder"])
def test_a_merge_that_fails_half_way_leaves_nothing(tmp_path: Path, lost: str) -> None:
    fill(tmp_path / "north", "gate")
    fill(tmp_path / "south", "dock")
    folder = tmp_path / "south/crops/dock/dock-C"
    if lost == "image":
        (folder / "001.jpg").unlink()
    else:
        shutil.rmtree(folder)
    with maintain(tmp_path / "north") as north, Store.read(tmp_path / "south") as south:
        with pytest.raises(ResourceError, match=r"none came over: .*dock-C"):
            merge_galleries(north, south, EVE)
        assert left(tmp_path / "north", "dock") == []
        assert reconcile(north).differences == ()
    with maintain(tmp_path / "north") as north:
        assert left(tmp_path / "north", "gate") == ["gate-A", "gate-B", "gate-C", "gate-Z"]


def test_a_merge_that_is_killed_half_way_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmp_path / "north", "gate")
    fill(tmp_path / "south", "dock")
    child = os.fork()
    if not child:
        monkeypatch.setattr("pipeline.transfer._copy_states", lambda *_: os.kill(os.getpid(), signal.SIGKILL))
        with maintain(tmp_path / "north") as north, Store.read(tmp_path / "south") as south:
            merge_galleries(north, south, EVE)
        os._exit(1)
    assert os.waitpid(child, 0)[1] == signal.SIGKILL
    assert len(left(tmp_path / "north", "dock")) == 4
    with maintain(tmp_path / "north") as north, Store.read(tmp_path / "south") as south:
        assert left(tmp_path / "north", "dock") == []
        assert reconcile(north).differences == ()
        assert merge_galleries(north, south, EVE).tracklets == 4
        assert reconcile(north).differences == ()
    with maintain(tmp_path / "north") as north:
        assert len(left(tmp_path / "north", "dock")) == 4


def test_a_merge_for_which_there_is_no_room_does_not_begin(tmp_path: Path) -> None:
    with open_store(tmp_path / "south") as south:
        for n in range(3):
            south.add(sighting_of(large(f"dock-{n}", 10.0 * n)))
    with mounted(tmp_path / "small") as disk:
        fill(disk / "north", "gate")
        with maintain(disk / "north") as north, Store.read(tmp_path / "south") as south:
            fill_to_the_brim(disk / "other")
            with pytest.raises(ResourceError, match="are to come, but 0 MB are free; none came"):
                merge_galleries(north, south, EVE)
            assert left(disk / "north", "dock") == []


@pytest.mark.parametrize("how", ["times", "vector"])
def test_another_tracklet_of_the_same_name_is_refused_and_both_are_named(tmp_path: Path, how: str) -> None:
    fill(tmp_path / "north", "gate")
    with open_store(tmp_path / "south") as south:
        at = 5000.0 if how == "times" else 10.0
        south.add(sighting_of(tracklet_of("gate-B", at=at), person=7, vector=axis(2)))
        south.add(sighting_of(tracklet_of("gate-X", at=20), person=7))
    with maintain(tmp_path / "north") as north, Store.read(tmp_path / "south") as south:
        with pytest.raises(UsageError, match=r"gate-B of .*south.* is another one than tracklet gate-B of .*north"):
            merge_galleries(north, south, EVE, same_cameras=True)
        assert {each.tracklet_id for each in north.tracklets()} == {"gate-A", "gate-B", "gate-C"}


def test_an_image_that_was_swapped_in_an_export_does_not_come_in(tmp_path: Path) -> None:
    fill(tmp_path / "north", "gate")
    with Store.edit(tmp_path / "north") as north:
        export_gallery(north, north.tracklets(), tmp_path / "export", EVE)
    with open_store(tmp_path / "south"), Store.read(tmp_path / "export") as export:
        export.crops("gate-A")[0].write_bytes(export.crops("gate-B")[1].read_bytes())
    with maintain(tmp_path / "south") as south, Store.read(tmp_path / "export") as export:
        with pytest.raises(UsageError, match=r"gate-A/000\.jpg: not the image that was stored; none came over"):
            merge_galleries(south, export, EVE)
        assert (south.tracklets(), left(tmp_path / "south", "gate")) == ([], [])
