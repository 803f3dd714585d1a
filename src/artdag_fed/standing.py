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

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from hashlib import sha256
from itertools import chain
from types import MappingProxyType
from typing import Any, NamedTuple

from artdag_fed.cache import Held, Made, Origin, OriginCache
from artdag_fed.events import Event
from artdag_fed.names import Cid

__all__ = ["READ_BYTES", "WITHDRAWN", "Base", "Standing"]

LOOKED_AT = 1000  # results in one question to the cache
READ_BYTES = 32 << 20  # of results read at a time: more gain nothing, and a film's frames are megabytes each

WITHDRAWN = "withdrawn meanwhile: it, or something that it rests on"


class Base(NamedTuple):
    """What a standing result rests on: the origin and the basis of one that is computed from it. Shared by many."""

    origin: Origin
    tokens: frozenset[int]


_NOTHING = Base(Origin(None), frozenset())
_NO_INPUTS = sha256().hexdigest()


class Standing:
    """Of the results in one walk and their inputs, what stands.

    challenged: those whose inputs' values are wanted, and their own if `read`; inputs: of each result that has some;
    recipes: of challenged ones that need not be asked about before they are looked at, as they are small.
    """

    def __init__(
        self,
        cache: OriginCache,
        challenged: Collection[Cid],
        inputs: Mapping[Cid, tuple[Cid, ...]],
        recipes: Mapping[Cid, bytes] = MappingProxyType({}),
        *,
        read: bool = True,
    ) -> None:
        self._cache, self._challenged, self._inputs, self._recipes = cache, challenged, inputs, recipes
        self._reads = read
        self.made: dict[Cid, Made] = {}  # of the batch at hand
        self.tokens: dict[Cid, int] = {}  # of what is held as it was looked at
        self.values: dict[Cid, Any] = {}
        self.damaged: set[Cid] = set()
        self._digests: dict[Cid, str] = {}  # of what stands
        self._bases: dict[Cid, Base] = {}
        self._theirs: set[Cid] = set()  # of what stands, what came from peers and was not confirmed
        self._lacking: dict[Cid, str] = {}  # what does not stand, and why
        self._uses = Counter(chain.from_iterable(inputs.get(cid, ()) for cid in challenged))
        self._by_token: dict[int, Base] = {}
        self._joined: dict[tuple[int, int], tuple[Base, Base]] = {}

    # --- looking and reading ----------------------------------------------------------------

    def parts(self, order: Sequence[Cid]) -> Iterator[Sequence[Cid]]:
        """All of these in their order, in parts that were looked at, and whose values are in hand."""
        for start in range(0, len(order), LOOKED_AT):
            batch = order[start : start + LOOKED_AT]
            self._look(batch)
            for part in self._split(batch):
                self._read(part)
                yield part

    def _look(self, batch: Sequence[Cid]) -> None:
        """Ask about these, and about inputs of theirs that are not in the walk and not known yet."""
        within, known = set(batch), self._bases
        below = dict.fromkeys(chain.from_iterable(self._inputs.get(cid, ()) for cid in batch))
        outside = [i for i in below if not (i in known or i in within or i in self._lacking)]
        # In this order: in memory `made` works digests out, which `held` then has for as long as nothing changes.
        self.made = self._cache.made([cid for cid in (*batch, *outside) if cid not in self._recipes])
        # Those that are read say themselves whence they are.
        self._meet(self._cache.held([cid for cid in self.made if not (self._reads and self._is_challenged(cid))]))
        for cid in outside:
            self.keep_as_held(cid)

    def _is_challenged(self, cid: Cid) -> bool:
        """Whether it is to be computed again, as far as that is known yet."""
        if cid in self._recipes:
            return True
        return cid in self._challenged and cid in self.made and self.made[cid].recipe != b""

    def _meet(self, held: Mapping[Cid, Held]) -> None:
        """Note under which origin these are held, as long as they are what was asked about."""
        for cid, (origin, token, digest, _) in held.items():
            made = self.made[cid]
            if (digest, origin) == (made.digest, made.origin):  # else it changed just now
                self.tokens[cid] = token
                self._digests[cid] = digest

    def _split(self, batch: Sequence[Cid]) -> Iterator[Sequence[Cid]]:
        """The batch in parts for which few bytes have to be read."""
        if sum(made.size for made in self.made.values()) <= READ_BYTES:
            yield batch
            return
        part, weight = list[Cid](), 0
        for cid in batch:
            if cid in self._challenged:
                needed = (self.made.get(name) for name in (cid, *self._inputs.get(cid, ())))
                weight += sum(made.size for made in needed if made is not None)
            if part and weight > READ_BYTES:
                yield part
                part, weight = [], 0
            part.append(cid)
        yield part

    def _read(self, part: Iterable[Cid]) -> None:
        """Have the values that the challenged ones of these need."""
        values, lacking = self.values, self._lacking
        challenged = [cid for cid in part if self._is_challenged(cid)]
        chosen = challenged if self._reads else []
        if not self._reads:
            self._glance([cid for cid in part if cid in self._recipes])
        needed = dict.fromkeys(chosen)
        for cid in challenged:
            for i in self._inputs.get(cid, ()):
                # Those that are challenged are computed before, and read only where that came to nothing.
                if i not in values and i not in lacking and (self._reads or i not in self._challenged):
                    needed[i] = None
        asked = [cid for cid in needed if cid not in values and cid not in self.damaged]
        loaded = self._cache.load(asked, self._heard)
        made, recipes, tokens, digests = self.made, self._recipes, self.tokens, self._digests
        for cid, (held, _) in loaded.items():
            if cid in recipes:
                made[cid] = Made(held.origin, held.digest, recipes[cid], "")
                tokens[cid], digests[cid] = held.token, held.digest
        self._meet({cid: loaded[cid][0] for cid in chosen if cid not in recipes and cid in loaded})
        for cid, (held, value) in loaded.items():
            if tokens.get(cid) == held.token and digests[cid] == held.digest:
                values[cid] = value
        if len(loaded) < len(asked):
            unread = [cid for cid in chosen if cid not in loaded]
            made.update(self._cache.made([cid for cid in unread if cid not in made]))
            self._meet(self._cache.held([cid for cid in unread if cid in made]))

    def _glance(self, cids: Sequence[Cid]) -> None:
        """Note of these what is held, without reading it."""
        for cid, (origin, token, digest, _) in self._cache.held(cids).items():
            self.made[cid] = Made(origin, digest, self._recipes[cid], "")
            self.tokens[cid], self._digests[cid] = token, digest

    def has(self, cid: Cid) -> bool:
        """Whether its value is in hand, which is read where it stands unread."""
        if cid in self.values:
            return True
        if self._reads or cid not in self._challenged or not self.stands(cid) or cid in self.damaged:
            return False
        for held, value in self._cache.load([cid], self._heard).values():
            if (self.tokens.get(cid), self._digests.get(cid)) == (held.token, held.digest):
                self.values[cid] = value
        return cid in self.values

    def _heard(self, event: Event) -> None:
        if event.kind == "damaged":
            self.damaged.add(event.cid)

    # --- what stands ------------------------------------------------------------------------

    def keep_as_held(self, cid: Cid) -> bool:
        """Let it stand as it is held; False where it is not."""
        token, made = self.tokens.get(cid), self.made.get(cid)
        if token is None or made is None:
            self._lacking[cid] = "is missing"
            return False
        base = self._by_token.get(token)
        if base is None:
            base = self._by_token[token] = Base(Origin(None, made.origin.peers), frozenset([token]))
        if not made.origin.local:
            self._theirs.add(cid)
        self._bases[cid] = base
        return True

    def keep(self, cid: Cid, base: Base) -> None:
        """Let the held bits stand as computed here from results of this base."""
        token = self.tokens[cid]
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
            uses[i] -= 1
            if not uses[i]:
                values.pop(i, None)
        if cid not in uses:
            values.pop(cid, None)

    # --- asking -----------------------------------------------------------------------------

    def stands(self, cid: Cid) -> bool:
        """Whether its bits are known to be good for computing from."""
        return cid in self._bases

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
            other = self._bases[i]
            if other is base or other is _NOTHING:
                continue
            if base is _NOTHING:
                base = other
            else:
                lineage = base.origin.lineage | other.origin.lineage
                base = Base(Origin(None, lineage), base.tokens | other.tokens)
        return base

    def inputs_digest(self, inputs: tuple[Cid, ...]) -> str:
        """As a run keeps it beside a result; "" where an input does not stand, or has no digest."""
        if not inputs:
            return _NO_INPUTS
        digests = [self._digests[i] for i in inputs if i in self._bases]
        if len(digests) < len(inputs) or not all(digests):
            return ""
        return sha256("".join(digests).encode()).hexdigest()

    def wrong_digest(self, inputs: tuple[Cid, ...], wrong: Mapping[Cid, str]) -> str:
        """Likewise over what was held before any of it went: the digests in `wrong` for those that were wrong. "" where
        none was."""
        digests = [wrong[i] if i in wrong else self._digests.get(i, "") for i in inputs]
        if wrong.keys().isdisjoint(inputs) or not all(digests):
            return ""
        return sha256("".join(digests).encode()).hexdigest()
