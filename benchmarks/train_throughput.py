"""Images a second of the training's loader alone, of its step alone, and of both.

On a CPU: ``xreid-tiny``, as ``configs/reid/xreid_tiny.yaml`` trains it, from packed crops, from memory and from files.
With a GPU also ViT-B/16 with the paper's batch and with ``configs/reid/large_batch.yaml``: seconds a step and an epoch,
memory, and the projected hours of 60 epochs of HITSZ-VCM. The images are blurred noise, no people: nothing here is a
figure of accuracy. The three are measured in turn, round after round, so that a busy machine slows all of them.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import cv2  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402

from benchmarks.machine import describe  # noqa: E402
from reid import presets  # noqa: E402
from reid.datasets.split import TrackletSplit  # noqa: E402
from reid.distributed import Processes  # noqa: E402
from reid.loading import Batch, TrainingData, ahead, open_clips  # noqa: E402
from reid.modality import Modality  # noqa: E402
from reid.trainer import Trainer  # noqa: E402
from reid.training_config import LoaderConfig, TrainConfig, config_of, read_config  # noqa: E402

KINDS = (Modality.RGB, Modality.NIR)
_LOADED = 24  # batches a round of the loader alone: many more than its processes may have ready


def write_images(folder: Path, *, identities: int, frames: int, size_hw: tuple[int, int]) -> TrackletSplit:
    """JPEG files of blurred noise, two tracklets an identity and modality, with the frames of each."""
    generator = np.random.default_rng(0)
    small = (max(2, size_hw[0] // 8), max(2, size_hw[1] // 8), 3)
    paths, pids, camids, modalities = [], [], [], []
    for pid in range(identities):
        for camid, modality in enumerate(KINDS * 2):
            own = folder / f"{pid:04d}" / str(camid)
            own.mkdir(parents=True)
            for k in range(frames):
                image = cv2.resize(generator.integers(0, 255, small, np.uint8), size_hw[::-1])
                image = np.clip(image + generator.normal(0, 4, image.shape), 0, 255).astype(np.uint8)
                cv2.imwrite(str(own / f"{k:02d}.jpg"), image if modality.is_visible else image[..., 0])
            paths.append(tuple(sorted(own.iterdir())))
            pids.append(pid)
            camids.append(camid)
            modalities.append(modality)
    return TrackletSplit(
        paths=tuple(paths),
        pids=np.array(pids, np.int64),
        camids=np.array(camids, np.int64),
        modalities=tuple(modalities),
        camera_names=("a", "b", "c", "d"),
    )


class Meter:
    """Wall and processor seconds of some calls, an image."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._wall: list[float] = []
        self._cpu: list[float] = []

    def measure(self, work: Callable[[], int]) -> None:
        """Time one call, which returns how many images it did."""
        self._wait()
        wall, cpu = time.perf_counter(), time.process_time()
        images = work()
        self._wait()
        self._wall.append((time.perf_counter() - wall) / images)
        self._cpu.append((time.process_time() - cpu) / images)

    def _wait(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize()

    def report(self) -> dict[str, float]:
        """Medians."""
        return {
            "images_per_second": round(1 / statistics.median(self._wall), 1),
            "cpu_milliseconds_per_image": round(1e3 * statistics.median(self._cpu), 4),
        }


def measure(
    config: TrainConfig, split: TrackletSplit, *, cache: Path, device: torch.device, rounds: int, steps: int
) -> dict[str, Any]:
    """Loader, step and both, for the source of ``config.loader``."""
    data = TrainingData(split, open_clips(split, config.preprocessing, config.loader, cache=cache), config)
    trainer = Trainer(config, data, Processes(0, 1, 0, device))
    first = config.batch.still_epochs * config.iterations  # of the clips
    trainer.steps = first
    meters = {name: Meter(device) for name in ("loader", "step", "both")}
    fixed = data.parts(first)

    def batches() -> Iterator[list[Batch]]:
        numbers = range(first, first + 2 + rounds * max(steps, _LOADED))
        found = ahead(data.parts, numbers, config.loader, pin=device.type == "cuda")
        for _ in range(2):  # processes have started, files are read
            next(found)
        return found

    def load(found: Iterator[list[Batch]]) -> int:
        return sum(len(part.pixels) for _ in range(max(steps, _LOADED)) for part in next(found))

    def learn(found: Iterator[list[Batch]] | None) -> int:
        images = 0
        for _ in range(steps):
            parts = fixed if found is None else next(found)
            trainer.step(parts)
            images += sum(len(part.pixels) for part in parts)
        return images

    learn(None)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    for_loader, for_both = batches(), batches()
    for _ in range(rounds):
        meters["loader"].measure(lambda: load(for_loader))
        meters["step"].measure(lambda: learn(None))
        meters["both"].measure(lambda: learn(for_both))
    report: dict[str, Any] = {name: meter.report() for name, meter in meters.items()}
    rate = {name: figures["images_per_second"] for name, figures in report.items()}
    report["images_per_step"] = sum(len(part.pixels) for part in fixed)
    report["loader_over_step"] = round(rate["loader"] / rate["step"], 2)
    report["both_over_step"] = round(rate["both"] / rate["step"], 3)
    # Robust on a busy machine, where the wall clock tells how often the others ran; worker processes are not counted.
    spent = {name: report[name]["cpu_milliseconds_per_image"] for name in ("loader", "step")}
    report["loader_share_of_cpu"] = round(spent["loader"] / (spent["loader"] + spent["step"]), 4)
    if device.type == "cuda":
        report["peak_memory_gb"] = round(torch.cuda.max_memory_allocated() / 2**30, 2)
    return report


def of_loader(config: TrainConfig, source: str, workers: int) -> TrainConfig:
    """The same training with another loader."""
    return config.model_copy(update={"loader": LoaderConfig(source=source, workers=workers), "tensorboard": False})


def on_cpu(folder: Path, *, rounds: int, steps: int) -> dict[str, Any]:
    """xreid-tiny from each source."""
    config = read_config(ROOT / "configs" / "reid" / "xreid_tiny.yaml", ["loss.attributes=0"])  # noise wears nothing
    if config.threads:
        torch.set_num_threads(config.threads)
    # Written at twice the network's input, about what a detector cuts out of a frame.
    height, width = config.preprocessing.size_hw
    split = write_images(folder / "images", identities=24, frames=16, size_hw=(2 * height, 2 * width))
    cases = (("packed", 0), ("memory", 0), ("files", 0), ("files", 1))
    return {
        f"{source}, {workers} workers": measure(
            of_loader(config, source, workers),
            split,
            cache=folder / "cache",
            device=torch.device("cpu"),
            rounds=rounds,
            steps=steps,
        )
        for source, workers in cases
    }


def on_gpu(folder: Path, *, rounds: int, steps: int, workers: int) -> dict[str, Any]:
    """ViT-B/16 with the paper's batch, the same compiled, and the larger batch."""
    device = torch.device("cuda", 0)
    split = write_images(folder / "vit", identities=64, frames=24, size_hw=(288, 144))
    plain = config_of({**presets.as_data("paper"), "pretrained": None, "architecture": None}, where="paper")
    large = read_config(ROOT / "configs" / "reid" / "large_batch.yaml", ["pretrained=null", "architecture=null"])
    cases = {
        "paper batch, packed": of_loader(plain, "packed", workers),
        "paper batch, files": of_loader(plain, "files", workers),
        "paper batch, packed, compiled": of_loader(plain, "packed", workers).model_copy(update={"compile": "inductor"}),
        "large batch, packed": of_loader(large, "packed", workers),
    }
    found = {}
    for name, config in cases.items():
        report = measure(config, split, cache=folder / "cache", device=device, rounds=rounds, steps=steps)
        seconds = report["images_per_step"] / report["both"]["images_per_second"]
        report["seconds_per_step"] = round(seconds, 4)
        report["minutes_per_epoch"] = round(seconds * config.iterations / 60, 2)
        report["hours_for_all_epochs_of_hitsz_vcm"] = round(seconds * config.steps / 3600, 2)
        report["epochs"], report["steps_per_epoch"] = config.epochs, config.iterations
        found[name] = report
        torch.cuda.empty_cache()
    return found


def main() -> None:
    """Measure, write the JSON, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=3, help="steps a round")
    parser.add_argument("--workers", type=int, default=8, help="of the loader on a GPU")
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks" / "results" / "train_throughput.json")
    options = parser.parse_args()
    report: dict[str, Any] = {
        "benchmark": "train_throughput",
        "images": "blurred noise, written as JPEG for this measurement; no people",
        "machine": describe(),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name(0) if torch.cuda.is_available() else None,
    }
    with tempfile.TemporaryDirectory() as folder:
        report["cpu_xreid_tiny"] = on_cpu(Path(folder), rounds=options.rounds, steps=options.steps)
        report["threads"] = torch.get_num_threads()
        report["gpu_vit_b16"] = (
            on_gpu(Path(folder), rounds=options.rounds, steps=options.steps, workers=options.workers)
            if torch.cuda.is_available()
            else "not measured: no GPU on this machine"
        )
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(report, indent=2) + "\n")
    print(f"{'case':<34}{'loader':>10}{'step':>10}{'both':>10}{'loader/step':>13}{'both/step':>11}{'loader cpu':>12}")
    for part in ("cpu_xreid_tiny", "gpu_vit_b16"):
        for name, row in report[part].items() if isinstance(report[part], dict) else ():
            rates = "".join(f"{row[each]['images_per_second']:>10.1f}" for each in ("loader", "step", "both"))
            ratios = (
                f"{row['loader_over_step']:>13.2f}{row['both_over_step']:>11.3f}{row['loader_share_of_cpu']:>12.2%}"
            )
            print(f"{name:<34}{rates}{ratios}")


if __name__ == "__main__":
    main()
