"""Running through an executor, and two runs on one cache at once.

Rules: what runs elsewhere is a function of this module; threads are steered by events, never by sleeping. That real
engines give the same is in `interop/`, what a crash leaves in `crash/`, how fast it is in `bench/`.
"""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import BrokenExecutor, Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial, reduce
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from artdag_fed import (
    Dag,
    Event,
    Federation,
    MemoryCache,
    Node,
    Ops,
    Record,
    RunError,
    forget,
    import_,
    invalidate,
    node,
    parallel,
    run,
    workers,
)

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


def where(op: str, inputs: tuple[Any, ...], params: Mapping[str, Any]) -> int:
    return os.getpid()


class Strange(Exception):
    """Can be pickled, but not unpickled: it takes two arguments and hands on one."""

    def __init__(self, what: str, more: str) -> None:
        super().__init__(what)


class Text(str):
    """What no codec carries."""


def troubled(op: str, inputs: tuple[Any, ...], params: Mapping[str, Any]) -> Any:
    n = params["n"]
    if n == 7:
        raise ZeroDivisionError("7 went wrong")
    if n == 8:
        raise Strange("8 is strange", "indeed")
    if n == 9:
        return lambda: None
    if n == 10:
        os.kill(os.getpid(), signal.SIGKILL)
    if n == 11:
        raise KeyboardInterrupt
    if n == 12:
        return Text("12")
    return n


class Counting:
    """Sums, and remembers what it was asked; from any thread."""

    def __init__(self) -> None:
        self.asked: list[int] = []

    def __call__(self, op: str, inputs: tuple[Any, ...], params: Mapping[str, Any]) -> int:
        self.asked.append(params["n"])
        return sums(op, inputs, params)


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


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(4) as pool:
        yield pool


@pytest.fixture(scope="module")
def processes() -> Iterator[ProcessPoolExecutor]:
    with ProcessPoolExecutor(2, get_context("spawn")) as pool:
        yield pool


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
    low = add(n=1)
    mid = add(low, n=2)
    top = add(mid, n=3)
    fed = import_(fed, [Record(low.cid, 1000, "alice")], lambda peer: True)
    asked: list[int] = []
    told: list[Event] = []

    def slow(op: str, inputs: tuple[Any, ...], params: Mapping[str, Any]) -> int:
        asked.append(params["n"])
        if asked == [2, 3]:
            invalidate(fed, "alice", derived=True)
        return sums(op, inputs, params)

    done = run(fed, top, slow, executor=threads, observe=told.append)
    assert (done.value, asked) == (6, [2, 3, 1, 2, 3])
    assert set(done.computed) == {low.cid, mid.cid, top.cid} and done.reused == ()
    assert {e.cid for e in told if e.kind == "repeated"} == {mid.cid, top.cid}
    assert dict(done.federation.lineage) == {}


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


# --- failing --------------------------------------------------------------------------------------


def test_a_node_that_fails_raises_its_run_error_and_what_was_finished_is_kept(fed: Federation, processes: Any) -> None:
    bad = add(add(n=1), n=7)
    with pytest.raises(RunError) as caught:
        run(fed, add(bad, n=3), troubled, executor=processes)
    error = caught.value
    assert (error.cid, error.op, set(fed)) == (bad.cid, "add@1", {add(n=1).cid})
    assert type(error.__cause__) is ZeroDivisionError and "troubled" in "".join(error.__cause__.__notes__)
    assert str(error).startswith("'add@1' failed: ZeroDivisionError: 7 went wrong (cid ")


@pytest.mark.parametrize("kind", ["threads", "processes"])
def test_keep_going_collects_failures_and_skips_only_what_depended_on_them(
    fed: Federation, kind: str, request: pytest.FixtureRequest
) -> None:
    executor = request.getfixturevalue(kind)
    good, bad, worse = add(n=1), add(n=7), add(n=8)
    on_bad = add(good, bad, n=2)
    on_that, fine, on_worse = add(on_bad, n=3), add(good, n=4), add(worse, good, n=5)
    done = run(fed, Dag(on_that, fine, on_worse), troubled, keep_going=True, executor=executor)
    assert set(done.failed) == {bad.cid, worse.cid}
    assert set(done.skipped) == {on_bad.cid, on_that.cid, on_worse.cid}
    assert done[fine] == 4 and set(done.computed) == set(done.federation) == {good.cid, fine.cid}
    with pytest.raises(RunError, match=r"'add@1' was skipped .* since 'add@1' failed .*: ZeroDivisionError"):
        _ = done[on_that]


def test_a_chunk_goes_on_after_a_failure_only_where_it_may_and_never_with_what_needs_it() -> None:
    runner = Counting()

    def fails(op: str, inputs: Any, params: Mapping[str, Any]) -> int:
        runner(op, inputs, params)
        return 1 // (7 - params["n"])

    steps: list[workers.Step] = [("a@1", (), {"n": 7}), ("b@1", (~0,), {"n": 1}), ("c@1", (), {"n": 6})]
    answer = workers.perform(workers.Chunk(fails, steps, [], go_on=True))
    assert (answer.results, list(answer.errors), runner.asked) == ([None, None, 1], [0], [7, 6])
    answer = workers.perform(workers.Chunk(fails, steps, []))
    assert (answer.results, list(answer.errors), runner.asked) == ([None], [0], [7, 6, 7])


def test_an_exception_that_cannot_be_unpickled_fails_its_node_and_not_the_pool(processes: Any) -> None:
    with pytest.raises(RunError, match="failed: RuntimeError: Strange: 8 is strange"):
        run(Federation(), add(n=8), troubled, executor=processes)
    assert run(Federation(), add(n=1), troubled, executor=processes).value == 1


def test_what_cannot_be_pickled_is_named_and_the_others_of_its_chunk_are_kept(fed: Federation, processes: Any) -> None:
    def local(op: str, inputs: object, params: object) -> int:
        return 1

    with pytest.raises(RunError, match=r"the runner test_parallel.*local.* cannot be pickled: put it at the top"):
        run(fed, add(n=1), local, executor=processes)
    thing = node("thing@1")
    held = Federation({thing.cid: local})
    with pytest.raises(RunError, match=r"\(input 0, a function of 'thing@1', cannot be pickled\)"):
        run(held, add(thing, n=1), troubled, executor=processes)
    run(fed, Dag(*[add(n=n) for n in range(100, 110)]), troubled, executor=processes)
    done = run(fed, Dag(*[add(n=n) for n in [*range(20, 60), 9]]), troubled, keep_going=True, executor=processes)
    assert list(done.failed) == [add(n=9).cid] and len(done.computed) == 40
    assert "its result cannot be pickled" in str(done.failed[add(n=9).cid])


def test_a_result_that_cannot_be_kept_fails_its_node(durable: Federation, processes: Any) -> None:
    done = run(durable, Dag(add(n=12), add(n=1)), troubled, keep_going=True, executor=processes)
    assert "gave a result that cannot be kept" in str(done.failed[add(n=12).cid]) and set(durable) == {add(n=1).cid}


def test_a_broken_pool_is_explained_and_what_was_finished_is_kept(fed: Federation) -> None:
    with ProcessPoolExecutor(1) as pool:
        with pytest.raises(
            RunError, match=r"the executor broke .* with 'add@1' under way\. A worker was killed"
        ) as caught:
            run(fed, add(chain(3, start=100), n=10), troubled, executor=pool, keep_going=True)
        assert set(fed) <= {chain(n, start=100).cid for n in (1, 2, 3)}
        with pytest.raises(RunError, match="the executor broke"):
            run(fed, add(n=1), troubled, executor=pool)
    assert caught.value.op == "add@1" and "What was finished before it is kept" in str(caught.value)
    with pytest.raises(RunError, match=r"takes no more work .*shut down"):
        ended = ThreadPoolExecutor(1)
        ended.shutdown()
        run(fed, add(n=1), troubled, executor=ended)


def test_a_runner_from_main_is_told_to_move_into_a_module() -> None:
    def runner(op: str, inputs: object, params: object) -> int:
        return 1

    runner.__module__ = "__main__"
    said = workers.why_broken(BrokenExecutor("gone"), runner, ["a@1", "b@1", "c@1", "d@1"])
    assert "was defined in a notebook" in said and "put it in a module, or use threads" in said
    assert "with 'a@1', 'b@1', 'c@1' and 1 more under way" in said


NOTEBOOK = """
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from artdag_fed import Federation, Ops, RunError, run

ops = Ops("studio")

@ops.op
def load(n):
    return [n]

@ops.op
def double(pixels):
    return [2 * pixel for pixel in pixels]

def more():
    @ops.op
    def inside(n):
        return n

def told():
    try:
        with ProcessPoolExecutor(1, get_context("spawn")) as pool:
            run(Federation(), double(load(4)), ops, executor=pool)
    except RunError as error:
        print(error)

told()
with ThreadPoolExecutor(1) as pool:
    print(run(Federation(), double(load(4)), ops, executor=pool).value)
more()
told()
"""
"""What stands in the cells: as in a notebook, `__main__` has no file that a new process could read."""


def test_a_run_of_ops_from_a_notebook_through_a_process_pool_names_them_and_says_what_to_do() -> None:
    environ = os.environ | {"PYTHONPATH": str(Path(parallel.__file__).parents[1])}
    done = subprocess.run(
        [sys.executable, "-c", NOTEBOOK], env=environ, capture_output=True, text=True, timeout=2 * LONG
    )
    broken, threads, refused = done.stdout.splitlines()
    assert "the executor broke" in broken and "with 'studio.load@1'" in broken
    for op, name in (("studio.load@1", "load"), ("studio.double@1", "double")):
        why = (
            f"'{op}': __main__.{name} was defined in a notebook or at a prompt: import it from a module, or use threads"
        )
        assert why in broken and why in refused
    assert "loky and Dask send such functions along" in broken and threads == "[8]"
    assert "'studio.inside@1': __main__.more.<locals>.inside was defined inside of a function: move it" in refused


def test_of_many_ops_that_are_not_found_three_are_named() -> None:
    ops = Ops()
    for n in range(5):
        ops.op(f"op{n}")(lambda: None)
    said = workers.why_broken(BrokenExecutor("gone"), ops, ["op0@1"])
    assert "'op2@1'" in said and "'op3@1'" not in said and "; and 2 more ops" in said


@pytest.mark.parametrize("kind", ["threads", "processes"])
def test_ctrl_c_in_a_worker_ends_the_run_and_keeps_what_is_finished(
    fed: Federation, kind: str, request: pytest.FixtureRequest
) -> None:
    executor = request.getfixturevalue(kind)
    with pytest.raises(KeyboardInterrupt):
        run(fed, add(chain(3, start=100), n=11), troubled, executor=executor)
    assert set(fed) == {chain(n, start=100).cid for n in (1, 2, 3)}
    assert run(fed, add(n=1), troubled, executor=executor).value == 1


def test_ctrl_c_while_it_waits_keeps_what_came_back_and_leaves_nothing(fed: Federation) -> None:
    go_on = threading.Event()
    began = threading.Event()
    before = threading.active_count()  # the pool is of before, too

    def runner(op: str, inputs: Any, params: Mapping[str, Any]) -> int:
        if params["n"] == 7:
            began.set()
            assert go_on.wait(LONG)
        return int(params["n"])

    def press() -> None:
        assert began.wait(LONG) and computed.wait(LONG)
        until = time.monotonic() + LONG
        while sys._current_frames()[main].f_code.co_name != "evaluate":  # where it waits
            assert time.monotonic() < until
        os.kill(os.getpid(), signal.SIGINT)
        if not interrupted.wait(5):  # Python misses one that comes just before it begins to wait: people press again
            os.kill(os.getpid(), signal.SIGINT)

    computed, interrupted = threading.Event(), threading.Event()
    main = threading.get_ident()
    presser = threading.Thread(target=press)
    presser.start()
    quick, slow = add(n=1), add(n=7)
    with ThreadPoolExecutor(2) as pool:
        with pytest.raises(KeyboardInterrupt):
            run(fed, Dag(quick, slow), runner, executor=pool, observe=lambda event: computed.set())
        interrupted.set()
        assert set(fed) == {quick.cid}
        go_on.set()
        assert pool.submit(int, "4").result() == 4
    presser.join()
    assert threading.active_count() == before


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
