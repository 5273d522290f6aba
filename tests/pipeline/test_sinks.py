"""Events, MOT text and reports: whole lines, whole files, and a published schema."""

import json
from datetime import timedelta
from pathlib import Path

import cv2
import numpy as np
import pytest
from pydantic import ValidationError

from pipeline.identify import Link
from pipeline.sinks import Event, EventLog, MotWriters, blur_effect, event_json_schema, write_report, write_whole
from pipeline.store import crop_path
from reid.modality import Modality
from tests.pipeline.factories import DIMENSION, MODEL, rejected_of, sighting_of, tracklet_of
from trackers.mot import read_detections, read_results
from trackers.structures import Detections, Tracks

DOCS = Path(__file__).parents[2] / "docs"
LINK = Link("gate-A", "gate", Modality.RGB, 0.71, 0.83, cross_modality=True)
HALF_A_DAY = 12 * 3600.0


def log(root: Path) -> EventLog:
    return EventLog(root, model_id=MODEL, dimension=DIMENSION, site="north")


def lines(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_an_accepted_tracklet_becomes_one_end_event(tmp_path: Path) -> None:
    tracklet = tracklet_of("yard-B", modality=Modality.THERMAL, at=1.25, box=(32, 24, 64, 120))
    with log(tmp_path) as events:
        events.write(sighting_of(tracklet, person=7, links=(LINK,)))
    (event,) = lines(tmp_path / "events/2026-06-01.jsonl")
    assert len(str(event.pop("event_id"))) == 26
    assert event == {
        "schema": "xreid.event/1",
        "type": "end",
        "tracklet_id": "yard-B",
        "track_id": 1,
        "camera": "yard",
        "site": "north",
        "modality": "thermal",
        "start": "2026-06-01T12:00:01.250Z",
        "end": "2026-06-01T12:00:02.250Z",
        "clock": {"source": "configured_start"},
        "frames": 11,
        "person": "P0007",
        "rejected": None,
        "best": {
            "frame_time": "2026-06-01T12:00:01.350Z",
            "box_px": [32.0, 24.0, 32.0, 96.0],
            "box": [0.1, 0.1, 0.1, 0.4],
            "score": 0.6,
            "crop": "crops/yard/yard-B/001.png",
        },
        "quality": {"height_px": 96.0, "blur": 0.1035, "truncated": False},
        "risk": {"max": 0.0, "mean": 0.0},
        "embedding": {"model": MODEL, "dim": DIMENSION, "ref": "yard-B"},
        "links": [
            {
                "tracklet_id": "gate-A",
                "camera": "gate",
                "modality": "rgb",
                "p_same": 0.83,
                "cosine": 0.71,
                "relation": "probable_same_person",
                "cross_modality": True,
            }
        ],
    }
    assert crop_path(tracklet, 1) == "crops/yard/yard-B/001.png"


def test_a_rejected_tracklet_says_why_and_has_no_person(tmp_path: Path) -> None:
    with log(tmp_path) as events:
        events.write(rejected_of(tracklet_of("gate-A", crops=0)))
    (event,) = lines(tmp_path / "events/2026-06-01.jsonl")
    assert (event["rejected"], event["person"], event["embedding"], event["best"]) == ("too_small", None, None, None)
    assert event["quality"] is None


@pytest.mark.parametrize(
    ("box", "truncated"),
    [((10.0, 20.0, 30.0, 70.0), False), ((0.5, 20.0, 30.0, 70.0), True), ((290.0, 20.0, 319.5, 70.0), True)],
)
def test_the_quality_of_the_best_view_is_told(tmp_path: Path, box: tuple[float, ...], truncated: bool) -> None:
    with log(tmp_path) as events:
        events.write(sighting_of(tracklet_of("gate-A", box=box)))
    (event,) = lines(tmp_path / "events/2026-06-01.jsonl")
    quality = event["quality"]
    assert (quality["height_px"], quality["truncated"]) == (50.0, truncated)
    assert 0 <= quality["blur"] < 0.3  # the crop is noise: nothing is sharper


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_blur_grows_with_the_width_of_the_blur_in_either_direction(dtype: type) -> None:
    sharp = np.random.default_rng(0).integers(0, 200, (120, 60)).astype(dtype)
    for axis in (0, 1):
        sigmas = [(sigma, 1e-3) if axis else (1e-3, sigma) for sigma in (0.7, 1.4, 2.8, 5.6)]
        blurred = [blur_effect(cv2.GaussianBlur(sharp, (0, 0), sigmaX=x, sigmaY=y)) for x, y in sigmas]
        assert blur_effect(sharp) < blurred[0] < blurred[1] < blurred[2] < blurred[3] <= 1
    assert blur_effect(np.full((120, 60, 3), 90, np.uint8)) == 1
    assert blur_effect(np.full((1, 1), 90, dtype)) == 1


def test_each_utc_day_has_its_file_and_ids_differ(tmp_path: Path) -> None:
    with log(tmp_path) as events:
        for n, at in enumerate([0.0, HALF_A_DAY - 0.5, HALF_A_DAY]):  # the second ends after midnight
            events.write(sighting_of(tracklet_of(f"gate-{n}", at=at)))
    first, second = (lines(tmp_path / f"events/2026-06-0{day}.jsonl") for day in (1, 2))
    assert [event["tracklet_id"] for event in first] == ["gate-0"]
    assert [event["tracklet_id"] for event in second] == ["gate-1", "gate-2"]
    assert len({str(event["event_id"]) for event in first + second}) == 3


def test_a_line_can_be_read_as_soon_as_it_is_written(tmp_path: Path) -> None:
    with log(tmp_path) as events:
        events.write(sighting_of(tracklet_of("gate-A")))
        assert len(lines(tmp_path / "events/2026-06-01.jsonl")) == 1


@pytest.mark.parametrize("torn", ['{"schema":"xre', "x" * 100_000, ""])
def test_a_line_torn_by_a_crash_is_cut_off_and_the_log_goes_on(tmp_path: Path, torn: str) -> None:
    path = tmp_path / "events/2026-06-01.jsonl"
    with log(tmp_path) as events:
        events.write(sighting_of(tracklet_of("gate-A")))
    with path.open("a") as file:
        file.write(torn)
    with log(tmp_path) as events:
        events.write(sighting_of(tracklet_of("gate-B", at=5)))
    assert [event["tracklet_id"] for event in lines(path)] == ["gate-A", "gate-B"]


def test_a_log_that_is_only_a_torn_line_starts_again(tmp_path: Path) -> None:
    (tmp_path / "events").mkdir()
    (tmp_path / "events/2026-06-01.jsonl").write_text('{"schema"')
    with log(tmp_path) as events:
        events.write(sighting_of(tracklet_of("gate-A")))
    assert len(lines(tmp_path / "events/2026-06-01.jsonl")) == 1


def test_the_published_schema_is_the_one_that_is_written() -> None:
    assert json.loads((DOCS / "event.schema.json").read_text()) == event_json_schema()


def test_every_event_passes_the_schema_and_a_spoilt_one_does_not(tmp_path: Path) -> None:
    with log(tmp_path) as events:
        events.write(sighting_of(tracklet_of("gate-A"), links=(LINK,)))
        events.write(rejected_of(tracklet_of("gate-B")))
    required = set(event_json_schema()["$defs"]["Event"]["required"])
    for event in lines(tmp_path / "events/2026-06-01.jsonl"):
        assert set(event) == required
        Event.model_validate(event)
        with pytest.raises(ValidationError):
            Event.model_validate(event | {"modality": "termal"})
        with pytest.raises(ValidationError):
            Event.model_validate(event | {"schema": "xreid.event/2"})


def test_mot_files_of_each_camera_are_read_back_as_written(tmp_path: Path) -> None:
    boxes = np.array([[10, 20, 40.5, 90], [100, 20, 130, 90]], np.float32)
    scores = np.array([0.9, 0.8], np.float32)
    with MotWriters(tmp_path) as mot:
        mot.write("gate", 0, Tracks(boxes[:1], scores[:1], np.array([4])), Detections(boxes, scores))
        mot.write("yard", 0, Tracks.empty(), Detections.empty())
        mot.write("gate", 5, Tracks(boxes, scores, np.array([4, 6])), Detections.empty())
        assert not (tmp_path / "mot/gate.txt").exists()
        assert (tmp_path / "mot/gate.txt.part").exists()
    tracks = read_results(tmp_path / "mot/gate.txt")
    assert tracks.frame.tolist() == [1, 6, 6]
    assert tracks.identity.tolist() == [4, 4, 6]
    assert tracks.xywh[0].tolist() == [10, 20, 30.5, 70]
    assert len(read_detections(tmp_path / "detections/gate.txt")) == 2
    assert len(read_results(tmp_path / "mot/yard.txt")) == 0


@pytest.mark.parametrize("error", [RuntimeError("the run broke"), KeyboardInterrupt()])
def test_what_was_written_before_a_failure_is_kept_and_does_not_pretend_to_be_whole(
    tmp_path: Path, error: BaseException
) -> None:
    """A whole file of an earlier run stays beside it."""
    tracks = Tracks(np.array([[1, 2, 3, 4]], np.float32), np.array([0.5]), np.array([1]))
    with MotWriters(tmp_path) as mot:
        mot.write("gate", 0, Tracks.empty(), Detections.empty())

    def fails() -> None:
        with MotWriters(tmp_path) as mot:
            mot.write("gate", 0, tracks, Detections.empty())
            mot.write("yard", 0, tracks, Detections.empty())
            raise error

    with pytest.raises(type(error)):
        fails()
    for camera in ("gate", "yard"):
        assert len(read_results(tmp_path / f"mot/{camera}.txt.part")) == 1
    assert len(read_results(tmp_path / "mot/gate.txt")) == 0
    assert sorted(path.name for path in tmp_path.rglob("yard*")) == ["yard.txt.part", "yard.txt.part"]


def test_a_report_is_whole_or_not_there_and_nan_becomes_null(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    write_report(path, {"a": float("nan"), "b": [1.5, float("inf")], "c": {"d": "e"}})
    assert json.loads(path.read_text()) == {"a": None, "b": [1.5, None], "c": {"d": "e"}}
    with pytest.raises(TypeError):
        write_report(path, {"a": timedelta(seconds=1)})
    assert json.loads(path.read_text())["c"] == {"d": "e"}
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError, match="folder"):
        write_whole(tmp_path / "folder", b"x")
    assert list(tmp_path.glob("*.part")) == []
