"""Who is who in vtest_480x360.mp4: our own labels of the 20 people who pass through it, each from entry to exit.

vtest_people.csv has a box of a person wherever between two others it is off the straight line by more than 2 pixels.
Made on 2026-11-28: the boxes of YOLOv8n were cut into 170 pure pieces, by mutual overlap from frame to frame and
nothing else, wherever a second box was near; each piece was given to a person by looking at it, boxes were drawn by
hand where a pair walks as one, and lines drawn where somebody is hidden. No tracker had a part in it. A second
annotator (a language model, as the first was), who saw nothing of the first one's names, named all 170 pieces alike,
and found the same one that changes from one person to another. Who leaves and comes back counts as somebody new.
"""

import csv
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from trackers.evaluate import TrueSequence
from trackers.mot import MotRows

PEOPLE = Path(__file__).with_suffix(".csv")


def boxes_of(path: Path = PEOPLE) -> dict[int, dict[int, NDArray[np.float64]]]:
    """By person and frame, counted from 0: left, top, right, bottom."""
    corners: dict[int, list[list[int]]] = defaultdict(list)
    with path.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            corners[int(row["person"])].append([int(row[each]) for each in ("frame", "left", "top", "right", "bottom")])
    people = {}
    for person, rows in corners.items():
        at, *sides = np.array(rows).T
        frames = np.arange(at[0], at[-1] + 1)
        xyxy = np.stack([np.interp(frames, at, side) for side in sides], axis=1)
        people[person] = dict(zip(frames.tolist(), xyxy, strict=True))
    return people


def truth_of(frames: Sequence[int], path: Path = PEOPLE) -> TrueSequence:
    """The clip with these of its frames, in this order."""
    people = boxes_of(path)
    rows = [
        (number, person, *boxes[frame])
        for number, frame in enumerate(frames, 1)
        for person, boxes in people.items()
        if frame in boxes
    ]
    table = np.array(rows, dtype=np.float64).reshape(-1, 6)
    xywh = table[:, 2:].copy()
    xywh[:, 2:] -= xywh[:, :2]
    ones, ids = np.ones(len(table)), table[:, :2].astype(np.int64)
    truth = MotRows(ids[:, 0], ids[:, 1], xywh, ones, np.ones(len(table), np.int64), ones)
    return TrueSequence("vtest", "vtest", len(frames), truth)
