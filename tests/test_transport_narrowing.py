"""What is not passed on: more than is allowed, and what nobody asked for.

Rules: `Road` is the world, and time is a number; nothing here waits.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from artdag_fed import (
    BundleError,
    CodecError,
    Federation,
    InvalidName,
    Limits,
    Record,
    hmac_signer,
    hmac_verifier,
    limited,
    pull,
    wanted,
)
from tests.instances import everyone
from tests.roads import Road, Time, cids, some

# --- limited ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("most", [1, 3, 5, 6])
def test_so_many_records_are_taken_and_no_more_is_asked_for(most: int) -> None:
    road = Road(some(5))
    assert cids(limited(road, records=most)("alice")) == cids(some(most))[:5]
    assert (road.given, road.open) == (min(most, 5), 0)


@pytest.mark.parametrize(("most", "taken"), [(99, 0), (100, 1), (199, 1), (200, 2), (10**9, 3)])
def test_a_record_that_would_go_over_the_bytes_is_not_passed_on(most: int, taken: int) -> None:
    records = [Record(f"c{n}", "x" * 97, "alice") for n in range(3)]
    assert {len(record.payload) for record in records} == {100}
    road = Road(records)
    assert len(list(limited(road, bytes=most)("alice"))) == taken
    assert (road.given, road.open) == (min(taken + 1, 3), 0)


def test_after_so_many_seconds_nothing_more_is_asked_for() -> None:
    time = Time()
    road = Road(some(10), each=lambda: time.sleep(1.0))
    assert cids(limited(road, seconds=3, clock=time.clock)("alice")) == ["c0", "c1", "c2"]
    assert (road.given, road.open) == (3, 0)
    # The time that the call took counts, and that between two records, which is the reader's.
    answer = iter(limited(road, seconds=3, clock=time.clock)("alice"))
    next(answer)
    time.now += 2
    assert list(answer) == []

    def slow(peer: str) -> list[Record]:
        time.now += 3
        return some(1)

    assert list(limited(slow, seconds=3, clock=time.clock)("alice")) == []
    assert list(limited(slow, seconds=3.5, clock=time.clock)("alice")) == some(1)


def test_an_endless_answer_ends_and_what_came_until_then_is_kept(fed: Federation) -> None:
    def endless(peer: str) -> Iterator[Record]:
        n = 0
        while True:
            yield Record(f"c{n}", n, peer)
            n += 1

    fed = pull(fed, limited(endless, records=7), "alice", everyone)
    assert (fed.report.admitted, set(fed.provenance.values())) == (7, {"alice"})


def test_what_was_cut_off_is_as_sound_as_its_signatures(fed: Federation) -> None:
    # A changed header shows at the end of a stream, which is not read here: every record has to speak for itself.
    sound = [record.signed(hmac_signer(bytes(16))) for record in some(3)]
    moved = Record("c9", 1, "alice", signature=sound[1].signature)
    fetch = limited(Road([sound[0], moved, sound[2]]), records=2)
    fed = pull(fed, fetch, "alice", everyone, verify=hmac_verifier({"alice": bytes(16)}))
    assert (list(fed), fed.report.rejected) == (["c0"], {"forged": 1})


def test_bytes_of_a_result_that_has_none_cannot_be_counted() -> None:
    odd = Record("odd", object(), "alice")
    with pytest.raises(CodecError, match=r"limited\(bytes=...\) cannot measure 'odd'"):
        list(limited(Road([odd]), bytes=10)("alice"))
    assert list(limited(Road([odd]), records=1)("alice")) == [odd]


@pytest.mark.parametrize("payload", [None, bytearray(99), "text"])
def test_a_payload_that_is_no_bytes_is_left_to_the_gate(payload: Any, fed: Federation) -> None:
    hostile = Record.encoded("c1", payload, "0" * 64, "alice")
    fed = pull(fed, limited(Road([hostile, *some(1)]), bytes=10), "alice", everyone)
    assert (fed.report.rejected, list(fed)) == ({"malformed": 1}, ["c0"])


@pytest.mark.parametrize(
    ("limits", "error", "says"),
    [
        ({}, ValueError, "needs a limit"),
        ({"records": 0}, ValueError, "records must be at least 1"),
        ({"bytes": -1}, ValueError, "bytes must be at least 1"),
        ({"seconds": -0.5}, ValueError, "seconds must be at least 0"),
        ({"seconds": float("nan")}, ValueError, "finite"),
        ({"seconds": float("inf")}, ValueError, "finite"),
        ({"records": 1.5}, TypeError, "records must be an int, not float"),
        ({"bytes": True}, TypeError, "bytes must be an int, not bool"),
        ({"seconds": "3"}, TypeError, "seconds must be a number, not str"),
        ({"seconds": 3, "clock": 7}, TypeError, "clock must be a callable"),
    ],
)
def test_a_limit_of_no_use_is_refused(limits: dict[str, Any], error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        limited(Road(), **limits)


# --- wanted -----------------------------------------------------------------------------------------


def test_what_was_not_asked_for_is_dropped(fed: Federation) -> None:
    fed = pull(fed, wanted(Road(some(5)), (cid for cid in ("c3", "c1", "c9"))), "alice", everyone)
    assert (set(fed), fed.report.rejected) == ({"c1", "c3"}, {})


def test_several_records_for_one_cid_are_all_passed_on() -> None:
    records = [Record("c1", 1, "alice"), Record("c2", 2, "alice"), Record("c1", 3, "bob")]
    assert list(wanted(Road(records), ["c1"])("a-mirror")) == [records[0], records[2]]


class Chameleon(str):
    """A cid that is equal to the one that was asked for, and shows another."""

    __slots__ = ()


@pytest.mark.parametrize("cid", [None, 7, ["c1"], b"c1", "", "c1\n", Chameleon("c1")])
def test_a_cid_that_is_none_was_not_asked_for(cid: Any) -> None:
    assert list(wanted(Road([Record(cid, 1, "alice"), *some(2)]), ["c1"])("alice")) == [Record("c1", 1, "alice")]


def test_an_endless_answer_of_what_nobody_asked_for_is_refused() -> None:
    road = Road(Record("junk", 1, "alice") for _ in iter(int, 1))
    with pytest.raises(BundleError, match=r"'alice' has more than 50 records .* that nobody asked for"):
        list(wanted(road, ["c1"], limits=Limits(records=50))("alice"))
    assert (road.given, road.open) == (51, 0)
    just = Road([*(Record("junk", 1, "alice") for _ in range(50)), *some(2)[1:]])
    assert cids(wanted(just, ["c1"], limits=Limits(records=50))("alice")) == ["c1"]


def test_where_nothing_is_wanted_nobody_is_asked(fed: Federation) -> None:
    road = Road(some(3))
    assert len(pull(fed, wanted(road, ()), "alice", everyone)) == 0
    assert road.asked == []


def test_what_is_wanted_is_fixed_when_it_is_said() -> None:
    ids = ["c1"]
    fetch = wanted(Road(some(3)), ids)
    ids.append("c2")
    assert cids(fetch("alice")) == ["c1"]


def test_a_want_of_no_use_is_refused() -> None:
    for several in ("c1", b"c1", 7):
        with pytest.raises(TypeError, match="cids must be an iterable of ids"):
            wanted(Road(), several)  # type: ignore[arg-type]  # on purpose
    with pytest.raises(InvalidName):
        wanted(Road(), ["c1", "c 2"])
    with pytest.raises(TypeError, match="limits must be a Limits"):
        wanted(Road(), ["c1"], limits=50)  # type: ignore[arg-type]  # on purpose
