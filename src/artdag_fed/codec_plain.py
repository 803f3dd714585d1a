"""Values that JSON says as they are, through the C reader and writer of the standard library without a hook.

Rules: a value is plain if JSON gives it back the same, in type and value: None, bool, int of 64 bits, finite float,
text, lists of plain values, dicts from text to plain values. Reading is strict where JSON readers are often not: no
NaN or Infinity, no half surrogate pair by way of `\\u` escapes, nothing behind the value, no more than `DEPTH` levels.

>>> is_plain({"a": [1, 2.5]}), is_plain({"a": (1, 2.5)}), is_plain({1: "a"})
(True, False, False)
"""

from __future__ import annotations

import json
import json.encoder
import re
from collections.abc import Callable
from json import scanner
from types import NoneType
from typing import Any, NoReturn

from artdag_fed.codec_scalars import INT_LEAST, INT_MOST
from artdag_fed.errors import CodecError

__all__ = [
    "ATOMS",
    "BOXES",
    "DEPTH",
    "fits",
    "is_deeper",
    "is_plain",
    "nests_over",
    "plain_text",
    "read_plain",
    "read_unique",
]

DEPTH = 64
"""Containers within containers, on both sides: far above real results, far below what overflows a stack."""

ATOMS = frozenset({NoneType, bool, float, str})
"""The exact types that JSON has a word for, whatever the value; integers are looked at one by one."""
BOXES = frozenset({list, dict})

SHALLOW = 2 * DEPTH
"""Bytes of a text that cannot open more boxes than that and close them; if it only opens them, reading stops where it
ends."""
MANY = 16  # items from which one look at all their types is faster than a step in Python for each

_BRACKETS = bytes.maketrans(b"{}", b"[]")
_NO_BRACKET = bytes(set(range(256)) - set(b'[]{}"'))
_texts = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)', re.DOTALL)  # an open one ends with the text: linear time
_half_pair = re.compile(r"\\u[dD][89a-fA-F]").search


# --- writing --------------------------------------------------------------------------------


def is_plain(value: Any, room: int = DEPTH) -> bool:
    """Whether JSON says `value` as it is, but for numbers that are not finite and half surrogate pairs.

    Those two are left to `plain_text`, which comes by them anyway. At most `room` containers within each other.
    """
    kind = type(value)
    if kind is dict:
        for key in value:
            if type(key) is not str:
                return False
        items = value.values()
    elif kind is list:
        items = value
    else:
        return kind in ATOMS or (kind is int and fits(value))
    if not room:
        return False
    if len(items) > MANY:
        kinds = set(map(type, items))
        if kinds <= ATOMS:
            return True
        if kinds == {int}:
            return fits(min(items)) and fits(max(items))
    for item in items:
        kind = type(item)
        if kind is int:
            if not INT_LEAST <= item <= INT_MOST:
                return False
        elif kind is str or kind in ATOMS:
            continue
        elif kind not in BOXES or not is_plain(item, room - 1):
            return False
    return True


def fits(number: int) -> bool:
    """Whether it is an integer of 64 bits."""
    return INT_LEAST <= number <= INT_MOST


def _json_writer() -> Callable[[Any], str]:
    """JSON as the standard library's C encoder writes it; made once, where `json.dumps` makes one per call."""
    make = getattr(json.encoder, "c_make_encoder", None)
    if make is None:
        return json.JSONEncoder(ensure_ascii=False, check_circular=False, allow_nan=False, separators=(",", ":")).encode
    quote = json.encoder.encode_basestring  # half the time for a text that stands alone
    write = make(None, None, quote, None, ":", ",", False, False, False)
    join = "".join
    return lambda value: quote(value) if type(value) is str else join(write(value, 0))


plain_text = _json_writer()
"""The JSON of a plain value; `ValueError` where a number is not finite. Half surrogate pairs fail as it is encoded."""


# --- reading --------------------------------------------------------------------------------


def _refuse_constant(name: str) -> NoReturn:
    raise CodecError(f"a payload with {name} in its JSON, which JSON does not have")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    read = dict(pairs)
    if len(read) != len(pairs):
        raise CodecError("a payload whose JSON has an object with the same key twice")
    return read


def _scanner(**hooks: Any) -> Callable[[str, int], tuple[Any, int]]:
    """What reads one JSON value at an index of a text, and says where it ended."""
    settings: Any = json.JSONDecoder(parse_constant=_refuse_constant, **hooks)
    scan: Callable[[str, int], tuple[Any, int]] = scanner.make_scanner(settings)
    return scan


_scan = _scanner()
_scan_unique = _scanner(object_pairs_hook=_unique)


def read_plain(payload: bytes) -> Any:
    """The value of a payload that is one byte of kind and a JSON text."""
    if len(payload) > SHALLOW and nests_over(DEPTH, payload):
        raise CodecError(f"a payload with more than {DEPTH} containers within each other")
    text = payload.decode()
    try:
        value, end = _scan(text, 1)
    except StopIteration as stop:
        raise _broken(stop) from None
    if end != len(text) or "\\" in text:
        _check_rest(text, value, end)
    return value


def read_unique(text: bytes) -> Any:
    """The value that the whole of `text` is, without objects that have a key twice. Look at its depth before."""
    spelt = text.decode()
    try:
        value, end = _scan_unique(spelt, 0)
    except StopIteration as stop:
        raise _broken(stop) from None
    _check_rest(spelt, value, end)
    return value


def _broken(stop: StopIteration) -> CodecError:
    return CodecError(f"a payload whose JSON is broken at character {stop.value}")


def _check_rest(text: str, value: Any, end: int) -> None:
    """Refuse what stands behind a value, and half surrogate pairs in it."""
    if end != len(text):
        raise CodecError(f"a payload with something behind its JSON, which ends at character {end}")
    if "\\" in text and _half_pair(text):
        plain_text(value).encode()  # half a surrogate pair is no text: UnicodeEncodeError


def nests_over(most: int, text: bytes) -> bool:
    """Whether JSON nests more than `most` deep; of broken JSON, whether a reader may get that deep before it notices.

    Asked before reading, since a reader goes down the C stack for each level and the interpreter's own limit may have
    been raised. Told from the brackets alone, in linear time, without a step in Python for each.
    """
    if text.count(b"[") + text.count(b"{") <= most:
        return False
    brackets = text.translate(_BRACKETS, _NO_BRACKET).replace(b'""', b"")
    if b'"' in brackets or b"\\" in text:  # brackets in texts, or quotes that are none: cut the texts out first
        brackets = _texts.sub(b"", text).translate(_BRACKETS, _NO_BRACKET)
    for _ in range(most):
        if not brackets:
            return False
        brackets = brackets.replace(b"[]", b"")
    return brackets != b""


def is_deeper(most: int, value: Any) -> bool:
    """Whether lists and dicts nest more than `most` deep in `value`."""
    level = [value]
    for _ in range(most + 1):
        level = [box for box in level if type(box) in BOXES]
        if not level:
            return False
        level = [item for box in level for item in (box.values() if type(box) is dict else box)]
    return True
