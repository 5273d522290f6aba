"""What filling up batches to a few sizes takes in time, and saves in memory (random pictures).

    python benchmarks/embedder_memory.py [--calls 400] [--json benchmarks/results/embedder_memory.json]

oneDNN keeps convolutions made for each number of pictures that it has met. The embedder of `xreid-tiny` gets the same
random calls (1 to 8 tracklets of 1 to 8 crops) as it is, and with batches that are not filled up, each in a process of
its own: what the C library holds after ten calls and after all (`mallinfo2`, which no page that it keeps disturbs).
The time is of a third process, where both take turns at each call. Exit code 1 when filling saves no memory.
"""

import argparse
import ctypes
import json
import statistics
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import machine
import numpy as np
from numpy.typing import NDArray

from reid.checkpoint import load
from reid.extractor import XReIDExtractor
from reid.modality import Modality

WEIGHTS = "xreid-tiny"
WARM_UP = 10
MB = 1e6


class _Mallinfo(ctypes.Structure):
    _fields_ = [
        (name, ctypes.c_size_t)
        for name in ("arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks",
                     "keepcost")
    ]  # fmt: skip


def in_use_mb() -> float:
    """Memory that was asked of the C library and not given back to it."""
    mallinfo: Any = ctypes.CDLL(None).mallinfo2
    mallinfo.restype = _Mallinfo
    found = mallinfo()
    return float(found.uordblks + found.hblkhd) / MB


def extractor(*, filled: bool) -> XReIDExtractor:
    """With the embedded weights; not filled, as it was before."""
    found = load(WEIGHTS)
    if not filled:
        found._filling = lambda frames: 0  # type: ignore[method-assign]
    return found


def calls(count: int) -> list[list[list[NDArray[np.uint8]]]]:
    """Random clips, the same each time."""
    rng = np.random.default_rng(0)

    def crop() -> NDArray[np.uint8]:
        return rng.integers(0, 256, (int(rng.integers(40, 120)), int(rng.integers(20, 60)), 3), dtype=np.uint8)

    return [
        [[crop() for _ in range(rng.integers(1, 9))] for _ in range(rng.integers(1, 9))]
        for _ in range(count)
    ]  # fmt: skip


def embed(model: XReIDExtractor, clips: list[list[NDArray[np.uint8]]]) -> float:
    """Seconds of processor."""
    begun = time.process_time()
    model.extract(clips, [Modality.RGB] * len(clips))
    return time.process_time() - begun


def grown(count: int, *, filled: bool) -> dict[str, float]:
    """In MB, after the first calls and after all."""
    model, wanted = extractor(filled=filled), calls(count)
    for clips in wanted[:WARM_UP]:
        embed(model, clips)
    early = in_use_mb()
    for clips in wanted[WARM_UP:]:
        embed(model, clips)
    return {"after_10": round(early, 2), "after_all": round(in_use_mb(), 2), "grown": round(in_use_mb() - early, 2)}


def compared(count: int) -> dict[str, float]:
    """Seconds of processor of all calls, in turns."""
    filled, unfilled, wanted = extractor(filled=True), extractor(filled=False), calls(count)
    for clips in wanted[:WARM_UP]:
        embed(filled, clips)
        embed(unfilled, clips)
    pairs = []
    for number, clips in enumerate(wanted):
        order = (filled, unfilled) if number % 2 else (unfilled, filled)
        seconds = {id(model): embed(model, clips) for model in order}
        pairs.append((seconds[id(filled)], seconds[id(unfilled)]))
    with_it, without = (sum(each) for each in zip(*pairs, strict=True))
    return {
        "filled_seconds": round(with_it, 2),
        "unfilled_seconds": round(without, 2),
        "ratio": round(with_it / without, 4),
        "median_ratio_of_a_call": round(statistics.median(a / b for a, b in pairs), 4),
    }


PARTS: dict[str, Any] = {
    "filled_mb": lambda count: grown(count, filled=True),
    "unfilled_mb": lambda count: grown(count, filled=False),
    "time": compared,
}


def main() -> int:
    """Each part in a process of its own; write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=400)
    parser.add_argument("--part", choices=PARTS, help=argparse.SUPPRESS)
    parser.add_argument("--json", type=Path, default=Path(__file__).parent / "results" / "embedder_memory.json")
    options = parser.parse_args()
    if options.part:
        print(json.dumps(PARTS[options.part](options.calls)))
        return 0
    found = {
        part: json.loads(subprocess.run(
            [sys.executable, __file__, "--part", part, "--calls", str(options.calls)], check=True, capture_output=True,
        ).stdout)
        for part in PARTS
    }  # fmt: skip
    machine.keep(
        {
            "benchmark": "embedder_memory",
            "command": " ".join(["python", "benchmarks/embedder_memory.py", *sys.argv[1:]]),
            "calls": options.calls,
            **found,
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "machine": machine.describe(),
        },
        options.json,
    )
    return 0 if found["filled_mb"]["grown"] < found["unfilled_mb"]["grown"] else 1


if __name__ == "__main__":
    raise SystemExit(main())
