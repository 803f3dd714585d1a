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
import logging
import os
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping
from hashlib import sha256
from typing import Any

from artdag_fed.cache import Changes, Entry, Held, Made, Origin, Outcome, Stored
from artdag_fed.caches.disk_blobs import Blobs
from artdag_fed.caches.disk_commit import BATCH, batches, drop, origin_of, put, recipe_from, withdraw
from artdag_fed.caches.disk_index import open_index, store_error
from artdag_fed.caches.disk_staging import Laid
from artdag_fed.caches.disk_views import LiveView
from artdag_fed.claims import Claims
from artdag_fed.codec import DEFAULT, Codec
from artdag_fed.dag import recipe_prefix
from artdag_fed.errors import CodecError, StoreError
from artdag_fed.events import Event
from artdag_fed.names import Cid, PeerId, check_cid, shown

__all__ = ["DiskCache"]

log = logging.getLogger("artdag_fed")

_LIVE = " CROSS JOIN origin AS o ON o.id = r.origin WHERE o.live"
_ASKED = "FROM json_each(?) AS j CROSS JOIN result AS r ON r.cid = j.value" + _LIVE


class DiskCache(MutableMapping[Cid, Any]):
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

    # --- looking ----------------------------------------------------------------------------

    @property
    def codec(self) -> Codec:
        return self._codec

    @property
    def provenance(self) -> Mapping[Cid, PeerId]:
        where = "o.peer IS NOT NULL"
        return LiveView(self, lambda origin: origin.peer, lambda: self._places(where), lambda: self._count(where))

    @property
    def lineage(self) -> Mapping[Cid, frozenset[PeerId]]:
        where = "o.lineage <> '[]'"
        return LiveView(
            self, lambda origin: origin.lineage or None, lambda: self._places(where), lambda: self._count(where)
        )

    def origins(self) -> dict[Origin, int]:
        with self.alone() as db:
            rows = db.execute("SELECT peer, lineage, results FROM origin WHERE live AND results > 0").fetchall()
        return {origin_of(peer, lineage): results for peer, lineage, results in rows}

    def held(self, cids: Iterable[Cid]) -> dict[Cid, Held]:
        rows = self._asked("r.cid, r.origin, r.digest, r.source", cids)
        return {cid: Held(self._origin(token), token, *more) for cid, token, *more in rows}

    def load(self, cids: Iterable[Cid], observe: Callable[[Event], None] | None = None) -> dict[Cid, tuple[Held, Any]]:
        loaded, decode = {}, self._codec.decode
        for batch in batches(cids):
            for cid, token, digest, payload, _, source in self._read(
                "r.cid, r.origin, r.digest, r.payload, r.size, r.source", batch, observe
            ):
                try:
                    result = decode(payload)
                except CodecError as error:
                    if self._origin(token).local:  # our own: the codec that wrote it is missing, and nothing is wrong
                        raise
                    _damaged(observe, cid, f"what the peer sent is no value: {error}")
                else:
                    loaded[cid] = Held(self._origin(token), token, digest, source), result
        return loaded

    def stored(self, cid: Cid) -> Stored | None:
        columns = "r.cid, r.origin, r.digest, r.payload, r.size, r.recipe"
        for _, token, digest, payload, _, recipe in self._read(columns, [cid], None):
            return Stored(self._origin(token), digest, payload, None, recipe_from(recipe))
        return None

    def _read(
        self, columns: str, cids: list[Cid], observe: Callable[[Event], None] | None
    ) -> Iterator[tuple[Any, ...]]:
        """Rows of `columns` (cid, origin, digest, payload, size, ...), the payload checked, from its file if need be.

        What fails the check is left out, and word given of it.
        """
        gone: dict[Cid, str] = {}
        while cids:
            with self.alone() as db:
                rows = db.execute(f"SELECT {columns} {_ASKED}", (json.dumps(cids),)).fetchall()
            cids = []
            for row in rows:
                payload = row[3]
                if payload is None:
                    cid, token, digest, _, size, *rest = row
                    payload = self._file(cid, digest, size)
                    if payload is None and gone.get(cid) != digest:
                        # Dropped or replaced between the row and the file, perhaps: the row is asked for again.
                        gone[cid] = digest
                        cids.append(cid)
                        continue
                    row = (cid, token, digest, payload, size, *rest)
                # Damage may have changed the type of a value in its row, too.
                if type(payload) is bytes and sha256(payload).hexdigest() == row[2]:
                    yield row
                else:
                    why = "its file is gone" if payload is None else "its bytes are not those that its digest names"
                    _damaged(observe, row[0], why)

    def _file(self, cid: Cid, digest: str, size: int) -> bytes | None:
        """The bytes of a result that lies beside, unchecked; None where there is no such file."""
        try:
            return self.blobs.read(digest, size)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StoreError(f"{self.path}: the file of {shown(cid)} cannot be read: {error}") from error

    def recipes(self, op: str | None = None) -> Iterator[tuple[Cid, bytes]]:
        prefix = "" if op is None else recipe_prefix(op).decode()
        columns = "r.id, r.cid, r.recipe"
        for _, cid, recipe in self._walk(columns, "r.recipe <> '' AND substr(r.recipe, 1, ?) = ?", len(prefix), prefix):
            yield cid, recipe_from(recipe)

    def made(self, cids: Iterable[Cid]) -> dict[Cid, Made]:
        rows = self._asked("r.cid, r.origin, r.digest, r.recipe, r.inputs_digest", cids)
        return {c: Made(self._origin(token), digest, recipe_from(r), made) for c, token, digest, r, made in rows}

    def _asked(self, columns: str, cids: Iterable[Cid]) -> Iterator[tuple[Any, ...]]:
        """Rows of `columns` of those that are held, a batch at a time."""
        for batch in batches(cids):
            with self.alone() as db:
                rows = db.execute(f"SELECT {columns} {_ASKED}", (json.dumps(batch),)).fetchall()
            yield from rows

    def _walk(self, columns: str, where: str, *values: object) -> Iterator[tuple[Any, ...]]:
        """The live rows in the order in which they were stored, a batch at a time: no cursor is held in between."""
        last = 0
        while True:
            with self.alone() as db:
                rows = db.execute(
                    f"SELECT {columns} FROM result AS r{_LIVE} AND {where} AND r.id > ? ORDER BY r.id LIMIT {BATCH}",
                    (*values, last),
                ).fetchall()
            yield from rows
            if len(rows) < BATCH:
                return
            last = rows[-1][0]

    def _places(self, where: str) -> Iterator[tuple[Cid, Origin]]:
        """The live results with their origins, by cid: one that is replaced meanwhile keeps its place in that order."""
        last = ""
        while True:
            with self.alone() as db:
                rows = db.execute(
                    f"SELECT r.cid, r.origin FROM result AS r{_LIVE} AND {where} AND r.cid > ?"
                    f" ORDER BY r.cid LIMIT {BATCH}",
                    (last,),
                ).fetchall()
            for cid, token in rows:
                yield cid, self._origin(token)
            if len(rows) < BATCH:
                return
            last = rows[-1][0]

    def _count(self, where: str) -> int:
        with self.alone() as db:
            (count,) = db.execute(
                f"SELECT coalesce(sum(results), 0) FROM origin AS o WHERE live AND {where}"
            ).fetchone()
        return int(count)

    def _origin(self, token: int) -> Origin:
        origin = self._origins.get(token)
        if origin is None:
            with self.alone() as db:
                origin = origin_of(*db.execute("SELECT peer, lineage FROM origin WHERE id = ?", (token,)).fetchone())
            self._origins[token] = origin
        return origin

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
                dropped = 0
                for batch in batches(sorted(changes.drop)):
                    rows = db.execute(f"SELECT r.id {_ASKED}", (json.dumps(batch),)).fetchall()
                    dropped += drop(db, [id for (id,) in rows])
                if laid is None:
                    return Outcome(withdrawn=withdrawn, dropped=dropped)
                done = put(db, laid)
                if laid.area is not None:
                    named = db.execute(
                        "SELECT DISTINCT digest FROM result WHERE payload IS NULL AND id >= ?", (done.first_new,)
                    )
                    laid.area.publish([digest for (digest,) in named])
            if laid.area is not None:
                laid.area.committed()
            return Outcome(done.stored, done.unchanged, tuple(done.clashes), done.stale, withdrawn, dropped)
        except OSError as error:
            if isinstance(error, StoreError):
                raise
            raise store_error(self.path, error) from error
        finally:
            if laid is not None:
                laid.close()

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
        self.commit(Changes(put=self.stage([entry])))

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


def _damaged(observe: Callable[[Event], None] | None, cid: Cid, why: str) -> None:
    if observe is not None:
        observe(Event("damaged", cid=cid, reason=why))
    else:
        log.warning("the held result of %s is not used: %s", shown(cid), why)
