"""What a source's name leads to, before anything is read."""

import pytest

from pipeline.build import build_sources
from pipeline.config import from_sources
from pipeline.errors import SourceError

LONG = "a" * 300


@pytest.mark.parametrize("name", [LONG, f"{LONG}.mp4", f"{LONG}.png", f"{LONG}*", f"file://{LONG}", f"{LONG}/film.mp4"])
def test_a_name_that_the_system_refuses_is_laid_to_its_camera_beside_what_is_wrong_with_others(name: str) -> None:
    config = from_sources([f"gate={name}", "yard=nothing.mp4"])
    with pytest.raises(SourceError, match=r"(?s)^camera gate: .*: File name too long\ncamera yard: .*no such file"):
        build_sources(config)
