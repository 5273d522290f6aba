"""X-ReID for inference: encoder, SII, LII, fusion and pooling over time (arXiv 2511.17964). CII is not part of it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Self

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor, nn
from torch.nn import functional

from reid.modality import Modality
from reid.models.attention import CrossAttentionBlock
from reid.models.cameras import UNKNOWN, CameraEmbedding, Policy
from reid.models.encoder import Encoder, EncoderConfig, shift_packed
from reid.models.fusion import fuse
from reid.models.long_term import Boundary, LongTerm
from reid.models.pooling import QualityPooling, temporal_mean, valid_frames, weighted_mean
from reid.models.short_term import ShortTerm, shift_channels

MODALITIES = tuple(Modality)

Interaction = Literal["short", "long"]
Part = Literal["cls", "projected", "fused"]


class XReIDConfig(BaseModel):
    """All that decides the network's shape and its forward pass.

    Attributes:
        encoder: The vision transformer.
        interactions: Which of SII and LII there are; the fused feature is their mean (Eq. 8), and there is none
            without them.
        short_stride: Of SII; 1 in the paper.
        short_blocks: Blocks of SII, one behind the other; 1 in the paper, 2 in the released code.
        long_step: S of LII; 2 in the paper, -1 in the released code's unused class.
        boundary: What LII does beyond the last frame; not stated in the paper.
        block_mlp_ratio: Of the feed-forward networks in SII and LII.
        normalise_values: See ``CrossAttentionBlock``.
        detach_tokens: Keep SII and LII from training the encoder, as the released code does.
        neck: ``batch_norm`` puts a batch normalisation without shift on each feature; identity losses and retrieval
            then use its output, as the released code does. ``none`` is the plain feature of the paper.
        centre_modalities: Subtract from each retrieval feature the mean of its modality over the training data, which
            is what all its images have in common and says nothing about a person. Not in the paper.
        retrieval: The parts that the retrieval feature is made of. The paper names "the original sequence-level
            feature" and O without a dimension; the default is that of the released code, ``cls``, ``projected`` and
            ``fused``: [768 ; 512 ; 768] = 2048. To the letter it would be ``projected`` and ``fused``, [b ; Ō] = 1280;
            ``fused`` alone is Ō, and a model without interactions has ``cls`` and ``projected`` only.
        camera_embedding: What is added to the CLS token of a camera that was never trained, see ``CameraEmbedding``;
            ``none`` is a model without camera embeddings.
        cameras: Trained cameras, where there are embeddings.
        camera_scale: Coefficient of the embeddings.
        pooling: ``mean`` is TAP; see ``QualityPooling`` for ``quality``, which is not in the paper.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    encoder: EncoderConfig
    interactions: tuple[Interaction, ...] = ("short", "long")
    short_stride: int = Field(default=1, ge=0)
    short_blocks: int = Field(default=1, ge=1)
    long_step: int = 2
    boundary: Boundary = "circular"
    block_mlp_ratio: float = Field(default=4.0, gt=0)
    normalise_values: bool = False
    detach_tokens: bool = False
    neck: Literal["none", "batch_norm"] = "none"
    centre_modalities: bool = False
    retrieval: tuple[Part, ...] = Field(default=("cls", "projected", "fused"), min_length=1)
    camera_embedding: Policy = "none"
    cameras: int = Field(default=0, ge=0)
    camera_scale: float = 1.0
    pooling: Literal["mean", "quality"] = "mean"

    @model_validator(mode="after")
    def _check(self) -> Self:
        for name, chosen in (("interactions", self.interactions), ("retrieval", self.retrieval)):
            if len(set(chosen)) != len(chosen):
                raise ValueError(f"{name} names one thing twice: {', '.join(chosen)}")
        if "fused" in self.retrieval and not self.interactions:
            raise ValueError("retrieval has 'fused', which needs at least one of the interactions 'short' and 'long'")
        if (self.camera_embedding == "none") != (self.cameras == 0):
            raise ValueError(
                f"camera_embedding and cameras go together: got {self.camera_embedding!r} with {self.cameras} cameras"
            )
        return self

    @property
    def parts(self) -> tuple[Part, ...]:
        """The clip features that this model has."""
        return ("cls", "projected", "fused") if self.interactions else ("cls", "projected")

    @property
    def feature_widths(self) -> tuple[int, ...]:
        """Of each of the ``parts``."""
        return tuple(self.width_of(part) for part in self.parts)

    def width_of(self, part: Part) -> int:
        """D, and d for the projected mean."""
        return self.encoder.output_dim if part == "projected" else self.encoder.width

    @property
    def dimension(self) -> int:
        """Of the retrieval feature."""
        return sum(self.width_of(part) for part in self.retrieval)


def check_size(config: XReIDConfig, size_hw: tuple[int, int]) -> None:
    """Refuse a model that does not take the images that its preprocessing makes.

    Raises:
        ValueError: With both sizes.
    """
    wanted, given = config.encoder.image_size_hw, size_hw
    if wanted != given:
        raise ValueError(
            f"preprocessing.size_hw is {given[0]} x {given[1]}, but model.encoder.image_size_hw is "
            f"{wanted[0]} x {wanted[1]}: they must be equal"
        )


@dataclass(frozen=True, slots=True, eq=False)
class ClipFeatures:
    """What the network knows of each clip; B clips, T frames of the longest. Rows of padding frames mean nothing.

    Attributes:
        lengths: Frames of each clip, (B,) int64.
        patches: z^p, (B, T, N, D).
        frame_cls: z^cls, (B, T, D).
        frame_projected: v, (B, T, d).
        frame_fused: O (Eq. 8), (B, T, D), or None without SII and LII.
        cls: TAP(z^cls), the mean CLS token, (B, D).
        projected: b = TAP(v), (B, d).
        pooled: TAP(O^SII) as ``short`` and TAP(O^LII) as ``long``, (B, D), as far as there are such.
        fused: Ō = TAP(O), (B, D), or None.
    """

    lengths: Tensor
    patches: Tensor
    frame_cls: Tensor
    frame_projected: Tensor
    frame_fused: Tensor | None
    cls: Tensor
    projected: Tensor
    pooled: Mapping[Interaction, Tensor]
    fused: Tensor | None

    @property
    def parts(self) -> tuple[Tensor, ...]:
        """CLS mean, projected mean, and fused where there is one."""
        return (self.cls, self.projected) if self.fused is None else (self.cls, self.projected, self.fused)


def to_padded(packed: Tensor, lengths: Tensor) -> Tensor:
    """Lay frames that follow one another out by clip.

    Args:
        packed: (sum of lengths, ...), the frames of clip 0, then those of clip 1, ...
        lengths: (B,) int64, each at least 1.

    Returns:
        (B, T, ...), T the greatest length, zeros behind the end of a shorter clip.
    """
    longest = int(lengths.max())
    if len(packed) == len(lengths) * longest:
        return packed.reshape(len(lengths), longest, *packed.shape[1:])
    padded = packed.new_zeros(len(lengths), longest, *packed.shape[1:])
    padded[valid_frames(longest, lengths)] = packed
    return padded


class XReID(nn.Module):
    """Clips of one or more frames to features (Eq. 5-8); clips of different lengths share a batch without touching.

    A clip shorter than T is not filled up: it has all its own frames once, TAP divides by their number, a missing
    neighbour of SII is the frame itself, and LII goes round (or stops) within the clip. One frame is a clip.
    """

    centres: Tensor

    def __init__(self, config: XReIDConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config.encoder)
        if "short" in config.interactions:
            blocks = [self._block() for _ in range(config.short_blocks)]
            self.short_term = ShortTerm(*blocks, stride=config.short_stride)
        if "long" in config.interactions:
            self.long_term = LongTerm(self._block(), step=config.long_step, boundary=config.boundary)
        if config.centre_modalities:
            self.register_buffer("centres", torch.zeros(len(MODALITIES), config.dimension))
        with_neck = config.neck == "batch_norm"
        self.necks = nn.ModuleList([_neck(width) if with_neck else nn.Identity() for width in config.feature_widths])
        if config.camera_embedding != "none":
            self.camera_embedding = CameraEmbedding(
                config.cameras,
                len(MODALITIES),
                config.encoder.width,
                policy=config.camera_embedding,
                scale=config.camera_scale,
            )
        if config.pooling == "quality":
            self.quality = QualityPooling(config.encoder.width)

    def forward(
        self, frames: Tensor, lengths: Tensor, modalities: Tensor | None = None, cameras: Tensor | None = None
    ) -> ClipFeatures:
        """Run the network (section 3.1 and Eq. 5-8).

        Args:
            frames: (sum of lengths, 3, H, W), the frames of clip 0, then those of clip 1, ...
            lengths: (B,) int64, frames of each clip, each at least 1.
            modalities: (B,) int64, positions in ``MODALITIES``; needed by a model with camera embeddings.
            cameras: (B,) int64, trained cameras, ``UNKNOWN`` for others; None: none of them was trained.
        """
        of_clips = self._of_cameras(modalities, cameras)
        added = None if of_clips is None else of_clips.repeat_interleave(lengths, dim=0)
        tokens, projected = self.encoder(frames, shift=lambda x: shift_packed(x, lengths), added_to_cls=added)
        return self._interact(to_padded(tokens, lengths), to_padded(projected, lengths), lengths)

    def embed_padded(
        self, frames: Tensor, lengths: Tensor, modalities: Tensor, cameras: Tensor | None = None
    ) -> Tensor:
        """``embed`` of frames already laid out by clip: no shape depends on a value, as an export needs it.

        Args:
            frames: (B, T, 3, H, W); what lies behind the end of a clip is computed and not used.
            lengths: (B,) int64.
            modalities: (B,) int64.
            cameras: (B,) int64, or None.

        Returns:
            (B, dimension), float32.
        """
        clips, longest = frames.shape[:2]
        of_clips = self._of_cameras(modalities, cameras)
        added = None if of_clips is None else of_clips[:, None].expand(-1, longest, -1).flatten(0, 1)

        def shift(patches: Tensor) -> Tensor:
            return shift_channels(patches.reshape(clips, longest, *patches.shape[1:]), lengths).flatten(0, 1)

        tokens, projected = self.encoder(frames.flatten(0, 1), shift=shift, added_to_cls=added)
        tokens, projected = (x.unflatten(0, (clips, longest)) for x in (tokens, projected))
        return self._retrieval(self._interact(tokens, projected, lengths), modalities)

    def _of_cameras(self, modalities: Tensor | None, cameras: Tensor | None) -> Tensor | None:
        """What to add to the CLS tokens of each clip, (B, D)."""
        if self.config.camera_embedding == "none":
            return None
        if modalities is None:
            raise ValueError("a model with camera embeddings must be told the modalities of the clips")
        cameras = torch.full_like(modalities, UNKNOWN) if cameras is None else cameras
        of_clips: Tensor = self.camera_embedding(cameras, modalities)
        return of_clips

    def _interact(self, tokens: Tensor, projected: Tensor, lengths: Tensor) -> ClipFeatures:
        """SII, LII, fusion and pooling of (B, T, 1 + N, D) tokens and (B, T, d)."""
        cls, patches = tokens[:, :, 0], tokens[:, :, 1:]
        own = (cls.detach(), patches.detach()) if self.config.detach_tokens else (cls, patches)
        outputs: dict[Interaction, Tensor] = {}
        if "short" in self.config.interactions:
            outputs["short"] = self.short_term(*own, lengths)
        if "long" in self.config.interactions:
            outputs["long"] = self.long_term(*own, lengths)
        fused = fuse(tuple(outputs.values())) if outputs else None
        pool = self._pool(cls, lengths)
        return ClipFeatures(
            lengths=lengths,
            patches=patches,
            frame_cls=cls,
            frame_projected=projected,
            frame_fused=fused,
            cls=pool(cls),
            projected=pool(projected),
            pooled={name: pool(output) for name, output in outputs.items()},
            fused=None if fused is None else pool(fused),
        )

    def _pool(self, cls: Tensor, lengths: Tensor) -> Callable[[Tensor], Tensor]:
        if self.config.pooling == "quality":
            weights = self.quality.weights(cls, lengths)
            return lambda frames: weighted_mean(frames, weights)
        return lambda frames: temporal_mean(frames, lengths)

    def through_necks(self, parts: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Each of the ``parts`` of clip features behind its neck: (B, D), (B, d) and (B, D), as they came in."""
        return tuple(neck(part) for neck, part in zip(self.necks, parts, strict=True))

    def concatenated(
        self, frames: Tensor, lengths: Tensor, modalities: Tensor | None = None, cameras: Tensor | None = None
    ) -> Tensor:
        """The parts of the retrieval feature, each behind its neck, side by side; arguments as in ``forward``.

        Returns:
            (B, dimension), float32; lengths and modalities are int64.
        """
        return self._concatenated(self(frames, lengths, modalities, cameras))

    def embed(self, frames: Tensor, lengths: Tensor, modalities: Tensor, cameras: Tensor | None = None) -> Tensor:
        """The retrieval feature: the concatenation, less its modality's centre where there is one, at unit length.

        Args:
            frames: (sum of lengths, 3, H, W).
            lengths: (B,) int64.
            modalities: (B,) int64, positions in ``MODALITIES``.
            cameras: (B,) int64, or None.

        Returns:
            (B, dimension), float32.
        """
        return self._retrieval(self(frames, lengths, modalities, cameras), modalities)

    def _concatenated(self, features: ClipFeatures) -> Tensor:
        necked = dict(zip(self.config.parts, self.through_necks(features.parts), strict=True))
        return torch.cat([necked[part] for part in self.config.retrieval], dim=1).float()

    def _retrieval(self, clip: ClipFeatures, modalities: Tensor) -> Tensor:
        features = self._concatenated(clip)
        if self.config.centre_modalities:
            features = features - self.centres[modalities]
        return functional.normalize(features, dim=1)

    def _block(self) -> CrossAttentionBlock:
        config = self.config
        return CrossAttentionBlock(
            config.encoder.width,
            heads=config.encoder.heads,
            mlp_ratio=config.block_mlp_ratio,
            normalise_values=config.normalise_values,
        )


def _neck(width: int) -> nn.BatchNorm1d:
    neck = nn.BatchNorm1d(width)
    neck.bias.requires_grad_(False)
    return neck
