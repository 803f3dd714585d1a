"""Who computes what for a challenge: peers that are right or wrong about some `n`, and an instance that took it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import artdag_fed
from artdag_fed import Challenge, Dag, Federation, Node, Runner, export, import_, node, run
from artdag_fed.cache import Origin


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


def digest(value: int) -> str:
    return hashlib.sha256(b"J%d" % value).hexdigest()


LOCAL = Origin(None)
