"""The spine passes everything through exactly once, in order, whatever the cameras."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import numpy as np
from numpy.typing import NDArray

from pipeline.frame import Frame, Image, TimeSource
from pipeline.identify import Sighting
from pipeline.surveil import Line, TrackedFrame, batched, surveil
from pipeline.tracklets import RejectedTracklet, Tracklet, TrackletBuilder, TrackletRules
from reid.modality import Modality
from trackers.structures import Detections, Tracks

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)


class OnePerson:
    """A detector that sees somebody where the image is not black, and notes how many frames came together."""

    def __init__(self) -> None:
        self.batches: list[int] = []

    def detect(self, frames: Sequence[Frame]) -> list[Detections]:
        self.batches.append(len(frames))
        seen = Detections(np.array([[10, 10, 40, 90]], np.float32), np.array([0.9], np.float32))
        return [seen if frame.image.any() else Detections.empty() for frame in frames]


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


def make_line(cameras: Sequence[str]) -> Line:
    return Line(
        detector=OnePerson(),
        trackers={camera: SameTrack() for camera in cameras},
        builders={camera: TrackletBuilder(TrackletRules(max_gap_seconds=0.5)) for camera in cameras},
        extractor=CountingExtractor(),
        identifier=EverybodyIsNew(),
        frames_a_batch=8,
        tracklets_a_batch=4,
    )


def test_two_cameras_interleaved_give_each_its_own_tracklet() -> None:
    line = make_line(["gate", "yard"])
    frames = [frame(camera, index) for index in range(20) for camera in ("gate", "yard")]
    observed: list[TrackedFrame] = []
    found = list(surveil(frames, line, on_tracked=observed.append))
    assert sorted(item.tracklet.camera_id for item in found) == ["gate", "yard"]
    assert all(isinstance(item, Sighting) and len(item.tracklet.frame_index) == 20 for item in found)
    assert [item.frame for item in observed] == frames


def test_every_tracklet_comes_out_once_accepted_or_rejected() -> None:
    line = make_line(["gate"])
    seen = [*range(10), *range(30, 33), *range(60, 80)]  # the middle one is too short
    frames = [frame("gate", index, somebody=index in seen) for index in range(100)]
    found = list(surveil(frames, line, on_tracked=lambda item: None))
    lengths = sorted((type(item).__name__, len(item.tracklet.frame_index)) for item in found)
    assert lengths == [("RejectedTracklet", 3), ("Sighting", 10), ("Sighting", 20)]
    assert len({item.tracklet.tracklet_id for item in found}) == 3


def test_no_frames_give_nothing() -> None:
    assert list(surveil([], make_line(["gate"]), on_tracked=lambda item: None)) == []


def test_only_rejected_tracklets_never_reach_the_extractor() -> None:
    line = make_line(["gate"])
    found = list(surveil([frame("gate", index) for index in range(3)], line, on_tracked=lambda item: None))
    assert [type(item) for item in found] == [RejectedTracklet]
    assert isinstance(line.extractor, CountingExtractor)
    assert line.extractor.modalities == []


def test_frames_go_through_the_detector_in_batches() -> None:
    line = make_line(["gate"])
    list(surveil([frame("gate", index) for index in range(20)], line, on_tracked=lambda item: None))
    assert isinstance(line.detector, OnePerson)
    assert line.detector.batches == [8, 8, 4]


def test_batches_keep_order_and_the_last_is_shorter() -> None:
    assert list(batched(range(5), 2)) == [[0, 1], [2, 3], [4]]
    assert list(batched([], 3)) == []
