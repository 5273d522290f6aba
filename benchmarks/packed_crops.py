"""Images a second from JPEG files and from packed crops, one thread each, interleaved: is decoding the limit?

    python benchmarks/packed_crops.py --root runs/vvi [--json benchmarks/results/packed_crops.json]

Reads random clips of synthetic-vvi (simulated people) as a training does, at the input of xreid-tiny and the paper's.
Seconds are of the processor, so that other work on the machine counts little; files and packed crops were read once
before.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import cv2
import machine
import numpy as np
from numpy.typing import NDArray

from reid.datasets.crops import Crops, read_crop
from reid.datasets.known import open_dataset
from reid.datasets.split import DatasetError, TrackletSplit
from reid.transforms import Preprocessing, prepare_clip

SIZES_HW = {"xreid-tiny": (128, 64), "paper": (288, 144)}
Clip = Callable[[int, NDArray[np.int64]], NDArray[np.uint8]]


def measure(split: TrackletSplit, size_hw: tuple[int, int], *, clips: int, rounds: int) -> dict[str, Any]:
    """Images a second of both ways, and their ratio in each round."""
    settings = Preprocessing(size_hw=size_hw)
    with tempfile.TemporaryDirectory() as folder:
        packed = Crops.load(split, settings, cache=Path(folder))

        def from_files(row: int, positions: NDArray[np.int64]) -> NDArray[np.uint8]:
            modality = split.modalities[row]
            images = [read_crop(split.paths[row][position], modality) for position in positions]
            return prepare_clip(images, modality, settings)

        ways: dict[str, Clip] = {"jpeg": from_files, "packed": lambda row, at: np.array(packed.clip(row, at))}
        rng = np.random.default_rng(0)
        seconds: dict[str, list[float]] = {name: [] for name in ways}
        frames = 10
        for _ in range(rounds):
            rows = rng.integers(len(split), size=clips)
            chosen = [np.sort(rng.integers(packed.length(int(row)), size=frames)) for row in rows]
            for name, clip in ways.items():
                started = time.process_time()
                for row, positions in zip(rows.tolist(), chosen, strict=True):
                    clip(row, positions)
                seconds[name].append(time.process_time() - started)
    count = clips * frames
    ratios = [a / b for a, b in zip(seconds["jpeg"], seconds["packed"], strict=True)]
    return {
        "size_hw": list(size_hw),
        "images_a_cpu_second": {name: round(count / float(np.median(each))) for name, each in seconds.items()},
        "packed_over_jpeg": round(float(np.median(ratios)), 1),
        "packed_over_jpeg_least": round(min(ratios), 1),
    }


def main() -> int:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, default=Path("runs/vvi"), help="synthetic-vvi")
    parser.add_argument("--tracklets", type=int, default=60)
    parser.add_argument("--json", type=Path, default=Path("benchmarks/results/packed_crops.json"))
    options = parser.parse_args()
    cv2.setNumThreads(1)
    try:
        split = open_dataset("synthetic_vvi", options.root).split("train")
    except DatasetError as error:
        print(f"error: {error}\nrender it: python -m simulation vvi", file=sys.stderr)
        return 2
    split = split.select(np.arange(min(options.tracklets, len(split)), dtype=np.int64))
    result = {
        "benchmark": "packed_crops",
        "synthetic": True,
        "data": str(split),
        "sizes": {name: measure(split, size, clips=20, rounds=7) for name, size in SIZES_HW.items()},
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine.describe(),
    }
    for name, figures in result["sizes"].items():  # type: ignore[union-attr]
        print(name, json.dumps(figures))
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps(result, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
