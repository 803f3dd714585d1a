"""Two runs on one cache at once: what both want is computed once, and nobody waits for ever.

Rules: threads are steered by events, never by sleeping.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest

from artdag_fed import Dag, Federation, MemoryCache, Node, Record, RunError, import_, node, run
from tests.sums import LONG, Counting, add, chain, sums

# --- two runs on one cache ------------------------------------------------------------------------


class Meeting:
    """A runner whose first call waits until another run waits for what it computes."""

    def __init__(self, cache: Any, fails: bool = False) -> None:
        self.cache, self.fails = cache, fails
        self.asked: list[int] = []
        self.began = threading.Event()

    def __call__(self, op: str, inputs: tuple[int, ...], params: Mapping[str, Any]) -> int:
        self.asked.append(params["n"])
        if len(self.asked) == 1:
            self.began.set()
            until = time.monotonic() + LONG
            while not any(other._wanted for other in self.cache.claims.present):
                assert time.monotonic() < until, "nobody waits"
                time.sleep(0.001)
            if self.fails:
                raise ValueError("the first time")
        return sums(op, inputs, params)


def both(*work: Callable[[], Any]) -> list[Any]:
    with ThreadPoolExecutor(len(work)) as pool:
        return [future.result(LONG) for future in [pool.submit(one) for one in work]]


EXECUTORS = pytest.mark.parametrize("executor", [None, "threads"])


@EXECUTORS
def test_two_runs_that_want_the_same_compute_it_once(
    fed: Federation, executor: str | None, request: pytest.FixtureRequest
) -> None:
    pool = request.getfixturevalue(executor) if executor else None
    runner = Meeting(fed.cache)

    def second() -> Any:
        assert runner.began.wait(LONG)
        return run(fed, chain(4), runner, executor=pool)

    one, two = both(lambda: run(fed, chain(3), runner, executor=pool), second)
    assert (one.value, two.value) == (6, 10) and sorted(runner.asked) == [1, 2, 3, 4]
    assert {*one.computed, *two.computed} == {n.cid for n in Dag(chain(4))} and not {*one.computed} & {*two.computed}
    assert not fed.cache.claims.owners and not fed.cache.claims.present  # type: ignore[attr-defined]  # both have it


@EXECUTORS
def test_a_run_computes_by_itself_what_another_one_failed_to(
    fed: Federation, executor: str | None, request: pytest.FixtureRequest
) -> None:
    pool = request.getfixturevalue(executor) if executor else None
    runner = Meeting(fed.cache, fails=True)

    def first() -> Any:
        with pytest.raises(RunError):
            run(fed, chain(2), runner, executor=pool)

    def second() -> Any:
        assert runner.began.wait(LONG)
        return run(fed, chain(2), runner, executor=pool)

    _, two = both(first, second)
    assert two.value == 3 and runner.asked == [1, 1, 2]


@EXECUTORS
def test_a_run_does_what_else_there_is_before_it_waits(
    fed: Federation, executor: str | None, request: pytest.FixtureRequest
) -> None:
    pool = request.getfixturevalue(executor) if executor else None
    runner = Meeting(fed.cache)
    others = [add(n=n) for n in range(10, 20)]

    def second() -> Any:
        assert runner.began.wait(LONG)
        return run(fed, Dag(add(add(n=1), n=2), *others), runner, executor=pool)

    one, two = both(lambda: run(fed, Dag(add(n=1), *others[5:]), runner), second)
    assert sorted(runner.asked) == [1, 2, *range(10, 20)]
    assert one.results == (1, *range(15, 20)) and two.results == (3, *range(10, 20))


@EXECUTORS
def test_runs_that_start_from_opposite_ends_never_wait_for_each_other(
    make: Callable[[], Federation], executor: str | None, request: pytest.FixtureRequest
) -> None:
    pool = request.getfixturevalue(executor) if executor else None
    for _ in range(10):
        fed = make()
        runner = Counting()
        nodes = [chain(3, start=100 * n) for n in range(1, 30)]
        orders = nodes, nodes[::-1], nodes[10:] + nodes[:10]
        work = [partial(run, fed, Dag(*order), runner, executor=pool) for order in orders]
        results = both(*work)
        assert len(runner.asked) == len(set(runner.asked)) == 3 * len(nodes)
        assert all(done[n] == nodes_value(n) for done in results for n in nodes)


def nodes_value(top: Node) -> int:
    return sum(int(n.params["n"]) for n in Dag(top))


def test_a_run_inside_a_runner_does_not_wait_for_the_run_around_it(fed: Federation) -> None:
    low = add(n=1)
    top = add(low, n=2)

    def runner(op: str, inputs: Any, params: Mapping[str, Any]) -> int:
        if params["n"] == 2:
            assert run(fed, top, sums).value == 3  # would wait for itself
        return sums(op, inputs, params)

    assert run(fed, top, runner).value == 3


@EXECUTORS
def test_what_is_finished_is_handed_over_while_its_run_goes_on(
    fed: Federation, executor: str | None, request: pytest.FixtureRequest
) -> None:
    pool = request.getfixturevalue(executor) if executor else None
    began, over = threading.Event(), threading.Event()

    def slow(op: str, inputs: Any, params: Mapping[str, Any]) -> int:
        if params["n"] == 3:
            began.set()
            assert over.wait(LONG), "the other run waits for the end of this one"
        return sums(op, inputs, params)

    def second() -> Any:
        assert began.wait(LONG)
        done = run(fed, chain(2), slow, executor=pool)
        over.set()
        return done

    top = node("slow@1", chain(2), n=3)  # of its own op, since what goes together comes back together
    one, two = both(lambda: run(fed, top, slow, executor=pool), second)
    assert (one.value, two.value, two.computed) == (6, 3, ())


def test_what_another_run_computed_of_someone_not_trusted_is_computed_again(fed: Federation) -> None:
    low = add(n=1)
    top = add(low, n=2)
    fed = import_(fed, [Record(low.cid, 100, "alice")], lambda peer: True)
    runner = Meeting(fed.cache)

    def second() -> Any:
        assert runner.began.wait(LONG)
        return run(fed, top, runner, trusted=lambda peer: False)

    one, two = both(lambda: run(fed, top, runner), second)
    assert (one.value, two.value) == (102, 3)


def test_a_result_that_two_runs_refuse_is_computed_once(fed: Federation) -> None:
    low = add(n=1)
    fed = import_(fed, [Record(low.cid, 100, "alice")], lambda peer: True)
    runner = Meeting(fed.cache)

    def second() -> Any:
        assert runner.began.wait(LONG)
        return run(fed, low, runner, trusted=lambda peer: False)

    one, two = both(lambda: run(fed, low, runner, trusted=lambda peer: False), second)
    assert (one.value, two.value, runner.asked) == (1, 1, [1])


def test_a_forked_child_does_not_wait_for_the_runs_of_its_parent() -> None:
    cache = MemoryCache()
    with both(cache.claims.enter)[0] as claimant:  # of another thread
        assert claimant.take(add().cid)
        pid = os.fork()
        if pid == 0:
            signal.alarm(LONG)
            os._exit(run(Federation(cache), add(), sums).value)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 1
