"""Small values that JSON has no word for, as flat JSON arrays: the name of the type, then texts and integers.

Rules: exact types; one spelling per value, and `read_scalar` refuses every other one; the spelling is the same on every
Python version, locale and decimal context. Refused: time zones that are rules instead of offsets (`zoneinfo`), since
the same name means other offsets with another time zone database. One NaN: its sign and payload bits are not kept.

>>> write_scalar(2**64), read_scalar(["uuid", "00000000000000000000000000000007"])
(['int', '10000000000000000'], UUID('00000000-0000-0000-0000-000000000007'))
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from fractions import Fraction
from math import isfinite
from types import MappingProxyType
from typing import Any
from uuid import UUID

from artdag_fed.errors import CodecError
from artdag_fed.names import shown

__all__ = ["INT_LEAST", "INT_MOST", "SCALARS", "SCALAR_TAGS", "read_scalar", "write_scalar"]

INT_LEAST, INT_MOST = -(1 << 63), (1 << 63) - 1
"""Integers within are JSON numbers; what most JSON readers take. Above, hexadecimal: decimal takes quadratic time."""

FRACTION_BITS = 1 << 16
"""Bits in a numerator or denominator: reducing takes quadratic time, here some milliseconds."""

_MICROSECOND = timedelta(microseconds=1)


# --- writing --------------------------------------------------------------------------------


def _write_int(value: int) -> Any:
    return value if INT_LEAST <= value <= INT_MOST else ["int", format(value, "x")]


def _part(value: float) -> float | str:
    return value if isfinite(value) else str(value)  # "nan", "inf", "-inf"


def _write_float(value: float) -> Any:
    return value if isfinite(value) else ["float", str(value)]


def _zone(zone: tzinfo | None) -> list[Any]:
    """Nothing for a naive time; else the offset in microseconds, and the name where it is not the usual one."""
    if zone is None:
        return []
    if type(zone) is not timezone:
        raise CodecError(
            f"has the time zone {shown(str(zone))} ({type(zone).__name__}), whose offsets depend on the machine's time "
            "zone database: expected none or a fixed datetime.timezone; try .astimezone(datetime.timezone.utc)"
        )
    offset, name = zone.utcoffset(None), zone.tzname(None)
    name.encode()  # half a surrogate pair is no text: UnicodeEncodeError
    usual = timezone(offset).tzname(None)
    return [offset // _MICROSECOND] if name == usual else [offset // _MICROSECOND, name]


def _write_datetime(v: datetime) -> list[Any]:
    clock = [v.year, v.month, v.day, v.hour, v.minute, v.second, v.microsecond, v.fold]
    return ["datetime", *clock, *_zone(v.tzinfo)]


def _write_fraction(value: Fraction) -> list[Any]:
    if max(value.numerator.bit_length(), value.denominator.bit_length()) > FRACTION_BITS:
        raise CodecError(f"has more than {FRACTION_BITS} bits above or below its line")
    return ["fraction", format(value.numerator, "x"), format(value.denominator, "x")]


SCALARS: Mapping[type, Callable[[Any], Any]] = MappingProxyType(
    {
        int: _write_int,
        float: _write_float,
        complex: lambda v: ["complex", _part(v.real), _part(v.imag)],
        date: lambda v: ["date", v.year, v.month, v.day],
        datetime: _write_datetime,
        time: lambda v: ["time", v.hour, v.minute, v.second, v.microsecond, v.fold, *_zone(v.tzinfo)],
        timedelta: lambda v: ["timedelta", v.days, v.seconds, v.microseconds],
        # str, not as_tuple, for speed; upper, because the case of its letters is a setting of the decimal context.
        Decimal: lambda v: ["decimal", str(v).upper()],
        Fraction: _write_fraction,
        UUID: lambda v: ["uuid", v.hex],
    }
)
"""By exact type, what writes a value of it: a flat array, or the number itself where JSON has it."""


def write_scalar(value: Any) -> Any:
    """The JSON of a value whose exact type is in `SCALARS`; `CodecError` says what is wrong with it, not where."""
    return SCALARS[type(value)](value)


# --- reading --------------------------------------------------------------------------------


def _read_zone(args: list[Any]) -> timezone | None:
    return timezone(timedelta(microseconds=args[0]), *args[1:]) if args else None


def _read_datetime(
    year: int, month: int, day: int, hour: int, minute: int, second: int, micro: int, fold: int, *zone: Any
) -> datetime:
    return datetime(year, month, day, hour, minute, second, micro, _read_zone([*zone]), fold=fold)


def _read_time(hour: int, minute: int, second: int, micro: int, fold: int, *zone: Any) -> time:
    return time(hour, minute, second, micro, _read_zone([*zone]), fold=fold)


def _read_fraction(above: str, below: str) -> Fraction:
    if max(len(above), len(below)) > FRACTION_BITS // 4 + 1:
        raise CodecError(f"a fraction of more than {FRACTION_BITS} bits")
    return Fraction(int(above, 16), int(below, 16))


_READERS: Mapping[str, Callable[..., Any]] = MappingProxyType(
    {
        "int": lambda text: int(text, 16),
        "float": float,
        "complex": lambda re, im: complex(float(re), float(im)),
        "date": date,
        "datetime": _read_datetime,
        "time": _read_time,
        "timedelta": timedelta,
        "decimal": Decimal,
        "fraction": _read_fraction,
        "uuid": UUID,
    }
)

SCALAR_TAGS = frozenset(_READERS)
"""The first items of the arrays that `read_scalar` reads."""


def read_scalar(node: list[Any]) -> Any:
    """The value of an array whose first item is in `SCALAR_TAGS`; anything may be raised for a wrong one.

    A spelling counts only if writing the value gives it again, in the types of its items too (True is not 1).
    """
    value = _READERS[node[0]](*node[1:])
    again = write_scalar(value)
    if again != node or [*map(type, again)] != [*map(type, node)]:
        raise CodecError(f"a value of type {node[0]} that is not spelt as such")
    return value
