"""Paired cameras are matched by time: the clocks' difference is measured, and what belongs together is found."""

import csv
import heapq
import json
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.errors import UsageError
from pipeline.event_files import EXAMPLES, append_whole
from pipeline.frame import Frame
from pipeline.pairs import Example, Pair, Pairs, PairSettings, draft_of_pairs
from pipeline.skew import ClockFit, Motion, fit
from pipeline.tracklets import RejectedTracklet, Tracklet, TrackletBuilder, TrackletRules
from reid.modality import Modality
from simulation.clips import Clip, encode
from tests.pipeline.paired import FPS, WIDTH, Walker, film, walkers
from trackers.structures import Tracks

SETTLED = 80.0
SETTINGS = PairSettings(("day", "night"), max_skew_seconds=0.1, settled_seconds=SETTLED, first_seconds=SETTLED)
SECONDS = 120.0


def frames(
    people: list[Walker], *, seconds: float = SECONDS, skew: float, drift: float
) -> Iterator[tuple[float, Frame]]:
    """Of both cameras, as they arrive: in order of true time."""
    day = film("day", Modality.RGB, people, seconds=seconds)
    night = film("night", Modality.THERMAL, people, seconds=seconds, phase=0.037, skew=skew, drift=drift)
    yield from heapq.merge(day, night, key=lambda each: each[0])


@pytest.mark.parametrize(("skew", "drift"), [(0.3, 0.005), (-1.2, -0.002), (0.0, 0.0)])
def test_skew_and_drift_are_measured_and_frames_are_paired_by_true_time(skew: float, drift: float) -> None:
    pair = Pair("gate", SETTINGS)
    true_of: dict[tuple[str, float], float] = {}
    decided: list[tuple[float, float | None]] = []
    for true, frame in frames(walkers(SECONDS), skew=skew, drift=drift):
        true_of[frame.camera_id, frame.captured_at.timestamp()] = true
        now_decided = pair.see(frame, [])
        assert all(true - true_of["day", first] > SETTLED - 1 for first, _ in now_decided)  # with what comes after
        decided += now_decided
    assert 0 < len(decided) < SECONDS * FPS
    decided += pair.flush()
    report = pair.report()
    now = SECONDS - 1 / FPS
    assert report["skew_ms"] == pytest.approx(1000 * (skew + drift * now), abs=20)
    assert report["drift_percent"] == pytest.approx(100 * drift, abs=0.05)
    right = [
        partner is not None and abs(true_of["day", first] - true_of["night", partner]) <= 0.5 / FPS + 0.001
        for first, partner in decided
    ]
    assert len(decided) == SECONDS * FPS
    assert np.mean(right) >= 0.99
    assert report["frames_paired"] == sum(partner is not None for _, partner in decided)


def test_a_camera_that_sees_the_front_of_people_better_is_not_taken_for_one_whose_clock_is_ahead() -> None:
    """A warm face before cool hair: 1.5 pixels, for which an average person of these needs 86 ms."""
    people = [replace(each, speed=each.speed / 2) for each in walkers(SECONDS, gap=6.0)]
    day, night = Motion(), Motion()
    for _, frame in film("day", Modality.RGB, people, seconds=SECONDS):
        day.add(frame.image, frame.captured_at.timestamp())
    for _, frame in film("night", Modality.THERMAL, people, seconds=SECONDS, phase=0.037, skew=0.3, ahead=1.5):
        night.add(frame.image, frame.captured_at.timestamp())
    found = fit(day, night)
    assert found is not None
    assert found.skew_seconds == pytest.approx(0.3, abs=0.01)


@pytest.mark.parametrize("seed", [1, 2])
def test_the_key_frames_of_compressed_streams_are_not_taken_for_people(seed: int) -> None:
    """Every half second all that was left out comes back, in both views: stronger than those who walk far away."""
    signals = []
    people = [replace(each, speed=each.speed / 2) for each in walkers(60.0, gap=6.0, seed=seed)]
    for name, modality, phase in (("day", Modality.RGB, 0.0), ("night", Modality.THERMAL, 0.037)):
        shown = film(name, modality, people, seconds=60.0, phase=phase, skew=0.3 if phase else 0.0)
        times, images = zip(*[(frame.captured_at.timestamp(), frame.image) for _, frame in shown], strict=True)
        signals.append(Motion())
        for seconds, image in zip(times, decoded(encode(images, fps=FPS)), strict=True):
            signals[-1].add(image, seconds)
    found = fit(*signals)
    assert found is not None
    assert found.skew_seconds == pytest.approx(0.3, abs=0.02)


def test_of_one_change_nothing_is_told() -> None:
    motion = Motion()
    for index in range(2):
        motion.add(np.full((8, 8), index, np.uint8), index / FPS)
        assert [len(each) for each in motion.signal()] == [0, 0]


def decoded(clip: Clip) -> Iterator[NDArray[np.uint8] | NDArray[np.uint16]]:
    decoder = av.CodecContext.create({"h264": "h264", "h265": "hevc"}[clip.codec], "r")
    packets: list[av.Packet | None] = [*(av.Packet(unit) for unit in clip.units), None]
    for packet in packets:
        for picture in decoder.decode(packet):  # type: ignore[attr-defined] # of a video, which the stubs do not know
            yield picture.to_ndarray(format="rgb24") if clip.codec == "h264" else picture.to_ndarray()


def test_nobody_waits_for_the_clocks_of_live_cameras(tmp_path: Path) -> None:
    jobs: list[tuple[Callable[[], ClockFit | None], Future[ClockFit | None]]] = []

    def aside(job: Callable[[], ClockFit | None]) -> Future[ClockFit | None]:
        jobs.append((job, Future()))
        return jobs[-1][1]

    pairs = Pairs({"gate": SETTINGS}, tmp_path, aside=aside, live={"night"})
    seen = [frame for _, frame in frames(walkers(45), seconds=45, skew=0.3, drift=0.0)]
    for frame in seen[:-6]:
        pairs.see(frame, [])
    ((job, found),) = jobs  # while the first is not ready no second one is begun
    assert pairs.report()["gate"]["skew_ms"] is None
    found.set_result(job())
    assert found.result() is None  # it looks at what there was when it was begun: a single frame
    for frame in seen[-6:-2]:
        pairs.see(frame, [])
    _, (job, found) = jobs
    found.set_result(job())
    for frame in seen[-2:]:
        pairs.see(frame, [])
    assert pairs.report()["gate"]["skew_ms"] is not None


def test_a_fault_within_a_pair_reaches_no_camera_and_the_pair_begins_anew(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    jobs: list[Callable[[], ClockFit | None]] = []

    def aside(job: Callable[[], ClockFit | None]) -> Future[ClockFit | None]:
        jobs.append(job)
        future: Future[ClockFit | None] = Future()
        if len(jobs) <= 2:
            future.set_exception(np.linalg.LinAlgError("whatever the fit met"))
        else:
            future.set_result(job())
        return future

    pairs = Pairs({"gate": SETTINGS}, tmp_path, aside=aside, live={"night"})
    for _, frame in frames(walkers(45), seconds=45, skew=0.3, drift=0.0):
        pairs.see(frame, [])
    report = pairs.report()["gate"]
    assert report["faults"] == 2
    assert report["skew_ms"] is not None  # measured by what came after
    assert caplog.text.count("LinAlgError: whatever the fit met") == 1
    pairs.change({})
    pairs.change({"gate": SETTINGS})
    assert pairs.report()["gate"]["faults"] == 0


def test_a_fault_of_a_pair_loses_no_tracklet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> list[Example]:
        raise ZeroDivisionError

    people = walkers(12)
    whole = finished(Pairs({"gate": SETTINGS}, tmp_path), people, skew=0.0, drift=0.0, seconds=14)
    monkeypatch.setattr(Pair, "_confirm", broken)
    pairs = Pairs({"gate": SETTINGS}, tmp_path)
    done = finished(pairs, people, skew=0.0, drift=0.0, seconds=14)
    count = sum(map(len, done.values()))
    assert count == sum(map(len, whole.values())) > 0
    assert pairs.report()["gate"]["faults"] == count


def test_a_pair_of_recordings_is_the_same_each_time_for_it_compares_clocks_at_once(tmp_path: Path) -> None:
    def aside(_: Callable[[], ClockFit | None]) -> Future[ClockFit | None]:
        raise AssertionError("how much was seen meanwhile would be chance")

    pairs = Pairs({"gate": SETTINGS}, tmp_path, aside=aside, live={"porch"})
    for _, frame in frames([], seconds=2, skew=0.0, drift=0.0):
        pairs.see(frame, [])


def test_a_pair_goes_on_after_a_clock_was_set_back_by_hours() -> None:
    pair = Pair("gate", SETTINGS)
    still = [frame for _, frame in frames([], seconds=1, skew=0.0, drift=0.0)]
    for second in range(200):
        late = timedelta(seconds=second, hours=0 if second < 100 else -5)
        for frame in still:
            pair.see(replace(frame, captured_at=frame.captured_at + late, index=frame.index + 10 * second), [])
    report = pair.report()
    assert report["frames_unpaired"]["day"] == pytest.approx(
        SETTLED * FPS, abs=2
    )  # not old enough when the clock was set
    assert report["frames_paired"] == pytest.approx(40 * FPS, abs=2)


def test_where_nobody_moves_nothing_is_claimed_of_the_clocks() -> None:
    pair = Pair("gate", SETTINGS)
    for _, frame in frames([], seconds=45, skew=0.3, drift=0.0):
        pair.see(frame, [])
    assert pair.report()["skew_ms"] is None
    assert pair.report()["frames_paired"] == 0


def test_two_cameras_that_see_different_people_are_not_aligned() -> None:
    first, second = Motion(), Motion()
    for _, frame in film("day", Modality.RGB, walkers(60, seed=1), seconds=60):
        first.add(frame.image, frame.captured_at.timestamp())
    for _, frame in film("night", Modality.THERMAL, walkers(60, seed=2), seconds=60):
        second.add(frame.image, frame.captured_at.timestamp())
    assert fit(first, second) is None


def test_memory_of_a_pair_is_bounded() -> None:
    pair = Pair("gate", SETTINGS)
    still = [frame for _, frame in frames([], seconds=1, skew=0.0, drift=0.0)]
    for second in range(400):
        for frame in still:
            later = frame.captured_at + timedelta(seconds=second)
            pair.see(replace(frame, captured_at=later, index=frame.index + 10 * second), [])
    for side in pair._sides.values():
        assert len(side.frames) <= 17
        assert len(side.times) <= 3202
        assert len(side.seconds_of) <= 3202
        assert len(side.undecided) <= 802


def test_no_frame_is_settled_before_enough_was_seen_for_the_clocks_to_be_known() -> None:
    pair = Pair("gate", PairSettings(("day", "night"), settled_seconds=20.0, first_seconds=50.0))
    still = [frame for _, frame in frames([], seconds=1, skew=0.0, drift=0.0)]
    settled = {}
    for second in range(60):
        for frame in still:
            later = frame.captured_at + timedelta(seconds=second)
            found = pair.see(replace(frame, captured_at=later, index=frame.index + 10 * second), [])
            settled[second] = settled.get(second, 0) + len(found)
    assert [settled[second] for second in range(50)] == [0] * 50
    assert settled[50] == pytest.approx(31 * FPS, abs=2)
    assert sum(settled.values()) == pytest.approx(40 * FPS, abs=2)


@pytest.mark.parametrize("kept", [True, False])
def test_a_view_that_waits_for_the_other_camera_is_forgotten_with_its_tracklet(kept: bool) -> None:
    """The night comes half a second late, so that views of the day still wait when their tracklet ends."""
    people, seconds, late = walkers(20, gap=1.5), 20.0, 5
    pair, ended, waited = Pair("gate", SETTINGS), 0, 0
    builder = TrackletBuilder(TrackletRules(min_height_px=20, max_gap_seconds=0.0, min_quality=0.0))
    night: deque[Frame] = deque()
    for true, frame in frames(people, seconds=seconds, skew=0.0, drift=0.0):
        if frame.camera_id == "night":
            night.append(frame)
            if len(night) > late:
                pair.see(night.popleft(), [])
            continue
        done = list(builder.update(frame, track(people, "day", frame, true)))
        pair.see(frame, builder.views_of(frame.index))
        for item in done:
            tracklet = item.tracklet if isinstance(item, RejectedTracklet) else item
            waited += any(name == tracklet.tracklet_id for name, _, _ in pair._sides["day"].wanted)
            if kept:
                pair.finish(tracklet)
            else:
                pair.forget(tracklet.tracklet_id)
            ended += 1
    for frame in night:
        pair.see(frame, [])
    assert min(ended, waited) > 5
    assert pair._cuts.keys() <= {each.tracklet_id for each in builder._open.values()}


def track(people: list[Walker], camera: str, frame: Frame, true: float) -> Tracks:
    """What a faultless tracker says: each walker under a number of its own."""
    boxes = {number: person.box(true) for number, person in enumerate(people, start=1)}
    seen = {number: box for number, box in boxes.items() if box and box[0] >= 0 and box[2] <= WIDTH}
    xyxy = np.array(list(seen.values()), np.float32).reshape(-1, 4)
    numbers = np.array(list(seen), np.int64) + (100 if camera == "night" else 0)
    return Tracks(xyxy, np.full(len(seen), 0.9, np.float32), numbers)


def finished(
    pairs: Pairs, people: list[Walker], *, skew: float, drift: float, seconds: float = SECONDS
) -> dict[str, list[Tracklet]]:
    rules = TrackletRules(min_height_px=20, max_gap_seconds=1.0, min_quality=0.0)
    builders = {camera: TrackletBuilder(rules) for camera in SETTINGS.cameras}
    done: dict[str, list[Tracklet]] = {camera: [] for camera in SETTINGS.cameras}

    def keep(items: object) -> None:
        for item in items:  # type: ignore[attr-defined]
            whole = pairs.finish(item)
            if isinstance(whole, Tracklet):
                done[whole.camera_id].append(whole)
            else:
                assert isinstance(whole, RejectedTracklet)

    for true, frame in frames(people, seconds=seconds, skew=skew, drift=drift):
        builder = builders[frame.camera_id]
        made = list(builder.update(frame, track(people, frame.camera_id, frame, true)))
        pairs.see(frame, builder.views_of(frame.index))
        keep(made)
    for builder in builders.values():
        keep(builder.flush())
    pairs.write(lambda name: True)
    return done


def test_a_tracklet_shows_the_same_person_through_the_other_camera_and_pairs_confirm_examples(tmp_path: Path) -> None:
    people = walkers(SECONDS, gap=6.0)
    done = finished(Pairs({"gate": SETTINGS}, tmp_path), people, skew=0.3, drift=0.005)
    late = [tracklet for tracklet in done["day"] if (tracklet.start - done["day"][0].start).total_seconds() > 50]
    assert len(late) >= 5
    warm = 0
    for tracklet in late:
        (counterpart,) = tracklet.counterparts
        assert counterpart.modality is Modality.THERMAL
        assert counterpart.image.dtype == np.uint16
        warm += counterpart.image.max() > 7400  # somebody is in it; the empty scene stays below 7100
    assert warm == len(late)
    number_of = {each.tracklet_id: each.track_id % 100 for tracklets in done.values() for each in tracklets}
    examples = [json.loads(line) for line in (tmp_path / EXAMPLES).read_text().splitlines()]
    assert len(examples) >= 5
    for example in examples:
        day, night = example["tracklets"]
        assert day.startswith("day-")
        assert night.startswith("night-")
        assert number_of[day] == number_of[night]


def test_without_the_measured_skew_nothing_would_be_confirmed(tmp_path: Path) -> None:
    """Nobody is there long enough to measure by: no example is better than a wrong one."""
    pairs = Pairs({"gate": SETTINGS}, tmp_path)
    done = finished(pairs, walkers(12), skew=0.9, drift=0.0, seconds=25)
    assert done["day"]
    assert not (tmp_path / EXAMPLES).exists()


def test_confirmed_pairs_become_the_table_that_export_takes(tmp_path: Path) -> None:
    lines = [["day-A", "night-B"], ["day-C", "night-D"], ["day-C", "night-E"]]
    text = "\n".join(json.dumps({"pair": "gate", "tracklets": each, "frames": 20, "overlap": 0.7}) for each in lines)
    (tmp_path / EXAMPLES).write_text(text + '\n{"pair": "ga')
    table = tmp_path / "table.csv"
    assert draft_of_pairs(tmp_path, table) == 5
    rows = csv.DictReader(table.read_text().splitlines())
    persons = {row["tracklet_id"]: row["person"] for row in rows}
    assert persons["day-A"] == persons["night-B"] != persons["day-C"]
    assert persons["day-C"] == persons["night-D"] == persons["night-E"]
    with pytest.raises(UsageError, match="exists already"):
        draft_of_pairs(tmp_path, table)
    with pytest.raises(UsageError, match="no pair of cameras has confirmed anybody"):
        draft_of_pairs(tmp_path / "elsewhere", tmp_path / "other.csv")


def test_a_line_that_a_crash_tore_does_not_spoil_what_comes_after(tmp_path: Path) -> None:
    whole = json.dumps({"pair": "gate", "tracklets": ["day-A", "night-B"], "frames": 20, "overlap": 0.7}) + "\n"
    (tmp_path / EXAMPLES).write_text(whole + '{"pair": "ga')
    pairs = Pairs({"gate": SETTINGS}, tmp_path)
    pairs._found = [
        Example("gate", ("day-C", "night-D"), 20, 0.7),
        Example("gate", ("day-C", "night-E"), 20, 0.7),
    ]
    pairs.write({"day-C", "night-D"}.__contains__)  # the last is not stored (yet)
    append_whole(tmp_path / EXAMPLES, whole.encode())
    found = [json.loads(line)["tracklets"] for line in (tmp_path / EXAMPLES).read_text().splitlines()]
    assert found == [["day-A", "night-B"], ["day-C", "night-D"], ["day-A", "night-B"]]
    assert draft_of_pairs(tmp_path, tmp_path / "table.csv") == 4


def test_a_pair_that_a_new_config_leaves_alone_keeps_what_it_measured(tmp_path: Path) -> None:
    pairs = Pairs({"gate": SETTINGS}, tmp_path)
    for _, frame in frames(walkers(60), seconds=60, skew=0.3, drift=0.0):
        pairs.see(frame, [])
    measured = pairs.report()["gate"]["skew_ms"]
    assert measured == pytest.approx(300, abs=20)
    pairs.change({"gate": SETTINGS, "yard": PairSettings(("a", "b"))})
    assert pairs.report()["gate"]["skew_ms"] == measured
    pairs.change({"gate": replace(SETTINGS, max_skew_seconds=0.05)})
    assert pairs.report()["gate"]["skew_ms"] is None


def test_who_walks_is_seen_as_well_after_a_lamp_was_lit() -> None:
    people = walkers(60, gap=2.0)
    signals = []
    for lit in (False, True):
        motion = Motion()
        for true, frame in film("day", Modality.RGB, people, seconds=60):
            image = frame.image + np.uint8(20) if lit and true >= 30 else frame.image
            motion.add(image, frame.captured_at.timestamp())
        times, strength = motion.signal()
        signals.append(strength[(times > times[0] + 31) & (times < times[0] + 41), 0])
    dark, light = signals
    assert np.corrcoef(dark, light)[0, 1] > 0.999
    assert light.std() == pytest.approx(dark.std(), rel=0.02)


def moment(frame: Frame, *, late: float = 0.0, index: int = 0) -> Frame:
    return replace(frame, captured_at=frame.captured_at + timedelta(seconds=late), index=index)


def test_clocks_are_not_claimed_long_after_the_last_motion_and_frames_of_then_are_no_pairs() -> None:
    pair = Pair("gate", PairSettings(("day", "night"), settled_seconds=20.0, first_seconds=20.0))
    for _, frame in frames(walkers(60), seconds=60, skew=0.12, drift=0.0):
        pair.see(frame, [])
    assert pair.report()["skew_ms"] == pytest.approx(120, abs=20)
    still = [frame for _, frame in frames([], seconds=1, skew=0.12, drift=0.0)]
    paired = []
    for second in range(61, 600):
        decided = [each for frame in still for each in pair.see(moment(frame, late=second, index=10 * second), [])]
        paired.append(sum(partner is not None for _, partner in decided))
    report = pair.report()
    assert (report["skew_ms"], report["drift_percent"], report["at"], report["fitted_at"]) == (None,) * 4
    assert paired[1:15] == [FPS] * 14  # those of before are still settled
    assert sum(paired[400:]) == 0
    assert report["frames_unpaired"]["day"] > 100 * FPS
    for _, frame in frames(walkers(60, seed=3), seconds=60, skew=0.12, drift=0.0):
        pair.see(moment(frame, late=700, index=7000 + frame.index), [])
    assert pair.report()["skew_ms"] == pytest.approx(120, abs=20)


@pytest.mark.parametrize("jump", [10.0, -10.0])
def test_a_clock_that_is_set_pairs_nothing_until_found_anew(jump: float, caplog: pytest.LogCaptureFixture) -> None:
    pair = Pair("gate", PairSettings(("day", "night"), settled_seconds=20.0, first_seconds=20.0))
    for true, frame in frames(walkers(400), seconds=400, skew=0.12, drift=0.0):
        late = jump if frame.camera_id == "night" and true >= 60 else 0.0
        decided = pair.see(moment(frame, late=late, index=frame.index), [])
        if true > 300:
            assert all(partner is None for _, partner in decided)
    assert pair.report()["skew_ms"] is None
    assert "until the clocks are found anew" in caplog.text


def test_a_comparison_that_was_under_way_when_a_clock_was_set_is_of_no_use() -> None:
    waiting: list[tuple[Future[ClockFit | None], Callable[[], ClockFit | None]]] = []

    def aside(job: Callable[[], ClockFit | None]) -> Future[ClockFit | None]:
        waiting.append((Future(), job))
        return waiting[-1][0]

    pair = Pair("gate", SETTINGS, aside=aside)
    film_of = list(frames(walkers(50), seconds=50, skew=0.12, drift=0.0))
    for _, frame in film_of:
        pair.see(frame, [])
        while waiting and frame.index < 450:
            future, job = waiting.pop()
            future.set_result(job())
    assert pair.fit is not None
    pair._measure()
    future, job = waiting.pop()
    found = job()
    assert found is not None
    pair.see(moment(film_of[-1][1], late=-10.0, index=501), [])
    future.set_result(found)
    for extra in range(3):
        pair.see(moment(film_of[-1][1], late=-9.9 + extra / 10, index=502 + extra), [])
    assert pair.fit is None
    assert pair.report()["skew_ms"] is None
