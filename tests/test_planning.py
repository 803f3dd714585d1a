"""What `plan` says a run would do, and that the run then does exactly that."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from artdag_fed import Dag, Federation, Node, Plan, Record, import_, plan, run
from tests.instances import everyone
from tests.sums import add

LOW, OTHER = add(n=1), add(n=2)
MID = add(LOW, n=3)
TOP = add(MID, OTHER, n=4)


def cids(*nodes: Node) -> tuple[str, ...]:
    return tuple(n.cid for n in nodes)


def test_a_plan_over_nothing_computes_everything_from_the_targets_down(fed: Federation) -> None:
    assert plan(fed, TOP) == Plan(computed=cids(TOP, MID, OTHER, LOW))


def test_what_is_held_is_reused_and_what_is_below_it_is_not_needed(fed: Federation) -> None:
    fed = import_(fed, [Record(MID.cid, 4, "alice"), Record(LOW.cid, 1, "alice")], everyone)
    assert plan(fed, TOP) == Plan(reused=cids(MID), computed=cids(TOP, OTHER))
    assert plan(fed, Dag(MID, MID, LOW)) == Plan(reused=cids(MID, LOW))


def test_the_topmost_that_is_offered_on_each_path_is_wanted(fed: Federation) -> None:
    assert plan(fed, TOP, offered=set(cids(TOP, MID, LOW))) == Plan(wanted=cids(TOP))
    assert plan(fed, TOP, offered=cids(LOW, MID)) == Plan(wanted=cids(MID), computed=cids(TOP, OTHER))
    assert plan(fed, TOP, offered=dict.fromkeys(cids(LOW))) == Plan(wanted=cids(LOW), computed=cids(TOP, MID, OTHER))
    both = Dag(MID, add(LOW, n=9))  # the one path ends above, the other needs what is below
    assert plan(fed, both, offered=cids(MID, LOW)) == Plan(wanted=cids(MID, LOW), computed=cids(add(LOW, n=9)))


def test_what_is_held_is_not_wanted_from_anyone(fed: Federation) -> None:
    fed = import_(fed, [Record(MID.cid, 4, "alice")], everyone)
    assert plan(fed, MID, offered=cids(MID)) == Plan(reused=cids(MID))


def test_a_plan_takes_who_is_trusted_now_into_account(fed: Federation) -> None:
    fed = import_(
        fed, [Record(MID.cid, 4, "alice"), Record(LOW.cid, 1, "bob"), Record(OTHER.cid, 2, "dave", {"alice"})], everyone
    )
    trusted = {"bob", "dave"}.__contains__
    assert plan(fed, TOP, trusted=trusted) == Plan(reused=cids(LOW), computed=cids(TOP, MID, OTHER))
    assert plan(fed, TOP, trusted=trusted, offered=cids(OTHER)) == Plan(cids(LOW), cids(OTHER), cids(TOP, MID))


def test_a_plan_reads_no_result_and_writes_nothing(fed: Federation, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object, **__: object) -> Any:
        raise AssertionError("read or written")

    fed = import_(fed, [Record(MID.cid, 4, "alice")], everyone)
    for method in ("load", "stored", "stage", "commit", "__getitem__"):
        monkeypatch.setattr(type(fed.cache), method, refused)
    assert plan(fed, TOP).reused == cids(MID)


def test_a_plan_asks_about_many_at_once_and_not_about_what_is_not_needed(
    fed: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = LOW
    for n in range(10, 5010):
        long = add(long, n=n)
    asked: list[list[str]] = []
    held = type(fed.cache).held  # type: ignore[attr-defined]  # of a cache inside a Federation

    def watched(cache: Any, questions: Iterable[str]) -> Any:
        asked.append(list(questions))
        return held(cache, asked[-1])

    monkeypatch.setattr(type(fed.cache), "held", watched)
    assert len(plan(fed, long).computed) == 5001
    assert len(asked) < 20 and sum(map(len, asked)) == 5001
    fed.cache[long.cid] = 1
    asked.clear()
    assert plan(fed, long).reused == cids(long)
    assert asked == [[long.cid]]


def test_a_plan_of_a_very_long_chain_does_not_recurse(fed: Federation) -> None:
    long = LOW
    for n in range(100_000):
        long = add(long, n=n)
    assert len(plan(fed, long).computed) == 100_001


def test_the_repr_of_a_plan_counts() -> None:
    assert repr(Plan(("a",), ("b", "c"), ())) == "<Plan: 1 reused, 2 wanted, 0 computed>"


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_run_does_what_the_plan_said(data: st.DataObject) -> None:
    nodes: list[Node] = []
    for n in range(data.draw(st.integers(1, 10))):
        places = data.draw(st.lists(st.integers(0, len(nodes) - 1), max_size=3)) if nodes else []
        nodes.append(add(*[nodes[p] for p in places], n=n))
    targets = Dag(*data.draw(st.lists(st.sampled_from(nodes), min_size=1, max_size=3)))
    bundle = [
        Record(n.cid, 1, data.draw(st.sampled_from(["alice", "bob"])))
        for n in data.draw(st.sets(st.sampled_from(nodes)))
    ]
    fed = import_(Federation({}), bundle, everyone)

    def runner(op: str, inputs: tuple[int, ...], params: Mapping[str, Any]) -> int:
        return sum(inputs)

    trusted = data.draw(st.sampled_from([None, {"alice"}.__contains__]))
    planned = plan(fed, targets, trusted=trusted)
    done = run(fed, targets, runner, trusted=trusted)
    assert (set(done.computed), set(done.reused)) == (set(planned.computed), set(planned.reused))
    assert not planned.wanted and len(planned.computed) == len(set(planned.computed))
