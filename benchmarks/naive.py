"""One training loss of the preset ``paper``, run as its equations are written: what ``train_step.py`` compares with.

Float32 throughout; attention as softmax(q kᵀ / √d) v with the whole matrix in memory; CII as FFN(MHSA(.)) of all
tokens, of which token 0 is taken; memories and losses clip by clip. Frames are encoded together, and linear layers,
norms and convolutions are PyTorch's: nothing here is slower than the equations make it. The parameters are those of
``XReID`` and ``Objective``, by name, so that both compute the same numbers (``tests/reid/test_train_step.py``).
"""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from reid.training_config import TrainConfig

Weights = Mapping[str, Tensor]
MARGIN, TEMPERATURE, MOMENTUM = 0.3, 0.05, 0.2


def inside(weights: Weights, prefix: str) -> dict[str, Tensor]:
    """The weights of one module."""
    return {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}


def layer_norm(x: Tensor, weights: Weights, name: str) -> Tensor:
    """Over the last dimension."""
    return functional.layer_norm(x, x.shape[-1:], weights[f"{name}.weight"], weights[f"{name}.bias"])


def linear(x: Tensor, weights: Weights, name: str) -> Tensor:
    """W x + b, or W x."""
    return functional.linear(x, weights[f"{name}.weight"], weights.get(f"{name}.bias"))


def attention(q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
    """softmax(q kᵀ / √d) v, (n, L, D) each."""
    q, k, v = (x.unflatten(2, (heads, -1)).transpose(1, 2) for x in (q, k, v))
    weights = torch.softmax(q @ k.transpose(2, 3) / math.sqrt(q.shape[3]), dim=3)
    return (weights @ v).transpose(1, 2).flatten(2)


def feed_forward(x: Tensor, weights: Weights) -> Tensor:
    """FFN."""
    return linear(functional.gelu(linear(x, weights, "ffn.expand")), weights, "ffn.contract")


def ffn_mhca(x: Tensor, y: Tensor, weights: Weights, heads: int) -> Tensor:
    """FFN(MHCA(query = x, key = value = y)) of Eq. 6-7."""
    q = linear(layer_norm(x, weights, "norm_query"), weights, "query")
    k = linear(layer_norm(y, weights, "norm_key"), weights, "key")
    x = x + linear(attention(q, k, linear(y, weights, "value"), heads), weights, "output")
    return x + feed_forward(layer_norm(x, weights, "norm_ffn"), weights)


def ffn_mhsa(x: Tensor, weights: Weights, heads: int) -> Tensor:
    """FFN(MHSA(x))."""
    q, k, v = linear(layer_norm(x, weights, "norm_attention"), weights, "qkv").chunk(3, dim=2)
    x = x + linear(attention(q, k, v, heads), weights, "output")
    return x + feed_forward(layer_norm(x, weights, "norm_ffn"), weights)


def stem(frames: Tensor, weights: Weights, patch: int) -> Tensor:
    """Patches to tokens: CLIP's one convolution, or small ones with norms over the batch."""
    if "conv1.weight" in weights:
        return functional.conv2d(frames, weights["conv1.weight"], stride=patch)
    x, last = frames, patch.bit_length() - 1
    for number in range(last):
        x = functional.conv2d(x, weights[f"conv1.{3 * number}.weight"], stride=2, padding=1)
        norm = inside(weights, f"conv1.{3 * number + 1}.")
        x = functional.relu(functional.batch_norm(x, None, None, norm["weight"], norm["bias"], training=True))
    return functional.conv2d(x, weights[f"conv1.{3 * last}.weight"], weights[f"conv1.{3 * last}.bias"])


def encode(frames: Tensor, weights: Weights, *, heads: int, layers: int, patch: int, quick: bool) -> Tensor:
    """f_θ: (n, 3, H, W) to the tokens behind ``ln_post``, (n, 1 + N, D)."""
    patches = stem(frames, weights, patch).flatten(2).transpose(1, 2)
    cls = weights["class_embedding"].expand(len(frames), 1, -1)
    x = layer_norm(torch.cat([cls, patches], dim=1) + weights["positional_embedding"], weights, "ln_pre")
    for layer in range(layers):
        block = inside(weights, f"transformer.resblocks.{layer}.")
        normed = layer_norm(x, block, "ln_1")
        q, k, v = functional.linear(normed, block["attn.in_proj_weight"], block["attn.in_proj_bias"]).chunk(3, dim=2)
        x = x + linear(attention(q, k, v, heads), block, "attn.out_proj")
        hidden = linear(layer_norm(x, block, "ln_2"), block, "mlp.c_fc")
        hidden = hidden * torch.sigmoid(1.702 * hidden) if quick else functional.gelu(hidden)
        x = x + linear(hidden, block, "mlp.c_proj")
    return layer_norm(x, weights, "ln_post")


def shifted(patches: Tensor) -> Tensor:
    """ẑ^p (Eq. 5) of (B, T, N, D), frame by frame."""
    quarter, last = patches.shape[3] // 4, patches.shape[1] - 1
    out = []
    for t in range(last + 1):
        before, after, here = patches[:, max(t - 1, 0)], patches[:, min(t + 1, last)], patches[:, t]
        parts = [before[..., :quarter], after[..., quarter : 2 * quarter], here[..., 2 * quarter :]]
        out.append(torch.cat(parts, dim=2))
    return torch.stack(out, dim=1)


def interact(cls: Tensor, seen: Tensor, weights: Weights, heads: int) -> Tensor:
    """FFN(MHCA(.)) of each frame's CLS token (B, T, D) and the patches it sees (B, T, N, D)."""
    return ffn_mhca(cls.flatten(0, 1)[:, None], seen.flatten(0, 1), weights, heads).view_as(cls)


def cii(pooled: Tensor, patches: Tensor, weights: Weights, heads: int) -> Tensor:
    """O_CMII: token 0 of FFN(MHSA([Ō ; z_t^p])) averaged over t; (n, D) and (n, T, N, D) to (n, D)."""
    clips, frames = patches.shape[:2]
    tokens = torch.cat([pooled[:, None, None].expand(-1, frames, 1, -1), patches], dim=2)
    return ffn_mhsa(tokens.flatten(0, 1), weights, heads)[:, 0].view(clips, frames, -1).mean(dim=1)


def cpcl(b: Tensor, identities: Sequence[int], memories: Tensor) -> Tensor:
    """Eq. 3-4: memory by memory, clip by clip."""
    total = b.new_zeros(())
    for memory in memories.clone():  # it moves before the backward pass
        for feature, y in zip(b, identities, strict=True):
            logits = memory @ functional.normalize(feature, dim=0) / TEMPERATURE
            total = total - torch.log_softmax(logits, dim=0)[y] / len(b)
    return total


def triplet(features: Tensor, identities: Sequence[int]) -> Tensor:
    """Batch-hard, anchor by anchor."""
    total = features.new_zeros(())
    for a, y in enumerate(identities):
        far = [(features[a] - features[b]).norm() for b, other in enumerate(identities) if other == y and b != a]
        near = [(features[a] - features[b]).norm() for b, other in enumerate(identities) if other != y]
        total = total + functional.relu(torch.stack(far).max() - torch.stack(near).min() + MARGIN) / len(features)
    return total


@torch.no_grad()
def update(memories: Tensor, b: Tensor, identities: Sequence[int], modalities: Sequence[int]) -> None:
    """Eq. 1-2 in place: memory by memory, identity by identity, over the clips of the other modality."""
    unit = [functional.normalize(feature.detach(), dim=0) for feature in b]
    for m, memory in enumerate(memories):
        for y in set(identities):
            candidates = [
                feature for feature, i, k in zip(unit, identities, modalities, strict=True) if i == y and k != m
            ]
            hardest = min(candidates, key=lambda feature, memory=memory, y=y: float(feature @ memory[y]))
            memory[y] = functional.normalize(MOMENTUM * memory[y] + (1 - MOMENTUM) * hardest, dim=0)


def losses(
    config: TrainConfig,
    weights: Weights,
    memories: Tensor,
    frames: Tensor,
    identities: Sequence[int],
    modalities: Sequence[int],
) -> dict[str, Tensor]:
    """Eq. 10 part by part; ``memories`` move behind it.

    Args:
        config: The preset ``paper`` with any plain encoder.
        weights: Parameters of ``XReID`` under ``model.`` and of ``Objective`` under ``objective.``.
        memories: (2, Y, d), moved in place.
        frames: (B T, 3, H, W), clip after clip, one modality after the other.
        identities: Of the B clips.
        modalities: Of the B clips, 0 or 1.
    """
    encoder, heads, count = config.model.encoder, config.model.encoder.heads, len(identities)
    model, objective = inside(weights, "model."), inside(weights, "objective.")
    visual = inside(model, "encoder.visual.")
    tokens = encode(
        frames, visual, heads=heads, layers=encoder.layers, patch=encoder.patch_size, quick=encoder.quick_gelu
    )
    tokens = tokens.unflatten(0, (count, -1))
    cls, patches = tokens[:, :, 0], tokens[:, :, 1:]
    b = (cls @ visual["proj"]).mean(dim=1)
    short = interact(cls, shifted(patches), inside(model, "short_term.block."), heads)
    long = interact(cls, patches.roll(-config.model.long_step, dims=1), inside(model, "long_term.block."), heads)
    fused = ((short + long) / 2).mean(dim=1)
    parts = {"cpcl": cpcl(b, identities, memories), "cmcl": b.new_zeros(())}
    parts["triplet"] = triplet(b, identities) + triplet(fused, identities)
    labels = torch.tensor(list(identities), device=b.device)
    for name, feature in (("projected", b), ("fused", fused)):
        logits = linear(feature, objective, f"identity.{name}.classifier")
        parts[f"identity_{name}"] = functional.cross_entropy(logits, labels)
    half = count // 2
    for name, output in (("short", short), ("long", long)):
        pooled, block = output.mean(dim=1), inside(objective, f"interaction.blocks.{name}.block.")
        for own, other in ((slice(0, half), slice(half, None)), (slice(half, None), slice(0, half))):
            difference = pooled[own] - cii(pooled[own], patches[other], block, heads)
            parts["cmcl"] = parts["cmcl"] + difference.square().sum(dim=1).mean()
    update(memories, b, identities, modalities)
    return parts
