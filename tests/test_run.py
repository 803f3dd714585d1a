"""Running a DAG: what is computed, what is not, what is kept, and what a run says of it.

Rules: over a dict, `open()` and `open(path)`; runners count what they are asked. Which results replace which is in
`test_table`, how they are grouped into commits in `test_grouping`.
"""

from __future__ import annotations

import hashlib
import sqlite3
import time
import weakref
from collections.abc import Callable, Iterable, Mapping
from functools import reduce
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from artdag_fed import (
    Codec,
    Dag,
    DiskCache,
    Event,
    Federation,
    MemoryCache,
    Node,
    Record,
    Report,
    RunError,
    export,
    forget,
    grouping,
    import_,
    invalidate,
    node,
    run,
)
from artdag_fed.events import tell_damaged


def everyone(peer: str) -> bool:
    return True


def add(*inputs: Node, n: int = 1) -> Node:
    return node("add@1", *inputs, n=n)


def chain(length: int) -> Node:
    return reduce(lambda below, n: add(below, n=n), range(2, length + 1), add(n=1))


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


# --- failing --------------------------------------------------------------------------------------


def fails_at(*numbers: int) -> Callable[[str, tuple[Any, ...], Mapping[str, Any]], int]:
    def runner(op: str, inputs: tuple[Any, ...], params: Mapping[str, Any]) -> int:
        if params["n"] in numbers:
            raise ZeroDivisionError(f"{params['n']} went wrong")
        return int(sum(inputs)) + int(params["n"])

    return runner


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
        return int(sum(inputs)) + int(params["n"])

    done = run(fed, top, slow, observe=told.append)
    assert (done.value, asked) == (6, [2, 3, 1, 2, 3])
    assert set(done.computed) == {low.cid, mid.cid, top.cid} and done.reused == ()
    assert (dict(done.federation.provenance), dict(done.federation.lineage)) == ({}, {})
    assert {e.cid for e in told if e.kind == "repeated"} == {mid.cid, top.cid}
    assert {cid: fed.cache[cid] for cid in (low.cid, mid.cid, top.cid)} == {low.cid: 1, mid.cid: 3, top.cid: 6}


def test_a_target_that_is_withdrawn_after_it_was_read_changes_nothing_here(fed: Federation, runner: Any) -> None:
    top, other = add(n=1), add(n=2)
    fed = import_(fed, [Record(top.cid, 1000, "alice")], everyone)

    def slow(op: str, inputs: tuple[Any, ...], params: Mapping[str, Any]) -> int:
        invalidate(fed, "alice")
        return 5

    done = run(fed, Dag(top, other), slow)
    assert (done.results, set(done.federation)) == ((1000, 5), {other.cid})


# --- what is kept ---------------------------------------------------------------------------------


def test_values_are_let_go_of_when_they_are_not_needed_any_more(tmp_path: Any) -> None:
    class Frame:
        def __init__(self, n: int) -> None:
            self.n = n

    codec = Codec().with_type("frame", Frame, lambda frame: frame.n, Frame)
    fed = Federation(DiskCache(tmp_path / "frames", codec))
    alive: list[weakref.ref[Frame]] = []
    most = 0

    def render(op: str, inputs: tuple[Frame, ...], params: Mapping[str, Any]) -> Frame:
        nonlocal most
        frame = Frame(sum(f.n for f in inputs) + 1)
        alive.append(weakref.ref(frame))
        most = max(most, sum(ref() is not None for ref in alive))
        return frame

    top = chain(50)
    assert run(fed, top, render).value.n == 50
    assert most <= 3  # the input, the result, and the one that the caller's frame has not let go of yet
    fed.cache.close()  # type: ignore[attr-defined]  # every cache inside a Federation has it


def test_in_memory_results_stay_the_objects_that_they_are() -> None:
    thing = ["a list"]
    done = run(Federation({}), node("top@1", node("low@1")), lambda op, inputs, params: inputs[0] if inputs else thing)
    assert done.value is thing and done.federation.cache[node("low@1").cid] is thing


def test_a_result_keeps_its_recipe_and_the_digest_of_its_inputs(durable: Federation) -> None:
    low, other = add(n=1), add(n=2)
    top = add(low, other, low, n=3)
    run(durable, top, lambda op, inputs, params: params["n"])
    records = {r.cid: r for r in export(durable, "me")}
    assert records[top.cid].recipe == top.recipe

    digests = "".join(records[i.cid].digest for i in top.inputs)
    path = durable.cache.path  # type: ignore[attr-defined]  # of a DiskCache
    with sqlite3.connect(f"{path}/index.sqlite3") as db:
        [(kept,)] = db.execute("SELECT inputs_digest FROM result WHERE cid = ?", (top.cid,))
    db.close()
    assert kept == hashlib.sha256(digests.encode()).hexdigest()


def test_a_damaged_result_is_computed_again(durable: Federation, runner: Any) -> None:
    top = node("big@1")
    run(durable, top, lambda op, inputs, params: b"x" * 100_000)
    path = durable.cache.path  # type: ignore[attr-defined]  # of a DiskCache

    [blob] = [p for p in Path(path, "blobs").rglob("*") if p.is_file()]
    blob.chmod(0o600)
    blob.write_bytes(b"y" * blob.stat().st_size)
    told: list[Event] = []
    done = run(durable, top, lambda op, inputs, params: b"x" * 100_000, observe=told.append)
    assert (done.computed, done.value[:1]) == ((top.cid,), b"x")
    assert told[0].kind == "damaged"
    assert run(durable, top, runner).reused == (top.cid,)


class Lossy(MemoryCache):
    """A cache that holds results which it cannot give, as one on disk does whose files are damaged."""

    lost: frozenset[str] = frozenset()

    def load(self, cids: Iterable[str], observe: Any = None) -> Any:
        asked = list(cids)
        for cid in self.lost & set(self.held(asked)):
            tell_damaged(observe, cid, "lost")
        return super().load([cid for cid in asked if cid not in self.lost], observe)


def test_an_input_that_is_held_and_cannot_be_read_is_computed_with_all_that_it_needs(runner: Any) -> None:
    cache = Lossy()
    fed = Federation(cache)
    mid = add(add(n=1), n=2)
    run(fed, mid, runner)
    cache.lost = frozenset({mid.cid, add(n=1).cid})
    runner.asked.clear()
    done = run(fed, add(mid, n=3), runner)
    assert (done.value, runner.asked, done.reused) == (6, [1, 2, 3], ())
    with pytest.raises(RunError):
        run(fed, add(mid, n=4), fails_at(2))


def test_what_takes_the_place_of_an_accepted_result_meanwhile_is_asked_about_too(fed: Federation) -> None:
    low, late = add(n=1), add(n=2)
    fed = import_(fed, [Record(low.cid, 1, "bob", recipe=low.recipe)], everyone)

    def runner(op: str, inputs: tuple[Any, ...], params: Mapping[str, Any]) -> int:
        if params["n"] == 2:  # before `low` is read, bob's goes and another peer's comes
            import_(invalidate(fed, "bob"), [Record(low.cid, 666, "mallory", recipe=low.recipe)], everyone)
        return int(sum(inputs)) + int(params["n"])

    done = run(fed, add(late, low, n=3), runner, trusted={"bob"}.__contains__)
    assert done.value == 6
    assert done.federation.cache[low.cid] == 1
    assert not done.federation.provenance and not done.federation.lineage


def test_what_is_read_a_second_time_and_came_from_a_peer_meanwhile_rests_on_the_peer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(grouping, "GROUP_RESULTS", 1)
    cache = Lossy()
    fed = Federation(cache)
    low = add(n=1)
    user, late = add(low, n=2), add(low, n=3)
    fed.cache[late.cid] = 4
    cache.lost = frozenset({late.cid})

    def slow(op: str, inputs: tuple[Any, ...], params: Mapping[str, Any]) -> int:
        if params["n"] == 2:  # the last that the plan had for `low`: it is let go of, and read again for `late`
            import_(forget(fed, [low.cid]), [Record(low.cid, 1000, "bob")], everyone)
        return int(sum(inputs)) + int(params["n"])

    top = add(late, n=4)
    done = run(fed, Dag(user, top), slow)
    assert done.results == (3, 1007)
    assert dict(done.federation.provenance) == {low.cid: "bob"}
    assert dict(done.federation.lineage) == {late.cid: {"bob"}, top.cid: {"bob"}}


def test_a_mapping_that_forgets_by_itself_is_a_cache_too(runner: Any) -> None:
    class Tiny(dict[str, Any]):
        def __setitem__(self, cid: str, result: Any) -> None:
            self.clear()
            super().__setitem__(cid, result)

    top = add(add(n=1), add(n=2), n=3)
    done = run(Federation(Tiny()), top, runner)
    assert done.value == 6 and len(done.federation) == 1


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
