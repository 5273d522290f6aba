"""Embedding a gallery anew by another model: whole or not at all, and killed at any moment it ends the same."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.audit import Actor, Audit
from pipeline.errors import GalleryMismatchError, UsageError
from pipeline.frame import Image
from pipeline.reconcile import reconcile
from pipeline.recovery import maintain
from pipeline.reindex import reindex
from pipeline.store import Cursor, Store
from reid.calibration import Calibration, Curve
from reid.modality import Modality
from tests.pipeline.factories import DIMENSION, MODEL, open_store, rejected_of, sighting_of, tracklet_of, unit

REPOSITORY = Path(__file__).parents[2]
EVE = Actor("eve")
CALIBRATION = Calibration(
    {(a, b): Curve(slope=9.0, intercept=-4.0) for n, a in enumerate(Modality) for b in list(Modality)[n:]}
)


class FakeModel:
    """Embeds by the mean brightness of each crop's rows; a tracklet's vector depends on it alone."""

    dimension = 6
    model_id = "other@sha256:fedcba9876543210"

    def __init__(self, *, most: int | None = None) -> None:
        self._left = most

    def extract(self, clips: Sequence[Sequence[Image]], modalities: Sequence[Modality]) -> NDArray[np.float32]:
        if self._left is not None:
            self._left -= len(clips)
            if self._left < 0:
                raise KeyboardInterrupt
        rows = [
            np.mean([crop.reshape(crop.shape[0], -1).mean(axis=1)[:6] for crop in clip], axis=0) - 120 for clip in clips
        ]
        return np.stack([row / np.linalg.norm(row) for row in rows]).astype(np.float32)


def fill(root: Path, count: int = 20) -> None:
    with open_store(root) as store:
        for n in range(count):
            tracklet = tracklet_of(f"gate-{n:02d}", at=10 * n, crops=1 + n % 3)
            store.add(sighting_of(tracklet, person=1 + n, vector=unit(1, n, 2, 3)))
        store.add(rejected_of(tracklet_of("gate-99", at=900, crops=0)))


def vectors(root: Path) -> NDArray[np.float32]:
    with Store.read(root) as store:
        return store.changes_since(Cursor()).vectors


def test_all_vectors_and_the_model_change_at_once(tmp_path: Path) -> None:
    fill(tmp_path)
    with Store.read(tmp_path) as reader:
        before = reader.changes_since(Cursor()).cursor
        with maintain(tmp_path) as store:
            done = reindex(store, FakeModel(), CALIBRATION, EVE)
            assert (done.embedded, done.resumed) == (20, 0)
            assert (store.model_id, store.dimension) == (FakeModel.model_id, 6)
            assert reconcile(store).differences == ()
            assert Audit(store).rows()[-1].details == {"from": MODEL, "to": FakeModel.model_id}
        changes = reader.changes_since(before)
        assert (changes.rebuilt, changes.vectors.shape) == (True, (20, 6))
    with Store.read(tmp_path) as store:
        assert store.calibration.to_dict() == CALIBRATION.to_dict()
        assert [each.person_id for each in store.tracklets()] == list(range(1, 21))
    with pytest.raises(GalleryMismatchError) as caught:
        Store.open(tmp_path, model_id=MODEL, dimension=DIMENSION)
    assert MODEL in str(caught.value)
    assert FakeModel.model_id in str(caught.value)


def test_what_was_interrupted_goes_on_and_ends_as_if_it_had_not_been(tmp_path: Path) -> None:
    fill(tmp_path / "once")
    fill(tmp_path / "twice")
    with maintain(tmp_path / "once") as store:
        reindex(store, FakeModel(), CALIBRATION, EVE, batch=4)
    with maintain(tmp_path / "twice") as store:
        before = vectors(tmp_path / "twice")
        with pytest.raises(KeyboardInterrupt):
            reindex(store, FakeModel(most=9), CALIBRATION, EVE, batch=4)
        assert np.array_equal(vectors(tmp_path / "twice"), before)  # until all are there, the old ones stay
        assert store.model_id == MODEL
    with maintain(tmp_path / "twice") as store:
        done = reindex(store, FakeModel(), CALIBRATION, EVE, batch=4)
        assert (done.embedded, done.resumed) == (13, 7)
    assert np.array_equal(vectors(tmp_path / "twice"), vectors(tmp_path / "once"))


def test_another_model_begins_anew(tmp_path: Path) -> None:
    fill(tmp_path)
    with maintain(tmp_path) as store:
        with pytest.raises(KeyboardInterrupt):
            reindex(store, FakeModel(most=9), CALIBRATION, EVE, batch=4)
        third = FakeModel()
        third.model_id = "third@sha256:0000000000000000"
        assert reindex(store, third, CALIBRATION, EVE, batch=4).resumed == 0


def test_tracklets_without_crops_are_named_before_anything_is_done(tmp_path: Path) -> None:
    fill(tmp_path, count=3)
    with maintain(tmp_path) as store:
        with store.writing() as db:
            db.execute("DELETE FROM crops WHERE tracklet_row = 2")
        with pytest.raises(UsageError, match="1 tracklets have no crops any more, gate-01 the first"):
            reindex(store, FakeModel(), CALIBRATION, EVE)
        assert store.model_id == MODEL


REINDEX = """
import sys, time
from pathlib import Path
from pipeline.audit import Actor
from pipeline.recovery import maintain
from pipeline.reindex import reindex
from tests.pipeline.test_reindex import CALIBRATION, FakeModel
sys.stdout.write("ready\\n")
sys.stdout.flush()
with maintain(Path(sys.argv[1])) as store:
    reindex(store, FakeModel(), CALIBRATION, Actor("eve"), batch=1)
"""


def test_kill_9_at_random_moments_of_reindexing(tmp_path: Path) -> None:
    fill(tmp_path / "fresh")
    fill(tmp_path / "killed")
    with maintain(tmp_path / "fresh") as store:
        reindex(store, FakeModel(), CALIBRATION, EVE, batch=1)
    moments = random.Random(7)  # noqa: S311
    killed = 0
    for _ in range(4):
        arguments = [sys.executable, "-c", REINDEX, str(tmp_path / "killed")]
        with subprocess.Popen(arguments, cwd=REPOSITORY, stdout=subprocess.PIPE) as worker:
            assert worker.stdout is not None
            worker.stdout.readline()
            time.sleep(moments.uniform(0, 0.3))
            os.kill(worker.pid, signal.SIGKILL)
            killed += worker.wait() == -signal.SIGKILL
        with maintain(tmp_path / "killed") as store:
            assert reconcile(store).differences == ()
            assert store.counts().accepted == 20
    assert killed >= 1
    with maintain(tmp_path / "killed") as store:
        reindex(store, FakeModel(), CALIBRATION, EVE, batch=1)
    assert np.array_equal(vectors(tmp_path / "killed"), vectors(tmp_path / "fresh"))
