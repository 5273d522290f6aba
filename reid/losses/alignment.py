"""Clips of one person found among the batch's clips of each modality; beyond the paper, off in it.

The symmetric cross-entropy of CLIP (Radford et al. 2021, section 2.3), with modalities in the place of image and text.
Unlike CPCL it sends gradient to both sides and needs no memory, so it works from the first step of a training from
random weights.
"""

import torch
from torch import Tensor
from torch.nn import functional


def cross_modal_alignment(
    features: Tensor, identities: Tensor, modalities: Tensor, *, temperature: float = 0.1
) -> Tensor:
    """Mean over clips a and modalities n of -log (Σ_{b ∈ n, same person} e^<a,b>/τ / Σ_{b ∈ n} e^<a,b>/τ), b not a.

    The own modality is among them: where K > 1 its pairs are the easy ones that a training from nothing begins with.

    Args:
        features: (n, d); normalised here.
        identities: (n,) int64.
        modalities: (n,) int64.
        temperature: τ.

    Returns:
        A scalar; a clip without another of its person in a modality has no term there, and 0 is the loss of no terms.
    """
    unit = functional.normalize(features.float(), dim=1)
    with torch.autocast(unit.device.type, enabled=False):
        logits = unit @ unit.T / temperature
    itself = torch.eye(len(unit), dtype=torch.bool, device=unit.device)
    same = identities[:, None] == identities[None, :]
    total, terms = logits.new_zeros(()), logits.new_zeros(())
    for modality in torch.unique(modalities):
        gallery = (modalities == modality) & ~itself
        positive = same & gallery
        counted = positive.any(dim=1)
        everything = logits.masked_fill(~gallery, -torch.inf).logsumexp(dim=1)
        right = logits.masked_fill(~positive, -torch.inf)[counted].logsumexp(dim=1)
        total = total + (everything[counted] - right).sum()
        terms = terms + counted.sum()
    return total / terms.clamp(min=1)
