"""Live views of a durable cache: what a `Federation` over one shows as its provenance and its lineage.

Rules: nothing is copied and nothing remembered; each question is answered from the index when it is asked, and a count
from the counts that the index keeps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Generic, TypeVar

from artdag_fed.cache import Origin, OriginCache
from artdag_fed.names import Cid

__all__ = ["LiveView"]

V = TypeVar("V")


class LiveView(Mapping[Cid, V], Generic[V]):
    """Of the results in `cache`, those whose origin has something to show: `shows(origin)`, None where it has not.

    walk: gives their cids; count: gives their number; both without reading results.
    """

    def __init__(
        self,
        cache: OriginCache,
        shows: Callable[[Origin], V | None],
        walk: Callable[[], Iterator[Cid]],
        count: Callable[[], int],
    ) -> None:
        self._cache = cache
        self._shows = shows
        self._walk = walk
        self._count = count

    def __getitem__(self, cid: Cid) -> V:
        held = self._cache.held([cid]).get(cid) if isinstance(cid, str) else None
        shown = None if held is None else self._shows(held.origin)
        if shown is None:
            raise KeyError(cid)
        return shown

    def __iter__(self) -> Iterator[Cid]:
        return self._walk()

    def __len__(self) -> int:
        return self._count()

    def __repr__(self) -> str:
        return f"<live view of {len(self)} results in {self._cache!r}>"
