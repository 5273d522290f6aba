"""MOTChallenge text in and out."""

from pathlib import Path

import numpy as np
import pytest

from trackers import mot
from trackers.structures import Tracks


def write(folder: Path, text: str) -> Path:
    path = folder / "file.txt"
    path.write_text(text, encoding="utf-8")
    return path


def test_detections_are_ordered_by_frame_and_their_further_columns_are_dropped(tmp_path: Path) -> None:
    rows = mot.read_detections(write(tmp_path, "2,-1,1,2,3,4,0.5,-1,-1,-1\n\n1,-1,5.5,6,7,8,0.25\n2,-1,9,9,9,9,1,\n"))
    assert rows.frame.tolist() == [1, 2, 2]
    assert rows.xywh.tolist() == [[5.5, 6, 7, 8], [1, 2, 3, 4], [9, 9, 9, 9]]
    assert rows.confidence.tolist() == [0.25, 0.5, 1]
    assert rows.class_id.tolist() == [1, 1, 1]
    assert rows.of_frame(2) == slice(1, 3)
    assert rows.of_frame(7) == slice(3, 3)
    boxes = mot.detections_of(rows, 2)
    assert boxes.xyxy.tolist() == [[1, 2, 4, 6], [9, 9, 18, 18]]
    assert len(mot.detections_of(rows, 5)) == 0


def test_ground_truth_keeps_class_and_visibility(tmp_path: Path) -> None:
    rows = mot.read_ground_truth(write(tmp_path, "1,3,1,2,3,4,0,7,0.25\n1,4,1,2,3,4,1,1\n"))
    assert rows.class_id.tolist() == [7, 1]
    assert rows.visibility.tolist() == [0.25, 1.0]
    assert rows.confidence.tolist() == [0, 1]
    assert rows.identity.tolist() == [3, 4]


def test_an_empty_file_holds_no_rows(tmp_path: Path) -> None:
    rows = mot.read_results(write(tmp_path, ""))
    assert rows.xywh.shape == (0, 4)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1,1,0,0,5,5,1\n1,2,0,0,5\n", "file.txt:2: expected at least 7 comma-separated columns, got 5"),
        ("1,1,0,0,5,five,1\n", "file.txt:1: could not convert string to float: 'five'"),
        ("\n1,1,0,0,nan,5,1\n", "file.txt:2: every column must be finite"),
        ("0,1,0,0,5,5,1\n", "file.txt:1: frame must be a whole number from 1, got 0"),
        ("1.5,1,0,0,5,5,1\n", "file.txt:1: frame must be a whole number from 1, got 1.5"),
        ("1,1.5,0,0,5,5,1\n", "file.txt:1: id and class must be whole numbers, got 1.5 and 1"),
        ("1,1,0,0,0,5,1\n", "file.txt:1: width and height must be above 0, got 0 and 5"),
        ("2,7,0,0,5,5,1\n1,7,0,0,5,5,1\n2,7,9,9,5,5,1\n", "file.txt:3: id 7 appears twice in frame 2, first in line 1"),
    ],
)
def test_a_bad_row_is_named_by_file_and_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(mot.MotFormatError, match=message):
        mot.read_results(write(tmp_path, text))


def test_ground_truth_without_classes_is_refused(tmp_path: Path) -> None:
    with pytest.raises(mot.MotFormatError, match=r"file\.txt:1: expected at least 8 comma-separated columns, got 7"):
        mot.read_ground_truth(write(tmp_path, "1,1,0,0,5,5,1\n"))


def test_a_binary_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    path.write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(mot.MotFormatError, match="binary"):
        mot.read_detections(path)


def test_detections_may_share_an_id(tmp_path: Path) -> None:
    assert len(mot.read_detections(write(tmp_path, "1,-1,0,0,5,5,1\n1,-1,9,9,5,5,1\n"))) == 2


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    rows = mot.MotRows(
        frame=np.array([1, 1, 4]),
        identity=np.array([3, 5, 3]),
        xywh=np.array([[-1.25, 2, 30, 40], [0, 0, 0.5, 1e-3], [1 / 3, 2, 3, 1e5]]),
        confidence=np.array([1.0, 0.0, 0.123456]),
        class_id=np.array([1, 7, 1]),
        visibility=np.array([1.0, 0.5, 0.0]),
    )
    path = tmp_path / "out.txt"
    mot.write_ground_truth(path, rows)
    truth = mot.read_ground_truth(path)
    for name in ("frame", "identity", "class_id"):
        np.testing.assert_array_equal(getattr(truth, name), getattr(rows, name))
    for name in ("xywh", "confidence", "visibility"):
        np.testing.assert_allclose(getattr(truth, name), getattr(rows, name), atol=5e-7)  # six decimals
    mot.write_results(path, rows)
    assert path.read_text().splitlines()[0] == "1,3,-1.25,2,30,40,1,-1,-1,-1"
    assert mot.read_results(path).identity.tolist() == [3, 5, 3]
    mot.write_detections(path, rows)
    assert mot.read_detections(path).identity.tolist() == [-1, -1, -1]


def test_tracks_become_rows_by_frame() -> None:
    def track(left: float, identity: int) -> Tracks:
        return Tracks(np.array([[left, 0, left + 10, 20]]), np.array([0.5]), np.array([identity]))

    rows = mot.rows_of({3: track(7, 2), 1: track(5, 1), 2: Tracks.empty()})
    assert rows.frame.tolist() == [1, 3]
    assert rows.identity.tolist() == [1, 2]
    assert rows.xywh.tolist() == [[5, 0, 10, 20], [7, 0, 10, 20]]
    assert len(mot.rows_of({})) == 0


def test_rows_that_do_not_fit_together_are_refused() -> None:
    one, two = np.ones(1, np.int64), np.ones(2, np.int64)
    with pytest.raises(ValueError, match=r"identity must be \(1,\), got \(2,\)"):
        mot.MotRows(one, two, np.ones((1, 4)), np.ones(1), one, np.ones(1))
    with pytest.raises(ValueError, match=r"xywh must be \(1, 4\), got \(2, 4\)"):
        mot.MotRows(one, one, np.ones((2, 4)), np.ones(1), one, np.ones(1))
    with pytest.raises(ValueError, match="count from 1"):
        mot.MotRows(0 * one, one, np.ones((1, 4)), np.ones(1), one, np.ones(1))


INI = "[Sequence]\nname=gate\nimDir=img1\nframeRate=12.5\nseqLength=40\nimWidth=640\nimHeight=360\nimExt=.jpg\n"


def test_sequence_info_is_read(tmp_path: Path) -> None:
    info = mot.read_sequence_info(write(tmp_path, INI))
    assert info == mot.SequenceInfo(name="gate", fps=12.5, frames=40, resolution_wh=(640, 360))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (INI.replace("seqLength=40\n", ""), "file.txt: 'seqLength' is missing"),
        (INI.replace("[Sequence]", "[Other]"), "file.txt: 'Sequence' is missing"),
        (INI.replace("[Sequence]\n", ""), "file.txt: File contains no section headers"),
        (INI.replace("40", "many"), "file.txt: invalid literal"),
        (INI.replace("12.5", "0"), "file.txt: frameRate, seqLength, imWidth and imHeight must be positive"),
    ],
)
def test_bad_sequence_info_is_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(mot.MotFormatError, match=message):
        mot.read_sequence_info(write(tmp_path, text))
