"""TAP, temporal average pooling, and a pooling that trusts good frames more (beyond the paper, off in it)."""

import torch
from torch import Tensor, nn


def temporal_mean(frames: Tensor, lengths: Tensor) -> Tensor:
    """TAP: the mean over each clip's own frames (paper section 3.1).

    Args:
        frames: (B, T, D); rows of padding may hold anything.
        lengths: (B,) int64, 1 to T.

    Returns:
        (B, D).
    """
    valid = valid_frames(frames.shape[1], lengths)
    total = torch.where(valid[..., None], frames, frames.new_zeros(())).sum(dim=1)
    return total / lengths[:, None].to(frames.dtype)


def valid_frames(frames: int, lengths: Tensor) -> Tensor:
    """Which of T padded frames belong to their clip, (B, T) bool."""
    return torch.arange(frames, device=lengths.device) < lengths[:, None]


class QualityPooling(nn.Module):
    """A weighted mean over time; a frame's weight is the softmax over its clip of w · z_t^cls.

    w begins at zero, where this is TAP.

    Args:
        width: D.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.score = nn.Linear(width, 1, bias=False)
        nn.init.zeros_(self.score.weight)

    def weights(self, cls: Tensor, lengths: Tensor) -> Tensor:
        """Weights of the frames, (B, T), 0 for padding; each row sums to 1.

        Args:
            cls: z^cls, (B, T, D).
            lengths: (B,) int64.
        """
        score: Tensor = self.score(cls)[..., 0].float()
        return score.masked_fill(~valid_frames(cls.shape[1], lengths), -torch.inf).softmax(dim=1)


def weighted_mean(frames: Tensor, weights: Tensor) -> Tensor:
    """(B, T, D) with weights (B, T) to (B, D)."""
    finite = torch.where(weights[..., None] > 0, frames, frames.new_zeros(()))
    return (finite * weights[..., None].to(frames.dtype)).sum(dim=1)
