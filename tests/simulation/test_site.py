"""A site's recordings tell the truth, the same truth every time, and nothing about who walks but how they look."""

import hashlib
import json
import subprocess
import sys
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from simulation.__main__ import main
from simulation.config import SiteCamera, SiteConfig, load
from simulation.materials import dress
from simulation.renderer import Figure
from simulation.sensor import Sensor
from simulation.site import (
    Walker,
    compose,
    distance_m,
    drawn_at,
    ground_of,
    person,
    record,
    render_site,
    scene_of,
    schedule,
    uncovered,
)
from simulation.walk import Path as WalkPath
from simulation.walk import Walk, places
from simulation.writers import OutputError

ROOT = Path(__file__).resolve().parents[2]
START = datetime.fromisoformat("2026-06-01T14:00:00+00:00")


def site(**changes: object) -> SiteConfig:
    cameras = {
        "gate": SiteCamera(modality="rgb", start=START, furniture=0),
        "yard": SiteCamera(modality="nir", night=True, start=START, furniture=0),
        "dock": SiteCamera(modality="thermal", night=True, start=START, position_m=(40, 0), furniture=0),
    }
    settings = {"name": "t", "seed": 3, "people": 2, "mean_gap_seconds": 1.0, "quiet_seconds": 0.5, "revisits": 0.0}
    return SiteConfig(**{**settings, "width": 320, "height": 180, "fps": 5.0, "cameras": cameras, **changes})  # type: ignore[arg-type]


def walker(config: SiteConfig, name: str, number: int, *, forward: float) -> Walker:
    body, wardrobe = dress(person(config, number), config.cameras[name].modality)
    path = WalkPath((forward, 2.0), (forward, -2.0), 1.0, 2.0, 0.0, 0.3)
    return Walker(Walk(number, 0.0, path), body, Figure(body.pieces, wardrobe.textures))


def half_way(who: Walker) -> tuple[tuple[float, float], float, float]:
    middle = 0.5 * who.walk.path.seconds(who.body.person.gait.speed)
    return places(who.walk, who.body, np.array([0.0, middle]))[1]


def nothing(sentence: str) -> None:
    """Tell nobody, in a worker too."""


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("site") / "out"
    render_site(site(), output, workers=2, tell=nothing)
    return output


def frames_of(path: Path) -> list[np.ndarray[tuple[int, ...], np.dtype[np.uint8]]]:
    with av.open(path) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def digest(folder: Path) -> str:
    parts = [hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.rglob("*")) if path.is_file()]
    return hashlib.sha256("".join(parts).encode()).hexdigest()


def test_the_same_config_gives_the_same_bytes(rendered: Path, tmp_path: Path) -> None:
    render_site(site(), tmp_path / "again", workers=1, tell=lambda sentence: None)
    assert digest(tmp_path / "again") == digest(rendered)


def test_another_seed_gives_another_site(rendered: Path, tmp_path: Path) -> None:
    render_site(site(seed=4), tmp_path / "other", workers=2, tell=nothing)
    assert digest(tmp_path / "other") != digest(rendered)


def test_recordings_have_the_promised_frames_size_and_kind(rendered: Path) -> None:
    layout = json.loads((rendered / "site.json").read_text())
    assert layout["synthetic"] is True
    frames = frames_of(rendered / "gate.mp4")
    assert len(frames) == layout["cameras"]["gate"]["frames"]
    assert frames[0].shape == (180, 320, 3)
    counts = cv2.imread(str(rendered / "dock" / "000001.png"), cv2.IMREAD_UNCHANGED)
    assert counts is not None
    assert counts.dtype == np.uint16
    assert len(list((rendered / "dock").glob("*.png"))) == layout["cameras"]["dock"]["frames"]


def test_near_infrared_has_no_colour(rendered: Path) -> None:
    for frame in frames_of(rendered / "yard.mp4")[::10]:
        assert int(np.ptp(frame.astype(int), axis=2).max()) <= 2


def test_truth_is_motchallenge_text_with_site_wide_ids(rendered: Path) -> None:
    for name in ("gate", "yard", "dock"):
        rows = np.loadtxt(rendered / "ground_truth" / f"{name}.txt", delimiter=",", ndmin=2)
        assert rows.shape[1] == 9
        assert set(rows[:, 1]) == {1, 2}
        assert rows[:, 0].min() >= 1
        assert set(rows[:, 6]) <= {0, 1}
        assert ((rows[:, 2] >= 0) & (rows[:, 2] + rows[:, 4] <= 320)).all()
        assert ((rows[:, 8] >= 0) & (rows[:, 8] <= 1)).all()


def test_passages_agree_with_the_truth(rendered: Path) -> None:
    passages = json.loads((rendered / "ground_truth" / "passages.json").read_text())
    assert {(each["camera"], each["person"]) for each in passages} == {
        (camera, number) for camera in ("gate", "yard", "dock") for number in (1, 2)
    }
    assert all(each["first_frame"] <= each["last_frame"] and each["start"] <= each["end"] for each in passages)


@pytest.mark.parametrize("name", ["gate", "yard", "dock"])
def test_the_box_encloses_what_a_person_changes_in_the_image(name: str) -> None:
    config = site(width=640, height=360)
    scene, who = scene_of(config, name), walker(config, name, 1, forward=7.0)
    found = drawn_at(scene, who, half_way(who))
    assert found is not None
    sprite, inside = found
    changed = np.abs(compose(replace(scene, light=replace(scene.light)), [sprite]) - scene.still()).max(axis=2) > 0.02
    if name == "gate":  # the shadow is not the person
        changed &= np.pad(sprite.alpha > 0.02, ((sprite.top, 360 - sprite.top - sprite.alpha.shape[0]),
                                                (sprite.left, 640 - sprite.left - sprite.alpha.shape[1])))  # fmt: skip
    rows, columns = np.flatnonzero(changed.any(axis=1)), np.flatnonzero(changed.any(axis=0))
    assert sprite.box is not None
    left, top, right, bottom = sprite.box
    both = max(0, min(right, columns[-1] + 1) - max(left, columns[0])) * max(
        0, min(bottom, rows[-1] + 1) - max(top, rows[0])
    )
    union = (right - left) * (bottom - top) + np.ptp(columns) * np.ptp(rows) - both
    assert both / union > 0.8
    assert inside == pytest.approx(1.0)


def test_visibility_falls_when_somebody_walks_in_front() -> None:
    config = site(width=640, height=360)
    scene = scene_of(config, "gate")
    behind, front = walker(config, "gate", 1, forward=8.0), walker(config, "gate", 2, forward=6.0)
    far, near = drawn_at(scene, behind, half_way(behind)), drawn_at(scene, front, half_way(front))
    assert far is not None
    assert near is not None
    assert uncovered(far[0], []) == pytest.approx(1.0)
    assert uncovered(far[0], [near[0]]) < 0.7
    assert uncovered(near[0], []) == pytest.approx(1.0)


def test_in_thermal_skin_is_hotter_than_clothes_and_clothes_than_the_night() -> None:
    config = site(width=640, height=360)
    scene, who = scene_of(config, "dock"), walker(config, "dock", 1, forward=6.0)
    found = drawn_at(scene, who, half_way(who))
    assert found is not None
    warmth = found[0].signal[..., 0][found[0].alpha > 0.99]
    skin, clothes = float(np.percentile(warmth, 99)), float(np.median(warmth))
    assert skin > clothes + 0.1
    assert clothes > float(np.median(scene.still())) + 0.05


def test_who_walks_changes_nothing_but_the_pixels_of_people() -> None:
    """Other people in the same places: paths, scene and noise stay what they were."""
    config = site(width=640, height=360)
    scene = scene_of(config, "gate")
    images, covered = [], np.zeros((360, 640), bool)
    for number in (1, 2):
        sensor = Sensor("rgb", night=False, size=(360, 640), rng=np.random.default_rng(9))
        who = walker(config, "gate", number, forward=7.0)
        found = drawn_at(scene, who, ((7.0, 0.0), 0.3, 1.2))
        assert found is not None
        sprite = found[0]
        covered[sprite.top - 8 : sprite.top + sprite.alpha.shape[0] + 30,
                max(sprite.left - 60, 0) : sprite.left + sprite.alpha.shape[1] + 60] = True  # fmt: skip
        images.append(sensor.expose(compose(scene, [sprite]), 0.0))
    assert not np.array_equal(images[0], images[1])
    assert np.array_equal(images[0][~covered], images[1][~covered])


def test_times_and_paths_do_not_depend_on_how_people_look() -> None:
    walks = schedule(site())
    again = schedule(site(name="another"))
    assert walks == again
    ground = ground_of(site(), site().cameras["gate"])
    assert all(ground.nearest <= walk.path.start[0] <= ground.farthest for walk in walks["gate"])


def test_nobody_is_at_the_next_camera_sooner_than_walking_takes() -> None:
    """In capture times of the demo's own config, which is what a search by time and place relies on."""
    config = load(Path("configs/simulation/demo.yaml"), SiteConfig)
    walks = schedule(config)
    for before, after in (("gate", "plaza"), ("yard", "dock")):
        least = distance_m(config, before, after) / config.walking_speed_m_s
        for number in range(1, config.people + 1):
            left, came = (
                config.cameras[name].start.timestamp() + min(w.begin for w in walks[name] if w.person == number)
                for name in (before, after)
            )
            assert came - left >= least


def test_a_slow_walker_arrives_later_than_the_first_by_what_walking_and_dawdling_explain() -> None:
    config = site(people=20)
    first, second = (
        sorted(walks, key=lambda walk: walk.person) for walks in (schedule(config)["yard"], schedule(config)["dock"])
    )
    lags = np.array([b.begin - a.begin for a, b in zip(first, second, strict=True)])
    assert 0.5 < np.ptp(lags) <= 0.8 * config.mean_gap_seconds * 6


def test_everybody_passes_every_camera_and_nobody_is_twice_in_view() -> None:
    config = site(people=5, revisits=1.0)
    for name, walks in schedule(config).items():
        assert {walk.person for walk in walks} == {1, 2, 3, 4, 5}, name
        for number in range(1, 6):
            one, two = sorted((walk for walk in walks if walk.person == number), key=lambda walk: walk.begin)
            assert two.begin > one.end(person(config, number).gait.speed)


def test_an_unchanged_site_is_not_rendered_again(rendered: Path) -> None:
    said: list[str] = []
    before = digest(rendered)
    assert render_site(site(), rendered, workers=1, tell=said.append) is False
    assert "already rendered" in said[0]
    assert digest(rendered) == before


def test_a_changed_site_replaces_an_earlier_one_whole(tmp_path: Path) -> None:
    tiny = {"cameras": {"gate": site().cameras["gate"]}, "people": 1}
    assert render_site(site(**tiny), tmp_path / "out", workers=1, tell=lambda sentence: None)
    (tmp_path / "out" / "left-over.txt").write_text("of the earlier site")
    assert render_site(site(**tiny, seed=5), tmp_path / "out", workers=1, tell=lambda sentence: None)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"gate.mp4", "ground_truth", "site.json"}


def test_a_failure_half_way_leaves_what_was_there_and_nothing_else(
    rendered: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = digest(rendered)

    def full(*_: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr("simulation.site.write_truth", full)
    with pytest.raises(OSError, match="no space left"):
        render_site(site(seed=6, people=1), rendered, workers=1, tell=lambda sentence: None)
    assert digest(rendered) == before
    assert [path.name for path in rendered.parent.iterdir()] == [rendered.name]


def test_people_in_one_another_s_places_leave_the_recording_s_noise_and_scene_alone(tmp_path: Path) -> None:
    """The whole recording, with the identities exchanged: paths and every pixel away from people are the same."""
    config = site(people=2, cameras={"dock": site().cameras["dock"]})
    walks = schedule(config)["dock"]
    swapped = [replace(walk, person=3 - walk.person) for walk in walks]
    films = []
    for place, each in (("a", walks), ("b", swapped)):
        (tmp_path / place / "ground_truth").mkdir(parents=True)
        record(config, "dock", each, tmp_path / place, nothing)
        films.append(
            [cv2.imread(str(path), cv2.IMREAD_UNCHANGED) for path in sorted((tmp_path / place / "dock").iterdir())]
        )
    same = [np.mean(a == b) for a, b in zip(*films, strict=False) if a is not None and b is not None]
    assert min(same) > 0.6
    assert same[0] == 1.0


def test_a_recording_that_takes_long_tells_how_far_it_is(tmp_path: Path) -> None:
    said: list[str] = []
    config = site(people=1, quiet_seconds=61.0, cameras={"gate": site().cameras["gate"]})
    assert render_site(config, tmp_path / "out", workers=1, tell=said.append)
    frames = int(said[-1].removeprefix("gate: ").split(" ", 1)[0])
    assert said[1:-1] == [f"gate: {done} of {frames} frames" for done in range(300, frames, 300)]
    assert len(said) > 2


def test_workers_tell_how_far_they_are_too(tmp_path: Path) -> None:
    (tmp_path / "site.yaml").write_text(
        "{name: t, seed: 5, people: 1, revisits: 0.0, quiet_seconds: 61, width: 160, height: 96, fps: 5, cameras: {"
        "gate: {modality: rgb, start: 2026-06-01T14:00:00Z}, hall: {modality: rgb, start: 2026-06-01T14:00:00Z}}}"
    )
    words = ["site", "--config", str(tmp_path / "site.yaml"), "--output", str(tmp_path / "out"), "--workers", "2"]
    done = subprocess.run(
        [sys.executable, "-m", "simulation", *words], capture_output=True, text=True, check=True, cwd=ROOT
    )
    for camera in ("gate", "hall"):
        assert f"{camera}: 300 of " in done.stderr


def test_a_folder_of_somebody_else_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(OutputError, match="was not written by the simulator"):
        render_site(site(), tmp_path, workers=1, tell=lambda sentence: None)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: x\nseed: 1\npeople: 0\ncameras: {}\n", "people"),
        ("name: x\nseed: 1\npeople: 1\ncolour: red\ncameras: {}\n", "colour"),
        ("a: [", "cannot be read as YAML"),
        (
            "name: x\nseed: 1\npeople: 1\ncameras: {a: {modality: rgb, start: '2026-06-01T14:00:00'}}\n",
            "offset from UTC",
        ),
        (
            "name: x\nseed: 1\npeople: 1\ncameras: {a: {modality: rgb, start: '2026-06-01T14:00:00Z', nearest_m: 9, "
            "farthest_m: 8}}\n",
            "nearest_m must be below",
        ),
    ],
)
def test_a_bad_config_is_one_message_and_exit_code_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, message: str
) -> None:
    config = tmp_path / "site.yaml"
    config.write_text(text)
    assert main(["site", "--config", str(config), "--output", str(tmp_path / "out")]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_missing_config_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["site", "--config", str(tmp_path / "no.yaml"), "--output", str(tmp_path / "out")]) == 2
    assert "no.yaml: no such file" in capsys.readouterr().err
