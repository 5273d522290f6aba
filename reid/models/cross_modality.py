"""CII, cross-modality information interaction: a feature looks at the other modality's patches. Training only."""

import torch
from torch import Tensor, nn

from reid.models.attention import SelfAttentionBlock


class CrossModality(nn.Module):
    """One branch of CII: token 0 of FFN(MHSA([Ō ; z_t^p])), averaged over the partner's frames (paper section 3.3).

    Ō is a clip's pooled SII (or LII) feature; z_t^p are the raw patches of the clip of the same person in the other
    modality, which stands at the same index of that modality's half of the batch. The paper says that the two are
    joined along the channels, but its shape (N + 1) × D makes it the tokens.

    Args:
        block: Attention over the N + 1 tokens; shared by both directions.
        frames: Use only this many of the partner's frames, the first ones; None for all, as in the paper.
    """

    def __init__(self, block: SelfAttentionBlock, *, frames: int | None = None) -> None:
        super().__init__()
        self.block = block
        self.frames = frames

    def forward(self, pooled: Tensor, partner_patches: Tensor) -> Tensor:
        """Compute O_CMII.

        Args:
            pooled: Ō, (B, D).
            partner_patches: (B, T, N, D), all T frames valid.

        Returns:
            (B, D).
        """
        patches = partner_patches[:, : self.frames]
        query = pooled[:, None, None].expand(-1, patches.shape[1], 1, -1)
        tokens = self.block(torch.cat([query, patches], dim=2).flatten(0, 1))
        first: Tensor = tokens[:, 0].view(*patches.shape[:2], -1)
        return first.mean(dim=1)
