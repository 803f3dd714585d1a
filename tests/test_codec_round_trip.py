"""The codec: what goes in comes out, and the same bytes everywhere.

`vectors/codec.json` pins the bytes: each entry has a Python expression (ours, so it may be evaluated) and its payload.
"""

from __future__ import annotations

import copy
import json
import math
import random
import threading
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal, localcontext
from fractions import Fraction
from typing import Any
from uuid import UUID

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from artdag_fed.codec import DEFAULT
from tests.codec_values import VECTORS, child, same

NAMES = {
    "Decimal": Decimal, "Fraction": Fraction, "UUID": UUID, "date": date, "datetime": datetime, "np": np, "time": time,
    "timedelta": timedelta, "timezone": timezone,
}  # fmt: skip


def value_of(vector: dict[str, str]) -> Any:
    return eval(vector["python"], dict(NAMES))  # noqa: S307  # the expressions are this project's own test data


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
