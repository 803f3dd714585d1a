"""What watches a run: a tally that counts and times, and a bar that is moved."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from artdag_fed import Dag, Event, Federation, node, plan, run
from artdag_fed.observers import Tally, progress


def runner(op: str, inputs: tuple[Any, ...], params: Any) -> Any:
    if op == "melt@1":
        raise ValueError("hot")
    return len(inputs)


LOW = node("load@1", path="a")
DAG = Dag(node("blur@1", LOW, radius=1), node("blur@1", LOW, radius=2), node("sharpen@1", node("melt@1", LOW)))


class Bar:
    def __init__(self) -> None:
        self.n = 0

    def update(self, n: int) -> None:
        self.n += n


def test_a_tally_counts_by_kind_and_op_and_adds_up_seconds(fed: Federation) -> None:
    tally = Tally()
    done = run(fed, DAG, runner, keep_going=True, observe=tally)
    assert (tally.kinds["computed"], tally.kinds["failed"], tally.kinds["skipped"]) == (3, 1, 1)
    assert tally.kinds["committed"] == len(done.computed)  # results, not commits
    assert tally.ops == {"load@1": 1, "blur@1": 2} and set(tally.seconds) == {"load@1", "blur@1"}
    run(fed, DAG, runner, keep_going=True, observe=tally)
    assert (tally.kinds["computed"], tally.kinds["reused"]) == (3, 3)


def test_the_slowest_ops_come_first() -> None:
    tally = Tally()
    for op, seconds in (("a", 1.0), ("b", 5.0), ("a", 2.5), ("c", 0.5)):
        tally(Event("computed", op=op, seconds=seconds))
    assert tally.slowest(2) == [("b", 1, 5.0), ("a", 2, 3.5)]
    assert repr(tally) == "<Tally: 4 computed in 9.00 s>" and repr(Tally()) == "<Tally: nothing>"


def test_a_bar_moves_once_for_each_node_that_is_done(fed: Federation) -> None:
    bar = Bar()
    run(fed, DAG, runner, keep_going=True, observe=progress(bar))
    assert bar.n == len(DAG)
    ahead, bar = plan(fed, DAG), Bar()
    run(fed, DAG, runner, keep_going=True, observe=progress(bar))
    assert bar.n == len(ahead.computed) + len(ahead.reused)


def test_what_cannot_be_updated_is_a_type_error() -> None:
    with pytest.raises(TypeError, match=r"a progress bar has an update\(n\), and list has none"):
        progress([])  # type: ignore[arg-type]  # wrong on purpose


def test_a_tally_loses_nothing_between_threads() -> None:
    tally = Tally()

    def many() -> None:
        for _ in range(2000):
            tally(Event("computed", op="a", seconds=1.0))

    threads = [threading.Thread(target=many) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (tally.kinds["computed"], tally.ops["a"], tally.seconds["a"]) == (8000, 8000, 8000.0)
