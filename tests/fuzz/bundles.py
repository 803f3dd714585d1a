"""Bundles, changed so that they get behind the check at their end, and what must hold for each.

Rules: a mutator parses leniently, changes records, origins and blocks, or the bytes of a header, and makes lengths,
digests, the count and the check of the trailer right again; now and then one number is left wrong, under a right check.
The same seed and bytes give the same bytes.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import random
import struct
from dataclasses import dataclass, field, replace
from typing import Any

from artdag_fed.admission import Gate
from artdag_fed.bundle import MAGIC, read_bundle, write_bundle
from artdag_fed.errors import FederationError
from artdag_fed.limits import Limits
from artdag_fed.record import Record
from tests.fuzz import payloads
from tests.fuzz.payloads import CODEC, Raw

__all__ = ["SMALL", "check", "mutated", "read"]

SMALL = Limits(
    records=16, bytes=1 << 12, record_bytes=256, recipe_bytes=64, header_bytes=1 << 11, nesting=4, lineage=2, origins=4
)


# --- what must hold -------------------------------------------------------------------------


class Drips(io.BytesIO):
    """A stream that gives few bytes at a time."""

    def read(self, size: int | None = -1, /) -> bytes:
        return super().read(min(size or 0, 7))


class Takes(io.RawIOBase):
    """A raw file that takes few bytes at a time."""

    def __init__(self) -> None:
        self.taken = bytearray()

    def write(self, data: Any, /) -> int:
        piece = bytes(data[:11])
        self.taken += piece
        return len(piece)


def read(bundle: bytes) -> list[Record]:
    """The records, under limits and from a stream that the bytes themselves choose, so that nothing else counts."""
    way = sum(bundle[-4:])
    stream = Drips(bundle) if way % 4 == 0 else io.BytesIO(bundle)
    return list(read_bundle(stream, SMALL if way % 3 == 0 else Limits(), codec=CODEC if way % 2 else None))


def check(bundle: bytes) -> None:
    """Only a `FederationError` comes out; what is read is judged, written, and read as the same; one header a block."""
    try:
        records = read(bundle)
    except FederationError as error:
        assert str(error).isprintable() and len(str(error)) < 1000, str(error)
        return
    gate = Gate(trusted=_trusted, verify=_verify if bundle[-1] % 2 else None, limits=SMALL, encodes=bundle[-1] % 5 == 0)
    try:
        for record in records:
            gate.judge(record)
    except FederationError as error:
        assert str(error).isprintable(), str(error)
    stream = Takes() if bundle[-1] % 8 == 0 else io.BytesIO()
    try:
        write_bundle(stream, records)
    except FederationError as error:  # a name or digest that is none, or a payload that was left out
        assert str(error).isprintable(), str(error)
        return
    again = bytes(stream.taken) if isinstance(stream, Takes) else stream.getvalue()
    if len(apart(bundle)[1]) <= 1:
        assert again == bundle, "records in one block have one spelling"
    assert list(map(_row, read_bundle(io.BytesIO(again)))) == list(map(_row, records))
    if records and bundle[-1] % 16 == 1:
        misused(records, bundle[-2])


def misused(records: list[Record], way: int) -> None:
    """What else a program may hand to the writer: many records, a file that takes nothing, what is no record. It is
    written, or the error that is documented comes."""
    first = records[0]
    unfit: tuple[Any, ...] = (
        None,
        Record("c1", object(), "alice"),
        Record("", 1, "alice"),
        Record.encoded("c1", b"J1", first.digest.upper() + "0", "alice"),
        Record.encoded("c1", b"J1", "x" * 64, "alice"),
        Record("c1", 1, "alice", (), bytearray(b"recipe")),  # type: ignore[arg-type]  # wrong on purpose
    )
    if way % 16 == 0:
        stream = io.BytesIO()
        assert write_bundle(stream, records * (1025 // len(records) + 1)) > 1024
        assert len(list(read_bundle(io.BytesIO(stream.getvalue())))) > 1024
    elif way % 16 < 8:
        with contextlib.suppress(FederationError, TypeError):
            write_bundle(io.BytesIO(), [first, unfit[way % len(unfit)]])
            raise AssertionError("what is no record was written")
    else:
        with contextlib.suppress(BlockingIOError, TypeError):
            write_bundle(Says((None, len(MAGIC), -1, "all")[way % 4], raw=way % 16 < 12), records)


class Says(io.RawIOBase):
    """A file that says of every write what it was told to say; `raw`: whether it is one of the standard library."""

    def __init__(self, said: Any, *, raw: bool) -> None:
        self.said = said
        self.raw = raw

    def write(self, data: Any, /) -> Any:
        return self.said if self.raw else None


def _row(record: Record) -> tuple[object, ...]:
    some = record.cid, record.payload, record.digest, record.peer, record.lineage
    return *some, record.recipe, record.signature


def _trusted(peer: str) -> bool:
    return len(peer) != 3


def _verify(peer: str, statement: bytes, signature: bytes) -> bool:
    return signature == b"signed" and statement.startswith(b"DSSEv1 ")


# --- taken apart and put together -----------------------------------------------------------


@dataclass
class Row:
    """One record: what its header says of it, and its body."""

    place: int
    cid: bytes = b"c1"
    digest: bytes = bytes(32)
    signature: bytes = b""
    recipe: bytes = b""
    payload: bytes = b"J1"


@dataclass
class Block:
    origins: list[list[bytes]] = field(default_factory=list)  # the peer, then its lineage
    rows: list[Row] = field(default_factory=list)


def columns(header: bytes) -> tuple[int, int, tuple[int, ...]]:
    """How many records and origins, and the numbers; `struct.error` where that cannot be."""
    n, m = struct.unpack_from(">II", header)
    if n > len(header) or m > len(header):
        raise struct.error
    return n, m, struct.unpack_from(f">{m}I{n}I{n}Q{n}I{n}I", header, 8)


def apart(bundle: bytes) -> tuple[bytes, list[tuple[bytes, bytes]], bytes]:
    """The magic line, `(header, body)` of each block, and the rest, as well as they can be told."""
    at, blocks = len(MAGIC), []
    while size := int.from_bytes(bundle[at : at + 4], "big"):
        header = bundle[at + 4 : at + 4 + size]
        try:
            n, m, numbers = columns(header)
        except struct.error:
            blocks.append((header, b""))
            return bundle[: len(MAGIC)], blocks, b""
        total = sum(numbers[m + n : m + 3 * n])
        at += 4 + size + total
        blocks.append((header, bundle[at - total : at]))
    return bundle[: len(MAGIC)], blocks, bundle[at:]


def together(blocks: list[tuple[bytes, bytes]], rng: random.Random) -> bytes:
    """A bundle of those blocks, right in what it says of itself; one in twenty is wrong at its end."""
    parts, checked, count = [MAGIC], hashlib.sha256(MAGIC), 0
    for header, body in blocks:
        prefixed = len(header).to_bytes(4, "big") + header
        checked.update(prefixed)
        parts += prefixed, body
        count += int.from_bytes(header[:4], "big")
    end = bytes(4) + (count & (1 << 64) - 1).to_bytes(8, "big")
    if rng.random() < 0.02:
        end = bytes(4) + (count + 1).to_bytes(8, "big")
    checked.update(end)
    parts += end, checked.digest()
    if rng.random() < 0.02:
        parts.append(b"\n")
    return b"".join(parts)


def opened(header: bytes, body: bytes) -> Block:
    """The records of a block; any of several errors where they cannot be told."""
    n, m, numbers = columns(header)
    members = numbers[:m]
    places, sizes, recipes, signed = (numbers[m + i * n : m + (i + 1) * n] for i in range(4))
    at = 8 + 4 * m + 20 * n
    digests = [header[at + 32 * i : at + 32 * (i + 1)] for i in range(n)]
    at += 32 * n
    names = iter(header[at + sum(signed) :].split(b"\n"))
    origins = [[next(names) for _ in range(1 + min(size, 1000))] for size in members]
    block, behind = Block(origins), 0
    for i in range(n):
        signature, at = header[at : at + signed[i]], at + signed[i]
        recipe, behind = body[behind : behind + recipes[i]], behind + recipes[i]
        payload, behind = body[behind : behind + sizes[i]], behind + sizes[i]
        block.rows.append(Row(places[i] % m, next(names), digests[i], signature, recipe, payload))
    return block


def closed(block: Block, rng: random.Random) -> tuple[bytes, bytes]:
    """Header and body, nearly always as a writer would spell them; sometimes with one number that is a lie."""
    if rng.random() < 0.93:
        canonical(block)
    rows, origins = block.rows, block.origins
    numbers = [len(rows), len(origins), *(len(origin) - 1 for origin in origins), *(row.place for row in rows)]
    sizes = [len(row.payload) for row in rows]
    rest = [len(row.recipe) for row in rows] + [len(row.signature) for row in rows]
    if rng.random() < 0.15:
        column = rng.choice((numbers, sizes, rest))
        i = rng.randrange(len(column) or 1)
        if column:
            column[i] = rng.choice((0, 1, column[i] + 1, max(column[i] - 1, 0), 1 << 20, 1 << 31, (1 << 32) - 1))
        if sizes and rng.random() < 0.3:
            sizes[0] = rng.choice(((1 << 64) - 1, 1 << 63, 1 << 30, 1 << 21))
    form = f">{len(numbers)}I{len(sizes)}Q{len(rest)}I"
    names = [name for origin in origins for name in origin] + [row.cid for row in rows]
    columns = [*(row.digest for row in rows), *(row.signature for row in rows), b"\n".join(names)]
    header = struct.pack(form, *numbers, *sizes, *rest) + b"".join(columns)
    return header, b"".join(row.recipe + row.payload for row in rows)


def canonical(block: Block) -> None:
    """Origins each once, in the order in which records have them, with lineages in order."""
    found: dict[tuple[bytes, ...], int] = {}
    for row in block.rows:
        peer, *lineage = block.origins[row.place] if row.place < len(block.origins) else [b"alice"]
        row.place = found.setdefault((peer, *sorted(set(lineage))), len(found))
    block.origins = [list(origin) for origin in found]


# --- the mutator ----------------------------------------------------------------------------

NAMES = (
    *(b"alice", b"bob", b"carol", b"c1", b"c2", b"", b" ", b"a\nb", b"\0", b"a/../b", b"x:y", b"a" * 300, b"d" * 64),
    *(b"\xff", b"\xc3\xa9", b"\xe2\x80\xae", b"\xed\xa0\x80"),
)


def mutated(bundle: bytes, most: int, seed: int, raw: Raw) -> bytes:
    """`bundle`, changed; at most `most` bytes."""
    rng = random.Random(seed)
    if rng.random() < 0.05:
        return raw(bundle, most)
    if rng.random() < 0.01:
        version = rng.choice((b"2", b"9", b"0", b"\xb2", b"1"))
        return (bundle[: len(MAGIC) - 2] + version + bundle[len(MAGIC) - 1 :])[:most]
    _, blocks, _ = apart(bundle)
    if not blocks or rng.random() < 0.05:
        blocks.append(closed(Block([[b"alice"]], [Row(0)]), rng))
    for _ in range(rng.choice((1, 1, 2, 4))):
        i = rng.randrange(len(blocks))
        header, body = blocks[i]
        way = rng.random()
        if way < 0.15:
            blocks[i] = raw(header, 2048), body
        elif way < 0.2:
            blocks[i] = header, raw(body or b"J1", len(body) or 2)
        elif way < 0.25:
            blocks.insert(rng.randrange(len(blocks) + 1), blocks[i])
        elif way < 0.3 and len(blocks) > 1:
            del blocks[i]
        else:
            try:
                block = opened(header, body)
            except (struct.error, StopIteration, ZeroDivisionError):
                block = Block([[b"alice"]], [Row(0)])
            edit(block, rng, raw)
            blocks[i] = closed(block, rng)
    changed = together(blocks, rng)
    return changed if len(changed) <= most else raw(bundle, most)


def edit(block: Block, rng: random.Random, raw: Raw) -> None:
    rows, origins = block.rows, block.origins
    if not rows or not origins:
        origins.append([b"alice"])
        rows.append(Row(len(origins) - 1))
    row, origin = rng.choice(rows), rng.choice(origins)
    way = rng.randrange(14)
    if way < 3:
        row.payload = payloads.mutated(row.payload, 512, rng.randrange(1 << 30), raw)
        if rng.random() < 0.9:
            row.digest = hashlib.sha256(row.payload).digest()
    elif way == 3:
        row.recipe = rng.choice((b"", b"recipe", b"r" * 65, raw(row.recipe or b"r", 100)))
        row.cid = hashlib.sha256(row.recipe).hexdigest().encode() if rng.random() < 0.7 else row.cid
    elif way == 4:
        row.signature = rng.choice((b"", b"signed", b"\n\n", raw(row.signature or b"s", 64)))
    elif way == 5:
        row.cid = rng.choice(NAMES)
    elif way == 6:
        origin[0] = rng.choice(NAMES)
    elif way == 7:
        origin.insert(rng.randrange(1, len(origin) + 1), rng.choice(NAMES))
    elif way == 8 and len(origin) > 1:
        del origin[rng.randrange(1, len(origin))]
    elif way == 9:
        rows.insert(rng.randrange(len(rows) + 1), replace(row, cid=rng.choice((row.cid, b"c%d" % rng.randrange(99)))))
    elif way == 10:
        rows.remove(row)
    elif way == 11:
        origins.append([rng.choice(NAMES[:4]), *NAMES[: rng.randrange(4)]])
        row.place = len(origins) - 1
    elif way == 12:
        row.place = rng.randrange(len(origins))
    else:
        row.digest = rng.choice((bytes(32), hashlib.sha256(row.payload).digest(), rows[0].digest))
