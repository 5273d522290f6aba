"""What goes with age and what goes when the disk is full: the oldest first, and nothing that a case holds.

Five classes age on their own: tracklets (rows, vectors, events, and their crops with them), crops (images only: the
tracklet stays searchable), clips (annotated videos, and the sheet of matches), exports (evidence of cases that are
closed) and the audit. A class without a limit is kept for ever. Evidence never goes to make room.
"""

import logging
import shutil
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeVar

from pipeline.audit import PROGRAM, Audit
from pipeline.cases import Cases
from pipeline.erasure import finish, owe, remove_rows
from pipeline.errors import ResourceError, UndeletedError
from pipeline.export_files import ExportFiles, all_exports
from pipeline.identify import Sighting
from pipeline.losses import is_full
from pipeline.record import from_us, to_us
from pipeline.reserve import Reserve
from pipeline.store import Store, StoredTracklet
from pipeline.tracklets import RejectedTracklet, Tracklet

logger = logging.getLogger(__name__)

T = TypeVar("T")

MEGABYTE = 1_000_000
CLIPS = ("video", "clips")
MATCHES = "matches.png"
# Removed together: enough that files are rewritten seldom, few enough that little goes needlessly.
_TICK_SECONDS = 1.0
_LOOK_SECONDS = 60.0
_WORD_SECONDS = 60.0  # between two words about a disk that is nearly full
_BATCH = 64
# Of a small disk no more than this share is kept free.
_MOST_FREE = 0.1


@dataclass(frozen=True, slots=True)
class RetentionRules:
    """How long, and how much; None means for ever, and any amount.

    Attributes:
        tracklets_days: Age of a tracklet's last box.
        tracklets_mb: Of the database, 10^6 bytes.
        crops_days: Age of a tracklet's last box.
        crops_mb: Of all crops and records.
        clips_days: Age of a video file, or of the sheet of matches.
        clips_mb: Of all of them.
        exports_days: Age of a zip of evidence.
        exports_mb: Of all of them.
        audit_days: Age of a row.
        audit_mb: Of all of them.
        low_water_mb: What should be free on the disk, but never more than a tenth of it; 0 lets it fill up.
    """

    tracklets_days: float | None = None
    tracklets_mb: float | None = None
    crops_days: float | None = None
    crops_mb: float | None = None
    clips_days: float | None = None
    clips_mb: float | None = None
    exports_days: float | None = None
    exports_mb: float | None = None
    audit_days: float | None = None
    audit_mb: float | None = None
    low_water_mb: float = 200.0


@dataclass(slots=True)
class Aged:
    """What went.

    Attributes:
        counts: By class: tracklets, crops (of how many tracklets), clips, exports, audit.
        until: End of the newest tracklet that went.
    """

    counts: Counter[str] = field(default_factory=Counter)
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class Shortage:
    """The disk was nearly full.

    Attributes:
        free_bytes: After room was made.
        wanted_bytes: What should be free.
        aged: What went.
    """

    free_bytes: int
    wanted_bytes: int
    aged: Aged


class Retention:
    """Ages one gallery, and keeps what comes in even when the disk is full.

    Needs a store opened by ``Store.open`` or ``Store.maintain``.
    """

    def __init__(
        self,
        store: Store,
        rules: RetentionRules,
        *,
        on_shortage: Callable[[Shortage], None] = lambda shortage: None,
        free_bytes: Callable[[Path], int] = lambda path: shutil.disk_usage(path).free,
    ) -> None:
        """Take charge of a store.

        Args:
            store: Whose.
            rules: How long and how much.
            on_shortage: Told each time that room had to be made.
            free_bytes: Of the disk that a path is on.
        """
        self._store = store
        self._rules = rules
        self._on_shortage = on_shortage
        self._free_bytes = free_bytes
        self._next_look = self._next_tick = self._next_word = float("-inf")  # of the monotonic clock, which nobody sets
        self.lost: Counter[str] = Counter()  # tracklets that could not be kept, by reason
        self._was_low = self.is_low = False
        self._reserve = Reserve(store.root)
        self._reserve.fill()

    def keep(self, items: Sequence[Sighting | RejectedTracklet]) -> list[Sighting | RejectedTracklet]:
        """Store what can be stored, making room where there is none; returns what is stored.

        A tracklet for which no room can be made, because a case holds everything that is left, is counted in
        ``lost``, and the run goes on.
        """
        self.look()
        try:
            self._add(items)
        except ResourceError as error:
            if not is_full(error):
                raise
            return [item for item in items if self._add_alone(item)]
        return list(items)

    def tick(self) -> None:
        """Look, at most once a second: for the path of every frame, where a low disk must not be mended each time."""
        now = time.monotonic()
        if now >= self._next_tick:
            self._next_tick = now + _TICK_SECONDS
            self.look()

    def look(self) -> None:
        """Make room where there is too little, and every minute take out what is too old or too much."""
        self.make_room()
        now = time.monotonic()
        if now >= self._next_look:
            self._next_look = now + _LOOK_SECONDS
            with _as_far_as_there_is_room():
                self.age()

    def with_room(self, write: Callable[[], T]) -> T:
        """Do what writes; where the disk is full, make room and do it again.

        Raises:
            ResourceError: When no room could be made; or whatever else is wrong.
            OSError: The same.
        """
        for _ in range(3):
            try:
                return write()
            except (ResourceError, OSError) as error:
                if not is_full(error):
                    raise
                if not self.make_room(at_least=4 * MEGABYTE) and not self._free() > MEGABYTE:
                    break
        return write()

    def lose(self, tracklets: Sequence[Tracklet]) -> None:
        """Count tracklets that no room could be made for."""
        self.lost["disk_full"] += len(tracklets)
        for each in tracklets:
            logger.error(
                "%s: no room for tracklet %s: a case holds all that is left", self._store.root, each.tracklet_id
            )

    def age(self, now: datetime | None = None) -> Aged:
        """Take out what is too old or too much."""
        aged, moment = Aged(), now or datetime.now(UTC)
        self._age_tracklets(aged, moment)
        self._age_crops(aged, moment)
        self._age_clips(aged, moment)
        self._age_exports(aged, moment)
        self._age_audit(aged, moment)
        return aged

    def make_room(self, *, at_least: int = 0) -> bool:
        """Where less is free than should be, take out the oldest that no case holds until it is.

        Args:
            at_least: Free this much more than is free now, in any case.

        Returns:
            Whether enough is free.
        """
        wanted = max(self._wanted(), self._free() + at_least if at_least else 0)
        self._was_low, self.is_low = self.is_low, self._free() < wanted
        if not self.is_low:
            return True
        aged, target = Aged(), wanted + wanted // 2
        self._reserve.release()  # a transaction that removes needs some room itself
        with _as_far_as_there_is_room():
            while (short := target + self._reserve.size - self._free()) > 0 and self._take_oldest(aged, short):
                pass
        with _as_far_as_there_is_room():
            self._reserve.fill()
        shortage = Shortage(self._free(), wanted, aged)
        self._tell(shortage)
        return self._free() >= wanted

    def _tell(self, shortage: Shortage) -> None:
        """Say it when it begins, and every minute while it lasts."""
        now = time.monotonic()
        if self._was_low and now < self._next_word:
            return
        self._next_word = now + _WORD_SECONDS
        counts = shortage.aged.counts
        went = ", ".join(f"{count} {name}" for name, count in counts.items()) or "nothing that could go"
        logger.warning("%s: disk nearly full (%d bytes free): removed %s", self._store.root, shortage.free_bytes, went)
        self._on_shortage(shortage)
        try:
            Audit(self._store).record(PROGRAM, "disk_low", dict(counts))
        except (ResourceError, OSError) as error:
            if not is_full(error):
                raise

    def _add(self, items: Sequence[Sighting | RejectedTracklet]) -> None:
        self._store.add_all(items)

    def _add_alone(self, item: Sighting | RejectedTracklet) -> bool:
        try:
            self.with_room(lambda: self._add([item]))
        except ResourceError as error:
            if not is_full(error):
                raise
            self.lose([item.tracklet])
            return False
        return True

    def _free(self) -> int:
        return self._free_bytes(self._store.root)

    def _wanted(self) -> int:
        total = shutil.disk_usage(self._store.root).total
        return int(min(self._rules.low_water_mb * MEGABYTE, _MOST_FREE * total))

    def _take_oldest(self, aged: Aged, short: int) -> bool:
        """One step of making room: old clips and old tracklets, whichever is the oldest, and no more than needed."""
        clip = next(iter(self._clips()), None)
        oldest = self._oldest(_BATCH)
        if clip is not None and (not oldest or _modified(clip) <= oldest[-1].end):
            aged.counts["clips"] += 1
            clip.unlink()
            return True
        if oldest:
            self._remove(self._first_of(oldest, short), aged)
        return bool(oldest)

    def _first_of(self, tracklets: Sequence[StoredTracklet], wanted_bytes: int) -> Sequence[StoredTracklet]:
        """As many from the front as free so much."""
        freed = 0
        with self._store.reading() as db:
            for count, each in enumerate(tracklets, start=1):
                freed += db.execute("SELECT disk_bytes FROM tracklets WHERE row = ?", [each.row]).fetchone()[0]
                if freed >= wanted_bytes:
                    return tracklets[:count]
        return tracklets

    def _oldest(self, count: int, *, before: datetime | None = None) -> list[StoredTracklet]:
        """The first by their end that no case holds."""
        with self._store.reading() as db:
            rows = db.execute(
                "SELECT row FROM tracklets WHERE row NOT IN (SELECT tracklet_row FROM held) AND end_us < ?"
                " ORDER BY end_us, row LIMIT ?",
                [to_us(before) if before else 2**62, count],
            ).fetchall()
        return self._store.by_rows([row for (row,) in rows])

    def _remove(self, tracklets: Sequence[StoredTracklet], aged: Aged) -> None:
        with self._store.writing() as db:
            gone = _not_held(db, tracklets)
            remove_rows(db, gone, redact=False)
        if not gone:
            return
        aged.counts["tracklets"] += len(gone)
        aged.until = max([each.end for each in gone] + ([aged.until] if aged.until else []))
        finish(self._store)
        give_back_pages(self._store)

    def _age_tracklets(self, aged: Aged, now: datetime) -> None:
        if self._rules.tracklets_days is not None:
            before = now - timedelta(days=self._rules.tracklets_days)
            while oldest := self._oldest(_BATCH * 4, before=before):
                self._remove(oldest, aged)
        if self._rules.tracklets_mb is not None:
            while database_bytes(self._store) > self._rules.tracklets_mb * MEGABYTE and (
                oldest := self._oldest(_BATCH)
            ):
                self._remove(oldest, aged)

    def _age_crops(self, aged: Aged, now: datetime) -> None:
        if self._rules.crops_days is not None:
            before = now - timedelta(days=self._rules.crops_days)
            while old := self._oldest_with_crops(_BATCH * 4, before=before):
                self._remove_crops(old, aged)
        if self._rules.crops_mb is not None:
            while crops_bytes(self._store) > self._rules.crops_mb * MEGABYTE and (
                old := self._oldest_with_crops(_BATCH)
            ):
                self._remove_crops(old, aged)

    def _oldest_with_crops(self, count: int, *, before: datetime | None = None) -> list[StoredTracklet]:
        with self._store.reading() as db:
            rows = db.execute(
                "SELECT row FROM tracklets WHERE row NOT IN (SELECT tracklet_row FROM held) AND end_us < ?"
                " AND (EXISTS (SELECT 1 FROM crops WHERE tracklet_row = row)"
                "  OR EXISTS (SELECT 1 FROM counterparts WHERE tracklet_row = row)) ORDER BY end_us, row LIMIT ?",
                [to_us(before) if before else 2**62, count],
            ).fetchall()
        return self._store.by_rows([row for (row,) in rows])

    def _remove_crops(self, tracklets: Sequence[StoredTracklet], aged: Aged) -> None:
        with self._store.writing() as db:
            gone = _not_held(db, tracklets)
            rows = [(each.row,) for each in gone]
            owe(db, "images", [each.tracklet_id for each in gone])
            db.executemany("DELETE FROM crops WHERE tracklet_row = ?", rows)
            db.executemany("DELETE FROM counterparts WHERE tracklet_row = ?", rows)
            db.executemany("INSERT INTO changes (tracklet_row, kind) VALUES (?, 'revised')", rows)
        finish(self._store)
        aged.counts["crops"] += len(gone)

    def _age_clips(self, aged: Aged, now: datetime) -> None:
        clips = self._clips()
        if self._rules.clips_days is not None:
            before = now - timedelta(days=self._rules.clips_days)
            for clip in [each for each in clips if _modified(each) < before]:
                clip.unlink()
                aged.counts["clips"] += 1
        if self._rules.clips_mb is not None:
            clips = self._clips()
            total = sum(path.stat().st_size for path in _all_clips(self._store.root))
            for clip in clips:
                if total <= self._rules.clips_mb * MEGABYTE:
                    break
                total -= clip.stat().st_size
                clip.unlink()
                aged.counts["clips"] += 1

    def _clips(self) -> list[Path]:
        """Finished videos and the sheet of matches, oldest first, but for those of cameras with a held tracklet.

        The sheet shows all cameras.
        """
        with self._store.reading() as db:
            rows = db.execute("SELECT DISTINCT camera_id FROM tracklets JOIN held ON row = tracklet_row").fetchall()
        held = {camera for (camera,) in rows}
        sheet = self._store.root / MATCHES
        free = [
            path
            for path in _all_clips(self._store.root)
            if (not held if path == sheet else held.isdisjoint((path.stem, path.parent.name)))
        ]
        return sorted(free, key=lambda path: (_modified(path), path))

    def _age_exports(self, aged: Aged, now: datetime) -> None:
        """Those of cases that are open stay."""
        if self._rules.exports_days is None and self._rules.exports_mb is None:
            return
        exports = all_exports(self._store.root)
        opened = {each.case_id for each in Cases(self._store).all() if each.closed is None}
        before = None if self._rules.exports_days is None else now - timedelta(days=self._rules.exports_days)
        total = sum(each.bytes for each in exports)
        most = None if self._rules.exports_mb is None else self._rules.exports_mb * MEGABYTE
        gone: list[ExportFiles] = []
        for each in exports:
            old = before is not None and datetime.fromtimestamp(each.modified, UTC) < before
            if each.case not in opened and (old or (most is not None and total > most)):
                gone.append(each)
                total -= each.bytes
        if not gone:
            return
        with self._store.writing() as db:
            owe(db, "picture", [name for each in gone for name in each.files])
            said = {"exports": [each.export_id for each in gone]}
            Audit(self._store).append(db, PROGRAM, "exports_aged", said)
        Audit(self._store).copy()
        finish(self._store)
        aged.counts["exports"] += len(gone)

    def _age_audit(self, aged: Aged, now: datetime) -> None:
        audit = Audit(self._store)
        if self._rules.audit_days is not None:
            aged.counts["audit"] += audit.age(before=now - timedelta(days=self._rules.audit_days))
        if self._rules.audit_mb is not None:
            aged.counts["audit"] += audit.age(most_bytes=int(self._rules.audit_mb * MEGABYTE))
        aged.counts += Counter()  # drops what is zero


@contextmanager
def _as_far_as_there_is_room() -> Iterator[None]:
    """A disk too full even to remove from, or a file that cannot be deleted, ends what goes on within, not the run."""
    try:
        yield
    except UndeletedError as error:
        logger.error("%s", error)  # the message is for the operator
    except (ResourceError, OSError) as error:
        if not is_full(error):
            raise
        logger.debug("the disk is too full even to make room: %s", error)


def _not_held(db: sqlite3.Connection, tracklets: Sequence[StoredTracklet]) -> list[StoredTracklet]:
    """Looked at within the transaction that removes: a case may have come to hold one since they were chosen."""
    held = {row for (row,) in db.execute("SELECT tracklet_row FROM held")}
    return [each for each in tracklets if each.row not in held]


def database_bytes(store: Store) -> int:
    """Bytes in use in the database, without free pages."""
    with store.reading() as db:
        (size,) = db.execute("PRAGMA page_size").fetchone()
        (pages,) = db.execute("PRAGMA page_count").fetchone()
        (free,) = db.execute("PRAGMA freelist_count").fetchone()
    return int(size * (pages - free))


def crops_bytes(store: Store) -> int:
    """Bytes of all crops and records, as the database has noted them."""
    with store.reading() as db:
        return int(db.execute("SELECT COALESCE(SUM(disk_bytes), 0) FROM tracklets").fetchone()[0])


def give_back_pages(store: Store) -> None:
    """Hand free pages of the database back to the disk; a busy reader only delays it."""
    with store.reading() as db:
        db.execute("PRAGMA incremental_vacuum").fetchall()
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()


def _all_clips(root: Path) -> list[Path]:
    videos = [path for name in CLIPS for path in (root / name).rglob("*") if path.suffix != ".part"]
    return [path for path in (*videos, root / MATCHES) if path.is_file()]


def _modified(path: Path) -> datetime:
    return from_us(path.stat().st_mtime_ns // 1000)
