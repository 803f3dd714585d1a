"""The held/arriving table of a cache in memory, and what it keeps beside each result.

Rules: everything here decides or counts and changes no cache. Two results are the same where they are one object or
have one digest; where the codec cannot carry them, identity decides.

>>> measure(Codec(), object())
('', 0)
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Set
from typing import Any, NamedTuple

from artdag_fed.cache import Clash, Entry, Offer, Total
from artdag_fed.codec import Codec
from artdag_fed.errors import CodecError
from artdag_fed.names import Cid

__all__ = ["Mark", "Verdicts", "measure", "measured", "totals_of"]


class Mark(NamedTuple):
    """What is kept beside a result. `digest` is None until someone asks, and "" where the codec cannot carry it; `size`
    is 0 until then."""

    token: int
    digest: str | None
    recipe: bytes
    inputs_digest: str
    source: str = ""
    seconds: float = 0.0
    signature: bytes = b""
    size: int = 0


class Verdicts:
    """The table over the entries of one commit in their order, and the offers that meet in it.

    live: tokens of the origins that are left; look: what is held for a cid, as an `Entry`, with its digest if asked;
    at: as in `Changes`.
    """

    def __init__(self, codec: Codec, live: Set[int], look: Callable[[Cid, bool], Entry | None], at: float) -> None:
        self._codec = codec
        self._live = live
        self._look = look
        self._at = at
        self.storing: dict[Cid, Entry] = {}
        self.unchanged = 0
        self.clashes: list[Clash] = []
        self.stale: set[Cid] = set()
        self.offers: list[tuple[Offer, bool]] = []
        """And whether each arrived; else it was held."""

    def add(self, entry: Entry) -> None:
        """Judge one more."""
        cid = entry.cid
        if not entry.basis <= self._live:
            self.stale.add(cid)
            return
        first = self.storing.get(cid)  # of several for one cid in one commit, the first stays
        held = self._look(cid, False) if first is None else measured(self._codec, first)
        if held is None:
            self.storing[cid] = entry
            return
        identical = held.value is entry.value
        if first is not None:
            self.storing[cid] = held
        elif identical and held.origin == entry.origin and not entry.replace:
            self.unchanged += 1  # the very same offer: no bytes are needed to know it
            return
        else:
            held = self._look(cid, True) or held
        if identical:
            entry = entry._replace(digest=held.digest, size=held.size)
        entry = measured(self._codec, entry)
        same = identical or (held.digest == entry.digest != "")
        replaced = first is None and entry.origin.local and (entry.replace or not held.origin.local)
        if not (same and held.origin == entry.origin):
            self.offers += (self._offer(entry), True), (self._offer(held), False)
        if not same:
            self.clashes.append(Clash(cid, held.origin, held.digest, entry.origin, entry.digest, replaced))
        if replaced:
            self.storing[cid] = entry
        elif same:
            self.unchanged += 1

    def _offer(self, e: Entry) -> Offer:
        return Offer(e.cid, e.origin.peer, e.digest, e.size, e.origin.lineage, e.signature, self._at)


def measure(codec: Codec, result: Any) -> tuple[str, int]:
    """Digest and size of the encoded result; "" and 0 where the codec cannot carry it."""
    try:
        payload = codec.encode(result)
    except CodecError:
        return "", 0
    return hashlib.sha256(payload).hexdigest(), len(payload)


def measured(codec: Codec, entry: Entry) -> Entry:
    """The entry with digest and size, worked out where they are unknown."""
    if entry.digest and entry.size:
        return entry
    digest, size = measure(codec, entry.value)
    return entry._replace(digest=entry.digest or digest, size=size)


def totals_of(before: Mapping[int, Total], more: Iterable[Mark], less: Iterable[Mark] = ()) -> dict[int, Total]:
    """What the results of each token come to, after these were added and taken away."""
    totals: dict[int, list[Any]] = {token: list(total) for token, total in before.items()}
    for sign, marks in ((1, more), (-1, less)):
        for token, _, _, _, _, seconds, _, size in marks:
            total = totals.get(token)
            if total is None:
                total = totals[token] = [0, 0, 0.0]
            total[0] += sign
            total[1] += sign * size
            total[2] += sign * seconds
    # Seconds are no whole numbers, so taking away what was added may leave a trace: none is left of no results.
    return {token: Total(n, size, max(seconds, 0.0)) for token, (n, size, seconds) in totals.items() if n}
