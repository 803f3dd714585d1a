"""The verbs between instances: what goes out, what comes in, and who a result came from.

Rules: each behaviour over a dict, `open()` and `open(path)`; the world is three or four instances made by `make`, and
bundles passed from hand to hand. What arrives for a cid that is held is in `test_table`.
"""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from artdag_fed import Event, Federation, Record, Report, TransportError, export, forget, import_, pull, run
from tests.instances import Make, everyone, held, nobody
from tests.sums import add, sums

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
