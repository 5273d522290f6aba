"""All crops of a split in memory at the network's input size, kept beside the data between runs."""

import hashlib
import json
import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise, repeat
from pathlib import Path
from typing import Self

import cv2
import numpy as np
from numpy.typing import NDArray

from reid.datasets.split import TrackletSplit
from reid.modality import Modality
from reid.transforms import Image, Preprocessing, prepare_clip

_LOG = logging.getLogger(__name__)


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
                files, and the preprocessing. None keeps nothing.
        """
        starts = np.concatenate([[0], np.cumsum(split.lengths)]).astype(np.int64)
        path = cache / f"{_digest(split, preprocessing)}.npy" if cache else None
        if path and path.is_file():
            return cls(np.load(path, mmap_mode="r"), starts)
        height, width = preprocessing.size_hw
        pixels = np.empty((starts[-1], height, width, 3), np.uint8)
        with ThreadPoolExecutor(max_workers=2) as pool:
            clips = pool.map(_prepare, split.paths, split.modalities, repeat(preprocessing))
            for (first, end), clip in zip(pairwise(starts), clips, strict=True):
                pixels[first:end] = clip
        if path:
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary = path.with_suffix(".partial.npy")
            np.save(temporary, pixels)
            temporary.replace(path)
        _LOG.info("%d crops of %d tracklets read", len(pixels), len(split))
        return cls(pixels, starts)


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
