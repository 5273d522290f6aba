"""The spine passes everything through exactly once, in order, whatever the cameras."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.errors import ResourceError
from pipeline.frame import Frame, Image, TimeSource
from pipeline.identify import Sighting
from pipeline.prefetch import STALE, Intake, Policy, Worker
from pipeline.surveil import _MOST_WAITING, Embedded, Found, Line, TrackedFrame, _Spine, batched, surveil
from pipeline.tracklets import RejectedTracklet, Rejection, Tracklet, TrackletBuilder, TrackletRules
from reid.modality import Modality
from tests.pipeline.live import LiveCamera
from trackers.structures import Detections, Tracks

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)


class OnePerson:
    """A detector that sees somebody where the image is not black, and notes how many frames came together."""

    def __init__(self, *, together: bool = True) -> None:
        self.together = together
        self.batches: list[int] = []
        self.forgotten: list[str] = []

    def detect(self, frames: Sequence[Frame]) -> list[Detections]:
        self.batches.append(len(frames))
        shapes = {frame.image.shape for frame in frames}
        if not shapes <= {(100, 120, 3)}:
            raise ValueError(f"operands could not be broadcast together with shapes {shapes}")
        seen = Detections(np.array([[10, 10, 40, 90]], np.float32), np.array([0.9], np.float32))
        return [seen if frame.image.any() else Detections.empty() for frame in frames]

    def forget(self, camera_id: str) -> None:
        self.forgotten.append(camera_id)


class Notes:
    """What an observer was told."""

    def __init__(self) -> None:
        self.items: list[TrackedFrame] = []
        self.failures: list[tuple[str, int, str]] = []
        self.stages: set[str] = set()

    def tracked(self, item: TrackedFrame) -> None:
        self.items.append(item)

    def failed(self, frame: Frame, error: Exception) -> None:
        self.failures.append((frame.camera_id, frame.index, str(error)))

    def took(self, stage: str, seconds: float) -> None:
        assert seconds >= 0
        self.stages.add(stage)


class SameTrack:
    """A tracker for which everybody is number 1."""

    def update(self, detections: Detections, *, pts_seconds: float) -> Tracks:
        return Tracks(detections.xyxy, detections.confidence, np.arange(1, len(detections) + 1))

    def reset(self) -> None: ...


class CountingExtractor:
    """One fixed vector a clip; notes the modalities it was given."""

    dimension = 2
    model_id = "fake@sha256:0"

    def __init__(self) -> None:
        self.modalities: list[list[Modality]] = []

    def extract(self, clips: Sequence[Sequence[Image]], modalities: Sequence[Modality]) -> NDArray[np.float32]:
        assert all(len(clip) for clip in clips)
        self.modalities.append(list(modalities))
        return np.tile(np.array([1, 0], np.float32), (len(clips), 1))


class Slow(CountingExtractor):
    """Takes so many seconds a tracklet."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.seconds = seconds

    def extract(self, clips: Sequence[Sequence[Image]], modalities: Sequence[Modality]) -> NDArray[np.float32]:
        time.sleep(self.seconds * len(clips))
        return super().extract(clips, modalities)


class EverybodyIsNew:
    def __init__(self) -> None:
        self.people = 0

    def identify(self, tracklets: Sequence[Tracklet], embeddings: NDArray[np.float32]) -> list[Sighting]:
        assert len(tracklets) == len(embeddings)
        made = []
        for tracklet, embedding in zip(tracklets, embeddings, strict=True):
            self.people += 1
            made.append(Sighting(tracklet, embedding, self.people, ()))
        return made


def frame(camera: str, index: int, *, somebody: bool = True) -> Frame:
    image = np.full((100, 120, 3), 200 if somebody else 0, np.uint8)
    pts = index / 10
    return Frame(image, camera, Modality.RGB, index, pts, NOON + timedelta(seconds=pts), TimeSource.CONFIGURED_START)


def make_line(cameras: Sequence[str], *, together: bool = True, live: bool = False) -> Line:
    return Line(
        detector=OnePerson(together=together),
        trackers={camera: SameTrack() for camera in cameras},
        builders={camera: TrackletBuilder(TrackletRules(max_gap_seconds=0.5)) for camera in cameras},
        extractor=CountingExtractor(),
        identifier=EverybodyIsNew(),
        tracklets_a_batch=4,
        live=set(cameras) if live else frozenset(),
    )


def run(frames: Iterable[Frame], line: Line, notes: Notes | None = None, *, size: int = 8) -> list[Found]:
    return [item for found in surveil(batched(frames, size), line, notes or Notes()) for item in found]


def lengths(found: Sequence[Found]) -> list[tuple[str, int]]:
    return sorted((type(item).__name__, len(item.tracklet.frame_index)) for item in found)


def test_two_cameras_interleaved_give_each_its_own_tracklet() -> None:
    line, notes = make_line(["gate", "yard"]), Notes()
    frames = [frame(camera, index) for index in range(20) for camera in ("gate", "yard")]
    found = run(frames, line, notes)
    assert sorted(item.tracklet.camera_id for item in found) == ["gate", "yard"]
    assert all(isinstance(item, Sighting) and len(item.tracklet.frame_index) == 20 for item in found)
    assert [item.frame for item in notes.items] == frames
    assert notes.stages == {"detect", "track", "embed", "identify"}


def test_every_tracklet_comes_out_once_accepted_or_rejected() -> None:
    line = make_line(["gate"])
    seen = [*range(10), *range(30, 33), *range(60, 80)]  # the middle one is too short
    found = run([frame("gate", index, somebody=index in seen) for index in range(100)], line)
    assert lengths(found) == [("RejectedTracklet", 3), ("Sighting", 10), ("Sighting", 20)]
    assert len({item.tracklet.tracklet_id for item in found}) == 3


def test_no_frames_give_nothing() -> None:
    assert run([], make_line(["gate"])) == []


def test_only_rejected_tracklets_never_reach_the_extractor() -> None:
    line = make_line(["gate"])
    found = run([frame("gate", index) for index in range(3)], line)
    assert [type(item) for item in found] == [RejectedTracklet]
    assert isinstance(line.extractor, CountingExtractor)
    assert line.extractor.modalities == []


@pytest.mark.parametrize(("together", "batches"), [(True, [8, 8, 4]), (False, [1] * 20)])
def test_frames_go_through_the_detector_together_where_it_gains_by_that(together: bool, batches: list[int]) -> None:
    line = make_line(["gate"], together=together)
    run([frame("gate", index) for index in range(20)], line)
    assert isinstance(line.detector, OnePerson)
    assert line.detector.batches == batches


@pytest.mark.parametrize("together", [True, False])
def test_a_frame_that_breaks_the_detector_costs_its_camera_only(together: bool) -> None:
    """Frame 10 of the gate suddenly has another size."""
    line, notes = make_line(["gate", "yard"], together=together), Notes()
    frames = [frame(camera, index) for index in range(20) for camera in ("gate", "yard")]
    frames[20] = replace(frames[20], image=np.full((50, 60, 3), 200, np.uint8))
    found = run(frames, line, notes)
    assert [(camera, index) for camera, index, _ in notes.failures] == [("gate", 10)]
    assert "broadcast" in notes.failures[0][2]
    by_camera = {name: [len(i.tracklet.frame_index) for i in found if i.tracklet.camera_id == name]
                 for name in ("gate", "yard")}  # fmt: skip
    assert by_camera == {"gate": [10, 9], "yard": [20]}
    assert isinstance(line.detector, OnePerson)
    assert line.detector.forgotten == ["gate"]
    assert len(notes.items) == 39


def test_a_tracker_that_fails_costs_its_camera_only_and_loses_no_tracklet() -> None:
    class Fails(SameTrack):
        def update(self, detections: Detections, *, pts_seconds: float) -> Tracks:
            if pts_seconds == 1.0:
                raise ZeroDivisionError("a matrix that cannot be inverted")
            return super().update(detections, pts_seconds=pts_seconds)

    line, notes = make_line(["gate", "yard"]), Notes()
    line.trackers["gate"] = Fails()
    found = run([frame(camera, index) for index in range(20) for camera in ("gate", "yard")], line, notes)
    assert notes.failures == [("gate", 10, "a matrix that cannot be inverted")]
    assert lengths(found) == [("Sighting", 9), ("Sighting", 10), ("Sighting", 20)]


def test_what_is_everybodys_fault_ends_the_line() -> None:
    class Full(SameTrack):
        def update(self, detections: Detections, *, pts_seconds: float) -> Tracks:
            raise ResourceError("out of memory on the device")

    line = make_line(["gate"])
    line.trackers["gate"] = Full()
    with pytest.raises(ResourceError):
        run([frame("gate", 0)], line)


def test_an_error_that_ends_the_line_loses_neither_what_was_finished_in_its_batch_nor_what_was_open() -> None:
    class Full(SameTrack):
        def update(self, detections: Detections, *, pts_seconds: float) -> Tracks:
            if pts_seconds >= 2.0:
                raise ResourceError("out of memory on the device")
            return super().update(detections, pts_seconds=pts_seconds)

    line = make_line(["gate", "yard", "dock"])
    line.trackers["dock"] = Full()
    gone = [frame("gate", index, somebody=index < 12) for index in range(21)]  # ends in the batch of the error
    here = [frame(camera, index) for camera in ("yard", "dock") for index in range(21)]
    frames = sorted([*gone, *here], key=lambda each: each.index)
    found: list[Found] = []
    going = (found.extend(each) for each in surveil(batched(frames, 63), line, Notes()))
    with pytest.raises(ResourceError, match="on the device"):
        list(going)
    assert sorted((item.tracklet.camera_id, len(item.tracklet.frame_index)) for item in found) == [
        ("dock", 20), ("gate", 12), ("yard", 21),
    ]  # fmt: skip
    assert all(isinstance(item, Sighting) for item in found)


def test_a_tracklet_that_cannot_be_embedded_is_kept_with_its_reason_and_the_others_are_identified() -> None:
    class Picky(CountingExtractor):
        def extract(self, clips: Sequence[Sequence[Image]], modalities: Sequence[Modality]) -> NDArray[np.float32]:
            if any(clip[0].max() == 77 for clip in clips):
                raise RuntimeError("not a number")
            return super().extract(clips, modalities)

    line = replace(make_line(["gate", "yard"]), extractor=Picky())
    frames = [frame(camera, index) for index in range(20) for camera in ("gate", "yard")]
    frames = [replace(it, image=np.full_like(it.image, 77)) if it.camera_id == "yard" else it for it in frames]
    found = {item.tracklet.camera_id: item for item in run(frames, line)}
    assert isinstance(found["gate"], Sighting)
    assert isinstance(found["yard"], RejectedTracklet)
    assert found["yard"].reason is Rejection.NOT_EMBEDDED


def test_a_stream_that_begins_anew_ends_its_tracklets() -> None:
    line, notes = make_line(["gate"]), Notes()
    found = run([frame("gate", index) for index in (*range(15), *range(10))], line, notes)
    assert lengths(found) == [("Sighting", 10), ("Sighting", 15)]
    assert notes.failures == []
    assert isinstance(line.detector, OnePerson)
    assert line.detector.forgotten == ["gate"]


def test_tracklets_of_a_live_camera_that_fell_silent_are_found_soon_without_another_frame() -> None:
    now = [0.0]
    line = replace(make_line(["gate"], live=True), clock=lambda: now[0])

    def batches() -> Iterator[list[Frame]]:
        for index in range(10):
            now[0] = index / 10
            yield [frame("gate", index)]
        for _ in range(40):
            now[0] += 0.1
            yield []

    ((when, what),) = [(now[0], lengths(found)) for found in surveil(batches(), line, Notes())]
    assert what == [("Sighting", 10)]
    assert 0.9 + line.silence_seconds < when < 0.9 + line.silence_seconds + line.max_wait_seconds + 0.3


@pytest.mark.alone
@pytest.mark.parametrize("live", [True, False])
def test_what_is_open_of_a_camera_that_has_ended_is_found_without_another_frame(live: bool) -> None:
    line = replace(make_line(["gate", "yard"], live=live), tracklets_a_batch=1)
    seen: list[tuple[int, str]] = []

    def batches() -> Iterator[list[Frame]]:
        for index in range(20):
            yield [frame("gate", index), frame("yard", index)]
        line.ended.add("yard")
        yield [frame("gate", 20), frame("yard", 20)]  # taken before anybody knew
        assert seen == [(20, "yard"), (1, "yard")]
        assert not line.ended
        yield [frame("gate", 21)]
        assert len(seen) == 2

    for found in surveil(batches(), line, Notes()):
        seen += [(len(item.tracklet.frame_index), item.tracklet.camera_id) for item in found]
    assert seen[2:] == [(22, "gate")]


def test_of_cameras_that_are_gone_everything_is_finished_and_nothing_remembered() -> None:
    now = [0.0]
    line = replace(make_line(["gate"], live=True), clock=lambda: now[0])
    spine = _Spine(line, Notes())
    for number in range(20):
        guest, other = f"guest_{number}", make_line([f"guest_{number}"])
        line.trackers.update(other.trackers)
        line.builders.update(other.builders)
        line.live.add(guest)  # type: ignore[attr-defined]
        for n in range(9):
            list(spine.track([frame("gate", 10 * number + n), frame(guest, n)]))
        line.gone.add(guest)
        finished = [each for part in spine.track([frame(guest, 9)]) for each in part]  # taken before anybody knew
        assert sum(len(each.frame_index) for each in finished if isinstance(each, Tracklet)) == 9
        now[0] += 1.0
    for known in (line.trackers, line.builders, spine.last_pts, spine.heard_at):
        assert list(known) == ["gate"]
    assert isinstance(line.detector, OnePerson)
    assert line.detector.forgotten == [f"guest_{number}" for number in range(20)]
    assert not line.gone


@pytest.mark.parametrize("together", [True, False])
def test_no_frame_is_processed_too_old_because_tracklets_of_others_were_embedded_first(together: bool) -> None:
    """Embedding takes longer than a frame may be old, and several frames are handed over at once."""

    class Watch(Notes):
        def tracked(self, item: TrackedFrame) -> None:
            ages.append(intake.done(item.frame))

    def batches() -> Iterator[list[Frame]]:
        until = time.monotonic() + 2.5
        for batch in intake.batches(most=8, max_wait_seconds=0.05):
            if time.monotonic() > until:
                intake.close()
                return
            yield batch

    ages: list[float] = []
    cameras, extractor = ["a", "b", "c", "d"], Slow(0.4)
    with Intake() as intake:
        for camera in cameras:
            intake.add(
                LiveCamera(camera, fps=25, picture=lambda index: frame("", 0, somebody=index % 25 < 10).image),
                Policy(max_staleness_seconds=0.3),
            )
        line = replace(make_line(cameras, together=together, live=True), extractor=extractor, fresh=intake.fresh)
        assert list(surveil(batches(), replace(line, tracklets_a_batch=1), Watch()))
    assert len(extractor.modalities) >= 2
    assert max(ages) < 0.3
    for ledger in intake.ledgers().values():
        assert ledger.decoded == ledger.processed + ledger.dropped.total()
        assert ledger.processed


def test_live_frames_do_not_grow_stale_while_tracklets_are_embedded_however_long_that_takes() -> None:
    """Four cameras; embedding is busy for most of the time, and one tracklet takes longer than a frame may be old."""

    class Watch(Notes):
        def tracked(self, item: TrackedFrame) -> None:
            super().tracked(item)
            intake.done(item.frame)

    def batches() -> Iterator[list[Frame]]:
        until = time.monotonic() + 5.0
        for batch in intake.batches(most=8, max_wait_seconds=0.02):
            if time.monotonic() > until:
                intake.close()
                return
            yield batch

    names, extractor, notes = ["a", "b", "c", "d"], Slow(0.6), Watch()
    found: list[Found] = []
    with Worker("embed") as embedder, Intake() as intake:
        for phase, name in enumerate(names):
            shown = [frame("", 0, somebody=5 * phase <= index < 5 * phase + 20).image for index in range(100)]
            camera = LiveCamera(name, fps=20, picture=lambda index, shown=shown: shown[index % 100])
            intake.add(camera, Policy(max_staleness_seconds=0.5))
        line = replace(make_line(names, live=True), extractor=extractor, fresh=intake.fresh, aside=embedder)
        for each in surveil(batches(), line, notes):
            found += each
    ledgers = intake.ledgers()
    assert len(extractor.modalities) >= 2
    assert sum(ledger.dropped[STALE] for ledger in ledgers.values()) <= 0.03 * len(notes.items)
    for name in names:
        assert ledgers[name].decoded == ledgers[name].processed + ledgers[name].dropped.total()
        seen = sum(item.frame.image.any() for item in notes.items if item.frame.camera_id == name)
        assert sum(len(item.tracklet.frame_index) for item in found if item.tracklet.camera_id == name) == seen > 15


class Later(Future[Embedded]):
    """A job that nobody does until somebody waits for it."""

    def __init__(self, job: Callable[[], Embedded]) -> None:
        super().__init__()
        self.job = job

    def result(self, timeout: float | None = None) -> Embedded:
        if not self.done():
            self.set_result(self.job())
        return super().result(timeout)


def passages(count: int) -> Iterator[list[Frame]]:
    """One person after another before the gate, each in ten frames whose time begins anew."""
    for _ in range(count):
        yield from ([frame("gate", index)] for index in range(10))


def test_only_so_many_tracklets_wait_for_one_that_is_being_embedded_and_all_come_out_in_order() -> None:
    held: list[bool] = []
    line = replace(make_line(["gate"], live=True), aside=Later, hold=held.append)
    notes, came, found = Notes(), [], list[Found]()
    for each in surveil(passages(200), line, notes):
        came.append(len(notes.items) // 10 - len(found))  # tracklets that had ended, and were not given out
        found += each
    assert came[0] == line.tracklets_a_batch + _MOST_WAITING == max(came)
    assert [item.person_id for item in found if isinstance(item, Sighting)] == list(range(1, 201))
    starts = [item.tracklet.tracklet_id for item in found]
    assert starts == sorted(starts)  # ids sort by time
    first_held = held.index(True) / 10
    assert 2 * line.tracklets_a_batch <= first_held <= 2 * line.tracklets_a_batch + 1
    assert all(held[held.index(True) :])


def test_what_is_embedded_comes_out_without_another_frame_or_tracklet_and_recordings_go_on() -> None:
    jobs: list[Later] = []
    held: list[bool] = []

    def aside(job: Callable[[], Embedded]) -> Future[Embedded]:
        jobs.append(Later(job))
        return jobs[-1]

    def batches() -> Iterator[list[Frame]]:
        yield from passages(9)
        assert (len(jobs), given, held[-1]) == (1, [], True)
        for turn in range(2):
            jobs[turn].result()
            yield []
        assert (len(jobs), given, held[-1]) == (2, [4, 4], False)

    given: list[int] = []
    line = replace(make_line(["gate"], live=True), aside=aside, hold=held.append, clock=lambda: 0.0)
    for found in surveil(batches(), line, Notes()):
        given += [len(found)]
    assert given == [4, 4, 1]


def test_what_the_extractor_cannot_do_aside_ends_the_line_and_the_others_are_handed_on() -> None:
    class Full(CountingExtractor):
        def extract(self, clips: Sequence[Sequence[Image]], modalities: Sequence[Modality]) -> NDArray[np.float32]:
            vectors = super().extract(clips, modalities)
            if len(self.modalities) == 2:
                raise ResourceError("out of memory on the device")
            return vectors

    line = replace(make_line(["gate"], live=True), extractor=Full(), aside=Later)
    found: list[Found] = []
    going = (found.extend(each) for each in surveil(passages(200), line, Notes()))
    with pytest.raises(ResourceError, match="on the device"):
        list(going)
    assert len(found) == line.tracklets_a_batch + _MOST_WAITING  # before the batch that failed, and behind it
    assert len({item.tracklet.tracklet_id for item in found}) == len(found)


def test_recordings_wait_for_full_batches_of_tracklets_however_long_that_takes() -> None:
    def never(_: Callable[[], Embedded]) -> Future[Embedded]:
        raise AssertionError(
            "tracklets of recordings are embedded in their turn: what comes out does not depend on time"
        )

    now = [0.0]
    line = replace(make_line(["gate"]), clock=lambda: now[0], aside=never)

    def batches() -> Iterator[list[Frame]]:
        for index in range(600):
            now[0] += 100
            yield [frame("gate", index, somebody=index % 60 < 20)]

    assert [len(found) for found in surveil(batches(), line, Notes())] == [4, 4, 2]


def test_batches_keep_order_and_the_last_is_shorter() -> None:
    assert list(batched(range(5), 2)) == [[0, 1], [2, 3], [4]]
    assert list(batched([], 3)) == []
