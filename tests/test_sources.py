"""A held result whose op has other code by now: it is used, and that is said once.

Rules: over a dict, `open()` and `open(path)`; the runner says what its source is.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import pytest

from artdag_fed import Dag, Event, Federation, MemoryCache, Node, export, import_, node, run
from artdag_fed.testing import check_cache


class Coded:
    """A runner that says which code its ops have, and counts how often it is asked."""

    def __init__(self, **sources: str) -> None:
        self.sources = sources
        self.asked: list[str] = []

    def __call__(self, op: str, inputs: tuple[Any, ...], params: Mapping[str, Any]) -> Any:
        return len(inputs)

    def source(self, op: str) -> str:
        self.asked.append(op)
        return self.sources.get(op.partition("@")[0], "")


def told(fed: Federation, dag: Node | Dag, runner: Any, **more: Any) -> list[Event]:
    events: list[Event] = []
    run(fed, dag, runner, observe=events.append, **more)
    return [event for event in events if event.kind == "resourced"]


@pytest.fixture
def fan() -> Dag:
    low = node("load@1", path="a")
    return Dag(*(node("blur@1", low, radius=i) for i in range(5)))


def test_a_held_result_of_other_code_is_used_and_said_once_per_op_and_run(
    fed: Federation, fan: Dag, caplog: pytest.LogCaptureFixture
) -> None:
    run(fed, fan, Coded(blur="old", load="old"))
    for _ in range(2):  # each run says it, not only the first
        caplog.clear()
        [event] = told(fed, fan, Coded(blur="new", load="old"))
        assert (event.op, event.held, event.offered) == ("blur@1", "old", "new")
        assert event.cid in fan and fan[event.cid].op == "blur@1"
        [record] = caplog.records
        assert record.levelno == logging.WARNING and record.name == "artdag_fed" and "blur@1" in record.getMessage()
    assert not run(fed, fan, Coded(blur="new")).computed


def test_it_is_said_without_an_observer_too(fed: Federation, fan: Dag, caplog: pytest.LogCaptureFixture) -> None:
    run(fed, fan, Coded(blur="old"))
    run(fed, fan, Coded(blur="new"))
    assert len(caplog.records) == 1


def test_a_held_input_of_a_missing_node_is_compared_as_well(fed: Federation, fan: Dag) -> None:
    run(fed, fan, Coded(load="old", blur="old"))
    [event] = told(fed, node("sharpen@1", *fan.targets), Coded(load="new", blur="new"))
    assert event.op == "blur@1"  # what is below it is not needed, so nobody has met it


def test_equal_or_unknown_code_is_not_spoken_of(fed: Federation, fan: Dag, caplog: pytest.LogCaptureFixture) -> None:
    run(fed, fan, Coded(blur="old"))
    assert told(fed, fan, Coded(blur="old")) == told(fed, fan, Coded()) == told(fed, fan, lambda *_: 1) == []
    other = node("other@1")
    run(fed, other, lambda *_: 1)
    assert told(fed, other, Coded(other="new")) == []
    assert caplog.records == []


def test_what_is_computed_anew_has_the_new_code(fed: Federation, fan: Dag) -> None:
    run(fed, fan, Coded(blur="old"))
    assert told(fed, fan, Coded(blur="new"), refresh=True) == []
    assert told(fed, fan, Coded(blur="new")) == []
    assert [event.held for event in told(fed, fan, Coded(blur="old"))] == ["new"]


def test_what_came_from_a_peer_has_no_source(fed: Federation, fan: Dag) -> None:
    alice = run(Federation(), fan, Coded(blur="old")).federation
    fed = import_(fed, export(alice, "alice"), {"alice"}.__contains__)
    assert told(fed, fan, Coded(blur="new")) == []


def test_a_runner_is_asked_once_per_op_and_run(fed: Federation, fan: Dag) -> None:
    runner = Coded(blur="old", load="old")
    run(fed, fan, runner)
    assert sorted(runner.asked) == ["blur@1", "load@1"]
    runner.asked.clear()
    run(fed, fan, runner)
    assert runner.asked == ["blur@1"]


def test_a_source_that_is_no_text_is_a_type_error_that_names_the_op(fed: Federation) -> None:
    with pytest.raises(TypeError, match=r"source\('blur@1'\) must answer with a str, not NoneType"):
        run(fed, node("blur@1"), Coded(blur=None))  # type: ignore[arg-type]  # wrong on purpose


class ForgetsSources(MemoryCache):
    def held(self, cids: Any) -> Any:
        return {cid: held._replace(source="") for cid, held in super().held(cids).items()}


class ForgetsInputs(MemoryCache):
    def made(self, cids: Any) -> Any:
        return {cid: made._replace(inputs_digest="") for cid, made in super().made(cids).items()}


@pytest.mark.parametrize("wrong", [ForgetsSources, ForgetsInputs])
def test_the_contract_of_a_cache_sees_one_that_forgets_how_a_result_was_made(wrong: Any) -> None:
    with pytest.raises(AssertionError):
        check_cache(wrong)
