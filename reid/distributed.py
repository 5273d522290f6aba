"""Several processes that train as one: who they are, and the clips of all of them as if one process had them all.

Losses that compare clips with each other, necks, and the memories see the gathered batch, the same in every process, so
memories stay equal without being sent. The gradient of a gathered row is the sum over all processes; together with
``DistributedDataParallel``, which averages, parameters get the gradient that one process with all clips would get.

In a single process everything here does nothing.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal, TypeVar

import torch
from torch import Tensor, distributed, nn
from torch.distributed.nn.functional import all_gather, all_reduce

T = TypeVar("T")

# Rank 0 evaluates and prepares data while the others wait.
_PATIENCE = timedelta(hours=6)


class DeviceError(ValueError):
    """A device that is asked for and not there."""


@dataclass(frozen=True, slots=True)
class Processes:
    """One of the processes of a training.

    Attributes:
        rank: Which it is.
        world: How many there are.
        local_rank: Which it is on its machine.
        device: Where it computes.
    """

    rank: int
    world: int
    local_rank: int
    device: torch.device

    @property
    def is_first(self) -> bool:
        """Whether it is the one that writes."""
        return self.rank == 0


@contextmanager
def joined(device: Literal["auto", "cpu", "cuda"]) -> Iterator[Processes]:
    """Join the processes that ``torchrun`` started, as its environment variables say; alone without them.

    gloo connects processes that compute on CPUs, NCCL those with a GPU each.

    Raises:
        DeviceError: When a GPU is asked for that is not there.
    """
    world, rank, local_rank = (int(os.environ.get(name, default)) for name, default in _VARIABLES.items())
    here = _device(device, local_rank)
    if here.type == "cuda":
        torch.cuda.set_device(here)
    begun = world > 1 and not distributed.is_initialized()
    if begun:
        distributed.init_process_group("nccl" if here.type == "cuda" else "gloo", timeout=_PATIENCE)
    try:
        yield Processes(rank, world, local_rank, here)
    finally:
        if begun:
            distributed.destroy_process_group()


_VARIABLES = {"WORLD_SIZE": "1", "RANK": "0", "LOCAL_RANK": "0"}


def _device(name: Literal["auto", "cpu", "cuda"], local_rank: int) -> torch.device:
    if name == "cpu" or (name == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    if local_rank >= torch.cuda.device_count():
        raise DeviceError(
            f"device {name}: process {local_rank} of this machine needs a GPU of its own, and there are "
            f"{torch.cuda.device_count()}"
        )
    return torch.device("cuda", local_rank)


def is_distributed() -> bool:
    """Whether this process is one of several."""
    return distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1


def wait_for_all() -> None:
    """Return when every process has come here."""
    if is_distributed():
        distributed.barrier()


def from_first(value: T) -> T:
    """What the first process has, in every process."""
    if not is_distributed():
        return value
    box = [value]
    distributed.broadcast_object_list(box)
    return box[0]


def any_of(flags: Sequence[bool], device: torch.device) -> list[bool]:
    """Which of the flags are set in any process, the same answer in all."""
    if not is_distributed():
        return list(flags)
    numbers = torch.tensor([float(flag) for flag in flags], device=device)
    distributed.all_reduce(numbers, distributed.ReduceOp.MAX)
    return [number > 0 for number in numbers.tolist()]


def sum_of_all(values: Tensor) -> Tensor:
    """The sum over the processes, without gradient."""
    if is_distributed():
        values = values.clone()
        distributed.all_reduce(values)
    return values


def mean_of_all(values: Mapping[str, float], device: torch.device) -> dict[str, float]:
    """The mean over the processes, which must have the same names in the same order."""
    if not is_distributed():
        return dict(values)
    total = sum_of_all(torch.tensor(list(values.values()), dtype=torch.float64, device=device))
    return dict(zip(values, (total / distributed.get_world_size()).tolist(), strict=True))


def gather_features(rows: Tensor) -> Tensor:
    """(n, ...) of this process to (W n, ...) of all, with gradient; n must be the same everywhere."""
    if not is_distributed():
        return rows
    return torch.cat(all_gather(rows.contiguous()))  # type: ignore[no-untyped-call]


def gather_labels(rows: Tensor) -> Tensor:
    """(n,) of this process to (W n,) of all."""
    if not is_distributed():
        return rows
    parts = [torch.empty_like(rows) for _ in range(distributed.get_world_size())]
    distributed.all_gather(parts, rows.contiguous())
    return torch.cat(parts)


class SharedBatchNorm2d(nn.BatchNorm2d):
    """Batch normalisation over the images of all processes, which must have equally many; on any device.

    ``torch.nn.SyncBatchNorm`` is for GPUs only.
    """

    def forward(self, x: Tensor) -> Tensor:
        """(n, C, H, W) to (n, C, H, W)."""
        if not (self.training and is_distributed()):
            return super().forward(x)
        wide = x.float()
        moments = torch.stack([wide.mean(dim=(0, 2, 3)), wide.square().mean(dim=(0, 2, 3))])
        mean, square = all_reduce(moments) / distributed.get_world_size()  # type: ignore[no-untyped-call]
        variance = (square - mean.square()).clamp(min=0)
        self._remember(mean.detach(), variance.detach(), x.numel() // x.shape[1] * distributed.get_world_size())
        out: Tensor = (wide - mean[:, None, None]) / (variance + self.eps).sqrt()[:, None, None]
        return (out * self.weight[:, None, None] + self.bias[:, None, None]).to(x.dtype)

    @torch.no_grad()
    def _remember(self, mean: Tensor, variance: Tensor, count: int) -> None:
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked += 1
        momentum = 0.1 if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean, momentum)
        self.running_var.lerp_(variance * count / max(count - 1, 1), momentum)


def share_batch_norms(module: nn.Module) -> None:
    """Let the two-dimensional batch normalisations of a network see the images of all processes."""
    if not is_distributed():
        return
    for inner in module.modules():
        if type(inner) is nn.BatchNorm2d:
            inner.__class__ = SharedBatchNorm2d
