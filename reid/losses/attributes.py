"""Attribute cross-entropy: what a person wears and carries, told from each feature; beyond the paper, off in it.

Lin et al., "Improving Person Re-identification by Attribute and Identity Learning", Pattern Recognition 2019, section
3: identities share attributes, so that a few thousand people give every class thousands of examples, and a training
from random weights has something to see by before it can tell identities apart.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional


class AttributeLoss(nn.Module):
    """Mean cross-entropy over attributes, each with a linear classifier on one feature that begins at the frequencies.

    Args:
        width: Of the feature.
        classes: (Y, A) int64, the class of each training identity in each attribute, from 0 without gaps.
    """

    classes: Tensor

    def __init__(self, width: int, classes: Tensor) -> None:
        super().__init__()
        self.register_buffer("classes", classes)
        self.counts = [int(count) + 1 for count in classes.amax(dim=0)]
        self.classifier = nn.Linear(width, sum(self.counts))
        nn.init.normal_(self.classifier.weight, std=1e-3)
        with torch.no_grad():
            shares = [torch.bincount(column) / len(classes) for column in classes.T]
            self.classifier.bias.copy_(torch.cat(shares).log())

    def forward(self, features: Tensor, identities: Tensor) -> Tensor:
        """Mean over (n, width) features with (n,) int64 identities and over attributes; at least 0."""
        with torch.autocast(features.device.type, enabled=False):
            logits = self.classifier(features.float()).split(self.counts, dim=1)
        wanted = self.classes[identities].unbind(dim=1)
        each = [functional.cross_entropy(x, y) for x, y in zip(logits, wanted, strict=True)]
        return torch.stack(each).mean()
