"""synthetic-vvi, as it is rendered, is read by the loaders of both real data sets and passes the checker."""

import json
from pathlib import Path

import pytest

from reid.datasets.check import check
from reid.datasets.crops import Crops
from reid.datasets.known import Dataset, open_dataset
from reid.metrics import CameraRule
from reid.modality import Modality
from simulation.config import VviConfig
from simulation.vvi import render_vvi
from tests.reid.factories import preprocessing

LAYOUTS = ("hitsz_vcm", "bupt_campus")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("vvi") / "out"
    config = VviConfig(
        seed=4, people={"train": 3, "test": 1, "auxiliary": 1}, cameras=2, frames=3, moments=6, lights=1, night_rgb=0.0
    )
    render_vvi(config, output, workers=1, tell=lambda sentence: None)
    return output


def opened(root: Path, layout: str, **options: object) -> Dataset:
    return open_dataset("synthetic-vvi", root, {"layout": layout, **options})


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_layout_is_read_by_the_loader_of_its_real_data_set(root: Path, layout: str) -> None:
    dataset = opened(root, layout)
    assert dataset.name == "synthetic_vvi"
    assert str(dataset.split("train")) == "3 persons, 12 tracklets (6 rgb, 6 nir)"
    assert str(dataset.split("test")) == "1 persons, 4 tracklets (2 rgb, 2 nir)"
    assert len(dataset.split("train").camera_names) == 2
    for row, frames in enumerate(dataset.split("test").paths):
        assert len(frames) == 3
        folders = {Modality.RGB: ("rgb", "RGB"), Modality.NIR: ("ir", "IR")}[dataset.split("test").modalities[row]]
        assert frames[0].parent.parent.name in folders
    crops = Crops.load(dataset.split("test"), preprocessing())
    assert len(crops) == 4


def test_both_layouts_have_the_same_training_tracklets(root: Path) -> None:
    def known(layout: str) -> set[tuple[int, str, str, tuple[int, ...]]]:
        split = opened(root, layout).split("train")
        return {
            (pid, modality.value, split.camera_names[camera][1:], tuple(path.stat().st_ino for path in frames))
            for pid, modality, camera, frames in zip(
                split.pids.tolist(), split.modalities, split.camids.tolist(), split.paths, strict=True
            )
        }

    assert known("hitsz_vcm") == known("bupt_campus")


def test_protocols_and_camera_rules_are_those_of_the_real_data_sets(root: Path) -> None:
    vcm, bupt = (opened(root, layout) for layout in LAYOUTS)
    assert (vcm.camera_rule, bupt.camera_rule) == (CameraRule.SAME_ID_SAME_CAM, CameraRule.NONE)
    sizes = {name: (len(each.query), len(each.gallery)) for name, each in vcm.directions("test").items()}
    assert sizes == {"nir->rgb": (2, 2), "rgb->nir": (2, 2)}
    sizes = {name: (len(each.query), len(each.gallery)) for name, each in bupt.directions("test").items()}
    assert sizes == {"nir->rgb": (1, 1), "rgb->nir": (1, 1)}
    split = bupt.split("test")
    i2v = bupt.directions("test")["nir->rgb"]
    own = {(split.pids[row], split.camids[row]) for row in i2v.query}
    assert not own & {(split.pids[row], split.camids[row]) for row in i2v.gallery}  # as in the real lists


@pytest.mark.parametrize("layout", LAYOUTS)
def test_training_persons_can_be_held_out(root: Path, layout: str) -> None:
    dataset = opened(root, layout, val_identities=1)
    assert len(set(dataset.split("val").pids.tolist())) == 1
    assert not set(dataset.split("val").pids.tolist()) & set(dataset.split("train").pids.tolist())


def test_the_checker_compares_with_the_manifest(root: Path) -> None:
    reports = check("synthetic_vvi", root)
    assert [report.is_good for report in reports] == [True, True]
    assert all(report.expected for report in reports)
    manifest = root / "synthetic_vvi.json"
    text = manifest.read_text()
    try:
        changed = json.loads(text)
        changed["counts"]["hitsz_vcm"]["train"]["identities"] += 1
        manifest.write_text(json.dumps(changed))
        assert check("synthetic_vvi", root, quick=True)[0].differences == ["train identities"]
    finally:
        manifest.write_text(text)
