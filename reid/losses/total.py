"""L_total = L_CPCL + L_tri + L_ce + L_CMCL (Eq. 10), with weights and a breakdown for the log."""

from dataclasses import dataclass
from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from reid.losses.alignment import cross_modal_alignment
from reid.losses.cmcl import cmcl
from reid.losses.cpcl import Denominator, cpcl
from reid.losses.identity import IdentityLoss
from reid.losses.triplet import Metric, batch_hard_triplet
from reid.models.attention import SelfAttentionBlock
from reid.models.cross_modality import CrossModality
from reid.models.xreid import ClipFeatures, XReID, XReIDConfig
from reid.prototypes import PrototypeMemory, Update

Order = Literal["loss_then_update", "update_then_loss"]


class LossConfig(BaseModel):
    """Weights and options of the losses; a weight of 0 leaves a loss out.

    Attributes:
        cpcl: Weight of the prototype loss, on the projected mean.
        triplet: Weight of the triplet losses, on the CLS mean and the fused feature.
        identity: Weight of the cross-entropies, on the CLS mean and the fused feature behind their necks.
        projected_identity: Weight of a cross-entropy on the projected mean; not in the paper.
        cmcl: Weight of the four consistency terms (SII and LII, each direction); 0 removes CII, and so do clips of
            single frames, which have no motion to agree on.
        behind_necks: CPCL and the triplet losses see the features behind their necks, as the memories of the released
            code do; the paper knows no necks. From random weights all plain features are nearly parallel, and it takes
            thousands of steps to part them; a batch normalisation parts them at once.
        alignment: Weight of ``cross_modal_alignment`` on the three features; not in the paper.
        alignment_temperature: Its τ.
        temperature: τ of CPCL; not stated in the paper.
        denominator: See ``cpcl``.
        order: Whether the memories move before or after the loss; the paper writes updated ones, but then a clip is
            compared with a prototype that is mostly itself.
        momentum: µ.
        update: See ``PrototypeMemory``.
        margin: Of the triplet loss.
        metric: Of the triplet loss.
        smoothing: Of the cross-entropies.
        cii_frames: See ``CrossModality``.
        cii_mlp_ratio: Of CII's feed-forward networks.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    cpcl: float = Field(default=1.0, ge=0)
    triplet: float = Field(default=1.0, ge=0)
    identity: float = Field(default=1.0, ge=0)
    projected_identity: float = Field(default=0.0, ge=0)
    cmcl: float = Field(default=1.0, ge=0)
    alignment: float = Field(default=0.0, ge=0)
    alignment_temperature: float = Field(default=0.1, gt=0)
    behind_necks: bool = False
    temperature: float = Field(default=0.05, gt=0)
    denominator: Denominator = "all"
    order: Order = "loss_then_update"
    momentum: float = Field(default=0.2, ge=0, lt=1)
    update: Update = "cross_modality"
    margin: float = Field(default=0.3, ge=0)
    metric: Metric = "euclidean"
    smoothing: float = Field(default=0.0, ge=0, lt=1)
    cii_frames: int | None = Field(default=None, ge=1)
    cii_mlp_ratio: float = Field(default=4.0, gt=0)


@dataclass(frozen=True, slots=True, eq=False)
class Labels:
    """Of the clips of a batch, identity-major within a modality, one modality after another, all equally many.

    Attributes:
        identities: (B,) int64, 0 to Y - 1; clips at equal index in two modalities are of one identity.
        modalities: (B,) int64, 0 to M - 1.
    """

    identities: Tensor
    modalities: Tensor


@dataclass(frozen=True, slots=True, eq=False)
class Loss:
    """The sum to minimise, and its weighted parts as plain numbers for the log."""

    total: Tensor
    breakdown: dict[str, float]


class Objective(nn.Module):
    """Everything that training needs and inference does not: memories, classifiers, CII, and the sum of the losses.

    Args:
        model: Whose sizes to take.
        config: The losses.
        identities: Y.
        modalities: M.
    """

    def __init__(self, model: XReIDConfig, config: LossConfig, *, identities: int, modalities: int) -> None:
        super().__init__()
        self.config = config
        self.modalities = modalities
        self.memory = PrototypeMemory(
            modalities, identities, model.encoder.output_dim, momentum=config.momentum, update=config.update
        )
        self.identity = nn.ModuleList(
            [IdentityLoss(width, identities, smoothing=config.smoothing) for width in model.feature_widths]
        )
        self.interaction = nn.ModuleDict({"short": self._branch(model), "long": self._branch(model)})

    def forward(self, model: XReID, features: ClipFeatures, labels: Labels) -> Loss:
        """Compute the losses of a batch and, in training mode, move the memories.

        Args:
            model: For its necks.
            features: Of the batch.
            labels: Of the batch.
        """
        config = self.config
        necked = model.through_necks(features)
        cls, projected, fused = necked if config.behind_necks else features.parts
        if config.order == "update_then_loss":
            self._move(projected, labels)
        terms: dict[str, Tensor] = {}
        if config.cpcl:
            terms["cpcl"] = config.cpcl * self._cpcl(projected, labels)
        if config.triplet:
            terms["triplet"] = config.triplet * sum(
                (
                    batch_hard_triplet(part, labels.identities, margin=config.margin, metric=config.metric)
                    for part in (cls, fused)
                ),
                start=torch.zeros((), device=features.cls.device),
            )
        if config.alignment:
            terms["alignment"] = config.alignment * self._alignment((cls, projected, fused), labels)
        terms |= self._identity(necked, labels)
        breakdown: dict[str, float] = {}
        if config.cmcl and features.patches.shape[1] > 1:
            consistency, breakdown["cii_norm"] = self._consistency(features)
            terms["cmcl"] = config.cmcl * consistency
        if config.order == "loss_then_update":
            self._move(projected, labels)
        total = torch.stack(list(terms.values())).sum()
        breakdown |= {name: float(term.detach()) for name, term in terms.items()}
        return Loss(total, {"total": float(total.detach()), **breakdown})

    def _cpcl(self, projected: Tensor, labels: Labels) -> Tensor:
        return cpcl(
            projected,
            labels.identities,
            self.memory,
            temperature=self.config.temperature,
            denominator=self.config.denominator,
        )

    def _alignment(self, parts: tuple[Tensor, ...], labels: Labels) -> Tensor:
        temperature = self.config.alignment_temperature
        each = [
            cross_modal_alignment(part, labels.identities, labels.modalities, temperature=temperature) for part in parts
        ]
        return torch.stack(each).sum()

    def _identity(self, parts: tuple[Tensor, Tensor, Tensor], labels: Labels) -> dict[str, Tensor]:
        config = self.config
        weights = (config.identity, config.projected_identity, config.identity)
        names = ("identity_cls", "identity_projected", "identity_fused")
        return {
            name: weight * head(part, labels.identities)
            for name, weight, head, part in zip(names, weights, self.identity, parts, strict=True)
            if weight
        }

    def _consistency(self, features: ClipFeatures) -> tuple[Tensor, float]:
        """CMCL over both branches and all directions, and the mean length of what CII adds.

        With M modalities each one is paired with the next, cyclically, and with the one before: for two modalities
        these are the paper's two directions; for three, all six.
        """
        count = len(features.cls) // self.modalities
        patches = features.patches
        offsets = sorted({1 % self.modalities, -1 % self.modalities})
        total, added = patches.new_zeros((), dtype=torch.float32), []
        for offset in offsets:
            partner = patches.roll(-offset * count, dims=0)
            for name, pooled in (("short", features.short), ("long", features.long)):
                interacted = self.interaction[name](pooled, partner)
                # Mean over all clips times M is the sum over modalities of the mean over PK clips.
                total = total + self.modalities * cmcl(pooled, interacted)
                added.append((interacted - pooled).detach().float().norm(dim=1).mean())
        return total, float(torch.stack(added).mean())

    @torch.no_grad()
    def _move(self, projected: Tensor, labels: Labels) -> None:
        if self.training and self.config.cpcl:
            self.memory.update(projected, labels.identities, labels.modalities)

    def _branch(self, model: XReIDConfig) -> CrossModality:
        block = SelfAttentionBlock(model.encoder.width, heads=model.encoder.heads, mlp_ratio=self.config.cii_mlp_ratio)
        return CrossModality(block, frames=self.config.cii_frames)
