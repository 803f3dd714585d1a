"""Believing a result only where several peers offer the same one.

Rules: a peer's word is the digest of bytes that came from it under its own name (with `verify`: and its own
signature), hashed here and not as declared. Where its fetch has `digests` and nobody asks for signatures, it is what
that says, so that the bytes come once, from the peer that was asked. A bare digest is not signed: with `verify`
everyone's whole records are read, and their digests kept. Whoever fails, however late, has said nothing; whoever says
two things of one cid has said neither. What comes out went in unchanged; memory is that of a batch of records and of
everyone's digests. Nothing is kept between calls.

What it cannot see: that two names are one person. Count only peers that do not copy from, or belong to, each other.

>>> offers = {"alice": 1, "bob": 1, "eve": 2}
>>> roads = dict.fromkeys(offers, lambda peer: [Record("c1", offers[peer], peer)])
>>> fetch = quorum(roads, 2)
>>> list(fetch("alice")), list(fetch("eve"))
([<Record 'c1' from 'alice'>], [])
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import closing
from typing import Any, Final

from artdag_fed.admission import Gate
from artdag_fed.cache import Entry
from artdag_fed.callables import Fetch, Observe, Verify, check_callable, said
from artdag_fed.errors import BundleError, TransportError
from artdag_fed.events import Event, Reason
from artdag_fed.limits import Limits, check_limits
from artdag_fed.names import Cid, PeerId, check_peer, is_digest, shown
from artdag_fed.record import Record
from artdag_fed.transport import Answer, Digests, carrying, close_source, digests_of, reading

__all__ = ["BATCH_BYTES", "BATCH_RECORDS", "quorum"]

BATCH_RECORDS: Final = 5_000
"""Records whose digests are asked for at once: half of what one HTTP request may ask."""
BATCH_BYTES: Final = 8 << 20
"""Payload bytes that are held back at once, and a record more: far less than a result may have."""

TWO_THINGS: Final = "it says two things"
NOTHING: Final[Any] = None, None


def quorum(
    fetches: Mapping[PeerId, Fetch],
    k: int,
    *,
    verify: Verify | None = None,
    observe: Observe | None = None,
    limits: Limits = Limits(),
) -> Fetch:
    """A `Fetch` of those records of a peer whose result at least `k` distinct peers offer, the peer itself included.

    fetches: how each peer is reached, `{peer: fetch}`; each is asked under its own name alone. k: how many have to
    agree, 1 to as many as there are. verify: as for `pull`; then only what a peer has signed itself is its word, and
    everyone's records are read whole. limits: as for `import_`, for what each peer sends.

    observe is told of "conflict", once for each cid and each other peer that offers something else (`held`: what the
    peer that was asked offers, `offered`: what `peer` does, reason: whether it was passed on), and once for a cid of
    which `peer` says two things; of "unheard", where a peer did not answer, broke off, or went over a limit (reason);
    of "rejected", for a record that is nobody's word: as at the gate of an instance, or one that has no bytes.

    A call reads the others that have no `digests` (none has with `verify`) to their end, then calls the fetch of the
    peer that was asked; `TransportError` where there is none. An error of that peer goes through, before, while or
    after records came, and so does what `observe` raises. `BundleError` where that peer contradicts what has been
    passed on already, sends something that is no `Record`, or goes over a limit. Always partial; without `digests`.

    Raises `ValueError` where there are no peers, or k is below 1 or more than there are; `TypeError`, `InvalidName`.
    """
    if not isinstance(fetches, Mapping):
        raise TypeError(f"quorum() takes a mapping {{peer: fetch}}, not {type(fetches).__name__}")
    roads = {check_peer(peer): fetch for peer, fetch in fetches.items()}
    for peer, fetch in roads.items():
        check_callable(f"the fetch of {shown(peer)}", fetch)
    if not roads:
        raise ValueError("quorum() has no peers to ask: the mapping is empty")
    if type(k) is not int:
        raise TypeError(f"k must be an int, not {type(k).__name__}")
    if not 1 <= k <= len(roads):
        raise ValueError(f"k must be 1 to {len(roads)}, the number of peers, not {k}")
    check_callable("verify", verify, optional=True)
    check_callable("observe", observe, optional=True)
    check_limits(limits)

    def fetch_agreed(peer: PeerId, /) -> Iterable[Record]:
        if peer not in roads:
            known = ", ".join(map(shown, list(roads)[:3]))
            raise TransportError(f"no fetch is known for {shown(peer)}, only for {known}: name it in quorum()")
        poll = _Poll(peer, k, verify, observe, limits)
        for other, fetch in roads.items():
            if other != peer:
                poll.hear(other, fetch)
        source = reading(roads[peer], peer)
        return Answer(poll.agreed(source), source)

    return carrying(fetch_agreed, partial=True, digests=None)


class _Poll:
    """One call: what everyone says of which cid, as a digest; as "" where it said two things."""

    def __init__(self, peer: PeerId, k: int, verify: Verify | None, observe: Observe | None, limits: Limits) -> None:
        self._peer = peer
        self._k = k
        self._verify = verify
        self._observe = observe
        self._limits = limits
        self._heard: dict[PeerId, dict[Cid, str]] = {}
        self._asked: dict[PeerId, Digests] = {}  # who can be asked, for each batch anew
        self._own: dict[Cid, str] = {}
        self._passes: dict[Cid, bool] = {}  # what has been decided

    def hear(self, other: PeerId, fetch: Fetch) -> None:
        """Read what another peer offers, and keep the digests; or only note that it can be asked for them."""
        digests = digests_of(fetch) if self._verify is None else None
        if digests is not None:
            self._asked[other] = digests
            return
        words: dict[Cid, str] = {}
        with closing(self._judged(other, fetch)) as judged:
            while True:
                try:
                    record, verdict = next(judged, NOTHING)
                except Exception as error:  # noqa: BLE001  # whatever is wrong with one of the others, it is not the pull
                    self._tell(Event("unheard", peer=other, reason=said(error)))
                    return
                if record is None:
                    break
                self._note(words, other, record, verdict)  # outside of `try`: what `observe` raises goes through
        self._heard[other] = words

    def agreed(self, source: Iterator[Record]) -> Iterator[Record]:
        """Those records of the peer that was asked that enough others agree with."""
        batch: list[Record] = []
        size = 0
        with closing(self._judged(self._peer, lambda _: source)) as judged:
            for record, verdict in judged:
                if not self._note(self._own, self._peer, record, verdict):
                    continue
                if not self._own[record.cid] and self._passes.get(record.cid):
                    raise BundleError(
                        f"{shown(self._peer)} sent two results for {shown(record.cid)}, and the first had been passed "
                        "on: nothing was kept"
                    )
                batch.append(record)
                size += len(record.payload)
                if len(batch) == BATCH_RECORDS or size >= BATCH_BYTES:
                    yield from self._passed(batch)
                    batch, size = [], 0
            yield from self._passed(batch)

    def _judged(self, peer: PeerId, fetch: Fetch) -> Generator[tuple[Record, Entry | Reason], None, None]:
        """What a peer sends, and whether it is its word: an `Entry`, whose digest was made from the bytes."""
        gate = Gate(trusted=lambda _: True, asked=peer, verify=self._verify, limits=self._limits, encodes=True)
        source = reading(fetch, peer)
        try:
            for count, record in enumerate(source, 1):
                if not isinstance(record, Record):
                    raise BundleError(f"{shown(peer)} sent something of type {type(record).__name__}, not a Record")
                if count > self._limits.records:
                    raise BundleError(f"{shown(peer)} sent more than {self._limits.records:,} records (Limits.records)")
                yield record, gate.judge(record) if record.peer == peer else "mislabelled"
        finally:
            close_source(source)

    def _note(self, words: dict[Cid, str], peer: PeerId, record: Record, verdict: Entry | Reason) -> bool:
        """Whether the record is its peer's word, which is noted then."""
        cid: Any = record.cid
        if not isinstance(verdict, Entry):
            claims: tuple[object, ...] = (cid, record.peer)
            cid, by = (claim[:255] if isinstance(claim, str) else "" for claim in claims)
            self._tell(Event("rejected", cid, by, reason=verdict))
            return False
        before = words.setdefault(cid, verdict.digest)
        if before not in ("", verdict.digest):
            words[cid] = ""
            self._tell(Event("conflict", cid, peer, reason=TWO_THINGS, held=before, offered=verdict.digest))
        return True

    def _passed(self, batch: list[Record]) -> Iterator[Record]:
        self._decide([cid for cid in {record.cid: None for record in batch} if cid not in self._passes])
        for record in batch:
            if self._own[record.cid] and self._passes[record.cid]:
                yield record

    def _decide(self, cids: list[Cid]) -> None:
        """Whether enough of the others say the same of these, and who says something else."""
        cids = [cid for cid in cids if self._own[cid]]
        answers = dict(self._heard)
        for other in list(self._asked) if cids else ():
            answers[other] = self._ask(other, cids)
        for cid in cids:
            own = self._own[cid]
            offers = {other: word for other, words in answers.items() if (word := words.get(cid))}
            agree = 1 + sum(word == own for word in offers.values())
            self._passes[cid] = agree >= self._k
            outcome = f"{'passed on' if agree >= self._k else 'left out'}: {agree} agree, {self._k} are needed"
            for other, word in offers.items():
                if word != own:
                    self._tell(Event("conflict", cid, other, reason=outcome, held=own, offered=word))

    def _ask(self, other: PeerId, cids: list[Cid]) -> dict[Cid, str]:
        try:
            told: Mapping[Cid, object] = self._asked[other](other, tuple(cids))  # as far as it is one
            words = {cid: told[cid] for cid in cids if cid in told}
            return {cid: word for cid, word in words.items() if is_digest(word)}
        except Exception as error:  # noqa: BLE001  # as in `hear`
            del self._asked[other]  # who failed once is not waited for again, and again, in this call
            self._tell(Event("unheard", peer=other, reason=said(error)))
            return {}

    def _tell(self, event: Event) -> None:
        if self._observe is not None:
            self._observe(event)
