"""What a run would do: from the targets down, what is held, what is offered elsewhere, and what has to be computed.

Rules: a target that is held needs none of its inputs, so they are not asked about; a cache is asked about many cids at
a time; no result is read, nothing is written, nothing recurses.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice
from operator import attrgetter
from typing import NamedTuple

from artdag_fed import drawing
from artdag_fed.cache import Held, Origin, OriginCache
from artdag_fed.callables import Trust, asked_once
from artdag_fed.dag import Node, box_of
from artdag_fed.names import Cid

__all__ = ["Plan", "Survey", "acceptance", "survey"]

LOOK_AHEAD = 1000  # cids in one question to the cache, at most; the first is about one, then about more and more


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run would do now: cids, each once, from the targets down.

    `reused`: held, and used as they are; `wanted`: missing here and offered elsewhere, the topmost of each path;
    `computed`: missing, or from (or resting on) somebody who is not trusted now.

    What it was made for (`targets`) and what was held then (`known`) are there to be shown, and no part of equality.
    """

    reused: tuple[Cid, ...] = ()
    wanted: tuple[Cid, ...] = ()
    computed: tuple[Cid, ...] = ()
    targets: tuple[Node, ...] = field(default=(), compare=False, repr=False)
    known: Mapping[Cid, Held | None] = field(default_factory=dict, compare=False, repr=False)

    def __repr__(self) -> str:
        return f"<Plan: {len(self.reused)} reused, {len(self.wanted)} wanted, {len(self.computed)} computed>"

    def _repr_html_(self) -> str:
        rows = [
            (drawing.Mark("here", "held: to be reused"), len(self.reused)),
            (drawing.Mark("wanted", "offered: to be fetched"), len(self.wanted)),
            (drawing.Mark("missing", "to be computed"), len(self.computed)),
        ]
        return drawing.html(drawing.Table(("Plan", "nodes"), rows), self._drawn())

    def _drawn(self) -> drawing.Graph:
        groups = {"reused": self.reused, "wanted": self.wanted, "computed": self.computed}
        group_of = {cid: group for group, cids in groups.items() for cid in cids}

        def box(node: Node) -> drawing.Box:
            group = group_of.get(node.cid, "")
            held = self.known.get(node.cid)
            return box_of(node, *_planned(group, None if held is None else held.origin), group)

        return drawing.nearest(
            self.targets,
            key=attrgetter("cid"),
            inputs=attrgetter("inputs"),
            box=box,
            rank=lambda node: 0 if node.cid in group_of else 1,
            totals={group: len(cids) for group, cids in groups.items()},
            rest="nodes that are not needed",
            name=repr(self)[1:-1],
        )


def _planned(group: str, origin: Origin | None) -> tuple[drawing.Kind, str]:
    """How a node looks in a plan, and its state in words."""
    if group == "wanted":
        return "wanted", "offered: to be fetched"
    if group == "reused":
        if origin is None or origin.peer is None:
            return "here", "held: computed here"
        return "peer", f"held: from {drawing.quoted(origin.peer, 18)}"
    if group == "computed":
        if origin is None:
            return "missing", "missing: to be computed"
        if origin.peer is not None:
            whence = f"from {drawing.quoted(origin.peer, 14)}"
        elif len(origin.lineage) == 1:
            whence = f"rests on {drawing.quoted(min(origin.lineage), 14)}"
        else:
            whence = f"rests on {len(origin.lineage):,} peers"
        return "refused", f"refused, {whence}: to be computed"
    return "unneeded", "not needed"


def acceptance(trusted: Trust | None) -> Callable[[Origin], bool] | None:
    """Whether an origin is acceptable: all of its peers are trusted. None where everything is."""
    if trusted is None:
        return None
    ask = asked_once("trusted", trusted)
    answers: dict[Origin, bool] = {}

    def accepts(origin: Origin) -> bool:
        if origin not in answers:
            answers[origin] = all(map(ask, sorted(origin.peers)))
        return answers[origin]

    return accepts


class Survey(NamedTuple):
    """A plan, and the nodes to compute, by cid."""

    plan: Plan
    nodes: dict[Cid, Node]


def survey(
    cache: OriginCache,
    targets: Sequence[Node],
    *,
    accepts: Callable[[Origin], bool] | None = None,
    refresh: bool = False,
    offered: Collection[Cid] = (),
    known: dict[Cid, Held | None] | None = None,
) -> Survey:
    """Find out, from the targets down, what is held and accepted, what is offered, and what has to be computed.

    known: what need not be asked for, since it was just now; what is learnt is added.
    """
    reused, wanted, nodes = list[Cid](), list[Cid](), dict[Cid, Node]()
    known = {} if known is None else known
    ahead = 1
    queue = deque(targets)
    seen: set[Cid] = set()  # beside the nodes to compute
    while queue:
        node = queue.popleft()
        cid = node.cid
        if cid in nodes or cid in seen:
            continue
        if not refresh:
            if cid not in known:
                asked = _unknown(node, queue, known, ahead)
                answer = cache.held(asked)
                known.update((other, answer.get(other)) for other in asked)
                ahead = min(4 * ahead, LOOK_AHEAD)
            found = known[cid]
            if found is not None and (accepts is None or accepts(found.origin)):
                reused.append(cid)
                seen.add(cid)
                continue
            if cid in offered:
                wanted.append(cid)
                seen.add(cid)
                continue
        nodes[cid] = node
        queue.extend(node.inputs)
    return Survey(Plan(tuple(reused), tuple(wanted), tuple(nodes)), nodes)


def _unknown(node: Node, queue: Iterable[Node], known: Mapping[Cid, object], most: int) -> list[Cid]:
    """The cids of `node` and of those asked for soon if it is missing: a question costs more than a cid in it."""
    found = {node.cid: None}
    coming = deque(chain([node], islice(queue, most)))
    walked = 0
    while coming and len(found) < most and walked < 4 * most:
        next_node = coming.popleft()
        walked += 1
        if next_node.cid not in known:
            found[next_node.cid] = None
        coming.extend(next_node.inputs)
    return list(found)
