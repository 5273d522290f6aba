"""Which `identity.threshold`: pairs found and pairs wrongly made at each, on sites like the demo's (synthetic people).

    python benchmarks/threshold.py [--seeds 5101 5102] [--json benchmarks/results/threshold.json]

Renders the demo's site with other people and at other times (never its own seed), runs the pipeline, and puts the
tracklets through the identifier once for each threshold. A pair of one person that was found counts as gained, a pair
of two persons that was made one counts as lost, once and twice: whoever is taken for somebody else is worse than
whoever is two. `net` is gained less lost, as a share of the pairs that there are.
"""

import argparse
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import machine
import numpy as np
from identity import Material, ours, rules_of

from pipeline.config import Config, IdentityConfig
from pipeline.evaluate import score_identification, true_people
from pipeline.run import RunOptions, run
from pipeline.store import Store
from pipeline.ways import Ways
from simulation.config import SiteConfig, load
from simulation.site import render_site
from simulation.workers import tell
from trackers.mot import read_ground_truth

ROOT = Path(__file__).resolve().parent.parent
RESULT = Path(__file__).parent / "results" / "threshold.json"
THRESHOLDS = (0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.7)


def prepare(seed: int, people: int, workers: int) -> Path:
    """Render and run what was not yet; the folder of both."""
    folder = ROOT / "runs" / f"threshold-{seed}-{people}"
    site = load(ROOT / "configs" / "simulation" / "demo.yaml", SiteConfig).model_copy(
        update={"seed": seed, "people": people}
    )
    render_site(site, folder / "site", workers=workers, tell=tell)
    if not (folder / "run" / "report.json").is_file():
        plain = yaml.safe_load((ROOT / "configs" / "demo.yaml").read_text())
        for camera in plain["cameras"].values():
            camera["source"] = str(folder / "site" / Path(camera["source"]).name)
        plain["output"] = {"root": folder / "run", "video": False, "contact_sheet": False}
        run(Config.model_validate(plain), RunOptions(existing="overwrite"))
    return folder


def scores(folder: Path) -> dict[str, dict[str, float]]:
    """Of each threshold."""
    with Store.read(folder / "run") as store:
        known, calibration = list(store.known()), store.calibration
        tracklets = {each.tracklet_id: each for each in store.tracklets()}
        truth = {
            name: person
            for camera in store.cameras()
            for name, person in true_people(
                [each for each in store.boxes(camera) if each.tracklet_id in tracklets],
                read_ground_truth(folder / "site" / "ground_truth" / f"{camera}.txt"),
            ).items()
            if person is not None
        }
    known.sort(key=lambda each: each.end)
    nothing = np.zeros((0, len(known)), np.int64)
    material = Material(known, np.stack([each.embedding for each in known]), calibration, Ways(()), nothing, nothing, 0)
    defaults, found = IdentityConfig(), {}
    for threshold in THRESHOLDS:
        rules = replace(rules_of(defaults), threshold=threshold)
        labels = ours(rules, defaults.travel_share)(material)
        named = [
            replace(tracklets[each.tracklet_id], person_id=int(label))
            for each, label in zip(known, labels, strict=True)
        ]
        score = score_identification(named, truth)
        lost = score.pair_recall * (1 / score.pair_precision - 1)
        found[str(threshold)] = {
            "pair_precision": score.pair_precision,
            "pair_recall": score.pair_recall,
            "persons": score.persons,
            "true_persons": score.true_persons,
            "net": score.pair_recall - lost,
            "net_lost_twice": score.pair_recall - 2 * lost,
        }
    return {name: {key: round(value, 4) for key, value in each.items()} for name, each in found.items()}


def main() -> None:
    """Render, run, link, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[5101, 5102])
    parser.add_argument("--people", type=int, default=48)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--json", type=Path, default=RESULT)
    options = parser.parse_args()
    by_seed = {str(seed): scores(prepare(seed, options.people, options.workers)) for seed in options.seeds}
    mean: dict[str, Any] = {
        str(each): {
            key: round(float(np.mean([own[str(each)][key] for own in by_seed.values()])), 4)
            for key in ("pair_precision", "pair_recall", "net", "net_lost_twice")
        }
        for each in THRESHOLDS
    }
    result = {
        "benchmark": "threshold",
        "synthetic": True,
        "people": options.people,
        "default": IdentityConfig().threshold,
        "seeds": by_seed,
        "mean": mean,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine.describe(),
    }
    machine.keep(result, options.json)


if __name__ == "__main__":
    main()
