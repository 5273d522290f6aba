"""A run takes over a new config while it goes on: nothing of the old one is lost, and nothing of it stays."""

import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.build import (
    build_detector,
    build_line,
    build_retention,
    build_reviser,
    build_sources,
    build_windows,
    pair_settings,
)
from pipeline.config import Config
from pipeline.detectors.base import Detector
from pipeline.detectors.motion import MotionDetector
from pipeline.frame import Frame, Image
from pipeline.losses import Losses
from pipeline.monitoring import LatestFrames, Metrics
from pipeline.pairs import Pairs
from pipeline.prefetch import Intake, aside
from pipeline.run import RunOptions, _drawing, _Faults, _Run
from pipeline.sinks import EventLog, MotWriters
from pipeline.skew import ClockFit
from pipeline.sources.base import SourceState
from pipeline.store import TrackletFilter
from pipeline.tally import Tally
from reid.modality import Modality
from tests.pipeline.factories import DIMENSION, MODEL, axis, open_store
from tests.pipeline.live import LiveCamera
from trackers.structures import Detections

pytestmark = pytest.mark.alone
NOWHERE = "rtsp://127.0.0.1:9/"  # where a camera that was opened anew waits to be connected


class OnePerson:
    """A detector that sees somebody at the same place in every frame."""

    together = False

    def detect(self, frames: Sequence[Frame]) -> list[Detections]:
        return [Detections(np.array([[10, 10, 40, 90]], np.float32), np.array([0.9], np.float32)) for _ in frames]

    def forget(self, camera_id: str) -> None: ...


class BrokenBetween(OnePerson):
    """Fails from its tenth call on for so many seconds."""

    together = True

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.calls = 0
        self.failed_calls = 0
        self.works_again_at = float("inf")

    @property
    def works(self) -> bool:
        return self.calls < 10 or time.monotonic() > self.works_again_at

    def detect(self, frames: Sequence[Frame]) -> list[Detections]:
        self.calls += 1
        if self.calls == 10:
            self.works_again_at = time.monotonic() + self.seconds
        if not self.works:
            self.failed_calls += 1
            raise RuntimeError("CUDA out of memory")
        return super().detect(frames)


class SameVector:
    dimension = DIMENSION
    model_id = MODEL

    def extract(self, clips: Sequence[Sequence[Image]], modalities: Sequence[Modality]) -> NDArray[np.float32]:
        return np.tile(axis(0), (len(clips), 1))


def config(root: Path, cameras: dict[str, dict[str, Any]]) -> Config:
    """Cameras are live and in colour unless told."""
    known = {name: {"source": NOWHERE, "modality": "rgb"} | more for name, more in cameras.items()}
    return Config.model_validate(
        {"version": 1, "cameras": known, "reid": {"weights": "xreid-tiny"}, "output": {"root": str(root)}}
    )


def camera(name: str, *, modality: Modality = Modality.RGB, **more: Any) -> LiveCamera:
    shape = (100, 120, 3) if modality.is_visible else (100, 120)
    return LiveCamera(name, modality=modality, picture=lambda index: np.full(shape, 90, np.uint8), **more)


@contextmanager
def begun(first: Config, options: RunOptions, *, detector: Detector | None = None) -> Iterator[_Run]:
    """A run of real parts, but for the model; its sources are given to `_Run.process`."""
    root = first.output.root
    windows, losses, live = build_windows(first), Losses(), set[str]()
    with (
        open_store(root) as store,
        EventLog(root, model_id=MODEL, dimension=DIMENSION) as events,
        Intake() as intake,
        MotWriters(root) as mot,
    ):
        retention = build_retention(first, store, events.tell_shortage)
        tally = Tally(intake, started=time.perf_counter())
        pairs = Pairs(pair_settings(first), root, losses, aside=aside, live=live)
        detector = detector or build_detector(first.detector, windows)
        line = build_line(first, detector, SameVector(), store, live=live, retention=retention)  # type: ignore[arg-type]
        line = replace(line, fresh=intake.fresh, finish=pairs.finish)
        store.begin_run()
        yield _Run(
            first, options, store, retention, events, intake, tally, Metrics(tally.statuses, root), line, windows,
            LatestFrames(windows), mot, live, build_reviser(line, store), pairs, losses,
        )  # fmt: skip


def once(new: Config, when: Callable[[], bool]) -> Callable[[], Config | None]:
    """A signal to read the config again, which comes at a moment."""
    waiting = [new]
    return lambda: waiting.pop() if waiting and when() else None


def reloads(going: _Run, outcome: str) -> float:
    value = going.metrics.registry.get_sample_value("xreid_config_reloads_total", {"outcome": outcome})
    return value or 0.0


def test_a_config_with_a_source_that_the_system_refuses_is_refused_and_cameras_go_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    old = config(tmp_path, {"gate": {}})
    bad = config(tmp_path, {"gate": {}, "yard": {"source": "a" * 300}})
    at_refusal: list[int] = []

    def should_stop() -> bool:
        if reloads(going, "refused") and not at_refusal:
            at_refusal.append(going.processed)
        return bool(at_refusal) and going.processed > at_refusal[0] + 5

    options = RunOptions(should_stop=should_stop, new_config=once(bad, lambda: going.processed > 3))
    with begun(old, options, detector=OnePerson()) as going:
        going.process([camera("gate")])
        assert going.config is old
    assert "File name too long" in caplog.text


def test_live_cameras_outlast_a_detector_that_fails_for_a_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("pipeline.run._HELD_UP_SECONDS", 0.1)
    monkeypatch.setattr("pipeline.run._HELD_UP_CAP_SECONDS", 0.2)
    caplog.set_level("INFO")
    names, detector, told = ("gate", "yard"), BrokenBetween(1.5), list[tuple[bool, list[str]]]()
    again = dict.fromkeys(names, 0)

    def should_stop() -> bool:
        ledgers = going.intake.ledgers()
        if going.tally.held_up == set(names):
            told.append((going.metrics.readiness()[0], [each.state.value for each in going.tally.statuses()]))
            again.update({name: ledgers[name].processed for name in names})
        return bool(told) and all(ledgers[name].processed > again[name] + 5 for name in names)

    two = config(tmp_path, {name: {} for name in names})
    with begun(two, RunOptions(should_stop=should_stop), detector=detector) as going:
        going.process([camera(name) for name in names])
        report = going.write_report("stopped")
        assert not going.faults
        assert not going.tally.held_up
    assert set(map(str, told)) == {"(False, ['stalled', 'stalled'])"}
    assert detector.failed_calls < 50  # 150 frames came, each of which would be one or two
    for name in names:
        found = report["cameras"][name]
        assert found["frames_decoded"] == found["frames_processed"] + sum(found["frames_dropped"].values())
        assert found["frames_dropped"]["unprocessed"] >= 3
        assert found["frames_dropped"]["held_up"] > 10
        assert found["error"].endswith("RuntimeError: CUDA out of memory")
        assert caplog.text.count(f"camera {name}: held up after 3 frames in a row") == 1
        assert caplog.text.count(f"camera {name}: its frames are processed again") == 1
        assert len(re.findall(rf"ERROR .*camera {name}: frame \d+ cannot be processed", caplog.text)) == 3


def test_a_recording_that_cannot_be_processed_is_given_up_as_before(tmp_path: Path) -> None:
    np.save(tmp_path / "film.npy", np.full((400, 32, 48), 7000, np.uint16))
    only = config(tmp_path / "out", {"film": {"source": str(tmp_path / "film.npy"), "modality": "thermal"}})
    (tmp_path / "out").mkdir()
    with begun(only, RunOptions(), detector=BrokenBetween(60.0)) as going:
        going.process(build_sources(only))
        (status,) = going.tally.statuses()
    assert status.state is SourceState.FAILED
    assert status.account is not None
    assert "given up after 3 frames in a row" in str(status.account.error)
    assert status.ledger.processed > 0
    dropped = status.ledger.dropped
    assert dropped["unprocessed"] >= 3
    assert set(dropped) <= {"unprocessed", "failed"}  # and nothing where nothing waited at that moment
    assert status.ledger.processed + dropped.total() == status.ledger.decoded < 400
    assert status.ledger.on_the_way == 0


@pytest.mark.parametrize(("seconds", "looks"), [(60.0, [True]), (0.0, [])])
def test_a_last_look_back_is_left_to_the_next_run_where_ending_took_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seconds: float, looks: list[bool]
) -> None:
    monkeypatch.setattr("pipeline.run._LAST_LOOK_SECONDS", seconds)
    last: list[bool] = []

    def look_back(*, finally_: bool = False) -> int:
        last.extend([finally_] * finally_)
        return 0

    options = RunOptions(should_stop=lambda: going.processed > 15)
    with begun(config(tmp_path, {"gate": {}}), options, detector=OnePerson()) as going:
        monkeypatch.setattr(going.reviser, "look_back", look_back)
        going.process([camera("gate")])
        assert going.store.counts().accepted == 1
    assert last == looks


def test_a_run_that_draws_its_videos_is_in_good_health(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now, told = [1000.0], list[tuple[str, int, int | None]]()
    monkeypatch.setattr("pipeline.monitoring.time", SimpleNamespace(monotonic=lambda: now[0]))
    metrics = Metrics(list, tmp_path)
    with Intake() as intake:
        options = RunOptions(on_progress=lambda *what: told.append(what))
        drawing = _drawing(Tally(intake, started=0.0), options, metrics, after_row=0)
        metrics.beat()
        for frame in range(10):
            now[0] += 20.0
            drawing.on_progress(frame, 10)
            assert metrics.health()[0], frame
    now[0] += 40.0
    assert not metrics.health()[0]
    assert told[3] == ("drawing", 3, 10)


def test_waits_of_a_camera_that_is_held_up_double_up_to_a_cap() -> None:
    faults, now, waits = _Faults(), 100.0, []
    for _ in range(6):
        assert faults.hold_up(now)
        assert not faults.hold_up(now)  # another frame of the same batch
        waits.append(faults.until - now)
        now = faults.until
    assert waits == [1, 2, 4, 8, 10, 10]
    assert faults.since == 100.0


@pytest.mark.parametrize(
    "error", [OSError(116, "Stale file handle"), OverflowError("date value out of range"), MemoryError()]
)
def test_whatever_happens_while_a_new_config_is_looked_at_is_no_end_of_the_run(
    tmp_path: Path, error: Exception
) -> None:
    def broken() -> Config | None:
        if going.processed > 3 and not reloads(going, "refused"):
            raise error
        return None

    old = config(tmp_path, {"gate": {}})
    options = RunOptions(should_stop=lambda: reloads(going, "refused") > 0, new_config=broken)
    with begun(old, options, detector=OnePerson()) as going:
        going.process([camera("gate")])


def test_nothing_is_left_of_two_hundred_cameras_that_came_and_went(tmp_path: Path) -> None:
    def film(name: str, pages: int) -> str:
        path = tmp_path / f"{name}.npy"
        np.save(path, np.full((pages, 32, 48), 7000, np.uint16))
        return str(path)

    def with_guest(number: int) -> Config:
        names = {"steady": steady, f"guest_{number}": guest}
        return config(tmp_path, {name: {"source": path, "modality": "thermal"} for name, path in names.items()})

    def next_one() -> Config | None:
        guest = max(going.config.cameras.keys() - {"steady"})
        return next(configs, None) if going.intake.ledgers()[guest].processed else None

    steady, guest, last = film("steady", 200), film("guest", 9), "guest_200"
    configs = map(with_guest, range(1, 201))
    options = RunOptions(should_stop=lambda: last in going.config.cameras, new_config=next_one)
    first = with_guest(0)
    with begun(first, options) as going:
        going.mot = None  # which keeps the files of each open
        going.process(build_sources(first))
        ledgers, detector = going.intake.ledgers(), going.line.detector
        assert isinstance(detector, MotionDetector)
        stay = {"steady", last}
        for known in (
            going.line.trackers, going.line.builders, detector._cameras, going.windows._by_camera,
            going.latest._frames, going.faults,
        ):  # fmt: skip
            assert set(known) <= stay
    assert len(ledgers) == 202
    assert [name for name, ledger in ledgers.items() if not ledger.processed] == [last]
    assert not any(ledger.on_the_way for ledger in ledgers.values())


def test_an_open_tracklet_is_filed_under_the_zones_in_which_it_was_seen(tmp_path: Path) -> None:
    whole = [[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]]
    old = config(tmp_path, {"gate": {"zones": {"door": whole}}})
    new = config(tmp_path, {"gate": {"zones": {"ramp": whole}}})
    options = RunOptions(
        should_stop=lambda: reloads(going, "taken") > 0, new_config=once(new, lambda: going.processed > 15)
    )
    with begun(old, options, detector=OnePerson()) as going:
        going.process([camera("gate")])
        assert {each.zones for each in going.store.tracklets(TrackletFilter(rejected=None))} == {("door",)}
        assert list(going.line.builders["gate"].zones) == ["ramp"]


def test_an_open_tracklet_keeps_what_its_pair_saw_when_that_is_taken_apart(tmp_path: Path) -> None:
    def counterparts() -> list[str]:
        with going.store.reading() as db:
            return [each for (each,) in db.execute("SELECT DISTINCT camera_id FROM counterparts ORDER BY 1")]

    def seen() -> bool:
        cut = {name.split("-")[0] for name in going.pairs._pairs["p"]._cuts}
        return cut == {"day", "night"} and going.processed > 40

    day, night = {"pair_id": "p"}, {"pair_id": "p", "modality": "nir"}
    old, new = config(tmp_path, {"day": day, "night": night}), config(tmp_path, {"night": {"modality": "nir"}})
    options = RunOptions(should_stop=lambda: reloads(going, "taken") > 0, new_config=once(new, seen))
    with begun(old, options, detector=OnePerson()) as going:
        going.process([camera("day"), camera("night", modality=Modality.NIR)])
        assert counterparts() == ["day", "night"]


def test_the_last_frames_of_a_live_camera_that_is_removed_stay_those_of_a_live_camera(tmp_path: Path) -> None:
    """They are in the hands of the line when it leaves; nothing of them goes to the files of recordings."""
    old, new = config(tmp_path, {"gate": {}, "yard": {}}), config(tmp_path, {"gate": {}})
    options = RunOptions(
        should_stop=lambda: reloads(going, "taken") > 0, new_config=once(new, lambda: going.processed > 15)
    )
    with begun(old, options, detector=OnePerson()) as going:
        going.process([camera("gate", count=1), camera("yard", fps=1000)])
    assert not (tmp_path / "mot").exists()


def test_the_clocks_of_a_pair_that_is_gone_are_told_no_more(tmp_path: Path) -> None:
    def skew() -> float | None:
        return going.metrics.registry.get_sample_value("xreid_pair_skew_seconds", {"pair": "p"})

    def measured() -> bool:
        going.pairs._pairs["p"].fit = ClockFit(time.time(), 0.3, 0.0, 0.9)
        going._count_gallery()
        assert skew() == pytest.approx(0.3)
        return True

    day, night = {"pair_id": "p"}, {"pair_id": "p", "modality": "nir"}
    old = config(tmp_path, {"day": day, "night": night})
    new = config(tmp_path, {"day": {}, "night": {"modality": "nir"}})
    options = RunOptions(should_stop=lambda: reloads(going, "taken") > 0, new_config=once(new, measured))
    with begun(old, options, detector=OnePerson()) as going:
        going.process([camera("day"), camera("night")])
        assert skew() is None
        assert going.metrics.registry.get_sample_value("xreid_pair_drift_ratio", {"pair": "p"}) is None
