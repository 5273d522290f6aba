"""X-ReID for inference: encoder, SII, LII, fusion and pooling over time (arXiv 2511.17964). CII is not part of it."""

from dataclasses import dataclass
from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from torch.nn import functional

from reid.modality import Modality
from reid.models.attention import CrossAttentionBlock
from reid.models.encoder import Encoder, EncoderConfig
from reid.models.long_term import Boundary, LongTerm
from reid.models.short_term import ShortTerm

MODALITIES = tuple(Modality)


class XReIDConfig(BaseModel):
    """All that decides the network's shape and its forward pass.

    Attributes:
        encoder: The vision transformer.
        short_stride: Of SII; 1 in the paper.
        long_step: S of LII; 2 in the paper.
        boundary: What LII does beyond the last frame; not stated in the paper.
        block_mlp_ratio: Of the feed-forward networks in SII and LII.
        normalise_values: See ``CrossAttentionBlock``.
        detach_tokens: Keep SII and LII from training the encoder, as the released code does.
        neck: ``batch_norm`` puts a batch normalisation without shift on each of the three features; identity losses
            and retrieval then use its output, as the released code does. ``none`` is the plain feature of the paper.
        centre_modalities: Subtract from each retrieval feature the mean of its modality over the training data, which
            is what all its images have in common and says nothing about a person. Not in the paper.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    encoder: EncoderConfig
    short_stride: int = Field(default=1, ge=0)
    long_step: int = Field(default=2, ge=0)
    boundary: Boundary = "circular"
    block_mlp_ratio: float = Field(default=4.0, gt=0)
    normalise_values: bool = False
    detach_tokens: bool = False
    neck: Literal["none", "batch_norm"] = "none"
    centre_modalities: bool = False

    @property
    def feature_widths(self) -> tuple[int, int, int]:
        """Of the CLS mean, the projected mean and the fused feature."""
        return self.encoder.width, self.encoder.output_dim, self.encoder.width

    @property
    def dimension(self) -> int:
        """Of the retrieval feature."""
        return sum(self.feature_widths)


@dataclass(frozen=True, slots=True, eq=False)
class ClipFeatures:
    """What the network knows of each clip; B clips, T frames of the longest.

    Attributes:
        patches: z^p, (B, T, N, D); padding frames are zero.
        cls: TAP(z^cls), the mean CLS token, (B, D).
        projected: b = TAP(v), (B, d).
        short: TAP(O^SII), (B, D).
        long: TAP(O^LII), (B, D).
        fused: Ō = TAP((O^SII + O^LII) / 2), (B, D) (Eq. 8).
    """

    patches: Tensor
    cls: Tensor
    projected: Tensor
    short: Tensor
    long: Tensor
    fused: Tensor

    @property
    def parts(self) -> tuple[Tensor, Tensor, Tensor]:
        """CLS mean, projected mean, fused: the three that retrieval concatenates."""
        return self.cls, self.projected, self.fused


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
    padded[torch.arange(longest, device=lengths.device) < lengths[:, None]] = packed
    return padded


def temporal_mean(frames: Tensor, lengths: Tensor) -> Tensor:
    """TAP: the mean over each clip's own frames, (B, T, D) to (B, D)."""
    valid = torch.arange(frames.shape[1], device=lengths.device) < lengths[:, None]
    total = torch.where(valid[..., None], frames, frames.new_zeros(())).sum(dim=1)
    return total / lengths[:, None].to(frames.dtype)


class XReID(nn.Module):
    """Clips of one or more frames to features; clips of different lengths share a batch and do not touch each other."""

    centres: Tensor

    def __init__(self, config: XReIDConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config.encoder)
        self.short_term = ShortTerm(self._block(), stride=config.short_stride)
        self.long_term = LongTerm(self._block(), step=config.long_step, boundary=config.boundary)
        with_neck = config.neck == "batch_norm"
        if config.centre_modalities:
            self.register_buffer("centres", torch.zeros(len(MODALITIES), config.dimension))
        self.necks = nn.ModuleList([_neck(width) if with_neck else nn.Identity() for width in config.feature_widths])

    def forward(self, frames: Tensor, lengths: Tensor) -> ClipFeatures:
        """Run the network.

        Args:
            frames: (sum of lengths, 3, H, W), the frames of clip 0, then those of clip 1, ...
            lengths: (B,) int64, frames of each clip, each at least 1.
        """
        tokens, projected = self.encoder(frames)
        tokens, projected = to_padded(tokens, lengths), to_padded(projected, lengths)
        cls, patches = tokens[:, :, 0], tokens[:, :, 1:]
        own = (cls.detach(), patches.detach()) if self.config.detach_tokens else (cls, patches)
        short, long = self.short_term(*own, lengths), self.long_term(*own, lengths)
        return ClipFeatures(
            patches=patches,
            cls=temporal_mean(cls, lengths),
            projected=temporal_mean(projected, lengths),
            short=temporal_mean(short, lengths),
            long=temporal_mean(long, lengths),
            fused=temporal_mean((short + long) / 2, lengths),
        )

    def through_necks(self, features: ClipFeatures) -> tuple[Tensor, Tensor, Tensor]:
        """CLS mean (B, D), projected mean (B, d) and fused (B, D), each behind its neck."""
        cls, projected, fused = (neck(part) for neck, part in zip(self.necks, features.parts, strict=True))
        return cls, projected, fused

    def concatenated(self, frames: Tensor, lengths: Tensor) -> Tensor:
        """[CLS mean ; projected mean ; fused], each behind its neck: (B, 2 D + d), float32."""
        return torch.cat(self.through_necks(self(frames, lengths)), dim=1).float()

    def embed(self, frames: Tensor, lengths: Tensor, modalities: Tensor) -> Tensor:
        """The retrieval feature: the concatenation, less its modality's centre where there is one, at unit length.

        Args:
            frames: (sum of lengths, 3, H, W).
            lengths: (B,) int64.
            modalities: (B,) int64, positions in ``MODALITIES``.

        Returns:
            (B, 2 D + d), float32.
        """
        features = self.concatenated(frames, lengths)
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
