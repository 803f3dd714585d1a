"""A computation as immutable nodes, each named by the hash of what it is.

Rules: a node's `recipe` is the bytes that are hashed, its `cid` their SHA-256; both are fixed when it is made, and
`params` is read back from the recipe, so none of the three can differ from the others. Nothing here recurses: a chain
of a hundred thousand nodes is built, walked, pickled and freed like a short one. Nothing here computes a result.

Refuses what cannot be hashed exactly (see `canonical`), and inputs that are no nodes.

>>> n = node("blur@1", node("load@1", path="a.png"), radius=3)
>>> n.op, len(n.inputs), dict(n.params), len(n.cid)
('blur@1', 1, {'radius': 3}, 64)
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from hashlib import sha256
from json.encoder import encode_basestring
from operator import attrgetter
from types import MappingProxyType
from typing import Any, NoReturn, final

from artdag_fed import drawing
from artdag_fed.canonical import canonical, from_canonical, from_canonical_unchecked
from artdag_fed.errors import CodecError, InvalidName
from artdag_fed.names import Cid, shown

__all__ = ["Dag", "Node", "box_of", "node", "parse_recipe", "recipe_inputs", "recipe_prefix"]

TYPE_TAG = "artdag-fed node v1"
"""The first line of every recipe: no other text that is hashed or signed here begins with it."""

_TAG_LINE = TYPE_TAG.encode()
_PARTS = 4  # type tag, op, inputs, params
_plain_op = re.compile(r"[A-Za-z0-9_.@:/+-]{1,40}").fullmatch
_plain_op_text = re.compile(r'"([A-Za-z0-9_.@:/+-]{1,40})"').fullmatch
_HEX = b"0123456789abcdef"
_cid_list = re.compile(r"[0-9a-f]{64}(?: [0-9a-f]{64})*").fullmatch

Row = tuple[str, tuple[int, ...], dict[str, Any]]
"""A node in a flat list: its op, where in the list its inputs stand, its params."""


@final
class Node:
    """One step: an op, its inputs, its params. Made by `node()`; equal where the cids are equal; never changes."""

    __slots__ = ("cid", "inputs", "op", "recipe")

    cid: Cid
    """SHA-256 of `recipe`, 64 lower-case hex digits."""
    op: str
    """What to do; by convention `name@version`."""
    inputs: tuple[Node, ...]
    """The nodes whose results the op is given, in order."""
    recipe: bytes
    """The bytes that are hashed: four lines, the last without an end: type tag, op, input cids, params."""

    def __new__(cls, *_: object, **__: object) -> Node:
        raise TypeError('a Node is made by node(op, *inputs, **params), such as node("blur@1", frame, radius=3)')

    def __init_subclass__(cls) -> None:
        raise TypeError("Node cannot be subclassed: its cid would not say so")

    @property
    def params(self) -> Mapping[str, Any]:
        """The params, sorted by name. Read-only, and read from the recipe anew each time: what is done to a list in it
        stays in that copy. `dict(node.params)` is a plain dict of your own, which can be pickled."""
        # The order given at the call is not kept: equal nodes must look the same to a runner. Not cached either: a node
        # is asked once or twice in its life, and a dict for each would double what a large DAG weighs.
        return MappingProxyType(from_canonical_unchecked(self.recipe.rpartition(b"\n")[2].decode()))

    def __eq__(self, other: object) -> bool:
        return self.cid == other.cid if type(other) is Node else NotImplemented

    def __hash__(self) -> int:
        return hash(self.cid)

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"a Node cannot be changed ({name}): make another with node()")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"a Node cannot be changed ({name}): make another with node()")

    def __copy__(self) -> Node:
        return self

    def __deepcopy__(self, memo: object) -> Node:
        return self

    def __reduce__(self) -> tuple[object, ...]:
        return _node_from_rows, (_rows(Dag(self)),)

    def __repr__(self) -> str:
        op = self.op if _plain_op(self.op) else shown(self.op, 40)
        sizes = f"{_counted(len(self.inputs), 'input')}, {_counted(len(self.params), 'param')}"
        return f"<Node {op} {self.cid[:8]}… {sizes}>"


# What `__setattr__` refuses has to be done once, by who makes a node: the slots themselves, taken before any is made.
_new = object.__new__
_set_cid, _set_op, _set_inputs, _set_recipe = (vars(Node)[name].__set__ for name in ("cid", "op", "inputs", "recipe"))


def node(op: str, /, *inputs: Node, **params: Any) -> Node:
    """The node that does `op` to the results of `inputs`, with `params`.

    `op` is any text that is not empty, by convention `name@version`: a new version is a new id. Params are None, bool,
    int, finite float, str, bytes, and tuples, lists and dicts of these; any name will do, `op` and `self` too.

    Raises `InvalidName` for an empty op or one with lone surrogates, `CodecError` for a param without a canonical form,
    `TypeError` for an op that is no str and an input that is no Node.

    >>> node("add@1", node("one@1"), node("one@1")) == node("add@1", node("one@1"), node("one@1"))
    True
    """
    if type(op) is not str or not op:
        _refuse_op(op)
    for source in inputs:
        if type(source) is not Node:
            _refuse_inputs(inputs)
    try:
        text = canonical(params, "params") if params else "{}"
        recipe = f"{TYPE_TAG}\n{encode_basestring(op)}\n{' '.join([i.cid for i in inputs])}\n{text}".encode()
    except UnicodeEncodeError:
        _refuse_op(op)
    except CodecError:
        _refuse_node_params(params)
        raise
    made = _new(Node)
    _set_cid(made, sha256(recipe).hexdigest())
    _set_op(made, op)
    _set_inputs(made, inputs)
    _set_recipe(made, recipe)
    return made


def _refuse_op(op: object) -> NoReturn:
    if type(op) is not str:
        raise TypeError(f"an op is named by exactly a str, such as 'blur@1', not {type(op).__name__}")
    what = "is empty" if not op else f"{shown(op)} holds a lone surrogate, which has no UTF-8"
    raise InvalidName(f"the op name {what}: expected any text of one character or more, such as 'blur@1'")


def _refuse_inputs(inputs: tuple[object, ...]) -> NoReturn:
    position, source = next((at, source) for at, source in enumerate(inputs) if type(source) is not Node)
    if isinstance(source, (list, tuple)) and source and all(type(item) is Node for item in source):
        raise TypeError(f"input {position} is a {type(source).__name__} of nodes: unpack it, node(op, *inputs)")
    raise TypeError(
        f"input {position} must be a Node, not {type(source).__name__}: pass plain values by keyword, as params, "
        "such as node(op, frame, radius=3)"
    )


def _refuse_node_params(params: dict[str, Any]) -> None:
    for name, value in params.items():
        if type(value) is Node:
            raise TypeError(f"params[{shown(name)}] is a Node: pass nodes by position, as inputs, node(op, that_node)")


def _counted(count: int, word: str) -> str:
    return f"{count} {word}" if count == 1 else f"{count} {word}s"


# --- recipes --------------------------------------------------------------------------------


def recipe_prefix(op: str) -> bytes:
    """What the recipes of `op`, and of no other op, begin with. Raises as `node` does for an op that cannot be one."""
    if type(op) is not str or not op:
        _refuse_op(op)
    try:
        return f"{TYPE_TAG}\n{encode_basestring(op)}\n".encode()
    except UnicodeEncodeError:
        _refuse_op(op)


def recipe_inputs(recipe: bytes) -> tuple[Cid, ...]:
    """The input cids in `recipe`, in order; () for bytes that are no recipe of ours. Looks at lines only, not at JSON.

    >>> a = node("a@1")
    >>> recipe_inputs(node("b@1", a).recipe) == (a.cid,)
    True
    """
    parts = recipe.split(b"\n", _PARTS)
    if len(parts) != _PARTS or parts[0] != _TAG_LINE or not parts[2]:
        return ()
    text = parts[2].decode("latin-1")  # which takes any bytes
    if len(text) == 64 and not parts[2].translate(None, _HEX):  # one, as most have: known in a third of the time
        return (text,)
    return tuple(text.split(" ")) if _cid_list(text) else ()


def parse_recipe(recipe: bytes, inputs: tuple[Cid, ...] | None = None) -> tuple[str, tuple[Cid, ...], dict[str, Any]]:
    """The op, the input cids and the params that `recipe` was written from. inputs: what they are, if that is known.

    Raises `CodecError` for every other bytes than `node()` writes: what is read is written again and compared.
    """
    try:
        tag, op_text, inputs_text, params_text = recipe.decode().split("\n", _PARTS)
    except ValueError:  # too few or too many lines; no UTF-8
        raise CodecError(f"no recipe: expected {_PARTS} lines of UTF-8 text, {shown(TYPE_TAG)} first") from None
    if tag != TYPE_TAG:
        raise CodecError(f"no recipe of this version: begins with {shown(tag)}, expected {shown(TYPE_TAG)}")
    if inputs is None:
        inputs = tuple(inputs_text.split(" ")) if inputs_text else ()
        right = not inputs_text or _cid_list(inputs_text) is not None
    else:
        right = inputs_text == " ".join(inputs)
    if not right:
        raise CodecError("no recipe: its third line must be input cids of 64 lower-case hex digits, one space between")
    plain = _plain_op_text(op_text)  # what needs no escapes is itself between the quotes: that is known sooner
    op = plain[1] if plain else from_canonical(op_text)
    if not plain and (type(op) is not str or not op or encode_basestring(op) != op_text):
        raise CodecError(f"no recipe: its op is {shown(op_text)}, expected JSON text that is not empty")
    params = from_canonical(params_text)
    if type(params) is not dict:
        raise CodecError("no recipe: its params are no JSON object")
    return op, inputs, params


# --- graphs ---------------------------------------------------------------------------------


@final
class Dag:
    """Nodes to be computed, with all they rest on. Frozen; equal where the targets are, in order.

    Iterates each node once, inputs before what uses them, always in the same order: depth first, from the targets and
    then the inputs in the order given. Without targets it is empty, as a list of targets may be. Raises `TypeError` for
    a target that is no Node.

    >>> a = node("a@1"); dag = Dag(node("b@1", a, a))
    >>> [n.op for n in dag], len(dag), a in dag, dag[a.cid] is a
    (['a@1', 'b@1'], 2, True, True)
    """

    __slots__ = ("_nodes", "targets")

    targets: tuple[Node, ...]
    """The targets as given, a repeated one repeated."""
    _nodes: dict[Cid, Node]

    def __new__(cls, *targets: Node) -> Dag:  # not __init__, which could be called again
        for position, target in enumerate(targets):
            if type(target) is not Node:
                raise TypeError(
                    f"target {position} must be a Node, not {type(target).__name__}; for a list: Dag(*nodes)"
                )
        self = _new(cls)
        object.__setattr__(self, "targets", targets)
        object.__setattr__(self, "_nodes", _inputs_first(targets))
        return self

    def __init_subclass__(cls) -> None:
        raise TypeError("Dag cannot be subclassed: write a function that takes one")

    def __iter__(self) -> Iterator[Node]:
        return iter(self._nodes.values())

    def __len__(self) -> int:
        return len(self._nodes)

    def __contains__(self, item: object) -> bool:
        """Whether a Node, or a cid, is one of the nodes."""
        cid = item.cid if type(item) is Node else item
        return type(cid) is str and cid in self._nodes

    def __getitem__(self, cid: Cid) -> Node:
        try:
            return self._nodes[cid]
        except (KeyError, TypeError):
            what = shown(cid) if type(cid) is str else f"a {type(cid).__name__}"
            raise KeyError(f"{what} is no cid of a node in this Dag ({_counted(len(self), 'node')})") from None

    def __eq__(self, other: object) -> bool:
        return self.targets == other.targets if type(other) is Dag else NotImplemented

    def __hash__(self) -> int:
        return hash(self.targets)

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"a Dag cannot be changed ({name}): make another with Dag(*targets)")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"a Dag cannot be changed ({name}): make another with Dag(*targets)")

    def __copy__(self) -> Dag:
        return self

    def __deepcopy__(self, memo: object) -> Dag:
        return self

    def __reduce__(self) -> tuple[object, ...]:
        index = {cid: at for at, cid in enumerate(self._nodes)}
        return _dag_from_rows, (_rows(self), [index[target.cid] for target in self.targets])

    def __repr__(self) -> str:
        return f"<Dag {_counted(len(self), 'node')}, {_counted(len(self.targets), 'target')}>"

    def _repr_html_(self) -> str:
        name = f"{_counted(len(self), 'node')}, {_counted(len(self.targets), 'target')}"
        return drawing.html(drawing.Table(("",), [(f"Dag: {name}",)]), self._drawn(drawing.BOXES))

    def to_mermaid(self, *, most: int = drawing.BOXES) -> str:
        """The nodes as a flowchart in Mermaid's language. Of more than `most` nodes, those nearest to the targets."""
        return drawing.mermaid(self._drawn(most))

    def to_dot(self, *, most: int = drawing.BOXES) -> str:
        """The nodes as a digraph in Graphviz's language. Of more than `most` nodes, those nearest to the targets."""
        return drawing.dot(self._drawn(most))

    def _drawn(self, most: int) -> drawing.Graph:
        name = f"Dag of {_counted(len(self), 'node')}"
        return drawing.nearest(
            self.targets, key=_cid, inputs=_inputs, box=box_of, totals={"": len(self)}, name=name, most=most
        )


def _inputs_first(targets: Sequence[Node]) -> dict[Cid, Node]:
    """Post-order by an explicit stack: a node stays on it until its inputs are done; seen again, it is dropped."""
    done: dict[Cid, Node] = {}
    stack = list(reversed(targets))
    while stack:
        top = stack[-1]
        pending = () if top.cid in done else [source for source in reversed(top.inputs) if source.cid not in done]
        if pending:
            stack += pending
        else:
            done.setdefault(top.cid, top)
            stack.pop()
    return done


# --- pictures -------------------------------------------------------------------------------


_cid, _inputs = attrgetter("cid"), attrgetter("inputs")
DRAWN_PARAMS = 2000  # bytes of canonical text: longer ones are not decoded to be cut down to a line


def box_of(node: Node, kind: drawing.Kind = "plain", words: str = "", group: str = "") -> drawing.Box:
    """How a node is drawn: its op, the beginning of its params, and a state."""
    size = len(node.recipe) - node.recipe.rfind(b"\n") - 1
    params = node.params if size <= DRAWN_PARAMS else {}
    detail = ", ".join(f"{name}={value!r}" for name, value in params.items())
    if size > DRAWN_PARAMS:
        detail = f"params of {drawing.size(size)}"
    return drawing.Box(node.cid, node.op, detail, words, kind, group=group)


# --- pickling: a flat list, since the default would recurse down a chain ----------------------


def _rows(dag: Dag) -> list[Row]:
    index = {cid: at for at, cid in enumerate(n.cid for n in dag)}
    return [(n.op, tuple([index[source.cid] for source in n.inputs]), dict(n.params)) for n in dag]


def _nodes_from_rows(rows: list[Row]) -> list[Node]:
    """The nodes, made again by `node()`: a pickle that was tampered with gives other nodes, never a false cid."""
    nodes: list[Node] = []
    for op, inputs, params in rows:
        nodes.append(node(op, *[nodes[at] for at in inputs], **params))
    return nodes


def _node_from_rows(rows: list[Row]) -> Node:
    return _nodes_from_rows(rows)[-1]


def _dag_from_rows(rows: list[Row], targets: list[int]) -> Dag:
    nodes = _nodes_from_rows(rows)
    return Dag(*[nodes[at] for at in targets])
