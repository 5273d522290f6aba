"""Camera embeddings (TransReID's SIE): a learnt vector a camera, added to the CLS token; and what a new site does.

The paper does not mention them; the released code has them. A camera that was never trained has no vector. So the
policy is part of the model: ``zero`` adds nothing for such a camera, ``modality_mean`` adds the mean of the trained
cameras that saw its modality.
"""

from typing import Literal

import torch
from torch import Tensor, nn

Policy = Literal["none", "zero", "modality_mean"]
UNKNOWN = -1  # the camera index of one that was never trained


class CameraEmbedding(nn.Module):
    """One vector for each trained camera.

    Args:
        cameras: Trained cameras, C. HITSZ-VCM: 12, shared by both modalities; BUPTCampus: 6.
        modalities: Of the model, M.
        width: D.
        policy: For cameras that were never trained; not ``none``.
        scale: Coefficient of the vector; 1 in the released code.
    """

    seen: Tensor

    def __init__(self, cameras: int, modalities: int, width: int, *, policy: Policy, scale: float = 1.0) -> None:
        super().__init__()
        self.policy = policy
        self.scale = scale
        self.vectors = nn.Parameter(torch.zeros(cameras, width))
        nn.init.trunc_normal_(self.vectors, std=0.02)
        self.register_buffer("seen", torch.zeros(modalities, cameras, dtype=torch.bool))

    @torch.no_grad()
    def learn_modalities(self, cameras: Tensor, modalities: Tensor) -> None:
        """Note which cameras see which modality, from the training tracklets: (n,) int64 each."""
        self.seen[modalities, cameras] = True

    def forward(self, cameras: Tensor, modalities: Tensor) -> Tensor:
        """What to add to the CLS token of each clip.

        Args:
            cameras: (B,) int64, 0 to C - 1, or ``UNKNOWN``.
            modalities: (B,) int64, 0 to M - 1.

        Returns:
            (B, D).
        """
        known = cameras >= 0
        own = self.vectors[cameras.clamp(min=0)]
        return self.scale * torch.where(known[:, None], own, self._of_strangers()[modalities])

    def _of_strangers(self) -> Tensor:
        """(M, D)."""
        weights = self.seen.to(self.vectors.dtype)
        if self.policy == "zero":
            weights = torch.zeros_like(weights)
        return weights @ self.vectors / weights.sum(dim=1, keepdim=True).clamp(min=1)
