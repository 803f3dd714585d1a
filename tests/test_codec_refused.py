"""The codec: what it cannot carry is refused, not flattened, and the error names the type and the place."""

from __future__ import annotations

import collections
import enum
import json
import sys
from datetime import datetime, time, timedelta, timezone, tzinfo
from typing import Any

import numpy as np
import pytest

from artdag_fed.codec import DEFAULT
from artdag_fed.errors import CodecError
from tests.codec_values import tagged


class Colour(enum.IntEnum):
    RED = 1


class Flavour(str, enum.Enum):  # noqa: UP042  # the older spelling is what people have
    SWEET = "sweet"


class Text(str):
    __slots__ = ()


class Clock(datetime):
    pass


class Summer(tzinfo):
    def utcoffset(self, when: datetime | None) -> timedelta:
        return timedelta(hours=2)

    def dst(self, when: datetime | None) -> None:
        return None

    def tzname(self, when: datetime | None) -> str:
        return "summer"


Pair = collections.namedtuple("Pair", "a b")  # plain on purpose


@pytest.mark.parametrize(
    "value",
    [
        Colour.RED, Flavour.SWEET, Text("a"), Pair(1, 2), collections.OrderedDict(a=1), collections.Counter("a"),
        collections.defaultdict(list), Clock(2024, 1, 1), object(), print, range(3), memoryview(b"a"), Ellipsis,
        np.ma.array([1]), np.zeros(1, "i4,f8").view(np.recarray), int, Exception("x"), iter([1]), slice(1),
    ],
    ids=lambda v: type(v).__name__,
)  # fmt: skip
def test_a_subclass_or_unknown_type_is_refused_wherever_it_stands(value: Any) -> None:
    with pytest.raises(CodecError, match=type(value).__qualname__):
        DEFAULT.encode(value)
    for held in ([value], {"k": value}, {"k": [1, (value,)]}, [1] * 30 + [value]):
        with pytest.raises(CodecError, match=type(value).__qualname__):
            DEFAULT.encode(held)
    if type(value).__hash__ is not None:
        with pytest.raises(CodecError):
            DEFAULT.encode({value: 1})


@pytest.mark.parametrize(
    ("value", "place"),
    [
        (object(), "result is"),
        ({"a": [1, 2, 3, object()]}, r"result\['a'\]\[3\] is"),
        ((1, {2: object()}), r"result\[1\]\[2\] is"),
        ({(1, object()): 1}, r"the key tuple of result\[1\] is"),
        ([{object()}], r"an item of result\[0\] is"),
        (["fine", "\ud800"], r"result\[1\] has half a surrogate"),
        ({"\udfff": 1}, r"the key .* of result has half a surrogate"),
        ([Colour.RED], r"result\[0\] is of type .*Colour"),
        ([np.zeros(1, object)], r"result\[0\] has the dtype 'object'"),
        ([datetime(2024, 1, 1, tzinfo=Summer())], r"result\[0\] has the time zone .*Summer.*astimezone"),
        (np.str_("\ud800"), "result has half a surrogate"),
        (time(1, tzinfo=timezone(timedelta(0), "\ud800")), "result has half a surrogate"),
    ],
    ids=lambda part: part if isinstance(part, str) else type(part).__name__,  # no address: the same in every process
)
def test_a_refusal_names_the_type_and_the_place(value: Any, place: str) -> None:
    with pytest.raises(CodecError, match=place):
        DEFAULT.encode(value)


def nested(depth: int, wrap: Any, inner: Any) -> Any:
    for _ in range(depth):
        inner = wrap(inner)
    return inner


_WRAPS: list[Any] = [
    lambda v: [v], lambda v: {"k": v}, lambda v: (v,), lambda v: {1: v}, lambda v: frozenset({v}), lambda v: {(v, 1): 2}
]  # fmt: skip


@pytest.mark.parametrize("wrap", _WRAPS[:5])
@pytest.mark.parametrize("inner", [1, b"raw", 2**70])
def test_containers_nest_64_deep_and_no_deeper(wrap: Any, inner: Any) -> None:
    deepest = nested(64, wrap, inner)
    assert DEFAULT.decode(DEFAULT.encode(deepest)) == deepest
    with pytest.raises(CodecError, match="64"):
        DEFAULT.encode(wrap(deepest))


def test_decoding_has_the_same_limit_on_depth() -> None:
    for opened, closed in (("[", "]"), ('{"k":', "}"), ('{"]":', "}"), ('{"\\"":', "}")):
        for rest in ("", '"]][[[",' if opened == "[" else ""):
            fine = opened * 63 + "[" + rest + "1]" + closed * 63
            assert json.loads(fine) == DEFAULT.decode(b"J" + fine.encode())
            for over in (opened + fine + closed, opened * 500 + "1" + closed * 500, opened * 10**5 + closed * 10**5):
                with pytest.raises(CodecError):
                    DEFAULT.decode(b"J" + over.encode())
    for tag in ("tuple", "frozenset", "list"):
        assert DEFAULT.decode(tagged(f'["{tag}",' * 64 + "1" + "]" * 64))
        with pytest.raises(CodecError, match="64"):
            DEFAULT.decode(tagged(f'["{tag}",' * 65 + "1" + "]" * 65))
    assert DEFAULT.decode(tagged('["tuple",' * 32 + '["json",' + "[" * 32 + "]" * 32 + "]" + "]" * 32))
    with pytest.raises(CodecError, match="64"):
        DEFAULT.decode(tagged('["tuple",' * 32 + '["json",' + "[" * 33 + "]" * 33 + "]" + "]" * 32))


@pytest.mark.parametrize("opening", [b"[", b'{"a":', b'["\\"[",', b'["]",'])
def test_depth_is_refused_before_the_reader_goes_down_the_stack(opening: bytes) -> None:
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(10**6)  # some programs do; then nothing else would stop the reader
    try:
        for text in (opening * 200_000, opening * 200 + b"1"):
            for payload in (b"J" + text, tagged(text), tagged(b'["json",' + text)):
                with pytest.raises(CodecError, match="more than 64"):
                    DEFAULT.decode(payload)
    finally:
        sys.setrecursionlimit(limit)


def test_looking_for_depth_takes_linear_time_in_texts_that_never_end() -> None:
    for text in (b"[" * 70 + b'"' + b'\\"' * 300_000, b"[" * 70 + b'"' + b"\\" * 600_001):
        with pytest.raises(CodecError):
            DEFAULT.decode(b"J" + text)  # in quadratic time this would take minutes


def test_many_shallow_containers_are_not_taken_for_deep_ones() -> None:
    values: list[Any] = [
        [[]] * 500,
        [{"a[": ["]", '"', "\\", {}]}] * 300,
        {str(i): [{}] for i in range(200)},
        ["["] * 200,
    ]
    for value in values:
        assert DEFAULT.decode(DEFAULT.encode(value)) == value
        assert DEFAULT.decode(DEFAULT.encode((value,))) == (value,)


def test_a_container_within_itself_is_refused() -> None:
    a: list[Any] = []
    a.extend([a] * 9)
    b: dict[Any, Any] = {"x": (1, {})}
    b["x"][1][2] = b
    for value in (a, b, [a], (b,)):
        with pytest.raises(CodecError, match="within itself"):
            DEFAULT.encode(value)


def test_the_caller_depth_does_not_turn_a_value_into_another_error() -> None:
    def down(levels: int) -> None:
        if levels:
            down(levels - 1)
        else:
            DEFAULT.decode(DEFAULT.encode(nested(30, lambda v: (v,), 1)))

    down(100)
