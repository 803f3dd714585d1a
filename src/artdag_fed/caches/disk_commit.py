"""The held/arriving table of a durable cache, as the SQL of one write transaction.

Rules: every function here runs inside a transaction that the caller has begun and ends, and touches nothing but the
index; what is staged is in a temporary table of the connection. Counts per origin are kept in the same transaction as
the rows that they count.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

from artdag_fed.cache import Clash, Origin, Total
from artdag_fed.caches.disk_offers import bound, note
from artdag_fed.caches.disk_origins import MORE, ROWS, drop, live_id, not_live, origin_of
from artdag_fed.caches.evidence import lineage_text
from artdag_fed.names import Cid

__all__ = ["Kind", "Rows", "Verdicts", "insert_rows", "put", "recipe_from"]

_LAST = "SELECT coalesce(max(id), 0) FROM result"

STAGED = (
    "CREATE TEMP TABLE {} (cid TEXT, kind INTEGER, digest TEXT, inputs_digest TEXT, source TEXT, recipe BLOB,"
    " payload BLOB, size INTEGER, seconds REAL NOT NULL DEFAULT 0, signature BLOB)"
)


class Kind(NamedTuple):
    """What many entries have in common: see `Entry`."""

    origin: Origin
    replace: bool
    basis: frozenset[int]


class Rows:
    """Results laid ready, with or without a place for signatures: the values of one row behind those of another.

    A row has: cid, number of its kind, digest, inputs digest, source, recipe (see `recipe_from`), payload (None where
    it lies beside, as a file), size, seconds; then, where there is a place for it, the signature or None. The payload
    is a `bytearray`: the `sqlite3` module asks for an adapter of each `bytes` that it binds, which takes four times as
    long as making a `bytearray` of it, and of each None (so signatures are bound only where there are some).
    """

    def __init__(self, *, signed: bool) -> None:
        self.columns = "digest, inputs_digest, source, recipe, payload, size, seconds" + ", signature" * signed
        self.width = 9 + signed  # cid and kind come first
        self.values: list[Any] = []

    def __len__(self) -> int:
        return len(self.values) // self.width

    def total(self) -> Total:
        """What they come to: results, bytes, seconds."""
        return Total(len(self), sum(self.values[7 :: self.width]), sum(self.values[8 :: self.width]))


class Laying(Protocol):
    """What is laid ready for one commit; see `disk_staging.Laid`."""

    count: int

    @property
    def kinds(self) -> Sequence[Kind]: ...
    @property
    def rows(self) -> list[Rows] | None: ...
    def fill(self, db: sqlite3.Connection) -> str: ...


def insert_rows(db: sqlite3.Connection, insert: str, kind: tuple[str, str], laid: Sequence[Rows]) -> int:
    """Insert rows, many in a statement, which takes a quarter less than one after the other; the number inserted.

    insert: the statement up to the table; kind: the column that takes the number of the kind, and the value for it.
    """
    column, number = kind
    cursor, inserted = db.cursor(), 0  # one cursor for all: each leaves something behind for the garbage collector
    for rows in laid:
        row = f"(?, {number}{', ?' * (rows.width - 2)})"
        step = ROWS * rows.width
        for start in range(0, len(rows.values), step):
            values = rows.values[start : start + step]
            those = ", ".join([row] * (len(values) // rows.width))
            inserted += cursor.execute(f"{insert} (cid, {column}, {rows.columns}) VALUES {those}", values).rowcount
    return inserted


def recipe_from(column: str | bytes) -> bytes:
    """The recipe that was kept: as text if it is UTF-8, which ours are, for text is bound in a fraction of the time."""
    return column.encode() if isinstance(column, str) else column


class Verdicts:
    """What the table says of what is staged in `table`, before anything is inserted.

    Of several rows for one cid those are judged that come before, and with, the first that replaces what is held; those
    behind it meet that one: see `_repeats`. `unchanged`, `clashes`: as in `Outcome`; `kept`: how many staged rows stay
    out, for what is held stays or was replaced by a later one; `passed`: the latter's places in the table; `doomed`:
    ids of rows that make room; `evidence`: whether one met another offer than its own.
    """

    def __init__(self, db: sqlite3.Connection, table: str, kinds: Sequence[Kind]) -> None:
        self.unchanged = 0
        self.clashes: list[Clash] = []
        self.kept = 0
        self.passed: list[int] = []
        self.doomed: set[int] = set()
        self.evidence = False
        lineages = [lineage_text(kind.origin.lineage) for kind in kinds]
        rows = db.execute(
            f"SELECT s.cid, s.rowid, s.kind, s.digest, r.id, r.digest, o.live, o.peer, o.lineage FROM temp.{table} s"
            " CROSS JOIN result r ON r.cid = s.cid CROSS JOIN origin o ON o.id = r.origin ORDER BY s.cid, s.rowid"
        )
        before, last = list[int](), None  # rows for the same held one that did not replace it
        for cid, place, number, digest, id, held_digest, live, peer, lineage in rows:
            if not live:  # as good as not there
                self.doomed.add(id)
                continue
            if id in self.doomed:  # replaced by an earlier one
                continue
            if id != last:
                before, last = [], id
            offered, replace, _ = kinds[number]
            replaced = offered.local and (replace or peer is not None)
            if (digest, peer, lineage) != (held_digest, offered.peer, lineages[number]):
                self.evidence = True
            if digest != held_digest:
                self.clashes.append(Clash(cid, origin_of(peer, lineage), held_digest, offered, digest, replaced))
            elif not replaced:
                self.unchanged += 1
            if replaced:
                self.doomed.add(id)
                self.passed += before
            else:
                self.kept += 1
                before.append(place)


class Put(NamedTuple):
    """What became of what was laid ready; rows of `result` from `first_new` on are new. The rest as in `Outcome`."""

    stored: dict[Origin, int]
    first_new: int
    unchanged: int = 0
    clashes: tuple[Clash, ...] = ()
    stale: frozenset[Cid] = frozenset()


def put(db: sqlite3.Connection, laid: Laying, at: float) -> Put:
    """Store what is laid ready, by the held/arriving table, and keep the offers that meet, as of then."""
    withdrawn = not_live(db, frozenset().union(*(kind.basis for kind in laid.kinds)))
    rows = laid.rows
    if rows is not None and not withdrawn:
        done = _put_new(db, rows, laid.kinds)
        if done is not None:
            return done
    table = laid.fill(db)
    stale = _take_out(db, table, [n for n, kind in enumerate(laid.kinds) if kind.basis & withdrawn])
    verdicts = Verdicts(db, table, laid.kinds)
    origins = [kind.origin for kind in laid.kinds]
    if verdicts.evidence:
        note(db, table, origins, at)
    drop(db, verdicts.doomed)
    db.executemany(f"DELETE FROM temp.{table} WHERE rowid = ?", ((place,) for place in verdicts.passed))
    (last,) = db.execute(_LAST).fetchone()
    stored, inserted = _insert(db, table, laid.kinds, last)
    unchanged, clashes = verdicts.unchanged, verdicts.clashes
    if inserted + verdicts.kept + len(stale) < laid.count:
        more_unchanged, more_clashes, met = _repeats(db, table, laid.kinds, last)
        unchanged, clashes = unchanged + more_unchanged, clashes + more_clashes
        if met:
            note(db, table, origins, at, behind=last)
            verdicts.evidence = True
    if verdicts.evidence:
        bound(db)
    return Put(stored, last + 1, unchanged, tuple(clashes), stale)


def _put_new(db: sqlite3.Connection, rows: list[Rows], kinds: Sequence[Kind]) -> Put | None:
    """The short way, for rows of which none is held and no two have one cid; None, and nothing done, for others."""
    db.execute("SAVEPOINT short")
    (last,) = db.execute(_LAST).fetchone()
    ids, newest = _ids(db, kinds)
    # Mostly there is one kind, and its number is 0: adding that takes a fifth less than looking up the id.
    id = f"{ids[0]} + ?" if len(kinds) == 1 else "(SELECT id FROM temp.origin_of_kind WHERE kind = ?)"
    inserted = insert_rows(db, "INSERT OR IGNORE INTO result", ("origin", id), rows)
    if inserted == sum(map(len, rows)):
        if len(kinds) == 1:
            counts = [(*Total.of([some.total() for some in rows]), ids[0])]
        else:
            counts = _added(db, ids, last)
        done: Put | None = Put(_count(db, kinds, ids, newest, counts), last + 1)
    else:
        done = None
        db.execute("ROLLBACK TO short")
    db.execute("RELEASE short")
    return done


def _insert(db: sqlite3.Connection, table: str, kinds: Sequence[Kind], last: int) -> tuple[dict[Origin, int], int]:
    """Insert what is staged and not held, behind the row `last`. The numbers stored by origin, and in all."""
    ids, newest = _ids(db, kinds)
    inserted = db.execute(
        # In the order in which they came, which is as fast as by cid; of two rows for one cid the first stays.
        "INSERT OR IGNORE INTO result (cid, origin, size, digest, inputs_digest, source, recipe, payload, seconds,"
        " signature) SELECT s.cid, k.id, s.size, s.digest, s.inputs_digest, s.source, s.recipe, s.payload, s.seconds,"
        f" s.signature FROM temp.{table} AS s CROSS JOIN temp.origin_of_kind AS k ON k.kind = s.kind ORDER BY s.rowid"
    ).rowcount
    return _count(db, kinds, ids, newest, _added(db, ids, last)), inserted


Added = list[tuple[int, int, float, int]]  # results, bytes, seconds, and the id of their origin


def _added(db: sqlite3.Connection, ids: list[int], last: int) -> Added:
    """What the rows behind `last` come to, by origin."""
    # NOT INDEXED: only the new rows are read; else SQLite would group by the index of origins, and walk all of it.
    group = "GROUP BY origin" if len(ids) > 1 else ""  # to group what is of one origin is to sort it, for nothing
    return db.execute(
        f"SELECT count(*), sum(size), sum(seconds), origin FROM result NOT INDEXED WHERE id > ? {group}", (last,)
    ).fetchall()


def _count(
    db: sqlite3.Connection, kinds: Sequence[Kind], ids: list[int], newest: int, counts: Added
) -> dict[Origin, int]:
    """Add what was stored to the counts of its origins; the numbers by origin."""
    counts = [row for row in counts if row[0]]
    db.executemany(MORE, counts)
    # Origins of which everything was held already leave no trace: a peer cannot fill the table with names.
    # One that was there before this commit stays: another process may just have read a row that named it.
    db.execute("DELETE FROM origin WHERE results = 0 AND id > ?", (newest,))
    origins = dict(zip(ids, (kind.origin for kind in kinds), strict=True))
    return {origins[id]: count for count, _, _, id in counts}


def _ids(db: sqlite3.Connection, kinds: Sequence[Kind]) -> tuple[list[int], int]:
    """The ids of the live origins of these kinds, made where there is none, and the highest id before that.

    They are in the temporary table `origin_of_kind` as well.
    """
    (newest,) = db.execute("SELECT coalesce(max(id), 0) FROM origin").fetchone()
    ids = {origin: 0 for origin, _, _ in kinds}
    for origin in ids:
        ids[origin] = live_id(db, origin)
    by_kind = [ids[origin] for origin, _, _ in kinds]
    db.execute("CREATE TEMP TABLE IF NOT EXISTS origin_of_kind (kind INTEGER PRIMARY KEY, id INTEGER)")
    db.execute("DELETE FROM temp.origin_of_kind")
    db.executemany("INSERT INTO temp.origin_of_kind VALUES (?, ?)", enumerate(by_kind))
    return by_kind, newest


def _repeats(db: sqlite3.Connection, table: str, kinds: Sequence[Kind], last: int) -> tuple[int, list[Clash], bool]:
    """Of several staged rows for one cid, the later ones judged against the first: unchanged, and clashes; and whether
    one met another offer than its own."""
    unchanged, clashes, met = 0, list[Clash](), False
    lineages = [lineage_text(kind.origin.lineage) for kind in kinds]
    rows = db.execute(
        f"SELECT s.cid, s.kind, s.digest, r.digest, o.peer, o.lineage FROM temp.{table} s"
        f" JOIN (SELECT cid, min(rowid) AS first FROM temp.{table} GROUP BY cid HAVING count(*) > 1) d"
        " ON d.cid = s.cid AND s.rowid > d.first"
        " JOIN result r ON r.cid = s.cid JOIN origin o ON o.id = r.origin WHERE r.id > ?",
        (last,),
    )
    for cid, number, digest, held_digest, peer, lineage in rows:
        met = met or (digest, kinds[number].origin.peer, lineages[number]) != (held_digest, peer, lineage)
        if digest == held_digest:
            unchanged += 1
        else:
            clashes.append(
                Clash(cid, origin_of(peer, lineage), held_digest, kinds[number].origin, digest, replaced=False)
            )
    return unchanged, clashes, met


def _take_out(db: sqlite3.Connection, table: str, numbers: list[int]) -> frozenset[Cid]:
    """Take the rows of these kinds out of a staged table; their cids."""
    if not numbers:
        return frozenset()
    where = f"FROM temp.{table} WHERE kind IN (SELECT value FROM json_each(?))"
    stale = frozenset(cid for (cid,) in db.execute(f"SELECT cid {where}", (json.dumps(numbers),)))
    db.execute(f"DELETE {where}", (json.dumps(numbers),))
    return stale
