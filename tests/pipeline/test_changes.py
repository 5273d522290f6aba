"""A new config changes cameras and pairs of a run that goes on, and nothing else."""

from typing import Any

import pytest

from pipeline.changes import Changes, changes
from pipeline.config import Config
from pipeline.errors import UsageError


def config(cameras: dict[str, dict[str, Any]], **more: Any) -> Config:
    return Config.model_validate({"version": 1, "cameras": cameras, "reid": {"weights": "xreid-tiny"}, **more})


GATE = {"source": "rtsp://user:secret@10.0.0.1/a", "modality": "rgb"}
YARD = {"source": "rtsp://10.0.0.2/a", "modality": "thermal"}
FILM = {"source": "film.mp4", "modality": "rgb"}


def test_cameras_that_come_go_and_change_are_told_apart_and_the_others_are_left_alone() -> None:
    old = config({"gate": GATE, "yard": YARD, "roof": YARD})
    new = config({"gate": GATE, "yard": YARD | {"target_fps": 5.0}, "dock": GATE})
    found = changes(old, new)
    assert found == Changes(added=("dock",), removed=("roof",), changed=("yard",))
    assert (found.closed, found.opened) == (("roof", "yard"), ("dock", "yard"))
    assert str(found) == "1 added (dock), 1 removed (roof), 1 changed (yard)"


def test_a_new_password_is_a_change_though_it_is_never_shown() -> None:
    new = config({"gate": GATE | {"source": "rtsp://user:other@10.0.0.1/a"}})
    assert changes(config({"gate": GATE}), new).changed == ("gate",)


def test_the_same_config_again_changes_nothing() -> None:
    assert str(changes(config({"gate": GATE}), config({"gate": GATE}))) == "no camera changed"


def test_pairs_may_change() -> None:
    cameras = {"gate": GATE | {"pair_id": "p"}, "yard": YARD | {"pair_id": "p"}}
    old, new = config(cameras), config(cameras, pairs={"p": {"max_skew_ms": 50.0}})
    assert changes(old, new) == Changes((), (), ())


@pytest.mark.parametrize(
    ("new", "message"),
    [
        (config({"gate": GATE}, detector={"confidence": 0.5}), "detector: changed, which takes a restart"),
        (config({"gate": GATE | {"modality": "nir"}}), "cameras.gate.modality: nir, but it is running as rgb"),
        (
            config({"gate": GATE, "film": FILM | {"source": "other.mp4"}}),
            "cameras.film: a recording that is being read",
        ),
    ],
)
def test_what_a_run_cannot_take_over_is_refused_with_the_reason(new: Config, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        changes(config({"gate": GATE, "film": FILM}), new)
