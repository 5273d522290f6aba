"""Frame orthogonality of M3-ReID (TIFS 2025); beyond the paper, off in it."""

import torch
from torch import Tensor
from torch.nn import functional


def frame_orthogonality(frames: Tensor, lengths: Tensor) -> Tensor:
    """Mean over the clips of the mean squared cosine of two different frames: each frame is to say something new.

    Args:
        frames: v, (B, T, d), a feature of each frame; rows of padding frames mean nothing.
        lengths: (B,) int64, 1 to T.

    Returns:
        A scalar in [0, 1]; a clip of one frame does not count, and 0 is the loss of none.
    """
    unit = functional.normalize(frames.float(), dim=2)
    with torch.autocast(unit.device.type, enabled=False):
        cosine = unit @ unit.transpose(1, 2)
    valid = torch.arange(frames.shape[1], device=lengths.device) < lengths[:, None]
    pair = valid[:, :, None] & valid[:, None, :]
    pair &= ~torch.eye(frames.shape[1], dtype=torch.bool, device=lengths.device)
    count = pair.sum(dim=(1, 2))
    each = torch.where(pair, cosine.square(), cosine.new_zeros(())).sum(dim=(1, 2)) / count.clamp(min=1)
    return each.sum() / (count > 0).sum().clamp(min=1)
