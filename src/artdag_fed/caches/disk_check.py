"""Whether a durable cache is whole: every row, digest, file and count; what fails is dropped, where that is asked for.

Rules: bounded memory; rows are looked at batch by batch, and nothing is locked in between. Other processes may write
meanwhile: what seems wrong is looked at again in a transaction, and reported only if it is wrong there, so a result
that went in between is no fault. It is mended only by taking away: a row that fails, the rows of an origin that cannot
be read, a file that no row names, a count, which is then made again from the rows. Nothing is ever made up, and what is
not ours is left alone. Where SQLite itself finds its file damaged, nothing is mended: writing would make it worse.

>>> import tempfile
>>> folder = tempfile.mkdtemp()
>>> DiskCache(folder)["c1"] = {"frames": 24}
>>> check_folder(folder, found=print).results
1
"""

from __future__ import annotations

import contextlib
import errno
import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from typing import Final, Literal, NamedTuple

from artdag_fed.caches.disk import DiskCache
from artdag_fed.caches.disk_blobs import Blobs
from artdag_fed.caches.disk_faults import Row, count_fault, offer_fault, origin_fault, row_fault
from artdag_fed.caches.disk_index import open_index, store_error
from artdag_fed.caches.disk_origins import batches, drop
from artdag_fed.errors import StoreError
from artdag_fed.names import is_digest, shown

__all__ = ["Checked", "Fault", "FaultKind", "check_folder"]

FaultKind = Literal[
    "index",  # SQLite finds its file damaged
    "origin",  # a row of an origin that cannot be read, so that whose results are its own is not known
    "row",  # a result's row that has a value of a kind that it cannot have, or that no origin is known for
    "digest",  # a result whose bytes are not those that its digest names
    "file",  # a large result whose file is missing, or of another size
    "recipe",  # a recipe that is not what its cid is the hash of
    "count",  # an origin's number of results, bytes or seconds that is not what its rows add up to
    "offer",  # evidence that cannot be read (see `OriginCache.offers`)
    "leftover",  # a file that no row names, or what a process that was killed was laying ready
    "stranger",  # something among the files that is not ours
]

BATCH: Final = 100  # rows with their payloads: some megabytes, and a few milliseconds of a read lock
LOWEST: Final = -(1 << 63)  # of all ids that SQLite has
SECOND_LOOK_SECONDS: Final = 0.1  # a thousand times what is between making a lock file and locking it
COMPLAINTS: Final = 10  # of SQLite's; one would do to know that its file is damaged

_ROWS = (
    "SELECT r.id, r.cid, r.size, r.digest, r.inputs_digest, r.source, r.recipe, r.payload, r.seconds,"
    " r.signature, o.id IS NOT NULL"
    " FROM result AS r LEFT JOIN origin AS o ON o.id = r.origin WHERE coalesce(o.live, 1) <> 0"
)
_COUNTS = (
    "SELECT o.results, o.bytes, o.seconds, count(r.id), CAST(total(r.size) AS INTEGER), total(r.seconds)"
    " FROM origin AS o LEFT JOIN result AS r ON r.origin = o.id WHERE o.id = ? GROUP BY o.id"
)
_OFFERS = "SELECT id, cid, peer, digest, size, lineage, signature, at, arrived FROM offer WHERE"


class Fault(NamedTuple):
    """Something that is wrong. `what`: a cid, a file's name or an origin, as it is found, which may be hostile text.
    `why` is one line of ASCII. `dropped`: whether it has been mended by dropping it."""

    kind: FaultKind
    what: str
    why: str
    dropped: bool


class Checked(NamedTuple):
    """What was looked at: readable results, the bytes of these, files beside; and how many faults were found."""

    results: int
    bytes: int
    files: int
    found: int


def check_folder(path: str | os.PathLike[str], *, found: Callable[[Fault], object], mend: bool = False) -> Checked:
    """Look at all that the cache in the folder `path` keeps, and tell `found` of each fault as it is found.

    mend: drop what fails. Results of withdrawn origins, which nobody can read any more, are not looked at. Raises
    `StoreError` where the folder is no cache of ours or cannot be read, or, to mend it, written; what `found` raises.
    """
    return _Check(os.path.realpath(path), found, mend).all()


class _Check:
    def __init__(self, path: str, found: Callable[[Fault], object], mend: bool) -> None:
        self._path = path
        self._found = found
        self._mend = mend
        self._blobs = Blobs(path)
        self._faults = 0
        # A connection of its own, so that text that is no UTF-8 can be read as what it is: damage, and not an error.
        self._db = open_index(path)
        self._db.text_factory = lambda text: text.decode("utf-8", "surrogateescape")

    def all(self) -> Checked:
        with contextlib.closing(self._db):
            try:
                whole = self._index()
                self._mend = self._mend and whole
                self._origins()
                results, size = self._results()
                self._counts()
                self._offers()
                files = self._files()
            except sqlite3.DatabaseError as error:
                if isinstance(error, sqlite3.OperationalError) or self._faults == 0:
                    raise store_error(self._path, error) from error
                return Checked(0, 0, 0, self._faults)  # the damage that SQLite has named goes so far
            except OSError as error:
                raise error if isinstance(error, StoreError) else store_error(self._path, error) from error
        if self._mend:
            self._tidy()
        return Checked(results, size, files, self._faults)

    # --- telling ----------------------------------------------------------------------------

    def _tell(self, kind: FaultKind, what: object, why: str, *, mended: bool) -> None:
        self._faults += 1
        self._found(Fault(kind, what if isinstance(what, str) else shown(what), why, mended and self._mend))

    @contextlib.contextmanager
    def _still(self, *, writers: bool = False) -> Iterator[None]:
        """A transaction in which nothing can be committed by others, so that a second look is the last word.

        To mend, it is one that writes. With `writers` nobody can be about to commit, either; where the index cannot be
        written by us, SQLite makes it one that reads, which is as near as can be.
        """
        self._db.execute("BEGIN IMMEDIATE" if self._mend or writers else "BEGIN")
        try:
            if self._mend:  # so that it fails now, before a file is removed
                self._db.execute("DELETE FROM garbage WHERE 0")
            yield
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise

    # --- looking ----------------------------------------------------------------------------

    def _index(self) -> bool:
        """Whether SQLite finds its file whole: pages, order of the indexes, what may not be NULL."""
        said = [str(line) for (line,) in self._db.execute(f"PRAGMA integrity_check({COMPLAINTS})")]
        if said == ["ok"]:
            return True
        for line in said:
            self._tell("index", "index.sqlite3", shown(line, 200), mended=False)
        return False

    def _origins(self) -> None:
        query = "SELECT peer, lineage, live FROM origin WHERE id = ?"
        for ids in self._ids():
            for id in ids:
                found = self._db.execute(query, (id,)).fetchone()
                if found is None or origin_fault(*found) is None:
                    continue
                with self._still():
                    found = self._db.execute(query, (id,)).fetchone()
                    why = None if found is None else origin_fault(*found)
                    if why is not None and self._mend:
                        rows = [row for (row,) in self._db.execute("SELECT id FROM result WHERE origin = ?", (id,))]
                        drop(self._db, rows)
                        self._db.execute("DELETE FROM origin WHERE id = ?", (id,))
                if why is not None:
                    self._tell("origin", f"origin-{id}", why, mended=True)

    def _results(self) -> tuple[int, int]:
        last, results, size = LOWEST, 0, 0
        while True:
            rows = self._db.execute(f"{_ROWS} AND r.id > ? ORDER BY r.id LIMIT {BATCH}", (last,)).fetchall()
            if not rows:
                return results, size
            last = rows[-1][0]
            results += len(rows)
            suspects = []
            for row in map(Row._make, rows):
                size += row.size if isinstance(row.size, int) else 0
                if row_fault(row, self._blobs) is not None:
                    suspects.append(row.id)
            del rows
            if suspects:
                self._judge(suspects)

    def _judge(self, ids: list[int]) -> None:
        """Tell of those of these rows that are wrong now."""
        told = []
        with self._still():
            for id in ids:
                for row in map(Row._make, self._db.execute(f"{_ROWS} AND r.id = ?", (id,)).fetchall()):
                    fault = row_fault(row, self._blobs)
                    if fault is not None:
                        told.append((id, row.cid, *fault))
            if self._mend:
                drop(self._db, [id for id, *_ in told])
        for _, cid, kind, why in told:
            self._tell(kind, cid, why, mended=True)

    def _counts(self) -> None:
        for ids in self._ids():
            for id in ids:
                # One statement sees one state, so nothing needs a second look but to mend it.
                why = count_fault(self._db.execute(_COUNTS, (id,)).fetchone())
                if why is not None and self._mend:
                    with self._still():
                        row = self._db.execute(_COUNTS, (id,)).fetchone()
                        why = count_fault(row)
                        if why is not None:
                            again = "UPDATE origin SET results = ?, bytes = ?, seconds = ? WHERE id = ?"
                            self._db.execute(again, (*row[3:], id))
                if why is not None:
                    self._tell("count", f"origin-{id}", why, mended=True)

    def _offers(self) -> None:
        last = LOWEST
        while rows := self._db.execute(f"{_OFFERS} id > ? ORDER BY id LIMIT {BATCH}", (last,)).fetchall():
            last = rows[-1][0]
            suspects = [id for id, *row in rows if offer_fault(*row) is not None]
            if not suspects:
                continue
            told = []
            with self._still():
                for id in suspects:
                    row = self._db.execute(f"{_OFFERS} id = ?", (id,)).fetchone()
                    why = None if row is None else offer_fault(*row[1:])
                    if why is not None:
                        told.append((id, row[1], why))
                if self._mend:
                    self._db.executemany("DELETE FROM offer WHERE id = ?", [(id,) for id, *_ in told])
            for _, cid, why in told:
                self._tell("offer", cid, why, mended=True)

    def _ids(self) -> Iterator[list[int]]:
        """The ids of all origins, a batch at a time."""
        last = LOWEST
        query = f"SELECT id FROM origin WHERE id > ? ORDER BY id LIMIT {BATCH}"
        while ids := [id for (id,) in self._db.execute(query, (last,))]:
            last = ids[-1]
            yield ids

    # --- files ------------------------------------------------------------------------------

    def _files(self) -> int:
        if not os.path.isdir(self._blobs.path):  # large results, if there are any, have been told of
            return 0
        files = 0
        with os.scandir(self._blobs.path) as entries:
            for names in batches(entry.name for entry in entries):
                ours = [name for name in names if is_digest(name)]
                files += len(ours)
                for name in sorted(set(names) - set(ours) - {os.path.basename(self._blobs.staging)}):
                    self._tell("stranger", name, "lies among the files of results, and is none", mended=False)
                if self._unnamed(ours):
                    with self._still(writers=True):  # a commit names its files before its rows are there
                        unnamed = self._unnamed(ours)
                        if unnamed and self._mend:
                            self._blobs.remove(unnamed)
                    for name in unnamed:
                        self._tell("leftover", name, "is a file that no result has", mended=True)
        for area in self._abandoned():
            if self._mend:
                self._blobs.remove_area(area)
            self._tell("leftover", os.path.basename(area), "was laid ready by a process that is gone", mended=True)
        return files

    def _abandoned(self) -> list[str]:
        """The areas whose process died, at a second look too: who had just made its lock file holds it by then."""
        try:
            first = self._blobs.abandoned()
            if not first:
                return first
            time.sleep(SECOND_LOOK_SECONDS)
            return sorted({*first} & {*self._blobs.abandoned()})
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EROFS):  # whose locks are free, only someone who may write can ask
                return []
            raise

    def _unnamed(self, digests: list[str]) -> list[str]:
        """Those that no row names and that are not waiting to be removed, and are there."""
        named = (
            "SELECT 1 FROM result WHERE payload IS NULL AND digest = ? UNION ALL SELECT 1 FROM garbage WHERE digest = ?"
        )
        lost = [digest for digest in digests if self._db.execute(named, (digest, digest)).fetchone() is None]
        return [digest for digest in lost if os.path.lexists(os.path.join(self._blobs.path, digest))]

    def _tidy(self) -> None:
        """Remove what was dropped from the disk."""
        cache = DiskCache(self._path)
        try:
            while cache.purge():
                pass
        finally:
            cache.close()
