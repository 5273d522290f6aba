"""The files of tracklets: crops and records, written so that a name stands for whole content or for nothing."""

import fcntl
import hashlib
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import IO

import cv2
import numpy as np

from pipeline.errors import ResourceError
from pipeline.frame import Image
from pipeline.record import RECORD, Digest, Record, counterpart_path, crop_path
from pipeline.tracklets import Tracklet

JPEG_QUALITY = 95
_AT_A_TIME = 4  # threads that wait for the disk


def read_crop(path: Path) -> Image:
    """Read a crop as it was stored: RGB (h, w, 3) or mono (h, w), 8 or 16 bits.

    Raises:
        ResourceError: When it is gone or damaged.
    """
    data = np.frombuffer(path.read_bytes(), np.uint8) if path.is_file() else np.empty(0, np.uint8)
    image = cv2.imdecode(data, cv2.IMREAD_UNCHANGED) if len(data) else None
    if image is None:
        raise ResourceError(f"{path}: the crop is missing or damaged")
    result: Image = np.ascontiguousarray(image[..., ::-1] if image.ndim == 3 else image)  # type: ignore[assignment]
    return result


def write_record(root: Path, record: Record) -> None:
    """Write or replace the file of a tracklet, durably, and whole or not at all."""
    folder = root / record.folder
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / RECORD, record.to_json())


def write_whole(path: Path, data: bytes) -> None:
    """Write a file so that at any moment its name stands for the old or the new content, never for a part."""
    part = path.with_name(path.name + ".part")
    try:
        with held(part) as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
            part.replace(path)
    except BaseException:
        with suppress(OSError):
            part.unlink()
        raise


def held(part: Path) -> IO[bytes]:
    """A new file, locked, so that others can tell it from one that a killed process left.

    Whoever removes those may take it for one until it is locked; then it is made once more.
    """
    while True:
        file = part.open("wb")
        with suppress(OSError):  # a disk without locks
            fcntl.flock(file, fcntl.LOCK_EX)
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(file.fileno()), part.stat()):
                return file
        file.close()


def bytes_of(folder: Path) -> int:
    """Size of the files in a tracklet's folder."""
    return sum(path.stat().st_size for path in folder.iterdir())


def digest_of(path: Path) -> Digest:
    """Name, size and SHA-256 of an image."""
    content = path.read_bytes()
    return path.name, len(content), hashlib.sha256(content).hexdigest()


def write_images(folder: Path, tracklet: Tracklet) -> list[Path]:
    """Write crops and counterparts; returns the files."""
    images = {crop_path(tracklet, n): crop.image for n, crop in enumerate(tracklet.crops)}
    images |= {counterpart_path(tracklet, each): each.image for each in tracklet.counterparts}
    paths = {folder / Path(name).name: image for name, image in images.items()}
    for path, image in paths.items():
        _write_image(path, image)
    return list(paths)


def _write_image(path: Path, image: Image) -> None:
    bgr = image[..., ::-1] if image.ndim == 3 else image
    options = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY] if path.suffix == ".jpg" else []
    done, data = cv2.imencode(path.suffix, np.ascontiguousarray(bgr), options)
    if not done:
        raise ValueError(f"{path.name}: an image of {image.dtype} {image.shape} cannot be encoded")
    path.write_bytes(data.tobytes())


def part_of(folder: Path) -> Path:
    """What a tracklet's folder is called while it is being written."""
    return folder.with_name(f".{folder.name}.part")


def sync_all(paths: Sequence[Path]) -> None:
    """Make many files durable, a few at a time: the disk then commits them together, several times faster."""
    with ThreadPoolExecutor(_AT_A_TIME) as pool:
        for _ in pool.map(sync, paths):
            pass  # an error of any is raised here


def sync(path: Path) -> None:
    """Make a file's content, or the names in a folder, durable."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
