"""The origins of a durable cache and the results that leave them, as the SQL of one write transaction.

Rules: every function here runs inside a transaction that the caller has begun and ends, and touches nothing but the
index. What the results of an origin come to is kept in its row, in the same transaction as the rows that are counted.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import chain, islice
from typing import Any, TypeVar

from artdag_fed.cache import Drop, Origin, Recall, Relabel
from artdag_fed.caches.evidence import lineage_text
from artdag_fed.names import Cid

__all__ = [
    "BATCH",
    "MORE",
    "NAMED",
    "batches",
    "drop",
    "drop_named",
    "live_id",
    "not_live",
    "origin_of",
    "recall",
    "relabel",
    "withdraw",
]

T = TypeVar("T")

ROWS = 99  # in one statement: more gain nothing, and with ten values each they are within any limit of SQLite's
BATCH = 1000  # rows that are looked up, dropped or purged at a time: a few milliseconds under the lock

NAMED = (
    "FROM json_each(?) AS j CROSS JOIN result AS r ON r.cid = j.value CROSS JOIN origin AS o ON o.id = r.origin"
    " WHERE o.live"
)
# Seconds are no whole numbers, so taking away what was added may leave a trace: none is left of no results.
_LESS = (
    "UPDATE origin SET results = results - ?, bytes = bytes - ?,"
    " seconds = CASE WHEN results = ? THEN 0 ELSE max(seconds - ?, 0) END WHERE id = ?"
)
MORE = "UPDATE origin SET results = results + ?, bytes = bytes + ?, seconds = seconds + ? WHERE id = ?"


def batches(items: Iterable[T], size: int = BATCH) -> Iterator[list[T]]:
    """The items in lists of at most `size`."""
    rest = iter(items)
    while batch := list(islice(rest, size)):
        yield batch


def origin_of(peer: str | None, lineage: str) -> Origin:
    """An origin from its row."""
    return Origin(peer, frozenset(json.loads(lineage)))


def live_id(db: sqlite3.Connection, origin: Origin) -> int:
    """The id of an origin while it is live; its row is made where there is none."""
    row = origin.peer, lineage_text(origin.lineage)
    found = db.execute("SELECT id FROM origin WHERE live AND peer IS ? AND lineage = ?", row).fetchone()
    if found is not None:
        return int(found[0])
    made = db.execute("INSERT INTO origin (peer, lineage, live, results, bytes) VALUES (?, ?, 1, 0, 0)", row).lastrowid
    assert made is not None
    return made


def not_live(db: sqlite3.Connection, tokens: frozenset[int]) -> frozenset[int]:
    """Those of these tokens whose origins have been withdrawn."""
    if not tokens:
        return tokens
    live = "SELECT id FROM origin WHERE live AND id IN (SELECT value FROM json_each(?))"
    return tokens - {id for (id,) in db.execute(live, (json.dumps(sorted(tokens)),))}


def withdraw(db: sqlite3.Connection, which: Callable[[Origin], bool]) -> int:
    """Mark the live origins for which `which` answers True; the number of results that went with them."""
    rows = db.execute("SELECT id, peer, lineage, results FROM origin WHERE live").fetchall()
    gone = [(id, results) for id, peer, lineage, results in rows if which(origin_of(peer, lineage))]
    db.executemany("UPDATE origin SET live = 0 WHERE id = ?", [(id,) for id, _ in gone])
    return sum(results for _, results in gone)


def drop(db: sqlite3.Connection, ids: Iterable[int]) -> int:
    """Delete these rows of `result`; the number of those that were there. Their files become garbage."""
    dropped = 0
    for batch in batches(ids):
        these = json.dumps(batch)
        counts = db.execute(
            "SELECT count(*), sum(size), count(*), sum(seconds), origin FROM result"
            " WHERE id IN (SELECT value FROM json_each(?)) GROUP BY origin",
            (these,),
        ).fetchall()
        db.executemany(_LESS, counts)
        db.execute(
            "INSERT OR IGNORE INTO garbage SELECT digest FROM result"
            " WHERE payload IS NULL AND id IN (SELECT value FROM json_each(?))",
            (these,),
        )
        db.execute("DELETE FROM result WHERE id IN (SELECT value FROM json_each(?))", (these,))
        dropped += sum(count for count, *_ in counts)
    return dropped


def drop_named(db: sqlite3.Connection, cids: Iterable[Cid], only: Mapping[Cid, Drop] | None = None) -> int:
    """Drop what is held of these, where `only` is given on its conditions alone; the number of them."""
    dropped = 0
    gone = not_live(db, frozenset().union(*(one.basis for one in only.values()))) if only else frozenset()
    for batch in batches(sorted(cids)):
        rows = db.execute(f"SELECT r.id, r.cid, r.origin, r.digest {NAMED}", (json.dumps(batch),)).fetchall()
        if only is not None:
            rows = [row for row in rows if row[2:] == only[row[1]][:2] and only[row[1]].basis.isdisjoint(gone)]
        dropped += drop(db, [id for id, *_ in rows])
    return dropped


def recall(db: sqlite3.Connection, which: Recall) -> int:
    """Drop the live results of a peer that it offers no more; the number of them."""
    recalled = 0
    origins = db.execute("SELECT id FROM origin WHERE live AND results > 0 AND peer = ?", (which.peer,)).fetchall()
    for (origin,) in origins:
        last = 0
        while True:
            rows = db.execute(
                f"SELECT id, cid FROM result WHERE origin = ? AND id > ? ORDER BY id LIMIT {BATCH}", (origin, last)
            ).fetchall()
            recalled += drop(db, [id for id, cid in rows if cid not in which.offered])
            if len(rows) < BATCH:
                break
            last = rows[-1][0]
    return recalled


def relabel(db: sqlite3.Connection, relabels: Mapping[Cid, Relabel]) -> int:
    """Give held results another origin, each on the conditions of its `Relabel`; the number of those that got it."""
    tokens = {new.token for new in relabels.values()}.union(*{new.basis for new in relabels.values()})
    gone = not_live(db, frozenset(tokens))
    ids: dict[Origin, int] = {}
    moves: dict[tuple[int, int], list[Any]] = {}
    moved: dict[int, dict[int, str]] = {}  # by new origin: inputs digests, by row
    # Many come from one origin and get one: to look both up for each costs more than all the rest here.
    last_token, last_origin = None, None
    inputs, counts = dict[int, str](), list[Any]()  # of the last two
    for batch in batches(relabels.items()):
        rows = db.execute(
            "SELECT j.key, r.id, r.origin, r.digest, r.size, r.seconds FROM json_each(?) AS j"
            " CROSS JOIN result AS r ON r.cid = j.value",
            (json.dumps([cid for cid, _ in batch]),),
        )
        for place, id, token, digest, size, seconds in rows.fetchall():
            held, bits, origin, basis, inputs_digest = batch[place][1]
            if token != held or digest != bits or (gone and (held in gone or basis & gone)):
                continue
            if token != last_token or origin is not last_origin:
                last_token, last_origin = token, origin
                if origin not in ids:
                    ids[origin] = live_id(db, origin)
                inputs = moved.setdefault(ids[origin], {})
                counts = moves.setdefault((token, ids[origin]), [0, 0, 0.0])
            inputs[id] = inputs_digest
            counts[0] += 1
            counts[1] += size
            counts[2] += seconds
    for to, inputs in moved.items():
        for some in batches(sorted(inputs.items())):  # from left to right
            _move(db, to, some)
    db.executemany(_LESS, [(n, size, n, seconds, token) for (token, _), (n, size, seconds) in moves.items()])
    db.executemany(MORE, [(*counts, origin) for (_, origin), counts in moves.items()])
    return sum(map(len, moved.values()))


def _move(db: sqlite3.Connection, origin: int, inputs: Iterable[tuple[int, str]]) -> None:
    """Give these rows another origin, and each its inputs digest, where that is not "".

    All at once: one after the other takes half as long again. UPDATE ... FROM would need no table, but SQLite 3.33.
    """
    db.execute("CREATE TEMP TABLE IF NOT EXISTS moved (id INTEGER PRIMARY KEY, inputs_digest TEXT)")
    db.execute("DELETE FROM temp.moved")
    for some in batches(inputs, ROWS):
        db.execute(f"INSERT INTO temp.moved VALUES {', '.join(['(?, ?)'] * len(some))}", list(chain(*some)))
    db.execute(
        "UPDATE result SET origin = :origin, signature = CASE origin WHEN :origin THEN signature END, inputs_digest ="
        " coalesce((SELECT nullif(m.inputs_digest, '') FROM temp.moved AS m WHERE m.id = result.id), inputs_digest)"
        " WHERE id IN (SELECT id FROM temp.moved)",
        {"origin": origin},
    )
