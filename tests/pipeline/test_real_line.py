"""The whole line on real footage: a day clip and a thermal clip together end in a gallery that answers."""

import json
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from pipeline.cli import main

pytestmark = pytest.mark.real_data


def test_a_run_over_rgb_and_thermal_ends_with_a_gallery_in_which_search_answers(
    shared_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is checked is that the line holds, not who is found: the embedded weights know only synthetic people."""
    output, thermal = tmp_path / "run", shared_data / "thermal" / "tno_nato_camp" / "thermal"
    arguments = [
        "run", "--source", f"street={shared_data}/video/vtest_480x360.mp4,start=2026-06-01T14:00:00Z",
        "--source", f"camp={thermal}/*.png,modality=thermal,start=2026-06-01T22:00:00Z",
        "--set", "detector.backend=ultralytics", "--set", f"detector.weights={shared_data}/weights/yolov8n.pt",
        "--set", "tracklets.min_height_px=20", "--output", str(output), "--max-frames", "130", "--no-progress",
    ]  # fmt: skip
    assert main(arguments) == 0
    report = json.loads((output / "report.json").read_text())
    assert report["cameras"]["street"]["tracklets"] >= 3
    assert report["cameras"]["camp"]["tracklets"] >= 1
    events = [json.loads(line) for path in (output / "events").iterdir() for line in path.read_text().splitlines()]
    query = next(event["tracklet_id"] for event in events if event["camera"] == "street" and event["person"])
    capsys.readouterr()
    assert main(["search", query, "--gallery", str(output), "--modality", "thermal", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [each["camera_id"] for each in found["answers"]].count("camp") == report["cameras"]["camp"]["tracklets"]


LAST = 10  # frames of each sequence: in both, somebody walks without a cut


def last_of(folder: Path, into: Path, *, deep: bool) -> Path:
    """The last frames; deep as counts of a camera of 16 bits, on a scale that is made up."""
    into.mkdir()
    for path in sorted(folder.glob("*.png"))[-LAST:]:
        grey = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
        assert grey is not None
        cv2.imwrite(str(into / path.name), 7000 + 12 * grey.astype(np.uint16) if deep else grey)
    return into


def frames_with_somebody_found(detections: Path, known: list[tuple[int, int, int, int]]) -> int:
    """In how many frames a box and the known one are half the same."""
    found = set()
    for line in detections.read_text().splitlines():
        number, _, left, top, width, height = map(float, line.split(",")[:6])
        box = known[int(number) - 1]
        across = min(box[2], left + width) - max(box[0], left)
        down = min(box[3], top + height) - max(box[1], top)
        shared = max(across, 0) * max(down, 0)
        if shared >= 0.5 * (width * height + (box[2] - box[0]) * (box[3] - box[1]) - shared):
            found.add(number)
    return len(found)


def test_people_in_real_thermal_are_found_and_what_becomes_of_them_is_counted(
    shared_data: Path, tmp_path: Path
) -> None:
    """A detector is chosen, and no other option set; so whoever is below 48 pixels is too small for a tracklet."""
    sequences = {"camp": "tno_nato_camp", "duine": "tno_duine", "deep": "tno_nato_camp"}
    sources = []
    for name, sequence in sequences.items():
        folder = last_of(shared_data / "thermal" / sequence / "thermal", tmp_path / name, deep=name == "deep")
        sources += ["--source", f"{name}={folder},modality=thermal"]
    assert main([
        "run", *sources, "--output", str(tmp_path / "run"), "--no-progress", "--set", "detector.backend=onnx",
        "--set", f"detector.weights={shared_data}/weights/yolox_nano.onnx",
    ]) == 0  # fmt: skip
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    for name, sequence in sequences.items():
        camera = report["cameras"][name]
        assert (camera["frames_processed"], camera["frames_dropped"], camera["frames_skipped"]) == (LAST, {}, {})
        known = json.loads((shared_data / "thermal" / sequence / "boxes_xyxy.json").read_text())
        found = frames_with_somebody_found(
            tmp_path / "run" / "detections" / f"{name}.txt", list(known.values())[-LAST:]
        )
        assert found > LAST / 2, name
        with av.open(tmp_path / "run" / "video" / f"{name}.mp4") as video:
            spreads = [float(np.std(picture.to_ndarray(format="gray"))) for picture in video.decode(video=0)]
        assert len(spreads) == LAST
        assert min(spreads) > 10
        assert (tmp_path / "run" / "mot" / f"{name}.txt").read_text()
    assert report["cameras"]["duine"]["tracklets"] == 0  # 36 pixels
    rejected = report["tracklets"]["rejected"]
    assert rejected["too_small"] >= 1
    assert set(rejected) <= {"too_small", "too_few_frames"}
    assert report["tracklets"]["accepted"] + sum(rejected.values()) >= len(sequences)


def test_the_default_detector_makes_nobody_up_of_real_thermal_pictures_with_cuts(
    shared_data: Path, tmp_path: Path
) -> None:
    """No option at all. Nor does it find who is there: it needs the film of a camera that stands."""
    folders = {name: shared_data / "thermal" / name / "thermal" for name in ("tno_nato_camp", "tno_duine")}
    sources = [word for name, folder in folders.items() for word in ("--source", f"{name}={folder},modality=thermal")]
    assert main(["run", *sources, "--output", str(tmp_path / "run"), "--no-progress"]) == 0
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    for name, folder in folders.items():
        assert report["cameras"][name]["frames_processed"] == len(list(folder.glob("*.png")))
    assert report["tracklets"]["accepted"] == 0
    assert set(report["tracklets"]["rejected"]) <= {"too_small", "too_few_frames"}
