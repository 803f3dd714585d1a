"""The words of the model: a policy, a record on the road, what is held; and its gate, which says what counts.

Rules: nothing of the library is used; a value stands for a result and its digest.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

Peers = frozenset[str]


class Policy(NamedTuple):
    trusted: Peers
    lineage: Peers | None  # whom results may rest on; None: anyone
    verify: bool


class Offered(NamedTuple):  # a record on the road
    cid: str
    value: int
    peer: str
    lineage: Peers
    recipe: bool = True
    signer: str = ""  # whose signature it has; "stale" for one over something else
    flaw: str = ""  # "corrupt": other bytes than declared; "recipe": that of another node


class Row(NamedTuple):  # what is held
    value: int
    peer: str | None
    lineage: Peers
    recipe: bool = True
    made: tuple[int, ...] | None = None  # the values of the inputs that it was made from, where that is known

    @property
    def peers(self) -> Peers:
        return self.lineage if self.peer is None else self.lineage | {self.peer}


Compute = Callable[[str, tuple[int, ...]], int | None]  # from a cid and the values of its inputs; None where it fails
Meanwhile = tuple[str, bool, list[Offered], Policy]  # a peer is invalidated (derived or not), and these are imported


def made_here(value: int, inputs: tuple[Row, ...]) -> Row:
    return Row(value, None, frozenset().union(*(i.peers for i in inputs)), True, tuple(i.value for i in inputs))


def verdict(r: Offered, policy: Policy, asked: str) -> str:
    checks = {
        "malformed": r.peer in r.lineage,
        "mislabelled": bool(asked) and not policy.verify and r.peer != asked,
        "untrusted": r.peer not in policy.trusted,
        "lineage": policy.lineage is not None and not r.lineage <= policy.lineage,
        "corrupt": r.flaw == "corrupt",
        "unsigned": policy.verify and not r.signer,
        "forged": policy.verify and r.signer != r.peer,
        "recipe": r.flaw == "recipe",
    }
    return next((reason for reason, failed in checks.items() if failed), "")


def quorum(answers: Mapping[str, list[Offered]], asked: str, k: int, verify: bool) -> list[Offered]:
    """What the asked peer says and at least `k` say, each in its own name; who says two things says neither."""
    anyone = Policy(frozenset(answers), None, verify)
    own = {peer: [r for r in said if r.peer == peer and not verdict(r, anyone, peer)] for peer, said in answers.items()}
    words = {peer: {r.cid: {s.value for s in said if s.cid == r.cid} for r in said} for peer, said in own.items()}
    agree = {(r.cid, r.value): [peer for peer in own if words[peer].get(r.cid) == {r.value}] for r in own[asked]}
    return [r for r in own[asked] if asked in agree[r.cid, r.value] and len(agree[r.cid, r.value]) >= k]


def conflicts(offers: set[tuple[str, int, str | None, Peers]]) -> dict[str, set[tuple[int, str | None, Peers]]]:
    """What was offered for each cid for which there were different values."""
    about: dict[str, set[tuple[int, str | None, Peers]]] = {}
    for cid, value, peer, lineage in offers:
        about.setdefault(cid, set()).add((value, peer, lineage))
    return {cid: some for cid, some in about.items() if len({value for value, *_ in some}) > 1}
