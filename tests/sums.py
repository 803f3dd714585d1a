"""DAGs of sums, runners that add them up, and one check of a run over such a DAG that any executor has to pass.

Rules: all of it is at the top of a module, so that other processes find it.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from functools import reduce
from typing import Any

from artdag_fed import Event, Federation, Node, Record, import_, invalidate, node, run
from tests.instances import everyone

LONG = 30  # seconds that a test waits at most for something that takes milliseconds


def add(*inputs: Node, n: int = 1) -> Node:
    return node("add@1", *inputs, n=n)


def chain(length: int, start: int = 1) -> Node:
    return reduce(lambda below, n: add(below, n=n), range(start + 1, start + length), add(n=start))


def wide(count: int) -> Node:
    low = [add(n=n) for n in range(1, count + 1)]
    mid = [add(a, b, a, n=1000) for a, b in itertools.pairwise(low)]
    return add(*mid, *low, n=5)


def sums(op: str, inputs: tuple[int, ...], params: Mapping[str, Any]) -> int:
    return sum(inputs) + int(params["n"])


class Counting:
    """Sums, and remembers what it was asked; from any thread."""

    def __init__(self) -> None:
        self.asked: list[int] = []

    def __call__(self, op: str, inputs: tuple[Any, ...], params: Mapping[str, Any]) -> int:
        self.asked.append(params["n"])
        return sums(op, inputs, params)


def fails_at(*numbers: int) -> Callable[[str, tuple[Any, ...], Mapping[str, Any]], int]:
    def runner(op: str, inputs: tuple[Any, ...], params: Mapping[str, Any]) -> int:
        if params["n"] in numbers:
            raise ZeroDivisionError(f"{params['n']} went wrong")
        return int(sum(inputs)) + int(params["n"])

    return runner


def check_withdrawn_meanwhile(fed: Federation, executor: Executor | None = None) -> None:
    """What was made of something that is withdrawn meanwhile is computed again, through any executor."""
    low = add(n=1)
    mid = add(low, n=2)
    top = add(mid, n=3)
    fed = import_(fed, [Record(low.cid, 1000, "alice")], everyone)
    asked: list[int] = []
    told: list[Event] = []

    def slow(op: str, inputs: tuple[Any, ...], params: Mapping[str, Any]) -> int:
        asked.append(params["n"])
        if asked == [2, 3]:
            invalidate(fed, "alice", derived=True)
        return sums(op, inputs, params)

    done = run(fed, top, slow, executor=executor, observe=told.append)
    assert (done.value, asked) == (6, [2, 3, 1, 2, 3])
    assert set(done.computed) == {low.cid, mid.cid, top.cid} and done.reused == ()
    assert (dict(done.federation.provenance), dict(done.federation.lineage)) == ({}, {})
    assert {e.cid for e in told if e.kind == "repeated"} == {mid.cid, top.cid}
    assert {cid: fed.cache[cid] for cid in (low.cid, mid.cid, top.cid)} == {low.cid: 1, mid.cid: 3, top.cid: 6}
