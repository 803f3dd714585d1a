"""When a road fails: the next one is tried, or the same one again, and when it is given up.

Rules: `Road` is the world, and time is a number; nothing here waits.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import pytest

from artdag_fed import (
    BundleError,
    Federation,
    InvalidName,
    Record,
    StoreError,
    TransportError,
    first_of,
    pull,
    retrying,
)
from artdag_fed.transport import digests_of
from tests.instances import everyone
from tests.roads import Road, Time, cids, offers, patient, some

# --- first_of ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "error", [ConnectionRefusedError("no"), TransportError("no"), BundleError("html"), KeyError("alice"), TypeError()]
)
@pytest.mark.parametrize("when", ["called", "read"])
def test_a_road_that_fails_before_its_first_record_is_given_up_for_the_next(error: Exception, when: str) -> None:
    bad = Road(some(3), error=error, refuses=int(when == "called"), breaks=0)
    good, never = Road(some(2)), Road(some(1))
    assert cids(first_of(bad, good, never)("alice")) == ["c0", "c1"]
    assert (bad.asked, good.asked, never.asked, bad.open) == (["alice"], ["alice"], [], 0)


def test_an_answer_is_never_put_together_from_two(fed: Federation) -> None:
    breaking, whole = Road(some(3), breaks=1), Road(some(3))
    with pytest.raises(TransportError, match="broke off after 1 records"):
        pull(fed, first_of(breaking, whole), "alice", everyone)
    assert (len(fed), whole.asked) == (0, [])


def test_an_answer_without_records_is_an_answer() -> None:
    empty, other = Road(), Road(some(1))
    assert list(first_of(empty, other)("alice")) == [] and other.asked == []


def test_where_all_roads_fail_the_error_says_why_each_did() -> None:
    hostile = ValueError("\x1b[2J\nall is well" + "x" * 5000)
    with pytest.raises(TransportError) as raised:
        first_of(Road(refuses=1), Road(breaks=0, error=hostile), Road(refuses=1, error=OSError("down")))("al\u202eice")
    text = str(raised.value)
    assert "none of 3 ways to 'al\\u202eice'" in text and "ConnectionResetError: gone; ValueError: " in text
    assert text.endswith("; OSError: down") and text.isprintable() and len(text) < 600


def test_ctrl_c_is_no_reason_to_try_the_next_road() -> None:
    other = Road(some(1))
    with pytest.raises(KeyboardInterrupt):
        first_of(Road(breaks=0, error=KeyboardInterrupt()), other)("alice")
    assert other.asked == []


def test_the_first_of_none_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="at least one fetch"):
        first_of()


def test_a_road_that_was_given_up_is_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", "artdag_fed"):
        first_of(Road(refuses=1), Road())("alice")
    assert caplog.messages == ["a way to 'alice' failed, the next is tried: ConnectionResetError: gone"]


# --- retrying ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [TransportError("no"), ConnectionResetError("no"), TimeoutError("no")])
@pytest.mark.parametrize("failing", [0, 1, 2])
def test_a_road_that_fails_is_asked_again_after_longer_and_longer_waits(error: OSError, failing: int) -> None:
    time, road = Time(), Road(some(3), error=error, refuses=failing)
    assert len(list(patient(road, time)("alice"))) == 3
    assert (len(road.asked), time.slept) == (failing + 1, [1.0, 2.0][:failing])


def test_attempts_are_bounded_and_the_error_says_how_many_there_were() -> None:
    time, road = Time(), Road(breaks=0)
    with pytest.raises(TransportError, match=r"'alice' could not be asked in 4 of 4 attempts: Conn.*: gone") as raised:
        patient(road, time, attempts=4, wait=0.5, factor=3)("alice")
    assert (len(road.asked), time.slept, road.open) == (4, [0.5, 1.5, 4.5], 0)
    assert isinstance(raised.value.__cause__, ConnectionResetError)


def test_no_attempt_begins_after_so_many_seconds() -> None:
    time = Time()
    slow = Road(refuses=99)

    def fetch(peer: str) -> Iterator[Record]:
        time.now += 4
        return slow(peer)

    with pytest.raises(TransportError, match="in 2 of 99 attempts"):
        patient(fetch, time, attempts=99, wait=1, factor=1, seconds=9)("alice")
    assert (len(slow.asked), time.slept, time.now) == (2, [1], 1009)


def test_randomness_is_passed_in_or_there_is_none() -> None:
    times = [Time(), Time(), Time()]
    dice = random.Random(7)
    for time, jitter in zip(times, (None, None, lambda planned: dice.uniform(0, planned)), strict=True):
        with pytest.raises(TransportError):
            patient(Road(refuses=9), time, jitter=jitter)("alice")
    again = random.Random(7)
    assert times[0].slept == times[1].slept == [1.0, 2.0]
    assert times[2].slept == [again.uniform(0, 1.0), again.uniform(0, 2.0)]


@pytest.mark.parametrize(
    "error", [BundleError("html"), InvalidName("x"), StoreError("disk"), KeyError("x"), TypeError()]
)
def test_what_is_not_the_roads_fault_goes_through_at_once(error: Exception) -> None:
    for road in (Road(error=error, refuses=9), Road(error=error, breaks=0)):
        time = Time()
        with pytest.raises(type(error)) as raised:
            patient(road, time)("alice")
        assert raised.value is error and len(road.asked) == 1 and time.slept == []


def test_after_the_first_record_nobody_is_asked_again(fed: Federation) -> None:
    time, road = Time(), Road(some(3), breaks=1)
    with pytest.raises(TransportError, match="broke off after 1 records"):
        pull(fed, patient(road, time), "alice", everyone)
    assert (len(road.asked), time.slept, len(fed)) == (1, [], 0)


def test_what_sleep_raises_ends_the_attempts() -> None:
    def sleep(seconds: float) -> None:
        raise KeyboardInterrupt

    road = Road(refuses=9)
    with pytest.raises(KeyboardInterrupt):
        retrying(road, sleep=sleep)("alice")
    assert len(road.asked) == 1


def test_digests_are_asked_for_again_too() -> None:
    time, asked = Time(), []
    digests = digests_of(patient(offers({}, asked, ConnectionResetError("gone")), time))
    assert digests is not None
    with pytest.raises(TransportError, match="in 3 of 3 attempts"):
        digests("alice", iter(["c1"]))
    assert asked == [("alice", ("c1",))] * 3 and time.slept == [1.0, 2.0]


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        ({"attempts": 0}, ValueError, "attempts must be at least 1"),
        ({"attempts": 2.0}, TypeError, "attempts must be an int"),
        ({"wait": -1}, ValueError, "wait must be at least 0"),
        ({"factor": 0.5}, ValueError, "factor must be at least 1"),
        ({"seconds": float("inf")}, ValueError, "seconds must be .* finite"),
        ({"jitter": 7}, TypeError, "jitter must be a callable"),
        ({"sleep": None}, TypeError, "sleep must be a callable"),
    ],
)
def test_a_way_of_retrying_of_no_use_is_refused(arguments: dict[str, Any], error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        retrying(Road(), **arguments)
