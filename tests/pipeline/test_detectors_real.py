"""The claims about real footage; see shared/data/MANIFEST.md for what it is."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from pipeline.detectors.base import Detector, NetworkSettings
from pipeline.detectors.motion import MotionDetector, MotionSettings
from pipeline.detectors.onnx import OnnxDetector
from pipeline.detectors.ultralytics import UltralyticsDetector
from pipeline.frame import Frame
from pipeline.sources.images import ImageSource
from pipeline.sources.video import VideoSource
from pipeline.thermal import Windows
from reid.modality import Modality
from trackers.boxes import iou_matrix

pytestmark = pytest.mark.real_data

EVERY = 20  # frames: two seconds
IOU = 0.4


@pytest.fixture(scope="module")
def vtest(shared_data: Path) -> list[Frame]:
    path = shared_data / "video/vtest_480x360.mp4"
    source = VideoSource("square", path, Modality.RGB)
    frames = list(source)
    assert source.account.decoded == source.account.expected == 795
    return frames


@pytest.fixture(scope="module")
def yolov8n(shared_data: Path) -> UltralyticsDetector:
    return UltralyticsDetector(
        shared_data / "weights/yolov8n.pt", settings=NetworkSettings(device="cpu"), windows=Windows()
    )


def test_yolov8n_and_yolox_see_five_to_eight_people_a_frame(
    vtest: list[Frame], yolov8n: UltralyticsDetector, shared_data: Path
) -> None:
    yolox: Detector = OnnxDetector(
        shared_data / "weights/yolox_nano.onnx", settings=NetworkSettings(device="cpu"), windows=Windows()
    )
    for detector in (yolov8n, yolox):
        people = np.mean([len(found) for found in detector.detect(vtest[::EVERY])])
        assert 5 <= people <= 8, type(detector).__name__


def test_motion_finds_at_least_half_of_the_people_that_yolov8n_finds(
    vtest: list[Frame], yolov8n: UltralyticsDetector
) -> None:
    """A person counts as found where a box of IoU 0.4 or more is; the first two seconds are for learning."""
    motion = MotionDetector(MotionSettings(), windows=Windows())
    seen = motion.detect(vtest)
    people = found = boxes = right = 0
    for frame, truth in zip(vtest[EVERY::EVERY], yolov8n.detect(vtest[EVERY::EVERY]), strict=True):
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
