import numpy as np
import pytest
import torch

from reid.losses.cpcl import cpcl
from reid.losses.identity import IdentityLoss
from reid.losses.total import Labels, LossConfig, Objective
from reid.losses.triplet import Metric, batch_hard_triplet
from reid.models.xreid import ClipFeatures, XReID
from tests.reid.factories import model_config


@pytest.mark.parametrize("metric", ["euclidean", "unit_euclidean"])
def test_the_triplet_loss_equals_a_loop_over_anchors(metric: Metric) -> None:
    features = torch.randn(9, 4, generator=torch.Generator().manual_seed(0))
    pids = torch.tensor([0, 0, 0, 1, 1, 2, 2, 2, 3])
    x = features.numpy().astype(np.float64)
    if metric == "unit_euclidean":
        x = x / np.linalg.norm(x, axis=1, keepdims=True)
    losses = []
    for anchor in range(len(x)):
        others = [i for i in range(len(x)) if i != anchor]
        positives = [np.linalg.norm(x[anchor] - x[i]) for i in others if pids[i] == pids[anchor]]
        negatives = [np.linalg.norm(x[anchor] - x[i]) for i in others if pids[i] != pids[anchor]]
        if positives:
            losses.append(max(0.0, 0.3 + max(positives) - min(negatives)))
    assert len(losses) == 8
    assert batch_hard_triplet(features, pids, metric=metric).item() == pytest.approx(np.mean(losses), rel=1e-5)


def test_a_batch_without_triplets_costs_nothing_and_has_a_finite_gradient() -> None:
    features = torch.randn(3, 4, requires_grad=True)
    loss = batch_hard_triplet(features, torch.tensor([5, 5, 5])) + batch_hard_triplet(features, torch.tensor([0, 1, 2]))
    loss.backward()
    assert loss.item() == 0
    assert torch.isfinite(features.grad).all()


def test_equal_features_of_one_person_have_a_finite_gradient() -> None:
    features = torch.ones(4, 3, requires_grad=True)
    batch_hard_triplet(features, torch.tensor([0, 0, 1, 1])).backward()
    assert torch.isfinite(features.grad).all()


def test_the_identity_loss_of_an_untrained_classifier_is_nearly_the_logarithm_of_the_number() -> None:
    loss = IdentityLoss(8, 50)(torch.randn(6, 8), torch.arange(6))
    assert loss.item() == pytest.approx(np.log(50), abs=0.02)


def batch(modalities: int, *, seed: int = 0) -> tuple[XReID, Objective, torch.Tensor, Labels]:
    """Two identities, one clip each in each modality, three frames a clip."""
    torch.manual_seed(seed)
    config = model_config()
    model = XReID(config)
    objective = Objective(config, LossConfig(), identities=4, modalities=modalities)
    identities = torch.tensor([0, 3]).repeat(modalities)
    labels = Labels(identities, torch.arange(modalities).repeat_interleave(2))
    frames = torch.randn(2 * modalities * 3, 3, 32, 16)
    return model, objective, frames, labels


def forward(model: XReID, frames: torch.Tensor) -> ClipFeatures:
    return model(frames, torch.full((len(frames) // 3,), 3))


def filled(objective: Objective, features: ClipFeatures, labels: Labels) -> Objective:
    objective.memory.initialise(features.projected.detach(), labels.identities, labels.modalities)
    return objective


@pytest.mark.parametrize("modalities", [2, 3])
def test_the_total_is_the_sum_of_its_breakdown(modalities: int) -> None:
    model, objective, frames, labels = batch(modalities)
    features = forward(model, frames)
    loss = filled(objective, features, labels)(model, features, labels)
    parts = {name: value for name, value in loss.breakdown.items() if name not in ("total", "cii_norm")}
    assert set(parts) == {"cpcl", "triplet", "identity_projected", "identity_fused", "cmcl"}
    assert sum(parts.values()) == pytest.approx(loss.breakdown["total"], rel=1e-5)
    assert loss.total.item() == pytest.approx(loss.breakdown["total"])


def test_cmcl_is_the_sum_of_the_papers_four_terms() -> None:
    model, objective, frames, labels = batch(2)
    features = forward(model, frames)
    loss = filled(objective, features, labels)(model, features, labels)
    visible, infrared = slice(0, 2), slice(2, 4)
    total = 0.0
    for name, pooled in features.pooled.items():
        for own, other in ((visible, infrared), (infrared, visible)):
            interacted = objective.interaction.blocks[name](pooled[own], features.patches[other])
            total += (pooled[own] - interacted).square().sum(dim=1).mean().item()
    assert loss.breakdown["cmcl"] == pytest.approx(total, rel=1e-5)
    assert loss.breakdown["cii_norm"] > 0


def test_with_three_modalities_every_ordered_pair_has_its_term() -> None:
    model, objective, frames, labels = batch(3)
    features = forward(model, frames)
    loss = filled(objective, features, labels)(model, features, labels)
    rows = [slice(2 * m, 2 * m + 2) for m in range(3)]
    total = 0.0
    for name, pooled in features.pooled.items():
        for own in rows:
            for other in rows:
                if own != other:
                    interacted = objective.interaction.blocks[name](pooled[own], features.patches[other])
                    total += (pooled[own] - interacted).square().sum(dim=1).mean().item()
    assert loss.breakdown["cmcl"] == pytest.approx(total, rel=1e-5)


def test_gradients_reach_the_whole_model_and_the_objective_and_no_memory() -> None:
    model, objective, frames, labels = batch(2)
    features = forward(model, frames)
    filled(objective, features, labels)(model, features, labels).total.backward()
    silent = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum()]
    assert silent == []
    silent = [name for name, p in objective.named_parameters() if p.grad is None]
    assert silent == []
    assert not objective.memory.prototypes.requires_grad


def test_the_memories_move_in_training_only_and_before_or_after_the_loss() -> None:
    losses = {}
    for order in ("loss_then_update", "update_then_loss"):
        model, _, frames, labels = batch(2)
        objective = Objective(model.config, LossConfig(order=order), identities=4, modalities=2)
        features = forward(model, frames)
        objective.memory.initialise(torch.randn(4, 12), labels.identities, labels.modalities)
        before = objective.memory.prototypes.clone()
        objective.eval()
        objective(model, features, labels)
        assert torch.equal(objective.memory.prototypes, before)
        objective.train()
        losses[order] = objective(model, features, labels).breakdown["cpcl"]
        assert not torch.equal(objective.memory.prototypes, before)
    assert losses["update_then_loss"] < losses["loss_then_update"]


def test_a_weight_of_zero_leaves_a_loss_out() -> None:
    model, _, frames, labels = batch(2)
    config = LossConfig(cpcl=0, triplet=0, cmcl=0, identity_on=("cls", "projected", "fused"))
    objective = Objective(model.config, config, identities=4, modalities=2)
    breakdown = objective(model, forward(model, frames), labels).breakdown
    assert set(breakdown) == {"total", "identity_cls", "identity_projected", "identity_fused"}


@pytest.mark.parametrize("identities", [[0, 3, 3, 0], [0, 3, 0]])
def test_a_batch_whose_partners_are_strangers_is_refused(identities: list[int]) -> None:
    model, objective, frames, _ = batch(2)
    count = len(identities)
    labels = Labels(torch.tensor(identities), torch.tensor([0, 0, 1, 1][:count]))
    with pytest.raises(ValueError, match="CII needs the clips one modality after another"):
        objective(model, forward(model, frames[: 3 * count]), labels)


WEIGHTS = {
    "cpcl": "cpcl",
    "triplet": "triplet",
    "identity": "identity_fused",
    "frame_identity": "frame_identity_cls",
    "cmcl": "cmcl",
    "cii_identity": "cii_identity",
    "alignment": "alignment",
    "retrieval": "retrieval",
    "orthogonality": "orthogonality",
    "centre": "centre",
}


def breakdown_at(weight: float, name: str) -> dict[str, float]:
    torch.manual_seed(0)
    model, _, frames, labels = batch(2)
    torch.manual_seed(1)
    objective = Objective(model.config, LossConfig.model_validate({name: weight}), identities=4, modalities=2)
    features = forward(model, frames)
    return filled(objective, features, labels)(model, features, labels).breakdown


@pytest.mark.parametrize("name", WEIGHTS)
def test_a_weight_multiplies_its_loss_and_no_other(name: str) -> None:
    whole, quarter = breakdown_at(1.0, name), breakdown_at(0.25, name)
    weighted = {key for key in whole if key.startswith(name) and key != "cii_norm"}
    assert any(key.startswith(WEIGHTS[name].removesuffix("_cls").removesuffix("_fused")) for key in weighted)
    for key in whole.keys() - {"total"}:
        assert quarter[key] == pytest.approx(whole[key] * (0.25 if key in weighted else 1.0), rel=1e-5), key


def test_the_norm_of_cii_is_the_mean_length_of_what_it_adds_and_0_when_it_adds_nothing() -> None:
    model, objective, frames, labels = batch(2)
    features = forward(model, frames)
    visible, infrared = slice(0, 2), slice(2, 4)
    lengths = [
        (objective.interaction.blocks[name](pooled[own], features.patches[other]) - pooled[own]).norm(dim=1).mean()
        for name, pooled in features.pooled.items()
        for own, other in ((visible, infrared), (infrared, visible))
    ]
    found = filled(objective, features, labels)(model, features, labels).breakdown["cii_norm"]
    assert found == pytest.approx(torch.stack(lengths).mean().item(), rel=1e-5)


def test_cii_does_not_run_outside_training() -> None:
    model, objective, frames, labels = batch(2)
    features = forward(model, frames)
    ran = []
    objective.interaction.register_forward_hook(lambda *_: ran.append(True))
    objective.eval()
    assert "cmcl" not in filled(objective, features, labels)(model, features, labels).breakdown
    assert ran == []
    objective.train()
    assert "cmcl" in objective(model, features, labels).breakdown
    assert ran == [True]


def test_cpcl_can_see_the_features_behind_their_necks() -> None:
    torch.manual_seed(0)
    config = model_config(neck="batch_norm")
    model = XReID(config)
    for neck in model.necks:
        torch.nn.init.uniform_(neck.weight, 0.2, 2.0)
    _, _, frames, labels = batch(2)
    features = forward(model, frames)
    settings = LossConfig(cpcl_on="joint", memories_behind_necks=True, cmcl=0)
    objective = Objective(config, settings, identities=4, modalities=2)
    objective.memory.initialise(torch.randn(4, 28), labels.identities, labels.modalities)
    cls, projected = model.through_necks(features.parts)[:2]
    expected = cpcl(torch.cat([cls, projected], dim=1), labels.identities, objective.memory, temperature=0.05)
    assert objective(model, features, labels).breakdown["cpcl"] == pytest.approx(expected.item(), rel=1e-5)


def test_smoothing_takes_its_share_from_the_right_class() -> None:
    loss, features, pids = IdentityLoss(8, 5, smoothing=0.1), torch.randn(6, 8), torch.arange(6) % 5
    logits = loss.classifier(features).log_softmax(dim=1)
    right = logits.gather(1, pids[:, None])[:, 0]
    expected = -(0.9 * right + 0.1 * logits.mean(dim=1)).mean()
    torch.testing.assert_close(loss(features, pids), expected)
