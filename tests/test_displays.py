"""What an instance, a DAG, a plan, a run, a report and an explanation show of themselves."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Mapping
from html import unescape
from typing import Any

import pytest

import artdag_fed
from artdag_fed import (
    Dag,
    Federation,
    Limits,
    MemoryCache,
    Node,
    Plan,
    Record,
    Report,
    StoreError,
    explain,
    import_,
    invalidate,
    node,
    plan,
    run,
)
from artdag_fed.caches.disk import DiskCache
from tests.hostile import named
from tests.instances import everyone
from tests.sums import add
from tests.test_drawing import HOSTILE, STRANGE, TAGS, Reader, pictures

BYTES = 100_000
MILLISECONDS = 1000
"""Of processor time. What is promised is 200 on a quiet machine, which `python -m tests.bench displays` prints. A busy
one is no failure, and what walks more than it must is above this."""


LOW, OTHER = add(n=1), add(n=2)
MID = add(LOW, n=3)
TOP = add(MID, OTHER, n=4)


def shown(value: Any) -> str:
    """The HTML of a value, which is checked to be one piece of HTML without anything that runs."""
    text = value._repr_html_()
    assert {tag for tag, _ in Reader(text).tags} <= TAGS
    assert isinstance(text, str)
    return text


def states(value: Any) -> dict[str, str]:
    """The state of each node that is drawn, by its `n`, as the picture's alt has it."""
    [(alt, _)] = pictures(shown(value))
    return dict(re.findall(r"add@1, n=(\d+)(?:, (.*?))?(?:; made from [^.]*)?\.(?: |$)", alt))


def cells(value: Any) -> list[list[str]]:
    """The rows of the first table."""
    table = shown(value).split("</table>")[0]
    rows = re.findall(r"<tr>(.*?)</tr>", table)
    return [[unescape(re.sub("<.*?>", "", cell)) for cell in re.findall(r"<t[hd].*?</t[hd]>", row)] for row in rows]


# --- each of them ---------------------------------------------------------------------------


def test_a_dag_shows_ops_and_params(fed: Federation) -> None:
    assert states(Dag(TOP)) == {"1": "", "2": "", "3": "", "4": ""}
    assert cells(Dag(TOP, MID)) == [["Dag: 4 nodes, 2 targets"]]
    assert "<img" not in shown(Dag())


def test_a_plan_shows_what_is_held_from_whom_what_is_offered_refused_missing_and_not_needed(fed: Federation) -> None:
    extra = add(n=5)
    top = add(TOP, extra, n=6)
    fed = import_(fed, [Record(MID.cid, 4, "alice"), Record(OTHER.cid, 2, "mallory")], everyone)
    fed.cache[extra.cid] = 5
    there = plan(fed, top, trusted={"alice"}.__contains__)
    assert states(there) == {
        "1": "not needed",
        "2": "refused, from 'mallory': to be computed",
        "3": "held: from 'alice'",
        "4": "missing: to be computed",
        "5": "held: computed here",
        "6": "missing: to be computed",
    }
    assert cells(there) == [
        ["Plan", "nodes"],
        ["held: to be reused", "2"],
        ["offered: to be fetched", "0"],
        ["to be computed", "3"],
    ]
    assert states(plan(fed, LOW, offered={LOW.cid})) == {"1": "offered: to be fetched"}


def test_a_result_that_is_refused_for_what_it_rests_on_is_not_said_to_be_someone_elses() -> None:
    fed = import_(Federation(), [Record(MID.cid, 4, "bob", {"mallory"}), Record(OTHER.cid, 2, "mallory")], everyone)
    run(fed, TOP, lambda op, inputs, params: sum(inputs) + params["n"])
    assert states(plan(fed, TOP, trusted={"bob"}.__contains__)) == {
        "1": "missing: to be computed",
        "2": "refused, from 'mallory': to be computed",
        "3": "refused, from 'bob': to be computed",
        "4": "refused, rests on 2 peers: to be computed",
    }


def test_a_plan_without_its_nodes_is_a_table(fed: Federation) -> None:
    assert "<img" not in shown(Plan(reused=("c1",)))
    assert Plan(reused=("c1",)) == Plan(reused=("c1",), targets=(LOW,), known={"c1": None})
    assert hash(plan(fed, TOP)) == hash(Plan(computed=plan(fed, TOP).computed))


def test_a_run_shows_what_was_computed_reused_from_whom_and_not_needed(fed: Federation, runner: Any) -> None:
    fed = import_(fed, [Record(MID.cid, 4, "alice")], everyone)
    fed = run(fed, OTHER, runner).federation
    done = run(fed, TOP, runner)
    assert states(done) == {
        "1": "not needed",
        "2": "reused: computed here before",
        "3": "reused: from 'alice'",
        "4": "computed now",
    }
    assert cells(done) == [["Run", "nodes"], ["computed now", "1"], ["reused", "2"]]
    invalidate(fed, "alice")
    assert states(done)["3"] == "reused, no longer held"  # never as if it had been computed here


def test_a_run_shows_what_failed_and_why_and_what_was_skipped_for_it(fed: Federation) -> None:
    def failing(op: str, inputs: tuple[Any, ...], params: Mapping[str, Any]) -> int:
        if params["n"] == 3:
            raise ValueError("no more film")
        return 1

    done = run(fed, TOP, failing, keep_going=True)
    assert states(done) == {
        "1": "computed now",
        "2": "computed now",
        "3": "failed: ValueError: no more film",
        "4": "skipped: what it needs failed",
    }
    assert cells(done)[3:] == [["failed", "1", "'add@1': ValueError: no more film"], ["skipped", "1", ""]]


def test_the_node_that_failed_is_drawn_however_many_did_not(fed: Federation) -> None:
    def failing(op: str, inputs: tuple[Any, ...], params: Mapping[str, Any]) -> int:
        if params["n"] == 444:
            raise ValueError("no more film")
        return 1

    film = node("add@1", *[add(add(n=n), n=-n) for n in range(500)], n=1000)
    done = run(fed, film, failing, keep_going=True)
    [(alt, _)] = pictures(shown(done))
    assert "n=444, failed: ValueError: no more film" in alt and "n=-444, skipped: what it needs failed" in alt
    assert re.search(r"Left out: 9\d\d computed\.", alt)


def test_a_run_over_a_cache_that_was_closed_still_shows_what_it_did(durable: Federation, runner: Any) -> None:
    durable = import_(durable, [Record(LOW.cid, 1, "alice")], everyone)
    done = run(durable, MID, runner)
    durable.cache.close()  # type: ignore[attr-defined]  # a durable one has it
    with pytest.raises(StoreError):
        len(durable)
    assert states(done) == {"1": "reused", "3": "computed now"}


def test_an_instance_shows_how_many_results_are_from_whom_and_rest_on_whom(fed: Federation) -> None:
    records = [Record("c1", 1, "alice", {"carol"}), Record("c2", 2, "alice"), Record("c3", 3, "bob")]
    fed = import_(fed, records, everyone)
    fed.cache["c4"] = 4
    assert cells(fed) == [
        ["origin", "results", "size", "of them rest on"],
        ["computed here", "1", "2 B" if isinstance(fed.cache, DiskCache) else "", ""],  # in memory it has no bytes
        ["from 'alice'", "2", "4 B", "1 on 'carol'"],
        ["from 'bob'", "1", "2 B", ""],
    ]
    many = import_(Federation(), [Record(f"c{n}", n, f"peer-{n}") for n in range(40)], everyone)
    assert cells(many)[-1] == ["and 30 more peers"]


def test_an_instance_shows_what_took_a_moment_as_a_moment_and_not_as_nothing() -> None:
    fed = run(artdag_fed.open(), LOW, lambda op, inputs, params: 1).federation
    assert "under 0.1 s" in shown(fed) and "0.0 s" not in shown(fed)


def test_a_report_shows_reasons_with_examples() -> None:
    records = [Record("c1", 1, "mallory"), Record("c2", 1, "alice", {"carol"})]
    report = import_(Federation(), records, {"alice"}.__contains__).report
    assert cells(report)[1:] == [
        ["admitted", "1", ""],
        ["rejected: untrusted", "1", "c1"],
        ["resting on 'carol'", "1", ""],
    ]
    assert "nothing" in shown(Report())


def test_an_explanation_shows_what_it_says(fed: Federation, runner: Any) -> None:
    fed = run(fed, MID, runner).federation
    said = explain(fed, add(LOW, n=9))
    assert (
        repr(said) == f"<Explanation of 'add@1' {said.cid[:12]}: missing, 1 difference from its nearest held relative>"
    )
    assert [line for [line] in cells(said)] == [line.strip() for line in str(said).splitlines()]
    assert repr(explain(fed, MID)) == f"<Explanation of 'add@1' {MID.cid[:12]}: held>"
    assert repr(explain(Federation(), MID)).endswith("missing, nothing that is held is like it>")


def test_mermaid_and_dot_have_every_node_and_arrow() -> None:
    text = Dag(TOP).to_mermaid()
    assert text.splitlines()[0] == "flowchart TD" and text.count("-->") == 3 and text.count("add@1, n=") == 4
    text = Dag(TOP).to_dot()
    assert text.startswith("digraph {") and text.count("->") == 3 and text.count("add@1") == 4
    assert "Left out: 1 node." in Dag(TOP).to_dot(most=3) and "Left out: 2 nodes." in Dag(TOP).to_mermaid(most=2)


# --- what is not done -----------------------------------------------------------------------


class Guarded(MemoryCache):
    """A cache that gives no result away and cannot be walked."""

    armed = False

    def load(self, cids: Iterable[str], observe: Any = None) -> Any:
        assert not self.armed
        return super().load(cids, observe)

    def __getitem__(self, cid: str) -> Any:
        assert not self.armed
        return super().__getitem__(cid)

    def __iter__(self) -> Any:
        assert not self.armed
        return super().__iter__()

    def stored(self, cid: str) -> Any:
        raise AssertionError("a result was read")

    def recipes(self, op: str | None = None) -> Any:
        raise AssertionError("the cache was walked")


def test_no_result_is_read_and_no_cache_is_walked_to_show_anything(runner: Any) -> None:
    cache = Guarded()
    fed = import_(Federation(cache), [Record(MID.cid, 4, "alice")], everyone)
    done = run(fed, TOP, runner)
    there = plan(fed, TOP)
    cache.armed = True
    for value in (fed, done, there, done.federation.report, Dag(TOP)):
        assert shown(value) and repr(value)


# --- hostile names --------------------------------------------------------------------------


@pytest.mark.parametrize("name", HOSTILE, ids=range(len(HOSTILE)))
def test_a_hostile_op_param_and_error_are_shown_as_text_everywhere(name: str) -> None:
    dag, *others = named(name)
    for value in (dag, *others):
        for text in (shown(value), repr(value), *(alt for alt, _ in pictures(shown(value)))):
            assert not any(character in text for character in STRANGE), value
        assert len(shown(value)) < 40_000
    assert len(dag.to_mermaid()) < 2500 and len(dag.to_dot()) < 2500


# --- very much ------------------------------------------------------------------------------


def check_quick(value: Any) -> None:
    for show in (repr, shown):
        began = time.process_time()
        text = show(value)
        milliseconds = 1000 * (time.process_time() - began)
        assert milliseconds < MILLISECONDS, f"{show.__name__} of a {type(value).__name__}: {milliseconds:.0f} ms"
        assert len(text) < BYTES, f"{show.__name__} of a {type(value).__name__}: {len(text):,} bytes"


@pytest.mark.parametrize("shape", ["chain", "fan", "layers"])
def test_a_hundred_thousand_nodes_are_shown_in_a_moment(shape: str) -> None:
    if shape == "chain":
        top = add(n=0)
        for n in range(1, 100_000):
            top = add(top, n=n)
    elif shape == "fan":
        top = add(*[add(n=n) for n in range(99_999)], n=-1)
    else:
        layer = [add(n=n) for n in range(100)]
        for depth in range(1, 1000):
            layer = [add(*layer[at : at + 6], n=depth * 100 + at) for at in range(100)]
        top = add(*layer, n=-1)

    def failing(op: str, inputs: tuple[Any, ...], params: Mapping[str, Any]) -> int:
        if params["n"] == 77:
            raise ValueError("no more film")
        return 1

    fed = Federation()
    dag = Dag(top)
    assert len(dag) >= 99_000
    check_quick(dag)
    check_quick(plan(fed, dag))
    done = run(fed, dag, failing, keep_going=True)
    check_quick(done)
    check_quick(plan(done.federation, dag))
    check_quick(done.federation)


@pytest.mark.parametrize("letter", ["'", '"', "&", "<", "\\", "語", "x"])
def test_long_names_of_any_letter_in_a_dense_graph_stay_small(letter: str) -> None:
    def failing(op: str, inputs: tuple[Any, ...], params: Mapping[str, Any]) -> int:
        raise ValueError(300 * letter)

    nodes: list[Node] = []
    for n in range(80):
        params = {40 * letter + str(at): 30 * letter for at in range(9)}
        nodes.append(node(500 * letter + str(n), *nodes[::-2][:12], **params))
    dag = Dag(*nodes[-2:])
    check_quick(dag)
    check_quick(plan(Federation(), dag))
    check_quick(run(Federation(), dag, failing, keep_going=True))


@pytest.mark.slow
def test_an_instance_of_a_million_results_is_shown_in_a_moment(tmp_path: Any) -> None:
    results = {f"c{n}": n for n in range(1_000_000)}
    provenance = {f"c{n}": f"peer-{n % 20}" for n in range(0, 1_000_000, 2)}
    check_quick(Federation(results, provenance))
    fed = Federation(DiskCache(tmp_path / "many"))
    records = (Record(f"c{n}", n, f"peer-{n % 20}") for n in range(1_000_000))
    check_quick(import_(fed, records, everyone, limits=Limits(records=1_000_000)))
