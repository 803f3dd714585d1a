"""Whether peers are right: what happens to an instance while it is challenged.

Rules: over each kind of instance. Alice and the others compute with `add`, or with runners that are wrong about some
`n`; whoever imports challenges.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any

import pytest

import artdag_fed
from artdag_fed import (
    Dag,
    Node,
    Record,
    Runner,
    StoreError,
    challenge,
    conflicts,
    explain,
    export,
    forget,
    import_,
    invalidate,
    node,
    run,
)
from artdag_fed.cache import Changes, Origin
from artdag_fed.instance import cache_of
from artdag_fed.standing import KNOWN_SECONDS, Standing
from tests.challenges import LOCAL, add, anyone, by_why, digest, num, origins, taking, wrong
from tests.instances import Make

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


def test_a_refuted_result_that_was_withdrawn_meanwhile_does_not_come_back_as_ours(make: Make) -> None:
    hers, bobs = num(1), num(2)
    fed = taking(taking(make(), "alice", hers, by=wrong(1)), "bob", bobs)
    found = challenge(fed, during(lambda: invalidate(fed, "alice")))
    assert by_why(found) == {hers.cid: "withdrawn meanwhile"}
    assert (found.confirmed, found.refuted, set(found.federation)) == ((bobs.cid,), (), {bobs.cid})


def test_what_was_known_a_while_ago_is_asked_about_again(make: Make) -> None:
    first, second = num(1), num(2)
    cache = cache_of(taking(make(), "alice", first, second))
    now = [0.0]
    known = cache.made([first.cid, second.cid])
    standing = Standing(cache, frozenset(known), {}, known, clock=lambda: now[0])
    cache.commit(Changes(drop=frozenset(known)))
    next(standing.parts([first.cid]))
    assert standing.made == {first.cid: known[first.cid]}
    now[0] = KNOWN_SECONDS
    next(standing.parts([second.cid]))
    assert standing.made == {}


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
