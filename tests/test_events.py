"""What a call tells while it works, and what it reports when it is done."""

from __future__ import annotations

import dataclasses
import pickle
from collections.abc import Mapping
from typing import Any, get_args

import pytest

from artdag_fed import (
    Event,
    Federation,
    Limits,
    Record,
    Report,
    RunError,
    forget,
    import_,
    invalidate,
    node,
    run,
)
from artdag_fed.events import REASONS, Reason
from tests.instances import everyone


def sums(op: str, inputs: tuple[Any, ...], params: Mapping[str, Any]) -> Any:
    if params.get("fails"):
        raise ValueError("asked to")
    return sum(inputs) + params["n"]


# --- the values -----------------------------------------------------------------------------------


def test_an_event_and_a_report_show_only_what_they_say() -> None:
    assert repr(Event("committed", count=3)) == "Event('committed', count=3)"
    assert repr(Event("withdrawn")) == "Event('withdrawn')"
    assert repr(Report()) == "Report()"
    assert repr(Report(1, 2, 3, {"forged": 4}, 5, {"bob": 6})) == (
        "Report(admitted=1, unchanged=2, conflicts=3, rejected={'forged': 4}, dropped=5, resting_on={'bob': 6})"
    )


def test_a_report_has_a_few_examples_of_each_rejection_which_are_not_part_of_equality() -> None:
    bundle = [Record(f"c{i}", i, "alice" if i % 2 else "mallory") for i in range(20)]
    report = import_(Federation(), bundle, {"alice"}.__contains__).report
    assert report.examples == {"untrusted": ("c0", "c2", "c4")}
    assert report == Report(admitted=10, rejected={"untrusted": 10}) and "c0" not in repr(report)
    events: list[Event] = []
    observed = import_(Federation(), bundle, {"alice"}.__contains__, observe=events.append).report
    assert observed.examples == report.examples and len(events) == 11
    with pytest.raises(TypeError):
        report.examples["forged"] = ()  # type: ignore[index]  # wrong on purpose


def test_a_report_cannot_be_changed_and_knows_of_no_reason_that_did_not_occur() -> None:
    given = {"forged": 1}
    report = Report(rejected=given)
    given["forged"] = 2
    assert report.rejected == {"forged": 1} and report.rejected["untrusted"] == 0
    with pytest.raises(TypeError):
        report.rejected["forged"] = 2  # type: ignore[index]  # on purpose
    with pytest.raises(dataclasses.FrozenInstanceError):
        report.admitted = 2  # type: ignore[misc]  # on purpose


def test_events_can_be_compared_hashed_and_pickled() -> None:
    event = Event("rejected", cid="c1", peer="bob", reason="forged")
    assert pickle.loads(pickle.dumps(event)) == event and len({event, dataclasses.replace(event)}) == 1


def test_the_list_of_reasons_is_closed() -> None:
    assert get_args(Reason) == REASONS


# --- what calls tell ------------------------------------------------------------------------------


def test_a_record_is_counted_once(fed: Federation) -> None:
    fed.cache["c0"] = "mine"
    bundle = [
        Record("c0", "mine", "bob"),  # unchanged
        Record("c0", "other", "bob"),  # in conflict
        Record("c1", 1, "bob", {"carol", "dave"}),  # admitted
        Record("c2", 1, "bob", {"carol"}),  # admitted
        Record("c1", 1, "bob"),  # unchanged
        Record("c3", 1, "mallory"),  # rejected
        Record("c 4", 1, "bob"),  # rejected
    ]
    report = import_(fed, bundle, lambda peer: peer != "mallory").report
    assert report == Report(2, 2, 1, {"untrusted": 1, "malformed": 1}, 0, {"carol": 2, "dave": 1})
    assert report.admitted + report.unchanged + report.conflicts + sum(report.rejected.values()) == len(bundle)


def test_a_run_tells_what_is_computed_reused_and_committed_as_it_happens(fed: Federation) -> None:
    low, other = node("low@1", n=1), node("other@1", n=2)
    top = node("top@1", low, other, n=3)
    fed = import_(fed, [Record(low.cid, 10, "bob")], everyone)
    told: list[Event] = []
    done = run(fed, top, sums, observe=told.append)
    assert done.value == 15
    kinds = [(e.kind, e.cid, e.peer, e.op, e.count) for e in told if e.kind != "committed"]
    assert kinds == [
        ("reused", low.cid, "bob", "", 0),
        ("computed", other.cid, "", "other@1", 0),
        ("computed", top.cid, "", "top@1", 0),
    ]
    assert all(e.seconds >= 0 for e in told)
    assert sum(e.count for e in told if e.kind == "committed") == 2 == done.federation.report.admitted


def test_a_run_tells_what_failed_and_what_was_skipped_for_it(fed: Federation) -> None:
    bad = node("bad@1", fails=True)
    top = node("top@1", bad, n=1)
    told: list[Event] = []
    run(fed, top, sums, keep_going=True, observe=told.append)
    assert told == [
        Event("failed", cid=bad.cid, op="bad@1", reason="ValueError: asked to"),
        Event("skipped", cid=top.cid, op="top@1"),
    ]
    told.clear()
    with pytest.raises(RunError):
        run(fed, top, sums, observe=told.append)
    assert [e.kind for e in told] == ["failed"]


def test_what_observe_raises_ends_the_call_and_what_was_committed_stays(fed: Federation) -> None:
    class Enough(Exception):
        pass

    def observe(event: Event) -> None:
        raise Enough

    with pytest.raises(Enough):
        import_(fed, [Record("c1", 1, "bob")], everyone, observe=observe)
    assert import_(fed, [], everyone).provenance["c1"] == "bob"  # told after the commit
    with pytest.raises(Enough):
        import_(fed, [Record("c2", 1, "bob"), Record("c 3", 1, "bob")], everyone, observe=observe)
    assert "c2" not in fed  # told before it
    with pytest.raises(Enough):
        run(fed, node("a@1", n=1), sums, observe=observe)
    with pytest.raises(Enough):
        invalidate(fed, "bob", observe=observe)
    assert "c1" not in fed
    fed.cache["c4"] = 1
    with pytest.raises(Enough):
        forget(fed, ["c4"], observe=observe)
    assert "c4" not in fed


def test_without_observe_nothing_is_told_and_the_report_is_the_same(fed: Federation) -> None:
    bundle = [Record("c1", 1, "bob"), Record("c1", 2, "bob"), Record("c2", 1, "mallory")]
    trusted = {"bob"}.__contains__
    report = import_(fed, bundle, trusted).report
    told: list[Event] = []
    again = import_(Federation({}), bundle, trusted, observe=told.append, limits=Limits())
    assert again.report == report and sorted(e.kind for e in told) == ["committed", "conflict", "rejected"]
