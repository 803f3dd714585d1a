"""A durable cache in one folder: an SQLite index with the small results in it, and the large ones as files beside.

Rules: a result is durable when `commit` returns, and never readable without its origin; bytes are checked against
their digest whenever they are read; no byte from the folder is ever executed or unpickled. Several threads and
processes may use one folder at once: a thread waits for another, a process up to a minute for another (then
`StoreError`). Needs a file system with links and locks, on POSIX.

>>> import tempfile
>>> folder = tempfile.mkdtemp()
>>> DiskCache(folder)["c1"] = {"frames": 24}
>>> DiskCache(folder)["c1"]
{'frames': 24}
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator, MutableMapping
from dataclasses import replace
from hashlib import sha256
from typing import Any

from artdag_fed.cache import Changes, Entry, Origin, Outcome
from artdag_fed.caches.disk_blobs import Blobs
from artdag_fed.caches.disk_commit import put
from artdag_fed.caches.disk_index import open_index, store_error
from artdag_fed.caches.disk_offers import settle
from artdag_fed.caches.disk_origins import BATCH, batches, drop, drop_named, recall, relabel, withdraw
from artdag_fed.caches.disk_reading import DiskReading
from artdag_fed.caches.disk_staging import Laid
from artdag_fed.claims import Claims
from artdag_fed.codec import DEFAULT, Codec
from artdag_fed.errors import StoreError
from artdag_fed.names import Cid, check_cid

__all__ = ["DiskCache"]


class DiskCache(DiskReading, MutableMapping[Cid, Any]):
    """An `OriginCache` in the folder `path`, made where it is missing (its parent must exist) or empty.

    `codec`: what results are written and read with; one of your own goes here. Raises `StoreError` where the folder is
    not ours, damaged, newer than this library, or cannot be read.
    """

    encodes = True

    def __init__(self, path: str | os.PathLike[str], codec: Codec | None = None) -> None:
        self.path = os.path.realpath(path)
        self._codec = DEFAULT if codec is None else codec
        self.blobs = Blobs(self.path)
        self.claims = Claims()
        self._forked = threading.Lock()
        self._inherited: list[sqlite3.Connection] = []
        self._open()

    def _open(self) -> None:
        self._lock = threading.RLock()
        self._db: sqlite3.Connection | None = open_index(self.path)
        self._pid = os.getpid()
        self._origins: dict[int, Origin] = {}  # by id; ids are never used again, so this never gets old
        self._names = itertools.count(1)

    # --- the connection ---------------------------------------------------------------------

    @contextlib.contextmanager
    def alone(self) -> Iterator[sqlite3.Connection]:
        """The connection, alone with it. Each statement sees one state of the index; nothing is held in between."""
        if self._pid != os.getpid():
            self._reopen()
        with self._lock:
            if self._db is None:
                raise StoreError(f"{self.path} was closed: open it again")
            try:
                yield self._db
            except sqlite3.Error as error:
                raise store_error(self.path, error) from error

    @contextlib.contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """The connection with a write transaction: committed and on the disk at the end, or not there at all."""
        with self.alone() as db:
            try:
                db.execute("BEGIN IMMEDIATE")
                yield db
                db.execute("COMMIT")
            except BaseException:
                if db.in_transaction:
                    db.execute("ROLLBACK")
                raise

    def _reopen(self) -> None:
        """A connection of this process's own, where it was forked from the one that opened the cache."""
        with self._forked:  # two threads of the child may come at once
            if self._pid != os.getpid() and self._db is not None:
                # SQLite forbids a child to use, or even to close, what was open when it was forked: so it is kept.
                self._inherited.append(self._db)
                self._open()

    def close(self) -> None:
        if self._pid != os.getpid():
            self._reopen()
        with self._lock:
            if self._db is not None:
                self._db.close()
            self._db = None

    def __del__(self) -> None:
        # Closing is optional, so forgetting it is no ResourceWarning (Python 3.13 gives one for a connection).
        if getattr(self, "_db", None) is not None and self._pid == os.getpid():
            self.close()

    # --- changing ---------------------------------------------------------------------------

    def stage(self, entries: Iterable[Entry]) -> Laid:
        laid = Laid(self, f"staged_{next(self._names)}")
        try:
            laid.extend(entries)
        except BaseException:
            laid.close()
            raise
        return laid

    def commit(self, changes: Changes) -> Outcome:
        laid = changes.put
        if laid is not None and not (isinstance(laid, Laid) and laid.of(self)):
            raise TypeError(f"put must be what this cache's stage gave, not {type(laid).__name__}")
        try:
            with self._writing() as db:
                withdrawn = 0 if changes.withdraw is None else withdraw(db, changes.withdraw)
                dropped = drop_named(db, changes.drop) + drop_named(db, changes.drop_if, changes.drop_if)
                recalled = 0 if changes.recall is None else recall(db, changes.recall)
                outcome = Outcome(withdrawn=withdrawn, dropped=dropped, recalled=recalled)
                if laid is not None:
                    outcome = self._put(db, laid, changes.at, outcome)
                relabelled = relabel(db, changes.relabel) if changes.relabel else 0
                settle(db, changes.settle - outcome.stale)
            if laid is not None and laid.area is not None:
                laid.area.committed()
            return replace(outcome, relabelled=relabelled)
        except OSError as error:
            if isinstance(error, StoreError):
                raise
            raise store_error(self.path, error) from error
        finally:
            if laid is not None:
                laid.close()

    def _put(self, db: sqlite3.Connection, laid: Laid, at: float, so_far: Outcome) -> Outcome:
        done = put(db, laid, at)
        if laid.area is not None:
            named = db.execute(
                "SELECT DISTINCT digest FROM result WHERE payload IS NULL AND id >= ?", (done.first_new,)
            )
            laid.area.publish([digest for (digest,) in named])
        return replace(
            so_far, stored=done.stored, unchanged=done.unchanged, clashes=tuple(done.clashes), stale=done.stale
        )

    def purge(self) -> bool:
        """Remove at most `BATCH` rows of withdrawn origins and files that no row names; True where some may be left."""
        dead = (
            "FROM origin AS o CROSS JOIN result AS r ON r.origin = o.id WHERE NOT o.live AND o.results > 0"
            f" LIMIT {BATCH}"
        )
        with self.alone() as db:
            if db.execute(f"SELECT r.id {dead}").fetchone() is not None:
                with self._writing():
                    drop(db, [id for (id,) in db.execute(f"SELECT r.id {dead}").fetchall()])
            if db.execute("SELECT 1 FROM garbage").fetchone() is not None:
                # In a transaction of its own: a file may go only when the loss of its last row is on the disk, and
                # only while nobody can commit another row that names it.
                with self._writing():
                    digests = [digest for (digest,) in db.execute(f"SELECT digest FROM garbage LIMIT {BATCH}")]
                    self._remove_unnamed(db, digests)
                    db.executemany("DELETE FROM garbage WHERE digest = ?", [(digest,) for digest in digests])
            left = f"SELECT 1 FROM garbage UNION ALL SELECT 1 FROM (SELECT 1 {dead}) LIMIT 1"
            return db.execute(left).fetchone() is not None

    def sweep(self) -> None:
        """Remove the files that a crash left without a row: all names are looked at, which may take a while."""
        with self._writing() as db:
            abandoned = self.blobs.abandoned()
            self._remove_unnamed(db, self.blobs.names())
            for path in abandoned:  # last: as long as one is there, the next process sweeps again
                self.blobs.remove_area(path)

    def _remove_unnamed(self, db: sqlite3.Connection, digests: Iterable[object]) -> None:
        for batch in batches(digest for digest in digests if isinstance(digest, str)):  # damage may change a type
            named = db.execute(
                "SELECT digest FROM result WHERE payload IS NULL AND digest IN (SELECT value FROM json_each(?))",
                (json.dumps(batch),),
            ).fetchall()
            unnamed = set(batch) - {digest for (digest,) in named}
            if unnamed:
                try:
                    self.blobs.remove(unnamed)
                except OSError as error:
                    raise store_error(self.path, error) from error

    # --- a mapping --------------------------------------------------------------------------

    def __getitem__(self, cid: object) -> Any:
        stored = self.stored(cid) if isinstance(cid, str) else None
        if stored is None or stored.payload is None:
            raise KeyError(cid)
        return self._codec.decode(stored.payload)

    def __setitem__(self, cid: Cid, result: Any) -> None:
        payload = self._codec.encode(result)
        digest = sha256(payload).hexdigest()
        entry = Entry(check_cid(cid), Origin(None), digest, payload, None, False, replace=True)
        self.commit(Changes(put=self.stage([entry]), at=time.time()))

    def __delitem__(self, cid: object) -> None:
        if not isinstance(cid, str) or not self.commit(Changes(drop=frozenset([cid]))).dropped:
            raise KeyError(cid)

    def __contains__(self, cid: object) -> bool:
        return isinstance(cid, str) and bool(self.held([cid]))

    def __iter__(self) -> Iterator[Cid]:
        return (cid for cid, _ in self._places("1"))

    def __len__(self) -> int:
        return self._count("1")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, DiskCache) and self.path == other.path

    def __hash__(self) -> int:
        return hash(self.path)

    def __repr__(self) -> str:
        return f"<DiskCache {self.path}>"
