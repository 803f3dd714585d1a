"""What is wrong with one row of a durable cache, as it was read: the judge, which changes nothing.

Rules: a row may hold anything, since damage can change the type of a value; so every value is looked at before it is
used. What a large result's row says is compared with its file, which is read a piece at a time.

>>> origin_fault("alice", '["bob"]', 1)
>>> print(origin_fault("alice", '["alice"]', 1))
its lineage is no list of other peers: '["alice"]'
"""

from __future__ import annotations

import json
import os
import stat
from hashlib import sha256
from math import inf, isclose
from typing import Any, Literal, NamedTuple

from artdag_fed.caches.disk_blobs import Blobs
from artdag_fed.names import is_cid, is_digest, is_peer, shown

__all__ = ["Row", "RowFault", "count_fault", "offer_fault", "origin_fault", "row_fault"]

RowFault = tuple[Literal["row", "digest", "file", "recipe"], str]
"""What is wrong with a row of a result, and why."""

PIECE = 1 << 20  # bytes of a file that are hashed at a time


class Row(NamedTuple):
    """A row of a result, of which only the id is known to be what it should be. `known`: whether its origin is."""

    id: int
    cid: Any
    size: Any
    digest: Any
    inputs_digest: Any
    source: Any
    recipe: Any
    payload: Any
    seconds: Any
    signature: Any
    known: int


def origin_fault(peer: Any, lineage: Any, live: Any) -> str | None:
    """What is wrong with the row of an origin; its counts are not looked at."""
    if peer is not None and not is_peer(peer):
        return f"its peer is none: {shown(peer)}"
    if live not in (0, 1):
        return f"whether it is live is said by {shown(live)}"
    return _lineage_fault(peer, lineage)


def _lineage_fault(peer: Any, lineage: Any) -> str | None:
    try:
        peers = json.loads(lineage)
    except (TypeError, ValueError, RecursionError):
        peers = None
    if not isinstance(peers, list) or not all(map(is_peer, peers)) or peer in peers or len({*peers}) < len(peers):
        return f"its lineage is no list of other peers: {shown(lineage)}"
    return None


def count_fault(row: tuple[Any, ...] | None) -> str | None:
    """What is wrong with the counts of an origin: (results, bytes, seconds) as it has them, and of its rows.

    Seconds are added up in another order each time, so they need not be equal to the last digit.
    """
    if row is None or (row[:2] == row[3:5] and isinstance(row[2], float) and isclose(row[2], row[5], abs_tol=1e-3)):
        return None
    kept = " and ".join(map(shown, row[:3]))
    return f"its results, bytes and seconds are {kept}; its rows come to {row[3]}, {row[4]} and {row[5]:g}"


def offer_fault(
    cid: Any, peer: Any, digest: Any, size: Any, lineage: Any, signature: Any, at: Any, arrived: Any
) -> str | None:
    """What is wrong with the row of an offer."""
    for name, value, right in (
        ("cid", cid, is_cid(cid)),
        ("peer", peer, peer == "" or is_peer(peer)),
        ("digest", digest, is_digest(digest)),
        ("size", size, type(size) is int and size >= 0),
        ("signature", signature, signature is None or isinstance(signature, bytes)),
        ("time", at, isinstance(at, float)),
        ("arrival", arrived, arrived in (0, 1)),
    ):
        if not right:
            return f"the {name} of an offer is none: {shown(value)}"
    return _lineage_fault(peer, lineage)


def row_fault(row: Row, blobs: Blobs) -> RowFault | None:
    """The first thing that is wrong with a result and its file; `OSError` where a file that is there cannot be read."""
    for name, value, right in (
        ("cid", row.cid, is_cid(row.cid)),
        ("size", row.size, type(row.size) is int and row.size >= 0),
        ("digest", row.digest, is_digest(row.digest)),
        ("inputs' digest", row.inputs_digest, row.inputs_digest == "" or is_digest(row.inputs_digest)),
        ("source", row.source, isinstance(row.source, str)),
        ("recipe", row.recipe, isinstance(row.recipe, bytes | str)),
        ("time", row.seconds, isinstance(row.seconds, float) and 0 <= row.seconds < inf),
        ("signature", row.signature, row.signature is None or isinstance(row.signature, bytes)),
        ("payload", row.payload, row.payload is None or isinstance(row.payload, bytes)),
    ):
        if not right:
            return "row", f"its {name} is none: {shown(value)}"
    if not row.known:
        return "row", "its origin is not known"
    if row.payload is None:
        fault = _file_fault(os.path.join(blobs.path, row.digest), row.size, row.digest)
    elif len(row.payload) != row.size or sha256(row.payload).hexdigest() != row.digest:
        fault = "digest", "its bytes are not those that its digest names"
    else:
        fault = None
    return fault or _recipe_fault(row.cid, row.recipe)


def _recipe_fault(cid: str, recipe: str | bytes) -> RowFault | None:
    """Ids of other systems say nothing of a recipe; those of ours are its hash."""
    if not recipe or not is_digest(cid):
        return None
    text = recipe.encode("utf-8", "surrogateescape") if isinstance(recipe, str) else recipe
    return None if sha256(text).hexdigest() == cid else ("recipe", "its recipe is not what its cid is the hash of")


def _file_fault(path: str, size: int, digest: str) -> RowFault | None:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return "file", "its file is gone"
    except OSError as error:
        if os.path.islink(path):
            return "file", "its file is a link"
        raise error
    with open(fd, "rb", buffering=0) as file:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode):
            return "file", "its file is none"
        if found.st_size != size:
            return "file", f"its file has {found.st_size:,} bytes, not {size:,}"
        hashed = sha256()
        while piece := file.read(PIECE):
            hashed.update(piece)
    return None if hashed.hexdigest() == digest else ("digest", "its file's bytes are not those that its digest names")
