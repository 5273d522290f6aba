"""Damaged recordings and streams, 200 of the cases of ``benchmarks/fuzz.py``."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.alone

REPOSITORY = Path(__file__).resolve().parents[2]


def test_damaged_recordings_and_streams_end_in_no_crash_no_hang_and_no_growth(tmp_path: Path) -> None:
    output = tmp_path / "fuzz.json"
    command = [sys.executable, "benchmarks/fuzz.py", "--cases", "200", "--seed", "1", "--output", str(output)]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads(output.read_text())
    assert result["cases"] == 200
    assert len(result["kept"]) == 3  # growth is one of them; the exit code says whether all are
    assert set(result["kinds"]) == {"mp4", "png", "tiff", "jpg", "npy", "sdp"}
    for kind, found in result["kinds"].items():
        assert not found["crashes"] + found["hangs"] + found["exceptions"], kind
        assert found["outcomes"]["refused"] > 0, kind
