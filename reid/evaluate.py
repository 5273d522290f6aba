"""The only evaluation: embeddings of a split, ranked across modalities in every direction.

``python -m reid.evaluate --weights xreid-tiny --root DATA [--split val]`` prints a table; ``--json FILE``
writes it.
"""

import argparse
import dataclasses
import json
import logging
import os
import platform
import shlex
import sys
from collections.abc import Mapping
from itertools import combinations, permutations
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from reid import checkpoint
from reid.calibration import Calibration, Curve, fit_curve
from reid.datasets.crops import Crops
from reid.datasets.folder import DatasetError, read_folder
from reid.datasets.split import TrackletSplit
from reid.extractor import XReIDExtractor
from reid.metrics import CameraRule, RetrievalMetrics, evaluate
from reid.modality import Modality
from reid.transforms import sample_frames

Results = dict[str, RetrievalMetrics]


def embed_split(extractor: XReIDExtractor, crops: Crops, split: TrackletSplit) -> NDArray[np.float32]:
    """Embed every tracklet, as ``extract`` would from its files: (n, d)."""
    frames, sampling = extractor.preprocessing.frames, extractor.preprocessing.sampling
    chosen = [sample_frames(crops.length(row), frames, sampling=sampling) for row in range(len(crops))]
    clips = [crops.clip(row, positions) for row, positions in enumerate(chosen)]
    return extractor.embed_prepared(clips, split.modalities)


def evaluate_directions(
    features: NDArray[np.float32], split: TrackletSplit, *, camera_rule: CameraRule | str = CameraRule.SAME_CAM
) -> Results:
    """Rank every modality's tracklets against every other modality's.

    Args:
        features: (n, d), rows of unit length, in the split's order.
        split: Who is who.
        camera_rule: See ``reid.metrics``.

    Returns:
        By ``<query>-><gallery>``, such as ``rgb->nir``.
    """
    results = {}
    for query, gallery in permutations(split.modality_set, 2):
        q, g = split.rows_of(query), split.rows_of(gallery)
        results[f"{query.value}->{gallery.value}"] = evaluate(
            features[q] @ features[g].T,
            split.pids[q],
            split.pids[g],
            split.camids[q],
            split.camids[g],
            camera_rule=camera_rule,
        )
    return results


def fit_calibration(features: NDArray[np.float32], split: TrackletSplit) -> Calibration:
    """Fit a curve to the pairs of tracklets of each pair of modalities, and of different cameras within one.

    A modality with only one camera takes the pairs of that camera; a pair of modalities that has no pair of one person,
    or whose cosines say nothing, gets no curve.
    """
    curves: dict[tuple[Modality, Modality], Curve] = {}
    pairs = [*combinations(split.modality_set, 2), *((modality, modality) for modality in split.modality_set)]
    for first, second in pairs:
        a, b = split.rows_of(first), split.rows_of(second)
        cosine = (features[a] @ features[b].T).astype(np.float64)
        same = split.pids[a][:, None] == split.pids[b][None, :]
        counted = np.ones_like(same)
        if first is second:
            counted = np.triu(counted, k=1)
            elsewhere = counted & (split.camids[a][:, None] != split.camids[b][None, :])
            counted = elsewhere if (elsewhere & same).any() else counted
        try:
            curves[first, second] = fit_curve(cosine[counted], same[counted])
        except ValueError as error:
            logging.getLogger(__name__).warning("no calibration of %s-%s: %s", first.value, second.value, error)
    return Calibration(curves)


def as_plain(results: Mapping[str, RetrievalMetrics]) -> dict[str, dict[str, float]]:
    """The figures as JSON can hold them."""
    return {direction: dataclasses.asdict(metrics) for direction, metrics in results.items()}


def machine() -> dict[str, str | int | None]:
    """What the figures were made on."""
    return {
        "platform": platform.platform(),
        "processor": platform.machine(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


def as_table(results: Mapping[str, RetrievalMetrics]) -> str:
    """The figures as lines of text, in per cent."""
    lines = [f"{'direction':16}{'R1':>7}{'R5':>7}{'R10':>7}{'R20':>7}{'mAP':>7}{'mINP':>7}{'chance':>8}{'queries':>9}"]
    for direction, m in results.items():
        figures = (m.rank1, m.rank5, m.rank10, m.rank20, m.mAP, m.mINP)
        shares = "".join(f"{100 * figure:7.1f}" for figure in figures)
        lines.append(f"{direction:16}{shares}{100 * m.chance_rank1:8.1f}{m.valid_queries:9d}")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    """Run the command; see the module's docstring."""
    parser = argparse.ArgumentParser(
        prog="python -m reid.evaluate", description="Evaluate weights on a tracklet folder."
    )
    parser.add_argument("--weights", required=True, help="a checkpoint file, or the name of embedded weights")
    parser.add_argument("--root", required=True, type=Path, help="folder with tracklets.csv")
    parser.add_argument("--split", default="val")
    parser.add_argument("--camera-rule", default=CameraRule.SAME_CAM.value, choices=[rule.value for rule in CameraRule])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    options = parser.parse_args(arguments)
    try:
        extractor = checkpoint.load(options.weights, device=options.device)
        split = read_folder(options.root, options.split)
    except (checkpoint.CheckpointError, DatasetError) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    crops = Crops.load(split, extractor.preprocessing, cache=options.root / "cache")
    results = evaluate_directions(embed_split(extractor, crops, split), split, camera_rule=options.camera_rule)
    sys.stdout.write(f"{extractor.model_id} on {options.split}: {split}\n{as_table(results)}\n")
    if options.json:
        record = {
            "command": shlex.join(
                ["python", "-m", "reid.evaluate", *(sys.argv[1:] if arguments is None else arguments)]
            ),
            "machine": machine(),
            "model": extractor.model_id,
            "data": f"{options.split}: {split}",
            "camera_rule": options.camera_rule,
            "directions": as_plain(results),
        }
        options.json.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
