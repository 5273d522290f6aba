"""All crops of a split in memory at the network's input size, kept beside the data between runs."""

import hashlib
import json
import logging
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Self

import cv2
import numpy as np
from numpy.typing import NDArray

from reid.datasets.split import DatasetError, TrackletSplit
from reid.modality import Modality
from reid.transforms import Image, Preprocessing, prepare_clip

_LOG = logging.getLogger(__name__)
_ROWS_AT_ONCE = 1024


@dataclass(frozen=True, slots=True, eq=False)
class Crops:
    """Prepared crops of all tracklets of a split, one after another.

    Attributes:
        pixels: (sum of lengths, H, W, 3) uint8; may be a read-only memory map.
        starts: (n + 1,) int64; tracklet i has the rows starts[i] to starts[i + 1].
    """

    pixels: NDArray[np.uint8]
    starts: NDArray[np.int64]

    def __post_init__(self) -> None:
        if self.pixels.ndim != 4 or self.pixels.shape[3] != 3 or self.pixels.dtype != np.uint8:
            raise ValueError(f"pixels must be uint8 (n, H, W, 3), got {self.pixels.dtype} {self.pixels.shape}")
        if self.starts[-1] != len(self.pixels):
            raise ValueError(f"starts end at {self.starts[-1]}, but there are {len(self.pixels)} crops")

    def __len__(self) -> int:
        return len(self.starts) - 1

    def __reduce__(self) -> tuple[Any, ...]:
        """A packed file goes to a worker by its name: its bytes, sent to each, would fill the memory."""
        if isinstance(self.pixels, np.memmap) and self.pixels.filename is not None:
            return _reopened, (Path(self.pixels.filename), self.pixels.shape, self.starts)
        return type(self), (self.pixels, self.starts)

    def clip(self, tracklet: int, positions: NDArray[np.int64] | None = None) -> NDArray[np.uint8]:
        """(T, H, W, 3): all crops of a tracklet, or those at these positions within it."""
        first, end = self.starts[tracklet : tracklet + 2]
        return self.pixels[first:end] if positions is None else self.pixels[first + positions]

    def length(self, tracklet: int) -> int:
        """Crops of a tracklet."""
        return int(self.starts[tracklet + 1] - self.starts[tracklet])

    @classmethod
    def load(cls, split: TrackletSplit, preprocessing: Preprocessing, *, cache: Path | None = None) -> Self:
        """Read and prepare all crops, or map those that an earlier call left in ``cache``.

        Args:
            split: Which tracklets.
            preprocessing: Size and percentiles.
            cache: A folder for ``<digest>.npy``, named by what decides its content: paths, sizes and times of the
                files, and the preprocessing. None keeps nothing and needs memory for all crops.

        Raises:
            DatasetError: When a listed file is missing or no image, or what lies in ``cache`` is damaged.
        """
        starts = np.concatenate([[0], np.cumsum(split.lengths)]).astype(np.int64)
        height, width = preprocessing.size_hw
        shape = (int(starts[-1]), height, width, 3)
        if cache is None or not len(split):
            pixels: NDArray[np.uint8] = np.empty(shape, np.uint8)
            _fill(pixels, split, preprocessing, starts)
            return cls(pixels, starts)
        path = cache / f"{_digest(split, preprocessing)}.npy"
        if not path.is_file():
            cache.mkdir(parents=True, exist_ok=True)
            _write(path, shape, partial(_fill, split=split, preprocessing=preprocessing, starts=starts))
            _LOG.info("%d crops of %d tracklets read", shape[0], len(split))
        return cls(_mapped(path, shape), starts)


def _reopened(path: Path, shape: tuple[int, ...], starts: NDArray[np.int64]) -> Crops:
    return Crops(_mapped(path, shape), starts)


def problems_of_caches(cache: Path) -> list[str]:
    """Packed crops in a folder that are not what was written there, a sentence each."""
    return [problem for path in sorted(cache.glob("*.npy")) if (problem := _problem_of(path))]


def _problem_of(path: Path) -> str | None:
    sums = path.with_suffix(".json")
    if not sums.is_file():
        return f"{path}: no checksum beside it; remove it, and the next training packs the crops again"
    try:
        wanted = json.loads(sums.read_text(encoding="utf-8"))["sha256"]
        found = _sha256(np.load(path, mmap_mode="r"))
    except (OSError, ValueError, KeyError, TypeError) as error:
        return f"{path}: unreadable: {error}"
    return None if found == wanted else f"{path}: damaged: its checksum is not the one that was written; remove it"


def _fill(
    pixels: NDArray[np.uint8], split: TrackletSplit, preprocessing: Preprocessing, starts: NDArray[np.int64]
) -> None:
    def prepare(row: int) -> None:
        # Written where it was made: finished clips never pile up in memory in front of a slow disk.
        pixels[starts[row] : starts[row + 1]] = _prepare(split.paths[row], split.modalities[row], preprocessing)

    with ThreadPoolExecutor(max_workers=min(16, os.cpu_count() or 1)) as pool:
        for _ in pool.map(prepare, range(len(split))):
            pass


def _write(path: Path, shape: tuple[int, int, int, int], fill: Callable[[NDArray[np.uint8]], None]) -> None:
    """Fill a file beside its name and give it the name when it is whole; processes may do so side by side."""
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.npy")
    try:
        pixels = np.lib.format.open_memmap(temporary, mode="w+", dtype=np.uint8, shape=shape)
        fill(pixels)
        pixels.flush()
        sums = {"sha256": _sha256(pixels), "shape": shape}
        note = temporary.with_suffix(".json")
        note.write_text(json.dumps(sums) + "\n", encoding="utf-8")
        note.replace(path.with_suffix(".json"))
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
        temporary.with_suffix(".json").unlink(missing_ok=True)


def _mapped(path: Path, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    try:
        pixels: NDArray[np.uint8] = np.load(path, mmap_mode="r")
    except ValueError as error:
        raise DatasetError(f"{path}: damaged packed crops: {error}; remove the file to have it made again") from error
    if pixels.shape != shape:
        raise DatasetError(f"{path}: packed crops must be {shape}, got {pixels.shape}; remove the file")
    return pixels


def _sha256(pixels: NDArray[np.uint8]) -> str:
    found = hashlib.sha256()
    for first in range(0, len(pixels), _ROWS_AT_ONCE):
        found.update(np.ascontiguousarray(pixels[first : first + _ROWS_AT_ONCE]).data)
    return found.hexdigest()


def read_crop(path: Path, modality: Modality) -> Image:
    """Read one image file in its native form: RGB uint8 (h, w, 3), or mono uint8 or uint16 (h, w).

    Raises:
        ValueError: When it is missing or not an image.
    """
    if not path.is_file():
        raise ValueError(f"{path}: no such file")
    flag = cv2.IMREAD_COLOR_RGB if modality.is_visible else cv2.IMREAD_ANYDEPTH | cv2.IMREAD_GRAYSCALE
    image = cv2.imdecode(np.fromfile(path, np.uint8), flag) if path.stat().st_size else None
    if image is None:
        raise ValueError(f"{path}: not an image that can be read")
    if image.dtype == np.uint8:
        return image.astype(np.uint8, copy=False)
    if image.dtype == np.uint16:
        return image.astype(np.uint16, copy=False)
    raise ValueError(f"{path}: must be 8 or 16 bits a channel, got {image.dtype}")


def _prepare(paths: Sequence[Path], modality: Modality, preprocessing: Preprocessing) -> NDArray[np.uint8]:
    try:
        return prepare_clip([read_crop(path, modality) for path in paths], modality, preprocessing)
    except ValueError as error:
        raise DatasetError(f"{paths[0].parent}: {error}") from error


def _digest(split: TrackletSplit, preprocessing: Preprocessing) -> str:
    digest = hashlib.sha256(preprocessing.model_dump_json(exclude={"mean", "std", "frames", "grey"}).encode())
    missing = [path for paths in split.paths for path in paths if not path.is_file()]
    if missing:
        raise DatasetError(
            f"{len(missing)} listed files are missing, such as {missing[0]};"
            " python -m reid.datasets check names them all"
        )
    for paths in split.paths:
        stamps = [(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in paths]
        digest.update(json.dumps(stamps).encode())
    return digest.hexdigest()[:16]
