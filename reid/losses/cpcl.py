"""CPCL, the contrastive loss of clips against the prototypes of all modalities (Eq. 3-4)."""

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from reid.prototypes import PrototypeMemory

Denominator = Literal["all", "batch"]


def cpcl(
    features: Tensor,
    identities: Tensor,
    memory: PrototypeMemory,
    *,
    temperature: float = 0.05,
    denominator: Denominator = "all",
    own_of: Tensor | None = None,
) -> Tensor:
    """Sum over the memories m of -log softmax(<b, M^m> / τ)_y, each averaged over the clips that it is of.

    Those are the clips of all modalities, or with ``own_of`` those of the memory's own: each modality then has the same
    weight, however many clips it has.

    The paper states no temperature; without one, cosines over hundreds of identities give an almost flat softmax.

    Args:
        features: b, (n, d); normalised here.
        identities: (n,) int64, y.
        memory: M; an identity without a prototype in a memory takes no part in that memory's term.
        temperature: τ.
        denominator: Over ``all`` identities, or those in the ``batch`` (P, as the paper writes it).
        own_of: (n,) int64, modalities: compare each clip with the memory of its own modality only, as the PCL baseline
            and the row "Cross-modal update" of Tab. 4 do; None: with all memories (Eq. 3-4).

    Returns:
        A scalar; 0 where no memory has a prototype of any of the identities.
    """
    unit = functional.normalize(features.float(), dim=1)
    # A copy, because the memories may move between this and the backward pass.
    prototypes = memory.prototypes.clone()
    with torch.autocast(unit.device.type, enabled=False):
        logits = torch.einsum("nd,myd->mny", unit, prototypes) / temperature
    allowed = memory.filled
    if denominator == "batch":
        in_batch = torch.zeros_like(allowed[0])
        in_batch[identities] = True
        allowed = allowed & in_batch
    log_probability = logits.masked_fill(~allowed[:, None, :], -torch.inf).log_softmax(dim=2)
    own = log_probability.gather(2, identities.expand(len(logits), -1)[..., None])[..., 0]
    counted = memory.filled[:, identities]
    if own_of is not None:
        counted = counted & (torch.arange(len(counted), device=unit.device)[:, None] == own_of[None, :])
    total = torch.where(counted, own, own.new_zeros(())).sum(dim=1)
    return -(total / counted.sum(dim=1).clamp(min=1)).sum()
