"""Five records from three peers, in all 120 orders under one policy: what is held and what is on record at the end.

Rules: each record arrives by an import of its own; a result computed here comes before, between or after them. What
does not depend on the order is compared over all orders, and what does (which of two foreign results stays) with the
order itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest

import artdag_fed
from artdag_fed import Federation, Record, import_, node, run
from artdag_fed.instance import cache_of

NODES = {name: node("op@1", n=n) for n, name in enumerate(("same", "clash", "mine", "alone"))}
MINE = NODES["mine"]


def records(*lines: str) -> Sequence[Record]:
    """Of lines of words: the node, the result, who offers it, and whom that rests on."""
    told = [line.split() for line in lines]
    return [Record(NODES[name].cid, result, peer, lineage) for name, result, peer, *lineage in told]


FIVE: dict[str, Sequence[Record]] = {
    "two agree, two do not, one is alone": records(
        "same s alice", "same s bob", "clash one bob", "clash other carol", "alone a carol dave"
    ),
    "three say three things of one": records(
        "clash one alice", "clash other bob", "clash third carol", "same s alice dave", "same s alice erin"
    ),
    "about what is computed here": records(
        "mine mine alice", "mine another bob", "mine another carol", "clash one carol", "clash one bob alice"
    ),
    "of one peer that is not trusted": records(
        "clash one mallory", "clash other carol", "same s mallory", "same t bob mallory", "same u bob"
    ),
}


def trusted(peer: str) -> bool:
    return peer != "mallory"


def mine(op: str, inputs: object, params: object) -> str:
    return "mine"


def evidence(fed: Federation) -> list[tuple[Any, ...]]:
    """Every offer that is kept, but for when it was noted."""
    return [offer._replace(at=0.0) for offer in cache_of(fed).offers()]


def after(fed: Federation, order: Iterable[Record], compute_at: int | None) -> Federation:
    """The records one by one; MINE is computed here before the one at `compute_at`, or behind all."""
    for number, record in enumerate([*order, None]):
        if number == compute_at:
            fed = run(fed, MINE, mine, refresh=True).federation
        if record is not None:
            fed = import_(fed, [record], trusted, trusted_lineage=trusted)
    return fed


def check(
    make: Callable[[], Federation], records: Sequence[Record], places: Callable[[int], Iterable[int | None]]
) -> None:
    admitted = [r for r in records if all(map(trusted, {r.peer, *r.lineage}))]
    offered = {r.cid: {q.digest for q in admitted if q.cid == r.cid} for r in admitted}
    contested = {cid for cid, digests in offered.items() if len(digests) > 1}
    seen: dict[bool, list[tuple[Any, ...]]] = {}
    orders = list(permutations(records))
    assert len(orders) == 120
    for number, order in enumerate(orders):
        for compute_at in places(number):
            fed = after(make(), order, compute_at)
            held = {cid: fed.cache[cid] for cid in fed}
            first = {r.cid: r for r in reversed(order) if r in admitted}
            expected = {cid: record.result for cid, record in first.items()}
            provenance = {cid: record.peer for cid, record in first.items()}
            if compute_at is not None:
                expected[MINE.cid] = "mine"
                provenance.pop(MINE.cid, None)
            assert (held, dict(fed.provenance)) == (expected, provenance), (order, compute_at)
            # The same results whatever the order, but for those over which peers differ.
            assert held.keys() == {r.cid for r in admitted} | ({MINE.cid} if compute_at is not None else set())
            assert {cid: r for cid, r in held.items() if cid not in contested and cid != MINE.cid} == {
                r.cid: r.result for r in admitted if r.cid not in contested and r.cid != MINE.cid
            }
            kept = seen.setdefault(compute_at is not None, evidence(fed))
            assert evidence(fed) == kept, (order, compute_at)
    for computed, offers in seen.items():
        for cid in contested:
            expected_offers = {(r.peer, r.digest, r.lineage) for r in admitted if r.cid == cid}
            if computed and cid == MINE.cid:
                expected_offers.add((None, Record(cid, "mine", "me").digest, frozenset()))  # type: ignore[arg-type]  # here
            assert {(o[1], o[2], o[4]) for o in offers if o[0] == cid} == expected_offers


@pytest.mark.parametrize("which", FIVE)
def test_in_every_order_the_same_stands_and_the_same_offers_are_on_record(which: str) -> None:
    check(Federation, FIVE[which], lambda number: (None, *range(6)))


@pytest.mark.parametrize("which", FIVE)
def test_in_every_order_likewise_on_disk(which: str, tmp_path: Path) -> None:
    opened: list[Federation] = []

    def make() -> Federation:
        if opened:
            opened.pop().cache.close()  # type: ignore[attr-defined]  # every cache inside a Federation has it
        opened.append(artdag_fed.open(tmp_path / f"c{len(list(tmp_path.iterdir()))}"))
        return opened[0]

    check(make, FIVE[which], lambda number: (None if number % 7 == 6 else number % 7,))
    opened.pop().cache.close()  # type: ignore[attr-defined]  # as above


@pytest.mark.parametrize("which", FIVE)
def test_in_one_bundle_the_order_decides_as_it_does_in_five(which: str) -> None:
    for order in permutations(FIVE[which]):
        one = import_(Federation(), order, trusted, trusted_lineage=trusted)
        five = after(Federation(), order, None)
        assert ({cid: one.cache[cid] for cid in one}, one.provenance, evidence(one)) == (
            {cid: five.cache[cid] for cid in five},
            five.provenance,
            evidence(five),
        )
