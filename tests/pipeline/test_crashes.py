"""The benchmarks of crashes and of readers beside a writer, in little: what they count as a fault must not occur."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).parents[2]


def measured(script: str, output: Path, *arguments: str) -> Any:
    command = [sys.executable, f"benchmarks/{script}.py", *arguments, "--output", str(output)]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return json.loads(output.read_text())


def test_kill_9_at_random_moments_and_noise_in_pages_lose_nothing(tmp_path: Path) -> None:
    found = measured("recovery", tmp_path / "result.json", "15", "--pages", "4", "--seed", "3")
    kill, noise, log = found["kill"], found["noise"], found["noise_in_the_log"]
    assert kill["kills"] == sum(kill["killed_during"].values()) == 15
    assert len(kill["killed_during"].keys() & {"insert", "delete", "reindex"}) >= 2  # of five tries each
    assert kill["done_between"]["insert"] > 0
    faults = [
        kill[name] for name in ("differences", "committed_tracklets_lost", "erased_tracklets_back", "orphans_left")
    ]
    assert faults == [0, 0, 0, 0]
    assert found["reindexed_like_fresh"]
    assert (noise["pages"], noise["differences"], noise["tracklets_lost_or_changed"]) == (4, 0, 0)
    assert (log["pages"], log["differences"], log["tracklets_lost"]) == (4, 0, 0)


def test_eight_readers_beside_a_writer_see_nothing_torn(tmp_path: Path) -> None:
    found = measured("concurrency", tmp_path / "result.json", "10", "--readers", "8")
    assert (found["errors"], found["torn_reads"], found["locked_up"], found["differences"]) == ([], [], 0, [])
    assert found["inserted"] > 0
    assert found["searches"] == found["audit_rows"] > 0
