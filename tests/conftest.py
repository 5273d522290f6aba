"""What tests of several packages share."""

import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

_REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real footage: SURVEILLANCE_DATA, else ../shared/data beside the checkout; skips where absent."""
    folder = Path(os.environ.get("SURVEILLANCE_DATA") or _REPOSITORY.parent / "shared" / "data")
    if not folder.is_dir():
        pytest.skip(f"no real footage at {folder}; set SURVEILLANCE_DATA")
    return folder


@pytest.fixture(autouse=True)
def _levels_of_loggers() -> Iterator[None]:
    """A command run within this process sets them; no test may depend on what a test or a fixture ran."""
    defaults = {None: logging.WARNING, "pipeline": 0, "reid": 0, "trackers": 0, "simulation": 0}
    for name, level in defaults.items():
        logging.getLogger(name).setLevel(level)
    yield
    for name, level in defaults.items():
        logging.getLogger(name).setLevel(level)
