"""Train X-ReID: ``python -m reid.train --config configs/reid/xreid_tiny.yaml --root DATA --output DIR [--set k=v]``.

``--preset paper`` in place of ``--config`` takes a training of ``reid.presets``.

Reads from top to bottom: the configuration, the data, the schedule, one step, one run. ``DIR`` receives
``checkpoint.safetensors`` (written atomically after each epoch; the last epoch is the result), ``metrics.jsonl`` (one
line an epoch), ``config.yaml`` and, at the end, ``result.json``. The validation split is looked at, and its identities
give the calibration; it never chooses an epoch.
"""

import argparse
import json
import logging
import math
import shlex
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
import torch
import yaml
from numpy.typing import NDArray
from torch import Tensor, nn

from reid import checkpoint, presets
from reid.datasets.crops import Crops
from reid.datasets.folder import DatasetError, read_folder
from reid.datasets.split import TrackletSplit
from reid.evaluate import Results, as_plain, as_table, embed_split, evaluate_directions, fit_calibration, machine
from reid.extractor import XReIDExtractor
from reid.losses.total import Labels, Loss, Objective
from reid.models.encoder import EncoderWeightsError
from reid.models.xreid import MODALITIES, XReID
from reid.samplers import IdentityModalitySampler
from reid.training_config import ConfigError, OptimiserConfig, TrainConfig, config_of, read_config
from reid.transforms import augment, to_input

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Clips as they lie in memory, with what the network and the objective must know of them.

    ``kinds`` are positions in the model's ``MODALITIES``; ``labels.modalities`` count those of the data.
    """

    pixels: Tensor
    lengths: Tensor
    rows: NDArray[np.int64]
    labels: Labels
    kinds: Tensor
    cameras: Tensor


class Data:
    """The training split: crops in memory, and batches of them without end."""

    def __init__(self, split: TrackletSplit, crops: Crops, config: TrainConfig) -> None:
        self.split, self.crops, self._batch = split, crops, config.batch
        self._generator = np.random.default_rng([config.seed, 0])
        self._epoch_steps = config.iterations
        self.pids = np.unique(split.pids)
        self.identity_of = np.searchsorted(self.pids, split.pids)
        index = {modality: number for number, modality in enumerate(split.modality_set)}
        self.modality_of = np.array([index[modality] for modality in split.modalities], np.int64)

    def __iter__(self) -> Iterator[Batch]:
        """Yield batches without end: those of the still epochs, then those of clips."""
        batch = self._batch
        if batch.still_epochs:
            still = self._passes(identities=batch.identities * batch.frames)
            for rows in islice(still, batch.still_epochs * self._epoch_steps):
                yield self.batch(rows, frames=1)
        for rows in self._passes(identities=batch.identities):
            yield self.batch(rows, frames=batch.frames)

    def _passes(self, *, identities: int) -> Iterator[NDArray[np.int64]]:
        sampler = IdentityModalitySampler(
            self.split, identities=identities, clips=self._batch.clips, generator=self._generator
        )
        while True:
            yield from sampler

    def batch(self, rows: NDArray[np.int64], *, frames: int) -> Batch:
        """Gather clips of these tracklets."""
        clips = [self.crops.clip(row, self._positions(self.crops.length(row), frames)) for row in rows.tolist()]
        return Batch(
            pixels=torch.from_numpy(np.concatenate(clips)),
            lengths=torch.tensor([len(clip) for clip in clips]),
            rows=rows,
            labels=self.labels(rows),
            kinds=torch.tensor([MODALITIES.index(self.split.modalities[row]) for row in rows.tolist()]),
            cameras=torch.from_numpy(self.split.camids[rows]),
        )

    def labels(self, rows: NDArray[np.int64]) -> Labels:
        """Identity and modality indices of these tracklets."""
        return Labels(torch.from_numpy(self.identity_of[rows]), torch.from_numpy(self.modality_of[rows]))

    def _positions(self, count: int, frames: int) -> NDArray[np.int64]:
        """One random crop of each of T equal stretches of the tracklet, repeated where it has fewer than T crops."""
        edges = np.arange(frames + 1) * count / frames
        return np.minimum(self._generator.uniform(edges[:-1], edges[1:]).astype(np.int64), count - 1)


def learning_rate(config: OptimiserConfig, epoch: float, epochs: int) -> float:
    """Multiple of ``config.lr`` at a time in epochs since the beginning, which may be fractional."""
    if epoch < config.warmup_epochs:
        return config.warmup_start + (1 - config.warmup_start) * epoch / config.warmup_epochs
    if config.schedule == "step":
        return float(0.1 ** sum(epoch >= milestone for milestone in config.milestones))
    done = (epoch - config.warmup_epochs) / max(epochs - config.warmup_epochs, 1e-9)
    return 0.01 + 0.99 * (1 + math.cos(math.pi * min(done, 1.0))) / 2


def build_optimiser(model: XReID, objective: Objective, config: OptimiserConfig) -> torch.optim.Optimizer:
    """Groups by part of the network, bias or not, with weight decay or not; each has its ``factor`` of the rate."""
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    named = [*model.named_parameters(), *objective.named_parameters()]
    for name, parameter in named:
        if parameter.requires_grad:
            factor = 1.0 if name.startswith("encoder.") else config.head_factor
            factor *= config.bias_factor if name.endswith("bias") else 1.0
            decays = parameter.ndim >= 2 and "embedding" not in name
            groups.setdefault((factor, config.weight_decay if decays else 0.0), []).append(parameter)
    settings = [
        {"params": parameters, "factor": factor, "weight_decay": decay}
        for (factor, decay), parameters in groups.items()
    ]
    if config.name == "adam":
        return torch.optim.Adam(settings, lr=config.lr, fused=True)
    return torch.optim.AdamW(settings, lr=config.lr, fused=True)


class Trainer:
    """A model, its objective, and the state that moves with every step."""

    def __init__(self, config: TrainConfig, data: Data) -> None:
        torch.manual_seed(config.seed)
        self.config, self.data = config, data
        self.model = XReID(config.model)
        self._know_cameras()
        if config.pretrained:
            self.model.encoder.load_clip(config.pretrained, architecture=config.architecture)
        if config.initial:
            checkpoint.load_into(self.model, config.initial)
        modalities = len(data.split.modality_set)
        self.objective = Objective(config.model, config.loss, identities=len(data.pids), modalities=modalities)
        self.optimiser = build_optimiser(self.model, self.objective, config.optimiser)
        self.steps = 0

    def _know_cameras(self) -> None:
        """Tell the camera embeddings, where there are any, which cameras see which modality."""
        model, split = self.config.model, self.data.split
        if model.camera_embedding == "none":
            return
        if model.cameras != len(split.camera_names):
            raise DatasetError(
                f"model.cameras is {model.cameras}, but the training split has {len(split.camera_names)} cameras"
            )
        every = self.data.batch(np.arange(len(split), dtype=np.int64), frames=1)
        self.model.camera_embedding.learn_modalities(every.cameras, every.kinds)

    @torch.no_grad()
    def fill_memories(self) -> None:
        """Set the prototypes from one pass of the network as it is, over one clip of each training tracklet.

        The clip is as long as those of the coming batches: T frames, or one in the still epochs.

        Where the prototypes live behind necks, the necks' statistics come from the same pass: those they were made with
        (mean 0, variance 1) are of no data.
        """
        loss = self.config.loss
        names = ("cls", "projected") if loss.cpcl_on == "joint" else (loss.cpcl_on,)
        parts = self._parts_of_all()
        features = []
        for name in names:
            index = self.config.model.parts.index(name)
            part, neck = parts[index], self.model.necks[index]
            if (loss.behind_necks or loss.memories_behind_necks) and isinstance(neck, nn.BatchNorm1d):
                neck.running_mean = part.mean(dim=0)
                neck.running_var = part.var(dim=0)
                part = neck(part)
            features.append(part)
        labels = self.data.labels(np.arange(len(self.data.split), dtype=np.int64))
        self.objective.memory.initialise(torch.cat(features, dim=1), *self.objective.memory_labels(labels))

    @torch.no_grad()
    def _parts_of_all(self, *, clips_at_once: int = 32) -> list[Tensor]:
        """Each part of one clip of each training tracklet, in evaluation mode, without camera embeddings: (n, ...)."""
        self.model.eval()
        still = self.steps < self.config.batch.still_epochs * self.config.iterations
        frames = 1 if still else self.config.batch.frames
        out: list[tuple[Tensor, ...]] = []
        for rows in np.array_split(np.arange(len(self.data.split)), -(-len(self.data.split) // clips_at_once)):
            batch = self.data.batch(rows, frames=frames)
            images = to_input(batch.pixels, self.config.preprocessing)
            out.append(self.model(images, batch.lengths, batch.kinds).parts)
        return [torch.cat(part) for part in zip(*out, strict=True)]

    @torch.no_grad()
    def set_centres(self, *, clips_at_once: int = 32) -> None:
        """Take the centres of the modalities, where the model has them, from one frame of each training tracklet."""
        if not self.config.model.centre_modalities:
            return
        self.model.eval()
        generator = np.random.default_rng([self.config.seed, 1])
        total = torch.zeros_like(self.model.centres)
        counts = torch.zeros(len(total))
        for rows in np.array_split(np.arange(len(self.data.split)), -(-len(self.data.split) // clips_at_once)):
            frames = [
                self.data.crops.clip(row, generator.integers(self.data.crops.length(row), size=1)) for row in rows
            ]
            images = to_input(torch.from_numpy(np.concatenate(frames)), self.config.preprocessing)
            kinds = torch.tensor([MODALITIES.index(self.data.split.modalities[row]) for row in rows.tolist()])
            features = self.model.concatenated(images, torch.ones(len(rows), dtype=torch.int64), kinds)
            total.index_add_(0, kinds, features)
            counts += torch.bincount(kinds, minlength=len(counts))
        self.model.centres.copy_(total / counts.clamp(min=1)[:, None])

    def step(self, batch: Batch) -> Loss:
        """One forward and backward pass and one update of weights and memories."""
        self.model.train()
        self.objective.train()
        epoch = self.steps / self.config.iterations
        rate = self.config.optimiser.lr * learning_rate(self.config.optimiser, epoch, self.config.epochs)
        for group in self.optimiser.param_groups:
            group["lr"] = rate * group["factor"]
        loss = self.loss(batch)
        self.optimiser.zero_grad(set_to_none=True)
        loss.total.backward()  # type: ignore[no-untyped-call]
        if self.config.optimiser.clip_norm:
            parameters = [p for group in self.optimiser.param_groups for p in group["params"]]
            nn.utils.clip_grad_norm_(parameters, self.config.optimiser.clip_norm)
        self.optimiser.step()
        self.steps += 1
        return loss

    def loss(self, batch: Batch) -> Loss:
        """Augment the batch and compute the objective on it."""
        modalities = [self.data.split.modalities[row] for row in batch.rows.tolist()]
        images = batch.pixels.permute(0, 3, 1, 2).float() / 255
        seed = (self.config.seed << 32) + self.steps
        ramp = self.config.augmentation_ramp_epochs * self.config.iterations
        strength = min(1.0, self.steps / ramp) if ramp else 1.0
        images = augment(images, batch.lengths, modalities, self.config.augmentation.weakened(strength), seed)
        with torch.autocast("cpu", torch.bfloat16, enabled=self.config.precision == "bf16"):
            images = to_input(images, self.config.preprocessing)
            features = self.model(images, batch.lengths, batch.kinds, batch.cameras)
            return cast(Loss, self.objective(self.model, features, batch.labels))

    def extractor(self) -> XReIDExtractor:
        """The model as it is, behind the interface that users see."""
        return XReIDExtractor(self.model, self.config.preprocessing, model_id=self.config.name, calibration=None)


@dataclass(frozen=True, slots=True, eq=False)
class Validation:
    """The validation split with its crops."""

    split: TrackletSplit
    crops: Crops


def train(root: Path, output: Path, config: TrainConfig, *, splits: tuple[str, str] = ("train", "val")) -> Results:
    """Train, write ``output``, and return the figures of the last epoch on the validation split.

    Args:
        root: A tracklet folder.
        output: Where to write.
        config: What to do.
        splits: Names of the training and the validation split, which must share no person.

    Raises:
        DatasetError: When the data cannot be used.
    """
    if config.threads:
        torch.set_num_threads(config.threads)
    train_split, val_split = (read_folder(root, name) for name in splits)
    shared = set(train_split.pids.tolist()) & set(val_split.pids.tolist())
    if shared:
        raise DatasetError(f"{root}: {len(shared)} persons are in both splits, such as {min(shared)}")
    _LOG.info("training: %s; validation: %s", train_split, val_split)
    data = Data(train_split, Crops.load(train_split, config.preprocessing, cache=root / "cache"), config)
    validation = Validation(val_split, Crops.load(val_split, config.preprocessing, cache=root / "cache"))
    output.mkdir(parents=True, exist_ok=True)
    (output / "config.yaml").write_text(yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False), "utf-8")
    trainer = Trainer(config, data)
    _LOG.info("%.2f M parameters", sum(p.numel() for p in trainer.model.parameters()) / 1e6)
    trainer.fill_memories()
    with (output / "metrics.jsonl").open("w", encoding="utf-8") as log:
        return _epochs(trainer, validation, output, log)


def _epochs(trainer: Trainer, validation: Validation, output: Path, log: IO[str]) -> Results:
    config = trainer.config
    batches = iter(trainer.data)
    results: Results = {}
    began = time.monotonic()
    for epoch in range(1, config.epochs + 1):
        sums: dict[str, float] = {}
        if config.memories == "every_epoch" and epoch > 1:
            trainer.fill_memories()
        for _ in range(config.iterations):
            for name, value in trainer.step(next(batches)).breakdown.items():
                sums[name] = sums.get(name, 0.0) + value / config.iterations
        if not math.isfinite(sums["total"]):
            raise FloatingPointError(f"epoch {epoch}: the loss is {sums['total']}; a lower learning rate may help")
        record: dict[str, Any] = {"epoch": epoch, "seconds": round(time.monotonic() - began, 1), "loss": sums}
        last = epoch == config.epochs
        card = _card(config, {"epoch": epoch, "steps": trainer.steps})
        if last or epoch % config.validate_every == 0:
            trainer.set_centres()
            features = embed_split(trainer.extractor(), validation.crops, validation.split)
            results = evaluate_directions(features, validation.split)
            record["validation"] = as_plain(results)
            card = _card(config, card.training, fit_calibration(features, validation.split).to_dict())
            _LOG.info("epoch %d, validation:\n%s", epoch, as_table(results))
        checkpoint.save(output / "checkpoint.safetensors", trainer.model, card, half=config.half_on_disk)
        log.write(json.dumps(record) + "\n")
        log.flush()
        parts = ", ".join(f"{name} {value:.3f}" for name, value in sums.items())
        _LOG.info("epoch %d/%d, %.0f s: %s", epoch, config.epochs, record["seconds"], parts)
    return results


def write_result(output: Path, command: str) -> None:
    """Gather what a finished training left into ``result.json``: command, machine, configuration, course."""
    lines = (output / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    result = {
        "command": command,
        "machine": machine(),
        "config": yaml.safe_load((output / "config.yaml").read_text(encoding="utf-8")),
        "epochs": [json.loads(line) for line in lines],
    }
    (output / "result.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def _card(
    config: TrainConfig, training: Mapping[str, Any], calibration: dict[str, Any] | None = None
) -> checkpoint.Card:
    return checkpoint.Card(
        name=config.name,
        model=config.model,
        preprocessing=config.preprocessing,
        training_data=config.training_data,
        licence=config.licence,
        calibration=calibration,
        training={**training, "seed": config.seed},
    )


def main(arguments: list[str] | None = None) -> int:
    """Run the command; see the module's docstring."""
    parser = argparse.ArgumentParser(prog="python -m reid.train", description="Train X-ReID on a tracklet folder.")
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--config", type=Path, help="a YAML file, such as configs/reid/xreid_tiny.yaml")
    which.add_argument("--preset", choices=presets.PRESETS, help="the paper's training, or a row of its tables")
    parser.add_argument("--root", required=True, type=Path, help="folder with tracklets.csv")
    parser.add_argument("--output", required=True, type=Path, help="folder for the checkpoint and the log")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="change the configuration")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    try:
        if options.preset:
            config = config_of(presets.as_data(options.preset), options.set, where=f"preset {options.preset}")
        else:
            config = read_config(options.config, options.set)
        results = train(options.root, options.output, config)
    except (ConfigError, DatasetError, EncoderWeightsError, checkpoint.CheckpointError) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    command = shlex.join(["python", "-m", "reid.train", *(sys.argv[1:] if arguments is None else arguments)])
    write_result(options.output, command)
    sys.stdout.write(f"validation, last epoch:\n{as_table(results)}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
