"""LII, long-term information interaction: a frame's CLS token looks at the patches S frames ahead (Eq. 7)."""

from typing import Literal

import torch
from torch import Tensor, nn

from reid.models.attention import CrossAttentionBlock

Boundary = Literal["circular", "clamp"]


def frames_ahead(frames: int, lengths: Tensor, *, step: int, boundary: Boundary) -> Tensor:
    """Which frame's patches each CLS token looks at: τ + S of Eq. 7.

    Args:
        frames: T, the padded length.
        lengths: (B,) int64, frames of each clip, 1 to T.
        step: S; 0 is the frame itself, and a negative one looks back, as the released code does (-1).
        boundary: Beyond the last frame, begin again (``circular``) or stay on the last (``clamp``). Not in the paper.

    Returns:
        (B, T) int64, each within its own clip; padding frames look at their clip too.
    """
    ahead = torch.arange(frames, device=lengths.device) + step
    if boundary == "circular":
        return ahead[None, :] % lengths[:, None]
    return torch.minimum(ahead.clamp(min=0)[None, :], lengths[:, None] - 1)


class LongTerm(nn.Module):
    """O^LII: for each frame τ FFN(MHCA(query = z_τ^cls, key = value = z_{τ+S}^p)) (Eq. 7), S = 2 in the paper."""

    def __init__(self, block: CrossAttentionBlock, *, step: int = 2, boundary: Boundary = "circular") -> None:
        super().__init__()
        self.block = block
        self.step = step
        self.boundary: Boundary = boundary

    def forward(self, cls: Tensor, patches: Tensor, lengths: Tensor) -> Tensor:
        """Compute O^LII (Eq. 7).

        Args:
            cls: (B, T, D).
            patches: (B, T, N, D).
            lengths: (B,) int64.

        Returns:
            (B, T, D), indexed by the frame that asks; rows of padding frames mean nothing.
        """
        index = frames_ahead(patches.shape[1], lengths, step=self.step, boundary=self.boundary)
        clip = torch.arange(len(patches), device=patches.device)[:, None] * patches.shape[1]
        ahead = patches.flatten(0, 1).index_select(0, (clip + index).flatten())
        out: Tensor = self.block(cls.flatten(0, 1)[:, None], ahead)
        return out[:, 0].view_as(cls)
