"""Payloads of results, changed so that they get behind the first checks, and what must hold for each.

Rules: a mutator parses leniently, changes the tree of the JSON text, and makes the kind, the length of the text and the
size of the buffers right again; now and then it leaves them wrong. The same seed and bytes give the same bytes.
"""

from __future__ import annotations

import json
import random
import zoneinfo
from collections.abc import Callable
from datetime import datetime
from fractions import Fraction
from typing import Any

import numpy as np

from artdag_fed.codec import Codec
from artdag_fed.errors import CodecError
from tests.fuzz.nodes import edited, edited_plain, node

__all__ = ["CODEC", "Boxed", "check", "mutated", "split"]

Raw = Callable[[bytes, int], bytes]
"""The fuzzer's own mutator: bytes and how long they may become."""

LENGTH = 8


class Boxed:
    """What a user registers: any value in a box. 13 is refused when it is read."""

    def __init__(self, value: Any) -> None:
        if value == 13:
            raise RuntimeError("not this one")
        self.value = value


class Unlucky:
    """What a user registers with a rule that fails on both ways."""


def _refused(value: object) -> Any:
    raise KeyError("not this one")


CODEC = (
    Codec()
    .with_type("box", Boxed, lambda box: box.value, Boxed)
    .with_type("unlucky", Unlucky, _refused, _refused)
    .with_type("liar", type("Liar", (), {}), lambda it: 0, lambda value: value)
)


# --- what must hold -------------------------------------------------------------------------


def check(payload: bytes) -> None:
    """Only a `CodecError` comes out, what decodes is encoded again and stays the same, and so does what holds it."""
    try:
        value = CODEC.decode(payload)
    except CodecError as error:
        assert str(error).isprintable() and len(str(error)) < 1000, str(error)
        return
    again = CODEC.encode(value)
    if payload[:1] == again[:1] == b"T":
        assert len(split(payload)[2]) == len(split(again)[2]), "what was in the buffers is in the value"
    stays(again)
    held = HOLDERS[sum(payload) % len(HOLDERS)](value)
    try:
        again = CODEC.encode(held)
    except CodecError as error:  # no value of ours, or over the depth
        assert str(error).isprintable(), str(error)
        return
    stays(again)


def stays(payload: bytes) -> None:
    """Bytes that were written are read, and written as the same bytes: a value has one spelling.

    The bytes are compared and not the values, since these may be arrays, or not equal to themselves (nan)."""
    assert CODEC.encode(CODEC.decode(payload)) == payload, payload


def _nested(value: Any) -> Any:
    for _ in range(62):
        value = (value,)
    return value


def _within_itself(value: Any) -> Any:
    box = [value]
    box.append(box)
    return box


def _settled(value: Any) -> Any:
    try:
        return {value, 1, (2,)}
    except TypeError:  # it has no hash
        return frozenset({"in its place"})


HOLDERS: tuple[Callable[[Any], Any], ...] = (
    lambda v: (v,),
    lambda v: [v, float("nan")],
    lambda v: {1: v, "b": [v]},
    lambda v: {"a": v, "b": bytearray(b"x")},
    lambda v: {"a": {"b": [v, v]}},
    lambda v: [[v], object()],
    lambda v: {(1, b"k"): v, "half": "\ud800"},
    lambda v: [v, "\ud800"],
    lambda v: "\ud800",
    lambda v: Boxed((v,)),
    lambda v: [Unlucky(), v],
    lambda v: [Fraction(1, 1 << 70_000), v],
    lambda v: [datetime(2024, 1, 1, tzinfo=zoneinfo.ZoneInfo("UTC")), v],
    lambda v: (np.array([object()]), v),
    lambda v: (np.zeros(2, [("a", "i1"), ("b", "i8")]), v),
    lambda v: (np.arange(6).reshape(2, 3).T, np.float32(1.5), np.str_("a\0"), np.bytes_(b""), v),
    lambda v: (np.zeros(0, "S2000000"), v),
    lambda v: [np.array(["\U0010ffff"]), np.longdouble(1), v],
    lambda v: {"a": 1 << 70, "b": {"c": v}},
    lambda v: {f"k{i}": i for i in range(20)} | {"l": [1 << 64, *range(20)]},
    _nested,
    _within_itself,
    _settled,
)


# --- the mutator ----------------------------------------------------------------------------


def split(payload: bytes) -> tuple[bytes, bytes, bytes]:
    """Kind, text, buffers, as well as they can be told."""
    kind = payload[:1]
    if kind != b"T":
        return kind, payload[1:], b""
    end = 1 + LENGTH + min(int.from_bytes(payload[1 : 1 + LENGTH], "big"), len(payload))
    return kind, payload[1 + LENGTH : end], payload[end:]


def joined(kind: bytes, text: bytes, buffers: bytes) -> bytes:
    return kind + (len(text).to_bytes(LENGTH, "big") + text + buffers if kind == b"T" else text)


def mutated(payload: bytes, most: int, seed: int, raw: Raw) -> bytes:
    """`payload`, changed; at most `most` bytes."""
    rng = random.Random(seed)
    if rng.random() < 0.1:
        return raw(payload, most)
    kind, text, buffers = split(payload)
    if rng.random() < 0.1 or kind not in (b"J", b"B", b"T"):
        kind = rng.choice((b"J", b"T", b"T", b"B", b"P"))
    if kind == b"B" or rng.random() < 0.25:
        changed = joined(kind, raw(text or b"[]", max(most - 64, 2)), buffers)
    else:
        try:
            tree = json.loads(text)
        except (ValueError, RecursionError):
            tree = node(rng, 2)
        for _ in range(rng.choice((1, 1, 1, 2, 4))):
            tree = edited(tree, rng) if kind == b"T" else edited_plain(tree, rng)
        try:
            text = spelt(tree, rng)
        except RecursionError:
            return raw(payload, most)
        if kind == b"T" and rng.random() < 0.9:
            buffers = fitting(buffers, named(tree), rng)
        changed = joined(kind, text, buffers)
    return changed if len(changed) <= most else raw(payload, most)


def spelt(tree: Any, rng: random.Random) -> bytes:
    is_ascii = rng.random() < 0.5
    separators = (", ", " : ") if rng.random() < 0.05 else (",", ":")
    text = json.dumps(tree, ensure_ascii=is_ascii, separators=separators)
    if rng.random() < 0.02:
        text = '{"twice":1,"twice":' + text + "}"
    return text.encode("utf-8", "surrogatepass")


def named(tree: Any) -> int:
    """The bytes of buffers that a text names, within reason."""
    total, left = 0, [tree]
    while left:
        item = left.pop()
        if type(item) is list and item and item[0] != "json":
            if item[0] in ("bytes", "bytearray", "ndarray") and type(item[-1]) is int and 0 < item[-1] < 4096:
                total += item[-1]
            left.extend(item[1:])
    return min(total, 4096)


def fitting(buffers: bytes, size: int, rng: random.Random) -> bytes:
    if len(buffers) >= size:
        return buffers[:size]
    fill = rng.choice((b"\0", b"\1", b"\xff", b"a\0\0\0"))
    return (buffers + fill * (size - len(buffers)))[:size]
