"""The pre-LN blocks of attention and feed-forward network that SII, LII and CII are made of (Eq. 6-7, section 3.3)."""

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional


def attend(q: Tensor, k: Tensor, v: Tensor, *, heads: int) -> Tensor:
    """softmax(q kᵀ / √(D / heads)) v in each head (Vaswani et al. 2017, Eq. 1), by the fused kernels of PyTorch.

    Args:
        q: (n, Q, D).
        k: (n, L, D).
        v: (n, L, D).
        heads: Each has D / heads channels.

    Returns:
        (n, Q, D).
    """
    q, k, v = (part.reshape(*part.shape[:2], heads, -1).transpose(1, 2) for part in (q, k, v))
    return _fused(q, k, v, scale=q.shape[3] ** -0.5).transpose(1, 2).flatten(2)


def attend_folded(q: Tensor, k: Tensor, v: Tensor, key: Tensor, value: Tensor, *, heads: int) -> Tensor:
    """``attend(q, W_k k, W_v v)`` for few queries, without ever computing W_k k and W_v v.

    In each head q · (W_k k) = (W_kᵀ q) · k, and Σ a W_v v = W_v Σ a v: with one query a frame and N tokens to look at,
    N products with a D x D matrix become one with N x D, and N x D keys and values need not be kept for the gradient.

    Args:
        q: Queries behind W_q, (n, Q, D).
        k: (n, L, D), in front of W_k.
        v: (n, L, D), in front of W_v.
        key: W_k, (D, D).
        value: W_v, (D, D).
        heads: Each has D / heads channels.

    Returns:
        (n, Q, D).
    """
    clips, queries, width = q.shape
    channels = width // heads
    q = q.reshape(clips, queries, heads, channels)
    key, value = (weight.view(heads, channels, width) for weight in (key, value))
    folded = torch.einsum("nqhc,hcd->nqhd", q, key)
    mixed = _fused(folded.flatten(1, 2)[:, None], k[:, None], v[:, None], scale=channels**-0.5)
    return torch.einsum("nqhd,hcd->nqhc", mixed.reshape(clips, queries, heads, width), value).flatten(2)


def _fused(q: Tensor, k: Tensor, v: Tensor, *, scale: float) -> Tensor:
    """Attention of (n, heads, L, c); float32 on a CPU, whose bf16 kernel has a slow gradient."""
    if q.device.type == "cpu" and torch.is_autocast_enabled("cpu"):
        with torch.autocast("cpu", enabled=False):
            mixed = functional.scaled_dot_product_attention(q.float(), k.float(), v.float(), scale=scale)
        return mixed.to(q.dtype)
    return functional.scaled_dot_product_attention(q, k, v, scale=scale)


class FeedForward(nn.Module):
    """D to ratio * D, GELU, and back to D."""

    def __init__(self, width: int, *, ratio: float) -> None:
        super().__init__()
        self.expand = nn.Linear(width, int(width * ratio))
        self.contract = nn.Linear(int(width * ratio), width)

    def forward(self, x: Tensor) -> Tensor:
        """(..., D) to (..., D)."""
        return cast(Tensor, self.contract(functional.gelu(self.expand(x))))


class CrossAttentionBlock(nn.Module):
    """FFN(MHCA(query = x, key = value = y)) of Eq. 6 and 7, as a residual pre-LN block.

    x ← x + W_o softmax(W_q LN(x) (W_k LN(y))ᵀ / √64) W_v y;  x ← x + FFN(LN(x)).

    Args:
        width: D.
        heads: Attention heads.
        mlp_ratio: Of the feed-forward network.
        normalise_values: Take the values from LN(y) like the keys. The released code takes them from y itself.
    """

    def __init__(self, width: int, *, heads: int, mlp_ratio: float = 4.0, normalise_values: bool = False) -> None:
        super().__init__()
        self.heads = heads
        self.normalise_values = normalise_values
        self.norm_query = nn.LayerNorm(width)
        self.norm_key = nn.LayerNorm(width)
        self.query = nn.Linear(width, width, bias=False)
        self.key = nn.Linear(width, width, bias=False)
        self.value = nn.Linear(width, width, bias=False)
        self.output = nn.Linear(width, width)
        self.norm_ffn = nn.LayerNorm(width)
        self.ffn = FeedForward(width, ratio=mlp_ratio)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Let the tokens x (n, q, D) look at the tokens y (n, L, D); returns (n, q, D)."""
        keys = self.norm_key(y)
        values = keys if self.normalise_values else y
        query = self.query(self.norm_query(x))
        mixed = attend_folded(query, keys, values, self.key.weight, self.value.weight, heads=self.heads)
        x = x + self.output(mixed)
        return cast(Tensor, x + self.ffn(self.norm_ffn(x)))


class SelfAttentionBlock(nn.Module):
    """FFN(MHSA(x)) as a residual pre-LN block; queries, keys and values without bias."""

    def __init__(self, width: int, *, heads: int, mlp_ratio: float = 4.0) -> None:
        super().__init__()
        self.heads = heads
        self.norm_attention = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.output = nn.Linear(width, width)
        self.norm_ffn = nn.LayerNorm(width)
        self.ffn = FeedForward(width, ratio=mlp_ratio)

    def forward(self, x: Tensor) -> Tensor:
        """(n, L, D) to (n, L, D)."""
        q, k, v = self.qkv(self.norm_attention(x)).chunk(3, dim=-1)
        x = x + self.output(attend(q, k, v, heads=self.heads))
        return cast(Tensor, x + self.ffn(self.norm_ffn(x)))

    def first_token(self, x: Tensor) -> Tensor:
        """Row 0 of what ``forward`` gives, (n, L, D) to (n, D), without computing the others."""
        normed = self.norm_attention(x)
        query, key, value = self.qkv.weight.chunk(3)
        q = functional.linear(normed[:, :1], query)
        first = x[:, :1] + self.output(attend_folded(q, normed, normed, key, value, heads=self.heads))
        return cast(Tensor, first + self.ffn(self.norm_ffn(first)))[:, 0]
