"""The offers that a durable cache keeps as evidence, in the table `offer`: see `OriginCache.offers`.

Rules: written inside the transaction of the commit that saw them, from what is staged and what is held; one row for a
cid, peer, digest and lineage, the first that came, which only a missing signature is added to. `arrived` tells an offer
that came from one that was noted as the held one beside it. An offer names its peer itself, not a row of `origin`:
origins come and go, and evidence stays. The peer of what was computed here is ''.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from artdag_fed.cache import MOST_OFFERS, Offer, Origin
from artdag_fed.caches.disk_origins import batches
from artdag_fed.caches.evidence import going, lineage_text
from artdag_fed.names import Cid

__all__ = ["OFFER_COLUMNS", "bound", "note", "offers_from", "settle"]

OFFER_COLUMNS = "cid, peer, digest, size, lineage, signature, at"

# One that is there already is written again only for what it lacks: the same bundle once more costs nothing.
_ADD = f"INSERT INTO offer ({OFFER_COLUMNS}, arrived)"
_AGAIN = (
    " ON CONFLICT (cid, peer, digest, lineage) DO UPDATE SET arrived = max(arrived, excluded.arrived),"
    " signature = coalesce(signature, excluded.signature)"
    " WHERE arrived < excluded.arrived OR (signature IS NULL AND excluded.signature IS NOT NULL)"
)


def note(db: sqlite3.Connection, table: str, origins: Sequence[Origin], at: float, behind: int = 0) -> None:
    """Keep what is staged in `table`, and what is held in the rows behind that id, where one meets another offer.

    origins: those of the kinds that staged rows name. Of one peer no more than `bound` could keep, and one, so that it
    knows: those that disagree, and the last ones. So a flood is not written only to be removed again.
    """
    db.execute("CREATE TEMP TABLE IF NOT EXISTS offering (kind INTEGER PRIMARY KEY, peer TEXT, lineage TEXT)")
    db.execute("DELETE FROM temp.offering")
    kinds = ((kind, o.peer or "", lineage_text(o.lineage)) for kind, o in enumerate(origins))
    db.executemany("INSERT INTO temp.offering VALUES (?, ?, ?)", kinds)
    db.execute("CREATE TEMP TABLE IF NOT EXISTS met (staged INTEGER, held INTEGER)")
    db.execute("DELETE FROM temp.met")
    db.execute(
        "INSERT INTO temp.met SELECT staged, held FROM (SELECT s.rowid AS staged, r.id AS held, row_number() OVER"
        " (PARTITION BY k.peer ORDER BY s.digest = r.digest, s.cid DESC, s.digest DESC, k.lineage DESC) AS place"
        f" FROM temp.{table} AS s CROSS JOIN result AS r ON r.cid = s.cid"
        " CROSS JOIN origin AS o ON o.id = r.origin CROSS JOIN temp.offering AS k ON k.kind = s.kind"
        " WHERE o.live AND r.id > ?"
        " AND NOT (s.digest = r.digest AND k.peer = coalesce(o.peer, '') AND k.lineage = o.lineage)) WHERE place <= ?",
        (behind, MOST_OFFERS // 2 + 1),
    )
    # In the order of the cids, so that their index is written from left to right.
    db.execute(
        f"{_ADD} SELECT s.cid, k.peer, s.digest, s.size, k.lineage, s.signature, ?, 1 FROM temp.met AS m"
        f" CROSS JOIN temp.{table} AS s ON s.rowid = m.staged CROSS JOIN temp.offering AS k ON k.kind = s.kind"
        f" WHERE 1 ORDER BY s.cid, s.rowid {_AGAIN}",
        (at,),
    )
    db.execute(
        f"{_ADD} SELECT r.cid, coalesce(o.peer, ''), r.digest, r.size, o.lineage, r.signature, ?, 0"
        " FROM (SELECT DISTINCT held FROM temp.met) AS m CROSS JOIN result AS r ON r.id = m.held"
        f" CROSS JOIN origin AS o ON o.id = r.origin WHERE 1 ORDER BY r.cid {_AGAIN}",
        (at,),
    )


def bound(db: sqlite3.Connection) -> None:
    """Remove what is over `MOST_OFFERS`."""
    # The ids span at least as many as there are: mostly that is known without counting.
    for count in "max(id) - min(id) + 1", "count(*)":
        (offers,) = db.execute(f"SELECT coalesce({count}, 0) FROM offer").fetchone()
        if offers <= MOST_OFFERS:
            return
    counts = dict(db.execute("SELECT peer, count(*) FROM offer WHERE arrived GROUP BY peer").fetchall())
    over = going(counts, MOST_OFFERS // 2)
    db.executemany(
        "DELETE FROM offer WHERE id IN (SELECT id FROM offer AS a WHERE arrived AND peer = ? ORDER BY"
        " EXISTS (SELECT 1 FROM offer AS b WHERE b.cid = a.cid AND b.digest <> a.digest), at, cid, digest, lineage"
        " LIMIT ?)",
        over.items(),
    )
    if over:
        db.execute(
            "DELETE FROM offer WHERE NOT arrived"
            " AND NOT EXISTS (SELECT 1 FROM offer AS b WHERE b.cid = offer.cid AND b.arrived)"
        )
    # What was held can be more than what arrived only where it was withdrawn again and again; then the oldest go.
    (count,) = db.execute("SELECT count(*) FROM offer").fetchone()
    if count > MOST_OFFERS:
        oldest = "SELECT id FROM offer ORDER BY arrived, at, cid, peer, digest, lineage LIMIT ?"
        db.execute(f"DELETE FROM offer WHERE id IN ({oldest})", (count - MOST_OFFERS,))


def settle(db: sqlite3.Connection, cids: Iterable[Cid]) -> None:
    """Forget the offers about these cids."""
    if db.execute("SELECT 1 FROM offer").fetchone() is None:  # as mostly
        return
    for batch in batches(cids):
        db.execute("DELETE FROM offer WHERE cid IN (SELECT value FROM json_each(?))", (json.dumps(batch),))


def offers_from(rows: Iterable[tuple[Any, ...]]) -> Iterator[Offer]:
    """Offers from rows of `OFFER_COLUMNS`. One whose row is damaged is left out: no result depends on it."""
    for cid, peer, digest, size, lineage, signature, at in rows:
        with contextlib.suppress(TypeError, ValueError):
            peers = frozenset(json.loads(lineage))
            if all(isinstance(text, str) for text in (cid, peer, digest, *peers)) and isinstance(size, int):
                yield Offer(cid, peer or None, digest, size, peers, bytes(signature or b""), float(at))
