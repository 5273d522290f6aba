"""What tests of several packages share."""

import logging
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

_REPOSITORY = Path(__file__).resolve().parents[1]
# Modules of which each takes one worker a minute or two: what begins last is what the other workers wait for.
_LONGEST_FIRST = (
    "tests/pipeline/server/page/test_page.py",
    "tests/pipeline/server/test_access.py",
    "tests/reid/test_train.py",
    "tests/reid/test_trainer.py",
    "tests/reid/test_export.py",
    "tests/pipeline/test_detectors_real.py",
    "tests/pipeline/test_cli.py",
    "tests/examples/test_examples.py",
    "tests/pipeline/server/page/test_faults.py",
)
# Tracing lines takes up to two fifths of the time of these. What they run counts as covered as far as others run it.
_NOT_TRACED = frozenset(_LONGEST_FIRST) - {"tests/pipeline/server/test_access.py", "tests/pipeline/test_cli.py"} | {
    "tests/pipeline/test_real_line.py",
    "tests/reid/test_describe.py",
    "tests/reid/test_distributed.py",
    "tests/reid/test_loading.py",
    "tests/trackers/metrics/test_against_trackeval.py",
    "tests/trackers/test_algorithms.py",
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest modules first; all others keep their order. Each has a name of its own."""
    _tell_apart(items)
    rank = {name: place for place, name in enumerate(_LONGEST_FIRST)}
    items.sort(key=lambda item: rank.get(item.nodeid.partition("::")[0], len(rank)))
    for item in items:
        if item.nodeid.partition("::")[0] in _NOT_TRACED:
            item.add_marker("no_cover")


def _tell_apart(items: list[pytest.Item]) -> None:
    """Of tests with one node id pytest-xdist runs one, and says nothing: Schemathesis gives one to all operations."""
    for item in items:
        if item.parent is not None and not item.nodeid.endswith(f"::{item.name}"):
            item._id = item.parent.id.child(item.name)
    twice = [name for name, times in Counter(item.nodeid for item in items).items() if times > 1]
    if twice:
        raise pytest.UsageError(f"tests must have names of their own, got more than one {', '.join(twice)}")


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
