"""Two processes with half of the batch each do what one with all of it does: gradients and memories."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from reid import presets
from reid.losses.total import Labels, Objective
from reid.models.xreid import XReID
from tests.reid.factories import encoder_config

FRAMES, PROCESSES = 3, 2


class Training(nn.Module):
    """The network and the objective as one module, as DistributedDataParallel wants it."""

    def __init__(self, preset: str) -> None:
        super().__init__()
        config = presets.load(preset, encoder=encoder_config(quick_gelu=True))
        torch.manual_seed(5)
        self.model = XReID(config.model)
        self.objective = Objective(config.model, config.loss, identities=4, modalities=2)
        every = torch.cartesian_prod(torch.arange(2), torch.arange(4))
        width = self.objective.memory.prototypes.shape[2]
        self.objective.memory.initialise(torch.randn(8, width), every[:, 1], every[:, 0])

    def forward(self, frames: Tensor, labels: Labels, cameras: Tensor) -> Tensor:
        lengths = torch.full((len(labels.identities),), FRAMES)
        total: Tensor = self.objective(
            self.model, self.model(frames, lengths, labels.modalities, cameras), labels
        ).total
        return total


def whole_batch() -> tuple[Tensor, Tensor, Tensor]:
    """Frames by (modality, identity, clip, frame), identities and modalities of the clips."""
    frames = torch.randn(2, 4, 2, FRAMES, 3, 32, 16, generator=torch.Generator().manual_seed(6))
    identities = torch.arange(4)[None, :, None].expand(2, 4, 2)
    return frames, identities, torch.arange(2)[:, None, None].expand(2, 4, 2)


def part_of(identities: slice) -> tuple[Tensor, Labels, Tensor]:
    """The clips of some of the four identities, one modality after another."""
    frames, ids, modalities = (x[:, identities] for x in whole_batch())
    labels = Labels(ids.flatten(), modalities.flatten())
    return frames.flatten(0, 3), labels, 2 * labels.modalities


def outcome(training: Training) -> dict[str, Tensor]:
    gradients = {name: p.grad for name, p in training.named_parameters() if p.grad is not None}
    return {**gradients, "memory": training.objective.memory.prototypes}


def work(rank: int, folder: str, preset: str) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=PROCESSES)
    training = Training(preset).train()
    parallel = DistributedDataParallel(training, broadcast_buffers=False, find_unused_parameters=True)
    parallel(*part_of(slice(2 * rank, 2 * rank + 2))).backward()
    torch.save(outcome(training), f"{folder}/{rank}.pt")
    distributed.destroy_process_group()


@pytest.mark.parametrize("preset", ["paper", "code"])
def test_two_processes_give_the_gradients_and_memories_of_one(preset: str, tmp_path: Path) -> None:
    torch.multiprocessing.spawn(work, (str(tmp_path), preset), nprocs=PROCESSES)  # type: ignore[no-untyped-call]
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in range(PROCESSES))
    alone = Training(preset).train()
    alone(*part_of(slice(None))).backward()
    expected = outcome(alone)
    assert set(first) == set(second) == set(expected)
    for name, value in expected.items():
        assert torch.equal(first[name], second[name]), name
        torch.testing.assert_close(
            first[name], value, atol=2e-5, rtol=1e-4, msg=lambda text, name=name: f"{name}: {text}"
        )
    assert torch.equal(first["memory"], second["memory"])


def test_the_total_does_not_depend_on_the_order_of_persons_in_the_batch() -> None:
    frames, labels, cameras = part_of(slice(None))
    training = Training("paper").train()
    before = training.objective.memory.prototypes.clone()
    total = training(frames, labels, cameras)
    moved = training.objective.memory.prototypes.clone()
    order = torch.tensor([2, 0, 3, 1])
    clips = torch.arange(16).view(2, 4, 2)[:, order].flatten()
    training.objective.memory.prototypes.copy_(before)
    turned = training(
        frames.view(16, FRAMES, 3, 32, 16)[clips].flatten(0, 1),
        Labels(labels.identities[clips], labels.modalities[clips]),
        cameras[clips],
    )
    torch.testing.assert_close(turned, total, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(training.objective.memory.prototypes, moved, atol=1e-6, rtol=1e-5)
