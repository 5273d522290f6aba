"""BUPTCampus (Du et al., "Video-based Visible-Infrared Person Re-Identification with Auxiliary Samples", TIFS 2024).

``data_paths.json`` maps person, modality (``RGB``, ``IR``, ``FakeIR``), camera and tracklet to paths below ``DATA``;
``train.txt``, ``train_auxiliary.txt``, ``query.txt`` and ``gallery.txt`` choose from it, a tracklet a line:
``person modality camera tracklet``. In the first two a line of modality ``RGB/IR`` is a pair, so two tracklets.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from reid.datasets.split import DatasetError, Direction, TrackletSplit, every_direction, hold_out
from reid.datasets.text import is_number, read_text
from reid.metrics import CameraRule
from reid.modality import Modality

DATA, PATHS = "DATA", "data_paths.json"
LISTS = {"train": "train.txt", "auxiliary": "train_auxiliary.txt", "query": "query.txt", "gallery": "gallery.txt"}
CAMERAS = ("LS3", "G25", "CQ1", "W4", "TSG1", "TSG2")
MODALITY_OF = {"RGB": Modality.RGB, "IR": Modality.NIR, "FakeIR": Modality.NIR}
_LEGACY_BATCH = 64


class BuptCampusOptions(BaseModel):
    """How the lists are read.

    Attributes:
        min_frames: Shorter tracklets are left out; 2 drops those of one frame, as X-ReID's loader does.
        auxiliary: Train on ``train_auxiliary.txt`` too: persons seen by a single camera (AuxNet).
        fake_ir: Train on the near-infrared that a GAN made of the visible tracklets, too (AuxNet).
        legacy_drop_last: Evaluate without the visible tracklets beyond a multiple of 64, which the official loader
            loses: 512 and 522 valid queries, where there are 540 and 536.
        all_directions: Also rank within a modality, and all against all, as the official script does.
        val_identities: Persons of the training split that are held out as the split ``val``.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    min_frames: int = Field(default=1, ge=1)
    auxiliary: bool = False
    fake_ir: bool = False
    legacy_drop_last: bool = False
    all_directions: bool = False
    val_identities: int = Field(default=0, ge=0)


@dataclass(frozen=True, slots=True)
class Listed:
    """One tracklet of a list: the four keys of ``data_paths.json`` and where it was named."""

    pid: str
    modality: str
    camera: str
    tracklet: str
    where: str


class Lists:
    """The text files and the paths of one root; no image is looked at."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @cached_property
    def paths(self) -> Mapping[str, Any]:
        """``data_paths.json``."""
        path = self.root / PATHS
        try:
            data = json.loads(read_text(path))
        except FileNotFoundError:
            raise DatasetError(f"{path}: no such file; expected the paths of BUPTCampus") from None
        except DatasetError:
            raise
        except ValueError as error:
            raise DatasetError(f"{path}: not JSON: {error}") from error
        if not isinstance(data, dict):
            raise DatasetError(f"{path}: must map persons to their tracklets, got {type(data).__name__}")
        return data

    def listed(self, name: str) -> list[Listed]:
        """The tracklets of one list, a pair as two: all visible halves in place, each followed by its infrared one."""
        path = self.root / LISTS[name]
        if not path.is_file():
            raise DatasetError(f"{path}: no such file; expected one of the lists of BUPTCampus")
        found: list[Listed] = []
        for number, line in enumerate(read_text(path).split("\n"), start=1):
            if line.strip():
                found += _listed(f"{path}:{number}", line.split())
        return found

    def frames(self, item: Listed) -> tuple[Path, ...]:
        """The frames of a tracklet, absolute.

        Raises:
            DatasetError: When ``data_paths.json`` has none of it.
        """
        node: Any = self.paths
        for key in (item.pid, item.modality, item.camera, item.tracklet):
            node = node.get(key) if isinstance(node, dict) else None
        if not (isinstance(node, list) and node and all(isinstance(each, str) for each in node)):
            keys = " / ".join((item.pid, item.modality, item.camera, item.tracklet))
            raise DatasetError(f"{item.where}: {PATHS} lists no frame of {keys}")
        return tuple(self.root / DATA / each for each in node)

    @cached_property
    def numbers(self) -> dict[str, int]:
        """Persons by name; their own numbers, or their place in sorted order where they have none.

        Raises:
            DatasetError: When two have the same number.
        """
        if all(map(is_number, self.paths)):
            name_of: dict[int, str] = {}
            for pid in self.paths:
                if name_of.setdefault(int(pid), pid) != pid:
                    raise DatasetError(
                        f"{self.root / PATHS}: persons {name_of[int(pid)]!r} and {pid!r} are one number, {int(pid)}"
                    )
            return {pid: int(pid) for pid in self.paths}
        return {pid: number for number, pid in enumerate(sorted(self.paths))}

    @cached_property
    def cameras(self) -> tuple[str, ...]:
        """The six of BUPTCampus, or those of ``data_paths.json`` where they are others."""
        found = {camera for _, _, camera, _ in self.everything()}
        return CAMERAS if found <= set(CAMERAS) else tuple(sorted(found))

    def everything(self) -> Iterator[tuple[str, str, str, str]]:
        """Person, modality, camera and tracklet of all that ``data_paths.json`` has.

        Raises:
            DatasetError: When it is not nested so.
        """
        for pid, modalities in self.paths.items():
            for modality, cameras in self._mapping(modalities, pid).items():
                for camera, tracklets in self._mapping(cameras, f"{pid} / {modality}").items():
                    for tracklet in self._mapping(tracklets, f"{pid} / {modality} / {camera}"):
                        yield pid, modality, camera, tracklet

    def _mapping(self, value: Any, where: str) -> Mapping[str, Any]:
        if not isinstance(value, dict):
            raise DatasetError(f"{self.root / PATHS}: {where} must be a mapping, got {type(value).__name__}")
        return value


class BuptCampus:
    """BUPTCampus as a ``Dataset``: splits ``train``, ``val`` on request, ``auxiliary`` and ``test``."""

    name = "bupt_campus"
    camera_rule = CameraRule.NONE

    def __init__(self, root: Path, options: BuptCampusOptions) -> None:
        self.root, self.options = root, options
        self.lists = Lists(root)

    @property
    def splits(self) -> tuple[str, ...]:
        """Names of the splits."""
        val = ("val",) if self.options.val_identities else ()
        return ("train", *val, "auxiliary", "test")

    def split(self, name: str) -> TrackletSplit:
        """The tracklets of one split; ``test`` has those of the queries, then those of the gallery.

        Raises:
            DatasetError: When there is no such split, or its lists cannot be used.
        """
        if name not in self.splits:
            raise DatasetError(f"{self.root}: no split {name!r}; splits: {', '.join(self.splits)}")
        if name == "auxiliary":
            return self._auxiliary
        return self._test.split if name == "test" else self._training[name]

    def directions(self, name: str) -> dict[str, Direction]:
        """For ``test``, queries of one modality against the gallery of the other: ``nir->rgb`` is I2V."""
        if name != "test":
            return every_direction(self.split(name))
        split, queries = self._test.split, self._test.queries
        modalities = np.array(split.modalities, dtype=object)
        is_query = np.arange(len(split)) < queries

        def rows(modality: Modality, role: NDArray[np.bool_]) -> NDArray[np.int64]:
            found = np.flatnonzero((modalities == modality) & role).astype(np.int64)
            drops = self.options.legacy_drop_last and modality is Modality.RGB
            return found[: len(found) // _LEGACY_BATCH * _LEGACY_BATCH] if drops else found

        by_name = {each: (rows(each, is_query), rows(each, ~is_query)) for each in (Modality.RGB, Modality.NIR)}
        pairs = [(Modality.NIR, Modality.RGB), (Modality.RGB, Modality.NIR)]
        if self.options.all_directions:
            pairs += [(Modality.RGB, Modality.RGB), (Modality.NIR, Modality.NIR)]
        found = {f"{a.value}->{b.value}": Direction(by_name[a][0], by_name[b][1]) for a, b in pairs}
        if self.options.all_directions:
            both = [np.concatenate([by_name[each][role] for each in by_name]) for role in (0, 1)]
            found["all->all"] = Direction(*both)
        return found

    @cached_property
    def _training(self) -> dict[str, TrackletSplit]:
        listed = self._listed("train")
        train, held = hold_out(self._read(listed, LISTS["train"]), self.options.val_identities)
        if self.options.fake_ir:
            trained = set(train.pids.tolist())  # what is made up is nobody's query or gallery
            made_up = [Listed(each.pid, "FakeIR", each.camera, each.tracklet, each.where) for each in listed
                       if each.modality == "RGB" and self.lists.numbers[each.pid] in trained]  # fmt: skip
            train = _joined(train, self._of(made_up))
        if self.options.auxiliary:
            train = _joined(train, self._auxiliary)
        return {"train": train, "val": held}

    @cached_property
    def _auxiliary(self) -> TrackletSplit:
        return self._of(self.lists.listed("auxiliary"))

    @cached_property
    def _test(self) -> "_Test":
        queries, gallery = self._listed("query"), self._listed("gallery")
        kept = self._read(queries, LISTS["query"])
        return _Test(_joined(kept, self._read(gallery, LISTS["gallery"])), len(kept))

    def _listed(self, name: str) -> list[Listed]:
        found = self.lists.listed(name)
        if not found:
            raise DatasetError(f"{self.root / LISTS[name]}: lists no tracklet")
        return found

    def _read(self, listed: Sequence[Listed], name: str) -> TrackletSplit:
        split = self._of(listed)
        if not len(split):
            raise DatasetError(
                f"{self.root / name}: lists no tracklet of {self.options.min_frames} frames or more (min_frames)"
            )
        return split

    def _of(self, listed: Sequence[Listed]) -> TrackletSplit:
        """These tracklets, without those that are too short; none is allowed."""
        numbers, cameras = self.lists.numbers, self.lists.cameras
        found = [(each, self.lists.frames(each)) for each in listed]
        found = [(each, frames) for each, frames in found if len(frames) >= self.options.min_frames]
        return TrackletSplit(
            paths=tuple(frames for _, frames in found),
            pids=np.array([numbers[each.pid] for each, _ in found], np.int64),
            camids=np.array([cameras.index(each.camera) for each, _ in found], np.int64),
            modalities=tuple(MODALITY_OF[each.modality] for each, _ in found),
            camera_names=cameras,
        )


@dataclass(frozen=True, slots=True, eq=False)
class _Test:
    """All test tracklets; the first ``queries`` of them are the queries."""

    split: TrackletSplit
    queries: int


def _joined(first: TrackletSplit, second: TrackletSplit) -> TrackletSplit:
    return TrackletSplit(
        paths=first.paths + second.paths,
        pids=np.concatenate([first.pids, second.pids]),
        camids=np.concatenate([first.camids, second.camids]),
        modalities=first.modalities + second.modalities,
        camera_names=first.camera_names,
    )


def _listed(where: str, fields: Sequence[str]) -> list[Listed]:
    if len(fields) != 4:
        raise DatasetError(f"{where}: must be four words: person modality camera tracklet; got {' '.join(fields)!r}")
    pid, modality, camera, tracklet = fields
    halves = modality.split("/")
    unknown = [half for half in halves if half not in MODALITY_OF]
    if unknown:
        raise DatasetError(f"{where}: modality must be RGB, IR, FakeIR or RGB/IR, got {modality!r}")
    return [Listed(pid, half, camera, tracklet, where) for half in halves]
