"""Tracklets on disk as HITSZ-VCM and BUPTCampus lay them out: where frames lie, the lists, and the counts of both."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

Light = Literal["rgb", "nir"]
VCM, BUPT = "hitsz_vcm", "bupt_campus"
_VCM_MODALITY = {"nir": (1, "ir"), "rgb": (2, "rgb")}
_BUPT_MODALITY = {"nir": "IR", "rgb": "RGB"}
_FRAME_STEP = 5  # between numbers of frames that follow each other, as in HITSZ-VCM


@dataclass(frozen=True)
class Filmed:
    """One tracklet.

    Attributes:
        split: train, test or auxiliary.
        pid: The person's number, from 1, of one count for all splits.
        modality: rgb or nir.
        camera: From 1; one number for both modalities of a place.
        tracklet: From 1, within person, camera and modality.
        moments: (n,) when its frames were taken, not contiguous.
        is_query: Whether BUPTCampus' lists make it a query.
    """

    split: str
    pid: int
    modality: Light
    camera: int
    tracklet: int
    moments: tuple[int, ...]
    is_query: bool

    @property
    def numbers(self) -> list[int]:
        """Of its frames, from 1, with gaps."""
        return [1 + _FRAME_STEP * moment for moment in self.moments]

    def vcm_paths(self) -> list[str]:
        """Of its frames, relative to the root of the HITSZ-VCM layout."""
        part, modality = "Train" if self.split == "train" else "Test", _VCM_MODALITY[self.modality][1]
        return [f"{part}/{self.pid:04d}/{modality}/D{self.camera}/{number}.jpg" for number in self.numbers]

    def bupt_paths(self) -> list[str]:
        """Of its frames, relative to ``DATA`` of the BUPTCampus layout."""
        modality, camera = _BUPT_MODALITY[self.modality], f"S{self.camera}"
        stem = f"{self.pid}/{modality}/{camera}/{self.pid}_{modality}_{camera}_{self.tracklet}"
        return [f"{stem}_{number}.jpg" for number in self.numbers]

    @property
    def vcm_names(self) -> list[str]:
        """Of its frames, as the name file lists them."""
        stem = f"{self.pid:04d}M{_VCM_MODALITY[self.modality][0]}D{self.camera}T{self.tracklet}"
        return [f"{stem}F{number}.jpg" for number in self.numbers]


def write_vcm_lists(root: Path, filmed: Sequence[Filmed]) -> None:
    """Write ``info``: name files, track files and the queries, which are the infrared tracklets."""
    (root / "info").mkdir(parents=True)
    for split in ("train", "test"):
        names: list[str] = []
        tracks: list[str] = []
        queries: list[str] = []
        for row, each in enumerate(_of(filmed, split), start=1):
            start = len(names) + 1
            names += each.vcm_names
            modality = _VCM_MODALITY[each.modality][0]
            tracks.append(f"{modality} {start} {len(names)} {each.pid} {each.camera}")
            queries += [str(row)] if each.modality == "nir" else []
        _write_lines(root / "info" / f"{split}_name.txt", names)
        _write_lines(root / "info" / f"track_{split}_info.txt", tracks)
    _write_lines(root / "info" / "query_IDX.txt", [" ".join(queries)])


def write_bupt_lists(root: Path, filmed: Sequence[Filmed]) -> None:
    """Write ``data_paths.json`` and the four lists; the pairs of a training list share camera and tracklet."""
    paths: dict[str, Any] = {}
    for each in filmed:
        by_camera = paths.setdefault(str(each.pid), {}).setdefault(_BUPT_MODALITY[each.modality], {})
        by_camera.setdefault(f"S{each.camera}", {})[str(each.tracklet)] = each.bupt_paths()
    (root / "data_paths.json").write_text(json.dumps(paths) + "\n", encoding="utf-8")
    for name, split in (("train", "train"), ("train_auxiliary", "auxiliary")):
        pairs = [each for each in _of(filmed, split) if each.modality == "rgb"]
        _write_lines(root / f"{name}.txt", [_bupt_line(each, "RGB/IR") for each in pairs])
    for name, queries in (("query", True), ("gallery", False)):
        chosen = [each for each in _of(filmed, "test") if each.is_query is queries]
        _write_lines(root / f"{name}.txt", [_bupt_line(each, _BUPT_MODALITY[each.modality]) for each in chosen])


def counts(filmed: Sequence[Filmed]) -> dict[str, dict[str, dict[str, int]]]:
    """What a checker should find, by layout and list."""
    test = _of(filmed, "test")
    return {
        VCM: {split: _counted(_of(filmed, split)) for split in ("train", "test")}
        | {"queries": {"tracklets": sum(each.modality == "nir" for each in test)}},
        BUPT: {
            "train": _counted(_of(filmed, "train")),
            "auxiliary": _counted(_of(filmed, "auxiliary")),
            "query": _counted([each for each in test if each.is_query]),
            "gallery": _counted([each for each in test if not each.is_query]),
        },
    }


def _counted(filmed: Sequence[Filmed]) -> dict[str, int]:
    found = {"identities": len({each.pid for each in filmed})}
    for modality in ("rgb", "nir"):
        own = [each for each in filmed if each.modality == modality]
        found[f"{modality}_tracklets"] = len(own)
        found[f"{modality}_frames"] = sum(len(each.moments) for each in own)
    return found


def _of(filmed: Iterable[Filmed], split: str) -> list[Filmed]:
    """The tracklets of a split: by person, infrared before visible, by camera."""
    own = [each for each in filmed if each.split == split]
    return sorted(own, key=lambda each: (each.pid, each.modality, each.camera, each.tracklet))


def _bupt_line(each: Filmed, modality: str) -> str:
    return f"{each.pid} {modality} S{each.camera} {each.tracklet}"


def _write_lines(path: Path, lines: Sequence[str]) -> None:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="ascii")
