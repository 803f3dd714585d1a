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
from collections.abc import Callable, Generator, Iterable, Iterator
from itertools import accumulate, chain
from typing import Any, Final, Protocol

from artdag_fed.bundle_header import Block, Claim, Header, read_header, write_header
from artdag_fed.codec import Codec, codec_or_default
from artdag_fed.codec_plain import DEPTH, nests_over
from artdag_fed.errors import BundleError
from artdag_fed.limits import Limits, check_limits
from artdag_fed.names import PeerId, shown
from artdag_fed.record import Record, encoded_rows

__all__ = ["MAGIC", "Readable", "Writable", "bundle_chunks", "read_bundle", "write_bundle"]

MAGIC: Final = b"artdag-fed bundle v1\n"

READ_BYTES = 1 << 20
"""What is asked for at once before anything has come: a size that lies costs no more memory than this."""

_newer = re.compile(rb"artdag-fed bundle v([0-9]+)\n?")


class Writable(Protocol):
    """What a bundle is written to: any binary file, buffered or not."""

    def write(self, data: bytes, /) -> object: ...


class Readable(Protocol):
    """What a bundle is read from: `read(n)` gives 1 to `n` bytes, or none at the end."""

    def read(self, size: int, /) -> bytes: ...


# --- writing --------------------------------------------------------------------------------


def write_bundle(fp: Writable, records: Iterable[Record]) -> int:
    """Write `records` to `fp` as they come; how many it were.

    fp: a binary file or the like (else `TypeError`, at once), which is neither flushed nor closed. A record that was
    read from bytes is passed on with the digest that was declared for it, unchecked.

    Raises `CodecError` for a result that has no bytes and `InvalidName` for a cid or peer that is none, both before
    anything of its block is written; `TypeError` for what is no `Record`; what `fp` and `records` raise. The stream is
    broken then: it has no trailer.
    """
    write = _writer(fp)
    chunk = b""
    for chunk in bundle_chunks(records):
        write(chunk)
    return int.from_bytes(chunk[4:12], "big")  # the last one is the trailer


def bundle_chunks(records: Iterable[Record]) -> Generator[bytes, None, None]:
    """The bytes that `write_bundle` writes, in pieces that are not empty, for whoever has to be asked for bytes.

    A record is read when the pieces before it were taken, so this takes the memory of one block. It raises what
    `write_bundle` does; only whoever came to its end has a whole bundle. Closing it leaves `records` as they are.

    >>> b"".join(bundle_chunks([])).startswith(MAGIC)
    True
    """
    checked = hashlib.sha256(MAGIC)
    yield MAGIC
    count = 0
    for block in _blocks(records):
        head = write_header(block)
        prefixed = len(head).to_bytes(4, "big") + head
        checked.update(prefixed)
        bodies = chain.from_iterable(zip(block.recipes, block.payloads, strict=True))
        if len(block.cids) > 1:
            yield b"".join((prefixed, *bodies))
        else:  # it may be large: as it is
            yield from filter(None, (prefixed, *bodies))
        count += len(block.cids)
    end = bytes(4) + count.to_bytes(8, "big")
    checked.update(end)
    yield end + checked.digest()


def _blocks(records: Iterable[Record]) -> Iterator[Block]:
    """The records, by blocks of many small ones or of one that is large."""
    left = iter(records)
    first: Record | None = None
    while True:
        block = Block()
        first = block.fill(left if first is None else chain((first,), left))
        if block.cids:
            yield block
        if first is None:
            return


def _writer(fp: Any) -> Callable[[bytes], None]:
    """Writes all of its bytes, to a raw file too, which may take only some of them at a time."""
    text = isinstance(fp, io.TextIOBase)
    if text or not callable(getattr(fp, "write", None)):
        what = f"{type(fp).__name__}{', which is for text' if text else ''}"
        raise TypeError(f"a bundle is written to a binary file, not to {what}")

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


def read_bundle(fp: Readable, limits: Limits = Limits(), *, codec: Codec | None = None) -> Iterator[Record]:
    """The records of a bundle, as they come from `fp`; what is needed of each is checked where it is imported.

    fp: a binary file or the like, read to its end and not closed; short reads are fine. codec: what the records'
    results are decoded with when they are asked for. A record over a limit of its own (`record_bytes`, `recipe_bytes`,
    `lineage`) comes without its payload, and is refused where it is imported; the rest goes on.

    The iterator raises `BundleError` where the stream is cut off, was changed, goes over a limit or is of a newer
    version (only whoever read to the end knows that nothing was); what `fp` raises; `TypeError` where `fp` gives
    something else than bytes.
    """
    check_limits(limits)
    codec = codec_or_default(codec)
    if not callable(getattr(fp, "read", None)):
        raise TypeError(f"a bundle is read from a binary file, not from {type(fp).__name__}")
    return _Reader(fp, limits, codec).records()


class _Reader:
    """One stream being read: what came so far, and what the limits leave."""

    def __init__(self, fp: Any, limits: Limits, codec: Codec) -> None:
        self._fp = fp
        self._limits = limits
        self._codec = codec
        self._count = 0
        self._bytes = 0
        self._claims: dict[Claim, Claim] = {}

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
            yield from self._block(read_header(header, limits))
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
        raise BundleError(f"no bundle: it begins with {magic!r} instead of {MAGIC!r}")

    def _block(self, header: Header) -> Iterator[Record]:
        """The records of a block, whose bodies come next."""
        limits = self._limits
        n = len(header.cids)
        if self._count + n > limits.records:
            raise BundleError(f"the bundle has more than {limits.records:,} records (Limits.records)")
        total = sum(header.sizes) + sum(header.recipes)
        self._bytes += total
        if self._bytes > limits.bytes:
            raise BundleError(f"the bundle has more than {limits.bytes:,} payload bytes (Limits.bytes)")
        claims = [self._shared(claim) for claim in header.origins]
        if len(claims) == 1:
            [(peer, lineage)] = claims
            peers, lineages = [peer] * n, [lineage] * n
        else:
            peers = [claims[place][0] for place in header.places]
            lineages = [claims[place][1] for place in header.places]
        if total > READ_BYTES or not self._all_within(header):
            return self._singly(header, peers, lineages)
        data = self._take(total)
        ends = list(accumulate(chain.from_iterable(zip(header.recipes, header.sizes, strict=True)), initial=0))
        recipes = (
            [data[a:b] for a, b in zip(ends[0:-1:2], ends[1::2], strict=True)] if any(header.recipes) else [b""] * n
        )
        payloads = [data[a:b] for a, b in zip(ends[1::2], ends[2::2], strict=True)]
        self._count += n
        rows = zip(header.cids, payloads, header.digests, peers, lineages, recipes, header.signatures, strict=True)
        return encoded_rows(rows, self._codec)

    def _shared(self, claim: Claim) -> Claim:
        """The same peer and lineage, as one object for all blocks."""
        if claim not in self._claims and len(self._claims) == self._limits.origins:
            raise BundleError(f"the bundle has more than {self._limits.origins:,} distinct origins (Limits.origins)")
        return self._claims.setdefault(claim, claim)

    def _all_within(self, header: Header) -> bool:
        """Whether no record of the block is over a limit of its own."""
        limits = self._limits
        return (
            max(header.lineages) <= limits.lineage
            and max(header.sizes) <= limits.record_bytes
            and max(header.recipes) <= limits.recipe_bytes
            and limits.nesting >= DEPTH
        )

    def _singly(self, header: Header, peers: list[PeerId], lineages: list[frozenset[PeerId]]) -> Iterator[Record]:
        """The records of a block, one read and given after the other, each compared with its limits."""
        limits = self._limits
        rows = zip(header.cids, header.digests, peers, lineages, header.signatures, strict=True)
        sizes = zip(header.recipes, header.sizes, header.places, strict=True)
        for (cid, digest, peer, lineage, signature), (recipe_size, size, place) in zip(rows, sizes, strict=True):
            recipe = self._within(recipe_size, limits.recipe_bytes)
            payload = self._within(size, limits.record_bytes)
            self._count += 1
            over = recipe is None or header.lineages[place] > limits.lineage
            if over or (payload is not None and limits.nesting < DEPTH and nests_over(limits.nesting, _text(payload))):
                payload = None
            yield Record.encoded(cid, payload, digest, peer, lineage, recipe or b"", signature, codec=self._codec)

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


def _text(payload: bytes) -> bytes:
    """The JSON in a payload (see `codec`): brackets in what is beside it mean nothing."""
    if payload[:1] == b"T":
        return payload[9 : 9 + int.from_bytes(payload[1:9], "big")]
    return payload if payload[:1] == b"J" else b""
