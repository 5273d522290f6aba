"""How much each camera has seen: counted once, and then only what came since, for a gallery of millions is large."""

import threading
from dataclasses import dataclass

from pipeline.store import DATABASE, Store


@dataclass(slots=True)
class Seen:
    """By one camera.

    Attributes:
        modality: What it measures.
        accepted: Tracklets with a person.
        rejected: Tracklets without.
        first_us: Start of the first, microseconds since 1970; None where there is none.
        last_us: End of the last.
    """

    modality: str
    accepted: int = 0
    rejected: int = 0
    first_us: int | None = None
    last_us: int | None = None


class Counting:
    """Safe to use from several threads, each with a store of its own."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._of: tuple[int, ...] = ()  # which database, and which of its removals were counted
        self._row = 0
        self._seen: dict[str, Seen] = {}

    def cameras(self, store: Store) -> dict[str, Seen]:
        """Every camera that has a tracklet."""
        with self._lock:
            found = (store.root / DATABASE).stat()
            key = (found.st_dev, found.st_ino, store.last_change)
            if key != self._of:
                self._of, self._row, self._seen = key, 0, {}
            self._count(store, store.last_row)
            return dict(self._seen)

    def _count(self, store: Store, last: int) -> None:
        """Add the rows since; what rows need no reading of their boxes for is asked apart."""
        with store.reading() as db:
            for camera, modality in db.execute("SELECT camera_id, modality FROM cameras").fetchall():
                self._seen.setdefault(camera, Seen(modality))
            if last == self._row:
                return
            came = db.execute(
                "SELECT camera_id, COUNT(*), MIN(start_us), MAX(end_us) FROM tracklets WHERE row > ? AND row <= ?"
                " GROUP BY camera_id",
                [self._row, last],
            ).fetchall()
            without = dict(
                db.execute(
                    "SELECT camera_id, COUNT(*) FROM tracklets WHERE person_id IS NULL AND row > ? AND row <= ?"
                    " GROUP BY camera_id",
                    [self._row, last],
                ).fetchall()
            )
        for camera, count, first, end in came:
            before, rejected = self._seen[camera], without.get(camera, 0)
            self._seen[camera] = Seen(
                before.modality,
                before.accepted + count - rejected,
                before.rejected + rejected,
                first if before.first_us is None else min(first, before.first_us),
                end if before.last_us is None else max(end, before.last_us),
            )
        self._row = last
