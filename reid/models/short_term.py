"""SII, short-term information interaction: a CLS token looks at patches mixed with the neighbours' (Eq. 5-6)."""

import torch
from torch import Tensor, nn

from reid.models.attention import CrossAttentionBlock


def shift_channels(patches: Tensor, lengths: Tensor, *, stride: int = 1) -> Tensor:
    """Replace the first quarter of the channels by the previous frame's, the second by the next frame's (Eq. 5).

    A neighbour that does not exist is replaced by the frame itself. The input is not written to.

    Args:
        patches: z^p, (B, T, N, D), D a multiple of 4.
        lengths: (B,) int64, frames of each clip, 1 to T; frames behind it are padding.
        stride: How far away the neighbours are; 1 in the paper.

    Returns:
        ẑ^p, (B, T, N, D).
    """
    quarter = patches.shape[-1] // 4
    frame = torch.arange(patches.shape[1], device=patches.device).expand(patches.shape[:2])
    clip = torch.arange(len(patches), device=patches.device)[:, None]
    before, after = frame - stride, frame + stride
    before = torch.where(before >= 0, before, frame)
    after = torch.where(after < lengths[:, None], after, frame)
    return torch.cat(
        [
            patches[..., :quarter][clip, before],
            patches[..., quarter : 2 * quarter][clip, after],
            patches[..., 2 * quarter :],
        ],
        dim=-1,
    )


class ShortTerm(nn.Module):
    """O^SII: for each frame FFN(MHCA(query = z_t^cls, key = value = ẑ_t^p)) (Eq. 6)."""

    def __init__(self, block: CrossAttentionBlock, *, stride: int = 1) -> None:
        super().__init__()
        self.block = block
        self.stride = stride

    def forward(self, cls: Tensor, patches: Tensor, lengths: Tensor) -> Tensor:
        """Compute O^SII.

        Args:
            cls: (B, T, D).
            patches: (B, T, N, D).
            lengths: (B,) int64.

        Returns:
            (B, T, D); rows of padding frames mean nothing.
        """
        shifted = shift_channels(patches, lengths, stride=self.stride)
        out: Tensor = self.block(cls.flatten(0, 1)[:, None], shifted.flatten(0, 1))
        return out[:, 0].view_as(cls)
