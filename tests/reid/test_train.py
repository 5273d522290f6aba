import json
import math
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml

from reid import checkpoint, evaluate, presets, train
from reid.datasets.crops import Crops
from reid.datasets.folder import DatasetError, read_folder
from reid.modality import Modality
from reid.training_config import ConfigError, differences, read_config
from reid.training_state import Interrupted, MetricsLog, StateError, StopSignal
from tests.reid.factories import encoder_config, training_config, training_settings, write_folder
from tests.reid.layouts import VcmRoot, vcm_persons

REPOSITORY = Path(__file__).resolve().parents[2]
TINY = REPOSITORY / "configs" / "reid" / "xreid_tiny.yaml"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("folder"))


@pytest.fixture(scope="module")
def run(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that one training left."""
    output = tmp_path_factory.mktemp("run")
    threads = torch.get_num_threads()
    path = output / "mini.yaml"
    path.write_text(yaml.safe_dump(training_settings(tensorboard=True)))
    arguments = ["--config", str(path), "--root", str(root), "--output", str(output), "--set", "seed=3"]
    assert train.main([*arguments, "--set", f"threads={threads}"]) == 0
    return output


def lines_of(folder: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def losses_of(folder: Path) -> list[object]:
    """The loss curve, to the last bit."""
    return [(line["epoch"], line["loss"], line["lr"], line.get("validation")) for line in lines_of(folder)]


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    return checkpoint.read(folder / "checkpoint.safetensors")[1]


def test_a_training_lowers_its_loss_and_logs_each_epoch(run: Path) -> None:
    lines = lines_of(run)
    assert [line["epoch"] for line in lines] == [1, 2, 3]
    first, last = lines[0]["loss"], lines[-1]["loss"]
    # CPCL alone rises, from single frames in the first epoch to clips, against prototypes of a random encoder.
    for name in ("total", "triplet", "identity_projected", "identity_fused", "alignment"):
        assert last[name] < 0.97 * first[name], name
    assert last["cmcl"] < lines[1]["loss"]["cmcl"]
    assert all(line["images_per_second"] > 0 for line in lines)
    assert {"cpcl", "triplet", "identity_projected", "identity_fused", "cmcl", "cii_norm", "total"} <= set(last)
    assert set(lines[-1]["validation"]) == {
        "rgb->nir", "rgb->thermal", "nir->rgb", "nir->thermal", "thermal->rgb", "thermal->nir",
    }  # fmt: skip


def test_a_training_ends_with_a_checkpoint_that_loads_and_knows_where_it_came_from(run: Path, root: Path) -> None:
    path = run / "checkpoint.safetensors"
    card, _ = checkpoint.read(path)
    assert card.training_data == "coloured bands"
    assert {name: card.training[name] for name in ("epoch", "steps", "seed")} == {"epoch": 3, "steps": 180, "seed": 3}
    assert torch.__version__.startswith(card.training["environment"]["packages"]["torch"])
    assert card.training["data"]["tracklets"] == {"rgb": 16, "nir": 8, "thermal": 8}
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
    assert torch.__version__.startswith(result["environment"]["packages"]["torch"])
    assert result["environment"]["device"] == "cpu"
    assert result["config_sha256"] == read_config(run / "config.yaml").digest()
    assert {name: result["data"][name] for name in ("name", "persons", "frames", "cameras")} == {
        "name": "folder", "persons": 8, "frames": 160, "cameras": 4,
    }  # fmt: skip


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


def test_persons_in_both_splits_are_refused(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "data", train=3, val=1, frames=1)
    (root / "val" / "00100").rename(root / "val" / "00002")
    table = root / "tracklets.csv"
    table.write_text(table.read_text().replace("val,100", "val,2"))
    with pytest.raises(DatasetError, match="1 persons are in both splits, 'train' and 'val', such as 2"):
        train.train(root, tmp_path / "out", training_config())


def test_pretrained_weights_that_are_not_there_end_the_command(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(yaml.safe_dump(training_settings()))
    arguments = ["--config", str(path), "--root", str(root), "--output", str(tmp_path / "o")]
    assert train.main([*arguments, "--set", "pretrained=gone.pt"]) == 2
    assert "put a CLIP checkpoint there" in capsys.readouterr().err


def test_a_value_that_is_no_yaml_is_a_usage_error_and_a_folder_that_cannot_be_made_one_of_the_disk(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(yaml.safe_dump(training_settings()))
    (tmp_path / "file").touch()
    base = ["--config", str(path), "--root", str(root), "--output"]
    assert train.main([*base, str(tmp_path / "o"), "--option", "min_frames=["]) == 2
    assert "--option min_frames=[: the value is not YAML" in capsys.readouterr().err
    assert train.main([*base, str(tmp_path / "file" / "o")]) == 5
    assert "file/o: Not a directory" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("val_identities=true", "val_identities: Input should be a valid integer"),
        ("min_frames='12'", "min_frames: Input should be a valid integer"),
        ("min_frames=12.0", "min_frames: Input should be a valid integer"),
        ("min_frames=2020-01-01", "min_frames: Input should be a valid integer"),
        ("legacy_last_query_line=1", "legacy_last_query_line: Input should be a valid boolean"),
    ],
)
def test_an_option_of_another_type_is_refused_by_both_commands(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], option: str, message: str
) -> None:
    root = VcmRoot(train=vcm_persons(1, 2, 3), test=vcm_persons(7)).write(tmp_path / "data")
    path = tmp_path / "c.yaml"
    path.write_text(yaml.safe_dump(training_settings(epochs=1, iterations=1)))
    data = ["--dataset", "hitsz_vcm", "--root", str(root), "--option", option]
    assert train.main(["--config", str(path), "--output", str(tmp_path / "o"), *data]) == 2
    assert evaluate.main(["--weights", "xreid-tiny", *data]) == 2
    assert capsys.readouterr().err.count(message) == 2


def test_the_configuration_of_the_embedded_weights_is_valid_and_can_be_changed() -> None:
    plain = read_config(TINY)
    changed = read_config(TINY, ["optimiser.lr=5e-1", "epochs=2", "loss.cmcl=0.0"])
    assert (changed.optimiser.lr, changed.epochs, changed.loss.cmcl) == (0.5, 2, 0.0)
    assert changed.model == plain.model


def test_the_large_batch_is_the_paper_s_training_but_for_what_it_says() -> None:
    large = read_config(REPOSITORY / "configs" / "reid" / "large_batch.yaml")
    paper = presets.load("paper")
    changed = {line.split(":")[0] for line in differences(paper.model_dump(mode="json"), large.model_dump(mode="json"))}
    assert changed == {"batch.identities", "optimiser.lr", "iterations", "model.encoder.checkpointing"}
    larger = large.batch.identities / paper.batch.identities
    assert large.optimiser.lr == pytest.approx(paper.optimiser.lr * math.sqrt(larger), rel=0.01)
    assert large.iterations == math.ceil(paper.iterations / larger)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["epochs"], "--set epochs: must be key=value"),
        (["name.x=1"], "name is not a section"),
        (["optimiser.learning=1"], "optimiser.learning: Extra inputs are not permitted"),
        (["epochs=many"], "epochs: Input should be a valid integer"),
        (["seed=99999999999999999999999999"], "seed: Input should be less than or equal to 9223372036854775807"),
        (["seed=2020-01-01"], "seed: Input should be a valid integer"),
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
    (tmp_path / "latin.yaml").write_bytes(b"name: x\nlicence: \xe9\n")
    with pytest.raises(ConfigError, match=r"latin\.yaml:2: not UTF-8 text: byte 0xe9; save the file as UTF-8"):
        read_config(tmp_path / "latin.yaml")
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


# Resuming: the settings of a training of four epochs of three steps, whose state is also written within epochs.
SHORT = {
    "batch": {"identities": 3, "clips": 2, "frames": 2, "still_epochs": 1},
    "augmentation": {"occlude": 0.5},
    "epochs": 4,
    "iterations": 3,
    "validate_every": 2,
    "memories": "every_epoch",
    "precision": "bf16",
    "state": {"every_steps": 2},
    "threads": 1,
}


@pytest.fixture(scope="module")
def unbroken(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training that nobody interrupted."""
    output = tmp_path_factory.mktemp("unbroken")
    threads = torch.get_num_threads()
    train.train(root, output, training_config(**SHORT))
    torch.set_num_threads(threads)
    return output


def assert_same_training(one: Path, other: Path) -> None:
    assert losses_of(one) == losses_of(other)
    weights, others = weights_of(one), weights_of(other)
    assert set(weights) == set(others)
    assert all(torch.equal(weights[name], others[name]) for name in weights)


def test_a_worker_gives_the_training_of_one_process_bit_for_bit(root: Path, tmp_path: Path) -> None:
    threads = torch.get_num_threads()
    for workers in (0, 1):
        settings = training_config(**{**SHORT, "epochs": 1, "iterations": 2, "loader": {"workers": workers}})
        train.train(root, tmp_path / str(workers), settings)
        torch.set_num_threads(threads)
    assert_same_training(tmp_path / "0", tmp_path / "1")


class AfterSteps(StopSignal):
    """Asks to stop after so many steps, as a signal at that moment would."""

    def __init__(self, steps: int) -> None:
        super().__init__()
        self._left = steps

    @property
    def asked(self) -> bool:
        self._left -= 1
        return self._left < 0

    @asked.setter
    def asked(self, value: bool) -> None:
        pass


@pytest.mark.parametrize("steps", [1, 3, 5])
def test_a_training_that_was_stopped_goes_on_as_if_it_had_not_been(
    root: Path, unbroken: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, steps: int
) -> None:
    config = training_config(**SHORT)
    monkeypatch.setattr(train, "StopSignal", lambda: AfterSteps(steps - 1))
    with pytest.raises(Interrupted, match=f"stopped after step {steps} of 12"):
        train.train(root, tmp_path, config)
    monkeypatch.setattr(train, "StopSignal", StopSignal)
    torch.manual_seed(99)
    train.train(root, tmp_path, config, existing="resume")
    assert_same_training(tmp_path, unbroken)


class Killed(BaseException):
    """What no handler of the training catches, as none catches SIGKILL."""


@pytest.mark.parametrize(
    ("owner", "name", "call"),
    [
        (checkpoint, "save", 2),  # an epoch is over, its weights are not written
        (MetricsLog, "append", 2),  # weights, but no line
        (train, "save_state", 5),  # weights and line, but no state
        (train, "save_state", 4),  # in the middle of the second epoch
        (train.Trainer, "step", 8),
    ],
)
@pytest.mark.parametrize("after", [False, True])
def test_a_training_may_die_before_or_after_anything_it_writes(
    root: Path,
    unbroken: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    owner: object,
    name: str,
    call: int,
    after: bool,
) -> None:
    whole, calls = getattr(owner, name), []

    def dying(*given: object, **named: object) -> object:
        calls.append(name)
        if len(calls) == call and not after:
            raise Killed
        result = whole(*given, **named)
        if len(calls) == call:
            raise Killed
        return result

    config = training_config(**SHORT)
    with monkeypatch.context() as patched:
        patched.setattr(owner, name, dying)
        with pytest.raises(Killed):
            train.train(root, tmp_path, config)
    train.train(root, tmp_path, config, existing="resume")
    assert_same_training(tmp_path, unbroken)


def command(root: Path, output: Path, config: Path, *more: str) -> list[str]:
    return [sys.executable, "-m", "reid.train", "--config", str(config), "--root", str(root), "--output", str(output),
            *more]  # fmt: skip


def in_repository(**more: str) -> dict[str, object]:
    return {"cwd": REPOSITORY, "env": {**os.environ, "OMP_NUM_THREADS": "1", **more}}


def test_a_training_that_was_killed_leaves_the_losses_of_one_that_was_not(
    root: Path, unbroken: Path, tmp_path: Path
) -> None:
    path = tmp_path / "short.yaml"
    path.write_text(yaml.safe_dump(training_settings(**SHORT)))
    output = tmp_path / "run"
    process = subprocess.Popen(command(root, output, path), stderr=subprocess.DEVNULL, **in_repository())  # type: ignore[call-overload]
    while not (output / "state.pt").exists() and process.poll() is None:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    state = torch.load(output / "state.pt", weights_only=True)
    assert 0 < state["trainer"]["steps"] < 12
    with (output / "metrics.jsonl").open("a") as file:
        file.write('{"epoch": 1, "half a line')  # as if it had been killed in the middle of one
    done = subprocess.run(
        command(root, output, path, "--resume"), capture_output=True, text=True, check=False, **in_repository()
    )  # type: ignore[call-overload]
    assert done.returncode == 0, done.stderr
    assert f"going on after step {state['trainer']['steps']} of 12" in done.stderr
    assert_same_training(output, unbroken)


def test_sigterm_ends_a_training_after_the_step_with_a_state(root: Path, tmp_path: Path) -> None:
    path = tmp_path / "short.yaml"
    path.write_text(yaml.safe_dump(training_settings(**{**SHORT, "epochs": 10_000, "validate_every": 10_000})))
    output = tmp_path / "run"
    process = subprocess.Popen(command(root, output, path), stderr=subprocess.PIPE, text=True, **in_repository())  # type: ignore[call-overload]
    while not (output / "state.pt").exists() and process.poll() is None:
        time.sleep(0.01)
    process.terminate()
    _, said = process.communicate()
    assert process.returncode == 130, said
    assert "go on with the same command and --resume" in said
    steps = torch.load(output / "state.pt", weights_only=True)["trainer"]["steps"]
    assert f"stopped after step {steps} of 30000" in said
    assert len(lines_of(output)) in (steps // 3, steps // 3 - 1)  # an epoch's end may still be due


def test_a_finished_training_is_not_repeated_and_another_does_not_replace_it_unasked(
    root: Path, unbroken: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = training_config(**SHORT)
    before = (unbroken / "metrics.jsonl").read_bytes()
    with pytest.raises(ConfigError, match=r"holds a training already .*--resume, or replace it with --overwrite"):
        train.train(root, unbroken, config)
    results = train.train(root, unbroken, config, existing="resume")
    assert (unbroken / "metrics.jsonl").read_bytes() == before
    assert results["rgb->nir"].rank1 == lines_of(unbroken)[-1]["validation"]["rgb->nir"]["rank1"]


def test_a_finished_training_whose_state_was_deleted_loses_nothing(root: Path, unbroken: Path, tmp_path: Path) -> None:
    output, config = tmp_path / "run", training_config(**SHORT)
    shutil.copytree(unbroken, output)
    (output / "state.pt").unlink()
    before = {path.name: path.read_bytes() for path in output.iterdir() if path.is_file()}
    results = train.train(root, output, config, existing="resume")
    assert results["rgb->nir"].rank1 == lines_of(output)[-1]["validation"]["rgb->nir"]["rank1"]
    other = training_config(**{**SHORT, "seed": 2})
    with pytest.raises(StateError, match=r"result\.json: is of a training with other settings: seed: 1, now 2$"):
        train.train(root, output, other, existing="resume")
    with pytest.raises(StateError, match=r"result\.json: .* the lists of the training split have changed"):
        train.train(write_folder(tmp_path / "fewer", train=7), output, config, existing="resume")
    assert {path.name: path.read_bytes() for path in output.iterdir() if path.is_file()} == before


def test_weights_without_a_state_are_not_trained_over_unasked(root: Path, unbroken: Path, tmp_path: Path) -> None:
    config = training_config(**SHORT)
    (tmp_path / "checkpoint.safetensors").write_bytes((unbroken / "checkpoint.safetensors").read_bytes())
    with pytest.raises(StateError, match=r"holds checkpoint\.safetensors, but no state\.pt to go on from"):
        train.train(root, tmp_path, config, existing="resume")
    with pytest.raises(ConfigError, match="holds a training already"):
        train.train(root, tmp_path, config)
    for name in ("metrics.jsonl", "config.yaml"):  # four epochs of it, in which the state was lost
        (tmp_path / name).write_bytes((unbroken / name).read_bytes())
    with pytest.raises(StateError, match="no state"):
        train.train(root, tmp_path, config, existing="resume")
    assert weights_of(tmp_path).keys() == weights_of(unbroken).keys()


def test_a_training_killed_before_its_first_state_begins_again(
    root: Path, unbroken: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dying(*_: object) -> None:
        raise Killed

    config = training_config(**{**SHORT, "state": {"every_steps": None}})
    with monkeypatch.context() as patched:
        patched.setattr(train, "save_state", dying)
        with pytest.raises(Killed):
            train.train(root, tmp_path, config)
    assert (tmp_path / "checkpoint.safetensors").exists()
    train.train(root, tmp_path, config, existing="resume")
    assert_same_training(tmp_path, unbroken)


def test_a_training_does_not_go_on_with_other_settings_or_other_data(
    root: Path, unbroken: Path, tmp_path: Path
) -> None:
    other = training_config(**{**SHORT, "seed": 2, "log_every": 1})
    with pytest.raises(StateError, match=r"other settings: seed: 1, now 2$"):
        train.train(root, unbroken, other, existing="resume")
    fewer = write_folder(tmp_path / "fewer", train=7)
    with pytest.raises(StateError, match="the lists of the training split have changed"):
        train.train(fewer, unbroken, training_config(**SHORT), existing="resume")


def test_a_state_that_is_none_is_refused(root: Path, tmp_path: Path) -> None:
    (tmp_path / "state.pt").write_bytes(b"no state")
    with pytest.raises(StateError, match=r"state\.pt: not a training state that can be read"):
        train.train(root, tmp_path, training_config(**SHORT), existing="resume")
    torch.save({"format": "other"}, tmp_path / "state.pt")
    with pytest.raises(StateError, match="must be a training state of format 'xreid-training/1', got 'other'"):
        train.train(root, tmp_path, training_config(**SHORT), existing="resume")


def test_persons_may_be_held_out_of_the_training_split_for_validation(root: Path, tmp_path: Path) -> None:
    batch = {"identities": 2, "clips": 1, "frames": 2}
    validation = {"source": "held_out", "share": 0.5}
    config = training_config(**{**SHORT, "batch": batch, "epochs": 1, "validation": validation})
    results = train.train(root, tmp_path, config)
    assert results["nir->thermal"].valid_queries == 4
    result = json.loads((tmp_path / "result.json").read_text())
    assert result["data"]["persons"] == 4


@pytest.mark.parametrize("validation", [{"source": "none"}, {"split": "gone"}])
def test_a_training_may_have_no_validation(root: Path, tmp_path: Path, validation: dict[str, str]) -> None:
    config = training_config(**{**SHORT, "epochs": 1, "validation": validation})
    assert train.train(root, tmp_path, config) == {}
    assert "validation" not in lines_of(tmp_path)[0]
    card, _ = checkpoint.read(tmp_path / "checkpoint.safetensors")
    assert card.calibration is None


def test_a_validation_split_that_is_asked_for_must_be_there(root: Path, tmp_path: Path) -> None:
    config = training_config(**{**SHORT, "validation": {"source": "split", "split": "gone"}})
    with pytest.raises(DatasetError, match="no tracklet of split 'gone'; splits: train, val"):
        train.train(root, tmp_path, config)


def test_a_loss_that_is_no_number_ends_the_training_and_keeps_the_last_weights(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "short.yaml"
    path.write_text(yaml.safe_dump(training_settings(**SHORT)))
    arguments = ["--config", str(path), "--root", str(root), "--output", str(tmp_path / "run"), "--set", "threads=null"]
    assert train.main([*arguments, "--set", "optimiser.lr=1e38", "--set", "optimiser.clip_norm=null"]) == 1
    assert "a lower learning rate or clip_norm may help" in capsys.readouterr().err


def test_tensorboard_has_the_losses_where_it_is_installed(run: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    events = accumulator.EventAccumulator(str(run / "tensorboard")).Reload()
    assert {"loss/total", "loss/cpcl", "lr", "images_per_second", "validation/mAP/rgb->nir"} <= set(
        events.Tags()["scalars"]
    )
    assert [point.step for point in events.Scalars("lr")] == list(range(20, 181, 20))


def test_the_documented_fine_tuning_of_a_site_trains_on_an_export(tmp_path: Path) -> None:
    documented = (Path(__file__).parents[2] / "docs" / "datasets.md").read_text(encoding="utf-8")
    line = re.search(r"^python -m reid\.train (.*initial=xreid-tiny.*)$", documented.replace("\\\n", ""), re.MULTILINE)
    assert line
    root = VcmRoot(vcm_persons(*range(1, 9), frames=range(1, 4)), vcm_persons(11, 12, frames=range(1, 4)))
    places = {"site-data": root.write(tmp_path / "data"), "runs/site-model": tmp_path / "out"}
    words = [str(places.get(word, word)) for word in shlex.split(line[1])]
    assert train.main([*words, "--set", "epochs=1", "--set", "iterations=1", "--set", "tensorboard=false"]) == 0
    assert (tmp_path / "out" / "checkpoint.safetensors").is_file()
