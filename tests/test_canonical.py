"""canonical: one value, one text; another value or type, another text; everything else refused by place."""

from __future__ import annotations

import enum
import json
import math
import random
import struct
from collections import OrderedDict, namedtuple
from json import encoder as json_encoder
from typing import Any

import pytest

from artdag_fed import canonical as module
from artdag_fed.canonical import DEPTH, canonical, from_canonical, from_canonical_unchecked
from artdag_fed.errors import CodecError

Point = namedtuple("Point", "x y")


class Level(enum.IntEnum):
    HIGH = 1


class Word(str):
    __slots__ = ()


def nested(levels: int, make: Any = lambda inner: [inner]) -> Any:
    value: Any = 0
    for _ in range(levels):
        value = make(value)
    return value


# --- a second implementation, written from the specification alone ----------------------------


def quoted(text: str) -> str:
    short = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\b": "\\b", "\f": "\\f"}
    return '"' + "".join(short.get(c, f"\\u{ord(c):04x}" if c < " " else c) for c in text) + '"'


def by_the_book(value: Any) -> str:
    match value:
        case None | True | False:
            return {None: "null", True: "true", False: "false"}[value]
        case str():
            return quoted(value)
        case int():
            return str(value) if -(2**63) <= value < 2**63 else f'["i","{value:x}"]'
        case float():
            return f'["f","{struct.pack(">d", value).hex()}"]'
        case bytes():
            return f'["b","{value.hex()}"]'
        case tuple() | list():
            return "[" + ",".join(['"t"' if isinstance(value, tuple) else '"l"', *map(by_the_book, value)]) + "]"
        case dict():
            return "{" + ",".join(f"{quoted(k)}:{by_the_book(value[k])}" for k in sorted(value)) + "}"
    raise AssertionError(value)


def random_text(rng: random.Random) -> str:
    alphabet = 'ab"\\/\n\t\x00\x1f\x7fé\u0301\u2028\uffff\U0001f600'
    return "".join(rng.choices(alphabet, k=rng.randrange(5)))


def random_value(rng: random.Random, depth: int = 0) -> Any:
    kind = rng.randrange(10 if depth < 4 else 7)
    if kind < 3:
        return rng.choice(
            [None, True, False, 0, 1, -1, 0.0, -0.0, 1.0, "", "1", b"", b"1", 2**63 - 1, 2**63, -(2**63) - 1]
        )
    if kind == 3:
        return rng.randint(-(2 ** rng.randrange(1, 200)), 2 ** rng.randrange(1, 200))
    if kind == 4:
        return struct.unpack(">d", struct.pack(">Q", rng.randrange(0x7FF << 52) | rng.randrange(2) << 63))[0]
    if kind == 5:
        return random_text(rng)
    if kind == 6:
        return rng.randbytes(rng.randrange(6))
    items = [random_value(rng, depth + 1) for _ in range(rng.randrange(4))]
    return tuple(items) if kind == 7 else items if kind == 8 else {random_text(rng): item for item in items}


RANDOM_VALUES = [random_value(random.Random(seed)) for seed in range(3000)]


def test_random_values_are_spelt_as_the_specification_says() -> None:
    assert [canonical(value) for value in RANDOM_VALUES] == [by_the_book(value) for value in RANDOM_VALUES]


def test_random_values_come_back_with_their_types() -> None:
    for value in RANDOM_VALUES:
        assert repr(from_canonical(canonical(value))) == repr(sorted_keys(value))


def sorted_keys(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: sorted_keys(value[key]) for key in sorted(value)}
    return type(value)(map(sorted_keys, value)) if isinstance(value, (list, tuple)) else value


def test_values_that_differ_in_value_or_type_have_different_texts() -> None:
    distinct = {repr(sorted_keys(value)) for value in RANDOM_VALUES}
    assert len({canonical(value) for value in RANDOM_VALUES}) == len(distinct) > 500


# --- the form -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "null"),
        (True, "true"),
        (1, "1"),
        (1.0, '["f","3ff0000000000000"]'),
        ("1", '"1"'),
        (b"1", '["b","31"]'),
        (-0.0, '["f","8000000000000000"]'),
        (2**63 - 1, "9223372036854775807"),
        (2**63, '["i","8000000000000000"]'),
        (-(2**63), "-9223372036854775808"),
        (-(2**63) - 1, '["i","-8000000000000001"]'),
        ((), '["t"]'),
        ([], '["l"]'),
        ({}, "{}"),
        ([1, (2,)], '["l",1,["t",2]]'),
        ({"b": 1, "a": {"d": [], "c": ""}}, '{"a":{"c":"","d":["l"]},"b":1}'),
        ({"b": 1, "a": None}, '{"a":null,"b":1}'),
        ("é\u2028\x7f/", '"é\u2028\x7f/"'),
        ('"\\\n\r\t\b\f\x00\x1f', '"\\"\\\\\\n\\r\\t\\b\\f\\u0000\\u001f"'),
    ],
)
def test_each_kind_has_its_spelling(value: object, text: str) -> None:
    assert canonical(value) == text
    assert repr(from_canonical(text)) == repr(sorted_keys(value))


def test_keys_are_sorted_by_code_point_and_not_by_utf_16_unit() -> None:
    assert canonical({"\U00010000": 1, "\uffff": 2}) == '{"\uffff":2,"\U00010000":1}'
    assert canonical({"\U00010000": 1.0, "\uffff": 2}).startswith('{"\uffff":2,')


def test_text_is_not_normalised() -> None:
    assert canonical("\u00e9") != canonical("e\u0301")


def test_an_int_of_many_digits_is_no_matter_of_the_digits_limit() -> None:
    big = 7**20_000
    assert from_canonical(canonical([big, -big])) == [big, -big]


def test_a_dict_of_plain_values_is_written_without_being_converted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_tag", None)
    assert canonical({"radius": 3, "name": "é", "flag": True, "mask": None}) == (
        '{"flag":true,"mask":null,"name":"é","radius":3}'
    )


def test_without_the_c_encoder_the_text_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_encoder, "c_make_encoder", None)
    monkeypatch.setattr(module, "_encode", module._build_encoder())
    assert [canonical(value) for value in RANDOM_VALUES[:300]] == [by_the_book(value) for value in RANDOM_VALUES[:300]]


@pytest.mark.parametrize("other", [lambda one_argument: None, lambda *_: lambda value, level: ("{}",)])
def test_a_c_encoder_of_another_make_is_not_used(monkeypatch: pytest.MonkeyPatch, other: Any) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(json_encoder, "c_make_encoder", other)
        encode = module._build_encoder()
    monkeypatch.setattr(module, "_encode", encode)
    assert [canonical(value) for value in RANDOM_VALUES[:300]] == [by_the_book(value) for value in RANDOM_VALUES[:300]]


# --- refusals -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "place", "why"),
    [
        (math.nan, "value ", "finite"),
        ({"a": math.inf}, "value['a'] ", "finite"),
        ({"size": [-math.inf]}, "value['size'][0] ", "finite"),
        ({"a": (1, {"b": Level.HIGH})}, "value['a'][1]['b'] ", "Level, a subclass of int: pass int(it)"),
        ({"a": Point(1, 2)}, "value['a'] ", "subclass of tuple"),
        (OrderedDict(a=1), "value ", "subclass of dict"),
        ({"a": Word("x")}, "value['a'] ", "subclass of str"),
        ({Word("a"): 1}, "value ", "keys must be exactly str"),
        ({1: 2}, "value ", "a key of type int"),
        ([{None: 2}], "value[0] ", "a key of type NoneType"),
        ([{"x": 1}, {"y": {2.0: 0}}], "value[1]['y'] ", "a key of type float"),
        ({"a": {1, 2}}, "value['a'] ", "sorted(it)"),
        ({"a": bytearray(b"x")}, "value['a'] ", "bytes(it)"),
        ({"a": 1j}, "value['a'] ", "of type complex: expected"),
        ({"a": object()}, "value['a'] ", "of type object: expected"),
        ({"a": int}, "value['a'] ", "of type type: expected"),
        ("\ud800", "value ", "lone surrogate"),
        ({"a": "\udfff"}, "value['a'] ", "lone surrogate"),
        ({"\ud800": 1}, "value['\\ud800'] ", "lone surrogate"),
        ({"a": [0, ("é", "\ud83d")]}, "value['a'][1][1] ", "lone surrogate"),
    ],
)
def test_what_has_no_form_is_refused_by_its_place(value: object, place: str, why: str) -> None:
    with pytest.raises(CodecError) as caught:
        canonical(value)
    message = str(caught.value)
    assert message.startswith(place), message
    assert why in message, message
    assert caught.value.__suppress_context__


def test_numpy_scalars_and_arrays_are_refused_with_the_way_out() -> None:
    numpy = pytest.importorskip("numpy")
    with pytest.raises(CodecError, match=r"^params\['n'\] is of type numpy\.int64: pass it\.item\(\)"):
        canonical({"n": numpy.int64(3)}, "params")
    with pytest.raises(CodecError, match=r"subclass of float: pass float\(it\)"):
        canonical({"n": numpy.float64(3)})
    with pytest.raises(CodecError, match="result of a node"):
        canonical({"n": numpy.zeros(3)})


@pytest.mark.parametrize("make", [lambda v: [v], lambda v: (v,), lambda v: {"k": v}, lambda v: {"k": [1.5, v]}])
def test_nesting_is_allowed_to_the_limit_and_not_beyond(make: Any) -> None:
    per_turn = 2 if isinstance(make(0), dict) and isinstance(make(0)["k"], list) else 1
    at_limit = nested(DEPTH // per_turn, make)
    assert from_canonical(canonical(at_limit)) == at_limit
    for deeper in (make(at_limit), [at_limit]):
        with pytest.raises(CodecError, match="nested more than 64 deep"):
            canonical(deeper)


def test_a_container_that_holds_itself_is_refused_in_one_short_line() -> None:
    loop: list[Any] = []
    loop.append(loop)
    ring: dict[str, Any] = {}
    ring["x" * 1000 + "\n"] = (ring,)
    for value in (loop, ring):
        with pytest.raises(CodecError, match="holds itself") as caught:
            canonical(value)
        assert len(str(caught.value)) < 400
        assert "\n" not in str(caught.value)


def test_a_wide_flat_value_is_not_deep() -> None:
    assert len(from_canonical(canonical([[]] * 1000))) == 1000


@pytest.mark.parametrize(
    "text",
    [
        "",
        " 1",
        "1 ",
        "1.0",
        "1e3",
        "-0",
        "01",
        "NaN",
        "Infinity",
        "nul",
        "[]",
        "[1]",
        '["x",1]',
        '["f"]',
        '["f",1]',
        '["f","3ff0"]',
        '["f","3FF0000000000000"]',
        '["f","7ff0000000000000"]',
        '["f","fff8000000000000"]',
        '["f","3ff0000000000000",1]',
        '["i","1"]',
        '["i","08000000000000000"]',
        '["i","8_000000000000000"]',
        '["i"," 8000000000000000"]',
        '["i","0x8000000000000000"]',
        '["i",""]',
        '["b","f"]',
        '["b","FF"]',
        '["b","f f"]',
        '["b","é"]',
        '["l", 1]',
        '[["l"]]',
        '{"a":1,"a":1}',
        '{"b":1,"a":1}',
        '{"a": 1}',
        '{"a":1,}',
        '"\\u0061"',
        '"\\/"',
        '"\\ud800"',
        '"\\ud83d\\ude00"',
        '"\ud800"',
        '"\n"',
        "9223372036854775808",
        "\ufeff1",
        "1" * 5000,
        '["i","' + "f" * 16 + 'G"]',
    ],
)
def test_text_that_canonical_would_not_write_is_refused(text: str) -> None:
    with pytest.raises(CodecError):
        from_canonical(text)


@pytest.mark.parametrize("level", ['["l",{}]', '["t",{}]', '{{"a":{}}}'])
@pytest.mark.parametrize("levels", [DEPTH + 1, 500, 100_000])
def test_text_that_is_nested_too_deep_is_refused_without_a_recursion_error(level: str, levels: int) -> None:
    left, right = level.format("|").split("|")
    text = left * levels + "0" + right * levels
    for read in (from_canonical, from_canonical_unchecked):
        with pytest.raises(CodecError, match="nested"):
            read(text)


def test_the_text_is_json_that_any_parser_reads() -> None:
    for value in RANDOM_VALUES[:300]:
        json.loads(canonical(value))
