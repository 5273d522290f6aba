"""The pre-LN blocks of attention and feed-forward network that SII, LII and CII are made of."""

from typing import cast

from torch import Tensor, nn
from torch.nn import functional


def _split_heads(x: Tensor, heads: int) -> Tensor:
    """(n, L, D) to (n, heads, L, D / heads)."""
    return x.reshape(*x.shape[:2], heads, -1).transpose(1, 2)


def _attend(q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
    """softmax(q kᵀ / √head_width) v over (n, L, D) inputs."""
    q, k, v = (_split_heads(part, heads) for part in (q, k, v))
    mixed = functional.scaled_dot_product_attention(q, k, v)
    return mixed.transpose(1, 2).flatten(2)


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
        mixed = _attend(self.query(self.norm_query(x)), self.key(keys), self.value(values), self.heads)
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
        x = x + self.output(_attend(q, k, v, self.heads))
        return cast(Tensor, x + self.ffn(self.norm_ffn(x)))

    def first_token(self, x: Tensor) -> Tensor:
        """Row 0 of what ``forward`` gives, (n, L, D) to (n, D), without computing the others."""
        normed = self.norm_attention(x)
        width = x.shape[2]
        q = functional.linear(normed[:, :1], self.qkv.weight[:width])
        k, v = functional.linear(normed, self.qkv.weight[width:]).chunk(2, dim=-1)
        first = x[:, :1] + self.output(_attend(q, k, v, self.heads))
        return cast(Tensor, first + self.ffn(self.norm_ffn(first)))[:, 0]
