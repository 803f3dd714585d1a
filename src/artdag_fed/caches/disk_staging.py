"""What is laid ready for a durable cache: small rows in memory, then in a temporary table; large payloads as files.

Rules: bounded memory, whatever the number of entries; no lock of the index is held; nobody but the owner sees any of
it, and closing leaves nothing behind. After a crash the temporary table is gone with its connection, and the files'
area is found to be abandoned.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterable
from typing import Any, Protocol

from artdag_fed.cache import Entry
from artdag_fed.caches.disk_blobs import Area, Blobs
from artdag_fed.caches.disk_commit import STAGED, Kind, Rows, insert_rows
from artdag_fed.caches.disk_index import store_error
from artdag_fed.errors import StoreError

__all__ = ["INLINE_BYTES", "SPILL_BYTES", "Laid"]

INLINE_BYTES = 32 << 10
"""Results up to this size lie in their row. SQLite writes larger values several times slower than files are written,
and a file costs a sync of its own, as much as some hundred rows (tests/bench measures both)."""

SPILL_BYTES = 8 << 20
"""So much of what is staged is kept in memory; the rest goes into a temporary table."""

ROW_BYTES = 400  # what a row in memory weighs by itself


class Connected(Protocol):
    """What staging wants of the cache that it is for."""

    path: str
    blobs: Blobs

    def alone(self) -> contextlib.AbstractContextManager[sqlite3.Connection]: ...
    def sweep(self) -> None: ...


class Laid:
    """Entries laid ready: small rows in memory, then in a temporary table; large payloads as files in an area."""

    def __init__(self, cache: Connected, name: str) -> None:
        self._cache = cache
        self._name = name
        self._rows: list[Rows] = []
        self._spilled = False
        self._kinds: dict[Kind, int] = {}
        self.area: Area | None = None
        self.count = 0

    @property
    def kinds(self) -> list[Kind]:
        """What many entries have in common; a row names one by its place here."""
        return list(self._kinds)

    def extend(self, entries: Iterable[Entry]) -> None:
        """Take all of them; the files are on the disk when it returns."""
        origin, basis, replace, kind = None, None, None, 0
        lay, signed, weight = list[Any](), None, 0
        for cid, whence, digest, payload, _, _, recipe, inputs, wins, rests, source, seconds, signature, _ in entries:
            # Kinds are few and come in runs: to hash one for each record costs as much as all the rest here.
            if whence is not origin or rests is not basis or wins is not replace:
                origin, basis, replace = whence, rests, wins
                kind = self._kinds.setdefault(Kind(origin, replace, basis), len(self._kinds))
            assert payload is not None  # an entry for a cache that encodes
            size = len(payload)
            try:
                text: str | bytes = recipe.decode()
            except UnicodeDecodeError:
                text = recipe
            if size > INLINE_BYTES:
                self._write(digest, payload)
                inline = None
            else:
                inline = bytearray(payload)
                weight += size
            if signed is None or (signature and not signed):  # never back: who takes turns would make many small ones
                signed = signature != b""
                self._rows.append(Rows(signed=signed))
                lay = self._rows[-1].values
            lay += (cid, kind, digest, inputs, source, text, inline, size, seconds)
            if signed:
                lay.append(signature or None)
            weight += len(recipe) + len(signature) + ROW_BYTES
            if weight > SPILL_BYTES:
                self._spill()
                signed, weight = None, 0
        if self.area is not None:
            try:
                self.area.settle()
            except OSError as error:
                raise store_error(self._cache.path, error) from error
        self.count += sum(map(len, self._rows))

    def of(self, cache: Connected) -> bool:
        """Whether it was laid ready for this cache: a temporary table is seen by one connection."""
        return self._cache is cache

    @property
    def rows(self) -> list[Rows] | None:
        """The rows, where none of them had to leave memory."""
        return None if self._spilled else self._rows

    def fill(self, db: sqlite3.Connection) -> str:
        """Have all rows in a temporary table, inside the caller's transaction; its name."""
        table = self._name
        if not self._spilled:
            # What fits into memory shares one table that stays, so that its statements are compiled once.
            table = "staged"
            db.execute(STAGED.format("IF NOT EXISTS staged"))
            db.execute("DELETE FROM temp.staged")
        self._insert(db, table)
        self._rows.clear()
        return table

    def close(self) -> None:
        """Throw away what was laid ready; nothing when called again."""
        self._rows = []
        if self._spilled:
            self._spilled = False
            with contextlib.suppress(StoreError), self._cache.alone() as db:
                db.execute(f"DROP TABLE temp.{self._name}")
        if self.area is not None:
            area, self.area = self.area, None
            area.close()

    def _spill(self) -> None:
        with self._cache.alone() as db:
            db.execute("BEGIN")  # of the temporary database alone: the index is not touched, so not locked
            try:
                if not self._spilled:
                    db.execute(STAGED.format(self._name))
                self._insert(db, self._name)
                db.execute("COMMIT")
            except BaseException:
                db.execute("ROLLBACK")
                raise
        self._spilled = True
        self.count += sum(map(len, self._rows))
        self._rows.clear()

    def _insert(self, db: sqlite3.Connection, table: str) -> None:
        insert_rows(db, f"INSERT INTO temp.{table}", ("kind", "?"), self._rows)

    def _write(self, digest: str, payload: bytes) -> None:
        try:
            if self.area is None:
                if self._cache.blobs.abandoned():
                    self._cache.sweep()
                self.area = Area(self._cache.blobs)
            self.area.write(digest, payload)
        except StoreError:
            raise
        except OSError as error:
            raise store_error(self._cache.path, error) from error
