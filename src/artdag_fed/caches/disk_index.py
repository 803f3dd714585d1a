"""The index of a durable cache: one SQLite file, made whole or not at all, and opened only if it is exactly ours.

Rules: a folder that is not ours is refused without a byte being written in it, so the file's own header is read before
SQLite is let near it (SQLite would roll back a foreign journal). A new index is made under a temporary name, synced,
and linked to its final one: a half-made one never exists under that name, and of two processes that create at once one
wins.

The tables, `user_version` 2: `origin` has one row per peer and lineage while they are live, with the number, bytes and
seconds of its results, so that counting and withdrawing walk nothing; ids are never used again. `result` has a row per
result; its payload is NULL where it lies beside, as a file. `garbage` names files that may have lost their last row.
`offer` has the evidence (`disk_offers`). A folder of version 1, which had neither that nor seconds and signatures, is
migrated when it is opened, in one transaction (docs/decisions/0003).
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import sqlite3
import stat
import time
from collections.abc import Callable

from artdag_fed.errors import StoreError

__all__ = ["BUSY_SECONDS", "INDEX", "open_index", "store_error"]

INDEX = "index.sqlite3"
BLOBS = "blobs"

APPLICATION_ID = 0x61664544  # "afED"
VERSION = 2
BUSY_SECONDS = 60.0  # longer than any commit here takes on a slow disk; shorter than a person's patience

LEFTOVER_SECONDS = 3600.0  # making an index takes a moment; nobody is half done with it after an hour
_leftover = re.compile(re.escape(INDEX) + r"\.[0-9a-f]{16}\.new(-journal)?", re.ASCII).fullmatch

PAGE = 16384  # for 100,000 rows of 200 bytes, inserting takes half as long as with 4 KiB (tests/bench)
CACHE_KIB = 65536  # the dirty pages of a commit of 100,000 small results fit: nothing spills while readers wait

_ORIGIN_1 = (
    "CREATE TABLE origin (id INTEGER PRIMARY KEY AUTOINCREMENT, peer TEXT, lineage TEXT NOT NULL, live INTEGER NOT"
    " NULL, results INTEGER NOT NULL, bytes INTEGER NOT NULL)"
)
_RESULT_1 = (
    "CREATE TABLE result (id INTEGER PRIMARY KEY, cid TEXT NOT NULL UNIQUE, origin INTEGER NOT NULL, size INTEGER NOT"
    " NULL, digest TEXT NOT NULL, inputs_digest TEXT NOT NULL, source TEXT NOT NULL, recipe BLOB NOT NULL, payload"
    " BLOB)"
)
_SHARED = (
    "CREATE INDEX origin_live ON origin (peer, lineage) WHERE live",
    "CREATE INDEX result_origin ON result (origin)",
    "CREATE INDEX result_blob ON result (digest) WHERE payload IS NULL",
    "CREATE TABLE garbage (digest TEXT PRIMARY KEY) WITHOUT ROWID",
)
_OFFER = (
    "CREATE TABLE offer (id INTEGER PRIMARY KEY, cid TEXT NOT NULL, peer TEXT NOT NULL, digest TEXT NOT NULL, lineage"
    " TEXT NOT NULL, size INTEGER NOT NULL, signature BLOB, at REAL NOT NULL, arrived INTEGER NOT NULL, UNIQUE (cid,"
    " peer, digest, lineage))"
)
# What version 2 added, in the words of ALTER TABLE, which puts them before the last bracket: so a folder that was
# migrated and one that was made have the same text.
_ADDED = (
    ("origin", "seconds REAL NOT NULL DEFAULT 0"),
    ("result", "seconds REAL NOT NULL DEFAULT 0"),
    ("result", "signature BLOB"),
)
_ORIGIN_2 = f"{_ORIGIN_1[:-1]}, {_ADDED[0][1]})"
_RESULT_2 = f"{_RESULT_1[:-1]}, {_ADDED[1][1]}, {_ADDED[2][1]})"

SCHEMA_1 = (_ORIGIN_1, _RESULT_1, *_SHARED)
SCHEMA = (_ORIGIN_2, _RESULT_2, *_SHARED, _OFFER)
MIGRATION = (*(f"ALTER TABLE {table} ADD COLUMN {column}" for table, column in _ADDED), _OFFER)

# What SQLite adds by itself: the sequence of AUTOINCREMENT, and an index without text for UNIQUE.
_ITS_OWN = {"CREATE TABLE sqlite_sequence(name,seq)", None}
EXPECTED_1 = {*SCHEMA_1, *_ITS_OWN}
EXPECTED = {*SCHEMA, *_ITS_OWN}


def open_index(folder: str, clock: Callable[[], float] = time.time) -> sqlite3.Connection:
    """A connection to the index in `folder`, which is made where there is none or it is empty.

    What a killed process had half made is removed an hour later, as `clock` tells it in seconds since the epoch.
    Raises `StoreError` that names the folder and what is wrong with it.
    """
    path = os.path.join(folder, INDEX)
    if not os.path.lexists(path):
        _create(folder)
    _check_header(path)
    try:
        db = _connect(path)
    except sqlite3.Error as error:
        raise store_error(folder, error) from error
    try:
        if _version(db) == 1:
            _migrate(db, folder)
        _check_tables(db, folder, EXPECTED)
        _remove_leftovers(folder, clock() - LEFTOVER_SECONDS)
    except sqlite3.Error as error:
        db.close()
        raise store_error(folder, error) from error
    except BaseException:
        db.close()
        raise
    return db


def _version(db: sqlite3.Connection) -> int:
    (version,) = db.execute("PRAGMA user_version").fetchone()
    return int(version)


def _check_tables(db: sqlite3.Connection, folder: str, expected: set[str | None]) -> None:
    if {sql for (sql,) in db.execute("SELECT sql FROM sqlite_master")} != expected:
        raise StoreError(
            f"{folder} is not a cache of artdag_fed as we make them: its tables have been altered. "
            "Export what you need with the program that altered them, and start in a new folder."
        )


def _migrate(db: sqlite3.Connection, folder: str) -> None:
    """From version 1 to 2: all of it or nothing, whenever it is cut off, and once, whoever else opens the folder."""
    try:
        db.execute("BEGIN IMMEDIATE")
        if _version(db) == 1:  # else another process was first: only under the lock is that known
            _check_tables(db, folder, EXPECTED_1)
            for sql in MIGRATION:
                db.execute(sql)
            db.execute(f"PRAGMA user_version={VERSION}")
        db.execute("COMMIT")
    except BaseException as error:
        if db.in_transaction:
            db.execute("ROLLBACK")
        if isinstance(error, sqlite3.OperationalError) and "readonly" in str(error):
            raise StoreError(
                f"{folder} is a cache of version 1, which has to be brought to version {VERSION} and cannot be "
                "written. Make it writable, or copy it and open the copy."
            ) from error
        raise


def store_error(folder: str, error: Exception) -> StoreError:
    """What SQLite or the file system said, as an error that names the folder and what to do."""
    said = str(error)
    if "locked" in said or "busy" in said:
        return StoreError(
            f"{folder} is in use by another process, and was for {BUSY_SECONDS:.0f} s: {said}. Try again."
        )
    if "full" in said:
        return StoreError(f"{folder}: {said}. What was stored before is still there; make room and try again.")
    if "malformed" in said or "not a database" in said:
        return StoreError(f"{folder} is damaged: {said}. Move it away and start in a new folder, or restore a copy.")
    return StoreError(f"{folder}: {said}. What was stored before is still there.")


def _connect(path: str) -> sqlite3.Connection:
    quoted = path.replace("%", "%25").replace("?", "%3f").replace("#", "%23")
    # mode=rw: never create; a file that cannot be written is opened for reading. Autocommit: BEGIN is ours to say.
    db = sqlite3.connect(
        f"file://{quoted}?mode=rw", uri=True, isolation_level=None, timeout=BUSY_SECONDS, check_same_thread=False
    )
    try:
        # TRUNCATE and FULL: a commit is on the disk when it returns; with DELETE the folder is not synced after the
        # journal goes, and a power cut can bring it back. No WAL: SQLite before 3.51.3 can corrupt one in a race.
        db.execute("PRAGMA journal_mode=TRUNCATE")
        db.execute("PRAGMA synchronous=FULL")
        db.execute(f"PRAGMA cache_size=-{CACHE_KIB}")
        db.execute("PRAGMA trusted_schema=OFF")
    except BaseException:
        db.close()
        raise
    return db


def _check_header(path: str) -> None:
    """Refuse a file that does not say in its first 100 bytes that it is ours (sqlite.org/fileformat.html, 1.3)."""
    folder = os.path.dirname(path)
    try:
        with open(path, "rb") as file:
            header = file.read(100)
    except OSError as error:
        raise StoreError(f"{folder} cannot be opened as a cache: {error.strerror or error}") from error
    if not header:
        raise StoreError(f"{path} has no bytes, so it is no index of ours. Move it away to start a new cache there.")
    if len(header) < 100 or not header.startswith(b"SQLite format 3\0"):
        raise StoreError(f"{path} is no SQLite file, so this is no cache of artdag_fed. Choose another folder.")
    version, application = int.from_bytes(header[60:64], "big"), int.from_bytes(header[68:72], "big")
    if application != APPLICATION_ID or version < 1:
        raise StoreError(
            f"{path} belongs to another program, so this is no cache of artdag_fed. Choose another folder."
        )
    if header[18:20] != b"\1\1":  # SQLite would write in it to read it
        raise StoreError(
            f"{folder} is a cache whose index another program has set to WAL, which is not safe with every SQLite. "
            "Set it back there: PRAGMA journal_mode=DELETE."
        )
    if version > VERSION:
        raise StoreError(
            f"{folder} is a cache of version {version}; this artdag_fed reads up to version {VERSION}. "
            "Install a newer one."
        )


def _create(folder: str) -> None:
    path = os.path.join(folder, INDEX)
    new = f"{path}.{secrets.token_hex(8)}.new"
    try:
        _make_folder(folder)
        db = sqlite3.connect(new, isolation_level=None)
        try:
            db.execute(f"PRAGMA page_size={PAGE}")
            db.execute("PRAGMA journal_mode=OFF")  # what is half made is never looked at, so never rolled back
            db.execute("PRAGMA synchronous=FULL")
            db.execute("BEGIN IMMEDIATE")
            for sql in SCHEMA:
                db.execute(sql)
            db.execute(f"PRAGMA user_version={VERSION}")
            db.execute(f"PRAGMA application_id={APPLICATION_ID}")
            db.execute("COMMIT")
        finally:
            db.close()
        with contextlib.suppress(FileExistsError):  # another process was first, and its index is as good
            os.link(new, path)
        sync_folder(folder)
    except sqlite3.Error as error:
        raise store_error(folder, error) from error
    except StoreError:
        raise
    except OSError as error:
        raise StoreError(f"{folder} cannot be made a cache: {error.strerror or error}") from error
    finally:
        with contextlib.suppress(OSError):
            os.unlink(new)


def _remove_leftovers(folder: str, before: float) -> None:
    """Remove the half-made indexes of processes that were killed long before: one that lives needs its own."""
    with contextlib.suppress(OSError):  # whoever may only read leaves them there
        for name in filter(_leftover, os.listdir(folder)):
            path = os.path.join(folder, name)
            found = os.lstat(path)
            if stat.S_ISREG(found.st_mode) and found.st_mtime < before:
                os.unlink(path)


def _make_folder(folder: str) -> None:
    parent = os.path.dirname(folder)
    if not os.path.isdir(parent):
        raise StoreError(f"{folder} cannot be made a cache: its parent {parent} is no folder. Make that first.")
    if os.path.lexists(folder) and not os.path.isdir(folder):
        raise StoreError(f"{folder} is a file; a cache is a folder. Choose another path.")
    with contextlib.suppress(FileExistsError):
        os.mkdir(folder)
        sync_folder(parent)
    # Temporary names are those of a process that creates at this moment, or that died doing so.
    strangers = [n for n in os.listdir(folder) if n != BLOBS and not (n.startswith(INDEX + ".") and ".new" in n)]
    blobs = os.path.join(folder, BLOBS)
    if os.path.isdir(blobs) and os.listdir(blobs) not in ([], ["staging"]):
        strangers.append(BLOBS)
    if strangers and not os.path.lexists(os.path.join(folder, INDEX)):  # else another process was faster
        names = ", ".join(sorted(strangers)[:3])
        raise StoreError(f"{folder} has other things in it ({names}) and no index of ours. Choose an empty folder.")
    for name in (blobs, os.path.join(blobs, "staging")):
        with contextlib.suppress(FileExistsError):
            os.mkdir(name)
    sync_folder(blobs)


def sync_folder(folder: str) -> None:
    """Put a folder's own entries on the disk: what was made, renamed or removed in it."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
