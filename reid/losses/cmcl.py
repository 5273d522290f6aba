"""CMCL, the consistency of a clip's feature with what CII makes of it (Eq. 9)."""

from torch import Tensor


def cmcl(pooled: Tensor, interacted: Tensor) -> Tensor:
    """Mean over the clips of ||Ō - O_CMII||²₂, the squares summed over the channels.

    With residual blocks this is the squared length of what CII adds, so a CII that adds nothing minimises it: watch
    ``cii_norm`` in the breakdown.

    Args:
        pooled: Ō, (n, D).
        interacted: O_CMII of the same clips, (n, D).

    Returns:
        A scalar.
    """
    return (pooled.float() - interacted.float()).square().sum(dim=1).mean()
