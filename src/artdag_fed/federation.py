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

from collections.abc import Collection, Iterable, Mapping
from concurrent.futures import Executor
from dataclasses import replace
from itertools import islice

from artdag_fed.cache import Changes, Held, Origin, OriginCache, Total
from artdag_fed.callables import Observe, Runner, Sign, Trust, check_callable, check_flag
from artdag_fed.dag import Dag, Node, recipe_inputs
from artdag_fed.events import Event, Report
from artdag_fed.execute import execute
from artdag_fed.importing import import_, pull, tell_clashes
from artdag_fed.instance import Federation, Run, by_peer, cache_of, now, open
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


def invalidate(
    fed: Federation,
    peer_id: PeerId,
    *,
    derived: bool = False,
    dry_run: bool = False,
    observe: Observe | None = None,
) -> Federation:
    """Withdraw trust: drop everything that came from `peer_id`; results computed here stay.

    derived: drop everything that is declared to rest on it as well, computed here or not, however many steps away.
    dry_run: change nothing and observe nothing; `report.dropping` says what would go, by peer, and `resting_on` what
    would stay. No result is looked at for that, so in memory the bytes of those that were never encoded are missing.

    Writes the cache, at once: after it no such result is readable, through any value; what is on a disk is removed
    then and by later writes. The report says how many were dropped, and under `resting_on[peer_id]` how many stay that
    rest on the peer. A peer that nothing came from is no error. Raises `InvalidName`, `StoreError`.
    """
    cache = cache_of(fed)
    check_peer(peer_id)
    check_flag("derived", derived)
    check_flag("dry_run", dry_run)
    check_callable("observe", observe, optional=True)

    def withdraw(origin: Origin) -> bool:
        return origin.peer == peer_id or (derived and peer_id in origin.lineage)

    if dry_run:
        totals = cache.origins()
        going = {origin: total for origin, total in totals.items() if withdraw(origin)}
        resting = _resting_on(peer_id, {origin: total for origin, total in totals.items() if origin not in going})
        return now(cache, Report(resting_on=resting, dropping=by_peer(going.items())))
    outcome = cache.commit(Changes(withdraw=withdraw))
    if observe is not None:
        observe(Event("withdrawn", peer=peer_id, count=outcome.withdrawn))
    cache.purge()
    return now(cache, Report(dropped=outcome.withdrawn, resting_on=_resting_on(peer_id, cache.origins())))


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
    check_flag("refresh", refresh)
    check_flag("keep_going", keep_going)
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
    tell_clashes(clashes, observe)
    admitted = sum(sum(outcome.stored.values()) for outcome in done.outcomes)
    return Run(targets, done, now(cache, Report(admitted=admitted, conflicts=len(clashes))))


# --- beside the five --------------------------------------------------------------------------


def forget(
    fed: Federation,
    cids: Iterable[Cid],
    *,
    derived: bool = False,
    dry_run: bool = False,
    observe: Observe | None = None,
) -> Federation:
    """Drop these results, whoever computed them; with `derived` also everything that was built on them.

    What was built on them is known from the recipes that are kept beside the results: all of them are looked through,
    about a second for a million. The offers that were kept about them as evidence are forgotten with them. dry_run:
    change nothing and observe nothing; `report.dropping` says what would go, by peer. A cid that is not held is no
    error. Writes the cache, at once. Raises `InvalidName`, `StoreError`.
    """
    cache = cache_of(fed)
    check_flag("derived", derived)
    check_flag("dry_run", dry_run)
    check_callable("observe", observe, optional=True)
    going = frozenset(_cids(cids))
    if dry_run:
        return now(cache, Report(dropping=_dropping(cache, going | _built_on(cache, going) if derived else going)))
    dropped = 0
    while going:
        if derived:
            going |= _built_on(cache, going)
        dropped += cache.commit(Changes(drop=going, settle=going)).dropped
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
    targets = _targets(dag)
    known: dict[Cid, Held | None] = {}
    found = survey(cache_of(fed), targets, accepts=acceptance(trusted), offered=offered, known=known)
    return replace(found.plan, targets=targets, known=known)


# --- what they share --------------------------------------------------------------------------


def _resting_on(peer: PeerId, totals: Mapping[Origin, Total]) -> dict[PeerId, int]:
    """How many of these results rest on the peer."""
    resting = sum(total.results for origin, total in totals.items() if peer in origin.lineage)
    return {peer: resting} if resting else {}


def _dropping(cache: OriginCache, cids: Iterable[Cid]) -> dict[PeerId | None, Total]:
    """What those of these that are held come to, by peer."""
    rest = iter(cids)
    batches = iter(lambda: list(islice(rest, 1000)), [])  # what `made` gives has a recipe in each
    held = (made for batch in batches for made in cache.made(batch).values())
    return by_peer((made.origin, Total(1, made.size, made.seconds)) for made in held)


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
