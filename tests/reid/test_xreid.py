import pytest
import torch
from torch import Tensor

from reid.models.pooling import temporal_mean
from reid.models.xreid import XReID, XReIDConfig, to_padded
from tests.reid.factories import encoder_config, model_config


def build(**changes: object) -> XReID:
    torch.manual_seed(1)
    model = XReID(model_config(**changes)).eval()
    if model.config.neck == "batch_norm":
        for neck in model.necks:
            neck.running_mean.normal_()
            neck.running_var.uniform_(0.5, 2)
    return model


def clips(*lengths: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(2)
    return torch.randn(sum(lengths), 3, 32, 16, generator=generator), torch.tensor(lengths)


def embed(model: XReID, frames: Tensor, lengths: Tensor) -> Tensor:
    return model.embed(frames, lengths, torch.zeros_like(lengths))


def test_the_feature_is_2048_wide_at_the_papers_size() -> None:
    assert XReIDConfig(encoder=encoder_config(width=768, output_dim=512, head_width=64)).dimension == 2048


def test_the_fused_feature_is_the_mean_of_both_interactions_and_of_time() -> None:
    model = build()
    frames, lengths = clips(5, 5)
    features = model(frames, lengths)
    tokens, projected = model.encoder(frames)
    tokens = tokens.view(2, 5, *tokens.shape[1:])
    cls, patches = tokens[:, :, 0], tokens[:, :, 1:]
    short, long = model.short_term(cls, patches, lengths), model.long_term(cls, patches, lengths)
    torch.testing.assert_close(features.fused, ((short + long) / 2).mean(dim=1))
    torch.testing.assert_close(features.pooled["short"], short.mean(dim=1))
    torch.testing.assert_close(features.pooled["long"], long.mean(dim=1))
    torch.testing.assert_close(features.cls, cls.mean(dim=1))
    torch.testing.assert_close(features.projected, projected.view(2, 5, -1).mean(dim=1))


@pytest.mark.parametrize("neck", ["none", "batch_norm"])
def test_the_embedding_is_the_three_parts_side_by_side_at_unit_length(neck: str) -> None:
    model = build(neck=neck)
    frames, lengths = clips(3, 1)
    parts = torch.cat(model.through_necks(model(frames, lengths).parts), dim=1)
    embedding = embed(model, frames, lengths)
    assert embedding.shape == (2, 16 + 12 + 16)
    torch.testing.assert_close(embedding, parts / parts.norm(dim=1, keepdim=True))


def test_the_centre_of_its_modality_is_taken_from_the_feature() -> None:
    model = build(centre_modalities=True)
    frames, lengths = clips(3, 1)
    plain = model.concatenated(frames, lengths)
    model.centres[2] = plain[1] - 7
    embedding = model.embed(frames, lengths, torch.tensor([0, 2]))
    torch.testing.assert_close(embedding[0], plain[0] / plain[0].norm())
    torch.testing.assert_close(embedding[1], torch.full_like(plain[1], 7) / (49 * 44) ** 0.5)


@pytest.mark.parametrize("boundary", ["circular", "clamp"])
def test_clips_of_different_lengths_in_one_batch_equal_one_at_a_time(boundary: str) -> None:
    model = build(boundary=boundary, neck="batch_norm")
    frames, lengths = clips(4, 1, 6, 2, 3)
    together = embed(model, frames, lengths)
    alone = [embed(model, clip, torch.tensor([len(clip)])) for clip in frames.split(lengths.tolist())]
    torch.testing.assert_close(together, torch.cat(alone), atol=2e-6, rtol=1e-5)


def test_the_order_of_clips_in_a_batch_does_not_matter() -> None:
    model = build()
    frames, lengths = clips(4, 1, 3)
    first, second, third = frames.split([4, 1, 3])
    turned = embed(model, torch.cat([third, first, second]), torch.tensor([3, 4, 1]))
    torch.testing.assert_close(turned, embed(model, frames, lengths)[[2, 0, 1]], atol=2e-6, rtol=1e-5)


def test_the_order_of_frames_matters() -> None:
    model = build()
    frames, lengths = clips(5)
    assert not torch.allclose(model(frames, lengths).fused, model(frames.flip(0), lengths).fused, atol=1e-4)


def test_packed_frames_are_laid_out_by_clip_and_averaged_over_their_own_length() -> None:
    packed = torch.tensor([[1.0], [2.0], [3.0], [10.0]])
    lengths = torch.tensor([3, 1])
    padded = to_padded(packed, lengths)
    assert padded[..., 0].tolist() == [[1, 2, 3], [10, 0, 0]]
    padded[1, 1:] = torch.nan
    assert temporal_mean(padded, lengths)[:, 0].tolist() == [2, 10]


def test_detached_tokens_train_the_blocks_and_not_the_encoder() -> None:
    for detach in (False, True):
        model = build(detach_tokens=detach)
        frames, lengths = clips(3)
        model(frames, lengths).fused.sum().backward()
        assert (model.encoder.visual.conv1.weight.grad is None) is detach
        assert model.short_term.block.query.weight.grad is not None
        assert model.long_term.block.query.weight.grad is not None


def test_cii_is_no_part_of_the_model() -> None:
    assert {name.split(".")[0] for name in build().state_dict()} == {"encoder", "short_term", "long_term"}
