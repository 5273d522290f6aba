import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

from reid.losses.cpcl import cpcl
from reid.prototypes import MeanOf, PrototypeMemory, Update


def unit(x: np.ndarray) -> np.ndarray:
    return x / np.linalg.norm(x)


def random_batch(modalities: int, *, identities: int = 5, clips: int = 14) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(4)
    features = torch.randn(clips, 6, generator=generator)
    pids = torch.randint(identities, (clips,), generator=generator)
    return features, pids, torch.randint(modalities, (clips,), generator=generator)


def random_memory(modalities: int, update: Update = "cross_modality") -> PrototypeMemory:
    memory = PrototypeMemory(modalities, 5, 6, update=update)
    generator = torch.Generator().manual_seed(9)
    every = torch.cartesian_prod(torch.arange(modalities), torch.arange(5))
    memory.initialise(torch.randn(len(every), 6, generator=generator), every[:, 1], every[:, 0])
    return memory


@pytest.mark.parametrize(("mean_of", "first"), [("features", [0.6, 0.8]), ("unit_features", [0.5**0.5, 0.5**0.5])])
def test_a_prototype_begins_as_the_mean_of_its_clips_at_unit_length(mean_of: MeanOf, first: list[float]) -> None:
    memory = PrototypeMemory(2, 3, 2, mean_of=mean_of)
    features = torch.tensor([[3.0, 0.0], [0.0, 4.0], [0.0, -1.0]])
    memory.initialise(features, torch.tensor([0, 0, 2]), torch.tensor([0, 0, 1]))
    torch.testing.assert_close(memory.prototypes[0, 0], torch.tensor(first))
    torch.testing.assert_close(memory.prototypes[1, 2], torch.tensor([0.0, -1.0]))
    assert memory.filled.tolist() == [[True, False, False], [False, False, True]]


def test_the_hardest_is_sought_in_the_other_modality_only() -> None:
    memory = PrototypeMemory(2, 1, 2)
    memory.initialise(torch.tensor([[1.0, 0.0], [1.0, 0.0]]), torch.tensor([0, 0]), torch.tensor([0, 1]))
    # In the visible modality lies the hardest of all; for the visible memory it must not be taken.
    own = torch.tensor([[-1.0, 0.1]])
    other = torch.tensor([[0.6, 0.8], [0.8, 0.6]])
    memory.update(torch.cat([own, other]), torch.zeros(3, dtype=torch.int64), torch.tensor([0, 1, 1]))
    expected = unit(0.2 * np.array([1.0, 0.0]) + 0.8 * np.array([0.6, 0.8]))
    np.testing.assert_allclose(memory.prototypes[0, 0].numpy(), expected, rtol=1e-6)
    expected = unit(0.2 * np.array([1.0, 0.0]) + 0.8 * unit(np.array([-1.0, 0.1])))
    np.testing.assert_allclose(memory.prototypes[1, 0].numpy(), expected, rtol=1e-6)


@pytest.mark.parametrize("update", ["cross_modality", "same_modality", "pooled"])
@pytest.mark.parametrize("modalities", [2, 3])
def test_an_update_equals_a_loop_over_memories_identities_and_clips(modalities: int, update: Update) -> None:
    memory = random_memory(modalities, update)
    features, pids, mods = random_batch(modalities)
    expected = memory.prototypes.numpy().astype(np.float64)
    for m in range(modalities):
        for y in set(pids.tolist()):
            candidates = [
                unit(features[i].numpy().astype(np.float64))
                for i in range(len(features))
                if pids[i] == y and (update == "pooled" or (mods[i] == m) == (update == "same_modality"))
            ]
            if candidates:
                hardest = min(candidates, key=lambda b: float(b @ expected[m, y]))
                expected[m, y] = unit(0.2 * expected[m, y] + 0.8 * hardest)
    memory.update(features, pids, mods)
    np.testing.assert_allclose(memory.prototypes.numpy(), expected, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(memory.prototypes.numpy(), axis=2), 1, atol=1e-6)


def test_an_update_does_not_depend_on_the_order_of_the_batch() -> None:
    features, pids, mods = random_batch(3)
    first, second = random_memory(3), random_memory(3)
    first.update(features, pids, mods)
    order = torch.randperm(len(features), generator=torch.Generator().manual_seed(0))
    second.update(features[order], pids[order], mods[order])
    assert torch.equal(first.prototypes, second.prototypes)


def test_an_identity_without_a_clip_elsewhere_keeps_its_prototype_and_one_without_prototype_gets_one() -> None:
    memory = PrototypeMemory(2, 2, 2)
    memory.initialise(torch.tensor([[1.0, 0.0]]), torch.tensor([0]), torch.tensor([0]))
    memory.update(torch.tensor([[0.0, 1.0]]), torch.tensor([0]), torch.tensor([0]))
    assert memory.prototypes[0, 0].tolist() == [1, 0]
    assert memory.prototypes[1, 0].tolist() == [0, 1]
    assert memory.filled.tolist() == [[True, False], [True, False]]


@pytest.mark.parametrize("denominator", ["all", "batch"])
def test_cpcl_equals_a_loop_over_the_paper_s_sums(denominator: str) -> None:
    memory = random_memory(2)
    features, pids, _ = random_batch(2, identities=3)
    pids = pids + 1
    total = 0.0
    columns = range(5) if denominator == "all" else sorted(set(pids.tolist()))
    for m in range(2):
        prototypes = memory.prototypes[m].numpy().astype(np.float64)
        for feature, y in zip(features.numpy().astype(np.float64), pids.tolist(), strict=True):
            score = {j: math.exp(float(unit(feature) @ prototypes[j]) / 0.05) for j in columns}
            total -= math.log(score[y] / sum(score.values())) / len(features)
    assert cpcl(features, pids, memory, denominator=denominator).item() == pytest.approx(total, rel=1e-5)


def test_cpcl_with_equal_prototypes_is_twice_the_logarithm_of_their_number() -> None:
    memory = PrototypeMemory(2, 7, 3)
    memory.prototypes[:] = torch.tensor([0.0, 1.0, 0.0])
    memory.filled[:] = True
    loss = cpcl(torch.randn(4, 3), torch.tensor([0, 1, 6, 3]), memory)
    assert loss.item() == pytest.approx(2 * math.log(7), rel=1e-6)


def test_cpcl_leaves_out_what_has_no_prototype_and_stays_finite() -> None:
    memory = PrototypeMemory(2, 3, 2)
    memory.initialise(torch.eye(2), torch.tensor([0, 1]), torch.tensor([0, 0]))
    features = torch.randn(3, 2, requires_grad=True)
    loss = cpcl(features, torch.tensor([0, 1, 2]), memory)
    loss.backward()
    logits = functional.normalize(features.detach()[:2], dim=1) @ torch.eye(2) / 0.05
    assert loss.item() == pytest.approx(functional.cross_entropy(logits, torch.tensor([0, 1])).item(), rel=1e-5)
    assert torch.isfinite(features.grad).all()


def test_memories_receive_no_gradient_and_come_back_from_a_saved_state(tmp_path: Path) -> None:
    memory = random_memory(2)
    memory.filled[1, 3] = False
    assert list(memory.parameters()) == []
    torch.save(memory.state_dict(), tmp_path / "state.pt")
    other = PrototypeMemory(2, 5, 6)
    other.load_state_dict(torch.load(tmp_path / "state.pt"))
    features, pids, mods = random_batch(2)
    for each in (memory, other):
        each.update(features, pids, mods)
    assert torch.equal(other.prototypes, memory.prototypes)
    assert torch.equal(other.filled, memory.filled)


def test_both_memories_receive_all_clips_of_both_modalities() -> None:
    """Each clip's term, alone, is part of the loss: 16 clips, two memories."""
    memory = random_memory(2)
    features, pids, _ = random_batch(2, clips=16)
    whole = cpcl(features, pids, memory)
    each = [cpcl(features[n : n + 1], pids[n : n + 1], memory) for n in range(16)]
    torch.testing.assert_close(whole, torch.stack(each).mean())
    for m in range(2):
        features.requires_grad_(True)
        only = random_memory(2)
        only.filled[1 - m] = False
        (gradient,) = torch.autograd.grad(cpcl(features, pids, only), features)
        assert (gradient.abs().sum(dim=1) > 0).all()


def test_a_memory_of_one_modality_cannot_be_updated_across() -> None:
    with pytest.raises(ValueError, match="at least two modalities"):
        PrototypeMemory(1, 3, 2)
    with pytest.raises(ValueError, match="momentum"):
        PrototypeMemory(2, 3, 2, momentum=1.0)


@pytest.mark.parametrize("temperature", [0.05, 0.2, 1.0])
@pytest.mark.parametrize("own", [False, True])
def test_cpcl_equals_a_loop_at_any_temperature_and_against_the_own_memory_alone(temperature: float, own: bool) -> None:
    memory = random_memory(2)
    features, pids, mods = random_batch(2)
    prototypes = memory.prototypes.numpy().astype(np.float64)
    expected = 0.0
    for m in range(2):
        terms = []
        for i in range(len(features)):
            if not own or mods[i] == m:
                logits = prototypes[m] @ unit(features[i].numpy().astype(np.float64)) / temperature
                terms.append(np.log(np.exp(logits).sum()) - logits[pids[i]])
        expected += np.mean(terms)
    found = cpcl(features, pids, memory, temperature=temperature, own_of=mods if own else None)
    assert found.item() == pytest.approx(expected, rel=1e-5)
