"""The model and the objective of the preset ``paper``, at a small size, against ``reference``: NumPy from the paper."""

import numpy as np
import pytest
import torch
from torch import nn

from reid import presets
from reid.losses.total import Labels, Objective
from reid.models.xreid import XReID
from reid.prototypes import PrototypeMemory
from tests.reid import reference
from tests.reid.factories import encoder_config
from tests.reid.reference import Array, Clip

LAYERS, HEADS, PATCH, FRAMES, IDENTITIES = 2, 2, 8, 4, 5


def arrays(module: nn.Module) -> dict[str, Array]:
    return {name: value.detach().numpy().astype(np.float64) for name, value in module.state_dict().items()}


class Both:
    """One batch of two identities, two clips each in two modalities, seen by both implementations."""

    def __init__(self) -> None:
        config = presets.load("paper", encoder=encoder_config(quick_gelu=True))
        torch.manual_seed(11)
        self.model = XReID(config.model).eval()
        self.objective = Objective(config.model, config.loss, identities=IDENTITIES, modalities=2)
        with torch.no_grad():  # what begins at zero or one would hide mistakes
            for parameter in (*self.model.parameters(), *self.objective.parameters()):
                parameter.add_(0.1 * torch.randn(parameter.shape))
        self.labels = Labels(torch.tensor([1, 1, 4, 4]).repeat(2), torch.tensor([0, 1]).repeat_interleave(4))
        self.frames = torch.randn(8 * FRAMES, 3, 32, 16)
        self.lengths = torch.full((8,), FRAMES)
        every = torch.cartesian_prod(torch.arange(2), torch.arange(IDENTITIES))
        self.objective.memory.initialise(torch.randn(len(every), 12), every[:, 1], every[:, 0])
        self.features = self.model(self.frames, self.lengths)
        self.slow = self._slow()

    def _slow(self) -> list[Clip]:
        weights, images = arrays(self.model), self.frames.numpy().astype(np.float64)
        return [
            reference.clip_features(
                images[FRAMES * clip : FRAMES * (clip + 1)], weights, layers=LAYERS, heads=HEADS, patch=PATCH
            )
            for clip in range(8)
        ]


@pytest.fixture(scope="module")
def both() -> Both:
    return Both()


@pytest.mark.parametrize("part", ["cls", "projected", "fused"])
def test_the_features_of_a_clip(both: Both, part: str) -> None:
    expected = np.stack([getattr(clip, part) for clip in both.slow])
    np.testing.assert_allclose(getattr(both.features, part).detach().numpy(), expected, atol=1e-5, rtol=1e-5)


def test_the_retrieval_feature(both: Both) -> None:
    modalities = both.labels.modalities
    embedding = both.model.embed(both.frames, both.lengths, modalities).detach().numpy()
    np.testing.assert_allclose(embedding, [reference.retrieval_feature(clip) for clip in both.slow], atol=1e-5)


def test_the_memories_at_the_beginning(both: Both) -> None:
    """Section 3.2, from the features of the network."""
    identities, modalities = both.labels.identities, both.labels.modalities
    memory = PrototypeMemory(2, IDENTITIES, 12)
    memory.initialise(both.features.projected.detach(), identities, modalities)
    expected = reference.first_memories(
        [clip.projected for clip in both.slow], identities.tolist(), modalities.tolist(), (2, IDENTITIES)
    )
    np.testing.assert_allclose(memory.prototypes.numpy(), expected, atol=1e-5)


def test_each_loss_their_sum_and_the_memories_after_it(both: Both) -> None:
    memories = both.objective.memory.prototypes.numpy().astype(np.float64)
    identities, modalities = both.labels.identities.tolist(), both.labels.modalities.tolist()
    weights = arrays(both.objective)
    projected = [clip.projected for clip in both.slow]
    fused = [clip.fused for clip in both.slow]
    blocks = {name: reference.inside(weights, f"interaction.blocks.{name}.block.") for name in ("short", "long")}
    expected = {
        "cpcl": reference.cpcl(projected, identities, memories, 0.05),
        "triplet": reference.triplet(projected, identities, 0.3) + reference.triplet(fused, identities, 0.3),
        **{
            f"identity_{name}": reference.identity_loss(x, identities, weights[f"identity.{name}.classifier.weight"])
            for name, x in (("projected", projected), ("fused", fused))
        },
        "cmcl": reference.cmcl(both.slow, blocks, HEADS),
    }
    both.objective.train()
    loss = both.objective(both.model, both.features, both.labels)
    assert set(loss.breakdown) == {*expected, "total", "cii_norm"}
    for name, value in expected.items():
        assert loss.breakdown[name] == pytest.approx(value, rel=1e-5), name
    assert loss.total.item() == pytest.approx(sum(expected.values()), rel=1e-5)
    moved = reference.updated_memories(memories, projected, identities, modalities, 0.2)
    np.testing.assert_allclose(both.objective.memory.prototypes.numpy(), moved, atol=1e-5)
    assert not np.allclose(moved, memories, atol=1e-2)
