"""A cache in memory and one on a disk agree: whatever is committed to both, both say and hold the same after it."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

from hypothesis import given, settings
from hypothesis import strategies as st

from artdag_fed import DiskCache, MemoryCache
from artdag_fed.cache import Changes, Clash, Drop, Entry, Origin, OriginCache, Recall, Relabel
from artdag_fed.caches import disk_offers, memory_offers
from artdag_fed.codec import DEFAULT

CIDS = ("c1", "c2", "c3")
PEERS = ("alice", "bob", "carol")
VALUES: tuple[Any, ...] = (1, "x" * 50, b"large" * 8_000)
PAYLOADS = tuple(map(DEFAULT.encode, VALUES))
DIGESTS = tuple(hashlib.sha256(payload).hexdigest() for payload in PAYLOADS)
MOST = 16  # offers, so that some have to go


class Put(NamedTuple):
    cid: str
    origin: Origin
    value: int
    replace: bool
    basis: int | None
    seconds: float
    signature: bytes


class Move(NamedTuple):
    cid: str
    origin: Origin
    token: int | None
    value: int | None
    basis: int | None


class Step(NamedTuple):
    puts: list[Put]
    moves: list[Move]
    withdraw: tuple[str, bool] | None
    recall: tuple[str, set[str]] | None
    drop: set[str]
    drop_if: dict[str, tuple[int | None, int, int | None]]
    settle: set[str]


def sometimes(what: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(st.none(), st.none(), st.none(), what)


cids, peers, values = st.sampled_from(CIDS), st.sampled_from(PEERS), st.integers(0, len(VALUES) - 1)
some_cids = st.one_of(st.just(set()), st.sets(cids, max_size=2))
origins = st.builds(Origin, st.one_of(st.none(), peers), st.frozensets(peers, max_size=1)).map(
    lambda o: Origin(o.peer, o.lineage - {o.peer})
)
ages = sometimes(st.integers(0, 20))  # of a token: the how manieth that was seen
puts = st.builds(
    Put, cids, origins, values, st.booleans(), ages, st.sampled_from((0.0, 0.25)), st.sampled_from((b"", b"signed"))
).map(lambda p: p._replace(signature=b"") if p.origin.local else p)
moves = st.builds(Move, cids, origins, ages, sometimes(values), ages)
steps = st.builds(
    Step,
    st.lists(puts, max_size=5),
    st.lists(moves, max_size=2),
    sometimes(st.tuples(peers, st.booleans())),
    sometimes(st.tuples(peers, some_cids)),
    some_cids,
    st.dictionaries(cids, st.tuples(ages, values, ages), max_size=1),
    some_cids,
)


def changes_of(cache: OriginCache, step: Step, seen: list[int], at: float) -> Changes:
    """The step as changes of one of the two; `seen`: the tokens that it has given, the same in number in both."""

    def token(age: int | None) -> frozenset[int]:
        return frozenset() if age is None or not seen else frozenset([seen[age % len(seen)]])

    def entry(put: Put) -> Entry:
        kept = (PAYLOADS[put.value], None, False) if cache.encodes else (None, VALUES[put.value], True)
        entry = Entry(put.cid, put.origin, DIGESTS[put.value], *kept)
        entry = entry._replace(replace=put.replace, basis=token(put.basis))
        return entry._replace(seconds=put.seconds, signature=put.signature)

    held, made = cache.held(CIDS), cache.made(CIDS)
    relabel = {
        cid: Relabel(
            min(token(age), default=held[cid].token),
            made[cid].digest if value is None else DIGESTS[value],
            origin,
            token(basis),
        )
        for cid, origin, age, value, basis in step.moves
        if cid in held
    }
    return Changes(
        withdraw=None if step.withdraw is None else lambda o: going(o, *step.withdraw),  # type: ignore[misc]  # just asked
        drop=frozenset(step.drop),
        drop_if={
            cid: Drop(min(token(age), default=held[cid].token), DIGESTS[value], token(basis))
            for cid, (age, value, basis) in step.drop_if.items()
            if cid in held
        },
        recall=None if step.recall is None else Recall(*step.recall),
        put=cache.stage(map(entry, step.puts)) if step.puts else None,
        relabel=relabel,
        settle=frozenset(step.settle),
        at=at,
    )


def going(origin: Origin, peer: str, derived: bool) -> bool:
    return origin.peer == peer or (derived and peer in origin.lineage)


def clash(clash: Clash) -> str:
    return repr(clash._replace(held=named(clash.held), offered=named(clash.offered)))  # type: ignore[arg-type]  # to sort


def named(origin: Origin) -> tuple[Any, ...]:
    return origin.peer, sorted(origin.lineage)


def said_and_held(cache: OriginCache, changes: Changes) -> Iterator[tuple[str, Any]]:
    done = cache.commit(changes)
    yield "clashes", sorted(map(clash, done.clashes))
    for what in ("stored", "unchanged", "stale", "withdrawn", "dropped", "recalled", "relabelled"):
        yield what, getattr(done, what)
    yield "held", {cid: held.origin for cid, held in cache.held(CIDS).items()}
    yield "made", {cid: made._replace(token=0) for cid, made in cache.made(CIDS).items()}  # each counts its own
    yield "loaded", {cid: value for cid, (_, value) in cache.load(CIDS).items()}
    yield "origins", cache.origins()
    yield "listed", (len(cache), sorted(cache))
    yield "offers", list(cache.offers())


@settings(max_examples=35, deadline=None, database=None)
@given(st.lists(steps, min_size=3, max_size=8))
def test_a_cache_in_memory_and_one_on_a_disk_agree_on_whatever_is_committed(steps: list[Step]) -> None:
    with ExitStack() as stack:
        for module in (disk_offers, memory_offers):
            stack.enter_context(patch.object(module, "MOST_OFFERS", MOST))
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        memory, disk = MemoryCache(), DiskCache(folder / "cache")
        stack.callback(disk.close)
        with disk.alone() as db:
            db.execute("PRAGMA synchronous = OFF")  # nothing here has to survive a power cut
        seen: dict[int, int] = {}  # the token in memory, and the one on the disk for the same life of the same origin
        for number, step in enumerate(steps):
            in_memory = changes_of(memory, step, list(seen), number)
            on_disk = changes_of(disk, step, list(seen.values()), number)
            for (what, one), (_, other) in zip(
                said_and_held(memory, in_memory), said_and_held(disk, on_disk), strict=True
            ):
                assert one == other, f"{what} after step {number}"
            one, other = memory.held(CIDS), disk.held(CIDS)
            for cid in one:
                assert seen.setdefault(one[cid].token, other[cid].token) == other[cid].token
