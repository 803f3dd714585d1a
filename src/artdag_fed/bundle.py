"""Records to a stream of bytes and back, in the memory of one block.

Rules: written and read front to back, without seeking; payloads pass through undecoded, and every byte is hashed once:
the trailer's SHA-256 covers the headers, which hold the digests of the payloads. No size that a stream names is
believed before it was compared with `Limits` and with the bytes that are there. What is read is unchecked until it was
judged (`admission`), and none of it counts before the end was reached: a header that was changed shows only there.
Refused: a stream without its exact trailer, or with anything behind it; a header that says the same in another way.

`docs/wire-format.md` specifies every byte.

>>> stream = io.BytesIO()
>>> write_bundle(stream, [Record("c1", [1, 2.5], "alice")])
1
>>> [record.result for record in read_bundle(io.BytesIO(stream.getvalue()))]
[[1, 2.5]]
"""

from __future__ import annotations

import hashlib
import io
import re
import struct
from collections.abc import Callable, Iterable, Iterator
from itertools import accumulate, chain, islice, pairwise, repeat
from typing import Any, BinaryIO, Final, Protocol

from artdag_fed.codec import DEFAULT, Codec
from artdag_fed.errors import BundleError
from artdag_fed.limits import Limits
from artdag_fed.names import PeerId, check_cid, check_peer, shown
from artdag_fed.record import Record

__all__ = ["MAGIC", "read_bundle", "write_bundle"]

MAGIC: Final = b"artdag-fed bundle v1\n"

BLOCK_RECORDS = 1024
"""Records that share a block: enough that what a block costs by itself is nothing beside them."""

BLOCK_BYTES = 256 << 10
"""Payload and recipe bytes that share a block. A record above has its own, and is written without being copied."""

READ_BYTES = 1 << 20
"""What is asked for at once before anything has come: a size that lies costs no more memory than this."""

_FIXED = 4 + 8 + 4 + 4 + 32  # bytes of a header for each record: origin, payload, recipe and signature size, digest
_newer = re.compile(rb"artdag-fed bundle v(\d+)\n?")


class Writable(Protocol):
    """What a bundle is written to: any binary file, buffered or not."""

    def write(self, data: bytes, /) -> object: ...


class Readable(Protocol):
    """What a bundle is read from: `read(n)` gives 1 to `n` bytes, or none at the end."""

    def read(self, size: int, /) -> bytes: ...


# --- writing --------------------------------------------------------------------------------


def write_bundle(fp: BinaryIO | Writable, records: Iterable[Record]) -> int:
    """Write `records` to `fp` as they come; how many it were.

    fp: a binary file or the like, which is neither flushed nor closed. A record that was read from bytes is passed on
    with the digest that was declared for it, unchecked.

    Raises `CodecError` for a result that has no bytes and `InvalidName` for a cid or peer that is none, both before
    anything of its block is written; `TypeError` for what is no `Record`; what `fp` and `records` raise. The stream is
    broken then: it has no trailer.
    """
    write = _writer(fp)
    checked = hashlib.sha256(MAGIC)
    write(MAGIC)
    count = 0
    for block, bodies in _blocks(records):
        head = _header(block)
        prefixed = len(head).to_bytes(4, "big") + head
        checked.update(prefixed)
        if len(bodies) > 1:
            write(b"".join((prefixed, *bodies)))
        else:
            write(prefixed)
            write(bodies[0])
        count += len(block)
    end = bytes(4) + count.to_bytes(8, "big")
    checked.update(end)
    write(end + checked.digest())
    return count


def _blocks(records: Iterable[Record]) -> Iterator[tuple[list[Record], list[bytes]]]:
    """Records that share a block, and the bytes that are behind its header."""
    block: list[Record] = []
    bodies: list[bytes] = []
    weight = 0
    for record in records:
        if type(record) is not Record:
            raise TypeError(f"a bundle is written from Records, not from {type(record).__name__}")
        payload, recipe = record.payload, record.recipe
        if type(payload) is not bytes or type(recipe) is not bytes:
            raise TypeError(f"payload and recipe of the record {shown(record.cid)} must be bytes")
        size = len(payload) + len(recipe)
        if block and (weight + size > BLOCK_BYTES or len(block) >= BLOCK_RECORDS):
            yield block, bodies
            block, bodies, weight = [], [], 0
        block.append(record)
        if recipe:
            bodies.append(recipe)
        bodies.append(payload)
        weight += size
    if block:
        yield block, bodies


def _header(block: list[Record]) -> bytes:
    origins: dict[tuple[PeerId, frozenset[PeerId]], int] = {}
    places = [origins.setdefault((record.peer, record.lineage), len(origins)) for record in block]
    names: list[str] = []
    for peer, lineage in origins:
        names.append(check_peer(peer))
        names.extend(map(check_peer, sorted(lineage)))
    names.extend(check_cid(record.cid) for record in block)
    signatures = [record.signature for record in block]
    digests = "".join([record.digest for record in block])
    n, m = len(block), len(origins)
    raw = bytes.fromhex(digests)
    if len(raw) != 32 * n or raw.hex() != digests:
        raise BundleError("a record with a digest that is no SHA-256 in lower-case hexadecimal digits")
    return b"".join(
        (
            struct.pack(
                f">II{m}I{n}I{n}Q{n}I{n}I",
                n,
                m,
                *(len(lineage) for _, lineage in origins),
                *places,
                *(len(record.payload) for record in block),
                *(len(record.recipe) for record in block),
                *map(len, signatures),
            ),
            raw,
            *signatures,
            "\n".join(names).encode(),
        )
    )


def _writer(fp: Any) -> Callable[[bytes], None]:
    """Writes all of its bytes, to a raw file too, which may take only some of them at a time."""

    def write(data: bytes) -> None:
        taken = fp.write(data)
        if taken is None and not isinstance(fp, io.RawIOBase):
            return  # what is no file of the standard library often says nothing, and took everything
        if taken == len(data):
            return
        with memoryview(data) as view:
            at = 0
            while True:
                if taken is None:
                    raise BlockingIOError(f"{fp!r} is not blocking and took nothing: give one that blocks")
                if type(taken) is not int or not 0 <= taken <= len(view) - at:
                    raise TypeError(f"write() of {type(fp).__name__} says that it took {shown(repr(taken))} bytes")
                at += taken
                if at == len(view):
                    return
                taken = fp.write(view[at:])

    return write


# --- reading --------------------------------------------------------------------------------


def read_bundle(fp: BinaryIO | Readable, limits: Limits = Limits(), *, codec: Codec | None = None) -> Iterator[Record]:
    """The records of a bundle, as they come from `fp`; what is needed of each is checked where it is imported.

    fp: a binary file or the like, read to its end and not closed; short reads are fine. codec: what the records'
    results are decoded with when they are asked for. A record over a limit of its own (`record_bytes`, `recipe_bytes`,
    `lineage`) comes without its payload, and is refused where it is imported; the rest goes on.

    The iterator raises `BundleError` where the stream is cut off, was changed, goes over a limit or is of a newer
    version (only whoever read to the end knows that nothing was); what `fp` raises; `TypeError` where `fp` gives
    something else than bytes.
    """
    if not isinstance(limits, Limits):
        raise TypeError(f"limits must be a Limits, not {type(limits).__name__}")
    if codec is None:
        codec = DEFAULT
    elif not isinstance(codec, Codec):
        raise TypeError(f"codec must be a Codec, not {type(codec).__name__}")
    if not callable(getattr(fp, "read", None)):
        raise TypeError(f"a bundle is read from a binary file, not from {type(fp).__name__}")
    return _Reader(fp, limits, codec).records()


class _Reader:
    """One stream being read: what came so far, and what the limits leave."""

    def __init__(self, fp: Readable, limits: Limits, codec: Codec) -> None:
        self._fp = fp
        self._limits = limits
        self._codec = codec
        self._count = 0
        self._bytes = 0
        self._origins: dict[tuple[PeerId, frozenset[PeerId]], tuple[PeerId, frozenset[PeerId]]] = {}

    def records(self) -> Iterator[Record]:
        limits = self._limits
        self._magic()
        checked = hashlib.sha256(MAGIC)
        while True:
            prefix = self._take(4)
            checked.update(prefix)
            size = int.from_bytes(prefix, "big")
            if not size:
                break
            if size > limits.header_bytes:
                raise BundleError(
                    f"a header of {size:,} bytes, with at most {limits.header_bytes:,} taken (Limits.header_bytes)"
                )
            header = self._take(size)
            checked.update(header)
            yield from self._block(header)
        count = self._take(8)
        checked.update(count)
        digest = self._take(32)
        if int.from_bytes(count, "big") != self._count or digest != checked.digest():
            raise BundleError(
                f"the bundle was altered: its trailer does not fit the {self._count} records that came before it"
            )
        if self._read(1):
            raise BundleError("the bundle is followed by something else: expected the end of the stream")

    def _magic(self) -> None:
        first = self._read(1)
        if not first:
            raise BundleError("an empty stream, which is no bundle")
        magic = first + self._take(len(MAGIC) - 1)
        if magic == MAGIC:
            return
        newer = _newer.match(magic)
        if newer and int(newer[1]) > 1:
            raise BundleError(
                f"a bundle of version {int(newer[1])}, with 1 the newest that is read here: update artdag_fed, or have "
                "it sent as version 1"
            )
        raise BundleError(f"no bundle: it begins with {shown(repr(magic))} instead of {MAGIC!r}")

    def _block(self, header: bytes) -> Iterator[Record]:
        limits = self._limits
        if len(header) < 8:
            raise _broken("a header of less than 8 bytes")
        n, m = struct.unpack_from(">II", header)
        if not n or not 0 < m <= n:
            raise _broken(f"a block of {n} records with {m} origins")
        at = 8 + 4 * m + _FIXED * n
        if at > len(header):
            raise _broken(f"a header of {len(header)} bytes for {n} records with {m} origins")
        if self._count + n > limits.records:
            raise BundleError(f"the bundle has more than {limits.records:,} records (Limits.records)")
        numbers = struct.unpack_from(f">{m}I{n}I{n}Q{n}I{n}I", header, 8)
        members, numbers = numbers[:m], numbers[m:]
        places, sizes, recipes, signed = (numbers[i * n : (i + 1) * n] for i in range(4))
        self._bytes += sum(sizes) + sum(recipes)
        if self._bytes > limits.bytes:
            raise BundleError(f"the bundle has more than {limits.bytes:,} payload bytes (Limits.bytes)")
        if len(set(places)) != m or max(places) != m - 1:
            raise _broken("origins that no record has, or records with an origin that is not there")
        hexes = header[at - 32 * n : at].hex()
        digests = [hexes[i : i + 64] for i in range(0, 64 * n, 64)]
        text = at + sum(signed)
        if text > len(header):
            raise _broken(f"signatures of {sum(signed)} bytes in a header of {len(header)}")
        signatures: Iterable[bytes] = repeat(b"", n)
        if text > at:
            signatures = [header[a:b] for a, b in pairwise(accumulate(signed, initial=at))]
        try:
            lines = header[text:].decode().split("\n")
        except UnicodeDecodeError:
            raise _broken("names that are not UTF-8") from None
        if len(lines) != m + sum(members) + n:
            raise _broken(f"{len(lines)} names for {n} records with {m} origins")
        cids = lines[len(lines) - n :]
        origins = self._table(lines, members)
        peers = [origins[place][0] for place in places]
        lineages = [origins[place][1] for place in places]
        outside: Iterable[bool] = repeat(False)
        if max(members) > limits.lineage:
            outside = [members[place] > limits.lineage for place in places]
        rows = zip(cids, self._bodies(sizes, recipes), digests, peers, lineages, signatures, outside, strict=False)
        codec = self._codec
        for cid, (recipe, payload), digest, peer, lineage, signature, over in rows:
            self._count += 1
            if over or payload is None or recipe is None:
                yield Record.encoded(cid, None, digest, peer, codec=codec)
            else:
                yield Record.encoded(cid, payload, digest, peer, lineage, recipe, signature, codec=codec)

    def _table(self, lines: list[str], members: tuple[int, ...]) -> list[tuple[PeerId, frozenset[PeerId]]]:
        """The origins of a block, each object shared with the blocks before it."""
        table = []
        left = iter(lines)
        for size in members:
            peer = next(left)
            lineage = list(islice(left, size))
            if any(a >= b for a, b in pairwise(lineage)):
                raise _broken("a lineage that is not in order, or names a peer twice")
            kept = frozenset(lineage) if size <= self._limits.lineage else frozenset()
            key = (peer, kept)
            if key not in self._origins and len(self._origins) >= self._limits.origins:
                raise BundleError(
                    f"the bundle has more than {self._limits.origins:,} distinct origins (Limits.origins)"
                )
            table.append(self._origins.setdefault(key, key))
        return table

    def _bodies(
        self, sizes: tuple[int, ...], recipes: tuple[int, ...]
    ) -> Iterator[tuple[bytes | None, bytes | None]]:
        """Recipe and payload of each record; None where it is over a limit, and was read and dropped."""
        limits = self._limits
        total = sum(sizes) + sum(recipes)
        if total <= READ_BYTES and max(sizes) <= limits.record_bytes and max(recipes) <= limits.recipe_bytes:
            data = self._take(total)
            ends = pairwise(accumulate(chain.from_iterable(zip(recipes, sizes, strict=True)), initial=0))
            for (a, b), (c, d) in zip(ends, ends, strict=True):
                yield data[a:b], data[c:d]
            return
        for recipe, size in zip(recipes, sizes, strict=True):
            yield self._within(recipe, limits.recipe_bytes), self._within(size, limits.record_bytes)

    def _within(self, size: int, most: int) -> bytes | None:
        if size <= most:
            return self._take(size)
        while size:
            size -= len(self._take(min(size, READ_BYTES)))
        return None

    def _take(self, size: int) -> bytes:
        """Exactly `size` bytes. No more is asked for at once than came before, so a size that lies is no use."""
        if not size:
            return b""
        data = self._read(min(size, READ_BYTES))
        got = len(data)
        if got == size:
            return data
        parts = [data]
        while got < size:
            if not data:
                raise BundleError(
                    f"the bundle is cut off after {self._count} records: {size - got:,} bytes more were expected"
                )
            data = self._read(min(size - got, max(got, READ_BYTES)))
            parts.append(data)
            got += len(data)
        return b"".join(parts)

    def _read(self, size: int) -> bytes:
        data = self._fp.read(size)
        if type(data) is not bytes:
            what = "nothing is there yet: give one that blocks" if data is None else "open it as a binary file"
            raise TypeError(f"read() of {type(self._fp).__name__} gave {type(data).__name__}, not bytes: {what}")
        if len(data) > size:
            raise BundleError(f"read({size}) of {type(self._fp).__name__} gave {len(data)} bytes")
        return data


def _broken(what: str) -> BundleError:
    return BundleError(f"the bundle was altered, or whoever wrote it does not keep to the format: {what}")
