"""Options beyond the paper: each against a loop, and off in the preset ``paper``."""

import itertools
import math

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from reid import checkpoint, presets
from reid.losses.centre import centre_alignment
from reid.losses.cmcl import cmcl
from reid.losses.orthogonality import frame_orthogonality
from reid.losses.retrieval import cross_modality_retrieval
from reid.losses.total import Labels, LossConfig, Objective
from reid.modality import Modality
from reid.models.attention import SelfAttentionBlock, attend, attend_folded
from reid.models.cameras import UNKNOWN, CameraEmbedding
from reid.models.cross_modality import CrossModalities
from reid.models.encoder import Encoder, packed_neighbours, shift_packed
from reid.models.pooling import QualityPooling, temporal_mean, weighted_mean
from reid.models.short_term import shift_channels
from reid.models.xreid import XReID
from reid.transforms import prepare_clip, to_input
from tests.reid.factories import encoder_config, model_config, person_image


def features() -> tuple[Tensor, Tensor, Tensor]:
    """Nine clips of four persons in three modalities; person 3 is seen in one modality only."""
    generator = torch.Generator().manual_seed(8)
    identities = torch.tensor([0, 0, 1, 0, 1, 2, 2, 3, 3])
    return torch.randn(9, 6, generator=generator), identities, torch.tensor([0, 1, 0, 2, 1, 1, 2, 2, 2])


def test_the_retrieval_loss_equals_a_loop_over_anchors() -> None:
    x, identities, modalities = features()
    unit = functional.normalize(x, dim=1).double().numpy()
    losses = []
    for a in range(9):
        near, far = [], []
        for b in range(9):
            if modalities[a] != modalities[b]:
                (near if identities[a] == identities[b] else far).append((1 - unit[a] @ unit[b]) / 2)
        if near and far:
            losses.append(math.log(1 + math.exp(-(np.mean(far) - np.mean(near)))))
    assert len(losses) == 7
    assert cross_modality_retrieval(x, identities, modalities).item() == pytest.approx(np.mean(losses), rel=1e-5)


def test_the_centre_loss_equals_a_loop_over_persons_and_pairs_of_modalities() -> None:
    x, identities, modalities = features()
    unit = functional.normalize(x, dim=1).double().numpy()
    squares = []
    for person in range(4):
        centres = []
        for modality in range(3):
            rows = [unit[n] for n in range(9) if identities[n] == person and modalities[n] == modality]
            if rows:
                mean = np.mean(rows, axis=0)
                centres.append(mean / np.linalg.norm(mean))
        squares += [((a - b) ** 2).sum() for a, b in itertools.combinations(centres, 2)]
    assert len(squares) == 5
    assert centre_alignment(x, identities, modalities).item() == pytest.approx(np.mean(squares), rel=1e-5)


def test_frames_that_say_the_same_cost_one_and_orthogonal_ones_nothing() -> None:
    same, apart = torch.ones(1, 3, 4), torch.eye(4)[None, :3] * 7
    full = torch.tensor([3])
    assert frame_orthogonality(same, full).item() == pytest.approx(1)
    assert frame_orthogonality(apart, full).item() == pytest.approx(0)
    padded = torch.cat([same, apart])
    padded[1, 1:] = torch.nan  # a clip of one frame: the others are padding, and it does not count
    assert frame_orthogonality(padded, torch.tensor([3, 1])).item() == pytest.approx(1)


@pytest.mark.parametrize("loss", [cross_modality_retrieval, centre_alignment])
def test_without_a_pair_of_modalities_there_is_no_loss_and_a_finite_gradient(loss: object) -> None:
    x = torch.randn(3, 4, requires_grad=True)
    value = loss(x, torch.tensor([0, 1, 2]), torch.zeros(3, dtype=torch.int64))  # type: ignore[operator]
    value.backward()
    assert value.item() == 0
    assert torch.isfinite(x.grad).all()


# --- cameras ------------------------------------------------------------------


@pytest.mark.parametrize("policy", ["zero", "modality_mean"])
def test_a_camera_that_was_never_trained_gets_what_the_policy_says(policy: str) -> None:
    embedding = CameraEmbedding(3, 2, 4, policy=policy, scale=2.0)  # type: ignore[arg-type]
    embedding.learn_modalities(torch.tensor([0, 1, 2]), torch.tensor([0, 0, 1]))
    vectors = embedding.vectors.detach()
    own = embedding(torch.tensor([0, 2]), torch.tensor([0, 1]))
    torch.testing.assert_close(own, 2 * vectors[[0, 2]])
    strangers = embedding(torch.full((2,), UNKNOWN), torch.tensor([0, 1]))
    expected = (
        torch.stack([(vectors[0] + vectors[1]) / 2, vectors[2]]) if policy == "modality_mean" else vectors[:2] * 0
    )
    torch.testing.assert_close(strangers, 2 * expected)


def test_cameras_change_the_feature_and_without_them_a_model_has_none() -> None:
    torch.manual_seed(0)
    model = XReID(model_config(camera_embedding="zero", cameras=2)).eval()
    frames, lengths, modalities = torch.randn(3, 3, 32, 16), torch.tensor([1, 2]), torch.tensor([0, 2])
    stranger = model.embed(frames, lengths, modalities)
    known = model.embed(frames, lengths, modalities, torch.tensor([1, UNKNOWN]))
    assert not torch.allclose(stranger[0], known[0], atol=1e-4)
    torch.testing.assert_close(stranger[1], known[1])
    with pytest.raises(ValueError, match="must be told the modalities"):
        model(frames, lengths)
    with pytest.raises(ValueError, match="go together"):
        model_config(camera_embedding="zero")
    assert "camera_embedding" not in dict(XReID(model_config()).named_children())


# --- pooling, temporal shift, blocks ------------------------------------------


def test_quality_pooling_begins_as_the_mean_and_then_trusts_some_frames_more() -> None:
    frames, lengths = torch.randn(2, 3, 4), torch.tensor([3, 2])
    pooling = QualityPooling(4)
    torch.testing.assert_close(weighted_mean(frames, pooling.weights(frames, lengths)), temporal_mean(frames, lengths))
    with torch.no_grad():
        pooling.score.weight.normal_()
    weights = pooling.weights(frames, lengths)
    expected = torch.stack([
        torch.softmax(pooling.score(frames[0])[:, 0], 0),
        torch.cat([torch.softmax(pooling.score(frames[1, :2])[:, 0], 0), torch.zeros(1)]),
    ])  # fmt: skip
    torch.testing.assert_close(weights, expected)
    frames[1, 2] = torch.nan
    assert torch.isfinite(weighted_mean(frames, weights)).all()


def test_the_shift_inside_the_encoder_is_that_of_eq_5_and_stays_within_a_clip() -> None:
    torch.manual_seed(0)
    encoder = Encoder(encoder_config(shifted_blocks=1)).eval()
    frames, lengths = torch.randn(5, 3, 32, 16), torch.tensor([3, 2])
    blocks = encoder.visual.transformer.resblocks
    inner = blocks[0](encoder._tokens(frames, None))
    patches = torch.zeros(2, 3, 8, 16)
    patches[0], patches[1, :2] = inner[:3, 1:], inner[3:, 1:]
    shifted = shift_channels(patches, lengths)
    mixed = torch.cat([inner[:, :1], torch.cat([shifted[0], shifted[1, :2]])], dim=1)
    expected = encoder.visual.ln_post(blocks[1](mixed))
    torch.testing.assert_close(encoder(frames, shift=lambda x: shift_packed(x, lengths))[0], expected)
    assert not torch.allclose(encoder(frames, shift=lambda x: x)[0], expected, atol=1e-4)
    before, after = packed_neighbours(lengths)
    assert (before.tolist(), after.tolist()) == ([0, 0, 1, 3, 3], [1, 2, 2, 4, 4])
    with pytest.raises(ValueError, match="must be told how to shift"):
        encoder(frames)


def test_checkpointing_changes_memory_and_not_the_gradient() -> None:
    gradients = []
    for checkpointing in (False, True):
        torch.manual_seed(0)
        encoder = Encoder(encoder_config(checkpointing=checkpointing)).train()
        encoder(torch.ones(2, 3, 32, 16))[1].square().sum().backward()
        gradients.append(encoder.visual.conv1.weight.grad)
    torch.testing.assert_close(gradients[0], gradients[1])


def test_token_0_alone_is_row_0_of_the_whole_block() -> None:
    block = SelfAttentionBlock(16, heads=2)
    x = torch.randn(3, 5, 16)
    torch.testing.assert_close(block.first_token(x), block(x)[:, 0])


def test_sii_with_two_blocks_looks_twice_at_the_shifted_patches() -> None:
    torch.manual_seed(0)
    short = XReID(model_config(short_blocks=2)).short_term
    cls, patches, lengths = torch.randn(2, 4, 16), torch.randn(2, 4, 8, 16), torch.tensor([4, 4])
    shifted = shift_channels(patches, lengths).flatten(0, 1)
    once = short.block(cls.flatten(0, 1)[:, None], shifted)
    twice = short.further[0](once, shifted)[:, 0].view_as(cls)
    torch.testing.assert_close(short(cls, patches, lengths), twice)


@pytest.mark.parametrize(("sharing", "blocks"), [("all", 1), ("branch", 2), ("direction", 12)])
def test_cii_has_as_many_blocks_as_are_shared_and_every_direction_its_term(sharing: str, blocks: int) -> None:
    cii = CrossModalities(("short", "long"), 3, lambda: SelfAttentionBlock(16, heads=2), sharing=sharing)  # type: ignore[arg-type]
    assert len(cii.blocks) == blocks
    pooled = {name: torch.randn(6, 16) for name in ("short", "long")}
    pairs = cii(pooled, torch.randn(6, 2, 5, 16))
    assert len(pairs) == 2 * 6
    assert all(before.shape == after.shape == (2, 16) for before, after in pairs)


# --- the whole embedder -------------------------------------------------------


@pytest.mark.parametrize("shifted", [0, 2])
@pytest.mark.parametrize("boundary", ["circular", "clamp"])
def test_padded_clips_give_the_embeddings_of_packed_ones(boundary: str, shifted: int) -> None:
    torch.manual_seed(2)
    changes = {"camera_embedding": "modality_mean", "cameras": 2, "neck": "batch_norm", "centre_modalities": True}
    encoder = encoder_config(shifted_blocks=shifted).model_dump()
    model = XReID(model_config(encoder=encoder, boundary=boundary, **changes)).eval()
    model.centres.normal_(std=0.1)
    lengths, modalities = torch.tensor([3, 1, 4]), torch.tensor([0, 1, 2])
    frames = torch.randn(8, 3, 32, 16)
    padded = torch.full((3, 4, 3, 32, 16), 9.0)
    for clip, part in enumerate(frames.split(lengths.tolist())):
        padded[clip, : len(part)] = part
    torch.testing.assert_close(
        model.embed_padded(padded, lengths, modalities), model.embed(frames, lengths, modalities), atol=1e-6, rtol=1e-5
    )


def cosine_of_bf16(model: XReID, frames: Tensor, lengths: Tensor, modalities: Tensor) -> float:
    """The smallest cosine of an embedding under autocast with the exact one."""
    with torch.inference_mode():
        exact = model.embed(frames, lengths, modalities)
        with torch.autocast("cpu", torch.bfloat16):
            rounded = model.embed(frames, lengths, modalities)
    assert not torch.equal(exact, rounded)
    return float((exact * functional.normalize(rounded.float(), dim=1)).sum(dim=1).min())


def test_bf16_stays_near_float32_in_the_embedded_weights() -> None:
    """Trained values, and features less their modality's centre, which makes what is left small."""
    extractor = checkpoint.load("xreid-tiny")
    generator = np.random.default_rng(1)
    kinds = (Modality.RGB, Modality.NIR, Modality.THERMAL)
    crops = [person_image(pid, kind, generator) for pid in range(4) for kind in kinds for _ in range(3)]
    clips = [prepare_clip(crops[3 * n : 3 * n + 3], kinds[n % 3], extractor.preprocessing) for n in range(12)]
    frames = to_input(torch.from_numpy(np.concatenate(clips)), extractor.preprocessing)
    assert cosine_of_bf16(extractor.model, frames, torch.full((12,), 3), torch.arange(3).repeat(4)) >= 0.999


def test_bf16_stays_near_float32_at_the_size_of_the_paper() -> None:
    torch.manual_seed(1)
    model = XReID(presets.load("paper").model).eval()
    assert cosine_of_bf16(model, torch.randn(1, 3, 288, 144), torch.tensor([1]), torch.tensor([0])) >= 0.999


def test_queries_folded_into_the_keys_and_values_are_attention() -> None:
    """Q · W k = Wᵀ q · k, and Σ a W v = W Σ a v."""
    q, k, v = torch.randn(3, 2, 16), torch.randn(3, 7, 16), torch.randn(3, 7, 16)
    key, value = torch.randn(16, 16), torch.randn(16, 16)
    expected = attend(q, functional.linear(k, key), functional.linear(v, value), heads=4)
    torch.testing.assert_close(attend_folded(q, k, v, key, value, heads=4), expected, atol=1e-4, rtol=1e-4)


def test_cmcl_s_terms_may_be_averaged_and_its_gradients_stopped() -> None:
    """The options of what the paper leaves open about Eq. 9."""
    a, b = torch.randn(4, 6, requires_grad=True), torch.randn(4, 6, requires_grad=True)
    for stopped, silent, moved in (("pooled", a, b), ("interacted", b, a)):
        gradient = torch.autograd.grad(cmcl(a, b, stop_gradient=stopped), (silent, moved), allow_unused=True)  # type: ignore[arg-type]
        assert gradient[0] is None
        assert gradient[1] is not None
    values = {}
    for terms in ("sum", "mean"):
        torch.manual_seed(4)
        model = XReID(model_config())
        objective = Objective(model.config, LossConfig(cmcl_terms=terms), identities=2, modalities=2)  # type: ignore[arg-type]
        features = model(torch.randn(8, 3, 32, 16), torch.full((4,), 2))
        values[terms] = objective(model, features, Labels(torch.tensor([0, 1, 0, 1]), torch.tensor([0, 0, 1, 1])))
    assert values["sum"].breakdown["cmcl"] == pytest.approx(4 * values["mean"].breakdown["cmcl"])


def test_detached_patches_keep_cii_from_the_encoder_and_change_no_value() -> None:
    totals, gradients = [], []
    for detach in (False, True):
        torch.manual_seed(4)
        model = XReID(model_config(interactions=[], retrieval=["cls"]))
        config = LossConfig(cpcl=0, triplet=0, identity=0, cii_detach_patches=detach)
        objective = Objective(model.config, config, identities=2, modalities=2)
        features = model(torch.randn(8, 3, 32, 16), torch.full((4,), 2))
        loss = objective(model, features, Labels(torch.tensor([0, 1, 0, 1]), torch.tensor([0, 0, 1, 1])))
        (gradient,) = torch.autograd.grad(loss.total, features.patches, allow_unused=True)
        totals.append(loss.breakdown["total"])
        gradients.append(gradient)
    assert totals[0] == totals[1]
    assert gradients[0] is not None
    assert gradients[1] is None
