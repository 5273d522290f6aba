"""Train X-ReID: ``python -m reid.train --config configs/reid/xreid_tiny.yaml --root DATA [--set key=value]``.

``--preset paper`` in place of ``--config`` takes a training of ``reid.presets``; ``--dataset`` names the data set.
``torchrun --nproc-per-node 4 -m reid.train ...`` trains in several processes, which give the result of one.

The output folder receives ``checkpoint.safetensors`` (replaced after each epoch; the last epoch is the result),
``metrics.jsonl`` (one line an epoch), ``config.yaml``, ``state.pt`` (to go on from with ``--resume``), ``tensorboard/``
and, at the end, ``result.json``. Validation never chooses an epoch; its identities give the calibration.

A training that was killed at any moment goes on from its last state, and its losses and weights are then, on a CPU and
with as many threads, bit for bit those of one that was not: batches and augmentation are functions of the number of the
step, and the state has all that moves. SIGINT and SIGTERM end a training after the step, with a state, exit code 130.
"""

import argparse
import json
import logging
import math
import shlex
import shutil
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import yaml

from reid import checkpoint, presets
from reid.datasets.attributes import read_attributes
from reid.datasets.known import DATASETS, Dataset, open_dataset
from reid.datasets.split import DatasetError, Direction, TrackletSplit, every_direction, hold_out
from reid.distributed import DeviceError, Processes, any_of, from_first, joined, mean_of_all, wait_for_all
from reid.evaluate import (
    Clipped,
    Results,
    as_plain,
    as_table,
    disk_failed,
    embed_split,
    evaluate_directions,
    fit_calibration,
    metrics_of,
    parse_options,
)
from reid.loading import Batch, TrainingData, ahead, open_clips
from reid.models.encoder import EncoderWeightsError
from reid.progress import Board, Progress
from reid.provenance import environment, manifest
from reid.trainer import Trainer
from reid.training_config import ConfigError, TrainConfig, config_of, differences, read_data
from reid.training_state import Interrupted, MetricsLog, StateError, StopSignal, load_state, save_state

_LOG = logging.getLogger(__name__)
_WEIGHTS = "checkpoint.safetensors"
_OURS = ("state.pt", "metrics.jsonl", _WEIGHTS, "config.yaml", "result.json", "tensorboard")

_REFUSED = (ConfigError, DatasetError, DeviceError, EncoderWeightsError, checkpoint.CheckpointError, StateError)

Existing = Literal["refuse", "resume", "overwrite"]


@dataclass(frozen=True, slots=True, eq=False)
class Validation:
    """Whom a training looks at, and who is looked for among whom."""

    split: TrackletSplit
    clips: Clipped
    directions: dict[str, Direction]
    dataset: Dataset


@dataclass(frozen=True, slots=True, eq=False)
class Splits:
    """The training split, and the validation split where there is one."""

    train: TrackletSplit
    validation: TrackletSplit | None
    directions: dict[str, Direction]


def read_splits(dataset: Dataset, config: TrainConfig) -> Splits:
    """The splits of a data set that a training uses.

    Raises:
        DatasetError: When there are no such splits, or a person is in both.
    """
    training, wanted = dataset.split(config.data.split), config.validation
    if wanted.source == "none" or (wanted.source == "auto" and wanted.split not in dataset.splits):
        return Splits(training, None, {})
    if wanted.source == "held_out":
        persons = len(set(training.pids.tolist()))
        training, held = hold_out(training, max(1, round(wanted.share * persons)))
        return Splits(training, held, every_direction(held))
    held = dataset.split(wanted.split)
    shared = set(training.pids.tolist()) & set(held.pids.tolist())
    if shared:
        raise DatasetError(
            f"{dataset.root}: {len(shared)} persons are in both splits, {config.data.split!r} and {wanted.split!r}, "
            f"such as {min(shared)}"
        )
    return Splits(training, held, dataset.directions(wanted.split))


def train(
    root: Path, output: Path, config: TrainConfig, *, existing: Existing = "refuse", command: str = ""
) -> Results:
    """Train, write ``output``, and return the figures of the last epoch on the validation split, if there is one.

    Args:
        root: The data set's folder.
        output: Where to write.
        config: What to do.
        existing: What to do with a training that is in ``output`` already; ``resume`` also begins one that is not.
        command: For the record.

    Raises:
        ConfigError: When the configuration does not fit the machine, or there is a training already.
        DatasetError: When the data cannot be used.
        StateError: When the training cannot go on from what is there.
        Interrupted: When SIGINT or SIGTERM came; the state is written.
        FloatingPointError: When the loss is no number any more.
    """
    if config.threads:
        torch.set_num_threads(config.threads)
    with joined(config.device) as processes, StopSignal() as stop:
        if not processes.is_first:
            logging.getLogger().setLevel(logging.WARNING)
        dataset = open_dataset(config.data.name, root, config.data.options)
        splits = read_splits(dataset, config)
        _LOG.info("training: %s; validation: %s", splits.train, splits.validation or "none")
        about = {"name": config.data.name, **manifest(splits.train, root)}
        ended = from_first(_ended(output, config, about) if processes.is_first and existing == "resume" else None)
        if ended is not None:
            return ended
        state = from_first(_prepare_folder(output, config, existing) if processes.is_first else None)
        data, validation = _open(dataset, splits, config, processes)
        made_with = {
            "config_sha256": config.digest(),
            "processes": processes.world,
            "environment": environment(processes.device),
            "data": about,
        }
        run = Run(Trainer(config, data, processes), validation, output, made_with)
        if state:
            run.go_on(state)
        results = run.go(stop)
        if processes.is_first:
            run.write_result(command)
        return results


def _ended(output: Path, config: TrainConfig, data: Mapping[str, Any]) -> Results | None:
    """The figures of a training that came to its end and whose state was deleted since; None where there is none."""
    path = output / "result.json"
    if (output / "state.pt").exists() or not path.exists():
        return None
    try:
        result = json.loads(path.read_text(encoding="utf-8"))
        before, lists, epochs = result["config"], result["data"]["sha256"], list(result["epochs"])
        changed = differences(before, config.model_dump(mode="json"))
        results = _last_results(epochs)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise StateError(f"{path}: not the result of a training: {error!r}; replace it with --overwrite") from error
    if changed:
        raise StateError(f"{path}: is of a training with other settings: " + "; ".join(changed))
    if lists != data["sha256"]:
        raise StateError(f"{path}: is of a training on other data: the lists of the training split have changed")
    _LOG.info("%s: is of a training that came to its end; nothing is left to do", path)
    return results


def _was_killed_in_its_first_epoch(output: Path, config: TrainConfig) -> bool:
    """Whether weights without a state are those of this training's first epoch, which gives the same ones again."""
    log, settings = output / "metrics.jsonl", output / "config.yaml"
    if not (log.exists() and settings.exists()) or len(log.read_bytes().splitlines()) > 1:
        return False
    before = yaml.safe_load(settings.read_text(encoding="utf-8"))
    return isinstance(before, dict) and not differences(before, config.model_dump(mode="json"))


def _prepare_folder(output: Path, config: TrainConfig, existing: Existing) -> dict[str, Any] | None:
    """The state to go on from, if any; the folder is made, and what is to be overwritten removed."""
    path = output / "state.pt"
    state = load_state(path) if existing == "resume" and path.exists() else None
    there = [name for name in ("state.pt", "metrics.jsonl", "result.json", _WEIGHTS) if (output / name).exists()]
    if state:
        changed = differences(json.loads(state["config"]), config.model_dump(mode="json"))
        if changed:
            raise StateError(f"{path}: is of a training with other settings: " + "; ".join(changed))
    elif there and existing == "refuse":
        raise ConfigError(
            f"{output}: holds a training already ({there[0]}); go on with --resume, or replace it with --overwrite"
        )
    elif existing == "resume" and _WEIGHTS in there and not _was_killed_in_its_first_epoch(output, config):
        raise StateError(
            f"{output}: holds {_WEIGHTS}, but no state.pt to go on from; keep them elsewhere, or replace them with"
            " --overwrite"
        )
    output.mkdir(parents=True, exist_ok=True)
    for old in [] if state else [output / name for name in _OURS]:
        shutil.rmtree(old) if old.is_dir() else old.unlink(missing_ok=True)
    text = yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)
    (output / "config.yaml").write_text(text, encoding="utf-8")
    return state


def _open(
    dataset: Dataset, splits: Splits, config: TrainConfig, processes: Processes
) -> tuple[TrainingData, Validation | None]:
    """The crops; what is packed is packed by the first process of each machine while the others wait."""

    def of(split: TrackletSplit) -> Clipped:
        return open_clips(split, config.preprocessing, config.loader, cache=dataset.root / "cache")

    def both() -> tuple[Clipped, Clipped | None]:
        # Validation is of the first process alone.
        return of(splits.train), of(splits.validation) if splits.validation and processes.is_first else None

    found = both() if processes.local_rank == 0 else None
    wait_for_all()
    clips, held = found or both()
    attributes = None
    if config.loss.attributes:
        attributes = read_attributes(dataset.root, config.data.split, np.unique(splits.train.pids))
    data = TrainingData(splits.train, clips, config, attributes=attributes, rank=processes.rank, world=processes.world)
    if splits.validation is None or held is None:
        return data, None
    return data, Validation(splits.validation, held, splits.directions, dataset)


class Run:
    """A training from its first step, or from a state, to its last.

    Args:
        trainer: What learns.
        validation: Whom to look at; only the first process has them.
        output: The folder.
        made_with: For the record.
    """

    def __init__(
        self, trainer: Trainer, validation: Validation | None, output: Path, made_with: Mapping[str, Any]
    ) -> None:
        self.trainer, self.config, self.data = trainer, trainer.config, trainer.data
        self._validation, self._output, self._made_with = validation, output, made_with
        self._is_first = trainer.processes.is_first
        self._sums: dict[str, float] = {}  # of the running epoch
        self._epoch_images, self._epoch_seconds, self._seconds = 0, 0.0, 0.0
        self._saved = time.monotonic()
        self._log: MetricsLog | None = None
        self._board = Board(None)
        self._results: Results = {}
        _LOG.info("%.2f M parameters", sum(p.numel() for p in trainer.model.parameters()) / 1e6)

    def go_on(self, state: Mapping[str, Any]) -> None:
        """Take everything up where a state left it.

        Raises:
            StateError: When it does not fit.
        """
        path = self._output / "state.pt"
        if state["data"] != self._made_with["data"]["sha256"]:
            raise StateError(f"{path}: is of a training on other data: the lists of the training split have changed")
        if state["threads"] != torch.get_num_threads() or state["processes"] != self.trainer.processes.world:
            _LOG.warning("the state was written with other threads or processes: losses will differ in their last bits")
        try:
            self.trainer.load_state(state["trainer"])
        except (RuntimeError, ValueError, KeyError) as error:
            raise StateError(f"{path}: does not fit the model: {str(error).splitlines()[0]}") from error
        self._sums = dict(state["sums"])
        self._epoch_images, self._epoch_seconds = state["epoch_images"], state["epoch_seconds"]
        self._seconds = state["seconds"]
        if self._is_first:
            self._log = MetricsLog(self._output / "metrics.jsonl", size=state["metrics_bytes"])
            self._results = _last_results(self._log.read())
        _LOG.info("going on after step %d of %d", self.trainer.steps, self.config.steps)

    def go(self, stop: StopSignal) -> Results:
        """All steps that are left.

        Raises:
            Interrupted: When it was told to stop.
            FloatingPointError: When the loss is no number any more.
        """
        if self._is_first and self._log is None:
            self._log = MetricsLog(self._output / "metrics.jsonl")
        if self._is_first and self.config.tensorboard:
            self._board = Board(self._output / "tensorboard", after=self.trainer.steps)
        if self._epoch_is_over():
            self._end_epoch()
        first = self.trainer.steps
        pin = self.trainer.device.type == "cuda"
        batches = ahead(self.data.parts, range(first, self.config.steps), self.config.loader, pin=pin)
        with Progress(first, self.config.steps, quiet=not self._is_first) as progress, self._board:
            while self.trainer.steps < self.config.steps:
                loss = self._step(batches)
                self._heed(loss, stop)
                progress.step(loss)
                if self._epoch_is_over():
                    self._end_epoch()
                elif self._is_due():
                    self._save()
        return self._results

    def _epoch_is_over(self) -> bool:
        return bool(self._sums) and self.trainer.steps % self.config.iterations == 0

    def _step(self, batches: Iterator[list[Batch]]) -> float:
        trainer, config = self.trainer, self.config
        began = time.monotonic()
        if not self._sums and (trainer.steps == 0 or config.memories == "every_epoch"):
            trainer.fill_memories()
        parts = next(batches)
        rate = trainer.rate(trainer.steps)
        losses = mean_of_all(trainer.step(parts), trainer.device)
        for name, value in losses.items():
            self._sums[name] = self._sums.get(name, 0.0) + value / config.iterations
        images = trainer.processes.world * sum(len(part.pixels) for part in parts)
        spent = time.monotonic() - began
        self._epoch_images += images
        self._epoch_seconds += spent
        self._seconds += spent
        if trainer.steps % config.log_every == 0:
            scalars = {f"loss/{name}": value for name, value in losses.items()}
            self._board.write({**scalars, "lr": rate, "images_per_second": images / spent}, trainer.steps)
        return losses["total"]

    def _heed(self, loss: float, stop: StopSignal) -> None:
        """End when the loss is no number, or somebody asked, in any of the processes."""
        bad, asked = any_of([not math.isfinite(loss), stop.asked], self.trainer.device)
        if bad:
            raise FloatingPointError(
                f"step {self.trainer.steps}: the loss is {loss}; a lower learning rate or clip_norm may help"
            )
        if asked:
            self._save()
            raise Interrupted(f"stopped after step {self.trainer.steps} of {self.config.steps}")

    def _is_due(self) -> bool:
        settings = self.config.state
        by_steps = settings.every_steps is not None and self.trainer.steps % settings.every_steps == 0
        return by_steps or (
            settings.every_seconds is not None and time.monotonic() - self._saved >= settings.every_seconds
        )

    def _save(self) -> None:
        if self._log is not None:
            save_state(
                self._output / "state.pt",
                {
                    "config": self.config.model_dump_json(),
                    "data": self._made_with["data"]["sha256"],
                    "threads": torch.get_num_threads(),
                    "processes": self.trainer.processes.world,
                    "trainer": self.trainer.state(),
                    "sums": self._sums,
                    "epoch_images": self._epoch_images,
                    "epoch_seconds": self._epoch_seconds,
                    "seconds": self._seconds,
                    "metrics_bytes": self._log.size,
                },
            )
        self._saved = time.monotonic()

    def _end_epoch(self) -> None:
        """Look at the validation split, write the weights, then the line, then the state."""
        config, trainer, began = self.config, self.trainer, time.monotonic()
        epoch = trainer.steps // config.iterations
        record: dict[str, Any] = {
            "epoch": epoch,
            "seconds": round(self._seconds, 1),
            "lr": trainer.rate(trainer.steps - 1),
            "images_per_second": round(self._epoch_images / self._epoch_seconds, 2),
            "loss": self._sums,
        }
        training = {"epoch": epoch, "steps": trainer.steps, "seed": config.seed, **self._made_with}
        calibration = None
        if epoch == config.epochs or epoch % config.validate_every == 0:
            trainer.set_centres()
            if self._validation is not None:
                calibration = self._validate(self._validation, record)
        if self._log is not None:
            card = checkpoint.Card(
                name=config.name,
                model=config.model,
                preprocessing=config.preprocessing,
                training_data=config.training_data,
                licence=config.licence,
                cameras=trainer.camera_names,
                calibration=calibration,
                training=training,
            )
            checkpoint.save(self._output / _WEIGHTS, trainer.model, card, half=config.half_on_disk)
            self._log.append(record)
        parts = ", ".join(f"{name} {value:.3f}" for name, value in self._sums.items())
        _LOG.info("epoch %d/%d, %.0f s: %s", epoch, config.epochs, self._seconds, parts)
        self._sums, self._epoch_images, self._epoch_seconds = {}, 0, 0.0
        self._seconds += time.monotonic() - began
        self._save()
        wait_for_all()

    def _validate(self, validation: Validation, record: dict[str, Any]) -> dict[str, Any]:
        features = embed_split(self.trainer.extractor(), validation.clips, validation.split)
        self._results = evaluate_directions(
            features, validation.split, directions=validation.directions, camera_rule=validation.dataset.camera_rule
        )
        record["validation"] = as_plain(self._results)
        scalars = {
            f"validation/{name}/{direction}": figures[name]
            for direction, figures in record["validation"].items()
            for name in ("rank1", "mAP")
            if figures[name] is not None
        }
        self._board.write(scalars, self.trainer.steps)
        _LOG.info("epoch %d, validation:\n%s", record["epoch"], as_table(self._results))
        return fit_calibration(features, validation.split).to_dict()

    def write_result(self, command: str) -> None:
        """Gather what a finished training left into ``result.json``."""
        result = {
            "command": command,
            **self._made_with,
            "config": self.config.model_dump(mode="json"),
            "seconds": round(self._seconds, 1),
            "epochs": self._log.read() if self._log else [],
        }
        temporary = self._output / ".result.json"
        temporary.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
        temporary.replace(self._output / "result.json")


def _last_results(lines: Sequence[Mapping[str, Any]]) -> Results:
    """Of the last line, where it has figures."""
    found = lines[-1].get("validation", {}) if lines else {}
    return {direction: metrics_of(figures) for direction, figures in found.items()}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m reid.train", description="Train X-ReID.")
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--config", type=Path, help="a YAML file, such as configs/reid/xreid_tiny.yaml")
    which.add_argument("--preset", choices=presets.PRESETS, help="the paper's training, or a row of its tables")
    parser.add_argument("--root", required=True, type=Path, help="the data set's folder")
    parser.add_argument("--dataset", help=f"of {', '.join(DATASETS)}; as data.name in the configuration")
    parser.add_argument(
        "--option", action="append", default=[], metavar="KEY=VALUE", help="of the data set, such as min_frames=12"
    )
    parser.add_argument("--output", type=Path, help="folder for everything that is written; default: runs/<name>")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="change the configuration")
    there = parser.add_mutually_exclusive_group()
    there.add_argument("--resume", action="store_true", help="go on with the training in the output folder, if any")
    there.add_argument("--overwrite", action="store_true", help="replace the training in the output folder, if any")
    return parser


def _config_of(options: argparse.Namespace) -> TrainConfig:
    data = presets.as_data(options.preset) if options.preset else read_data(options.config)
    where = f"preset {options.preset}" if options.preset else str(options.config)
    changes = list(options.set)
    if options.dataset:
        changes.append(f"data.name={options.dataset}")
    changes += [
        f"data.options.{key}={json.dumps(value, default=str)}" for key, value in parse_options(options.option).items()
    ]
    return config_of(data, changes, where=where)


def main(arguments: list[str] | None = None) -> int:
    """Run the command; see the module's docstring."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    command = shlex.join(["python", "-m", "reid.train", *(sys.argv[1:] if arguments is None else arguments)])
    existing: Existing = "resume" if options.resume else "overwrite" if options.overwrite else "refuse"
    try:
        config = _config_of(options)
        output = options.output or Path("runs") / config.name
        results = train(options.root, output, config, existing=existing, command=command)
    except _REFUSED as error:
        sys.stderr.write(f"{error}\n")
        return 2
    except OSError as error:
        return disk_failed(error)
    except Interrupted as error:
        sys.stderr.write(f"{error}; go on with the same command and --resume\n")
        return 130
    except (FloatingPointError, torch.OutOfMemoryError) as error:
        hint = "; batch.accumulate and model.encoder.checkpointing need less memory"
        sys.stderr.write(f"{error}{hint if isinstance(error, torch.OutOfMemoryError) else ''}\n")
        return 1
    if results:
        sys.stdout.write(f"validation, last epoch:\n{as_table(results)}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
