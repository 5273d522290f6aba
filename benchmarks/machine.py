"""What a benchmark ran on, written beside every figure."""

import json
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any


def describe() -> dict[str, object]:
    """CPU, cores, memory, versions and the commit."""
    import psutil

    return {
        "cpu": _cpu_name(),
        "cores": psutil.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 2**30, 1),
        "os": platform.platform(terse=True),
        "python": platform.python_version(),
        "packages": {name: version(name) for name in ("torch", "opencv-python", "av", "faiss-cpu", "numpy")},
        "commit": _commit(),
    }


def keep(result: dict[str, Any], path: Path) -> None:
    """Write a benchmark's result, and print it."""
    text = json.dumps(result, indent=2)
    path.write_text(text + "\n")
    print(text)


def _cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def _commit() -> str:
    git = ["git", "describe", "--always", "--dirty", "--abbrev=12"]
    made = subprocess.run(git, capture_output=True, text=True, check=False, cwd=Path(__file__).parent)
    return made.stdout.strip() or "unknown"
