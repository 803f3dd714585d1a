"""Trust that is checked: challenge computes peers' results again, conflicts lists where they contradict each other.

Rules: what a challenge finds out is written in one commit, or nothing is; what it could not check is left as it was,
and said. A result that is confirmed or replaced was computed here from then on; nothing that a peer says is evidence
in its own favour. Evidence is read, never judged, by `conflicts`. Nothing here knows how a cache stores.

>>> from artdag_fed import Federation, Record, import_, node
>>> two = node("two@1")
>>> fed = import_(Federation(), [Record(two.cid, 3, "alice", recipe=two.recipe)], {"alice"}.__contains__)
>>> found = challenge(fed, lambda op, inputs, params: 2)
>>> found, found.refuted[0].peer, found.federation.cache[two.cid], dict(found.federation.provenance)
(<Challenge: 1 refuted>, 'alice', 2, {})
"""

from __future__ import annotations

import contextlib
import random
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import groupby
from operator import attrgetter
from types import MappingProxyType

from artdag_fed import drawing
from artdag_fed.cache import Changes, Made, Offer, OriginCache, Outcome, Relabel
from artdag_fed.callables import Runner, check_callable
from artdag_fed.challenging import WITHDRAWN, Findings, Refuted, Same, Work
from artdag_fed.derivation import Graph
from artdag_fed.errors import StoreError
from artdag_fed.events import Report, Total
from artdag_fed.instance import Federation, cache_of, now
from artdag_fed.names import Cid, PeerId, check_peer
from artdag_fed.record import statement
from artdag_fed.standing import READ_BYTES

__all__ = ["Challenge", "Conflict", "Offered", "Refuted", "Same", "challenge", "conflicts"]


# --- challenge --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, repr=False)
class Challenge:
    """What computing peers' results again has shown.

    confirmed: cids of those that are right, computed here from now on. refuted: those that were not, and were replaced
    by what was computed here. unchecked: why others could not be checked, by cid. vindicated: cids of results computed
    here that rest on fewer peers now. dropped: cids of what rested on a refuted result and went with it.
    """

    confirmed: tuple[Cid, ...]
    refuted: tuple[Refuted, ...]
    unchecked: Mapping[Cid, str]
    vindicated: tuple[Cid, ...]
    dropped: tuple[Cid, ...]
    federation: Federation = field(compare=False)

    def _repr_html_(self) -> str:
        first = next(iter(self.unchecked.values()), "")
        wrong = Counter(refuted.peer for refuted in self.refuted).most_common(3)
        rows: list[tuple[drawing.Cell, ...]] = [
            (drawing.Mark("here", "confirmed"), len(self.confirmed), "computed here from now on"),
            (drawing.Mark("failed", "refuted"), len(self.refuted), ", ".join(drawing.quoted(p, 40) for p, _ in wrong)),
            (drawing.Mark("skipped", "unchecked"), len(self.unchecked), first),
            ("vindicated", len(self.vindicated), "rest on fewer peers now"),
            ("dropped", len(self.dropped), "rested on a refuted one"),
        ]
        return drawing.html(drawing.Table(("Challenge", "results", ""), [row for row in rows if row[1]]))

    def __repr__(self) -> str:
        names = ("confirmed", "refuted", "unchecked", "vindicated", "dropped")
        parts = [f"{len(found)} {name}" for name in names if (found := getattr(self, name))]
        return f"<Challenge: {', '.join(parts) if parts else 'nothing to check'}>"


def challenge(
    fed: Federation,
    runner: Runner,
    *,
    peer: PeerId | None = None,
    sample: int | None = None,
    seed: int = 0,
    same: Mapping[str, Same] = MappingProxyType({}),
) -> Challenge:
    """Find out whether results that came from peers are right: compute them again, and compare the digests.

    runner: as for `run`. peer: only what came from this one. sample: so many of them, chosen by `random.Random(seed)`
    from their sorted cids (None: all). same: by op, `f(held, computed)` that says whether a held result is right though
    it is not equal to the bit: True confirms it, and its bits stay.

    A result is computed from its recipe and from the inputs that stand after they were challenged, inputs first.
    Confirmed ones count as computed here, resting on whom their inputs rest on; and whatever was computed here, from
    exactly the bits that stand and were computed here too, no longer rests on more peers than those. Refuted ones are
    replaced. Everything goes that was built on them, as far as the recipes of what is held tell, and is declared to
    rest on their peer or was computed here from exactly the refuted bits; but for what was challenged itself, and what
    was computed here from what stands. What cannot be checked stays. All recipes are looked through, and the digests of
    all that rests on others: some twenty seconds for a million, whatever the sample.

    Writes the cache, in one commit: all that was found out, or nothing where this raises before it. Then it looks
    again, and drops what was built on a refuted result meanwhile: where that raises, what was found out was written,
    and challenging again does not find what this would have found. The offers that were kept about what is confirmed
    or refuted are forgotten. A run that is still under way may keep what it made of a refuted result; it names the
    peer. A runner that fails leaves its result unchecked; what is no `Exception` goes through. Raises `TypeError`
    (where `same` answers neither True nor False, too), `ValueError` for a negative sample, what `same` raises,
    `InvalidName`, `StoreError`, and `CodecError` for an input of our own that this codec cannot read.
    """
    cache = cache_of(fed)
    check_callable("runner", runner)
    _check_same(same)
    if peer is not None:
        check_peer(peer)
    _check_sample(sample)
    chosen, known = list[Cid](), dict[Cid, Made]()
    if sample is None and cache.encodes and Total.of(cache.origins().values()).bytes <= READ_BYTES:
        graph = Graph(cache, _noting(cache, peer, chosen, known))
    else:
        graph = Graph(cache)
        chosen += (cid for cid, other in cache.provenance.items() if peer is None or other == peer)
    if sample is not None and sample < len(chosen):
        chosen = sorted(random.Random(seed).sample(sorted(chosen), sample))
    candidates = frozenset(chosen)
    order = graph.in_order(graph.upwards(chosen) | dict.fromkeys(cache.lineage))
    work = Work(cache, runner, candidates, graph.inputs, same, known=known)
    del graph
    staged = cache.stage(work.walk(order))
    found, outcome = work.found, Outcome()
    if found.confirmed or found.refuted or found.vindicated or found.dropped:
        settled = frozenset([*found.confirmed, *found.refuted])
        relabel = found.confirmed | found.vindicated
        outcome = cache.commit(
            Changes(drop_if=found.dropped, put=staged, relabel=relabel, settle=settled, at=time.time())
        )
        _take_back(cache, found, outcome)
        _drop_late(cache, runner, found)
        with contextlib.suppress(StoreError):  # only room is at stake: the next verb purges
            cache.purge()
    else:
        staged.close()
    report = Report(admitted=sum(outcome.stored.values()), conflicts=len(outcome.clashes), dropped=len(found.dropped))
    return Challenge(
        confirmed=tuple(found.confirmed),
        refuted=tuple(found.refuted.values()),
        unchecked=MappingProxyType(found.unchecked),
        vindicated=tuple(found.vindicated),
        dropped=tuple(found.dropped),
        federation=now(cache, report),
    )


def _check_same(same: object) -> None:
    if not isinstance(same, Mapping):
        raise TypeError(f"same must be a mapping of op -> comparator, not {type(same).__name__}")
    for op, comparator in same.items():
        if type(op) is not str:
            raise TypeError(f"same is by op, a str such as 'blur@1', not {type(op).__name__}")
        check_callable(f"same[{op!r}]", comparator)


def _noting(
    cache: OriginCache, peer: PeerId | None, chosen: list[Cid], known: dict[Cid, Made]
) -> Iterator[tuple[Cid, bytes]]:
    """All recipes of a small instance; on the way, what came from `peer` (None: from anyone), and how it was made."""
    left = READ_BYTES  # of recipes, which a peer may have made large
    for cid, made in cache.inventory():
        other = made.origin.peer
        if other is not None and (peer is None or other == peer):
            chosen.append(cid)
            left -= len(made.recipe)
            if left > 0:
                known[cid] = made
        yield cid, made.recipe


def _check_sample(sample: object) -> None:
    if sample is not None and type(sample) is not int:
        raise TypeError(f"sample must be a number of results, or None for all, not {type(sample).__name__}")
    if sample is not None and sample < 0:
        raise ValueError(f"sample must be 0 or more results, not {sample}")


def _take_back(cache: OriginCache, found: Findings, outcome: Outcome) -> None:
    """Take out of the findings what the commit found otherwise, since others had changed it meanwhile."""
    for cid in outcome.stale & found.refuted.keys():  # computed from what was withdrawn, so nothing was shown
        del found.refuted[cid], found.wrong[cid]
        found.unchecked[cid] = WITHDRAWN
    if outcome.relabelled < len(found.confirmed) + len(found.vindicated):
        for cid in _not_so(cache, found.confirmed):
            del found.confirmed[cid]
            found.unchecked[cid] = WITHDRAWN
        for cid in _not_so(cache, found.vindicated):
            del found.vindicated[cid]
    if outcome.dropped < len(found.dropped):
        for cid in cache.held(found.dropped):
            del found.dropped[cid]
            found.wrong.pop(cid, None)


def _not_so(cache: OriginCache, relabels: Mapping[Cid, Relabel]) -> list[Cid]:
    held = cache.held(relabels)
    return [cid for cid, new in relabels.items() if cid not in held or held[cid].origin != new.origin]


def _drop_late(cache: OriginCache, runner: Runner, found: Findings) -> None:
    """Look again, until nothing is left, for what others had built on refuted results before those were replaced."""
    while found.refuted:
        graph = Graph(cache)
        order = graph.in_order(graph.upwards(found.refuted))
        refuted, wrong = found.refuted.values(), found.wrong
        spared = {*found.confirmed, *found.refuted}
        again = Work(cache, runner, (), graph.inputs, refuted=refuted, wrong=wrong, spared=spared)
        for _ in again.walk(order):
            pass  # it challenges nothing, so nothing takes the place of anything
        late = again.found.dropped
        if not late:
            return
        cache.commit(Changes(drop_if=late))
        found.dropped.update(late)
        found.wrong.update(again.found.wrong)


# --- conflicts --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Offered:
    """A result that was offered for a cid: by whom (None: it was computed here), and what.

    digest: of the result, or "" where it has no bytes (in memory). lineage: on whom else it was declared to rest. at:
    when it was noted, in seconds since the epoch. statement, signature: what the peer signed, and its signature, which
    was verified when it came; b"" where there was none. The last three are not part of equality.
    """

    peer: PeerId | None
    digest: str
    lineage: frozenset[PeerId]
    at: float = field(compare=False)
    statement: bytes = field(compare=False)
    signature: bytes = field(compare=False)


@dataclass(frozen=True, slots=True)
class Conflict:
    """Different results that were offered for one cid. held: the digest of the one that is held, or "" for none."""

    cid: Cid
    held: str
    offers: tuple[Offered, ...]


def conflicts(fed: Federation) -> tuple[Conflict, ...]:
    """The cids for which different digests were offered, in their order, each with all the offers that were kept.

    Of an offer that arrived where another was held, both are kept, at most `MOST_OFFERS` in all; the same ones whatever
    the order in which they came. A peer that says two things is there with both. They are kept after trust in a peer is
    withdrawn, and until `challenge` confirms or refutes the result, or `forget` drops it. Writes nothing. Raises
    `StoreError`.
    """
    cache = cache_of(fed)
    found = {cid: offers for cid, offers in _by_cid(cache.offers()) if len({o.digest for o in offers}) > 1}
    made = cache.made(found)
    return tuple(
        Conflict(cid, made[cid].digest if cid in made else "", tuple(map(_offered, offers)))
        for cid, offers in found.items()
    )


def _by_cid(offers: Iterable[Offer]) -> Iterator[tuple[Cid, list[Offer]]]:
    return ((cid, list(some)) for cid, some in groupby(offers, attrgetter("cid")))


def _offered(offer: Offer) -> Offered:
    signed = b""
    if offer.signature and offer.peer is not None:
        signed = statement(offer.cid, offer.size, offer.digest, offer.lineage, offer.peer)
    return Offered(offer.peer, offer.digest, offer.lineage, offer.at, signed, offer.signature)
