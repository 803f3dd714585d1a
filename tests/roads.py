"""A fetch with switches, its clock, and the wrappers that go around it.

Rules: a `Road` gives records, fails where it is told to, and remembers what was asked of it and whether it was closed.
Time is a number that `sleep` and the road move on; nothing here waits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest

from artdag_fed import Record, first_of, limited, retrying, wanted
from artdag_fed.transport import carrying

Wrap = Callable[[Any], Any]


def some(count: int, peer: str = "alice") -> list[Record]:
    return [Record(f"c{n}", n, peer) for n in range(count)]


class Time:
    """A clock that stands still unless it is slept on, and what was slept."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.slept: list[float] = []

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


class Road:
    """A fetch with switches. breaks: before which item `error` is raised; refuses: how many calls raise it at once."""

    def __init__(
        self,
        items: Iterable[Any] = (),
        *,
        error: BaseException | None = None,
        breaks: int | None = None,
        refuses: int = 0,
        each: Callable[[], object] = lambda: None,
    ) -> None:
        self.items = items
        self.error = ConnectionResetError("gone") if error is None else error
        self.breaks, self.refuses, self.each = breaks, refuses, each
        self.asked: list[Any] = []
        self.given = 0
        self.open = 0

    def __call__(self, peer: str, /) -> Iterator[Any]:
        self.asked.append(peer)
        if len(self.asked) <= self.refuses:
            raise self.error
        self.open += 1
        return Reading(self)


class Reading(Iterator[Any]):
    """Not a generator, so that being closed is seen even where it was never begun, and only if somebody does it."""

    def __init__(self, road: Road) -> None:
        self.road, self.items, self.closed = road, enumerate(road.items), False

    def __next__(self) -> Any:
        assert not self.closed
        n, item = next(self.items, (None, None))
        self.road.each()
        if self.road.breaks is not None and n in (self.road.breaks, None):
            raise self.road.error
        if n is None:
            raise StopIteration
        self.road.given += 1
        return item

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            self.road.open -= 1


def cids(records: Iterable[Record]) -> list[str]:
    return [record.cid for record in records]


WRAPS: dict[str, Wrap] = {
    "first_of": first_of,
    "limited": lambda fetch: limited(fetch, records=1000, bytes=10**6, seconds=10**6),
    "retrying": lambda fetch: retrying(fetch, attempts=1),
    "wanted": lambda fetch: wanted(fetch, [f"c{n}" for n in range(1000)]),
    "all of them": lambda fetch: wanted(limited(retrying(first_of(fetch), attempts=1), records=9), ["c0", "c1", "c2"]),
}
every_wrap = pytest.mark.parametrize("wrap", WRAPS.values(), ids=WRAPS)


def offers(answer: dict[str, str], asked: list[Any] | None = None, error: Exception | None = None) -> Any:
    """A whole fetch that can tell digests."""

    def digests(peer: str, cids: Iterable[str]) -> dict[str, str]:
        if asked is not None:
            asked.append((peer, tuple(cids)))
        if error is not None:
            raise error
        return answer

    return carrying(Road(some(3)), partial=False, digests=digests)


def patient(road: Any, time: Time, **more: Any) -> Any:
    return retrying(road, clock=time.clock, sleep=time.sleep, **more)
