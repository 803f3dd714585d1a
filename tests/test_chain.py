"""The whole chain: carol -> bob -> alice -> dave, each with a step of its own on top, and carol is found to be bad.

At every instance a revocation of carol leaves what is independent of her, and nothing else; at dave's, where everything
was challenged before, it leaves exactly what she had right as well.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from artdag_fed import Dag, Federation, Node, Report, challenge, conflicts, export, invalidate, node, pull, run
from tests.instances import Make

NAMES = ("carol", "bob", "alice", "dave")


def paint(op: str, inputs: tuple[Any, ...], params: Mapping[str, Any]) -> Any:
    return [op, *inputs]


def smeared(op: str, inputs: tuple[Any, ...], params: Mapping[str, Any]) -> Any:
    """What carol computes with: her scans are wrong, all else is right."""
    return ["smeared", *inputs] if op == "scan@1" else paint(op, inputs, params)


def steps(below: Mapping[str, Node], name: str) -> dict[str, Node]:
    """What one instance adds: a step on what carol has right, on what she has wrong, on both, on neither."""
    right, wrong, alone = (node(f"{name}@1", below[kind]) for kind in ("right", "wrong", "alone"))
    return {"right": right, "wrong": wrong, "both": node(f"{name}@1", right, wrong), "alone": alone}


class Chain:
    """The four instances, after each has pulled from the one before and added its steps."""

    def __init__(self, make: Make) -> None:
        self.instances: dict[str, Federation] = {}
        self.steps: list[dict[str, Node]] = []
        below = {"right": node("draw@1"), "wrong": node("scan@1"), "alone": node("found@1")}
        before = ""
        for name in NAMES:
            fed = make()
            if before:
                fed = self.pulled(fed, before)
            if name == "bob":
                fed = run(fed, below["alone"], paint).federation  # carol never had it
            mine = {"right": below["right"], "wrong": below["wrong"]} if not before else steps(below, name)
            self.steps.append(mine)
            fed = run(fed, Dag(*mine.values()), smeared if name == "carol" else paint).federation
            self.instances[name], before = fed, name
            below = {**below, **mine}
        self.found = below["alone"]

    def pulled(self, fed: Federation, peer: str) -> Federation:
        return pull(fed, lambda asked: export(self.instances[asked], asked), peer, {peer}.__contains__)

    def cids(self, *kinds: str) -> set[str]:
        return {mine[kind].cid for mine in self.steps for kind in kinds if kind in mine}


@pytest.fixture
def chain(make: Make) -> Chain:
    return Chain(make)


def independent(chain: Chain, held: Federation) -> set[str]:
    return (chain.cids("alone") | {node("found@1").cid}) & set(held)


def test_everyone_has_what_everyone_before_added_and_knows_on_whom_it_rests(chain: Chain) -> None:
    assert [len(chain.instances[name]) for name in NAMES] == [2, 7, 11, 15]
    dave, [carols, *_, alices, daves] = chain.instances["dave"], chain.steps
    assert set(dave.provenance.values()) == {"alice"}
    assert dave.lineage[daves["both"].cid] == {"alice", "bob", "carol"}
    assert dave.lineage[alices["alone"].cid] == {"bob"} and dave.lineage[carols["wrong"].cid] == {"bob", "carol"}


@pytest.mark.parametrize("name", ["bob", "alice", "dave"])
def test_at_every_instance_revoking_carol_leaves_only_what_is_independent_of_her(chain: Chain, name: str) -> None:
    fed = chain.instances[name]
    before, kept = set(fed), independent(chain, fed)
    after = invalidate(fed, "carol", derived=True)
    assert kept and set(after) == kept and after.report == Report(dropped=len(before - kept))
    assert not any("carol" in {fed.provenance.get(cid), *fed.lineage.get(cid, ())} for cid in after)


def test_a_challenge_at_dave_finds_exactly_what_carol_had_wrong(chain: Chain) -> None:
    found = challenge(chain.instances["dave"], paint)
    scan = chain.steps[0]["wrong"]
    above = [mine[kind].cid for mine in chain.steps[1:3] for kind in ("wrong", "both")]
    assert [(r.cid, r.peer) for r in found.refuted if r.cid == scan.cid] == [(scan.cid, "alice")]
    assert {r.cid for r in found.refuted} == {scan.cid, *above}
    daves = chain.steps[3]
    assert set(found.dropped) == {daves["wrong"].cid, daves["both"].cid}
    assert set(found.confirmed) == (chain.cids("right", "alone") | {node("found@1").cid}) - {
        daves["right"].cid,
        daves["alone"].cid,
    }
    assert set(found.vindicated) == {daves["right"].cid, daves["alone"].cid} and not found.unchecked


def test_a_challenge_beforehand_at_dave_saves_exactly_what_carol_had_right(chain: Chain) -> None:
    fed = chain.instances["dave"]
    found = challenge(fed, paint)
    gone = set(found.dropped)
    for peer in NAMES:
        assert invalidate(found.federation, peer, derived=True).report.dropped == 0
    assert set(found.federation) == (chain.cids("right", "wrong", "both", "alone") | {node("found@1").cid}) - gone
    for mine in chain.steps:
        for kind in ("right", "alone"):
            assert kind not in mine or mine[kind].cid in found.federation
    done = run(found.federation, Dag(*chain.steps[3].values()), paint)
    assert {node.cid for node in (chain.steps[3]["wrong"], chain.steps[3]["both"])} == set(done.computed)
    truth = run(Federation(), Dag(*chain.steps[3].values()), paint)
    assert done.results == truth.results and conflicts(done.federation) == ()


def test_a_challenge_of_carols_results_alone_at_bob_saves_what_she_had_right(chain: Chain) -> None:
    found = challenge(chain.instances["bob"], paint, peer="carol")
    bobs = chain.steps[1]
    assert [r.cid for r in found.refuted] == [chain.steps[0]["wrong"].cid]
    assert set(found.dropped) == {bobs["wrong"].cid, bobs["both"].cid} and found.vindicated == (bobs["right"].cid,)
    after = invalidate(found.federation, "carol", derived=True)
    assert after.report.dropped == 0 and bobs["right"].cid in after and not after.lineage
