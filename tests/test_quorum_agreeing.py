"""Quorum: whose word counts, when enough agree, and what is told where they do not.

Rules: what holds of a peer that is read whole (`read`) holds of one that is asked for digests (`told`).
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable
from typing import Any

import pytest

from artdag_fed import BundleError, Event, Federation, InvalidName, Record, TransportError, hmac_signer, pull, quorum
from artdag_fed.agreement import BATCH_RECORDS, TWO_THINGS
from artdag_fed.signing import hmac_verifier
from artdag_fed.transport import carrying, digests_of, is_partial
from tests.quorums import KEYS, NAMES, both_roads, digest, read, refusing, signing, told
from tests.roads import cids

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
