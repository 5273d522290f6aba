"""The whole line on real footage: a day clip and a thermal clip together end in a gallery that answers."""

import json
from pathlib import Path

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
