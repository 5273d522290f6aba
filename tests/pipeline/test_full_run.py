"""What happens to a folder while a run is under way: its disk fills, what it holds grows old, the run dies."""

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.audit import Actor
from pipeline.cases import Cases
from pipeline.config import Config, from_sources
from pipeline.errors import ResourceError
from pipeline.reconcile import reconcile
from pipeline.recovery import maintain
from pipeline.run import RunOptions, run
from pipeline.store import Store, TrackletFilter
from tests.pipeline.factories import sighting_of
from tests.pipeline.full_disk import fill_to_the_brim, large, mounted
from tests.pipeline.recordings import write_thermal, write_video, write_weights

EVE = Actor("eve")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    write_video(folder / "gate.mp4")
    write_thermal(folder / "dock")
    write_weights(folder / "mini.safetensors")
    return folder


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    with mounted(tmp_path / "small") as folder:
        yield folder


def configured(site: Path, root: Path, *more: str) -> Config:
    """Tracklets are embedded one at a time, so that each needs its number when the disk is full already."""
    sources = [
        f"gate={site}/gate.mp4,start=2026-07-01T14:00:00Z",
        f"dock={site}/dock/*.png,modality=thermal,start=2026-07-01T22:00:00Z",
    ]
    overrides = [
        f"reid.weights={site}/mini.safetensors", f"output.root={root}", "output.video=false",
        "output.contact_sheet=false", "reid.batch=1", *more,
    ]  # fmt: skip
    return from_sources(sources, overrides=overrides)


def fill_gallery(root: Path, *, held: int) -> set[str]:
    """Thirty megabytes of old tracklets, of which a case holds the first so many."""
    with Store.maintain(root) as store:
        before = {each.tracklet_id for each in store.tracklets(TrackletFilter(rejected=None))}
        vector = store.embeddings([store.tracklets()[0].row])[0]
        for n in range(60):
            store.add(sighting_of(large(f"old-{n}", 10.0 * n), person=900 + n, vector=vector))
        Cases(store).open("C-1", "theft", EVE)
        Cases(store).hold("C-1", [f"old-{n}" for n in range(held)], EVE)
        if held == 60:
            Cases(store).hold("C-1", sorted(before), EVE)
    return before


def leave_free(disk: Path, count: int) -> None:
    with (disk / "ballast").open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, shutil.disk_usage(disk).free - count)


def run_while_it_fills(config: Config, other: Path, *, at: int = 20) -> dict[str, Any]:
    def fill(stage: str, done: int, total: int | None) -> None:
        if (stage, done) == ("tracking", at):
            fill_to_the_brim(other)

    report = run(config, RunOptions(existing="append", on_progress=fill))
    assert other.is_file()
    return report


def stored(root: Path) -> set[str]:
    with maintain(root) as store:
        found = reconcile(store)
        assert found.differences == ()
        names = {each.tracklet_id for each in store.tracklets(TrackletFilter(rejected=None))}
        assert found.tracklets == len(names)
        return names


def test_the_oldest_make_room_for_numbers_events_and_report(site: Path, small_disk: Path) -> None:
    root = small_disk / "run"
    run(configured(site, root), RunOptions())
    before = fill_gallery(root, held=4)
    report = run_while_it_fills(configured(site, root), small_disk / "other")
    assert report["tracklets"]["accepted"] >= 2
    assert report["tracklets"]["lost"] == {}
    assert set(report["lost"]) <= {"mot", "detections"}
    assert json.loads((root / "report.json").read_text())["tracklets"] == report["tracklets"]
    left = stored(root)
    assert {f"old-{n}" for n in range(4)} <= left
    new = {name for name in left - before if not name.startswith("old-")}
    assert len(new) == report["tracklets"]["accepted"] + sum(report["tracklets"]["rejected"].values())
    log = "".join(path.read_text() for path in (root / "events").glob("*.jsonl"))
    assert all(name in log for name in new)


def test_where_a_case_holds_all_that_is_left_the_loss_is_counted_and_the_run_ends_well(
    site: Path, small_disk: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = small_disk / "run"
    run(configured(site, root), RunOptions())
    before = fill_gallery(root, held=60)
    leave_free(small_disk, 1_500_000)  # too little for a reserve
    report = run_while_it_fills(configured(site, root), small_disk / "other")
    (small_disk / "other").unlink()
    assert all(camera["frames_processed"] == 75 for camera in report["cameras"].values())
    left = stored(root)
    assert before | {f"old-{n}" for n in range(60)} <= left
    assert len(left) == len(before) + 60 + report["tracklets"]["accepted"] + sum(
        report["tracklets"]["rejected"].values()
    )
    assert report["tracklets"]["accepted"] + report["tracklets"]["lost"]["disk_full"] == 2
    assert report["tracklets"]["lost"]["disk_full"] > 0
    assert {"mot", "detections"} <= set(report["lost"])
    assert (root / "mot/gate.txt.part").is_file()  # and not under the name of a whole one
    for kind in report["lost"]:
        assert caplog.text.count(f"what it costs ({kind})") == 1


def test_what_is_old_goes_where_nobody_comes(site: Path, tmp_path: Path) -> None:
    root = tmp_path / "run"
    run(configured(site, root), RunOptions())
    assert stored(root)
    nobody = from_sources(
        [f"gate={write_video(tmp_path / 'nobody.mp4', frames=9)}"],
        overrides=[f"reid.weights={site}/mini.safetensors", f"output.root={root}", "output.video=false",
                   "output.contact_sheet=false", "retention.tracklets_days=1"],
    )  # fmt: skip
    report = run(nobody, RunOptions(existing="append"))
    assert (report["tracklets"]["accepted"], report["ended"]) == (0, "done")
    assert stored(root) == set()


def test_a_run_that_dies_says_so_in_its_own_report(site: Path, tmp_path: Path) -> None:
    root = tmp_path / "run"
    run(configured(site, root), RunOptions(max_frames=3))

    def die(stage: str, done: int, total: int | None) -> None:
        if done == 30:
            raise ResourceError("the disk is gone")

    with pytest.raises(ResourceError, match="is gone"):
        run(configured(site, root), RunOptions(existing="append", on_progress=die))
    report = json.loads((root / "report.json").read_text())
    assert (report["ended"], report["frames"]) == ("error", 30)
