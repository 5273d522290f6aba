"""A query by file is looked at as the run looked at the camera that recorded it."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from pipeline.build import build_extractor
from pipeline.cli import main
from pipeline.clips import Query
from pipeline.config import from_sources
from pipeline.errors import UsageError
from pipeline.filters import SearchFilter
from pipeline.query import Asked, QueryFile, SearchOptions, search, write_config
from pipeline.store import Store
from reid.modality import Modality
from tests.pipeline.footage import write_images, write_video
from tests.pipeline.recordings import scene, write_weights


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty gallery, whose camera ``dark`` shows everything in its recordings black, and ``plain`` as it is."""
    root = tmp_path_factory.mktemp("run")
    weights = write_weights(root / "mini.safetensors")
    warm = [np.repeat(scene(index).max(axis=2, keepdims=True), 3, axis=2) for index in range(60)]
    recording = write_video(root / "dark.mp4", warm)
    shutil.copy(recording, root / "clip.mp4")
    write_images(root / "stills", [np.full((60, 30), 90, np.uint8)])
    config = from_sources(
        [
            f"dark={recording},modality=thermal,thermal.low=250,thermal.high=255",
            f"plain={root}/plain.mp4,modality=thermal",
            f"hall={root}/stills,modality=nir",
        ],
        overrides=[f"reid.weights={weights}"],
    )
    write_config(root, config)
    model = build_extractor(str(weights), "cpu")
    Store.open(root, model_id=model.model_id, dimension=model.dimension, calibration=model.calibration).close()
    return root


def asked(run: Path, name: str, **known: object) -> Query:
    person = Asked((str(run / name),), file=QueryFile(**known))  # type: ignore[arg-type]
    return search(run, person, SearchFilter(), SearchOptions(device="cpu")).query


def test_a_video_of_a_named_camera_is_seen_through_its_thermal_settings(run: Path) -> None:
    assert "longest of" in asked(run, "clip.mp4", camera="plain").description
    assert asked(run, "clip.mp4", camera="plain").modality is Modality.THERMAL
    with pytest.raises(UsageError, match="nobody was tracked"):  # all is below its lower limit
        asked(run, "clip.mp4", camera="dark")


def test_a_video_of_an_unknown_camera_has_automatic_limits(run: Path) -> None:
    assert "longest of" in asked(run, "clip.mp4", modality=Modality.THERMAL).description


def test_a_recording_of_the_run_itself_is_known_by_its_path(run: Path) -> None:
    with pytest.raises(UsageError, match="nobody was tracked"):
        asked(run, "dark.mp4")
    with pytest.raises(UsageError, match="nobody was tracked"):
        asked(run, "dark.mp4", modality=Modality.THERMAL)
    assert asked(run, "dark.mp4", modality=Modality.RGB).modality is Modality.RGB  # what is said outweighs
    assert asked(run, "stills/1.png").modality is Modality.NIR


def test_an_unknown_camera_is_refused_with_the_nearest_name(run: Path) -> None:
    with pytest.raises(UsageError, match=r"--query-camera 'darc' is not one of dark, plain, hall; did you mean dark"):
        asked(run, "clip.mp4", camera="darc")


def test_the_command_names_the_camera_or_the_modality_and_not_both(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["search", str(run / "clip.mp4"), "--gallery", str(run), "--device", "cpu", "--query-camera"]
    assert main([*arguments, "plain"]) == 0
    assert "longest of" in capsys.readouterr().out
    assert main([*arguments, "dark"]) == 2
    assert "nobody was tracked" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main([*arguments, "dark", "--query-modality", "thermal"])
    assert "not allowed with" in capsys.readouterr().err


def test_what_is_said_of_a_query_file_is_refused_where_no_query_is_one(run: Path) -> None:
    person = Asked(("gate-01AB",), file=QueryFile(modality=Modality.THERMAL))
    with pytest.raises(UsageError, match="no query is a file"):
        search(run, person, SearchFilter(), SearchOptions(device="cpu"))


def test_a_picture_in_colour_is_not_taken_for_thermal(run: Path, tmp_path: Path) -> None:
    image = np.full((120, 60, 3), 90, np.uint8)
    image[20:100, 10:50] = (200, 40, 120)
    write_images(tmp_path / "seen", [image])
    (path,) = (tmp_path / "seen").glob("*.png")
    person = Asked((str(path),), file=QueryFile(modality=Modality.THERMAL, whole=True))
    with pytest.raises(UsageError, match="said to be thermal, but shows a false-colour palette"):
        search(run, person, SearchFilter(), SearchOptions(device="cpu"))
