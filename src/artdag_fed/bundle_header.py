"""The header of a bundle's block: what the records in it have beside their recipes and payloads, one column per field.

Rules: a header has one spelling, and `read_header` refuses every other one; every count and size in it is compared with
the bytes that are there, and with `Limits`, before anything is made of it. Names are text here and nothing more: what
reads them back judges them (`admission`); only what is written is checked, so that nobody sends what nobody takes.

>>> block = Block()
>>> block.fill(iter([Record("c1", 7, "alice", {"carol", "bob"})]))
>>> header = read_header(write_header(block), Limits())
>>> header.cids, header.origins == [("alice", frozenset({"bob", "carol"}))], header.sizes
(['c1'], True, (2,))
"""

from __future__ import annotations

import string
import struct
from collections.abc import Iterable, Iterator
from itertools import accumulate, chain, islice, pairwise
from typing import NamedTuple

from artdag_fed.errors import BundleError
from artdag_fed.limits import Limits
from artdag_fed.names import Cid, PeerId, check_cid, check_peer, is_digest, shown
from artdag_fed.record import Record

__all__ = ["BLOCK_BYTES", "BLOCK_RECORDS", "Block", "Header", "broken", "read_header", "write_header"]

BLOCK_RECORDS = 1024
"""Records that share a block: enough that what a block costs by itself is nothing beside them."""

BLOCK_BYTES = 256 << 10
"""Payload and recipe bytes that share a block. A record above has its own, and is written without being copied."""

DIGEST = 32
EACH = 4 + 8 + 4 + 4 + DIGEST
"""Bytes of a header for each record, its names and signature aside."""

_PLAIN = (string.ascii_letters + string.digits).encode()

Claim = tuple[PeerId, frozenset[PeerId]]
"""What a record says of its origin: its peer, and its lineage."""


def _numbers(n: int, m: int) -> str:
    """What a header of `n` records with `m` origins begins with: `n`, `m`; the size of each lineage; of each record the
    place of its origin, and the sizes of its payload, recipe and signature."""
    return f">II{m}I{n}I{n}Q{n}I{n}I"


class Block:
    """What records that share a block have, one list for each field. The records themselves are not kept: to hold a
    thousand of them has the garbage collector look again and again at all that its process has, which took as long as
    the writing."""

    __slots__ = ("cids", "digests", "origins", "payloads", "places", "recipes", "signatures")

    def __init__(self) -> None:
        self.origins: dict[Claim, int] = {}
        self.places: list[int] = []  # of each record's origin
        self.cids: list[Cid] = []
        self.digests: list[str] = []
        self.payloads: list[bytes] = []
        self.recipes: list[bytes] = []
        self.signatures: list[bytes] = []

    def fill(self, records: Iterator[Record]) -> Record | None:
        """Take records until one more would be too many: that one, or None where there are no more.

        Raises `CodecError` where a result has no bytes, and what `records` raises.
        """
        cids, digests, origins, places = self.cids, self.digests, self.origins, self.places
        payloads, recipes, signatures = self.payloads, self.recipes, self.signatures
        weight, peer, lineage, place = 0, None, None, 0
        for record in records:
            if type(record) is not Record:
                raise TypeError(f"a bundle is written from Records, not from {type(record).__name__}")
            payload, recipe = record.payload, record.recipe
            weight += len(payload) + len(recipe)
            if (weight > BLOCK_BYTES or len(cids) == BLOCK_RECORDS) and cids:
                return record
            if record.peer is not peer or record.lineage is not lineage:  # they come in runs
                peer, lineage = record.peer, record.lineage
                place = origins.setdefault((peer, lineage), len(origins))
            places.append(place)
            cids.append(record.cid)
            digests.append(record.digest)
            payloads.append(payload)
            recipes.append(recipe)
            signatures.append(record.signature)
        return None


class Header(NamedTuple):
    """What a header says: the origins of its block, and one item for each record in every other field."""

    origins: list[Claim]
    lineages: tuple[int, ...]
    """The number of peers in the lineage of each origin. It is empty in `origins` where they were over the limit."""
    places: tuple[int, ...]
    sizes: tuple[int, ...]
    recipes: tuple[int, ...]
    digests: list[str]
    signatures: list[bytes]
    cids: list[Cid]


# --- writing --------------------------------------------------------------------------------


def write_header(block: Block) -> bytes:
    """The header of a block that has at least one record. Raises `InvalidName`, `TypeError`, and `BundleError` for a
    declared digest that is none."""
    _check_cids(block.cids)
    names: list[str] = []
    for peer, lineage in block.origins:
        names.append(check_peer(peer))
        names.extend(map(check_peer, sorted(lineage)))
    if not {bytes}.issuperset(map(type, chain(block.payloads, block.recipes, block.signatures))):
        raise TypeError("payload, recipe and signature of a record must be bytes")
    n, m = len(block.cids), len(block.origins)
    numbers = struct.pack(
        _numbers(n, m),
        n,
        m,
        *(len(lineage) for _, lineage in block.origins),
        *block.places,
        *map(len, block.payloads),
        *map(len, block.recipes),
        *map(len, block.signatures),
    )
    return b"".join((numbers, _raw(block.digests), *block.signatures, "\n".join((*names, *block.cids)).encode()))


def _check_cids(cids: list[Cid]) -> None:
    plain = not "".join(cids).encode("utf-8", "replace").translate(None, _PLAIN)
    if not plain or not all(cids) or max(map(len, cids)) > 64:
        for cid in cids:  # of another system; ours, which are hexadecimal digits, were all seen to be fine at once
            check_cid(cid)


def _raw(digests: list[str]) -> bytes:
    """The bytes that the digests are in hexadecimal digits."""
    if {str}.issuperset(map(type, digests)) and {2 * DIGEST}.issuperset(map(len, digests)):
        text = "".join(digests)
        try:
            raw = bytes.fromhex(text)
        except ValueError:
            raw = b""
        if raw.hex() == text:
            return raw
    wrong = next(digest for digest in digests if not is_digest(digest))
    raise BundleError(f"a record with the digest {shown(wrong)}: expected a SHA-256 in lower-case hexadecimal digits")


# --- reading --------------------------------------------------------------------------------


def broken(what: str) -> BundleError:
    """What is raised for bytes that no writer of the format makes."""
    return BundleError(f"the bundle was altered, or whoever wrote it does not keep to the format: {what}")


def read_header(header: bytes, limits: Limits) -> Header:
    """What `header` says. `BundleError` where that cannot be, or is not as `write_header` would say it."""
    if len(header) < 8:
        raise broken("a header of less than 8 bytes")
    n, m = struct.unpack_from(">II", header)
    if not n:
        raise broken("a block of no records")
    at = 8 + 4 * m + EACH * n
    if at > len(header):
        raise broken(f"a header of {len(header):,} bytes for {n:,} records with {m:,} origins")
    numbers = struct.unpack_from(_numbers(n, m), header)
    members = numbers[2 : 2 + m]
    places, sizes, recipes, signed = (numbers[start : start + n] for start in range(2 + m, len(numbers), n))
    if list(dict.fromkeys(places)) != list(range(m)):
        raise broken("origins that are not in the order in which the records have them")
    hexes = header[at - DIGEST * n : at].hex()
    digests = [hexes[i : i + 2 * DIGEST] for i in range(0, len(hexes), 2 * DIGEST)]

    text = at + sum(signed)  # behind the end of the header where these lie: then there are no names
    if text == at:
        signatures = [b""] * n
    else:
        signatures = [header[a:b] for a, b in pairwise(accumulate(signed, initial=at))]

    names = m + sum(members) + n
    if header.count(b"\n", text) != names - 1:
        raise broken(f"there are not the {names:,} names that belong into a header")
    try:
        lines = header[text:].decode().split("\n")
    except UnicodeDecodeError:
        raise broken("names that are not UTF-8") from None
    origins = _origins(lines, members, limits.lineage)
    return Header(origins, members, places, sizes, recipes, digests, signatures, lines[-n:])


def _origins(names: Iterable[str], members: tuple[int, ...], most: int) -> list[Claim]:
    left = iter(names)
    claims = dict[Claim, None]()
    for size in members:
        peer, lineage = next(left), list(islice(left, size))
        if any(a >= b for a, b in pairwise(lineage)):
            raise broken("a lineage that is not in order, or has a peer twice")
        claims[peer, frozenset(lineage)] = None
    if len(claims) != len(members):
        raise broken("the same origin twice in one block")
    return [(peer, lineage if len(lineage) <= most else frozenset()) for peer, lineage in claims]
