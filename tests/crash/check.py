"""What must hold of a durable cache after a crash, whatever the point.

Rules: a folder is judged by what anyone can read from it, and by counting its rows and files; nothing is believed that
the cache says of itself without a second look. Every complaint begins with one of `KINDS`. The folder is used up: it is
written to at the end, as the next user would.

>>> complaints(Path("/no/such/folder"), [frozenset()], 0)[0].split(":")[0]
'does not open'
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from artdag_fed import DiskCache, Federation
from artdag_fed.events import Event
from tests.crash.work import follow_up

__all__ = ["KINDS", "Row", "State", "complaints", "look"]

KINDS = (
    "does not open",
    "damaged",  # bytes are not those that their digest names, or the index is not whole
    "orphan",  # a foreign result shows as computed here
    "origin",  # a result shows another origin than it had or was to get
    "half",  # neither the old state nor one that a commit was to make
    "lost",  # an old state, when a newer one had been reported as stored
    "counters",  # what is counted per origin is not what is there
    "views",  # two ways of asking give two answers
    "follow-up",  # the next user cannot go on
    "waste",  # files that no row names are left
)


class Row(NamedTuple):
    """A result that is held, and whence."""

    cid: str
    digest: str
    peer: str | None
    lineage: tuple[str, ...]


State = frozenset[Row]


def look(cache: DiskCache) -> State:
    """What is held."""
    return frozenset(
        Row(cid, held.digest, held.origin.peer, tuple(sorted(held.origin.lineage)))
        for cid, held in cache.held(list(cache)).items()
    )


def complaints(folder: Path, states: Sequence[State], reported: int) -> list[str]:
    """What is wrong with the cache in `folder`: nothing, or lines that say it.

    states: what is held before the verb and after each of its commits; reported: how many of these commits had been
    reported as done before the crash.
    """
    try:
        cache = DiskCache(folder)
    except Exception as error:
        return [f"does not open: {type(error).__name__}: {error}"]
    found: list[str] = []
    try:
        with cache.alone() as db:
            whole = db.execute("PRAGMA integrity_check").fetchall()
        if whole != [("ok",)]:
            return [f"damaged: the index: {whole[0][0]}"]
        state = look(cache)
        found += _against(state, states, reported)
        found += _read(cache, state)
        found += _counted(cache)
        found += _next_user(cache, state)
    except Exception as error:
        found.append(f"follow-up: {type(error).__name__}: {error}")
    finally:
        cache.close()
    return found


def _against(state: State, states: Sequence[State], reported: int) -> list[str]:
    if state in states[reported:]:
        return []
    if state in states:
        return [f"lost: {reported} commits had returned, and {len(states[reported] ^ state)} results are as before"]
    found = []
    for row in sorted(state, key=lambda row: row.cid):
        known = {other for one in states for other in one if other.cid == row.cid}
        if row in known:
            continue
        if row.peer is None and known and all(other.peer is not None for other in known):
            found.append(f"orphan: {row.cid} shows as computed here, it is {sorted({str(o.peer) for o in known})}'s")
        elif any(other.digest == row.digest for other in known):
            found.append(f"origin: {row.cid} shows {row.peer}, resting on {row.lineage}")
    if not found:
        nearest = min(states, key=lambda one: len(one ^ state))
        more, less = (sorted(row.cid for row in rows) for rows in (state - nearest, nearest - state))
        found.append(f"half: against the nearest state, more: {more}, less: {less}")
    return found


def _read(cache: DiskCache, state: State) -> list[str]:
    """Every result that is held is there, with the right bytes and with the same origin on every way."""
    found = []
    damaged: list[Event] = []
    loaded = cache.load([row.cid for row in state], damaged.append)
    found += [f"damaged: {event.cid}: {event.reason}" for event in damaged]
    provenance, lineage = dict(cache.provenance), dict(cache.lineage)
    for cid, digest, peer, rests in state:
        stored = cache.stored(cid)
        if stored is None or stored.payload is None or cid not in loaded:
            found.append(f"damaged: {cid} is held and cannot be read")
            continue
        if not hashlib.sha256(stored.payload).hexdigest() == digest == stored.digest:
            found.append(f"damaged: {cid} has other bytes than its digest names")
        views = (stored.origin.peer, tuple(sorted(stored.origin.lineage)))
        if views != (peer, rests) or provenance.pop(cid, None) != peer or lineage.pop(cid, frozenset()) != {*rests}:
            found.append(f"views: the origin of {cid} differs: {peer}, {rests}; {views}")
    if provenance or lineage or len(cache) != len(state):
        found.append(f"views: origins of what is not held: {sorted(provenance.keys() | lineage.keys())}")
    return found


def _counted(cache: DiskCache) -> list[str]:
    """Counters against rows, withdrawn ones too; and no row without its origin."""
    with cache.alone() as db:
        kept = {id: (n, size) for id, n, size in db.execute("SELECT id, results, bytes FROM origin")}
        real = {
            id: (n, size) for id, n, size in db.execute("SELECT origin, count(*), sum(size) FROM result GROUP BY 1")
        }
    found = [f"orphan: rows of the origin {id}, which is not there" for id in real.keys() - kept.keys()]
    for id, counted in kept.items():
        if real.get(id, (0, 0)) != counted:
            found.append(f"counters: the origin {id} counts {counted}, and has {real.get(id, (0, 0))}")
    return found


def _next_user(cache: DiskCache, state: State) -> list[str]:
    """Removing and importing go on, and after them every file has its row and every row its file."""
    found = []
    fed = Federation(cache)
    while cache.purge():
        pass
    known = len({row.cid for row in state} & {"z0", "z0L"})
    admitted = follow_up(fed).report.admitted
    if admitted != 2 - known:
        found.append(f"follow-up: {admitted} results admitted, not {2 - known}")
    while cache.purge():
        pass
    after = look(cache)
    if not state <= after or len(after) != len(state) + admitted:
        found.append(f"follow-up: changed what was held: {sorted(row.cid for row in state ^ after)}")
    found += _counted(cache)
    with cache.alone() as db:
        named = dict(db.execute("SELECT digest, size FROM result WHERE payload IS NULL"))
        rubbish = db.execute("SELECT count(*) FROM garbage").fetchone()[0]
        dead = db.execute(
            "SELECT count(*) FROM result WHERE origin IN (SELECT id FROM origin WHERE NOT live)"
        ).fetchone()
    found += _files(Path(cache.blobs.path), named)
    if rubbish or dead[0]:
        found.append(f"waste: {rubbish} names of garbage and {dead[0]} withdrawn rows are never removed")
    return found


def _files(blobs: Path, named: Mapping[str, int]) -> list[str]:
    sizes = {entry.name: entry.stat().st_size for entry in os.scandir(blobs) if entry.is_file()}
    found = [f"waste: the file {name} in blobs/" for name in sorted(sizes.keys() - named.keys())]
    found += [
        f"damaged: the file {name} has {sizes.get(name)} bytes, not {size}"
        for name, size in named.items()
        if sizes.get(name) != size
    ]
    found += [f"waste: {name} in blobs/staging/" for name in sorted(os.listdir(blobs / "staging"))]
    return found
