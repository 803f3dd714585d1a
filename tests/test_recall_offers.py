"""A pull that mirrors: what a peer offers no more goes, and nothing else ever does.

Rules: over a dict, `open()` and `open(path)`; the peer is a list of records.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from artdag_fed import (
    BundleError,
    Event,
    Federation,
    Limits,
    Record,
    Report,
    TransportError,
    export,
    forget,
    import_,
    invalidate,
    node,
    pull,
    run,
)
from artdag_fed.signing import hmac_signer, hmac_verifier
from tests.instances import Make, everyone
from tests.mirroring import ALL, Fetch, holding, mirrored, offering

KEY = b"sixteen bytes or more"


# --- what goes ------------------------------------------------------------------------------------


def test_a_mirroring_pull_drops_what_came_from_the_peer_and_is_offered_no_more(
    fed: Federation, again: Callable[[Federation], Federation]
) -> None:
    told: list[Event] = []
    fed = mirrored(holding(fed), offering(Record("a2", 2, "alice"), Record("a4", 4, "alice")), observe=told.append)
    assert set(fed) == set(again(fed)) == {"c0", "a2", "a4", "b1"}
    assert fed.report == Report(admitted=1, unchanged=1, dropped=2)
    assert told == [Event("recalled", peer="alice", count=2), Event("committed", peer="alice", count=1)]
    assert dict(fed.provenance) == {"a2": "alice", "a4": "alice", "b1": "bob"}


def test_a_pull_that_does_not_mirror_drops_nothing(fed: Federation) -> None:
    fed = pull(holding(fed), offering(), "alice", everyone)
    assert (set(fed), fed.report) == (ALL, Report())


def test_a_peer_that_offers_nothing_any_more_takes_all_of_its_own_back(fed: Federation) -> None:
    fed = mirrored(holding(fed), offering())
    assert (set(fed), fed.report) == ({"c0", "b1"}, Report(dropped=3))


def test_a_withdrawal_goes_on_through_everyone_who_mirrors(make: Make) -> None:
    alice, bob, dave = make(), make(), make()
    alice.cache.update({"bad": 1, "good": 2})
    roads = {"alice": lambda peer: export(alice, peer), "bob": lambda peer: export(bob, peer)}
    for _ in range(2):
        bob = pull(bob, roads["alice"], "alice", everyone, mirror=True)
        dave = pull(dave, roads["bob"], "bob", everyone, mirror=True)
        alice = forget(alice, ["bad"])
    assert set(bob) == set(dave) == {"good"}


def test_what_was_built_here_on_a_recalled_result_stays_as_it_does_when_trust_is_withdrawn(fed: Federation) -> None:
    low = node("low@1")
    top = node("top@1", low)
    fed = import_(fed, [Record(low.cid, 1, "alice")], everyone)
    fed = run(fed, top, lambda op, inputs, params: sum(inputs)).federation
    fed = mirrored(fed, offering())
    assert (set(fed), dict(fed.lineage)) == ({top.cid}, {top.cid: frozenset({"alice"})})
    assert len(invalidate(fed, "alice", derived=True)) == 0


# --- what counts as offered -----------------------------------------------------------------------


def test_a_record_that_is_rejected_or_in_conflict_is_still_offered(fed: Federation) -> None:
    bad = node("op@1")
    fed = import_(holding(fed), [Record(bad.cid, 5, "alice", recipe=bad.recipe)], everyone)
    fed = pull(
        fed,
        offering(
            Record("a1", "another", "alice"),
            Record("a2", 2, "alice", {"mallory"}),
            Record.encoded("a3", b"no value", "0" * 64, "alice"),
            Record(bad.cid, 5, "alice", recipe=b"another recipe"),
        ),
        "alice",
        everyone,
        trusted_lineage=lambda peer: peer != "mallory",
        mirror=True,
    )
    assert set(fed) == {*ALL, bad.cid}
    assert (fed.report.dropped, fed.report.conflicts, sum(fed.report.rejected.values())) == (0, 1, 3)


def test_what_an_untrusted_peer_offers_is_not_kept_and_what_it_withdraws_goes_all_the_same(fed: Federation) -> None:
    fed = pull(holding(fed), offering(Record("a1", 1, "alice")), "alice", lambda peer: False, mirror=True)
    assert (set(fed), fed.report) == ({"c0", "a1", "b1"}, Report(rejected={"untrusted": 1}, dropped=2))


@pytest.mark.parametrize("verify", [None, lambda peer, statement, signature: True])
def test_a_record_that_names_another_peer_is_not_offered_by_the_one_that_was_asked(
    fed: Federation, verify: Any
) -> None:
    records = [Record(cid, 1, "bob", signature=b"s") for cid in ("a1", "a2", "a3")]
    fed = mirrored(holding(fed), offering(*records), verify=verify)
    assert not {"a1", "a2", "a3"} & {cid for cid, peer in fed.provenance.items() if peer == "alice"}
    assert fed.report.dropped == 3
    # What another peer offers under its own proven name takes the place that has become free, in the same commit.
    assert ("a1" in fed) == (verify is not None)


def test_with_verify_an_unsigned_and_a_forged_record_are_offered_and_never_stored(fed: Federation) -> None:
    sign, verify = hmac_signer(KEY), hmac_verifier({"alice": KEY})
    signed = [Record(f"a{n}", n, "alice").signed(sign) for n in range(3)]
    fed = mirrored(fed, offering(*signed), verify=verify)
    forged = Record("a1", 1, "alice", signature=b"trust me")
    fed = mirrored(fed, offering(Record("a0", "poison", "alice"), forged, Record("a9", 9, "alice")), verify=verify)
    assert ({cid: fed.cache[cid] for cid in fed}, fed.report.dropped) == ({"a0": 0, "a1": 1}, 1)


def test_with_verify_whoever_leaves_a_record_out_takes_it_back(fed: Federation) -> None:
    sign, verify = hmac_signer(KEY), hmac_verifier({"alice": KEY})
    signed = [Record(f"a{n}", n, "alice").signed(sign) for n in range(3)]
    fed = mirrored(mirrored(fed, offering(*signed), verify=verify), offering(*signed[1:]), verify=verify)
    assert set(fed) == {"a1", "a2"}


@pytest.mark.parametrize(
    "odd",
    [Record("no cid " * 9999, 1, "alice"), Record([], 1, "alice"), Record("a1", 1, [])],  # type: ignore[arg-type]
)
def test_a_record_with_a_cid_or_a_peer_that_is_none_offers_nothing_and_breaks_nothing(
    fed: Federation, odd: Record
) -> None:
    fed = mirrored(holding(fed), offering(odd, Record("a2", 2, "alice")))
    assert (set(fed), fed.report) == (
        {"c0", "a2", "b1"},
        Report(unchanged=1, rejected={"malformed": 1}, dropped=2),
    )


# --- what recalls nothing -------------------------------------------------------------------------


def breaking(error: BaseException) -> Fetch:
    def fetch(peer: str) -> Iterator[Record]:
        yield Record("a1", 1, peer)
        yield Record("a5", 5, peer)
        raise error

    return fetch


@pytest.mark.parametrize(
    "error", [BundleError("cut"), TransportError("gone"), OSError(), KeyError(), KeyboardInterrupt()]
)
def test_a_broken_answer_recalls_nothing(fed: Federation, error: BaseException) -> None:
    told: list[Event] = []
    with pytest.raises((BundleError, TransportError, KeyboardInterrupt)):
        mirrored(holding(fed), breaking(error), observe=told.append)
    assert set(fed) == ALL and told == []


def test_a_fetch_that_raises_and_a_bundle_that_is_none_recall_nothing(fed: Federation) -> None:
    def dead(peer: str) -> Any:
        raise ConnectionRefusedError

    holding(fed)
    for fetch in (dead, lambda peer: None, lambda peer: [Record("a1", 1, peer), "no record"]):
        with pytest.raises((BundleError, TransportError)):
            mirrored(fed, fetch)
    assert set(fed) == ALL


@pytest.mark.parametrize("limits", [Limits(records=1), Limits(bytes=4), Limits(origins=1)])
def test_an_answer_over_a_limit_recalls_nothing(fed: Federation, limits: Limits) -> None:
    with pytest.raises(BundleError, match="has more than"):
        mirrored(holding(fed), offering(Record("a1", 1, "alice"), Record("x", "xx", "bob")), limits=limits)
    assert set(fed) == ALL


def test_a_predicate_that_answers_neither_true_nor_false_recalls_nothing(fed: Federation) -> None:
    with pytest.raises(TypeError, match="must answer True or False"):
        pull(holding(fed), offering(Record("a9", 1, "alice")), "alice", lambda peer: 1, mirror=True)  # type: ignore[arg-type,return-value]  # on purpose
    assert set(fed) == ALL
