"""SII, LII and CII against the paper's sentences and slow NumPy."""

import numpy as np
import pytest
import torch
from torch import Tensor

from reid.losses.cmcl import cmcl
from reid.models.attention import CrossAttentionBlock, SelfAttentionBlock
from reid.models.cross_modality import CrossModality
from reid.models.long_term import LongTerm, frames_ahead
from reid.models.short_term import ShortTerm, shift_channels
from tests.reid.reference import Array, cross_modality, ffn_mhca, ffn_mhsa, long_term, short_term

WIDTH, HEADS = 16, 2


def randomised(block: torch.nn.Module) -> torch.nn.Module:
    """Give every parameter a value that matters, norms and biases too."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in block.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
    return block


def array(tensor: Tensor) -> Array:
    return tensor.detach().numpy().astype(np.float64)


def arrays(module: torch.nn.Module) -> dict[str, Array]:
    return {name: array(value) for name, value in module.state_dict().items()}


def slow_cross(block: CrossAttentionBlock, x: Array, y: Array) -> Array:
    return ffn_mhca(x, y, arrays(block), HEADS, normalise_values=block.normalise_values)


def slow_self(block: SelfAttentionBlock, x: Array) -> Array:
    return ffn_mhsa(x, arrays(block), HEADS)


@pytest.mark.parametrize("normalise_values", [False, True])
def test_cross_attention_is_the_residual_pre_norm_block(normalise_values: bool) -> None:
    block = randomised(CrossAttentionBlock(WIDTH, heads=HEADS, mlp_ratio=3, normalise_values=normalise_values))
    x, y = torch.randn(2, 3, WIDTH), torch.randn(2, 5, WIDTH)
    expected = np.stack([slow_cross(block, *pair) for pair in zip(array(x), array(y), strict=True)])
    np.testing.assert_allclose(array(block(x, y)), expected, atol=1e-5)


def test_self_attention_is_the_residual_pre_norm_block() -> None:
    block = randomised(SelfAttentionBlock(WIDTH, heads=HEADS, mlp_ratio=2))
    x = torch.randn(2, 5, WIDTH)
    expected = np.stack([slow_self(block, row) for row in array(x)])
    np.testing.assert_allclose(array(block(x)), expected, atol=1e-5)


def test_the_shift_takes_a_quarter_from_each_neighbour_and_does_not_write_its_input() -> None:
    frames = 6
    patches = torch.arange(1.0, frames + 1)[None, :, None, None].expand(1, frames, 3, 8).clone()
    before = patches.clone()
    shifted = shift_channels(patches, torch.tensor([frames]))
    assert shifted[0, :, 0, 0].tolist() == [1, 1, 2, 3, 4, 5]
    assert shifted[0, :, 0, 1].tolist() == [1, 1, 2, 3, 4, 5]
    assert shifted[0, :, 0, 2].tolist() == [2, 3, 4, 5, 6, 6]
    assert shifted[0, :, 0, 3].tolist() == [2, 3, 4, 5, 6, 6]
    assert torch.equal(shifted[..., 4:], before[..., 4:])
    assert torch.equal(shifted, shifted[:, :, :1].expand_as(shifted))  # all positions move together
    assert torch.equal(patches, before)


def test_the_shift_with_a_stride_keeps_the_frame_itself_where_there_is_no_neighbour() -> None:
    patches = torch.arange(1.0, 6)[None, :, None, None].expand(1, 5, 1, 4)
    shifted = shift_channels(patches, torch.tensor([5]), stride=2)
    assert shifted[0, :, 0, 0].tolist() == [1, 2, 1, 2, 3]
    assert shifted[0, :, 0, 1].tolist() == [3, 4, 5, 4, 5]


def test_the_shift_does_not_look_behind_the_end_of_a_shorter_clip() -> None:
    patches = torch.arange(1.0, 5)[None, :, None, None].expand(2, 4, 1, 4)
    shifted = shift_channels(patches, torch.tensor([4, 2]))
    assert shifted[1, :2, 0, 1].tolist() == [2, 2]


def test_lii_looks_two_frames_ahead_and_round() -> None:
    ten = torch.tensor([10])
    assert frames_ahead(10, ten, step=2, boundary="circular")[0].tolist() == [2, 3, 4, 5, 6, 7, 8, 9, 0, 1]
    assert frames_ahead(10, ten, step=2, boundary="clamp")[0].tolist() == [2, 3, 4, 5, 6, 7, 8, 9, 9, 9]
    assert frames_ahead(10, ten, step=-2, boundary="clamp")[0].tolist() == [0, 0, 0, 1, 2, 3, 4, 5, 6, 7]
    assert frames_ahead(10, ten, step=0, boundary="circular")[0].tolist() == list(range(10))
    assert frames_ahead(4, torch.tensor([3, 1]), step=2, boundary="circular").tolist() == [[2, 0, 1, 2], [0, 0, 0, 0]]


def test_sii_and_lii_equal_their_equations_frame_by_frame() -> None:
    frames = 5
    cls, patches = torch.randn(2, frames, WIDTH), torch.randn(2, frames, 3, WIDTH)
    lengths = torch.full((2,), frames)
    short = ShortTerm(randomised(CrossAttentionBlock(WIDTH, heads=HEADS)))
    long = LongTerm(randomised(CrossAttentionBlock(WIDTH, heads=HEADS)))
    out_short, out_long = array(short(cls, patches, lengths)), array(long(cls, patches, lengths))
    for clip, (z, p) in enumerate(zip(array(cls), array(patches), strict=True)):
        expected = short_term(list(z), list(p), arrays(short.block), HEADS)
        np.testing.assert_allclose(out_short[clip], expected, atol=1e-5)
        expected = long_term(list(z), list(p), arrays(long.block), HEADS, step=2)
        np.testing.assert_allclose(out_long[clip], expected, atol=1e-5)


def test_cii_equals_its_equation_and_averages_the_partners_frames() -> None:
    branch = CrossModality(randomised(SelfAttentionBlock(WIDTH, heads=HEADS)))
    pooled, partner = torch.randn(2, WIDTH), torch.randn(2, 4, 3, WIDTH)
    out = array(branch(pooled, partner))
    for clip in range(2):
        expected = cross_modality(array(pooled)[clip], list(array(partner)[clip]), arrays(branch.block), HEADS)
        np.testing.assert_allclose(out[clip], expected, atol=1e-5)


def test_cii_may_use_fewer_of_the_partners_frames() -> None:
    block = randomised(SelfAttentionBlock(WIDTH, heads=HEADS))
    pooled, partner = torch.randn(2, WIDTH), torch.randn(2, 4, 3, WIDTH)
    few = CrossModality(block, frames=1)(pooled, partner)
    torch.testing.assert_close(few, CrossModality(block)(pooled, partner[:, :1]))


def test_a_cii_whose_last_layers_are_zero_adds_nothing_and_cmcl_is_zero() -> None:
    block = randomised(SelfAttentionBlock(WIDTH, heads=HEADS))
    with torch.no_grad():
        for layer in (block.output, block.ffn.contract):
            layer.weight.zero_()
            layer.bias.zero_()
    pooled = torch.randn(3, WIDTH)
    interacted = CrossModality(block)(pooled, torch.randn(3, 4, 5, WIDTH))
    torch.testing.assert_close(interacted, pooled)
    assert cmcl(pooled, interacted).item() < 1e-10


def test_cmcl_is_the_mean_over_clips_of_the_squared_distance() -> None:
    a, b = torch.randn(5, WIDTH), torch.randn(5, WIDTH)
    expected = np.mean([((x - y) ** 2).sum() for x, y in zip(array(a), array(b), strict=True)])
    assert cmcl(a, b).item() == pytest.approx(expected, rel=1e-6)
