"""All crops of a split in memory at the network's input size, kept beside the data between runs."""

import hashlib
import json
import logging
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import cv2
import numpy as np
from numpy.typing import NDArray

from reid.datasets.split import TrackletSplit
from reid.modality import Modality
from reid.transforms import Image, Preprocessing, prepare_clip

_LOG = logging.getLogger(__name__)
_AT_ONCE = 2000  # tracklets between two lines of the log


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
                files, and the preprocessing; it is written through a memory map and may be larger than memory. None
                keeps nothing and prepares into memory.
        """
        starts = np.concatenate([[0], np.cumsum(split.lengths)]).astype(np.int64)
        shape = (int(starts[-1]), *preprocessing.size_hw, 3)
        if cache is None:
            pixels = np.empty(shape, np.uint8)
            _fill(pixels, starts, split, preprocessing)
            return cls(pixels, starts)
        path = cache / f"{_digest(split, preprocessing)}.npy"
        if not path.is_file():
            _pack(path, shape, lambda pixels: _fill(pixels, starts, split, preprocessing))
        return cls(np.load(path, mmap_mode="r"), starts)


def _pack(path: Path, shape: tuple[int, ...], fill: Callable[[NDArray[np.uint8]], None]) -> None:
    """Write a file through a memory map, so that it may be larger than memory; it gets its name when it is complete."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}.", suffix=".npy")
    os.close(handle)
    try:
        pixels = np.lib.format.open_memmap(temporary, mode="w+", dtype=np.uint8, shape=shape)
        fill(pixels)
        pixels.flush()
        del pixels
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    finally:
        Path(temporary).unlink(missing_ok=True)


def _fill(
    pixels: NDArray[np.uint8], starts: NDArray[np.int64], split: TrackletSplit, preprocessing: Preprocessing
) -> None:
    """Prepare every tracklet into its rows, some at a time."""
    began = time.monotonic()

    def prepare(row: int) -> None:
        pixels[starts[row] : starts[row + 1]] = _prepare(split.paths[row], split.modalities[row], preprocessing)

    with ThreadPoolExecutor(max_workers=min(16, os.cpu_count() or 1)) as pool:
        for begin in range(0, len(split), _AT_ONCE):
            rows = range(begin, min(begin + _AT_ONCE, len(split)))
            list(pool.map(prepare, rows))
            _LOG.info("%d of %d crops read, %.0f s", starts[rows.stop], starts[-1], time.monotonic() - began)


def read_crop(path: Path, modality: Modality) -> Image:
    """Read one image file in its native form: RGB uint8 (h, w, 3), or mono uint8 or uint16 (h, w).

    Raises:
        ValueError: When it is not an image.
    """
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
        raise ValueError(f"{paths[0].parent}: {error}") from error


def _digest(split: TrackletSplit, preprocessing: Preprocessing) -> str:
    digest = hashlib.sha256(preprocessing.model_dump_json(exclude={"mean", "std", "frames", "grey"}).encode())
    for paths in split.paths:
        stamps = [(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in paths]
        digest.update(json.dumps(stamps).encode())
    return digest.hexdigest()[:16]
