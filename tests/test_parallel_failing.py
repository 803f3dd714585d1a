"""Running through an executor: what fails there, what is kept, and what the error tells people to do.

Rules: what runs elsewhere is a function of this module; threads are steered by events, never by sleeping.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from concurrent.futures import BrokenExecutor, ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from artdag_fed import Dag, Federation, Ops, RunError, node, parallel, run, workers
from tests.sums import LONG, Counting, add, chain


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
