"""Train the rows of a table of the paper and set what they reach beside what was published.

``python -m reid.reproduce --table 3 --dataset synthetic-vvi --root R --seeds 3 --size xreid-tiny --output DIR``

Each row is a preset of ``reid.presets`` (and, in the sweeps, one more switch) at one size, trained once a seed and
evaluated on the test split after its last epoch. ``DIR/runs/<row>-<digest>-seed<n>`` keeps the configuration, the log,
the losses, the weights, the figures and all commits (it was begun or gone on with) of one training; a training that is
finished there is not repeated, one that was interrupted goes on.
``DIR/table3.json`` and ``DIR/table3.md`` are written anew after every training. A training that
fails is told as failed, in the table too, and tried again by the next call.

Tables: ``main`` (Tab. 1 and 2), ``3``, ``4``, ``5``, ``fig4``, ``fig5``, and ``plus``, which is not in the paper: the
options beyond it, each alone and all together.
"""

import argparse
import fcntl
import hashlib
import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
import yaml

from reid import presets
from reid.ablations import DIRECTIONS, REAL_DATASETS, TABLES, Row, published, published_figures
from reid.comparison import as_markdown, summarise
from reid.datasets.known import DATASETS, Dataset, open_dataset
from reid.datasets.split import DatasetError
from reid.datasets.text import read_text
from reid.evaluate import disk_failed, parse_options
from reid.protocols import PROTOCOLS
from reid.provenance import commit, environment, manifest
from reid.training_config import ConfigError, TrainConfig, config_of

Call = Callable[[Sequence[str], Path], int]
SIZES = Path(__file__).resolve().parents[1] / "configs" / "reid" / "sizes"


class ReproduceError(ValueError):
    """A table that cannot be trained as asked."""


@dataclass(frozen=True)
class Size:
    """What one file of ``configs/reid/sizes`` says: the common base of all rows.

    Attributes:
        name: Of the file.
        why: What differs from the paper, and why.
        changes: Settings by dotted key, in place of the paper's; a row's own switches win over them.
        encoder: Weights that every row begins with, beside the file; None takes the preset's.
    """

    name: str
    why: str
    changes: Mapping[str, Any]
    encoder: Path | None


def read_size(name_or_path: str) -> Size:
    """A size by the name of its file in ``configs/reid/sizes``, or by a path.

    Raises:
        ReproduceError: When there is none, or it is not as it should be.
    """
    given = Path(name_or_path)
    path = given if given.suffix in (".yaml", ".yml") else SIZES / f"{name_or_path.replace('-', '_')}.yaml"
    if not path.is_file():
        known = ", ".join(sorted(each.stem.replace("_", "-") for each in SIZES.glob("*.yaml")))
        raise ReproduceError(f"--size {name_or_path}: no such size or file; sizes: {known}")
    try:
        data = yaml.safe_load(read_text(path))
    except DatasetError as error:
        raise ReproduceError(str(error)) from error
    except yaml.YAMLError as error:
        raise ReproduceError(f"{path}: {error}") from error
    if not isinstance(data, dict) or not {"why"} <= set(data) <= {"why", "changes", "encoder"}:
        raise ReproduceError(f"{path}: must be a mapping of why, changes and, where it has one, encoder")
    changes, named = data.get("changes") or {}, data.get("encoder")
    if not (isinstance(changes, dict) and all(isinstance(key, str) for key in changes)):
        raise ReproduceError(f"{path}: changes: must be a mapping by dotted key, got {changes!r}")
    if not isinstance(named, str | None):
        raise ReproduceError(f"{path}: encoder: must be the name of a file, got {named!r}")
    encoder = path.parent / named if named else None
    if encoder and not encoder.is_file():
        raise ReproduceError(f"{path}: encoder: {encoder} is no file")
    return Size(path.stem.replace("_", "-"), str(data["why"]), changes, encoder)


@dataclass(frozen=True)
class Request:
    """What was asked for.

    Attributes:
        table: A key of ``TABLES``.
        dataset: A name of ``reid.datasets.known``.
        root: Its folder.
        options: Of the data set.
        seeds: The seeds to train each row with.
        size: The common base.
        output: Where runs and tables go.
        protocol: Of the evaluation, a key of ``reid.protocols.PROTOCOLS``.
        split: To evaluate on. ``val``, with an option of the data set that holds persons of the training split out, is
            what settings may be tuned on.
        changes: ``key=value`` for all rows.
    """

    table: str
    dataset: str
    root: Path
    options: Mapping[str, Any]
    seeds: tuple[int, ...]
    size: Size
    output: Path
    protocol: str = "weights"
    split: str = "test"
    changes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Run:
    """One training: a row with a seed."""

    row: Row
    seed: int
    config: TrainConfig
    digest: str
    folder: Path


def config_for(request: Request, row: Row, seed: int) -> TrainConfig:
    """The paper's training, then the size, then the preset's switches, then the row's, then ``--set``.

    Raises:
        ConfigError: When they do not fit together.
    """
    data = presets.as_data("paper")
    validation = {"source": "none"} if "val" not in _splits(request) else {"source": "auto"}
    base = {
        "data": {"name": request.dataset, "options": dict(request.options)},
        "validation": validation,
        "training_data": f"the training split of {request.dataset}",
        "licence": f"that of {request.dataset}",
    }
    for changes in (base, request.size.changes, presets.PRESETS[row.preset].changes, row.changes):
        for key, value in changes.items():
            presets.assign(data, key, deepcopy(value))  # a row's switches must not reach into the size of the next
    data["name"] = f"{request.size.name}-{_slug(row)}"
    data["seed"] = seed
    if request.size.encoder:
        data["pretrained"] = str(request.size.encoder)
    return config_of(data, request.changes, where=f"{request.size.name}, {row.label}")


def _splits(request: Request) -> tuple[str, ...]:
    return open_dataset(request.dataset, request.root, request.options).splits


def _slug(row: Row) -> str:
    extra = "".join(f"-{key.rsplit('.', 1)[-1]}-{value}" for key, value in row.changes.items())
    text = f"{row.preset}{extra}".lower().replace("_", "-")
    return "".join(each if each.isalnum() or each == "-" else "-" for each in text)[:60]


def runs_of(request: Request, data: Mapping[str, Any]) -> list[Run]:
    """All trainings of a table, seed by seed, so that an interrupted table has whole seeds.

    Their digests are of everything that decides the result: configuration, first weights, data and protocol.
    """
    runs = []
    for seed in request.seeds:
        for row in TABLES[request.table].rows:
            config = config_for(request, row, seed)
            plain = _committable(config, request.size)
            for free in ("name", "threads", "training_data", "licence"):
                plain.pop(free)
            decides = json.dumps([plain, data, request.protocol, request.split], sort_keys=True)
            digest = hashlib.sha256(decides.encode()).hexdigest()[:10]
            runs.append(Run(row, seed, config, digest, request.output / "runs" / f"{_slug(row)}-{digest}-seed{seed}"))
    return runs


def _committable(config: TrainConfig, size: Size) -> dict[str, Any]:
    """The configuration without paths of this machine: first weights by name and digest."""
    plain = config.model_dump(mode="json")
    if size.encoder and plain["pretrained"] == str(size.encoder):
        plain["pretrained"] = f"{size.encoder.name}@sha256:{_sha256(size.encoder)}"
    return plain


@cache
def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def perform(run: Run, request: Request, call: Call) -> None:
    """Train and evaluate, unless that is done; leave ``evaluation.json`` or ``failed.json`` in the run's folder."""
    if (run.folder / "evaluation.json").is_file():
        return
    run.folder.mkdir(parents=True, exist_ok=True)
    with _locked(run.folder) as free:
        if not free:
            _tell(f"{run.folder.name}: another process is at it")
            return
        (run.folder / "failed.json").unlink(missing_ok=True)
        config = run.folder / "row.yaml"
        config.write_text(yaml.safe_dump(run.config.model_dump(mode="json"), sort_keys=False), encoding="utf-8")
        _note_commit(run)
        began = time.monotonic()
        for step, arguments in _steps(run, request, config):
            code = call(arguments, run.folder / "log.txt")
            if code:
                _fail(run, request, step, code)
                return
        _write_json(run.folder / "seconds.json", {"seconds": round(time.monotonic() - began, 1)})
        (run.folder / "evaluation.part.json").replace(run.folder / "evaluation.json")


def _note_commit(run: Run) -> None:
    """Add the commit of the code behind those that this run was begun and gone on with."""
    path, now = run.folder / "commit.txt", commit() or "unknown"
    if now.endswith("-dirty"):
        _tell(f"WARNING: uncommitted changes: {run.folder.name} is made with code that no commit has ({now})")
    if _commits(path)[-1:] != [now]:
        with path.open("a", encoding="utf-8") as file:
            file.write(f"{now}\n")


def _commits(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").split() if path.exists() else []


def _steps(run: Run, request: Request, config: Path) -> list[tuple[str, list[str]]]:
    weights = run.folder / "checkpoint.safetensors"
    training = ["reid.train", "--config", str(config), "--root", str(request.root), "--output", str(run.folder)]
    training += ["--resume"]
    evaluation = ["reid.evaluate", "--weights", str(weights), "--dataset", request.dataset, "--root", str(request.root)]
    evaluation += ["--split", request.split, "--protocol", request.protocol]
    evaluation += [
        part for key, value in request.options.items() for part in ("--option", f"{key}={json.dumps(value)}")
    ]
    evaluation += ["--json", str(run.folder / "evaluation.part.json")]
    return [("training", training), ("evaluation", evaluation)]


def in_process_of_its_own(arguments: Sequence[str], log: Path) -> int:
    """Run a module of this project so that its end is not ours; its words go to the log; returns its exit code."""
    with log.open("a", encoding="utf-8") as file:
        file.write(f"$ python -m {shlex.join(arguments)}\n")
        file.flush()
        done = subprocess.run(  # noqa: S603 - our own modules
            [sys.executable, "-m", *arguments], stdout=file, stderr=subprocess.STDOUT, check=False
        )
    return done.returncode


def _fail(run: Run, request: Request, step: str, code: int) -> None:
    lines = [line for line in (run.folder / "log.txt").read_text(encoding="utf-8").splitlines() if line.strip()]
    last = lines[-1][:300] if lines else "no word"
    last = last.replace(str(run.folder), "RUN").replace(str(request.root), "R")
    if last.startswith("$ "):
        last = "it was killed" if code < 0 else "no word"
    _write_json(run.folder / "failed.json", {"step": step, "exit_code": code, "last_line": last})
    _tell(f"{run.folder.name}: {step} failed with {code}: {last}")


@contextmanager
def _locked(folder: Path) -> Iterator[bool]:
    """Whether the folder is ours alone while the block runs; the lock ends with the process, however that ends."""
    with (folder / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True


def result_of(run: Run, size: Size) -> dict[str, Any]:
    """What a run's folder tells, as JSON can hold it, without paths of this machine."""
    record: dict[str, Any] = {
        "row": run.row.label,
        "preset": run.row.preset,
        "switches": dict(run.row.changes),
        "seed": run.seed,
        "run": run.folder.name,
        "status": "not yet trained",
    }
    if (run.folder / "failed.json").is_file():
        return record | {"status": "failed", "failure": _read_json(run.folder / "failed.json")}
    if not (run.folder / "evaluation.json").is_file():
        return record
    evaluation = _read_json(run.folder / "evaluation.json")
    lines = (run.folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return record | {
        "status": "finished",
        "commits": _commits(run.folder / "commit.txt"),
        **_read_json(run.folder / "seconds.json"),
        "model": evaluation["model"],
        "protocol": evaluation["protocol"],
        "figures": evaluation["directions"],
        "config": _committable(run.config, size),
        "log": [_rounded(json.loads(line)) for line in lines],
    }


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.5g}")
    if isinstance(value, dict):
        return {key: _rounded(each) for key, each in value.items()}
    return [_rounded(each) for each in value] if isinstance(value, list) else value


def _write_json(path: Path, record: object) -> None:
    _write(path, json.dumps(record, indent=1) + "\n")


def _write(path: Path, text: str) -> None:
    """Whole or not at all."""
    part = path.with_name(f".{path.name}.{os.getpid()}")
    part.write_text(text, encoding="utf-8")
    part.replace(path)


def _read_json(path: Path) -> dict[str, Any]:
    record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return record


def _tell(sentence: str) -> None:
    sys.stderr.write(f"{time.strftime('%H:%M:%S')} {sentence}\n")


def _real_datasets(request: Request) -> tuple[str, ...]:
    own = request.dataset.replace("-", "_")
    return (own,) if own in REAL_DATASETS else tuple(REAL_DATASETS)


def as_record(request: Request, data: Mapping[str, Any], results: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The whole table as JSON can hold it."""
    table = TABLES[request.table]
    rows = summarise(table, results)
    for row in rows:
        row["published"] = {
            name: figures for name in _real_datasets(request) if (figures := published_figures(table, row["row"], name))
        }
    return {
        "table": request.table,
        "command": shlex.join(_command(request)),
        "environment": environment(torch.device("cuda" if torch.cuda.is_available() else "cpu")),
        "source": published()["source"],
        "dataset": request.dataset,
        "split": request.split,
        "synthetic": request.dataset.replace("-", "_") == "synthetic_vvi",
        "data": dict(data),
        "size": {"name": request.size.name, "why": request.size.why, "changes": dict(request.size.changes)},
        "rows": rows,
        "runs": list(results),
    }


def _command(request: Request) -> list[str]:
    seeds = [str(seed) for seed in request.seeds]
    words = ["python", "-m", "reid.reproduce", "--table", request.table, "--dataset", request.dataset, "--root", "R"]
    words += ["--seeds", ",".join(seeds), "--size", request.size.name, "--output", "DIR"]
    words += [] if request.protocol == "weights" else ["--protocol", request.protocol]
    words += [] if request.split == "test" else ["--split", request.split]
    words += [part for key, value in request.options.items() for part in ("--option", f"{key}={json.dumps(value)}")]
    return words + [part for change in request.changes for part in ("--set", change)]


def reproduce(request: Request, *, call: Call = in_process_of_its_own) -> dict[str, Any]:
    """Train what is missing of a table, writing it after each training, and return its record.

    Args:
        request: What was asked for.
        call: Runs ``python -m ARGUMENTS``, appends what it says to a file, and returns its exit code.

    Raises:
        ConfigError: When a row and the size do not fit together: before anything is trained.
        DatasetError: When the data set cannot be used.
    """
    dataset = open_dataset(request.dataset, request.root, request.options)
    data = {name: manifest(dataset.split(name), request.root) for name in ("train", request.split)}
    _check_directions(dataset, request.split)
    runs = runs_of(request, data)
    request.output.mkdir(parents=True, exist_ok=True)
    record = _write_tables(request, data, runs)
    for number, run in enumerate(runs, start=1):
        if not (run.folder / "evaluation.json").is_file():
            _tell(f"{number} of {len(runs)}: {run.row.label}, seed {run.seed} ({run.folder.name})")
            perform(run, request, call)
            record = _write_tables(request, data, runs)
    return record


def _check_directions(dataset: Dataset, split: str) -> None:
    missing = set(DIRECTIONS.values()) - set(dataset.directions(split))
    if missing:
        raise DatasetError(f"{dataset.root}: the split {split} has no direction {', '.join(sorted(missing))}")


def _write_tables(request: Request, data: Mapping[str, Any], runs: Sequence[Run]) -> dict[str, Any]:
    record = as_record(request, data, [result_of(run, request.size) for run in runs])
    stem = f"table{request.table}" if request.table.isdecimal() else f"table_{request.table}"
    _write_json(request.output / f"{stem}.json", record)
    _write(request.output / f"{stem}.md", as_markdown(record))
    return record


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m reid.reproduce", description="Train the rows of a table; set ours beside what was published."
    )
    parser.add_argument("--table", required=True, choices=TABLES)
    parser.add_argument("--dataset", required=True, help=f"one of {', '.join(DATASETS)}")
    parser.add_argument("--root", required=True, type=Path, help="its folder")
    parser.add_argument("--option", action="append", default=[], metavar="KEY=VALUE", help="of the data set")
    parser.add_argument("--seeds", default="3", metavar="N|A,B,..", help="that many seeds (1, 2, ...), or these")
    parser.add_argument(
        "--size", default="vit-b-16", help="a file of configs/reid/sizes, such as xreid-tiny, or a path"
    )
    parser.add_argument("--output", type=Path, default=Path("runs/reproduce"), help="default: runs/reproduce")
    parser.add_argument("--split", default="test", help="to evaluate on; tune on val, with --option val_identities=N")
    parser.add_argument("--protocol", default="weights", choices=PROTOCOLS, help="of the evaluation")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="change all rows")
    return parser


def _seeds(text: str) -> tuple[int, ...]:
    parts = text.split(",")
    if not all(part.strip().isdecimal() for part in parts):
        raise ReproduceError(f"--seeds {text}: expected a number of seeds, or seeds such as 1,2,3")
    numbers = tuple(int(part) for part in parts)
    if len(numbers) > 1:
        return tuple(dict.fromkeys(numbers))
    if not numbers[0]:
        raise ReproduceError("--seeds 0: at least one seed is needed")
    return tuple(range(1, numbers[0] + 1))


def main(arguments: list[str] | None = None) -> int:
    """Run the command: 0 when every row is finished, 1 when one failed, 2 when it cannot be asked, 5 for the disk."""
    options = _parser().parse_args(arguments)
    try:
        request = Request(
            table=options.table,
            dataset=options.dataset,
            root=options.root,
            options=parse_options(options.option),
            seeds=_seeds(options.seeds),
            size=read_size(options.size),
            output=options.output,
            protocol=options.protocol,
            split=options.split,
            changes=tuple(options.set),
        )
        record = reproduce(request)
    except (ConfigError, DatasetError, ReproduceError) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    except OSError as error:
        return disk_failed(error)
    sys.stdout.write(as_markdown(record))
    return int(any(run["status"] != "finished" for run in record["runs"]))


if __name__ == "__main__":
    raise SystemExit(main())
