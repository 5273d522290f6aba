"""One step of a training: the schedule, the optimiser, and a model that learns from a batch."""

import copy
import logging
import math
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from reid import checkpoint
from reid.datasets.split import DatasetError
from reid.distributed import Processes, is_distributed, share_batch_norms, sum_of_all
from reid.extractor import XReIDExtractor
from reid.loading import Batch, TrainingData, ahead
from reid.losses.total import Labels, Loss, Objective
from reid.models.xreid import MODALITIES, ClipFeatures, XReID
from reid.training_config import OptimiserConfig, TrainConfig
from reid.transforms import augment, to_input

_LOG = logging.getLogger(__name__)
ALONE = Processes(rank=0, world=1, local_rank=0, device=torch.device("cpu"))


def learning_rate(config: OptimiserConfig, epoch: float, epochs: int) -> float:
    """Multiple of ``config.lr`` at a time in epochs since the beginning, which may be fractional.

    With ``step`` the rate is that of the epoch's beginning. Counted from 1, as papers do, epoch e of the paper's
    training has 5e-6 (0.1 (1 - l/10) + l/10) with l = e - 1 up to l = 10, and a tenth of 5e-6 from l = 30.
    """
    if config.schedule == "step":
        epoch = math.floor(epoch)
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
        return torch.optim.Adam(settings, lr=config.lr, eps=config.eps, fused=True)
    return torch.optim.AdamW(settings, lr=config.lr, eps=config.eps, fused=True)


def computes_bf16_slowly(device: torch.device) -> bool:
    """Whether a device has to emulate bfloat16: processors without AVX-512 do, which alone brings it to x86."""
    return device.type == "cpu" and torch.backends.cpu.get_cpu_capability() in ("NO AVX", "AVX2")


@contextmanager
def _without_cameras(model: XReID) -> Iterator[None]:
    """Let camera embeddings, where there are any, add nothing: prototypes are of persons and not of cameras."""
    if model.config.camera_embedding == "none":
        yield
        return
    scale, model.camera_embedding.scale = model.camera_embedding.scale, 0.0
    try:
        yield
    finally:
        model.camera_embedding.scale = scale


class Pass(nn.Module):
    """One way through network and objective, as one module, which is what ``DistributedDataParallel`` can wrap."""

    def __init__(self, model: XReID, objective: Objective) -> None:
        super().__init__()
        self.model, self.objective = model, objective

    def forward(
        self, images: Tensor, batch: Batch, sent: tuple[Tensor, ...] | None = None, share: float = 1.0
    ) -> tuple[Tensor, Loss]:
        """The scalar to go backward from, and the losses for the log.

        Args:
            images: Normalised frames.
            batch: Whose they are.
            sent: The gradient of each of the features' ``parts``, where the losses that compare clips are known
                already; None: they are computed.
            share: Of the whole batch that these clips are; with ``sent`` only.
        """
        features = self.features(images, batch)
        if sent is None:
            loss: Loss = self.objective(self.model, features, batch.labels)
            return loss.total, loss
        loss = self.objective.of_clips(features, batch.labels)
        inner = [(part.float() * gradient).sum() for part, gradient in zip(features.parts, sent, strict=True)]
        return share * loss.total + torch.stack(inner).sum(), loss

    def features(self, images: Tensor, batch: Batch) -> ClipFeatures:
        """Of the clips."""
        found: ClipFeatures = self.model(images, batch.lengths, batch.kinds, batch.cameras)
        return found


class Trainer:
    """A model, its objective, and all that moves with every step.

    Args:
        config: What to do.
        data: On whom.
        processes: This process among those that train together.
    """

    def __init__(self, config: TrainConfig, data: TrainingData, processes: Processes = ALONE) -> None:
        torch.manual_seed(config.seed)
        self.config, self.data, self.processes, self.device = config, data, processes, processes.device
        if config.precision == "bf16" and computes_bf16_slowly(self.device):
            _LOG.warning(
                "precision: bf16 is emulated on this processor, which has no instructions for it, and slows the "
                "training down several times; --set precision=float32 does not"
            )
        self.model = XReID(config.model)
        self._know_cameras()
        if config.pretrained:
            self.model.encoder.load_clip(config.pretrained, architecture=config.architecture)
        if config.initial:
            checkpoint.load_into(self.model, config.initial)
        modalities = len(data.split.modality_set)
        self.objective = Objective(
            config.model,
            config.loss,
            identities=len(data.pids),
            modalities=modalities,
            attributes=None if data.attributes is None else torch.from_numpy(data.attributes),
        )
        self.model.to(self.device)
        self.objective.to(self.device)
        share_batch_norms(self.model.encoder)
        self.optimiser = build_optimiser(self.model, self.objective, config.optimiser)
        self.steps = 0
        if config.compile:
            self.model.encoder.compile(backend=config.compile)
        self._pass = Pass(self.model, self.objective)
        self._parallel: nn.Module = self._pass
        if is_distributed():
            # Necks and memories are equal everywhere; CII has no part in a batch of single frames.
            self._parallel = DistributedDataParallel(self._pass, broadcast_buffers=False, find_unused_parameters=True)

    @property
    def camera_names(self) -> tuple[str, ...]:
        """Of the cameras that have a vector, in the order of the vectors; none in a model without camera vectors."""
        return () if self.config.model.camera_embedding == "none" else self.data.split.camera_names

    def _know_cameras(self) -> None:
        """Tell the camera embeddings, where there are any, which cameras see which modality."""
        model, split = self.config.model, self.data.split
        if model.camera_embedding == "none":
            return
        if model.cameras != len(split.camera_names):
            raise DatasetError(
                f"model.cameras is {model.cameras}, but the training split has {len(split.camera_names)} cameras: "
                f"--set model.cameras={len(split.camera_names)}"
            )
        self.model.camera_embedding.learn_modalities(*self.data.cameras())

    @torch.no_grad()
    def fill_memories(self) -> None:
        """Set the prototypes from one pass of the network as it is, over one clip of each training tracklet.

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
        labels = self.data.labels()
        identities, memories = self.objective.memory_labels(labels)
        self.objective.memory.initialise(
            torch.cat(features, dim=1), identities.to(self.device), memories.to(self.device)
        )

    def _parts_of_all(self) -> list[Tensor]:
        """Each part of a clip of each training tracklet, in evaluation mode, without camera embeddings: (n, ...).

        The clips are such as the next batch has: single frames in the still epochs, else T. Each process computes its
        share.
        """
        self.model.eval()
        still = self.steps < self.config.batch.still_epochs * self.config.iterations
        frames = 1 if still else self.config.batch.frames
        purpose = ("memories", self.steps // self.config.iterations)
        count = len(self.data.split)
        out = [torch.zeros(count, width, device=self.device) for width in self.config.model.feature_widths]
        for rows, batch in self._clips_of_all(frames, purpose):
            images = to_input(batch.pixels, self.config.preprocessing)
            with _without_cameras(self.model):
                features = self.model(images, batch.lengths, batch.kinds)
            for found, part in zip(out, features.parts, strict=True):
                found[rows] = part.float()
        return [sum_of_all(found) for found in out]

    def _clips_of_all(self, frames: int, purpose: tuple[str, int]) -> Iterator[tuple[Tensor, Batch]]:
        """This process's share of the training tracklets, some at a time: their rows, and a clip of each."""
        mine = np.arange(self.processes.rank, len(self.data.split), self.processes.world)
        at_once = max(1, 128 // frames)
        chunks = [mine[begin : begin + at_once] for begin in range(0, len(mine), at_once)]
        clips = partial(self.data.tracklets, frames=frames, purpose=purpose)
        for rows, batch in zip(chunks, ahead(clips, chunks, self.config.loader), strict=True):
            yield torch.from_numpy(rows).to(self.device), batch.to(self.device)

    @torch.no_grad()
    def set_centres(self) -> None:
        """Take the centres of the modalities, where the model has them, from one frame of each training tracklet.

        In a distributed run every process must come here.
        """
        if not self.config.model.centre_modalities:
            return
        self.model.eval()
        total = torch.zeros_like(self.model.centres)
        counts = torch.zeros(len(total), device=self.device)
        for _, batch in self._clips_of_all(1, ("centres", 0)):
            images = to_input(batch.pixels, self.config.preprocessing)
            features = self.model.concatenated(images, batch.lengths, batch.kinds)
            total.index_add_(0, batch.kinds, features)
            counts += torch.bincount(batch.kinds, minlength=len(counts))
        total, counts = sum_of_all(total), sum_of_all(counts)
        self.model.centres.copy_(total / counts.clamp(min=1)[:, None])

    def rate(self, step: int) -> float:
        """The learning rate of the encoder in a step, counted from 0."""
        config = self.config
        return config.optimiser.lr * learning_rate(config.optimiser, step / config.iterations, config.epochs)

    def step(self, parts: list[Batch]) -> dict[str, float]:
        """Forward and backward passes over a batch and one update of weights and memories.

        Args:
            parts: This process's share of the batch, in as many parts as are accumulated.

        Returns:
            The losses for the log; those that do not compare clips are of this process's own.
        """
        self.model.train()
        self.objective.train()
        rate = self.rate(self.steps)
        for group in self.optimiser.param_groups:
            group["lr"] = rate * group["factor"]
        self.optimiser.zero_grad(set_to_none=True)
        inputs = [(self._images(part), part.to(self.device)) for part in parts]
        breakdown = self._backward(inputs)
        if self.config.optimiser.clip_norm:
            parameters = [p for group in self.optimiser.param_groups for p in group["params"]]
            nn.utils.clip_grad_norm_(parameters, self.config.optimiser.clip_norm)
        self.optimiser.step()
        self.steps += 1
        return breakdown

    def _backward(self, inputs: list[tuple[Tensor, Batch]]) -> dict[str, float]:
        """Leave the gradient of the whole batch's loss in the parameters; see ``BatchConfig.accumulate``."""
        if len(inputs) == 1:
            with self._autocast():
                total, loss = self._parallel(*inputs[0])
            total.backward()
            return dict(loss.breakdown)
        whole, sent = self._compare(inputs)
        breakdown = dict(whole.breakdown)
        for (images, batch), gradients, is_last in zip(inputs, sent, _last(len(inputs)), strict=True):
            with self._together(is_last):
                with self._autocast():
                    total, loss = self._parallel(images, batch, gradients, 1 / len(inputs))
                total.backward()
            for name, value in loss.breakdown.items():
                breakdown[name] = breakdown.get(name, 0.0) + value / len(inputs)
        return breakdown

    def _compare(self, inputs: list[tuple[Tensor, Batch]]) -> tuple[Loss, list[tuple[Tensor, ...]]]:
        """The losses that compare clips, over all parts together, and the gradient of each part's features."""
        with torch.no_grad(), self._autocast(), _buffers_kept(self.model):
            each = [self._pass.features(images, batch).parts for images, batch in inputs]
        parts = tuple(torch.cat([part.float() for part in same]).requires_grad_() for same in zip(*each, strict=True))
        labels = Labels(
            torch.cat([batch.identities for _, batch in inputs]), torch.cat([batch.modalities for _, batch in inputs])
        )
        with self._autocast():
            loss = self.objective.of_batch(self.model, parts, labels)
        loss.total.backward()  # type: ignore[no-untyped-call]
        sizes = [len(batch.lengths) for _, batch in inputs]
        gradients = [torch.split(_gradient(part), sizes) for part in parts]
        return loss, list(zip(*gradients, strict=True))

    def _together(self, is_last: bool) -> AbstractContextManager[None]:
        """Processes add their gradients up once a batch, in the backward pass of its last part."""
        if is_last or not isinstance(self._parallel, DistributedDataParallel):
            return nullcontext()
        return cast(AbstractContextManager[None], self._parallel.no_sync())

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.config.precision == "bf16")

    def _images(self, batch: Batch) -> Tensor:
        """The augmented, normalised frames of a batch, on the device."""
        config = self.config
        images = batch.pixels.to(self.device, non_blocking=True).permute(0, 3, 1, 2).float() / 255
        modalities = [MODALITIES[kind] for kind in batch.kinds.tolist()]
        ramp = config.augmentation_ramp_epochs * config.iterations
        varied = augment(
            images,
            batch.lengths,
            modalities,
            config.augmentation.weakened(min(1.0, self.steps / ramp) if ramp else 1.0),
            (config.seed << 32) + self.steps,
            numbers=batch.numbers.tolist(),
        )
        return to_input(varied, config.preprocessing)

    def extractor(self) -> XReIDExtractor:
        """A copy of the model as it is, behind the interface that users see."""
        model = copy.deepcopy(self.model)
        return XReIDExtractor(
            model,
            self.config.preprocessing,
            model_id=self.config.name,
            calibration=None,
            cameras=self.camera_names,
            device=self.device,
        )

    def state(self) -> dict[str, Any]:
        """All that moves, to go on from."""
        state = {
            "steps": self.steps,
            "model": self.model.state_dict(),
            "objective": self.objective.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "random": torch.get_rng_state(),
        }
        if self.device.type == "cuda":
            state["random_cuda"] = torch.cuda.get_rng_state(self.device)
        return state

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Take what ``state`` gave.

        Raises:
            RuntimeError: When it is of another model.
        """
        self.steps = int(state["steps"])
        self.model.load_state_dict(state["model"])
        self.objective.load_state_dict(state["objective"])
        self.optimiser.load_state_dict(state["optimiser"])
        torch.set_rng_state(state["random"])
        if self.device.type == "cuda" and "random_cuda" in state:
            torch.cuda.set_rng_state(state["random_cuda"], self.device)


def _last(count: int) -> list[bool]:
    return [number == count - 1 for number in range(count)]


def _gradient(leaf: Tensor) -> Tensor:
    """Zero where no loss looked at it."""
    return torch.zeros_like(leaf) if leaf.grad is None else leaf.grad


@contextmanager
def _buffers_kept(module: nn.Module) -> Iterator[None]:
    """Undo what a pass does to running statistics."""
    before = [(buffer, buffer.clone()) for buffer in module.buffers()]
    try:
        yield
    finally:
        for buffer, value in before:
            buffer.copy_(value)
