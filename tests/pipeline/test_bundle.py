"""The evidence of a case: what is in the zip, and that no byte of it can change without being found."""

import io
import json
import shutil
import zipfile
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest

from pipeline.audit import Actor, Audit
from pipeline.bundle import MANIFEST, BundleOptions, verify_bundle, write_bundle
from pipeline.cases import Cases
from pipeline.cli import main
from pipeline.config import from_sources
from pipeline.errors import UsageError
from pipeline.event_files import append_line
from pipeline.export_files import EXPORTS, remove_leftovers
from pipeline.identify import Link
from pipeline.store import Store
from reid.modality import Modality
from tests.pipeline.factories import open_store, sighting_of, tracklet_of
from tests.pipeline.recordings import scene, write_video

ANN = (100.0, 90.0, 130.0, 190.0)  # where the figure of the recording is in frames 30 and around
BOB = (200.0, 60.0, 240.0, 200.0)


@pytest.fixture(scope="module")
def gallery(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ann walks through gate while Bob stands there; the case holds Ann, in gate and in dock."""
    folder = tmp_path_factory.mktemp("evidence")
    root = folder / "run"
    ann = tracklet_of("gate-ann", at=2.5, box=ANN)
    dock = tracklet_of("dock-ann", modality=Modality.THERMAL, at=60.0)
    with open_store(root) as store:
        store.add(sighting_of(ann, person=1))
        store.add(sighting_of(tracklet_of("gate-bob", at=2.0, seconds=3.0, box=BOB), person=2))
        store.add(sighting_of(dock, links=(Link("gate-ann", "gate", Modality.RGB, 0.9, 0.8, True),)))
    video = write_video(folder / "gate.mp4")
    (root / "config.json").write_text(
        from_sources([f"gate={video},start=2026-06-01T12:00:00Z"]).model_dump_json(exclude_unset=True)
    )
    for name in ("gate-ann", "gate-bob"):
        event = {"tracklet_id": name, "links": [{"tracklet_id": "gate-bob"}, {"tracklet_id": "dock-ann"}]}
        append_line(root, "2026-06-01", json.dumps(event).encode() + b"\n")
    with Store.edit(root) as store:
        cases = Cases(store)
        cases.open("c1", "the gate", Actor("eve"))
        cases.open("c2", "nothing", Actor("eve"))
        cases.hold("c1", ["gate-ann", "dock-ann"], Actor("eve"))
        Audit(store).record(Actor("eve", "c1"), "search", {"query": "gate-ann"}, subjects=["gate-ann"])
    return root


def made(gallery: Path, path: Path, **how: Any) -> zipfile.ZipFile:
    from pipeline.query import read_config

    with Store.edit(gallery) as store:
        write_bundle(store, read_config(gallery), "c1", path, Actor("eve", "c1", "a theft"), BundleOptions(**how))
    return zipfile.ZipFile(path)


@pytest.fixture(scope="module")
def whole(gallery: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("zips") / "whole.zip"
    made(gallery, path).close()
    return path


def test_it_holds_clips_views_events_audit_and_a_manifest(whole: Path) -> None:
    with zipfile.ZipFile(whole) as zipped:
        names = set(zipped.namelist())
        manifest = json.loads(zipped.read(MANIFEST))
        audit = [json.loads(line) for line in zipped.read("audit.jsonl").splitlines()]
        events = [json.loads(line) for line in zipped.read("events.jsonl").splitlines()]
        links = json.loads(zipped.read("links.json"))
    assert {f"clips/{name}{box}.mp4" for name in ("gate-ann", "dock-ann") for box in ("", "-box")} <= names
    assert {"crops/gate-ann/000.jpg", "crops/gate-ann/001.jpg", "crops/dock-ann/000.png"} <= names
    assert set(manifest["files"]) == names - {MANIFEST}
    assert (manifest["schema"], manifest["by"], manifest["purpose"]) == ("xreid.evidence/1", "eve", "a theft")
    assert manifest["model"] == "tiny@sha256:0123456789abcdef"
    assert manifest["software"]["name"] == "crossmodal-surveillance"
    assert manifest["times"]["sources"] == {"gate-ann": "configured_start", "dock-ann": "configured_start"}
    assert manifest["files"]["clips/gate-ann.mp4"]["made_of"] == "recording"
    assert manifest["files"]["clips/dock-ann.mp4"]["made_of"] == "crops"
    assert [each["action"] for each in audit][:3] == ["case_open", "hold", "search"]
    assert events == [{"tracklet_id": "gate-ann", "links": [{"tracklet_id": "dock-ann"}]}]
    assert [(each["tracklet_id"], each["to_tracklet_id"]) for each in links] == [("dock-ann", "gate-ann")]


def test_it_is_written_whole_once_and_recorded(gallery: Path, whole: Path, tmp_path: Path) -> None:
    found = verify_bundle(whole)
    assert (found.findings, found.files) == ((), len(zipfile.ZipFile(whole).namelist()) - 1)
    with Store.read(gallery) as store:
        rows = [each for each in Audit(store).rows() if each.action == "evidence"]
    assert rows[0].details["sha256"] == found.sha256
    assert (rows[0].actor, rows[0].case_id, rows[0].purpose) == ("eve", "c1", "a theft")
    assert list(whole.parent.iterdir()) == [whole]
    with pytest.raises(UsageError, match="exists already"):
        made(gallery, whole)
    with pytest.raises(InterruptedError):
        made(gallery, tmp_path / "stopped.zip", should_stop=lambda: True)
    assert list(tmp_path.iterdir()) == []


def test_who_tidies_up_before_it_has_its_name_takes_nothing_away(
    gallery: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "gallery"
    shutil.copytree(gallery, root)
    path = root / EXPORTS / "x.zip"
    path.parent.mkdir()
    replace = Path.replace

    def late(part: Path, target: Path) -> Path:
        remove_leftovers(root)
        return replace(part, target)

    monkeypatch.setattr(Path, "replace", late)
    made(root, path, clips=False).close()
    assert [each.name for each in path.parent.iterdir()] == ["x.zip"]


def test_any_flipped_byte_is_found(gallery: Path, tmp_path: Path) -> None:
    path = tmp_path / "small.zip"
    made(gallery, path, clips=False).close()
    data = path.read_bytes()
    rng = np.random.default_rng(0)
    with zipfile.ZipFile(path) as zipped:
        places = {each.header_offset + shift for each in zipped.infolist()[:3] for shift in range(46)}
    places |= set(range(len(data) - 60, len(data))) | set(rng.integers(0, len(data), 150).tolist())
    for place in sorted(places):
        flipped = bytearray(data)
        flipped[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(bytes(flipped))
        assert verify_bundle(path).findings, place
    path.write_bytes(data)
    assert verify_bundle(path).findings == ()


def rewritten(path: Path, change: Any) -> tuple[str, ...]:
    """The zip with other content, made by a tool that keeps all its own sums right; what is found."""
    content = {}
    with zipfile.ZipFile(path) as zipped:
        for name in zipped.namelist():
            content[name] = zipped.read(name)
    change(content)
    path.write_bytes(b"")
    with zipfile.ZipFile(path, "w") as zipped:
        for name, data in content.items():
            zipped.writestr(name, data)
    return verify_bundle(path).findings


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda content: content.pop("crops/gate-ann/000.jpg"), "crops/gate-ann/000.jpg is missing"),
        (lambda content: content.update({"crops/x.jpg": b"x"}), "crops/x.jpg was added"),
        (lambda content: content.update({"links.json": b"[]"}), "links.json was changed"),
        (lambda content: content.pop(MANIFEST), "manifest.json is missing"),
        (lambda content: content.update({MANIFEST: b"[]"}), "manifest.json is damaged"),
        (lambda content: None, "own headers were changed"),
    ],
)
def test_what_was_changed_added_or_left_out_is_named(whole: Path, tmp_path: Path, change: Any, said: str) -> None:
    path = Path(shutil.copy(whole, tmp_path / "copy.zip"))
    assert any(said in each for each in rewritten(path, change))


@pytest.mark.parametrize("data", [b"", b"PK", b"nothing" * 100])
def test_what_is_no_zip_is_a_finding(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "x.zip"
    path.write_bytes(data)
    assert "not a whole zip" in verify_bundle(path).findings[0]


def picture_at(zipped: zipfile.ZipFile, name: str, number: int) -> np.ndarray:
    with av.open(io.BytesIO(zipped.read(name))) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    return frames[number]


def test_others_cannot_be_recognised_when_they_are_blurred(gallery: Path, whole: Path, tmp_path: Path) -> None:
    left, top, right, bottom = map(int, ANN)
    with zipfile.ZipFile(whole) as plain, made(gallery, tmp_path / "blurred.zip", blur_others=True) as blurred:
        name = "clips/gate-ann.mp4"
        sharp, hidden = (picture_at(each, name, 15).astype(int) for each in (plain, blurred))  # frame 30
        assert json.loads(blurred.read(MANIFEST))["blurred"] is True
        assert not any("beside" in each for each in blurred.namelist())
        crop = cv2.imdecode(np.frombuffer(blurred.read("crops/gate-ann/000.jpg"), np.uint8), 1)
    assert np.abs(sharp - scene(30)).mean() < 4
    assert np.abs(hidden[top:bottom, left:right] - sharp[top:bottom, left:right]).mean() < 4
    around = np.ones(sharp.shape[:2], bool)
    around[top - 12 : bottom + 12, left - 6 : right + 6] = False
    steps = [np.abs(np.diff(each, axis=1)).max(axis=2)[around[:, 1:]].mean() for each in (sharp, hidden)]
    assert steps[1] < steps[0]
    assert crop is not None
    assert verify_bundle(tmp_path / "blurred.zip").findings == ()


def test_an_empty_or_unknown_case_has_no_evidence(gallery: Path, tmp_path: Path) -> None:
    with Store.edit(gallery) as store:
        for case, said in (("c2", "holds no tracklet"), ("c3", "no case 'c3'")):
            with pytest.raises(UsageError, match=said):
                write_bundle(store, None, case, tmp_path / "x.zip", Actor("eve"))


def test_the_commands_write_and_verify(gallery: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "e.zip"
    arguments = ["case", "export", "c1", "-g", str(gallery), "-o", str(path), "--no-clips", "--blur-others", "--json"]
    assert main(arguments) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["tracklets"] == ["gate-ann", "dock-ann"]
    assert main(["export", "verify", str(path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["sha256"] == told["sha256"]
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))
    assert main(["export", "verify", str(path)]) == 1
    assert "finding:" in capsys.readouterr().out
    assert main(["export", "verify", str(tmp_path / "none.zip")]) == 2
    assert main(["export", "verify"]) == 2
    with pytest.raises(SystemExit, match="2"):
        main(["export", "verify", str(path), "other.zip"])
    assert "unrecognized arguments: other.zip" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="0"):
        main(["export", "--help"])
    assert "[verify] [ZIP]" in capsys.readouterr().out
    assert main(["export", "-g", str(gallery)]) == 2
    assert "--draft CSV" in capsys.readouterr().err
