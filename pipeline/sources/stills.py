"""Finding and reading images: files, numbered files, the pages of a TIFF, NumPy arrays."""

import glob
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any, cast

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.frame import IMAGE_SUFFIXES, Image
from pipeline.sources.arrays import ArrayFile, array_file

ARRAY_SUFFIX = ".npy"
SUFFIXES = IMAGE_SUFFIXES | {ARRAY_SUFFIX}

READ_UPRIGHT = cv2.IMREAD_ANYCOLOR | cv2.IMREAD_ANYDEPTH  # as stored, but turned as EXIF says, and without transparency

_GLOB_CHARACTERS = frozenset("*?[")
_NUMBER = re.compile(r"%(0\d{1,2})?d")
_VIDEO_SUFFIXES = frozenset(
    {".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".ts", ".mts", ".m2ts", ".mpg", ".flv", ".h264", ".hevc"}
)  # a few of those that FFmpeg reads: only for advice
_MOST_PAGES = 1_000_000
_MOST_BYTES = 2**32  # of the file of one image
_MOST_TOGETHER = 1024  # pages that are read at a time
_TOGETHER_BYTES = 2**26


@dataclass(frozen=True, slots=True)
class Still:
    """One image of a sequence.

    Attributes:
        position: In the sequence, from 0; a missing number leaves a gap.
        path: The file; it may be missing.
        page: Of a TIFF, or the first index of an array, where the file holds several.
    """

    position: int
    path: Path
    page: int | None = None

    def __str__(self) -> str:
        return str(self.path) if self.page is None else f"{self.path}[{self.page}]"


def is_glob(text: str) -> bool:
    """Whether the text has wildcards."""
    return not _GLOB_CHARACTERS.isdisjoint(text)


def is_numbered(text: str) -> bool:
    """Whether the text has a place for a number, as ``img_%04d.png``."""
    return len(_NUMBER.findall(Path(text).name)) == 1


def find(pattern: str) -> tuple[list[Still], str]:
    """The images of a folder, a glob, a numbered sequence or a file, in order.

    Returns:
        Them, and what is wrong if there is none.

    Raises:
        OSError: When a folder cannot be read.
    """
    path = Path(pattern)
    if path.is_dir():
        there = list(path.iterdir())
        return _all_of(_images(there)), f"{path} is a folder without images{_instead(there)}"
    if path.is_file():
        return _all_of([path]), f"{path} holds no image"
    if is_numbered(pattern):
        return _numbered(path)
    if is_glob(pattern):
        there = [Path(name) for name in glob.glob(pattern, recursive=True)]  # noqa: PTH207 (absolute patterns)
        what = f"no file matches {pattern}" if not there else f"{pattern} matches no image{_instead(there)}"
        return _all_of(_images(there)), what
    return [], f"{path}: no such file or folder"


def _images(paths: list[Path]) -> list[Path]:
    """Regular files by the names that images have: beside them may lie anything, and a pipe would be waited for."""
    return [each for each in paths if each.suffix.lower() in SUFFIXES and each.is_file()]


def _instead(paths: list[Path]) -> str:
    """What images would be called, and what to do with videos if that is what lies there."""
    videos = sorted(each.name for each in paths if each.suffix.lower() in _VIDEO_SUFFIXES)
    names = f" ({', '.join(sorted(SUFFIXES))})"
    if not videos:
        return names
    return (
        f"{names}, but with {len(videos)} video file{'s' if len(videos) > 1 else ''} ({videos[0]}): several are not "
        "read as one camera; give each a camera of its own, or join those that follow one another (ffmpeg -f concat) "
        "and name the file"
    )


def _all_of(paths: list[Path]) -> list[Still]:
    pages = ((path, page) for path in sorted(paths, key=_natural_order) for page in _pages(path))
    return [Still(position, path, page) for position, (path, page) in enumerate(pages)]


def _pages(path: Path) -> Iterator[int | None]:
    """The pages of a file that holds several; None for one that holds one image, or that cannot be read."""
    count = 0
    if path.suffix.lower() == ARRAY_SUFFIX:
        array = array_file(path)
        if array is not None and len(array.shape) >= 3 and not _is_colour(array):
            count = array.shape[0]
            if count <= _MOST_PAGES:
                yield from range(count)
                return
    elif path.suffix.lower() in (".tif", ".tiff"):
        count = _tiff_pages(path)
    if 1 < count <= _MOST_PAGES:
        yield from range(count)
    else:
        yield None


def _tiff_pages(path: Path) -> int:
    try:
        return int(cv2.imcount(str(path)))
    except cv2.error:
        return 0


def _numbered(pattern: Path) -> tuple[list[Still], str]:
    """From the least number to the greatest, and what is wrong; those that are missing stand in their places.

    A % in the name is one, and so is %%, as FFmpeg writes it.
    """
    place = _NUMBER.search(pattern.name)
    if place is None:
        return [], f"{pattern} has no place for a number"
    before, after = (part.replace("%%", "%") for part in (pattern.name[: place.start()], pattern.name[place.end() :]))
    expression = re.compile(re.escape(before) + r"(\d+)" + re.escape(after))

    def named(number: int) -> str:
        return f"{before}{place[0] % number}{after}"

    none = f"no file is numbered {pattern}"
    if not pattern.parent.is_dir():
        return [], none
    numbers = sorted(
        int(match[1])
        for each in pattern.parent.iterdir()
        if (match := expression.fullmatch(each.name)) and each.name == named(int(match[1]))
    )
    if not numbers:
        return [], none
    span = range(numbers[0], numbers[-1] + 1)
    if len(span) > _MOST_PAGES:
        return [], (
            f"{pattern}: its {len(numbers)} files are numbered from {span[0]} to {span[-1]}, and each number is a "
            f"frame, of which at most {_MOST_PAGES} are taken; numbers that are times, or leave out so many, are read "
            f"one after the other by a glob: {before}*{after}"
        )
    return [Still(number - span[0], pattern.with_name(named(number))) for number in span], ""


def read(still: Still) -> Image | None:
    """An image as OpenCV reads it (mono or BGR; 8 or 16 bits), turned as EXIF says; None when it cannot be read."""
    image = _read_array(still) if still.path.suffix.lower() == ARRAY_SUFFIX else _read_image(still)
    return _usable(image)


def _usable(image: NDArray[Any] | None) -> Image | None:
    if image is None or image.dtype not in (np.uint8, np.uint16) or image.ndim not in (2, 3) or not image.size:
        return None
    return cast("Image", image)


def read_in_order(stills: Sequence[Still]) -> Iterator[tuple[Still, Image | None]]:
    """Each image of a sequence as ``read`` gives it.

    The pages of a TIFF are read many at a time: to reach one, OpenCV goes through all before it.
    """
    at, count = 0, 1
    while at < len(stills):
        pages = _read_pages(stills[at : at + count]) if count > 1 else None
        if pages is None:
            pages = [read(stills[at])]
        yield from zip(stills[at : at + len(pages)], pages, strict=True)
        at += len(pages)
        count = _next_together(stills, at, max((page.nbytes for page in pages if page is not None), default=0))


def _next_together(stills: Sequence[Still], at: int, page_bytes: int) -> int:
    """How many pages of one TIFF come next, as far as they fit into memory if they are as large as those before."""
    if at >= len(stills) or stills[at].page is None or stills[at].path.suffix.lower() == ARRAY_SUFFIX or not page_bytes:
        return 1
    first, most = stills[at], max(min(_MOST_TOGETHER, _TOGETHER_BYTES // page_bytes), 1)
    alike = takewhile(lambda each: each.path == first.path, stills[at : at + most])
    return sum(1 for _ in alike)


def _read_pages(stills: Sequence[Still]) -> list[Image | None] | None:
    """Successive pages of one TIFF; None where not all can be read, and each must be tried alone."""
    try:
        done, pages = cv2.imreadmulti(
            str(stills[0].path), start=cast("int", stills[0].page), count=len(stills), flags=READ_UPRIGHT
        )
    except cv2.error:
        return None
    return [_usable(page) for page in pages] if done and len(pages) == len(stills) else None


def _read_image(still: Still) -> NDArray[Any] | None:
    try:
        if still.page is None:
            if not still.path.is_file() or still.path.stat().st_size > _MOST_BYTES:
                return None
            # imread itself refuses a TIFF that is to be turned
            return cast("NDArray[Any] | None", cv2.imdecode(np.fromfile(still.path, np.uint8), READ_UPRIGHT))
        done, pages = cv2.imreadmulti(str(still.path), start=still.page, count=1, flags=READ_UPRIGHT)
    except (cv2.error, OSError, MemoryError):  # damaged, or more pixels than OpenCV is willing to read; missing
        return None
    return cast("NDArray[Any]", pages[0]) if done and pages else None


def kind_of(still: Still) -> str:
    """What a file of an array holds, such as ``float32 (60, 288, 384)``; empty for any other file."""
    array = array_file(still.path) if still.path.suffix.lower() == ARRAY_SUFFIX else None
    return "" if array is None else f"{array.dtype} {array.shape}"


def _is_colour(array: ArrayFile) -> bool:
    """Whether an array of three dimensions is one image in colour, rather than several in grey."""
    return len(array.shape) == 3 and array.shape[2] == 3


def _read_array(still: Still) -> NDArray[Any] | None:
    array = array_file(still.path)
    image = None if array is None else array.page(still.page)
    counts = None if image is None else _as_counts(image)
    if counts is None or counts.ndim not in (2, 3) or (counts.ndim == 3 and counts.shape[2] != 3):
        return None
    return np.ascontiguousarray(counts[..., ::-1] if counts.ndim == 3 else counts)  # arrays hold RGB


def _as_counts(image: NDArray[Any]) -> NDArray[Any] | None:
    """Whole numbers as uint8 or uint16; None when they do not fit."""
    if image.dtype == np.uint8:
        return image
    may_not_fit = image.dtype.kind == "i" or image.dtype.itemsize > 2
    if may_not_fit and (int(image.min()) < 0 or int(image.max()) > 65535):
        return None
    return image.astype(np.uint16)


def as_mono(image: Image) -> Image:
    """The luma of an image as OpenCV reads it, (h, w); where the channels are equal, that is each of them.

    Args:
        image: Mono, BGR or BGRA, 8 or 16 bits.
    """
    if image.ndim == 2:
        return image
    return cast("Image", cv2.cvtColor(image, cv2.COLOR_BGRA2GRAY if image.shape[2] == 4 else cv2.COLOR_BGR2GRAY))


def bits_in_use(image: Image) -> int:
    """By how many bits the levels of an image may be told: no file says how many of its 16 a camera fills."""
    top = int(image.max())
    return next((bits for bits in (8, 10, 12, 14) if top < 1 << bits), 16)


def as_rgb(image: Image, *, bits: int = 16) -> Image:
    """The door at which BGR dies.

    Args:
        image: Mono, BGR or BGRA, 8 or 16 bits.
        bits: Of the levels of one of 16 bits; brighter ones are white.
    """
    if image.dtype == np.uint16:
        image = np.minimum(image >> (bits - 8), 255).astype(np.uint8)
    channels = 1 if image.ndim == 2 else image.shape[2]
    code = {1: cv2.COLOR_GRAY2RGB, 3: cv2.COLOR_BGR2RGB, 4: cv2.COLOR_BGRA2RGB}[channels]
    return cast("Image", cv2.cvtColor(image, code))


def _natural_order(path: Path) -> tuple[str, list[tuple[bool, int, str]]]:
    parts = re.split(r"(\d+)", path.name)
    return str(path.parent), [(part.isdecimal(), int(part) if part.isdecimal() else 0, part) for part in parts]
