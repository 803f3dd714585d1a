"""What stands while results are challenged: which bits, whose they are, and the values that are in hand.

Rules: what is held stands as it is until someone says otherwise; what is not held, or changes while it is looked at,
does not. The cache is asked about many results at a time, and values are read in parts of bounded size, and let go of
when no more challenges need them. A value is used only under the digest and the origin that were looked at.

>>> from artdag_fed.caches.memory import MemoryCache
>>> stands = Standing(MemoryCache({"c1": 1}), frozenset(), {})
>>> [*stands.parts(["c1", "c2"])], stands.made["c1"].origin.local, stands.missing("c2")
([['c1', 'c2']], True, 'an input is missing: c2')
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from types import MappingProxyType
from typing import Any, NamedTuple

from artdag_fed.cache import Made, Origin, OriginCache, inputs_digest_of
from artdag_fed.events import Event
from artdag_fed.names import Cid

__all__ = ["KNOWN_SECONDS", "READ_BYTES", "WITHDRAWN", "Base", "Standing"]

LOOKED_AT = 1000  # results in one question to the cache
KNOWN_SECONDS = 1.0  # others may have changed since what was known this long ago: then it is asked about again
READ_BYTES = 32 << 20  # of results read at a time: more gain nothing, and a film's frames are megabytes each

WITHDRAWN = "withdrawn meanwhile: it, or something that it rests on"


class Base(NamedTuple):
    """What a standing result rests on: the origin and the basis of one that is computed from it. Shared by many."""

    origin: Origin
    tokens: frozenset[int]


_NOTHING = Base(Origin(None), frozenset())
_NO_INPUTS = inputs_digest_of(())


def _union(base: Base, other: Base) -> Base:
    """What rests on both."""
    if other is base or other is _NOTHING:
        return base
    if base is _NOTHING:
        return other
    return Base(Origin(None, base.origin.lineage | other.origin.lineage), base.tokens | other.tokens)


class Standing:
    """Of the results in one walk and their inputs, what stands.

    challenged: those that are computed again, from their inputs' values; inputs: of each result that has some; known:
    how some were made as of now, so that the cache need not be asked about them again soon.
    """

    def __init__(
        self,
        cache: OriginCache,
        challenged: Collection[Cid],
        inputs: Mapping[Cid, tuple[Cid, ...]],
        known: Mapping[Cid, Made] = MappingProxyType({}),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._cache, self._challenged, self._inputs = cache, challenged, inputs
        self._known, self._clock, self._until = known, clock, clock() + KNOWN_SECONDS
        self.made: dict[Cid, Made] = {}  # of the batch at hand
        self.values: dict[Cid, Any] = {}
        self.damaged: set[Cid] = set()
        self._tokens: dict[Cid, int] = {}  # of what is held as it was looked at
        self._digests: dict[Cid, str] = {}  # likewise, and of what took its place
        self._bases: dict[Cid, Base] = {}
        self._theirs: set[Cid] = set()  # of what stands, what came from peers and was not confirmed
        self._lacking: dict[Cid, str] = {}  # what does not stand, and why
        self._uses = dict(Counter(chain.from_iterable(inputs.get(cid, ()) for cid in challenged)))
        self._by_token: dict[int, Base] = {}
        self._joined: dict[tuple[int, int], tuple[Base, Base]] = {}

    # --- looking and reading ----------------------------------------------------------------

    def parts(self, order: Sequence[Cid]) -> Iterator[Sequence[Cid]]:
        """All of these in their order, in parts that were looked at, and whose values are in hand."""
        for start in range(0, len(order), LOOKED_AT):
            batch = order[start : start + LOOKED_AT]
            self._look(batch)
            for part in self._split(batch):
                self._read(dict.fromkeys(self._needs(part)))
                yield part

    def _look(self, batch: Sequence[Cid]) -> None:
        """Ask about these, and about inputs of theirs that are not in the walk and not known yet."""
        within, known = set(batch), self._known if self._clock() < self._until else {}
        below = dict.fromkeys(chain.from_iterable(self._inputs.get(cid, ()) for cid in batch))
        outside = [i for i in below if not (i in self._bases or i in within or i in self._lacking)]
        asked = [*batch, *outside]
        answer = self._cache.made([cid for cid in asked if cid not in known])
        made, tokens, digests = dict[Cid, Made](), self._tokens, self._digests
        for cid in asked:
            one = known.get(cid) or answer.get(cid)
            if one is not None:
                made[cid], tokens[cid], digests[cid] = one, one.token, one.digest
        self.made = made
        for cid in outside:
            self.keep_as_held(cid)

    def _needs(self, cids: Iterable[Cid]) -> Iterator[Cid]:
        """The inputs whose held values are needed to compute those of these again that are challenged.

        Those that are challenged themselves are computed before, and read only where that came to nothing.
        """
        inputs, challenged, made = self._inputs, self._challenged, self.made
        for cid in cids:
            for i in inputs.get(cid, ()):
                if i not in challenged and cid in challenged and cid in made and made[cid].recipe:
                    yield i

    def _split(self, batch: Sequence[Cid]) -> Iterator[Sequence[Cid]]:
        """The batch in parts for which few bytes have to be read."""
        if sum(made.size for made in self.made.values()) <= READ_BYTES:
            yield batch
            return
        part, weight = list[Cid](), 0
        for cid in batch:
            weight += sum(self.made[i].size for i in self._needs([cid]) if i in self.made)
            if part and weight > READ_BYTES:
                yield part
                part, weight = [], 0
            part.append(cid)
        yield part

    def _read(self, cids: Iterable[Cid]) -> None:
        """Have the values of these, as far as they are held as they were looked at."""
        unread = [c for c in cids if not (c in self.values or c in self._lacking or c in self.damaged)]
        for cid, (held, value) in self._cache.load(unread, self._heard).items():
            if (self._tokens.get(cid), self._digests.get(cid)) == (held.token, held.digest):
                self.values[cid] = value

    def has(self, cid: Cid) -> bool:
        """Whether its value is in hand; one that is challenged is read now, where it was not computed."""
        if cid not in self.values and cid in self._challenged:
            self._read([cid])
        return cid in self.values

    def _heard(self, event: Event) -> None:
        if event.kind == "damaged":
            self.damaged.add(event.cid)

    # --- what stands ------------------------------------------------------------------------

    def keep_as_held(self, cid: Cid) -> bool:
        """Let it stand as it is held; False where it is not."""
        made = self.made.get(cid)
        if made is None:
            self._lacking[cid] = "is missing"
            return False
        base = self._by_token.get(made.token)
        if base is None:
            base = self._by_token[made.token] = Base(Origin(None, made.origin.peers), frozenset([made.token]))
        if not made.origin.local:
            self._theirs.add(cid)
        self._bases[cid] = base
        return True

    def keep(self, cid: Cid, base: Base) -> None:
        """Let the held bits stand as computed here from results of this base."""
        token = self.made[cid].token
        if token not in base.tokens:
            # Where its own origin is withdrawn before the end, nothing that was computed from it was shown either.
            key = id(base), token
            if key not in self._joined:
                self._joined[key] = base, Base(base.origin, base.tokens | {token})
            base = self._joined[key][1]
        self._bases[cid] = base

    def replace(self, cid: Cid, digest: str, value: Any, base: Base) -> None:
        """Let what was computed here stand in its place."""
        self._digests[cid], self.values[cid], self._bases[cid] = digest, value, base

    def drop(self, cid: Cid) -> None:
        """Let it not stand, as it rests on a refuted result."""
        self._bases.pop(cid, None)
        self._lacking[cid] = "was dropped, as it rested on a refuted result"

    def done_with(self, cid: Cid) -> None:
        """Let go of the values that no challenge needs, now that this one is over."""
        uses, values = self._uses, self.values
        for i in self._inputs.get(cid, ()):
            left = uses[i] = uses[i] - 1
            if not left:
                values.pop(i, None)
        if cid not in uses:
            values.pop(cid, None)

    # --- asking -----------------------------------------------------------------------------

    def below(self, inputs: tuple[Cid, ...]) -> tuple[list[Any], Base, str] | str:
        """What a result is computed from that has these inputs: their values, what it rests on, and its inputs digest;
        or why nothing can be computed from them."""
        bases, values, digests = self._bases, self.values, self._digests
        given: list[Any] = []
        of_inputs: list[str] = []
        base = _NOTHING
        for i in inputs:
            other = bases.get(i)
            if other is None or (i not in values and not self.has(i)):
                return self.missing(i)
            given.append(values[i])
            of_inputs.append(digests[i])
            if other is not base:
                base = _union(base, other)
        return given, base, inputs_digest_of(of_inputs) if inputs else _NO_INPUTS

    def ours(self, inputs: tuple[Cid, ...]) -> bool:
        """Whether all of these, which stand, were computed here: when they were challenged, or before."""
        return self._theirs.isdisjoint(inputs)

    def missing(self, i: Cid) -> str:
        """Why nothing can be computed from this input."""
        if i in self.damaged:
            return f"an input is damaged: {i}"
        return WITHDRAWN if i in self._bases else f"an input {self._lacking.get(i, 'is missing')}: {i}"

    def base_of(self, inputs: tuple[Cid, ...]) -> Base:
        """What a result of these inputs rests on; they stand."""
        base = _NOTHING
        for i in inputs:
            base = _union(base, self._bases[i])
        return base

    def inputs_digest(self, inputs: tuple[Cid, ...]) -> str:
        """As a run keeps it beside a result; "" where an input does not stand, or has no digest."""
        if not inputs:
            return _NO_INPUTS
        digests, bases = self._digests, self._bases
        return inputs_digest_of([digests[i] if i in bases else "" for i in inputs])

    def wrong_digest(self, inputs: tuple[Cid, ...], wrong: Mapping[Cid, str]) -> str:
        """Likewise over what was held before any of it went: the digests in `wrong` for those that were wrong. "" where
        none was."""
        if wrong.keys().isdisjoint(inputs):
            return ""
        return inputs_digest_of([wrong[i] if i in wrong else self._digests.get(i, "") for i in inputs])
