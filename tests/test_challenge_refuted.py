"""Whether peers are right: what a challenge refutes and drops, and the evidence that is kept of it.

Rules: over each kind of instance. Alice and the others compute with `add`, or with runners that are wrong about some
`n`; whoever imports challenges.
"""

from __future__ import annotations

import hashlib
from itertools import permutations
from typing import Any

import pytest

import artdag_fed
from artdag_fed import (
    Dag,
    Record,
    challenge,
    conflicts,
    export,
    forget,
    hmac_signer,
    hmac_verifier,
    import_,
    invalidate,
    node,
    pull,
    run,
)
from artdag_fed.cache import Origin
from tests.challenges import LOCAL, add, anyone, by_why, digest, num, origins, taking, wrong
from tests.instances import Make

# --- refuted ------------------------------------------------------------------------------------


def test_what_is_refuted_is_replaced_and_says_who_was_wrong_about_what(make: Make) -> None:
    a = num(1)
    found = challenge(taking(make(), "alice", a, by=wrong(1)), add)
    [refuted] = found.refuted
    assert (refuted.cid, refuted.peer, refuted.op, dict(refuted.params)) == (a.cid, "alice", "add@1", {"n": 1})
    assert [refuted.held, refuted.computed] == [hashlib.sha256(text).hexdigest() for text in (b"J101", b"J1")]
    assert found.federation.cache[a.cid] == 1 and origins(found.federation) == {a.cid: LOCAL}
    assert (found.federation.report.admitted, found.federation.report.conflicts) == (1, 1)
    assert run(found.federation, a, add).computed == ()


def test_everything_that_rests_on_a_refuted_result_goes_in_the_same_commit(make: Make) -> None:
    a, other = num(1), num(2)
    mine = [num(3, a), num(4, num(3, a)), num(5, num(4, num(3, a)), other)]
    fed = taking(taking(make(), "alice", a, by=wrong(1)), "bob", other)
    fed = run(fed, Dag(*mine, num(6, other)), add).federation
    bob = taking(artdag_fed.open(), "alice", a, by=wrong(1))
    his = num(7, a)
    fed = import_(fed, export(run(bob, his, add).federation, "bob", [his.cid]), anyone)
    commits = []
    commit: Any = fed.cache.commit  # type: ignore[attr-defined]  # every cache inside a Federation has it

    def counted(changes: Any) -> Any:
        commits.append(commit(changes))
        return commits[-1]

    fed.cache.commit = counted  # type: ignore[attr-defined]  # as above
    found = challenge(fed, add, peer="alice")
    assert set(found.dropped) == {his.cid, *(n.cid for n in mine)}
    assert [(c.dropped, sum(c.stored.values())) for c in commits] == [(4, 1)]
    assert set(found.federation) == {a.cid, other.cid, num(6, other).cid}
    assert found.federation.report.dropped == 4


def test_the_next_is_computed_from_what_took_the_place_of_a_refuted_one(make: Make) -> None:
    a = num(1)
    b, c, d = num(2, a), node("const@1", a), num(4, num(2, a))
    fed = taking(make(), "alice", b, c, d, by=wrong(1))
    found = challenge(fed, add)
    assert {r.cid for r in found.refuted} == {a.cid, b.cid, d.cid} and found.confirmed == (c.cid,)
    assert [found.federation.cache[n.cid] for n in (a, b, c, d)] == [1, 3, 7, 7]
    assert set(origins(found.federation).values()) == {LOCAL}


def test_a_peers_result_that_does_not_name_the_refuted_one_stays(make: Make) -> None:
    a = num(1)
    his, hers = num(2, a), num(3, a)
    fed = taking(make(), "alice", a, by=wrong(1))
    fed = import_(fed, export(run(artdag_fed.open(), his, add).federation, "bob", [his.cid]), anyone)
    poisoned = taking(artdag_fed.open(), "alice", a, by=wrong(1))
    fed = import_(fed, export(run(poisoned, hers, add).federation, "carol", [hers.cid]), anyone)
    found = challenge(fed, add, peer="alice")
    assert found.dropped == (hers.cid,) and his.cid in found.federation


def test_what_names_the_peer_goes_even_where_a_step_between_does_not(make: Make) -> None:
    a = num(1)
    between, top = num(2, a), num(3, num(2, a))
    fed = taking(make(), "alice", a, by=wrong(1))
    fed = import_(fed, export(run(artdag_fed.open(), between, add).federation, "bob", [between.cid]), anyone)
    poisoned = taking(artdag_fed.open(), "alice", a, by=wrong(1))
    fed = import_(fed, export(run(poisoned, top, add).federation, "carol", [top.cid]), anyone)
    assert challenge(fed, add, peer="alice").dropped == (top.cid,)


def test_what_was_computed_here_from_what_stands_now_stays(make: Make) -> None:
    """Ours was made from our own a, which was then lost; alice's, which is wrong, took its place."""
    a = num(1)
    mine = num(2, a)
    fed = run(make(), mine, add).federation
    fed = taking(forget(fed, [a.cid]), "alice", a, by=wrong(1))
    found = challenge(fed, add)
    assert (len(found.refuted), found.dropped, found.federation.cache[mine.cid]) == (1, (), 3)


def test_what_was_made_here_from_exactly_the_refuted_bits_goes_whomever_it_names(make: Make) -> None:
    a, other = num(1), num(2)
    mine = num(3, a, other)
    above = num(4, mine)
    fed = run(taking(make(), "alice", a, by=wrong(1)), Dag(other, mine, above), add).federation
    fed = taking(invalidate(fed, "alice"), "bob", a, by=wrong(1))
    found = challenge(fed, add)
    assert ([r.peer for r in found.refuted], set(found.dropped)) == (["bob"], {mine.cid, above.cid})
    assert set(found.federation) == {a.cid, other.cid}


def test_what_was_made_here_from_other_bits_than_the_refuted_ones_stays_where_it_does_not_name_their_peer(
    make: Make,
) -> None:
    """Made from what carol had sent, which was neither what alice has sent since nor what is right."""
    a = num(1)
    mine, const = num(2, a), node("const@1", num(3, num(2, a)))
    fed = run(taking(make(), "carol", a, by=wrong(1, by=5)), Dag(mine, const), add).federation
    fed = taking(forget(fed, [a.cid]), "alice", a, by=wrong(1))
    found = challenge(fed, add)
    assert len(found.refuted) == 1 and found.dropped == () and mine.cid in fed


def test_what_rests_on_a_refuted_result_through_one_that_is_not_held_stays_and_names_the_peer(make: Make) -> None:
    a = num(1)
    between, top = num(2, a), num(3, num(2, a))
    fed = run(taking(make(), "alice", a, by=wrong(1)), top, add).federation
    found = challenge(forget(fed, [between.cid]), add)
    assert len(found.refuted) == 1 and found.dropped == ()
    assert origins(found.federation)[top.cid] == Origin(None, frozenset({"alice"}))
    assert top.cid not in invalidate(found.federation, "alice", derived=True)


def test_an_input_that_goes_leaves_what_is_above_it_unchecked_and_it_goes_too(make: Make) -> None:
    a = num(1)
    mine, his = num(2, a), num(3, num(2, a))
    fed = run(taking(make(), "alice", a, by=wrong(1)), mine, add).federation
    there = import_(artdag_fed.open(), export(fed, "alice"), anyone)
    fed = import_(fed, export(run(there, his, add).federation, "bob", [his.cid]), anyone)
    found = challenge(fed, add)
    assert by_why(found) == {his.cid: "an input was dropped, as it rested on a refuted result"}
    assert set(found.dropped) == {mine.cid, his.cid} and set(found.federation) == {a.cid}


# --- evidence -----------------------------------------------------------------------------------


def offered(*offers: tuple[str, Any]) -> list[Record]:
    return [Record(num(1).cid, value, peer, recipe=num(1).recipe) for peer, value in offers]


def test_conflicts_lists_who_offered_what_and_which_is_held(make: Make) -> None:
    fed = make()
    for record in offered(("alice", 1), ("bob", 2), ("carol", 1)):
        fed = import_(fed, [record], anyone)
    agreed = [Record("c1", 1, peer) for peer in ("alice", "bob")]
    fed = import_(fed, agreed, anyone)
    [conflict] = conflicts(fed)
    assert (conflict.cid, conflict.held) == (num(1).cid, digest(1))
    assert [(o.peer, o.digest) for o in conflict.offers] == [
        ("alice", digest(1)),
        ("bob", digest(2)),
        ("carol", digest(1)),
    ]
    assert all(o.at > 1.7e9 and o.signature == o.statement == b"" for o in conflict.offers)
    assert [c.held for c in conflicts(invalidate(fed, "alice"))] == [""]


def test_conflicts_lists_the_same_offers_whatever_the_order(make: Make) -> None:
    lists = []
    for order in permutations(offered(("alice", 1), ("bob", 2), ("carol", 3))):
        fed = run(make(), num(1), lambda *_: 4).federation
        for record in order:
            fed = import_(fed, [record], anyone)
        lists.append(conflicts(fed))
    assert all(found == lists[0] for found in lists) and len(lists[0][0].offers) == 4
    assert lists[0][0].held == digest(4) and None in {o.peer for o in lists[0][0].offers}


def test_a_peer_that_signed_two_results_is_shown_with_both_statements(make: Make) -> None:
    sign, verify = hmac_signer(b"k" * 32), hmac_verifier({"alice": b"k" * 32})
    fed = make()
    for record in offered(("alice", 1), ("alice", 2)):
        fed = import_(fed, [record.signed(sign)], anyone, verify=verify)
    [conflict] = conflicts(fed)
    assert {o.digest for o in conflict.offers} == {digest(1), digest(2)}
    for offer in conflict.offers:
        assert verify("alice", offer.statement, offer.signature) and offer.digest.encode() in offer.statement


@pytest.mark.parametrize("met", [False, True])
def test_what_a_peer_had_signed_of_a_refuted_result_is_kept_by_who_challenges(make: Make, met: bool) -> None:
    sign, verify = hmac_signer(b"k" * 32), hmac_verifier({"alice": b"k" * 32})
    record = Record(num(1).cid, 5, "alice", frozenset({"carol"}), num(1).recipe)
    fed = import_(make(), [record.signed(sign)], anyone, verify=verify)
    fed = import_(taking(fed, "bob", num(2), by=wrong(2)), offered(("bob", 6)) if met else [], anyone)
    alices, bobs = sorted(challenge(fed, add).refuted, key=lambda refuted: refuted.peer)
    assert alices.statement == record.statement and verify("alice", alices.statement, alices.signature)
    assert (bobs.statement, bobs.signature) == (b"", b"") and conflicts(fed) == ()


@pytest.mark.parametrize("settles", [lambda fed: challenge(fed, add), lambda fed: forget(fed, [num(1).cid])])
@pytest.mark.parametrize("first", [1, 2])
def test_a_conflict_is_settled_by_a_challenge_and_by_forgetting(make: Make, settles: Any, first: int) -> None:
    fed = import_(make(), offered(("alice", first)), anyone)
    fed = import_(fed, offered(("bob", 3 - first)), anyone)
    assert len(conflicts(fed)) == 1
    settles(fed)
    assert conflicts(fed) == ()


def test_a_result_that_could_not_be_checked_keeps_its_conflict(make: Make) -> None:
    fed = pull(make(), lambda peer: [Record("c1", 1, "alice")], "alice", anyone)
    fed = pull(fed, lambda peer: [Record("c1", 2, "bob")], "bob", anyone)
    assert challenge(fed, add).unchecked and len(conflicts(fed)) == 1
