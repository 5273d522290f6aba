"""A small filesystem, and what fills it."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

import numpy as np
import pytest

from pipeline.tracklets import Tracklet
from reid.modality import Modality
from tests.pipeline.factories import tracklet_of


@contextmanager
def mounted(folder: Path) -> Iterator[Path]:
    """A filesystem of 64 MB; skips the test where none can be mounted."""
    folder.mkdir()
    mount = shutil.which("mount")
    if os.geteuid() != 0 or mount is None:
        _cannot("mounting a filesystem of 64 MB needs root")
    command = [mount, "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(folder)]
    done = subprocess.run(command, capture_output=True, check=False)
    if done.returncode:
        _cannot(f"no filesystem of 64 MB can be mounted here: {done.stderr.decode().strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def _cannot(reason: str) -> NoReturn:
    """Skip; where FAIL_WITHOUT_MOUNT is set, as CI does where it can mount, fail."""
    if os.environ.get("FAIL_WITHOUT_MOUNT"):
        pytest.fail(reason)
    pytest.skip(reason)


def fill_to_the_brim(path: Path) -> None:
    """Write until not a byte more goes in."""
    with path.open("wb", buffering=0) as file:
        for size in (1_000_000, 4096, 1):
            while True:
                try:
                    if not file.write(bytes(size)):
                        break
                except OSError:
                    break


def large(name: str, at: float) -> Tracklet:
    """Half a megabyte of crops, which no compression makes smaller."""
    tracklet = tracklet_of(name, at=at, modality=Modality.NIR)
    image = np.random.default_rng(round(at)).integers(0, 256, (800, 640), dtype=np.uint8)
    crops = (replace(tracklet.crops[0], image=image), *tracklet.crops[1:])
    return replace(tracklet, crops=crops)
