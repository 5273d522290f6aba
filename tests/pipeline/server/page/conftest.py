"""A simulated site that was recorded, run and served; and a browser that looks at it."""

import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from playwright.sync_api import Browser, Page, sync_playwright

from pipeline.cli import main
from pipeline.config import ServerConfig
from pipeline.evaluate import true_people
from pipeline.run import Beside
from pipeline.server.serving import open_door, served
from pipeline.store import Store, TrackletFilter
from reid.modality import Modality
from simulation.config import SiteConfig, load
from simulation.site import render_site
from trackers.mot import read_ground_truth

NAMES = ("chromium", "chromium-browser", "google-chrome")
INFRARED = (Modality.NIR, Modality.THERMAL)
PATIENCE_MS = 60_000  # on a loaded machine; the first picture waits for the network to be loaded

# Four people pass an RGB camera by day, and two infrared ones by night. All are simulated.
SITE = """
name: harbour
seed: 4207
people: 4
revisits: 0.0
mean_gap_seconds: 1.5
quiet_seconds: 1.5
width: 480
height: 270
fps: 8
cameras:
  gate: {modality: rgb, start: 2026-06-01T14:00:00Z, height_m: 3.0, pitch_deg: 13, focal_px: 420, nearest_m: 5.2,
         farthest_m: 7.0, furniture: 2}
  yard: {modality: nir, night: true, start: 2026-06-01T21:30:00Z, height_m: 3.3, pitch_deg: 16,
         focal_px: 420, nearest_m: 5.2, farthest_m: 7.0, furniture: 2}
  dock: {modality: thermal, night: true, start: 2026-06-01T21:32:00Z, height_m: 3.5, pitch_deg: 16,
         focal_px: 420, nearest_m: 5.5, farthest_m: 7.2, furniture: 2}
"""


@dataclass(frozen=True)
class Recorded:
    """A run of the simulated site.

    Attributes:
        root: Its folder.
        people: True person by tracklet, where most of its boxes are of one.
        site: The recordings.
    """

    root: Path
    people: dict[str, int]
    site: Path

    def of(self, person: int, *modalities: Modality) -> list[str]:
        """Tracklets of a true person, best first."""
        with Store.read(self.root) as store:
            wanted = TrackletFilter(modalities=frozenset(modalities or Modality))
            found = [each for each in store.tracklets(wanted) if self.people.get(each.tracklet_id) == person]
        return [each.tracklet_id for each in sorted(found, key=lambda each: -each.frames)]

    def crop_of(self, tracklet_id: str) -> Path:
        with Store.read(self.root) as store:
            crop = store.tracklet(tracklet_id).best_crop
        assert crop is not None
        return crop


@dataclass(frozen=True)
class Served:
    """A gallery of its own behind an address."""

    root: Path
    address: str

    def persons_of(self, tracklet_ids: Iterable[str]) -> dict[str, int | None]:
        """Who each tracklet is, as the gallery has it now."""
        with Store.read(self.root) as store:
            return {each: store.tracklet(each).person_id for each in tracklet_ids}


@pytest.fixture(scope="package")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    folder = tmp_path_factory.mktemp("harbour")
    (folder / "site.yaml").write_text(SITE)
    render_site(load(folder / "site.yaml", SiteConfig), folder / "site", workers=1, tell=lambda text: None)
    cameras = {
        "gate": {"source": f"{folder}/site/gate.mp4", "modality": "rgb", "start": "2026-06-01T14:00:00Z"},
        "yard": {"source": f"{folder}/site/yard.mp4", "modality": "nir", "start": "2026-06-01T21:30:00Z",
                 "zones": {"door": [[0, 0], [0.5, 0], [0.5, 1], [0, 1]]}},
        "dock": {"source": f"{folder}/site/dock", "modality": "thermal", "fps": 8, "start": "2026-06-01T21:32:00Z"},
    }  # fmt: skip
    config = {"version": 1, "site": {"name": "Harbour", "timezone": "Europe/Berlin"}, "cameras": cameras,
              "reid": {"weights": "xreid-tiny"}, "output": {"root": f"{folder}/run"}}  # fmt: skip
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    assert main(["run", "--config", str(folder / "config.yaml"), "--no-video", "--no-progress", "--quiet"]) == 0
    with Store.read(folder / "run") as store:
        people = {
            name: person
            for camera in store.cameras()
            for name, person in true_people(
                store.boxes(camera), read_ground_truth(folder / "site" / "ground_truth" / f"{camera}.txt")
            ).items()
            if person is not None
        }
    return Recorded(folder / "run", people, folder / "site")


@pytest.fixture(scope="package")
def person(recorded: Recorded) -> int:
    """Somebody whom all three cameras saw, twice at least by night."""
    for number in sorted(set(recorded.people.values())):
        if recorded.of(number, Modality.RGB) and all(recorded.of(number, each) for each in INFRARED):
            return number
    raise AssertionError("nobody was seen by day and by night")


@contextmanager
def serving(root: Path, pipeline: Beside | None = None, *, port: int = 0) -> Iterator[Served]:
    door = open_door(root, ServerConfig(port=port))
    with served(root, door, device="cpu", pipeline=pipeline):
        yield Served(root, door.address)


@pytest.fixture(scope="package")
def looked_at(recorded: Recorded, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The site for tests that change nothing of it but the audit."""
    root = Path(shutil.copytree(recorded.root, tmp_path_factory.mktemp("looked_at") / "run"))
    with serving(root) as site:
        yield site


@pytest.fixture
def site(recorded: Recorded, tmp_path: Path) -> Iterator[Served]:
    """The site, to be changed."""
    with serving(Path(shutil.copytree(recorded.root, tmp_path / "run"))) as site:
        yield site


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        reason = f"no browser: none of {', '.join(NAMES)} is on the path"
        if os.environ.get("FAIL_WITHOUT_CHROMIUM"):
            pytest.fail(reason)
        pytest.skip(reason)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield browser
        browser.close()


@contextmanager
def looking(browser: Browser, *, theme: str = "light", width: int = 1280, height: int = 800) -> Iterator[Page]:
    """A page that must not complain: no error in a script, no violation of the content policy."""
    context = browser.new_context(
        color_scheme=theme,  # type: ignore[arg-type]
        viewport={"width": width, "height": height},
        accept_downloads=True,
        timezone_id="America/New_York",  # not the site's: its own clock must be shown
        locale="en-GB",
    )
    page = context.new_page()
    page.set_default_timeout(PATIENCE_MS)
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda told: complaints.append(told.text) if _is_complaint(told.type, told.text) else None)
    try:
        yield page
        assert complaints == []
    finally:
        context.close()


def _is_complaint(kind: str, text: str) -> bool:
    """Errors of the server are told by the browser too; those are for the page to show, and for the test to expect."""
    return kind in ("error", "warning") and "Failed to load resource" not in text


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    with looking(browser) as page:
        yield page


@pytest.fixture(scope="session")
def pictures() -> Path | None:
    """Where pictures of the views go: PAGE_PICTURES; None where nobody wants them."""
    named = os.environ.get("PAGE_PICTURES")
    if not named:
        return None
    Path(named).mkdir(parents=True, exist_ok=True)
    return Path(named)
