"""How one recipe differs from another, down to the param and the input, at whatever depth.

Rules: a wanted node is compared with a held recipe and, where an input differs, that input with the one that stands in
its place; each pair is looked at once, breadth first, in bounded number. What differs is named where it is, not at
what was built on it. Values are told apart as cids tell them apart: `1`, `1.0` and `True` are three. Nothing is read
here but recipes, which the caller has or is asked for.

>>> from artdag_fed.dag import node
>>> was = node("blur@1", node("load@1", path="a"), radius=3)
>>> wanted = node("blur@1", node("load@1", path="a"), radius=4)
>>> print(*differences(wanted, was.cid, {was.cid: was.recipe}.get))
radius 3 -> 4
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from artdag_fed.dag import Node, parse_recipe
from artdag_fed.errors import CodecError
from artdag_fed.names import Cid, shown

__all__ = ["Difference", "differences", "parsed"]

PAIRS = 10_000  # compared in one question: what differs in so many places is another computation
SHOWN = 60  # characters of a value in a message

Recipe = tuple[str, tuple[Cid, ...], Mapping[str, Any]]

Which = Literal["param", "version", "op", "input", "order", "inserted", "removed", "unknown"]


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing in which what is wanted differs from what is held.

    kind: "param", "version" (of the same op), "op" (another one), "input" (one more, one less, or another one), "order"
    (the same inputs, otherwise arranged), "inserted" and "removed" (a step between two others), "unknown" (an input
    whose recipe is not held). path: positions of inputs, from the node asked about down to where it is. what: a few
    words, what is held first for a param. held, wanted: the cids of the two that differ.
    """

    kind: Which
    path: tuple[int, ...]
    what: str
    held: Cid
    wanted: Cid

    def __str__(self) -> str:
        if not self.path:
            return self.what
        if len(self.path) == 1:
            return f"input {self.path[0]} differs: {self.what}"
        way = " of ".join(f"input {at}" for at in reversed(self.path[-3:])) + (" of ..." if len(self.path) > 3 else "")
        return f"{way} differs: {self.what} ({len(self.path)} steps down)"


def parsed(recipe: bytes | None) -> Recipe | None:
    """Op, inputs and params of a recipe; None for none, or bytes that are none of ours (peers send such)."""
    try:
        return None if recipe is None else parse_recipe(recipe)
    except CodecError:
        return None


def differences(
    wanted: Node,
    held: Cid,
    recipe_of: Callable[[Cid], bytes | None],
    *,
    is_held: Callable[[Cid], bool] = lambda cid: False,
    most: int = PAIRS,
) -> tuple[Difference, ...]:
    """In what `wanted` differs from the recipe of `held`: at most `most`, those nearest to it first.

    recipe_of: the recipe of a held cid, or None. is_held: for an input that is held, and differs in more than one thing
    from what stands in its place, that is one difference: another input was given.
    """
    found: list[Difference] = []
    queue: deque[tuple[Node, Cid, tuple[int, ...]]] = deque([(wanted, held, ())])
    seen = {(wanted.cid, held)}
    while queue and len(found) < most:
        new, old, path = queue.popleft()
        was = parsed(recipe_of(old))
        if was is None:
            what = f"it is {_brief(new.op, new.params)}, held is one made from {old[:12]}, whose recipe is not held"
            found.append(Difference("unknown", path, what, old, new.cid))
            continue
        own, pairs = _compare(new, old, was, path)
        given = bool(path) and is_held(new.cid) and is_held(old)
        if given and len(differences(new, old, recipe_of, most=2)) > 1:  # no edit of it, but another one in its place
            found.append(_another(new, old, was, path))
            continue
        found += own
        for at, one, other in pairs:
            if (one.cid, other) not in seen and len(seen) < PAIRS:
                seen.add((one.cid, other))
                queue.append((one, other, (*path, at)))
    return tuple(found[:most])


def _compare(
    new: Node, old: Cid, was: Recipe, path: tuple[int, ...]
) -> tuple[list[Difference], list[tuple[int, Node, Cid]]]:
    """What differs in the node itself, and the pairs of inputs to be compared."""
    op, inputs, params = was
    now = [i.cid for i in new.inputs]

    def differs(kind: Which, what: str) -> Difference:
        return Difference(kind, path, what, old, new.cid)

    if old in now:
        return [differs("inserted", f"{_op(new.op)} is a new step on top of {_op(op)}")], []
    if new.cid in inputs:
        return [differs("removed", f"the step {_op(op)} on top of {_op(new.op)} is gone")], []
    found: list[Difference] = []
    if op != new.op:
        same = _name(op) == _name(new.op)
        if not same and path and (now != list(inputs) or repr(dict(new.params)) != repr(params)):
            return [_another(new, old, was, path)], []
        found.append(differs("version" if same else "op", f"its op is {_op(new.op)}, held is {_op(op)}"))
        if not same:  # params of another op are not comparable, and its inputs mean something else
            return found, []
    found += (differs("param", what) for what in _params(params, new.params))
    if Counter(now) == Counter(inputs):
        if now != list(inputs):
            order = ", ".join(str(list(inputs).index(cid)) for cid in now[:16])
            found.append(differs("order", f"the same inputs in another order: those held as {order}"))
        return found, []
    # Where one more or one less was given, what is equal at both ends stays where it is.
    few = min(len(now), len(inputs))
    head = next((at for at in range(few) if now[at] != inputs[at]), few)
    tail = 0
    while len(now) != len(inputs) and tail < few - head and now[-1 - tail] == inputs[-1 - tail]:
        tail += 1
    both = range(head, few - tail) if len(now) != len(inputs) else range(few)
    pairs = [(at, new.inputs[at], inputs[at]) for at in both if now[at] != inputs[at]]
    for at in range(few - tail, len(now) - tail):
        found.append(differs("input", f"input {at} is new: {_brief(new.inputs[at].op, new.inputs[at].params)}"))
    for at in range(few - tail, len(inputs) - tail):
        found.append(differs("input", f"input {at} is gone: it was {inputs[at][:12]}"))
    return found, pairs


def _another(new: Node, old: Cid, was: Recipe, path: tuple[int, ...]) -> Difference:
    what = f"it is {_brief(new.op, new.params)}, held is {_brief(was[0], was[2])}"
    return Difference("input", path, what, old, new.cid)


def _params(held: Mapping[str, Any], wanted: Mapping[str, Any]) -> Iterator[str]:
    for name in sorted(held.keys() | wanted.keys()):
        label = name if name.isidentifier() else shown(name)
        if name not in held:
            yield f"{label} is new: {_value(wanted[name])}"
        elif name not in wanted:
            yield f"{label} is gone: it was {_value(held[name])}"
        # By their text, not by ==, for which 1 is True. Both were read from recipes, so dicts are in one order.
        elif repr(held[name]) != repr(wanted[name]):
            where, was, now = _narrowed(label, held[name], wanted[name])
            yield f"{where} {_value(was)} -> {_value(now)}"


def _narrowed(label: str, was: Any, now: Any) -> tuple[str, Any, Any]:
    """The one place inside of a list or dict that differs, where it is one: a long list has its change at its end."""
    while type(was) is type(now) and isinstance(was, (list, tuple, dict)) and len(was) == len(now):
        if isinstance(was, dict) and was.keys() != now.keys():
            break
        keys = list(was) if isinstance(was, dict) else list(range(len(was)))
        other = [key for key in keys if repr(was[key]) != repr(now[key])]
        if len(other) != 1:
            break
        [key] = other
        label, was, now = f"{label}[{_value(key)}]", was[key], now[key]
    return label, was, now


def _value(value: object) -> str:
    text = ascii(value)
    return text if len(text) <= SHOWN else text[:SHOWN] + "..."


def _op(op: str) -> str:
    return op if op.isascii() and op.isprintable() and len(op) <= SHOWN else shown(op)


def _name(op: str) -> str:
    return op.rpartition("@")[0] or op


def _brief(op: str, params: Mapping[str, Any]) -> str:
    some = ", ".join(f"{name}={_value(value)}" for name, value in list(params.items())[:3])
    return f"{_op(op)}({some}{', ...' if len(params) > 3 else ''})"
