import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from reid import checkpoint, evaluate, train
from reid.datasets.crops import Crops
from reid.datasets.folder import DatasetError, read_folder
from reid.modality import Modality
from reid.samplers import IdentityModalitySampler
from reid.train import ConfigError, Data, OptimiserConfig, TrainConfig, Trainer, learning_rate, read_config
from reid.transforms import to_input
from tests.reid.factories import encoder_config, preprocessing, write_folder

TINY = Path(__file__).resolve().parents[2] / "configs" / "reid" / "xreid_tiny.yaml"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("folder"))


def settings(**changes: object) -> dict[str, object]:
    """A training that takes seconds, as YAML would hold it."""
    encoder = encoder_config(stem="convolutional").model_dump(mode="json")
    return {
        "name": "mini",
        "model": {"encoder": encoder, "neck": "batch_norm", "centre_modalities": True},
        "preprocessing": preprocessing().model_dump(mode="json"),
        "augmentation": {"erase": 0.0, "occlude": 0.0},
        "augmentation_ramp_epochs": 2,
        "loss": {"behind_necks": True, "alignment": 1.0, "cmcl": 0.01, "cpcl": 0.1},
        "batch": {"identities": 3, "clips": 1, "frames": 2, "still_epochs": 1},
        "optimiser": {"name": "adamw", "lr": 0.002, "warmup_epochs": 0.5, "schedule": "cosine", "clip_norm": 5.0},
        "epochs": 3,
        "iterations": 60,
        "half_on_disk": True,
        "training_data": "coloured bands",
        "licence": "Apache-2.0",
        **changes,
    }


def config(**changes: object) -> TrainConfig:
    return TrainConfig.model_validate_json(json.dumps(settings(**changes)))


@pytest.fixture(scope="module")
def run(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that one training left."""
    output = tmp_path_factory.mktemp("run")
    threads = torch.get_num_threads()
    path = output / "mini.yaml"
    path.write_text(yaml.safe_dump(settings()))
    arguments = ["--config", str(path), "--root", str(root), "--output", str(output), "--set", "seed=3"]
    assert train.main([*arguments, "--set", f"threads={threads}"]) == 0
    return output


def test_a_training_lowers_its_loss_and_logs_each_epoch(run: Path) -> None:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [1, 2, 3]
    first, last = lines[0]["loss"], lines[-1]["loss"]
    assert last["alignment"] < 0.8 * first["alignment"]
    assert {"cpcl", "triplet", "identity_projected", "identity_fused", "cmcl", "cii_norm", "total"} <= set(last)
    assert set(lines[-1]["validation"]) == {
        "rgb->nir", "rgb->thermal", "nir->rgb", "nir->thermal", "thermal->rgb", "thermal->nir",
    }  # fmt: skip


def test_a_training_ends_with_a_checkpoint_that_loads_and_knows_where_it_came_from(run: Path, root: Path) -> None:
    path = run / "checkpoint.safetensors"
    card, _ = checkpoint.read(path)
    assert card.training_data == "coloured bands"
    assert card.training == {"epoch": 3, "steps": 180, "seed": 3}
    extractor = checkpoint.load(path)
    assert extractor.calibration is not None
    assert (Modality.NIR, Modality.RGB) in set(extractor.calibration)
    split = read_folder(root, "val")
    crops = Crops.load(split, extractor.preprocessing)
    results = evaluate.evaluate_directions(evaluate.embed_split(extractor, crops, split), split)
    logged = json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])["validation"]
    assert results["rgb->nir"].rank1 == pytest.approx(logged["rgb->nir"]["rank1"], abs=0.11)  # float16 on disk
    assert read_config(run / "config.yaml").seed == 3


def test_the_result_tells_how_it_was_made(run: Path) -> None:
    result = json.loads((run / "result.json").read_text())
    assert result["command"].startswith("python -m reid.train --config")
    assert result["config"]["seed"] == 3
    assert [epoch["epoch"] for epoch in result["epochs"]] == [1, 2, 3]
    assert result["machine"]["torch"] == torch.__version__


def test_a_training_may_go_on_from_a_checkpoint_of_the_same_shape(run: Path, root: Path) -> None:
    split = read_folder(root, "train")
    settings = config(initial=str(run / "checkpoint.safetensors"))
    trainer = Trainer(settings, Data(split, Crops.load(split, settings.preprocessing), settings))
    _, state = checkpoint.read(run / "checkpoint.safetensors")
    assert torch.equal(trainer.model.encoder.visual.proj.half(), state["encoder.visual.proj"])
    other = config(initial=settings.initial, model={"encoder": encoder_config().model_dump(mode="json")})
    with pytest.raises(checkpoint.CheckpointError, match=r"do not fit the model: .*conv1"):
        Trainer(other, Data(split, Crops.load(split, other.preprocessing), other))


def test_the_evaluation_command_prints_a_table_and_writes_its_figures(
    run: Path, root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = ["--weights", str(run / "checkpoint.safetensors")]
    assert evaluate.main([*weights, "--root", str(root), "--json", str(tmp_path / "x.json"), "--device", "cpu"]) == 0
    shown = capsys.readouterr().out
    assert "5 persons, 20 tracklets (10 rgb, 5 nir, 5 thermal)" in shown
    record = json.loads((tmp_path / "x.json").read_text())
    assert record["command"].startswith("python -m reid.evaluate --weights")
    assert record["model"].startswith("mini@sha256:")
    figures = record["directions"]
    assert figures["nir->rgb"]["chance_rank1"] == pytest.approx(0.2)
    assert f"{100 * figures['rgb->thermal']['mAP']:.1f}" in shown
    assert evaluate.main(["--weights", "nothing", "--root", str(root)]) == 2
    assert evaluate.main([*weights, "--root", str(tmp_path)]) == 2
    assert "no such file" in capsys.readouterr().err


def test_the_same_seed_gives_the_same_losses_and_another_seed_others(root: Path) -> None:
    def losses(seed: int) -> list[float]:
        settings = config(seed=seed)
        split = read_folder(root, "train")
        data = Data(split, Crops.load(split, settings.preprocessing), settings)
        trainer = Trainer(settings, data)
        trainer.fill_memories()
        batches = iter(data)
        return [trainer.step(next(batches)).breakdown["total"] for _ in range(3)]

    assert losses(1) == losses(1)
    assert losses(1) != losses(2)


def test_still_epochs_have_single_frames_of_more_persons(root: Path) -> None:
    settings = config()
    split = read_folder(root, "train")
    data = Data(split, Crops.load(split, settings.preprocessing), settings)
    batches = iter(data)
    still = [next(batches) for _ in range(settings.iterations)]
    assert {tuple(batch.lengths.tolist()) for batch in still} == {(1,) * 18}
    after = next(batches)
    assert after.lengths.tolist() == [2] * 9
    assert len(after.pixels) == 18


def test_memories_begin_as_the_mean_of_each_persons_clips(root: Path) -> None:
    settings = config(model={"encoder": encoder_config().model_dump(mode="json")}, loss={})
    split = read_folder(root, "train")
    data = Data(split, Crops.load(split, settings.preprocessing), settings)
    trainer = Trainer(settings, data)
    trainer.fill_memories()
    memory = trainer.objective.memory
    assert memory.filled.all()
    np.testing.assert_allclose(memory.prototypes.norm(dim=2).numpy(), 1, atol=1e-5)


def test_centres_are_the_mean_features_of_the_training_tracklets_by_modality(root: Path) -> None:
    settings = config()
    split = read_folder(root, "train")
    crops = Crops.load(split, settings.preprocessing)
    still = np.repeat(crops.starts[:-1], 5)  # every tracklet stands still, so that any of its frames will do
    data = Data(split, Crops(crops.pixels[still], crops.starts), settings)
    trainer = Trainer(settings, data)
    trainer.set_centres()
    features = trainer.model.concatenated(
        to_input(torch.from_numpy(crops.pixels[crops.starts[:-1]]), settings.preprocessing),
        torch.ones(len(split), dtype=torch.int64),
    )
    for number, modality in enumerate(Modality):
        expected = features[split.rows_of(modality)].mean(dim=0)
        torch.testing.assert_close(trainer.model.centres[number], expected, atol=1e-5, rtol=1e-4)


def test_bf16_is_an_option_and_its_loss_is_close(root: Path) -> None:
    split = read_folder(root, "train")
    totals = {}
    for precision in ("float32", "bf16"):
        settings = config(precision=precision)
        data = Data(split, Crops.load(split, settings.preprocessing), settings)
        trainer = Trainer(settings, data)
        trainer.fill_memories()
        rows = next(iter(IdentityModalitySampler(split, identities=3, clips=1, generator=np.random.default_rng(1))))
        data._generator = np.random.default_rng(0)
        totals[precision] = trainer.step(data.batch(rows, frames=1)).breakdown["total"]
    assert totals["bf16"] == pytest.approx(totals["float32"], rel=0.05)
    assert totals["bf16"] != totals["float32"]


def test_the_learning_rate_warms_up_and_falls() -> None:
    step = OptimiserConfig(warmup_epochs=10, warmup_start=0.1, schedule="step", milestones=(30, 50))
    course = [learning_rate(step, epoch, 60) for epoch in (0, 5, 10, 29.9, 30, 50)]
    assert course == pytest.approx([0.1, 0.55, 1, 1, 0.1, 0.01])
    cosine = OptimiserConfig(warmup_epochs=0, schedule="cosine")
    assert [learning_rate(cosine, epoch, 10) for epoch in (0, 5, 10)] == pytest.approx([1, 0.505, 0.01])


def test_norms_and_biases_do_not_decay_and_heads_may_learn_faster(root: Path) -> None:
    settings = config(optimiser={"name": "adam", "head_factor": 10.0, "weight_decay": 0.1})
    split = read_folder(root, "train")
    trainer = Trainer(settings, Data(split, Crops.load(split, settings.preprocessing), settings))
    groups = {(group["factor"], group["weight_decay"]): group["params"] for group in trainer.optimiser.param_groups}
    assert set(groups) == {(1.0, 0.1), (1.0, 0.0), (10.0, 0.1), (10.0, 0.0)}
    model = trainer.model
    assert any(p is model.encoder.visual.ln_post.weight for p in groups[1.0, 0.0])
    assert any(p is model.encoder.visual.positional_embedding for p in groups[1.0, 0.0])
    assert any(p is model.short_term.block.query.weight for p in groups[10.0, 0.1])
    trained = sum(len(group) for group in groups.values())
    assert trained == sum(p.requires_grad for m in (model, trainer.objective) for p in m.parameters())


def test_persons_in_both_splits_are_refused(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "data", train=3, val=1, frames=1)
    (root / "val" / "00100").rename(root / "val" / "00002")
    table = root / "tracklets.csv"
    table.write_text(table.read_text().replace("val,100", "val,2"))
    with pytest.raises(DatasetError, match="1 persons are in both splits, such as 2"):
        train.train(root, tmp_path / "out", config())


def test_pretrained_weights_that_are_not_there_end_the_command(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(yaml.safe_dump(settings()))
    arguments = ["--config", str(path), "--root", str(root), "--output", str(tmp_path / "o")]
    assert train.main([*arguments, "--set", "pretrained=gone.pt"]) == 2
    assert "put a CLIP checkpoint there" in capsys.readouterr().err


def test_the_configuration_of_the_embedded_weights_is_valid_and_can_be_changed() -> None:
    plain = read_config(TINY)
    changed = read_config(TINY, ["optimiser.lr=0.5", "epochs=2", "loss.cmcl=0.0"])
    assert (changed.optimiser.lr, changed.epochs, changed.loss.cmcl) == (0.5, 2, 0.0)
    assert changed.model == plain.model


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["epochs"], "--set epochs: must be key=value"),
        (["name.x=1"], "name is not a section"),
        (["optimiser.learning=1"], "optimiser.learning: Extra inputs are not permitted"),
        (["epochs=many"], "epochs: Input should be a valid integer"),
        (["model.encoder.width=30"], "not a multiple of head_width"),
    ],
)
def test_a_wrong_change_is_refused_with_its_place(changes: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read_config(TINY, changes)


def test_a_configuration_that_is_no_mapping_or_no_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "list.yaml").write_text("- 1")
    with pytest.raises(ConfigError, match="must be a mapping, got list"):
        read_config(tmp_path / "list.yaml")
    (tmp_path / "broken.yaml").write_text("a: [")
    with pytest.raises(ConfigError, match=r"broken\.yaml"):
        read_config(tmp_path / "broken.yaml")
    with pytest.raises(ConfigError, match="No such file"):
        read_config(tmp_path / "gone.yaml")


@pytest.mark.parametrize("preset", ["paper", "code", "vanilla", "cpc_cii"])
def test_a_preset_trains_by_its_name_at_any_size(root: Path, tmp_path: Path, preset: str) -> None:
    encoder = encoder_config().model_dump_json(exclude={"freeze_patch_projection"})
    changes = [
        f"model.encoder={encoder}", "preprocessing.size_hw=[32, 16]", "pretrained=null", "batch.frames=2",
        "batch.identities=3", "batch.clips=1", "epochs=2", "iterations=3", "licence=Apache-2.0",
    ]  # fmt: skip
    if preset == "code":
        changes.append("model.cameras=4")
    arguments = ["--preset", preset, "--root", str(root), "--output", str(tmp_path)]
    assert train.main([*arguments, *(part for change in changes for part in ("--set", change))]) == 0
    result = json.loads((tmp_path / "result.json").read_text())
    assert [math.isfinite(epoch["loss"]["total"]) for epoch in result["epochs"]] == [True, True]
    extractor = checkpoint.load(tmp_path / "checkpoint.safetensors")
    assert extractor.dimension == sum(
        extractor.model.config.width_of(part) for part in extractor.model.config.retrieval
    )


def test_camera_embeddings_need_as_many_cameras_as_the_data_have(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--preset", "code", "--root", str(root), "--output", str(tmp_path), "--set", "pretrained=null"]
    assert train.main(arguments) == 2
    assert "model.cameras is 12, but the training split has 4 cameras" in capsys.readouterr().err


def test_clip_weights_that_are_not_there_are_told_with_what_to_put_where(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(config: object) -> str:
        raise OSError("no network")

    monkeypatch.setattr("reid.models.encoder.download_pretrained", fail)
    assert train.main(["--preset", "paper", "--root", str(root), "--output", str(tmp_path)]) == 2
    message = capsys.readouterr().err
    assert "ViT-B-16-quickgelu (openai) could not be fetched: OSError" in message
    assert "give the path of that file in place of 'openai'" in message
