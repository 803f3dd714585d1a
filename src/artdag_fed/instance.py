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
from dataclasses import dataclass, field, replace
from heapq import nlargest
from itertools import islice
from operator import attrgetter
from types import MappingProxyType
from typing import Any

from artdag_fed import drawing
from artdag_fed.cache import Cache, Origin, OriginCache, Total
from artdag_fed.caches.disk import DiskCache
from artdag_fed.caches.memory import MemoryCache
from artdag_fed.callables import said
from artdag_fed.codec import Codec
from artdag_fed.dag import Node, box_of
from artdag_fed.errors import RunError, StoreError
from artdag_fed.events import Report
from artdag_fed.execute import Execution
from artdag_fed.names import Cid, PeerId, check_peer, shown

__all__ = ["Federation", "Run", "by_peer", "cache_of", "now", "open"]

SHOWN_PEERS = 10  # in a table; the others are counted
SHOWN_ERRORS = 5


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

    def __contains__(self, item: object) -> bool:
        """Whether the result of a cid, or of a Node, is held."""
        return (item.cid if type(item) is Node else item) in self.cache

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
        try:
            origins = cache_of(self).origins()
        except StoreError as error:  # it was closed, perhaps: a repr is what a debugger shows then
            return f"<Federation over {self.cache!r}: {said(error)}>"
        foreign = Counter({peer: total.results for peer, total in by_peer(origins.items()).items()})
        local = foreign.pop(None, 0)
        whence = "".join(f", {count} from {shown(peer, 30)}" for peer, count in foreign.most_common(3))
        more = f", and {len(foreign) - 3} more peers" if len(foreign) > 3 else ""
        return f"<Federation over {self.cache!r}: {local} computed here{whence}{more}>"

    def _repr_html_(self) -> str:
        try:
            origins = cache_of(self).origins()
        except StoreError as error:
            return drawing.html(drawing.Table(("",), [(drawing.Mark("failed", said(error)),)], repr(self.cache)[1:-1]))
        totals = {None: Total()} | by_peer(origins.items())
        resting: dict[PeerId | None, Counter[PeerId]] = {}
        for origin, total in origins.items():
            for other in origin.lineage:
                resting.setdefault(origin.peer, Counter())[other] += total.results
        local = totals.pop(None)
        first = nlargest(SHOWN_PEERS, totals.items(), key=lambda item: item[1].results)
        rows = [_row(drawing.Mark("here", "computed here"), local, resting.get(None))]
        rows += [
            _row(drawing.Mark("peer", f"from {drawing.quoted(str(peer), 40)}"), total, resting.get(peer))
            for peer, total in first
        ]
        more = f"and {len(totals) - len(first):,} more peers" if len(totals) > len(first) else ""
        columns = ("origin", "results", "size", "computed in", "of them rest on")
        return drawing.html(drawing.Table(columns, rows, repr(self.cache)[1:-1], more))


def _row(mark: drawing.Mark, total: Total, resting: Counter[PeerId] | None) -> tuple[drawing.Cell, ...]:
    # What a cache does not know counts 0 there, and is better not said.
    size = drawing.size(total.bytes) if total.bytes else ""
    seconds = ("under 0.1 s" if total.seconds < 0.1 else f"{total.seconds:,.1f} s") if total.seconds else ""
    return mark, total.results, size, seconds, _resting(resting)


def _resting(on: Counter[PeerId] | None) -> str:
    if on is None:
        return ""
    more = f", and {len(on) - 3} more peers" if len(on) > 3 else ""
    return ", ".join(f"{count:,} on {drawing.quoted(peer)}" for peer, count in on.most_common(3)) + more


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
        skipped = set(self.skipped)
        self.failed: dict[Cid, RunError] = {cid: e for cid, e in done.failed.items() if cid not in skipped}

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

    __iter__ = None  # else Python would ask for [0], [1]...

    def __getitem__(self, node: Node | Cid) -> Any:
        cid = node.cid if isinstance(node, Node) else node
        if cid in self._errors:
            raise self._errors[cid]
        return self._results[cid] if cid in self._results else self.federation.cache[cid]

    def __repr__(self) -> str:
        parts = [f"{len(self.computed)} computed", f"{len(self.reused)} reused"]
        parts += [f"{len(part)} {name}" for name, part in (("failed", self.failed), ("skipped", self.skipped)) if part]
        return f"<Run: {', '.join(parts)}>"

    def _repr_html_(self) -> str:
        rows: list[tuple[drawing.Cell, ...]] = [
            (drawing.Mark("here", "computed now"), len(self.computed), ""),
            (drawing.Mark("peer", "reused"), len(self.reused), ""),
        ]
        why = "; ".join(f"{shown(e.op, 30)}: {_cause(e)[:60]}" for e in islice(self.failed.values(), SHOWN_ERRORS))
        rows += [(drawing.Mark("failed", "failed"), len(self.failed), why)] if self.failed else []
        rows += [(drawing.Mark("skipped", "skipped"), len(self.skipped), "")] if self.skipped else []
        return drawing.html(drawing.Table(("Run", "nodes", ""), rows), self._drawn())

    def _drawn(self) -> drawing.Graph:
        groups = {"computed": self.computed, "reused": self.reused, "failed": self.failed, "skipped": self.skipped}
        group_of = {cid: group for group, cids in groups.items() for cid in cids}
        ranks = {"failed": 0, "skipped": 0, "": 2}  # what went wrong is found, however far below

        def box(node: Node) -> drawing.Box:
            group = group_of.get(node.cid, "")
            if group == "failed":
                return box_of(node, "failed", f"failed: {_cause(self.failed[node.cid])}", group)
            return box_of(node, *_STATES[group], group)

        graph = drawing.nearest(
            self._targets,
            key=attrgetter("cid"),
            inputs=attrgetter("inputs"),
            box=box,
            rank=lambda node: ranks.get(group_of.get(node.cid, ""), 1),
            totals={group: len(cids) for group, cids in groups.items()},
            rest="nodes that were not needed",
            name=repr(self)[1:-1],
        )
        return replace(graph, boxes=self._with_origins(graph.boxes))

    def _with_origins(self, boxes: tuple[drawing.Box, ...]) -> tuple[drawing.Box, ...]:
        """The boxes of reused results with whence these came: one question to the cache, of the few that are drawn."""
        try:
            held = cache_of(self.federation).held([box.key for box in boxes if box.group == "reused"])
        except StoreError:  # a cache that was closed: what the run did can still be told
            return boxes
        made = []
        for box in boxes:
            if box.group == "reused":
                origin = held[box.key].origin if box.key in held else None
                if origin is None:
                    box = replace(box, words="reused, no longer held")
                elif origin.peer is None:
                    box = replace(box, kind="here", words="reused: computed here before")
                else:
                    box = replace(box, words=f"reused: from {drawing.quoted(origin.peer, 18)}")
            made.append(box)
        return tuple(made)


_STATES: Mapping[str, tuple[drawing.Kind, str]] = MappingProxyType(
    {
        "computed": ("here", "computed now"),
        "reused": ("peer", "reused"),
        "skipped": ("skipped", "skipped: what it needs failed"),
        "": ("unneeded", "not needed"),
    }
)


def _cause(error: RunError) -> str:
    return said(error if error.__cause__ is None else error.__cause__)


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


def by_peer(found: Iterable[tuple[Origin, Total]]) -> dict[PeerId | None, Total]:
    """What these come to by the peer that they came from (None: computed here), as `Report.dropping` has it."""
    totals: dict[PeerId | None, Total] = {}
    for origin, more in found:
        totals[origin.peer] = totals.get(origin.peer, Total()).plus(*more)
    return totals
