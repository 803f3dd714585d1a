"""Making room: the oldest results go until what is left fits.

Rules: what came from peers goes before what was computed here, the oldest-stored first; what is kept by name never
goes, and nothing that it was built on. A result that has gone is computed again, or fetched, when it is needed. What is
dropped is dropped only as it was found: a result that was replaced meanwhile stays. Evidence of conflicts stays.
Refuses no limit that is a number of bytes: where what is kept is larger, everything else goes, and the report says so.

>>> fed = Federation({"old": "a" * 1000, "new": "b" * 1000, "theirs": "c" * 1000}, provenance={"theirs": "alice"})
>>> sorted(prune(fed, max_bytes=1500, keep=["old"]))
['old']
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Final

from artdag_fed.cache import Changes, Drop, Made, Origin, OriginCache, Total
from artdag_fed.callables import Observe, check_callable, check_flag
from artdag_fed.dag import Dag, Node, recipe_inputs
from artdag_fed.events import Event, Report
from artdag_fed.instance import Federation, by_peer, cache_of, now
from artdag_fed.names import Cid, check_cid

__all__ = ["prune"]

BATCH: Final = 1000
"""Results that are looked at or dropped at once: some milliseconds in which nobody else can write."""


def prune(
    fed: Federation,
    *,
    max_bytes: int,
    keep: Iterable[Cid | Node] = (),
    dry_run: bool = False,
    observe: Observe | None = None,
) -> Federation:
    """Drop results until those that are held come to at most `max_bytes`: foreign ones first, of each the oldest first.

    max_bytes: of encoded results, 0 or more. What recipes and the index take is not counted; a file that two results
    share counts twice; in memory each result is encoded once to know its size, and what the codec cannot carry counts
    0. keep: results that stay whatever they take, and with them all that they were built on, as far down as the recipes
    of held results tell; a `Node` (a `Dag` is an iterable of them) names its inputs itself. dry_run: change nothing and
    observe nothing.

    Writes the cache, in batches: each is there or not, and after an exception those before it are gone. Files go at
    once; a durable index keeps its size and uses the room again. `report.dropping` says what went, or would go, by
    peer, and `report.holding` what is left: more than `max_bytes` only where `keep` is more, or others were writing.

    Raises `TypeError`, `ValueError` for fewer than 0 bytes, `InvalidName`, `StoreError`.
    """
    cache = cache_of(fed)
    check_flag("dry_run", dry_run)
    check_callable("observe", observe, optional=True)
    if type(max_bytes) is not int:
        raise TypeError(f"max_bytes must be an int, not {type(max_bytes).__name__}")
    if max_bytes < 0:
        raise ValueError(f"max_bytes must be at least 0, not {max_bytes}")
    kept = _with_inputs(cache, _named(keep))
    before = _held(cache)
    over = before.bytes - max_bytes  # once: what others store meanwhile is theirs to prune
    went: dict[Origin, Total] = {}
    for foreign in (True, False):
        oldest = ((cid, made) for cid, made in cache.inventory() if made.origin.local != foreign and cid not in kept)
        while over > 0 and (batch := _enough(oldest, over)):
            if not dry_run:
                batch = _dropped(cache, batch)
            for made in batch.values():
                went[made.origin] = went.get(made.origin, Total()).plus(1, made.size, made.seconds)
                over -= made.size
    gone, dropping = Total.of(went.values()), by_peer(went.items())
    if dry_run:
        left = before.plus(-gone.results, -gone.bytes, -min(gone.seconds, before.seconds))
        return now(cache, Report(dropping=dropping, holding=left))
    if observe is not None:
        observe(Event("dropped", count=gone.results))
    while cache.purge():  # all of it: room is what this was called for
        pass
    return now(cache, Report(dropped=gone.results, dropping=dropping, holding=_held(cache)))


def _named(keep: Iterable[Cid | Node]) -> set[Cid]:
    """The cids that are to be kept."""
    if isinstance(keep, str | bytes | Node):
        raise TypeError(f"keep must be several ids or nodes, not one {type(keep).__name__}: put it in a list")
    if not isinstance(keep, Iterable):
        raise TypeError(f"keep must be an iterable of ids or nodes, not {type(keep).__name__}")
    named: set[Cid] = set()
    for item in keep:
        if isinstance(item, Node):
            named.update(node.cid for node in Dag(item))
        else:
            named.add(check_cid(item))
    return named


def _with_inputs(cache: OriginCache, named: set[Cid]) -> set[Cid]:
    """These and all that they were built on, as far down as recipes are held."""
    found, below = set(named), named
    while below:
        rest = iter(below)
        below = set()
        while batch := list(islice(rest, BATCH)):
            for made in cache.made(batch).values():
                below.update(i for i in recipe_inputs(made.recipe) if i not in found)
        found |= below
    return found


def _held(cache: OriginCache) -> Total:
    """What everything that is held comes to."""
    if not cache.encodes:
        for _ in cache.inventory():  # sizes that nobody asked for yet are worked out, and are in the totals then
            pass
    return Total.of(cache.origins().values())


def _enough(found: Iterator[tuple[Cid, Made]], size: int) -> dict[Cid, Made]:
    """The next ones, until they come to `size` bytes or are `BATCH` results."""
    batch: dict[Cid, Made] = {}
    for cid, made in islice(found, BATCH):
        batch[cid] = made
        size -= made.size
        if size <= 0:
            break
    return batch


def _dropped(cache: OriginCache, batch: dict[Cid, Made]) -> dict[Cid, Made]:
    """Drop these as far as they are still held as they were found; those that went."""
    held = cache.held(batch)
    same = {
        cid: Drop(held[cid].token, m.digest) for cid, m in batch.items() if cid in held and held[cid].origin == m.origin
    }
    if cache.commit(Changes(drop_if=same)).dropped == len(batch):
        return batch
    stayed = cache.held(batch)
    return {cid: made for cid, made in batch.items() if cid not in stayed}
