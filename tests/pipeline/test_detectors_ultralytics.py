import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, UnidentifiedImageError

from pipeline.detectors.base import NetworkSettings
from pipeline.detectors.ultralytics import UltralyticsDetector, import_yolo
from pipeline.errors import ResourceError, UsageError
from pipeline.thermal import Windows
from reid.modality import Modality
from tests.pipeline.footage import frame_of


@pytest.fixture(scope="module")
def untrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """YOLOv8n as its authors lay it out, with random weights: it runs like any other, and finds nobody."""
    model = import_yolo()("yolov8n.yaml", task="detect", verbose=False)
    model.model.names = {0: "person", **{number: f"thing {number}" for number in range(1, 80)}}
    path = tmp_path_factory.mktemp("weights") / "untrained.pt"
    model.save(path)
    return path


def made(weights: Path, **settings: object) -> UltralyticsDetector:
    return UltralyticsDetector(weights, settings=NetworkSettings(**settings), windows=Windows())  # type: ignore[arg-type]


def test_what_others_use_is_as_it_was(untrained: Path) -> None:
    made(untrained)
    assert torch.save.__module__ == "torch.serialization"
    with pytest.raises(UnidentifiedImageError):  # Ultralytics' own asks for a package
        Image.open(io.BytesIO(b"no picture"))


def test_frames_of_any_modality_and_size_go_through_together(untrained: Path) -> None:
    frames = [
        frame_of(np.zeros((96, 128, 3), np.uint8), 0),
        frame_of(np.zeros((64, 96), np.uint8), 0, modality=Modality.NIR),
        frame_of(np.full((80, 80), 9000, np.uint16), 0, modality=Modality.THERMAL),
    ]
    found = made(untrained, input_size=64, confidence=0.9, device="cpu").detect(frames)
    assert [len(each) for each in found] == [0, 0, 0]


def test_boxes_come_out_whole_however_unlikely(untrained: Path) -> None:
    image = np.random.default_rng(0).integers(0, 256, (96, 128, 3), dtype=np.uint8)
    (found,) = made(untrained, input_size=64, confidence=0.0).detect([frame_of(image, 0)])
    assert len(found) > 0
    assert (found.xyxy >= 0).all()
    assert (found.xyxy[:, 2:] <= (128, 96)).all()


def test_no_frames_give_no_detections(untrained: Path) -> None:
    assert made(untrained).detect([]) == []


def test_a_model_that_knows_no_people_is_refused(untrained: Path, tmp_path: Path) -> None:
    model = import_yolo()(str(untrained))
    model.model.names = {number: f"cat {number}" for number in range(80)}
    path = tmp_path / "cats.pt"
    model.save(path)
    with pytest.raises(UsageError, match=r"has no class person; it has cat 0, cat 1"):
        made(path)


def test_missing_weights_are_never_downloaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=r"no file at yolov8n\.pt .* Nothing is downloaded"):
        made(Path("yolov8n.pt"))
    assert not list(tmp_path.iterdir())


def test_files_that_are_no_model_are_told(tmp_path: Path) -> None:
    text, noise = tmp_path / "text.pt", tmp_path / "noise.pt"
    text.write_text("these are not weights\n")
    noise.write_bytes(bytes(range(256)) * 4)
    with pytest.raises(UsageError, match=r"text\.pt is a text, not a YOLO"):
        made(text)
    with pytest.raises(UsageError, match=r"noise\.pt cannot be loaded"):
        made(noise)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has CUDA")
def test_cuda_that_is_not_there_is_told(untrained: Path) -> None:
    with pytest.raises(ResourceError, match="PyTorch sees no CUDA device"):
        made(untrained, device="cuda:0")
