"""Results to bytes and back: data only, exact types only.

Rules: what comes out of `decode` is what went into `encode`, in value and type; the same value has the same bytes on every
Python version and under every hash seed; `decode` runs no code that a payload names, and whatever the bytes are, only
`CodecError` comes out of it. Refused, not flattened: subclasses (IntEnum, namedtuple, OrderedDict), lone surrogates,
containers nested more than 64 deep or within themselves, time zones that are no fixed offset, arrays of objects.
Dicts keep their order, so equal dicts in another order are other bytes, with another digest.

The first byte of a payload is its kind:

    J  the rest is JSON in UTF-8, and means what it says: null, true, false, integers of 64 bits with sign, finite floats
       in Python's shortest repr, text, arrays as lists, objects as dicts. Written without white space; only `"`, `\\` and
       control characters are escaped. Of equal keys in an object the last one counts.
    B  the rest is the value, a `bytes`.
    T  everything else: the length of a JSON text (8 bytes, big-endian), that text, and buffers one behind the other, in
       the order in which the text names them. In the text, numbers, text, null, true and false mean themselves; an array
       begins with a tag that says what it is; objects stand under "json" alone, without equal keys.

        ["json", x]                                  a list or dict that as a payload of its own would be of kind J
        ["list", x...]  ["tuple", x...]              in order
        ["set", x...]  ["frozenset", x...]           sorted by the text of x, then by its buffers
        ["dict", key, x, key, x...]                  in order
        ["bytes", n]  ["bytearray", n]               the next n bytes of the buffers
        ["ndarray", dtype, [size...], n]             likewise; see `codec_arrays`
        ["numpy", dtype, hex]                        a NumPy scalar; see there
        ["type", tag, x]                             a registered type
        ["int", hex]  ["float", "nan"]  ["uuid", hex] ...   see `codec_scalars`

>>> DEFAULT.encode({"i": 5}), DEFAULT.decode(b'J[1, 2.5]')
(b'J{"i":5}', [1, 2.5])
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from artdag_fed.codec_plain import DEPTH, is_plain, read_plain, to_json
from artdag_fed.codec_tagged import Reader, TypeRule, Writer, check_rule, said
from artdag_fed.errors import CodecError

__all__ = ["DEFAULT", "Codec", "TypeRule"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Codec:
    """Results <-> bytes, with the builtin types and those of `types`. Immutable: `with_type` gives a new one.

    Of two rules for a class, the later one writes; both read. Raises `ValueError` for a rule on a type that is builtin here.
    """

    types: tuple[TypeRule, ...] = ()
    _by_class: dict[type, TypeRule] = field(init=False, repr=False, compare=False)
    _by_tag: dict[str, TypeRule] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        for rule in self.types:
            check_rule(rule)
        object.__setattr__(self, "_by_class", {rule.cls: rule for rule in self.types})
        object.__setattr__(self, "_by_tag", {rule.tag: rule for rule in self.types})

    def with_type(self, tag: str, cls: type[T], encode: Callable[[T], Any], decode: Callable[[Any], T]) -> Codec:
        """A codec that also carries objects whose exact type is `cls`, under the name `tag`.

        `encode(obj)` gives any value that this codec carries; `decode(value)` gives the object back, exactly a `cls`. A
        rule of the same tag is replaced, so a notebook cell may run twice; another tag for the same class is written
        from then on, and the older one still read. Both codecs of an exchange need the rule.

        >>> class Point:
        ...     def __init__(self, x, y): self.x, self.y = x, y
        >>> codec = Codec().with_type("point", Point, lambda p: (p.x, p.y), lambda xy: Point(*xy))
        >>> codec.decode(codec.encode([Point(1, 2)]))[0].y
        2
        """
        others = tuple(rule for rule in self.types if rule.tag != tag)
        return Codec((*others, TypeRule(tag, cls, encode, decode)))

    def encode(self, value: object) -> bytes:
        """The payload of `value`. `CodecError` names the type that cannot be carried, and where in `value` it is."""
        if type(value) is bytes:
            return b"B" + value
        if is_plain(value, DEPTH):
            try:
                return ("J" + to_json(value)).encode()
            except ValueError:
                pass  # nan or an infinity, which the tagged form carries; or a lone surrogate, which it can place
        return Writer(self._by_class).payload(value)

    def decode(self, payload: bytes | bytearray | memoryview) -> Any:
        """The value of a payload. Only `CodecError` comes out of it, whatever the bytes; never more than a few copies."""
        if type(payload) is not bytes:
            payload = memoryview(payload).cast("B")
        try:
            if payload[:1] == b"J":
                return read_plain(bytes(payload))
            if payload[:1] == b"B":
                return bytes(memoryview(payload)[1:])
            if payload[:1] == b"T":
                return Reader(self._by_tag, memoryview(payload)).value()
        except CodecError:
            raise
        except Exception as error:  # what a constructor or a rule of the user's says of arguments that it cannot take
            raise CodecError(f"a payload that is no value: {said(error)}") from error
        raise CodecError(
            f"a payload of an unknown kind {bytes(payload[:1])!r}: expected J, B or T; is it of a newer version?"
        )


DEFAULT = Codec()
"""The codec of the builtin types. It never changes: `with_type` gives another one."""
