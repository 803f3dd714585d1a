"""NumPy arrays and scalars as a dtype, a shape and raw bytes, without ever importing NumPy.

Rules: elements of a fixed size and layout only: bool, int, uint, float and complex up to 64 bits a part, datetime64,
timedelta64, fixed bytes and text. The byte order is kept as it is; the elements come in C order, and what is read
is a new, writable, aligned, C-contiguous array, copied once. Refused: objects (they would need pickle), long doubles
(another layout on each platform), structured and void dtypes (their padding holds whatever was in memory: send a dict
of the columns), and every subclass (masked, matrix, record arrays: they mean more than their elements). C types of one
layout are one (`longlong` is read as `int64`), as their dtypes are equal.

>>> is_array([1, 2]), is_numpy_scalar(1)
(False, False)
"""

from __future__ import annotations

import re
import sys
from math import prod
from typing import Any

from artdag_fed.errors import CodecError
from artdag_fed.names import shown

__all__ = [
    "is_array",
    "is_numpy_scalar",
    "numpy",
    "read_array",
    "read_numpy_scalar",
    "write_array",
    "write_numpy_scalar",
]

_carried = re.compile(
    r"\|b1|\|[iu]1|[<>][iu][248]|[<>]f[248]|[<>]c(?:8|16)|[<>][mM]8(?:\[[0-9]*[A-Za-z]+\])?|\|S[1-9][0-9]*|[<>]U[1-9][0-9]*",
    re.ASCII,
).fullmatch

DIMENSIONS = 64  # what NumPy has at most

EMPTY_BYTES = 1 << 20
"""Bytes in one element of an array without any: NumPy sets aside one element even then."""


def numpy() -> Any:
    """The NumPy module where something else has imported it, else None."""
    module = sys.modules.get("numpy")
    return module if hasattr(module, "ndarray") else None  # while it is being imported, it is there but not whole


def is_array(value: object) -> bool:
    """Whether `value` is an `ndarray`, and of no subclass."""
    np = numpy()
    return np is not None and type(value) is np.ndarray


def is_numpy_scalar(value: object) -> bool:
    """Whether `value` is of one of NumPy's own scalar types, and of no subclass of them."""
    np = numpy()
    return np is not None and isinstance(value, np.generic) and type(value) is value.dtype.type


def write_array(array: Any) -> tuple[str, list[int], memoryview]:
    """`(dtype, shape, bytes of the elements)` of an `ndarray`, not copied where it is C-contiguous already."""
    np = numpy()
    spelt = _spelling(array.dtype)
    raw = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    _check_elements(np, array.dtype, raw)
    return spelt, list(array.shape), memoryview(raw)


def read_array(spelt: object, shape: object, raw: memoryview | bytes) -> Any:
    """The new array of that dtype and shape whose elements are `raw`, which must have just the bytes they need."""
    np, dtype = _loaded(spelt)
    if type(shape) is not list or len(shape) > DIMENSIONS or not all(type(n) is int and n >= 0 for n in shape):
        raise CodecError("an array whose shape is no list of sizes")
    if prod(shape) * dtype.itemsize != len(raw):
        raise CodecError(f"an array of shape {shown(repr(shape))} and dtype {dtype} that comes with {len(raw)} bytes")
    _check_elements(np, dtype, np.frombuffer(raw, np.uint8))
    return np.frombuffer(raw, dtype).reshape(shape).copy()


def write_numpy_scalar(value: Any) -> tuple[str, str]:
    """`(dtype, hexadecimal bytes)`; text and bytes are spelt without their size: an empty one has none in NumPy."""
    if value.dtype.kind == "U":
        value.encode()  # half a surrogate pair is no text: UnicodeEncodeError
        return "U", str.__str__(value)  # not str(value): that drops NULs at the end
    if value.dtype.kind == "S":
        return "S", bytes(value).hex()
    return _spelling(value.dtype), value.tobytes().hex()


def read_numpy_scalar(spelt: object, text: str) -> Any:
    """The NumPy scalar that `write_numpy_scalar` spelt so."""
    if spelt in ("U", "S"):
        np, _ = _loaded("|b1")
        return np.str_(text) if spelt == "U" else np.bytes_(_bytes_of(text))
    if type(spelt) is str and spelt[1:2] in ("U", "S"):
        raise CodecError(f"a scalar of the dtype {shown(spelt)}, which is spelt without its size")
    return read_array(spelt, [], _bytes_of(text))[()]


def _bytes_of(text: str) -> bytes:
    raw = bytes.fromhex(text)
    if raw.hex() != text:
        raise CodecError("bytes that are not spelt in lower-case hexadecimal digits")
    return raw


def _spelling(dtype: Any) -> str:
    """The dtype as it is written, such as `<f8`; `CodecError` where arrays of it are not carried."""
    spelt: str = dtype.str
    if dtype.fields is not None or dtype.subdtype is not None or not _carried(spelt):
        raise CodecError(
            f"has the dtype {shown(str(dtype))}: expected bool, int, uint, float or complex of at most 64 bits a part, "
            "datetime64, timedelta64, or fixed bytes or text (send a structured array as a dict of its columns)"
        )
    return spelt


def _loaded(spelt: object) -> tuple[Any, Any]:
    """`(numpy, dtype)` for a spelling that came from outside."""
    if type(spelt) is not str or not _carried(spelt):
        raise CodecError(f"an array of the dtype {shown(spelt)}, which is none that is carried")
    np = numpy()
    if np is None:
        raise CodecError(
            "this result holds a NumPy array or scalar, and NumPy is not loaded: `import numpy` first, then read it "
            "again; nothing is wrong with its bytes"
        )
    dtype = np.dtype(spelt)
    if dtype.str != spelt:
        raise CodecError(f"an array of the dtype {shown(spelt)}, which NumPy spells {dtype.str}")
    return np, dtype


def _check_elements(np: Any, dtype: Any, raw: Any) -> None:
    """Refuse bytes that are no bool, and numbers that are no character: NumPy would only fail when they are used."""
    if not raw.size:
        if dtype.itemsize > EMPTY_BYTES:
            raise CodecError(f"is an empty array whose elements would have {dtype.itemsize} bytes each")
    elif dtype.kind == "b" and raw.max() > 1:
        raise CodecError("is an array of bool with an element that is neither True nor False")
    elif dtype.kind == "U" and raw.view(dtype.str[0] + "u4").max() > sys.maxunicode:
        raise CodecError("is an array of text with an element that is no text")
