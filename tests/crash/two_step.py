"""A cache that is wrong on purpose: it commits results first, and where they came from in a second transaction.

What the reference that this library started from does; between the two steps a foreign result looks as if it had been
computed here. Its end states are those of a right cache, so only a crash in between shows it: the sweep has to find it.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator

from artdag_fed import DiskCache

__all__ = ["TwoStepCache"]

LAST = "SELECT coalesce(max(id), 0) FROM result"


class TwoStepCache(DiskCache):
    """Each commit that stores results is two."""

    @contextlib.contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        with super()._writing() as db:
            (last,) = db.execute(LAST).fetchone()
            yield db
            new = db.execute("SELECT origin, id, size FROM result WHERE id > ?", (last,)).fetchall()
            if new:
                here = db.execute("SELECT id FROM origin WHERE live AND peer IS NULL AND lineage = '[]'").fetchone()
                if here is None:
                    sql = "INSERT INTO origin (peer, lineage, live, results, bytes) VALUES (NULL, '[]', 1, 0, 0)"
                    here = (db.execute(sql).lastrowid,)
                _move(db, [(here[0], id, size) for _, id, size in new])
        if new:
            with super()._writing() as db:
                _move(db, new)


def _move(db: sqlite3.Connection, rows: list[tuple[int, int, int]]) -> None:
    """Give results these origins, and keep the counts right."""
    for origin, id, size in rows:
        held = "(SELECT origin FROM result WHERE id = ?)"
        db.execute(f"UPDATE origin SET results = results - 1, bytes = bytes - ? WHERE id = {held}", (size, id))
        db.execute("UPDATE result SET origin = ? WHERE id = ?", (origin, id))
        db.execute("UPDATE origin SET results = results + 1, bytes = bytes + ? WHERE id = ?", (size, origin))
