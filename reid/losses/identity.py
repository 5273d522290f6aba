"""Identity cross-entropy: one classifier over the training identities."""

import torch
from torch import Tensor, nn
from torch.nn import functional


class IdentityLoss(nn.Module):
    """L_ce of Eq. 10 on one feature.

    Args:
        width: Of the feature.
        identities: Y.
        smoothing: Label smoothing; 0 in the paper.
    """

    def __init__(self, width: int, identities: int, *, smoothing: float = 0.0) -> None:
        super().__init__()
        self.classifier = nn.Linear(width, identities, bias=False)
        nn.init.normal_(self.classifier.weight, std=1e-3)
        self.smoothing = smoothing

    def forward(self, features: Tensor, identities: Tensor) -> Tensor:
        """Mean cross-entropy of (n, width) features with (n,) int64 identities, 0 to Y - 1; a scalar, at least 0."""
        with torch.autocast(features.device.type, enabled=False):
            logits = self.classifier(features.float())
            return functional.cross_entropy(logits, identities, label_smoothing=self.smoothing)
