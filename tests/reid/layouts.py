"""Hand-made roots in the layouts of HITSZ-VCM and BUPTCampus, written from their description and nothing of ours."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np


@cache
def picture(*, grey: bool) -> bytes:
    """A small JPEG."""
    image = np.full((24, 12) if grey else (24, 12, 3), 90, np.uint8)
    return bytes(cv2.imencode(".jpg", image)[1].tobytes())


@dataclass(frozen=True)
class Vcm:
    """One tracklet of HITSZ-VCM: modality 1 is infrared, 2 visible; frames are the numbers of its files."""

    pid: int
    modality: int
    camera: int
    frames: Sequence[int]
    tracklet: int = 1

    @property
    def folder(self) -> str:
        return f"{self.pid:04d}/{'ir' if self.modality == 1 else 'rgb'}/D{self.camera}"


@dataclass(frozen=True)
class VcmRoot:
    """What is written: both splits, the folders above the persons, line ends, and lines of ``query_IDX.txt``."""

    train: Sequence[Vcm]
    test: Sequence[Vcm]
    folders: Mapping[str, str] = field(default_factory=lambda: {"train": "Train", "test": "Test"})
    newline: str = "\n"
    queries: Sequence[str] | None = None

    def write(self, root: Path) -> Path:
        (root / "info").mkdir(parents=True)
        for split, tracklets in (("train", self.train), ("test", self.test)):
            names, tracks = [], []
            for each in tracklets:
                folder = root / self.folders[split] / each.folder
                folder.mkdir(parents=True, exist_ok=True)
                start = len(names) + 1
                for number in each.frames:
                    (folder / f"{number}.jpg").write_bytes(picture(grey=each.modality == 1))
                    stem = f"{each.pid:04d}M{each.modality}D{each.camera}T{each.tracklet}"
                    names.append(f"{stem}F{number}.jpg")
                tracks.append(f"{each.modality} {start} {len(names)} {each.pid} {each.camera}")
            self._write(root / "info" / f"{split}_name.txt", names)
            self._write(root / "info" / f"track_{split}_info.txt", tracks)
        infrared = [str(row) for row, each in enumerate(self.test, start=1) if each.modality == 1]
        self._write(root / "info" / "query_IDX.txt", [" ".join(infrared)] if self.queries is None else self.queries)
        return root

    def _write(self, path: Path, lines: Sequence[str]) -> None:
        path.write_bytes("".join(line + self.newline for line in lines).encode())


def vcm_persons(*pids: int, frames: Sequence[int] = range(1, 14)) -> list[Vcm]:
    """Two cameras in each modality for each person."""
    return [Vcm(pid, modality, camera, frames) for pid in pids for modality in (1, 2) for camera in (1, 2)]


@dataclass(frozen=True)
class Bupt:
    """One tracklet of BUPTCampus."""

    pid: str
    modality: str
    camera: str
    frames: int = 3
    tracklet: str = "1"

    @property
    def keys(self) -> tuple[str, str, str, str]:
        return self.pid, self.modality, self.camera, self.tracklet


def write_bupt(
    root: Path, tracklets: Sequence[Bupt], lists: Mapping[str, Sequence[str]], *, newline: str = "\n"
) -> Path:
    """Write images, ``data_paths.json`` and the four lists, of which absent ones are empty."""
    paths: dict[str, Any] = {}
    for each in tracklets:
        pid, modality, camera, tracklet = each.keys
        stem = f"{pid}/{modality}/{camera}/{pid}_{modality}_{camera}_{tracklet}"
        files = [f"{stem}_{frame}.jpg" for frame in range(0, 5 * each.frames, 5)]
        (root / "DATA" / stem).parent.mkdir(parents=True, exist_ok=True)
        for file in files:
            (root / "DATA" / file).write_bytes(picture(grey=modality == "IR"))
        paths.setdefault(pid, {}).setdefault(modality, {}).setdefault(camera, {})[tracklet] = files
    (root / "data_paths.json").write_text(json.dumps(paths))
    for name in ("train", "train_auxiliary", "query", "gallery"):
        text = "".join(line + newline for line in lists.get(name, ()))
        (root / f"{name}.txt").write_bytes(text.encode())
    return root
