"""Batch-hard triplet loss (Hermans et al., "In Defense of the Triplet Loss", 2017, Eq. 5)."""

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

Metric = Literal["euclidean", "unit_euclidean"]


def batch_hard_triplet(
    features: Tensor, identities: Tensor, *, margin: float = 0.3, metric: Metric = "euclidean"
) -> Tensor:
    """L_tri of Eq. 10: mean over anchors of max(0, margin + farthest positive - nearest negative), modalities mixed.

    Args:
        features: (n, D).
        identities: (n,) int64.
        margin: In units of the distance.
        metric: Distance between the features as they are, or at unit length.

    Returns:
        A scalar; anchors without a positive or without a negative do not count, and 0 is the loss of none.
    """
    features = features.float()
    if metric == "unit_euclidean":
        features = functional.normalize(features, dim=1)
    square = (features[:, None] - features[None, :]).square().sum(dim=2)
    distance = square.clamp(min=1e-12).sqrt()
    same = identities[:, None] == identities[None, :]
    positive = same & ~torch.eye(len(features), dtype=torch.bool, device=features.device)
    farthest = distance.masked_fill(~positive, -torch.inf).amax(dim=1)
    nearest = distance.masked_fill(same, torch.inf).amin(dim=1)
    counted = positive.any(dim=1) & (~same).any(dim=1)
    hinge = torch.where(counted, functional.relu(margin + farthest - nearest), farthest.new_zeros(()))
    return hinge.sum() / counted.sum().clamp(min=1)
