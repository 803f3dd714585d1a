"""What wraps a Fetch: when it asks, what it passes on, when it gives up, and that it closes what it reads.

Rules: `Road` is the world: it gives records, fails where it is told to, and remembers what was asked of it and whether
it was closed. Time is a number that `sleep` and the road move on; nothing here waits.
"""

from __future__ import annotations

import inspect
import random
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest

from artdag_fed import (
    BundleError,
    CodecError,
    Federation,
    InvalidName,
    Limits,
    Record,
    StoreError,
    TransportError,
    first_of,
    hmac_signer,
    hmac_verifier,
    import_,
    limited,
    pull,
    retrying,
    wanted,
)
from artdag_fed.transport import carrying, digests_of, is_partial

Make = Callable[[], Federation]
Wrap = Callable[[Any], Any]


def everyone(peer: str) -> bool:
    return True


def some(count: int, peer: str = "alice") -> list[Record]:
    return [Record(f"c{n}", n, peer) for n in range(count)]


class Time:
    """A clock that stands still unless it is slept on, and what was slept."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.slept: list[float] = []

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


class Road:
    """A fetch with switches. breaks: before which item `error` is raised; refuses: how many calls raise it at once."""

    def __init__(
        self,
        items: Iterable[Any] = (),
        *,
        error: BaseException | None = None,
        breaks: int | None = None,
        refuses: int = 0,
        each: Callable[[], object] = lambda: None,
    ) -> None:
        self.items = items
        self.error = ConnectionResetError("gone") if error is None else error
        self.breaks, self.refuses, self.each = breaks, refuses, each
        self.asked: list[Any] = []
        self.given = 0
        self.open = 0

    def __call__(self, peer: str, /) -> Iterator[Any]:
        self.asked.append(peer)
        if len(self.asked) <= self.refuses:
            raise self.error
        self.open += 1
        return Reading(self)


class Reading(Iterator[Any]):
    """Not a generator, so that being closed is seen even where it was never begun, and only if somebody does it."""

    def __init__(self, road: Road) -> None:
        self.road, self.items, self.closed = road, enumerate(road.items), False

    def __next__(self) -> Any:
        assert not self.closed
        n, item = next(self.items, (None, None))
        self.road.each()
        if self.road.breaks is not None and n in (self.road.breaks, None):
            raise self.road.error
        if n is None:
            raise StopIteration
        self.road.given += 1
        return item

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            self.road.open -= 1


def cids(records: Iterable[Record]) -> list[str]:
    return [record.cid for record in records]


WRAPS: dict[str, Wrap] = {
    "first_of": first_of,
    "limited": lambda fetch: limited(fetch, records=1000, bytes=10**6, seconds=10**6),
    "retrying": lambda fetch: retrying(fetch, attempts=1),
    "wanted": lambda fetch: wanted(fetch, [f"c{n}" for n in range(1000)]),
    "all of them": lambda fetch: wanted(limited(retrying(first_of(fetch), attempts=1), records=9), ["c0", "c1", "c2"]),
}
every_wrap = pytest.mark.parametrize("wrap", WRAPS.values(), ids=WRAPS)


# --- what all of them keep --------------------------------------------------------------------------


@every_wrap
def test_a_wrapper_passes_on_what_it_is_given(wrap: Wrap, fed: Federation) -> None:
    road = Road(some(3))
    fetch = wrap(road)
    assert fetch("alice") is not fetch("alice")
    assert list(fetch("alice")) == some(3)
    assert pull(fed, fetch, "alice", everyone).report.admitted == 3
    assert set(road.asked) == {"alice"}


@every_wrap
def test_a_wrapper_asks_when_it_is_called_and_not_when_it_is_made_or_read(wrap: Wrap) -> None:
    road = Road(some(3), refuses=1)
    fetch = wrap(road)
    assert road.asked == []
    with pytest.raises(OSError, match="gone"):
        fetch("alice")
    answer = fetch("alice")
    assert road.asked == ["alice", "alice"]
    assert len(list(answer)) == 3 and len(road.asked) == 2


@every_wrap
def test_a_wrapper_reads_one_record_ahead_at_most(wrap: Wrap) -> None:
    road = Road(some(100))
    answer = wrap(road)("alice")
    for n in range(3):
        assert road.given <= n + 1
        assert next(answer) == Record(f"c{n}", n, "alice")


@every_wrap
@pytest.mark.parametrize("read", [0, 1, 2])
def test_closing_an_answer_closes_what_it_is_read_from_begun_or_not(wrap: Wrap, read: int) -> None:
    road = Road(some(3))
    answer = wrap(road)("alice")
    assert len([next(answer) for _ in range(read)]) == read and road.open == 1
    answer.close()
    assert road.open == 0 and list(answer) == []
    answer.close()


@every_wrap
def test_an_answer_is_closed_at_its_end_and_after_an_error(wrap: Wrap) -> None:
    road = Road(some(3))
    list(wrap(road)("alice"))
    assert road.open == 0
    for breaks, error in ((0, ConnectionResetError()), (2, ValueError()), (0, KeyboardInterrupt()), (2, SystemExit())):
        road = Road(some(3), breaks=breaks, error=error)
        with pytest.raises(BaseException) as raised:  # which one it is differs on purpose
            list(wrap(road)("alice"))
        assert isinstance(raised.value, TransportError | type(error)) and road.open == 0


@every_wrap
@pytest.mark.parametrize("read", [0, 1])
def test_an_abandoned_generator_beneath_is_closed(wrap: Wrap, read: int) -> None:
    beneath = (record for record in some(3))
    answer = wrap(lambda peer: beneath)("alice")
    assert len([next(answer) for _ in range(read)]) == read
    answer.close()
    assert inspect.getgeneratorstate(beneath) == inspect.GEN_CLOSED


@every_wrap
@pytest.mark.parametrize("made", [list, tuple, iter, dict.fromkeys])
def test_any_iterable_is_an_answer(wrap: Wrap, made: Callable[[list[Record]], Iterable[Record]]) -> None:
    answer = wrap(lambda peer: made(some(3)))("alice")
    assert next(answer).cid == "c0" and cids(answer) == ["c1", "c2"]
    answer.close()


@every_wrap
@pytest.mark.parametrize("answer", [None, 7, Record("c1", 1, "alice")])
def test_what_is_no_iterable_is_no_answer(wrap: Wrap, fed: Federation, answer: Any) -> None:
    with pytest.raises((BundleError, TransportError), match=f"of type {type(answer).__name__}, not an iterable"):
        pull(fed, wrap(lambda peer: answer), "alice", everyone)


@every_wrap
@pytest.mark.parametrize("item", [None, 7, "c0", object()])
def test_what_is_no_record_breaks_the_bundle_through_a_wrapper_too(wrap: Wrap, fed: Federation, item: Any) -> None:
    for before in (0, 1):
        with pytest.raises(BundleError, match=f"item {before} .* is of type {type(item).__name__}, not a Record"):
            pull(fed, wrap(Road([*some(before), item, *some(2)])), "alice", everyone)
    assert len(fed) == 0


@every_wrap
def test_a_bundle_that_breaks_half_way_keeps_nothing_whatever_is_around_it(wrap: Wrap, fed: Federation) -> None:
    with pytest.raises(
        TransportError, match=r"broke off after 2 records: ConnectionResetError: gone: nothing was kept"
    ):
        pull(fed, wrap(Road(some(3), breaks=2)), "alice", everyone)
    assert len(fed) == 0


@every_wrap
def test_nothing_is_kept_between_calls(wrap: Wrap) -> None:
    road = Road(some(3))
    fetch = wrap(road)
    one, two = fetch("alice"), fetch("bob")
    assert [cids(pair) for pair in zip(one, two, strict=True)] == [["c0"] * 2, ["c1"] * 2, ["c2"] * 2]
    assert len(list(fetch("alice"))) == 3


@every_wrap
@pytest.mark.parametrize("fetch", [None, "https://alice.example", []])
def test_what_cannot_be_called_is_refused_when_it_is_wrapped(wrap: Wrap, fetch: Any) -> None:
    with pytest.raises(TypeError, match="must be a callable"):
        wrap(fetch)


# --- the two attributes -----------------------------------------------------------------------------


def offers(answer: dict[str, str], asked: list[Any] | None = None, error: Exception | None = None) -> Any:
    """A whole fetch that can tell digests."""

    def digests(peer: str, cids: Iterable[str]) -> dict[str, str]:
        if asked is not None:
            asked.append((peer, tuple(cids)))
        if error is not None:
            raise error
        return answer

    return carrying(Road(some(3)), partial=False, digests=digests)


def test_a_plain_function_is_whole_and_tells_no_digests() -> None:
    plain: list[Any] = [lambda peer: [], Road(), dict]
    for fetch in plain:
        assert is_partial(fetch) is False and digests_of(fetch) is None


@pytest.mark.parametrize("partial", [True, False])
def test_attributes_are_passed_on(partial: bool) -> None:
    plain = carrying(Road(some(3)), partial=partial, digests=None)
    telling = carrying(Road(some(3)), partial=partial, digests=lambda peer, cids: {})
    for name, wrap in WRAPS.items():
        for fetch in (plain, telling):
            assert is_partial(wrap(fetch)) is (partial or name not in ("first_of", "retrying")), name
        assert not hasattr(wrap(plain), "digests") and digests_of(wrap(telling)) is not None


def test_what_is_asked_for_in_part_is_partial() -> None:
    assert is_partial(wanted(Road(), ["c1"])) and is_partial(limited(Road(), records=1))


def test_the_first_of_several_is_partial_where_one_of_them_is() -> None:
    whole, part = Road(), limited(Road(), records=1)
    assert [is_partial(first_of(*roads)) for roads in ((whole, whole), (whole, part), (part, whole))] == [0, 1, 1]


def test_digests_come_through_the_wrappers() -> None:
    told = {"c0": "d0", "c1": "d1"}
    for name, wrap in WRAPS.items():
        asked: list[Any] = []
        digests = digests_of(wrap(offers(told, asked)))
        assert digests is not None and dict(digests("alice", iter(["c0", "c1"]))) == told, name
        assert asked == [("alice", ("c0", "c1"))]


def test_digests_are_those_of_the_first_road_that_can_tell() -> None:
    silent = offers({}, error=ConnectionResetError("gone"))
    digests = digests_of(first_of(Road(some(3)), silent, offers({"c1": "d1"}), offers({"c1": "other"})))
    assert digests is not None and digests("alice", iter(["c1"])) == {"c1": "d1"}
    digests = digests_of(first_of(silent, silent))
    assert digests is not None
    with pytest.raises(TransportError, match="none of 2 ways to 'alice' gave an answer"):
        digests("alice", ["c1"])


def test_digests_are_asked_for_and_told_of_what_is_wanted_alone() -> None:
    asked: list[Any] = []
    digests = digests_of(wanted(offers({"c1": "d1", "c9": "unasked", "c2": "d2"}, asked), ["c2", "c1"]))
    assert digests is not None
    assert digests("alice", ["c1", "c3"]) == {"c1": "d1"} and asked == [("alice", ("c1",))]
    assert digests("alice", ["c3"]) == {} and len(asked) == 1


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


# --- retrying ---------------------------------------------------------------------------------------


def patient(road: Any, time: Time, **more: Any) -> Any:
    return retrying(road, clock=time.clock, sleep=time.sleep, **more)


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


# --- together ---------------------------------------------------------------------------------------


def test_many_peers_of_which_some_fail_leave_what_the_others_gave(make: Make) -> None:
    time, fed, failed = Time(), make(), []
    roads = {
        "alice": Road([Record("a1", 1, "alice")], refuses=2),
        "bob": Road(refuses=99),
        "carol": Road([Record("k1", 1, "carol"), Record("k2", 2, "carol")], breaks=1),
        "dave": Road(["no record"]),
        "erin": Road([Record("e1", 1, "erin"), Record("e2", 2, "mallory")]),
    }
    for peer, road in roads.items():
        try:
            fed = pull(fed, patient(road, time), peer, everyone)
        except (TransportError, BundleError):
            failed.append(peer)
    assert (failed, dict(fed.provenance)) == (["bob", "carol", "dave"], {"a1": "alice", "e1": "erin"})
    assert {peer: road.open for peer, road in roads.items() if peer != "dave"} == dict.fromkeys(
        ("alice", "bob", "carol", "erin"), 0
    )


def test_a_wrapper_gives_what_import_takes_as_well(fed: Federation) -> None:
    assert import_(fed, limited(Road(some(5)), records=2)("alice"), everyone).report.admitted == 2
