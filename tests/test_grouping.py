"""How finished results are grouped into commits: bounded in number, bytes and time.

Rules: the clock is the test's; what runs beside a slow node is waited for by events, never by sleeping.
"""

from __future__ import annotations

import hashlib
import sys
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from artdag_fed import DiskCache, Event, Federation, MemoryCache, RunError, StoreError, grouping, run
from artdag_fed.cache import Changes, Origin, Outcome
from artdag_fed.execute import execute
from tests.sums import LONG, add, chain


class Commits(MemoryCache):
    """A cache that remembers how many results each commit stored."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: list[int] = []

    def commit(self, changes: Changes) -> Outcome:
        outcome = super().commit(changes)
        self.sizes.append(sum(outcome.stored.values()))
        return outcome


class Clock:
    """Seconds that pass only when told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def numbers(op: str, inputs: tuple[Any, ...], params: Mapping[str, Any]) -> Any:
    return params["n"]


def test_a_group_is_bounded_in_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grouping, "GROUP_RESULTS", 10)
    cache = Commits()
    execute(cache, [chain(25)], numbers, clock=Clock())
    assert cache.sizes == [10, 10, 5]


def test_a_group_is_bounded_in_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grouping, "GROUP_BYTES", 3000)
    cache = Commits()
    execute(cache, [chain(8)], lambda op, inputs, params: b"x" * 999, clock=Clock())  # and a byte for its kind
    assert cache.sizes == [3, 3, 2]


def test_a_group_is_bounded_in_time_by_the_clock_that_is_passed_in() -> None:
    cache, clock = Commits(), Clock()

    def slower(op: str, inputs: tuple[Any, ...], params: Mapping[str, Any]) -> int:
        clock.now += grouping.GROUP_SECONDS * 0.4
        return int(params["n"])

    execute(cache, [chain(8)], slower, clock=clock)
    assert cache.sizes == [4, 4]  # the first of a group waits from when it is done: 0, 0.4, 0.8, 1.2


def test_without_time_passing_everything_is_one_commit() -> None:
    cache = Commits()
    execute(cache, [chain(100)], numbers, clock=Clock())
    assert cache.sizes == [100]


def test_everything_finished_before_a_slow_node_is_committed_while_it_runs(
    durable: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(grouping, "GROUP_SECONDS", 0.01)
    committed = threading.Event()
    seen: list[int] = []
    top = chain(4)
    quick = {chain(n).cid for n in (1, 2, 3)}

    def observe(event: Event) -> None:
        if event.kind == "committed":
            seen.append(event.count)
            if sum(seen) == 3:
                committed.set()

    def slow(op: str, inputs: tuple[Any, ...], params: Mapping[str, Any]) -> int:
        if params["n"] == 4:
            assert committed.wait(LONG), "what was finished is not committed while this node runs"
            path = durable.cache.path  # type: ignore[attr-defined]  # of a DiskCache
            other = DiskCache(path)  # as another process sees it
            assert set(other) == quick
            other.close()
        return int(params["n"])

    assert run(durable, top, slow, observe=observe).value == 4
    assert sum(seen) == 4


def test_no_thread_is_left_after_a_run(durable: Federation, monkeypatch: pytest.MonkeyPatch) -> None:
    waited_for: list[str] = []
    join = threading.Thread.join

    def watched(thread: threading.Thread, timeout: float | None = None) -> None:
        join(thread, timeout)
        waited_for.append(thread.name)

    monkeypatch.setattr(threading.Thread, "join", watched)
    run(durable, chain(3), numbers)
    with pytest.raises(RunError):
        run(durable, add(add(n=7), n=8), lambda op, inputs, params: 1 // (8 - params["n"]))
    assert waited_for == ["artdag_fed-commit"] * 2
    assert not [t for t in threading.enumerate() if t.name == "artdag_fed-commit"]


class Breaking(DiskCache):
    """A durable cache whose commits fail as long as it is told so, and which says when one has."""

    failing = False

    def __init__(self, path: Any) -> None:
        super().__init__(path)
        self.failed = threading.Event()

    def commit(self, changes: Changes) -> Outcome:
        if self.failing:
            self.failed.set()
            raise StoreError("the disk is full")
        return super().commit(changes)


@pytest.fixture
def breaking(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(grouping, "GROUP_SECONDS", 0.01)
    cache = Breaking(tmp_path / "breaking")
    yield cache
    cache.close()


def while_failing(cache: Breaking, recovers: bool) -> Callable[[str, Any, Any], int]:
    def runner(op: str, inputs: Any, params: Mapping[str, Any]) -> int:
        if params["n"] == 2:
            cache.failing = True
            assert cache.failed.wait(LONG)
            cache.failing = not recovers
        return int(params["n"])

    return runner


def test_what_goes_wrong_in_the_background_is_raised_and_what_could_not_be_committed_is_tried_again(
    breaking: Breaking,
) -> None:
    fed = Federation(breaking)
    with pytest.raises(StoreError, match="the disk is full"):
        run(fed, chain(3), while_failing(breaking, recovers=True))
    assert {chain(1).cid, chain(2).cid} <= set(fed)


def test_a_disk_that_stays_full_is_a_store_error_and_what_was_stored_before_is_there(breaking: Breaking) -> None:
    fed = Federation(breaking)
    fed.cache["mine"] = 1
    with pytest.raises(StoreError, match="the disk is full"):
        run(fed, chain(3), while_failing(breaking, recovers=False))
    assert set(fed) == {"mine"}
    breaking.failing = False
    assert run(fed, chain(3), numbers).value == 3


def test_what_observe_raises_beside_a_slow_node_comes_out_of_the_run(
    durable: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(grouping, "GROUP_SECONDS", 0.01)
    told = threading.Event()

    class Enough(Exception):
        pass

    def observe(event: Event) -> None:
        if event.kind == "committed":
            told.set()
            raise Enough

    def slow(op: str, inputs: Any, params: Mapping[str, Any]) -> int:
        assert params["n"] != 2 or told.wait(LONG)
        return int(params["n"])

    with pytest.raises(Enough):
        run(durable, chain(2), slow, observe=observe)
    assert chain(1).cid in durable


# --- taking results without a lock --------------------------------------------------------------


def finished(n: int) -> grouping.Finished:
    payload = b"J%d" % n
    return f"c{n}", hashlib.sha256(payload).hexdigest(), payload, n, b"", "", "", 0.0, 0


class Holding(Commits):
    """Its commits wait until they are let go."""

    def __init__(self) -> None:
        super().__init__()
        self.began, self.go = threading.Event(), threading.Event()

    def commit(self, changes: Changes) -> Outcome:
        self.began.set()
        assert self.go.wait(LONG)
        return super().commit(changes)


def test_what_is_added_while_others_flush_is_committed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grouping, "GROUP_BYTES", 500)
    cache, over = Commits(), threading.Event()
    group = grouping.Group(cache, time.monotonic, [])
    group.resting(Origin(None), frozenset(), False)

    def flush() -> None:
        while not over.is_set():
            group.flush()

    others = [threading.Thread(target=flush) for _ in range(2)]
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        for other in others:
            other.start()
        for n in range(3000):
            group.add(finished(n), time.monotonic())
    finally:
        over.set()
        sys.setswitchinterval(before)
    for other in others:
        other.join()
    group.flush()
    assert sum(cache.sizes) == len(cache) == 3000 and dict(cache) == {f"c{n}": n for n in range(3000)}


def test_what_is_added_while_another_commits_is_due_in_its_turn() -> None:
    cache, clock = Holding(), Clock()
    group = grouping.Group(cache, clock, [])
    group.resting(Origin(None), frozenset(), False)
    group.add(finished(1), 0.0)
    flushing = threading.Thread(target=group.flush)
    flushing.start()
    assert cache.began.wait(LONG)
    adding = threading.Thread(target=group.add, args=(finished(2), 0.0))
    adding.start()
    cache.go.set()
    flushing.join()
    adding.join()
    assert cache.sizes == [1]
    clock.now = grouping.GROUP_SECONDS
    group.flush_old()
    assert cache.sizes == [1, 1]
