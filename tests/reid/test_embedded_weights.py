"""The weights that come with the package."""

import json
from pathlib import Path

import numpy as np

from reid import checkpoint
from reid.modality import Modality

PATH = checkpoint.WEIGHTS / "xreid-tiny.safetensors"


def test_they_are_small_load_by_name_and_say_what_they_are() -> None:
    assert PATH.stat().st_size <= 6 * 2**20
    card, state = checkpoint.read(PATH)
    assert card.name == "xreid-tiny"
    assert "simulated" in card.training_data
    assert card.licence == "Apache-2.0"
    assert not any(name.startswith(("memory", "interaction", "identity")) for name in state)
    assert checkpoint.load("xreid-tiny").model_id.startswith("xreid-tiny@sha256:")


def test_they_carry_a_curve_for_every_pair_of_modalities() -> None:
    calibration = checkpoint.load("xreid-tiny").calibration
    assert calibration is not None
    for first in Modality:
        for second in Modality:
            assert 0 < float(calibration.probability(0.5, first, second)) < 1


def test_they_embed_crops_of_every_kind() -> None:
    generator = np.random.default_rng(0)
    clips = [
        [generator.integers(0, 255, (90, 40, 3)).astype(np.uint8)] * 3,
        [generator.integers(0, 255, (90, 40)).astype(np.uint8)],
        [generator.integers(7000, 9000, (90, 40)).astype(np.uint16)] * 8,
    ]
    features = checkpoint.load("xreid-tiny").extract(clips, list(Modality))
    np.testing.assert_allclose(np.linalg.norm(features, axis=1), 1, atol=1e-5)


def test_the_model_card_says_what_was_measured_with_these_very_weights() -> None:
    root = Path(__file__).resolve().parents[2]
    record = json.loads((root / "benchmarks" / "results" / "evaluate_xreid_tiny.json").read_text())
    assert record["model"] == checkpoint.load("xreid-tiny").model_id
    card = (root / "docs" / "model_card.md").read_text()
    assert record["model"] in card
    for direction, figures in record["directions"].items():
        shares = [100 * figures[name] for name in ("rank1", "rank5", "rank10", "mAP", "chance_rank1")]
        row = f"| {direction} | " + " | ".join(f"{share:.1f}" for share in shares)
        assert row in card
