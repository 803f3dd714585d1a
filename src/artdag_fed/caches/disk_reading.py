"""The half of a durable cache that looks: what is held and whence, and results read and checked.

Rules: each statement sees one state of the index, and no lock or cursor is held between two of them, so a walk takes
batches; bytes are checked against their digest whenever they are read. Nothing here writes.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from hashlib import sha256
from typing import Any

from artdag_fed.cache import Held, Made, Offer, Origin, Stored, Total
from artdag_fed.caches.disk_blobs import Blobs
from artdag_fed.caches.disk_commit import recipe_from
from artdag_fed.caches.disk_offers import OFFER_COLUMNS, offers_from
from artdag_fed.caches.disk_origins import BATCH, NAMED, batches, origin_of
from artdag_fed.caches.disk_views import LiveView
from artdag_fed.codec import Codec
from artdag_fed.dag import recipe_prefix
from artdag_fed.errors import CodecError, StoreError
from artdag_fed.events import Event, tell_damaged
from artdag_fed.names import Cid, PeerId, shown

__all__ = ["DiskReading"]

_MADE = "r.origin, r.digest, r.recipe, r.inputs_digest, r.size, r.seconds, r.signature, r.id"
_LIVE = "FROM result AS r CROSS JOIN origin AS o ON o.id = r.origin WHERE o.live"

# In a third of the time that a named tuple's own way takes.
_held = partial(tuple.__new__, Held)
_made = partial(tuple.__new__, Made)


class DiskReading(ABC):
    """What a `DiskCache` answers; it brings the connection and the folder of the large results."""

    path: str
    blobs: Blobs
    _codec: Codec
    _origins: dict[int, Origin]

    @abstractmethod
    def alone(self) -> contextlib.AbstractContextManager[sqlite3.Connection]:
        """The connection, alone with it."""

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

    def origins(self) -> dict[Origin, Total]:
        columns = "peer, lineage, results, bytes, seconds"
        with self.alone() as db:
            rows = db.execute(f"SELECT {columns} FROM origin WHERE live AND results > 0").fetchall()
        return {origin_of(peer, lineage): Total(*total) for peer, lineage, *total in rows}

    def held(self, cids: Iterable[Cid]) -> dict[Cid, Held]:
        held, origins = {}, self._origins
        for batch, rows in self._asked("r.origin, r.digest, r.source", cids):
            for place, token, digest, source in rows:
                held[batch[place]] = _held((origins.get(token) or self._origin(token), token, digest, source))
        return held

    def load(self, cids: Iterable[Cid], observe: Callable[[Event], None] | None = None) -> dict[Cid, tuple[Held, Any]]:
        loaded, decode, origins = {}, self._codec.decode, self._origins
        for cid, token, digest, payload, source in self._read("r.source", cids, observe):
            try:
                result = decode(payload)
            except CodecError as error:
                if self._origin(token).local:  # our own: the codec that wrote it is missing, and nothing is wrong
                    raise
                tell_damaged(observe, cid, f"what the peer sent is no value: {error}")
            else:
                loaded[cid] = _held((origins.get(token) or self._origin(token), token, digest, source)), result
        return loaded

    def stored(self, cid: Cid) -> Stored | None:
        for _, token, digest, payload, recipe in self._read("r.recipe", [cid], None):
            return Stored(self._origin(token), digest, payload, None, recipe_from(recipe))
        return None

    def _read(
        self, column: str, cids: Iterable[Cid], observe: Callable[[Event], None] | None
    ) -> Iterator[tuple[Cid, int, str, bytes, Any]]:
        """Cid, token, digest, payload and `column` of those that are held, the payload checked, from its file if need
        be. What fails the check is left out, and word given of it.
        """
        gone: dict[Cid, str] = {}
        while cids:
            again = []
            # In the place of a payload that lies beside, its size: most do not, and then one column less is read.
            for batch, rows in self._asked(f"r.origin, r.digest, coalesce(r.payload, r.size), {column}", cids):
                for place, token, digest, payload, other in rows:
                    cid = batch[place]
                    if type(payload) is int:
                        payload = self._file(cid, digest, payload)
                        if payload is None and gone.get(cid) != digest:
                            # Dropped or replaced between the row and the file, perhaps: the row is asked for again.
                            gone[cid] = digest
                            again.append(cid)
                            continue
                    # Damage may have changed the type of a value in its row, too.
                    if type(payload) is bytes and sha256(payload).hexdigest() == digest:
                        yield cid, token, digest, payload, other
                    else:
                        why = "its file is gone" if payload is None else "its bytes are not those that its digest names"
                        tell_damaged(observe, cid, why)
            cids = again

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
        where = "r.recipe <> '' AND substr(r.recipe, 1, ?) = ?"
        for cid, recipe, _ in self._walk("r.cid, r.recipe, r.id", where, len(prefix), prefix):
            yield cid, recipe_from(recipe)

    def made(self, cids: Iterable[Cid]) -> dict[Cid, Made]:
        return {batch[place]: made for batch, rows in self._asked(_MADE, cids) for place, made in self._made_of(rows)}

    def inventory(self) -> Iterator[tuple[Cid, Made]]:
        return self._made_of(self._walk(f"r.cid, {_MADE}", "1"))

    def _made_of(self, rows: Iterable[tuple[Any, ...]]) -> Iterator[tuple[Any, Made]]:
        """Of rows of something and `_MADE`: that, and how it was made."""
        origins = self._origins
        for key, token, digest, recipe, inputs, size, seconds, signature, _ in rows:
            origin = origins.get(token) or self._origin(token)
            # Damage may have changed the type of a value in its row.
            size = size if type(size) is int else 0
            signature = signature if type(signature) is bytes else b""
            yield key, _made((origin, digest, recipe_from(recipe), inputs, token, size, seconds, signature))

    def offers(self, cids: Iterable[Cid] | None = None) -> Iterator[Offer]:
        order = "cid, peer, digest, lineage"
        if cids is not None:
            for batch in batches(sorted(set(cids))):
                asked = "cid IN (SELECT value FROM json_each(?))"
                with self.alone() as db:
                    rows = db.execute(
                        f"SELECT {OFFER_COLUMNS} FROM offer WHERE {asked} ORDER BY {order}", (json.dumps(batch),)
                    ).fetchall()
                yield from offers_from(rows)
            return
        last: tuple[str, ...] = ("", "", "", "")
        while True:
            with self.alone() as db:
                rows = db.execute(
                    f"SELECT {OFFER_COLUMNS} FROM offer WHERE ({order}) > (?, ?, ?, ?) ORDER BY {order} LIMIT {BATCH}",
                    last,
                ).fetchall()
            yield from offers_from(rows)
            if len(rows) < BATCH:
                return
            cid, peer, digest, _, lineage, *_ = rows[-1]
            last = (cid, peer, digest, lineage)

    def _asked(self, columns: str, cids: Iterable[Cid]) -> Iterator[tuple[list[Cid], list[tuple[Any, ...]]]]:
        """Of those that are held, a batch at a time: the batch, and rows of a place in it and `columns`.

        The place and not the cid: to make the text anew, and to hash it, takes a tenth of reading a small result.
        """
        for batch in batches(cids):
            with self.alone() as db:
                rows = db.execute(f"SELECT j.key, {columns} {NAMED}", (json.dumps(batch),)).fetchall()
            if not rows and len(batch) == BATCH and not self._count("1"):
                return  # a new cache need not be asked ten thousand times
            yield batch, rows

    def _walk(self, columns: str, where: str, *values: object) -> Iterator[tuple[Any, ...]]:
        """The live rows of `columns`, `r.id` last, in the order in which they were stored, a batch at a time: no cursor
        is held in between."""
        last, more = 0, True
        while more:
            with self.alone() as db:
                rows = db.execute(
                    f"SELECT {columns} {_LIVE} AND {where} AND r.id > ? ORDER BY r.id LIMIT {BATCH}",
                    (*values, last),
                ).fetchall()
            more = len(rows) == BATCH
            last = rows[-1][-1] if rows else last
            rows.reverse()
            while rows:  # each goes as it is given: of those that stay, the garbage collector has the more to look at
                yield rows.pop()

    def _places(self, where: str) -> Iterator[tuple[Cid, Origin]]:
        """The live results with their origins, by cid: one that is replaced meanwhile keeps its place in that order."""
        last, origins = "", self._origins
        while True:
            with self.alone() as db:
                rows = db.execute(
                    f"SELECT r.cid, r.origin {_LIVE} AND {where} AND r.cid > ? ORDER BY r.cid LIMIT {BATCH}",
                    (last,),
                ).fetchall()
            for cid, token in rows:
                yield cid, origins.get(token) or self._origin(token)
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
