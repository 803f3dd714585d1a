"""Running a DAG: what is computed, what is not, and what a run says of it.

Rules: over a dict, `open()` and `open(path)`; runners count what they are asked. Which results replace which is in
`test_table`, how they are grouped into commits in `test_grouping`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from artdag_fed import Dag, Federation, Node, Record, Report, import_, node, run
from tests.instances import everyone
from tests.sums import add, chain, fails_at

# --- what is computed -----------------------------------------------------------------------------


def test_a_cold_run_computes_every_node_once_inputs_first(fed: Federation, runner: Any) -> None:
    low = add(n=1)
    left, right = add(low, n=2), add(low, n=4)
    top = add(left, right, low, n=8)
    done = run(fed, top, runner)
    assert (done.value, runner.asked) == (3 + 5 + 1 + 8, [1, 2, 4, 8])
    assert (done.computed, done.reused) == ((low.cid, left.cid, right.cid, top.cid), ())
    assert set(done.federation) == set(done.computed)
    assert done.federation.report == Report(admitted=4)


def test_a_warm_run_computes_nothing(fed: Federation, runner: Any, again: Callable[[Federation], Federation]) -> None:
    top = add(add(n=1), add(n=2), n=3)
    run(fed, top, runner)
    runner.asked.clear()
    done = run(again(fed), top, runner)
    assert (done.value, runner.asked, done.computed, done.reused) == (6, [], (), (top.cid,))
    assert done.federation.report == Report()


def test_only_what_is_missing_is_computed(fed: Federation, runner: Any) -> None:
    low = add(n=1)
    run(fed, add(low, n=2), runner)
    runner.asked.clear()
    done = run(fed, add(low, add(n=5), n=3), runner)
    assert (done.value, runner.asked, done.reused) == (1 + 5 + 3, [5, 3], (low.cid,))


class Reads:
    """Which results were read, over any kind of cache."""

    def __init__(self, fed: Federation, monkeypatch: pytest.MonkeyPatch) -> None:
        self.cids: list[str] = []
        load = type(fed.cache).load  # type: ignore[attr-defined]  # of a cache inside a Federation

        def watched(cache: Any, cids: Iterable[str], observe: Any = None) -> dict[str, Any]:
            loaded: dict[str, Any] = load(cache, cids, observe)
            self.cids += loaded
            return loaded

        monkeypatch.setattr(type(fed.cache), "load", watched)


def test_what_is_not_needed_is_neither_read_nor_computed(
    fed: Federation, runner: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep = chain(20)
    held, missing = add(deep, n=100), add(n=200)
    top = add(held, missing, n=300)
    import_(fed, [Record(held.cid, 1000, "alice"), Record(deep.cid, -1, "alice")], everyone)
    reads = Reads(fed, monkeypatch)
    done = run(fed, top, runner)
    assert (done.value, runner.asked, reads.cids) == (1500, [200, 300], [held.cid])
    assert run(fed, top, runner).value == 1500
    assert reads.cids == [held.cid, top.cid]


@pytest.mark.parametrize("result", [None, 0, "", (), False])
def test_a_result_that_is_falsy_is_a_result(fed: Federation, result: Any) -> None:
    low = node("low@1")
    top = node("top@1", low)
    asked: list[str] = []

    def gives(op: str, inputs: tuple[Any, ...], params: Any) -> Any:
        asked.append(op)
        return inputs[0] if inputs else result

    assert run(fed, low, gives).value == result
    assert run(fed, top, gives).value == result == run(fed, top, gives).value
    assert asked == ["low@1", "top@1"]


def test_a_diamond_of_diamonds_computes_each_node_once(fed: Federation, runner: Any) -> None:
    top = add(n=1)
    for n in range(2, 40):  # 2**38 paths
        top = add(top, top, n=n)
    run(fed, top, runner)
    assert runner.asked == list(range(1, 40))


def test_several_targets_repeated_ones_and_none(fed: Federation, runner: Any) -> None:
    low, other = add(n=1), add(n=5)
    top = add(low, n=2)
    done = run(fed, Dag(top, low, other, top), runner)
    assert (done.results, runner.asked) == ((3, 1, 5, 3), [1, 2, 5])
    empty = run(fed, Dag(), runner)
    assert (empty.results, empty.computed, empty.reused) == ((), (), ())


@pytest.mark.parametrize("length", [pytest.param(100_000, marks=pytest.mark.slow), 10_000])
def test_a_very_long_chain_runs_cold_and_warm(fed: Federation, length: int) -> None:
    top = chain(length)

    def sums(op: str, inputs: tuple[int, ...], params: Mapping[str, Any]) -> int:
        return sum(inputs) + 1

    assert run(fed, top, sums).value == length
    began = time.perf_counter()
    warm = run(fed, top, sums)
    assert (warm.value, warm.computed, warm.reused) == (length, (), (top.cid,))
    assert time.perf_counter() - began < 5  # it looks at one result, not at a hundred thousand; generous on purpose
    assert run(fed, add(top), sums).reused == (top.cid,)


def test_wide_nodes_are_no_problem(fed: Federation) -> None:
    top = node("sum@1", *[node("n@1", n=n) for n in range(3000)])
    done = run(fed, top, lambda op, inputs, params: sum(inputs) if inputs else params["n"])
    assert done.value == sum(range(3000))


# --- trusted, refresh -----------------------------------------------------------------------------


def test_a_held_result_of_someone_not_trusted_now_counts_as_missing(fed: Federation, runner: Any) -> None:
    low, mid = add(n=1), add(n=2)
    top = add(low, mid, n=3)
    bundle = [Record(low.cid, 100, "alice"), Record(mid.cid, 200, "bob"), Record(top.cid, 999, "dave", {"bob"})]
    fed = import_(fed, bundle, everyone)
    assert run(fed, top, runner).value == 999
    done = run(fed, top, runner, trusted={"alice", "dave"}.__contains__)
    assert (done.value, runner.asked, done.reused) == (105, [2, 3], (low.cid,))
    assert (dict(done.federation.provenance), dict(done.federation.lineage)) == (
        {low.cid: "alice"},
        {top.cid: frozenset({"alice"})},
    )


def test_refresh_computes_every_node_of_the_dag_and_no_other(fed: Federation, runner: Any) -> None:
    low = add(n=1)
    top = add(low, n=2)
    fed.cache["other"] = 1
    fed = import_(fed, [Record(low.cid, 100, "alice"), Record(top.cid, 200, "alice")], everyone)
    done = run(fed, top, runner, refresh=True)
    assert (done.value, runner.asked, done.reused) == (3, [1, 2], ())
    assert (dict(done.federation.provenance), fed.cache["other"]) == ({}, 1)


# --- what a run says ------------------------------------------------------------------------------


def test_a_run_gives_results_by_node_and_by_cid(fed: Federation, runner: Any) -> None:
    low = add(n=1)
    top = add(low, n=2)
    done = run(fed, top, runner)
    assert (done[top], done[top.cid], done[low], done.results, done.value) == (3, 3, 1, (3,), 3)
    with pytest.raises(KeyError):
        _ = done[add(n=99)]
    with pytest.raises(ValueError, match="this run has 2 targets: use"):
        _ = run(fed, Dag(low, top), runner).value
    with pytest.raises(ValueError, match="this run has 0 targets"):
        _ = run(fed, Dag(), runner).value


def test_the_repr_of_a_run_counts(fed: Federation) -> None:
    bad = add(n=7)
    assert repr(run(fed, add(n=1), fails_at())) == "<Run: 1 computed, 0 reused>"
    done = run(fed, Dag(add(bad, n=2), add(n=1)), fails_at(7), keep_going=True)
    assert repr(done) == "<Run: 0 computed, 1 reused, 1 failed, 1 skipped>"


# --- for any DAG ----------------------------------------------------------------------------------


@st.composite
def dags(draw: st.DrawFn) -> list[Node]:
    """Nodes, each with inputs among the earlier ones."""
    nodes: list[Node] = []
    for n in range(draw(st.integers(1, 12))):
        places = draw(st.lists(st.integers(0, len(nodes) - 1), max_size=3)) if nodes else []
        nodes.append(add(*[nodes[p] for p in places], n=draw(st.integers(0, 3)) * 100 + n))
    return nodes


def direct(top: Node) -> int:
    """The plain meaning of a node, without any cache."""
    return sum(map(direct, top.inputs)) + int(top.params["n"])


@settings(max_examples=60, deadline=None)
@given(dags(), st.data())
def test_a_run_gives_what_direct_evaluation_gives_whatever_is_held(nodes: list[Node], data: st.DataObject) -> None:
    targets = data.draw(st.lists(st.sampled_from(nodes), min_size=1, max_size=3))
    held = data.draw(st.sets(st.sampled_from(nodes)))
    asked: list[str] = []

    def runner(op: str, inputs: tuple[int, ...], params: Mapping[str, Any]) -> int:
        asked.append(str(params["n"]))
        return sum(inputs) + int(params["n"])

    fed = import_(Federation({}), [Record(n.cid, direct(n), "alice") for n in held], everyone)
    done = run(fed, Dag(*targets), runner)
    assert done.results == tuple(map(direct, targets))
    assert len(asked) == len(set(asked)) == len(done.computed)
    assert not set(done.computed) & {n.cid for n in held}
    # Whatever was computed from what came from alice rests on her, and nothing else does.
    by_cid = {n.cid: n for n in nodes}
    for cid in done.computed:
        below = [i.cid for i in by_cid[cid].inputs]
        rests = any(i in done.federation.provenance or i in done.federation.lineage for i in below)
        assert (cid in done.federation.lineage) == rests


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_bundles_of_equal_results_may_come_in_any_order(data: st.DataObject) -> None:
    peers, cids = ["alice", "bob", "mallory"], [f"c{n}" for n in range(6)]
    bundle = [
        Record(cid, f"result of {cid}", peer)
        for cid in cids
        for peer in data.draw(st.lists(st.sampled_from(peers), max_size=3, unique=True))
    ]
    shuffled = data.draw(st.permutations(bundle))
    trusted = {"alice", "bob"}.__contains__
    one, two = (import_(Federation({}), b, trusted) for b in (bundle, shuffled))
    assert one.report == two.report
    assert {cid: one.cache[cid] for cid in one} == {cid: two.cache[cid] for cid in two}
    for fed in (one, two):  # whoever came first: both were trusted and offered it
        assert set(fed.provenance) == set(fed)
        assert all(any(r.cid == cid and r.peer == peer for r in bundle) for cid, peer in fed.provenance.items())
