"""Fusion of the short-term and the long-term feature (Eq. 8)."""

from collections.abc import Sequence

import torch
from torch import Tensor


def fuse(outputs: Sequence[Tensor]) -> Tensor:
    """O = Mean(O^SII + O^LII), element by element (Eq. 8); with one interaction it is that one.

    Args:
        outputs: (B, T, D) each, at least one.

    Returns:
        (B, T, D).
    """
    return torch.stack(tuple(outputs)).mean(dim=0)
