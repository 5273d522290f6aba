"""``attributes.csv`` of a tracklet folder: what each person looks like, in words.

The first columns are ``split`` and ``pid``; each further one is an attribute, and its words are its classes.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from reid.datasets.split import DatasetError
from reid.datasets.text import is_number, read_table

NAME = "attributes.csv"


def read_attributes(root: str | Path, split: str, pids: NDArray[np.int64]) -> NDArray[np.int64]:
    """The class of each person in each attribute that varies.

    Args:
        root: The folder that holds ``attributes.csv``.
        split: A name of its ``split`` column.
        pids: (Y,), whose rows to give, in this order.

    Returns:
        (Y, A) int64, classes from 0 without gaps.

    Raises:
        DatasetError: When the table is missing or malformed, or a person has no row.
    """
    path = Path(root) / NAME
    if not path.is_file():
        raise DatasetError(f"{path}: no such file; loss.attributes needs the table of attributes, or must be 0")
    names, rows = read_table(path)
    if names[:2] != ["split", "pid"] or len(names) < 3:
        raise DatasetError(f"{path}:1: columns must be split, pid and at least one attribute, got {names}")
    words: dict[int, list[str]] = {}
    for line, row in rows:
        if row["split"] == split:
            if None in row or None in row.values() or not is_number(row["pid"]):
                raise DatasetError(f"{path}:{line}: must be a split, a pid and {len(names) - 2} words")
            words[int(row["pid"])] = [row[name] for name in names[2:]]
    missing = [pid for pid in pids.tolist() if pid not in words]
    if missing:
        raise DatasetError(f"{path}: no row of split {split!r} for {len(missing)} persons, such as {missing[0]}")
    columns = np.array([words[pid] for pid in pids.tolist()]).T
    classes = [np.unique(column, return_inverse=True)[1] for column in columns]
    return np.stack([column for column in classes if column.max() > 0], axis=1).astype(np.int64)
