"""CPC, cross-modality prototype collaboration: one memory of identity prototypes a modality (Eq. 1-2)."""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

Update = Literal["cross_modality", "same_modality", "pooled"]
MeanOf = Literal["features", "unit_features"]


class PrototypeMemory(nn.Module):
    """M^m ∈ R^{Y×d}: unit-length prototypes of Y identities, in one memory for each modality m.

    The paper has two modalities, and takes the hard sample for a memory from the *other* one. A site may have more;
    here it is taken from *any other* modality. With two modalities the two sentences mean the same, and so does this
    class.

    An identity that was never seen in a modality has no prototype there until an update gives it one; it takes part in
    no loss of that memory before. No gradient flows into the memories: they are buffers.

    Args:
        modalities: Their number; modality indices are 0 to this less 1.
        identities: Y; identity indices are 0 to Y - 1.
        width: d.
        momentum: µ, the share of the old prototype that is kept; 0.2 in the paper.
        mean_of: What a prototype is the mean of at first: the clips' ``features`` as they are (the paper and the
            released code), or these at unit length (``unit_features``, PCL).
        update: Whose clips update a memory: those of the other modalities (Eq. 2), of its own (the PCL baseline), or of
            all together (``pooled``, the released code).
    """

    prototypes: Tensor
    filled: Tensor

    def __init__(
        self,
        modalities: int,
        identities: int,
        width: int,
        *,
        momentum: float = 0.2,
        update: Update = "cross_modality",
        mean_of: MeanOf = "features",
    ) -> None:
        super().__init__()
        if not 0 <= momentum < 1:
            raise ValueError(f"momentum must be in [0, 1), got {momentum}")
        if update == "cross_modality" and modalities < 2:
            raise ValueError("a cross-modality update needs at least two modalities, got 1")
        self.momentum = momentum
        self.update_rule: Update = update
        self.mean_of: MeanOf = mean_of
        self.register_buffer("prototypes", torch.zeros(modalities, identities, width))
        self.register_buffer("filled", torch.zeros(modalities, identities, dtype=torch.bool))

    @torch.no_grad()
    def initialise(self, features: Tensor, identities: Tensor, modalities: Tensor) -> None:
        """Set each prototype to the mean of its identity's features in its modality, at unit length (section 3.2).

        M^m_y = (1 / N^m_y) Σ b over the videos of identity y in modality m, then normalised. An identity without a
        video in a modality gets none.

        Args:
            features: b, (n, d), one a tracklet.
            identities: (n,) int64.
            modalities: (n,) int64.
        """
        averaged = features.float()
        if self.mean_of == "unit_features":
            averaged = functional.normalize(averaged, dim=1)
        total = torch.zeros_like(self.prototypes)
        total.index_put_((modalities, identities), averaged, accumulate=True)
        self.prototypes.copy_(functional.normalize(total, dim=2))
        self.filled.zero_()
        self.filled[modalities, identities] = True

    @torch.no_grad()
    def update(self, features: Tensor, identities: Tensor, modalities: Tensor) -> None:
        """Move the prototypes of the batch's identities towards their hardest clips (Eq. 1-2).

        b* = argmin over the candidate clips b of the same identity of <b, M^m_y>;
        M^m_y ← normalise(µ M^m_y + (1-µ) b*).
        A memory for which the batch holds no candidate of an identity keeps its prototype.

        Args:
            features: b, (n, d); normalised here.
            identities: (n,) int64.
            modalities: (n,) int64.
        """
        unit = functional.normalize(features.float(), dim=1)
        present, row = torch.unique(identities, return_inverse=True)
        current = self.prototypes[:, present]
        index = torch.arange(len(self.prototypes), device=unit.device)[:, None]
        same_modality = index == modalities[None, :]
        candidate = {
            "same_modality": same_modality,
            "cross_modality": ~same_modality,
            "pooled": torch.ones_like(same_modality),
        }[self.update_rule]
        cosine = (unit * current[:, row]).sum(dim=2)
        cosine = cosine.masked_fill(~candidate, torch.inf)
        hardest, has_candidate = _first_smallest(cosine, row, groups=len(present))
        chosen = unit[hardest]
        moved = functional.normalize(self.momentum * current + (1 - self.momentum) * chosen, dim=2)
        self.prototypes[:, present] = torch.where(has_candidate[..., None], moved, current)
        self.filled[:, present] |= has_candidate


def _first_smallest(values: Tensor, group: Tensor, *, groups: int) -> tuple[Tensor, Tensor]:
    """Position of the smallest value of each group in each row, the first of equals.

    Args:
        values: (m, n), infinity where a position is no candidate.
        group: (n,) int64, 0 to groups - 1.
        groups: Their number.

    Returns:
        (m, groups) int64, and (m, groups) bool: whether the group has a candidate; where not, the position is 0.
    """
    rows, count = values.shape
    group = group.expand(rows, -1)
    smallest = values.new_full((rows, groups), torch.inf).scatter_reduce(1, group, values, "amin")
    position = torch.arange(count, device=values.device).expand(rows, -1)
    is_smallest = torch.isfinite(values) & (values == smallest.gather(1, group))
    position = torch.where(is_smallest, position, count)
    first = torch.full_like(smallest, count, dtype=torch.int64).scatter_reduce(1, group, position, "amin")
    found = first < count
    return torch.where(found, first, 0), found
