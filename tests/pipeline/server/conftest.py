"""Galleries and servers that the tests of the page's API share."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.audit import Actor
from pipeline.cases import Cases
from pipeline.cli import main
from pipeline.config import ServerConfig
from pipeline.frame import Frame
from pipeline.identify import Link
from pipeline.monitoring import LatestFrames
from pipeline.run import Beside
from pipeline.server.app import create_app
from pipeline.server.desk import Desk
from pipeline.server.roles import Role
from pipeline.server.users import USERS, Users
from pipeline.store import Store
from pipeline.thermal import Windows
from pipeline.tracklets import Counterpart
from reid.modality import Modality
from tests.pipeline.factories import NOON, axis, crop_image, open_store, rejected_of, sighting_of, tracklet_of, unit
from tests.pipeline.recordings import write_thermal, write_video, write_weights
from tests.pipeline.server.client import PASSWORD, Client

Serve = Callable[..., Client]


@pytest.fixture
def gallery(tmp_path: Path) -> Path:
    """Persons 1 (gate, dock) and 2 (gate, yard), linked; 3 (gate) and 4 (dock); one rejected; case c1 of person 1."""
    root = tmp_path / "gallery"
    fill_gallery(root)
    return root


def fill_gallery(root: Path) -> None:
    gate = {name: tracklet_of(f"gate-{name}", at=at) for name, at in (("ann", 0.0), ("bob", 60.0), ("eve", 120.0))}
    beside = (("dock", Modality.THERMAL), ("lobby", Modality.NIR))
    gate["ann"] = replace(
        gate["ann"],
        counterparts=tuple(
            Counterpart(name, kind, crop_image(kind), NOON, gate["ann"].xyxy[0]) for name, kind in beside
        ),
    )
    dock = tracklet_of("dock-ann", modality=Modality.THERMAL, at=30.0)
    yard = tracklet_of("yard-bob", modality=Modality.NIR, at=90.0)
    with open_store(root) as store:
        store.add(sighting_of(gate["ann"], person=1))
        store.add(
            sighting_of(
                dock, person=1, vector=unit(9, 1, 0, 0),
                links=(Link("gate-ann", "gate", Modality.RGB, 0.9, 0.8, True),),
            )
        )  # fmt: skip
        store.add(sighting_of(gate["bob"], person=2, vector=axis(1)))
        store.add(
            sighting_of(
                yard, person=2, vector=unit(0, 9, 1, 0),
                links=(Link("gate-bob", "gate", Modality.RGB, 0.9, 0.7, True),),
            )
        )  # fmt: skip
        store.add(sighting_of(gate["eve"], person=3, vector=axis(2)))
        store.add(sighting_of(tracklet_of("dock-kim", modality=Modality.THERMAL, at=150.0), person=4, vector=axis(3)))
        store.add(rejected_of(tracklet_of("gate-mouse", at=200.0)))
    with Store.edit(root) as store:
        cases = Cases(store)
        cases.open("c1", "the gate", Actor("test"))
        cases.hold("c1", ["gate-ann", "dock-ann"], Actor("test"), note="seen")


def beside(root: Path, *frames: Frame, windows: Windows | None = None) -> Beside:
    """What a run tells that has read these frames."""
    latest = LatestFrames(windows or Windows())
    for each in frames:
        latest.leave(each)
    return Beside(root, list, lambda: (True, {}), NOON, latest)


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Gives a client of a server over a gallery; with users, not logged in yet."""
    with ExitStack() as stack:

        def start(root: Path, *, users: bool = False, pipeline: Beside | None = None, **settings: object) -> Client:
            config = ServerConfig(**{"logins_per_minute": 1000, **settings})
            desk = Desk(root, config, Users(root / USERS) if users else None, "cpu", pipeline)
            return stack.enter_context(Client(create_app(desk, hosts={"localhost"})))

        yield start


def add_users(root: Path, *users: tuple[str, Role, list[str] | None]) -> None:
    known = Users(root / USERS)
    for name, role, cameras in users:
        known.add(name, role, cameras, PASSWORD)


@pytest.fixture(scope="session")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run over two recordings, gate (RGB) and dock (thermal), each with one person; not to be changed."""
    folder = tmp_path_factory.mktemp("site")
    write_video(folder / "gate.mp4")
    write_thermal(folder / "dock")
    write_weights(folder / "mini.safetensors")
    output = folder / "run"
    arguments = [
        "run", "--source", f"gate={folder}/gate.mp4,start=2026-06-01T14:00:00Z",
        "--source", f"dock={folder}/dock/*.png,modality=thermal,start=2026-06-01T22:00:00Z",
        "--set", f"reid.weights={folder}/mini.safetensors", "--output", str(output), "--no-progress", "--no-video",
    ]  # fmt: skip
    assert main(arguments) == 0
    return output


@pytest.fixture
def run(recorded: Path, tmp_path: Path) -> Path:
    """A copy of that run, to be changed."""
    return Path(shutil.copytree(recorded, tmp_path / "run"))
