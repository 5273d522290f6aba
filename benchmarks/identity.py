"""Who is who over two hours of a simulated site: multi-camera IDF1 beside three baselines on the same tracklets.

    python benchmarks/identity.py [--json benchmarks/results/identity.json] [--tune]

Renders the site of configs/simulation/rounds.yaml (8 cameras that record on motion, 60 people, one hour of day and one
of night), runs the whole pipeline over its recordings (motion detector, tracker, X-ReID, identity), and scores who was
called who in all cameras together. The people are synthetic; neither the weights nor the calibration saw them. All
settings were chosen with ``--tune``, which renders another site (other seed, other people) and never this one.
"""

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import machine
import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from pipeline.config import Config
from pipeline.evaluate import true_people
from pipeline.run import RunOptions, run
from pipeline.store import Store, StoredTracklet, TrackletBoxes
from simulation.config import RoundsConfig, load
from simulation.rounds import render_rounds
from trackers.boxes import iou_matrix, xywh_to_xyxy
from trackers.mot import MotRows, read_ground_truth

ROOT = Path(__file__).resolve().parent.parent
SITE = ROOT / "configs" / "simulation" / "rounds.yaml"
TUNING = {"seed": 4401, "people": 30, "seconds": 3600.0, "dusk_seconds": 1800.0}
Persons = Mapping[str, int]


def config_of(site: Path) -> Config:
    """The pipeline's config for a rendered site: what an installer would write down."""
    known = json.loads((site / "site.json").read_text())
    cameras = {
        name: {"source": str(site / camera["recording"]), "modality": camera["modality"], "start": camera["start"]}
        for name, camera in known["cameras"].items()
    }
    return Config.model_validate(
        {
            "version": 1,
            "site": {"name": known["name"]},
            "cameras": {name: {**each, "start": datetime.fromisoformat(each["start"])} for name, each in cameras.items()},
            "reid": {"weights": "xreid-tiny", "device": "cpu"},
            "ways": known["ways"],
            "output": {"root": site / "run", "video": False, "contact_sheet": False},
        }
    )


if __name__ == "__main__":
    site = Path(sys.argv[1])
    report = run(config_of(site), RunOptions(existing="overwrite"))
    print(json.dumps(report["tracklets"]), report["persons"], report["seconds"])
