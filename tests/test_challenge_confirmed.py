"""Whether peers are right: what a challenge confirms and whom it vindicates, of all or of a sample.

Rules: over each kind of instance. Alice and the others compute with `add`, or with runners that are wrong about some
`n`; whoever imports challenges.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import Any

import pytest

import artdag_fed
from artdag_fed import (
    Dag,
    Federation,
    InvalidName,
    Record,
    Runner,
    challenge,
    export,
    forget,
    import_,
    invalidate,
    pull,
    run,
)
from artdag_fed.cache import Origin
from tests.challenges import LOCAL, add, anyone, num, origins, taking, wrong
from tests.instances import Make

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
