"""Bundles that the tests write and read, and streams made by hand, byte by byte."""

from __future__ import annotations

import hashlib
import io
import struct
from collections.abc import Iterable
from typing import Any

from artdag_fed import Limits, Record, read_bundle, write_bundle
from artdag_fed.bundle import MAGIC

everyone = {"alice", "bob", "carol"}.__contains__


def written(records: Iterable[Record]) -> bytes:
    stream = io.BytesIO()
    write_bundle(stream, records)
    return stream.getvalue()


def read(stream: bytes, **limits: int) -> list[Record]:
    return list(read_bundle(io.BytesIO(stream), Limits(**limits)))


def some(count: int) -> list[Record]:
    """Records of several origins, with and without recipes and signatures."""
    return [
        Record(
            f"c{i}",
            {"i": i},
            "alice" if i % 3 else "bob",
            frozenset({"carol", "dave"} if i % 2 else ()),
            b"recipe %d" % i if i % 5 == 0 else b"",
            b"s" * (i % 4),
        )
        for i in range(count)
    ]


# A writer of our own, of any bytes that one likes, by the words of docs/wire-format.md alone.


def header(
    *,
    n: int | None = None,
    m: int | None = None,
    lineages: Iterable[int] = (0,),
    places: Iterable[int] = (0,),
    sizes: Iterable[int] = (2,),
    recipes: Iterable[int] = (0,),
    signed: Iterable[int] = (0,),
    digests: bytes | None = None,
    signatures: bytes = b"",
    names: str | bytes = "alice\nc1",
) -> bytes:
    lineages, places, sizes, recipes, signed = map(list, (lineages, places, sizes, recipes, signed))
    numbers = struct.pack(">II", len(places) if n is None else n, len(lineages) if m is None else m)
    for form, column in zip("IIQII", (lineages, places, sizes, recipes, signed), strict=True):
        numbers += struct.pack(f">{len(column)}{form}", *column)
    if digests is None:
        digests = hashlib.sha256(b"J1").digest() * len(places)
    return numbers + digests + signatures + (names.encode() if isinstance(names, str) else names)


def stream_of(*blocks: tuple[bytes, bytes], count: int | None = None) -> bytes:
    """A bundle of (header, bodies) with a true trailer."""
    checked = hashlib.sha256(MAGIC)
    out, records = MAGIC, 0
    for head, bodies in blocks:
        prefixed = struct.pack(">I", len(head)) + head
        checked.update(prefixed)
        out += prefixed + bodies
        records += int.from_bytes(head[:4], "big")
    end = bytes(4) + struct.pack(">Q", records if count is None else count)
    checked.update(end)
    return out + end + checked.digest()


class Trickle(io.RawIOBase):
    """A file that gives, and takes, a few bytes at a time."""

    def __init__(self, data: bytes = b"", most: int = 7) -> None:
        self.data, self.most, self.got = data, most, b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        size = min(len(buffer), self.most)
        given, self.data = self.data[:size], self.data[size:]
        buffer[: len(given)] = given
        return len(given)

    def write(self, data: Any) -> int:
        taken = bytes(data[: self.most])
        self.got += taken
        return len(taken)
