"""Tracklets of a gallery, with the identities that an operator confirmed, as a data set to fine-tune on.

The pipeline's own persons are guesses, and a network that is trained on its own guesses learns its own mistakes. So the
identities come from a table that an operator has filled in: ``draft`` writes it with a row for each tracklet and the
guess beside it, and ``export`` takes the rows that have a person.
"""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from pipeline.errors import UsageError
from pipeline.identify import person_name
from pipeline.store import Store, StoredTracklet
from reid.datasets.folder import FolderTracklet, write_folder
from reid.datasets.split import DatasetError, evenly_spaced
from reid.datasets.text import read_table
from reid.datasets.vcm_writer import VcmTracklet, write_vcm
from reid.modality import Modality

Layout = Literal["hitsz_vcm", "folder"]
COLUMNS = ("tracklet_id", "person", "guess", "camera", "modality", "start", "end", "best_crop")
_README = """\
Tracklets of this site's cameras with identities that an operator confirmed, exported from {root}.
{cameras}
Persons are numbered in identities.csv. The images show real people: keep them as the gallery itself is kept.
"""


@dataclass(frozen=True, slots=True)
class Exported:
    """What was written.

    Attributes:
        persons: Confirmed persons.
        held_out: Those of them that are kept from training.
        tracklets: By modality.
        both_modalities: Persons who were seen in visible light and in infrared, which training across needs.
        left_out: Confirmed tracklets of a modality that the layout does not have, or without any image.
    """

    persons: int
    held_out: int
    tracklets: Mapping[Modality, int]
    both_modalities: int
    left_out: int


def draft(root: Path, table: Path) -> int:
    """Write the table that an operator fills in: one row a tracklet, ``person`` empty; returns the number of rows.

    Raises:
        UsageError: When there is no gallery, or the table exists: an operator's work is not overwritten.
    """
    with Store.read(root) as store:
        found = store.tracklets()
    found.sort(key=lambda each: (each.person_id or 0, each.start, each.tracklet_id))
    try:
        with table.open("x", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(COLUMNS)
            writer.writerows(_draft_row(each) for each in found)
    except FileExistsError:
        raise UsageError(f"{table}: exists already; choose another file") from None
    except FileNotFoundError:
        raise UsageError(f"{table}: there is no folder {table.parent}; make it, or choose another file") from None
    return len(found)


def _draft_row(each: StoredTracklet) -> tuple[str, ...]:
    guess = "" if each.person_id is None else person_name(each.person_id)
    times = each.start.isoformat(), each.end.isoformat()
    return (each.tracklet_id, "", guess, each.camera_id, each.modality.value, *times, str(each.best_crop or ""))


def read_confirmed(table: Path) -> dict[str, str]:
    """Persons by tracklet, of the rows that name one.

    Raises:
        UsageError: When the table is missing or malformed, or names two persons for one tracklet.
    """
    if not table.is_file():
        raise UsageError(f"{table}: no such file; `export --draft` writes a table to fill in")
    found: dict[str, str] = {}
    try:
        columns, rows = read_table(table)
    except DatasetError as error:
        raise UsageError(str(error)) from error
    if not {"tracklet_id", "person"} <= set(columns):
        raise UsageError(f"{table}:1: must have the columns tracklet_id and person, got {columns}")
    for line, row in rows:
        tracklet, person = (row["tracklet_id"] or "").strip(), (row["person"] or "").strip()
        if person and found.setdefault(tracklet, person) != person:
            raise UsageError(f"{table}:{line}: tracklet {tracklet} is {found[tracklet]!r} and {person!r}")
    return found


def export(
    root: Path, confirmed: Mapping[str, str], output: Path, *, layout: Layout = "hitsz_vcm", held_out: float = 0.2
) -> Exported:
    """Write the confirmed tracklets as a data set; ``output`` appears when it is whole.

    Args:
        root: The gallery's folder.
        confirmed: Persons by tracklet id.
        output: Must not exist.
        layout: ``hitsz_vcm`` has visible light and near-infrared; ``folder`` has thermal too.
        held_out: Share of the persons with both sides that become the test split (``val`` of a folder), evenly spaced.

    Raises:
        UsageError: When nothing is confirmed, a tracklet is not in the gallery, or the output exists.
    """
    if not confirmed:
        raise UsageError("no tracklet has a confirmed person; fill in the column person of the table")
    with Store.read(root) as store:
        tracklets = [store.tracklet(name) for name in sorted(confirmed)]
        frames = {each.tracklet_id: tuple(store.crops(each.tracklet_id)) for each in tracklets}
    known = [each for each in tracklets if frames[each.tracklet_id] and _has(layout, each.modality)]
    if not known:
        raise UsageError(f"none of the {len(tracklets)} confirmed tracklets can be written in the layout {layout}")
    numbers = _numbers(sorted({confirmed[each.tracklet_id] for each in known}))
    pids = [numbers[confirmed[each.tracklet_id]] for each in known]
    both = _seen_both_ways(known, pids)
    held = set(evenly_spaced(np.array(both, np.int64), round(held_out * len(both))).tolist())
    rows = [_Row(each, pid, frames[each.tracklet_id], pid in held) for each, pid in zip(known, pids, strict=True)]
    try:
        _write(rows, numbers, output, layout=layout, root=root)
    except DatasetError as error:
        raise UsageError(str(error)) from error
    return Exported(
        persons=len(numbers),
        held_out=len(held),
        tracklets={each: count for each in Modality if (count := sum(row.of.modality is each for row in rows))},
        both_modalities=len(both),
        left_out=len(tracklets) - len(known),
    )


@dataclass(frozen=True, slots=True)
class _Row:
    of: StoredTracklet
    pid: int
    frames: tuple[Path, ...]
    held: bool


def _has(layout: Layout, modality: Modality) -> bool:
    return layout == "folder" or modality is not Modality.THERMAL


def _numbers(persons: Sequence[str]) -> dict[str, int]:
    return {person: number for number, person in enumerate(persons, start=1)}


def _seen_both_ways(tracklets: Sequence[StoredTracklet], pids: Sequence[int]) -> list[int]:
    visible = {pid for each, pid in zip(tracklets, pids, strict=True) if each.modality.is_visible}
    other = {pid for each, pid in zip(tracklets, pids, strict=True) if not each.modality.is_visible}
    return sorted(visible & other)


def _write(rows: Sequence[_Row], numbers: Mapping[str, int], output: Path, *, layout: Layout, root: Path) -> None:
    cameras = _numbers(sorted({row.of.camera_id for row in rows}))
    named = ", ".join(f"D{number} is {camera}" for camera, number in cameras.items())
    head = f"Cameras: {named}." if layout == "hitsz_vcm" else "Cameras have their own names."
    identities = io.StringIO(newline="")
    csv.writer(identities).writerows([("pid", "person"), *((number, person) for person, number in numbers.items())])
    notes = {"README.txt": _README.format(root=root.name, cameras=head), "identities.csv": identities.getvalue()}
    if layout == "folder":
        folder_rows = [
            FolderTracklet("val" if row.held else "train", row.pid, row.of.camera_id, row.of.modality, row.frames)
            for row in rows
        ]
        write_folder(output, folder_rows, copy=True, notes=notes)
        return
    vcm = {row: VcmTracklet(row.pid, row.of.modality, cameras[row.of.camera_id], row.frames) for row in rows}
    parts = {held: [vcm[row] for row in rows if row.held is held] for held in (False, True)}
    write_vcm(output, train=parts[False], test=parts[True], copy=True, notes=notes)
