"""One picture that shows what was found: a row a person, the query first, then the nearest of other modalities."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.drawing import (
    CORRECT,
    GREY,
    MODALITY_COLOUR,
    WHITE,
    WRONG,
    Colour,
    Rgb8,
    fit,
    put_label,
    put_text,
    shortened,
    text_colour_on,
    text_wh,
    to_rgb8,
)
from pipeline.errors import ResourceError
from pipeline.sinks import write_whole
from pipeline.store import Store, StoredTracklet, read_crop
from reid.calibration import Calibration
from reid.modality import Modality

BACKGROUND: Colour = (16, 18, 22)
PANEL: Colour = (28, 31, 37)
_SOFT: Colour = (190, 196, 204)

_THUMB_WH = (92, 176)
_CELL_W = _THUMB_WH[0] + 16
_CAPTION = 14
_ROW_H = _THUMB_WH[1] + 104
_MARGIN = 20
_GAP = 26


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """A tracklet as shown.

    Attributes:
        image: RGB uint8 (h, w, 3), the best crop.
        camera_id: Which camera.
        modality: What it measures.
        start: First box, UTC.
    """

    image: Rgb8
    camera_id: str
    modality: Modality
    start: datetime


@dataclass(frozen=True, slots=True, eq=False)
class Match:
    """One answer to a query.

    Attributes:
        view: The tracklet found.
        cosine: In [-1, 1].
        probability: Calibrated.
        correct: Whether it is the query's person; None without ground truth.
    """

    view: View
    cosine: float
    probability: float
    correct: bool | None


@dataclass(frozen=True, slots=True, eq=False)
class Row:
    """A query and its answers, best first, by modality.

    Attributes:
        query: On the left.
        matches: For each other modality at most a few.
        absent: Modalities in which this person has no tracklet (known from ground truth only).
    """

    query: View
    matches: Mapping[Modality, Sequence[Match]]
    absent: frozenset[Modality] = frozenset()


@dataclass(frozen=True, slots=True)
class SheetText:
    """The words above the rows.

    Attributes:
        title: One line.
        notes: Lines below it: what one sees, how the rows were chosen, whether people are synthetic.
        timezone: Of the times shown.
    """

    title: str
    notes: tuple[str, ...]
    timezone: tzinfo = UTC


def draw(rows: Sequence[Row], text: SheetText) -> Rgb8:
    """Draw the sheet.

    Args:
        rows: From the top; all with the same modalities and at most as many matches as the first has.
        text: The header.

    Returns:
        RGB uint8; as high as the rows need.
    """
    columns = _columns(rows)
    width = 2 * _MARGIN + _CELL_W + sum(_GAP + count * _CELL_W for count in columns.values())
    width = max(width, 760)
    lines = [line for note in text.notes for line in _wrapped(note, _CAPTION, width - 2 * _MARGIN)]
    judged = any(match.correct is not None for row in rows for found in row.matches.values() for match in found)
    header = 62 + len(lines) * 20 + (30 if judged else 6) + 30
    canvas = np.full((header + len(rows) * (_ROW_H + 10) + _MARGIN, width, 3), BACKGROUND, np.uint8)
    put_text(canvas, text.title, (_MARGIN, 16), size=26, colour=WHITE)
    for number, line in enumerate(lines):
        put_text(canvas, line, (_MARGIN, 54 + number * 20), size=_CAPTION, colour=_SOFT)
    if judged:
        _draw_legend(canvas, 60 + len(lines) * 20)
    _draw_column_heads(canvas, rows, columns, header - 32)
    for number, row in enumerate(rows):
        top = header + number * (_ROW_H + 10)
        canvas[top : top + _ROW_H, _MARGIN // 2 : width - _MARGIN // 2] = PANEL
        _draw_row(canvas[top : top + _ROW_H], row, columns, text.timezone)
    return canvas


def _columns(rows: Sequence[Row]) -> dict[Modality, int]:
    """Modalities beside the query, each with the most matches that a row has."""
    found: dict[Modality, int] = {}
    for modality in Modality:
        counts = [len(row.matches[modality]) for row in rows if modality in row.matches]
        if counts:
            found[modality] = max(1, *counts)
    return found


def _wrapped(text: str, size: int, width: int) -> list[str]:
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if text_wh(longer, size)[0] <= width:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines


def _draw_legend(canvas: Rgb8, y: int) -> None:
    x = _MARGIN
    for colour, text in ((CORRECT, "the same person"), (WRONG, "somebody else")):
        cv2.rectangle(canvas, (x, y + 2), (x + 14, y + 16), colour, 3)
        put_text(canvas, text, (x + 24, y), size=_CAPTION, colour=WHITE)
        x += 24 + text_wh(text, _CAPTION)[0] + 28
    put_text(canvas, "judged by ground truth", (x, y), size=_CAPTION, colour=GREY)


def _draw_column_heads(canvas: Rgb8, rows: Sequence[Row], columns: Mapping[Modality, int], y: int) -> None:
    if not rows:
        put_text(canvas, "Nobody to show.", (_MARGIN, y), size=16, colour=WHITE)
        return
    modality = rows[0].query.modality
    put_label(
        canvas, f"{modality.value.upper()} query", (_MARGIN, y), size=_CAPTION, background=MODALITY_COLOUR[modality]
    )
    x = _MARGIN + _CELL_W
    for modality, count in columns.items():
        x += _GAP
        text = f"{modality.value.upper()}: nearest {count}" if count > 1 else f"{modality.value.upper()}: nearest"
        put_label(canvas, text, (x, y), size=_CAPTION, background=MODALITY_COLOUR[modality])
        x += count * _CELL_W


def _draw_row(canvas: Rgb8, row: Row, columns: Mapping[Modality, int], timezone: tzinfo) -> None:
    _draw_view(canvas, row.query, _MARGIN, timezone, frame=WHITE)
    x = _MARGIN + _CELL_W
    for modality, count in columns.items():
        x += _GAP
        cv2.line(canvas, (x - _GAP // 2, 10), (x - _GAP // 2, _ROW_H - 11), (60, 64, 72), 1)
        for number, match in enumerate(row.matches.get(modality, ())):
            _draw_match(canvas, match, x + number * _CELL_W, timezone)
        if modality in row.absent:
            put_text(canvas, "no tracklet of this person here", (x, _ROW_H - 17), size=12, colour=GREY)
        x += count * _CELL_W


def _draw_match(canvas: Rgb8, match: Match, x: int, timezone: tzinfo) -> None:
    frame = GREY if match.correct is None else CORRECT if match.correct else WRONG
    _draw_view(canvas, match.view, x, timezone, frame=frame)
    width, height = _THUMB_WH
    put_text(canvas, f"{match.probability:.0%}  cos {match.cosine:.2f}", (x, height + 66), size=12, colour=_SOFT)
    if match.correct is not None:
        text = "correct" if match.correct else "wrong"
        canvas[height + 11 : height + 28, x - 3 : x + width + 3] = frame
        left = x + (width - text_wh(text, 13)[0]) // 2
        put_text(canvas, text, (left, height + 11), size=13, colour=text_colour_on(frame))


def _draw_view(canvas: Rgb8, view: View, x: int, timezone: tzinfo, *, frame: Colour) -> None:
    width, height = _THUMB_WH
    canvas[10 : 10 + height, x : x + width] = fit(view.image, _THUMB_WH, background=(8, 9, 11))
    cv2.rectangle(canvas, (x - 2, 8), (x + width + 1, 11 + height), frame, 3)
    when = view.start.astimezone(timezone)
    put_text(canvas, shortened(view.camera_id, 13, width), (x, height + 31), size=13, colour=WHITE)
    put_text(canvas, f"{when:%H:%M:%S}", (x, height + 48), size=13, colour=WHITE)


@dataclass(frozen=True, slots=True)
class SheetRules:
    """What goes onto the sheet.

    Attributes:
        most_rows: People shown at most.
        per_modality: Matches shown in each other modality.
    """

    most_rows: int = 10
    per_modality: int = 3


def rows_of(
    store: Store,
    calibration: Calibration,
    *,
    truth: Mapping[str, int] | None = None,
    rules: SheetRules | None = None,
) -> tuple[list[Row], str]:
    """Choose queries and find their nearest tracklets.

    The first tracklet of each person in RGB (or in the first modality there is) is a query: of each true person when
    the truth is known, otherwise of each person that the run found. Of these, evenly many are passed over.

    Args:
        store: Of a run.
        calibration: Of the store's model.
        truth: True person by tracklet id; what is missing is nobody's in particular and never right.
        rules: Sizes.

    Returns:
        The rows, and a sentence that says how they were chosen, or why there are none.
    """
    rules = rules or SheetRules()
    tracklets = store.tracklets()
    by_modality = {m: found for m in Modality if (found := [each for each in tracklets if each.modality is m])}
    if len(by_modality) < 2:
        return [], _why_none(tracklets)
    source = next(iter(by_modality))
    queries = _first_of_each(by_modality[source], truth)
    if not queries:
        return [], f"By ground truth, no tracklet in {source.value.upper()} is anybody's."
    step = -(-len(queries) // rules.most_rows)
    chosen = queries[::step]
    rows = [_row(store, calibration, query, by_modality, truth=truth, count=rules.per_modality) for query in chosen]
    every = "every person" if step == 1 else f"every {_ordinal(step)} person"
    return (
        rows,
        f"Rows: {every} by first appearance in {source.value.upper()} ({len(chosen)} of {len(queries)}), not picked.",
    )


def _why_none(tracklets: Sequence[StoredTracklet]) -> str:
    """Of tracklets that have less than two modalities."""
    if not tracklets:
        return "Nobody was seen."
    cameras = sorted({each.camera_id for each in tracklets})
    by = f"{'camera' if len(cameras) == 1 else 'cameras'} {', '.join(cameras)}"
    return (
        f"Everybody was seen in {tracklets[0].modality.value.upper()} alone ({by}), and this picture shows who looks "
        "alike in another modality. A search finds people again within one."
    )


def _ordinal(number: int) -> str:
    suffix = "th" if number % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{suffix}"


def _first_of_each(tracklets: Sequence[StoredTracklet], truth: Mapping[str, int] | None) -> list[StoredTracklet]:
    first: dict[int, StoredTracklet] = {}
    for each in tracklets:
        person = each.person_id if truth is None else truth.get(each.tracklet_id)
        if person is not None:
            first.setdefault(person, each)
    return list(first.values())


def _row(
    store: Store,
    calibration: Calibration,
    query: StoredTracklet,
    by_modality: Mapping[Modality, Sequence[StoredTracklet]],
    *,
    truth: Mapping[str, int] | None,
    count: int,
) -> Row:
    matches: dict[Modality, list[Match]] = {}
    absent = set()
    vector = store.embeddings([query.row])[0]
    person = None if truth is None else truth.get(query.tracklet_id)
    for modality, others in by_modality.items():
        if modality is query.modality:
            continue
        cosines = store.embeddings([each.row for each in others]) @ vector
        best = np.argsort(-cosines, kind="stable")[:count]
        probability = calibration.probability(cosines[best], query.modality, modality)
        matches[modality] = [
            Match(
                view=_view(others[place]),
                cosine=float(cosines[place]),
                probability=float(value),
                correct=None if truth is None else truth.get(others[place].tracklet_id) == person,
            )
            for place, value in zip(best.tolist(), probability, strict=True)
        ]
        if truth is not None and person not in {truth.get(each.tracklet_id) for each in others}:
            absent.add(modality)
    return Row(_view(query), matches, frozenset(absent))


def _view(tracklet: StoredTracklet) -> View:
    if tracklet.best_crop is None:
        raise ResourceError(f"tracklet {tracklet.tracklet_id} was accepted, but has no crop")
    return View(to_rgb8(read_crop(tracklet.best_crop)), tracklet.camera_id, tracklet.modality, tracklet.start)


def write(path: Path, sheet: NDArray[np.uint8]) -> None:
    """Write an RGB image as PNG, whole or not at all."""
    _, data = cv2.imencode(".png", np.ascontiguousarray(sheet[..., ::-1]))
    write_whole(path, data.tobytes())


def _score(rows: Sequence[Row]) -> str:
    """How often the nearest is right, of the rows whose person was there."""
    parts = []
    for modality in _columns(rows):
        judged = [row.matches[modality][0].correct for row in rows if modality not in row.absent]
        parts.append(f"{sum(map(bool, judged))} of {len(judged)} in {modality.value.upper()}")
    return (
        f"In these rows the nearest is the same person: {', '.join(parts)} (of people who were there)." if parts else ""
    )


def write_matches(
    path: Path,
    store: Store,
    calibration: Calibration,
    *,
    truth: Mapping[str, int] | None = None,
    note: str = "",
    timezone: tzinfo = UTC,
) -> None:
    """Draw and write the contact sheet of a run; ``note`` goes into the header, such as that people are synthetic."""
    rows, how = rows_of(store, calibration, truth=truth)
    sees = (
        "Each row is one person: on the left as one camera saw them, then the tracklets of other modalities that look"
        " most like them, nearest first, with calibrated probability and cosine. Below: camera and time of recording."
    )
    title = "Found again across modalities" if rows else "Nobody to compare across modalities"
    notes = tuple(filter(None, (sees if rows else "", how, _score(rows) if truth is not None else "", note)))
    text = SheetText(title, notes, timezone)
    write(path, draw(rows, text))
