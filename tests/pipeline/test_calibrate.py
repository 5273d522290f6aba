"""A site's own curves come from what is known for sure, and from nothing else."""

import json
from pathlib import Path

import numpy as np
import pytest

from pipeline.audit import Actor
from pipeline.calibrate import LEAST_PAIRS, calibrate
from pipeline.cli import main
from pipeline.errors import UsageError
from pipeline.persons import Persons
from reid.calibration import Calibration
from reid.modality import Modality
from tests.pipeline.factories import CALIBRATION, DIMENSION, open_store, sighting_of, tracklet_of, unit

RGB, NIR = Modality.RGB, Modality.NIR
OPERATOR = Actor("ann")


def fill(root: Path, people: int) -> None:
    """Each person by day and by night, alike; strangers beside them; operators confirmed every link."""
    rng = np.random.default_rng(0)
    with open_store(root) as store:
        for person in range(1, people + 1):
            vector = np.eye(DIMENSION)[person % 4] + rng.normal(0, 0.3, DIMENSION)
            night = vector + rng.normal(0, 0.3, DIMENSION)
            day, dark = f"gate-{person}", f"yard-{person}"
            store.add(sighting_of(tracklet_of(day, at=20 * person), person=person, vector=unit(*vector)))
            seen = tracklet_of(dark, modality=NIR, at=20 * person + 9)
            store.add(sighting_of(seen, person=person, vector=unit(*night)))
            Persons(store).confirm(dark, day, OPERATOR)


def test_a_pair_with_enough_confirmed_links_gets_a_curve_and_the_others_keep_theirs(tmp_path: Path) -> None:
    fill(tmp_path, LEAST_PAIRS + 4)
    with open_store(tmp_path) as store:
        made, report = calibrate(store)
    assert (report[NIR, RGB].same, report[NIR, RGB].different) == (24, 24 * 23)
    assert report[NIR, RGB].after is not None
    assert report[RGB, RGB].after is None  # nobody confirmed a link between two of them
    assert made.curve(RGB, RGB) == CALIBRATION.curve(RGB, RGB)
    assert made.curve(RGB, NIR) != CALIBRATION.curve(RGB, NIR)
    assert made.curve(RGB, NIR).strangers


def test_too_little_is_no_calibration_and_says_how_much_there_is(tmp_path: Path) -> None:
    fill(tmp_path, 3)
    with open_store(tmp_path) as store, pytest.raises(UsageError, match=r"20 pairs .* \(the best has 3\)"):
        calibrate(store)


def test_the_command_writes_a_file_that_reid_calibration_takes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fill(tmp_path / "run", LEAST_PAIRS + 4)
    assert main(["calibrate", "--gallery", str(tmp_path / "run"), "--output", str(tmp_path / "site.json"), "-q"]) == 0
    assert "nir-rgb" in capsys.readouterr().out
    assert set(Calibration.from_dict(json.loads((tmp_path / "site.json").read_text()))) == set(CALIBRATION)
