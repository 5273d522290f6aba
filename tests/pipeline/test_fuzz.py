"""Damaged recordings and streams, 200 of the cases of ``benchmarks/fuzz.py``."""

import importlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.alone

REPOSITORY = Path(__file__).resolve().parents[2]


def test_damaged_recordings_and_streams_end_in_no_crash_and_no_hang(tmp_path: Path) -> None:
    output = tmp_path / "fuzz.json"
    command = [sys.executable, "benchmarks/fuzz.py", "--cases", "200", "--seed", "1", "--output", str(output)]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads(output.read_text())
    assert result["cases"] == 200
    assert len(result["kept"]) == 3  # the exit code says whether all are
    assert set(result["kinds"]) == {"mp4", "png", "tiff", "jpg", "npy", "sdp", "mkv", "ts"}
    for kind, found in result["kinds"].items():
        assert not found["crashes"] + found["hangs"] + found["exceptions"], kind
        assert found["outcomes"]["refused"] > 0, kind


def test_memory_does_not_grow_with_damaged_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(REPOSITORY / "benchmarks"))
    findings = importlib.import_module("fuzz").fuzz("jpg", 300, seed=1)
    assert findings.slope_kb is not None  # so many are enough to tell
    assert not findings.grows


@pytest.mark.parametrize(("leak_kb", "grows"), [(0, False), (5, False), (60, True)])
def test_a_leak_of_some_kilobytes_a_case_is_growth_however_noisy_memory_is_and_its_beginning_is_not(
    leak_kb: int, grows: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(REPOSITORY / "benchmarks"))
    findings = importlib.import_module("fuzz").Findings()
    rng, case = np.random.default_rng(0), np.arange(333)
    wander = np.convolve(rng.normal(0, 100e3, 333 + 9), np.ones(10), "valid")
    filling = 40e6 * (1 - np.exp(-case / 20))  # the pools, in the first hundred
    findings.look_at([(int(rss), 7) for rss in 110e6 + filling + wander + leak_kb * 1e3 * case])
    assert findings.grows is grows
