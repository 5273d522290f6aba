"""Two processes with half of the batch each do what one with all of it does."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from torch import Tensor, distributed

from reid import checkpoint, train
from reid.datasets.crops import Crops
from reid.datasets.folder import read_folder
from reid.distributed import Processes, any_of, from_first, joined
from reid.loading import TrainingData
from reid.losses.total import Labels
from reid.trainer import Trainer
from reid.training_config import TrainConfig
from tests.reid.factories import encoder_config, paper_config, trainer_on, write_folder

REPOSITORY = Path(__file__).resolve().parents[2]
PROCESSES = 2

# What the released code adds to the paper's training: necks, losses of single frames, memories behind necks.
LIKE_THE_RELEASE = {
    "model.interactions": ["short"],
    "model.neck": "batch_norm",
    "loss.cpcl_on": "joint",
    "loss.memories_behind_necks": True,
    "loss.update": "pooled",
    "loss.identity_on": ["joint", "fused"],
    "loss.frame_identity": 0.1,
    "loss.cmcl": 0.0,
    "model.camera_embedding": "modality_mean",
    "model.cameras": 4,
}
STEM = {"model.encoder": encoder_config(stem="convolutional").model_dump(mode="json")}
CASES: dict[str, dict[str, object]] = {
    "paper": {},
    "released code": LIKE_THE_RELEASE,
    "accumulated": {**LIKE_THE_RELEASE, "loss.cmcl": 1.0, "batch.accumulate": 2},
    "convolutional stem, every augmentation of a single clip": {
        **STEM, "augmentation": {"erase": 0.5, "occlude": 0.0}, "model.centre_modalities": True,
    },
    "single frames, which have no CII": {"batch.still_epochs": 1, "batch.frames": 1},
}  # fmt: skip


def outcome(trainer: Trainer) -> dict[str, Tensor]:
    """Of one step from new memories: losses, gradients, memories, and the statistics of normalisations."""
    trainer.fill_memories()
    filled = trainer.objective.memory.prototypes.clone()
    losses = trainer.step(trainer.data.parts(0))
    trainer.set_centres()
    named = [*trainer.model.named_parameters(), *trainer.objective.named_parameters()]
    gradients = {name: parameter.grad for name, parameter in named if parameter.grad is not None}
    buffers = {f"buffer {name}": b for name, b in trainer.model.named_buffers() if b.is_floating_point()}
    whole = {name: torch.tensor(value) for name, value in losses.items() if name in ("cpcl", "triplet")}
    return {**gradients, **buffers, **whole, "filled": filled, "memory": trainer.objective.memory.prototypes}


def work(rank: int, folder: str, root: str) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=PROCESSES)
    here = Processes(rank, PROCESSES, rank, torch.device("cpu"))
    assert from_first(f"from {rank}") == "from 0"
    assert any_of([rank == 1, False], here.device) == [True, False]
    split = read_folder(root, "train")
    found = {}
    for name, changes in CASES.items():
        config = paper_config(**changes)
        data = TrainingData(split, Crops.load(split, config.preprocessing), config, rank=rank, world=PROCESSES)
        found[name] = outcome(Trainer(config, data, here))
    torch.save(found, f"{folder}/{rank}.pt")
    distributed.destroy_process_group()


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("folder"), frames=3)


@pytest.fixture(scope="module")
def of_two(root: Path, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, dict[str, Tensor]]]:
    folder = tmp_path_factory.mktemp("processes")
    torch.multiprocessing.spawn(work, (str(folder), str(root)), nprocs=PROCESSES)  # type: ignore[no-untyped-call]
    return [torch.load(folder / f"{rank}.pt") for rank in range(PROCESSES)]


def config_of_one(changes: dict[str, object]) -> TrainConfig:
    """The same training by one process, which need not accumulate."""
    return paper_config(**{**changes, "batch.accumulate": 1})


@pytest.mark.parametrize("case", CASES)
def test_two_processes_give_the_gradients_and_memories_of_one(
    case: str, root: Path, of_two: list[dict[str, dict[str, Tensor]]]
) -> None:
    first, second = (found[case] for found in of_two)
    expected = outcome(trainer_on(root, config_of_one(CASES[case])))
    assert set(first) == set(second) == set(expected)
    for name, value in expected.items():
        # Every process has the same, to the last bit: nothing drifts apart over a training.
        assert torch.equal(first[name], second[name]), name
        # One tensor may hold sums of terms that almost cancel, so a single entry is held to its tensor's scale.
        limit = 1e-5 if name in ("filled", "memory") else 1e-4 * max(1.0, float(value.abs().max()))
        torch.testing.assert_close(
            first[name], value, atol=limit, rtol=0, msg=lambda text, name=name: f"{name}: {text}"
        )
    whole, of_one = (torch.cat([each[name].flatten() for name in sorted(expected)]) for each in (first, expected))
    assert (whole - of_one).norm() <= 1e-5 * of_one.norm()


def test_torchrun_with_two_processes_writes_what_one_process_does(root: Path, tmp_path: Path) -> None:
    # Biases of keys have no gradient but rounding, which Adam divides by itself; with this eps it stays rounding.
    changes = {"optimiser.warmup_epochs": 0, "optimiser.eps": 1e-3, "optimiser.lr": 0.01}
    config = paper_config(**changes, validate_every=1, iterations=2, threads=1)
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(config.model_dump(mode="json")))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(PROCESSES)]
    command += ["-m", "reid.train", "--config", str(path), "--root", str(root), "--output", str(tmp_path / "two")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("validation, last epoch") == 1  # only the first process speaks and writes
    train.train(root, tmp_path / "one", config)
    lines = [
        [json.loads(line) for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()]
        for name in ("one", "two")
    ]
    assert len(lines[0]) == len(lines[1]) == 2
    for one, two in zip(*lines, strict=True):
        assert two["loss"] == pytest.approx(one["loss"], rel=1e-5)
        assert two["validation"] == one["validation"]
    before = trainer_on(root, config).model.state_dict()
    weights, others = (checkpoint.read(tmp_path / name / "checkpoint.safetensors")[1] for name in ("one", "two"))
    for name, value in weights.items():
        torch.testing.assert_close(
            others[name], value, atol=1e-5, rtol=0, msg=lambda text, name=name: f"{name}: {text}"
        )
    moved = (weights["encoder.visual.proj"] - before["encoder.visual.proj"]).abs().max()
    assert moved > 1e-3  # a hundred times more than the two may differ
    assert json.loads((tmp_path / "two" / "result.json").read_text())["processes"] == PROCESSES


def test_alone_there_is_nothing_to_join() -> None:
    with joined("cpu") as here:
        assert here == Processes(0, 1, 0, torch.device("cpu"))
    assert not distributed.is_initialized()


def test_the_total_does_not_depend_on_the_order_of_persons_in_the_batch(root: Path) -> None:
    trainer = trainer_on(root, paper_config())
    trainer.fill_memories()
    (batch,) = trainer.data.parts(0)
    model, objective = trainer.model.train(), trainer.objective.train()
    images = batch.pixels.permute(0, 3, 1, 2).float() / 255
    before = objective.memory.prototypes.clone()
    total = objective(model, model(images, batch.lengths, batch.kinds), batch.labels).total
    moved = objective.memory.prototypes.clone()
    objective.memory.prototypes.copy_(before)
    clips = torch.arange(24).view(3, 4, 2)[:, [2, 0, 3, 1]].flatten()
    turned_images = images.view(24, 2, *images.shape[1:])[clips].flatten(0, 1)
    features = model(turned_images, batch.lengths, batch.kinds[clips])
    turned = objective(model, features, Labels(batch.identities[clips], batch.modalities[clips])).total
    torch.testing.assert_close(turned, total, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(objective.memory.prototypes, moved, atol=1e-6, rtol=1e-5)
