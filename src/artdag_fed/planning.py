"""What a run would do: from the targets down, what is held, what is offered elsewhere, and what has to be computed.

Rules: a target that is held needs none of its inputs, so they are not asked about; a cache is asked about many cids at
a time; no result is read, nothing is written, nothing recurses.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import NamedTuple

from artdag_fed.cache import Held, Origin, OriginCache
from artdag_fed.callables import Trust, asked_once
from artdag_fed.dag import Node
from artdag_fed.names import Cid

__all__ = ["Plan", "Survey", "acceptance", "survey"]

LOOK_AHEAD = 1000  # cids in one question to the cache, at most; the first is about one, then about more and more


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run would do now: cids, each once, from the targets down.

    `reused`: held, and used as they are; `wanted`: missing here and offered elsewhere, the topmost of each path;
    `computed`: missing.
    """

    reused: tuple[Cid, ...] = ()
    wanted: tuple[Cid, ...] = ()
    computed: tuple[Cid, ...] = ()

    def __repr__(self) -> str:
        return f"<Plan: {len(self.reused)} reused, {len(self.wanted)} wanted, {len(self.computed)} computed>"


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
    """A plan, and the nodes to compute."""

    plan: Plan
    nodes: tuple[Node, ...]


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
    reused, wanted, nodes = [], [], []
    known = {} if known is None else known
    ahead = 1
    queue = deque(targets)
    seen: set[Cid] = set()
    while queue:
        node = queue.popleft()
        cid = node.cid
        if cid in seen:
            continue
        seen.add(cid)
        if not refresh:
            if cid not in known:
                asked = _unknown(node, queue, known, ahead)
                answer = cache.held(asked)
                known.update((other, answer.get(other)) for other in asked)
                ahead = min(4 * ahead, LOOK_AHEAD)
            found = known[cid]
            if found is not None and (accepts is None or accepts(found.origin)):
                reused.append(cid)
                continue
            if cid in offered:
                wanted.append(cid)
                continue
        nodes.append(node)
        queue.extend(node.inputs)
    return Survey(Plan(tuple(reused), tuple(wanted), tuple([n.cid for n in nodes])), tuple(nodes))


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
