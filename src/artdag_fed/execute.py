"""Running a DAG against a cache, from the targets down.

Rules: a target that is held needs none of its inputs; what is not needed is neither looked up for long, nor read, nor
computed. Results are committed in groups as they are made, bounded in number, bytes and time, so that a crash loses
little, and a slow node nothing that was finished before it. A failure is never cached. What was computed from something
that was withdrawn meanwhile is not kept but computed again. What another run on the same cache object is computing is
waited for, when there is nothing else to do. Nothing recurses.

This module decides what to compute and asks a cache to keep it; it knows neither peers' bundles nor how a cache stores.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

from artdag_fed.cache import Held, Origin, OriginCache, Outcome, inputs_digest_of
from artdag_fed.callables import Observe, Runner, said
from artdag_fed.claims import Claimant, Claims
from artdag_fed.dag import Node
from artdag_fed.errors import CodecError, RunError
from artdag_fed.events import Event, tell_damaged
from artdag_fed.failures import failed, skipped
from artdag_fed.grouping import Group
from artdag_fed.names import Cid, PeerId
from artdag_fed.planning import survey
from artdag_fed.sources import Sources

__all__ = ["Execution", "Work", "execute"]


class _Base:
    """What a result rests on, shared by all that rest on the same: peers, and tokens of origins in the cache.

    `origin` is that of a result computed here from it.
    """

    __slots__ = ("origin", "peers", "tokens")

    def __init__(self, peers: frozenset[PeerId], tokens: frozenset[int]) -> None:
        self.peers = peers
        self.tokens = tokens
        self.origin = Origin(None, peers)


_NOTHING = _Base(frozenset(), frozenset())
_NO_INPUTS = inputs_digest_of(())


@dataclass(slots=True)
class Execution:
    """What was done: results of targets by cid, cids in the order in which they were done, errors by cid."""

    results: dict[Cid, Any] = field(default_factory=dict)
    computed: list[Cid] = field(default_factory=list)
    reused: list[Cid] = field(default_factory=list)
    failed: dict[Cid, RunError] = field(default_factory=dict)
    skipped: list[Cid] = field(default_factory=list)
    outcomes: list[Outcome] = field(default_factory=list)

    def in_order(self) -> Execution:
        """The same, with each cid once: what was done again after a withdrawal counts as computed where it was."""
        computed, reused = dict.fromkeys(self.computed), dict.fromkeys(self.reused)
        self.computed = list(computed)
        self.reused = [cid for cid in reused if cid not in computed] if computed else list(reused)
        return self


def execute(
    cache: OriginCache,
    targets: Sequence[Node],
    runner: Runner,
    *,
    accepts: Callable[[Origin], bool] | None = None,
    refresh: bool = False,
    keep_going: bool = False,
    observe: Observe | None = None,
    clock: Callable[[], float] = time.monotonic,
    evaluate: Callable[[Work], None] | None = None,
) -> Execution:
    """Compute what is missing and return what was done. `clock` gives seconds, for durations only.

    evaluate: how every target gets a value, or a failure; None is one after the other, in this thread (`parallel` has
    another). Raises `RunError` for the first node that fails, unless `keep_going`; what is finished is committed in any
    case.
    """
    claims = getattr(cache, "claims", None)  # a cache of one's own need not have any: then no other run is seen
    with (Claims() if claims is None else claims).enter() as claimant:
        work = Work(cache, targets, runner, accepts, refresh, keep_going, observe, clock, claimant)
        with work.group:
            while True:
                if evaluate is None:
                    work.evaluate()
                else:
                    evaluate(work)
                work.done.results = work.results()
                work.group.flush()
                if not work.forget_stale():
                    break
    return work.done.in_order()


class Work:
    """One run: the values in hand, and what is known of each node."""

    def __init__(
        self,
        cache: OriginCache,
        targets: Sequence[Node],
        runner: Runner,
        accepts: Callable[[Origin], bool] | None,
        refresh: bool,
        keep_going: bool,
        observe: Observe | None,
        clock: Callable[[], float],
        claimant: Claimant,
    ) -> None:
        self.cache = cache
        self.claimant = claimant
        self.encode, self.encodes = cache.codec.encode, cache.encodes
        self.targets = targets
        self.runner = runner
        self.accepts = accepts
        self.refresh = refresh
        self.keep_going = keep_going
        self.observe = observe
        self.clock = clock
        self.done = Execution()
        self.group = Group(cache, clock, self.done.outcomes, observe, claimant.release)
        self.on_nothing = self.group.resting(_NOTHING.origin, _NOTHING.tokens, False)
        claimant.hurry = self.group.hurry
        self.values: dict[Cid, Any] = {}
        # Of what is done: its digest, and what it rests on, where that is anything.
        self.digests: dict[Cid, str] = {}
        self.rests: dict[Cid, _Base] = {}
        wanted = [node.cid for node in targets]
        self.targeted = set(wanted)
        self.refused: set[Cid] = set()  # held, but not to be used: damaged, or not accepted
        self.bases: dict[int, _Base] = {}  # by token
        self.sources = Sources(runner, observe)

        # Targets that are held are read at once, which says whether they are; only where some may not be used is it
        # asked first.
        self.known: dict[Cid, Held | None] = {}
        self.sources.expect(targets)
        at_once = accepts is None and not refresh
        if at_once:
            self.reuse(wanted)
            self.known = dict.fromkeys(wanted) | self.known
        left = [node for node in targets if node.cid not in self.values] if self.values else targets
        found = survey(cache, left, accepts=accepts, refresh=refresh, known=self.known)
        self.planned = found.nodes
        self.uses: dict[Cid, int] = {}  # how often a value is needed yet; those of targets are never let go of
        self.count_uses(found.nodes.values())
        if accepts is not None:  # held, and yet planned: not accepted, so what is computed replaces it
            self.refused.update(cid for cid in self.planned if self.known.get(cid) is not None)
        if not at_once:
            self.reuse([cid for cid in found.plan.reused if cid in self.targeted])

    # --- the order of things ----------------------------------------------------------------

    def evaluate(self) -> None:
        """Have a value for every target, or a failure: depth first, so that few values are in hand at a time."""
        while waiting := self.evaluate_here():
            self.group.flush()  # nobody may wait for this run while it waits
            del waiting
            self.claimant.inbox.get()

    def evaluate_here(self) -> set[Cid]:
        """Likewise, as far as it goes; the cids that wait for what another run computes right now."""
        # What a run costs beside the runner is this and `keep`, a hundred thousand times a second: hence the locals.
        stack = list(reversed(self.targets))
        values, digests, planned, failed = self.values, self.digests, self.planned, self.done.failed
        me, news, runner, clock, keep = self.claimant, self.claimant.news, self.runner, self.clock, self.keep
        owner = me.owners.setdefault  # what `take` asks first, without a call
        waiting: set[Cid] = set()
        while stack:
            node = stack.pop()
            cid = node.cid
            if cid in values or cid in failed:
                continue
            if (cid not in planned or cid in digests or (news and cid in news)) and self.have(cid):
                continue
            given = []  # by steps: a comprehension costs twice as much for the few inputs that most nodes have
            try:
                for i in node.inputs:
                    given.append(values[i.cid])
            except KeyError:
                self.descend(node, stack, waiting)
                continue
            if owner(cid, me) is not me and not me.take(cid) and not self.refresh:
                waiting.add(cid)
                continue
            if news and cid in news:  # another run was done with it in this very moment
                me.release([cid])
                stack.append(node)
                continue
            began = clock()
            try:
                result = runner(node.op, tuple(given), node.params)
            except Exception as error:  # noqa: BLE001  # whatever it is, it fails this node and nothing else
                self.fail(node, error, "failed")
            else:
                now = clock()
                keep(node, result, now - began, now)
        return waiting

    def descend(self, node: Node, stack: list[Node], waiting: set[Cid]) -> None:
        """Put a node on the stack again, and on it what it lacks; neither where that is not to be had now."""
        missing = [i for i in node.inputs if i.cid not in self.values]
        if node.cid not in self.planned:  # found missing only now
            self.plan(node)
        broken = [i for i in missing if i.cid in self.done.failed]
        if broken:
            self.skip(node, broken[0])
            return
        open_ = [i for i in missing if i.cid not in waiting]
        if not open_:
            waiting.add(node.cid)
            return
        stack.append(node)
        stack.extend(reversed(open_))

    def plan(self, node: Node) -> None:
        self.planned[node.cid] = node
        self.count_uses([node])

    def count_uses(self, nodes: Collection[Node]) -> None:
        uses, targeted = self.uses, self.targeted
        for node in nodes:
            for i in node.inputs:
                if i.cid not in targeted:
                    uses[i.cid] = uses.get(i.cid, 0) + 1
        self.sources.expect(i for node in nodes for i in node.inputs)

    def have(self, cid: Cid) -> bool:
        """Whether the value of a node could be had from the cache."""
        if cid in self.claimant.news:  # it was missing, or refused, before another run was done with it
            self.claimant.news.discard(cid)
            self.refused.discard(cid)
            self.known.pop(cid, None)
        if cid in self.digests:  # done in this run, and let go of since
            self.group.flush()
        elif cid not in self.known and not self.refresh:
            self.known[cid] = self.cache.held([cid]).get(cid)
        if cid not in self.digests and self.usable(cid) is None:
            return False
        self.reuse([cid])
        return cid in self.values

    def usable(self, cid: Cid) -> Held | None:
        held = None if self.refresh or cid in self.refused else self.known.get(cid)
        if held is not None and self.accepts is not None and not self.accepts(held.origin):
            self.refused.add(cid)
            return None
        return held

    def results(self) -> dict[Cid, Any]:
        """Those of the targets, as far as there are any."""
        values, targeted = self.values, self.targeted
        if len(values) == len(targeted) and not self.done.failed:
            return values
        return {cid: result for cid, result in values.items() if cid in targeted}

    # --- reading ----------------------------------------------------------------------------

    def reuse(self, cids: list[Cid]) -> None:
        """Read results that may be held, and note which were not."""
        loaded = self.cache.load(cids, self.heard)
        values, digests, rests, known, bases = self.values, self.digests, self.rests, self.known, self.bases
        if len(loaded) < len(cids) and (known or digests):
            for cid in cids:
                if cid not in loaded and (digests.pop(cid, None) is not None or known.get(cid) is not None):
                    self.refused.add(cid)  # gone meanwhile
        accepts, observe, reused = self.accepts, self.observe, self.done.reused
        for cid, (held, result) in loaded.items():
            origin, token, digest, source = known[cid] = held
            if accepts is not None and not accepts(origin):  # another one has come in the place of what was asked about
                self.refused.add(cid)
                digests.pop(cid, None)
                rests.pop(cid, None)
                continue
            values[cid] = result
            if source:
                self.sources.met(cid, source)
            digest = digest or self.digest(result)
            if digest == digests.get(cid) and origin.local:
                continue  # made or read before and let go of since; anything else is a new fact, with its own origin
            base = bases.get(token)
            if base is None:
                base = bases[token] = _Base(origin.peers, frozenset([token]))
            digests[cid] = digest
            rests[cid] = base
            reused.append(cid)
            if observe is not None:
                observe(Event("reused", cid=cid, peer=origin.peer or ""))

    def heard(self, event: Event) -> None:
        """What the cache tells while it reads. What is damaged is to be replaced."""
        self.refused.add(event.cid)
        tell_damaged(self.observe, event.cid, event.reason)

    # --- computing --------------------------------------------------------------------------

    def keep(self, node: Node, result: Any, seconds: float, now: float) -> None:
        """Take the result of a node whose inputs are done: in hand, and on its way to the cache. now: by `clock`."""
        cid, inputs, encodes, digests = node.cid, node.inputs, self.encodes, self.digests
        payload, digest = None, ""
        try:
            payload = self.encode(result)
            digest = sha256(payload).hexdigest()
        except CodecError as error:
            if encodes:
                self.fail(node, error, "gave a result that cannot be kept")
                return
        if self.observe is not None:
            self.observe(Event("computed", cid=cid, op=node.op, seconds=seconds))
        base, inputs_digest = _NOTHING, _NO_INPUTS
        if inputs:
            if self.rests:
                base = self.base_of(inputs)
            of_inputs = []
            for i in inputs:
                of_inputs.append(digests[i.cid])
            inputs_digest = inputs_digest_of(of_inputs)
        self.values[cid] = result
        digests[cid] = digest
        if base is not _NOTHING:
            self.rests[cid] = base
        self.done.computed.append(cid)
        kept = None if encodes else result  # what waits for its commit as bytes need not be in memory twice
        number = self.on_nothing
        if base is not _NOTHING or self.refresh or cid in self.refused:
            number = self.group.resting(base.origin, base.tokens, self.refresh or cid in self.refused)
        source = self.sources[node.op]
        self.group.add((cid, digest, payload, kept, node.recipe, inputs_digest, source, seconds, number), now)
        uses = self.uses
        if uses:
            for i in inputs:
                left = uses.get(i.cid)
                if left is not None:
                    uses[i.cid] = left - 1
                    if left <= 1:
                        self.values.pop(i.cid, None)

    def base_of(self, inputs: tuple[Node, ...]) -> _Base:
        """What a result of these inputs rests on."""
        base = _NOTHING
        for i in inputs:
            other = self.rests.get(i.cid, _NOTHING)
            if other is not base and other is not _NOTHING:
                base = other if base is _NOTHING else _Base(base.peers | other.peers, base.tokens | other.tokens)
        return base

    def digest(self, result: Any) -> str:
        try:
            return sha256(self.encode(result)).hexdigest()
        except CodecError:
            return ""

    # --- failing ----------------------------------------------------------------------------

    def fail(self, node: Node, error: Exception, what: str) -> None:
        failure = failed(node, error, what)
        if self.observe is not None:
            self.observe(Event("failed", cid=node.cid, op=node.op, reason=said(error)))
        if not self.keep_going:
            raise failure
        self.done.failed[node.cid] = failure
        self.claimant.release([node.cid])

    def skip(self, node: Node, broken: Node) -> None:
        self.done.failed[node.cid] = skipped(node, self.done.failed[broken.cid])
        self.done.skipped.append(node.cid)
        if self.observe is not None:
            self.observe(Event("skipped", cid=node.cid, op=node.op))

    # --- withdrawn meanwhile ----------------------------------------------------------------

    def forget_stale(self) -> bool:
        """Let go of everything that may rest on what was withdrawn; True where something has to be done again."""
        stale = self.group.take_stale()
        if not stale:
            return False
        tokens = frozenset().union(*(self.rests[cid].tokens for cid in stale if cid in self.rests))
        for cid in [cid for cid, base in self.rests.items() if base.tokens & tokens]:
            del self.rests[cid], self.digests[cid]
            self.values.pop(cid, None)
        self.done.computed = [cid for cid in self.done.computed if cid not in stale]
        self.known.clear()
        self.planned.clear()  # of what is needed again, something may be held
        if self.observe is not None:
            for cid in stale:
                self.observe(Event("repeated", cid=cid))
        return True
