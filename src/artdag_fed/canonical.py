"""The one value -> text rule behind every content id.

Rules: equal text means equal value *and* equal types: `1`, `1.0`, `True`, `"1"` and `b"1"` have five texts, a tuple is
no list, `-0.0` is not `0.0`. The text is JSON; an object is always a dict, an array always begins with a tag, so that
nothing is ambiguous. Text is taken as given, never normalised. The specification is in `docs/wire-format.md`.

Refuses (`CodecError`, which names the place): NaN and infinities, keys that are no str, lone surrogates, nesting over
`DEPTH`, and every other type. Subclasses too: to flatten an IntEnum to its int would give two values one id.

>>> canonical({"radius": 3, "at": (0, 0.5)})
'{"at":["t",0,["f","3fe0000000000000"]],"radius":3}'
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from json import encoder as json_encoder
from json import scanner
from typing import Any

from artdag_fed.errors import CodecError
from artdag_fed.names import shown

__all__ = ["DEPTH", "canonical", "from_canonical", "from_canonical_unchecked"]

DEPTH = 64
"""Containers inside one another, the outermost counted: far more than settings need, far less than any JSON parser or
call stack minds. It is also what ends the walk through a list that holds itself."""

INT_LOW, INT_HIGH = -(2**63), 2**63 - 1
"""Ints in this range are JSON numbers; others are hex text, read in linear time and never mistaken for a float."""

PATH_SHOWN = 8  # a message is one line, however deep the place

_AS_IS = frozenset({str, bool, type(None)})

_double = struct.Struct(">d")


def _build_encoder() -> Callable[[Any], str]:
    """The JSON writer, built once: `json.dumps` with options builds one per call, which costs more than the writing."""
    make = getattr(json_encoder, "c_make_encoder", None)
    if make is not None:
        try:
            # (markers, default: no type gets there, string encoder, indent, separators, sort_keys, skipkeys, allow_nan)
            encode = make(None, None, json_encoder.encode_basestring, None, ":", ",", True, False, False)
            if "".join(encode({"b": 1, "a": None}, 0)) == '{"a":null,"b":1}':
                return lambda value: "".join(encode(value, 0))
        except TypeError:  # another Python's signature: it is no public name, so the public way below is the spare
            pass
    return json.JSONEncoder(
        ensure_ascii=False, check_circular=False, allow_nan=False, sort_keys=True, separators=(",", ":")
    ).encode


_encode = _build_encoder()


def canonical(value: object, name: str = "value") -> str:
    """The canonical JSON text of `value`; `name` is what messages call it.

    Carries None, bool, int, finite float, str, bytes, and tuple, list and dict (str keys) of these. Raises `CodecError`
    for everything else, with the place of it, such as `value["size"][0]`.
    """
    text = _encode(value if type(value) is dict and _is_plain(value) else _tagged(value, name))
    # `isascii` is O(1). A lone surrogate has no UTF-8; the second walk is only to say where it is.
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            _tagged(value, name)
            # Reached only where another thread changed the value between the two walks.
            raise CodecError(f"{name} holds a lone surrogate") from None  # pragma: no cover: see above
    return text


def _is_plain(value: dict[Any, Any]) -> bool:
    """Whether JSON spells `value` as the canonical form does, so that no conversion is needed."""
    for key, item in value.items():
        kind = type(item)
        if kind is int:
            if not INT_LOW <= item <= INT_HIGH:
                return False
        elif kind not in _AS_IS:
            return False
        if type(key) is not str:
            return False
    return True


class _Refused(Exception):
    """Why a value has no form, and where: the keys and indices on the way to it, innermost first."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.path: list[str | int] = []


def _tagged(value: object, name: str) -> object:
    """`value` as what JSON spells canonically, or `CodecError` that names the place."""
    try:
        return _tag(value, 0)
    except _Refused as refused:
        steps = [f"[{step}]" if type(step) is int else f"[{shown(step, 40)}]" for step in reversed(refused.path)]
        where = "".join(steps[:PATH_SHOWN]) + ("[...]" if len(steps) > PATH_SHOWN else "")
        raise CodecError(f"{name}{where} {refused}") from None


def _tag(value: Any, depth: int) -> Any:
    kind = type(value)
    if kind is str:
        if not value.isascii():
            try:
                value.encode()
            except UnicodeEncodeError:
                raise _Refused("holds a lone surrogate, which has no UTF-8") from None
        return value
    if kind is int:
        return value if INT_LOW <= value <= INT_HIGH else ["i", f"{value:x}"]
    if kind is bool or value is None:
        return value
    if kind is float:
        if value - value != 0.0:  # only NaN and the infinities
            raise _Refused(f"is {value}: only finite floats can be parameters")
        return ["f", _double.pack(value).hex()]
    if kind is bytes:
        return ["b", value.hex()]
    if kind is dict or kind is list or kind is tuple:
        if depth == DEPTH:
            raise _Refused(f"is nested more than {DEPTH} deep, or holds itself")
        return _tag_dict(value, depth + 1) if kind is dict else _tag_items(value, depth + 1)
    raise _Refused(_why_not(value))


def _tag_dict(value: dict[Any, Any], depth: int) -> dict[str, Any]:
    out = {}
    for key, item in value.items():
        if type(key) is not str:
            raise _Refused(f"has a key of type {type(key).__qualname__}: keys must be exactly str")
        try:
            out[_tag(key, depth)] = _tag(item, depth)
        except _Refused as refused:
            refused.path.append(key)
            raise
    return out


def _tag_items(value: list[Any] | tuple[Any, ...], depth: int) -> list[Any]:
    out: list[Any] = ["l" if type(value) is list else "t"]
    try:
        for item in value:
            out.append(_tag(item, depth))
    except _Refused as refused:
        refused.path.append(len(out) - 1)
        raise
    return out


def _why_not(value: object) -> str:
    kind = type(value)
    named = f"is of type {kind.__module__}.{kind.__qualname__}".replace(" builtins.", " ")
    for base in (bool, int, float, str, bytes, tuple, list, dict):
        if isinstance(value, base):
            return f"{named}, a subclass of {base.__name__}: pass {base.__name__}(it), so that its id says what it is"
    if isinstance(value, (set, frozenset)):
        return f"{named}, which has no order: pass sorted(it)"
    if isinstance(value, (bytearray, memoryview)):
        return f"{named}: pass bytes(it)"
    if kind.__module__ == "numpy":
        return f"{named}: pass it.item() or it.tolist(), or make it the result of a node"
    return f"{named}: expected None, bool, int, float, str, bytes, or a tuple, list or dict of these"


# --- the way back ---------------------------------------------------------------------------


# What else JSON can say, floats and NaN too, comes out as another text again.
_decoder: Any = json.JSONDecoder()  # typeshed does not know that it has all the settings that a scanner asks for
_scan: Callable[[str, int], tuple[Any, int]] = scanner.make_scanner(_decoder)


def from_canonical(text: str) -> Any:
    """The value whose canonical text is exactly `text`; `CodecError` where there is none.

    Strict by construction: what is read is written again and compared, so two texts never give one value.

    >>> from_canonical('["t",1,["b","00ff"]]')
    (1, b'\\x00\\xff')
    """
    value = _scanned(text)
    if type(value) is dict and _is_plain(value) and text.isascii():  # as most are: there is nothing to convert
        again = _encode(value)
    else:
        value = _untag(value, 0)
        again = canonical(value)
    if again != text:
        raise CodecError(f"{shown(text)} is JSON, but not spelt as the canonical form spells it")
    return value


def from_canonical_unchecked(text: str) -> Any:
    """As `from_canonical`, for text that `canonical` wrote: its spelling is not checked."""
    try:
        value, _ = _scan(text, 0)
    except (StopIteration, RecursionError, ValueError):
        value = _scanned(text)  # which says what is wrong
    flat = "[" not in text and text.find("{", 1) < 0  # no tag, and no container in another
    return value if flat else _untag(value, 0)


def _scanned(text: str) -> Any:
    """What JSON reads in the whole of `text`."""
    try:
        value, end = _scan(text, 0)
    except StopIteration:
        raise CodecError(f"{shown(text)} is no canonical form") from None
    except RecursionError:
        raise CodecError(f"{shown(text)} is nested more than {DEPTH} deep") from None
    except ValueError as error:
        raise CodecError(f"{shown(text)} is no canonical form: {error}") from None
    if end != len(text):
        raise CodecError(f"{shown(text)} is no canonical form: something follows it")
    return value


def _untag(value: Any, depth: int) -> Any:
    kind = type(value)
    if kind is not dict and kind is not list:
        return value
    if kind is dict:
        if depth == DEPTH:
            raise CodecError(f"the canonical form is nested at most {DEPTH} deep")
        for key, item in value.items():
            if type(item) is dict or type(item) is list:
                value[key] = _untag(item, depth + 1)  # the dict is the parser's own, and no key is added
        return value
    match value:
        case ["t" | "l" as tag, *items]:
            if depth == DEPTH:
                raise CodecError(f"the canonical form is nested at most {DEPTH} deep")
            out = [_untag(item, depth + 1) for item in items]
            return tuple(out) if tag == "t" else out
        case ["f" | "i" | "b" as tag, str(spelt)]:
            try:
                if tag == "f":
                    return _double.unpack(bytes.fromhex(spelt))[0]
                return int(spelt, 16) if tag == "i" else bytes.fromhex(spelt)
            except (ValueError, struct.error):
                raise CodecError(f"{shown(spelt)} is no text for the tag {tag!r}") from None
    raise CodecError("an array of the canonical form begins with one of the tags t, l, f, i, b")
