"""CII, cross-modality information interaction: a feature looks at the other modality's patches. Training only."""

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from reid.models.attention import SelfAttentionBlock

Sharing = Literal["branch", "direction", "all"]


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
        """Compute O_CMII (section 3.3).

        Args:
            pooled: Ō, (B, D).
            partner_patches: (B, T, N, D), all T frames valid.

        Returns:
            (B, D).
        """
        patches = partner_patches[:, : self.frames]
        query = pooled[:, None, None].expand(-1, patches.shape[1], 1, -1)
        first: Tensor = self.block.first_token(torch.cat([query, patches], dim=2).flatten(0, 1))
        return first.view(*patches.shape[:2], -1).mean(dim=1)


class CrossModalities(nn.Module):
    """CII of all branches and directions, with as many blocks as ``sharing`` says.

    With M modalities each is paired with each of the others in turn: two directions for two modalities, six for three.

    Args:
        branches: Names of the features Ō that interact.
        modalities: M.
        make_block: Makes one FFN(MHSA(.)).
        frames: See ``CrossModality``.
        sharing: One block for each ``branch`` (as Fig. 3 draws it), for each branch and ``direction``, or one for
            ``all``. Not stated in the paper.
    """

    def __init__(
        self,
        branches: Sequence[str],
        modalities: int,
        make_block: Callable[[], SelfAttentionBlock],
        *,
        frames: int | None = None,
        sharing: Sharing = "branch",
    ) -> None:
        super().__init__()
        self.branches = tuple(branches)
        self.modalities = modalities
        self.sharing: Sharing = sharing
        names = {self._name(branch, *pair) for branch in self.branches for pair in self._directions()}
        self.blocks = nn.ModuleDict({name: CrossModality(make_block(), frames=frames) for name in sorted(names)})

    def forward(self, pooled: dict[str, Tensor], patches: Tensor) -> list[tuple[Tensor, Tensor]]:
        """For each branch and direction, what went in and what came out.

        Args:
            pooled: Ō of each branch, (B, D); clips one modality after another, partners at equal index.
            patches: z^p, (B, T, N, D), all T frames valid.

        Returns:
            Pairs (Ō, O_CMII), (B / M, D) each.
        """
        own = {branch: features.chunk(self.modalities) for branch, features in pooled.items()}
        of_partner = patches.chunk(self.modalities)
        return [
            (own[branch][here], self.blocks[self._name(branch, here, there)](own[branch][here], of_partner[there]))
            for branch in self.branches
            for here, there in self._directions()
        ]

    def _directions(self) -> list[tuple[int, int]]:
        return [(a, b) for a in range(self.modalities) for b in range(self.modalities) if a != b]

    def _name(self, branch: str, here: int, there: int) -> str:
        return {"all": "all", "branch": branch, "direction": f"{branch}_{here}_{there}"}[self.sharing]
