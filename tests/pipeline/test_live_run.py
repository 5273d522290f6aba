"""A run of live cameras as an operator has it for days: reloaded, looked at, stopped, killed, started again."""

import json
import os
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

import pipeline.run
from pipeline.config import from_sources
from pipeline.prefetch import Intake
from pipeline.run import RunOptions
from tests.pipeline.mjpeg import MjpegCamera
from tests.pipeline.recordings import write_video, write_weights

pytestmark = pytest.mark.alone

ROOT = Path(__file__).resolve().parents[2]
MOST_STALE_MS = 5000  # other work on this machine must not look like frames that a reload or a lost camera cost


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_weights(tmp_path_factory.mktemp("weights") / "mini.safetensors")


def write_site(
    path: Path, weights: Path, cameras: dict[str, str], *, ground: dict[str, Any] | None = None, **more: Any
) -> Path:
    site = {
        "version": 1,
        "cameras": {
            name: {
                "source": url,
                "modality": "rgb",
                "max_staleness_ms": MOST_STALE_MS,
                "stream": {"backoff_seconds": 0.2, "backoff_cap_seconds": 0.5},
            }
            | ({"ground": ground[name]} if ground and name in ground else {})
            for name, url in cameras.items()
        },
        "reid": {"weights": str(weights)},
        "tracklets": {"max_gap_seconds": 1.0},
        "monitoring": {"port": 0},
        **more,
    }
    part = path.with_suffix(".part")
    part.write_text(yaml.safe_dump(site))
    part.replace(path)
    return path


class Run:
    """The program, running; its log is read from a file."""

    def __init__(self, config: Path, output: Path, *more: str) -> None:
        self.output = output
        self._log = output.parent / f"{output.name}.log"
        with self._log.open("ab") as log:
            command = [sys.executable, str(ROOT / "run_pipeline.py"), "run", "-c", str(config), "-o", str(output)]
            self.process = subprocess.Popen(
                [*command, "--no-progress", *more], stdout=log, stderr=log, env={**os.environ, "OMP_NUM_THREADS": "1"}
            )

    @property
    def log(self) -> str:
        return self._log.read_text()

    @property
    def events(self) -> list[dict[str, Any]]:
        paths = sorted((self.output / "events").glob("*.jsonl"))
        return [json.loads(line) for path in paths for line in path.read_text().splitlines()]

    def get(self, page: str) -> tuple[int, str]:
        found = re.findall(r"http://127\.0\.0\.1:(\d+)/metrics", self.log)
        if not found:
            return 0, ""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{found[-1]}{page}", timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except urllib.error.URLError:
            return 0, ""

    def states(self) -> dict[str, str]:
        code, body = self.get("/readyz")
        return dict(json.loads(body)["cameras"]) if code else {}

    def wait(self, what: str, condition: Callable[[], bool], *, seconds: float = 180.0) -> None:
        until = time.monotonic() + seconds
        while not condition():
            assert self.process.poll() is None, f"it ended before {what}:\n{self.log}"
            assert time.monotonic() < until, f"no {what} within {seconds} s:\n{self.log}"
            time.sleep(0.05)

    def stop(self, number: int) -> tuple[int, float]:
        """Exit code, and the seconds that it took."""
        started = time.monotonic()
        self.process.send_signal(number)
        return self.process.wait(timeout=30), time.monotonic() - started


@contextmanager
def running(config: Path, output: Path, *more: str) -> Iterator[Run]:
    run = Run(config, output, *more)
    try:
        yield run
    finally:
        run.process.kill()
        run.process.wait()


def check_accounts(report: dict[str, Any], cameras: Sequence[str]) -> None:
    assert set(report["cameras"]) == set(cameras)
    for camera in report["cameras"].values():
        assert camera["frames_decoded"] == camera["frames_processed"] + sum(camera["frames_dropped"].values())
        assert camera["frames_processed"] > 0


def metric(text: str, name: str, **labels: str) -> float:
    """The sum of all samples of this name that have these labels."""
    values = []
    for line in text.splitlines():
        found = re.fullmatch(rf"{name}(?:{{(.*)}})? (\S+)", line)
        if found and all(f'{key}="{value}"' in (found[1] or "") for key, value in labels.items()):
            values.append(float(found[2]))
    assert values, f"no {name} with {labels}"
    return sum(values)


def test_cameras_are_lost_found_added_and_removed_and_every_frame_is_accounted_for(
    tmp_path: Path, weights: Path
) -> None:
    with MjpegCamera(fps=40) as gate, MjpegCamera() as yard, MjpegCamera() as dock:
        site = write_site(tmp_path / "site.yaml", weights, {"gate": gate.url, "yard": yard.url})
        with running(site, tmp_path / "out", "--append") as run:
            run.wait("both cameras", lambda: run.states() == {"gate": "running", "yard": "running"})
            assert run.get("/healthz")[0] == 200
            assert run.get("/elsewhere")[0] == 404

            yard.kill()
            run.wait("loss of the yard", lambda: run.states()["yard"] == "reconnecting")
            yard.start()
            run.wait("the yard again", lambda: run.states()["yard"] == "running", seconds=10)

            write_site(site, weights, {"gate": "rtsq://nowhere"})
            run.process.send_signal(signal.SIGHUP)
            run.wait("refusal", lambda: "the new config is refused, and the old one stays" in run.log)
            write_site(site, weights, {"gate": gate.url, "yard": yard.url}, identity={"threshold": 0.7})
            run.process.send_signal(signal.SIGHUP)
            run.wait("another refusal", lambda: "identity: changed, which takes a restart" in run.log)
            flat = {"homography": [[0.0] * 3] * 3}
            write_site(site, weights, {"gate": gate.url, "dock": dock.url}, ground={"dock": flat})
            run.process.send_signal(signal.SIGHUP)
            run.wait("a third refusal", lambda: "homography: must be finite and invertible" in run.log)
            assert run.states() == {"gate": "running", "yard": "running"}

            write_site(site, weights, {"gate": gate.url, "dock": dock.url})
            run.process.send_signal(signal.SIGHUP)
            wanted = {"gate": "running", "yard": "disabled", "dock": "running"}
            run.wait("the dock in place of the yard", lambda: run.states() == wanted)
            write_site(site, weights, {"gate": gate.url, "dock": dock.url}, ground={"dock": {"estimate": True}})
            run.process.send_signal(signal.SIGHUP)
            run.wait("another dock", lambda: "new config: 1 changed (dock)" in run.log)
            run.wait("the dock again", lambda: run.states() == wanted)

            run.wait("a tracklet of the gate", lambda: any(event["camera"] == "gate" for event in run.events))
            code, text = run.get("/metrics")
            assert code == 200
            for camera in ("gate", "yard", "dock"):
                assert metric(text, "xreid_frames_processed_total", camera=camera, modality="rgb") > 0
            assert metric(text, "xreid_reconnects_total", camera="yard") == 1
            assert metric(text, "xreid_config_reloads_total", outcome="refused") == 3
            assert metric(text, "xreid_config_reloads_total", outcome="taken") == 2
            assert metric(text, "xreid_stage_seconds_count", stage="detect") > 10
            assert metric(text, "xreid_frame_age_seconds_count", camera="gate") > 10
            assert metric(text, "xreid_tracklets_total", camera="gate") >= 1
            assert metric(text, "xreid_camera_state", camera="dock", state="running") == 1
            for name in ("xreid_queue_frames", "xreid_disk_free_bytes", "process_resident_memory_bytes"):
                assert metric(text, name) >= 0

            code, seconds = run.stop(signal.SIGTERM)
            assert code == 0, run.log
            assert seconds < 5
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    check_accounts(report, ["gate", "yard", "dock"])
    dropped = report["cameras"]["gate"]["frames_dropped"]
    assert set(dropped) <= {"shutdown"}  # nothing that went on around it cost a frame
    assert sum(dropped.values()) <= 16  # as many as wait at the end
    assert report["cameras"]["gate"]["reconnects"] == 0  # nor was it opened anew
    assert set(report["cameras"]["gate"]["frames_skipped"]) <= {"connection_ended"}  # undecoded when it was closed
    assert report["cameras"]["yard"]["reconnects"] == 1
    assert report["cameras"]["yard"]["state"] == "disabled"
    assert report["cameras"]["gate"]["age_seconds"]["most"] < MOST_STALE_MS / 1000
    assert "camera gate: " in run.log
    assert "rtsq" not in (tmp_path / "out" / "config.json").read_text()


def test_open_tracklets_are_kept_when_it_is_interrupted_while_a_camera_hangs(tmp_path: Path, weights: Path) -> None:
    with MjpegCamera() as gate, closing(socket.create_server(("127.0.0.1", 0))) as deaf:
        hanging = f"http://127.0.0.1:{deaf.getsockname()[1]}/"  # accepts, and never says a word
        site = write_site(tmp_path / "site.yaml", weights, {"gate": gate.url, "deaf": hanging})
        with running(site, tmp_path / "out") as run:
            run.wait("the gate", lambda: run.states().get("gate") == "running")
            time.sleep(2.5)
            code, seconds = run.stop(signal.SIGINT)
    assert (code, seconds < 5) == (130, True)
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["cameras"]["deaf"]["frames_decoded"] == 0
    stored = report["tracklets"]["accepted"] + sum(report["tracklets"]["rejected"].values())
    assert len(run.events) == stored >= 1
    assert not (tmp_path / "out" / "video").exists()


def test_after_kill_9_nothing_committed_is_lost_and_a_restart_goes_on(tmp_path: Path, weights: Path) -> None:
    def stored(root: Path) -> dict[str, int]:
        with closing(sqlite3.connect(root / "gallery.sqlite")) as database:
            assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            return dict(database.execute("SELECT tracklet_id, frames FROM tracklets").fetchall())

    output = tmp_path / "out"
    with MjpegCamera(fps=40) as gate:
        site = write_site(tmp_path / "site.yaml", weights, {"gate": gate.url})
        with running(site, output, "--append") as run:
            run.wait("a tracklet", lambda: bool(run.events))
            run.process.send_signal(signal.SIGKILL)
            run.process.wait()
        before = stored(output)
        told = {event["tracklet_id"] for event in run.events}
        assert told
        assert told <= set(before)
        with running(site, output, "--append") as run:
            run.wait("a tracklet of the second run", lambda: len(run.events) > len(told))
            assert run.stop(signal.SIGTERM)[0] == 0
        after = stored(output)
    assert after.items() > before.items()
    assert len({event["tracklet_id"] for event in run.events}) == len(run.events)
    assert {event["tracklet_id"] for event in run.events} <= set(after)


def test_a_slow_embedding_makes_no_live_frame_stale_and_a_recording_beside_it_wait(
    tmp_path: Path, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is busy nearly all the time, and longer at once than a frame may be old."""
    built, held, until = pipeline.run.build_extractor, list[bool](), list[float]()

    def slow(*arguments: Any, **named: Any) -> Any:
        extractor = built(*arguments, **named)
        extract = extractor.extract

        def take_time(clips: Sequence[Any], modalities: Sequence[Any]) -> Any:
            time.sleep(0.8 * len(clips))
            return extract(clips, modalities)

        monkeypatch.setattr(extractor, "extract", take_time)
        return extractor

    class Watched(Intake):
        def hold_recordings(self, hold: bool) -> None:
            held.append(hold)
            super().hold_recordings(hold)

    monkeypatch.setattr("pipeline.run.build_extractor", slow)
    monkeypatch.setattr("pipeline.run.Intake", Watched)
    film = write_video(tmp_path / "film.mp4", 300, crowded=True)
    with MjpegCamera(fps=20) as gate, MjpegCamera(fps=20) as yard:
        config = from_sources(
            [f"gate={gate.url}", f"yard={yard.url}", f"film={film}"],
            overrides=[f"output.root={tmp_path / 'out'}", f"reid.weights={weights}", "reid.batch=2"],
        )
        options = RunOptions(
            on_progress=lambda *_: until.append(time.monotonic() + 10),
            should_stop=lambda: bool(until) and time.monotonic() > until[0],
        )
        report = pipeline.run.run(config, options)
    check_accounts(report, ["film", "gate", "yard"])
    for name in ("gate", "yard"):
        assert report["cameras"][name]["frames_processed"] > 150
        assert report["cameras"][name]["frames_dropped"].get("stale", 0) <= 4
    assert any(held)
    assert report["tracklets"]["accepted"] >= 6
    assert not report["tracklets"]["lost"]
