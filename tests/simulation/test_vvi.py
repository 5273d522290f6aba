"""synthetic-vvi is whole, repeatable, of people of its own, and as hard as its config says."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from simulation.__main__ import main
from simulation.config import ConfigError, LookAlikes, VviConfig, load
from simulation.people import Person
from simulation.vvi import MARKER, person, pid_of, render_vvi, station

CONFIG = VviConfig(
    seed=3, people={"train": 3, "test": 1, "auxiliary": 1}, cameras=2, frames=3, moments=6, lights=1,
    look_alikes=LookAlikes(share=1.0, group=3),
)  # fmt: skip


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("vvi") / "out"
    assert render_vvi(CONFIG, output, workers=2, tell=lambda sentence: None)
    return output


def test_both_layouts_hold_the_same_images_once_on_the_disk(root: Path) -> None:
    vcm = {path.stat().st_ino for path in (root / "hitsz_vcm").rglob("*.jpg")}
    bupt = {path.stat().st_ino for path in (root / "bupt_campus").rglob("*.jpg")}
    assert len(vcm) == 4 * 2 * 2 * 3
    assert len(bupt) == len(vcm) + 1 * 2 * 3  # those of the auxiliary person
    assert vcm < bupt


def test_the_manifest_counts_what_is_on_the_disk_and_says_that_it_is_synthetic(root: Path) -> None:
    manifest = json.loads((root / MARKER).read_text())
    assert manifest["synthetic"] is True
    counts = manifest["counts"]["hitsz_vcm"]
    for split in ("train", "test"):
        for modality, folder in (("rgb", "rgb"), ("nir", "ir")):
            on_disk = list((root / "hitsz_vcm" / split.capitalize()).glob(f"*/{folder}/*/*.jpg"))
            assert counts[split][f"{modality}_frames"] == len(on_disk)
    assert counts["train"]["identities"] == 3
    assert manifest["counts"]["bupt_campus"]["query"]["rgb_tracklets"] == 1


def test_names_of_frames_are_not_contiguous_and_fit_the_files(root: Path) -> None:
    names = (root / "hitsz_vcm/info/train_name.txt").read_text().splitlines()
    assert names[0].startswith("0001M1D")
    numbers = [int(name.rpartition("F")[2].removesuffix(".jpg")) for name in names[:3]]
    assert all(step >= 5 for step in np.diff(numbers))


def test_the_same_config_gives_the_same_bytes_however_many_workers(root: Path, tmp_path: Path) -> None:
    render_vvi(CONFIG, tmp_path / "alone", workers=1, tell=lambda sentence: None)
    written = sorted(path.relative_to(root) for path in root.rglob("*") if path.is_file())
    alone = sorted(path.relative_to(tmp_path / "alone") for path in (tmp_path / "alone").rglob("*") if path.is_file())
    assert written == alone
    assert all((root / path).read_bytes() == (tmp_path / "alone" / path).read_bytes() for path in written)


def test_what_is_there_already_is_kept(root: Path) -> None:
    told: list[str] = []
    assert not render_vvi(CONFIG, root, workers=1, tell=told.append)
    assert "already rendered from this config" in told[0]


def test_look_alikes_wear_the_same_on_other_bodies() -> None:
    config = CONFIG.model_copy(update={"people": {"train": 9, "test": 2}, "look_alikes": LookAlikes(share=0.7)})
    first, second, third, fourth = (person(config, "train", number) for number in (1, 2, 3, 4))
    for other in (second, third):
        assert replace(other.top_cloth, wrinkle_seed=0) == replace(first.top_cloth, wrinkle_seed=0)
        assert (other.bottom, other.shoes.colour, other.sleeve) == (first.bottom, first.shoes.colour, first.sleeve)
        assert other.physique != first.physique
        assert other.gait != first.gait
    assert fourth.top_cloth.colour != first.top_cloth.colour
    assert person(config, "train", 5).top_cloth.colour == fourth.top_cloth.colour
    # 7 of 10 of nine people are two whole groups; the others dress as they like
    alone = [person(config, "train", number).top_cloth.colour for number in (7, 8, 9)]
    assert len(set(alone)) == 3


def test_nobody_is_in_two_splits_or_known_from_elsewhere() -> None:
    config = load(Path("configs/simulation/synthetic_vvi.yaml"), VviConfig)
    splits = {name: [person(config, name, n) for n in range(1, count + 1)] for name, count in config.people.items()}
    physiques = [each.physique for people in splits.values() for each in people]
    assert len(set(physiques)) == len(physiques)
    others = [Person.sample(space, n, seed=config.seed) for space in ("train", "site", "val") for n in range(1, 50)]
    assert not {each.physique for each in others} & set(physiques)
    pids = [pid_of(config, name, n) for name, count in config.people.items() for n in range(1, count + 1)]
    assert sorted(pids) == list(range(1, len(physiques) + 1))


def test_the_committed_benchmark_is_as_large_and_hard_as_it_must_be() -> None:
    config = load(Path("configs/simulation/synthetic_vvi.yaml"), VviConfig)
    assert config.people["train"] >= 200
    assert config.people["train"] + config.people["test"] >= 300
    assert config.cameras >= 6
    assert config.frames == 24
    assert config.look_alikes.share > 0.5


def test_a_place_is_the_same_by_day_and_by_night() -> None:
    day, night = (station(CONFIG.seed, 1, modality, dark, 0) for modality, dark in (("rgb", False), ("nir", True)))
    assert day.scene.camera == night.scene.camera
    edges = [[(sprite.left, sprite.top, sprite.alpha.shape) for sprite in at.scene.furniture] for at in (day, night)]
    assert edges[0] == edges[1]
    assert len(edges[0]) > 0
    assert station(CONFIG.seed, 2, "rgb", False, 0).scene.camera != day.scene.camera


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("people: {train: 3}", "must give at least train and test"),
        ("cameras_each: 9", "cameras_each is 9, but there are 8 cameras"),
        ("moments: 5", "moments is 5, fewer than the 24 frames"),
        ("box_errors: 2", "Extra inputs are not permitted"),
    ],
)
def test_configs_that_cannot_be_meant_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], change: str, message: str
) -> None:
    path = tmp_path / "vvi.yaml"
    people = "" if change.startswith("people") else "people: {train: 2, test: 1}\n"
    path.write_text(f"seed: 1\n{people}{change}\n")
    assert main(["vvi", "--config", str(path), "--output", str(tmp_path / "out"), "--workers", "1"]) == 2
    assert message in capsys.readouterr().err
    with pytest.raises(ConfigError):
        load(path, VviConfig)
    assert not (tmp_path / "out").exists()


def test_every_setting_of_the_committed_config_is_named() -> None:
    text = Path("configs/simulation/synthetic_vvi.yaml").read_text()
    assert all(f"\n{name}:" in text for name in VviConfig.model_fields)
