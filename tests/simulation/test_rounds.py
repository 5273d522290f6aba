"""A site over hours: who goes where, and what a recorder on motion keeps."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from simulation.config import ConfigError, RoundsConfig, load
from simulation.rounds import kept, layout, render_rounds, visits
from simulation.site import distance_m

CONFIG = Path(__file__).resolve().parents[2] / "configs" / "simulation" / "rounds.yaml"


@pytest.fixture(scope="module")
def config() -> RoundsConfig:
    return load(CONFIG, RoundsConfig)


def test_everybody_makes_a_round_by_day_and_one_by_night_in_order_of_time(config: RoundsConfig) -> None:
    found = visits(config)
    assert len(found) == 2 * config.people * config.visits
    begins = [visit.walk.begin for visit in found]
    assert begins == sorted(begins)
    assert begins[0] > 0
    assert begins[-1] < config.seconds
    for person in range(1, config.people + 1):
        own = [visit for visit in found if visit.walk.person == person]
        assert len(own) == 2 * config.visits
        for before, after in pairwise(own):
            assert before.camera != after.camera or after.walk.begin > config.dusk_seconds > before.walk.begin
            gap = after.walk.begin - before.walk.begin
            assert gap >= 0.85 * distance_m(config, before.camera, after.camera) / config.walking_speed_m_s


def test_cameras_of_the_day_see_nobody_by_night_and_thermal_ones_see_both(config: RoundsConfig) -> None:
    for visit in visits(config):
        camera = config.cameras[visit.camera]
        at_night = visit.walk.begin >= config.dusk_seconds
        assert camera.modality == "thermal" or camera.night == at_night


def test_a_recorder_keeps_the_start_and_the_passages_and_nothing_twice(config: RoundsConfig) -> None:
    assert list(kept(config, [])) == list(range(17))  # 2 s at 8 a second, both ends


def test_a_small_site_has_true_times_in_its_files_and_ways_in_its_layout(tmp_path: Path, config: RoundsConfig) -> None:
    import av

    cameras = {name: config.cameras[name] for name in ("gate", "dock")}
    update = {"cameras": cameras, "people": 1, "visits": 1, "seconds": 160.0, "dusk_seconds": 80.0, "width": 160,
              "height": 90, "fps": 3.0}  # fmt: skip
    small = config.model_copy(update=update)
    assert not render_rounds(small, tmp_path / "site", workers=1, tell=lambda text: None, cameras=["dock"])
    assert not (tmp_path / "site").exists()
    drawn = (tmp_path / ".site.cameras" / "dock" / "dock.mkv").stat().st_mtime_ns
    assert render_rounds(small, tmp_path / "site", workers=1, tell=lambda text: None)
    assert drawn == (tmp_path / "site" / "dock.mkv").stat().st_mtime_ns
    assert [path.name for path in tmp_path.iterdir()] == ["site"]
    assert not render_rounds(small, tmp_path / "site", workers=1, tell=lambda text: None)
    total = 0
    for name in ("gate.mp4", "dock.mkv"):
        with av.open(tmp_path / "site" / name) as file:
            times = [float(frame.pts * frame.time_base) for frame in file.decode(video=0)]
        assert times[0] == 0
        assert (np.diff(times) > 0).all()
        total += len(times)
    assert np.isclose(times, np.round(np.array(times) * 3) / 3, atol=1e-3).all()
    frames = {"gate": 1, "dock": total}
    (way,) = layout(small, frames)["ways"]
    assert way["between"] == ["gate", "dock"]
    assert 0 < way["min_seconds"] < way["typical_seconds"]


def test_cameras_of_one_site_share_a_clock(tmp_path: Path) -> None:
    text = CONFIG.read_text().replace("start: 2026-06-01T19:30:00Z", "start: 2026-06-01T19:31:00Z", 1)
    (tmp_path / "site.yaml").write_text(text)
    with pytest.raises(ConfigError, match="one start"):
        load(tmp_path / "site.yaml", RoundsConfig)
