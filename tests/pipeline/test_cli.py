"""The command line as people use it: what it writes, prints, refuses, and the exit code of each."""

import errno
import fcntl
import json
import os
import pkgutil
import shutil
import signal
import sqlite3
import struct
import subprocess
import sys
import termios
import time
from contextlib import closing, suppress
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import cv2
import numpy as np
import pytest

import pipeline.run
from pipeline.cli import _PlainProgress, main
from pipeline.config import from_sources
from pipeline.drawing import CORRECT
from pipeline.run import RunOptions, run
from pipeline.store import Store
from reid.calibration import Calibration, Curve
from reid.modality import Modality
from tests.pipeline.factories import open_store, sighting_of, tracklet_of
from tests.pipeline.onnx_file import write_constant_model
from tests.pipeline.recordings import write_thermal, write_video, write_weights

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    write_video(folder / "gate.mp4")
    write_thermal(folder / "dock")
    write_weights(folder / "mini.safetensors")
    return folder


def run_arguments(site: Path, output: Path, *more: str) -> list[str]:
    return [
        "run", "--source", f"gate={site}/gate.mp4,start=2026-06-01T14:00:00Z",
        "--source", f"dock={site}/dock/*.png,modality=thermal,start=2026-06-01T22:00:00Z",
        "--set", f"reid.weights={site}/mini.safetensors", "--output", str(output), "--no-progress", *more,
    ]  # fmt: skip


@pytest.fixture(scope="module")
def done(site: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("run") / "out"
    assert main(run_arguments(site, output)) == 0
    return output


def events(run: Path) -> list[dict[str, Any]]:
    return [
        json.loads(line) for path in sorted((run / "events").glob("*.jsonl")) for line in path.read_text().splitlines()
    ]


def test_a_run_leaves_everything_it_promises(done: Path) -> None:
    report = json.loads((done / "report.json").read_text())
    assert set(report["cameras"]) == {"gate", "dock"}
    assert all(camera["state"] == "ended" for camera in report["cameras"].values())
    assert report["cameras"]["gate"]["frames_processed"] == 75
    assert report["frames_per_second"] > 0
    assert report["peak_rss_mb"] > 50
    assert cv2.imread(str(done / "matches.png")) is not None
    assert {path.name for path in (done / "mot").iterdir()} == {"gate.txt", "dock.txt"}
    for camera in ("gate", "dock"):
        with av.open(done / "video" / f"{camera}.mp4") as container:
            assert sum(1 for _ in container.decode(video=0)) == 75


def test_each_tracklet_is_one_event_with_its_person_or_its_reason(done: Path) -> None:
    found = events(done)
    accepted = [event for event in found if event["rejected"] is None]
    assert {event["camera"] for event in accepted} == {"gate", "dock"}
    assert all(event["person"] for event in accepted)
    assert all((done / event["best"]["crop"]).is_file() for event in accepted)
    report = json.loads((done / "report.json").read_text())
    assert len(accepted) == report["tracklets"]["accepted"]
    assert len(found) - len(accepted) == sum(report["tracklets"]["rejected"].values())


def test_times_of_events_are_those_of_the_recording(done: Path) -> None:
    starts = {event["camera"]: event["start"] for event in events(done) if event["rejected"] is None}
    assert starts["gate"].startswith("2026-06-01T14:00:0")
    assert starts["dock"].startswith("2026-06-01T22:00:0")


def test_search_by_tracklet_finds_the_other_modality_and_never_the_query(
    done: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    query = next(event["tracklet_id"] for event in events(done) if event["camera"] == "gate" and event["person"])
    assert main(["search", query, "--gallery", str(done), "--modality", "thermal", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["answers"]
    assert all(each["modality"] == "thermal" and each["tracklet_id"] != query for each in answer["answers"])


def test_search_by_image_and_by_video(done: Path, site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    crop = done / next(event["best"]["crop"] for event in events(done) if event["camera"] == "gate" and event["person"])
    assert main(["search", str(crop), "--gallery", str(done), "--whole", "--top-k", "1"]) == 0
    assert "whole image" in capsys.readouterr().out
    assert main(["search", str(site / "gate.mp4"), "--gallery", str(done)]) == 0
    assert "longest of" in capsys.readouterr().out


def test_search_by_several_examples_a_negative_and_a_box_on_a_frame(
    done: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    seen = [event for event in events(done) if event["person"]]
    gate = next(event for event in seen if event["camera"] == "gate")
    dock = next(event for event in seen if event["camera"] == "dock")
    both = [gate["tracklet_id"], dock["tracklet_id"]]
    assert main(["search", *both, "--gallery", str(done), "--json", "--time-of-day", "13:00-15:00"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert [each["description"] for each in answer["examples"]] == [dock["tracklet_id"]]
    assert answer["excluded_by"]["time of day"] >= 0
    assert main(["search", gate["tracklet_id"], "--not", dock["tracklet_id"], "--gallery", str(done)]) == 0
    told = capsys.readouterr().out
    assert f"not:   {dock['tracklet_id']} (thermal)" in told
    left, top, width, height = gate["best"]["box_px"]
    box = ",".join(f"{each:.0f}" for each in (left, top, left + width, top + height))
    moment = ["--at", gate["best"]["frame_time"], "--box", box]
    assert main(["search", "gate", *moment, "--gallery", str(done), "--modality", "thermal"]) == 0
    told = capsys.readouterr().out
    assert "query: gate (frame" in told
    assert "at dock (thermal), 2026-06-01 22:00:0" in told
    assert "strangers" in told or "is worth p =" in told


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--camera", "gat"], "did you mean gate?"),
        (["--time-of-day", "late"], "expected HH:MM-HH:MM"),
        (["--person", "Ann"], "written as P0007"),
        (["--at", "1.0"], "--at and --box belong together"),
        (["--fmr", "0.0000001"], "--fmr: "),
        (["--modality", "infrared"], "'infrared' is not one of rgb, nir, thermal"),
        (["--modality", "therml"], "'therml' is not one of rgb, nir, thermal; did you mean thermal?"),
        (["--modality", "nir"], "no camera of this gallery is nir; there are dock (thermal), gate (rgb)"),
        (["--from", "yesterday"], "--from must be a time with its offset"),
        (
            ["--from", "2026-06-02T00:00:00Z", "--to", "2026-06-01T00:00:00Z"],
            "error: --from must be before --to, got 2026-06-02T00:00:00.000Z and 2026-06-01T00:00:00.000Z\n",
        ),
    ],
)
def test_a_search_that_makes_no_sense_says_so(
    done: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    query = next(event["tracklet_id"] for event in events(done) if event["person"])
    assert main(["search", query, "--gallery", str(done), *arguments]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("no-such", "no tracklet"),
        ("no/such.png", "no such file"),
        ("P0999", "no person P0999 in this gallery"),
        ("gate", "gate: is a camera; search for who stands there with --at TIME and --box X1,Y1,X2,Y2"),
        (str(ROOT), "is a folder; a query is"),
        (str(ROOT / "README.md"), "README.md: is not a picture or video that shows somebody"),
    ],
)
def test_an_unknown_query_is_an_error(done: Path, capsys: pytest.CaptureFixture[str], query: str, message: str) -> None:
    assert main(["search", query, "--gallery", str(done)]) == 2
    assert message in capsys.readouterr().err


def test_a_person_who_is_no_query_is_told_with_tracklets_that_are(
    done: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    event = next(event for event in events(done) if event["person"])
    assert main(["search", event["person"], "--gallery", str(done)]) == 2
    told = capsys.readouterr().err
    assert f"{event['person']}: is a person, and a query is a tracklet or a file: name tracklets of theirs" in told
    query = told.rstrip().rpartition(" ")[2]
    assert main(["search", query, "--gallery", str(done)]) == 0


def test_a_moment_that_no_recording_reaches_is_refused_with_the_span_that_it_has(
    done: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    span = "it goes from 2026-06-01T14:00:00.000+00:00 to 2026-06-01T14:00:07.500+00:00, 0 to 7.5 s"
    for at, said in (("9999", "9999 s"), ("2027-01-01T00:00:00Z", "2027-01-01T00:00:00.000+00:00")):
        assert main(["search", "gate", "--at", at, "--box", "1,2,60,120", "--gallery", str(done)]) == 2
        assert f"gate: has no frame at {said}; {span}" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["search", "any"], ["serve"], ["gallery", "reindex", "--weights", "xreid-tiny"]])
@pytest.mark.parametrize("name", ["foo", "cuda:", "cpu:0", "cuda:1x", ""])
def test_a_device_that_no_machine_has_is_refused_before_anything_is_opened(
    capsys: pytest.CaptureFixture[str], words: list[str], name: str
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main([*words, "--gallery", "/nowhere", "--device", name])
    assert f"--device: expected auto, cpu, cuda or cuda:N, got '{name}'" in capsys.readouterr().err
    for known in ("auto", "cpu", "cuda", "cuda:12"):
        assert main([*words, "--gallery", "/nowhere", "--device", known]) in (2, 5)


def test_refusing_a_device_does_not_wait_for_pytorch() -> None:
    script = (
        "import sys; from pipeline.cli import main\ntry: main(sys.argv[1:])\nfinally: print('torch' in sys.modules)"
    )
    command = [sys.executable, "-c", script, "search", "any", "--device", "foo"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert (done.returncode, done.stdout) == (2, "False\n")


def test_an_impossible_quality_is_refused_with_its_option(done: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for text in ("1.5", "much", "nan"):
        with pytest.raises(SystemExit, match="2"):
            main(["search", "any", "--gallery", str(done), "--min-quality", text])
        assert f"--min-quality: expected a quality from 0 to 1, got '{text}'" in capsys.readouterr().err


def test_a_file_that_cannot_be_read_is_named_once(
    done: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty.mp4").touch()
    assert main(["search", str(tmp_path / "empty.mp4"), "--gallery", str(done)]) == 2
    assert capsys.readouterr().err.count("empty.mp4") == 1
    assert main(["evaluate", "--run", str(done), "--truth", str(tmp_path / "none")]) == 2
    assert f"{tmp_path}/none/site.json: no such file; --truth is a folder with" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "usage", "meant"),
    [
        (["validate", "site.yaml"], "run_pipeline.py validate", "; did you mean --config site.yaml?"),
        (["case", "hold", "K1", "gate-A"], "run_pipeline.py case hold", "; did you mean --tracklet gate-A?"),
        (["doctor", "--jsn"], "run_pipeline.py doctor", ""),
    ],
)
def test_a_command_refuses_what_is_left_over_with_its_own_usage(
    capsys: pytest.CaptureFixture[str], words: list[str], usage: str, meant: str
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(words)
    printed = capsys.readouterr().err
    assert f"usage: {usage} " in printed
    assert printed.endswith(f"error: unrecognized arguments: {words[-1]}{meant}\n")


def test_an_empty_answer_says_which_filter_removed_how_many(done: Path, capsys: pytest.CaptureFixture[str]) -> None:
    query = next(event["tracklet_id"] for event in events(done) if event["person"])
    assert main(["search", query, "--gallery", str(done), "--to", "2020-01-01T00:00:00Z"]) == 0
    assert "by to" in capsys.readouterr().out


def test_evaluate_marks_right_and_wrong_in_the_videos_too_when_asked(
    done: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The truth is made of the run's own tracks: one person on both cameras."""
    run, truth = tmp_path / "run", tmp_path / "truth"
    shutil.copytree(done, run)
    (truth / "ground_truth").mkdir(parents=True)
    (truth / "site.json").write_text('{"synthetic": true}')
    for camera in ("gate", "dock"):
        rows = [line.split(",") for line in (run / "mot" / f"{camera}.txt").read_text().splitlines()]
        lines = [",".join([row[0], "1", *row[2:6], "1", "1", "1"]) for row in rows]
        (truth / "ground_truth" / f"{camera}.txt").write_text("\n".join(lines) + "\n")
    before = (run / "video" / "gate.mp4").read_bytes()
    arguments = ["evaluate", "--run", str(run), "--truth", str(truth), "--no-progress"]
    assert main(arguments) == 0
    assert (run / "video" / "gate.mp4").read_bytes() == before
    assert main([*arguments, "--videos"]) == 0
    assert "(synthetic people)" in capsys.readouterr().out
    assert not list(run.glob("gallery.sqlite-*"))
    with av.open(run / "video" / "gate.mp4") as container:
        frames = [frame.to_ndarray(format="rgb24")[240:] for frame in container.decode(video=0)]
    green = [int((np.abs(strip.astype(int) - CORRECT).max(axis=2) < 45).sum()) for strip in frames]
    assert len(frames) == 75
    assert max(green) > 50


def test_an_earlier_run_is_neither_overwritten_nor_mixed_by_accident(
    done: Path, site: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (done / "report.json").read_bytes()
    assert main(run_arguments(site, done)) == 2
    assert "holds an earlier run" in capsys.readouterr().err
    assert (done / "report.json").read_bytes() == before


def test_overwrite_replaces_results_and_keeps_other_files(site: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    output.mkdir()
    (output / "notes.txt").write_text("mine")
    for _ in range(2):
        assert main(run_arguments(site, output, "--overwrite", "--no-video", "--quiet")) == 0
    assert (output / "notes.txt").read_text() == "mine"
    report = json.loads((output / "report.json").read_text())
    with closing(sqlite3.connect(output / "gallery.sqlite")) as database:
        (stored,) = database.execute("SELECT COUNT(person_id) FROM tracklets").fetchone()
    assert stored == report["tracklets"]["accepted"]


@pytest.mark.parametrize("kind", ["text", "another network"])
def test_unfit_detector_weights_leave_an_earlier_run_as_it_was(
    site: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    output, weights = tmp_path / "out", tmp_path / "bad.onnx"
    assert main(run_arguments(site, output, "--no-video", "--quiet")) == 0
    before = {path: path.stat().st_mtime_ns for path in output.rglob("*") if path.is_file()}
    if kind == "text":
        weights.write_text("no network\n" * 99)
    else:
        write_constant_model(weights, np.zeros((1, 6), np.float32), input_shape=(1, 3, 64, 64))
    unfit = ["--set", "detector.backend=onnx", "--set", f"detector.weights={weights}"]
    assert main(run_arguments(site, output, "--overwrite", "--quiet", *unfit)) == 2
    assert "detector.weights" in capsys.readouterr().err
    assert {path: path.stat().st_mtime_ns for path in output.rglob("*") if path.is_file()} == before


def contents(root: Path) -> dict[Path, tuple[int, bytes]]:
    """All files with their inodes, but for SQLite's shared memory: who only reads writes there how far they read."""
    files = [path for path in root.rglob("*") if path.is_file() and not path.name.endswith("-shm")]
    return {path: (path.stat().st_ino, path.read_bytes()) for path in files}


@pytest.mark.parametrize("existing", ["--overwrite", "--append"])
def test_a_folder_in_use_is_left_as_it_is(
    site: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], existing: str
) -> None:
    """The other writer holds the lock as a run in progress does; a store may be of any model."""
    output = tmp_path / "out"
    with open_store(output) as other:
        other.add(sighting_of(tracklet_of("gate-A")))
        (output / "report.json").write_text("{}")
        before = contents(output)
        assert main(run_arguments(site, output, existing, "--quiet")) == 5
        assert "another process is writing to this gallery" in capsys.readouterr().err
        assert contents(output) == before
        other.add(sighting_of(tracklet_of("gate-B", at=5)))
    with open_store(output) as other:
        assert other.counts().accepted == 2


def test_a_lock_alone_is_no_earlier_run_and_stays(site: Path, tmp_path: Path) -> None:
    """Removing it would let a third process lock a new file of the same name beside whoever holds the old one."""
    output = tmp_path / "out"
    output.mkdir()
    (output / "gallery.lock").touch()
    inode = (output / "gallery.lock").stat().st_ino
    assert main(run_arguments(site, output, "--no-video", "--quiet")) == 0
    assert main(run_arguments(site, output, "--overwrite", "--no-video", "--quiet")) == 0
    assert (output / "gallery.lock").stat().st_ino == inode


def test_a_camera_that_changed_its_modality_is_refused(
    site: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out"
    assert main(run_arguments(site, output, "--no-video", "--quiet")) == 0
    changed = [each.replace("gate.mp4,", "gate.mp4,modality=nir,") for each in run_arguments(site, output, "--append")]
    assert main([*changed, "--no-video", "--quiet"]) == 2
    assert "the gallery knows this camera as rgb" in capsys.readouterr().err


def test_a_modality_that_the_weights_have_no_curves_for_is_refused_before_anything_is_written(
    site: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_weights(tmp_path / "mini.safetensors")
    curves = Calibration({(Modality.RGB, Modality.RGB): Curve(20.0, -15.0)})
    (tmp_path / "mini.calibration.json").write_text(json.dumps(curves.to_dict()))
    output, thermal = tmp_path / "out", tmp_path / "dock"
    write_thermal(thermal, frames=3)
    words = [
        "run", "--source", f"gate={site}/gate.mp4", "--set", f"reid.weights={tmp_path}/mini.safetensors",
        "--output", str(output), "--no-video", "--quiet", "--max-frames", "3",
    ]  # fmt: skip
    dock = ["--source", f"dock={thermal}/*.png,modality=thermal"]
    assert main([*words, *dock]) == 2
    assert "rgb-thermal, thermal-thermal" in capsys.readouterr().err
    assert not output.exists()
    assert main(words) == 0
    (tmp_path / "mini.calibration.json").unlink()
    assert main([*words, *dock, "--append"]) == 0
    with Store.read(output) as store:
        assert len(list(store.calibration)) == 6


def test_a_new_config_with_a_modality_without_curves_is_refused_and_the_run_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_video(tmp_path / "gate.mp4", frames=12)
    write_weights(tmp_path / "mini.safetensors")
    (tmp_path / "mini.calibration.json").write_text(
        json.dumps(Calibration({(Modality.RGB, Modality.RGB): Curve(20.0, -15.0)}).to_dict())
    )
    write_thermal(tmp_path / "dock", frames=3)
    gate, dock = f"gate={tmp_path}/gate.mp4", f"dock={tmp_path}/dock/*.png,modality=thermal"
    more = [
        f"reid.weights={tmp_path}/mini.safetensors", f"output.root={tmp_path}/out", "output.video=false",
        "output.contact_sheet=false",
    ]  # fmt: skip
    new = [from_sources([gate, dock], overrides=more)]
    options = RunOptions(new_config=lambda: new.pop() if new else None)
    report = run(from_sources([gate], overrides=more), options)
    assert (new, report["ended"]) == ([], "done")
    assert list(report["cameras"]) == ["gate"]
    assert "rgb-thermal, thermal-thermal" in caplog.text


def test_an_impossible_date_and_an_unknown_device_are_named(
    site: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = f"gate={site}/gate.mp4,start=2026-13-45"
    assert main(["run", "--source", source, "--output", str(tmp_path / "out")]) == 2
    assert "2026-13-45" in capsys.readouterr().err
    assert main([*run_arguments(site, tmp_path / "out"), "--device", "banana"]) == 2
    assert "banana" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_append_adds_to_the_gallery_and_a_different_model_is_refused(
    site: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out"
    assert main(run_arguments(site, output, "--no-video", "--quiet")) == 0
    first = len(events(output))
    assert main(run_arguments(site, output, "--append", "--no-video", "--quiet")) == 0
    assert len(events(output)) == 2 * first
    other = write_weights(tmp_path / "other.safetensors", seed=1)
    arguments = [*run_arguments(site, output, "--append", "--no-video", "--quiet"), "--set", f"reid.weights={other}"]
    assert main(arguments) == 4
    assert "filled by model" in capsys.readouterr().err


def test_json_report_on_stdout_is_the_report_on_disk(
    site: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(run_arguments(site, tmp_path / "out", "--json", "--no-video", "--quiet")) == 0
    assert json.loads(capsys.readouterr().out) == json.loads((tmp_path / "out" / "report.json").read_text())


def refused(tmp_path: Path, capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    """Run with an output folder that must not come to be; exit code and message."""
    output = tmp_path / "out"
    code = main(["run", *arguments, "--output", str(output), "--no-progress"])
    assert not output.exists()
    return code, capsys.readouterr().err


def test_a_missing_file(tmp_path: Path, site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, message = refused(tmp_path, capsys, "--source", f"gate={tmp_path}/no.mp4")
    assert (code, "no such file" in message) == (3, True)


def test_a_text_file_named_mp4(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "fake.mp4").write_text("this is not a video\n" * 50)
    code, message = refused(tmp_path, capsys, "--source", f"gate={tmp_path}/fake.mp4")
    assert code == 3
    assert "fake.mp4" in message


def test_an_empty_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty").mkdir()
    code, message = refused(tmp_path, capsys, "--source", f"gate={tmp_path}/empty,modality=thermal")
    assert code == 3
    assert "empty" in message


def test_an_image_of_one_pixel(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "tiny").mkdir()
    cv2.imwrite(str(tmp_path / "tiny" / "0.png"), np.zeros((1, 1), np.uint8))
    code, message = refused(tmp_path, capsys, "--source", f"gate={tmp_path}/tiny,modality=nir")
    assert code == 3
    assert "1x1" in message


def test_a_wrong_modality(tmp_path: Path, site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, message = refused(tmp_path, capsys, "--source", f"gate={site}/gate.mp4,modality=termal")
    assert code == 2
    assert "did you mean thermal?" in message


def test_an_unknown_key(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "site.yaml"
    config.write_text("version: 1\ncameras: {gate: {source: a.mp4, modality: rgb}}\nreid: {weight: x}\n")
    code, message = refused(tmp_path, capsys, "--config", str(config))
    assert code == 2
    assert "site.yaml:3" in message
    assert "did you mean weights?" in message


@pytest.mark.parametrize("kind", ["missing", "text", "wrong", "uncalibrated"])
def test_weights_that_are_not_there_or_do_not_fit(
    tmp_path: Path, site: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    path = tmp_path / "weights.safetensors"
    if kind == "text":
        path.write_text("no weights\n" * 100)
    if kind == "wrong":
        from safetensors.torch import load_file, save_file

        state = load_file(site / "mini.safetensors")
        state.pop(sorted(state)[0])
        save_file(state, path)
    if kind == "uncalibrated":
        write_weights(path, calibrated=False)
    code, message = refused(tmp_path, capsys, "--source", f"gate={site}/gate.mp4", "--set", f"reid.weights={path}")
    assert code == 2
    assert "reid.weights" in message


@pytest.mark.parametrize("stage", ["write_videos", "write_matches"])
def test_a_disk_that_is_full_when_pictures_are_drawn_is_named_and_costs_no_result(
    site: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))  # as FFmpeg and a full write tell it: without a file

    monkeypatch.setattr(pipeline.run, stage, fail)
    output = tmp_path / "out"
    assert main(run_arguments(site, output, *([] if stage == "write_videos" else ["--no-video"]))) == 5
    assert f"{output}: No space left on device; results that were finished are kept" in capsys.readouterr().err
    assert json.loads((output / "report.json").read_text())["tracklets"]["accepted"] >= 2
    query = next(event["tracklet_id"] for event in events(output) if event["person"])
    assert main(["search", query, "--gallery", str(output)]) == 0


@pytest.mark.parametrize(
    ("unfit", "code", "said"),
    [
        (["--set", "reid.weights=/nowhere/a.safetensors"], 2, "reid.weights: /nowhere/a.safetensors: no such file"),
        (["--set", "reid.weights=xreid-tinny"], 2, "reid.weights: xreid-tinny: no such file"),
        (["--set", "detector.backend=onnx", "--set", "detector.weights=/nowhere/a.onnx"], 2, "no file at /nowhere/a."),
        (["--device", "cuda:99"], 5, "device cuda:99: PyTorch sees no such GPU here"),
        (["--output", "missing-link/out"], 5, "missing-link cannot be written to: No such file or directory; give"),
    ],
)
def test_what_a_look_can_refuse_is_refused_before_recordings_are_read(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    unfit: list[str],
    code: int,
    said: str,
) -> None:
    """The recording is none, which is found out as soon as it is opened."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "missing-link").symlink_to("nowhere")
    (tmp_path / "gate.mp4").write_text("no recording")
    assert main(["run", "--source", "gate=gate.mp4", "--output", "out", *unfit]) == code
    printed = capsys.readouterr().err
    assert said in printed
    assert "gate.mp4" not in printed
    assert sorted(each.name for each in tmp_path.iterdir()) == ["gate.mp4", "missing-link"]


def test_an_output_that_is_a_file_is_refused_and_stays(
    site: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "notes").write_text("mine")
    for output in ("notes", "notes/run"):
        code = main(["run", "--source", f"gate={site}/gate.mp4", "--output", str(tmp_path / output)])
        assert (code, "notes is a file" in capsys.readouterr().err) == (2, True)
    assert (tmp_path / "notes").read_text() == "mine"


def test_a_recording_of_nobody_ends_well_with_every_result_empty(site: Path, tmp_path: Path) -> None:
    video, output = write_video(tmp_path / "empty.mp4", frames=9), tmp_path / "out"
    arguments = ["--source", f"gate={video}", "--set", f"reid.weights={site}/mini.safetensors", "--no-progress"]
    assert main(["run", *arguments, "--output", str(output)]) == 0
    assert list((output / "events").iterdir()) == []
    assert (output / "mot" / "gate.txt").read_text() == ""
    assert (output / "video" / "gate.mp4").is_file()
    assert (output / "matches.png").is_file()


def in_terminal(command: list[str], *, columns: int) -> str:
    """What a program writes to stderr when that is a terminal of this width."""
    ours, theirs = os.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=theirs)
    os.close(theirs)
    written = b""
    with suppress(OSError):  # Linux tells the end of a terminal by an error
        while part := os.read(ours, 65536):
            written += part
    os.close(ours)
    assert process.wait() == 0, written
    return written.decode()


@pytest.mark.parametrize("columns", [80, 0])
def test_a_terminal_shows_a_bar_for_each_pass_and_one_without_a_width_none(
    site: Path, tmp_path: Path, columns: int
) -> None:
    command = [sys.executable, str(ROOT / "run_pipeline.py"), *run_arguments(site, tmp_path / "out")]
    command += ["--max-frames", "24"]
    written = in_terminal([each for each in command if each != "--no-progress"], columns=columns)
    for stage in ("tracking", "drawing"):
        assert (f"{stage}: 100%" in written) == bool(columns)
    assert "\x1b[A" not in written  # one bar at a time


def test_without_a_terminal_progress_is_plain_lines_with_the_rate_of_the_stage(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    clock = iter([100.0, 105.0, 111.0, 200.0])
    monkeypatch.setattr("pipeline.cli.time", SimpleNamespace(monotonic=lambda: next(clock)))
    progress = _PlainProgress()
    with caplog.at_level("INFO", logger="pipeline.cli"):
        for done in (1, 50, 111):
            progress.tell("tracking", done, 331)
        progress.tell("drawing", 0, 331)
    assert caplog.messages == ["tracking: 111 frames of 331, 22 s left, 10.0 frames/s"]


def test_no_cameras_at_all(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, message = refused(tmp_path, capsys)
    assert code == 2
    assert "--source" in message


def test_a_truncated_video_is_processed_as_far_as_it_goes_and_told(
    tmp_path: Path, site: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = (site / "gate.mp4").read_bytes()
    (tmp_path / "cut.mp4").write_bytes(whole[: len(whole) * 6 // 10])
    output = tmp_path / "out"
    code = main([
        "run", "--source", f"gate={tmp_path}/cut.mp4", "--source", f"dock={site}/dock,modality=thermal",
        "--set", f"reid.weights={site}/mini.safetensors", "--output", str(output), "--no-progress",
    ])  # fmt: skip
    assert code == 3
    (message,) = [line for line in capsys.readouterr().err.splitlines() if "is truncated" in line]
    assert "cut.mp4 is truncated" in message
    cameras = json.loads((output / "report.json").read_text())["cameras"]
    assert cameras["gate"]["state"] == "failed"
    assert 0 < cameras["gate"]["frames_processed"] < 75
    assert cameras["dock"]["frames_processed"] == 75
    with av.open(output / "video" / "gate.mp4") as container:
        assert sum(1 for _ in container.decode(video=0)) == cameras["gate"]["frames_processed"]


def test_a_recording_that_is_gone_when_its_video_is_drawn_costs_that_video_only(
    tmp_path: Path, site: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "gate.mp4").write_bytes((site / "gate.mp4").read_bytes())
    report = pipeline.run.write_report

    def vanish(path: Path, content: dict[str, Any]) -> None:
        report(path, content)
        if content["frames"]:  # it was read, and is to be drawn
            (tmp_path / "gate.mp4").unlink(missing_ok=True)

    monkeypatch.setattr(pipeline.run, "write_report", vanish)
    output = tmp_path / "out"
    code = main([
        "run", "--source", f"gate={tmp_path}/gate.mp4", "--source", f"dock={site}/dock,modality=thermal",
        "--set", f"reid.weights={site}/mini.safetensors", "--output", str(output), "--no-progress",
    ])  # fmt: skip
    assert code == 3
    assert "camera gate: no annotated video" in capsys.readouterr().err
    assert [path.name for path in (output / "video").iterdir()] == ["dock.mp4"]
    assert (output / "matches.png").is_file()
    cameras = json.loads((output / "report.json").read_text())["cameras"]
    assert "gate.mp4" in cameras["gate"]["video_error"]
    assert cameras["dock"]["video_error"] is None


def test_a_run_that_is_stopped_while_it_draws_ends_soon_and_well(site: Path, tmp_path: Path) -> None:
    """It is stopped after the last frame of the first pass: all is identified, and no video is half a video."""
    config = from_sources(
        [f"gate={site}/gate.mp4"],
        overrides=[f"reid.weights={site}/mini.safetensors", f"output.root={tmp_path}/out"],
    )
    asked = count()
    report = pipeline.run.run(config, pipeline.run.RunOptions(should_stop=lambda: next(asked) >= 85))
    assert (report["frames"], report["cameras"]["gate"]["state"]) == (75, "ended")
    assert report["cameras"]["gate"]["video_error"] == "the run was stopped"
    assert list((tmp_path / "out" / "video").iterdir()) == []
    assert (tmp_path / "out" / "matches.png").is_file()


def test_an_unreadable_image_in_the_middle_is_skipped_counted_and_told(
    tmp_path: Path, site: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_thermal(tmp_path / "dock")
    for name in ("0030", "0031", "0032", "0050"):
        (folder / f"{name}.png").write_bytes(b"\x89PNG broken")
    output = tmp_path / "out"
    code = main([
        "run", "--source", f"dock={folder},modality=thermal", "--set", f"reid.weights={site}/mini.safetensors",
        "--output", str(output), "--no-progress",
    ])  # fmt: skip
    assert code == 3
    told = capsys.readouterr().err.splitlines()
    assert [line for line in told if " INFO " not in line] == [
        f"error: camera dock: 4 frames skipped (4 unreadable: {folder}/0030.png, {folder}/0031.png, {folder}/0032.png,"
        " ...); the others were processed"
    ]
    camera = json.loads((output / "report.json").read_text())["cameras"]["dock"]
    assert camera["frames_processed"] == 71
    assert camera["frames_skipped"] == {"unreadable": 4}
    assert camera["state"] == "ended"


def test_validate_and_its_schema(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["validate", "--config", str(ROOT / "configs" / "demo.yaml")]) == 0
    page = capsys.readouterr().out
    assert "ok; cameras: " in page
    assert "runs/demo/site/yard.mp4" in page
    assert "re-ID xreid-tiny" in page
    assert main(["validate", "--schema"]) == 0
    assert "properties" in json.loads(capsys.readouterr().out)


def test_doctor_prints_one_line_a_check(capsys: pytest.CaptureFixture[str]) -> None:
    main(["doctor"])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) > 5
    assert all(line.split()[0] in {"ok", "warn", "fail"} for line in lines)


@pytest.mark.parametrize("arguments", [["run", "--max-frames", "0"], ["fly"], []])
def test_wrong_usage_ends_with_2(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2


def test_sigint_finishes_open_tracklets_and_ends_with_130_though_nobody_reads_what_it_says(
    site: Path, tmp_path: Path
) -> None:
    video = write_video(tmp_path / "long.mp4", frames=1500, crowded=True)
    output, start = tmp_path / "out", datetime(2026, 6, 1, 12, tzinfo=UTC)
    source = f"gate={video},start={start.isoformat()}"
    command = [sys.executable, str(ROOT / "run_pipeline.py"), "run", "--source", source,
               "--set", f"reid.weights={site}/mini.safetensors", "--set", "detector.motion.working_height_px=240",
               "--output", str(output), "--no-video"]  # fmt: skip
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    begun = output / "mot" / "gate.txt.part"
    for _ in range(1200):
        if begun.exists():
            break
        time.sleep(0.05)
    time.sleep(2.0)  # some frames, not only the file; all 1500 take many times as long
    assert process.stderr is not None
    process.stderr.close()  # as `2>&1 | tee log` does, which the same Ctrl-C ends first
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=60) == 130
    report = json.loads((output / "report.json").read_text())
    assert report["ended"] == "stopped"
    assert 0 < report["frames"] < 1500
    last = max(datetime.fromisoformat(event["end"]) for event in events(output))
    assert (last - start).total_seconds() > report["frames"] / 10 - 1  # who was in view is kept
    assert (output / "mot" / "gate.txt").is_file()


@pytest.mark.parametrize(
    ("place", "next_one"),
    [
        ("pipeline.cli._configured", "pipeline.run.build_sources"),
        ("pipeline.run.build_extractor", "pipeline.run.build_detector"),
    ],
)
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_while_config_or_models_load_waits_for_neither_and_changes_nothing(
    number: int,
    code: int,
    place: str,
    next_one: str,
    done: Path,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = tmp_path / "run"
    shutil.copytree(done, run)
    before = {path.name: path.stat().st_mtime_ns for path in run.iterdir()}
    replaced, reached = pkgutil.resolve_name(place), list[str]()

    def interrupted(*arguments: Any, **named: Any) -> Any:
        os.kill(os.getpid(), number)
        time.sleep(10 if place.endswith("extractor") else 0)  # the model is large, and the disk slow
        return replaced(*arguments, **named)

    monkeypatch.setattr(place, interrupted)
    monkeypatch.setattr(next_one, lambda *_: reached.append(next_one) or [])
    started = time.monotonic()
    assert main(["run", "--config", str(run / "config.json"), "--output", str(run), "--overwrite", "--quiet"]) == code
    assert time.monotonic() - started < 5
    assert not reached
    assert "nothing was changed" in capsys.readouterr().err
    assert {path.name: path.stat().st_mtime_ns for path in run.iterdir()} == before


def test_whoever_stops_reading_is_no_error() -> None:
    command = [
        sys.executable,
        str(ROOT / "run_pipeline.py"),
        "validate",
        "--config",
        str(ROOT / "configs/default.yaml"),
    ]
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as nobody:
        done = subprocess.run(command, stdout=nobody, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr) == (128 + signal.SIGPIPE, "")
