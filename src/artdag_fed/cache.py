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

from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol, runtime_checkable

from artdag_fed.codec import Codec
from artdag_fed.events import Event
from artdag_fed.names import Cid, PeerId

__all__ = ["Cache", "Changes", "Clash", "Entry", "Held", "Made", "Origin", "OriginCache", "Outcome", "Staged", "Stored"]

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


class Staged(Protocol):
    """Entries that are laid ready, unread by anyone, until they are committed or closed."""

    def close(self) -> None:
        """Throw away what was laid ready; nothing after a commit, and nothing when called again."""


@dataclass(frozen=True, slots=True)
class Changes:
    """What one `commit` does, in this order: withdraw origins, drop results, store what is staged."""

    withdraw: Callable[[Origin], bool] | None = None
    """Every live origin for which it answers True is withdrawn, now and for good."""
    drop: frozenset[Cid] = frozenset()
    """These results go, whoever computed them, with their origins."""
    put: Staged | None = None
    """What `stage` of the same cache gave; it is closed afterwards."""


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
    that became unreadable with their origins; `dropped`: those dropped by name.
    """

    stored: Mapping[Origin, int] = field(default_factory=dict)
    unchanged: int = 0
    clashes: tuple[Clash, ...] = ()
    stale: frozenset[Cid] = frozenset()
    withdrawn: int = 0
    dropped: int = 0


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

    def origins(self) -> dict[Origin, int]:
        """The live origins and how many results each has, without walking the results."""

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
        """How those that are held were made; nothing is read, and in memory a digest is worked out where it was not."""

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
