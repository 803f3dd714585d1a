"""Trees of JSON for payloads of kind T: nodes with a tag, nearly right, and changes to a tree.

Rules: whatever is made is made from `rng` alone; right and wrong spellings stand side by side in one table per tag, so
that a change of one for the other is one step.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping
from math import prod
from typing import Any

import numpy as np

__all__ = ["edited", "edited_plain", "node"]

TEXTS = ("", "a", "b", "13", "[[[[", '"', '\\"]', "\ud800", "\udc00\ud800", "é", "\U0001f600", "\0", "nan")
NUMBERS = (0, 1, -1, 2, 13, 64, 255, 1 << 31, 1 << 63, (1 << 63) - 1, -(1 << 63), -(1 << 63) - 1, 1 << 64, 10**40)
FLOATS = (0.0, -0.0, 1.5, 1e308, 5e-324, float("inf"), float("nan"))
DTYPES = (
    *("|b1", "|i1", "|u1", "<i2", ">i4", "<i8", "<f2", ">f4", "<f8", "<c8", ">c16", "<M8[ns]", "<M8", ">m8[25s]"),
    *("|S1", "|S5", "<U1", ">U3", "|S0", "<U0", "|O", "<f16", "|V8", "<M8[xx]", "<M8[0s]", "=i4", "<i1", "|S4000000"),
    *("<U99999999999", "<U2147483647", "<m8[Y]", "<M8[1000000000000000000000s]", "U", "S", "i4"),
)
SIZES = (0, 1, 2, 3, 5, 8, -1, 1 << 40, 1 << 62, 1 << 64, True, 1.0)


DIGITS = ("0", "1", "-1", "2", "3", "ff", "FF", "0x1", "1_0", " 1", "00", "", "8" + "0" * 15, "f" * 40, "-" + "9" * 17)
PARTS = (0.0, -0.0, 1.5, "nan", "inf", "-inf", "1", 1)
DECIMALS = ("0", "-0", "1.50", "1E+3", "1e3", "NAN", "SNAN", "INFINITY", "INF", "0E-7", "1E+" + "9" * 18, "٣", "")
HEXES = ("", "00", "01", "02", "0000803f", "0" * 16, "f" * 16, "0" * 32, "FF", "zz", "a", "a\0", 5)
UUIDS = ("0" * 32, "f" * 32, "F" * 32, "{" + "0" * 32 + "}", "")
PLAINS = ("[]", "{}", "[[]]", '{"a":[1,2.5,null]}', "5", '"a"', "[18446744073709551616]", "[1e999]", '["\\ud800"]')
ALIKE = ((1.5, 2.5), (1.5, float("inf")), (7, 8), (7, 1 << 65), ("a", "b"), ("a", "é"), ("a", "a"))
CONTAINERS = ("list", "tuple", "set", "frozenset", "dict")


# --- what a tag is followed by --------------------------------------------------------------


def _array(rng: random.Random) -> list[Any]:
    dtype = rng.choice(DTYPES)
    shape: list[Any] = [rng.choice(SIZES[:6]) for _ in range(rng.choice((0, 1, 1, 2, 3)))]
    if rng.random() < 0.1:
        shape = [rng.choice(SIZES) for _ in range(rng.choice((1, 2, 65)))]
    try:
        size = int(prod(shape)) * np.dtype(dtype).itemsize
    except (TypeError, ValueError, OverflowError, MemoryError):
        size = 8
    return [dtype, shape, size if rng.random() < 0.9 else rng.choice(SIZES)]


def _day(rng: random.Random) -> list[Any]:
    return [rng.choice((1, 1970, 2024, 9999, 0, 10_000)), rng.choice((1, 2, 12, 13)), rng.choice((1, 29, 30, 31))]


def _clock(rng: random.Random) -> list[Any]:
    """Hour to fold, and sometimes a zone: an offset and a name."""
    clock = [rng.choice((0, 1, 11, 59, 60, -1)) for _ in range(3)]
    offset = rng.choice((0, 3_600_000_000, -1, 86_400_000_000, 10**30, 1.5, "0"))
    named = [offset, rng.choice(("CET", "UTC+01:00", "UTC", "", "\ud800"))]
    return [*clock, rng.choice((0, 999_999, 1_000_000)), rng.choice((0, 1)), *rng.choice(([], [], [offset], named))]


def _span(rng: random.Random) -> list[Any]:
    return [rng.choice((0, -1, 999_999_999, 10**9, 1.5)), *(rng.choice((0, 1, 86_399, -1)) for _ in range(2))]


def _line(rng: random.Random) -> list[Any]:
    return [rng.choice(DIGITS), "1" * 20_000 if rng.random() < 0.01 else rng.choice(DIGITS)]


def _length(rng: random.Random) -> list[Any]:
    return [rng.choice(SIZES[:6] if rng.random() < 0.9 else SIZES)]


LEAVES: Mapping[str, Callable[[random.Random], list[Any]]] = {
    "int": lambda rng: [rng.choice(DIGITS)],
    "float": lambda rng: [rng.choice(("nan", "inf", "-inf", "NaN", "1.5", "infinity", 1.5, None))],
    "complex": lambda rng: [rng.choice(PARTS), rng.choice(PARTS)],
    "date": _day,
    "datetime": lambda rng: [*_day(rng), *_clock(rng)],
    "time": _clock,
    "timedelta": _span,
    "decimal": lambda rng: [rng.choice(DECIMALS)],
    "fraction": _line,
    "uuid": lambda rng: [rng.choice(UUIDS)],
    "bytes": _length,
    "bytearray": _length,
    "ndarray": _array,
    "numpy": lambda rng: [rng.choice(DTYPES), rng.choice(HEXES)],
    "json": lambda rng: [json.loads(rng.choice(PLAINS))],  # a new one each time, since it is changed in place
    "pickle": lambda rng: [atom(rng)],
}
KINDS = (*LEAVES, "atom", "type")


def atom(rng: random.Random) -> Any:
    """Something without parts."""
    return rng.choice((None, True, False, rng.choice(NUMBERS), rng.choice(FLOATS), rng.choice(TEXTS)))


def node(rng: random.Random, depth: int) -> Any:
    """A node with a tag, nearly always a known one, and at most `depth` containers within each other."""
    kind = rng.choice(KINDS + CONTAINERS * 2 if depth else KINDS)
    if kind in CONTAINERS:
        if rng.random() < 0.2:
            return [kind, *rng.choice(ALIKE) * rng.choice((1, 2))]
        return [kind, *(node(rng, depth - 1) for _ in range(rng.choice((0, 1, 2, 2, 3, 4, 20))))]
    if kind == "atom":
        return atom(rng) if rng.random() < 0.8 else [rng.choice((None, 5, "", "LIST")), atom(rng)]
    if kind == "type":
        return [kind, rng.choice(("box", "box", "liar", "unlucky", "none", 5)), node(rng, max(depth - 1, 0))]
    return [kind, *LEAVES[kind](rng)]


def wrapped(old: Any, rng: random.Random) -> Any:
    """`old` within others, often just at the depth that is the most."""
    for _ in range(rng.choice((1, 1, 2, 61, 62, 63, 64, 65))):
        kind = rng.choice(("tuple", "list", "type", "json")) if rng.random() < 0.3 else "tuple"
        old = ["type", "box", old] if kind == "type" else [kind, old]
    return old


# --- changes --------------------------------------------------------------------------------


def edited(tree: Any, rng: random.Random) -> Any:
    """The tree of a tagged text with one change somewhere in it."""
    holders: list[tuple[Any, Any]] = [([tree], 0)]
    left = [tree]
    while left and len(holders) < 200:
        item = left.pop()
        keys = range(len(item)) if type(item) is list else list(item) if type(item) is dict else ()
        for key in keys:
            holders.append((item, key))
            left.append(item[key])
    if len(holders) > 1 and rng.random() < 0.9:
        holder, key = rng.choice(holders[1:])
    else:
        holder, key = holders[0]
    old, top = holder[key], holder is holders[0][0]
    way = rng.randrange(8)
    if way < 3:
        holder[key] = node(rng, 2)
    elif way == 3:
        holder[key] = wrapped(old, rng)
    elif way == 4:
        holder[key] = atom(rng)
    elif type(holder) is list and not top and way == 5:
        holder.insert(key, rng.choice(holder))
    elif type(holder) is list and not top and way == 6:
        del holder[key]
    elif type(old) is int:
        holder[key] = old + rng.choice((-1, 1, 256))
    elif type(old) is str:
        holder[key] = rng.choice((old.upper(), old + "0", "0" + old, " " + old, old[:-1], "-" + old, old.lower()))
    return tree if not top else holder[key]


def edited_plain(tree: Any, rng: random.Random) -> Any:
    """The tree of a plain text with one change, or with more around it."""
    way = rng.randrange(5)
    if way == 0:
        return atom(rng)
    if way == 1:
        return {rng.choice(TEXTS): tree, "b": [atom(rng) for _ in range(rng.choice((1, 3, 20)))]}
    if way == 2:
        for _ in range(rng.choice((1, 5, 62, 63, 64, 65))):
            tree = [tree] if rng.random() < 0.5 else {"k": tree}
        return tree
    return edited(tree, rng)
