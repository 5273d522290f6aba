"""One step: schedule, optimiser, memories, and what accumulation, checkpointing and compilation must not change."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from reid import checkpoint, presets
from reid.datasets.crops import Crops
from reid.datasets.folder import read_folder
from reid.loading import TrainingData
from reid.modality import Modality
from reid.models.xreid import ClipFeatures
from reid.trainer import Trainer, learning_rate
from reid.training_config import OptimiserConfig, TrainConfig
from reid.transforms import to_input
from tests.reid.factories import encoder_config, paper_config, trainer_on, training_config, write_folder


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("folder"))


def test_the_paper_s_schedule_has_the_paper_s_numbers() -> None:
    config = presets.load("paper")

    def of_epoch(epoch: int, step: int = 0) -> float:
        """Counted from 1, as the paper does."""
        at = epoch - 1 + step / config.iterations
        return config.optimiser.lr * learning_rate(config.optimiser, at, config.epochs)

    warmup = [5e-6 * (0.1 * (1 - (e - 1) / 10) + (e - 1) / 10) for e in range(1, 11)]
    assert [of_epoch(e) for e in range(1, 11)] == pytest.approx(warmup)
    assert (of_epoch(1), of_epoch(2), of_epoch(11)) == pytest.approx((5e-7, 9.5e-7, 5e-6))
    assert [of_epoch(e) for e in range(11, 31)] == pytest.approx([5e-6] * 20)
    assert [of_epoch(e) for e in range(31, 51)] == pytest.approx([5e-7] * 20)
    assert [of_epoch(e) for e in range(51, 61)] == pytest.approx([5e-8] * 10)
    assert of_epoch(3, step=299) == of_epoch(3)  # constant within an epoch


def test_a_cosine_falls_a_little_every_step_after_a_warm_up() -> None:
    cosine = OptimiserConfig(warmup_epochs=0, schedule="cosine")
    assert [learning_rate(cosine, epoch, 10) for epoch in (0, 5, 10)] == pytest.approx([1, 0.505, 0.01])
    warm = OptimiserConfig(warmup_epochs=2, warmup_start=0.2, schedule="cosine")
    assert [learning_rate(warm, epoch, 10) for epoch in (0, 0.5, 1, 2)] == pytest.approx([0.2, 0.4, 0.6, 1])


def test_the_rate_of_a_step_reaches_every_group_times_its_factor(root: Path) -> None:
    trainer = trainer_on(root, paper_config(**{"optimiser.head_factor": 10.0, "optimiser.warmup_epochs": 2}))
    trainer.steps = 3  # the first step of the second epoch
    trainer.step(trainer.data.parts(3))
    assert {group["factor"]: group["lr"] for group in trainer.optimiser.param_groups} == pytest.approx(
        {1.0: 0.00055, 10.0: 0.0055}
    )


def test_norms_and_biases_do_not_decay_and_heads_may_learn_faster(root: Path) -> None:
    trainer = trainer_on(root, training_config(optimiser={"name": "adam", "head_factor": 10.0, "weight_decay": 0.1}))
    groups = {(group["factor"], group["weight_decay"]): group["params"] for group in trainer.optimiser.param_groups}
    assert set(groups) == {(1.0, 0.1), (1.0, 0.0), (10.0, 0.1), (10.0, 0.0)}
    model = trainer.model
    assert any(p is model.encoder.visual.ln_post.weight for p in groups[1.0, 0.0])
    assert any(p is model.encoder.visual.positional_embedding for p in groups[1.0, 0.0])
    assert any(p is model.short_term.block.query.weight for p in groups[10.0, 0.1])
    trained = sum(len(group) for group in groups.values())
    assert trained == sum(p.requires_grad for m in (model, trainer.objective) for p in m.parameters())


def test_a_few_steps_lower_the_loss(root: Path) -> None:
    trainer = trainer_on(root, paper_config(**{"loss.cmcl": 0.01, "optimiser.warmup_epochs": 0, "iterations": 100}))
    trainer.fill_memories()
    totals = [trainer.step(trainer.data.parts(step))["total"] for step in range(12)]
    assert np.mean(totals[-3:]) < 0.9 * np.mean(totals[:3])


def test_the_same_seed_gives_the_same_losses_and_another_seed_others(root: Path) -> None:
    def losses(seed: int) -> list[float]:
        trainer = trainer_on(root, training_config(seed=seed))
        trainer.fill_memories()
        return [trainer.step(trainer.data.parts(step))["total"] for step in range(3)]

    assert losses(1) == losses(1)
    assert losses(1) != losses(2)


def outcome(trainer: Trainer, *, steps: int) -> dict[str, Tensor]:
    """Losses, weights, memories and statistics after some steps."""
    trainer.fill_memories()
    totals = [trainer.step(trainer.data.parts(step))["total"] for step in range(steps)]
    return {
        "losses": torch.tensor(totals),
        **{f"model.{name}": value.clone() for name, value in trainer.model.state_dict().items()},
        **{f"objective.{name}": value.clone() for name, value in trainer.objective.state_dict().items()},
    }


def gradients(trainer: Trainer) -> dict[str, Tensor]:
    """Of the last step, with the memories that it left."""
    named = [*trainer.model.named_parameters(), *trainer.objective.named_parameters()]
    found = {name: p.grad.clone() for name, p in named if p.grad is not None}
    return {**found, "memory": trainer.objective.memory.prototypes.clone()}


def assert_close(one: dict[str, Tensor], other: dict[str, Tensor], *, relative: float = 1e-5) -> None:
    """Each tensor differs by at most this share of its own greatest value, or of 1e-2."""
    assert set(one) == set(other)
    for name, value in one.items():
        scale = max(float(value.abs().max()), 1e-2) if value.is_floating_point() else 1.0
        torch.testing.assert_close(
            other[name], value, atol=relative * scale, rtol=0, msg=lambda text, name=name: f"{name}: {text}"
        )


WITH_FRAME_LOSSES = {"loss.frame_identity": 0.3, "loss.orthogonality": 0.2, "loss.cii_identity": 0.5}


@pytest.mark.parametrize("accumulate", [2, 4])
def test_an_accumulated_batch_gives_the_gradient_and_the_memories_of_the_whole_one(root: Path, accumulate: int) -> None:
    found = []
    for parts in (1, accumulate):
        changes = {"model.neck": "batch_norm", "loss.behind_necks": True, **WITH_FRAME_LOSSES}
        trainer = trainer_on(root, paper_config(**changes, **{"batch.accumulate": parts}))
        trainer.fill_memories()
        before = trainer.objective.memory.prototypes.clone()
        batch = trainer.data.parts(0)
        assert [len(part.lengths) for part in batch] == [24 // parts] * parts
        losses = trainer.step(batch)
        assert not torch.equal(trainer.objective.memory.prototypes, before)
        statistics = {name: b for name, b in trainer.model.named_buffers() if b.is_floating_point()}
        found.append({**gradients(trainer), **statistics, "losses": torch.tensor([losses[k] for k in sorted(losses)])})
    # float32 sums the terms in another order, and batch-normalised necks magnify that; naive accumulation, below, is
    # wrong by five per cent.
    assert_close(*found, relative=1e-4)


def test_naive_accumulation_would_give_another_gradient(root: Path) -> None:
    """Batch-hard mining over a part of the batch finds other negatives: why the whole batch is compared at once."""
    whole = trainer_on(root, paper_config())
    whole.fill_memories()
    whole.step(whole.data.parts(0))
    parts = trainer_on(root, paper_config(**{"batch.accumulate": 2}))
    parts.fill_memories()
    inputs = [(parts._images(part), part) for part in parts.data.parts(0)]
    for images, part in inputs:
        (parts._pass(images, part)[0] / 2).backward()
    expected, naive = gradients(whole), gradients(parts)
    assert (expected["encoder.visual.proj"] - naive["encoder.visual.proj"]).norm() > 0.05 * expected[
        "encoder.visual.proj"
    ].norm()


def test_a_stem_s_statistics_move_once_a_part_of_an_accumulated_batch(root: Path) -> None:
    trainer = trainer_on(root, training_config(batch={"identities": 4, "clips": 1, "frames": 2, "accumulate": 2}))
    trainer.step(trainer.data.parts(0))
    assert trainer.model.encoder.visual.conv1[1].num_batches_tracked == 2


@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_activation_checkpointing_changes_memory_and_nothing_else(root: Path, precision: str) -> None:
    found = []
    for checkpointing in (False, True):
        encoder = encoder_config(quick_gelu=True, checkpointing=checkpointing).model_dump(mode="json")
        changes = {"model.encoder": encoder, "precision": precision}
        found.append(outcome(trainer_on(root, paper_config(**changes)), steps=2))
    for name, value in found[0].items():
        assert torch.equal(value, found[1][name]), name


def test_a_compiled_encoder_trains_alike_and_is_saved_under_the_same_names(root: Path, tmp_path: Path) -> None:
    plain, compiled = (trainer_on(root, paper_config(compile=backend)) for backend in (None, "eager"))
    assert compiled.model.encoder._compiled_call_impl is not None
    for trainer in (plain, compiled):
        trainer.fill_memories()
        trainer.step(trainer.data.parts(0))
    assert_close(gradients(plain), gradients(compiled))
    card = checkpoint.Card(
        name="x",
        model=compiled.config.model,
        preprocessing=compiled.config.preprocessing,
        training_data="x",
        licence="x",
    )
    checkpoint.save(tmp_path / "x.safetensors", compiled.model, card)
    checkpoint.load(tmp_path / "x.safetensors")
    assert compiled.extractor().model.encoder._compiled_call_impl is None


def test_bf16_is_an_option_and_its_loss_is_close(root: Path) -> None:
    totals = {}
    for precision in ("float32", "bf16"):
        trainer = trainer_on(root, training_config(precision=precision))
        trainer.fill_memories()
        totals[precision] = trainer.step(trainer.data.parts(0))["total"]
    assert totals["bf16"] == pytest.approx(totals["float32"], rel=0.05)
    assert totals["bf16"] != totals["float32"]


@pytest.mark.parametrize("mean", ["features", "unit_features"])
def test_memories_begin_as_the_mean_of_each_persons_clips(root: Path, mean: str) -> None:
    trainer = trainer_on(root, paper_config(**{"loss.memory_mean": mean}))
    data = trainer.data
    rows = np.flatnonzero((data.split.pids == 3) & (np.array(data.split.modalities) == Modality.RGB))

    def of_clips() -> ClipFeatures:
        batches = [data.tracklets(np.array([row]), frames=2, purpose=("memories", 0)) for row in rows]
        images = to_input(torch.cat([batch.pixels for batch in batches]), trainer.config.preprocessing)
        return trainer.model.eval()(images, torch.cat([batch.lengths for batch in batches]))

    with torch.no_grad():
        # Clips of one person are almost alike; without nearly all that the first is, they differ in length and place.
        trainer.model.encoder.visual.ln_post.bias -= 0.999 * of_clips().cls[0]
        clips = of_clips().projected
    trainer.fill_memories()
    memory = trainer.objective.memory
    assert memory.filled.all()
    means = {"features": clips.mean(dim=0), "unit_features": torch.nn.functional.normalize(clips, dim=1).mean(dim=0)}
    expected = {name: each / each.norm() for name, each in means.items()}
    assert (expected["features"] - expected["unit_features"]).abs().max() > 1e-2  # else one could stand for the other
    torch.testing.assert_close(memory.prototypes[0, 3], expected[mean], atol=1e-4, rtol=0)


def test_centres_are_the_mean_features_of_the_training_tracklets_by_modality(root: Path) -> None:
    settings = training_config()
    split = read_folder(root, "train")
    crops = Crops.load(split, settings.preprocessing)
    still = np.repeat(crops.starts[:-1], 5)  # every tracklet stands still, so that any of its frames will do
    trainer = Trainer(settings, TrainingData(split, Crops(crops.pixels[still], crops.starts), settings))
    trainer.set_centres()
    features = trainer.model.concatenated(
        to_input(torch.from_numpy(crops.pixels[crops.starts[:-1]]), settings.preprocessing),
        torch.ones(len(split), dtype=torch.int64),
    )
    for number, modality in enumerate(Modality):
        expected = features[split.rows_of(modality)].mean(dim=0)
        torch.testing.assert_close(trainer.model.centres[number], expected, atol=1e-5, rtol=1e-4)


def test_evaluating_does_not_touch_the_model_that_trains(root: Path) -> None:
    trainer = trainer_on(root, training_config())
    trainer.model.train()
    copied = trainer.extractor()
    assert trainer.model.training
    assert not copied.model.training
    assert copied.model is not trainer.model


def test_a_training_may_go_on_from_a_checkpoint_of_the_same_shape(root: Path, tmp_path: Path) -> None:
    def card(config: TrainConfig) -> checkpoint.Card:
        return checkpoint.Card(
            name="x", model=config.model, preprocessing=config.preprocessing, training_data="x", licence="x"
        )

    first = trainer_on(root, training_config(seed=5))
    path = tmp_path / "x.safetensors"
    checkpoint.save(path, first.model, card(first.config))
    again = trainer_on(root, training_config(initial=str(path)))
    assert torch.equal(again.model.encoder.visual.proj, first.model.encoder.visual.proj)
    model = {"encoder": encoder_config().model_dump(mode="json"), "neck": "batch_norm"}
    with pytest.raises(checkpoint.CheckpointError, match=r"do not fit the model: .*conv1"):
        trainer_on(root, training_config(initial=str(path), model=model))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_trains_as_a_cpu_does(root: Path) -> None:
    from reid.distributed import Processes

    config = paper_config()
    split = read_folder(root, "train")
    found = []
    for device in ("cpu", "cuda"):
        data = TrainingData(split, Crops.load(split, config.preprocessing), config)
        trainer = Trainer(config, data, Processes(0, 1, 0, torch.device(device)))
        found.append({name: value.cpu() for name, value in outcome(trainer, steps=2).items()})
    assert_close(*found, relative=1e-2)


def test_prototypes_are_of_persons_and_not_of_cameras(tmp_path: Path) -> None:
    found = []
    for scale in (0.0, 5.0):
        model = {"camera_embedding": "modality_mean", "cameras": 4, "camera_scale": scale}
        config = paper_config(**{f"model.{key}": value for key, value in model.items()})
        learner = trainer_on(write_folder(tmp_path / f"{scale}"), config)
        torch.manual_seed(5)
        torch.nn.init.normal_(learner.model.camera_embedding.vectors)
        learner.fill_memories()
        found.append(learner.objective.memory.prototypes.clone())
        assert learner.model.camera_embedding.scale == scale
    torch.testing.assert_close(*found)


@pytest.mark.parametrize(("capability", "warned"), [("AVX2", True), ("AVX512", False)])
def test_bf16_on_a_processor_that_emulates_it_is_warned_of(
    root: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, capability: str, warned: bool
) -> None:
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    trainer_on(root, training_config(precision="float32"))
    assert "emulated" not in caplog.text
    trainer_on(root, training_config(precision="bf16"))
    assert ("--set precision=float32" in caplog.text) is warned
