"""CMCL, the consistency of a clip's feature with what CII makes of it (Eq. 9)."""

from typing import Literal

from torch import Tensor

StopGradient = Literal["none", "pooled", "interacted"]


def cmcl(pooled: Tensor, interacted: Tensor, *, stop_gradient: StopGradient = "none") -> Tensor:
    """Mean over the clips of ||Ō - O_CMII||²₂, the squares summed over the channels (Eq. 9).

    With residual blocks this is the squared length of what CII adds, so a CII that adds nothing minimises it: watch
    ``cii_norm`` in the breakdown.

    Args:
        pooled: Ō, (n, D).
        interacted: O_CMII of the same clips, (n, D).
        stop_gradient: The side that receives none; the paper mentions no such thing.

    Returns:
        A scalar, at least 0.
    """
    if stop_gradient == "pooled":
        pooled = pooled.detach()
    elif stop_gradient == "interacted":
        interacted = interacted.detach()
    return (pooled.float() - interacted.float()).square().sum(dim=1).mean()
