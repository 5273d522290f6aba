"""The rows of a table, trained at the smallest size on hand-made data: what is kept, resumed, repeated and told."""

import contextlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from reid import evaluate, reproduce, train
from reid.ablations import TABLES
from reid.reproduce import ReproduceError, Request, config_for, in_process_of_its_own, read_size, runs_of
from tests.reid.factories import encoder_config
from tests.reid.layouts import VcmRoot, vcm_persons

SIZE = {
    "why": "seconds.",
    "changes": {
        "model.encoder": encoder_config().model_dump(mode="json", exclude={"freeze_patch_projection"}),
        "preprocessing.size_hw": [32, 16],
        "preprocessing.frames": 2,
        "batch": {"identities": 2, "clips": 1, "frames": 2},
        "epochs": 1,
        "iterations": 2,
        "precision": "float32",
        "pretrained": None,
        "architecture": None,
    },
}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    persons = VcmRoot(train=vcm_persons(1, 2, 3), test=vcm_persons(7, 8))
    return persons.write(tmp_path_factory.mktemp("vcm") / "root")


@pytest.fixture
def request_for(root: Path, tmp_path: Path):
    def make(table: str = "3", **changes: object) -> Request:
        size = tmp_path / "mini.yaml"
        size.write_text(yaml.safe_dump(SIZE))
        settings = {"seeds": (1,), "output": tmp_path / "out", **changes}
        return Request(table, "hitsz_vcm", root, {}, size=read_size(str(size)), **settings)

    return make


class Here:
    """Runs the commands in this process, as ``in_process_of_its_own`` would in another; counts them."""

    def __init__(self, *, refuse: str = "") -> None:
        self.commands: list[Sequence[str]] = []
        self._refuse = refuse

    def __call__(self, arguments: Sequence[str], log: Path) -> int:
        self.commands.append(arguments)
        module, *rest = arguments
        if self._refuse and self._refuse in " ".join(rest):
            log.write_text("no space left on device\n")
            return 1
        with log.open("a") as file, contextlib.redirect_stdout(file), contextlib.redirect_stderr(file):
            return {"reid.train": train.main, "reid.evaluate": evaluate.main}[module](rest)


def test_a_table_is_trained_row_by_row_and_not_again(request_for) -> None:
    request, here = request_for(), Here()
    record = reproduce.reproduce(request, call=here)
    assert [each["row"] for each in record["runs"]] == ["Baseline (PCL)", "+ CPC", "+ MII"]
    assert {each["status"] for each in record["runs"]} == {"finished"}
    assert len(here.commands) == 6  # a training and an evaluation each
    written = json.loads((request.output / "table3.json").read_text())
    assert written["rows"] == json.loads(json.dumps(record["rows"]))
    assert "| + MII |" in (request.output / "table3.md").read_text()
    again = Here()
    assert reproduce.reproduce(request, call=again)["rows"] == record["rows"]
    assert again.commands == []
    shared = Here()
    reproduce.reproduce(request_for("5"), call=shared)
    assert len(shared.commands) == 2 * (8 - 2)  # "none" and "SII + LII + CII" are rows of Tab. 3 too


def test_every_run_keeps_what_it_was_made_with_and_no_path_of_this_machine(request_for, root: Path) -> None:
    request = request_for()
    record = reproduce.reproduce(request, call=Here())
    for run in record["runs"]:
        folder = request.output / "runs" / run["run"]
        assert yaml.safe_load((folder / "row.yaml").read_text())["seed"] == 1
        assert run["config"]["epochs"] == 1
        assert run["log"][0]["epoch"] == 1
        assert len(run["commits"]) == 1
        assert run["protocol"]["camera_rule"] == "same_id_same_cam"
        assert run["figures"]["nir->rgb"]["valid_queries"] == 4
    text = (request.output / "table3.json").read_text() + (request.output / "table3.md").read_text()
    assert str(root) not in text
    assert str(request.output) not in text


def test_a_run_that_goes_on_with_another_commit_has_both_and_a_dirty_tree_is_told(
    request_for, monkeypatch, capsys
) -> None:
    request = request_for()
    monkeypatch.setattr(reproduce, "commit", lambda: "aaa")
    reproduce.reproduce(request, call=Here(refuse="cpc-"))
    assert "WARNING" not in capsys.readouterr().err
    monkeypatch.setattr(reproduce, "commit", lambda: "bbb-dirty")
    record = reproduce.reproduce(request, call=Here())
    assert "WARNING: uncommitted changes: cpc-" in capsys.readouterr().err
    assert [run["commits"] for run in record["runs"]] == [["aaa"], ["aaa", "bbb-dirty"], ["aaa"]]
    text = (request.output / "table3.md").read_text()
    assert "- Commits: aaa, bbb-dirty.\n" in text
    assert "- **Made with uncommitted changes**, which no commit has: + CPC, seed 1.\n" in text
    assert "- Gone on with another commit than begun with: + CPC, seed 1 (aaa, bbb-dirty).\n" in text


def test_a_row_that_fails_is_told_kept_in_the_table_and_tried_again(request_for) -> None:
    request = request_for()
    record = reproduce.reproduce(request, call=Here(refuse="cpc-"))
    statuses = {each["row"]: each["status"] for each in record["runs"]}
    assert statuses == {"Baseline (PCL)": "finished", "+ CPC": "failed", "+ MII": "finished"}
    text = (request.output / "table3.md").read_text()
    assert "- + CPC, seed 1: training **failed** (exit code 1): no space left on device" in text
    assert "| + CPC | failed | failed |" in text
    again = Here()
    assert reproduce.reproduce(request, call=again)["rows"][1]["seeds"] == 1
    assert len(again.commands) == 2


# What the rows of a table may differ in, with all values that occur: every other setting is the same in all rows.
SWITCHES = {
    "3": {
        "model.interactions": {(), ("short", "long")},
        "model.retrieval": {("cls", "projected"), ("cls", "projected", "fused")},
        "loss.cmcl": {0.0, 1.0},
        "loss.update": {"same_modality", "cross_modality"},
        "loss.cpcl_against": {"own", "both"},
    },
    "4": {
        "loss.cpcl": {0.0, 1.0},
        "loss.update": {"same_modality", "cross_modality"},
        "loss.cpcl_against": {"own", "both"},
    },
    "5": {
        "model.interactions": {(), ("short",), ("long",), ("short", "long")},
        "model.retrieval": {("cls", "projected"), ("cls", "projected", "fused")},
        "loss.cmcl": {0.0, 1.0},
    },
}


def leaves(data: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in data.items():
        found |= leaves(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return found


@pytest.mark.parametrize("table", SWITCHES)
def test_rows_differ_by_the_papers_switches_and_in_nothing_else(request_for, table: str) -> None:
    request = request_for(table)
    rows = [leaves(config_for(request, row, 1).model_dump()) for row in TABLES[table].rows]
    assert len({frozenset(row) for row in rows}) == 1
    found = {key: {row[key] for row in rows} for key in rows[0] if any(row[key] != rows[0][key] for row in rows)}
    names = found.pop("name")
    assert len(names) == len(rows)
    assert found == SWITCHES[table]
    assert rows[0]["model.encoder.width"] == 16


def test_a_row_s_switches_do_not_reach_the_rows_behind_it(request_for) -> None:
    request = request_for("plus", seeds=(1, 2))
    request.size.changes["preprocessing"] = {"size_hw": [32, 16], "frames": 2}  # a mapping, as sizes have them
    kept = json.dumps(request.size.changes)
    runs = runs_of(request, {})
    grey = {(run.row.label, run.seed) for run in runs if run.config.preprocessing.grey}
    assert grey == {(label, seed) for label in ("+ grey, stretched input", "+ all of them") for seed in (1, 2)}
    assert json.dumps(request.size.changes) == kept


def test_a_run_is_another_where_data_seed_settings_or_first_weights_are(request_for, tmp_path: Path) -> None:
    def digests(data: dict[str, object], **changes: object) -> set[str]:
        return {run.folder.name for run in runs_of(request_for(**changes), data)}

    plain = digests({"train": 1})
    assert digests({"train": 1}) == plain
    assert digests({"train": 2}).isdisjoint(plain)
    assert digests({"train": 1}, seeds=(2,)).isdisjoint(plain)
    assert digests({"train": 1}, changes=("optimiser.lr=0.1",)).isdisjoint(plain)
    assert digests({"train": 1}, protocol="vcm_dense").isdisjoint(plain)
    assert digests({"train": 1}, changes=("threads=1",)) == plain


def test_a_folder_that_another_process_works_in_is_left_alone(request_for, capsys) -> None:
    request, here = request_for(), Here()
    run = runs_of(request, {})[0]
    run.folder.mkdir(parents=True)
    with reproduce._locked(run.folder):
        reproduce.perform(run, request, here)
    assert here.commands == []
    assert "another process is at it" in capsys.readouterr().err


def test_a_command_that_dies_is_an_exit_code_and_its_last_words(tmp_path: Path) -> None:
    assert in_process_of_its_own(["reid.nothing"], tmp_path / "log.txt") != 0
    log = (tmp_path / "log.txt").read_text()
    assert log.startswith("$ python -m reid.nothing\n")
    assert "No module named reid.nothing" in log


def test_sizes_of_the_project_are_valid_for_every_row(root: Path, tmp_path: Path) -> None:
    for path in reproduce.SIZES.glob("*.yaml"):
        for table in TABLES:
            request = Request(table, "hitsz_vcm", root, {}, (1,), read_size(path.stem), tmp_path)
            for row in TABLES[table].rows:
                assert config_for(request, row, 1).seed == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--seeds", "x"], "--seeds x: expected a number of seeds"),
        (["--seeds", "0"], "at least one seed is needed"),
        (["--size", "huge"], "no such size or file; sizes: vit-b-16"),
        (["--dataset", "market"], "data set must be one of"),
        (["--seeds", f"{10**26},1"], "seed: Input should be less than"),
        (["--set", "epochs=many"], "epochs: Input should be a valid integer"),
        (["--option", "colour=1"], "colour"),
        (["--option", "min_frames=["], "--option min_frames=[: the value is not YAML"),
        (["--split", "val"], "no split 'val'"),
    ],
)
def test_what_cannot_be_asked_for_ends_the_command_before_anything_is_trained(
    root: Path, tmp_path: Path, capsys, arguments: list[str], message: str
) -> None:
    base = ["--table", "3", "--dataset", "hitsz_vcm", "--root", str(root), "--output", str(tmp_path / "out")]
    assert reproduce.main([*base, *arguments]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_an_output_that_cannot_be_made_ends_the_command_with_5(root: Path, tmp_path: Path, capsys) -> None:
    (tmp_path / "file").touch()
    output = str(tmp_path / "file" / "out")
    base = ["--table", "3", "--dataset", "hitsz_vcm", "--root", str(root), "--size", "xreid-tiny"]
    assert reproduce.main([*base, "--output", output]) == 5
    assert capsys.readouterr().err == f"{output}: Not a directory\n"


def test_a_size_that_names_something_below_a_value_ends_the_command(root: Path, tmp_path: Path, capsys) -> None:
    (tmp_path / "a.yaml").write_text("why: small\nchanges: {epochs.more: 1}\n")
    base = ["--table", "3", "--dataset", "hitsz_vcm", "--root", str(root), "--output", str(tmp_path / "out")]
    assert reproduce.main([*base, "--size", str(tmp_path / "a.yaml")]) == 2
    assert capsys.readouterr().err == "epochs.more: epochs is not a section\n"


def test_a_size_file_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("why: small\nwidth: 3\n")
    with pytest.raises(ReproduceError, match="must be a mapping of why, changes"):
        read_size(str(tmp_path / "a.yaml"))
    for text, message in (
        ("changes: [1]", r"a\.yaml: changes: must be a mapping by dotted key, got \[1\]"),
        ("changes: {1: 2}", r"a\.yaml: changes: must be a mapping by dotted key, got \{1: 2\}"),
        ("encoder: [1]", r"a\.yaml: encoder: must be the name of a file, got \[1\]"),
    ):
        (tmp_path / "a.yaml").write_text(f"why: small\n{text}\n")
        with pytest.raises(ReproduceError, match=message):
            read_size(str(tmp_path / "a.yaml"))
    (tmp_path / "a.yaml").write_bytes(b"why: caf\xe9\n")
    with pytest.raises(ReproduceError, match=r"a\.yaml:1: not UTF-8 text: byte 0xe9"):
        read_size(str(tmp_path / "a.yaml"))
    (tmp_path / "b.yaml").write_text("why: small\nencoder: gone.safetensors\n")
    with pytest.raises(ReproduceError, match=r"gone\.safetensors is no file"):
        read_size(str(tmp_path / "b.yaml"))
