"""Running through an executor: the same comes out as in one thread, and cheap nodes go together.

Rules: what runs elsewhere is at the top of a module. That real engines give the same is in `interop/`, what a crash
leaves in `crash/`, how fast it is in `bench/`.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Mapping
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from artdag_fed import Dag, Event, Federation, Node, Record, forget, import_, node, parallel, run, workers
from tests.sums import Counting, add, chain, check_withdrawn_meanwhile, sums, wide


def where(op: str, inputs: tuple[Any, ...], params: Mapping[str, Any]) -> int:
    return os.getpid()


class Now(Executor):
    """Does what it is given at once, in the same thread, and remembers the sizes of the chunks."""

    _max_workers = 2

    def __init__(self) -> None:
        self.sizes: list[int] = []

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        self.sizes.append(len(args[0].steps))
        future.set_result(fn(*args, **kwargs))
        return future


# --- the same, whatever it runs through -----------------------------------------------------------


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_processes_of_any_kind_give_what_one_thread_gives(fed: Federation, method: str) -> None:
    top = wide(30)
    expected = run(Federation(), top, sums)
    with ProcessPoolExecutor(2, get_context(method)) as pool:
        done = run(fed, top, sums, executor=pool)
        assert pool.submit(os.getpid).result() != os.getpid()  # not shut down
    assert (done.value, set(done.computed), done.reused) == (expected.value, set(expected.computed), ())
    assert {cid: fed.cache[cid] for cid in fed} == {cid: expected[cid] for cid in expected.computed}


def test_threads_give_what_one_thread_gives_and_the_next_run_computes_nothing(
    fed: Federation, threads: ThreadPoolExecutor
) -> None:
    top = wide(30)
    expected = run(Federation(), top, sums)
    runner = Counting()
    done = run(fed, top, runner, executor=threads)
    assert (done.value, set(done.computed)) == (expected.value, set(expected.computed))
    assert len(runner.asked) == len(done.computed) == len(Dag(top))
    again = run(fed, top, runner, executor=threads)
    assert (again.value, again.computed, again.reused) == (expected.value, (), (top.cid,))


def test_what_is_computed_is_computed_by_the_executor(threads: ThreadPoolExecutor, processes: Executor) -> None:
    assert run(Federation(), chain(3), where, executor=processes).value != os.getpid()
    seen = set()
    run(Federation(), wide(5), lambda op, inputs, params: seen.add(threading.get_ident()), executor=threads)
    assert threading.get_ident() not in seen


@given(
    st.lists(st.lists(st.integers(0, 30), max_size=4), min_size=1, max_size=25),
    st.sets(st.integers(0, 24)),
    st.sets(st.integers(0, 24)),
)
@settings(deadline=None, max_examples=150)
def test_any_dag_gives_the_same_with_any_of_it_held_and_any_of_it_failing(
    shape: list[list[int]], held: set[int], failing: set[int]
) -> None:
    nodes: list[Node] = []
    for n, below in enumerate(shape):
        nodes.append(add(*[nodes[i % n] for i in below] if n else [], n=n))

    def runner(op: str, inputs: tuple[Any, ...], params: Mapping[str, Any]) -> int:
        if params["n"] in failing:
            raise ValueError("no")
        return sums(op, inputs, params)

    feds = [
        Federation(
            {nodes[i].cid: 1000 + i for i in held if i < len(nodes)}, {nodes[0].cid: "alice"} if 0 in held else {}
        )
        for _ in range(3)
    ]
    targets = Dag(*nodes[-3:])
    one = run(feds[0], targets, runner, keep_going=True)
    with ThreadPoolExecutor(3) as pool:
        for fed, executor in ((feds[1], pool), (feds[2], Now())):
            other = run(fed, targets, runner, keep_going=True, executor=executor)
            assert set(other.failed) <= set(one.failed) | {n.cid for n in nodes}
            assert {t.cid for t in targets.targets if t.cid not in other._errors} == {
                t.cid for t in targets.targets if t.cid not in one._errors
            }
            for cid in one.computed:
                assert other[cid] == one[cid]
            assert other.federation.lineage.items() >= one.federation.lineage.items()


def test_a_very_long_chain_runs_through_an_executor(threads: ThreadPoolExecutor) -> None:
    length = 20_000
    top = chain(length)
    assert run(Federation(), top, lambda op, inputs, params: sum(inputs) + 1, executor=threads).value == length


def test_params_are_read_only_and_inputs_are_the_objects_that_they_are(threads: ThreadPoolExecutor) -> None:
    thing = ["a list"]

    def runner(op: str, inputs: tuple[Any, ...], params: Any) -> Any:
        with pytest.raises(TypeError):
            params["new"] = 1
        return inputs[0] if inputs else thing

    assert run(Federation(), chain(3), runner, executor=threads).value is thing


def test_what_is_no_executor_is_refused_with_what_to_pass() -> None:
    class Client:
        submit = get_executor = lambda self: None

    for wrong, hint in ((4, "not 'int'"), (ThreadPoolExecutor, "make one"), (Client(), r"client\.get_executor")):
        with pytest.raises(TypeError, match=hint):
            run(Federation(), add(), sums, executor=wrong)  # type: ignore[arg-type]


# --- trusted, refresh, withdrawn ------------------------------------------------------------------


def test_trusted_and_refresh_work_as_in_one_thread(fed: Federation, threads: ThreadPoolExecutor) -> None:
    low, mid = add(n=1), add(n=2)
    top = add(low, mid, n=3)
    bundle = [Record(low.cid, 100, "alice"), Record(mid.cid, 200, "bob"), Record(top.cid, 999, "dave", {"bob"})]
    fed = import_(fed, bundle, lambda peer: True)
    runner = Counting()
    assert run(fed, top, runner, executor=threads).value == 999
    done = run(fed, top, runner, trusted={"alice", "dave"}.__contains__, executor=threads)
    assert (done.value, sorted(runner.asked), done.reused) == (105, [2, 3], (low.cid,))
    assert dict(done.federation.lineage) == {top.cid: frozenset({"alice"})}
    fresh = run(fed, top, runner, refresh=True, executor=threads)
    assert (fresh.value, sorted(runner.asked), fresh.reused) == (6, [1, 2, 2, 3, 3], ())


def test_what_was_made_of_something_that_is_withdrawn_meanwhile_is_computed_again(
    fed: Federation, threads: ThreadPoolExecutor
) -> None:
    check_withdrawn_meanwhile(fed, threads)


def test_an_input_that_goes_between_planning_and_reading_is_computed(
    fed: Federation, threads: ThreadPoolExecutor
) -> None:
    held, low = chain(3), add(n=50)
    top = add(add(low, n=60), held, n=70)
    run(fed, held, sums)

    def runner(op: str, inputs: tuple[Any, ...], params: Mapping[str, Any]) -> int:
        if params["n"] == 50:
            forget(fed, [chain(n).cid for n in (1, 2, 3)])
        return sums(op, inputs, params)

    done = run(fed, top, runner, executor=Now())
    assert (done.value, len(done.computed)) == (50 + 60 + 70 + 6, 6)


# --- what goes together ---------------------------------------------------------------------------


def test_cheap_nodes_go_together_and_dear_ones_alone() -> None:
    cheap, dear = Now(), Now()
    run(Federation(), Dag(*[add(n=n) for n in range(2000)]), sums, executor=cheap)
    assert sum(cheap.sizes) == 2000 and len(cheap.sizes) < 60

    def slow(op: str, inputs: tuple[Any, ...], params: Mapping[str, Any]) -> int:
        until = time.perf_counter() + parallel.CHUNK_SECONDS * 0.6
        while time.perf_counter() < until:
            pass
        return 0

    run(Federation(), Dag(*[add(n=n) for n in range(20)]), slow, executor=dear)
    assert dear.sizes == [1] * 20


def test_a_chain_of_cheap_nodes_goes_as_a_whole() -> None:
    executor = Now()
    assert run(Federation(), chain(2000), sums, executor=executor).value == 2000 * 2001 // 2
    assert len(executor.sizes) < 30


def test_a_worker_gives_back_what_would_take_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "MOST_SECONDS", -1)
    executor = Now()
    done = run(Federation(), wide(20), sums, executor=executor)
    assert done.value == run(Federation(), wide(20), sums).value
    assert len(executor.sizes) == len(done.computed)  # one of each chunk, however many were in it


def test_few_nodes_are_under_way_at_a_time_and_what_is_not_begun_is_cancelled() -> None:
    class Stop(Exception):
        pass

    class Later(Executor):
        """Does the first of what it was given when it has six."""

        _max_workers = 2

        def __init__(self) -> None:
            self.kept: list[tuple[Future[Any], Any, Any]] = []
            self.given = 0

        def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
            future: Future[Any] = Future()
            self.kept.append((future, fn, args))
            self.given += 1
            assert self.given <= 6
            if self.given == 6:
                first, fn, args = self.kept.pop(0)
                first.set_result(fn(*args))
            return future

    def observe(event: Event) -> None:
        raise Stop

    executor = Later()
    nodes = [node(f"op{n}@1", n=n) for n in range(50)]  # nothing is known of the cost of any
    with pytest.raises(Stop):
        run(Federation(), Dag(*nodes), sums, executor=executor, observe=observe)
    assert len(executor.kept) == 5 and all(future.cancelled() for future, _, _ in executor.kept)
