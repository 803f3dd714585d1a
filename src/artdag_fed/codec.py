"""Results to bytes and back: data only, exact types only.

Rules: what comes out of `decode` is what went into `encode`, in value and type; the same value has the same bytes on
every Python version and under every hash seed; `decode` runs no code that a payload names, and whatever the bytes are,
only `CodecError` comes out of it. Refused, not flattened: subclasses (IntEnum, namedtuple, OrderedDict), half surrogate
pairs, containers nested more than 64 deep or within themselves, time zones that are no fixed offset, arrays of objects.
Dicts keep their order, so equal dicts in another order are other bytes, with another digest. What is read shares no
memory with its payload. `encode` has one spelling per value; `decode` takes JSON that is spelt otherwise too, since a
digest is one of bytes, and never of what they mean.

The first byte of a payload is its kind:

    J  the rest is JSON in UTF-8, and means what it says: null, true, false, integers of 64 bits with their sign, finite
       floats in Python's shortest repr, text, arrays as lists, objects as dicts. Written without white space; only `"`,
       `\\` and control characters are escaped. Of equal keys in an object the last one counts. Numbers beyond these
       bounds are never written; they are read as Python reads them, a float that is too large as infinity.
    B  the rest is the value, a `bytes`.
    T  everything else: the length of a JSON text (8 bytes, big-endian), that text, and buffers one behind the other, in
       the order in which the text names them. In the text a number, text, null, true or false means itself; an array
       begins with a tag that says what it is; objects stand under "json" alone, and have no key twice.

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

from artdag_fed.codec_plain import is_plain, plain_text, read_plain
from artdag_fed.codec_tagged import Reader, TypeRule, Writer, said
from artdag_fed.errors import CodecError

__all__ = ["DEFAULT", "Codec", "TypeRule", "codec_or_default"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Codec:
    """Results <-> bytes, for the builtin types and those of `types`. Immutable: `with_type` gives another one.

    Of two rules for one class the later one writes; both read.
    """

    types: tuple[TypeRule, ...] = ()
    _by_class: dict[type, TypeRule] = field(init=False, repr=False, compare=False)
    _by_tag: dict[str, TypeRule] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
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
        if is_plain(value):
            try:
                return ("J" + plain_text(value)).encode()
            except ValueError:
                pass  # nan or an infinity, which the tagged form carries; or a lone surrogate, which it can place
        return Writer(self._by_class).payload(value)

    def decode(self, payload: bytes | bytearray | memoryview) -> Any:
        """The value of a payload. Only `CodecError` comes out of it, whatever the bytes.

        The memory it takes is linear in the size of the payload, whatever sizes that claims. Raises `TypeError`
        where `payload` is no contiguous bytes-like object.
        """
        if type(payload) is not bytes:
            payload = memoryview(payload).cast("B")
        try:
            kind = payload[:1]
            if kind == b"J":
                return read_plain(payload if type(payload) is bytes else bytes(payload))
            if kind == b"B":
                return bytes(memoryview(payload)[1:])
            if kind == b"T":
                return Reader(self._by_tag, memoryview(payload)).value()
        except CodecError:
            raise
        except Exception as error:  # what a constructor or a rule of the user's says of arguments that it cannot take
            raise CodecError(f"a payload that is no value: {said(error)}") from error
        raise CodecError(
            f"a payload of the unknown kind {bytes(kind)!r}: expected J, B or T; a newer version may have made it"
        )


DEFAULT = Codec()
"""The codec of the builtin types. It never changes: `with_type` gives another one."""


def codec_or_default(codec: Codec | None) -> Codec:
    """The codec that was given, or `DEFAULT` for None; `TypeError` for what is none."""
    if codec is not None and not isinstance(codec, Codec):
        raise TypeError(f"codec must be a Codec, not {type(codec).__name__}")
    return DEFAULT if codec is None else codec
