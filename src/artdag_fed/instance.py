"""The values that the verbs take and return: an instance, and what a run gave.

Rules: frozen; a `Federation` is a cache that keeps origins, and the provenance and lineage that it keeps, as they were
(in memory) or as they are (durable). Whatever is decided is decided from the cache. Nothing here changes a cache.

>>> fed = Federation({"c1": "a frame", "c2": "another"}, provenance={"c2": "alice"})
>>> fed
<Federation over <MemoryCache of 2 results>: 1 computed here, 1 from 'alice'>
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from artdag_fed.cache import Cache, OriginCache
from artdag_fed.caches.disk import DiskCache
from artdag_fed.caches.memory import MemoryCache
from artdag_fed.codec import Codec
from artdag_fed.dag import Node
from artdag_fed.errors import RunError
from artdag_fed.events import Report
from artdag_fed.execute import Execution
from artdag_fed.names import Cid, PeerId, check_peer, shown

__all__ = ["Federation", "Run", "cache_of", "now", "open"]


@dataclass(frozen=True, repr=False)
class Federation:
    """An instance: results by cid, and whence they came. Frozen; a verb returns another one.

    cache: a mapping of cid -> result, or a cache that keeps origins itself (`MemoryCache`, `DiskCache`); a plain
    mapping is wrapped in a `MemoryCache`. provenance: the peer of each result that came from one; all others in a plain
    mapping were computed here, on your word. lineage: the other peers that a result rests on. report: what the call
    that returned this value did.

    In memory, provenance and lineage are dicts of their own, as they were when the value was made; over a durable cache
    they are live views, and giving others is a `ValueError`. Two values over one durable cache are equal.
    """

    cache: Cache = field(default_factory=dict)
    provenance: Mapping[Cid, PeerId] = field(default_factory=dict)
    lineage: Mapping[Cid, frozenset[PeerId]] = field(default_factory=dict)
    report: Report = field(default_factory=Report, compare=False)

    def __post_init__(self) -> None:
        for name in ("provenance", "lineage"):
            if not isinstance(getattr(self, name), Mapping):
                raise TypeError(f"{name} must be a mapping by cid, not {type(getattr(self, name)).__name__}")
        cache = self.cache
        wrapped = False
        if isinstance(cache, OriginCache):
            wrapped = True
            _check_given(cache, self.provenance, self.lineage)
        else:
            if not hasattr(type(cache), "keys"):  # a list has all the other methods
                raise TypeError(f"cache must be a mapping of cid -> result, not {type(cache).__name__}")
            _check_lineage(self.provenance, self.lineage)
            cache = MemoryCache(cache, provenance=self.provenance, lineage=self.lineage)
        object.__setattr__(self, "cache", cache)
        for name in ("provenance", "lineage"):
            given = getattr(self, name)
            kept = getattr(cache, name)
            # What was given with a cache that keeps origins is an older value's, as `dataclasses.replace` passes it on.
            object.__setattr__(self, name, dict(given) if given and wrapped and isinstance(kept, dict) else kept)

    def __contains__(self, cid: object) -> bool:
        return cid in self.cache

    def __len__(self) -> int:
        return len(self.cache)

    def __iter__(self) -> Iterator[Cid]:
        return iter(self.cache)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Federation):
            return NotImplemented
        if self.cache != other.cache:
            return False
        if not isinstance(self.provenance, dict):  # live views of the same cache: no need to walk them
            return True
        return (self.provenance, self.lineage) == (other.provenance, other.lineage)

    __hash__ = None  # type: ignore[assignment]  # equal by content, which changes

    def __bool__(self) -> bool:
        return True  # an instance that holds nothing is one

    def __repr__(self) -> str:
        local, foreign = 0, Counter[str]()
        for origin, total in cache_of(self).origins().items():
            if origin.peer is None:
                local += total.results
            else:
                foreign[origin.peer] += total.results
        whence = "".join(f", {count} from {shown(peer, 30)}" for peer, count in foreign.most_common(3))
        more = f", and {len(foreign) - 3} more peers" if len(foreign) > 3 else ""
        return f"<Federation over {self.cache!r}: {local} computed here{whence}{more}>"


def _check_given(
    cache: OriginCache, provenance: Mapping[Cid, PeerId], lineage: Mapping[Cid, frozenset[PeerId]]
) -> None:
    """Refuse origins that are given with a cache that has its own and contradicts them."""
    for name, given, kept in (("provenance", provenance, cache.provenance), ("lineage", lineage, cache.lineage)):
        if not isinstance(kept, dict):  # durable: the only views that fit are its own
            own = isinstance(given, type(kept)) and getattr(given, "_cache", None) == cache
            if given and not own:
                raise ValueError(f"{cache!r} keeps provenance and lineage itself: leave them out")
            continue
        for cid, claim in given.items():
            if cid in cache and kept.get(cid) != claim:
                keeps = f"keeps {kept[cid]!r}" if cid in kept else "keeps it as computed here, from nobody's results"
                raise ValueError(
                    f"{name} says {claim!r} of {shown(cid)}, but the cache {keeps}: leave {name} out, or wrap the "
                    "plain mapping together with it"
                )


def _check_lineage(provenance: Mapping[Cid, PeerId], lineage: Mapping[Cid, Iterable[PeerId]]) -> None:
    for cid, peers in lineage.items():
        if isinstance(peers, str):  # it would be taken apart into letters
            raise TypeError(f"the lineage of {shown(cid)} is a set of peers, not the text {shown(peers)}")
        if provenance.get(cid) in set(map(check_peer, peers)):
            raise ValueError(f"the lineage of {shown(cid)} names its own peer: it is who else the result rests on")


def open(path: str | os.PathLike[str] | None = None, *, codec: Codec | None = None) -> Federation:
    """An instance: in memory (`path` None), or durable in the folder `path`, made where it is missing or empty.

    codec: what results are written and read with; None is `Codec()`. Raises `StoreError` where the folder is not ours,
    is damaged, or cannot be read. Writes nothing where a cache is there.
    """
    return Federation(MemoryCache(codec=codec) if path is None else DiskCache(path, codec))


class Run:
    """What a run did, and gave.

    `computed`, `reused`, `skipped`: tuples of cids in the order in which it was done; `failed`: the `RunError` by cid;
    `federation`: the instance afterwards. Where a target failed, asking for its result raises its `RunError`.
    """

    def __init__(self, targets: tuple[Node, ...], done: Execution, federation: Federation) -> None:
        self._targets = targets
        self._results = done.results
        self._errors = done.failed
        self.federation = federation
        self.computed: tuple[Cid, ...] = tuple(done.computed)
        self.reused: tuple[Cid, ...] = tuple(done.reused)
        self.skipped: tuple[Cid, ...] = tuple(done.skipped)
        self.failed: dict[Cid, RunError] = {cid: e for cid, e in done.failed.items() if cid not in set(done.skipped)}

    @property
    def results(self) -> tuple[Any, ...]:
        """The results of the targets, in their order."""
        return tuple(self[node] for node in self._targets)

    @property
    def value(self) -> Any:
        """The result of the only target; `ValueError` where there are several."""
        if len(self._targets) != 1:
            raise ValueError(f"this run has {len(self._targets)} targets: use .results, or [node]")
        return self[self._targets[0]]

    def __getitem__(self, node: Node | Cid) -> Any:
        cid = node.cid if isinstance(node, Node) else node
        if cid in self._errors:
            raise self._errors[cid]
        return self._results[cid] if cid in self._results else self.federation.cache[cid]

    def __repr__(self) -> str:
        parts = [f"{len(self.computed)} computed", f"{len(self.reused)} reused"]
        parts += [f"{len(part)} {name}" for name, part in (("failed", self.failed), ("skipped", self.skipped)) if part]
        return f"<Run: {', '.join(parts)}>"


def cache_of(fed: Federation) -> OriginCache:
    if not isinstance(fed, Federation):
        raise TypeError(
            f"fed must be a Federation, not {type(fed).__name__}: make one with Federation(cache) or open()"
        )
    return fed.cache  # type: ignore[return-value]  # __post_init__ has made it one


def now(cache: OriginCache, report: Report) -> Federation:
    """A value over what the cache keeps now."""
    fed = object.__new__(Federation)
    for name, value in (
        ("cache", cache),
        ("provenance", cache.provenance),
        ("lineage", cache.lineage),
        ("report", report),
    ):
        object.__setattr__(fed, name, value)
    return fed
