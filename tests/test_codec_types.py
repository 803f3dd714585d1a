"""The codec: arrays and scalars of NumPy, and types of your own."""

from __future__ import annotations

import math
import pickle
import sys
from datetime import datetime
from decimal import Decimal
from typing import Any

import numpy as np
import pytest

from artdag_fed.codec import DEFAULT, Codec
from artdag_fed.errors import CodecError
from tests.codec_values import child, same

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
