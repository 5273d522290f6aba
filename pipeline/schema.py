"""The gallery's database file: its tables in every version, how one becomes the next, and how it is opened.

Every connection that writes overwrites with zeros what it deletes (``secure_delete``), and gives free pages back to
the disk when asked (``auto_vacuum = INCREMENTAL``).
"""

import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import numpy as np

from pipeline.errors import DamagedGalleryError, ResourceError, UsageError
from reid.embedding import checksum, to_bytes

DATABASE = "gallery.sqlite"
_APPLICATION_ID = 0x58524944  # "XRID", in the header of the file
_BUSY_SECONDS = 30.0
_LITTLE_BYTES = 1_000_000  # more than what SQLite makes beside a database that is only read

_VERSION_1 = """
    CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
    CREATE TABLE cameras (
        camera_id TEXT PRIMARY KEY,
        modality TEXT NOT NULL CHECK (modality IN ('rgb', 'nir', 'thermal')),
        width INTEGER NOT NULL,
        height INTEGER NOT NULL
    ) WITHOUT ROWID;
    CREATE TABLE persons (
        person_id INTEGER PRIMARY KEY AUTOINCREMENT  -- a number is never given twice, even after its person is erased
    );
    CREATE TABLE tracklets (
        row INTEGER PRIMARY KEY AUTOINCREMENT,  -- the vector's id in the index
        tracklet_id TEXT NOT NULL UNIQUE,
        camera_id TEXT NOT NULL REFERENCES cameras,
        track_id INTEGER NOT NULL,
        start_us INTEGER NOT NULL,  -- microseconds since 1970, UTC
        end_us INTEGER NOT NULL CHECK (end_us >= start_us),
        time_source TEXT NOT NULL,
        frames INTEGER NOT NULL,
        frame_index BLOB NOT NULL,  -- int64, little-endian
        xyxy BLOB NOT NULL,  -- float32 (frames, 4), pixels
        confidence BLOB NOT NULL,  -- float32
        rejected TEXT,  -- the reason; NULL means accepted
        person_id INTEGER REFERENCES persons,
        CHECK ((rejected IS NULL) = (person_id IS NOT NULL))
    );
    CREATE INDEX tracklets_by_time ON tracklets (start_us);
    CREATE INDEX tracklets_by_person ON tracklets (person_id);
    CREATE TABLE crops (
        tracklet_row INTEGER NOT NULL REFERENCES tracklets ON DELETE CASCADE,
        position INTEGER NOT NULL,
        path TEXT NOT NULL,  -- relative to the folder of this file
        quality REAL NOT NULL,
        captured_us INTEGER NOT NULL,
        frame_index INTEGER NOT NULL,
        x1 REAL NOT NULL, y1 REAL NOT NULL, x2 REAL NOT NULL, y2 REAL NOT NULL,
        PRIMARY KEY (tracklet_row, position)
    ) WITHOUT ROWID;
    CREATE TABLE embeddings (
        tracklet_row INTEGER PRIMARY KEY REFERENCES tracklets ON DELETE CASCADE,
        vector BLOB NOT NULL  -- float32 (dimension,), little-endian, unit length
    );
    CREATE TABLE links (
        tracklet_row INTEGER NOT NULL REFERENCES tracklets ON DELETE CASCADE,
        to_tracklet_id TEXT NOT NULL,
        cosine REAL NOT NULL,
        probability REAL NOT NULL,
        PRIMARY KEY (tracklet_row, to_tracklet_id)
    ) WITHOUT ROWID;
"""

# Vectors become half precision with a checksum. Persons and links get a state, and operators' decisions are events.
# What is searched for is recorded in a chain of hashes; what a case holds is not aged.
_VERSION_2 = """
    ALTER TABLE persons ADD COLUMN state TEXT NOT NULL DEFAULT 'probable'
        CHECK (state IN ('probable', 'confirmed', 'merged'));
    ALTER TABLE persons ADD COLUMN merged_into INTEGER REFERENCES persons;
    ALTER TABLE tracklets ADD COLUMN zones TEXT NOT NULL DEFAULT '[]';  -- JSON list of names, sorted
    ALTER TABLE tracklets ADD COLUMN quality REAL NOT NULL DEFAULT 0;  -- of the best view; outlives its image
    UPDATE tracklets SET quality =
        COALESCE((SELECT MAX(quality) FROM crops WHERE tracklet_row = tracklets.row), 0);
    ALTER TABLE tracklets ADD COLUMN disk_bytes INTEGER NOT NULL DEFAULT 0;  -- of its folder
    CREATE INDEX tracklets_by_end ON tracklets (end_us);
    CREATE TABLE counterparts (  -- the same place and time through a camera of another modality
        tracklet_row INTEGER NOT NULL REFERENCES tracklets ON DELETE CASCADE,
        camera_id TEXT NOT NULL,
        modality TEXT NOT NULL CHECK (modality IN ('rgb', 'nir', 'thermal')),
        path TEXT NOT NULL,
        captured_us INTEGER NOT NULL,
        x1 REAL NOT NULL, y1 REAL NOT NULL, x2 REAL NOT NULL, y2 REAL NOT NULL,
        PRIMARY KEY (tracklet_row, camera_id)
    ) WITHOUT ROWID;
    ALTER TABLE embeddings ADD COLUMN crc INTEGER NOT NULL DEFAULT 0;  -- CRC-32 of vector
    UPDATE embeddings SET vector = half(vector);  -- float16 (dimension,), little-endian, unit length
    UPDATE embeddings SET crc = crc32(vector);
    CREATE TABLE reindexed (  -- vectors of the next model, until all are there
        tracklet_row INTEGER PRIMARY KEY REFERENCES tracklets ON DELETE CASCADE,
        vector BLOB NOT NULL,
        crc INTEGER NOT NULL
    );
    ALTER TABLE links ADD COLUMN state TEXT NOT NULL DEFAULT 'probable'
        CHECK (state IN ('probable', 'confirmed', 'rejected'));
    CREATE INDEX links_by_target ON links (to_tracklet_id);
    CREATE TABLE decisions (
        decision_id INTEGER PRIMARY KEY AUTOINCREMENT,
        made_us INTEGER NOT NULL,
        actor TEXT NOT NULL,
        kind TEXT NOT NULL CHECK (kind IN ('merge', 'split', 'confirm', 'reject', 'revise', 'undo')),
        purpose TEXT,
        effects TEXT NOT NULL,  -- JSON: every value before and after, by row
        undone_by INTEGER REFERENCES decisions
    );
    CREATE TABLE cases (
        case_id TEXT PRIMARY KEY,
        title TEXT NOT NULL,
        opened_us INTEGER NOT NULL,
        closed_us INTEGER  -- while it is open, its items are held
    ) WITHOUT ROWID;
    CREATE TABLE case_items (
        case_id TEXT NOT NULL REFERENCES cases ON DELETE CASCADE,
        tracklet_row INTEGER NOT NULL REFERENCES tracklets ON DELETE CASCADE,
        added_us INTEGER NOT NULL,
        added_by TEXT NOT NULL,
        note TEXT,
        PRIMARY KEY (case_id, tracklet_row)
    ) WITHOUT ROWID;
    CREATE INDEX case_items_by_tracklet ON case_items (tracklet_row);
    CREATE VIEW held AS
        SELECT DISTINCT tracklet_row FROM case_items JOIN cases USING (case_id) WHERE closed_us IS NULL;
    CREATE TABLE audit (
        number INTEGER PRIMARY KEY,  -- 1, 2, 3 without a gap
        at_us INTEGER NOT NULL,
        actor TEXT NOT NULL,
        action TEXT NOT NULL,
        case_id TEXT,
        purpose TEXT,
        details TEXT NOT NULL,  -- JSON; a tracklet stands there as a token, which audit_subjects resolves
        previous TEXT NOT NULL,  -- hash of the row before
        hash TEXT NOT NULL
    );
    CREATE TABLE audit_subjects (  -- what an erasure takes out of the audit: the token stays, the name goes
        token TEXT PRIMARY KEY,  -- SHA-256 of salt and subject
        salt TEXT NOT NULL,
        subject TEXT NOT NULL
    ) WITHOUT ROWID;
    CREATE INDEX audit_subjects_by_subject ON audit_subjects (subject);
    CREATE TABLE pending (  -- what is still to be done to files, so that a crash in between is made good
        kind TEXT NOT NULL CHECK (kind IN ('folder', 'tracklet', 'picture', 'track', 'images', 'record')),
        value TEXT NOT NULL,
        PRIMARY KEY (kind, value)
    ) WITHOUT ROWID;
    CREATE TABLE changes (  -- what befell rows after they were inserted, for indexes of other processes
        change INTEGER PRIMARY KEY AUTOINCREMENT,
        tracklet_row INTEGER NOT NULL,
        kind TEXT NOT NULL CHECK (kind IN ('removed', 'revised'))
    );
    INSERT INTO meta VALUES ('generation', '1');  -- one more each time that all vectors change
"""

# What each image was when it was stored: one that is cut off, or another's, is told from it. Those of before have none.
_VERSION_3 = """
    CREATE TABLE images (
        tracklet_row INTEGER NOT NULL REFERENCES tracklets ON DELETE CASCADE,
        path TEXT NOT NULL,  -- as in crops and counterparts
        bytes INTEGER NOT NULL,
        sha256 TEXT NOT NULL,
        PRIMARY KEY (tracklet_row, path)
    ) WITHOUT ROWID;
    CREATE TRIGGER crop_gone AFTER DELETE ON crops BEGIN
        DELETE FROM images WHERE tracklet_row = old.tracklet_row AND path = old.path;
    END;
    CREATE TRIGGER counterpart_gone AFTER DELETE ON counterparts BEGIN
        DELETE FROM images WHERE tracklet_row = old.tracklet_row AND path = old.path;
    END;
"""

# The n-th entry takes a database from user_version n to n + 1. Entries are only ever appended.
MIGRATIONS = (_VERSION_1, _VERSION_2, _VERSION_3)


@contextmanager
def database_errors(path: Path) -> Iterator[None]:
    """Tell a failing disk and a damaged file as what they are, around whatever uses the database."""
    try:
        yield
    except sqlite3.OperationalError as error:
        raise ResourceError(f"{path}: {cause_of(error, path)}") from error
    except (sqlite3.IntegrityError, sqlite3.ProgrammingError):
        raise  # these are ours, not the file's
    except sqlite3.DatabaseError as error:
        raise DamagedGalleryError(f"{path}: not a gallery, or a damaged one: {error}") from error


def cause_of(error: sqlite3.OperationalError, path: Path) -> str:
    """What SQLite says; of a disk that gives no more room, or fails, also how much is free and what would do."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # the upper bits say in which call
    try:
        free = shutil.disk_usage(path.parent).free
    except OSError:
        free = 0
    if code not in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR) and not (
        code == sqlite3.SQLITE_CANTOPEN and free < _LITTLE_BYTES
    ):
        return str(error)
    state = "is full" if free < _LITTLE_BYTES else "fails, or gives this user no more room"
    return (
        f"{error}: the disk of {path.parent} {state} ({free / 1e6:.1f} MB are free); a database needs a little room "
        "beside it for reading too: free some, or have the disk looked at, and try again"
    )


@contextmanager
def gallery_errors(path: Path) -> Iterator[None]:
    """As `database_errors`, around whatever also reads the values.

    SQLite finds most damage itself, but its pages have no checksum: a value that no writer wrote is damage too.
    """
    try:
        with database_errors(path):
            yield
    except (ValueError, TypeError, OverflowError) as error:
        raise DamagedGalleryError(f"{path}: not a gallery, or a damaged one: {error}") from error


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """All or nothing; holds the write lock from the start, so that what was read within stays true."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


@contextmanager
def snapshot(connection: sqlite3.Connection) -> Iterator[None]:
    """Several reads of one moment, whatever is written meanwhile."""
    connection.execute("BEGIN")
    try:
        yield
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")


def connect(path: Path, *, read_only: bool) -> sqlite3.Connection:
    """Open the file, or make it; transactions begin only where ``transaction`` says so."""
    with gallery_errors(path):
        how = _reading_mode(path) if read_only else "mode=rwc"
        connection = sqlite3.connect(
            f"{path.resolve().as_uri()}?{how}", uri=True, timeout=_BUSY_SECONDS, isolation_level=None
        )
        try:
            connection.execute("PRAGMA foreign_keys = ON")
            if not read_only:
                if connection.execute("PRAGMA auto_vacuum").fetchone() == (0,):
                    connection.execute("PRAGMA auto_vacuum = INCREMENTAL")  # of a new file; an old one's with a VACUUM
                connection.execute("PRAGMA journal_mode = WAL")
                connection.execute("PRAGMA synchronous = FULL")
                connection.execute("PRAGMA secure_delete = ON")
        except BaseException:
            connection.close()
            raise
        return connection


def remove_empty_log(path: Path) -> None:
    """What the last reader of a gallery leaves beside it, as SQLite lets only a connection that may write remove it.

    A log that has something in it stays, for it is a part of the database; and so does an empty one on a full disk,
    where the next reader would have no room for another.
    """
    with suppress(OSError, sqlite3.Error):
        log = path.with_name(f"{path.name}-wal")
        if log.stat().st_size == 0 and shutil.disk_usage(path.parent).free >= _LITTLE_BYTES:
            uri = f"{path.resolve().as_uri()}?mode=rw"
            with closing(sqlite3.connect(uri, uri=True, timeout=0, isolation_level=None)) as connection:
                connection.execute("PRAGMA schema_version").fetchone()


def _reading_mode(path: Path) -> str:
    """How to open a gallery for reading only.

    A reader of a WAL database makes a file beside it. Where it may not, as on a read-only copy, and nobody is writing
    (a writer's log would be there), the file is taken for one that does not change.
    """
    changes = os.access(path.parent, os.W_OK) or path.with_name(f"{path.name}-wal").exists()
    return "mode=ro" if changes else "mode=ro&immutable=1"


def check_version(connection: sqlite3.Connection, path: Path, *, least: int) -> int:
    """The schema version of a gallery.

    Raises:
        UsageError: When the file belongs to another program, or to another version of this one.
    """
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    (tables,) = connection.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()
    if (application != _APPLICATION_ID) and (tables or least):
        raise UsageError(f"{path}: an SQLite file of another program, not a gallery")
    if 0 < version < least:
        raise UsageError(
            f"{path}: a gallery of version {version}, which this program brings up to version {len(MIGRATIONS)} when"
            " it writes: gallery verify does so, and so does the next run with --append"
        )
    if not least <= version <= len(MIGRATIONS):
        raise UsageError(f"{path}: a gallery of version {version}; this program reads version {len(MIGRATIONS)}")
    return int(version)


def migrate(connection: sqlite3.Connection, path: Path, meta: dict[str, str]) -> bool:
    """Bring the file up to the newest version; a new file also gets its meta rows, each step in one transaction.

    Returns:
        Whether an older file was brought up: what it once deleted may still lie in its free pages.
    """
    version = check_version(connection, path, least=0)
    connection.create_function("half", 1, _half, deterministic=True)
    connection.create_function("crc32", 1, checksum, deterministic=True)
    for number, script in enumerate(MIGRATIONS[version:], start=version + 1):
        try:
            connection.executescript(f"BEGIN IMMEDIATE; {script}")
            if number == 1:
                connection.executemany("INSERT INTO meta VALUES (?, ?)", meta.items())
            connection.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {number}")
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
    return 0 < version < len(MIGRATIONS)


def check_pages(connection: sqlite3.Connection, path: Path, *, thorough: bool = False) -> None:
    """Walk every page of the file.

    Args:
        connection: To the file.
        path: Of the file, for the message.
        thorough: Also compare every index with its table.

    Raises:
        DamagedGalleryError: When one does not hold what the others say it holds.
    """
    with gallery_errors(path):
        how = "integrity_check" if thorough else "quick_check"
        found = [text for (text,) in connection.execute(f"PRAGMA {how}(10)")]
        if found != ["ok"]:
            raise DamagedGalleryError(f"{path}: not a gallery, or a damaged one: {'; '.join(found)}")


def _half(vector: bytes) -> bytes:
    return to_bytes(np.frombuffer(vector, "<f4"))
