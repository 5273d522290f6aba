"""X-ReID once more in slow, plain NumPy, float64, from the paper's equations (arXiv 2511.17964): no torch, no shortcut.

Weights come as arrays by name, as a state dictionary has them. A clip is a list of frames; loops go over clips, frames,
heads, queries, identities and memories one by one.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Weights = Mapping[str, Array]


def inside(weights: Weights, prefix: str) -> dict[str, Array]:
    """The weights of one module."""
    return {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}


def unit(x: Array) -> Array:
    return x / np.linalg.norm(x)


# --- transformer blocks -------------------------------------------------------


def layer_norm(x: Array, weights: Weights, name: str) -> Array:
    mean, variance = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
    return (x - mean) / np.sqrt(variance + 1e-5) * weights[f"{name}.weight"] + weights[f"{name}.bias"]


def linear(x: Array, weights: Weights, name: str) -> Array:
    return x @ weights[f"{name}.weight"].T + weights.get(f"{name}.bias", np.zeros(1))


def gelu(x: Array) -> Array:
    return x * 0.5 * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))


def quick_gelu(x: Array) -> Array:
    return x / (1 + np.exp(-1.702 * x))


def attention(q: Array, k: Array, v: Array, heads: int) -> Array:
    """softmax(q kᵀ / √width) v, one head after another, one query after another."""
    out, size = np.zeros_like(q), q.shape[-1] // heads
    for head in range(heads):
        part = slice(head * size, (head + 1) * size)
        for row in range(len(q)):
            logits = np.array([q[row, part] @ key[part] for key in k]) / math.sqrt(size)
            weight = np.exp(logits - logits.max())
            out[row, part] = (weight / weight.sum()) @ v[:, part]
    return out


def ffn_mhca(x: Array, y: Array, weights: Weights, heads: int, *, normalise_values: bool = False) -> Array:
    """FFN(MHCA(query = x, key = value = y)) of Eq. 6 and 7; residual, norms in front."""
    keys = layer_norm(y, weights, "norm_key")
    values = keys if normalise_values else y
    q, k = linear(layer_norm(x, weights, "norm_query"), weights, "query"), linear(keys, weights, "key")
    x = x + linear(attention(q, k, linear(values, weights, "value"), heads), weights, "output")
    return x + feed_forward(layer_norm(x, weights, "norm_ffn"), weights)


def ffn_mhsa(x: Array, weights: Weights, heads: int) -> Array:
    """FFN(MHSA(x)); residual, norms in front."""
    q, k, v = np.split(linear(layer_norm(x, weights, "norm_attention"), weights, "qkv"), 3, axis=-1)
    x = x + linear(attention(q, k, v, heads), weights, "output")
    return x + feed_forward(layer_norm(x, weights, "norm_ffn"), weights)


def feed_forward(x: Array, weights: Weights) -> Array:
    return linear(gelu(linear(x, weights, "ffn.expand")), weights, "ffn.contract")


# --- encoder (section 3.1) ----------------------------------------------------


def encode(image: Array, weights: Weights, *, layers: int, heads: int, patch: int) -> tuple[Array, Array]:
    """One frame (3, H, W) to its tokens (1 + N, D) behind ln_post, CLS first, and the projected CLS (d,)."""
    kernel = weights["conv1.weight"]
    rows, columns = image.shape[1] // patch, image.shape[2] // patch
    tokens = [weights["class_embedding"]]
    for row in range(rows):
        for column in range(columns):
            piece = image[:, row * patch : (row + 1) * patch, column * patch : (column + 1) * patch]
            tokens.append(np.array([(piece * each).sum() for each in kernel]))
    x = layer_norm(np.stack(tokens) + weights["positional_embedding"], weights, "ln_pre")
    for layer in range(layers):
        block = inside(weights, f"transformer.resblocks.{layer}.")
        normed = layer_norm(x, block, "ln_1")
        q, k, v = np.split(normed @ block["attn.in_proj_weight"].T + block["attn.in_proj_bias"], 3, axis=-1)
        x = x + linear(attention(q, k, v, heads), block, "attn.out_proj")
        hidden = quick_gelu(linear(layer_norm(x, block, "ln_2"), block, "mlp.c_fc"))
        x = x + linear(hidden, block, "mlp.c_proj")
    x = layer_norm(x, weights, "ln_post")
    return x, x[0] @ weights["proj"]


# --- multi-modality information interaction (section 3.3) ---------------------


def shifted(patches: Sequence[Array], t: int, stride: int = 1) -> Array:
    """ẑ_t^p (Eq. 5): a quarter of the channels from the frame before, one from the frame after, half its own."""
    quarter = patches[t].shape[1] // 4
    before = t - stride if t - stride >= 0 else t
    after = t + stride if t + stride < len(patches) else t
    out = patches[t].copy()
    out[:, :quarter] = patches[before][:, :quarter]
    out[:, quarter : 2 * quarter] = patches[after][:, quarter : 2 * quarter]
    return out


def short_term(cls: Sequence[Array], patches: Sequence[Array], weights: Weights, heads: int) -> list[Array]:
    """O_t^SII (Eq. 6)."""
    return [ffn_mhca(cls[t][None], shifted(patches, t), weights, heads)[0] for t in range(len(cls))]


def long_term(cls: Sequence[Array], patches: Sequence[Array], weights: Weights, heads: int, step: int) -> list[Array]:
    """O_τ^LII (Eq. 7): the query is of frame τ, keys and values of frame τ + S; circular."""
    count = len(cls)
    return [ffn_mhca(cls[t][None], patches[(t + step) % count], weights, heads)[0] for t in range(count)]


@dataclass(frozen=True)
class Clip:
    """What a clip of frames becomes.

    Attributes:
        patches: z_t^p of each frame.
        cls: TAP of z^cls.
        projected: b, TAP of v.
        short: TAP of O^SII.
        long: TAP of O^LII.
        fused: TAP of O (Eq. 8).
    """

    patches: list[Array]
    cls: Array
    projected: Array
    short: Array
    long: Array
    fused: Array


def clip_features(frames: Sequence[Array], weights: Weights, *, layers: int, heads: int, patch: int) -> Clip:
    """The whole of the network on one clip; SII with stride 1, LII with S = 2."""
    encoded = [encode(f, inside(weights, "encoder.visual."), layers=layers, heads=heads, patch=patch) for f in frames]
    cls, patches = [tokens[0] for tokens, _ in encoded], [tokens[1:] for tokens, _ in encoded]
    short = short_term(cls, patches, inside(weights, "short_term.block."), heads)
    long = long_term(cls, patches, inside(weights, "long_term.block."), heads, step=2)
    fused = [(a + b) / 2 for a, b in zip(short, long, strict=True)]
    return Clip(
        patches,
        np.mean(cls, axis=0),
        np.mean([v for _, v in encoded], axis=0),
        np.mean(short, axis=0),
        np.mean(long, axis=0),
        np.mean(fused, axis=0),
    )


def retrieval_feature(clip: Clip) -> Array:
    """[768 ; 512 ; 768] at unit length."""
    return unit(np.concatenate([clip.cls, clip.projected, clip.fused]))


def cross_modality(pooled: Array, partner: Sequence[Array], weights: Weights, heads: int) -> Array:
    """O_CMII: token 0 of FFN(MHSA([Ō ; z_t^p])), averaged over the partner's frames."""
    return np.mean([ffn_mhsa(np.concatenate([pooled[None], z]), weights, heads)[0] for z in partner], axis=0)


# --- losses -------------------------------------------------------------------


def first_memories(
    features: Sequence[Array], identities: Sequence[int], modalities: Sequence[int], shape: tuple[int, int]
) -> Array:
    """Section 3.2: a prototype begins as the mean of its identity's features b in its modality, unit; (M, Y, d)."""
    out = np.zeros((*shape, len(features[0])))
    for m in range(shape[0]):
        for y in range(shape[1]):
            own = [b for b, i, k in zip(features, identities, modalities, strict=True) if (i, k) == (y, m)]
            if own:
                out[m, y] = unit(sum(own) / len(own))
    return out


def updated_memories(
    memories: Array, features: Sequence[Array], identities: Sequence[int], modalities: Sequence[int], momentum: float
) -> Array:
    """Eq. 1-2: each memory moves towards the hardest clip of the identity in the other modality; (M, Y, d)."""
    out = memories.copy()
    for m in range(len(memories)):
        for y in set(identities):
            candidates = [
                unit(b) for b, i, k in zip(features, identities, modalities, strict=True) if i == y and k != m
            ]
            if candidates:
                hardest = min(candidates, key=lambda b, m=m, y=y: float(b @ memories[m, y]))
                out[m, y] = unit(momentum * memories[m, y] + (1 - momentum) * hardest)
    return out


def cpcl(features: Sequence[Array], identities: Sequence[int], memories: Array, temperature: float) -> float:
    """Eq. 3-4: every clip against every memory; the sum over memories of the mean over clips."""
    total = 0.0
    for memory in memories:
        for b, y in zip(features, identities, strict=True):
            score = [math.exp(float(unit(b) @ prototype) / temperature) for prototype in memory]
            total -= math.log(score[y] / sum(score)) / len(features)
    return total


def triplet(features: Sequence[Array], identities: Sequence[int], margin: float) -> float:
    """Batch-hard: the farthest of the same person against the nearest of another, Euclidean."""
    losses = []
    for a, y in zip(features, identities, strict=True):
        far = max(np.linalg.norm(a - b) for b, i in zip(features, identities, strict=True) if i == y and b is not a)
        near = min(np.linalg.norm(a - b) for b, i in zip(features, identities, strict=True) if i != y)
        losses.append(max(0.0, float(far - near) + margin))
    return float(np.mean(losses))


def identity_loss(features: Sequence[Array], identities: Sequence[int], classifier: Array) -> float:
    """Cross-entropy over the training persons."""
    losses = []
    for x, y in zip(features, identities, strict=True):
        logits = classifier @ x
        losses.append(math.log(np.exp(logits - logits.max()).sum()) + logits.max() - logits[y])
    return float(np.mean(losses))


def cmcl(clips: Sequence[Clip], weights: Mapping[str, Weights], heads: int) -> float:
    """Eq. 9 over SII and LII and both directions; the first half of the clips is one modality, the second the other."""
    half = len(clips) // 2
    total = 0.0
    for branch in ("short", "long"):
        for own, other in ((clips[:half], clips[half:]), (clips[half:], clips[:half])):
            for clip, partner in zip(own, other, strict=True):
                pooled: Array = getattr(clip, branch)
                interacted = cross_modality(pooled, partner.patches, weights[branch], heads)
                total += float(((pooled - interacted) ** 2).sum()) / half
    return total
