"""Every example runs, and none is long."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pipeline.audit import Audit
from pipeline.build import build_extractor
from pipeline.cli import main
from pipeline.config import from_sources
from pipeline.crop_files import read_crop
from pipeline.identify import person_name
from pipeline.query import write_config
from pipeline.store import Store
from reid.modality import Modality
from simulation.config import TrackletsConfig
from simulation.tracklets import render_tracklets
from tests.pipeline.factories import sighting_of, tracklet_of
from tests.pipeline.recordings import write_thermal, write_video, write_weights

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))


def run(*arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def without_a_reader(*arguments: str) -> tuple[int, str]:
    """The exit code and stderr of a script whose output nobody reads, as behind ``head``."""
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = subprocess.run(
            [sys.executable, *arguments],
            stdout=writer, stderr=subprocess.PIPE, text=True, check=False, cwd=ROOT, env={"PYTHONPATH": str(ROOT)},
        )  # fmt: skip
    finally:
        os.close(writer)
    return done.returncode, done.stderr


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_an_example_has_at_most_60_lines(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 60


def test_tracking_precomputed_detections(tmp_path: Path) -> None:
    rows = [f"{frame},-1,{10 + 3 * frame},20,30,80,0.9,-1,-1,-1" for frame in range(1, 21)]
    (tmp_path / "det.txt").write_text("\n".join(rows) + "\n")
    assert "1 tracks" in run("examples/track_detections.py", str(tmp_path / "det.txt"), str(tmp_path / "out.txt"))
    assert len((tmp_path / "out.txt").read_text().splitlines()) == 20


@pytest.mark.parametrize(
    ("name", "fps", "told"),
    [
        ("det.txt", "0", "above 0, got 0"),
        ("no.txt", "5", "no.txt"),
        ("info.txt", "5", "info.txt:1: expected at least 7"),
    ],
)
def test_detections_that_are_none_or_not_there_or_no_frame_rate_are_refused(
    tmp_path: Path, name: str, fps: str, told: str
) -> None:
    (tmp_path / "det.txt").write_text("")
    (tmp_path / "info.txt").write_text("[Sequence]\n")
    command = [sys.executable, "examples/track_detections.py", str(tmp_path / name), str(tmp_path / "out.txt")]
    done = subprocess.run(
        [*command, "--fps", fps], capture_output=True, text=True, check=False, cwd=ROOT, env={"PYTHONPATH": str(ROOT)}
    )
    assert done.returncode == 2
    assert told in done.stderr
    assert not (tmp_path / "out.txt").exists()


def test_the_night_search_tells_of_each_person_seen_by_day(tmp_path: Path) -> None:
    video, thermal = write_video(tmp_path / "gate.mp4"), write_thermal(tmp_path / "dock")
    weights, output = write_weights(tmp_path / "mini.safetensors"), tmp_path / "run"
    arguments = [
        "run", "--source", f"gate={video},start=2026-06-01T14:00:00Z", "--source",
        f"dock={thermal},modality=thermal,start=2026-06-01T22:00:00Z", "--set", f"reid.weights={weights}",
        "--output", str(output), "--quiet", "--no-video",
    ]  # fmt: skip
    assert main(arguments) == 0
    told = run("examples/night_search.py", str(output), "--day", "gate", "--least", "0", "--purpose", "theft")
    assert re.search(r"^P0001, in colour at gate at 2026-06-01 14:00:0\d UTC[,:]", told, re.MULTILINE)
    assert re.search(r"^  dock \(thermal\) at 2026-06-01 22:00:0\d UTC, p ", told, re.MULTILINE)
    with Store.read(output) as store:
        rows = [row for row in Audit(store).rows() if row.action == "search"]
    assert len(rows) == told.count(", in colour at gate at")
    assert {row.purpose for row in rows} == {"theft"}
    assert rows[-1].details["answers"]
    assert without_a_reader("examples/night_search.py", str(output), "--day", "gate") == (-signal.SIGPIPE, "")


def simulated_site(folder: Path) -> dict[str, str]:
    """A gallery of simulated people, by day in colour and by night in infrared, as the embedded weights see them.

    Returns:
        Who each tracklet is. The infrared tracklets have persons of their own: nobody told the gallery who is who.
    """
    people = TrackletsConfig(
        seed=707, people={"val": 8}, tracklets={"rgb": 1, "nir": 1, "thermal": 1}, frames=4, scenes=2
    )
    render_tracklets(people, folder / "people", workers=1, tell=lambda sentence: None)
    extractor, truth = build_extractor("xreid-tiny", "cpu"), {}
    with Store.open(
        folder / "run",
        model_id=extractor.model_id,
        dimension=extractor.dimension,
        calibration=extractor.calibration,
    ) as store:
        for n, clip in enumerate(sorted(path for path in (folder / "people" / "val").glob("*/*/*") if path.is_dir())):
            modality, person = Modality(clip.parent.name), clip.parent.parent.name
            camera = {Modality.RGB: "gate", Modality.NIR: "hall", Modality.THERMAL: "dock"}[modality]
            night = 0 if modality is Modality.RGB else 36_000
            tracklet = tracklet_of(f"{camera}-{n:02d}", modality=modality, at=night + 60 * n)
            vector = extractor.extract([[read_crop(path) for path in sorted(clip.iterdir())]], [modality])[0]
            store.add(sighting_of(tracklet, person=n + 1, vector=vector))
            truth[tracklet.tracklet_id] = person
    write_config(folder / "run", from_sources([f"gate={folder}/gate.mp4"]))
    return truth


def test_the_night_search_tells_of_the_right_people_where_any_order_would_not(tmp_path: Path) -> None:
    """Simulated people: at the least probability that the script has, most of what it tells is true."""
    truth = simulated_site(tmp_path)
    told = run("examples/night_search.py", str(tmp_path / "run"), "--day", "gate").splitlines()
    with Store.read(tmp_path / "run") as store:
        day = {person_name(each.person_id or 0): truth[each.tracklet_id] for each in store.tracklets()}
    pairs, person = [], ""
    for line in told:
        if ", in colour at gate at " in line:
            person = day[line.partition(",")[0]]
        elif "; " in line:
            pairs.append((person, Path(line.partition("; ")[2]).parent.name))
    assert {person for person, _ in pairs} <= set(truth.values())
    found = {(person, name) for person, name in pairs if truth[name] == person}
    assert len(found) >= 2 * 8 / 3, "of two sightings of each of eight people in the dark, a third is told at least"
    assert len(found) > 2 / 3 * len(pairs)
    rng, dark = np.random.default_rng(0), sorted(name for name in truth if not name.startswith("gate"))
    for _ in range(100):  # the same lists by a ranking that knows nothing
        other = dict(zip(dark, rng.permutation(dark).tolist(), strict=True))
        assert sum(truth[other[name]] == person for person, name in pairs) < 2 / 3 * len(pairs)


@pytest.mark.parametrize(("folder", "camera"), [("run", "nosuch"), ("empty", "gate")])
def test_the_night_search_names_what_is_not_there(tmp_path: Path, folder: str, camera: str) -> None:
    video, weights = write_video(tmp_path / "gate.mp4"), write_weights(tmp_path / "mini.safetensors")
    arguments = ["--source", f"gate={video}", "--set", f"reid.weights={weights}", "--quiet", "--no-video"]
    assert main(["run", *arguments, "--output", str(tmp_path / "run")]) == 0
    done = subprocess.run(
        [sys.executable, "examples/night_search.py", str(tmp_path / folder), "--day", camera],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert (camera if folder == "run" else f"{folder}: no gallery there") in done.stderr


@pytest.mark.real_data
def test_the_night_search_runs_on_real_footage(shared_data: Path, tmp_path: Path) -> None:
    """What is checked is that the line holds, not who is found: the weights know only synthetic people."""
    told = run("examples/footage_search.py", str(shared_data), str(tmp_path / "run"), "--most-frames", "40")
    assert "in colour at street at 2026-06-01 14:00:" in told
    assert "camp (thermal) at 2026-06-01 22:00:" in told or "not seen again with confidence" in told


def test_the_night_search_says_why_it_does_not_run_without_real_footage(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "examples/footage_search.py", str(tmp_path), str(tmp_path / "run")],
        capture_output=True, text=True, check=False, cwd=ROOT, env={"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 2
    assert f"{tmp_path}: expected a folder with video/vtest_480x360.mp4, thermal/" in done.stderr
    assert "; missing: video/vtest_480x360.mp4, thermal/" in done.stderr
