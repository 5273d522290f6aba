"""One part of a data set: tracklets with their frames, persons, cameras and modalities, checked."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from reid.modality import Modality


class DatasetError(ValueError):
    """A data set that is not laid out as it should be."""


@dataclass(frozen=True, slots=True, eq=False)
class TrackletSplit:
    """Row-aligned tracklets.

    Attributes:
        paths: The frames of each tracklet, in time order, at least one.
        pids: (n,) int64, persons.
        camids: (n,) int64, cameras, numbered as the data set does. Where it numbers the visible and the infrared ones
            alike (HITSZ-VCM, BUPTCampus), one number stands in two modalities.
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


@dataclass(frozen=True, slots=True, eq=False)
class Direction:
    """Who is looked for among whom: row numbers of a split.

    Attributes:
        query: (q,) int64.
        gallery: (g,) int64.
    """

    query: NDArray[np.int64]
    gallery: NDArray[np.int64]


def every_direction(split: TrackletSplit) -> dict[str, Direction]:
    """Every modality's tracklets against every other modality's, by ``<query>-><gallery>`` such as ``nir->rgb``."""
    rows = {modality: split.rows_of(modality) for modality in split.modality_set}
    return {f"{a.value}->{b.value}": Direction(rows[a], rows[b]) for a, b in permutations(rows, 2)}


def evenly_spaced(persons: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """``count`` of these persons, evenly spaced in their order, so that they are the same in every process."""
    return persons[np.arange(count) * len(persons) // max(count, 1)]


def hold_out(split: TrackletSplit, identities: int) -> tuple[TrackletSplit, TrackletSplit]:
    """Part a split by persons, to validate on persons that were not trained on.

    The persons held out are evenly spaced in the order of their numbers.

    Args:
        split: What is parted.
        identities: How many persons are held out.

    Returns:
        The rest, and those held out.

    Raises:
        DatasetError: When nobody would be left.
    """
    persons = np.unique(split.pids)
    if identities >= len(persons):
        raise DatasetError(f"{identities} persons cannot be held out of {len(persons)}")
    chosen = np.isin(split.pids, evenly_spaced(persons, identities))
    return split.select(np.flatnonzero(~chosen)), split.select(np.flatnonzero(chosen))
