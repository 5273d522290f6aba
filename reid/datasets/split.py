"""One part of a data set: tracklets with their frames, persons, cameras and modalities, checked."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from reid.modality import Modality


@dataclass(frozen=True, slots=True, eq=False)
class TrackletSplit:
    """Row-aligned tracklets.

    Attributes:
        paths: The frames of each tracklet, in time order, at least one.
        pids: (n,) int64, persons.
        camids: (n,) int64, cameras; one camera has one modality.
        modalities: One a tracklet.
        camera_names: Of camera 0, 1, ...
    """

    paths: tuple[tuple[Path, ...], ...]
    pids: NDArray[np.int64]
    camids: NDArray[np.int64]
    modalities: tuple[Modality, ...]
    camera_names: tuple[str, ...]

    def __post_init__(self) -> None:
        count = len(self.paths)
        for name, array in (("pids", self.pids), ("camids", self.camids)):
            if array.shape != (count,) or array.dtype != np.int64:
                raise ValueError(f"{name} must be int64 ({count},) to fit paths, got {array.dtype} {array.shape}")
        if len(self.modalities) != count:
            raise ValueError(f"modalities must be {count} to fit paths, got {len(self.modalities)}")
        empty = [row for row, frames in enumerate(self.paths) if not frames]
        if empty:
            raise ValueError(f"tracklet {empty[0]} (and {len(empty) - 1} more) has no frame")
        if count and not (self.camids.min() >= 0 and self.camids.max() < len(self.camera_names)):
            raise ValueError(f"camids must be within the {len(self.camera_names)} camera_names")
        self._check_cameras()

    def _check_cameras(self) -> None:
        seen: dict[int, Modality] = {}
        for camid, modality in zip(self.camids.tolist(), self.modalities, strict=True):
            if seen.setdefault(camid, modality) is not modality:
                name = self.camera_names[camid]
                raise ValueError(f"camera {name!r} has two modalities, {seen[camid].value} and {modality.value}")

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Frames of each tracklet, (n,)."""
        return np.array([len(frames) for frames in self.paths], np.int64)

    @property
    def modality_set(self) -> tuple[Modality, ...]:
        """The modalities that occur, in the order of ``Modality``."""
        return tuple(modality for modality in Modality if modality in self.modalities)

    def rows_of(self, modality: Modality) -> NDArray[np.int64]:
        """Row numbers of one modality's tracklets."""
        return np.array([row for row, own in enumerate(self.modalities) if own is modality], np.int64)

    def select(self, rows: Sequence[int] | NDArray[np.int64]) -> Self:
        """The tracklets at these rows, in this order."""
        index = np.asarray(rows, np.int64)
        return type(self)(
            paths=tuple(self.paths[row] for row in index),
            pids=self.pids[index],
            camids=self.camids[index],
            modalities=tuple(self.modalities[row] for row in index),
            camera_names=self.camera_names,
        )

    def __str__(self) -> str:
        """Counts, for the log."""
        parts = [f"{len(self.rows_of(modality))} {modality.value}" for modality in self.modality_set]
        return f"{len(set(self.pids.tolist()))} persons, {len(self)} tracklets ({', '.join(parts)})"
