"""How often two people overlap so that they look like one: ``python benchmarks/doubles.py`` writes the JSON beside it.

Over the ground truth of ../shared/data/mot (or SURVEILLANCE_DATA/mot), each scene once: pairs of people of one frame by
their intersection over union, which `trackers.pairs.DOUBLE` rests on.
"""

import argparse
import json
import os
import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
# Run as a file, this folder comes first, and then `trackers` would be the benchmark of that name.
sys.path[:] = [str(ROOT), *(each for each in sys.path if Path(each or ".").resolve() != ROOT / "benchmarks")]

from benchmarks.association import scene  # noqa: E402
from benchmarks.machine import describe  # noqa: E402
from trackers.boxes import iou_matrix, xywh_to_xyxy  # noqa: E402
from trackers.evaluate import load_truth  # noqa: E402
from trackers.metrics.sequence import PEDESTRIAN  # noqa: E402

SHARES = (0.8, 0.9, 0.95)


def main() -> None:
    """Count, and write the JSON."""
    shared = Path(os.environ.get("SURVEILLANCE_DATA") or ROOT.parent / "shared" / "data")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=shared / "mot", help="folder of sequences with ground truth")
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks" / "results" / "doubles.json")
    options = parser.parse_args()
    boxes = frames = 0
    pairs = dict.fromkeys(SHARES, 0)
    for sequence in load_truth(options.data):
        if scene(sequence.name) != sequence.name:
            continue
        truth = sequence.truth
        real = (truth.class_id == PEDESTRIAN) & (truth.confidence != 0)
        for frame in np.unique(truth.frame[real]):
            xyxy = xywh_to_xyxy(truth.xywh[real & (truth.frame == frame)])
            overlap = np.triu(iou_matrix(xyxy, xyxy), 1)
            boxes, frames = boxes + len(xyxy), frames + 1
            for share in SHARES:
                pairs[share] += int((overlap >= share).sum())
    report = {"machine": describe(), "frames": frames, "boxes": boxes}
    report["pairs_that_overlap_by"] = {f"{share:g}": count for share, count in pairs.items()}
    options.output.write_text(json.dumps(report, indent=2) + "\n")
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
