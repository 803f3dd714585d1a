"""What is drawn of a graph: boxes that say what they are, and which stand before which.

Rules: a graph is plain text and knows nobody's types; whoever draws it escapes and shortens what is in it. Of a large
graph the part next to the targets is taken, and its note says what is left out. How much is looked at is bounded,
however large the graph is. Nothing recurses.

>>> inputs = {"sum": ["one", "two"], "one": [], "two": []}
>>> graph = nearest(["sum"], key=str, inputs=inputs.__getitem__, box=lambda name: Box(name), totals={"": 3}, most=2)
>>> [box.title for box in graph.boxes], graph.note
(['sum', 'one'], 'Left out: 1 node.')
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from heapq import heappop, heappush, nsmallest
from itertools import islice
from typing import Literal, TypeVar

__all__ = ["ARROWS", "BOXES", "Box", "Graph", "Kind", "nearest"]

BOXES = 60  # more of them nobody reads
ARROWS = 240  # likewise, and they are what a picture of a dense graph weighs
LOOKED_AT = 100_000  # inputs looked at for the ones to be drawn, in all

T = TypeVar("T")

Kind = Literal["plain", "here", "peer", "missing", "wanted", "refused", "failed", "skipped", "unneeded"]
"""How a box looks. What it means stands in its words, since colours do not reach everybody."""


@dataclass(frozen=True, slots=True)
class Box:
    """One node: its name, details (its params), its state in words, and the keys of those that it is made from.

    group: what it is counted under where boxes are left out; "" for plainly "nodes". hidden: inputs that are not drawn.
    """

    key: str
    title: str = ""
    detail: str = ""
    words: str = ""
    kind: Kind = "plain"
    inputs: tuple[str, ...] = ()
    group: str = ""
    hidden: int = 0

    def __post_init__(self) -> None:
        if not self.title:
            object.__setattr__(self, "title", self.key)

    @property
    def unseen(self) -> str:
        """That some inputs are not drawn, in words; "" where all are."""
        return f"{self.hidden:,} input{'' if self.hidden == 1 else 's'} not drawn" if self.hidden else ""


@dataclass(frozen=True, slots=True)
class Graph:
    """Boxes, the targets first, and a sentence on what is left out. Inputs that are no key of a box are not drawn."""

    boxes: tuple[Box, ...]
    name: str = "Graph"
    note: str = ""


def nearest(
    targets: Iterable[T],
    *,
    key: Callable[[T], str],
    inputs: Callable[[T], Sequence[T]],
    box: Callable[[T], Box],
    rank: Callable[[T], int] | None = None,
    totals: Mapping[str, int],
    rest: str = "",
    name: str = "Graph",
    most: int = BOXES,
) -> Graph:
    """The graph of at most `most` nodes from the targets down, those of the lowest rank first.

    box: how a node looks; its inputs are filled in here. totals: how many nodes there are in each group. rest: what to
    say where nodes that are in no group of `totals` are left out, as nobody counted them.
    """
    budget = LOOKED_AT

    def chosen(nodes: Iterable[T]) -> list[T]:
        nonlocal budget
        several = list(islice(nodes, most if rank is None else max(most, budget)))
        budget -= len(several)
        return several if rank is None else nsmallest(most, several, key=rank)

    heap: list[tuple[int, int]] = []
    met: list[T] = []
    keys: set[str] = set()

    def push(nodes: Iterable[T]) -> None:
        for node in chosen(nodes):
            if key(node) not in keys:
                keys.add(key(node))
                heappush(heap, (0 if rank is None else rank(node), len(met)))
                met.append(node)

    push(targets)
    drawn: dict[str, T] = {}
    while heap and len(drawn) < most:
        node = met[heappop(heap)[1]]
        drawn[key(node)] = node
        push(inputs(node))

    boxes = []
    arrows = lost = 0
    budget = LOOKED_AT
    for node in drawn.values():
        given = inputs(node)
        looked_at = min(len(given), max(most, budget))
        budget -= looked_at
        near = dict.fromkeys(key(one) for one in islice(given, looked_at))
        shown = [one for one in near if one in drawn]
        kept = shown[: ARROWS - arrows]
        arrows += len(kept)
        lost += len(shown) - len(kept)
        hidden = len(near) - len(shown) + len(given) - looked_at
        boxes.append(replace(box(node), inputs=tuple(kept), hidden=hidden))
    return Graph(tuple(boxes), name, _note(boxes, totals, rest if heap else "", lost))


def _note(boxes: Sequence[Box], totals: Mapping[str, int], rest: str, arrows: int) -> str:
    """What is left out, in words; "" where nothing is."""
    here = Counter(box.group for box in boxes)
    missing = {group: total - here[group] for group, total in totals.items() if total > here[group]}
    parts = [f"{n:,} {group or ('node' if n == 1 else 'nodes')}" for group, n in missing.items()]
    parts += [rest] if rest and not missing else []
    parts += [f"{arrows:,} arrows"] if arrows else []
    return f"Left out: {', '.join(parts)}." if parts else ""
