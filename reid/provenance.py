"""What a result was made with: software, machine, commit, and the lists of the data."""

import hashlib
import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from reid.datasets.split import TrackletSplit

PACKAGES = ("torch", "open_clip_torch", "numpy", "opencv-python", "safetensors", "scipy", "pydantic")


def environment(device: torch.device) -> dict[str, Any]:
    """Versions, machine, device, and the commit where the code lies in a git checkout; plain values, no paths."""
    return {
        "platform": platform.platform(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "cuda": torch.version.cuda if device.type == "cuda" else None,
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in PACKAGES},
        "commit": commit(),
    }


def commit() -> str | None:
    """The commit of this code, ``-dirty`` behind it where files differ; None where it is no git checkout of its own."""
    here = Path(__file__).resolve().parents[1]
    if not (here / ".git").exists():
        return None
    try:
        made = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"],  # noqa: S607 - as on PATH
            cwd=here,
            capture_output=True,
            text=True,
            check=False,
            timeout=30,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return made.stdout.strip() or None


def manifest(split: TrackletSplit, root: Path) -> dict[str, Any]:
    """Counts of a split, and a fingerprint of its lists: names of files, persons, cameras and modalities.

    The names are taken relative to ``root``, so that the same data set has the same fingerprint everywhere; what is in
    the files is not read.
    """
    digest = hashlib.sha256()
    for row, frames in enumerate(split.paths):
        who = f"{split.pids[row]} {split.camera_names[split.camids[row]]} {split.modalities[row].value}"
        names = [path.relative_to(root).as_posix() if path.is_relative_to(root) else path.as_posix() for path in frames]
        digest.update("\n".join([who, *names, ""]).encode())
    return {
        "persons": len(set(split.pids.tolist())),
        "tracklets": {modality.value: len(split.rows_of(modality)) for modality in split.modality_set},
        "frames": int(split.lengths.sum()),
        "cameras": len(set(split.camids.tolist())),
        "sha256": digest.hexdigest(),
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8", errors="replace").splitlines() if info.is_file() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
