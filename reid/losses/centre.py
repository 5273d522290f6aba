"""Alignment of an identity's centres in the modalities, as in HHA (ICML 2026); beyond the paper, off in it."""

import torch
from torch import Tensor
from torch.nn import functional


def centre_alignment(features: Tensor, identities: Tensor, modalities: Tensor) -> Tensor:
    """Mean over identities and pairs of modalities of the squared distance of the identity's two centres.

    A centre is the mean, at unit length, of an identity's unit features in a modality.

    Args:
        features: (n, D); normalised here.
        identities: (n,) int64.
        modalities: (n,) int64, from 0.

    Returns:
        A scalar in [0, 4]; 0 where no identity of the batch is seen in two modalities.
    """
    unit = functional.normalize(features.float(), dim=1)
    present, row = torch.unique(identities, return_inverse=True)
    count = int(modalities.max()) + 1
    total = unit.new_zeros(count, len(present), unit.shape[1]).index_put((modalities, row), unit, accumulate=True)
    seen = torch.zeros(count, len(present), dtype=torch.bool, device=unit.device)
    seen[modalities, row] = True
    centres = functional.normalize(total, dim=2)
    square = (centres[:, None] - centres[None, :]).square().sum(dim=3)
    pair = (
        torch.ones(count, count, dtype=torch.bool, device=unit.device).triu(1)[..., None] & seen[:, None] & seen[None]
    )
    return torch.where(pair, square, square.new_zeros(())).sum() / pair.sum().clamp(min=1)
