"""The verbs over an instance: export, import_, pull, invalidate and run, with forget and plan beside them.

Rules: every verb takes a `Federation`, returns a new one, and says in its docstring what it writes; the one thing that
is written is the cache underneath, in one commit that happens wholly or not at all. What is held is decided from what
the cache keeps, never from the value that was passed, so an older value cannot make a foreign result look local. The
outside world comes in by callables. Nothing here knows how a cache stores, or judges a record: `admission` does.

>>> alice, bob = Federation({"c1": "a frame"}), Federation()
>>> bob = pull(bob, lambda peer: export(alice, peer), "alice", {"alice"}.__contains__)
>>> bob.provenance, bob.report.admitted
({'c1': 'alice'}, 1)
>>> invalidate(bob, "alice").report.dropped, len(bob)
(1, 0)
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Generator, Iterable, Iterator
from concurrent.futures import Executor
from typing import Any

from artdag_fed.admission import Gate
from artdag_fed.cache import Changes, Clash, Entry, OriginCache
from artdag_fed.callables import Fetch, Observe, Runner, Sign, Trust, Verify, asked_once, check_callable, said
from artdag_fed.dag import Dag, Node, recipe_inputs
from artdag_fed.errors import BundleError, FederationError, TransportError
from artdag_fed.events import EXAMPLES, Event, Report
from artdag_fed.execute import execute
from artdag_fed.instance import Federation, Run, cache_of, now, open
from artdag_fed.limits import Limits
from artdag_fed.names import Cid, PeerId, check_cid, check_peer, shown
from artdag_fed.parallel import check_executor, through
from artdag_fed.planning import Plan, acceptance, survey
from artdag_fed.record import Bundle, Record

__all__ = ["Federation", "Run", "export", "forget", "import_", "invalidate", "open", "plan", "pull", "run"]


# --- the five ---------------------------------------------------------------------------------


def export(
    fed: Federation,
    peer_id: PeerId,
    cids: Iterable[Cid] | None = None,
    *,
    trusted: Trust | None = None,
    sign: Sign | None = None,
) -> Bundle:
    """Offer results as records that name `peer_id`, each with all other peers that it rests on as its lineage.

    cids: which ones, in that order (None: all that are held); those that are not held are left out. trusted: leave out
    what came from, or rests on, a peer for which it is False. sign: called with each record's statement as it is read.

    Writes nothing. The ids are fixed now, the results read one by one when the bundle is iterated, and nothing is
    locked in between; an id that went meanwhile is skipped. Raises `InvalidName` and `TypeError` now; when it is read,
    `StoreError`, what `sign` raises, and with `sign` a `CodecError` for a result (in memory) without bytes to sign.
    """
    cache = cache_of(fed)
    check_peer(peer_id)
    check_callable("trusted", trusted, optional=True)
    check_callable("sign", sign, optional=True)
    chosen = tuple(cache) if cids is None else _cids(cids)
    accepted = acceptance(trusted)
    if accepted is not None:
        held = cache.held(chosen)
        chosen = tuple(cid for cid in chosen if cid in held and accepted(held[cid].origin))

    def record(cid: Cid) -> Record | None:
        stored = cache.stored(cid)
        if stored is None or (accepted is not None and not accepted(stored.origin)):
            return None
        lineage = stored.origin.peers - {peer_id}
        if stored.payload is None:
            made = Record(cid, stored.value, peer_id, lineage, stored.recipe, codec=cache.codec)
        else:
            made = Record.encoded(
                cid, stored.payload, stored.digest, peer_id, lineage, stored.recipe, codec=cache.codec
            )
        return made if sign is None else made.signed(sign)

    return Bundle(peer_id, chosen, record)


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
) -> Federation:
    """Import what `fetch(peer_id)` gives. Without `verify`, only records that name `peer_id` count.

    Otherwise as `import_`; what `fetch` raises comes out as `TransportError` with the peer's name (an error of ours as
    it is), and nothing is written.
    """
    cache = cache_of(fed)
    check_callable("fetch", fetch)
    check_peer(peer_id)
    gate = _gate(cache, trusted, peer_id, verify, trusted_lineage, limits, observe)
    try:
        bundle = fetch(peer_id)
    except FederationError:
        raise
    except Exception as error:
        raise TransportError(f"fetching from {shown(peer_id)} failed: {said(error)}: nothing was kept") from error
    return _import(cache, gate, _records(bundle, limits.records, f"the bundle from {shown(peer_id)}"), observe, peer_id)


def invalidate(
    fed: Federation, peer_id: PeerId, *, derived: bool = False, observe: Observe | None = None
) -> Federation:
    """Withdraw trust: drop everything that came from `peer_id`; results computed here stay.

    derived: drop everything that is declared to rest on it as well, computed here or not, however many steps away.

    Writes the cache, at once: after it no such result is readable, through any value; what is on a disk is removed
    then and by later writes. The report says how many were dropped, and under `resting_on[peer_id]` how many stay that
    rest on the peer. A peer that nothing came from is no error. Raises `InvalidName`, `StoreError`.
    """
    cache = cache_of(fed)
    check_peer(peer_id)
    check_callable("observe", observe, optional=True)
    outcome = cache.commit(
        Changes(withdraw=lambda origin: origin.peer == peer_id or (derived and peer_id in origin.lineage))
    )
    if observe is not None:
        observe(Event("withdrawn", peer=peer_id, count=outcome.withdrawn))
    cache.purge()
    left = sum(total.results for origin, total in cache.origins().items() if peer_id in origin.lineage)
    return now(cache, Report(dropped=outcome.withdrawn, resting_on={peer_id: left} if left else {}))


def run(
    fed: Federation,
    dag: Dag | Node,
    runner: Runner,
    *,
    trusted: Trust | None = None,
    refresh: bool = False,
    keep_going: bool = False,
    executor: Executor | None = None,
    observe: Observe | None = None,
) -> Run:
    """Compute a DAG from its targets down; what is held already, from anyone, is not computed.

    runner: `runner(op, input_results, params) -> result`. trusted: a held result that came from, or rests on, a peer
    for which it is False counts as missing. refresh: compute every node. keep_going: where a node fails, go on with
    those that do not depend on it. executor: any `concurrent.futures.Executor` to compute through, of threads, of
    processes or of a cluster; the runner, inputs and params travel, the cache does not. It is not shut down.

    What another run on the same cache object is computing right now is waited for, not computed twice.

    Writes what it computes to the cache as it goes, each result with the peers that it rests on. A node that fails, or
    (on a disk) gives a result that the codec cannot carry, raises `RunError` from the cause; what was finished is kept,
    as it is after Ctrl-C. An executor that breaks is a `RunError`, too. Raises `StoreError`.
    """
    cache = cache_of(fed)
    check_callable("runner", runner)
    if executor is not None:
        check_executor(executor)
    check_callable("trusted", trusted, optional=True)
    check_callable("observe", observe, optional=True)
    targets = _targets(dag)
    done = execute(
        cache,
        targets,
        runner,
        accepts=acceptance(trusted),
        refresh=refresh,
        keep_going=keep_going,
        observe=observe,
        evaluate=None if executor is None else through(executor),
    )
    clashes = [clash for outcome in done.outcomes for clash in outcome.clashes]
    _tell_clashes(clashes, observe)
    admitted = sum(sum(outcome.stored.values()) for outcome in done.outcomes)
    return Run(targets, done, now(cache, Report(admitted=admitted, conflicts=len(clashes))))


# --- beside the five --------------------------------------------------------------------------


def forget(
    fed: Federation, cids: Iterable[Cid], *, derived: bool = False, observe: Observe | None = None
) -> Federation:
    """Drop these results, whoever computed them; with `derived` also everything that was built on them.

    What was built on them is known from the recipes that are kept beside the results: all of them are looked through,
    about a second for a million. A cid that is not held is no error. Writes the cache, at once. Raises `InvalidName`,
    `StoreError`.
    """
    cache = cache_of(fed)
    check_callable("observe", observe, optional=True)
    going = frozenset(_cids(cids))
    dropped = 0
    while going:
        if derived:
            going |= _built_on(cache, going)
        dropped += cache.commit(Changes(drop=going)).dropped
        # A run may have committed something built on them in between: look again, until nothing is left.
        going = frozenset(cache.held(_built_on(cache, going))) if derived else frozenset()
    if observe is not None:
        observe(Event("dropped", count=dropped))
    cache.purge()
    return now(cache, Report(dropped=dropped))


def plan(fed: Federation, dag: Dag | Node, *, trusted: Trust | None = None, offered: Collection[Cid] = ()) -> Plan:
    """What `run` would do with this DAG now: which results it would reuse, want and compute, from the targets down.

    trusted: as for `run`. offered: cids that a peer has; of the missing ones on each path the topmost that is offered
    is wanted, and what is below it is not needed. Reads no result, writes nothing. Raises `StoreError`.
    """
    check_callable("trusted", trusted, optional=True)
    if isinstance(offered, str | bytes) or not isinstance(offered, Collection):
        raise TypeError(f"offered must be a collection of cids, not {type(offered).__name__}")
    if not hasattr(type(offered), "keys") and not isinstance(offered, set | frozenset):
        offered = frozenset(offered)
    return survey(cache_of(fed), _targets(dag), accepts=acceptance(trusted), offered=offered).plan


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
    if not isinstance(limits, Limits):
        raise TypeError(f"limits must be a Limits, not {type(limits).__name__}")
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
    cache: OriginCache, gate: Gate, records: Iterable[Record], observe: Observe | None, asked: PeerId = ""
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

    outcome = cache.commit(Changes(put=cache.stage(admitted())))
    count = sum(outcome.stored.values())
    _tell_clashes(outcome.clashes, observe)
    if observe is not None:
        observe(Event("committed", count=count, peer=asked))
    cache.purge()
    resting = Counter[PeerId]()
    for origin, number in outcome.stored.items():
        resting.update(dict.fromkeys(origin.lineage, number))
    shortened = {reason: tuple(cids) for reason, cids in examples.items()}
    return now(cache, Report(count, outcome.unchanged, len(outcome.clashes), rejected, 0, resting, shortened))


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


def _tell_clashes(clashes: Iterable[Clash], observe: Observe | None) -> None:
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


def _built_on(cache: OriginCache, cids: frozenset[Cid]) -> frozenset[Cid]:
    """Every result whose recipe names one of these as an input, or one built on them, however many steps up."""
    built: dict[Cid, list[Cid]] = {}
    for cid, recipe in cache.recipes():
        for i in recipe_inputs(recipe):
            built.setdefault(i, []).append(cid)
    found: set[Cid] = set()
    new = list(cids)
    while new:
        for cid in built.get(new.pop(), ()):
            if cid not in found:
                found.add(cid)
                new.append(cid)
    return frozenset(found)


def _cids(cids: Iterable[Cid]) -> tuple[Cid, ...]:
    if isinstance(cids, str | bytes):  # it would be taken apart into letters
        raise TypeError(f"cids must be several ids, not one text: write [{shown(cids)}]")
    if not isinstance(cids, Iterable):
        raise TypeError(f"cids must be an iterable of ids, not {type(cids).__name__}")
    return tuple(map(check_cid, cids))


def _targets(dag: Dag | Node) -> tuple[Node, ...]:
    if isinstance(dag, Node):
        return (dag,)
    if isinstance(dag, Dag):
        return dag.targets
    raise TypeError(f"dag must be a Dag or a Node, not {type(dag).__name__}")
