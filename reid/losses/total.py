"""L_total = L_CPCL + L_tri + L_ce + L_CMCL (Eq. 10), with weights, options beyond the paper, and a breakdown."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from reid.distributed import gather_features, gather_labels
from reid.losses.alignment import cross_modal_alignment
from reid.losses.attributes import AttributeLoss
from reid.losses.centre import centre_alignment
from reid.losses.cmcl import StopGradient, cmcl
from reid.losses.cpcl import Denominator, cpcl
from reid.losses.identity import IdentityLoss
from reid.losses.orthogonality import frame_orthogonality
from reid.losses.retrieval import cross_modality_retrieval
from reid.losses.triplet import Metric, batch_hard_triplet
from reid.models.attention import SelfAttentionBlock
from reid.models.cross_modality import CrossModalities, Sharing
from reid.models.xreid import ClipFeatures, Part, XReID, XReIDConfig
from reid.prototypes import MeanOf, PrototypeMemory, Update

Order = Literal["loss_then_update", "update_then_loss"]
Feature = Literal["cls", "projected", "fused", "joint"]
_FRAME_PARTS: tuple[Part, ...] = ("cls", "fused")


class LossConfig(BaseModel):
    """Weights and options of the losses; a weight of 0 leaves a loss out. "joint" is [CLS mean ; projected mean].

    Attributes:
        cpcl: Weight of the prototype loss (Eq. 3-4).
        cpcl_on: The feature it and the memories are of: ``projected``, b, in the paper; ``joint`` in the released code.
        cpcl_against: Compare a clip with ``both`` memories (Eq. 3-4), or with that of its ``own`` modality (baseline).
        temperature: τ of CPCL; not stated in the paper.
        denominator: See ``cpcl``.
        order: Whether the memories move before or after the loss; the paper writes updated ones, but then a clip is
            compared with a prototype that is mostly itself.
        momentum: µ.
        update: See ``PrototypeMemory``.
        memory_mean: ``mean_of`` of ``PrototypeMemory``.
        shared_prototypes: One memory for all modalities, updated by all clips (HHA); not in the paper.
        triplet: Weight of the batch-hard triplet losses.
        triplet_on: The features that have one. The paper names "the original sequence-level feature", which its
            section 3.1 calls b (``projected``), and O (``fused``).
        margin: Of the triplet loss.
        metric: Of the triplet loss.
        identity: Weight of the identity cross-entropies.
        identity_on: The features, behind their necks, that have one; as above.
        smoothing: Of the cross-entropies.
        frame_identity: Weight of the cross-entropy of single frames, with the classifiers of the clips' ``cls`` and
            ``fused``; not in the paper, but in the released code.
        cmcl: Weight of the consistency terms (Eq. 9; SII and LII, each direction); 0 removes CII, and so do clips of
            single frames, which have no motion to agree on. Without SII and LII the CLS mean interacts.
        cmcl_terms: Whether the four terms are summed or averaged; not stated in the paper.
        cmcl_stop_gradient: See ``cmcl``.
        cii_sharing: See ``CrossModalities``.
        cii_detach_patches: Keep CII from training the encoder through the partner's patches.
        cii_frames: See ``CrossModality``.
        cii_mlp_ratio: Of CII's feed-forward networks.
        cii_identity: Weight of an identity cross-entropy on O_CMII, which a CII that adds nothing does not help; not in
            the paper.
        behind_necks: CPCL, alignment and triplet losses see the features behind their necks; the paper knows no necks.
            From random weights all plain features are nearly parallel, and it takes thousands of steps to part them; a
            batch normalisation parts them at once.
        memories_behind_necks: The same for CPCL alone, as in the released code.
        alignment: Weight of ``cross_modal_alignment`` on all parts; not in the paper.
        alignment_temperature: Its τ.
        retrieval: Weight of ``cross_modality_retrieval`` on all parts; not in the paper (M3-ReID).
        orthogonality: Weight of ``frame_orthogonality`` of v; not in the paper (M3-ReID).
        centre: Weight of ``centre_alignment`` on all parts; not in the paper (HHA).
        attributes: Weight of ``AttributeLoss`` on all parts, behind their necks; not in the paper. The data set must
            have a table of attributes.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    cpcl: float = Field(default=1.0, ge=0)
    cpcl_on: Literal["projected", "joint"] = "projected"
    cpcl_against: Literal["both", "own"] = "both"
    temperature: float = Field(default=0.05, gt=0)
    denominator: Denominator = "all"
    order: Order = "loss_then_update"
    momentum: float = Field(default=0.2, ge=0, lt=1)
    update: Update = "cross_modality"
    memory_mean: MeanOf = "features"
    shared_prototypes: bool = False
    triplet: float = Field(default=1.0, ge=0)
    triplet_on: tuple[Part, ...] = ("projected", "fused")
    margin: float = Field(default=0.3, ge=0)
    metric: Metric = "euclidean"
    identity: float = Field(default=1.0, ge=0)
    identity_on: tuple[Feature, ...] = ("projected", "fused")
    smoothing: float = Field(default=0.0, ge=0, lt=1)
    frame_identity: float = Field(default=0.0, ge=0)
    cmcl: float = Field(default=1.0, ge=0)
    cmcl_terms: Literal["sum", "mean"] = "sum"
    cmcl_stop_gradient: StopGradient = "none"
    cii_sharing: Sharing = "branch"
    cii_detach_patches: bool = False
    cii_frames: int | None = Field(default=None, ge=1)
    cii_mlp_ratio: float = Field(default=4.0, gt=0)
    cii_identity: float = Field(default=0.0, ge=0)
    behind_necks: bool = False
    memories_behind_necks: bool = False
    alignment: float = Field(default=0.0, ge=0)
    alignment_temperature: float = Field(default=0.1, gt=0)
    retrieval: float = Field(default=0.0, ge=0)
    orthogonality: float = Field(default=0.0, ge=0)
    centre: float = Field(default=0.0, ge=0)
    attributes: float = Field(default=0.0, ge=0)


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

    def __add__(self, other: "Loss") -> "Loss":
        """Both together."""
        breakdown = {**self.breakdown, **other.breakdown, "total": self.breakdown["total"] + other.breakdown["total"]}
        return Loss(self.total + other.total, breakdown)


@dataclass(frozen=True, slots=True, eq=False)
class _Batch:
    """Clip features of all processes by name, plain and behind their necks, with their labels."""

    plain: Mapping[Feature, Tensor]
    necked: Mapping[Feature, Tensor]
    labels: Labels


class Objective(nn.Module):
    """All that training needs and inference does not: memories, classifiers, CII, and the sum of the losses (Eq. 10).

    In a distributed run the losses that compare clips see those of all processes (see ``reid.distributed``); CII, whose
    partners lie in the same process, and the losses of single frames see their own.

    Args:
        model: Whose sizes to take.
        config: The losses; parts that the model does not have are left out.
        identities: Y.
        modalities: M.
        attributes: (Y, A) int64, see ``AttributeLoss``; needed where the losses have a weight for it.
    """

    def __init__(
        self,
        model: XReIDConfig,
        config: LossConfig,
        *,
        identities: int,
        modalities: int,
        attributes: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.config = config
        self.modalities = modalities
        self.parts = model.parts
        width_of: dict[Feature, int] = {part: model.width_of(part) for part in model.parts}
        width_of["joint"] = model.encoder.width + model.encoder.output_dim
        self.memory = PrototypeMemory(
            1 if config.shared_prototypes else modalities,
            identities,
            width_of[config.cpcl_on],
            momentum=config.momentum,
            update="pooled" if config.shared_prototypes else config.update,
            mean_of=config.memory_mean,
        )
        classified = [name for name in config.identity_on if name in width_of] if config.identity else []
        if config.frame_identity:
            classified += [part for part in _FRAME_PARTS if part in width_of and part not in classified]
        self.identity = nn.ModuleDict(
            {name: IdentityLoss(width_of[name], identities, smoothing=config.smoothing) for name in classified}
        )
        if config.attributes and attributes is None:
            raise ValueError("loss.attributes has a weight, but the training data bring no attributes")
        if config.attributes and attributes is not None:
            self.attributes = nn.ModuleDict(
                {part: AttributeLoss(model.width_of(part), attributes) for part in model.parts}
            )
        if config.cmcl or config.cii_identity:
            self.interaction = CrossModalities(
                model.interactions or ("cls",),
                modalities,
                partial(
                    SelfAttentionBlock, model.encoder.width, heads=model.encoder.heads, mlp_ratio=config.cii_mlp_ratio
                ),
                frames=config.cii_frames,
                sharing=config.cii_sharing,
            )
        if config.cii_identity:
            self.cii_classifier = IdentityLoss(model.encoder.width, identities, smoothing=config.smoothing)

    def forward(self, model: XReID, features: ClipFeatures, labels: Labels) -> Loss:
        """Compute the losses of a batch (Eq. 10, of Eq. 3-4 and 9) and, in training, move the memories (Eq. 1-2).

        Args:
            model: For its necks.
            features: Of the batch: B clips of equally many frames, one modality after another.
            labels: Of the batch, (B,).

        Returns:
            The sum to minimise, a scalar of at least 0; and its parts by name, weighted, with ``cii_norm``, the mean
            length of what CII adds to a feature, which is no part of the sum: near 0, CII does nothing.
        """
        return self.of_batch(model, features.parts, labels) + self.of_clips(features, labels)

    def of_batch(self, model: XReID, parts: tuple[Tensor, ...], labels: Labels) -> Loss:
        """The losses that compare clips, of all processes, with each other and with the memories, which move.

        Args:
            model: For its necks.
            parts: The ``parts`` of the clips' features, (B, D or d) each.
            labels: Of the clips.
        """
        config = self.config
        batch = self._gather(model, parts, labels)
        seen = batch.necked if config.behind_necks else batch.plain
        remembered = (batch.necked if config.memories_behind_necks else seen)[config.cpcl_on]
        if config.order == "update_then_loss":
            self._move(remembered, batch.labels)
        terms: dict[str, Tensor] = {}
        if config.cpcl:
            terms["cpcl"] = config.cpcl * self._cpcl(remembered, batch.labels)
        terms |= self._metric_losses(seen, batch.labels)
        for name in config.identity_on if config.identity else ():
            if name in self.identity:
                terms[f"identity_{name}"] = config.identity * self.identity[name](
                    batch.necked[name], batch.labels.identities
                )
        if config.attributes:
            each = [self.attributes[part](batch.necked[part], batch.labels.identities) for part in self.parts]
            terms["attributes"] = config.attributes * torch.stack(each).sum()
        if config.order == "loss_then_update":
            self._move(remembered, batch.labels)
        return _sum_of(terms, parts[0])

    def of_clips(self, features: ClipFeatures, labels: Labels) -> Loss:
        """The losses that see frames, or a clip and its partner: means over the clips of this process."""
        terms: dict[str, Tensor] = {}
        norm: dict[str, Tensor] = {}
        if features.patches.shape[1] > 1:
            terms |= self._frame_losses(features, labels)
            if self.training and (self.config.cmcl or self.config.cii_identity):
                consistency, norm["cii_norm"] = self._interact(features, labels)
                terms |= consistency
        return _sum_of(terms, features.cls, norm)

    def remembered(self, model: XReID, features: ClipFeatures) -> Tensor:
        """The feature that the memories are of, plain: (B, width)."""
        return _named(self.parts, features.parts)[self.config.cpcl_on]

    def memory_labels(self, labels: Labels) -> tuple[Tensor, Tensor]:
        """Identities, and which memory is of each clip's modality: (B,) int64 both, memories 0 to M - 1."""
        own = torch.zeros_like(labels.modalities) if self.config.shared_prototypes else labels.modalities
        return labels.identities, own

    def _gather(self, model: XReID, parts: tuple[Tensor, ...], labels: Labels) -> _Batch:
        plain = tuple(gather_features(part) for part in parts)
        return _Batch(
            _named(self.parts, plain),
            _named(self.parts, model.through_necks(plain)),
            Labels(gather_labels(labels.identities), gather_labels(labels.modalities)),
        )

    def _cpcl(self, remembered: Tensor, labels: Labels) -> Tensor:
        identities, memories = self.memory_labels(labels)
        return cpcl(
            remembered,
            identities,
            self.memory,
            temperature=self.config.temperature,
            denominator=self.config.denominator,
            own_of=memories if self.config.cpcl_against == "own" else None,
        )

    def _metric_losses(self, seen: Mapping[Feature, Tensor], labels: Labels) -> dict[str, Tensor]:
        config = self.config
        ids, kinds = labels.identities, labels.modalities

        def over(parts: tuple[Part, ...], loss: Callable[[Tensor], Tensor]) -> Tensor:
            each = [loss(seen[part]) for part in parts if part in seen]
            return torch.stack([torch.zeros((), device=ids.device), *each]).sum()

        terms: dict[str, Tensor] = {}
        if config.triplet:
            terms["triplet"] = config.triplet * over(
                config.triplet_on, lambda x: batch_hard_triplet(x, ids, margin=config.margin, metric=config.metric)
            )
        if config.alignment:
            terms["alignment"] = config.alignment * over(
                self.parts, lambda x: cross_modal_alignment(x, ids, kinds, temperature=config.alignment_temperature)
            )
        if config.retrieval:
            terms["retrieval"] = config.retrieval * over(self.parts, lambda x: cross_modality_retrieval(x, ids, kinds))
        if config.centre:
            terms["centre"] = config.centre * over(self.parts, lambda x: centre_alignment(x, ids, kinds))
        return terms

    def _frame_losses(self, features: ClipFeatures, labels: Labels) -> dict[str, Tensor]:
        """Of this process; all clips of a training batch have T frames."""
        config = self.config
        terms: dict[str, Tensor] = {}
        if config.orthogonality:
            terms["orthogonality"] = config.orthogonality * frame_orthogonality(
                features.frame_projected, features.lengths
            )
        if config.frame_identity:
            repeated = labels.identities.repeat_interleave(features.patches.shape[1])
            frames = {"cls": features.frame_cls, "fused": features.frame_fused}
            for name, of_frames in frames.items():
                if of_frames is not None:
                    terms[f"frame_identity_{name}"] = config.frame_identity * self.identity[name](
                        of_frames.flatten(0, 1), repeated
                    )
        return terms

    def _interact(self, features: ClipFeatures, labels: Labels) -> tuple[dict[str, Tensor], Tensor]:
        """CMCL over all branches and directions, and the mean length of what CII adds."""
        _check_partners(labels, self.modalities)
        pooled = {str(name): part for name, part in features.pooled.items()} or {"cls": features.cls}
        config = self.config
        pairs = self.interaction(pooled, features.patches.detach() if config.cii_detach_patches else features.patches)
        terms: dict[str, Tensor] = {}
        if config.cmcl:
            each = torch.stack([cmcl(*pair, stop_gradient=config.cmcl_stop_gradient) for pair in pairs])
            terms["cmcl"] = config.cmcl * (each.sum() if config.cmcl_terms == "sum" else each.mean())
        if config.cii_identity:
            count = len(labels.identities) // self.modalities
            losses = [self.cii_classifier(after, labels.identities[:count]) for _, after in pairs]
            terms["cii_identity"] = config.cii_identity * torch.stack(losses).mean()
        added = [(after - before).detach().float().norm(dim=1).mean() for before, after in pairs]
        return terms, torch.stack(added).mean()

    @torch.no_grad()
    def _move(self, remembered: Tensor, labels: Labels) -> None:
        if self.training and self.config.cpcl:
            self.memory.update(remembered, *self.memory_labels(labels))


def _sum_of(terms: Mapping[str, Tensor], like: Tensor, norm: Mapping[str, Tensor] | None = None) -> Loss:
    total = torch.stack([torch.zeros((), device=like.device), *terms.values()]).sum()
    named = {"total": total, **terms, **(norm or {})}
    values = torch.stack([value.detach().float() for value in named.values()]).tolist()  # one wait for the device
    return Loss(total, dict(zip(named, values, strict=True)))


def _check_partners(labels: Labels, modalities: int) -> None:
    """Clips at equal index of two modalities must be of one person, or CII would mix strangers."""
    of_modality = labels.identities.view(modalities, -1) if len(labels.identities) % modalities == 0 else None
    if of_modality is None or not torch.equal(of_modality, of_modality[:1].expand_as(of_modality)):
        raise ValueError(
            f"CII needs the clips one modality after another, the same identities in each of the {modalities}, in the "
            f"same order; got identities {labels.identities.tolist()}"
        )


def _named(names: tuple[Part, ...], parts: tuple[Tensor, ...]) -> dict[Feature, Tensor]:
    named: dict[Feature, Tensor] = dict(zip(names, parts, strict=True))
    named["joint"] = torch.cat([named["cls"], named["projected"]], dim=1)
    return named
