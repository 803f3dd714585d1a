"""A peer in memory with a switch for each thing that can go wrong, and the contract of a `Fetch` as code.

Rules: needs no test framework and no network, and nothing sleeps unless a `sleep` is given that does. A fake peer
speaks in bytes, and is read by the reader that everyone reads bundles with, so what goes wrong, goes wrong where it
would. Put it behind a road of your own (`chunks`, `data`) and hand that to `check_fetch`.

>>> from artdag_fed import Federation, pull
>>> alice = FakePeer("alice", {"c1": 1, "c2": 2})
>>> pull(Federation(), alice, "alice", {"alice"}.__contains__).report.admitted
2
>>> alice.cut = -1
>>> pull(Federation(), alice, "alice", {"alice"}.__contains__)  # doctest: +ELLIPSIS
Traceback (most recent call last):
artdag_fed.errors.BundleError: the bundle is cut off ...
>>> check_fetch(lambda peer: peer)
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import count, islice
from typing import Any, Literal

from artdag_fed.bundle import MAGIC, read_bundle, write_bundle
from artdag_fed.callables import Fetch, Sign
from artdag_fed.federation import Federation, pull
from artdag_fed.limits import Limits
from artdag_fed.names import Cid, PeerId, shown
from artdag_fed.record import Record
from artdag_fed.testing_commits import same

__all__ = ["FakePeer", "Lie", "check_fetch"]

Lie = Literal["names", "ids", "digests", "sizes", "counts"]
PATIENCE = 60.0  # seconds of silence, or of waiting in all, after which the road is taken for dead
TRAILER_BYTES = 4 + 8 + 32
SIZE_AT = 4 + 8 + 4 + 4  # where a block of one record has the size of its payload, 8 bytes


# --- the peer -------------------------------------------------------------------------------


@dataclass(eq=False)
class FakePeer:
    """A peer that offers `offers`, a mapping of cid -> result or records, and misbehaves as its switches say.

    It is a `Fetch` that knows one name; `asked` lists who was asked for. Switches may be turned at any time, and count
    from the next answer on. An answer is a bundle, each record in a block of its own.
    """

    name: PeerId
    offers: Mapping[Cid, Any] | Iterable[Record] = field(default_factory=dict)
    sign: Sign | None = None
    """What records are signed with, before anything is lied about."""

    silent: bool = False
    """Nothing ever comes."""
    slow: float = 0.0
    """Seconds before each piece."""
    drip: float = 0.0
    """Seconds before each single byte."""
    endless: bool = False
    """Records without end, of ever new ids."""
    oversized: int = 0
    """One record more, of so many zero bytes."""
    cut: int | None = None
    """Only the first so many bytes come; below zero: all but so many."""
    flip: int | None = None
    """The bit that is turned, counted from the beginning; below zero: from the end."""
    lies_about: Collection[Lie] = ()
    """names: every record is called mallory's; ids: records swap their cids; digests: none fits its bytes; sizes: each
    payload is a byte longer than was told; counts: there is a record less than was told. All sums are made to fit."""
    equivocates: bool = False
    """Each answer has other results under the same ids."""
    error: BaseException | None = None
    """Raised in the middle of the answer."""

    sleep: Callable[[float], object] = lambda seconds: None
    """How it waits; what it waits for is counted anyhow, and ends in a `TimeoutError` after `PATIENCE` seconds."""
    limits: Limits = Limits()
    asked: list[PeerId] = field(default_factory=list)

    def __call__(self, peer: PeerId, /) -> Iterator[Record]:
        if peer != self.name:
            raise ConnectionRefusedError(f"nobody answers for {shown(peer)}")
        return read_bundle(_Reading(self.chunks(peer)), self.limits)

    def records(self) -> list[Record]:
        """What it offers when it is honest."""
        offers = self.offers
        if isinstance(offers, Mapping):
            made = [Record(cid, result, self.name) for cid, result in offers.items()]
        else:
            made = list(offers)
        return made if self.sign is None else [record.signed(self.sign) for record in made]

    def data(self) -> bytes:
        """The whole answer as bytes; not for one that is `endless`."""
        return b"".join(self.chunks())

    def chunks(self, asked: PeerId = "") -> Iterator[bytes]:
        """The bytes of an answer as they come, each piece after its wait. `asked` is noted; an empty one is as well."""
        self.asked.append(asked)
        return self._faulty(len(self.asked))

    # --- what goes wrong with its records -----------------------------------------------------

    def _told(self, answer: int) -> Iterator[Record]:
        """The records as they are sent in the answer of that number."""
        made = self.records()
        if self.equivocates:
            made = [Record(r.cid, [answer, r.cid], r.peer, r.lineage, r.recipe) for r in made]
            made = made if self.sign is None else [record.signed(self.sign) for record in made]
        cids = [record.cid for record in made]
        if "ids" in self.lies_about:
            cids = [*cids[1:], *cids[:1]]
        for cid, r in zip(cids, made, strict=True):
            peer = "mallory" if "names" in self.lies_about else r.peer
            digest = "0" * 64 if "digests" in self.lies_about else r.digest
            yield Record.encoded(cid, r.payload, digest, peer, r.lineage, r.recipe, r.signature)
        if self.oversized:
            yield Record("oversized", bytes(self.oversized - 1), self.name)  # and a byte that says what they are
        for number in count() if self.endless else ():
            yield Record(f"endless-{number}", number, self.name)

    # --- and with its bytes -------------------------------------------------------------------

    def _sent(self, answer: int) -> Iterator[bytes]:
        """A bundle, block by block."""
        sums = hashlib.sha256(MAGIC)
        total = int("counts" in self.lies_about)
        yield MAGIC
        for record in self._told(answer):
            stream = io.BytesIO()
            write_bundle(stream, [record])
            block = bytearray(stream.getvalue()[len(MAGIC) : -TRAILER_BYTES])
            if "sizes" in self.lies_about:
                size = int.from_bytes(block[SIZE_AT : SIZE_AT + 8], "big") - 1
                block[SIZE_AT : SIZE_AT + 8] = size.to_bytes(8, "big")
            sums.update(block[: 4 + int.from_bytes(block[:4], "big")])
            total += 1
            yield bytes(block)
        end = bytes(4) + total.to_bytes(8, "big")
        sums.update(end)
        yield end + sums.digest()

    def _faulty(self, answer: int) -> Iterator[bytes]:
        waited = 0.0

        def wait(seconds: float) -> None:
            nonlocal waited
            waited += seconds
            self.sleep(seconds)
            if waited >= PATIENCE:
                raise TimeoutError("nothing came in time")

        while self.silent:
            wait(1.0)
        pieces = self._sent(answer)
        if self.error is not None:
            whole = list(pieces)
            yield from whole[: len(whole) // 2]
            raise self.error
        if self.cut is not None or self.flip is not None:
            pieces = iter([self._damaged(b"".join(pieces))])
        for piece in pieces:
            if self.slow:
                wait(self.slow)
            if not self.drip:
                yield piece
                continue
            for i in range(len(piece)):
                wait(self.drip)
                yield piece[i : i + 1]

    def _damaged(self, data: bytes) -> bytes:
        changed = bytearray(data)
        if self.flip is not None:
            changed[self.flip // 8] ^= 1 << self.flip % 8
        return bytes(changed[: self.cut])


class _Reading:
    """Pieces of bytes as a file to read from."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._rest = memoryview(b"")

    def read(self, size: int, /) -> bytes:
        while not self._rest:
            piece = next(self._pieces, None)
            if piece is None:
                return b""
            self._rest = memoryview(piece)
        data, self._rest = self._rest[:size], self._rest[size:]
        return bytes(data)


# --- the contract of a Fetch ----------------------------------------------------------------


def check_fetch(make: Callable[[FakePeer], Fetch]) -> None:
    """Check that what `make(peer)` gives keeps the contract of `callables.Fetch`; `AssertionError` where it does not.

    make: called once per part of the contract with a `FakePeer`; gives a fetch that has this peer at the other end,
    under its name: its `data` in a file, its `chunks` behind a server, or the peer itself inside a wrapper.
    """
    for check in (
        gives_what_the_peer_offers,
        can_be_called_again_and_meanwhile,
        can_be_broken_off,
        gives_nothing_for_someone_else,
        raises_where_the_answer_breaks,
        lets_nothing_wrong_through,
        carries_attributes_that_hold,
    ):
        check(make)


OFFERS: Mapping[Cid, Any] = {f"c{i}": [i, "x" * i * 100] for i in range(8)}


def _given(fetch: Fetch, peer: PeerId) -> list[Record]:
    """What a fetch gives, each item a Record that names the peer or is signed."""
    given = []
    for item in fetch(peer):
        if not isinstance(item, Record):
            raise AssertionError(f"an item that a fetch gave is of type {type(item).__name__}, not a Record")
        if item.peer != peer and not item.signature:
            raise AssertionError(f"an unsigned record that was given for {peer} names {shown(item.peer)}")
        given.append(item)
    return given


def _same_offer(what: str, fetch: Fetch, given: list[Record], peer: FakePeer) -> None:
    """All that the peer offers, once; a fetch that is partial may leave some out."""
    offered = {record.cid: record for record in peer.records()}
    if not getattr(fetch, "partial", False):
        same(f"the cids of {what}", sorted(record.cid for record in given), sorted(offered))
    elif not given:
        raise AssertionError(f"{what}: a partial fetch gave nothing at all, so nothing can be checked")
    for record in given:
        same(f"a record of {what}", record, offered.get(record.cid))
        same(f"the lineage in {what}", record.lineage, offered[record.cid].lineage)


def gives_what_the_peer_offers(make: Callable[[FakePeer], Fetch]) -> None:
    signed = [
        Record(f"c{i}", i, "alice", {"carol"} if i % 2 else set(), b"recipe" * (i % 3), b"signature") for i in range(8)
    ]
    for offers in (OFFERS, signed, [Record("c1", b"x" * 300_000, "alice", {"bob", "zoe"})]):
        peer = FakePeer("alice", offers)
        fetch = make(peer)
        _same_offer("an answer", fetch, _given(fetch, "alice"), peer)
    fed = pull(Federation(), make(FakePeer("alice", OFFERS)), "alice", {"alice"}.__contains__)
    same("what was pulled", {cid: fed.cache[cid] for cid in fed}, {cid: OFFERS[cid] for cid in fed})
    same("who it is from", set(fed.provenance.values()), {"alice"})


def can_be_called_again_and_meanwhile(make: Callable[[FakePeer], Fetch]) -> None:
    peer = FakePeer("alice", OFFERS)
    fetch = make(peer)
    first = iter(fetch("alice"))
    begun = list(islice(first, 1))
    _same_offer("an answer while another is read", fetch, _given(fetch, "alice"), peer)
    _same_offer("an answer that was read while there was another", fetch, [*begun, *first], peer)
    _same_offer("a third answer", fetch, _given(fetch, "alice"), peer)


def can_be_broken_off(make: Callable[[FakePeer], Fetch]) -> None:
    peer = FakePeer("alice", OFFERS)
    fetch = make(peer)
    for _ in range(3):
        answer = iter(fetch("alice"))
        next(answer, None)
        if hasattr(answer, "close"):
            answer.close()
        del answer
    _same_offer("an answer after some that were broken off", fetch, _given(fetch, "alice"), peer)


def gives_nothing_for_someone_else(make: Callable[[FakePeer], Fetch]) -> None:
    fetch = make(FakePeer("alice", OFFERS))
    try:
        answer = iter(fetch("nobody"))
        for record in answer:
            if record.peer != "nobody":
                raise AssertionError(f"asked for nobody, a fetch gave a record of {shown(record.peer)}")
    except AssertionError:
        raise
    except Exception:  # noqa: BLE001  # whatever it says, it is a no
        pass


BREAKS: Mapping[str, Mapping[str, Any]] = {
    "is cut off in the middle": {"cut": 500},
    "lacks its last byte": {"cut": -1},
    "lacks its trailer": {"cut": -TRAILER_BYTES},
    "is empty": {"cut": 0},
    "has a bit turned in its first header": {"flip": 8 * (len(MAGIC) + 4) + 9},
    "has a bit turned in its trailer": {"flip": -1},
    "lies about a size": {"lies_about": ("sizes",)},
    "lies about its count": {"lies_about": ("counts",)},
}


def raises_where_the_answer_breaks(make: Callable[[FakePeer], Fetch]) -> None:
    for what, switches in BREAKS.items():
        peer = FakePeer("alice", OFFERS, **switches)
        fetch = make(peer)
        try:
            given = _given(fetch, "alice")
        except AssertionError:
            raise
        except Exception:  # noqa: BLE001  # `pull` turns any of them into one of ours
            continue
        # One that leaves things out by design may have stopped before it came to the break.
        if not getattr(fetch, "partial", False):
            raise AssertionError(f"an answer that {what} ended as if it were whole, with {len(given)} records")
        _same_offer(f"an answer that {what}", fetch, given, peer)


def lets_nothing_wrong_through(make: Callable[[FakePeer], Fetch]) -> None:
    size = 8 * len(FakePeer("alice", OFFERS).data())
    for bit in range(5, size, size // 50):
        fetch = make(FakePeer("alice", OFFERS, flip=bit))
        if getattr(fetch, "partial", False):
            continue  # it may have stopped before the sum over all headers, as it was asked to
        try:
            fed = pull(Federation(), fetch, "alice", {"alice"}.__contains__)
        except Exception:  # noqa: BLE001  # as above
            continue
        found = {cid: fed.cache[cid] for cid in fed}
        same(f"what was pulled with bit {bit} turned", found, {cid: OFFERS.get(cid) for cid in found})
    fetch = make(FakePeer("alice", OFFERS, lies_about=["digests"]))
    try:
        fed = pull(Federation(), fetch, "alice", {"alice"}.__contains__)
    except Exception:  # noqa: BLE001  # a road may look itself
        return
    same("how many were pulled of those whose digests are wrong", len(fed), 0)


def carries_attributes_that_hold(make: Callable[[FakePeer], Fetch]) -> None:
    peer = FakePeer("alice", OFFERS)
    fetch = make(peer)
    partial = getattr(fetch, "partial", False)
    if partial is not True and partial is not False:
        raise AssertionError(f"the attribute `partial` of a fetch is True or False, not {partial!r}")
    digests = getattr(fetch, "digests", None)
    if digests is None:
        return
    offered = {record.cid: record.digest for record in peer.records()}
    same("digests(peer, [])", dict(digests("alice", [])), {})
    same("digests(peer, one that is not offered)", dict(digests("alice", ["absent"])), {})
    told = dict(digests("alice", iter([*offered, "absent"])))
    if partial:
        offered = {cid: digest for cid, digest in offered.items() if cid in told}
    same("digests(peer, cids)", told, offered)
    some = sorted(offered)[:1]
    same("digests(peer, [one])", dict(digests("alice", some)), {cid: offered[cid] for cid in some})
