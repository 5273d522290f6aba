"""What goes through a network together comes out as if it had gone through alone, whichever cameras it came from."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import pytest

from pipeline.build import build_extractor
from pipeline.detectors.base import Detector, NetworkSettings
from pipeline.detectors.motion import MotionDetector, MotionSettings
from pipeline.detectors.onnx import OnnxDetector
from pipeline.detectors.ultralytics import UltralyticsDetector
from pipeline.frame import Frame
from pipeline.sources.images import ImageSource
from pipeline.sources.video import VideoSource
from pipeline.surveil import batched
from pipeline.thermal import Windows
from pipeline.tracklets import cut_out
from reid.modality import Modality
from trackers.structures import Detections

pytestmark = pytest.mark.real_data

SETTINGS = NetworkSettings(device="cpu")


@pytest.fixture(scope="module")
def mixture(shared_data: Path) -> list[Frame]:
    """Six frames each of a street, of the same in another size, and of a thermal camera, in turns."""
    street = list(islice(VideoSource("street", shared_data / "video/vtest_480x360.mp4", Modality.RGB), 0, 600, 100))
    wide = [replace(each, camera_id="wide", image=cv2.resize(each.image, (800, 450))) for each in street]
    folder = shared_data / "thermal" / "tno_nato_camp" / "thermal"
    camp = list(islice(ImageSource("camp", str(folder), Modality.THERMAL), 6))
    return [frame for group in zip(street, wide, camp, strict=True) for frame in group]


def onnx(shared_data: Path) -> Detector:
    return OnnxDetector(shared_data / "weights/yolox_nano.onnx", settings=SETTINGS, windows=Windows())


def ultralytics(shared_data: Path) -> Detector:
    return UltralyticsDetector(shared_data / "weights/yolov8n.pt", settings=SETTINGS, windows=Windows())


def motion(shared_data: Path) -> Detector:
    return MotionDetector(MotionSettings(), windows=Windows())


@pytest.mark.parametrize("build", [onnx, ultralytics, motion])
def test_boxes_of_a_batch_are_those_of_one_frame_at_a_time(
    shared_data: Path, mixture: Sequence[Frame], build: Callable[[Path], Detector]
) -> None:
    alone, together = build(shared_data), build(shared_data)
    single = [found for frame in mixture for found in alone.detect([frame])]
    for size in (18, 7):
        joint = [found for batch in batched(mixture, size) for found in together.detect(batch)]
        assert sum(len(each) for each in joint) >= 20 or build is motion
        for one, other in zip(single, joint, strict=True):
            check_same(one, other)
        together = build(shared_data)  # windows and backgrounds begin anew


def check_same(one: Detections, other: Detections) -> None:
    """But for rounding: sums run in another order. A twentieth of a pixel."""
    assert len(one) == len(other)
    order, others = np.lexsort(one.xyxy.T), np.lexsort(other.xyxy.T)
    np.testing.assert_allclose(one.xyxy[order], other.xyxy[others], atol=0.05)
    np.testing.assert_allclose(one.confidence[order], other.confidence[others], atol=1e-3)


def test_embeddings_of_a_batch_are_those_of_one_tracklet_at_a_time(shared_data: Path, mixture: Sequence[Frame]) -> None:
    extractor = build_extractor("xreid-tiny", "cpu")
    boxes = onnx(shared_data).detect(mixture)
    clips, modalities = [], []
    for frame, found in zip(mixture, boxes, strict=True):
        crops = [crop for box in found.xyxy if (crop := cut_out(frame, box, padding=0.03)) is not None]
        if crops:
            clips.append(crops)
            modalities.append(frame.modality)
    assert {Modality.RGB, Modality.THERMAL} <= set(modalities)
    assert len({len(clip) for clip in clips}) > 1  # of different lengths
    together = extractor.extract(clips, modalities)
    alone = np.concatenate([extractor.extract([clip], [each]) for clip, each in zip(clips, modalities, strict=True)])
    assert (together * alone).sum(axis=1).min() > 0.9999
