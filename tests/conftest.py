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
    """A command run within this process sets them; the next test must not depend on which came before."""
    loggers = [logging.getLogger(name) for name in (None, "pipeline", "reid", "trackers", "simulation")]
    before = [each.level for each in loggers]
    yield
    for each, level in zip(loggers, before, strict=True):
        each.setLevel(level)
