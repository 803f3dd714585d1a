"""Finding out whether what came from peers is right: each result is computed again, and what follows is worked out.

Rules: inputs first, and each from the values that stand after its inputs were challenged. What follows is decided from
recipes and digests: what rests on a refuted result, and whose lineage can shrink. Nothing recurses, and nothing here
writes; whoever drives the walk stages the entries that it gives. What the runner fails on, and what has no recipe, is
left as it was, with why.

>>> from artdag_fed.caches.memory import MemoryCache
>>> work = Work(MemoryCache(), lambda op, inputs, params: 0, {"absent"}, {})
>>> list(work.walk(["absent"])), work.found.unchecked == {"absent": WITHDRAWN}
([], True)
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from hashlib import sha256
from types import MappingProxyType
from typing import Any, NamedTuple

from artdag_fed.cache import Drop, Entry, Made, OriginCache, Relabel
from artdag_fed.callables import Runner, said
from artdag_fed.dag import parse_recipe
from artdag_fed.errors import CodecError
from artdag_fed.names import Cid, PeerId, shown
from artdag_fed.record import statement
from artdag_fed.standing import WITHDRAWN, Standing

__all__ = ["WITHDRAWN", "Findings", "Refuted", "Same", "Work"]

_relabel = partial(tuple.__new__, Relabel)  # in half the time that a named tuple's own way takes

Same = Callable[[Any, Any], bool]
"""`same(held, computed) -> bool`: whether a held result is right though its bytes are not those that were computed.
Anything but True or False is a `TypeError`, and what it raises ends the call; either way nothing is written."""


@dataclass(frozen=True, slots=True)
class Refuted:
    """A peer's result that is not what was computed here from the same recipe.

    held: the digest of what the peer had sent; computed: of what was computed here, and stands now. Either is "" where
    the codec cannot carry the value (in memory, where a comparator decided). statement, signature: what the peer had
    signed, and its signature, verified when it came; b"" where there was none. Nothing keeps them but this, since the
    result is replaced and its conflict settled. They are not part of equality.
    """

    cid: Cid
    peer: PeerId
    op: str
    params: Mapping[str, Any]
    held: str
    computed: str
    statement: bytes = field(default=b"", compare=False)
    signature: bytes = field(default=b"", compare=False)


@dataclass(slots=True)
class Findings:
    """What a walk found out, by cid in the order in which it was: what becomes of those that are confirmed or
    vindicated, why others are unchecked, what goes on which conditions, and the digests of what was wrong: of refuted
    bits, and of those that were made here from them."""

    confirmed: dict[Cid, Relabel] = field(default_factory=dict)
    refuted: dict[Cid, Refuted] = field(default_factory=dict)
    unchecked: dict[Cid, str] = field(default_factory=dict)
    vindicated: dict[Cid, Relabel] = field(default_factory=dict)
    dropped: dict[Cid, Drop] = field(default_factory=dict)
    wrong: dict[Cid, str] = field(default_factory=dict)


class _Bad(NamedTuple):
    """Refuted results at or below one: the peers that they came from, and what refuting them rested on."""

    peers: frozenset[PeerId]
    basis: frozenset[int]


class Work:
    """One walk over the results that are challenged and those built on them.

    candidates: what is challenged; inputs: of every result in the walk that has some, its inputs; known: as for
    `Standing`; refuted, wrong: as they were found before; spared: what is kept whatever it rests on.
    """

    def __init__(
        self,
        cache: OriginCache,
        runner: Runner,
        candidates: Collection[Cid],
        inputs: Mapping[Cid, tuple[Cid, ...]],
        same: Mapping[str, Same] = MappingProxyType({}),
        *,
        known: Mapping[Cid, Made] = MappingProxyType({}),
        refuted: Iterable[Refuted] = (),
        wrong: Mapping[Cid, str] = MappingProxyType({}),
        spared: Collection[Cid] = (),
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.found = Findings()
        self._runner, self._same, self._clock = runner, same, clock
        self._made = cache.made
        self._encode, self._encodes = cache.codec.encode, cache.encodes
        self._candidates, self._inputs, self._spared = candidates, inputs, spared
        self._standing = Standing(cache, candidates, inputs, known, clock)
        self._bad = {one.cid: _Bad(frozenset([one.peer]), frozenset()) for one in refuted}
        self.found.wrong.update(wrong)

    def walk(self, order: Sequence[Cid]) -> Iterator[Entry]:
        """Take all of them, inputs first; gives what takes the place of refuted results."""
        for part in self._standing.parts(order):
            for cid in part:
                entry = self._take(cid, self._inputs.get(cid, ()))
                if entry is not None:
                    yield entry

    def _take(self, cid: Cid, inputs: tuple[Cid, ...]) -> Entry | None:
        if self._bad:
            for i in inputs:
                if i in self._bad:
                    self._add_bad(cid, *self._bad[i])
        if cid not in self._candidates:
            if cid in self._spared:
                self._standing.keep_as_held(cid)
            else:
                self._judge(cid, inputs)
            return None
        verdict = self._challenge(cid, inputs)
        if isinstance(verdict, str):
            self.found.unchecked[cid] = verdict
            self._judge(cid, inputs)
        self._standing.done_with(cid)
        return None if isinstance(verdict, str) else verdict

    def _challenge(self, cid: Cid, inputs: tuple[Cid, ...]) -> Entry | str | None:
        """Compute it again: what takes its place where it is refuted, why it is unchecked, or None: confirmed."""
        standing = self._standing
        values = standing.values
        made = standing.made.get(cid)
        if made is None or made.origin.peer is None:  # gone, or computed here, since it was chosen
            return WITHDRAWN
        recipe = made.recipe
        try:
            op, _, params = parse_recipe(recipe, inputs)
        except CodecError:
            return "no recipe"
        if sha256(recipe).hexdigest() != cid:  # an id of another system: nothing shows what it is a result of
            return "no recipe"
        # Only comparators want what is held: that a digest is the same says that the bytes are.
        if op in self._same and not standing.has(cid):
            return "its bytes are damaged" if cid in standing.damaged else WITHDRAWN
        below = standing.below(inputs)
        if isinstance(below, str):
            return below
        given, base, inputs_digest = below
        began = self._clock()
        try:
            computed = self._runner(op, tuple(given), MappingProxyType(params))
        except Exception as error:  # noqa: BLE001  # whatever it is, it leaves this result unchecked and nothing else
            return f"the runner failed: {said(error)}"
        seconds = self._clock() - began
        payload, digest = None, ""
        try:
            payload = self._encode(computed)
            digest = sha256(payload).hexdigest()
        except CodecError as error:
            if self._encodes or op not in self._same:
                return f"what was computed cannot be encoded: {said(error)}"
        confirmed = digest == made.digest != ""
        if not confirmed and op in self._same:
            confirmed = self._asked(op, cid, values[cid], computed)
        elif not made.digest:
            return "the held result cannot be encoded"
        if confirmed:
            relabel = (made.token, made.digest, base.origin, base.tokens, inputs_digest)
            self.found.confirmed[cid] = _relabel(relabel)
            standing.keep(cid, base)
            values.setdefault(cid, computed)  # where it was not read: the same bits
            return None
        peer, given_params = made.origin.peer, MappingProxyType(params)
        signed = self._signed(cid, peer, made)
        self.found.refuted[cid] = Refuted(cid, peer, op, given_params, made.digest, digest, *signed)
        self.found.wrong[cid] = made.digest
        self._add_bad(cid, frozenset([peer]), base.tokens)
        standing.replace(cid, digest, computed, base)
        return Entry(
            *(cid, base.origin, digest, payload, None if self._encodes else computed, not self._encodes, recipe),
            # Where the refuted one is withdrawn before the end, as where its inputs are, this showed nothing.
            *(inputs_digest, False, base.tokens | {made.token}, self._source(op), seconds),
        )

    def _signed(self, cid: Cid, peer: PeerId, made: Made) -> tuple[bytes, bytes]:
        """The statement that the peer has signed and its signature, where there is one."""
        kept = self._made([cid]).get(cid)
        if kept is None or not kept.signature or (kept.origin, kept.digest) != (made.origin, made.digest):
            return b"", b""
        return statement(cid, kept.size, kept.digest, kept.origin.lineage, peer), kept.signature

    def _judge(self, cid: Cid, inputs: tuple[Cid, ...]) -> None:
        """Decide what becomes of a result that was not computed again: it goes, or stands, perhaps vindicated."""
        standing = self._standing
        if not standing.keep_as_held(cid):
            return
        made = standing.made[cid]
        known = made.origin.local and made.inputs_digest != ""
        # It was made from exactly what stands: then it is as right as that, whoever it rested on when it was made.
        if not (known and made.inputs_digest == standing.inputs_digest(inputs)):
            bad, wrong = self._bad.get(cid), self.found.wrong
            if bad is None:
                return
            # Or from exactly what was wrong: then it is as wrong as that, whoever had sent those bits then.
            if known and made.inputs_digest == standing.wrong_digest(inputs, wrong):
                wrong[cid] = made.digest
            elif not made.origin.peers & bad.peers:
                return
            self.found.dropped[cid] = Drop(made.token, made.digest, bad.basis)
            standing.drop(cid)
            return
        # What a peer's input rests on is that peer's word, which may be another one than when this was made from it, or
        # from somebody else's equal bits: so nobody is cleared by it.
        if not standing.ours(inputs):
            return
        base = standing.base_of(inputs)
        if base.origin.lineage < made.origin.lineage:  # shrinks: more names say only that the inputs were made anew
            self.found.vindicated[cid] = Relabel(made.token, made.digest, base.origin, base.tokens)
            standing.keep(cid, base)

    def _add_bad(self, cid: Cid, peers: frozenset[PeerId], basis: frozenset[int]) -> None:
        bad = self._bad.get(cid)
        self._bad[cid] = _Bad(peers, basis) if bad is None else _Bad(bad.peers | peers, bad.basis | basis)

    def _asked(self, op: str, cid: Cid, held: Any, computed: Any) -> bool:
        answer: object = self._same[op](held, computed)
        if answer is not True and answer is not False:
            kind = type(answer).__qualname__
            raise TypeError(f"same[{shown(op)}] must answer True or False, not {kind} (cid {cid}): nothing was written")
        return answer is True

    def _source(self, op: str) -> str:
        source = getattr(self._runner, "source", None)
        return "" if source is None else source(op)
