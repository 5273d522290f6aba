"""Train X-ReID: ``python -m reid.train --config configs/reid/xreid_tiny.yaml --root DATA --output DIR [--set k=v]``.

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
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import IO, Any, Literal, cast

import numpy as np
import torch
import yaml
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from reid import checkpoint
from reid.datasets.crops import Crops
from reid.datasets.folder import DatasetError, read_folder
from reid.datasets.split import TrackletSplit
from reid.evaluate import Results, as_plain, as_table, embed_split, evaluate_directions, fit_calibration, machine
from reid.extractor import XReIDExtractor
from reid.losses.total import Labels, Loss, LossConfig, Objective
from reid.models.encoder import EncoderWeightsError
from reid.models.xreid import MODALITIES, XReID, XReIDConfig
from reid.samplers import IdentityModalitySampler
from reid.transforms import Augmentation, Preprocessing, augment, to_input

_LOG = logging.getLogger(__name__)


class ConfigError(ValueError):
    """A training configuration that cannot be used."""


class BatchConfig(BaseModel):
    """P identities times K clips in each modality, times T frames.

    Attributes:
        identities: P.
        clips: K.
        frames: T.
        still_epochs: In the first epochs each clip is one frame, and there are T times as many identities: the same
            work, but more persons to tell apart while the encoder learns to see. 0 in the paper.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    identities: int = Field(default=4, ge=2)
    clips: int = Field(default=2, ge=1)
    frames: int = Field(default=10, ge=1)
    still_epochs: int = Field(default=0, ge=0)


class OptimiserConfig(BaseModel):
    """The optimiser and the course of its learning rate.

    Attributes:
        name: Adam or AdamW.
        lr: Greatest learning rate of the encoder.
        head_factor: SII, LII, CII and the classifiers learn at this multiple of it.
        weight_decay: Of matrices; biases, norms and embeddings have none.
        warmup_epochs: The rate rises linearly over these, from ``warmup_start`` of it.
        warmup_start: Share of the rate to begin with.
        schedule: ``step`` multiplies by 0.1 at each milestone; ``cosine`` falls to 1 % at the end.
        milestones: Epochs, for ``step``.
        clip_norm: Greatest norm of the gradient; None does not limit it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Literal["adam", "adamw"] = "adam"
    lr: float = Field(default=5e-6, gt=0)
    head_factor: float = Field(default=1.0, gt=0)
    weight_decay: float = Field(default=1e-4, ge=0)
    warmup_epochs: float = Field(default=10, ge=0)
    warmup_start: float = Field(default=0.1, ge=0, le=1)
    schedule: Literal["step", "cosine"] = "step"
    milestones: tuple[int, ...] = (30, 50)
    clip_norm: float | None = Field(default=None, gt=0)


class TrainConfig(BaseModel):
    """One training, complete.

    Attributes:
        name: Of the model.
        model: Its shape.
        preprocessing: Of crops.
        augmentation: Of training clips.
        augmentation_ramp_epochs: Its strength grows linearly over these; 0 gives all of it from the first step. From
            random weights the plain images are learnt in a fraction of the steps that varied ones take.
        loss: The objective.
        batch: Its composition.
        optimiser: And its schedule.
        epochs: Of ``iterations`` steps each.
        iterations: Steps an epoch.
        seed: Of weights, sampling and augmentation.
        precision: ``bf16`` computes the network under autocast; losses and weights stay float32.
        threads: For PyTorch on a CPU; None leaves its own choice.
        pretrained: CLIP weights to begin with: a file, or a tag of open_clip for ``architecture``; None: from nothing.
        initial: A checkpoint of X-ReID of the same shape, or the name of embedded weights, to go on from (to fine-tune
            on a site's own cameras, say); classifiers and memories begin anew.
        architecture: open_clip's name of the model, for the download of ``pretrained``.
        training_data: Note for the checkpoint.
        licence: Note for the checkpoint.
        half_on_disk: Keep the weights as float16 in the file.
        validate_every: Epochs between two looks at the validation split; the last epoch always gets one.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    model: XReIDConfig
    preprocessing: Preprocessing = Preprocessing()
    augmentation: Augmentation = Augmentation()
    augmentation_ramp_epochs: int = Field(default=0, ge=0)
    loss: LossConfig = LossConfig()
    batch: BatchConfig = BatchConfig()
    optimiser: OptimiserConfig = OptimiserConfig()
    epochs: int = Field(default=60, ge=1)
    iterations: int = Field(default=300, ge=1)
    seed: int = 1
    precision: Literal["float32", "bf16"] = "float32"
    threads: int | None = Field(default=None, ge=1)
    pretrained: str | None = None
    architecture: str | None = None
    initial: str | None = None
    training_data: str
    licence: str
    half_on_disk: bool = False
    validate_every: int = Field(default=5, ge=1)


def read_config(path: str | Path, changes: Sequence[str] = ()) -> TrainConfig:
    """Read a YAML configuration and apply changes such as ``optimiser.lr=1e-4``.

    Raises:
        ConfigError: When the file or a change cannot be read, or a value is not allowed, with its place.
    """
    try:
        data = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: {error}") from error
    if not isinstance(data, dict):
        raise ConfigError(f"{path}: must be a mapping, got {type(data).__name__}")
    for change in changes:
        key, found, value = change.partition("=")
        if not found:
            raise ConfigError(f"--set {change}: must be key=value")
        _assign(data, key.split("."), yaml.safe_load(value), change)
    try:
        # Through JSON, so that YAML's lists may stand for tuples and nothing else is bent.
        return TrainConfig.model_validate_json(json.dumps(data), strict=True)
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise ConfigError(f"{path}: {problems}") from error


def _assign(data: dict[str, Any], keys: list[str], value: object, change: str) -> None:
    for key in keys[:-1]:
        data = data.setdefault(key, {})
        if not isinstance(data, dict):
            raise ConfigError(f"--set {change}: {key} is not a section")
    data[keys[-1]] = value


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Clips as they lie in memory, with what the objective must know of them."""

    pixels: Tensor
    lengths: Tensor
    rows: NDArray[np.int64]
    labels: Labels


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
    """Four groups: encoder or not, with weight decay or not; each with its ``factor`` of the learning rate."""
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    named = [*model.named_parameters(), *objective.named_parameters()]
    for name, parameter in named:
        if parameter.requires_grad:
            factor = 1.0 if name.startswith("encoder.") else config.head_factor
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
        if config.pretrained:
            self.model.encoder.load_clip(config.pretrained, architecture=config.architecture)
        if config.initial:
            checkpoint.load_into(self.model, config.initial)
        modalities = len(data.split.modality_set)
        self.objective = Objective(config.model, config.loss, identities=len(data.pids), modalities=modalities)
        self.optimiser = build_optimiser(self.model, self.objective, config.optimiser)
        self.steps = 0

    def fill_memories(self) -> None:
        """Set the prototypes from one pass of the encoder as it is, over one frame of each training tracklet.

        Where the prototypes live behind the neck, its statistics come from the same pass: those it was made with (mean
        0, variance 1) are of no data.
        """
        features = self._projected_means()
        neck = self.model.necks[1]
        if self.config.loss.behind_necks and isinstance(neck, nn.BatchNorm1d):
            neck.running_mean = features.mean(dim=0)
            neck.running_var = features.var(dim=0)
            features = neck(features)
        labels = self.data.labels(np.arange(len(self.data.split), dtype=np.int64))
        self.objective.memory.initialise(features, labels.identities, labels.modalities)

    @torch.no_grad()
    def _projected_means(self, *, clips_at_once: int = 32) -> Tensor:
        """B of one clip of each training tracklet, in evaluation mode, (n, d)."""
        self.model.eval()
        out = []
        for rows in np.array_split(np.arange(len(self.data.split)), -(-len(self.data.split) // clips_at_once)):
            batch = self.data.batch(rows, frames=1)
            out.append(self.model(to_input(batch.pixels, self.config.preprocessing), batch.lengths).projected)
        return torch.cat(out)

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
            features = self.model.concatenated(images, torch.ones(len(rows), dtype=torch.int64))
            kinds = torch.tensor([MODALITIES.index(self.data.split.modalities[row]) for row in rows])
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
        bf16 = torch.autocast("cpu", torch.bfloat16, enabled=self.config.precision == "bf16")
        # On a CPU the fused attention is slower than plain products for clips of some dozens of tokens: its backward
        # pass took 30 % of a step of xreid-tiny.
        with bf16, sdpa_kernel(SDPBackend.MATH):
            features = self.model(to_input(images, self.config.preprocessing), batch.lengths)
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
    parser.add_argument("--config", required=True, type=Path)
    parser.add_argument("--root", required=True, type=Path, help="folder with tracklets.csv")
    parser.add_argument("--output", required=True, type=Path, help="folder for the checkpoint and the log")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="change the configuration")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    try:
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
