"""The verbs that take results from others: import_ and pull.

Rules: a bundle is read to its end before anything is written, and then all that was admitted is, in one commit, or
nothing. `admission` judges each record; what a bundle or a road raises becomes an error that says whose fault it was.
Refuses nothing by itself but what is no bundle.

>>> bob = import_(Federation(), [Record("c1", "a frame", "alice")], {"alice"}.__contains__)
>>> bob.cache["c1"], bob.provenance
('a frame', {'c1': 'alice'})
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import Any

from artdag_fed.admission import Gate
from artdag_fed.cache import Changes, Clash, Entry, OriginCache, Recall
from artdag_fed.callables import Fetch, Observe, Trust, Verify, asked_once, check_callable, check_flag, said
from artdag_fed.errors import BundleError, FederationError, TransportError
from artdag_fed.events import EXAMPLES, Event, Report
from artdag_fed.instance import Federation, cache_of, now
from artdag_fed.limits import Limits, check_limits
from artdag_fed.names import Cid, PeerId, check_peer, is_cid, shown
from artdag_fed.record import Record
from artdag_fed.transport import is_partial

__all__ = ["import_", "pull", "tell_clashes"]


def import_(
    fed: Federation,
    bundle: Iterable[Record],
    trusted: Trust,
    *,
    verify: Verify | None = None,
    trusted_lineage: Trust | None = None,
    limits: Limits = Limits(),
    observe: Observe | None = None,
) -> Federation:
    """Keep the records of trusted peers, and remember who each came from.

    bundle: records, read once, to the end. trusted: whether results of a peer are wanted. trusted_lineage: likewise for
    the peers that a record rests on (None: whoever they are). verify: with it only records count whose signature is
    their peer's; without, every label is believed: you vouch for the bundle. limits: bounds on what is read.

    Writes the admitted records to the cache, all or none. A held result is never replaced: a local one stays, and of
    foreign ones the first. The report counts admitted, unchanged, conflicts and rejected by reason.

    Raises `BundleError` where the bundle breaks, is over a limit, or holds something that is no `Record`;
    `TransportError` where reading it fails on the way; `TypeError` where a predicate answers neither True nor False;
    what a predicate raises; `StoreError`. Then nothing is written.
    """
    cache = cache_of(fed)
    gate = _gate(cache, trusted, None, verify, trusted_lineage, limits, observe)
    return _import(cache, gate, _records(bundle, limits.records, "the bundle"), observe)


def pull(
    fed: Federation,
    fetch: Fetch,
    peer_id: PeerId,
    trusted: Trust,
    *,
    verify: Verify | None = None,
    trusted_lineage: Trust | None = None,
    limits: Limits = Limits(),
    observe: Observe | None = None,
    mirror: bool = False,
) -> Federation:
    """Import what `fetch(peer_id)` gives. Without `verify`, only records that name `peer_id` count.

    mirror: also drop, in the same commit, what came from `peer_id` and is offered by it no more; `report.dropped` says
    how many. Offered is every cid that it sends a record of under its own name, whether or not that is admitted; the
    cids of the bundle are in memory meanwhile. An answer that breaks drops nothing, and neither does one over a limit.
    What is left out is dropped, so whoever can shorten a whole answer can drop what came from this peer.

    Otherwise as `import_`; what `fetch` raises comes out as `TransportError` with the peer's name (an error of ours as
    it is), and nothing is written. With `mirror`, `ValueError`, before it is called, for a fetch that leaves things out
    by design (`partial`).
    """
    cache = cache_of(fed)
    check_callable("fetch", fetch)
    check_peer(peer_id)
    check_flag("mirror", mirror)
    if mirror and is_partial(fetch):
        raise ValueError(
            "mirror=True drops what a fetch does not give, so it has to give everything: this one leaves things out by "
            "design, or does not say that it does not (its `partial` must be False)"
        )
    gate = _gate(cache, trusted, peer_id, verify, trusted_lineage, limits, observe)
    try:
        bundle = fetch(peer_id)
    except FederationError:
        raise
    except Exception as error:
        raise TransportError(f"fetching from {shown(peer_id)} failed: {said(error)}: nothing was kept") from error
    records = _records(bundle, limits.records, f"the bundle from {shown(peer_id)}")
    if not mirror:
        return _import(cache, gate, records, observe, peer_id)
    offered: set[Cid] = set()
    recall = Recall(peer_id, offered)
    return _import(cache, gate, _noting(records, peer_id, offered), observe, peer_id, recall)


# --- what they share --------------------------------------------------------------------------


def _gate(
    cache: OriginCache,
    trusted: Trust,
    asked: PeerId | None,
    verify: Verify | None,
    trusted_lineage: Trust | None,
    limits: Any,
    observe: Observe | None,
) -> Gate:
    """The gate for one bundle, after all arguments were looked at: before a peer is asked for anything."""
    check_callable("trusted", trusted)
    for name, optional in (("verify", verify), ("trusted_lineage", trusted_lineage), ("observe", observe)):
        check_callable(name, optional, optional=True)
    check_limits(limits)
    return Gate(
        trusted=asked_once("trusted", trusted),
        trusted_lineage=None if trusted_lineage is None else asked_once("trusted_lineage", trusted_lineage),
        asked=asked,
        verify=verify,
        limits=limits,
        codec=cache.codec,
        encodes=cache.encodes,
    )


def _import(
    cache: OriginCache,
    gate: Gate,
    records: Iterable[Record],
    observe: Observe | None,
    asked: PeerId = "",
    recall: Recall | None = None,
    clock: Callable[[], float] = time.time,
) -> Federation:
    rejected = Counter[str]()
    examples: dict[str, list[Cid]] = {}

    def admitted() -> Iterator[Entry]:
        for record in records:
            verdict = gate.judge(record)
            if isinstance(verdict, Entry):
                yield verdict
                continue
            rejected[verdict] += 1
            if observe is None and rejected[verdict] > EXAMPLES:
                continue
            claims: tuple[object, ...] = (record.cid, record.peer)
            cid, peer = (claim[:255] if isinstance(claim, str) else "" for claim in claims)
            if rejected[verdict] <= EXAMPLES:
                examples.setdefault(verdict, []).append(cid)
            if observe is not None:
                observe(Event("rejected", cid=cid, peer=peer, reason=verdict))

    outcome = cache.commit(Changes(put=cache.stage(admitted()), recall=recall, at=clock()))
    count = sum(outcome.stored.values())
    tell_clashes(outcome.clashes, observe)
    if observe is not None:
        if recall is not None:
            observe(Event("recalled", count=outcome.recalled, peer=asked))
        observe(Event("committed", count=count, peer=asked))
    cache.purge()
    resting = Counter[PeerId]()
    for origin, number in outcome.stored.items():
        resting.update(dict.fromkeys(sorted(origin.lineage), number))
    shortened = {reason: tuple(cids) for reason, cids in examples.items()}
    return now(
        cache, Report(count, outcome.unchanged, len(outcome.clashes), rejected, outcome.recalled, resting, shortened)
    )


def _records(bundle: Any, most: int, what: str) -> Iterator[Record]:
    """The records of a bundle; what it raises becomes an error that says whose fault it was."""
    count, records = 0, None
    try:
        if not isinstance(bundle, Iterable) and not hasattr(type(bundle), "__getitem__"):
            hint = ": put it in a list" if isinstance(bundle, Record) else ""
            raise BundleError(f"{what} is of type {type(bundle).__name__}, not an iterable of Records{hint}")
        records = iter(bundle)
        for record in records:
            if not isinstance(record, Record):
                kind = type(record).__name__
                raise BundleError(f"item {count} of {what} is of type {kind}, not a Record: nothing was kept")
            count += 1
            if count > most:
                raise BundleError(f"{what} has more than {most:,} records (Limits.records): nothing was kept")
            yield record
    except FederationError:
        raise
    except OSError as error:
        raise TransportError(f"{what} broke off after {count} records: {said(error)}: nothing was kept") from error
    except Exception as error:
        raise BundleError(f"{what} broke after {count} records: {said(error)}: nothing was kept") from error
    finally:
        if isinstance(records, Generator):  # one that is given up lets go of its connection now, not some day
            records.close()


def _noting(records: Iterator[Record], peer: PeerId, offered: set[Cid]) -> Iterator[Record]:
    """The records as they come; the cids of those that name `peer` are added to `offered`."""
    for record in records:
        # What is no cid is not held, and may be as long as a peer likes. The name may be any object.
        if type(record.peer) is str and record.peer == peer and is_cid(record.cid):
            offered.add(record.cid)
        yield record


def tell_clashes(clashes: Iterable[Clash], observe: Observe | None) -> None:
    """Observe each as a `conflict`."""
    if observe is None:
        return
    for clash in clashes:
        stays = "the offered one replaced the held one" if clash.replaced else "the held one stays"
        observe(
            Event(
                "conflict",
                cid=clash.cid,
                peer=clash.offered.peer or "",
                reason=stays,
                held=clash.held_digest,
                offered=clash.offered_digest,
            )
        )
