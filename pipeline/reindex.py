"""Every vector anew, by another model, from the crops that are stored.

The new vectors gather in a table of their own, a group of tracklets a transaction, so that a killed reindexing goes on
where it was. When all are there they take the place of the old ones in one transaction, together with the model's id:
at every moment the gallery holds the vectors of one model. Groups are cut by row number, and a group is embedded whole
or not at all: an interrupted reindexing ends with the same vectors as one that was not.
"""

import json
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

import numpy as np

from pipeline.audit import Actor, Audit
from pipeline.crop_files import read_crop
from pipeline.errors import UsageError
from pipeline.store import Store
from reid.calibration import Calibration
from reid.embedding import checksum, to_bytes
from reid.modality import Modality

if TYPE_CHECKING:  # torch takes seconds to import
    from reid.extractor import Extractor

logger = logging.getLogger(__name__)

_MODEL = "reindex_model"
_Tracklet = tuple[int, str, str]  # row, name, modality


@dataclass(frozen=True, slots=True)
class Reindexed:
    """What was done.

    Attributes:
        model_id: Of all vectors now.
        embedded: How many were embedded by this call.
        resumed: How many an earlier call, cut short, had embedded.
    """

    model_id: str
    embedded: int
    resumed: int


def reindex(
    store: Store,
    extractor: "Extractor",
    calibration: Calibration,
    actor: Actor,
    *,
    batch: int = 8,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> Reindexed:
    """Embed all accepted tracklets again and make the extractor's model the gallery's.

    Args:
        store: Opened by ``recovery.maintain``.
        extractor: The new model.
        calibration: Of that model.
        actor: Who, for the audit.
        batch: Rows a group.
        on_progress: Told how many are done, and of how many.

    Raises:
        UsageError: When an accepted tracklet has no crops any more.
        ResourceError: When a crop is damaged, or the disk is full.
    """
    Audit(store).require(actor)
    _begin(store, extractor.model_id, extractor.dimension, batch)
    wanted = list(_accepted(store))
    _refuse_without_crops(store, wanted)
    with store.reading() as db:
        done = {row for (row,) in db.execute("SELECT tracklet_row FROM reindexed")}
    resumed = len(done)
    for _, members in groupby(wanted, key=lambda each: each[0] // batch):
        group = list(members)
        if not {row for row, _, _ in group} <= done:
            _embed(store, extractor, group)
            done |= {row for row, _, _ in group}
        on_progress(len(done), len(wanted))
    _swap(store, extractor, calibration, actor)
    return Reindexed(extractor.model_id, len(done) - resumed, resumed)


def _begin(store: Store, model_id: str, dimension: int, batch: int) -> None:
    """Throw away what another model, or another way of grouping, began."""
    key = f"{model_id} {dimension} {batch}"
    with store.writing() as db:
        row = db.execute("SELECT value FROM meta WHERE key = ?", [_MODEL]).fetchone()
        if row is None or row[0] != key:
            db.execute("DELETE FROM reindexed")
            db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", [_MODEL, key])


def _accepted(store: Store) -> Iterator[_Tracklet]:
    with store.reading() as db:
        rows = db.execute(
            "SELECT row, tracklet_id, modality FROM tracklets JOIN cameras USING (camera_id)"
            " WHERE rejected IS NULL ORDER BY row"
        ).fetchall()
    yield from rows


def _refuse_without_crops(store: Store, tracklets: list[_Tracklet]) -> None:
    with store.reading() as db:
        having = {row for (row,) in db.execute("SELECT DISTINCT tracklet_row FROM crops")}
    missing = [name for row, name, _ in tracklets if row not in having]
    if missing:
        raise UsageError(
            f"{len(missing)} tracklets have no crops any more, {missing[0]} the first: they cannot be embedded again; "
            "erase them (gallery erase --without-crops), or keep the old model"
        )


def _embed(store: Store, extractor: "Extractor", group: list[_Tracklet]) -> None:
    clips = [[read_crop(path) for path in store.crops(name)] for _, name, _ in group]
    vectors = extractor.extract(clips, [Modality(modality) for _, _, modality in group])
    stored = [to_bytes(vector) for vector in np.asarray(vectors)]
    with store.writing() as db:
        db.executemany(
            "INSERT OR REPLACE INTO reindexed VALUES (?, ?, ?)",
            [(row, vector, checksum(vector)) for (row, _, _), vector in zip(group, stored, strict=True)],
        )


def _swap(store: Store, extractor: "Extractor", calibration: Calibration, actor: Actor) -> None:
    audit = Audit(store)
    meta = {
        "model_id": extractor.model_id,
        "dimension": str(extractor.dimension),
        "calibration": json.dumps(calibration.to_dict()),
    }
    with store.writing() as db:
        before = db.execute("SELECT value FROM meta WHERE key = 'model_id'").fetchone()[0]
        db.execute("DELETE FROM embeddings")
        db.execute("INSERT INTO embeddings SELECT tracklet_row, vector, crc FROM reindexed")
        db.execute("DELETE FROM reindexed")
        db.execute(
            "DELETE FROM meta WHERE key IN (?, 'records')", [_MODEL]
        )  # records follow; after a crash, at opening
        db.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", meta.items())
        db.execute("UPDATE meta SET value = CAST(value AS INTEGER) + 1 WHERE key = 'generation'")
        audit.append(db, actor, "reindex", {"from": before, "to": extractor.model_id})
    audit.copy()
    store.follow_model()
    store.write_missing_records()
    store.write_identity()
