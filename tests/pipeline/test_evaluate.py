"""A run of known quality gets the figures that were worked out by hand."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipeline.errors import UsageError
from pipeline.evaluate import evaluate_run, score_identification, score_retrieval, table, true_people
from pipeline.sinks import MotWriters
from pipeline.store import TrackletBoxes
from pipeline.tracklets import Tracklet
from reid.modality import Modality
from tests.pipeline.factories import axis, open_store, rejected_of, sighting_of, tracklet_of, unit
from trackers.mot import read_ground_truth
from trackers.structures import Detections, Tracks

LEFT, RIGHT, FAR = (10.0, 20.0, 30.0, 70.0), (100.0, 20.0, 120.0, 70.0), (200.0, 20.0, 220.0, 70.0)


def truth_text(rows: list[tuple[int, int, tuple[float, ...], int]]) -> str:
    """Lines of frame, person, box, confidence."""
    return "".join(
        f"{frame},{person},{x1:g},{y1:g},{x2 - x1:g},{y2 - y1:g},{confidence},1,1\n"
        for frame, person, (x1, y1, x2, y2), confidence in rows
    )


@pytest.fixture
def site(tmp_path: Path) -> tuple[Path, Path]:
    """Gate (RGB): persons 1 and 2, and a false tracklet. Yard (NIR): persons 1 and 2.

    Each is eleven frames. At the gate, all is found, and FAR besides, where nobody is. In the yard person 2 is half
    detected, and ``yard-2`` looks like person 1, so that two of four answers are wrong.
    """
    run, truth = tmp_path / "run", tmp_path / "truth"
    (truth / "ground_truth").mkdir(parents=True)
    (truth / "site.json").write_text(json.dumps({"synthetic": True}))
    rows = [(frame, person, box, 1) for frame in range(1, 12) for person, box in ((1, LEFT), (2, RIGHT))]
    for camera in ("gate", "yard"):
        (truth / "ground_truth" / f"{camera}.txt").write_text(truth_text(rows))
    gate = [tracklet_of("gate-1", box=LEFT), tracklet_of("gate-2", box=RIGHT), tracklet_of("gate-3", box=FAR)]
    yard = [tracklet_of(f"yard-{n}", box=box, modality=Modality.NIR) for n, box in ((1, LEFT), (2, RIGHT))]
    with open_store(run) as store, MotWriters(run) as mot:
        vectors = [axis(0), axis(1), unit(0, 0.2, 1, 0), unit(1, 0.1, 0, 0), unit(1, 0.5, 0, 0)]
        for tracklet, person, vector in zip([*gate, *yard], [1, 2, 3, 1, 1], vectors, strict=True):
            store.add(sighting_of(tracklet, person=person, vector=vector))
        store.add(rejected_of(tracklet_of("gate-4", at=20)))
        write_boxes(mot, "gate", gate, missing=frozenset())
        write_boxes(mot, "yard", yard, missing=frozenset({(n, 1) for n in range(6)}))
    (run / "report.json").write_text(
        json.dumps({"frames_per_second": 55.5, "cameras": {"gate": {"modality": "rgb", "frames": 11}}})
    )
    return run, truth


def write_boxes(
    mot: MotWriters, camera: str, tracklets: list[Tracklet], *, missing: frozenset[tuple[int, int]]
) -> None:
    """Every tracklet's box in every frame as detection and track, but for (frame, position) in ``missing``."""
    for index in range(11):
        here = [n for n in range(len(tracklets)) if (index, n) not in missing]
        xyxy = np.stack([tracklets[n].xyxy[0] for n in here])
        scores = np.full(len(here), 0.9, np.float32)
        mot.write(camera, index, Tracks(xyxy, scores, np.array(here) + 1), Detections(xyxy, scores))


def test_the_report_holds_the_figures_worked_out_by_hand(site: tuple[Path, Path]) -> None:
    run, truth = site
    report = evaluate_run(run, truth)
    assert json.loads((run / "report.json").read_text()) == report
    assert report["synthetic"] is True
    assert report["frames_per_second"] == 55.5
    gate, yard = report["cameras"]["gate"], report["cameras"]["yard"]
    assert (gate["modality"], yard["modality"], gate["frames"]) == ("rgb", "nir", 11)
    assert gate["precision"] == pytest.approx(22 / 33)
    assert gate["recall"] == 1.0
    assert gate["idf1"] == pytest.approx(2 * 22 / (22 + 33))
    assert yard["precision"] == 1.0
    assert yard["recall"] == pytest.approx(16 / 22)
    assert yard["idf1"] == pytest.approx(2 * 16 / (22 + 16))
    assert (gate["tracklets"], gate["unknown_tracklets"], yard["unknown_tracklets"]) == (3, 1, 0)


def test_retrieval_of_every_direction_stands_in_the_report(site: tuple[Path, Path]) -> None:
    report = evaluate_run(*site)
    assert set(report["retrieval"]) == {"rgb->nir", "nir->rgb"}
    # gate-1 finds yard-1 first; gate-2 is nearest to yard-2. The unknown gate-3 asks nothing.
    there = report["retrieval"]["rgb->nir"]
    assert there == {
        "rank1": 1.0, "mAP": 1.0, "chance": 0.5, "queries": 2, "gallery": 2, "gallery_identities": 2,
    }  # fmt: skip
    # Back, yard-2 takes gate-1 for its person (second: gate-2), and the unknown gate-3 dilutes chance.
    back = report["retrieval"]["nir->rgb"]
    assert back["rank1"] == 0.5
    assert back["mAP"] == pytest.approx((1 + 1 / 2) / 2)
    assert back["chance"] == pytest.approx(1 / 3)
    assert (back["queries"], back["gallery"], back["gallery_identities"]) == (2, 3, 2)


def test_identification_is_scored_over_pairs(site: tuple[Path, Path]) -> None:
    found = evaluate_run(*site)["identification"]
    # Given: gate-1, yard-1 and yard-2 are one (3 pairs, 1 right). True: two pairs, of which one was given.
    assert found["pair_precision"] == pytest.approx(1 / 3)
    assert found["pair_recall"] == pytest.approx(1 / 2)
    assert (found["persons"], found["true_persons"]) == (2, 2)


def test_the_table_says_synthetic_and_names_every_camera_and_direction(site: tuple[Path, Path]) -> None:
    text = table(evaluate_run(*site))
    assert text.count("synthetic") == 3
    for word in ("gate", "yard", "rgb->nir", "nir->rgb", "66.7%", "50.0%", "chance"):
        assert word in text
    assert "persons of tracklets that ground truth names: 2 given, 2 true" in text


def test_the_contact_sheet_is_drawn_with_right_and_wrong(site: tuple[Path, Path]) -> None:
    evaluate_run(*site)
    assert (site[0] / "matches.png").stat().st_size > 5000


def test_a_second_evaluation_gives_the_same_report(site: tuple[Path, Path]) -> None:
    assert evaluate_run(*site) == evaluate_run(*site)


def test_a_camera_that_found_nobody_missed_everybody(site: tuple[Path, Path]) -> None:
    run, truth = site
    (truth / "ground_truth" / "hall.txt").write_text(truth_text([(1, 1, LEFT, 1)]))
    report = json.loads((run / "report.json").read_text())
    report["cameras"]["hall"] = {"modality": "thermal"}
    (run / "report.json").write_text(json.dumps(report))
    with MotWriters(run) as mot:
        mot.write("hall", 0, Tracks.empty(), Detections.empty())
    report = evaluate_run(run, truth)
    hall = report["cameras"]["hall"]
    assert (hall["recall"], hall["idf1"], hall["tracklets"]) == (0.0, 0.0, 0)
    assert set(report["retrieval"]) == {"rgb->nir", "nir->rgb"}
    assert "hall" in table(report)


def test_two_recordings_of_one_camera_are_not_held_against_one_truth(site: tuple[Path, Path]) -> None:
    run, truth = site
    with open_store(run) as store:
        later = tracklet_of("gate-5", at=600)
        store.add(sighting_of(replace(later, frame_index=later.frame_index - 6000), person=1))
    with pytest.raises(UsageError, match=r"camera gate has tracklets of more than one recording \(--append\)"):
        evaluate_run(run, truth)


def test_a_recording_that_was_appended_to_itself_is_not_held_against_one_truth_either(site: tuple[Path, Path]) -> None:
    """Same times, same frame numbers: only the noted runs tell the two apart. Another camera may be appended."""
    run, truth = site
    with open_store(run) as store:
        store.begin_run()
        store.add(sighting_of(tracklet_of("hall-1", modality=Modality.THERMAL), person=1))
    evaluate_run(run, truth)
    with open_store(run) as store:
        store.begin_run()
        store.add(sighting_of(tracklet_of("gate-5", box=LEFT), person=5))
    with pytest.raises(UsageError, match=r"camera gate has tracklets of more than one recording \(--append\)"):
        evaluate_run(run, truth)


@pytest.mark.parametrize("cameras", [["gate"], {"gate": {}}, {"gate": 1}, {"gate": {"modality": "sonar"}}])
def test_a_report_that_no_run_wrote_is_told(site: tuple[Path, Path], cameras: object) -> None:
    (site[0] / "report.json").write_text(json.dumps({"cameras": cameras}))
    with pytest.raises(UsageError, match=r"report\.json: cameras: not a run's report"):
        evaluate_run(*site)


def boxes(*rows: tuple[float, ...]) -> TrackletBoxes:
    return TrackletBoxes("t", 1, np.arange(len(rows)), np.array(rows, np.float32), np.ones(len(rows), np.float32))


@pytest.mark.parametrize(
    ("rows", "person"),
    [
        ([LEFT, LEFT, LEFT, LEFT], 1),
        ([LEFT, LEFT, RIGHT, FAR], 1),  # half is enough
        ([LEFT, FAR, FAR, FAR], None),
        ([FAR, FAR, FAR, FAR], None),
        ([(10, 20, 30, 46), LEFT, LEFT, FAR], 1),  # an IoU of 0.52 counts
        ([(10, 20, 30, 44), LEFT, FAR, FAR], None),  # one of 0.48 does not
    ],
)
def test_a_tracklet_is_of_the_person_whom_half_of_its_boxes_show(
    tmp_path: Path, rows: list[tuple[float, ...]], person: int | None
) -> None:
    path = tmp_path / "gate.txt"
    path.write_text(truth_text([(f, p, box, 1) for f in range(1, 5) for p, box in ((1, LEFT), (2, RIGHT))]))
    assert true_people([boxes(*rows)], read_ground_truth(path)) == {"t": person}


def test_without_pairs_there_is_no_share() -> None:
    score = score_identification([], {})
    assert np.isnan(score.pair_precision)
    assert score_retrieval([], np.empty((0, 4), np.float32), {}) == {}


def test_footage_of_unknown_origin_is_not_called_real(site: tuple[Path, Path]) -> None:
    run, truth = site
    (truth / "site.json").write_text("{}")
    report = evaluate_run(run, truth)
    assert report["synthetic"] is None
    assert "origin of the footage unknown" in table(report)


def test_a_missing_or_malformed_part_is_named(site: tuple[Path, Path], tmp_path: Path) -> None:
    run, truth = site
    with pytest.raises(UsageError, match=r"site\.json"):
        evaluate_run(run, tmp_path)
    with pytest.raises(UsageError, match="no gallery there"):
        evaluate_run(truth, truth)
    (run / "mot/yard.txt").write_text("1,2,3\n")
    with pytest.raises(UsageError, match=r"yard\.txt:1"):
        evaluate_run(run, truth)
    (truth / "ground_truth/yard.txt").write_text("nonsense\n")
    with pytest.raises(UsageError, match="truth cannot be read"):
        evaluate_run(run, truth)
    for camera in ("gate", "yard"):
        (truth / "ground_truth" / f"{camera}.txt").unlink()
    with pytest.raises(UsageError, match="its cameras: gate, yard"):
        evaluate_run(run, truth)
    (truth / "site.json").write_text("[]")
    with pytest.raises(UsageError, match="expected a JSON object"):
        evaluate_run(run, truth)
