"""Why a result is here, or why it is a miss.

Rules: a held result is explained by where it came from, on whom it rests, and whether it was made from the inputs that
are held now. A missing one is explained by the nearest held relative: the held result whose recipe differs in the
fewest things, with what differs, named where it is and not at what was built on it. Reads recipes and digests, never a
result; writes nothing; does not need the DAG that the relative was made by; nothing recurses.

How a relative is found: one pass over the recipes that are held finds, for each missing node below the one asked about,
those that agree with it in two of the three: op, inputs, params. Upwards from there nothing is searched: a node's
relative is the same node on its input's relative, whose cid can be worked out.

>>> from artdag_fed import Federation, node, run
>>> load = node("load@1", path="a.png")
>>> fed = run(Federation(), node("blur@1", load, radius=3), lambda op, inputs, params: op).federation
>>> print(explain(fed, node("blur@1", load, radius=4)))
blur@1 3823ac8085d7 is missing; all of its inputs are held
  nearest held relative: 6c8479f05154
  radius 3 -> 4
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256

from artdag_fed import drawing
from artdag_fed.cache import Made, OriginCache, inputs_digest_of
from artdag_fed.dag import Dag, Node
from artdag_fed.difference import Difference, differences, parsed
from artdag_fed.instance import Federation, cache_of
from artdag_fed.names import Cid, PeerId, shown

__all__ = ["Explanation", "explain"]

NODES = 10_000  # of the DAG looked at, from the one asked about down
RELATIVES = 32  # looked at for each missing node, and as many carried up from below
TRIED = 64  # relatives of the node asked about that are compared in depth
MANY = 100  # differences, after which a relative is none


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a result is here, or why it is not. `str` of it is a few lines for people.

    held: whether it is. peer: who it came from, None for computed here. lineage: the other peers that it rests on.
    stale: cids of results, its own or below it, that were made from other inputs than are held now.

    Where it is missing, `missing` are the positions of its inputs that are missing too, `relative` is the nearest held
    relative (None where nothing held is like it), and `differences` is in what the wanted one differs from that.
    """

    cid: Cid
    op: str
    held: bool
    peer: PeerId | None = None
    lineage: frozenset[PeerId] = frozenset()
    stale: tuple[Cid, ...] = ()
    missing: tuple[int, ...] = ()
    relative: Cid | None = None
    differences: tuple[Difference, ...] = ()
    inputs: int = 0

    def __str__(self) -> str:
        name = f"{shown(self.op, 40)[1:-1]} {self.cid[:12]}"
        if self.held:
            whence = "was computed here" if self.peer is None else f"came from {shown(self.peer)}"
            lines = [f"{name} is held: it {whence}"]
            if self.lineage:
                lines.append(f"  it rests on {', '.join(map(shown, sorted(self.lineage)))}")
            if self.stale:
                own = "it" if self.stale[0] == self.cid else f"{self.stale[0][:12]}, which it rests on,"
                lines.append(f"  {own} was made from other inputs than are held now")
            return "\n".join(lines)
        state = "it has no inputs" if not self.inputs else "all of its inputs are held"
        if self.missing:
            state = f"so are its inputs {', '.join(map(str, self.missing))}"
            state = state.replace("are its inputs", "is its input") if len(self.missing) == 1 else state
        lines = [f"{name} is missing; {state}"]
        if self.relative is None:
            lines.append("  nothing that is held is like it")
        else:
            lines.append(f"  nearest held relative: {self.relative[:12]}")
            lines += [f"  {difference}" for difference in self.differences[:5]]
            if len(self.differences) > 5:
                lines.append(f"  and {len(self.differences) - 5} more differences")
        return "\n".join(lines)

    def __repr__(self) -> str:
        if self.held:
            state = "held"
        elif self.relative is None:
            state = "missing, nothing that is held is like it"
        else:
            n = len(self.differences)
            state = f"missing, {n} difference{'' if n == 1 else 's'} from its nearest held relative"
        return f"<Explanation of {shown(self.op, 40)} {self.cid[:12]}: {state}>"

    def _repr_html_(self) -> str:
        first, *rest = str(self).split("\n")
        kind: drawing.Kind = "missing"
        if self.held:
            kind = "here" if self.peer is None else "peer"
        return drawing.html(drawing.Table(("",), [(drawing.Mark(kind, first),), *((line.strip(),) for line in rest)]))


def explain(fed: Federation, node: Node) -> Explanation:
    """Say why the result of `node` is here, or why it is a miss, as it is now.

    For a miss the recipes of everything that is held are looked through once. Raises `TypeError` for what is no
    Federation or no Node, `StoreError`.
    """
    cache = cache_of(fed)
    if type(node) is not Node:
        raise TypeError(f"node must be a Node, not {type(node).__name__}: explain one target of a Dag at a time")
    made = cache.made([node.cid]).get(node.cid)
    if made is not None:
        origin = made.origin
        return Explanation(node.cid, node.op, True, origin.peer, origin.lineage, _stale(cache, node, made))
    search = _Search(cache, node)
    relative, found = search.nearest()
    missing = tuple(at for at, i in enumerate(node.inputs) if i.cid in search.missing)
    return Explanation(
        node.cid, node.op, False, missing=missing, relative=relative, differences=found, inputs=len(node.inputs)
    )


def _stale(cache: OriginCache, node: Node, made: Made) -> tuple[Cid, ...]:
    """The held results at and below `node` that were made from other inputs than are held now, nearest first."""
    known: dict[Cid, Made | None] = {node.cid: made}
    stale: list[Cid] = []
    queue = deque([node])
    seen = {node.cid}
    while queue:
        one = queue.popleft()
        here = known[one.cid]
        if here is None:
            continue
        new = [i for i in dict.fromkeys(one.inputs) if i.cid not in known and len(known) < NODES]
        answer = cache.made([i.cid for i in new])
        known.update((i.cid, answer.get(i.cid)) for i in new)
        inputs = [known.get(i.cid) for i in one.inputs]
        digest = inputs_digest_of(["" if i is None else i.digest for i in inputs])
        # What came from a peer does not say what it was made from; of an input that is gone nobody knows.
        if digest and here.inputs_digest and digest != here.inputs_digest:
            stale.append(one.cid)
        for i in one.inputs:
            if i.cid not in seen and i.cid in known:
                seen.add(i.cid)
                queue.append(i)
    return tuple(stale)


class _Search:
    """For a node that is missing: the missing nodes below it, and held results that are like them."""

    def __init__(self, cache: OriginCache, target: Node) -> None:
        self.cache = cache
        self.target = target
        self.recipes: dict[Cid, bytes | None] = {}  # of held results and of relatives that were worked out
        self.held: dict[Cid, bool] = {target.cid: False}
        self.missing: dict[Cid, Node] = {target.cid: target}
        queue = deque([target])
        while queue and len(self.held) < NODES:
            ask = {i.cid: i for one in (queue.popleft() for _ in range(len(queue))) for i in one.inputs}
            new = [i for cid, i in ask.items() if cid not in self.held]
            found = cache.held([i.cid for i in new])
            for i in new:
                self.held[i.cid] = i.cid in found
                if i.cid not in found:
                    self.missing[i.cid] = i
                    queue.append(i)

    # --- what is held, and how it was made ------------------------------------------------------

    def is_held(self, cid: Cid) -> bool:
        if cid not in self.held:
            self.held[cid] = bool(self.cache.held([cid]))
        return self.held[cid]

    def recipe_of(self, cid: Cid) -> bytes | None:
        if cid not in self.recipes:
            made = self.cache.made([cid]).get(cid)
            self.recipes[cid] = made.recipe if made is not None and made.recipe else None
        return self.recipes[cid]

    # --- the nearest ----------------------------------------------------------------------------

    def nearest(self) -> tuple[Cid | None, tuple[Difference, ...]]:
        """The held relative of the target that differs in the fewest things, and those."""
        best: Cid | None = None
        found: tuple[Difference, ...] = ()
        for cid in self.relatives()[:TRIED]:
            if parsed(self.recipe_of(cid)) is None:  # a peer may send as a recipe whatever hashes to the cid
                continue
            here = differences(self.target, cid, self.recipe_of, is_held=self.is_held, most=MANY)
            if best is None or len(here) < len(found):
                best, found = cid, here
        if best is None:  # a new step on top of what is there is like that
            best = next((i.cid for i in self.target.inputs if self.is_held(i.cid) and self.recipe_of(i.cid)), None)
            if best is not None:
                found = differences(self.target, best, self.recipe_of)
        return best, found

    def relatives(self) -> list[Cid]:
        """Held results that may be what the target was before something was changed, the likeliest first.

        Each is carried up from where it was found, under what it was found for; where several nodes lie between, all
        are replaced by what they were before the same change.
        """
        like = self.alike()
        before: dict[Cid, dict[object, Cid]] = {}
        for one in Dag(self.target):
            if one.cid not in self.missing:
                continue
            tag, op, _, params = one.recipe.split(b"\n")
            climbed: dict[object, Cid] = {}
            for cause in dict.fromkeys(cause for i in one.inputs for cause in before.get(i.cid, ())):
                inputs = []
                for i in one.inputs:
                    below = before.get(i.cid)
                    inputs.append(i.cid if not below else below.get(cause, next(iter(below.values()))))
                recipe = b"\n".join((tag, op, " ".join(inputs).encode(), params))
                cid = climbed[cause] = sha256(recipe).hexdigest()
                self.recipes.setdefault(cid, recipe)
            held = self.cache.held(climbed.values())
            self.held.update((cid, cid in held) for cid in climbed.values())
            # What was held and is gone may still be what a held one further up was made from; rather no other, though.
            mine = {cause: cid for cause, cid in climbed.items() if cid in held} or climbed
            for cid in like[one.cid]:
                mine.setdefault((one.cid, cid), cid)
            # A step that was put between: without it, there is its input.
            for i in one.inputs[:2]:
                if i.cid not in self.missing:
                    mine.setdefault((one.cid, i.cid), i.cid)
            before[one.cid] = dict(list(mine.items())[: 2 * RELATIVES])
        steps = {i.cid for i in self.target.inputs}
        mine = before[self.target.cid]
        return [cid for cid in dict.fromkeys(mine.values()) if cid not in steps and self.is_held(cid)]

    def alike(self) -> dict[Cid, list[Cid]]:
        """By missing node, the held results that agree with it in two of op, inputs and params, the nearest first.

        Of the target, also those that have its op alone.
        """
        wanted: dict[tuple[bytes, ...], list[Cid]] = {}
        parts = {cid: one.recipe.split(b"\n") for cid, one in self.missing.items()}
        for cid, (_, op, inputs, params) in parts.items():
            for key in ((b"p", op, inputs), (b"o", inputs, params), (b"i", op, params)):
                wanted.setdefault(key, []).append(cid)
        only_op = parts[self.target.cid][1]
        found: dict[Cid, list[tuple[float, int, Cid]]] = {cid: [] for cid in self.missing}
        for number, (held, recipe) in enumerate(self.cache.recipes()):
            lines = recipe.split(b"\n")
            if len(lines) != 4:
                continue
            _, op, inputs, params = lines
            cids = [
                cid
                for key in ((b"p", op, inputs), (b"o", inputs, params), (b"i", op, params))
                for cid in wanted.get(key, ())
            ]
            if op == only_op and self.target.cid not in cids:
                cids.append(self.target.cid)
            for cid in cids:
                several = found[cid]
                several.append((_distance(parts[cid][1:], (op, inputs, params)), -number, held))  # of equals the newest
                if len(several) >= 4 * RELATIVES:
                    several.sort()
                    del several[RELATIVES:]
        return {cid: [held for _, _, held in sorted(several)[:RELATIVES]] for cid, several in found.items()}


def _distance(wanted: Sequence[bytes], held: Sequence[bytes]) -> float:
    """How far two recipes are apart by their lines, roughly: it decides only what is looked at closely."""
    (op, inputs, params), (held_op, held_inputs, held_params) = wanted, held
    distance = 0.0
    if op != held_op:
        distance += 1 if op.rpartition(b"@")[0] == held_op.rpartition(b"@")[0] else 2
    if params != held_params:
        one, other = (set(line.strip(b"{}").split(b",")) for line in (params, held_params))
        distance += 1 + len(one ^ other) / (2 + len(one | other))
    if inputs != held_inputs:
        now, was = inputs.split(b" "), held_inputs.split(b" ")
        if sorted(now) != sorted(was):
            distance += max(len(now), len(was)) - sum(a == b for a, b in zip(now, was, strict=False))
        distance += 0.5
    return distance
