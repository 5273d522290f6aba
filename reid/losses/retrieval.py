"""Cross-modality retrieval loss of M3-ReID (TIFS 2025); beyond the paper, off in it."""

import torch
from torch import Tensor
from torch.nn import functional


def cross_modality_retrieval(features: Tensor, identities: Tensor, modalities: Tensor) -> Tensor:
    """Mean over the anchors of log(1 + e^-(mean d to negatives - mean d to positives)), both of other modalities.

    d = (1 - cosine) / 2, in [0, 1].

    Args:
        features: (n, D); normalised here.
        identities: (n,) int64.
        modalities: (n,) int64.

    Returns:
        A scalar; an anchor without a positive or without a negative in another modality does not count, and 0 is the
        loss of none.
    """
    unit = functional.normalize(features.float(), dim=1)
    with torch.autocast(unit.device.type, enabled=False):
        distance = (1 - unit @ unit.T) / 2
    other = modalities[:, None] != modalities[None, :]
    same = identities[:, None] == identities[None, :]
    positive, negative = same & other, ~same & other
    counted = positive.any(dim=1) & negative.any(dim=1)
    near = (distance * positive).sum(dim=1) / positive.sum(dim=1).clamp(min=1)
    far = (distance * negative).sum(dim=1) / negative.sum(dim=1).clamp(min=1)
    loss = functional.softplus(near - far) * counted
    return loss.sum() / counted.sum().clamp(min=1)
