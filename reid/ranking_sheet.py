"""Ranking sheets: queries beside their ten best answers, right and wrong ones marked, all directions in one picture."""

import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from reid.datasets.crops import read_crop
from reid.datasets.split import DatasetError, Direction, TrackletSplit
from reid.metrics import CameraRule, kept_in_gallery, stable_descending
from reid.modality import Modality

_TOP = 10
_THUMB_WH = (84, 168)
_GAP, _MARGIN, _CAPTION, _HEAD, _BORDER = 10, 20, 34, 40, 4
_WIDE_GAP = 34  # between the query and its answers
_BACKGROUND, _PANEL, _TEXT, _SOFT = (16, 18, 22), (30, 33, 39), (238, 240, 243), (160, 167, 176)
_RIGHT, _WRONG, _QUERY = (46, 204, 113), (231, 76, 60), (82, 155, 255)
_MODALITY = {Modality.RGB: (255, 196, 61), Modality.NIR: (186, 164, 255), Modality.THERMAL: (255, 128, 98)}


@dataclass(frozen=True, slots=True)
class Sheet:
    """What to draw.

    Attributes:
        path: A ``.png``.
        queries: Rows a direction.
        only_wrong: Draw only queries whose first answer is wrong.

    Raises:
        DatasetError: When the path is no ``.png`` in a folder that exists.
    """

    path: Path
    queries: int = 6
    only_wrong: bool = False

    def __post_init__(self) -> None:
        """Check the path: before the evaluation, whose figures would be lost."""
        if self.path.suffix.lower() != ".png" or not self.path.parent.is_dir():
            raise DatasetError(f"{self.path}: a ranking sheet must be a .png in a folder that exists")


@dataclass(frozen=True, slots=True, eq=False)
class _Row:
    """A query and its best answers, as rows of the split, with their similarities."""

    query: int
    answers: NDArray[np.int64]
    similarities: NDArray[np.float64]
    right: NDArray[np.bool_]
    first_match: int
    gallery: int


def write_sheet(
    sheet: Sheet,
    split: TrackletSplit,
    directions: Mapping[str, Direction],
    similarities: Mapping[str, NDArray[Any]],
    *,
    camera_rule: CameraRule | str,
) -> None:
    """Draw the sheet; a file of that name is replaced only once the new one is complete.

    The queries are spread evenly over those that have a match: nobody chose them.

    Args:
        sheet: What to draw, and where.
        split: Whose tracklets.
        directions: Rows of queries and galleries by direction.
        similarities: (q, g) by direction.
        camera_rule: What is taken out of the gallery, per query.

    Raises:
        DatasetError: When an image cannot be read.
    """
    chosen = {
        name: _choose(_rows(split, each, similarities[name], camera_rule), sheet) for name, each in directions.items()
    }
    picture = _draw(split, chosen)
    handle, temporary = tempfile.mkstemp(dir=sheet.path.parent, prefix=f".{sheet.path.name}.", suffix=".png")
    os.close(handle)
    try:
        picture.save(temporary, format="PNG", optimize=True)
        Path(temporary).chmod(0o644)
        Path(temporary).replace(sheet.path)
    finally:
        Path(temporary).unlink(missing_ok=True)


def _rows(
    split: TrackletSplit, direction: Direction, similarity: NDArray[Any], camera_rule: CameraRule | str
) -> list[_Row]:
    q, g = direction.query, direction.gallery
    kept = kept_in_gallery(split.pids[q], split.pids[g], split.camids[q], split.camids[g], camera_rule)
    rows = []
    for number, order in enumerate(stable_descending(similarity)):
        left = order[kept[number, order]]
        right = split.pids[g[left]] == split.pids[q[number]]
        if right.any():
            best = left[:_TOP]
            values = np.asarray(similarity[number, best], np.float64)
            first = int(right.argmax()) + 1
            rows.append(_Row(int(q[number]), g[best], values, right[:_TOP], first, len(left)))
    return rows


def _choose(rows: list[_Row], sheet: Sheet) -> list[_Row]:
    candidates = [row for row in rows if row.first_match > 1] if sheet.only_wrong else rows
    count = min(sheet.queries, len(candidates))
    return [candidates[number * len(candidates) // count] for number in range(count)]


def _draw(split: TrackletSplit, chosen: Mapping[str, list[_Row]]) -> Image.Image:
    row_height = _THUMB_WH[1] + 2 * _BORDER + _CAPTION + _GAP
    lines = sum(len(rows) for rows in chosen.values())
    cell = _THUMB_WH[0] + 2 * _BORDER + _GAP
    width = 2 * _MARGIN + (_TOP + 1) * cell + _WIDE_GAP - _GAP
    height = 2 * _MARGIN + len(chosen) * _HEAD + lines * row_height + 24
    picture = Image.new("RGB", (width, height), _BACKGROUND)
    draw = ImageDraw.Draw(picture)
    legend = "blue: query    green: the same person    red: another person    number: similarity"
    draw.text((_MARGIN, _MARGIN - 6), legend, fill=_SOFT, font=ImageFont.load_default(13))
    top = _MARGIN + 18
    for name, rows in chosen.items():
        query, gallery = name.split("->")
        draw.text((_MARGIN, top + 8), f"{query} query, {gallery} gallery", fill=_TEXT, font=ImageFont.load_default(18))
        top += _HEAD
        for row in rows:
            _draw_row(picture, split, row, top)
            top += row_height
    return picture


def _draw_row(picture: Image.Image, split: TrackletSplit, row: _Row, top: int) -> None:
    rank = f"match at rank {row.first_match}"
    _draw_cell(picture, split, row.query, (_MARGIN, top), (_QUERY, rank))
    left = _MARGIN + _THUMB_WH[0] + 2 * _BORDER + _WIDE_GAP
    for answer, value, right in zip(row.answers.tolist(), row.similarities, row.right, strict=True):
        _draw_cell(picture, split, answer, (left, top), (_RIGHT if right else _WRONG, f"{value:.3f}"))
        left += _THUMB_WH[0] + 2 * _BORDER + _GAP


def _draw_cell(
    picture: Image.Image, split: TrackletSplit, tracklet: int, at: tuple[int, int], marked: tuple[Any, str]
) -> None:
    colour, note = marked
    left, top = at
    width, height = _THUMB_WH
    draw = ImageDraw.Draw(picture)
    draw.rectangle((left, top, left + width + 2 * _BORDER - 1, top + height + 2 * _BORDER - 1), fill=colour)
    draw.rectangle((left + _BORDER, top + _BORDER, left + _BORDER + width - 1, top + _BORDER + height - 1), _PANEL)
    thumb = _thumbnail(split, tracklet)
    place = left + _BORDER + (width - thumb.width) // 2, top + _BORDER + (height - thumb.height) // 2
    picture.paste(thumb, place)
    below = top + height + 2 * _BORDER + 2
    modality = split.modalities[tracklet]
    font = ImageFont.load_default(12)
    where = f" {split.camera_names[split.camids[tracklet]]}"
    draw.text((left, below), modality.value, fill=_MODALITY[modality], font=font)
    draw.text((left + draw.textlength(modality.value, font=font), below), where, fill=_SOFT, font=font)
    draw.text((left, below + 15), f"{split.pids[tracklet]}: {note}", fill=_TEXT, font=font)


def _thumbnail(split: TrackletSplit, tracklet: int) -> Image.Image:
    """The middle frame of a tracklet, aspect ratio kept."""
    paths = split.paths[tracklet]
    path = paths[len(paths) // 2]
    try:
        pixels = read_crop(path, split.modalities[tracklet])
    except (OSError, ValueError) as error:
        raise DatasetError(f"{path}: {error}") from error
    if pixels.dtype == np.uint16:
        low, high = np.percentile(pixels, (1, 99))
        pixels = np.clip((pixels - low) / max(float(high - low), 1.0) * 255, 0, 255).astype(np.uint8)
    image = Image.fromarray(np.asarray(pixels, np.uint8)).convert("RGB")
    scale = min(_THUMB_WH[0] / image.width, _THUMB_WH[1] / image.height)
    size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    return image.resize(size, Image.Resampling.BILINEAR)
