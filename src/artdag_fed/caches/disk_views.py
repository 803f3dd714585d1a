"""Live views of a durable cache: what a `Federation` over one shows as its provenance and its lineage.

Rules: nothing is copied and nothing remembered; each question is answered from the index when it is asked, and a count
from the counts that the index keeps.
"""

from __future__ import annotations

from collections.abc import Callable, ItemsView, Iterable, Iterator, Mapping, ValuesView
from typing import Generic, Protocol, TypeVar

from artdag_fed.cache import Held, Origin
from artdag_fed.names import Cid

__all__ = ["LiveView"]

V = TypeVar("V")


class Holds(Protocol):
    """What a view wants of the cache that it shows."""

    def held(self, cids: Iterable[Cid]) -> dict[Cid, Held]: ...


class LiveView(Mapping[Cid, V], Generic[V]):
    """Of the results in `cache`, those whose origin has something to show: `shows(origin)`, None where it has not.

    walk: gives them with their origins; count: gives their number; both without reading results.

    One that goes while the view is iterated is left out of `items()` and `values()`; `dict(view)` asks twice, so where
    others write at the same time, say `dict(view.items())`.
    """

    def __init__(
        self,
        cache: Holds,
        shows: Callable[[Origin], V | None],
        walk: Callable[[], Iterator[tuple[Cid, Origin]]],
        count: Callable[[], int],
    ) -> None:
        self._cache = cache
        self._shows = shows
        self._walk = walk
        self._count = count

    def __getitem__(self, cid: object) -> V:
        held = self._cache.held([cid]).get(cid) if isinstance(cid, str) else None
        shown = None if held is None else self._shows(held.origin)
        if shown is None:
            raise KeyError(cid)
        return shown

    def __iter__(self) -> Iterator[Cid]:
        return (cid for cid, _ in self._walk())

    def items(self) -> ItemsView[Cid, V]:
        return _Items(self)

    def values(self) -> ValuesView[V]:
        return _Values(self)

    def pairs(self) -> Iterator[tuple[Cid, V]]:
        """What is shown, with its cid: a question for a batch, where asking for each would be one for each."""
        for cid, origin in self._walk():
            shown = self._shows(origin)
            if shown is not None:
                yield cid, shown

    def __len__(self) -> int:
        return self._count()

    def __repr__(self) -> str:
        return f"<live view of {len(self)} results in {self._cache!r}>"


class _Items(ItemsView[Cid, V]):
    _mapping: LiveView[V]

    def __iter__(self) -> Iterator[tuple[Cid, V]]:
        return self._mapping.pairs()


class _Values(ValuesView[V]):
    _mapping: LiveView[V]

    def __iter__(self) -> Iterator[V]:
        return (shown for _, shown in self._mapping.pairs())
