"""The verbs between instances: who a result came from, what comes in, what goes out, and what goes when trust ends.

Rules: each behaviour over a dict, `open()` and `open(path)`; the world is three or four instances made by `make`, and
bundles passed from hand to hand. What arrives for a cid that is held is in `test_table`.
"""

from __future__ import annotations

import copy
import dataclasses
import itertools
from collections.abc import Callable, Mapping
from typing import Any

import pytest

import artdag_fed
from artdag_fed import (
    DiskCache,
    Event,
    Federation,
    MemoryCache,
    Node,
    Record,
    Report,
    TransportError,
    export,
    forget,
    import_,
    invalidate,
    node,
    plan,
    pull,
    run,
)

Make = Callable[[], Federation]
Again = Callable[[Federation], Federation]


def everyone(peer: str) -> bool:
    return True


def nobody(peer: str) -> bool:
    return False


def add(*inputs: Node, n: int = 1) -> Node:
    return node("add@1", *inputs, n=n)


def sums(op: str, inputs: tuple[Any, ...], params: Mapping[str, Any]) -> int:
    return int(sum(inputs) + params["n"])


def held(fed: Federation) -> dict[str, Any]:
    """Everything readable, through the mapping."""
    return {cid: fed.cache[cid] for cid in fed}


# --- export -------------------------------------------------------------------------------------


def test_exported_records_carry_the_exporter(fed: Federation) -> None:
    fed.cache["c1"] = 1
    fed = import_(fed, [Record("c2", 2, "bob")], everyone)
    assert {r.cid: (r.result, r.peer) for r in export(fed, "alice")} == {"c1": (1, "alice"), "c2": (2, "alice")}


def test_a_bundle_can_be_read_again_and_again_and_its_ids_are_fixed_when_it_is_made(fed: Federation) -> None:
    fed.cache["c1"] = 1
    fed.cache["c2"] = 2
    bundle = export(fed, "alice")
    assert [r.cid for r in bundle] == [r.cid for r in bundle] == ["c1", "c2"]
    fed.cache["c3"] = 3
    del fed.cache["c1"]
    assert [r.cid for r in bundle] == ["c2"]


def test_export_gives_the_ids_that_are_asked_for_in_their_order_and_skips_what_is_not_held(fed: Federation) -> None:
    for n in range(4):
        fed.cache[f"c{n}"] = n
    assert [r.cid for r in export(fed, "alice", iter(["c3", "c9", "c1"]))] == ["c3", "c1"]
    assert list(export(fed, "alice", [])) == []


def test_export_leaves_out_what_came_from_or_rests_on_a_peer_that_is_refused(fed: Federation) -> None:
    fed.cache["mine"] = 0
    theirs = [Record("b", 1, "bob"), Record("d", 2, "dave"), Record("d-on-b", 3, "dave", {"bob"})]
    fed = import_(fed, theirs, everyone)
    asked: list[str] = []

    def trusted(peer: str) -> bool:
        asked.append(peer)
        return peer != "bob"

    bundle = export(fed, "alice", trusted=trusted)
    assert {r.cid for r in bundle} == set(bundle.cids) == {"mine", "d"}
    assert sorted(asked) == ["bob", "dave"]


def test_export_of_what_came_from_a_peer_since_asks_about_it_as_well(fed: Federation) -> None:
    fed.cache["c1"] = 1
    bundle = export(fed, "alice", trusted=lambda peer: peer != "bob")
    forget(fed, ["c1"])
    import_(fed, [Record("c1", 1, "bob")], everyone)
    assert list(bundle) == []


def test_export_signs_the_statement_of_each_record(fed: Federation) -> None:
    fed.cache["c1"] = "x"
    statements: list[bytes] = []

    def sign(statement: bytes) -> bytes:
        statements.append(statement)
        return b"sealed"

    bundle = export(fed, "alice", sign=sign)
    assert statements == []  # signed when it is read
    [record] = bundle
    assert (record.signature, statements) == (b"sealed", [record.statement])


def test_export_with_a_sign_that_gives_no_bytes_is_a_type_error(fed: Federation) -> None:
    fed.cache["c1"] = 1
    with pytest.raises(TypeError, match="sign must return bytes, not str"):
        list(export(fed, "alice", sign=lambda statement: "seal"))  # type: ignore[arg-type,return-value]  # on purpose


# --- import and pull ----------------------------------------------------------------------------


def test_a_trusted_import_is_a_pure_cache_hit(make: Make, runner: Any) -> None:
    top = add(add(n=1), add(n=2), n=3)
    alice = run(make(), top, sums).federation
    bob = import_(make(), export(alice, "alice"), {"alice"}.__contains__)
    assert (bob.report.admitted, bob.report.rejected) == (3, {})
    done = run(bob, top, runner)
    assert (done.value, runner.asked, done.computed, done.reused) == (6, [], (), (top.cid,))


def test_untrusted_records_are_rejected_one_by_one(fed: Federation) -> None:
    told: list[Event] = []
    bundle = [Record("c1", 1, "alice"), Record("c2", 2, "mallory"), Record("c3", 3, "bob"), Record("c4", 4, "mallory")]
    fed = import_(fed, bundle, {"alice", "bob"}.__contains__, observe=told.append)
    assert held(fed) == {"c1": 1, "c3": 3}
    assert dict(fed.provenance) == {"c1": "alice", "c3": "bob"}
    assert fed.report == Report(admitted=2, rejected={"untrusted": 2})
    assert told == [
        Event("rejected", cid="c2", peer="mallory", reason="untrusted"),
        Event("rejected", cid="c4", peer="mallory", reason="untrusted"),
        Event("committed", count=2),
    ]


def test_pull_goes_through_the_injected_function_once_with_the_peer(make: Make) -> None:
    alice = make()
    alice.cache["c1"] = 1
    asked: list[str] = []

    def fetch(peer: str) -> Any:
        asked.append(peer)
        return export(alice, peer)

    bob = pull(make(), fetch, "alice", {"alice"}.__contains__)
    assert (asked, held(bob), dict(bob.provenance)) == (["alice"], {"c1": 1}, {"c1": "alice"})


def test_pull_without_verify_takes_only_records_that_name_the_peer_that_was_asked(fed: Federation) -> None:
    told: list[Event] = []
    bundle = [Record("c1", 1, "bob"), Record("c2", 2, "alice")]
    fed = pull(fed, lambda peer: bundle, "alice", everyone, observe=told.append)
    assert (held(fed), fed.report.rejected) == ({"c2": 2}, {"mislabelled": 1})
    assert told[-1] == Event("committed", peer="alice", count=1)


def test_import_believes_every_label_since_the_caller_vouches_for_the_bundle(fed: Federation) -> None:
    fed = import_(fed, [Record("c1", 1, "bob"), Record("c2", 2, "alice")], everyone)
    assert dict(fed.provenance) == {"c1": "bob", "c2": "alice"}


def test_a_fetch_that_raises_fails_its_own_pull_and_nothing_else(make: Make) -> None:
    fed = make()
    fed.cache["c1"] = 1

    def dead(peer: str) -> Any:
        raise ConnectionRefusedError("no route")

    with pytest.raises(TransportError, match=r"fetching from 'alice' failed: Connection.*: no route") as caught:
        pull(fed, dead, "alice", everyone)
    assert isinstance(caught.value.__cause__, ConnectionRefusedError)
    assert held(pull(fed, lambda peer: [Record("c2", 2, peer)], "bob", everyone)) == {"c1": 1, "c2": 2}


def test_an_empty_bundle_is_no_error(fed: Federation) -> None:
    assert import_(fed, [], everyone).report == Report()
    assert import_(fed, (r for r in ()), nobody).report == Report()


# --- lineage ------------------------------------------------------------------------------------


def test_a_relayed_result_names_every_earlier_peer_in_its_lineage(make: Make) -> None:
    first = make()
    first.cache["c1"] = "work"
    bundle = export(first, "a")
    peers = ["a", "b", "c", "d", "e"]
    for earlier, name in itertools.pairwise(peers):
        relay = import_(make(), bundle, {earlier}.__contains__)
        bundle = export(relay, name)
        [record] = bundle
        assert (record.peer, record.lineage) == (name, frozenset(peers[: peers.index(name)]))
    last = import_(make(), bundle, {"e"}.__contains__)
    assert (last.provenance["c1"], last.lineage["c1"]) == ("e", frozenset("abcd"))
    assert last.report.resting_on == {"a": 1, "b": 1, "c": 1, "d": 1}


def test_a_result_computed_from_a_peers_input_is_local_and_rests_on_the_peer(fed: Federation) -> None:
    low = add(n=1)
    mid, top = add(low, n=2), add(add(low, n=2), add(n=9), n=3)
    fed = import_(fed, [Record(low.cid, 1, "bob", {"carol"})], everyone)
    fed = run(fed, top, sums).federation
    assert dict(fed.provenance) == {low.cid: "bob"}
    assert dict(fed.lineage) == {low.cid: {"carol"}, mid.cid: {"bob", "carol"}, top.cid: {"bob", "carol"}}


def test_what_goes_out_rests_on_everyone_but_the_exporter(make: Make) -> None:
    fed = import_(make(), [Record("c1", 1, "bob", {"carol", "alice"})], everyone)
    [record] = export(fed, "alice")
    assert record.lineage == {"bob", "carol"}


def test_lineage_follows_a_warm_run_over_results_that_were_computed_here(fed: Federation) -> None:
    low = add(n=1)
    mid = add(low, n=2)
    fed = import_(fed, [Record(low.cid, 1, "bob")], everyone)
    fed = run(fed, mid, sums).federation
    fed = run(fed, add(mid, n=3), sums).federation
    assert set(fed.lineage.values()) == {frozenset({"bob"})} and len(fed.lineage) == 2


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


# --- values: what changes and what does not -------------------------------------------------------


def verbs() -> list[Any]:
    """Every verb as a function of an instance, so that each can be given any older value."""
    top = add(add(n=1), n=2)
    several: dict[str, Callable[[Federation], Any]] = {
        "export": lambda fed: list(export(fed, "me")),
        "import_": lambda fed: import_(fed, [Record("other", 1, "bob")], everyone),
        "import_ of the same cid": lambda fed: import_(fed, [Record("c1", 1, "bob")], everyone),
        "pull": lambda fed: pull(fed, lambda peer: [Record("other", 1, peer)], "bob", everyone),
        "invalidate another": lambda fed: invalidate(fed, "nobody-here"),
        "run": lambda fed: run(fed, top, sums),
        "plan": lambda fed: plan(fed, top),
        "forget": lambda fed: forget(fed, ["nothing"], derived=True),
        "replace": lambda fed: dataclasses.replace(fed, report=Report()),
        "copy": copy.copy,
        "put": lambda fed: fed.cache.__setitem__("put", 1),
    }
    return [pytest.param(verb, id=name) for name, verb in several.items()]


@pytest.mark.parametrize("verb", verbs())
def test_no_verb_given_an_older_value_makes_a_foreign_result_look_local(
    fed: Federation, again: Again, verb: Callable[[Federation], Any]
) -> None:
    low = add(n=1)
    foreign = [Record("c1", "theirs", "alice"), Record(low.cid, 1, "alice")]
    older = [fed, import_(fed, [Record("c0", 0, "carol")], everyone)]
    older.append(invalidate(older[-1], "carol"))
    newest = import_(fed, foreign, everyone)
    for value in older:
        verb(value)
        current = import_(value, [], everyone)  # what any verb returns: what the cache keeps now
        assert (current.provenance["c1"], current.provenance[low.cid]) == ("alice", "alice")
        [record] = export(value, "me", ["c1"])
        assert record.lineage == {"alice"}
        assert newest.provenance["c1"] == "alice"
    last = older[0]
    if isinstance(last.cache, DiskCache):
        assert again(last).provenance["c1"] == "alice"
    gone = invalidate(last, "alice", derived=True)
    assert "c1" not in gone and low.cid not in gone and add(low, n=2).cid not in gone


def test_a_value_in_memory_never_changes() -> None:
    fed = Federation({})
    low = add(n=1)
    values = [fed]
    values.append(import_(values[-1], [Record(low.cid, 1, "alice", {"carol"}), Record("c2", 2, "bob")], everyone))
    values.append(run(values[-1], add(low), sums).federation)
    snapshots = [(dict(v.provenance), dict(v.lineage), v.report) for v in values]
    values.append(invalidate(values[-1], "alice", derived=True))
    values.append(forget(values[-1], ["c2"]))
    fed.cache["c3"] = 3
    import_(fed, [Record("c4", 4, "dave", {"erin"})], everyone)
    assert [(dict(v.provenance), dict(v.lineage), v.report) for v in values[:3]] == snapshots
    assert snapshots[1] == (
        {low.cid: "alice", "c2": "bob"},
        {low.cid: frozenset({"carol"})},
        Report(2, resting_on={"carol": 1}),
    )


def test_a_durable_value_shows_what_is_kept_now(durable: Federation) -> None:
    import_(durable, [Record("c1", 1, "alice", {"carol"})], everyone)
    assert (dict(durable.provenance), dict(durable.lineage)) == ({"c1": "alice"}, {"c1": frozenset({"carol"})})
    invalidate(durable, "alice")
    assert (len(durable.provenance), "c1" in durable.lineage) == (0, False)


def test_wrapping_a_used_mapping_anew_needs_its_origins_again() -> None:
    results: dict[str, Any] = {}
    fed = import_(Federation(results), [Record("c1", 1, "alice", {"carol"})], everyone)
    anew = Federation(results, fed.provenance, fed.lineage)
    assert (anew.provenance, anew.lineage) == ({"c1": "alice"}, {"c1": frozenset({"carol"})})
    assert len(invalidate(anew, "carol", derived=True)) == 0


def test_only_origins_of_results_that_are_there_are_taken_over() -> None:
    fed = Federation({"c1": 1}, provenance={"gone": "alice"}, lineage={"gone": frozenset({"bob"})})
    assert (dict(fed.provenance), dict(fed.lineage)) == ({}, {})


def contradictions() -> list[Any]:
    return [
        pytest.param({"provenance": {"c1": "alice"}}, id="the cache says local"),
        pytest.param({"provenance": {"c2": "bob"}}, id="the cache says another peer"),
        pytest.param({"lineage": {"c1": frozenset({"alice"})}}, id="the cache says that it rests on nobody"),
    ]


@pytest.mark.parametrize("given", contradictions())
def test_origins_that_contradict_what_the_cache_keeps_are_a_value_error(given: dict[str, Any]) -> None:
    fed = import_(Federation({"c1": 1}), [Record("c2", 2, "alice")], everyone)
    with pytest.raises(ValueError, match="but the cache keeps"):
        Federation(fed.cache, **given)
    with pytest.raises(ValueError, match="but the cache keeps"):
        dataclasses.replace(fed, **given)


def test_origins_given_with_a_durable_cache_are_a_value_error(durable: Federation, tmp_path: Any) -> None:
    other = artdag_fed.open(tmp_path / "other")
    import_(other, [Record("c1", 1, "alice", {"bob"})], everyone)
    for given in ({"provenance": {"c1": "alice"}}, {"lineage": {"c1": frozenset({"bob"})}}, {"lineage": other.lineage}):
        with pytest.raises(ValueError, match="keeps provenance and lineage itself"):
            Federation(durable.cache, **given)  # type: ignore[arg-type]  # a union of dicts
    assert Federation(other.cache, other.provenance, other.lineage) == other
    other.cache.close()  # type: ignore[attr-defined]  # every cache inside a Federation has it


def test_the_lineage_of_a_wrapped_mapping_is_looked_at() -> None:
    with pytest.raises(TypeError, match="is a set of peers, not the text 'carol'"):
        Federation({"c1": 1}, lineage={"c1": "carol"})  # type: ignore[dict-item]  # on purpose
    with pytest.raises(ValueError, match="names its own peer"):
        Federation({"c1": 1}, {"c1": "alice"}, {"c1": frozenset({"alice"})})
    with pytest.raises(ValueError, match="no peer name"):
        Federation({"c1": 1}, {"c1": " alice"})


# --- an instance as a container -------------------------------------------------------------------


def test_an_instance_is_a_container_of_cids(fed: Federation) -> None:
    fed.cache["c1"] = 1
    fed.cache["c2"] = 2
    assert ("c1" in fed, "c9" in fed, 7 in fed, None in fed) == (True, False, False, False)
    assert (len(fed), list(fed)) == (2, ["c1", "c2"])


def test_an_instance_is_asked_by_a_node_as_by_its_cid(fed: Federation, runner: Any) -> None:
    held, missing = node("add@1", n=1), node("add@1", n=2)
    after = run(fed, held, runner).federation
    assert held in after and held.cid in after and missing not in after


def test_a_closed_instance_has_a_repr(durable: Federation) -> None:
    durable.cache.close()  # type: ignore[attr-defined]  # of a DiskCache
    assert "was closed: open it again" in repr(durable)
    assert "was closed: open it again" in durable._repr_html_()


def test_a_run_is_asked_by_node_and_not_iterated(fed: Federation, runner: Any) -> None:
    with pytest.raises(TypeError, match="not iterable"):
        list(run(fed, node("add@1", n=1), runner))  # type: ignore[call-overload]


def test_an_instance_is_true_even_when_it_is_empty(fed: Federation) -> None:
    assert fed and not len(fed)


def test_the_repr_of_an_instance_counts_and_names_its_peers(make: Make) -> None:
    fed = make()
    fed.cache["mine"] = 1
    bundle = [Record(f"{peer}{n}", n, peer) for k, peer in enumerate("abcde") for n in range(k + 1)]
    text = repr(import_(fed, bundle, everyone))
    assert text.startswith("<Federation over <") and text.endswith(
        ": 1 computed here, 5 from 'e', 4 from 'd', 3 from 'c', and 2 more peers>"
    )
    assert repr(make()).endswith(": 0 computed here>")


def test_instances_are_equal_by_what_they_hold_and_whence() -> None:
    one = import_(Federation({"c1": 1}), [Record("c2", 2, "alice")], everyone)
    two = Federation({"c1": 1, "c2": 2}, {"c2": "alice"})
    assert one == two and one != Federation({"c1": 1, "c2": 2}) and one != Federation({"c1": 1})
    assert (one == 1) is False


def test_two_values_over_one_durable_cache_are_equal(durable: Federation) -> None:
    older = durable
    newer = import_(durable, [Record("c1", 1, "alice")], everyone)
    reopened = artdag_fed.open(durable.cache.path)  # type: ignore[attr-defined]  # of a DiskCache
    assert older == newer == reopened
    assert older != Federation({})
    reopened.cache.close()  # type: ignore[attr-defined]  # as above


def test_an_instance_is_frozen_and_has_no_hash(fed: Federation) -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        fed.report = Report()  # type: ignore[misc]  # on purpose
    with pytest.raises(TypeError, match="unhashable"):
        hash(fed)


def test_the_report_is_no_part_of_equality() -> None:
    fed = Federation({"c1": 1})
    assert dataclasses.replace(fed, report=Report(admitted=9)) == fed


def test_one_own_codec_goes_to_open(tmp_path: Any) -> None:
    class Point:
        def __init__(self, x: int) -> None:
            self.x = x

    codec = artdag_fed.Codec().with_type("point", Point, lambda p: p.x, Point)
    fed = artdag_fed.open(tmp_path / "points", codec=codec)
    fed.cache["c1"] = Point(3)
    assert fed.cache["c1"].x == 3
    assert isinstance(artdag_fed.open(codec=codec).cache, MemoryCache)
    other = artdag_fed.open(tmp_path / "others", codec=codec)
    other = import_(other, export(fed, "alice"), everyone)
    assert other.cache["c1"].x == 3
    for each in (fed, other):
        each.cache.close()  # type: ignore[attr-defined]  # as above
