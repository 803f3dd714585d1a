"""Whether peers are right: what a challenge confirms, refutes, vindicates and drops, over each kind of instance.

Alice and the others compute with `add`, or with runners that are wrong about some `n`; whoever imports challenges.
"""

from __future__ import annotations

import hashlib
import os
import random
import sqlite3
import threading
import tracemalloc
from collections.abc import Callable, Mapping
from itertools import permutations
from typing import Any

import pytest

import artdag_fed
from artdag_fed import (
    Challenge,
    Dag,
    DiskCache,
    Event,
    Federation,
    InvalidName,
    Node,
    Record,
    Runner,
    StoreError,
    audit,
    challenge,
    conflicts,
    explain,
    export,
    forget,
    hmac_signer,
    hmac_verifier,
    import_,
    invalidate,
    node,
    pull,
    run,
    standing,
)
from artdag_fed.cache import Changes, Entry, Origin

Make = Callable[[], Federation]


def add(op: str, inputs: tuple[Any, ...], params: Mapping[str, Any]) -> Any:
    return 7 if op == "const@1" else sum(inputs) + params["n"]


def wrong(*about: int, by: int = 100) -> Runner:
    """As `add`, but not for these n."""
    return lambda op, inputs, params: add(op, inputs, params) + (by if params.get("n") in about else 0)


def num(n: int, *inputs: Node) -> Node:
    return node("add@1", *inputs, n=n)


def anyone(peer: str) -> bool:
    return True


def taking(fed: Federation, peer: str, *targets: Node, by: Runner = add, of: Federation | None = None) -> Federation:
    """`fed` with what this peer has of these, computed from what `of` holds (None: by the peer alone)."""
    theirs = run(artdag_fed.open() if of is None else of, Dag(*targets), by).federation
    return import_(fed, export(theirs, peer, [n.cid for n in Dag(*targets)]), anyone)


def origins(fed: Federation) -> dict[str, Origin]:
    now = Federation(fed.cache)
    return {cid: Origin(now.provenance.get(cid), now.lineage.get(cid, frozenset())) for cid in now}


def by_why(found: Challenge) -> dict[str, str]:
    return {cid: why.split(":")[0] for cid, why in found.unchecked.items()}


LOCAL = Origin(None)


# --- confirmed ----------------------------------------------------------------------------------


def test_what_is_confirmed_was_computed_here_from_then_on(
    make: Make, again: Callable[[Federation], Federation]
) -> None:
    a, b = num(1), num(2, num(1))
    fed = taking(make(), "alice", b)
    found = challenge(fed, add)
    assert (set(found.confirmed), found.refuted, dict(found.unchecked)) == ({a.cid, b.cid}, (), {})
    assert origins(again(found.federation)) == {a.cid: LOCAL, b.cid: LOCAL}
    assert len(invalidate(found.federation, "alice", derived=True)) == 2


def test_a_confirmed_result_rests_on_whom_its_inputs_rest_on(make: Make) -> None:
    a, b = num(1), num(2)
    top = num(3, a, b)
    fed = taking(taking(make(), "bob", b), "alice", a)
    relay = import_(artdag_fed.open(), export(fed, "relay"), anyone)
    fed = import_(fed, export(run(relay, top, add).federation, "carol", [top.cid]), anyone)
    assert origins(fed)[top.cid] == Origin("carol", frozenset({"relay", "alice", "bob"}))
    found = challenge(fed, add, peer="carol")
    assert origins(found.federation)[top.cid] == Origin(None, frozenset({"alice", "bob"}))


def test_each_is_computed_from_what_its_recipe_says(make: Make) -> None:
    asked: list[Any] = []

    def runner(op: str, inputs: tuple[Any, ...], params: Mapping[str, Any]) -> Any:
        asked.append((op, inputs, dict(params)))
        return add(op, inputs, params)

    fed = taking(make(), "alice", num(5, num(1), num(2), num(1)))
    assert len(challenge(fed, runner).confirmed) == 3
    assert asked[-1] == ("add@1", (1, 2, 1), {"n": 5}) and len(asked) == 3


def test_challenged_again_there_is_nothing_left_to_check(make: Make) -> None:
    found = challenge(taking(make(), "alice", num(2, num(1))), add)
    again = challenge(found.federation, wrong(1, 2))
    assert repr(again) == "<Challenge: nothing to check>" and again.confirmed == ()


@pytest.mark.parametrize("by", [add, wrong(2)], ids=["confirmed", "refuted"])
def test_what_a_confirmed_or_replaced_result_was_made_from_is_known_afterwards(make: Make, by: Runner) -> None:
    """Else it could not be vindicated when what it rests on is confirmed in its turn."""
    b = num(1)
    top = num(2, b)
    bobs = taking(make(), "bob", b)
    fed = taking(bobs, "alice", top, of=import_(artdag_fed.open(), export(bobs, "bob"), anyone), by=by)
    assert origins(fed)[top.cid] == Origin("alice", frozenset({"bob"}))
    fed = challenge(fed, add, peer="alice").federation
    assert origins(fed)[top.cid] == Origin(None, frozenset({"bob"}))
    found = challenge(fed, add, peer="bob")
    assert (found.confirmed, found.vindicated) == ((b.cid,), (top.cid,))
    assert set(origins(found.federation).values()) == {LOCAL}


# --- vindicated ---------------------------------------------------------------------------------


def test_after_all_of_a_peer_is_confirmed_a_revocation_drops_nothing_that_was_computed_here(make: Make) -> None:
    a = num(1)
    mine = [num(2, a), num(3, num(2, a)), num(4, num(3, num(2, a)), a)]
    fed = run(taking(make(), "alice", a), mine[-1], add).federation
    fed = run(fed, Dag(*mine), add).federation
    assert {origins(fed)[n.cid] for n in mine} == {Origin(None, frozenset({"alice"}))}
    found = challenge(fed, add, peer="alice")
    assert set(found.vindicated) == {n.cid for n in mine}
    assert invalidate(found.federation, "alice", derived=True).report.dropped == 0


def test_what_rests_on_someone_else_too_rests_on_them_alone_afterwards(make: Make) -> None:
    """What is between rests on bob still, and was computed here: whom it names was noted when it was."""
    a, b = num(1), num(2)
    between = num(3, b)
    mine = num(4, a, between)
    fed = run(taking(taking(make(), "alice", a), "bob", b), Dag(between, mine), add).federation
    found = challenge(fed, add, peer="alice")
    assert found.vindicated == (mine.cid,)
    assert origins(found.federation)[mine.cid] == Origin(None, frozenset({"bob"}))


@pytest.mark.parametrize("whom", ["zoe", "alice"])
def test_an_input_that_still_came_from_a_peer_clears_nobody(make: Make, whom: str) -> None:
    a, b = num(1), num(2)
    mine = num(3, a, b)
    fed = run(taking(taking(make(), "alice", a), "bob", b), mine, add).federation
    assert challenge(fed, add, peer=whom).vindicated == ()
    assert origins(fed)[mine.cid] == Origin(None, frozenset({"alice", "bob"}))
    assert challenge(fed, add).vindicated == (mine.cid,) and origins(fed)[mine.cid] == LOCAL


def test_a_peer_cannot_clear_another_by_offering_the_same_again_without_its_name(make: Make) -> None:
    a = num(1)
    mine = num(2, a)
    offer = [Record(a.cid, 1, "alice", frozenset({"carol"}), a.recipe)]
    fed = run(pull(make(), lambda peer: offer, "alice", anyone), mine, add).federation
    fed = pull(fed, lambda peer: [], "alice", anyone, mirror=True)
    fed = pull(fed, lambda peer: [Record(a.cid, 1, "alice", recipe=a.recipe)], "alice", anyone, mirror=True)
    assert challenge(fed, add, peer="zoe").vindicated == ()
    assert mine.cid not in invalidate(fed, "carol", derived=True)


def test_a_peer_that_sends_the_bits_of_another_does_not_clear_it(make: Make) -> None:
    a, b = num(1), num(2)
    mine = num(3, a, b)
    fed = run(taking(taking(make(), "alice", a), "bob", b), mine, add).federation
    fed = taking(forget(fed, [a.cid]), "bob", a)
    assert challenge(fed, add, peer="zoe").vindicated == ()
    assert mine.cid not in invalidate(fed, "alice", derived=True)


def test_what_was_made_from_other_inputs_than_are_held_keeps_its_lineage(make: Make) -> None:
    a = num(1)
    mine = num(2, a)
    fed = run(taking(make(), "alice", a, by=wrong(1)), mine, add).federation
    fed = taking(forget(fed, [a.cid]), "alice", a)
    found = challenge(fed, add)
    assert (found.confirmed, found.vindicated) == ((a.cid,), ())
    assert origins(found.federation)[mine.cid] == Origin(None, frozenset({"alice"}))


def test_what_has_an_input_that_is_not_held_keeps_its_lineage_until_it_is_held_again(make: Make) -> None:
    a, b = num(1), num(2)
    mine = num(3, a, b)
    fed = run(taking(taking(make(), "alice", a), "bob", b), mine, add).federation
    fed = forget(fed, [b.cid])
    found = challenge(fed, add)
    assert (found.confirmed, found.vindicated) == ((a.cid,), ())
    fed = run(found.federation, b, add).federation
    found = challenge(fed, add, peer="alice")  # of whom nothing is left to challenge
    assert (found.confirmed, found.vindicated) == ((), (mine.cid,))
    assert origins(found.federation)[mine.cid] == LOCAL


def test_a_peer_that_sends_what_we_had_computed_is_not_what_our_results_rest_on(make: Make) -> None:
    a = num(1)
    mine = num(2, a)
    fed = forget(run(make(), mine, add).federation, [a.cid])
    fed = taking(taking(fed, "alice", a), "bob", num(9))
    challenge(fed, add, peer="bob")
    assert origins(fed)[mine.cid] == LOCAL


def test_a_result_keeps_its_lineage_where_others_send_now_what_it_was_made_from(make: Make) -> None:
    """It rested on bob. That alice has sent the bits that were ours then makes it rest on no one else."""
    a, b = num(1), num(2)
    mine = num(3, a, b)
    fed = forget(run(taking(make(), "bob", b), mine, add).federation, [a.cid])
    fed = taking(fed, "alice", a)
    assert challenge(fed, add, peer="bob").vindicated == ()
    assert origins(fed)[mine.cid] == Origin(None, frozenset({"bob"}))


def test_a_sample_vindicates_what_is_above_it(make: Make) -> None:
    leaves = [num(n) for n in range(6)]
    mine = [num(10, n) for n in leaves]
    fed = run(taking(make(), "alice", *leaves), Dag(*mine), add).federation
    found = challenge(fed, add, sample=2, seed=5)
    assert len(found.confirmed) == 2
    assert set(found.vindicated) == {m.cid for n, m in zip(leaves, mine, strict=True) if n.cid in found.confirmed}


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


# --- unchecked ----------------------------------------------------------------------------------


def test_what_has_no_recipe_is_unchecked_and_stays(make: Make) -> None:
    a, above = num(1), num(2, num(1))
    records = [Record("c1", 5, "alice"), Record(a.cid, 1, "alice"), Record(above.cid, 3, "alice", recipe=above.recipe)]
    found = challenge(import_(make(), records, anyone), add)
    assert (found.confirmed, by_why(found)) == ((above.cid,), {"c1": "no recipe", a.cid: "no recipe"})
    after = origins(found.federation)
    assert after == {"c1": Origin("alice"), a.cid: Origin("alice"), above.cid: Origin(None, frozenset({"alice"}))}


def test_an_id_of_another_system_is_unchecked_whatever_recipe_is_beside_it(make: Make) -> None:
    fed = make()
    cache: Any = fed.cache
    payload, value = (b"J1", None) if cache.encodes else (None, 1)
    entry = Entry("c1", Origin("alice"), digest(1), payload, value, not cache.encodes, num(1).recipe)
    cache.commit(Changes(put=cache.stage([entry])))
    assert by_why(challenge(fed, add)) == {"c1": "no recipe"}


def test_what_lacks_an_input_is_unchecked(make: Make) -> None:
    top = num(2, num(1))
    fed = forget(taking(make(), "alice", top), [num(1).cid])
    found = challenge(fed, add)
    assert dict(found.unchecked) == {top.cid: f"an input is missing: {num(1).cid}"} and top.cid in fed


def test_what_the_runner_fails_on_is_unchecked_and_the_rest_is_checked(make: Make) -> None:
    def runner(op: str, inputs: tuple[Any, ...], params: Mapping[str, Any]) -> Any:
        if params["n"] == 1:
            raise ZeroDivisionError("by\nzero")
        return add(op, inputs, params)

    fed = taking(make(), "alice", num(2, num(1)), num(3))
    found = challenge(fed, runner)
    assert dict(found.unchecked) == {num(1).cid: "the runner failed: ZeroDivisionError: by\\nzero"}
    assert set(found.confirmed) == {num(2, num(1)).cid, num(3).cid}
    assert origins(fed)[num(2, num(1)).cid] == Origin(None, frozenset({"alice"}))


def test_what_rests_on_a_refuted_result_and_cannot_be_checked_goes(make: Make) -> None:
    def runner(op: str, inputs: tuple[Any, ...], params: Mapping[str, Any]) -> Any:
        return add(op, inputs, params) if params["n"] == 1 else 1 / 0

    found = challenge(taking(make(), "alice", num(2, num(1)), by=wrong(1)), runner)
    assert list(found.unchecked) == list(found.dropped) == [num(2, num(1)).cid]


def test_what_the_codec_cannot_carry_is_unchecked(make: Make) -> None:
    found = challenge(taking(make(), "alice", num(1)), lambda op, inputs, params: object())
    assert by_why(found) == {num(1).cid: "what was computed cannot be encoded"}


@pytest.mark.parametrize("answer", [True, False])
def test_in_memory_a_result_without_bytes_is_unchecked_unless_someone_compares_it(answer: bool) -> None:
    thing, other = object(), object()
    fed = import_(Federation(), [Record(num(1).cid, thing, "alice", recipe=num(1).recipe)], anyone)
    assert by_why(challenge(fed, add)) == {num(1).cid: "the held result cannot be encoded"}
    found = challenge(fed, lambda *_: other, same={"add@1": lambda held, computed: answer})
    assert (len(found.confirmed), len(found.refuted)) == ((1, 0) if answer else (0, 1))
    assert fed.cache[num(1).cid] is (thing if answer else other) and origins(fed) == {num(1).cid: LOCAL}


def test_what_was_confirmed_by_a_comparator_stays_beside_what_was_refuted() -> None:
    """Without bytes there is no digest that would say that it was made from what stands."""
    a, b, x = num(1), num(2, num(1), num(3)), num(3)
    values = {a: object(), b: object(), x: object()}
    records = [Record(n.cid, value, "alice", recipe=b"" if n == x else n.recipe) for n, value in values.items()]
    fed = import_(Federation(), records, anyone)
    found = challenge(fed, lambda *_: object(), same={"add@1": lambda held, computed: held is values[b]})
    assert ([r.cid for r in found.refuted], found.confirmed, found.dropped) == ([a.cid], (b.cid,), ())
    assert origins(fed)[b.cid] == Origin(None, frozenset({"alice"}))


def test_damaged_bytes_are_unchecked_and_so_is_what_is_above_them(durable: Federation) -> None:
    a, b, c = num(1), num(2, num(1)), num(3)
    fed = taking(durable, "alice", b, c)
    assert isinstance(fed.cache, DiskCache)
    db = sqlite3.connect(os.path.join(fed.cache.path, "index.sqlite3"))
    db.execute("UPDATE result SET payload = x'4A39' WHERE cid = ?", (a.cid,))
    db.commit()
    db.close()
    found = challenge(fed, add, same={"add@1": lambda held, computed: False})  # for which what is held is read
    assert (by_why(found), found.confirmed) == (
        {a.cid: "its bytes are damaged", b.cid: "an input is damaged"},
        (c.cid,),
    )


def test_a_result_that_is_right_is_confirmed_unread_and_found_damaged_when_it_is_read(durable: Federation) -> None:
    a, b = num(1), num(2, num(1))
    fed = taking(durable, "alice", b)
    assert isinstance(fed.cache, DiskCache)
    db = sqlite3.connect(os.path.join(fed.cache.path, "index.sqlite3"))
    db.execute("UPDATE result SET payload = x'4A39' WHERE cid = ?", (a.cid,))
    db.commit()
    db.close()
    found = challenge(fed, add)
    assert (set(found.confirmed), dict(found.unchecked)) == ({a.cid, b.cid}, {})
    events: list[Event] = []
    done = run(found.federation, a, add, observe=events.append)
    assert (done.value, done.computed) == (1, (a.cid,)) and events[0].kind == "damaged"


def test_an_unchecked_result_is_read_where_another_needs_it(make: Make) -> None:
    def runner(op: str, inputs: tuple[Any, ...], params: Mapping[str, Any]) -> Any:
        if params["n"] == 1:
            raise ValueError("no")
        return add(op, inputs, params)

    a, b = num(1), num(2, num(1))
    found = challenge(taking(make(), "alice", b), runner)
    assert (found.confirmed, list(found.unchecked)) == ((b.cid,), [a.cid])
    assert origins(found.federation)[b.cid] == Origin(None, frozenset({"alice"}))


@pytest.mark.parametrize("stop", [KeyboardInterrupt, SystemExit])
def test_what_is_no_exception_goes_through_and_nothing_is_written(make: Make, stop: type[BaseException]) -> None:
    def runner(op: str, inputs: tuple[Any, ...], params: Mapping[str, Any]) -> Any:
        if params["n"] == 3:
            raise stop
        return add(op, inputs, params)

    fed = taking(make(), "alice", num(3, num(2, num(1))), by=wrong(1))
    before = origins(fed)
    with pytest.raises(stop):
        challenge(fed, runner)
    assert origins(fed) == before and fed.cache[num(1).cid] == 101


# --- same ---------------------------------------------------------------------------------------


def test_a_comparator_confirms_what_is_right_without_being_equal_and_the_held_bits_stay(make: Make) -> None:
    a = num(1)
    fed = run(taking(make(), "alice", a, by=wrong(1, by=1)), num(2, a), add).federation
    told = []

    def close(held: int, computed: int) -> bool:
        told.append((held, computed))
        return abs(held - computed) < 2

    found = challenge(fed, add, same={"add@1": close})
    assert (told, found.confirmed, found.vindicated) == ([(2, 1)], (a.cid,), (num(2, a).cid,))
    assert fed.cache[a.cid] == 2 and set(origins(fed).values()) == {LOCAL}


def test_a_comparator_is_asked_for_its_op_alone_and_refutes_where_it_says_no(make: Make) -> None:
    fed = taking(make(), "alice", num(1), node("other@1", n=1), by=wrong(1))
    asked = []

    def never(held: int, computed: int) -> bool:
        asked.append((held, computed))
        return False

    found = challenge(fed, add, same={"other@1": never})
    assert asked == [(101, 1)] and len(found.refuted) == 2


@pytest.mark.parametrize("answer", [1, None, "yes", float("nan")])
def test_a_comparator_that_answers_neither_true_nor_false_is_a_type_error_and_nothing_is_written(
    make: Make, answer: object
) -> None:
    fed = taking(make(), "alice", num(1), num(2, num(1)), by=wrong(2))
    before = origins(fed)
    with pytest.raises(TypeError, match=r"same\['add@1'\] must answer True or False"):
        challenge(fed, add, same={"add@1": lambda held, computed: answer})  # type: ignore[dict-item,return-value]
    assert origins(fed) == before


# --- sample and peer ----------------------------------------------------------------------------


def test_a_sample_is_chosen_from_the_sorted_cids_by_its_seed(make: Make) -> None:
    leaves = [num(n) for n in range(20)]
    fed = taking(make(), "alice", *leaves)
    expected = random.Random(3).sample(sorted(n.cid for n in leaves), 5)
    found = challenge(fed, add, sample=5, seed=3)
    assert sorted(found.confirmed) == sorted(expected)
    assert {cid for cid, origin in origins(fed).items() if origin == LOCAL} == set(expected)
    assert len(challenge(fed, add, sample=1000).confirmed) == 15
    assert challenge(fed, add, sample=0).confirmed == ()


def test_only_what_came_from_the_peer_that_is_asked_about_is_challenged(make: Make) -> None:
    fed = taking(taking(make(), "alice", num(1), by=wrong(1)), "bob", num(2), by=wrong(2))
    found = challenge(fed, add, peer="bob")
    assert [r.peer for r in found.refuted] == ["bob"] and fed.cache[num(1).cid] == 101
    assert challenge(fed, add, peer="nobody").refuted == ()


@pytest.mark.parametrize(
    ("more", "error"),
    [
        ({"peer": ""}, InvalidName),
        ({"sample": -1}, ValueError),
        ({"sample": True}, TypeError),
        ({"sample": 0.5}, TypeError),
        ({"same": [1]}, TypeError),
        ({"same": {"add@1": 1}}, TypeError),
        ({"same": {1: add}}, TypeError),
        ({"runner": 1}, TypeError),
    ],
)
def test_arguments_are_looked_at_first(more: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        challenge(Federation(), **({"runner": add} | more))


# --- meanwhile ----------------------------------------------------------------------------------


def during(first: Callable[[], object], runner: Runner = add) -> Runner:
    """A runner that lets another thread do something, and waits until it is done, when it is first called."""
    once: list[None] = []

    def run_it(op: str, inputs: tuple[Any, ...], params: Mapping[str, Any]) -> Any:
        if not once:
            once.append(None)
            barrier = threading.Barrier(2)

            def work() -> None:
                try:
                    first()
                finally:
                    barrier.wait(60)

            threading.Thread(target=work).start()
            barrier.wait(60)
        return runner(op, inputs, params)

    return run_it


def test_what_was_withdrawn_while_it_was_challenged_stays_withdrawn(make: Make) -> None:
    a, b, c = num(1), num(2, num(1)), num(3)
    fed = run(taking(taking(make(), "alice", b), "bob", c), num(4, b), add).federation
    found = challenge(fed, during(lambda: invalidate(fed, "alice", derived=True)))
    assert by_why(found) == dict.fromkeys([a.cid, b.cid], "withdrawn meanwhile")
    assert (found.confirmed, found.vindicated, set(found.federation)) == ((c.cid,), (), {c.cid})


@pytest.mark.parametrize("by", [add, wrong(2)], ids=["right", "wrong"])
def test_what_was_computed_from_something_withdrawn_meanwhile_is_not_kept(make: Make, by: Runner) -> None:
    a, hers = num(1), num(2, num(1))
    fed = taking(make(), "bob", a)
    relay = import_(artdag_fed.open(), export(fed, "bob"), anyone)
    fed = taking(fed, "alice", hers, of=relay, by=by)
    found = challenge(fed, during(lambda: invalidate(fed, "bob")), peer="alice")
    assert by_why(found) == {hers.cid: "withdrawn meanwhile"} and not found.confirmed + found.refuted
    assert origins(fed) == {hers.cid: Origin("alice", frozenset({"bob"}))}


def test_what_was_computed_from_a_confirmed_result_that_was_withdrawn_meanwhile_is_not_kept(make: Make) -> None:
    a, hers = num(1), num(2, num(1))
    fed = taking(make(), "bob", a)
    fed = taking(fed, "alice", hers, of=import_(artdag_fed.open(), export(fed, "bob"), anyone))
    found = challenge(fed, during(lambda: invalidate(fed, "bob")))
    assert by_why(found) == dict.fromkeys([a.cid, hers.cid], "withdrawn meanwhile")
    assert origins(fed) == {hers.cid: Origin("alice", frozenset({"bob"}))}


def test_a_refutation_that_is_taken_back_drops_nothing_and_settles_nothing(make: Make) -> None:
    x = num(1)
    a = num(2, x)
    mine, const = num(3, a), node("const@1", num(2, x))
    fed = run(taking(taking(make(), "carol", x), "alice", a, by=wrong(2)), Dag(mine, const), add).federation
    fed = import_(fed, [Record(a.cid, 55, "bob", recipe=a.recipe)], anyone)
    before = conflicts(fed)
    found = challenge(fed, during(lambda: invalidate(fed, "carol")), peer="alice")
    assert by_why(found) == {a.cid: "withdrawn meanwhile"} and not found.refuted + found.dropped
    assert fed.cache[a.cid] == 103 and {mine.cid, const.cid} <= set(fed)
    assert len(before) == 1 and set(before[0].offers) <= set(conflicts(fed)[0].offers)


def test_what_rests_on_two_refuted_results_goes_though_one_refutation_is_taken_back(make: Make) -> None:
    x, b = num(1), num(9)
    a = num(2, x)
    mine = num(3, a, b)
    fed = taking(taking(taking(make(), "carol", x), "alice", a, by=wrong(2)), "alice", b, by=wrong(9))
    fed = run(fed, mine, add).federation
    found = challenge(fed, during(lambda: invalidate(fed, "carol")), peer="alice")
    assert ([r.cid for r in found.refuted], list(found.unchecked)) == ([b.cid], [a.cid])
    assert found.dropped == (mine.cid,) and mine.cid not in fed


@pytest.mark.parametrize("between", ["made", "load"])
@pytest.mark.parametrize("whose", ["alice", "bob"])
def test_what_changes_while_it_is_looked_at_is_unchecked(make: Make, between: str, whose: str) -> None:
    """Between two questions to the cache, another result takes the place of the input, or of what is challenged."""
    a, hers = num(1), num(2, num(1))
    fed = taking(make(), "bob", a)
    fed = taking(fed, "alice", hers, of=import_(artdag_fed.open(), export(fed, "bob"), anyone))
    changed = a if whose == "bob" else hers
    record = Record(changed.cid, 55, whose, fed.lineage.get(changed.cid, frozenset()), changed.recipe)
    asked: Any = getattr(fed.cache, between)
    changes = list[Node]()

    def change(cids: Any, *more: Any) -> Any:
        answer = None if between == "load" else asked(cids, *more)
        if not changes:
            changes.append(changed)
            import_(forget(fed, [changed.cid]), [record], anyone)
        return asked(cids, *more) if answer is None else answer

    setattr(fed.cache, between, change)
    found = challenge(fed, add, peer="alice")
    if found.refuted:  # it changed before it was looked at: then what it is now was challenged
        assert (whose, [r.held for r in found.refuted], fed.cache[hers.cid]) == ("alice", [digest(55)], 3)
        return
    assert list(found.unchecked) == [hers.cid] and not found.confirmed
    assert fed.cache[changed.cid] == 55 and set(fed.provenance) == {a.cid, hers.cid}


def test_what_was_built_on_a_refuted_result_meanwhile_goes_too(make: Make) -> None:
    a = num(1)
    mine = num(2, a)
    fed = taking(make(), "alice", a, by=wrong(1))
    found = challenge(fed, during(lambda: run(fed, mine, add)))
    assert found.dropped == (mine.cid,) and set(fed) == {a.cid}


def test_what_was_built_meanwhile_on_what_is_right_stays(make: Make) -> None:
    a, b = num(1), num(5)
    fed = taking(taking(make(), "alice", a, by=wrong(1)), "alice", b)
    found = challenge(fed, during(lambda: run(fed, num(2, b), add)))
    assert found.dropped == () and num(2, b).cid in fed


def test_what_was_computed_here_meanwhile_is_not_dropped_for_having_equal_bits(make: Make) -> None:
    a, const = num(1), node("const@1", num(1))
    poisoned = taking(artdag_fed.open(), "alice", a, by=wrong(1))
    fed = taking(make(), "alice", a, by=wrong(1))
    fed = import_(fed, export(run(poisoned, const, add).federation, "bob", [const.cid]), anyone)
    found = challenge(fed, during(lambda: run(fed, const, add, trusted=lambda peer: False)), peer="alice")
    assert found.dropped == () and origins(fed) == {a.cid: LOCAL, const.cid: LOCAL}


def test_what_a_run_under_way_made_of_a_refuted_result_stays_and_names_the_peer(make: Make) -> None:
    a = num(1)
    mine = num(2, a)
    fed = taking(make(), "alice", a, by=wrong(1))
    after = run(fed, mine, during(lambda: challenge(fed, add))).federation
    assert (after.cache[a.cid], after.cache[mine.cid]) == (1, 103)
    assert challenge(after, add).dropped == () and origins(fed)[mine.cid] == Origin(None, frozenset({"alice"}))
    assert explain(after, mine).stale == (mine.cid,)
    assert mine.cid not in invalidate(after, "alice", derived=True)


def test_what_was_found_out_is_told_even_where_room_cannot_be_made(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    fed = taking(make(), "alice", num(1), by=wrong(1))

    def purge(self: Any) -> bool:
        raise StoreError("busy")

    monkeypatch.setattr(type(fed.cache), "purge", purge)
    assert len(challenge(fed, add).refuted) == 1 and origins(fed) == {num(1).cid: LOCAL}


def test_what_was_computed_here_meanwhile_is_not_replaced(make: Make) -> None:
    a = num(1)
    fed = taking(make(), "alice", a, by=wrong(1))
    challenge(fed, during(lambda: run(fed, a, lambda *_: 55, refresh=True)))
    assert fed.cache[a.cid] == 55


# --- how much it takes --------------------------------------------------------------------------


def test_a_chain_of_thousands_is_challenged_without_recursion() -> None:
    chain = num(0)
    for n in range(1, 5000):
        chain = num(n, chain)
    fed = run(taking(artdag_fed.open(), "alice", *[num(0)], by=wrong(0)), chain, add).federation
    found = challenge(fed, add)
    assert len(found.refuted) == 1 and len(found.dropped) == 4999
    fed = taking(fed, "alice", chain)
    assert len(challenge(fed, add).confirmed) == 4999


@pytest.mark.parametrize("shape", ["chain", "leaves"])
def test_values_that_nobody_needs_any_more_are_let_go_of(
    durable: Federation, monkeypatch: pytest.MonkeyPatch, shape: str
) -> None:
    def blocks(op: str, inputs: tuple[Any, ...], params: Mapping[str, Any]) -> Any:
        return bytes([params["n"]]) * 1_000_000

    nodes = [num(0)]
    for n in range(1, 40):
        nodes.append(num(n, *nodes[-1:] if shape == "chain" else ()))
    fed = taking(durable, "alice", *nodes, by=blocks)
    monkeypatch.setattr(standing, "READ_BYTES", 2_000_000)
    monkeypatch.setattr(audit, "READ_BYTES", 2_000_000)
    tracemalloc.start()
    found = challenge(fed, blocks)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(found.confirmed) == 40 and peak < 12_000_000


# --- evidence -----------------------------------------------------------------------------------


def offered(*offers: tuple[str, Any]) -> list[Record]:
    return [Record(num(1).cid, value, peer, recipe=num(1).recipe) for peer, value in offers]


def digest(value: int) -> str:
    return hashlib.sha256(b"J%d" % value).hexdigest()


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


# --- how it looks -------------------------------------------------------------------------------


def test_a_challenge_says_what_was_found(make: Make) -> None:
    fed = taking(make(), "<alice>", num(1), num(2), num(3, num(1)), by=wrong(1))
    fed = run(import_(fed, [Record("c1", 1, "bob")], anyone), num(9, num(1)), add).federation
    found = challenge(fed, add)
    assert repr(found) == "<Challenge: 1 confirmed, 2 refuted, 1 unchecked, 1 dropped>"
    page = found._repr_html_()
    assert (
        all(word in page for word in ("confirmed", "refuted", "no recipe", "&lt;alice&gt;")) and "<alice>" not in page
    )


def test_a_challenge_and_what_it_found_cannot_be_changed() -> None:
    found = challenge(taking(Federation(), "alice", num(1), by=wrong(1)), add)
    with pytest.raises(AttributeError):
        found.confirmed = ()  # type: ignore[misc]
    with pytest.raises(TypeError):
        found.unchecked["c1"] = ""  # type: ignore[index]
    with pytest.raises(TypeError):
        found.refuted[0].params["n"] = 2  # type: ignore[index]
