"""What the probabilities of the embedded weights are worth, on synthetic people whom nothing else ever saw.

    python benchmarks/calibration.py [--write] [--json benchmarks/results/calibration.json]

Renders the people of configs/simulation/calibration.yaml (for fitting) and the same with other seeds (held out, four
groups of as many people, whose members are compared within their group). ``--write`` fits and writes
reid/weights/xreid-tiny.calibration.json. Then, on the held-out people: the expected calibration error of each pair of
modalities, and which share of strangers a threshold set for 1 % of them lets through, with one example of a person and
with several.

Few pairs are claimed at 5 % or more, and bins with few pairs err by chance. So beside the error over those stands what
curves that claim exactly the truth would get: the mean and the 95th percentile over draws of who is who from what is
claimed.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from itertools import combinations_with_replacement
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import machine
import numpy as np
from numpy.typing import NDArray

from reid import checkpoint
from reid.calibration import LIKELY, Calibration, expected_calibration_error, reliability
from reid.datasets.known import open_dataset
from reid.datasets.split import TrackletSplit
from reid.evaluate import CropFiles, embed_split, fit_calibration, pairs_of
from reid.modality import Modality
from simulation.config import TrackletsConfig, load
from simulation.tracklets import render_tracklets

ROOT = Path(__file__).resolve().parent.parent
CONFIG = ROOT / "configs" / "simulation" / "calibration.yaml"
HELD_OUT_SEEDS = (22, 23, 24, 25)
DRAWS = 1000
RATES = (0.05, 0.01)
SEVERAL = {
    "one": (Modality.RGB,),
    "two of one modality": (Modality.RGB,) * 2,
    "three of three modalities": tuple(Modality),
    "six of three modalities": (*Modality, *Modality),
}


def people(seed: int, workers: int) -> TrackletSplit:
    """The validation split of rendered people; rendered when it is not there."""
    folder = ROOT / "runs" / f"people-{seed}"
    if not folder.is_dir():
        config = load(CONFIG, TrackletsConfig).model_copy(update={"seed": seed})
        render_tracklets(config, folder, workers=workers, tell=lambda text: print(text, file=sys.stderr))
    return open_dataset("folder", folder).split("val")


@dataclass(frozen=True, slots=True)
class Group:
    """Some people, and the vectors of their tracklets."""

    split: TrackletSplit
    features: NDArray[np.float32]


def measure(groups: Sequence[Group], calibration: Calibration) -> dict[str, Any]:
    """By pair of modalities: calibration error, and the share of strangers above each threshold."""
    found: dict[str, Any] = {}
    for first, second in combinations_with_replacement(Modality, 2):
        pairs = [pairs_of(group.features, group.split, first, second) for group in groups]
        cosine, same = (np.concatenate([each[place] for each in pairs]) for place in (0, 1))
        claimed = calibration.probability(cosine, first, second)
        figures = asdict(reliability(claimed, same)) | by_chance(claimed)
        strangers = cosine[~same]
        figures["false_match_rate"] = {
            f"{rate:g}": float((strangers >= calibration.threshold(rate, first, second)).mean()) for rate in RATES
        }
        figures["true_match_rate"] = {
            f"{rate:g}": float((cosine[same] >= calibration.threshold(rate, first, second)).mean()) for rate in RATES
        }
        found[f"{first.value}-{second.value}"] = figures
    return found


def by_chance(claimed: NDArray[np.float64]) -> dict[str, float]:
    """What `Reliability.error_of_likely` would be, were each pair of one person as often as is claimed."""
    likely, rng = claimed[claimed >= LIKELY], np.random.default_rng(0)
    errors = [expected_calibration_error(likely, rng.random(len(likely)) < likely) for _ in range(DRAWS)]
    return {
        "likely": len(likely),
        "error_of_likely_by_chance": float(np.mean(errors)),
        "error_of_likely_by_chance_p95": float(np.quantile(errors, 0.95)),
    }


def measure_several(groups: Sequence[Group], calibration: Calibration) -> dict[str, dict[str, dict[str, float]]]:
    """By kind of examples and rate: the share of strangers' tracklets that a search lets through.

    ``nearest`` is what it would be, were the example that is most alike asked for the threshold of one.
    """
    found: dict[str, dict[str, dict[str, float]]] = {}
    everybody = [(group, pid) for group in groups for pid in np.unique(group.split.pids)]
    for name, kinds in SEVERAL.items():
        shares: dict[float, list[tuple[float, float]]] = {rate: [] for rate in RATES}
        for group, pid in everybody:
            split, vectors = group.split, group.features.astype(np.float64)
            modality_of = np.array([each.value for each in split.modalities])
            own = [np.flatnonzero((split.pids == pid) & (modality_of == kind.value)) for kind in kinds]
            examples = vectors[[each[kinds[:place].count(kinds[place])] for place, each in enumerate(own)]]
            for modality in Modality:
                strangers = vectors[(split.pids != pid) & (modality_of == modality.value)]
                cosines = strangers @ examples.T
                odds = [calibration.log_odds(cosines[:, place], kind, modality) for place, kind in enumerate(kinds)]
                for rate in RATES:
                    least = calibration.mean_threshold(rate, examples @ examples.T, kinds, modality)
                    alone = np.array([calibration.threshold(rate, kind, modality) for kind in kinds])
                    nearest = np.argmax(odds, axis=0)
                    passed = cosines[np.arange(len(cosines)), nearest] >= alone[nearest]
                    shares[rate].append(((np.mean(odds, axis=0) >= least).mean(), passed.mean()))
        means = {rate: np.mean(each, axis=0).round(5).tolist() for rate, each in shares.items()}
        found[name] = {f"{rate:g}": {"passed": passed, "nearest": near} for rate, (passed, near) in means.items()}
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
        fitted = fit_calibration(features, fitted_on).to_dict() | {"model": extractor.model_id}
        beside.write_text(json.dumps(fitted, indent=1) + "\n")
    groups = []
    for seed in HELD_OUT_SEEDS:
        split = people(seed, options.workers)
        groups.append(Group(split, embed_split(extractor, CropFiles(split, extractor.preprocessing), split)))
    calibration = Calibration.from_dict(json.loads(beside.read_text()))
    result = {
        "benchmark": "calibration",
        "synthetic": True,
        "model": extractor.model_id,
        "fitted_on": str(fitted_on),
        "held_out": [str(group.split) for group in groups],
        "pairs": measure(groups, calibration),
        "several_examples": measure_several(groups, calibration),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine.describe(),
    }
    options.json.write_text(json.dumps(result, indent=1) + "\n")
    for name, each in result["pairs"].items():  # type: ignore[attr-defined]
        rates = ", ".join(f"{asked}: {got:.4f}" for asked, got in each["false_match_rate"].items())
        likely = f"{each['error_of_likely']:.3f}, {each['error_of_likely_by_chance']:.3f} by chance"
        print(f"{name}: ECE {each['error']:.4f} (of likely {likely}); false matches {rates}")
    for name, several in result["several_examples"].items():  # type: ignore[attr-defined]
        print(f"{name}: " + ", ".join(f"{asked}: {got['passed']:.4f}" for asked, got in several.items()))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
