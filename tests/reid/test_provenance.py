from pathlib import Path

import numpy as np
import torch

from reid.datasets.folder import read_folder
from reid.provenance import commit, environment, manifest
from tests.reid.factories import write_folder


def test_a_manifest_counts_and_fingerprints_the_lists_wherever_the_data_lie(tmp_path: Path) -> None:
    here, there = (write_folder(tmp_path / name, train=3, val=1, frames=2) for name in ("here", "there"))
    one, other = (manifest(read_folder(root, "train"), root) for root in (here, there))
    assert one == other
    counts = {"persons": 3, "tracklets": {"rgb": 6, "nir": 3, "thermal": 3}, "frames": 24, "cameras": 4}
    assert {name: one[name] for name in counts} == counts
    split = read_folder(here, "train")
    assert manifest(split.select(np.arange(11)), here)["sha256"] != one["sha256"]
    assert str(tmp_path) not in str(one)


def test_the_environment_names_versions_and_machine_and_no_folder() -> None:
    found = environment(torch.device("cpu"))
    assert torch.__version__.startswith(found["packages"]["torch"])
    assert found["device"] == "cpu"
    assert found["cores"] >= 1
    assert str(Path.home()) not in str(found)


def test_the_commit_is_that_of_this_checkout() -> None:
    is_checkout = (Path(__file__).resolve().parents[2] / ".git").exists()
    assert (commit() is not None) == is_checkout
