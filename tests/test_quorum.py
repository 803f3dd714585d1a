"""Quorum: whose word counts, when enough agree, what happens to those who fail or lie, and what it costs.

Rules: each other peer is reached in one of two ways, read whole (`read`) or asked for digests (`told`), and the rules
hold in both; the tests over HTTP are against real instances on loopback.
"""

from __future__ import annotations

import contextlib
import gc
import random
import tracemalloc
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

import artdag_fed
from artdag_fed import (
    BundleError,
    Event,
    Federation,
    InvalidName,
    Limits,
    Record,
    TransportError,
    export,
    first_of,
    hmac_signer,
    limited,
    pull,
    quorum,
    retrying,
    wanted,
)
from artdag_fed.agreement import BATCH_RECORDS, TWO_THINGS
from artdag_fed.signing import hmac_verifier
from artdag_fed.testing import FakePeer, check_fetch
from artdag_fed.transport import carrying, digests_of, is_partial
from artdag_fed.transports import folder, http
from tests.http_servers import Serving, serving

NAMES = ("alice", "bob", "carol", "dave")
KEYS = {name: name.encode() * 8 for name in NAMES}
Offers = Mapping[str, Any]


def digest(value: object) -> str:
    return Record("c", value, "p").digest


def read(offers: Offers) -> Any:
    """A road that gives records and nothing else."""
    return lambda peer: [Record(cid, value, peer) for cid, value in offers.items()]


def told(offers: Offers) -> Any:
    """A road that can be asked for digests."""

    def digests(peer: str, cids: Iterable[str]) -> dict[str, str]:
        return {cid: digest(offers[cid]) for cid in cids if cid in offers}

    return carrying(read(offers), partial=False, digests=digests)


def signing(offers: Offers) -> Any:
    return lambda peer: [Record(c, v, peer).signed(hmac_signer(KEYS[peer])) for c, v in offers.items()]


both_roads = pytest.mark.parametrize("road", [read, told])


def cids(records: Iterable[Record]) -> list[str]:
    return [record.cid for record in records]


# --- enough agree, or not -----------------------------------------------------------------------


@both_roads
@pytest.mark.parametrize(
    ("k", "passed"), [(1, ["one", "two", "three", "differs"]), (2, ["two", "three"]), (3, ["three"])]
)
def test_a_record_passes_where_k_peers_offer_the_same_the_asked_one_included(
    road: Any, k: int, passed: list[str], fed: Federation
) -> None:
    fetch = quorum(
        {
            "alice": road({"one": 1, "two": 1, "three": 1, "differs": 1}),
            "bob": road({"two": 1, "three": 1, "differs": 2, "not alice's": 1}),
            "carol": road({"three": 1, "differs": 3, "not alice's": 1}),
        },
        k,
    )
    assert cids(fetch("alice")) == passed
    assert set(pull(fed, fetch, "alice", {"alice"}.__contains__)) == set(passed)


@both_roads
def test_records_come_out_unchanged_in_their_order_and_as_often_as_they_came(road: Any) -> None:
    records = [
        Record("c2", 2, "alice", {"zoe"}, b"", b"signature"),
        Record("c1", 1, "alice"),
        Record("c2", 2, "alice", {"yan"}),
    ]
    out = list(quorum({"alice": lambda peer: iter(records), "bob": road({"c1": 1, "c2": 2})}, 2)("alice"))
    assert len(out) == 3 and all(one is other for one, other in zip(out, records, strict=True))


def test_it_agrees_with_a_model_of_a_few_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = random.Random(6)
    outcomes = Counter[str]()
    for _ in range(1500):
        monkeypatch.setattr("artdag_fed.agreement.BATCH_RECORDS", rng.choice([1, 2, BATCH_RECORDS]))
        names = NAMES[: rng.randint(1, 4)]
        k = rng.randint(1, len(names))
        says: dict[str, list[tuple[str, int]]] = {
            name: [(f"c{rng.randrange(3)}", rng.randrange(2)) for _ in range(rng.randrange(5))] for name in names
        }
        roads: dict[str, Any] = {}
        for name in names:
            if name != "alice" and rng.random() < 0.5:
                says[name] = list(dict(says[name]).items())  # an answer of digests has each cid once
                roads[name] = told(dict(says[name]))
            else:
                roads[name] = lambda peer: [Record(cid, value, peer) for cid, value in says[peer]]  # noqa: B023  # now

        def word(name: str, cid: str) -> object:
            values = {value for c, value in says[name] if c == cid}  # noqa: B023  # as above
            return values.pop() if len(values) == 1 else None

        expected = [
            (cid, value)
            for cid, value in says["alice"]
            if word("alice", cid) is not None and sum(word(name, cid) == value for name in names) >= k
        ]
        try:
            out = [(record.cid, record.result) for record in quorum(roads, k)("alice")]
        except BundleError:
            assert any(word("alice", cid) is None for cid, _ in says["alice"])
            outcomes["broke"] += 1
            continue
        assert out == expected, (says, k)
        outcomes["passed" if out else "nothing"] += 1
    assert min(outcomes[name] for name in ("broke", "passed", "nothing")) > 50, outcomes


@pytest.mark.parametrize(
    ("k", "error"), [(0, ValueError), (-1, ValueError), (3, ValueError), (True, TypeError), (1.0, TypeError)]
)
def test_a_k_that_nobody_could_meet_or_that_is_no_number_is_refused_when_it_is_made(k: Any, error: Any) -> None:
    with pytest.raises(error, match="k must be"):
        quorum({"alice": read({}), "bob": read({})}, k)


def test_a_quorum_of_nobody_says_that_there_are_no_peers() -> None:
    with pytest.raises(ValueError, match=r"quorum\(\) has no peers to ask: the mapping is empty"):
        quorum({}, 1)


def test_what_could_never_work_is_refused_when_it_is_made() -> None:
    calls: list[tuple[Any, dict[str, Any], Any]] = [
        ([read({})], {}, TypeError),
        ({"alice": "a path"}, {}, TypeError),
        ({" alice": read({})}, {}, InvalidName),
        ({}, {}, ValueError),
        ({"alice": read({})}, {"verify": 1}, TypeError),
        ({"alice": read({})}, {"observe": []}, TypeError),
        ({"alice": read({})}, {"limits": 5}, TypeError),
    ]
    for fetches, more, error in calls:
        with pytest.raises(error):
            quorum(fetches, 1, **more)


def test_a_mapping_that_changes_later_changes_nothing() -> None:
    roads = {"alice": read({"c1": 1}), "bob": read({"c1": 1})}
    fetch = quorum(roads, 2)
    del roads["bob"]
    assert cids(fetch("alice")) == ["c1"]


def test_it_is_partial_and_has_no_digests() -> None:
    fetch = quorum({"alice": told({"c1": 1})}, 1)
    assert is_partial(fetch) and digests_of(fetch) is None


def test_a_peer_that_nobody_named_is_an_error_that_tells_who_is_known() -> None:
    with pytest.raises(TransportError, match="no fetch is known for 'zoe', only for 'alice', 'bob'"):
        quorum({"alice": read({}), "bob": read({})}, 1)("zoe")


def test_each_call_asks_everyone_anew() -> None:
    offers = {"c1": 1}
    for road in (read, told):
        fetch = quorum({"alice": read({"c1": 1}), "bob": road(offers)}, 2)
        offers["c1"] = 1
        assert cids(fetch("alice")) == ["c1"]
        offers["c1"] = 2
        assert cids(fetch("alice")) == []


# --- whose word counts --------------------------------------------------------------------------


def test_a_word_counts_only_under_the_name_of_the_peer_that_was_asked() -> None:
    def impostor(peer: str) -> list[Record]:
        return [Record("c1", 1, "carol"), Record("c1", 1, "alice")]

    events: list[Event] = []
    fetch = quorum({"alice": read({"c1": 1}), "bob": impostor, "carol": read({})}, 2, observe=events.append)
    assert cids(fetch("alice")) == [] and cids(fetch("bob")) == []
    assert {(event.kind, event.peer, event.reason) for event in events} == {
        ("rejected", "carol", "mislabelled"),
        ("rejected", "alice", "mislabelled"),
    }


def test_with_verify_a_word_counts_only_with_the_signature_of_its_own_peer() -> None:
    offers = {"c1": 1}
    verify = hmac_verifier(KEYS)
    for bob, reason in (
        (read(offers), "unsigned"),
        (lambda peer: [r.signed(hmac_signer(KEYS["carol"])) for r in read(offers)(peer)], "forged"),
        (lambda peer: signing(offers)("alice"), "mislabelled"),
    ):
        events: list[Event] = []
        fetch = quorum({"alice": signing(offers), "bob": bob}, 2, verify=verify, observe=events.append)
        assert cids(fetch("alice")) == [] and [event.reason for event in events] == [reason]
        assert cids(fetch("bob")) == []
    assert cids(quorum({"alice": signing(offers), "bob": signing(offers)}, 2, verify=verify)("alice")) == ["c1"]


def test_with_verify_a_record_that_names_another_peer_is_nobodys_word_even_if_it_is_well_signed() -> None:
    fetch = quorum({"alice": lambda peer: signing({"c1": 1})("bob")}, 1, verify=hmac_verifier(KEYS))
    assert cids(fetch("alice")) == []


def test_with_verify_a_bare_digest_is_no_word_and_nobody_is_asked_for_one() -> None:
    def digests(peer: str, asked: Iterable[str]) -> dict[str, str]:
        raise AssertionError("a digest that nobody signed was asked for")

    bob = carrying(signing({"c1": 1}), partial=False, digests=digests)
    assert cids(quorum({"alice": signing({"c1": 1}), "bob": bob}, 2, verify=hmac_verifier(KEYS))("alice")) == ["c1"]


@pytest.mark.parametrize("answer", [None, 1, "yes"])
def test_nothing_but_true_makes_a_signature_count(answer: Any) -> None:
    fetch = quorum({"alice": signing({"c1": 1})}, 1, verify=lambda *_: answer)
    assert cids(fetch("alice")) == []
    fetch = quorum({"alice": signing({"c1": 1})}, 1, verify=refusing(LookupError()))
    assert cids(fetch("alice")) == []


def test_a_digest_that_its_bytes_do_not_have_is_nobodys_word() -> None:
    true, false = Record("c1", 1, "alice"), Record("c1", 2, "bob")
    lie = Record.encoded("c1", false.payload, true.digest, "bob")
    events: list[Event] = []
    fetch = quorum({"alice": read({"c1": 1}), "bob": lambda peer: [lie]}, 2, observe=events.append)
    assert cids(fetch("alice")) == [] and cids(fetch("bob")) == []
    assert [event.reason for event in events] == ["corrupt", "corrupt"]
    # Nor does it help to lie where only digests are asked for: what is passed on is what was hashed.
    assert cids(quorum({"bob": lambda peer: [lie], "alice": told({"c1": 1})}, 2)("bob")) == []


def test_a_result_without_bytes_is_nobodys_word() -> None:
    odd = object()
    assert cids(quorum({"alice": read({"c1": odd, "c2": 2}), "bob": read({"c1": odd, "c2": 2})}, 2)("alice")) == ["c2"]


# --- who fails ----------------------------------------------------------------------------------


def breaking(offers: Offers, error: BaseException) -> Any:
    def fetch(peer: str) -> Iterator[Record]:
        yield from read(offers)(peer)
        raise error

    return fetch


def refusing(error: BaseException) -> Any:
    def fetch(*_: object) -> Any:
        raise error

    return fetch


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


# --- who says something else --------------------------------------------------------------------


@both_roads
@pytest.mark.parametrize("batch", [1, BATCH_RECORDS])
def test_disagreements_are_told_once_with_everyones_digest(
    road: Any, batch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("artdag_fed.agreement.BATCH_RECORDS", batch)
    events: list[Event] = []
    twice = lambda peer: read({"c1": 1, "c2": 1})(peer) * 2  # noqa: E731  # short
    roads = {"alice": twice, "bob": road({"c1": 2, "c2": 1}), "carol": road({"c1": 3}), "dave": road({"c1": 1})}
    assert cids(quorum(roads, 2, observe=events.append)("alice")) == ["c1", "c2"] * 2
    assert events == [
        Event("conflict", "c1", peer, reason="passed on: 2 agree, 2 are needed", held=digest(1), offered=digest(value))
        for peer, value in (("bob", 2), ("carol", 3))
    ]
    events.clear()
    assert cids(quorum(roads, 3, observe=events.append)("alice")) == []
    assert [event.reason for event in events] == ["left out: 2 agree, 3 are needed"] * 2


def test_who_says_two_things_of_one_cid_agrees_with_nobody_on_it() -> None:
    def two_faced(peer: str) -> list[Record]:
        return [Record("c1", 1, peer), Record("c1", 2, peer), Record("c1", 1, peer), Record("c2", 1, peer)]

    events: list[Event] = []
    roads = {"alice": read({"c1": 1, "c2": 1}), "bob": two_faced, "carol": read({"c1": 2})}
    fetch = quorum(roads, 2, observe=events.append)
    assert cids(fetch("alice")) == ["c2"] and cids(fetch("carol")) == []
    two = Event("conflict", "c1", "bob", reason=TWO_THINGS, held=digest(1), offered=digest(2))
    assert [event for event in events if event.peer == "bob"] == [two, two]
    events.clear()
    assert cids(fetch("bob")) == ["c2"] and events == [two]


def test_a_peer_that_contradicts_what_was_passed_on_breaks_its_own_bundle(
    monkeypatch: pytest.MonkeyPatch, fed: Federation
) -> None:
    monkeypatch.setattr("artdag_fed.agreement.BATCH_RECORDS", 1)

    def two_faced(peer: str) -> list[Record]:
        return [Record("c1", 1, peer), Record("c2", 2, peer), Record("c1", 2, peer)]

    fetch = quorum({"alice": two_faced, "bob": told({"c1": 1, "c2": 2})}, 2)
    with pytest.raises(BundleError, match="'alice' sent two results for 'c1', and the first had been passed on"):
        pull(fed, fetch, "alice", {"alice"}.__contains__)
    assert len(fed) == 0


# --- what is open, and what is held -------------------------------------------------------------


class Reading(Iterator[Record]):
    """Records that know whether they were closed, and how many were taken; not a generator, for the reason in
    `test_transport`."""

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


# --- between real instances ---------------------------------------------------------------------


class Counting:
    """A WSGI application around another: which paths were asked for, and how many bytes the answers had."""

    def __init__(self, application: Any) -> None:
        self.application = application
        self.paths: list[str] = []
        self.sent = 0

    def __call__(self, environ: Any, start_response: Any) -> Iterator[bytes]:
        self.paths.append(environ["PATH_INFO"])
        body = self.application(environ, start_response)

        def counted() -> Iterator[bytes]:
            try:
                for chunk in body:
                    self.sent += len(chunk)
                    yield chunk
            finally:
                if hasattr(body, "close"):
                    body.close()

        return counted()


@contextlib.contextmanager
def three(sign: bool = False) -> Iterator[tuple[dict[str, Serving], dict[str, Counting]]]:
    """Three instances on loopback: all have c0 to c19 of 20 kB; carol has another c0."""
    with contextlib.ExitStack() as stack:
        servers, counts = {}, {}
        for name in ("alice", "bob", "carol"):
            held: dict[str, Any] = {f"c{n}": bytes([n]) * 20_000 for n in range(20)}
            if name == "carol":
                held["c0"] = "something else"
            signer = hmac_signer(KEYS[name]) if sign else None
            counts[name] = Counting(http.app(Federation(held), name, sign=signer))
            servers[name] = stack.enter_context(serving(counts[name]))
        yield servers, counts


def roads_to(servers: Mapping[str, Serving], fetcher: Callable[..., Any] = http.fetcher) -> dict[str, Any]:
    return {name: fetcher({name: server.url}) for name, server in servers.items()}


def test_over_http_the_bytes_come_once_and_the_others_are_asked_for_digests_alone(fed: Federation) -> None:
    events: list[Event] = []
    with three() as (servers, counts):
        fetch = quorum(roads_to(servers), 3, observe=events.append)
        fed = pull(fed, fetch, "alice", {"alice"}.__contains__)
        assert not [text for server in servers.values() for text in server.errors]
    assert set(fed) == {f"c{n}" for n in range(1, 20)} and set(fed.provenance.values()) == {"alice"}
    assert counts["alice"].paths == ["/v1/bundle"] and counts["alice"].sent > 400_000
    for other in ("bob", "carol"):
        assert counts[other].paths == ["/v1/have"] and counts[other].sent < 20 * 100
    held, offered = digest(bytes(20_000)), digest("something else")
    assert [(e.cid, e.peer, e.held, e.offered) for e in events] == [("c0", "carol", held, offered)]


def test_over_http_with_signatures_the_records_of_all_are_read_whole(fed: Federation) -> None:
    verify = hmac_verifier(KEYS)
    with three(sign=True) as (servers, counts):
        fed = pull(fed, quorum(roads_to(servers), 3, verify=verify), "alice", {"alice"}.__contains__, verify=verify)
    assert set(fed) == {f"c{n}" for n in range(1, 20)}
    for name in ("alice", "bob", "carol"):
        assert counts[name].paths == ["/v1/bundle"] and counts[name].sent > 380_000


def test_over_http_a_peer_that_is_gone_does_not_count(fed: Federation) -> None:
    events: list[Event] = []
    with three() as (servers, _):
        roads = roads_to(servers)
        with serving(http.app(Federation(), "dave")) as gone:
            roads["dave"] = http.fetcher({"dave": gone.url}, deadline=2)
        assert len(pull(fed, quorum(roads, 3, observe=events.append), "alice", {"alice"}.__contains__)) == 19
        assert [(event.kind, event.peer) for event in events][:1] == [("unheard", "dave")]
        assert list(quorum(roads, 4)("alice")) == []


def test_a_folder_an_instance_and_a_server_agree(tmp_path: Path, fed: Federation) -> None:
    held = Federation({"c1": b"same", "c2": b"same"})
    folder.publish(held, "bob", tmp_path)
    carol = Federation({"c1": b"same", "c2": b"other"})
    with serving(http.app(held, "alice")) as server:
        roads: dict[str, Any] = {
            "alice": http.fetcher({"alice": server.url}),
            "bob": folder.fetcher({"bob": tmp_path}),
            "carol": lambda peer: export(carol, peer),
        }
        for peer in ("alice", "bob"):
            assert cids(quorum(roads, 3)(peer)) == ["c1"] and cids(quorum(roads, 2)(peer)) == ["c1", "c2"]
        assert set(pull(fed, quorum(roads, 2), "carol", {"carol"}.__contains__)) == {"c1"}
