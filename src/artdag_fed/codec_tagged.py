"""Values that JSON has no words for: a JSON text of tagged arrays, with the large buffers beside it.

Rules: each node of the text is a number, a text, null, true or false and means itself, or an array that begins with a
tag; the table stands in `artdag_fed.codec`. Buffers are joined once and cut once. The reader takes nothing on trust:
sizes are checked before they are used, and keys and set items that count twice are an error.

>>> Reader({}, memoryview(Writer({}).payload((1, b"raw")))).value()
(1, b'raw')
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from operator import is_
from types import MappingProxyType, NoneType
from typing import Any

from artdag_fed.codec_arrays import (
    is_array,
    is_numpy_scalar,
    read_array,
    read_numpy_scalar,
    write_array,
    write_numpy_scalar,
)
from artdag_fed.codec_plain import ATOMS, BOXES, DEPTH, fits, is_deeper, nests_over, plain_text, read_unique
from artdag_fed.codec_scalars import SCALAR_TAGS, SCALARS, read_scalar, write_scalar
from artdag_fed.errors import CodecError
from artdag_fed.names import shown

__all__ = ["Reader", "TypeRule", "Writer", "said"]

_LENGTH = 8  # bytes that hold the length of the text
_LEAF = 2  # levels of JSON in a node that is no container: an array has a list of sizes in it


@dataclass(frozen=True, slots=True)
class TypeRule:
    """How a type is carried: `encode(obj)` gives a value that the codec carries, `decode(value)` the object again.

    Raises `TypeError` for arguments of the wrong kinds, `ValueError` for an empty tag or a class that needs no rule.
    """

    tag: str
    cls: type
    encode: Callable[[Any], Any]
    decode: Callable[[Any], Any]

    def __post_init__(self) -> None:
        given: dict[str, tuple[object, bool]] = {
            "a text": (self.tag, isinstance(self.tag, str)),
            "a class": (self.cls, isinstance(self.cls, type)),
            "a callable that encodes": (self.encode, callable(self.encode)),
            "a callable that decodes": (self.decode, callable(self.decode)),
        }
        for expected, (value, fine) in given.items():
            if not fine:
                raise TypeError(f"a type is registered with {expected}, not with {type(value).__name__}")
        if not self.tag or any("\ud800" <= c <= "\udfff" for c in self.tag):
            raise ValueError(f"{shown(self.tag)} is no tag: expected text, not empty and without half surrogate pairs")
        if self.cls in ATOMS or self.cls in _CONTAINERS or self.cls in SCALARS or self.cls in (bytes, bytearray):
            raise ValueError(f"{self.cls.__name__} is carried as it is, and takes no rule {shown(self.tag)}")


_SEQUENCES: Mapping[str, Callable[[list[Any]], Any]] = MappingProxyType(
    {"list": list, "tuple": tuple, "set": set, "frozenset": frozenset}
)
_CONTAINERS = frozenset({list, tuple, set, frozenset, dict})

_Path = tuple[Any, str, object] | None
"""Where in a value: the path to what holds it, how the step from there is said, and the key in that. None: the top."""


class Writer:
    """One payload being written: its buffers so far, and the rules for registered types."""

    __slots__ = ("buffers", "rules")

    def __init__(self, rules: Mapping[type, TypeRule]) -> None:
        self.rules = rules
        self.buffers: list[bytes | bytearray | memoryview] = []

    def payload(self, value: object) -> bytes:
        [node] = _tagged([self.node(value, DEPTH, None)], [value])
        text = plain_text(node).encode()
        return b"".join((b"T", len(text).to_bytes(_LENGTH, "big"), text, *self.buffers))

    def node(self, value: Any, room: int, path: _Path) -> Any:
        """The JSON of `value`: the very same object where it is plain, else a new array with its tag."""
        kind = type(value)
        if kind in _CONTAINERS or kind in self.rules:
            if not room:
                raise CodecError(f"{_where(path)} is over {DEPTH} containers deep, or within itself")
            return self.container(value, room - 1, path)
        try:
            return self.leaf(value, kind)
        except UnicodeEncodeError as error:
            raise CodecError(f"{_where(path)} has half a surrogate pair in it, which UTF-8 cannot carry") from error
        except CodecError as error:
            raise CodecError(f"{_where(path)} {error}") from error

    def leaf(self, value: Any, kind: type) -> Any:
        if kind in SCALARS:
            return write_scalar(value)
        if kind is str:
            value.encode()
            return value
        if kind is NoneType or kind is bool:
            return value
        if kind is bytes or kind is bytearray:
            self.buffers.append(value)
            return [kind.__name__, len(value)]
        if is_array(value):
            dtype, shape, raw = write_array(value)
            self.buffers.append(raw)
            return ["ndarray", dtype, shape, len(raw)]
        if is_numpy_scalar(value):
            return ["numpy", *write_numpy_scalar(value)]
        raise CodecError(
            f"is of type {kind.__module__}.{kind.__qualname__}, which cannot be carried: expected exactly one of "
            "the types that artdag_fed.codec lists, no subclass of one, or a type registered by Codec.with_type"
        )

    def container(self, value: Any, room: int, path: _Path) -> Any:
        """The JSON of a container, where `room` is for the containers in it."""
        kind = type(value)
        if kind in self.rules:
            return self.registered(self.rules[kind], value, room, path)
        if kind is set or kind is frozenset:
            return [kind.__name__, *self.in_order(value, room, path)]
        if kind is dict:
            items = [item for pair in value.items() for item in pair]
            steps = (step for key in value for step in ((path, "the key {1} of {0}", key), (path, "{0}[{1}]", key)))
        else:
            items = value
            steps = ((path, "{0}[{1}]", index) for index in range(len(value)))
        nodes = (
            items
            if _one_atom(items)
            else [self.node(item, room, step) for item, step in zip(items, steps, strict=True)]
        )
        as_json = kind is list or (kind is dict and set(map(type, value)) <= {str})
        if as_json and all(map(is_, nodes, items)):
            return value
        return [kind.__name__, *_tagged(nodes, items)]

    def in_order(self, items: Iterable[Any], room: int, path: _Path) -> list[Any]:
        """The JSON of the items of a set, sorted by their text and then their buffers: no hash seed shows in it."""
        before, written = self.buffers, []
        for item in items:
            self.buffers = []
            node = self.node(item, room, (path, "an item of {0}", None))
            written.append((plain_text(node), b"".join(self.buffers), node))
        written.sort(key=lambda one: one[:2])
        self.buffers = [*before, *(buffer for _, buffer, _ in written)]
        return [node for _, _, node in written]

    def registered(self, rule: TypeRule, value: Any, room: int, path: _Path) -> list[Any]:
        try:
            inner = rule.encode(value)
        except Exception as error:
            raise CodecError(f"{_where(path)} was not encoded by the rule {shown(rule.tag)}: {said(error)}") from error
        node = self.node(inner, room, (path, "what the rule {1} made of {0}", rule.tag))
        return ["type", rule.tag, *_tagged([node], [inner])]


class Reader:
    """One tagged payload being read: how far its buffers are used, and the rules for registered types."""

    __slots__ = ("at", "is_deep", "rules", "view")

    def __init__(self, rules: Mapping[str, TypeRule], view: memoryview) -> None:
        self.rules = rules
        self.view = view

    def value(self) -> Any:
        self.at = 1
        text = bytes(self.take(int.from_bytes(self.take(_LENGTH), "big")))
        if nests_over(DEPTH + _LEAF, text):
            raise CodecError(f"a payload with more than {DEPTH} containers within each other")
        self.is_deep = nests_over(DEPTH, text)  # else no part of it needs a look of its own
        value = self.read(read_unique(text), DEPTH)
        if self.at != len(self.view):
            raise CodecError(f"a payload with {len(self.view) - self.at} bytes behind its last buffer")
        return value

    def take(self, size: object) -> memoryview:
        """The next `size` bytes."""
        if type(size) is not int or not 0 <= size <= len(self.view) - self.at:
            raise CodecError(f"a payload of {len(self.view)} bytes that names bytes behind its end, or none")
        self.at += size
        return self.view[self.at - size : self.at]

    def read(self, node: Any, room: int) -> Any:
        """The value of a node, where `room` is for it and the containers in it."""
        if type(node) is not list:
            if type(node) is dict or (type(node) is int and not fits(node)):
                raise CodecError(f"a payload with a bare {type(node).__name__} where a tag was expected")
            return node
        tag = node[0] if node else None
        if type(tag) is not str:
            raise CodecError("a payload with an array that begins with no tag")
        if tag in SCALAR_TAGS:
            return read_scalar(node)
        if tag in ("bytes", "bytearray"):
            [_, size] = node
            return bytes(self.take(size)) if tag == "bytes" else bytearray(self.take(size))
        if tag == "ndarray":
            [_, dtype, shape, size] = node
            return read_array(dtype, shape, self.take(size))
        if tag == "numpy":
            [_, dtype, text] = node
            return read_numpy_scalar(dtype, text)
        if not room:
            raise CodecError(f"a payload with more than {DEPTH} containers within each other")
        return self.container(tag, node, room - 1)

    def container(self, tag: str, node: list[Any], room: int) -> Any:
        """The value of a container's node, where `room` is for the containers in it."""
        if tag == "json":
            [_, plain] = node
            if type(plain) not in BOXES or (self.is_deep and is_deeper(room + 1, plain)):
                raise CodecError(f'a payload whose "json" holds no list or dict, or over {DEPTH} within each other')
            return plain
        if tag == "type":
            [_, name, inner] = node
            return self.registered(name, self.read(inner, room))
        items = node[1:]
        if not _one_atom(items):
            items = [self.read(item, room) for item in items]
        if tag == "dict" and len(items) % 2 == 0:
            made, size = dict(zip(items[::2], items[1::2], strict=True)), len(items) // 2
        elif tag in _SEQUENCES:
            made, size = _SEQUENCES[tag](items), len(items)
        else:
            raise CodecError(f"a payload with the tag {shown(tag)}, which is unknown or has the wrong number of items")
        if len(made) != size:
            raise CodecError(f"a payload with a {tag} that holds the same thing twice")
        return made

    def registered(self, name: object, value: Any) -> Any:
        rule = self.rules.get(name) if type(name) is str else None
        if rule is None:
            raise CodecError(f"a payload with a value of the type {shown(name)}: register it by Codec.with_type")
        try:
            made = rule.decode(value)
        except Exception as error:
            raise CodecError(
                f"a value of the type {shown(name)} that its rule did not decode: {said(error)}"
            ) from error
        if type(made) is not rule.cls:
            raise CodecError(f"the rule {shown(name)} decoded to {type(made).__name__}, not to {rule.cls.__name__}")
        return made


def _one_atom(items: Sequence[Any]) -> bool:
    """Whether all `items` are surely plain since they are of one plain type; told without a step in Python for each."""
    kinds = set(map(type, items))
    if kinds == {float}:
        return all(map(isfinite, items))
    if kinds == {int}:
        return fits(min(items)) and fits(max(items))
    return not kinds or (kinds == {str} and all(map(str.isascii, items)))


def _tagged(nodes: Iterable[Any], items: Iterable[Any]) -> list[Any]:
    """`nodes` with a tag put on those that are plain containers, which are the very same objects as their items."""
    return [["json", n] if n is i and type(n) in BOXES else n for n, i in zip(nodes, items, strict=True)]


def _where(path: _Path) -> str:
    """Words for a path, such as `result['a'][3]`."""
    if path is None:
        return "result"
    holder, step, key = path
    plain = type(key) in ATOMS or (type(key) is int and fits(key))
    return step.format(_where(holder), shown(key) if plain else type(key).__name__)


def said(error: Exception) -> str:
    return f"{type(error).__name__}: {shown(str(error))}"
