"""Whom place and time exclude: the same asked pair by pair and of whole people."""

import numpy as np
import pytest

from pipeline import evidence
from pipeline.evidence import Evidence, Whereabouts
from pipeline.ways import Way, Ways
from tests.pipeline.factories import CALIBRATION


@pytest.mark.parametrize("at_once", [3, 1000])
def test_a_person_excludes_whom_any_of_their_tracklets_excludes(monkeypatch: pytest.MonkeyPatch, at_once: int) -> None:
    monkeypatch.setattr(evidence, "_AT_ONCE", at_once)
    known = Evidence(CALIBRATION, Ways([Way(("a", "b"), 10, 20), Way(("b", "c"), 0, 5)]), travel_share=0.1)
    rng = np.random.default_rng(1)
    for _ in range(20):
        here, there = whereabouts(9, rng), whereabouts(60, rng)
        owners = rng.integers(0, 12, 60)
        impossible = np.isneginf(known.circumstances(here, there))
        expected = [[impossible[row, owners == person].any() for person in range(13)] for row in range(9)]
        assert known.excluded(here, there, owners, people=13).tolist() == expected
        assert 0 < np.sum(expected) < 9 * 12


def whereabouts(count: int, rng: np.random.Generator) -> Whereabouts:
    """Whole seconds, so that some touch and some need exactly half of the least time."""
    start = rng.integers(0, 200, count).astype(np.float64)
    return Whereabouts(rng.integers(0, 4, count), ["a", "b", "c", "d"], start, start + rng.integers(0, 9, count))
