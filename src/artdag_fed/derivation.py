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
    """What is built on what in a cache, as of now. `inputs`: of every held result that has some, its inputs."""

    def __init__(self, cache: OriginCache, recipes: Iterable[tuple[Cid, bytes]] | None = None) -> None:
        """recipes: those of `cache`, where somebody else looks through them as well."""
        self.inputs: dict[Cid, tuple[Cid, ...]] = {}
        for cid, recipe in cache.recipes() if recipes is None else recipes:
            named = recipe_inputs(recipe)
            if named:
                self.inputs[cid] = named

    def upwards(self, cids: Iterable[Cid]) -> dict[Cid, None]:
        """These and everything that is built on them, however many steps up."""
        found = dict.fromkeys(cids)
        if found.keys() >= self.inputs.keys():  # whatever is built on something is among them
            return found
        above: dict[Cid, list[Cid]] = {}
        for cid, inputs in self.inputs.items():
            for i in inputs:
                above.setdefault(i, []).append(cid)
        new = list(found)
        while new:
            for cid in above.get(new.pop(), ()):
                if cid not in found:
                    found[cid] = None
                    new.append(cid)
        return found

    def in_order(self, cids: Collection[Cid]) -> list[Cid]:
        """These, inputs first and depth first, so that whoever works through them has few values in hand at a time."""
        done, inputs = dict[Cid, None](), self.inputs
        begun: set[Cid] = set()  # a ring, which no honest recipes make, is entered once and left again
        for start in cids:
            for i in inputs.get(start, ()):
                if i not in done and i in cids:
                    break
            else:  # as most are, for what is built on others is mostly stored behind them
                done[start] = None
                continue
            stack = [start]
            while stack:
                cid = stack[-1]
                if cid not in begun:
                    begun.add(cid)
                    pending = [i for i in inputs.get(cid, ()) if not (i in begun or i in done) and i in cids]
                    if pending:
                        stack += reversed(pending)
                        continue
                done[stack.pop()] = None  # again, where two wanted it: it keeps its place
        return list(done)
