"""What every wrapper of a Fetch keeps: when it asks, what it passes on, and that it closes what it reads.

Rules: `Road` is the world, and time is a number; nothing here waits.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from typing import Any

import pytest

from artdag_fed import BundleError, Federation, Record, TransportError, first_of, import_, limited, pull, wanted
from artdag_fed.transport import carrying, digests_of, is_partial
from tests.instances import Make, everyone
from tests.roads import WRAPS, Road, Time, Wrap, cids, every_wrap, offers, patient, some

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
