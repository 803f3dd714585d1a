"""Quorum: what happens to those who fail, what is open and held meanwhile, and how it goes with other wrappers.

Rules: what fails is the peer's part alone; an answer that counts whether it was closed is no generator.
"""

from __future__ import annotations

import contextlib
import gc
import tracemalloc
from collections.abc import Iterable, Iterator
from typing import Any

import pytest

import artdag_fed
from artdag_fed import BundleError, Event, Federation, Limits, Record, first_of, limited, pull, quorum, retrying, wanted
from artdag_fed.testing import FakePeer, check_fetch
from artdag_fed.transport import carrying, is_partial
from tests.quorums import both_roads, breaking, digest, read, refusing, told
from tests.roads import cids

# --- who fails ----------------------------------------------------------------------------------


ENDLESS: Any = lambda peer: (Record(f"c{n}", 1, peer) for n in iter(int, 1))  # noqa: E731  # a road like the others
FAILS: dict[str, Any] = {
    "is dead": refusing(ConnectionRefusedError("gone")),
    "breaks off": breaking({"c1": 1, "c2": 1}, ConnectionResetError("gone")),
    "raises anything": breaking({"c1": 1}, ZeroDivisionError("gone")),
    "is endless": ENDLESS,
    "sends no records": lambda peer: ["c1"],
    "gives nothing to read": lambda peer: None,
    "cuts its bundle": FakePeer("bob", {"c1": 1, "c2": 1}, cut=-1),
    "is silent": FakePeer("bob", {"c1": 1, "c2": 1}, silent=True),
    "tells nothing": carrying(read({}), partial=False, digests=refusing(ConnectionRefusedError("gone"))),
    "tells a number": carrying(read({}), partial=False, digests=lambda peer, cids: 5),  # type: ignore[arg-type, return-value]  # wrongly
}


@pytest.mark.parametrize("bob", FAILS.values(), ids=FAILS)
def test_who_fails_does_not_count_whatever_came_before_and_the_others_do(bob: Any) -> None:
    events: list[Event] = []
    roads = {"alice": read({"c1": 1, "c2": 1}), "bob": bob, "carol": read({"c2": 1})}
    fetch = quorum(roads, 2, observe=events.append, limits=Limits(records=100))
    assert cids(fetch("alice")) == ["c2"]
    [event] = events
    assert (event.kind, event.peer) == ("unheard", "bob") and event.reason
    assert cids(quorum(roads, 1, limits=Limits(records=100))("alice")) == ["c1", "c2"]


def test_who_failed_to_tell_digests_is_not_asked_again_in_the_same_call(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("artdag_fed.agreement.BATCH_RECORDS", 1)
    asked: list[str] = []

    def digests(peer: str, cids: Iterable[str]) -> dict[str, str]:
        asked.extend(cids)
        raise TimeoutError

    fetch = quorum({"alice": read({"c1": 1, "c2": 1}), "bob": carrying(read({}), partial=False, digests=digests)}, 2)
    assert cids(fetch("alice")) == [] and asked == ["c1"]
    assert cids(fetch("alice")) == [] and asked == ["c1", "c1"]


def test_digests_that_are_none_or_of_what_was_not_asked_are_no_word() -> None:
    def digests(peer: str, cids: Iterable[str]) -> Any:
        return {"c1": b"raw", "c2": "0" * 63, "c9": digest(1), "c3": digest(1)}

    roads = {"alice": read({"c1": 1, "c2": 1, "c3": 1}), "bob": carrying(read({}), partial=False, digests=digests)}
    events: list[Event] = []
    assert cids(quorum(roads, 2, observe=events.append)("alice")) == ["c3"] and events == []


@pytest.mark.parametrize("error", [ConnectionResetError("gone"), ValueError("odd"), KeyboardInterrupt()])
def test_an_error_of_the_peer_that_was_asked_goes_through(error: BaseException, fed: Federation) -> None:
    roads = {"alice": breaking({"c1": 1}, error), "bob": read({"c1": 1})}
    with pytest.raises(type(error)):
        list(quorum(roads, 2)("alice"))
    with pytest.raises(type(error)):
        quorum({"alice": refusing(error), "bob": read({})}, 2)("alice")
    with contextlib.suppress(artdag_fed.FederationError, KeyboardInterrupt):
        pull(fed, quorum(roads, 2), "alice", {"alice"}.__contains__)
    assert len(fed) == 0


def test_the_peer_that_was_asked_has_limits_and_sends_records() -> None:
    with pytest.raises(BundleError, match=r"'alice' sent more than 100 records \(Limits.records\)"):
        list(quorum({"alice": ENDLESS, "bob": read({})}, 2, limits=Limits(records=100))("alice"))
    with pytest.raises(BundleError, match="'alice' sent something of type str, not a Record"):
        list(quorum({"alice": lambda peer: ["c1"]}, 1)("alice"))  # type: ignore[arg-type, list-item, return-value]  # wrongly


def test_ctrl_c_and_what_observe_raises_are_nobodys_failure() -> None:
    with pytest.raises(KeyboardInterrupt):
        quorum({"alice": read({}), "bob": breaking({}, KeyboardInterrupt())}, 1)("alice")

    def observe(event: Event) -> None:
        raise LookupError(event.kind)

    for bob in (lambda peer: [Record("c1", 1, "zoe")], refusing(OSError()), told({"c1": 2})):
        with pytest.raises(LookupError):
            list(quorum({"alice": read({"c1": 1}), "bob": bob}, 1, observe=observe)("alice"))


# --- what is open, and what is held -------------------------------------------------------------


class Reading(Iterator[Record]):
    """Records that know whether they were closed, and how many were taken; not a generator, for the reason in
    `roads`."""

    def __init__(self, records: Iterable[Record]) -> None:
        self.records, self.taken, self.closed = iter(records), 0, 0

    def __next__(self) -> Record:
        assert not self.closed
        record = next(self.records)
        self.taken += 1
        return record

    def close(self) -> None:
        self.closed += 1


@pytest.mark.parametrize("taken", [0, 1, 5])
def test_the_others_are_closed_before_a_record_comes_and_the_asked_one_when_the_reader_stops(taken: int) -> None:
    offers = {f"c{n}": n for n in range(5)}
    alice, bob = (Reading(read(offers)(name)) for name in ("alice", "bob"))
    answer: Any = quorum({"alice": lambda peer: alice, "bob": lambda peer: bob}, 2)("alice")
    assert bob.closed and not alice.closed and alice.taken == 0
    assert len([next(answer) for _ in range(taken)]) == taken
    answer.close()
    assert alice.closed and list(answer) == []


def test_everyone_is_closed_after_errors() -> None:
    def observe(event: Event) -> None:
        raise LookupError

    bob = Reading([Record("c1", 1, "zoe")])
    with pytest.raises(LookupError):
        quorum({"alice": read({}), "bob": lambda peer: bob}, 1, observe=observe)("alice")
    assert bob.closed
    alice = Reading([Record("c1", 1, "zoe")])
    with pytest.raises(LookupError):
        list(quorum({"alice": lambda peer: alice}, 1, observe=observe)("alice"))
    assert alice.closed


def test_the_asked_peer_is_read_a_batch_at_a_time_and_the_others_are_asked_as_often(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("artdag_fed.agreement.BATCH_RECORDS", 10)
    offers = {f"c{n}": n for n in range(35)}
    alice = Reading(read(offers)("alice"))
    asked: list[int] = []

    def digests(peer: str, cids: Iterable[str]) -> dict[str, str]:
        asked.append(len(list(cids)))
        return {cid: digest(value) for cid, value in offers.items()}

    bob = carrying(read({}), partial=False, digests=digests)
    for n, _ in enumerate(quorum({"alice": lambda peer: alice, "bob": bob}, 2)("alice")):
        assert alice.taken <= (n // 10 + 1) * 10
    assert asked == [10, 10, 10, 5]


@both_roads
def test_it_takes_the_memory_of_a_batch_and_not_of_a_bundle(road: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("artdag_fed.agreement.BATCH_BYTES", 1 << 20)

    def large(peer: str) -> Iterator[Record]:
        return (Record(f"c{n}", bytes([n]) * 500_000, peer) for n in range(40))

    known = {record.cid: record.digest for record in large("bob")}
    bob = large if road is read else carrying(large, partial=False, digests=lambda peer, cids: known)
    fetch = quorum({"alice": large, "bob": bob}, 2)
    gc.collect()
    tracemalloc.start()
    try:
        assert sum(1 for _ in fetch("alice")) == 40
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 6 << 20, peak  # the bundle has 20 MB


# --- in company ---------------------------------------------------------------------------------


def test_wrappers_go_around_it_and_inside() -> None:
    offers = {f"c{n}": n for n in range(5)}
    sturdy = retrying(first_of(refusing(ConnectionRefusedError()), told(offers)), attempts=1)
    inner = quorum({"alice": wanted(limited(sturdy, records=4), ["c1", "c2", "c4"]), "bob": sturdy}, 2)
    assert cids(inner("alice")) == ["c1", "c2"]
    outer = limited(wanted(retrying(first_of(inner)), ["c2"]), records=1)
    assert cids(outer("alice")) == ["c2"] and is_partial(outer)
    assert cids(quorum({"alice": inner, "bob": inner}, 2)("bob")) == ["c1", "c2"]


def test_a_peer_that_is_cut_off_on_purpose_says_what_came_until_then() -> None:
    roads = {"alice": read({"c1": 1, "c2": 2}), "bob": limited(read({"c1": 1, "c2": 2}), records=1)}
    assert cids(quorum(roads, 2)("alice")) == ["c1"]


@both_roads
def test_it_keeps_the_contract_of_a_fetch(road: Any) -> None:
    def make(peer: FakePeer) -> Any:
        return quorum({"alice": peer, "bob": road({r.cid: r.result for r in peer.records()})}, 2)

    check_fetch(make)
