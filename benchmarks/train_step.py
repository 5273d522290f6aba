"""One full training step of the preset `paper` against its equations run naively, and its speed on a GPU.

    python benchmarks/train_step.py [--steps N] [--threads N] [--json benchmarks/results/train_step.json]

On a CPU, at the size of `xreid-tiny`: the batch of the paper (4 identities x 2 clips x 2 modalities x 10 frames at
288 x 144), once through `reid` as the preset trains (bf16 autocast), once through `benchmarks/naive.py`; the same
weights, the same images (noise), the same optimiser. Each variant lives in a process of its own; the two take turns, so
that whatever else the machine does falls on both. Time is the median over the turns of the ratio of CPU seconds (with
one thread they hardly depend on what else runs); wall-clock seconds and peak resident memory stand beside it.

Where there is a GPU, the preset at ViT-B/16 is trained and run on it: seconds a step, images a second, and the share of
the bf16 peak at 29 GFLOP a crop, three times that in training. Where there is none, the JSON says so.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch
from torch import Tensor

from benchmarks import machine, naive
from reid import presets
from reid.losses.total import Labels, Objective
from reid.models.encoder import EncoderConfig
from reid.models.xreid import XReID
from reid.trainer import build_optimiser
from reid.training_config import TrainConfig

IDENTITIES = 500  # of HITSZ-VCM's training split
VARIANTS = ("ours", "naive")
LIMITS = {"time": 0.6, "memory": 0.7}
CROP_FLOP = 29.0e9  # ViT-B/16 at 288 x 144: 14.5 GMAC
AIMS = {"training": 0.45, "inference": 0.50}
# Dense bf16 with float32 accumulation, operations a second, from the makers' data sheets.
NOMINAL_PEAK = {"H200": 989e12, "H100": 989e12, "A100": 312e12, "L40S": 362e12, "L4": 121e12, "A10": 125e12}


class Step:
    """Weights, optimiser and one batch of the paper's shape; one step of either variant.

    Args:
        config: A training; ``frames`` is that of its batch.
        device: Where to compute.
    """

    def __init__(self, config: TrainConfig, device: torch.device) -> None:
        torch.manual_seed(config.seed)
        self.config, self.device = config, device
        self.model = XReID(config.model).to(device).train()
        self.objective = Objective(config.model, config.loss, identities=IDENTITIES, modalities=2).to(device).train()
        named = {"model": self.model, "objective": self.objective}
        self.weights = {f"{of}.{name}": p for of, module in named.items() for name, p in module.named_parameters()}
        self.optimiser = build_optimiser(self.model, self.objective, config.optimiser)
        batch = config.batch
        every = torch.cartesian_prod(torch.arange(2), torch.arange(IDENTITIES)).to(device)
        width = self.objective.memory.prototypes.shape[2]
        self.objective.memory.initialise(torch.randn(len(every), width).to(device), every[:, 1], every[:, 0])
        ids = torch.randperm(IDENTITIES)[: batch.identities].repeat_interleave(batch.clips).repeat(2)
        clips = len(ids)
        self.labels = Labels(ids.to(device), torch.arange(2).repeat_interleave(clips // 2).to(device))
        self.lengths = torch.full((clips,), batch.frames, device=device)
        self.frames = torch.randn(clips * batch.frames, 3, *config.model.encoder.image_size_hw).to(device)

    def ours(self) -> dict[str, Tensor]:
        """The step of ``reid.train``: the losses, with weights and memories moved."""
        with self.autocast():
            features = self.model(self.frames, self.lengths, self.labels.modalities)
            loss = self.objective(self.model, features, self.labels)
        self._move(loss.total)
        return {name: torch.tensor(value) for name, value in loss.breakdown.items()}

    def naive(self) -> dict[str, Tensor]:
        """The equations as they are written, float32."""
        labels = (self.labels.identities.tolist(), self.labels.modalities.tolist())
        parts = naive.losses(self.config, self.weights, self.objective.memory.prototypes, self.frames, *labels)
        total = torch.stack(list(parts.values())).sum()
        self._move(total)
        return {name: value.detach() for name, value in {"total": total, **parts}.items()}

    def autocast(self) -> torch.autocast:
        """bf16 where the training asks for it."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.config.precision == "bf16")

    def _move(self, total: Tensor) -> None:
        self.optimiser.zero_grad(set_to_none=True)
        total.backward()  # type: ignore[no-untyped-call]
        self.optimiser.step()


def training(encoder: EncoderConfig, **changes: Any) -> TrainConfig:
    """The preset ``paper`` with another encoder."""
    return presets.load("paper", encoder=encoder).model_copy(update=changes)


def tiny(stem: str) -> EncoderConfig:
    """The size of ``xreid-tiny`` at the paper's input, with the paper's patch projection or with small convolutions."""
    sizes = EncoderConfig.of_architecture("xreid-tiny").model_dump()
    return EncoderConfig.model_validate({**sizes, "stem": stem, "cls_from_patches": False, "quick_gelu": True})


# --- the two variants, by turns -----------------------------------------------


def peak_mb() -> float:
    """Greatest resident memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def serve(variant: str, stem: str, threads: int) -> None:
    """Do one step for each line of standard input, and say what it took."""
    torch.set_num_threads(threads)
    step = Step(training(tiny(stem)), torch.device("cpu"))
    run: Callable[[], Mapping[str, Tensor]] = getattr(step, variant)
    before = peak_mb()
    for _ in sys.stdin:
        cpu, wall = time.process_time(), time.perf_counter()
        losses = run()
        took = {"cpu_s": time.process_time() - cpu, "wall_s": time.perf_counter() - wall}
        values = {name: float(value) for name, value in losses.items()}
        print(json.dumps({**took, "losses": values, "peak_mb": peak_mb(), "before_mb": before}), flush=True)


def compare(stem: str, *, steps: int, threads: int) -> dict[str, Any]:
    """Let the variants take turns; the first step of each, which allocates, is not timed."""
    servers = {}
    for variant in VARIANTS:
        command = [sys.executable, __file__, "--serve", variant, "--stem", stem, "--threads", str(threads)]
        servers[variant] = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    turns: dict[str, list[dict[str, Any]]] = {variant: [] for variant in VARIANTS}
    for _ in range(1 + steps):
        for variant, server in servers.items():
            assert server.stdin is not None and server.stdout is not None  # noqa: S101, PT018 - both are pipes
            server.stdin.write("\n")
            server.stdin.flush()
            turns[variant].append(json.loads(server.stdout.readline()))
    for server in servers.values():
        server.communicate()
    return summary(turns)


def summary(turns: Mapping[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """Medians, ratios, and how far the losses of the first step are apart."""
    timed = {variant: each[1:] for variant, each in turns.items()}
    variants = {
        variant: {
            "cpu_s": round(statistics.median(turn["cpu_s"] for turn in each), 3),
            "wall_s": round(statistics.median(turn["wall_s"] for turn in each), 3),
            "peak_rss_mb": round(each[-1]["peak_mb"]),
            "rss_before_the_first_step_mb": round(each[-1]["before_mb"]),
            "losses_of_the_first_step": turns[variant][0]["losses"],
        }
        for variant, each in timed.items()
    }
    pairs = list(zip(timed["ours"], timed["naive"], strict=True))
    ratio = {clock: statistics.median(a[clock] / b[clock] for a, b in pairs) for clock in ("cpu_s", "wall_s")}
    memory = variants["ours"]["peak_rss_mb"] / variants["naive"]["peak_rss_mb"]
    first = {variant: each[0]["losses"]["total"] for variant, each in turns.items()}
    return {
        "variants": variants,
        "ratio": {"time": round(ratio["cpu_s"], 3), "wall": round(ratio["wall_s"], 3), "memory": round(memory, 3)},
        "loss_differs_by": abs(first["ours"] / first["naive"] - 1),
    }


# --- a GPU --------------------------------------------------------------------


def on_gpu(*, steps: int) -> dict[str, Any]:
    """Train and run the preset at ViT-B/16 on the first GPU."""
    device = torch.device("cuda")
    torch.set_float32_matmul_precision("high")
    name = torch.cuda.get_device_name(device)
    nominal = next((peak for key, peak in NOMINAL_PEAK.items() if key in name), None)
    measured = matmul_peak(device)
    step = Step(training(EncoderConfig(quick_gelu=True)), device)
    images = len(step.frames)
    step.model.encoder.compile()
    torch.cuda.reset_peak_memory_stats(device)
    seconds = timed(step.ours, steps, device)
    result = {
        "device": name,
        "bf16_peak_tflops": {"nominal": nominal and nominal / 1e12, "of_a_large_product": round(measured / 1e12, 1)},
        "training": {
            **speed(seconds, images, 3 * CROP_FLOP, nominal or measured, AIMS["training"]),
            "peak_memory_gb": round(torch.cuda.max_memory_allocated(device) / 2**30, 2),
        },
    }
    model = step.model.eval().to(torch.bfloat16)
    frames = step.frames.to(torch.bfloat16)

    @torch.inference_mode()
    def infer() -> Tensor:
        return model.embed(frames, step.lengths, step.labels.modalities)

    seconds = timed(infer, steps, device)
    return {**result, "inference": speed(seconds, images, CROP_FLOP, nominal or measured, AIMS["inference"])}


def speed(seconds: float, images: int, flop: float, peak: float, aim: float) -> dict[str, Any]:
    """Seconds a step or call, images a second, and the share of the peak."""
    share = flop * images / seconds / peak
    return {
        "seconds": round(seconds, 4),
        "images_per_second": round(images / seconds),
        "share_of_bf16_peak": round(share, 3),
        "aim": aim,
        "reached": share >= aim,
    }


def timed(run: Callable[[], object], steps: int, device: torch.device, *, warm_up: int = 5) -> float:
    """Median seconds of a call, the device's work included."""
    taken = []
    for number in range(warm_up + steps):
        _wait(device)
        began = time.perf_counter()
        run()
        _wait(device)
        if number >= warm_up:
            taken.append(time.perf_counter() - began)
    return statistics.median(taken)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def matmul_peak(device: torch.device, *, size: int = 8192) -> float:
    """Operations a second of one large bf16 product: what the card gives at best, whatever its data sheet says."""
    a = torch.randn(size, size, device=device, dtype=torch.bfloat16)
    return 2 * size**3 / timed(lambda: a @ a, 20, device)


def measure(*, steps: int, threads: int, gpu_steps: int) -> dict[str, Any]:
    """All of it."""
    batch = presets.load("paper").batch
    cases = {stem: compare(stem, steps=steps, threads=threads) for stem in ("patch", "convolutional")}
    held = all(case["ratio"][name] <= limit for case in cases.values() for name, limit in LIMITS.items())
    return {
        "benchmark": "train_step",
        "preset": "paper",
        "batch": {**batch.model_dump(exclude={"still_epochs"}), "modalities": 2, "images": "noise, 288 x 144"},
        "size": "xreid-tiny: 2 layers, D = 128; stem 'patch' is the paper's, 'convolutional' has small convolutions",
        "threads": threads,
        "turns": steps,
        "limits": LIMITS,
        "held": held,
        "cpu": cases,
        "gpu": on_gpu(steps=gpu_steps) if torch.cuda.is_available() else "not measured: no GPU",
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine.describe(),
    }


def main() -> int:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=5, metavar="N", help="turns of each variant")
    parser.add_argument("--threads", type=int, default=1, metavar="N", help="of each variant")
    parser.add_argument("--gpu-steps", type=int, default=30, metavar="N")
    parser.add_argument("--json", type=Path, default=Path("benchmarks/results/train_step.json"))
    parser.add_argument("--serve", choices=VARIANTS, help=argparse.SUPPRESS)
    parser.add_argument("--stem", choices=("patch", "convolutional"), default="patch", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve(options.serve, options.stem, options.threads)
        return 0
    result = measure(steps=options.steps, threads=options.threads, gpu_steps=options.gpu_steps)
    for stem, case in result["cpu"].items():
        print(f"{stem:14} of the naive step: " + ", ".join(f"{name} {value}" for name, value in case["ratio"].items()))
    print(f"limits {LIMITS}: {'held' if result['held'] else 'NOT held'}; GPU: {result['gpu']}")
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps(result, indent=2) + "\n")
    return 0 if result["held"] else 1


if __name__ == "__main__":
    raise SystemExit(main())
