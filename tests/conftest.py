"""What tests of several packages share."""

import os
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
