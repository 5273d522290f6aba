"""The clips of all processes of a distributed run, as if one process had them all; plain identity in a single one.

Losses that compare clips with each other, necks, and the memories see the gathered batch, the same in every process, so
memories stay equal without being sent. The gradient of a gathered row is the sum over all processes; together with
``DistributedDataParallel``, which averages, parameters get the gradient that one process with all clips would get.
"""

import torch
from torch import Tensor, distributed
from torch.distributed.nn.functional import all_gather


def is_distributed() -> bool:
    """Whether this process is one of several."""
    return distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1


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
