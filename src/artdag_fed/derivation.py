"""What is built on what, as the recipes beside the held results say.

Rules: all recipes are looked through once, when it is made, and only those asked for are kept; nothing recurses.
A recipe that a peer has sent is its claim about what its result was made from: here it is taken at its word.

>>> from artdag_fed import Federation, node, run
>>> a = node("a@1"); b = node("b@1", a)
>>> graph = Graph(run(Federation(), b, lambda op, inputs, params: op).federation.cache)
>>> graph.inputs == {b.cid: (a.cid,)}, list(graph.upwards([a.cid])) == graph.in_order({b.cid, a.cid}) == [a.cid, b.cid]
(True, True)
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from artdag_fed.cache import OriginCache
from artdag_fed.dag import recipe_inputs
from artdag_fed.names import Cid

__all__ = ["Graph"]


class Graph:
    """What is built on what in a cache, as of now. `inputs`: of every held result that has some, its inputs; `recipes`:
    those of `wanted` that have one."""

    def __init__(self, cache: OriginCache, wanted: Collection[Cid] = ()) -> None:
        self.inputs: dict[Cid, tuple[Cid, ...]] = {}
        self.recipes: dict[Cid, bytes] = {}
        self._above: dict[Cid, list[Cid]] = {}
        for cid, recipe in cache.recipes():
            if cid in wanted:
                self.recipes[cid] = recipe
            named = recipe_inputs(recipe)
            if named:
                self.inputs[cid] = named
                for i in named:
                    self._above.setdefault(i, []).append(cid)

    def upwards(self, cids: Iterable[Cid]) -> dict[Cid, None]:
        """These and everything that is built on them, however many steps up."""
        found = dict.fromkeys(cids)
        new = list(found)
        while new:
            for cid in self._above.get(new.pop(), ()):
                if cid not in found:
                    found[cid] = None
                    new.append(cid)
        return found

    def in_order(self, cids: Collection[Cid]) -> list[Cid]:
        """These, inputs first and depth first, so that whoever works through them has few values in hand at a time."""
        done, inputs = dict[Cid, None](), self.inputs
        begun: set[Cid] = set()  # a ring, which no honest recipes make, is entered once and left again
        for start in cids:
            if start not in inputs:  # as many are
                done[start] = None
                continue
            stack = [start]
            while stack:
                cid = stack[-1]
                if cid not in begun:
                    begun.add(cid)
                    pending = [i for i in inputs.get(cid, ()) if i in cids and i not in begun]
                    if pending:
                        stack += reversed(pending)
                        continue
                done[stack.pop()] = None  # again, where two wanted it: it keeps its place
        return list(done)
