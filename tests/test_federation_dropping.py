"""What goes when trust in a peer ends, or when it is forgotten; and what stays.

Rules: each behaviour over a dict, `open()` and `open(path)`; the world is three or four instances made by `make`, and
bundles passed from hand to hand.
"""

from __future__ import annotations

from typing import Any

import pytest

from artdag_fed import Event, Federation, Record, Report, export, forget, import_, invalidate, run
from tests.instances import Again, Make, everyone, held
from tests.sums import add, sums

# --- invalidate ---------------------------------------------------------------------------------


def test_invalidate_drops_one_peers_results_only_and_leaves_local_ones(fed: Federation, again: Again) -> None:
    fed.cache["mine"] = 0
    fed = import_(fed, [Record("a1", 1, "alice"), Record("b1", 2, "bob"), Record("a2", 3, "alice")], everyone)
    told: list[Event] = []
    fed = invalidate(fed, "alice", observe=told.append)
    assert fed.report == Report(dropped=2)
    assert told == [Event("withdrawn", peer="alice", count=2)]
    for value in (fed, again(fed)):
        assert held(value) == {"mine": 0, "b1": 2}
        assert dict(value.provenance) == {"b1": "bob"}


def test_what_rests_on_the_peer_in_other_ways_stays_and_is_counted(fed: Federation) -> None:
    low = add(n=1)
    fed = import_(fed, [Record(low.cid, 1, "alice"), Record("relayed", 2, "bob", {"alice"})], everyone)
    fed = run(fed, add(low), sums).federation
    fed = invalidate(fed, "alice")
    assert set(fed) == {add(low).cid, "relayed"}
    assert fed.report == Report(dropped=1, resting_on={"alice": 2})


def test_derived_drops_all_that_is_declared_to_rest_on_the_peer_however_far_away(make: Make, again: Again) -> None:
    low = add(n=1)
    one, two, three, other = add(low, n=2), add(add(low, n=2), n=3), add(add(add(low, n=2), n=3), n=4), add(n=100)
    alice = run(make(), low, sums).federation
    bob = run(import_(make(), export(alice, "alice"), everyone), one, sums).federation
    carol = run(import_(make(), export(bob, "bob"), everyone), two, sums).federation
    fed = make()
    fed.cache["mine"] = 0
    fed = import_(fed, export(carol, "carol", [two.cid]), {"carol"}.__contains__)
    fed = run(fed, three, sums).federation
    fed = run(fed, other, sums).federation
    fed = invalidate(fed, "alice", derived=True)
    assert fed.report == Report(dropped=2)
    for value in (fed, again(fed)):
        assert set(value) == {"mine", other.cid}


def test_invalidate_of_a_peer_that_nothing_came_from_changes_nothing(fed: Federation) -> None:
    fed.cache["c1"] = 1
    after = invalidate(fed, "alice", derived=True)
    assert (held(after), after.report) == ({"c1": 1}, Report())


def test_a_withdrawn_origin_is_never_revived(fed: Federation, again: Again) -> None:
    records = [Record(f"c{n}", n, "alice", {"carol"}) for n in range(5)]
    fed = invalidate(import_(fed, records, everyone), "alice")
    fed = import_(fed, records[:1], everyone)  # the same peer and lineage, and one cid of the five
    for value in (fed, again(fed)):
        assert held(value) == {"c0": 0}
        assert (dict(value.provenance), dict(value.lineage)) == ({"c0": "alice"}, {"c0": frozenset({"carol"})})


def test_what_was_withdrawn_is_computed_again_here(fed: Federation, runner: Any) -> None:
    top = add(n=5)
    fed = invalidate(import_(fed, [Record(top.cid, -1, "alice")], everyone), "alice")
    done = run(fed, top, runner)
    assert (done.value, runner.asked, dict(done.federation.provenance)) == (5, [5], {})


# --- forget -------------------------------------------------------------------------------------


def test_forget_drops_named_results_local_ones_too(fed: Federation, again: Again) -> None:
    fed.cache["mine"] = 0
    fed.cache["kept"] = 1
    fed = import_(fed, [Record("a1", 1, "alice", {"bob"})], everyone)
    told: list[Event] = []
    fed = forget(fed, iter(["mine", "a1", "never-held"]), observe=told.append)
    assert (fed.report, told) == (Report(dropped=2), [Event("dropped", count=2)])
    for value in (fed, again(fed)):
        assert (held(value), dict(value.provenance), dict(value.lineage)) == ({"kept": 1}, {}, {})


def test_forget_derived_drops_what_was_built_on_them_here_and_elsewhere(make: Make) -> None:
    low, other = add(n=1), add(n=7)
    mid = add(low, n=2)
    top = add(mid, other, n=3)
    alice = run(make(), top, sums).federation
    fed = import_(make(), export(alice, "alice", [mid.cid, top.cid]), everyone)
    fed = run(run(fed, low, sums).federation, other, sums).federation
    after = forget(fed, [low.cid], derived=True)
    assert (set(after), after.report) == ({other.cid}, Report(dropped=3))


def test_forget_derived_drops_all_of_it_in_one_commit(fed: Federation, monkeypatch: pytest.MonkeyPatch) -> None:
    top = add(add(add(n=1), n=2), n=3)
    fed = run(fed, top, sums).federation
    sizes: list[int] = []
    commit = type(fed.cache).commit  # type: ignore[attr-defined]  # of a cache inside a Federation

    def watched(cache: Any, changes: Any) -> Any:
        sizes.append(len(changes.drop))
        return commit(cache, changes)

    monkeypatch.setattr(type(fed.cache), "commit", watched)
    assert len(forget(fed, [add(n=1).cid], derived=True)) == 0
    assert sizes == [3]


def test_forget_without_derived_keeps_what_was_built_on_them(fed: Federation) -> None:
    low = add(n=1)
    fed = run(fed, add(low), sums).federation
    assert set(forget(fed, [low.cid])) == {add(low).cid}


def test_what_was_forgotten_may_come_again(fed: Federation) -> None:
    fed = forget(import_(fed, [Record("c1", 1, "alice")], everyone), ["c1"])
    fed = import_(fed, [Record("c1", 2, "bob")], everyone)
    assert (held(fed), dict(fed.provenance)) == ({"c1": 2}, {"c1": "bob"})
