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
    frames = patches.shape[1]
    if stride == 0:
        return patches
    quarter = patches.shape[-1] // 4
    first, second, rest = patches[..., :quarter], patches[..., quarter : 2 * quarter], patches[..., 2 * quarter :]
    frame = torch.arange(frames, device=patches.device)
    has_before = (frame >= stride)[:, None, None]
    has_after = (frame + stride < lengths[:, None])[..., None, None]
    before = torch.where(has_before, first.roll(stride, dims=1), first)
    after = torch.where(has_after, second.roll(-stride, dims=1), second)
    return torch.cat([before, after, rest], dim=-1)


class ShortTerm(nn.Module):
    """O^SII: for each frame FFN(MHCA(query = z_t^cls, key = value = ẑ_t^p)) (Eq. 6).

    Args:
        block: FFN(MHCA(.)).
        further: More such blocks behind it, all of which look at the shifted patches: none in the paper, one in the
            released code.
        stride: Of Eq. 5; 1 in the paper.
    """

    def __init__(self, block: CrossAttentionBlock, *further: CrossAttentionBlock, stride: int = 1) -> None:
        super().__init__()
        self.block = block
        self.further = nn.ModuleList(further)
        self.stride = stride

    def forward(self, cls: Tensor, patches: Tensor, lengths: Tensor) -> Tensor:
        """Compute O^SII (Eq. 5-6).

        Args:
            cls: (B, T, D).
            patches: (B, T, N, D).
            lengths: (B,) int64.

        Returns:
            (B, T, D); rows of padding frames mean nothing.
        """
        shifted = shift_channels(patches, lengths, stride=self.stride).flatten(0, 1)
        out: Tensor = self.block(cls.flatten(0, 1)[:, None], shifted)
        for block in self.further:
            out = block(out, shifted)
        return out[:, 0].view_as(cls)
