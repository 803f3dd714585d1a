"""Running a DAG of which some fails or is withdrawn meanwhile: what is kept, and what is computed again.

Rules: over a dict, `open()` and `open(path)`; runners count what they are asked.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from artdag_fed import Dag, Federation, Record, RunError, import_, invalidate, node, run
from tests.instances import everyone
from tests.sums import add, chain, check_withdrawn_meanwhile, fails_at

# --- failing --------------------------------------------------------------------------------------


def test_a_node_that_fails_raises_a_run_error_that_names_it_from_its_cause(fed: Federation) -> None:
    bad = add(add(n=1), n=7)
    with pytest.raises(RunError) as caught:
        run(fed, add(bad, n=3), fails_at(7))
    error = caught.value
    assert (error.cid, error.op) == (bad.cid, "add@1")
    assert isinstance(error.__cause__, ZeroDivisionError)
    assert str(error) == (
        f"'add@1' failed: ZeroDivisionError: 7 went wrong (cid {bad.cid}, params {{'n': 7}}). "
        "What was finished before it is kept."
    )


def test_what_was_finished_before_a_failure_is_kept_and_a_failure_is_never_cached(
    fed: Federation, runner: Any, again: Callable[[Federation], Federation]
) -> None:
    one, bad = add(n=1), add(n=7)
    top = add(one, bad, n=3)
    with pytest.raises(RunError):
        run(fed, top, fails_at(7))
    assert set(again(fed)) == {one.cid}
    assert run(fed, top, runner).value == 11
    assert runner.asked == [7, 3]


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt, SystemExit])
def test_what_was_finished_before_ctrl_c_is_kept(fed: Federation, interrupt: type[BaseException]) -> None:
    def interrupted(op: str, inputs: tuple[Any, ...], params: Mapping[str, Any]) -> int:
        if params["n"] == 3:
            raise interrupt
        return int(params["n"])

    with pytest.raises(interrupt):
        run(fed, chain(4), interrupted)
    assert set(fed) == {chain(1).cid, chain(2).cid}


def test_keep_going_collects_failures_and_skips_only_what_depended_on_them(fed: Federation) -> None:
    good, bad, worse = add(n=1), add(n=7), add(n=8)
    on_bad = add(good, bad, n=2)
    on_that, fine, on_worse = add(on_bad, n=3), add(good, n=4), add(worse, good, n=5)
    done = run(fed, Dag(on_that, fine, on_worse), fails_at(7, 8), keep_going=True)
    assert set(done.failed) == {bad.cid, worse.cid}
    assert set(done.skipped) == {on_bad.cid, on_that.cid, on_worse.cid}
    assert done[fine] == 5 and set(done.computed) == set(done.federation) == {good.cid, fine.cid}
    with pytest.raises(RunError) as caught:
        _ = done[on_that]
    error = caught.value
    assert (error.cid, error.op, error.__cause__) == (on_that.cid, "add@1", done.failed[bad.cid])
    assert str(error) == (
        f"'add@1' was skipped (cid {on_that.cid}), since 'add@1' failed (cid {bad.cid}): "
        "ZeroDivisionError: 7 went wrong"
    )
    with pytest.raises(RunError):
        _ = done.results


def test_keep_going_up_a_long_chain_says_what_failed_first_in_one_line(fed: Federation) -> None:
    top = chain(5000)
    done = run(fed, top, fails_at(1), keep_going=True)
    assert (list(done.failed), len(done.skipped)) == ([chain(1).cid], 4999)
    with pytest.raises(RunError) as caught:
        _ = done.value
    assert len(str(caught.value)) < 300 and caught.value.__cause__ is done.failed[chain(1).cid]


def test_a_runner_that_changes_its_params_changes_a_copy(fed: Federation) -> None:
    top = node("top@1", sizes=[1, 2], more={"deep": [3]})

    def greedy(op: str, inputs: object, params: Any) -> Any:
        params["sizes"].append(9)
        params["more"]["deep"].clear()
        with pytest.raises(TypeError):
            params["new"] = 1
        raise ValueError("after that")

    for _ in range(2):
        with pytest.raises(RunError, match=r"params \{'more': \{'deep': \[3\]\}, 'sizes': \[1, 2\]\}"):
            run(fed, top, greedy)
    assert dict(top.params) == {"sizes": [1, 2], "more": {"deep": [3]}}


# --- withdrawn meanwhile --------------------------------------------------------------------------


def test_what_was_made_of_something_that_is_withdrawn_meanwhile_is_computed_again(fed: Federation) -> None:
    check_withdrawn_meanwhile(fed)


def test_a_target_that_is_withdrawn_after_it_was_read_changes_nothing_here(fed: Federation, runner: Any) -> None:
    top, other = add(n=1), add(n=2)
    fed = import_(fed, [Record(top.cid, 1000, "alice")], everyone)

    def slow(op: str, inputs: tuple[Any, ...], params: Mapping[str, Any]) -> int:
        invalidate(fed, "alice")
        return 5

    done = run(fed, Dag(top, other), slow)
    assert (done.results, set(done.federation)) == ((1000, 5), {other.cid})
