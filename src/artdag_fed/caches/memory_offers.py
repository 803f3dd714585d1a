"""The offers that a cache in memory keeps as evidence: see `OriginCache.offers`.

Rules: as in the table of a durable cache: one for a cid, peer, digest and lineage, the first that came, which only a
missing signature is added to; more than `MOST_OFFERS` are never kept for longer than a commit takes. Results are not
kept, only what they are told apart by. Not safe by itself: whoever has it holds a lock.

>>> kept = Offers()
>>> kept.add(Offer("c1", "alice", "d1", 5, frozenset(), b"", 0.0), arrived=True)
>>> [offer.peer for offer in kept.about(None)]
['alice']
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

from artdag_fed.cache import MOST_OFFERS, Offer
from artdag_fed.caches.evidence import going, lineage_text
from artdag_fed.names import Cid

__all__ = ["Offers"]

Key = tuple[str, str, str]  # peer ("": computed here), digest, lineage: in this order they are given


class _Kept(NamedTuple):
    offer: Offer
    arrived: bool  # else it was held when another came


class Offers:
    """Offers by cid."""

    def __init__(self) -> None:
        self._kept: dict[Cid, dict[Key, _Kept]] = {}
        self._count = 0

    def add(self, offer: Offer, *, arrived: bool) -> None:
        """Keep it, if it is not there."""
        about = self._kept.setdefault(offer.cid, {})
        key = offer.peer or "", offer.digest, lineage_text(offer.lineage)
        first = about.get(key)
        if first is None:
            about[key] = _Kept(offer, arrived)
            self._count += 1
        elif (arrived and not first.arrived) or (offer.signature and not first.offer.signature):
            signed = first.offer if first.offer.signature else first.offer._replace(signature=offer.signature)
            about[key] = _Kept(signed, arrived or first.arrived)

    def bound(self) -> None:
        """Remove what is over `MOST_OFFERS`."""
        if self._count <= MOST_OFFERS:
            return
        counts = Counter(key[0] for about in self._kept.values() for key, kept in about.items() if kept.arrived)
        for peer, over in going(counts, MOST_OFFERS // 2).items():
            theirs = [
                (len({digest for _, digest, _ in about}) > 1, kept.offer.at, cid, key)
                for cid, about in self._kept.items()
                for key, kept in about.items()
                if kept.arrived and key[0] == peer
            ]
            for _, _, cid, key in sorted(theirs)[:over]:
                del self._kept[cid][key]
        self._kept = {cid: a for cid, a in self._kept.items() if any(kept.arrived for kept in a.values())}
        self._count = sum(map(len, self._kept.values()))
        # What was held can be more than what arrived only where it was withdrawn again and again; then the oldest go.
        if self._count > MOST_OFFERS:
            rest = [(k.arrived, k.offer.at, cid, key) for cid, about in self._kept.items() for key, k in about.items()]
            for _, _, cid, key in sorted(rest)[: self._count - MOST_OFFERS]:
                del self._kept[cid][key]
            self._count = MOST_OFFERS

    def settle(self, cids: Iterable[Cid]) -> None:
        """Forget the offers about these cids."""
        for cid in cids:
            self._count -= len(self._kept.pop(cid, ()))

    def about(self, cids: Iterable[Cid] | None) -> list[Offer]:
        """Those about these cids, or all, by cid, peer, digest and lineage."""
        chosen = sorted(self._kept) if cids is None else sorted(set(cids) & self._kept.keys())
        return [kept.offer for cid in chosen for _, kept in sorted(self._kept[cid].items(), key=lambda item: item[0])]
