"""What happens when a result arrives for a cid that is held: each row of the table in DESIGN, with report and events.

Rules: each row runs over a dict, `open()` and `open(path)`, with results that lie in their row and such that lie in a
file of their own. "Computed here" arrives by `run`, "foreign" by `import_`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import pytest

from artdag_fed import Codec, Event, Federation, Record, export, forget, import_, invalidate, node, run

N = node("step@1")
CID = N.cid
Value = Callable[[str], str]


@pytest.fixture(params=[1, 40_000], ids=["small", "large"])
def value(request: pytest.FixtureRequest) -> Value:
    """Makes results out of a word: some bytes, or so many that they get a file of their own."""
    return lambda word: word * request.param


def digest(result: object) -> str:
    return hashlib.sha256(Codec().encode(result)).hexdigest()


def arrive(fed: Federation, *records: Record, told: list[Event] | None = None) -> Federation:
    return import_(fed, records, lambda peer: peer != "mallory", observe=None if told is None else told.append)


def compute(fed: Federation, result: Any, told: list[Event] | None = None, **more: Any) -> Federation:
    observe = None if told is None else told.append
    return run(fed, N, lambda op, inputs, params: result, observe=observe, **more).federation


def counts(fed: Federation) -> tuple[int, int, int]:
    return fed.report.admitted, fed.report.unchanged, fed.report.conflicts


def conflicts(told: list[Event]) -> list[Event]:
    return [event for event in told if event.kind == "conflict"]


# --- foreign arrives --------------------------------------------------------------------------


def test_nothing_is_held_a_foreign_result_is_stored_with_its_origin(fed: Federation, value: Value) -> None:
    told: list[Event] = []
    fed = arrive(fed, Record(CID, value("a"), "alice", {"carol"}), told=told)
    assert fed.cache[CID] == value("a")
    assert (dict(fed.provenance), dict(fed.lineage)) == ({CID: "alice"}, {CID: frozenset({"carol"})})
    assert counts(fed) == (1, 0, 0)
    assert told == [Event("committed", count=1)]


@pytest.mark.parametrize("peer", ["alice", "bob"])
def test_the_held_one_was_withdrawn_a_foreign_result_is_stored_with_a_new_origin(
    fed: Federation, value: Value, peer: str
) -> None:
    fed = invalidate(arrive(fed, Record(CID, value("a"), "alice")), "alice")
    assert CID not in fed
    fed = arrive(fed, Record(CID, value("b"), peer))
    assert (fed.cache[CID], fed.provenance[CID]) == (value("b"), peer)
    assert counts(fed) == (1, 0, 0)


def test_a_foreign_result_is_held_an_equal_one_of_another_peer_changes_nothing(fed: Federation, value: Value) -> None:
    told: list[Event] = []
    fed = arrive(fed, Record(CID, value("a"), "alice"))
    fed = arrive(fed, Record(CID, value("a"), "bob", {"carol"}), told=told)
    assert (dict(fed.provenance), dict(fed.lineage)) == ({CID: "alice"}, {})
    assert counts(fed) == (0, 1, 0)
    assert told == [Event("committed", count=0)]


def test_a_foreign_result_is_held_another_one_is_a_conflict_and_the_held_one_stays(
    fed: Federation, value: Value
) -> None:
    told: list[Event] = []
    fed = arrive(fed, Record(CID, value("a"), "alice"))
    fed = arrive(fed, Record(CID, value("b"), "bob"), told=told)
    assert (fed.cache[CID], fed.provenance[CID]) == (value("a"), "alice")
    assert counts(fed) == (0, 0, 1)
    assert conflicts(told) == [
        Event(
            "conflict",
            cid=CID,
            peer="bob",
            reason="the held one stays",
            held=digest(value("a")),
            offered=digest(value("b")),
        )
    ]


def test_a_local_result_is_held_an_equal_foreign_one_changes_nothing(fed: Federation, value: Value) -> None:
    fed = arrive(compute(fed, value("a")), Record(CID, value("a"), "alice"))
    assert dict(fed.provenance) == {}
    assert counts(fed) == (0, 1, 0)


def test_a_local_result_is_held_another_foreign_one_is_a_conflict_and_the_local_one_stays(
    fed: Federation, value: Value
) -> None:
    told: list[Event] = []
    fed = arrive(compute(fed, value("a")), Record(CID, value("b"), "alice"), told=told)
    assert (fed.cache[CID], dict(fed.provenance)) == (value("a"), {})
    assert counts(fed) == (0, 0, 1)
    [conflict] = conflicts(told)
    assert (conflict.held, conflict.offered, conflict.peer) == (digest(value("a")), digest(value("b")), "alice")


def test_of_two_records_for_one_cid_the_first_that_is_admitted_counts_as_held(fed: Federation, value: Value) -> None:
    told: list[Event] = []
    bundle = [
        Record(CID, value("m"), "mallory"),
        Record(CID, value("a"), "alice"),
        Record(CID, value("b"), "bob"),
        Record(CID, value("a"), "carol"),
    ]
    fed = arrive(fed, *bundle, told=told)
    assert (fed.cache[CID], fed.provenance[CID]) == (value("a"), "alice")
    assert counts(fed) == (1, 1, 1)
    assert fed.report.rejected == {"untrusted": 1}
    assert [(c.held, c.offered, c.peer) for c in conflicts(told)] == [(digest(value("a")), digest(value("b")), "bob")]


# --- computed here arrives ----------------------------------------------------------------------


def renewals() -> list[Any]:
    return [
        pytest.param({"trusted": lambda peer: False}, id="trusted"),
        pytest.param({"refresh": True}, id="refresh"),
    ]


@pytest.mark.parametrize("how", renewals())
def test_a_foreign_result_is_held_one_computed_here_replaces_it(
    fed: Federation, value: Value, how: dict[str, Any]
) -> None:
    told: list[Event] = []
    fed = compute(arrive(fed, Record(CID, value("a"), "alice")), value("b"), told, **how)
    assert (fed.cache[CID], dict(fed.provenance)) == (value("b"), {})
    assert counts(fed) == (1, 0, 1)
    assert conflicts(told) == [
        Event(
            "conflict",
            cid=CID,
            reason="the offered one replaced the held one",
            held=digest(value("a")),
            offered=digest(value("b")),
        )
    ]
    assert CID in invalidate(fed, "alice")


@pytest.mark.parametrize("how", renewals())
def test_a_foreign_result_is_held_an_equal_one_computed_here_makes_it_local_without_a_conflict(
    fed: Federation, value: Value, how: dict[str, Any]
) -> None:
    told: list[Event] = []
    fed = compute(arrive(fed, Record(CID, value("a"), "alice")), value("a"), told, **how)
    assert dict(fed.provenance) == {}
    assert (counts(fed), conflicts(told)) == ((1, 0, 0), [])
    assert CID in invalidate(fed, "alice")


def test_a_foreign_result_arrives_while_the_node_is_computed_and_is_replaced(fed: Federation, value: Value) -> None:
    def slow(op: str, inputs: object, params: object) -> str:
        assert arrive(fed, Record(CID, value("a"), "alice")).provenance[CID] == "alice"
        return value("b")

    after = run(fed, N, slow).federation
    assert (after.cache[CID], dict(after.provenance)) == (value("b"), {})
    assert after.report.conflicts == 1


def test_a_local_result_is_committed_while_the_node_is_computed_and_the_first_one_stays(
    fed: Federation, value: Value
) -> None:
    told: list[Event] = []

    def slow(op: str, inputs: object, params: object) -> str:
        compute(fed, value("a"))
        return value("b")

    done = run(fed, N, slow, observe=told.append)
    assert done.value == value("b")  # what this run computed itself
    assert done.federation.cache[CID] == value("a")
    assert counts(done.federation) == (0, 0, 1)
    [conflict] = conflicts(told)
    assert (conflict.held, conflict.offered, conflict.reason) == (
        digest(value("a")),
        digest(value("b")),
        "the held one stays",
    )


def test_a_local_result_is_held_refresh_replaces_it_and_says_so_where_they_differ(
    fed: Federation, value: Value
) -> None:
    told: list[Event] = []
    fed = compute(compute(fed, value("a")), value("b"), told, refresh=True)
    assert fed.cache[CID] == value("b")
    assert [(c.held, c.offered) for c in conflicts(told)] == [(digest(value("a")), digest(value("b")))]
    told.clear()
    fed = compute(fed, value("b"), told, refresh=True)
    assert (fed.cache[CID], conflicts(told), fed.report.conflicts) == (value("b"), [], 0)


def test_a_local_result_that_rests_on_someone_not_trusted_now_is_replaced(fed: Federation) -> None:
    first = node("first@1")
    top = node("top@1", first)
    fed = import_(fed, [Record(first.cid, "bad", "alice")], {"alice"}.__contains__)
    fed = run(fed, top, lambda op, inputs, params: ("top", *inputs)).federation
    assert fed.lineage[top.cid] == {"alice"}
    done = run(fed, top, lambda op, inputs, params: (op, *inputs), trusted=lambda peer: False)
    assert done.value == ("top@1", ("first@1",))
    assert (dict(done.federation.provenance), dict(done.federation.lineage)) == ({}, {})


def test_putting_a_result_into_the_cache_replaces_what_is_held_and_is_local(fed: Federation, value: Value) -> None:
    arrive(fed, Record(CID, value("a"), "alice", {"carol"}))
    fed.cache[CID] = value("b")
    assert fed.cache[CID] == value("b")
    assert CID in invalidate(invalidate(fed, "alice", derived=True), "carol", derived=True)


# --- beside the table ---------------------------------------------------------------------------


def test_where_the_codec_cannot_carry_a_value_identity_decides() -> None:
    one, other = object(), object()
    told: list[Event] = []
    fed = arrive(Federation({}), Record(CID, one, "alice"))
    fed = arrive(fed, Record(CID, one, "bob"), told=told)
    assert (counts(fed), conflicts(told)) == ((0, 1, 0), [])
    fed = arrive(fed, Record(CID, other, "bob"), told=told)
    assert (counts(fed), fed.cache[CID]) == ((0, 0, 1), one)
    assert conflicts(told) == [Event("conflict", cid=CID, peer="bob", reason="the held one stays")]


def test_a_result_that_went_out_and_came_back_is_foreign_like_any_other(make: Callable[[], Federation]) -> None:
    alice = compute(make(), "a")
    bob = import_(make(), export(alice, "alice"), {"alice"}.__contains__)
    alice = import_(forget(alice, [CID]), export(bob, "bob"), {"bob"}.__contains__)
    assert (dict(alice.provenance), dict(alice.lineage)) == ({CID: "bob"}, {CID: frozenset({"alice"})})


def test_what_was_built_on_a_replaced_value_stays_until_it_is_forgotten(fed: Federation) -> None:
    top = node("top@1", N)
    fed = arrive(fed, Record(CID, "a", "alice"))
    fed = run(fed, top, lambda op, inputs, params: ("top", *inputs)).federation
    fed = compute(fed, "b", refresh=True)
    assert fed.cache[top.cid] == ("top", "a")
    assert len(forget(fed, [CID], derived=True)) == 0
