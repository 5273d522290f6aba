"""The claims about real footage; see shared/data/MANIFEST.md for what it is."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from pipeline.build import build_trackers
from pipeline.config import from_sources
from pipeline.detectors.base import Detector, NetworkSettings
from pipeline.detectors.motion import MotionDetector, MotionSettings
from pipeline.detectors.onnx import OnnxDetector
from pipeline.detectors.ultralytics import UltralyticsDetector
from pipeline.frame import Frame
from pipeline.sources.images import ImageSource
from pipeline.sources.video import VideoSource
from pipeline.surveil import batched
from pipeline.thermal import Windows
from reid.modality import Modality
from trackers.boxes import iou_matrix
from trackers.structures import Detections

pytestmark = pytest.mark.real_data

EVERY = 20  # frames: two seconds
SEEN = 400  # frames of the film: a network takes a tenth of a second for each
STRIDES = {"yolov8n": 2, "yolox": 2}  # of the frames that each looks at: five a second
IOU = 0.4


@pytest.fixture(scope="module")
def vtest(shared_data: Path) -> list[Frame]:
    path = shared_data / "video/vtest_480x360.mp4"
    source = VideoSource("square", path, Modality.RGB)
    frames = list(source)
    assert source.account.decoded == source.account.expected == 795
    return frames[:SEEN]


@pytest.fixture(scope="module")
def yolov8n(shared_data: Path) -> UltralyticsDetector:
    return UltralyticsDetector(
        shared_data / "weights/yolov8n.pt", settings=NetworkSettings(device="cpu"), windows=Windows()
    )


def detect_all(detector: Detector, frames: list[Frame]) -> list[Detections]:
    return [found for batch in batched(frames, 8) for found in detector.detect(batch)]


@pytest.fixture(scope="module")
def yolov8n_everywhere(yolov8n: UltralyticsDetector, vtest: list[Frame]) -> list[Detections]:
    return detect_all(yolov8n, vtest[:: STRIDES["yolov8n"]])


@pytest.fixture(scope="module")
def yolox_everywhere(shared_data: Path, vtest: list[Frame]) -> list[Detections]:
    weights = shared_data / "weights/yolox_nano.onnx"
    detector = OnnxDetector(weights, settings=NetworkSettings(device="cpu"), windows=Windows())
    return detect_all(detector, vtest[:: STRIDES["yolox"]])


@pytest.mark.parametrize("detector", ["yolov8n", "yolox"])
def test_networks_see_five_to_eight_people_a_frame_and_the_tracker_fewer_than_35_in_all(
    vtest: list[Frame], detector: str, request: pytest.FixtureRequest
) -> None:
    found: list[Detections] = request.getfixturevalue(f"{detector}_everywhere")
    assert 5 <= np.mean([len(each) for each in found]) <= 8
    tracker = build_trackers(from_sources(["square=vtest.mp4"]), ["square"])["square"]  # as a run without settings
    ids: set[int] = set()
    for frame, detections in zip(vtest[:: STRIDES[detector]], found, strict=True):
        ids.update(tracker.update(detections, pts_seconds=frame.pts_seconds).track_id.tolist())
    assert 8 <= len(ids) < 35


def test_motion_finds_at_least_half_of_the_people_that_yolov8n_finds(
    vtest: list[Frame], yolov8n_everywhere: list[Detections]
) -> None:
    """A person counts as found where a box of IoU 0.4 or more is; the first two seconds are for learning."""
    motion = MotionDetector(MotionSettings(), windows=Windows())
    seen = motion.detect(vtest)
    people = found = boxes = right = 0
    step = EVERY // STRIDES["yolov8n"]
    for frame, truth in zip(vtest[EVERY::EVERY], yolov8n_everywhere[step::step], strict=True):
        overlap = iou_matrix(truth.xyxy, seen[frame.index].xyxy) >= IOU
        people, found = people + len(truth), found + int(overlap.any(axis=1).sum())
        boxes, right = boxes + len(seen[frame.index]), right + int(overlap.any(axis=0).sum())
    assert found >= 0.5 * people
    assert right >= 0.5 * boxes


def thermal_frames(folder: Path) -> Iterator[tuple[Frame, list[int]]]:
    """Frames with their boxed person; frames without one are left out."""
    boxes = json.loads((folder / "boxes_xyxy.json").read_text())
    names = sorted(path.name for path in (folder / "thermal").iterdir())
    for frame in ImageSource("roof", str(folder / "thermal"), Modality.THERMAL):
        if boxes[names[frame.index]] is not None:
            yield frame, boxes[names[frame.index]]


def test_inversion_finds_the_people_of_the_thermal_sequences(shared_data: Path) -> None:
    pairs = [pair for name in ("tno_nato_camp", "tno_duine") for pair in thermal_frames(shared_data / "thermal" / name)]
    assert len(pairs) == 53
    hits = {}
    for invert in (True, False):
        detector = UltralyticsDetector(
            shared_data / "weights/yolov8n.pt",
            settings=NetworkSettings(device="cpu", invert_thermal=invert),
            windows=Windows(),
        )
        found = detector.detect([frame for frame, _ in pairs])
        hits[invert] = sum(
            iou_matrix(each.xyxy, np.array([box], np.float32)).max(initial=0) >= IOU
            for each, (_, box) in zip(found, pairs, strict=True)
        )
    assert hits[True] >= 35
    assert hits[False] < hits[True] / 2
