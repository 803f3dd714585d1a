"""What a KV cache is here, and what one inside a `Federation` keeps beside the results.

Rules: a plain mapping of cid -> result is a `Cache`. An `OriginCache` also keeps where each result came from; a result
and its origin become readable together or not at all, and what has no origin is not held: "computed here" is an origin
too. An origin that was withdrawn is never live again. All that the verbs want of a cache is in `OriginCache`; nothing
else in the house knows how one stores.

What absence, failure and repetition mean: a cid that is not held is left out of an answer, never an error; bytes that
fail their digest are not held either, and the observer is told; `commit` does all of its `Changes` or, where it raises,
none; the same `Changes` again finds everything unchanged.

>>> Origin(None).local, Origin("bob", frozenset({"carol"})).peers == {"bob", "carol"}
(True, True)
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, NamedTuple, Protocol, runtime_checkable

from artdag_fed.codec import Codec
from artdag_fed.events import Event, Total
from artdag_fed.names import Cid, PeerId

__all__ = [
    "MOST_OFFERS",
    "Cache",
    "Changes",
    "Clash",
    "Drop",
    "Entry",
    "Held",
    "Made",
    "Offer",
    "Origin",
    "OriginCache",
    "Outcome",
    "Recall",
    "Relabel",
    "Staged",
    "Stored",
    "Total",
    "inputs_digest_of",
]

MOST_OFFERS = 100_000
"""Offers that one cache keeps: with signatures of 64 bytes some 40 MB on a disk, and listed in a second. Far more than
people look through, and what goes beyond it is the oldest of whoever has most (see `OriginCache.offers`)."""

Cache = MutableMapping[Cid, Any]
"""A KV cache: get, put, delete, keys. A dict is one; so is anything of `collections.abc.MutableMapping`'s shape."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a result came from: the peer (None: computed here) and the other peers that it rests on."""

    peer: PeerId | None
    lineage: frozenset[PeerId] = frozenset()

    @property
    def local(self) -> bool:
        """Whether the result was computed here."""
        return self.peer is None

    @property
    def peers(self) -> frozenset[PeerId]:
        """Everyone whose results this one rests on: what a result computed from it has as its lineage."""
        return self.lineage if self.peer is None else self.lineage | {self.peer}


class Held(NamedTuple):
    """A result that a cache holds. `token` names this life of its origin: once withdrawn, no later one has it."""

    origin: Origin
    token: int
    digest: str
    """SHA-256 of the encoded result in hex, or "" where it is not known (in memory): not asked for yet, or no bytes."""
    source: str = ""
    """As in its `Entry`; "" where it is unknown, as for what a peer sent."""


class Made(NamedTuple):
    """What a held result was made of and is, as its cache remembers it: see `Entry` and `Held`."""

    origin: Origin
    digest: str
    recipe: bytes
    inputs_digest: str
    token: int
    """As in `Held`."""
    size: int = 0
    """Bytes of the encoded result; 0 where it has none (in memory)."""
    seconds: float = 0.0
    """What it took to compute, where that is known."""
    signature: bytes = b""
    """As in its `Entry`, for as long as it has the origin with which it came."""


class Offer(NamedTuple):
    """Evidence: once, this result was offered for this cid. Kept when there is more than one of them to compare."""

    cid: Cid
    peer: PeerId | None
    """Who offered it; None: it was computed here."""
    digest: str
    """As in `Held`; "" only in memory, where the codec cannot carry the result."""
    size: int
    lineage: frozenset[PeerId]
    signature: bytes
    """The peer's signature over it, verified when it came in; b"" where there was none."""
    at: float
    """When it was noted, in seconds since the epoch, as `Changes.at` said."""


class Stored(NamedTuple):
    """A result as it is kept, for the road: encoded bytes with their digest, or (in memory) the value, which is None in
    the other case. A payload is checked against its digest before it is given."""

    origin: Origin
    digest: str
    payload: bytes | None
    value: Any
    recipe: bytes


class Entry(NamedTuple):
    """A result to be stored. One of payload and value may be missing (None), as `valued` says; the digest fits both.

    inputs_digest: SHA-256 (hex) over the digests of the input results in order, or "" where it is unknown.
    replace: whether it takes the place of a result computed here, too.
    basis: tokens of the origins of what it was computed from. If one was withdrawn, the entry is stale: not stored.
    source: a hash of the code that computed it, for a run to compare, or "" where it is unknown.
    seconds: what it took to compute, 0.0 where that is unknown.
    signature: the peer's signature over the record, only where it was verified; else b"".
    size: bytes of the encoded result, where it comes as a value alone; 0 where that is unknown.
    """

    cid: Cid
    origin: Origin
    digest: str
    payload: bytes | None
    value: Any
    valued: bool
    recipe: bytes = b""
    inputs_digest: str = ""
    replace: bool = False
    basis: frozenset[int] = frozenset()
    source: str = ""
    seconds: float = 0.0
    signature: bytes = b""
    size: int = 0


def inputs_digest_of(digests: Sequence[str]) -> str:
    """As in `Entry`, from the digests of the input results in order; "" where one of them is unknown.

    >>> inputs_digest_of([]) == sha256().hexdigest(), inputs_digest_of(["", "ab"])
    (True, '')
    """
    return "" if "" in digests else sha256("".join(digests).encode()).hexdigest()


class Staged(Protocol):
    """Entries that are laid ready, unread by anyone, until they are committed or closed."""

    def close(self) -> None:
        """Throw away what was laid ready; nothing after a commit, and nothing when called again."""


class Relabel(NamedTuple):
    """A held result that gets another origin: one that was confirmed, or whose lineage was worked out anew.

    It stays as it was unless it is still held with `digest` (of `Made`) under the live origin `token` (of `Held`) and
    no token of `basis` was withdrawn. A signature was given for the former origin, so it is not kept with another one;
    where the origin is the one that it has already, it stays. `inputs_digest` is as in `Entry`; "" leaves the one that
    is kept.
    """

    token: int
    digest: str
    origin: Origin
    basis: frozenset[int] = frozenset()
    inputs_digest: str = ""


class Drop(NamedTuple):
    """A held result that goes, on conditions as those of a `Relabel`: while it is still held with `digest` under the
    live origin `token`, and none of `basis` was withdrawn. Equal bits computed here meanwhile are another result."""

    token: int
    digest: str
    basis: frozenset[int] = frozenset()


class Recall(NamedTuple):
    """Every live result whose provenance is `peer` and whose cid is not in `offered` goes."""

    peer: PeerId
    offered: Container[Cid]


@dataclass(frozen=True, slots=True)
class Changes:
    """What one `commit` does, in this order: withdraw origins, drop results, recall those that a peer offers no more,
    store what is staged, relabel, settle."""

    withdraw: Callable[[Origin], bool] | None = None
    """Every live origin for which it answers True is withdrawn, now and for good."""
    drop: frozenset[Cid] = frozenset()
    """These results go, whoever computed them, with their origins."""
    drop_if: Mapping[Cid, Drop] = field(default_factory=dict)
    """These go likewise, each on its own conditions."""
    recall: Recall | None = None
    """What goes as its peer offers it no more; never what was computed here, or came from someone else."""
    put: Staged | None = None
    """What `stage` of the same cache gave; it is closed afterwards."""
    relabel: Mapping[Cid, Relabel] = field(default_factory=dict)
    """These get another origin, each on its own conditions."""
    settle: frozenset[Cid] = frozenset()
    """The offers kept about these cids are forgotten, those that this commit adds included; but not about what was
    stale, which settles nothing."""
    at: float = 0.0
    """Now, in seconds since the epoch, for the offers that this commit notes."""


class Clash(NamedTuple):
    """Two different results for one cid: what was held, and what arrived. `replaced`: the arriving one now stands."""

    cid: Cid
    held: Origin
    held_digest: str
    offered: Origin
    offered_digest: str
    replaced: bool


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a commit did, in counts of results.

    `stored` by their origins; `unchanged`: staged ones that were held already, equal; `clashes`: those that were held
    and differ; `stale`: cids not stored, as something that they were computed from was withdrawn; `withdrawn`: results
    that became unreadable with their origins; `dropped`: those dropped by name (`drop`, `drop_if`); `recalled`: those
    that their peer offers no more; `relabelled`: those that got the origin that was meant for them.
    """

    stored: Mapping[Origin, int] = field(default_factory=dict)
    unchanged: int = 0
    clashes: tuple[Clash, ...] = ()
    stale: frozenset[Cid] = frozenset()
    withdrawn: int = 0
    dropped: int = 0
    recalled: int = 0
    relabelled: int = 0


@runtime_checkable
class OriginCache(Protocol):
    """What a cache inside a `Federation` keeps. It is a mutable mapping as well: `cache[cid] = result` puts a result
    computed here (over whatever was held), `del cache[cid]` drops one with its origin, iteration gives what is held.

    Safe to use from several threads.
    """

    @property
    def codec(self) -> Codec:
        """What results are written and read with."""

    @property
    def encodes(self) -> bool:
        """Whether results are kept as bytes, so that only what the codec can carry is taken; else as the objects."""

    @property
    def provenance(self) -> Mapping[Cid, PeerId]:
        """The peer of each result that came from one: a copy, or a live view where the cache is durable."""

    @property
    def lineage(self) -> Mapping[Cid, frozenset[PeerId]]:
        """The other peers of each result that rests on some, likewise."""

    def origins(self) -> dict[Origin, Total]:
        """The live origins and what their results come to, without walking the results (but for a mapping that lets
        some go by itself)."""

    def held(self, cids: Iterable[Cid]) -> dict[Cid, Held]:
        """Which of these are held, and whence; nothing is read."""

    def load(self, cids: Iterable[Cid], observe: Callable[[Event], None] | None = None) -> dict[Cid, tuple[Held, Any]]:
        """Those that are held, with their results, read and checked. One that fails its digest is left out and
        `observe` (or a logged warning) says so; likewise a peer's whose bytes are no value. `CodecError` for one of
        our own that this codec cannot read; `StoreError` where the store fails."""

    def stored(self, cid: Cid) -> Stored | None:
        """One result as it is kept, or None where it is not held or fails its digest (then a warning is logged)."""

    def recipes(self, op: str | None = None) -> Iterator[tuple[Cid, bytes]]:
        """The held results that have a recipe (of `op`, or all), in the order in which they were stored."""

    def made(self, cids: Iterable[Cid]) -> dict[Cid, Made]:
        """How those that are held were made; nothing is read, and in memory digest and size are worked out."""

    def inventory(self) -> Iterator[tuple[Cid, Made]]:
        """Everything that is held, the oldest stored first, in bounded memory; no lock or cursor is held in between."""

    def offers(self, cids: Iterable[Cid] | None = None) -> Iterator[Offer]:
        """The offers that are kept (about these cids), by cid, peer, digest and lineage, no two of them equal in these.

        An arriving result that meets a held one is noted together with it, unless it is the very same offer: same peer,
        digest and lineage. So whatever the order in which several came, the same ones are kept. Withdrawing trust in a
        peer leaves its offers; `Changes.settle` removes them. At most `MOST_OFFERS` are kept: beyond it the oldest
        ones of whoever has most go, first those that agree with all others about their cid; of those noted at one time
        the first in this order.
        """

    def stage(self, entries: Iterable[Entry]) -> Staged:
        """Lay entries ready in bounded memory, holding no lock. What the iterable raises goes through; then nothing is
        left. Entries need a payload where the cache `encodes`, else a value."""

    def commit(self, changes: Changes) -> Outcome:
        """Check again what is held, apply the held/arriving table, all or nothing; durable when it returns."""

    def purge(self) -> bool:
        """Remove a bounded number of results that nobody can read any more; True where some may be left."""

    def close(self) -> None:
        """Let go of files and connections; optional. A durable cache raises `StoreError` when used afterwards."""

    def __getitem__(self, cid: Cid, /) -> Any: ...
    def __setitem__(self, cid: Cid, result: Any, /) -> None: ...
    def __delitem__(self, cid: Cid, /) -> None: ...
    def __contains__(self, cid: object, /) -> bool: ...
    def __iter__(self) -> Iterator[Cid]: ...
    def __len__(self) -> int: ...
