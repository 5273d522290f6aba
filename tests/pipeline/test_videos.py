"""The annotated videos of a run."""

from pathlib import Path

import av
import pytest

from pipeline.config import from_sources
from pipeline.videos import Drawing, write_videos
from tests.pipeline.factories import open_store, sighting_of, tracklet_of
from tests.pipeline.recordings import HEIGHT, write_video


@pytest.mark.parametrize(("beside", "strip"), [("", 0), ("of the run", 77), ("of an earlier run", 77)])
def test_a_strip_of_how_another_camera_saw_them_is_only_where_there_is_another(
    tmp_path: Path, beside: str, strip: int
) -> None:
    sources = [f"gate={write_video(tmp_path / 'gate.mp4', 3)},start=2026-06-01T14:00:00Z"]
    if beside == "of the run":
        sources.append(f"yard={tmp_path}/gate.mp4,start=2026-06-01T14:00:00Z")
    config = from_sources(sources, overrides=[f"output.root={tmp_path}"])
    with open_store(tmp_path) as store:
        store.add(sighting_of(tracklet_of("gate-A")))
        if beside == "of an earlier run":
            store.add(sighting_of(tracklet_of("yard-A")))
        assert write_videos(config, store, Drawing({"gate": 3})) == {}
    with av.open(tmp_path / "video" / "gate.mp4") as container:
        height = container.streams.video[0].height
    assert height == HEIGHT + strip + (HEIGHT + strip) % 2
