"""What the probabilities of the embedded weights are worth, on synthetic people whom nothing else ever saw.

    python benchmarks/calibration.py [--write] [--json benchmarks/results/calibration.json]

Renders the people of configs/simulation/calibration.yaml (for fitting) and the same with another seed (held out).
``--write`` fits and writes reid/weights/xreid-tiny.calibration.json. Then, on the held-out people: the expected
calibration error of each pair of modalities, and which share of strangers a threshold set for 1 % of them lets through.
"""

import argparse
import json
import sys
from dataclasses import asdict
from datetime import UTC, datetime
from itertools import combinations_with_replacement
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import machine
import numpy as np
from numpy.typing import NDArray

from reid import checkpoint
from reid.calibration import Calibration, reliability
from reid.datasets.known import open_dataset
from reid.datasets.split import TrackletSplit
from reid.evaluate import CropFiles, embed_split, fit_calibration, pairs_of
from reid.modality import Modality
from simulation.config import TrackletsConfig, load
from simulation.tracklets import render_tracklets

ROOT = Path(__file__).resolve().parent.parent
CONFIG = ROOT / "configs" / "simulation" / "calibration.yaml"
HELD_OUT_SEED = 22
RATES = (0.05, 0.01)


def people(seed: int, workers: int) -> TrackletSplit:
    """The validation split of rendered people; rendered when it is not there."""
    folder = ROOT / "runs" / f"people-{seed}"
    if not folder.is_dir():
        config = load(CONFIG, TrackletsConfig).model_copy(update={"seed": seed})
        render_tracklets(config, folder, workers=workers, tell=lambda text: print(text, file=sys.stderr))
    return open_dataset("folder", folder).split("val")


def measure(features: NDArray[np.float32], split: TrackletSplit, calibration: Calibration) -> dict[str, Any]:
    """By pair of modalities: calibration error, and the share of strangers above each threshold."""
    found: dict[str, Any] = {}
    for first, second in combinations_with_replacement(Modality, 2):
        cosine, same, _ = pairs_of(features, split, first, second)
        figures = asdict(reliability(calibration.probability(cosine, first, second), same))
        strangers = cosine[~same]
        figures["false_match_rate"] = {
            f"{rate:g}": float((strangers >= calibration.threshold(rate, first, second)).mean()) for rate in RATES
        }
        figures["true_match_rate"] = {
            f"{rate:g}": float((cosine[same] >= calibration.threshold(rate, first, second)).mean()) for rate in RATES
        }
        found[f"{first.value}-{second.value}"] = figures
    return found


def main() -> int:
    """Fit if asked, measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="fit, and write the embedded weights' calibration")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--json", type=Path, default=ROOT / "benchmarks" / "results" / "calibration.json")
    options = parser.parse_args()
    extractor = checkpoint.load("xreid-tiny")
    beside = checkpoint.find("xreid-tiny").with_suffix(checkpoint.CALIBRATION_SUFFIX)
    fitted_on = people(load(CONFIG, TrackletsConfig).seed, options.workers)
    if options.write:
        features = embed_split(extractor, CropFiles(fitted_on, extractor.preprocessing), fitted_on)
        beside.write_text(json.dumps(fit_calibration(features, fitted_on).to_dict(), indent=1) + "\n")
    split = people(HELD_OUT_SEED, options.workers)
    features = embed_split(extractor, CropFiles(split, extractor.preprocessing), split)
    calibration = Calibration.from_dict(json.loads(beside.read_text()))
    result = {
        "benchmark": "calibration",
        "synthetic": True,
        "model": extractor.model_id,
        "fitted_on": str(fitted_on),
        "held_out": str(split),
        "pairs": measure(features, split, calibration),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine.describe(),
    }
    options.json.write_text(json.dumps(result, indent=1) + "\n")
    for name, each in result["pairs"].items():  # type: ignore[attr-defined]
        rates = ", ".join(f"{asked}: {got:.4f}" for asked, got in each["false_match_rate"].items())
        print(f"{name}: ECE {each['error']:.4f} (of likely {each['error_of_likely']:.3f}); false matches {rates}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
