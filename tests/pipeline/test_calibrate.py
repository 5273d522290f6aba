"""A site's own curves come from what is known for sure, and from nothing else."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from pipeline.audit import Actor, Audit
from pipeline.calibrate import LEAST_PAIRS, Fitted, calibrate, error_in_use
from pipeline.cli import main
from pipeline.errors import UsageError
from pipeline.persons import Persons
from pipeline.recovery import open_store as opened_by_a_run
from pipeline.store import IDENTITY, Store
from reid import checkpoint
from reid.calibration import Calibration, Curve, expected_calibration_error, fit_curve
from reid.modality import Modality
from tests.pipeline.factories import CALIBRATION, DIMENSION, MODEL, open_store, sighting_of, tracklet_of, unit
from tests.pipeline.recordings import write_video, write_weights

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


def test_what_paired_cameras_confirmed_gives_a_curve_without_any_operator(tmp_path: Path) -> None:
    """Two people at a time before a pair of cameras: each is like the other camera's picture, and not like theirs."""
    rng = np.random.default_rng(0)
    lines = []
    with open_store(tmp_path) as store:
        for n in range(1, 2 * LEAST_PAIRS + 1):
            vector = np.eye(DIMENSION)[n % 4] + rng.normal(0, 0.3, DIMENSION)
            for camera, modality in (("gate", RGB), ("lens", Modality.THERMAL)):
                tracklet = tracklet_of(f"{camera}-{n}", modality=modality, at=20 * (n // 2))
                noisy = unit(*(vector + rng.normal(0, 0.2, DIMENSION)))
                store.add(sighting_of(tracklet, person=n, vector=noisy))
            lines.append(json.dumps({"pair": "p", "tracklets": [f"gate-{n}", f"lens-{n}"], "frames": 9}) + "\n")
        gone = json.dumps({"pair": "p", "tracklets": ["gate-1", "gate-erased"], "frames": 9}) + "\n"
        (tmp_path / "pairs.jsonl").write_text("".join(lines) + gone + '{"pair": "p", "trackl')
        Persons(store).reject("gate-9", "lens-9", OPERATOR)
        made, report = calibrate(store)
    across = report[RGB, Modality.THERMAL]
    assert across.same == 2 * LEAST_PAIRS - 1, "all but the one that an operator rejected"
    assert across.different == 2 * 19 + 1, "19 times two at once, both ways, and that one"
    assert across.after is not None
    assert made.curve(RGB, Modality.THERMAL) != CALIBRATION.curve(RGB, Modality.THERMAL)
    assert (report[RGB, RGB].same, report[RGB, RGB].after) == (0, None)


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
    made = json.loads((tmp_path / "site.json").read_text())
    assert set(Calibration.from_dict(made)) == set(CALIBRATION)
    with Store.read(tmp_path / "run") as store:
        assert made["model"] == store.model_id


def test_the_command_says_which_pairs_err_more_than_before(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fill(tmp_path, LEAST_PAIRS + 4)

    def told() -> list[str]:
        assert main(["calibrate", "--gallery", str(tmp_path), "--output", str(tmp_path / "site.json"), "-q"]) == 0
        return capsys.readouterr().out.splitlines()

    assert not any(line.startswith("worse than before") for line in told())
    never = Curve(1e-6, float(np.log(0.02 / 0.98)))  # claims of any two what holds of all in use: it can only get worse
    claims_never = CALIBRATION.replaced(Calibration({(RGB, NIR): never}))
    opened_by_a_run(tmp_path, model_id=MODEL, dimension=DIMENSION, calibration=claims_never).close()
    assert told()[-2] == "worse than before: nir-rgb"


def test_curves_fitted_with_another_model_are_refused_before_anything_is_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_weights(tmp_path / "mini.safetensors")
    curves = Calibration({(RGB, RGB): Curve(2.0, -7.0)}).to_dict()
    (tmp_path / "site.json").write_text(json.dumps(curves | {"model": "other@sha256:0123456789abcdef"}))
    arguments = [
        "run", "--source", f"gate={tmp_path}/none.mp4,start=2026-07-01T14:00:00Z", "-q",
        "--set", f"reid.weights={tmp_path}/mini.safetensors", "--set", f"reid.calibration={tmp_path}/site.json",
        "--output", str(tmp_path / "run"),
    ]  # fmt: skip
    write_video(tmp_path / "none.mp4")
    assert main(arguments) == 2
    said = capsys.readouterr().err
    assert "site.json: fitted to the likenesses of model other@sha256:0123456789abcdef" in said
    assert "those of model mini@sha256:" in said
    assert not (tmp_path / "run" / "gallery.sqlite").exists()
    beside = tmp_path / "mini.calibration.json"  # takes the place of what the weights carry, so the same is asked of it
    (tmp_path / "site.json").rename(beside)
    with pytest.raises(checkpoint.CheckpointError, match="other@sha256"):
        checkpoint.load(tmp_path / "mini.safetensors")


def test_a_calibration_beside_weights_says_whose_it_is_and_nothing_unknown(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_weights(tmp_path / "mini.safetensors")
    beside, curves = tmp_path / "mini.calibration.json", Calibration({(RGB, RGB): Curve(2.0, -7.0)}).to_dict()
    for spoiled, message in (({"modell": "m"}, "'modell' is not one of"), ({"pairs": {}}, "no pair of modalities")):
        beside.write_text(json.dumps(curves | spoiled))
        with pytest.raises(checkpoint.CheckpointError, match=message):
            checkpoint.load(tmp_path / "mini.safetensors")
    beside.write_text(json.dumps(curves))  # of before files said it
    assert checkpoint.load(tmp_path / "mini.safetensors").calibration is not None
    assert "says of no model that it was fitted with it" in caplog.text
    caplog.clear()
    model = f"mini@sha256:{hashlib.sha256((tmp_path / 'mini.safetensors').read_bytes()).hexdigest()[:16]}"
    beside.write_text(json.dumps(curves | {"model": model}))
    assert checkpoint.load(tmp_path / "mini.safetensors").calibration is not None
    assert checkpoint.load("xreid-tiny").calibration is not None
    assert not caplog.messages


def test_a_calibration_that_the_config_names_is_the_gallery_s_from_the_next_run_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_video(tmp_path / "gate.mp4")
    write_weights(tmp_path / "mini.safetensors")
    arguments = [
        "run", "--source", f"gate={tmp_path}/gate.mp4,start=2026-07-01T14:00:00Z",
        "--set", f"reid.weights={tmp_path}/mini.safetensors", "--output", str(tmp_path / "run"),
        "--set", "output.video=false", "--set", "output.contact_sheet=false", "--no-progress", "-q",
    ]  # fmt: skip
    assert main(arguments) == 0
    (tmp_path / "site.json").write_text(json.dumps(Calibration({(RGB, RGB): Curve(2.0, -7.0)}).to_dict()))
    again = [*arguments, "--append", "--set", f"reid.calibration={tmp_path}/site.json"]
    assert main(again) == 0
    with Store.read(tmp_path / "run") as store:
        assert store.calibration.curve(RGB, RGB) == Curve(2.0, -7.0)
        assert store.calibration.curve(RGB, NIR) == Curve(20.0, -15.0), "of which the site has none keeps its own"
        first, second = (each.tracklet_id for each in store.tracklets())
        said = [(row.actor, row.details) for row in Audit(store).rows() if row.action == "calibrate"]
        assert said == [("program", {"changed": ["rgb-rgb"]})]
    kept = json.loads(json.loads((tmp_path / "run" / IDENTITY).read_text())["calibration"])
    assert kept["pairs"]["rgb-rgb"]["slope"] == 2.0
    capsys.readouterr()
    assert main(["search", first, "--gallery", str(tmp_path / "run"), "--include-own", "--json"]) == 0
    found = {each["tracklet_id"]: each for each in json.loads(capsys.readouterr().out)["answers"]}
    assert found[second]["probability"] == pytest.approx(1 / (1 + np.exp(7 - 2)), abs=1e-3)


def test_a_gallery_s_calibration_is_replaced_only_by_another_one(tmp_path: Path) -> None:
    for _ in range(2):
        opened_by_a_run(tmp_path, model_id=MODEL, dimension=DIMENSION, calibration=CALIBRATION).close()
    fewer = Calibration({(RGB, RGB): CALIBRATION.curve(RGB, RGB)})
    with opened_by_a_run(tmp_path, model_id=MODEL, dimension=DIMENSION, calibration=fewer) as store:
        assert Audit(store).rows() == []
        assert store.calibration.to_dict() == CALIBRATION.to_dict()


def test_a_file_that_cannot_be_written_is_refused_by_its_own_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for output, why in (
        (tmp_path, "is a folder"), (tmp_path / "no" / "cal.json", f"there is no folder {tmp_path / 'no'}")
    ):  # fmt: skip
        assert main(["calibrate", "--gallery", str(tmp_path / "none"), "--output", str(output)]) == 2
        assert f"--output {output}: {why}" in capsys.readouterr().err


def test_the_errors_before_and_after_are_those_at_the_share_that_the_curve_is_for() -> None:
    rng = np.random.default_rng(0)
    same = np.arange(2000) < 140
    cosine = rng.normal(np.where(same, 0.7, 0.4), 0.15)
    of_sample, in_use = (fit_curve(cosine, same, prior=prior).probability(cosine) for prior in (None, 0.02))
    assert expected_calibration_error(of_sample, same) < expected_calibration_error(in_use, same)
    assert error_in_use(in_use, same) < error_in_use(of_sample, same)
    times = np.where(same, 93, 343)  # 140 * 93 of 140 * 93 + 1860 * 343 are 2.0 %
    repeated = np.repeat(np.arange(2000), times)
    plain = expected_calibration_error(in_use[repeated], same[repeated])
    assert error_in_use(in_use, same) == pytest.approx(plain, rel=0.01)
    assert [Fitted(9, 9, *errors).is_worse for errors in ((0.1, 0.2), (0.2, 0.1), (None, 0.1), (0.1, None))] == [
        True, False, False, False
    ]  # fmt: skip
