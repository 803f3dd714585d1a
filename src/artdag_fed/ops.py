"""Ops: plain functions that build nodes when they are called, and a runner that calls the functions.

Rules: an op is named by its name and version, `"studio.blur@2"`, and its code is not in that: who changes what it gives
changes the version. Called with nodes and plain values, it gives a node: in the order of the signature, every parameter
that got a node is an input, and every other is a param by its name, defaults included. Called through the `Ops`, with
the inputs' results and the params, the function computes. Defining an op again replaces it, as a notebook's cell does.
Nothing is global: an `Ops` knows what it was told.

Refuses, with the parameter's name, what could not be put back in its place: a node in `**more`, a node for a parameter
behind `*frames`, a plain value in `*frames`, and nodes inside of a list.

>>> ops = Ops()
>>> @ops.op
... def scale(frame, factor=2):
...     return [factor * pixel for pixel in frame]
>>> @ops.op(version=3)
... def load(path):
...     return [1, 2, 3]
>>> scaled = scale(load("a.png"))
>>> scaled.op, dict(scaled.params), scaled.inputs[0].op
('scale@1', {'factor': 2}, 'load@3')
>>> ops("scale@1", ([1, 2, 3],), {"factor": 5}), scale.fn([1], 1)
([5, 10, 15], [1])
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import wraps
from hashlib import sha256
from textwrap import dedent
from types import CodeType
from typing import Any, Protocol, cast, overload

from artdag_fed.dag import Node, node
from artdag_fed.errors import InvalidName
from artdag_fed.names import shown

__all__ = ["Op", "Ops"]

Function = Callable[..., Any]
_Kind = inspect.Parameter


class Op(Protocol):
    """What `@ops.op` makes of a function: it builds nodes. A function still, with two attributes, so that it pickles as
    functions do: by its name, or (cloudpickle, from a notebook) by its code."""

    fn: Function
    """The function as it was written."""
    op: str
    """`name@version`."""
    parameters: tuple[inspect.Parameter, ...]
    """Those of `fn`."""

    def __call__(self, *args: Any, **kwargs: Any) -> Node: ...


class Ops:
    """Ops by name, and the runner of them all: `ops(op, inputs, params)`.

    prefix: whose ops these are, for those who share results among several teams: `Ops("studio")` names `studio.blur@1`.
    """

    def __init__(self, prefix: str = "") -> None:
        _check_name("the prefix", prefix, empty=True)
        self.prefix = prefix
        self._ops: dict[str, Op] = {}
        self._sources: dict[str, str] = {}

    @overload
    def op(self, name: Function, /) -> Op: ...
    @overload
    def op(self, name: str | None = None, version: int = 1) -> Callable[[Function], Op]: ...
    def op(self, name: Function | str | None = None, version: int = 1) -> Op | Callable[[Function], Op]:
        """Make an op of a function: `@ops.op`, or `@ops.op(name=None, version=1)`.

        name: None is the function's own. version: from 1; a new one is a new id for whatever is computed with it.
        Raises `TypeError` for what is no plain function or no int, `ValueError` for a version below 1, `InvalidName`
        for a name that is empty or has an "@" in it.
        """
        if name is not None and not isinstance(name, str):
            return self._add(name, None, 1)
        if type(version) is not int:
            raise TypeError(f"version must be an int, not {type(version).__name__}")
        if version < 1:
            raise ValueError(f"version must be at least 1, not {version}")
        return lambda fn: self._add(fn, name, version)

    def _add(self, fn: Function, name: str | None, version: int) -> Op:
        if not inspect.isroutine(fn):
            raise TypeError(f"an op is made of a function, not of {_article(fn)}")
        fn = getattr(fn, "fn", fn)  # an op that is made one again, under another name
        if inspect.iscoroutinefunction(fn) or inspect.isgeneratorfunction(fn) or inspect.isasyncgenfunction(fn):
            raise TypeError(
                f"{_named(fn)} returns no result but something to be awaited or iterated: write a plain def"
            )
        name = fn.__name__ if name is None else name
        if name == "<lambda>":
            raise InvalidName("a lambda has no name: say one, ops.op(name=...)(lambda ...)")
        _check_name(f"the name of {_named(fn)}", name)
        full = f"{self.prefix}.{name}@{version}" if self.prefix else f"{name}@{version}"
        made = _building(full, fn)
        self._ops[full] = made
        # Now, not when it is asked for: a file may be edited while what was loaded from it still runs.
        self._sources[full] = source_of(fn)
        return made

    def __call__(self, op: str, inputs: tuple[Any, ...], params: Mapping[str, Any]) -> Any:
        """Compute: the function of `op` with input results and params in the places that its call had them.

        Raises `LookupError` for an op that is not here, `TypeError` where inputs or params do not fit the function, as
        for nodes of an older one with the same version; what the function raises.
        """
        found = self[op]
        args, kwargs = _arguments(found, inputs, dict(params))
        return found.fn(*args, **kwargs)

    def source(self, op: str) -> str:
        """SHA-256 (hex) of the function's text, "" for an op that is not here, or whose text and code are not known.

        The text from `def` on, and of that function alone: not of what it calls.
        """
        return self._sources.get(op, "")

    def __getitem__(self, op: str) -> Op:
        try:
            return self._ops[op]
        except KeyError:
            name = op.rpartition("@")[0]
            same = [known for known in self._ops if known.rpartition("@")[0] == name]
            others = ", ".join(map(shown, (same or sorted(self._ops))[:5])) or "none at all"
            raise LookupError(f"no op {shown(op)} in this Ops: it has {others}") from None

    def __contains__(self, op: object) -> bool:
        return op in self._ops

    def __iter__(self) -> Iterator[str]:
        return iter(self._ops)

    def __reduce__(self) -> tuple[object, ...]:
        # The ops go by name (module and attribute), so the process that reads this has to be able to import them.
        return _put_together, (self.prefix, dict(self._ops), dict(self._sources))

    def __repr__(self) -> str:
        names = ", ".join(list(self._ops)[:5]) + (", ..." if len(self._ops) > 5 else "")
        return f"<Ops of {len(self._ops)}{': ' if names else ''}{names}>"

    def unreachable(self) -> dict[str, str]:
        """The ops that another process may not find by name, each with the reason and what to do.

        Threads need no names, and loky and Dask send functions without one; `ProcessPoolExecutor` does need them, of
        all ops of the runner. A run that such a pool breaks under says what this says.
        """
        return {full: why for full, op in self._ops.items() if (why := _why_unreachable(op))}


def _put_together(prefix: str, ops: dict[str, Op], sources: dict[str, str]) -> Ops:
    """An `Ops` of what was pickled, in the process that reads it."""
    for full, op in ops.items():
        if getattr(op, "op", None) != full:
            raise InvalidName(
                f"{_named(op)} is {shown(getattr(op, 'op', 'no op'))} in this process, but {shown(full)} was sent: "
                "are both running the same code?"
            )
    made = Ops(prefix)
    made._ops.update(ops)
    made._sources.update(sources)
    return made


# --- from a call to a node --------------------------------------------------------------------


def _building(full: str, fn: Function) -> Op:
    """The function that gives a node for a call of `fn`; what it closes over can travel wherever `fn` can."""
    try:
        signature = inspect.signature(fn)
    except ValueError:  # of some that are written in C
        raise TypeError(
            f"{full}: {_named(fn)} has no signature that Python could tell: write a plain def that calls it"
        ) from None

    @wraps(fn)
    def build(*args: Any, **kwargs: Any) -> Node:
        try:
            bound = signature.bind(*args, **kwargs)
        except TypeError as error:
            raise TypeError(f"{full}: {error}") from None
        bound.apply_defaults()
        return _node_of_call(full, signature, bound.arguments)

    made = cast(Any, build)
    made.fn, made.op, made.parameters = fn, full, tuple(signature.parameters.values())
    return cast(Op, made)


def _node_of_call(full: str, signature: inspect.Signature, arguments: Mapping[str, Any]) -> Node:
    inputs: list[Node] = []
    params: dict[str, Any] = {}
    several = False  # whether *frames came before
    for name, parameter in signature.parameters.items():
        value = arguments[name]
        if parameter.kind is _Kind.VAR_POSITIONAL:
            several = True
            for at, one in enumerate(value):
                if type(one) is not Node:
                    raise TypeError(
                        f"{full}: *{name} takes nodes, and argument {at} of it is {_article(one)}: "
                        "give plain values a parameter of their own"
                    )
            inputs += value
        elif parameter.kind is _Kind.VAR_KEYWORD:
            for key, one in value.items():
                if type(one) is Node:
                    raise TypeError(f"{full}: {key} is a node, but **{name} takes plain values: give it a parameter")
                if key in signature.parameters:  # of a positional-only one, or of **more itself
                    raise TypeError(f"{full}: {key} in **{name} is the name of another parameter")
                _check_plain(full, key, one)
            params.update(value)
        elif type(value) is not Node:
            _check_plain(full, name, value)
            params[name] = value
        elif several:
            raise TypeError(f"{full}: {name} is a node, and would be lost behind *: put that parameter before it")
        else:
            inputs.append(value)
    return node(full, *inputs, **params)


def _check_plain(full: str, name: str, value: object) -> None:
    inside = value.values() if type(value) is dict else value if type(value) in (list, tuple) else ()
    if any(type(one) is Node for one in cast(Iterable[object], inside)):
        raise TypeError(
            f"{full}: {name} is a {type(value).__name__} with nodes inside: declare *{name} to take several"
        )


# --- from a node to a call --------------------------------------------------------------------


def _arguments(op: Op, inputs: tuple[Any, ...], params: dict[str, Any]) -> tuple[list[Any], dict[str, Any]]:
    """The arguments of the call that the node was built by: what is no param is an input, in order."""
    rest = list(reversed(inputs))
    args: list[Any] = []
    kwargs: dict[str, Any] = {}
    takes_more = False
    for parameter in op.parameters:
        name = parameter.name
        if parameter.kind is _Kind.VAR_POSITIONAL:
            args += reversed(rest)
            rest = []  # so that what comes behind has to be a param: which one would be an input, nobody could tell
        elif parameter.kind is _Kind.VAR_KEYWORD:
            takes_more = True
        else:
            if name in params:
                value = params.pop(name)
            elif rest:
                value = rest.pop()
            else:
                raise TypeError(
                    f"{op.op} has a parameter {name}, and the node neither a param nor an input for it: "
                    "was it made for another function? A function that changes wants another version"
                )
            if parameter.kind is _Kind.KEYWORD_ONLY:
                kwargs[name] = value
            else:
                args.append(value)
    if rest:
        raise TypeError(f"{op.op} takes {len(inputs) - len(rest)} inputs with these params, not {len(inputs)}")
    if params and not takes_more:
        raise TypeError(f"{op.op} has no parameter {', '.join(map(shown, params))}")
    return args, kwargs | params


# --- what code it is --------------------------------------------------------------------------


def source_of(fn: Function) -> str:
    """SHA-256 (hex) of a function's text without its decorators, of its code where there is no text, else ""."""
    code = getattr(fn, "__code__", None)
    try:
        # What `exec` or `python -c` made has no file; a text that Python 3.13 keeps under that name is another one's.
        if getattr(code, "co_filename", "") == "<string>":
            raise OSError
        lines = dedent(inspect.getsource(fn)).splitlines()
    except (OSError, TypeError):  # typed at a prompt, or no Python function
        return "" if code is None else sha256(repr(_plain_code(code)).encode()).hexdigest()
    start = next((at for at, line in enumerate(lines) if line.startswith(("def ", "async def "))), 0)
    return sha256("\n".join(line.rstrip() for line in lines[start:]).encode()).hexdigest()


def _plain_code(code: CodeType) -> tuple[object, ...]:
    """What a code object does, without where it stands: the same in every process of one Python version."""
    return code.co_code, code.co_names, code.co_varnames, [_plain_constant(one) for one in code.co_consts]


def _plain_constant(one: object) -> object:
    if isinstance(one, CodeType):
        return _plain_code(one)
    # The order of a frozenset of texts is another one in each process.
    return sorted(map(repr, one)) if isinstance(one, frozenset) else one


def _why_unreachable(op: Op) -> str:
    found: Any = sys.modules.get(op.fn.__module__)
    path = op.fn.__qualname__
    if "<locals>" in path:
        return f"{_named(op)} was defined inside of a function: move it to the top level of a module"
    if op.fn.__module__ == "__main__" and not hasattr(found, "__file__"):
        return f"{_named(op)} was defined in a notebook or at a prompt: import it from a module, or use threads"
    for name in path.split("."):
        found = getattr(found, name, None)
    if found is not op:
        return f"{_named(op)} is no longer what its module has under that name: give each op a name of its own"
    return ""


# --- names ------------------------------------------------------------------------------------


def _check_name(what: str, name: object, *, empty: bool = False) -> None:
    if type(name) is not str:
        raise TypeError(f"{what} must be a str, not {type(name).__name__}")
    if not (name or empty) or "@" in name:
        raise InvalidName(f"{what} is {shown(name)}: expected text without '@'; the version is an argument of its own")


def _named(fn: Any) -> str:
    return ".".join(filter(None, (fn.__module__, fn.__qualname__)))  # a method of a builtin object has no module


def _article(value: object) -> str:
    name = type(value).__name__
    return f"an {name}" if name[0] in "aeiouAEIOU" else f"a {name}"
