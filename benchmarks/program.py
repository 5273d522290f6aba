"""The whole program in a process of its own, as an operator runs it, seen through its log and its metrics."""

import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml

from simulation.site import MARKER

ROOT = Path(__file__).resolve().parent.parent
SITE_CONFIG = ROOT / "configs" / "simulation" / "soak.yaml"
PATIENCE_SECONDS = 120.0


def rendered(site: Path) -> Path:
    """The synthetic site of the soak; drawn when it is not there."""
    if not (site / MARKER).is_file():
        command = [sys.executable, "-m", "simulation", "site", "--config", str(SITE_CONFIG), "--output", str(site)]
        subprocess.run(command, cwd=ROOT, check=True)
    return site


class Program:
    """`run_pipeline.py run` with the embedded weights and its metrics on loopback."""

    def __init__(self, folder: Path, settings: Mapping[str, Any], *arguments: str) -> None:
        """Start it.

        Args:
            folder: Where its config, its log and its results (`run`) lie.
            settings: Of the config, the cameras among them.
            arguments: More of them for the command.
        """
        config, self.output, self.log = folder / "site.yaml", folder / "run", folder / "log.txt"
        whole = {"version": 1, "reid": {"weights": "xreid-tiny"}, "monitoring": {"port": 0}, **settings}
        config.write_text(yaml.safe_dump(whole))
        command = [sys.executable, "run_pipeline.py", "run", "--config", str(config), "--output", str(self.output)]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        with self.log.open("wb") as log:
            self.child = subprocess.Popen(
                [*command, "--no-progress", *arguments], cwd=ROOT, env=environment, stdout=log, stderr=log
            )

    @property
    def page(self) -> str:
        """The address of its page; empty before it listens."""
        found = re.search(r"http://127\.0\.0\.1:\d+(?=/?\s)", self.log.read_text())
        return found[0] if found else ""

    def counts(self, metric: str) -> dict[str, float]:
        """One of its metrics, summed by camera; empty while it cannot be asked."""
        port = re.search(r"http://127\.0\.0\.1:(\d+)/metrics", self.log.read_text())
        if port is None:
            return {}
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port[1]}/metrics", timeout=10) as answer:
                text = answer.read().decode()
        except OSError:
            return {}
        sums: dict[str, float] = {}
        for name, count in re.findall(rf'^{metric}\{{camera="(\w+)".*\}} (\S+)$', text, re.MULTILINE):
            sums[name] = sums.get(name, 0.0) + float(count)
        return sums

    def until(self, done: Callable[[], bool]) -> float:
        """Wait; returns the seconds that it took."""
        started = time.monotonic()
        while not done():
            if self.child.poll() is not None or time.monotonic() - started > PATIENCE_SECONDS:
                raise RuntimeError(f"the program does not go on:\n{self.log.read_text()}")
            time.sleep(0.05)
        return time.monotonic() - started

    def stop(self) -> int:
        """Tell it to end; returns the exit code."""
        self.child.send_signal(signal.SIGTERM)
        return self.child.wait(timeout=60)
