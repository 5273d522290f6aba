from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.detectors.base import NetworkSettings
from pipeline.detectors.onnx import OnnxDetector
from pipeline.errors import ResourceError, UsageError
from pipeline.thermal import Windows
from tests.pipeline.footage import frame_of
from tests.pipeline.onnx_file import write_constant_model

CELLS = 64 + 16 + 4  # a 64 x 64 input at strides 8, 16 and 32


def answer(*people: tuple[int, tuple[float, float], tuple[float, float], float]) -> NDArray[np.float32]:
    """Raw YOLOX rows; each of ``people`` is a cell, an offset within it, log sizes in strides, and a confidence."""
    rows = np.zeros((1, CELLS, 5 + 80), np.float32)
    for cell, offset, log_size, confidence in people:
        rows[0, cell] = [*offset, *log_size, 0.9, confidence / 0.9, *[0] * 79]
    return rows


def detector(
    folder: Path,
    rows: NDArray[np.float32],
    *,
    settings: NetworkSettings | None = None,
    input_shape: tuple[int | str, ...] = (1, 3, 64, 64),
) -> OnnxDetector:
    path = write_constant_model(folder / "model.onnx", rows, input_shape=input_shape)
    return OnnxDetector(path, settings=settings or NetworkSettings(), windows=Windows())


BLANK = frame_of(np.zeros((128, 256, 3), np.uint8), 0)


def test_cells_become_boxes_in_pixels_of_the_frame(tmp_path: Path) -> None:
    """Cell 8 * 2 + 3 at stride 8 is column 3, row 2: with offset 0.5 its centre is at 28, 20 of the input."""
    found = detector(tmp_path, answer((19, (0.5, 0.5), (np.log(2), np.log(3)), 0.8))).detect([BLANK])[0]
    scale = 64 / 256
    np.testing.assert_allclose(
        found.xyxy, [[(28 - 8) / scale, (20 - 12) / scale, (28 + 8) / scale, (20 + 12) / scale]], rtol=1e-5
    )
    np.testing.assert_allclose(found.confidence, [0.8], rtol=1e-5)


def test_coarser_strides_follow_in_order(tmp_path: Path) -> None:
    """Cell 64 + 4 * 1 + 2 is column 2, row 1 of stride 16; cell 80 + 2 + 1 is column 1, row 1 of stride 32."""
    rows = answer((70, (0.0, 0.0), (0.0, 0.0), 0.8), (83, (-0.5, -0.5), (-1.0, -1.0), 0.7))
    found = detector(tmp_path, rows).detect([frame_of(np.zeros((64, 64, 3), np.uint8), 0)])[0]
    centres = (found.xyxy[:, :2] + found.xyxy[:, 2:]) / 2
    np.testing.assert_allclose(centres, [[32, 16], [16, 16]], atol=1e-4)


def test_of_two_boxes_on_one_person_the_better_stays(tmp_path: Path) -> None:
    rows = answer((19, (0.5, 0.5), (0.7, 1.1), 0.6), (19 + 1, (-0.4, 0.5), (0.7, 1.1), 0.8))
    found = detector(tmp_path, rows).detect([BLANK])[0]
    np.testing.assert_allclose(found.confidence, [0.8], rtol=1e-5)


def test_boxes_are_clipped_and_unlikely_ones_dropped(tmp_path: Path) -> None:
    rows = answer((0, (0.0, 0.0), (1.5, 1.5), 0.9), (60, (0.5, 0.5), (0.5, 0.5), 0.2))
    found = detector(tmp_path, rows).detect([BLANK])[0]
    assert len(found) == 1
    assert found.xyxy[0, :2].tolist() == [0, 0]


def test_what_is_no_box_is_left_out_and_told_ever_more_rarely(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A box without end was one of the whole frame before; NaN looked like nobody."""
    endless, nobody = (19, (0.5, 0.5), (200.0, 200.0), 0.9), (25, (0.5, 0.5), (0.5, 0.5), float("nan"))
    made = detector(tmp_path, answer((36, (0.5, 0.5), (0.5, 0.5), 0.8), endless, nobody))
    for _ in range(10):
        (found,) = made.detect([BLANK])
        np.testing.assert_allclose(found.confidence, [0.8], rtol=1e-5)
    told = [record.getMessage() for record in caplog.records]
    assert [text.rpartition("; ")[2] for text in told] == ["2 left out so far", "10 left out so far"]
    assert "model.onnx puts out what is no box on camera gate (not_finite 2)" in told[0]


def test_an_export_of_batch_one_takes_any_number_of_frames(tmp_path: Path) -> None:
    made = detector(tmp_path, answer((19, (0.5, 0.5), (0.7, 1.1), 0.8)))
    assert [len(each) for each in made.detect([BLANK] * 3)] == [1, 1, 1]
    assert made.detect([]) == []


def test_nobody_is_no_error(tmp_path: Path) -> None:
    assert len(detector(tmp_path, answer()).detect([BLANK])[0]) == 0


def test_a_dynamic_input_takes_the_configured_size(tmp_path: Path) -> None:
    made = detector(
        tmp_path, answer(), settings=NetworkSettings(input_size=64), input_shape=("n", 3, "height", "width")
    )
    assert len(made.detect([BLANK])) == 1


@pytest.mark.parametrize(
    ("shape", "told"),
    [
        ((1, 5, 85), r"model\.onnx puts out \(1, 5, 85\), expected \(1, 84, 5 \+ classes\)"),
        ((1, 85, 84), r"puts out \(1, 85, 84\), expected \(1, 84, 5 \+ classes\)"),  # as YOLOv8 and later put it
        ((1, 84, 5), r"puts out \(1, 84, 5\), expected \(1, 84, 5 \+ classes\)"),
        ((84, 85), r"puts out \(84, 85\), expected \(1, 84, 5 \+ classes\)"),
        ((1,), r"puts out \(1,\), expected \(1, 84, 5 \+ classes\)"),
    ],
)
def test_another_network_is_told_before_the_first_frame(tmp_path: Path, shape: tuple[int, ...], told: str) -> None:
    with pytest.raises(UsageError, match=told):
        detector(tmp_path, np.zeros(shape, np.float32))


def test_an_input_that_takes_no_picture_is_told_before_the_first_frame(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"takes \[1, 64\], expected \(n, 3, h, w\)"):
        detector(tmp_path, answer(), input_shape=(1, 64))
    with pytest.raises(UsageError, match=r"takes \[1, 1, 64, 64\], expected \(n, 3, h, w\)"):
        detector(tmp_path, answer(), input_shape=(1, 1, 64, 64))
    path = write_constant_model(tmp_path / "two.onnx", answer(), input_shape=(1, 3, 64, 64), more_inputs=("scale",))
    with pytest.raises(UsageError, match=r"two\.onnx has 2 inputs and 1 outputs, expected one of each"):
        OnnxDetector(path, settings=NetworkSettings(), windows=Windows())


def test_a_free_batch_size_must_be_answered_frame_by_frame(tmp_path: Path) -> None:
    """This model answers one image whatever it is given: the first batch of two tells."""
    made = detector(tmp_path, answer(), input_shape=("n", 3, 64, 64))
    with pytest.raises(UsageError, match=r"puts out \(1, 84, 85\), expected \(2, 84, 5 \+ classes\)"):
        made.detect([BLANK] * 2)


def test_what_does_not_fit_the_settings_is_told(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"input_size: .* is fixed at \(64, 64\), not 320"):
        detector(tmp_path, answer(), settings=NetworkSettings(input_size=320))
    with pytest.raises(ResourceError, match="has no CUDA"):
        detector(tmp_path, answer(), settings=NetworkSettings(device="cuda:0"))


def test_files_that_are_no_model_are_told(tmp_path: Path) -> None:
    def open_it(path: Path) -> None:
        OnnxDetector(path, settings=NetworkSettings(), windows=Windows())

    with pytest.raises(UsageError, match=r"no file at .*none\.onnx.*put an ONNX export of YOLOX"):
        open_it(tmp_path / "none.onnx")
    text, empty, noise = tmp_path / "text.onnx", tmp_path / "empty.onnx", tmp_path / "noise.onnx"
    text.write_text("weights")
    empty.touch()
    noise.write_bytes(bytes(range(256)))
    with pytest.raises(UsageError, match="is a text"):
        open_it(text)
    with pytest.raises(UsageError, match="is empty"):
        open_it(empty)
    with pytest.raises(UsageError, match="cannot be loaded"):
        open_it(noise)
