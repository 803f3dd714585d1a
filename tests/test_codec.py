"""The codec: what goes in comes out, the same bytes everywhere, and nothing but `CodecError` from hostile bytes.

`vectors/codec.json` pins the bytes: each entry has a Python expression (ours, so it may be evaluated) and its payload.
"""

from __future__ import annotations

import collections
import contextlib
import copy
import enum
import json
import math
import os
import pickle
import random
import subprocess
import sys
import threading
import tracemalloc
from datetime import UTC, date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal, localcontext
from fractions import Fraction
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import artdag_fed.codec as module
from artdag_fed.codec import DEFAULT, Codec
from artdag_fed.errors import CodecError

SOURCES = Path(module.__file__).parent.parent
VECTORS = json.loads((Path(__file__).parent / "vectors" / "codec.json").read_text(encoding="utf-8"))
NAMES = {
    "Decimal": Decimal, "Fraction": Fraction, "UUID": UUID, "date": date, "datetime": datetime, "np": np, "time": time,
    "timedelta": timedelta, "timezone": timezone,
}  # fmt: skip


def value_of(vector: dict[str, str]) -> Any:
    return eval(vector["python"], dict(NAMES))  # noqa: S307  # the expressions are this project's own test data


def tagged(text: str | bytes, buffers: bytes = b"") -> bytes:
    raw = text.encode() if isinstance(text, str) else text
    return b"T" + len(raw).to_bytes(8, "big") + raw + buffers


def same(a: Any, b: Any) -> bool:
    """Whether two values are the same in every type and every visible part, NaN being the same as NaN."""
    if type(a) is not type(b):
        return False
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict):
        return same(list(a.items()), list(b.items()))
    if isinstance(a, (set, frozenset)):
        return sorted(map(DEFAULT.encode, a)) == sorted(map(DEFAULT.encode, b)) and len(a) == len(b)
    if isinstance(a, np.ndarray):
        return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    if isinstance(a, float):
        return (math.isnan(a) and math.isnan(b)) or (a == b and math.copysign(1, a) == math.copysign(1, b))
    if isinstance(a, complex):
        return same(a.real, b.real) and same(a.imag, b.imag)
    if isinstance(a, np.generic):
        return a.dtype == b.dtype and a.tobytes() == b.tobytes()
    if isinstance(a, Decimal):
        return a.as_tuple() == b.as_tuple()
    if isinstance(a, (datetime, time)):
        return repr(a) == repr(b)  # with its fold, and its time zone with its name
    return bool(a == b)


# --- what goes in comes out -----------------------------------------------------------------


@pytest.mark.parametrize("vector", VECTORS, ids=[v["description"] for v in VECTORS])
def test_a_golden_value_has_its_golden_bytes_and_comes_back_from_them(vector: dict[str, str]) -> None:
    value, payload = value_of(vector), bytes.fromhex(vector["payload"])
    assert DEFAULT.encode(value) == payload
    for given_as in (payload, bytearray(payload), memoryview(payload), memoryview(b"##" + payload)[2:]):
        assert same(DEFAULT.decode(given_as), value)


def test_there_is_a_golden_vector_for_every_type_and_tag() -> None:
    from artdag_fed.codec_scalars import SCALAR_TAGS

    text = b" ".join(bytes.fromhex(v["payload"]) for v in VECTORS)
    containers = {"json", "list", "tuple", "dict", "set", "frozenset", "bytes", "bytearray", "ndarray", "numpy"}
    assert [tag for tag in SCALAR_TAGS | containers if b'["%s"' % tag.encode() not in text] == []


_SEEDED = """
import json, sys
from datetime import *; from decimal import Decimal; from fractions import Fraction; from uuid import UUID
from artdag_fed.codec import DEFAULT
for v in json.load(sys.stdin):
    assert DEFAULT.encode(eval(v["python"])).hex() == v["payload"], v["description"]
assert "numpy" not in sys.modules
"""


def child(code: str, *, seed: str = "0", stdin: str = "") -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PYTHONPATH": str(SOURCES), "PYTHONHASHSEED": seed}
    return subprocess.run(
        [sys.executable, "-c", code], env=env, input=stdin, capture_output=True, text=True, check=False, timeout=60
    )


@pytest.mark.parametrize("seed", ["0", "1"])
def test_the_bytes_are_the_same_under_every_hash_seed(seed: str) -> None:
    plain = [v for v in VECTORS if "np." not in v["python"]]
    done = child(_SEEDED, seed=seed, stdin=json.dumps(plain))
    assert done.returncode == 0, done.stderr


_offsets = st.integers(-86399 * 10**6, 86399 * 10**6).map(lambda us: timezone(timedelta(microseconds=us)))
_zones = st.none() | st.just(UTC) | _offsets
_leaves = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-(2**300), 2**300)
    | st.floats()
    | st.complex_numbers()
    | st.text(st.characters(codec="utf-8"), max_size=8)
    | st.binary(max_size=8)
    | st.dates()
    | st.datetimes(timezones=_zones)
    | st.times(timezones=_zones)
    | st.timedeltas()
    | st.decimals()
    | st.fractions()
    | st.uuids()
)
_hashable = _leaves.filter(lambda v: not (type(v) is Decimal and v.is_snan()))
_keys = st.recursive(
    _hashable, lambda inner: st.lists(inner, max_size=3).map(tuple) | st.frozensets(inner, max_size=3), max_leaves=4
)
_values = st.recursive(
    _leaves,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(st.text(st.characters(codec="utf-8"), max_size=3), inner, max_size=4)
        | st.dictionaries(_keys, inner, max_size=3)
        | st.sets(_keys, max_size=3)
        | st.binary(max_size=8).map(bytearray)
    ),
    max_leaves=12,
)


@settings(max_examples=150, derandomize=True, deadline=None, database=None)
@given(_values)
def test_any_value_comes_back_as_it_was_and_has_one_spelling(value: Any) -> None:
    payload = DEFAULT.encode(value)
    back = DEFAULT.decode(payload)
    assert same(back, value)
    assert DEFAULT.encode(back) == payload


@pytest.mark.parametrize("count", [3, 40])
@pytest.mark.parametrize(
    "item",
    [None, True, 1, 2**63 - 1, -(2**63), 2**63, 1.5, math.nan, -0.0, "a", "é", b"b", (1,), [1], {"a": 1}, {1: 2}],
    ids=repr,
)
def test_short_and_long_containers_of_one_thing_and_of_two_come_back(item: Any, count: int) -> None:
    for value in ([item] * count, (item,) * count, {str(i): item for i in range(count)}, {"x": [item] * count + [b""]}):
        assert same(DEFAULT.decode(DEFAULT.encode(value)), value)
        mixed = [*value, item]
        assert same(DEFAULT.decode(DEFAULT.encode(mixed)), mixed)


def test_what_json_cannot_tell_apart_has_bytes_of_its_own() -> None:
    values: list[Any] = [
        1,
        1.0,
        True,
        "1",
        b"1",
        bytearray(b"1"),
        [1],
        (1,),
        {1},
        frozenset({1}),
        {1: 1},
        {"1": 1},
        1 + 0j,
    ]
    values += [Decimal(1), Fraction(1), None, "null", 0.0, -0.0, np.int64(1), np.int32(1), np.array([1]), np.array(1)]
    assert len({DEFAULT.encode(v) for v in values}) == len(values)


def test_a_list_that_looks_like_a_tagged_node_stays_that_list() -> None:
    for value in (["bytes", 3], ["tuple", ["int", "ff"]], {"json": ["list"]}, ["json", {"a": ["float", "nan"]}]):
        for held in (value, (value,), [value, b""], {"k": value, 1: value}):
            assert same(DEFAULT.decode(DEFAULT.encode(held)), held)


def test_equal_sets_have_equal_bytes_whatever_order_they_were_made_in() -> None:
    items = [*range(0, 4000, 8), "a", b"b", (1, b"buffer"), frozenset({1, 2}), None, 2.5]
    items += [bytes([n]) * 3 for n in range(20)]  # one text for all; only their buffers differ
    shuffled = copy.copy(items)
    random.Random(1).shuffle(shuffled)
    assert DEFAULT.encode(set(items)) == DEFAULT.encode(set(shuffled))
    assert same(DEFAULT.decode(DEFAULT.encode(set(items))), set(items))
    assert DEFAULT.encode({bytes([n]) for n in range(40)}).endswith(bytes(range(40)))


def test_dicts_in_another_order_are_other_bytes() -> None:
    assert DEFAULT.encode({"a": 1, "b": 2}) != DEFAULT.encode({"b": 2, "a": 1})
    assert list(DEFAULT.decode(DEFAULT.encode({"b": 2, "a": 1}))) == ["b", "a"]


def test_integers_beyond_64_bits_are_never_json_numbers_whatever_holds_them() -> None:
    for number in (2**63, -(2**63) - 1):
        for count in (1, 40):
            for value in (
                [number] * count,
                [1] * count + [number],
                {str(i): number for i in range(count)},
                (number,) * count,
            ):
                assert str(number).encode() not in DEFAULT.encode(value)
                assert b'["int",' in DEFAULT.encode(value)


def test_several_nans_in_a_set_stay_several() -> None:
    assert len(DEFAULT.decode(DEFAULT.encode({float("nan"), float("nan"), 1.0}))) == 3


def test_huge_integers_pass_whatever_the_limit_on_digits_is() -> None:
    huge = 7**20_000
    assert len(hex(huge)) > 10_000  # 16902 decimal digits, more than `int()` takes by default
    assert DEFAULT.decode(DEFAULT.encode([huge, -huge])) == [huge, -huge]


def test_the_decimal_context_does_not_show_in_the_bytes() -> None:
    expected = DEFAULT.encode(Decimal("1.50E+30"))
    with localcontext() as context:
        context.capitals, context.prec = 0, 2
        assert DEFAULT.encode(Decimal("1.50E+30")) == expected
        assert same(DEFAULT.decode(expected), Decimal("1.50E+30"))


def test_what_is_read_shares_no_memory_with_its_payload() -> None:
    value = {"raw": bytearray(b"abc"), "array": np.arange(3)}
    payload = bytearray(DEFAULT.encode(value))
    back = DEFAULT.decode(payload)
    payload[:] = bytes(len(payload))
    assert same(back, value)


def test_threads_may_share_one_codec() -> None:
    values = [[{f"k{i}": [i, (i,), str(i)]}] * 20 for i in range(8)]
    wrong: list[Any] = []

    def work(value: Any) -> None:
        for _ in range(30):
            if not same(DEFAULT.decode(DEFAULT.encode(value)), value):
                wrong.append(value)

    threads = [threading.Thread(target=work, args=(v,)) for v in values]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


# --- refused, not flattened -----------------------------------------------------------------


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


# --- hostile bytes --------------------------------------------------------------------------

_BROKEN: dict[str, bytes] = {
    "nothing": b"",
    "kind alone": b"J",
    "unknown kind": b"K1",
    "a pickle": pickle.dumps([1]),
    "trailing": b"J1 ",
    "leading": b"J 1",
    "two values": b"J1 2",
    "byte order mark": b"J\xef\xbb\xbf1",
    "no utf-8": b'J"\xff"',
    "surrogate in utf-8": b'J"\xed\xa0\x80"',
    "surrogate escaped": b'J"\\ud800"',
    "surrogate escaped in a key": b'J{"\\uDFFF":[1]}',
    "NaN": b"JNaN",
    "Infinity": b"J[-Infinity]",
    "open list": b"J[1",
    "trailing comma": b"J[1,]",
    "control character": b'J"\n"',
    "single quotes": b"J'a'",
    "digits over the limit": b"J" + b"9" * 100_000,
    "no length": b"T",
    "short length": b"T\0\0\0",
    "lying length": b"T" + b"\xff" * 8 + b"1",
    "length of one more": b"T" + (2).to_bytes(8, "big") + b"1",
    "buffers that nothing names": tagged("1", b"x"),
    "an object as a node": tagged("{}"),
    "an object in a node": tagged('["tuple",{"a":1}]'),
    "a key twice": tagged('["json",{"a":1,"a":2}]'),
    "an empty node": tagged("[]"),
    "a tag that is no text": tagged("[1]"),
    "a tag that is a list": tagged('[["list"]]'),
    "an unknown tag": tagged('["lisp",1]'),
    "a json scalar": tagged('["json",1]'),
    "two in json": tagged('["json",[],[]]'),
    "an integer over 64 bits": tagged('["tuple",9223372036854775808]'),
    "a small int tagged": tagged('["int","5"]'),
    "an int in capitals": tagged('["int","FFFFFFFFFFFFFFFFFF"]'),
    "an int with underscores": tagged('["int","f_ffffffffffffffffff"]'),
    "an int of other digits": tagged('["int","٣٣٣٣٣٣٣٣٣٣٣٣٣٣٣٣٣٣٣٣"]'),
    "an int that is a number": tagged('["int",5]'),
    "a finite float tagged": tagged('["float","1.5"]'),
    "another spelling of nan": tagged('["float","NaN"]'),
    "a complex of bools": tagged('["complex",true,1.0]'),
    "a date of bools": tagged('["date",2024,true,1]'),
    "a month of floats": tagged('["date",2024,1.0,1]'),
    "month 13": tagged('["date",2024,13,1]'),
    "a huge year": tagged('["date",9223372036854775807,1,1]'),
    "a timedelta not reduced": tagged('["timedelta",0,86400,0]'),
    "a huge timedelta": tagged('["timedelta",9223372036854775807,0,0]'),
    "fold 2": tagged('["time",1,2,3,4,2]'),
    "an offset of a day": tagged('["time",1,2,3,4,0,86400000000]'),
    "an offset that is no number": tagged('["time",1,2,3,4,0,"utc"]'),
    "a decimal spelt otherwise": tagged('["decimal","1e5"]'),
    "no decimal": tagged('["decimal","one"]'),
    "a fraction not reduced": tagged('["fraction","2","4"]'),
    "a fraction over zero": tagged('["fraction","1","0"]'),
    "a huge fraction": tagged('["fraction","1%s","3"]' % ("0" * 10**6)),
    "a uuid with dashes": tagged('["uuid","00000000-0000-0000-0000-000000000007"]'),
    "a uuid too short": tagged('["uuid","00"]'),
    "bytes too few": tagged('["bytes",2]', b"x"),
    "bytes of a negative size": tagged('["bytes",-1]'),
    "bytes of a size of text": tagged('["bytes","1"]', b"x"),
    "bytes of a bool size": tagged('["bytes",true]', b"x"),
    "bytes without a size": tagged('["bytes"]'),
    "bytes of an exabyte": tagged(f'["bytes",{2**60}]'),
    "a set with a thing twice": tagged('["set",1,1]'),
    "a set with 1 and 1.0": tagged('["set",1,1.0]'),
    "a set of lists": tagged('["set",["list",1]]'),
    "a dict of three": tagged('["dict",1,2,3]'),
    "a dict with a key twice": tagged('["dict",1,2,true,3]'),
    "a dict with a list as key": tagged('["dict",["json",[]],1]'),
    "an unregistered type": tagged('["type","point",1]'),
    "a type named by a list": tagged('["type",["json",[]],1]'),
    "array of objects": tagged('["ndarray","|O",[1],8]', b"x" * 8),
    "array of a made-up dtype": tagged('["ndarray","<f8,<f8",[1],16]', b"x" * 16),
    "array of an int dtype": tagged('["ndarray",8,[1],8]', b"x" * 8),
    "array too short": tagged('["ndarray","<f8",[2],8]', b"x" * 8),
    "array too long": tagged('["ndarray","<f8",[1],16]', b"x" * 16),
    "array of negative sizes": tagged('["ndarray","<f8",[-1,-1],8]', b"x" * 8),
    "array of an exabyte": tagged(f'["ndarray","<f8",[{2**57}],8]', b"x" * 8),
    "array without a list of sizes": tagged('["ndarray","<f8",1,8]', b"x" * 8),
    "array of too many dimensions": tagged('["ndarray","<f8",[' + "1," * 64 + "1],8]", b"x" * 8),
    "empty array of huge elements": tagged('["ndarray","<U500000000",[0],0]'),
    "array of no bools": tagged('["ndarray","|b1",[1],1]', b"\2"),
    "array of no text": tagged('["ndarray","<U1",[1],4]', b"\xff" * 4),
    "array of no text, big-endian": tagged('["ndarray",">U1",[1],4]', b"\xff" * 4),
    "array of a unit spelt otherwise": tagged('["ndarray","<M8[1ns]",[1],8]', b"x" * 8),
    "array of no unit": tagged('["ndarray","<M8[zz]",[1],8]', b"x" * 8),
    "scalar in capitals": tagged('["numpy","|u1","FF"]'),
    "scalar too short": tagged('["numpy","<f8","00"]'),
    "scalar of sized text": tagged('["numpy","<U1","61000000"]'),
    "scalar of objects": tagged('["numpy","|O","00"]'),
}


@pytest.mark.parametrize("payload", _BROKEN.values(), ids=_BROKEN)
def test_broken_bytes_are_a_codec_error_and_cost_next_to_no_memory(payload: bytes) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(CodecError) as caught:
            DEFAULT.decode(payload)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 1_000_000 + 4 * len(payload)
    assert len(str(caught.value)) < 400


def mutations(payload: bytes, chance: random.Random) -> bytes:
    mutant = bytearray(payload)
    for _ in range(chance.choice((1, 1, 1, 2, 4))):
        at = chance.randrange(len(mutant) + 1)
        match chance.randrange(5):
            case 0:
                mutant[at : at + 1] = bytes([chance.randrange(256)])
            case 1:
                del mutant[at : at + chance.randrange(1, 4)]
            case 2:
                mutant[at:at] = chance.choice(
                    (b"[", b"]", b"{", b'"', b",", b"0", b"9" * 30, b"-", b"\\ud800", b"true")
                )
            case 3:
                mutant[at : at + 1] = chance.choice(b'0123456789abcdef[]{},:"-.eE').to_bytes(1, "big")
            case _:
                mutant += mutant[at:]
    if mutant[:1] == b"T" and len(mutant) > 9 and chance.random() < 0.7:  # else its length would catch nearly all
        size = bytes(mutant).rfind(b"]") - 8
        mutant[1:9] = max(size, 0).to_bytes(8, "big")
    return bytes(mutant)


def test_sizes_whose_arithmetic_would_take_quadratic_time_are_refused_before_it() -> None:
    long = "1" + "0" * 20_000
    for above, below in ((long, "3"), ("3", long)):
        with pytest.raises(CodecError, match="a fraction of more than"):
            DEFAULT.decode(tagged(f'["fraction","{above}","{below}"]'))
    with pytest.raises(CodecError, match="list of sizes"):
        DEFAULT.decode(tagged('["ndarray","|u1",[' + "1," * 1000 + "1],1]", b"x"))
    with pytest.raises(CodecError, match="bits"):
        DEFAULT.encode([Fraction(1, 2**70_000)])


@pytest.mark.filterwarnings("ignore")
def test_mutated_bytes_give_a_codec_error_or_a_value_that_can_be_encoded_again() -> None:
    chance = random.Random(20)
    payloads = [bytes.fromhex(v["payload"]) for v in VECTORS]
    read = 0
    for payload in payloads * 60:
        mutant = mutations(payload, chance)
        try:
            value = DEFAULT.decode(mutant)
        except CodecError:
            continue
        read += 1
        assert same(DEFAULT.decode(DEFAULT.encode(value)), value), mutant
    assert read > 100  # or the mutations are too coarse to test anything behind the first check


def test_random_bytes_give_a_codec_error_or_a_value() -> None:
    chance = random.Random(21)
    for _ in range(3000):
        raw = chance.randbytes(chance.randrange(40))
        for payload in (raw, b"J" + raw, tagged(raw), b"T" + raw):
            with contextlib.suppress(CodecError):
                DEFAULT.decode(payload)


def test_every_truncation_of_a_payload_is_refused() -> None:
    payload = DEFAULT.encode({"a": (1, b"buffer", np.arange(3)), "b": {2**80, "x"}})
    for end in range(len(payload)):
        with pytest.raises(CodecError):
            DEFAULT.decode(payload[:end])


def test_what_is_no_bytes_is_a_type_error() -> None:
    for payload in ("J1", None, 5, [74, 49]):
        with pytest.raises(TypeError):
            DEFAULT.decode(payload)  # type: ignore[arg-type]  # wrong on purpose


def test_a_wide_flat_payload_costs_no_more_than_its_lists() -> None:
    payload = b"J[" + b"[]," * 20_000 + b"[]]"
    tracemalloc.start()
    try:
        assert len(DEFAULT.decode(payload)) == 20_001
        assert tracemalloc.get_traced_memory()[1] < 60 * len(payload)
    finally:
        tracemalloc.stop()


# --- NumPy ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "array",
    [
        np.arange(10)[::2], np.arange(6).reshape(2, 3).T, np.asfortranarray(np.arange(6.0).reshape(2, 3)), np.array(5),
        np.zeros((0, 3)), np.zeros((3, 0, 2), "f4"), np.arange(4, dtype=">i2"), np.array(["é", "ab"], dtype=">U2"),
        np.array("ab"), np.array([b"a", b"bcd"]), np.array(["NaT", "2024-01-01"], "M8[us]"), np.array([1], "m8[25s]"),
        np.array([1], "m8[s]"), np.array([True, False]), np.array([np.nan, -0.0, np.inf], "f2"), np.array([1j], "c8"),
        np.broadcast_to(np.arange(3), (2, 3)), np.zeros(0, "U5"), np.arange(3)[::-1], np.arange(3, dtype="q"),
    ],
    ids=lambda a: f"{a.dtype.str}{a.shape}",
)  # fmt: skip
def test_an_array_comes_back_as_a_fresh_writable_contiguous_one(array: Any) -> None:
    for value in (array, [array], {"a": (b"odd", array)}):
        back = DEFAULT.decode(DEFAULT.encode(value))
        assert same(back, value)
    back = DEFAULT.decode(DEFAULT.encode(array))
    assert back.flags.writeable and back.flags.c_contiguous and back.flags.aligned and back.flags.owndata


@pytest.mark.parametrize(
    "scalar",
    [
        np.float64(1.5), np.float32(-0.0), np.float16(2), np.int64(-1), np.uint8(255), np.bool_(True), np.complex64(1j),
        np.datetime64("NaT", "s"), np.datetime64(5, "ns"), np.timedelta64(3, ("s", 25)), np.str_("é\0"), np.str_(""),
        np.bytes_(b"a\0"), np.bytes_(b""),
    ],
    ids=repr,
)  # fmt: skip
def test_a_numpy_scalar_comes_back_as_one_of_its_type(scalar: Any) -> None:
    back = DEFAULT.decode(DEFAULT.encode([scalar]))[0]
    assert type(back) is type(scalar) and back.dtype == scalar.dtype
    assert back.tobytes() == scalar.tobytes()
    assert not isinstance(scalar, (str, bytes)) or len(back) == len(scalar)


@pytest.mark.parametrize(
    "array",
    [
        np.array([None]),
        np.zeros(1, "i4,f8"),
        np.zeros(1, "V3"),
        np.zeros(1, np.longdouble),
        np.longdouble(1),
        np.void(b"a"),
    ],
    ids=lambda a: str(a.dtype),
)
def test_an_array_of_objects_records_or_long_doubles_is_refused(array: Any) -> None:
    with pytest.raises(CodecError, match="dtype"):
        DEFAULT.encode({"a": array})


def test_an_array_whose_bools_are_none_is_refused_when_it_is_written_too() -> None:
    with pytest.raises(CodecError, match="neither True nor False"):
        DEFAULT.encode(np.array([2], "u1").view(bool))


_WITHOUT = """
import sys
from artdag_fed.codec import DEFAULT
from artdag_fed.errors import CodecError
for text in sys.stdin.read().split():
    try:
        DEFAULT.decode(bytes.fromhex(text))
    except CodecError as error:
        assert "`import numpy` first" in str(error) and "nothing is wrong with its bytes" in str(error), error
    else:
        raise AssertionError(text)
    assert "numpy" not in sys.modules
assert DEFAULT.decode(DEFAULT.encode((1, b"2"))) == (1, b"2")
"""


def test_without_numpy_loaded_an_array_is_a_codec_error_that_says_to_import_it() -> None:
    values = [np.arange(3), np.float32(1), np.str_("a"), (1, np.zeros(2))]
    done = child(_WITHOUT, stdin=" ".join(DEFAULT.encode(v).hex() for v in values))
    assert done.returncode == 0, done.stderr


def test_numpy_half_imported_counts_as_not_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    payload = DEFAULT.encode(np.arange(3))
    monkeypatch.setitem(sys.modules, "numpy", type(sys)("numpy"))
    with pytest.raises(CodecError, match="import numpy"):
        DEFAULT.decode(payload)
    with pytest.raises(CodecError, match="object"):
        DEFAULT.encode(object())


# --- types of your own ----------------------------------------------------------------------


class Point:
    def __init__(self, x: Any, y: Any) -> None:
        self.x, self.y = x, y


def with_point(codec: Codec = DEFAULT, tag: str = "point", cls: type = Point) -> Codec:
    return codec.with_type(tag, cls, lambda p: (p.x, p.y), lambda xy: cls(*xy))


def test_a_registered_type_comes_back_and_the_codec_it_was_added_to_is_unchanged() -> None:
    codec = with_point()
    back = codec.decode(codec.encode({"p": [Point(1, Point(b"raw", np.arange(2)))]}))["p"][0]
    assert type(back) is Point and back.x == 1 and type(back.y) is Point and back.y.x == b"raw"
    with pytest.raises(CodecError, match="Point"):
        DEFAULT.encode(Point(1, 2))
    with pytest.raises(CodecError, match="register"):
        DEFAULT.decode(codec.encode(Point(1, 2)))


def test_a_notebook_cell_may_register_its_class_twice() -> None:
    again = type("Point", (Point,), {})
    codec = with_point(with_point(), cls=again)
    assert type(codec.decode(codec.encode(again(1, 2)))) is again
    assert [rule.cls for rule in codec.types] == [again]
    with pytest.raises(CodecError):
        codec.encode(Point(1, 2))  # exact types: the class that is gone is not the new one


def test_a_second_tag_for_a_class_is_written_and_the_first_still_read() -> None:
    old = with_point()
    new = with_point(old, tag="point2")
    assert b'"point2"' in new.encode(Point(1, 2))
    assert new.decode(old.encode(Point(1, 2))).y == 2


def test_a_subclass_of_a_registered_type_is_refused() -> None:
    with pytest.raises(CodecError, match="Sub"):
        with_point().encode(type("Sub", (Point,), {})(1, 2))


def test_what_a_rule_raises_or_gives_wrongly_is_a_codec_error() -> None:
    payload = with_point().encode(Point(1, 2))
    for decode in (lambda v: 1 / 0, lambda v: v, lambda v: {}[v]):
        with pytest.raises(CodecError, match="point"):
            DEFAULT.with_type("point", Point, lambda p: 1, decode).decode(payload)  # type: ignore[arg-type, return-value]
    for encode, said in (
        (lambda p: p.z, "AttributeError"),
        (lambda p: object(), "object"),
        (lambda p: p, "within itself"),
    ):
        with pytest.raises(CodecError, match=said):
            DEFAULT.with_type("point", Point, encode, lambda v: Point(v, v)).encode([Point(1, 2)])


def test_registering_what_cannot_be_registered_fails_at_once() -> None:
    def same_thing(value: Any) -> Any:
        return value

    for builtin in (int, str, dict, bytes, tuple, Decimal, datetime, type(None)):
        with pytest.raises(ValueError, match="takes no rule"):
            DEFAULT.with_type("tag", builtin, same_thing, same_thing)
    for tag in ("", "\ud800"):
        with pytest.raises(ValueError, match="no tag"):
            DEFAULT.with_type(tag, Point, same_thing, same_thing)
    for args in ((1, Point, same_thing, same_thing), ("a", 1, same_thing, same_thing), ("a", Point, 1, same_thing)):
        with pytest.raises(TypeError):
            DEFAULT.with_type(*args)  # type: ignore[arg-type]  # wrong on purpose


def test_a_codec_is_a_value() -> None:
    assert Codec() == DEFAULT and hash(Codec()) == hash(DEFAULT) and with_point() != DEFAULT
    assert pickle.loads(pickle.dumps(DEFAULT)).decode(b"J1") == 1
    with pytest.raises(AttributeError):
        DEFAULT.types = ()  # type: ignore[misc]  # wrong on purpose


def test_without_the_c_encoder_the_bytes_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    from artdag_fed import codec_plain

    monkeypatch.setattr("json.encoder.c_make_encoder", None)
    slow = codec_plain._json_writer()
    values: list[Any] = [{"a": [1, 2.5, None, True, 'é\n"\\/\u2028\x7f']}, [], {}, "x", -0.0, 1e300, 5e-324, 10**16 / 1]
    for value in values:
        assert slow(value) == codec_plain.plain_text(value)
    with pytest.raises(ValueError, match="JSON"):
        slow(math.nan)
